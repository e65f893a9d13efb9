//! Standing entries with Open vSwitch, hosts in namespaces and curl: groups with connection tracking, and learned
//! entries, in both versions.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use support::ovs::{Bridge, must, root, run};
use support::{Controller, Folder};

/// Serves HTTP on 8080 and echoes datagrams on 5300, over both families; says who it is. `/slow` takes nine seconds.
const SERVER: &str = r#"
import socket, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
name = sys.argv[1]
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        slow = self.path == "/slow"
        count = 30 if slow else 1
        self.send_response(200)
        self.send_header("Content-Length", str(count * (len(name) + 1)))
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(count):
            self.wfile.write((name + "\n").encode())
            self.wfile.flush()
            if slow: time.sleep(0.3)
        self.close_connection = True
    def log_message(self, *arguments): pass
class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128
def echo(to):
    udp = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((to, 5300))
    while True:
        data, peer = udp.recvfrom(2000)
        udp.sendto(name.encode(), peer)
threading.Thread(target=echo, args=(sys.argv[2],), daemon=True).start()
Server(("::", 8080), Handler).serve_forever()
"#;

/// Sends datagrams from one port, one each 200 ms, or one from each of several ports; prints who answered, or `-`.
const ASKER: &str = r#"
import socket, sys, time
host, port, first, count, ports = sys.argv[1], *map(int, sys.argv[2:])
for source in range(first, first + ports):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", source))
    udp.settimeout(1)
    for _ in range(count):
        udp.sendto(b"?", (host, port))
        try: print(udp.recvfrom(2000)[0].decode(), flush=True)
        except OSError: print("-", flush=True)
        if count > 1: time.sleep(0.2)
"#;

/// Opens connections from many ports, says so, waits for a line, then sends a request by each; prints how many were
/// reset, and how many answered.
const OPENER: &str = r#"
import socket, sys
connections = [socket.create_connection((sys.argv[1], 80), 5) for _ in range(int(sys.argv[2]))]
print("open", flush=True)
sys.stdin.readline()
resets = answers = 0
asked = []
for connection in connections:
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        asked.append(connection)
    except ConnectionResetError: resets += 1
for connection in asked:
    connection.settimeout(10)
    try:
        answers += connection.recv(1) == b"H"
    except ConnectionResetError: resets += 1
    except OSError: pass
print(resets, answers, flush=True)
"#;

/// Two clients (1, 2), three backends (3 to 5), VIPs of every kind, and the controller.
struct Net {
    controller: Option<Controller>,
    bridge: Bridge,
    /// A second switch, with hosts 3 and 4.
    second: Option<Bridge>,
    folder: Folder,
    servers: Vec<Child>,
    openflow: &'static str,
    entries: &'static str,
}

const BACKENDS: [u32; 3] = [3, 4, 5];

impl Net {
    fn new(entries: &'static str, openflow: &'static str, switches: u32, config: &str) -> Self {
        let bridge = Bridge::new(openflow, 5);
        let folder = Folder::new();
        let mut net =
            Self { controller: None, bridge, second: None, folder, servers: Vec::new(), openflow, entries };
        (1..=5).for_each(|host| net.set_up_host(host));
        if switches == 2 {
            net.add_switch();
        }
        BACKENDS.iter().for_each(|host| net.serve(*host));
        BACKENDS.iter().for_each(|host| net.wait_for_server(*host));
        net.control(config);
        net
    }

    fn set_up_host(&self, host: u32) {
        for line in [
            "ethtool -K eth0 tx off".to_owned(),
            "sysctl -q -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.accept_dad=0".to_owned(),
            "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2".to_owned(),
            // An address of IPv6 goes with its link.
            "sysctl -q -w net.ipv6.conf.all.keep_addr_on_down=1".to_owned(),
            format!("ip -6 address add fd77::{host}/64 dev eth0 nodad"),
        ] {
            self.bridge.on(host, &line);
        }
        if host >= 3 {
            self.bridge.on(host, "ip address add 10.77.0.101/32 dev lo");
        }
    }

