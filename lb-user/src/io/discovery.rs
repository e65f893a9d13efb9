//! Which switch ports lead to hosts, which of these are backends, and where a one-armed balancer sits.
//!
//! A pure function of the [`Facts`]. A port is host-facing if it belongs to a switch and its other end does not:
//! links between switches are never taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use super::facts::Facts;
use super::link::{IfAddress, Link, XdpAttachment};
use super::mac::Mac;
use super::mininet::Node;
use super::netns::NsRef;
use super::ovs::OvsError;

/// The other end of a port's veth: the host's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The namespace it is in.
    pub ns: NsRef,
    /// What to call that: the Mininet host's name, the namespace's name, or the way to open it.
    pub label: String,
    /// Mininet's name for the host, if it is one.
    pub host: Option<String>,
    /// The interface's name.
    pub ifname: String,
    /// The interface's index in that namespace.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IfAddress>,
    /// The XDP program on it.
    pub xdp: Option<XdpAttachment>,
}

/// A port for the XDP program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPort {
    /// The interface's name.
    pub ifname: String,
    /// Its index in our namespace.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The switch that it belongs to; `None` if that is not known, and then nothing is redirected to it.
    pub switch: Option<String>,
    /// The qdisc that limits, delays or drops what leaves through it: nothing may be redirected past that.
    pub shaping: Option<String>,
    /// The XDP program on it.
    pub xdp: Option<XdpAttachment>,
    /// The host behind it; `None` for hardware.
    pub peer: Option<Peer>,
    /// The backends behind it; none: it leads to clients.
    pub backends: Vec<IpAddr>,
}

impl HostPort {
    /// Whether packets may be redirected from `ingress` to this port: within one switch, past no shaping.
    pub fn takes_redirects_from(&self, ingress: &HostPort) -> bool {
        self.shaping.is_none() && self.switch.is_some() && self.switch == ingress.switch
    }
}

/// A switch port that is not taken, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The interface.
    pub ifname: String,
    /// The reason, in words.
    pub reason: String,
}

/// Where a backend is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The backend.
    pub ip: IpAddr,
    /// Name of the interface of the port that leads to it. `None`: it is in the network of an attached port, but no
    /// host has its address now, so it is down until it answers somewhere.
    pub port: Option<String>,
    /// Its hardware address, if a host has the address.
    pub mac: Option<Mac>,
}

/// The inline placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inline {
    /// The ports, sorted by name.
    pub ports: Vec<HostPort>,
    /// Switch ports that are not taken.
    pub skipped: Vec<Skipped>,
    /// One entry for each backend asked for, in that order.
    pub backends: Vec<Place>,
}

impl Inline {
    /// The port with this interface name.
    pub fn port(&self, ifname: &str) -> Option<&HostPort> {
        self.ports.iter().find(|port| port.ifname == ifname)
    }

    /// The ports behind which no backend is.
    pub fn client_ports(&self) -> impl Iterator<Item = &HostPort> {
        self.ports.iter().filter(|port| port.backends.is_empty())
    }
}

/// The one-armed placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Onearm {
    /// The balancer's host.
    pub host: Node,
    /// Its interface, seen as the other end of the switch's port.
    pub nic: Peer,
    /// The qdisc that shapes what leaves the interface.
    pub nic_shaping: Option<String>,
    /// The switch's port: the other end of that veth, in our namespace.
    pub port: HostPort,
    /// All host-facing ports: their peers are the hosts whose offloads matter.
    pub ports: Vec<HostPort>,
    /// One entry for each backend asked for, in that order; `port` is the switch's port that leads to it.
    pub backends: Vec<Place>,
}

