//! Properties: no bytes make the codec panic, and generated messages come back.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::common::check_any;
use openflow::{
    Action, BufferId, Cookie, FlowMod, FlowModCommand, FlowModFlags, Framer, GroupId, Instruction, MacAddr,
    Match, MatchField as F, Message, MeterId, PacketIn, PacketInReason, PacketOut, PortNo, TableId, Version,
    Xid,
};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Bytes behind a header that is right: all types, also those that are not defined.
    #[test]
    fn bodies_at_random(version in version(), kind in 0_u8..34, body in vec(byte(), 0..200)) {
        check_any(&framed(version, kind, &body));
    }

    #[test]
    fn bytes_at_random(bytes in vec(any::<u8>(), 0..100)) {
        check_any(&bytes);
        let _ = Message::decode_hello(&bytes).map(|(_, _, hello)| hello.negotiate(4, &[Version::V1_0, Version::V1_3]));
    }

    #[test]
    fn streams_at_random(chunks in vec(vec(byte(), 0..60), 0..20)) {
        let mut framer = Framer::new();
        for chunk in chunks {
            framer.push(&chunk).expect("all frames are taken out each time");
            while let Some(Ok(frame)) = framer.next_frame() {
                check_any(&frame.bytes);
            }
        }
    }

    /// A 1.3 message comes back as it went, and with one byte changed it is a message or a named error.
    #[test]
    fn messages_of_1_3(message in message(), at in any::<prop::sample::Index>(), value in byte()) {
        let mut bytes = Vec::new();
        message.encode(Version::V1_3, Xid(5), &mut bytes).expect("all of it can be said in 1.3");
        prop_assert_eq!(Message::decode(&bytes), Ok((Version::V1_3, Xid(5), message)));
        let at = at.index(bytes.len());
        bytes[at] = value;
        check_any(&bytes);
    }

    /// What 1.0 can say of a message comes back to the same bytes.
    #[test]
    fn messages_of_1_0(message in message(), at in any::<prop::sample::Index>(), value in byte()) {
        let mut bytes = vec![0xa5];
        if message.encode(Version::V1_0, Xid(5), &mut bytes).is_err() {
            prop_assert_eq!(bytes, vec![0xa5]);
            return Ok(());
        }
        let mut bytes = bytes.split_off(1);
        let (_, _, decoded) = Message::decode(&bytes).expect("our own bytes");
        let mut again = Vec::new();
        decoded.encode(Version::V1_0, Xid(5), &mut again).expect("what was said can be said again");
        prop_assert_eq!(&again, &bytes);
        let at = at.index(bytes.len());
        bytes[at] = value;
        check_any(&bytes);
    }

    /// A 1.0 match comes back to the same bytes, whatever its wildcards and whatever stands in the place of a field
    /// that is left out.
    #[test]
    fn matches_of_1_0(wildcards in any::<u32>(), values in any::<[u8; 36]>(), arp in any::<bool>(), proto in 0_u8..20) {
        let mut body = wildcards.to_be_bytes().to_vec();
        body.extend_from_slice(&values);
        body[22..24].copy_from_slice(if arp { &[8, 6] } else { &[8, 0] });
        body[25] = proto;
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0]);
        let bytes = framed(Version::V1_0, 14, &body);
        check_any(&bytes);
        let (_, _, message) = Message::decode(&bytes).expect("each match of 1.0 means something");
        let mut again = Vec::new();
        message.encode(Version::V1_0, Xid(5), &mut again).expect("what was said can be said again");
        prop_assert_eq!(again, bytes);
    }
}

fn framed(version: Version, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + body.len()).expect("short bodies");
    let mut bytes = vec![version.to_wire(), kind];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 5]);
    bytes.extend_from_slice(body);
    bytes
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1_0), Just(Version::V1_3)]
}

/// Small numbers and the edges more often than the rest, since lengths and types are small numbers.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0), 2 => 1_u8..17, 1 => prop_oneof![Just(0x80), Just(0xff), Just(0x18)], 1 => any::<u8>()]
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn port() -> impl Strategy<Value = PortNo> {
    prop_oneof![
        (1_u32..100).prop_map(PortNo),
        (0xffff_fff8..=u32::MAX).prop_map(PortNo),
        any::<u32>().prop_map(PortNo)
    ]
}

fn plain_field() -> impl Strategy<Value = F> {
    prop_oneof![
        port().prop_map(F::InPort),
        mac().prop_map(|value| F::EthDst { value, mask: None }),
        mac().prop_map(|value| F::EthSrc { value, mask: None }),
        prop_oneof![Just(0x0800), Just(0x0806), any::<u16>()].prop_map(F::EthType),
        (0_u16..0x1000).prop_map(|vid| F::VlanVid { value: 0x1000 | vid, mask: None }),
        any::<u8>().prop_map(F::VlanPcp),
        (0_u8..64).prop_map(F::IpDscp),
        prop_oneof![Just(1), Just(6), Just(17)].prop_map(F::IpProto),
        any::<u32>().prop_map(|value| F::Ipv4Src { value: Ipv4Addr::from_bits(value), mask: None }),
        any::<u16>().prop_map(F::TcpDst),
        any::<u16>().prop_map(F::UdpSrc),
        any::<u8>().prop_map(F::Icmpv4Type),
        any::<u16>().prop_map(F::ArpOp),
        any::<u128>().prop_map(|bits| F::Ipv6NdTarget(Ipv6Addr::from_bits(bits))),
    ]
}

