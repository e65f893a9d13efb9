//! Nicira's actions that are lists of properties: controller (second form) and encap (ovs-actions(7)).

use crate::property::Property;
use crate::wire::{Put, Reader, Wire, pad8, read_all};
use crate::{DecodeError, EncodeError, MeterId, Version};

/// Sends the packet to a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Controller2 {
    /// What is said of it, in the order of the wire.
    pub properties: Vec<Controller2Property>,
}

/// A property of [`Controller2`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Controller2Property {
    /// Bytes of the packet; all without this.
    MaxLen(u16),
    /// Which controller, as [`crate::NiciraMsg::SetControllerId`] named it.
    ControllerId(u16),
    /// Reason of the packet-in.
    Reason(u8),
    /// Bytes that come back in the packet-in.
    Userdata(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))] Vec<u8>),
    /// Wait until the controller sends the packet-in back.
    Pause,
    /// Meter that limits the packet-ins.
    MeterId(MeterId),
    /// Another property, or another form of one, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows type and length, padding not included.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

/// Puts a header around the packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Encap {
    /// Size of the header; 0 when it is not told.
    pub header_bytes: u16,
    /// Packet type of the header: name space (16), type in it (16).
    pub new_packet_type: u32,
    /// What goes into the header.
    pub properties: Vec<EncapProperty>,
}

/// A property of [`Encap`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EncapProperty {
    /// Whose properties: 4 are those of network service headers.
    pub class: u16,
    /// Which one.
    pub kind: u8,
    /// Its value, 251 bytes at most.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
    pub body: Vec<u8>,
}

impl Wire for Controller2 {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        body.pad(6)?;
        Ok(Self { properties: read_all(body, |body| Controller2Property::read(body, "property"))? })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.zeros(6);
        self.properties.iter().try_for_each(|property| property.put(version, out))
    }
}

impl Wire for Controller2Property {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let Property { kind, body } = Property::read(body)?;
        Ok(match (kind, body) {
            (0, [high, low, 0, 0]) => Self::MaxLen(u16::from_be_bytes([*high, *low])),
            (1, [high, low, 0, 0]) => Self::ControllerId(u16::from_be_bytes([*high, *low])),
            (2, [reason]) => Self::Reason(*reason),
            (3, userdata) => Self::Userdata(userdata.to_vec()),
            (4, []) => Self::Pause,
            (5, [a, b, c, d]) => Self::MeterId(MeterId(u32::from_be_bytes([*a, *b, *c, *d]))),
            (kind, body) => Self::Other { kind, body: body.to_vec() },
        })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let put = |kind: u16, body: &[u8], out: &mut Vec<u8>| Property { kind, body }.put(out);
        match self {
            Self::MaxLen(value) => put(0, &[value.to_be_bytes(), [0; 2]].concat(), out),
            Self::ControllerId(value) => put(1, &[value.to_be_bytes(), [0; 2]].concat(), out),
            Self::Reason(reason) => put(2, &[*reason], out),
            Self::Userdata(bytes) => put(3, bytes, out),
            Self::Pause => put(4, &[], out),
            Self::MeterId(meter) => put(5, &meter.0.to_be_bytes(), out),
            Self::Other { kind, body } => put(*kind, body, out),
        }
    }
}

impl Wire for Encap {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let (header_bytes, new_packet_type) = (body.u16("encap.hdr_size")?, body.u32("encap.new_pkt_type")?);
        let properties = read_all(body, |body| EncapProperty::read(body, "encap.property"))?;
        Ok(Self { header_bytes, new_packet_type, properties })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(self.header_bytes);
        out.put_u32(self.new_packet_type);
        self.properties.iter().try_for_each(|property| property.put(version, out))
    }
}

const ENCAP_HEADER_BYTES: usize = 4;

impl Wire for EncapProperty {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let class = body.u16("encap.prop_class")?;
        let kind = body.u8("encap.prop_type")?;
        let length = usize::from(body.u8("encap.prop_len")?);
        let Some(size) = length.checked_sub(ENCAP_HEADER_BYTES) else {
            return Err(body.bad_length("encap.prop_len", 1, length));
        };
        let value = body.take(size, "encap.property")?.to_vec();
        body.pad(pad8(length))?;
        Ok(Self { class, kind, body: value })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let size_bytes = self.body.len() + ENCAP_HEADER_BYTES;
        let max_bytes = usize::from(u8::MAX);
        let too_long = EncodeError::TooLong { what: "encap property", size_bytes, max_bytes };
        let length = u8::try_from(size_bytes).map_err(|_| too_long)?;
        out.put_u16(self.class);
        out.put_u8(self.kind);
        out.put_u8(length);
        out.extend_from_slice(&self.body);
        out.zeros(pad8(size_bytes));
        Ok(())
    }
}
