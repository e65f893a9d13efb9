//! The pipeline that every packet-in passes, in one order for all; each stage may stop it.

use std::net::IpAddr;

use openflow::{DatapathId, PacketInRef, PortNo};

use super::hosts::Learned;
use super::proxy::ASKER;
use super::routing::SeenFrom;
use super::{FlowKey, Network, Out};
use crate::core::balance::probe::PROBER;
use crate::core::discover::{self, Fate as Heard, is_discovery};
use crate::core::entries::Key;
use crate::core::event::Level;
use crate::core::forward::{DropReason, Fate, judge};
use crate::core::frame::{ETHERTYPE_ARP, Frame, is_group, is_station};
use crate::core::ip::Neighbour;
use crate::core::learn::Station;
use crate::core::topo::{Place, PortRole};

/// A packet-in on its way through the stages, and what they found out about it.
pub struct Context<'a> {
    /// Where it came in.
    pub at: Place,
    /// The frame's headers.
    pub frame: Frame,
    /// The message.
    pub packet: PacketInRef<'a>,
    /// What its port is to the network; from the topology on.
    pub role: PortRole,
    /// The host that sent it, if it is known; from the devices on.
    pub source: Option<Station>,
    /// Where its destination is attached; from the devices on.
    pub destination: Option<Place>,
    /// Where it goes. Whoever sets it decides; forwarding obeys.
    pub decision: Option<Fate<Place>>,
}

/// What a stage says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next stage goes on.
    Continue,
    /// The packet has been dealt with, or goes nowhere; why.
    Stop(&'static str),
}

/// A stage: its name, and what it does.
pub type Stage = (&'static str, fn(&mut Network, &mut Context<'_>) -> Next);

/// All stages, in order. What judges hosts (a firewall) belongs between the devices and balancing.
pub const STAGES: [Stage; 5] = [
    ("link discovery", Network::stage_discovery),
    ("topology", Network::stage_topology),
    ("devices", Network::stage_devices),
    ("balancing", Network::stage_balancing),
    ("forwarding", Network::stage_forwarding),
];

/// The most outputs in one message; its length is 16 bits.
pub(super) const MAX_OUTPUTS: usize = 2000;

/// The stages that all ways of forwarding share.
const SHARED_STAGES: usize = 2;

/// What is left to do with a packet-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Nothing.
    Done,
    /// Forwarding by one switch at a time, which is another application's.
    Yours,
}

impl Network {
    /// Takes a packet-in through the stages, and what waited for it.
    pub fn packet_in(
        &mut self,
        dpid: DatapathId,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        now: std::time::Duration,
    ) -> Admitted {
        self.now = now;
        let admitted = self.pass_stages(dpid, packet, frame);
        self.go_on_with_parts();
        admitted
    }

    pub(super) fn pass_stages(
        &mut self,
        dpid: DatapathId,
        packet: &PacketInRef<'_>,
        frame: &Frame,
    ) -> Admitted {
        let at = Place::new(dpid, packet.in_port);
        if self.watched(at, packet, frame) {
            return Admitted::Done;
        }
        let mut context = Context {
            at,
            frame: *frame,
            packet: *packet,
            role: PortRole::Edge,
            source: None,
            destination: None,
            decision: None,
        };
        let stages = if self.settings.routed { &STAGES[..] } else { &STAGES[..SHARED_STAGES] };
        for (_, stage) in stages {
            if let Next::Stop(why) = stage(self, &mut context) {
                if !why.is_empty() {
                    *self.stops.entry(why).or_default() += 1;
                }
                let freed = self.sent_on(&context.packet, dpid, &[]);
                self.out.extend(freed);
                return Admitted::Done;
            }
        }
        if self.settings.routed { Admitted::Done } else { Admitted::Yours }
    }

    fn stage_discovery(&mut self, context: &mut Context<'_>) -> Next {
        if !is_discovery(context.frame.ethertype) {
            return Next::Continue;
        }
        let Some(discovery) = &mut self.discovery else { return Next::Continue };
        let members = &self.members;
        let control = |dpid: DatapathId| members.get(&dpid).map(|member| member.control).unwrap_or_default();
        let hosts = &self.hosts;
        let fate = discovery.heard(
            context.packet.data,
            context.at,
            &control,
            &|place| hosts.is_any_at(place),
            self.now,
        );
        self.after_discovery();
        match fate {
            Heard::Counted => Next::Stop(""),
            Heard::Foreign => Next::Stop("LLDP of others"),
            Heard::Forged | Heard::Replayed | Heard::Relayed => {
                let what = match fate {
                    discover::Fate::Forged => "forged",
                    discover::Fate::Replayed => "old",
                    _ => "passed on by a host",
                };
                self.log(Level::Debug, format!("port {}: a discovery frame was {what}", context.at));
                Next::Stop("discovery frames that prove nothing")
            }
        }
    }

