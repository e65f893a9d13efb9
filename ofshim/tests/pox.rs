//! The balancer of POX, line by line: what leaves a switch in memory, and when, in both versions.

mod model;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use model::{ACK, BROADCAST, Model, NOWHERE, Net, SYN, SYN_ACK, arp, frame, host, tcp};
use ofshim::core::classic::{Settings as Classic, pox};
use ofshim::core::{ConnId, Forwarding, Level, Settings};
use openflow::{
    Action, BufferId, DatapathId, FlowModFlags, MacAddr, Match, MatchField, Message, PacketOut, PortNo,
    Version,
};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const VIP: [u8; 4] = [10, 0, 1, 1];
/// The lower 48 bits of the switch's datapath id.
const SWITCH: MacAddr = MacAddr([0, 0, 0, 0, 0, 1]);
const UNDER: Duration = Duration::from_millis(200);

const fn ip(number: u8) -> [u8; 4] {
    [10, 0, 0, number]
}

/// `n` servers, 10.0.0.1 and so on.
fn settings(n: u8, forwarding: Forwarding, dpid: Option<u64>) -> Settings {
    let pox = pox::Settings { vip: VIP.into(), servers: (1..=n).map(|at| ip(at).into()).collect(), seed: 5 };
    let classic = Some(Classic::Pox { pox, dpid: dpid.map(DatapathId) });
    Settings { forwarding, classic, discovery: None, ..Settings::default() }
}

/// One switch with six ports, hosts 1 and 2 are servers, which have not answered yet.
fn silent(version: Version, forwarding: Forwarding) -> (Net, ConnId) {
    let mut net = Net::new(settings(2, forwarding, None));
    let s1 = net.connect(Model::new(version, 1, 6));
    (net, s1)
}

/// The same, and both have answered.
fn ready(version: Version, forwarding: Forwarding) -> (Net, ConnId) {
    let (mut net, s1) = silent(version, forwarding);
    assert_eq!(live(&mut net, s1, &[1, 2], Duration::from_millis(2600)), [1, 2]);
    (net, s1)
}

/// A server's answer to a probe.
fn reply(number: u8) -> Vec<u8> {
    arp(2, host(number), SWITCH, ip(number), VIP)
}

/// Lets time pass while these servers answer each probe at once; who was asked, in order.
fn live(net: &mut Net, conn: ConnId, alive: &[u8], time: Duration) -> Vec<u8> {
    let (end, mut asked) = (net.now + time, Vec::new());
    loop {
        for number in probed(net, conn) {
            asked.push(number);
            if alive.contains(&number) {
                net.inject_raw(conn, number.into(), &reply(number), None);
            }
        }
        if net.now >= end {
            return asked;
        }
        net.pass(Duration::from_millis(100));
    }
}

/// Which servers were probed by the packet-outs that came since this was last asked.
fn probed(net: &mut Net, conn: ConnId) -> Vec<u8> {
    let inbox = std::mem::take(&mut net.switches.get_mut(&conn).unwrap().inbox);
    let of = |message: &Message| match message {
        Message::PacketOut(PacketOut { data, actions, .. })
            if data.get(12..14) == Some(&[8, 6]) && *actions == [Action::output(PortNo::FLOOD)] =>
        {
            (data[28..32] == VIP).then_some(data[41])
        }
        _ => None,
    };
    inbox.iter().filter_map(of).collect()
}

/// A client's segment to the VIP.
fn request(client: u8, port: u16, flags: u8) -> Vec<u8> {
    tcp((host(client), SWITCH), (ip(client), port), (VIP, 80), flags)
}

/// A server's segment to a client.
fn answer(server: u8, client: u8, port: u16, flags: u8) -> Vec<u8> {
    tcp((host(server), host(client)), (ip(server), 80), (ip(client), port), flags)
}

/// The request as a server sees it.
fn balanced(server: u8, client: u8, port: u16, flags: u8) -> Vec<u8> {
    tcp((host(client), host(server)), (ip(client), port), (ip(server), 80), flags)
}

/// Opens a connection; the server that got it.
fn open(net: &mut Net, conn: ConnId, client: u8, port: u16) -> u8 {
    let out = net.inject_raw(conn, client.into(), &request(client, port, SYN), None);
    let [(server, bytes)] = out.as_slice() else { panic!("came out at {out:?}") };
    let server = u8::try_from(*server).unwrap();
    assert_eq!(bytes, &balanced(server, client, port, SYN));
    server
}

