//! Nicira's extended match: NXM fields (classes 0 and 1), as ovs-fields(7) describes them.
//!
//! Where OXM has a field of the same meaning, this is its other name: Open vSwitch takes both in 1.3, and these
//! alone in the Nicira messages of 1.0.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::id::{CLASS_NXM_NX, CLASS_NXM_OF};
use super::{MatchField, oxm};
use crate::wire::Reader;
use crate::{DecodeError, EncodeError, MacAddr, PortNo};

/// Builds [`NxmField`] and its tables from one list: variant, value type, class, number, name.
macro_rules! nxm_fields {
    (plain { $($plain:ident: $ptype:ty = $pclass:ident, $pcode:literal, $pname:literal;)* }
     masked { $($masked:ident: $mtype:ty = $mclass:ident, $mcode:literal, $mname:literal;)* }) => {
        /// A field of Nicira's extended match. A mask bit of 1 means that the bit must be equal.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
        pub enum NxmField {
            $(#[doc = concat!("`", $pname, "`")] $plain($ptype),)*
            $(#[doc = concat!("`", $mname, "`, maskable")] $masked {
                /// The value, in host order.
                #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::shown"))]
                value: $mtype,
                /// The bits of the value that count.
                #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::shown_option"))]
                mask: Option<$mtype>,
            },)*
            /// `NXM_OF_IN_PORT`: ingress port, 16 bits
            InPort(PortNo),
            /// `NXM_NX_REG<index>`: a register of the pipeline, maskable
            Reg {
                /// Which register, 0 to 15.
                index: u8,
                /// The value, in host order.
                value: u32,
                /// The bits of the value that count.
                mask: Option<u32>,
            },
            /// `NXM_NX_XXREG<index>`: four registers as one, maskable
            XxReg {
                /// Which register, 0 to 3.
                index: u8,
                /// The value, in host order.
                #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::shown"))]
                value: u128,
                /// The bits of the value that count.
                #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::shown_option"))]
                mask: Option<u128>,
            },
            /// `NXM_NX_TUN_METADATA<index>`: an option of a Geneve tunnel, of as many bytes as its map says
            TunMetadata {
                /// Which of the 64 fields.
                index: u8,
                /// Whether the second half of the body is a mask.
                has_mask: bool,
                /// Value, and mask where there is one.
                #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
                body: Vec<u8>,
            },
        }

        impl NxmField {
            /// Name of the field, as in ovs-fields(7).
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$plain(_) => $pname,)*
                    $(Self::$masked { .. } => $mname,)*
                    Self::InPort(_) => "NXM_OF_IN_PORT",
                    Self::Reg { .. } => "NXM_NX_REG",
                    Self::XxReg { .. } => "NXM_NX_XXREG",
                    Self::TunMetadata { .. } => "NXM_NX_TUN_METADATA",
                }
            }

            /// Whether the field is given with a mask.
            pub fn has_mask(&self) -> bool {
                match self {
                    $(Self::$plain(_) => false,)*
                    $(Self::$masked { mask, .. } => mask.is_some(),)*
                    Self::InPort(_) => false,
                    Self::Reg { mask, .. } => mask.is_some(),
                    Self::XxReg { mask, .. } => mask.is_some(),
                    Self::TunMetadata { has_mask, .. } => *has_mask,
                }
            }

            /// Name of a field by class and number.
            pub(crate) fn name_of(class: u16, code: u8) -> Option<&'static str> {
                Some(match (class, code) {
                    $(($pclass, $pcode) => $pname,)*
                    $(($mclass, $mcode) => $mname,)*
                    (CLASS_NXM_OF, 0) => "NXM_OF_IN_PORT",
                    (CLASS_NXM_NX, 0..=15) => "NXM_NX_REG",
                    (CLASS_NXM_NX, 40..=103) => "NXM_NX_TUN_METADATA",
                    (CLASS_NXM_NX, 111..=114) => "NXM_NX_XXREG",
                    _ => return None,
                })
            }

            /// Reads the body of a field; `None` when the class has no such field.
            pub(crate) fn read(
                class: u16,
                code: u8,
                has_mask: bool,
                body: &mut Reader<'_>,
            ) -> Result<Option<Self>, DecodeError> {
                // NXM_NX_COOKIE shares its number with NXM_NX_MPLS_TTL: the length tells them apart.
                if (class, code) == (CLASS_NXM_NX, MPLS_TTL) && body.remaining() >= COOKIE_BYTES {
                    return Ok(None);
                }
                Ok(Some(match (class, code) {
                    $(($pclass, $pcode) => Self::$plain(oxm::read_plain(has_mask, body, $pname)?),)*
                    $(($mclass, $mcode) => {
                        let (value, mask) = oxm::read_masked(has_mask, body, $mname)?;
                        Self::$masked { value, mask }
                    })*
                    (CLASS_NXM_OF, 0) => {
                        Self::InPort(PortNo::from_v1_0(oxm::read_plain(has_mask, body, "NXM_OF_IN_PORT")?))
                    }
                    (CLASS_NXM_NX, index @ 0..=15) => {
                        let (value, mask) = oxm::read_masked(has_mask, body, "NXM_NX_REG")?;
                        Self::Reg { index, value, mask }
                    }
                    (CLASS_NXM_NX, code @ 111..=114) => {
                        let (value, mask) = oxm::read_masked(has_mask, body, "NXM_NX_XXREG")?;
                        Self::XxReg { index: code - XXREG0, value, mask }
                    }
                    (CLASS_NXM_NX, code @ 40..=103) => {
                        let body = body.rest().to_vec();
                        Self::TunMetadata { index: code - TUN_METADATA0, has_mask, body }
                    }
                    _ => return Ok(None),
                }))
            }

            /// Writes the field whole; the error names what is out of its range.
            pub(crate) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match self {
                    $(Self::$plain(value) => oxm::put_typed(out, $pclass, $pcode, value, None),)*
                    $(Self::$masked { value, mask } => {
                        oxm::put_typed(out, $mclass, $mcode, value, mask.as_ref());
                    })*
                    _ => return self.put_numbered(out),
                }
                Ok(())
            }
        }
    };
}

