//! What has to be done, as it is collected while one event is handled: the messages for a connection in one piece.

use super::event::{Command, ConnId};

/// Where a connection's messages are collected: in which event, and in which piece of it.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    event: u64,
    piece: usize,
}

impl Slot {
    /// Nothing was sent yet.
    pub const NONE: Self = Self { event: 0, piece: 0 };
}

/// The commands of one event.
#[derive(Debug)]
pub struct Outbox {
    pieces: Vec<(ConnId, Vec<u8>)>,
    others: Vec<Command>,
    event: u64,
    expected_bytes: usize,
}

impl Outbox {
    /// For the event with this number, from 1 on; about so many bytes are expected to be sent to one connection.
    pub const fn new(event: u64, expected_bytes: usize) -> Self {
        Self { pieces: Vec::new(), others: Vec::new(), event, expected_bytes }
    }

    /// Adds a command other than to send something.
    pub fn push(&mut self, command: Command) {
        self.others.push(command);
    }

    /// The bytes that are sent to a connection, to append to. `slot` is the connection's own.
    pub fn bytes_to(&mut self, conn: ConnId, slot: &mut Slot) -> &mut Vec<u8> {
        if slot.event != self.event {
            *slot = Slot { event: self.event, piece: self.pieces.len() };
            self.pieces.push((conn, Vec::with_capacity(self.expected_bytes)));
        }
        &mut self.pieces[slot.piece].1
    }

    /// The commands: first what is sent, since nothing is sent after closing, then the others in order.
    pub fn into_commands(self) -> Vec<Command> {
        let written = self.pieces.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        let sends = written.map(|(conn, bytes)| Command::Send { conn, bytes });
        sends.chain(self.others).collect()
    }
}
