//! The routes that are installed: which flow leaves which switch by which port.
//!
//! What is here is what the switches have. A flow's entries are found by the ports that they use and by the hosts that
//! they serve, so that a dead link or a host that moved touches its own flows and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::{DatapathId, PortNo};

use super::key::FlowKey;
use crate::core::cookie::Sequence;
use crate::core::entries::MAX_ENTRIES;
use crate::core::learn::Station;
use crate::core::topo::Place;

/// One switch's part of a flow's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The port that frames leave by.
    pub out: PortNo,
    /// Tells the entry from an earlier one with the same match.
    pub sequence: Sequence,
    /// When it was installed, or found.
    pub since: Duration,
    /// Whether it was found on its switch, and not installed by this controller.
    pub found: bool,
}

/// A route by the switches and ports that it passes: where frames come in, and what happens to them there. The port is
/// [`PortNo::ANY`] if entries do not match it.
pub type Hops = BTreeMap<Place, Hop>;

/// All installed routes.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    flows: BTreeMap<FlowKey, Hops>,
    by_place: BTreeSet<(Place, FlowKey)>,
    by_station: BTreeSet<(Station, FlowKey)>,
    counts: BTreeMap<DatapathId, usize>,
    last: Sequence,
}

impl Flows {
    /// The hops of a flow.
    #[must_use]
    pub fn hops(&self, key: &FlowKey) -> Option<&Hops> {
        self.flows.get(key)
    }

    /// The hop of a flow for frames that come in at `at`.
    #[must_use]
    pub fn hop(&self, key: &FlowKey, at: Place) -> Option<&Hop> {
        self.flows.get(key)?.get(&seat(key, at))
    }

    /// Notes a hop that is about to be installed, and gives its sequence number; `None` if the switch has too many.
    pub fn install(&mut self, key: FlowKey, at: Place, out: PortNo, now: Duration) -> Option<Sequence> {
        self.last = self.last.next();
        let hop = Hop { out, sequence: self.last, since: now, found: false };
        self.adopt(key, at, hop).then_some(hop.sequence)
    }

    /// Takes over a hop that a switch listed; false if the switch has too many.
    pub fn adopt(&mut self, key: FlowKey, at: Place, hop: Hop) -> bool {
        let at = seat(&key, at);
        let there = self.flows.get(&key).is_some_and(|hops| hops.contains_key(&at));
        let count = self.counts.entry(at.dpid).or_default();
        if !there && *count >= MAX_ENTRIES {
            return false;
        }
        if there {
            self.remove(&key, at);
        }
        *self.counts.entry(at.dpid).or_default() += 1;
        self.last = self.last.max(hop.sequence);
        self.flows.entry(key).or_default().insert(at, hop);
        self.by_place.insert((Place::new(at.dpid, hop.out), key));
        if key.by_port {
            self.by_place.insert((at, key));
        }
        self.by_station.extend(key.source().map(|source| (source, key)));
        self.by_station.insert((key.destination(), key));
        true
    }

    /// Forgets a hop; what it was.
    pub fn remove(&mut self, key: &FlowKey, at: Place) -> Option<Hop> {
        let at = seat(key, at);
        let hops = self.flows.get_mut(key)?;
        let hop = hops.remove(&at)?;
        if let Some(count) = self.counts.get_mut(&at.dpid) {
            *count = count.saturating_sub(1);
        }
        for place in [at, Place::new(at.dpid, hop.out)] {
            let used =
                hops.iter().any(|(other, hop)| *other == place || Place::new(other.dpid, hop.out) == place);
            if !used {
                self.by_place.remove(&(place, *key));
            }
        }
        if hops.is_empty() {
            self.flows.remove(key);
            self.by_station.remove(&(key.destination(), *key));
            if let Some(source) = key.source() {
                self.by_station.remove(&(source, *key));
            }
        }
        Some(hop)
    }

    /// Forgets a hop that its switch removed or refused, unless the one that is here came later.
    pub fn removed(&mut self, key: &FlowKey, at: Place, sequence: Sequence) -> bool {
        let same = self.hop(key, at).is_some_and(|hop| hop.sequence == sequence);
        same && self.remove(key, at).is_some()
    }

