//! How much memory decoding takes: a small multiple of the input, whatever the input says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use openflow::{Action, Framer, Message, PacketInRef, PacketOutRef, PortNo};

/// The system's allocator, which counts for each thread.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = NOW.try_with(|now| {
            now.set(now.get() + layout.size());
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
        });
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(layout.size())));
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same here.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were in use at once while `bytes` were decoded, beyond those before.
fn peak_of(bytes: &[u8]) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    drop(Message::decode(bytes));
    PEAK.get() - before
}

fn framed(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + body.len()).expect("a message has 16 bits of length").to_be_bytes();
    [&[version, kind, length[0], length[1], 0, 0, 0, 1], body].concat()
}

/// As many of the smallest units as a message of the version holds, behind what has to come first.
fn filled(version: u8, kind: u8, head: &[u8], unit: &[u8]) -> Vec<u8> {
    let count = (65535 - 8 - head.len()) / unit.len();
    framed(version, kind, &[head, &unit.repeat(count)].concat())
}

/// Bytes of memory for each byte of input that lists of the smallest units may take: a value of the codec is larger
/// than its bytes, and a list that grows is there twice for a moment.
const MULTIPLE: usize = 64;

#[test]
fn memory_is_a_small_multiple_of_the_input() {
    let multipart = |kind: u8| [0, kind, 0, 0, 0, 0, 0, 0];
    let flow_mod_10 = [&[0xff; 4][..], &[0; 36], &[0; 8], &[0; 8], &[0xff; 4], &[0xff; 2], &[0; 2]].concat();
    let action = [0, 18, 0, 8, 0, 0, 0, 0];
    let unknown = [0, 99, 0, 8, 1, 2, 3, 4];
    let nicira = [0xff, 0xff, 0, 16, 0, 0, 0x23, 0x20, 0, 17, 0, 0, 0, 0, 0, 0];
    let mut packet_out = [&[0xff; 4][..], &[0, 0, 0, 1], &[0xff, 0xe0], &[0; 6]].concat();
    let flow_mod_13 = [0; 40];
    let inputs = [
        ("ports of 1.0", filled(1, 6, &[0; 24], &[0; 48])),
        ("actions of 1.0", filled(1, 14, &flow_mod_10, &[0, 3, 0, 8, 0, 0, 0, 0])),
        ("unknown actions of 1.0", filled(1, 14, &flow_mod_10, &unknown)),
        ("Nicira's actions of 1.0", filled(1, 14, &flow_mod_10, &nicira)),
        (
            "instructions",
            filled(4, 14, &[&flow_mod_13[..], &[0, 1, 0, 4, 0, 0, 0, 0]].concat(), &[0, 5, 0, 8, 0, 0, 0, 0]),
        ),
        ("hello elements", filled(4, 0, &[], &[0, 9, 0, 4, 0, 0, 0, 0])),
        ("buckets", filled(4, 15, &[0; 8], &[[0, 16].as_slice(), &[0; 14]].concat())),
        ("meter bands", filled(4, 29, &[0; 8], &[0, 9, 0, 4])),
        ("queues", filled(4, 23, &[0; 8], &[[0; 8].as_slice(), &[0, 16], &[0; 6]].concat())),
        (
            "queue properties",
            filled(4, 23, &[&[0; 16][..], &[0xff, 0xe0], &[0; 6]].concat(), &[0, 9, 0, 8, 0, 0, 0, 0]),
        ),
        ("flow statistics of 1.0", filled(1, 17, &[0, 1, 0, 0], &[&[0, 88][..], &[0; 86]].concat())),
        ("group statistics", filled(4, 19, &multipart(6), &[&[0, 40][..], &[0; 38]].concat())),
        ("group descriptions", filled(4, 19, &multipart(7), &[0, 8, 0, 0, 0, 0, 0, 0])),
        ("meter configurations", filled(4, 19, &multipart(10), &[0, 8, 0, 0, 0, 0, 0, 0])),
        ("queue statistics", filled(4, 19, &multipart(5), &[0; 40])),
        ("table features", filled(4, 19, &multipart(12), &[&[0, 64][..], &[0; 62]].concat())),
        (
            "flow updates",
            filled(4, 19, &[&multipart(255)[..], b"ONF\0\0\0\x07\x4e"].concat(), &[0, 8, 0, 3, 0, 0, 0, 0]),
        ),
        ("async properties", filled(4, 4, &[0, 0, 0x23, 0x20, 0, 0, 0, 27], &[0, 0, 0, 4, 0, 0, 0, 0])),
        ("packet-in properties", filled(4, 4, &[0, 0, 0x23, 0x20, 0, 0, 0, 30], &[0, 9, 0, 4, 0, 0, 0, 0])),
        ("echo", filled(4, 2, &[], &[0xff])),
    ];
    for (name, bytes) in &inputs {
        check(name, bytes);
    }
    packet_out.extend(action.repeat(8188));
    check("actions of 1.3", &framed(4, 13, &packet_out));
    let fields = [0x80, 0, 10 << 1, 1, 6].repeat(13_000);
    let length = u16::try_from(4 + fields.len()).expect("16 bits").to_be_bytes();
    let pad = vec![0; (4 + fields.len()).wrapping_neg() & 7];
    check("match fields", &framed(4, 14, &[&flow_mod_13[..], &[0, 1], &length, &fields, &pad].concat()));
}

