//! Orders to a running daemon: draining, disabling, weights, backends that come and go. What is tracked stays.

mod e2e_bed;

use std::process::Output;

use e2e_bed::{Lb, Net, Server, Talk, curl, refusal, root, talk, wait};
use serde_json::Value;

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
selection = "round-robin"
backend = [{ name = "h1", address = "10.0.0.1" }, { name = "h2", address = "10.0.0.2" }]

[[vip]]
name = "other"
address = "10.0.1.2"
selection = "round-robin"
backend = [{ name = "h1", address = "10.0.0.1" }, { name = "h2", address = "10.0.0.2" }]
"#;

fn servers(net: &Net, hosts: &[u32]) -> Vec<Server> {
    hosts.iter().flat_map(|n| [Server::http(net, *n, 80), Server::lines(net, *n, 7)]).collect()
}

/// `lb backend` with these words, which has to succeed; its answer.
fn order(lb: &Lb, words: &[&str]) -> Value {
    let done = lb.ask(&[&["backend"], words, &["--json"]].concat());
    assert!(done.status.success(), "{words:?}: {}\n{:#?}", text(&done), lb.log());
    serde_json::from_slice(&done.stdout).unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The backend `name` of a VIP, as the status tells it.
fn backend(lb: &Lb, vip: &str, name: &str) -> Value {
    let status = lb.status();
    let vips = status["vips"].as_array().unwrap().iter().filter(|one| one["name"] == vip);
    let mut found = vips.flat_map(|vip| vip["backends"].as_array().unwrap()).filter(|b| b["name"] == name);
    found.next().cloned().unwrap_or(Value::Null)
}

/// Who answered eight requests of host 3 to an address: sorted, each once.
fn answering(net: &Net, address: &str) -> Vec<String> {
    let url = format!("http://{address}/");
    let mut hosts: Vec<_> = (0..8).map(|_| curl(net, 3, &url).unwrap()[..2].to_owned()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Open connections to the VIP, each with the host that it is at.
fn open(net: &Net, count: usize) -> Vec<(Talk, String)> {
    (0..count)
        .map(|_| {
            let mut talk = talk(net, 3, "10.0.1.1:7");
            let at = talk.say("first").unwrap()[..1].to_owned();
            (talk, at)
        })
        .collect()
}

/// Every connection still talks to its host.
fn assert_kept(talks: &mut [(Talk, String)]) {
    for (talk, at) in talks {
        assert_eq!(talk.say("again").unwrap(), format!("{at} again"));
    }
}

#[test]
fn a_drained_backend_keeps_its_connections_over_kills_and_gets_no_new_ones() {
    if !root("a_drained_backend_keeps_its_connections_over_kills_and_gets_no_new_ones") {
        return;
    }
    let net = Net::new(3);
    let _servers = servers(&net, &[1, 2]);
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let mut talks = open(&net, 10);
    let here = talks.iter().filter(|(_, at)| at == "1").count();
    assert_eq!(here, 5, "round robin");

    let answer = order(&lb, &["drain", "h1", "--vip", "web"]);
    assert_eq!(answer["backends"].as_array().unwrap().len(), 1, "{answer:#}");
    assert_eq!(answer["backends"][0]["state"], "draining", "{answer:#}");
    assert_eq!(answering(&net, "10.0.1.1"), ["h2"]);
    assert_eq!(answering(&net, "10.0.1.2"), ["h1", "h2"], "the same address in another VIP goes on");
    let left = |lb: &Lb| backend(lb, "web", "h1")["drain"]["remaining"].clone();
    wait("the count", 5, || left(&lb) == here, || left(&lb).to_string());
    assert_kept(&mut talks);

    for _ in 0..2 {
        assert_eq!(lb.end("KILL"), None);
        lb.start();
        assert_eq!(lb.status()["adopted"], true);
        assert_kept(&mut talks);
        lb.wait_for_log("10.0.0.1 of VIP 10.0.1.1/tcp: still draining");
        assert_eq!(answering(&net, "10.0.1.1"), ["h2"], "{:#?}", lb.log());
        wait("the count", 5, || left(&lb) == here, || left(&lb).to_string());
    }
    assert_eq!(backend(&lb, "web", "h1")["state"], "draining");

    talks.retain(|(_, at)| at != "1");
    let done = lb.ask(&["backend", "drain", "h1", "--vip", "web", "--wait", "--deadline", "60s"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains("drained: no connection left"), "{}", text(&done));
    lb.wait_for_log("backend 10.0.0.1 of VIP 10.0.1.1/tcp drained: no connection left");
    assert_kept(&mut talks);
    assert_eq!(order(&lb, &["enable", "h1"])["backends"].as_array().unwrap().len(), 2);
    assert_eq!(answering(&net, "10.0.1.1"), ["h1", "h2"]);
    lb.assert_ledger();
}

#[test]
fn a_deadline_ends_a_drain_and_says_what_was_left() {
    if !root("a_deadline_ends_a_drain_and_says_what_was_left") {
        return;
    }
    let net = Net::new(3);
    let _servers = servers(&net, &[1, 2]);
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let mut talks = open(&net, 4);
    let done = lb.ask(&["backend", "drain", "10.0.0.1", "--deadline", "6s", "--wait"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("h1 of VIP web: disabled, weight 1, deadline over with 2 connections left"));
    assert!(text(&done).contains("h1 of VIP other: draining, weight 1, drained: no connection left"));
    lb.wait_for_log(
        "10.0.0.1 of VIP 10.0.1.1/tcp disabled: the drain's deadline is over with 2 connections left",
    );
    let one = backend(&lb, "web", "h1");
    assert_eq!((&one["state"], &one["admin"]), (&"disabled".into(), &"disabled".into()), "{one:#}");
    // The VIP keeps the connections of a backend that is out.
    assert_kept(&mut talks);
    assert_eq!(answering(&net, "10.0.1.1"), ["h2"]);

    assert_eq!(lb.end("KILL"), None);
    lb.start();
    assert_eq!(backend(&lb, "web", "h1")["state"], "disabled");
    assert_kept(&mut talks);
    order(&lb, &["enable", "h1"]);
    lb.wait_up(&[1]);
    assert_eq!(answering(&net, "10.0.1.1"), ["h1", "h2"]);
    assert_kept(&mut talks);
    lb.assert_ledger();
    lb.detach();
    lb.assert_gone(&net);
    lb.start();
    assert_eq!(backend(&lb, "web", "h1")["admin"], "enabled", "detaching forgets");
}

#[test]
fn backends_come_and_go_and_no_connection_notices() {
    if !root("backends_come_and_go_and_no_connection_notices") {
        return;
    }
    let net = Net::new(4);
    let _servers = servers(&net, &[1, 2, 4]);
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let mut talks = open(&net, 6);
    order(&lb, &["add", "10.0.0.4", "--vip", "web", "--name", "h4", "--weight", "2"]);
    lb.wait_state(4, "up");
    assert_eq!(answering(&net, "10.0.1.1"), ["h1", "h2", "h4"]);
    order(&lb, &["weight", "h2", "0", "--vip", "web"]);
    assert_eq!(answering(&net, "10.0.1.1"), ["h1", "h4"]);
    order(&lb, &["remove", "h1", "--vip", "web"]);
    assert_eq!(answering(&net, "10.0.1.1"), ["h4"]);
    assert_eq!(backend(&lb, "web", "10.0.0.1"), Value::Null);
    assert_eq!(backend(&lb, "web", "h1")["admin"], "leaving");
    assert_kept(&mut talks);
    assert_eq!(lb.end("KILL"), None);
    lb.start();
    assert_kept(&mut talks);
    assert_eq!(backend(&lb, "web", "10.0.0.1")["admin"], "leaving", "its connections are still there");
    assert_eq!(answering(&net, "10.0.1.1"), ["h4"]);

    // It comes back while its connections are there, and is the same.
    order(&lb, &["add", "10.0.0.1", "--vip", "web", "--name", "again"]);
    lb.wait_up(&[1]);
    assert_eq!(answering(&net, "10.0.1.1"), ["h1", "h4"]);
    assert_kept(&mut talks);
    order(&lb, &["weight", "h2", "1", "--vip", "web"]);
    order(&lb, &["remove", "h4"]);
    assert_eq!(answering(&net, "10.0.1.1"), ["h1", "h2"]);
    assert_kept(&mut talks);
    lb.assert_ledger();
}

#[test]
fn a_removed_backend_has_left_when_nothing_carries_it() {
    if !root("a_removed_backend_has_left_when_nothing_carries_it") {
        return;
    }
    let net = Net::new(3);
    let _servers = servers(&net, &[1, 2]);
    let mut lb = Lb::new();
    lb.configure(&net.ports(), &format!("[connections]\nclosing_s = 1\n{WEB}"));
    lb.start();
    lb.wait_up(&[1, 2]);
    let talks = open(&net, 2);
    order(&lb, &["remove", "h1", "--vip", "web"]);
    assert_eq!(backend(&lb, "web", "h1")["admin"], "leaving");
    drop(talks);
    lb.wait_for_log("backend h1 of VIP 10.0.1.1/tcp has left");
    wait("it is gone", 5, || backend(&lb, "web", "h1") == Value::Null, || lb.status().to_string());
    assert_eq!(backend(&lb, "other", "h1")["state"], "up");
    assert_eq!(answering(&net, "10.0.1.1"), ["h2"]);
}

#[test]
fn wrong_orders_are_refused_in_one_line() {
    if !root("wrong_orders_are_refused_in_one_line") {
        return;
    }
    let net = Net::new(3);
    let lb = Lb::with(&net, WEB, &[]);
    let cases: [(&[&str], &str); 6] = [
        (&["drain", "h9"], "no backend h9; there are h1, h2"),
        (&["disable", "h1", "--vip", "ftp"], "no VIP ftp; there are web, other"),
        (&["weight", "h1", "900"], "0 to 256"),
        (&["add", "10.0.0.9"], "which VIP? name one with --vip: web, other"),
        (&["add", "10.0.1.1", "--vip", "web"], "backend 10.0.1.1 is also a VIP"),
        (&["drain", "h1", "--deadline", "soon"], "as in 60s"),
    ];
    for (words, part) in cases {
        let line = refusal(&lb.ask(&[&["backend"], words].concat()));
        assert!(line.contains(part), "{words:?}: {line}");
    }
    for vip in ["web", "other"] {
        for name in ["h1", "h2"] {
            let one = backend(&lb, vip, name);
            assert_eq!((&one["admin"], &one["weight"]), (&"enabled".into(), &1.into()), "{one:#}");
        }
    }
}
