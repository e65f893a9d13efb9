//! Orders about backends with Open vSwitch and real connections, in every form of entries: backends that come and go, a
//! drain's deadline, another controller.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use support::ovs::{Bridge, root, run};
use support::{Controller, Folder, ofshim};

const VIP: &str = "10.77.0.100";

/// Says its name to whoever asks, as often as it is asked over a connection.
const SERVER: &str = "
import http.server, sys
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
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(('', 80), Name).serve_forever()
";

/// Opens connections; for each line that it reads it asks by all of them and prints who answered, `-` for a connection that
/// is over.
const TALKER: &str = "
import http.client, sys
connections = []
def ask(at):
    if connections[at] is None: return '-'
    try:
        connections[at].request('GET', '/')
        return connections[at].getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        connections[at] = None
        return '-'
for _ in range(int(sys.argv[2])):
    connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=5)
    connection.connect()
    connection.auto_open = 0
    connections.append(connection)
while True:
    print(' '.join(ask(at) for at in range(len(connections))), flush=True)
    if not sys.stdin.readline(): break
";

/// Connections from one client that stay open.
struct Talker {
    process: Child,
    words: ChildStdin,
    told: BufReader<ChildStdout>,
    /// Who answered first.
    first: Vec<String>,
}

impl Talker {
    fn start(bed: &Bed, count: usize) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &bed.bridge.namespace(4), "python3", "-c", TALKER, VIP]);
        command.arg(count.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("python3");
        let (words, told) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        let mut talker = Self { process, words, told: BufReader::new(told), first: Vec::new() };
        talker.first = talker.hear();
        assert_eq!(talker.first.len(), count);
        talker
    }

    fn hear(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.told.read_line(&mut line).expect("a line");
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Who answers now, by connection.
    fn ask(&mut self) -> Vec<String> {
        self.words.write_all(b"\n").expect("it listens");
        self.hear()
    }

    /// Every connection answers from where it began, but those of `gone`, which are over.
    fn assert_stay(&mut self, gone: &[&str], what: &str) {
        let now = |name: &String| if gone.contains(&name.as_str()) { "-".to_owned() } else { name.clone() };
        let expected: Vec<String> = self.first.iter().map(now).collect();
        assert_eq!(self.ask(), expected, "{what}");
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Servers h1 to h3, of which the file names the first two, and client h4.
struct Bed {
    servers: Vec<Child>,
    controller: Controller,
    bridge: Bridge,
    state: Folder,
    options: Vec<String>,
}

impl Bed {
    fn new(entries: &str, openflow: &str) -> Self {
        let bridge = Bridge::new(openflow, 4);
        let mut servers = Vec::new();
        for host in 1..=4 {
            // Without checksums from the device: the switch's datapath in user space would send them unfinished.
            bridge.on(host, "ethtool -K eth0 tx off");
        }
        for host in 1..=3 {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &bridge.namespace(host), "python3", "-c", SERVER]);
            servers.push(command.arg(format!("h{host}")).stderr(Stdio::null()).spawn().expect("python3"));
        }
        let state = Folder::new();
        let file = state.file(
            "lb.toml",
            "[[vip]]\nname = \"web\"\naddress = \"10.77.0.100\"\nport = 80\non_down = \"reset\"\n\
             [[vip.backend]]\nname = \"h1\"\naddress = \"10.77.0.1\"\n\
             [[vip.backend]]\nname = \"h2\"\naddress = \"10.77.0.2\"\n",
        );
        let folder = state.0.display().to_string();
        let words = ["--lb", "openflow", "--openflow", openflow, "--lb-entries", entries, "--config", &file];
        let options: Vec<String> = words
            .into_iter()
            .chain(["--state-dir", &folder, "--idle-timeout", "30"])
            .map(str::to_owned)
            .collect();
        let controller = Self::start(&options, "127.0.0.1:0");
        bridge.connect(&controller.address());
        let bed = Self { servers, controller, bridge, state, options };
        for host in [1, 2] {
            bed.controller.wait_for_log(&format!("backend 10.77.0.{host} up"));
        }
        for host in 1..=3 {
            let listens =
                format!("ip netns exec {} curl -s -m 1 http://127.0.0.1/", bed.bridge.namespace(host));
            bed.controller.wait("a server", || run(&listens).status.success());
        }
        bed.ask_until("the way to the VIP", |names| !names.contains_key("-"));
        bed
    }

    fn start(options: &[String], listen: &str) -> Controller {
        let options: Vec<&str> = options.iter().map(String::as_str).chain(["--listen", listen]).collect();
        Controller::start(&options)
    }

    /// Another controller takes this one's place, which is killed.
    fn restart(&mut self) {
        let address = self.controller.address();
        self.controller.end("KILL");
        self.controller = Self::start(&self.options, &address);
    }

    /// Who answers new connections, and how often; `-` is nobody.
    fn ask(&self, count: usize) -> BTreeMap<String, usize> {
        let ns = self.bridge.namespace(4);
        let mut names = BTreeMap::new();
        for _ in 0..count {
            let done = run(&format!("ip netns exec {ns} curl -s -m 5 http://{VIP}/"));
            let name = String::from_utf8_lossy(&done.stdout).into_owned();
            *names.entry(if name.is_empty() { "-".to_owned() } else { name }).or_default() += 1;
        }
        names
    }

    /// Asks a few times over and over until the answers are as they should be.
    fn ask_until(&self, what: &str, holds: impl Fn(&BTreeMap<String, usize>) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let names = self.ask(8);
            if holds(&names) {
                return;
            }
            assert!(Instant::now() < end, "{what}: {names:?} {:#?}", self.controller.log());
        }
    }

    /// New connections go to exactly these.
    fn assert_serve(&self, serve: &[&str], what: &str) {
        self.ask_until(what, |names| names.keys().map(String::as_str).eq(serve.iter().copied()));
        let names = self.ask(12);
        assert!(names.keys().all(|name| serve.contains(&name.as_str())), "{what}: {names:?}");
    }

    /// `ofshim backend`, with these words.
    fn order(&self, words: &str) -> (Option<i32>, String) {
        let run_dir = self.controller.run_dir();
        let words = words.split_whitespace();
        let words: Vec<&str> = ["--run-dir", &run_dir, "backend"].into_iter().chain(words).collect();
        let done = ofshim(&words);
        let told = if done.status.success() { done.stdout } else { [done.stdout, done.stderr].concat() };
        (done.status.code(), String::from_utf8(told).expect("text"))
    }

    fn must_order(&self, words: &str) -> String {
        let (code, told) = self.order(words);
        assert_eq!(code, Some(0), "backend {words}: {told}");
        told
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

/// Backends come and go, one is drained to its deadline, and the next controller knows it all.
fn orders_hold(entries: &str, openflow: &str) {
    let what = format!("{entries} {openflow}");
    let mut bed = Bed::new(entries, openflow);
    bed.assert_serve(&["h1", "h2"], &what);
    bed.must_order("add 10.77.0.3 --vip web --name h3");
    bed.controller.wait_for_log("backend 10.77.0.3 up");
    bed.assert_serve(&["h1", "h2", "h3"], &what);

    let mut talker = Talker::start(&bed, 30);
    for name in ["h1", "h2", "h3"] {
        assert!(talker.first.iter().any(|first| first == name), "{what}: {:?}", talker.first);
    }
    bed.must_order("remove h1");
    bed.assert_serve(&["h2", "h3"], &what);
    talker.assert_stay(&[], &what);

    let began = Instant::now();
    bed.must_order("drain h2 --deadline 6s");
    bed.assert_serve(&["h3"], &what);
    if began.elapsed() < Duration::from_secs(3) {
        talker.assert_stay(&[], &what);
    }
    bed.controller.wait_for_log("disabled: the drain's deadline is over");
    // A change of entries is in the switch's caches a moment later.
    let reset = |names: &[String], first: &[String]| {
        names.iter().zip(first).all(|(now, first)| (now == "-") == (first == "h2"))
    };
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let names = talker.ask();
        if reset(&names, &talker.first) {
            break;
        }
        assert!(Instant::now() < end, "{what}: {names:?} of {:?}: {:#?}", talker.first, bed.controller.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    talker.assert_stay(&["h2"], &what);

    bed.restart();
    for line in [
        "backend 10.77.0.1 of VIP 10.77.0.100:80/tcp: still removed by hand",
        "backend 10.77.0.2 of VIP 10.77.0.100:80/tcp: still disabled",
        "backend 10.77.0.3 of VIP 10.77.0.100:80/tcp: still added by hand",
    ] {
        bed.controller.wait_for_log(line);
    }
    bed.controller.wait_for_log("backend 10.77.0.3 up");
    bed.assert_serve(&["h3"], &what);
    talker.assert_stay(&["h2"], &format!("{what}, another controller"));
    bed.must_order("enable h2");
    bed.assert_serve(&["h2", "h3"], &what);
    bed.must_order("add 10.77.0.1 --name h1 --weight 1");
    bed.must_order("remove h3");
    bed.assert_serve(&["h1", "h2"], &what);
    talker.assert_stay(&["h2"], &format!("{what}, as the file says"));
    let kept = bed.state.0.join("orders.json");
    assert!(!kept.exists(), "{what}: {:?}", std::fs::read_to_string(&kept));
}

#[test]
fn orders_hold_with_reactive_entries() {
    if root("orders_hold_with_reactive_entries") {
        for openflow in ["1.0", "1.3"] {
            orders_hold("reactive", openflow);
        }
    }
}

#[test]
fn orders_hold_with_groups() {
    if root("orders_hold_with_groups") {
        orders_hold("group", "1.3");
    }
}

#[test]
fn orders_hold_with_learned_entries() {
    if root("orders_hold_with_learned_entries") {
        for openflow in ["1.0", "1.3"] {
            orders_hold("learn", openflow);
        }
    }
}

#[test]
fn a_drain_can_be_waited_for_and_wrong_orders_are_refused() {
    if !root("a_drain_can_be_waited_for_and_wrong_orders_are_refused") {
        return;
    }
    let bed = Bed::new("reactive", "1.3");
    let mut talker = Talker::start(&bed, 20);
    assert!(talker.first.iter().any(|name| name == "h1"), "{:?}", talker.first);
    let (code, told) = bed.order("drain h1 --deadline 1s --wait");
    assert_eq!(code, Some(1), "connections were left: {told}");
    assert!(told.contains("disabled"), "{told}");
    talker.assert_stay(&["h1"], "on_down is reset");
    drop(talker);
    bed.must_order("enable h1");
    bed.must_order("drain h1 --wait --deadline 30s");
    let listed = bed.must_order("");
    assert!(listed.contains("draining") && listed.contains("h2"), "{listed}");
    for (words, part) in [
        ("drain h9", "no backend h9; there are h1, h2"),
        ("add 10.77.0.1", "backend 10.77.0.1 is in VIP web already"),
        ("add 10.77.0.100", "backend 10.77.0.100 is also a VIP"),
        ("add fd77::3", "fd77::3"),
        ("drain h1 --deadline soon", "write a number with ms, s, m or h"),
    ] {
        let (code, told) = bed.order(words);
        assert_eq!((code, told.lines().count()), (Some(2), 1), "{words}: {told}");
        assert!(told.contains(part), "{words}: {told}");
    }
    bed.must_order("remove h1");
    let (code, told) = bed.order("remove h2");
    assert!(code == Some(2) && told.contains("is the only backend of VIP web"), "{told}");
}
