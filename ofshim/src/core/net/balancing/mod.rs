//! The stage that balances, and the entries of connections along their ways.
//!
//! ```text
//!   client's switch                            switches between            backend's switch
//!   [balance] VIP -> backend, out  --------->  [route]  ---------------->  [route]           --> backend
//!   client <-- [route]             <---------  [route]  <----------------  [balance] backend -> VIP, out
//! ```
//!
//! The direction back is made with the direction there, last switch first; the first packet leaves when all switches
//! but its own have confirmed. With `dsr` only the MAC is written, and the way back is an ordinary route.

mod backends;
mod legs;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_core::conn::Side;
use lb_core::table::ConnKey;
use lb_core::{Egress, Outcome};
use openflow::{Action, BufferId, DatapathId, PacketOut, PortNo, Version};

use super::routing::Way;
use super::stages::{Context, MAX_OUTPUTS, Next};
use super::{FlowKey, FoundRoute, Granularity, Network, Out};
use crate::core::balance::{Balancer, Leg, LegKey, Replanned, is_whole, side_of_reason};
use crate::core::event::Level;
use crate::core::forward::{DropReason, Fate};
use crate::core::frame::{Frame, is_group};
use crate::core::learn::Station;
use crate::core::topo::Place;

/// What is going on between the balancer and the switches.
#[derive(Debug, Default)]
pub struct Balancing {
    /// Legs whose way may be another one now.
    touched: BTreeSet<LegKey>,
    /// Switches that refused an entry, and until when they get none.
    refusing: BTreeMap<DatapathId, Duration>,
    /// Since when it is being found out what was received, and who has not confirmed.
    proof: Option<(Duration, BTreeSet<DatapathId>)>,
    /// Up to when everything was received.
    drained: Duration,
    last_token: u64,
    tokens: BTreeMap<u64, DatapathId>,
    /// Entries that were found on switches and tell of no connection that is known yet, and since when.
    orphans: BTreeMap<LegKey, (FoundRoute, Duration)>,
    /// Switches of which it was said that they cannot serve VIPs over IPv6.
    told_v6: BTreeSet<DatapathId>,
}

/// A direction that is to be installed.
pub(super) struct Planned {
    pub key: LegKey,
    pub conn: ConnKey,
    pub side: Side,
    pub left: FlowKey,
    pub way: Way,
}

impl Network {
    /// The balancer, if this controller balances.
    #[must_use]
    pub const fn balancer(&self) -> Option<&Balancer> {
        self.balancer.as_ref()
    }

    /// Lets the balancer probe, judge and forget.
    pub(super) fn balance_tick(&mut self) {
        let now = self.now;
        self.balancing.refusing.retain(|_, until| now < *until);
        self.standing_tick();
        self.parts_tick();
        self.end_orphans();
        self.end_connections();
        self.watch();
        let Some(balancer) = &mut self.balancer else { return };
        let lines = balancer.sweep(now);
        let wakes = balancer.next_wake().is_some_and(|at| at <= now);
        for (level, text) in lines {
            self.log(level, text);
        }
        if wakes {
            self.balance_wake();
        }
    }

    fn is_usable(&self, place: Place) -> bool {
        let member = self.members.get(&place.dpid);
        member.and_then(|member| member.ports.get(&place.port)).is_some_and(|port| port.up)
    }

    /// Backends are not what they were: the entries of connections that cannot stay with theirs go at once, and their next
    /// packets are decided about anew; those whose backend is somewhere else follow it.
    pub(super) fn replanned(&mut self, replanned: &Replanned) {
        self.standing_replanned();
        self.watch();
        self.adopt_orphans();
        if replanned.backends.is_empty() {
            return;
        }
        self.end_hiding_routes();
        let Some(balancer) = &self.balancer else { return };
        let mut gone = BTreeSet::new();
        for (key, leg) in balancer.pins.iter() {
            let concerned = balancer.backend_of(&leg.conn).is_none_or(|id| replanned.backends.contains(&id));
            if !concerned {
                continue;
            }
            let backend = match leg.side {
                Side::Client => leg.left.dst,
                Side::Backend => key.came.src.unwrap_or_default(),
            };
            if balancer.may_stay(&leg.conn, backend) {
                self.balancing.touched.insert(*key);
            } else {
                gone.insert(*key);
            }
        }
        for key in gone {
            self.end_leg(&key);
        }
    }

