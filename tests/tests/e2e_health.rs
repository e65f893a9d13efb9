//! Backends that fall silent, lose their link, and come back.

mod e2e_bed;

use e2e_bed::{Lb, Net, Server, curl, must, root, talk};

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// Who answered eight requests: sorted, each once.
fn answering(net: &Net) -> Vec<String> {
    let mut hosts: Vec<_> = (0..8).map(|_| curl(net, 3, "http://10.0.1.1/").unwrap()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn arp_ignore(net: &Net, number: u32, value: u32) {
    net.on(number, &format!("sysctl -q -w net.ipv4.conf.all.arp_ignore={value}"));
}

#[test]
fn a_silent_backend_gets_nothing_new_and_keeps_what_it_has() {
    if !root("a_silent_backend_gets_nothing_new_and_keeps_what_it_has") {
        return;
    }
    let net = Net::new(3);
    let _servers: Vec<_> =
        [1, 2].into_iter().flat_map(|n| [Server::http(&net, n, 80), Server::lines(&net, n, 7)]).collect();
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    // Round robin: one of two is at host 1.
    let mut open = [talk(&net, 3, "10.0.1.1:7"), talk(&net, 3, "10.0.1.1:7")];
    let answers = open.each_mut().map(|one| one.say("before").unwrap());
    let first = answers.iter().position(|answer| answer == "1 before").expect("one at host 1");

    arp_ignore(&net, 1, 8);
    lb.wait_state(1, "down");
    lb.wait_for_log("backend 10.0.0.1 down");
    assert_eq!(lb.states(2), ["up"]);
    assert_eq!(answering(&net), ["h2 10.0.0.3"]);
    let status = lb.status();
    let backend = &status["vips"][0]["backends"][0];
    assert_eq!((&backend["address"], &backend["downs"]), (&"10.0.0.1".into(), &1.into()), "{status:#}");
    // Every neighbour entry that host 1 could be asked for is there already: only new probes go unanswered.
    assert_eq!(open[first].say("while silent").unwrap(), "1 while silent");

    arp_ignore(&net, 1, 0);
    lb.wait_state(1, "up");
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    assert_eq!(open[first].say("after").unwrap(), "1 after");
    lb.assert_ledger();
}

#[test]
fn a_backend_without_a_link_is_out_at_once_and_none_at_all_is_a_named_drop() {
    if !root("a_backend_without_a_link_is_out_at_once_and_none_at_all_is_a_named_drop") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    must(&format!("ip -n {} link set eth0 down", net.ns(1)));
    lb.wait_state(1, "down");
    lb.wait_for_log("backend 10.0.0.1 down");
    let line = lb.log().into_iter().find(|line| line.contains("backend 10.0.0.1 down")).unwrap();
    assert!(line.contains("link"), "the reason is the link: {line}");
    assert_eq!(answering(&net), ["h2 10.0.0.3"]);

    must(&format!("ip -n {} link set eth0 down", net.ns(2)));
    lb.wait_state(2, "down");
    assert_eq!(lb.reason("no_backend"), 0);
    assert!(curl(&net, 3, "http://10.0.1.1/").is_err());
    assert!(lb.reason("no_backend") >= 1);

    for number in [1, 2] {
        must(&format!("ip -n {} link set eth0 up", net.ns(number)));
    }
    lb.wait_up(&[1, 2]);
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    lb.assert_ledger();
}

#[test]
fn a_daemon_that_starts_before_a_backend_waits_for_it() {
    if !root("a_daemon_that_starts_before_a_backend_waits_for_it") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    must(&format!("ip -n {} address del 10.0.0.1/8 dev eth0", net.ns(1)));
    let lb = Lb::with(&net, WEB, &[2]);
    lb.wait_state(1, "down");
    assert_eq!(answering(&net), ["h2 10.0.0.3"]);
    must(&format!("ip -n {} address add 10.0.0.1/8 dev eth0", net.ns(1)));
    lb.wait_up(&[1]);
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    lb.assert_ledger();
}
