//! A switch that was connected before, or that others use too: what is there stays, unless it is wrong.

mod model;

use std::net::Ipv4Addr;
use std::time::Duration;

use model::{BROADCAST, Model, NOWHERE, Net, frame, host};
use ofshim::core::{Event, Placement, Settings, Source, VipKnowledge};
use openflow::{
    Action, Cookie, FlowModCommand, FlowModFlags, Instruction, MacAddr, Match, MatchField, Message, OnfMsg,
    PortNo, TableId, Version,
};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];

/// A switch with entries both ways between hosts 1 and 2, and its controller.
fn busy(version: Version) -> (Net, ofshim::core::ConnId) {
    let (mut net, s1) = Net::single(version, 4);
    net.inject(s1, 1, &frame(host(1), BROADCAST));
    net.inject(s1, 2, &frame(host(2), host(1)));
    net.inject(s1, 1, &frame(host(1), host(2)));
    (net, s1)
}

fn foreign(table: u8, priority: u16, match_: Match, out: PortNo) -> model::Flow {
    model::Flow {
        table,
        priority,
        match_,
        cookie: Cookie(0x1234),
        idle_s: 0,
        hard_s: 0,
        flags: FlowModFlags::default(),
        instructions: vec![Instruction::ApplyActions(vec![Action::output(out)])],
        added: Duration::ZERO,
        used: Duration::ZERO,
    }
}

fn deletions(net: &Net, conn: ofshim::core::ConnId) -> usize {
    let deletion = |message: &&Message| match message {
        Message::FlowMod(flow_mod) => {
            matches!(flow_mod.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict)
        }
        _ => false,
    };
    net.model(conn).inbox.iter().filter(deletion).count()
}

#[test]
fn a_new_controller_takes_over_what_is_there() {
    for version in BOTH {
        let (mut net, s1) = busy(version);
        let model = net.disconnect(s1);
        let flows = model.flows.clone();
        for mut later in [net, Net::new(Settings::learning())] {
            let s1 = later.connect(model.clone());
            assert_eq!(later.model(s1).flows, flows, "nothing is wiped, nothing is written twice");
            assert_eq!(deletions(&later, s1), 0);
            assert_eq!(later.logged("2 entries of ours kept, 0 removed"), 1);
            assert_eq!(
                later.inject(s1, 3, &frame(host(3), host(1))),
                [1],
                "stations are known from the entries"
            );
            assert_eq!(later.controller.flows(later.now).flows.len(), 3);
        }
    }
}

#[test]
fn entries_of_others_stay() {
    for version in BOTH {
        let (mut net, s1) = busy(version);
        let mut model = net.disconnect(s1);
        let key = Match::new().in_port(PortNo(1)).eth_dst(host(8)).eth_src(host(9)).no_vlan();
        let others = [
            foreign(0, 100, key.clone(), PortNo(3)),
            foreign(0, 5, Match::new().in_port(PortNo(4)), PortNo(3)),
            foreign(0, 65_535, Match::new().eth_dst(host(50)), PortNo(2)),
        ];
        model.flows.extend(others.clone());
        let s1 = net.connect(model);
        net.inject(s1, 3, &frame(host(1), BROADCAST));
        net.pass(Duration::from_secs(200));
        for flow in &others {
            assert!(net.model(s1).flows.contains(flow), "{flow:?}");
        }
        assert_eq!(
            net.inject(s1, 2, &frame(host(2), host(50))),
            NOWHERE,
            "theirs decides: to the port it came from"
        );
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(50))), [2]);
    }
}

