//! The data plane's clock: the time of its "last seen" stamps.
//!
//! The XDP programs read the kernel's jiffies, a load from memory, where every function of the kernel that tells the time is a
//! call, of 13 ns with a usual processor's mitigations. Jiffies are no time that a process can ask for, so a program of four
//! instructions is run for it. Both compute the same number from the same counter: there is nothing that could drift.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use lb_core::table::{JIFFY_SHIFT, Ticks, ticks_from_ns};

use super::{bpf, sys};

/// The program that tells the time, loaded when it is first asked; `None` where the kernel does not load it.
static CLOCK: OnceLock<Option<Clock>> = OnceLock::new();

struct Clock {
    program: OwnedFd,
    ticks_per_jiffy: u32,
    /// The time when it was loaded: in ticks, and in nanoseconds of the monotonic clock.
    loaded: (Ticks, u64),
}

/// The data plane's time now.
pub fn ticks() -> Ticks {
    let Some(clock) = clock() else { return ticks_from_ns(sys::clock_coarse()) };
    bpf::run_filter(&clock.program).unwrap_or_else(|_| {
        // Out of memory, say: as far from then as the other clock says.
        let (ticks, then_ns) = clock.loaded;
        ticks.wrapping_add(ticks_from_ns(sys::clock_coarse().saturating_sub(then_ns)))
    })
}

/// Ticks in a jiffy, times 2^[`JIFFY_SHIFT`], for the XDP programs; 0 where they are to ask for the time by a call.
pub fn ticks_per_jiffy() -> u32 {
    clock().map_or(0, |clock| clock.ticks_per_jiffy)
}

fn clock() -> Option<&'static Clock> {
    CLOCK
        .get_or_init(|| {
            load().inspect_err(|error| tracing::debug!("the time is asked for by a call: {error}")).ok()
        })
        .as_ref()
}

fn load() -> io::Result<Clock> {
    // Of 2^20 ns, as all ticks.
    let ticks_per_jiffy = sys::jiffy_ns() >> (20 - JIFFY_SHIFT);
    let ticks_per_jiffy = u32::try_from(ticks_per_jiffy).ok().filter(|ticks| (1..1 << 30).contains(ticks));
    let ticks_per_jiffy = ticks_per_jiffy.ok_or_else(|| io::Error::other("no length of a jiffy"))?;
    let program = bpf::load_filter(&[
        bpf::Instruction::call(bpf::JIFFIES64),
        bpf::Instruction::multiply(ticks_per_jiffy),
        bpf::Instruction::shift_right(JIFFY_SHIFT),
        bpf::Instruction::EXIT,
    ])?;
    let loaded = (bpf::run_filter(&program)?, sys::clock_coarse());
    Ok(Clock { program, ticks_per_jiffy, loaded })
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use lb_core::table::ticks_since;

    use super::*;

    #[test]
    fn jiffies_go_as_fast_as_the_monotonic_clock() {
        if !sys::is_root() {
            eprintln!("SKIPPED: loading a program needs root");
            return;
        }
        assert_ne!(ticks_per_jiffy(), 0, "the kernel does not load the clock");
        let before = (ticks(), ticks_from_ns(sys::clock_coarse()));
        sleep(Duration::from_millis(300));
        let after = (ticks(), ticks_from_ns(sys::clock_coarse()));
        let (ours, real) = (ticks_since(after.0, before.0), ticks_since(after.1, before.1));
        // Each pair is read one behind the other, and a tick may pass between.
        assert!(
            real >= 280 && ours.abs_diff(real) <= real / 4,
            "{ours} ticks, and {real} of the monotonic clock"
        );
    }
}
