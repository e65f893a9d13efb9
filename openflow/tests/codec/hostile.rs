//! Messages that are made to exhaust the stack.

use openflow::{DecodeError, Message, Problem, Version};

const MAX_MESSAGE_BYTES: usize = 65535;

fn framed(version: Version, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + body.len()).expect("a message has 16 bits of length");
    let [high, low] = length.to_be_bytes();
    [&[version.to_wire(), kind, high, low, 0, 0, 0, 1], body].concat()
}

fn packet_out(version: Version, actions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(actions.len()).expect("16 bits").to_be_bytes();
    let head: &[u8] = match version {
        Version::V1_0 => &[0xff, 0xff, 0xff, 0xff, 0, 1],
        Version::V1_3 => &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1],
    };
    let pad: &[u8] = if version == Version::V1_3 { &[0; 6] } else { &[] };
    framed(version, 13, &[head, &length, pad, actions].concat())
}

/// Actions of Nicira's in each other, as many as a message holds.
fn nested(subtype: u8, arguments: &[u8]) -> Vec<u8> {
    let mut actions = Vec::new();
    while actions.len() + 100 < MAX_MESSAGE_BYTES {
        let length = u16::try_from(10 + arguments.len() + actions.len()).expect("16 bits").to_be_bytes();
        let head = [0xff, 0xff, length[0], length[1], 0, 0, 0x23, 0x20, 0, subtype];
        actions = [&head, arguments, &actions].concat();
    }
    actions
}

fn too_deep(bytes: &[u8]) -> DecodeError {
    let error = Message::decode(bytes).expect_err("nothing real is so deep");
    assert!(matches!(error.problem, Problem::TooDeep(_)), "{error}");
    assert!(error.offset < 1000, "it stops at the bound, not at the end: {error}");
    error
}

#[test]
fn actions_in_actions() {
    let clone = nested(42, &[0; 6]);
    let ct = nested(35, &[0, 1, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0]);
    for version in [Version::V1_0, Version::V1_3] {
        assert_eq!(too_deep(&packet_out(version, &clone)).field, "actions");
        assert_eq!(too_deep(&packet_out(version, &ct)).field, "ct.actions");
    }
}

#[test]
fn bundles_in_bundles() {
    let mut message = framed(Version::V1_3, 2, &[]);
    while message.len() + 100 < MAX_MESSAGE_BYTES {
        let head = [0x4f, 0x4e, 0x46, 0, 0, 0, 0x08, 0xfd, 0, 0, 0, 5, 0, 0, 0, 3];
        message = framed(Version::V1_3, 4, &[&head, message.as_slice()].concat());
    }
    assert_eq!(too_deep(&message).field, "message");
}

/// A quarter of the stack that threads have by default is enough for any message, even without optimization.
#[test]
fn a_small_stack_is_enough() {
    let run = || {
        actions_in_actions();
        bundles_in_bundles();
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(run).expect("a thread");
    thread.join().expect("no overflow");
}
