//! What the controller reads of IPv4 and IPv6: addresses, protocol, ports, and neighbour discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openflow::MacAddr;

use super::frame::head;

/// EtherTypes of IPv4 and IPv6.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const IPV6_HEADER_BYTES: usize = 40;
/// Headers between that of IPv6 and the transport's (RFC 8200, 4; RFC 4302): hop-by-hop, routing, authentication,
/// destination options; and [`FRAGMENT`].
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// Next header of a fragment header.
pub const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// The part of an IP header that names a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Protocol; in IPv6 what is behind the extension headers, and in fragments but the first the fragment header's own
    /// number, as Open vSwitch matches it.
    pub protocol: u8,
    /// TCP, UDP or SCTP ports, zeros in IPv4 fragments but the first; `None` for other protocols.
    pub ports: Option<(u16, u16)>,
    /// Whether this is only a part of a packet.
    pub fragment: bool,
    /// The message, if this is neighbour discovery.
    pub neighbour: Option<Neighbour>,
}

/// A message of neighbour discovery (RFC 4861, 4.3 and 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Who has `target`?
    Solicitation {
        /// The address that is asked for.
        target: Ipv6Addr,
    },
    /// `target` is at `mac`.
    Advertisement {
        /// The address that is told.
        target: Ipv6Addr,
        /// The address that the option names, if there is one.
        mac: Option<MacAddr>,
    },
}

impl Ip {
    /// Reads the header of a packet of this EtherType; `None` if it is none, or cut short.
    #[must_use]
    pub fn parse(ethertype: u16, packet: &[u8]) -> Option<Self> {
        match ethertype {
            ETHERTYPE_IPV4 => v4(packet),
            ETHERTYPE_IPV6 => v6(packet),
            _ => None,
        }
    }
}

/// What a fragment says of the packet that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The packet's identification.
    pub id: u32,
    /// What all its fragments say is behind the fragment header, or behind that of IPv4.
    pub protocol: u8,
    /// Whether this is the first one.
    pub is_first: bool,
}

/// Reads this of an IP packet that is a fragment; `None` if it is none, or cut short.
#[must_use]
pub fn part(packet: &[u8]) -> Option<Part> {
    if packet.first()? >> 4 == 4 {
        let field = be16(packet, 6)? & 0x3fff;
        let (id, protocol) = (be16(packet, 4)?.into(), *packet.get(9)?);
        return (field != 0).then_some(Part { id, protocol, is_first: field & 0x1fff == 0 });
    }
    let (mut next, mut rest) = (*packet.get(6)?, packet.get(IPV6_HEADER_BYTES..)?);
    while matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
        let length = (usize::from(*rest.get(1)?) + 1) * 8;
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
    let field = be16(rest, 2)? & 0xfff9;
    let id = u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?);
    (next == FRAGMENT && field != 0).then_some(Part {
        id,
        protocol: *rest.first()?,
        is_first: field & 0xfff8 == 0,
    })
}

fn v4(packet: &[u8]) -> Option<Ip> {
    let first = *packet.first()?;
    let length = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || length < 20 {
        return None;
    }
    let protocol = *packet.get(9)?;
    let address = |at: usize| -> Option<IpAddr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?).into())
    };
    // More fragments, or an offset (RFC 791, 3.1).
    let part = be16(packet, 6)? & 0x3fff;
    let ports = match protocol {
        TCP | UDP | SCTP if part & 0x1fff != 0 => Some((0, 0)),
        _ => ports(protocol, packet.get(length..)?)?,
    };
    Some(Ip { src: address(12)?, dst: address(16)?, protocol, ports, fragment: part != 0, neighbour: None })
}

/// The ports of a transport header; `None` if it is cut short.
#[expect(
    clippy::option_option,
    reason = "a header without ports is another thing than one that cannot be read"
)]
fn ports(protocol: u8, header: &[u8]) -> Option<Option<(u16, u16)>> {
    match protocol {
        TCP | UDP | SCTP => Some(Some((be16(header, 0)?, be16(header, 2)?))),
        _ => Some(None),
    }
}

