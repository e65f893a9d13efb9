//! Neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use super::{Ip, Mac, ethernet, octets, ones_sum, pseudo_header};

/// A neighbour solicitation or advertisement (RFC 4861, sections 4.3 and 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ndp {
    /// Destination MAC of the frame.
    pub dst_mac: Mac,
    /// Source MAC of the frame.
    pub src_mac: Mac,
    /// VLAN tags: TPID and TCI, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Source address.
    pub src: Ip,
    /// Destination address.
    pub dst: Ip,
    /// Hop limit; 255 in a valid one.
    pub hop_limit: u8,
    /// ICMPv6 type: 135 solicitation, 136 advertisement.
    pub kind: u8,
    /// ICMPv6 code; 0 in a valid one.
    pub code: u8,
    /// Flags of an advertisement: 0x80 router, 0x40 solicited, 0x20 override.
    pub flags: u8,
    /// The target address.
    pub target: Ip,
    /// The options as they stand in the packet.
    pub options: Vec<u8>,
    /// The ICMPv6 checksum instead of the right one.
    pub checksum: Option<u16>,
    /// Bytes behind the packet.
    pub padding: usize,
}

/// The solicited-node multicast address of an address, and the MAC that it is sent to (RFC 4291, section 2.7.1).
///
/// # Panics
/// The address is not IPv6.
#[must_use]
pub fn solicited_node(address: Ip) -> (Mac, Ip) {
    let o = octets(address);
    assert!(o.len() == 16, "{address} is not IPv6");
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(o[13]), u16::from_be_bytes([o[14], o[15]]));
    ([0x33, 0x33, 0xff, o[13], o[14], o[15]], IpAddr::V6(group))
}

impl Ndp {
    /// A solicitation to the target's group, with the asker's MAC as an option.
    #[must_use]
    pub fn solicit(asker: (Mac, Ip), target: Ip) -> Self {
        let (dst_mac, dst) = solicited_node(target);
        Self {
            dst_mac,
            src_mac: asker.0,
            tags: Vec::new(),
            src: asker.1,
            dst,
            hop_limit: 255,
            kind: 135,
            code: 0,
            flags: 0,
            target,
            options: [&[1, 1][..], &asker.0].concat(),
            checksum: None,
            padding: 0,
        }
    }

    /// Is this address free? A solicitation without a source and options (RFC 4862, section 5.4.2).
    #[must_use]
    pub fn probe(mac: Mac, target: Ip) -> Self {
        let nobody = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        Self { options: Vec::new(), ..Self::solicit((mac, nobody), target) }
    }

    /// An unsolicited advertisement to all nodes, with the target's MAC as an option.
    #[must_use]
    pub fn advertise(owner: (Mac, Ip)) -> Self {
        Self {
            dst_mac: [0x33, 0x33, 0, 0, 0, 1],
            dst: IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
            kind: 136,
            flags: 0x20,
            options: [&[2, 1][..], &owner.0].concat(),
            ..Self::solicit(owner, owner.1)
        }
    }

    /// The answer of `mac` to this solicitation: to who asked, or to all nodes when nobody is named.
    #[must_use]
    pub fn answered_by(&self, mac: Mac) -> Self {
        let answer = Self {
            src_mac: mac,
            src: self.target,
            tags: self.tags.clone(),
            ..Self::advertise((mac, self.target))
        };
        if self.src == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            answer
        } else {
            Self { dst_mac: self.src_mac, dst: self.src, flags: 0x60, ..answer }
        }
    }

    /// With a VLAN tag put outside of those there are.
    #[must_use]
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.insert(0, (tpid, tci));
        self
    }

    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut icmp = vec![self.kind, self.code, 0, 0, self.flags, 0, 0, 0];
        icmp.extend(octets(self.target));
        icmp.extend(&self.options);
        let pseudo = pseudo_header(self.src, self.dst, 58, icmp.len());
        let checksum = self.checksum.unwrap_or(!ones_sum(&[&pseudo, &icmp]));
        icmp[2..4].copy_from_slice(&checksum.to_be_bytes());

        let mut out = ethernet(self.dst_mac, self.src_mac, &self.tags, 0x86dd);
        out.extend([0x60, 0, 0, 0]);
        out.extend((icmp.len() as u16).to_be_bytes());
        out.extend([58, self.hop_limit]);
        out.extend(octets(self.src));
        out.extend(octets(self.dst));
        out.extend(icmp);
        out.extend(vec![0; self.padding]);
        out
    }
}
