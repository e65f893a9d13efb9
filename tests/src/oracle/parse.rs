//! What a frame is, read by etherparse.

use etherparse::{
    ArpPacketSlice, EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, SingleVlanHeaderSlice,
};

use crate::frame::{Ip, Mac};

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Too short, or of an EtherType that is not looked into.
    NotIp,
    /// ARP.
    Arp(Arp),
    /// IPv4.
    Ipv4(Packet),
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

/// An IPv4 packet at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where its header begins.
    pub at: usize,
    /// Destination MAC of the frame.
    pub to: Mac,
    /// Source address.
    pub src: Ip,
    /// Destination address.
    pub dst: Ip,
    /// IP protocol number.
    pub protocol: u8,
    /// What it carries.
    pub content: Content,
}

/// What an IPv4 packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Lengths contradict each other.
    Malformed,
    /// A part of a packet.
    Fragment,
    /// Neither TCP nor UDP.
    Other,
    /// TCP or UDP.
    Flow(Flow),
}

/// The transport part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
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
    /// Sequence number of the byte behind it; SYN and FIN count as one each.
    pub next: u32,
}

/// Reads a frame.
#[must_use]
pub fn frame(bytes: &[u8]) -> Frame {
    let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(bytes) else { return Frame::NotIp };
    let to = ethernet.destination();
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
        EtherType::ARP => arp(bytes, at, to),
        EtherType::IPV4 => ipv4(bytes, at, to),
        _ => Frame::NotIp,
    }
}

fn arp(bytes: &[u8], at: usize, to: Mac) -> Frame {
    // Shorter than ARP for IPv4 over Ethernet is too short, whatever it would be.
    let Some(body) = bytes[at..].get(..28) else { return Frame::NotIp };
    let packet = ArpPacketSlice::from_slice(body).ok().and_then(|p| p.to_packet().try_eth_ipv4().ok());
    Frame::Arp(match packet {
        Some(p) => Arp {
            at,
            to,
            ethernet_ipv4: true,
            operation: p.operation.0,
            sender: (p.sender_mac, p.sender_ipv4),
            target: (p.target_mac, p.target_ipv4),
        },
        None => Arp {
            at,
            to,
            ethernet_ipv4: false,
            operation: 0,
            sender: Default::default(),
            target: Default::default(),
        },
    })
}

fn ipv4(bytes: &[u8], at: usize, to: Mac) -> Frame {
    let Some(fixed) = bytes[at..].get(..20) else { return Frame::NotIp };
    let content = content(bytes, at).unwrap_or(Content::Malformed);
    Frame::Ipv4(Packet {
        at,
        to,
        src: [fixed[12], fixed[13], fixed[14], fixed[15]],
        dst: [fixed[16], fixed[17], fixed[18], fixed[19]],
        protocol: fixed[9],
        content,
    })
}

/// `None` for lengths that contradict each other or the frame.
fn content(bytes: &[u8], at: usize) -> Option<Content> {
    let ip = Ipv4HeaderSlice::from_slice(&bytes[at..]).ok()?;
    let header = ip.slice().len();
    let total = usize::from(ip.total_len());
    if total < header || bytes.len() - at < total {
        return None;
    }
    if ip.is_fragmenting_payload() {
        return Some(Content::Fragment);
    }
    let transport = &bytes[at + header..at + total];
    let word = |i: usize| u16::from_be_bytes([transport[i], transport[i + 1]]);
    let segment = match ip.protocol() {
        IpNumber::TCP => {
            let tcp = transport.get(..20)?;
            let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            let data = transport.len().saturating_sub(usize::from(tcp[12] >> 4) * 4);
            let bit = |n: u8| tcp[13] >> n & 1 == 1;
            let (fin, syn) = (bit(0), bit(1));
            let next = seq.wrapping_add(data as u32 + u32::from(fin) + u32::from(syn));
            Some(Segment { syn, fin, rst: bit(2), ack: bit(4), seq, next })
        }
        IpNumber::UDP => {
            transport.get(..8)?;
            None
        }
        _ => return Some(Content::Other),
    };
    Some(Content::Flow(Flow {
        at: at + header,
        length: transport.len(),
        sport: word(0),
        dport: word(2),
        segment,
    }))
}
