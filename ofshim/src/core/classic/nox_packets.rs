//! The balancer of the NOX article, every packet through the controller, with its faults.
//!
//! ```text
//!   every frame: source MAC -> port (5 s);  IP of ARP and IPv4 sources -> hosts (MAC, port), for ever
//!   TCP, flags exactly SYN, to a known IP --> the next of its hosts in turn; the connection is noted, for ever
//!   TCP of a noted connection -------------> to that host with its MAC, or back with the MAC that the client knows
//!   LLDP ----------------------------------> dropped
//!   anything else --------------------------> flooded
//! ```
//!
//! The faults: hosts never age, so a dead one keeps its turn; the table of connections is never emptied; a SYN with
//! flags of ECN is no SYN; a SYN that is sent again may get another host; ports are noted without their switch, so one
//! switch is all that it serves. Only the sizes of its tables are bounded here.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use openflow::{Action, MacAddr, MatchField, PacketInRef, PortNo};

use super::Next;
use super::entry::Member;
use super::segment::{SYN, Segment, Tuple};
use super::stations::{Learned, Stations};
use crate::core::event::Level;
use crate::core::frame::{Frame, is_group};
use crate::core::hash::Keyed;
use crate::core::net::Out;
use crate::core::topo::Place;

/// How long a MAC is known.
const STATION_AGE: Duration = Duration::from_secs(5);
/// From one sweep of the MACs to the next.
const SWEEP: Duration = Duration::from_secs(1);
/// EtherType of LLDP (IEEE 802.1AB).
const ETHERTYPE_LLDP: u16 = 0x88cc;
/// The most addresses, hosts with one address, and connections.
const MAX_ADDRESSES: usize = 65_536;
const MAX_HOSTS: usize = 256;
const MAX_CONNECTIONS: usize = 262_144;

/// A host with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its MAC.
    pub mac: MacAddr,
    /// When it was last heard.
    pub seen: Duration,
    /// Its port, of whichever switch.
    pub port: PortNo,
}

/// The hosts that have one address.
#[derive(Debug, Default)]
struct Group {
    hosts: Vec<Host>,
    /// Whose turn it is.
    next: usize,
}

/// What is noted of a connection.
#[derive(Clone, Copy, Debug)]
struct Pin {
    /// The MAC that the client knows.
    original: MacAddr,
    /// The MAC of the host that it was given.
    chosen: MacAddr,
    /// That host's port.
    out: PortNo,
    /// The client's port.
    back: PortNo,
}

/// The balancer.
#[derive(Debug)]
pub struct NoxPackets {
    stations: Stations,
    groups: BTreeMap<Ipv4Addr, Group>,
    pins: HashMap<Tuple, Pin, Keyed>,
    swept: Duration,
    said_full: bool,
}

impl Default for NoxPackets {
    fn default() -> Self {
        Self {
            stations: Stations::new(STATION_AGE, false),
            groups: BTreeMap::new(),
            pins: HashMap::default(),
            swept: Duration::ZERO,
            said_full: false,
        }
    }
}

impl NoxPackets {
    /// Time passed.
    pub fn tick(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) >= SWEEP {
            self.swept = now;
            self.stations.sweep(now);
        }
    }

    /// The MAC table.
    #[must_use]
    pub const fn stations(&self) -> &Stations {
        &self.stations
    }

    /// The hosts by address.
    pub fn hosts(&self) -> impl Iterator<Item = (Ipv4Addr, Host)> {
        self.groups.iter().flat_map(|(address, group)| group.hosts.iter().map(|host| (*address, *host)))
    }

    /// How many connections are noted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.pins.len()
    }

    /// Deals with a packet.
    pub fn packet_in(
        &mut self,
        switch: &Member,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        now: Duration,
        out: &mut Vec<Out>,
    ) -> Next {
        if frame.ethertype == ETHERTYPE_LLDP {
            out.extend(switch.send_on(packet, Vec::new()));
            return Next::Taken;
        }
        let at = Place::new(switch.dpid, packet.in_port);
        self.learn(frame, at, now, out);
        let Some(segment) = Segment::of(frame, packet.data) else { return Next::Flood };
        if segment.flags == SYN {
            self.choose(&segment.tuple, frame.dst, packet.in_port, out);
        }
        let actions = if let Some(pin) = self.pins.get(&segment.tuple) {
            vec![
                Action::SetField(MatchField::EthDst { value: pin.chosen, mask: None }),
                Action::output(pin.out),
            ]
        } else if let Some(pin) = self.pins.get(&segment.tuple.reversed()) {
            vec![
                Action::SetField(MatchField::EthSrc { value: pin.original, mask: None }),
                Action::output(pin.back),
            ]
        } else {
            return Next::Flood;
        };
        out.extend(switch.send_on(packet, actions));
        Next::Taken
    }

    fn learn(&mut self, frame: &Frame, at: Place, now: Duration, out: &mut Vec<Out>) {
        if let Learned::Moved { from } = self.stations.learn(frame.src, at, now) {
            let text =
                format!("switch {}: host {} moved from port {from} to port {}", at.dpid, frame.src, at.port);
            out.push(Out::Log { level: Level::Info, text });
        }
        let source = match (frame.arp, frame.ip.map(|ip| ip.src)) {
            (Some(arp), _) => arp.sender,
            (None, Some(IpAddr::V4(source))) => source,
            _ => return,
        };
        let full = self.groups.len() >= MAX_ADDRESSES && !self.groups.contains_key(&source);
        if full || is_group(frame.src) {
            return;
        }
        let hosts = &mut self.groups.entry(source).or_default().hosts;
        let host = Host { mac: frame.src, seen: now, port: at.port };
        let room = hosts.len() < MAX_HOSTS;
        match hosts.iter_mut().find(|known| known.mac == host.mac) {
            Some(known) => *known = host,
            None if room => hosts.push(host),
            None => {}
        }
    }

    /// Gives a connection the next host of its address, whatever it had before.
    fn choose(&mut self, tuple: &Tuple, original: MacAddr, back: PortNo, out: &mut Vec<Out>) {
        let Some(group) = self.groups.get_mut(&tuple.dst) else { return };
        if self.pins.len() >= MAX_CONNECTIONS && !self.pins.contains_key(tuple) {
            if !std::mem::replace(&mut self.said_full, true) {
                let text = format!(
                    "{MAX_CONNECTIONS} connections are noted, and none is ever forgotten: new ones are flooded"
                );
                out.push(Out::Log { level: Level::Warn, text });
            }
            return;
        }
        let Some(host) = group.hosts.get(group.next % group.hosts.len().max(1)).copied() else { return };
        group.next = (group.next + 1) % group.hosts.len();
        self.pins.insert(*tuple, Pin { original, chosen: host.mac, out: host.port, back });
    }
}