    /// A port went down, or is up.
    pub(super) fn balance_port(&mut self, place: Place, up: bool) {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return };
        balancer.port_changed(place, up, now);
        if !up {
            let uses = |(key, leg): &(&LegKey, &Leg)| {
                key.at == place || (key.at.dpid == place.dpid && leg.out == place.port)
            };
            let touched: Vec<LegKey> = balancer.pins.iter().filter(uses).map(|(key, _)| *key).collect();
            self.balancing.touched.extend(touched);
        }
        self.balance_follow();
    }

    /// A host is somewhere else: the legs that lead to it or come from it.
    pub(super) fn balance_moved(&mut self, station: Station) {
        let Some(balancer) = &self.balancer else { return };
        let concerns =
            |(key, leg): &(&LegKey, &Leg)| leg.left.dst == station.mac || key.came.src == Some(station.mac);
        let touched: Vec<LegKey> = balancer.pins.iter().filter(concerns).map(|(key, _)| *key).collect();
        self.balancing.touched.extend(touched);
    }

    /// Whether routes with this match are a leg's, which then has to look for its way anew.
    pub(super) fn is_of_leg(&mut self, key: &FlowKey) -> bool {
        let leg = self.balancer.as_ref().and_then(|balancer| balancer.pins.with_rest(key));
        self.balancing.touched.extend(leg);
        leg.is_some()
    }

    /// A switch's connection ended: nobody waits for it.
    pub(super) fn balance_switch_lost(&mut self, dpid: DatapathId) {
        if let Some((_, waits)) = &mut self.balancing.proof {
            waits.remove(&dpid);
            self.check_proof();
        }
    }

    /// A switch does not come back.
    pub(super) fn balance_forget_switch(&mut self, dpid: DatapathId) {
        let Some(balancer) = &mut self.balancer else { return };
        for key in balancer.pins.at(dpid) {
            balancer.pins.remove(&key);
        }
    }

    /// The balancing stage, where this controller balances; `None` lets the packet go on.
    pub(super) fn balance(&mut self, context: &Context<'_>) -> Option<Next> {
        if let Some(Fate::Drop(DropReason::BadSource | DropReason::LinkLocal)) = context.decision {
            return None;
        }
        if let Some(next) = self.standing_packet(context) {
            return Some(next);
        }
        let now = self.now;
        let overflow = self.balancer.as_ref()?.overflow(now);
        let mut bytes = context.packet.data.to_vec();
        // What was cut off is not looked at, but it is counted.
        bytes.resize(bytes.len().max(usize::from(context.packet.total_len)), 0);
        for conn in overflow {
            self.let_go(&conn);
        }
        let balancer = self.balancer.as_mut()?;
        let decided = balancer.decide(&mut bytes, now);
        let reason = decided.reason;
        match decided.outcome {
            Outcome::Pass | Outcome::Next(_) if balancer.is_virtual(context.frame.dst) => {
                Some(Next::Stop("for a virtual MAC, but not for its VIP"))
            }
            Outcome::Pass | Outcome::Next(_) => None,
            Outcome::Drop => Some(Next::Stop(reason.name())),
            Outcome::Forward(_) if context.packet.data.len() < usize::from(context.packet.total_len) => {
                Some(Next::Stop("for a VIP, and cut short by the switch"))
            }
            Outcome::Forward(Egress::Transmit) => {
                self.deliver(context.at, bytes);
                Some(Next::Stop(""))
            }
            Outcome::Forward(Egress::Switch | Egress::Redirect(_)) => {
                let Some(left) = Frame::parse(&bytes) else { return Some(Next::Stop("")) };
                match side_of_reason(reason) {
                    Some(side) => Some(self.balance_flow(context, side, &left, bytes)),
                    None => Some(self.send_rewritten(context, &left, bytes)),
                }
            }
        }
    }

    /// Sends a rewritten packet on by itself: straight to where its destination is, else along the broadcast tree.
    fn send_rewritten(&mut self, context: &Context<'_>, left: &Frame, bytes: Vec<u8>) -> Next {
        let station = Station { mac: left.dst, vlan: left.vlan };
        let seat = if is_group(left.dst) { None } else { self.seat_of(station, context.at.dpid) };
        if let Some(to) = seat {
            self.deliver(to, bytes);
            return Next::Stop("");
        }
        let at = context.at;
        for ports in self.flood_ports(at).chunks(MAX_OUTPUTS) {
            let actions = ports.iter().map(|port| Action::output(*port)).collect();
            let packet =
                PacketOut { buffer_id: BufferId::NO_BUFFER, in_port: at.port, actions, data: bytes.clone() };
            self.out.push(Out::PacketOut { dpid: at.dpid, packet });
        }
        Next::Stop("")
    }

    /// Where a station is: where it was heard, or where it answered a probe.
    pub(super) fn seat_of(&self, station: Station, from: DatapathId) -> Option<Place> {
        let probed = || {
            let place = self.balancer.as_ref()?.place_of(station.mac)?;
            let near = place.dpid == from || self.topology.cluster(place.dpid) == self.topology.cluster(from);
            near.then_some(place)
        };
        self.seat(station, from).or_else(probed)
    }

    /// Sends a packet of a connection on, and sees to it that those that follow need no controller.
    fn balance_flow(&mut self, context: &Context<'_>, side: Side, left: &Frame, bytes: Vec<u8>) -> Next {
        let at = context.at;
        let of = |frame: &Frame| FlowKey::of(frame, Granularity::FiveTuple, true);
        let (came, goes) = (of(&context.frame), of(left));
        if self.balancer.as_ref().is_some_and(|balancer| balancer.is_virtual(goes.dst)) {
            return Next::Stop("for a backend that has not said yet where it is");
        }
        if left.ip.is_some_and(|ip| ip.dst.is_ipv6()) && !self.matches_v6(at.dpid) {
            let text = format!(
                "switch {}: OpenFlow 1.0 cannot match or write IPv6 addresses; packets to VIPs over IPv6 are dropped there",
                at.dpid
            );
            if self.balancing.told_v6.insert(at.dpid) {
                self.log(Level::Warn, text);
            }
            return Next::Stop("IPv6 to a VIP, at a switch that cannot match it");
        }
        // A part of a packet makes no entries, and meets none on its way.
        let station = Station { mac: left.dst, vlan: left.vlan };
        let seat = self.seat_of(station, at.dpid).filter(|_| is_whole(&context.frame));
        let Some(to) = seat else { return self.send_rewritten(context, left, bytes) };
        let Some(way) = self.way_of(at, to, &goes) else {
            return Next::Stop("there is no way to the destination");
        };
        let key = LegKey { at, came };
        let send = Out::PacketOut {
            dpid: at.dpid,
            packet: PacketOut {
                buffer_id: BufferId::NO_BUFFER,
                in_port: at.port,
                actions: way.first().map(|(_, out)| Action::output(*out)).into_iter().collect(),
                data: bytes,
            },
        };
        if self.is_fresh(&key, &goes, &way) {
            let sent = self.pending.join(&came, send);
            self.out.extend(sent);
            return Next::Stop("");
        }
        let pinned = self.balancer.as_ref().and_then(|balancer| balancer.connection_of(side, &came, &goes));
        match pinned {
            Some(conn) => self.establish_leg(Planned { key, conn, side, left: goes, way }, send),
            None => self.out.push(send),
        }
        Next::Stop("")
    }

    fn matches_v6(&self, dpid: DatapathId) -> bool {
        self.members.get(&dpid).is_some_and(|member| member.version == Version::V1_3)
    }

    /// The way to a place; back out of the same port where both ends are behind it.
    pub(super) fn way_of(&mut self, at: Place, to: Place, key: &FlowKey) -> Option<Way> {
        if at == to { Some(vec![(at, PortNo::IN_PORT)]) } else { self.plan(at, to, key) }
    }
}