nxm_fields! {
    plain {
        EthType: u16 = CLASS_NXM_OF, 3, "NXM_OF_ETH_TYPE";
        IpTos: u8 = CLASS_NXM_OF, 5, "NXM_OF_IP_TOS";
        IpProto: u8 = CLASS_NXM_OF, 6, "NXM_OF_IP_PROTO";
        IcmpType: u8 = CLASS_NXM_OF, 13, "NXM_OF_ICMP_TYPE";
        IcmpCode: u8 = CLASS_NXM_OF, 14, "NXM_OF_ICMP_CODE";
        ArpOp: u16 = CLASS_NXM_OF, 15, "NXM_OF_ARP_OP";
        Icmpv6Type: u8 = CLASS_NXM_NX, 21, "NXM_NX_ICMPV6_TYPE";
        Icmpv6Code: u8 = CLASS_NXM_NX, 22, "NXM_NX_ICMPV6_CODE";
        IpEcn: u8 = CLASS_NXM_NX, 28, "NXM_NX_IP_ECN";
        IpTtl: u8 = CLASS_NXM_NX, 29, "NXM_NX_IP_TTL";
        MplsTtl: u8 = CLASS_NXM_NX, 30, "NXM_NX_MPLS_TTL";
        RecircId: u32 = CLASS_NXM_NX, 36, "NXM_NX_RECIRC_ID";
        ConjId: u32 = CLASS_NXM_NX, 37, "NXM_NX_CONJ_ID";
        CtZone: u16 = CLASS_NXM_NX, 106, "NXM_NX_CT_ZONE";
        CtNwProto: u8 = CLASS_NXM_NX, 119, "NXM_NX_CT_NW_PROTO";
    }
    masked {
        EthDst: MacAddr = CLASS_NXM_OF, 1, "NXM_OF_ETH_DST";
        EthSrc: MacAddr = CLASS_NXM_OF, 2, "NXM_OF_ETH_SRC";
        VlanTci: u16 = CLASS_NXM_OF, 4, "NXM_OF_VLAN_TCI";
        IpSrc: Ipv4Addr = CLASS_NXM_OF, 7, "NXM_OF_IP_SRC";
        IpDst: Ipv4Addr = CLASS_NXM_OF, 8, "NXM_OF_IP_DST";
        TcpSrc: u16 = CLASS_NXM_OF, 9, "NXM_OF_TCP_SRC";
        TcpDst: u16 = CLASS_NXM_OF, 10, "NXM_OF_TCP_DST";
        UdpSrc: u16 = CLASS_NXM_OF, 11, "NXM_OF_UDP_SRC";
        UdpDst: u16 = CLASS_NXM_OF, 12, "NXM_OF_UDP_DST";
        ArpSpa: Ipv4Addr = CLASS_NXM_OF, 16, "NXM_OF_ARP_SPA";
        ArpTpa: Ipv4Addr = CLASS_NXM_OF, 17, "NXM_OF_ARP_TPA";
        TunId: u64 = CLASS_NXM_NX, 16, "NXM_NX_TUN_ID";
        ArpSha: MacAddr = CLASS_NXM_NX, 17, "NXM_NX_ARP_SHA";
        ArpTha: MacAddr = CLASS_NXM_NX, 18, "NXM_NX_ARP_THA";
        Ipv6Src: Ipv6Addr = CLASS_NXM_NX, 19, "NXM_NX_IPV6_SRC";
        Ipv6Dst: Ipv6Addr = CLASS_NXM_NX, 20, "NXM_NX_IPV6_DST";
        NdTarget: Ipv6Addr = CLASS_NXM_NX, 23, "NXM_NX_ND_TARGET";
        NdSll: MacAddr = CLASS_NXM_NX, 24, "NXM_NX_ND_SLL";
        NdTll: MacAddr = CLASS_NXM_NX, 25, "NXM_NX_ND_TLL";
        IpFrag: u8 = CLASS_NXM_NX, 26, "NXM_NX_IP_FRAG";
        Ipv6Label: u32 = CLASS_NXM_NX, 27, "NXM_NX_IPV6_LABEL";
        TunIpv4Src: Ipv4Addr = CLASS_NXM_NX, 31, "NXM_NX_TUN_IPV4_SRC";
        TunIpv4Dst: Ipv4Addr = CLASS_NXM_NX, 32, "NXM_NX_TUN_IPV4_DST";
        PktMark: u32 = CLASS_NXM_NX, 33, "NXM_NX_PKT_MARK";
        TcpFlags: u16 = CLASS_NXM_NX, 34, "NXM_NX_TCP_FLAGS";
        DpHash: u32 = CLASS_NXM_NX, 35, "NXM_NX_DP_HASH";
        TunGbpId: u16 = CLASS_NXM_NX, 38, "NXM_NX_TUN_GBP_ID";
        TunGbpFlags: u8 = CLASS_NXM_NX, 39, "NXM_NX_TUN_GBP_FLAGS";
        TunFlags: u16 = CLASS_NXM_NX, 104, "NXM_NX_TUN_FLAGS";
        CtState: u32 = CLASS_NXM_NX, 105, "NXM_NX_CT_STATE";
        CtMark: u32 = CLASS_NXM_NX, 107, "NXM_NX_CT_MARK";
        CtLabel: u128 = CLASS_NXM_NX, 108, "NXM_NX_CT_LABEL";
        TunIpv6Src: Ipv6Addr = CLASS_NXM_NX, 109, "NXM_NX_TUN_IPV6_SRC";
        TunIpv6Dst: Ipv6Addr = CLASS_NXM_NX, 110, "NXM_NX_TUN_IPV6_DST";
        CtNwSrc: Ipv4Addr = CLASS_NXM_NX, 120, "NXM_NX_CT_NW_SRC";
        CtNwDst: Ipv4Addr = CLASS_NXM_NX, 121, "NXM_NX_CT_NW_DST";
        CtIpv6Src: Ipv6Addr = CLASS_NXM_NX, 122, "NXM_NX_CT_IPV6_SRC";
        CtIpv6Dst: Ipv6Addr = CLASS_NXM_NX, 123, "NXM_NX_CT_IPV6_DST";
        CtTpSrc: u16 = CLASS_NXM_NX, 124, "NXM_NX_CT_TP_SRC";
        CtTpDst: u16 = CLASS_NXM_NX, 125, "NXM_NX_CT_TP_DST";
    }
}

