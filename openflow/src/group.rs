//! GROUP_MOD and its buckets (1.3: 5.6, 7.3.4.2).
//!
//! ```text
//!  command (16) | type (8) | pad (8) | group_id (32) | bucket ...
//!  bucket: len (16) | weight (16) | watch_port (32) | watch_group (32) | pad (32) | action ...
//! ```

use crate::wire::{Put, Reader, Wire, put_all, read_all};
use crate::{Action, DecodeError, EncodeError, ErrorKind, GroupId, PortNo, Version, action};

/// GROUP_MOD: adds, changes or deletes a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// How the group chooses among its buckets.
    pub group_type: GroupType,
    /// The group; [`GroupId::ALL`] in deletions.
    pub group_id: GroupId,
    /// Its buckets; none in deletions.
    pub buckets: Vec<Bucket>,
}

/// What a group-mod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum GroupModCommand {
    /// Adds a group; there may be none of the same number.
    Add,
    /// Replaces type and buckets of a group.
    Modify,
    /// Deletes a group, and the flow entries that use it.
    Delete,
}

/// How a group chooses among its buckets (1.3: 5.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum GroupType {
    /// All buckets: multicast.
    All,
    /// One bucket by a hash and the weights.
    Select,
    /// The one bucket there is.
    Indirect,
    /// The first live bucket.
    FastFailover,
    /// A type that the specification does not define.
    Other(u8),
}

/// One bucket of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Bucket {
    /// Share of the traffic, in groups that select; 0 otherwise.
    pub weight: u16,
    /// The port that has to be up for the bucket to be live; [`PortNo::ANY`] for none.
    pub watch_port: PortNo,
    /// The group that has to be live; [`GroupId::ANY`] for none.
    pub watch_group: GroupId,
    /// The bucket's action set.
    pub actions: Vec<Action>,
}

impl Bucket {
    /// A bucket that watches nothing and has weight 0.
    pub fn new(actions: Vec<Action>) -> Self {
        Self { weight: 0, watch_port: PortNo::ANY, watch_group: GroupId::ANY, actions }
    }
}

const BUCKET_HEADER_BYTES: usize = 2;

impl Wire for Bucket {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut body = reader.clone().blaming(ErrorKind::GroupModBadBucket);
        let mut bucket = body.rest_of(BUCKET_HEADER_BYTES, "bucket.len")?;
        *reader = body;
        let weight = bucket.u16("bucket.weight")?;
        let watch_port = PortNo(bucket.u32("bucket.watch_port")?);
        let watch_group = GroupId(bucket.u32("bucket.watch_group")?);
        bucket.pad(4)?;
        Ok(Self { weight, watch_port, watch_group, actions: action::decode_list(bucket)? })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u16(0);
        out.put_u16(self.weight);
        out.put_u32(self.watch_port.0);
        out.put_u32(self.watch_group.0);
        out.zeros(4);
        action::encode_list(&self.actions, version, out)?;
        out.patch_len(start, start, "bucket")
    }
}

impl Wire for GroupType {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        Ok(match reader.u8(field)? {
            0 => Self::All,
            1 => Self::Select,
            2 => Self::Indirect,
            3 => Self::FastFailover,
            other => Self::Other(other),
        })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u8(match self {
            Self::All => 0,
            Self::Select => 1,
            Self::Indirect => 2,
            Self::FastFailover => 3,
            Self::Other(other) => *other,
        });
        Ok(())
    }
}

impl Wire for GroupModCommand {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        match reader.u16(field)? {
            0 => Ok(Self::Add),
            1 => Ok(Self::Modify),
            2 => Ok(Self::Delete),
            other => Err(reader.bad_value(field, 2, other, ErrorKind::GroupModBadCommand)),
        }
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(match self {
            Self::Add => 0,
            Self::Modify => 1,
            Self::Delete => 2,
        });
        Ok(())
    }
}

impl GroupMod {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let command = Wire::read(body, "command")?;
        let group_type = Wire::read(body, "type")?;
        body.pad(1)?;
        let group_id = Wire::read(body, "group_id")?;
        let buckets = read_all(body, |body| Bucket::read(body, "bucket"))?;
        Ok(Self { command, group_type, group_id, buckets })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.command.put(version, out)?;
        self.group_type.put(version, out)?;
        out.zeros(1);
        self.group_id.put(version, out)?;
        put_all(&self.buckets, version, out)
    }
}
