//! `lb explain` against what really happens.

mod e2e_bed;

use std::time::Duration;

use e2e_bed::{Lb, Net, Server, Wire, refusal, root, talk};
use serde_json::Value;

const MAGLEV: &str = r#"
[[vip]]
name = "lines"
address = "10.0.1.1"
port = 7
selection = "maglev"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]

[[vip]]
name = "any"
address = "10.0.1.2"
port = 7
selection = "random"
backend = [{ address = "10.0.0.1", weight = 3 }, { address = "10.0.0.2" }]

[[vip]]
name = "turns"
address = "10.0.1.3"
port = 7
protocol = "udp"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

fn explain(lb: &Lb, arguments: &str) -> Value {
    let words: Vec<&str> = ["explain", "--json"].into_iter().chain(arguments.split_whitespace()).collect();
    let done = lb.ask(&words);
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The host that serves a connection from this port of host 3.
fn asked(net: &Net, from: u16) -> String {
    let done = net.try_on(3, &format!("curl -s --local-port {from} -m 2 --http0.9 http://10.0.1.1:7/x"));
    String::from_utf8_lossy(&done.stdout).chars().take(1).collect()
}

#[test]
fn an_explanation_is_what_happens() {
    if !root("an_explanation_is_what_happens") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::lines(&net, number, 7));
    let lb = Lb::with(&net, MAGLEV, &[1, 2]);
    let before = lb.read("stats");
    let mut seen = std::collections::BTreeSet::new();
    for port in 41_000..41_008 {
        let said = explain(&lb, &format!("10.0.0.3:{port} 10.0.1.1:7 tcp"));
        let [request, answer] = &said["packets"].as_array().unwrap()[..] else { panic!("{said:#}") };
        assert_eq!(request["determined"], true, "{said:#}");
        assert_eq!(
            (&request["verdict"], &request["reason"]),
            (&"forwarded".into(), &"to_backend_redirect".into())
        );
        assert_eq!(request["interface"], net.port(3).as_str());
        assert!(
            request["before"].as_str().unwrap().starts_with("02:00:00:00:00:03 > "),
            "the client's own MAC"
        );
        let backend = request["backend"].as_str().unwrap();
        let number = &backend[backend.len() - 1..];
        let after = request["after"].as_str().unwrap();
        assert!(after.contains(&format!("10.0.0.3:{port} > {backend}:7 tcp SYN")), "{after}");
        assert!(after.contains(&format!("> 02:00:00:00:00:0{number} ")), "{after}");
        assert_eq!(answer["reason"], "to_client_redirect", "{said:#}");
        assert!(
            answer["after"].as_str().unwrap().contains(&format!("10.0.1.1:7 > 10.0.0.3:{port} tcp SYN ACK"))
        );
        assert_eq!(asked(&net, port), number, "where it really went: {said:#}");
        seen.insert(number.to_owned());
    }
    assert_eq!(seen.len(), 2, "both backends were explained");
    let after = lb.read("stats");
    let opened = |stats: &Value| stats["vips"][0]["opened"].as_u64().unwrap();
    assert_eq!(opened(&after) - opened(&before), 8, "explaining opens nothing");

    // An open connection is why, whatever is in rotation.
    let mut open = talk(&net, 3, "10.0.1.1:7");
    let at = open.say("x").unwrap();
    let list = lb.read("conn");
    let of_open = list["connections"].as_array().unwrap().iter().find(|one| one["state"] == "established");
    let port = of_open.unwrap_or_else(|| panic!("{list:#}"))["client_port"].as_u64().unwrap();
    let said = explain(&lb, &format!("10.0.0.3:{port} 10.0.1.1:7"));
    assert_eq!(said["packets"][0]["why"], "its connection has this backend", "{said:#}");
    assert!(said["packets"][0]["backend"].as_str().unwrap().ends_with(&at[..1]));

    // With a file that leaves one backend: everything goes to the other, but this connection stays.
    let gone = if at.starts_with('1') { "10.0.0.1" } else { "10.0.0.2" };
    let other = MAGLEV.replacen(&format!("{{ address = \"{gone}\" }}"), "{ address = \"10.0.0.3\" }", 1);
    let file = lb.folder.file("other.toml", &other);
    for port in 42_000..42_004 {
        let said = explain(&lb, &format!("10.0.0.9:{port} 10.0.1.1:7 tcp --with {file}"));
        assert_ne!(said["packets"][0]["backend"], gone, "{said:#}");
        assert_eq!(said["tables"], file.as_str());
    }
}

