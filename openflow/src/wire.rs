//! Reading and writing of big-endian fields, with the place of each for errors.

use crate::{
    BufferId, Cookie, DecodeError, EncodeError, ErrorKind, FixedText, GroupId, MacAddr, MeterFlags, MeterId,
    PortNo, Problem, TableId, Version, Xid,
};

/// How deep lists of actions may be nested in each other, and messages in messages. Real ones have two levels;
/// the bound keeps hostile ones from exhausting the stack.
pub(crate) const MAX_NESTING: u8 = 8;

/// A cursor over a message or a structure in it.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    message: &'static str,
    len_error: ErrorKind,
    version: Version,
    nesting: u8,
}

impl<'a> Reader<'a> {
    /// A reader of a whole message, header included.
    pub(crate) fn new(bytes: &'a [u8], version: Version, message: &'static str) -> Self {
        Self { bytes, offset: 0, message, len_error: ErrorKind::BadRequestBadLen, version, nesting: 0 }
    }

    /// The same reader, of a message that lies in others.
    pub(crate) fn at_nesting(mut self, nesting: u8) -> Self {
        self.nesting = nesting;
        self
    }

    /// The same reader, one level deeper; an error about `field` when that is too deep.
    pub(crate) fn nested(mut self, field: &'static str) -> Result<Self, DecodeError> {
        if self.nesting >= MAX_NESTING {
            let problem = Problem::TooDeep(MAX_NESTING);
            return Err(self.error(field, self.offset, problem, self.len_error));
        }
        self.nesting += 1;
        Ok(self)
    }

    /// How deep it is.
    pub(crate) fn nesting(&self) -> u8 {
        self.nesting
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The same reader, answering wrong lengths with `len_error` where its version has that code.
    pub(crate) fn blaming(mut self, len_error: ErrorKind) -> Self {
        if len_error.to_wire(self.version).is_some() {
            self.len_error = len_error;
        }
        self
    }

    /// An error about a field that began at `offset`.
    pub(crate) fn error(
        &self,
        field: &'static str,
        offset: usize,
        problem: Problem,
        kind: ErrorKind,
    ) -> DecodeError {
        // What the version has no code for is answered as a wrong length.
        let kind = if kind.to_wire(self.version).is_some() { kind } else { self.len_error };
        DecodeError { message: self.message, field, offset, problem, kind }
    }

    /// A length field that began `back` bytes before the cursor is wrong.
    pub(crate) fn bad_length(&self, field: &'static str, back: usize, length: usize) -> DecodeError {
        self.error(field, self.offset.saturating_sub(back), Problem::BadLength(length), self.len_error)
    }

    pub(crate) fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((head, tail)) = self.bytes.split_at_checked(count) else {
            let problem = Problem::Truncated { needed: count, available: self.bytes.len() };
            return Err(self.error(field, self.offset, problem, self.len_error));
        };
        self.bytes = tail;
        self.offset += count;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    /// The next bytes, which stay unread; `None` when there are not so many.
    pub(crate) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        self.bytes.first_chunk().copied()
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(crate) fn mac(&mut self, field: &'static str) -> Result<MacAddr, DecodeError> {
        self.array(field).map(MacAddr)
    }

    /// A port number, of 16 bits in 1.0 and 32 in 1.3.
    pub(crate) fn port(&mut self, field: &'static str) -> Result<PortNo, DecodeError> {
        match self.version {
            Version::V1_0 => self.u16(field).map(PortNo::from_v1_0),
            Version::V1_3 => self.u32(field).map(PortNo),
        }
    }

    /// An error about a value of `size` bytes that was just read.
    pub(crate) fn bad_value(
        &self,
        field: &'static str,
        size: usize,
        value: impl Into<u64>,
        kind: ErrorKind,
    ) -> DecodeError {
        self.error(field, self.offset.saturating_sub(size), Problem::BadValue(value.into()), kind)
    }

    /// A length field of 16 bits that counts itself and the `before` bytes in front of what follows; gives a reader
    /// of the rest of the structure.
    pub(crate) fn rest_of(&mut self, before: usize, field: &'static str) -> Result<Self, DecodeError> {
        let length = usize::from(self.u16(field)?);
        match length.checked_sub(before) {
            Some(rest) => self.sub(rest, field),
            None => Err(self.bad_length(field, 2, length)),
        }
    }

    /// Padding; its bytes are not looked at.
    pub(crate) fn pad(&mut self, count: usize) -> Result<(), DecodeError> {
        self.take(count, "pad").map(|_| ())
    }

    /// A fixed-size text up to its first NUL.
    pub(crate) fn text(&mut self, count: usize, field: &'static str) -> Result<FixedText, DecodeError> {
        let bytes = self.take(count, field)?;
        Ok(FixedText(bytes.iter().copied().take_while(|byte| *byte != 0).collect()))
    }

    /// A reader of the next `count` bytes.
    pub(crate) fn sub(&mut self, count: usize, field: &'static str) -> Result<Self, DecodeError> {
        let (offset, bytes) = (self.offset, self.take(count, field)?);
        Ok(Self { bytes, offset, ..self.clone() })
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = std::mem::take(&mut self.bytes);
        self.offset += rest.len();
        rest
    }

    /// Nothing may be left.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            count => Err(self.error("end", self.offset, Problem::Trailing(count), self.len_error)),
        }
    }
}

