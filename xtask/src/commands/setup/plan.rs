//! From what is missing to what will be done, and what only a person can do. Pure.

use super::found::{COMPILER_PACKAGES, LINKER_PACKAGES, NIGHTLY, Need};
use crate::toolchain::LINKER_VERSION;

/// What the plan depends on besides what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Whether this process is root.
    pub root: bool,
    /// Whether `sudo` is there.
    pub sudo: bool,
    /// Whether `apt-get` is there.
    pub apt: bool,
    /// Whether `rustup` is there.
    pub rustup: bool,
    /// Whether systemd runs the services.
    pub systemd: bool,
    /// Whether the place of bpf-linker's release binaries can be reached.
    pub releases: bool,
}

impl Machine {
    fn can_be_root(&self) -> bool {
        self.root || self.sudo
    }

    fn can_install_packages(&self) -> bool {
        self.apt && self.can_be_root()
    }
}

/// One thing to do once the packages are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Fetch the release binary of bpf-linker, else build it.
    LinkerRelease,
    /// Build bpf-linker with the packages' LLVM.
    LinkerBuild,
    /// Build cargo-nextest.
    Nextest,
    /// Mount the BPF file system.
    MountBpffs,
    /// Start the system's Open vSwitch.
    StartOvs,
}

impl Step {
    /// What it does, for the person who is asked.
    pub fn text(self) -> String {
        match self {
            Self::LinkerRelease => format!("download the release binary of bpf-linker {LINKER_VERSION}"),
            Self::LinkerBuild => {
                format!("build bpf-linker {LINKER_VERSION} with cargo install (about a minute)")
            }
            Self::Nextest => "build cargo-nextest with cargo install (several minutes)".into(),
            Self::MountBpffs => "mount, as root, the BPF file system on /sys/fs/bpf".into(),
            Self::StartOvs => "start, as root, Open vSwitch".into(),
        }
    }
}

/// What will be done, and what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// First: let rustup install the pinned nightly. Where it cannot download, Debian's compiler joins the packages.
    pub nightly: bool,
    /// Then: one call of apt. Sorted, without repetition.
    pub packages: Vec<&'static str>,
    /// Then these, in order.
    pub steps: Vec<Step>,
    /// Left to a person.
    pub beyond: Vec<Need>,
}

impl Plan {
    /// Whether the machine stays as it is.
    pub fn changes_nothing(&self) -> bool {
        !self.nightly && self.packages.is_empty() && self.steps.is_empty()
    }

    /// What will be done, a line each.
    pub fn lines(&self) -> Vec<String> {
        let nightly = self.nightly.then(|| {
            let packages = COMPILER_PACKAGES.join(" ");
            format!("install Rust {NIGHTLY} with rust-src through rustup (if it cannot download: apt-get install {packages})")
        });
        let packages = (!self.packages.is_empty())
            .then(|| format!("run, as root, apt-get update and apt-get install {}", self.packages.join(" ")));
        nightly.into_iter().chain(packages).chain(self.steps.iter().map(|step| step.text())).collect()
    }
}

/// Orders what satisfies `needs`, which come in the order of installation.
pub fn plan(needs: &[Need], machine: &Machine) -> Plan {
    let mut plan = Plan::default();
    for need in needs {
        match need {
            Need::Compiler if machine.rustup => plan.nightly = true,
            Need::Compiler if machine.can_install_packages() => plan.packages.extend(COMPILER_PACKAGES),
            Need::Linker if machine.releases => {
                if machine.can_install_packages() {
                    plan.packages.extend(["curl", "zstd"]);
                }
                plan.steps.push(Step::LinkerRelease);
            }
            Need::Linker if machine.can_install_packages() => {
                plan.packages.extend(LINKER_PACKAGES);
                plan.steps.push(Step::LinkerBuild);
            }
            Need::Nextest => plan.steps.push(Step::Nextest),
            Need::Program(program) if machine.can_install_packages() => plan.packages.push(program.package),
            Need::Bpffs if machine.can_be_root() => plan.steps.push(Step::MountBpffs),
            Need::OpenVswitchRunning if machine.can_be_root() => plan.steps.push(Step::StartOvs),
            Need::Compiler | Need::Linker | Need::Program(_) | Need::Bpffs | Need::OpenVswitchRunning => {
                plan.beyond.push(*need);
            }
        }
    }
    plan.packages.sort_unstable();
    plan.packages.dedup();
    plan
}

#[cfg(test)]
mod tests {
    use super::super::found::{Found, PROGRAMS, Scope};
    use super::*;

    const ROOT_ON_DEBIAN: Machine =
        Machine { root: true, sudo: false, apt: true, rustup: true, systemd: false, releases: false };

    fn everything() -> Vec<Need> {
        Found { programs: vec![false; PROGRAMS.len()], ..Found::default() }.missing(Scope::All)
    }

    #[test]
    fn a_bare_machine_gets_all_steps_with_one_call_of_apt() {
        let plan = plan(&everything(), &ROOT_ON_DEBIAN);
        assert_eq!(plan.beyond, []);
        assert!(plan.nightly);
        assert_eq!(plan.steps, [Step::LinkerBuild, Step::Nextest, Step::MountBpffs, Step::StartOvs]);
        let packages = &plan.packages;
        assert!(packages.contains(&"mininet") && packages.contains(&"llvm-22-dev"), "{packages:?}");
        assert!(
            packages.windows(2).all(|pair| pair[0] < pair[1]),
            "sorted and without repetition: {packages:?}"
        );
        assert!(!packages.contains(&"rustc-web"), "rustup comes first");
    }

    #[test]
    fn without_rustup_the_compiler_is_a_package() {
        let plan = plan(&[Need::Compiler], &Machine { rustup: false, ..ROOT_ON_DEBIAN });
        assert!(!plan.nightly);
        assert_eq!(plan.packages, ["cargo-web", "rust-web-src", "rustc-web"]);
    }

    #[test]
    fn a_reachable_release_spares_llvm() {
        let plan = plan(&[Need::Linker], &Machine { releases: true, ..ROOT_ON_DEBIAN });
        assert_eq!(plan.packages, ["curl", "zstd"]);
        assert_eq!(plan.steps, [Step::LinkerRelease]);
    }

    #[test]
    fn without_root_and_sudo_a_person_is_told() {
        let machine = Machine { root: false, ..ROOT_ON_DEBIAN };
        let plan = plan(&everything(), &machine);
        assert!(plan.nightly && plan.packages.is_empty());
        assert_eq!(plan.steps, [Step::Nextest]);
        assert_eq!(plan.beyond.len(), 8 + 3);
        assert_eq!(Need::Bpffs.mend(&machine), "sudo mount -t bpf bpf /sys/fs/bpf");
    }

    #[test]
    fn another_distribution_gets_commands_instead_of_packages() {
        let machine = Machine { apt: false, ..ROOT_ON_DEBIAN };
        let plan = plan(&[Need::Linker, Need::Bpffs], &machine);
        assert_eq!(plan.beyond, [Need::Linker]);
        assert_eq!(plan.steps, [Step::MountBpffs]);
        assert!(Need::Linker.mend(&machine).contains("cargo install bpf-linker --version 0.13.0"));
    }
}
