//! Messages that borrow: what a controller handles for every new flow, without a copy.
//!
//! [`crate::Framer::next_frame_ref`] gives a [`FrameRef`] into the stream's buffer, [`FrameRef::packet_in`] a
//! [`PacketInRef`] into the frame, and [`PacketOutRef`] writes the answer from what the caller has.

use crate::fields::oxm;
use crate::kind::Kind;
use crate::message::Header;
use crate::wire::{Put, Reader};
use crate::{
    Action, BufferId, Cookie, DecodeError, EncodeError, ErrorKind, Frame, Match, Message, PacketIn,
    PacketInReason, PortNo, Problem, TableId, Version, Xid, action,
};

/// One whole message in a buffer, not yet decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// Version byte of the header, perhaps one that this codec does not speak.
    pub version: u8,
    /// Type byte of the header.
    pub kind: u8,
    /// Transaction id.
    pub xid: Xid,
    /// The whole message, header included.
    pub bytes: &'a [u8],
}

impl<'a> FrameRef<'a> {
    /// Decodes the message.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn decode(&self) -> Result<(Version, Xid, Message), DecodeError> {
        Message::decode(self.bytes)
    }

    /// The message as a packet-in; `None` when it is another message.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn packet_in(&self) -> Result<Option<PacketInRef<'a>>, DecodeError> {
        let is_packet_in = |version| matches!(Kind::from_wire(version, self.kind), Some((Kind::PacketIn, _)));
        match Version::from_wire(self.version) {
            Some(version) if is_packet_in(version) => PacketInRef::decode(self.bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// The same message in memory of its own.
    pub fn to_frame(&self) -> Frame {
        let Self { version, kind, xid, bytes } = *self;
        Frame { version, kind, xid, bytes: bytes.to_vec() }
    }
}

/// PACKET_IN: a packet for the controller (1.0: 5.4.1, 1.3: 7.4.1), borrowed from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketInRef<'a> {
    /// Version of the message.
    pub version: Version,
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
    /// The packet, or its beginning.
    pub data: &'a [u8],
    /// The match of 1.3, header and padding included; empty in 1.0.
    match_bytes: &'a [u8],
}

impl<'a> PacketInRef<'a> {
    /// Decodes a whole PACKET_IN message. Nothing is allocated, unless the match has a field that this codec keeps raw.
    ///
    /// # Errors
    /// As [`Message::decode`]; another message is an error about its type.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let header = Header::decode(bytes)?;
        let mut body = header.body;
        let Some(version) = header.version else {
            let problem = Problem::BadValue(u64::from(header.version_byte));
            return Err(body.error("version", 0, problem, ErrorKind::BadRequestBadVersion));
        };
        if !matches!(Kind::from_wire(version, header.kind), Some((Kind::PacketIn, _))) {
            let problem = Problem::BadValue(u64::from(header.kind));
            return Err(body.error("type", 1, problem, ErrorKind::BadRequestBadType));
        }
        match version {
            Version::V1_0 => Self::decode_v1_0(&mut body),
            Version::V1_3 => Self::decode_v1_3(&mut body),
        }
    }

    fn decode_v1_0(body: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (buffer_id, total_len) = (BufferId(body.u32("buffer_id")?), body.u16("total_len")?);
        let in_port = body.port("in_port")?;
        let reason = PacketInReason::from_wire(body.u8("reason")?);
        body.pad(1)?;
        Ok(Self {
            version: Version::V1_0,
            buffer_id,
            total_len,
            reason,
            in_port,
            table_id: None,
            cookie: None,
            data: body.rest(),
            match_bytes: &[],
        })
    }

    fn decode_v1_3(body: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (buffer_id, total_len) = (BufferId(body.u32("buffer_id")?), body.u16("total_len")?);
        let reason = PacketInReason::from_wire(body.u8("reason")?);
        let table_id = Some(TableId(body.u8("table_id")?));
        let cookie = Some(Cookie(body.u64("cookie")?));
        let mut whole = body.clone();
        let mut in_port = None;
        match oxm::in_port_alone(body) {
            Some(port) => in_port = Some(port),
            None => oxm::for_each(body, |field| in_port = in_port.or(field.as_in_port()))?,
        }
        let match_bytes = whole.take(whole.remaining() - body.remaining(), "match")?;
        body.pad(2)?;
        Ok(Self {
            version: Version::V1_3,
            buffer_id,
            total_len,
            reason,
            in_port: in_port.unwrap_or(PortNo::ANY),
            table_id,
            cookie,
            data: body.rest(),
            match_bytes,
        })
    }

    /// A packet that came whole, as if a switch had just sent it for want of an entry.
    #[must_use]
    pub fn whole(in_port: PortNo, data: &'a [u8]) -> Self {
        Self {
            version: Version::V1_3,
            buffer_id: BufferId::NO_BUFFER,
            total_len: u16::try_from(data.len()).unwrap_or(u16::MAX),
            reason: PacketInReason::NoMatch,
            in_port,
            table_id: None,
            cookie: None,
            data,
            match_bytes: &[],
        }
    }

    /// Packet metadata (1.3).
    pub fn read_match(&self) -> Option<Match> {
        let mut reader = Reader::new(self.match_bytes, self.version, "PACKET_IN");
        (self.version == Version::V1_3).then(|| oxm::decode(&mut reader).ok()).flatten()
    }

    /// The same packet-in in memory of its own.
    pub fn to_packet_in(&self) -> PacketIn {
        PacketIn {
            buffer_id: self.buffer_id,
            total_len: self.total_len,
            reason: self.reason,
            in_port: self.in_port,
            table_id: self.table_id,
            cookie: self.cookie,
            match_: self.read_match(),
            data: self.data.to_vec(),
        }
    }
}

/// PACKET_OUT: a packet for the switch to send (1.0: 5.3.6, 1.3: 7.3.7), from borrowed parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketOutRef<'a> {
    /// The packet that the switch keeps, or [`BufferId::NO_BUFFER`] and `data`.
    pub buffer_id: BufferId,
    /// Ingress port to assume, [`PortNo::CONTROLLER`] or [`PortNo::ANY`] for none.
    pub in_port: PortNo,
    /// What to do with it.
    pub actions: &'a [Action],
    /// The packet.
    pub data: &'a [u8],
}

impl PacketOutRef<'_> {
    /// Appends the whole message to `out`; `out` is unchanged when there is an error.
    ///
    /// # Errors
    /// Names what the version cannot express, or what is too long.
    pub fn encode(&self, version: Version, xid: Xid, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let result = Kind::PacketOut.encode_with(version, xid, out, |out| self.encode_body(version, out));
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    pub(crate) fn encode_body(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u32(self.buffer_id.0);
        out.put_port(self.in_port, version)?;
        let length_at = out.len();
        out.zeros(if version == Version::V1_3 { 8 } else { 2 });
        let start = out.len();
        action::encode_list(self.actions, version, out)?;
        out.patch_len(length_at, start, "actions of a packet-out")?;
        out.extend_from_slice(self.data);
        Ok(())
    }
}
