//! Routes: planned over the topology, installed on all switches of the way, moved when it breaks.

use std::collections::BTreeSet;
use std::time::Duration;

use openflow::{Action, BufferId, DatapathId, PacketInRef, PacketOut, PortNo};

use super::flows::Hops;
use super::{FlowKey, Network, Out};
use crate::core::cookie::{Purpose, Sequence};
use crate::core::event::Level;
use crate::core::forward::{Seats, balancer_port};
use crate::core::learn::Station;
use crate::core::pipeline::Timeouts;
use crate::core::topo::{Place, PortRole};

/// How long an entry may take to work on its switch: packets that come meanwhile do not install it again.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A way: where frames come in at each switch, and the port that they leave by.
pub type Way = Vec<(Place, PortNo)>;

/// The hosts as they are seen from one place: where several attachment points are known, the one in its cluster.
pub struct SeenFrom<'a> {
    /// The network.
    pub network: &'a Network,
    /// The switch from which it is seen.
    pub dpid: DatapathId,
}

impl SeenFrom<'_> {
    fn is_near(&self, place: Place) -> bool {
        let topology = &self.network.topology;
        place.dpid == self.dpid || topology.cluster(place.dpid) == topology.cluster(self.dpid)
    }
}

impl Seats for SeenFrom<'_> {
    type Port = Place;

    fn port_of(&self, station: Station) -> Option<Place> {
        self.network.hosts.place_of(station, &|place| self.is_near(place))
    }

    fn port_in_any_vlan(&self, mac: openflow::MacAddr) -> Option<Place> {
        self.network.hosts.with_mac(mac).into_iter().find_map(|station| self.port_of(station))
    }
}

impl Network {
    /// The way from a place to another; `None` if there is none, or if it would go back to where it starts.
    pub(super) fn plan(&mut self, from: Place, to: Place, key: &FlowKey) -> Option<Way> {
        let spread = if self.settings.ecmp { key.spread() } else { 0 };
        let choose = |choices: usize| usize::try_from(spread % choices.max(1) as u64).unwrap_or_default();
        let links = self.topology.path(from.dpid, to.dpid, &choose)?;
        let mut way = Vec::with_capacity(links.len() + 1);
        let mut at = from;
        for (start, end) in links {
            way.push((at, start.port));
            at = end;
        }
        // A host behind foreign switches may hear what arrives at its port: then the last link has brought it there.
        if at != to || way.is_empty() {
            way.push((at, to.port));
        }
        way.iter().all(|(at, out)| at.port != *out).then_some(way)
    }

    /// Where a station is, seen from a switch; the balancer for a virtual MAC.
    pub(super) fn seat(&self, station: Station, from: DatapathId) -> Option<Place> {
        let seen = SeenFrom { network: self, dpid: from };
        if self.known.vip_of(station.mac).is_some() {
            return balancer_port(&seen, &self.known, self.hint);
        }
        seen.port_of(station)
    }

    /// Installs the way of a frame and of its answers, last switch first, and sends it on once all switches but the
    /// first have confirmed.
    pub(super) fn establish(&mut self, key: &FlowKey, way: &Way, packet: &PacketInRef<'_>) {
        let Some(((first, out), rest)) = way.split_first() else { return };
        let fresh = self
            .flows
            .hop(key, *first)
            .is_some_and(|hop| hop.out == *out && self.now.saturating_sub(hop.since) < ON_ITS_WAY);
        if fresh {
            for sent in self.sent_on(packet, first.dpid, &[*out]) {
                let sent = self.pending.join(key, sent);
                self.out.extend(sent);
            }
            return;
        }
        self.install_answers(key, way);
        for (at, out) in rest.iter().rev() {
            self.install_hop(*key, *at, *out);
        }
        let before = std::mem::take(&mut self.out);
        self.install_hop(*key, *first, *out);
        let sent = self.sent_on(packet, first.dpid, &[*out]);
        self.out.extend(sent);
        let then = std::mem::replace(&mut self.out, before);
        let others: BTreeSet<DatapathId> =
            rest.iter().map(|(at, _)| at.dpid).filter(|dpid| self.members.contains_key(dpid)).collect();
        if others.is_empty() {
            self.out.extend(then);
        } else {
            let barriers = self.pending.wait(*key, others.into_iter(), then, self.now);
            self.out.extend(barriers);
        }
    }

    /// Installs the way back. It is the same way where the frame comes from its sender's own port.
    fn install_answers(&mut self, key: &FlowKey, way: &Way) {
        let (Some(back), Some((first, _)), Some((last, out))) = (key.reversed(), way.first(), way.last())
        else {
            return;
        };
        let end = Place::new(last.dpid, *out);
        let Some(source) = key.source().and_then(|source| self.seat(source, last.dpid)) else { return };
        let answers: Way = if source == *first {
            way.iter().rev().map(|(at, out)| (Place::new(at.dpid, *out), at.port)).collect()
        } else {
            let Some(planned) = self.plan(end, source, &back) else { return };
            planned
        };
        for (at, out) in answers.iter().rev() {
            let there = self.flows.hop(&back, *at);
            let fresh = |since| self.now.saturating_sub(since) < ON_ITS_WAY;
            if !there.is_some_and(|hop| hop.out == *out && fresh(hop.since)) {
                self.install_hop(back, *at, *out);
            }
        }
    }

