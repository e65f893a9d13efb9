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

/// Prints when the kernel received the last datagram for port 9, in microseconds since 1970, as soon as its input ends.
const LAST_DATAGRAM: &str = r#"
import select, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 9))
s.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
last = count = 0
while True:
    ready = select.select([s, sys.stdin], [], [])[0]
    if s in ready:
        _, extra, _, _ = s.recvmsg(64, 64)
        seconds, nanoseconds = struct.unpack("qq", extra[0][2])
        last, count = seconds * 1000000 + nanoseconds // 1000, count + 1
    elif sys.stdin in ready:
        print(count, last)
        break
"#;

/// Sends datagrams of forty flows, each some twenty times a second, until its input ends.
const DATAGRAMS: &str = r#"
import select, socket, sys
flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(40)]
for flow in flows:
    flow.connect(("10.0.1.1", 9))
while not select.select([sys.stdin], [], [], 0)[0]:
    for flow in flows:
        try:
            flow.send(b"x")
        except ConnectionRefusedError:
            pass
        select.select([sys.stdin], [], [], 0.001)
"#;

fn python(net: &Net, number: u32, program: &str) -> std::process::Child {
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", &net.ns(number), "python3", "-c", program]);
    let pipe = std::process::Stdio::piped;
    command.stdin(pipe()).stdout(pipe()).spawn().unwrap()
}

/// The time of a line of the log in microseconds of its day.
fn time_of(line: &str) -> u64 {
    let time = line.split('T').nth(1).and_then(|rest| rest.split('Z').next()).unwrap();
    let (clock, micros) = time.split_once('.').unwrap();
    let seconds = clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<u64>().unwrap());
    seconds * 1_000_000 + micros.parse::<u64>().unwrap()
}

#[test]
fn after_the_verdict_nothing_goes_to_a_dead_backend() {
    if !root("after_the_verdict_nothing_goes_to_a_dead_backend") {
        return;
    }
    const DAY_US: u64 = 86_400_000_000;
    let net = Net::new(3);
    let datagrams = WEB.replace("selection", "protocol = \"udp\"\nport = 9\nselection");
    let mut lb = Lb::with(&net, &datagrams, &[1, 2]);
    let [first, second] = [1, 2].map(|number| python(&net, number, LAST_DATAGRAM));
    let sender = python(&net, 3, DATAGRAMS);
    let received = || lb.read("stats")["backends"][0]["packets_in"].as_u64().unwrap();
    e2e_bed::wait("datagrams go to host 1", 10, || received() > 100, || received().to_string());

    // It takes datagrams still: whatever comes is counted.
    arp_ignore(&net, 1, 8);
    lb.wait_for_log("backend 10.0.0.1 down");
    let verdict = lb.log().into_iter().find(|line| line.contains("backend 10.0.0.1 down")).unwrap();
    let before = lb.read("stats")["backends"][1]["packets_in"].as_u64().unwrap();
    let others = || lb.read("stats")["backends"][1]["packets_in"].as_u64().unwrap();
    e2e_bed::wait("the flows go on at host 2", 10, || others() > before + 500, || others().to_string());
    drop(sender.wait_with_output().unwrap());
    let last = [first, second].map(|receiver| {
        let output = String::from_utf8(receiver.wait_with_output().unwrap().stdout).unwrap();
        let (count, time) = output.trim().split_once(' ').expect(&output);
        assert_ne!(count, "0");
        time.parse::<u64>().unwrap() % DAY_US
    });
    let late = |time: u64| (time + DAY_US - time_of(&verdict)) % DAY_US;
    // More than half a day after it is before it.
    let after = 100_000..DAY_US / 2;
    assert!(!after.contains(&late(last[0])), "{} us after: {verdict}", late(last[0]));
    assert!(after.contains(&late(last[1])), "the others went on: {last:?}, {verdict}");
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
