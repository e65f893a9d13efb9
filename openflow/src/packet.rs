//! PACKET_IN (1.0: 5.4.1, 1.3: 7.4.1) and PACKET_OUT (1.0: 5.3.6, 1.3: 7.3.7).

use crate::wire::{Put, Reader, refuse};
use crate::{
    Action, BufferId, Cookie, DecodeError, EncodeError, Match, PacketOutRef, PortNo, TableId, Version, action,
};

/// PACKET_IN: a packet for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PacketIn {
    /// Where the switch keeps the packet, if it does.
    pub buffer_id: BufferId,
    /// Length of the packet on the wire; `data` may be shorter.
    pub total_len: u16,
    /// Why it is sent.
    pub reason: PacketInReason,
    /// Ingress port; [`PortNo::ANY`] when a 1.3 switch leaves it out of the match.
    pub in_port: PortNo,
    /// Table that sent it (1.3).
    pub table_id: Option<TableId>,
    /// Cookie of the flow entry that sent it (1.3).
    pub cookie: Option<Cookie>,
    /// Packet metadata (1.3). Encoding makes it from `in_port` when it is `None`.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub match_: Option<Match>,
    /// The packet, or its beginning.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
    pub data: Vec<u8>,
}

/// Why a packet-in is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum PacketInReason {
    /// No flow entry matched (in 1.3: the table-miss entry did).
    NoMatch,
    /// An output to the controller.
    Action,
    /// The TTL ran out (1.3).
    InvalidTtl,
    /// A reason that the specification does not define.
    Other(u8),
}

/// PACKET_OUT: a packet for the switch to send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PacketOut {
    /// The packet that the switch keeps, or [`BufferId::NO_BUFFER`] and `data`.
    pub buffer_id: BufferId,
    /// Ingress port to assume, [`PortNo::CONTROLLER`] or [`PortNo::ANY`] for none.
    pub in_port: PortNo,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
    pub data: Vec<u8>,
}

impl PacketIn {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer_id, total_len) = (BufferId(body.u32("buffer_id")?), body.u16("total_len")?);
        match body.version() {
            Version::V1_0 => {
                let in_port = body.port("in_port")?;
                let reason = PacketInReason::from_wire(body.u8("reason")?);
                body.pad(1)?;
                let data = body.rest().to_vec();
                Ok(Self {
                    buffer_id,
                    total_len,
                    reason,
                    in_port,
                    table_id: None,
                    cookie: None,
                    match_: None,
                    data,
                })
            }
            Version::V1_3 => {
                let reason = PacketInReason::from_wire(body.u8("reason")?);
                let table_id = Some(TableId(body.u8("table_id")?));
                let cookie = Some(Cookie(body.u64("cookie")?));
                let match_ = Match::decode(body)?;
                body.pad(2)?;
                let in_port = match_.find_in_port().unwrap_or(PortNo::ANY);
                let data = body.rest().to_vec();
                Ok(Self {
                    buffer_id,
                    total_len,
                    reason,
                    in_port,
                    table_id,
                    cookie,
                    match_: Some(match_),
                    data,
                })
            }
        }
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let of_in_port = Match::new().in_port(self.in_port);
        out.put_u32(self.buffer_id.0);
        out.put_u16(self.total_len);
        match version {
            Version::V1_0 => {
                refuse(self.table_id.is_some(), version, "the table of a packet-in")?;
                refuse(self.cookie.is_some(), version, "the cookie of a packet-in")?;
                let more = self.match_.as_ref().is_some_and(|match_| *match_ != of_in_port);
                refuse(more, version, "metadata of a packet-in besides in_port")?;
                out.put_port(self.in_port, version)?;
                out.put_u8(self.reason.to_wire());
                out.zeros(1);
            }
            Version::V1_3 => {
                let missing = |what: &str| EncodeError::invalid(what, "1.3 needs it in a packet-in");
                out.put_u8(self.reason.to_wire());
                out.put_u8(self.table_id.ok_or_else(|| missing("table_id"))?.0);
                out.put_u64(self.cookie.ok_or_else(|| missing("cookie"))?.0);
                let match_ = self.match_.as_ref().unwrap_or(&of_in_port);
                if match_.find_in_port().unwrap_or(PortNo::ANY) != self.in_port {
                    return Err(EncodeError::invalid(
                        "in_port of a packet-in",
                        "it is not the one of its match",
                    ));
                }
                match_.encode(version, out)?;
                out.zeros(2);
            }
        }
        out.extend_from_slice(&self.data);
        Ok(())
    }
}

impl PacketInReason {
    pub(crate) fn from_wire(byte: u8) -> Self {
        match byte {
            0 => Self::NoMatch,
            1 => Self::Action,
            2 => Self::InvalidTtl,
            other => Self::Other(other),
        }
    }

    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Self::NoMatch => 0,
            Self::Action => 1,
            Self::InvalidTtl => 2,
            Self::Other(other) => other,
        }
    }
}

impl PacketOut {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer_id, in_port) = (BufferId(body.u32("buffer_id")?), body.port("in_port")?);
        let actions_len = usize::from(body.u16("actions_len")?);
        body.pad(if body.version() == Version::V1_3 { 6 } else { 0 })?;
        let actions = action::decode_list(body.sub(actions_len, "actions")?)?;
        Ok(Self { buffer_id, in_port, actions, data: body.rest().to_vec() })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Self { buffer_id, in_port, actions, data } = self;
        PacketOutRef { buffer_id: *buffer_id, in_port: *in_port, actions, data }.encode_body(version, out)
    }
}
