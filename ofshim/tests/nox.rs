//! The balancer of the NOX article, line by line: as it was (`nox-packets`), and repaired (`nox`), in both versions.

mod model;

use std::time::Duration;

use model::{ACK, BROADCAST, Model, NOWHERE, Net, SYN, SYN_ACK, arp, frame, host, tcp};
use ofshim::core::classic::{NoxSettings, Settings as Classic};
use ofshim::core::{ConnId, Forwarding, Settings};
use openflow::{
    Action, DatapathId, FlowModFlags, MacAddr, MatchField, Message, PortNo, PortReason, PortStatus, Version,
};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
/// The address that hosts 2 and 3 share; host 1 is the client.
const SHARED: [u8; 4] = [192, 168, 2, 2];
const CLIENT: [u8; 4] = [192, 168, 2, 1];
const SYN_ECN: u8 = SYN | 0xc0;

fn settings(classic: Classic) -> Settings {
    Settings { forwarding: Forwarding::Hub, classic: Some(classic), discovery: None, ..Settings::default() }
}

fn repaired() -> Classic {
    Classic::Nox { nox: NoxSettings { age: Duration::from_secs(90), idle_s: 10 }, dpid: None }
}

/// A switch with six ports; the client asked for the shared address, and both hosts answered.
fn introduced(version: Version, classic: Classic) -> (Net, ConnId) {
    let mut net = Net::new(settings(classic));
    let s1 = net.connect(Model::new(version, 1, 6));
    introduce(&mut net, s1);
    (net, s1)
}

fn introduce(net: &mut Net, s1: ConnId) {
    assert_eq!(net.inject(s1, 1, &arp(1, host(1), BROADCAST, CLIENT, SHARED)), [2, 3, 4, 5, 6]);
    for number in [2, 3] {
        let reply = arp(2, host(number), host(1), SHARED, CLIENT);
        assert_eq!(net.inject(s1, number.into(), &reply).len(), 5, "flooded, as everything");
    }
}

/// The client's segment; it believed host 2.
fn request(port: u16, flags: u8) -> Vec<u8> {
    tcp((host(1), host(2)), (CLIENT, port), (SHARED, 22), flags)
}

fn answer(number: u8, port: u16, flags: u8) -> Vec<u8> {
    tcp((host(number), host(1)), (SHARED, 22), (CLIENT, port), flags)
}

/// Sends the client's segment; which host it reached.
fn send(net: &mut Net, s1: ConnId, port: u16, flags: u8) -> u8 {
    let out = net.inject_raw(s1, 1, &request(port, flags), None);
    let [(at, bytes)] = out.as_slice() else { panic!("came out at {out:?}") };
    let number = u8::try_from(*at).unwrap();
    let wanted = tcp((host(1), host(number)), (CLIENT, port), (SHARED, 22), flags);
    assert_eq!(bytes, &wanted, "only the destination MAC changes");
    number
}

fn opened(net: &mut Net, s1: ConnId, ports: std::ops::Range<u16>) -> Vec<u8> {
    ports.map(|port| send(net, s1, port, SYN)).collect()
}

fn packet_ins(net: &Net) -> u64 {
    net.controller.status(&[], net.now).switches[0].packet_ins
}

/// The hosts with the shared address that are known.
fn known(net: &Net) -> Vec<String> {
    let hosts = net.controller.hosts(net.now).hosts;
    let shared = hosts.into_iter().filter(|host| host.address == Some(SHARED.into()));
    let mut macs: Vec<String> = shared.map(|host| host.mac).collect();
    macs.sort();
    macs
}

/// Lets time pass; hosts that are asked whether they are there answer, if they are among these.
fn pass(net: &mut Net, s1: ConnId, alive: &[u8], time: Duration) {
    let end = net.now + time;
    while net.now < end {
        net.pass(Duration::from_millis(100));
        for (port, bytes) in net.emitted(s1) {
            let number = u8::try_from(port).unwrap();
            let asks = bytes.len() == 42 && bytes[20..22] == [0, 1] && bytes[..6] == host(number).0;
            if asks && alive.contains(&number) {
                let from = MacAddr(bytes[6..12].try_into().unwrap());
                let mine: [u8; 4] = bytes[38..42].try_into().unwrap();
                let out = net.inject_raw(s1, port, &arp(2, host(number), from, mine, [0; 4]), None);
                assert_eq!(out, [], "the answer is the controller's alone");
            }
        }
    }
}

fn pinned(net: &Net, s1: ConnId) -> usize {
    net.model(s1).flows.iter().filter(|flow| flow.cookie.0 >> 24 == 0x6f_6673_6809).count()
}

