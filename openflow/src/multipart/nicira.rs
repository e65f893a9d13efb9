//! Nicira's statistics of flow entries in 1.0, whose matches are NXM: NXST_FLOW and NXST_AGGREGATE.
//!
//! ```text
//!  request: out_port (16) | match_len (16) | table_id (8) | pad (24) | match
//!  entry: length (16) | table_id (8) | pad (8) | duration_sec (32) | duration_nsec (32) | priority (16)
//!         idle_timeout (16) | hard_timeout (16) | match_len (16) | idle_age (16) | hard_age (16)
//!         cookie (64) | packet_count (64) | byte_count (64) | match | actions
//! ```

use super::{FlowStats, FlowStatsRequest};
use crate::fields::oxm;
use crate::wire::{Put, Reader, Wire, port16, refuse};
use crate::{Cookie, DecodeError, EncodeError, FlowModFlags, GroupId, TableId, Version, instruction};

/// One flow entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct NxFlowStats {
    /// The entry; it has no flags here.
    pub flow: FlowStats,
    /// Seconds since its last packet, plus 1; 0 when that is not known.
    pub idle_age: u16,
    /// Seconds since its last change, plus 1; 0 when that is not known.
    pub hard_age: u16,
}

/// Which entries a request of Nicira's is about: those of a [`FlowStatsRequest`] without group and cookie.
pub(super) fn decode_request(reader: &mut Reader<'_>) -> Result<FlowStatsRequest, DecodeError> {
    let out_port = port16::read(reader, "nx.out_port")?;
    let match_len = usize::from(reader.u16("nx.match_len")?);
    let table_id = TableId(reader.u8("nx.table_id")?);
    reader.pad(3)?;
    let match_ = oxm::decode_nx(reader, match_len)?;
    Ok(FlowStatsRequest { table_id, out_port, match_, ..FlowStatsRequest::default() })
}

pub(super) fn encode_request(
    request: &FlowStatsRequest,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let has_cookie = request.cookie_mask != 0 || request.cookie != Cookie(0);
    refuse(has_cookie, version, "a cookie in a statistics request of Nicira's")?;
    refuse(request.out_group != GroupId::ANY, version, "out_group in a statistics request of Nicira's")?;
    port16::put(&request.out_port, version, out)?;
    let length_at = out.len();
    out.put_u16(0);
    out.put_u8(request.table_id.0);
    out.zeros(3);
    let match_len = oxm::encode_nx(&request.match_, out)?;
    out.patch_u16(length_at, match_len);
    Ok(())
}

impl Wire for NxFlowStats {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut body = reader.rest_of(2, "flow.length")?;
        let table_id = TableId(body.u8("flow.table_id")?);
        body.pad(1)?;
        let (duration_sec, duration_nsec) = (body.u32("flow.duration_sec")?, body.u32("flow.duration_nsec")?);
        let priority = body.u16("flow.priority")?;
        let (idle_timeout, hard_timeout) = (body.u16("flow.idle_timeout")?, body.u16("flow.hard_timeout")?);
        let match_len = usize::from(body.u16("flow.match_len")?);
        let (idle_age, hard_age) = (body.u16("flow.idle_age")?, body.u16("flow.hard_age")?);
        let cookie = Cookie(body.u64("flow.cookie")?);
        let (packet_count, byte_count) = (body.u64("flow.packet_count")?, body.u64("flow.byte_count")?);
        let match_ = oxm::decode_nx(&mut body, match_len)?;
        let flow = FlowStats {
            table_id,
            duration_sec,
            duration_nsec,
            priority,
            idle_timeout,
            hard_timeout,
            flags: FlowModFlags::default(),
            cookie,
            packet_count,
            byte_count,
            match_,
            instructions: instruction::decode_list(body)?,
        };
        Ok(Self { flow, idle_age, hard_age })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let flow = &self.flow;
        refuse(flow.flags != FlowModFlags::default(), version, "flags in flow statistics")?;
        let start = out.len();
        out.zeros(2);
        out.put_u8(flow.table_id.0);
        out.zeros(1);
        out.put_u32(flow.duration_sec);
        out.put_u32(flow.duration_nsec);
        out.put_u16(flow.priority);
        out.put_u16(flow.idle_timeout);
        out.put_u16(flow.hard_timeout);
        let length_at = out.len();
        out.put_u16(0);
        out.put_u16(self.idle_age);
        out.put_u16(self.hard_age);
        out.put_u64(flow.cookie.0);
        out.put_u64(flow.packet_count);
        out.put_u64(flow.byte_count);
        let match_len = oxm::encode_nx(&flow.match_, out)?;
        out.patch_u16(length_at, match_len);
        instruction::encode_list(&flow.instructions, version, out)?;
        out.patch_len(start, start, "flow entry")
    }
}
