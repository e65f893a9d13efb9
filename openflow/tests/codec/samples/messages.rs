//! Messages but for multipart ones.

use super::{Sample, refused, sample};
use openflow::{
    Action, AsyncConfig, AsyncProperty, Bucket, BufferId, BundleAdd, BundleControl, BundleControlKind,
    BundleFlags, Cookie, CtFlush, CtTuple, DatapathId, ErrorKind, ErrorMsg, Experimenter, FeaturesReply,
    FixedText, FlowFormat, FlowMod, FlowModCommand, FlowModFlags, FlowRemoved, FlowRemovedReason, GroupId,
    GroupMod, GroupModCommand, GroupType, Hello, Instruction, MacAddr, Match, MatchField, Message, MeterBand,
    MeterFlags, MeterId, MeterMod, MeterModCommand, NICIRA, NiciraMsg, NxmField, ONF, OnfMsg, PacketIn,
    PacketIn2, PacketIn2Property as P2, PacketInFormat, PacketInReason, PacketQueue, Port, PortMod, PortNo,
    PortReason, PortStatus, QueueConfig, QueueProperty, RawProperty, Role, RoleMsg, RoleStatus, SwitchConfig,
    TableId, TableMod, TlvMap, TlvTableMod, TlvTableModCommand, TlvTableReply,
    Version::{self, V1_0, V1_3},
    Xid,
};

pub fn all() -> Vec<Sample> {
    let mut samples = session();
    samples.extend(switch());
    samples.extend(asynchronous());
    samples.extend(changes());
    samples.extend(nicira());
    samples.extend(nicira_1_0());
    samples.extend(onf());
    samples
}

/// The same message in both versions.
fn both(name: &str, message: &Message, says: &'static [&'static str]) -> Vec<Sample> {
    vec![
        sample(&format!("{name}_10"), V1_0, message.clone(), says),
        sample(&format!("{name}_13"), V1_3, message.clone(), says),
    ]
}

fn session() -> Vec<Sample> {
    let refusal = ErrorMsg { kind: ErrorKind::BadRequestBadType, data: vec![4, 2, 0, 8, 0, 0, 0, 1] };
    let bundle = ErrorKind::Experimenter { exp_type: 2305, experimenter: ONF };
    let vendor = ErrorKind::Vendor { vendor: NICIRA, kind: 1, code: 258 };
    let quoted = vec![4, 0, 0, 8, 0, 0, 0, 1];
    let unknown = Experimenter { experimenter: 0x0012_3456, body: vec![0, 0, 0, 1, 2, 3] };
    let mut samples = vec![
        sample("hello_10", V1_0, Message::Hello(Hello::default()), &["OFPT_HELLO"]),
        sample("hello_13", V1_3, Message::Hello(Hello::offering(&[V1_0, V1_3])), &["0x01, 0x04"]),
        sample("error_bundle", V1_3, error(bundle, &quoted), &["OFPBFC_OUT_OF_BUNDLES"]),
        sample("error_vendor", V1_0, error(vendor, &[1, 0, 0, 8, 0, 0, 0, 1]), &["OFPBMC_BAD_VALUE"]),
        sample(
            "role_request_13",
            V1_3,
            Message::RoleRequest(master()),
            &["role=primary", "generation_id=77"],
        ),
        sample("role_reply_13", V1_3, Message::RoleReply(master()), &["role=primary"]),
        refused("experimenter_10", V1_0, Message::Experimenter(unknown.clone()), "it knows none of that id"),
        refused("experimenter_13", V1_3, Message::Experimenter(unknown), "it knows none of that id"),
    ];
    samples.extend(both("error", &Message::Error(refusal), &["OFPBRC_BAD_TYPE"]));
    samples.extend(both("echo_request", &Message::EchoRequest(vec![1, 2, 3]), &["3 bytes of payload"]));
    samples.extend(both("echo_reply", &Message::EchoReply(vec![]), &["OFPT_ECHO_REPLY"]));
    samples.extend(both("barrier_request", &Message::BarrierRequest, &["OFPT_BARRIER_REQUEST"]));
    samples.extend(both("barrier_reply", &Message::BarrierReply, &["OFPT_BARRIER_REPLY"]));
    samples
}

