//! How values are serialized: addresses and numbers in the notation of their field, bytes as hex digits.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};

use crate::{Cookie, DatapathId, ErrorKind, FieldId, FixedText, MacAddr, Match, PortNo, Version};

macro_rules! by_display {
    ($($type:ty),*) => {
        $(impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })*
    };
}

by_display!(Cookie, DatapathId, ErrorKind, FieldId, FixedText, MacAddr, Version);

impl Serialize for PortNo {
    /// A number, or the name of a reserved port.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_reserved() { serializer.collect_str(self) } else { serializer.serialize_u32(self.0) }
    }
}

impl Serialize for Match {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields.serialize(serializer)
    }
}

/// A value of a match field; those beyond 64 bits as text.
pub(crate) trait Shown {
    fn show<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

macro_rules! shown {
    ($($type:ty),*) => {
        $(impl Shown for $type {
            fn show<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }
        })*
    };
}

shown!(u8, u16, u32, u64, MacAddr, Ipv4Addr, Ipv6Addr);

impl Shown for u128 {
    fn show<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:#x}"))
    }
}

/// Serializes a value of a match field.
pub(crate) fn shown<T: Shown, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.show(serializer)
}

/// Serializes a mask of a match field.
pub(crate) fn shown_option<T: Shown, S: Serializer>(
    mask: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match mask {
        Some(mask) => mask.show(serializer),
        None => serializer.serialize_none(),
    }
}

/// Serializes bytes as hex digits.
pub(crate) fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Hex(bytes))
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
