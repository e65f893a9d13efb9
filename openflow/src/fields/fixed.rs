//! The fixed match of 1.0 (5.2.3), 40 bytes.
//!
//! ```text
//!  wildcards (32)
//!  in_port (16) | dl_src (48) | dl_dst (48) | dl_vlan (16) | dl_vlan_pcp (8) | pad (8)
//!  dl_type (16) | nw_tos (8) | nw_proto (8) | pad (16) | nw_src (32) | nw_dst (32)
//!  tp_src (16) | tp_dst (16)
//! ```
//! Each wildcard bit leaves one field out; nw_src and nw_dst have 6-bit counts of low bits left out.
//! With dl_type 0x0806 the network fields are ARP's, and with nw_proto 1 the transport fields are ICMP's.
//! What stands in the place of a field that is left out means nothing, and neither do the upper 4 bits of dl_vlan and the
//! lower 2 of nw_tos; it is kept beside the match, so that the match is written as it came, and is no part of its value.

use std::net::Ipv4Addr;

use super::{Match, MatchField, Spare, VLAN_PRESENT};
use crate::wire::{Put, Reader};
use crate::{DecodeError, EncodeError, MacAddr, PortNo, Version};

const IN_PORT: u32 = 1;
const DL_VLAN: u32 = 1 << 1;
const DL_SRC: u32 = 1 << 2;
const DL_DST: u32 = 1 << 3;
const DL_TYPE: u32 = 1 << 4;
const NW_PROTO: u32 = 1 << 5;
const TP_SRC: u32 = 1 << 6;
const TP_DST: u32 = 1 << 7;
const NW_SRC_SHIFT: u32 = 8;
const NW_DST_SHIFT: u32 = 14;
const DL_VLAN_PCP: u32 = 1 << 20;
const NW_TOS: u32 = 1 << 21;
const UNDEFINED: u32 = !0x003f_ffff;

const VLAN_NONE: u16 = 0xffff;
/// Bits of the upper byte of dl_vlan that mean nothing.
const VLAN_SPARE: u8 = 0xf0;
/// Bits of nw_tos that mean nothing.
const TOS_SPARE: u8 = 3;
const ETH_IPV4: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;

/// Bytes behind the wildcards.
const FIELD_BYTES: usize = 36;

