//! Balancing by flow entries, in memory and in both versions: where does a packet come out, with which bytes, and how
//! often is the controller asked?

mod model;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_core::host::config::Config;
use lb_core::host::overlay::{Order, Overlay, Whom};
use model::segment::{ACK, FIN, RST, SYN, TCP, UDP};
use model::{BROADCAST, Fabric, Model, Segment, Station, arp, host};
use ofshim::core::balance::{self, BackendOrder, EntriesKind, Ordered};
use ofshim::core::{Command, Settings, view};
use openflow::{MacAddr, Version};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const VIRTUAL: MacAddr = MacAddr([2, 0x6c, 10, 0, 1, 1]);
const VIP: [u8; 4] = [10, 0, 1, 1];

type End = (u64, u32);

/// Hosts by number: where they are. 1 and 2 are backends, 9 is a client.
struct Bed {
    fabric: Fabric,
    at: BTreeMap<u8, End>,
}

const WEB: &str = "name = \"web\"\naddress = \"10.0.1.1\"\nport = 80\nselection = \"round-robin\"\n";

fn backend(number: u8) -> String {
    format!("[[vip.backend]]\nname = \"h{number}\"\naddress = \"10.0.0.{number}\"\n")
}

/// VIP `web` with these settings, and backends 1 and 2.
fn web(more: &str) -> String {
    format!("[[vip]]\n{WEB}{more}\n{}{}", backend(1), backend(2))
}

fn settings(config: &str) -> Settings {
    let config = Config::from_toml(config, "lb.toml").unwrap();
    let entries = EntriesKind::Reactive;
    Settings { balancing: Some(balance::Settings { config, entries, seed: 7 }), ..Settings::default() }
}

impl Bed {
    fn new(version: Version, config: &str, switches: u64, wires: &[(End, End)], hosts: &[(u8, End)]) -> Self {
        let fabric = Fabric::new(version, settings(config), 1..=switches, 9, wires);
        let mut bed = Self { fabric, at: hosts.iter().copied().collect() };
        for (number, end) in hosts {
            let v6 = format!("2001:db8::{number}").parse().unwrap();
            let addresses = vec![IpAddr::from([10, 0, 0, *number]), v6];
            let station = Station { mac: host(*number), addresses, lives: true };
            bed.fabric.stations.insert(*end, station);
            bed.announce(*number);
        }
        bed.pass(2_000);
        bed
    }

    /// One switch; host n is at port n.
    fn single(version: Version, config: &str) -> Self {
        Self::new(version, config, 1, &[], &[(1, (1, 1)), (2, (1, 2)), (9, (1, 9))])
    }

    /// Three switches in a row, the client at the first, a backend at each other.
    fn row(version: Version, config: &str) -> Self {
        let wires = [((1, 3), (2, 2)), ((2, 3), (3, 2))];
        Self::new(version, config, 3, &wires, &[(1, (2, 1)), (2, (3, 1)), (9, (1, 1))])
    }

    fn announce(&mut self, number: u8) {
        let frame = arp(1, host(number), BROADCAST, [10, 0, 0, number], [10, 0, 0, number]);
        self.fabric.inject(self.at[&number], &frame);
    }

    fn pass(&mut self, ms: u64) {
        self.fabric.pass(Duration::from_millis(ms));
    }

    /// A packet leaves a host; what comes out, where.
    fn send(&mut self, from: u8, segment: &Segment) -> Vec<(End, Segment)> {
        self.fabric.inject(self.at[&from], &segment.bytes());
        let arrived = self.fabric.arrived.iter();
        arrived.filter_map(|(end, bytes)| Some((*end, Segment::read(bytes)?))).collect()
    }

    /// A packet that arrives at one host alone: which, and what arrives.
    fn one(&mut self, from: u8, segment: &Segment) -> (u8, Segment) {
        let out = self.send(from, segment);
        let [(end, segment)] = out.as_slice() else { panic!("{out:?}: {:#?}", self.fabric.net.log) };
        let to = self.at.iter().find(|(_, at)| *at == end).map(|(number, _)| *number);
        (to.expect("a host"), segment.clone())
    }