fn error(kind: ErrorKind, data: &[u8]) -> Message {
    Message::Error(ErrorMsg { kind, data: data.to_vec() })
}

fn master() -> RoleMsg {
    RoleMsg { role: Role::Master, generation_id: 77 }
}

pub fn port(version: Version) -> Port {
    let speed = if version == V1_3 { 10_000_000 } else { 0 };
    Port {
        port_no: PortNo(3),
        hw_addr: MacAddr([2, 0, 0, 0, 0, 3]),
        name: FixedText::from("s1-eth3"),
        config: 0,
        state: if version == V1_3 { 4 } else { 0 },
        curr: 1 << 6 | 1 << 11,
        advertised: 1 << 5,
        supported: 1 << 4 | 1 << 13,
        peer: 1 << 14,
        curr_speed_kbps: speed,
        max_speed_kbps: speed,
    }
}

fn switch() -> Vec<Sample> {
    let features = |ports| FeaturesReply {
        datapath_id: DatapathId(0xabc),
        n_buffers: 256,
        n_tables: 254,
        auxiliary_id: 0,
        capabilities: 7,
        actions: if ports { 0xfff } else { 0 },
        ports: ports.then(|| vec![port(V1_0)]),
    };
    let config = SwitchConfig { flags: 0, miss_send_len: 128 };
    let masks = AsyncConfig { packet_in_mask: [3, 1], port_status_mask: [7, 4], flow_removed_mask: [15, 0] };
    let queue = |properties| PacketQueue { queue_id: 9, port: PortNo(3), properties };
    let queues_10 = QueueConfig { port: PortNo(3), queues: vec![queue(vec![QueueProperty::MinRate(500)])] };
    let properties = vec![QueueProperty::MinRate(500), QueueProperty::MaxRate(900)];
    let queues_13 = QueueConfig { port: PortNo(3), queues: vec![queue(properties), queue(vec![])] };
    let odd = vec![
        QueueProperty::Experimenter { experimenter: 0x999, body: vec![1, 2, 3] },
        QueueProperty::Other { kind: 77, body: vec![5; 8] },
    ];
    let odd = QueueConfig { port: PortNo::ANY, queues: vec![queue(odd)] };
    let mut samples = vec![
        sample(
            "features_reply_10",
            V1_0,
            Message::FeaturesReply(features(true)),
            &["0000000000000abc", "s1-eth3"],
        ),
        sample("features_reply_13", V1_3, Message::FeaturesReply(features(false)), &["n_tables:254"]),
        sample(
            "table_mod",
            V1_3,
            Message::TableMod(TableMod { table_id: TableId(7), config: 0 }),
            &["table_id=7"],
        ),
        sample(
            "queue_config_reply_10",
            V1_0,
            Message::QueueGetConfigReply(queues_10),
            &["queue 9:", "min_rate:50.0%"],
        ),
        sample("queue_config_reply_13", V1_3, Message::QueueGetConfigReply(queues_13), &["max_rate:90.0%"]),
        refused(
            "queue_config_odd",
            V1_3,
            Message::QueueGetConfigReply(odd),
            "it wants whole properties of 8 bytes",
        ),
        sample("get_async_request", V1_3, Message::GetAsyncRequest, &["OFPT_GET_ASYNC_REQUEST"]),
        sample("get_async_reply", V1_3, Message::GetAsyncReply(masks), &["PACKET_IN: no_match action"]),
        sample("set_async", V1_3, Message::SetAsync(masks), &["PORT_STATUS: add delete modify"]),
        sample(
            "nxt_set_async",
            V1_0,
            Message::Nicira(NiciraMsg::SetAsyncConfig(masks)),
            &["PACKET_IN: no_match action"],
        ),
    ];
    samples.extend(both("features_request", &Message::FeaturesRequest, &["OFPT_FEATURES_REQUEST"]));
    samples.extend(both("get_config_request", &Message::GetConfigRequest, &["OFPT_GET_CONFIG_REQUEST"]));
    samples.extend(both("get_config_reply", &Message::GetConfigReply(config), &["miss_send_len=128"]));
    samples.extend(both("set_config", &Message::SetConfig(config), &["miss_send_len=128"]));
    samples.extend(both("queue_config_request", &Message::QueueGetConfigRequest(PortNo(3)), &["port=3"]));
    samples
}

