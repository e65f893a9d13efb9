//! Whole networks in memory, in both versions: where does a frame come out, how often, and by which way?

mod model;

use std::net::Ipv6Addr;
use std::time::Duration;

use model::{BROADCAST, Fabric, arp, host};
use ofshim::core::net::Granularity;
use ofshim::core::net::explain::{Asked, End as Party};
use ofshim::core::{Forwarding, Settings};
use openflow::{MacAddr, Version};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];

type End = (u64, u32);
type Wire = (End, End);

/// UDP from one host to another, numbered as their MACs and addresses.
fn udp(from: u8, to: u8, port: u16) -> Vec<u8> {
    let mut bytes = [host(to).0, host(from).0].concat();
    bytes.extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 80, 0, 26, 0, 0]);
    bytes.resize(60, from);
    bytes
}

fn answer(from: u8, to: u8, port: u16) -> Vec<u8> {
    let mut bytes = udp(from, to, 80);
    bytes[36..38].copy_from_slice(&port.to_be_bytes());
    bytes
}

fn ask(from: u8, to: u8) -> Vec<u8> {
    arp(1, host(from), BROADCAST, [10, 0, 0, from], [10, 0, 0, to])
}

/// Host n says that it is there.
fn announce(fabric: &mut Fabric, number: u8, at: End) -> Vec<End> {
    fabric.inject(at, &arp(1, host(number), BROADCAST, [10, 0, 0, number], [10, 0, 0, number]))
}

fn fabric(version: Version, switches: u64, ports: u32, wires: &[Wire]) -> Fabric {
    Fabric::new(version, Settings::default(), 1..=switches, ports, wires)
}

/// s1 - s2 - s3: hosts at port 1, the left neighbour at port 2, the right one at port 3.
fn line(length: u64) -> Vec<Wire> {
    (1..length).map(|dpid| ((dpid, 3), (dpid + 1, 2))).collect()
}

fn ring(length: u64) -> Vec<Wire> {
    let mut wires = line(length);
    wires.push(((length, 3), (1, 2)));
    wires
}

/// Every switch to every other; hosts at port 100.
fn mesh(size: u64) -> Vec<Wire> {
    let pairs = (1..=size).flat_map(|a| (a + 1..=size).map(move |b| (a, b)));
    pairs.map(|(a, b)| ((a, b as u32), (b, a as u32))).collect()
}

#[test]
fn the_worked_example_h1_s1_s2_s3_h2() {
    for version in BOTH {
        let mut net = fabric(version, 3, 3, &line(3));
        // ARP floods: to every port without a link, once.
        assert_eq!(net.inject((1, 1), &ask(1, 2)), [(1, 2), (2, 1), (3, 1), (3, 3)]);
        // The reply is led straight to the asker.
        let reply = arp(2, host(2), host(1), [10, 0, 0, 2], [10, 0, 0, 1]);
        assert_eq!(net.inject((3, 1), &reply), [(1, 1)]);
        // The echo gets one entry for each switch and direction, and goes over the wires of the shortest path.
        let first = udp(1, 2, 5000);
        assert_eq!(net.inject((1, 1), &first), [(3, 1)], "{version}");
        assert_eq!(net.way(&first), [(1, 3), (2, 3)]);
        assert_eq!([1, 2, 3].map(|dpid| net.routes(dpid)), [2, 2, 2], "both directions");
        let before = net.packet_ins();
        assert_eq!(net.inject((3, 1), &answer(2, 1, 5000)), [(1, 1)], "the answer has its way already");
        assert_eq!(net.inject((1, 1), &first), [(3, 1)]);
        assert_eq!(net.packet_ins(), before, "entries carry what follows");
        // Another connection is another flow, as five-tuples go.
        assert_eq!(net.inject((1, 1), &udp(1, 2, 5001)), [(3, 1)]);
        assert_eq!(net.routes(2), 4);
    }
}

