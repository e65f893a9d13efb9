//! The checks of one bridge.

use openflow::Cookie;

use super::entries::{others, our_cookies, ours};
use super::{Bridge, Check, Facts, Interface, Level, Running, Target, check};
use crate::core::cookie::is_ours;

/// The versions that this controller speaks, as Open vSwitch calls them.
const SPOKEN: [&str; 2] = ["OpenFlow10", "OpenFlow13"];

/// All findings about a bridge.
pub(super) fn checks(bridge: &Bridge, facts: &Facts, checks: &mut Vec<Check>) {
    let running = facts.controller.as_ref().ok();
    checks.push(protocols(bridge));
    checks.push(fail_mode(bridge));
    checks.extend(in_band(bridge));
    checks.extend(spanning_tree(bridge));
    controllers(bridge, running, facts, checks);
    entries(bridge, running, checks);
    checks.extend(bridge.interfaces.iter().filter_map(|interface| port(bridge, interface)));
}

fn protocols(bridge: &Bridge) -> Check {
    let name = &bridge.name;
    let has =
        |version: &&str| bridge.protocols.is_empty() || bridge.protocols.iter().any(|one| one == version);
    let common: Vec<&str> = SPOKEN.iter().copied().filter(|version| has(version)).collect();
    let told = if bridge.protocols.is_empty() { "all".to_owned() } else { bridge.protocols.join(", ") };
    let mend = Some(format!("ovs-vsctl set bridge {name} protocols=OpenFlow13"));
    match common.last() {
        None => {
            let what = format!("enabled: {told}; ofshim speaks {}", SPOKEN.join(" and "));
            check("openflow", name, Level::Fail, &what, mend)
        }
        Some(&"OpenFlow10") => {
            let what = format!("enabled: {told}; IPv6 flows are matched by MACs alone");
            check("openflow", name, Level::Ok, &what, None)
        }
        Some(_) => check("openflow", name, Level::Ok, &format!("enabled: {told}"), None),
    }
}

fn fail_mode(bridge: &Bridge) -> Check {
    let name = &bridge.name;
    if bridge.fail_mode.as_deref() == Some("secure") {
        return check("fail-mode", name, Level::Ok, "secure", None);
    }
    let what = "standalone: whenever no controller is connected it learns and floods by itself, in loops too, and its \
                entries are lost";
    check("fail-mode", name, Level::Warn, what, Some(format!("ovs-vsctl set-fail-mode {name} secure")))
}

fn in_band(bridge: &Bridge) -> Option<Check> {
    let remote = |target: &&Target| ["tcp:", "ssl:"].iter().any(|kind| target.address.starts_with(kind));
    let name = &bridge.name;
    if bridge.out_of_band {
        return Some(check("in-band", name, Level::Ok, "switched off", None));
    }
    bridge.controllers.iter().find(remote)?;
    let what = "control over the network's own links is on: its hidden entries forward ARP and the controller's \
                connection before any of ofshim's";
    let mend = format!("ovs-vsctl set bridge {name} other-config:disable-in-band=true");
    Some(check("in-band", name, Level::Warn, what, Some(mend)))
}

fn spanning_tree(bridge: &Bridge) -> Option<Check> {
    let name = &bridge.name;
    let what = "a spanning tree protocol blocks ports by itself; ofshim keeps loops off without it, and uses all links";
    let mend = format!("ovs-vsctl set bridge {name} stp_enable=false rstp_enable=false");
    bridge.spanning_tree.then(|| check("spanning-tree", name, Level::Warn, what, Some(mend)))
}

fn controllers(bridge: &Bridge, running: Option<&Running>, facts: &Facts, checks: &mut Vec<Check>) {
    let name = &bridge.name;
    let set = format!("ovs-vsctl set-controller {name} {}", offered(running));
    if bridge.controllers.is_empty() {
        let secure = bridge.fail_mode.as_deref() == Some("secure");
        let (level, what) = if secure {
            (Level::Fail, "none is set, and the bridge forwards nothing but by the entries that it has")
        } else {
            (Level::Warn, "none is set: the bridge is a learning switch of its own")
        };
        return checks.push(check("controllers", name, level, what, Some(set)));
    }
    for target in &bridge.controllers {
        checks.push(connection(bridge, target, running, facts, &set));
    }
    let Some(running) = running else { return };
    let here: Vec<&str> = bridge
        .controllers
        .iter()
        .map(|target| target.address.as_str())
        .filter(|address| is_here(address, running))
        .collect();
    if here.len() > 1 {
        let what =
            format!("{} are one controller: a switch may have one address of it only", here.join(" and "));
        checks.push(check("controllers", name, Level::Fail, &what, Some(set)));
    } else if here.is_empty() {
        let what = format!(
            "none of them is the ofshim of this run folder, which listens on {}",
            running.listen.join(" and ")
        );
        checks.push(check("controllers", name, Level::Warn, &what, Some(set)));
    }
}