fn asynchronous() -> Vec<Sample> {
    let match_ = Match::new().in_port(PortNo(3)).with(MatchField::TunnelId { value: 5, mask: None });
    let packet_in = |match_: Option<Match>| PacketIn {
        buffer_id: BufferId(0x111),
        total_len: 60,
        reason: PacketInReason::Action,
        in_port: PortNo(3),
        table_id: match_.is_some().then_some(TableId(2)),
        cookie: match_.is_some().then_some(Cookie(0xc0)),
        match_,
        data: vec![0xff; 60],
    };
    let removed = |v1_3: bool| FlowRemoved {
        cookie: Cookie(0xc1),
        priority: 10,
        reason: FlowRemovedReason::IdleTimeout,
        table_id: v1_3.then_some(TableId(2)),
        duration_sec: 8,
        duration_nsec: 500_000_000,
        idle_timeout: 5,
        hard_timeout: v1_3.then_some(30),
        packet_count: 3,
        byte_count: 180,
        match_: Match::new().in_port(PortNo(3)).eth_type(0x0800).ip_proto(6).tcp_dst(80),
    };
    let status =
        |version| Message::PortStatus(PortStatus { reason: PortReason::Modify, port: port(version) });
    vec![
        sample("packet_in_10", V1_0, Message::PacketIn(packet_in(None)), &["in_port=3", "total_len=60"]),
        sample(
            "packet_in_13",
            V1_3,
            Message::PacketIn(packet_in(Some(match_))),
            &["table_id=2 cookie=0xc0", "tun_id=0x5,in_port=3"],
        ),
        sample(
            "flow_removed_10",
            V1_0,
            Message::FlowRemoved(removed(false)),
            &["reason=idle", "cookie:0xc1 duration8.500s idle5 pkts3 bytes180"],
        ),
        sample("flow_removed_13", V1_3, Message::FlowRemoved(removed(true)), &["table_id=2", "hard30"]),
        sample(
            "port_status_10",
            V1_0,
            status(V1_0),
            &["MOD: 3(s1-eth3): addr:02:00:00:00:00:03", "10GB-FD COPPER"],
        ),
        sample("port_status_13", V1_3, status(V1_3), &["MOD: 3(s1-eth3)", "speed: 10000 Mbps now"]),
    ]
}

pub fn buckets() -> Vec<Bucket> {
    let output = |port| vec![Action::output(PortNo(port))];
    vec![
        Bucket { watch_port: PortNo(1), ..Bucket::new(output(1)) },
        Bucket { watch_group: GroupId(8), ..Bucket::new(output(2)) },
        Bucket { watch_port: PortNo(3), ..Bucket::new(vec![]) },
    ]
}