fn packet_ins(net: &Net) -> u64 {
    net.controller.status(&[], net.now).switches[0].packet_ins
}

fn pinned(net: &Net, conn: ConnId) -> usize {
    net.model(conn).flows.iter().filter(|flow| flow.cookie.0 >> 24 == 0x6f_6673_6809).count()
}

#[test]
fn one_server_is_probed_at_each_tick() {
    for (servers, tick_ms) in [(1, 5000), (2, 2500), (4, 1250), (20, 250), (40, 250)] {
        let mut net = Net::new(settings(servers, Forwarding::Hub, None));
        let s1 = net.connect(Model::new(Version::V1_0, 1, 50));
        assert_eq!(probed(&mut net, s1), [1], "the first at once");
        let (start, mut times) = (net.now, Vec::new());
        while times.len() < usize::from(servers) * 2 {
            net.pass(Duration::from_millis(100));
            times.extend(probed(&mut net, s1).into_iter().map(|server| (server, net.now - start)));
        }
        for (number, (server, at)) in (1_u32..).zip(&times) {
            assert_eq!(u32::from(*server), number % u32::from(servers) + 1, "in turn");
            let late = *at - Duration::from_millis(tick_ms) * number;
            assert!(late < Duration::from_millis(100), "probe {number} of {servers}: {at:?}");
        }
    }
}

#[test]
fn a_probe_is_an_arp_request_from_the_vip_flooded_from_no_port() {
    for (version, no_port) in BOTH.into_iter().zip([PortNo::ANY, PortNo::CONTROLLER]) {
        let (net, s1) = silent(version, Forwarding::Hub);
        let probe = PacketOut {
            buffer_id: BufferId::NO_BUFFER,
            in_port: no_port,
            actions: vec![Action::output(PortNo::FLOOD)],
            data: arp(1, SWITCH, BROADCAST, VIP, ip(1)),
        };
        assert!(net.model(s1).inbox.contains(&Message::PacketOut(probe)));
    }
}

#[test]
fn a_reply_tells_mac_and_port_and_other_ones_are_up_again() {
    for version in BOTH {
        let (mut net, s1) = silent(version, Forwarding::Hub);
        net.inject_raw(s1, 1, &reply(1), None);
        assert_eq!(net.log.last(), Some(&(Level::Info, "Server 10.0.0.1 up".to_owned())));
        let seat = |net: &Net| {
            let servers = net.controller.status(&[], net.now).classic.unwrap().servers;
            (servers[0].up, servers[0].mac.clone(), servers[0].port)
        };
        assert_eq!(seat(&net), (true, Some(host(1).to_string()), Some(1)));
        // Next round: the same again says nothing, another port or MAC does.
        live(&mut net, s1, &[1], Duration::from_secs(5));
        assert_eq!(net.logged("Server 10.0.0.1 up"), 1);
        live(&mut net, s1, &[], Duration::from_millis(4900));
        net.pass(Duration::from_millis(100));
        net.inject_raw(s1, 5, &reply(1), None);
        assert_eq!((net.logged("Server 10.0.0.1 up"), seat(&net).2), (2, Some(5)));
        net.pass(Duration::from_secs(5));
        net.inject_raw(s1, 5, &arp(2, host(9), SWITCH, ip(1), VIP), None);
        assert_eq!((net.logged("Server 10.0.0.1 up"), seat(&net).1), (3, Some(host(9).to_string())));
        assert_eq!(net.logged("down"), 0);
    }
}

#[test]
fn a_reply_counts_only_while_a_probe_is_outstanding() {
    for version in BOTH {
        let (mut net, s1) = silent(version, Forwarding::Hub);
        net.inject_raw(s1, 2, &reply(2), None);
        assert_eq!(net.logged("Server 10.0.0.2 up"), 0, "it was not asked yet");
        net.inject_raw(s1, 1, &reply(1), None);
        net.inject_raw(s1, 4, &reply(1), None);
        assert_eq!(net.logged("Server 10.0.0.1 up"), 1, "the second answer to one probe");
        net.inject_raw(s1, 3, &arp(2, host(3), SWITCH, ip(3), VIP), None);
        assert_eq!(net.logged("Server"), 1, "no server");
    }
}