/// Why the balancer cannot be placed. Each names the thing and the mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Open vSwitch does not answer.
    #[error(transparent)]
    Ovs(#[from] OvsError),
    /// There is no port to attach to.
    #[error("no host-facing switch port found{}; start Mininet first, or name the interfaces with --attach", list(" (not taken: ", .0, ")"))]
    NoPorts(Vec<String>),
    /// An interface that was asked for does not exist.
    #[error("attach {name}: there is no such interface here; there are {}", list("", .existing, ""))]
    MissingInterface {
        /// The name.
        name: String,
        /// What there is.
        existing: Vec<String>,
    },
    /// An interface that was asked for is a link between switches.
    #[error(
        "attach {name}: it is a link between switches (its other end is {peer}); attach host-facing ports only"
    )]
    SwitchLink {
        /// The name.
        name: String,
        /// The other end.
        peer: String,
    },
    /// An interface that was asked for cannot take the program.
    #[error("attach {name}: {reason}")]
    NotAttachable {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A backend is nowhere near.
    #[error("backend {ip} is on no attached network; the attached networks are {}", list("", .networks, ""))]
    BackendUnreachable {
        /// The backend.
        ip: IpAddr,
        /// The networks of the attached hosts.
        networks: Vec<String>,
    },
    /// Several hosts have a backend's address.
    #[error("backend {ip} is behind several ports ({}); give each host its own address, or name fewer ports with --attach", list("", .ports, ""))]
    BackendAmbiguous {
        /// The backend.
        ip: IpAddr,
        /// The ports.
        ports: Vec<String>,
    },
    /// There is no such Mininet host.
    #[error("--host {name}: no such Mininet host; {}", host_list(.found))]
    HostMissing {
        /// The name.
        name: String,
        /// The hosts there are.
        found: Vec<String>,
    },
    /// Several Mininets run.
    #[error("--host {name}: several Mininet hosts have this name (processes {}); stop all Mininets but one", list("", .pids, ""))]
    HostAmbiguous {
        /// The name.
        name: String,
        /// Their shells.
        pids: Vec<String>,
    },
    /// The host is not connected to a switch.
    #[error("--host {name}: none of its interfaces leads to a switch{}; add a link to a switch", list(" (it has ", .links, ")"))]
    HostWithoutNic {
        /// The name.
        name: String,
        /// The interfaces that it has.
        links: Vec<String>,
    },
}

fn list(before: &str, items: &[String], after: &str) -> String {
    if items.is_empty() { String::new() } else { format!("{before}{}{after}", items.join(", ")) }
}

fn host_list(hosts: &[String]) -> String {
    if hosts.is_empty() {
        "no Mininet host is running".to_owned()
    } else {
        format!("found {}", hosts.join(", "))
    }
}

/// Finds the ports for the inline placement and where the backends are. With `attach`, exactly those interfaces.
pub fn inline(facts: &Facts, attach: &[String], backends: &[IpAddr]) -> Result<Inline, DiscoveryError> {
    let view = View::new(facts);
    let (mut ports, skipped) =
        if attach.is_empty() { view.all_ports()? } else { (view.named_ports(attach)?, vec![]) };
    if ports.is_empty() {
        let names = skipped.into_iter().map(|s: Skipped| format!("{}: {}", s.ifname, s.reason)).collect();
        return Err(DiscoveryError::NoPorts(names));
    }
    let backends = backends.iter().map(|&ip| place(ip, &ports)).collect::<Result<Vec<_>, _>>()?;
    for port in &mut ports {
        let here = backends.iter().filter(|place| place.port.as_ref() == Some(&port.ifname));
        port.backends = here.map(|place| place.ip).collect();
    }
    Ok(Inline { ports, skipped, backends })
}

/// The same for a network that changes under a running balancer: what is missing, or cannot be taken, is left out and
/// named. With `attach`, of those interfaces only.
pub fn inline_present(
    facts: &Facts,
    attach: &[String],
    backends: &[IpAddr],
) -> Result<(Inline, Vec<String>), DiscoveryError> {
    let view = View::new(facts);
    let mut missing = Vec::new();
    let (mut ports, skipped) = if attach.is_empty() {
        view.all_ports()?
    } else {
        let mut ports = Vec::new();
        for name in attach {
            match view.named_ports(std::slice::from_ref(name)) {
                Ok(found) => ports.extend(found),
                Err(DiscoveryError::MissingInterface { .. }) => {
                    missing.push(format!("interface {name} is not there; it is taken when it comes"));
                }
                Err(error) => missing.push(error.to_string()),
            }
        }
        ports.sort_by(|a, b| natural(&a.ifname).cmp(&natural(&b.ifname)));
        (ports, Vec::new())
    };
    let nowhere = |ip| Place { ip, port: None, mac: None };
    let backends: Vec<Place> =
        backends.iter().map(|&ip| place(ip, &ports).unwrap_or_else(|_| nowhere(ip))).collect();
    for port in &mut ports {
        let here = backends.iter().filter(|place| place.port.as_ref() == Some(&port.ifname));
        port.backends = here.map(|place| place.ip).collect();
    }
    Ok((Inline { ports, skipped, backends }, missing))
}