    /// A client's packet to the VIP, and the answer: the backend that it came to.
    fn exchange(&mut self, port: u16) -> u8 {
        let (backend, seen) = self.one(9, &request(port, SYN));
        assert_eq!((seen.dst, seen.dst_mac), (at(backend, 80), host(backend)));
        assert_eq!((seen.src, seen.src_mac), (at(9, port), host(9)), "the client's own address and MAC");
        let (client, answer) = self.one(backend, &seen.answer(SYN | ACK));
        assert_eq!((client, answer), (9, request(port, SYN).answer(SYN | ACK)), "as from the VIP");
        backend
    }

    fn packet_ins(&self) -> usize {
        self.fabric.packet_ins()
    }

    fn logged(&self, part: &str) -> usize {
        self.fabric.net.logged(part)
    }

    /// Entries of balanced connections on all switches.
    fn legs(&self) -> usize {
        let all = self.fabric.net.switches.values().flat_map(|model| &model.flows);
        all.filter(|flow| flow.cookie.0 >> 24 == 0x6f_6673_6808).count()
    }

    /// A backend is silent until it is out of rotation.
    fn kill(&mut self, number: u8) {
        let end = self.at[&number];
        self.fabric.stations.get_mut(&end).unwrap().lives = false;
        self.pass(1_500);
        assert_eq!(self.logged(&format!("backend 10.0.0.{number} down")), 1, "{:#?}", self.fabric.net.log);
    }
}

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 0, number]), port)
}

fn request(port: u16, flags: u8) -> Segment {
    Segment {
        src_mac: host(9),
        dst_mac: VIRTUAL,
        vlan: None,
        src: at(9, port),
        dst: SocketAddr::new(IpAddr::from(VIP), 80),
        protocol: TCP,
        flags,
        payload: b"hello".to_vec(),
    }
}

fn datagram(port: u16) -> Segment {
    Segment { protocol: UDP, flags: 0, ..request(port, 0) }
}

#[test]
fn backends_come_up_by_probes_that_nobody_else_sees() {
    for version in BOTH {
        let mut bed = Bed::row(version, &web(""));
        for number in [1, 2] {
            let up = format!("backend 10.0.0.{number} up (answered 2 probes)");
            assert_eq!(bed.logged(&up), 1, "{:#?}", bed.fabric.net.log);
        }
        bed.fabric.arrived.clear();
        bed.pass(1_000);
        let others = |end: &End| *end != bed.at[&1] && *end != bed.at[&2];
        let probes: Vec<_> = bed.fabric.arrived.iter().filter(|(_, frame)| frame[12..14] == [8, 6]).collect();
        assert!(probes.len() >= 6 && !probes.iter().any(|(end, _)| others(end)), "straight to the backends");
        let hosts = bed.fabric.net.controller.hosts(bed.fabric.net.now).hosts;
        assert!(!hosts.iter().any(|host| host.mac.starts_with("02:6f:66")), "{hosts:?}");
    }
}

#[test]
fn a_vip_is_resolved_by_the_controller() {
    for version in BOTH {
        let mut bed = Bed::row(version, &web(""));
        let question = arp(1, host(9), BROADCAST, [10, 0, 0, 9], VIP);
        let out = bed.fabric.inject(bed.at[&9], &question);
        assert_eq!(out, [], "not flooded");
        let answers = bed.fabric.answers(&question);
        assert_eq!(answers, [(bed.at[&9], arp(2, VIRTUAL, host(9), VIP, [10, 0, 0, 9]))]);
    }
}