#[test]
fn patience_ends_at_the_first_tick_after_three_seconds() {
    // Two servers, ticks at 2.5 and 5 s: after 4.9 s nobody has looked since the patience ended, and the reply counts.
    let (mut net, s1) = silent(Version::V1_0, Forwarding::Hub);
    net.pass(Duration::from_millis(4900));
    net.inject_raw(s1, 1, &reply(1), None);
    assert_eq!(net.logged("Server 10.0.0.1 up"), 1);
    // Four servers, ticks at 1.25, 2.5 and 3.75 s: the last one ends it, and a reply after 4 s is too late.
    for (ms, counts) in [(3700, 1), (4000, 0)] {
        let mut net = Net::new(settings(4, Forwarding::Hub, None));
        let s1 = net.connect(Model::new(Version::V1_0, 1, 6));
        net.pass(Duration::from_millis(ms));
        net.inject_raw(s1, 1, &reply(1), None);
        assert_eq!(net.logged("Server 10.0.0.1 up"), counts, "{ms} ms");
    }
}

#[test]
fn a_death_is_noticed_at_a_tick_after_up_to_ten_seconds() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        // Probes of server 1 leave at 0, 5, 10 s; it dies when it has just answered the second.
        live(&mut net, s1, &[1, 2], Duration::from_millis(2500));
        let died = net.now;
        live(&mut net, s1, &[2], UNDER);
        assert_eq!(net.logged("down"), 0);
        while net.logged("Server 10.0.0.1 down") == 0 {
            live(&mut net, s1, &[2], Duration::from_millis(100));
        }
        // Asked at 5 s, 3 s of patience: the ticks at 5 and 7.5 s look in vain, that at 10 s finds it.
        let took = net.now - died;
        let wanted = Duration::from_millis(9700)..=Duration::from_millis(10_200);
        assert!(wanted.contains(&took), "{took:?}");
        assert_eq!(net.log.iter().filter(|(_, text)| text == "Server 10.0.0.1 down").count(), 1);
        assert_eq!(net.logged("Server 10.0.0.2 down"), 0);
        live(&mut net, s1, &[1, 2], Duration::from_secs(5));
        assert_eq!(net.logged("Server 10.0.0.1 up"), 2, "and it comes back");
    }
}

#[test]
fn arp_for_the_vip_is_answered_with_the_switch_s_mac_and_no_arp_is_eaten() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let question = arp(1, host(3), BROADCAST, ip(3), VIP);
        let out = net.inject_raw(s1, 3, &question, None);
        let answer = arp(2, SWITCH, host(3), VIP, ip(3));
        assert_eq!(out.iter().filter(|(_, bytes)| *bytes == answer).collect::<Vec<_>>(), [&(3, answer)]);
        // The hub had it too, as all other ARP.
        let flooded = |out: &[(u32, Vec<u8>)], frame: &[u8]| -> Vec<u32> {
            out.iter().filter(|(_, bytes)| bytes == frame).map(|(port, _)| *port).collect()
        };
        assert_eq!(flooded(&out, &question), [1, 2, 4, 5, 6]);
        for other in
            [arp(1, host(3), BROADCAST, ip(3), ip(4)), reply(1), arp(2, host(4), host(3), ip(4), ip(3))]
        {
            assert_eq!(net.inject(s1, 3, &other), [1, 2, 4, 5, 6]);
        }
    }
}

#[test]
fn the_switch_s_mac_is_the_lower_48_bits_of_its_id() {
    let mut net = Net::new(settings(2, Forwarding::Hub, None));
    let s1 = net.connect(Model::new(Version::V1_0, 0xabcd_0200_0000_0007, 6));
    let question = arp(1, host(3), BROADCAST, ip(3), VIP);
    let answer = arp(2, MacAddr([2, 0, 0, 0, 0, 7]), host(3), VIP, ip(3));
    assert!(net.inject_raw(s1, 3, &question, None).contains(&(3, answer)));
    // With `mn --mac` a switch with the id 1 has the MAC of the first host: requests name h1's own.
    let (mut net, s1) = silent(Version::V1_0, Forwarding::Hub);
    let answer = arp(2, MacAddr([0, 0, 0, 0, 0, 1]), host(3), VIP, ip(3));
    assert!(net.inject_raw(s1, 3, &question, None).contains(&(3, answer)));
}