/// Finds the host, its interface and the backends of the one-armed placement.
pub fn onearm(facts: &Facts, host: &str, backends: &[IpAddr]) -> Result<Onearm, DiscoveryError> {
    let nodes: Vec<&Node> = facts.nodes.hosts_named(host).collect();
    let node = match nodes[..] {
        [node] => node,
        [] => {
            let found = facts.nodes.hosts.iter().map(|node| node.name.clone()).collect();
            return Err(DiscoveryError::HostMissing { name: host.to_owned(), found });
        }
        _ => {
            let pids = nodes.iter().map(|node| node.pid.to_string()).collect();
            return Err(DiscoveryError::HostAmbiguous { name: host.to_owned(), pids });
        }
    };
    let view = View::new(facts);
    let (mut ports, _) = view.all_ports()?;
    let of_host = |port: &&HostPort| port.peer.as_ref().is_some_and(|peer| peer.ns.id == node.ns.id);
    // Mininet numbers a host's interfaces in the order of its links.
    let first = ports.iter().filter(of_host).min_by_key(|port| port.peer.as_ref().map(|peer| peer.ifindex));
    let space = facts.spaces.iter().find(|space| space.ns.id == node.ns.id);
    let Some((port, nic)) = first.and_then(|port| Some((port.clone(), port.peer.clone()?))) else {
        let links = space.map(|s| s.links.iter().map(|link| link.name.clone()).collect()).unwrap_or_default();
        return Err(DiscoveryError::HostWithoutNic { name: host.to_owned(), links });
    };
    let link = space.and_then(|space| space.links.iter().find(|link| link.ifindex == nic.ifindex));
    let nic_shaping = link.and_then(|link| link.shaping.clone());
    // What other networks run on this machine is none of ours.
    let connected = port.switch.as_deref().map(|switch| view.connected(switch)).unwrap_or_default();
    ports.retain(|port| port.switch.as_deref().is_some_and(|switch| connected.contains(switch)));
    // Only what is in the interface's own networks can be reached without a router.
    let places = backends.iter().map(|&ip| {
        if !nic.addresses.iter().any(|prefix| prefix.contains(ip)) {
            let networks = nic.addresses.iter().map(ToString::to_string).collect();
            return Err(DiscoveryError::BackendUnreachable { ip, networks });
        }
        // The same address on several backends is what layer-2 DSR allows: the prober finds them all.
        Ok(place(ip, &ports).unwrap_or(Place { ip, port: None, mac: None }))
    });
    let backends = places.collect::<Result<_, _>>()?;
    Ok(Onearm { host: node.clone(), nic, nic_shaping, port, ports, backends })
}

/// Finds the one port behind which a host has the address.
fn place(ip: IpAddr, ports: &[HostPort]) -> Result<Place, DiscoveryError> {
    let peers = || ports.iter().filter_map(|port| Some((port, port.peer.as_ref()?)));
    let owners: Vec<_> =
        peers().filter(|(_, peer)| peer.addresses.iter().any(|own| own.address == ip)).collect();
    match owners[..] {
        [(port, peer)] => Ok(Place { ip, port: Some(port.ifname.clone()), mac: Some(peer.mac) }),
        [] => {
            let in_network = peers().any(|(_, peer)| peer.addresses.iter().any(|own| own.contains(ip)));
            // What is behind hardware shows only when it answers.
            if in_network || ports.iter().any(|port| port.peer.is_none()) {
                return Ok(Place { ip, port: None, mac: None });
            }
            let mut networks: Vec<String> =
                peers().flat_map(|(_, peer)| network_names(&peer.addresses)).collect();
            networks.sort();
            networks.dedup();
            Err(DiscoveryError::BackendUnreachable { ip, networks })
        }
        _ => {
            let ports =
                owners.iter().map(|(port, peer)| format!("{} to {}", port.ifname, peer.label)).collect();
            Err(DiscoveryError::BackendAmbiguous { ip, ports })
        }
    }
}

fn network_names(addresses: &[IfAddress]) -> impl Iterator<Item = String> {
    addresses.iter().map(|address| address.network().to_string())
}

/// The facts, with what is looked up often.
struct View<'a> {
    facts: &'a Facts,
    by_index: BTreeMap<u32, &'a Link>,
    /// Bridge and type of every Open vSwitch port.
    ovs_ports: BTreeMap<&'a str, (&'a str, &'a str)>,
}