fn changes() -> Vec<Sample> {
    let group = |command, group_type, buckets| {
        Message::GroupMod(GroupMod { command, group_type, group_id: GroupId(7), buckets })
    };
    let weighted = vec![Bucket { weight: 30, ..Bucket::new(vec![Action::output(PortNo(5))]) }];
    let meter =
        |command, flags, bands| Message::MeterMod(MeterMod { command, flags, meter_id: MeterId(6), bands });
    let drop = MeterBand::Drop { rate: 1000, burst_size: 10 };
    let remark = MeterBand::DscpRemark { rate: 500, burst_size: 5, prec_level: 1 };
    let odd = vec![
        MeterBand::Experimenter { rate: 1, burst_size: 2, experimenter: 3, body: vec![] },
        MeterBand::Other { kind: 9, body: vec![0; 12] },
    ];
    let kbps = MeterFlags::KBPS.with(MeterFlags::BURST).with(MeterFlags::STATS);
    let entry = FlowMod {
        cookie: Cookie(0x0102_0304_0506_0708),
        table_id: TableId(4),
        priority: 100,
        idle_timeout: 10,
        flags: FlowModFlags::SEND_FLOW_REM,
        match_: Match::new().eth_type(0x0800).ipv4_dst_prefix([10, 0, 0, 0].into(), 8),
        instructions: vec![
            Instruction::Meter(MeterId(6)),
            Instruction::ApplyActions(vec![Action::Group(GroupId(7))]),
            Instruction::ClearActions,
            Instruction::WriteActions(vec![Action::output(PortNo(1))]),
            Instruction::WriteMetadata { metadata: 0x12, mask: 0xff },
            Instruction::GotoTable(TableId(5)),
        ],
        ..FlowMod::default()
    };
    let unknown = vec![
        Instruction::Experimenter { experimenter: 0x99, body: vec![1, 2, 3, 4, 5, 6, 7, 8] },
        Instruction::Other { kind: 33, body: vec![0; 4] },
    ];
    let unknown = FlowMod { instructions: unknown, ..FlowMod::default() };
    let delete = FlowMod {
        command: FlowModCommand::DeleteStrict,
        table_id: TableId(2),
        flags: FlowModFlags::NX_TABLE_ID,
        out_port: PortNo(9),
        ..FlowMod::default()
    };
    let port_mod = PortMod {
        port_no: PortNo(3),
        hw_addr: MacAddr([2, 0, 0, 0, 0, 3]),
        config: 1,
        mask: 1,
        advertise: 1 << 6,
    };
    let mut samples = vec![
        sample(
            "group_mod_add",
            V1_3,
            group(GroupModCommand::Add, GroupType::FastFailover, buckets()),
            &["ADD group_id=7,type=ff", "watch_port:1", "watch_group:8"],
        ),
        sample(
            "group_mod_modify",
            V1_3,
            group(GroupModCommand::Modify, GroupType::Select, weighted),
            &["MOD group_id=7,type=select", "weight:30", "actions=output:5"],
        ),
        sample(
            "group_mod_delete",
            V1_3,
            group(GroupModCommand::Delete, GroupType::All, vec![]),
            &["DEL group_id=7"],
        ),
        sample(
            "meter_mod_add",
            V1_3,
            meter(MeterModCommand::Add, kbps, vec![drop, remark]),
            &[
                "ADD meter=6 kbps burst stats bands=",
                "type=drop rate=1000 burst_size=10",
                "type=dscp_remark rate=500 burst_size=5 prec_level=1",
            ],
        ),
        sample(
            "meter_mod_delete",
            V1_3,
            meter(MeterModCommand::Delete, MeterFlags::PKTPS, vec![]),
            &["DEL meter=6"],
        ),
        refused(
            "meter_mod_odd",
            V1_3,
            meter(MeterModCommand::Modify, kbps, odd),
            "it knows no bands of experimenters",
        ),
        sample(
            "flow_mod_instructions",
            V1_3,
            Message::FlowMod(entry),
            &[
                "table:4 priority=100,ip,nw_dst=10.0.0.0/8",
                "meter:6,group:7,clear_actions,write_actions(output:1),write_metadata:0x12/0xff,goto_table:5",
            ],
        ),
        refused("flow_mod_unknown_instructions", V1_3, Message::FlowMod(unknown), "it knows none of those"),
        sample(
            "flow_mod_nx_table_10",
            V1_0,
            Message::FlowMod(delete),
            &["DEL_STRICT table:2 priority=0 out_port:9"],
        ),
    ];
    samples.extend(both(
        "port_mod",
        &Message::PortMod(port_mod),
        &["port: 3: addr:02:00:00:00:00:03", "10GB-FD"],
    ));
    samples
}