#[test]
fn the_choice_is_random_among_live_servers() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let mut counts = BTreeMap::new();
        let mut row = Vec::new();
        for port in 0..2000 {
            let server = open(&mut net, s1, 3, port);
            *counts.entry(server).or_insert(0) += 1;
            row.push(server);
            net.switches.get_mut(&s1).unwrap().flows.retain(|flow| flow.priority == 0);
        }
        assert!(counts.len() == 2 && counts.values().all(|count| (900..1100).contains(count)), "{counts:?}");
        // Neither in turn nor by the client: pairs are as frequent as each other.
        let same = row.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((900..1100).contains(&same), "{same}");
        // One is alone.
        live(&mut net, s1, &[2], Duration::from_secs(13));
        assert_eq!(net.logged("Server 10.0.0.1 down"), 1);
        assert!((0..50).all(|port| open(&mut net, s1, 4, port) == 2));
    }
}

#[test]
fn every_tcp_port_of_the_vip_is_balanced() {
    let (mut net, s1) = ready(Version::V1_0, Forwarding::Hub);
    for port in [1, 22, 80, 8080, 65535] {
        let segment = tcp((host(3), SWITCH), (ip(3), 4000), (VIP, port), SYN);
        let out = net.inject_raw(s1, 3, &segment, None);
        assert!(out.len() == 1 && [1, 2].contains(&out[0].0), "{port}: {out:?}");
    }
}

#[test]
fn both_directions_are_rewritten() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let server = open(&mut net, s1, 3, 4000);
        let out = net.inject_raw(s1, server.into(), &answer(server, 3, 4000, SYN_ACK), None);
        let seen = tcp((SWITCH, host(3)), (VIP, 80), (ip(3), 4000), SYN_ACK);
        assert_eq!(out, [(3, seen)], "from the VIP and the switch's MAC, at the client's port");
        // What follows is the switch's, both ways, with the same rewrites.
        let before = packet_ins(&net);
        assert_eq!(
            net.inject_raw(s1, 3, &request(3, 4000, ACK), None),
            [(server.into(), balanced(server, 3, 4000, ACK))]
        );
        let out = net.inject_raw(s1, server.into(), &answer(server, 3, 4000, ACK), None);
        assert_eq!(out, [(3, tcp((SWITCH, host(3)), (VIP, 80), (ip(3), 4000), ACK))]);
        assert_eq!(packet_ins(&net), before, "every connection costs two packet-ins");
    }
}

#[test]
fn entries_match_everything_and_go_only_when_idle() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let server = open(&mut net, s1, 3, 4000);
        let flow = net.model(s1).flows.iter().find(|flow| flow.priority == 0x8000).unwrap().clone();
        assert_eq!((flow.idle_s, flow.hard_s, flow.flags), (10, 0, FlowModFlags::default()));
        let exact = Match::new().in_port(PortNo(3)).eth_dst(SWITCH).eth_src(host(3)).no_vlan();
        let exact = exact.eth_type(0x0800).with(MatchField::IpDscp(0)).ip_proto(6);
        let exact = exact.ipv4_src(ip(3).into()).ipv4_dst(VIP.into()).tcp_src(4000).tcp_dst(80);
        let mut fields = flow.match_.fields.clone();
        fields.sort();
        let mut wanted = exact.fields;
        wanted.sort();
        assert_eq!(fields, wanted);
        let actions = [
            Action::SetField(MatchField::EthDst { value: host(server), mask: None }),
            Action::SetField(MatchField::Ipv4Dst { value: ip(server).into(), mask: None }),
            Action::output(PortNo(server.into())),
        ];
        assert_eq!(flow.instructions, [openflow::Instruction::ApplyActions(actions.to_vec())]);
        // No other packet is like these: another port in, MAC or type of service comes to the controller.
        let mut strange = [request(3, 4000, ACK), request(3, 4000, ACK)];
        strange[0][11] = 9;
        strange[1][15] = 0x20;
        for (at, bytes) in [(4, request(3, 4000, ACK)), (3, strange[0].clone()), (3, strange[1].clone())] {
            let before = packet_ins(&net);
            net.inject_raw(s1, at, &bytes, None);
            assert_eq!(packet_ins(&net), before + 1);
        }
        assert_eq!(pinned(&net, s1), 4);
        // Minutes of packets, never 10 s apart; then 10 s without.
        for _ in 0..15 {
            live(&mut net, s1, &[1, 2], Duration::from_secs(9));
            net.inject_raw(s1, 3, &request(3, 4000, ACK), None);
        }
        assert_eq!(pinned(&net, s1), 1, "no hard timeout");
        live(&mut net, s1, &[1, 2], Duration::from_secs(10));
        assert_eq!(pinned(&net, s1), 0);
    }
}

