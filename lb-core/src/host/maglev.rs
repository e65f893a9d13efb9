//! The consistent hash table, after "Maglev: A Fast and Reliable Software Network Load Balancer" (Eisenbud et al.,
//! NSDI 2016), section 3.4, with two changes that halve the slots that move.
//!
//! As in the paper, every member has a permutation of all slots, made from its seed alone, and the members go through
//! their permutations side by side, each taking the slots that are still free, so that everybody's early choices win.
//! Other than in the paper
//!
//! * a step is one look at one slot, and a member leaves when it has its quota. In the paper a step is one slot taken,
//!   however far a member has to look for it, so the removal of a member delays its neighbours' later choices, and a
//!   delayed choice is lost to somebody else;
//! * a member of weight w comes to its k-th slot of M at the time that the k-th of M exponential clocks of rate w is
//!   expected to ring: it waits 1 / (w (M - k)) after the one before. Of several members the first at a slot is then
//!   each with the share of its weight, however many there are (the minimum of exponential variables), so that quotas
//!   have almost nothing to correct. With steps of one length, a heavy member came to its last slots too early,
//!   its quota left the rest to the others, and every removal divided that rest anew;
//! * the permutation is cubic, `skip * (j + shift)^3 + offset mod M`, and not linear. Two linear ones with related
//!   skips run into each other again and again. Cubing is a bijection modulo a prime M if 3 does not divide M - 1.
//!
//! With one of 2 to 655 members removed, at most 0.48 % of the slots moved that were not the removed member's when all
//! weighed the same (by the paper's rule up to 1.4 %), and at most 0.67 % with weights of 1 to 256 at random, of 1 to
//! 4, and of a few heavy ones among light ones (with steps of one length up to 2.6 %). Quotas are the exact shares of
//! the weights, rounded by largest remainder, so equal members differ by at most one slot.
//!
//! The table depends only on the set of (seed, weight), not on the order of the members nor on their ids.

use core::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::seed::mix;
use crate::table::MAGLEV_SLOTS;

/// The number of slots of a table unless told otherwise, 65537: a prime, and a hundred for each of 655 members.
pub const SLOTS: usize = MAGLEV_SLOTS;

/// One backend of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What is written into its slots. Members with id 0, which means "empty", are left out.
    pub id: u16,
    /// Its share relative to the others. Members of weight 0 are left out.
    pub weight: u16,
    /// Its stable name in hash space, see [`super::seed::backend`]; members of one table have different ones.
    pub seed: u64,
}

/// The table's size would leave slots out of the permutations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a Maglev table needs a prime number of slots that leaves 2 when divided by 3, not {0}; usual is 65537"
)]
pub struct BadSize(pub usize);

/// A member while the table is built.
struct Walk {
    id: u16,
    weight: u64,
    /// The next step of its permutation.
    step: u64,
    /// Slots that it still has to take.
    quota: u64,
    shift: u64,
    skip: u64,
    offset: u64,
}

/// Fills `slots` with the ids of `members`; with zeros (empty) if none has a weight.
///
/// # Errors
/// [`BadSize`] unless the number of slots is a prime of the form 3k + 2 below 2^32; `slots` is then untouched.
pub fn build(members: &[Member], slots: &mut [u16]) -> Result<(), BadSize> {
    let size = slots.len() as u64;
    if !is_good_size(size) {
        return Err(BadSize(slots.len()));
    }
    slots.fill(0);
    let mut walks = walks(members, size);
    let first = walks.iter().enumerate().filter(|(_, walk)| walk.quota > 0);
    // Whose turn it is next: the earliest time, and of equal times the lowest place.
    let mut turns: BinaryHeap<Reverse<(u64, usize)>> =
        first.map(|(place, walk)| Reverse((walk.wait(size), place))).collect();
    while let Some(mut turn) = turns.peek_mut() {
        let Reverse((time, place)) = *turn;
        let goes_on = walks.get_mut(place).is_some_and(|walk| !walk.look(slots, size));
        match walks.get(place).filter(|_| goes_on) {
            Some(walk) => *turn = Reverse((time + walk.wait(size), place)),
            None => drop(PeekMut::pop(turn)),
        }
    }
    Ok(())
}

/// Time runs in units of 2^-48: the shortest wait, of weight 256 at the first slot of 65537, is 1.6e7 of them, and the
/// sum of all waits of weight 1, ln(M) + 0.58, fits 64 bits for every M below 2^32.
const TIME: u64 = 1 << 48;

