//! Every multipart request and reply.

use super::messages::{buckets, port};
use super::{Sample, refused, sample};
use openflow::{
    Action, AggregateStats, BucketCounter, Cookie, Experimenter, FieldId, FixedText, FlowModFlags,
    FlowMonitorRequest, FlowStats, FlowStatsRequest, FlowUpdate, FlowUpdateEvent, FlowUpdateFull, GroupDesc,
    GroupFeatures, GroupId, GroupStats, GroupType, Instruction, MULTIPART_MORE, Match, MatchForm, Message,
    MeterBand, MeterBandStats, MeterConfig, MeterFeatures, MeterFlags, MeterId, MeterStats, MultipartReply,
    MultipartRequest, NxFlowStats, NxmField, PortNo, PortStats, QUEUE_ALL, QueueStats, QueueStatsRequest,
    ReplyBody, RequestBody, SwitchDesc, TableFeature as TF, TableFeatures, TableId, TableInfo, TableStats,
    TypeId,
    Version::{self, V1_0, V1_3},
    Xid,
};

pub fn all() -> Vec<Sample> {
    let mut samples = requests();
    samples.extend(replies_of_both());
    samples.extend(replies_of_1_3());
    samples.extend(monitors());
    samples.extend(experimenters());
    samples
}

fn request(name: &str, version: Version, body: RequestBody, says: &'static [&'static str]) -> Sample {
    sample(name, version, Message::MultipartRequest(body.into()), says)
}

fn reply(name: &str, version: Version, body: ReplyBody, says: &'static [&'static str]) -> Sample {
    sample(name, version, Message::MultipartReply(MultipartReply { flags: 0, body }), says)
}

fn requests() -> Vec<Sample> {
    let flows = |version| FlowStatsRequest {
        table_id: TableId(3),
        out_port: PortNo(5),
        match_: Match::new().eth_type(0x0800),
        ..if version == V1_3 {
            FlowStatsRequest { cookie: Cookie(4), cookie_mask: 7, ..FlowStatsRequest::default() }
        } else {
            FlowStatsRequest::default()
        }
    };
    let queue = QueueStatsRequest { port_no: PortNo::ANY, queue_id: QUEUE_ALL };
    let of_port = QueueStatsRequest { port_no: PortNo(3), queue_id: 4 };
    let table = TableFeatures { properties: vec![], ..table() };
    let more = MultipartRequest { flags: MULTIPART_MORE, body: RequestBody::TableFeatures(vec![]) };
    let mut samples = vec![
        request("group_request", V1_3, RequestBody::Group(GroupId::ALL), &["group_id=ALL"]),
        request("group_desc_request", V1_3, RequestBody::GroupDesc, &["OFPST_GROUP_DESC request"]),
        request(
            "group_features_request",
            V1_3,
            RequestBody::GroupFeatures,
            &["OFPST_GROUP_FEATURES request"],
        ),
        request("meter_request", V1_3, RequestBody::Meter(MeterId(7)), &["meter=7"]),
        request("meter_config_request", V1_3, RequestBody::MeterConfig(MeterId::ALL), &["meter=all"]),
        request(
            "meter_features_request",
            V1_3,
            RequestBody::MeterFeatures,
            &["OFPST_METER_FEATURES request"],
        ),
        request(
            "table_features_request",
            V1_3,
            RequestBody::TableFeatures(vec![]),
            &["OFPST_TABLE_FEATURES request"],
        ),
        refused(
            "table_features_bare",
            V1_3,
            Message::MultipartRequest(RequestBody::TableFeatures(vec![table]).into()),
            "it wants all properties of a table",
        ),
        sample("multipart_more", V1_3, Message::MultipartRequest(more), &["OFPST_TABLE_FEATURES request"]),
        request("queue_request_13", V1_3, RequestBody::Queue(queue), &["port=ANY queue=ALL"]),
        request("queue_request_10", V1_0, RequestBody::Queue(of_port), &["port=3 queue=4"]),
        request(
            "nx_flow_request",
            V1_0,
            RequestBody::NxFlow(flows(V1_0)),
            &["NXST_FLOW request", "table=3 out_port=5 ip"],
        ),
        request(
            "nx_aggregate_request",
            V1_0,
            RequestBody::NxAggregate(flows(V1_0)),
            &["NXST_AGGREGATE request"],
        ),
    ];
    for version in [V1_0, V1_3] {
        let n = version.to_wire();
        samples.extend([
            request(&format!("desc_request_{n}"), version, RequestBody::Desc, &["OFPST_DESC request"]),
            request(
                &format!("flow_request_{n}"),
                version,
                RequestBody::Flow(flows(version)),
                &["table=3 out_port=5 ip"],
            ),
            request(
                &format!("aggregate_request_{n}"),
                version,
                RequestBody::Aggregate(flows(version)),
                &["OFPST_AGGREGATE request"],
            ),
            request(&format!("table_request_{n}"), version, RequestBody::Table, &["OFPST_TABLE request"]),
            request(&format!("port_request_{n}"), version, RequestBody::PortStats(PortNo(4)), &["port_no=4"]),
            request(
                &format!("port_desc_request_{n}"),
                version,
                RequestBody::PortDesc,
                &["OFPST_PORT_DESC request"],
            ),
        ]);
    }
    samples
}

