//! Byte streams cut into messages, and TCP segments put in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use openflow::{HEADER_BYTES, Version};

use crate::segments::Segment;

/// Bytes that one direction may wait for a segment that is missing.
const MAX_PENDING_BYTES: usize = 1 << 20;
/// The highest type of any version.
const LAST_TYPE: u8 = 35;

/// Whole messages at the beginning, and what is left.
pub fn cut(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut messages = Vec::new();
    while let Some(length) = length_of(bytes)
        && let Some((message, rest)) = bytes.split_at_checked(length)
    {
        messages.push(message);
        bytes = rest;
    }
    (messages, bytes)
}

/// The length in a header, if there is a whole one that can be followed.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let [_, _, high, low, ..] = bytes.first_chunk::<HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (length >= HEADER_BYTES).then_some(length)
}

/// The directions of all connections.
#[derive(Default)]
pub struct Streams {
    directions: BTreeMap<(SocketAddr, SocketAddr), Direction>,
}

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    /// Sequence number of the next byte.
    next: Option<u32>,
    /// Bytes in order that are no whole message yet.
    buffer: Vec<u8>,
    /// Segments beyond a gap, by sequence number.
    pending: BTreeMap<u32, Vec<u8>>,
    pending_bytes: usize,
}

impl Streams {
    /// Takes a segment; gives the messages that it completes.
    pub fn take(&mut self, segment: &Segment<'_>) -> Vec<Result<Vec<u8>, String>> {
        let direction = self.directions.entry((segment.from, segment.to)).or_default();
        if segment.begins {
            *direction = Direction { next: Some(segment.sequence.wrapping_add(1)), ..Direction::default() };
        }
        if !segment.data.is_empty() {
            direction.insert(segment.sequence, segment.data);
        }
        direction.messages()
    }
}

impl Direction {
    fn insert(&mut self, sequence: u32, data: &[u8]) {
        // A capture may begin in the middle of a connection: with the first segment that looks like a message.
        if self.next.is_none() {
            if !looks_like_a_message(data) {
                return;
            }
            self.next = Some(sequence);
        }
        self.pending_bytes += data.len();
        if let Some(before) = self.pending.insert(sequence, data.to_vec()) {
            self.pending_bytes -= before.len();
        }
        self.advance();
        if self.pending_bytes > MAX_PENDING_BYTES {
            // What is missing never comes: go on behind the gap.
            *self = Self::default();
        }
    }

    /// Moves what is in order to the buffer.
    fn advance(&mut self) {
        while let Some(next) = self.next {
            let at_hand = |sequence: &u32| next.wrapping_sub(*sequence) < u32::MAX / 2;
            let Some(sequence) = self.pending.keys().copied().find(at_hand) else { return };
            let data = self.pending.remove(&sequence).unwrap_or_default();
            self.pending_bytes -= data.len();
            let known = usize::try_from(next.wrapping_sub(sequence)).unwrap_or(usize::MAX);
            if let Some(fresh) = data.get(known..) {
                self.buffer.extend_from_slice(fresh);
                let count = u32::try_from(fresh.len()).unwrap_or_default();
                self.next = Some(next.wrapping_add(count));
            }
        }
    }

    /// Takes whole messages out of the buffer.
    fn messages(&mut self) -> Vec<Result<Vec<u8>, String>> {
        let (messages, rest) = cut(&self.buffer);
        let mut pieces: Vec<_> = messages.iter().map(|message| Ok(message.to_vec())).collect();
        let rest = rest.to_vec();
        let is_lost = rest.len() >= HEADER_BYTES && length_of(&rest).is_none();
        self.buffer = rest;
        if is_lost {
            pieces.push(Err(
                "a header with a length below 8: the stream cannot be followed further".to_owned()
            ));
            *self = Self::default();
        }
        pieces
    }
}

fn looks_like_a_message(data: &[u8]) -> bool {
    let version = data.first().and_then(|byte| Version::from_wire(*byte));
    version.is_some() && data.get(1).is_some_and(|kind| *kind <= LAST_TYPE) && length_of(data).is_some()
}
