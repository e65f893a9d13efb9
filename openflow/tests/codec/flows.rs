//! FLOW_MOD with instructions, and FLOW_REMOVED.

use crate::common::{check, hex};
use openflow::{
    Action, BufferId, Cookie, ErrorKind, FlowMod, FlowModCommand, FlowModFlags, FlowRemoved,
    FlowRemovedReason, GroupId, Instruction, Match, Message, MeterId, PortNo, TableId, Version,
    Version::V1_0, Version::V1_3, Xid,
};

const ALL_V1_0: &str =
    "003fffff 0000 000000000000 000000000000 0000 00 00 0000 00 00 0000 00000000 00000000 0000 0000";

fn entry() -> FlowMod {
    FlowMod {
        cookie: Cookie(0x0102_0304_0506_0708),
        idle_timeout: 10,
        hard_timeout: 300,
        priority: 100,
        flags: FlowModFlags::SEND_FLOW_REM,
        instructions: vec![Instruction::ApplyActions(vec![Action::output(PortNo(2))])],
        ..FlowMod::default()
    }
}

fn refused(flow_mod: FlowMod, version: Version) -> String {
    Message::FlowMod(flow_mod)
        .encode(version, Xid(0), &mut Vec::new())
        .expect_err("no bytes for it")
        .to_string()
}

#[test]
fn flow_mod_v1_0() {
    let text = format!(
        "01 0e 0050 00000001 {ALL_V1_0} 0102030405060708 0000 000a 012c 0064 ffffffff ffff 0001
         0000 0008 0002 0000"
    );
    check(&text, V1_0, 1, &Message::FlowMod(entry()));
    let emergency = FlowMod {
        command: FlowModCommand::DeleteStrict,
        buffer_id: BufferId(3),
        out_port: PortNo(9),
        flags: FlowModFlags::CHECK_OVERLAP.with(FlowModFlags::EMERG),
        instructions: Vec::new(),
        ..entry()
    };
    let text =
        format!("01 0e 0048 00000001 {ALL_V1_0} 0102030405060708 0004 000a 012c 0064 00000003 0009 0006");
    check(&text, V1_0, 1, &Message::FlowMod(emergency));
}

#[test]
fn flow_mod_v1_3() {
    let flow_mod = FlowMod {
        cookie_mask: 0xff,
        table_id: TableId(1),
        command: FlowModCommand::ModifyStrict,
        out_group: GroupId(4),
        flags: FlowModFlags::SEND_FLOW_REM.with(FlowModFlags::RESET_COUNTS),
        match_: Match::new().in_port(PortNo(1)),
        instructions: vec![
            Instruction::Meter(MeterId(3)),
            Instruction::ApplyActions(vec![Action::DecNwTtl]),
            Instruction::ClearActions,
            Instruction::WriteActions(vec![Action::output(PortNo(2))]),
            Instruction::WriteMetadata { metadata: 5, mask: 7 },
            Instruction::GotoTable(TableId(2)),
            Instruction::Experimenter { experimenter: 0x2320, body: vec![9; 8] },
            Instruction::Other { kind: 77, body: vec![1, 2, 3, 4] },
        ],
        ..entry()
    };
    let text = "04 0e 00b0 00000001 0102030405060708 00000000000000ff 01 02 000a 012c 0064
        ffffffff ffffffff 00000004 0005 0000
        0001 000c 80000004 00000001 00000000
        0006 0008 00000003
        0004 0010 00000000 0018 0008 00000000
        0005 0008 00000000
        0003 0018 00000000 0000 0010 00000002 0000 000000000000
        0002 0018 00000000 0000000000000005 0000000000000007
        0001 0008 02 000000
        ffff 0010 00002320 0909090909090909
        004d 0008 01020304";
    check(text, V1_3, 1, &Message::FlowMod(flow_mod));
}

#[test]
fn version_1_0_names_what_it_cannot_say() {
    let table: [(FlowMod, &str); 6] = [
        (FlowMod { table_id: TableId(1), ..entry() }, "flow tables beyond table 0"),
        (FlowMod { cookie_mask: 1, ..entry() }, "a cookie mask in a flow-mod"),
        (FlowMod { out_group: GroupId(1), ..entry() }, "out_group in a flow-mod"),
        (FlowMod { flags: FlowModFlags::RESET_COUNTS, ..entry() }, "flow-mod flags of 1.3"),
        (
            FlowMod { instructions: vec![Instruction::GotoTable(TableId(1))], ..entry() },
            "instructions other than one apply_actions",
        ),
        (FlowMod { table_id: TableId::ALL, ..entry() }, "flow tables beyond table 0"),
    ];
    for (flow_mod, what) in table {
        assert_eq!(refused(flow_mod, V1_0), format!("OpenFlow 1.0 cannot express {what}"));
    }
    let emergency = FlowMod { flags: FlowModFlags::EMERG, ..entry() };
    assert_eq!(refused(emergency, V1_3), "OpenFlow 1.3 cannot express the flow-mod flag emerg");
    let deletion = FlowMod { table_id: TableId::ALL, command: FlowModCommand::Delete, ..entry() };
    assert!(Message::FlowMod(deletion).encode(V1_0, Xid(0), &mut Vec::new()).is_ok());
}

