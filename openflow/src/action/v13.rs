//! Actions of 1.3 (7.2.5).

use super::{Action, HEADER_BYTES, move_bits, nicira};
use crate::fields::oxm;
use crate::wire::{Put, Reader, pad8};
use crate::{DecodeError, EncodeError, ErrorKind, GroupId, MatchField, Problem, Version};

const OUTPUT: u16 = 0;
const COPY_TTL_OUT: u16 = 11;
const COPY_TTL_IN: u16 = 12;
const SET_MPLS_TTL: u16 = 15;
const DEC_MPLS_TTL: u16 = 16;
const PUSH_VLAN: u16 = 17;
const POP_VLAN: u16 = 18;
const PUSH_MPLS: u16 = 19;
const POP_MPLS: u16 = 20;
const SET_QUEUE: u16 = 21;
const GROUP: u16 = 22;
const SET_NW_TTL: u16 = 23;
const DEC_NW_TTL: u16 = 24;
const SET_FIELD: u16 = 25;
const PUSH_PBB: u16 = 26;
const POP_PBB: u16 = 27;
const EXPERIMENTER: u16 = 0xffff;

/// Reads what follows type and length.
pub(super) fn decode(kind: u16, body: &mut Reader<'_>) -> Result<Action, DecodeError> {
    Ok(match kind {
        OUTPUT => {
            let (port, max_len) = (body.port("output.port")?, body.u16("output.max_len")?);
            body.pad(6)?;
            Action::Output { port, max_len }
        }
        COPY_TTL_OUT => bare(Action::CopyTtlOut, body)?,
        COPY_TTL_IN => bare(Action::CopyTtlIn, body)?,
        SET_MPLS_TTL => Action::SetMplsTtl(byte(body, "set_mpls_ttl")?),
        DEC_MPLS_TTL => bare(Action::DecMplsTtl, body)?,
        PUSH_VLAN => Action::PushVlan(short(body, "push_vlan")?),
        POP_VLAN => bare(Action::PopVlan, body)?,
        PUSH_MPLS => Action::PushMpls(short(body, "push_mpls")?),
        POP_MPLS => Action::PopMpls(short(body, "pop_mpls")?),
        SET_QUEUE => Action::SetQueue(body.u32("set_queue")?),
        GROUP => Action::Group(GroupId(body.u32("group")?)),
        SET_NW_TTL => Action::SetNwTtl(byte(body, "set_nw_ttl")?),
        DEC_NW_TTL => bare(Action::DecNwTtl, body)?,
        SET_FIELD => Action::SetField(set_field(body)?),
        PUSH_PBB => Action::PushPbb(short(body, "push_pbb")?),
        POP_PBB => bare(Action::PopPbb, body)?,
        EXPERIMENTER => super::decode_experimenter(body)?,
        kind => Action::Other { kind, body: body.rest().to_vec() },
    })
}

/// Writes what follows type and length; gives the type.
pub(super) fn encode(action: &Action, out: &mut Vec<u8>) -> Result<u16, EncodeError> {
    let bare = |kind: u16, out: &mut Vec<u8>| put_short(kind, 0, out);
    Ok(match action {
        Action::Output { port, max_len } => {
            out.put_port(*port, Version::V1_3)?;
            out.put_u16(*max_len);
            out.zeros(6);
            OUTPUT
        }
        Action::SetField(field) => put_set_field(field, out)?,
        Action::PushVlan(eth_type) => put_short(PUSH_VLAN, *eth_type, out),
        Action::PopVlan => bare(POP_VLAN, out),
        Action::PushMpls(eth_type) => put_short(PUSH_MPLS, *eth_type, out),
        Action::PopMpls(eth_type) => put_short(POP_MPLS, *eth_type, out),
        Action::PushPbb(eth_type) => put_short(PUSH_PBB, *eth_type, out),
        Action::PopPbb => bare(POP_PBB, out),
        Action::Group(GroupId(group)) => put_long(GROUP, *group, out),
        Action::SetQueue(queue) => put_long(SET_QUEUE, *queue, out),
        Action::SetMplsTtl(ttl) => put_byte(SET_MPLS_TTL, *ttl, out),
        Action::DecMplsTtl => bare(DEC_MPLS_TTL, out),
        Action::SetNwTtl(ttl) => put_byte(SET_NW_TTL, *ttl, out),
        Action::DecNwTtl => bare(DEC_NW_TTL, out),
        Action::CopyTtlOut => bare(COPY_TTL_OUT, out),
        Action::CopyTtlIn => bare(COPY_TTL_IN, out),
        Action::Nicira(action) => {
            nicira::encode(action, Version::V1_3, out)?;
            EXPERIMENTER
        }
        Action::CopyField(bits) => {
            move_bits::encode_onf(bits, Version::V1_3, out)?;
            EXPERIMENTER
        }
        Action::Experimenter { experimenter, body } => {
            out.put_u32(*experimenter);
            out.extend_from_slice(body);
            EXPERIMENTER
        }
        Action::Other { kind, body } => {
            out.extend_from_slice(body);
            *kind
        }
        other @ (Action::SetVlanVid(_)
        | Action::SetVlanPcp(_)
        | Action::StripVlan
        | Action::Enqueue { .. }) => {
            return Err(EncodeError::not_in(Version::V1_3, other.name()));
        }
    })
}

/// One OXM field without a mask, filled up to a multiple of 8.
fn set_field(body: &mut Reader<'_>) -> Result<MatchField, DecodeError> {
    let mut inner = body.clone().blaming(ErrorKind::BadActionBadSetLen);
    let (at, available) = (inner.offset(), inner.remaining());
    let field = oxm::decode_field(&mut inner).map_err(|mut error| {
        if error.kind == ErrorKind::BadMatchBadMask {
            error.kind = ErrorKind::BadActionBadSetArgument;
        }
        error
    })?;
    if field.has_mask() {
        let kind = ErrorKind::BadActionBadSetArgument;
        return Err(body.error("set_field", at, Problem::MaskNotAllowed, kind));
    }
    let used = available - inner.remaining();
    body.take(used, "set_field")?;
    body.pad(pad8(HEADER_BYTES + used))?;
    Ok(field)
}

fn put_set_field(field: &MatchField, out: &mut Vec<u8>) -> Result<u16, EncodeError> {
    if field.has_mask() {
        return Err(EncodeError::not_in(Version::V1_3, format!("action set_field of {field} with a mask")));
    }
    let start = out.len() - HEADER_BYTES;
    oxm::encode_field(field, out)?;
    out.zeros(pad8(out.len() - start));
    Ok(SET_FIELD)
}

fn bare(action: Action, body: &mut Reader<'_>) -> Result<Action, DecodeError> {
    body.pad(4)?;
    Ok(action)
}

fn short(body: &mut Reader<'_>, field: &'static str) -> Result<u16, DecodeError> {
    let value = body.u16(field)?;
    body.pad(2)?;
    Ok(value)
}

fn byte(body: &mut Reader<'_>, field: &'static str) -> Result<u8, DecodeError> {
    let value = body.u8(field)?;
    body.pad(3)?;
    Ok(value)
}

fn put_short(kind: u16, value: u16, out: &mut Vec<u8>) -> u16 {
    out.put_u16(value);
    out.zeros(2);
    kind
}

fn put_byte(kind: u16, value: u8, out: &mut Vec<u8>) -> u16 {
    out.put_u8(value);
    out.zeros(3);
    kind
}

fn put_long(kind: u16, value: u32, out: &mut Vec<u8>) -> u16 {
    out.put_u32(value);
    kind
}
