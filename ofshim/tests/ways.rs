//! Which way flows take where there are several, and VLANs that are routed apart, in memory.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{BROADCAST, Fabric, Model, arp, host};
use ofshim::core::Settings;
use ofshim::core::net::Metric;
use openflow::Version;

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const NOWHERE: [End; 0] = [];

type End = (u64, u32);

fn udp(from: u8, to: u8, ports: (u16, u16)) -> Vec<u8> {
    let mut bytes = [host(to).0, host(from).0].concat();
    bytes.extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend([0, 26, 0, 0]);
    bytes.resize(60, from);
    bytes
}

fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

fn announcement(number: u8) -> Vec<u8> {
    arp(1, host(number), BROADCAST, [10, 0, 0, number], [10, 0, 0, number])
}

/// s1 - s2 - s3 - s4 - s1: port 3 to the next one, port 2 to the one before, hosts at port 1.
const RING: [(End, End); 4] = [((1, 3), (2, 2)), ((2, 3), (3, 2)), ((3, 3), (4, 2)), ((4, 3), (1, 2))];

/// The switches that a flow leaves on its way from the first host to the second.
fn way(net: &mut Fabric, frame: &[u8], from: End, to: End) -> Vec<u64> {
    assert_eq!(net.inject(from, frame), [to]);
    net.way(frame).into_iter().map(|(dpid, _)| dpid).collect()
}

#[test]
fn flows_are_spread_over_ways_of_equal_cost_and_each_keeps_its_own() {
    for version in BOTH {
        let mut net = Fabric::new(version, Settings::default(), 1..=4, 3, &RING);
        net.inject((1, 1), &announcement(1));
        net.inject((3, 1), &announcement(3));
        let mut shares: BTreeMap<u64, u32> = BTreeMap::new();
        for port in 1000..1064 {
            let frame = udp(1, 3, (port, 80));
            let there = way(&mut net, &frame, (1, 1), (3, 1));
            assert_eq!(there.len(), 2, "{version}: a shortest way");
            let back = way(&mut net, &udp(3, 1, (80, port)), (3, 1), (1, 1));
            assert_eq!(back[1], there[1], "{version}: answers come the same way");
            assert_eq!(way(&mut net, &frame, (1, 1), (3, 1)), there);
            *shares.entry(there[1]).or_default() += 1;
        }
        assert_eq!(shares.keys().copied().collect::<Vec<_>>(), [2, 4], "{version}");
        assert!(shares.values().all(|share| *share >= 16), "{version}: {shares:?}");
    }
}

#[test]
fn without_spreading_all_flows_take_the_first_of_equal_ways() {
    for version in BOTH {
        let settings = Settings { ecmp: false, ..Settings::default() };
        let mut net = Fabric::new(version, settings, 1..=4, 3, &RING);
        net.inject((1, 1), &announcement(1));
        net.inject((3, 1), &announcement(3));
        let ways: BTreeSet<_> =
            (1000..1032).map(|port| way(&mut net, &udp(1, 3, (port, 80)), (1, 1), (3, 1))).collect();
        assert_eq!(ways.len(), 1, "{version}: {ways:?}");
    }
}

#[test]
fn by_latency_flows_go_around_a_slow_link() {
    for version in BOTH {
        let settings = Settings { metric: Metric::Latency, ..Settings::default() };
        let mut net = Fabric::new(version, settings, [], 3, &RING);
        let ends = RING.iter().flat_map(|(from, to)| [*from, *to]);
        net.slow = ends.map(|end| (end, Duration::from_millis(1))).collect();
        net.slow.extend([(1, 3), (2, 2)].map(|end| (end, Duration::from_millis(30))));
        for dpid in 1..=4 {
            net.connect(Model::new(version, dpid, 3));
        }
        net.pass(Duration::from_secs(5));
        net.inject((1, 1), &announcement(1));
        net.inject((2, 1), &announcement(2));
        let links = net.net.controller.topology().links;
        let slow = links.iter().find(|link| link.from.ends_with('1') && link.from_port == 3).unwrap();
        // It is smoothed, and on its way to 30 ms.
        assert!(slow.cost > 5_000, "{version}: {slow:?}");
        assert_eq!(way(&mut net, &udp(1, 2, (1, 80)), (1, 1), (2, 1)), [1, 4, 3], "{version}");
        assert_eq!(way(&mut net, &udp(2, 1, (80, 1)), (2, 1), (1, 1)), [2, 3, 4], "{version}");
        // The link becomes fast: new flows take it.
        net.slow.extend([(1, 3), (2, 2)].map(|end| (end, Duration::from_millis(1))));
        net.pass(Duration::from_secs(60));
        assert_eq!(way(&mut net, &udp(1, 2, (2, 80)), (1, 1), (2, 1)), [1], "{version}");
    }
}

