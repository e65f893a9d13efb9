//! The load of links as the metric: new flows go where there is room.

mod model;

use std::time::Duration;

use model::{BROADCAST, Fabric, arp, host};
use ofshim::core::net::Metric;
use ofshim::core::{Forwarding, Settings};
use openflow::Version;

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const PERIOD: Duration = Duration::from_secs(1);
/// Bytes in a second that are a half of 1 Gbit/s.
const HALF: u64 = 62_500_000;

fn udp(from: u8, to: u8, port: u16) -> Vec<u8> {
    let mut bytes = [host(to).0, host(from).0].concat();
    bytes.extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 80, 0, 26, 0, 0]);
    bytes.resize(60, from);
    bytes
}

/// A ring of four: hosts 1 and 3 at ports 1 of s1 and s3, two ways between them.
fn ring(version: Version, settings: Settings) -> Fabric {
    let wires = [((1, 3), (2, 2)), ((2, 3), (3, 2)), ((3, 3), (4, 2)), ((4, 3), (1, 2))];
    let mut net = Fabric::new(version, settings, 1..=4, 3, &wires);
    for number in [1, 3] {
        let frame = arp(1, host(number), BROADCAST, [10, 0, 0, number], [10, 0, 0, number]);
        net.inject((u64::from(number), 1), &frame);
    }
    net
}

fn settings(metric: Metric) -> Settings {
    Settings {
        metric,
        port_statistics: Some(PERIOD),
        port_speed_kbps: Some(1_000_000),
        ecmp: false,
        forwarding: Forwarding::Routed,
        idle_timeout_s: 60,
        ..Settings::default()
    }
}

/// So many periods, in each of which a port sends so many bytes.
fn send(net: &mut Fabric, (dpid, port): (u64, u32), bytes: u64, periods: u32) {
    for _ in 0..periods {
        *net.model(dpid).sent_bytes.entry(port).or_default() += bytes;
        net.pass(PERIOD);
    }
}

#[test]
fn new_flows_avoid_busy_links_and_old_ones_stay() {
    for version in BOTH {
        let mut net = ring(version, settings(Metric::Utilisation));
        let first = udp(1, 3, 1000);
        assert_eq!(net.inject((1, 1), &first), [(3, 1)]);
        let busy = net.way(&first)[0];
        let other = if busy == (1, 3) { (1, 2) } else { (1, 3) };
        send(&mut net, busy, HALF, 4);
        let links = net.net.controller.topology().links;
        let link = links.iter().find(|link| link.from.ends_with('1') && link.from_port == busy.1).unwrap();
        assert!((450..=550).contains(&link.utilisation_permille.unwrap()), "{link:?}");
        assert!((500..=600).contains(&link.cost), "{link:?}");
        let second = udp(1, 3, 2000);
        assert_eq!(net.inject((1, 1), &second), [(3, 1)]);
        assert_eq!(net.way(&second)[0], other, "{version}: where there is room");
        assert_eq!(net.inject((1, 1), &first), [(3, 1)]);
        assert_eq!(net.way(&first)[0], busy, "{version}: an old flow stays");
        // The load moves over to the other one, and so do new flows.
        send(&mut net, other, HALF, 8);
        let third = udp(1, 3, 3000);
        net.inject((1, 1), &third);
        assert_eq!(net.way(&third)[0], busy, "{version}");
        // A switch that comes anew counts from zero: that is no load.
        net.model(1).sent_bytes.clear();
        send(&mut net, busy, 0, 14);
        let links = net.net.controller.topology().links;
        assert!(links.iter().all(|link| link.cost == 100), "{links:#?}");
    }
}

#[test]
fn counters_are_read_for_show_by_any_metric_and_not_unless_asked_for() {
    let mut net = ring(Version::V1_3, settings(Metric::Hops));
    send(&mut net, (1, 3), HALF, 4);
    let links = net.net.controller.topology().links;
    let link = links.iter().find(|link| link.from.ends_with('1') && link.from_port == 3).unwrap();
    assert!(link.load_bps.unwrap() > 400_000_000 && link.cost == 1, "{link:?}");
    let mut net = ring(Version::V1_3, Settings { port_statistics: None, ..settings(Metric::Hops) });
    send(&mut net, (1, 3), HALF, 4);
    assert!(net.net.controller.topology().links.iter().all(|link| link.load_bps.is_none()));
}
