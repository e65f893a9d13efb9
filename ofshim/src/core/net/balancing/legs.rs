//! Entries of connections: installed along their ways, moved with them, and ended.

use std::collections::BTreeSet;

use lb_core::conn::Side;
use lb_core::table::ConnKey;
use openflow::{DatapathId, PortNo};

use super::Planned;
use crate::core::balance::{Leg, LegKey, edit};
use crate::core::cookie::Purpose;
use crate::core::event::Level;
use crate::core::net::routing::{ON_ITS_WAY, Way};
use crate::core::net::{FlowKey, Network, Out};
use crate::core::pipeline::Timeouts;
use crate::core::topo::{Place, PortRole};

/// Seconds without a packet after which entries of connections go where those of routes never do.
const DEFAULT_IDLE_S: u16 = 60;
/// IP protocol number of UDP.
const UDP: u8 = 17;

impl Network {
    /// Whether an entry that does this is on its way to the switch.
    pub(super) fn is_fresh(&self, key: &LegKey, left: &FlowKey, way: &Way) -> bool {
        let leg = self.balancer.as_ref().and_then(|balancer| balancer.pins.get(key));
        leg.is_some_and(|leg| {
            let same = leg.left == *left && way.first().is_some_and(|(_, out)| *out == leg.out);
            same && self.now.saturating_sub(leg.since) < ON_ITS_WAY
        })
    }

    /// Installs both directions of a connection, and sends the packet when all switches but its own have confirmed.
    pub(super) fn establish_leg(&mut self, leg: Planned, send: Out) {
        let (own, came) = (leg.key.at.dpid, leg.key.came);
        if let Some(balancer) = &mut self.balancer {
            balancer.pinned(&leg.conn);
        }
        let mut others: BTreeSet<DatapathId> = leg.way.iter().map(|(at, _)| at.dpid).collect();
        if leg.side == Side::Client {
            others.extend(self.install_way_back(&leg));
        }
        let before = std::mem::take(&mut self.out);
        self.install_leg(leg);
        let own_entries: Vec<Out> = self.out.extract_if(.., |out| is_for(out, own)).collect();
        let ahead = std::mem::replace(&mut self.out, before);
        self.out.extend(ahead);
        others.remove(&own);
        others.retain(|dpid| self.members.contains_key(dpid));
        let then: Vec<Out> = own_entries.into_iter().chain([send]).collect();
        if others.is_empty() {
            self.out.extend(then);
        } else {
            let barriers = self.pending.wait(came, others.into_iter(), then, self.now);
            self.out.extend(barriers);
        }
    }

    /// Installs the direction back, where it is not there; the switches that it passes.
    pub(in crate::core::net) fn install_way_back(&mut self, there: &Planned) -> BTreeSet<DatapathId> {
        let none = BTreeSet::new();
        let Some((last, out)) = there.way.last().copied() else { return none };
        let (Some(came), Some(left)) = (there.left.reversed(), there.key.came.reversed()) else {
            return none;
        };
        let same_port = out == PortNo::IN_PORT;
        let at = if same_port { last } else { Place::new(last.dpid, out) };
        let Some(client) = there.key.came.source() else { return none };
        let way = match self.seat(client, last.dpid) {
            _ if same_port => Some(vec![(at, PortNo::IN_PORT)]),
            Some(seat) if seat != there.key.at => self.way_of(at, seat, &left),
            _ => {
                let back = there.way.iter().rev();
                Some(back.map(|(at, out)| (Place::new(at.dpid, *out), at.port)).collect())
            }
        };
        let Some(way) = way else { return none };
        let switches = way.iter().map(|(at, _)| at.dpid).collect();
        if edit::fields(&came, &left).len() <= 1 {
            self.install_route_back(came, &way);
            return switches;
        }
        let key = LegKey { at, came };
        if !self.is_fresh(&key, &left, &way) {
            self.install_leg(Planned { key, conn: there.conn, side: Side::Backend, left, way });
        }
        switches
    }

