//! What the controller reads of an Ethernet frame: addresses, the outer VLAN tag, and ARP.

use std::net::Ipv4Addr;

use openflow::MacAddr;

use super::ip::Ip;

/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of LLDP (IEEE 802.1AB).
const ETHERTYPE_LLDP: u16 = 0x88cc;
/// EtherTypes of a VLAN tag: IEEE 802.1Q and 802.1ad.
const ETHERTYPE_VLAN: [u16; 2] = [0x8100, 0x88a8];
/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4 (RFC 826).
const ARP_HEAD: [u8; 6] = [0x00, 0x01, 0x08, 0x00, 6, 4];

/// The part of a frame that decides where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// VLAN id of the outer tag, 12 bits; `None` when the frame has no tag.
    pub vlan: Option<u16>,
    /// The EtherType behind the outer tag.
    pub ethertype: u16,
    /// The ARP packet, if it is one for IPv4 over Ethernet and whole.
    pub arp: Option<Arp>,
    /// The IP header, if there is one and it is whole.
    pub ip: Option<Ip>,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request (1), reply (2), or something else.
    pub operation: u16,
    /// The sender's protocol address.
    pub sender: Ipv4Addr,
    /// The target's protocol address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Whether this asks for the hardware address of [`Self::target`].
    #[must_use]
    pub const fn is_request(&self) -> bool {
        self.operation == 1
    }

    /// Whether this answers a probe, which names 0.0.0.0 as its sender (RFC 5227, 2.1.1).
    #[must_use]
    pub fn answers_a_probe(&self) -> bool {
        self.operation == 2 && self.target.is_unspecified()
    }
}

impl Frame {
    /// Reads a frame, which may be cut short behind its headers. `None` when not even the headers are there.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let dst = mac(bytes, 0)?;
        let src = mac(bytes, 6)?;
        let mut ethertype = be16(bytes, 12)?;
        let (mut vlan, mut payload) = (None, 14);
        if ETHERTYPE_VLAN.contains(&ethertype) {
            vlan = Some(be16(bytes, 14)? & 0x0fff);
            ethertype = be16(bytes, 16)?;
            payload = 18;
        }
        let packet = bytes.get(payload..)?;
        let arp = if ethertype == ETHERTYPE_ARP { parse_arp(packet) } else { None };
        Some(Self { dst, src, vlan, ethertype, arp, ip: Ip::parse(ethertype, packet) })
    }

    /// Whether bridges must not forward it: the group addresses 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, table 8-1),
    /// which spanning tree, LACP, 802.1X and LLDP use, and LLDP to any address.
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        let [a, b, c, d, e, f] = octets(self.dst);
        ([a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && f <= 0x0f) || self.ethertype == ETHERTYPE_LLDP
    }
}

