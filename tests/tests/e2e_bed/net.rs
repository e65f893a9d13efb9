//! Bridges and hosts: host n is 10.0.0.n/8 with MAC 02:00:00:00:00:n, on a port of its own.

use std::net::Ipv4Addr;
use std::process::Output;
use std::sync::atomic::{AtomicU8, Ordering};

use super::shell::{Process, must, run, wait};

/// Who forwards on the bridges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Open vSwitch by itself, as a learning switch.
    Standalone,
    /// A controller alone.
    Secure,
}

/// Hosts on one or more bridges in a row; all of it goes with this.
pub struct Net {
    /// Begins every name.
    pub tag: String,
    hosts: u32,
    bridges: u32,
}

/// Address of host `number`.
pub fn address(number: u32) -> String {
    Ipv4Addr::from(0x0a00_0000 + number).to_string()
}

/// A tag for names of at most 15 characters.
fn tag() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let letter = char::from(b'a' + NEXT.fetch_add(1, Ordering::Relaxed) % 26);
    format!("e2e{}{letter}", std::process::id())
}

impl Net {
    /// One bridge that forwards by itself.
    pub fn new(hosts: u32) -> Self {
        Self::with(Mode::Standalone, &[hosts])
    }

    /// Bridges in a row, each with as many hosts; hosts are numbered through.
    pub fn with(mode: Mode, hosts: &[u32]) -> Self {
        ensure_ovs();
        // What follows may fail half-way; from here on the guard removes what is there.
        let mut net = Self { tag: tag(), hosts: 0, bridges: 0 };
        for on_bridge in hosts {
            net.bridges += 1;
            net.add_bridge(mode);
            for _ in 0..*on_bridge {
                net.hosts += 1;
                net.add_host(net.hosts);
            }
            let ports: Vec<u32> = (net.hosts - on_bridge + 1..=net.hosts).collect();
            net.add_ports(&ports);
            if net.bridges > 1 {
                net.add_cable();
            }
        }
        net
    }

    /// Hosts that somebody else made, under names of ours: their processes' namespaces.
    pub fn of_processes(processes: &[u32]) -> Self {
        let mut net = Self { tag: tag(), hosts: 0, bridges: 0 };
        for process in processes {
            net.hosts += 1;
            must(&format!("ip netns attach {} {process}", net.ns(net.hosts)));
        }
        net
    }

    /// Removes the names of the hosts' namespaces.
    pub fn forget(&mut self) {
        for number in self.hosts() {
            must(&format!("ip netns del {}", self.ns(number)));
        }
        self.hosts = 0;
    }

    /// Takes the cable of a host out of the switch, and destroys it.
    pub fn unplug(&self, number: u32) {
        must(&format!("ovs-vsctl -t 10 del-port {}", self.port(number)));
        must(&format!("ip link del {}", self.port(number)));
    }

    /// Plugs a host of the first bridge in again, with the same names and addresses; nothing else is the same.
    pub fn plug(&self, number: u32) {
        let (ns, port) = (self.ns(number), self.port(number));
        must(&format!("ip link add {port} type veth peer name eth0 netns {ns}"));
        must(&format!("sysctl -q -w net.ipv6.conf.{port}.disable_ipv6=1"));
        must(&format!("ip link set {port} up"));
        must(&format!("ip -n {ns} link set eth0 address 02:00:00:00:00:{number:02x}"));
        must(&format!("ip -n {ns} address add {}/8 dev eth0", address(number)));
        must(&format!("ip -n {ns} link set eth0 up"));
        must(&format!(
            "ovs-vsctl -t 10 add-port {} {port} -- set interface {port} ofport_request={number}",
            self.bridge(1)
        ));
    }

    fn add_bridge(&self, mode: Mode) {
        let fail_mode = if mode == Mode::Secure { "secure" } else { "standalone" };
        must(&format!(
            "ovs-vsctl -t 10 add-br {0} -- set bridge {0} datapath_type=netdev protocols=OpenFlow13 \
             other-config:disable-in-band=true -- set-fail-mode {0} {fail_mode}",
            self.bridge(self.bridges)
        ));
    }

