//! A network in memory: the controller, and switches that obey its messages. Tests say where a frame goes in, and
//! see where it comes out.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod fabric;
mod parts;
pub mod segment;
mod station;
mod switch;

use std::collections::BTreeMap;
use std::time::Duration;

use ofshim::core::{Command, ConnId, Controller, Event, Level, Settings};
use openflow::{MacAddr, Message, PortNo, Version, Xid};

pub use fabric::Fabric;
pub use parts::{parts, whole};
pub use segment::Segment;
pub use station::Station;
pub use switch::{Flow, Model};

/// The controller and its switches.
pub struct Net {
    pub controller: Controller,
    pub now: Duration,
    pub switches: BTreeMap<ConnId, Model>,
    pub closed: Vec<ConnId>,
    pub log: Vec<(Level, String)>,
    /// How often the balancer's daemon was asked.
    pub asks: usize,
    next: u64,
}

impl Net {
    pub fn new(settings: Settings) -> Self {
        Self {
            controller: Controller::new(settings),
            now: Duration::from_secs(1),
            switches: BTreeMap::new(),
            closed: Vec::new(),
            log: Vec::new(),
            asks: 0,
            next: 0,
        }
    }

    /// A network of one switch of `version` with these ports, ready.
    pub fn single(version: Version, ports: u32) -> (Self, ConnId) {
        let mut net = Self::new(Settings::learning());
        let conn = net.connect(Model::new(version, 1, ports));
        assert!(net.is_ready(), "{:?}", net.log);
        (net, conn)
    }

    pub fn is_ready(&self) -> bool {
        !self.controller.topology().switches.is_empty()
    }

    /// Connects a switch and lets both sides talk until they are silent.
    pub fn connect(&mut self, model: Model) -> ConnId {
        let conn = ConnId(self.next);
        self.next += 1;
        let hello = model.hello();
        self.switches.insert(conn, model);
        self.handle(Event::Connected { conn, peer: format!("peer-{}", conn.0) });
        self.bytes(conn, hello);
        conn
    }

    /// Ends a connection and gives the switch back, with what it has in its tables.
    pub fn disconnect(&mut self, conn: ConnId) -> Model {
        let mut model = self.switches.remove(&conn).unwrap();
        model.inbox.clear();
        self.handle(Event::Closed { conn, reason: "gone".to_owned() });
        model
    }

    pub fn bytes(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.handle(Event::Bytes { conn, bytes });
    }

    pub fn send(&mut self, conn: ConnId, message: &Message) {
        let bytes = self.switches[&conn].encode(message, Xid(77));
        self.bytes(conn, bytes);
    }

