//! The codec against a running Open vSwitch: everything that the switch says is taken apart and comes back byte for
//! byte, and what we tell it is what it then has.

use std::io::{ErrorKind as IoError, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use openflow::{
    Action, Bucket, BundleAdd, BundleControl, BundleControlKind, BundleFlags, CT_COMMIT, ConnTrack, CtZone,
    ErrorKind, ErrorMsg, FieldId, FlowFormat, FlowMod, FlowModFlags, FlowStatsRequest, Framer, GroupId,
    GroupMod, GroupModCommand, GroupType, Hello, Instruction, Learn, LearnField, LearnSource, LearnSpec,
    LearnTarget, Match, MatchField, Message, MeterBand, MeterFlags, MeterId, MeterMod, MeterModCommand,
    NAT_SRC, Nat, NiciraMsg, NxAction as Nx, NxmField, OnfMsg, PortNo, QUEUE_ALL, QueueStatsRequest,
    READ_CHUNK_BYTES, ReplyBody, RequestBody, Role, TableId, Version, Xid,
};
use testbed::root_or_say_so;

/// Far beyond what a loaded machine takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bridge without ports, which goes when this value goes.
struct Bridge(String);

impl Bridge {
    fn new(name: &str) -> Self {
        let bridge = Self(format!("codec-{name}"));
        bridge.vsctl(&["--if-exists", "del-br", &bridge.0]);
        let settings = ["datapath_type=netdev", "protocols=OpenFlow10,OpenFlow13", "fail_mode=secure"];
        bridge.vsctl(&[&["add-br", &bridge.0, "--", "set", "bridge", &bridge.0], &settings[..]].concat());
        bridge
    }

    fn vsctl(&self, args: &[&str]) {
        let output = Command::new("ovs-vsctl").args(["-t", "20"]).args(args).output();
        let output = output.expect("ovs-vsctl runs: cargo xtask setup installs it");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Speaks to the bridge through its management socket.
    fn connect(&self, version: Version) -> Session {
        let folder = std::env::var("OVS_RUNDIR").unwrap_or_else(|_| "/var/run/openvswitch".to_owned());
        let path = format!("{folder}/{}.mgmt", self.0);
        let stream = UnixStream::connect(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut session = Session { stream, framer: Framer::new(), version, xid: 100 };
        session.send(&Message::Hello(Hello::offering(&[version])));
        let hello = session.receive().1;
        assert!(matches!(hello, Message::Hello(_)), "{hello:?}");
        session
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ovs-vsctl").args(["-t", "20", "--if-exists", "del-br", &self.0]).status();
    }
}

struct Session {
    stream: UnixStream,
    framer: Framer,
    version: Version,
    xid: u32,
}

impl Session {
    fn send(&mut self, message: &Message) -> Xid {
        self.xid += 1;
        let mut bytes = Vec::new();
        message
            .encode(self.version, Xid(self.xid), &mut bytes)
            .unwrap_or_else(|error| panic!("{error}: {message:?}"));
        self.stream.write_all(&bytes).expect("the switch reads");
        Xid(self.xid)
    }

    /// The next message, which has to be taken apart whole and to come back byte for byte.
    fn receive(&mut self) -> (Xid, Message) {
        loop {
            if let Some(frame) = self.framer.next_frame() {
                let frame = frame.expect("a stream of messages");
                let (version, xid, message) =
                    frame.decode().unwrap_or_else(|error| panic!("{error}: {:02x?}", frame.bytes));
                let mut again = Vec::new();
                message
                    .encode(version, xid, &mut again)
                    .unwrap_or_else(|error| panic!("{error}: {message:?}"));
                assert_eq!(again, frame.bytes, "{message:?}");
                assert!(message.is_typed(), "{message:?}");
                return (xid, message);
            }
            let mut chunk = vec![0; READ_CHUNK_BYTES];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the switch closed the connection"),
                Ok(count) => self.framer.push(&chunk[..count]).expect("frames are taken out"),
                Err(error) if error.kind() == IoError::Interrupted => {}
                Err(error) => panic!("nothing from the switch: {error}"),
            }
        }
    }

    /// Sends a message and a barrier; gives what came before the answer to the barrier.
    fn ask(&mut self, message: &Message) -> Vec<Message> {
        self.send(message);
        let barrier = self.send(&Message::BarrierRequest);
        let mut answers = Vec::new();
        loop {
            match self.receive() {
                (xid, Message::BarrierReply) if xid == barrier => return answers,
                (xid, Message::EchoRequest(data)) => {
                    let mut bytes = Vec::new();
                    Message::EchoReply(data).encode(self.version, xid, &mut bytes).expect("an echo");
                    self.stream.write_all(&bytes).expect("the switch reads");
                }
                (_, answer) => answers.push(answer),
            }
        }
    }

    /// Sends a message that is not answered.
    fn tell(&mut self, message: &Message) {
        let answers = self.ask(message);
        assert!(answers.is_empty(), "{message:?}\n{answers:?}");
    }

    /// Sends a request that has an answer; all parts of it.
    fn read(&mut self, body: RequestBody) -> Vec<ReplyBody> {
        let request = Message::MultipartRequest(body.into());
        let answers = self.ask(&request);
        assert!(!answers.is_empty(), "{request:?}");
        let body = |answer| match answer {
            Message::MultipartReply(reply) => reply.body,
            other => panic!("{request:?}\n{other:?}"),
        };
        answers.into_iter().map(body).collect()
    }

    /// Table, priority, match and instructions of all entries.
    fn entries(&mut self) -> Vec<(TableId, u16, Match, Vec<Instruction>)> {
        let nxm = self.version == Version::V1_0;
        let all = FlowStatsRequest::default();
        let request = if nxm { RequestBody::NxFlow(all) } else { RequestBody::Flow(all) };
        let flows = self.read(request).into_iter().flat_map(|body| match body {
            ReplyBody::Flow(flows) => flows,
            ReplyBody::NxFlow(flows) => flows.into_iter().map(|flow| flow.flow).collect(),
            other => panic!("{other:?}"),
        });
        let mut entries: Vec<_> =
            flows.map(|flow| (flow.table_id, flow.priority, flow.match_, flow.instructions)).collect();
        entries.sort_by_key(|(table, priority, ..)| (*table, *priority));
        entries
    }
}

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];

#[test]
fn everything_a_switch_says_is_taken_apart() {
    if !root_or_say_so("everything_a_switch_says_is_taken_apart") {
        return;
    }
    let bridge = Bridge::new("says");
    for version in BOTH {
        let mut session = bridge.connect(version);
        let queues = if version == Version::V1_3 { PortNo::ANY } else { PortNo::ALL };
        let mut requests = vec![
            RequestBody::Desc,
            RequestBody::Table,
            RequestBody::Flow(FlowStatsRequest::default()),
            RequestBody::Aggregate(FlowStatsRequest::default()),
            RequestBody::PortStats(PortNo::ANY),
            RequestBody::PortDesc,
            RequestBody::Queue(QueueStatsRequest { port_no: queues, queue_id: QUEUE_ALL }),
        ];
        match version {
            Version::V1_0 => requests.extend([
                RequestBody::NxFlow(FlowStatsRequest::default()),
                RequestBody::NxAggregate(FlowStatsRequest::default()),
            ]),
            Version::V1_3 => requests.extend([
                RequestBody::Group(GroupId::ALL),
                RequestBody::GroupDesc,
                RequestBody::GroupFeatures,
                RequestBody::Meter(MeterId::ALL),
                RequestBody::MeterConfig(MeterId::ALL),
                RequestBody::MeterFeatures,
                RequestBody::TableFeatures(Vec::new()),
            ]),
        }
        for request in requests {
            session.read(request);
        }
        let mut questions = vec![
            Message::FeaturesRequest,
            Message::GetConfigRequest,
            Message::EchoRequest(vec![1, 2, 3]),
            Message::Nicira(NiciraMsg::RoleRequest(Role::Master)),
            Message::Nicira(NiciraMsg::TlvTableRequest),
        ];
        if version == Version::V1_3 {
            questions.extend([Message::GetAsyncRequest, Message::QueueGetConfigRequest(PortNo::ANY)]);
        }
        for question in questions {
            let answers = session.ask(&question);
            assert!(
                matches!(answers.as_slice(), [answer] if !matches!(answer, Message::Error(_))),
                "{question:?}\n{answers:?}"
            );
        }
    }
}

/// Actions in the form in which Open vSwitch lists them.
fn actions() -> Vec<Action> {
    let at = |field, offset_bits| LearnField { field, offset_bits };
    let learn = Learn {
        idle_timeout: 60,
        hard_timeout: 0,
        priority: 7,
        cookie: openflow::Cookie(9),
        flags: 0,
        table_id: TableId(2),
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        specs: vec![
            LearnSpec {
                n_bits: 48,
                source: LearnSource::Field(at(FieldId::ETH_SRC, 0)),
                target: LearnTarget::Match(at(FieldId::ETH_DST, 0)),
            },
            LearnSpec {
                n_bits: 16,
                source: LearnSource::Field(at(FieldId::IN_PORT, 0)),
                target: LearnTarget::Output,
            },
        ],
    };
    let nat = Nat {
        flags: NAT_SRC,
        ipv4_min: Some([10, 1, 1, 1].into()),
        ipv4_max: Some([10, 1, 1, 9].into()),
        port_min: Some(100),
        port_max: Some(200),
        ..Nat::default()
    };
    let tracked = ConnTrack {
        flags: CT_COMMIT,
        zone: CtZone::Immediate(5),
        recirc_table: TableId(3),
        alg: 0,
        actions: vec![Nx::Nat(Box::new(nat)).into()],
    };
    [
        Nx::RegLoad { dst: FieldId::reg(1).bits(0, 16), value: 0x1234 },
        Nx::Learn(Box::new(learn)),
        Nx::Multipath {
            fields: 1,
            basis: 5,
            algorithm: 2,
            max_link: 3,
            arg: 0,
            dst: FieldId::reg(2).whole(),
        },
        Nx::FinTimeout { fin_idle_timeout: 5, fin_hard_timeout: 6 },
        Nx::Note { note: vec![1, 2, 3, 4, 5, 6] },
        Nx::Clone { actions: vec![Action::output(PortNo(1))] },
        Nx::Ct(Box::new(tracked)),
        Nx::ResubmitTable { in_port: PortNo::IN_PORT, table: TableId(4) },
    ]
    .map(Action::from)
    .to_vec()
}

#[test]
fn entries_are_listed_as_they_were_sent() {
    if !root_or_say_so("entries_are_listed_as_they_were_sent") {
        return;
    }
    let bridge = Bridge::new("entries");
    let entry = |fields: Vec<MatchField>| FlowMod {
        table_id: TableId(1),
        priority: 9,
        match_: Match::from(fields),
        instructions: vec![Instruction::ApplyActions(actions())],
        ..FlowMod::default()
    };
    let mut session = bridge.connect(Version::V1_3);
    let reg = MatchField::from(NxmField::reg(0, 5));
    let sent =
        entry(vec![MatchField::EthType(0x0800), MatchField::IpProto(6), MatchField::TcpDst(80), reg.clone()]);
    session.tell(&Message::FlowMod(sent.clone()));
    let expected = (sent.table_id, sent.priority, sent.instructions.clone());
    let listed = session.entries();
    let [(table, priority, match_, instructions)] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((*table, *priority, instructions.clone()), expected);
    for field in &sent.match_.fields {
        assert!(match_.fields.contains(field), "{field:?} is not in {match_:?}");
    }
    session.tell(&Message::FlowMod(FlowMod {
        command: openflow::FlowModCommand::Delete,
        table_id: TableId::ALL,
        ..FlowMod::default()
    }));

    // The same in 1.0, where the table and the register need Nicira's messages.
    let mut session = bridge.connect(Version::V1_0);
    session.tell(&Message::Nicira(NiciraMsg::SetFlowFormat(FlowFormat::Nxm)));
    session.tell(&Message::Nicira(NiciraMsg::FlowModTableId(true)));
    let fields = vec![NxmField::EthType(0x0800), NxmField::IpProto(6), NxmField::reg(0, 5)];
    let sent = entry(fields.into_iter().map(MatchField::from).collect());
    session.tell(&Message::Nicira(NiciraMsg::FlowMod(sent.clone())));
    let listed = session.entries();
    let [(table, _, match_, instructions)] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((*table, instructions), (TableId(1), &sent.instructions));
    for field in &sent.match_.fields {
        assert!(match_.fields.contains(field), "{field:?} is not in {match_:?}");
    }
    let plain = FlowMod {
        table_id: TableId(7),
        flags: FlowModFlags::NX_TABLE_ID,
        match_: Match::new().in_port(PortNo(1)),
        ..FlowMod::default()
    };
    session.tell(&Message::FlowMod(plain));
    assert_eq!(
        session.entries().last().map(|entry| entry.0),
        Some(TableId(7)),
        "a table in a plain flow-mod"
    );
}

#[test]
fn groups_and_meters_are_listed_as_they_were_sent() {
    if !root_or_say_so("groups_and_meters_are_listed_as_they_were_sent") {
        return;
    }
    let bridge = Bridge::new("groups");
    let mut session = bridge.connect(Version::V1_3);
    let bucket = |weight, port| Bucket { weight, ..Bucket::new(vec![Action::output(PortNo(port))]) };
    let group = GroupMod {
        command: GroupModCommand::Add,
        group_type: GroupType::Select,
        group_id: GroupId(7),
        buckets: vec![bucket(10, 1), bucket(20, 2)],
    };
    session.tell(&Message::GroupMod(group.clone()));
    let [ReplyBody::GroupDesc(groups)] = &session.read(RequestBody::GroupDesc)[..] else {
        panic!("no groups")
    };
    let [listed] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!(
        (listed.group_id, listed.group_type, &listed.buckets),
        (group.group_id, group.group_type, &group.buckets)
    );
    let again = session.ask(&Message::GroupMod(group));
    let [Message::Error(ErrorMsg { kind, .. })] = again.as_slice() else { panic!("{again:?}") };
    assert_eq!(*kind, ErrorKind::GroupModGroupExists);

    let meter = MeterMod {
        command: MeterModCommand::Add,
        flags: MeterFlags::KBPS.with(MeterFlags::BURST).with(MeterFlags::STATS),
        meter_id: MeterId(5),
        bands: vec![MeterBand::Drop { rate: 1000, burst_size: 10 }],
    };
    session.tell(&Message::MeterMod(meter.clone()));
    let [ReplyBody::MeterConfig(meters)] = &session.read(RequestBody::MeterConfig(MeterId::ALL))[..] else {
        panic!("no meters")
    };
    let [listed] = meters.as_slice() else { panic!("{meters:?}") };
    assert_eq!((listed.meter_id, listed.flags, &listed.bands), (meter.meter_id, meter.flags, &meter.bands));
}

#[test]
fn a_bundle_takes_effect_whole_or_not_at_all() {
    if !root_or_say_so("a_bundle_takes_effect_whole_or_not_at_all") {
        return;
    }
    let bridge = Bridge::new("bundle");
    let mut session = bridge.connect(Version::V1_3);
    let flags = BundleFlags::ATOMIC.with(BundleFlags::ORDERED);
    let control = |id, kind| Message::Onf(OnfMsg::BundleControl(BundleControl::new(id, kind, flags)));
    // Open vSwitch leaves the flags out of its answers.
    let answer = |id, kind| {
        vec![Message::Onf(OnfMsg::BundleControl(BundleControl::new(id, kind, BundleFlags::default())))]
    };
    let entry = |priority, instructions| FlowMod { priority, instructions, ..FlowMod::default() };
    let good = vec![Instruction::ApplyActions(vec![Action::output(PortNo::LOCAL)])];
    // Nobody has group 99.
    let bad = vec![Instruction::ApplyActions(vec![Action::Group(GroupId(99))])];
    for (id, last, takes_effect) in [(1, good.clone(), true), (2, bad, false)] {
        let before = session.entries().len();
        let opened = session.ask(&control(id, BundleControlKind::OpenRequest));
        assert_eq!(opened, answer(id, BundleControlKind::OpenReply));
        for (priority, instructions) in [(10, good.clone()), (11, last)] {
            // The message in the bundle carries the transaction id of the message around it.
            let flow_mod =
                Message::FlowMod(entry(priority + 10 * u16::try_from(id).expect("small"), instructions));
            let xid = Xid(session.xid + 1);
            session.tell(&Message::Onf(OnfMsg::BundleAdd(BundleAdd::new(id, flags, xid, flow_mod))));
        }
        assert_eq!(session.entries().len(), before, "nothing happens before the commit");
        let done = session.ask(&control(id, BundleControlKind::CommitRequest));
        if takes_effect {
            assert_eq!(done, answer(id, BundleControlKind::CommitReply));
            assert_eq!(session.entries().len(), before + 2);
        } else {
            assert!(done.iter().any(|answer| matches!(answer, Message::Error(_))), "{done:?}");
            assert_eq!(session.entries().len(), before, "all or nothing");
        }
    }
}
