//! The connections of the repaired NOX balancer, and which of their two entries are on the switch.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use openflow::{Match, MatchField, PortNo, VLAN_PRESENT};

use crate::core::classic::entry::tuple_of;
use crate::core::classic::segment::Tuple;
use crate::core::cookie::Sequence;
use crate::core::hash::Keyed;

/// The most connections that are remembered.
pub const MAX_CONNECTIONS: usize = 262_144;

/// One direction of a connection in a VLAN. Connections are kept under their client's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// VLAN id, `None` without a tag.
    pub vlan: Option<u16>,
    /// Addresses and ports.
    pub tuple: Tuple,
}

impl Key {
    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { tuple: self.tuple.reversed(), ..self }
    }

    /// Reads the match of an entry of ours.
    #[must_use]
    pub fn of_match(match_: &Match) -> Option<Self> {
        let vlan = match_.fields.iter().find_map(|field| match field {
            MatchField::VlanVid { value, mask: None } => Some(*value),
            _ => None,
        })?;
        let vlan = (vlan & VLAN_PRESENT != 0).then_some(vlan & !VLAN_PRESENT);
        Some(Self { vlan, tuple: tuple_of(match_)? })
    }
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's MAC.
    pub client: openflow::MacAddr,
    /// The client's port.
    pub back: PortNo,
    /// The MAC that the client knows.
    pub original: openflow::MacAddr,
    /// The MAC of the host that it was given.
    pub host: openflow::MacAddr,
    /// That host's port.
    pub out: PortNo,
    /// When a packet of it is known to have passed.
    pub seen: Duration,
    /// When its entries were last sent.
    pub sent: Duration,
    /// The entry from the client, if it is on the switch.
    pub forward: Option<Sequence>,
    /// The entry back to the client, if it is on the switch.
    pub reverse: Option<Sequence>,
}

impl Connection {
    /// Whether any of its entries is on the switch.
    #[must_use]
    pub const fn has_entry(&self) -> bool {
        self.forward.is_some() || self.reverse.is_some()
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Connections {
    by_key: HashMap<Key, Connection, Keyed>,
}

impl Connections {
    /// The connection whose client sends with this key.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Connection> {
        self.by_key.get_mut(key)
    }

    /// Notes a connection; whether there was room.
    pub fn add(&mut self, key: Key, connection: Connection) -> bool {
        let room = self.by_key.len() < MAX_CONNECTIONS || self.by_key.contains_key(&key);
        if room {
            self.by_key.insert(key, connection);
        }
        room
    }

    /// Forgets the connections of which no entry is left and no packet passed for `age`.
    pub fn sweep(&mut self, now: Duration, age: Duration) {
        self.by_key
            .retain(|_, connection| connection.has_entry() || now.saturating_sub(connection.seen) < age);
    }

    /// The connections that `which` names, by key.
    #[must_use]
    pub fn select(&self, which: impl Fn(&Connection) -> bool) -> Vec<(Key, Connection)> {
        let mut found: Vec<_> = self
            .by_key
            .iter()
            .filter(|(_, connection)| which(connection))
            .map(|(key, c)| (*key, *c))
            .collect();
        found.sort_unstable_by_key(|(key, _)| *key);
        found
    }

    /// Forgets a connection.
    pub fn remove(&mut self, key: &Key) {
        self.by_key.remove(key);
    }

    /// No entry is on the switch.
    pub fn without_entries(&mut self) {
        let forget = |connection: &mut Connection| (connection.forward, connection.reverse) = (None, None);
        self.by_key.values_mut().for_each(forget);
    }

    /// The switch refused these entries.
    pub fn refused(&mut self, sequences: &BTreeSet<Sequence>) {
        let forget = |connection: &mut Connection| {
            connection.forward = connection.forward.filter(|forward| !sequences.contains(forward));
            connection.reverse = connection.reverse.filter(|reverse| !sequences.contains(reverse));
        };
        self.by_key.values_mut().for_each(forget);
    }

    /// How many entries are on the switch.
    #[must_use]
    pub fn entries(&self) -> usize {
        let count = |connection: &Connection| {
            usize::from(connection.forward.is_some()) + usize::from(connection.reverse.is_some())
        };
        self.by_key.values().map(count).sum()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }
}
