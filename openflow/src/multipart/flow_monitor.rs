//! Flow monitors: a switch tells how its flow entries change. Nicira's in 1.0, ONF's EXT-187 in 1.3.
//!
//! ```text
//!  request 1.0: id (32) | flags (16) | out_port (16) | match_len (16) | table_id (8) | pad (40) | match
//!  request 1.3: id (32) | flags (16) | match_len (16) | out_port (32) | table_id (8) | pad (24) | match
//!  update: length (16) | event (16) | reason (16) | priority (16) | idle_timeout (16) | hard_timeout (16)
//!          match_len (16) | table_id (8) | pad (8) | cookie (64) | match | actions or instructions
//!  or:     length (16) | event = 3 (16) | xid (32)
//! ```
//! In 1.3 the extension has a bare list of fields as the match; Open vSwitch puts the header of a 1.3 match in front.

use crate::fields::oxm;
use crate::wire::{Put, Reader, Wire, port16};
use crate::{
    Cookie, DecodeError, EncodeError, ErrorKind, Instruction, Match, PortNo, TableId, Version, Xid,
    instruction,
};

/// Asks to be told about flow entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlowMonitorRequest {
    /// Number of the monitor, to cancel it by.
    pub id: u32,
    /// `NXFMF_*` bits: 0 those that are there, 1 added ones, 2 deleted ones, 3 modified ones, 4 with their actions,
    /// 5 this controller's own changes in full.
    pub flags: u16,
    /// Entries with an output to this port; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Entries of this table, or [`TableId::ALL`].
    pub table_id: TableId,
    /// Entries at least as specific as this match.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub match_: Match,
    /// How the match is written.
    pub form: MatchForm,
}

/// How a match is written in a message of a flow monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum MatchForm {
    /// Its fields alone: Nicira's messages, and the text of the ONF extension.
    #[default]
    Fields,
    /// As in a 1.3 flow-mod, type and length first: Open vSwitch in 1.3.
    Header,
}

/// A change of a flow entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum FlowUpdate {
    /// The entry in full.
    Full(Box<FlowUpdateFull>),
    /// What this controller did itself.
    Abbrev {
        /// Transaction id of its flow-mod.
        xid: Xid,
    },
}

/// A change of a flow entry, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlowUpdateFull {
    /// What happened to it.
    pub event: FlowUpdateEvent,
    /// Why it went, as in a flow-removed; 0 otherwise.
    pub reason: u16,
    /// Its priority.
    pub priority: u16,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds.
    pub hard_timeout: u16,
    /// Its table.
    pub table_id: TableId,
    /// Its cookie.
    pub cookie: Cookie,
    /// What it matches.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub match_: Match,
    /// How the match is written.
    pub form: MatchForm,
    /// What it does, where that was asked for; in 1.0 nothing or one [`Instruction::ApplyActions`].
    pub instructions: Vec<Instruction>,
}

/// What happened to a flow entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum FlowUpdateEvent {
    /// It came, or was there.
    Added,
    /// It went.
    Deleted,
    /// It changed.
    Modified,
}

const ABBREV: u16 = 3;
const LENGTH_BYTES: usize = 2;

impl Wire for FlowMonitorRequest {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let (id, flags) = (reader.u32("monitor.id")?, reader.u16("monitor.flags")?);
        let (out_port, match_len) = match reader.version() {
            Version::V1_0 => {
                let out_port = reader.port("monitor.out_port")?;
                (out_port, reader.u16("monitor.match_len")?)
            }
            Version::V1_3 => {
                let match_len = reader.u16("monitor.match_len")?;
                (reader.port("monitor.out_port")?, match_len)
            }
        };
        let table_id = TableId(reader.u8("monitor.table_id")?);
        reader.pad(if reader.version() == Version::V1_3 { 3 } else { 5 })?;
        let (match_, form) = read_match(reader, match_len)?;
        Ok(Self { id, flags, out_port, table_id, match_, form })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u32(self.id);
        out.put_u16(self.flags);
        let length_at = match version {
            Version::V1_0 => {
                port16::put(&self.out_port, version, out)?;
                out.put_u16(0);
                out.len() - 2
            }
            Version::V1_3 => {
                out.put_u16(0);
                out.put_port(self.out_port, version)?;
                out.len() - 6
            }
        };
        out.put_u8(self.table_id.0);
        out.zeros(if version == Version::V1_3 { 3 } else { 5 });
        let match_len = put_match(&self.match_, self.form, version, out)?;
        out.patch_u16(length_at, match_len);
        Ok(())
    }
}

