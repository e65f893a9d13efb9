//! Which backend a flow gets, and which port its packets leave by.

use testbed::frame::{ACK, Packet, RST, SYN};
use testbed::oracle::hash;
use testbed::scenario::{Scenario, Selection, State};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_C3, AT_C4, AT_C5, B1, B2, C3, C4, C5, Host, NOT_ATTACHED, at, b_tcp, c3_tcp, lab, lab_with,
    to_b1, to_b2, to_c3_alive, vip,
};
use crate::row::{Expect, Row, START, forwarded, replied, row};

pub fn rows() -> Vec<Row> {
    [in_turn(), at_random(), consistent(), ways(), moves()].into_iter().flatten().collect()
}

fn in_turn() -> Vec<Row> {
    let syn = |port| c3_tcp(port, SYN, 1, b"");
    let one = |port| to_b1(&syn(port)).opening(1, 1);
    let two = |port| to_b2(&syn(port)).opening(1, 2);
    vec![
        row("round robin alternates", lab())
            .send(AT_C3, &syn(1).bytes(), one(1))
            .send(AT_C3, &syn(2).bytes(), two(2))
            .send(AT_C3, &syn(3).bytes(), one(3))
            .send(AT_C3, &syn(4).bytes(), two(4)),
        row("a repeated SYN stays, and takes nobody's turn", lab())
            .send(AT_C3, &syn(1).bytes(), one(1))
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)))
            .send(AT_C3, &syn(2).bytes(), two(2)),
        row("weights 2 and 1", lab_with(|s| s.vip(1).ring = vec![1, 2, 1]))
            .send(AT_C3, &syn(1).bytes(), one(1))
            .send(AT_C3, &syn(2).bytes(), two(2))
            .send(AT_C3, &syn(3).bytes(), one(3))
            .send(AT_C3, &syn(4).bytes(), one(4)),
        row("who went down just now is passed over", lab_with(|s| s.backend(1).state = State::Down))
            .send(AT_C3, &syn(1).bytes(), two(1))
            .send(AT_C3, &syn(2).bytes(), two(2)),
        row("who is draining gets nothing new", lab_with(|s| s.backend(2).state = State::Draining))
            .send(AT_C3, &syn(1).bytes(), one(1))
            .send(AT_C3, &syn(2).bytes(), one(2)),
        row("each datagram of a new port takes its turn", lab())
            .send(AT_C3, &query(1).bytes(), to_b1(&query(1)).opening(1, 1))
            .send(AT_C3, &query(2).bytes(), to_b2(&query(2)).opening(1, 2))
            .send(AT_C3, &query(1).bytes(), to_b1(&query(1))),
    ]
}

fn query(port: u16) -> Packet {
    Packet::udp(at(C3, port), vip(53), b"?")
}

fn at_random() -> Vec<Row> {
    let lab = || lab_with(|s| s.vip(1).selection = Selection::Random);
    let syn = |port| c3_tcp(port, SYN, 1, b"");
    vec![
        row("random: the lower half of the numbers", lab())
            .random(0)
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .random(0x7fff_ffff)
            .send(AT_C3, &syn(2).bytes(), to_b1(&syn(2)).opening(1, 1)),
        row("random: the upper half of the numbers", lab())
            .random(0x8000_0000)
            .send(AT_C3, &syn(1).bytes(), to_b2(&syn(1)).opening(1, 2))
            .random(u32::MAX)
            .send(AT_C3, &syn(2).bytes(), to_b2(&syn(2)).opening(1, 2)),
        row("random: the number matters only once", lab())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .random(u32::MAX)
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1))),
    ]
}

/// A client port whose flow to the VIP's port 80 the consistent hash gives to the first member, or the second.
fn port_hashed_to(host: Host, member: usize) -> u16 {
    (4000..5000)
        .find(|port| hash::maglev_slot(hash::flow(host.1, *port, 80, 6)) % 2 == member)
        .expect("one of a thousand ports")
}

fn consistent() -> Vec<Row> {
    let maglev = || lab_with(|s| s.vip(1).selection = Selection::Maglev);
    let (a, b) = (port_hashed_to(C3, 0), port_hashed_to(C3, 1));
    let segment = |port, flags| c3_tcp(port, flags, 7, b"");
    let one = |packet: &Packet| to_b1(packet).opening(1, 1);
    let two = |packet: &Packet| to_b2(packet).opening(1, 2);
    vec![
        row("Maglev chooses by the flow's hash", maglev())
            .send(AT_C3, &segment(a, SYN).bytes(), one(&segment(a, SYN)))
            .send(AT_C3, &segment(b, SYN).bytes(), two(&segment(b, SYN))),
        row("Maglev: whose choice is down goes to another member", {
            let mut scenario = maglev();
            scenario.backend(1).state = State::Down;
            scenario
        })
        .send(AT_C3, &segment(a, SYN).bytes(), two(&segment(a, SYN))),
        row("no SYN and no entry: by consistent hash, and nobody's turn is taken", lab())
            .send(AT_C3, &segment(b, ACK).bytes(), two(&segment(b, ACK)))
            .send(AT_C3, &segment(1, SYN).bytes(), one(&segment(1, SYN))),
        row("a SYN-ACK from a client opens nothing in turn", lab()).send(
            AT_C3,
            &segment(b, SYN | ACK).bytes(),
            two(&segment(b, SYN | ACK)),
        ),
        row("RST without an entry goes by consistent hash and makes no entry", lab())
            .send(AT_C3, &segment(b, RST).bytes(), to_b2(&segment(b, RST)))
            .connections(&[]),
        row("SYN with RST is no SYN", lab())
            .send(AT_C3, &segment(b, SYN | RST).bytes(), to_b2(&segment(b, SYN | RST)))
            .connections(&[]),
    ]
}

