//! OXM fields and the match of 1.3 (7.2.3).
//!
//! ```text
//!  type=1 (16) | length (16) | OXM ... | zeros to a multiple of 8, not in length
//!  OXM: class (16) | field (7) | has_mask (1) | length (8) | value | mask, if has_mask
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use super::id::{CLASS_EXPERIMENTER, CLASS_PACKET_REGS};
use super::{ExperimenterField, Match, MatchField, NxmField};
use crate::wire::{Put, Reader, pad8, read_all};
use crate::{DecodeError, EncodeError, ErrorKind, MacAddr, PortNo, Problem};

pub(crate) const CLASS_BASIC: u16 = 0x8000;
const MATCH_TYPE_OXM: u16 = 1;
const HEADER_BYTES: usize = 4;

/// A value that an OXM field carries.
pub(crate) trait OxmValue: Sized {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError>;
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! oxm_values {
    ($($type:ty, $value:ident => $bytes:expr, $back:expr;)*) => {
        $(impl OxmValue for $type {
            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
                reader.array(field).map($back)
            }

            fn put(&self, out: &mut Vec<u8>) {
                let $value = self;
                out.extend_from_slice(&$bytes);
            }
        })*
    };
}

oxm_values! {
    u8, value => value.to_be_bytes(), u8::from_be_bytes;
    u16, value => value.to_be_bytes(), u16::from_be_bytes;
    u32, value => value.to_be_bytes(), u32::from_be_bytes;
    u64, value => value.to_be_bytes(), u64::from_be_bytes;
    u128, value => value.to_be_bytes(), u128::from_be_bytes;
    [u8; 3], value => *value, |bytes: [u8; 3]| bytes;
    PortNo, value => value.0.to_be_bytes(), |bytes| PortNo(u32::from_be_bytes(bytes));
    MacAddr, value => value.0, MacAddr;
    Ipv4Addr, value => value.octets(), |bytes: [u8; 4]| Ipv4Addr::from(bytes);
    Ipv6Addr, value => value.octets(), |bytes: [u8; 16]| Ipv6Addr::from(bytes);
}

/// Reads the body of a field that takes no mask.
pub(crate) fn read_plain<T: OxmValue>(
    has_mask: bool,
    body: &mut Reader<'_>,
    name: &'static str,
) -> Result<T, DecodeError> {
    if has_mask {
        let kind = ErrorKind::BadMatchBadMask;
        return Err(body.error(name, body.offset(), Problem::MaskNotAllowed, kind));
    }
    T::read(body, name)
}

/// Reads the body of a field that may have a mask.
pub(crate) fn read_masked<T: OxmValue>(
    has_mask: bool,
    body: &mut Reader<'_>,
    name: &'static str,
) -> Result<(T, Option<T>), DecodeError> {
    let value = T::read(body, name)?;
    let mask = if has_mask { Some(T::read(body, name)?) } else { None };
    Ok((value, mask))
}

/// Writes a field of the basic class.
pub(crate) fn put_basic<T: OxmValue>(out: &mut Vec<u8>, code: u8, value: &T, mask: Option<&T>) {
    put_typed(out, CLASS_BASIC, code, value, mask);
}

/// Writes a field of any class but that of experimenters.
pub(crate) fn put_typed<T: OxmValue>(out: &mut Vec<u8>, class: u16, code: u8, value: &T, mask: Option<&T>) {
    out.put_u16(class);
    out.put_u8(code << 1 | u8::from(mask.is_some()));
    let length_at = out.len();
    out.put_u8(0);
    value.put(out);
    if let Some(mask) = mask {
        mask.put(out);
    }
    let length = out.len() - length_at - 1;
    if let (Some(slot), Ok(length)) = (out.get_mut(length_at), u8::try_from(length)) {
        *slot = length;
    }
}

/// Writes a field whose bytes are kept as they came.
pub(crate) fn put_raw(
    out: &mut Vec<u8>,
    class: u16,
    code: u8,
    has_mask: bool,
    body: &[u8],
) -> Result<(), EncodeError> {
    let max_bytes = usize::from(u8::MAX);
    let too_long = EncodeError::TooLong { what: "OXM field", size_bytes: body.len(), max_bytes };
    let length = u8::try_from(body.len()).map_err(|_| too_long)?;
    if code > 0x7f {
        return Err(EncodeError::invalid("OXM field number", "it has 7 bits"));
    }
    out.put_u16(class);
    out.put_u8(code << 1 | u8::from(has_mask));
    out.put_u8(length);
    out.extend_from_slice(body);
    Ok(())
}

/// Reads one OXM field.
pub(crate) fn decode_field(reader: &mut Reader<'_>) -> Result<MatchField, DecodeError> {
    let class = reader.u16("oxm_class")?;
    let byte = reader.u8("oxm_field")?;
    let (field, has_mask) = (byte >> 1, byte & 1 == 1);
    let length = usize::from(reader.u8("oxm_length")?);
    let body = reader.sub(length, "oxm_value")?;
    let mut typed = body.clone();
    match read_typed(class, field, has_mask, &mut typed) {
        Ok(Some(known)) => typed.finish().map(|()| known),
        // Open vSwitch masks fields that the specification does not allow to: what it lists has to be readable.
        Err(DecodeError { problem: Problem::MaskNotAllowed, .. }) | Ok(None) => {
            Ok(MatchField::Raw { class, field, has_mask, body: body.clone().rest().to_vec() })
        }
        Err(error) => Err(error),
    }
}