/// IP of another protocol from one host to another.
fn of_protocol(from: u8, to: u8, protocol: u8) -> Vec<u8> {
    let mut bytes = udp(from, to, 0);
    bytes[23] = protocol;
    bytes
}

#[test]
fn what_is_not_tcp_or_udp_hides_no_ports() {
    for version in BOTH {
        // IGMP, IPv6 in IPv4, GRE, ESP, SCTP.
        for protocol in [2, 41, 47, 50, 132] {
            let mut net = fabric(version, 3, 3, &line(3));
            announce(&mut net, 1, (1, 1));
            announce(&mut net, 3, (3, 1));
            let first = of_protocol(1, 3, protocol);
            assert_eq!(net.inject((1, 1), &first), [(3, 1)], "{version}: {protocol}");
            let before = net.packet_ins();
            assert_eq!(net.inject((1, 1), &first), [(3, 1)]);
            assert_eq!(net.packet_ins(), before, "it has its own entries");
            // TCP and UDP between the same hosts have to be seen, and get entries of their own.
            for (number, frame) in [of_protocol(1, 3, 6), udp(1, 3, 7), udp(1, 3, 8)].iter().enumerate() {
                assert_eq!(net.inject((1, 1), frame), [(3, 1)]);
                assert_eq!(net.packet_ins(), before + number + 1, "{version}: behind protocol {protocol}");
                assert_eq!(net.inject((1, 1), frame), [(3, 1)]);
            }
            assert_eq!(net.packet_ins(), before + 3);
            assert_eq!(net.routes(2), 8);
        }
    }
}

#[test]
fn what_cannot_be_read_gets_no_entry_that_hides_others() {
    for version in BOTH {
        let mut net = fabric(version, 3, 3, &line(3));
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 3, (3, 1));
        let mut cut = udp(1, 3, 7);
        cut[14] = 0x4f;
        cut.truncate(40);
        let mut length = udp(1, 3, 7);
        length[12..14].copy_from_slice(&46_u16.to_be_bytes());
        for frame in [cut, length] {
            assert_eq!(net.inject((1, 1), &frame), [(3, 1)], "{version}: it goes on");
            assert_eq!([1, 2, 3].map(|dpid| net.routes(dpid)), [0; 3]);
        }
        // As coarse as configured it has entries.
        let settings = Settings { granularity: Granularity::Macs, ..Settings::default() };
        let mut net = Fabric::new(version, settings, 1..=3, 3, &line(3));
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 3, (3, 1));
        let mut length = udp(1, 3, 7);
        length[12..14].copy_from_slice(&46_u16.to_be_bytes());
        assert_eq!(net.inject((1, 1), &length), [(3, 1)]);
        assert_eq!(net.routes(2), 2);
    }
}

/// UDP over IPv6 behind these extension headers, the first of them of this kind.
fn udp6(from: u8, to: u8, port: u16, first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut bytes = [host(to).0, host(from).0].concat();
    let length = u16::try_from(extensions.len() + 8).unwrap();
    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend([first, 64]);
    bytes.extend(v6(from).octets());
    bytes.extend(v6(to).octets());
    bytes.extend(extensions);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 80, 0, 8, 0, 0]);
    bytes
}

fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number))
}