#[test]
fn a_connection_costs_one_packet_in_and_its_packets_are_rewritten_both_ways() {
    for version in BOTH {
        for row in [false, true] {
            let config = web("");
            let mut bed = if row { Bed::row(version, &config) } else { Bed::single(version, &config) };
            let before = bed.packet_ins();
            let first = bed.exchange(40_000);
            assert_eq!((bed.packet_ins() - before, bed.legs()), (1, 2), "one packet-in, an entry each way");
            let second = bed.exchange(40_001);
            assert_ne!(first, second, "in turn");
            let before = bed.packet_ins();
            for flags in [ACK, ACK, FIN | ACK] {
                let (backend, seen) = bed.one(9, &request(40_000, flags));
                assert_eq!((backend, seen.flags), (first, flags));
                bed.one(backend, &seen.answer(flags));
            }
            // 1.3: copies of both ends, and soon the entries go.
            let (copies, left) = if version == Version::V1_3 { (2, 2) } else { (0, 4) };
            assert_eq!(bed.packet_ins(), before + copies, "the switches know the rest");
            bed.pass(100);
            assert_eq!(bed.legs(), left, "those of the other connection");
        }
    }
}

#[test]
fn ports_are_translated_and_no_other_traffic_is_touched() {
    for version in BOTH {
        let config = format!("[[vip]]\n{WEB}[[vip.backend]]\naddress = \"10.0.0.1\"\nport = 8080\n");
        let mut bed = Bed::row(version, &config);
        let (backend, seen) = bed.one(9, &request(40_000, SYN));
        assert_eq!((backend, seen.dst), (1, at(1, 8080)));
        let (_, answer) = bed.one(1, &seen.answer(ACK));
        assert_eq!(answer, request(40_000, SYN).answer(ACK));
        // Straight to the backend, to the same port and to another.
        for port in [8080, 22] {
            let direct = Segment { dst: at(1, port), dst_mac: host(1), ..request(41_000, SYN) };
            assert_eq!(bed.one(9, &direct), (1, direct.clone()));
            assert_eq!(bed.one(1, &direct.answer(ACK)), (9, direct.answer(ACK)));
        }
        // A port that no VIP serves.
        let other = Segment { dst: SocketAddr::new(IpAddr::from(VIP), 81), ..request(42_000, SYN) };
        assert_eq!(bed.send(9, &other), []);
    }
}

#[test]
fn a_retransmitted_syn_stays_where_it_was_and_datagrams_too() {
    for version in BOTH {
        let udp = "[[vip]]\nname = \"dns\"\naddress = \"10.0.1.1\"\nport = 80\nprotocol = \"udp\"\n";
        let mut bed = Bed::single(version, &format!("{}{udp}{}{}", web(""), backend(1), backend(2)));
        let first = bed.exchange(40_000);
        // Its entries are lost: the controller is asked again, and remembers.
        for model in bed.fabric.net.switches.values_mut() {
            model.flows.retain(|flow| flow.cookie.0 >> 24 != 0x6f_6673_6808);
        }
        bed.pass(1_100);
        assert_eq!(bed.exchange(40_000), first);
        let (backend, seen) = bed.one(9, &datagram(5_000));
        assert_eq!(bed.one(backend, &seen.answer(0)).1, datagram(5_000).answer(0));
        // The entries' timeout passes, the connection's does not.
        bed.pass(12_000);
        assert_eq!(bed.legs(), 0);
        assert_eq!(bed.one(9, &datagram(5_000)).0, backend);
        assert_eq!(bed.one(9, &request(40_000, ACK)).0, first);
    }
}

#[test]
fn entries_end_soon_after_fin_and_the_connection_is_forgotten_later() {
    for version in BOTH {
        let mut bed = Bed::single(version, &format!("[connections]\nclosing_s = 30\n{}", web("")));
        let backend = bed.exchange(40_000);
        let (_, seen) = bed.one(9, &request(40_000, FIN | ACK));
        bed.one(backend, &seen.answer(FIN | ACK));
        bed.pass(1_600);
        assert_eq!(bed.legs(), 0, "a second after the last packet");
        bed.pass(6_000);
        // What comes late still finds its backend, and its client.
        let (late, seen) = bed.one(9, &request(40_000, ACK));
        assert_eq!((late, bed.one(late, &seen.answer(FIN | ACK)).0), (backend, 9));
        assert_ne!(bed.exchange(40_000), backend, "another connection, and the next in turn");
        bed.one(9, &request(40_000, RST));
        bed.pass(40_000);
        let balancer = bed.fabric.net.controller.network().balancer().unwrap();
        assert_eq!((balancer.connections().len(), balancer.pins.len()), (0, 0));
    }
}

