//! A switch in memory of either version: tables, packet-in, packet-out, flow-mod, bundles, statistics. What it reads of
//! frames and writes to them is the replay's switch's.

use std::collections::BTreeMap;
use std::time::Duration;

use ofshim::replay::packet::{self, Fields};
use openflow::{
    Action, BufferId, BundleControl, BundleControlKind, Cookie, DatapathId, ErrorKind, ErrorMsg,
    FeaturesReply, FlowMod, FlowModCommand, FlowModFlags, FlowRemoved, FlowRemovedReason, FlowStats, Hello,
    Instruction, MacAddr, Match, MatchField, Message, MultipartReply, NiciraMsg, NxAction, OnfMsg, PacketIn,
    PacketInReason, Port, PortNo, PortStats, ReplyBody, RequestBody, SwitchDesc, TableId, Version, Xid,
};

const UNTAGGED: MatchField = MatchField::VlanVid { value: 0, mask: None };

/// A flow entry of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub table: u8,
    pub priority: u16,
    pub match_: Match,
    pub cookie: Cookie,
    pub idle_s: u16,
    pub hard_s: u16,
    pub flags: FlowModFlags,
    pub instructions: Vec<Instruction>,
    pub added: Duration,
    pub used: Duration,
}

impl Flow {
    /// A FIN or RST shortens the life of an entry that looks for them.
    fn watch(&mut self, frame: &[u8]) {
        let fin = self.instructions.iter().find_map(|instruction| match instruction {
            Instruction::ApplyActions(actions) => actions.iter().find_map(|action| match action {
                Action::Nicira(NxAction::FinTimeout { fin_idle_timeout, .. }) => Some(*fin_idle_timeout),
                _ => None,
            }),
            _ => None,
        });
        let ends = || Fields::of(frame).is_some_and(|fields| fields.ends());
        if let Some(idle_s) = fin.filter(|_| ends()) {
            self.idle_s = self.idle_s.min(idle_s);
        }
    }
}

/// The switch.
#[derive(Clone, Debug)]
pub struct Model {
    pub version: Version,
    pub dpid: u64,
    pub ports: BTreeMap<PortNo, bool>,
    /// Bytes that its ports have sent, as it tells; zero for those that are not here.
    pub sent_bytes: BTreeMap<u32, u64>,
    /// Names of ports that are not called s1-eth1 and so on.
    pub names: BTreeMap<u32, String>,
    /// Speeds that its ports tell, in kbit/s; the others tell none.
    pub speeds_kbps: BTreeMap<u32, u32>,
    pub flows: Vec<Flow>,
    /// Messages of the controller, in order.
    pub inbox: Vec<Message>,
    /// Bytes for the controller.
    pub outbox: Vec<u8>,
    /// Frames that came out.
    pub emitted: Vec<(PortNo, Vec<u8>)>,
    /// Packets that it keeps.
    pub buffers: BTreeMap<u32, (PortNo, Vec<u8>)>,
    pub now: Duration,
    /// How many entries it has room for.
    pub room: usize,
    /// Whether it knows bundles, and those that are open.
    pub bundles: bool,
    /// Whether it commits them.
    pub commits: bool,
    pub open_bundles: BTreeMap<u32, Vec<Vec<u8>>>,
    /// How many packet-ins it sent.
    pub packet_ins: usize,
    /// Who made it, as it tells.
    pub maker: String,
    next_buffer: u32,
}

impl Model {
    pub fn new(version: Version, dpid: u64, ports: u32) -> Self {
        Self {
            version,
            dpid,
            ports: (1..=ports).map(|port| (PortNo(port), true)).collect(),
            names: BTreeMap::new(),
            sent_bytes: BTreeMap::new(),
            speeds_kbps: BTreeMap::new(),
            flows: Vec::new(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            emitted: Vec::new(),
            buffers: BTreeMap::new(),
            now: Duration::ZERO,
            room: usize::MAX,
            bundles: true,
            commits: true,
            open_bundles: BTreeMap::new(),
            packet_ins: 0,
            maker: "Nicira, Inc.".to_owned(),
            next_buffer: 256,
        }
    }

    pub fn hello(&self) -> Vec<u8> {
        let hello = match self.version {
            Version::V1_0 => Hello::default(),
            Version::V1_3 => Hello::offering(&[Version::V1_3]),
        };
        self.encode(&Message::Hello(hello), Xid(1))
    }

    pub fn encode(&self, message: &Message, xid: Xid) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.encode(self.version, xid, &mut bytes).unwrap();
        bytes
    }

