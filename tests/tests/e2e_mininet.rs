//! Mininet's hosts, with the project's switch and controller classes, in both placements.

mod e2e_bed;

use e2e_bed::{Lb, Mininet, Server, curl, echo_udp, must, root};

const VIPS: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]

[[vip]]
name = "echo"
address = "10.0.1.1"
port = 7
protocol = "udp"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// Eight requests and eight datagrams from host 3: both backends, in turn. The datagrams' server listens at `echo`.
fn assert_balanced(mininet: &Mininet, echo: &str) {
    let net = &mininet.net;
    let _servers: Vec<_> =
        [1, 2].into_iter().flat_map(|n| [Server::http(net, n, 80), Server::udp_at(net, n, echo)]).collect();
    let mut hosts: Vec<_> = (0..8).map(|_| curl(net, 3, "http://10.0.1.1/").unwrap()).collect();
    hosts.sort();
    assert_eq!(hosts, [vec!["h1 10.0.0.3"; 4], vec!["h2 10.0.0.3"; 4]].concat());
    let mut echoes: Vec<_> = (0..8).map(|_| echo_udp(net, 3, "10.0.1.1:7", "x").unwrap()).collect();
    echoes.sort();
    assert_eq!(echoes, [vec!["1 x"; 4], vec!["2 x"; 4]].concat());
    assert!(net.ping(3, "10.0.0.1", 2) && net.ping(1, "10.0.0.2", 2));
}

fn offloads(mininet: &Mininet) -> Vec<String> {
    let nic = |number: u32| format!("{}-eth0", mininet.hosts[number as usize - 1]);
    mininet.net.hosts().map(|number| mininet.net.on(number, &format!("ethtool -k {}", nic(number)))).collect()
}

#[test]
fn inline_on_the_ports_of_mininets_switch() {
    if !root("inline_on_the_ports_of_mininets_switch") {
        return;
    }
    let mut lb = Lb::new();
    let mininet = Mininet::start("inline", &lb);
    let before = offloads(&mininet);
    let ports: Vec<String> = (1..=3).map(|number| format!("{}-eth{number}", mininet.switch)).collect();
    lb.configure(&ports, VIPS);
    lb.start();
    lb.wait_up(&[1, 2]);
    assert_balanced(&mininet, "0.0.0.0:7");

    let status = lb.status();
    assert_eq!(status["attach_mode"], "native");
    for (number, interface) in status["interfaces"].as_array().unwrap().iter().enumerate() {
        assert_eq!(interface["host"], mininet.hosts[number].as_str(), "{interface:#}");
        assert_eq!(interface["switch"], mininet.switch.as_str(), "{interface:#}");
        assert_eq!(interface["forward"], "redirect", "{interface:#}");
    }
    for reason in ["to_backend_switch", "to_client_switch", "vip_no_service"] {
        assert_eq!(lb.reason(reason), 0, "{:#}", lb.read("stats"));
    }
    lb.assert_ledger();
    lb.detach();
    assert!(!lb.pin_dir.exists());
    for port in &ports {
        assert!(!must(&format!("ip link show {port}")).contains("xdp"));
    }
    assert_eq!(offloads(&mininet), before);
}

#[test]
fn one_armed_on_the_nic_of_a_host() {
    if !root("one_armed_on_the_nic_of_a_host") {
        return;
    }
    let mut lb = Lb::new();
    let mininet = Mininet::start("onearm", &lb);
    let before = offloads(&mininet);
    let balancer = mininet.hosts.last().unwrap().clone();
    lb.folder.file("lb.toml", &format!("[placement]\nkind = \"onearm\"\nhost = \"{balancer}\"\n{VIPS}"));
    lb.start();
    lb.wait_up(&[1, 2]);
    // The backends own the VIP, and answer from it.
    assert_balanced(&mininet, "10.0.1.1:7");

    let status = lb.status();
    assert_eq!((&status["attach_mode"], &status["placement"]["kind"]), (&"native".into(), &"onearm".into()));
    let interface = &status["interfaces"][0];
    assert_eq!(interface["forward"], "tx", "{status:#}");
    assert_eq!(interface["netns"], balancer.as_str(), "{status:#}");
    assert_eq!(interface["name"], format!("{balancer}-eth0"), "{status:#}");
    let stats = lb.read("stats");
    assert!(stats["reasons"]["to_backend_transmit"].as_u64().unwrap() >= 8 * 4 + 8, "{stats:#}");
    assert_eq!(stats["ledger"]["dropped"], 0, "{stats:#}");
    assert_eq!(stats["vips"][0]["opened"], 8, "{stats:#}");
    lb.assert_ledger();

    assert_eq!(lb.end("KILL"), None);
    lb.start();
    assert_eq!(lb.status()["adopted"], true);
    assert_balanced(&mininet, "10.0.1.1:7");

    // No event tells it: the probes cannot leave.
    let nic = |state: &str| mininet.net.on(4, &format!("ip link set {balancer}-eth0 {state}"));
    nic("down");
    lb.wait_state(1, "down");
    lb.wait_state(2, "down");
    nic("up");
    lb.wait_up(&[1, 2]);
    assert_balanced(&mininet, "10.0.1.1:7");
    let detached = lb.detach();
    assert_eq!(detached["programs"].as_array().unwrap().len(), 2, "{detached:#}");
    assert!(!lb.pin_dir.exists());
    assert!(!mininet.net.on(4, "ip link show").contains("xdp"));
    assert_eq!(offloads(&mininet), before);
}
