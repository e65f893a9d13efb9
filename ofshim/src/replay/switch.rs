//! An OpenFlow 1.3 switch in memory: it answers the controller, and does to packets what its entries say.

use std::time::Duration;

use openflow::{
    Action, BufferId, Cookie, DatapathId, ErrorKind, ErrorMsg, FeaturesReply, FlowMod, FlowModCommand,
    FlowModFlags, FlowRemoved, FlowRemovedReason, FlowStats, Hello, Instruction, MacAddr, Message,
    MultipartReply, PacketIn, PacketInReason, Port, PortNo, PortStats, ReplyBody, RequestBody, SwitchDesc,
    TableId, Version, Xid,
};

use super::packet::{self, Fields};
use super::table::{Entries, Entry};

/// Its datapath id.
pub const DPID: DatapathId = DatapathId(1);
/// The table that packet-ins are said to come from.
const MISSED: TableId = TableId(2);
/// A frame does not go through more tables than this.
const MOST_TABLES: usize = 254;

/// The switch.
#[derive(Debug)]
pub struct Switch {
    ports: u32,
    entries: Entries,
    now: Duration,
    /// Bytes for the controller.
    outbox: Vec<u8>,
    /// Frames that came out, by port.
    emitted: Vec<(PortNo, Vec<u8>)>,
    /// How many packet-ins it sent.
    packet_ins: u64,
    /// The first thing that it was told and does not know.
    unknown: Option<String>,
}

impl Switch {
    /// A switch with ports from 1 to `ports`, all up.
    #[must_use]
    pub fn new(ports: u32) -> Self {
        Self {
            ports,
            entries: Entries::default(),
            now: Duration::ZERO,
            outbox: Vec::new(),
            emitted: Vec::new(),
            packet_ins: 0,
            unknown: None,
        }
    }

    /// Says hello.
    pub fn connect(&mut self) {
        self.tell(&Message::Hello(Hello::offering(&[Version::V1_3])), Xid(1));
    }

