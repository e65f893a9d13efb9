//! What keeps a model that runs for long true and small: tables that follow a plan, and entries that are let go.

use std::collections::{BTreeMap, BTreeSet};

use super::{Connections, Model};
use crate::conn;
use crate::table::{ConnKey, ConnValue, RATE_WINDOW_BITS, ServiceKey, Ticks, VipTarget, ticks_since};

impl Model {
    /// What the VIPs serve, in the place of all that was served before. The bitmap is not touched.
    pub fn set_targets(&mut self, targets: BTreeMap<ServiceKey, VipTarget>) {
        self.vip_targets = targets;
    }

    /// A connection of either kind.
    #[must_use]
    pub fn connection(&self, key: &ConnKey) -> Option<ConnValue> {
        let entry = self.established.get(key).or_else(|| self.half_open.get(key));
        entry.map(crate::table::ConnEntry::get)
    }

    /// Changes a connection of either kind; whether it is there.
    pub fn change_connection(&self, key: &ConnKey, change: impl FnOnce(&mut ConnValue)) -> bool {
        let Some(entry) = self.established.get(key).or_else(|| self.half_open.get(key)) else { return false };
        let mut value = entry.get();
        change(&mut value);
        entry.set(&value);
        true
    }

    /// Makes a half-open connection an established one: what is between its two ends from now on is not seen here. One
    /// that is closing, or closed, stays so.
    pub fn promote(&self, key: &ConnKey) {
        let begun = |value: &mut ConnValue| {
            if matches!(value.state, conn::state::SYN | conn::state::UNVERIFIED) {
                value.state = conn::state::ESTABLISHED;
                value.flags |= conn::flag::ANSWERED;
            }
        };
        let Some(entry) = self.half_open.get(key) else {
            // One that began anew lies where the one before it lay.
            self.change_connection(key, begun);
            return;
        };
        let mut value = entry.get();
        begun(&mut value);
        if self.established.insert(key, &value) {
            self.half_open.remove(key);
        }
    }

    /// Forgets a connection of either kind.
    pub fn forget(&self, key: &ConnKey) {
        self.half_open.remove(key);
        self.established.remove(key);
    }

    /// How many connections there are, of both kinds.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.established.len() + self.half_open.len()
    }

    /// Whether another connection of either kind finds room.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.established.has_room() && self.half_open.has_room()
    }

    /// Forgets the connections that were idle for too long, for one that has ended is not long, and counts the load of the
    /// backends anew from those that stay and have not ended: what comes late of an ended one (a FIN sent again, the last
    /// ACK) still finds its backend. `busy` names those whose packets pass without being seen here: they count as seen now.
    pub fn sweep(&self, now: Ticks, busy: impl Fn(&ConnKey) -> bool) {
        let mut loads: BTreeMap<u16, i64> = BTreeMap::new();
        for table in [&self.established, &self.half_open] {
            let mut gone = Vec::new();
            table.each(|key, entry| {
                if busy(key) {
                    entry.last_seen.set(now);
                } else if !conn::is_live(entry, now, &self.settings) {
                    gone.push(*key);
                    return;
                }
                if !conn::is_finished(entry) {
                    *loads.entry(entry.backend.get()).or_default() += 1;
                }
            });
            gone.iter().for_each(|key| table.remove(key));
        }
        *self.loads.borrow_mut() = loads;
    }

    /// The connections to let go of so that `count` more find room, the one first that was idle for longest; those that
    /// are `busy` come last.
    #[must_use]
    pub fn oldest(&self, count: usize, now: Ticks, busy: impl Fn(&ConnKey) -> bool) -> Vec<ConnKey> {
        let mut all = Vec::with_capacity(self.connection_count());
        for table in [&self.established, &self.half_open] {
            table.each(|key, entry| {
                all.push((busy(key), u32::MAX - ticks_since(now, entry.last_seen.get()), *key));
            });
        }
        let count = count.min(all.len());
        if count > 0 && count < all.len() {
            all.select_nth_unstable(count - 1);
        }
        all.truncate(count);
        all.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Forgets what is remembered of clients and of fragments beyond its time, and beyond `most` of each kind all that
    /// is left.
    pub fn forget_clients(&self, now: Ticks, most: usize) {
        let affinity = |vip: u64| {
            let record = u16::try_from(vip).ok().and_then(|id| self.vips.get(&id));
            record.map_or(0, |record| record.affinity)
        };
        let mut clients = self.affinity.borrow_mut();
        clients.retain(|key, value| ticks_since(now, value.last_seen) <= affinity(key.vip));
        bound(&mut clients, most);
        let mut sources = self.sources.borrow_mut();
        sources.retain(|_, rate| rate.window == now >> RATE_WINDOW_BITS);
        bound(&mut sources, most);
        let mut fragments = self.fragments.borrow_mut();
        let timeout = self.settings.fragment_timeout;
        fragments.retain(|_, value| ticks_since(now, value.first_seen) <= timeout);
        bound(&mut fragments, most);
        bound(&mut self.askers.borrow_mut(), most);
    }

    /// The backends that connections name, and the VIPs.
    #[must_use]
    pub fn in_use(&self) -> (BTreeSet<u16>, BTreeSet<u16>) {
        let (mut backends, mut vips) = (BTreeSet::new(), BTreeSet::new());
        for table in [&self.established, &self.half_open] {
            table.each(|key, entry| {
                backends.insert(entry.backend.get());
                vips.insert(key.vip());
            });
        }
        (backends, vips)
    }
}

