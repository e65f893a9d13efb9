//! The third opinion: an independent model of the balancer, written from its documentation (docs/dataplane.md).
//!
//! It shares no code with the core: frames are read by etherparse and by hand, checksums are computed modulo 65535,
//! and the state is ordered maps. It predicts verdict, reason, bytes, counters and connections.
//!
//! | section of the page | file |
//! |---|---|
//! | 1, 3 | [`parse`] |
//! | 2, 4 | `ours` |
//! | 5, 9 | `balance`, [`conn`] |
//! | 6 | `change`, `answer` |
//! | 7 | `reply` |
//! | 8 | `pick`, [`hash`] |
//! | 10, 11 | `icmp`, `fragment` |
//! | 12 | `neighbour` |

mod answer;
mod balance;
mod change;
pub mod conn;
mod fragment;
pub mod hash;
mod icmp;
mod neighbour;
mod ours;
pub mod parse;
mod pick;
mod reply;
pub mod sum;

use std::collections::{BTreeMap, BTreeSet};

use balance::Window;
use conn::{Entry, Key};
use fragment::{Parts, Whole};
use parse::{Content, Frame, Packet};
use reply::{Half, HalfKey};

use crate::counters::Counters;
use crate::frame::{Ip, Mac};
use crate::scenario::{Backend, Scenario, Service, Vip};
use crate::side::{Action, Snapshot, Verdict};

/// The independent model.
#[derive(Debug)]
pub struct Oracle {
    scenario: Scenario,
    established: BTreeMap<Key, Entry>,
    half_open: BTreeMap<Key, Entry>,
    /// The other halves of full NAT.
    halves: BTreeMap<HalfKey, Half>,
    /// By client and VIP: the backend, its generation, and when.
    affinity: BTreeMap<(Ip, u16), (u16, u16, u32)>,
    opened: Window,
    opened_by: BTreeMap<(Ip, u16), Window>,
    parts: BTreeMap<Whole, Parts>,
    /// By client and VIP: MAC of the backend that asked.
    askers: BTreeMap<(Ip, u16), Mac>,
    loads: BTreeMap<u16, i64>,
    tickets: BTreeMap<u16, u32>,
    services: Vec<Service>,
    counters: Counters,
    /// Bits of all addresses that ever were a backend's, strays included.
    backend_bits: BTreeSet<u16>,
    now: u32,
    random: u32,
}

/// How a packet ends.
struct End {
    action: Action,
    reason: &'static str,
    /// `None`: unchanged.
    bytes: Option<Vec<u8>>,
}

impl End {
    const fn pass(reason: &'static str) -> Self {
        Self { action: Action::Pass, reason, bytes: None }
    }

    const fn sent(action: Action, reason: &'static str, bytes: Vec<u8>) -> Self {
        Self { action, reason, bytes: Some(bytes) }
    }
}

/// A packet that came in.
struct Arrival<'a> {
    frame: &'a [u8],
    packet: &'a Packet,
    /// The slot of the port; 0 where the balancer is not attached.
    slot: u16,
}