#[test]
fn by_speed_flows_go_around_a_narrow_link() {
    for version in BOTH {
        for (metric, expected) in [(Metric::Speed, vec![1, 4, 3]), (Metric::Hops, vec![1])] {
            let settings = Settings { metric, ..Settings::default() };
            let mut net = Fabric::new(version, settings, [], 3, &RING);
            for dpid in 1..=4 {
                let mut model = Model::new(version, dpid, 3);
                model.speeds_kbps = [(2, 10_000_000), (3, 10_000_000)].into();
                // Between s1 and s2 there is 1 Gbit/s, elsewhere ten times that.
                if dpid <= 2 {
                    model.speeds_kbps.insert(if dpid == 1 { 3 } else { 2 }, 1_000_000);
                }
                net.connect(model);
            }
            net.pass(Duration::from_secs(2));
            net.inject((1, 1), &announcement(1));
            net.inject((2, 1), &announcement(2));
            assert_eq!(way(&mut net, &udp(1, 2, (1, 80)), (1, 1), (2, 1)), expected, "{version}: {metric:?}");
            let mut back = expected;
            back.reverse();
            let last = back.pop();
            assert_eq!(last, Some(1));
            let there = way(&mut net, &udp(2, 1, (80, 1)), (2, 1), (1, 1));
            assert_eq!(there, [vec![2], back].concat(), "{version}: {metric:?}");
        }
    }
}

#[test]
fn routed_vlans_are_apart() {
    for version in BOTH {
        let mut net = Fabric::new(version, Settings::default(), 1..=4, 3, &RING);
        // Host 3 is in VLAN 10 behind s3 and, with the same MAC and address, in VLAN 20 behind s2; host 1 is in both.
        for vlan in [10, 20] {
            net.inject((1, 1), &tagged(announcement(1), vlan));
        }
        net.inject((3, 1), &tagged(announcement(3), 10));
        net.inject((2, 1), &tagged(announcement(3), 20));
        let frame = udp(1, 3, (5, 80));
        assert_eq!(net.inject((1, 1), &tagged(frame.clone(), 10)), [(3, 1)], "{version}");
        assert_eq!(net.inject((1, 1), &tagged(frame.clone(), 20)), [(2, 1)], "{version}");
        let before = net.packet_ins();
        assert_eq!(
            net.inject((1, 1), &tagged(frame.clone(), 10)),
            [(3, 1)],
            "{version}: entries tell them apart"
        );
        assert_eq!(net.inject((1, 1), &tagged(frame.clone(), 20)), [(2, 1)]);
        assert_eq!(net.inject((2, 1), &tagged(udp(3, 1, (80, 5)), 20)), [(1, 1)]);
        assert_eq!(net.packet_ins(), before);
        // In no VLAN and in a third one it is unknown.
        for stranger in [frame.clone(), tagged(frame.clone(), 30)] {
            assert_eq!(net.inject((1, 1), &stranger), [(2, 1), (3, 1), (4, 1)], "{version}: flooded");
        }
        // Who is known in one VLAN answers in no other.
        let ask = arp(1, host(1), BROADCAST, [10, 0, 0, 1], [10, 0, 0, 3]);
        assert_eq!(net.inject((1, 1), &tagged(ask.clone(), 10)), NOWHERE);
        assert_eq!(net.answers(&tagged(ask.clone(), 10)).len(), 1, "{version}: answered from knowledge");
        assert_eq!(net.inject((1, 1), &tagged(ask.clone(), 30)).len(), 3, "{version}");
        // It moves in one VLAN, and stays in the other.
        net.inject((4, 1), &tagged(announcement(3), 10));
        assert_eq!(net.inject((1, 1), &tagged(frame.clone(), 10)), [(4, 1)], "{version}");
        assert_eq!(net.inject((1, 1), &tagged(frame, 20)), [(2, 1)], "{version}");
    }
}
