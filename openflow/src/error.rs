//! Why bytes do not decode, and why a value does not encode.

use crate::{ErrorKind, Version};

/// Bytes that are no message of their version: what, where, and what to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("OpenFlow {message}: {field} at byte {offset}: {problem}")]
pub struct DecodeError {
    /// Name of the message, as `FLOW_MOD`.
    pub message: &'static str,
    /// Name of the field in the specification, without its prefix.
    pub field: &'static str,
    /// Where the field begins, in bytes from the start of the message.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
    pub(crate) kind: ErrorKind,
}

impl DecodeError {
    /// The error type and code with which the protocol answers this message.
    pub fn error_kind(&self) -> ErrorKind {
        self.kind
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The message or the structure around the field ends before it.
    #[error("{needed} bytes are needed, {available} are left")]
    Truncated {
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// Bytes are left where the structure should end.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A length field disagrees with what it measures.
    #[error("length {0} is not allowed here")]
    BadLength(usize),
    /// A value that the specification does not define.
    #[error("value {0:#x} is not defined")]
    BadValue(u64),
    /// Lists or messages in each other, more of them than any real message has.
    #[error("nested more than {0} deep")]
    TooDeep(u8),
    /// The field may not carry a mask.
    #[error("this field takes no mask")]
    MaskNotAllowed,
}

/// A value that the chosen version has no bytes for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The version has no such thing.
    #[error("OpenFlow {version} cannot express {what}")]
    NotInVersion {
        /// The thing, as `match field ipv6_src`.
        what: String,
        /// The version asked for.
        version: Version,
    },
    /// More bytes than the field or the message holds.
    #[error("{what} takes {size_bytes} bytes, at most {max_bytes} are possible")]
    TooLong {
        /// The thing.
        what: &'static str,
        /// Its size.
        size_bytes: usize,
        /// The room there is.
        max_bytes: usize,
    },
    /// A value that would not mean on the wire what it says here.
    #[error("{what}: {why}")]
    Invalid {
        /// The thing.
        what: String,
        /// What is wrong, and what would be right.
        why: &'static str,
    },
}

impl EncodeError {
    pub(crate) fn not_in(version: Version, what: impl Into<String>) -> Self {
        Self::NotInVersion { what: what.into(), version }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: &'static str) -> Self {
        Self::Invalid { what: what.into(), why }
    }
}
