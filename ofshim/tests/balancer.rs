//! What the controller keeps out of its learning and flooding, because the balancer handles it.

mod model;

use std::net::Ipv4Addr;
use std::time::Duration;

use model::{BROADCAST, NOWHERE, Net, arp, frame, host};
use ofshim::core::{ConnId, Event, Placement, Source, VipKnowledge};
use openflow::{MacAddr, Message, PortNo, PortReason, PortStatus, Version};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const VIP: [u8; 4] = [10, 0, 1, 1];
const VIRTUAL: MacAddr = MacAddr([2, 0x6c, 10, 0, 1, 1]);
const PROBER: MacAddr = MacAddr([2, 0xff, 0, 0, 0, 1]);

/// Hosts 1 and 2 are backends, 3 a client, 7 (one-armed) the balancer.
fn know(net: &mut Net, placement: Placement) {
    let backends = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
    let known = VipKnowledge::new([(VIP.into(), VIRTUAL)], backends, [PROBER], placement);
    net.handle(Event::Knowledge { known, source: Source::Daemon });
}

fn inline(version: Version) -> (Net, ConnId) {
    let (mut net, s1) = Net::single(version, 7);
    know(&mut net, Placement::Inline);
    (net, s1)
}

fn one_armed(version: Version) -> (Net, ConnId) {
    let (mut net, s1) = Net::single(version, 7);
    know(&mut net, Placement::OneArm { host_mac: Some(host(7)) });
    (net, s1)
}

fn learned(net: &Net) -> Vec<String> {
    net.controller.hosts(net.now).hosts.into_iter().map(|host| host.mac).collect()
}

#[test]
fn inline_a_virtual_mac_is_neither_learned_nor_flooded() {
    for version in BOTH {
        let (mut net, s1) = inline(version);
        net.inject(s1, 3, &frame(host(3), BROADCAST));
        // A reply that XDP rewrote and passed: forwarded, its source not learned.
        assert_eq!(net.inject(s1, 1, &frame(VIRTUAL, host(3))), [3]);
        assert_eq!(net.inject(s1, 2, &frame(VIRTUAL, host(3))), [3]);
        assert_eq!(learned(&net), [host(3).to_string()]);
        let purposes: Vec<_> =
            net.controller.flows(net.now).flows.into_iter().map(|flow| flow.purpose).collect();
        assert_eq!(purposes, ["transit", "transit"]);
        assert_eq!(net.logged(" moved from "), 0);
        // What nobody balanced goes nowhere, and that is said.
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), NOWHERE);
        assert_eq!(net.logged("no XDP program of the balancer is attached there"), 1);
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), NOWHERE);
        assert_eq!(net.controller.status(&[], net.now).switches[0].packet_ins, 4, "an entry drops it");
        net.pass(Duration::from_secs(6));
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), NOWHERE);
        assert_eq!(
            net.controller.status(&[], net.now).switches[0].packet_ins,
            5,
            "but only for a short while"
        );
        assert_eq!(
            net.logged("no XDP program of the balancer is attached there"),
            1,
            "one line in ten seconds"
        );
        net.pass(Duration::from_secs(6));
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), NOWHERE);
        assert_eq!(net.logged("(and 1 more since the last such line)"), 1);
    }
}

#[test]
fn inline_arp_for_a_vip_goes_nowhere_and_its_sender_is_learned() {
    for version in BOTH {
        let (mut net, s1) = inline(version);
        assert_eq!(net.inject(s1, 3, &arp(1, host(3), BROADCAST, [10, 0, 0, 3], VIP)), NOWHERE);
        assert_eq!(
            net.inject(s1, 4, &arp(1, host(4), BROADCAST, [10, 0, 0, 4], [10, 0, 0, 3])),
            [1, 2, 3, 5, 6, 7]
        );
        assert_eq!(learned(&net), [host(3).to_string(), host(4).to_string()]);
        assert_eq!(net.logged("an ARP request for VIP 10.0.1.1"), 1);
    }
}

#[test]
fn inline_answers_to_probes_are_neither_learned_nor_flooded() {
    for version in BOTH {
        let (mut net, s1) = inline(version);
        let reply = arp(2, host(1), PROBER, [10, 0, 0, 1], [0, 0, 0, 0]);
        for _ in 0..5 {
            assert_eq!(net.inject(s1, 1, &reply), NOWHERE);
        }
        assert_eq!(learned(&net).len(), 0);
        assert_eq!(
            net.controller.status(&[], net.now).switches[0].packet_ins,
            1,
            "an entry drops the others"
        );
        // A prober that is not named: a backend answers 0.0.0.0, and nobody has that MAC.
        let other = MacAddr([2, 0xfe, 0, 0, 0, 1]);
        assert_eq!(net.inject(s1, 2, &arp(2, host(2), other, [10, 0, 0, 2], [0, 0, 0, 0])), NOWHERE);
        // Probes may also be sent from the VIP's own MAC.
        assert_eq!(net.inject(s1, 2, &arp(2, host(2), VIRTUAL, [10, 0, 0, 2], VIP)), NOWHERE);
        assert_eq!(net.logged("no XDP program"), 0);
        // The same from somebody who is no backend is duplicate address detection of a host like any other.
        assert_eq!(
            net.inject(s1, 4, &arp(2, host(4), other, [10, 0, 0, 4], [0, 0, 0, 0])),
            [1, 2, 3, 5, 6, 7]
        );
        assert_eq!(learned(&net), [host(4).to_string()]);
    }
}

