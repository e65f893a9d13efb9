//! What a switch does to a packet: it reads the fields that entries match, and writes some of them.
//!
//! Fields are written where they stand, and checksums are brought up to date by what has changed (RFC 1624, equation
//! 3), as Open vSwitch does it: options, data and a wrong checksum leave as they came. Fragments are matched without
//! ports, the first one too (OpenFlow 1.0, 3.4).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openflow::{Match, MatchField, NxmField, PortNo, VLAN_PRESENT};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMPV6: u8 = 58;
/// Next header of a fragment header, which is the protocol of later fragments of IPv6.
const FRAGMENT: u8 = 44;
/// TCP's flags FIN and RST.
const ENDS: u8 = 1 | 4;

/// The fields of a frame, and where its headers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    dst: [u8; 6],
    src: [u8; 6],
    /// The VLAN tag control information.
    tag: Option<u16>,
    /// The type behind the tag.
    pub ethertype: u16,
    ip: Option<Ip>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ip {
    at: usize,
    src: IpAddr,
    dst: IpAddr,
    dscp: u8,
    protocol: u8,
    /// Where TCP, UDP or ICMP begins, unless in a later fragment.
    transport: Option<usize>,
    /// Ports of TCP, UDP and SCTP; 0 in a fragment.
    ports: Option<(u16, u16)>,
    /// ICMPv6 type.
    kind: Option<u8>,
    /// TCP's flags.
    flags: u8,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

impl Fields {
    /// Reads a frame as far as it goes; `None` without a whole Ethernet header.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let (dst, src) = (frame.get(..6)?.try_into().ok()?, frame.get(6..12)?.try_into().ok()?);
        let outer = word(frame, 12)?;
        let tag = if outer == 0x8100 { word(frame, 14) } else { None };
        let (ethertype, at) = match tag {
            Some(_) => (word(frame, 16)?, 18),
            None => (outer, 14),
        };
        let ip = match ethertype {
            ETHERTYPE_IPV4 => ipv4(frame, at),
            ETHERTYPE_IPV6 => ipv6(frame, at),
            _ => None,
        };
        Some(Self { dst, src, tag, ethertype, ip })
    }

    /// Whether TCP ends here: FIN or RST.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.ip.is_some_and(|ip| ip.flags & ENDS != 0)
    }

    /// Whether this is neighbour discovery (RFC 4861).
    #[must_use]
    pub fn is_neighbour_discovery(&self) -> bool {
        self.ip.and_then(|ip| ip.kind).is_some_and(|kind| (133..=137).contains(&kind))
    }

    /// A number that is equal for equal addresses, protocol and ports; `None` without ports.
    #[must_use]
    pub fn flow(&self) -> Option<u64> {
        let ip = self.ip?;
        let (src, dst) = ip.ports?;
        Some(number(ip.src, ip.dst, ip.protocol, src, dst))
    }

    /// Whether a field of a match holds; `None` for a field that this switch does not know.
    #[must_use]
    pub fn matches(&self, in_port: PortNo, field: &MatchField) -> Option<bool> {
        let ip = |holds: &dyn Fn(&Ip) -> bool| self.ip.as_ref().is_some_and(holds);
        let ports = |wanted: u8, holds: &dyn Fn(u16, u16) -> bool| {
            ip(&|ip| ip.protocol == wanted && ip.ports.is_some_and(|(src, dst)| holds(src, dst)))
        };
        Some(match field {
            MatchField::InPort(port) => *port == in_port,
            MatchField::EthDst { value, mask: None } => value.0 == self.dst,
            MatchField::EthSrc { value, mask: None } => value.0 == self.src,
            MatchField::EthType(value) => *value == self.ethertype,
            MatchField::VlanVid { value, mask: None } => {
                *value == self.tag.map_or(0, |tag| VLAN_PRESENT | (tag & 0x0fff))
            }
            MatchField::VlanPcp(value) => self.tag.is_some_and(|tag| tag >> 13 == u16::from(*value)),
            MatchField::IpDscp(value) => ip(&|ip| ip.dscp == *value),
            MatchField::IpProto(value) => ip(&|ip| ip.protocol == *value),
            MatchField::Ipv4Src { value, mask: None } => ip(&|ip| ip.src == IpAddr::V4(*value)),
            MatchField::Ipv4Dst { value, mask: None } => ip(&|ip| ip.dst == IpAddr::V4(*value)),
            MatchField::Ipv6Src { value, mask: None } => ip(&|ip| ip.src == IpAddr::V6(*value)),
            MatchField::Ipv6Dst { value, mask: None } => ip(&|ip| ip.dst == IpAddr::V6(*value)),
            MatchField::TcpSrc(value) => ports(TCP, &|src, _| src == *value),
            MatchField::TcpDst(value) => ports(TCP, &|_, dst| dst == *value),
            MatchField::UdpSrc(value) => ports(UDP, &|src, _| src == *value),
            MatchField::UdpDst(value) => ports(UDP, &|_, dst| dst == *value),
            MatchField::SctpSrc(value) => ports(SCTP, &|src, _| src == *value),
            MatchField::SctpDst(value) => ports(SCTP, &|_, dst| dst == *value),
            MatchField::Icmpv6Type(value) => ip(&|ip| ip.kind == Some(*value)),
            MatchField::Nxm(NxmField::TcpFlags { value, mask }) => {
                let asked = mask.unwrap_or(u16::MAX);
                ip(&|ip| ip.protocol == TCP && u16::from(ip.flags) & asked == *value)
            }
            _ => return None,
        })
    }
}

