//! FLOW_MOD (1.0: 5.3.3, 1.3: 7.3.4.1) and FLOW_REMOVED (1.0: 5.4.2, 1.3: 7.4.2).

use crate::wire::{Put, Reader, refuse};
use crate::{
    BufferId, Cookie, DecodeError, EncodeError, ErrorKind, GroupId, Instruction, Match, PortNo, Problem,
    TableId, Version, instruction,
};

/// FLOW_MOD: adds, changes or deletes flow entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlowMod {
    /// The entry's cookie.
    pub cookie: Cookie,
    /// Bits of the cookie that an entry must have to be changed or deleted; 0 for all entries (1.3).
    pub cookie_mask: u64,
    /// Table. 1.0 has table 0 alone, and takes [`TableId::ALL`] in deletions; with [`FlowModFlags::NX_TABLE_ID`] it
    /// has them all.
    pub table_id: TableId,
    /// What to do.
    pub command: FlowModCommand,
    /// Seconds without a packet after which the entry goes; 0 for never.
    pub idle_timeout: u16,
    /// Seconds after which the entry goes; 0 for never.
    pub hard_timeout: u16,
    /// The higher one wins.
    pub priority: u16,
    /// A kept packet to run through the entry, or [`BufferId::NO_BUFFER`].
    pub buffer_id: BufferId,
    /// Deletions only: entries with an output to this port; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Deletions only: entries with this group; [`GroupId::ANY`] for all (1.3).
    pub out_group: GroupId,
    /// Behaviour of the entry.
    pub flags: FlowModFlags,
    /// What it matches.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub match_: Match,
    /// What it does; in 1.0 nothing or one [`Instruction::ApplyActions`].
    pub instructions: Vec<Instruction>,
}

impl Default for FlowMod {
    /// Adds an entry to table 0 that matches everything and drops it, with priority 0 and no timeouts.
    fn default() -> Self {
        Self {
            cookie: Cookie(0),
            cookie_mask: 0,
            table_id: TableId(0),
            command: FlowModCommand::Add,
            idle_timeout: 0,
            hard_timeout: 0,
            priority: 0,
            buffer_id: BufferId::NO_BUFFER,
            out_port: PortNo::ANY,
            out_group: GroupId::ANY,
            flags: FlowModFlags::default(),
            match_: Match::new(),
            instructions: Vec::new(),
        }
    }
}

/// What a flow-mod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum FlowModCommand {
    /// Adds an entry, in place of one with the same match and priority.
    Add,
    /// Changes the instructions of all entries that match.
    Modify,
    /// Changes the one entry with this match and priority.
    ModifyStrict,
    /// Deletes all entries that match.
    Delete,
    /// Deletes the one entry with this match and priority.
    DeleteStrict,
}

/// Flags of a flow entry; the bits of 1.3, and two of 1.0 beyond the wire's 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlowModFlags(pub u32);

impl FlowModFlags {
    /// Tell the controller when the entry goes.
    pub const SEND_FLOW_REM: Self = Self(1);
    /// Refuse the entry when it overlaps another of the same priority.
    pub const CHECK_OVERLAP: Self = Self(1 << 1);
    /// Start the counters anew (1.3).
    pub const RESET_COUNTS: Self = Self(1 << 2);
    /// Count no packets (1.3).
    pub const NO_PKT_COUNTS: Self = Self(1 << 3);
    /// Count no bytes (1.3).
    pub const NO_BYT_COUNTS: Self = Self(1 << 4);
    /// Use the entry while there is no controller (1.0).
    pub const EMERG: Self = Self(1 << 16);
    /// The table goes into the upper byte of the command: Nicira's extension of 1.0, to be switched on by
    /// [`crate::NiciraMsg::FlowModTableId`] first. In 1.3, where the table has a place of its own, it says nothing.
    pub const NX_TABLE_ID: Self = Self(1 << 17);

    /// All flags of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// FLOW_REMOVED: a flow entry went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlowRemoved {
    /// The entry's cookie.
    pub cookie: Cookie,
    /// Its priority.
    pub priority: u16,
    /// Why it went.
    pub reason: FlowRemovedReason,
    /// Its table (1.3).
    pub table_id: Option<TableId>,
    /// Seconds that it lived.
    pub duration_sec: u32,
    /// Nanoseconds beyond those.
    pub duration_nsec: u32,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds (1.3).
    pub hard_timeout: Option<u16>,
    /// Packets that it matched.
    pub packet_count: u64,
    /// Bytes of those.
    pub byte_count: u64,
    /// What it matched.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub match_: Match,
}

