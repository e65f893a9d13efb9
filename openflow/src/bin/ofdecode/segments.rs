//! Frames of a capture down to their TCP segment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP segment.
pub struct Segment<'a> {
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// Sequence number of the first byte.
    pub sequence: u32,
    /// Whether it opens the connection (SYN).
    pub begins: bool,
    /// Its bytes.
    pub data: &'a [u8],
}

const LINK_NULL: u32 = 0;
const LINK_ETHERNET: u32 = 1;
const LINK_RAW: [u32; 3] = [12, 14, 101];
const LINK_LINUX_SLL: u32 = 113;
const LINK_LINUX_SLL2: u32 = 276;
const ETH_IPV4: u16 = 0x0800;
const ETH_IPV6: u16 = 0x86dd;
const ETH_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const PROTO_TCP: u8 = 6;
const FLAG_SYN: u8 = 2;

/// Whether frames of a link type can be read.
pub fn knows(link_type: u32) -> bool {
    matches!(link_type, LINK_NULL | LINK_ETHERNET | LINK_LINUX_SLL | LINK_LINUX_SLL2)
        || LINK_RAW.contains(&link_type)
}

/// The segment in a frame; `None` for anything else, fragments among it.
pub fn parse(link_type: u32, frame: &[u8]) -> Option<Segment<'_>> {
    match link_type {
        LINK_ETHERNET => ethernet(frame.get(12..)?),
        LINK_LINUX_SLL => ethernet(frame.get(14..)?),
        LINK_LINUX_SLL2 => network(u16_at(frame, 0)?, frame.get(20..)?),
        LINK_NULL => ip(frame.get(4..)?),
        link_type if LINK_RAW.contains(&link_type) => ip(frame),
        _ => None,
    }
}

/// From the Ethernet type on, behind tags if there are some.
fn ethernet(mut rest: &[u8]) -> Option<Segment<'_>> {
    while ETH_TAGS.contains(&u16_at(rest, 0)?) {
        rest = rest.get(4..)?;
    }
    network(u16_at(rest, 0)?, rest.get(2..)?)
}

fn network(eth_type: u16, packet: &[u8]) -> Option<Segment<'_>> {
    matches!(eth_type, ETH_IPV4 | ETH_IPV6).then(|| ip(packet)).flatten()
}

fn ip(packet: &[u8]) -> Option<Segment<'_>> {
    match packet.first()? >> 4 {
        4 => ipv4(packet),
        6 => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Segment<'_>> {
    let header_bytes = usize::from(packet.first()? & 0xf) * 4;
    let total_bytes = usize::from(u16_at(packet, 2)?);
    let is_fragment = u16_at(packet, 6)? & 0x3fff != 0;
    if is_fragment || *packet.get(9)? != PROTO_TCP || header_bytes < 20 {
        return None;
    }
    let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
    // A total of 0 is what segmentation offload leaves in captures.
    let end = if total_bytes == 0 { packet.len() } else { total_bytes.min(packet.len()) };
    tcp(address(12)?, address(16)?, packet.get(header_bytes..end)?)
}

fn ipv6(packet: &[u8]) -> Option<Segment<'_>> {
    let payload_bytes = usize::from(u16_at(packet, 4)?);
    let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
    if *packet.get(6)? != PROTO_TCP {
        return None;
    }
    let end = if payload_bytes == 0 { packet.len() } else { (40 + payload_bytes).min(packet.len()) };
    tcp(address(8)?, address(24)?, packet.get(40..end)?)
}

fn tcp(from: IpAddr, to: IpAddr, segment: &[u8]) -> Option<Segment<'_>> {
    let sequence = u32::from_be_bytes(*segment.get(4..)?.first_chunk::<4>()?);
    let header_bytes = usize::from(segment.get(12)? >> 4) * 4;
    Some(Segment {
        from: SocketAddr::new(from, u16_at(segment, 0)?),
        to: SocketAddr::new(to, u16_at(segment, 2)?),
        sequence,
        begins: segment.get(13)? & FLAG_SYN != 0,
        data: segment.get(header_bytes.max(20)..)?,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}
