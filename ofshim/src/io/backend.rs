//! `ofshim backend`: lists the backends that the running controller balances, gives it orders about them, and waits for
//! the end of drains.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::client::{LIMIT, answered, fetch, show};
use super::http;
use super::socket::SOCKET_NAME;
use crate::cli::backend::{BackendArgs, WhomArgs};
use crate::core::view::{BalancedBackend, BalancedVip, Balancing, Status};
use crate::print;

/// From one look at a drain to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Runs the command; what to print, and whether no connection was left of a drain that it waited for.
///
/// # Errors
/// No controller runs with this run folder, it does not balance, or it refuses the order. One line.
pub async fn run(args: &BackendArgs, run_dir: &Path) -> anyhow::Result<(String, bool)> {
    let Some(order) = &args.order else {
        let balancing = balancing(run_dir).await?;
        return Ok((text(args, &balancing)?, true));
    };
    if order.waits_for().is_some() {
        may_wait(&balancing(run_dir).await?)?;
    }
    let path = run_dir.join(SOCKET_NAME);
    let body = answered(http::post(&path, &order.target(), LIMIT).await, run_dir)?;
    let Some(whom) = order.waits_for() else {
        return Ok((show(run_dir, &body, args.json, print::balancing)?, true));
    };
    loop {
        let balancing = balancing(run_dir).await?;
        if let Some(none_left) = outcome(&balancing, whom)? {
            return Ok((text(args, &balancing)?, none_left));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn text(args: &BackendArgs, balancing: &Balancing) -> anyhow::Result<String> {
    if args.json {
        return Ok(format!("{}\n", serde_json::to_string(balancing)?));
    }
    Ok(print::balancing(balancing))
}

/// What the controller balances.
async fn balancing(run_dir: &Path) -> anyhow::Result<Balancing> {
    let status: Status = serde_json::from_slice(&fetch(run_dir, "/v1/status").await?).with_context(|| {
        format!("{}: the controller is of another version than this command", run_dir.display())
    })?;
    status.balancing.context(
        "this controller does not balance: it runs without --lb openflow, and nothing was handed to it; 'lb backend' lists \
         those of XDP",
    )
}

/// Whether the controller knows when a drain is over.
fn may_wait(balancing: &Balancing) -> anyhow::Result<()> {
    if balancing.vips.iter().flat_map(|vip| &vip.backends).any(|backend| backend.open.is_none()) {
        bail!(
            "with --lb-entries {} the switches alone know how many connections a backend has: leave --wait out",
            balancing.entries
        );
    }
    Ok(())
}

/// How the drains of those that are meant ended: whether no connection was left; `None` while one goes on.
fn outcome(balancing: &Balancing, whom: &WhomArgs) -> anyhow::Result<Option<bool>> {
    let vips = balancing.vips.iter().filter(|vip| is_meant(vip, whom));
    let meant = vips.flat_map(|vip| vip.backends.iter().map(move |backend| (vip, backend)));
    let meant: Vec<_> = meant.filter(|(vip, backend)| is_called(vip, backend, &whom.backend)).collect();
    let (mut goes_on, mut none_left) = (false, true);
    for (vip, backend) in &meant {
        let open = backend.open.unwrap_or_default();
        match backend.admin.as_str() {
            "draining" => goes_on |= open > 0,
            "disabled" => none_left &= open == 0,
            _ => bail!(
                "backend {} of VIP {} is no longer drained: somebody changed that",
                backend.name,
                vip.name
            ),
        }
    }
    if meant.is_empty() {
        bail!("backend {} is no longer drained: somebody removed it", whom.backend);
    }
    Ok((!goes_on).then_some(none_left))
}

fn is_meant(vip: &BalancedVip, whom: &WhomArgs) -> bool {
    whom.vip.as_ref().is_none_or(|name| [&vip.name, &vip.key].contains(&name))
}

/// Whether a backend is called this: by its name, its address, or address and port.
fn is_called(vip: &BalancedVip, backend: &BalancedBackend, word: &str) -> bool {
    let port = backend.port.or_else(|| vip.ports.parse().ok());
    let with_port = port.map(|port| std::net::SocketAddr::new(backend.address, port).to_string());
    backend.name == word || backend.address.to_string() == word || with_port.as_deref() == Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str, admin: &str, open: Option<usize>) -> BalancedBackend {
        BalancedBackend {
            name: name.to_owned(),
            address: [10, 0, 0, 1].into(),
            port: None,
            state: "up".to_owned(),
            admin: admin.to_owned(),
            drains_until_ms: None,
            weight: 1,
            mac: None,
            place: None,
            connections: 0,
            open,
            opened: 0,
        }
    }

    fn balancing(backends: Vec<BalancedBackend>) -> Balancing {
        let vip = BalancedVip {
            name: "web".to_owned(),
            key: "10.0.1.1:80/tcp".to_owned(),
            address: [10, 0, 1, 1].into(),
            ports: "80".to_owned(),
            protocol: "tcp".to_owned(),
            mac: String::new(),
            mode: "nat".to_owned(),
            selection: "random".to_owned(),
            opened: 0,
            dropped: 0,
            backends,
        };
        Balancing { vips: vec![vip], ..Balancing::default() }
    }

    #[test]
    fn a_drain_goes_on_until_no_connection_is_left_or_its_deadline_is_over() {
        let other = || backend("h2", "enabled", Some(9));
        for (admin, open, expected) in [
            ("draining", 3, None),
            ("draining", 0, Some(true)),
            ("disabled", 0, Some(true)),
            ("disabled", 2, Some(false)),
        ] {
            let now = balancing(vec![backend("h1", admin, Some(open)), other()]);
            for vip in [None, Some("web"), Some("10.0.1.1:80/tcp")] {
                let whom = WhomArgs { backend: "h1".to_owned(), vip: vip.map(str::to_owned) };
                assert_eq!(outcome(&now, &whom).unwrap(), expected, "{admin} {open}");
            }
        }
        let whom = |name: &str| WhomArgs { backend: name.to_owned(), vip: None };
        let refused = |now: Balancing, part: &str| {
            let line = outcome(&now, &whom("10.0.0.1:80")).unwrap_err().to_string();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        };
        refused(balancing(vec![backend("h1", "enabled", Some(1))]), "somebody changed that");
        refused(balancing(Vec::new()), "somebody removed it");
        assert!(may_wait(&balancing(vec![backend("h1", "enabled", Some(0))])).is_ok());
        let line = may_wait(&balancing(vec![backend("h1", "enabled", None)])).unwrap_err().to_string();
        assert!(line.contains("leave --wait out"), "{line}");
    }
}
