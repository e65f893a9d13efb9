//! The hosts of the network: their addresses, and where they are attached.
//!
//! A host is a MAC in a VLAN. It has at most one attachment point in each cluster of switches, so that a host with a
//! leg in two islands is reached in the common one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use openflow::{DatapathId, MacAddr};

use crate::core::learn::Station;
use crate::core::topo::Place;

/// The most hosts kept behind the ports of one switch.
pub const MAX_HOSTS_OF_A_SWITCH: usize = 65_536;
/// The most addresses kept of one host; the one heard longest ago makes room.
pub const MAX_ADDRESSES: usize = 16;

/// Where a host is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The port.
    pub place: Place,
    /// When it was first heard there.
    pub since: Duration,
    /// When it was last heard there.
    pub seen: Duration,
}

/// One host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Where it is attached, one in each cluster.
    pub points: Vec<Point>,
    /// Its addresses, and when it last named each.
    pub addresses: BTreeMap<IpAddr, Duration>,
}

impl Host {
    /// When it was last heard, anywhere.
    #[must_use]
    pub fn seen(&self) -> Duration {
        self.points.iter().map(|point| point.seen).max().unwrap_or_default()
    }
}

/// What hearing a host changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The host, or this attachment point of it, is new.
    New,
    /// It is where it was.
    Same,
    /// It was somewhere else in the same cluster.
    Moved {
        /// Where it was.
        from: Place,
    },
    /// There are too many behind this switch, and it was not learned.
    Full,
}

/// All hosts.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    hosts: BTreeMap<Station, Host>,
    owners: BTreeMap<(IpAddr, Option<u16>), Station>,
    at: BTreeMap<Place, BTreeSet<Station>>,
    counts: BTreeMap<DatapathId, usize>,
}

impl Hosts {
    /// Notes that a frame of `station` came in at `place`. `same_island` says whether another place is in the same
    /// cluster.
    pub fn learn(
        &mut self,
        station: Station,
        place: Place,
        same_island: &dyn Fn(Place) -> bool,
        now: Duration,
    ) -> Learned {
        let full = self.counts.get(&place.dpid).is_some_and(|count| *count >= MAX_HOSTS_OF_A_SWITCH);
        let known = self.hosts.get_mut(&station);
        if let Some(host) = known {
            if let Some(point) = host.points.iter_mut().find(|point| point.place == place) {
                point.seen = now;
                return Learned::Same;
            }
            if full {
                return Learned::Full;
            }
            let old = host.points.iter().position(|point| same_island(point.place));
            let from = old.map(|at| host.points.remove(at).place);
            host.points.push(Point { place, since: now, seen: now });
            if let Some(from) = from {
                self.unseat(station, from);
            }
            self.seat(station, place);
            return from.map_or(Learned::New, |from| Learned::Moved { from });
        }
        if full {
            return Learned::Full;
        }
        let point = Point { place, since: now, seen: now };
        self.hosts.insert(station, Host { points: vec![point], addresses: BTreeMap::new() });
        self.seat(station, place);
        Learned::New
    }

    fn seat(&mut self, station: Station, place: Place) {
        if self.at.entry(place).or_default().insert(station) {
            *self.counts.entry(place.dpid).or_default() += 1;
        }
    }

    fn unseat(&mut self, station: Station, place: Place) {
        let Some(stations) = self.at.get_mut(&place) else { return };
        if stations.remove(&station)
            && let Some(count) = self.counts.get_mut(&place.dpid)
        {
            *count = count.saturating_sub(1);
        }
        if stations.is_empty() {
            self.at.remove(&place);
        }
    }

    /// Notes the address that a known host named as its own.
    pub fn note_address(&mut self, station: Station, address: IpAddr, now: Duration) {
        let Some(host) = self.hosts.get_mut(&station) else { return };
        host.addresses.insert(address, now);
        if host.addresses.len() > MAX_ADDRESSES
            && let Some((oldest, _)) = host.addresses.iter().min_by_key(|(_, seen)| **seen)
        {
            let oldest = *oldest;
            host.addresses.remove(&oldest);
            self.disown(station, oldest);
        }
        // Whoever named it last has it.
        if let Some(before) = self.owners.insert((address, station.vlan), station)
            && before != station
            && let Some(before) = self.hosts.get_mut(&before)
        {
            before.addresses.remove(&address);
        }
    }