#[test]
fn what_does_not_fit_any_more_goes_and_the_rest_stays() {
    for version in BOTH {
        let (mut net, s1) = busy(version);
        net.inject(s1, 3, &frame(host(3), host(1)));
        net.inject(s1, 4, &frame(host(4), host(1)));
        let mut model = net.disconnect(s1);
        // Port 3 went down while nobody looked; host 4 has an entry with a shape that no version of ours writes.
        model.ports.insert(PortNo(3), false);
        for flow in &mut model.flows {
            if flow.match_.fields.contains(&MatchField::InPort(PortNo(4))) {
                flow.instructions = vec![Instruction::ApplyActions(vec![
                    Action::output(PortNo(1)),
                    Action::output(PortNo(2)),
                ])];
            }
        }
        let s1 = net.connect(model);
        assert_eq!(deletions(&net, s1), 2);
        let left: Vec<_> = net.controller.flows(net.now).flows.into_iter().map(|flow| flow.in_port).collect();
        assert_eq!(left, [Some(1), Some(2)]);
        let ours = |flow: &&model::Flow| flow.priority != 0;
        assert_eq!(net.model(s1).flows.iter().filter(ours).count(), 2);
    }
}

#[test]
fn other_timeouts_replace_the_entries() {
    for version in BOTH {
        let (mut net, s1) = busy(version);
        let model = net.disconnect(s1);
        let mut net = Net::new(Settings { idle_timeout_s: 30, ..Settings::learning() });
        let s1 = net.connect(model);
        assert_eq!((deletions(&net, s1), net.controller.flows(net.now).flows.len()), (2, 0));
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(2))), [2, 3, 4], "not known from entries that go");
    }
}

#[test]
fn entries_that_contradict_each_other_go() {
    for version in BOTH {
        let (mut net, s1) = busy(version);
        let mut model = net.disconnect(s1);
        // Host 2 cannot be behind ports 2 and 4.
        let mut other = model.flows.iter().find(|flow| flow.priority != 0).unwrap().clone();
        other.match_ = Match::new().in_port(PortNo(4)).eth_dst(host(1)).eth_src(host(2)).no_vlan();
        model.flows.push(other);
        let s1 = net.connect(model);
        assert_eq!(net.controller.flows(net.now).flows.len(), 0);
        assert_eq!(net.inject(s1, 3, &frame(host(3), host(2))), [1, 2, 4]);
    }
}

#[test]
fn knowledge_decides_about_old_entries_too() {
    for version in BOTH {
        let (mut net, s1) = busy(version);
        let model = net.disconnect(s1);
        for (mac, left) in [(host(1), 0), (host(9), 2)] {
            let mut net = Net::new(Settings::learning());
            let vip = Ipv4Addr::new(10, 0, 1, 1);
            let known = VipKnowledge::new([(vip, mac)], [], [], Placement::Inline);
            net.handle(Event::Knowledge { known, source: Source::File });
            net.connect(model.clone());
            assert_eq!(net.controller.flows(net.now).flows.len(), left, "{mac}");
        }
    }
}

#[test]
fn a_one_armed_balancer_is_found_again_by_its_entries() {
    let virtual_mac = MacAddr([2, 0x6c, 10, 0, 1, 1]);
    let known = || {
        let vip = Ipv4Addr::new(10, 0, 1, 1);
        let known = VipKnowledge::new([(vip, virtual_mac)], [], [], Placement::OneArm { host_mac: None });
        Event::Knowledge { known, source: Source::File }
    };
    for version in BOTH {
        let (mut net, s1) = busy(version);
        net.handle(known());
        assert_eq!(net.inject(s1, 4, &frame(virtual_mac, host(1))), [1]);
        assert_eq!(net.inject(s1, 1, &frame(host(1), virtual_mac)), [4]);
        let model = net.disconnect(s1);
        let mut net = Net::new(Settings::learning());
        net.handle(known());
        let s1 = net.connect(model);
        assert_eq!(deletions(&net, s1), 0);
        assert_eq!(net.inject(s1, 2, &frame(host(2), virtual_mac)), [4]);
    }
}