/// Reads a match.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Match, DecodeError> {
    let raw = reader.clone().array::<{ 4 + FIELD_BYTES }>("match")?;
    let wildcards = reader.u32("match.wildcards")?;
    let in_port = reader.port("match.in_port")?;
    let dl_src = reader.mac("match.dl_src")?;
    let dl_dst = reader.mac("match.dl_dst")?;
    let dl_vlan = reader.u16("match.dl_vlan")?;
    let dl_vlan_pcp = reader.u8("match.dl_vlan_pcp")?;
    reader.pad(1)?;
    let dl_type = reader.u16("match.dl_type")?;
    let nw_tos = reader.u8("match.nw_tos")?;
    let nw_proto = reader.u8("match.nw_proto")?;
    reader.pad(2)?;
    let nw_src = reader.u32("match.nw_src")?;
    let nw_dst = reader.u32("match.nw_dst")?;
    let tp_src = reader.u16("match.tp_src")?;
    let tp_dst = reader.u16("match.tp_dst")?;

    let mut fields = Vec::new();
    let mut add = |bit: u32, field: MatchField| {
        if wildcards & bit == 0 {
            fields.push(field);
        }
    };
    add(IN_PORT, MatchField::InPort(in_port));
    add(DL_DST, MatchField::EthDst { value: dl_dst, mask: None });
    add(DL_SRC, MatchField::EthSrc { value: dl_src, mask: None });
    add(DL_TYPE, MatchField::EthType(dl_type));
    let vid = if dl_vlan == VLAN_NONE { 0 } else { VLAN_PRESENT | (dl_vlan & 0xfff) };
    add(DL_VLAN, MatchField::VlanVid { value: vid, mask: None });
    add(DL_VLAN_PCP, MatchField::VlanPcp(dl_vlan_pcp));
    add(NW_TOS, MatchField::IpDscp(nw_tos >> 2));
    let eth_type = (wildcards & DL_TYPE == 0).then_some(dl_type);
    let is_arp = eth_type == Some(ETH_ARP);
    let proto = if is_arp { MatchField::ArpOp(u16::from(nw_proto)) } else { MatchField::IpProto(nw_proto) };
    add(NW_PROTO, proto);
    if let Some((value, mask)) = prefix(nw_src, wildcards >> NW_SRC_SHIFT & 0x3f) {
        let arp = MatchField::ArpSpa { value, mask };
        fields.push(if is_arp { arp } else { MatchField::Ipv4Src { value, mask } });
    }
    if let Some((value, mask)) = prefix(nw_dst, wildcards >> NW_DST_SHIFT & 0x3f) {
        let arp = MatchField::ArpTpa { value, mask };
        fields.push(if is_arp { arp } else { MatchField::Ipv4Dst { value, mask } });
    }
    let ip_proto = (eth_type == Some(ETH_IPV4) && wildcards & NW_PROTO == 0).then_some(nw_proto);
    if wildcards & TP_SRC == 0 {
        fields.push(transport_src(ip_proto, tp_src));
    }
    if wildcards & TP_DST == 0 {
        fields.push(transport_dst(ip_proto, tp_dst));
    }
    Ok(Match {
        fields,
        spare: Spare { wildcards: spare_bits(wildcards), left_out: left_out(wildcards, &raw) },
    })
}

/// The bytes behind the wildcards, if there is anything but zeros where a field is left out, or between fields.
fn left_out(wildcards: u32, raw: &[u8; 4 + FIELD_BYTES]) -> Option<Box<[u8; FIELD_BYTES]>> {
    let fields = raw.last_chunk::<FIELD_BYTES>()?;
    let has_prefix = |shift: u32| wildcards >> shift & 0x20 == 0;
    let is_given = |at: usize| match at {
        0..2 => wildcards & IN_PORT == 0,
        2..8 => wildcards & DL_SRC == 0,
        8..14 => wildcards & DL_DST == 0,
        14..16 => wildcards & DL_VLAN == 0,
        16 => wildcards & DL_VLAN_PCP == 0,
        18..20 => wildcards & DL_TYPE == 0,
        20 => wildcards & NW_TOS == 0,
        21 => wildcards & NW_PROTO == 0,
        24..28 => has_prefix(NW_SRC_SHIFT),
        28..32 => has_prefix(NW_DST_SHIFT),
        32..34 => wildcards & TP_SRC == 0,
        34..36 => wildcards & TP_DST == 0,
        _ => false,
    };
    let is_spare = fields.iter().enumerate().any(|(at, byte)| *byte != 0 && !is_given(at));
    let has_odd_bits = fields[20] & TOS_SPARE != 0 || fields[14] & VLAN_SPARE != 0;
    (is_spare || has_odd_bits).then(|| Box::new(*fields))
}

/// Writes a match.
pub(crate) fn encode(match_: &Match, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut slots = Slots::default();
    for field in &match_.fields {
        slots.take(field)?;
    }
    slots.check()?;
    slots.emit(&match_.spare, out)
}

/// The bits of the wildcards that mean nothing, for [`Spare`].
fn spare_bits(wildcards: u32) -> u32 {
    let low_bits = |shift: u32| {
        if wildcards >> shift & 0x20 != 0 {
            wildcards & 0x1f << shift
        } else {
            Spare::ALL_LOW & 0x1f << shift
        }
    };
    wildcards & UNDEFINED | low_bits(NW_SRC_SHIFT) | low_bits(NW_DST_SHIFT)
}

