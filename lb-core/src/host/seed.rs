//! The stable name of a backend in hash space.
//!
//! A consistent hash only keeps its word over restarts, reorderings of the file and new ids if the place of a backend
//! comes from what it is, not from where it stands. Its seed is therefore a hash of its address and port alone, by a
//! function that is written out here and must never change: another function would move every untracked flow.

use core::net::{IpAddr, Ipv6Addr};

use super::addr::MacAddr;

/// The seed of a backend from its address and the port that it serves on, 0 for a VIP of every port.
///
/// 64 bits, so two of the at most 655 backends of a VIP collide with a probability below 2^-45; a collision costs
/// balance between those two, nothing else.
#[must_use]
pub const fn backend(address: IpAddr, port: u16) -> u64 {
    match address {
        IpAddr::V4(address) => mix(((u32::from_be_bytes(address.octets()) as u64) << 16) | port as u64),
        IpAddr::V6(address) => mix(address_v6(address) ^ port as u64),
    }
}

/// The seed of a backend that its MAC tells from others of its address, from what it would have alone.
#[must_use]
pub const fn apart(seed: u64, mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    mix(seed ^ u64::from_be_bytes([0, 1, a, b, c, d, e, f]))
}

/// A hash of an IPv6 address.
#[must_use]
pub(crate) const fn address_v6(address: Ipv6Addr) -> u64 {
    let bits = address.to_bits();
    mix(mix((bits >> 64) as u64) ^ bits as u64)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection of 64 bits in which every input bit
/// moves every output bit with a probability near one half.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_never_change() {
        // First outputs of the reference SplitMix64 with seed 0 (each input advanced by the golden ratio).
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
        // Frozen: changing it moves flows of running installations.
        assert_eq!(backend(IpAddr::from([10, 0, 0, 1]), 80), mix(0x0a00_0001_0050));
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 2]);
        assert_eq!(backend(v6, 80), mix(mix(mix(0x2001_0db8_0000_0001) ^ 2) ^ 80));
    }

    #[test]
    fn address_and_port_both_matter() {
        let a = IpAddr::from([10, 0, 0, 1]);
        assert_ne!(backend(a, 80), backend(a, 81));
        assert_ne!(backend(a, 80), backend(IpAddr::from([10, 0, 0, 2]), 80));
    }
}
