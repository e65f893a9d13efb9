//! What a frame is: headers found, nothing decided.

use network_types::eth::EthHdr;
use network_types::ip::Ipv4Hdr;

use crate::packet::Packet;

const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const ETHERTYPE_ARP: u16 = 0x0806u16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100u16.to_be();
const ETHERTYPE_QINQ: u16 = 0x88a8u16.to_be();

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// VLAN tags that are looked behind.
const MAX_TAGS: usize = 2;

/// What stands behind the Ethernet header and its VLAN tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// ARP at this offset.
    Arp(usize),
    /// IPv4 at this offset.
    Ipv4(usize),
    /// Neither, or nothing.
    Other,
}

/// Looks behind the Ethernet header and up to two VLAN tags (IEEE 802.1Q, 802.1ad).
#[inline(always)]
pub fn frame<P: Packet>(packet: &P) -> Frame {
    let Some(mut ethertype) = packet.read::<u16>(12) else { return Frame::Other };
    let mut offset = size_of::<EthHdr>();
    for _ in 0..MAX_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        match packet.read::<u16>(offset + 2) {
            Some(inner) => ethertype = inner,
            None => return Frame::Other,
        }
        offset += 4;
    }
    match ethertype {
        ETHERTYPE_IPV4 => Frame::Ipv4(offset),
        ETHERTYPE_ARP => Frame::Arp(offset),
        _ => Frame::Other,
    }
}

/// What the transport part of an IPv4 packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// TCP or UDP whose ports are there.
    Ports,
    /// A fragment, the first one included: its followers carry no ports.
    Fragment,
    /// Another protocol.
    Other,
    /// Lengths that contradict each other or the frame.
    Malformed,
}

/// The transport part of an IPv4 packet. Flat for the reason given at [`crate::Rewrite`]: all but `kind` is
/// zero where there are no ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// What it is.
    pub kind: TransportKind,
    /// Offset of the transport header.
    pub l4: usize,
    /// Bytes of transport header and data.
    pub length: u16,
    /// Source port, network byte order.
    pub source: u16,
    /// Destination port, network byte order.
    pub destination: u16,
}

impl Transport {
    #[inline(always)]
    const fn without_ports(kind: TransportKind) -> Self {
        Self { kind, l4: 0, length: 0, source: 0, destination: 0 }
    }
}

/// Finds the transport header behind the IPv4 header `ip` at offset `l3`, options included.
#[inline(always)]
pub fn transport<P: Packet>(packet: &P, l3: usize, ip: &Ipv4Hdr) -> Transport {
    // A 60-byte header at most: the mask lets the verifier see it.
    let header = ((ip.vihl & 0x0f) as usize) << 2;
    let total = u16::from_be_bytes(ip.tot_len);
    if ip.vihl >> 4 != 4 || header < size_of::<Ipv4Hdr>() || (total as usize) < header {
        return Transport::without_ports(TransportKind::Malformed);
    }
    if !packet.has(l3 as u32 + total as u32) {
        return Transport::without_ports(TransportKind::Malformed);
    }
    // More fragments, or an offset (RFC 791, section 3.1).
    if u16::from_ne_bytes(ip.frags) & 0x3fffu16.to_be() != 0 {
        return Transport::without_ports(TransportKind::Fragment);
    }
    let least = match ip.proto {
        TCP => 20,
        UDP => 8,
        _ => return Transport::without_ports(TransportKind::Other),
    };
    let length = total.wrapping_sub(header as u16);
    if length < least {
        return Transport::without_ports(TransportKind::Malformed);
    }
    let l4 = l3 + header;
    match packet.read::<[u16; 2]>(l4) {
        Some([source, destination]) => {
            Transport { kind: TransportKind::Ports, l4, length, source, destination }
        }
        None => Transport::without_ports(TransportKind::Malformed),
    }
}