    fn reply(&mut self, message: &Message, xid: Xid) {
        let bytes = self.encode(message, xid);
        self.outbox.extend(bytes);
    }

    pub fn port(&self, number: PortNo, up: bool) -> Port {
        let speed = self.speeds_kbps.get(&number.0).copied().unwrap_or(0);
        Port {
            port_no: number,
            hw_addr: MacAddr([2, 0xee, 0, self.dpid as u8, 0, number.0 as u8]),
            name: self
                .names
                .get(&number.0)
                .map_or_else(|| format!("s1-eth{}", number.0), Clone::clone)
                .as_str()
                .into(),
            config: 0,
            state: u32::from(!up),
            // 1.0 tells it by a bit (OFPPF_10GB_FD, OFPPF_1GB_FD).
            curr: match (self.version, speed) {
                (Version::V1_0, 10_000_000) => 1 << 6,
                (Version::V1_0, 1_000_000) => 1 << 5,
                _ => 0,
            },
            advertised: 0,
            supported: 0,
            peer: 0,
            curr_speed_kbps: if self.version == Version::V1_3 { speed } else { 0 },
            max_speed_kbps: 0,
        }
    }

    fn port_stats(&self, port_no: PortNo) -> PortStats {
        let three = self.version == Version::V1_3;
        PortStats {
            port_no,
            rx_packets: 0,
            tx_packets: 0,
            rx_bytes: 0,
            tx_bytes: self.sent_bytes.get(&port_no.0).copied().unwrap_or(0),
            rx_dropped: 0,
            tx_dropped: 0,
            rx_errors: 0,
            tx_errors: 0,
            rx_frame_err: 0,
            rx_over_err: 0,
            rx_crc_err: 0,
            collisions: 0,
            duration: three.then_some((1, 0)),
        }
    }

    fn all_ports(&self) -> Vec<Port> {
        self.ports.iter().map(|(number, up)| self.port(*number, *up)).collect()
    }