    /// Hosts 3 and 4 go to a second switch. Both bridges have one datapath, and with it one connection tracker.
    fn add_switch(&mut self) {
        let second = Bridge::new(self.openflow, 0);
        let (a, b) = (&self.bridge.name, &second.name);
        let link = |from: &str, to: &str| {
            format!(
                "add-port {from} {from}l -- set interface {from}l type=patch options:peer={to}l ofport_request=20"
            )
        };
        must(&format!("ovs-vsctl -t 10 {} -- {}", link(a, b), link(b, a)));
        for host in [3, 4] {
            let port = self.bridge.port(host);
            must(&format!("ovs-vsctl -t 10 del-port {a} {port} -- add-port {b} {port}"));
        }
        self.second = Some(second);
    }

    fn serve(&mut self, host: u32) {
        let script = self.folder.file("server.py", SERVER);
        let own = format!("10.77.0.{host}");
        let server = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.bridge.namespace(host),
                "/usr/bin/python3",
                &script,
                &format!("h{host}"),
                &own,
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/usr/bin/python3");
        self.servers.push(server);
    }

    /// A server that starts listens after a while, on a busy machine.
    fn wait_for_server(&self, host: u32) {
        let command =
            format!("ip netns exec {} curl -s -m 5 http://10.77.0.{host}:8080/", self.bridge.namespace(host));
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !run(&command).status.success() {
            assert!(std::time::Instant::now() < patience, "host {host} does not serve");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// Starts the controller, in place of the one before, and waits until the backends are up.
    fn control(&mut self, config: &str) {
        let listen = self.controller.as_ref().map_or_else(|| "127.0.0.1:0".to_owned(), Controller::address);
        if let Some(mut controller) = self.controller.take() {
            controller.end("TERM");
        }
        let file = self.folder.file("lb.toml", config);
        let options = [
            "--openflow",
            self.openflow,
            "--lb",
            "openflow",
            "--lb-entries",
            self.entries,
            "--config",
            &file,
            "--listen",
            &listen,
        ];
        let controller = Controller::start(&options);
        for bridge in std::iter::once(&self.bridge).chain(&self.second) {
            bridge.connect(&controller.address());
        }
        let bridges = 1 + usize::from(self.second.is_some());
        controller.wait("switches are ready", || controller.logged("is ready: OpenFlow") == bridges);
        for host in BACKENDS {
            controller.wait_for_log(&format!("backend 10.77.0.{host} up"));
        }
        self.controller = Some(controller);
    }

    fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("one runs")
    }

    /// Who answered each of so many requests, and how often; `-` is nobody.
    fn ask(&self, client: u32, url: &str, count: u32) -> BTreeMap<String, u32> {
        let ns = self.bridge.namespace(client);
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            let done = run(&format!("ip netns exec {ns} curl -s -g -m 5 {url}"));
            let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
            *answers.entry(if text.is_empty() { "-".to_owned() } else { text }).or_default() += 1;
        }
        answers
    }

