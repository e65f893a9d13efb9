//! HELLO and the choice of a version (1.3: 6.3.1, 7.5.1).

use crate::wire::{Put, Reader, pad8};
use crate::{DecodeError, EncodeError, Version};

/// The first message of both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Hello {
    /// Elements that could be read, in order.
    pub elements: Vec<HelloElement>,
    /// Whether the elements follow each other without the padding to 8 bytes that the specification wants; some
    /// controllers leave it out.
    pub unpadded: bool,
    /// What could not be read as elements; the specification says to ignore it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
    pub trailing: Vec<u8>,
}

/// One element of a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum HelloElement {
    /// Versions that the sender speaks: bit `v % 32` of word `v / 32` stands for wire version `v`.
    VersionBitmap(Vec<u32>),
    /// An element that the specification does not define.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows the 4-byte header, padding not included.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

impl Hello {
    /// A hello that offers these versions in its bitmap.
    pub fn offering(versions: &[Version]) -> Self {
        let bits = versions.iter().fold(0, |bits, version| bits | 1 << version.to_wire());
        Self { elements: vec![HelloElement::VersionBitmap(vec![bits])], ..Self::default() }
    }

    /// The version bitmap, if the sender gave one.
    pub fn version_bitmap(&self) -> Option<&[u32]> {
        self.elements.iter().find_map(|element| match element {
            HelloElement::VersionBitmap(words) => Some(words.as_slice()),
            HelloElement::Other { .. } => None,
        })
    }

    /// Whether the sender of this hello speaks a version; `header_version` is the hello's own version byte.
    ///
    /// Without a bitmap the sender speaks its header's version, and the lower one of both sides is taken.
    pub fn speaks(&self, header_version: u8, version: Version) -> bool {
        match self.version_bitmap() {
            Some(words) => words.first().is_some_and(|word| word >> version.to_wire() & 1 == 1),
            None => version.to_wire() <= header_version,
        }
    }

    /// The highest of our versions that the sender of this hello speaks.
    ///
    /// Without a bitmap this is the lower of both header versions, as 6.3.1 says: when that is a version
    /// not in `ours`, there is no common one.
    pub fn negotiate(&self, header_version: u8, ours: &[Version]) -> Option<Version> {
        if self.version_bitmap().is_some() {
            return ours.iter().copied().filter(|version| self.speaks(header_version, *version)).max();
        }
        let highest = ours.iter().copied().max()?;
        if highest.to_wire() <= header_version {
            return Some(highest);
        }
        Version::from_wire(header_version).filter(|version| ours.contains(version))
    }
}

const VERSION_BITMAP: u16 = 1;
/// Type and length of an element.
const ELEMENT_HEADER_BYTES: usize = 4;

/// Reads elements as long as they can be read; the rest is kept.
pub(crate) fn decode(body: &mut Reader<'_>) -> Hello {
    let unpadded = decode_all(body.clone(), false);
    let padded = decode_all(body.clone(), true);
    let is_unpadded = !padded.trailing.is_empty() && unpadded.trailing.is_empty();
    body.rest();
    if is_unpadded { unpadded } else { padded }
}

fn decode_all(mut body: Reader<'_>, is_padded: bool) -> Hello {
    let mut elements = Vec::new();
    while let Ok((element, after)) = decode_element(body.clone(), is_padded) {
        elements.push(element);
        body = after;
    }
    Hello { elements, unpadded: !is_padded, trailing: body.rest().to_vec() }
}

/// Writes elements and what trails them.
pub(crate) fn encode(hello: &Hello, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    for element in &hello.elements {
        let start = out.len();
        match element {
            HelloElement::VersionBitmap(words) => {
                out.put_u16(VERSION_BITMAP);
                out.put_u16(0);
                for word in words {
                    out.put_u32(*word);
                }
            }
            HelloElement::Other { kind, body } => {
                out.put_u16(*kind);
                out.put_u16(0);
                out.extend_from_slice(body);
            }
        }
        out.patch_len(start + 2, start, "hello element")?;
        out.zeros(if hello.unpadded { 0 } else { pad8(out.len() - start) });
    }
    out.extend_from_slice(&hello.trailing);
    Ok(())
}

/// One element, and what follows it. Padding that is not zero is none.
fn decode_element(
    mut reader: Reader<'_>,
    is_padded: bool,
) -> Result<(HelloElement, Reader<'_>), DecodeError> {
    let kind = reader.u16("element.type")?;
    let length = usize::from(reader.u16("element.length")?);
    let Some(body_len) = length.checked_sub(ELEMENT_HEADER_BYTES) else {
        return Err(reader.bad_length("element.length", 2, length));
    };
    let mut body = reader.sub(body_len, "element")?;
    let padding = reader.take(if is_padded { pad8(length) } else { 0 }, "pad")?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(reader.bad_length("element.length", 2, length));
    }
    if kind != VERSION_BITMAP {
        return Ok((HelloElement::Other { kind, body: body.rest().to_vec() }, reader));
    }
    let mut words = Vec::new();
    while !body.is_empty() {
        words.push(body.u32("element.bitmaps")?);
    }
    Ok((HelloElement::VersionBitmap(words), reader))
}