    pub fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let commands = self.controller.handle(event, self.now);
            events.extend(self.obey(commands));
        }
    }

    /// Does what the controller wants done, outside of an event.
    pub fn order(&mut self, commands: Vec<Command>) {
        for event in self.obey(commands) {
            self.handle(event);
        }
    }

    /// What follows from commands.
    fn obey(&mut self, commands: Vec<Command>) -> Vec<Event> {
        let mut events = Vec::new();
        for command in commands {
            match command {
                Command::Send { conn, bytes } => {
                    let Some(model) = self.switches.get_mut(&conn) else { continue };
                    for message in messages(&bytes) {
                        model.receive(message);
                    }
                }
                Command::Close { conn } => self.closed.push(conn),
                Command::AskDaemon => self.asks += 1,
                Command::Log { level, text } => self.log.push((level, text)),
            }
        }
        for (conn, model) in &mut self.switches {
            if !model.outbox.is_empty() && !self.closed.contains(conn) {
                let bytes = std::mem::take(&mut model.outbox);
                events.push(Event::Bytes { conn: *conn, bytes });
            }
        }
        events
    }

    /// Lets time pass, in ticks, in the controller and in the switches.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.next_time();
            for model in self.switches.values_mut() {
                model.expire(self.now);
            }
            self.handle(Event::Tick);
        }
    }

    /// When the controller is woken next: by the regular tick, or when it asked for it.
    pub fn next_time(&self) -> Duration {
        let tick = self.now + Duration::from_millis(100);
        let soonest = self.now + Duration::from_millis(1);
        self.controller.next_wake().map_or(tick, |wake| wake.max(soonest).min(tick))
    }

    /// A frame comes in on a port of a switch; where it comes out, in order of port.
    pub fn inject(&mut self, conn: ConnId, port: u32, frame: &[u8]) -> Vec<u32> {
        self.inject_as(conn, port, frame, None)
    }

    /// The same; a packet-in carries this many bytes and a buffer.
    pub fn inject_as(&mut self, conn: ConnId, port: u32, frame: &[u8], cut: Option<usize>) -> Vec<u32> {
        let model = self.switches.get_mut(&conn).unwrap();
        model.now = self.now;
        model.emitted.clear();
        model.frame_in(PortNo(port), frame, cut);
        let bytes = std::mem::take(&mut model.outbox);
        if !bytes.is_empty() {
            self.bytes(conn, bytes);
        }
        let model = self.switches.get_mut(&conn).unwrap();
        let mut out: Vec<u32> = model.emitted.iter().map(|(port, _)| port.0).collect();
        assert!(model.emitted.iter().all(|(_, bytes)| bytes == frame), "a frame came out changed");
        out.sort_unstable();
        out
    }

    /// The same; what comes out may be changed, and other frames may come out too. By port.
    pub fn inject_raw(
        &mut self,
        conn: ConnId,
        port: u32,
        frame: &[u8],
        cut: Option<usize>,
    ) -> Vec<(u32, Vec<u8>)> {
        let model = self.switches.get_mut(&conn).unwrap();
        model.now = self.now;
        model.emitted.clear();
        model.frame_in(PortNo(port), frame, cut);
        let bytes = std::mem::take(&mut model.outbox);
        if !bytes.is_empty() {
            self.bytes(conn, bytes);
        }
        self.emitted(conn)
    }

    /// What came out since the last frame went in, by port.
    pub fn emitted(&mut self, conn: ConnId) -> Vec<(u32, Vec<u8>)> {
        let model = self.switches.get_mut(&conn).unwrap();
        let mut out: Vec<_> = model.emitted.drain(..).map(|(port, bytes)| (port.0, bytes)).collect();
        out.sort();
        out
    }

    pub fn model(&self, conn: ConnId) -> &Model {
        &self.switches[&conn]
    }

    pub fn logged(&self, part: &str) -> usize {
        self.log.iter().filter(|(_, text)| text.contains(part)).count()
    }
}

/// The messages in bytes that hold them whole.
pub fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while bytes.len() > 4 {
        let (message, rest) = bytes.split_at(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])));
        messages.push(message);
        bytes = rest;
    }
    assert!(bytes.is_empty(), "messages are sent whole");
    messages
}

/// Where a dropped frame comes out.
pub const NOWHERE: [u32; 0] = [];
pub const BROADCAST: MacAddr = MacAddr::BROADCAST;

pub const fn host(number: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 0, number])
}

/// An Ethernet frame of 60 bytes with an IPv4-like payload that nobody looks at.
pub fn frame(src: MacAddr, dst: MacAddr) -> Vec<u8> {
    let mut bytes = [dst.0, src.0].concat();
    bytes.extend([0x08, 0x00]);
    bytes.resize(60, 0x5a);
    bytes
}

/// Flags of TCP.
pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;

/// A TCP segment of 54 bytes: MACs, then address and port of both ends.
pub fn tcp(macs: (MacAddr, MacAddr), from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8) -> Vec<u8> {
    let segment = Segment {
        src_mac: macs.0,
        dst_mac: macs.1,
        vlan: None,
        src: from.into(),
        dst: to.into(),
        protocol: segment::TCP,
        flags,
        payload: Vec::new(),
    };
    segment.bytes()
}

pub fn tagged(src: MacAddr, dst: MacAddr, vid: u16) -> Vec<u8> {
    let mut bytes = frame(src, dst);
    let [high, low] = vid.to_be_bytes();
    bytes.splice(12..12, [0x81, 0x00, high, low]);
    bytes
}

pub fn arp(operation: u8, src: MacAddr, dst: MacAddr, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut bytes = [dst.0, src.0].concat();
    bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
    bytes.extend(src.0);
    bytes.extend(sender);
    bytes.extend(if dst == BROADCAST { [0; 6] } else { dst.0 });
    bytes.extend(target);
    bytes
}
