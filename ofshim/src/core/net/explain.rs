//! Where would this flow go, and why? The same judgement as for a packet, without its effects.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use openflow::MacAddr;

use super::routing::{SeenFrom, Way};
use super::{FlowKey, Granularity, Network};
use crate::core::balance::LegKey;
use crate::core::forward::{DropReason, Fate, judge};
use crate::core::frame::Frame;
use crate::core::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip};
use crate::core::learn::Station;
use crate::core::topo::{Place, PortRole};
use crate::core::view;

/// The most paths that are told.
pub const MAX_PATHS: usize = 64;

/// One end of a question: a host by MAC or address, or a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A host by its MAC.
    Mac(MacAddr),
    /// A host by its address.
    Ip(IpAddr),
    /// A port of a switch.
    Place(Place),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Ip(address) => address.fmt(f),
            Self::Place(place) => place.fmt(f),
        }
    }
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = text.parse().map(Self::Mac).ok();
        let read = read.or_else(|| text.parse().map(Self::Place).ok());
        let read = read.or_else(|| text.parse().map(Self::Ip).ok());
        read.ok_or_else(|| {
            format!("\"{text}\" is no host and no port: write a MAC, an IP address, or a port as 0000000000000001:3")
        })
    }
}

/// A flow that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The host that sends.
    pub from: End,
    /// The host, or the VIP, that it sends to.
    pub to: End,
    /// VLAN id, `None` without a tag.
    pub vlan: Option<u16>,
    /// IP protocol.
    pub protocol: u8,
    /// TCP or UDP ports.
    pub ports: Option<(u16, u16)>,
}

impl Network {
    /// The hosts that an end means, the youngest first.
    fn stations(&self, end: End, vlan: Option<u16>) -> Vec<Station> {
        match end {
            End::Mac(mac) => self.hosts.with_mac(mac),
            End::Ip(address) => {
                let mut stations: Vec<Station> = self.hosts.with_address(address).collect();
                stations.sort_by_key(|station| station.vlan != vlan);
                stations
            }
            End::Place(place) => self.hosts.at(place),
        }
    }

    /// Where an end is.
    fn place_of(&self, end: End) -> Result<Place, String> {
        if let End::Place(place) = end {
            let known =
                self.members.get(&place.dpid).is_some_and(|member| member.ports.contains_key(&place.port));
            return if known { Ok(place) } else { Err(format!("no connected switch has a port {place}")) };
        }
        let station = self.stations(end, None).first().copied();
        let point = station.and_then(|station| self.hosts.get(station)?.points.last().copied());
        point
            .map(|point| point.place)
            .ok_or_else(|| format!("no host {end} is known; 'ofshim hosts' lists them"))
    }

    /// The `k` best ways from one end to another.
    ///
    /// # Errors
    /// An end is not known. One line.
    pub fn route_view(&self, from: End, to: End, k: usize) -> Result<view::Route, String> {
        let (start, end) = (self.place_of(from)?, self.place_of(to)?);
        let paths = if start.dpid == end.dpid {
            vec![(0, Vec::new())]
        } else {
            self.topology.paths(start.dpid, end.dpid, k.clamp(1, MAX_PATHS))
        };
        let way = |links: Vec<(Place, Place)>| {
            let mut at = start;
            let mut hops = Vec::new();
            for (leaves, reaches) in links {
                hops.push(hop(at, leaves.port));
                at = reaches;
            }
            hops.push(hop(at, end.port));
            hops
        };
        let paths = paths.into_iter().map(|(cost, links)| view::Path { cost, hops: way(links) });
        Ok(view::Route {
            from: start.to_string(),
            to: end.to_string(),
            metric: self.settings.metric.word().to_owned(),
            paths: paths.collect(),
        })
    }

