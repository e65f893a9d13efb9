//! `lb compare equivalence` on files: what it says, and how it refuses.

mod e2e_bed;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use e2e_bed::{Folder, binary};
use serde_json::Value;
use testbed::frame::{ACK, Packet, SYN, v4};
use testbed::root_or_say_so;

const TOML: &str = "[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\nselection = \"maglev\"\n\
    [[vip.backend]]\nname = \"h1\"\naddress = \"10.0.0.1\"\nport = 8080\n\
    [[vip.backend]]\nname = \"h2\"\naddress = \"10.0.0.2\"\nport = 8080\n";
const FLOWS: u16 = 200;

/// A classic capture, a packet in each millisecond.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (number, frame) in (0u32..).zip(frames) {
        let length = frame.len() as u32;
        for word in [1_700_000_000 + number / 1000, number % 1000 * 1000, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// Two packets of each flow: all first ones, then all second ones.
fn frames() -> Vec<Vec<u8>> {
    let to = ([2, 0x6c, 10, 0, 1, 1], v4(10, 0, 1, 1), 80);
    let packet = |flow: u16, flags| {
        let from = ([2, 0, 0, 0, 1, (flow % 7) as u8], v4(10, 1, 0, (flow % 50) as u8 + 1), 20_000 + flow);
        Packet::tcp(from, to, flags, 7, b"").bytes()
    };
    let first = (0..FLOWS).map(|flow| packet(flow, SYN));
    first.chain((0..FLOWS).map(|flow| packet(flow, ACK))).collect()
}

fn compare(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("lb"));
    command.current_dir(&folder.0).args(["compare", "equivalence"]).args(arguments);
    command.args(["--ofshim".as_ref(), binary("ofshim").as_os_str()]).output().expect("lb")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn files() -> Folder {
    let folder = Folder::new();
    folder.file("lb.toml", TOML);
    std::fs::write(folder.0.join("seen.pcap"), pcap(&frames())).expect("a capture");
    folder
}

#[test]
fn a_capture_is_the_same_by_both_modes() {
    if !root_or_say_so("lb compare equivalence") {
        return;
    }
    let folder = files();
    let changes = ["--change", "201:down:10.0.0.1", "--change", "300:up:10.0.0.1"];
    let output = compare(&folder, &[&["seen.pcap", "--config", "lb.toml", "--json"], &changes[..]].concat());
    assert!(output.status.success(), "{} {}", said(&output.stdout), said(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let number = |name: &str| report[name].as_u64();
    assert_eq!((number("flows"), number("equal_flows")), (Some(200), Some(200)), "{report}");
    // Each flow's first packet is answered.
    assert_eq!((number("frames"), number("different")), (Some(600), Some(0)), "{report}");
    let backends = report["backends"].as_object().expect("backends");
    assert_eq!(backends.values().filter_map(Value::as_u64).sum::<u64>(), 400, "{report}");
    assert_eq!(backends.len(), 2);
    let output = compare(&folder, &["seen.pcap", "--config", "lb.toml", "--no-answers"]);
    assert!(said(&output.stdout).starts_with("200 of 200 flows: same backend"), "{}", said(&output.stdout));
}

#[test]
fn a_difference_is_named_and_ends_with_status_1() {
    if !root_or_say_so("lb compare equivalence") {
        return;
    }
    let folder = files();
    // A controller whose entries send one backend's packets out of another port.
    let script = format!(
        "#!/bin/sh\n{} \"$@\" | sed -u 's/\"out\":\\[\\[1,/\"out\":[[2,/'\n",
        binary("ofshim").display()
    );
    folder.file("other", &script);
    let path = folder.0.join("other");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let mut command = Command::new(binary("lb"));
    command.current_dir(&folder.0).args(["compare", "equivalence", "seen.pcap", "--config", "lb.toml"]);
    let output = command.arg("--ofshim").arg(&path).output().expect("lb");
    let text = said(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text} {}", said(&output.stderr));
    assert!(
        text.contains("leaves by port 1 (h1)") && text.contains("flow entries  leaves by port 2"),
        "{text}"
    );
    assert!(!text.contains("200 of 200 flows"), "{text}");
}

#[test]
fn input_that_is_none_is_refused_in_one_line() {
    let folder = files();
    std::fs::write(folder.0.join("none.pcap"), b"#!/bin/sh\n").expect("a file");
    std::fs::write(folder.0.join("others.pcap"), pcap(&[vec![2; 60]])).expect("a file");
    folder.file("full.toml", &TOML.replace("selection", "nonsense"));
    let cases: [(&[&str], &str); 6] = [
        (&["missing.pcap", "--config", "lb.toml"], "missing.pcap: cannot be read"),
        (&["none.pcap", "--config", "lb.toml"], "none.pcap: is neither a pcap nor a pcapng file"),
        (&["others.pcap", "--config", "lb.toml"], "none of its 1 frames is to a VIP"),
        (&["seen.pcap", "--config", "none.toml"], "--config none.toml: cannot be read"),
        (&["seen.pcap", "--config", "full.toml"], "full.toml:5"),
        (
            &["seen.pcap", "--config", "lb.toml", "--change", "7:down:10.0.0.7"],
            "no backend with this address",
        ),
    ];
    for (arguments, part) in cases {
        let output = compare(&folder, arguments);
        let text = said(&output.stderr);
        assert!(text.contains(part) && text.lines().count() == 1, "{arguments:?}: {text}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    }
}