#[test]
fn a_flow_that_comes_back_goes_to_the_same_server_for_300_seconds() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let servers: Vec<u8> = (0..30).map(|port| open(&mut net, s1, 3, port)).collect();
        let again = |net: &mut Net| -> Vec<u8> { (0..30).map(|port| open(net, s1, 3, port)).collect() };
        for _ in 0..3 {
            live(&mut net, s1, &[1, 2], Duration::from_secs(290));
            assert_eq!(pinned(&net, s1), 0, "the entries are long gone");
            assert_eq!(again(&mut net), servers, "each packet at the controller counts anew");
        }
        // A server's packet puts it off too.
        live(&mut net, s1, &[1, 2], Duration::from_secs(200));
        for (port, server) in (0..30).zip(&servers) {
            net.inject_raw(s1, (*server).into(), &answer(*server, 3, port, ACK), None);
        }
        live(&mut net, s1, &[1, 2], Duration::from_secs(290));
        assert_eq!(again(&mut net), servers);
        // Packets that entries forward put nothing off.
        for _ in 0..35 {
            live(&mut net, s1, &[1, 2], Duration::from_secs(9));
            net.inject_raw(s1, 3, &request(3, 0, ACK), None);
        }
        assert_eq!(net.controller.status(&[], net.now).classic.unwrap().connections, 0);
        assert_eq!(net.logged("Expired"), 1);
        assert_ne!(again(&mut net), servers, "thirty random choices");
    }
}

#[test]
fn a_remembered_flow_to_a_dead_server_gets_a_new_one() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let servers: Vec<u8> = (0..20).map(|port| open(&mut net, s1, 3, port)).collect();
        assert!(servers.contains(&1) && servers.contains(&2), "{servers:?}");
        live(&mut net, s1, &[2], Duration::from_secs(9));
        let of_one = (0..20).find(|port| servers[usize::from(*port)] == 1).unwrap();
        net.inject_raw(s1, 3, &request(3, of_one, ACK), None);
        live(&mut net, s1, &[2], Duration::from_secs(4));
        assert_eq!(net.logged("Server 10.0.0.1 down"), 1);
        // POX's fault: an entry to the dead one goes on until it is idle.
        let out = net.inject_raw(s1, 3, &request(3, of_one, ACK), None);
        assert_eq!(out[0].0, 1);
        live(&mut net, s1, &[2], Duration::from_secs(11));
        assert!((0..20).all(|port| open(&mut net, s1, 3, port) == 2));
        live(&mut net, s1, &[1, 2], Duration::from_secs(15));
        assert!((0..20).all(|port| open(&mut net, s1, 3, port) == 2), "and stays there");
    }
}

#[test]
fn without_a_live_server_packets_are_dropped_with_a_warning() {
    for version in BOTH {
        let (mut net, s1) = silent(version, Forwarding::Hub);
        assert_eq!(net.inject(s1, 3, &request(3, 4000, SYN)), NOWHERE);
        let last = net.log.last().cloned();
        assert_eq!(last, Some((Level::Warn, "No servers!".to_owned())));
        assert_eq!(net.inject_as(s1, 3, &request(3, 4001, SYN), Some(60)), NOWHERE);
        assert!(net.model(s1).buffers.is_empty(), "the switch's memory is freed");
        assert_eq!((net.logged("No servers!"), pinned(&net, s1)), (1, 0));
    }
}

