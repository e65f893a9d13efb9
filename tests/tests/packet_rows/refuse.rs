//! Packets to a VIP that nobody can be given.

use testbed::frame::{ACK, BROADCAST, Ip, L4, Mac, Packet, SYN, v4};
use testbed::scenario::{Protocol, Scenario, Selection, State};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_B2, AT_C3, B1, B2, C3, Host, VIP, VIP_MAC, a_backend, a_vip, at, b_tcp, c3_tcp, lab,
    lab_every_port, lab_with, to_b1, to_b2, vip,
};
use crate::row::{Row, START, dropped, forwarded, passed, replied, row};

pub fn rows() -> Vec<Row> {
    [unserved(), malformed(), nobody(), hairpin(), ambiguous(), full()].into_iter().flatten().collect()
}

fn unserved() -> Vec<Row> {
    let refused = |name, packet: Packet| {
        row(name, lab()).send(AT_C3, &packet.bytes(), dropped("vip_no_service", 1)).connections(&[])
    };
    vec![
        refused("a TCP port that nobody serves", Packet::tcp(at(C3, 4000), vip(81), SYN, 1, b"")),
        refused("a UDP port that nobody serves", Packet::udp(at(C3, 4000), vip(54), b"")),
        refused("a TCP service's port by UDP", Packet::udp(at(C3, 4000), vip(80), b"")),
        refused("port 0", Packet::tcp(at(C3, 4000), vip(0), SYN, 1, b"")),
        refused("ping to a VIP", Packet::other(1, C3, (VIP_MAC, VIP), &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])),
        refused("SCTP to a VIP", Packet::other(132, C3, (VIP_MAC, VIP), &[0x0f, 0xa0, 0, 80, 0, 0, 0, 0])),
        refused("a tunnel to a VIP", Packet::other(4, C3, (VIP_MAC, VIP), &[0x45; 20])),
        refused("behind a VLAN tag", Packet::tcp(at(C3, 4000), vip(81), SYN, 1, b"").tag(0x8100, 5)),
        row("UDP to a VIP of every TCP port", lab_every_port()).send(
            AT_C3,
            &Packet::udp(at(C3, 4000), vip(80), b"").bytes(),
            dropped("vip_no_service", 1),
        ),
    ]
}

fn malformed() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 1, b"data");
    let query = Packet::udp(at(C3, 4000), vip(53), b"data");
    let refused = |name, frame: &[u8]| {
        row(name, lab()).send(AT_C3, frame, dropped("vip_malformed", 1)).connections(&[])
    };
    let mut cut = query.bytes();
    cut.pop();
    vec![
        refused("a total length beyond the frame", &syn.clone().total_length(45).bytes()),
        refused("the longest total length", &syn.clone().total_length(65535).bytes()),
        refused("a total length below the header", &syn.clone().total_length(19).bytes()),
        refused("a total length of zero", &syn.clone().total_length(0).bytes()),
        refused("no room for a TCP header", &syn.clone().total_length(39).bytes()),
        refused("no room for a UDP header", &query.clone().total_length(27).bytes()),
        refused("no room for ports", &query.clone().total_length(20).bytes()),
        refused("a header length of sixteen bytes", &syn.clone().version_ihl(0x44).bytes()),
        refused("options that reach behind the packet", &syn.clone().version_ihl(0x4f).bytes()),
        refused("version 6 in an IPv4 frame", &syn.clone().version_ihl(0x65).bytes()),
        refused("a frame cut by one byte", &cut),
        refused(
            "a fragment with a total length beyond the frame",
            &query.fragment(1).total_length(99).bytes(),
        ),
        row("the shortest TCP segment is well-formed", lab()).send(
            AT_C3,
            &c3_tcp(4000, SYN, 1, b"").bytes(),
            to_b1(&c3_tcp(4000, SYN, 1, b"")).opening(1, 1),
        ),
    ]
}

