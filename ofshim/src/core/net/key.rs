//! What a route's entries match, as fine as configured, and the way from a frame to it and back from a switch's list.

use std::net::IpAddr;

use openflow::{MacAddr, Match, MatchField, PortNo, VLAN_PRESENT, Version};

use crate::core::frame::Frame;
use crate::core::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, SCTP, TCP, UDP};
use crate::core::learn::Station;

/// How much of a frame an entry matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// Port, VLAN, MACs, IP addresses, protocol, TCP, UDP and SCTP ports.
    #[default]
    FiveTuple,
    /// VLAN, MACs, IP addresses; not the port.
    Addresses,
    /// Port, VLAN, MACs, IP addresses.
    PortAddresses,
    /// VLAN and MACs; not the port.
    Macs,
}

impl Granularity {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::FiveTuple => "five-tuple",
            Self::Addresses => "addresses",
            Self::PortAddresses => "port-addresses",
            Self::Macs => "macs",
        }
    }
}

/// EtherTypes below this are lengths (IEEE 802.3).
const FIRST_ETHERTYPE: u16 = 0x0600;
/// Tags, behind which the switch may see another EtherType than this controller.
const ETHERTYPE_TAGS: [u16; 2] = [0x8100, 0x88a8];

/// The IP part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpKey {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol, if it is matched.
    pub protocol: Option<u8>,
    /// TCP, UDP or SCTP ports, if they are matched.
    pub ports: Option<(u16, u16)>,
}

/// What a flow's entries match, but for the port that frames come in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Source address; `None` in entries that lead to a destination from wherever.
    pub src: Option<MacAddr>,
    /// Destination address.
    pub dst: MacAddr,
    /// VLAN id, `None` for frames without a tag.
    pub vlan: Option<u16>,
    /// EtherType, if it is matched.
    pub ethertype: Option<u16>,
    /// IP, if it is matched.
    pub ip: Option<IpKey>,
    /// Whether entries match the port that frames come in on.
    pub by_port: bool,
}

impl FlowKey {
    /// The key of a frame's flow. Without `v6`, IPv6 is matched by its MACs alone, and SCTP without its ports: 1.0 cannot
    /// do more.
    #[must_use]
    pub fn of(frame: &Frame, granularity: Granularity, v6: bool) -> Self {
        let by_port = matches!(granularity, Granularity::FiveTuple | Granularity::PortAddresses);
        let macs = Self {
            src: Some(frame.src),
            dst: frame.dst,
            vlan: frame.vlan,
            ethertype: None,
            ip: None,
            by_port,
        };
        let plain = frame.ethertype >= FIRST_ETHERTYPE && !ETHERTYPE_TAGS.contains(&frame.ethertype);
        if granularity == Granularity::Macs || !plain {
            return macs;
        }
        let ip = frame.ip.filter(|_| v6 || frame.ethertype != ETHERTYPE_IPV6).map(|ip| {
            let fine = granularity == Granularity::FiveTuple;
            let ports = ip.ports.filter(|_| fine && (v6 || ip.protocol != SCTP));
            // In a match no fragment has ports, the first neither (1.0, 3.4).
            let ports = ports.map(|ports| if ip.fragment { (0, 0) } else { ports });
            IpKey { src: ip.src, dst: ip.dst, protocol: fine.then_some(ip.protocol), ports }
        });
        Self { ethertype: Some(frame.ethertype), ip, ..macs }
    }

    /// Whether an entry for such a frame would match flows that are none of its own, and hide their ports: frames without
    /// an EtherType (IEEE 802.3), and IP whose headers cannot be read to the ports.
    #[must_use]
    pub const fn hides_others(frame: &Frame) -> bool {
        let is_ip = matches!(frame.ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6);
        frame.ethertype < FIRST_ETHERTYPE || (is_ip && frame.ip.is_none())
    }

    /// The key of entries that lead to a station from wherever.
    #[must_use]
    pub const fn towards(station: Station) -> Self {
        Self { src: None, dst: station.mac, vlan: station.vlan, ethertype: None, ip: None, by_port: false }
    }

    /// The key of the answers.
    #[must_use]
    pub fn reversed(&self) -> Option<Self> {
        let ip = self.ip.map(|ip| IpKey {
            src: ip.dst,
            dst: ip.src,
            ports: ip.ports.map(|(src, dst)| (dst, src)),
            ..ip
        });
        Some(Self { src: Some(self.dst), dst: self.src?, ip, ..*self })
    }

    /// The station that sends.
    #[must_use]
    pub fn source(&self) -> Option<Station> {
        self.src.map(|mac| Station { mac, vlan: self.vlan })
    }

    /// The station that receives.
    #[must_use]
    pub const fn destination(&self) -> Station {
        Station { mac: self.dst, vlan: self.vlan }
    }

