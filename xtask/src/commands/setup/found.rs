//! What the machine has, and what of it the project still lacks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process;
use crate::toolchain::{self, BpfCompiler, LINKER_VERSION, Linker};

use super::plan::Machine;

/// How much of the whole a command relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Compiler and linker for the XDP object.
    Build,
    /// Everything that tests and the demonstration use.
    All,
    /// What loads the object on another kernel.
    Kernel,
}

/// A program that a package brings.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// What to call it in messages.
    pub name: &'static str,
    /// The package of Debian and Ubuntu.
    pub package: &'static str,
    /// Where it must be; a bare name is looked up in `PATH`.
    pub file: &'static str,
    scopes: &'static [Scope],
}

impl Program {
    const fn new(
        name: &'static str,
        package: &'static str,
        file: &'static str,
        scopes: &'static [Scope],
    ) -> Self {
        Self { name, package, file, scopes }
    }
}

const RUN: &[Scope] = &[Scope::All];
const KERNEL: &[Scope] = &[Scope::Kernel];

/// The programs that the commands call.
pub const PROGRAMS: [Program; 11] = [
    Program::new("Open vSwitch", "openvswitch-switch", "ovs-vswitchd", RUN),
    Program::new("Mininet's Python module", "mininet", "/usr/lib/python3/dist-packages/mininet", RUN),
    Program::new("mn", "mininet", "mn", RUN),
    Program::new("Python 3", "python3", "/usr/bin/python3", RUN),
    Program::new("ethtool", "ethtool", "ethtool", RUN),
    Program::new("curl", "curl", "curl", RUN),
    Program::new("ip", "iproute2", "ip", RUN),
    Program::new("ping", "iputils-ping", "ping", RUN),
    Program::new("bpftool", "bpftool", "bpftool", KERNEL),
    Program::new("QEMU", "qemu-system-x86", "qemu-system-x86_64", KERNEL),
    Program::new("BusyBox", "busybox-static", "busybox", KERNEL),
];

/// Something that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A compiler with its standard library's source, and no newer than the linker.
    Compiler,
    /// bpf-linker of the release that the project is built with, or a later one.
    Linker,
    /// cargo-nextest; without it the tests run through plain `cargo test`.
    Nextest,
    /// One of [`PROGRAMS`].
    Program(&'static Program),
    /// The BPF file system.
    Bpffs,
    /// Running daemons of Open vSwitch.
    OpenVswitchRunning,
}

impl Need {
    /// Its name in messages.
    pub fn name(self) -> String {
        match self {
            Self::Compiler => "a Rust compiler for BPF (with rust-src)".into(),
            Self::Linker => format!("bpf-linker {LINKER_VERSION}"),
            Self::Nextest => "cargo-nextest".into(),
            Self::Program(program) => program.name.into(),
            Self::Bpffs => "the BPF file system on /sys/fs/bpf".into(),
            Self::OpenVswitchRunning => "a running Open vSwitch".into(),
        }
    }

    /// Whether commands cannot go on without it.
    pub fn is_required(self) -> bool {
        self != Self::Nextest
    }

    /// The command that a person would type to get it.
    pub fn mend(self, machine: &Machine) -> String {
        let sudo = if machine.root { "" } else { "sudo " };
        match self {
            Self::Compiler if machine.rustup => {
                format!("rustup toolchain install {NIGHTLY} --profile minimal --component rust-src")
            }
            Self::Compiler => format!("{sudo}apt-get install {}", COMPILER_PACKAGES.join(" ")),
            Self::Linker => format!(
                "{sudo}apt-get install {} && {LLVM_PREFIX_VARIABLE}={LLVM_PREFIX} cargo {}",
                LINKER_PACKAGES.join(" "),
                linker_install_args().join(" ")
            ),
            Self::Nextest => format!("cargo {}", NEXTEST_INSTALL.join(" ")),
            Self::Program(program) => format!("{sudo}apt-get install {}", program.package),
            Self::Bpffs => format!("{sudo}{}", MOUNT_BPFFS.join(" ")),
            Self::OpenVswitchRunning => format!("{sudo}{}", start_ovs(machine.systemd).join(" ")),
        }
    }
}

/// A pinned nightly, so that every machine builds the same object. Its LLVM is the one that bpf-linker reads.
pub const NIGHTLY: &str = "nightly-2026-05-20";
/// Debian's compiler for BPF, where rustup cannot download; in the archive for security updates.
pub const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// What bpf-linker is built with.
pub const LINKER_PACKAGES: [&str; 5] = ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "g++"];
/// The variable that tells bpf-linker's build script where LLVM is.
pub const LLVM_PREFIX_VARIABLE: &str = "LLVM_PREFIX";
/// Where the packages put LLVM.
pub const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// Arguments of Cargo that install cargo-nextest: without its updater and not optimized, which takes a quarter of the
/// time and makes no difference to a few hundred tests.
pub const NEXTEST_INSTALL: [&str; 9] = [
    "install",
    "cargo-nextest",
    "--version",
    "0.9.143",
    "--locked",
    "--debug",
    "--no-default-features",
    "--features",
    "default-no-update",
];
/// The call that mounts the BPF file system.
pub const MOUNT_BPFFS: [&str; 5] = ["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"];