/// Why a flow entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum FlowRemovedReason {
    /// No packet for its idle timeout.
    IdleTimeout,
    /// Its hard timeout.
    HardTimeout,
    /// A deletion.
    Delete,
    /// Its group went (1.3).
    GroupDelete,
    /// A reason that the specification does not define.
    Other(u8),
}

impl FlowMod {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match body.version() {
            Version::V1_0 => Self::decode_v1_0(body),
            Version::V1_3 => Self::decode_v1_3(body),
        }
    }

    fn decode_v1_0(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let match_ = Match::decode(body)?;
        let cookie = Cookie(body.u64("cookie")?);
        let at = body.offset();
        let [table, command] = body.array("command")?;
        let command = FlowModCommand::from_wire(u16::from(command), at, body)?;
        let nx_table = if table == 0 { FlowModFlags::default() } else { FlowModFlags::NX_TABLE_ID };
        Ok(Self {
            match_,
            cookie,
            table_id: TableId(table),
            command,
            idle_timeout: body.u16("idle_timeout")?,
            hard_timeout: body.u16("hard_timeout")?,
            priority: body.u16("priority")?,
            buffer_id: BufferId(body.u32("buffer_id")?),
            out_port: body.port("out_port")?,
            flags: FlowModFlags::decode(body)?.with(nx_table),
            instructions: instruction::decode_list(body.sub(body.remaining(), "actions")?)?,
            ..Self::default()
        })
    }

    fn decode_v1_3(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let cookie = Cookie(body.u64("cookie")?);
        let cookie_mask = body.u64("cookie_mask")?;
        let table_id = TableId(body.u8("table_id")?);
        let at = body.offset();
        let command = FlowModCommand::from_wire(u16::from(body.u8("command")?), at, body)?;
        let (idle_timeout, hard_timeout) = (body.u16("idle_timeout")?, body.u16("hard_timeout")?);
        let priority = body.u16("priority")?;
        let buffer_id = BufferId(body.u32("buffer_id")?);
        let (out_port, out_group) = (body.port("out_port")?, GroupId(body.u32("out_group")?));
        let flags = FlowModFlags::decode(body)?;
        body.pad(2)?;
        Ok(Self {
            cookie,
            cookie_mask,
            table_id,
            command,
            idle_timeout,
            hard_timeout,
            priority,
            buffer_id,
            out_port,
            out_group,
            flags,
            match_: Match::decode(body)?,
            instructions: instruction::decode_list(body.sub(body.remaining(), "instructions")?)?,
        })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match version {
            Version::V1_0 => self.encode_v1_0(out),
            Version::V1_3 => self.encode_v1_3(out),
        }
    }

    fn encode_v1_0(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let version = Version::V1_0;
        let deletes = matches!(self.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
        let names_table = self.flags.contains(FlowModFlags::NX_TABLE_ID);
        let plain = self.table_id == TableId(0) || (deletes && self.table_id == TableId::ALL);
        let table_ok = names_table || plain;
        refuse(!table_ok, version, "flow tables beyond table 0")?;
        refuse(self.cookie_mask != 0, version, "a cookie mask in a flow-mod")?;
        refuse(self.out_group != GroupId::ANY, version, "out_group in a flow-mod")?;
        self.match_.encode(version, out)?;
        out.put_u64(self.cookie.0);
        out.put_u8(if names_table { self.table_id.0 } else { 0 });
        out.put_u8(self.command.to_wire());
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u32(self.buffer_id.0);
        out.put_port(self.out_port, version)?;
        self.flags.encode(version, out)?;
        instruction::encode_list(&self.instructions, version, out)
    }

    fn encode_v1_3(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let version = Version::V1_3;
        out.put_u64(self.cookie.0);
        out.put_u64(self.cookie_mask);
        out.put_u8(self.table_id.0);
        out.put_u8(self.command.to_wire());
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u32(self.buffer_id.0);
        out.put_port(self.out_port, version)?;
        out.put_u32(self.out_group.0);
        self.flags.encode(version, out)?;
        out.zeros(2);
        self.match_.encode(version, out)?;
        instruction::encode_list(&self.instructions, version, out)
    }
}

