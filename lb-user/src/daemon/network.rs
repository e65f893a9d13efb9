//! A network that changes under the balancer: interfaces and hosts that go, come back, or are new.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use lb_core::host::health::Event;
use lb_core::table::{MAX_PORTS, PortRecord};

use crate::io::facts::Facts;
use crate::io::link::{Link, LinkEvent};
use crate::io::netlink::Watch;
use crate::io::netns::{NetNs, NsRef};
use crate::io::pidfd::PidFd;

use super::Daemon;
use super::place::{Placed, Port};

/// The host of the one-armed placement. Its sockets and ours keep its namespace alive, so its end has to be noticed:
/// Mininet could not make its successor while the interfaces are there.
pub struct Host {
    process: PidFd,
    links: Watch,
}

/// What happened to that host.
pub enum HostEvent {
    /// It ended.
    Ended,
    /// One of its links changed.
    Link(LinkEvent),
}

impl Host {
    /// The host in whose namespace `placed` is, if it is in one.
    pub fn of(placed: &Placed) -> Result<Option<Self>> {
        let (Some(pid), Some(port)) = (placed.host_pid, placed.ports.first()) else { return Ok(None) };
        let process = PidFd::open(pid).with_context(|| format!("cannot watch process {pid}"))?;
        Ok(Some(Self { process, links: Watch::open(&NetNs::open(&port.ns)?)? }))
    }

    /// Waits for what happens next; for ever without a host. Safe to drop and call again.
    pub async fn next(host: &mut Option<Self>) -> HostEvent {
        let Some(Self { process, links }) = host else { return std::future::pending().await };
        tokio::select! {
            () = process.ended() => HostEvent::Ended,
            event = links.next() => event.map_or(HostEvent::Ended, HostEvent::Link),
        }
    }
}

impl Daemon {
    /// A link of the root namespace changed.
    pub(super) fn link_changed(&mut self, event: &LinkEvent) -> Result<Option<u64>> {
        match event {
            LinkEvent::Changed(link) => {
                if self.is_news(link) {
                    self.lookout.soon();
                }
                let Some(interface) = self.watched_slot(link.ifindex) else { return Ok(None) };
                let up = link.up && link.carrier;
                self.event(if up { Event::LinkUp { interface } } else { Event::LinkDown { interface } })
            }
            LinkEvent::Deleted { name, ifindex } => {
                self.lookout.soon();
                let Some(interface) = self.watched_slot(*ifindex) else { return Ok(None) };
                tracing::warn!("interface {name} has gone; it is taken again when it comes back");
                self.event(Event::LinkDown { interface })
            }
            LinkEvent::Qdisc { ifindex } => {
                if self.watched_slot(*ifindex).is_some() {
                    self.lookout.soon();
                }
                Ok(None)
            }
            LinkEvent::Lost => {
                tracing::warn!("link events were lost; looking at the network again");
                self.lookout.soon();
                Ok(None)
            }
        }
    }

    /// Something happened to the host of the one-armed placement.
    pub(super) fn host_changed(&mut self, event: HostEvent) -> Result<Option<u64>> {
        let nic = self.placed.ports.first().map(|port| port.ifindex);
        match event {
            HostEvent::Ended => {
                let host = self.placed.summary.host.clone().unwrap_or_default();
                tracing::warn!("host {host} has ended; its successor is taken when it comes");
                self.lookout.soon();
                self.place_again(Placed::nowhere(&self.config), vec![format!("host {host} is not there")])
            }
            HostEvent::Link(LinkEvent::Changed(link)) if nic == Some(link.ifindex) => {
                if link.mac.is_some_and(|mac| mac != self.placed.prober_mac) {
                    self.lookout.soon();
                }
                Ok(None)
            }
            HostEvent::Link(LinkEvent::Deleted { .. } | LinkEvent::Lost) => {
                self.lookout.soon();
                Ok(None)
            }
            HostEvent::Link(_) => Ok(None),
        }
    }

    /// Whether a link may mean another placement than the present one.
    fn is_news(&self, link: &Link) -> bool {
        let peer_of = |port: &Port| port.peer.as_ref().map(|peer| peer.ifindex);
        match self.port_here(link.ifindex) {
            Some(port) => port.name != link.name || (link.is_veth() && peer_of(port) != link.peer_ifindex),
            None => link.is_veth() || self.config.placement.attach.contains(&link.name),
        }
    }

    /// The port of the root namespace with this index.
    fn port_here(&self, ifindex: u32) -> Option<&Port> {
        self.placed.ports.iter().find(|port| port.ns_host.is_none() && port.ifindex == ifindex)
    }

    /// The slot of an interface of the root namespace whose link is a backend's: with one arm the backends'
    /// links are not ours.
    fn watched_slot(&self, ifindex: u32) -> Option<u32> {
        self.port_here(ifindex).map(|port| u32::from(port.slot))
    }

