//! The stream cut into messages.

use crate::common::hex;
use openflow::{ErrorKind, FrameError, Framer, MAX_MESSAGE_BYTES, Message, READ_CHUNK_BYTES, Version, Xid};

#[test]
fn byte_by_byte_and_all_at_once() {
    let stream = hex("01 00 0008 00000001  04 02 000a 00000002 aabb  09 63 0008 00000003");
    let mut all = Framer::new();
    all.push(&stream).expect("room for 26 bytes");
    let mut frames = Vec::new();
    while let Some(frame) = all.next_frame() {
        frames.push(frame.expect("a whole message"));
    }
    let mut slow = Framer::new();
    let mut again = Vec::new();
    for byte in &stream {
        slow.push(&[*byte]).expect("room for one byte");
        again.extend(slow.next_frame().map(|frame| frame.expect("a whole message")));
    }
    assert_eq!(frames, again);
    let heads: Vec<_> =
        frames.iter().map(|frame| (frame.version, frame.kind, frame.xid, frame.bytes.len())).collect();
    assert_eq!(heads, [(1, 0, Xid(1), 8), (4, 2, Xid(2), 10), (9, 99, Xid(3), 8)]);
    let echo = frames[1].decode().expect("an echo request");
    assert_eq!(echo, (Version::V1_3, Xid(2), Message::EchoRequest(vec![0xaa, 0xbb])));
}

#[test]
fn a_short_length_ends_the_stream() {
    for length in 0..8 {
        let mut framer = Framer::new();
        framer.push(&[1, 2, 0, length, 0, 0, 0, 5, 1, 2, 3]).expect("room");
        let header = [1, 2, 0, length, 0, 0, 0, 5];
        let error = FrameError::ShortLength { length: u16::from(length), header };
        assert_eq!(error.error_kind(), ErrorKind::BadRequestBadLen);
        assert_eq!(framer.next_frame(), Some(Err(error)));
        assert!(framer.is_dead());
        assert_eq!(framer.next_frame(), None);
        framer.push(&hex("01 00 0008 00000001")).expect("a dead framer drops what comes");
        assert_eq!(framer.next_frame(), None);
    }
}

#[test]
fn the_buffer_is_bounded() {
    let mut framer = Framer::new();
    let chunk = vec![0; READ_CHUNK_BYTES];
    assert_eq!(framer.room(), MAX_MESSAGE_BYTES + READ_CHUNK_BYTES);
    let mut largest = vec![4, 2, 0xff, 0xff, 0, 0, 0, 1];
    largest.resize(MAX_MESSAGE_BYTES - 1, 0);
    framer.push(&largest).expect("room for a message but its last byte");
    assert_eq!(framer.next_frame(), None);
    assert!(framer.room() >= READ_CHUNK_BYTES, "a reader can always go on");
    let room = framer.room();
    let overflow = framer.push(&vec![0; room + 1]);
    assert_eq!(overflow, Err(FrameError::Overflow { pushed: room + 1, room }));
    framer.push(&chunk).expect("room for one read");
    let frame = framer.next_frame().expect("a frame").expect("a whole message");
    assert_eq!(frame.bytes.len(), MAX_MESSAGE_BYTES);
    assert_eq!(framer.room(), MAX_MESSAGE_BYTES + 1);
}