#[test]
fn switches_that_are_not_open_vswitch_keep_entries_until_they_are_idle() {
    let mut bed = Bed::single(Version::V1_3, &web(""));
    let mut model: Model = bed.fabric.disconnect(1);
    model.maker = "Somebody".to_owned();
    bed.fabric.connect(model);
    bed.pass(1_000);
    let backend = bed.exchange(40_000);
    bed.one(9, &request(40_000, RST));
    bed.pass(3_000);
    assert_eq!(bed.legs(), 2);
    bed.pass(9_000);
    assert_eq!(bed.legs(), 0);
    assert!([1, 2].contains(&backend));
}

#[test]
fn connections_of_a_dead_backend_follow_the_policy_of_their_vip() {
    for version in BOTH {
        for policy in ["keep", "repick", "reset"] {
            let mut bed = Bed::row(version, &web(&format!("on_down = \"{policy}\"")));
            let ports: Vec<u16> = (40_000..40_004).collect();
            let backends: Vec<u8> = ports.iter().map(|port| bed.exchange(*port)).collect();
            let dead = backends[0];
            bed.kill(dead);
            let theirs = |backend: u8| backends.iter().filter(|of| **of == backend).count();
            let stay = if policy == "keep" { 4 } else { 4 - theirs(dead) };
            assert_eq!(bed.legs(), 2 * stay, "{policy}: entries go at once, and nobody else's");
            for (port, backend) in ports.iter().zip(&backends) {
                let packet = request(*port, ACK);
                match policy {
                    "reset" if *backend == dead => {
                        let (to, answer) = bed.one(9, &packet);
                        assert_eq!((to, answer.flags & RST, answer.src), (9, RST, packet.dst));
                    }
                    "repick" if *backend == dead => assert_ne!(bed.one(9, &packet).0, dead),
                    _ => assert_eq!(bed.one(9, &packet).0, *backend),
                }
            }
            assert_ne!(bed.one(9, &request(50_000, SYN)).0, dead, "{policy}: no new ones");
        }
    }
}

#[test]
fn nobody_up_is_answered_as_the_vip_says() {
    for version in BOTH {
        for (policy, answers) in [("drop", 0), ("reject", 1)] {
            let mut bed = Bed::single(version, &web(&format!("no_backend = \"{policy}\"")));
            bed.kill(1);
            bed.kill(2);
            let out = bed.send(9, &request(40_000, SYN));
            assert_eq!(out.len(), answers, "{policy}");
            assert!(out.iter().all(|(end, answer)| *end == bed.at[&9] && answer.flags & RST != 0));
            assert_eq!(bed.legs(), 0);
        }
        let mut bed = Bed::single(version, &web("no_backend = \"last-known\""));
        bed.kill(1);
        bed.kill(2);
        assert_eq!(bed.one(9, &request(40_000, SYN)).0, 2, "who was last");
    }
}

#[test]
fn ipv6_is_balanced_where_the_switches_can_and_refused_by_name_where_they_cannot() {
    let vip = "[[vip]]\naddress = \"2001:db8:1::1\"\nport = 80\n[[vip.backend]]\naddress = \"2001:db8::1\"\n";
    let request = |mac: MacAddr| Segment {
        dst_mac: mac,
        src: "[2001:db8::9]:40000".parse().unwrap(),
        dst: "[2001:db8:1::1]:80".parse().unwrap(),
        ..request(40_000, SYN)
    };
    for version in BOTH {
        let mut bed = Bed::row(version, vip);
        let mac = Config::from_toml(vip, "").unwrap().vips[0].mac.0;
        let packet = request(MacAddr(mac));
        assert_eq!(bed.logged("backend 2001:db8::1 up"), 1, "{:#?}", bed.fabric.net.log);
        if version == Version::V1_0 {
            assert_eq!((bed.send(9, &packet), bed.send(9, &packet)), (vec![], vec![]));
            assert_eq!(bed.logged("OpenFlow 1.0 cannot match or write IPv6"), 1);
            continue;
        }
        let (backend, seen) = bed.one(9, &packet);
        assert_eq!((backend, seen.dst), (1, "[2001:db8::1]:80".parse().unwrap()));
        assert_eq!(bed.one(1, &seen.answer(ACK)), (9, packet.answer(ACK)));
        assert_eq!(bed.legs(), 2);
    }
}

