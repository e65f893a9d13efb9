//! Packets of checks: bytes to values and back, by smoltcp's wire layer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_core::host::health::Failure;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Message,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket,
    UdpRepr,
};

use crate::io::mac::Mac;

const ETHERNET: usize = 14;
const HOP_LIMIT: u8 = 64;
/// What an echo request carries; the size of ping's.
const ECHO_DATA: [u8; 56] = *b"lb health check: is anybody there? lb health check: ....";

/// What a check is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP or ICMPv6 echo.
    Icmp,
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// A packet that may be the answer to a check.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The source port of the run that it answers, or its echo identifier.
    pub port: u16,
    /// What it is.
    pub what: What<'a>,
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// An echo reply.
    EchoReply {
        /// Its sequence number.
        sequence: u16,
    },
    /// A datagram.
    Datagram {
        /// Its source port.
        port: u16,
        /// What it carries.
        payload: &'a [u8],
    },
    /// A TCP segment: the IP packet, without padding.
    Segment {
        /// From its IP header on.
        packet: &'a [u8],
    },
    /// An ICMP error about a packet that was sent to `target`.
    Unreachable {
        /// What that packet was.
        protocol: Protocol,
        /// Where it was going.
        target: IpAddr,
        /// What the error says.
        failure: Failure,
    },
}

/// An Ethernet frame around an IP packet.
pub fn frame(to: Mac, from: Mac, packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] =
        if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
    [&to.0[..], &from.0, &ethertype, packet].concat()
}

/// An echo request; `None` if the addresses are not of one family.
pub fn echo_request(source: IpAddr, target: IpAddr, identifier: u16, sequence: u16) -> Option<Vec<u8>> {
    let all = ChecksumCapabilities::default();
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let echo = Icmpv4Repr::EchoRequest { ident: identifier, seq_no: sequence, data: &ECHO_DATA };
            Some(ipv4(source, target, IpProtocol::Icmp, echo.buffer_len(), |payload| {
                echo.emit(&mut Icmpv4Packet::new_unchecked(payload), &all);
            }))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let echo = Icmpv6Repr::EchoRequest { ident: identifier, seq_no: sequence, data: &ECHO_DATA };
            Some(ipv6(source, target, IpProtocol::Icmpv6, echo.buffer_len(), |payload| {
                echo.emit(&source, &target, &mut Icmpv6Packet::new_unchecked(payload), &all);
            }))
        }
        _ => None,
    }
}

/// A UDP datagram; `None` if the addresses are not of one family.
pub fn datagram(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let length = udp.header_len() + data.len();
    let emit = |payload: &mut [u8]| {
        let (source, target) = (from.ip().into(), to.ip().into());
        let copy = |bytes: &mut [u8]| bytes.copy_from_slice(data);
        let mut packet = UdpPacket::new_unchecked(payload);
        udp.emit(&mut packet, &source, &target, data.len(), copy, &ChecksumCapabilities::default());
    };
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => Some(ipv4(source, target, IpProtocol::Udp, length, emit)),
        (IpAddr::V6(source), IpAddr::V6(target)) => Some(ipv6(source, target, IpProtocol::Udp, length, emit)),
        _ => None,
    }
}

fn ipv4(
    source: Ipv4Addr,
    target: Ipv4Addr,
    protocol: IpProtocol,
    length: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: source,
        dst_addr: target,
        next_header: protocol,
        payload_len: length,
        hop_limit: HOP_LIMIT,
    };
    let mut packet = Ipv4Packet::new_unchecked(vec![0; header.buffer_len() + length]);
    header.emit(&mut packet, &ChecksumCapabilities::default());
    emit(packet.payload_mut());
    packet.into_inner()
}

fn ipv6(
    source: Ipv6Addr,
    target: Ipv6Addr,
    protocol: IpProtocol,
    length: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: target,
        next_header: protocol,
        payload_len: length,
        hop_limit: HOP_LIMIT,
    };
    let mut packet = Ipv6Packet::new_unchecked(vec![0; header.buffer_len() + length]);
    header.emit(&mut packet);
    emit(packet.payload_mut());
    packet.into_inner()
}