    /// With `dsr` backends answer as the VIP: their answers take an ordinary route.
    fn install_route_back(&mut self, came: FlowKey, way: &Way) {
        for (at, out) in way.iter().rev() {
            let fresh = self
                .flows
                .hop(&came, *at)
                .is_some_and(|hop| hop.out == *out && self.now.saturating_sub(hop.since) < ON_ITS_WAY);
            if !fresh {
                self.install_hop(came, *at, *out);
            }
        }
    }

    /// Installs one direction: what leads on behind it, last switch first, then the entry that rewrites.
    pub(in crate::core::net) fn install_leg(&mut self, planned: Planned) {
        let Planned { key, conn, side, left, way } = planned;
        let Some(((_, out), rest)) = way.split_first() else { return };
        if !self.may_install(&key) {
            *self.stops.entry("too many entries on a switch").or_default() += 1;
            return;
        }
        let behind = (!rest.is_empty()).then(|| if self.v6 { left } else { self.coarse(&left) });
        if let Some(behind) = behind {
            for (at, out) in rest.iter().rev() {
                let there = self.flows.hop(&behind, *at).is_some_and(|hop| hop.out == *out);
                if !there {
                    self.install_hop(behind, *at, *out);
                }
            }
        }
        let Some(member) = self.members.get(&key.at.dpid) else { return };
        let (layout, watches) = (member.layout, member.nicira);
        let idle_s = self.idle_s(&key.came);
        let Some(balancer) = &mut self.balancer else { return };
        let sequence = balancer.pins.next_number();
        let actions = edit::actions(&key.came, &left, *out, watches);
        let timeouts = Timeouts { idle_s, hard_s: 0 };
        match layout.add_with(Purpose::Balance, key.came.to_match(key.at.port), actions, sequence, timeouts) {
            Ok(flow_mod) => {
                let (since, out) = (self.now, *out);
                let leg = Leg { conn, side, left, out, idle_s, watches, rest: behind, sequence, since };
                balancer.pins.insert(key, leg);
                self.out.push(Out::FlowMod { dpid: key.at.dpid, flow_mod: Box::new(flow_mod) });
            }
            Err(refused) => self.log(Level::Warn, format!("switch {}: {refused}", key.at.dpid)),
        }
    }

    /// Whether a switch takes an entry more, as far as it is known.
    pub(in crate::core::net) fn may_install(&self, key: &LegKey) -> bool {
        !self.balancing.refusing.contains_key(&key.at.dpid) && self.can_hold(key)
    }

    fn can_hold(&self, key: &LegKey) -> bool {
        let pins = self.balancer.as_ref().map(|balancer| &balancer.pins);
        pins.is_some_and(|pins| pins.get(key).is_some() || pins.has_room(key.at.dpid))
    }

    /// What switches between match of a flow where one of them cannot match IPv6.
    fn coarse(&self, key: &FlowKey) -> FlowKey {
        let v6 = key.ip.is_some_and(|ip| ip.dst.is_ipv6());
        FlowKey { ip: key.ip.filter(|_| !v6), ..*key }
    }

    /// Seconds without a packet after which an entry of a connection goes: a person's, and never more than the
    /// connection itself is remembered.
    fn idle_s(&self, came: &FlowKey) -> u16 {
        let limits = self.balancer.as_ref().map(|balancer| &balancer.config().connections);
        let udp = came.ip.and_then(|ip| ip.protocol) == Some(UDP);
        let limit = limits.map_or(u32::MAX, |limits| if udp { limits.udp_s } else { limits.established_s });
        let wanted = match self.settings.idle_timeout_s {
            0 => DEFAULT_IDLE_S,
            idle_s => idle_s,
        };
        wanted.min(u16::try_from(limit).unwrap_or(u16::MAX)).max(1)
    }

    /// Ends a direction of a connection: its entry is deleted, and what led on behind it.
    pub(in crate::core::net) fn end_leg(&mut self, key: &LegKey) {
        let Some(leg) = self.balancer.as_mut().and_then(|balancer| balancer.pins.remove(key)) else { return };
        if let Some(member) = self.members.get(&key.at.dpid) {
            let match_ = key.came.to_match(key.at.port);
            let flow_mod = Box::new(member.layout.delete_route(Purpose::Balance, match_));
            self.out.push(Out::FlowMod { dpid: key.at.dpid, flow_mod });
        }
        if let Some(rest) = leg.rest {
            self.delete_flow(&rest);
        }
    }

