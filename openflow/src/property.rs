//! Properties: type (16) | length (16) | value | zeros to a multiple of 8, not in the length.

use crate::wire::{Put, Reader, pad8};
use crate::{DecodeError, EncodeError};

/// One property, its value not yet read.
pub(crate) struct Property<'a> {
    /// Wire type.
    pub(crate) kind: u16,
    /// What follows type and length.
    pub(crate) body: &'a [u8],
}

const HEADER_BYTES: usize = 4;

impl<'a> Property<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (kind, mut body) = Self::open(reader)?;
        Ok(Self { kind, body: body.rest() })
    }

    /// Type, and a reader of the value.
    pub(crate) fn open(reader: &mut Reader<'a>) -> Result<(u16, Reader<'a>), DecodeError> {
        let kind = reader.u16("property.type")?;
        let body = reader.rest_of(HEADER_BYTES, "property.length")?;
        reader.pad(pad8(HEADER_BYTES + body.remaining()))?;
        Ok((kind, body))
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_property(self.kind, out, |out| {
            out.extend_from_slice(self.body);
            Ok(())
        })
    }
}

/// Writes a property whose value `body` writes.
pub(crate) fn put_property(
    kind: u16,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u16(kind);
    out.put_u16(0);
    body(out)?;
    out.patch_len(start + 2, start, "property")?;
    out.zeros(pad8(out.len() - start));
    Ok(())
}
