//! A byte stream cut into messages by the length in their headers; nothing else is looked at.

use crate::{DecodeError, ErrorKind, FrameRef, Message, Version, Xid};

/// Size of the header that every message of every version begins with.
pub const HEADER_BYTES: usize = 8;
/// Longest message: the length field has 16 bits.
pub const MAX_MESSAGE_BYTES: usize = 65535;
/// After [`Framer::next_frame`] gave `None` there is room for at least this many bytes.
pub const READ_CHUNK_BYTES: usize = 16 * 1024;

const CAPACITY: usize = MAX_MESSAGE_BYTES + READ_CHUNK_BYTES;

/// One whole message, not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Version byte of the header, perhaps one that this codec does not speak.
    pub version: u8,
    /// Type byte of the header.
    pub kind: u8,
    /// Transaction id.
    pub xid: Xid,
    /// The whole message, header included.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Decodes the message.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn decode(&self) -> Result<(Version, Xid, Message), DecodeError> {
        Message::decode(&self.bytes)
    }
}

/// Why a stream cannot be cut any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is below the header's own size, so where the next message begins is unknown.
    #[error(
        "message header says {length} bytes, the header alone takes 8: the stream cannot be followed further"
    )]
    ShortLength {
        /// The length field.
        length: u16,
        /// The header, to answer with.
        header: [u8; HEADER_BYTES],
    },
    /// The reader pushed more than [`Framer::room`].
    #[error("{pushed} bytes were pushed where {room} had room: take frames out before reading on")]
    Overflow {
        /// Bytes pushed; none of them was taken.
        pushed: usize,
        /// Bytes that would have been taken.
        room: usize,
    },
}

impl FrameError {
    /// The error type and code to answer with before the connection is dropped.
    pub fn error_kind(&self) -> ErrorKind {
        ErrorKind::BadRequestBadLen
    }
}

/// Collects bytes and gives whole messages; holds one longest message and one read at most.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    start: usize,
    dead: bool,
}

impl Framer {
    /// An empty framer.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes [`Framer::push`] takes now.
    pub fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.buffer.len().saturating_sub(self.start))
    }

    /// True once the stream was found unfollowable; what is pushed then is dropped.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Appends what was read, all of it or nothing.
    ///
    /// # Errors
    /// [`FrameError::Overflow`] when the bytes are more than [`Framer::room`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if self.dead {
            return Ok(());
        }
        let room = self.room();
        if bytes.len() > room {
            return Err(FrameError::Overflow { pushed: bytes.len(), room });
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole message, or `None` until more bytes come.
    ///
    /// A length below 8 is reported once; from then on the framer is dead and gives `None`.
    pub fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        self.next_frame_ref().map(|frame| frame.map(|frame| frame.to_frame()))
    }

    /// As [`Framer::next_frame`], without a copy: the frame borrows from the framer, until the next one is asked for.
    pub fn next_frame_ref(&mut self) -> Option<Result<FrameRef<'_>, FrameError>> {
        let header = *self.buffer.get(self.start..)?.first_chunk::<HEADER_BYTES>()?;
        let [version, kind, len_high, len_low, xid @ ..] = header;
        let length = u16::from_be_bytes([len_high, len_low]);
        if usize::from(length) < HEADER_BYTES {
            *self = Self { dead: true, ..Self::default() };
            return Some(Err(FrameError::ShortLength { length, header }));
        }
        let bytes = self.buffer.get(self.start..)?.get(..usize::from(length))?;
        self.start += bytes.len();
        Some(Ok(FrameRef { version, kind, xid: Xid(u32::from_be_bytes(xid)), bytes }))
    }
}
