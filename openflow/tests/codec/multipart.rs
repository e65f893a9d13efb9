//! Multipart messages, which are the statistics messages of 1.0.

use crate::common::{check, hex};
use openflow::{
    Action, AggregateStats, Cookie, EncodeError, FixedText, FlowModFlags, FlowStats, FlowStatsRequest,
    GroupId, Instruction, MULTIPART_MORE, MacAddr, Match, Message, MultipartReply, MultipartRequest, Port,
    PortNo, PortStats, ReplyBody, RequestBody, SwitchDesc, TableId, TableInfo, TableStats, Version::V1_0,
    Version::V1_3, Xid,
};

const ALL_V1_0: &str =
    "003fffff 0000 000000000000 000000000000 0000 00 00 0000 00 00 0000 00000000 00000000 0000 0000";

fn request(body: RequestBody) -> Message {
    Message::MultipartRequest(body.into())
}

fn reply(body: ReplyBody) -> Message {
    Message::MultipartReply(MultipartReply { flags: 0, body })
}

#[test]
fn requests_without_a_body() {
    check("01 10 000c 00000001 0000 0000", V1_0, 1, &request(RequestBody::Desc));
    check("01 10 000c 00000001 0003 0000", V1_0, 1, &request(RequestBody::Table));
    check("04 12 0010 00000001 0000 0000 00000000", V1_3, 1, &request(RequestBody::Desc));
    check("04 12 0010 00000001 0003 0000 00000000", V1_3, 1, &request(RequestBody::Table));
    check("04 12 0010 00000001 000d 0000 00000000", V1_3, 1, &request(RequestBody::PortDesc));
    let more =
        MultipartRequest { flags: MULTIPART_MORE, body: RequestBody::Other { kind: 14, body: vec![1, 2] } };
    check("04 12 0012 00000001 000e 0001 00000000 0102", V1_3, 1, &Message::MultipartRequest(more));
    check("01 10 000c 00000001 000d 0000", V1_0, 1, &request(RequestBody::PortDesc));
    let refused = request(RequestBody::GroupDesc).encode(V1_0, Xid(1), &mut Vec::new());
    assert!(matches!(refused, Err(EncodeError::NotInVersion { .. })), "{refused:?}");
}

#[test]
fn flow_requests() {
    let text = format!("01 10 0038 00000001 0001 0000 {ALL_V1_0} ff 00 ffff");
    check(&text, V1_0, 1, &request(RequestBody::Flow(FlowStatsRequest::default())));
    let narrow = FlowStatsRequest {
        table_id: TableId(2),
        out_port: PortNo(1),
        out_group: GroupId(9),
        cookie: Cookie(0x1100),
        cookie_mask: 0xff00,
        match_: Match::new(),
    };
    let text = "04 12 0038 00000001 0002 0000 00000000 02 000000 00000001 00000009 00000000
        0000000000001100 000000000000ff00 0001 0004 00000000";
    check(text, V1_3, 1, &request(RequestBody::Aggregate(narrow)));
}

#[test]
fn port_requests() {
    check(
        "01 10 0014 00000001 0004 0000 ffff 000000000000",
        V1_0,
        1,
        &request(RequestBody::PortStats(PortNo::ANY)),
    );
    let text = "04 12 0018 00000001 0004 0000 00000000 00000005 00000000";
    check(text, V1_3, 1, &request(RequestBody::PortStats(PortNo(5))));
}

#[test]
fn description() {
    let desc = SwitchDesc {
        mfr_desc: FixedText::from("m"),
        hw_desc: FixedText::from("h".repeat(256).as_str()),
        sw_desc: FixedText::from("s"),
        serial_num: FixedText::from("1"),
        dp_desc: FixedText::default(),
    };
    let zeros = |count: usize| "00".repeat(count);
    let body =
        format!("6d{} {} 73{} 31{} {}", zeros(255), "68".repeat(256), zeros(255), zeros(31), zeros(256));
    let message = reply(ReplyBody::Desc(Box::new(desc.clone())));
    check(&format!("01 11 042c 00000001 0000 0000 {body}"), V1_0, 1, &message);
    check(&format!("04 13 0430 00000001 0000 0000 00000000 {body}"), V1_3, 1, &message);
    let long = SwitchDesc { serial_num: FixedText::from("x".repeat(33).as_str()), ..desc };
    let error = reply(ReplyBody::Desc(Box::new(long))).encode(V1_3, Xid(1), &mut Vec::new());
    assert_eq!(error, Err(EncodeError::TooLong { what: "serial_num", size_bytes: 33, max_bytes: 32 }));
}

fn flow_stats() -> FlowStats {
    FlowStats {
        table_id: TableId(1),
        duration_sec: 2,
        duration_nsec: 3,
        priority: 4,
        idle_timeout: 5,
        hard_timeout: 6,
        flags: FlowModFlags::default(),
        cookie: Cookie(7),
        packet_count: 8,
        byte_count: 9,
        match_: Match::new(),
        instructions: vec![Instruction::ApplyActions(vec![Action::output(PortNo(1))])],
    }
}

