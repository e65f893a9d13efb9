//! The direct-mapped tables in front of the service hash tables.

use std::collections::BTreeMap;

use crate::table::{BackendSlot, ServiceKey, ServiceRecord, VipSlot, VipTarget};

/// A slot of a direct-mapped table.
pub trait Slot: Copy + PartialEq {
    /// What a key stands for.
    type Value: Copy;

    /// The slot of `key`; `more` says that other keys share it.
    fn new(key: ServiceKey, value: Self::Value, more: bool) -> Self;
}

impl Slot for VipSlot {
    type Value = VipTarget;

    fn new(key: ServiceKey, target: VipTarget, more: bool) -> Self {
        Self { key, target, more: u64::from(more) }
    }
}

impl Slot for BackendSlot {
    type Value = ServiceRecord;

    fn new(key: ServiceKey, record: ServiceRecord, more: bool) -> Self {
        Self { key, record, more: u64::from(more) }
    }
}

/// The used slots for the entries of a hash table. Of several keys of one slot the smallest owns it: it is found
/// fastest, and the order in which they came does not matter.
#[must_use]
pub fn build<S: Slot>(entries: &BTreeMap<ServiceKey, S::Value>) -> BTreeMap<u32, S> {
    let mut shared: BTreeMap<u32, Vec<ServiceKey>> = BTreeMap::new();
    for key in entries.keys() {
        shared.entry(key.slot()).or_default().push(*key);
    }
    shared
        .into_iter()
        .filter_map(|(slot, keys)| {
            let key = *keys.first()?;
            Some((slot, S::new(key, *entries.get(&key)?, keys.len() > 1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Address, SERVICE_SLOTS};

    #[test]
    fn every_key_is_found_in_its_slot_or_sent_to_the_hash_table() {
        let key = |n: u16| ServiceKey::new(Address::from_v4([10, 0, 0, 1]), n, 6);
        let entries: BTreeMap<_, _> = (1..=5000).map(|n| (key(n), VipTarget::new(n, 0))).collect();
        let slots: BTreeMap<u32, VipSlot> = build(&entries);
        assert!(slots.keys().all(|slot| (*slot as usize) < SERVICE_SLOTS));
        let mut shared = 0;
        for (key, target) in &entries {
            let slot = slots[&key.slot()];
            if slot.key == *key {
                assert_eq!(slot.target, *target);
            } else {
                assert_eq!(slot.more, 1);
                shared += 1;
            }
        }
        assert!(shared > 900, "5000 keys cannot have 4096 slots for themselves");
    }
}
