//! Actions of both versions, inside a PACKET_OUT.

use crate::common::{check, hex};
use openflow::{
    Action, BufferId, ErrorKind, GroupId, MacAddr, MatchField as F, Message, PacketOut, PortNo, Version,
    Version::V1_0, Version::V1_3, Xid,
};

fn packet_out(actions: Vec<Action>) -> Message {
    Message::PacketOut(PacketOut { buffer_id: BufferId(1), in_port: PortNo::ANY, actions, data: Vec::new() })
}

fn around(actions: &str, version: Version) -> String {
    let size = hex(actions).len();
    match version {
        V1_0 => format!("01 0d {:04x} 00000001 00000001 ffff {size:04x} {actions}", 16 + size),
        V1_3 => {
            format!("04 0d {:04x} 00000001 00000001 ffffffff {size:04x} 000000000000 {actions}", 24 + size)
        }
    }
}

fn check_one(actions: &str, version: Version, action: Action) {
    check(&around(actions, version), version, 1, &packet_out(vec![action]));
}

#[test]
fn actions_v1_0() {
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let table = [
        ("0000 0008 fffd 0080", Action::Output { port: PortNo::CONTROLLER, max_len: 128 }),
        ("0001 0008 0064 0000", Action::SetVlanVid(100)),
        ("0002 0008 07 000000", Action::SetVlanPcp(7)),
        ("0003 0008 00000000", Action::StripVlan),
        ("0004 0010 020000000009 000000000000", Action::SetField(F::EthSrc { value: mac, mask: None })),
        ("0005 0010 020000000009 000000000000", Action::SetField(F::EthDst { value: mac, mask: None })),
        ("0006 0008 0a000001", Action::SetField(F::Ipv4Src { value: [10, 0, 0, 1].into(), mask: None })),
        ("0007 0008 0a000002", Action::SetField(F::Ipv4Dst { value: [10, 0, 0, 2].into(), mask: None })),
        ("0008 0008 b8 000000", Action::SetField(F::IpDscp(46))),
        ("0009 0008 0050 0000", Action::SetField(F::TpSrc(80))),
        ("000a 0008 0051 0000", Action::SetField(F::TpDst(81))),
        ("000b 0010 0002 000000000000 00000003", Action::Enqueue { port: PortNo(2), queue_id: 3 }),
        (
            "ffff 0010 00000099 0001000200030004",
            Action::Experimenter { experimenter: 0x99, body: hex("0001000200030004") },
        ),
        ("00c8 0008 01020304", Action::Other { kind: 200, body: vec![1, 2, 3, 4] }),
    ];
    for (text, action) in table {
        check_one(text, V1_0, action);
    }
}

#[test]
fn actions_v1_3() {
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let table = [
        ("0000 0010 fffffffd ffff 000000000000", Action::to_controller()),
        ("000b 0008 00000000", Action::CopyTtlOut),
        ("000c 0008 00000000", Action::CopyTtlIn),
        ("000f 0008 40 000000", Action::SetMplsTtl(64)),
        ("0010 0008 00000000", Action::DecMplsTtl),
        ("0011 0008 8100 0000", Action::PushVlan(0x8100)),
        ("0012 0008 00000000", Action::PopVlan),
        ("0013 0008 8847 0000", Action::PushMpls(0x8847)),
        ("0014 0008 0800 0000", Action::PopMpls(0x0800)),
        ("0015 0008 00000005", Action::SetQueue(5)),
        ("0016 0008 00000006", Action::Group(GroupId(6))),
        ("0017 0008 3f 000000", Action::SetNwTtl(63)),
        ("0018 0008 00000000", Action::DecNwTtl),
        ("0019 0010 80000606 020000000009 0000", Action::SetField(F::EthDst { value: mac, mask: None })),
        (
            "0019 0010 80001804 0a000002 00000000",
            Action::SetField(F::Ipv4Dst { value: [10, 0, 0, 2].into(), mask: None }),
        ),
        ("0019 0010 80001c02 0050 000000000000", Action::SetField(F::TcpDst(80))),
        ("001a 0008 88e7 0000", Action::PushPbb(0x88e7)),
        ("001b 0008 00000000", Action::PopPbb),
        (
            "ffff 0010 00000099 0001000200030004",
            Action::Experimenter { experimenter: 0x99, body: hex("0001000200030004") },
        ),
        ("00c8 0008 01020304", Action::Other { kind: 200, body: vec![1, 2, 3, 4] }),
    ];
    for (text, action) in table {
        check_one(text, V1_3, action);
    }
}

