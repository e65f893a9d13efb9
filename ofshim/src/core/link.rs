//! The way out of the core to one switch, and what its parts are lent while they handle something.

use std::time::Duration;

use openflow::{EncodeError, Message, PacketOutRef, Version, Xid};

use super::event::{Command, ConnId, Level, Settings};
use super::limit::Limiter;
use super::outbox::{Outbox, Slot};
use super::report::LogKey;
use super::vip::VipKnowledge;

/// What a session may look at and write to while it handles something.
pub struct Context<'a> {
    /// What a person chose.
    pub settings: &'a Settings,
    /// What is known of the balancer.
    pub known: &'a VipKnowledge,
    /// Which repeated lines were said when.
    pub limiter: &'a mut Limiter<LogKey>,
    /// What has to be done.
    pub commands: &'a mut Outbox,
    /// The time since an origin that does not change.
    pub now: Duration,
}

impl Context<'_> {
    /// Writes a line to the log.
    pub fn log(&mut self, level: Level, text: String) {
        self.commands.push(Command::Log { level, text });
    }
}

/// Where messages to one switch go: its connection, version, and the transaction ids used so far.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub conn: ConnId,
    /// Where it came from.
    pub peer: String,
    /// The version agreed on; before that the one to write in.
    pub version: Version,
    /// How many messages there were.
    pub messages: MessageCounts,
    last_xid: u32,
    slot: Slot,
}

/// Where a message has its type (1.0: 5.1, 1.3: 7.1).
const TYPE_AT: usize = 1;
/// How many type bytes are counted; those of both versions are lower.
pub const MESSAGE_TYPES: usize = 32;

/// How many messages of each type byte there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// From the switch.
    pub received: [u64; MESSAGE_TYPES],
    /// To the switch.
    pub sent: [u64; MESSAGE_TYPES],
}

impl MessageCounts {
    /// Counts a message from the switch. Types that no version has are refused, and not counted.
    pub fn receive(&mut self, kind: u8) {
        count(&mut self.received, kind);
    }

    /// Counts a message to the switch.
    pub fn send(&mut self, kind: u8) {
        count(&mut self.sent, kind);
    }

    /// Adds what another connection had.
    pub fn add(&mut self, other: &Self) {
        let both = [(&mut self.received, &other.received), (&mut self.sent, &other.sent)];
        for (sums, counts) in both {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
}

fn count(counts: &mut [u64; MESSAGE_TYPES], kind: u8) {
    if let Some(count) = counts.get_mut(usize::from(kind)) {
        *count += 1;
    }
}

impl Link {
    /// A connection on which nothing was sent yet.
    pub fn new(conn: ConnId, peer: String, version: Version) -> Self {
        Self { conn, peer, version, messages: MessageCounts::default(), last_xid: 0, slot: Slot::NONE }
    }

    /// Sends a message under a new transaction id.
    pub fn send(&mut self, message: &Message, ctx: &mut Context<'_>) -> Xid {
        let xid = self.next_xid();
        self.send_as(message, xid, ctx);
        xid
    }

    /// Sends a packet under a new transaction id.
    pub fn send_packet(&mut self, packet: &PacketOutRef<'_>, ctx: &mut Context<'_>) {
        let (version, xid) = (self.version, self.next_xid());
        self.write(ctx, |out| packet.encode(version, xid, out));
    }

    /// Sends a message that is written by `write`, under a new transaction id; whether it wrote one.
    pub fn send_written(
        &mut self,
        ctx: &mut Context<'_>,
        write: impl FnOnce(Xid, &mut Vec<u8>) -> bool,
    ) -> bool {
        let xid = self.next_xid();
        let out = ctx.commands.bytes_to(self.conn, &mut self.slot);
        let start = out.len();
        let wrote = write(xid, out);
        if wrote {
            self.messages.send(out.get(start + TYPE_AT).copied().unwrap_or(u8::MAX));
        }
        wrote
    }

    /// Sends a message under a given transaction id.
    pub fn send_as(&mut self, message: &Message, xid: Xid, ctx: &mut Context<'_>) {
        let version = self.version;
        self.write(ctx, |out| message.encode(version, xid, out));
    }

    /// A new transaction id.
    pub const fn next_xid(&mut self) -> Xid {
        self.last_xid = self.last_xid.wrapping_add(1);
        Xid(self.last_xid)
    }

    fn write(&mut self, ctx: &mut Context<'_>, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) {
        let out = ctx.commands.bytes_to(self.conn, &mut self.slot);
        let start = out.len();
        match encode(out) {
            Ok(()) => self.messages.send(out.get(start + TYPE_AT).copied().unwrap_or(u8::MAX)),
            Err(error) => ctx.log(Level::Warn, format!("message to {} not sent: {error}", self.peer)),
        }
    }
}