    /// The network was looked at.
    pub(super) fn network_seen(&mut self, facts: &Result<Facts>) -> Result<Option<u64>> {
        let found = match facts {
            Ok(facts) => Placed::find_present(&self.config, facts),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        match found {
            Ok((found, missing)) => self.place_again(found, missing),
            Err(error) => {
                tracing::warn!("the ports stay as they are: {error:#}");
                self.lookout.later();
                Ok(None)
            }
        }
    }

    /// Goes from the present placement to `found`. What works already is not touched.
    pub(super) fn place_again(&mut self, mut found: Placed, missing: Vec<String>) -> Result<Option<u64>> {
        found.warnings.extend(missing);
        found.take_numbers(&self.placed);
        let mut wake_at = None;
        let gone: Vec<(u16, String)> = self
            .placed
            .ports
            .iter()
            .filter(|old| !found.ports.iter().any(|port| port.is_same(old)))
            .map(|old| (old.slot, old.name.clone()))
            .collect();
        for (slot, name) in &gone {
            wake_at = self.event(Event::LinkDown { interface: u32::from(*slot) })?.or(wake_at);
            self.probes.remove(*slot);
            self.dataplane.clear_port(*slot)?;
            tracing::info!("{name}: no longer a port of the balancer");
        }
        self.mend_offloads(&found)?;
        let before = self.placed.records();
        let (mut ports, mut new) = (Vec::new(), Vec::new());
        for mut port in std::mem::take(&mut found.ports) {
            if let Some(old) = self.placed.ports.iter().find(|old| old.is_same(&port)) {
                port.native = old.native;
            } else {
                if let Err(error) = self.plug_in(&mut port) {
                    tracing::warn!("{} cannot be taken yet: {error:#}", port.name);
                    found.warnings.push(format!("{} cannot be taken: {error:#}", port.name));
                    self.lookout.later();
                    continue;
                }
                new.push(port.slot);
            }
            ports.push(port);
        }
        found.ports = ports;
        self.write_ports(&found, &before)?;
        let removed = found.retain(&self.dataplane)?;
        for pin in &removed {
            self.record.take_program(pin);
        }
        if !removed.is_empty() {
            self.record.write(&self.run_dir)?;
        }
        for warning in found.warnings.iter().filter(|warning| !self.placed.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        let moved = self.placed.host_pid != found.host_pid || !gone.is_empty() || !new.is_empty();
        self.placed = found;
        if moved {
            self.begin_losses();
        }
        if before != self.placed.records() {
            // The records of the backends say where their ports are.
            self.replan()?;
        }
        if moved {
            self.host = Host::of(&self.placed).unwrap_or_else(|error| {
                tracing::debug!("the host has ended already: {error:#}");
                self.lookout.later();
                None
            });
        }
        for slot in new {
            self.announce(slot);
            wake_at = self.event(Event::LinkUp { interface: u32::from(slot) })?.or(wake_at);
        }
        Ok(wake_at)
    }

    /// Puts the programs on a port that is new, and begins to probe through it.
    fn plug_in(&mut self, port: &mut Port) -> Result<()> {
        port.note(&mut self.record);
        self.record.write(&self.run_dir)?;
        port.attach_peer(&mut self.dataplane)?;
        if self.attaches() {
            port.attach(&mut self.dataplane)?;
        }
        self.probes.add(port)
    }

    /// Writes the records of the ports that are new or changed: only now is there a program to redirect to.
    fn write_ports(
        &mut self,
        found: &Placed,
        before: &std::collections::BTreeMap<u16, PortRecord>,
    ) -> Result<()> {
        for (slot, record) in found.records() {
            if before.get(&slot) == Some(&record) {
                continue;
            }
            if let Err(error) = self.dataplane.write_port(slot, &record) {
                // It went between two looks; the next one sees it.
                tracing::debug!("port {slot}: {error:#}");
                self.lookout.soon();
            }
        }
        Ok(())
    }

    /// Changes the offloads of new senders, and sets those of former ones back.
    fn mend_offloads(&mut self, found: &Placed) -> Result<()> {
        for sender in found.senders.iter().filter(|sender| !self.placed.senders.contains(sender)) {
            if let Err(error) = sender.fix_offloads(&self.run_dir, &mut self.record) {
                tracing::warn!("{error:#}");
                self.lookout.later();
            }
        }
        let present: BTreeSet<(u32, &NsRef)> =
            found.senders.iter().map(|sender| (sender.end.ifindex, &sender.end.ns)).collect();
        self.record.restore_others(&self.run_dir, |change| present.contains(&(change.ifindex, &change.ns)))
    }

    fn announce(&self, slot: u16) {
        let Some(port) = self.placed.port(slot) else { return };
        let crate::api::Interface { name, xdp, forward, forward_reason, host, .. } = port.describe();
        let host = host.map_or_else(String::new, |host| format!(" to {host}"));
        let why = forward_reason.map_or_else(String::new, |why| format!(" ({why})"));
        tracing::info!("{name}{host}: a port of the balancer, {xdp}, {forward}{why}");
    }
}

impl Placed {
    /// Takes over slots and switch numbers: a port that is the same keeps its slot, and so does one that has the name of
    /// an earlier one, since connections remember the slot of their client.
    fn take_numbers(&mut self, old: &Self) {
        let wanted: BTreeSet<&String> = self.ports.iter().filter_map(|port| port.switch.as_ref()).collect();
        let mut switches = old.switches.clone();
        switches.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let free = (1..u16::MAX).find(|number| !switches.values().any(|taken| taken == number));
            switches.entry(name.clone()).or_insert_with(|| free.unwrap_or(0));
        }
        self.switches = switches;

        let mut slots = old.slots.clone();
        slots.extend(old.ports.iter().map(|port| (port.name.clone(), port.slot)));
        if slots.len() >= MAX_PORTS / 2 {
            slots.retain(|name, _| self.ports.iter().any(|port| port.name == *name));
        }
        let mut taken = BTreeSet::new();
        for port in &mut self.ports {
            let known = old.ports.iter().find(|other| other.is_same(port)).map(|other| other.slot);
            let slot = known.or_else(|| slots.get(&port.name).copied());
            port.slot = slot.filter(|slot| taken.insert(*slot)).unwrap_or(0);
        }
        let remembered: BTreeSet<u16> = slots.values().copied().collect();
        let last = u16::try_from(MAX_PORTS - 1).unwrap_or(u16::MAX);
        for port in self.ports.iter_mut().filter(|port| port.slot == 0) {
            let fresh = (1..=last).find(|slot| !taken.contains(slot) && !remembered.contains(slot));
            port.slot = fresh.or_else(|| (1..=last).find(|slot| !taken.contains(slot))).unwrap_or(0);
            taken.insert(port.slot);
        }
        if self.ports.iter().any(|port| port.slot == 0) {
            self.warnings
                .push(format!("more than {last} ports: the rest is left out; name those to take in attach"));
            self.ports.retain(|port| port.slot != 0);
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::api;
    use crate::io::mac::Mac;
    use crate::io::netns::NsId;

    use super::*;

    fn placed(ports: &[(&str, u32, &str)]) -> Placed {
        let ns = NsRef { id: NsId { dev: 4, ino: 1 }, path: "/proc/self/ns/net".into() };
        let port = |(name, ifindex, switch): &(&str, u32, &str)| Port {
            name: (*name).to_owned(),
            ifindex: *ifindex,
            ns: ns.clone(),
            ns_host: None,
            switch: Some((*switch).to_owned()),
            shaping: None,
            host: None,
            peer: None,
            native: true,
            slot: 0,
        };
        Placed {
            ports: ports.iter().map(port).collect(),
            senders: Vec::new(),
            backends: Vec::new(),
            switches: BTreeMap::new(),
            slots: BTreeMap::new(),
            host_pid: None,
            summary: api::Placement { kind: "inline".to_owned(), host: None, mac: None },
            prober_mac: Mac::default(),
            warnings: Vec::new(),
        }
    }

    /// Slot and switch number of each port.
    fn numbers(placed: &Placed) -> Vec<(u16, u16)> {
        placed.ports.iter().map(|port| (port.slot, placed.switches[port.switch.as_ref().unwrap()])).collect()
    }

    #[test]
    fn names_keep_their_slots_and_switches_their_numbers() {
        let nothing = placed(&[]);
        let mut first = placed(&[("s1-eth1", 10, "s1"), ("s1-eth2", 11, "s1"), ("s2-eth1", 12, "s2")]);
        first.take_numbers(&nothing);
        assert_eq!(numbers(&first), [(1, 1), (2, 1), (3, 2)]);

        // s1 goes; s2 keeps what it had, and what is new takes no slot that a name had.
        let mut second = placed(&[("s2-eth1", 12, "s2"), ("s3-eth1", 13, "s3")]);
        second.take_numbers(&first);
        assert_eq!(numbers(&second), [(3, 2), (4, 1)]);

        // Another s1 comes with other indexes, in another order, and an index is somebody else's now.
        let mut third = placed(&[
            ("s1-eth2", 10, "s1"),
            ("s1-eth1", 21, "s1"),
            ("s2-eth1", 12, "s2"),
            ("s4-eth1", 11, "s3"),
        ]);
        third.take_numbers(&second);
        assert_eq!(numbers(&third), [(2, 3), (1, 3), (3, 2), (5, 1)]);
    }

    #[test]
    fn more_ports_than_slots_are_left_out_by_name() {
        let names: Vec<String> = (0..MAX_PORTS).map(|number| format!("p{number}")).collect();
        let ports: Vec<(&str, u32, &str)> =
            names.iter().zip(1..).map(|(name, i)| (name.as_str(), i, "s1")).collect();
        let mut many = placed(&ports);
        many.take_numbers(&placed(&[]));
        assert_eq!(many.ports.len(), MAX_PORTS - 1);
        assert!(many.warnings[0].starts_with("more than 1023 ports"), "{:?}", many.warnings);
    }
}