    /// Starts a download of nine seconds at the VIP; it gives what came.
    fn download(&self, client: u32) -> Child {
        let ns = self.bridge.namespace(client);
        Command::new("ip")
            .args(["netns", "exec", &ns, "curl", "-s", "-m", "30", "http://10.77.0.100/slow"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl")
    }

    /// Datagrams to the VIP's port 53: `count` from each of `ports` ports.
    fn datagrams(&self, client: u32, first: u32, count: u32, ports: u32) -> Child {
        let script = self.folder.file("asker.py", ASKER);
        let ns = self.bridge.namespace(client);
        let numbers = [53, first, count, ports].map(|number| number.to_string());
        Command::new("ip")
            .args(["netns", "exec", &ns, "/usr/bin/python3", &script, "10.77.0.100"])
            .args(numbers)
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3")
    }

    fn entry_count(&self) -> usize {
        self.bridge.flows("").len() + self.second.as_ref().map_or(0, |second| second.flows("").len())
    }

    /// From now on packets of TCP and UDP that no entry forwards are counted, where they would go to the controller.
    fn watch_asking(&self) {
        let table = if self.openflow == "1.3" { 2 } else { 0 };
        for protocol in ["tcp", "udp", "tcp6"].iter().take(if self.openflow == "1.3" { 3 } else { 2 }) {
            let entry = format!("cookie=0xc0de,table={table},priority=2,{protocol},actions=controller");
            self.bridge.ofctl("add-flow", &entry);
        }
    }

    fn asked(&self) -> u64 {
        let counts = self.bridge.flows("0xc0de");
        let count = |line: &String| {
            let count = line.split("n_packets=").nth(1).and_then(|rest| rest.split(',').next());
            count.and_then(|count| count.parse::<u64>().ok()).expect("a number")
        };
        assert!(counts.len() >= 2, "{counts:?}");
        counts.iter().map(count).sum()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn lines(child: Child) -> Vec<String> {
    let done = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
}

fn config(on_down: &str, weight: u32, v6: bool) -> String {
    let web6 = "[[vip]]\nname = \"web6\"\naddress = \"fd77::100\"\nport = 80\n[[vip.backend]]\naddress = \"fd77::3\"\nport = \
                8080\n[[vip.backend]]\naddress = \"fd77::4\"\nport = 8080\n";
    format!(
        "[connections]\nudp_s = 5\n[[vip]]\nname = \"web\"\naddress = \"10.77.0.100\"\nport = 80\non_down = \
         \"{on_down}\"\n[[vip.backend]]\naddress = \"10.77.0.3\"\nport = 8080\nweight = {weight}\n[[vip.backend]]\naddress = \
         \"10.77.0.4\"\nport = 8080\n[[vip.backend]]\naddress = \"10.77.0.5\"\nport = 8080\nweight = 2\n[[vip]]\nname = \
         \"dns\"\naddress = \"10.77.0.100\"\nport = 53\nprotocol = \"udp\"\n[[vip.backend]]\naddress = \"10.77.0.3\"\nport = \
         5300\n[[vip.backend]]\naddress = \"10.77.0.4\"\nport = 5300\n[[vip]]\nname = \"direct\"\naddress = \
         \"10.77.0.101\"\nport = 8080\nmode = \"dsr\"\n[[vip.backend]]\naddress = \"10.77.0.3\"\n[[vip.backend]]\naddress = \
         \"10.77.0.5\"\n{}",
        if v6 { web6 } else { "" }
    )
}

const FORMS: [(&str, &str); 3] = [("group", "1.3"), ("learn", "1.3"), ("proactive", "1.0")];

/// Every VIP is served, and nobody asks the controller.
fn everything_is_served(net: &Net) {
    let what = format!("{} {}", net.entries, net.openflow);
    let web = net.ask(1, "http://10.77.0.100/", 60);
    assert!(!web.contains_key("-"), "{what}: {web:?}");
    let of = |answers: &BTreeMap<String, u32>, name: &str| answers.get(name).copied().unwrap_or(0);
    // 15, 15 and 30 of 60 on average.
    assert!(of(&web, "h3") >= 3 && of(&web, "h4") >= 3 && of(&web, "h5") >= 12, "{what}: {web:?}");
    let direct = net.ask(2, "http://10.77.0.101:8080/", 30);
    assert!(of(&direct, "h3") >= 3 && of(&direct, "h5") >= 3 && direct.len() == 2, "{what}: {direct:?}");
    let dns = lines(net.datagrams(2, 40_000, 1, 40));
    let from = |name: &str| dns.iter().filter(|line| *line == name).count();
    assert!(from("h3") >= 5 && from("h4") >= 5 && from("h3") + from("h4") == 40, "{what}: {dns:?}");
    if net.openflow == "1.3" {
        let web6 = net.ask(2, "http://[fd77::100]/", 30);
        assert!(of(&web6, "h3") >= 3 && of(&web6, "h4") >= 3 && web6.len() == 2, "{what}: {web6:?}");
    }
    let straight = net.ask(2, "http://10.77.0.4:8080/", 2);
    assert_eq!(of(&straight, "h4"), 2, "{what}: {straight:?}");
    let own = net.ask(3, "http://10.77.0.100/", 6);
    assert_eq!(of(&own, "h4"), 6, "{what}: a backend as a client gets the one after itself: {own:?}");
}

impl Net {
    /// Lets clients and switches get to know each other.
    fn warm_up(&self) {
        for client in [1, 2] {
            for url in ["http://10.77.0.100/", "http://10.77.0.101:8080/", "http://10.77.0.4:8080/"] {
                self.ask(client, url, 1);
            }
            if self.openflow == "1.3" {
                self.ask(client, "http://[fd77::100]/", 1);
            }
        }
    }
}

#[test]
fn connections_are_balanced_without_the_controller_and_leave_nothing_behind() {
    if !root("connections_are_balanced_without_the_controller_and_leave_nothing_behind") {
        return;
    }
    for (entries, openflow) in FORMS {
        let net = Net::new(entries, openflow, 1, &config("keep", 1, openflow == "1.3"));
        net.warm_up();
        net.watch_asking();
        let before = net.entry_count();
        everything_is_served(&net);
        assert_eq!(net.asked(), 0, "{entries} {openflow}: packets of some 170 connections");
        // What was learned of the first ones ends too.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while net.entry_count() > before {
            assert!(
                std::time::Instant::now() < patience,
                "{entries} {openflow}: {:#?}",
                net.bridge.flows("")
            );
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let controller = net.controller();
        assert_eq!(controller.logged(": error "), 0, "{:#?}", controller.log());
    }
}

#[test]
fn a_network_of_two_switches_balances_where_the_client_is() {
    if !root("a_network_of_two_switches_balances_where_the_client_is") {
        return;
    }
    for (entries, openflow) in FORMS {
        let net = Net::new(entries, openflow, 2, &config("keep", 1, openflow == "1.3"));
        net.controller().wait("the link is known", || net.controller().logged("is up: direct") == 2);
        net.warm_up();
        everything_is_served(&net);
    }
}

#[test]
fn a_dead_backend_gets_nothing_new_and_its_flows_are_dealt_with() {
    if !root("a_dead_backend_gets_nothing_new_and_its_flows_are_dealt_with") {
        return;
    }
    for (entries, openflow) in FORMS {
        let what = format!("{entries} {openflow}");
        let net = Net::new(entries, openflow, 1, &config("keep", 1, false));
        net.warm_up();
        let downloads: Vec<Child> = (0..8).map(|_| net.download(1)).collect();
        let flows: Vec<Child> = (0..4).map(|number| net.datagrams(2, 42_000 + number, 30, 1)).collect();
        std::thread::sleep(std::time::Duration::from_secs(1));
        net.bridge.on(3, "ip link set eth0 down");
        net.controller().wait_for_log("backend 10.77.0.3 down");
        let web = net.ask(2, "http://10.77.0.100/", 30);
        assert!(!web.contains_key("h3") && !web.contains_key("-"), "{what}: {web:?}");
        net.bridge.on(3, "ip link set eth0 up");
        net.controller().wait("it is back", || net.controller().logged("backend 10.77.0.3 up") == 2);
        for download in downloads {
            let came = lines(download);
            // Kept: what had begun there went on when it came back.
            assert_eq!(came.len(), 30, "{what}: {came:?}");
            assert!(came.iter().all(|line| *line == came[0]), "{what}: {came:?}");
        }
        for flow in flows {
            let came = lines(flow);
            assert_eq!(
                came.last().map(String::as_str),
                Some("h4"),
                "{what}: the one that was well throughout: {came:?}"
            );
        }
        assert_eq!(net.controller().logged(": error "), 0, "{:#?}", net.controller().log());
    }
}

#[test]
fn connections_that_a_dead_backend_has_not_answered_yet_get_another() {
    if !root("connections_that_a_dead_backend_has_not_answered_yet_get_another") {
        return;
    }
    for (entries, openflow) in FORMS {
        let what = format!("{entries} {openflow}");
        let net = Net::new(entries, openflow, 1, &config("keep", 1, false));
        net.warm_up();
        // Dead without a sign: nobody has its address any more.
        net.bridge.on(3, "ip address del 10.77.0.3/24 dev eth0");
        let ns = net.bridge.namespace(2);
        let early: Vec<Child> = (0..16)
            .map(|_| {
                Command::new("ip")
                    .args(["netns", "exec", &ns, "curl", "-s", "-m", "20", "http://10.77.0.100/"])
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("curl")
            })
            .collect();
        net.controller().wait_for_log("backend 10.77.0.3 down");
        for client in early {
            let came = lines(client);
            assert!(came == ["h4"] || came == ["h5"], "{what}: {came:?}");
        }
    }
}

#[test]
fn open_connections_of_a_dead_backend_are_reset_where_that_is_wanted() {
    if !root("open_connections_of_a_dead_backend_are_reset_where_that_is_wanted") {
        return;
    }
    for (entries, openflow) in FORMS {
        for on_down in ["reset", "repick"] {
            let what = format!("{entries} {openflow} {on_down}");
            let net = Net::new(entries, openflow, 1, &config(on_down, 1, false));
            net.warm_up();
            let script = net.folder.file("opener.py", OPENER);
            let mut opener = Command::new("ip")
                .args([
                    "netns",
                    "exec",
                    &net.bridge.namespace(1),
                    "/usr/bin/python3",
                    &script,
                    "10.77.0.100",
                    "32",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("/usr/bin/python3");
            let mut told = BufReader::new(opener.stdout.take().expect("piped"));
            let mut line = String::new();
            told.read_line(&mut line).expect("a line");
            assert_eq!(line, "open\n", "{what}");
            net.bridge.on(3, "ip address del 10.77.0.3/24 dev eth0");
            net.controller().wait_for_log("backend 10.77.0.3 down");
            // A change of entries is in the switch's caches a moment later.
            std::thread::sleep(std::time::Duration::from_secs(2));
            opener.stdin.take().expect("piped").write_all(b"\n").expect("it listens");
            line.clear();
            told.read_line(&mut line).expect("a line");
            let _ = opener.wait();
            let numbers: Vec<u32> =
                line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            let [resets, answers] = numbers[..] else { panic!("{what}: {line:?}") };
            // One in four was there; the others go on.
            assert!(
                (1..=20).contains(&resets) && resets + answers == 32,
                "{what}: {resets}, {answers} of 32"
            );
        }
    }
}

#[test]
fn connections_survive_a_new_controller_with_another_pool() {
    if !root("connections_survive_a_new_controller_with_another_pool") {
        return;
    }
    for (entries, openflow) in FORMS {
        let what = format!("{entries} {openflow}");
        let mut net = Net::new(entries, openflow, 1, &config("keep", 1, openflow == "1.3"));
        net.warm_up();
        let foreign = "cookie=0x1234,table=7,priority=5,udp,tp_dst=9,actions=drop";
        net.bridge.ofctl("add-flow", foreign);
        let downloads: Vec<Child> = (0..12).map(|_| net.download(1)).collect();
        std::thread::sleep(std::time::Duration::from_secs(1));
        // Host 3 takes nothing new any more.
        net.control(&config("keep", 0, openflow == "1.3"));
        let mut seen = BTreeMap::<String, u32>::new();
        for download in downloads {
            let came = lines(download);
            assert_eq!(came.len(), 30, "{what}: {came:?}");
            assert!(came.iter().all(|line| *line == came[0]), "{what}: {came:?}");
            *seen.entry(came[0].clone()).or_default() += 1;
        }
        let web = net.ask(2, "http://10.77.0.100/", 30);
        assert!(!web.contains_key("h3") && !web.contains_key("-"), "{what}: {web:?}, downloads {seen:?}");
        assert_eq!(net.bridge.flows("0x1234").len(), 1, "{what}: others' entries stay");
        assert_eq!(net.controller().logged(": error "), 0, "{:#?}", net.controller().log());
    }
}

#[test]
fn what_a_switch_cannot_do_is_said_by_name() {
    if !root("what_a_switch_cannot_do_is_said_by_name") {
        return;
    }
    let bridge = Bridge::new("1.0", 1);
    let options =
        ["--lb", "openflow", "--lb-entries", "group", "--ip", "10.77.0.100", "--servers", "10.77.0.1"];
    let controller = Controller::start(&options);
    bridge.connect(&controller.address());
    controller.wait_for_log("no VIP is served there with --lb-entries group");
    drop(controller);
    let later = Controller::start(&[&options[..], &["--selection", "round-robin"]].concat());
    later.wait_for_log("standing entries cannot do selection round-robin");
}
