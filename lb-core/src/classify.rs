//! What a frame is: headers found, nothing decided.

use network_types::eth::EthHdr;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;

use crate::packet::Packet;
use crate::table::{Address, Leftover};

const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const ETHERTYPE_ARP: u16 = 0x0806u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100u16.to_be();
const ETHERTYPE_QINQ: u16 = 0x88a8u16.to_be();

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// Extension headers of IPv6 (RFC 8200, section 4) that are looked behind.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// VLAN tags that are looked behind.
const MAX_TAGS: usize = 2;
/// Extension headers that are looked behind.
const MAX_EXTENSIONS: usize = 4;
/// Bytes of a frame within which the transport header has to stand.
const REACH: usize = 256;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER: usize = 40;

/// What stands behind the Ethernet header and its VLAN tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// None of them, or nothing.
    Other,
}

/// What stands behind the Ethernet header and its VLAN tags, and where. Flat for the reason given at
/// [`crate::Rewrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What.
    pub kind: FrameKind,
    /// The offset; 0 for nothing.
    pub offset: usize,
}

/// Looks behind the Ethernet header and up to two VLAN tags (IEEE 802.1Q, 802.1ad).
#[inline(always)]
pub fn frame<P: Packet>(packet: &P) -> Frame {
    const NOTHING: Frame = Frame { kind: FrameKind::Other, offset: 0 };
    let Some(mut ethertype) = packet.read::<u16>(12) else { return NOTHING };
    let mut offset = size_of::<EthHdr>();
    for _ in 0..MAX_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        match packet.read::<u16>(offset + 2) {
            Some(inner) => ethertype = inner,
            None => return NOTHING,
        }
        offset += 4;
    }
    let kind = match ethertype {
        ETHERTYPE_IPV4 => FrameKind::Ipv4,
        ETHERTYPE_IPV6 => FrameKind::Ipv6,
        ETHERTYPE_ARP => FrameKind::Arp,
        _ => FrameKind::Other,
    };
    Frame { kind, offset }
}

/// An IP header, of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// There is one; else all is zero.
    pub is_there: bool,
    /// Offset of the header.
    pub l3: usize,
    /// IPv6.
    pub is_v6: bool,
    /// Protocol, or the type of the first extension header.
    pub protocol: u8,
    /// Version and lengths are possible: at least this header, and no more than the frame.
    pub is_sound: bool,
    /// More fragments, or an offset: IPv4 (RFC 791, section 3.1).
    pub is_fragment: bool,
    /// Bytes of the header, options included, extension headers not.
    pub header: usize,
    /// Bytes of the whole packet, as it says itself.
    pub total: u32,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

impl Ip {
    /// No header.
    pub const NONE: Self = Self {
        is_there: false,
        l3: 0,
        is_v6: false,
        protocol: 0,
        is_sound: false,
        is_fragment: false,
        header: 0,
        total: 0,
        source: Address::ZERO,
        destination: Address::ZERO,
    };
}

/// Reads the IPv4 header at `l3`.
#[inline(always)]
pub fn ipv4<P: Packet>(packet: &P, l3: usize) -> Ip {
    let Some(ip) = packet.read::<Ipv4Hdr>(l3) else { return Ip::NONE };
    // A 60-byte header at most: the mask lets the verifier see it.
    let header = ((ip.vihl & 0x0f) as usize) << 2;
    let total = u16::from_be_bytes(ip.tot_len) as u32;
    let is_sound = ip.vihl >> 4 == 4
        && header >= size_of::<Ipv4Hdr>()
        && total >= header as u32
        && packet.has(l3 as u32 + total);
    Ip {
        is_there: true,
        l3,
        is_v6: false,
        protocol: ip.proto,
        is_sound,
        is_fragment: u16::from_ne_bytes(ip.frags) & 0x3fffu16.to_be() != 0,
        header,
        total,
        source: Address::from_v4_wire(u32::from_ne_bytes(ip.src_addr)),
        destination: Address::from_v4_wire(u32::from_ne_bytes(ip.dst_addr)),
    }
}