    /// Takes a message of the controller and answers it.
    pub fn receive(&mut self, bytes: &[u8]) {
        let (_, xid, message) = Message::decode(bytes).unwrap();
        self.inbox.push(message.clone());
        match message {
            Message::FeaturesRequest => {
                let features = FeaturesReply {
                    datapath_id: DatapathId(self.dpid),
                    n_buffers: 0,
                    n_tables: 254,
                    auxiliary_id: 0,
                    capabilities: 0,
                    actions: 0,
                    ports: (self.version == Version::V1_0).then(|| self.all_ports()),
                };
                self.reply(&Message::FeaturesReply(features), xid);
            }
            Message::MultipartRequest(request) => {
                let body = match request.body {
                    RequestBody::Desc => ReplyBody::Desc(Box::new(SwitchDesc {
                        mfr_desc: self.maker.as_str().into(),
                        ..SwitchDesc::default()
                    })),
                    RequestBody::PortDesc => ReplyBody::PortDesc(self.all_ports()),
                    RequestBody::Flow(_) => {
                        ReplyBody::Flow(self.flows.iter().map(|flow| self.stats(flow)).collect())
                    }
                    RequestBody::PortStats(PortNo::ANY) => {
                        ReplyBody::PortStats(self.ports.keys().map(|port| self.port_stats(*port)).collect())
                    }
                    other => panic!("not modelled: {other:?}"),
                };
                self.reply(&Message::MultipartReply(MultipartReply { flags: 0, body }), xid);
            }
            Message::BarrierRequest => self.reply(&Message::BarrierReply, xid),
            Message::EchoRequest(data) => self.reply(&Message::EchoReply(data), xid),
            Message::FlowMod(add) if add.command == FlowModCommand::Add && self.flows.len() >= self.room => {
                // As Open vSwitch: the first 64 bytes of what is refused.
                let data = bytes.iter().copied().take(64).collect();
                self.reply(&Message::Error(ErrorMsg { kind: ErrorKind::FlowModTableFull, data }), xid);
            }
            Message::FlowMod(flow_mod) => self.flow_mod(flow_mod),
            Message::Onf(_) if !self.bundles => {
                let data = bytes.iter().copied().take(64).collect();
                let kind = ErrorKind::BadRequestBadExperimenter;
                self.reply(&Message::Error(ErrorMsg { kind, data }), xid);
            }
            Message::Onf(OnfMsg::BundleControl(control)) => self.bundle_control(&control, xid),
            Message::Onf(OnfMsg::BundleAdd(add)) => {
                let bytes = self.encode(&add.message.message, xid);
                self.open_bundles.get_mut(&add.bundle_id).expect("an open bundle").push(bytes);
            }
            Message::PacketOut(out) => {
                let (in_port, data) = match out.buffer_id {
                    BufferId::NO_BUFFER => (out.in_port, out.data),
                    BufferId(id) => self.buffers.remove(&id).expect("a packet that the switch keeps"),
                };
                let mut data = data;
                for action in &out.actions {
                    self.act(action, in_port, &mut data);
                }
            }
            Message::RoleRequest(role) => self.reply(&Message::RoleReply(role), xid),
            Message::Nicira(NiciraMsg::RoleRequest(role)) => {
                self.reply(&Message::Nicira(NiciraMsg::RoleReply(role)), xid);
            }
            Message::Hello(_) | Message::SetConfig(_) | Message::Error(_) | Message::EchoReply(_) => {}
            other => panic!("not modelled: {other:?}"),
        }
    }

    fn bundle_control(&mut self, control: &BundleControl, xid: Xid) {
        let kind = match control.kind {
            BundleControlKind::OpenRequest => {
                assert!(self.open_bundles.insert(control.bundle_id, Vec::new()).is_none(), "opened twice");
                BundleControlKind::OpenReply
            }
            BundleControlKind::CommitRequest if !self.commits => {
                self.open_bundles.remove(&control.bundle_id).expect("an open bundle");
                let error = ErrorMsg { kind: ErrorKind::FlowModEperm, data: Vec::new() };
                return self.reply(&Message::Error(error), xid);
            }
            BundleControlKind::CommitRequest => {
                for message in self.open_bundles.remove(&control.bundle_id).expect("an open bundle") {
                    self.receive(&message);
                }
                BundleControlKind::CommitReply
            }
            other => panic!("not modelled: {other:?}"),
        };
        let answer = BundleControl::new(control.bundle_id, kind, control.flags);
        self.reply(&Message::Onf(OnfMsg::BundleControl(answer)), xid);
    }

    /// A match as it is listed: Open vSwitch in 1.0 adds the priority of the tag that must not be there.
    fn listed(&self, match_: &Match) -> Match {
        let adds = self.version == Version::V1_0 && match_.fields.contains(&UNTAGGED);
        if adds { match_.clone().with(MatchField::VlanPcp(0)) } else { match_.clone() }
    }

    fn stats(&self, flow: &Flow) -> FlowStats {
        FlowStats {
            table_id: TableId(flow.table),
            duration_sec: 0,
            duration_nsec: 0,
            priority: flow.priority,
            idle_timeout: flow.idle_s,
            hard_timeout: flow.hard_s,
            flags: FlowModFlags::default(),
            cookie: flow.cookie,
            packet_count: 0,
            byte_count: 0,
            match_: self.listed(&flow.match_),
            instructions: flow.instructions.clone(),
        }
    }

