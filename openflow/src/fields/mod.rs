//! Match fields: one typed list for the OXM match of 1.3 and the fixed match of 1.0.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::Reader;
use crate::{DecodeError, EncodeError, MacAddr, PortNo, Version};

mod experimenter;
pub(crate) mod fixed;
mod id;
mod nxm;
pub(crate) mod oxm;

pub use experimenter::ExperimenterField;
pub use id::{FieldId, Subfield};
pub use nxm::{NxmField, ct_state};

/// Builds [`MatchField`] and the tables of the OXM basic class from one list (1.3: 7.2.3.7).
macro_rules! oxm_fields {
    (plain { $($plain:ident: $ptype:ty = $pcode:literal, $pname:literal;)* }
     masked { $($masked:ident: $mtype:ty = $mcode:literal, $mname:literal;)* }) => {
        /// One field of a match, or the field that an action sets.
        ///
        /// A mask bit of 1 means that the bit must be equal; `mask: None` is an exact match.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
        pub enum MatchField {
            $(#[doc = concat!("`OXM_OF_", $pname, "`")] $plain($ptype),)*
            $(#[doc = concat!("`OXM_OF_", $mname, "`, maskable")] $masked {
                /// The value, in host order.
                value: $mtype,
                /// The bits of the value that count.
                mask: Option<$mtype>,
            },)*
            /// Transport source port or ICMP type of a protocol that is not told; 1.0 only.
            TpSrc(u16),
            /// Transport destination port or ICMP code of a protocol that is not told; 1.0 only.
            TpDst(u16),
            /// A field of Nicira's extended match.
            Nxm(NxmField),
            /// Packet register `OXM_OF_PKT_REG<index>`: two registers as one, maskable.
            PacketReg {
                /// Which register, 0 to 127; Open vSwitch has 8.
                index: u8,
                /// The value, in host order.
                value: u64,
                /// The bits of the value that count.
                mask: Option<u64>,
            },
            /// A field of an experimenter (class 0xffff).
            Experimenter(ExperimenterField),
            /// A field of another class, one that the basic class of 1.3 does not define, or one with a mask that the
            /// specification does not allow and Open vSwitch does; kept as it came.
            Raw {
                /// OXM class.
                class: u16,
                /// Field number in the class, 7 bits.
                field: u8,
                /// Whether the second half of the body is a mask.
                has_mask: bool,
                /// Everything behind the four bytes of the OXM header.
                #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
                body: Vec<u8>,
            },
        }

        impl MatchField {
            /// Name of the field as in the specification, without prefix.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$plain(_) => $pname,)*
                    $(Self::$masked { .. } => $mname,)*
                    Self::TpSrc(_) => "TP_SRC",
                    Self::TpDst(_) => "TP_DST",
                    Self::Nxm(field) => field.name(),
                    Self::PacketReg { .. } => "PKT_REG",
                    Self::Experimenter(field) => field.name(),
                    Self::Raw { .. } => "RAW",
                }
            }

            /// Whether the field is given with a mask.
            pub fn has_mask(&self) -> bool {
                match self {
                    $(Self::$plain(_) => false,)*
                    $(Self::$masked { mask, .. } => mask.is_some(),)*
                    Self::TpSrc(_) | Self::TpDst(_) => false,
                    Self::Nxm(field) => field.has_mask(),
                    Self::PacketReg { mask, .. } => mask.is_some(),
                    Self::Experimenter(field) => field.has_mask(),
                    Self::Raw { has_mask, .. } => *has_mask,
                }
            }

            /// Reads the body of a field of the basic class; `None` when the class has no such field.
            pub(crate) fn read_basic(
                code: u8,
                has_mask: bool,
                body: &mut Reader<'_>,
            ) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match code {
                    $($pcode => Self::$plain(oxm::read_plain(has_mask, body, $pname)?),)*
                    $($mcode => {
                        let (value, mask) = oxm::read_masked(has_mask, body, $mname)?;
                        Self::$masked { value, mask }
                    })*
                    _ => return Ok(None),
                }))
            }

            /// Writes a field of the basic class whole; false when this is none.
            pub(crate) fn put_basic(&self, out: &mut Vec<u8>) -> bool {
                match self {
                    $(Self::$plain(value) => oxm::put_basic(out, $pcode, value, None),)*
                    $(Self::$masked { value, mask } => oxm::put_basic(out, $mcode, value, mask.as_ref()),)*
                    _ => return false,
                }
                true
            }

            /// Name of a field of the basic class by number.
            pub(crate) fn basic_name(code: u8) -> Option<&'static str> {
                Some(match code {
                    $($pcode => concat!("OXM_OF_", $pname),)*
                    $($mcode => concat!("OXM_OF_", $mname),)*
                    _ => return None,
                })
            }
        }
    };
}