    /// Where a flow would go, and why.
    ///
    /// # Errors
    /// Its sender is not known, or packets are not routed. One line.
    pub fn explain_view(&mut self, asked: Asked) -> Result<view::Explain, String> {
        if !self.settings.routed {
            return Err(
                "packets are not routed: switches forward one by one, 'ofshim flows' shows their entries"
                    .to_owned(),
            );
        }
        let at = self.place_of(asked.from)?;
        let frame = self.frame_of(asked)?;
        let mut why = Vec::new();
        let role = self.role(at);
        why.push(format!("topology: port {at} is {}, and may forward", describe(role)));
        let destination = self.seat(Station { mac: frame.dst, vlan: frame.vlan }, at.dpid);
        let to =
            destination.map_or_else(|| "not known in this cluster".to_owned(), |place| format!("at {place}"));
        why.push(format!("devices: {} is at {at}, {} is {to}", frame.src, frame.dst));
        let seen = SeenFrom { network: self, dpid: at.dpid };
        let fate = judge(&frame, at, &seen, &self.known, self.hint).fate;
        let vip = self.known.vip_of(frame.dst);
        let steered = self.steered_way(&frame, at);
        why.push(match (fate, vip) {
            (Fate::Drop(reason), _) => format!("balancing: dropped, {}", told(reason)),
            _ if steered.is_some() => {
                "balancing: what may answer a client of a VIP is led to the balancer".to_owned()
            }
            // What this controller balances is told below.
            _ if self.balancer().is_some_and(|balancer| balancer.is_virtual(frame.dst)) => String::new(),
            (_, Some(vip)) => format!("balancing: for VIP {vip}, so it goes to the balancer"),
            (_, None) => "balancing: neither for a VIP nor an answer to a probe".to_owned(),
        });
        let mut explained = view::Explain {
            from: at.to_string(),
            to: destination.map(|place| place.to_string()),
            ..view::Explain::default()
        };
        if self.explain_balanced(&frame, at, &mut explained, &mut why) {
            explained.why = why;
            return Ok(explained);
        }
        if let Some(way) = steered {
            self.explain_answers(&frame, at, &way, &mut explained, &mut why);
            explained.why = why;
            return Ok(explained);
        }
        match fate {
            Fate::Drop(_) => explained.outcome = "drop".to_owned(),
            Fate::Flood => {
                explained.outcome = "flood".to_owned();
                let ports = self.flood_ports(at).len();
                why.push(format!(
                    "forwarding: along the broadcast tree, here out of {ports} ports; no entry is made"
                ));
            }
            Fate::Send(to) | Fate::Install(to) => self.explain_way(&frame, at, to, &mut explained, &mut why),
        }
        explained.why = why;
        Ok(explained)
    }

    /// A flow to a VIP that this controller balances; whether it is one.
    fn explain_balanced(
        &mut self,
        frame: &Frame,
        at: Place,
        explained: &mut view::Explain,
        why: &mut Vec<String>,
    ) -> bool {
        let key = FlowKey::of(frame, Granularity::FiveTuple, true);
        let Some(balancer) = self.balancer().filter(|balancer| balancer.is_virtual(frame.dst)) else {
            return false;
        };
        why.retain(|line| !line.is_empty());
        explained.outcome = "drop".to_owned();
        let Some(told) = balancer.explain(&key) else {
            why.push("balancing: to a VIP's address, but to no port or protocol that it serves".to_owned());
            return true;
        };
        explained.installed = balancer.pins.get(&LegKey { at, came: key }).is_some();
        why.extend(told.why);
        let Some(mac) = told.backend else {
            explained.outcome = "balance".to_owned();
            return true;
        };
        let to = self.seat_of(Station { mac, vlan: frame.vlan }, at.dpid);
        let left = FlowKey { dst: mac, ..key };
        let way = to.and_then(|to| self.way_of(at, to, &left));
        explained.to = to.map(|place| place.to_string());
        match way {
            Some(way) => {
                explained.outcome = "route".to_owned();
                explained.hops = way.iter().map(|(at, out)| hop(*at, *out)).collect();
            }
            None => why.push("forwarding: there is no way to the backend".to_owned()),
        }
        true
    }

    /// Answers of a backend: led to the balancer, unless their flow has entries of its own.
    fn explain_answers(
        &self,
        frame: &Frame,
        at: Place,
        way: &Way,
        explained: &mut view::Explain,
        why: &mut Vec<String>,
    ) {
        let own = self.installed_way(&self.key_of(frame), at);
        let (way, told) = if own.is_empty() {
            explained.to = way.last().map(|(at, out)| Place::new(at.dpid, *out).to_string());
            (way, "forwarding: on entries that lead the service's packets to the balancer's port")
        } else {
            (&own, "forwarding: the flow has entries of its own: its client asked the backend, not the VIP")
        };
        why.push(told.to_owned());
        explained.outcome = "route".to_owned();
        explained.installed = true;
        explained.hops = way.iter().map(|(at, out)| hop(*at, *out)).collect();
    }