/// The Ethernet header of a frame that the controller makes; the tag has priority 0.
#[must_use]
pub fn head(dst: MacAddr, src: MacAddr, vlan: Option<u16>, ethertype: u16) -> Vec<u8> {
    let mut frame = [dst.0, src.0].concat();
    if let Some(vid) = vlan {
        frame.extend(ETHERTYPE_VLAN[0].to_be_bytes());
        frame.extend((vid & 0x0fff).to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The frame that answers the ARP request of `asker`: `owner` is where it says (RFC 826).
#[must_use]
pub fn arp_reply(asker: (MacAddr, Ipv4Addr), owner: (MacAddr, Ipv4Addr), vlan: Option<u16>) -> Vec<u8> {
    let mut frame = head(asker.0, owner.0, vlan, ETHERTYPE_ARP);
    frame.extend(ARP_HEAD);
    frame.extend([0, 2]);
    frame.extend(owner.0.0);
    frame.extend(owner.1.octets());
    frame.extend(asker.0.0);
    frame.extend(asker.1.octets());
    frame
}

/// The frame that asks the station `to` whether it has `address` (RFC 826).
#[must_use]
pub fn arp_probe(
    to: MacAddr,
    from: MacAddr,
    sender: Ipv4Addr,
    address: Ipv4Addr,
    vlan: Option<u16>,
) -> Vec<u8> {
    let mut frame = head(to, from, vlan, ETHERTYPE_ARP);
    frame.extend(ARP_HEAD);
    frame.extend([0, 1]);
    frame.extend(from.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// Whether the group bit is set: multicast or broadcast.
#[must_use]
pub fn is_group(address: MacAddr) -> bool {
    octets(address)[0] & 1 != 0
}

/// Whether the address can be the source of a frame: neither a group nor all zeros.
#[must_use]
pub fn is_station(address: MacAddr) -> bool {
    !is_group(address) && octets(address) != [0; 6]
}

const fn octets(address: MacAddr) -> [u8; 6] {
    address.0
}

fn mac(bytes: &[u8], at: usize) -> Option<MacAddr> {
    Some(MacAddr(bytes.get(at..at + 6)?.try_into().ok()?))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn parse_arp(packet: &[u8]) -> Option<Arp> {
    let packet: &[u8; 28] = packet.get(..28)?.try_into().ok()?;
    let (head, rest) = packet.split_first_chunk::<6>()?;
    if *head != ARP_HEAD {
        return None;
    }
    let address = |at: usize| -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(rest.get(at..at + 4)?).ok()?))
    };
    Some(Arp { operation: be16(rest, 0)?, sender: address(8)?, target: address(18)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 3, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0,
        0, 0, 3, 10, 0, 0, 3, 0, 0, 0, 0, 0, 0, 10, 0, 1, 1,
    ];

    #[test]
    fn arp_request_untagged_and_tagged() {
        let frame = Frame::parse(&REQUEST).unwrap();
        let arp =
            Arp { operation: 1, sender: Ipv4Addr::new(10, 0, 0, 3), target: Ipv4Addr::new(10, 0, 1, 1) };
        assert_eq!((frame.vlan, frame.arp), (None, Some(arp)));
        assert!(is_group(frame.dst) && is_station(frame.src) && arp.is_request());

        let mut tagged = REQUEST[..12].to_vec();
        tagged.extend([0x81, 0x00, 0x20, 0x05]);
        tagged.extend(&REQUEST[12..]);
        let frame = Frame::parse(&tagged).unwrap();
        assert_eq!((frame.vlan, frame.arp), (Some(5), Some(arp)));
    }

    #[test]
    fn an_answer_reads_back() {
        let asker = (MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1));
        let owner = (MacAddr([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 2));
        for vlan in [None, Some(5)] {
            let frame = Frame::parse(&arp_reply(asker, owner, vlan)).unwrap();
            assert_eq!((frame.dst, frame.src, frame.vlan), (asker.0, owner.0, vlan));
            assert_eq!(frame.arp, Some(Arp { operation: 2, sender: owner.1, target: asker.1 }));
        }
    }

    #[test]
    fn no_length_panics_and_short_frames_are_refused() {
        for length in 0..REQUEST.len() {
            let frame = Frame::parse(&REQUEST[..length]);
            assert_eq!(frame.is_some(), length >= 14, "{length} bytes");
            assert!(frame.is_none_or(|frame| frame.arp.is_none()), "{length} bytes");
        }
    }

    #[test]
    fn link_local_groups() {
        let with = |dst: [u8; 6], ethertype: u16| {
            let mut bytes = [0; 14];
            bytes[..6].copy_from_slice(&dst);
            bytes[12..].copy_from_slice(&ethertype.to_be_bytes());
            Frame::parse(&bytes).unwrap().is_link_local()
        };
        assert!(with([0x01, 0x80, 0xc2, 0, 0, 0x00], 0x0026));
        assert!(with([0x01, 0x80, 0xc2, 0, 0, 0x0f], 0x0800));
        assert!(!with([0x01, 0x80, 0xc2, 0, 0, 0x10], 0x0800));
        assert!(with([0xff; 6], 0x88cc));
        assert!(!with([0x01, 0x00, 0x5e, 0, 0, 1], 0x0800));
    }
}