/// The number of [`Fields::flow`] that a match asks for; `None` where it leaves part of it open.
#[must_use]
pub fn flow_of(match_: &Match) -> Option<u64> {
    let (mut src, mut dst, mut protocol, mut from, mut to) = (None, None, None, None, None);
    for field in &match_.fields {
        match *field {
            MatchField::Ipv4Src { value, mask: None } => src = Some(IpAddr::V4(value)),
            MatchField::Ipv4Dst { value, mask: None } => dst = Some(IpAddr::V4(value)),
            MatchField::Ipv6Src { value, mask: None } => src = Some(IpAddr::V6(value)),
            MatchField::Ipv6Dst { value, mask: None } => dst = Some(IpAddr::V6(value)),
            MatchField::IpProto(value) => protocol = Some(value),
            MatchField::TcpSrc(value) | MatchField::UdpSrc(value) => from = Some(value),
            MatchField::TcpDst(value) | MatchField::UdpDst(value) => to = Some(value),
            _ => {}
        }
    }
    Some(number(src?, dst?, protocol?, from?, to?))
}

fn number(src: IpAddr, dst: IpAddr, protocol: u8, from: u16, to: u16) -> u64 {
    let mut hasher = DefaultHasher::new();
    (src, dst, protocol, from, to).hash(&mut hasher);
    hasher.finish()
}

fn ipv4(frame: &[u8], at: usize) -> Option<Ip> {
    let packet = frame.get(at..)?;
    let header = usize::from(packet.first()? & 15) * 4;
    if packet.first()? >> 4 != 4 || header < 20 || packet.len() < header {
        return None;
    }
    let address =
        |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?)));
    let part = Part::of(word(packet, 6)? & 0x1fff, word(packet, 6)? & 0x2000 != 0);
    let ip = Ip {
        at,
        src: address(12)?,
        dst: address(16)?,
        dscp: packet.get(1)? >> 2,
        protocol: *packet.get(9)?,
        transport: None,
        ports: None,
        kind: None,
        flags: 0,
    };
    Some(with_transport(frame, ip, at + header, part))
}

fn ipv6(frame: &[u8], at: usize) -> Option<Ip> {
    let packet = frame.get(at..)?;
    if packet.first()? >> 4 != 6 || packet.len() < 40 {
        return None;
    }
    let address =
        |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?)));
    let (protocol, behind, part) = behind_extensions(frame, *packet.get(6)?, at + 40);
    let ip = Ip {
        at,
        src: address(8)?,
        dst: address(24)?,
        dscp: (word(packet, 0)? >> 6 & 0x3f) as u8,
        protocol,
        transport: None,
        ports: None,
        kind: None,
        flags: 0,
    };
    Some(with_transport(frame, ip, behind, part))
}

/// What of a packet a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    First,
    Later,
}