/// Arguments of Cargo that build bpf-linker with the packages' LLVM.
pub fn linker_install_args() -> Vec<String> {
    let version = LINKER_VERSION.to_string();
    let words = ["install", "bpf-linker", "--version", &version, "--locked", "--no-default-features"];
    words.iter().copied().chain(["--features", "llvm-22"]).map(str::to_owned).collect()
}

/// The call that starts the system's Open vSwitch.
pub fn start_ovs(systemd: bool) -> Vec<&'static str> {
    if systemd {
        vec!["systemctl", "start", "openvswitch-switch"]
    } else {
        vec!["/usr/share/openvswitch/scripts/ovs-ctl", "start", "--system-id=random"]
    }
}

/// What there is. A plain value, so that the plan can be tested without a machine.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Compilers with source, best first.
    pub compilers: Vec<BpfCompiler>,
    /// bpf-linker.
    pub linker: Option<Linker>,
    /// Whether cargo-nextest is there.
    pub nextest: bool,
    /// Which of [`PROGRAMS`] are there, by index.
    pub programs: Vec<bool>,
    /// Whether the BPF file system is mounted.
    pub bpffs: bool,
    /// Whether both daemons of the system's Open vSwitch run.
    pub ovs_running: bool,
}

impl Found {
    /// Looks at the machine and changes nothing.
    pub fn probe() -> Self {
        Self {
            compilers: toolchain::compilers(),
            linker: toolchain::linker(),
            nextest: process::find_program("cargo-nextest").is_some(),
            programs: PROGRAMS.iter().map(is_there).collect(),
            bpffs: fs::read_to_string("/proc/mounts").is_ok_and(|mounts| has_bpffs(&mounts)),
            ovs_running: ["ovsdb-server", "ovs-vswitchd"].into_iter().all(daemon_runs),
        }
    }

    /// What is missing of `scope`, in the order in which it is installed.
    pub fn missing(&self, scope: Scope) -> Vec<Need> {
        let mut needs = Vec::new();
        let linker = self.linker.as_ref().filter(|linker| linker.version >= LINKER_VERSION);
        let to_be = Linker::of_the_project();
        if toolchain::fitting(&self.compilers, linker.unwrap_or(&to_be)).is_none() {
            needs.push(Need::Compiler);
        }
        if linker.is_none() {
            needs.push(Need::Linker);
        }
        let absent =
            PROGRAMS.iter().zip(&self.programs).filter(|(_, there)| !**there).map(|(program, _)| program);
        needs.extend(absent.filter(|program| program.scopes.contains(&scope)).map(Need::Program));
        if scope != Scope::All {
            return needs;
        }
        for (there, need) in [
            (self.nextest, Need::Nextest),
            (self.bpffs, Need::Bpffs),
            (self.ovs_running, Need::OpenVswitchRunning),
        ] {
            if !there {
                needs.push(need);
            }
        }
        needs
    }
}

fn is_there(program: &Program) -> bool {
    if program.file.starts_with('/') {
        Path::new(program.file).exists()
    } else {
        process::find_program(program.file).is_some()
    }
}

/// Whether `/proc/mounts` names a BPF file system in its usual place.
fn has_bpffs(mounts: &str) -> bool {
    let fields = |line: &str| line.split(' ').skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
    mounts.lines().any(|line| fields(line) == ["/sys/fs/bpf", "bpf"])
}

/// Whether the process in the daemon's file of the run folder is that daemon.
fn daemon_runs(name: &str) -> bool {
    let folder =
        std::env::var_os("OVS_RUNDIR").map_or_else(|| PathBuf::from("/var/run/openvswitch"), PathBuf::from);
    let Ok(pid) = fs::read_to_string(folder.join(format!("{name}.pid"))) else { return false };
    fs::read_to_string(format!("/proc/{}/comm", pid.trim())).is_ok_and(|comm| comm.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bpf_file_system_is_recognized_by_place_and_type() {
        assert!(has_bpffs("proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw,nosuid 0 0\n"));
        assert!(has_bpffs("none /sys/fs/bpf bpf rw 0 0\n"));
        assert!(!has_bpffs("tmpfs /sys/fs/bpf tmpfs rw 0 0\n"));
        assert!(!has_bpffs("bpf /run/bpf bpf rw 0 0\n"));
    }

    #[test]
    fn nothing_found_needs_everything_in_order() {
        let found = Found { programs: vec![false; PROGRAMS.len()], ..Found::default() };
        let needs = found.missing(Scope::All);
        assert_eq!(needs.len(), 8 + 5);
        assert!(!needs.iter().any(|need| need.name() == "bpftool"), "older Ubuntu has no such package");
        assert_eq!(needs[..2], [Need::Compiler, Need::Linker]);
        assert_eq!(needs.last(), Some(&Need::OpenVswitchRunning));
        assert_eq!(found.missing(Scope::Build), [Need::Compiler, Need::Linker]);
        let names: Vec<String> = found.missing(Scope::Kernel)[2..].iter().map(|need| need.name()).collect();
        assert_eq!(names, ["bpftool", "QEMU", "BusyBox"]);
    }

    #[test]
    fn an_old_linker_counts_as_missing() {
        let mut found = Found { linker: Some(Linker::of_the_project()), ..Found::default() };
        assert_eq!(found.missing(Scope::Build), [Need::Compiler]);
        let linker = found.linker.as_mut().unwrap();
        linker.version.minor -= 1;
        assert_eq!(found.missing(Scope::Build), [Need::Compiler, Need::Linker]);
    }
}
