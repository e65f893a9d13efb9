//! Selections, weights, loads and affinity.

use testbed::frame::{ACK, Packet, RST, SYN};
use testbed::oracle::hash;
use testbed::scenario::{Scenario, Selection, State};

use crate::lab::{AT_C3, AT_C4, C3, C4, at, b_tcp, c3_tcp, lab_with, to_b1, to_b2, to_c3_alive, vip};
use crate::row::{Expect, Row, row};

pub fn rows() -> Vec<Row> {
    [hashes(), least(), affinity()].into_iter().flatten().collect()
}

fn by(selection: Selection) -> Scenario {
    lab_with(|s| s.vip(1).selection = selection)
}

fn syn(port: u16) -> Packet {
    c3_tcp(port, SYN, 1, b"")
}

fn one(packet: &Packet) -> Expect {
    to_b1(packet).opening(1, 1)
}

fn two(packet: &Packet) -> Expect {
    to_b2(packet).opening(1, 2)
}

/// To the backend that a hash of C3 gives.
fn by_member(packet: &Packet, member: usize) -> Expect {
    if member == 0 { one(packet) } else { two(packet) }
}

fn hashes() -> Vec<Row> {
    let slot = |protocol| hash::maglev_slot(hash::source(C3.1, protocol)) % 2;
    let in_ring = |port: u16, length| hash::ring_slot(hash::flow(C3.1, port, 80, 6), length);
    let third = (4000..5000).find(|port| in_ring(*port, 3) == 2).expect("one of a thousand ports");
    let query = Packet::udp(at(C3, 4000), vip(53), b"?");
    let mut rows =
        vec![
            row("source hash: every port of a client gets the same backend", by(Selection::SourceHash))
                .send(AT_C3, &syn(1).bytes(), by_member(&syn(1), slot(6)))
                .send(AT_C3, &syn(2).bytes(), by_member(&syn(2), slot(6)))
                .send(AT_C3, &syn(3).bytes(), by_member(&syn(3), slot(6))),
            row("source hash: a packet in the middle of a flow goes there, too", by(Selection::SourceHash))
                .send(AT_C3, &c3_tcp(9, ACK, 1, b"").bytes(), by_member(&c3_tcp(9, ACK, 1, b""), slot(6))),
            row("source hash: the protocol counts", by(Selection::SourceHash)).send(
                AT_C3,
                &query.bytes(),
                by_member(&query, slot(17)),
            ),
            row("source hash: whose choice is down goes to another", {
                let mut scenario = by(Selection::SourceHash);
                scenario.backend(slot(6) as u16 + 1).state = State::Down;
                scenario
            })
            .send(AT_C3, &syn(1).bytes(), by_member(&syn(1), 1 - slot(6))),
            row("flow hash over a ring of weights", {
                let mut scenario = by(Selection::FlowHash);
                scenario.vip(1).ring = vec![1, 1, 2];
                scenario
            })
            .send(AT_C3, &syn(third).bytes(), two(&syn(third))),
            row(
                "flow hash: a packet in the middle of a flow goes by the consistent hash",
                by(Selection::FlowHash),
            )
            .send(AT_C3, &c3_tcp(9, ACK, 1, b"").bytes(), {
                let at = hash::maglev_slot(hash::flow(C3.1, 9, 80, 6)) % 2;
                by_member(&c3_tcp(9, ACK, 1, b""), at)
            }),
        ];
    for port in 4000..4004 {
        rows.push(row(format!("flow hash: client port {port}"), by(Selection::FlowHash)).send(
            AT_C3,
            &syn(port).bytes(),
            by_member(&syn(port), in_ring(port, 2)),
        ));
    }
    rows
}

/// Backend 1 has this many connections for this weight, backend 2 likewise.
fn loaded(first: (u32, u16), second: (u32, u16)) -> Scenario {
    let mut scenario = by(Selection::LeastConnections);
    (scenario.backend(1).load, scenario.backend(1).weight) = first;
    (scenario.backend(2).load, scenario.backend(2).weight) = second;
    scenario
}

/// Draws member 1 first and member 2 second; the other way around.
const FIRST_SECOND: u32 = 0x8000_0000;
const SECOND_FIRST: u32 = 0x0000_8000;