#[test]
fn what_is_not_determined_is_said() {
    if !root("what_is_not_determined_is_said") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::udp(&net, number, 7));
    let lb = Lb::with(&net, MAGLEV, &[1, 2]);
    let said = explain(&lb, "10.0.0.3:40000 10.0.1.2:7 tcp");
    let packet = &said["packets"][0];
    assert_eq!(packet["determined"], false, "{said:#}");
    let shares: Vec<_> =
        packet["candidates"].as_array().unwrap().iter().map(|c| c["percent"].as_f64().unwrap()).collect();
    assert!((shares[0] - 75.0).abs() < 1.0 && (shares[1] - 25.0).abs() < 1.0, "{shares:?}");

    let said = explain(&lb, "10.0.0.3:40000 10.0.1.3:7 udp");
    assert_eq!(said["packets"][0]["determined"], false);
    assert!(said["packets"][0]["why"].as_str().unwrap().contains("ticket 0"), "{said:#}");

    // What no VIP has a place for, and what is nobody's.
    let said = explain(&lb, "10.0.0.3:40000 10.0.1.1:81 tcp");
    assert_eq!(said["packets"][0]["reason"], "vip_no_service", "{said:#}");
    let said = explain(&lb, "10.0.0.3:40000 10.0.0.2:22 tcp");
    assert_eq!(said["packets"][0]["reason"], "not_ours", "{said:#}");
    assert_eq!(said["packets"][0]["after"], Value::Null);

    let line = refusal(&lb.ask(&["explain", "10.0.0.3:1", "10.0.1.1:7", "--in", "eth9"]));
    assert!(line.contains("--in eth9: the balancer is not on it"), "{line}");
    let line = refusal(&lb.ask(&["explain", "[fd00::3]:1", "10.0.1.1:7"]));
    assert!(line.contains("different families"), "{line}");

    // For people, with steps and bytes.
    let done = lb.ask(&["explain", "10.0.0.3:40000", "10.0.1.1:7"]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    for part in [
        "1. ",
        "VIP lines serves 10.0.1.1:7/tcp",
        "=> forwarded (to_backend_redirect)",
        "0000  02 00 00 00 00 0",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_captured_file_is_explained_frame_by_frame() {
    if !root("a_captured_file_is_explained_frame_by_frame") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::lines(&net, number, 7));
    let lb = Lb::with(&net, MAGLEV, &[1, 2]);
    // What the client sends, as seen at its own interface.
    let wire = Wire::of_host(&net, 3);
    assert_ne!(asked(&net, 43_000), "");
    let from_client = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame[6..12] == [2, 0, 0, 0, 0, 3];
    let frames = wire.overhear(2, Duration::from_secs(5), from_client);
    // The classic format: a header, and each frame behind time and lengths.
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for frame in &frames {
        let length = (frame.len() as u32).to_le_bytes();
        bytes.extend([&[0; 8], &length[..], &length, frame].concat());
    }
    let file = lb.folder.0.join("seen.pcap");
    std::fs::write(&file, bytes).unwrap();
    let file = file.display();
    let said = explain(&lb, &format!("--pcap {file}"));
    let packets = said["packets"].as_array().unwrap();
    assert_eq!(packets.len(), 2, "{said:#}");
    assert!(
        packets[0]["before"].as_str().unwrap().contains("10.0.0.3:43000 > 10.0.1.1:7 tcp SYN"),
        "{said:#}"
    );
    assert_eq!(packets[0]["interface"], net.port(3).as_str());
    assert!(packets.iter().all(|packet| packet["verdict"] == "forwarded"), "{said:#}");
    assert_eq!(packets[0]["backend"], packets[1]["backend"]);

    let not = lb.folder.file("not.pcap", "hello");
    let line = refusal(&lb.ask(&["explain", "--pcap", &not]));
    assert!(line.contains("is neither a pcap nor a pcapng file"), "{line}");
}
