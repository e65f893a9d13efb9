//! Checksums as numbers modulo 65535, which is what one's complement sums are.

use crate::frame::{Ip, octets};

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

/// The words of an address.
#[must_use]
pub fn words(address: Ip) -> Vec<u16> {
    octets(address).chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

/// The pseudo header's sum, not inverted.
#[must_use]
pub fn pseudo(src: Ip, dst: Ip, protocol: u8, length: usize) -> u16 {
    let sum: u64 = words(src)
        .iter()
        .chain(&words(dst))
        .map(|word| u64::from(*word))
        .chain([u64::from(protocol), length as u64])
        .sum();
    if sum == 0 { 0 } else { ((sum - 1) % 0xffff + 1) as u16 }
}

/// The checksum of these bytes behind this pseudo header (0: none).
#[must_use]
pub fn complete(pseudo: u16, bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    let sum: u64 = bytes.chunks(2).map(word).sum::<u64>() + u64::from(pseudo);
    0xffff - if sum == 0 { 0 } else { ((sum - 1) % 0xffff + 1) as u16 }
}

/// Whether IPv4 header and transport checksum of a frame are right, by etherparse; `None` where it cannot say.
#[must_use]
pub fn valid(frame: &[u8]) -> Option<bool> {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let net = packet.net.as_ref()?;
    let transport = packet.transport.as_ref()?;
    let (tcp, udp) = match transport {
        TransportSlice::Tcp(tcp) => (Some((tcp.to_header(), tcp.payload())), None),
        TransportSlice::Udp(udp) => (None, Some((udp.to_header(), udp.payload()))),
        _ => return None,
    };
    let right = match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            let transport = match (&tcp, &udp) {
                (Some((tcp, data)), _) => tcp.calc_checksum_ipv4(&header, data).ok()? == tcp.checksum,
                (_, Some((udp, data))) => {
                    udp.checksum == 0 || udp.calc_checksum_ipv4(&header, data).ok()? == udp.checksum
                }
                _ => return None,
            };
            transport && header.calc_header_checksum() == header.header_checksum
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            match (&tcp, &udp) {
                (Some((tcp, data)), _) => tcp.calc_checksum_ipv6(&header, data).ok()? == tcp.checksum,
                (_, Some((udp, data))) => udp.calc_checksum_ipv6(&header, data).ok()? == udp.checksum,
                _ => return None,
            }
        }
        NetSlice::Arp(_) => return None,
    };
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::v4;

    #[test]
    fn rfc1624_section_4() {
        assert_eq!(updated(0xdd2f, &[0x5555], &[0x3285]), 0);
        assert_eq!(updated(0x1234, &[7, 9], &[7, 9]), 0x1234);
    }

    #[test]
    fn a_complete_checksum_by_hand() {
        // RFC 1071, section 3: the sum of these is ddf2.
        assert_eq!(complete(0, &[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(complete(0xddf2, &[]), !0xddf2);
    }

    #[test]
    fn pseudo_header_by_hand() {
        assert_eq!(pseudo(v4(10, 0, 0, 1), v4(10, 0, 0, 2), 6, 20), 0x141d);
    }
}
