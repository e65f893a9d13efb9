//! Learning and forwarding, seen from the ports of switches in memory, in both versions.

mod model;

use std::time::Duration;

use model::{BROADCAST, Model, NOWHERE, Net, arp, frame, host, tagged};
use ofshim::core::Settings;
use openflow::{
    BufferId, Cookie, Instruction, MacAddr, Message, PacketIn, PacketInReason, PortNo, PortReason,
    PortStatus, Version,
};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];

/// Two hosts that know each other: entries for both directions are there.
fn acquainted(version: Version) -> (Net, ofshim::core::ConnId) {
    let (mut net, s1) = Net::single(version, 4);
    assert_eq!(net.inject(s1, 1, &arp(1, host(1), BROADCAST, [10, 0, 0, 1], [10, 0, 0, 2])), [2, 3, 4]);
    assert_eq!(net.inject(s1, 2, &arp(2, host(2), host(1), [10, 0, 0, 2], [10, 0, 0, 1])), [1]);
    assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2]);
    (net, s1)
}

fn packet_ins(net: &Net) -> u64 {
    net.controller.status(&[], net.now).switches[0].packet_ins
}

#[test]
fn unknown_is_flooded_and_known_goes_to_its_port_without_the_controller() {
    for version in BOTH {
        let (mut net, s1) = acquainted(version);
        let before = packet_ins(&net);
        assert_eq!(before, 3);
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2]);
        assert_eq!(net.inject(s1, 2, &frame(host(2), host(1))), [1]);
        assert_eq!(packet_ins(&net), before, "entries forward what follows");
        assert_eq!(net.inject(s1, 3, &frame(host(3), host(9))), [1, 2, 4], "unknown destination");
        assert_eq!(net.inject(s1, 4, &frame(host(4), BROADCAST)), [1, 2, 3]);
        let flows = net.controller.flows(net.now).flows;
        assert_eq!(flows.len(), 2);
        assert!(flows.iter().all(|flow| flow.cookie.starts_with("0x6f66736802")), "{flows:?}");
        let addresses: Vec<_> =
            net.controller.hosts(net.now).hosts.into_iter().map(|host| host.address).collect();
        assert_eq!(addresses[..2], [Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into())]);
    }
}

#[test]
fn packets_that_come_before_the_entry_works_do_not_install_it_again() {
    for version in BOTH {
        let (mut net, s1) = acquainted(version);
        let sent = |net: &Net| net.controller.status(&[], net.now).switches[0].flow_mods;
        let before = sent(&net);
        // The switch lost its entries and does not say so; packets are forwarded all the same.
        net.switches.get_mut(&s1).unwrap().flows.retain(|flow| flow.priority == 0);
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2]);
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2]);
        assert_eq!(sent(&net), before);
        net.pass(Duration::from_secs(1));
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2]);
        assert_eq!(sent(&net), before + 1, "later it is installed anew");
    }
}

#[test]
fn entries_end_by_both_timeouts_and_stations_age() {
    for version in BOTH {
        let (mut net, s1) = acquainted(version);
        net.pass(Duration::from_secs(11));
        assert_eq!(net.controller.flows(net.now).flows.len(), 0, "idle");
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2], "the station is still known");
        for _ in 0..24 {
            net.pass(Duration::from_secs(5));
            assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2]);
        }
        assert_eq!(
            net.controller.flows(net.now).flows.len(),
            1,
            "traffic keeps it, and the hard timeout renews it"
        );
        assert!(net.controller.flows(net.now).flows[0].age_ms < 10_000);
        net.pass(Duration::from_secs(311));
        assert_eq!(net.controller.hosts(net.now).hosts.len(), 0, "aged");
        assert_eq!(net.inject(s1, 3, &frame(host(3), host(2))), [1, 2, 4]);
    }
}

#[test]
fn a_station_with_a_living_entry_does_not_age() {
    let settings = Settings { idle_timeout_s: 0, hard_timeout_s: 0, ..Settings::learning() };
    let mut net = Net::new(settings);
    let s1 = net.connect(Model::new(Version::V1_3, 1, 3));
    net.inject(s1, 1, &frame(host(1), BROADCAST));
    assert_eq!(net.inject(s1, 2, &frame(host(2), host(1))), [1]);
    net.pass(Duration::from_secs(400));
    let known: Vec<_> = net.controller.hosts(net.now).hosts.into_iter().map(|host| host.mac).collect();
    assert_eq!(known, [host(2).to_string()]);
}

