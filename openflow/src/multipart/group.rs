//! Groups in multipart messages (1.3: 7.3.5.9 to 7.3.5.11).

use crate::group::{Bucket, GroupType};
use crate::wire::{Put, Reader, Wire, layout, put_all, read_all};
use crate::{DecodeError, EncodeError, GroupId, Version};

/// Counters of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupStats {
    /// The group.
    pub group_id: GroupId,
    /// Flow entries and groups that go on with it.
    pub ref_count: u32,
    /// Packets.
    pub packet_count: u64,
    /// Bytes of those.
    pub byte_count: u64,
    /// Seconds since it came.
    pub duration_sec: u32,
    /// Nanoseconds beyond those.
    pub duration_nsec: u32,
    /// Counters of its buckets, in their order.
    pub buckets: Vec<BucketCounter>,
}

/// Counters of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BucketCounter {
    /// Packets.
    pub packet_count: u64,
    /// Bytes of those.
    pub byte_count: u64,
}

layout! { BucketCounter: packet_count, byte_count }

/// One group as it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupDesc {
    /// How it chooses among its buckets.
    pub group_type: GroupType,
    /// The group.
    pub group_id: GroupId,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
}

/// What the switch can do with groups; index 0 of each array is for all, 1 select, 2 indirect, 3 fast failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupFeatures {
    /// Types that it has: bit 0 all, 1 select, 2 indirect, 3 fast failover.
    pub types: u32,
    /// `OFPGFC_*` bits.
    pub capabilities: u32,
    /// The most groups.
    pub max_groups: [u32; 4],
    /// Actions that it has, by number.
    pub actions: [u32; 4],
}

layout! { GroupFeatures: types, capabilities, max_groups, actions }

/// The length field, which comes first in an entry.
const LENGTH_BYTES: usize = 2;

impl Wire for GroupStats {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut body = reader.rest_of(LENGTH_BYTES, "group.length")?;
        body.pad(2)?;
        let group_id = GroupId(body.u32("group.group_id")?);
        let ref_count = body.u32("group.ref_count")?;
        body.pad(4)?;
        let (packet_count, byte_count) = (body.u64("group.packet_count")?, body.u64("group.byte_count")?);
        Ok(Self {
            group_id,
            ref_count,
            packet_count,
            byte_count,
            duration_sec: body.u32("group.duration_sec")?,
            duration_nsec: body.u32("group.duration_nsec")?,
            buckets: read_all(&mut body, |body| Wire::read(body, "group.bucket_stats"))?,
        })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.zeros(4);
        out.put_u32(self.group_id.0);
        out.put_u32(self.ref_count);
        out.zeros(4);
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        put_all(&self.buckets, version, out)?;
        out.patch_len(start, start, "group statistics")
    }
}

impl Wire for GroupDesc {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut body = reader.rest_of(LENGTH_BYTES, "group_desc.length")?;
        let group_type = Wire::read(&mut body, "group_desc.type")?;
        body.pad(1)?;
        let group_id = Wire::read(&mut body, "group_desc.group_id")?;
        let buckets = read_all(&mut body, |body| Bucket::read(body, "bucket"))?;
        Ok(Self { group_type, group_id, buckets })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.zeros(2);
        self.group_type.put(version, out)?;
        out.zeros(1);
        out.put_u32(self.group_id.0);
        put_all(&self.buckets, version, out)?;
        out.patch_len(start, start, "group description")
    }
}
