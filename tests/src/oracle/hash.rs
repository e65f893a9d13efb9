//! The two functions of an address that are part of the contract, written out from their description.

use crate::frame::Ip;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// An address as two words read from memory, an IPv4 address mapped into IPv6.
fn mapped(address: Ip) -> [u64; 2] {
    let octets = match address {
        Ip::V4(v4) => v4.to_ipv6_mapped().octets(),
        Ip::V6(v6) => v6.octets(),
    };
    let word = |half: &[u8]| half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    // As a little-endian machine reads it.
    [word(&octets[..8]), word(&octets[8..])]
}

/// Position of an address in an "is it ours?" bitmap: both words joined, times the golden ratio, upper 16 bits.
#[must_use]
pub fn bitmap_bit(address: Ip) -> u16 {
    let [a, b] = mapped(address);
    ((a ^ b).wrapping_mul(GOLDEN) >> 48) as u16
}

/// The flow hash of consistent choices: client address, client port, port on the VIP's side, protocol; two
/// rounds of the mixer of SplitMix64 (Stafford's variant 13), upper half.
#[must_use]
pub fn flow(client: Ip, client_port: u16, vip_port: u16, protocol: u8) -> u32 {
    let mix = |mut h: u64| {
        h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^ h >> 31
    };
    let [a, b] = mapped(client);
    let ports = u64::from(client_port.swap_bytes()) + (u64::from(vip_port.swap_bytes()) << 16);
    let rest = ports + (u64::from(protocol) << 48);
    (mix(mix(a.wrapping_mul(GOLDEN) ^ b) ^ rest) >> 32) as u32
}

/// The hash of a client alone: the flow hash with both ports zero.
#[must_use]
pub fn source(client: Ip, protocol: u8) -> u32 {
    flow(client, 0, 0, protocol)
}

/// The slot of a consistent hash table of 65537 slots that a hash falls into, in proportion.
#[must_use]
pub fn maglev_slot(hash: u32) -> usize {
    ((u128::from(hash) * 65537) / (1 << 32)) as usize
}

/// The slot of a ring that a random number falls into, in proportion.
#[must_use]
pub fn ring_slot(random: u32, length: usize) -> usize {
    ((u128::from(random) * length as u128) / (1 << 32)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::v4;

    #[test]
    fn the_hash_that_is_fixed_for_all_time() {
        assert_eq!(flow(v4(10, 0, 0, 3), 40000, 80, 6), 0x4c4d_3b79);
    }
}