fn connection(
    bridge: &Bridge,
    target: &Target,
    running: Option<&Running>,
    facts: &Facts,
    set: &str,
) -> Check {
    let (name, address) = (&bridge.name, &target.address);
    if target.connected {
        let role = target.role.as_deref().unwrap_or("other");
        if role == "slave" {
            let what = format!("{address} is connected as secondary (slave): it may only read");
            let mend = "ofshim run --role primary, or end the other controller";
            return check("controllers", name, Level::Warn, &what, Some(mend.to_owned()));
        }
        return check("controllers", name, Level::Ok, &format!("{address} is connected, role {role}"), None);
    }
    // The database follows within seconds.
    if running.is_some_and(|running| is_here(address, running) && running.switches.contains(&bridge.dpid)) {
        return check("controllers", name, Level::Ok, &format!("{address} serves it"), None);
    }
    let without_keys = address.starts_with("ssl:") && facts.ovs.as_ref().is_ok_and(|ovs| !ovs.has_ssl);
    if without_keys {
        let what = format!("{address} is not connected: Open vSwitch has no key and certificate");
        let mend = "ovs-vsctl set-ssl KEY.pem CERTIFICATE.pem CA.pem";
        return check("controllers", name, Level::Fail, &what, Some(mend.to_owned()));
    }
    let kind = |running: &Running| if running.tls { "ssl:" } else { "tcp:" };
    if let Some(running) =
        running.filter(|running| is_here(address, running) && !address.starts_with(kind(running)))
    {
        let what = format!("{address} is not connected: this controller takes {} connections", kind(running));
        return check("controllers", name, Level::Fail, &what, Some(set.to_owned()));
    }
    let why = target.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    let what = format!("{address} is not connected{why}");
    let mend = match running {
        Some(running) if is_here(address, running) => {
            "the log of ofshim says why it refuses the switch".to_owned()
        }
        Some(_) => set.to_owned(),
        None => {
            let listen = address.split_once(':').map_or("127.0.0.1:6653", |(_, listen)| listen);
            format!("ofshim run --listen {listen}")
        }
    };
    check("controllers", name, Level::Fail, &what, Some(mend))
}

/// The address to give to a bridge.
fn offered(running: Option<&Running>) -> String {
    let first = running.and_then(|running| running.listen.first());
    let kind = if running.is_some_and(|running| running.tls) { "ssl" } else { "tcp" };
    format!("{kind}:{}", first.map_or("127.0.0.1:6653", String::as_str))
}

/// Whether a target is one of the addresses that the controller listens on.
fn is_here(target: &str, running: &Running) -> bool {
    let Some((_, address)) = target.split_once(':') else { return false };
    running.listen.iter().any(|listen| {
        let any = ["0.0.0.0:", "[::]:"].iter().find_map(|any| listen.strip_prefix(any));
        listen == address || any.is_some_and(|port| address.rsplit(':').next() == Some(port))
    })
}

fn entries(bridge: &Bridge, running: Option<&Running>, checks: &mut Vec<Check>) {
    let name = &bridge.name;
    let entries = match &bridge.entries {
        Ok(entries) => entries,
        Err(why) => {
            let what = format!("cannot be listed: {why}");
            return checks.push(check("entries", name, Level::Warn, &what, None));
        }
    };
    let served = running.is_some_and(|running| running.switches.contains(&bridge.dpid));
    if let Some(words) = ours(entries) {
        checks.push(if served {
            check("entries", name, Level::Ok, &format!("of ofshim: {words}"), None)
        } else {
            let what =
                format!("of an ofshim that does not serve this bridge now: {words}; they go on forwarding");
            let mend = format!(
                "let ofshim serve the bridge, which takes them over, or: ovs-ofctl -O {} del-flows {name} {}",
                spoken(bridge).unwrap_or("OpenFlow13"),
                our_cookies()
            );
            check("entries", name, Level::Warn, &what, Some(mend))
        });
    }
    if let Some(words) = others(entries) {
        let takes_all = |table| {
            let foreign = |cookie| !is_ours(Cookie(cookie));
            entries.iter().any(|entry| entry.is_miss && entry.table == table && foreign(entry.cookie))
        };
        // Without a controller that is what a learning switch of its own has.
        checks.push(if takes_all(0) && !bridge.controllers.is_empty() {
            let what = format!("of others: {words}; one of them takes all packets that nothing else takes");
            let mend = format!(
                "ovs-ofctl -O {0} --strict del-flows {name} priority=0; then the bridge has to connect anew",
                spoken(bridge).unwrap_or("OpenFlow13")
            );
            check("entries", name, Level::Warn, &what, Some(mend))
        } else {
            check("entries", name, Level::Ok, &format!("of others: {words}; ofshim leaves them alone"), None)
        });
    }
}

/// The version in which the bridge's entries can be listed.
#[must_use]
pub(crate) fn spoken(bridge: &Bridge) -> Option<&'static str> {
    let has =
        |version: &&&str| bridge.protocols.is_empty() || bridge.protocols.iter().any(|one| one == **version);
    SPOKEN.iter().rev().find(has).copied()
}

fn port(bridge: &Bridge, interface: &Interface) -> Option<Check> {
    let name = &interface.name;
    if let Some(error) = &interface.error {
        let mend = format!("ovs-vsctl del-port {} {name}, or bring the device back", bridge.name);
        let what = format!("does not work: {error}");
        return Some(check("port", name, Level::Fail, &what, Some(mend)));
    }
    // The bridge's own port is the machine's, which need not use it.
    if (interface.enabled && interface.up) || *name == bridge.name {
        return None;
    }
    Some(if interface.enabled {
        let what = format!("of {}: its link is down", bridge.name);
        check("port", name, Level::Warn, &what, Some("look at the cable, or at the other end".to_owned()))
    } else {
        let what = format!("of {}: it is switched off", bridge.name);
        check("port", name, Level::Warn, &what, Some(format!("ip link set {name} up")))
    })
}