    fn flow_mod(&mut self, flow_mod: FlowMod) {
        let same = |flow: &Flow| {
            flow.priority == flow_mod.priority
                && flow.match_ == effective(flow_mod.match_.clone())
                && (flow.table == flow_mod.table_id.0 || self.version == Version::V1_0)
        };
        match flow_mod.command {
            FlowModCommand::Add => {
                self.flows.retain(|flow| !same(flow));
                self.flows.push(Flow {
                    table: flow_mod.table_id.0,
                    priority: flow_mod.priority,
                    match_: effective(flow_mod.match_),
                    cookie: flow_mod.cookie,
                    idle_s: flow_mod.idle_timeout,
                    hard_s: flow_mod.hard_timeout,
                    flags: flow_mod.flags,
                    instructions: flow_mod.instructions,
                    added: self.now,
                    used: self.now,
                });
            }
            FlowModCommand::DeleteStrict => {
                let mask = flow_mod.cookie_mask;
                let gone = |flow: &Flow| same(flow) && flow.cookie.0 & mask == flow_mod.cookie.0 & mask;
                let removed: Vec<Flow> = self.flows.extract_if(.., |flow| gone(flow)).collect();
                for flow in removed {
                    self.tell_removed(&flow, FlowRemovedReason::Delete);
                }
            }
            other => panic!("not modelled: {other:?}"),
        }
    }

    fn tell_removed(&mut self, flow: &Flow, reason: FlowRemovedReason) {
        if !flow.flags.contains(FlowModFlags::SEND_FLOW_REM) {
            return;
        }
        let three = self.version == Version::V1_3;
        let removed = FlowRemoved {
            cookie: flow.cookie,
            priority: flow.priority,
            reason,
            table_id: three.then_some(TableId(flow.table)),
            duration_sec: 0,
            duration_nsec: 0,
            idle_timeout: flow.idle_s,
            hard_timeout: three.then_some(flow.hard_s),
            // Packets are not counted: one stands for any.
            packet_count: u64::from(flow.used > flow.added),
            byte_count: 0,
            match_: self.listed(&flow.match_),
        };
        self.reply(&Message::FlowRemoved(removed), Xid(0));
    }

    /// Removes an entry as a person would with a switch's own tool.
    pub fn remove(&mut self, which: impl Fn(&Flow) -> bool) -> usize {
        let removed: Vec<Flow> = self.flows.extract_if(.., |flow| which(flow)).collect();
        for flow in &removed {
            self.tell_removed(flow, FlowRemovedReason::Delete);
        }
        removed.len()
    }

    /// Ends the entries whose time is over.
    pub fn expire(&mut self, now: Duration) {
        self.now = now;
        let over = |since: Duration, limit_s: u16| {
            limit_s != 0 && now - since >= Duration::from_secs(limit_s.into())
        };
        let idle: Vec<Flow> = self.flows.extract_if(.., |flow| over(flow.used, flow.idle_s)).collect();
        let hard: Vec<Flow> = self.flows.extract_if(.., |flow| over(flow.added, flow.hard_s)).collect();
        for flow in &idle {
            self.tell_removed(flow, FlowRemovedReason::IdleTimeout);
        }
        for flow in &hard {
            self.tell_removed(flow, FlowRemovedReason::HardTimeout);
        }
    }

    /// A frame comes in.
    pub fn frame_in(&mut self, in_port: PortNo, frame: &[u8], cut: Option<usize>) {
        let mut table = 0;
        let mut changed = frame.to_vec();
        let frame = &mut changed;
        loop {
            let now = self.now;
            let mut hits: Vec<&mut Flow> = self
                .flows
                .iter_mut()
                .filter(|flow| flow.table == table && matches(&flow.match_, in_port, frame))
                .collect();
            let version = self.version;
            hits.sort_by_key(|flow| std::cmp::Reverse(priority(version, flow)));
            let Some(hit) = hits.into_iter().next() else {
                if self.version == Version::V1_0 {
                    self.packet_in(in_port, frame, cut, PacketInReason::NoMatch, None);
                }
                return;
            };
            hit.used = now;
            hit.watch(frame);
            let (instructions, cookie, miss) = (hit.instructions.clone(), hit.cookie, hit.priority == 0);
            let mut next = None;
            for instruction in &instructions {
                match instruction {
                    Instruction::GotoTable(TableId(to)) => next = Some(*to),
                    Instruction::ApplyActions(actions) => {
                        for action in actions {
                            if matches!(action, Action::Output { port: PortNo::CONTROLLER, .. }) {
                                let reason =
                                    if miss { PacketInReason::NoMatch } else { PacketInReason::Action };
                                self.packet_in(in_port, frame, cut, reason, Some(cookie));
                            } else {
                                self.act(action, in_port, frame);
                            }
                        }
                    }
                    other => panic!("not modelled: {other:?}"),
                }
            }
            match next {
                Some(to) => table = to,
                None => return,
            }
        }
    }

