//! Answers of backends, led to the one-armed balancer.
//!
//! ```text
//!   client --> VIP ==> balancer: destination becomes the backend's --> backend
//!                          ^                                             |
//!                          '--------- entries of this module ------------'   source: the backend's, destination: the client's
//!   client <-- balancer: source becomes the VIP's
//! ```
//!
//! A balancer that translates addresses has to see the answers too, but they are addressed to the client. From the
//! backend's port to the balancer's, each switch has an entry that matches the port on the way, the backend's MAC and
//! address, and the service. What the balancer sends on has its virtual MAC as source, so no entry takes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use openflow::{DatapathId, MacAddr, Match, MatchField, PortNo, VLAN_PRESENT};

use super::key::IpKey;
use super::routing::{SeenFrom, Way};
use super::{FlowKey, Granularity, Network, Out};
use crate::core::cookie::{Purpose, Sequence};
use crate::core::event::Level;
use crate::core::forward::balancer_port;
use crate::core::frame::Frame;
use crate::core::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::core::learn::Station;
use crate::core::pipeline::Timeouts;
use crate::core::topo::Place;
use crate::core::vip::Service;

/// These entries stay until they are deleted.
const NEVER: Timeouts = Timeouts { idle_s: 0, hard_s: 0 };
/// How long entries of an earlier life stay without a reason: until backends and balancer are known again.
const FOUND_STAYS: Duration = Duration::from_secs(15);
/// The most entries of one switch.
const MAX_ENTRIES_OF_A_SWITCH: usize = 16_384;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What entries for a backend's answers match, but for the port that frames come in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswersKey {
    /// The backend's MAC.
    pub src: MacAddr,
    /// Its VLAN id, `None` for frames without a tag.
    pub vlan: Option<u16>,
    /// Its address.
    pub address: IpAddr,
    /// IP protocol: TCP or UDP.
    pub protocol: u8,
    /// Its port; `None` for all. 0 is what later fragments have in a match.
    pub port: Option<u16>,
}

impl AnswersKey {
    const fn of(service: Service, station: Station) -> Self {
        let Service { address, protocol, port } = service;
        Self { src: station.mac, vlan: station.vlan, address, protocol, port }
    }

    const fn service(&self) -> Service {
        Service { address: self.address, protocol: self.protocol, port: self.port }
    }

    /// The EtherType of its address.
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        if self.address.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 }
    }

    /// The match of an entry for frames from `in_port`.
    #[must_use]
    pub fn to_match(&self, in_port: PortNo) -> Match {
        let match_ = Match::new().in_port(in_port).eth_src(self.src).eth_type(self.ethertype());
        let match_ = match self.vlan {
            Some(vid) => match_.vlan_vid(vid),
            None => match_.no_vlan(),
        };
        let match_ = match_.ip_proto(self.protocol);
        let match_ = match self.address {
            IpAddr::V4(address) => match_.ipv4_src(address),
            IpAddr::V6(address) => match_.with(MatchField::Ipv6Src { value: address, mask: None }),
        };
        match (self.protocol, self.port) {
            (TCP, Some(port)) => match_.tcp_src(port),
            (UDP, Some(port)) => match_.with(MatchField::UdpSrc(port)),
            _ => match_,
        }
    }

    /// Reads back the match of an entry of ours, and its port; `None` for any other match.
    #[must_use]
    pub fn of_match(match_: &Match) -> Option<(Self, PortNo)> {
        let (mut in_port, mut src, mut vlan) = (None, None, None);
        let (mut address, mut protocol, mut port) = (None, None, None);
        let untagged = match_.fields.contains(&MatchField::VlanVid { value: 0, mask: None });
        for field in &match_.fields {
            match *field {
                MatchField::InPort(port) => in_port = Some(port),
                MatchField::EthSrc { value, mask: None } => src = Some(value),
                MatchField::VlanVid { value: 0, mask: None } => vlan = Some(None),
                MatchField::VlanVid { value, mask: None } if value & VLAN_PRESENT != 0 => {
                    vlan = Some(Some(value & !VLAN_PRESENT));
                }
                // Some 1.0 switches list the priority of a tag that must not be there.
                MatchField::VlanPcp(_) if untagged => {}
                MatchField::EthType(ETHERTYPE_IPV4 | ETHERTYPE_IPV6) => {}
                MatchField::IpProto(number @ (TCP | UDP)) => protocol = Some(number),
                MatchField::Ipv4Src { value, mask: None } => address = Some(value.into()),
                MatchField::Ipv6Src { value, mask: None } => address = Some(value.into()),
                MatchField::TcpSrc(number) | MatchField::UdpSrc(number) => port = Some(number),
                _ => return None,
            }
        }
        let key = Self { src: src?, vlan: vlan?, address: address?, protocol: protocol?, port };
        Some((key, in_port?))
    }
}

