//! The balancer of POX, `misc.ip_loadbalancer`, as it was.
//!
//! ```text
//!   TCP from a server ---- remembered: entry, source becomes the VIP and the switch's MAC, to the client's port
//!                     '--- not remembered: dropped
//!   TCP to the VIP ------- remembered, server alive: entry, destination becomes that server
//!                     |--- else a server drawn at random, and remembered
//!                     '--- no server alive: warned, dropped
//!   other TCP ------------ left alone
//!   ARP ------------------ answered if it asks for the VIP, noted if a server answers, left to others in any case
//!   anything else -------- dropped, unless another application forwards it
//! ```
//!
//! A tick probes one server after the other by ARP, and nothing but a tick looks at what has come to its end. What is
//! POX's fault stays: its ARP requests come from the VIP with the lower 48 bits of the datapath id as MAC (`mn --mac`
//! gives h1 the same), servers cannot be clients of the VIP, and entries lead to a dead server until they are idle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use openflow::{Action, FlowModFlags, MacAddr, Match, MatchField, PacketInRef, PortNo, Version};

use super::Next;
use super::entry::{self, Member};
use super::memory::{Memory, Remembered};
use super::random::Random;
use super::segment::{Segment, TCP, arp_sender_mac};
use crate::core::cookie::Sequence;
use crate::core::event::Level;
use crate::core::frame::{ETHERTYPE_ARP, Frame, arp_probe, arp_reply};
use crate::core::ip::ETHERTYPE_IPV4;
use crate::core::limit::{Limiter, more};
use crate::core::net::Out;
use crate::core::pipeline::Timeouts;

/// In which all servers are probed once.
const PROBE_CYCLE: Duration = Duration::from_secs(5);
/// The least time from one probe to the next.
const LEAST_TICK: Duration = Duration::from_millis(250);
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Entries go after so many seconds without a packet, and never otherwise.
const TIMEOUTS: Timeouts = Timeouts { idle_s: 10, hard_s: 0 };

/// What a person chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address that is balanced, on every TCP port.
    pub vip: Ipv4Addr,
    /// The servers; at least one.
    pub servers: Vec<Ipv4Addr>,
    /// Where the random choice begins.
    pub seed: u64,
}

/// Where a server that is alive was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The MAC that its answer named.
    pub mac: MacAddr,
    /// The port that its answer came in on.
    pub port: PortNo,
}

/// What repeated lines are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    NoServers,
    Full,
}

/// The balancer.
#[derive(Debug)]
pub struct Pox {
    vip: Ipv4Addr,
    servers: BTreeSet<Ipv4Addr>,
    /// The servers in the order in which they are probed next.
    turn: VecDeque<Ipv4Addr>,
    live: BTreeMap<Ipv4Addr, Seat>,
    /// Servers that were asked and have not answered, and until when they may.
    outstanding: BTreeMap<Ipv4Addr, Duration>,
    memory: Memory,
    /// When the next server is probed; `None` until a switch is there.
    next_tick: Option<Duration>,
    random: Random,
    sequence: Sequence,
    limiter: Limiter<Line>,
}