/// Address and mask for a count of low bits left out; `None` when that is all of them.
fn prefix(address: u32, ignored_bits: u32) -> Option<(Ipv4Addr, Option<Ipv4Addr>)> {
    if ignored_bits >= 32 {
        return None;
    }
    let mask = (ignored_bits > 0).then(|| Ipv4Addr::from_bits(u32::MAX << ignored_bits));
    Some((Ipv4Addr::from_bits(address), mask))
}

fn transport_src(ip_proto: Option<u8>, port: u16) -> MatchField {
    match (ip_proto, u8::try_from(port)) {
        (Some(1), Ok(icmp_type)) => MatchField::Icmpv4Type(icmp_type),
        (Some(6), _) => MatchField::TcpSrc(port),
        (Some(17), _) => MatchField::UdpSrc(port),
        _ => MatchField::TpSrc(port),
    }
}

fn transport_dst(ip_proto: Option<u8>, port: u16) -> MatchField {
    match (ip_proto, u8::try_from(port)) {
        (Some(1), Ok(icmp_code)) => MatchField::Icmpv4Code(icmp_code),
        (Some(6), _) => MatchField::TcpDst(port),
        (Some(17), _) => MatchField::UdpDst(port),
        _ => MatchField::TpDst(port),
    }
}

/// The fields of the fixed match, each there or left out.
#[derive(Default)]
struct Slots {
    in_port: Option<PortNo>,
    dl_src: Option<MacAddr>,
    dl_dst: Option<MacAddr>,
    dl_vlan: Option<u16>,
    dl_vlan_pcp: Option<u8>,
    dl_type: Option<u16>,
    nw_tos: Option<u8>,
    nw_proto: Option<u8>,
    nw_src: Option<(Ipv4Addr, u32)>,
    nw_dst: Option<(Ipv4Addr, u32)>,
    tp_src: Option<u16>,
    tp_dst: Option<u16>,
    /// The match has fields of IP, and of which of its protocols; or fields of ARP.
    has_ip: bool,
    has_arp: bool,
    needs_proto: Option<u8>,
}

impl Slots {
    fn take(&mut self, field: &MatchField) -> Result<(), EncodeError> {
        use MatchField as F;
        match field {
            F::InPort(port) => fill(&mut self.in_port, *port, field),
            F::EthDst { value, mask } => fill_mac(&mut self.dl_dst, *value, *mask, field),
            F::EthSrc { value, mask } => fill_mac(&mut self.dl_src, *value, *mask, field),
            F::EthType(value) => fill(&mut self.dl_type, *value, field),
            F::VlanVid { value, mask } => self.take_vlan(*value, *mask, field),
            F::VlanPcp(value) => fill(&mut self.dl_vlan_pcp, *value, field),
            F::IpDscp(value) if *value < 64 => fill(&mut self.nw_tos, value << 2, field),
            F::IpProto(value) => {
                self.has_ip = true;
                fill(&mut self.nw_proto, *value, field)
            }
            F::ArpOp(value) => {
                self.has_arp = true;
                let value = u8::try_from(*value).map_err(|_| cannot(field))?;
                fill(&mut self.nw_proto, value, field)
            }
            F::Ipv4Src { value, mask } | F::ArpSpa { value, mask } => {
                self.note_family(field);
                fill_prefix(&mut self.nw_src, *value, *mask, field)
            }
            F::Ipv4Dst { value, mask } | F::ArpTpa { value, mask } => {
                self.note_family(field);
                fill_prefix(&mut self.nw_dst, *value, *mask, field)
            }
            F::TcpSrc(port) => self.take_src(Some(6), *port, field),
            F::UdpSrc(port) => self.take_src(Some(17), *port, field),
            F::Icmpv4Type(value) => self.take_src(Some(1), u16::from(*value), field),
            F::TpSrc(port) => self.take_src(None, *port, field),
            F::TcpDst(port) => self.take_dst(Some(6), *port, field),
            F::UdpDst(port) => self.take_dst(Some(17), *port, field),
            F::Icmpv4Code(value) => self.take_dst(Some(1), u16::from(*value), field),
            F::TpDst(port) => self.take_dst(None, *port, field),
            _ => Err(cannot(field)),
        }
    }

