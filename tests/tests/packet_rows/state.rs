//! Connections over time: states, timeouts, and backends that go away.

use testbed::frame::{ACK, FIN, Packet, RST, SYN, v4};
use testbed::scenario::{Handing, OnDown, Scenario, State};

use crate::lab::{
    AT_B1, AT_B2, AT_C3, B1, B2, C3, TIMEOUTS, at, b_tcp, c3_tcp, lab, lab_with, to_b1, to_b2, to_c3,
    to_c3_alive, vip,
};
use crate::row::{Row, START, passed, row};

pub fn rows() -> Vec<Row> {
    [closing(), resets(), timeouts(), backends_gone(), reuse(), handing_over()]
        .into_iter()
        .flatten()
        .collect()
}

fn c3(flags: u8, seq: u32) -> Packet {
    c3_tcp(4000, flags, seq, b"")
}

fn b1(flags: u8, seq: u32) -> Packet {
    b_tcp(B1, 4000, flags, seq, b"")
}

/// An established connection of C3's port 4000 with backend 1: the client's next byte is 101, the backend's 901.
fn established(name: &'static str, scenario: Scenario) -> Row {
    row(name, scenario)
        .send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1))
        .send(AT_B1, &b1(SYN | ACK, 900).bytes(), to_c3_alive(1, &b1(SYN | ACK, 900)))
        .send(AT_C3, &c3(ACK, 101).bytes(), to_b1(&c3(ACK, 101)))
        .connections(&[("established", 1)])
}

trait Talk {
    /// C3's segment to backend 1.
    fn client(self, flags: u8, seq: u32) -> Self;
    /// Backend 1's segment to C3, at a time at which it has shown itself already.
    fn backend(self, flags: u8, seq: u32) -> Self;
    /// C3's SYN as the beginning of another connection, which gets backend 2.
    fn client_begins_with_b2(self) -> Self;
}

impl Talk for Row {
    fn client(self, flags: u8, seq: u32) -> Self {
        self.send(AT_C3, &c3(flags, seq).bytes(), to_b1(&c3(flags, seq)))
    }

    fn backend(self, flags: u8, seq: u32) -> Self {
        self.send(AT_B1, &b1(flags, seq).bytes(), to_c3(1, &b1(flags, seq)))
    }

    fn client_begins_with_b2(self) -> Self {
        self.send(AT_C3, &c3(SYN, 5000).bytes(), to_b2(&c3(SYN, 5000)).opening(1, 2))
    }
}

fn closing() -> Vec<Row> {
    vec![
        established("the client's FIN, then the backend's", lab())
            .client(FIN | ACK, 101)
            .connections(&[("closing", 1)])
            .backend(FIN | ACK, 901)
            .connections(&[("closing", 1)])
            .client(ACK, 102),
        established("a SYN after both FINs begins another connection", lab())
            .client(FIN | ACK, 101)
            .backend(FIN | ACK, 901)
            .client_begins_with_b2()
            .connections(&[("syn", 2)]),
        established("a SYN after one FIN does not", lab())
            .client(FIN | ACK, 101)
            .client(SYN, 5000)
            .connections(&[("closing", 1)]),
        established("a SYN on an established connection stays with its backend", lab())
            .client(SYN, 5000)
            .connections(&[("established", 1)]),
        row("a FIN of the backend before the client's ACK", lab())
            .send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1))
            .send(AT_B1, &b1(FIN | ACK, 900).bytes(), to_c3_alive(1, &b1(FIN | ACK, 900)))
            .connections(&[("closing", 1)]),
        row("an ACK before the backend's answer does not establish", lab())
            .send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1))
            .client(ACK, 101)
            .connections(&[("syn", 1)]),
    ]
}