#[test]
fn with_dsr_the_mac_alone_is_written() {
    for version in BOTH {
        let mut bed = Bed::row(version, &web("mode = \"dsr\""));
        let before = bed.packet_ins();
        let (backend, seen) = bed.one(9, &request(40_000, SYN));
        assert_eq!(seen, Segment { dst_mac: host(backend), ..request(40_000, SYN) });
        let answer = seen.answer(SYN | ACK);
        assert_eq!(bed.one(backend, &answer), (9, answer), "as the backend sends it");
        assert_eq!((bed.packet_ins() - before, bed.legs()), (1, 1), "the way back is a route");
    }
}

#[test]
fn packets_in_vlans_keep_their_tag() {
    for version in BOTH {
        let mut bed = Bed::single(version, &web(""));
        let packet = Segment { vlan: Some(7), ..request(40_000, SYN) };
        let (_, seen) = bed.one(9, &packet);
        assert_eq!(seen.vlan, Some(7));
    }
}

#[test]
fn connections_follow_a_link_that_dies_and_a_host_that_moves() {
    for version in BOTH {
        // A ring of three: two ways from the client's switch to each backend's.
        let wires = [((1, 3), (2, 2)), ((2, 3), (3, 2)), ((3, 3), (1, 2))];
        let hosts = [(1, (2, 1)), (2, (3, 1)), (9, (1, 1))];
        let mut bed = Bed::new(version, &web(""), 3, &wires, &hosts);
        let backends: Vec<u8> = (40_000..40_004).map(|port| bed.exchange(port)).collect();
        bed.fabric.set_wire((1, 3), false);
        let before = bed.packet_ins();
        for (port, backend) in (40_000..).zip(&backends) {
            let (to, seen) = bed.one(9, &request(port, ACK));
            assert_eq!((to, bed.one(to, &seen.answer(ACK)).0), (*backend, 9));
        }
        assert_eq!(bed.packet_ins(), before, "entries were moved before their packets came");
        // Backend 1 moves to the third switch.
        let station = bed.fabric.stations.remove(&(2, 1)).unwrap();
        bed.fabric.stations.insert((3, 5), station);
        bed.at.insert(1, (3, 5));
        bed.announce(1);
        for (port, backend) in (40_000..).zip(&backends) {
            let (to, seen) = bed.one(9, &request(port, ACK));
            assert_eq!((to, bed.one(to, &seen.answer(ACK)).0), (*backend, 9), "after the move");
        }
    }
}

#[test]
fn a_new_controller_keeps_connections_that_it_finds() {
    for version in BOTH {
        let mut bed = Bed::row(version, &web(""));
        let backends: Vec<u8> = (40_000..40_004).map(|port| bed.exchange(port)).collect();
        let models: Vec<Model> = (1..=3).map(|dpid| bed.fabric.disconnect(dpid)).collect();
        let (wires, stations, now) =
            (bed.fabric.wires.clone(), bed.fabric.stations.clone(), bed.fabric.net.now);
        let mut fabric = Fabric::new(version, settings(&web("")), [], 9, &[]);
        (fabric.wires, fabric.stations, fabric.net.now) = (wires, stations, now);
        for model in models {
            fabric.connect(model);
        }
        bed.fabric = fabric;
        bed.pass(2_000);
        assert_eq!(bed.legs(), 8, "{:#?}", bed.fabric.net.log);
        let balancer = bed.fabric.net.controller.network().balancer().unwrap();
        assert_eq!((balancer.connections().len(), balancer.pins.len()), (4, 8));
        // Even where an entry is lost, its connection is known.
        for model in bed.fabric.net.switches.values_mut() {
            model.remove(|flow| flow.cookie.0 >> 24 == 0x6f_6673_6808);
        }
        for (port, backend) in (40_000..).zip(&backends) {
            assert_eq!(bed.one(9, &request(port, ACK)).0, *backend);
        }
        bed.pass(20_000);
        assert_eq!(bed.legs(), 0);
    }
}