#[test]
fn a_station_that_moves_takes_its_entries_along() {
    for version in BOTH {
        let (mut net, s1) = acquainted(version);
        assert_eq!(net.inject(s1, 3, &frame(host(2), BROADCAST)), [1, 2, 4]);
        assert_eq!(
            net.controller.flows(net.now).flows.len(),
            0,
            "entries from and to the old place are gone"
        );
        assert!(net.model(s1).flows.iter().all(|flow| flow.priority == 0), "{:?}", net.model(s1).flows);
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [3]);
        assert_eq!(net.logged("moved from port 2 to port 3"), 1);
        // Back and forth: each direction has what it needs, and the log does not fill.
        for _ in 0..10 {
            assert_eq!(net.inject(s1, 2, &frame(host(2), host(1))), [1]);
            assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2]);
            assert_eq!(net.inject(s1, 3, &frame(host(2), host(1))), [1]);
            assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [3]);
        }
        assert_eq!(net.logged("moved from"), 1);
    }
}

#[test]
fn a_dead_port_loses_everything_at_once() {
    for version in BOTH {
        for reason in [PortReason::Modify, PortReason::Delete] {
            let (mut net, s1) = acquainted(version);
            let up = reason == PortReason::Delete;
            let port = net.model(s1).port(PortNo(2), up);
            net.send(s1, &Message::PortStatus(PortStatus { reason, port }));
            assert_eq!(net.controller.flows(net.now).flows.len(), 0);
            assert!(net.model(s1).flows.iter().all(|flow| flow.priority == 0), "{:?}", net.model(s1).flows);
            let known: Vec<_> =
                net.controller.hosts(net.now).hosts.into_iter().map(|host| host.mac).collect();
            assert_eq!(known, [host(1).to_string()]);
            assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2, 3, 4], "flooded again");
            let down = net.controller.topology().switches[0].ports.iter().filter(|port| !port.up).count();
            assert_eq!(down, usize::from(!up));
        }
    }
}

#[test]
fn vlans_are_apart() {
    for version in BOTH {
        let (mut net, s1) = Net::single(version, 3);
        net.inject(s1, 1, &tagged(host(1), BROADCAST, 5));
        assert_eq!(net.inject(s1, 2, &tagged(host(2), host(1), 5)), [1]);
        assert_eq!(net.inject(s1, 2, &tagged(host(2), host(1), 6)), [1, 3], "other VLAN");
        assert_eq!(net.inject(s1, 2, &frame(host(2), host(1))), [1, 3], "no tag");
        let vlans: Vec<_> = net.controller.flows(net.now).flows.into_iter().map(|flow| flow.vlan).collect();
        assert_eq!(vlans, [Some(5)]);
    }
}

#[test]
fn what_bridges_keep_to_themselves_goes_nowhere() {
    for version in BOTH {
        let (mut net, s1) = Net::single(version, 3);
        for last in [0x00, 0x02, 0x03, 0x0e, 0x0f] {
            let group = MacAddr([0x01, 0x80, 0xc2, 0, 0, last]);
            assert_eq!(net.inject(s1, 1, &frame(host(1), group)), NOWHERE, "{group}");
        }
        assert_eq!(
            net.inject(s1, 1, &frame(MacAddr([0x03, 0, 0, 0, 0, 1]), BROADCAST)),
            NOWHERE,
            "group as source"
        );
        assert_eq!(net.inject(s1, 1, &frame(MacAddr([0; 6]), BROADCAST)), NOWHERE, "no source");
        assert_eq!(net.controller.hosts(net.now).hosts.len(), 0);
        let group = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x10]);
        assert_eq!(net.inject(s1, 1, &frame(host(1), group)), [2, 3], "beyond the sixteen");
        assert_eq!(net.inject(s1, 1, &frame(host(2), host(1))), NOWHERE, "would go back to its port");
    }
}

#[test]
fn packets_that_the_switch_keeps_are_freed() {
    for version in BOTH {
        let (mut net, s1) = Net::single(version, 3);
        // Cut short: only the switch has the whole.
        assert_eq!(net.inject_as(s1, 1, &frame(host(1), BROADCAST), Some(32)), [2, 3]);
        assert_eq!(net.inject_as(s1, 2, &frame(host(2), host(1)), Some(32)), [1]);
        // Whole, and kept: the data is sent back and the kept one freed, so it comes out once.
        assert_eq!(net.inject_as(s1, 3, &frame(host(3), host(1)), Some(60)), [1]);
        // Dropped: freed too.
        let group = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0]);
        assert_eq!(net.inject_as(s1, 1, &frame(host(1), group), Some(32)), NOWHERE);
        assert_eq!(net.inject_as(s1, 1, &frame(host(1), host(2)), Some(13)), NOWHERE, "not even a header");
        assert_eq!(net.model(s1).buffers.len(), 0);
        let named =
            |message: &&Message| matches!(message, Message::FlowMod(m) if m.buffer_id != BufferId::NO_BUFFER);
        assert_eq!(net.model(s1).inbox.iter().filter(named).count(), 0, "no flow-mod relies on a buffer");
    }
}

