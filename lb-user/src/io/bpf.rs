//! The few commands of bpf(2) that aya does not wrap: reading a map in batches, taking an entry out, programs of a few
//! instructions, and what the kernel says a map or program costs.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// Numbers of `enum bpf_cmd` (linux/bpf.h).
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// Types whose values are plain bytes for the kernel: it reads them out of memory and writes them there.
///
/// # Safety
/// Every bit pattern must be a valid value, and the type must have no padding.
pub unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}

/// A value of zeros.
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: every bit pattern is valid, by the trait's contract.
    unsafe { std::mem::zeroed() }
}

/// `struct { … } batch` of `union bpf_attr`.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The anonymous struct of `BPF_MAP_*_ELEM` in `union bpf_attr`.
#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Where a reading in batches has come to. For hash maps this is a bucket, so entries that come and go while the map
/// is read neither end the reading nor are others read twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(Option<u32>);

/// What one call read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRead {
    /// Entries that were written to the front of the buffers.
    pub count: usize,
    /// Where to go on; `None` at the end of the map.
    pub next: Option<Position>,
}

/// Reads entries of a hash map, or of an array, from `from` on into `keys` and `values`, which are of one length (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6).
/// Does not count as a use of the entries in an LRU map.
///
/// # Errors
/// The kernel's; `ENOSPC` if a single bucket holds more than fits.
pub fn lookup_batch<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    from: Position,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<BatchRead> {
    // One word for these maps; maps of other types write a whole key there.
    let mut next = [0u32; 16];
    let given = from.0.unwrap_or(0);
    let mut attr = BatchAttr {
        in_batch: if from.0.is_some() { (&raw const given) as u64 } else { 0 },
        out_batch: (&raw mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX),
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    let room = attr.count as usize;
    // SAFETY: the kernel writes at most `count` keys and values into the two slices, which are that long and of types
    // that any bytes are valid for (the caller's map has entries of these sizes); both positions are live words.
    let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) };
    let count = (attr.count as usize).min(room);
    match result {
        Ok(()) => Ok(BatchRead { count, next: Some(Position(Some(next[0]))) }),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(BatchRead { count, next: None }),
        Err(error) => Err(error),
    }
}

/// The first `slots` words of an array that has one for each of so many possible processors, summed over these, by one
/// call.
///
/// # Errors
/// The kernel's.
pub fn sum_words(map: BorrowedFd<'_>, slots: u32, processors: usize) -> io::Result<Vec<u64>> {
    let mut next = 0u32;
    let mut keys = vec![0u32; slots as usize];
    let mut values = vec![0u64; slots as usize * processors];
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: (&raw mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: slots,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes at most `slots` keys, and a word for each of them and each possible processor, into the
    // two slices, which are that long; the position is a live word.
    let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) };
    match result {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(values.chunks(processors.max(1)).map(|words| words.iter().sum()).collect()),
    }
}

/// Writes entries, whether they are there or not (`BPF_MAP_UPDATE_BATCH`, Linux 5.6).
///
/// # Errors
/// The kernel's; some entries may have been written then.
pub fn update_batch<K: Plain, V: Plain>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<()> {
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX),
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `count` keys and values from the two slices, which are at least that long and without
    // padding, and writes to the attributes alone.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attr) }
}

/// Takes an entry out and returns what it held at that moment (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`, hash maps from
/// Linux 5.14 on); `None` if there was none.
///
/// # Errors
/// The kernel's.
pub fn take<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value: V = zeroed();
    let mut attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        reserved: 0,
        key: (key as *const K) as u64,
        value: (&raw mut value) as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads one key and writes one value, both live, of the sizes of the caller's map, and of types
    // that any bytes are valid for.
    match unsafe { bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) } {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an entry holds; `None` if there is none.
///
/// # Errors
/// The kernel's.
pub fn look<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value: V = zeroed();
    let mut attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        reserved: 0,
        key: (key as *const K) as u64,
        value: (&raw mut value) as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads one key and writes one value, both live, of the sizes of the caller's map, and of types
    // that any bytes are valid for.
    match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) } {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an entry where there is none under this key; false if there is one.
///
/// # Errors
/// The kernel's.
pub fn insert_new<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<bool> {
    const BPF_NOEXIST: u64 = 1;
    let mut attr = ElemAttr {
        map_fd: map.as_raw_fd() as u32,
        reserved: 0,
        key: (key as *const K) as u64,
        value: (value as *const V) as u64,
        flags: BPF_NOEXIST,
    };
    // SAFETY: the kernel reads one key and one value, both live, of the sizes of the caller's map and without padding.
    match unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) } {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// bpf(2).
///
/// # Safety
/// The addresses in `attr` must be valid for what `command` does with them.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: the attributes are a live struct of the size that is given; the rest is the caller's promise.
    unsafe { bpf_descriptor(command, attr) }.map(drop)
}

