//! A network that changes under a running balancer: interfaces and hosts that go, come back, or are new.

mod e2e_bed;

use e2e_bed::{Lb, Mininet, Net, Server, curl, must, root, run, talk, wait};

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// Who answered eight requests of host 3: sorted, each once.
fn answering(net: &Net) -> Vec<String> {
    let mut hosts: Vec<_> = (0..8).map(|_| curl(net, 3, "http://10.0.1.1/").unwrap()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn interface(lb: &Lb, name: &str) -> serde_json::Value {
    let status = lb.status();
    let mut interfaces = status["interfaces"].as_array().unwrap().iter();
    interfaces.find(|one| one["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn a_host_that_is_plugged_in_anew_is_served_without_a_restart() {
    if !root("a_host_that_is_plugged_in_anew_is_served_without_a_restart") {
        return;
    }
    let net = Net::new(3);
    let before = net.offloads();
    let _servers: Vec<_> =
        [1, 2].into_iter().flat_map(|n| [Server::http(&net, n, 80), Server::lines(&net, n, 7)]).collect();
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let mut talks = [1, 2].map(|_| talk(&net, 3, "10.0.1.1:7"));
    let at = [0, 1].map(|number: usize| talks[number].say("first").unwrap()[..1].to_owned());

    for round in 0..3 {
        net.unplug(1);
        lb.wait_state(1, "down");
        lb.wait_for_log(&format!("interface {} has gone", net.port(1)));
        assert_eq!(answering(&net), ["h2 10.0.0.3"]);
        wait("forgotten", 5, || interface(&lb, &net.port(1)).is_null(), || lb.status().to_string());
        net.plug(1);
        lb.wait_state(1, "up");
        assert_eq!(net.programs().len(), 6, "{:#?}", net.programs());
        assert_eq!(interface(&lb, &net.port(1))["forward"], "redirect");
        assert!(net.on(1, "ethtool -k eth0").contains("tx-checksumming: off"));
        assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
        for (talk, at) in talks.iter_mut().zip(&at) {
            assert_eq!(talk.say("again").unwrap(), format!("{at} again"), "round {round}");
        }
    }
    // The client's own cable: its connections go on through another interface.
    net.unplug(3);
    net.plug(3);
    wait("host 3 is taken", 10, || !interface(&lb, &net.port(3)).is_null(), || format!("{:#?}", lb.log()));
    for (talk, at) in talks.iter_mut().zip(&at) {
        assert_eq!(talk.say("more").unwrap(), format!("{at} more"));
    }
    assert_eq!(lb.reason("to_client_switch") + lb.reason("to_backend_switch"), 0, "{:#}", lb.read("stats"));
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    lb.assert_ledger();
    let detached = lb.detach();
    assert_eq!(detached["failures"].as_array().unwrap().len(), 0, "{detached:#}");
    assert_eq!(detached["programs"].as_array().unwrap().len(), 6, "{detached:#}");
    lb.assert_gone(&net);
    assert_eq!(net.offloads(), before, "also of the interfaces that were not there at the start");
}

#[test]
fn a_port_that_is_shaped_under_the_balancer_is_no_longer_redirected_to() {
    if !root("a_port_that_is_shaped_under_the_balancer_is_no_longer_redirected_to") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let lb = Lb::with(&net, WEB, &[1, 2]);
    let port = net.port(1);
    let forward = || interface(&lb, &port)["forward"].clone();
    assert_eq!(forward(), "redirect");
    must(&format!("tc qdisc add dev {port} root tbf rate 10mbit burst 20kb latency 50ms"));
    wait("by way of the switch", 5, || forward() == "pass", || lb.status().to_string());
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    assert!(lb.reason("to_backend_switch") > 0);
    must(&format!("tc qdisc del dev {port} root"));
    wait("redirected again", 5, || forward() == "redirect", || lb.status().to_string());
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    lb.assert_ledger();
}

#[test]
fn a_port_that_comes_late_is_taken_when_it_comes() {
    if !root("a_port_that_comes_late_is_taken_when_it_comes") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let lb = Lb::with(&net, WEB, &[1, 2]);
    net.unplug(2);
    let warned =
        || lb.status()["warnings"].to_string().contains(&format!("interface {} is not there", net.port(2)));
    wait("a warning", 5, warned, || lb.status()["warnings"].to_string());
    // Without a switch nothing may be redirected to it; with one it may.
    net.plug(2);
    lb.wait_up(&[2]);
    wait("no warning", 5, || !warned(), || lb.status()["warnings"].to_string());
    assert_eq!(interface(&lb, &net.port(2))["switch"], net.bridge(1).as_str());
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
}

#[test]
fn mininet_is_restarted_under_an_inline_balancer() {
    if !root("mininet_is_restarted_under_an_inline_balancer") {
        return;
    }
    let mut lb = Lb::new();
    let mut mininet = Mininet::start("inline", &lb);
    let tag = mininet.tag.clone();
    let ports: Vec<String> = (1..=3).map(|number| format!("{}-eth{number}", mininet.switch)).collect();
    lb.configure(&ports, WEB);
    lb.start();
    for round in 0..3 {
        lb.wait_up(&[1, 2]);
        let servers = [1, 2].map(|number| Server::http(&mininet.net, number, 80));
        assert_eq!(answering(&mininet.net), ["h1 10.0.0.3", "h2 10.0.0.3"], "round {round}");
        for port in &ports {
            assert_eq!(interface(&lb, port)["forward"], "redirect", "{:#}", lb.status());
        }
        drop(servers);
        if round == 1 {
            mininet.kill();
        } else {
            drop(mininet);
        }
        lb.wait_state(1, "down");
        lb.wait_state(2, "down");
        // Nothing of ours keeps the dead hosts' interfaces.
        let gone = || ports.iter().all(|port| !run(&format!("ip link show {port}")).status.success());
        wait("the ports are gone", 10, gone, || must("ip -br link"));
        run(&format!("ovs-vsctl -t 10 --if-exists del-br s1{tag}"));
        mininet = Mininet::start_as("inline", &lb, &tag);
    }
    lb.wait_up(&[1, 2]);
    lb.assert_ledger();
    let detached = lb.detach();
    assert_eq!(detached["failures"].as_array().unwrap().len(), 0, "{detached:#}");
    for port in &ports {
        assert!(!must(&format!("ip link show {port}")).contains("xdp"));
    }
}

#[test]
fn mininet_is_restarted_under_a_one_armed_balancer() {
    if !root("mininet_is_restarted_under_a_one_armed_balancer") {
        return;
    }
    let mut lb = Lb::new();
    let mut mininet = Mininet::start("onearm", &lb);
    let tag = mininet.tag.clone();
    let balancer = mininet.hosts.last().unwrap().clone();
    lb.folder.file("lb.toml", &format!("[placement]\nkind = \"onearm\"\nhost = \"{balancer}\"\n{WEB}"));
    lb.start();
    for round in 0..3 {
        lb.wait_up(&[1, 2]);
        let servers = [1, 2].map(|number| Server::http(&mininet.net, number, 80));
        assert_eq!(answering(&mininet.net), ["h1 10.0.0.3", "h2 10.0.0.3"], "round {round}");
        drop(servers);
        let port = format!("{}-eth4", mininet.switch);
        assert!(run(&format!("ip link show {port}")).status.success());
        if round == 1 {
            mininet.kill();
            lb.wait_for_log(&format!("host {balancer} has ended"));
        } else {
            drop(mininet);
        }
        lb.wait_state(1, "down");
        let gone = || !run(&format!("ip link show {port}")).status.success();
        wait("the port is gone", 10, gone, || must("ip -br link"));
        run(&format!("ovs-vsctl -t 10 --if-exists del-br s1{tag}"));
        mininet = Mininet::start_as("onearm", &lb, &tag);
    }
    lb.wait_up(&[1, 2]);
    lb.assert_ledger();
    lb.detach();
    assert!(!lb.pin_dir.exists());
}