#[test]
fn a_switch_that_comes_back_keeps_its_connections() {
    for version in BOTH {
        let mut bed = Bed::row(version, &web(""));
        let backend = bed.exchange(40_000);
        let mut model = bed.fabric.disconnect(1);
        bed.pass(500);
        model.flows.retain(|flow| flow.cookie.0 >> 24 != 0x6f_6673_6805);
        bed.fabric.connect(model);
        bed.pass(1_500);
        let before = bed.packet_ins();
        assert_eq!(bed.one(9, &request(40_000, ACK)).0, backend);
        assert_eq!(bed.packet_ins(), before);
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let config = format!("[connections]\ntable_size = 1024\nhalf_open_size = 1024\n{}", web(""));
    let mut bed = Bed::single(Version::V1_3, &config);
    for port in 10_000..14_000 {
        bed.send(9, &request(port, SYN));
    }
    let balancer = bed.fabric.net.controller.network().balancer().unwrap();
    let count = balancer.connections().len();
    assert!((900..=1024).contains(&count), "{count} connections");
    assert!(balancer.pins.connections() <= count);
    assert_eq!(bed.legs(), balancer.pins.len(), "entries of forgotten connections are deleted");
    let (backend, _) = bed.one(9, &request(13_999, ACK));
    assert!([1, 2].contains(&backend));
}

#[test]
fn a_full_switch_forwards_packet_by_packet() {
    for version in BOTH {
        let mut bed = Bed::single(version, &web(""));
        bed.fabric.model(1).room = bed.fabric.model(1).flows.len();
        let backend = bed.exchange(40_000);
        for _ in 0..3 {
            assert_eq!(bed.one(9, &request(40_000, ACK)).0, backend);
        }
        assert_eq!(bed.legs(), 0);
        bed.fabric.model(1).room = usize::MAX;
        bed.pass(1_500);
        bed.exchange(40_000);
        assert_eq!(bed.legs(), 2);
    }
}

/// Gives an order at a time in milliseconds since 1970: how many messages follow, and what is balanced then.
fn order(
    bed: &mut Bed,
    backend: &str,
    order: Order,
    unix_ms: u64,
) -> Result<(usize, view::Balancing), String> {
    let order = BackendOrder { backend: backend.to_owned(), vip: None, order };
    let ordered = bed.fabric.net.controller.ordered(&order, unix_ms)?;
    Ok(obey(bed, ordered))
}

/// Carries it out.
fn obey(bed: &mut Bed, ordered: Ordered) -> (usize, view::Balancing) {
    let now = bed.fabric.net.now;
    let (commands, view) = bed.fabric.net.controller.obey_order(ordered, now);
    let changes = commands.iter().filter(|command| matches!(command, Command::Send { .. })).count();
    bed.fabric.net.order(commands);
    bed.fabric.run();
    (changes, view)
}

#[test]
fn orders_change_who_gets_new_connections_and_nothing_else() {
    for version in BOTH {
        let mut bed = Bed::row(version, &web(""));
        let backends: Vec<u8> = (40_000..40_004).map(|port| bed.exchange(port)).collect();
        let (sent, view) = order(&mut bed, "h1", Order::Drain { deadline_ms: None }, 0).unwrap();
        assert_eq!((sent, view.vips[0].backends[0].state.as_str()), (0, "draining"), "entries stay");
        assert_eq!((view.connections, view.pinned, view.flow_entries), (4, 4, 8));
        for (port, backend) in (40_000..).zip(&backends) {
            assert_eq!(bed.one(9, &request(port, ACK)).0, *backend);
        }
        for port in 50_000..50_004 {
            assert_eq!(bed.exchange(port), 2);
        }
        order(&mut bed, "h1", Order::Enable, 0).unwrap();
        order(&mut bed, "h2", Order::Weight(0), 0).unwrap();
        assert_eq!(bed.exchange(50_010), 1);
        let refused = order(&mut bed, "h7", Order::Disable, 0).unwrap_err();
        assert!(refused.contains("h7") && !refused.contains('\n'), "{refused}");
    }
}

#[test]
fn backends_come_by_order_and_those_that_go_keep_their_connections_until_these_end() {
    for version in BOTH {
        let hosts = [(1, (2, 1)), (2, (3, 1)), (3, (1, 2)), (9, (1, 1))];
        let wires = [((1, 3), (2, 2)), ((2, 3), (3, 2))];
        let config = format!("[connections]\nestablished_s = 5\n{}", web(""));
        let mut bed = Bed::new(version, &config, 3, &wires, &hosts);
        let backends: Vec<u8> = (40_000..40_002).map(|port| bed.exchange(port)).collect();
        let old = 40_000 + u16::try_from(backends.iter().position(|number| *number == 1).unwrap()).unwrap();

        let add = Order::Add { name: Some("h3".to_owned()), weight: 1 };
        order(&mut bed, "10.0.0.3", add.clone(), 0).unwrap();
        let twice = order(&mut bed, "10.0.0.3", add, 0).unwrap_err();
        assert_eq!(twice, "backend h3 is in VIP web already");
        bed.pass(1_500);
        assert_eq!(bed.logged("backend 10.0.0.3 up"), 1, "{:#?}", bed.fabric.net.log);
        let mut seen: Vec<u8> = (41_000..41_003).map(|port| bed.exchange(port)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3], "in turn");

        let (sent, view) = order(&mut bed, "h1", Order::Remove, 0).unwrap();
        let leaving = view.vips[0].backends.iter().find(|backend| backend.name == "h1").unwrap();
        assert_eq!((sent, leaving.admin.as_str(), leaving.open), (0, "leaving", Some(2)), "entries stay");
        assert_eq!(bed.one(9, &request(old, ACK)).0, 1);
        for port in 42_000..42_004 {
            assert_ne!(bed.exchange(port), 1);
        }
        let gone = order(&mut bed, "h1", Order::Disable, 0).unwrap_err();
        assert_eq!(gone, "no backend h1; there are h2, h3");

        bed.pass(25_000);
        assert_eq!(bed.logged("backend h1 of VIP 10.0.1.1:80/tcp has left"), 1, "{:#?}", bed.fabric.net.log);
        let now = bed.fabric.net.now;
        let status = bed.fabric.net.controller.status(&[], now);
        let names: Vec<String> =
            status.balancing.unwrap().vips[0].backends.iter().map(|backend| backend.name.clone()).collect();
        assert_eq!(names, ["h2", "h3"]);
        // It can come back.
        order(&mut bed, "10.0.0.1", Order::Add { name: Some("h1".to_owned()), weight: 1 }, 0).unwrap();
        bed.pass(1_500);
        let seen: Vec<u8> = (43_000..43_003).map(|port| bed.exchange(port)).collect();
        assert!(seen.contains(&1), "{seen:?}");
    }
}

