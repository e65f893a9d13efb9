//! Where the pins are.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use lb_core::table::SCHEMA_VERSION;

/// The folder of bpffs that a balancer has for itself.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pins under `root`, for instance `/sys/fs/bpf/lb`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn version(&self) -> PathBuf {
        self.root.join(format!("v{SCHEMA_VERSION}"))
    }

    fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// The folder of the links.
    pub fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    fn programs(&self) -> PathBuf {
        self.version().join("programs")
    }

    /// The pin of the program that the links run.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// All pinned programs and arrays of programs, in the order of their names.
    pub fn program_paths(&self) -> io::Result<Vec<PathBuf>> {
        list(&self.programs())
    }

    /// A map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Makes the folders.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir_all(self.maps())?;
        fs::create_dir_all(self.links())?;
        fs::create_dir_all(self.programs())
    }

    /// Takes these pins for one process: until the returned file is dropped, or its process ends, whatever way
    /// (flock(2)). Never waits.
    pub fn lock(&self) -> io::Result<File> {
        let folder = File::open(&self.root)?;
        match folder.try_lock() {
            Ok(()) => Ok(folder),
            Err(TryLockError::WouldBlock) => Err(io::Error::other(format!(
                "another lb uses the pins in {}: stop it first, or name another folder with --pin-dir",
                self.root.display()
            ))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a whole set of maps is there.
    pub fn maps_exist(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.map(name).exists())
    }

    /// The schema of tables that another version left here. What is not named as one is somebody else's.
    pub fn other_schema(&self) -> io::Result<Option<u32>> {
        Ok(list(&self.root)?
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.strip_prefix('v')?.parse().ok())
            .find(|schema| *schema != SCHEMA_VERSION))
    }

    /// All pinned links, in the order of their names.
    pub fn link_paths(&self) -> io::Result<Vec<PathBuf>> {
        list(&self.links())
    }

    /// Unpins every map and program; the kernel frees those that no link holds.
    pub fn remove_maps(&self) -> io::Result<()> {
        for path in list(&self.programs())?.into_iter().chain(list(&self.maps())?) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Removes the folders that are empty.
    pub fn remove_empty(&self) {
        for folder in [self.maps(), self.links(), self.programs(), self.version(), self.root.clone()] {
            // One that is not empty stays, which is what is wanted.
            fs::remove_dir(folder).ok();
        }
    }
}

/// The entries of a folder, sorted; none where it does not exist.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io::Error::new(e.kind(), format!("cannot read {}: {e}", folder.display()))),
    };
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_named_as_one_is_another_versions() {
        let root = std::env::temp_dir().join(format!("lb-pins-{}", std::process::id()));
        let pins = Pins::new(&root);
        assert_eq!(pins.other_schema().expect("no folder"), None);
        pins.create().expect("folders");
        for name in ["maps.debug", "v", "vip"] {
            fs::create_dir(root.join(name)).expect("folder");
        }
        let among_others = pins.other_schema();
        fs::create_dir(root.join(format!("v{}", SCHEMA_VERSION + 1))).expect("folder");
        let other = pins.other_schema();
        fs::remove_dir_all(&root).expect("removed");
        assert_eq!(among_others.expect("read"), None);
        assert_eq!(other.expect("read"), Some(SCHEMA_VERSION + 1));
    }
}
