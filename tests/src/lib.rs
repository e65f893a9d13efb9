//! Testbed: what the tests that need root or several crates stand on.
//!
//! A packet is judged three times: by the program in the kernel ([`program`]), by the core on the host
//! ([`model`]), and by a model that shares no code with the core ([`oracle`]). All three are filled from one
//! [`scenario`] and compared by [`mod@bench`], in verdict, bytes, counters and connections.

pub mod bench;
pub mod counters;
pub mod frame;
pub mod model;
pub mod namespace;
pub mod oracle;
pub mod pod;
pub mod program;
pub mod random;
pub mod replay;
pub mod scenario;
pub mod side;
mod sys;
pub mod tables;
pub mod traffic;

pub use sys::is_root;

use std::io::Write;

/// Whether the program's side can be tested: with root, unless `LB_HOST=1` asks for the host's sides alone. Otherwise
/// it names what is skipped, past the test harness's capture.
#[must_use]
pub fn root_or_say_so(skipped: &str) -> bool {
    let host = std::env::var_os("LB_HOST").is_some_and(|v| v == "1");
    let why = match (is_root(), host) {
        (true, false) => return true,
        (true, true) => "with LB_HOST=1",
        (false, _) => "without root",
    };
    // Nobody to tell if standard error is closed.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED {why}: {skipped}\n").as_bytes());
    false
}