#[test]
fn bad_flow_mods_are_named() {
    let head = "0000000000000000 0000000000000000 00";
    let tail = "0000 0000 0000 ffffffff ffffffff ffffffff 0000 0000 0001 0004 00000000";
    let table = [
        (format!("04 0e 0038 00000001 {head} 05 {tail}"), ErrorKind::FlowModBadCommand),
        (format!("04 0e 003c 00000001 {head} 00 {tail} 0004 0004"), ErrorKind::BadInstructionBadLen),
        (format!("04 0e 0040 00000001 {head} 00 {tail} 0004 0000 00000000"), ErrorKind::BadInstructionBadLen),
        (format!("04 0e 0040 00000001 {head} 00 {tail} 0004 0010 00000000"), ErrorKind::BadInstructionBadLen),
        (
            format!("04 0e 0048 00000001 {head} 00 {tail} 0001 0010 00000000 0000000000000000"),
            ErrorKind::BadInstructionBadLen,
        ),
        (
            format!("01 0e 0048 00000001 {ALL_V1_0} 0000000000000000 0005 0000 0000 0000 ffffffff ffff 0000"),
            ErrorKind::FlowModBadCommand,
        ),
        (
            format!("01 0e 0048 00000001 {ALL_V1_0} 0000000000000000 0000 0000 0000 0000 ffffffff ffff 0008"),
            ErrorKind::FlowModUnsupported,
        ),
    ];
    for (text, expected) in table {
        let error = Message::decode(&hex(&text)).expect_err(&text);
        assert_eq!(error.error_kind(), expected, "{text}: {error}");
    }
}

#[test]
fn flow_removed() {
    let removed = FlowRemoved {
        cookie: Cookie(1),
        priority: 100,
        reason: FlowRemovedReason::IdleTimeout,
        table_id: None,
        duration_sec: 11,
        duration_nsec: 12,
        idle_timeout: 10,
        hard_timeout: None,
        packet_count: 3,
        byte_count: 180,
        match_: Match::new(),
    };
    let text = format!(
        "01 0b 0058 00000000 {ALL_V1_0} 0000000000000001 0064 00 00 0000000b 0000000c 000a 0000
         0000000000000003 00000000000000b4"
    );
    check(&text, V1_0, 0, &Message::FlowRemoved(removed.clone()));
    let text = "04 0b 0038 00000000 0000000000000001 0064 02 03 0000000b 0000000c 000a 012c
        0000000000000003 00000000000000b4 0001 0004 00000000";
    let full = FlowRemoved {
        reason: FlowRemovedReason::Delete,
        table_id: Some(TableId(3)),
        hard_timeout: Some(300),
        ..removed
    };
    check(text, V1_3, 0, &Message::FlowRemoved(full));
}

/// With Nicira's extension the table is the upper byte of the command; all 256 of them are told apart.
#[test]
fn tables_in_1_0() {
    let wildcards =
        "003fffff 0000 000000000000 000000000000 0000 00 00 0000 00 00 0000 00000000 00000000 0000 0000";
    let text = |command| {
        format!(
            "01 0e 0048 00000001 {wildcards} 0000000000000000 {command} 0000 0000 0000 ffffffff ffff 0000"
        )
    };
    let flow_mod = |command, table_id, flags| {
        Message::FlowMod(FlowMod { command, table_id, flags, ..FlowMod::default() })
    };
    let (none, named) = (FlowModFlags::default(), FlowModFlags::NX_TABLE_ID);
    check(&text("0000"), V1_0, 1, &flow_mod(FlowModCommand::Add, TableId(0), none));
    check(&text("0501"), V1_0, 1, &flow_mod(FlowModCommand::Modify, TableId(5), named));
    check(&text("ff03"), V1_0, 1, &flow_mod(FlowModCommand::Delete, TableId::ALL, named));
    // Without it a plain switch is told of all tables by the command alone.
    let mut bytes = Vec::new();
    let plain = flow_mod(FlowModCommand::Delete, TableId::ALL, none);
    plain.encode(V1_0, Xid(1), &mut bytes).expect("deletions name all tables");
    assert_eq!(bytes, hex(&text("0003")));
    bytes.clear();
    flow_mod(FlowModCommand::Add, TableId(5), named)
        .encode(V1_3, Xid(1), &mut bytes)
        .expect("1.3 has tables");
    let (_, _, decoded) = Message::decode(&bytes).expect("our own bytes");
    assert_eq!(decoded, flow_mod(FlowModCommand::Add, TableId(5), none));
}