fn nobody() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 1, b"");
    let refused = |name, scenario: Scenario| {
        row(name, scenario).send(AT_C3, &syn.bytes(), dropped("no_backend", 1)).connections(&[])
    };
    let all = |state: State| {
        move |s: &mut Scenario| {
            s.backend(1).state = state;
            s.backend(2).state = state;
        }
    };
    let last_known = |state: State| {
        lab_with(|s| {
            all(state)(s);
            s.vip(1).last_known = true;
        })
    };
    vec![
        refused("an empty ring", lab_with(|s| s.vip(1).ring.clear())),
        refused("all went down before the ring says so", lab_with(all(State::Down))),
        refused("all are draining", lab_with(all(State::Draining))),
        refused("all are disabled", lab_with(all(State::Disabled))),
        row("nobody up, but the last known are taken", last_known(State::Down)).send(
            AT_C3,
            &syn.bytes(),
            to_b1(&syn).opening(1, 1),
        ),
        row("nobody for a packet that is no SYN either", lab_with(|s| s.vip(1).ring.clear())).send(
            AT_C3,
            &c3_tcp(4000, ACK, 1, b"").bytes(),
            dropped("no_backend", 1),
        ),
        row("ARP is answered with nobody up", lab_with(all(State::Down))).send(
            AT_C3,
            &testbed::frame::Arp::request(C3, VIP).bytes(),
            crate::row::answered(testbed::frame::Arp::request(C3, VIP).answered_by(VIP_MAC).bytes()),
        ),
    ]
}

/// A host's segment to the VIP.
fn from(host: Host, flags: u8) -> Packet {
    Packet::tcp(at(host, 4000), vip(80), flags, 1, b"")
}

fn hairpin() -> Vec<Row> {
    let syn = from(B1, SYN);
    vec![
        row("a backend as client gets the other one, whose turn it is not", lab())
            .send(AT_B1, &syn.bytes(), to_b2(&syn).opening(1, 2))
            .connections(&[("syn", 2)])
            .send(
                AT_B2,
                &Packet::tcp(at(B2, 80), at(B1, 4000), SYN | ACK, 1, b"").bytes(),
                replied(
                    Action::Redirect(1),
                    1,
                    2,
                    Packet::tcp(vip(80), at(B1, 4000), SYN | ACK, 1, b"").bytes(),
                )
                .alive(1, 2, START),
            ),
        row("the only backend as client", lab_with(|s| s.vip(1).ring = vec![1]))
            .send(AT_B1, &syn.bytes(), dropped("hairpin", 1))
            .connections(&[]),
        row("the other one is down", lab_with(|s| s.backend(2).state = State::Down)).send(
            AT_B1,
            &syn.bytes(),
            dropped("hairpin", 1),
        ),
        row("by consistent hash too", lab_with(|s| s.vip(1).selection = Selection::Maglev))
            .send(AT_B1, &syn.bytes(), to_b2(&syn).opening(1, 2))
            .send(AT_B2, &from(B2, SYN).bytes(), to_b1(&from(B2, SYN)).opening(1, 1)),
    ]
}

/// A second VIP, 10.0.1.2, on the same services: ids 3 and 4 are the hosts of 1 and 2.
fn two_vips(ring: &[u16]) -> Scenario {
    lab_with(|s| {
        s.vip(1).ring = ring.to_vec();
        s.vip(1).services = vec![(Protocol::Tcp, 80)];
        let second: Vec<u16> = ring.iter().map(|id| id + 2).collect();
        s.vips.push(a_vip(2, v4(10, 0, 1, 2), &[(Protocol::Tcp, 80)], &second));
        s.backends.push(a_backend(3, 2, B1, 1));
        s.backends.push(a_backend(4, 2, B2, 2));
        s.backends.iter_mut().for_each(|b| b.shared = true);
    })
}