    fn explain_way(
        &mut self,
        frame: &Frame,
        at: Place,
        to: Place,
        explained: &mut view::Explain,
        why: &mut Vec<String>,
    ) {
        let key = self.key_of(frame);
        let installed: Way = self.installed_way(&key, at);
        let (way, how) = if installed.is_empty() {
            (self.plan(at, to, &key), "no entry is there yet: the first packet makes them")
        } else {
            (Some(installed), "its entries are installed")
        };
        let Some(way) = way else {
            explained.outcome = "drop".to_owned();
            return why.push("forwarding: there is no way to the destination".to_owned());
        };
        let spread = if self.settings.ecmp { "spread over equal paths" } else { "the first of equal paths" };
        let (metric, match_) = (self.settings.metric.word(), self.settings.granularity.word());
        why.push(format!(
            "forwarding: over {} switches by the metric {metric}, {spread}; entries match {match_}; {how}",
            way.len()
        ));
        explained.outcome = "route".to_owned();
        explained.installed = how.starts_with("its");
        explained.hops = way.iter().map(|(at, out)| hop(*at, *out)).collect();
    }

    /// The way that a flow's entries lead it, from a place on.
    fn installed_way(&self, key: &FlowKey, from: Place) -> Way {
        let mut way = Way::new();
        let mut at = from;
        while let Some(hop) = self.flows.hop(key, at)
            && way.len() <= self.members.len()
        {
            way.push((at, hop.out));
            let next = self.topology.links_from(Place::new(at.dpid, hop.out)).next();
            let Some((next, _)) = next else { break };
            at = next;
        }
        way
    }

    /// A frame of the flow.
    fn frame_of(&self, asked: Asked) -> Result<Frame, String> {
        let source = self.stations(asked.from, asked.vlan).first().copied();
        let source =
            source.ok_or_else(|| format!("no host {} is known; 'ofshim hosts' lists them", asked.from))?;
        let balanced = |address| {
            let vips = self.balancer().into_iter().flat_map(|balancer| balancer.plan().vips.values());
            vips.into_iter().find(|vip| vip.key.address == address).map(|vip| openflow::MacAddr(vip.mac.0))
        };
        let virtual_mac = match asked.to {
            End::Ip(address) if balanced(address).is_some() => balanced(address),
            End::Ip(IpAddr::V4(address)) => {
                self.known.vips().find(|(vip, _)| *vip == address).map(|(_, mac)| mac)
            }
            _ => None,
        };
        let target = self.stations(asked.to, asked.vlan).first().copied();
        let dst = match (virtual_mac, target, asked.to) {
            (Some(mac), _, _) | (None, None, End::Mac(mac)) => mac,
            (None, Some(target), _) => target.mac,
            (None, None, end) => return Err(format!("no host {end} is known; 'ofshim hosts' lists them")),
        };
        let vlan = asked.vlan.or(source.vlan);
        let v4 = |station: Station| {
            let addresses =
                self.hosts.get(station).map(|host| host.addresses.keys().copied().collect::<Vec<_>>());
            addresses.unwrap_or_default().into_iter().find(IpAddr::is_ipv4)
        };
        let src_ip = if let End::Ip(address) = asked.from { Some(address) } else { v4(source) };
        let dst_ip = if let End::Ip(address) = asked.to { Some(address) } else { target.and_then(v4) };
        let same = |(src, dst): &(IpAddr, IpAddr)| src.is_ipv4() == dst.is_ipv4();
        let ip = src_ip.zip(dst_ip).filter(same).map(|(src, dst)| Ip {
            src,
            dst,
            protocol: asked.protocol,
            ports: asked.ports,
            fragment: false,
            neighbour: None,
        });
        let ethertype = if ip.is_some_and(|ip| ip.src.is_ipv6()) { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        Ok(Frame { dst, src: source.mac, vlan, ethertype, arp: None, ip })
    }
}

fn hop(at: Place, out: openflow::PortNo) -> view::Hop {
    view::Hop { dpid: at.dpid.to_string(), in_port: at.port.0, out_port: out.0 }
}

fn describe(role: PortRole) -> &'static str {
    match role {
        PortRole::Edge => "an edge",
        PortRole::Tree => "a link on the broadcast tree",
        PortRole::Blocked => "a link off the broadcast tree",
        PortRole::OneWay => "a link known in one direction only",
        PortRole::Loop => "a loop back to its switch",
    }
}

fn told(reason: DropReason) -> String {
    match reason {
        DropReason::BadSource => "its source is no station".to_owned(),
        DropReason::LinkLocal => "it is for the neighbouring bridge only".to_owned(),
        DropReason::SamePort => "it would go back to its port".to_owned(),
        DropReason::ProbeReply | DropReason::StrayProbeReply => {
            "it answers a probe of the balancer".to_owned()
        }
        DropReason::Unbalanced(vip) | DropReason::VipArp(vip) => {
            format!(
                "VIP {vip} is XDP's: what reaches a switch was not balanced; 'lb explain' says what XDP does"
            )
        }
        DropReason::BalancerUnknown(vip) => format!("the one-armed balancer of VIP {vip} is not known yet"),
    }
}