#[test]
fn ipv6_with_extension_headers_and_in_fragments_hides_no_ports() {
    const OPTIONS: [u8; 8] = [17, 0, 1, 4, 0, 0, 0, 0];
    const FIRST: [u8; 8] = [17, 0, 0, 1, 0, 0, 0, 7];
    const LATER: [u8; 8] = [17, 0, 0, 9, 0, 0, 0, 7];
    let mut net = fabric(Version::V1_3, 3, 3, &line(3));
    announce(&mut net, 1, (1, 1));
    announce(&mut net, 3, (3, 1));
    let mut packet_ins = net.packet_ins();
    for frame in [
        udp6(1, 3, 1, 0, &OPTIONS),
        udp6(1, 3, 2, 60, &OPTIONS),
        udp6(1, 3, 3, 44, &FIRST),
        udp6(1, 3, 3, 44, &LATER),
        udp6(1, 3, 4, 17, &[]),
        udp6(1, 3, 5, 17, &[]),
    ] {
        assert_eq!(net.inject((1, 1), &frame), [(3, 1)]);
        assert_eq!(net.packet_ins(), packet_ins + 1, "{frame:x?} is seen");
        assert_eq!(net.inject((1, 1), &frame), [(3, 1)]);
        assert_eq!(net.packet_ins(), packet_ins + 1, "{frame:x?} has its entries");
        packet_ins += 1;
    }
    // Another fragment of the same hosts is none of a flow's own.
    assert_eq!(net.inject((1, 1), &udp6(1, 3, 9, 44, &LATER)), [(3, 1)]);
    assert_eq!((net.packet_ins(), net.routes(2)), (packet_ins, 12));
}

#[test]
fn the_worked_example_of_a_tree_of_depth_three() {
    // Mininet's tree,3: s1 over s2 and s5, s2 over s3 and s4, s5 over s6 and s7; port 3 leads up, hosts at the leaves.
    let wires = [
        ((1, 1), (2, 3)),
        ((1, 2), (5, 3)),
        ((2, 1), (3, 3)),
        ((2, 2), (4, 3)),
        ((5, 1), (6, 3)),
        ((5, 2), (7, 3)),
    ];
    for version in BOTH {
        let mut net = fabric(version, 7, 3, &wires);
        announce(&mut net, 1, (3, 1));
        announce(&mut net, 8, (7, 2));
        let frame = udp(8, 1, 1);
        assert_eq!(net.inject((7, 2), &frame), [(3, 1)]);
        // 7:2, 7:3, 5:2, 5:3, 1:2, 1:1, 2:3, 2:1, 3:3, 3:1
        assert_eq!(net.way(&frame), [(7, 3), (5, 3), (1, 1), (2, 1)]);
    }
}

#[test]
fn loops_carry_one_copy_of_a_broadcast_to_every_host() {
    for version in BOTH {
        for (size, wires) in [(4, ring(4)), (5, ring(5)), (5, mesh(5))] {
            let port = if wires.len() > 5 { 6 } else { 1 };
            let mut net = fabric(version, size, 6, &wires);
            let is_host = |end: &End| end.1 == port;
            for from in 1..=size {
                let out = net.inject((from, port), &ask(from as u8, 200));
                let hosts: Vec<End> = out.into_iter().filter(is_host).collect();
                let expected: Vec<End> =
                    (1..=size).filter(|dpid| *dpid != from).map(|dpid| (dpid, port)).collect();
                assert_eq!(hosts, expected, "{version}, {size} switches: one copy each");
            }
        }
    }
}

#[test]
fn everybody_reaches_everybody_in_every_topology() {
    for version in BOTH {
        for (size, wires) in [(1, vec![]), (6, line(6)), (6, ring(6)), (5, mesh(5))] {
            let port = 6;
            let mut net = fabric(version, size, 6, &wires);
            for dpid in 1..=size {
                announce(&mut net, dpid as u8, (dpid, port));
            }
            for from in 1..=size {
                for to in (1..=size).filter(|to| *to != from) {
                    assert_eq!(net.inject((from, port), &udp(from as u8, to as u8, 9)), [(to, port)]);
                }
            }
        }
    }
}

#[test]
fn unknown_destinations_go_along_the_broadcast_tree() {
    let mut net = fabric(Version::V1_3, 4, 3, &ring(4));
    assert_eq!(net.inject((1, 1), &udp(1, 9, 1)), [(2, 1), (3, 1), (4, 1)]);
    assert_eq!(net.routes(1), 0, "no entry for what is flooded");
}