impl FlowModCommand {
    pub(crate) fn from_wire(command: u16, at: usize, body: &Reader<'_>) -> Result<Self, DecodeError> {
        match command {
            0 => Ok(Self::Add),
            1 => Ok(Self::Modify),
            2 => Ok(Self::ModifyStrict),
            3 => Ok(Self::Delete),
            4 => Ok(Self::DeleteStrict),
            other => {
                let problem = Problem::BadValue(u64::from(other));
                Err(body.error("command", at, problem, ErrorKind::FlowModBadCommand))
            }
        }
    }

    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Self::Add => 0,
            Self::Modify => 1,
            Self::ModifyStrict => 2,
            Self::Delete => 3,
            Self::DeleteStrict => 4,
        }
    }
}

/// Where 1.0 has its flag [`FlowModFlags::EMERG`].
const EMERG_V1_0: u16 = 1 << 2;

impl FlowModFlags {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = body.offset();
        let bits = body.u16("flags")?;
        if body.version() == Version::V1_3 {
            return Ok(Self(u32::from(bits)));
        }
        let shared = u32::from(bits & 3);
        match bits & !3 {
            0 => Ok(Self(shared)),
            EMERG_V1_0 => Ok(Self(shared).with(Self::EMERG)),
            _ => {
                let problem = Problem::BadValue(u64::from(bits));
                Err(body.error("flags", at, problem, ErrorKind::FlowModUnsupported))
            }
        }
    }

    pub(crate) fn encode(self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let shared = (self.0 & 0xffff) as u16;
        match version {
            Version::V1_0 => {
                let known =
                    Self::SEND_FLOW_REM.with(Self::CHECK_OVERLAP).with(Self::EMERG).with(Self::NX_TABLE_ID);
                refuse(self.0 & !known.0 != 0, version, "flow-mod flags of 1.3")?;
                out.put_u16(if self.contains(Self::EMERG) { shared | EMERG_V1_0 } else { shared });
            }
            Version::V1_3 => {
                refuse(self.contains(Self::EMERG), version, "the flow-mod flag emerg")?;
                out.put_u16(shared);
            }
        }
        Ok(())
    }
}

impl FlowRemoved {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let v1_3 = body.version() == Version::V1_3;
        let early_match = if v1_3 { None } else { Some(Match::decode(body)?) };
        let cookie = Cookie(body.u64("cookie")?);
        let priority = body.u16("priority")?;
        let reason = FlowRemovedReason::from_wire(body.u8("reason")?);
        let table = TableId(body.u8("table_id")?);
        let (duration_sec, duration_nsec) = (body.u32("duration_sec")?, body.u32("duration_nsec")?);
        let (idle_timeout, hard) = (body.u16("idle_timeout")?, body.u16("hard_timeout")?);
        let (packet_count, byte_count) = (body.u64("packet_count")?, body.u64("byte_count")?);
        let match_ = match early_match {
            Some(match_) => match_,
            None => Match::decode(body)?,
        };
        Ok(Self {
            cookie,
            priority,
            reason,
            table_id: v1_3.then_some(table),
            duration_sec,
            duration_nsec,
            idle_timeout,
            hard_timeout: v1_3.then_some(hard),
            packet_count,
            byte_count,
            match_,
        })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let missing = |what: &str| EncodeError::invalid(what, "1.3 needs it in a flow-removed");
        let (table_id, hard_timeout) = match version {
            Version::V1_0 => {
                refuse(self.table_id.is_some(), version, "the table of a flow-removed")?;
                refuse(self.hard_timeout.is_some(), version, "the hard timeout of a flow-removed")?;
                self.match_.encode(version, out)?;
                (0, 0)
            }
            Version::V1_3 => (
                self.table_id.ok_or_else(|| missing("table_id"))?.0,
                self.hard_timeout.ok_or_else(|| missing("hard_timeout"))?,
            ),
        };
        out.put_u64(self.cookie.0);
        out.put_u16(self.priority);
        out.put_u8(self.reason.to_wire());
        out.put_u8(table_id);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        out.put_u16(self.idle_timeout);
        out.put_u16(hard_timeout);
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        if version == Version::V1_3 {
            self.match_.encode(version, out)?;
        }
        Ok(())
    }
}

impl FlowRemovedReason {
    pub(crate) fn from_wire(byte: u8) -> Self {
        match byte {
            0 => Self::IdleTimeout,
            1 => Self::HardTimeout,
            2 => Self::Delete,
            3 => Self::GroupDelete,
            other => Self::Other(other),
        }
    }

    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Self::IdleTimeout => 0,
            Self::HardTimeout => 1,
            Self::Delete => 2,
            Self::GroupDelete => 3,
            Self::Other(other) => other,
        }
    }
}