impl Pox {
    /// A balancer without a switch.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            vip: settings.vip,
            servers: settings.servers.iter().copied().collect(),
            turn: settings.servers.iter().copied().collect(),
            live: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            memory: Memory::default(),
            next_tick: None,
            random: Random(settings.seed),
            sequence: Sequence::default(),
            limiter: Limiter::default(),
        }
    }

    /// The address that is balanced.
    #[must_use]
    pub const fn vip(&self) -> Ipv4Addr {
        self.vip
    }

    /// The servers, and where those are that are alive.
    pub fn servers(&self) -> impl Iterator<Item = (Ipv4Addr, Option<Seat>)> {
        self.servers.iter().map(|server| (*server, self.live.get(server).copied()))
    }

    /// How many flows are remembered.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.memory.len()
    }

    /// The entries that bring to the controller what has to be seen, where another application forwards by entries.
    #[must_use]
    pub fn show(&self, switch: &Member) -> Vec<Out> {
        let tcp = || Match::new().eth_type(ETHERTYPE_IPV4).ip_proto(TCP);
        let servers = self.servers.iter().map(|server| tcp().ipv4_src(*server));
        let matches =
            [Match::new().eth_type(ETHERTYPE_ARP), tcp().ipv4_dst(self.vip)].into_iter().chain(servers);
        matches.map(|match_| switch.flow_mod(switch.layout.show(match_))).collect()
    }

    /// The switch to balance on is ready: the first time, probing begins.
    pub fn switch_ready(&mut self, now: Duration) {
        self.next_tick.get_or_insert(now);
    }

    /// Time passed; `switch` is the switch to balance on, while it is connected. Probing goes on without it.
    pub fn tick(&mut self, switch: Option<&Member>, now: Duration, out: &mut Vec<Out>) {
        let Some(due) = self.next_tick.filter(|due| now >= *due) else { return };
        let interval = self.interval();
        let next = due + interval;
        self.next_tick = Some(if next > now { next } else { now + interval });
        self.expire(now, out);
        self.turn.rotate_left(1);
        let Some(server) = self.turn.back().copied() else { return };
        if let Some(switch) = switch {
            let mac = mac_of(switch);
            let probe = arp_probe(MacAddr::BROADCAST, mac, self.vip, server, None);
            out.push(switch.make(no_port(switch.version), PortNo::FLOOD, probe));
        }
        self.outstanding.insert(server, now + PATIENCE);
    }

    /// From one probe to the next.
    fn interval(&self) -> Duration {
        let servers = u32::try_from(self.servers.len()).unwrap_or(u32::MAX).max(1);
        (PROBE_CYCLE / servers).max(LEAST_TICK)
    }

    fn expire(&mut self, now: Duration, out: &mut Vec<Out>) {
        let late: Vec<Ipv4Addr> =
            self.outstanding.iter().filter(|(_, until)| now > **until).map(|(server, _)| *server).collect();
        for server in late {
            self.outstanding.remove(&server);
            if self.live.remove(&server).is_some() {
                out.push(Out::Log { level: Level::Warn, text: format!("Server {server} down") });
            }
        }
        let expired = self.memory.sweep(now);
        if expired > 0 {
            out.push(Out::Log { level: Level::Debug, text: format!("Expired {expired} flows") });
        }
    }

    /// Deals with a packet at the switch to balance on.
    pub fn packet_in(
        &mut self,
        switch: &Member,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        now: Duration,
        out: &mut Vec<Out>,
    ) -> Next {
        let Some(segment) = Segment::of(frame, packet.data) else {
            if frame.ethertype != ETHERTYPE_ARP {
                return Next::Drop;
            }
            self.arp(switch, packet, frame, out);
            return Next::Leave;
        };
        if self.servers.contains(&segment.tuple.src) {
            self.answer(switch, packet, frame, &segment, now, out);
        } else if segment.tuple.dst == self.vip {
            self.request(switch, packet, frame, &segment, now, out);
        } else {
            return Next::Leave;
        }
        Next::Taken
    }

    fn arp(&mut self, switch: &Member, packet: &PacketInRef<'_>, frame: &Frame, out: &mut Vec<Out>) {
        let (Some(arp), Some(mac)) = (frame.arp, arp_sender_mac(frame, packet.data)) else { return };
        if arp.is_request() && arp.target == self.vip {
            let reply = arp_reply((mac, arp.sender), (mac_of(switch), self.vip), frame.vlan);
            out.push(switch.make(packet.in_port, PortNo::IN_PORT, reply));
        }
        let answers = arp.operation == 2 && self.outstanding.remove(&arp.sender).is_some();
        let seat = Seat { mac, port: packet.in_port };
        if answers && self.live.insert(arp.sender, seat) != Some(seat) {
            out.push(Out::Log { level: Level::Info, text: format!("Server {} up", arp.sender) });
        }
    }

    /// A server's packet to a client.
    fn answer(
        &mut self,
        switch: &Member,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        segment: &Segment,
        now: Duration,
        out: &mut Vec<Out>,
    ) {
        let tuple = segment.tuple;
        let Some(known) = self.memory.get(&tuple) else {
            let text =
                format!("No client for {}:{} to {}:{}", tuple.src, tuple.src_port, tuple.dst, tuple.dst_port);
            out.push(Out::Log { level: Level::Debug, text });
            return out.extend(switch.send_on(packet, Vec::new()));
        };
        self.memory.refresh(&tuple, now);
        let actions = vec![
            Action::SetField(MatchField::EthSrc { value: mac_of(switch), mask: None }),
            Action::SetField(MatchField::Ipv4Src { value: self.vip, mask: None }),
            Action::output(known.client_port),
        ];
        self.pin(switch, packet, frame, segment, actions, out);
    }

    /// A client's packet to the VIP.
    fn request(
        &mut self,
        switch: &Member,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        segment: &Segment,
        now: Duration,
        out: &mut Vec<Out>,
    ) {
        let known = self.memory.get(&segment.tuple).map(|known| known.server);
        let known = known.and_then(|server| Some((server, *self.live.get(&server)?)));
        let Some((server, seat)) = known.or_else(|| self.pick()) else {
            if let Some(left_out) = self.limiter.allow(Line::NoServers, now) {
                out.push(Out::Log { level: Level::Warn, text: format!("No servers!{}", more(left_out)) });
            }
            return out.extend(switch.send_on(packet, Vec::new()));
        };
        if known.is_none() {
            out.push(Out::Log { level: Level::Debug, text: format!("Directing traffic to {server}") });
            let flow = Remembered { server, client_port: packet.in_port };
            if self.memory.add(segment.tuple, flow, now)
                && let Some(left_out) = self.limiter.allow(Line::Full, now)
            {
                let text = "too many flows to remember, the oldest are forgotten".to_owned();
                out.push(Out::Log { level: Level::Warn, text: text + &more(left_out) });
            }
        }
        self.memory.refresh(&segment.tuple, now);
        let actions = vec![
            Action::SetField(MatchField::EthDst { value: seat.mac, mask: None }),
            Action::SetField(MatchField::Ipv4Dst { value: server, mask: None }),
            Action::output(seat.port),
        ];
        self.pin(switch, packet, frame, segment, actions, out);
    }

    /// Any server that is alive.
    fn pick(&mut self) -> Option<(Ipv4Addr, Seat)> {
        let drawn = self.random.below(self.live.len());
        self.live.iter().nth(drawn).map(|(server, seat)| (*server, *seat))
    }

    /// An entry for the packets like this one, which takes the same way.
    fn pin(
        &mut self,
        switch: &Member,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        segment: &Segment,
        actions: Vec<Action>,
        out: &mut Vec<Out>,
    ) {
        self.sequence = self.sequence.next();
        let match_ = entry::exactly(switch.version, packet.in_port, frame, segment);
        let flags = FlowModFlags::default();
        out.push(switch.add(match_, actions.clone(), self.sequence, TIMEOUTS, flags));
        out.extend(switch.send_on(packet, actions));
    }
}

/// The MAC that the controller has for a switch: the lower 48 bits of its datapath id.
#[must_use]
pub fn mac_of(switch: &Member) -> MacAddr {
    let [_, _, mac @ ..] = switch.dpid.0.to_be_bytes();
    MacAddr(mac)
}

/// What a packet-out names as its ingress port if it has none.
const fn no_port(version: Version) -> PortNo {
    match version {
        Version::V1_0 => PortNo::ANY,
        // 1.3, 7.3.7: a real port or this one.
        Version::V1_3 => PortNo::CONTROLLER,
    }
}