fn v6(packet: &[u8]) -> Option<Ip> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let next = *packet.get(6)?;
    let (src, dst) = (v6_address(packet, 8)?, v6_address(packet, 24)?);
    let rest = packet.get(IPV6_HEADER_BYTES..)?;
    let Behind { protocol, header, fragment } = behind_extensions(next, rest)?;
    let ports = ports(protocol, header)?;
    let neighbour = if next == ICMPV6 { neighbour(rest) } else { None };
    Some(Ip { src: src.into(), dst: dst.into(), protocol, ports, fragment, neighbour })
}

/// What is behind the extension headers.
struct Behind<'a> {
    protocol: u8,
    header: &'a [u8],
    fragment: bool,
}

/// Follows extension headers as Open vSwitch does: in fragments but the first it stops at the fragment header. `None` if
/// one is cut short.
fn behind_extensions(mut next: u8, mut rest: &[u8]) -> Option<Behind<'_>> {
    let mut fragment = false;
    loop {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(*rest.get(1)?) + 1) * 8,
            // In units of four octets, less two of them.
            AUTHENTICATION => (usize::from(*rest.get(1)?) + 2) * 4,
            FRAGMENT => {
                // Offset and "more fragments"; two bits between them are reserved (RFC 8200, 4.5).
                let part = be16(rest, 2)? & 0xfff9;
                fragment |= part != 0;
                if part & 0xfff8 != 0 {
                    return Some(Behind { protocol: FRAGMENT, header: rest, fragment });
                }
                8
            }
            protocol => return Some(Behind { protocol, header: rest, fragment }),
        };
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
}

fn neighbour(message: &[u8]) -> Option<Neighbour> {
    let target = v6_address(message, 8)?;
    match *message.first()? {
        NEIGHBOUR_SOLICITATION => Some(Neighbour::Solicitation { target }),
        NEIGHBOUR_ADVERTISEMENT => {
            // Option 2: target link-layer address, one unit of eight octets.
            let option = message.get(24..32).filter(|option| option.starts_with(&[2, 1]));
            let mac = option.and_then(|option| Some(MacAddr(option.get(2..8)?.try_into().ok()?)));
            Some(Neighbour::Advertisement { target, mac })
        }
        _ => None,
    }
}

fn v6_address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The frame that answers a solicitation of `asker` (RFC 4861, 4.4): solicited, overriding, from `owner`'s own address.
#[must_use]
pub fn advertisement(asker: (MacAddr, Ipv6Addr), owner: (MacAddr, Ipv6Addr), vlan: Option<u16>) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend(owner.1.octets());
    message.extend([2, 1]);
    message.extend(owner.0.0);
    packet(head(asker.0, owner.0, vlan, ETHERTYPE_IPV6), owner.1, asker.1, message)
}

/// The frame that asks whether somebody has `target`, as duplicate address detection does (RFC 4862, 5.4.2): from `::`,
/// without an option, to the station `to`, or to the target's group (RFC 4291, 2.7.1; RFC 2464, 7).
#[must_use]
pub fn solicitation(to: Option<MacAddr>, from: MacAddr, target: Ipv6Addr, vlan: Option<u16>) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let to = to.unwrap_or(MacAddr([0x33, 0x33, 0xff, a, b, c]));
    let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    packet(head(to, from, vlan, ETHERTYPE_IPV6), Ipv6Addr::UNSPECIFIED, group, message)
}