#[test]
fn a_host_on_another_island_is_unknown_and_one_at_the_same_port_is_left_alone() {
    for version in BOTH {
        // s1 - s2, and s3 - s4 apart from them.
        let mut net = fabric(version, 4, 3, &[((1, 3), (2, 2)), ((3, 3), (4, 2))]);
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 9, (4, 1));
        assert_eq!(
            net.inject((1, 1), &udp(1, 9, 1)),
            [(1, 2), (2, 1), (2, 3)],
            "{version}: along its own tree"
        );
        assert_eq!([1, 2, 3, 4].map(|dpid| net.routes(dpid)), [0; 4]);
        // With a leg in both islands it is reached in the sender's.
        announce(&mut net, 9, (2, 1));
        assert_eq!(net.inject((1, 1), &udp(1, 9, 1)), [(2, 1)], "{version}");
        announce(&mut net, 5, (3, 1));
        assert_eq!(net.inject((3, 1), &udp(5, 9, 1)), [(4, 1)], "{version}: and for others in theirs");
        // Behind the same port they hear each other without the switch.
        announce(&mut net, 2, (1, 1));
        assert_eq!(net.inject((1, 1), &udp(1, 2, 1)), [], "{version}");
        assert!(net.net.controller.status(&[], net.net.now).stopped["would go back to its port"] > 0);
    }
}

#[test]
fn a_link_is_direct_or_a_tunnel_by_its_port_s_name() {
    let mut net = Fabric::new(Version::V1_3, Settings::default(), [1], 3, &line(2));
    let mut second = model::Model::new(Version::V1_3, 2, 3);
    second.names.insert(2, "vxlan_sys_4789".to_owned());
    net.connect(second);
    net.pass(std::time::Duration::from_secs(2));
    let links = net.net.controller.topology().links;
    assert_eq!(links.iter().map(|link| link.kind.as_str()).collect::<Vec<_>>(), ["tunnel"; 2]);
    let net = fabric(Version::V1_3, 2, 3, &line(2));
    let links = net.net.controller.topology().links;
    assert_eq!(links.iter().map(|link| link.kind.as_str()).collect::<Vec<_>>(), ["direct"; 2]);
}

#[test]
fn a_dead_link_moves_only_the_flows_that_used_it() {
    for version in BOTH {
        let mut net = fabric(version, 6, 3, &ring(6));
        for dpid in 1..=6 {
            announce(&mut net, dpid as u8, (dpid, 1));
        }
        assert_eq!(net.inject((1, 1), &udp(1, 3, 7)), [(3, 1)]);
        assert_eq!(net.inject((4, 1), &udp(4, 5, 7)), [(5, 1)]);
        let untouched = net.model(5).flows.clone();
        net.set_port((2, 3), false);
        let before = net.packet_ins();
        let frame = udp(1, 3, 7);
        assert_eq!(net.inject((1, 1), &frame), [(3, 1)], "it has moved before the next frame comes");
        assert_eq!(net.way(&frame), [(1, 2), (6, 2), (5, 2), (4, 2)], "the other way round");
        assert_eq!(net.inject((3, 1), &answer(3, 1, 7)), [(1, 1)]);
        assert_eq!(net.packet_ins(), before, "{version}: no frame had to ask");
        assert_eq!(net.routes(2), 0, "what is left of the old way is deleted");
        for flow in untouched {
            assert!(net.model(5).flows.contains(&flow), "{flow:?}");
        }
        assert_eq!(net.inject((1, 1), &ask(1, 99)).len(), 5, "one copy for each host");
        net.set_wire((2, 3), true);
        net.pass(Duration::from_secs(1));
        assert_eq!(net.inject((1, 1), &ask(1, 99)).len(), 5);
        assert_eq!(net.inject((1, 1), &udp(1, 3, 8)), [(3, 1)]);
        assert_eq!(net.way(&udp(1, 3, 8)), [(1, 3), (2, 3)], "new flows take the short way again");
    }
}

