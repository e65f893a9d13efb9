//! Discovery over facts written by hand: the networks that Mininet users build, and what goes wrong.

use std::path::PathBuf;

use super::super::facts::Space;
use super::super::mininet::Nodes;
use super::super::netns::NsId;
use super::super::ovs::{Bridge, Port};
use super::*;

fn space_ref(number: u64) -> NsRef {
    NsRef { id: NsId { dev: 4, ino: number }, path: PathBuf::from(format!("/proc/{number}/ns/net")) }
}

fn link(name: &str, ifindex: u32) -> Link {
    Link {
        name: name.to_owned(),
        ifindex,
        mac: Some(Mac([2, 0, 0, 0, 0, ifindex as u8])),
        mtu: 1500,
        up: true,
        carrier: true,
        kind: Some("veth".to_owned()),
        peer_ifindex: None,
        peer_nsid: None,
        master: None,
        qdisc: Some("noqueue".to_owned()),
        shaping: None,
        addresses: Vec::new(),
        xdp: None,
    }
}

/// A network under construction: one root namespace, and hosts numbered from 1 with the address 10.0.0.N/8.
struct Net(Facts);

impl Net {
    fn new() -> Self {
        let (links, spaces, nodes) = (Vec::new(), Vec::new(), Nodes::default());
        Self(Facts { root: space_ref(1), links, spaces, nodes, bridges: Ok(Vec::new()) })
    }

    /// Mininet's single,N.
    fn single(hosts: u32) -> Self {
        let mut net = Self::new();
        net.switch("s1");
        for n in 1..=hosts {
            net.host("s1", n, n);
        }
        net
    }

    fn node(name: &str, pid: u32, number: u64) -> Node {
        Node { name: name.to_owned(), pid, ns: space_ref(number) }
    }

    fn bridge(&mut self, name: &str) -> &mut Bridge {
        let bridges = self.0.bridges.as_mut().expect("bridges are known");
        bridges.iter_mut().find(|bridge| bridge.name == name).expect("bridge")
    }

    fn port(&mut self, bridge: &str, name: &str, kind: &str) {
        self.bridge(bridge).ports.push(Port { name: name.to_owned(), kind: kind.to_owned() });
    }

    fn switch(&mut self, name: &str) {
        self.0.nodes.local.push(Self::node(name, 900, 1));
        let bridge = Bridge { name: name.to_owned(), datapath_type: "netdev".to_owned(), ports: Vec::new() };
        self.0.bridges.as_mut().expect("bridges are known").push(bridge);
        self.port(name, name, "internal");
        let index = 500 + self.0.links.len() as u32;
        self.0.links.push(Link { kind: Some("tun".to_owned()), ..link(name, index) });
    }

    /// Host number `n` on port `number` of a switch. Every host's interface has the index 2, as in Mininet.
    fn host(&mut self, switch: &str, number: u32, n: u32) {
        let name = format!("{switch}-eth{number}");
        let index = 10 + self.0.links.len() as u32;
        let port = Link { peer_ifindex: Some(2), peer_nsid: Some(n as i32), ..link(&name, index) };
        self.0.links.push(port);
        self.port(switch, &name, "");
        let address = IpAddr::from([10, 0, 0, n as u8]);
        let nic = Link {
            peer_ifindex: Some(index),
            peer_nsid: Some(0),
            addresses: vec![IfAddress { address, prefix_len: 8 }],
            mac: Some(Mac([0, 0, 0, 0, 0, n as u8])),
            ..link(&format!("h{n}-eth0"), 2)
        };
        let host = Self::node(&format!("h{n}"), 100 + n, u64::from(100 + n));
        self.0.spaces.push(Space {
            ns: host.ns.clone(),
            nsid: Some(n as i32),
            host: Some(host.name.clone()),
            links: vec![Link { kind: None, ..link("lo", 1) }, nic],
        });
        self.0.nodes.hosts.push(host);
    }

    /// A veth between two switches.
    fn cable(&mut self, a: (&str, u32), b: (&str, u32)) {
        let names = [a, b].map(|(switch, number)| format!("{switch}-eth{number}"));
        let index = 10 + self.0.links.len() as u32;
        self.0.links.push(Link { peer_ifindex: Some(index + 1), ..link(&names[0], index) });
        self.0.links.push(Link { peer_ifindex: Some(index), ..link(&names[1], index + 1) });
        self.port(a.0, &names[0], "");
        self.port(b.0, &names[1], "");
    }