/// One switch's part of a way.
#[derive(Clone, Copy, Debug)]
struct Part {
    out: PortNo,
    sequence: Sequence,
    /// When it was found on its switch; `None` if this controller installed it.
    found: Option<Duration>,
}

/// What the switches have: the port that frames come in on, what they are, and where they leave.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    parts: BTreeMap<(Place, AnswersKey), Part>,
    last: Sequence,
    /// Something changed that ways depend on.
    marked: bool,
}

impl Steering {
    /// Something changed that ways depend on: they are looked at before anything is sent.
    pub(super) const fn mark(&mut self) {
        self.marked = true;
    }

    /// Forgets what a switch had: it lists it anew.
    pub(super) fn forget_switch(&mut self, dpid: DatapathId) {
        self.parts.retain(|(at, _), _| at.dpid != dpid);
    }

    /// Takes over an entry that a switch listed.
    pub(super) fn adopt(
        &mut self,
        at: Place,
        key: AnswersKey,
        out: PortNo,
        sequence: Sequence,
        now: Duration,
    ) {
        self.parts.insert((at, key), Part { out, sequence, found: Some(now) });
        self.last = self.last.max(sequence);
    }

    /// All entries: where frames come in, what they are, the port that they leave by, and the entry's number.
    pub fn iter(&self) -> impl Iterator<Item = (Place, AnswersKey, PortNo, Sequence)> {
        self.parts.iter().map(|((at, key), part)| (*at, *key, part.out, part.sequence))
    }

    fn count_of(&self, dpid: DatapathId) -> usize {
        self.parts.keys().filter(|(at, _)| at.dpid == dpid).count()
    }
}

impl Network {
    /// What a frame's entries match: all of its flow where a backend's answers are steered or balanced, so that an entry of
    /// one flow takes no answers of another, else as configured.
    #[must_use]
    pub(super) fn key_of(&self, frame: &Frame) -> FlowKey {
        let granularity =
            if self.is_fine(frame) { Granularity::FiveTuple } else { self.settings.granularity };
        FlowKey::of(frame, granularity, self.v6)
    }

    /// Whether a frame's entries have to match its flow alone.
    #[must_use]
    pub(super) fn is_fine(&self, frame: &Frame) -> bool {
        let of_service = |address: IpAddr| self.known.has_service(address);
        self.settings.granularity == Granularity::FiveTuple
            || self.balancer.is_some()
            || frame.ip.is_some_and(|ip| of_service(ip.src) || of_service(ip.dst))
    }

    /// Ends the routes from and to backends whose entries match more than one flow: they would take answers of others,
    /// and hide flows that need their own.
    pub(super) fn make_way_for_answers(&mut self) {
        let services: BTreeSet<IpAddr> = self.known.services().map(|service| service.address).collect();
        let mut coarse = BTreeSet::new();
        for address in services {
            let ethertype = if address.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
            for station in self.hosts.with_address(address) {
                coarse.extend(self.flows.of_station(station).into_iter().filter(|key| {
                    let named = |ip: IpKey| ip.src == address || ip.dst == address;
                    key.ethertype.is_none_or(|matched| matched == ethertype)
                        && key.ip.is_none_or(|ip| ip.protocol.is_none() && named(ip))
                }));
            }
        }
        for key in coarse {
            self.delete_flow(&key);
        }
    }

    /// Brings the entries up to date, where something changed that they depend on.
    pub(super) fn refresh_steering(&mut self) {
        if !std::mem::take(&mut self.steering.marked) || !self.settings.routed {
            return;
        }
        let mut ways: BTreeMap<AnswersKey, Way> = BTreeMap::new();
        let services: Vec<Service> = self.known.services().collect();
        for service in &services {
            if service.address.is_ipv6() && !self.v6 {
                continue;
            }
            let stations: Vec<Station> = self.hosts.with_address(service.address).collect();
            for station in stations {
                let key = AnswersKey::of(*service, station);
                ways.extend(self.way_of_answers(station, &key).map(|way| (key, way)));
            }
        }
        for (key, way) in &ways {
            for (at, out) in way.iter().rev() {
                self.steer(*at, *key, *out);
            }
        }
        self.end_old_ways(&ways, &services);
    }

    /// The way from a backend to the balancer. Where costs are measured it stays while it is whole: traffic that moves
    /// with the load that it makes would never come to rest.
    fn way_of_answers(&mut self, station: Station, key: &AnswersKey) -> Option<Way> {
        let points: Vec<Place> = self.hosts.get(station)?.points.iter().map(|point| point.place).collect();
        points.into_iter().find_map(|from| {
            let seen = SeenFrom { network: self, dpid: from.dpid };
            let to = balancer_port(&seen, &self.known, self.hint)?;
            let there = self.steered_from(key, from);
            let is_whole = there.last().is_some_and(|(at, out)| Place::new(at.dpid, *out) == to);
            if is_whole && self.settings.metric.is_measured() {
                return Some(there);
            }
            self.plan(from, to, &FlowKey::towards(station))
        })
    }