fn lab_syn(host: Host) -> Packet {
    Packet::tcp(at(host, 4000), vip(80), SYN, 1, b"")
}

/// To backend 1 without a redirect.
fn by_switch(packet: &Packet) -> Expect {
    forwarded(Action::Pass, 1, 1, packet.clone().to(at(B1, packet.dport)).bytes()).opening(1, 1)
}

fn ways() -> Vec<Row> {
    let syn = lab_syn(C3);
    let reply_to = |host: Host| Packet::tcp(at(B1, 80), at(host, 4000), SYN | ACK, 1, b"");
    let back_by_switch = |packet: &Packet| {
        replied(Action::Pass, 1, 1, packet.clone().from(vip(80)).bytes()).alive(1, 1, START)
    };
    let backend_at = |slot: u16| lab_with(move |s: &mut Scenario| s.backend(1).slot = slot);
    vec![
        row("the client on another switch: carried by the switch", lab())
            .send(AT_C5, &lab_syn(C5).bytes(), by_switch(&lab_syn(C5)))
            .send(AT_B1, &reply_to(C5).bytes(), back_by_switch(&reply_to(C5))),
        row("the client behind a shaped port: redirected there, carried back", lab())
            .send(AT_C4, &lab_syn(C4).bytes(), to_b1(&lab_syn(C4)).opening(1, 1))
            .send(AT_B1, &reply_to(C4).bytes(), back_by_switch(&reply_to(C4))),
        row("the backend behind a shaped port", backend_at(4)).send(AT_C3, &syn.bytes(), by_switch(&syn)),
        row("the backend on another switch", backend_at(5)).send(AT_C3, &syn.bytes(), by_switch(&syn)),
        row("the backend's port is not known", backend_at(0)).send(AT_C3, &syn.bytes(), by_switch(&syn)),
        row("the backend's port is gone", backend_at(9)).send(AT_C3, &syn.bytes(), by_switch(&syn)),
        row("the client comes in by an interface that is not attached", lab())
            .send(NOT_ATTACHED, &syn.bytes(), by_switch(&syn))
            .send(AT_B1, &reply_to(C3).bytes(), back_by_switch(&reply_to(C3))),
        row("a backend whose MAC is not known yet: the MAC stays", lab_with(|s| s.backend(1).mac = [0; 6]))
            .send(
                AT_C3,
                &syn.bytes(),
                forwarded(Action::Redirect(1), 1, 1, {
                    let mut out = syn.clone();
                    out.dst = B1.1;
                    out.bytes()
                })
                .opening(1, 1),
            ),
    ]
}

fn moves() -> Vec<Row> {
    let syn = lab_syn(C3);
    let again = c3_tcp(4000, ACK, 2, b"");
    let reply = b_tcp(B1, 4000, SYN | ACK, 1, b"");
    vec![
        row("a client that moved to another port is answered there", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(AT_B1, &reply.bytes(), to_c3_alive(1, &reply))
            .send(12, &again.bytes(), to_b1(&again))
            .send(
                AT_B1,
                &reply.bytes(),
                replied(Action::Redirect(2), 1, 1, reply.clone().from(vip(80)).bytes()),
            ),
        row("a client that moved to another switch is answered through it", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(AT_C5, &again.bytes(), forwarded(Action::Pass, 1, 1, again.clone().to(at(B1, 80)).bytes()))
            .send(
                AT_B1,
                &reply.bytes(),
                replied(Action::Pass, 1, 1, reply.clone().from(vip(80)).bytes()).alive(1, 1, START),
            ),
        row("the client's port has gone", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .change(|s| s.ports.retain(|p| p.slot != 3))
            .send(
                AT_B1,
                &reply.bytes(),
                replied(Action::Pass, 1, 1, reply.clone().from(vip(80)).bytes()).alive(1, 1, START),
            ),
        row("the backend's new MAC and port are used at once", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .change(|s| {
                s.backend(1).mac = B2.0;
                s.backend(1).slot = 2;
            })
            .send(
                AT_C3,
                &again.bytes(),
                forwarded(Action::Redirect(2), 1, 1, again.clone().to((B2.0, B1.1, 80)).bytes()),
            ),
    ]
}
