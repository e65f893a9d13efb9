//! Where the programs go: from what discovery found to what is attached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use lb_core::host::config::{Config, PlacementKind};
use lb_core::table::{MAX_PORTS, PortRecord, port_flag};

use crate::api;
use crate::control::Balancer;
use crate::dataplane::{AttachPoint, DataPlane, Role};
use crate::io::discovery::{self, DiscoveryError, HostPort, Peer, Place};
use crate::io::ethtool::{self, Offloads};
use crate::io::facts::Facts;
use crate::io::mac::Mac;
use crate::io::netns::{NetNs, NsRef};

use super::record::Record;

/// An interface that takes the balancer.
#[derive(Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its namespace. Not held open: a namespace lives, and its interfaces with it, as long as anybody does.
    pub ns: NsRef,
    /// The Mininet host whose namespace that is; `None` for ours.
    pub ns_host: Option<String>,
    /// The switch it belongs to.
    pub switch: Option<String>,
    /// Why nothing may be redirected to it.
    pub shaping: Option<String>,
    /// The host behind it.
    pub host: Option<String>,
    /// The other end of the veth.
    pub peer: Option<Other>,
    /// Whether the program runs in the driver; known once it is attached.
    pub native: bool,
    /// Its slot in the data plane.
    pub slot: u16,
}

/// The other end of a veth, which gets the pass program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its namespace.
    pub ns: NsRef,
}

/// An end of a veth whose offloads have to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Which.
    pub end: Other,
    /// How.
    pub offloads: Offloads,
}

/// The whole placement.
#[derive(Debug)]
pub struct Placed {
    /// The interfaces that take the balancer.
    pub ports: Vec<Port>,
    /// Ends of veths whose offloads have to change: senders whose frames XDP will see.
    pub senders: Vec<Sender>,
    /// Where each backend is.
    pub backends: Vec<Place>,
    /// The numbers of the switches in the data plane: two ports are neighbours if theirs are equal.
    pub switches: BTreeMap<String, u16>,
    /// The slots that names had, in use or not.
    pub slots: BTreeMap<String, u16>,
    /// The process whose namespace holds the interface of the one-armed placement.
    pub host_pid: Option<u32>,
    /// As the API tells it.
    pub summary: api::Placement,
    /// The MAC that probes are sent from.
    pub prober_mac: Mac,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Probes of the inline placement come from nobody's MAC: locally administered, and not in the range of
/// virtual MACs.
pub const PROBER_MAC: Mac = Mac([0x06, 0x6c, 0x62, 0x70, 0x72, 0x62]);

impl Placed {
    /// Finds the places; changes nothing.
    pub fn find(config: &Config, facts: &Facts) -> Result<Self> {
        let backends = config.single_backend_addresses();
        match config.placement.kind {
            PlacementKind::Inline => Self::inline(facts, &config.placement.attach, &backends),
            PlacementKind::OneArm => {
                let host =
                    config.placement.host.as_deref().context("placement onearm needs a host: --host NAME")?;
                Self::onearm(facts, host, &backends)
            }
        }
    }

    /// Finds what is there of the places, whatever is missing; changes nothing. What is missing, in words, comes with
    /// it. An error means that it cannot be known now.
    pub fn find_present(config: &Config, facts: &Facts) -> Result<(Self, Vec<String>)> {
        let backends = config.single_backend_addresses();
        if config.placement.kind == PlacementKind::Inline {
            let (found, missing) = discovery::inline_present(facts, &config.placement.attach, &backends)?;
            return Ok((Self::of_inline(facts, found)?, missing));
        }
        match Self::onearm(facts, config.placement.host.as_deref().unwrap_or_default(), &[]) {
            Ok(placed) => Ok((placed, Vec::new())),
            Err(error) => match error.downcast_ref::<DiscoveryError>() {
                Some(DiscoveryError::HostMissing { .. } | DiscoveryError::HostWithoutNic { .. }) => {
                    let missing = vec![error.to_string()];
                    Ok((Self::nowhere(config), missing))
                }
                _ => Err(error),
            },
        }
    }