#[test]
fn a_foreign_table_miss_entry_stays_and_is_reported() {
    let mut model = Model::new(Version::V1_3, 1, 3);
    let normal = foreign(0, 0, Match::new(), PortNo::NORMAL);
    model.flows.push(normal.clone());
    let mut net = Net::new(Settings::learning());
    let s1 = net.connect(model);
    assert!(net.model(s1).flows.contains(&normal));
    assert_eq!(net.logged("table 0 has a table-miss entry of another owner (cookie 0x1234), which stays"), 1);
    let ours: Vec<u8> =
        net.model(s1).flows.iter().filter(|f| f.cookie != normal.cookie).map(|f| f.table).collect();
    assert_eq!(ours, [1, 2]);
}

#[test]
fn a_wrong_table_miss_entry_of_ours_is_put_right() {
    let (mut net, s1) = Net::single(Version::V1_3, 3);
    let mut model = net.disconnect(s1);
    for flow in &mut model.flows {
        flow.instructions = vec![Instruction::GotoTable(TableId(9))];
    }
    let s1 = net.connect(model);
    assert_eq!(net.model(s1).flows.len(), 3);
    assert_eq!(net.inject(s1, 1, &frame(host(1), BROADCAST)), [2, 3]);
}

/// The changes that came in bundles, and those that came by themselves.
fn changes(net: &Net, conn: ofshim::core::ConnId) -> (usize, usize) {
    let inbox = &net.model(conn).inbox;
    let bundled =
        inbox.iter().filter(|message| matches!(message, Message::Onf(OnfMsg::BundleAdd(_)))).count();
    let all = inbox.iter().filter(|message| matches!(message, Message::FlowMod(_))).count();
    // What is in a bundle is done, and heard, when that is committed.
    (bundled, all - bundled)
}

/// A switch that lost one of its table-miss entries, has an entry that contradicts its ports, and one of another owner.
fn damaged(version: Version) -> (Model, model::Flow) {
    let (mut net, s1) = busy(version);
    let mut model = net.disconnect(s1);
    model.flows.retain(|flow| flow.priority != 0 || flow.table != 1);
    let theirs = foreign(0, 7, Match::new().in_port(PortNo(3)), PortNo(1));
    model.flows.push(theirs.clone());
    model.ports.insert(PortNo(2), false);
    (model, theirs)
}

#[test]
fn the_difference_comes_in_one_bundle_where_the_switch_knows_them() {
    let (model, theirs) = damaged(Version::V1_3);
    let mut net = Net::new(Settings::learning());
    let s1 = net.connect(model);
    assert!(net.is_ready());
    assert_eq!(changes(&net, s1), (3, 0), "two deletions, one table-miss entry");
    assert!(net.model(s1).flows.contains(&theirs));
    assert_eq!(net.logged("is ready: OpenFlow 1.3, bundles"), 1);
    assert_eq!(net.model(s1).flows.iter().filter(|flow| flow.priority == 0).count(), 3);
}

#[test]
fn without_bundles_the_difference_comes_one_by_one_before_a_barrier() {
    for (version, expected) in [(Version::V1_3, 3), (Version::V1_0, 2)] {
        let (mut model, theirs) = damaged(version);
        model.bundles = false;
        let mut net = Net::new(Settings::learning());
        let s1 = net.connect(model);
        assert!(net.is_ready());
        assert_eq!(changes(&net, s1), (0, expected));
        assert!(net.model(s1).flows.contains(&theirs));
        let last = net.model(s1).inbox.iter().rposition(|message| matches!(message, Message::FlowMod(_)));
        let barrier = net.model(s1).inbox.iter().position(|message| *message == Message::BarrierRequest);
        assert!(last < barrier, "all changes come before the barrier");
    }
}

#[test]
fn a_bundle_that_is_refused_comes_one_by_one() {
    let (mut model, theirs) = damaged(Version::V1_3);
    model.commits = false;
    let mut net = Net::new(Settings::learning());
    let s1 = net.connect(model);
    assert!(net.is_ready());
    assert_eq!(net.logged("it refuses the commit of a bundle"), 1);
    let alone = net.model(s1).inbox.iter().filter(|message| matches!(message, Message::FlowMod(_))).count();
    assert_eq!(alone, 3);
    assert!(net.model(s1).flows.contains(&theirs));
}
