//! The balancer of the NOX article, repaired: connections take entries, and nothing is kept for ever.
//!
//! ```text
//!   ARP and IPv4 sources ----------> IP -> hosts (MAC, port); asked when silent, forgotten after the age
//!   SYN to a known IP -------------> the next of its hosts, and two entries:
//!                                    client -> VIP:  destination MAC = that host's, to its port
//!                                    host -> client: source MAC = the one that the client knows, to the client's port
//!   TCP of a known connection -----> where it was, entries again; so a SYN that is sent again stays where it was
//!   bridges' own frames, LLDP -----> dropped
//!   anything else -----------------> flooded
//! ```
//!
//! A connection is known for the age after its last packet, its entries go sooner. A host that is silent for the age, or
//! whose port goes down, takes its connections along, so that no turn and no SYN sent again goes to a dead one.

mod connections;
mod hosts;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use openflow::{
    Action, FlowModFlags, FlowRemoved, FlowRemovedReason, MacAddr, Match, MatchField, PacketInRef, PortNo,
};

use self::connections::{Connection, Connections, Key};
use self::hosts::{Address, Host, Hosts};
use super::Next;
use super::entry::{self, Member};
use super::segment::{Segment, TCP};
use super::stations::{Learned, Stations};
use crate::core::cookie::{Purpose, Sequence, cookie};
use crate::core::event::Level;
use crate::core::frame::{Frame, arp_probe, is_station};
use crate::core::ip::ETHERTYPE_IPV4;
use crate::core::limit::{Limiter, more};
use crate::core::net::{ASKER, Out};
use crate::core::pipeline::Timeouts;
use crate::core::topo::Place;
use crate::core::view;

/// From one sweep to the next.
const SWEEP: Duration = Duration::from_secs(1);
/// How long entries may take to work on the switch: packets that come meanwhile do not install them again.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// How long no entry is sent after the switch refused one, and how many refusals are noted meanwhile.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
const MAX_REFUSED: usize = 65_536;

/// What a person chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Silence after which hosts and connections are forgotten.
    pub age: Duration,
    /// Seconds without a packet after which an entry goes; not 0.
    pub idle_s: u16,
}

/// The balancer.
#[derive(Debug)]
pub struct Nox {
    settings: Settings,
    stations: Stations,
    hosts: Hosts,
    connections: Connections,
    last: Sequence,
    swept: Duration,
    now: Duration,
    /// Entries that the switch refused since the last sweep, and until when no others are sent.
    refused: BTreeSet<Sequence>,
    refusing_until: Duration,
    /// What was said of tables that are full.
    limiter: Limiter<&'static str>,
}