#[test]
fn a_link_that_eats_frames_in_silence_is_left_within_three_periods() {
    let mut net = fabric(Version::V1_3, 4, 3, &ring(4));
    announce(&mut net, 1, (1, 1));
    announce(&mut net, 2, (2, 1));
    assert_eq!(net.inject((1, 1), &udp(1, 2, 7)), [(2, 1)]);
    net.eaten.extend([(1, 3), (2, 2)]);
    assert_eq!(net.inject((1, 1), &udp(1, 2, 7)), NOWHERE);
    net.pass(Duration::from_millis(3000));
    assert_eq!(net.inject((1, 1), &udp(1, 2, 7)), [(2, 1)]);
    assert_eq!(net.way(&udp(1, 2, 7)), [(1, 2), (4, 2), (3, 2)]);
}

const NOWHERE: [End; 0] = [];

#[test]
fn without_another_way_a_flow_ends_and_comes_back() {
    for version in BOTH {
        let mut net = fabric(version, 3, 3, &line(3));
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 3, (3, 1));
        assert_eq!(net.inject((1, 1), &udp(1, 3, 7)), [(3, 1)]);
        net.set_wire((2, 3), false);
        assert_eq!([1, 2, 3].map(|dpid| net.routes(dpid)), [0, 0, 0]);
        let out = net.inject((1, 1), &udp(1, 3, 7));
        assert_eq!(out, [(1, 2), (2, 1)], "another island: flooded in this one");
        net.set_wire((2, 3), true);
        assert_eq!(net.inject((1, 1), &udp(1, 3, 7)), [(3, 1)], "as soon as the link is found");
    }
}

#[test]
fn hosts_that_move_take_their_flows_along() {
    for version in BOTH {
        let mut net = fabric(version, 3, 4, &line(3));
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 3, (3, 1));
        net.inject((1, 1), &udp(1, 3, 7));
        announce(&mut net, 3, (2, 4));
        let before = net.packet_ins();
        assert_eq!(net.inject((1, 1), &udp(1, 3, 7)), [(2, 4)]);
        assert_eq!(net.inject((2, 4), &answer(3, 1, 7)), [(1, 1)]);
        assert_eq!(net.packet_ins(), before);
        assert_eq!(net.routes(3), 0);
        assert_eq!(net.net.logged("host 02:00:00:00:00:03 moved"), 1);
    }
}

#[test]
fn requests_for_known_hosts_are_answered_and_not_flooded() {
    for version in BOTH {
        let mut net = fabric(version, 3, 3, &line(3));
        announce(&mut net, 3, (3, 1));
        let request = ask(1, 3);
        assert_eq!(net.inject((1, 1), &request), NOWHERE);
        let answers = net.answers(&request);
        assert_eq!(answers, [((1, 1), arp(2, host(3), host(1), [10, 0, 0, 3], [10, 0, 0, 1]))]);
        // A probe for life goes to the host itself.
        let probe = arp(1, host(1), BROADCAST, [0; 4], [10, 0, 0, 3]);
        assert_eq!(net.inject((1, 1), &probe), [(3, 1)]);
        // Switched off, requests are flooded.
        let settings = Settings { proxy: false, ..Settings::default() };
        let mut net = Fabric::new(version, settings, 1..=3, 3, &line(3));
        announce(&mut net, 3, (3, 1));
        assert_eq!(net.inject((1, 1), &request), [(1, 2), (2, 1), (3, 1), (3, 3)]);
    }
}

