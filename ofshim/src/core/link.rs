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
    last_xid: u32,
    slot: Slot,
}

impl Link {
    /// A connection on which nothing was sent yet.
    pub const fn new(conn: ConnId, peer: String, version: Version) -> Self {
        Self { conn, peer, version, last_xid: 0, slot: Slot::NONE }
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
        write(xid, ctx.commands.bytes_to(self.conn, &mut self.slot))
    }

    /// Sends a message under a given transaction id.
    pub fn send_as(&mut self, message: &Message, xid: Xid, ctx: &mut Context<'_>) {
        let version = self.version;
        self.write(ctx, |out| message.encode(version, xid, out));
    }

    fn next_xid(&mut self) -> Xid {
        self.last_xid = self.last_xid.wrapping_add(1);
        Xid(self.last_xid)
    }

    fn write(&mut self, ctx: &mut Context<'_>, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) {
        if let Err(error) = encode(ctx.commands.bytes_to(self.conn, &mut self.slot)) {
            ctx.log(Level::Warn, format!("message to {} not sent: {error}", self.peer));
        }
    }
}