fn check(name: &str, bytes: &[u8]) {
    let peak = peak_of(bytes);
    assert!(peak <= MULTIPLE * bytes.len(), "{name}: {peak} bytes for {}", bytes.len());
}

/// Lengths and counts in a message are not believed: nothing is reserved for what is not there.
#[test]
fn lengths_are_not_believed() {
    let huge_count = [
        &[0xff; 4][..],
        &[0, 0, 0, 1],
        &[0, 16],
        &[0; 6],
        &[0xff, 0xff, 0, 16, 0, 0, 0x23, 0x20, 0, 21, 0xff, 0xff, 0, 0, 0, 0],
    ]
    .concat();
    let huge_list = [&[0xff; 4][..], &[0, 0, 0, 1], &[0xff, 0xff], &[0; 6]].concat();
    let huge_match = [&[0; 40][..], &[0, 1, 0xff, 0xff]].concat();
    for (kind, body) in [(13, huge_count), (13, huge_list), (14, huge_match)] {
        let bytes = framed(4, kind, &body);
        assert!(Message::decode(&bytes).is_err());
        let peak = peak_of(&bytes);
        assert!(peak <= 1024, "{peak} bytes for {}", bytes.len());
    }
}

/// A packet-in read and answered takes no memory at all, once the buffers are there.
#[test]
fn a_packet_is_answered_without_memory() {
    let oxm = [0, 1, 0, 12, 0x80, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0];
    let body = [&[0xff, 0xff, 0xff, 0xff, 0, 64, 0, 0][..], &[0; 8], &oxm, &[0; 2], &[0xee; 64]].concat();
    let of_1_0 = [&[0xff, 0xff, 0xff, 0xff, 0, 64, 0, 3, 0, 0][..], &[0xee; 64]].concat();
    let packets = [framed(4, 10, &body), framed(1, 10, &of_1_0)];
    let mut framer = Framer::new();
    let mut out = Vec::new();
    for round in 0..3 {
        out.clear();
        let before = NOW.get();
        PEAK.set(before);
        for packet in &packets {
            framer.push(packet).expect("there is room");
            let frame = framer.next_frame_ref().expect("a whole message").expect("a good header");
            let packet_in = frame.packet_in().expect("it decodes").expect("it is one");
            assert_eq!(packet_in.in_port, PortNo(3));
            let PacketInRef { buffer_id, in_port, data, .. } = packet_in;
            let actions = [Action::output(PortNo::FLOOD)];
            let answer = PacketOutRef { buffer_id, in_port, actions: &actions, data };
            answer.encode(packet_in.version, frame.xid, &mut out).expect("it can be said");
        }
        // The first round makes the buffers.
        assert!(round == 0 || PEAK.get() == before, "{} bytes in round {round}", PEAK.get() - before);
        let (_, _, answer) = Message::decode(&out[..104]).expect("our own bytes");
        let Message::PacketOut(answer) = answer else { panic!("{answer:?}") };
        assert_eq!((answer.in_port, answer.data.len()), (PortNo(3), 64));
    }
}