fn flow(version: Version) -> FlowStats {
    FlowStats {
        table_id: TableId(3),
        duration_sec: 4,
        duration_nsec: 500_000_000,
        priority: 100,
        idle_timeout: 5,
        hard_timeout: 6,
        flags: if version == V1_3 { FlowModFlags::SEND_FLOW_REM } else { FlowModFlags::default() },
        cookie: Cookie(0xc0),
        packet_count: 1,
        byte_count: 60,
        match_: Match::new().in_port(PortNo(7)),
        instructions: vec![Instruction::ApplyActions(vec![Action::output(PortNo(3))])],
    }
}

fn replies_of_both() -> Vec<Sample> {
    let desc = SwitchDesc {
        mfr_desc: FixedText::from("maker"),
        hw_desc: FixedText::from("hard"),
        sw_desc: FixedText::from("soft"),
        serial_num: FixedText::from("n1"),
        dp_desc: FixedText::from("dp"),
    };
    let sums = AggregateStats { packet_count: 4, byte_count: 240, flow_count: 2 };
    let table = |version| TableStats {
        table_id: TableId(1),
        active_count: 5,
        lookup_count: 74,
        matched_count: 106,
        v1_0: (version == V1_0).then(|| TableInfo {
            name: FixedText::from("one"),
            wildcards: 0x3f_ffff,
            max_entries: 100,
        }),
    };
    let port_stats = |version| PortStats {
        port_no: PortNo(2),
        rx_packets: 1,
        tx_packets: 2,
        rx_bytes: 3,
        tx_bytes: 4,
        rx_dropped: 5,
        tx_dropped: 6,
        rx_errors: 7,
        tx_errors: 8,
        rx_frame_err: 9,
        rx_over_err: 10,
        rx_crc_err: 11,
        collisions: 12,
        duration: (version == V1_3).then_some((1, 500_000_000)),
    };
    let queue = |version| QueueStats {
        port_no: PortNo(3),
        queue_id: 4,
        tx_bytes: 100,
        tx_packets: 2,
        tx_errors: 1,
        duration: (version == V1_3).then_some((3, 0)),
    };
    let mut samples = Vec::new();
    for version in [V1_0, V1_3] {
        let n = version.to_wire();
        let same = FlowStats { instructions: vec![], ..flow(version) };
        samples.extend([
            reply(&format!("desc_reply_{n}"), version, ReplyBody::Desc(Box::new(desc.clone())), &["Manufacturer: maker", "DP Description: dp"]),
            reply(&format!("flow_reply_{n}"), version, ReplyBody::Flow(vec![flow(version), same]), &["cookie=0xc0, duration=4.500s, table=3, n_packets=1, n_bytes=60, idle_timeout=5, hard_timeout=6", "priority=100,in_port=7 actions=output:3", "actions=drop"]),
            reply(&format!("aggregate_reply_{n}"), version, ReplyBody::Aggregate(sums), &["packet_count=4 byte_count=240 flow_count=2"]),
            reply(&format!("table_reply_{n}"), version, ReplyBody::Table(vec![table(version)]), &["active=5, lookup=74, matched=106"]),
            reply(&format!("port_reply_{n}"), version, ReplyBody::PortStats(vec![port_stats(version)]), &["rx pkts=1, bytes=3, drop=5, errs=7, frame=9, over=10, crc=11", "tx pkts=2, bytes=4, drop=6, errs=8, coll=12"]),
            reply(&format!("port_desc_reply_{n}"), version, ReplyBody::PortDesc(vec![port(version)]), &["3(s1-eth3): addr:02:00:00:00:00:03"]),
            reply(&format!("queue_reply_{n}"), version, ReplyBody::Queue(vec![queue(version)]), &["port 3 queue 4: bytes=100, pkts=2, errors=1"]),
        ]);
    }
    let aged = NxFlowStats {
        flow: FlowStats { match_: Match::new().with(NxmField::reg(1, 5).into()), ..flow(V1_0) },
        idle_age: 3,
        hard_age: 4,
    };
    samples.push(reply(
        "nx_flow_reply",
        V1_0,
        ReplyBody::NxFlow(vec![aged]),
        &["idle_age=2, hard_age=3, priority=100,reg1=0x5 actions=output:3"],
    ));
    samples.push(reply(
        "nx_aggregate_reply",
        V1_0,
        ReplyBody::NxAggregate(sums),
        &["NXST_AGGREGATE reply", "flow_count=2"],
    ));
    samples
}

