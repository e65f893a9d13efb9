//! Hosts and an Open vSwitch bridge of one test, removed with it, also when it fails.

use std::io::Write;
use std::process::{Command, Output};

use super::unique;

/// Whether tests that need root can run. Without root they are skipped, and say so.
pub fn root(test: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    let root = uids.split_whitespace().nth(2) == Some("0");
    if !root {
        // Not by a macro, whose output the test runner would keep to itself.
        let line = format!(
            "SKIPPED {test}: it needs root, for network namespaces and Open vSwitch; run it with sudo\n"
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    root
}

/// Runs a command that has to succeed; what it printed.
pub fn must(command: &str) -> String {
    let done = run(command);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command}: {told}");
    String::from_utf8(done.stdout).unwrap()
}

/// Runs a command, words divided by spaces.
pub fn run(command: &str) -> Output {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; is it installed?"))
}

/// Starts Open vSwitch if it does not run.
fn ensure_ovs() {
    if !run("ovs-vsctl -t 2 show").status.success() {
        must("/usr/share/openvswitch/scripts/ovs-ctl start --system-id=random");
    }
}

/// A bridge with hosts in namespaces, host n at 10.77.0.n with MAC 02:00:00:00:00:n on port n.
pub struct Bridge {
    pub name: String,
    /// `OpenFlow10` or `OpenFlow13`.
    pub protocol: &'static str,
    tag: String,
    hosts: u32,
}

impl Bridge {
    /// Makes it; `openflow` is `1.0` or `1.3`.
    pub fn new(openflow: &str, hosts: u32) -> Self {
        ensure_ovs();
        let tag = format!("{}{}", std::process::id(), unique());
        let protocol = if openflow == "1.0" { "OpenFlow10" } else { "OpenFlow13" };
        // What follows may fail half-way; from here on the guard removes what is there.
        let bridge = Self { name: format!("ofx{tag}"), protocol, tag, hosts };
        must(&format!(
            "ovs-vsctl -t 10 add-br {0} -- set bridge {0} datapath_type=netdev protocols={protocol} \
             other-config:disable-in-band=true -- set-fail-mode {0} secure",
            bridge.name
        ));
        for number in 1..=hosts {
            bridge.add_host(number);
        }
        bridge
    }

    fn add_host(&self, number: u32) {
        let (ns, port, bridge) = (self.namespace(number), self.port(number), &self.name);
        must(&format!("ip netns add {ns}"));
        must(&format!("ip link add {port} type veth peer name eth0 netns {ns}"));
        // The machine's own IPv6 would speak out of its end of the link, and the tests count what hosts hear.
        must(&format!("sysctl -q -w net.ipv6.conf.{port}.disable_ipv6=1"));
        must(&format!("ip link set {port} up"));
        for line in [
            "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1".to_owned(),
            format!("ip link set eth0 address 02:00:00:00:00:{number:02x}"),
            format!("ip address add 10.77.0.{number}/24 dev eth0"),
            "ip link set eth0 up".to_owned(),
            "ip link set lo up".to_owned(),
        ] {
            self.on(number, &line);
        }
        must(&format!(
            "ovs-vsctl -t 10 add-port {bridge} {port} -- set interface {port} ofport_request={number}"
        ));
    }

    pub fn namespace(&self, number: u32) -> String {
        format!("ofx-{}-h{number}", self.tag)
    }

    pub fn port(&self, number: u32) -> String {
        format!("x{}p{number}", self.tag)
    }

    /// Runs a command on a host.
    pub fn on(&self, number: u32, command: &str) -> String {
        must(&format!("ip netns exec {} {command}", self.namespace(number)))
    }

    pub fn connect(&self, address: &str) {
        must(&format!("ovs-vsctl -t 10 set-controller {} tcp:{address}", self.name));
    }

    /// Whether all of `count` pings, 100 ms apart, were answered.
    pub fn ping(&self, from: u32, to: &str, count: u32) -> bool {
        let ns = self.namespace(from);
        run(&format!("ip netns exec {ns} ping -q -c {count} -i 0.1 -W 1 {to}")).status.success()
    }

    pub fn ofctl(&self, command: &str, rest: &str) -> String {
        must(&format!("ovs-ofctl -O {} {command} {} {rest}", self.protocol, self.name))
    }

    /// The entries with a cookie that begins like this.
    pub fn flows(&self, cookie: &str) -> Vec<String> {
        let dump = self.ofctl("dump-flows", "");
        dump.lines()
            .map(str::trim)
            .filter(|line| line.contains(&format!("cookie={cookie}")))
            .map(str::to_owned)
            .collect()
    }

    /// Frames that the switch sent to each host so far.
    pub fn sent(&self) -> Vec<u64> {
        let sent = |number| {
            let port = self.port(number);
            must(&format!("ovs-vsctl -t 10 get interface {port} statistics:tx_packets"))
                .trim()
                .parse()
                .unwrap()
        };
        (1..=self.hosts).map(sent).collect()
    }

    /// Frames that a host received so far.
    pub fn received(&self, number: u32) -> u64 {
        self.on(number, "cat /sys/class/net/eth0/statistics/rx_packets").trim().parse().unwrap()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Some of it may not be there; nothing else can be done about a failure here.
        run(&format!("ovs-vsctl -t 10 --if-exists del-br {}", self.name));
        for number in 1..=self.hosts {
            run(&format!("ip link del {}", self.port(number)));
            run(&format!("ip netns del {}", self.namespace(number)));
        }
    }
}