    fn link_mut(&mut self, name: &str) -> &mut Link {
        self.0.links.iter_mut().find(|link| link.name == name).expect("link")
    }
}

fn ips(last: &[u8]) -> Vec<IpAddr> {
    last.iter().map(|&n| IpAddr::from([10, 0, 0, n])).collect()
}

fn names(ports: &[HostPort]) -> Vec<&str> {
    ports.iter().map(|port| port.ifname.as_str()).collect()
}

#[test]
fn single_six_as_in_the_articles_experiment() {
    let net = Net::single(6);
    let found = inline(&net.0, &[], &ips(&[1, 2])).expect("found");
    assert_eq!(names(&found.ports), ["s1-eth1", "s1-eth2", "s1-eth3", "s1-eth4", "s1-eth5", "s1-eth6"]);
    assert_eq!(found.skipped, []);
    let first = found.port("s1-eth1").expect("port");
    assert_eq!((first.switch.as_deref(), &first.backends), (Some("s1"), &ips(&[1])));
    let peer = first.peer.as_ref().expect("peer");
    assert_eq!((peer.host.as_deref(), peer.ifname.as_str(), peer.ifindex), (Some("h1"), "h1-eth0", 2));
    assert_eq!(peer.ns, space_ref(101));
    assert_eq!(found.client_ports().count(), 4);
    let place =
        Place { ip: ips(&[2])[0], port: Some("s1-eth2".to_owned()), mac: Some(Mac([0, 0, 0, 0, 0, 2])) };
    assert_eq!(found.backends[1], place);
}

#[test]
fn ports_are_sorted_as_people_count() {
    let net = Net::single(11);
    let found = inline(&net.0, &[], &[]).expect("found");
    assert_eq!(found.ports[9].ifname, "s1-eth10");
    assert_eq!(found.ports[1].ifname, "s1-eth2");
}

#[test]
fn links_between_switches_are_never_taken() {
    let mut net = Net::new();
    for name in ["s1", "s2"] {
        net.switch(name);
    }
    net.host("s1", 1, 1);
    net.host("s2", 1, 2);
    net.cable(("s1", 2), ("s2", 2));
    let found = inline(&net.0, &[], &ips(&[1])).expect("found");
    assert_eq!(names(&found.ports), ["s1-eth1", "s2-eth1"]);
    let skipped: Vec<_> = found.skipped.iter().map(|s| (s.ifname.as_str(), s.reason.as_str())).collect();
    assert_eq!(
        skipped,
        [
            ("s1-eth2", "a link between switches, to s2-eth2"),
            ("s2-eth2", "a link between switches, to s1-eth2")
        ]
    );
    assert!(!found.ports[0].takes_redirects_from(&found.ports[1]), "two switches");
    let error = inline(&net.0, &["s1-eth2".to_owned()], &[]).expect_err("a switch link");
    assert_eq!(error, DiscoveryError::SwitchLink { name: "s1-eth2".to_owned(), peer: "s2-eth2".to_owned() });
}

#[test]
fn redirects_stay_within_a_switch_and_never_pass_shaping() {
    let mut net = Net::single(3);
    net.link_mut("s1-eth1").shaping = Some("htb".to_owned());
    let found = inline(&net.0, &[], &[]).expect("found");
    let [shaped, free, other] = &found.ports[..] else { panic!("three ports") };
    assert!(!shaped.takes_redirects_from(free), "past TCLink's limit");
    assert!(free.takes_redirects_from(shaped));
    let unknown = HostPort { switch: None, ..other.clone() };
    assert!(!unknown.takes_redirects_from(&unknown));
}

#[test]
fn a_host_in_the_root_namespace_is_a_host() {
    let mut net = Net::single(1);
    net.0.nodes.local.push(Net::node("nat0", 901, 1));
    net.0.links.push(Link { peer_ifindex: Some(71), ..link("s1-eth2", 70) });
    net.0.links.push(Link { peer_ifindex: Some(70), ..link("nat0-eth0", 71) });
    net.port("s1", "s1-eth2", "");
    let found = inline(&net.0, &[], &[]).expect("found");
    assert_eq!(names(&found.ports), ["s1-eth1", "s1-eth2"]);
    let peer = found.ports[1].peer.as_ref().expect("peer");
    assert_eq!((peer.ifname.as_str(), &peer.ns), ("nat0-eth0", &space_ref(1)));
}