    /// The bytes for the controller.
    pub fn take_outbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbox)
    }

    /// The frames that came out, by port.
    pub fn take_emitted(&mut self) -> Vec<(PortNo, Vec<u8>)> {
        std::mem::take(&mut self.emitted)
    }

    /// How many packet-ins it sent.
    #[must_use]
    pub const fn packet_ins(&self) -> u64 {
        self.packet_ins
    }

    /// Its entries.
    #[must_use]
    pub const fn entries(&self) -> &Entries {
        &self.entries
    }

    /// What it was told and does not know, once.
    pub fn take_unknown(&mut self) -> Option<String> {
        self.unknown.take()
    }

    fn tell(&mut self, message: &Message, xid: Xid) {
        if let Err(error) = message.encode(Version::V1_3, xid, &mut self.outbox) {
            self.wonder(format!("a message of its own: {error}"));
        }
    }

    fn wonder(&mut self, what: String) {
        self.unknown.get_or_insert(what);
    }

    /// Time is `now`: entries whose time is over go.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
        for (entry, reason) in self.entries.expire(now) {
            self.tell_removed(&entry, reason);
        }
    }

    /// Takes messages of the controller, whole ones.
    pub fn receive(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(length) =
            rest.get(2..4).and_then(|two| <[u8; 2]>::try_from(two).ok()).map(u16::from_be_bytes)
        {
            let Some((message, behind)) = rest.split_at_checked(usize::from(length).max(8)) else { break };
            rest = behind;
            match Message::decode(message) {
                Ok((_, xid, decoded)) => self.obey(decoded, xid, message),
                Err(error) => self.wonder(format!("a message that cannot be read: {error}")),
            }
        }
    }

    fn obey(&mut self, message: Message, xid: Xid, bytes: &[u8]) {
        match message {
            Message::FeaturesRequest => {
                let features = FeaturesReply {
                    datapath_id: DPID,
                    n_buffers: 0,
                    n_tables: 254,
                    auxiliary_id: 0,
                    capabilities: 0,
                    actions: 0,
                    ports: None,
                };
                self.tell(&Message::FeaturesReply(features), xid);
            }
            Message::MultipartRequest(request) => self.answer(&request.body, xid),
            Message::BarrierRequest => self.tell(&Message::BarrierReply, xid),
            Message::EchoRequest(data) => self.tell(&Message::EchoReply(data), xid),
            Message::FlowMod(flow_mod) => self.flow_mod(flow_mod),
            // Bundles are refused, as by switches of 1.3 without them: the first 64 bytes of what is refused.
            Message::Onf(_) => {
                let data = bytes.iter().copied().take(64).collect();
                let kind = ErrorKind::BadRequestBadExperimenter;
                self.tell(&Message::Error(ErrorMsg { kind, data }), xid);
            }
            Message::PacketOut(out) if out.buffer_id == BufferId::NO_BUFFER => {
                let mut data = out.data;
                for action in &out.actions {
                    self.act(action, out.in_port, &mut data);
                }
            }
            Message::Hello(_) | Message::SetConfig(_) | Message::Error(_) | Message::EchoReply(_) => {}
            other => self.wonder(format!("{other:?}")),
        }
    }

    fn answer(&mut self, asked: &RequestBody, xid: Xid) {
        let body = match asked {
            RequestBody::Desc => ReplyBody::Desc(Box::new(SwitchDesc {
                mfr_desc: "Nicira, Inc.".into(),
                ..SwitchDesc::default()
            })),
            RequestBody::PortDesc => ReplyBody::PortDesc((1..=self.ports).map(port).collect()),
            RequestBody::Flow(_) => {
                ReplyBody::Flow(self.entries.iter().map(|entry| self.stats(entry)).collect())
            }
            RequestBody::PortStats(_) => ReplyBody::PortStats((1..=self.ports).map(port_stats).collect()),
            other => return self.wonder(format!("{other:?}")),
        };
        self.tell(&Message::MultipartReply(MultipartReply { flags: 0, body }), xid);
    }

    fn stats(&self, entry: &Entry) -> FlowStats {
        FlowStats {
            table_id: TableId(entry.table),
            duration_sec: seconds(self.now.saturating_sub(entry.added)),
            duration_nsec: 0,
            priority: entry.priority,
            idle_timeout: entry.idle_s,
            hard_timeout: entry.hard_s,
            flags: FlowModFlags::default(),
            cookie: entry.cookie,
            packet_count: entry.packets,
            byte_count: 0,
            match_: entry.match_.clone(),
            instructions: entry.instructions.clone(),
        }
    }

    fn flow_mod(&mut self, flow_mod: FlowMod) {
        match flow_mod.command {
            FlowModCommand::Add => {
                if let Err(field) = self.entries.add(Entry::of(flow_mod, self.now)) {
                    self.wonder(format!("a match of {field:?}"));
                }
            }
            FlowModCommand::DeleteStrict => {
                for entry in self.entries.delete_strict(&flow_mod) {
                    self.tell_removed(&entry, FlowRemovedReason::Delete);
                }
            }
            other => self.wonder(format!("{other:?}")),
        }
    }

    fn tell_removed(&mut self, entry: &Entry, reason: FlowRemovedReason) {
        if !entry.flags.contains(FlowModFlags::SEND_FLOW_REM) {
            return;
        }
        let removed = FlowRemoved {
            cookie: entry.cookie,
            priority: entry.priority,
            reason,
            table_id: Some(TableId(entry.table)),
            duration_sec: seconds(self.now.saturating_sub(entry.added)),
            duration_nsec: 0,
            idle_timeout: entry.idle_s,
            hard_timeout: Some(entry.hard_s),
            packet_count: entry.packets,
            byte_count: 0,
            match_: entry.match_.clone(),
        };
        self.tell(&Message::FlowRemoved(removed), Xid(0));
    }

    /// A frame comes in by a port.
    pub fn frame_in(&mut self, in_port: PortNo, frame: &[u8]) {
        let mut frame = frame.to_vec();
        let mut table = 0;
        for _ in 0..MOST_TABLES {
            let Some(fields) = Fields::of(&frame) else { return };
            let Some(entry) = self.entries.lookup(table, in_port, &fields, self.now) else { return };
            let (instructions, cookie, is_miss) =
                (entry.instructions.clone(), entry.cookie, entry.priority == 0);
            let mut next = None;
            for instruction in &instructions {
                match instruction {
                    Instruction::GotoTable(TableId(to)) => next = Some(*to),
                    Instruction::ApplyActions(actions) => {
                        for action in actions {
                            if matches!(action, Action::Output { port: PortNo::CONTROLLER, .. }) {
                                self.packet_in(in_port, &frame, is_miss, cookie);
                            } else {
                                self.act(action, in_port, &mut frame);
                            }
                        }
                    }
                    other => self.wonder(format!("{other:?}")),
                }
            }
            match next {
                Some(to) => table = to,
                None => return,
            }
        }
    }

    fn packet_in(&mut self, in_port: PortNo, frame: &[u8], is_miss: bool, cookie: Cookie) {
        self.packet_ins += 1;
        let packet = PacketIn {
            buffer_id: BufferId::NO_BUFFER,
            total_len: u16::try_from(frame.len()).unwrap_or(u16::MAX),
            reason: if is_miss { PacketInReason::NoMatch } else { PacketInReason::Action },
            in_port,
            table_id: Some(MISSED),
            cookie: Some(cookie),
            match_: None,
            data: frame.to_vec(),
        };
        self.tell(&Message::PacketIn(packet), Xid(0));
    }

    fn act(&mut self, action: &Action, in_port: PortNo, frame: &mut [u8]) {
        match action {
            Action::SetField(field) => {
                if !packet::set(frame, field) {
                    self.wonder(format!("to set {field:?}"));
                }
            }
            // Done where packets are counted.
            Action::Nicira(openflow::NxAction::FinTimeout { .. }) => {}
            Action::Output { port: PortNo::FLOOD, .. } => {
                let others = (1..=self.ports).map(PortNo).filter(|port| *port != in_port);
                self.emitted.extend(others.map(|port| (port, frame.to_vec())));
            }
            Action::Output { port: PortNo::IN_PORT, .. } => self.emitted.push((in_port, frame.to_vec())),
            // A switch does not send a packet back to where it came from unless IN_PORT is named.
            Action::Output { port, .. } if *port == in_port => {}
            Action::Output { port, .. } if (1..=self.ports).contains(&port.0) => {
                self.emitted.push((*port, frame.to_vec()));
            }
            other => self.wonder(format!("{other:?}")),
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn port(number: u32) -> Port {
    let [.., high, low] = number.to_be_bytes();
    Port {
        port_no: PortNo(number),
        hw_addr: MacAddr([2, 0xee, 0, 1, high, low]),
        name: format!("s1-eth{number}").as_str().into(),
        config: 0,
        state: 0,
        curr: 0,
        advertised: 0,
        supported: 0,
        peer: 0,
        curr_speed_kbps: 0,
        max_speed_kbps: 0,
    }
}

fn port_stats(number: u32) -> PortStats {
    PortStats {
        port_no: PortNo(number),
        rx_packets: 0,
        tx_packets: 0,
        rx_bytes: 0,
        tx_bytes: 0,
        rx_dropped: 0,
        tx_dropped: 0,
        rx_errors: 0,
        tx_errors: 0,
        rx_frame_err: 0,
        rx_over_err: 0,
        rx_crc_err: 0,
        collisions: 0,
        duration: Some((1, 0)),
    }
}
