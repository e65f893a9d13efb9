//! System calls that no dependency wraps.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;

/// Empties a slot of a map of devices.
///
/// # Errors
/// The kernel's, `ENOENT` apart: an empty slot is fine.
pub fn delete_slot(map: &impl AsFd, slot: u32) -> io::Result<()> {
    #[repr(C, align(8))]
    struct Attributes {
        map: u32,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let attributes = Attributes {
        map: map.as_fd().as_raw_fd() as u32,
        pad: 0,
        key: (&raw const slot) as u64,
        value: 0,
        flags: 0,
    };
    // SAFETY: the attributes have the layout of the element commands of bpf(2), and outlive the call, as does
    // the key that they point to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_DELETE_ELEM, &raw const attributes, size_of::<Attributes>())
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}

/// The attributes of the batch commands of bpf(2).
#[repr(C, align(8))]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Reads the first slots of an array by one call: `values` holds one word for each slot, or for each slot and processor
/// where the array is one for each processor, and the map's values are one word long.
///
/// # Errors
/// The kernel's.
pub fn read_words(map: &impl AsFd, slots: u32, values: &mut [u64]) -> io::Result<()> {
    let mut keys = vec![0u32; slots as usize];
    let mut position = 0u32;
    batch(
        BPF_MAP_LOOKUP_BATCH,
        &mut Batch {
            out_batch: (&raw mut position) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: slots,
            map: map.as_fd().as_raw_fd() as u32,
            ..Batch::default()
        },
    )
}

/// Writes the first slots of an array by one call; `values` as in [`read_words`].
///
/// # Errors
/// The kernel's.
pub fn write_words(map: &impl AsFd, slots: u32, values: &[u64]) -> io::Result<()> {
    let keys: Vec<u32> = (0..slots).collect();
    batch(
        BPF_MAP_UPDATE_BATCH,
        &mut Batch {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: slots,
            map: map.as_fd().as_raw_fd() as u32,
            ..Batch::default()
        },
    )
}

/// Counts the entries of a hash table that nobody changes meanwhile.
///
/// # Errors
/// The kernel's.
pub fn count_entries(map: &impl AsFd, key_bytes: usize, value_bytes: usize) -> io::Result<usize> {
    const AT_ONCE: u32 = 4096;
    let mut keys = vec![0u64; key_bytes.div_ceil(8) * AT_ONCE as usize];
    let mut values = vec![0u64; value_bytes.div_ceil(8) * AT_ONCE as usize];
    let (mut position, mut found) = ([0u64; 8], 0);
    let at = (&raw mut position) as u64;
    loop {
        let mut attributes = Batch {
            in_batch: if found == 0 { 0 } else { at },
            out_batch: at,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: AT_ONCE,
            map: map.as_fd().as_raw_fd() as u32,
            ..Batch::default()
        };
        let result = batch(BPF_MAP_LOOKUP_BATCH, &mut attributes);
        match result {
            Ok(()) => found += attributes.count as usize,
            // The end; what is before it has been read.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                return Ok(found + attributes.count as usize);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Bytes of kernel memory that a map takes.
///
/// # Errors
/// The kernel does not tell.
pub fn locked_bytes(map: &impl AsFd) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|n| n.trim().parse().ok()).ok_or_else(|| io::Error::other("no line memlock in its fdinfo"))
}

fn batch(command: libc::c_int, attributes: &mut Batch) -> io::Result<()> {
    // SAFETY: the attributes have the layout of the batch commands of bpf(2), and outlive the call, as does what they
    // point to: keys and values of as many slots as they say, by the callers' contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<Batch>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process is root's.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: without arguments, and it cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Moves the calling thread into a network namespace of its own, which ends with it.
///
/// # Errors
/// No privilege.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: changes the network namespace of this thread alone.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps the calling thread on the processor that it runs on: some of the program's counts are a processor's.
///
/// # Errors
/// The kernel refuses.
pub fn stay_on_this_processor() -> io::Result<()> {
    // SAFETY: cpu_set_t is plain bits, of which zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a system call without arguments.
    let processor = unsafe { libc::sched_getcpu() };
    let processor = usize::try_from(processor).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the set is initialised; numbers beyond its size are ignored.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set lives for the call, and its size is given.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