    fn packet_in(
        &mut self,
        in_port: PortNo,
        frame: &[u8],
        cut: Option<usize>,
        reason: PacketInReason,
        cookie: Option<Cookie>,
    ) {
        let buffer_id = match cut {
            Some(_) => {
                self.next_buffer += 1;
                self.buffers.insert(self.next_buffer, (in_port, frame.to_vec()));
                BufferId(self.next_buffer)
            }
            None => BufferId::NO_BUFFER,
        };
        self.packet_ins += 1;
        let three = self.version == Version::V1_3;
        let packet = PacketIn {
            buffer_id,
            total_len: frame.len() as u16,
            reason,
            in_port,
            table_id: three.then_some(TableId(2)),
            cookie: cookie.filter(|_| three),
            match_: None,
            data: frame[..cut.unwrap_or(frame.len()).min(frame.len())].to_vec(),
        };
        self.reply(&Message::PacketIn(packet), Xid(0));
    }

    fn act(&mut self, action: &Action, in_port: PortNo, frame: &mut [u8]) {
        match action {
            Action::SetField(field) => assert!(packet::set(frame, field), "not modelled: {field:?}"),
            Action::Nicira(NxAction::FinTimeout { .. }) => assert!(self.maker.starts_with("Nicira")),
            Action::Output { port: PortNo::FLOOD, .. } => {
                let up = self.ports.iter().filter(|(_, up)| **up).map(|(port, _)| *port);
                let ports: Vec<PortNo> = up.filter(|port| *port != in_port).collect();
                self.emitted.extend(ports.into_iter().map(|port| (port, frame.to_vec())));
            }
            Action::Output { port: PortNo::IN_PORT, .. } => self.emitted.push((in_port, frame.to_owned())),
            // A switch does not send a packet back to where it came from unless IN_PORT is named.
            Action::Output { port, .. } if *port == in_port => {}
            Action::Output { port, .. } => {
                if self.ports.get(port).is_some_and(|up| *up) {
                    self.emitted.push((*port, frame.to_vec()));
                }
            }
            other => panic!("not modelled: {other:?}"),
        }
    }
}

/// The priority that counts: in 1.0 an entry that leaves no field out goes before all others (3.4).
fn priority(version: Version, flow: &Flow) -> u16 {
    let exact =
        version == Version::V1_0 && flow.match_.fields.len() >= ALL_FIELDS - usize::from(!is_tagged(flow));
    if exact { u16::MAX } else { flow.priority }
}

/// Fields of the 1.0 match; without a tag its priority is not kept.
const ALL_FIELDS: usize = 12;

fn is_tagged(flow: &Flow) -> bool {
    !flow.match_.fields.contains(&UNTAGGED)
}

/// A priority without a tag says nothing.
fn effective(mut match_: Match) -> Match {
    if match_.fields.contains(&UNTAGGED) {
        match_.fields.retain(|field| !matches!(field, MatchField::VlanPcp(_)));
    }
    match_
}

fn matches(match_: &Match, in_port: PortNo, frame: &[u8]) -> bool {
    let fields = Fields::of(frame).expect("an Ethernet header");
    let holds = |field| fields.matches(in_port, field);
    match_.fields.iter().all(|field| holds(field).unwrap_or_else(|| panic!("not modelled: {field:?}")))
}