    /// Lets go of a connection, with its entries.
    pub(super) fn let_go(&mut self, conn: &ConnKey) {
        let legs = self.balancer.as_ref().map(|balancer| balancer.pins.of(conn)).unwrap_or_default();
        for key in legs {
            self.end_leg(&key);
        }
        if let Some(balancer) = &mut self.balancer {
            balancer.forget(conn);
        }
    }

    /// Looks for the ways of those legs anew whose ends or links changed: what is new is installed, what is over ends.
    pub(in crate::core::net) fn refresh_legs(&mut self) {
        if self.balancing.touched.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.balancing.touched) {
            let Some(leg) = self.balancer.as_ref().and_then(|balancer| balancer.pins.get(&key)).copied()
            else {
                continue;
            };
            // What a lost switch has is looked at when it is back.
            if !self.members.contains_key(&key.at.dpid) {
                continue;
            }
            let station = leg.left.destination();
            let from_elsewhere = key.came.source().and_then(|source| self.seat_of(source, key.at.dpid));
            let stays =
                self.is_usable(key.at) && from_elsewhere.is_none_or(|place| self.leads_from(place, key.at));
            let to = self.seat_of(station, key.at.dpid).filter(|_| stays);
            let way = to.and_then(|to| self.way_of(key.at, to, &leg.left));
            match way {
                Some(way) if self.is_there(&leg, &way) => {}
                // A new controller finds entries before it knows all hosts.
                None if stays && to.is_none() && self.is_alive(&key, &leg) => {}
                Some(way) => {
                    if let Some(rest) = leg.rest {
                        self.end_old_rest(&rest, &way);
                    }
                    let Leg { conn, side, left, .. } = leg;
                    self.install_leg(Planned { key, conn, side, left, way });
                }
                None => self.end_leg(&key),
            }
        }
    }

    /// Whether packets of a host at `place` come in at `at`: it is there, or `at` has a link.
    fn leads_from(&self, place: Place, at: Place) -> bool {
        place == at || self.role(at) != PortRole::Edge
    }

    /// Whether all ports that a leg leaves by are up.
    fn is_alive(&self, key: &LegKey, leg: &Leg) -> bool {
        let rest = leg.rest.and_then(|rest| self.flows.hops(&rest)).into_iter().flatten();
        let out = |port| if port == PortNo::IN_PORT { key.at.port } else { port };
        self.is_usable(Place::new(key.at.dpid, out(leg.out)))
            && rest.into_iter().all(|(at, hop)| self.is_usable(Place::new(at.dpid, hop.out)))
    }

    /// Whether a leg takes this way already.
    fn is_there(&self, leg: &Leg, way: &Way) -> bool {
        let Some(((_, out), rest)) = way.split_first() else { return false };
        let behind = |(at, out): &(Place, PortNo)| {
            leg.rest.is_some_and(|key| self.flows.hop(&key, *at).is_some_and(|hop| hop.out == *out))
        };
        leg.out == *out && (rest.is_empty() == leg.rest.is_none()) && rest.iter().all(behind)
    }

    /// Deletes what leads elsewhere behind a leg than its new way does.
    fn end_old_rest(&mut self, rest: &FlowKey, way: &Way) {
        let hops: Vec<Place> =
            self.flows.hops(rest).into_iter().flat_map(|hops| hops.keys().copied()).collect();
        for at in hops {
            let stays = way.iter().skip(1).any(|(place, _)| *place == at);
            if !stays {
                self.delete_hop(rest, at);
            }
        }
    }
}

/// Whether it goes to this switch.
fn is_for(out: &Out, dpid: DatapathId) -> bool {
    matches!(out, Out::FlowMod { dpid: to, .. } if *to == dpid)
}
