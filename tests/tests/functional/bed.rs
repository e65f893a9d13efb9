//! One network for every mode: three backends, two clients, and whoever balances.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::mode::{Balancer, Mode, Rewrite, What};
use crate::e2e_bed::{
    Decapsulator, Fabric, Folder, Lb, Server, Talk, address, curl_command, must, talk, wait,
};

pub const VIP: &str = "10.0.1.1";
pub const VIP6: &str = "2001:db8:1::1";
pub const BACKENDS: [u32; 3] = [1, 2, 3];
pub const CLIENT: u32 = 4;
pub const OTHER_CLIENT: u32 = 5;
/// The host that balances, one-armed.
const BALANCER: u32 = 6;
/// Addresses that the client has besides its own.
pub const MORE_SOURCES: [&str; 7] =
    ["10.0.0.41", "10.0.0.42", "10.0.0.43", "10.0.0.44", "10.0.0.45", "10.0.0.46", "10.0.0.47"];
/// What is added to a port where it is translated.
const TRANSLATED_BY: u16 = 1000;

/// What the VIP serves on a port.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub what: What,
    pub port: u16,
    selection: &'static str,
    more: &'static str,
    weights: [u32; 3],
}

const fn service(what: What, port: u16, selection: &'static str) -> Service {
    Service { what, port, selection, more: "", weights: [1; 3] }
}

pub const ROUND_ROBIN: Service = service(What::RoundRobin, 8001, "round-robin");
pub const RANDOM: Service = service(What::Random, 8002, "random");
pub const SOURCE_HASH: Service = service(What::SourceHash, 8003, "source-hash");
pub const FLOW_HASH: Service = service(What::FlowHash, 8004, "flow-hash");
pub const MAGLEV: Service = service(What::Maglev, 8005, "maglev");
pub const LEAST: Service = service(What::LeastConnections, 8006, "least-connections");
pub const WEIGHTS: Service = Service { weights: [1, 1, 2], ..service(What::Weights, 8007, "round-robin") };
pub const AFFINITY: Service =
    Service { more: "affinity_s = 300\n", ..service(What::Affinity, 8008, "random") };
pub const UDP: Service = Service { more: "protocol = \"udp\"\n", ..service(What::Udp, 8009, "round-robin") };
pub const SIX: Service = service(What::Ipv6, 8010, "round-robin");

/// Those of TCP over IPv4.
pub const WEB: [Service; 8] = [ROUND_ROBIN, RANDOM, SOURCE_HASH, FLOW_HASH, MAGLEV, LEAST, WEIGHTS, AFFINITY];

/// Who answered, and whom the backend saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub host: u32,
    pub seen: String,
}

/// A running network in which a mode balances; gone with this.
pub struct Bed {
    pub mode: Mode,
    servers: Vec<Server>,
    ends: Vec<Decapsulator>,
    pub lb: Lb,
    pub fabric: Fabric,
    _folder: Folder,
}

impl Bed {
    /// Builds it, and waits until all backends are in rotation.
    pub fn new(mode: Mode) -> Self {
        let (folder, lb) = (Folder::new(), Lb::new());
        let file = folder.file("lb.toml", &configuration(&mode, ""));
        let hosts = if mode.balancer == Balancer::OneArmed { BALANCER } else { OTHER_CLIENT };
        let options = controller_options(&mode, &file);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let fabric = Fabric::start_with(&format!("single,{hosts}"), mode.openflow, &options, Some(&lb));
        let mut bed = Self { mode, servers: Vec::new(), ends: Vec::new(), lb, fabric, _folder: folder };
        bed.set_up_hosts(hosts);
        bed.serve();
        bed.balance();
        bed.wait_in_rotation();
        bed
    }