fn resets() -> Vec<Row> {
    // An RST says nothing about the service, so the backend does not show that it is alive.
    vec![
        established("the client's RST at the expected number closes", lab())
            .client(RST, 101)
            .connections(&[("closed", 1)])
            .client_begins_with_b2(),
        established("the backend's RST closes", lab()).backend(RST | ACK, 901).connections(&[("closed", 1)]),
        established("an RST at the window's upper end closes", lab())
            .client(RST, 101 + 65536)
            .connections(&[("closed", 1)]),
        established("an RST at the window's lower end closes", lab())
            .client(RST, 101u32.wrapping_sub(65536))
            .connections(&[("closed", 1)]),
        established("an RST beyond the window only makes suspect", lab())
            .client(RST, 101 + 65537)
            .connections(&[("established", 1)])
            .advance(TIMEOUTS.suspect)
            .client(ACK, 101)
            .connections(&[("established", 1)])
            .advance(TIMEOUTS.established)
            .client(ACK, 101),
        established("an RST below the window shortens the timeout", lab())
            .backend(RST, 901u32.wrapping_sub(65537))
            .advance(TIMEOUTS.suspect + 1)
            .client_begins_with_b2(),
        row("an RST for an answer", lab())
            .send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1))
            .send(AT_B1, &b1(RST | ACK, 0).bytes(), to_c3(1, &b1(RST | ACK, 0)))
            .connections(&[("closed", 1)])
            .client_begins_with_b2(),
        established("sequence numbers wrap around", lab())
            .send(
                AT_C3,
                &c3_tcp(4000, ACK, 0x8000_0000, b"half-way").bytes(),
                to_b1(&c3_tcp(4000, ACK, 0x8000_0000, b"half-way")),
            )
            .client(ACK, u32::MAX)
            .client(FIN | ACK, u32::MAX)
            .client(RST, 0)
            .connections(&[("closed", 1)]),
    ]
}

fn timeouts() -> Vec<Row> {
    let query = Packet::udp(at(C3, 4000), vip(53), b"?");
    let answer = Packet::udp(at(B1, 53), at(C3, 4000), b"!");
    let opened =
        |name| row(name, lab()).send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1));
    let asked = |name| row(name, lab()).send(AT_C3, &query.bytes(), to_b1(&query).opening(1, 1));
    vec![
        opened("an unanswered SYN is kept until its timeout").advance(TIMEOUTS.syn).client(SYN, 100),
        opened("an unanswered SYN is forgotten after it").advance(TIMEOUTS.syn + 1).client_begins_with_b2(),
        opened("a reply to a forgotten connection passes untouched").advance(TIMEOUTS.syn + 1).send(
            AT_B1,
            &b1(SYN | ACK, 900).bytes(),
            passed("no_connection"),
        ),
        established("an established connection is kept until its timeout", lab())
            .advance(TIMEOUTS.established)
            .client(ACK, 101),
        established("a reply keeps it alive", lab())
            .advance(TIMEOUTS.established)
            .send(
                AT_B1,
                &b1(ACK, 901).bytes(),
                to_c3(1, &b1(ACK, 901)).alive(1, 1, START + TIMEOUTS.established),
            )
            .advance(TIMEOUTS.established)
            .client(ACK, 101),
        established("a SYN after its timeout begins another", lab())
            .advance(TIMEOUTS.established + 1)
            .client_begins_with_b2()
            .connections(&[("syn", 2)]),
        established("a closing connection is forgotten sooner", lab())
            .client(FIN | ACK, 101)
            .advance(TIMEOUTS.closing)
            .client(ACK, 102)
            .advance(TIMEOUTS.closing + 1)
            .send(AT_B1, &b1(FIN | ACK, 901).bytes(), passed("no_connection")),
        established("a reset connection is forgotten soonest", lab())
            .client(RST, 101)
            .advance(TIMEOUTS.closed)
            .send(AT_B1, &b1(ACK, 901).bytes(), to_c3(1, &b1(ACK, 901)).alive(1, 1, START + TIMEOUTS.closed))
            .advance(TIMEOUTS.closed + 1)
            .send(AT_B1, &b1(ACK, 901).bytes(), passed("no_connection")),
        asked("a UDP flow is kept until its timeout").advance(TIMEOUTS.udp).send(
            AT_C3,
            &query.bytes(),
            to_b1(&query),
        ),
        asked("an answer keeps a UDP flow alive")
            .advance(TIMEOUTS.udp)
            .send(AT_B1, &answer.bytes(), to_c3(1, &answer).alive(1, 1, START + TIMEOUTS.udp))
            .advance(TIMEOUTS.udp)
            .send(AT_C3, &query.bytes(), to_b1(&query)),
        asked("a UDP flow is forgotten after its timeout").advance(TIMEOUTS.udp + 1).send(
            AT_C3,
            &query.bytes(),
            to_b2(&query).opening(1, 2),
        ),
        opened("the clock wraps around")
            .advance(u32::MAX - START - 5)
            .client_begins_with_b2()
            .advance(10)
            .send(AT_C3, &c3(ACK, 5001).bytes(), to_b2(&c3(ACK, 5001))),
    ]
}

