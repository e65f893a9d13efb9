//! One fake switch: its connection, its handshake, and the packets that it waits for.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Instant;

use anyhow::{Result, bail};
use openflow::{
    DatapathId, ErrorMsg, FeaturesReply, FixedText, Hello, MacAddr, Message, MultipartReply, Port, PortNo,
    ReplyBody, RequestBody, SwitchConfig, Version, Xid,
};

use crate::packet::{Host, Template, answered, asked_for, opener};
use crate::table::Table;

/// While more waits to be written no further packets are made.
const MAX_UNSENT_BYTES: usize = 256 << 10;
/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;
const HEADER_BYTES: usize = 8;
/// Bytes of a refused message that the answer quotes (1.3, 7.4.4).
const QUOTED_BYTES: usize = 64;
const TYPE_PACKET_OUT: u8 = 13;
const TYPE_FLOW_MOD: u8 = 14;

/// What a switch and the hosts behind it are like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The version that it speaks.
    pub version: Version,
    /// Hosts behind it, a multiple of the ports.
    pub hosts: u32,
    /// Ports that they are spread over.
    pub ports: u16,
    /// Pairs of hosts that send, one after the other; then from the start.
    pub flows: u32,
    /// Entries that its table has room for; 0 keeps them all and never tells their end.
    pub table: usize,
    /// Packets that wait for their answer, at most.
    pub window: usize,
    /// The VIP that the hosts of the first switch open connections to, in place of their other flows; nobody else sends.
    pub vip: Option<SocketAddrV4>,
}

/// What came back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Packet-ins that were answered, each counted once.
    pub replies: u64,
    /// Flow-mods.
    pub flow_mods: u64,
    /// Packet-outs that answer a packet that was answered already, or never sent.
    pub strays: u64,
}

/// One fake switch.
pub struct Switch {
    stream: TcpStream,
    number: u16,
    shape: Shape,
    template: Template,
    table: Table,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    written: usize,
    /// The number of the next packet.
    next: u32,
    /// The unanswered packets by number modulo the length; 0 for none, else the number and one.
    waiting: Vec<u32>,
    open: usize,
    sent_at: Instant,
    /// It told who it is.
    pub known: bool,
    /// What came back.
    pub counts: Counts,
    /// Nanoseconds from a packet to its answer, while only one waits at a time.
    pub latencies_ns: Vec<u32>,
}