#[test]
fn an_answer_that_nobody_remembers_is_dropped() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        assert_eq!(net.inject_as(s1, 1, &answer(1, 3, 4000, SYN_ACK), Some(60)), NOWHERE);
        assert!(net.model(s1).buffers.is_empty());
        let last = net.log.last().cloned();
        assert_eq!(last, Some((Level::Debug, "No client for 10.0.0.1:80 to 10.0.0.3:4000".to_owned())));
        // So a server can be nobody's client, not even the VIP's.
        let own = tcp((host(1), SWITCH), (ip(1), 5000), (VIP, 80), SYN);
        assert_eq!(net.inject(s1, 1, &own), NOWHERE);
        assert_eq!(pinned(&net, s1), 0);
    }
}

#[test]
fn alone_what_is_neither_tcp_nor_arp_is_dropped_and_other_tcp_is_left_alone() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::None);
        let udp = {
            let mut bytes = request(3, 4000, 0);
            bytes[23] = 17;
            bytes
        };
        net.switches.get_mut(&s1).unwrap().inbox.clear();
        for bytes in [udp, frame(host(3), host(4)), frame(host(3), BROADCAST)] {
            assert_eq!(net.inject_as(s1, 3, &bytes, Some(60)), NOWHERE);
            assert!(net.model(s1).buffers.is_empty(), "freed");
        }
        let empty = |message: &Message| match message {
            Message::PacketOut(out) => out.actions.is_empty() && out.data.is_empty(),
            _ => false,
        };
        assert!(net.model(s1).inbox.iter().all(empty), "{:?}", net.model(s1).inbox);
        assert_eq!(net.model(s1).inbox.len(), 3);
        // Not even its buffer is freed: another application may want it.
        let between = tcp((host(3), host(4)), (ip(3), 4000), (ip(4), 80), SYN);
        assert_eq!(net.inject_as(s1, 3, &between, Some(60)), NOWHERE);
        assert_eq!((net.model(s1).buffers.len(), net.model(s1).inbox.len()), (1, 3));
        // The same for ARP of others.
        assert_eq!(net.inject_as(s1, 3, &arp(1, host(3), BROADCAST, ip(3), ip(4)), Some(42)), NOWHERE);
        assert_eq!((net.model(s1).buffers.len(), net.model(s1).inbox.len()), (2, 3));
    }
}

#[test]
fn another_application_forwards_what_is_not_the_balancer_s() {
    for version in BOTH {
        for forwarding in [Forwarding::Hub, Forwarding::Learning] {
            let (mut net, s1) = ready(version, forwarding);
            // Everybody pings everybody: request and answer arrive, with and without a buffer.
            for cut in [None, Some(60)] {
                for (from, to) in (1..=6).flat_map(|a| (1..=6).map(move |b| (a, b))).filter(|(a, b)| a != b) {
                    let out = net.inject_as(s1, from.into(), &frame(host(from), host(to)), cut);
                    assert!(out.contains(&to.into()), "{from} to {to}: {out:?}");
                    assert!(net.model(s1).buffers.is_empty(), "used up, or freed");
                }
            }
            let between = tcp((host(3), host(4)), (ip(3), 4000), (ip(4), 80), SYN);
            assert!(net.inject(s1, 3, &between).contains(&4));
            // And the VIP is balanced all the while; what is the balancer's never reaches the other.
            let server = open(&mut net, s1, 3, 4000);
            let out = net.inject_raw(s1, server.into(), &answer(server, 3, 4000, SYN_ACK), None);
            assert_eq!(out, [(3, tcp((SWITCH, host(3)), (VIP, 80), (ip(3), 4000), SYN_ACK))]);
        }
    }
}

#[test]
fn learning_beside_it_hides_no_reply_of_a_server() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Learning);
        // `mn --mac`: a host has the switch's MAC, so that replies to probes go to a learned station.
        net.inject(s1, 4, &frame(SWITCH, BROADCAST));
        assert_eq!(net.inject(s1, 2, &frame(host(2), SWITCH)), [4]);
        live(&mut net, s1, &[1, 2], Duration::from_secs(30));
        assert_eq!((net.logged("down"), net.logged("Server 10.0.0.2 up")), (0, 1));
    }
}

