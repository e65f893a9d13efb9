//! PACKET_IN and PACKET_OUT.

use crate::common::{check, encode, hex};
use openflow::{
    Action, BufferId, Cookie, EncodeError, ErrorKind, Match, Message, PacketIn, PacketInReason, PacketOut,
    PortNo, TableId, Version::V1_0, Version::V1_3, Xid,
};

fn packet_in() -> PacketIn {
    PacketIn {
        buffer_id: BufferId::NO_BUFFER,
        total_len: 60,
        reason: PacketInReason::NoMatch,
        in_port: PortNo(3),
        table_id: None,
        cookie: None,
        match_: None,
        data: vec![1, 2, 3],
    }
}

#[test]
fn packet_in_v1_0() {
    let text = "01 0a 0015 00000000  ffffffff 003c 0003 00 00  010203";
    check(text, V1_0, 0, &Message::PacketIn(packet_in()));
}

#[test]
fn packet_in_v1_3() {
    let mut packet = PacketIn {
        reason: PacketInReason::Action,
        table_id: Some(TableId(2)),
        cookie: Some(Cookie(0x1122)),
        match_: Some(Match::new().in_port(PortNo(3))),
        ..packet_in()
    };
    let text = "04 0a 002d 00000000  ffffffff 003c 01 02 0000000000001122
        0001 000c 80000004 00000003 00000000  0000  010203";
    check(text, V1_3, 0, &Message::PacketIn(packet.clone()));
    packet.match_ = None;
    assert_eq!(
        encode(&Message::PacketIn(packet.clone()), V1_3, 0),
        hex(text),
        "the match is made from in_port"
    );
    packet.match_ = Some(Match::new().in_port(PortNo(4)));
    let refused = Message::PacketIn(packet).encode(V1_3, Xid(0), &mut Vec::new());
    assert!(matches!(refused, Err(EncodeError::Invalid { .. })), "{refused:?}");
    let without_port = "04 0a 0022 00000000  ffffffff 003c 02 00 0000000000000000 0001 0004 00000000 0000";
    let (_, _, message) = Message::decode(&hex(without_port)).expect("a packet-in without in_port");
    let Message::PacketIn(packet) = message else { panic!("{message:?}") };
    assert_eq!((packet.in_port, packet.reason), (PortNo::ANY, PacketInReason::InvalidTtl));
}

#[test]
fn packet_out() {
    let packet = PacketOut {
        buffer_id: BufferId::NO_BUFFER,
        in_port: PortNo::CONTROLLER,
        actions: vec![Action::output(PortNo::FLOOD)],
        data: vec![0xaa, 0xbb],
    };
    let text = "01 0d 001a 00000006  ffffffff fffd 0008  0000 0008 fffb 0000  aabb";
    check(text, V1_0, 6, &Message::PacketOut(packet.clone()));
    let text = "04 0d 002a 00000006  ffffffff fffffffd 0010 000000000000
        0000 0010 fffffffb 0000 000000000000  aabb";
    check(text, V1_3, 6, &Message::PacketOut(packet.clone()));
    let kept = PacketOut { buffer_id: BufferId(7), actions: Vec::new(), data: Vec::new(), ..packet };
    check("01 0d 0010 00000006  00000007 fffd 0000", V1_0, 6, &Message::PacketOut(kept));
}

#[test]
fn actions_longer_than_the_message() {
    let error = Message::decode(&hex("01 0d 0018 00000006  ffffffff fffd 0010  0000 0008 fffb 0000"));
    let error = error.expect_err("16 bytes of actions where 8 are");
    assert_eq!(error.error_kind(), ErrorKind::BadRequestBadLen);
    assert_eq!(error.to_string(), "OpenFlow PACKET_OUT: actions at byte 16: 16 bytes are needed, 8 are left");
}
