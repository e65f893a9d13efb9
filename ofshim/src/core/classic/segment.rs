//! What the seed balancers read of a packet beyond its addresses: TCP over IPv4, and who names itself in ARP.

use std::net::{IpAddr, Ipv4Addr};

use openflow::MacAddr;

use crate::core::frame::Frame;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// Flags of TCP (RFC 9293, 3.1; the last two are RFC 3168's).
const FIN: u8 = 0x01;
/// See [`FIN`].
pub const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Bytes of an Ethernet header, without and with a tag.
const ETHERNET_BYTES: usize = 14;
const TAGGED_BYTES: usize = 18;

/// One direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: Ipv4Addr,
    /// Source port.
    pub src_port: u16,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Destination port.
    pub dst_port: u16,
}

impl Tuple {
    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, src_port: self.dst_port, dst: self.src, dst_port: self.src_port }
    }
}

/// A TCP segment over IPv4, not in a later fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// The flags.
    pub flags: u8,
    /// The six upper bits of the type of service.
    pub dscp: u8,
    /// The priority in the VLAN tag, 0 without one.
    pub pcp: u8,
}

impl Segment {
    /// The segment in a frame, of which `data` are the bytes; `None` if there is none.
    #[must_use]
    pub fn of(frame: &Frame, data: &[u8]) -> Option<Self> {
        let ip = frame.ip.filter(|ip| ip.protocol == TCP)?;
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else { return None };
        let (src_port, dst_port) = ip.ports?;
        let packet = data.get(payload_at(frame)..)?;
        let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
        let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
        let flags = *packet.get(header_bytes + 13)?;
        let pcp = frame.vlan.and_then(|_| data.get(ETHERNET_BYTES)).map_or(0, |tag| tag >> 5);
        let tuple = Tuple { src, src_port, dst, dst_port };
        (fragment == 0).then_some(Self { tuple, flags, dscp: packet.get(1)? >> 2, pcp })
    }

    /// Whether it opens a connection; flags of ECN do not matter.
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }
}

/// The MAC that an ARP packet names as its sender's.
#[must_use]
pub fn arp_sender_mac(frame: &Frame, data: &[u8]) -> Option<MacAddr> {
    frame.arp?;
    let at = payload_at(frame) + 8;
    Some(MacAddr(data.get(at..at + 6)?.try_into().ok()?))
}

const fn payload_at(frame: &Frame) -> usize {
    if frame.vlan.is_some() { TAGGED_BYTES } else { ETHERNET_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment from 10.0.0.3:40000 to 10.0.1.1:80.
    fn bytes(flags: u8, offset: u16, tag: Option<[u8; 2]>) -> Vec<u8> {
        let mut bytes = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 3]].concat();
        if let Some(tag) = tag {
            bytes.extend([0x81, 0x00]);
            bytes.extend(tag);
        }
        bytes.extend([0x08, 0x00, 0x45, 0xb9, 0, 40, 0, 0]);
        bytes.extend(offset.to_be_bytes());
        bytes.extend([64, 6, 0, 0, 10, 0, 0, 3, 10, 0, 1, 1]);
        bytes.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Segment> {
        Segment::of(&Frame::parse(bytes)?, bytes)
    }

    #[test]
    fn segments_with_and_without_a_tag() {
        let [src, dst] = [[10, 0, 0, 3], [10, 0, 1, 1]].map(Ipv4Addr::from);
        let tuple = Tuple { src, src_port: 40000, dst, dst_port: 80 };
        let plain = Segment { tuple, flags: SYN, dscp: 46, pcp: 0 };
        assert_eq!(parse(&bytes(SYN, 0, None)), Some(plain));
        assert_eq!(parse(&bytes(SYN, 0, Some([0xa0, 5]))), Some(Segment { pcp: 5, ..plain }));
        assert_eq!(parse(&bytes(SYN, 0x2000, None)), Some(plain), "the first fragment");
        assert_eq!(parse(&bytes(SYN, 5, None)), None, "a later one has no ports");
        assert_eq!(tuple.reversed().reversed(), tuple);
    }

    #[test]
    fn flags_of_ecn_do_not_hide_an_opening() {
        for (flags, opens) in [(SYN, true), (SYN | 0xc0, true), (SYN | ACK, false), (SYN | RST, false)] {
            assert_eq!(parse(&bytes(flags, 0, None)).unwrap().opens(), opens, "{flags:#x}");
        }
    }

    #[test]
    fn what_is_cut_short_is_no_segment() {
        let whole = bytes(SYN, 0, Some([0, 5]));
        for length in 0..whole.len() - 6 {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
    }
}