/// Writing of fields at the end of a message.
pub(crate) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn zeros(&mut self, count: usize);
    /// A text filled up with NULs; it may fill the field whole.
    fn put_text(&mut self, text: &FixedText, size: usize, what: &'static str) -> Result<(), EncodeError>;
    /// A port number, of 16 bits in 1.0 and 32 in 1.3.
    fn put_port(&mut self, port: PortNo, version: Version) -> Result<(), EncodeError>;
    /// Overwrites the 16 bits at `at` with the bytes from `start` to the end, as their length.
    fn patch_len(&mut self, at: usize, start: usize, what: &'static str) -> Result<(), EncodeError>;
    /// Overwrites the 16 bits at `at`.
    fn patch_u16(&mut self, at: usize, value: u16);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn zeros(&mut self, count: usize) {
        self.resize(self.len() + count, 0);
    }

    fn put_text(&mut self, text: &FixedText, size: usize, what: &'static str) -> Result<(), EncodeError> {
        if text.0.len() > size {
            return Err(EncodeError::TooLong { what, size_bytes: text.0.len(), max_bytes: size });
        }
        if text.0.contains(&0) {
            return Err(EncodeError::invalid(what, "a NUL would end the text"));
        }
        self.extend_from_slice(&text.0);
        self.zeros(size - text.0.len());
        Ok(())
    }

    fn put_port(&mut self, port: PortNo, version: Version) -> Result<(), EncodeError> {
        match version {
            Version::V1_0 => {
                let port = port
                    .to_v1_0()
                    .ok_or_else(|| EncodeError::not_in(version, format!("port number {port}")))?;
                self.put_u16(port);
            }
            Version::V1_3 => self.put_u32(port.0),
        }
        Ok(())
    }

    fn patch_len(&mut self, at: usize, start: usize, what: &'static str) -> Result<(), EncodeError> {
        let size_bytes = self.len().saturating_sub(start);
        let length = u16::try_from(size_bytes).map_err(|_| EncodeError::TooLong {
            what,
            size_bytes,
            max_bytes: usize::from(u16::MAX),
        })?;
        self.patch_u16(at, length);
        Ok(())
    }

    fn patch_u16(&mut self, at: usize, value: u16) {
        if let Some(slot) = self.get_mut(at..at + 2) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// A value with one place in a fixed layout. See [`layout!`].
pub(crate) trait Wire: Sized {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError>;
    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

macro_rules! numbers {
    ($($type:ty = $read:ident, $put:ident, |$value:ident| $raw:expr, $back:expr;)*) => {
        $(impl Wire for $type {
            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
                reader.$read(field).map($back)
            }

            fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                let $value = self;
                out.$put($raw);
                Ok(())
            }
        })*
    };
}

numbers! {
    u8 = u8, put_u8, |value| *value, |value| value;
    u16 = u16, put_u16, |value| *value, |value| value;
    u32 = u32, put_u32, |value| *value, |value| value;
    u64 = u64, put_u64, |value| *value, |value| value;
    BufferId = u32, put_u32, |value| value.0, BufferId;
    Cookie = u64, put_u64, |value| value.0, Cookie;
    GroupId = u32, put_u32, |value| value.0, GroupId;
    MeterFlags = u16, put_u16, |value| value.0, MeterFlags;
    MeterId = u32, put_u32, |value| value.0, MeterId;
    TableId = u8, put_u8, |value| value.0, TableId;
    Xid = u32, put_u32, |value| value.0, Xid;
}

impl Wire for PortNo {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        reader.port(field)
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_port(*self, version)
    }
}

impl<const N: usize> Wire for [u32; N] {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let mut words = [0; N];
        for word in &mut words {
            *word = reader.u32(field)?;
        }
        Ok(words)
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.iter().for_each(|word| out.put_u32(*word));
        Ok(())
    }
}

