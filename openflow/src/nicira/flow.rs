//! Flow entries with NXM matches: NXT_FLOW_MOD and NXT_FLOW_REMOVED.
//!
//! ```text
//!  mod: cookie (64) | table_id (8) | command (8) | idle_timeout (16) | hard_timeout (16) | priority (16)
//!       buffer_id (32) | out_port (16) | flags (16) | match_len (16) | pad (48) | match | actions
//!  removed: cookie (64) | priority (16) | reason (8) | table_id + 1 (8) | duration_sec (32) | duration_nsec (32)
//!           idle_timeout (16) | match_len (16) | packet_count (64) | byte_count (64) | match
//! ```

use crate::fields::oxm;
use crate::wire::{Put, Reader, port16, refuse};
use crate::{
    Cookie, DecodeError, EncodeError, FlowMod, FlowModCommand, FlowModFlags, FlowRemoved, FlowRemovedReason,
    GroupId, Instruction, TableId, Version, action,
};

pub(super) fn decode_mod(body: &mut Reader<'_>) -> Result<FlowMod, DecodeError> {
    let cookie = Cookie(body.u64("cookie")?);
    let table_id = TableId(body.u8("table_id")?);
    let at = body.offset();
    let command = FlowModCommand::from_wire(u16::from(body.u8("command")?), at, body)?;
    let (idle_timeout, hard_timeout) = (body.u16("idle_timeout")?, body.u16("hard_timeout")?);
    let (priority, buffer_id) = (body.u16("priority")?, crate::BufferId(body.u32("buffer_id")?));
    let out_port = port16::read(body, "out_port")?;
    let flags = FlowModFlags::decode(body)?;
    let match_len = usize::from(body.u16("match_len")?);
    body.pad(6)?;
    let match_ = oxm::decode_nx(body, match_len)?;
    let actions = action::decode_list(body.sub(body.remaining(), "actions")?)?;
    Ok(FlowMod {
        cookie,
        table_id,
        command,
        idle_timeout,
        hard_timeout,
        priority,
        buffer_id,
        out_port,
        flags,
        match_,
        instructions: if actions.is_empty() { Vec::new() } else { vec![Instruction::ApplyActions(actions)] },
        ..FlowMod::default()
    })
}

pub(super) fn encode_mod(flow_mod: &FlowMod, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let invalid = |why| Err(EncodeError::invalid("Nicira's flow-mod", why));
    if flow_mod.cookie_mask != 0 {
        return invalid("it has no cookie mask");
    }
    if flow_mod.out_group != GroupId::ANY {
        return invalid("it has no out_group");
    }
    out.put_u64(flow_mod.cookie.0);
    out.put_u8(flow_mod.table_id.0);
    out.put_u8(flow_mod.command.to_wire());
    out.put_u16(flow_mod.idle_timeout);
    out.put_u16(flow_mod.hard_timeout);
    out.put_u16(flow_mod.priority);
    out.put_u32(flow_mod.buffer_id.0);
    port16::put(&flow_mod.out_port, version, out)?;
    flow_mod.flags.encode(version, out)?;
    let length_at = out.len();
    out.zeros(8);
    let match_len = oxm::encode_nx(&flow_mod.match_, out)?;
    out.patch_u16(length_at, match_len);
    match flow_mod.instructions.as_slice() {
        [] => Ok(()),
        [Instruction::ApplyActions(actions)] => action::encode_list(actions, version, out),
        _ => invalid("it has one apply_actions at most"),
    }
}

pub(super) fn decode_removed(body: &mut Reader<'_>) -> Result<FlowRemoved, DecodeError> {
    let (cookie, priority) = (Cookie(body.u64("cookie")?), body.u16("priority")?);
    let reason = FlowRemovedReason::from_wire(body.u8("reason")?);
    let table_id = body.u8("table_id")?.checked_sub(1).map(TableId);
    let (duration_sec, duration_nsec) = (body.u32("duration_sec")?, body.u32("duration_nsec")?);
    let idle_timeout = body.u16("idle_timeout")?;
    let match_len = usize::from(body.u16("match_len")?);
    let (packet_count, byte_count) = (body.u64("packet_count")?, body.u64("byte_count")?);
    Ok(FlowRemoved {
        cookie,
        priority,
        reason,
        table_id,
        duration_sec,
        duration_nsec,
        idle_timeout,
        hard_timeout: None,
        packet_count,
        byte_count,
        match_: oxm::decode_nx(body, match_len)?,
    })
}

pub(super) fn encode_removed(
    removed: &FlowRemoved,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    refuse(removed.hard_timeout.is_some(), version, "the hard timeout of a flow-removed of Nicira's")?;
    let table = match removed.table_id {
        None => 0,
        Some(TableId::ALL) => return Err(EncodeError::invalid("flow-removed", "table 254 is the highest")),
        Some(TableId(table)) => table + 1,
    };
    out.put_u64(removed.cookie.0);
    out.put_u16(removed.priority);
    out.put_u8(removed.reason.to_wire());
    out.put_u8(table);
    out.put_u32(removed.duration_sec);
    out.put_u32(removed.duration_nsec);
    out.put_u16(removed.idle_timeout);
    let length_at = out.len();
    out.put_u16(0);
    out.put_u64(removed.packet_count);
    out.put_u64(removed.byte_count);
    let match_len = oxm::encode_nx(&removed.match_, out)?;
    out.patch_u16(length_at, match_len);
    Ok(())
}