    fn add_host(&self, number: u32) {
        let (ns, port) = (self.ns(number), self.port(number));
        must(&format!("ip netns add {ns}"));
        must(&format!("ip link add {port} type veth peer name eth0 netns {ns}"));
        // The machine's own IPv6 would speak out of its end of the link, and the tests count frames.
        must(&format!("sysctl -q -w net.ipv6.conf.{port}.disable_ipv6=1"));
        must(&format!("ip link set {port} up"));
        self.on(number, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
        must(&format!("ip -n {ns} link set eth0 address 02:00:00:00:00:{number:02x}"));
        must(&format!("ip -n {ns} address add {}/8 dev eth0", address(number)));
        must(&format!("ip -n {ns} link set eth0 up"));
        must(&format!("ip -n {ns} link set lo up"));
    }

    fn add_ports(&self, hosts: &[u32]) {
        let bridge = self.bridge(self.bridges);
        let add = |n: &u32| {
            format!(" -- add-port {bridge} {0} -- set interface {0} ofport_request={n}", self.port(*n))
        };
        must(&format!("ovs-vsctl -t 10{}", hosts.iter().map(add).collect::<String>()));
    }

    /// Between this bridge and the one before.
    fn add_cable(&self) {
        let [left, right] = self.cable(self.bridges - 1);
        must(&format!("ip link add {left} type veth peer name {right}"));
        for end in [&left, &right] {
            must(&format!("sysctl -q -w net.ipv6.conf.{end}.disable_ipv6=1"));
            must(&format!("ip link set {end} up"));
        }
        let (before, here) = (self.bridge(self.bridges - 1), self.bridge(self.bridges));
        must(&format!("ovs-vsctl -t 10 add-port {before} {left} -- add-port {here} {right}"));
    }

    pub fn bridge(&self, number: u32) -> String {
        format!("{}b{number}", self.tag)
    }

    /// The ends of the cable between the bridges `number` and `number + 1`.
    pub fn cable(&self, number: u32) -> [String; 2] {
        [format!("{}l{number}", self.tag), format!("{}r{number}", self.tag)]
    }

    pub fn ns(&self, number: u32) -> String {
        format!("{}-h{number}", self.tag)
    }

    pub fn port(&self, number: u32) -> String {
        format!("{}p{number}", self.tag)
    }

    /// All host-facing ports.
    pub fn ports(&self) -> Vec<String> {
        (1..=self.hosts).map(|number| self.port(number)).collect()
    }

    /// The numbers of the hosts.
    pub fn hosts(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.hosts
    }

    /// Runs a command on a host; what it printed.
    pub fn on(&self, number: u32, command: &str) -> String {
        must(&format!("ip netns exec {} {command}", self.ns(number)))
    }

    /// Runs a command on a host, whatever comes of it.
    pub fn try_on(&self, number: u32, command: &str) -> Output {
        run(&format!("ip netns exec {} {command}", self.ns(number)))
    }

    /// Gives a host IPv6: 2001:db8::n, in one network with all VIPs that begin so.
    pub fn add_ipv6(&self, number: u32, interface: &str) {
        let off = |place: &str| format!("net.ipv6.conf.{place}.disable_ipv6=0");
        self.on(number, &format!("sysctl -q -w {} {}", off("all"), off(interface)));
        self.on(number, &format!("ip address add 2001:db8::{number}/32 dev {interface} nodad"));
        // Link-local addresses are asked for by everybody else too.
        let shown = || self.on(number, &format!("ip -6 address show dev {interface}"));
        wait("IPv6 addresses", 10, || !shown().contains("tentative"), shown);
    }

    /// Puts a VIP on the loopback of a backend that receives its packets unchanged.
    pub fn own(&self, number: u32, vip: &str) {
        self.on(number, &format!("ip address add {vip} dev lo nodad"));
        self.on(number, "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
    }

    /// Whether all of `count` pings were answered.
    pub fn ping(&self, from: u32, to: &str, count: u32) -> bool {
        self.try_on(from, &format!("ping -q -c {count} -i 0.05 -W 1 {to}")).status.success()
    }

    /// Pings from a host to an address, a hundred a second, until this ends.
    pub fn flood(&self, from: u32, to: &str) -> Process {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.ns(from), "ping", "-q", "-i", "0.01", to]);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        Process(command.spawn().unwrap())
    }

    /// `ethtool -k` of every host.
    pub fn offloads(&self) -> Vec<String> {
        self.hosts().map(|number| self.on(number, "ethtool -k eth0")).collect()
    }

    /// Interfaces of this network that have an XDP program, both ends looked at.
    pub fn programs(&self) -> Vec<String> {
        let named = |text: String, place: String| {
            let lines = text.lines().filter(|line| line.contains("prog/xdp")).map(str::to_owned);
            lines.map(|line| format!("{place}: {line}")).collect::<Vec<_>>()
        };
        let cables = (1..self.bridges).flat_map(|number| self.cable(number));
        let ours = self.ports().into_iter().chain(cables).flat_map(|port| {
            let text = must(&format!("ip -d link show dev {port}"));
            named(text, port)
        });
        let theirs = self.hosts().flat_map(|number| {
            let ns = self.ns(number);
            named(must(&format!("ip -n {ns} -d link show dev eth0")), ns)
        });
        ours.chain(theirs).collect()
    }

    /// Hands the bridges to a controller.
    pub fn connect(&self, controller: &str) {
        for number in 1..=self.bridges {
            must(&format!("ovs-vsctl -t 10 set-controller {} tcp:{controller}", self.bridge(number)));
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // Some of it may not be there; nothing else can be done about a failure here.
        for number in 1..=self.bridges {
            run(&format!("ovs-vsctl -t 10 --if-exists del-br {}", self.bridge(number)));
            run(&format!("ip link del {}", self.cable(number)[0]));
        }
        for number in 1..=self.hosts {
            run(&format!("ip link del {}", self.port(number)));
            run(&format!("ip netns del {}", self.ns(number)));
        }
    }
}

/// Starts Open vSwitch if it does not run.
pub fn ensure_ovs() {
    if !run("ovs-vsctl -t 2 show").status.success() {
        must("/usr/share/openvswitch/scripts/ovs-ctl start --system-id=random");
    }
}