    fn disown(&mut self, station: Station, address: IpAddr) {
        if self.owners.get(&(address, station.vlan)) == Some(&station) {
            self.owners.remove(&(address, station.vlan));
        }
    }

    /// The host that has an address in a VLAN.
    #[must_use]
    pub fn owner(&self, address: IpAddr, vlan: Option<u16>) -> Option<(Station, &Host)> {
        let station = self.owners.get(&(address, vlan))?;
        Some((*station, self.hosts.get(station)?))
    }

    /// Hosts with an address, whatever their VLAN.
    pub fn with_address(&self, address: IpAddr) -> impl Iterator<Item = Station> {
        let range = self.owners.range((address, None)..=(address, Some(u16::MAX)));
        range.map(|(_, station)| *station)
    }

    /// What is known of a host.
    #[must_use]
    pub fn get(&self, station: Station) -> Option<&Host> {
        self.hosts.get(&station)
    }

    /// Where a host is attached, where `same_island` holds.
    #[must_use]
    pub fn place_of(&self, station: Station, same_island: &dyn Fn(Place) -> bool) -> Option<Place> {
        let points = &self.hosts.get(&station)?.points;
        points.iter().map(|point| point.place).find(|place| same_island(*place))
    }

    /// The VLANs in which a MAC was heard, the last heard first.
    #[must_use]
    pub fn with_mac(&self, mac: MacAddr) -> Vec<Station> {
        let all_vlans = Station { mac, vlan: None }..=Station { mac, vlan: Some(u16::MAX) };
        let mut heard: Vec<_> =
            self.hosts.range(all_vlans).map(|(station, host)| (host.seen(), *station)).collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        heard.into_iter().map(|(_, station)| station).collect()
    }

    /// Whether a host is attached at a port.
    #[must_use]
    pub fn is_any_at(&self, place: Place) -> bool {
        self.at.contains_key(&place)
    }

    /// The hosts at a port.
    #[must_use]
    pub fn at(&self, place: Place) -> Vec<Station> {
        self.at.get(&place).into_iter().flatten().copied().collect()
    }

    /// The ports of a switch that have hosts.
    pub fn ports_of(&self, dpid: DatapathId) -> impl Iterator<Item = (Place, usize)> {
        let first = Place::new(dpid, openflow::PortNo(0));
        let last = Place::new(dpid, openflow::PortNo(u32::MAX));
        self.at.range(first..=last).map(|(place, stations)| (*place, stations.len()))
    }

    /// Detaches everything from a port; the hosts that were there. Those without another place are forgotten.
    pub fn forget_place(&mut self, place: Place) -> Vec<Station> {
        let stations = self.at(place);
        for station in &stations {
            self.detach(*station, place);
        }
        stations
    }

    fn detach(&mut self, station: Station, place: Place) {
        self.unseat(station, place);
        let Some(host) = self.hosts.get_mut(&station) else { return };
        host.points.retain(|point| point.place != place);
        if host.points.is_empty() {
            self.forget(station);
        }
    }

    /// Forgets a host.
    pub fn forget(&mut self, station: Station) {
        let Some(host) = self.hosts.remove(&station) else { return };
        for point in host.points {
            self.unseat(station, point.place);
        }
        for address in host.addresses.into_keys() {
            self.disown(station, address);
        }
    }

    /// Of points in one cluster only the youngest stays: islands grew together. The hosts that lost one.
    pub fn merge_islands(&mut self, cluster: &dyn Fn(DatapathId) -> Option<DatapathId>) -> Vec<Station> {
        let mut lost = Vec::new();
        for (station, host) in self.hosts.iter().filter(|(_, host)| host.points.len() > 1) {
            let mut best: BTreeMap<Option<DatapathId>, Point> = BTreeMap::new();
            for point in &host.points {
                let best = best.entry(cluster(point.place.dpid)).or_insert(*point);
                if point.seen > best.seen {
                    *best = *point;
                }
            }
            for point in &host.points {
                if !best.values().any(|best| best == point) {
                    lost.push((*station, point.place));
                }
            }
        }
        for (station, place) in &lost {
            self.detach(*station, *place);
        }
        lost.into_iter().map(|(station, _)| station).collect()
    }

    /// The hosts that were not heard since `then`.
    #[must_use]
    pub fn silent_since(&self, then: Duration) -> Vec<Station> {
        let silent = self.hosts.iter().filter(|(_, host)| host.seen() <= then);
        silent.map(|(station, _)| *station).collect()
    }