fn least() -> Vec<Row> {
    let pick = |name: &str, scenario: Scenario, random: u32, member: usize| {
        row(format!("least connections: {name}"), scenario).random(random).send(
            AT_C3,
            &syn(1).bytes(),
            by_member(&syn(1), member),
        )
    };
    vec![
        pick("the one with fewer", loaded((5, 1), (4, 1)), FIRST_SECOND, 1),
        pick("the first drawn on a tie", loaded((4, 1), (4, 1)), FIRST_SECOND, 0),
        pick("the first drawn on a tie, the other way around", loaded((4, 1), (4, 1)), SECOND_FIRST, 1),
        pick("for its weight", loaded((5, 2), (3, 1)), FIRST_SECOND, 0),
        pick("the same for its weight is a tie", loaded((6, 2), (3, 1)), SECOND_FIRST, 1),
        pick("the same one drawn twice", loaded((9, 1), (0, 1)), 0, 0),
        pick("an idle one wins against any", loaded((1, 200), (0, 1)), FIRST_SECOND, 1),
        pick(
            "who is down is passed over",
            {
                let mut scenario = loaded((0, 1), (9, 1));
                scenario.backend(1).state = State::Down;
                scenario
            },
            FIRST_SECOND,
            1,
        ),
        row("least connections: what is opened counts at once", loaded((0, 1), (0, 1)))
            .random(FIRST_SECOND)
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .loads(&[(1, 1)])
            .send(AT_C3, &syn(2).bytes(), two(&syn(2)))
            .loads(&[(1, 1), (2, 1)]),
        row("least connections: what is reset no longer counts", loaded((0, 1), (0, 1)))
            .random(FIRST_SECOND)
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .send(AT_C3, &c3_tcp(1, RST, 2, b"").bytes(), to_b1(&c3_tcp(1, RST, 2, b"")))
            .loads(&[])
            .send(AT_C3, &c3_tcp(1, RST, 2, b"").bytes(), to_b1(&c3_tcp(1, RST, 2, b"")))
            .loads(&[])
            .send(AT_C3, &syn(2).bytes(), one(&syn(2))),
        row("least connections: two FINs end a connection, one does not", loaded((0, 1), (0, 1)))
            .random(FIRST_SECOND)
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .send(AT_C3, &c3_tcp(1, 0x11, 2, b"").bytes(), to_b1(&c3_tcp(1, 0x11, 2, b"")))
            .loads(&[(1, 1)])
            .send(crate::lab::AT_B1, &b_tcp(crate::lab::B1, 1, 0x11, 9, b"").bytes(), {
                to_c3_alive(1, &b_tcp(crate::lab::B1, 1, 0x11, 9, b""))
            })
            .loads(&[]),
        row("least connections: a new count replaces what was kept", loaded((0, 1), (0, 1)))
            .random(FIRST_SECOND)
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .change(|s| s.backend(2).load = 7)
            .loads(&[(1, 1), (2, 7)])
            .send(AT_C3, &syn(2).bytes(), one(&syn(2))),
    ]
}

fn affinity() -> Vec<Row> {
    let kept = || lab_with(|s| s.vip(1).affinity = 100);
    let c4 = Packet::tcp(at(C4, 1), vip(80), SYN, 1, b"");
    vec![
        row("affinity: a client keeps its backend", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .send(AT_C3, &syn(2).bytes(), one(&syn(2)))
            .send(AT_C3, &syn(3).bytes(), one(&syn(3))),
        row("affinity: another client takes the next turn", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .send(AT_C4, &c4.bytes(), two(&c4))
            .send(AT_C3, &syn(2).bytes(), one(&syn(2))),
        row("affinity: until its time", kept()).send(AT_C3, &syn(1).bytes(), one(&syn(1))).advance(100).send(
            AT_C3,
            &syn(2).bytes(),
            one(&syn(2)),
        ),
        row("affinity: not beyond its time", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .advance(101)
            .send(AT_C3, &syn(2).bytes(), two(&syn(2))),
        row("affinity: every opening renews it", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .advance(60)
            .send(AT_C3, &syn(2).bytes(), one(&syn(2)))
            .advance(60)
            .send(AT_C3, &syn(3).bytes(), one(&syn(3))),
        row("affinity: a packet of a connection does not renew it", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .advance(60)
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)))
            .advance(60)
            .send(AT_C3, &syn(3).bytes(), two(&syn(3))),
        row("affinity: not to who is draining", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .change(|s| s.backend(1).state = State::Draining)
            .send(AT_C3, &syn(2).bytes(), two(&syn(2)))
            .change(|s| s.backend(1).state = State::Up)
            .send(AT_C3, &syn(3).bytes(), two(&syn(3))),
        row("affinity: not to a reused record", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .change(|s| s.backend(1).generation = 2)
            .send(AT_C3, &syn(2).bytes(), two(&syn(2))),
        row("affinity: a packet in the middle of a flow, too", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .send(AT_C3, &c3_tcp(7, ACK, 1, b"").bytes(), one(&c3_tcp(7, ACK, 1, b""))),
        row("affinity: UDP and TCP of a client are one", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .send(AT_C3, &Packet::udp(at(C3, 1), vip(53), b"?").bytes(), {
                one(&Packet::udp(at(C3, 1), vip(53), b"?"))
            })
            .loads(&[(1, 2)]),
        row("affinity: a reset follows it, and renews nothing", kept())
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .advance(60)
            .send(AT_C3, &c3_tcp(8, RST, 1, b"").bytes(), to_b1(&c3_tcp(8, RST, 1, b"")))
            .advance(60)
            .send(AT_C3, &syn(3).bytes(), two(&syn(3))),
        row("without affinity nothing is kept", lab_with(|s| s.vip(1).affinity = 0))
            .send(AT_C3, &syn(1).bytes(), one(&syn(1)))
            .send(AT_C3, &syn(2).bytes(), two(&syn(2))),
    ]
}