/// Reads the IPv6 header at `l3` (RFC 8200, section 3).
#[inline(always)]
pub fn ipv6<P: Packet>(packet: &P, l3: usize) -> Ip {
    let Some(destination) = packet.read::<[u64; 2]>(l3 + 24) else { return Ip::NONE };
    let Some(source) = packet.read::<[u64; 2]>(l3 + 8) else { return Ip::NONE };
    let Some(first) = packet.read::<[u8; 8]>(l3) else { return Ip::NONE };
    let [version, _, _, _, high, low, protocol, _] = first;
    let length = u16::from_be_bytes([high, low]);
    let total = IPV6_HEADER as u32 + length as u32;
    Ip {
        is_there: true,
        l3,
        is_v6: true,
        protocol,
        is_sound: version >> 4 == 6 && packet.has(l3 as u32 + total),
        is_fragment: false,
        header: IPV6_HEADER,
        total,
        source: Address(source),
        destination: Address(destination),
    }
}

/// Bytes of an untagged frame up to the end of its TCP header, over IPv4 without options.
pub const PLAIN_V4: usize = size_of::<EthHdr>() + size_of::<Ipv4Hdr>() + size_of::<TcpHdr>();
/// Bytes of an untagged frame up to the end of its TCP header, over IPv6 without extension headers.
pub const PLAIN_V6: usize = size_of::<EthHdr>() + IPV6_HEADER + size_of::<TcpHdr>();

/// What the first two bytes behind the MAC addresses say of a frame that is most likely plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainKind {
    /// IPv4 without a tag.
    Ipv4,
    /// IPv6 without a tag.
    Ipv6,
    /// Anything else.
    Other,
}

/// Whether a frame may be plain.
#[inline(always)]
pub fn plain_kind<P: Packet>(packet: &P) -> PlainKind {
    match packet.read::<u16>(12) {
        Some(ETHERTYPE_IPV4) => PlainKind::Ipv4,
        Some(ETHERTYPE_IPV6) => PlainKind::Ipv6,
        _ => PlainKind::Other,
    }
}

/// A plain packet: TCP or UDP, whole, sound, with its headers at the places that they have in nearly all frames. The
/// compiler computes with these places, which makes it fast. No header where it is not plain.
#[inline(always)]
pub fn plain_v4<P: Packet>(packet: &P) -> (Ip, Transport) {
    const NOT: (Ip, Transport) = (Ip::NONE, Transport::without_ports(TransportKind::Other, 0));
    const L3: usize = size_of::<EthHdr>();
    const HEADER: usize = size_of::<Ipv4Hdr>();
    let Some(ip) = packet.read::<Ipv4Hdr>(L3) else { return NOT };
    let total = u16::from_be_bytes(ip.tot_len) as u32;
    let least = HEADER as u32 + if ip.proto == TCP { 20 } else { 8 };
    if ip.vihl != 0x45
        || u16::from_ne_bytes(ip.frags) & 0x3fffu16.to_be() != 0
        || ip.proto != TCP && ip.proto != UDP
        || total < least
        || !packet.has(L3 as u32 + total)
    {
        return NOT;
    }
    let Some([source, destination]) = packet.read::<[u16; 2]>(L3 + HEADER) else { return NOT };
    let header = Ip {
        is_there: true,
        l3: L3,
        is_v6: false,
        protocol: ip.proto,
        is_sound: true,
        is_fragment: false,
        header: HEADER,
        total,
        source: Address::from_v4_wire(u32::from_ne_bytes(ip.src_addr)),
        destination: Address::from_v4_wire(u32::from_ne_bytes(ip.dst_addr)),
    };
    let length = total.wrapping_sub(HEADER as u32) as u16;
    (header, Transport::plain(ip.proto, L3 + HEADER, length, source, destination))
}

/// Likewise over IPv6.
#[inline(always)]
pub fn plain_v6<P: Packet>(packet: &P) -> (Ip, Transport) {
    const NOT: (Ip, Transport) = (Ip::NONE, Transport::without_ports(TransportKind::Other, 0));
    const L3: usize = size_of::<EthHdr>();
    const L4: usize = L3 + IPV6_HEADER;
    let ip = ipv6(packet, L3);
    let protocol = ip.protocol;
    let length = ip.total.wrapping_sub(IPV6_HEADER as u32);
    let least = if protocol == TCP { 20 } else { 8 };
    if !ip.is_sound
        || protocol != TCP && protocol != UDP
        || length < least
        // IPv4 addresses in an IPv6 header are nobody's.
        || ip.source.is_v4()
        || ip.destination.is_v4()
    {
        return NOT;
    }
    let Some([source, destination]) = packet.read::<[u16; 2]>(L4) else { return NOT };
    (ip, Transport::plain(protocol, L4, length as u16, source, destination))
}