oxm_fields! {
    plain {
        InPort: PortNo = 0, "IN_PORT";
        InPhyPort: PortNo = 1, "IN_PHY_PORT";
        EthType: u16 = 5, "ETH_TYPE";
        VlanPcp: u8 = 7, "VLAN_PCP";
        IpDscp: u8 = 8, "IP_DSCP";
        IpEcn: u8 = 9, "IP_ECN";
        IpProto: u8 = 10, "IP_PROTO";
        TcpSrc: u16 = 13, "TCP_SRC";
        TcpDst: u16 = 14, "TCP_DST";
        UdpSrc: u16 = 15, "UDP_SRC";
        UdpDst: u16 = 16, "UDP_DST";
        SctpSrc: u16 = 17, "SCTP_SRC";
        SctpDst: u16 = 18, "SCTP_DST";
        Icmpv4Type: u8 = 19, "ICMPV4_TYPE";
        Icmpv4Code: u8 = 20, "ICMPV4_CODE";
        ArpOp: u16 = 21, "ARP_OP";
        Icmpv6Type: u8 = 29, "ICMPV6_TYPE";
        Icmpv6Code: u8 = 30, "ICMPV6_CODE";
        Ipv6NdTarget: Ipv6Addr = 31, "IPV6_ND_TARGET";
        Ipv6NdSll: MacAddr = 32, "IPV6_ND_SLL";
        Ipv6NdTll: MacAddr = 33, "IPV6_ND_TLL";
        MplsLabel: u32 = 34, "MPLS_LABEL";
        MplsTc: u8 = 35, "MPLS_TC";
        MplsBos: u8 = 36, "MPLS_BOS";
    }
    masked {
        Metadata: u64 = 2, "METADATA";
        EthDst: MacAddr = 3, "ETH_DST";
        EthSrc: MacAddr = 4, "ETH_SRC";
        VlanVid: u16 = 6, "VLAN_VID";
        Ipv4Src: Ipv4Addr = 11, "IPV4_SRC";
        Ipv4Dst: Ipv4Addr = 12, "IPV4_DST";
        ArpSpa: Ipv4Addr = 22, "ARP_SPA";
        ArpTpa: Ipv4Addr = 23, "ARP_TPA";
        ArpSha: MacAddr = 24, "ARP_SHA";
        ArpTha: MacAddr = 25, "ARP_THA";
        Ipv6Src: Ipv6Addr = 26, "IPV6_SRC";
        Ipv6Dst: Ipv6Addr = 27, "IPV6_DST";
        Ipv6Flabel: u32 = 28, "IPV6_FLABEL";
        PbbIsid: [u8; 3] = 37, "PBB_ISID";
        TunnelId: u64 = 38, "TUNNEL_ID";
        Ipv6Exthdr: u16 = 39, "IPV6_EXTHDR";
    }
}

/// Bit of [`MatchField::VlanVid`] that says "there is a tag" (`OFPVID_PRESENT`); a value of 0 says "no tag".
pub const VLAN_PRESENT: u16 = 0x1000;

/// What a flow entry matches: fields in the order of the wire; an empty list matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// The fields. 1.0 has a fixed order of its own and refuses a field given twice.
    pub fields: Vec<MatchField>,
    spare: Spare,
}

/// What of a 1.0 match means nothing, kept so that a match is written as it came. All values are equal.
#[derive(Clone, Debug)]
struct Spare {
    /// Undefined bits of the wildcards, and the low bits of the counts of an address that is left out.
    wildcards: u32,
    /// The bytes behind the wildcards, when there is something in the place of a field that is left out.
    left_out: Option<Box<[u8; 36]>>,
}

impl Spare {
    /// The low bits as in `OFPFW_ALL`.
    const ALL_LOW: u32 = 0x1f << 8 | 0x1f << 14;
}

impl Default for Spare {
    fn default() -> Self {
        Self { wildcards: Self::ALL_LOW, left_out: None }
    }
}

impl PartialEq for Spare {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Spare {}

impl PartialOrd for Spare {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Spare {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Spare {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl From<Vec<MatchField>> for Match {
    fn from(fields: Vec<MatchField>) -> Self {
        Self { fields, spare: Spare::default() }
    }
}

impl Match {
    /// Matches everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any field.
    #[must_use]
    pub fn with(mut self, field: MatchField) -> Self {
        self.fields.push(field);
        self
    }

    /// Adds the ingress port.
    #[must_use]
    pub fn in_port(self, port: PortNo) -> Self {
        self.with(MatchField::InPort(port))
    }

    /// Adds the Ethernet destination.
    #[must_use]
    pub fn eth_dst(self, value: MacAddr) -> Self {
        self.with(MatchField::EthDst { value, mask: None })
    }

    /// Adds the Ethernet destination under a mask (1.3).
    #[must_use]
    pub fn eth_dst_masked(self, value: MacAddr, mask: MacAddr) -> Self {
        self.with(MatchField::EthDst { value, mask: Some(mask) })
    }

    /// Adds the Ethernet source.
    #[must_use]
    pub fn eth_src(self, value: MacAddr) -> Self {
        self.with(MatchField::EthSrc { value, mask: None })
    }