#[test]
fn a_packet_cut_short_that_nobody_keeps_is_reported() {
    let (mut net, s1) = Net::single(Version::V1_0, 3);
    let data = frame(host(1), BROADCAST)[..32].to_vec();
    let packet = PacketIn {
        buffer_id: BufferId::NO_BUFFER,
        total_len: 60,
        reason: PacketInReason::NoMatch,
        in_port: PortNo(1),
        table_id: None,
        cookie: None,
        match_: None,
        data,
    };
    net.send(s1, &Message::PacketIn(packet.clone()));
    net.send(s1, &Message::PacketIn(packet));
    assert!(net.model(s1).emitted.is_empty());
    assert_eq!(net.logged("32 of 60 bytes of a packet came"), 1);
}

#[test]
fn packets_that_a_foreign_entry_sends_are_left_to_it() {
    let (mut net, s1) = Net::single(Version::V1_3, 3);
    let packet = |cookie, reason| {
        Message::PacketIn(PacketIn {
            buffer_id: BufferId::NO_BUFFER,
            total_len: 60,
            reason,
            in_port: PortNo(1),
            table_id: Some(openflow::TableId(0)),
            cookie: Some(Cookie(cookie)),
            match_: None,
            data: frame(host(1), BROADCAST),
        })
    };
    net.send(s1, &packet(0x1234, PacketInReason::Action));
    assert!(net.model(s1).emitted.is_empty());
    net.send(s1, &packet(0x6f66_7368_0100_0000, PacketInReason::Action));
    assert_eq!(net.model(s1).emitted.len(), 2);
}

#[test]
fn a_deleted_table_miss_entry_comes_back() {
    let (mut net, s1) = Net::single(Version::V1_3, 3);
    assert_eq!(net.model(s1).flows.len(), 3, "one in each table");
    let model = net.switches.get_mut(&s1).unwrap();
    assert_eq!(model.remove(|flow| flow.priority == 0), 3);
    let bytes = std::mem::take(&mut model.outbox);
    net.bytes(s1, bytes);
    assert_eq!(net.model(s1).flows.len(), 3);
    let last = net.model(s1).flows.iter().find(|flow| flow.table == 2).unwrap();
    let [Instruction::ApplyActions(actions)] = last.instructions.as_slice() else { panic!("{last:?}") };
    assert_eq!(*actions, [openflow::Action::to_controller()]);
    assert_eq!(net.inject(s1, 1, &frame(host(1), BROADCAST)), [2, 3]);
}

#[test]
fn two_switches_learn_apart() {
    let mut net = Net::new(Settings::learning());
    let s1 = net.connect(Model::new(Version::V1_3, 1, 3));
    let s2 = net.connect(Model::new(Version::V1_0, 2, 3));
    net.inject(s1, 1, &frame(host(1), BROADCAST));
    assert_eq!(net.inject(s2, 1, &frame(host(2), host(1))), [2, 3]);
    assert_eq!(net.inject(s1, 2, &frame(host(2), host(1))), [1]);
    let status = net.controller.status(&[], net.now);
    let switches: Vec<_> = status.switches.iter().map(|s| (s.dpid.as_str(), s.openflow.as_str())).collect();
    assert_eq!(switches, [("0000000000000001", "1.3"), ("0000000000000002", "1.0")]);
}

#[test]
fn entries_that_the_switch_refuses_are_not_taken_for_there() {
    for version in BOTH {
        let (mut net, s1) = acquainted(version);
        net.switches.get_mut(&s1).unwrap().room = net.model(s1).flows.len();
        let flows = |net: &Net| net.controller.flows(net.now).flows.len();
        let sent = |net: &Net| net.controller.status(&[], net.now).switches[0].flow_mods;
        let (had, before) = (flows(&net), sent(&net));
        net.inject(s1, 3, &frame(host(3), BROADCAST));
        for _ in 0..5 {
            assert_eq!(net.inject(s1, 1, &frame(host(1), host(3))), [3], "forwarded all the same");
            assert_eq!(net.inject(s1, 2, &frame(host(2), host(3))), [3]);
        }
        assert_eq!(flows(&net), had, "the switch has no more than these");
        assert_eq!(sent(&net), before + 1, "a full switch is left alone for a while");
        net.switches.get_mut(&s1).unwrap().room = usize::MAX;
        net.pass(Duration::from_secs(1));
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(3))), [3]);
        assert_eq!(flows(&net), had + 1, "there is room again");
    }
}
