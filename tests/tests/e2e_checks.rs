//! Checks of services through XDP and Open vSwitch, against real servers: stopped, hanging, refusing, with another
//! status; and what follows for clients.

mod e2e_bed;

use std::process::{Command, Stdio};

use e2e_bed::{Folder, Lb, Mininet, Net, Process, Server, address, curl, must, root, talk, wait};
use serde_json::Value;

/// A configuration of hosts 1 and 2 behind 10.0.1.1:80, with these lines for the VIP.
fn web(lines: &str) -> String {
    format!(
        "[health]\nprobe_address = \"10.0.0.250\"\n\n[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\n\
         selection = \"round-robin\"\n{lines}\n\
         backend = [{{ address = \"10.0.0.1\" }}, {{ address = \"10.0.0.2\" }}]\n"
    )
}

/// Python's web server on a host, of a folder with these files.
struct Python {
    folder: Folder,
    process: Process,
}

impl Python {
    fn start(net: &Net, number: u32, files: &[&str]) -> Self {
        let folder = Folder::new();
        for file in files {
            folder.file(file, &format!("h{number} 10.0.0.3"));
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &net.ns(number), "/usr/bin/python3", "-m", "http.server", "80"]);
        command.arg("--directory").arg(&folder.0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process(command.spawn().expect("python3"));
        let listens = || net.on(number, "ss -Htln sport = :80").contains(":80");
        wait("python listens", 15, listens, String::new);
        Self { folder, process }
    }

    fn signal(&self, signal: &str) {
        must(&format!("kill -s {signal} {}", self.process.0.id()));
    }
}

fn backend(lb: &Lb, number: u32) -> Value {
    let status = lb.status();
    let backends = status["vips"][0]["backends"].as_array().expect("backends").clone();
    backends.into_iter().find(|one| one["address"] == address(number).as_str()).expect("the backend")
}

/// Waits until a backend is down for a reason that ends so.
fn wait_down(lb: &Lb, number: u32, reason: &str) {
    let holds = || {
        let backend = backend(lb, number);
        backend["state"] == "down" && backend["reason"].as_str().is_some_and(|text| text.ends_with(reason))
    };
    wait(&format!("{} down, {reason}", address(number)), 15, holds, || {
        format!("{:#}\n{:#?}", backend(lb, number), lb.log())
    });
}

