//! Processor time of processes, user and system, in seconds.

use anyhow::{Context, Result};

/// Of another process, all its threads, by `/proc/PID/stat` (proc(5), fields 14 and 15).
///
/// # Errors
/// There is no such process.
pub fn of_process(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    // The name, in brackets, may hold blanks; what follows it does not.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    let [user, system] = ticks.as_slice() else { anyhow::bail!("{path} has another form than known") };
    Ok((user + system) as f64 / ticks_per_s() as f64)
}

/// Of this process.
///
/// # Errors
/// As [`of_process`].
pub fn of_self() -> Result<f64> {
    of_process(std::process::id())
}

fn ticks_per_s() -> i64 {
    // SAFETY: the call reads a constant of the system and touches no memory of ours.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1)
}
