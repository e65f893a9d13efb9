//! The lists of port ranges: of the ranges at one address and protocol, and of the VIPs of one address prefix.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::addr::Prefix;
use super::config::{Ports, Protocol, VipKey};
use crate::table::MAX_PORT_LISTS;

/// What a list belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The ranges of a protocol at an address.
    Address(IpAddr, Protocol),
    /// The VIPs of a prefix.
    Prefix(Prefix),
}

/// Ports of a protocol, and the VIP that serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The ports; those of all may be among them for a prefix.
    pub ports: Ports,
    /// The protocol.
    pub protocol: Protocol,
    /// The VIP's id.
    pub vip: u16,
}

/// All lists, by number from 1.
///
/// A list that changes gets another number, so that the new one is complete before anything leads to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    lists: BTreeMap<u16, (Owner, Vec<Range>)>,
}

impl Lists {
    /// The lists of `vips` (each with its id), with the numbers that they have in `last`.
    #[must_use]
    pub fn new(vips: impl Iterator<Item = (VipKey, u16)>, last: Option<&Self>) -> Self {
        let mut wanted: BTreeMap<Owner, Vec<Range>> = BTreeMap::new();
        for (key, vip) in vips {
            let owner = match (key.prefix(), key.ports.is_range()) {
                (Some(prefix), _) => Owner::Prefix(prefix),
                (None, true) => Owner::Address(key.address, key.protocol),
                (None, false) => continue,
            };
            wanted.entry(owner).or_default().push(Range { ports: key.ports, protocol: key.protocol, vip });
        }
        for list in wanted.values_mut() {
            // The first that fits is taken: the narrowest.
            list.sort_unstable_by_key(|range| {
                let (first, last) = range.ports.bounds();
                (last - first, *range)
            });
        }
        let none = Self::default();
        let last = last.unwrap_or(&none);
        let mut lists = BTreeMap::new();
        wanted.retain(|owner, list| {
            let same = last.lists.iter().find(|(_, (o, l))| o == owner && l == list);
            same.is_none_or(|(number, entry)| {
                lists.insert(*number, entry.clone());
                false
            })
        });
        for (owner, list) in wanted {
            let number = Self::free(&lists, &last.lists).or_else(|| last.number(owner));
            if let Some(number) = number.or_else(|| Self::free(&lists, &none.lists)) {
                lists.insert(number, (owner, list));
            }
        }
        Self { lists }
    }

    /// The lowest number in neither.
    fn free<T>(a: &BTreeMap<u16, T>, b: &BTreeMap<u16, T>) -> Option<u16> {
        let taken: BTreeSet<u16> = a.keys().chain(b.keys()).copied().collect();
        (1..u16::try_from(MAX_PORT_LISTS).unwrap_or(u16::MAX)).find(|number| !taken.contains(number))
    }

    /// The number of an owner's list.
    #[must_use]
    pub fn number(&self, owner: Owner) -> Option<u16> {
        self.lists.iter().find(|(_, (other, _))| *other == owner).map(|(number, _)| *number)
    }

    /// Every list: its number, its owner, and its ranges in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Owner, &[Range])> {
        self.lists.iter().map(|(number, (owner, list))| (*number, *owner, list.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str, prefix_len: Option<u8>, ports: Ports) -> VipKey {
        VipKey { address: address.parse().unwrap(), prefix_len, ports, protocol: Protocol::Tcp }
    }

    fn range(first: u16, last: u16) -> Ports {
        Ports::range(first, last).unwrap()
    }

    #[test]
    fn a_list_keeps_its_number_until_it_changes() {
        let (wide, narrow) = (key("10.0.1.1", None, range(1, 100)), key("10.0.1.1", None, range(200, 210)));
        let other = key("10.0.1.2", None, range(1, 100));
        let plain = key("10.0.1.3", None, Ports::one(80));
        let first = Lists::new([(wide, 1), (other, 2), (plain, 3)].into_iter(), None);
        let owner = |key: VipKey| Owner::Address(key.address, key.protocol);
        assert_eq!((first.number(owner(wide)), first.number(owner(other))), (Some(1), Some(2)));
        assert_eq!(first.number(owner(plain)), None);
        let second = Lists::new([(wide, 1), (narrow, 4), (other, 2)].into_iter(), Some(&first));
        assert_eq!((second.number(owner(wide)), second.number(owner(other))), (Some(3), Some(2)));
        let (_, _, ranges) = second.iter().find(|(number, ..)| *number == 3).unwrap();
        assert_eq!(ranges.iter().map(|range| range.vip).collect::<Vec<_>>(), [4, 1], "the narrowest first");
        assert_eq!(Lists::new([(wide, 1), (narrow, 4), (other, 2)].into_iter(), Some(&second)), second);
    }

    #[test]
    fn the_vips_of_a_prefix_are_one_list() {
        let vips = [
            (key("2001:db8:1::", Some(64), Ports::ALL), 1),
            (key("2001:db8:1::", Some(64), Ports::one(443)), 2),
            (key("2001:db8:2::", Some(64), Ports::one(443)), 3),
        ];
        let lists = Lists::new(vips.into_iter(), None);
        let owner = Owner::Prefix("2001:db8:1::/64".parse().unwrap());
        let number = lists.number(owner).unwrap();
        let (_, _, ranges) = lists.iter().find(|(n, ..)| *n == number).unwrap();
        assert_eq!(ranges.iter().map(|range| range.vip).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(lists.iter().count(), 2);
    }
}
