//! Hosts and flows of IPv6 over several switches in memory: who is known, who is asked, what is answered.

mod model;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use model::{Fabric, Station, host};
use ofshim::core::Settings;
use ofshim::core::net::explain::{Asked, End as Party};
use openflow::{MacAddr, Version};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const NOWHERE: [(u64, u32); 0] = [];
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number))
}

/// The group of the hosts whose address ends like this one (RFC 4291, 2.7.1), and its MAC.
fn group(number: u8) -> (MacAddr, Ipv6Addr) {
    (
        MacAddr([0x33, 0x33, 0xff, 0, 0, number]),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, u16::from(number)),
    )
}

/// Neighbour discovery of this kind from a host, with its MAC as the option.
fn neighbour(
    kind: u8,
    from: (MacAddr, Ipv6Addr),
    to: (MacAddr, Ipv6Addr),
    target: Ipv6Addr,
    vlan: Option<u16>,
) -> Vec<u8> {
    let mut bytes = [to.0.0, from.0.0].concat();
    bytes.extend(vlan.into_iter().flat_map(|vlan| [[0x81, 0x00], vlan.to_be_bytes()].concat()));
    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    bytes.extend(from.1.octets());
    bytes.extend(to.1.octets());
    bytes.extend([kind, 0, 0, 0, if kind == ADVERTISEMENT { 0x20 } else { 0 }, 0, 0, 0]);
    bytes.extend(target.octets());
    bytes.extend([if kind == ADVERTISEMENT { 2 } else { 1 }, 1]);
    bytes.extend(from.0.0);
    bytes
}

/// Host n asks where another is.
fn ask(from: u8, target: u8) -> Vec<u8> {
    neighbour(SOLICITATION, (host(from), v6(from)), group(target), v6(target), None)
}