fn field() -> impl Strategy<Value = F> {
    let raw = (any::<u16>(), 0_u8..128, any::<bool>(), vec(any::<u8>(), 0..20));
    prop_oneof![
        6 => plain_field(),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(value, mask)| F::Metadata { value, mask: Some(mask) }),
        1 => (mac(), mac()).prop_map(|(value, mask)| F::EthDst { value, mask: Some(mask) }),
        1 => (any::<u32>(), 0_u32..33).prop_map(|(value, zeros)| F::Ipv4Dst {
            value: Ipv4Addr::from_bits(value),
            mask: Some(Ipv4Addr::from_bits(u32::MAX.checked_shl(zeros).unwrap_or(0))),
        }),
        1 => raw.prop_filter_map("OpenFlow's and Nicira's classes are taken apart", |(class, field, has_mask, body)| {
            (class > 1 && class < 0x8000).then_some(F::Raw { class, field, has_mask, body })
        }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (port(), any::<u16>()).prop_map(|(port, max_len)| Action::Output { port, max_len }),
        plain_field().prop_map(Action::SetField),
        any::<u16>().prop_map(Action::PushVlan),
        Just(Action::PopVlan),
        Just(Action::DecNwTtl),
        any::<u8>().prop_map(Action::SetNwTtl),
        any::<u32>().prop_map(|group| Action::Group(GroupId(group))),
        any::<u32>().prop_map(Action::SetQueue),
        (any::<u32>(), 0_usize..5).prop_map(|(experimenter, words)| Action::Experimenter {
            experimenter,
            body: vec![0x5c; words * 8],
        }),
        (100_u16..0xffff, 0_usize..5)
            .prop_map(|(kind, words)| Action::Other { kind, body: vec![0x5c; words * 8 + 4] }),
    ]
}

fn instruction() -> impl Strategy<Value = Instruction> {
    prop_oneof![
        3 => vec(action(), 0..4).prop_map(Instruction::ApplyActions),
        1 => vec(action(), 0..4).prop_map(Instruction::WriteActions),
        1 => any::<u8>().prop_map(|table| Instruction::GotoTable(TableId(table))),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(metadata, mask)| Instruction::WriteMetadata { metadata, mask }),
        1 => Just(Instruction::ClearActions),
        1 => any::<u32>().prop_map(|meter| Instruction::Meter(MeterId(meter))),
    ]
}

fn flow_mod() -> impl Strategy<Value = Message> {
    let command = prop_oneof![
        Just(FlowModCommand::Add),
        Just(FlowModCommand::Modify),
        Just(FlowModCommand::ModifyStrict),
        Just(FlowModCommand::Delete),
        Just(FlowModCommand::DeleteStrict),
    ];
    let numbers = (
        any::<u64>(),
        prop_oneof![Just(0), any::<u64>()],
        prop_oneof![Just(0), any::<u8>()],
        any::<[u16; 3]>(),
    );
    let lists = (vec(field(), 0..5), vec(instruction(), 0..3));
    (command, numbers, port(), 0_u32..4, lists).prop_map(
        |(command, numbers, out_port, flags, (fields, instructions))| {
            let (cookie, cookie_mask, table_id, [idle_timeout, hard_timeout, priority]) = numbers;
            Message::FlowMod(FlowMod {
                cookie: Cookie(cookie),
                cookie_mask,
                table_id: TableId(table_id),
                command,
                idle_timeout,
                hard_timeout,
                priority,
                out_port,
                flags: FlowModFlags(flags),
                match_: Match::from(fields),
                instructions,
                ..FlowMod::default()
            })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let data = vec(any::<u8>(), 0..40);
    prop_oneof![
        5 => flow_mod(),
        2 => (any::<u32>(), port(), vec(action(), 0..5), data.clone()).prop_map(|(buffer, in_port, actions, data)| {
            Message::PacketOut(PacketOut { buffer_id: BufferId(buffer), in_port, actions, data })
        }),
        2 => (port(), vec(field(), 0..4), any::<u8>(), any::<u64>(), data.clone()).prop_map(packet_in),
        1 => data.prop_map(Message::EchoRequest),
    ]
}

fn packet_in((in_port, mut fields, table, cookie, data): (PortNo, Vec<F>, u8, u64, Vec<u8>)) -> Message {
    fields.insert(0, F::InPort(in_port));
    Message::PacketIn(PacketIn {
        buffer_id: BufferId::NO_BUFFER,
        total_len: 1500,
        reason: PacketInReason::Action,
        in_port,
        table_id: Some(TableId(table)),
        cookie: Some(Cookie(cookie)),
        match_: Some(Match::from(fields)),
        data,
    })
}
