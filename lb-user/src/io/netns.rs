//! Network namespaces: opening one, telling two apart, and running code inside one.
//!
//! A namespace is known by the inode of its file; interface indexes repeat between namespaces, so
//! whatever names an interface beyond one namespace carries the [`NsId`] too. Note that
//! `/sys/class/net` shows the namespace in which sysfs was mounted, whatever [`run_in`] does.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where `ip netns` keeps its named namespaces.
const NAMED: &str = "/run/netns";
/// The file system of namespace files (linux/magic.h, NSFS_MAGIC).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// What identifies a namespace while anything holds it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NsId {
    /// Device of the namespace file system.
    pub dev: u64,
    /// Inode of the namespace file.
    pub ino: u64,
}

impl fmt::Display for NsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.ino)
    }
}

/// Why a namespace could not be opened or entered.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// There is nothing at this place.
    #[error("network namespace {place} does not exist{hint}")]
    Missing {
        /// What was asked for.
        place: String,
        /// The mend, with its leading punctuation, or nothing.
        hint: &'static str,
    },
    /// The name cannot be that of a file in /run/netns.
    #[error("'{0}' is not a network namespace name; see `ip netns list`")]
    BadName(String),
    /// The file is no namespace, for example what a crash left in /run/netns.
    #[error("{0} is not a network namespace; if it is a left-over, `ip netns del` removes it")]
    NotANamespace(String),
    /// Only root, or a process with CAP_SYS_ADMIN, may do this.
    #[error("no permission to {action} network namespace {place}; run as root")]
    Permission {
        /// "open" or "enter".
        action: &'static str,
        /// What was asked for.
        place: String,
    },
    /// The namespace at this place is another one now.
    #[error("network namespace {place} is no longer {expected}: it was replaced")]
    Replaced {
        /// Where it was opened.
        place: String,
        /// What it should have been.
        expected: NsId,
    },
    /// Anything else that the kernel answered.
    #[error("cannot {action} network namespace {place}: {source}")]
    Io {
        /// "open", "enter" or "start a thread for".
        action: &'static str,
        /// What was asked for.
        place: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The code that ran inside panicked; the panic itself was printed.
    #[error("the code that ran in network namespace {0} ended abnormally")]
    Aborted(String),
}

/// An open network namespace. It stays alive while this is held, even if its processes end.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    id: NsId,
    path: PathBuf,
}

