//! Answers of backends to clients of a one-armed balancer that translates addresses: they come out at the balancer.

mod model;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::{BROADCAST, Fabric, Model, arp, host};
use ofshim::core::net::Granularity;
use ofshim::core::net::explain::{Asked, End as Party};
use ofshim::core::{Event, Placement, Service, Settings, Source, VipKnowledge};
use openflow::{MacAddr, Version};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const VIRTUAL: MacAddr = MacAddr([2, 0x6c, 10, 0, 1, 1]);
/// The balancer's host.
const BALANCER: u8 = 9;
const STEER: u64 = 0x6f_6673_6807;

type End = (u64, u32);

/// TCP between hosts, numbered as their MACs and addresses, with the MACs given.
fn tcp((src, from, src_port): (MacAddr, u8, u16), (dst, to, dst_port): (MacAddr, u8, u16)) -> Vec<u8> {
    let mut bytes = [dst.0, src.0].concat();
    bytes.extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    bytes.extend([src_port.to_be_bytes(), dst_port.to_be_bytes()].concat());
    bytes.resize(60, from);
    bytes
}

/// An answer of a backend's service to a client, addressed to the client.
fn answer(backend: u8, client: u8, port: u16) -> Vec<u8> {
    tcp((host(backend), backend, port), (host(client), client, 40_000))
}

fn know(fabric: &mut Fabric, backends: &[u8], port: u16) {
    let address = |number: &u8| Ipv4Addr::new(10, 0, 0, *number);
    let services = backends.iter().map(|number| Service {
        address: address(number).into(),
        protocol: 6,
        port: Some(port),
    });
    let placement = Placement::OneArm { host_mac: Some(host(BALANCER)) };
    let known = VipKnowledge::new([(VIP, VIRTUAL)], backends.iter().map(address), [], placement);
    let known = known.with_services(services);
    fabric.net.handle(Event::Knowledge { known, source: Source::Daemon });
    fabric.run();
}

fn announce(fabric: &mut Fabric, number: u8, at: End) {
    fabric.inject(at, &arp(1, host(number), BROADCAST, [10, 0, 0, number], [10, 0, 0, number]));
}

/// s1 - s2 - s3 - s4, and s4 - s1 if it is a ring: the backend 1 and its neighbour 2 at s1, client 3 at s1 and 4 at s4,
/// the balancer at s3.
fn network(version: Version, settings: Settings, ring: bool) -> Fabric {
    let mut wires: Vec<(End, End)> = (1..4).map(|dpid| ((dpid, 8), (dpid + 1, 7))).collect();
    if ring {
        wires.push(((4, 8), (1, 7)));
    }
    let mut fabric = Fabric::new(version, settings, 1..=4, 8, &wires);
    for (number, at) in [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (4, 1)), (BALANCER, (3, 1))] {
        announce(&mut fabric, number, at);
    }
    fabric
}

fn steered(fabric: &mut Fabric, dpid: u64) -> usize {
    fabric.model(dpid).flows.iter().filter(|flow| flow.cookie.0 >> 24 == STEER).count()
}

#[test]
fn answers_come_out_at_the_balancer_and_what_it_sends_on_at_the_client() {
    for version in BOTH {
        let mut net = network(version, Settings::default(), false);
        know(&mut net, &[1], 80);
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut net, dpid)), [1, 1, 1, 0], "{version}");
        for client in [3, 4] {
            let before = net.packet_ins();
            let frame = answer(1, client, 80);
            assert_eq!(net.inject((1, 1), &frame), [(3, 1)], "{version}: client {client}");
            assert_eq!(net.way(&frame), [(1, 8), (2, 8)]);
            assert_eq!(net.packet_ins(), before, "entries do it, from the first packet on");
            // The balancer sends it on: the source is the VIP's, and it passes the same switches.
            let on = tcp((VIRTUAL, 250, 80), (host(client), client, 40_000));
            let port = if client == 3 { (1, 3) } else { (4, 1) };
            assert_eq!(net.inject((3, 1), &on), [port]);
        }
        // What is no answer of the service goes its way: another port, another host, another protocol.
        assert_eq!(net.inject((1, 1), &answer(1, 4, 22)), [(4, 1)]);
        assert_eq!(net.inject((1, 2), &answer(2, 4, 80)), [(4, 1)]);
        // What the balancer sends to the backend gets there.
        let request = tcp((VIRTUAL, 4, 40_000), (host(1), 1, 80));
        assert_eq!(net.inject((3, 1), &request), [(1, 1)]);
        let explained = net.net.controller.explain(Asked {
            from: Party::Ip(IpAddr::from([10, 0, 0, 1])),
            to: Party::Ip(IpAddr::from([10, 0, 0, 4])),
            vlan: None,
            protocol: 6,
            ports: Some((80, 40_001)),
        });
        let explained = explained.unwrap();
        assert_eq!(explained.to.as_deref(), Some("0000000000000003:1"), "{explained:?}");
        assert_eq!((explained.hops.len(), explained.outcome.as_str()), (3, "route"));
    }
}

