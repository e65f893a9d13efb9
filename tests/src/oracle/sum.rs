//! Checksums as numbers modulo 65535, which is what one's complement sums are.

/// The checksum field after 16-bit words under it went from `old` to `new`, right or wrong as it was before
/// (RFC 1624).
#[must_use]
pub fn updated(field: u16, old: &[u16], new: &[u16]) -> u16 {
    let invert = |word: &u16| u64::from(0xffff - word);
    let sum = invert(&field)
        + old.iter().map(invert).sum::<u64>()
        + new.iter().map(|word| u64::from(*word)).sum::<u64>();
    // Of the two zeros a sum of anything but zeros is the one of all ones.
    let folded = if sum == 0 { 0 } else { (sum - 1) % 0xffff + 1 };
    0xffff - folded as u16
}

/// The two words of an address.
#[must_use]
pub fn words(address: [u8; 4]) -> [u16; 2] {
    [u16::from_be_bytes([address[0], address[1]]), u16::from_be_bytes([address[2], address[3]])]
}

/// The pseudo header's sum, not inverted.
#[must_use]
pub fn pseudo(src: [u8; 4], dst: [u8; 4], protocol: u8, length: usize) -> u16 {
    let sum: u64 = words(src)
        .iter()
        .chain(&words(dst))
        .map(|word| u64::from(*word))
        .chain([u64::from(protocol), length as u64])
        .sum();
    if sum == 0 { 0 } else { ((sum - 1) % 0xffff + 1) as u16 }
}

/// Whether IPv4 header and transport checksum of a frame are right, by etherparse; `None` where it cannot say.
#[must_use]
pub fn valid(frame: &[u8]) -> Option<bool> {
    use etherparse::{SlicedPacket, TransportSlice};
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let ip = packet.net.as_ref()?.ipv4_ref()?;
    let header = ip.header().to_header();
    let transport = match packet.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => {
            tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).ok()? == tcp.checksum()
        }
        TransportSlice::Udp(udp) => {
            udp.checksum() == 0
                || udp.to_header().calc_checksum_ipv4(&header, udp.payload()).ok()? == udp.checksum()
        }
        _ => return None,
    };
    Some(transport && header.calc_header_checksum() == header.header_checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1624_section_4() {
        assert_eq!(updated(0xdd2f, &[0x5555], &[0x3285]), 0);
        assert_eq!(updated(0x1234, &[7, 9], &[7, 9]), 0x1234);
    }

    #[test]
    fn pseudo_header_by_hand() {
        assert_eq!(pseudo([10, 0, 0, 1], [10, 0, 0, 2], 6, 20), 0x141d);
    }
}