/// What the transport part of an IP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// TCP or UDP whose ports are there.
    Ports,
    /// The first fragment: its ports are there, those of the others are not.
    FirstFragment,
    /// A fragment without ports.
    LaterFragment,
    /// ICMP or ICMPv6, of 8 bytes at least.
    Icmp,
    /// Extension headers that cannot be followed.
    Extension,
    /// A first fragment that ends before its ports do.
    ShortFragment,
    /// Another protocol.
    Other,
    /// Lengths that contradict each other or the frame.
    Malformed,
}

/// The transport part of an IP packet. Flat for the reason given at [`crate::Rewrite`]: what does not apply is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// What it is.
    pub kind: TransportKind,
    /// IP protocol number, behind all extension headers.
    pub protocol: u8,
    /// Offset of the transport header.
    pub l4: usize,
    /// Bytes of transport header and data.
    pub length: u16,
    /// Source port, network byte order.
    pub source: u16,
    /// Destination port, network byte order.
    pub destination: u16,
    /// What the fragments of a packet share, as it stands in it.
    pub id: u32,
}

impl Transport {
    /// One without ports.
    #[inline(always)]
    pub const fn without_ports(kind: TransportKind, protocol: u8) -> Self {
        Self { kind, protocol, l4: 0, length: 0, source: 0, destination: 0, id: 0 }
    }

    #[inline(always)]
    const fn plain(protocol: u8, l4: usize, length: u16, source: u16, destination: u16) -> Self {
        Self { kind: TransportKind::Ports, protocol, l4, length, source, destination, id: 0 }
    }
}

/// What one stage found, for the next one.
#[inline(always)]
pub fn leftover(ip: &Ip, ports: &Transport) -> Leftover {
    Leftover {
        source: ip.source,
        destination: ip.destination,
        total: ip.total,
        id: ports.id,
        l3: ip.l3 as u16,
        header: ip.header as u16,
        l4: ports.l4 as u16,
        length: ports.length,
        source_port: ports.source,
        destination_port: ports.destination,
        vip: 0,
        answer: 0,
        is_v6: ip.is_v6 as u8,
        protocol: ports.protocol,
        is_first_fragment: matches!(ports.kind, TransportKind::FirstFragment) as u8,
        reserved: [0; 5],
    }
}

/// What an earlier stage found: a packet with ports.
#[inline(always)]
pub fn from_leftover(left: &Leftover) -> (Ip, Transport) {
    let is_v6 = left.is_v6 != 0;
    let ip = Ip {
        is_there: true,
        // The masks let the verifier see what is known anyway.
        l3: (left.l3 & 0x1f) as usize,
        is_v6,
        protocol: left.protocol,
        is_sound: true,
        is_fragment: false,
        header: (left.header & 0x3f) as usize,
        total: left.total,
        source: left.source,
        destination: left.destination,
    };
    let kind = if left.is_first_fragment != 0 { TransportKind::FirstFragment } else { TransportKind::Ports };
    let ports = Transport {
        kind,
        protocol: left.protocol,
        l4: (left.l4 & 0xff) as usize,
        length: left.length,
        source: left.source_port,
        destination: left.destination_port,
        id: left.id,
    };
    (ip, ports)
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// The transport header at `l4`, with `length` bytes left of the packet.
#[inline(always)]
fn at<P: Packet>(packet: &P, ip: &Ip, protocol: u8, l4: usize, length: u32, first: bool) -> Transport {
    let is_icmp = protocol == if ip.is_v6 { ICMPV6 } else { ICMP };
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ if is_icmp && !first => 8,
        _ => return Transport::without_ports(TransportKind::Other, protocol),
    };
    if length < least {
        let kind = if first { TransportKind::ShortFragment } else { TransportKind::Malformed };
        return Transport::without_ports(kind, protocol);
    }
    let kind = if is_icmp {
        TransportKind::Icmp
    } else if first {
        TransportKind::FirstFragment
    } else {
        TransportKind::Ports
    };
    match packet.read::<[u16; 2]>(l4) {
        Some([source, destination]) => {
            Transport { kind, protocol, l4, length: length as u16, source, destination, id: 0 }
        }
        None => Transport::without_ports(TransportKind::Malformed, protocol),
    }
}