impl Nox {
    /// A balancer that knows nobody.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            stations: Stations::new(settings.age, true),
            hosts: Hosts::new(settings.age),
            connections: Connections::default(),
            last: Sequence::default(),
            swept: Duration::ZERO,
            now: Duration::ZERO,
            refused: BTreeSet::new(),
            refusing_until: Duration::ZERO,
            limiter: Limiter::default(),
        }
    }

    /// The hosts by address.
    pub fn hosts(&self) -> impl Iterator<Item = (Ipv4Addr, Host)> {
        self.hosts.iter().map(|((_, address), host)| (address, host))
    }

    /// How many connections are known.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How many entries are on the switch.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.connections.entries()
    }

    /// The switch to balance on is ready, and has none of our entries.
    pub fn switch_ready(&mut self, now: Duration) {
        self.now = now;
        self.connections.without_entries();
        self.hosts.excuse(now);
    }

    /// Time passed; `switch` is the switch to balance on, while it is connected. Without it nobody ages.
    pub fn tick(&mut self, switch: Option<&Member>, now: Duration, out: &mut Vec<Out>) {
        self.now = now;
        let Some(switch) = switch.filter(|_| now.saturating_sub(self.swept) >= SWEEP) else { return };
        self.swept = now;
        self.stations.sweep(now);
        let swept = self.hosts.sweep(now);
        for ((vlan, address), host) in swept.ask {
            let probe = arp_probe(host.mac, ASKER, Ipv4Addr::UNSPECIFIED, address, vlan);
            out.push(switch.make(PortNo::CONTROLLER, host.port, probe));
        }
        let age = self.settings.age.as_secs();
        for (address, host) in swept.gone {
            self.lose(Some(switch), address, &host, &format!("was silent for {age} s"), out);
        }
        let refused = std::mem::take(&mut self.refused);
        if !refused.is_empty() {
            self.connections.refused(&refused);
        }
        self.connections.sweep(now, self.settings.age);
    }

    /// A port of the switch to balance on went down, or away.
    pub fn port_down(&mut self, switch: Option<&Member>, port: PortNo, out: &mut Vec<Out>) {
        for (address, host) in self.hosts.remove(|host| host.port == port) {
            self.lose(switch, address, &host, &format!("was at port {port}, which is down"), out);
        }
        for (key, connection) in self.connections.select(|connection| connection.back == port) {
            Self::delete(switch, &key, &connection, out);
            self.connections.remove(&key);
        }
    }

    /// A host is no more: its connections end with it.
    fn lose(
        &mut self,
        switch: Option<&Member>,
        address: Address,
        host: &Host,
        why: &str,
        out: &mut Vec<Out>,
    ) {
        let text = format!("host {} of {} {why}: it has no turn any more", host.mac, address.1);
        out.push(Out::Log { level: Level::Info, text });
        let its = |connection: &Connection| connection.host == host.mac;
        for (key, connection) in self.connections.select(its) {
            if (key.vlan, key.tuple.dst) == address {
                Self::delete(switch, &key, &connection, out);
                self.connections.remove(&key);
            }
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
        self.now = now;
        if frame.is_link_local() {
            out.extend(switch.send_on(packet, Vec::new()));
            return Next::Taken;
        }
        self.learn(switch, packet.in_port, frame, out);
        if frame.dst == ASKER {
            out.extend(switch.send_on(packet, Vec::new()));
            return Next::Taken;
        }
        let Some(segment) = Segment::of(frame, packet.data) else { return Next::Flood };
        let key = Key { vlan: frame.vlan, tuple: segment.tuple };
        let answers = self.connections.get_mut(&key.reversed()).filter(|known| known.host == frame.src);
        let (key, reverse) = match answers {
            Some(_) => (key.reversed(), true),
            None => (key, false),
        };
        if !reverse && self.connections.get_mut(&key).is_none() {
            let begun = segment.opens() && self.begin(key, frame, packet.in_port, out);
            if !begun {
                return Next::Flood;
            }
        }
        let Some(actions) = self.install(switch, &key, reverse, out) else { return Next::Flood };
        out.extend(switch.send_on(packet, actions));
        Next::Taken
    }

    fn learn(&mut self, switch: &Member, port: PortNo, frame: &Frame, out: &mut Vec<Out>) {
        if !is_station(frame.src) {
            return;
        }
        let at = Place::new(switch.dpid, port);
        if let Learned::Moved { from } = self.stations.learn(frame.src, at, self.now) {
            let text =
                format!("switch {}: host {} moved from port {from} to port {port}", at.dpid, frame.src);
            out.push(Out::Log { level: Level::Info, text });
            self.moved(switch, frame.src, from, port, out);
        }
        let source = match (frame.arp, frame.ip.map(|ip| ip.src)) {
            (Some(arp), _) => arp.sender,
            (None, Some(IpAddr::V4(source))) => source,
            _ => return,
        };
        if source.is_unspecified() || source.is_multicast() || source.is_broadcast() || source.is_loopback() {
            return;
        }
        if self.hosts.learn((frame.vlan, source), frame.src, port, self.now) {
            self.full("too many hosts, new ones are not learned", out);
        }
    }

    /// Connections follow a MAC that is at another port now; their entries come with the next packet.
    fn moved(&mut self, switch: &Member, mac: MacAddr, from: PortNo, to: PortNo, out: &mut Vec<Out>) {
        let its = |connection: &Connection| {
            (connection.host == mac && connection.out == from)
                || (connection.client == mac && connection.back == from)
        };
        for (key, connection) in self.connections.select(its) {
            Self::delete(Some(switch), &key, &connection, out);
            if let Some(connection) = self.connections.get_mut(&key) {
                (connection.forward, connection.reverse) = (None, None);
                if connection.host == mac {
                    connection.out = to;
                } else {
                    connection.back = to;
                }
            }
        }
    }

    /// Gives a new connection the next host of the address that it is for; whether there is one.
    fn begin(&mut self, key: Key, frame: &Frame, in_port: PortNo, out: &mut Vec<Out>) -> bool {
        let Some(host) = self.hosts.take_turn((key.vlan, key.tuple.dst), frame.src, in_port) else {
            return false;
        };
        let connection = Connection {
            client: frame.src,
            back: in_port,
            original: frame.dst,
            host: host.mac,
            out: host.port,
            seen: self.now,
            sent: self.now,
            forward: None,
            reverse: None,
        };
        let room = self.connections.add(key, connection);
        if !room {
            self.full("too many connections, new ones are flooded", out);
        }
        room
    }

    /// Sees to it that a connection has its entries; what is to be done with a packet of it.
    fn install(
        &mut self,
        switch: &Member,
        key: &Key,
        reverse: bool,
        out: &mut Vec<Out>,
    ) -> Option<Vec<Action>> {
        let connection = self.connections.get_mut(key)?;
        connection.seen = self.now;
        let complete = connection.forward.is_some() && connection.reverse.is_some();
        let fresh = complete && self.now.saturating_sub(connection.sent) < ON_ITS_WAY;
        let ways = ways(key, connection);
        if !fresh && self.now >= self.refusing_until {
            let timeouts = Timeouts { idle_s: self.settings.idle_s, hard_s: 0 };
            connection.sent = self.now;
            for (slot, (match_, actions)) in
                [&mut connection.forward, &mut connection.reverse].into_iter().zip(&ways)
            {
                self.last = self.last.next();
                *slot = Some(self.last);
                let flags = FlowModFlags::SEND_FLOW_REM;
                out.push(switch.add(match_.clone(), actions.clone(), self.last, timeouts, flags));
            }
        }
        let [(_, forward), (_, back)] = ways;
        Some(if reverse { back } else { forward })
    }

    fn delete(switch: Option<&Member>, key: &Key, connection: &Connection, out: &mut Vec<Out>) {
        let Some(switch) = switch.filter(|_| connection.has_entry()) else { return };
        out.extend(ways(key, connection).map(|(match_, _)| switch.delete(match_)));
    }

    /// An entry of ours went.
    pub fn flow_removed(&mut self, removed: &FlowRemoved, sequence: Sequence, now: Duration) {
        let Some(key) = Key::of_match(&removed.match_) else { return };
        let idle = match removed.reason {
            FlowRemovedReason::IdleTimeout => Duration::from_secs(removed.idle_timeout.into()),
            _ => Duration::ZERO,
        };
        let seen = now.saturating_sub(idle);
        if let Some(connection) = self.connections.get_mut(&key)
            && connection.forward == Some(sequence)
        {
            connection.forward = None;
            connection.seen = connection.seen.max(seen);
        } else if let Some(connection) = self.connections.get_mut(&key.reversed())
            && connection.reverse == Some(sequence)
        {
            connection.reverse = None;
            connection.seen = connection.seen.max(seen);
            if removed.packet_count > 0 {
                self.hosts.heard((key.vlan, key.tuple.src), connection.host, seen);
            }
        }
    }

    /// The switch refused an entry of ours.
    pub fn flow_refused(&mut self, sequence: Sequence) {
        if self.refused.len() < MAX_REFUSED {
            self.refused.insert(sequence);
        } else {
            // What is there all the same is sent once more.
            self.connections.without_entries();
        }
        self.refusing_until = self.now + AFTER_REFUSAL;
    }

    /// The entries that are on the switch.
    #[must_use]
    pub fn flows(&self, switch: &Member, now: Duration) -> Vec<view::Flow> {
        let mut flows = Vec::new();
        for (key, connection) in self.connections.select(Connection::has_entry) {
            let ends = [
                (connection.forward, key, connection.back, None, connection.out),
                (connection.reverse, key.reversed(), connection.out, Some(connection.host), connection.back),
            ];
            for (sequence, Key { vlan, tuple }, in_port, src, out) in ends {
                let Some(sequence) = sequence else { continue };
                flows.push(view::Flow {
                    dpid: switch.dpid.to_string(),
                    table: switch.layout.place(Purpose::Pinned).0.0,
                    in_port: Some(in_port.0),
                    vlan,
                    src: src.map(|mac| mac.to_string()),
                    dst: None,
                    ethertype: Some(ETHERTYPE_IPV4),
                    ip_src: Some(tuple.src.into()),
                    ip_dst: Some(tuple.dst.into()),
                    protocol: Some(TCP),
                    src_port: Some(tuple.src_port),
                    dst_port: Some(tuple.dst_port),
                    out_port: Some(out.0),
                    purpose: Purpose::Pinned.word().to_owned(),
                    cookie: format!("{:#018x}", cookie(Purpose::Pinned, sequence).0),
                    age_ms: u64::try_from(now.saturating_sub(connection.sent).as_millis())
                        .unwrap_or(u64::MAX),
                });
            }
        }
        flows
    }

    fn full(&mut self, what: &'static str, out: &mut Vec<Out>) {
        if let Some(left_out) = self.limiter.allow(what, self.now) {
            out.push(Out::Log { level: Level::Warn, text: format!("{what}{}", more(left_out)) });
        }
    }
}

/// A connection's entries, from the client and back: what they match and do.
fn ways(key: &Key, connection: &Connection) -> [(Match, Vec<Action>); 2] {
    let forward = entry::of_connection(connection.back, key.vlan, None, &key.tuple);
    let to_host = vec![
        Action::SetField(MatchField::EthDst { value: connection.host, mask: None }),
        Action::output(connection.out),
    ];
    let answers = key.tuple.reversed();
    let reverse = entry::of_connection(connection.out, key.vlan, Some(connection.host), &answers);
    let to_client = vec![
        Action::SetField(MatchField::EthSrc { value: connection.original, mask: None }),
        Action::output(connection.back),
    ];
    [(forward, to_host), (reverse, to_client)]
}
