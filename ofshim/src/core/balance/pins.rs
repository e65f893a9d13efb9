//! The entries of connections: which there are, on which switch, and of which connection.
//!
//! A leg is one direction of a connection: an entry that rewrites, at the switch where packets come in, and ordinary
//! entries of routes that lead what it sends on. What is here is what the switches have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_core::conn::Side;
use lb_core::table::ConnKey;
use openflow::DatapathId;
use openflow::PortNo;

use crate::core::cookie::Sequence;
use crate::core::entries::MAX_ENTRIES;
use crate::core::net::FlowKey;
use crate::core::topo::Place;

/// What an entry of a connection matches, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LegKey {
    /// The port that packets come in on.
    pub at: Place,
    /// What they are.
    pub came: FlowKey,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Whose it is.
    pub conn: ConnKey,
    /// Who sends.
    pub side: Side,
    /// What leaves.
    pub left: FlowKey,
    /// The port that it leaves by.
    pub out: PortNo,
    /// Seconds without a packet after which the entry goes.
    pub idle_s: u16,
    /// Whether a FIN or RST shortens its life.
    pub watches: bool,
    /// What the routes behind it match, if there are any.
    pub rest: Option<FlowKey>,
    /// Tells the entry from an earlier one with the same match.
    pub sequence: Sequence,
    /// When it was installed, or found.
    pub since: Duration,
}

/// All legs.
#[derive(Debug, Default)]
pub struct Pins {
    legs: BTreeMap<LegKey, Leg>,
    by_conn: BTreeMap<ConnKey, Vec<LegKey>>,
    by_number: BTreeMap<(DatapathId, Sequence), LegKey>,
    by_rest: BTreeMap<FlowKey, LegKey>,
    counts: BTreeMap<DatapathId, usize>,
    last: Sequence,
}

impl Pins {
    /// The leg with this match.
    #[must_use]
    pub fn get(&self, key: &LegKey) -> Option<&Leg> {
        self.legs.get(key)
    }

    /// Whether a connection has entries.
    #[must_use]
    pub fn is_busy(&self, conn: &ConnKey) -> bool {
        self.by_conn.contains_key(conn)
    }

    /// The legs of a connection.
    #[must_use]
    pub fn of(&self, conn: &ConnKey) -> Vec<LegKey> {
        self.by_conn.get(conn).cloned().unwrap_or_default()
    }

    /// The leg whose routes match this.
    #[must_use]
    pub fn with_rest(&self, rest: &FlowKey) -> Option<LegKey> {
        self.by_rest.get(rest).copied()
    }

    /// Whether a switch has room for another entry.
    #[must_use]
    pub fn has_room(&self, dpid: DatapathId) -> bool {
        self.counts.get(&dpid).is_none_or(|count| *count < MAX_ENTRIES)
    }

    /// A number for an entry that is about to be installed.
    pub fn next_number(&mut self) -> Sequence {
        self.last = self.last.next();
        self.last
    }

    /// Notes a leg, in place of one with the same match.
    pub fn insert(&mut self, key: LegKey, leg: Leg) {
        self.remove(&key);
        self.last = self.last.max(leg.sequence);
        *self.counts.entry(key.at.dpid).or_default() += 1;
        self.by_conn.entry(leg.conn).or_default().push(key);
        self.by_number.insert((key.at.dpid, leg.sequence), key);
        if let Some(rest) = leg.rest {
            self.by_rest.insert(rest, key);
        }
        self.legs.insert(key, leg);
    }

    /// Forgets a leg; what it was.
    pub fn remove(&mut self, key: &LegKey) -> Option<Leg> {
        let leg = self.legs.remove(key)?;
        if let Some(count) = self.counts.get_mut(&key.at.dpid) {
            *count = count.saturating_sub(1);
        }
        if let Some(legs) = self.by_conn.get_mut(&leg.conn) {
            legs.retain(|other| other != key);
            if legs.is_empty() {
                self.by_conn.remove(&leg.conn);
            }
        }
        if self.by_number.get(&(key.at.dpid, leg.sequence)) == Some(key) {
            self.by_number.remove(&(key.at.dpid, leg.sequence));
        }
        if let Some(rest) = leg.rest
            && self.by_rest.get(&rest) == Some(key)
        {
            self.by_rest.remove(&rest);
        }
        Some(leg)
    }

    /// Forgets the leg whose entry has this number on this switch.
    pub fn take_numbered(&mut self, dpid: DatapathId, sequence: Sequence) -> Option<(LegKey, Leg)> {
        let key = *self.by_number.get(&(dpid, sequence))?;
        self.remove(&key).map(|leg| (key, leg))
    }

    /// All legs, by place and match.
    pub fn iter(&self) -> impl Iterator<Item = (&LegKey, &Leg)> {
        self.legs.iter()
    }

    /// The legs on a switch.
    #[must_use]
    pub fn at(&self, dpid: DatapathId) -> BTreeSet<LegKey> {
        let at = self.by_number.range((dpid, Sequence::default())..).take_while(|((of, _), _)| *of == dpid);
        at.map(|(_, key)| *key).collect()
    }

    /// How many legs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.legs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// How many connections have entries.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.by_conn.len()
    }
}

#[cfg(test)]
mod tests {
    use lb_core::table::Address;
    use openflow::MacAddr;

    use super::*;

    fn key(port: u32, vlan: u16) -> LegKey {
        let came = FlowKey {
            src: None,
            dst: MacAddr([2; 6]),
            vlan: Some(vlan),
            ethertype: None,
            ip: None,
            by_port: true,
        };
        LegKey { at: Place::new(DatapathId(1), PortNo(port)), came }
    }

    fn leg(pins: &mut Pins, client: u16, rest: Option<FlowKey>) -> Leg {
        Leg {
            conn: ConnKey::new(Address::from_v4([10, 0, 0, 9]), client, 1, 80, 6),
            side: Side::Client,
            left: key(0, 9).came,
            out: PortNo(4),
            idle_s: 10,
            watches: true,
            rest,
            sequence: pins.next_number(),
            since: Duration::ZERO,
        }
    }

    #[test]
    fn legs_are_found_by_connection_number_and_rest() {
        let mut pins = Pins::default();
        let rest = key(0, 3).came;
        let (first, second) = (leg(&mut pins, 1, Some(rest)), leg(&mut pins, 1, None));
        pins.insert(key(1, 1), first);
        pins.insert(key(2, 2), second);
        assert_eq!(pins.of(&first.conn), [key(1, 1), key(2, 2)]);
        assert_eq!(pins.with_rest(&rest), Some(key(1, 1)));
        assert_eq!(pins.at(DatapathId(1)).len(), 2);
        // Another entry with the same match: the number of the one before says nothing any more.
        let third = leg(&mut pins, 2, None);
        pins.insert(key(1, 1), third);
        assert_eq!(pins.take_numbered(DatapathId(1), first.sequence), None);
        assert_eq!((pins.with_rest(&rest), pins.of(&first.conn)), (None, vec![key(2, 2)]));
        assert_eq!(pins.take_numbered(DatapathId(1), third.sequence), Some((key(1, 1), third)));
        assert!(pins.remove(&key(2, 2)).is_some() && pins.is_empty() && !pins.is_busy(&first.conn));
        assert_eq!(pins.connections(), 0);
    }
}