    /// A one-armed balancer whose host is not there.
    pub fn nowhere(config: &Config) -> Self {
        Self {
            ports: Vec::new(),
            senders: Vec::new(),
            backends: Vec::new(),
            switches: BTreeMap::new(),
            slots: BTreeMap::new(),
            host_pid: None,
            summary: api::Placement {
                kind: "onearm".to_owned(),
                host: config.placement.host.clone(),
                mac: None,
            },
            prober_mac: PROBER_MAC,
            warnings: Vec::new(),
        }
    }

    fn inline(facts: &Facts, attach: &[String], backends: &[IpAddr]) -> Result<Self> {
        let found = discovery::inline(facts, attach, backends)?;
        Self::of_inline(facts, found)
    }

    fn of_inline(facts: &Facts, found: discovery::Inline) -> Result<Self> {
        let mut ports = Vec::new();
        let mut warnings = Vec::new();
        for port in &found.ports {
            if let Some(qdisc) = &port.shaping {
                warnings.push(format!(
                    "{} is shaped ({qdisc}): packets to it go through the switch, not by redirect",
                    port.ifname
                ));
            }
            ports.push(inline_port(port, &facts.root));
        }
        let senders = ports.iter().filter_map(Port::sender).collect();
        Ok(Self {
            switches: numbered(&ports),
            slots: BTreeMap::new(),
            host_pid: None,
            ports,
            senders,
            backends: found.backends,
            summary: api::Placement { kind: "inline".to_owned(), host: None, mac: None },
            prober_mac: PROBER_MAC,
            warnings,
        })
    }

    fn onearm(facts: &Facts, host: &str, backends: &[IpAddr]) -> Result<Self> {
        let found = discovery::onearm(facts, host, backends)?;
        let root = facts.root.clone();
        let nic = other(&found.nic);
        let port = Port {
            name: nic.name,
            ifindex: nic.ifindex,
            ns: nic.ns,
            ns_host: Some(host.to_owned()),
            switch: found.port.switch.clone(),
            shaping: found.nic_shaping.clone(),
            host: Some(host.to_owned()),
            peer: Some(Other { name: found.port.ifname.clone(), ifindex: found.port.ifindex, ns: root }),
            native: false,
            slot: 0,
        };
        let peers = found.ports.iter().filter_map(|p| p.peer.as_ref());
        let senders = peers.map(|peer| Sender { end: other(peer), offloads: Offloads::PEER }).collect();
        let ports = vec![port];
        Ok(Self {
            switches: numbered(&ports),
            slots: BTreeMap::new(),
            host_pid: Some(found.host.pid),
            ports,
            senders,
            backends: found.backends,
            summary: api::Placement {
                kind: "onearm".to_owned(),
                host: Some(host.to_owned()),
                mac: Some(found.nic.mac.to_string()),
            },
            // The switch knows this host, and brings the answers back to it.
            prober_mac: found.nic.mac,
            warnings: Vec::new(),
        })
    }

    /// MACs whose traffic is of nobody else's interest: those that are no host's.
    pub fn prober_macs(&self) -> Vec<String> {
        if self.summary.kind == "inline" { vec![self.prober_mac.to_string()] } else { Vec::new() }
    }

    /// Gives every port a slot: the one it has, where an earlier daemon gave it one.
    pub fn assign_slots(&mut self, existing: &BTreeMap<u16, PortRecord>) -> Result<()> {
        let mut taken: Vec<u16> = Vec::new();
        for port in &mut self.ports {
            if let Some((slot, _)) = existing.iter().find(|(_, record)| record.ifindex == port.ifindex) {
                port.slot = *slot;
                taken.push(*slot);
            }
        }
        let last = u16::try_from(MAX_PORTS - 1).unwrap_or(u16::MAX);
        let mut free = (1..=last).filter(|slot| !taken.contains(slot));
        for port in self.ports.iter_mut().filter(|port| port.slot == 0) {
            port.slot =
                free.next().with_context(|| format!("more than {last} ports: name fewer with --attach"))?;
        }
        Ok(())
    }