const MPLS_TTL: u8 = 30;
const COOKIE_BYTES: usize = 8;
const TUN_METADATA0: u8 = 40;
const XXREG0: u8 = 111;
const LAST_REG: u8 = 15;
const LAST_TUN_METADATA: u8 = 63;
const LAST_XXREG: u8 = 3;

/// `ct_state` bits of [`NxmField::CtState`] (ovs-fields(7)).
pub mod ct_state {
    /// Begins a connection.
    pub const NEW: u32 = 1;
    /// Part of a connection that exists.
    pub const EST: u32 = 1 << 1;
    /// Belongs to a connection, as an ICMP error does.
    pub const REL: u32 = 1 << 2;
    /// Against the direction of the first packet.
    pub const RPL: u32 = 1 << 3;
    /// Could not be placed.
    pub const INV: u32 = 1 << 4;
    /// Has been through the connection tracker.
    pub const TRK: u32 = 1 << 5;
    /// Its source was translated.
    pub const SNAT: u32 = 1 << 6;
    /// Its destination was translated.
    pub const DNAT: u32 = 1 << 7;
}

impl NxmField {
    /// An exact match on a register.
    pub const fn reg(index: u8, value: u32) -> Self {
        Self::Reg { index, value, mask: None }
    }

    /// Writes the fields of which there are many, each with its number.
    fn put_numbered(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let within = |index: u8, last: u8| {
            let invalid = || EncodeError::invalid(self.name(), "there is no field of this number");
            if index <= last { Ok(()) } else { Err(invalid()) }
        };
        match self {
            Self::InPort(port) => {
                let number = port.to_v1_0();
                let number = number.ok_or_else(|| EncodeError::invalid(self.name(), "it has 16 bits"))?;
                oxm::put_typed(out, CLASS_NXM_OF, 0, &number, None);
            }
            Self::Reg { index, value, mask } => {
                within(*index, LAST_REG)?;
                oxm::put_typed(out, CLASS_NXM_NX, *index, value, mask.as_ref());
            }
            Self::XxReg { index, value, mask } => {
                within(*index, LAST_XXREG)?;
                oxm::put_typed(out, CLASS_NXM_NX, XXREG0 + index, value, mask.as_ref());
            }
            Self::TunMetadata { index, has_mask, body } => {
                within(*index, LAST_TUN_METADATA)?;
                oxm::put_raw(out, CLASS_NXM_NX, TUN_METADATA0 + index, *has_mask, body)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl From<NxmField> for MatchField {
    fn from(field: NxmField) -> Self {
        Self::Nxm(field)
    }
}