const ALL: [u8; 3] = [1, 2, 3];

#[test]
fn packets_hosts_of_one_address_take_turns() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, Classic::NoxPackets);
        assert_eq!(opened(&mut net, s1, 1..7), [2, 3, 2, 3, 2, 3]);
        // Both directions of each stay together, and the client sees the MAC that it knows.
        for (port, number) in (1..7).zip([2, 3].into_iter().cycle()) {
            for flags in [SYN_ACK, ACK] {
                let out = net.inject_raw(s1, number.into(), &answer(number, port, flags), None);
                let seen = tcp((host(2), host(1)), (SHARED, 22), (CLIENT, port), flags);
                assert_eq!(out, [(1, seen)], "only the source MAC changes");
                assert_eq!(send(&mut net, s1, port, ACK), number);
            }
        }
    }
}

#[test]
fn packets_every_one_goes_through_the_controller() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, Classic::NoxPackets);
        let before = packet_ins(&net);
        send(&mut net, s1, 7, SYN);
        (0..50).for_each(|_| assert_eq!(send(&mut net, s1, 7, ACK), 2));
        assert_eq!(packet_ins(&net), before + 51);
        let status = net.controller.status(&[], net.now);
        let miss = if version == Version::V1_3 { 3 } else { 0 };
        assert_eq!(status.switches[0].flow_mods, miss, "no entry but the table-miss entries");
    }
}

#[test]
fn packets_macs_are_known_for_five_seconds_whatever_they_send() {
    let mut net = Net::new(settings(Classic::NoxPackets));
    let s1 = net.connect(Model::new(Version::V1_0, 1, 6));
    let mac_known = |net: &Net| net.controller.hosts(net.now).hosts.iter().any(|host| host.address.is_none());
    net.pass(Duration::from_secs(1));
    let learned = net.now;
    net.inject(s1, 1, &frame(host(1), BROADCAST));
    assert!(mac_known(&net));
    while mac_known(&net) {
        assert!(net.now - learned < Duration::from_secs(7));
        net.pass(Duration::from_millis(500));
        if net.now - learned < Duration::from_millis(4500) {
            net.inject(s1, 1, &frame(host(1), BROADCAST));
        }
    }
    let took = net.now - learned;
    assert!(
        took >= Duration::from_secs(5) && took <= Duration::from_millis(6100),
        "swept once a second: {took:?}"
    );
    // A move counts anew, and is logged.
    net.inject(s1, 1, &frame(host(1), BROADCAST));
    net.pass(Duration::from_secs(4));
    net.inject(s1, 2, &frame(host(1), BROADCAST));
    let moved = format!("switch 0000000000000001: host {} moved from port 1 to port 2", host(1));
    assert_eq!(net.logged(&moved), 1);
    net.pass(Duration::from_secs(4));
    assert!(mac_known(&net));
    net.pass(Duration::from_secs(3));
    assert!(!mac_known(&net));
    // Multicast sources are not learned; their frames are flooded like all.
    assert_eq!(net.inject(s1, 1, &frame(MacAddr([1, 0, 0x5e, 0, 0, 1]), host(2))), [2, 3, 4, 5, 6]);
    assert!(!mac_known(&net));
}

#[test]
fn packets_addresses_come_from_arp_and_ipv4_and_what_is_known_forwards_nothing() {
    for version in BOTH {
        let mut net = Net::new(settings(Classic::NoxPackets));
        let s1 = net.connect(Model::new(version, 1, 6));
        net.inject(s1, 2, &arp(1, host(2), BROADCAST, SHARED, CLIENT));
        assert_eq!(known(&net), [host(2).to_string()]);
        // A frame to a MAC that is known is flooded all the same: the table is not used.
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2, 3, 4, 5, 6]);
        net.inject(s1, 3, &tcp((host(3), host(1)), (SHARED, 22), (CLIENT, 5), ACK));
        assert_eq!(known(&net), [host(2).to_string(), host(3).to_string()]);
        assert_eq!(opened(&mut net, s1, 1..5), [2, 3, 2, 3]);
        // An address that nobody named is not balanced.
        let unknown = tcp((host(1), host(9)), (CLIENT, 9), ([192, 168, 2, 9], 22), SYN);
        assert_eq!(net.inject(s1, 1, &unknown), [2, 3, 4, 5, 6]);
    }
}