fn ambiguous() -> Vec<Row> {
    const SECOND: (Mac, Ip, u16) = ([2, 0x6c, 10, 0, 1, 2], v4(10, 0, 1, 2), 80);
    let first = c3_tcp(4000, SYN, 1, b"");
    let second = Packet::tcp(at(C3, 4000), SECOND, SYN, 1, b"");
    let other_port = Packet::tcp(at(C3, 4001), SECOND, SYN, 1, b"");
    let reply = b_tcp(B2, 4000, SYN | ACK, 1, b"");
    let to_second = |slot: u16, backend: u16, host: Host, packet: &Packet| {
        let out = packet.clone().to(at(host, 80)).bytes();
        forwarded(Action::Redirect(slot), 2, backend, out).opening(2, backend)
    };
    vec![
        row("two VIPs of one client port: the second gets another backend", two_vips(&[1, 2]))
            .send(AT_C3, &first.bytes(), to_b1(&first).opening(1, 1))
            .send(AT_C3, &second.bytes(), to_second(2, 4, B2, &second))
            .send(
                AT_B2,
                &reply.bytes(),
                replied(Action::Redirect(3), 2, 4, reply.clone().from(SECOND).bytes()).alive(2, 4, START),
            ),
        row("two VIPs of one client port and one backend", two_vips(&[1]))
            .send(AT_C3, &first.bytes(), to_b1(&first).opening(1, 1))
            .send(AT_C3, &second.bytes(), dropped("reply_ambiguous", 2))
            .connections(&[("syn", 1)]),
        row("another client port is not confused", two_vips(&[1]))
            .send(AT_C3, &first.bytes(), to_b1(&first).opening(1, 1))
            .send(AT_C3, &other_port.bytes(), to_second(1, 3, B1, &other_port)),
        row("the other VIP's connection is long gone", two_vips(&[1]))
            .send(AT_C3, &first.bytes(), to_b1(&first).opening(1, 1))
            .advance(61)
            .send(AT_C3, &second.bytes(), to_second(1, 3, B1, &second)),
        row("two VIPs of one client port on different ports of a backend", {
            let mut scenario = two_vips(&[1]);
            scenario.backend(1).port = 8001;
            scenario.backend(3).port = 8003;
            scenario
        })
        .send(
            AT_C3,
            &first.bytes(),
            forwarded(Action::Redirect(1), 1, 1, first.clone().to(at(B1, 8001)).bytes()).opening(1, 1),
        )
        .send(
            AT_C3,
            &second.bytes(),
            forwarded(Action::Redirect(1), 2, 3, second.clone().to(at(B1, 8003)).bytes()).opening(2, 3),
        ),
        row("replies of two VIPs of different client ports go back to each", two_vips(&[1]))
            .send(AT_C3, &first.bytes(), to_b1(&first).opening(1, 1))
            .send(AT_C3, &other_port.bytes(), to_second(1, 3, B1, &other_port))
            .send(
                AT_B1,
                &b_tcp(B1, 4001, SYN | ACK, 1, b"").bytes(),
                replied(Action::Redirect(3), 2, 3, b_tcp(B1, 4001, SYN | ACK, 1, b"").from(SECOND).bytes())
                    .alive(2, 3, START),
            )
            .send(
                AT_B1,
                &b_tcp(B1, 4000, SYN | ACK, 1, b"").bytes(),
                crate::lab::to_c3_alive(1, &b_tcp(B1, 4000, SYN | ACK, 1, b"")),
            ),
    ]
}

fn full() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 1, b"");
    let other = c3_tcp(4001, SYN, 1, b"");
    let rubbish = Packet { l4: L4::Other(99), ..c3_tcp(4000, 0, 0, b"") };
    vec![
        // The kernel's table evicts its oldest entry instead.
        row("a full table", lab_with(|s| s.connections = 1))
            .without_program()
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(AT_C3, &other.bytes(), dropped("table_full", 1))
            .send(AT_C3, &syn.bytes(), to_b1(&syn)),
        row("a full table: an old entry of the same flow is used again", lab_with(|s| s.connections = 1))
            .without_program()
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .advance(61)
            .send(AT_C3, &syn.bytes(), to_b2(&syn).opening(1, 2)),
        row("a broadcast to the VIP's address is not for it", lab()).send(
            AT_C3,
            &rubbish.to_mac(BROADCAST).bytes(),
            passed("already_balanced"),
        ),
    ]
}
