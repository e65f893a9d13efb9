//! The third opinion: an independent model of the balancer, written from its documentation.
//!
//! It shares no code with the core: frames are read by etherparse, checksums are computed modulo 65535, and the
//! state is an ordered map. It predicts verdict, reason, bytes, counters and connections.

pub mod conn;
pub mod hash;
pub mod parse;
pub mod sum;

use std::collections::{BTreeMap, BTreeSet};

use conn::{Entry, Key};
use parse::{Arp, Content, Flow, Frame, Packet};

use crate::counters::Counters;
use crate::frame::Ip;
use crate::scenario::{Backend, Mode, Scenario, Selection, State, Vip};
use crate::side::{Action, Snapshot, Verdict};

/// The independent model.
#[derive(Debug)]
pub struct Oracle {
    scenario: Scenario,
    connections: BTreeMap<Key, Entry>,
    tickets: BTreeMap<u16, u32>,
    counters: Counters,
    /// Bits of all addresses that ever were a backend's, strays included.
    backend_bits: BTreeSet<u16>,
    now: u32,
    random: u32,
}

/// Why a packet goes no further.
type Refusal = &'static str;

/// A way to a backend or a client.
struct Way {
    action: Action,
    reason: &'static str,
}

impl Oracle {
    /// A data plane of this scenario without connections.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let mut oracle = Self {
            scenario: scenario.clone(),
            connections: BTreeMap::new(),
            tickets: BTreeMap::new(),
            counters: Counters::new(),
            backend_bits: BTreeSet::new(),
            now: 0,
            random: 0,
        };
        oracle.change(scenario);
        oracle
    }

    /// Makes the tables those of another scenario; connections and counters stay.
    pub fn change(&mut self, scenario: &Scenario) {
        self.scenario = scenario.clone();
        let addresses = scenario.backends.iter().map(|b| b.address).chain(scenario.stray_bits.clone());
        self.backend_bits.extend(addresses.map(hash::bitmap_bit));
    }

    /// Sets the clock and the random number.
    pub fn inputs(&mut self, now: u32, random: u32) {
        (self.now, self.random) = (now, random);
    }

    /// Counters and connections.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut connections: Vec<_> = self.connections.iter().map(|(k, e)| e.connection(k)).collect();
        connections.sort();
        Snapshot { counters: self.counters.clone(), connections }
    }

    /// Processes a frame.
    #[must_use]
    pub fn run(&mut self, frame: &[u8], ifindex: u32) -> Verdict {
        self.count("received", 1);
        let slot = self.scenario.ports.iter().find(|p| p.ifindex == ifindex).map_or(0, |p| p.slot);
        let mut bytes = frame.to_vec();
        let (action, reason) = match parse::frame(frame) {
            Frame::NotIp => (Action::Pass, "not_ip"),
            Frame::Arp(arp) => self.arp(&arp, &mut bytes),
            Frame::Ipv4(packet) => self.ipv4(&packet, slot, &mut bytes),
        };
        self.count(&format!("reason:{reason}"), 1);
        Verdict { action, reason, bytes }
    }

    fn count(&mut self, name: &str, by: u64) {
        *self.counters.entry(name.to_owned()).or_default() += by;
    }

    fn vip_of(&self, address: Ip) -> Option<&Vip> {
        self.scenario.vips.iter().find(|v| v.address == address)
    }

    fn backend(&self, id: u16) -> Option<&Backend> {
        self.scenario.backends.iter().find(|b| b.id == id)
    }

    /// RFC 826, for the addresses of VIPs.
    fn arp(&self, arp: &Arp, bytes: &mut [u8]) -> (Action, &'static str) {
        if !arp.ethernet_ipv4 {
            return (Action::Pass, "arp_other");
        }
        if self.vip_of(arp.sender.1).is_some_and(|vip| vip.mac != arp.sender.0) {
            return (Action::Pass, "arp_vip_claimed");
        }
        let Some(vip) = self.vip_of(arp.target.1) else { return (Action::Pass, "arp_other") };
        let group = arp.to[0] % 2 == 1;
        if arp.operation != 1 || !(group || arp.to == vip.mac) {
            return (Action::Pass, "arp_other");
        }
        bytes[..6].copy_from_slice(&arp.sender.0);
        bytes[6..12].copy_from_slice(&vip.mac);
        let (from, to) = ((vip.mac, arp.target.1), arp.sender);
        let body = [&[0, 2][..], &from.0, &from.1, &to.0, &to.1].concat();
        bytes[arp.at + 6..arp.at + 28].copy_from_slice(&body);
        (Action::Transmit, "arp_answered")
    }

    fn ipv4(&mut self, packet: &Packet, slot: u16, bytes: &mut [u8]) -> (Action, &'static str) {
        if let Some(end) = self.vip_packet(packet, slot, bytes) {
            return end;
        }
        // The bitmap has no false negatives, but it has false positives: an address that shares a backend's bit
        // is taken for a backend until no connection is found.
        if !self.backend_bits.contains(&hash::bitmap_bit(packet.src)) {
            return (Action::Pass, "not_ours");
        }
        match &packet.content {
            Content::Flow(flow) => self.backend_packet(packet, flow, slot, bytes),
            _ => (Action::Pass, "no_connection"),
        }
    }

    /// `None` when the packet is for no VIP.
    fn vip_packet(&mut self, packet: &Packet, slot: u16, bytes: &mut [u8]) -> Option<(Action, &'static str)> {
        let first = self.vip_of(packet.dst)?.clone();
        let serving = match &packet.content {
            Content::Flow(flow) => self.serving(packet, flow),
            _ => None,
        };
        let vip = serving.clone().unwrap_or(first);
        if packet.to != vip.mac {
            return Some((Action::Pass, "already_balanced"));
        }
        let end = match (&packet.content, serving) {
            (Content::Flow(flow), Some(vip)) => self.balance(packet, flow, &vip, slot, bytes),
            (Content::Flow(_), None) | (Content::Other, _) => Err("vip_no_service"),
            (Content::Fragment, _) => Err("vip_fragment"),
            (Content::Malformed, _) => Err("vip_malformed"),
        };
        Some(match end {
            Ok(way) => (way.action, way.reason),
            Err(refusal) => {
                self.count(&format!("vip:{}:dropped", vip.id), 1);
                (Action::Drop, refusal)
            }
        })
    }

    /// The VIP that serves a port, else the one that serves every port.
    fn serving(&self, packet: &Packet, flow: &Flow) -> Option<Vip> {
        let serves = |vip: &&Vip, wanted: u16| {
            vip.address == packet.dst
                && vip.services.iter().any(|(p, port)| p.number() == packet.protocol && *port == wanted)
        };
        let vips = &self.scenario.vips;
        // Port 0 in a packet is every port's.
        vips.iter().find(|v| serves(v, flow.dport)).or_else(|| vips.iter().find(|v| serves(v, 0))).cloned()
    }

    fn balance(
        &mut self,
        packet: &Packet,
        flow: &Flow,
        vip: &Vip,
        slot: u16,
        bytes: &mut [u8],
    ) -> Result<Way, Refusal> {
        let key = (packet.src, flow.sport, vip.id, flow.dport, packet.protocol);
        let opens = flow.segment.is_none_or(|s| s.syn && !s.ack && !s.rst);
        let kept = self.connections.get(&key).copied().and_then(|entry| self.kept(vip, &entry, opens));
        let (backend, opened) = if let Some(backend) = kept {
            let now = self.now;
            if let Some(entry) = self.connections.get_mut(&key) {
                entry.client_slot = slot;
                entry.last_seen = now;
                if let Some(segment) = flow.segment {
                    entry.note(segment, true, vip.mode == Mode::Dsr);
                }
            }
            (backend, false)
        } else {
            let backend = self.pick(vip, &key, opens)?;
            // Nothing follows a reset.
            let opened = flow.segment.is_none_or(|s| !s.rst);
            if opened {
                let full = self.connections.len() >= self.scenario.connections as usize;
                if full && !self.connections.contains_key(&key) {
                    return Err("table_full");
                }
                let entry = Entry::open(backend.id, backend.generation, slot, self.now, flow.segment);
                self.connections.insert(key, entry);
            }
            (backend, opened)
        };
        self.note_checksum(packet, flow, bytes);
        let reasons = ["to_backend_redirect", "to_backend_transmit", "to_backend_switch"];
        let way = self.way(vip, slot, backend.slot, reasons);
        if vip.mode == Mode::Nat {
            let port = if backend.port == 0 { flow.dport } else { backend.port };
            rewrite(bytes, packet, flow, false, (packet.dst, backend.address), (flow.dport, port));
        }
        if backend.mac != [0; 6] {
            bytes[..6].copy_from_slice(&backend.mac);
        }
        if vip.transmit {
            bytes[6..12].copy_from_slice(&vip.mac);
        }
        for owner in [format!("vip:{}", vip.id), format!("backend:{}", backend.id)] {
            self.count(&format!("{owner}:packets_in"), 1);
            self.count(&format!("{owner}:bytes_in"), size(packet, bytes));
            if opened {
                self.count(&format!("{owner}:opened"), 1);
            }
        }
        Ok(way)
    }

    /// The backend that a connection stays with.
    fn kept(&self, vip: &Vip, entry: &Entry, opens: bool) -> Option<Backend> {
        if !entry.live(self.now, &self.scenario.timeouts) || (opens && entry.finished()) {
            return None;
        }
        let backend = self.backend(entry.backend)?;
        let same = backend.generation == entry.generation && backend.vip == vip.id;
        let serves = match backend.state {
            State::Up | State::Draining => true,
            State::Down | State::Disabled => vip.last_known || (!opens && !vip.repick),
        };
        (same && serves).then(|| backend.clone())
    }

    /// A backend for a new flow.
    fn pick(&mut self, vip: &Vip, key: &Key, opens: bool) -> Result<Backend, Refusal> {
        let members = Scenario::members(&vip.ring);
        if members.is_empty() {
            return Err("no_backend");
        }
        // What is not the beginning of a flow goes where everybody would send it.
        let selection = if opens { vip.selection } else { Selection::Maglev };
        let (first, start) = match selection {
            Selection::Random => (vip.ring[hash::ring_slot(self.random, vip.ring.len())], self.random),
            Selection::RoundRobin => {
                let ticket = self.tickets.entry(vip.id).or_default();
                let mine = *ticket;
                *ticket += 1;
                (vip.ring[mine as usize % vip.ring.len()], mine)
            }
            Selection::Maglev => {
                let hash = hash::flow(key.0, key.1, key.3, key.4);
                (Scenario::maglev(&members, hash::maglev_slot(hash)), hash)
            }
        };
        // The first choice, then everybody in turn; three are looked at, and three more for somebody else when the
        // reply of the one found could belong to another VIP.
        let turn: Vec<u16> = [first]
            .into_iter()
            .chain((0..8).map(|i| members[(start as usize + i) % members.len()]))
            .collect();
        let found = turn[..3].iter().position(|id| self.admit(vip, key, *id) == Ok(()));
        let Some(at) = found else {
            let itself = turn[..3].iter().any(|id| self.admit(vip, key, *id) == Err("hairpin"));
            return Err(if itself { "hairpin" } else { "no_backend" });
        };
        let unconfusable = |id: u16| self.backend(id).filter(|b| !(b.shared && self.confusable(vip, key, b)));
        if let Some(backend) = unconfusable(turn[at]) {
            return Ok(backend.clone());
        }
        let other = turn[at + 1..at + 4]
            .iter()
            .find(|id| **id != turn[at] && self.admit(vip, key, **id) == Ok(()))
            .and_then(|id| unconfusable(*id));
        other.cloned().ok_or("reply_ambiguous")
    }

    /// Whether a backend may take a flow at all.
    fn admit(&self, vip: &Vip, key: &Key, id: u16) -> Result<(), Refusal> {
        let backend = self.backend(id).ok_or("no_backend")?;
        if backend.state != State::Up && !vip.last_known {
            return Err("no_backend");
        }
        if backend.address == key.0 { Err("hairpin") } else { Ok(()) }
    }

    /// Whether the client already reaches the same service of this backend through another VIP.
    fn confusable(&self, vip: &Vip, key: &Key, backend: &Backend) -> bool {
        let at = if backend.port == 0 { key.3 } else { backend.port };
        self.connections.iter().any(|(other, entry)| {
            let Some(theirs) = self.backend(entry.backend) else { return false };
            let their_port = if theirs.port == 0 { other.3 } else { theirs.port };
            (other.0, other.1, other.4) == (key.0, key.1, key.4)
                && other.2 != vip.id
                && (theirs.address, their_port) == (backend.address, at)
                && entry.live(self.now, &self.scenario.timeouts)
                && self.scenario.vips.iter().any(|v| v.id == other.2 && v.mode == Mode::Nat)
        })
    }

    fn backend_packet(
        &mut self,
        packet: &Packet,
        flow: &Flow,
        slot: u16,
        bytes: &mut [u8],
    ) -> (Action, &'static str) {
        let services = self.scenario.services();
        let list = |port: u16| {
            services
                .iter()
                .find(|((address, p, protocol), _)| {
                    (*address, *p, protocol.number()) == (packet.src, port, packet.protocol)
                })
                .map(|(_, vips)| vips.clone())
        };
        let vips = list(flow.sport).or_else(|| list(0)).unwrap_or_default();
        for (id, port) in vips {
            let vip_port = if port == 0 { flow.sport } else { port };
            let key = (packet.dst, flow.dport, id, vip_port, packet.protocol);
            let Some(entry) = self.connections.get(&key).copied() else { continue };
            let theirs = self.backend(entry.backend).is_some_and(|b| {
                b.address == packet.src
                    && b.generation == entry.generation
                    && (b.port == 0 || b.port == flow.sport)
            });
            if !theirs || !entry.live(self.now, &self.scenario.timeouts) {
                continue;
            }
            let Some(vip) = self.scenario.vips.iter().find(|v| v.id == id).cloned() else { continue };
            let way = self.reply(packet, flow, &vip, &key, slot, bytes);
            return (way.action, way.reason);
        }
        (Action::Pass, "no_connection")
    }

    fn reply(
        &mut self,
        packet: &Packet,
        flow: &Flow,
        vip: &Vip,
        key: &Key,
        slot: u16,
        bytes: &mut [u8],
    ) -> Way {
        let now = self.now;
        let (mut backend, mut client_slot) = (0, 0);
        if let Some(entry) = self.connections.get_mut(key) {
            entry.last_seen = now;
            if let Some(segment) = flow.segment {
                entry.note(segment, false, false);
            }
            (backend, client_slot) = (entry.backend, entry.client_slot);
        }
        self.note_checksum(packet, flow, bytes);
        let way = self.way(
            vip,
            slot,
            client_slot,
            ["to_client_redirect", "to_client_transmit", "to_client_switch"],
        );
        rewrite(bytes, packet, flow, true, (packet.src, vip.address), (flow.sport, key.3));
        bytes[6..12].copy_from_slice(&vip.mac);
        for owner in [format!("vip:{}", vip.id), format!("backend:{backend}")] {
            self.count(&format!("{owner}:packets_out"), 1);
            self.count(&format!("{owner}:bytes_out"), size(packet, bytes));
            if flow.segment.is_none_or(|s| !s.rst) {
                self.counters.insert(format!("{owner}:last_alive"), u64::from(now.max(1)));
            }
        }
        way
    }

    /// Redirect only to a port of the same switch that allows it.
    fn way(&self, vip: &Vip, from: u16, to: u16, [redirect, transmit, switch]: [&'static str; 3]) -> Way {
        if vip.transmit {
            return Way { action: Action::Transmit, reason: transmit };
        }
        let port = |slot: u16| self.scenario.ports.iter().find(|p| p.slot == slot && slot != 0);
        match (port(from), port(to)) {
            (Some(a), Some(b)) if a.switch == b.switch && b.redirect => {
                Way { action: Action::Redirect(to), reason: redirect }
            }
            _ => Way { action: Action::Pass, reason: switch },
        }
    }

    fn note_checksum(&mut self, packet: &Packet, flow: &Flow, bytes: &[u8]) {
        let at = flow.at + if flow.segment.is_some() { 16 } else { 6 };
        let field = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if field == sum::pseudo(packet.src, packet.dst, packet.protocol, flow.length) {
            self.count("partial_checksums", 1);
        }
    }
}