#[test]
fn connections_straight_to_a_backend_stay_straight() {
    for version in BOTH {
        for granularity in
            [Granularity::FiveTuple, Granularity::Addresses, Granularity::PortAddresses, Granularity::Macs]
        {
            let settings = Settings { granularity, ..Settings::default() };
            let mut net = network(version, settings, false);
            // Before the balancer is known, entries of any granularity lead from the backend to the client.
            assert_eq!(net.inject((1, 1), &answer(1, 4, 5000)), [(4, 1)]);
            know(&mut net, &[1], 80);
            assert_eq!(
                net.inject((1, 1), &answer(1, 4, 80)),
                [(3, 1)],
                "{granularity:?}: not by the old ones"
            );
            let direct = tcp((host(4), 4, 41_000), (host(1), 1, 80));
            assert_eq!(net.inject((4, 1), &direct), [(1, 1)]);
            let back = tcp((host(1), 1, 80), (host(4), 4, 41_000));
            assert_eq!(net.inject((1, 1), &back), [(4, 1)], "{granularity:?}: it never saw the balancer");
            assert_eq!(net.inject((1, 1), &answer(1, 4, 80)), [(3, 1)], "{granularity:?}: others did");
        }
    }
}

#[test]
fn entries_follow_backends_services_and_the_balancer() {
    for version in BOTH {
        let mut net = network(version, Settings::default(), false);
        know(&mut net, &[1, 2], 80);
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut net, dpid)), [2, 2, 2, 0]);
        // A backend less, another port.
        know(&mut net, &[2], 8080);
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut net, dpid)), [1, 1, 1, 0]);
        assert_eq!(net.inject((1, 2), &answer(2, 4, 80)), [(4, 1)]);
        assert_eq!(net.inject((1, 2), &answer(2, 4, 8080)), [(3, 1)]);
        // The backend is plugged in elsewhere, then the balancer.
        announce(&mut net, 2, (4, 2));
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut net, dpid)), [0, 0, 1, 1]);
        assert_eq!(net.inject((4, 2), &answer(2, 3, 8080)), [(3, 1)]);
        announce(&mut net, BALANCER, (4, 3));
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut net, dpid)), [0, 0, 0, 1]);
        assert_eq!(net.inject((4, 2), &answer(2, 3, 8080)), [(4, 3)]);
        // Nothing is balanced any more, or by a mode whose answers find their way.
        know(&mut net, &[], 80);
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut net, dpid)), [0; 4]);
    }
}

#[test]
fn a_dead_link_moves_them_and_deleted_ones_come_back() {
    for version in BOTH {
        let mut net = network(version, Settings::default(), true);
        know(&mut net, &[1], 80);
        let frame = answer(1, 4, 80);
        assert_eq!(net.inject((1, 1), &frame), [(3, 1)]);
        let first = net.way(&frame)[0];
        net.set_wire(first, false);
        assert_eq!(net.inject((1, 1), &frame), [(3, 1)], "{version}: the other way round");
        assert_ne!(net.way(&frame)[0], first);
        let gone = net.model(1).remove(|flow| flow.cookie.0 >> 24 == STEER);
        assert_eq!(gone, 1);
        net.run();
        assert_eq!(steered(&mut net, 1), 1, "put back");
        assert_eq!(net.inject((1, 1), &frame), [(3, 1)]);
    }
}

#[test]
fn a_new_controller_keeps_them_until_it_knows_better() {
    for version in BOTH {
        let mut net = network(version, Settings::default(), false);
        know(&mut net, &[1], 80);
        let models: Vec<Model> = (1..=4).map(|dpid| net.disconnect(dpid)).collect();
        let mut later = Fabric::new(version, Settings::default(), [], 8, &[]);
        later.wires = net.wires.clone();
        for model in models {
            later.connect(model);
        }
        later.pass(Duration::from_secs(2));
        // Neither backends nor the balancer are known yet, and answers go on.
        let frame = answer(1, 4, 80);
        assert_eq!(later.inject((1, 1), &frame), [(3, 1)], "{version}");
        announce(&mut later, 1, (1, 1));
        announce(&mut later, BALANCER, (3, 1));
        know(&mut later, &[1], 80);
        later.pass(Duration::from_secs(30));
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut later, dpid)), [1, 1, 1, 0]);
        // One that never hears of a balancer removes what an earlier one left.
        let models: Vec<Model> = (1..=4).map(|dpid| later.disconnect(dpid)).collect();
        let mut last = Fabric::new(version, Settings::default(), [], 8, &[]);
        last.wires = later.wires.clone();
        for model in models {
            last.connect(model);
        }
        last.pass(Duration::from_secs(30));
        assert_eq!([1, 2, 3, 4].map(|dpid| steered(&mut last, dpid)), [0; 4], "{version}");
    }
}
