//! `lb events` and `lb capture`: what the data plane tells while somebody watches.

pub mod capture;
pub mod events;
pub mod pcapng;

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::Status;
use crate::dataplane::{Record, Ring};
use crate::failure::Failure;
use crate::io::sys::LockFile;

/// How often the wish for records is renewed.
const RENEW: Duration = Duration::from_secs(1);

/// Takes the right to read one kind of record; nobody else has it until the file is dropped.
fn lock(run_dir: &Path, command: &str) -> Result<LockFile, Failure> {
    LockFile::acquire(&run_dir.join(format!("{command}.lock")))
        .map_err(|error| Failure::wrong(format!("lb {command}: {error}")))
}

/// Hands records to `take` until it says that it has enough, the time is over, or a signal ends it.
async fn follow<T: Record>(
    ring: &mut Ring<T>,
    seconds: Option<u64>,
    mut take: impl FnMut(&T) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut over = pin!(until(end));
    let mut renew = tokio::time::interval(RENEW);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = false;
    loop {
        while let Some(record) = ring.take() {
            if !take(&record)? {
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
        tokio::select! {
            _ = renew.tick() => ring.renew()?,
            ready = ring.ready() => ready.context("cannot wait for records")?,
            () = &mut over => last = true,
            _ = interrupt.recv() => last = true,
            _ = terminate.recv() => last = true,
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The VIP of this name.
fn vip_named<'a>(status: &'a Status, name: &str) -> Result<&'a crate::api::Vip, Failure> {
    status.vips.iter().find(|vip| vip.name == name).ok_or_else(|| {
        let names: Vec<&str> = status.vips.iter().map(|vip| vip.name.as_str()).collect();
        Failure::wrong(format!("--vip {name}: no VIP is called so; there are: {}", names.join(", ")))
    })
}

/// A moment of the monotonic clock as one of the day's, in nanoseconds since 1970.
struct Clock(u64);

impl Clock {
    fn now() -> Self {
        Self(crate::io::sys::clock_realtime().saturating_sub(crate::io::sys::clock_monotonic()))
    }

    fn real_ns(&self, monotonic_ns: u64) -> u64 {
        self.0.saturating_add(monotonic_ns)
    }
}
