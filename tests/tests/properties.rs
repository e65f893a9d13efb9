//! Properties of the core that need no root.

use proptest::prelude::*;
use testbed::bench::Bench;
use testbed::frame::{ACK, Ip, Mac, Packet, SYN, octets, raw};
use testbed::model::HostModel;
use testbed::oracle::sum;
use testbed::random::Random;
use testbed::scenario::{Mode, Scenario};
use testbed::side::Action;
use testbed::traffic::{Traffic, change, host, jump, scenario, vip};

/// Interfaces of the scenario's first client and first backend.
const CLIENT_PORT: u32 = 14;
const BACKEND_PORT: u32 = 11;

/// Addresses that are neither a VIP's nor a backend's.
fn strangers() -> impl Strategy<Value = Ip> {
    any::<[u8; 4]>().prop_filter("an address of ours", |ip| ip[..2] != [10, 0]).prop_map(Ip::from)
}

fn flow() -> impl Strategy<Value = (u16, u16, bool, Vec<u8>)> {
    (
        1u16..,
        prop_oneof![Just(80), Just(443), 1u16..],
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 0..200),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in, of any length: no panic, the ledger balances, and the oracle agrees.
    #[test]
    fn any_bytes(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..150), 1..20)) {
        let mut bench = Bench::new(&scenario(&mut Random::new(1)), None).expect("no kernel takes part");
        for frame in frames {
            if let Err(difference) = bench.run(&frame, CLIENT_PORT) {
                prop_assert!(false, "{difference:#}");
            }
        }
        prop_assert!(bench.snapshot().is_ok());
    }

    /// Headers that lead deep, with bytes of any value behind them.
    #[test]
    fn any_bytes_to_a_vip(
        header in proptest::collection::vec(any::<u8>(), 20..60),
        ihl in 4u8..=15,
        protocol in prop_oneof![Just(6u8), Just(17), any::<u8>()],
        length in 0u16..80,
        rest in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut bench = Bench::new(&scenario(&mut Random::new(1)), None).expect("no kernel takes part");
        let mut ip = header;
        ip[0] = 0x40 | ihl;
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip[6..8].copy_from_slice(&[0, 0]);
        ip[9] = protocol;
        ip[16..20].copy_from_slice(&octets(vip(1).1));
        ip.extend(rest);
        let frame = raw(vip(1).0, host(4).0, &[], 0x0800, &ip);
        if let Err(difference) = bench.run(&frame, CLIENT_PORT) {
            prop_assert!(false, "{difference:#}");
        }
    }

    /// Long random conversations while tables and clock change: the ledger balances at every moment.
    #[test]
    fn the_ledger_balances(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut tables = scenario(&mut random);
        let mut model = HostModel::new(&tables);
        let mut traffic = Traffic::new(Random::new(random.bits()));
        let mut now = 0u32;
        for number in 1..=100u64 {
            if random.one_in(10) {
                now = now.wrapping_add(jump(&mut random));
                change(&mut random, &mut tables);
                model.change(&tables);
            }
            model.inputs(now, random.bits() as u32);
            let (frame, ifindex) = traffic.next_frame();
            traffic.heard(&model.run(&frame, ifindex));
            prop_assert_eq!(model.ledger_difference(), 0);
            prop_assert_eq!(model.snapshot().counters.get("received").copied(), Some(number));
        }
    }

    /// Traffic between others keeps every byte.
    #[test]
    fn not_ours_is_never_changed(
        from in strangers(),
        to in strangers(),
        (sport, dport, udp, payload) in flow(),
        options in 0usize..=10,
        tags in 0usize..=3,
        fragment in any::<u16>(),
        to_vip_mac in any::<bool>(),
    ) {
        let model = HostModel::new(&scenario(&mut Random::new(1)));
        let mac = if to_vip_mac { vip(1).0 } else { host(5).0 };
        let (from, to) = ((host(4).0, from, sport), (mac, to, dport));
        let packet = if udp { Packet::udp(from, to, &payload) } else { Packet::tcp(from, to, SYN, 1, &payload) };
        let mut packet = packet.ip_options(&vec![1; 4 * options]).fragment(fragment);
        for tag in 0..tags {
            packet = packet.tag(0x8100, tag as u16);
        }
        let frame = packet.bytes();
        let verdict = model.run(&frame, CLIENT_PORT);
        prop_assert_eq!(verdict.action, Action::Pass);
        prop_assert_eq!(verdict.bytes, frame);
        // An address may share its bit with one of ours, but no more than that.
        prop_assert!(["not_ours", "no_connection", "not_ip"].contains(&verdict.reason), "{}", verdict.reason);
        let snapshot = model.snapshot();
        prop_assert!(snapshot.connections.is_empty());
        prop_assert_eq!(snapshot.counters.len(), 2, "received and the reason, nothing else: {:?}", snapshot.counters);
    }

    /// A packet to a VIP and the answer to it: the backend sees its own address, the client sees the VIP's, and
    /// both see right checksums.
    #[test]
    fn there_and_back_again(
        client in strangers(),
        (sport, dport, udp, payload) in flow(),
        answer in proptest::collection::vec(any::<u8>(), 0..200),
        options in 0usize..=10,
        random in any::<u32>(),
    ) {
        let tables = scenario(&mut Random::new(1));
        let number = if udp { 5 } else { 3 };
        let model = HostModel::new(&tables);
        model.inputs(7, random);
        let (from, to) = ((host(4).0, client, sport), (vip(number).0, vip(number).1, dport));
        let packet = if udp { Packet::udp(from, to, &payload) } else { Packet::tcp(from, to, SYN, 1, &payload) };
        let there = model.run(&packet.ip_options(&vec![1; 4 * options]).bytes(), CLIENT_PORT);
        prop_assert!(there.reason.starts_with("to_backend"), "{}", there.reason);
        prop_assert_eq!(sum::valid(&there.bytes), Some(true));

        let (mac, address) = destination(&there.bytes);
        prop_assert!(is_backend(&tables, u16::from(number), mac, address));
        prop_assert_eq!(there.bytes.len(), 14 + 20 + 4 * options + if udp { 8 } else { 20 } + payload.len());

        let (from, to) = ((mac, address, dport), (host(4).0, client, sport));
        let reply = if udp { Packet::udp(from, to, &answer) } else { Packet::tcp(from, to, SYN | ACK, 9, &answer) };
        let back = model.run(&reply.bytes(), BACKEND_PORT);
        prop_assert!(back.reason.starts_with("to_client"), "{}", back.reason);
        prop_assert_eq!(sum::valid(&back.bytes), Some(true));
        let from_vip = reply.from((vip(number).0, vip(number).1, dport));
        prop_assert_eq!(back.bytes, from_vip.bytes(), "just as if the VIP had sent it");
    }
}

/// Destination MAC and address of an untagged IPv4 frame.
fn destination(frame: &[u8]) -> (Mac, Ip) {
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[..6]);
    (mac, Ip::from([frame[30], frame[31], frame[32], frame[33]]))
}

fn is_backend(tables: &Scenario, vip: u16, mac: Mac, address: Ip) -> bool {
    tables.backends.iter().any(|b| b.vip == vip && b.mac == mac && b.address == address)
        && tables.vips.iter().any(|v| v.id == vip && v.mode == Mode::Nat)
}