fn replies_of_1_3() -> Vec<Sample> {
    let counter = BucketCounter { packet_count: 1, byte_count: 60 };
    let group = GroupStats {
        group_id: GroupId(7),
        ref_count: 2,
        packet_count: 3,
        byte_count: 180,
        duration_sec: 4,
        duration_nsec: 0,
        buckets: vec![counter, counter],
    };
    let desc = GroupDesc { group_type: GroupType::FastFailover, group_id: GroupId(7), buckets: buckets() };
    let features =
        GroupFeatures { types: 15, capabilities: 7, max_groups: [1, 2, 3, 4], actions: [1, 1, 1, 1] };
    let meter = MeterStats {
        meter_id: MeterId(5),
        flow_count: 2,
        packet_in_count: 3,
        byte_in_count: 180,
        duration_sec: 4,
        duration_nsec: 0,
        bands: vec![MeterBandStats { packet_band_count: 1, byte_band_count: 60 }],
    };
    let bands = vec![MeterBand::Drop { rate: 1000, burst_size: 10 }];
    let config = MeterConfig { flags: MeterFlags::KBPS.with(MeterFlags::BURST), meter_id: MeterId(5), bands };
    let able = MeterFeatures { max_meter: 100, band_types: 2, capabilities: 15, max_bands: 1, max_color: 0 };
    vec![
        reply(
            "group_reply",
            V1_3,
            ReplyBody::Group(vec![group]),
            &[
                "group_id=7,duration=4s,ref_count=2,packet_count=3,byte_count=180,bucket0:packet_count=1,byte_count=60",
            ],
        ),
        reply(
            "group_desc_reply",
            V1_3,
            ReplyBody::GroupDesc(vec![desc]),
            &["group_id=7,type=ff,bucket=", "watch_port:1"],
        ),
        reply(
            "group_features_reply",
            V1_3,
            ReplyBody::GroupFeatures(features),
            &["all group:", "max_groups=0x1"],
        ),
        reply(
            "meter_reply",
            V1_3,
            ReplyBody::Meter(vec![meter]),
            &[
                "meter:5 flow_count:2 packet_in_count:3 byte_in_count:180 duration:4s bands:",
                "packet_count:1 byte_count:60",
            ],
        ),
        reply(
            "meter_config_reply",
            V1_3,
            ReplyBody::MeterConfig(vec![config]),
            &["meter=5 kbps burst bands=", "type=drop rate=1000 burst_size=10"],
        ),
        reply(
            "meter_features_reply",
            V1_3,
            ReplyBody::MeterFeatures(able),
            &["max_meter:100 max_bands:1 max_color:0"],
        ),
        reply(
            "table_features_reply",
            V1_3,
            ReplyBody::TableFeatures(vec![table()]),
            &["table 3 (\"three\")", "max_entries=1000"],
        ),
        refused(
            "table_features_odd",
            V1_3,
            Message::MultipartReply(MultipartReply {
                flags: 0,
                body: ReplyBody::TableFeatures(vec![odd_table()]),
            }),
            "it wants all properties of a table",
        ),
    ]
}

fn ids(kinds: &[u16]) -> Vec<TypeId> {
    kinds.iter().map(|kind| TypeId { kind: *kind, experimenter: None }).collect()
}

fn table() -> TableFeatures {
    let mut metadata = FieldId::new(0x8000, 2, 16);
    metadata.has_mask = true;
    let in_port = FieldId::new(0x8000, 0, 4);
    let fields = vec![in_port, FieldId::reg(1), metadata];
    TableFeatures {
        table_id: TableId(3),
        name: FixedText::from("three"),
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        config: 0,
        max_entries: 1000,
        properties: vec![
            TF::Instructions { miss: false, ids: ids(&[1, 2, 3, 4, 5, 6]) },
            TF::Instructions { miss: true, ids: ids(&[1, 4]) },
            TF::NextTables { miss: false, tables: vec![TableId(4), TableId(5)] },
            TF::NextTables { miss: true, tables: vec![] },
            TF::WriteActions { miss: false, ids: ids(&[0, 22]) },
            TF::WriteActions { miss: true, ids: vec![] },
            TF::ApplyActions { miss: false, ids: ids(&[0, 17, 18, 25]) },
            TF::ApplyActions { miss: true, ids: ids(&[0]) },
            TF::Match(fields.clone()),
            TF::Wildcards(vec![in_port]),
            TF::WriteSetField { miss: false, fields: vec![FieldId::reg(1)] },
            TF::WriteSetField { miss: true, fields: vec![] },
            TF::ApplySetField { miss: false, fields: vec![FieldId::reg(2)] },
            TF::ApplySetField { miss: true, fields: vec![] },
        ],
    }
}

