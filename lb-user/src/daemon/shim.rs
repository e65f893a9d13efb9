//! Asks the controller, over its socket, to balance in our place and to give back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::Method;
use hyper::body::Bytes;
use lb_core::host::handover::Handover;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::client::{Refusal, exchange};

/// How long the controller may take: it waits for its switches.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the controller did.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Taken {
    /// Connections that have their entries in the switches.
    pub installed: u64,
    /// Connections that found no place: their clients or backends are not known, or a switch is full.
    pub refused: u64,
}

/// Gives everything to the controller, which balances from then on what reaches it. Returns when its entries are in the
/// switches.
///
/// # Errors
/// No controller, or it refuses, or some connections found no place.
pub async fn take(socket: &Path, handover: &Handover) -> Result<Taken> {
    let body = serde_json::to_vec(handover).context("the connections cannot be written as JSON")?;
    let taken: Taken = ask(socket, Method::POST, "/v1/balancer/take", body.into()).await?;
    if taken.refused > 0 {
        bail!(
            "the controller has no place for {} of {} connections",
            taken.refused,
            taken.installed + taken.refused
        );
    }
    Ok(taken)
}

/// Whether a controller answers at all.
pub async fn is_there(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

/// What the controller has now.
///
/// # Errors
/// No controller, or it does not balance.
pub async fn connections(socket: &Path) -> Result<Handover> {
    ask(socket, Method::GET, "/v1/balancer/handover", Bytes::new()).await
}

/// Ends the controller's balancing; its entries go.
///
/// # Errors
/// No controller, or it does not balance.
pub async fn release(socket: &Path) -> Result<()> {
    let _: serde_json::Value = ask(socket, Method::POST, "/v1/balancer/release", Bytes::new()).await?;
    Ok(())
}

async fn ask<T: DeserializeOwned>(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<T> {
    let shown = socket.display();
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no controller answers on {shown}: start one with 'ofshim run', or name its run folder with 'lb run --ofshim-dir'"
        )
    })?;
    match timeout(PATIENCE, exchange(stream, method, path, body)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Refusal::Question(why) | Refusal::Answer(why))) => bail!("the controller on {shown}: {why}"),
        Err(_) => bail!("the controller on {shown} gave no answer within {} s", PATIENCE.as_secs()),
    }
}