    /// Adds the Ethernet type.
    #[must_use]
    pub fn eth_type(self, value: u16) -> Self {
        self.with(MatchField::EthType(value))
    }

    /// Adds the VLAN id of a tagged packet, 12 bits.
    #[must_use]
    pub fn vlan_vid(self, vid: u16) -> Self {
        self.with(MatchField::VlanVid { value: VLAN_PRESENT | (vid & 0xfff), mask: None })
    }

    /// Matches packets without a VLAN tag.
    #[must_use]
    pub fn no_vlan(self) -> Self {
        self.with(MatchField::VlanVid { value: 0, mask: None })
    }

    /// Adds the IP protocol.
    #[must_use]
    pub fn ip_proto(self, value: u8) -> Self {
        self.with(MatchField::IpProto(value))
    }

    /// Adds the IPv4 source.
    #[must_use]
    pub fn ipv4_src(self, value: Ipv4Addr) -> Self {
        self.with(MatchField::Ipv4Src { value, mask: None })
    }

    /// Adds the IPv4 destination.
    #[must_use]
    pub fn ipv4_dst(self, value: Ipv4Addr) -> Self {
        self.with(MatchField::Ipv4Dst { value, mask: None })
    }

    /// Adds an IPv4 source prefix; a length of 32 or more is the exact address.
    #[must_use]
    pub fn ipv4_src_prefix(self, value: Ipv4Addr, prefix_len: u8) -> Self {
        let (value, mask) = prefix(value, prefix_len);
        self.with(MatchField::Ipv4Src { value, mask })
    }

    /// Adds an IPv4 destination prefix; a length of 32 or more is the exact address.
    #[must_use]
    pub fn ipv4_dst_prefix(self, value: Ipv4Addr, prefix_len: u8) -> Self {
        let (value, mask) = prefix(value, prefix_len);
        self.with(MatchField::Ipv4Dst { value, mask })
    }

    /// Adds the TCP source port.
    #[must_use]
    pub fn tcp_src(self, port: u16) -> Self {
        self.with(MatchField::TcpSrc(port))
    }

    /// Adds the TCP destination port.
    #[must_use]
    pub fn tcp_dst(self, port: u16) -> Self {
        self.with(MatchField::TcpDst(port))
    }

    /// Adds the UDP source port.
    #[must_use]
    pub fn udp_src(self, port: u16) -> Self {
        self.with(MatchField::UdpSrc(port))
    }

    /// Adds the UDP destination port.
    #[must_use]
    pub fn udp_dst(self, port: u16) -> Self {
        self.with(MatchField::UdpDst(port))
    }

    /// Adds the ARP operation.
    #[must_use]
    pub fn arp_op(self, value: u16) -> Self {
        self.with(MatchField::ArpOp(value))
    }

    /// Adds the ARP sender address.
    #[must_use]
    pub fn arp_spa(self, value: Ipv4Addr) -> Self {
        self.with(MatchField::ArpSpa { value, mask: None })
    }

    /// Adds the ARP target address.
    #[must_use]
    pub fn arp_tpa(self, value: Ipv4Addr) -> Self {
        self.with(MatchField::ArpTpa { value, mask: None })
    }

    /// Reads the match of the reader's version.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.version() {
            Version::V1_0 => fixed::decode(reader),
            Version::V1_3 => oxm::decode(reader),
        }
    }

    /// Writes the match as the version has it.
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match version {
            Version::V1_0 => fixed::encode(self, out),
            Version::V1_3 => oxm::encode(self, out),
        }
    }

    /// The ingress port that this match asks for.
    pub fn find_in_port(&self) -> Option<PortNo> {
        self.fields.iter().find_map(MatchField::as_in_port)
    }

    /// The exact Ethernet destination that this match asks for.
    pub fn find_eth_dst(&self) -> Option<MacAddr> {
        self.fields.iter().find_map(|field| match field {
            MatchField::EthDst { value, mask: None } => Some(*value),
            _ => None,
        })
    }

    /// The exact Ethernet source that this match asks for.
    pub fn find_eth_src(&self) -> Option<MacAddr> {
        self.fields.iter().find_map(|field| match field {
            MatchField::EthSrc { value, mask: None } => Some(*value),
            _ => None,
        })
    }
}

impl MatchField {
    /// The port, if this field is the ingress port.
    pub(crate) fn as_in_port(&self) -> Option<PortNo> {
        match self {
            Self::InPort(port) | Self::Nxm(NxmField::InPort(port)) => Some(*port),
            _ => None,
        }
    }
}

impl fmt::Display for MatchField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_ascii_lowercase())
    }
}

fn prefix(value: Ipv4Addr, prefix_len: u8) -> (Ipv4Addr, Option<Ipv4Addr>) {
    let bits = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(prefix_len))).unwrap_or(0);
    let mask = if prefix_len >= 32 { None } else { Some(Ipv4Addr::from_bits(bits)) };
    (Ipv4Addr::from_bits(value.to_bits() & bits), mask)
}