#[test]
fn other_ports_of_a_switch_are_named_with_their_reason() {
    let mut net = Net::single(1);
    net.0.links.push(Link { kind: None, ..link("eth7", 90) });
    net.0.links.push(Link { peer_ifindex: Some(9), peer_nsid: Some(44), ..link("far", 91) });
    net.0.links.push(Link { peer_ifindex: Some(9), ..link("ax", 92) });
    for (name, kind) in [("eth7", ""), ("far", ""), ("ax", "afxdp"), ("p0", "patch")] {
        net.port("s1", name, kind);
    }
    let found = inline(&net.0, &[], &[]).expect("found");
    assert_eq!(names(&found.ports), ["s1-eth1"]);
    let skipped: Vec<_> = found.skipped.iter().map(|s| s.ifname.as_str()).collect();
    assert_eq!(skipped, ["ax", "eth7", "far"]);
    assert!(found.skipped[1].reason.contains("--attach"), "{:?}", found.skipped[1]);

    // Named, the hardware port is taken; what is behind it only probing can tell.
    let found = inline(&net.0, &["eth7".to_owned()], &[IpAddr::from([192, 168, 0, 1])]).expect("found");
    assert_eq!((names(&found.ports), &found.ports[0].peer), (vec!["eth7"], &None));
    assert_eq!(found.backends[0].port, None);
    let error = inline(&net.0, &["ax".to_owned()], &[]).expect_err("no hook");
    assert!(matches!(error, DiscoveryError::NotAttachable { .. }), "{error}");
    let error = inline(&net.0, &["s1".to_owned()], &[]).expect_err("inner port");
    assert!(matches!(error, DiscoveryError::NotAttachable { .. }), "{error}");
}

#[test]
fn attach_takes_exactly_those() {
    let mut net = Net::single(3);
    net.0.links.push(Link { peer_ifindex: Some(2), peer_nsid: Some(3), ..link("loose", 80) });
    let wanted = ["s1-eth3", "loose", "s1-eth1", "s1-eth3"].map(str::to_owned);
    let found = inline(&net.0, &wanted, &ips(&[1])).expect("found");
    assert_eq!(names(&found.ports), ["loose", "s1-eth1", "s1-eth3"]);
    assert_eq!(found.port("loose").expect("port").switch, None, "in no switch: never redirected to");
    let error = inline(&net.0, &["s1-eth9".to_owned()], &[]).expect_err("missing").to_string();
    assert_eq!(
        error,
        "attach s1-eth9: there is no such interface here; there are s1, s1-eth1, s1-eth2, s1-eth3, loose"
    );
}

#[test]
fn backends_in_the_network_wait_and_others_are_refused() {
    let mut net = Net::single(2);
    let found = inline(&net.0, &[], &ips(&[1, 77])).expect("found");
    assert_eq!(found.backends[1], Place { ip: ips(&[77])[0], port: None, mac: None });
    let error = inline(&net.0, &[], &[IpAddr::from([192, 168, 7, 7])]).expect_err("elsewhere").to_string();
    assert_eq!(error, "backend 192.168.7.7 is on no attached network; the attached networks are 10.0.0.0/8");
    net.0.spaces[1].links[1].addresses[0].address = IpAddr::from([10, 0, 0, 1]);
    let error = inline(&net.0, &[], &ips(&[1])).expect_err("twice").to_string();
    assert!(error.contains("s1-eth1 to h1, s1-eth2 to h2"), "{error}");
    inline(&net.0, &["s1-eth2".to_owned()], &ips(&[1])).expect("only one of them is attached");
}

#[test]
fn without_mininet_or_open_vswitch_the_mend_is_named() {
    let mut net = Net::new();
    let error = inline(&net.0, &[], &[]).expect_err("nothing").to_string();
    assert_eq!(
        error,
        "no host-facing switch port found; start Mininet first, or name the interfaces with --attach"
    );
    net.0.bridges = Err(OvsError::NotRunning);
    let error = inline(&net.0, &[], &[]).expect_err("stopped").to_string();
    assert!(error.contains("ovs-ctl start"), "{error}");
}

