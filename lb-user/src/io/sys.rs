//! Small things of the operating system: clocks, privileges, kernel, bpffs, the lock file.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Magic number of bpffs (linux/magic.h, BPF_FS_MAGIC).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Where the kernel shows its own BTF.
const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// CLOCK_MONOTONIC in nanoseconds: the clock of every deadline here and of `bpf_ktime_get_ns`.
pub fn clock_monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_COARSE in nanoseconds: some milliseconds behind, the clock of `bpf_ktime_get_coarse_ns`.
pub fn clock_coarse() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// CLOCK_REALTIME in nanoseconds since 1970; it may jump.
pub fn clock_realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// Processor time that the calling thread has used, in nanoseconds.
pub fn clock_thread() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processors that are online; at least 1.
pub fn processors() -> u32 {
    // SAFETY: sysconf reads no memory of ours.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(online).unwrap_or(1).max(1)
}

/// The length of a jiffy in nanoseconds, which is the resolution of the coarse clocks; 0 if the kernel does not tell it.
pub fn jiffy_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_getres writes one timespec to the pointer, which is valid for writing.
    let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    if result == 0 { nanoseconds(time) } else { 0 }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec to the pointer, which is valid for writing.
    let result = unsafe { libc::clock_gettime(id, &raw mut time) };
    // It fails for unknown clocks only, and these are older than any kernel that runs XDP.
    if result == 0 { nanoseconds(time) } else { 0 }
}

/// The time as one number; what is before the epoch counts as 0.
pub fn nanoseconds(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Whether the effective user is root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// The capabilities without which something here does not work (capabilities(7)).
const NEEDED_CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

/// The needed capabilities that this process does not have.
pub fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_in(effective_capabilities(&status).unwrap_or(0))
}

fn missing_in(effective: u64) -> Vec<&'static str> {
    NEEDED_CAPABILITIES.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|&(_, name)| name).collect()
}

/// The CapEff line of a /proc/PID/status.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Version of the running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads the start of a release string such as `6.1.0-25-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
        Some(Self { major: numbers.next()??, minor: numbers.next()?? })
    }

    /// The running kernel's.
    pub fn running() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Whether the kernel shows its type information, which the loader needs.
pub fn has_btf() -> bool {
    Path::new(VMLINUX_BTF).exists()
}

/// Whether the folder is on a BPF file system. An error if the folder cannot be looked at.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    let text = c_path(path)?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends with NUL and lives through the call; statfs fills the struct behind a pointer that
    // is valid for writing, and it is read only after success.
    let stat = unsafe {
        if libc::statfs(text.as_ptr(), stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat.assume_init()
    };
    Ok(stat.f_type == BPF_FS_MAGIC)
}

/// Mounts a BPF file system on an existing folder, like `mount -t bpf bpf <path>`.
pub fn mount_bpffs(path: &Path) -> io::Result<()> {
    let target = c_path(path)?;
    // SAFETY: source, target and type are texts that end with NUL and live through the call; no data is passed.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), libc::MS_NOSUID, std::ptr::null())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_path(path: &Path) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("already running{}: {} is locked; stop it first, or use its socket", holder(.pid), .path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if the file says so.
        pid: Option<u32>,
    },
    /// The file cannot be opened, locked or written.
    #[error("cannot lock {}: {source}", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" as process {pid}"))
}

/// A lock that ends with the process that holds it, whatever way that ends (flock(2)). The file holds the
/// process id as text and is left in place: deleting it would let two processes lock two files.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock, or says who has it. Never waits.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let fail = |source| LockError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whatever the file holds, the answer is that the lock is held.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // An empty file names nobody who is gone. The lock itself ends with the descriptor.
        let _ = self.file.set_len(0);
    }
}

/// The process that holds the lock, without taking it: `None` if nobody does or there is no such file.
pub fn lock_holder(path: &Path) -> Option<u32> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            text.trim().parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Temp(PathBuf);

    impl Temp {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("iox-{}-{name}", std::process::id()));
            let _ = fs::remove_file(&path);
            Self(path)
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn clocks_run_forward_and_agree() {
        let coarse = clock_coarse();
        let fine = clock_monotonic();
        assert!(coarse > 0 && coarse <= fine, "{coarse} {fine}");
        assert!(fine - coarse < 1_000_000_000, "the coarse clock is a tick behind, not {} ns", fine - coarse);
        assert!(clock_monotonic() >= fine);
        assert!(clock_realtime() > 1_600_000_000 * 1_000_000_000);
    }

    #[test]
    fn nanoseconds_never_wrap() {
        assert_eq!(nanoseconds(libc::timespec { tv_sec: 2, tv_nsec: 5 }), 2_000_000_005);
        assert_eq!(nanoseconds(libc::timespec { tv_sec: -1, tv_nsec: 0 }), 0);
        assert_eq!(nanoseconds(libc::timespec { tv_sec: i64::MAX, tv_nsec: 1 }), u64::MAX);
    }

    #[test]
    fn kernel_releases() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(KernelVersion::parse("6.1.0-25-amd64\n"), version(6, 1));
        assert_eq!(KernelVersion::parse("6.18-rc1"), version(6, 18));
        assert_eq!(KernelVersion::parse("6"), None);
        assert_eq!(KernelVersion::parse(""), None);
        assert_eq!(KernelVersion::parse("x.y"), None);
        assert!(KernelVersion::running() >= version(5, 0));
        assert!(version(6, 9) < version(6, 18));
    }

    #[test]
    fn capabilities_by_bit() {
        assert_eq!(effective_capabilities("Name:\tlb\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_capabilities("Name:\tlb\n"), None);
        assert_eq!(missing_in(u64::MAX), Vec::<&str>::new());
        assert_eq!(missing_in(1 << 12 | 1 << 39), ["CAP_NET_RAW", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn a_folder_elsewhere_is_no_bpffs() {
        assert!(!is_bpffs(Path::new("/proc")).expect("look at /proc"));
        assert!(is_bpffs(Path::new("/no/such/folder")).is_err());
        assert!(is_bpffs(Path::new("a\0b")).is_err());
    }

    #[test]
    fn the_second_lock_is_refused_and_names_the_first() {
        let temp = Temp::new("lock");
        let first = LockFile::acquire(&temp.0).expect("first");
        let own = std::process::id();
        assert_eq!(lock_holder(&temp.0), Some(own));
        match LockFile::acquire(&temp.0) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, Some(own)),
            other => panic!("expected Held, got {other:?}"),
        }
        drop(first);
        assert_eq!(lock_holder(&temp.0), None);
        LockFile::acquire(&temp.0).expect("free again");
    }

    #[test]
    fn a_lock_in_a_missing_folder_says_so() {
        let error = LockFile::acquire(Path::new("/no/such/folder/lock")).expect_err("no folder");
        assert!(error.to_string().starts_with("cannot lock /no/such/folder/lock: "), "{error}");
    }
}