#[test]
fn hosts_age_unless_they_answer_or_are_busy() {
    let mut net = fabric(Version::V1_3, 1, 3, &[]);
    announce(&mut net, 1, (1, 1));
    announce(&mut net, 2, (1, 2));
    net.pass(Duration::from_secs(278));
    let to_host = |(end, bytes): &&(End, Vec<u8>)| *end == (1, 1) && bytes[..6] == host(1).0;
    let question = net.arrived.iter().find(to_host).cloned().expect("it is asked").1;
    let asker: [u8; 6] = question[6..12].try_into().unwrap();
    assert_eq!(question[12..14], [0x08, 0x06]);
    let reply = arp(2, host(1), MacAddr(asker), [10, 0, 0, 1], [0; 4]);
    assert_eq!(net.inject((1, 1), &reply), NOWHERE, "the answer is heard and goes nowhere");
    net.pass(Duration::from_secs(40));
    let known: Vec<String> = net.net.controller.hosts(net.net.now).hosts.into_iter().map(|h| h.mac).collect();
    assert_eq!(known, [host(1).to_string()], "host 2 did not answer");
}

#[test]
fn a_switch_that_restarts_gets_its_flows_back() {
    for version in BOTH {
        let mut net = fabric(version, 3, 3, &line(3));
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 3, (3, 1));
        net.inject((1, 1), &udp(1, 3, 7));
        let mut model = net.disconnect(2);
        model.flows.clear();
        net.pass(Duration::from_millis(500));
        net.connect(model);
        let before = net.packet_ins();
        assert_eq!(net.routes(2), 2, "{:?}", net.net.log.last());
        assert_eq!(net.inject((1, 1), &udp(1, 3, 7)), [(3, 1)]);
        assert_eq!(net.packet_ins(), before);
    }
}

#[test]
fn a_switch_that_does_not_come_back_is_forgotten() {
    let mut net = fabric(Version::V1_3, 3, 3, &line(3));
    announce(&mut net, 1, (1, 1));
    announce(&mut net, 3, (3, 1));
    net.inject((1, 1), &udp(1, 3, 7));
    net.disconnect(3);
    net.pass(Duration::from_secs(4));
    let links = |net: &Fabric| net.net.controller.topology().links.len();
    assert_eq!(links(&net), 2, "its links go when they are silent");
    net.pass(Duration::from_secs(70));
    let clusters = net.net.controller.topology().clusters;
    assert_eq!(clusters.iter().map(|cluster| cluster.switches.len()).collect::<Vec<_>>(), [2]);
    let hosts = net.net.controller.hosts(net.net.now).hosts;
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    assert_eq!(net.net.controller.flows(net.net.now).flows.len(), 0);
}

#[test]
fn a_new_controller_takes_over_and_loses_no_frame() {
    for version in BOTH {
        let mut net = fabric(version, 3, 3, &line(3));
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 3, (3, 1));
        net.inject((1, 1), &udp(1, 3, 7));
        let models: Vec<_> = [1, 2, 3].map(|dpid| net.disconnect(dpid)).into();
        let flows: Vec<_> = models.iter().map(|model| model.flows.clone()).collect();
        let mut later = fabric(version, 0, 3, &line(3));
        for model in models {
            later.connect(model);
            assert_eq!(later.inject((1, 1), &udp(1, 3, 7)).len(), usize::from(later.conns.len() == 3));
        }
        for (dpid, flows) in (1..).zip(flows) {
            let now: Vec<_> = later.model(dpid).flows.clone();
            assert_eq!(now.len(), flows.len(), "nothing wiped, nothing doubled");
        }
        later.pass(Duration::from_secs(1));
        // What it took over moves when a link dies, although it never heard the hosts.
        let frame = udp(1, 3, 7);
        assert_eq!(later.inject((1, 1), &frame), [(3, 1)]);
        later.set_wire((2, 3), false);
        assert_eq!([1, 2, 3].map(|dpid| later.routes(dpid)), [0, 0, 0]);
    }
}