#[test]
fn at_the_deadline_of_a_drain_its_connections_are_those_of_a_dead_backend() {
    for (on_down, stays) in [("repick", false), ("keep", true)] {
        let mut bed = Bed::row(Version::V1_3, &web(&format!("on_down = \"{on_down}\"")));
        let backends: Vec<u8> = (40_000..40_002).map(|port| bed.exchange(port)).collect();
        let old = 40_000 + u16::try_from(backends.iter().position(|number| *number == 1).unwrap()).unwrap();
        let drain = Order::Drain { deadline_ms: Some(500) };
        let (_, view) = order(&mut bed, "h1", drain, 1_000).unwrap();
        assert_eq!(view.vips[0].backends[0].drains_until_ms, Some(1_500));
        bed.pass(6_000);
        assert_eq!((bed.one(9, &request(old, ACK)).0, bed.logged("drained")), (1, 0));
        assert_eq!(bed.fabric.net.controller.overdue(1_499), None);
        let over = bed.fabric.net.controller.overdue(1_500).expect("it is over");
        let (_, view) = obey(&mut bed, over);
        assert_eq!(view.vips[0].backends[0].admin, "disabled");
        let line = "disabled: the drain's deadline is over with 1 connections left";
        assert_eq!(bed.logged(line), 1, "{:#?}", bed.fabric.net.log);
        let expected = if stays { 1 } else { 2 };
        assert_eq!(bed.one(9, &request(old, ACK)).0, expected, "{on_down}");
        assert_eq!(bed.exchange(41_000), 2);
        assert_eq!(bed.fabric.net.controller.overdue(9_999), None, "once");
    }
}

