//! Backends that are named by their host: which MAC that is.

use std::net::IpAddr;

use lb_core::host::addr::MacAddr;
use lb_core::host::config::Config;

use crate::io::facts::{Facts, Space};
use crate::io::link::Link;

/// Gives every backend that is named by its host the MAC of that host's interface.
///
/// # Errors
/// One line that names the host and the mend; `config` may be half resolved then.
pub fn resolve(config: &mut Config, facts: &Facts) -> Result<(), String> {
    for backend in config.vips.iter_mut().flat_map(|vip| &mut vip.backends) {
        if let Some(host) = &backend.host {
            let mac = mac_of(host, backend.address, facts);
            backend.mac =
                Some(mac.map_err(|why| format!("backend {}, host {host:?}: {why}", backend.address))?);
        }
    }
    Ok(())
}

/// The MAC of the interface on which `host` has `address`.
fn mac_of(host: &str, address: IpAddr, facts: &Facts) -> Result<MacAddr, String> {
    let spaces: Vec<&Space> = facts.spaces.iter().filter(|space| space.label() == host).collect();
    let space = match spaces[..] {
        [space] => space,
        [] => {
            let mut found: Vec<String> = facts.spaces.iter().map(Space::label).collect();
            found.sort();
            return Err(match found.as_slice() {
                [] => "there is no host on this machine; name the backend's mac instead".to_owned(),
                found => format!("no such host; found {}", found.join(", ")),
            });
        }
        _ => return Err("several hosts have this name; name the backend's mac instead".to_owned()),
    };
    let has = |link: &&Link| link.has_address(address);
    let with_mac: Vec<&Link> = space.links.iter().filter(|link| link.mac.is_some()).collect();
    // The address may stand on the loopback, as with every VIP of layer-2 DSR: then one interface leads there.
    let link = match (with_mac.iter().copied().find(has), with_mac.as_slice()) {
        (Some(link), _) => link,
        (None, [only]) => only,
        (None, _) => {
            return Err(format!("none of its interfaces has {address}; name the backend's mac instead"));
        }
    };
    link.mac.map(|mac| MacAddr(mac.0)).ok_or_else(|| format!("{} has no MAC", link.name))
}