    /// The way that entries lead from a place on.
    fn steered_from(&self, key: &AnswersKey, from: Place) -> Way {
        let mut way = Way::new();
        let mut at = from;
        while let Some(part) = self.steering.parts.get(&(at, *key))
            && way.len() <= self.members.len()
        {
            way.push((at, part.out));
            let next = self.topology.links_from(Place::new(at.dpid, part.out)).next();
            let Some((next, _)) = next else { break };
            at = next;
        }
        way
    }

    fn steer(&mut self, at: Place, key: AnswersKey, out: PortNo) {
        let there = self.steering.parts.get(&(at, key));
        if there.is_some_and(|part| part.out == out) {
            // One that was found has its reason now.
            if let Some(part) = self.steering.parts.get_mut(&(at, key)) {
                part.found = None;
            }
            return;
        }
        let full = there.is_none() && self.steering.count_of(at.dpid) >= MAX_ENTRIES_OF_A_SWITCH;
        let Some(member) = self.members.get(&at.dpid).filter(|_| !full) else { return };
        let sequence = self.steering.last.next();
        match member.layout.add_route(Purpose::Steer, key.to_match(at.port), out, sequence, NEVER) {
            Ok(flow_mod) => {
                self.steering.last = sequence;
                self.steering.parts.insert((at, key), Part { out, sequence, found: None });
                self.out.push(Out::FlowMod { dpid: at.dpid, flow_mod: Box::new(flow_mod) });
            }
            Err(refused) => self.log(Level::Warn, format!("switch {}: {refused}", at.dpid)),
        }
    }

    /// Deletes what no way has any more. Where a way is not known now, the one that was known stays.
    fn end_old_ways(&mut self, ways: &BTreeMap<AnswersKey, Way>, services: &[Service]) {
        let now = self.now;
        let mut gone = Vec::new();
        for ((at, key), part) in &self.steering.parts {
            let wanted = match ways.get(key) {
                Some(way) => way.iter().any(|(place, _)| place == at),
                None => services.contains(&key.service()),
            };
            let waits = part.found.is_some_and(|since| now.saturating_sub(since) < FOUND_STAYS);
            if !wanted && !waits && self.members.contains_key(&at.dpid) {
                gone.push((*at, *key));
            }
        }
        for (at, key) in gone {
            self.steering.parts.remove(&(at, key));
            if let Some(member) = self.members.get(&at.dpid) {
                let flow_mod = Box::new(member.layout.delete_route(Purpose::Steer, key.to_match(at.port)));
                self.out.push(Out::FlowMod { dpid: at.dpid, flow_mod });
            }
        }
    }

    /// A switch removed an entry; if it should be there it is put back.
    pub fn steer_removed(&mut self, dpid: DatapathId, match_: &Match, sequence: Sequence) {
        let Some((key, in_port)) = AnswersKey::of_match(match_) else { return };
        let at = (Place::new(dpid, in_port), key);
        if self.steering.parts.get(&at).is_some_and(|part| part.sequence == sequence) {
            self.steering.parts.remove(&at);
            self.steering.mark();
        }
    }

    /// A switch refused an entry: it is tried again with the next sweep.
    pub fn steer_refused(&mut self, dpid: DatapathId, sequence: Sequence) {
        self.steering.parts.retain(|(at, _), part| at.dpid != dpid || part.sequence != sequence);
    }

    /// The way on which a frame is led to the balancer as an answer of a backend.
    pub(super) fn steered_way(&self, frame: &Frame, from: Place) -> Option<Way> {
        let ip = frame.ip?;
        let (port, _) = ip.ports?;
        let service = |port| Service { address: ip.src, protocol: ip.protocol, port };
        let station = Station { mac: frame.src, vlan: frame.vlan };
        [Some(port), None].into_iter().find_map(|port| {
            let way = self.steered_from(&AnswersKey::of(service(port), station), from);
            (!way.is_empty()).then_some(way)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_matched_reads_back() {
        for address in ["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()] {
            for (protocol, port) in [(TCP, Some(80)), (UDP, Some(0)), (UDP, None)] {
                for vlan in [None, Some(7)] {
                    let key = AnswersKey { src: MacAddr([2; 6]), vlan, address, protocol, port };
                    assert_eq!(AnswersKey::of_match(&key.to_match(PortNo(3))), Some((key, PortNo(3))));
                }
            }
        }
        let key = AnswersKey {
            src: MacAddr([2; 6]),
            vlan: None,
            address: IpAddr::from([10, 0, 0, 1]),
            protocol: TCP,
            port: Some(80),
        };
        let more = key.to_match(PortNo(3)).eth_dst(MacAddr([4; 6]));
        assert_eq!(AnswersKey::of_match(&more), None, "entries of routes are others");
    }
}