    fn set_up_hosts(&mut self, hosts: u32) {
        let mode = self.mode;
        let net = &self.fabric.net;
        for number in 1..=hosts {
            // A port is free again as soon as its connection is closed.
            net.on(number, "sysctl -q -w net.ipv4.tcp_max_tw_buckets=0");
            if mode.has(What::Ipv6) {
                net.add_ipv6(number, &self.fabric.interface(number));
            }
        }
        for source in MORE_SOURCES {
            net.on(CLIENT, &format!("ip address add {source}/16 dev {}", self.fabric.interface(CLIENT)));
        }
        for number in BACKENDS {
            if mode.shares_address() {
                net.on(number, &format!("ip address add {VIP}/16 dev {}", self.fabric.interface(number)));
            } else if mode.rewrite.is_direct() {
                net.own(number, &format!("{VIP}/32"));
                if mode.has(What::Ipv6) {
                    net.own(number, &format!("{VIP6}/128"));
                }
            }
            if mode.rewrite == Rewrite::Ipip {
                self.ends.push(Decapsulator::new(net, number, &self.fabric.interface(number)));
            }
        }
    }

    fn serve(&mut self) {
        let mode = self.mode;
        let any: IpAddr =
            if mode.has(What::Ipv6) { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let ports: Vec<u16> = WEB.iter().chain([&SIX]).map(|service| backend_port(&mode, service)).collect();
        let at = if mode.rewrite.is_direct() { VIP } else { "0.0.0.0" };
        for number in BACKENDS {
            self.servers.push(Server::web_and_lines(&self.fabric.net, number, any, &ports));
            if mode.has(What::Udp) {
                let at = format!("{at}:{}", backend_port(&mode, &UDP));
                self.servers.push(Server::udp_at(&self.fabric.net, number, &at));
            }
        }
    }

    fn balance(&mut self) {
        let placement = match self.mode.balancer {
            Balancer::Inline => format!("[placement]\nattach = {:?}\n", self.fabric.ports),
            Balancer::OneArmed => {
                let host = &self.fabric.hosts[BALANCER as usize - 1];
                format!("[placement]\nkind = \"onearm\"\nhost = \"{host}\"\n")
            }
            _ => return,
        };
        self.lb.folder.file("lb.toml", &configuration(&self.mode, &placement));
        self.lb.start();
    }

    fn wait_in_rotation(&mut self) {
        match self.mode.balancer {
            Balancer::Nox(_) => BACKENDS.iter().for_each(|number| self.introduce(*number)),
            _ => BACKENDS.iter().for_each(|number| self.wait_state(*number, "up")),
        }
        if self.mode.balancer == Balancer::OneArmed && self.mode.rewrite == Rewrite::Nat {
            self.wait_answers_are_led_back();
        }
    }

    /// Entries that lead the answers of each service to the balancer's host.
    fn wait_answers_are_led_back(&self) {
        let services = WEB.iter().chain([&UDP]);
        let wanted: Vec<(String, u16)> = services
            .flat_map(|service| BACKENDS.map(|number| (address(number), backend_port(&self.mode, service))))
            .collect();
        let led = || {
            let flows = self.fabric.read(&["flows"]);
            let flows = flows["flows"].as_array().unwrap().clone();
            let steered = |(address, port): &(String, u16)| {
                flows.iter().any(|flow| {
                    flow["purpose"] == "steer"
                        && flow["ip_src"] == address.as_str()
                        && flow["src_port"] == *port
                })
            };
            wanted.iter().all(steered)
        };
        wait("entries for the answers", 20, led, || self.state());
    }

    /// Lets NOX's balancer hear that a host has the address: it asks for the client from there.
    pub fn introduce(&self, number: u32) {
        let ping = format!("ping -q -c 1 -W 1 -I {VIP} {}", address(CLIENT));
        let mac = format!("02:00:00:00:00:{number:02x}");
        let known = || {
            // Whom the client answers is another question: several hosts have this address.
            self.fabric.net.try_on(number, &ping);
            let told = self.fabric.read(&["hosts"]);
            let mut hosts = told["hosts"].as_array().unwrap().iter();
            hosts.any(|host| host["mac"] == mac.as_str() && host["address"] == VIP)
        };
        wait("a host that shares the address is known", 20, known, || self.state());
    }

    /// What is known when something fails.
    pub fn state(&self) -> String {
        let mode = self.mode;
        let daemon = if mode.is_xdp() { format!("{:#}\n", self.lb.status()["vips"]) } else { String::new() };
        format!("{mode}: {daemon}{:#?}\n{}", self.lb.log(), self.fabric.log())
    }

    /// The services of TCP over IPv4 that the mode has.
    pub fn web(&self) -> Vec<Service> {
        WEB.into_iter().filter(|service| self.mode.has(service.what)).collect()
    }

    /// The one of them that every mode has its own of.
    pub fn main_service(&self) -> Service {
        if self.mode.has(What::RoundRobin) { ROUND_ROBIN } else { RANDOM }
    }

    /// A request to a service of the VIP, with more arguments for curl; it has to be answered, from the VIP.
    pub fn ask_with(&self, client: u32, service: &Service, more: &[&str]) -> Answer {
        let (vip, bracketed) = match service.what {
            What::Ipv6 => (VIP6, format!("[{VIP6}]")),
            _ => (VIP, VIP.to_owned()),
        };
        let url = format!("http://{bracketed}:{}/", service.port);
        let told = [&["-w", " %{remote_ip} %{remote_port}"][..], more].concat();
        let done = curl_command(&self.fabric.net, client, &url, &told).output().expect("curl");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let [host, seen, peer, port] = words[..] else {
            panic!("{url} {more:?}: {text} {}; {}", String::from_utf8_lossy(&done.stderr), self.state());
        };
        assert!(done.status.success(), "{url}: {}; {}", String::from_utf8_lossy(&done.stderr), self.state());
        assert_eq!((peer, port), (vip, service.port.to_string().as_str()), "{}", self.mode);
        let host = host.strip_prefix('h').and_then(|number| number.parse().ok()).expect("a backend");
        let seen = seen.strip_prefix("::ffff:").unwrap_or(seen).to_owned();
        Answer { host, seen }
    }

    /// The hosts that answered so many requests of the client.
    pub fn ask(&self, service: &Service, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.ask_with(CLIENT, service, &[]).host).collect()
    }

