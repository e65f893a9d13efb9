//! The compiler and linker for the BPF target: which are there, and which of them fit together.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;
use crate::version::{RustcInfo, Version};

/// The release of bpf-linker that the project is built with.
pub const LINKER_VERSION: Version = Version { major: 0, minor: 13, patch: 0 };

/// The LLVM of the bpf-linker that setup installs, and the least that a bpf-linker has whose build does not tell.
const LINKER_DEFAULT_LLVM: u32 = 22;

/// A compiler that has the source of its own standard library.
#[derive(Debug, Clone)]
pub struct BpfCompiler {
    /// `rustc` itself, not rustup's stand-in.
    pub rustc: PathBuf,
    /// The `cargo` of the same release.
    pub cargo: PathBuf,
    /// What `rustc -vV` says.
    pub info: RustcInfo,
}

impl BpfCompiler {
    /// A `cargo` call that uses this compiler, whatever toolchain runs this program.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        let of_the_caller = [
            "RUSTUP_TOOLCHAIN",
            "CARGO",
            "RUSTDOC",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "LD_LIBRARY_PATH",
        ];
        for variable in of_the_caller {
            command.env_remove(variable);
        }
        command.env("RUSTC", &self.rustc);
        if !self.info.is_nightly() {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    fn at(sysroot: &Path) -> Option<Self> {
        let source = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
        let (rustc, cargo) = (sysroot.join("bin/rustc"), sysroot.join("bin/cargo"));
        if !source.is_file() || !process::is_executable(&cargo) || is_rustup(&rustc) {
            return None;
        }
        let verbose = process::capture(Command::new(&rustc).arg("-vV").env_remove("LD_LIBRARY_PATH")).ok()?;
        Some(Self { info: RustcInfo::parse(&verbose)?, rustc, cargo })
    }
}

fn is_rustup(file: &Path) -> bool {
    file.canonicalize().is_ok_and(|real| real.file_name().is_some_and(|name| name == "rustup"))
}

/// A bpf-linker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linker {
    /// Absolute path.
    pub path: PathBuf,
    /// Its own release.
    pub version: Version,
    /// The major number of the LLVM that it carries or links to.
    pub llvm_major: u32,
    /// Whether it knows the BPF feature that turns unaligned loads into single instructions.
    pub misaligned_access: bool,
}

impl Linker {
    /// The one that setup installs where there is none.
    pub fn of_the_project() -> Self {
        Self {
            path: "bpf-linker".into(),
            version: LINKER_VERSION,
            llvm_major: LINKER_DEFAULT_LLVM,
            misaligned_access: true,
        }
    }
}

/// Every compiler of the machine that could build for BPF, best first: nightlies of rustup, then its other
/// toolchains, then the system's own.
pub fn compilers() -> Vec<BpfCompiler> {
    let mut sysroots: Vec<PathBuf> = Vec::new();
    if let Some(toolchains) = rustup_home().map(|home| home.join("toolchains"))
        && let Ok(entries) = std::fs::read_dir(toolchains)
    {
        sysroots.extend(entries.flatten().map(|entry| entry.path()));
    }
    sysroots.sort_by_key(|path| (!path.to_string_lossy().contains("/nightly"), path.clone()));
    sysroots.push("/usr".into());
    sysroots.iter().filter_map(|sysroot| BpfCompiler::at(sysroot)).collect()
}

fn rustup_home() -> Option<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")))
}

/// The bpf-linker in `PATH` or in Cargo's `bin` folder, if it starts.
pub fn linker() -> Option<Linker> {
    let path = process::find_program("bpf-linker")?;
    let version = Version::find_in(&process::capture(Command::new(&path).arg("--version")).ok()?)?;
    let help = process::capture(Command::new(&path).arg("--help")).ok()?;
    let libraries = process::capture(Command::new("ldd").arg(&path)).unwrap_or_default();
    Some(Linker {
        path,
        version,
        llvm_major: llvm_of_libraries(&libraries).unwrap_or(LINKER_DEFAULT_LLVM),
        misaligned_access: help.contains("allows-misaligned-mem-access"),
    })
}

/// The major number in a `libLLVM.so.22.1` or `libLLVM-22.so` line of `ldd`.
fn llvm_of_libraries(ldd: &str) -> Option<u32> {
    let after = ldd.split("libLLVM").nth(1)?;
    let digits = after.trim_start_matches(|c: char| !c.is_ascii_digit() && !c.is_whitespace());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The first of `compilers` whose bitcode `linker` can read: an older LLVM does not read what a newer one wrote.
pub fn fitting<'a>(compilers: &'a [BpfCompiler], linker: &Linker) -> Option<&'a BpfCompiler> {
    compilers.iter().find(|compiler| compiler.info.llvm.major <= linker.llvm_major)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(release: &str, llvm: u32) -> BpfCompiler {
        let llvm = Version { major: llvm, minor: 0, patch: 0 };
        let info = RustcInfo { release: release.into(), llvm, identity: release.into() };
        BpfCompiler { rustc: "/x/bin/rustc".into(), cargo: "/x/bin/cargo".into(), info }
    }

    #[test]
    fn a_compiler_newer_than_the_linker_is_passed_over() {
        let linker =
            Linker { path: "/l".into(), version: LINKER_VERSION, llvm_major: 22, misaligned_access: true };
        let found = [compiler("1.99.0-nightly", 23), compiler("1.96.0", 22)];
        assert_eq!(fitting(&found, &linker).unwrap().info.release, "1.96.0");
        assert!(fitting(&found[..1], &linker).is_none());
    }

    #[test]
    fn only_a_stable_compiler_needs_the_bootstrap_variable() {
        let bootstrap = |c: &BpfCompiler| {
            c.cargo().get_envs().any(|(key, value)| key == "RUSTC_BOOTSTRAP" && value.is_some())
        };
        assert!(bootstrap(&compiler("1.96.0", 22)));
        assert!(!bootstrap(&compiler("1.97.0-nightly", 22)));
    }

    #[test]
    fn llvm_is_read_from_the_library_name() {
        assert_eq!(
            llvm_of_libraries("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x0)"),
            Some(22)
        );
        assert_eq!(llvm_of_libraries("\tlibLLVM-21.so.1 => /usr/lib/x (0x0)"), Some(21));
        assert_eq!(llvm_of_libraries("\tnot a dynamic executable"), None);
    }
}
