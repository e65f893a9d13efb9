//! `cargo xtask test-kernel`: whether the XDP object passes the verifier of Debian's 6.1 kernel.
//!
//! The kernel is unpacked into the target folder, never installed, and runs under QEMU's software emulation with a root
//! file system of three files: BusyBox, bpftool and the object. The verdict comes over the serial line.

mod initramfs;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::build_ebpf;
use super::setup::{self, Scope};
use crate::process;
use crate::project::Project;
use initramfs::Archive;

/// Booting takes about half a minute on two slow cores.
const LIMIT: Duration = Duration::from_secs(300);
const MARK: &str = "lb-verdict:";

/// What runs in the emulated machine. Every line for us begins with the mark; the rest is the verifier's log.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t bpf bpf /sys/fs/bpf
echo "lb-verdict: kernel $(/bin/busybox uname -r)"
if /usr/sbin/bpftool prog loadall /lb.bpf.o /sys/fs/bpf/lb; then
    for pin in /sys/fs/bpf/lb/*; do
        echo "lb-verdict: program $(/usr/sbin/bpftool prog show pinned "$pin" | /bin/busybox head -n 1)"
    done
    echo "lb-verdict: PASS"
else
    echo "lb-verdict: FAIL"
fi
/bin/busybox poweroff -f
"#;

/// Runs the command: status 1 when the kernel refuses the object.
pub fn run() -> Result<u8> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(process::unusable(
            "test-kernel runs this machine's bpftool on an x86-64 kernel: use such a machine",
        ));
    }
    setup::ensure(Scope::Kernel, false)?;
    let project = Project::locate()?;
    for line in build_ebpf::build(&project, true)? {
        eprintln!("{line}");
    }
    let folder = project.target.join("kernel");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let kernel = kernel(&folder)?;
    let initrd = folder.join("initramfs.cpio");
    fs::write(&initrd, root_file_system(&project.object())?)?;
    eprintln!("booting {} under software emulation", kernel.display());
    let start = Instant::now();
    let serial = boot(&kernel, &initrd)?;
    let verdict = Verdict::read(&serial);
    for line in &verdict.lines {
        println!("{line}");
    }
    if verdict.passed == Some(true) {
        println!("PASS: the object loads ({:.0} s)", start.elapsed().as_secs_f64());
        return Ok(0);
    }
    eprintln!("{serial}");
    match verdict.passed {
        Some(_) => println!("FAIL: the kernel refuses the object; its log stands above"),
        None => println!("FAIL: the emulated machine gave no verdict; its output stands above"),
    }
    Ok(1)
}

/// Debian's newest 6.1 kernel, downloaded and unpacked once.
fn kernel(folder: &Path) -> Result<PathBuf> {
    let search = Command::new("apt-cache")
        .args(["search", "--names-only", r"^linux-image-6\.1\..*-amd64$"])
        .output()
        .context("cannot start apt-cache")?;
    let names = String::from_utf8_lossy(&search.stdout).into_owned();
    let Some(package) = newest(&names) else {
        return Err(process::unusable(
            "the package lists have no linux-image-6.1: run `apt-get update` on Debian 12, which carries that kernel",
        ));
    };
    let image = |unpacked: &Path| unpacked.join("boot").join(package.replacen("linux-image", "vmlinuz", 1));
    let unpacked = folder.join(package);
    if image(&unpacked).is_file() {
        return Ok(image(&unpacked));
    }
    eprintln!("downloading {package}");
    process::run(Command::new("apt-get").args(["-q", "download", package]).current_dir(folder))
        .with_context(|| format!("cannot download {package}: run `apt-get update`"))?;
    let is_archive = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
    };
    let archive = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).find(is_archive);
    let archive = archive.with_context(|| format!("apt-get download left no {package} archive"))?;
    let fresh = folder.join("unpacking");
    fs::remove_dir_all(&fresh).ok();
    process::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&fresh))?;
    // The modules are the most of it, and nothing here loads one.
    fs::remove_dir_all(fresh.join("lib")).ok();
    fs::rename(&fresh, &unpacked)?;
    fs::remove_file(archive)?;
    let image = image(&unpacked);
    anyhow::ensure!(image.is_file(), "{package} has no {}", image.display());
    Ok(image)
}

/// The package with the highest number among `apt-cache search` lines, without the special flavours.
fn newest(search: &str) -> Option<&str> {
    let number = |name: &str| {
        let version = name.strip_prefix("linux-image-6.1.")?.strip_suffix("-amd64")?;
        let (patch, abi) = version.split_once('-')?;
        Some((patch.parse::<u32>().ok()?, abi.parse::<u32>().ok()?))
    };
    let names = search.lines().filter_map(|line| line.split(' ').next());
    names.filter_map(|name| Some((number(name)?, name))).max().map(|(_, name)| name)
}

fn root_file_system(object: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys"] {
        archive.folder(folder);
    }
    archive.character_device("dev/console", 5, 1);
    archive.file("init", INIT.as_bytes());
    archive.file("lb.bpf.o", &read(object)?);
    let mut libraries = Vec::new();
    for (name, place) in [("busybox", "/bin/busybox"), ("bpftool", "/usr/sbin/bpftool")] {
        let program = process::find_program(name).with_context(|| format!("{name} is missing"))?;
        archive.file(place, &read(&program)?);
        // Fails for a static program, which needs none.
        let ldd = process::capture(Command::new("ldd").arg(&program)).unwrap_or_default();
        libraries.extend(paths_of_ldd(&ldd).map(str::to_owned));
    }
    libraries.sort();
    libraries.dedup();
    for library in libraries {
        archive.file(&library, &read(Path::new(&library))?);
    }
    Ok(archive.finish())
}

/// The files in lines like `libelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x0)`.
fn paths_of_ldd(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Runs the emulated machine to its end and returns what it wrote.
fn boot(kernel: &Path, initrd: &Path) -> Result<String> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "1536",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
    ]);
    command.args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    let mut stdout = child.stdout.take().context("QEMU has no output")?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() >= LIMIT {
            child.kill()?;
            child.wait()?;
            eprintln!("the emulated machine was stopped after {} s", LIMIT.as_secs());
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    match reader.join() {
        Ok(text) => Ok(text?),
        Err(_) => bail!("reading QEMU's output failed"),
    }
}

/// What the emulated machine said.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// `None` when it ended without one.
    passed: Option<bool>,
    /// Kernel release and programs.
    lines: Vec<String>,
}

impl Verdict {
    fn read(serial: &str) -> Self {
        let marked = serial.lines().filter_map(|line| line.split(MARK).nth(1)).map(str::trim);
        let mut verdict = Self { passed: None, lines: Vec::new() };
        for line in marked {
            match line {
                "PASS" => verdict.passed = Some(true),
                "FAIL" => verdict.passed = Some(false),
                _ => verdict.lines.push(line.to_owned()),
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_is_chosen() {
        let search = "linux-image-6.1.0-9-amd64 - Linux 6.1 for 64-bit PCs (signed)\n\
                      linux-image-6.1.0-56-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)\n\
                      linux-image-6.1.0-56-amd64 - Linux 6.1 for 64-bit PCs (signed)\n\
                      linux-image-6.1.0-57-rt-amd64 - Linux 6.1 for 64-bit PCs, PREEMPT_RT (signed)\n";
        assert_eq!(newest(search), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(newest("linux-image-6.12.1-amd64 - x\n"), None);
    }

    #[test]
    fn libraries_of_a_program() {
        let ldd =
            "\tlinux-vdso.so.1 (0x7f)\n\tlibelf.so.1 => /lib/x/libelf.so.1 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(paths_of_ldd(ldd).collect::<Vec<_>>(), ["/lib/x/libelf.so.1", "/lib64/ld.so.2"]);
        assert_eq!(paths_of_ldd("\tnot a dynamic executable\n").count(), 0);
    }

    #[test]
    fn the_verdict_is_read_from_the_serial_line() {
        let serial = "[ 0.0] boot\r\nlb-verdict: kernel 6.1.0-56-amd64\r\nlog\r\nlb-verdict: PASS\r\n";
        assert_eq!(
            Verdict::read(serial),
            Verdict { passed: Some(true), lines: vec!["kernel 6.1.0-56-amd64".into()] }
        );
        assert_eq!(Verdict::read("lb-verdict: FAIL\n").passed, Some(false));
        assert_eq!(Verdict::read("Kernel panic\n").passed, None);
    }
}