fn nicira() -> Vec<Sample> {
    let metadata = Match::new().with(NxmField::InPort(PortNo(3)).into()).with(NxmField::reg(0, 7).into());
    let packet = PacketIn2 {
        properties: vec![
            P2::Packet(vec![0xff; 20]),
            P2::FullLen(64),
            P2::TableId(TableId(4)),
            P2::Cookie(Cookie(0xfe)),
            P2::Reason(PacketInReason::Action),
            P2::Metadata(metadata.clone()),
            P2::Userdata(vec![1, 2, 3]),
        ],
    };
    let resume = PacketIn2 {
        properties: vec![
            P2::Packet(vec![0xff; 20]),
            P2::Metadata(metadata.clone()),
            // A continuation of Open vSwitch begins with four bytes of padding.
            P2::Continuation(vec![0; 4]),
        ],
    };
    let odd = vec![P2::BufferId(BufferId(5)), P2::Other { kind: 99, body: vec![1] }];
    let packet_in = PacketIn {
        buffer_id: BufferId(0x114),
        total_len: 64,
        reason: PacketInReason::NoMatch,
        in_port: PortNo(3),
        table_id: Some(TableId(1)),
        cookie: Some(Cookie(0xbe)),
        match_: Some(metadata),
        data: vec![0xff; 20],
    };
    let map = TlvMap { option_class: 0xffff, option_type: 3, option_len: 8, index: 2 };
    let table = |command, maps| NiciraMsg::TlvTableMod(TlvTableMod { command, maps });
    let reply = TlvTableReply { max_option_space: 256, max_fields: 64, maps: vec![map] };
    let masks = vec![AsyncProperty::Mask { kind: 0, mask: 1 }, AsyncProperty::Mask { kind: 5, mask: 3 }];
    let other = AsyncProperty::Other(RawProperty { kind: 0xffff, body: vec![1; 12] });
    let flush = CtFlush { ip_proto: 6, properties: vec![RawProperty { kind: 2, body: vec![0, 13] }] };
    let client = CtTuple {
        src: Some([10, 9, 0, 1].into()),
        dst: Some([10, 9, 1, 1].into()),
        src_port: Some(4000),
        dst_port: Some(53),
    };
    let backend =
        CtTuple { src: Some("fd09::3".parse().unwrap()), src_port: Some(5300), ..CtTuple::default() };
    let mut samples = Vec::new();
    for (name, message, says) in [
        (
            "nxt_ct_flush_client",
            NiciraMsg::CtFlush(CtFlush::new(77, 17, &client, &CtTuple::default())),
            &[
                "zone=77",
                "ct_nw_proto=17",
                "ct_nw_src=10.9.0.1,ct_nw_dst=10.9.1.1",
                "ct_tp_src=4000,ct_tp_dst=53",
            ][..],
        ),
        (
            "nxt_ct_flush_backend",
            NiciraMsg::CtFlush(CtFlush::new(77, 17, &CtTuple::default(), &backend)),
            &["zone=77", "ct_ipv6_src=fd09::3", "ct_tp_src=5300"],
        ),
        ("nxt_role_request", NiciraMsg::RoleRequest(Role::Master), &["role=primary"][..]),
        ("nxt_role_reply", NiciraMsg::RoleReply(Role::Slave), &["role=secondary"]),
        ("nxt_flow_mod_table_id", NiciraMsg::FlowModTableId(true), &["enable"]),
        (
            "nxt_set_packet_in_format",
            NiciraMsg::SetPacketInFormat(PacketInFormat::Nxt2),
            &["format=nxt_packet_in2"],
        ),
        ("nxt_ct_flush", NiciraMsg::CtFlush(flush), &["zone=13", "ct_nw_proto=6"]),
        ("nxt_flow_age", NiciraMsg::FlowAge, &["NXT_FLOW_AGE"]),
        ("nxt_set_controller_id", NiciraMsg::SetControllerId(123), &["id=123"]),
        ("nxt_tlv_table_mod", table(TlvTableModCommand::Add, vec![map]), &["0xffff"]),
        ("nxt_tlv_table_clear", table(TlvTableModCommand::Clear, vec![]), &["CLEAR"]),
        ("nxt_tlv_table_request", NiciraMsg::TlvTableRequest, &["NXT_TLV_TABLE_REQUEST"]),
        ("nxt_tlv_table_reply", NiciraMsg::TlvTableReply(reply), &["max option space=256 max fields=64"]),
        ("nxt_ct_flush_zone", NiciraMsg::CtFlushZone(13), &["zone_id=13"]),
        (
            "nxt_set_async_config2",
            NiciraMsg::SetAsyncConfig2(masks),
            &["NXT_SET_ASYNC_CONFIG2", "FLOW_REMOVED: idle hard"],
        ),
        (
            "nxt_packet_in",
            NiciraMsg::PacketIn(packet_in),
            &["table_id=1 cookie=0xbe total_len=64 reg0=0x7,in_port=3 (via no_match)"],
        ),
        (
            "nxt_packet_in2",
            NiciraMsg::PacketIn2(packet),
            &["table_id=4 cookie=0xfe total_len=64 reg0=0x7,in_port=3 (via action)", "userdata=01.02.03"],
        ),
        ("nxt_resume", NiciraMsg::Resume(resume), &["NXT_RESUME"]),
    ] {
        for version in [V1_0, V1_3] {
            let name = format!("{name}_{}", version.to_wire());
            samples.push(sample(&name, version, Message::Nicira(message.clone()), says));
        }
    }
    for (name, message, why) in [
        (
            "nxt_packet_in2_odd",
            NiciraMsg::PacketIn2(PacketIn2 { properties: odd }),
            "there is no packet in it",
        ),
        ("nxt_async_odd", NiciraMsg::SetAsyncConfig2(vec![other]), "it knows no such property"),
    ] {
        samples.push(refused(name, V1_3, Message::Nicira(message), why));
    }
    samples
}