    /// An open connection to a service, and the host that it is at.
    pub fn open(&self, service: &Service) -> (Talk, u32) {
        let mut talk = talk(&self.fabric.net, CLIENT, &format!("{VIP}:{}", service.port));
        let first = talk.say("first").unwrap_or_else(|error| panic!("{error}; {}", self.state()));
        let host = first.split(' ').next().and_then(|number| number.parse().ok()).expect("a backend");
        (talk, host)
    }

    /// States of a backend in all VIPs over IPv4; one for POX's balancer.
    fn states(&self, number: u32) -> Vec<String> {
        let host = address(number);
        if self.mode.balancer == Balancer::Pox {
            let status = self.fabric.read(&["status"]);
            let servers = status["classic"]["servers"].as_array().unwrap().clone();
            let here = servers.into_iter().filter(|server| server["address"] == host.as_str());
            return here.map(|server| if server["up"] == true { "up" } else { "down" }.to_owned()).collect();
        }
        let status = if self.mode.is_xdp() {
            self.lb.status()
        } else {
            self.fabric.read(&["status"])["balancing"].clone()
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let backends = list(&status["vips"]).into_iter().flat_map(|vip| list(&vip["backends"]));
        let here = backends.filter(|backend| backend["address"] == host.as_str());
        here.map(|backend| backend["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a backend is in this state in all VIPs over IPv4.
    pub fn wait_state(&self, number: u32, state: &str) {
        let holds = || {
            let states = self.states(number);
            !states.is_empty() && states.iter().all(|one| one == state)
        };
        wait(&format!("{} {state}", address(number)), 30, holds, || {
            format!("{:?} {}", self.states(number), self.state())
        });
    }

    /// `lb backend` or `ofshim backend`, about a backend in all VIPs.
    pub fn order(&self, order: &str, number: u32) {
        let name = format!("h{number}");
        if self.mode.is_xdp() {
            let done = self.lb.ask(&["backend", order, &name]);
            assert!(done.status.success(), "{order}: {}", String::from_utf8_lossy(&done.stderr));
        } else {
            self.fabric.read(&["backend", order, &name]);
        }
    }

    /// Lets a backend answer no ARP any more, or answer it again. Nothing else changes: it would serve whoever came.
    pub fn silence(&self, number: u32, silent: bool) {
        let interface = self.fabric.interface(number);
        let value = if silent { 8 } else { 0 };
        self.fabric.net.on(number, &format!("sysctl -q -w net.ipv4.conf.{interface}.arp_ignore={value}"));
    }

    /// The client's MAC of the VIP, as its neighbour table has it.
    pub fn vips_neighbour(&self) -> String {
        let told = self.fabric.net.on(CLIENT, &format!("ip neighbour show {VIP}"));
        let mut words = told.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).unwrap_or_else(|| panic!("{told}; {}", self.state())).to_owned()
    }

    /// Interfaces of hosts and switch that have an XDP program.
    pub fn programs(&self) -> Vec<String> {
        let ports = self.fabric.ports.iter().map(|port| must(&format!("ip -d link show dev {port}")));
        let hosts = self.fabric.net.hosts().map(|number| self.fabric.net.on(number, "ip -d link show"));
        ports.chain(hosts).filter(|text| text.contains("prog/xdp")).collect()
    }
}

/// The port at which a backend serves.
pub fn backend_port(mode: &Mode, service: &Service) -> u16 {
    service.port + if mode.has(What::Translation) { TRANSLATED_BY } else { 0 }
}

/// The configuration: a VIP for each service that the mode has.
fn configuration(mode: &Mode, placement: &str) -> String {
    let mut text = format!("{placement}\n[connections]\nudp_s = 5\n");
    for service in WEB.iter().chain([&UDP, &SIX]).filter(|service| mode.has(service.what)) {
        let six = service.what == What::Ipv6;
        let (vip, tunnel) = if six { (VIP6, "2001:db8::254") } else { (VIP, "10.0.0.254") };
        let tunnel = match mode.rewrite {
            Rewrite::Ipip => format!("tunnel_source = \"{tunnel}\"\n"),
            _ => String::new(),
        };
        let port = match mode.has(What::Translation) {
            true => format!(", port = {}", backend_port(mode, service)),
            false => String::new(),
        };
        let backends: Vec<String> = BACKENDS
            .iter()
            .zip(service.weights)
            .map(|(number, weight)| {
                let address = if six { format!("2001:db8::{number}") } else { address(*number) };
                format!("{{ name = \"h{number}\", address = \"{address}\"{port}, weight = {weight} }}")
            })
            .collect();
        text += &format!(
            "\n[[vip]]\naddress = \"{vip}\"\nport = {}\nmode = \"{}\"\nselection = \"{}\"\n{}{tunnel}backend = [{}]\n",
            service.port,
            mode.rewrite.word(),
            service.selection,
            service.more,
            backends.join(", ")
        );
    }
    text
}

/// What the controller is started with.
fn controller_options(mode: &Mode, file: &str) -> Vec<String> {
    let servers = BACKENDS.map(address).join(",");
    let words: &[&str] = match mode.balancer {
        Balancer::Pox => &["--lb", "pox", "--ip", VIP, "--servers", &servers],
        Balancer::Nox("nox") => &["--lb", "nox", "--age", "6", "--idle-timeout", "3"],
        Balancer::Nox(form) => &["--lb", form],
        Balancer::Entries(form) => {
            &["--lb", "openflow", "--lb-entries", form, "--config", file, "--idle-timeout", "3"]
        }
        Balancer::Inline | Balancer::OneArmed => &[],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}