fn bound<K, V>(map: &mut BTreeMap<K, V>, most: usize) {
    if map.len() > most {
        map.clear();
    }
}

impl Connections {
    fn len(&self) -> usize {
        self.index.borrow().len()
    }

    fn has_room(&self) -> bool {
        !self.free.borrow().is_empty()
    }

    fn each(&self, mut what: impl FnMut(&ConnKey, &crate::table::ConnEntry)) {
        for (key, at) in self.index.borrow().iter() {
            if let Some(entry) = self.entries.get(*at) {
                what(key, entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Address, Settings};

    const SETTINGS: Settings = Settings {
        schema: 0,
        suspect_timeout: 10,
        timeouts: [0, 10, 100, 10, 10, 50, 10, 0],
        flags: 0,
        max_new: 0,
        fragment_timeout: 10,
        reserved: 0,
    };

    fn key(port: u16) -> ConnKey {
        ConnKey::new(Address::from_v4([10, 0, 0, 9]), port, 1, 80, 6)
    }

    fn value(state: u8, last_seen: Ticks) -> ConnValue {
        ConnValue { backend: 3, state, last_seen, ..ConnValue::default() }
    }

    fn model(entries: &[(u16, u8, Ticks)]) -> Model {
        let model = Model::new(SETTINGS, 4);
        for (port, state, seen) in entries {
            assert!(model.put_connection(&key(*port), &value(*state, *seen)));
        }
        model
    }

    #[test]
    fn a_sweep_forgets_what_was_idle_for_too_long_and_keeps_what_is_busy() {
        let model = model(&[(1, conn::state::ESTABLISHED, 0), (2, conn::state::CLOSED, 95), (3, 2, 99)]);
        model.sweep(101, |_| false);
        assert_eq!(model.connections().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(2), key(3)]);
        assert_eq!(model.loads.borrow().get(&3), Some(&1), "what has ended is no load");
        model.sweep(106, |_| false);
        assert_eq!(model.connections().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(3)]);
        model.sweep(300, |busy| *busy == key(3));
        assert_eq!(model.connection(&key(3)).map(|value| value.last_seen), Some(300));
        model.sweep(401, |_| false);
        assert_eq!((model.connection_count(), model.loads.borrow().len()), (0, 0));
    }

    #[test]
    fn the_oldest_leave_first_and_the_busy_last() {
        let model = model(&[(1, 2, 10), (2, 2, 5), (3, 2, 20), (4, 2, 1)]);
        assert!(!model.has_room());
        let mut oldest = model.oldest(2, 30, |busy| *busy == key(4));
        oldest.sort_unstable();
        assert_eq!(oldest, [key(1), key(2)]);
        assert_eq!(model.oldest(9, 30, |_| false).len(), 4);
        model.forget(&key(1));
        assert!(model.has_room() && model.connection(&key(1)).is_none());
    }

    #[test]
    fn a_promoted_connection_is_established_unless_it_ends() {
        use crate::table::Tables;
        let model = model(&[]);
        for (port, state, after) in [(1, conn::state::SYN, 2), (2, conn::state::CLOSING, 3), (3, 6, 2)] {
            assert!(model.half_open_insert(&key(port), &value(state, 0)));
            model.promote(&key(port));
            assert_eq!(model.connection(&key(port)).map(|value| value.state), Some(after));
        }
        // In the place of one that was established.
        model.change_connection(&key(1), |there| *there = value(conn::state::SYN, 9));
        model.promote(&key(1));
        assert_eq!(model.connection(&key(1)).map(|value| value.state), Some(conn::state::ESTABLISHED));
        assert_eq!((model.connections().len(), model.half_open_connections().len()), (3, 0));
    }

    #[test]
    fn clients_are_forgotten_with_their_time() {
        use crate::table::{AffinityValue, ClientKey, Tables, VipRecord};
        let mut model = model(&[]);
        model.vips.insert(1, VipRecord { affinity: 50, ..VipRecord::default() });
        let client = |last| ClientKey { client: Address::from_v4([10, 0, 0, last]), vip: 1 };
        for (last, seen) in [(1, 10), (2, 90)] {
            model.affinity_set(&client(last), &AffinityValue { last_seen: seen, ..AffinityValue::default() });
        }
        model.forget_clients(100, 8);
        assert!(model.affinity(&client(1)).is_none() && model.affinity(&client(2)).is_some());
        model.forget_clients(100, 0);
        assert!(model.affinity(&client(2)).is_none(), "beyond the bound");
    }
}
