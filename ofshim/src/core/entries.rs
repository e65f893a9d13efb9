//! The flow entries of one switch that are ours and come and go with the traffic.
//!
//! What is here is what the switch has: an entry is added when its flow-mod is sent, or when the switch lists it after
//! a reconnect, and leaves with its flow-removed or its deletion. So stations and ports can go by strict deletes of
//! exactly these entries, in both versions, and nobody else's are touched.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use openflow::{MacAddr, PortNo};

use super::cookie::{Purpose, Sequence};
use super::hash::{Keyed, word};
use super::learn::Station;

/// The most entries kept on one switch; frames beyond it are forwarded one by one.
pub const MAX_ENTRIES: usize = 65_536;

/// What an entry matches: the port, the VLAN, and both addresses, all exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The port that frames come in on.
    pub in_port: PortNo,
    /// The VLAN id, `None` for frames without a tag.
    pub vlan: Option<u16>,
    /// Source address.
    pub src: MacAddr,
    /// Destination address.
    pub dst: MacAddr,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(word(self.src, self.vlan));
        state.write_u64(word(self.dst, None));
        state.write_u64(self.in_port.0.into());
    }
}

impl Key {
    /// The station that sends.
    #[must_use]
    pub const fn source(&self) -> Station {
        Station { vlan: self.vlan, mac: self.src }
    }

    /// The station that receives.
    #[must_use]
    pub const fn destination(&self) -> Station {
        Station { vlan: self.vlan, mac: self.dst }
    }
}

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is for.
    pub purpose: Purpose,
    /// The port that frames leave by; `None` drops them.
    pub out: Option<PortNo>,
    /// Tells it from an earlier entry with the same match.
    pub sequence: Sequence,
    /// When it was installed, or found.
    pub since: Duration,
}

/// The entries of one switch.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    entries: HashMap<Key, Entry, Keyed>,
    last: Sequence,
}

impl Entries {
    /// Notes an entry that is about to be installed, and gives it its sequence number; also the entry that it
    /// replaces. `None` if there are too many.
    pub fn install(
        &mut self,
        key: Key,
        purpose: Purpose,
        out: Option<PortNo>,
        now: Duration,
    ) -> Option<(Entry, Option<Entry>)> {
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            return None;
        }
        self.last = self.last.next();
        let entry = Entry { purpose, out, sequence: self.last, since: now };
        Some((entry, self.entries.insert(key, entry)))
    }

    /// Takes over an entry that the switch listed; false if there are too many, or one with the same match.
    pub fn adopt(&mut self, key: Key, entry: Entry) -> bool {
        if self.entries.len() >= MAX_ENTRIES || self.entries.contains_key(&key) {
            return false;
        }
        self.last = self.last.max(entry.sequence);
        self.entries.insert(key, entry);
        true
    }

    /// The switch removed an entry: forgets it, unless the one that is here came later.
    pub fn removed(&mut self, key: Key, purpose: Purpose, sequence: Sequence) -> Option<Entry> {
        let same = |entry: &Entry| entry.purpose == purpose && entry.sequence == sequence;
        if self.entries.get(&key).is_some_and(same) { self.entries.remove(&key) } else { None }
    }

    /// The switch refused an entry: forgets it. Whether it was here.
    pub fn refused(&mut self, purpose: Purpose, sequence: Sequence) -> bool {
        let same = |entry: &Entry| entry.purpose == purpose && entry.sequence == sequence;
        !self.take(|_, entry| same(entry)).is_empty()
    }

    /// Takes out the entries that `gone` names, ordered by match; they have to be deleted from the switch.
    pub fn take(&mut self, gone: impl Fn(&Key, &Entry) -> bool) -> Vec<(Key, Entry)> {
        let mut taken: Vec<_> = self.entries.extract_if(|key, entry| gone(key, entry)).collect();
        taken.sort_unstable_by_key(|(key, _)| *key);
        taken
    }

    /// The entry with this match.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All source stations, in no order.
    pub fn sources(&self) -> impl Iterator<Item = Station> {
        self.entries.keys().map(Key::source)
    }

    /// All entries, ordered by match.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| **key);
        entries.into_iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        in_port: PortNo(1),
        vlan: None,
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
    };

    #[test]
    fn a_late_flow_removed_does_not_forget_the_successor() {
        let mut entries = Entries::default();
        let (first, _) = entries.install(KEY, Purpose::Forward, Some(PortNo(2)), Duration::ZERO).unwrap();
        let (second, replaced) =
            entries.install(KEY, Purpose::Forward, Some(PortNo(3)), Duration::ZERO).unwrap();
        assert_eq!(replaced, Some(first));
        assert_eq!(entries.removed(KEY, Purpose::Forward, first.sequence), None);
        assert_eq!(entries.removed(KEY, Purpose::Forward, second.sequence), Some(second));
        assert!(entries.is_empty());
    }

    #[test]
    fn sequence_numbers_go_on_after_adopted_ones() {
        let mut entries = Entries::default();
        let sequence = Sequence::default().next().next();
        let found = Entry { purpose: Purpose::Forward, out: None, sequence, since: Duration::ZERO };
        assert!(entries.adopt(KEY, found) && !entries.adopt(KEY, found));
        let (entry, _) = entries.install(KEY, Purpose::Forward, None, Duration::ZERO).unwrap();
        assert_eq!(entry.sequence, sequence.next());
        assert_eq!(entries.take(|_, entry| entry.out.is_none()).len(), 1);
    }
}