#[test]
fn packets_everything_else_is_flooded_and_lldp_dropped() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, Classic::NoxPackets);
        let mut udp = request(7, 0);
        udp[23] = 17;
        let mut lldp = frame(host(4), MacAddr([1, 0x80, 0xc2, 0, 0, 0x0e]));
        lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
        for cut in [None, Some(60)] {
            assert_eq!(net.inject_as(s1, 1, &udp, cut), [2, 3, 4, 5, 6]);
            assert_eq!(net.inject_as(s1, 1, &request(99, ACK), cut), [2, 3, 4, 5, 6], "of no connection");
            assert_eq!(net.inject_as(s1, 4, &lldp, cut), NOWHERE);
            assert!(net.model(s1).buffers.is_empty());
        }
        // One table for all switches, without their ids: another switch sends to the ports of the first.
        let s2 = net.connect(Model::new(version, 2, 6));
        assert_eq!(send(&mut net, s2, 50, SYN), 2);
    }
}

#[test]
fn packets_a_dead_host_keeps_its_turn() {
    let (mut net, s1) = introduced(Version::V1_0, Classic::NoxPackets);
    net.pass(Duration::from_secs(3600));
    assert_eq!(opened(&mut net, s1, 1..5), [2, 3, 2, 3]);
    let port = net.model(s1).port(PortNo(3), false);
    net.send(s1, &Message::PortStatus(PortStatus { reason: PortReason::Modify, port }));
    assert_eq!(opened(&mut net, s1, 5..9), [2, 3, 2, 3], "even if its port is down");
}

#[test]
fn packets_connections_are_never_forgotten() {
    let (mut net, s1) = introduced(Version::V1_0, Classic::NoxPackets);
    opened(&mut net, s1, 1..101);
    net.pass(Duration::from_secs(3600));
    assert_eq!(net.controller.status(&[], net.now).classic.unwrap().connections, 100);
    assert_eq!(send(&mut net, s1, 2, ACK), 3);
}

#[test]
fn packets_a_syn_with_flags_of_ecn_is_missed_and_a_repeated_one_moves() {
    let (mut net, s1) = introduced(Version::V1_0, Classic::NoxPackets);
    assert_eq!(net.inject(s1, 1, &request(1, SYN_ECN)), [2, 3, 4, 5, 6]);
    assert_eq!(net.controller.status(&[], net.now).classic.unwrap().connections, 0);
    assert_eq!(
        [send(&mut net, s1, 2, SYN), send(&mut net, s1, 2, SYN), send(&mut net, s1, 2, SYN)],
        [2, 3, 2]
    );
}

#[test]
fn installed_entries_carry_a_connection() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        let before = packet_ins(&net);
        assert_eq!(opened(&mut net, s1, 1..7), [2, 3, 2, 3, 2, 3]);
        for (port, number) in (1..7).zip([2, 3].into_iter().cycle()) {
            for flags in [SYN_ACK, ACK] {
                let out = net.inject_raw(s1, number.into(), &answer(number, port, flags), None);
                assert_eq!(out, [(1, tcp((host(2), host(1)), (SHARED, 22), (CLIENT, port), flags))]);
                assert_eq!(send(&mut net, s1, port, ACK), number);
            }
        }
        assert_eq!(packet_ins(&net), before + 6, "one for each connection");
        assert_eq!(pinned(&net, s1), 12);
        let entries: Vec<_> = net.model(s1).flows.iter().filter(|flow| flow.priority != 0).collect();
        assert!(entries.iter().all(|flow| (flow.idle_s, flow.hard_s) == (10, 0)));
        assert!(entries.iter().all(|flow| flow.flags == FlowModFlags::SEND_FLOW_REM));
        let to_host = Action::SetField(MatchField::EthDst { value: host(2), mask: None });
        assert_eq!(
            entries[0].instructions,
            [openflow::Instruction::ApplyActions(vec![to_host, Action::output(PortNo(2))])]
        );
        let flows = net.controller.flows(net.now).flows;
        assert_eq!((flows.len(), flows[0].purpose.as_str()), (12, "pinned"));
    }
}

#[test]
fn installed_a_repeated_syn_stays_and_one_with_flags_of_ecn_counts() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        assert_eq!(send(&mut net, s1, 1, SYN_ECN), 2);
        // Before the entries work, after, and when they are gone.
        net.switches.get_mut(&s1).unwrap().flows.retain(|flow| flow.priority == 0);
        assert_eq!(send(&mut net, s1, 1, SYN_ECN), 2);
        assert_eq!(pinned(&net, s1), 0, "entries that are on their way are not sent again");
        pass(&mut net, s1, &ALL, Duration::from_secs(2));
        assert_eq!([send(&mut net, s1, 1, SYN), send(&mut net, s1, 1, SYN_ECN)], [2, 2]);
        assert_eq!(pinned(&net, s1), 2);
        pass(&mut net, s1, &ALL, Duration::from_secs(12));
        assert_eq!(pinned(&net, s1), 0);
        assert_eq!([send(&mut net, s1, 1, SYN), send(&mut net, s1, 2, SYN)], [2, 3], "and the turn goes on");
    }
}