#[test]
fn foreign_switches_in_the_middle_are_crossed() {
    for version in BOTH {
        // s1:3 and s2:2 lead into a bridge, which has a host of its own at (99, 1).
        let mut net = fabric(version, 0, 3, &[]);
        net.bridges = vec![vec![(1, 3), (2, 2), (99, 1)]];
        net.connect(model::Model::new(version, 1, 3));
        net.connect(model::Model::new(version, 2, 3));
        net.pass(Duration::from_secs(1));
        let topology = net.net.controller.topology();
        assert_eq!(
            topology.links.iter().map(|link| link.kind.as_str()).collect::<Vec<_>>(),
            ["multi-hop"; 2]
        );
        announce(&mut net, 1, (1, 1));
        announce(&mut net, 2, (2, 1));
        assert_eq!(net.inject((1, 1), &udp(1, 2, 7)), [(2, 1)]);
        assert_eq!(net.inject((2, 1), &answer(2, 1, 7)), [(1, 1)]);
        // The bridge's own host is heard at both switches; it has one place, and is reached.
        let hello = arp(1, host(3), BROADCAST, [10, 0, 0, 3], [10, 0, 0, 3]);
        for at in [(1, 3), (2, 2)] {
            net.inject(at, &hello);
        }
        let hosts = net.net.controller.hosts(net.net.now).hosts;
        let of = |number| hosts.iter().find(|h| h.mac == host(number).to_string()).unwrap();
        assert_eq!((of(3).dpid.as_str(), of(3).port), ("0000000000000001", 3));
        assert_eq!((of(1).port, of(2).port), (1, 1), "hosts at edges stay there");
        // From either switch the frame goes into the bridge once, and comes out of the other switch nowhere.
        assert_eq!(net.inject((2, 1), &udp(2, 3, 7)), NOWHERE);
        assert_eq!(net.way(&udp(2, 3, 7)), [(2, 2)]);
        assert_eq!(net.inject((1, 1), &udp(1, 3, 7)), NOWHERE);
        assert_eq!(net.way(&udp(1, 3, 7)), [(1, 3)]);
    }
}

#[test]
fn forged_and_replayed_discovery_makes_no_link() {
    let mut net = fabric(Version::V1_3, 2, 3, &[]);
    net.arrived.clear();
    net.pass(Duration::from_secs(3));
    let lldp = net.arrived.iter().find(|(end, bytes)| *end == (1, 1) && bytes[12..14] == [0x88, 0xcc]);
    let old = lldp.unwrap().1.clone();
    net.pass(Duration::from_secs(3));
    net.inject((2, 1), &old);
    let mut forged = old.clone();
    let last = forged.len() - 3;
    forged[last] ^= 1;
    net.inject((2, 1), &forged);
    assert!(net.net.controller.topology().links.is_empty());
    assert_eq!(net.inject((1, 2), &ask(1, 2)), [(1, 1), (1, 3)], "switch 2 is another island still");
}

#[test]
fn hub_and_learning_survive_loops_too() {
    for version in BOTH {
        for forwarding in [Forwarding::Hub, Forwarding::Learning] {
            let settings = Settings { forwarding, ..Settings::default() };
            let mut net = Fabric::new(version, settings, 1..=4, 3, &ring(4));
            let out = net.inject((1, 1), &ask(1, 3));
            assert_eq!(out, [(2, 1), (3, 1), (4, 1)], "{forwarding:?}");
            let reply = udp(3, 1, 7);
            let out = net.inject((3, 1), &reply);
            match forwarding {
                Forwarding::Hub => assert_eq!(out, [(1, 1), (2, 1), (4, 1)]),
                _ => assert_eq!(out, [(1, 1)]),
            }
            net.set_wire((1, 3), false);
            assert_eq!(net.inject((1, 1), &ask(1, 3)).into_iter().filter(|end| end.1 == 1).count(), 3);
            let out = net.inject((3, 1), &reply);
            assert!(out.contains(&(1, 1)), "{forwarding:?}: {out:?}");
        }
    }
}