/// Finds the transport header of any packet: behind extension headers, and in fragments.
#[inline(always)]
pub fn transport<P: Packet>(packet: &P, ip: &Ip) -> Transport {
    if !ip.is_sound {
        return Transport::without_ports(TransportKind::Malformed, ip.protocol);
    }
    if ip.is_v6 && ip.protocol == ICMPV6 {
        return at(packet, ip, ICMPV6, ip.l3 + IPV6_HEADER, ip.total.wrapping_sub(IPV6_HEADER as u32), false);
    }
    if ip.is_v6 { extensions(packet, ip) } else { fragment_v4(packet, ip) }
}

#[inline(always)]
fn fragment_v4<P: Packet>(packet: &P, ip: &Ip) -> Transport {
    let l4 = ip.l3 + ip.header;
    let length = ip.total.wrapping_sub(ip.header as u32);
    let Some([id, fragment]) = packet.read::<[u16; 2]>(ip.l3 + 4) else {
        return Transport::without_ports(TransportKind::Malformed, ip.protocol);
    };
    let fragment = u16::from_be(fragment);
    if fragment & 0x1fff != 0 {
        return Transport {
            id: id as u32,
            ..Transport::without_ports(TransportKind::LaterFragment, ip.protocol)
        };
    }
    let found = at(packet, ip, ip.protocol, l4, length, fragment & 0x2000 != 0);
    Transport { id: id as u32, ..found }
}

#[inline(always)]
fn extensions<P: Packet>(packet: &P, ip: &Ip) -> Transport {
    let mut protocol = ip.protocol;
    let mut offset = ip.l3 + IPV6_HEADER;
    let end = ip.l3 as u32 + ip.total;
    let mut id = 0;
    let mut first = false;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(protocol) {
            break;
        }
        // Behind the packet's end stands padding, which is no header.
        if offset as u32 + 8 > end {
            return Transport::without_ports(TransportKind::Extension, protocol);
        }
        let Some(header) = packet.read::<[u8; 8]>(offset & 0xff) else {
            return Transport::without_ports(TransportKind::Extension, protocol);
        };
        let [next, size, segments_or_high, segments_left, i0, i1, i2, i3] = header;
        let mut bytes = 8 + ((size as usize) << 3);
        if protocol == FRAGMENT {
            bytes = 8;
            let offset_flags = u16::from_be_bytes([segments_or_high, segments_left]);
            id = u32::from_ne_bytes([i0, i1, i2, i3]);
            if offset_flags & 0xfff8 != 0 {
                return Transport { id, ..Transport::without_ports(TransportKind::LaterFragment, next) };
            }
            first = offset_flags & 1 != 0;
        } else if protocol == ROUTING && segments_left != 0 {
            return Transport::without_ports(TransportKind::Extension, protocol);
        }
        protocol = next;
        offset += bytes;
        if offset > REACH - 8 || offset as u32 > end {
            return Transport::without_ports(TransportKind::Extension, protocol);
        }
    }
    if is_extension(protocol) {
        return Transport::without_ports(TransportKind::Extension, protocol);
    }
    if protocol == ICMPV6 {
        // Of no use behind extension headers: what it complains of, or asks, is looked for directly behind the IP header.
        return Transport::without_ports(TransportKind::Other, protocol);
    }
    // What is read of the transport has to lie within the bytes that are looked at.
    if offset > if protocol == TCP { REACH - 20 } else { REACH - 8 } {
        return Transport::without_ports(TransportKind::Extension, protocol);
    }
    let found = at(packet, ip, protocol, offset & 0xff, end.wrapping_sub(offset as u32), first);
    Transport { id, ..found }
}