#[test]
fn the_first_switch_is_balanced_on_and_others_are_ignored_with_a_warning() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let s2 = net.connect(Model::new(version, 2, 6));
        let warned = "Ignoring switch 0000000000000002: pox balances on switch 0000000000000001 alone";
        assert!(net.log.contains(&(Level::Warn, warned.to_owned())), "{:?}", net.log);
        assert_eq!(probed(&mut net, s2), [0_u8; 0]);
        live(&mut net, s1, &[1, 2], Duration::from_secs(5));
        assert_eq!(probed(&mut net, s2), [0_u8; 0]);
        // There the VIP is nobody: the other application forwards what comes.
        let question = arp(1, host(3), BROADCAST, ip(3), VIP);
        assert_eq!(net.inject(s2, 3, &question), [1, 2, 4, 5, 6]);
        assert_eq!(net.inject(s2, 3, &request(3, 4000, SYN)), [1, 2, 4, 5, 6]);
        net.inject_raw(s2, 1, &arp(2, host(9), SWITCH, ip(1), VIP), None);
        assert_eq!(net.logged("Server 10.0.0.1 up"), 1);
        open(&mut net, s1, 3, 4000);
    }
}

#[test]
fn a_given_switch_is_balanced_on_whenever_it_comes() {
    let mut net = Net::new(settings(2, Forwarding::Hub, Some(2)));
    let s1 = net.connect(Model::new(Version::V1_0, 1, 6));
    assert_eq!(net.logged("Ignoring switch 0000000000000001: pox balances on switch 0000000000000002"), 1);
    net.pass(Duration::from_secs(20));
    assert_eq!(net.logged("down"), 0, "nothing begins before it is there");
    let s2 = net.connect(Model::new(Version::V1_0, 2, 6));
    assert_eq!(net.logged("pox balances on switch 0000000000000002"), 2);
    live(&mut net, s2, &[1, 2], Duration::from_secs(3));
    let question = arp(1, host(3), BROADCAST, ip(3), VIP);
    let answer = arp(2, MacAddr([0, 0, 0, 0, 0, 2]), host(3), VIP, ip(3));
    assert!(net.inject_raw(s2, 3, &question, None).contains(&(3, answer)));
    assert_eq!(probed(&mut net, s1), [0_u8; 0]);
}

#[test]
fn memory_outlives_the_switch_s_connection_and_entries_do_not() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let servers: Vec<u8> = (0..20).map(|port| open(&mut net, s1, 3, port)).collect();
        let model = net.disconnect(s1);
        net.pass(Duration::from_secs(1));
        let s1 = net.connect(model);
        assert_eq!(pinned(&net, s1), 0, "as POX, which clears a switch that connects");
        live(&mut net, s1, &[1, 2], Duration::from_secs(5));
        assert_eq!((0..20).map(|port| open(&mut net, s1, 3, port)).collect::<Vec<_>>(), servers);
        // Probing goes on without it: nobody answers, and after the patience all are down.
        let model = net.disconnect(s1);
        net.pass(Duration::from_secs(11));
        assert_eq!(net.logged("Server 10.0.0.1 down") + net.logged("Server 10.0.0.2 down"), 2);
        drop(model);
    }
}

#[test]
fn it_knows_tcp_over_ipv4_and_one_vip_alone() {
    let (mut net, s1) = ready(Version::V1_3, Forwarding::Hub);
    let other = tcp((host(3), SWITCH), (ip(3), 4000), ([10, 0, 1, 2], 80), SYN);
    assert_eq!(net.inject(s1, 3, &other), [1, 2, 4, 5, 6]);
    let mut udp = request(3, 4000, 0);
    udp[23] = 17;
    assert_eq!(net.inject(s1, 3, &udp), [1, 2, 4, 5, 6]);
    assert_eq!(pinned(&net, s1), 0);
    let _: Ipv4Addr = net.controller.status(&[], net.now).classic.unwrap().vip.unwrap();
}

#[test]
fn a_tagged_flow_keeps_its_tag() {
    for version in BOTH {
        let (mut net, s1) = ready(version, Forwarding::Hub);
        let tag = |mut bytes: Vec<u8>| {
            bytes.splice(12..12, [0x81, 0x00, 0x60, 5]);
            bytes
        };
        let out = net.inject_raw(s1, 3, &tag(request(3, 4000, SYN)), None);
        let server = u8::try_from(out[0].0).unwrap();
        assert_eq!(out, [(server.into(), tag(balanced(server, 3, 4000, SYN)))]);
        let before = packet_ins(&net);
        net.inject_raw(s1, 3, &tag(request(3, 4000, ACK)), None);
        assert_eq!(packet_ins(&net), before);
    }
}
