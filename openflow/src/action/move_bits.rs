//! Copying of bits from field to field: Nicira's move and ONF's copy_field (EXT-320), which mean the same.
//!
//! ```text
//!  move:                     n_bits (16) | src offset (16) | dst offset (16)            | src field | dst field
//!  copy_field: 0 (16)      | n_bits (16) | src offset (16) | dst offset (16) | 0 (16) | src field | dst field
//! ```

use crate::wire::{Put, Reader, layout, pad8};
use crate::{DecodeError, EncodeError, FieldId, ONF, Version};

use super::Action;

/// Copies bits of one field into another; a field is 4 bytes on the wire, or 8 when it is an experimenter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MoveBits {
    /// How many bits.
    pub n_bits: u16,
    /// Lowest bit in the source.
    pub src_offset_bits: u16,
    /// Lowest bit in the destination.
    pub dst_offset_bits: u16,
    /// The source.
    pub src: FieldId,
    /// The destination.
    pub dst: FieldId,
}

layout! { MoveBits: n_bits, src_offset_bits, dst_offset_bits, src, dst }

/// Type of copy_field among ONF's actions.
pub(super) const COPY_FIELD: u16 = 3200;
/// Bytes in front of what follows experimenter and type: those, and type and length of the action.
const HEADER_BYTES: usize = 10;

/// Reads what follows the experimenter of an ONF action; another one than copy_field is kept as it came.
pub(super) fn decode_onf(body: &mut Reader<'_>) -> Result<Action, DecodeError> {
    let whole = body.clone();
    if body.u16("onf_action.exp_type")? != COPY_FIELD {
        *body = whole;
        return Ok(Action::Experimenter { experimenter: ONF, body: body.rest().to_vec() });
    }
    let available = body.remaining();
    body.pad(2)?;
    let (n_bits, src_offset_bits) = (body.u16("copy_field.n_bits")?, body.u16("copy_field.src_offset")?);
    let dst_offset_bits = body.u16("copy_field.dst_offset")?;
    body.pad(2)?;
    let src = FieldId::read_long(body, "copy_field.src")?;
    let dst = FieldId::read_long(body, "copy_field.dst")?;
    let used = available - body.remaining();
    body.pad(pad8(HEADER_BYTES + used))?;
    Ok(Action::CopyField(MoveBits { n_bits, src_offset_bits, dst_offset_bits, src, dst }))
}

/// Writes what follows type and length of ONF's copy_field.
pub(super) fn encode_onf(bits: &MoveBits, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if version == Version::V1_0 {
        return Err(EncodeError::not_in(version, "action copy_field"));
    }
    let start = out.len() - super::HEADER_BYTES;
    out.put_u32(ONF);
    out.put_u16(COPY_FIELD);
    out.zeros(2);
    out.put_u16(bits.n_bits);
    out.put_u16(bits.src_offset_bits);
    out.put_u16(bits.dst_offset_bits);
    out.zeros(2);
    bits.src.put_long(out)?;
    bits.dst.put_long(out)?;
    out.zeros(pad8(out.len() - start));
    Ok(())
}
