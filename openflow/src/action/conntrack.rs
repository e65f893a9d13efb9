//! Nicira's connection tracking: the actions ct and nat (ovs-actions(7)).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Action;
use super::nicira::bad_argument;
use crate::fields::oxm::OxmValue;
use crate::wire::{Put, Reader, Wire};
use crate::{DecodeError, EncodeError, FieldId, Subfield, TableId, Version, action};

/// Passes the packet through the connection tracker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ConnTrack {
    /// `NX_CT_F_*` bits, as [`CT_COMMIT`].
    pub flags: u16,
    /// In which zone.
    pub zone: CtZone,
    /// A copy goes on in this table, with the connection's state; [`TableId::ALL`] for no copy.
    pub recirc_table: TableId,
    /// Well-known port of the protocol whose related connections are expected, 21 or 69; 0 for none.
    pub alg: u16,
    /// What is done to a committed connection: [`crate::NxAction::Nat`], and writing of its mark and label.
    pub actions: Vec<Action>,
}

/// Flag of [`ConnTrack`]: remember the connection.
pub const CT_COMMIT: u16 = 1;
/// Flag of [`ConnTrack`]: forget what was remembered in the other direction.
pub const CT_FORCE: u16 = 1 << 1;

/// Zone of the connection tracker: connections of different zones never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum CtZone {
    /// This one.
    Immediate(u16),
    /// The one that a field names.
    Field(Subfield),
}

/// Translates addresses and ports of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Nat {
    /// `NX_NAT_F_*` bits, as [`NAT_SRC`]; none for the packets of a connection that is translated already.
    pub flags: u16,
    /// Lowest IPv4 address to choose from.
    pub ipv4_min: Option<Ipv4Addr>,
    /// Highest IPv4 address to choose from.
    pub ipv4_max: Option<Ipv4Addr>,
    /// Lowest IPv6 address to choose from.
    pub ipv6_min: Option<Ipv6Addr>,
    /// Highest IPv6 address to choose from.
    pub ipv6_max: Option<Ipv6Addr>,
    /// Lowest port to choose from.
    pub port_min: Option<u16>,
    /// Highest port to choose from.
    pub port_max: Option<u16>,
}

/// Flag of [`Nat`]: the source.
pub const NAT_SRC: u16 = 1;
/// Flag of [`Nat`]: the destination.
pub const NAT_DST: u16 = 1 << 1;
/// Flag of [`Nat`]: keep the choice over restarts.
pub const NAT_PERSISTENT: u16 = 1 << 2;
/// Flag of [`Nat`]: choose the port by a hash.
pub const NAT_PROTO_HASH: u16 = 1 << 3;
/// Flag of [`Nat`]: choose the port at random.
pub const NAT_PROTO_RANDOM: u16 = 1 << 4;

impl Wire for ConnTrack {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let flags = body.u16("ct.flags")?;
        let zone = CtZone::read(body, "ct.zone")?;
        let recirc_table = TableId(body.u8("ct.recirc_table")?);
        body.pad(3)?;
        let alg = body.u16("ct.alg")?;
        let actions = body.sub(body.remaining(), "ct.actions")?.nested("ct.actions")?;
        Ok(Self { flags, zone, recirc_table, alg, actions: action::decode_list(actions)? })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(self.flags);
        self.zone.put(version, out)?;
        out.put_u8(self.recirc_table.0);
        out.zeros(3);
        out.put_u16(self.alg);
        action::encode_list(&self.actions, version, out)
    }
}

impl Wire for CtZone {
    fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Self, DecodeError> {
        let is_immediate = body.clone().u32(name)? == 0;
        let field = FieldId::read_short(body, name)?;
        let value = body.u16(name)?;
        Ok(if is_immediate { Self::Immediate(value) } else { Self::Field(Subfield::unpacked(field, value)) })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Immediate(zone) => {
                out.put_u32(0);
                out.put_u16(*zone);
            }
            Self::Field(bits) => {
                bits.field.put_short(out)?;
                out.put_u16(bits.packed()?);
            }
        }
        Ok(())
    }
}

const KNOWN_RANGES: u16 = 0x3f;

impl Wire for Nat {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        body.pad(2)?;
        let flags = body.u16("nat.flags")?;
        let present = body.u16("nat.range_present")?;
        if present & !KNOWN_RANGES != 0 {
            return Err(bad_argument(body, "nat.range_present", 2, u64::from(present)));
        }
        Ok(Self {
            flags,
            ipv4_min: optional(present, 0, body, "nat.ipv4_min")?,
            ipv4_max: optional(present, 1, body, "nat.ipv4_max")?,
            ipv6_min: optional(present, 2, body, "nat.ipv6_min")?,
            ipv6_max: optional(present, 3, body, "nat.ipv6_max")?,
            port_min: optional(present, 4, body, "nat.port_min")?,
            port_max: optional(present, 5, body, "nat.port_max")?,
        })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let present = [
            self.ipv4_min.is_some(),
            self.ipv4_max.is_some(),
            self.ipv6_min.is_some(),
            self.ipv6_max.is_some(),
            self.port_min.is_some(),
            self.port_max.is_some(),
        ];
        let bits = present.iter().enumerate().map(|(bit, present)| u16::from(*present) << bit);
        out.zeros(2);
        out.put_u16(self.flags);
        out.put_u16(bits.sum());
        self.ipv4_min.iter().chain(&self.ipv4_max).for_each(|address| address.put(out));
        self.ipv6_min.iter().chain(&self.ipv6_max).for_each(|address| address.put(out));
        self.port_min.iter().chain(&self.port_max).for_each(|port| out.put_u16(*port));
        Ok(())
    }
}

fn optional<T: OxmValue>(
    present: u16,
    bit: u16,
    body: &mut Reader<'_>,
    name: &'static str,
) -> Result<Option<T>, DecodeError> {
    if present >> bit & 1 == 1 { T::read(body, name).map(Some) } else { Ok(None) }
}