impl Switch {
    /// A switch on a fresh connection, which says hello.
    ///
    /// # Errors
    /// The connection broke.
    pub fn new(stream: TcpStream, number: u16, shape: Shape) -> Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut switch = Self {
            stream,
            number,
            shape,
            template: Template::new(shape.version)?,
            table: Table::new(shape.version, shape.table),
            inbound: Vec::with_capacity(READ_BYTES * 2),
            outbound: Vec::with_capacity(MAX_UNSENT_BYTES * 2),
            written: 0,
            next: 0,
            waiting: vec![0; shape.window.next_power_of_two() * 2],
            open: 0,
            sent_at: Instant::now(),
            known: false,
            counts: Counts::default(),
            latencies_ns: Vec::new(),
        };
        let hello = match shape.version {
            Version::V1_0 => Hello::default(),
            Version::V1_3 => Hello::offering(&[Version::V1_3]),
        };
        switch.say(&Message::Hello(hello), Xid(1))?;
        Ok(switch)
    }

    /// The connection, to wait for it.
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether something waits to be written.
    pub const fn is_unsent(&self) -> bool {
        self.written < self.outbound.len()
    }

    /// Packets that are not answered yet.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Hosts announce themselves, from number `from` on, as far as the window and the buffer allow; the number of the
    /// next one.
    pub fn announce(&mut self, from: u32) -> u32 {
        let mut number = from;
        while number < self.shape.hosts && self.may_send() {
            let host = Host { switch: self.number, number };
            let port = self.port_of(number);
            self.template.announcement(host, port, self.next, &mut self.outbound);
            self.sent();
            number += 1;
        }
        number
    }

    /// Makes packets of the flows, as far as the window and the buffer allow.
    pub fn fill(&mut self) {
        if let Some(vip) = self.shape.vip {
            return self.open_connections(vip);
        }
        while self.may_send() {
            let (from, to) = self.pair(self.next % self.shape.flows);
            let port = self.port_of(from);
            let host = |number| Host { switch: self.number, number };
            self.template.udp(host(from), port, host(to), self.next, &mut self.outbound);
            self.sent();
        }
    }

    /// Opens connections to a VIP, each another one, as far as the window and the buffer allow.
    fn open_connections(&mut self, vip: SocketAddrV4) {
        while self.number == 0 && self.may_send() {
            let from = opener(self.next, self.shape.hosts);
            let (port, host) = (self.port_of(from), Host { switch: self.number, number: from });
            self.template.syn(host, port, vip, self.next, &mut self.outbound);
            self.sent();
        }
    }

    /// The hosts of a flow, behind different ports; all different for as many flows as there are pairs.
    fn pair(&self, flow: u32) -> (u32, u32) {
        let Shape { hosts, ports, .. } = self.shape;
        let (from, round, others) = (flow % hosts, flow / hosts, u32::from(ports) - 1);
        // Steps of a multiple of the ports would lead to the same port.
        (from, (from + 1 + round + round / others) % hosts)
    }

    fn port_of(&self, host: u32) -> u16 {
        (host % u32::from(self.shape.ports)) as u16 + 1
    }

    fn may_send(&self) -> bool {
        self.open < self.shape.window
            && self.outbound.len() - self.written < MAX_UNSENT_BYTES
            && self.slot(self.next) == Some(0)
    }

    fn slot(&self, number: u32) -> Option<u32> {
        self.waiting.get(number as usize & (self.waiting.len() - 1)).copied()
    }

    fn set_slot(&mut self, number: u32, value: u32) {
        let mask = self.waiting.len() - 1;
        if let Some(slot) = self.waiting.get_mut(number as usize & mask) {
            *slot = value;
        }
    }

    fn sent(&mut self) {
        self.set_slot(self.next, self.next.wrapping_add(1));
        self.next = self.next.wrapping_add(1) & (u32::MAX >> 1);
        self.open += 1;
        if self.shape.window == 1 {
            self.sent_at = Instant::now();
        }
    }

    /// Packets that were not answered are given up.
    pub fn give_up(&mut self) -> u64 {
        self.waiting.fill(0);
        std::mem::take(&mut self.open) as u64
    }

    /// Writes what the connection takes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn write(&mut self) -> Result<()> {
        while let Some(rest) = self.outbound.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    bail!("the controller closed the connection of switch {}: {error}", self.number)
                }
            }
        }
        self.outbound.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what is there, and deals with it.
    ///
    /// # Errors
    /// The connection broke, or the controller sent what is no OpenFlow.
    pub fn read(&mut self) -> Result<()> {
        let have = self.inbound.len();
        self.inbound.resize(have + READ_BYTES, 0);
        let read = self.stream.read(self.inbound.get_mut(have..).unwrap_or_default());
        match read {
            Ok(0) => bail!("the controller closed the connection of switch {}", self.number),
            Ok(count) => self.inbound.truncate(have + count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.inbound.truncate(have);
                return Ok(());
            }
            Err(error) => bail!("the connection of switch {} broke: {error}", self.number),
        }
        let inbound = std::mem::take(&mut self.inbound);
        let mut rest = inbound.as_slice();
        while let Some(header) = rest.first_chunk::<HEADER_BYTES>() {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let Some((message, behind)) = rest.split_at_checked(length.max(HEADER_BYTES)) else { break };
            rest = behind;
            self.message(header[1], message)?;
        }
        let left = inbound.len() - rest.len();
        self.inbound = inbound;
        self.inbound.drain(..left);
        Ok(())
    }

    fn message(&mut self, kind: u8, bytes: &[u8]) -> Result<()> {
        match kind {
            TYPE_PACKET_OUT => {
                match answered(bytes) {
                    Some(number) => self.answered(number),
                    None if self.shape.vip.is_some() => self.answer_probe(bytes),
                    None => {}
                }
                Ok(())
            }
            TYPE_FLOW_MOD => {
                self.counts.flow_mods += 1;
                self.table.add(bytes, &mut self.outbound);
                Ok(())
            }
            _ => self.other(bytes),
        }
    }

    /// A host answers the controller's ARP request.
    fn answer_probe(&mut self, bytes: &[u8]) {
        let Ok((_, _, Message::PacketOut(packet))) = Message::decode(bytes) else { return };
        let host = asked_for(self.number, &packet.data).filter(|host| host.number < self.shape.hosts);
        if let Some(host) = host {
            let port = self.port_of(host.number);
            self.template.answer(host, port, &packet.data, &mut self.outbound);
        }
    }

    fn answered(&mut self, number: u32) {
        if self.slot(number) != Some(number.wrapping_add(1)) {
            self.counts.strays += 1;
            return;
        }
        self.set_slot(number, 0);
        self.open -= 1;
        self.counts.replies += 1;
        if self.shape.window == 1 {
            let took = self.sent_at.elapsed().as_nanos();
            self.latencies_ns.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }

    /// Answers what a controller asks of a switch.
    fn other(&mut self, bytes: &[u8]) -> Result<()> {
        let (_, xid, message) = match Message::decode(bytes) {
            Ok(decoded) => decoded,
            Err(error) => bail!("the controller sent rubbish: {error}"),
        };
        let answer = match message {
            Message::FeaturesRequest => {
                self.known = true;
                Message::FeaturesReply(self.features())
            }
            Message::GetConfigRequest => {
                Message::GetConfigReply(SwitchConfig { flags: 0, miss_send_len: 0xffff })
            }
            Message::EchoRequest(data) => Message::EchoReply(data),
            Message::BarrierRequest => Message::BarrierReply,
            Message::RoleRequest(role) => Message::RoleReply(role),
            Message::MultipartRequest(request) => {
                let body = match request.body {
                    RequestBody::PortDesc => ReplyBody::PortDesc(self.ports()),
                    RequestBody::Flow(_) => ReplyBody::Flow(Vec::new()),
                    RequestBody::PortStats(_) => ReplyBody::PortStats(Vec::new()),
                    _ => return Ok(()),
                };
                Message::MultipartReply(MultipartReply { flags: 0, body })
            }
            Message::Onf(_) | Message::Nicira(_) | Message::Experimenter(_) => {
                let data = bytes.iter().copied().take(QUOTED_BYTES).collect();
                Message::Error(ErrorMsg { kind: openflow::ErrorKind::BadRequestBadExperimenter, data })
            }
            Message::Error(error) => bail!("the controller reports an error: {}", error.kind),
            _ => return Ok(()),
        };
        self.say(&answer, xid)
    }

    fn say(&mut self, message: &Message, xid: Xid) -> Result<()> {
        Ok(message.encode(self.shape.version, xid, &mut self.outbound)?)
    }

    fn features(&self) -> FeaturesReply {
        let one = self.shape.version == Version::V1_0;
        FeaturesReply {
            datapath_id: DatapathId(u64::from(self.number) + 1),
            n_buffers: 0,
            n_tables: 254,
            auxiliary_id: 0,
            capabilities: 0,
            actions: 0,
            ports: one.then(|| self.ports()),
        }
    }

    fn ports(&self) -> Vec<Port> {
        let [a, b] = self.number.to_be_bytes();
        (1..=self.shape.ports)
            .map(|number| Port {
                port_no: PortNo(number.into()),
                hw_addr: MacAddr([0x06, a, b, 0, number.to_be_bytes()[0], number.to_be_bytes()[1]]),
                name: FixedText::from(format!("p{number}").as_str()),
                config: 0,
                state: 0,
                curr: 0,
                advertised: 0,
                supported: 0,
                peer: 0,
                curr_speed_kbps: 0,
                max_speed_kbps: 0,
            })
            .collect()
    }
}