#[test]
fn installed_connections_are_forgotten_after_the_age_and_the_table_is_empty() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        let connections = |net: &Net| net.controller.status(&[], net.now).classic.unwrap().connections;
        opened(&mut net, s1, 1..101);
        assert_eq!((connections(&net), pinned(&net, s1)), (100, 200));
        // One is used on; the others' entries go, and they are remembered.
        for _ in 0..9 {
            pass(&mut net, s1, &ALL, Duration::from_secs(9));
            send(&mut net, s1, 1, ACK);
            net.inject_raw(s1, 2, &answer(2, 1, ACK), None);
        }
        assert_eq!((connections(&net), pinned(&net, s1)), (100, 2));
        assert_eq!(send(&mut net, s1, 4, ACK), 3, "it comes back to where it was");
        pass(&mut net, s1, &ALL, Duration::from_secs(20));
        assert_eq!((connections(&net), pinned(&net, s1)), (2, 0));
        pass(&mut net, s1, &ALL, Duration::from_secs(90));
        assert_eq!((connections(&net), pinned(&net, s1)), (0, 0));
        assert_eq!(net.inject(s1, 1, &request(4, ACK)), [2, 3, 4, 5, 6]);
    }
}

#[test]
fn installed_a_silent_host_loses_its_turn_and_an_idle_one_keeps_it() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        // Nobody says anything, but hosts that are asked answer.
        pass(&mut net, s1, &ALL, Duration::from_secs(600));
        assert_eq!(opened(&mut net, s1, 1..5), [2, 3, 2, 3]);
        let connections = |net: &Net| net.controller.status(&[], net.now).classic.unwrap().connections;
        let stopped = net.now;
        while known(&net).len() == 2 {
            // Clients do what they can to reach it: that is no sign of life.
            send(&mut net, s1, 2, ACK);
            pass(&mut net, s1, &[1, 2], Duration::from_secs(1));
        }
        let took = net.now - stopped;
        assert!(took <= Duration::from_secs(91), "{took:?}");
        assert_eq!(net.logged(&format!("host {} of 192.168.2.2 was silent for 90 s", host(3))), 1);
        // Its connections went with it: what belongs to them is not sent to it any more.
        let of_three = net.model(s1).flows.iter().filter(|flow| {
            flow.instructions.contains(&openflow::Instruction::ApplyActions(vec![
                Action::SetField(MatchField::EthDst { value: host(3), mask: None }),
                Action::output(PortNo(3)),
            ]))
        });
        assert_eq!(of_three.count(), 0);
        assert_eq!(connections(&net), 2, "those of the other host are left");
        assert_eq!(opened(&mut net, s1, 11..15), [2, 2, 2, 2]);
        assert_eq!(send(&mut net, s1, 2, SYN), 2, "a client that begins anew is served");
        // It comes back as soon as it says something.
        net.inject(s1, 3, &arp(1, host(3), BROADCAST, SHARED, CLIENT));
        let mut both = opened(&mut net, s1, 21..25);
        both.sort_unstable();
        assert_eq!(both, [2, 2, 3, 3]);
    }
}

#[test]
fn installed_a_host_that_only_entries_hear_keeps_its_turn() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        for round in 0..12 {
            // Both answer a client, which entries forward, and nobody answers when he is asked.
            assert_eq!([send(&mut net, s1, 1, SYN), send(&mut net, s1, 2, SYN)], [2, 3], "round {round}");
            net.pass(Duration::from_secs(1));
            let before = packet_ins(&net);
            for number in [2, 3] {
                net.inject_raw(s1, number.into(), &answer(number, u16::from(number) - 1, SYN_ACK), None);
            }
            assert_eq!(packet_ins(&net), before);
            pass(&mut net, s1, &[1], Duration::from_secs(11));
            assert_eq!(pinned(&net, s1), 0);
        }
        assert_eq!(known(&net).len(), 2, "after two minutes");
    }
}

