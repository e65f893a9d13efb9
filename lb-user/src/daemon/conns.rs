//! The tracked connections, as `lb conn` lists them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lb_core::conn::{is_live, state_name};
use lb_core::host::plan::{BackendPlan, Plan};
use lb_core::host::records::ip;
use lb_core::table::{ConnEntry, Settings, ms_from_ticks, ticks_since};

use crate::api::{Connection, Connections};
use crate::conns::{Page, Place, Wanted};
use crate::dataplane::{ConnTable, Pins};
use crate::io::clock;
use crate::server::Denied;

/// The live connections that are wanted. Reads the whole table: not for the daemon's own thread.
pub fn list(pins: &Pins, plan: &Plan, settings: &Settings, wanted: &Wanted) -> Result<Connections, Denied> {
    let vips = vips(plan, wanted)?;
    let backends = backends(plan, &vips, wanted)?;
    let now = clock::ticks();
    let entry = ConnEntry::default();
    let mut page = Page::new(wanted);
    ConnTable::open(pins)?.for_each(|key, value| {
        if !vips.contains(&key.vip()) || !backends.contains(&value.backend) {
            return;
        }
        let (Some(vip), Some(backend)) = (plan.vips.get(&key.vip()), plan.backends.get(&value.backend))
        else {
            return;
        };
        let client = SocketAddr::new(ip(key.client), u16::from_be(key.client_port()));
        let vip_port = u16::from_be(key.vip_port());
        let protocol = vip.key.protocol.to_string();
        let matches = wanted.clients.is_none_or(|clients| clients.contain(client.ip(), client.port()))
            && wanted.state.as_ref().is_none_or(|state| state == state_name(value.state))
            && wanted.protocol.as_ref().is_none_or(|wanted| *wanted == protocol);
        entry.set(value);
        if !matches || !is_live(&entry, now, settings) {
            return;
        }
        let place =
            Place { client, vip: SocketAddr::new(vip.key.address, vip_port), protocol: protocol.clone() };
        page.take(place, || Connection {
            client: client.ip(),
            client_port: client.port(),
            vip: vip.name.clone(),
            vip_port,
            protocol,
            backend: backend.key.address,
            backend_port: backend.translate_port.unwrap_or(vip_port),
            state: state_name(value.state).to_owned(),
            idle_ms: ms_from_ticks(ticks_since(now, value.last_seen)),
        });
    })?;
    Ok(page.finish())
}

/// Ids of the VIPs that are wanted.
fn vips(plan: &Plan, wanted: &Wanted) -> Result<BTreeSet<u16>, Denied> {
    let named = |name: &&String| plan.vips.iter().find(|(_, vip)| vip.name == **name).map(|(id, _)| *id);
    let Some(name) = &wanted.vip else { return Ok(plan.vips.keys().copied().collect()) };
    match named(&name) {
        Some(id) => Ok([id].into()),
        None => {
            let names: Vec<&str> = plan.vips.values().map(|vip| vip.name.as_str()).collect();
            Err(Denied::Wrong(format!("no VIP is called {name}; there are: {}", names.join(", "))))
        }
    }
}

/// Ids of the backends that are wanted; one that no wanted VIP has is a mistake.
fn backends(plan: &Plan, vips: &BTreeSet<u16>, wanted: &Wanted) -> Result<BTreeSet<u16>, Denied> {
    let candidates = || plan.backends.iter().filter(|(_, backend)| vips.contains(&backend.vip));
    let Some(text) = &wanted.backend else { return Ok(candidates().map(|(id, _)| *id).collect()) };
    let found: BTreeSet<u16> =
        candidates().filter(|(_, backend)| is_called(backend, text)).map(|(id, _)| *id).collect();
    if found.is_empty() {
        let mut known: Vec<String> =
            candidates().map(|(_, backend)| backend.key.address.to_string()).collect();
        known.dedup();
        let known = known.join(", ");
        return Err(Denied::Wrong(format!("no backend is called {text}; there are: {known}")));
    }
    Ok(found)
}

fn is_called(backend: &BackendPlan, text: &str) -> bool {
    let address = backend.key.address;
    backend.name == text
        || text.parse() == Ok(address)
        || text.parse() == Ok(SocketAddr::new(address, backend.key.port))
}