impl Part {
    const fn of(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}

/// The protocol behind the extension headers, where it begins, and what of the packet is here (RFC 8200, 4). Of later
/// fragments the fragment header is all that a switch looks at.
fn behind_extensions(frame: &[u8], first: u8, at: usize) -> (u8, usize, Part) {
    let (mut next, mut at, mut part) = (first, at, Part::Whole);
    loop {
        let Some([following, length]) = frame.get(at..at + 2).and_then(|two| <[u8; 2]>::try_from(two).ok())
        else {
            return (next, at, part);
        };
        match next {
            0 | 43 | 60 => at += usize::from(length) * 8 + 8,
            51 => at += usize::from(length) * 4 + 8,
            FRAGMENT => {
                let field = word(frame, at + 2).unwrap_or(0);
                part = Part::of(field >> 3, field & 1 != 0);
                if part == Part::Later {
                    return (FRAGMENT, at, part);
                }
                at += 8;
            }
            _ => return (next, at, part),
        }
        next = following;
    }
}

fn with_transport(frame: &[u8], ip: Ip, at: usize, part: Part) -> Ip {
    let has_ports = matches!(ip.protocol, TCP | UDP | SCTP);
    if part == Part::Later {
        return Ip { ports: has_ports.then_some((0, 0)), ..ip };
    }
    let least = match ip.protocol {
        TCP => 20,
        UDP => 8,
        SCTP => 12,
        ICMPV6 => 4,
        _ => return ip,
    };
    if frame.len() < at + least {
        return ip;
    }
    let ports = match part {
        Part::First => Some((0, 0)),
        _ => word(frame, at).zip(word(frame, at + 2)),
    };
    let kind = frame.get(at).copied().filter(|_| ip.protocol == ICMPV6);
    let flags = if ip.protocol == TCP { frame.get(at + 13).copied().unwrap_or(0) } else { 0 };
    Ip { transport: Some(at), ports: ports.filter(|_| has_ports), kind, flags, ..ip }
}

/// Writes a field of a frame. Whether this switch knows it, and the frame has it.
pub fn set(frame: &mut [u8], field: &MatchField) -> bool {
    let Some(fields) = Fields::of(frame) else { return false };
    match field {
        MatchField::EthDst { value, mask: None } => put(frame, 0, &value.0),
        MatchField::EthSrc { value, mask: None } => put(frame, 6, &value.0),
        MatchField::Ipv4Src { value, mask: None } => set_address(frame, &fields, false, &value.octets()),
        MatchField::Ipv4Dst { value, mask: None } => set_address(frame, &fields, true, &value.octets()),
        MatchField::Ipv6Src { value, mask: None } => set_address(frame, &fields, false, &value.octets()),
        MatchField::Ipv6Dst { value, mask: None } => set_address(frame, &fields, true, &value.octets()),
        MatchField::TcpSrc(port) | MatchField::UdpSrc(port) | MatchField::TpSrc(port) => {
            set_port(frame, &fields, 0, *port)
        }
        MatchField::TcpDst(port) | MatchField::UdpDst(port) | MatchField::TpDst(port) => {
            set_port(frame, &fields, 2, *port)
        }
        _ => false,
    }
}

fn put(frame: &mut [u8], at: usize, new: &[u8]) -> bool {
    let Some(place) = frame.get_mut(at..at + new.len()) else { return false };
    place.copy_from_slice(new);
    true
}

fn set_address(frame: &mut [u8], fields: &Fields, is_destination: bool, new: &[u8]) -> bool {
    let Some(ip) = fields.ip else { return false };
    let first = match (fields.ethertype, new.len()) {
        (ETHERTYPE_IPV4, 4) => 12,
        (ETHERTYPE_IPV6, 16) => 8,
        _ => return false,
    };
    let at = ip.at + first + if is_destination { new.len() } else { 0 };
    let Some(old) = frame.get(at..at + new.len()).map(<[u8]>::to_vec) else { return false };
    put(frame, at, new);
    if fields.ethertype == ETHERTYPE_IPV4 {
        update(frame, ip.at + 10, &old, new);
    }
    update_transport(frame, &ip, &old, new);
    true
}

fn set_port(frame: &mut [u8], fields: &Fields, offset: usize, port: u16) -> bool {
    let Some((ip, at)) = fields.ip.and_then(|ip| Some((ip, ip.transport?))) else { return false };
    if ip.ports.is_none() {
        return false;
    }
    let Some(old) = frame.get(at + offset..at + offset + 2).map(<[u8]>::to_vec) else { return false };
    let new = port.to_be_bytes();
    put(frame, at + offset, &new);
    update_transport(frame, &ip, &old, &new);
    true
}

/// The checksum of TCP, UDP or ICMPv6 after a change. A UDP checksum of 0 is none, and stays (RFC 768).
fn update_transport(frame: &mut [u8], ip: &Ip, old: &[u8], new: &[u8]) {
    let Some(transport) = ip.transport else { return };
    let at = match ip.protocol {
        TCP => transport + 16,
        UDP => transport + 6,
        ICMPV6 => transport + 2,
        _ => return,
    };
    if ip.protocol == UDP && word(frame, at) == Some(0) {
        return;
    }
    update(frame, at, old, new);
    if ip.protocol == UDP && word(frame, at) == Some(0) {
        put(frame, at, &[0xff; 2]);
    }
}

/// `HC' = ~(~HC + ~m + m')` (RFC 1624, equation 3).
fn update(frame: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let Some(checksum) = word(frame, at) else { return };
    let words = |bytes: &[u8]| -> Vec<u16> {
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])).collect()
    };
    let mut sum = u32::from(!checksum);
    sum += words(old).into_iter().map(|word| u32::from(!word)).sum::<u32>();
    sum += words(new).into_iter().map(u32::from).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    put(frame, at, &(!(sum as u16)).to_be_bytes());
}