/// A message of ICMPv6 behind a frame's head, with its checksum.
fn packet(mut frame: Vec<u8>, from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or_default();
    // Pseudo-header: addresses, length, next header (RFC 8200, 8.1).
    let pseudo =
        [&from.octets()[..], &to.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, ICMPV6], &message]
            .concat();
    let sum = internet_checksum(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// The checksum of RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::*;

    fn v4_packet(protocol: u8, offset: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet[6..8].copy_from_slice(&offset.to_be_bytes());
        packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 0]);
        packet
    }

    #[test]
    fn five_tuples_of_v4() {
        let ip = Ip::parse(ETHERTYPE_IPV4, &v4_packet(6, 0x2000)).unwrap();
        assert_eq!((ip.src.to_string().as_str(), ip.dst.to_string().as_str()), ("10.0.0.1", "10.0.0.2"));
        assert_eq!((ip.protocol, ip.ports), (6, Some((40000, 80))));
        assert_eq!(
            Ip::parse(ETHERTYPE_IPV4, &v4_packet(17, 5)).unwrap().ports,
            Some((0, 0)),
            "a later fragment"
        );
        assert_eq!(Ip::parse(ETHERTYPE_IPV4, &v4_packet(1, 0)).unwrap().ports, None);
        let mut options = v4_packet(17, 0);
        options[0] = 0x46;
        options.splice(20..20, [1, 1, 1, 1]);
        assert_eq!(Ip::parse(ETHERTYPE_IPV4, &options).unwrap().ports, Some((40000, 80)));
        for length in 0..24 {
            assert_eq!(Ip::parse(ETHERTYPE_IPV4, &v4_packet(6, 0)[..length]), None, "{length}");
        }
        assert_eq!(Ip::parse(ETHERTYPE_IPV6, &v4_packet(6, 0)), None);
    }

    /// UDP from port 40000 to 80 behind these extension headers.
    fn v6_packet(first: u8, extensions: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, first, 64];
        packet.extend([1; 32]);
        packet.extend(extensions);
        packet.extend([0x9c, 0x40, 0, 80, 0, 8, 0, 0]);
        packet
    }

    #[test]
    fn what_is_behind_extension_headers_and_in_fragments_of_v6() {
        let read = |first, extensions: &[u8]| {
            let ip = Ip::parse(ETHERTYPE_IPV6, &v6_packet(first, extensions)).unwrap();
            (ip.protocol, ip.ports, ip.fragment)
        };
        let ports = Some((40000, 80));
        assert_eq!(read(UDP, &[]), (UDP, ports, false));
        // Hop-by-hop of 16 bytes, then destination options.
        let mut options = vec![DESTINATION, 1, 1, 12];
        options.resize(16, 0);
        options.extend([UDP, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(read(HOP_BY_HOP, &options), (UDP, ports, false));
        assert_eq!(read(AUTHENTICATION, &[UDP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]), (UDP, ports, false));
        assert_eq!(read(FRAGMENT, &[UDP, 0, 0, 0, 0, 0, 0, 7]), (UDP, ports, false), "atomic (RFC 6946)");
        assert_eq!(read(FRAGMENT, &[UDP, 0, 0, 1, 0, 0, 0, 7]), (UDP, ports, true), "the first");
        assert_eq!(read(FRAGMENT, &[UDP, 0, 0, 9, 0, 0, 0, 7]), (FRAGMENT, None, true), "a later one");
        assert_eq!(read(50, &[]), (50, None, false), "ESP hides what is behind it");
        let whole = v6_packet(HOP_BY_HOP, &options);
        for length in 0..whole.len() - 4 {
            assert_eq!(Ip::parse(ETHERTYPE_IPV6, &whole[..length]), None, "{length}");
        }
        // A length beyond the packet.
        assert_eq!(Ip::parse(ETHERTYPE_IPV6, &v6_packet(ROUTING, &[UDP, 255, 0, 0, 0, 0, 0, 0])), None);
    }

    #[test]
    fn an_advertisement_says_what_was_asked_and_its_checksum_is_right() {
        let asker = (MacAddr([2, 0, 0, 0, 0, 1]), "fe80::1".parse().unwrap());
        let owner = (MacAddr([2, 0, 0, 0, 0, 2]), "2001:db8::2".parse().unwrap());
        for vlan in [None, Some(7)] {
            let bytes = advertisement(asker, owner, vlan);
            let frame = Frame::parse(&bytes).unwrap();
            assert_eq!((frame.dst, frame.src, frame.vlan), (asker.0, owner.0, vlan));
            let ip = frame.ip.unwrap();
            assert_eq!((ip.src, ip.dst), (IpAddr::from(owner.1), IpAddr::from(asker.1)));
            let expected = Neighbour::Advertisement { target: owner.1, mac: Some(owner.0) };
            assert_eq!(ip.neighbour, Some(expected));
            let packet = &bytes[bytes.len() - 72..];
            let pseudo = [&packet[8..40], &[0, 0, 0, 32, 0, 0, 0, 58], &packet[40..]].concat();
            assert_eq!(internet_checksum(&pseudo), 0, "a right checksum sums up to nothing");
        }
    }

    #[test]
    fn no_length_panics() {
        let frame = advertisement(
            (MacAddr([2; 6]), "fe80::1".parse().unwrap()),
            (MacAddr([4; 6]), "fe80::2".parse().unwrap()),
            None,
        );
        for length in 0..frame.len() {
            let _ = Frame::parse(&frame[..length]);
        }
    }
}
