//! The ring: a sequence of backend ids in which each stands as often as its weight says, evenly spread.
//!
//! Round robin takes `ring[ticket % len]`, random takes `ring[random % len]`; both are then one array look-up for any
//! weights. The sequence is the smooth weighted round robin that nginx uses: each step adds every member's weight to
//! its credit, the member with the most credit is emitted and pays the sum of all weights. Weights 5, 1, 1 give
//! `a a b a c a a`, not `a a a a a b c`.

use crate::table::RING_SLOTS;

/// The longest ring, in entries: 4096.
pub const MAX_ENTRIES: usize = RING_SLOTS;

/// One backend in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The backend's id. Members with id 0, which means "none", are left out.
    pub id: u16,
    /// How often it stands in the ring relative to the others. Members of weight 0 are left out.
    pub weight: u16,
}

/// Builds the ring of `members`, in their order; empty if none has a weight.
///
/// The weights are first divided by their greatest common divisor; if their sum is then at most [`MAX_ENTRIES`], the
/// proportions are exact. Otherwise the ring has exactly [`MAX_ENTRIES`] entries: a member whose share is less than
/// one entry gets one, and the rest is divided among the others by largest remainder, each within one entry of its
/// share of that rest. More than [`MAX_ENTRIES`] members: the first [`MAX_ENTRIES`] have one entry each.
#[must_use]
pub fn build(members: &[Member]) -> Vec<u16> {
    let mut members: Vec<Member> = members.iter().copied().filter(|m| m.id != 0 && m.weight != 0).collect();
    members.truncate(MAX_ENTRIES);
    let weights: Vec<u64> = members.iter().map(|m| u64::from(m.weight)).collect();
    let counts = reduce(&weights);
    let total: i64 = counts.iter().sum();

    let mut credit = vec![0_i64; members.len()];
    let mut ring = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
    for _ in 0..total {
        let mut best: Option<(usize, i64)> = None;
        for (place, (credit, count)) in credit.iter_mut().zip(&counts).enumerate() {
            *credit += count;
            // The first of equals wins, so that equal weights alternate in the given order.
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((place, *credit));
            }
        }
        if let Some((place, _)) = best
            && let (Some(credit), Some(member)) = (credit.get_mut(place), members.get(place))
        {
            *credit -= total;
            ring.push(member.id);
        }
    }
    ring
}

/// The number of entries of each weight: the reduced weights, or their shares of [`MAX_ENTRIES`].
fn reduce(weights: &[u64]) -> Vec<i64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let reduced: Vec<u64> = weights.iter().map(|w| w / divisor).collect();
    let counts = if reduced.iter().sum::<u64>() <= MAX_ENTRIES as u64 {
        reduced
    } else {
        apportion(&reduced, MAX_ENTRIES as u64)
    };
    counts.into_iter().map(|n| i64::try_from(n).unwrap_or(0)).collect()
}

/// Divides `seats` by `weights` (all nonzero, at most `seats` of them): at least one each, the rest by largest
/// remainder.
fn apportion(weights: &[u64], seats: u64) -> Vec<u64> {
    // Members whose share is below one seat get one; that lowers the share of the others, so look again.
    let mut small = vec![false; weights.len()];
    let (mut left, mut sum) = (seats, weights.iter().sum::<u64>());
    loop {
        let mut changed = false;
        let (seats_now, sum_now) = (left, sum);
        for (weight, small) in weights.iter().zip(&mut small) {
            if !*small && weight * seats_now < sum_now {
                *small = true;
                left = left.saturating_sub(1);
                sum -= weight;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let sum = sum.max(1);
    let mut counts: Vec<u64> =
        weights.iter().zip(&small).map(|(w, small)| if *small { 1 } else { w * left / sum }).collect();
    let mut order: Vec<usize> = (0..weights.len()).filter(|i| !small[*i]).collect();
    order.sort_by_key(|i| (core::cmp::Reverse(weights[*i] * left % sum), *i));
    let missing = seats.saturating_sub(counts.iter().sum());
    for place in order.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        counts[place] += 1;
    }
    counts
}

/// Greatest common divisor; `gcd(0, n)` is `n`.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(weights: &[u16]) -> Vec<u16> {
        let members: Vec<Member> = (1..).zip(weights).map(|(id, &weight)| Member { id, weight }).collect();
        build(&members)
    }

    #[test]
    fn known_sequences() {
        assert_eq!(ring(&[]), []);
        assert_eq!(ring(&[0, 0]), []);
        assert_eq!(ring(&[1, 1]), [1, 2]);
        assert_eq!(ring(&[7, 7]), [1, 2]);
        assert_eq!(ring(&[5, 1, 1]), [1, 1, 2, 1, 3, 1, 1]);
        assert_eq!(ring(&[0, 3]), [2]);
        assert_eq!(build(&[Member { id: 0, weight: 1 }, Member { id: 9, weight: 1 }]), [9]);
    }

    #[test]
    fn shares_below_one_entry_get_one() {
        let counts = apportion(&[1, 1, 1_000_000], 10);
        assert_eq!(counts, [1, 1, 8]);
        // The first round makes the weight 1 small, which then makes 999 small too.
        let counts = apportion(&[1, 999, 8_000, 1_000], 10);
        assert_eq!(counts.iter().sum::<u64>(), 10);
        assert!(counts.iter().all(|n| *n >= 1), "{counts:?}");
    }
}