/// Translates destination (or, for a reply, source) address and port, each (before, after).
fn rewrite(
    bytes: &mut [u8],
    packet: &Packet,
    flow: &Flow,
    source: bool,
    address: (Ip, Ip),
    port: (u16, u16),
) {
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(packet.at + if source { 12 } else { 16 }, &address.1);
    put(flow.at + if source { 0 } else { 2 }, &port.1.to_be_bytes());

    let (old, new) = (sum::words(address.0), sum::words(address.1));
    let mut update = |at: usize, old: &[u16], new: &[u16], udp: bool| {
        let field = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if udp && field == 0 {
            return;
        }
        let value = match sum::updated(field, old, new) {
            0 if udp => 0xffff,
            value => value,
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    };
    update(packet.at + 10, &old, &new, false);
    let at = flow.at + if flow.segment.is_some() { 16 } else { 6 };
    let with_port = |words: [u16; 2], port: u16| [words[0], words[1], port];
    update(at, &with_port(old, port.0), &with_port(new, port.1), flow.segment.is_none());
}

/// Bytes of the frame up to the end of its IP packet, as the packet itself says.
fn size(packet: &Packet, bytes: &[u8]) -> u64 {
    let total = etherparse::Ipv4HeaderSlice::from_slice(&bytes[packet.at..]).map_or(0, |ip| ip.total_len());
    packet.at as u64 + u64::from(total)
}