    fn stage_topology(&mut self, context: &mut Context<'_>) -> Next {
        context.role = self.role(context.at);
        let group = is_group(context.frame.dst);
        match context.role {
            PortRole::Edge if !self.is_settled(context.at) => Next::Stop("the port is not settled"),
            PortRole::Blocked if !self.settings.routed => Next::Stop("at a port off the broadcast tree"),
            PortRole::OneWay => Next::Stop("the port's link is known in one direction only"),
            PortRole::Loop => Next::Stop("the port leads back to its switch"),
            PortRole::Blocked if group => Next::Stop("broadcast at a port off the broadcast tree"),
            PortRole::Edge | PortRole::Tree | PortRole::Blocked => Next::Continue,
        }
    }

    fn stage_devices(&mut self, context: &mut Context<'_>) -> Next {
        let frame = context.frame;
        let at = context.at;
        let onearm = self.known.placement().is_onearm();
        let of_balancer = onearm && self.known.vip_of(frame.src).is_some() && context.role == PortRole::Edge;
        if of_balancer && self.hint.replace(at) != Some(at) {
            self.steering.mark();
        }
        let station = Station { mac: frame.src, vlan: frame.vlan };
        if frame.dst == ASKER {
            if is_station(frame.src) && self.may_be_attached(station, context) {
                self.learn(station, context);
            }
            return Next::Stop("");
        }
        if self.hear_backend(context) {
            if is_station(frame.src) && frame.src != PROBER && self.may_be_attached(station, context) {
                self.learn(station, context);
            }
            return Next::Stop("");
        }
        let seen = SeenFrom { network: self, dpid: at.dpid };
        let verdict = judge(&frame, at, &seen, &self.known, self.hint);
        context.decision = Some(verdict.fate);
        let is_virtual = self.balancer.as_ref().is_some_and(|balancer| balancer.is_virtual(frame.src));
        if verdict.learn && !is_virtual && self.may_be_attached(station, context) {
            self.learn(station, context);
        }
        context.source = self.hosts.get(station).map(|_| station);
        context.destination = self.seat(Station { mac: frame.dst, vlan: frame.vlan }, at.dpid);
        Next::Continue
    }

    /// Whether a host can be attached where its frame came in: at an edge, or across foreign switches if it is not
    /// known to be somewhere else.
    fn may_be_attached(&self, station: Station, context: &Context<'_>) -> bool {
        let at = context.at;
        let known_port = self.members.get(&at.dpid).is_some_and(|member| member.ports.contains_key(&at.port));
        if !known_port || context.role == PortRole::Edge {
            return known_port;
        }
        if context.role != PortRole::Tree || !self.topology.is_segment(at) {
            return false;
        }
        match self.seat(station, at.dpid) {
            None => true,
            Some(place) if place == at => true,
            // Behind the same foreign switches it has one place, the first; an edge goes before them.
            Some(place) => self.topology.is_segment(place) && !self.topology.share_segment(place, at),
        }
    }

    fn learn(&mut self, station: Station, context: &Context<'_>) {
        let (topology, at) = (&self.topology, context.at);
        let cluster = topology.cluster(at.dpid);
        let same = |place: Place| place.dpid == at.dpid || topology.cluster(place.dpid) == cluster;
        let learned = self.hosts.learn(station, at, &same, self.now);
        if matches!(learned, Learned::New | Learned::Moved { .. }) {
            self.steering.mark();
        }
        match learned {
            Learned::Same => {}
            Learned::New => {
                self.log(Level::Debug, format!("host {} is at {at}", station.mac));
                self.refresh_ahead(station);
            }
            Learned::Moved { from } => {
                self.out.push(Out::Moved { station, from, to: at });
                for key in self.flows.of_station(station) {
                    self.reroute(&key);
                }
                self.balance_moved(station);
                self.refresh_ahead(station);
            }
            Learned::Full => {
                *self.stops.entry("too many hosts behind a switch to learn more").or_default() += 1;
            }
        }
        self.note_addresses(station, &context.frame);
    }

    fn note_addresses(&mut self, station: Station, frame: &Frame) {
        if let Some(sender) = frame.arp.map(|arp| arp.sender)
            && !sender.is_unspecified()
            && !self.known.is_vip(sender)
        {
            self.note_address(station, sender.into());
        }
        let Some(ip) = frame.ip else { return };
        let named = match ip.neighbour {
            Some(Neighbour::Advertisement { target, .. }) => Some(IpAddr::from(target)),
            Some(Neighbour::Solicitation { .. }) => Some(ip.src),
            None => None,
        };
        let is_vip = |address| self.balancer.as_ref().is_some_and(|balancer| balancer.is_vip(address));
        if let Some(address) = named.filter(|address| !address.is_unspecified() && !is_vip(*address)) {
            self.note_address(station, address);
        }
    }