fn odd_table() -> TableFeatures {
    let mut theirs = FieldId::new(0xffff, 42, 6);
    theirs.experimenter = Some(0x4f4e_4600);
    TableFeatures {
        properties: vec![
            TF::Match(vec![theirs]),
            TF::ApplyActions { miss: false, ids: vec![TypeId { kind: 0xffff, experimenter: Some(0x2320) }] },
            TF::Experimenter { miss: true, experimenter: 9, exp_type: 8, body: vec![1, 2, 3] },
            TF::Other { kind: 9, body: vec![1] },
        ],
        ..table()
    }
}

fn monitors() -> Vec<Sample> {
    let asks = |form| FlowMonitorRequest {
        id: 21,
        flags: 0x1f,
        out_port: PortNo(3),
        table_id: TableId(1),
        match_: Match::new().eth_type(0x0800),
        form,
    };
    let changed = |form| {
        FlowUpdate::Full(Box::new(FlowUpdateFull {
            event: FlowUpdateEvent::Added,
            reason: 0,
            priority: 9,
            idle_timeout: 5,
            hard_timeout: 0,
            table_id: TableId(1),
            cookie: Cookie(0xc0),
            match_: Match::new().in_port(PortNo(7)),
            form,
            instructions: vec![Instruction::ApplyActions(vec![Action::output(PortNo(3))])],
        }))
    };
    let ours = FlowUpdate::Abbrev { xid: Xid(0x99) };
    let (bare, headed) = (MatchForm::Fields, MatchForm::Header);
    let reply_of =
        |updates| Message::MultipartReply(MultipartReply { flags: 0, body: ReplyBody::FlowMonitor(updates) });
    let request_of = |requests| Message::MultipartRequest(RequestBody::FlowMonitor(requests).into());
    let why = "it puts the header of a match into monitors of 1.3";
    vec![
        sample(
            "monitor_request_10",
            V1_0,
            request_of(vec![asks(bare), asks(bare)]),
            &["id=21 flags=initial,add,delete,modify,actions out_port=3 table=1 ip"],
        ),
        sample(
            "monitor_request_13",
            V1_3,
            request_of(vec![asks(headed)]),
            &["id=21 flags=initial,add,delete,modify,actions out_port=3 table=1 ip"],
        ),
        refused("monitor_request_13_bare", V1_3, request_of(vec![asks(bare)]), why),
        sample(
            "monitor_reply_10",
            V1_0,
            reply_of(vec![changed(bare), ours.clone()]),
            &[
                "event=ADDED table=1 idle_timeout=5 cookie=0xc0 in_port=7 actions=output:3",
                "event=ABBREV xid=0x99",
            ],
        ),
        sample(
            "monitor_reply_13",
            V1_3,
            reply_of(vec![changed(headed), ours]),
            &["event=ADDED table=1 idle_timeout=5 cookie=0xc0 in_port=7 actions=output:3"],
        ),
        refused("monitor_reply_13_bare", V1_3, reply_of(vec![changed(bare)]), why),
    ]
}

fn experimenters() -> Vec<Sample> {
    let theirs = Experimenter { experimenter: 0x99, body: vec![0, 0, 0, 1, 2, 3] };
    let mut samples = Vec::new();
    for version in [V1_0, V1_3] {
        let n = version.to_wire();
        let asked = Message::MultipartRequest(RequestBody::Experimenter(theirs.clone()).into());
        let body = ReplyBody::Experimenter(theirs.clone());
        let told = Message::MultipartReply(MultipartReply { flags: 0, body });
        let why = "it knows none of that id";
        samples.push(refused(&format!("experimenter_request_{n}"), version, asked, why));
        samples.push(refused(&format!("experimenter_reply_{n}"), version, told, why));
        let other = RequestBody::Other { kind: 77, body: vec![1, 2] };
        let why = "there is no such kind";
        samples.push(refused(
            &format!("other_request_{n}"),
            version,
            Message::MultipartRequest(other.into()),
            why,
        ));
    }
    samples
}
