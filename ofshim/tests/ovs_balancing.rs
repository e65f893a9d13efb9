//! Balancing by flow entries with Open vSwitch, real TCP and UDP, in both versions, and no `lb` at all.

mod support;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::ovs::{Bridge, must, root, run};
use support::{Controller, ofshim};

const BOTH: [&str; 2] = ["1.0", "1.3"];
/// Cookies of balanced connections.
const BALANCE: &str = "0x6f66736808";
const VIP: &str = "10.77.0.100";

/// Says its name to whoever connects or asks, on port 80 of TCP and UDP.
const SERVER: &str = "
import http.server, socket, sys, threading
name = sys.argv[1].encode()
class Name(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', str(len(name)))
        self.end_headers()
        self.wfile.write(name)
    def log_message(self, *args):
        pass
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('', 80))
    while True:
        _, peer = s.recvfrom(100)
        s.sendto(name, peer)
threading.Thread(target=udp, daemon=True).start()
http.server.ThreadingHTTPServer(('', 80), Name).serve_forever()
";

/// Asks three times from one socket: the answers come from where the questions went.
const UDP_CLIENT: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect(('10.77.0.100', 80))
names = set()
for _ in range(3):
    s.send(b'who?')
    names.add(s.recv(100).decode())
print(' '.join(names))
";

/// Asks for six seconds over one connection.
const KEEPS_ASKING: &str = "
import http.client, time
c = http.client.HTTPConnection('10.77.0.100', 80, timeout=5)
c.connect()
port = c.sock.getsockname()[1]
for _ in range(24):
    c.request('GET', '/')
    assert c.getresponse().read() in (b'h1', b'h2')
    assert c.sock.getsockname()[1] == port, 'another connection'
    time.sleep(0.25)
";

/// Twenty questions over one connection.
const TWENTY: &str = "
import http.client
c = http.client.HTTPConnection('10.77.0.100', 80, timeout=5)
for _ in range(20):
    c.request('GET', '/')
    assert c.getresponse().read() in (b'h1', b'h2')
c.close()
";

/// Backends h1 and h2 with servers, client h3.
struct Bed {
    servers: Vec<Child>,
    controller: Controller,
    bridge: Bridge,
}