/// Host n says to all nodes that it is there.
fn hello(number: u8, vlan: Option<u16>) -> Vec<u8> {
    let all = (MacAddr([0x33, 0x33, 0, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    neighbour(ADVERTISEMENT, (host(number), v6(number)), all, v6(number), vlan)
}

fn udp(from: u8, to: u8, ports: (u16, u16)) -> Vec<u8> {
    let mut bytes = [host(to).0, host(from).0].concat();
    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
    bytes.extend(v6(from).octets());
    bytes.extend(v6(to).octets());
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend([0, 8, 0, 0]);
    bytes
}

/// s1 - s2 - s3, hosts at ports 1.
fn line(version: Version, settings: Settings) -> Fabric {
    Fabric::new(version, settings, 1..=3, 3, &[((1, 3), (2, 2)), ((2, 3), (3, 2))])
}

#[test]
fn solicitations_for_known_hosts_are_answered_and_not_flooded() {
    for version in BOTH {
        let mut net = line(version, Settings::default());
        assert_eq!(net.inject((1, 1), &ask(1, 3)), [(1, 2), (2, 1), (3, 1), (3, 3)], "nobody is known");
        net.inject((3, 1), &hello(3, None));
        assert_eq!(net.inject((1, 1), &ask(1, 3)), NOWHERE, "{version}");
        let answers = net.answers(&ask(1, 3));
        let [(at, answer)] = answers.as_slice() else { panic!("{version}: {answers:x?}") };
        assert_eq!((*at, &answer[..12]), ((1, 1), &[host(1).0, host(3).0].concat()[..]));
        let expected = neighbour(ADVERTISEMENT, (host(3), v6(3)), (host(1), v6(1)), v6(3), None);
        // Everything but the checksum, and the flags: solicited, and overriding.
        assert_eq!(answer[12..56], expected[12..56]);
        assert_eq!((answer[58], &answer[62..]), (0x60, &expected[62..]));
        // Host 1 is known by its question, and needs none of its own to be found.
        assert_eq!(net.inject((3, 1), &ask(3, 1)), NOWHERE);
        assert_eq!(net.answers(&ask(3, 1)).len(), 1, "{version}");
        // Who looks whether an address is free wants to hear the host itself (RFC 4862, 5.4.2).
        let free = neighbour(SOLICITATION, (host(2), Ipv6Addr::UNSPECIFIED), group(3), v6(3), None);
        assert!(net.inject((2, 1), &free).contains(&(3, 1)), "{version}");
        // Switched off, solicitations are flooded.
        let mut net = line(version, Settings { proxy: false, ..Settings::default() });
        net.inject((3, 1), &hello(3, None));
        assert_eq!(net.inject((1, 1), &ask(1, 3)), [(1, 2), (2, 1), (3, 1), (3, 3)]);
    }
}

#[test]
fn flows_are_routed_over_all_switches_by_their_five_tuple() {
    let mut net = line(Version::V1_3, Settings::default());
    net.inject((1, 1), &ask(1, 3));
    net.inject((3, 1), &hello(3, None));
    let hosts = net.net.controller.hosts(net.net.now).hosts;
    let third = hosts.iter().find(|known| known.mac == host(3).to_string()).unwrap();
    assert_eq!((&third.addresses[..], third.port), (&[IpAddr::from(v6(3))][..], 1));
    let first = udp(1, 3, (5000, 53));
    assert_eq!(net.inject((1, 1), &first), [(3, 1)]);
    assert_eq!(net.way(&first), [(1, 3), (2, 3)]);
    assert_eq!([1, 2, 3].map(|dpid| net.routes(dpid)), [2, 2, 2], "both directions");
    let before = net.packet_ins();
    assert_eq!(net.inject((3, 1), &udp(3, 1, (53, 5000))), [(1, 1)]);
    assert_eq!(net.inject((1, 1), &first), [(3, 1)]);
    assert_eq!(net.packet_ins(), before, "entries carry what follows");
    assert_eq!(net.inject((1, 1), &udp(1, 3, (5001, 53))), [(3, 1)]);
    assert_eq!((net.packet_ins(), net.routes(2)), (before + 1, 4), "another flow");
    let flows = net.net.controller.flows(net.net.now).flows;
    let shown = flows.iter().find(|flow| flow.src_port == Some(5001)).unwrap();
    assert_eq!((shown.ip_src, shown.ip_dst), (Some(v6(1).into()), Some(v6(3).into())));
    assert_eq!((shown.protocol, shown.dst_port), (Some(17), Some(53)));
    let (from, to) = (Party::Ip(v6(1).into()), Party::Ip(v6(3).into()));
    let asked = Asked { from, to, vlan: None, protocol: 17, ports: Some((5001, 53)) };
    let explained = net.net.controller.explain(asked).unwrap();
    assert_eq!((explained.outcome.as_str(), explained.installed, explained.hops.len()), ("route", true, 3));
}

#[test]
fn where_a_switch_speaks_1_0_flows_of_ipv6_share_entries() {
    let mut net = line(Version::V1_0, Settings::default());
    net.inject((1, 1), &hello(1, None));
    net.inject((3, 1), &hello(3, None));
    assert_eq!(net.inject((1, 1), &udp(1, 3, (5000, 53))), [(3, 1)]);
    let before = net.packet_ins();
    assert_eq!(net.inject((1, 1), &udp(1, 3, (5001, 53))), [(3, 1)]);
    assert_eq!(net.inject((3, 1), &udp(3, 1, (53, 5001))), [(1, 1)]);
    assert_eq!((net.packet_ins(), net.routes(2)), (before, 2));
}

#[test]
fn hosts_with_ipv6_alone_are_asked_before_they_are_forgotten() {
    for version in BOTH {
        let mut net = line(version, Settings::default());
        for (number, lives) in [(1, true), (2, false)] {
            let station = Station { mac: host(number), addresses: vec![v6(number).into()], lives };
            net.stations.insert((u64::from(number), 1), station);
            net.inject((u64::from(number), 1), &hello(number, None));
        }
        net.inject((3, 1), &hello(3, Some(7)));
        net.pass(Duration::from_secs(285));
        let asked = |end: (u64, u32)| {
            let question = |frame: &Vec<u8>| frame[..6] == host(end.0 as u8).0;
            net.arrived
                .iter()
                .find(|(at, frame)| *at == end && question(frame))
                .map(|(_, frame)| frame.clone())
        };
        for number in [1, 2] {
            let question = asked((u64::from(number), 1)).expect("it is asked");
            assert_eq!((&question[12..14], question[54]), (&[0x86, 0xdd][..], SOLICITATION), "{version}");
            assert_eq!(question[62..78], v6(number).octets());
        }
        let question = asked((3, 1)).expect("it is asked in its VLAN");
        assert_eq!((&question[12..18], question[58]), (&[0x81, 0, 0, 7, 0x86, 0xdd][..], SOLICITATION));
        net.pass(Duration::from_secs(30));
        let hosts = net.net.controller.hosts(net.net.now).hosts;
        let macs: Vec<String> = hosts.into_iter().map(|known| known.mac).collect();
        assert_eq!(macs, [host(1).to_string()], "{version}: the others did not answer");
        net.pass(Duration::from_secs(300));
        assert_eq!(net.net.controller.hosts(net.net.now).hosts.len(), 1, "{version}: it is asked again");
    }
}
