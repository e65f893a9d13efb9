//! When to look at the network again: soon after something happened, not too often, one look at a time.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::io::facts::{self, Facts};

/// What happens together is seen together.
const SOON: Duration = Duration::from_millis(50);
/// After a look that showed that something is not as it will be.
const LATER: Duration = Duration::from_secs(2);
/// Pause between two looks, at least, and as a multiple of what a look takes.
const REST: Duration = Duration::from_millis(100);
const REST_FACTOR: u32 = 4;

/// Looks at the network in a thread of its own, since hundreds of namespaces take their time. `J` waits for a look that
/// began after it was handed in.
pub struct Lookout<J> {
    due: Option<Instant>,
    began: Instant,
    rested: Instant,
    look: Option<JoinHandle<Result<Facts>>>,
    waiting: Vec<J>,
    served: Vec<J>,
}

impl<J> Default for Lookout<J> {
    fn default() -> Self {
        let now = Instant::now();
        Self { due: None, began: now, rested: now, look: None, waiting: Vec::new(), served: Vec::new() }
    }
}

impl<J> Lookout<J> {
    /// Something happened.
    pub fn soon(&mut self) {
        self.by(Instant::now() + SOON);
    }

    /// Something did not work, and may work then.
    pub fn later(&mut self) {
        self.by(Instant::now() + LATER);
    }

    /// `job` needs a look.
    pub fn wait_for(&mut self, job: J) {
        self.waiting.push(job);
        self.by(Instant::now());
    }

    fn by(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Waits for a look; with those who waited for it. Safe to drop and call again.
    pub async fn next(&mut self) -> (Result<Facts>, Vec<J>) {
        loop {
            if let Some(look) = &mut self.look {
                let facts = look.await.unwrap_or_else(|error| Err(error.into()));
                self.look = None;
                let now = Instant::now();
                self.rested = now + REST.max((now - self.began) * REST_FACTOR);
                return (facts, std::mem::take(&mut self.served));
            }
            let Some(due) = self.due else { return std::future::pending().await };
            tokio::time::sleep_until(due.max(self.rested)).await;
            self.due = None;
            self.began = Instant::now();
            self.served = std::mem::take(&mut self.waiting);
            self.look = Some(tokio::task::spawn_blocking(look));
        }
    }
}

fn look() -> Result<Facts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let facts = runtime.context("cannot look at the network")?.block_on(facts::gather());
    facts.context("cannot look at the network")
}