#[test]
fn one_armed_the_first_request_arrives_without_waiting_for_the_host_s_own_frame() {
    for version in BOTH {
        let (mut net, s1) = one_armed(version);
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), NOWHERE, "never flooded");
        assert_eq!(net.logged("the port of the one-armed balancer is not known yet"), 1);
        // The client asks for the VIP; that is flooded, and the balancer answers from the virtual MAC.
        assert_eq!(net.inject(s1, 3, &arp(1, host(3), BROADCAST, [10, 0, 0, 3], VIP)), [1, 2, 4, 5, 6, 7]);
        assert_eq!(net.inject(s1, 7, &arp(2, VIRTUAL, host(3), VIP, [10, 0, 0, 3])), [3]);
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), [7]);
        assert_eq!(learned(&net), [host(3).to_string()], "the virtual MAC is not learned");
        // From now on requests go there alone.
        assert_eq!(net.inject(s1, 4, &arp(1, host(4), BROADCAST, [10, 0, 0, 4], VIP)), [7]);
        // The balanced frame leaves with the virtual MAC as its source, and the backend answers directly.
        net.inject(s1, 1, &frame(host(1), BROADCAST));
        assert_eq!(net.inject(s1, 7, &frame(VIRTUAL, host(1))), [1]);
        assert_eq!(net.inject(s1, 1, &frame(host(1), host(3))), [3]);
    }
}

#[test]
fn one_armed_the_host_s_own_mac_counts_more_than_the_virtual_one() {
    for version in BOTH {
        let (mut net, s1) = one_armed(version);
        net.inject(s1, 7, &arp(1, host(7), BROADCAST, [0, 0, 0, 0], [10, 0, 0, 1]));
        net.inject(s1, 5, &frame(VIRTUAL, BROADCAST));
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), [7]);
        // Its port dies: nothing is sent there, nor to where somebody only claimed the MAC while it did.
        let port = net.model(s1).port(PortNo(7), false);
        net.send(s1, &Message::PortStatus(PortStatus { reason: PortReason::Modify, port }));
        assert_eq!(net.controller.flows(net.now).flows.len(), 0);
        // The host turns up elsewhere, and traffic follows.
        net.inject(s1, 6, &frame(host(7), BROADCAST));
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), [6]);
    }
}

#[test]
fn one_armed_traffic_follows_the_host_when_it_moves() {
    for version in BOTH {
        let (mut net, s1) = one_armed(version);
        net.inject(s1, 7, &frame(host(7), BROADCAST));
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), [7]);
        net.inject(s1, 6, &frame(host(7), BROADCAST));
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), [6]);
    }
}

#[test]
fn one_armed_answers_to_probes_reach_the_balancer() {
    for version in BOTH {
        let (mut net, s1) = Net::single(version, 7);
        let known = VipKnowledge::new(
            [(VIP.into(), VIRTUAL)],
            [Ipv4Addr::new(10, 0, 0, 1)],
            [host(7)],
            Placement::OneArm { host_mac: Some(host(7)) },
        );
        net.handle(Event::Knowledge { known, source: Source::Daemon });
        let reply = arp(2, host(1), host(7), [10, 0, 0, 1], [0, 0, 0, 0]);
        assert_eq!(net.inject(s1, 1, &reply), NOWHERE, "not flooded");
        net.inject(s1, 7, &arp(1, host(7), BROADCAST, [0, 0, 0, 0], [10, 0, 0, 1]));
        assert_eq!(net.inject(s1, 1, &reply), [7]);
    }
}

#[test]
fn knowledge_that_comes_later_undoes_what_it_forbids() {
    for version in BOTH {
        let (mut net, s1) = Net::single(version, 7);
        net.inject(s1, 3, &frame(host(3), BROADCAST));
        net.inject(s1, 5, &frame(VIRTUAL, host(3)));
        assert_eq!(
            net.inject(s1, 3, &frame(host(3), VIRTUAL)),
            [5],
            "learned, as nothing was known of the VIP"
        );
        net.inject(s1, 4, &frame(host(4), host(3)));
        know(&mut net, Placement::Inline);
        let left: Vec<_> = net.controller.flows(net.now).flows.into_iter().map(|flow| flow.src).collect();
        assert_eq!(left, [Some(host(4).to_string())], "others stay");
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), NOWHERE);
        assert_eq!(learned(&net), [host(3).to_string(), host(4).to_string()]);
        // And back: the short entry goes with what it was for.
        net.handle(Event::Knowledge { known: VipKnowledge::default(), source: Source::Daemon });
        assert_eq!(net.inject(s1, 3, &frame(host(3), VIRTUAL)), [1, 2, 4, 5, 6, 7]);
    }
}