#[test]
fn without_ovs_vsctl_mininets_names_count() {
    let mut net = Net::single(2);
    net.0.bridges = Err(OvsError::NotInstalled);
    let found = inline(&net.0, &[], &ips(&[1])).expect("found");
    assert_eq!(names(&found.ports), ["s1-eth1", "s1-eth2"]);
    assert_eq!(found.ports[0].switch.as_deref(), Some("s1"));
    net.0.nodes.local.clear();
    assert!(matches!(inline(&net.0, &[], &[]), Err(DiscoveryError::NoPorts(_))), "s1 is no Mininet node");
}

#[test]
fn a_linux_bridge_counts_if_mininet_made_it_or_its_port_is_named() {
    let mut net = Net::new();
    net.0.bridges = Err(OvsError::NotInstalled);
    net.0.links.push(Link { kind: Some("bridge".to_owned()), ..link("b1", 40) });
    net.0.links.push(Link { master: Some(40), peer_ifindex: Some(2), peer_nsid: Some(1), ..link("p1", 41) });
    net.0.links.push(Link { kind: Some("bridge".to_owned()), ..link("docker0", 42) });
    let foreign = Link { master: Some(42), peer_ifindex: Some(2), peer_nsid: Some(1), ..link("vethx", 43) };
    net.0.links.push(foreign);
    net.0.spaces.push(Space { ns: space_ref(7), nsid: Some(1), host: None, links: vec![link("eth0", 2)] });
    net.0.nodes.local.push(Net::node("b1", 900, 1));
    assert_eq!(names(&inline(&net.0, &[], &[]).expect("found").ports), ["p1"]);
    let found = inline(&net.0, &["vethx".to_owned()], &[]).expect("found");
    assert_eq!(found.ports[0].switch.as_deref(), Some("docker0"));
    assert_eq!(found.ports[0].peer.as_ref().map(|peer| peer.label.as_str()), Some("/proc/7/ns/net"));
}

#[test]
fn onearm_finds_the_host_its_interface_and_the_backends() {
    let mut net = Net::single(7);
    let found = onearm(&net.0, "h7", &ips(&[1, 2, 99])).expect("found");
    assert_eq!(
        (found.host.pid, found.nic.ifname.as_str(), found.port.ifname.as_str()),
        (107, "h7-eth0", "s1-eth7")
    );
    assert_eq!(found.nic.ns, space_ref(107));
    assert_eq!(found.ports.len(), 7);
    assert_eq!(found.backends[0].mac, Some(Mac([0, 0, 0, 0, 0, 1])));
    assert_eq!(found.backends[2], Place { ip: ips(&[99])[0], port: None, mac: None });
    let error = onearm(&net.0, "h7", &[IpAddr::from([192, 168, 7, 7])]).expect_err("elsewhere");
    assert!(matches!(error, DiscoveryError::BackendUnreachable { .. }), "{error}");
    // The same address on two hosts is what layer-2 DSR is for.
    net.0.spaces[1].links[1].addresses[0].address = IpAddr::from([10, 0, 0, 1]);
    assert_eq!(onearm(&net.0, "h7", &ips(&[1])).expect("found").backends[0].mac, None);
}

#[test]
fn onearm_names_the_hosts_there_are() {
    let mut net = Net::single(2);
    let error = onearm(&net.0, "lb1", &[]).expect_err("missing").to_string();
    assert_eq!(error, "--host lb1: no such Mininet host; found h1, h2");
    net.0.nodes.hosts.push(Net::node("h1", 777, 177));
    let error = onearm(&net.0, "h1", &[]).expect_err("twice").to_string();
    assert!(error.contains("(processes 101, 777)"), "{error}");
    net.0.nodes.hosts.push(Net::node("h9", 778, 178));
    let error = onearm(&net.0, "h9", &[]).expect_err("no link").to_string();
    assert_eq!(error, "--host h9: none of its interfaces leads to a switch; add a link to a switch");
    assert!(
        onearm(&Net::new().0, "h1", &[])
            .expect_err("none")
            .to_string()
            .ends_with("no Mininet host is running")
    );
}

#[test]
fn onearm_leaves_other_networks_of_the_machine_alone() {
    let mut net = Net::single(2);
    net.switch("s2");
    net.host("s2", 1, 3);
    net.cable(("s1", 9), ("s2", 9));
    net.switch("s3");
    net.host("s3", 1, 4);
    let found = onearm(&net.0, "h3", &ips(&[1])).expect("found");
    assert_eq!(names(&found.ports), ["s1-eth1", "s1-eth2", "s2-eth1"]);
}
