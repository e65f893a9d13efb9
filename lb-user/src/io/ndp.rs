//! Neighbour discovery for IPv6 (RFC 4861): what the prober asks, and what it answers for its own address.
//!
//! A probe is the solicitation of duplicate address detection (RFC 4862, 5.4.2): source address `::` and no link-layer
//! option, so that nobody changes a neighbour entry because of it. Its answer goes to all nodes (ff02::1) with the
//! solicited flag clear (RFC 4861, 7.2.4), and so comes back by the port that the backend is at.
//!
//! ```text
//!  0     6     12     14        54     55     56       58        62         78    80     86
//!  | dst | src | 86dd | IPv6 .. | type | code | check  | flags.. | target   | o l | mac  |
//!  '- Ethernet II ----'---40----'--------- ICMPv6, RFC 4861, 4.3 and 4.4 ---'- option ---'
//! ```

use std::net::Ipv6Addr;

use super::mac::Mac;

const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Options of RFC 4861, 4.6.1.
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
/// Flags of an advertisement (RFC 4861, 4.4).
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// What has crossed a router is not from a neighbour (RFC 4861, 7.1.1).
const HOP_LIMIT: u8 = 255;
/// ff02::1 and its MAC.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

// Offsets in an untagged frame, in bytes.
const IP: usize = 14;
const ICMP: usize = 54;
const TARGET: usize = 62;
const OPTIONS: usize = 78;

/// What a neighbour discovery message asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has the target?
    Solicitation,
    /// The target is here.
    Advertisement,
}

/// A neighbour solicitation or advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Which.
    pub kind: Kind,
    /// Source of the frame.
    pub frame_source: Mac,
    /// Source of the packet; `::` for a probe.
    pub source: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// Link-layer address in the option that the kind of message has, if it is there.
    pub mac: Option<Mac>,
}

/// The group that a node with this address listens to (RFC 4291, 2.7.1), and its MAC (RFC 2464, 7).
pub fn solicited_node(address: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = address.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    (group, Mac([0x33, 0x33, 0xff, a, b, c]))
}

/// Builds the frame of a probe for `target`, to `destination` or to the target's group.
pub fn build_probe(source: Mac, target: Ipv6Addr, destination: Option<Mac>) -> Vec<u8> {
    solicitation(source, Ipv6Addr::UNSPECIFIED, target, destination)
}

/// Builds a solicitation from `source_ip`; with `::` it has no option (RFC 4861, 4.3).
pub fn solicitation(source: Mac, source_ip: Ipv6Addr, target: Ipv6Addr, destination: Option<Mac>) -> Vec<u8> {
    let (group, group_mac) = solicited_node(target);
    let option = (!source_ip.is_unspecified()).then_some((SOURCE_MAC, source));
    let icmp = message(SOLICITATION, 0, target, option);
    frame(destination.unwrap_or(group_mac), source, source_ip, group, &icmp)
}

/// Builds the answer to `request`, which asks for its target: that is at `mac`. `None` unless it is a solicitation.
pub fn build_answer(request: &Message, mac: Mac) -> Option<Vec<u8>> {
    if request.kind != Kind::Solicitation {
        return None;
    }
    Some(advertisement(request.mac.unwrap_or(request.frame_source), mac, request.source, request.target))
}

/// Builds the advertisement of `target` at `source` to who asked, or to all nodes when that was a probe.
pub fn advertisement(destination: Mac, source: Mac, asker: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let option = Some((TARGET_MAC, source));
    if asker.is_unspecified() {
        let icmp = message(ADVERTISEMENT, OVERRIDE, target, option);
        return frame(ALL_NODES_MAC, source, target, ALL_NODES, &icmp);
    }
    let icmp = message(ADVERTISEMENT, SOLICITED | OVERRIDE, target, option);
    frame(destination, source, target, asker, &icmp)
}

/// Reads an untagged frame that carries a solicitation or advertisement valid by RFC 4861, 7.1. `None` for everything
/// else, truncated and corrupted frames included.
pub fn parse(frame: &[u8]) -> Option<Message> {
    if frame.get(12..14)? != ETH_P_IPV6 {
        return None;
    }
    let header = frame.get(IP..ICMP)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != HOP_LIMIT || length < 24 {
        return None;
    }
    let icmp = frame.get(ICMP..ICMP + length)?;
    let ip = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).ok();
    let (source, destination) = (ip(&header[8..24])?, ip(&header[24..40])?);
    let target = ip(icmp.get(TARGET - ICMP..OPTIONS - ICMP)?)?;
    let (kind, wanted) = match icmp[0] {
        SOLICITATION => (Kind::Solicitation, SOURCE_MAC),
        ADVERTISEMENT => (Kind::Advertisement, TARGET_MAC),
        _ => return None,
    };
    if icmp[1] != 0 || target.is_multicast() || checksum(source, destination, icmp) != 0 {
        return None;
    }
    let frame_source = Mac::from_slice(frame.get(6..12)?)?;
    let mac = option(icmp.get(OPTIONS - ICMP..)?, wanted)?;
    Some(Message { kind, frame_source, source, target, mac })
}