fn backends_gone() -> Vec<Row> {
    let keep = lab;
    let repick = || lab_with(|s| s.vip(1).on_down = OnDown::Repick);
    let down = |s: &mut Scenario| {
        s.backend(1).state = State::Down;
        s.vip(1).ring = vec![2];
    };
    let query = Packet::udp(at(C3, 4000), vip(53), b"?");
    vec![
        established("keep: a dead backend's connection stays", keep()).change(down).client(ACK, 101),
        established("keep: a new SYN goes elsewhere", keep()).change(down).client_begins_with_b2(),
        established("keep: its late reply still finds the client", keep()).change(down).backend(ACK, 901),
        established("repick: a dead backend's connection moves", repick())
            .change(down)
            .send(AT_C3, &c3(ACK, 101).bytes(), to_b2(&c3(ACK, 101)).opening(1, 2))
            .connections(&[("unverified", 2)])
            .send(AT_B1, &b1(ACK, 901).bytes(), passed("no_connection"))
            .send(AT_B2, &b_tcp(B2, 4000, RST, 0, b"").bytes(), to_c3(2, &b_tcp(B2, 4000, RST, 0, b""))),
        established("keep: disabled is as dead", keep())
            .change(|s| s.backend(1).state = State::Disabled)
            .client(ACK, 101)
            .change(|s| s.vip(1).on_down = OnDown::Repick)
            .send(AT_C3, &c3(ACK, 101).bytes(), to_b2(&c3(ACK, 101)).opening(1, 2)),
        established("draining: the old connection stays", lab())
            .change(|s| {
                s.backend(1).state = State::Draining;
                s.vip(1).ring = vec![2];
            })
            .client(ACK, 101)
            .send(AT_C3, &c3_tcp(4001, SYN, 1, b"").bytes(), to_b2(&c3_tcp(4001, SYN, 1, b"")).opening(1, 2)),
        row("keep: a UDP flow of a dead backend moves all the same", lab())
            .send(AT_C3, &query.bytes(), to_b1(&query).opening(1, 1))
            .change(down)
            .send(AT_C3, &query.bytes(), to_b2(&query).opening(1, 2)),
        established("back again before anybody noticed", repick())
            .change(down)
            .change(|s| s.backend(1).state = State::Up)
            .client(ACK, 101),
        established(
            "the last known keep their connections though down",
            lab_with(|s| {
                s.vip(1).last_known = true;
                s.vip(1).on_down = OnDown::Repick;
            }),
        )
        .change(|s| s.backend(1).state = State::Down)
        .client(ACK, 101),
    ]
}

fn reuse() -> Vec<Row> {
    vec![
        established("a reused record does not get the old flow", lab())
            .change(|s| s.backend(1).generation = 2)
            .client_begins_with_b2(),
        established("a reused record's packet is no reply", lab())
            .change(|s| s.backend(1).generation = 2)
            .send(AT_B1, &b1(ACK, 901).bytes(), passed("no_connection")),
        established(
            "a record that moved to another VIP does not get the old flow",
            lab_with(|s| {
                s.vips.push(crate::lab::a_vip(2, v4(10, 0, 1, 2), &[], &[]));
            }),
        )
        .change(|s| {
            s.backend(1).vip = 2;
            s.vip(1).ring = vec![2];
        })
        .client_begins_with_b2(),
        established("a record that has gone does not get the old flow", lab())
            .change(|s| {
                s.backends.remove(0);
                s.vip(1).ring = vec![2];
            })
            .client_begins_with_b2(),
        established("a service that the VIP no longer has", lab())
            .change(|s| s.vip(1).services.clear())
            .send(AT_C3, &c3(ACK, 101).bytes(), crate::row::dropped("vip_no_service", 1))
            .send(AT_B1, &b1(ACK, 901).bytes(), passed("no_connection")),
    ]
}

