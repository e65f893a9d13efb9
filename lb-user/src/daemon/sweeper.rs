//! The thread that sweeps the connection table, pass after pass, for as long as its owner lives.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use crate::dataplane::{Pass, Pins, Sweep};

/// How long a sweep that failed is left alone.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// A running sweep. Ends, at its next step, when this is dropped.
#[derive(Debug)]
pub struct Sweeper {
    latest: watch::Receiver<Option<Arc<Pass>>>,
    /// Nothing is ever sent: its end is the signal.
    _stop: Sender<()>,
}

impl Sweeper {
    /// Begins to sweep the tables under `pins`.
    ///
    /// # Errors
    /// The tables cannot be opened, or no thread can be started.
    pub fn start(pins: &Pins) -> Result<Self> {
        let sweep = Sweep::open(pins)?;
        let (publish, latest) = watch::channel(None);
        let (stop, stopped) = channel();
        thread::Builder::new()
            .name("lb-sweep".to_owned())
            .spawn(move || work(sweep, &publish, &stopped))
            .context("cannot start the thread that sweeps the connection table")?;
        Ok(Self { latest, _stop: stop })
    }

    /// The latest whole pass; `None` until there is one.
    pub fn latest(&self) -> Option<Arc<Pass>> {
        self.latest.borrow().clone()
    }

    /// Waits for the next pass to end. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Arc<Pass>> {
        if self.latest.changed().await.is_err() {
            // The thread is gone, which it said in the log: there is nothing more to come.
            std::future::pending::<()>().await;
        }
        self.latest.borrow_and_update().clone()
    }
}

fn work(mut sweep: Sweep, publish: &watch::Sender<Option<Arc<Pass>>>, stopped: &Receiver<()>) {
    let go_on = |pause| matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
    loop {
        match sweep.pass(go_on) {
            Ok(Some(pass)) => drop(publish.send(Some(Arc::new(pass)))),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("the sweep of the connection table failed, and is tried again: {error:#}");
                if !go_on(AFTER_FAILURE) {
                    return;
                }
            }
        }
    }
}