#[test]
fn proactive_ways_are_there_before_the_traffic() {
    for version in BOTH {
        let settings = Settings { proactive: true, ..Settings::default() };
        let mut net = Fabric::new(version, settings, 1..=6, 3, &ring(6));
        for dpid in 1..=6 {
            announce(&mut net, dpid as u8, (dpid, 1));
        }
        let before = net.packet_ins();
        for from in 1..=6 {
            for to in (1..=6).filter(|to| *to != from) {
                assert_eq!(net.inject((from, 1), &udp(from as u8, to as u8, 3)), [(to, 1)], "{version}");
            }
        }
        assert_eq!(net.packet_ins(), before, "no packet asks");
        // Six hosts, and what shows who answers for which address: ARP, and in 1.3 neighbour discovery.
        assert_eq!(net.routes(1), if version == Version::V1_0 { 7 } else { 8 });
        net.set_wire((1, 3), false);
        let before = net.packet_ins();
        assert_eq!(net.inject((1, 1), &udp(1, 2, 3)), [(2, 1)]);
        assert_eq!(net.way(&udp(1, 2, 3)).len(), 5);
        // Also between opposite switches, where the other way was as short.
        for from in 1..=6 {
            for to in (1..=6).filter(|to| *to != from) {
                assert_eq!(net.inject((from, 1), &udp(from as u8, to as u8, 3)), [(to, 1)], "{version}");
            }
        }
        assert_eq!(net.packet_ins(), before);
    }
}

#[test]
fn proactive_ways_do_not_hide_who_answers() {
    for version in BOTH {
        let settings = Settings { proactive: true, ..Settings::default() };
        let mut net = Fabric::new(version, settings, 1..=3, 3, &line(3));
        net.inject((1, 1), &ask(1, 3));
        let reply = arp(2, host(3), host(1), [10, 0, 0, 3], [10, 0, 0, 1]);
        assert_eq!(net.inject((3, 1), &reply), [(1, 1)], "{version}: the way to host 1 is there already");
        assert_eq!(net.inject((1, 1), &udp(1, 3, 7)), [(3, 1)], "and host 3 is known from its answer");
    }
}

#[test]
fn first_packets_wait_until_the_way_is_there() {
    let mut net = fabric(Version::V1_3, 3, 3, &line(3));
    announce(&mut net, 1, (1, 1));
    announce(&mut net, 3, (3, 1));
    let frame = udp(1, 3, 7);
    let before = net.packet_ins();
    assert_eq!(net.inject((1, 1), &frame), [(3, 1)]);
    assert_eq!(net.packet_ins() - before, 1, "only the first switch had to ask");
}

#[test]
fn the_controller_says_where_a_flow_would_go_and_why() {
    let mut net = fabric(Version::V1_3, 4, 3, &ring(4));
    announce(&mut net, 1, (1, 1));
    announce(&mut net, 2, (2, 1));
    let ip = |last: u8| Party::Ip([10, 0, 0, last].into());
    let route = net.net.controller.route(ip(1), Party::Mac(host(2)), 5).unwrap();
    let ways: Vec<(u64, usize)> = route.paths.iter().map(|path| (path.cost, path.hops.len())).collect();
    assert_eq!(ways, [(1, 2), (3, 4)], "both ways round the ring");
    let asked = Asked { from: ip(1), to: ip(2), vlan: None, protocol: 17, ports: Some((7, 80)) };
    let before = net.net.controller.explain(asked).unwrap();
    assert_eq!((before.outcome.as_str(), before.installed, before.hops.len()), ("route", false, 2));
    net.inject((1, 1), &udp(1, 2, 7));
    let after = net.net.controller.explain(asked).unwrap();
    assert_eq!((after.installed, &after.hops), (true, &before.hops));
    let told = net.net.controller.explain(Asked { to: ip(9), ..asked }).unwrap_err();
    assert_eq!(told, "no host 10.0.0.9 is known; 'ofshim hosts' lists them");
    let unknown = Asked { to: Party::Mac(host(9)), ..asked };
    assert_eq!(net.net.controller.explain(unknown).unwrap().outcome, "flood");
}