impl Oracle {
    /// A data plane of this scenario without connections.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let mut oracle = Self {
            scenario: scenario.clone(),
            established: BTreeMap::new(),
            half_open: BTreeMap::new(),
            halves: BTreeMap::new(),
            affinity: BTreeMap::new(),
            opened: Window::default(),
            opened_by: BTreeMap::new(),
            parts: BTreeMap::new(),
            askers: BTreeMap::new(),
            loads: BTreeMap::new(),
            tickets: BTreeMap::new(),
            services: Vec::new(),
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
        // A new count of connections replaces what was kept since.
        for backend in &scenario.backends {
            let old = self.scenario.backends.iter().find(|b| b.id == backend.id).map(|b| b.load);
            if old != Some(backend.load) || !self.loads.contains_key(&backend.id) {
                self.loads.insert(backend.id, backend.load.into());
            }
        }
        self.scenario = scenario.clone();
        self.services = scenario.services();
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
        let tables = [(&self.established, false), (&self.half_open, true)];
        let mut connections: Vec<_> = tables
            .iter()
            .flat_map(|(table, half_open)| table.iter().map(|(k, e)| e.connection(k, *half_open)))
            .collect();
        connections.sort();
        let loads =
            self.loads.iter().filter(|(_, load)| **load != 0).map(|(id, load)| (*id, *load)).collect();
        Snapshot { counters: self.counters.clone(), connections, loads }
    }

    /// Processes a frame.
    #[must_use]
    pub fn run(&mut self, frame: &[u8], ifindex: u32) -> Verdict {
        self.count("received", 1);
        let slot = self.scenario.ports.iter().find(|p| p.ifindex == ifindex).map_or(0, |p| p.slot);
        let end = match parse::frame(frame) {
            Frame::NotIp => End::pass("not_ip"),
            Frame::Arp(arp) => self.arp(&arp, frame),
            Frame::Ip(packet) => self.ip(&Arrival { frame, packet: &packet, slot }),
        };
        self.count(&format!("reason:{}", end.reason), 1);
        Verdict { action: end.action, reason: end.reason, bytes: end.bytes.unwrap_or_else(|| frame.to_vec()) }
    }

    fn ip(&mut self, arrival: &Arrival<'_>) -> End {
        let packet = arrival.packet;
        // Mapped addresses never stand in a packet (RFC 4291, section 2.5.5.2).
        let mapped = |ip: Ip| matches!(ip, Ip::V6(v6) if v6.to_ipv4_mapped().is_some());
        if mapped(packet.src) || mapped(packet.dst) {
            return End::pass("not_ours");
        }
        if let Some(end) = packet.ndp.and_then(|ndp| self.ndp(arrival, &ndp)) {
            return end;
        }
        if let Some(end) = self.for_vip(arrival) {
            return end;
        }
        if self.backend_bits.contains(&hash::bitmap_bit(packet.src)) {
            self.of_backend(arrival)
        } else {
            End::pass("not_ours")
        }
    }

    /// `None` when the packet is for no VIP.
    fn for_vip(&mut self, arrival: &Arrival<'_>) -> Option<End> {
        let packet = arrival.packet;
        let owner = self.owner(packet.dst)?.clone();
        let serving = match &packet.content {
            Content::Flow(flow) => self.serving(packet.dst, flow.protocol, flow.dport).cloned(),
            _ => None,
        };
        if packet.to != serving.as_ref().unwrap_or(&owner).mac {
            return Some(End::pass("already_balanced"));
        }
        Some(match (&packet.content, serving) {
            (Content::Flow(flow), Some(vip)) => self.balance(arrival, flow, &vip),
            (Content::Flow(flow), None) => match self.lent_reply(arrival, flow) {
                Some(end) => end,
                None => self.dropped("vip_no_service", owner.id),
            },
            (Content::Icmp(icmp), _) => self.icmp_to_vip(arrival, icmp, &owner),
            (Content::Later, _) => self.later_to_vip(arrival, &owner),
            (Content::Other, _) => self.dropped("vip_no_service", owner.id),
            (Content::Cut, _) => self.dropped("vip_fragment", owner.id),
            (Content::Extension, _) => self.dropped("vip_extension", owner.id),
            (Content::Malformed, _) => self.dropped("vip_malformed", owner.id),
        })
    }

    fn of_backend(&mut self, arrival: &Arrival<'_>) -> End {
        let end = match &arrival.packet.content {
            Content::Flow(flow) => self.reply(arrival, flow),
            Content::Icmp(icmp) => self.icmp_of_backend(arrival, icmp),
            Content::Later => self.later_of_backend(arrival),
            _ => None,
        };
        end.unwrap_or(End::pass("no_connection"))
    }

    fn count(&mut self, name: &str, by: u64) {
        *self.counters.entry(name.to_owned()).or_default() += by;
    }

    fn dropped(&mut self, reason: &'static str, vip: u16) -> End {
        self.count(&format!("vip:{vip}:dropped"), 1);
        End { action: Action::Drop, reason, bytes: None }
    }

    /// Counts a packet at its VIP and its backend: `in` to the backend, `out` to the client.
    fn traffic(&mut self, arrival: &Arrival<'_>, vip: u16, backend: u16, way: &str) {
        for owner in [format!("vip:{vip}"), format!("backend:{backend}")] {
            if owner == "backend:0" {
                continue;
            }
            self.count(&format!("{owner}:packets_{way}"), 1);
            self.count(&format!("{owner}:bytes_{way}"), arrival.packet.end as u64);
        }
    }

    fn vip(&self, id: u16) -> Option<&Vip> {
        self.scenario.vips.iter().find(|v| v.id == id)
    }

    fn backend(&self, id: u16) -> Option<&Backend> {
        self.scenario.backends.iter().find(|b| b.id == id)
    }

    /// Redirect only to a port of the same switch that allows it.
    fn way(&self, vip: &Vip, from: u16, to: u16) -> Action {
        if vip.transmit {
            return Action::Transmit;
        }
        let port = |slot: u16| self.scenario.ports.iter().find(|p| p.slot == slot && slot != 0);
        match (port(from), port(to)) {
            (Some(a), Some(b)) if a.switch == b.switch && b.redirect => Action::Redirect(to),
            _ => Action::Pass,
        }
    }
}

/// The reason of a packet that leaves this way: redirected, transmitted, or handed to the switch.
fn by_way(action: Action, [redirect, transmit, switch]: [&'static str; 3]) -> &'static str {
    match action {
        Action::Redirect(_) => redirect,
        Action::Transmit => transmit,
        Action::Pass | Action::Drop => switch,
    }
}
