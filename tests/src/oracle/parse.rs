//! What a frame is. Ethernet, ARP and IPv4 headers are read by etherparse, IPv6 and what follows by hand.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{ArpPacketSlice, EtherType, Ethernet2HeaderSlice, Ipv4HeaderSlice, SingleVlanHeaderSlice};

use crate::frame::{Ip, Mac};

/// What is read of the headers behind the IPv6 header has to stand within so many bytes of the frame.
const REACH: usize = 256;
/// Extension headers that are followed.
const EXTENSIONS: usize = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Too short, or of an EtherType that is not looked into.
    NotIp,
    /// ARP.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Packet),
}

/// An ARP packet at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Where it begins.
    pub at: usize,
    /// Destination MAC of the frame.
    pub to: Mac,
    /// Whether it maps IPv4 to Ethernet, with lengths 6 and 4.
    pub ethernet_ipv4: bool,
    /// The operation.
    pub operation: u16,
    /// Sender.
    pub sender: (Mac, Ip),
    /// Target.
    pub target: (Mac, Ip),
}

/// An IP packet at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where its header begins.
    pub at: usize,
    /// Bytes up to the end of the packet, as it says itself, counted from the frame's first.
    pub end: usize,
    /// Destination MAC of the frame.
    pub to: Mac,
    /// Source MAC of the frame.
    pub from: Mac,
    /// Source address.
    pub src: Ip,
    /// Destination address.
    pub dst: Ip,
    /// DSCP and ECN, or the traffic class.
    pub class: u8,
    /// What it carries.
    pub content: Content,
    /// What its parts have in common, if it is one.
    pub part: Option<Part>,
    /// Neighbour discovery, if it may be that.
    pub ndp: Option<Ndp>,
}

/// What the parts of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The identification.
    pub id: u32,
    /// IPv4's protocol, or the next header of the fragment header.
    pub protocol: u8,
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Lengths contradict each other.
    Malformed,
    /// Extension headers that cannot be followed.
    Extension,
    /// A first part without its ports.
    Cut,
    /// A later part.
    Later,
    /// None of the others.
    Other,
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// TCP or UDP; of a first part, too.
    Flow(Flow),
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Where it begins.
    pub at: usize,
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
}

/// A solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ndp {
    /// Where the ICMPv6 header begins.
    pub at: usize,
    /// 136, not 135.
    pub advertises: bool,
    /// The target address.
    pub target: Ip,
    /// The MAC of the first option, if that is the link-layer address that belongs here.
    pub mac: Option<Mac>,
}

/// The transport part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// Where the transport header begins.
    pub at: usize,
    /// Bytes of transport header and data.
    pub length: usize,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// TCP only.
    pub segment: Option<Segment>,
}

/// What matters of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Flag.
    pub syn: bool,
    /// Flag.
    pub ack: bool,
    /// Flag.
    pub fin: bool,
    /// Flag.
    pub rst: bool,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// Sequence number of the byte behind it; SYN and FIN count as one each.
    pub next: u32,
}

impl Segment {
    /// SYN without ACK and RST.
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.syn && !self.ack && !self.rst
    }
}

/// Reads a frame.
#[must_use]
pub fn frame(bytes: &[u8]) -> Frame {
    let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(bytes) else { return Frame::NotIp };
    let macs = (ethernet.destination(), ethernet.source());
    let (mut ethertype, mut at) = (ethernet.ether_type(), 14);
    for _ in 0..2 {
        if ![EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING].contains(&ethertype) {
            break;
        }
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(&bytes[at..]) else { return Frame::NotIp };
        ethertype = tag.ether_type();
        at += 4;
    }
    match ethertype {
        EtherType::ARP => arp(bytes, at, macs.0),
        EtherType::IPV4 => ipv4(bytes, at, macs),
        EtherType::IPV6 => ipv6(bytes, at, macs),
        _ => Frame::NotIp,
    }
}

fn arp(bytes: &[u8], at: usize, to: Mac) -> Frame {
    // Shorter than ARP for IPv4 over Ethernet is too short, whatever it would be.
    let Some(body) = bytes[at..].get(..28) else { return Frame::NotIp };
    let packet = ArpPacketSlice::from_slice(body).ok().and_then(|p| p.to_packet().try_eth_ipv4().ok());
    let nobody = || ([0; 6], IpAddr::from([0; 4]));
    Frame::Arp(match packet {
        Some(p) => Arp {
            at,
            to,
            ethernet_ipv4: true,
            operation: p.operation.0,
            sender: (p.sender_mac, p.sender_ipv4.into()),
            target: (p.target_mac, p.target_ipv4.into()),
        },
        None => Arp { at, to, ethernet_ipv4: false, operation: 0, sender: nobody(), target: nobody() },
    })
}

fn ipv4(bytes: &[u8], at: usize, (to, from): (Mac, Mac)) -> Frame {
    let Some(fixed) = bytes[at..].get(..20) else { return Frame::NotIp };
    let address = |i: usize| IpAddr::from([fixed[i], fixed[i + 1], fixed[i + 2], fixed[i + 3]]);
    let (content, part) = content4(bytes, at).unwrap_or((Content::Malformed, None));
    Frame::Ip(Packet {
        at,
        end: at + usize::from(word(fixed, 2)),
        to,
        from,
        src: address(12),
        dst: address(16),
        class: fixed[1],
        content,
        part,
        ndp: None,
    })
}

