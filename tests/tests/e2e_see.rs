//! Seeing what happens: connections, counts, metrics, the live view.

mod e2e_bed;

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use e2e_bed::{Lb, Net, Server, Wire, curl, echo_udp, enter, must, refusal, root, talk, wait};
use serde_json::Value;
use testbed::frame::{Packet, v4};

const TWO: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]

[[vip]]
name = "lines"
address = "10.0.1.1"
port = 7
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// `client ports` of what `lb conn` with these arguments lists, its total, and where to go on.
fn list(lb: &Lb, arguments: &str) -> (Vec<u64>, u64, Option<String>) {
    let words: Vec<&str> = ["conn", "--json"].into_iter().chain(arguments.split_whitespace()).collect();
    let done = lb.ask(&words);
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    let ports = answer["connections"].as_array().unwrap().iter();
    (
        ports.map(|one| one["client_port"].as_u64().unwrap()).collect(),
        answer["total"].as_u64().unwrap(),
        answer["next"].as_str().map(str::to_owned),
    )
}

#[test]
fn connections_are_found_sorted_and_counted() {
    if !root("connections_are_found_sorted_and_counted") {
        return;
    }
    let net = Net::new(4);
    let _servers: Vec<_> =
        [1, 2].into_iter().flat_map(|n| [Server::http(&net, n, 80), Server::lines(&net, n, 7)]).collect();
    let lb = Lb::with(&net, TWO, &[1, 2]);
    let mut open: Vec<_> = [3, 3, 3, 4].map(|host| talk(&net, host, "10.0.1.1:7")).into();
    for talk in &mut open {
        talk.say("hello").unwrap();
    }
    curl(&net, 4, "http://10.0.1.1/").unwrap();

    assert_eq!(list(&lb, "").1, 5);
    let (ports, total, next) = list(&lb, "--vip lines --state established");
    assert_eq!((ports.len(), total, next), (4, 4, None));
    let mut of_first: Vec<_> = ports[..3].to_vec();
    of_first.sort_unstable();
    assert_eq!(ports[..3], of_first, "sorted by port within a client");
    assert_eq!(list(&lb, "--client 10.0.0.3").0, ports[..3]);
    assert_eq!(list(&lb, &format!("--client 10.0.0.3:{}", ports[1])).0, [ports[1]]);
    assert_eq!(list(&lb, "--client 10.0.0.4/32 --vip lines").0, ports[3..]);
    assert_eq!(list(&lb, "--protocol udp").1, 0);
    let each = ["10.0.0.1", "10.0.0.2:7"].map(|b| list(&lb, &format!("--vip lines --backend {b}")).1);
    assert_eq!(each, [2, 2]);

    let (first, total, next) = list(&lb, "--vip lines --limit 3");
    assert_eq!((&first[..], total), (&ports[..3], 4));
    let next = next.expect("a place to go on from");
    assert_eq!(list(&lb, &format!("--vip lines --limit 3 --after {next}")), (ports[3..].to_vec(), 4, None));
    assert_eq!(list(&lb, "--vip lines --limit 3 --page 2").0, ports[3..]);

    for (arguments, text) in [
        ("conn --vip wbe", "no VIP is called wbe; there are: web, lines"),
        ("conn --backend 10.0.0.9", "no backend is called 10.0.0.9; there are: 10.0.0.1, 10.0.0.2"),
        ("conn --client h3", "--client h3: not an address"),
        ("conn --state open", "possible values: syn, established"),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let line = refusal(&lb.ask(&words));
        assert!(line.contains(text), "{arguments}: {line}");
    }

    // The next sweeps count what is open, by backend and by VIP.
    let counted = || {
        let status = lb.status();
        let lines = status["vips"].as_array().unwrap().iter().find(|vip| vip["name"] == "lines").unwrap();
        let each: Vec<_> =
            lines["backends"].as_array().unwrap().iter().map(|b| b["connections"].as_u64()).collect();
        (lines["connections"].as_u64(), each)
    };
    let expected = (Some(4), vec![Some(2), Some(2)]);
    wait("the sweep counts", 10, || counted() == expected, || format!("{:?}", counted()));
    drop(open.pop());
    let expected = (Some(3), 3);
    let sum = || (counted().0, counted().1.into_iter().flatten().sum::<u64>());
    wait("the sweep notices an end", 10, || sum() == expected, || format!("{:?}", counted()));
}