/// A port number of 16 bits whatever the version: Nicira's extensions have no others.
pub(crate) mod port16 {
    use super::{DecodeError, EncodeError, PortNo, Put, Reader, Version};

    pub(crate) fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<PortNo, DecodeError> {
        reader.u16(field).map(PortNo::from_v1_0)
    }

    pub(crate) fn put(port: &PortNo, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let number = port.to_v1_0();
        out.put_u16(number.ok_or_else(|| EncodeError::invalid("port number", "it has 16 bits here"))?);
        Ok(())
    }
}

/// Reading and writing of a struct whose fields lie one behind the other in every version, from one list:
/// `layout! { Type: field, field as module, field + 4 }`. `+ 4` are bytes of padding behind the field, `4 +` in front
/// of all; a module has `read` and `put` of its own.
macro_rules! layout {
    ($type:ident: $($lead:literal + )? $($field:ident $(as $how:ident)? $(+ $pad:literal)?),* $(,)?) => {
        impl $crate::wire::Wire for $type {
            fn read(
                reader: &mut $crate::wire::Reader<'_>,
                _: &'static str,
            ) -> Result<Self, $crate::DecodeError> {
                $(reader.pad($lead)?;)?
                $(
                    let $field = $crate::wire::layout!(@read reader $field $($how)?);
                    $(reader.pad($pad)?;)?
                )*
                Ok(Self { $($field),* })
            }

            fn put(
                &self,
                version: $crate::Version,
                out: &mut Vec<u8>,
            ) -> Result<(), $crate::EncodeError> {
                $($crate::wire::Put::zeros(out, $lead);)?
                $(
                    $crate::wire::layout!(@put (&self.$field) version out $($how)?);
                    $($crate::wire::Put::zeros(out, $pad);)?
                )*
                Ok(())
            }
        }
    };
    (@read $reader:ident $field:ident) => { $crate::wire::Wire::read($reader, stringify!($field))? };
    (@read $reader:ident $field:ident $how:ident) => { $how::read($reader, stringify!($field))? };
    (@put ($value:expr) $version:ident $out:ident) => { $crate::wire::Wire::put($value, $version, $out)? };
    (@put ($value:expr) $version:ident $out:ident $how:ident) => { $how::put($value, $version, $out)? };
}
pub(crate) use layout;

/// Reads entries, of which each takes some bytes, up to the end of the reader.
pub(crate) fn read_all<'a, T>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(read(reader)?);
    }
    Ok(entries)
}

/// Writes values one behind the other.
pub(crate) fn put_all<T: Wire>(values: &[T], version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    values.iter().try_for_each(|value| value.put(version, out))
}

/// Bytes that fill `length` up to a multiple of 8.
pub(crate) fn pad8(length: usize) -> usize {
    length.wrapping_neg() & 7
}

/// Refuses what the version has no bytes for, unless it has its neutral value.
pub(crate) fn refuse(present: bool, version: Version, what: &str) -> Result<(), EncodeError> {
    if present { Err(EncodeError::not_in(version, what)) } else { Ok(()) }
}
