//! The two functions of an address that are part of the contract, written out from their description.

use crate::frame::Ip;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// An IPv4 address mapped into IPv6, as two words read from memory.
fn mapped(address: Ip) -> [u64; 2] {
    let mut second = [0, 0, 0xff, 0xff, 0, 0, 0, 0];
    second[4..].copy_from_slice(&address);
    [0, u64::from_ne_bytes(second)]
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
    let ports = u64::from(client_port.to_be()) + (u64::from(vip_port.to_be()) << 16);
    let rest = ports + (u64::from(protocol) << 48);
    (mix(mix(a.wrapping_mul(GOLDEN) ^ b) ^ rest) >> 32) as u32
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

    #[test]
    fn the_hash_that_is_fixed_for_all_time() {
        assert_eq!(flow([10, 0, 0, 3], 40000, 80, 6), 0x4c4d_3b79);
    }
}