/// `None` for lengths that contradict each other or the frame.
fn content4(bytes: &[u8], at: usize) -> Option<(Content, Option<Part>)> {
    let ip = Ipv4HeaderSlice::from_slice(&bytes[at..]).ok()?;
    let header = ip.slice().len();
    let total = usize::from(ip.total_len());
    if total < header || bytes.len() - at < total {
        return None;
    }
    let protocol = ip.protocol().0;
    let part = ip.is_fragmenting_payload().then(|| Part { id: ip.identification().into(), protocol });
    if ip.fragments_offset().value() > 0 {
        return Some((Content::Later, part));
    }
    Some((transport(bytes, at + header, at + total, protocol, 1, part.is_some()), part))
}

fn ipv6(bytes: &[u8], at: usize, (to, from): (Mac, Mac)) -> Frame {
    let Some(fixed) = bytes[at..].get(..40) else { return Frame::NotIp };
    let end = at + 40 + usize::from(word(fixed, 4));
    let mut packet = Packet {
        at,
        end,
        to,
        from,
        src: address6(&fixed[8..]),
        dst: address6(&fixed[24..]),
        class: fixed[0] << 4 | fixed[1] >> 4,
        content: Content::Malformed,
        part: None,
        ndp: None,
    };
    if fixed[0] >> 4 == 6 && end <= bytes.len() {
        (packet.content, packet.part) = content6(bytes, at + 40, end, fixed[6]);
        packet.ndp = ndp(bytes, at, end);
    }
    Frame::Ip(packet)
}

/// Follows the extension headers (RFC 8200, section 4) from the header `next` at `at` on.
fn content6(bytes: &[u8], mut at: usize, end: usize, mut next: u8) -> (Content, Option<Part>) {
    let mut part = None;
    let mut followed = 0;
    while [0, 43, 44, 60].contains(&next) {
        if followed == EXTENSIONS || at + 8 > end {
            return (Content::Extension, part);
        }
        let header = &bytes[at..at + 8];
        let mut length = 8 * (1 + usize::from(header[1]));
        match next {
            43 if header[3] != 0 => return (Content::Extension, part),
            44 => {
                length = 8;
                let field = word(header, 2);
                let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                if field & 0xfff9 != 0 {
                    part = Some(Part { id, protocol: header[0] });
                }
                if field & 0xfff8 != 0 {
                    return (Content::Later, part);
                }
            }
            _ => {}
        }
        next = header[0];
        at += length;
        followed += 1;
        if at > end {
            return (Content::Extension, part);
        }
        let wanted = match next {
            6 => 20,
            _ => 8,
        };
        if at + wanted > REACH {
            return (Content::Extension, part);
        }
    }
    // ICMPv6 is looked for directly behind the IPv6 header only.
    let icmp = if followed == 0 { 58 } else { 255 };
    (transport(bytes, at, end, next, icmp, part.is_some()), part)
}

/// What stands at `at`, in a packet that ends at `end`.
fn transport(bytes: &[u8], at: usize, end: usize, protocol: u8, icmp: u8, part: bool) -> Content {
    let least = match protocol {
        6 => 20,
        17 => 8,
        _ if protocol == icmp && !part => 8,
        _ => return Content::Other,
    };
    let transport = &bytes[at..end];
    if transport.len() < least {
        return if part { Content::Cut } else { Content::Malformed };
    }
    if protocol == icmp {
        return Content::Icmp(Icmp { at, kind: transport[0], code: transport[1] });
    }
    Content::Flow(Flow {
        protocol,
        at,
        length: transport.len(),
        sport: word(transport, 0),
        dport: word(transport, 2),
        segment: (protocol == 6).then(|| segment(transport)),
    })
}

fn segment(tcp: &[u8]) -> Segment {
    let long = |i: usize| u32::from_be_bytes([tcp[i], tcp[i + 1], tcp[i + 2], tcp[i + 3]]);
    let seq = long(4);
    let data = tcp.len().saturating_sub(usize::from(tcp[12] >> 4) * 4);
    let bit = |n: u8| tcp[13] >> n & 1 == 1;
    let (fin, syn) = (bit(0), bit(1));
    let next = seq.wrapping_add(data as u32 + u32::from(fin) + u32::from(syn));
    Segment { syn, fin, rst: bit(2), ack: bit(4), seq, acknowledged: long(8), next }
}

/// RFC 4861, sections 7.1.1 and 7.1.2, as far as it is looked at.
fn ndp(bytes: &[u8], at: usize, end: usize) -> Option<Ndp> {
    let (ip, icmp) = (&bytes[at..], &bytes[at + 40..end]);
    if ip[6] != 58 || ip[7] != 255 || icmp.len() < 24 || ![135, 136].contains(&icmp[0]) || icmp[1] != 0 {
        return None;
    }
    let advertises = icmp[0] == 136;
    let belongs = [if advertises { 2 } else { 1 }, 1];
    let mac = icmp
        .get(24..32)
        .filter(|option| option[..2] == belongs)
        .map(|option| [option[2], option[3], option[4], option[5], option[6], option[7]]);
    Some(Ndp { at: at + 40, advertises, target: address6(&icmp[8..]), mac })
}

/// The 16 bits at an offset.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The IPv6 address that these bytes begin with.
///
/// # Panics
/// There are fewer than sixteen.
#[must_use]
pub fn address6(bytes: &[u8]) -> Ip {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[..16]);
    Ip::V6(Ipv6Addr::from(octets))
}