impl Walk {
    /// How long it waits before its next step; at least one slot is left.
    fn wait(&self, size: u64) -> u64 {
        TIME / (self.weight * (size - self.step).max(1))
    }

    /// Takes the next slot of the permutation if it is free. True when there is nothing more to take: the quota is
    /// full, which happens within `size` steps because the quotas add up to the size and the permutation comes to
    /// every slot.
    fn look(&mut self, slots: &mut [u16], size: u64) -> bool {
        let place = usize::try_from(self.place(self.step, size)).unwrap_or(usize::MAX);
        self.step += 1;
        if self.quota > 0
            && let Some(slot) = slots.get_mut(place)
            && *slot == 0
        {
            *slot = self.id;
            self.quota -= 1;
        }
        if self.step >= size {
            self.quota = 0;
        }
        self.quota == 0
    }

    /// The slot at `step` of the permutation. All values are below 2^32, so no product overflows.
    fn place(&self, step: u64, size: u64) -> u64 {
        let base = (step + self.shift) % size;
        let cube = base * base % size * base % size;
        (self.skip * cube + self.offset) % size
    }
}

/// The members in the order of their seeds, with their quotas.
fn walks(members: &[Member], size: u64) -> Vec<Walk> {
    let mut members: Vec<Member> = members.iter().copied().filter(|m| m.id != 0 && m.weight != 0).collect();
    members.sort_unstable_by_key(|m| (m.seed, m.id));
    let sum: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    let share = |m: &Member| u64::from(m.weight) * size;
    let mut walks: Vec<Walk> = members
        .iter()
        .map(|m| Walk {
            id: m.id,
            weight: u64::from(m.weight),
            step: 0,
            quota: share(m) / sum.max(1),
            shift: mix(m.seed ^ 0x7368_6966_7400) % size,
            skip: mix(m.seed ^ 0x736b_6970_0000) % (size - 1) + 1,
            offset: mix(m.seed ^ 0x6f66_6673_6574) % size,
        })
        .collect();
    let mut order: Vec<(Reverse<u64>, usize)> =
        members.iter().enumerate().map(|(place, m)| (Reverse(share(m) % sum.max(1)), place)).collect();
    order.sort_unstable();
    let given: u64 = walks.iter().map(|walk| walk.quota).sum();
    let missing = usize::try_from(size - given).unwrap_or(0);
    for (_, place) in order.into_iter().take(missing) {
        if let Some(walk) = walks.get_mut(place) {
            walk.quota += 1;
        }
    }
    walks
}

/// Whether `n` is a prime of the form 3k + 2 below 2^32, by trial division; 65537 takes 128 steps.
fn is_good_size(n: u64) -> bool {
    let prime = n == 2
        || (n > 2 && n % 2 == 1 && (3..).step_by(2).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d)));
    n < 1 << 32 && n % 3 == 2 && prime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good: Vec<u64> = (0..60).filter(|n| is_good_size(*n)).collect();
        assert_eq!(good, [2, 5, 11, 17, 23, 29, 41, 47, 53, 59]);
        assert!(is_good_size(SLOTS as u64) && !is_good_size(1 << 40));
        let mut slots = [7; 7];
        assert_eq!(build(&[], &mut slots), Err(BadSize(7)));
        assert_eq!(slots, [7; 7]);
    }

    #[test]
    fn every_permutation_comes_to_every_slot() {
        for size in [2, 5, 11, 53, SLOTS as u64] {
            for walk in
                walks(&[Member { id: 1, weight: 1, seed: 3 }, Member { id: 2, weight: 1, seed: 4 }], size)
            {
                let mut places: Vec<u64> = (0..size).map(|step| walk.place(step, size)).collect();
                places.sort_unstable();
                assert!(places.iter().copied().eq(0..size), "{size}");
            }
        }
    }

    #[test]
    fn smallest_tables_are_filled() {
        let members: Vec<Member> = (1..=5).map(|id| Member { id, weight: id, seed: u64::from(id) }).collect();
        for size in [2, 5, 11] {
            let mut slots = vec![0; size];
            assert_eq!(build(&members, &mut slots), Ok(()));
            assert!(slots.iter().all(|id| *id != 0), "{slots:?}");
        }
        let mut slots = [9; 5];
        assert_eq!(build(&[Member { id: 1, weight: 0, seed: 1 }], &mut slots), Ok(()));
        assert_eq!(slots, [0; 5]);
    }
}
