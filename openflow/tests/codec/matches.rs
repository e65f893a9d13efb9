//! Matches of both versions, inside a FLOW_MOD.

use crate::common::{check, encode, hex, to_hex};
use openflow::{
    Cookie, EncodeError, ErrorKind, FlowMod, MacAddr, Match, MatchField as F, Message, PortNo, Version,
    Version::V1_0, Version::V1_3, Xid,
};

fn flow(match_: Match) -> Message {
    Message::FlowMod(FlowMod { match_, cookie: Cookie(0x77), priority: 5, ..FlowMod::default() })
}

/// A 1.0 flow-mod around the 40 bytes of a match.
fn around_v1_0(match_: &str) -> String {
    format!("01 0e 0048 00000001 {match_} 0000000000000077 0000 0000 0000 0005 ffffffff ffff 0000")
}

/// A 1.3 flow-mod around a match, whose padding is included.
fn around_v1_3(match_: &str) -> String {
    let length = 48 + hex(match_).len();
    format!(
        "04 0e {length:04x} 00000001 0000000000000077 0000000000000000 00 00 0000 0000 0005
         ffffffff ffffffff ffffffff 0000 0000 {match_}"
    )
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn refused(match_: Match, version: Version) -> String {
    let mut out = vec![1, 2, 3];
    let error = flow(match_).encode(version, Xid(1), &mut out).expect_err("this match cannot be said");
    assert_eq!(out, [1, 2, 3], "nothing is written when encoding fails");
    error.to_string()
}

#[test]
fn match_v1_0_tcp() {
    let match_ = Match::new()
        .in_port(PortNo(1))
        .eth_dst(mac(1))
        .eth_src(mac(2))
        .eth_type(0x0800)
        .vlan_vid(5)
        .with(F::VlanPcp(3))
        .with(F::IpDscp(46))
        .ip_proto(6)
        .ipv4_src_prefix([10, 0, 0, 0].into(), 24)
        .ipv4_dst([10, 0, 0, 2].into())
        .tcp_src(1000)
        .tcp_dst(80);
    let text =
        "00000800 0001 020000000002 020000000001 0005 03 00 0800 b8 06 0000 0a000000 0a000002 03e8 0050";
    check(&around_v1_0(text), V1_0, 1, &flow(match_));
}

#[test]
fn match_v1_0_udp_icmp_and_arp() {
    let zero = "0000 000000000000 000000000000";
    let udp = Match::new().eth_type(0x0800).ip_proto(17).udp_src(53).udp_dst(54);
    let text = format!("003fff0f {zero} 0000 00 00 0800 00 11 0000 00000000 00000000 0035 0036");
    check(&around_v1_0(&text), V1_0, 1, &flow(udp));
    let icmp = Match::new().eth_type(0x0800).ip_proto(1).with(F::Icmpv4Type(8)).with(F::Icmpv4Code(0));
    let text = format!("003fff0f {zero} 0000 00 00 0800 00 01 0000 00000000 00000000 0008 0000");
    check(&around_v1_0(&text), V1_0, 1, &flow(icmp));
    let arp = Match::new()
        .no_vlan()
        .eth_type(0x0806)
        .arp_op(1)
        .arp_spa([10, 0, 0, 1].into())
        .arp_tpa([10, 0, 1, 1].into());
    let arp = Match::from({
        let mut fields = arp.fields;
        fields.swap(0, 1);
        fields
    });
    let text = format!("003000cd {zero} ffff 00 00 0806 00 01 0000 0a000001 0a000101 0000 0000");
    check(&around_v1_0(&text), V1_0, 1, &flow(arp));
}

#[test]
fn match_v1_0_without_what_it_depends_on() {
    let zero = "0000 000000000000 000000000000";
    let address = Match::new().ipv4_dst([10, 0, 0, 1].into()).with(F::TpDst(80));
    let text = format!("00303f7f {zero} 0000 00 00 0000 00 00 0000 00000000 0a000001 0000 0050");
    check(&around_v1_0(&text), V1_0, 1, &flow(address));
    let icmp = Match::new().eth_type(0x0800).ip_proto(1).with(F::TpSrc(0x0108));
    let text = format!("003fff8f {zero} 0000 00 00 0800 00 01 0000 00000000 00000000 0108 0000");
    check(&around_v1_0(&text), V1_0, 1, &flow(icmp));
}

#[test]
fn match_v1_0_says_everything_in_many_ways() {
    let zeros = "00".repeat(36);
    for wildcards in ["003fffff", "003820ff", "003860ff", "ffffffff"] {
        let bytes = hex(&around_v1_0(&format!("{wildcards} {zeros}")));
        let (_, _, message) = Message::decode(&bytes).expect("a match of everything");
        assert_eq!(message, flow(Match::new()), "{wildcards}");
        assert_eq!(to_hex(&encode(&message, V1_0, 1)), to_hex(&bytes), "{wildcards}");
    }
    let ours = to_hex(&encode(&flow(Match::new()), V1_0, 1));
    assert_eq!(&ours[16..24], "003fffff", "OFPFW_ALL");
}

#[test]
fn match_v1_0_ignores_what_is_wildcarded() {
    let noise = format!("003fffff {}", "5a".repeat(36));
    let (_, _, message) = Message::decode(&hex(&around_v1_0(&noise))).expect("a match of everything");
    assert_eq!(message, flow(Match::new()));
}

#[test]
fn match_v1_0_names_what_it_cannot_say() {
    let ipv6 = Match::new().with(F::Ipv6Src { value: std::net::Ipv6Addr::LOCALHOST, mask: None });
    assert_eq!(refused(ipv6, V1_0), "OpenFlow 1.0 cannot express match field ipv6_src");
    let masked = Match::new().eth_dst_masked(MacAddr([1, 0, 0, 0, 0, 0]), MacAddr([1, 0, 0, 0, 0, 0]));
    assert_eq!(refused(masked, V1_0), "OpenFlow 1.0 cannot express match field eth_dst with this mask");
    let holes = F::Ipv4Src { value: [10, 0, 0, 1].into(), mask: Some([255, 0, 255, 0].into()) };
    assert_eq!(
        refused(Match::new().with(holes), V1_0),
        "OpenFlow 1.0 cannot express match field ipv4_src with this mask"
    );
    let any_tag = Match::new().with(F::VlanVid { value: 0x1000, mask: Some(0x1000) });
    assert_eq!(refused(any_tag, V1_0), "OpenFlow 1.0 cannot express match field vlan_vid with this mask");
    assert!(refused(Match::new().tcp_dst(80), V1_0).contains("eth_type 0x0800 and the ip_proto"));
    assert!(refused(Match::new().eth_type(0x0800).ip_proto(17).tcp_dst(80), V1_0).contains("the ip_proto"));
    assert!(refused(Match::new().arp_op(1), V1_0).contains("eth_type 0x0806"));
    assert!(refused(Match::new().eth_type(0x0806).ip_proto(1), V1_0).contains("would be ARP's"));
    assert!(refused(Match::new().eth_type(1).eth_type(2), V1_0).contains("given twice"));
    assert!(refused(Match::new().in_port(PortNo(0x1_0000)), V1_0).contains("port number 65536"));
    let everything = F::Ipv4Src { value: [0, 0, 0, 0].into(), mask: Some([0, 0, 0, 0].into()) };
    assert_eq!(encode(&flow(Match::new().with(everything)), V1_0, 1), encode(&flow(Match::new()), V1_0, 1));
}

#[test]
fn match_v1_3_empty_and_exact() {
    check(&around_v1_3("0001 0004 00000000"), V1_3, 1, &flow(Match::new()));
    let match_ = Match::new()
        .in_port(PortNo(7))
        .eth_type(0x0800)
        .ip_proto(6)
        .ipv4_dst([10, 0, 1, 1].into())
        .tcp_dst(80);
    let text = "0001 0025 80000004 00000007 80000a02 0800 80001401 06 80001804 0a000101 80001c02 0050 000000";
    check(&around_v1_3(text), V1_3, 1, &flow(match_));
}

#[test]
fn match_v1_3_masks_and_other_classes() {
    let match_ = Match::new()
        .eth_dst_masked(MacAddr([1, 0, 0, 0, 0, 0]), MacAddr([1, 0, 0, 0, 0, 0]))
        .with(F::VlanVid { value: 0x1000, mask: Some(0x1000) })
        .with(F::PbbIsid { value: [1, 2, 3], mask: None })
        .with(F::Raw { class: 2, field: 0, has_mask: false, body: vec![0, 0, 0, 9] })
        .with(F::Raw { class: 0x8000, field: 99, has_mask: true, body: vec![1, 1] });
    let text = "0001 0031 8000070c 010000000000 010000000000 80000d04 1000 1000 80004a03 010203
        00020004 00000009 8000c702 0101 00000000000000";
    check(&around_v1_3(text), V1_3, 1, &flow(match_));
}

/// Every field of the basic class with its number and size in bytes (1.3: table 12).
#[test]
fn match_v1_3_knows_the_basic_class() {
    let sizes = [
        4, 4, 8, 6, 6, 2, 2, 1, 1, 1, 1, 4, 4, 2, 2, 2, 2, 2, 2, 1, 1, 2, 4, 4, 6, 6, 16, 16, 4, 1, 1, 16, 6,
        6, 4, 1, 1, 3, 8, 2,
    ];
    let maskable = [2, 3, 4, 6, 11, 12, 22, 23, 24, 25, 26, 27, 28, 37, 38, 39];
    for (code, size) in (0_u8..).zip(sizes) {
        let exact = format!("8000{:02x}{size:02x}{}", code << 1, "1b".repeat(size));
        assert_one_field(code, &exact, size + 4);
        let masked = format!("8000{:02x}{:02x}{}", code << 1 | 1, size * 2, "1b".repeat(size * 2));
        if maskable.contains(&code) {
            assert_one_field(code, &masked, size * 2 + 4);
        } else {
            // Open vSwitch allows more masks than the specification: they are kept.
            let bytes = hex(&padded(&masked, size * 2 + 4));
            let field = F::Raw { class: 0x8000, field: code, has_mask: true, body: vec![0x1b; size * 2] };
            assert_eq!(Message::decode(&bytes).expect("masked").2, flow(Match::new().with(field)));
        }
        for wrong in [size - 1, size + 1] {
            let text = format!("8000{:02x}{wrong:02x}{}", code << 1, "1b".repeat(wrong));
            let error = Message::decode(&hex(&padded(&text, wrong + 4))).expect_err("a wrong size");
            assert_eq!(error.error_kind(), ErrorKind::BadMatchBadLen, "field {code} with {wrong} bytes");
        }
    }
}

fn padded(field: &str, size: usize) -> String {
    let length = 4 + size;
    around_v1_3(&format!("0001 {length:04x} {field} {}", "00".repeat(length.wrapping_neg() & 7)))
}

fn assert_one_field(code: u8, field: &str, size: usize) {
    let bytes = hex(&padded(field, size));
    let (version, xid, message) =
        Message::decode(&bytes).unwrap_or_else(|error| panic!("field {code}: {error}"));
    let Message::FlowMod(flow_mod) = &message else { panic!("{message:?}") };
    assert_eq!(flow_mod.match_.fields.len(), 1, "field {code}");
    assert!(!matches!(flow_mod.match_.fields[0], F::Raw { .. }), "field {code} is not taken apart");
    assert_eq!(to_hex(&encode(&message, version, xid.0)), to_hex(&bytes), "field {code}");
}

#[test]
fn match_v1_3_refuses() {
    let table = [
        ("0000 0004 00000000", ErrorKind::BadMatchBadType),
        ("0001 0003 00000000", ErrorKind::BadMatchBadLen),
        ("0001 0010 80000004 00000007", ErrorKind::BadMatchBadLen),
        ("0001 000b 80000004 000000 0000000000", ErrorKind::BadMatchBadLen),
        ("0001 0005 80 000000", ErrorKind::BadMatchBadLen),
    ];
    for (text, expected) in table {
        let error = Message::decode(&hex(&around_v1_3(text))).expect_err(text);
        assert_eq!(error.error_kind(), expected, "{text}: {error}");
    }
    assert!(refused(Match::new().with(F::TpDst(80)), V1_3).contains("the field of one protocol"));
    let long = F::Raw { class: 2, field: 0, has_mask: false, body: vec![0; 256] };
    let error = flow(Match::new().with(long)).encode(V1_3, Xid(1), &mut Vec::new());
    let expected = EncodeError::TooLong { what: "OXM field", size_bytes: 256, max_bytes: 255 };
    assert_eq!(error, Err(expected));
}

#[test]
fn prefixes() {
    let match_ = Match::new().ipv4_dst_prefix([10, 1, 2, 3].into(), 8);
    assert_eq!(
        match_.fields,
        [F::Ipv4Dst { value: [10, 0, 0, 0].into(), mask: Some([255, 0, 0, 0].into()) }]
    );
    let exact = Match::new().ipv4_dst_prefix([10, 1, 2, 3].into(), 32);
    assert_eq!(exact.fields, [F::Ipv4Dst { value: [10, 1, 2, 3].into(), mask: None }]);
    let all = Match::new().ipv4_src_prefix([10, 1, 2, 3].into(), 0);
    assert_eq!(all.fields, [F::Ipv4Src { value: [0, 0, 0, 0].into(), mask: Some([0, 0, 0, 0].into()) }]);
}