#[test]
fn a_scraper_and_a_terminal_see_the_counters() {
    if !root("a_scraper_and_a_terminal_see_the_counters") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let mut lb = Lb::new();
    lb.configure(&net.ports(), TWO);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    lb.start_with(&["--metrics", &free.to_string()]);
    lb.wait_up(&[1, 2]);
    for _ in 0..4 {
        curl(&net, 3, "http://10.0.1.1/").unwrap();
    }
    let socket = lb.run_dir().join("lb.sock").display().to_string();
    let over_socket = must(&format!("curl -sSf --unix-socket {socket} http://lb/metrics"));
    let over_tcp = must(&format!("curl -sSf -i http://{free}/metrics"));
    assert!(over_tcp.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{over_tcp}");
    for text in [&over_socket, &over_tcp] {
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "lb_ledger_difference_packets 0",
            "lb_vip_opened_connections_total{vip=\"web\"} 4",
            "lb_backend_opened_connections_total{vip=\"web\",backend=\"10.0.0.1\"} 2",
            "lb_backend_state{vip=\"web\",backend=\"10.0.0.2\",state=\"up\"} 1",
            "lb_backend_state{vip=\"web\",backend=\"10.0.0.2\",state=\"down\"} 0",
        ] {
            assert!(lines.contains(&line), "{line} is not in {text}");
        }
    }
    // Nothing but the counters is to be had over TCP.
    let status = must(&format!("curl -s -o /dev/null -w %{{http_code}} http://{free}/v1/status"));
    assert_eq!(status, "404");
    let taken = lb.folder.0.join("other");
    let second = lb
        .command(&["run", "--ip", "10.0.1.9", "--servers", "10.0.0.1", "--metrics", &free.to_string()])
        .args(["--run-dir".as_ref(), taken.as_os_str()])
        .output();
    assert!(!second.unwrap().status.success());

    let line = refusal(&lb.ask(&["top"]));
    assert!(line.contains("draws on a terminal"), "{line}");
    let top = format!("{:?}", lb.command(&["top", "--count", "2"]));
    let done = Command::new("script").args(["-qec", &top, "/dev/null"]).output().unwrap();
    let drawn = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{top}: {drawn}");
    assert_eq!(drawn.matches("packets/s:").count(), 2, "{drawn}");
    assert!(drawn.contains("lines") && drawn.contains("10.0.0.2"), "{drawn}");
    assert!(drawn.trim_end().ends_with("\u{1b}[?1049l"), "the terminal is as before: {drawn:?}");
}