impl Wire for FlowUpdate {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut body = reader.rest_of(LENGTH_BYTES, "update.length")?;
        let event = match body.u16("update.event")? {
            0 => FlowUpdateEvent::Added,
            1 => FlowUpdateEvent::Deleted,
            2 => FlowUpdateEvent::Modified,
            ABBREV => {
                let xid = Xid(body.u32("update.xid")?);
                body.finish()?;
                return Ok(Self::Abbrev { xid });
            }
            other => return Err(body.bad_value("update.event", 2, other, ErrorKind::BadRequestBadType)),
        };
        let (reason, priority) = (body.u16("update.reason")?, body.u16("update.priority")?);
        let (idle_timeout, hard_timeout) =
            (body.u16("update.idle_timeout")?, body.u16("update.hard_timeout")?);
        let match_len = body.u16("update.match_len")?;
        let table_id = TableId(body.u8("update.table_id")?);
        body.pad(1)?;
        let cookie = Cookie(body.u64("update.cookie")?);
        let (match_, form) = read_match(&mut body, match_len)?;
        Ok(Self::Full(Box::new(FlowUpdateFull {
            event,
            reason,
            priority,
            idle_timeout,
            hard_timeout,
            table_id,
            cookie,
            match_,
            form,
            instructions: instruction::decode_list(body)?,
        })))
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u16(0);
        match self {
            Self::Abbrev { xid } => {
                out.put_u16(ABBREV);
                out.put_u32(xid.0);
            }
            Self::Full(full) => full.put(version, out)?,
        }
        out.patch_len(start, start, "flow update")
    }
}

impl FlowUpdateFull {
    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(match self.event {
            FlowUpdateEvent::Added => 0,
            FlowUpdateEvent::Deleted => 1,
            FlowUpdateEvent::Modified => 2,
        });
        out.put_u16(self.reason);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        let length_at = out.len();
        out.put_u16(0);
        out.put_u8(self.table_id.0);
        out.zeros(1);
        out.put_u64(self.cookie.0);
        let match_len = put_match(&self.match_, self.form, version, out)?;
        out.patch_u16(length_at, match_len);
        instruction::encode_list(&self.instructions, version, out)
    }
}

/// Reads a match of `match_len` bytes. A header says the same length once more, which a field in its place cannot.
fn read_match(reader: &mut Reader<'_>, match_len: u16) -> Result<(Match, MatchForm), DecodeError> {
    let header = reader.clone().u32("match");
    if reader.version() == Version::V1_3 && header == Ok(MATCH_TYPE_OXM << 16 | u32::from(match_len)) {
        return Ok((oxm::decode(reader)?, MatchForm::Header));
    }
    Ok((oxm::decode_nx(reader, usize::from(match_len))?, MatchForm::Fields))
}

const MATCH_TYPE_OXM: u32 = 1;

fn put_match(
    match_: &Match,
    form: MatchForm,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<u16, EncodeError> {
    match (form, version) {
        (MatchForm::Fields, _) => oxm::encode_nx(match_, out),
        (MatchForm::Header, Version::V1_0) => Err(EncodeError::not_in(version, "a match with a header")),
        (MatchForm::Header, Version::V1_3) => {
            let start = out.len();
            oxm::encode(match_, out)?;
            let length = out.get(start + 2..start + 4).and_then(|bytes| bytes.first_chunk());
            Ok(length.map_or(0, |bytes| u16::from_be_bytes(*bytes)))
        }
    }
}