    fn note_address(&mut self, station: Station, address: IpAddr) {
        let before = self.hosts.owner(address, station.vlan).map(|(owner, _)| owner);
        self.hosts.note_address(station, address, self.now);
        if before != Some(station) && self.known.has_service(address) {
            self.steering.mark();
            self.make_way_for_answers();
        }
    }

    fn stage_balancing(&mut self, context: &mut Context<'_>) -> Next {
        if let Some(next) = self.wait_for_hosts(context) {
            return next;
        }
        if self.waits_for_first(context) {
            return Next::Stop("");
        }
        if let Some(next) = self.balance(context) {
            return next;
        }
        if let Some(next) = self.watch_for_vips(context) {
            return next;
        }
        if let Some(Fate::Drop(reason)) = context.decision {
            return self.drop(context, reason);
        }
        // What asks for a VIP has been decided above; the rest may be answered from knowledge.
        if self.settings.proxy && self.answer(context) {
            return Next::Stop("");
        }
        Next::Continue
    }

    fn drop(&mut self, context: &Context<'_>, reason: DropReason) -> Next {
        let frame = &context.frame;
        if reason.wants_entry() {
            let key = Key { in_port: context.at.port, vlan: frame.vlan, src: frame.src, dst: frame.dst };
            self.out.push(Out::Hold { dpid: context.at.dpid, key });
        }
        self.out.push(Out::Dropped { at: context.at, reason });
        Next::Stop(match reason {
            DropReason::BadSource => "the source is no station",
            DropReason::LinkLocal => "for the neighbouring bridge only",
            DropReason::SamePort => "would go back to its port",
            DropReason::ProbeReply | DropReason::StrayProbeReply => "answers a probe of the balancer",
            DropReason::Unbalanced(_) | DropReason::VipArp(_) => "for a VIP, and XDP is not attached",
            DropReason::BalancerUnknown(_) => "for a VIP, and the balancer is not known yet",
        })
    }

    fn stage_forwarding(&mut self, context: &mut Context<'_>) -> Next {
        match context.decision.unwrap_or(Fate::Flood) {
            Fate::Drop(reason) => self.drop(context, reason),
            Fate::Flood => self.flood(context),
            Fate::Send(to) => self.send_whole(context, to),
            Fate::Install(to) if context.frame.ethertype == ETHERTYPE_ARP => self.send_whole(context, to),
            Fate::Install(to) if self.hides_answers(&self.key_of(&context.frame)) => {
                self.send_whole(context, to)
            }
            Fate::Install(to) => self.forward(context, to),
        }
    }

    /// Sends a frame along the broadcast tree.
    fn flood(&mut self, context: &Context<'_>) -> Next {
        if context.role == PortRole::Blocked {
            return Next::Stop("unknown destination at a port off the broadcast tree");
        }
        let ports = self.flood_ports(context.at);
        for ports in ports.chunks(MAX_OUTPUTS) {
            let sent = self.sent_on(&context.packet, context.at.dpid, ports);
            self.out.extend(sent);
        }
        Next::Continue
    }

    /// Sends one frame straight to where it belongs, without entries. Not through foreign switches: they would learn
    /// its sender on a way that is not its own.
    fn send_whole(&mut self, context: &Context<'_>, to: Place) -> Next {
        let packet = &context.packet;
        let crosses = self.topology.is_segment(to) || self.topology.is_segment(context.at);
        if !crosses && packet.data.len() >= usize::from(packet.total_len) {
            let freed = self.sent_on(packet, context.at.dpid, &[]);
            self.out.extend(freed);
            self.deliver(to, packet.data.to_vec());
            return Next::Continue;
        }
        self.forward(context, to)
    }

    /// Sends a frame along a route, which those that follow take without the controller.
    fn forward(&mut self, context: &Context<'_>, to: Place) -> Next {
        let key = self.key_of(&context.frame);
        let Some(way) = self.plan(context.at, to, &key) else {
            return Next::Stop("there is no way to the destination");
        };
        let is_ahead = self.settings.proactive && self.known.vip_of(context.frame.dst).is_none();
        let hides = self.hides_answers(&key)
            || (self.is_fine(&context.frame) && FlowKey::hides_others(&context.frame));
        if is_ahead || hides {
            // Its way is there already, or each switch of the way asks for itself.
            let out: Vec<PortNo> = way.first().map(|(_, out)| *out).into_iter().collect();
            let sent = self.sent_on(&context.packet, context.at.dpid, &out);
            self.out.extend(sent);
            return Next::Continue;
        }
        self.establish(&key, &way, &context.packet);
        Next::Continue
    }
}