#[test]
fn flow_reply_v1_0() {
    let bare = FlowStats { instructions: Vec::new(), ..flow_stats() };
    let counters = "0000000000000007 0000000000000008 0000000000000009";
    let head = format!("01 00 {ALL_V1_0} 00000002 00000003 0004 0005 0006 000000000000 {counters}");
    let text = format!("01 11 00c4 00000001 0001 0000 0060 {head} 0000 0008 0001 0000 0058 {head}");
    check(&text, V1_0, 1, &reply(ReplyBody::Flow(vec![flow_stats(), bare])));
    check("01 11 000c 00000001 0001 0000", V1_0, 1, &reply(ReplyBody::Flow(Vec::new())));
}

#[test]
fn flow_reply_v1_3() {
    let stats = FlowStats { flags: FlowModFlags::NO_BYT_COUNTS, ..flow_stats() };
    let text = "04 13 0060 00000001 0001 0001 00000000
        0050 01 00 00000002 00000003 0004 0005 0006 0010 00000000
        0000000000000007 0000000000000008 0000000000000009 0001 0004 00000000
        0004 0018 00000000 0000 0010 00000001 0000 000000000000";
    let message = MultipartReply { flags: MULTIPART_MORE, body: ReplyBody::Flow(vec![stats]) };
    assert!(message.more());
    check(text, V1_3, 1, &Message::MultipartReply(message));
}

#[test]
fn a_flow_entry_that_does_not_get_on() {
    for length in ["0000", "0001", "0037", "0051"] {
        let text = format!(
            "04 13 0048 00000001 0001 0000 00000000 {length} 01 00 00000002 00000003 0004 0005 0006 0010 00000000
             0000000000000007 0000000000000008 0000000000000009 0001 0004 00000000"
        );
        let error = Message::decode(&hex(&text)).expect_err(length);
        assert!(error.to_string().starts_with("OpenFlow MULTIPART_REPLY: "), "{error}");
    }
}

#[test]
fn sums_and_tables() {
    let sums = reply(ReplyBody::Aggregate(AggregateStats { packet_count: 1, byte_count: 2, flow_count: 3 }));
    let body = "0000000000000001 0000000000000002 00000003 00000000";
    check(&format!("01 11 0024 00000001 0002 0000 {body}"), V1_0, 1, &sums);
    check(&format!("04 13 0028 00000001 0002 0000 00000000 {body}"), V1_3, 1, &sums);
    let info =
        TableInfo { name: FixedText::from("classifier"), wildcards: 0x3f_ffff, max_entries: 1_000_000 };
    let mut table = TableStats {
        table_id: TableId(0),
        active_count: 1,
        lookup_count: 2,
        matched_count: 3,
        v1_0: Some(info),
    };
    let text = format!(
        "01 11 004c 00000001 0003 0000 00 000000 636c6173736966696572 {} 003fffff 000f4240
         00000001 0000000000000002 0000000000000003",
        "00".repeat(22)
    );
    check(&text, V1_0, 1, &reply(ReplyBody::Table(vec![table.clone()])));
    table.v1_0 = None;
    let text = "04 13 0028 00000001 0003 0000 00000000 00 000000 00000001 0000000000000002 0000000000000003";
    check(text, V1_3, 1, &reply(ReplyBody::Table(vec![table])));
}

#[test]
fn ports() {
    let mut stats = PortStats {
        port_no: PortNo::LOCAL,
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
        collisions: u64::MAX,
        duration: None,
    };
    let counters: String = (1..=11).map(|count| format!("{count:016x}")).chain(["f".repeat(16)]).collect();
    let text = format!("01 11 0074 00000001 0004 0000 fffe 000000000000 {counters}");
    check(&text, V1_0, 1, &reply(ReplyBody::PortStats(vec![stats.clone()])));
    stats.duration = Some((12, 13));
    let text =
        format!("04 13 0080 00000001 0004 0000 00000000 fffffffe 00000000 {counters} 0000000c 0000000d");
    check(&text, V1_3, 1, &reply(ReplyBody::PortStats(vec![stats])));
}

#[test]
fn port_descriptions() {
    let port = Port {
        port_no: PortNo(1),
        hw_addr: MacAddr([2, 0, 0, 0, 0, 1]),
        name: FixedText::from("s1-eth1"),
        config: 0,
        state: 4,
        curr: 0x840,
        advertised: 1,
        supported: 2,
        peer: 3,
        curr_speed_kbps: 10_000_000,
        max_speed_kbps: 0,
    };
    assert!(port.is_up());
    let text = "04 13 0050 00000001 000d 0000 00000000 00000001 00000000 020000000001 0000
        73312d65746831 000000000000000000 00000000 00000004 00000840 00000001 00000002 00000003 00989680 00000000";
    check(text, V1_3, 1, &reply(ReplyBody::PortDesc(vec![port])));
}