    fn note_family(&mut self, field: &MatchField) {
        let is_arp = matches!(field, MatchField::ArpSpa { .. } | MatchField::ArpTpa { .. });
        self.has_arp |= is_arp;
        self.has_ip |= !is_arp;
    }

    fn take_vlan(&mut self, value: u16, mask: Option<u16>, field: &MatchField) -> Result<(), EncodeError> {
        if mask.is_some_and(|mask| mask & 0x1fff != 0x1fff) {
            return Err(cannot(field));
        }
        match value {
            0 => fill(&mut self.dl_vlan, VLAN_NONE, field),
            vid if vid & !0xfff == VLAN_PRESENT => fill(&mut self.dl_vlan, vid & 0xfff, field),
            _ => Err(EncodeError::invalid("match field vlan_vid", "a tag's id needs the bit VLAN_PRESENT")),
        }
    }

    fn take_src(&mut self, proto: Option<u8>, port: u16, field: &MatchField) -> Result<(), EncodeError> {
        self.needs_proto = proto.or(self.needs_proto);
        fill(&mut self.tp_src, port, field)
    }

    fn take_dst(&mut self, proto: Option<u8>, port: u16, field: &MatchField) -> Result<(), EncodeError> {
        self.needs_proto = proto.or(self.needs_proto);
        fill(&mut self.tp_dst, port, field)
    }

    /// 1.0 tells IP, ARP and their protocols apart by dl_type and nw_proto alone.
    fn check(&self) -> Result<(), EncodeError> {
        if self.has_arp && self.dl_type != Some(ETH_ARP) {
            return Err(EncodeError::invalid("match fields of ARP", "1.0 needs eth_type 0x0806 beside them"));
        }
        if self.has_ip && self.dl_type == Some(ETH_ARP) {
            return Err(EncodeError::invalid(
                "match fields of IPv4",
                "with eth_type 0x0806 they would be ARP's",
            ));
        }
        let told = self.dl_type == Some(ETH_IPV4) && self.nw_proto == self.needs_proto;
        if self.needs_proto.is_some() && !told {
            let why = "1.0 needs eth_type 0x0800 and the ip_proto beside them";
            return Err(EncodeError::invalid("match fields of a transport protocol", why));
        }
        Ok(())
    }

    fn emit(&self, spare: &Spare, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let absent = |there: bool, bit: u32| if there { 0 } else { bit };
        let count = |slot: Option<(Ipv4Addr, u32)>, shift: u32| match slot {
            Some((_, ignored_bits)) => ignored_bits << shift,
            None => 0x20 << shift | spare.wildcards & 0x1f << shift,
        };
        let wildcards = spare.wildcards & UNDEFINED
            | absent(self.in_port.is_some(), IN_PORT)
            | absent(self.dl_vlan.is_some(), DL_VLAN)
            | absent(self.dl_src.is_some(), DL_SRC)
            | absent(self.dl_dst.is_some(), DL_DST)
            | absent(self.dl_type.is_some(), DL_TYPE)
            | absent(self.nw_proto.is_some(), NW_PROTO)
            | absent(self.tp_src.is_some(), TP_SRC)
            | absent(self.tp_dst.is_some(), TP_DST)
            | absent(self.dl_vlan_pcp.is_some(), DL_VLAN_PCP)
            | absent(self.nw_tos.is_some(), NW_TOS)
            | count(self.nw_src, NW_SRC_SHIFT)
            | count(self.nw_dst, NW_DST_SHIFT);
        out.put_u32(wildcards);
        let start = out.len();
        match &spare.left_out {
            Some(left_out) => out.extend_from_slice(left_out.as_slice()),
            None => out.zeros(FIELD_BYTES),
        }
        let fields = out.get_mut(start..).unwrap_or_default();
        self.fill(fields, spare.left_out.as_deref())
    }