fn nicira_1_0() -> Vec<Sample> {
    let entry = FlowMod {
        cookie: Cookie(0xe1),
        priority: 30,
        match_: Match::from(vec![
            NxmField::InPort(PortNo(1)).into(),
            NxmField::EthType(0x0800).into(),
            NxmField::IpDst { value: [10, 0, 0, 0].into(), mask: Some([255, 0, 0, 0].into()) }.into(),
            NxmField::Reg { index: 3, value: 0x10, mask: Some(0xf0) }.into(),
        ]),
        instructions: vec![Instruction::ApplyActions(vec![Action::output(PortNo(2))])],
        ..FlowMod::default()
    };
    let removed = FlowRemoved {
        cookie: Cookie(0xe2),
        priority: 30,
        reason: FlowRemovedReason::Delete,
        table_id: Some(TableId(3)),
        duration_sec: 1,
        duration_nsec: 0,
        idle_timeout: 5,
        hard_timeout: None,
        packet_count: 1,
        byte_count: 60,
        match_: Match::new().with(NxmField::ConjId(5).into()),
    };
    let unknown_table = FlowRemoved { table_id: None, ..removed.clone() };
    let mut samples = Vec::new();
    for (name, message, says) in [
        ("nxt_set_flow_format", NiciraMsg::SetFlowFormat(FlowFormat::Nxm), &["format=nxm"][..]),
        (
            "nxt_flow_mod",
            NiciraMsg::FlowMod(entry),
            &[
                "ADD priority=30,ip,reg3=0x10/0xf0,in_port=1,nw_dst=10.0.0.0/8",
                "cookie:0xe1",
                "actions=output:2",
            ],
        ),
        ("nxt_flow_removed", NiciraMsg::FlowRemoved(removed), &["conj_id=5", "reason=delete", "table_id=3"]),
        ("nxt_flow_removed_no_table", NiciraMsg::FlowRemoved(unknown_table), &["reason=delete"]),
        ("nxt_flow_monitor_cancel", NiciraMsg::FlowMonitorCancel(21), &["21"]),
        ("nxt_flow_monitor_paused", NiciraMsg::FlowMonitorPaused, &["NXT_FLOW_MONITOR_PAUSED"]),
        ("nxt_flow_monitor_resumed", NiciraMsg::FlowMonitorResumed, &["NXT_FLOW_MONITOR_RESUMED"]),
    ] {
        samples.push(sample(name, V1_0, Message::Nicira(message), says));
    }
    samples
}

