//! Where the programs go: from what discovery found to what is attached.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use lb_core::host::config::{Config, PlacementKind};
use lb_core::table::{MAX_PORTS, PortRecord, port_flag};

use crate::api;
use crate::dataplane::{AttachPoint, DataPlane, Role};
use crate::io::discovery::{self, HostPort, Peer, Place};
use crate::io::ethtool::{self, Offloads};
use crate::io::facts::Facts;
use crate::io::mac::Mac;
use crate::io::netns::NetNs;

use super::record::Record;

/// An interface that takes the balancer.
#[derive(Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its namespace.
    pub ns: Arc<NetNs>,
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
#[derive(Debug)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its namespace.
    pub ns: Arc<NetNs>,
}

/// The whole placement.
#[derive(Debug)]
pub struct Placed {
    /// The interfaces that take the balancer.
    pub ports: Vec<Port>,
    /// Ends of veths whose offloads must be off: senders whose frames XDP will see.
    pub senders: Vec<Other>,
    /// Where each backend is.
    pub backends: Vec<Place>,
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
        let backends = config.backend_addresses();
        match config.placement.kind {
            PlacementKind::Inline => Self::inline(facts, &config.placement.attach, &backends),
            PlacementKind::OneArm => {
                let host =
                    config.placement.host.as_deref().context("placement onearm needs a host: --host NAME")?;
                Self::onearm(facts, host, &backends)
            }
        }
    }

    fn inline(facts: &Facts, attach: &[String], backends: &[IpAddr]) -> Result<Self> {
        let found = discovery::inline(facts, attach, backends)?;
        let root = Arc::new(NetNs::open(&facts.root)?);
        let mut ports = Vec::new();
        let mut warnings = Vec::new();
        for port in &found.ports {
            if let Some(qdisc) = &port.shaping {
                warnings.push(format!(
                    "{} is shaped ({qdisc}): packets to it go through the switch, not by redirect",
                    port.ifname
                ));
            }
            ports.push(inline_port(port, &root)?);
        }
        let senders = found.ports.iter().filter_map(|p| p.peer.as_ref()).map(other).collect::<Result<_>>()?;
        Ok(Self {
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
        let root = Arc::new(NetNs::open(&facts.root)?);
        let nic = other(&found.nic)?;
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
        let senders = found.ports.iter().filter_map(|p| p.peer.as_ref()).map(other).collect::<Result<_>>()?;
        Ok(Self {
            ports: vec![port],
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
        let mut names: Vec<&str> = self.ports.iter().filter_map(|p| p.switch.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let number =
            |name: &str| (1u16..).zip(&names).find(|(_, n)| **n == name).map_or(0, |(number, _)| number);
        self.ports
            .iter()
            .map(|port| {
                let switch = port.switch.as_deref().map_or(0, number);
                let flags = if port.may_be_redirected_to() { port_flag::REDIRECT } else { 0 };
                (port.slot, PortRecord { ifindex: port.ifindex, switch, flags })
            })
            .collect()
    }

    /// Turns the senders' offloads off, each written down before.
    pub fn fix_offloads(&self, run_dir: &Path, record: &mut Record) -> Result<()> {
        for sender in &self.senders {
            let context = || format!("cannot turn offloads of {} off", sender.name);
            let change = ethtool::plan(&sender.ns, &sender.name, Offloads::PEER).with_context(context)?;
            if change.is_empty() {
                continue;
            }
            record.add(change.clone());
            record.write(run_dir)?;
            ethtool::turn_off(&sender.ns, &change).with_context(context)?;
        }
        Ok(())
    }

    /// Attaches the programs: the peers' first, since frames sent into a veth vanish without one there.
    pub fn attach(&mut self, dataplane: &mut DataPlane, run_dir: &Path, record: &mut Record) -> Result<()> {
        let words = |point: &AttachPoint<'_>, host: &Option<String>| {
            let place = host.as_ref().map_or_else(String::new, |host| format!(" in {host}"));
            (point.pin_name(), format!("{} on {}{place}", point.role.program(), point.name))
        };
        for port in &self.ports {
            record.programs.extend([words(&port.point(), &port.ns_host)]);
            let host = if port.ns_host.is_some() { &None } else { &port.host };
            record.programs.extend(port.peer.as_ref().map(|peer| words(&peer.point(), host)));
        }
        record.write(run_dir)?;
        for port in &self.ports {
            let Some(peer) = &port.peer else { continue };
            // Hosts give their interfaces names that others have, too.
            dataplane.attach(&peer.point()).with_context(|| format!("the other end of {}", port.name))?;
        }
        for port in &mut self.ports {
            let attached = dataplane.attach(&AttachPoint {
                ns: &port.ns,
                ifindex: port.ifindex,
                name: &port.name,
                role: Role::Balance,
            })?;
            port.native = attached.native;
        }
        let mut wanted: Vec<AttachPoint<'_>> = self.ports.iter().map(Port::point).collect();
        wanted.extend(self.ports.iter().filter_map(|port| port.peer.as_ref()).map(Other::point));
        dataplane.retain_links(&wanted)?;
        Ok(())
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
    fn point(&self) -> AttachPoint<'_> {
        AttachPoint { ns: &self.ns, ifindex: self.ifindex, name: &self.name, role: Role::Balance }
    }

    fn may_be_redirected_to(&self) -> bool {
        self.ns_host.is_none() && self.switch.is_some() && self.shaping.is_none()
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

impl Other {
    fn point(&self) -> AttachPoint<'_> {
        AttachPoint { ns: &self.ns, ifindex: self.ifindex, name: &self.name, role: Role::Pass }
    }
}

fn inline_port(port: &HostPort, root: &Arc<NetNs>) -> Result<Port> {
    Ok(Port {
        name: port.ifname.clone(),
        ifindex: port.ifindex,
        ns: Arc::clone(root),
        ns_host: None,
        switch: port.switch.clone(),
        shaping: port.shaping.clone(),
        host: port.peer.as_ref().map(|peer| peer.label.clone()),
        peer: port.peer.as_ref().map(other).transpose()?,
        native: false,
        slot: 0,
    })
}

fn other(peer: &Peer) -> Result<Other> {
    let ns = NetNs::open(&peer.ns)?;
    Ok(Other { name: peer.ifname.clone(), ifindex: peer.ifindex, ns: Arc::new(ns) })
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
