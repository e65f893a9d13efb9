//! Carries the plan out. A step that fails is named, and the others go on: what is missing in the end decides.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::found::{
    COMPILER_PACKAGES, Found, LINKER_PACKAGES, LLVM_PREFIX, LLVM_PREFIX_VARIABLE, MOUNT_BPFFS,
    NEXTEST_INSTALL, NIGHTLY, linker_install_args, start_ovs,
};
use super::plan::{Machine, Plan, Step};
use crate::process::{self, find_program};
use crate::project;
use crate::toolchain::LINKER_VERSION;

const RUSTUP_LIMIT: Duration = Duration::from_secs(300);
const REACH_LIMIT: Duration = Duration::from_secs(3);
const RELEASE_HOST: &str = "github.com";

impl Machine {
    /// Looks at this machine. `with_network` asks whether release binaries can be reached, which may take seconds.
    pub fn look(with_network: bool) -> Self {
        Self {
            root: process::is_root(),
            sudo: find_program("sudo").is_some(),
            apt: find_program("apt-get").is_some(),
            rustup: find_program("rustup").is_some(),
            systemd: Path::new("/run/systemd/system").is_dir(),
            releases: with_network && reachable(RELEASE_HOST),
        }
    }
}

fn reachable(host: &str) -> bool {
    let Ok(addresses) = (host, 443).to_socket_addrs() else { return false };
    addresses.take(2).any(|address| TcpStream::connect_timeout(&address, REACH_LIMIT).is_ok())
}

/// Does what the plan says.
pub fn carry_out(plan: &Plan, machine: &Machine) {
    let mut packages = plan.packages.clone();
    if plan.nightly {
        eprintln!("setup: rustup installs {NIGHTLY}");
        if let Err(error) = nightly() {
            eprintln!("setup: {error:#}");
            packages.extend(COMPILER_PACKAGES);
        }
    }
    if !packages.is_empty() {
        eprintln!("setup: apt-get install {}", packages.join(" "));
        tell_failure(apt_install(&packages, machine));
    }
    for step in &plan.steps {
        eprintln!("setup: {}", step.text());
        tell_failure(take(*step, machine));
    }
}

fn tell_failure(outcome: Result<()>) {
    if let Err(error) = outcome {
        eprintln!("setup: {error:#}");
    }
}

fn take(step: Step, machine: &Machine) -> Result<()> {
    match step {
        Step::LinkerRelease => linker_release().or_else(|error| {
            eprintln!("setup: {error:#}; building bpf-linker instead");
            apt_install(&LINKER_PACKAGES, machine)?;
            linker_build()
        }),
        Step::LinkerBuild => linker_build(),
        Step::Nextest => process::run(cargo_install().args(NEXTEST_INSTALL)),
        Step::MountBpffs => process::run(&mut as_root(machine, &MOUNT_BPFFS)),
        // The package may have started it.
        Step::StartOvs if Found::probe().ovs_running => Ok(()),
        Step::StartOvs => process::run(&mut as_root(machine, &start_ovs(machine.systemd))),
    }
}

/// The command with root's rights: as it is for root, through sudo for anybody else.
fn as_root(machine: &Machine, words: &[&str]) -> Command {
    let mut command = Command::new(if machine.root { words[0] } else { "sudo" });
    command.args(if machine.root { &words[1..] } else { words });
    command
}

fn nightly() -> Result<()> {
    let mut command = Command::new("rustup");
    command.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"]);
    command.arg("--no-self-update").env_remove("RUSTUP_TOOLCHAIN");
    process::run_bounded(&mut command, RUSTUP_LIMIT)
}

