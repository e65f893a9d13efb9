//! Nicira's messages about the switch itself: tunnel options, asynchronous messages, connections to forget.

use std::net::IpAddr;

use crate::property::Property;
use crate::wire::{Put, Reader, Wire, layout, put_all, read_all};
use crate::{DecodeError, EncodeError, ErrorKind, Version};

/// Maps options of Geneve tunnels to the fields `NXM_NX_TUN_METADATA0` to 63.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvTableModCommand,
    /// The maps.
    pub maps: Vec<TlvMap>,
}

/// What a [`TlvTableMod`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum TlvTableModCommand {
    /// Adds maps of options that have none.
    Add,
    /// Deletes the maps of these fields.
    Delete,
    /// Deletes all.
    Clear,
}

/// One option and its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TlvMap {
    /// Class of the option.
    pub option_class: u16,
    /// Type of the option.
    pub option_type: u8,
    /// Bytes of its value, a multiple of 4.
    pub option_len: u8,
    /// Number of the field.
    pub index: u16,
}

layout! { TlvMap: option_class, option_type, option_len, index + 2 }

/// The maps of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TlvTableReply {
    /// The most bytes of all options together.
    pub max_option_space: u32,
    /// The most fields.
    pub max_fields: u16,
    /// The maps.
    pub maps: Vec<TlvMap>,
}

/// Which asynchronous messages come, one kind of message and role at a time (1.4: 7.3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum AsyncProperty {
    /// Bit `r` lets messages with reason `r` through.
    Mask {
        /// Kind of message and role (`OFPACPT_*`): 0 packet-in, 2 port-status, 4 flow-removed while slave; one more
        /// while master or equal.
        kind: u16,
        /// The bits.
        mask: u32,
    },
    /// A property of another form, kept as it came.
    Other(RawProperty),
}

/// Which connections to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CtFlush {
    /// IP protocol.
    pub ip_proto: u8,
    /// Tuples, zone, mark and label (`NXT_CT_*`), kept as they came.
    pub properties: Vec<RawProperty>,
}

/// A property whose value is not taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RawProperty {
    /// Wire type.
    pub kind: u16,
    /// What follows type and length, padding not included.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
    pub body: Vec<u8>,
}

impl RawProperty {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Property { kind, body } = Property::read(reader)?;
        Ok(Self { kind, body: body.to_vec() })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Property { kind: self.kind, body: &self.body }.put(out)
    }
}

impl TlvTableMod {
    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let command = match body.u16("command")? {
            0 => TlvTableModCommand::Add,
            1 => TlvTableModCommand::Delete,
            2 => TlvTableModCommand::Clear,
            other => return Err(body.bad_value("command", 2, other, ErrorKind::BadRequestBadType)),
        };
        body.pad(6)?;
        Ok(Self { command, maps: read_all(body, |body| Wire::read(body, "map"))? })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(match self.command {
            TlvTableModCommand::Add => 0,
            TlvTableModCommand::Delete => 1,
            TlvTableModCommand::Clear => 2,
        });
        out.zeros(6);
        put_all(&self.maps, version, out)
    }
}

impl TlvTableReply {
    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (max_option_space, max_fields) = (body.u32("max_option_space")?, body.u16("max_fields")?);
        body.pad(10)?;
        let maps = read_all(body, |body| Wire::read(body, "map"))?;
        Ok(Self { max_option_space, max_fields, maps })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u32(self.max_option_space);
        out.put_u16(self.max_fields);
        out.zeros(10);
        put_all(&self.maps, version, out)
    }
}

/// One direction of connections, for [`CtFlush::new`]; `None` is any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtTuple {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
}

/// Properties of [`CtFlush`] (`NXT_CT_*`), and of the tuples in it (`NXT_CT_TUPLE_*`).
const ORIGINAL_TUPLE: u16 = 0;
const REPLY_TUPLE: u16 = 1;
const ZONE_ID: u16 = 2;
const TUPLE_SRC: u16 = 0;
const TUPLE_DST: u16 = 1;
const TUPLE_SRC_PORT: u16 = 2;
const TUPLE_DST_PORT: u16 = 3;

impl CtTuple {
    /// The tuple as a property: four bytes of padding, then properties of its own; addresses as IPv6.
    fn property(&self, kind: u16) -> Option<RawProperty> {
        let mut body = vec![0; 4];
        let addresses = [(TUPLE_SRC, self.src), (TUPLE_DST, self.dst)];
        for (kind, address) in addresses.into_iter().filter_map(|(kind, address)| Some((kind, address?))) {
            let v6 = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            RawProperty { kind, body: v6.octets().to_vec() }.encode(&mut body).ok()?;
        }
        let ports = [(TUPLE_SRC_PORT, self.src_port), (TUPLE_DST_PORT, self.dst_port)];
        for (kind, port) in ports.into_iter().filter_map(|(kind, port)| Some((kind, port?))) {
            RawProperty { kind, body: short(port) }.encode(&mut body).ok()?;
        }
        (body.len() > 4).then_some(RawProperty { kind, body })
    }
}

/// A property's 16 bits, with the padding that Open vSwitch counts in.
fn short(value: u16) -> Vec<u8> {
    let [high, low] = value.to_be_bytes();
    vec![high, low, 0, 0]
}

impl CtFlush {
    /// Forgets the connections of a zone and protocol whose packets look like this in both directions.
    pub fn new(zone: u16, ip_proto: u8, original: &CtTuple, reply: &CtTuple) -> Self {
        let tuples = [original.property(ORIGINAL_TUPLE), reply.property(REPLY_TUPLE)];
        let zone = RawProperty { kind: ZONE_ID, body: short(zone) };
        Self { ip_proto, properties: tuples.into_iter().flatten().chain([zone]).collect() }
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ip_proto = body.u8("ip_proto")?;
        body.pad(7)?;
        Ok(Self { ip_proto, properties: read_all(body, RawProperty::decode)? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u8(self.ip_proto);
        out.zeros(7);
        self.properties.iter().try_for_each(|property| property.encode(out))
    }
}

/// Reads the properties of a SET_ASYNC_CONFIG2.
pub(super) fn decode_async(body: &mut Reader<'_>) -> Result<Vec<AsyncProperty>, DecodeError> {
    read_all(body, |body| {
        let raw = RawProperty::decode(body)?;
        Ok(match (raw.kind, raw.body.as_slice()) {
            (kind, [a, b, c, d]) if kind < FIRST_EXPERIMENTER => {
                AsyncProperty::Mask { kind, mask: u32::from_be_bytes([*a, *b, *c, *d]) }
            }
            _ => AsyncProperty::Other(raw),
        })
    })
}

const FIRST_EXPERIMENTER: u16 = 0xfffe;

pub(super) fn encode_async(properties: &[AsyncProperty], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    properties.iter().try_for_each(|property| match property {
        AsyncProperty::Mask { kind, mask } => Property { kind: *kind, body: &mask.to_be_bytes() }.put(out),
        AsyncProperty::Other(raw) => raw.encode(out),
    })
}
