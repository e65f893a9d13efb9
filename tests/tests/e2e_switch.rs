//! What has to go through the switches: to a shaped port, and over a cable to another switch. The controller forwards.

mod e2e_bed;

use e2e_bed::{Folder, Lb, Mode, Net, Ofshim, Server, Wire, body, curl, curl_command, must, root, wait};

fn vip(backends: &[u32]) -> String {
    let list: Vec<String> =
        backends.iter().map(|n| format!("{{ address = \"{}\" }}", e2e_bed::address(*n))).collect();
    format!(
        "[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\nselection = \"round-robin\"\nbackend = [{}]\n",
        list.join(", ")
    )
}

/// Packets and bytes that a port's qdisc sent.
fn shaped(port: &str) -> (u64, u64) {
    let text = must(&format!("tc -s qdisc show dev {port}"));
    let line = text.lines().find(|line| line.contains("Sent ")).expect("statistics");
    let words: Vec<&str> = line.split_whitespace().collect();
    (words[3].parse().unwrap(), words[1].parse().unwrap())
}

#[test]
fn a_shaped_port_gets_its_packets_from_the_switch() {
    if !root("a_shaped_port_gets_its_packets_from_the_switch") {
        return;
    }
    const LENGTH: usize = 400_000;
    let net = Net::with(Mode::Secure, &[4]);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    must(&format!("tc qdisc add dev {} root tbf rate 20mbit burst 32kb latency 400ms", net.port(1)));
    must(&format!("tc qdisc add dev {} root handle 1: htb default 1", net.port(4)));
    must(&format!("tc class add dev {} parent 1: classid 1:1 htb rate 20mbit", net.port(4)));
    let lb = Lb::with(&net, &vip(&[1, 2]), &[1, 2]);
    let _controller = Ofshim::start(&net, &lb, 1);

    let status = lb.status();
    let interfaces = status["interfaces"].as_array().unwrap();
    for (number, forward, reason) in
        [(1, "pass", Some("tbf")), (2, "redirect", None), (3, "redirect", None), (4, "pass", Some("htb"))]
    {
        let interface = &interfaces[number - 1];
        assert_eq!(interface["forward"], forward, "{interface:#}");
        let told = interface["forward_reason"].as_str();
        assert!(reason.map_or(told.is_none(), |kind| told.unwrap().contains(kind)), "{interface:#}");
    }
    let warnings = status["warnings"].to_string();
    for number in [1, 4] {
        assert!(warnings.contains(&net.port(number)), "{warnings}");
    }
    let report = lb.ask(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let named: Vec<_> = checks.iter().filter(|check| check["name"] == "shaping").collect();
    assert_eq!(named.len(), 2, "{report:#}");
    assert_eq!(named[0]["subject"], net.port(1).as_str());
    assert_eq!(named[0]["mend"], format!("tc qdisc del dev {} root", net.port(1)));

    let mut hosts: Vec<_> = (0..6).map(|_| curl(&net, 3, "http://10.0.1.1/").unwrap()).collect();
    hosts.sort();
    assert_eq!(hosts, ["h1 10.0.0.3"; 3].into_iter().chain(["h2 10.0.0.3"; 3]).collect::<Vec<_>>());
    let [switch, redirect] = ["to_backend_switch", "to_backend_redirect"].map(|name| lb.reason(name));
    assert!(switch >= 3 * 4 && redirect >= 3 * 4, "to host 1 {switch}, to host 2 {redirect}");
    assert_eq!(lb.reason("to_client_switch"), 0, "the client's port is not shaped");
    assert!(shaped(&net.port(1)).0 >= switch, "all of them left through the qdisc");

    // The other way: a download to a shaped client.
    let done = curl_command(&net, 4, &format!("http://10.0.1.1/paced/{LENGTH}"), &[]).output().unwrap();
    assert!(done.stdout == body(LENGTH), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(lb.reason("to_client_switch") > 0);
    assert!(shaped(&net.port(4)).1 >= LENGTH as u64, "all of it left through the qdisc");
    lb.assert_ledger();
}

#[test]
fn a_backend_on_another_switch_is_reached_over_the_cable() {
    if !root("a_backend_on_another_switch_is_reached_over_the_cable") {
        return;
    }
    let net = Net::with(Mode::Secure, &[2, 2]);
    let _servers = [1, 3].map(|number| Server::http(&net, number, 80));
    let mut lb = Lb::with(&net, &vip(&[1, 3]), &[1, 3]);
    // One that does not balance in the daemon's place.
    let controller = Ofshim::start_in(Folder::new(), &net, &lb, 2, &["--lb", "none"]);
    let status = lb.status();
    let interfaces = status["interfaces"].as_array().unwrap();
    let switches: Vec<_> = interfaces.iter().map(|one| one["switch"].as_str().unwrap()).collect();
    let [first, second] = [net.bridge(1), net.bridge(2)];
    assert_eq!(switches, [&first, &first, &second, &second]);

    let cable = Wire::open(&net.cable(1)[0]);
    for client in [2, 4] {
        let mut hosts: Vec<_> = (0..6).map(|_| curl(&net, client, "http://10.0.1.1/").unwrap()).collect();
        hosts.sort();
        let seen = |number: u32| vec![format!("h{number} 10.0.0.{client}"); 3];
        assert_eq!(hosts, [seen(1), seen(3)].concat());
    }
    for reason in ["to_backend_switch", "to_client_switch", "to_backend_redirect", "to_client_redirect"] {
        assert!(lb.reason(reason) >= 6 * 4, "{reason}: {:#}", lb.read("stats"));
    }
    // Balanced already when they cross: never with the VIP as their destination, both ways on the one cable.
    let crossed = cable.collect(usize::MAX, std::time::Duration::from_millis(50), |frame| {
        frame.get(12..14) == Some(&[8, 0]) && frame.get(30..34) == Some(&[10, 0, 1, 1])
    });
    assert!(crossed.is_empty(), "{crossed:02x?}");
    assert!(net.programs().iter().all(|line| !net.cable(1).iter().any(|end| line.starts_with(end.as_str()))));
    assert!(net.ping(2, "10.0.0.4", 2) && net.ping(4, "10.0.0.1", 2), "all else is the controller's");
    lb.assert_ledger();
    let trouble = |part: &str| controller.log().iter().filter(|line| line.contains(part)).count();
    assert_eq!(trouble(" WARN "), 0, "{:#?}", controller.log());

    // Without the balancer its packets reach the switch, which forwards none of them and says so.
    lb.detach();
    lb.assert_gone(&net);
    let backend = Wire::of_host(&net, 1);
    assert!(curl(&net, 2, "http://10.0.1.1/").is_err());
    let said = || trouble("no XDP program") > 0 || trouble("ARP request for VIP") > 0;
    wait("the controller says what it drops", 5, said, || format!("{:#?}", controller.log()));
    let leaked = backend.collect(1, std::time::Duration::from_millis(50), |frame| {
        frame.windows(4).any(|four| four == [10, 0, 1, 1])
    });
    assert!(leaked.is_empty(), "{leaked:02x?}");
    assert!(net.ping(2, "10.0.0.1", 2), "all else goes on");
}

/// The frames of layer-2 DSR keep the VIP as their destination: what has been balanced on one switch must not be balanced
/// again on the next.
#[test]
fn a_backend_of_dsr_on_another_switch_is_balanced_once() {
    if !root("a_backend_of_dsr_on_another_switch_is_balanced_once") {
        return;
    }
    let net = Net::with(Mode::Secure, &[2, 2]);
    let _servers = [1, 3].map(|number| {
        net.own(number, "10.0.1.1/32");
        Server::http(&net, number, 80)
    });
    let mut lb = Lb::with(&net, &vip(&[1, 3]).replace("selection", "mode = \"dsr\"\nselection"), &[1, 3]);
    let _controller = Ofshim::start_in(Folder::new(), &net, &lb, 2, &["--lb", "none"]);
    let cable = Wire::open(&net.cable(1)[0]);
    for client in [2, 4] {
        let mut hosts: Vec<_> = (0..6).map(|_| curl(&net, client, "http://10.0.1.1/").unwrap()).collect();
        hosts.sort();
        let seen = |number: u32| vec![format!("h{number} 10.0.0.{client}"); 3];
        assert_eq!(hosts, [seen(1), seen(3)].concat());
    }
    assert!(lb.reason("to_backend_switch") >= 6 * 4 && lb.reason("to_backend_redirect") >= 6 * 4);
    assert_eq!(
        lb.read("stats")["vips"][0]["opened"],
        12,
        "each connection was opened once: {:#}",
        lb.read("stats")
    );
    let to_vip = cable.collect(usize::MAX, std::time::Duration::from_millis(50), |frame| {
        frame.get(12..14) == Some(&[8, 0]) && frame.get(30..34) == Some(&[10, 0, 1, 1])
    });
    assert!(to_vip.len() >= 3 * 4, "they cross with the VIP as their destination: {}", to_vip.len());
    lb.assert_ledger();
    lb.detach();
    lb.assert_gone(&net);
}