/// How an interface belongs to a switch.
enum Membership<'a> {
    /// It is a port of this switch.
    Of(&'a str),
    /// It is a port that cannot take the program.
    Unfit(String),
    /// It is an end inside the switch (its local port, a patch): of no interest.
    Inside,
    /// It is in no switch.
    None,
}

impl<'a> View<'a> {
    fn new(facts: &'a Facts) -> Self {
        let by_index = facts.links.iter().map(|link| (link.ifindex, link)).collect();
        let bridges = facts.bridges.as_deref().unwrap_or_default();
        let ovs_ports = bridges
            .iter()
            .flat_map(|bridge| bridge.ports.iter().map(move |port| (bridge, port)))
            .map(|(bridge, port)| (port.name.as_str(), (bridge.name.as_str(), port.kind.as_str())))
            .collect();
        Self { facts, by_index, ovs_ports }
    }

    /// Every host-facing port, sorted by name, and the switch ports that are none.
    fn all_ports(&self) -> Result<(Vec<HostPort>, Vec<Skipped>), DiscoveryError> {
        // Without ovs-vsctl the switches are of another make and known by name. An Open vSwitch that is installed and
        // does not answer is a fault.
        match &self.facts.bridges {
            Ok(_) | Err(OvsError::NotInstalled) => {}
            Err(error) => return Err(error.clone().into()),
        }
        let (mut ports, mut skipped) = (Vec::new(), Vec::new());
        for link in &self.facts.links {
            match self.host_port(link) {
                Ok(Some(port)) => ports.push(port),
                Ok(None) => {}
                Err(reason) => skipped.push(Skipped { ifname: link.name.clone(), reason }),
            }
        }
        ports.sort_by(|a, b| natural(&a.ifname).cmp(&natural(&b.ifname)));
        skipped.sort_by(|a, b| natural(&a.ifname).cmp(&natural(&b.ifname)));
        Ok((ports, skipped))
    }

    /// One link as a host-facing port; `None` if it is in no switch, an error if it is and is not taken.
    fn host_port(&self, link: &Link) -> Result<Option<HostPort>, String> {
        let switch = match self.membership(link) {
            Membership::Of(switch) => switch,
            Membership::Unfit(reason) => return Err(reason),
            Membership::Inside | Membership::None => return Ok(None),
        };
        if !link.is_veth() {
            return Err("not a veth, so what it leads to is not known; name it with --attach if it is hosts"
                .to_owned());
        }
        if let Some(other) = self.switch_link(link) {
            return Err(format!("a link between switches, to {other}"));
        }
        let Some(peer) = self.peer(link) else {
            return Err("its other end is in a namespace that cannot be looked into".to_owned());
        };
        match port_of(link, Some(switch), Some(peer)) {
            Some(port) => Ok(Some(port)),
            None => Err("it has no Ethernet address".to_owned()),
        }
    }