/// Reads an untagged frame. `None` for everything that cannot be the answer to a check, truncated frames and fragments
/// included. Checksums of TCP and UDP are left to who sends: on a veth they may not be there yet.
pub fn parse(frame: &[u8]) -> Option<Heard<'_>> {
    let packet = frame.get(ETHERNET..)?;
    match frame.get(12..ETHERNET)? {
        [8, 0] => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            if ip.version() != 4 || ip.more_frags() || ip.frag_offset() != 0 || !ip.verify_checksum() {
                return None;
            }
            let packet = packet.get(..usize::from(ip.total_len()))?;
            transport(ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload(), packet)
        }
        [0x86, 0xdd] => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            if ip.version() != 6 {
                return None;
            }
            let packet = packet.get(..ip.total_len())?;
            transport(ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload(), packet)
        }
        _ => None,
    }
}

fn transport<'a>(
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    payload: &'a [u8],
    packet: &'a [u8],
) -> Option<Heard<'a>> {
    let (port, what) = match protocol {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(payload).ok()?;
            (tcp.dst_port(), What::Segment { packet })
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(payload).ok()?;
            (udp.dst_port(), What::Datagram { port: udp.src_port(), payload: udp.payload() })
        }
        IpProtocol::Icmp => icmpv4(payload)?,
        IpProtocol::Icmpv6 => icmpv6(source, destination, payload)?,
        _ => return None,
    };
    Some(Heard { source, destination, port, what })
}

fn icmpv4(payload: &[u8]) -> Option<(u16, What<'_>)> {
    let icmp = Icmpv4Packet::new_checked(payload).ok()?;
    if !icmp.verify_checksum() {
        return None;
    }
    match icmp.msg_type() {
        Icmpv4Message::EchoReply => {
            Some((icmp.echo_ident(), What::EchoReply { sequence: icmp.echo_seq_no() }))
        }
        Icmpv4Message::DstUnreachable => {
            let refused = icmp.msg_code() == u8::from(Icmpv4DstUnreachable::PortUnreachable);
            let fragmentation = icmp.msg_code() == u8::from(Icmpv4DstUnreachable::FragRequired);
            let inner = Ipv4Packet::new_unchecked(payload.get(8..)?);
            let header = payload.get(8..28)?;
            let l4 = payload.get(8 + usize::from(header[0] & 0x0f) * 4..)?;
            if fragmentation {
                return None;
            }
            about(inner.next_header(), inner.dst_addr().into(), l4, refused)
        }
        _ => None,
    }
}

fn icmpv6(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Option<(u16, What<'_>)> {
    let icmp = Icmpv6Packet::new_checked(payload).ok()?;
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) else { return None };
    if !icmp.verify_checksum(&source, &destination) {
        return None;
    }
    match icmp.msg_type() {
        Icmpv6Message::EchoReply => {
            Some((icmp.echo_ident(), What::EchoReply { sequence: icmp.echo_seq_no() }))
        }
        Icmpv6Message::DstUnreachable => {
            let refused = icmp.msg_code() == u8::from(Icmpv6DstUnreachable::PortUnreachable);
            payload.get(8..48)?;
            let inner = Ipv6Packet::new_unchecked(payload.get(8..)?);
            about(inner.next_header(), inner.dst_addr().into(), payload.get(48..)?, refused)
        }
        _ => None,
    }
}

/// The run that the quoted packet with this transport part was of: its source port, or echo identifier.
fn about(protocol: IpProtocol, target: IpAddr, l4: &[u8], refused: bool) -> Option<(u16, What<'static>)> {
    let half = |at: usize| l4.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let (protocol, port) = match protocol {
        IpProtocol::Tcp => (Protocol::Tcp, half(0)?),
        IpProtocol::Udp => (Protocol::Udp, half(0)?),
        IpProtocol::Icmp | IpProtocol::Icmpv6 => (Protocol::Icmp, half(4)?),
        _ => return None,
    };
    let failure = if refused { Failure::Refused } else { Failure::Unreachable };
    Some((port, What::Unreachable { protocol, target, failure }))
}