#[test]
fn a_status_names_pins_that_hold_what_it_says() {
    if !root("a_status_names_pins_that_hold_what_it_says") {
        return;
    }
    let net = Net::new(2);
    let lb = Lb::with(&net, TWO, &[]);
    let status = lb.status();
    let pins = &status["pins"];
    for (kind, least) in [("programs", 2), ("links", 4), ("maps", 17)] {
        let list = pins[kind].as_array().unwrap();
        assert!(list.len() >= least, "{kind}: {list:#?}");
        for object in list {
            let pin = object["pin"].as_str().unwrap();
            assert!(std::path::Path::new(pin).exists(), "{pin}");
        }
    }
    let ids: Vec<String> = pins["programs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|program| format!("prog/xdp id {}", program["id"]))
        .collect();
    let running = net.programs();
    for id in &ids {
        assert!(running.iter().any(|line| line.contains(id.as_str())), "{id} in {running:#?}");
    }
    assert!(pins["programs"][0]["verified_instructions"].as_u64().unwrap() > 500, "{pins:#}");
    let table = &status["connections"];
    let bytes = table["bytes_per_entry"].as_u64().unwrap();
    assert!((48..=120).contains(&bytes), "{table:#}");
}

/// A command that is followed until it ends; the data plane tells it something from the moment that this returns.
fn watching(lb: &Lb, arguments: &str) -> std::process::Child {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let mut command = lb.command(&words);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pin = lb.status()["pins"]["maps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|map| map["name"] == "WATCH")
        .unwrap()["pin"]
        .as_str()
        .unwrap()
        .to_owned();
    let slot = if words[0] == "events" { 0 } else { 1 };
    let dump = || must(&format!("bpftool map lookup pinned {pin} key {slot} 0 0 0 --json"));
    let wanted = || {
        let value: Value = serde_json::from_str(&dump()).unwrap();
        value["formatted"]["value"].as_u64().unwrap_or(0) != 0
            || value["value"].as_array().is_some_and(|bytes| bytes.iter().any(|byte| byte != "0x00"))
    };
    wait("the data plane is asked", 10, wanted, dump);
    child
}

#[test]
fn new_connections_are_told_to_who_listens() {
    if !root("new_connections_are_told_to_who_listens") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let lb = Lb::with(&net, TWO, &[1, 2]);
    curl(&net, 3, "http://10.0.1.1/").unwrap();
    let listener = watching(&lb, "events --vip web --count 4 --seconds 20 --json");
    let second = refusal(&lb.ask(&["events"]));
    assert!(second.contains("already running"), "{second}");
    for _ in 0..4 {
        curl(&net, 3, "http://10.0.1.1/").unwrap();
    }
    let done = listener.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 4, "{text}");
    let mut backends: Vec<_> = events.iter().map(|event| event["backend"].as_str().unwrap()).collect();
    backends.sort_unstable();
    assert_eq!(backends, ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"], "{text}");
    for event in &events {
        assert_eq!(
            (&event["kind"], &event["vip"], &event["state"]),
            (&"opened".into(), &"web".into(), &"syn".into())
        );
        assert_eq!((&event["client"], &event["vip_port"]), (&"10.0.0.3".into(), &80.into()), "{event:#}");
    }
    let refused = refusal(&lb.ask(&["events", "--vip", "wbe"]));
    assert!(refused.contains("--vip wbe: no VIP is called so; there are: web, lines"), "{refused}");
}

#[test]
fn a_capture_holds_what_was_seen_with_the_verdicts() {
    if !root("a_capture_holds_what_was_seen_with_the_verdicts") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let lb = Lb::with(&net, TWO, &[1, 2]);
    let file = lb.folder.0.join("seen.pcapng").display().to_string();
    let capture = watching(&lb, &format!("capture {file} --vip web --seconds 20 --count 6 --rewritten"));
    curl(&net, 3, "http://10.0.1.1/").unwrap();
    // Of a capture of one VIP this is no part.
    assert!(net.ping(3, "10.0.0.1", 1));
    let done = capture.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.starts_with("6 packets in "), "{said}");
    let bytes = std::fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for part in [
        "to_backend_redirect: rewritten, leaves by ",
        "to_client_redirect: rewritten, leaves by ",
        "(as it leaves)",
        net.port(3).as_str(),
    ] {
        assert!(text.contains(part), "{part} is not in {text:?}");
    }
    assert!(!text.contains("not_ours"), "{text:?}");
    // The frames are those that came: explained, they go the same way again.
    let done = lb.ask(&["explain", "--pcap", &file, "--json"]);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let first = said["packets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["before"].as_str().unwrap().contains(" tcp SYN,"));
    let first = first.unwrap_or_else(|| panic!("{said:#}"));
    assert_eq!(first["reason"], "to_backend_redirect", "{first:#}");

    let refused = refusal(&lb.ask(&["capture", &file, "--reason", "boredom"]));
    assert!(
        refused.contains("--reason boredom: no reason is called so; there are: to_backend_redirect"),
        "{refused}"
    );
    let refused = refusal(&lb.ask(&["capture", "/no/such/folder/file"]));
    assert!(refused.contains("cannot be written"), "{refused}");
    lb.assert_ledger();
}

/// UDP to host 1 alone, which stays in rotation when it is down.
const SILENT: &str = r#"
[[vip]]
name = "udp"
address = "10.0.1.1"
port = 9000
protocol = "udp"
no_backend = "last-known"
backend = [{ address = "10.0.0.1" }]
"#;

/// Sends so many datagrams of `length` bytes from a host to the VIP of [`SILENT`].
fn send(net: &Net, number: u32, count: usize, length: usize) {
    let ns = net.ns(number);
    let all = || {
        enter(&ns);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..count {
            socket.send_to(&vec![0x5a; length], "10.0.1.1:9000").unwrap();
        }
    };
    std::thread::scope(|scope| scope.spawn(all).join().unwrap());
}

#[test]
fn what_is_lost_after_the_verdict_has_a_row_of_its_own() {
    if !root("what_is_lost_after_the_verdict_has_a_row_of_its_own") {
        return;
    }
    let net = Net::new(3);
    let _server = Server::udp(&net, 1, 9000);
    let lb = Lb::with(&net, SILENT, &[1]);
    for _ in 0..50 {
        echo_udp(&net, 3, "10.0.1.1:9000", "whole").unwrap();
    }
    let healthy = lb.read("stats");
    for row in ["transmit_dropped", "receive_dropped", "peer_transmit_dropped", "peer_receive_dropped"] {
        assert_eq!(healthy["losses"][row], 0, "{healthy:#}");
    }
    assert_eq!(healthy["losses"]["redirect_dropped"], 0, "{healthy:#}");
    assert_eq!(healthy["interfaces"].as_array().unwrap().len(), 3, "{healthy:#}");

    // Frames longer than their target can take: the program has said redirect, and the driver cannot.
    must(&format!("ip link set {} mtu 600", net.port(1)));
    send(&net, 3, 40, 1000);
    let lost = || lb.read("stats")["losses"]["receive_dropped"].as_u64().unwrap();
    wait("the losses are counted", 10, || lost() >= 40, || format!("{:#}", lb.read("stats")));
    let stats = lb.read("stats");
    assert_eq!(stats["losses"]["receive_dropped"], 40, "{stats:#}");
    assert_eq!(stats["ledger_difference"], 0, "{stats:#}");
    let of = |number| {
        let port = net.port(number);
        let all = stats["interfaces"].as_array().unwrap().iter();
        all.filter(|one| one["name"] == port.as_str())
            .map(|one| one["receive_dropped"].clone())
            .next()
            .unwrap()
    };
    assert_eq!([of(1), of(2), of(3)], [0.into(), 0.into(), Value::from(40)], "{stats:#}");
    let text = String::from_utf8(lb.ask(&["stats"]).stdout).unwrap();
    let row = text.lines().find(|line| line.starts_with("lost after the verdict")).unwrap();
    assert_eq!(row.split_whitespace().last(), Some("40"), "{text}");
    assert!(text.contains(&format!("{}  eth0", net.port(3))), "{text}");
    let metrics = must(&format!(
        "curl -sSf --unix-socket {} http://lb/metrics",
        lb.run_dir().join("lb.sock").display()
    ));
    let line = format!(
        "lb_device_dropped_packets_total{{interface=\"{}\",namespace=\"\",end=\"port\",direction=\"receive\"}} 40",
        net.port(3)
    );
    assert!(metrics.lines().any(|one| one == line), "{line} is not in {metrics}");

    // An upgrade tells those of its own time.
    let mut upgrade = lb.command(&["upgrade", "--verify", "--window", "2s", "--json"]);
    let mut upgrade = upgrade.stdout(Stdio::piped()).spawn().unwrap();
    while upgrade.try_wait().unwrap().is_none() {
        send(&net, 3, 5, 1000);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let upgraded: Value = serde_json::from_slice(&upgrade.wait_with_output().unwrap().stdout).unwrap();
    let told = upgraded["losses"]["receive_dropped"].as_u64().unwrap();
    assert!(told > 0 && told + 40 <= lost(), "{told} of {}: {upgraded:#}", lost());
    assert_eq!(
        upgraded["rolled_back"],
        Value::Null,
        "a slow host's losses are not the program's: {upgraded:#}"
    );

    // Into a veth whose other end is down frames vanish, and no device counts them.
    must(&format!("ip link set {} mtu 1500", net.port(1)));
    let before = lb.read("stats");
    net.on(1, "ip link set eth0 down");
    lb.wait_state(1, "down");
    send(&net, 3, 30, 100);
    let vanished = || lb.read("stats")["losses"]["redirect_dropped"].as_u64().unwrap();
    wait("what vanished is known", 10, || vanished() >= 30, || format!("{:#}", lb.read("stats")));
    let stats = lb.read("stats");
    assert_eq!(stats["losses"]["receive_dropped"], before["losses"]["receive_dropped"], "{stats:#}");
    lb.assert_ledger();
}

#[test]
fn states_add_up_and_an_unverified_connection_is_seen() {
    if !root("states_add_up_and_an_unverified_connection_is_seen") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::lines(&net, number, 7));
    let lb = Lb::with(&net, TWO, &[1, 2]);
    talk(&net, 3, "10.0.1.1:7").say("hello").unwrap();
    // The backends say nothing to this host, so that nobody answers what follows.
    for number in [1, 2] {
        net.on(number, "ip route add blackhole 10.0.0.3/32");
    }
    let vip =
        lb.status()["vips"].as_array().unwrap().iter().find(|vip| vip["name"] == "lines").unwrap().clone();
    let mac: Vec<u8> =
        vip["mac"].as_str().unwrap().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let to = (mac.try_into().unwrap(), v4(10, 0, 1, 1), 7);
    const ACK: u8 = 0x10;
    let middle = Packet::tcp(([2, 0, 0, 0, 0, 3], v4(10, 0, 0, 3), 41_000), to, ACK, 77, b"");
    Wire::of_host(&net, 3).send(&middle.bytes());

    assert_eq!(list(&lb, "--state unverified").0, [41_000]);
    let sweep = || lb.status()["connections"]["sweep"].clone();
    wait("the sweep sees it", 10, || sweep()["states"]["unverified"] == 1, || format!("{:#}", lb.status()));
    let sweep = sweep();
    let sum: u64 = sweep["states"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum, sweep["live"].as_u64().unwrap(), "{sweep:#}");
    let text = String::from_utf8(lb.ask(&["status"]).stdout).unwrap();
    assert!(text.contains(" 1 unverified, "), "{text}");
}

#[test]
fn tables_of_another_size_than_configured_are_warned_of() {
    if !root("tables_of_another_size_than_configured_are_warned_of") {
        return;
    }
    let net = Net::new(2);
    let mut lb = Lb::with(&net, TWO, &[1]);
    assert_eq!(lb.status()["warnings"], Value::Array(Vec::new()));
    lb.end("TERM");
    let keys = ["table_size", "half_open_size", "snat_size", "affinity_size", "source_size", "fragment_size"];
    let sizes: String = keys.iter().map(|key| format!("{key} = 2048\n")).collect();
    lb.configure(&net.ports(), &format!("[connections]\n{sizes}\n{TWO}"));
    lb.start();
    let status = lb.status();
    let warnings: Vec<&str> =
        status["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!(warnings.len(), keys.len(), "{warnings:#?}");
    for (key, warning) in keys.iter().zip(warnings) {
        let begin = format!("{key} = 2048 is not in force: the table holds ");
        assert!(warning.starts_with(&begin) && warning.contains("`lb detach`"), "{warning}");
    }
    lb.detach();
    lb.start();
    lb.wait_up(&[1]);
    assert_eq!(lb.status()["warnings"], Value::Array(Vec::new()), "a detach made way");
    assert_eq!(lb.status()["connections"]["capacity"], 2048);
}
