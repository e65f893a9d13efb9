//! Gives orders to the daemon.

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use lb_core::host::overlay::Order;

use crate::client::{self, AskError, ask, ask_with, escaped};
use crate::failure::Failure;

use super::{Administered, Balancer, Drain, Moved, Ordered, Reloaded, Upgraded, server};

/// Between two looks at a drain.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Gives an order about backends.
///
/// # Errors
/// No daemon, or it refuses the order.
pub async fn backend(
    run_dir: &Path,
    backend: &str,
    vip: Option<&str>,
    order: &Order,
) -> Result<Ordered, AskError> {
    let mut more = String::new();
    let word = match order {
        Order::Drain { deadline_ms } => {
            if let Some(ms) = deadline_ms {
                more = format!("&deadline_ms={ms}");
            }
            "drain"
        }
        Order::Disable => "disable",
        Order::Enable => "enable",
        Order::Remove => "remove",
        Order::Weight(weight) => {
            more = format!("&weight={weight}");
            "weight"
        }
        Order::Add { name, weight } => {
            more = format!("&weight={weight}");
            if let Some(name) = name {
                more.push_str(&format!("&name={}", escaped(name)));
            }
            "add"
        }
    };
    let mut path = format!("/v1/backend/{word}?backend={}{more}", escaped(backend));
    if let Some(vip) = vip {
        path.push_str(&format!("&vip={}", escaped(vip)));
    }
    ask(run_dir, Method::POST, &path).await
}

/// Lets somebody else balance, or XDP again.
///
/// # Errors
/// No daemon, or it refuses.
pub async fn change_mode(run_dir: &Path, to: Balancer) -> Result<Moved, AskError> {
    let path = format!("/v1/mode?to={to}");
    ask_with(run_dir, Method::POST, &path, hyper::body::Bytes::new(), server::MOVE_PATIENCE).await
}

/// Makes the daemon read its file again, or only check it.
///
/// # Errors
/// No daemon, or it refuses the file.
pub async fn reload(run_dir: &Path, check: bool) -> Result<Reloaded, AskError> {
    ask(run_dir, Method::POST, if check { "/v1/reload?check=true" } else { "/v1/reload" }).await
}

/// Makes the daemon run the programs of another object, after comparing the books for `verify`, if that is asked for.
///
/// # Errors
/// No daemon, or it refuses the object.
pub async fn upgrade(
    run_dir: &Path,
    object: Vec<u8>,
    verify: Option<Duration>,
) -> Result<Upgraded, AskError> {
    let path = verify.map_or_else(
        || "/v1/upgrade".to_owned(),
        |time| format!("/v1/upgrade?verify_ms={}", time.as_millis()),
    );
    let patience = server::UPGRADE_PATIENCE + verify.unwrap_or_default();
    ask_with(run_dir, Method::POST, &path, object.into(), patience).await
}

/// Waits until the drains of `backends` are done or over, calling `progress` whenever one of them has moved; they are
/// updated as they go. True if all of them ended without a connection left.
///
/// # Errors
/// The daemon ended, or a backend is no longer drained.
pub async fn wait_drained(
    run_dir: &Path,
    backends: &mut [Administered],
    mut progress: impl FnMut(&Administered) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    loop {
        let status = client::status(run_dir).await?;
        let mut open = 0;
        for backend in &mut *backends {
            let now = status.vips.iter().filter(|vip| vip.name == backend.vip).flat_map(|vip| &vip.backends);
            let now = now.into_iter().find(|b| b.address == backend.address && b.port == backend.port);
            let drain = now.and_then(|now| now.drain).ok_or_else(|| {
                let Administered { name, vip, .. } = &*backend;
                Failure::at_work(format!(
                    "backend {name} of VIP {vip} is no longer drained: somebody changed that"
                ))
            })?;
            let moved = |drain: Drain| Drain { deadline_ms: None, ..drain };
            if backend.drain.map(moved) != Some(moved(drain)) {
                backend.drain = Some(drain);
                if let Some(now) = now {
                    backend.state.clone_from(&now.state);
                    backend.admin.clone_from(&now.admin);
                }
                progress(backend)?;
            }
            open += usize::from(!drain.done && !drain.expired);
        }
        if open == 0 {
            return Ok(backends.iter().all(|backend| backend.drain.is_some_and(|drain| drain.done)));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