impl NetNs {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NetNsError> {
        Self::by_path(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace of a process.
    pub fn by_pid(pid: u32) -> Result<Self, NetNsError> {
        Self::by_path(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// A namespace that `ip netns add` made.
    pub fn by_name(name: &str) -> Result<Self, NetNsError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(NetNsError::BadName(name.to_owned()));
        }
        Self::by_path(&Path::new(NAMED).join(name))
    }

    /// The namespace behind a file.
    pub fn by_path(path: &Path) -> Result<Self, NetNsError> {
        let place = path.display().to_string();
        let file = File::open(path).map_err(|e| open_error(e, &place))?;
        let id = identity(&file).map_err(|e| open_error(e, &place))?;
        if !is_nsfs(&file).map_err(|e| open_error(e, &place))? {
            return Err(NetNsError::NotANamespace(place));
        }
        Ok(Self { file, id, path: path.to_owned() })
    }

    /// Opens the namespace that `reference` describes, and makes sure that it still is that one: a
    /// process id may have been reused.
    pub fn open(reference: &NsRef) -> Result<Self, NetNsError> {
        let ns = Self::by_path(&reference.path)?;
        if ns.id == reference.id {
            Ok(ns)
        } else {
            Err(NetNsError::Replaced { place: reference.path.display().to_string(), expected: reference.id })
        }
    }

    /// What identifies it.
    pub fn id(&self) -> NsId {
        self.id
    }

    /// The file that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that it was opened by, as text for messages.
    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A namespace by place and identity, for records and for opening it later with [`NetNs::open`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NsRef {
    /// What it must be.
    pub id: NsId,
    /// Where it is opened: `/run/netns/<name>` or `/proc/<pid>/ns/net`.
    pub path: PathBuf,
}

impl NsRef {
    /// The start of a command line that runs a program inside the namespace.
    pub fn enter_command(&self) -> String {
        format!("nsenter --net={}", self.path.display())
    }
}

/// Runs `f` inside `ns`, in a thread of its own, and waits for it.
///
/// The thread is a plain one: a worker of an async runtime must never change its namespace, and
/// sockets that `f` opens stay in `ns` wherever they are used later.
pub fn run_in<T: Send>(ns: &NetNs, f: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || enter(ns).map(|()| f()))
            .map_err(|source| NetNsError::Io { action: "start a thread for", place: ns.place(), source })?;
        thread.join().unwrap_or_else(|_| Err(NetNsError::Aborted(ns.place())))
    })
}

/// All namespaces that a name in /run/netns or a process makes reachable, each with one way to open
/// it; names win over processes, and low process ids over high ones. What this user may not look
/// into is left out.
pub fn reachable() -> BTreeMap<NsId, NsRef> {
    let mut found = BTreeMap::new();
    let mut names: Vec<PathBuf> = entries(Path::new(NAMED)).collect();
    names.sort();
    let mut pids: Vec<u32> =
        entries(Path::new("/proc")).filter_map(|p| p.file_name()?.to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let of_pids = pids.into_iter().map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")));
    for path in names.into_iter().chain(of_pids) {
        // The inode alone is looked at here: opening hundreds of files would be needless work.
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        let id = NsId { dev: meta.dev(), ino: meta.ino() };
        found.entry(id).or_insert(NsRef { id, path });
    }
    found.retain(|_, reference| NetNs::open(reference).is_ok());
    found
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn enter(ns: &NetNs) -> Result<(), NetNsError> {
    // SAFETY: setns takes a descriptor, which `ns` keeps open, and a flag; it changes this thread only,
    // and the thread ends with the closure that it was made for.
    if unsafe { libc::setns(ns.file.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    Err(match source.raw_os_error() {
        Some(libc::EPERM) => NetNsError::Permission { action: "enter", place: ns.place() },
        Some(libc::EINVAL) => NetNsError::NotANamespace(ns.place()),
        _ => NetNsError::Io { action: "enter", place: ns.place(), source },
    })
}

fn open_error(source: io::Error, place: &str) -> NetNsError {
    let place = place.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => {
            let hint = if place.starts_with(NAMED) { "; see `ip netns list`" } else { ": the process ended" };
            NetNsError::Missing { place, hint }
        }
        io::ErrorKind::PermissionDenied => NetNsError::Permission { action: "open", place },
        _ => NetNsError::Io { action: "open", place, source },
    }
}

fn identity(file: &File) -> io::Result<NsId> {
    let meta = file.metadata()?;
    Ok(NsId { dev: meta.dev(), ino: meta.ino() })
}

fn is_nsfs(file: &File) -> io::Result<bool> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: fstatfs fills the struct behind the pointer, which is valid for writing; the descriptor is
    // open for the whole call.
    let stat = unsafe {
        if libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat.assume_init()
    };
    Ok(stat.f_type == NSFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_namespace_has_one_identity() {
        let a = NetNs::current().expect("own namespace");
        let b = NetNs::by_pid(std::process::id()).expect("own namespace by pid");
        assert_eq!(a.id(), b.id());
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\0b"] {
            assert!(matches!(NetNs::by_name(name), Err(NetNsError::BadName(_))), "{name:?}");
        }
    }

    #[test]
    fn a_missing_namespace_says_what_and_how() {
        let text = NetNs::by_name("iox-no-such").expect_err("does not exist").to_string();
        assert_eq!(text, "network namespace /run/netns/iox-no-such does not exist; see `ip netns list`");
    }

    #[test]
    fn an_ordinary_file_is_not_a_namespace() {
        let error = NetNs::by_path(Path::new("/proc/self/cmdline")).expect_err("no namespace");
        assert!(matches!(error, NetNsError::NotANamespace(_)), "{error}");
    }

    #[test]
    fn a_replaced_namespace_is_refused() {
        let own = NetNs::current().expect("own namespace");
        let wrong = NsId { dev: own.id().dev, ino: own.id().ino + 1 };
        let reference = NsRef { id: wrong, path: own.path().to_owned() };
        assert!(
            matches!(NetNs::open(&reference), Err(NetNsError::Replaced { expected, .. }) if expected == wrong)
        );
    }

    #[test]
    fn own_namespace_is_among_the_reachable() {
        let own = NetNs::current().expect("own namespace").id();
        assert!(reachable().contains_key(&own));
    }
}
