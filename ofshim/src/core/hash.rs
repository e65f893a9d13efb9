//! A cheap hash for tables that are looked into for every packet.
//!
//! Each word is mixed by one multiplication of 64 by 64 bits, of which both halves are used. Senders choose the
//! addresses in those tables, so the two words that go in are drawn anew for every table: who does not know them cannot
//! choose addresses that fall together. Nothing depends on the order of such a table.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes the hashers of one table.
#[derive(Clone, Debug)]
pub struct Keyed {
    start: u64,
    factor: u64,
}

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        // An odd factor loses no bit of what it multiplies.
        Self { start: random.hash_one(1_u8), factor: random.hash_one(2_u8) | 1 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer { state: self.start, factor: self.factor }
    }
}

/// Mixes words into one.
#[derive(Clone, Debug)]
pub struct Mixer {
    state: u64,
    factor: u64,
}

impl Hasher for Mixer {
    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.factor);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        fold(self.state, LAST)
    }
}

/// Multiplies once more at the end: with some factors, addresses in a row differ in few of the upper bits by then.
const LAST: u64 = 0x9e37_79b9_7f4a_7c15;

/// Both halves of the product in one word.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A MAC address and a VLAN id as one word; no tag is 0xffff, which is no VLAN id.
#[must_use]
pub fn word(mac: openflow::MacAddr, vlan: Option<u16>) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    let [g, h] = vlan.unwrap_or(u16::MAX).to_be_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_in_a_row_fall_into_different_places() {
        let keyed = Keyed::default();
        for shift in [0, 16, 40, 56] {
            let low: BTreeSet<u64> = (0..256_u64).map(|n| keyed.hash_one(n << shift) >> 57).collect();
            let high: BTreeSet<u64> = (0..256_u64).map(|n| keyed.hash_one(n << shift) & 0xffff).collect();
            assert!(low.len() > 90 && high.len() > 240, "{shift}: {} and {}", low.len(), high.len());
        }
    }
}
