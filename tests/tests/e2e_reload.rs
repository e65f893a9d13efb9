//! The file read again by a running daemon: taken whole or refused whole, and no connection notices.

mod e2e_bed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e_bed::{Lb, Net, Server, StopAtEnd, Talk, contents, curl, refusal, root, run, talk, wait};
use serde_json::Value;

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
selection = "round-robin"
backend = [{ name = "h1", address = "10.0.0.1" }, { name = "h2", address = "10.0.0.2" }]
"#;

fn servers(net: &Net, hosts: &[u32]) -> Vec<Server> {
    hosts.iter().flat_map(|n| [Server::http(net, *n, 80), Server::lines(net, *n, 7)]).collect()
}

fn reload(lb: &Lb) -> Value {
    let done = lb.ask(&["reload", "--json"]);
    assert!(done.status.success(), "{}\n{:#?}", String::from_utf8_lossy(&done.stderr), lb.log());
    serde_json::from_slice(&done.stdout).unwrap()
}

fn lines(answer: &Value) -> Vec<&str> {
    answer["changes"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
}

/// Who answered eight requests of a host: sorted, each once.
fn answering(net: &Net, client: u32, url: &str) -> Vec<String> {
    let mut hosts: Vec<_> = (0..8).map(|_| curl(net, client, url).unwrap()[..2].to_owned()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn open(net: &Net, client: u32, count: usize) -> Vec<(Talk, String)> {
    (0..count)
        .map(|_| {
            let mut talk = talk(net, client, "10.0.1.1:7");
            let at = talk.say("first").unwrap()[..1].to_owned();
            (talk, at)
        })
        .collect()
}

fn assert_kept(talks: &mut [(Talk, String)]) {
    for (talk, at) in talks {
        assert_eq!(talk.say("again").unwrap(), format!("{at} again"));
    }
}

#[test]
fn a_reload_without_a_change_writes_nothing_and_one_with_a_change_can_be_taken_back() {
    if !root("a_reload_without_a_change_writes_nothing_and_one_with_a_change_can_be_taken_back") {
        return;
    }
    let net = Net::new(3);
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let before = contents(&lb.pin_dir);
    assert_eq!(contents(&lb.pin_dir), before, "nothing else writes them");
    let answer = reload(&lb);
    assert_eq!((&answer["applied"], lines(&answer).len()), (&false.into(), 0), "{answer:#}");
    lb.configure(&net.ports(), &format!("# a comment\n{WEB}"));
    reload(&lb);
    assert_eq!(contents(&lb.pin_dir), before, "byte by byte, inner maps included");

    lb.configure(&net.ports(), &format!("[connections]\nudp_s = 7\n{WEB}"));
    assert_eq!(lines(&reload(&lb)), ["[connections] udp_s: 300 -> 7"]);
    let changed = contents(&lb.pin_dir);
    let differs: Vec<&String> = before.keys().filter(|name| before[*name] != changed[*name]).collect();
    assert_eq!(differs, ["SETTINGS"], "what did not change is not written");
    lb.configure(&net.ports(), WEB);
    run(&format!("kill -s HUP {}", lb.status()["pid"]));
    lb.wait_for_log("reload: [connections] udp_s: 7 -> 300");
    wait("as before", 5, || contents(&lb.pin_dir) == before, || format!("{:#?}", lb.log()));
}

#[test]
fn vips_backends_settings_and_ports_come_and_go_and_connections_stay() {
    if !root("vips_backends_settings_and_ports_come_and_go_and_connections_stay") {
        return;
    }
    let net = Net::new(5);
    let before = net.offloads();
    let _servers = servers(&net, &[1, 2, 4]);
    let mut lb = Lb::new();
    let ports = |hosts: &[u32]| hosts.iter().map(|number| net.port(*number)).collect::<Vec<_>>();
    lb.configure(&ports(&[1, 2, 3]), WEB);
    lb.start();
    lb.wait_up(&[1, 2]);
    let mut talks = open(&net, 3, 6);
    assert_eq!(net.programs().len(), 6);

    // A port, a backend on it, a VIP, a weight, a selection.
    let more = WEB.replace(
        "{ name = \"h2\", address = \"10.0.0.2\" }",
        "{ name = \"h4\", address = \"10.0.0.4\", weight = 2 }",
    ) + "[[vip]]\nname = \"dns\"\naddress = \"10.0.1.2\"\nport = 80\nbackend = [{ address = \"10.0.0.4\" }]\n";
    lb.configure(&ports(&[1, 2, 3, 4]), &more);
    let checked = lb.ask(&["reload", "--check"]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(text.contains("VIP dns (10.0.1.2:80/tcp): added, backends 10.0.0.4"), "{text}");
    assert!(text.contains("would be taken; not applied"), "{text}");
    assert_eq!(lb.status()["vips"].as_array().unwrap().len(), 1, "only checked");
    let answer = reload(&lb);
    assert_eq!(answer["applied"], true);
    assert!(lines(&answer).iter().any(|line| line.ends_with("backend h4 x2 added")), "{answer:#}");
    lb.wait_up(&[1, 4]);
    assert_eq!(net.programs().len(), 8, "{:#?}", net.programs());
    assert_eq!(answering(&net, 3, "http://10.0.1.1/"), ["h1", "h4"]);
    assert_eq!(answering(&net, 3, "http://10.0.1.2/"), ["h4"]);
    assert_kept(&mut talks);

    // Back again, and the first ports are the only ones.
    lb.configure(&ports(&[1, 2, 3]), WEB);
    reload(&lb);
    wait("taken off", 5, || net.programs().len() == 6, || format!("{:#?}", net.programs()));
    assert_eq!(net.offloads()[3], before[3], "as the host had them");
    lb.wait_up(&[1, 2]);
    assert_eq!(answering(&net, 3, "http://10.0.1.1/"), ["h1", "h2"]);
    assert!(curl(&net, 3, "http://10.0.1.2/").is_err());
    assert_kept(&mut talks);
    lb.assert_ledger();
    lb.detach();
    lb.assert_gone(&net);
    assert_eq!(net.offloads(), before);
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_names_its_line() {
    if !root("a_file_with_a_mistake_changes_nothing_and_names_its_line") {
        return;
    }
    let net = Net::new(3);
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let before = contents(&lb.pin_dir);
    let host = WEB.replace("[[vip]]", "host = \"lb1\"\nkind = \"onearm\"\n\n[[vip]]").replacen('\n', "", 1);
    let cases = [
        (WEB.replace("round-robin", "fastest"), "lb.toml:8: selection \"fastest\" is not known"),
        (WEB.replace("10.0.0.2", "10.0.1.1"), "backend 10.0.1.1 is also a VIP"),
        (
            format!("[connections]\ntable_size = 1024\n{WEB}"),
            "table_size in [connections] cannot change at run time",
        ),
        (host, "kind in [placement] cannot change at run time"),
        (WEB.replace("10.0.0.2", "192.168.7.7"), "backend 192.168.7.7 is on no attached network"),
    ];
    for (text, part) in cases {
        lb.configure(&net.ports(), &text);
        let line = refusal(&lb.ask(&["reload"]));
        assert!(line.contains(part), "{line}");
        assert!(refusal(&lb.ask(&["reload", "--check"])).contains(part));
    }
    let mut ports = net.ports();
    ports.push("no-such-port".to_owned());
    lb.configure(&ports, WEB);
    assert!(refusal(&lb.ask(&["reload"])).contains("attach no-such-port: there is no such interface"));
    std::fs::remove_file(lb.folder.0.join("lb.toml")).unwrap();
    run(&format!("kill -s HUP {}", lb.status()["pid"]));
    lb.wait_for_log("reload refused, nothing was changed:");
    assert_eq!(contents(&lb.pin_dir), before);
    assert_eq!(lb.states(1), ["up"]);
}

#[test]
fn run_time_changes_survive_a_reload_until_the_file_speaks_of_them() {
    if !root("run_time_changes_survive_a_reload_until_the_file_speaks_of_them") {
        return;
    }
    let net = Net::new(3);
    let lb = Lb::with(&net, WEB, &[1, 2]);
    for words in [&["backend", "weight", "h1", "5"][..], &["backend", "disable", "h2"]] {
        assert!(lb.ask(words).status.success());
    }
    let backend = |number: usize| lb.status()["vips"][0]["backends"][number - 1].clone();
    lb.configure(&net.ports(), &format!("[connections]\nudp_s = 7\n{WEB}"));
    reload(&lb);
    assert_eq!((&backend(1)["weight"], &backend(2)["state"]), (&5.into(), &"disabled".into()));
    lb.configure(&net.ports(), &WEB.replace("address = \"10.0.0.1\"", "address = \"10.0.0.1\", weight = 3"));
    let answer = reload(&lb);
    assert!(
        lines(&answer).iter().any(|line| line.contains("weight 5 given by hand gives way to the file's 3"))
    );
    assert_eq!((&backend(1)["weight"], &backend(2)["state"]), (&3.into(), &"disabled".into()));
}

#[test]
fn many_reloads_kills_and_drains_under_load_lose_nothing() {
    if !root("many_reloads_kills_and_drains_under_load_lose_nothing") {
        return;
    }
    const OPEN: usize = 200;
    let net = Net::new(5);
    let _servers = servers(&net, &[1, 2, 3, 4]);
    let all = "backend = [{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\" }, { address = \"10.0.0.3\" }, { address = \"10.0.0.4\" }]";
    let vip = |backends: &str| format!("[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\n{backends}\n");
    let mut lb = Lb::with(&net, &vip(all), &[1, 2, 3, 4]);
    let mut talks = open(&net, 5, OPEN);

    // New connections all the while; every failure is counted.
    let stop = Arc::new(AtomicBool::new(false));
    let (made, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        let (net, stopped, made, failed) = (&net, Arc::clone(&stop), Arc::clone(&made), Arc::clone(&failed));
        scope.spawn(move || {
            e2e_bed::enter(&net.ns(5));
            while !stopped.load(Ordering::Relaxed) {
                made.fetch_add(1, Ordering::Relaxed);
                let served = e2e_bed::one_line("10.0.1.1:7", "new");
                if served.is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let _end = StopAtEnd(&stop);
        for round in 0..25 {
            let fewer = all.replace(&format!("{{ address = \"10.0.0.{}\" }}", 1 + round % 3), "");
            let fewer = fewer.replace(", ,", ",").replace("[, ", "[");
            for backends in [fewer.as_str(), all] {
                lb.configure(&net.ports(), &vip(backends));
                reload(&lb);
            }
            if round % 5 == 4 {
                let whom = format!("10.0.0.{}", 1 + round % 4);
                assert!(lb.ask(&["backend", "drain", &whom]).status.success());
                assert_eq!(lb.end("KILL"), None);
                lb.start();
                assert_kept(&mut talks);
                assert!(lb.ask(&["backend", "enable", &whom]).status.success());
            }
        }
        lb.wait_up(&[1, 2, 3, 4]);
    });
    assert_kept(&mut talks);
    let (made, failed) = (made.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!(
        "{OPEN} open connections kept through 50 reloads and 5 kills; {failed} of {made} new ones failed"
    );
    assert_eq!(failed, 0, "of {made} new connections");
    assert!(made > 200, "{made}");
    lb.assert_ledger();
}