/// The MAC in the option `wanted`; `None` if an option's length is zero or goes beyond the end.
fn option(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 {
            return None;
        }
        let (this, rest) = options.split_at_checked(length)?;
        if kind == wanted {
            found = Some(Mac::from_slice(this.get(2..8)?)?);
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}

/// An ICMPv6 message without its checksum.
fn message(kind: u8, flags: u8, target: Ipv6Addr, option: Option<(u8, Mac)>) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    icmp.extend(target.octets());
    if let Some((kind, mac)) = option {
        icmp.extend([kind, 1]);
        icmp.extend(mac.0);
    }
    icmp
}

fn frame(to: Mac, from: Mac, source: Ipv6Addr, destination: Ipv6Addr, icmp: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ICMP + icmp.len());
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(ETH_P_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((icmp.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(icmp);
    let sum = checksum(source, destination, icmp).to_be_bytes();
    frame[ICMP + 2..ICMP + 4].copy_from_slice(&sum);
    frame
}

/// The checksum over pseudo header and message (RFC 4443, 2.3); zero for a message that carries the right one.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, icmp: &[u8]) -> u16 {
    let mut sum = icmp.len() as u32 + u32::from(ICMPV6);
    for bytes in [&source.octets()[..], &destination.octets()[..], icmp] {
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBER: Mac = Mac([0x06, 0x6c, 0x62, 0x70, 0x72, 0x62]);
    const HOST: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const ASKER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);

    /// RFC 4861, 4.3 and RFC 4862, 5.4.2, by hand: who has fd00::1? asked by nobody.
    #[rustfmt::skip]
    const PROBE: [u8; 78] = [
        0x33, 0x33, 0xff, 0x00, 0x00, 0x01, 0x06, 0x6c, 0x62, 0x70, 0x72, 0x62, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 24, 58, 255,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1,
        // ff02 + 1 + ff00 + 1 + fd00 + 1 + 8700 + 58 + 24 = 3_8257 -> 825a, inverted.
        135, 0, 0x7d, 0xa5, 0, 0, 0, 0,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ];

    #[test]
    fn a_probe_is_these_bytes() {
        assert_eq!(build_probe(PROBER, ADDRESS, None), PROBE);
        assert_eq!(build_probe(PROBER, ADDRESS, Some(HOST))[..6], HOST.0);
    }

    #[test]
    fn a_probe_is_answered_to_all_nodes_and_a_question_to_who_asked() {
        let probe = parse(&PROBE).expect("a solicitation");
        assert_eq!((probe.kind, probe.source, probe.mac), (Kind::Solicitation, Ipv6Addr::UNSPECIFIED, None));
        let answer = build_answer(&probe, HOST).expect("an answer");
        assert_eq!(answer[..6], ALL_NODES_MAC.0);
        let answer = parse(&answer).expect("an advertisement");
        assert_eq!((answer.kind, answer.target, answer.mac), (Kind::Advertisement, ADDRESS, Some(HOST)));
        assert_eq!(build_answer(&answer, HOST), None, "an answer is not answered");

        let question = parse(&solicitation(PROBER, ASKER, ADDRESS, None)).expect("a solicitation");
        assert_eq!((question.source, question.mac), (ASKER, Some(PROBER)));
        let answer = build_answer(&question, HOST).expect("an answer");
        assert_eq!((&answer[..6], answer[ICMP + 4]), (&PROBER.0[..], SOLICITED | OVERRIDE));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        let good = solicitation(PROBER, ASKER, ADDRESS, None);
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "{len}");
        }
        // The Ethernet addresses, and traffic class and flow label, are under no checksum.
        for at in (IP + 4..good.len()).chain([12, 13]) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(parse(&bad), None, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn an_option_without_length_is_refused() {
        assert_eq!(option(&[1, 0, 0, 0, 0, 0, 0, 0], 1), None);
        assert_eq!(option(&[1, 2, 0, 0, 0, 0, 0, 0], 1), None, "beyond the end");
        assert_eq!(option(&[], 1), Some(None));
        let other_first = [14, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(option(&other_first, 1), Some(Some(Mac([2, 3, 4, 5, 6, 7]))));
    }
}
