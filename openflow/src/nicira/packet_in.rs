//! Packet-ins of Nicira's: NXT_PACKET_IN with an NXM match, NXT_PACKET_IN2 and NXT_RESUME as properties.
//!
//! ```text
//!  PACKET_IN: buffer_id (32) | total_len (16) | reason (8) | table_id (8) | cookie (64) | match_len (16) | pad (48)
//!             match | pad (16) | data
//! ```

use crate::fields::oxm;
use crate::property::{Property, put_property};
use crate::wire::{Put, Reader, read_all};
use crate::{BufferId, Cookie, DecodeError, EncodeError, Match, PacketIn, PacketInReason, PortNo, TableId};

/// A packet for the controller, as a list of properties. Sent back as [`crate::NiciraMsg::Resume`], it goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PacketIn2 {
    /// What is said of it, in the order of the wire.
    pub properties: Vec<PacketIn2Property>,
}

/// A property of a [`PacketIn2`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum PacketIn2Property {
    /// The packet, or its beginning.
    Packet(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))] Vec<u8>),
    /// Length of the packet on the wire, where only its beginning is there.
    FullLen(u32),
    /// Where the switch keeps the packet.
    BufferId(BufferId),
    /// Table that sent it.
    TableId(TableId),
    /// Cookie of the flow entry that sent it.
    Cookie(Cookie),
    /// Why it is sent.
    Reason(PacketInReason),
    /// Packet metadata.
    Metadata(Match),
    /// What [`crate::Controller2Property::Userdata`] said.
    Userdata(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))] Vec<u8>),
    /// The switch's own notes on how to go on; to be sent back as they came.
    Continuation(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))] Vec<u8>),
    /// Another property, or another form of one, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows type and length, padding not included.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

impl PacketIn2 {
    /// The packet, or its beginning.
    pub fn packet(&self) -> Option<&[u8]> {
        self.properties.iter().find_map(|property| match property {
            PacketIn2Property::Packet(packet) => Some(packet.as_slice()),
            _ => None,
        })
    }

    /// Packet metadata, the ingress port in it.
    pub fn metadata(&self) -> Option<&Match> {
        self.properties.iter().find_map(|property| match property {
            PacketIn2Property::Metadata(match_) => Some(match_),
            _ => None,
        })
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { properties: read_all(body, PacketIn2Property::decode)? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.properties.iter().try_for_each(|property| property.encode(out))
    }
}

const PACKET: u16 = 0;
const FULL_LEN: u16 = 1;
const BUFFER_ID: u16 = 2;
const TABLE_ID: u16 = 3;
const COOKIE: u16 = 4;
const REASON: u16 = 5;
const METADATA: u16 = 6;
const USERDATA: u16 = 7;
const CONTINUATION: u16 = 8;

impl PacketIn2Property {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, mut body) = Property::open(reader)?;
        if kind == METADATA {
            return Ok(Self::Metadata(Match::from(read_all(&mut body, oxm::decode_field)?)));
        }
        Ok(match (kind, body.rest()) {
            (PACKET, packet) => Self::Packet(packet.to_vec()),
            (FULL_LEN, [a, b, c, d]) => Self::FullLen(u32::from_be_bytes([*a, *b, *c, *d])),
            (BUFFER_ID, [a, b, c, d]) => Self::BufferId(BufferId(u32::from_be_bytes([*a, *b, *c, *d]))),
            (TABLE_ID, [table]) => Self::TableId(TableId(*table)),
            (COOKIE, [0, 0, 0, 0, cookie @ ..]) if cookie.len() == 8 => {
                Self::Cookie(Cookie(cookie.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
            }
            (REASON, [reason]) => Self::Reason(PacketInReason::from_wire(*reason)),
            (USERDATA, userdata) => Self::Userdata(userdata.to_vec()),
            (CONTINUATION, continuation) => Self::Continuation(continuation.to_vec()),
            (kind, body) => Self::Other { kind, body: body.to_vec() },
        })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let put = |kind: u16, body: &[u8], out: &mut Vec<u8>| Property { kind, body }.put(out);
        match self {
            Self::Packet(packet) => put(PACKET, packet, out),
            Self::FullLen(length) => put(FULL_LEN, &length.to_be_bytes(), out),
            Self::BufferId(BufferId(id)) => put(BUFFER_ID, &id.to_be_bytes(), out),
            Self::TableId(TableId(table)) => put(TABLE_ID, &[*table], out),
            Self::Cookie(Cookie(cookie)) => put_property(COOKIE, out, |out| {
                out.zeros(4);
                out.put_u64(*cookie);
                Ok(())
            }),
            Self::Reason(reason) => put(REASON, &[reason.to_wire()], out),
            Self::Metadata(match_) => put_property(METADATA, out, |out| {
                match_.fields.iter().try_for_each(|field| oxm::encode_field(field, out))
            }),
            Self::Userdata(userdata) => put(USERDATA, userdata, out),
            Self::Continuation(continuation) => put(CONTINUATION, continuation, out),
            Self::Other { kind, body } => put(*kind, body, out),
        }
    }
}

/// Reads an NXT_PACKET_IN.
pub(super) fn decode(body: &mut Reader<'_>) -> Result<PacketIn, DecodeError> {
    let (buffer_id, total_len) = (BufferId(body.u32("buffer_id")?), body.u16("total_len")?);
    let reason = PacketInReason::from_wire(body.u8("reason")?);
    let table_id = Some(TableId(body.u8("table_id")?));
    let cookie = Some(Cookie(body.u64("cookie")?));
    let match_len = usize::from(body.u16("match_len")?);
    body.pad(6)?;
    let match_ = oxm::decode_nx(body, match_len)?;
    body.pad(2)?;
    let in_port = match_.find_in_port().unwrap_or(PortNo::ANY);
    let data = body.rest().to_vec();
    Ok(PacketIn { buffer_id, total_len, reason, in_port, table_id, cookie, match_: Some(match_), data })
}

/// Writes an NXT_PACKET_IN.
pub(super) fn encode(packet_in: &PacketIn, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let missing = |what: &str| EncodeError::invalid(what, "Nicira's packet-in needs it");
    let match_ = packet_in.match_.as_ref().ok_or_else(|| missing("match"))?;
    if match_.find_in_port().unwrap_or(PortNo::ANY) != packet_in.in_port {
        return Err(EncodeError::invalid("in_port of a packet-in", "it is not the one of its match"));
    }
    out.put_u32(packet_in.buffer_id.0);
    out.put_u16(packet_in.total_len);
    out.put_u8(packet_in.reason.to_wire());
    out.put_u8(packet_in.table_id.ok_or_else(|| missing("table_id"))?.0);
    out.put_u64(packet_in.cookie.ok_or_else(|| missing("cookie"))?.0);
    let length_at = out.len();
    out.zeros(8);
    let match_len = oxm::encode_nx(match_, out)?;
    out.patch_u16(length_at, match_len);
    out.zeros(2);
    out.extend_from_slice(&packet_in.data);
    Ok(())
}