    /// All hosts, by MAC and VLAN.
    pub fn iter(&self) -> impl Iterator<Item = (Station, &Host)> {
        self.hosts.iter().map(|(station, host)| (*station, host))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use openflow::PortNo;

    use super::*;

    const fn station(last: u8) -> Station {
        Station { mac: MacAddr([2, 0, 0, 0, 0, last]), vlan: None }
    }

    const fn place(dpid: u64, port: u32) -> Place {
        Place::new(DatapathId(dpid), PortNo(port))
    }

    /// Switches 1 to 9 are one island, 10 to 19 another.
    fn learn(hosts: &mut Hosts, last: u8, at: Place, second: u64) -> Learned {
        let same = move |other: Place| other.dpid.0 / 10 == at.dpid.0 / 10;
        hosts.learn(station(last), at, &same, Duration::from_secs(second))
    }

    #[test]
    fn one_attachment_point_in_each_island() {
        let mut hosts = Hosts::default();
        assert_eq!(learn(&mut hosts, 1, place(1, 1), 0), Learned::New);
        assert_eq!(learn(&mut hosts, 1, place(1, 1), 1), Learned::Same);
        assert_eq!(learn(&mut hosts, 1, place(11, 4), 2), Learned::New, "a second island");
        assert_eq!(learn(&mut hosts, 1, place(2, 3), 3), Learned::Moved { from: place(1, 1) });
        let of =
            |hosts: &Hosts, island: u64| hosts.place_of(station(1), &|place| place.dpid.0 / 10 == island);
        assert_eq!(
            (of(&hosts, 0), of(&hosts, 1), of(&hosts, 2)),
            (Some(place(2, 3)), Some(place(11, 4)), None)
        );
        assert!(!hosts.is_any_at(place(1, 1)) && hosts.is_any_at(place(2, 3)));
        assert_eq!(hosts.merge_islands(&|_| Some(DatapathId(1))), [station(1)]);
        assert_eq!((of(&hosts, 0), of(&hosts, 1)), (Some(place(2, 3)), None), "the one heard last stays");
        assert_eq!(hosts.forget_place(place(2, 3)), [station(1)]);
        assert!(hosts.is_empty());
    }

    #[test]
    fn addresses_belong_to_whoever_named_them_last() {
        let mut hosts = Hosts::default();
        learn(&mut hosts, 1, place(1, 1), 0);
        learn(&mut hosts, 2, place(1, 2), 0);
        let address = IpAddr::from([10, 0, 0, 1]);
        hosts.note_address(station(1), address, Duration::ZERO);
        assert_eq!(hosts.owner(address, None).unwrap().0, station(1));
        assert!(hosts.owner(address, Some(5)).is_none(), "another VLAN");
        hosts.note_address(station(2), address, Duration::ZERO);
        assert_eq!(hosts.owner(address, None).unwrap().0, station(2));
        assert!(hosts.get(station(1)).unwrap().addresses.is_empty());
        hosts.forget(station(2));
        assert!(hosts.owner(address, None).is_none());
        for last in 0..40 {
            let address = IpAddr::from([10, 0, 1, last]);
            hosts.note_address(station(1), address, Duration::from_secs(last.into()));
        }
        assert_eq!(hosts.get(station(1)).unwrap().addresses.len(), MAX_ADDRESSES);
        assert!(hosts.owner(IpAddr::from([10, 0, 1, 0]), None).is_none(), "the oldest made room");
    }

    #[test]
    fn is_bounded_for_each_switch() {
        let mut hosts = Hosts::default();
        for number in 0..MAX_HOSTS_OF_A_SWITCH as u32 + 5 {
            let [_, a, b, c] = number.to_be_bytes();
            let station = Station { mac: MacAddr([2, 1, 0, a, b, c]), vlan: None };
            let full = hosts.learn(station, place(1, number % 4), &|_| true, Duration::ZERO) == Learned::Full;
            assert_eq!(full, number as usize >= MAX_HOSTS_OF_A_SWITCH);
        }
        assert_eq!(learn(&mut hosts, 200, place(2, 1), 0), Learned::New, "another switch has room");
        assert_eq!(hosts.silent_since(Duration::ZERO).len(), MAX_HOSTS_OF_A_SWITCH + 1);
    }
}
