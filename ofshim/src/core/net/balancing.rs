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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_core::conn::Side;
use lb_core::host::health::{Destination, Station as Watched};
use lb_core::table::ConnKey;
use lb_core::{Egress, Outcome};
use openflow::{Action, BufferId, DatapathId, FlowRemoved, FlowRemovedReason, PacketOut, PortNo, Version};

use super::handover::StandBy;
use super::members::FoundKey;
use super::routing::{ON_ITS_WAY, Way};
use super::stages::{Context, MAX_OUTPUTS, Next};
use super::{FlowKey, FoundRoute, Granularity, Network, Out};
use crate::core::balance::probe::{PROBER, question, says_where};
use crate::core::balance::{BackendOrder, Balancer, Leg, LegKey, Replanned, edit, is_whole, side_of_reason};
use crate::core::cookie::{Purpose, Sequence};
use crate::core::event::Level;
use crate::core::forward::{DropReason, Fate};
use crate::core::frame::{Frame, is_group};
use crate::core::learn::Station;
use crate::core::pipeline::Timeouts;
use crate::core::topo::{Place, PortRole};

/// Seconds without a packet after which entries of connections go where those of routes never do.
const DEFAULT_IDLE_S: u16 = 60;
/// How long no entry is installed on a switch that refused one.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// How long switches have to confirm that all that they sent was read.
const PROOF_PATIENCE: Duration = Duration::from_millis(500);
/// How long entries of an earlier life stay without a reason: until their backends are known again.
const FOUND_STAYS: Duration = Duration::from_secs(15);
/// Tokens of barriers that prove what was read are from here on.
const FIRST_PROOF: u64 = 1 << 63;
/// IP protocol number of UDP.
const UDP: u8 = 17;

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

    /// Carries out an order about backends.
    ///
    /// # Errors
    /// This controller does not balance, or the order is refused. One line.
    pub fn order_backend(&mut self, order: &BackendOrder, now: Duration) -> Result<(), String> {
        let Some(balancer) = &mut self.balancer else {
            return Err("this controller does not balance: orders are for one that runs with --lb openflow, or for lb"
                .to_owned());
        };
        if balancer.follows() {
            return Err(
                "this controller balances for lb: give the order to lb, as in 'lb backend drain'".to_owned()
            );
        }
        self.now = now;
        let lines = balancer.order(order, now)?;
        for (level, text) in lines {
            self.log(level, text);
        }
        self.balance_follow();
        Ok(())
    }

    /// When the balancer has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.balancer.as_ref().and_then(Balancer::next_wake)
    }

    /// Lets the balancer probe, judge and forget.
    pub(super) fn balance_tick(&mut self) {
        let now = self.now;
        self.balancing.refusing.retain(|_, until| now < *until);
        self.standing_tick();
        self.end_orphans();
        let Some(balancer) = &mut self.balancer else { return };
        balancer.sweep(now);
        if balancer.next_wake().is_some_and(|at| at <= now) {
            self.balance_wake();
        }
    }

    /// Wakes the balancer. Where somebody is about to be taken for dead, the switches first confirm that all that they
    /// sent was read: what waits in a socket is no missed answer.
    fn balance_wake(&mut self) {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return };
        let judges = balancer.is_about_to_judge(now);
        let drained = if judges { self.balancing.drained } else { now };
        balancer.wake(drained, now);
        let waits = self
            .balancing
            .proof
            .as_ref()
            .is_some_and(|(since, _)| now.saturating_sub(*since) < PROOF_PATIENCE);
        if judges && !waits {
            self.ask_for_proof();
        }
        self.balance_follow();
    }

    fn ask_for_proof(&mut self) {
        let members: BTreeSet<DatapathId> = self.members.keys().copied().collect();
        self.balancing.tokens.clear();
        for dpid in &members {
            self.balancing.last_token += 1;
            let token = FIRST_PROOF | self.balancing.last_token;
            self.balancing.tokens.insert(token, *dpid);
            self.out.push(Out::Barrier { dpid: *dpid, token });
        }
        self.balancing.proof = Some((self.now, members));
        self.check_proof();
    }

    /// A switch confirmed; whether that was about what was read.
    pub(super) fn proved(&mut self, token: u64, now: Duration) -> bool {
        if token & FIRST_PROOF == 0 {
            return false;
        }
        if let Some(dpid) = self.balancing.tokens.remove(&token)
            && let Some((_, waits)) = &mut self.balancing.proof
        {
            waits.remove(&dpid);
            self.now = now;
            self.check_proof();
        }
        true
    }

    fn check_proof(&mut self) {
        let Some((since, waits)) = &self.balancing.proof else { return };
        if waits.is_empty() {
            let (drained, now) = (*since, self.now);
            self.balancing.proof = None;
            self.balancing.drained = drained;
            if let Some(balancer) = &mut self.balancer {
                balancer.wake(drained, now);
            }
            self.balance_follow();
        }
    }

    /// Asks what the balancer wants asked, and does what follows from what it found out.
    fn balance_follow(&mut self) {
        let now = self.now;
        loop {
            let Some(balancer) = &mut self.balancer else { return };
            let questions = balancer.take_questions();
            if questions.is_empty() {
                break;
            }
            for (backend, to) in questions {
                let sent = self.put_question(backend, to);
                if let Some(balancer) = &mut self.balancer {
                    balancer.asked(backend, sent, now);
                }
            }
        }
        let Some(balancer) = &mut self.balancer else { return };
        let (replanned, lines) = balancer.follow();
        if let Some(replanned) = replanned {
            self.replanned(&replanned);
        }
        for (level, text) in lines {
            self.log(level, text);
        }
    }

    /// Asks for a backend: where it is known to be, else at every port that may have hosts. Whether anybody was asked.
    fn put_question(&mut self, backend: Watched, to: Destination) -> bool {
        let frame = question(backend, to);
        if let Destination::Unicast(neighbour) = to {
            let place = self.balancer.as_ref().and_then(|balancer| balancer.place(neighbour.interface));
            let Some(place) = place.filter(|place| self.is_usable(*place)) else { return false };
            self.deliver(place, frame);
            return true;
        }
        self.ask_everywhere(&frame)
    }

    /// Sends a question out of every port that may have hosts; whether there is any.
    pub(super) fn ask_everywhere(&mut self, frame: &[u8]) -> bool {
        let dpids: Vec<DatapathId> = self.members.keys().copied().collect();
        let mut asked = false;
        for dpid in dpids {
            let Some(member) = self.members.get(&dpid) else { continue };
            let ports: Vec<PortNo> = member
                .ports
                .iter()
                .filter(|(port, state)| state.up && self.may_have_hosts(Place::new(dpid, **port)))
                .map(|(port, _)| *port)
                .collect();
            for ports in ports.chunks(MAX_OUTPUTS) {
                asked = true;
                let actions = ports.iter().map(|port| Action::output(*port)).collect();
                let (buffer_id, in_port) = (BufferId::NO_BUFFER, PortNo::CONTROLLER);
                let packet = PacketOut { buffer_id, in_port, actions, data: frame.to_vec() };
                self.out.push(Out::PacketOut { dpid, packet });
            }
        }
        asked
    }

    fn is_usable(&self, place: Place) -> bool {
        let member = self.members.get(&place.dpid);
        member.and_then(|member| member.ports.get(&place.port)).is_some_and(|port| port.up)
    }

    /// Whether hosts may be behind a port: no link is, or foreign switches are.
    fn may_have_hosts(&self, place: Place) -> bool {
        let edge = self.role(place) == PortRole::Edge && self.is_settled(place);
        !place.port.is_reserved() && (edge || self.topology.is_segment(place))
    }

    /// Backends are not what they were: the entries of connections that cannot stay with theirs go at once, and their next
    /// packets are decided about anew; those whose backend is somewhere else follow it.
    pub(super) fn replanned(&mut self, replanned: &Replanned) {
        self.standing_replanned();
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

    /// Something said where it is, or is a question of ours that came back; whether it ends here.
    pub(super) fn hear_backend(&mut self, context: &Context<'_>) -> bool {
        let frame = context.frame;
        let Some(balancer) = &mut self.balancer else { return false };
        if frame.src == PROBER {
            return true;
        }
        let mut ends = frame.dst == PROBER;
        if let Some((address, mac)) = says_where(&frame) {
            ends |= balancer.heard(address, mac, context.at, self.now) && frame.arp.is_none();
        }
        ends
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

    /// Whether an entry that does this is on its way to the switch.
    fn is_fresh(&self, key: &LegKey, left: &FlowKey, way: &Way) -> bool {
        let leg = self.balancer.as_ref().and_then(|balancer| balancer.pins.get(key));
        leg.is_some_and(|leg| {
            let same = leg.left == *left && way.first().is_some_and(|(_, out)| *out == leg.out);
            same && self.now.saturating_sub(leg.since) < ON_ITS_WAY
        })
    }

    /// Installs both directions of a connection, and sends the packet when all switches but its own have confirmed.
    fn establish_leg(&mut self, leg: Planned, send: Out) {
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
    pub(super) fn install_way_back(&mut self, there: &Planned) -> BTreeSet<DatapathId> {
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
    pub(super) fn install_leg(&mut self, planned: Planned) {
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
    pub(super) fn may_install(&self, key: &LegKey) -> bool {
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
    pub(super) fn end_leg(&mut self, key: &LegKey) {
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
    fn let_go(&mut self, conn: &ConnKey) {
        let legs = self.balancer.as_ref().map(|balancer| balancer.pins.of(conn)).unwrap_or_default();
        for key in legs {
            self.end_leg(&key);
        }
        if let Some(balancer) = &mut self.balancer {
            balancer.forget(conn);
        }
    }

    /// Looks for the ways of those legs anew whose ends or links changed: what is new is installed, what is over ends.
    pub(super) fn refresh_legs(&mut self) {
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

    /// A switch removed an entry of a connection.
    pub fn leg_removed(
        &mut self,
        dpid: DatapathId,
        removed: &FlowRemoved,
        sequence: Sequence,
        now: Duration,
    ) {
        let Some(balancer) = &mut self.balancer else { return };
        let Some((_, leg)) = balancer.pins.take_numbered(dpid, sequence) else {
            let same =
                |route: &FoundRoute| route.sequence == sequence && route.delete.match_ == removed.match_;
            self.balancing.orphans.retain(|key, (route, _)| key.at.dpid != dpid || !same(route));
            return;
        };
        let idle = removed.reason == FlowRemovedReason::IdleTimeout;
        // What a FIN has shortened is told by the timeout that was in force.
        if idle && leg.watches && removed.idle_timeout < leg.idle_s {
            balancer.side_ended(&leg.conn, leg.side);
        } else if idle && !balancer.pins.is_busy(&leg.conn) {
            balancer.was_idle(&leg.conn, Duration::from_secs(leg.idle_s.into()), now);
        }
    }

    /// A switch refused an entry of a connection.
    pub fn leg_refused(&mut self, dpid: DatapathId, sequence: Sequence, now: Duration) {
        self.balancing.refusing.insert(dpid, now + AFTER_REFUSAL);
        if let Some(balancer) = &mut self.balancer {
            balancer.pins.take_numbered(dpid, sequence);
        }
    }

    /// Compares the entries of connections that a switch listed with those that it should have: what is known and was not
    /// listed is forgotten, what is listed and not known waits for its backend to be known. How many stay.
    pub(super) fn reconcile_legs(&mut self, dpid: DatapathId, found: &[FoundRoute]) -> usize {
        let now = self.now;
        self.balancing.orphans.retain(|key, _| key.at.dpid != dpid);
        let stands_by = matches!(self.settings.stand_by, StandBy::Ready { .. });
        let Some(balancer) = &mut self.balancer else {
            if stands_by {
                // Whose they were balances by flow entries still, or there is an end to them soon.
                let legs = found.iter().filter_map(|route| match route.key {
                    FoundKey::Leg { came, .. } => {
                        Some((LegKey { at: Place::new(dpid, route.in_port), came }, (route.clone(), now)))
                    }
                    _ => None,
                });
                let before = self.balancing.orphans.len();
                self.balancing.orphans.extend(legs);
                return self.balancing.orphans.len() - before;
            }
            let legs = found.iter().filter(|route| matches!(route.key, FoundKey::Leg { .. }));
            let delete = |route: &FoundRoute| Out::FlowMod { dpid, flow_mod: Box::new(route.delete.clone()) };
            self.out.extend(legs.map(delete));
            return 0;
        };
        let mut missing = balancer.pins.at(dpid);
        let mut kept = 0;
        for route in found {
            let FoundKey::Leg { came, left, .. } = route.key else { continue };
            let key = LegKey { at: Place::new(dpid, route.in_port), came };
            missing.remove(&key);
            match balancer.pins.get(&key).copied() {
                Some(leg) if leg.left == left && leg.out == route.out => {
                    balancer.pins.insert(key, Leg { sequence: route.sequence, ..leg });
                }
                Some(_) => {
                    balancer.pins.remove(&key);
                    self.out.push(Out::FlowMod { dpid, flow_mod: Box::new(route.delete.clone()) });
                    continue;
                }
                None => drop(self.balancing.orphans.insert(key, (route.clone(), now))),
            }
            kept += 1;
        }
        for key in missing {
            balancer.pins.remove(&key);
        }
        self.adopt_orphans();
        kept
    }

    /// Takes over the entries that tell of a connection which may be.
    pub(super) fn adopt_orphans(&mut self) {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return };
        self.balancing.orphans.retain(|key, (route, _)| {
            let FoundKey::Leg { came, left, watches } = route.key else { return false };
            let side = balancer.side_of(&came);
            let Some(connection) = balancer.found(side, &came, &left) else { return true };
            if !balancer.adopt(&connection, now) {
                return true;
            }
            let leg = Leg {
                conn: connection.key,
                side,
                left,
                out: route.out,
                idle_s: route.idle_s,
                watches,
                rest: None,
                sequence: route.sequence,
                since: now,
            };
            balancer.pins.insert(*key, leg);
            false
        });
    }

    /// Deletes found entries of which nobody knew a connection for too long.
    fn end_orphans(&mut self) {
        self.end_orphans_after(FOUND_STAYS);
    }

    /// Deletes all found entries of which nobody knew a connection.
    pub(super) fn drop_orphans(&mut self) {
        self.end_orphans_after(Duration::ZERO);
    }

    fn end_orphans_after(&mut self, stay: Duration) {
        let now = self.now;
        let is_over = |since: Duration| now.saturating_sub(since) >= stay;
        let over = self.balancing.orphans.extract_if(.., |_, (_, since)| is_over(*since));
        for (key, (route, _)) in over {
            if self.members.contains_key(&key.at.dpid) {
                let flow_mod = Box::new(route.delete);
                self.out.push(Out::FlowMod { dpid: key.at.dpid, flow_mod });
            }
        }
    }
}

/// Whether it goes to this switch.
fn is_for(out: &Out, dpid: DatapathId) -> bool {
    matches!(out, Out::FlowMod { dpid: to, .. } if *to == dpid)
}
