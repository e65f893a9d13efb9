//! Which MAC address is behind which port of one switch, for each VLAN.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::time::Duration;

use openflow::{MacAddr, PortNo};

use super::forward::Seats;
use super::hash::{Keyed, word};

/// The most addresses kept for one switch; a host that invents source addresses fills no more than this.
pub const MAX_STATIONS: usize = 65_536;

/// A station: its address and its VLAN. Ordered by address first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    /// The address.
    pub mac: MacAddr,
    /// VLAN id, `None` for frames without a tag.
    pub vlan: Option<u16>,
}

impl Hash for Station {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(word(self.mac, self.vlan));
    }
}

/// Where a station is, and when it was last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The port that it is behind.
    pub port: PortNo,
    /// When a frame of it last came to the controller.
    pub seen: Duration,
    /// The address that it last named as the sender of an ARP packet.
    pub address: Option<Ipv4Addr>,
}

/// What learning changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The station was new.
    New,
    /// It is where it was.
    Same,
    /// It was behind another port.
    Moved {
        /// The port that it left.
        from: PortNo,
    },
    /// The table is full, and it was not learned.
    Full,
}

/// The learned stations of one switch.
#[derive(Clone, Debug, Default)]
pub struct MacTable {
    seats: HashMap<Station, Seat, Keyed>,
    /// The same stations in order.
    stations: BTreeSet<Station>,
}

impl MacTable {
    /// Notes that a frame of `station` came in on `port`.
    pub fn learn(&mut self, station: Station, port: PortNo, now: Duration) -> Learned {
        let full = self.seats.len() >= MAX_STATIONS;
        match self.seats.get_mut(&station) {
            Some(seat) => {
                let from = seat.port;
                *seat = Seat { port, seen: now, address: seat.address };
                if from == port { Learned::Same } else { Learned::Moved { from } }
            }
            None if full => Learned::Full,
            None => {
                self.seats.insert(station, Seat { port, seen: now, address: None });
                self.stations.insert(station);
                Learned::New
            }
        }
    }

    /// Notes the address that a learned station named as its own.
    pub fn note_address(&mut self, station: Station, address: Ipv4Addr) {
        if let Some(seat) = self.seats.get_mut(&station) {
            seat.address = Some(address);
        }
    }

    /// Forgets everything behind `port`; how many stations that were.
    pub fn forget_port(&mut self, port: PortNo) -> usize {
        self.forget(|_, seat| seat.port == port)
    }

    /// Forgets the stations that `gone` names; how many they were.
    pub fn forget(&mut self, gone: impl Fn(&Station, &Seat) -> bool) -> usize {
        let before = self.seats.len();
        self.seats.retain(|station, seat| !gone(station, seat));
        if before > self.seats.len() {
            self.stations.retain(|station| self.seats.contains_key(station));
        }
        before - self.seats.len()
    }

    /// All stations, by address and VLAN.
    pub fn iter(&self) -> impl Iterator<Item = (&Station, &Seat)> {
        self.stations.iter().filter_map(|station| Some((station, self.seats.get(station)?)))
    }

    /// How many stations are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }
}

impl Seats for MacTable {
    type Port = PortNo;

    fn port_of(&self, station: Station) -> Option<PortNo> {
        self.seats.get(&station).map(|seat| seat.port)
    }

    fn port_in_any_vlan(&self, mac: MacAddr) -> Option<PortNo> {
        let all_vlans = Station { mac, vlan: None }..=Station { mac, vlan: Some(u16::MAX) };
        let heard = self.stations.range(all_vlans).filter_map(|station| self.seats.get_key_value(station));
        heard.max_by_key(|(_, seat)| seat.seen).map(|(_, seat)| seat.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn station(last: u8, vlan: Option<u16>) -> Station {
        Station { vlan, mac: MacAddr([2, 0, 0, 0, 0, last]) }
    }

    #[test]
    fn learns_moves_and_forgets() {
        let mut table = MacTable::default();
        let at = Duration::from_secs;
        assert_eq!(table.learn(station(1, None), PortNo(1), at(0)), Learned::New);
        assert_eq!(table.learn(station(1, None), PortNo(1), at(1)), Learned::Same);
        assert_eq!(table.learn(station(1, None), PortNo(2), at(2)), Learned::Moved { from: PortNo(1) });
        assert_eq!(table.learn(station(1, Some(7)), PortNo(3), at(1)), Learned::New);
        assert_eq!(table.port_of(station(1, None)), Some(PortNo(2)));
        assert_eq!(table.port_in_any_vlan(station(1, None).mac), Some(PortNo(2)));
        assert_eq!(table.forget_port(PortNo(2)), 1);
        assert_eq!(table.port_in_any_vlan(station(1, None).mac), Some(PortNo(3)));
        assert_eq!(table.forget(|_, seat| seat.seen <= at(1)), 1);
        assert!(table.is_empty());
    }

    #[test]
    fn is_bounded() {
        let mut table = MacTable::default();
        for number in 0..MAX_STATIONS as u32 + 10 {
            let [_, a, b, c] = number.to_be_bytes();
            let station = Station { vlan: None, mac: MacAddr([2, 0, 0, a, b, c]) };
            let full = table.learn(station, PortNo(1), Duration::ZERO) == Learned::Full;
            assert_eq!(full, number as usize >= MAX_STATIONS);
        }
        assert_eq!(table.len(), MAX_STATIONS);
    }
}