/// The same for a command that returns a descriptor.
///
/// # Safety
/// As for [`bpf`].
unsafe fn bpf_descriptor<T>(command: libc::c_long, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the attributes are a live struct of the size that is given; the rest is the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, (attr as *mut T).cast::<u8>(), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// An instruction of BPF, `struct bpf_insn` (RFC 9669, section 3).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The helper that tells the kernel's jiffies (Linux 5.6), by its number in `enum bpf_func_id`.
pub const JIFFIES64: u32 = 118;

impl Instruction {
    /// Ends the program with what register 0 holds.
    pub const EXIT: Self = Self::new(0x95, 0);

    const fn new(code: u8, immediate: u32) -> Self {
        Self { code, registers: 0, offset: 0, immediate: immediate as i32 }
    }

    /// Puts what a helper without arguments returns into register 0.
    pub const fn call(helper: u32) -> Self {
        Self::new(0x85, helper)
    }

    /// Multiplies register 0, 64 bits wide, by a number below 2^31.
    pub const fn multiply(by: u32) -> Self {
        Self::new(0x27, by)
    }

    /// Shifts register 0, 64 bits wide, to the right.
    pub const fn shift_right(bits: u32) -> Self {
        Self::new(0x77, bits)
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads here.
#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The struct of `BPF_PROG_TEST_RUN` in `union bpf_attr`, up to its first use of the context.
#[repr(C)]
struct RunAttr {
    program: u32,
    returned: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
}

/// Loads a program of the type socket filter.
///
/// # Errors
/// The kernel's.
pub fn load_filter(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    const SOCKET_FILTER: u32 = 1;
    const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";
    let mut attr = LoadAttr {
        kind: SOCKET_FILTER,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads the instructions and the license, which live as long as this call.
    let descriptor = unsafe { bpf_descriptor(BPF_PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Runs a program of the type socket filter on an empty frame; what it returns.
///
/// # Errors
/// The kernel's.
pub fn run_filter(program: &OwnedFd) -> io::Result<u32> {
    let frame = [0u8; 64];
    let mut attr = RunAttr {
        program: program.as_raw_fd() as u32,
        returned: 0,
        data_in_bytes: frame.len() as u32,
        data_out_bytes: 0,
        data_in: frame.as_ptr() as u64,
        data_out: 0,
        repeat: 1,
        duration_ns: 0,
    };
    // SAFETY: the kernel reads the frame, which lives as long as this call, and writes to the attributes alone.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }?;
    Ok(attr.returned)
}

/// Memory that the kernel holds for a map or a program, in bytes, as `/proc/self/fdinfo` tells it (`memlock`). Exact
/// for hash maps from Linux 6.4 on, an estimate without the kernel's own part before.
///
/// # Errors
/// The file cannot be read or has no such line.
pub fn memory(descriptor: BorrowedFd<'_>) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let text = fs::read_to_string(&path)?;
    memlock(&text).ok_or_else(|| io::Error::other(format!("{path} has no line memlock")))
}

fn memlock(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads here.
#[repr(C)]
struct PinAttr {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// What is pinned there.
///
/// # Errors
/// Nothing is, or it may not be opened.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = PinAttr { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    // SAFETY: the kernel reads the name, which lives as long as this call.
    let descriptor = unsafe { bpf_descriptor(BPF_OBJ_GET, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether an XDP link is on an interface: somebody may have taken it off, or the interface has gone.
///
/// # Errors
/// The file cannot be read or says nothing of an interface.
pub fn is_attached(link: BorrowedFd<'_>) -> io::Result<bool> {
    let path = format!("/proc/self/fdinfo/{}", link.as_raw_fd());
    let text = fs::read_to_string(&path)?;
    let ifindex = text.lines().find_map(|line| line.strip_prefix("ifindex:"));
    let ifindex = ifindex.ok_or_else(|| io::Error::other(format!("{path} has no line ifindex")))?;
    Ok(ifindex.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_fdinfo() {
        let text = "pos:\t0\nflags:\t02000002\nmap_type:\t9\nmemlock:\t122683392\nmap_id:\t4\n";
        assert_eq!(memlock(text), Some(122_683_392));
        assert_eq!(memlock("pos:\t0\n"), None);
    }

    #[test]
    fn attributes_have_the_kernels_layout() {
        assert_eq!((size_of::<BatchAttr>(), size_of::<ElemAttr>()), (56, 32));
        assert_eq!(std::mem::offset_of!(BatchAttr, map_fd), 36);
    }
}