#[test]
fn a_backend_without_connections_is_drained() {
    let mut bed = Bed::row(Version::V1_3, &web(""));
    order(&mut bed, "h1", Order::Drain { deadline_ms: None }, 0).unwrap();
    bed.pass(11_000);
    assert_eq!(bed.logged("drained: no connection left"), 1, "{:#?}", bed.fabric.net.log);
}

#[test]
fn orders_of_the_controller_before_hold() {
    let mut bed = Bed::row(Version::V1_3, &web(""));
    let whom = Whom { backend: "h1", vip: None };
    let config = Config::from_toml(&web(""), "lb.toml").unwrap();
    let (overlay, _) = Overlay::default().ordered(&config, whom, &Order::Disable, 0).unwrap();
    let now = bed.fabric.net.now;
    bed.fabric.net.controller.recall(overlay, now);
    bed.pass(1_500);
    assert_eq!((40_000..40_004).map(|port| bed.exchange(port)).collect::<Vec<u8>>(), [2, 2, 2, 2]);
    order(&mut bed, "h1", Order::Enable, 0).unwrap();
    assert!((41_000..41_004).any(|port| bed.exchange(port) == 1));
}

/// What a window of a quarter of a second takes of ten connections a second.
#[test]
fn caps_on_new_connections_hold_as_in_xdp() {
    let of_all = format!("[connections]\nmax_new_per_s = 10\n{}", web(""));
    for (config, reason) in [(of_all, "new_flow_cap"), (web("max_new_per_source_s = 10"), "source_limit")] {
        for version in BOTH {
            let mut bed = Bed::single(version, &config);
            let open = |bed: &mut Bed, first: u16| {
                (first..first + 5).filter(|port| !bed.send(9, &request(*port, SYN)).is_empty()).count()
            };
            assert_eq!(open(&mut bed, 40_000), 3, "{reason}");
            let now = bed.fabric.net.now;
            let packets = bed.fabric.net.controller.status(&[], now).balancing.unwrap().packets;
            assert_eq!(packets.get(reason), Some(&2), "{packets:?}");
            bed.pass(600);
            assert_eq!(open(&mut bed, 41_000), 3, "{reason}, in another window");
        }
    }
}

#[test]
fn explain_names_the_backend_and_the_way() {
    use ofshim::core::net::explain::{Asked, End};
    let mut bed = Bed::row(Version::V1_3, &web("").replace("round-robin", "maglev"));
    let asked = |port: u16| Asked {
        from: End::Ip([10, 0, 0, 9].into()),
        to: End::Ip(VIP.into()),
        vlan: None,
        protocol: TCP,
        ports: Some((port, 80)),
    };
    let foreseen = bed.fabric.net.controller.explain(asked(40_000)).unwrap();
    assert_eq!((foreseen.outcome.as_str(), foreseen.installed), ("route", false), "{foreseen:?}");
    let backend = bed.exchange(40_000);
    let told = bed.fabric.net.controller.explain(asked(40_000)).unwrap();
    assert!(told.installed && told.hops == foreseen.hops, "{told:?} {foreseen:?}");
    assert_eq!(told.hops.len(), if backend == 1 { 2 } else { 3 });
    let says = |part: &str| told.why.iter().any(|line| line.contains(part));
    assert!(says("for VIP web; the connection is known: 2 flow entries"), "{told:?}");
    assert!(says(&format!("to backend h{backend} (up)")), "{told:?}");
    let other = Asked { ports: Some((40_000, 81)), ..asked(1) };
    assert_eq!(bed.fabric.net.controller.explain(other).unwrap().outcome, "drop");
}