#[test]
fn several_actions_in_order() {
    let actions = vec![Action::DecNwTtl, Action::output(PortNo(1)), Action::output(PortNo::IN_PORT)];
    let text = "0018 0008 00000000 0000 0010 00000001 0000 000000000000 0000 0010 fffffff8 0000 000000000000";
    check(&around(text, V1_3), V1_3, 1, &packet_out(actions));
}

#[test]
fn bad_actions_are_named() {
    let table = [
        ("0000 0004", V1_0, ErrorKind::BadActionBadLen),
        ("0000 0000 0000 0000", V1_0, ErrorKind::BadActionBadLen),
        ("0000 000c 0001 0000 00000000", V1_0, ErrorKind::BadActionBadLen),
        ("0000 0010 0001 0000", V1_0, ErrorKind::BadActionBadLen),
        ("0000 0010 0001 0000 0000000000000000", V1_0, ErrorKind::BadActionBadLen),
        ("0008 0008 b9 000000", V1_0, ErrorKind::BadActionBadArgument),
        ("0000 0008 00000001", V1_3, ErrorKind::BadActionBadLen),
        ("0019 0010 80000605 0200000000 000000", V1_3, ErrorKind::BadActionBadSetLen),
        ("0019 0018 8000070c 020000000009 ffffffffffff 00000000", V1_3, ErrorKind::BadActionBadSetArgument),
        ("0019 0010 80000b04 0800ffff 00000000", V1_3, ErrorKind::BadActionBadSetArgument),
        ("0019 0018 80001c02 0050 000000000000 0000000000000000", V1_3, ErrorKind::BadActionBadLen),
    ];
    for (text, version, expected) in table {
        let error = Message::decode(&hex(&around(text, version))).expect_err(text);
        assert_eq!(error.error_kind(), expected, "{text}: {error}");
    }
}

#[test]
fn each_version_names_what_it_cannot_say() {
    let refused = |action: Action, version: Version| {
        packet_out(vec![action])
            .encode(version, Xid(1), &mut Vec::new())
            .expect_err("no bytes for it")
            .to_string()
    };
    assert_eq!(refused(Action::Group(GroupId(1)), V1_0), "OpenFlow 1.0 cannot express action group");
    assert_eq!(
        refused(Action::SetField(F::ArpOp(1)), V1_0),
        "OpenFlow 1.0 cannot express action set_field of arp_op"
    );
    assert_eq!(refused(Action::StripVlan, V1_3), "OpenFlow 1.3 cannot express action strip_vlan");
    let masked = F::EthDst { value: MacAddr::BROADCAST, mask: Some(MacAddr::BROADCAST) };
    let text = "OpenFlow 1.3 cannot express action set_field of eth_dst with a mask";
    assert_eq!(refused(Action::SetField(masked), V1_3), text);
    let odd = Action::Other { kind: 200, body: vec![1] };
    assert!(refused(odd, V1_3).contains("not a multiple of 8"));
}

#[test]
fn version_1_0_sets_transport_ports_of_any_protocol() {
    let mut bytes = Vec::new();
    packet_out(vec![Action::SetField(F::UdpDst(53))]).encode(V1_0, Xid(1), &mut bytes).expect("set_tp_dst");
    assert_eq!(bytes, hex(&around("000a 0008 0035 0000", V1_0)));
}
