//! A network namespace for a test, with ports of known indexes.

use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::sys::{stay_on_this_processor, unshare_network};

/// Indexes of the interfaces that [`with_ports`] makes.
pub const PORTS: [u32; 6] = [11, 12, 13, 14, 15, 16];

/// Runs `f` on a thread of one processor in a new network namespace that has one interface for each of [`PORTS`].
/// The namespace and all in it ends with the thread.
///
/// # Errors
/// No root, no `ip` command, or what `f` says.
///
/// # Panics
/// `f` panicked.
pub fn with_ports<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare_network().context("a network namespace of its own")?;
            stay_on_this_processor().context("a processor of its own")?;
            for pair in PORTS.chunks(2) {
                let (a, b) = (pair[0].to_string(), pair[1].to_string());
                let (name, peer) = (format!("p{a}"), format!("p{b}"));
                let out = Command::new("ip")
                    .args([
                        "link", "add", &name, "index", &a, "type", "veth", "peer", "name", &peer, "index", &b,
                    ])
                    .output()
                    .context("ip (package iproute2)")?;
                ensure!(out.status.success(), "ip link add: {}", String::from_utf8_lossy(&out.stderr));
            }
            f()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