impl Bed {
    fn new(openflow: &str, options: &[&str]) -> Self {
        let bridge = Bridge::new(openflow, 3);
        let mut servers = Vec::new();
        for host in 1..=3 {
            // Without checksums from the device: the switch's datapath in user space would send them unfinished.
            bridge.on(host, "ethtool -K eth0 tx off");
        }
        for host in [1, 2] {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &bridge.namespace(host), "python3", "-c", SERVER]);
            servers.push(command.arg(format!("h{host}")).stderr(Stdio::null()).spawn().unwrap());
        }
        let vip = ["--lb", "openflow", "--ip", VIP, "--servers", "10.77.0.1,10.77.0.2", "--port", "80"];
        let controller = Controller::start(&[&vip, options].concat());
        let bed = Self { servers, controller, bridge };
        bed.bridge.connect(&bed.controller.address());
        for host in [1, 2] {
            bed.controller.wait_for_log(&format!("backend 10.77.0.{host} up"));
            let listens =
                format!("ip netns exec {} curl -s -m 1 http://127.0.0.1/", bed.bridge.namespace(host));
            bed.controller.wait("a server", || run(&listens).status.success());
        }
        bed
    }

    /// Who answers a connection to the VIP.
    fn ask(&self) -> String {
        let name = self.bridge.on(3, &format!("curl -s -m 5 http://{VIP}/"));
        assert!(["h1", "h2"].contains(&name.as_str()), "{name:?}");
        name
    }

    /// How often each answers.
    fn ask_times(&self, count: usize) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        (0..count).for_each(|_| *names.entry(self.ask()).or_default() += 1);
        names
    }

    fn legs(&self) -> usize {
        self.bridge.flows(BALANCE).len()
    }

    /// How many packets of connections the controller has decided about.
    fn decided(&self) -> u64 {
        let packets = self.controller.read("status")["balancing"]["packets"].clone();
        let counts = packets.as_object().unwrap().iter();
        counts.filter(|(reason, _)| reason.starts_with("to_")).map(|(_, count)| count.as_u64().unwrap()).sum()
    }

    fn order(&self, words: &[&str]) {
        let run_dir = self.controller.run_dir();
        let done = ofshim(&[&["--run-dir", &run_dir, "backend"], words].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

#[test]
fn every_selection_serves_real_connections_and_leaves_no_entries() {
    if !root("every_selection_serves_real_connections_and_leaves_no_entries") {
        return;
    }
    let cases = [
        ("1.0", "round-robin"),
        ("1.3", "round-robin"),
        ("1.3", "random"),
        ("1.3", "maglev"),
        ("1.3", "flow-hash"),
        ("1.3", "source-hash"),
        ("1.3", "least-connections"),
    ];
    for (openflow, selection) in cases {
        let bed = Bed::new(openflow, &["--selection", selection]);
        let names = bed.ask_times(24);
        match selection {
            "round-robin" => assert_eq!(names.values().copied().collect::<Vec<_>>(), [12, 12]),
            "source-hash" => assert_eq!(names.len(), 1, "one client, one backend: {names:?}"),
            _ => assert_eq!(names.len(), 2, "{selection}: {names:?}"),
        }
        assert!(bed.bridge.ping(3, VIP, 3), "echo");
        bed.controller.wait("an empty table", || bed.legs() == 0);
    }
}

#[test]
fn a_dead_backend_and_a_draining_one_get_no_connections() {
    if !root("a_dead_backend_and_a_draining_one_get_no_connections") {
        return;
    }
    for openflow in BOTH {
        let bed = Bed::new(openflow, &["--selection", "round-robin"]);
        bed.order(&["drain", "10.77.0.1"]);
        bed.controller.wait_for_log("draining by order");
        assert_eq!(bed.ask_times(6), BTreeMap::from([("h2".to_owned(), 6)]), "{openflow}");
        bed.order(&["enable", "10.77.0.1"]);
        bed.controller.wait("two backends", || bed.ask_times(4).len() == 2);
        let down = Instant::now();
        must(&format!("ip link set {} down", bed.bridge.port(2)));
        bed.controller.wait_for_log("backend 10.77.0.2 down");
        assert!(down.elapsed() < Duration::from_secs(5), "a link that is down is told at once");
        assert_eq!(bed.ask_times(6), BTreeMap::from([("h1".to_owned(), 6)]), "{openflow}");
        must(&format!("ip link set {} up", bed.bridge.port(2)));
        bed.controller.wait("two backends again", || bed.ask_times(4).len() == 2);
        let status = bed.controller.read("status");
        let backends = status["balancing"]["vips"][0]["backends"].as_array().unwrap().clone();
        assert!(backends.iter().all(|backend| backend["state"] == "up"), "{backends:?}");
    }
}

#[test]
fn udp_stays_with_its_backend() {
    if !root("udp_stays_with_its_backend") {
        return;
    }
    for openflow in BOTH {
        let bed = Bed::new(openflow, &["--selection", "round-robin", "--protocol", "udp"]);
        let ask = || {
            let ns = bed.bridge.namespace(3);
            let done = Command::new("ip").args(["netns", "exec", &ns, "python3", "-c", UDP_CLIENT]).output();
            String::from_utf8(done.unwrap().stdout).unwrap().trim().to_owned()
        };
        let (first, second) = (ask(), ask());
        assert!(["h1", "h2"].contains(&first.as_str()), "{openflow}: {first:?}");
        assert_ne!(first, second, "the next in turn");
        assert_eq!(bed.legs(), 4);
    }
}

#[test]
fn a_new_controller_leaves_a_download_alone() {
    if !root("a_new_controller_leaves_a_download_alone") {
        return;
    }
    for openflow in BOTH {
        let mut bed = Bed::new(openflow, &["--selection", "round-robin"]);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &bed.bridge.namespace(3), "python3", "-c", KEEPS_ASKING]);
        let mut client = command.spawn().unwrap();
        bed.controller.wait("its entries", || bed.legs() == 2);
        let address = bed.controller.address();
        bed.controller.end("KILL");
        let vip = ["--lb", "openflow", "--ip", VIP, "--servers", "10.77.0.1,10.77.0.2", "--port", "80"];
        let later = Controller::start(&[&vip[..], &["--listen", &address]].concat());
        later.wait_for_log("2 of balanced connections kept");
        assert!(client.wait().unwrap().success(), "{openflow}: {:#?}", later.log());
        bed.controller = later;
    }
}

/// Cookies of the entries that show beginnings and ends of connections.
const WATCH: &str = "0x6f6673680d";

#[test]
fn a_connection_costs_its_syn_and_two_copies_and_its_entries_end_with_it() {
    if !root("a_connection_costs_its_syn_and_two_copies_and_its_entries_end_with_it") {
        return;
    }
    let bed = Bed::new("1.3", &["--selection", "round-robin", "--idle-timeout", "300"]);
    let watching = |bed: &Bed| bed.bridge.flows(WATCH).len();
    // Beginnings and ends at the VIP, ends of what two backends answer, and the one that matches nobody.
    assert_eq!(watching(&bed), 5, "{:#?}", bed.bridge.flows(WATCH));
    let ns = bed.bridge.namespace(3);
    let ask = || {
        let done = Command::new("ip").args(["netns", "exec", &ns, "python3", "-c", TWENTY]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let before = bed.decided();
    ask();
    bed.controller.wait("an empty table", || bed.legs() == 0);
    // The last acknowledgement may come after the end of its entry.
    let decided = bed.decided() - before;
    assert!((3..=4).contains(&decided), "{decided} packets of 60 or more");

    // Deleted by somebody, they come back.
    bed.bridge.ofctl("del-flows", "cookie=0x6f6673680d000000/0xffffffffff000000");
    bed.controller.wait("the entries are back", || watching(&bed) == 5);
    bed.order(&["disable", "10.77.0.1"]);
    ask();
    bed.controller.wait("an empty table", || bed.legs() == 0);
}