    /// The ports' records by slot.
    pub fn records(&self) -> BTreeMap<u16, PortRecord> {
        let number = |name: &str| self.switches.get(name).copied().unwrap_or(0);
        self.ports
            .iter()
            .map(|port| {
                let switch = port.switch.as_deref().map_or(0, number);
                let flags = if port.may_be_redirected_to() { port_flag::REDIRECT } else { 0 };
                (port.slot, PortRecord { ifindex: port.ifindex, switch, flags })
            })
            .collect()
    }

    /// Changes the senders' offloads, each written down before.
    pub fn fix_offloads(&self, run_dir: &Path, record: &mut Record) -> Result<()> {
        for sender in &self.senders {
            sender.fix_offloads(run_dir, record)?;
        }
        Ok(())
    }

    /// Attaches the programs: the peers' first, since frames sent into a veth vanish without one there. The balancer
    /// only where it is the one who balances.
    pub fn attach(&mut self, dataplane: &mut DataPlane, run_dir: &Path, record: &mut Record) -> Result<()> {
        for port in &self.ports {
            port.note(record);
        }
        record.write(run_dir)?;
        for port in &self.ports {
            port.attach_peer(dataplane)?;
        }
        for port in self.ports.iter_mut().filter(|_| record.balancer == Balancer::Xdp) {
            port.attach(dataplane)?;
        }
        self.retain(dataplane)?;
        Ok(())
    }

    /// Takes the programs off interfaces that are none of these; returns the names of their pins.
    pub fn retain(&self, dataplane: &DataPlane) -> Result<Vec<String>> {
        let mut wanted: Vec<AttachPoint<'_>> = self.ports.iter().map(Port::point).collect();
        wanted.extend(self.ports.iter().filter_map(|port| port.peer.as_ref()).map(Other::point));
        dataplane.retain_links(&wanted)
    }

    /// The port with this slot.
    pub fn port(&self, slot: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.slot == slot)
    }
}

/// Whether a slot stands for the interface that it stood for with an earlier daemon: what that one found behind it
/// cannot be probed by way of another one.
pub fn is_same_port(
    before: &BTreeMap<u16, PortRecord>,
    now: &BTreeMap<u16, PortRecord>,
    interface: u32,
) -> bool {
    let ifindex = |ports: &BTreeMap<u16, PortRecord>| {
        u16::try_from(interface).ok().and_then(|slot| ports.get(&slot)).map(|port| port.ifindex)
    };
    ifindex(before).is_some() && ifindex(before) == ifindex(now)
}

impl Port {
    /// Whether it is the very same port, and not one that has its name or its index now.
    pub fn is_same(&self, other: &Self) -> bool {
        let end = |peer: &Option<Other>| peer.as_ref().map(|peer| (peer.ifindex, peer.ns.id));
        (self.ifindex, self.ns.id, &self.name) == (other.ifindex, other.ns.id, &other.name)
            && end(&self.peer) == end(&other.peer)
    }