    /// Installs one hop, in place of one with the same match; none that would hide answers of backends.
    pub(super) fn install_hop(&mut self, key: FlowKey, at: Place, out: PortNo) {
        if self.hides_answers(&key) {
            return;
        }
        let Some(member) = self.members.get(&at.dpid) else { return };
        let layout = member.layout;
        let Some(sequence) = self.flows.install(key, at, out, self.now) else {
            *self.stops.entry("too many entries on a switch").or_default() += 1;
            return;
        };
        let timeouts =
            Timeouts { idle_s: self.settings.idle_timeout_s, hard_s: self.settings.hard_timeout_s };
        match layout.add_route(Purpose::Route, key.to_match(at.port), out, sequence, timeouts) {
            Ok(flow_mod) => self.out.push(Out::FlowMod { dpid: at.dpid, flow_mod: Box::new(flow_mod) }),
            Err(refused) => {
                self.flows.remove(&key, at);
                self.log(Level::Warn, format!("switch {}: {refused}", at.dpid));
            }
        }
    }

    /// Deletes one hop.
    pub(super) fn delete_hop(&mut self, key: &FlowKey, at: Place) {
        if self.flows.remove(key, at).is_some()
            && let Some(member) = self.members.get(&at.dpid)
        {
            let flow_mod = Box::new(member.layout.delete_route(Purpose::Route, key.to_match(at.port)));
            self.out.push(Out::FlowMod { dpid: at.dpid, flow_mod });
        }
    }

    /// Deletes all hops of a flow.
    pub(super) fn delete_flow(&mut self, key: &FlowKey) {
        let hops: Vec<Place> = self.flows.hops(key).into_iter().flat_map(Hops::keys).copied().collect();
        for at in hops {
            self.delete_hop(key, at);
        }
    }

    /// Gives a flow the way that it would get now: what is new is installed, last switch first, then what is left of
    /// the old one is deleted. Without a way it ends.
    pub(super) fn reroute(&mut self, key: &FlowKey) {
        if self.is_of_leg(key) {
            return;
        }
        let way = self.ends_of(key).and_then(|(from, to)| self.plan(from, to, key));
        let Some(way) = way else { return self.delete_flow(key) };
        for (at, out) in way.iter().rev() {
            if self.flows.hop(key, *at).is_none_or(|hop| hop.out != *out) {
                self.install_hop(*key, *at, *out);
            }
        }
        let stays =
            |at: &Place| way.iter().any(|(place, _)| place.dpid == at.dpid && (!key.by_port || place == at));
        let old: Vec<Place> = self.flows.hops(key).into_iter().flat_map(Hops::keys).copied().collect();
        for at in old.into_iter().filter(|at| !stays(at)) {
            self.delete_hop(key, at);
        }
    }

    /// Where a flow comes from and goes to: where its hosts are, or the outer ends of its hops.
    fn ends_of(&self, key: &FlowKey) -> Option<(Place, Place)> {
        let hops = self.flows.hops(key)?;
        let is_outer = |place: &Place| {
            let port = self.members.get(&place.dpid).and_then(|member| member.ports.get(&place.port));
            port.is_some_and(|port| port.up) && self.role(*place) == PortRole::Edge
        };
        let near = hops.keys().next()?.dpid;
        let from = key.source().and_then(|source| self.seat(source, near));
        let from = from.or_else(|| hops.keys().copied().find(is_outer))?;
        let to = self.seat(key.destination(), from.dpid);
        let outs = || hops.iter().map(|(at, hop)| Place::new(at.dpid, hop.out));
        Some((from, to.or_else(|| outs().find(is_outer))?))
    }

    /// A switch removed a hop.
    pub fn flow_removed(&mut self, dpid: DatapathId, match_: &openflow::Match, sequence: Sequence) {
        if let Some((key, in_port)) = FlowKey::of_match(match_) {
            self.flows.removed(&key, Place::new(dpid, in_port), sequence);
        }
    }

    /// A switch refused a hop.
    pub fn flow_refused(&mut self, dpid: DatapathId, sequence: Sequence) {
        if let Some((key, at)) = self.flows.with_sequence(dpid, sequence) {
            self.flows.remove(&key, at);
        }
    }

    /// The messages that send a packet on: whole with the message wherever it came whole, from the switch's memory
    /// only where it did not. What the switch keeps is freed either way.
    pub(super) fn sent_on(
        &mut self,
        packet: &PacketInRef<'_>,
        dpid: DatapathId,
        ports: &[PortNo],
    ) -> Vec<Out> {
        let in_port = packet.in_port;
        let send = |buffer_id, ports: &[PortNo], data| {
            let actions = ports.iter().map(|port| Action::output(*port)).collect();
            Out::PacketOut { dpid, packet: PacketOut { buffer_id, in_port, actions, data } }
        };
        let kept = packet.buffer_id != BufferId::NO_BUFFER;
        if packet.data.len() >= usize::from(packet.total_len) {
            let freed = kept.then(|| send(packet.buffer_id, &[], Vec::new()));
            let sent = (!ports.is_empty()).then(|| send(BufferId::NO_BUFFER, ports, packet.data.to_vec()));
            return freed.into_iter().chain(sent).collect();
        }
        if kept {
            return vec![send(packet.buffer_id, ports, Vec::new())];
        }
        if !ports.is_empty() {
            *self.stops.entry("cut short, and not kept by the switch").or_default() += 1;
        }
        Vec::new()
    }

    /// Sends a frame of ours, or one that came whole, out of a port.
    pub(super) fn deliver(&mut self, to: Place, data: Vec<u8>) {
        let actions = vec![Action::output(to.port)];
        let packet = PacketOut { buffer_id: BufferId::NO_BUFFER, in_port: PortNo::CONTROLLER, actions, data };
        self.out.push(Out::PacketOut { dpid: to.dpid, packet });
    }
}