/// Who answered eight requests: sorted, each once.
fn answering(net: &Net) -> Vec<String> {
    let mut hosts: Vec<_> = (0..8).map(|_| curl(net, 3, "http://10.0.1.1/").unwrap()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[test]
fn a_web_server_that_hangs_refuses_or_errs_is_out_while_its_host_answers_arp() {
    if !root("a_web_server_that_hangs_refuses_or_errs_is_out_while_its_host_answers_arp") {
        return;
    }
    let net = Net::new(3);
    let one = Python::start(&net, 1, &["health", "index.html"]);
    let _two = Python::start(&net, 2, &["health", "index.html"]);
    let check = "check = { type = \"http\", path = \"/health\" }";
    let mut lb = Lb::with(&net, &web(check), &[1, 2]);
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    assert_eq!(backend(&lb, 1)["reason"], "http check passed 2 times");

    std::fs::rename(one.folder.0.join("health"), one.folder.0.join("ill")).unwrap();
    wait_down(&lb, 1, ": HTTP status 404");
    lb.wait_for_log("backend 10.0.0.1 down (http check failed 3 times in ");
    assert_eq!(answering(&net), ["h2 10.0.0.3"]);
    std::fs::rename(one.folder.0.join("ill"), one.folder.0.join("health")).unwrap();
    lb.wait_up(&[1]);

    // The kernel goes on accepting connections that nobody serves.
    one.signal("STOP");
    wait_down(&lb, 1, ": connected, but no response");
    assert_eq!(answering(&net), ["h2 10.0.0.3"]);
    one.signal("CONT");
    lb.wait_up(&[1]);

    one.signal("KILL");
    wait_down(&lb, 1, ": refused");
    assert_eq!(answering(&net), ["h2 10.0.0.3"]);
    assert!(net.ping(3, "10.0.0.1", 1), "the host itself is well");
    assert_eq!(backend(&lb, 2)["downs"], 0);
    lb.assert_ledger();
}

#[test]
fn a_refusing_port_is_out_and_open_connections_stay() {
    if !root("a_refusing_port_is_out_and_open_connections_stay") {
        return;
    }
    let net = Net::new(3);
    let lines = "check = { type = \"tcp\", port = 7 }";
    let _servers: Vec<_> = [1, 2].map(|number| Server::lines(&net, number, 80)).into();
    let mut echo: Vec<_> = [1, 2].map(|number| Some(Server::lines(&net, number, 7))).into();
    let lb = Lb::with(&net, &web(lines), &[1, 2]);
    let mut open = [talk(&net, 3, "10.0.1.1:80"), talk(&net, 3, "10.0.1.1:80")];
    let answers = open.each_mut().map(|one| one.say("before").unwrap());
    let first = answers.iter().position(|answer| answer == "1 before").expect("one at host 1");
    echo[0] = None;
    wait_down(&lb, 1, ": refused");
    assert_eq!(open[first].say("while down").unwrap(), "1 while down", "what was open stays");
    for _ in 0..4 {
        assert_eq!(talk(&net, 3, "10.0.1.1:80").say("new").unwrap(), "2 new");
    }
    echo[0] = Some(Server::lines(&net, 1, 7));
    lb.wait_up(&[1]);
    lb.assert_ledger();
}

#[test]
fn what_is_said_decides_where_something_is_expected() {
    if !root("what_is_said_decides_where_something_is_expected") {
        return;
    }
    let net = Net::new(2);
    let _servers = [1, 2].map(|number| Server::lines(&net, number, 80));
    let lines = "check = { type = \"tcp\", send = \"who\\n\", expect = \"1 who\" }";
    let lb = Lb::with(&net, &web(lines), &[1]);
    // Host 2 answers "2 who" and waits for more.
    wait_down(&lb, 2, ": connected, but no response");
    assert_eq!(backend(&lb, 2)["last_failure"], "connected, but no response");
}

#[test]
fn a_udp_service_is_asked_and_an_icmp_error_is_a_refusal() {
    if !root("a_udp_service_is_asked_and_an_icmp_error_is_a_refusal") {
        return;
    }
    let net = Net::new(3);
    let _two = Server::udp(&net, 2, 80);
    let lb = Lb::with(&net, &web("protocol = \"udp\"\ncheck = { type = \"udp\" }"), &[2]);
    wait_down(&lb, 1, ": refused");
    // The kernel sends no more than an error a second: silence in between is no sign of life.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!((lb.states(1), backend(&lb, 1)["downs"].as_u64()), (vec!["down".to_owned()], Some(0)));
    drop(lb);

    let _one = Server::udp(&net, 1, 80);
    let check = "{ type = \"udp\", send = \"ping\", expect = \"2 ping\" }";
    let lb = Lb::with(&net, &web(&format!("protocol = \"udp\"\ncheck = {check}")), &[2]);
    wait_down(&lb, 1, ": the response lacks the expected text");
}

#[test]
fn an_icmp_check_hears_echo_replies() {
    if !root("an_icmp_check_hears_echo_replies") {
        return;
    }
    let net = Net::new(2);
    let lb = Lb::with(&net, &web("check = { type = \"icmp\" }"), &[1, 2]);
    net.on(1, "sysctl -q -w net.ipv4.icmp_echo_ignore_all=1");
    wait_down(&lb, 1, ": no answer");
    net.on(1, "sysctl -q -w net.ipv4.icmp_echo_ignore_all=0");
    lb.wait_up(&[1]);
    assert_eq!(backend(&lb, 2)["downs"], 0);
}

#[test]
fn a_restarted_daemon_keeps_who_was_up_and_asks_who_was_not() {
    if !root("a_restarted_daemon_keeps_who_was_up_and_asks_who_was_not") {
        return;
    }
    let net = Net::new(3);
    let _two = Python::start(&net, 2, &["index.html"]);
    let mut lb = Lb::with(&net, &web("check = { type = \"http\" }"), &[2]);
    wait_down(&lb, 1, ": refused");
    lb.end("KILL");
    lb.start();
    assert_eq!(lb.states(2), ["up"], "from the first moment");
    assert_ne!(lb.states(1), ["up"], "its host answers, its service does not");
    assert_eq!(answering(&net), ["h2 10.0.0.3"]);
    let _one = Python::start(&net, 1, &["index.html"]);
    lb.wait_up(&[1]);
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
}

#[test]
fn a_probe_address_that_a_host_has_is_told() {
    if !root("a_probe_address_that_a_host_has_is_told") {
        return;
    }
    let net = Net::new(3);
    must(&format!("ip -n {} address add 10.0.0.250/8 dev eth0", net.ns(3)));
    let mut lb = Lb::new();
    lb.configure(&net.ports(), &web("check = { type = \"icmp\" }"));
    lb.start();
    lb.wait_for_log("probe address 10.0.0.250 is in use by 02:00:00:00:00:03");
    let warnings = lb.status()["warnings"].to_string();
    assert!(warnings.contains("10.0.0.250"), "{warnings}");
}

#[test]
fn who_keeps_falling_is_held_down_and_who_comes_back_starts_slowly() {
    if !root("who_keeps_falling_is_held_down_and_who_comes_back_starts_slowly") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let text = web("slow_start_s = 60").replace("[health]", "[health]\nflap_free = 1\nflap_hold_ms = 2000");
    let mut lb = Lb::with(&net, &text, &[1, 2]);
    assert_eq!(backend(&lb, 1)["share_pct"], 100, "not at the start");
    for _ in 0..2 {
        lb.wait_up(&[1]);
        must(&format!("ip -n {} link set eth0 down", net.ns(1)));
        lb.wait_state(1, "down");
        must(&format!("ip -n {} link set eth0 up", net.ns(1)));
    }
    lb.wait_for_log(
        "backend 10.0.0.1 still down (healthy again, held down until steady for 2000 ms: it fell 2 times",
    );
    lb.wait_up(&[1]);
    lb.wait_for_log("backend 10.0.0.1 up (steady for ");
    let share = backend(&lb, 1)["share_pct"].as_u64().unwrap();
    assert!((10..100).contains(&share), "{share}");
    assert_eq!(backend(&lb, 2)["share_pct"], 100);
    // A tenth of the weight: one of eleven.
    let answers: Vec<_> = (0..22).map(|_| curl(&net, 3, "http://10.0.1.1/").unwrap()).collect();
    let first = answers.iter().filter(|answer| answer.starts_with("h1")).count();
    assert!((1..=8).contains(&first), "{first} of 22");
    lb.assert_ledger();
}

#[test]
fn one_armed_the_check_asks_the_vip_on_the_backend() {
    if !root("one_armed_the_check_asks_the_vip_on_the_backend") {
        return;
    }
    let mut lb = Lb::new();
    let mininet = Mininet::start("onearm", &lb);
    let net = &mininet.net;
    let balancer = mininet.hosts.last().unwrap();
    let vip = web("check = { type = \"http\" }");
    lb.folder.file("lb.toml", &format!("[placement]\nkind = \"onearm\"\nhost = \"{balancer}\"\n{vip}"));
    // A server that listens at the VIP only, as DSR allows.
    let _servers = [1, 2].map(|number| Server::http_at(net, number, "10.0.1.1:80"));
    lb.start();
    lb.wait_up(&[1, 2]);
    assert_eq!(answering(net), ["h1 10.0.0.3", "h2 10.0.0.3"]);

    // Its host answers ARP and serves at its own address, but has lost the VIP.
    net.on(1, "ip address del 10.0.1.1/32 dev lo");
    wait_down(&lb, 1, ": no answer");
    assert!(net.ping(3, "10.0.0.1", 1), "the host itself is well");
    assert_eq!(answering(net), ["h2 10.0.0.3"]);
    net.on(1, "ip address add 10.0.1.1/32 dev lo");
    lb.wait_up(&[1]);
    assert_eq!(backend(&lb, 2)["downs"], 0);
    lb.assert_ledger();
}

#[test]
fn a_check_works_behind_a_controller_and_comes_and_goes_with_the_file() {
    if !root("a_check_works_behind_a_controller_and_comes_and_goes_with_the_file") {
        return;
    }
    let mut lb = Lb::new();
    let mininet = Mininet::start("inline", &lb);
    let net = &mininet.net;
    let ports: Vec<String> = (1..=3).map(|number| format!("{}-eth{number}", mininet.switch)).collect();
    let _servers = [1, 2].map(|number| Server::http(net, number, 80));
    let mut echo = Some(Server::lines(net, 1, 7));
    let _other = Server::lines(net, 2, 7);
    lb.configure(&ports, &web("check = { type = \"tcp\", port = 7 }"));
    lb.start();
    lb.wait_up(&[1, 2]);
    assert_eq!(answering(net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    drop(echo.take());
    wait_down(&lb, 1, ": refused");
    assert_eq!(answering(net), ["h2 10.0.0.3"]);

    let reload = |rest: &str| {
        lb.configure(&ports, rest);
        let done = lb.ask(&["reload"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let told = reload(&web("check = { type = \"http\" }"));
    assert!(told.contains("check.type: tcp -> http"), "{told}");
    lb.wait_up(&[1]);
    reload(&web("check = { type = \"tcp\", port = 7 }").replace("10.0.0.250", "10.0.0.251"));
    wait_down(&lb, 1, ": refused");
    reload(&web(""));
    lb.wait_up(&[1]);
    assert_eq!(backend(&lb, 2)["downs"], 0);
    lb.assert_ledger();
}
