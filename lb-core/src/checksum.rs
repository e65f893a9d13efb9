//! Internet checksum arithmetic (RFC 1071, RFC 1624).
//!
//! All values are kept as they lie in memory (network byte order read by a native load): the one's
//! complement sum does not care for byte order as long as it is one and the same (RFC 1071, section 2 (B)).

use crate::table::Address;

/// A change of the data under a checksum: the one's complement sum of what came minus what went.
///
/// Differences of several fields are joined with [`Diff::and`] and applied once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diff(u64);

impl Diff {
    /// Nothing changed.
    pub const NONE: Self = Self(0);

    /// A 16-bit field went from `old` to `new`.
    #[inline(always)]
    pub fn of16(old: u16, new: u16) -> Self {
        Self((!old) as u64 + new as u64)
    }

    /// A 32-bit field went from `old` to `new`.
    #[inline(always)]
    pub fn of32(old: u32, new: u32) -> Self {
        Self((!old) as u64 + new as u64)
    }

    /// An address went from `old` to `new`, as it stands in a header of its version.
    #[inline(always)]
    pub fn of_address(old: Address, new: Address, is_v6: bool) -> Self {
        if !is_v6 {
            return Self::of32(old.v4_wire(), new.v4_wire());
        }
        let halves = |word: u64| (word as u32, (word >> 32) as u32);
        let mut diff = Self::NONE;
        for (old, new) in [(old.0[0], new.0[0]), (old.0[1], new.0[1])] {
            let (o, n) = (halves(old), halves(new));
            diff = diff.and(Self::of32(o.0, n.0)).and(Self::of32(o.1, n.1));
        }
        diff
    }

    /// Both changes together.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum after the change: `HC' = ~(~HC + ~m + m')` (RFC 1624, equation 3).
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + (!checksum) as u64)
    }

    /// The change as a 32-bit sum, as `bpf_l4_csum_replace` takes it.
    #[inline(always)]
    pub fn sum32(self) -> u32 {
        ((self.0 & 0xffff_ffff) + (self.0 >> 32)) as u32
    }
}

/// Folds a sum of 16- and 32-bit words to 16 bits, end-around carry included.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of the 16-bit words of an address, not folded.
#[inline(always)]
pub fn sum_address(address: Address, is_v6: bool) -> u64 {
    if !is_v6 {
        return address.v4_wire() as u64;
    }
    let [a, b] = address.0;
    (a & 0xffff_ffff) + (a >> 32) + (b & 0xffff_ffff) + (b >> 32)
}

/// The pseudo header sum of TCP, UDP or ICMPv6 over either version (RFC 793, section 3.1; RFC 8200, section 8.1), not folded.
/// `l4_length` in host byte order.
#[inline(always)]
pub fn pseudo_header(
    source: Address,
    destination: Address,
    protocol: u8,
    l4_length: u32,
    is_v6: bool,
) -> u64 {
    sum_address(source, is_v6)
        + sum_address(destination, is_v6)
        + (protocol as u16).to_be() as u64
        + (l4_length as u16).to_be() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(words: &[u16]) -> u16 {
        !fold(words.iter().map(|w| *w as u64).sum())
    }

    #[test]
    fn rfc1624_section_4_example() {
        // HC = 0xDD2F, m = 0x5555, m' = 0x3285: the answer is 0x0000, where equation 2 would give 0xffff.
        assert_eq!(Diff::of16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn a_32_bit_change_equals_two_16_bit_changes() {
        let words = [0x4500, 0x0073, 0x0000, 0x4000, 0x4011, 0xc0a8, 0x0001, 0xc0a8, 0x00c7];
        let before = full(&words);
        let mut changed = words;
        (changed[5], changed[6]) = (0x0a00, 0x0102);
        let by32 = Diff::of32(0xc0a8_0001, 0x0a00_0102).apply(before);
        let by16 = Diff::of16(0xc0a8, 0x0a00).and(Diff::of16(0x0001, 0x0102)).apply(before);
        assert_eq!(by32, full(&changed));
        assert_eq!(by16, full(&changed));
    }

    #[test]
    fn no_change_leaves_the_checksum() {
        for checksum in [0u16, 1, 0x1234, 0xfffe] {
            assert_eq!(Diff::of32(7, 7).apply(checksum), checksum);
        }
    }

    #[test]
    fn pseudo_header_by_hand() {
        // 10.0.0.1 -> 10.0.0.2, TCP, 20 bytes: 0a00+0001+0a00+0002+0006+0014 = 141d.
        let got =
            pseudo_header(Address::from_v4([10, 0, 0, 1]), Address::from_v4([10, 0, 0, 2]), 6, 20, false);
        assert_eq!(u16::from_be(fold(got)), 0x141d);
    }

    proptest::proptest! {
        #[test]
        fn incremental_equals_recomputed(mut words: [u16; 12], at in 0usize..11, new: [u16; 2]) {
            words[11] |= 1; // an all-zero input has two representations of its sum
            let before = full(&words);
            let old = [words[at], words[at + 1]];
            let mut changed = words;
            (changed[at], changed[at + 1]) = (new[0], new[1]);
            proptest::prop_assume!(changed.iter().any(|w| *w != 0));
            let diff = Diff::of16(old[0], new[0]).and(Diff::of16(old[1], new[1]));
            proptest::prop_assert_eq!(diff.apply(before), full(&changed));
        }
    }
}