    /// The hop of a switch with a sequence number.
    #[must_use]
    pub fn with_sequence(&self, dpid: DatapathId, sequence: Sequence) -> Option<(FlowKey, Place)> {
        self.flows.iter().find_map(|(key, hops)| {
            let hop = hops.iter().find(|(at, hop)| at.dpid == dpid && hop.sequence == sequence);
            hop.map(|(at, _)| (*key, *at))
        })
    }

    /// The flows that come in or leave by a port.
    #[must_use]
    pub fn using(&self, place: Place) -> Vec<FlowKey> {
        let from = (place, FIRST);
        let using = self.by_place.range(from..).take_while(|(at, _)| *at == place);
        using.map(|(_, key)| *key).collect()
    }

    /// The flows from and to a host.
    #[must_use]
    pub fn of_station(&self, station: Station) -> Vec<FlowKey> {
        let from = (station, FIRST);
        let of = self.by_station.range(from..).take_while(|(at, _)| *at == station);
        of.map(|(_, key)| *key).collect()
    }

    /// Whether any flow is from or to a host.
    #[must_use]
    pub fn is_busy(&self, station: Station) -> bool {
        self.by_station.range((station, FIRST)..).next().is_some_and(|(at, _)| *at == station)
    }

    /// The hops of one switch.
    #[must_use]
    pub fn at(&self, dpid: DatapathId) -> Vec<(FlowKey, Place, Hop)> {
        let hops = self.flows.iter().flat_map(|(key, hops)| hops.iter().map(|(at, hop)| (*key, *at, *hop)));
        hops.filter(|(_, at, _)| at.dpid == dpid).collect()
    }

    /// All flows.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &Hops)> {
        self.flows.iter()
    }

    /// How many hops there are on all switches.
    #[must_use]
    pub fn hop_count(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

/// Less than or equal to every key.
const FIRST: FlowKey = FlowKey {
    src: None,
    dst: openflow::MacAddr([0; 6]),
    vlan: None,
    ethertype: None,
    ip: None,
    by_port: false,
};

/// Where a hop is kept.
fn seat(key: &FlowKey, at: Place) -> Place {
    if key.by_port { at } else { Place::new(at.dpid, PortNo::ANY) }
}

#[cfg(test)]
mod tests {
    use openflow::MacAddr;

    use super::*;

    const KEY: FlowKey = FlowKey { src: Some(MacAddr([2; 6])), dst: MacAddr([4; 6]), by_port: true, ..FIRST };

    const fn place(dpid: u64, port: u32) -> Place {
        Place::new(DatapathId(dpid), PortNo(port))
    }

    #[test]
    fn hops_are_found_by_port_and_by_host() {
        let mut flows = Flows::default();
        let first = flows.install(KEY, place(1, 1), PortNo(2), Duration::ZERO).unwrap();
        flows.install(KEY, place(2, 5), PortNo(6), Duration::ZERO).unwrap();
        for port in [place(1, 1), place(1, 2), place(2, 5), place(2, 6)] {
            assert_eq!(flows.using(port), [KEY], "{port}");
        }
        assert!(flows.using(place(1, 5)).is_empty());
        assert_eq!(flows.of_station(KEY.destination()), [KEY]);
        assert_eq!(flows.of_station(KEY.source().unwrap()), [KEY]);
        let again = flows.install(KEY, place(1, 1), PortNo(3), Duration::ZERO).unwrap();
        assert!(flows.using(place(1, 2)).is_empty() && flows.using(place(1, 3)) == [KEY]);
        assert!(!flows.removed(&KEY, place(1, 1), first), "a late message about the one before");
        assert_eq!(flows.with_sequence(DatapathId(1), again), Some((KEY, place(1, 1))));
        assert!(flows.removed(&KEY, place(1, 1), again) && flows.remove(&KEY, place(2, 5)).is_some());
        assert!(flows.is_empty() && !flows.is_busy(KEY.destination()) && flows.hop_count() == 0);
        assert!(flows.using(place(2, 6)).is_empty());
    }

    #[test]
    fn entries_that_do_not_match_the_port_are_one_a_switch() {
        let mut flows = Flows::default();
        let key = FlowKey { by_port: false, ..KEY };
        flows.install(key, place(1, 1), PortNo(2), Duration::ZERO);
        flows.install(key, place(1, 7), PortNo(3), Duration::ZERO);
        assert_eq!(flows.hop_count(), 1);
        assert_eq!(flows.hop(&key, place(1, 9)).unwrap().out, PortNo(3));
    }
}
