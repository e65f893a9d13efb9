//! Actions of 1.0 (5.2.4). Field rewrites are [`Action::SetField`] where a match field says the same.

use std::net::Ipv4Addr;

use super::{Action, nicira};
use crate::wire::{Put, Reader};
use crate::{DecodeError, EncodeError, ErrorKind, MacAddr, MatchField, Problem, Version};

const OUTPUT: u16 = 0;
const SET_VLAN_VID: u16 = 1;
const SET_VLAN_PCP: u16 = 2;
const STRIP_VLAN: u16 = 3;
const SET_DL_SRC: u16 = 4;
const SET_DL_DST: u16 = 5;
const SET_NW_SRC: u16 = 6;
const SET_NW_DST: u16 = 7;
const SET_NW_TOS: u16 = 8;
const SET_TP_SRC: u16 = 9;
const SET_TP_DST: u16 = 10;
const ENQUEUE: u16 = 11;
const VENDOR: u16 = 0xffff;

/// Reads what follows type and length.
pub(super) fn decode(kind: u16, body: &mut Reader<'_>) -> Result<Action, DecodeError> {
    Ok(match kind {
        OUTPUT => Action::Output { port: body.port("output.port")?, max_len: body.u16("output.max_len")? },
        SET_VLAN_VID => Action::SetVlanVid(short(body, "set_vlan_vid")?),
        SET_VLAN_PCP => Action::SetVlanPcp(byte(body, "set_vlan_pcp")?),
        STRIP_VLAN => {
            body.pad(4)?;
            Action::StripVlan
        }
        SET_DL_SRC => Action::SetField(MatchField::EthSrc { value: mac(body, "set_dl_src")?, mask: None }),
        SET_DL_DST => Action::SetField(MatchField::EthDst { value: mac(body, "set_dl_dst")?, mask: None }),
        SET_NW_SRC => Action::SetField(MatchField::Ipv4Src { value: ipv4(body, "set_nw_src")?, mask: None }),
        SET_NW_DST => Action::SetField(MatchField::Ipv4Dst { value: ipv4(body, "set_nw_dst")?, mask: None }),
        SET_NW_TOS => Action::SetField(MatchField::IpDscp(dscp(body)?)),
        SET_TP_SRC => Action::SetField(MatchField::TpSrc(short(body, "set_tp_src")?)),
        SET_TP_DST => Action::SetField(MatchField::TpDst(short(body, "set_tp_dst")?)),
        ENQUEUE => {
            let port = body.port("enqueue.port")?;
            body.pad(6)?;
            Action::Enqueue { port, queue_id: body.u32("enqueue.queue_id")? }
        }
        VENDOR => super::decode_experimenter(body)?,
        kind => Action::Other { kind, body: body.rest().to_vec() },
    })
}

/// Writes what follows type and length; gives the type.
pub(super) fn encode(action: &Action, out: &mut Vec<u8>) -> Result<u16, EncodeError> {
    let kind = match action {
        Action::Output { port, max_len } => {
            out.put_port(*port, Version::V1_0)?;
            out.put_u16(*max_len);
            OUTPUT
        }
        Action::SetField(field) => return set_field(field, out),
        Action::SetVlanVid(vid) => put_short(SET_VLAN_VID, *vid, out),
        Action::SetVlanPcp(pcp) => put_byte(SET_VLAN_PCP, *pcp, out),
        Action::StripVlan => {
            out.zeros(4);
            STRIP_VLAN
        }
        Action::Enqueue { port, queue_id } => {
            out.put_port(*port, Version::V1_0)?;
            out.zeros(6);
            out.put_u32(*queue_id);
            ENQUEUE
        }
        Action::Nicira(action) => {
            nicira::encode(action, Version::V1_0, out)?;
            VENDOR
        }
        Action::Experimenter { experimenter, body } => {
            out.put_u32(*experimenter);
            out.extend_from_slice(body);
            VENDOR
        }
        Action::Other { kind, body } => {
            out.extend_from_slice(body);
            *kind
        }
        other => return Err(EncodeError::not_in(Version::V1_0, other.name())),
    };
    Ok(kind)
}

fn set_field(field: &MatchField, out: &mut Vec<u8>) -> Result<u16, EncodeError> {
    use MatchField as F;
    Ok(match field {
        F::EthSrc { value, mask: None } => put_mac(SET_DL_SRC, *value, out),
        F::EthDst { value, mask: None } => put_mac(SET_DL_DST, *value, out),
        F::Ipv4Src { value, mask: None } => put_ipv4(SET_NW_SRC, *value, out),
        F::Ipv4Dst { value, mask: None } => put_ipv4(SET_NW_DST, *value, out),
        F::IpDscp(value) if *value < 64 => put_byte(SET_NW_TOS, value << 2, out),
        F::TpSrc(port) | F::TcpSrc(port) | F::UdpSrc(port) => put_short(SET_TP_SRC, *port, out),
        F::TpDst(port) | F::TcpDst(port) | F::UdpDst(port) => put_short(SET_TP_DST, *port, out),
        other => return Err(EncodeError::not_in(Version::V1_0, format!("action set_field of {other}"))),
    })
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

fn mac(body: &mut Reader<'_>, field: &'static str) -> Result<MacAddr, DecodeError> {
    let value = body.mac(field)?;
    body.pad(6)?;
    Ok(value)
}

fn ipv4(body: &mut Reader<'_>, field: &'static str) -> Result<Ipv4Addr, DecodeError> {
    body.u32(field).map(Ipv4Addr::from_bits)
}

/// The six upper bits of the type of service; the lower two are ECN's and must be zero.
fn dscp(body: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let at = body.offset();
    let tos = byte(body, "set_nw_tos")?;
    if tos & 3 != 0 {
        let problem = Problem::BadValue(u64::from(tos));
        return Err(body.error("set_nw_tos", at, problem, ErrorKind::BadActionBadArgument));
    }
    Ok(tos >> 2)
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

fn put_mac(kind: u16, value: MacAddr, out: &mut Vec<u8>) -> u16 {
    out.extend_from_slice(&value.0);
    out.zeros(6);
    kind
}

fn put_ipv4(kind: u16, value: Ipv4Addr, out: &mut Vec<u8>) -> u16 {
    out.extend_from_slice(&value.octets());
    kind
}