    /// Writes the fields that are there into the bytes behind the wildcards.
    fn fill(&self, fields: &mut [u8], before: Option<&[u8; FIELD_BYTES]>) -> Result<(), EncodeError> {
        let in_port = self.in_port.map(|port| {
            let number = port.to_v1_0();
            number.ok_or_else(|| EncodeError::not_in(Version::V1_0, format!("port number {port}")))
        });
        set(fields, 0, in_port.transpose()?.map(u16::to_be_bytes));
        set(fields, 2, self.dl_src.map(|address| address.0));
        set(fields, 8, self.dl_dst.map(|address| address.0));
        // A value that is still the one that came keeps its spare bits.
        let vlan_before = before.map(|before| u16::from_be_bytes([before[14], before[15]]));
        let vlan = vlan_before.filter(|vlan| *vlan != VLAN_NONE && self.dl_vlan == Some(vlan & 0xfff));
        set(fields, 14, vlan.or(self.dl_vlan).map(u16::to_be_bytes));
        set(fields, 16, self.dl_vlan_pcp.map(u8::to_be_bytes));
        set(fields, 18, self.dl_type.map(u16::to_be_bytes));
        let tos_before = before.map(|before| before[20]);
        let tos = tos_before.filter(|tos| self.nw_tos == Some(tos & !TOS_SPARE));
        set(fields, 20, tos.or(self.nw_tos).map(u8::to_be_bytes));
        set(fields, 21, self.nw_proto.map(u8::to_be_bytes));
        set(fields, 24, self.nw_src.map(|(address, _)| address.octets()));
        set(fields, 28, self.nw_dst.map(|(address, _)| address.octets()));
        set(fields, 32, self.tp_src.map(u16::to_be_bytes));
        set(fields, 34, self.tp_dst.map(u16::to_be_bytes));
        Ok(())
    }
}

/// Writes a field at its place, if it is there.
fn set<const N: usize>(fields: &mut [u8], at: usize, value: Option<[u8; N]>) {
    if let (Some(value), Some(slot)) = (value, fields.get_mut(at..at + N)) {
        slot.copy_from_slice(&value);
    }
}

fn cannot(field: &MatchField) -> EncodeError {
    let mask = if field.has_mask() { " with this mask" } else { "" };
    EncodeError::not_in(Version::V1_0, format!("match field {field}{mask}"))
}

fn fill<T>(slot: &mut Option<T>, value: T, field: &MatchField) -> Result<(), EncodeError> {
    if slot.replace(value).is_some() {
        let why = "1.0 has one place for it, and it is given twice";
        return Err(EncodeError::invalid(format!("match field {field}"), why));
    }
    Ok(())
}

fn fill_mac(
    slot: &mut Option<MacAddr>,
    value: MacAddr,
    mask: Option<MacAddr>,
    field: &MatchField,
) -> Result<(), EncodeError> {
    if mask.is_some_and(|mask| mask != MacAddr::BROADCAST) {
        return Err(cannot(field));
    }
    fill(slot, value, field)
}

fn fill_prefix(
    slot: &mut Option<(Ipv4Addr, u32)>,
    value: Ipv4Addr,
    mask: Option<Ipv4Addr>,
    field: &MatchField,
) -> Result<(), EncodeError> {
    let mask = mask.map_or(u32::MAX, Ipv4Addr::to_bits);
    let ignored_bits = mask.trailing_zeros();
    if mask.leading_ones() + ignored_bits != 32 {
        return Err(cannot(field));
    }
    if ignored_bits == 32 { Ok(()) } else { fill(slot, (value, ignored_bits), field) }
}