fn apt_install(packages: &[&str], machine: &Machine) -> Result<()> {
    // Without a new list a fresh machine knows no package, and an old one asks for files that are gone.
    if let Err(error) = process::run(&mut as_root(machine, &["apt-get", "-q", "update"])) {
        eprintln!("setup: {error:#}; going on with the package lists that are there");
    }
    let policy = process::capture(Command::new("apt-cache").arg("policy").args(packages).env("LC_ALL", "C"))?;
    let available = available(&policy);
    let (known, unknown): (Vec<&str>, Vec<&str>) = packages.iter().partition(|name| available.contains(name));
    if !unknown.is_empty() {
        eprintln!("setup: this system's package archive does not have {}", unknown.join(" "));
    }
    if known.is_empty() {
        bail!("nothing of {} can be installed", packages.join(" "));
    }
    let mut words = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"];
    words.extend(["install", "--no-install-recommends"]);
    // A person decides about packages that would have to go; a machine that only tests has nobody to miss them.
    if !super::is_unattended() {
        words.push("--no-remove");
    }
    words.extend(known);
    process::run(&mut as_root(machine, &words))
}

/// The packages of an `apt-cache policy` answer that can be installed.
fn available(policy: &str) -> Vec<&str> {
    let mut name = "";
    let mut found = Vec::new();
    for line in policy.lines() {
        match line.trim().strip_prefix("Candidate:") {
            Some(candidate) if candidate.trim() != "(none)" => found.push(name),
            Some(_) => {}
            None if !line.starts_with(' ') => name = line.trim_end_matches(':'),
            None => {}
        }
    }
    found
}

/// Cargo, undisturbed by the folders and flags of the build that runs this program.
fn cargo_install() -> Command {
    let mut command = project::cargo();
    command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

fn linker_build() -> Result<()> {
    process::run(cargo_install().args(linker_install_args()).env(LLVM_PREFIX_VARIABLE, LLVM_PREFIX))
}

fn linker_release() -> Result<()> {
    let bin = process::cargo_bin().context("neither CARGO_HOME nor HOME is set")?;
    let archive = format!("bpf-linker-{}-unknown-linux-musl.tar.zst", std::env::consts::ARCH);
    let url =
        format!("https://{RELEASE_HOST}/aya-rs/bpf-linker/releases/download/v{LINKER_VERSION}/{archive}");
    let scratch = std::env::temp_dir().join(format!("xtask-bpf-linker-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let file = scratch.join(&archive);
    let outcome = fetch_and_unpack(&url, &file, &scratch, &bin);
    std::fs::remove_dir_all(&scratch).ok();
    outcome
}

fn fetch_and_unpack(url: &str, file: &Path, scratch: &Path, bin: &Path) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", "--location", "--max-time", "120", "--output"]);
    process::run(curl.arg(file).arg(url))?;
    process::run(Command::new("tar").arg("--zstd").arg("-xf").arg(file).arg("-C").arg(scratch))?;
    let fresh = scratch.join("bpf-linker");
    process::capture(Command::new(&fresh).arg("--version"))
        .context("the release binary does not start here")?;
    std::fs::create_dir_all(bin)?;
    std::fs::copy(&fresh, bin.join("bpf-linker"))
        .with_context(|| format!("cannot write to {}", bin.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_without_a_candidate_are_told_apart() {
        let policy = "curl:\n  Installed: 7.88\n  Candidate: 7.88\n  Version table:\n *** 7.88 500\n\
                      rustc-web:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
                      ethtool:\n  Installed: (none)\n  Candidate: 1:6.1-1\n";
        assert_eq!(available(policy), ["curl", "ethtool"]);
        assert_eq!(available(""), Vec::<&str>::new());
    }

    #[test]
    fn root_needs_no_sudo() {
        let root =
            Machine { root: true, sudo: true, apt: true, rustup: true, systemd: true, releases: false };
        assert_eq!(process::shown(&as_root(&root, &MOUNT_BPFFS)), "mount -t bpf bpf /sys/fs/bpf");
        let user = Machine { root: false, ..root };
        assert_eq!(process::shown(&as_root(&user, &MOUNT_BPFFS)), "sudo mount -t bpf bpf /sys/fs/bpf");
    }
}
