//! The daemon's life and death: killed, taken over, stopped, detached.

mod e2e_bed;

use e2e_bed::{Lb, Net, Process, Server, body, curl, curl_command, root, talk};

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

#[test]
fn a_killed_daemon_is_missed_by_nobody_and_the_next_takes_over() {
    if !root("a_killed_daemon_is_missed_by_nobody_and_the_next_takes_over") {
        return;
    }
    const LENGTH: usize = 16 << 20;
    let net = Net::new(3);
    let before = net.offloads();
    let _servers: Vec<_> =
        [1, 2].into_iter().flat_map(|n| [Server::http(&net, n, 80), Server::lines(&net, n, 7)]).collect();
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    assert!(before.iter().all(|text| text.contains("tx-checksumming: on")), "{}", before[0]);
    assert!(net.offloads().iter().all(|text| text.contains("tx-checksumming: off")), "{}", net.offloads()[0]);
    let mut open = talk(&net, 3, "10.0.1.1:7");
    let at = open.say("one").unwrap()[..1].to_owned();

    let file = lb.folder.0.join("download");
    let more = ["-o", file.to_str().unwrap()];
    let url = format!("http://10.0.1.1/paced/{LENGTH}");
    let mut download = Process(curl_command(&net, 3, &url, &more).spawn().unwrap());
    let size = || std::fs::metadata(&file).map_or(0, |file| file.len());
    let early = || size() > 1 << 20;
    e2e_bed::wait("the download is under way", 15, early, || size().to_string());
    assert_eq!(lb.end("KILL"), None);
    assert!(size() < LENGTH as u64 / 2, "the download is still under way: {}", size());
    let while_dead = open.say("two").unwrap();
    assert_eq!(while_dead, format!("{at} two"), "forwarding goes on without a daemon");
    assert!(curl(&net, 3, "http://10.0.1.1/").is_ok(), "new connections too");
    assert!(lb.ask(&["status"]).stderr.starts_with(b"error: "), "nobody answers");

    lb.start();
    let status = lb.status();
    assert_eq!(status["adopted"], true, "{status:#}");
    for number in [1, 2] {
        assert_eq!(lb.states(number), ["up"], "backends stay in rotation over a restart");
    }
    assert!(size() < LENGTH as u64, "the download outlives the change of daemons");
    assert!(download.0.wait().unwrap().success());
    assert!(std::fs::read(&file).unwrap() == body(LENGTH), "the bytes differ");
    assert_eq!(open.say("three").unwrap(), format!("{at} three"));
    let connections = lb.read("conn");
    let states: Vec<_> =
        connections["connections"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert!(states.iter().any(|state| **state == "established"), "{connections:#}");
    assert_eq!(connections["total"], 3, "none forgotten, none doubled: {connections:#}");
    lb.assert_ledger();

    assert_eq!(lb.end("TERM"), Some(0));
    assert_eq!(open.say("four").unwrap(), format!("{at} four"), "SIGTERM keeps forwarding");
    assert!(curl(&net, 3, "http://10.0.1.1/").is_ok());
    assert!(!lb.run_dir().join("lb.sock").exists());
    lb.start();
    assert_eq!(lb.status()["adopted"], true);
    assert!(curl(&net, 3, "http://10.0.1.1/").is_ok());

    let detached = lb.detach();
    assert_eq!(detached["programs"].as_array().unwrap().len(), 6, "{detached:#}");
    assert_eq!(detached["failures"].as_array().unwrap().len(), 0, "{detached:#}");
    lb.assert_gone(&net);
    assert_eq!(net.offloads(), before, "every offload as it was");
    assert!(net.ping(3, "10.0.0.1", 2), "the network goes on without the balancer");
    assert!(open.say("five").is_err(), "and the VIP is nobody's");
}

#[test]
fn detach_needs_no_daemon_and_restores_what_each_host_had() {
    if !root("detach_needs_no_daemon_and_restores_what_each_host_had") {
        return;
    }
    let net = Net::new(3);
    // One of them was set by the user, and stays so.
    net.on(2, "ethtool -K eth0 tx off");
    net.on(3, "ethtool -K eth0 txvlan off");
    let before = net.offloads();
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    for number in net.hosts() {
        let text = net.on(number, "ethtool -k eth0");
        for feature in ["tx-checksumming: off", "tx-vlan-offload: off", "generic-receive-offload: on"] {
            assert!(text.contains(feature), "{number}: {feature}: {text}");
        }
    }
    assert_eq!(net.programs().len(), 6, "{:#?}", net.programs());
    assert_eq!(lb.end("KILL"), None);
    let detached = lb.detach();
    assert_eq!(detached["programs"].as_array().unwrap().len(), 6, "{detached:#}");
    lb.assert_gone(&net);
    assert_eq!(net.offloads(), before);

    // Nothing to do is no failure, and nothing is invented.
    let again = lb.detach();
    assert_eq!(again["programs"].as_array().unwrap().len(), 0, "{again:#}");
    assert_eq!(again["offloads"].as_array().unwrap().len(), 0, "{again:#}");
    lb.start();
    assert_eq!(lb.status()["adopted"], false);
    lb.wait_up(&[1, 2]);
    lb.detach();
    lb.assert_gone(&net);
    assert_eq!(net.offloads(), before);
}

#[test]
fn a_restart_with_other_backends_takes_the_new_ones() {
    if !root("a_restart_with_other_backends_takes_the_new_ones") {
        return;
    }
    let net = Net::new(4);
    let _servers = [1, 2, 3].map(|number| Server::http(&net, number, 80));
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    assert!(curl(&net, 4, "http://10.0.1.1/").is_ok());
    assert_eq!(lb.end("TERM"), Some(0));
    lb.configure(&net.ports(), &WEB.replace("10.0.0.2", "10.0.0.3"));
    lb.start();
    assert_eq!(lb.status()["adopted"], true);
    lb.wait_up(&[1, 3]);
    let mut hosts: Vec<_> = (0..8).map(|_| curl(&net, 4, "http://10.0.1.1/").unwrap()).collect();
    hosts.sort();
    hosts.dedup();
    assert_eq!(hosts, ["h1 10.0.0.4", "h3 10.0.0.4"]);
    lb.assert_ledger();

    // And with fewer ports: what is no longer wanted is taken off.
    assert_eq!(lb.end("TERM"), Some(0));
    lb.configure(&[net.port(1), net.port(3)], &WEB.replace("10.0.0.2", "10.0.0.3"));
    lb.start();
    let programs = net.programs();
    assert_eq!(programs.len(), 4, "{programs:#?}");
    assert!(programs.iter().all(|line| !line.starts_with(&net.port(4)) && !line.starts_with(&net.ns(2))));
    lb.detach();
    lb.assert_gone(&net);
}