    /// Writes the programs of the port and its peer down, in words.
    pub fn note(&self, record: &mut Record) {
        let words = |point: &AttachPoint<'_>, host: &Option<String>| {
            let place = host.as_ref().map_or_else(String::new, |host| format!(" in {host}"));
            (point.pin_name(), format!("{} on {}{place}", point.role.program(), point.name))
        };
        if record.balancer == Balancer::Xdp {
            record.programs.extend([words(&self.point(), &self.ns_host)]);
        }
        let host = if self.ns_host.is_some() { &None } else { &self.host };
        record.programs.extend(self.peer.as_ref().map(|peer| words(&peer.point(), host)));
    }

    /// Puts the pass program on the peer; before [`Self::attach`], since frames sent into a veth vanish without it.
    pub fn attach_peer(&self, dataplane: &mut DataPlane) -> Result<()> {
        if let Some(peer) = &self.peer {
            // Hosts give their interfaces names that others have, too.
            dataplane.attach(&peer.point()).with_context(|| format!("the other end of {}", self.name))?;
        }
        Ok(())
    }

    /// Puts the balancer on the port.
    pub fn attach(&mut self, dataplane: &mut DataPlane) -> Result<()> {
        self.native = dataplane.attach(&self.point())?.native;
        Ok(())
    }

    /// The name of the pin of the balancer's link.
    pub fn pin_name(&self) -> String {
        self.point().pin_name()
    }

    fn point(&self) -> AttachPoint<'_> {
        AttachPoint { ns: &self.ns, ifindex: self.ifindex, name: &self.name, role: Role::Balance }
    }

    fn may_be_redirected_to(&self) -> bool {
        self.ns_host.is_none() && self.switch.is_some() && self.shaping.is_none()
    }

    /// The other end, whose frames come in here.
    fn sender(&self) -> Option<Sender> {
        let offloads = if self.may_be_redirected_to() { Offloads::REDIRECTED } else { Offloads::PEER };
        Some(Sender { end: self.peer.clone()?, offloads })
    }

    /// As the API tells it.
    pub fn describe(&self) -> api::Interface {
        let (forward, forward_reason) = if self.ns_host.is_some() {
            ("tx", Some("one-armed: packets leave through the interface they came in on".to_owned()))
        } else if let Some(qdisc) = &self.shaping {
            ("pass", Some(format!("shaped by {qdisc}")))
        } else if self.switch.is_none() {
            ("pass", Some("it is not known which switch it belongs to".to_owned()))
        } else {
            ("redirect", None)
        };
        api::Interface {
            name: self.name.clone(),
            ifindex: self.ifindex,
            netns: self.ns_host.clone(),
            switch: self.switch.clone(),
            host: self.host.clone(),
            xdp: if self.native { "native" } else { "generic" }.to_owned(),
            forward: forward.to_owned(),
            forward_reason,
            peer: self.peer.as_ref().map(|peer| peer.name.clone()),
        }
    }
}

impl Sender {
    /// Turns the offloads off whose work XDP would not see, and on what makes redirecting cheaper, each written down
    /// before.
    pub fn fix_offloads(&self, run_dir: &Path, record: &mut Record) -> Result<()> {
        let context = || format!("cannot change offloads of {}", self.end.name);
        let ns = NetNs::open(&self.end.ns).with_context(context)?;
        let change = ethtool::plan(&ns, &self.end.name, self.offloads).with_context(context)?;
        if change.is_empty() {
            return Ok(());
        }
        record.add(change.clone());
        record.write(run_dir)?;
        ethtool::make(&ns, &change).with_context(context)
    }
}

impl Other {
    fn point(&self) -> AttachPoint<'_> {
        AttachPoint { ns: &self.ns, ifindex: self.ifindex, name: &self.name, role: Role::Pass }
    }
}

/// Numbers for the switches, in the order of their names, from 1.
fn numbered(ports: &[Port]) -> BTreeMap<String, u16> {
    let names: BTreeSet<&String> = ports.iter().filter_map(|port| port.switch.as_ref()).collect();
    names.into_iter().cloned().zip(1..).collect()
}

fn inline_port(port: &HostPort, root: &NsRef) -> Port {
    Port {
        name: port.ifname.clone(),
        ifindex: port.ifindex,
        ns: root.clone(),
        ns_host: None,
        switch: port.switch.clone(),
        shaping: port.shaping.clone(),
        host: port.peer.as_ref().map(|peer| peer.label.clone()),
        peer: port.peer.as_ref().map(other),
        native: false,
        slot: 0,
    }
}

fn other(peer: &Peer) -> Other {
    Other { name: peer.ifname.clone(), ifindex: peer.ifindex, ns: peer.ns.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_the_same_port_only_with_the_same_interface() {
        let ports = |slot, ifindex| BTreeMap::from([(slot, PortRecord { ifindex, switch: 0, flags: 0 })]);
        assert!(is_same_port(&ports(1, 10), &ports(1, 10), 1));
        assert!(!is_same_port(&ports(1, 10), &ports(1, 11), 1), "the interface was replaced");
        assert!(!is_same_port(&ports(1, 10), &ports(2, 10), 1), "no longer attached");
        assert!(!is_same_port(&ports(2, 10), &ports(2, 10), 1), "never attached");
        assert!(!is_same_port(&BTreeMap::new(), &BTreeMap::new(), 0), "unknown");
        assert!(!is_same_port(&ports(1, 10), &ports(1, 10), u32::MAX), "no slot at all");
    }
}