/// Reads the body of a field; `None` when the class has no such field.
fn read_typed(
    class: u16,
    field: u8,
    has_mask: bool,
    body: &mut Reader<'_>,
) -> Result<Option<MatchField>, DecodeError> {
    match class {
        CLASS_BASIC => MatchField::read_basic(field, has_mask, body),
        CLASS_PACKET_REGS => {
            let (value, mask) = read_masked(has_mask, body, "PKT_REG")?;
            Ok(Some(MatchField::PacketReg { index: field, value, mask }))
        }
        CLASS_EXPERIMENTER => {
            ExperimenterField::read(field, has_mask, body).map(|known| known.map(MatchField::Experimenter))
        }
        class => NxmField::read(class, field, has_mask, body).map(|known| known.map(MatchField::Nxm)),
    }
}

/// Writes one OXM field.
pub(crate) fn encode_field(field: &MatchField, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if field.put_basic(out) {
        return Ok(());
    }
    match field {
        MatchField::Nxm(field) => field.put(out),
        MatchField::PacketReg { index, .. } if *index > 0x7f => {
            Err(EncodeError::invalid("packet register", "its number has 7 bits"))
        }
        MatchField::PacketReg { index, value, mask } => {
            put_typed(out, CLASS_PACKET_REGS, *index, value, mask.as_ref());
            Ok(())
        }
        MatchField::Experimenter(field) => field.put(out),
        MatchField::Raw { class, field, has_mask, body } => put_raw(out, *class, *field, *has_mask, body),
        field => {
            let why = "1.3 needs the field of one protocol, as tcp_src or icmpv4_type";
            Err(EncodeError::invalid(format!("match field {field}"), why))
        }
    }
}

/// Reads a match with its padding.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Match, DecodeError> {
    let mut fields = Vec::new();
    for_each(reader, |field| fields.push(field))?;
    Ok(Match::from(fields))
}

/// Reads a match with its padding, and gives each field to `take`.
pub(crate) fn for_each(reader: &mut Reader<'_>, mut take: impl FnMut(MatchField)) -> Result<(), DecodeError> {
    let mut outer = reader.clone().blaming(ErrorKind::BadMatchBadLen);
    let at = outer.offset();
    let kind = outer.u16("match.type")?;
    if kind != MATCH_TYPE_OXM {
        let problem = Problem::BadValue(u64::from(kind));
        return Err(outer.error("match.type", at, problem, ErrorKind::BadMatchBadType));
    }
    let length = usize::from(outer.u16("match.length")?);
    let Some(fields_len) = length.checked_sub(HEADER_BYTES) else {
        return Err(outer.bad_length("match.length", 2, length));
    };
    let mut fields = outer.sub(fields_len, "match")?;
    outer.pad(pad8(length))?;
    reader.take(length + pad8(length), "match")?;
    while !fields.is_empty() {
        take(decode_field(&mut fields)?);
    }
    Ok(())
}

/// Reads a match of the port alone, as most packet-ins have it, with its padding; the reader stays where it is when the
/// match is another.
pub(crate) fn in_port_alone(reader: &mut Reader<'_>) -> Option<PortNo> {
    // Type OXM, length 12; basic class, field 0, no mask, length 4; then the port and 4 bytes of padding.
    const HEAD: [u8; 8] = [0, 1, 0, 12, 0x80, 0, 0, 4];
    let [head @ .., a, b, c, d, _, _, _, _] = reader.peek::<16>()?;
    if head != HEAD {
        return None;
    }
    reader.pad(16).ok()?;
    Some(PortNo(u32::from_be_bytes([a, b, c, d])))
}

/// Reads fields without a header around them, `length` bytes with padding behind them: the match of Nicira's messages.
pub(crate) fn decode_nx(reader: &mut Reader<'_>, length: usize) -> Result<Match, DecodeError> {
    let mut outer = reader.clone().blaming(ErrorKind::BadMatchBadLen);
    let mut fields = outer.sub(length, "nx_match")?;
    outer.pad(pad8(length))?;
    reader.take(length + pad8(length), "nx_match")?;
    Ok(Match::from(read_all(&mut fields, decode_field)?))
}

/// Writes fields without a header around them, and their padding; gives the length without it.
pub(crate) fn encode_nx(match_: &Match, out: &mut Vec<u8>) -> Result<u16, EncodeError> {
    let start = out.len();
    match_.fields.iter().try_for_each(|field| encode_field(field, out))?;
    let size_bytes = out.len() - start;
    out.zeros(pad8(size_bytes));
    let max_bytes = usize::from(u16::MAX);
    u16::try_from(size_bytes).map_err(|_| EncodeError::TooLong { what: "match", size_bytes, max_bytes })
}

/// Writes a match with its padding.
pub(crate) fn encode(match_: &Match, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u16(MATCH_TYPE_OXM);
    out.put_u16(0);
    for field in &match_.fields {
        encode_field(field, out)?;
    }
    out.patch_len(start + 2, start, "match")?;
    out.zeros(pad8(out.len() - start));
    Ok(())
}
