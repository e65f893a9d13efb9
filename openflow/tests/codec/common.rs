//! What the tests of all message families share.

use std::io::Write;

use openflow::{DecodeError, Framer, Message, PacketInRef, Version, Xid};

/// Bytes of hex digits; blanks and line ends are for the reader.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    assert_eq!(digits.len() % 2, 0, "odd number of hex digits in {text:?}");
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits are a byte"))
        .collect()
}

/// Prints a line although the test passes: the harness keeps `println!` to itself.
pub fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error");
}

/// Hex digits of bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes behind other bytes, into memory that holds 0xa5: nothing of either may show.
pub fn encode(message: &Message, version: Version, xid: u32) -> Vec<u8> {
    let mut out = vec![0xa5; 4096];
    out.truncate(5);
    message
        .encode(version, Xid(xid), &mut out)
        .unwrap_or_else(|error| panic!("{message:?} does not encode: {error}"));
    assert_eq!(out[..5], [0xa5; 5], "bytes before the message were touched");
    out.split_off(5)
}

/// Parse, emit, round trip, and every truncation, of one message with literal bytes.
pub fn check(text: &str, version: Version, xid: u32, message: &Message) {
    let bytes = hex(text);
    assert_eq!(
        Message::decode(&bytes).as_ref(),
        Ok(&(version, Xid(xid), message.clone())),
        "parsing {}",
        to_hex(&bytes)
    );
    assert_eq!(to_hex(&encode(message, version, xid)), to_hex(&bytes), "emitting {message:?}");
    check_truncations(&bytes);
}

/// Cut at every length, with the header's old length and with the new one: an error whose code the version
/// has, or a message that round trips.
pub fn check_truncations(bytes: &[u8]) {
    for length in 0..bytes.len() {
        let mut cut = bytes[..length].to_vec();
        assert!(Message::decode(&cut).is_err(), "{length} bytes with the length of {} decode", bytes.len());
        if length < 8 {
            continue;
        }
        let new_length = u16::try_from(length).expect("a message has 16 bits of length");
        cut[2..4].copy_from_slice(&new_length.to_be_bytes());
        check_any(&cut);
    }
}

/// Any bytes: a message that encodes again and means the same, or an error that can be answered.
pub fn check_any(bytes: &[u8]) {
    match Message::decode(bytes) {
        Ok((version, xid, message)) => {
            check_borrowed(bytes, &message);
            let again = encode(&message, version, xid.0);
            let decoded = Message::decode(&again);
            assert_eq!(decoded.as_ref(), Ok(&(version, xid, message)), "from {}", to_hex(bytes));
            assert_eq!(again.len(), bytes.len(), "from {}", to_hex(bytes));
        }
        Err(error) => {
            if error.message == "PACKET_IN" {
                assert_eq!(PacketInRef::decode(bytes), Err(error.clone()), "from {}", to_hex(bytes));
            }
            check_error(bytes, &error);
        }
    }
}

/// What borrows says the same as what owns.
fn check_borrowed(bytes: &[u8], message: &Message) {
    let mut framer = Framer::new();
    framer.push(bytes).expect("one message has room");
    let frame = framer.next_frame_ref().expect("a whole message").expect("a length of 8 and more");
    assert_eq!(frame.bytes, bytes);
    let packet_in = frame.packet_in().expect("the message decodes");
    match message {
        Message::PacketIn(expected) => {
            assert_eq!(packet_in.map(|packet_in| packet_in.to_packet_in()).as_ref(), Some(expected));
        }
        _ => assert_eq!(packet_in, None),
    }
}

/// The error names a place in the message and can be said in its version.
pub fn check_error(bytes: &[u8], error: &DecodeError) {
    let version = bytes.first().and_then(|byte| Version::from_wire(*byte)).unwrap_or(Version::V1_0);
    assert!(
        error.error_kind().to_wire(version).is_some(),
        "{error}: {:?} is not in {version}",
        error.error_kind()
    );
    assert!(error.offset <= bytes.len().max(8), "{error}: beyond {} bytes", bytes.len());
    assert!(!error.to_string().contains('\n'), "{error}");
}