    /// A number that is the same for both directions of a flow, to choose among equal paths.
    #[must_use]
    pub fn spread(&self) -> u64 {
        let mut ends = [end(self.src.unwrap_or_default(), None, None), end(self.dst, None, None)];
        if let Some(ip) = self.ip {
            let (src, dst) = ip.ports.unzip();
            ends = [end(self.src.unwrap_or_default(), Some(ip.src), src), end(self.dst, Some(ip.dst), dst)];
        }
        ends.sort_unstable();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in ends.concat() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash ^ (hash >> 29)
    }

    /// The match of an entry for frames from `in_port`.
    #[must_use]
    pub fn to_match(&self, in_port: PortNo) -> Match {
        let mut match_ = Match::new();
        if self.by_port {
            match_ = match_.in_port(in_port);
        }
        match_ = match_.eth_dst(self.dst);
        if let Some(src) = self.src {
            match_ = match_.eth_src(src);
        }
        if let Some(ethertype) = self.ethertype {
            match_ = match_.eth_type(ethertype);
        }
        match_ = match self.vlan {
            Some(vid) => match_.vlan_vid(vid),
            None => match_.no_vlan(),
        };
        match self.ip {
            Some(ip) => ip.extend(match_),
            None => match_,
        }
    }

    /// Reads back the match of an entry of ours; the port is [`PortNo::ANY`] if it is not matched. `None` for any
    /// other match.
    #[must_use]
    pub fn of_match(match_: &Match) -> Option<(Self, PortNo)> {
        let mut read = Reading::default();
        let untagged = match_.fields.contains(&MatchField::VlanVid { value: 0, mask: None });
        for field in &match_.fields {
            if !(untagged && matches!(field, MatchField::VlanPcp(_))) {
                read.take(field)?;
            }
        }
        read.finish()
    }
}

fn end(mac: MacAddr, address: Option<IpAddr>, port: Option<u16>) -> Vec<u8> {
    let mut bytes = mac.0.to_vec();
    match address {
        Some(IpAddr::V4(address)) => bytes.extend(address.octets()),
        Some(IpAddr::V6(address)) => bytes.extend(address.octets()),
        None => {}
    }
    bytes.extend(port.unwrap_or_default().to_be_bytes());
    bytes
}

impl IpKey {
    fn extend(&self, match_: Match) -> Match {
        let match_ = match self.protocol {
            Some(protocol) => match_.ip_proto(protocol),
            None => match_,
        };
        let match_ = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => match_.ipv4_src(src).ipv4_dst(dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => match_
                .with(MatchField::Ipv6Src { value: src, mask: None })
                .with(MatchField::Ipv6Dst { value: dst, mask: None }),
            _ => match_,
        };
        match (self.protocol, self.ports) {
            (Some(TCP), Some((src, dst))) => match_.tcp_src(src).tcp_dst(dst),
            (Some(UDP), Some((src, dst))) => match_.udp_src(src).udp_dst(dst),
            (Some(SCTP), Some((src, dst))) => {
                match_.with(MatchField::SctpSrc(src)).with(MatchField::SctpDst(dst))
            }
            _ => match_,
        }
    }
}

/// The fields of a match of ours, as far as read.
#[derive(Default)]
struct Reading {
    in_port: Option<PortNo>,
    src: Option<MacAddr>,
    dst: Option<MacAddr>,
    vlan: Option<Option<u16>>,
    ethertype: Option<u16>,
    protocol: Option<u8>,
    from: Option<IpAddr>,
    to: Option<IpAddr>,
    ports: (Option<u16>, Option<u16>),
}

impl Reading {
    fn take(&mut self, field: &MatchField) -> Option<()> {
        match *field {
            MatchField::InPort(port) => self.in_port = Some(port),
            MatchField::EthSrc { value, mask: None } => self.src = Some(value),
            MatchField::EthDst { value, mask: None } => self.dst = Some(value),
            MatchField::VlanVid { value: 0, mask: None } => self.vlan = Some(None),
            MatchField::VlanVid { value, mask: None } if value & VLAN_PRESENT != 0 => {
                self.vlan = Some(Some(value & !VLAN_PRESENT));
            }
            MatchField::EthType(ethertype) => self.ethertype = Some(ethertype),
            MatchField::IpProto(protocol) => self.protocol = Some(protocol),
            MatchField::Ipv4Src { value, mask: None } => self.from = Some(value.into()),
            MatchField::Ipv4Dst { value, mask: None } => self.to = Some(value.into()),
            MatchField::Ipv6Src { value, mask: None } => self.from = Some(value.into()),
            MatchField::Ipv6Dst { value, mask: None } => self.to = Some(value.into()),
            MatchField::TcpSrc(port) | MatchField::UdpSrc(port) | MatchField::SctpSrc(port) => {
                self.ports.0 = Some(port);
            }
            MatchField::TcpDst(port) | MatchField::UdpDst(port) | MatchField::SctpDst(port) => {
                self.ports.1 = Some(port);
            }
            _ => return None,
        }
        Some(())
    }

