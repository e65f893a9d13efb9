//! Selection tables: exact proportions of the ring, and the promises of Maglev's consistent hash.
#![cfg(feature = "std")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_core::host::{maglev, ring, seed};
use proptest::prelude::*;

fn counts(ids: &[u16]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for id in ids {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

/// Backends 10.0.x.y:80 with ids from 1 and equal weights.
fn members(n: u16) -> Vec<maglev::Member> {
    (1..=n)
        .map(|id| {
            let [high, low] = id.to_be_bytes();
            maglev::Member { id, weight: 1, seed: seed::backend(IpAddr::from([10, 0, high, low]), 80) }
        })
        .collect()
}

fn table(members: &[maglev::Member]) -> Vec<u16> {
    let mut slots = vec![0; maglev::SLOTS];
    maglev::build(members, &mut slots).unwrap();
    slots
}

/// Slots that differ although they did not belong to `removed`.
fn moved(before: &[u16], after: &[u16], removed: &[u16]) -> usize {
    before.iter().zip(after).filter(|(b, a)| a != b && !removed.contains(b)).count()
}

#[test]
fn equal_weights_differ_by_one_slot() {
    for n in [1, 2, 3, 7, 64, 100, 655] {
        let counts = counts(&table(&members(n)));
        assert_eq!(counts.len(), usize::from(n));
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - least <= 1, "{n} members: {least} to {most} slots");
    }
}

#[test]
fn weights_are_kept_to_the_slot() {
    for weights in [vec![1_u16, 2, 3, 4], vec![256, 1], vec![10, 10, 1], vec![7; 50]] {
        let mut members = members(u16::try_from(weights.len()).unwrap());
        for (member, weight) in members.iter_mut().zip(&weights) {
            member.weight = *weight;
        }
        let counts = counts(&table(&members));
        let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for member in &members {
            let want = f64::from(member.weight) / sum * maglev::SLOTS as f64;
            let have = counts[&member.id] as f64;
            assert!((have - want).abs() < 1.0, "{weights:?}: {member:?} has {have}, wants {want}");
        }
    }
}

#[test]
fn removing_a_backend_moves_at_most_one_per_cent_of_the_others() {
    let limit = maglev::SLOTS / 100;
    for n in [2_u16, 3, 4, 5, 8, 13, 25, 50, 100, 200, 400, 655] {
        let all = members(n);
        let before = table(&all);
        for removed in [1, n / 2 + 1, n] {
            let rest: Vec<_> = all.iter().copied().filter(|m| m.id != removed).collect();
            let moved = moved(&before, &table(&rest), &[removed]);
            assert!(moved <= limit, "{n} members without {removed}: {moved} slots moved");
        }
    }
}

#[test]
fn it_comes_back_as_it_was_and_order_and_ids_do_not_matter() {
    let all = members(40);
    let before = table(&all);
    let mut shuffled = all.clone();
    shuffled.reverse();
    shuffled.rotate_left(7);
    assert_eq!(table(&shuffled), before);
    // New ids after a restart: the same backends own the same slots.
    let renamed: Vec<_> = all.iter().map(|m| maglev::Member { id: 1000 - m.id, ..*m }).collect();
    let back: Vec<u16> = table(&renamed).iter().map(|id| 1000 - id).collect();
    assert_eq!(back, before);
    // Weight 0 is the same as absence.
    let mut without = all.clone();
    without[4].weight = 0;
    let rest: Vec<_> = all.iter().copied().filter(|m| m.id != 5).collect();
    assert_eq!(table(&without), table(&rest));
}

#[test]
fn the_table_is_frozen() {
    // A change here moves the flows of running installations: think twice.
    let slots = table(&members(5));
    let sum = slots.iter().fold(0_u64, |sum, id| sum.wrapping_mul(31).wrapping_add(u64::from(*id)));
    assert_eq!((slots[0], slots[1], slots[65_536], sum), FROZEN);
}

/// First, second and last slot, and a sum over all.
const FROZEN: (u16, u16, u16, u64) = (5, 4, 3, 5_351_911_910_974_176_589);

/// Seeds and weights of 1 to 655 backends: few as often as many, since with few of them weights matter most.
fn pool() -> impl Strategy<Value = BTreeMap<u64, u16>> {
    let size = prop_oneof![1..8_usize, 8..60_usize, 60..656_usize];
    let weights = prop_oneof![
        Just((1_u16, 1_u16, 1_u16)),
        Just((1, 4, 4)),
        Just((1, 256, 256)),
        // A few heavy ones among light ones.
        Just((1, 8, 256)),
    ];
    (size, weights).prop_flat_map(|(size, (low, high, heavy))| {
        let weight = prop_oneof![7 => low..=high, 1 => Just(heavy)];
        proptest::collection::btree_map(any::<u64>(), weight, size)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any set of at most 655 backends with any weights, any one of them removed: the others keep all but 1 % of all
    /// slots.
    #[test]
    fn maglev_disruption(members in pool(), pick in any::<prop::sample::Index>()) {
        let all: Vec<_> = (1..)
            .zip(&members)
            .map(|(id, (&seed, &weight))| maglev::Member { id, weight, seed })
            .collect();
        let gone = all[pick.index(all.len())].id;
        let rest: Vec<_> = all.iter().copied().filter(|m| m.id != gone).collect();
        let (before, after) = (table(&all), table(&rest));
        prop_assert!(rest.is_empty() || after.iter().all(|id| *id != 0 && *id != gone));
        let moved = moved(&before, &after, &[gone]);
        prop_assert!(rest.is_empty() || moved <= maglev::SLOTS / 100, "{} slots moved", moved);
    }

    /// Proportions of a ring are exact while the reduced weights fit.
    #[test]
    fn ring_is_exact_when_it_fits(weights in proptest::collection::vec(0_u16..=40, 1..100)) {
        let members: Vec<_> = (1..).zip(&weights).map(|(id, &weight)| ring::Member { id, weight }).collect();
        let ring = ring::build(&members);
        let sum: usize = weights.iter().map(|w| usize::from(*w)).sum();
        let counts = counts(&ring);
        for member in &members {
            let have = counts.get(&member.id).copied().unwrap_or(0);
            prop_assert_eq!(have * sum, usize::from(member.weight) * ring.len());
        }
        prop_assert!(ring.len() <= sum);
    }

    /// Beyond the bound: full length, nobody left out, heavier never has less.
    #[test]
    fn ring_is_scaled_when_it_does_not(weights in proptest::collection::vec(1_u16..=256, 60..=655)) {
        let members: Vec<_> = (1..).zip(&weights).map(|(id, &weight)| ring::Member { id, weight }).collect();
        let ring = ring::build(&members);
        let sum: usize = weights.iter().map(|w| usize::from(*w)).sum();
        let counts = counts(&ring);
        let is_exact = members.iter().all(|m| counts[&m.id] * sum == usize::from(m.weight) * ring.len());
        prop_assert!(ring.len() == ring::MAX_ENTRIES || (ring.len() < ring::MAX_ENTRIES && is_exact));
        for a in &members {
            prop_assert!(counts.contains_key(&a.id));
            for b in &members {
                prop_assert!(a.weight <= b.weight || counts[&a.id] + 1 >= counts[&b.id]);
            }
        }
    }

    /// Evenly spread: no member waits longer than twice its fair distance.
    #[test]
    fn ring_is_interleaved(weights in proptest::collection::vec(1_u16..=20, 2..12)) {
        let members: Vec<_> = (1..).zip(&weights).map(|(id, &weight)| ring::Member { id, weight }).collect();
        let ring = ring::build(&members);
        for (id, count) in counts(&ring) {
            let fair = ring.len().div_ceil(count);
            let longest = ring.iter().chain(&ring).collect::<Vec<_>>()
                .split(|entry| **entry == id).map(<[_]>::len).max().unwrap_or(0);
            prop_assert!(longest <= 2 * fair, "{:?}: {} waits {} of {}", weights, id, longest, fair);
        }
    }
}