/// Another balancer takes over, or gives back: what is of a connection here stays here, all else is that one's.
fn handing_over() -> Vec<Row> {
    let hand_over = |s: &mut Scenario| s.handing = Handing::Over;
    let other = c3_tcp(4001, SYN, 1, b"");
    let query = Packet::udp(at(C3, 4000), vip(53), b"?");
    let part = Packet::udp(at(C3, 4000), vip(53), &[7; 40]).fragment(0).part(24, 48);
    vec![
        established("handing over: a connection stays, both ways", lab())
            .change(hand_over)
            .client(ACK, 101)
            .backend(ACK, 901)
            .connections(&[("established", 1)]),
        row("handing over: new connections are the other's", lab())
            .change(hand_over)
            .send(AT_C3, &other.bytes(), passed("handed_over"))
            .send(AT_C3, &query.bytes(), passed("handed_over"))
            .send(AT_B1, &b_tcp(B1, 4001, SYN | ACK, 900, b"").bytes(), passed("no_connection"))
            .connections(&[]),
        row("handing over: segments of unknown connections are the other's", lab())
            .change(hand_over)
            .send(AT_C3, &c3(ACK, 101).bytes(), passed("handed_over"))
            .send(AT_C3, &c3(RST, 101).bytes(), passed("handed_over"))
            .connections(&[]),
        row("handing over: later fragments without a first part are the other's", lab())
            .change(hand_over)
            .send(AT_C3, &part.bytes(), passed("handed_over")),
        row("handing over: the cap is the other's, too", lab_with(|s| s.max_new = 1))
            .send(AT_C3, &other.bytes(), to_b1(&other).opening(1, 1))
            .change(hand_over)
            .send(AT_C3, &c3(SYN, 1).bytes(), passed("handed_over"))
            .change(|s| s.handing = Handing::No)
            .send(AT_C3, &c3(SYN, 1).bytes(), crate::row::dropped("new_flow_cap", 1)),
        established("handing over: a finished connection's port is the other's", lab())
            .client(RST, 101)
            .change(hand_over)
            .send(AT_C3, &c3(SYN, 5000).bytes(), passed("handed_over"))
            .connections(&[("gone", 1)])
            .send(AT_C3, &c3(ACK, 5001).bytes(), passed("handed_over"))
            .send(AT_B1, &b1(ACK, 901).bytes(), passed("no_connection"))
            .change(|s| s.handing = Handing::No)
            .send(AT_C3, &c3(SYN, 9000).bytes(), to_b2(&c3(SYN, 9000)).opening(1, 2))
            .connections(&[("syn", 2)]),
        established(
            "handing over: a dead backend's connection is the other's where it moves",
            lab_with(|s| {
                s.vip(1).on_down = OnDown::Repick;
            }),
        )
        .change(hand_over)
        .change(|s| s.backend(1).state = State::Down)
        .send(AT_C3, &c3(ACK, 101).bytes(), passed("handed_over"))
        .change(|s| s.backend(1).state = State::Up)
        .send(AT_C3, &c3(ACK, 101).bytes(), passed("handed_over"))
        .connections(&[("gone", 1)]),
        established("handing back: a SYN on a finished connection's port is opened here", lab())
            .client(RST, 101)
            .change(|s| s.handing = Handing::Back)
            .client_begins_with_b2(),
        row(
            "handing back: SYNs are balanced here again, all else without a connection is the other's",
            lab(),
        )
        .change(|s| s.handing = Handing::Back)
        .send(AT_C3, &other.bytes(), to_b1(&other).opening(1, 1))
        .send(AT_C3, &c3(ACK, 101).bytes(), passed("handed_over"))
        .send(AT_C3, &query.bytes(), passed("handed_over"))
        .send(AT_C3, &part.bytes(), passed("handed_over")),
        row("handing back: the cap is ours again", lab_with(|s| s.max_new = 1))
            .change(|s| s.handing = Handing::Back)
            .send(AT_C3, &other.bytes(), to_b1(&other).opening(1, 1))
            .send(AT_C3, &c3(SYN, 1).bytes(), crate::row::dropped("new_flow_cap", 1)),
        established("handed back: new connections are balanced again", lab())
            .change(hand_over)
            .send(AT_C3, &other.bytes(), passed("handed_over"))
            .change(|s| s.handing = Handing::No)
            .send(AT_C3, &other.bytes(), to_b2(&other).opening(1, 2)),
    ]
}