    fn finish(self) -> Option<(FlowKey, PortNo)> {
        let ip = match (self.from, self.to) {
            (Some(src), Some(dst)) if src.is_ipv4() == dst.is_ipv4() => {
                let ports = self.ports.0.zip(self.ports.1);
                Some(IpKey { src, dst, protocol: self.protocol, ports })
            }
            (None, None) if self.protocol.is_none() => None,
            _ => return None,
        };
        let is_ip = matches!(self.ethertype, Some(ETHERTYPE_IPV4 | ETHERTYPE_IPV6));
        if ip.is_some() && !is_ip {
            return None;
        }
        let by_port = self.in_port.is_some();
        let (dst, vlan) = (self.dst?, self.vlan?);
        let key = FlowKey { src: self.src, dst, vlan, ethertype: self.ethertype, ip, by_port };
        Some((key, self.in_port.unwrap_or(PortNo::ANY)))
    }
}

/// Whether a switch of this version can match IPv6 addresses.
#[must_use]
pub const fn matches_v6(version: Version) -> bool {
    matches!(version, Version::V1_3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(vlan: Option<u16>) -> Vec<u8> {
        v4(vlan, TCP)
    }

    fn v4(vlan: Option<u16>, protocol: u8) -> Vec<u8> {
        let mut frame = crate::core::frame::head(MacAddr([2; 6]), MacAddr([4; 6]), vlan, ETHERTYPE_IPV4);
        frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x9c, 0x40, 0, 80]);
        frame.resize(60, 0);
        frame
    }

    #[test]
    fn each_granularity_reads_back_in_both_versions() {
        use Granularity::{Addresses, FiveTuple, Macs, PortAddresses};
        for granularity in [FiveTuple, Addresses, PortAddresses, Macs] {
            for vlan in [None, Some(0), Some(7)] {
                let frame = Frame::parse(&tcp(vlan)).unwrap();
                let key = FlowKey::of(&frame, granularity, true);
                let match_ = key.to_match(PortNo(3));
                let port = if key.by_port { PortNo(3) } else { PortNo::ANY };
                assert_eq!(FlowKey::of_match(&match_), Some((key, port)), "{granularity:?}");
                assert_eq!(key.reversed().unwrap().reversed(), Some(key));
                assert_eq!(key.reversed().unwrap().spread(), key.spread(), "both directions take one way");
            }
        }
    }

    #[test]
    fn every_protocol_is_matched_and_sctp_with_its_ports() {
        for protocol in [1, 2, TCP, UDP, 47, 50, SCTP] {
            let frame = Frame::parse(&v4(None, protocol)).unwrap();
            let key = FlowKey::of(&frame, Granularity::FiveTuple, true);
            let ip = key.ip.unwrap();
            let has_ports = [TCP, UDP, SCTP].contains(&protocol);
            assert_eq!((ip.protocol, ip.ports.is_some()), (Some(protocol), has_ports));
            assert_eq!(FlowKey::of_match(&key.to_match(PortNo(3))), Some((key, PortNo(3))));
        }
        let frame = Frame::parse(&v4(None, SCTP)).unwrap();
        let ip = FlowKey::of(&frame, Granularity::FiveTuple, false).ip.unwrap();
        assert_eq!((ip.protocol, ip.ports), (Some(SCTP), None), "1.0 has no ports for it");
    }

    #[test]
    fn how_much_each_granularity_matches() {
        let frame = Frame::parse(&tcp(None)).unwrap();
        let fields = |granularity| FlowKey::of(&frame, granularity, true).to_match(PortNo(1)).fields.len();
        assert_eq!(fields(Granularity::FiveTuple), 10);
        assert_eq!(fields(Granularity::PortAddresses), 7);
        assert_eq!(fields(Granularity::Addresses), 6);
        assert_eq!(fields(Granularity::Macs), 3);
    }

    #[test]
    fn what_1_0_cannot_match_is_left_out() {
        let mut frame = crate::core::frame::head(MacAddr([2; 6]), MacAddr([4; 6]), None, ETHERTYPE_IPV6);
        frame.extend([0x60, 0, 0, 0, 0, 8, UDP, 64]);
        frame.extend([1; 32]);
        frame.extend([0, 9, 0, 9, 0, 8, 0, 0]);
        let frame = Frame::parse(&frame).unwrap();
        assert_eq!(FlowKey::of(&frame, Granularity::FiveTuple, true).ip.unwrap().ports, Some((9, 9)));
        let coarse = FlowKey::of(&frame, Granularity::FiveTuple, false);
        assert_eq!((coarse.ip, coarse.ethertype), (None, Some(ETHERTYPE_IPV6)));
    }

    #[test]
    fn only_matches_of_our_form_are_read() {
        let frame = Frame::parse(&tcp(None)).unwrap();
        let match_ = FlowKey::of(&frame, Granularity::FiveTuple, true).to_match(PortNo(1));
        assert!(FlowKey::of_match(&match_.clone().with(MatchField::VlanPcp(0))).is_some(), "1.0 lists it");
        assert_eq!(FlowKey::of_match(&match_.with(MatchField::IpDscp(1))), None);
        assert_eq!(FlowKey::of_match(&Match::new().in_port(PortNo(1))), None);
    }
}