#[test]
fn installed_a_host_whose_port_goes_down_loses_its_turn_at_once() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        assert_eq!(opened(&mut net, s1, 1..5), [2, 3, 2, 3]);
        let port = net.model(s1).port(PortNo(3), false);
        net.send(s1, &Message::PortStatus(PortStatus { reason: PortReason::Modify, port }));
        assert_eq!(known(&net), [host(2).to_string()]);
        assert_eq!(net.logged("was at port 3, which is down"), 1);
        assert_eq!(pinned(&net, s1), 4, "the entries of its connections are gone, and no others");
        assert_eq!(opened(&mut net, s1, 2..5), [2, 2, 2], "a SYN that is sent again finds the living one");
        // The client's own port: nothing of its connections is left.
        let port = net.model(s1).port(PortNo(1), false);
        net.send(s1, &Message::PortStatus(PortStatus { reason: PortReason::Modify, port }));
        assert_eq!(pinned(&net, s1), 0);
    }
}

#[test]
fn installed_connections_follow_hosts_that_move() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        assert_eq!(opened(&mut net, s1, 1..3), [2, 3]);
        net.inject(s1, 6, &arp(1, host(3), BROADCAST, SHARED, CLIENT));
        assert_eq!(net.logged(&format!("host {} moved from port 3 to port 6", host(3))), 1);
        assert_eq!(pinned(&net, s1), 2);
        let out = net.inject_raw(s1, 1, &request(2, ACK), None);
        assert_eq!(out, [(6, tcp((host(1), host(3)), (CLIENT, 2), (SHARED, 22), ACK))]);
        // The client too.
        net.inject(s1, 5, &arp(1, host(1), BROADCAST, CLIENT, SHARED));
        let out = net.inject_raw(s1, 6, &answer(3, 2, ACK), None);
        assert_eq!(out, [(5, tcp((host(2), host(1)), (SHARED, 22), (CLIENT, 2), ACK))]);
        assert_eq!(net.inject_raw(s1, 5, &request(1, ACK), None)[0].0, 2);
    }
}

#[test]
fn installed_everything_else_is_flooded_and_bridges_own_frames_are_dropped() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        let mut lldp = frame(host(4), MacAddr([1, 0x80, 0xc2, 0, 0, 0x0e]));
        lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
        assert_eq!(net.inject_as(s1, 4, &lldp, Some(60)), NOWHERE);
        assert!(net.model(s1).buffers.is_empty());
        assert_eq!(net.inject(s1, 1, &request(9, ACK)), [2, 3, 4, 5, 6]);
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2, 3, 4, 5, 6]);
        // Addresses that are none, and sources that are groups, are not learned.
        net.inject(s1, 4, &arp(1, host(4), BROADCAST, [0, 0, 0, 0], SHARED));
        net.inject(s1, 4, &arp(1, MacAddr([3; 6]), BROADCAST, SHARED, CLIENT));
        assert_eq!(known(&net).len(), 2);
        assert_eq!(net.controller.hosts(net.now).hosts.len(), 3);
    }
}

#[test]
fn installed_a_full_switch_is_served_without_entries() {
    for version in BOTH {
        let (mut net, s1) = introduced(version, repaired());
        let room = net.model(s1).flows.len();
        net.switches.get_mut(&s1).unwrap().room = room;
        assert_eq!(opened(&mut net, s1, 1..5), [2, 3, 2, 3]);
        assert_eq!((send(&mut net, s1, 2, ACK), pinned(&net, s1)), (3, 0));
        net.switches.get_mut(&s1).unwrap().room = usize::MAX;
        pass(&mut net, s1, &ALL, Duration::from_secs(3));
        assert_eq!(send(&mut net, s1, 2, ACK), 3);
        assert_eq!(pinned(&net, s1), 2, "and with them when there is room");
    }
}

#[test]
fn installed_one_switch_is_balanced_on_and_the_others_flood() {
    for version in BOTH {
        let Classic::Nox { nox, .. } = repaired() else { unreachable!() };
        let mut net = Net::new(settings(Classic::Nox { nox, dpid: Some(DatapathId(2)) }));
        let s1 = net.connect(Model::new(version, 1, 6));
        let s2 = net.connect(Model::new(version, 2, 6));
        assert_eq!(
            net.logged("Ignoring switch 0000000000000001: nox balances on switch 0000000000000002"),
            1
        );
        introduce(&mut net, s1);
        assert_eq!(net.inject(s1, 1, &request(1, SYN)), [2, 3, 4, 5, 6]);
        introduce(&mut net, s2);
        assert_eq!(opened(&mut net, s2, 1..4), [2, 3, 2]);
        // It goes and comes back: connections are known, their entries come with their packets.
        let model = net.disconnect(s2);
        net.pass(Duration::from_secs(200));
        let s2 = net.connect(model);
        assert_eq!((known(&net).len(), pinned(&net, s2)), (2, 0), "silence of the connection is nobody's");
        assert_eq!(opened(&mut net, s2, 11..14).len(), 3);
    }
}
