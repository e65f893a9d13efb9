//! Errors: their numbers, and what a wrong header is answered with.

use crate::common::hex;
use openflow::{ErrorKind, Message, Problem, Version::V1_0, Version::V1_3, Xid};

#[test]
fn numbers_differ_by_version() {
    let table = [
        (ErrorKind::HelloIncompatible, Some((0, 0)), Some((0, 0))),
        (ErrorKind::BadRequestBadLen, Some((1, 6)), Some((1, 6))),
        (ErrorKind::BadActionBadOutPort, Some((2, 4)), Some((2, 4))),
        (ErrorKind::BadMatchBadLen, None, Some((4, 1))),
        (ErrorKind::FlowModTableFull, Some((3, 0)), Some((5, 1))),
        (ErrorKind::FlowModBadCommand, Some((3, 4)), Some((5, 6))),
        (ErrorKind::FlowModUnsupported, Some((3, 5)), None),
        (ErrorKind::PortModBadHwAddr, Some((4, 1)), Some((7, 1))),
        (ErrorKind::QueueOpEperm, Some((5, 2)), Some((9, 2))),
        (ErrorKind::RoleRequestStale, None, Some((11, 0))),
        (ErrorKind::TableFeaturesEperm, None, Some((13, 5))),
    ];
    for (kind, v1_0, v1_3) in table {
        assert_eq!((kind.to_wire(V1_0), kind.to_wire(V1_3)), (v1_0, v1_3), "{kind}");
    }
}

#[test]
fn every_number_comes_back() {
    for version in [V1_0, V1_3] {
        for kind in (0..20).chain([0xffff]) {
            for code in 0..30 {
                let error = ErrorKind::from_wire(version, kind, code);
                assert_eq!(error.to_wire(version), Some((kind, code)), "{error}");
            }
        }
    }
    assert_eq!(ErrorKind::from_wire(V1_0, 9, 9).to_string(), "error type 9 code 9");
    assert_eq!(ErrorKind::from_wire(V1_3, 5, 3).to_string(), "OFPFMFC_OVERLAP");
}

#[test]
fn headers() {
    let table = [
        (
            "",
            ErrorKind::BadRequestBadLen,
            "OpenFlow message of unknown version: version at byte 0: 2 bytes are needed, 0 are left",
        ),
        (
            "04 05 0008 0000",
            ErrorKind::BadRequestBadLen,
            "OpenFlow FEATURES_REQUEST: xid at byte 4: 4 bytes are needed, 2 are left",
        ),
        (
            "04 05 0009 00000001",
            ErrorKind::BadRequestBadLen,
            "OpenFlow FEATURES_REQUEST: length at byte 2: length 9 is not allowed here",
        ),
        (
            "04 14 0009 00000001 00",
            ErrorKind::BadRequestBadLen,
            "OpenFlow BARRIER_REQUEST: end at byte 8: 1 bytes too many",
        ),
        (
            "02 05 0008 00000001",
            ErrorKind::BadRequestBadVersion,
            "OpenFlow message of unknown version: version at byte 0: value 0x2 is not defined",
        ),
        (
            "04 1e 0008 00000001",
            ErrorKind::BadRequestBadType,
            "OpenFlow message of unknown type: type at byte 1: value 0x1e is not defined",
        ),
        (
            "01 16 0008 00000001",
            ErrorKind::BadRequestBadType,
            "OpenFlow message of unknown type: type at byte 1: value 0x16 is not defined",
        ),
        (
            "04 04 000c 00000001 00002320",
            ErrorKind::BadRequestBadLen,
            "OpenFlow EXPERIMENTER: exp_type at byte 12: 4 bytes are needed, 0 are left",
        ),
    ];
    for (text, kind, line) in table {
        let error = Message::decode(&hex(text)).expect_err(text);
        assert_eq!((error.error_kind(), error.to_string().as_str()), (kind, line));
    }
    let error = Message::decode(&hex("04 14 0009 00000001 00")).expect_err("a byte too many");
    assert_eq!((error.message, error.field, error.offset), ("BARRIER_REQUEST", "end", 8));
    assert_eq!(error.problem, Problem::Trailing(1));
}

#[test]
fn a_message_that_is_too_long() {
    let mut out = vec![7];
    let error = Message::EchoRequest(vec![0; 65528]).encode(V1_0, Xid(1), &mut out).expect_err("65536 bytes");
    assert_eq!(error.to_string(), "message takes 65536 bytes, at most 65535 are possible");
    assert_eq!(out, [7]);
    assert!(Message::EchoRequest(vec![0; 65527]).encode(V1_0, Xid(1), &mut out).is_ok());
}
