//! HTTP and datagrams through VIPs, with the balancer on the ports of one switch.

mod e2e_bed;

use std::collections::BTreeMap;

use e2e_bed::{Capture, Lb, Net, Server, curl, echo_udp, root};

/// Whether a frame is IPv4 or ARP with this address somewhere at its head.
fn names(frame: &[u8], address: [u8; 4]) -> bool {
    frame.iter().take(60).collect::<Vec<_>>().windows(4).any(|four| four.iter().copied().eq(&address))
}

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

#[test]
fn round_robin_alternates_and_the_switch_sees_none_of_it() {
    if !root("round_robin_alternates_and_the_switch_sees_none_of_it") {
        return;
    }
    let net = Net::new(4);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let lb = Lb::with(&net, WEB, &[1, 2]);
    let capture = Capture::start(&net);

    let mut hosts = Vec::new();
    for turn in 0..12 {
        let client = 3 + turn % 2;
        let answer = curl(&net, client, "http://10.0.1.1/").unwrap();
        let (host, seen) = answer.split_once(' ').unwrap();
        assert_eq!(seen, e2e_bed::address(client), "the backend sees the client's own address");
        hosts.push(host.to_owned());
    }
    let expected: Vec<_> = hosts[..2].iter().cycle().take(12).cloned().collect();
    assert!(hosts == expected && hosts[0] != hosts[1], "{hosts:?}");
    let vip = capture.take(|frame| names(frame, [10, 0, 1, 1]));
    assert!(vip.is_empty(), "frames of the VIP at the switch: {vip:02x?}");

    // The capture would have seen them: what is not for the VIP is there, and carried by the switch.
    assert!(net.ping(3, "10.0.0.1", 2));
    assert!(capture.take(|frame| names(frame, [10, 0, 0, 3])).len() >= 4);

    let status = lb.status();
    assert_eq!(status["attach_mode"], "native");
    let interfaces = status["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 4, "{status:#}");
    for (interface, number) in interfaces.iter().zip(net.hosts()) {
        assert_eq!(interface["name"], net.port(number).as_str());
        assert_eq!(
            (&interface["xdp"], &interface["forward"]),
            (&"native".into(), &"redirect".into()),
            "{status:#}"
        );
        assert_eq!(interface["switch"], net.bridge(1).as_str());
        assert_eq!(interface["host"], net.ns(number).as_str());
    }
    assert_eq!(status["warnings"].as_array().unwrap().len(), 0, "{status:#}");
    assert_eq!(status["adopted"], false);

    lb.assert_ledger();
    let stats = lb.read("stats");
    assert_eq!(stats["vips"][0]["opened"], 12, "{stats:#}");
    for (backend, opened) in stats["backends"].as_array().unwrap().iter().zip([6, 6]) {
        assert_eq!(backend["opened"], opened, "{stats:#}");
    }
    assert_eq!(stats["partial_checksums"], 0, "{stats:#}");
    assert_eq!(stats["reasons"]["to_backend_switch"], 0, "{stats:#}");
    let [to_backend, to_client] = ["to_backend_redirect", "to_client_redirect"].map(|name| lb.reason(name));
    assert_eq!(stats["vips"][0]["forwarded"].as_u64().unwrap(), to_backend + to_client);
    let connections = lb.read("conn");
    assert_eq!(connections["total"], 12, "{connections:#}");
}

#[test]
fn ports_are_translated_and_a_vip_with_a_port_goes_before_one_without() {
    if !root("ports_are_translated_and_a_vip_with_a_port_goes_before_one_without") {
        return;
    }
    let net = Net::new(3);
    let _servers = [
        Server::http(&net, 1, 8080),
        Server::http(&net, 2, 8080),
        Server::http(&net, 1, 81),
        Server::http(&net, 2, 80),
        Server::http(&net, 2, 7777),
    ];
    let lb = Lb::with(
        &net,
        r#"
[[vip]]
name = "translated"
address = "10.0.1.1"
port = 80
selection = "round-robin"
backend = [{ address = "10.0.0.1", port = 8080 }, { address = "10.0.0.2", port = 8080 }]

[[vip]]
name = "own-port"
address = "10.0.1.1"
port = 90
backend = [{ address = "10.0.0.1", port = 81 }]

[[vip]]
name = "every-port"
address = "10.0.1.1"
backend = [{ address = "10.0.0.2" }]

[[vip]]
name = "second"
address = "10.0.1.2"
backend = [{ address = "10.0.0.2" }]
"#,
        &[1, 2],
    );
    let mut answers = BTreeMap::new();
    for _ in 0..6 {
        *answers.entry(curl(&net, 3, "http://10.0.1.1/").unwrap()).or_insert(0) += 1;
    }
    let both = [("h1 10.0.0.3".to_owned(), 3), ("h2 10.0.0.3".to_owned(), 3)];
    assert_eq!(answers, BTreeMap::from(both));
    assert_eq!(curl(&net, 3, "http://10.0.1.1:90/").unwrap(), "h1 10.0.0.3");
    assert_eq!(curl(&net, 3, "http://10.0.1.1:7777/").unwrap(), "h2 10.0.0.3", "of every port");
    assert_eq!(curl(&net, 3, "http://10.0.1.2/").unwrap(), "h2 10.0.0.3");
    assert_eq!(curl(&net, 3, "http://10.0.1.2:7777/").unwrap(), "h2 10.0.0.3");
    // A reset comes back from a port where nobody listens, through the balancer as well.
    assert!(curl(&net, 3, "http://10.0.1.1:7778/").unwrap_err().contains("onnect"));
    // Direct traffic to a backend stays direct.
    assert_eq!(curl(&net, 3, "http://10.0.0.2:8080/").unwrap(), "h2 10.0.0.3");
    assert!(lb.reason("no_connection") > 0);
    let stats = lb.read("stats");
    let opened: BTreeMap<_, _> = stats["vips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vip| (vip["name"].as_str().unwrap(), vip["opened"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        opened,
        BTreeMap::from([("translated", 6), ("own-port", 1), ("every-port", 2), ("second", 2)])
    );
    lb.assert_ledger();
}

#[test]
fn datagrams_are_balanced_and_other_ports_of_a_vip_are_refused_by_name() {
    if !root("datagrams_are_balanced_and_other_ports_of_a_vip_are_refused_by_name") {
        return;
    }
    let net = Net::new(3);
    let _servers = [Server::udp(&net, 1, 5353), Server::udp(&net, 2, 5353), Server::http(&net, 1, 80)];
    let lb = Lb::with(
        &net,
        r#"
[[vip]]
address = "10.0.1.1"
port = 53
protocol = "udp"
selection = "round-robin"
backend = [{ address = "10.0.0.1", port = 5353 }, { address = "10.0.0.2", port = 5353 }]

[[vip]]
address = "10.0.1.1"
port = 80
backend = [{ address = "10.0.0.1" }]
"#,
        &[1, 2],
    );
    let answers: Vec<_> =
        (0..6).map(|turn| echo_udp(&net, 3, "10.0.1.1:53", &format!("datagram {turn}")).unwrap()).collect();
    for (turn, answer) in answers.iter().enumerate() {
        let (host, text) = answer.split_once(' ').unwrap();
        assert_eq!(text, format!("datagram {turn}"));
        assert_eq!(host == answers[0].split_once(' ').unwrap().0, turn % 2 == 0, "{answers:?}");
    }
    assert_eq!(curl(&net, 3, "http://10.0.1.1/").unwrap(), "h1 10.0.0.3");

    let refused = lb.reason("vip_no_service");
    assert!(net.ping(3, "10.0.1.1", 1), "the balancer answers for its VIP");
    assert_eq!(lb.reason("echo_answered"), 1);
    assert!(echo_udp(&net, 3, "10.0.1.1:54", "nobody").is_err());
    assert_eq!(lb.reason("vip_no_service"), refused + 1);
    lb.assert_ledger();
}
