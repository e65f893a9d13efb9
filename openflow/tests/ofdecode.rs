//! The binary: inputs, outputs, exit status.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A hello, and an echo request.
const HELLO: &str = "04000010000000010001000800000012";
const ECHO: &str = "0402000a000000026869";
/// A packet-out whose action resubmit has padding that is not zero.
const ODD_PADDING: &str = "040d00280000000100000001ffffffff0010000000000000ffff0010000023200001000200030004";

fn ofdecode(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ofdecode")).args(args).output().expect("ofdecode runs")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A file with this content, in the folder that cargo has for tests.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).expect("test file");
    path
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn text_and_json() {
    let text = ofdecode(&["--hex", HELLO, "--hex", ECHO]);
    assert!(text.status.success());
    let shown = String::from_utf8(text.stdout).expect("text");
    assert!(shown.contains("HELLO OpenFlow 1.3 xid 0x1 16 bytes"), "{shown}");
    assert!(shown.contains("ECHO_REQUEST OpenFlow 1.3 xid 0x2 10 bytes\n  6869"), "{shown}");
    let json = ofdecode(&["--json", "--hex", &format!("{HELLO}{ECHO}")]);
    let json = lines(&json);
    assert_eq!(json.len(), 2);
    assert_eq!(
        (&json[0]["type"], &json[0]["xid"], &json[0]["version"]),
        (&"HELLO".into(), &1.into(), &"1.3".into())
    );
    assert_eq!(json[1]["message"]["echo_request"], "6869");
}

#[test]
fn round_trips_are_told_line_by_line() {
    let good = ofdecode(&["--roundtrip", "--hex", HELLO, "--hex", ECHO]);
    assert_eq!(good.status.code(), Some(0));
    let good = lines(&good);
    assert_eq!(good.len(), 2);
    for line in good {
        assert_eq!((&line["decoded"], &line["identical"]), (&true.into(), &true.into()), "{line}");
        assert_eq!((&line["file"], &line["version"]), (&"--hex".into(), &"1.3".into()), "{line}");
    }
    let odd = ofdecode(&["--roundtrip", "--hex", ODD_PADDING]);
    assert_eq!(odd.status.code(), Some(1), "what differs shows in the exit status");
    let odd = &lines(&odd)[0];
    assert_eq!(
        (&odd["decoded"], &odd["identical"], &odd["differs_at"]),
        (&true.into(), &false.into(), &37.into())
    );
    let none = ofdecode(&["--roundtrip", "--hex", "04630008 00000001"]);
    assert_eq!(none.status.code(), Some(0), "only what decodes can differ");
    let none = &lines(&none)[0];
    assert_eq!((&none["decoded"], &none["identical"]), (&false.into(), &false.into()));
    assert!(none["error"].as_str().is_some_and(|error| error.contains("0x63")), "{none}");
}

#[test]
fn files_of_all_kinds() {
    let whole = format!("{HELLO}{ECHO}");
    let halves = format!("{} # a comment\n{}", &whole[..20], &whole[20..]);
    let by_line = format!("# two messages\n{HELLO}\n\n0x{}\n", ECHO.replace("0402", "04:02, "));
    let json = format!("{{\"name\":\"first # one\",\"hex\":\"{HELLO}\"}}\n{{\"hex\":\"{ECHO}\"}}\n");
    for (name, content) in [
        ("binary", bytes(&whole)),
        ("halves", halves.into_bytes()),
        ("by_line", by_line.into_bytes()),
        ("json", json.into_bytes()),
        ("capture", capture()),
        ("capture_ng", capture_ng()),
    ] {
        let path = file(name, &content);
        let output = ofdecode(&["--roundtrip", path.to_str().expect("a path")]);
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let lines = lines(&output);
        let types: Vec<&Value> = lines.iter().map(|line| &line["type"]).collect();
        assert_eq!(types, [&Value::from("HELLO"), &Value::from("ECHO_REQUEST")], "{name}");
        assert!(lines.iter().all(|line| line["identical"] == true), "{name}: {lines:?}");
    }
    assert_eq!(
        lines(&ofdecode(&[
            "--json",
            file("json", b"{\"name\":\"n\",\"hex\":\"0402000800000001\"}").to_str().expect("a path")
        ]))[0]["name"],
        "n"
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    for (name, content, expected) in [
        ("odd.hex", &b"040"[..], "odd number of hex digits"),
        ("letters.hex", b"0402\nhello", "'h' is no hex digit"),
        ("empty.hex", b"# nothing\n", "no message"),
        ("broken.json", b"{\"hex\":1}", "member \"hex\""),
    ] {
        let path = file(name, content);
        let output = ofdecode(&[path.to_str().expect("a path")]);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(said.contains(expected) && said.contains(name), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(ofdecode(&["/no/such/file"]).status.code(), Some(2));
    let cut = ofdecode(&["--hex", &HELLO[..20]]);
    assert_eq!(cut.status.code(), Some(1));
    assert!(
        String::from_utf8(cut.stdout).expect("text").contains("length at byte 2"),
        "a cut message is shown"
    );
}

/// Hello and echo in three TCP segments of Ethernet and IPv4, the last two in the wrong order, one of them twice.
fn frames() -> Vec<Vec<u8>> {
    let stream = bytes(&format!("{HELLO}{ECHO}"));
    let segment =
        |from: usize, to: usize| frame(1000 + u32::try_from(from).expect("small"), 0x18, &stream[from..to]);
    vec![frame(999, 0x02, &[]), segment(0, 5), segment(12, 26), segment(12, 26), segment(5, 12)]
}

fn frame(sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut tcp = [6653_u16.to_be_bytes(), 40000_u16.to_be_bytes()].concat();
    tcp.extend_from_slice(&sequence.to_be_bytes());
    tcp.extend_from_slice(&[0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend_from_slice(data);
    let total = u16::try_from(20 + tcp.len()).expect("small").to_be_bytes();
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&[
        8, 0, 0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend_from_slice(&tcp);
    frame
}

/// A capture in little-endian pcap.
fn capture() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1]);
    for frame in frames() {
        let length = u32::try_from(frame.len()).expect("small");
        file.extend(words(&[1_700_000_000, 5, length, length]));
        file.extend(frame);
    }
    file
}

/// The same in big-endian pcapng.
fn capture_ng() -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32::try_from(body.len() + 12).expect("small").to_be_bytes();
        [&kind.to_be_bytes()[..], &length, &body, &length].concat()
    };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let mut file = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 0x0001_0000, u32::MAX, u32::MAX]));
    file.extend(block(1, &words(&[1 << 16, 65535])));
    for frame in frames() {
        let length = u32::try_from(frame.len()).expect("small");
        let body = [words(&[0, 0x0006_0a00, 7, length, length]), frame].concat();
        file.extend(block(6, &body));
    }
    file
}