    /// The switches that are connected with `start`, itself among them.
    fn connected(&self, start: &'a str) -> BTreeSet<&'a str> {
        let switch = |link| match self.membership(link) {
            Membership::Of(switch) => Some(switch),
            _ => None,
        };
        let cables: Vec<(&str, &str)> = self
            .facts
            .links
            .iter()
            .filter_map(|link| {
                let other = self.by_index.get(&link.peer_ifindex?)?;
                self.switch_link(link)?;
                Some((switch(link)?, switch(other)?))
            })
            .collect();
        let mut connected = BTreeSet::from([start]);
        loop {
            let found: Vec<&str> = cables
                .iter()
                .filter(|(a, b)| connected.contains(a) && !connected.contains(b))
                .map(|(_, b)| *b)
                .collect();
            if found.is_empty() {
                return connected;
            }
            connected.extend(found);
        }
    }

    fn named_ports(&self, names: &[String]) -> Result<Vec<HostPort>, DiscoveryError> {
        let mut ports: Vec<HostPort> = Vec::new();
        for name in names {
            if ports.iter().any(|port| port.ifname == *name) {
                continue;
            }
            let Some(link) = self.facts.links.iter().find(|link| link.name == *name) else {
                let existing = self.facts.links.iter().map(|link| link.name.clone()).collect();
                return Err(DiscoveryError::MissingInterface { name: name.clone(), existing });
            };
            let fail = |reason: String| DiscoveryError::NotAttachable { name: name.clone(), reason };
            let switch = match self.membership(link) {
                Membership::Of(switch) => Some(switch),
                Membership::Unfit(reason) => return Err(fail(reason)),
                Membership::Inside => return Err(fail("it is an inner port of the switch".to_owned())),
                Membership::None => self.bridge_above(link),
            };
            if let Some(peer) = self.switch_link(link) {
                return Err(DiscoveryError::SwitchLink { name: name.clone(), peer: peer.to_owned() });
            }
            let port = port_of(link, switch, self.peer(link));
            ports.push(port.ok_or_else(|| fail("it has no Ethernet address".to_owned()))?);
        }
        ports.sort_by(|a, b| natural(&a.ifname).cmp(&natural(&b.ifname)));
        Ok(ports)
    }

    /// Asks Open vSwitch's tables first. What is not in them counts as a switch's port if it is in a Linux bridge
    /// that is a Mininet node, or, where there is no Open vSwitch, if it is named after a Mininet node.
    fn membership(&self, link: &Link) -> Membership<'a> {
        if let Some(&(bridge, kind)) = self.ovs_ports.get(link.name.as_str()) {
            return match kind {
                "" | "system" => Membership::Of(bridge),
                "internal" | "patch" => Membership::Inside,
                "afxdp" | "afxdp-nonpmd" => Membership::Unfit(
                    "Open vSwitch holds its XDP hook; make it a port of type system".to_owned(),
                ),
                other => Membership::Unfit(format!("a port of type {other}")),
            };
        }
        let node = |name: &str| self.facts.nodes.local.iter().find(|node| node.name == name);
        let switch = match self.bridge_above(link) {
            Some(bridge) => node(bridge),
            None if self.ovs_ports.is_empty() => switch_in_name(&link.name).and_then(node),
            None => None,
        };
        switch.map_or(Membership::None, |node| Membership::Of(&node.name))
    }

    /// Name of the Linux bridge that the link is enslaved to.
    fn bridge_above(&self, link: &Link) -> Option<&'a str> {
        let master = self.by_index.get(&link.master?)?;
        (master.kind.as_deref() == Some("bridge")).then_some(master.name.as_str())
    }

    /// The other end's name, if both ends are switch ports.
    fn switch_link(&self, link: &Link) -> Option<&'a str> {
        if link.peer_nsid.is_some() {
            return None;
        }
        let other = self.by_index.get(&link.peer_ifindex?)?;
        let in_switch = matches!(self.membership(other), Membership::Of(_) | Membership::Unfit(_))
            || self.bridge_above(other).is_some();
        in_switch.then_some(other.name.as_str())
    }

    fn peer(&self, link: &Link) -> Option<Peer> {
        let index = link.peer_ifindex?;
        let (ns, label, host, other) = match link.peer_nsid {
            None => (&self.facts.root, "the root namespace".to_owned(), None, *self.by_index.get(&index)?),
            Some(nsid) => {
                let space = self.facts.spaces.iter().find(|space| space.nsid == Some(nsid))?;
                let other = space.links.iter().find(|other| other.ifindex == index)?;
                (&space.ns, space.label(), space.host.clone(), other)
            }
        };
        Some(Peer {
            ns: ns.clone(),
            label,
            host,
            ifname: other.name.clone(),
            ifindex: other.ifindex,
            mac: other.mac?,
            mtu: other.mtu,
            addresses: other.addresses.clone(),
            xdp: other.xdp,
        })
    }
}

fn port_of(link: &Link, switch: Option<&str>, peer: Option<Peer>) -> Option<HostPort> {
    Some(HostPort {
        ifname: link.name.clone(),
        ifindex: link.ifindex,
        mac: link.mac?,
        mtu: link.mtu,
        switch: switch.map(str::to_owned),
        shaping: link.shaping.clone(),
        xdp: link.xdp,
        peer,
        backends: Vec::new(),
    })
}

/// The switch in a name that Mininet gave: `<switch>-eth<N>`, counted from 1. Those of hosts count from 0.
fn switch_in_name(name: &str) -> Option<&str> {
    let (switch, number) = name.rsplit_once("-eth")?;
    (number.parse::<u32>().ok()? > 0).then_some(switch)
}

/// Sorts `s1-eth10` after `s1-eth9`.
fn natural(name: &str) -> (&str, u64) {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (stem, number) = name.split_at(name.len() - digits);
    (stem, number.parse().unwrap_or(0))
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