fn onf() -> Vec<Sample> {
    let flags = BundleFlags::ATOMIC.with(BundleFlags::ORDERED);
    let entry = FlowMod { match_: Match::new().in_port(PortNo(1)), ..FlowMod::default() };
    let add = BundleAdd::new(5, flags, Xid(0x77), Message::FlowMod(entry));
    let mut with_property = add.clone();
    with_property.properties = vec![RawProperty { kind: 0xffff, body: vec![0, 0, 9, 9, 0, 0, 0, 1] }];
    let echo = BundleAdd::new(5, flags, Xid(0x77), Message::EchoRequest(vec![1, 2, 3]));
    let mut padded = echo.clone();
    padded.properties = vec![RawProperty { kind: 1, body: vec![] }];
    let role = RoleStatus { role: Role::Slave, reason: 0, generation_id: 11, properties: vec![] };
    let forwarded = *BundleAdd::new(
        0,
        flags,
        Xid(9),
        Message::GroupMod(GroupMod {
            command: GroupModCommand::Delete,
            group_type: GroupType::All,
            group_id: GroupId::ALL,
            buckets: vec![],
        }),
    )
    .message;
    let kinds = [
        (BundleControlKind::OpenRequest, "type=OPEN_REQUEST"),
        (BundleControlKind::OpenReply, "type=OPEN_REPLY"),
        (BundleControlKind::CloseRequest, "type=CLOSE_REQUEST"),
        (BundleControlKind::CloseReply, "type=CLOSE_REPLY"),
        (BundleControlKind::CommitRequest, "type=COMMIT_REQUEST"),
        (BundleControlKind::CommitReply, "type=COMMIT_REPLY"),
        (BundleControlKind::DiscardRequest, "type=DISCARD_REQUEST"),
        (BundleControlKind::DiscardReply, "type=DISCARD_REPLY"),
    ];
    let mut samples = Vec::new();
    for (kind, _) in kinds {
        let message = OnfMsg::BundleControl(BundleControl::new(5, kind, flags));
        let name = format!("onf_bundle_{kind:?}").to_lowercase();
        samples.push(sample(&name, V1_3, Message::Onf(message), &["bundle_id=0x5", "flags=atomic ordered"]));
    }
    let mut control = BundleControl::new(5, BundleControlKind::OpenRequest, flags);
    control.properties = vec![RawProperty { kind: 1, body: vec![0; 4] }];
    for (name, message, says) in [
        ("onf_bundle_properties", OnfMsg::BundleControl(control), &["type=OPEN_REQUEST"][..]),
        (
            "onf_bundle_add",
            OnfMsg::BundleAdd(add),
            &["bundle_id=0x5", "OFPT_FLOW_MOD (OF1.3) (xid=0x77): ADD priority=0,in_port=1"],
        ),
        ("onf_bundle_add_property", OnfMsg::BundleAdd(with_property), &["OFPT_FLOW_MOD"]),
        ("onf_flow_monitor_cancel", OnfMsg::FlowMonitorCancel(21), &["21"]),
        ("onf_flow_monitor_paused", OnfMsg::FlowMonitorPaused, &["FLOW_MONITOR_PAUSED"]),
        ("onf_flow_monitor_resumed", OnfMsg::FlowMonitorResumed, &["FLOW_MONITOR_RESUMED"]),
        (
            "onf_role_status",
            OnfMsg::RoleStatus(role),
            &["role=secondary generation_id=11 reason=primary_request"],
        ),
        (
            "onf_request_forward",
            OnfMsg::RequestForward(Box::new(forwarded)),
            &["reason=group_mod\n DEL group_id="],
        ),
    ] {
        samples.push(sample(name, V1_3, Message::Onf(message), says));
    }
    for (name, add) in [("onf_bundle_add_echo", echo), ("onf_bundle_add_padded", padded)] {
        let why = "it takes no such message into a bundle";
        samples.push(refused(name, V1_3, Message::Onf(OnfMsg::BundleAdd(add)), why));
    }
    samples
}
