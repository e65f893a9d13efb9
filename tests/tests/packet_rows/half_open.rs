//! Half-open and established connections.

use testbed::frame::{ACK, FIN, Packet, RST, SYN};
use testbed::scenario::{Mode, OnDown, Scenario, State};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_C3, B1, C3, TIMEOUTS, VIP_MAC, at, b_tcp, c3_tcp, lab, lab_with, to_b1, to_b2, to_c3,
    to_c3_alive, vip,
};
use crate::row::{Expect, Row, forwarded, passed, row, told};

pub fn rows() -> Vec<Row> {
    [two_sided(), one_sided(), unverified(), udp(), down()].into_iter().flatten().collect()
}

fn c3(flags: u8, seq: u32) -> Packet {
    c3_tcp(4000, flags, seq, b"")
}

fn b1(flags: u8, seq: u32) -> Packet {
    b_tcp(B1, 4000, flags, seq, b"")
}

fn opened(name: &str, scenario: Scenario) -> Row {
    row(name, scenario).send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1)).half_open(1)
}

fn answered(name: &str, scenario: Scenario) -> Row {
    opened(name, scenario)
        .send(AT_B1, &b1(SYN | ACK, 900).bytes(), to_c3_alive(1, &b1(SYN | ACK, 900)))
        .half_open(1)
}

fn established(name: &str, scenario: Scenario) -> Row {
    answered(name, scenario).send(AT_C3, &c3(ACK, 101).bytes(), to_b1(&c3(ACK, 101))).half_open(0)
}

trait Client {
    fn client(self, flags: u8, seq: u32) -> Self;
}

impl Client for Row {
    fn client(self, flags: u8, seq: u32) -> Self {
        self.send(AT_C3, &c3(flags, seq).bytes(), to_b1(&c3(flags, seq)))
    }
}

fn two_sided() -> Vec<Row> {
    vec![
        opened("a SYN alone stays half-open, however often", lab())
            .client(SYN, 100)
            .client(SYN, 100)
            .half_open(1),
        opened("an ACK before the answer does not establish", lab()).client(ACK, 101).half_open(1),
        answered("a SYN with ACK after the answer does not establish", lab())
            .client(SYN | ACK, 101)
            .half_open(1),
        answered("a RST with ACK after the answer closes and does not establish", lab())
            .client(RST | ACK, 101)
            .half_open(1)
            .connections(&[("closed", 1)]),
        answered("no flags at all do not establish", lab()).client(0, 101).half_open(1),
        answered("a FIN with ACK after the answer establishes, and closes", lab())
            .client(FIN | ACK, 101)
            .half_open(0)
            .connections(&[("closing", 1)]),
        opened("an answer with FIN, then the client's ACK", lab())
            .send(AT_B1, &b1(FIN | ACK, 900).bytes(), to_c3_alive(1, &b1(FIN | ACK, 900)))
            .half_open(1)
            .client(ACK, 101)
            .half_open(0)
            .connections(&[("closing", 1)]),
        established("an established one stays where it is", lab())
            .client(ACK, 102)
            .client(SYN, 5000)
            .half_open(0),
        established("a finished one that begins anew is overwritten where it lies", lab())
            .client(RST, 101)
            .send(AT_C3, &c3(SYN, 5000).bytes(), to_b2(&c3(SYN, 5000)).opening(1, 2))
            .half_open(0)
            .connections(&[("syn", 2)])
            .loads(&[(2, 1)]),
        opened("a forgotten half-open one that begins anew stays half-open", lab())
            .advance(TIMEOUTS.syn + 1)
            .send(AT_C3, &c3(SYN, 5000).bytes(), to_b2(&c3(SYN, 5000)).opening(1, 2))
            .half_open(1)
            .connections(&[("syn", 2)]),
        established("a forgotten established one that begins anew", lab())
            .advance(TIMEOUTS.established + 1)
            .send(AT_C3, &c3(SYN, 5000).bytes(), to_b2(&c3(SYN, 5000)).opening(1, 2))
            .half_open(0)
            .connections(&[("syn", 2)]),
        row("a full half-open table", lab_with(|s| s.connections = 1))
            .without_program()
            .send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1))
            .send(AT_B1, &b1(SYN | ACK, 900).bytes(), to_c3_alive(1, &b1(SYN | ACK, 900)))
            .client(ACK, 101)
            .half_open(0)
            .send(AT_C3, &c3_tcp(4001, SYN, 1, b"").bytes(), to_b2(&c3_tcp(4001, SYN, 1, b"")).opening(1, 2))
            .half_open(1),
    ]
}

fn one_sided() -> Vec<Row> {
    let dsr = || lab_with(|s| s.vip(1).mode = Mode::Dsr);
    let out = |packet: &Packet| forwarded(Action::Redirect(1), 1, 1, packet.clone().to_mac(B1.0).bytes());
    let opened = |name: &str| {
        row(name, dsr()).send(AT_C3, &c3(SYN, 100).bytes(), out(&c3(SYN, 100)).opening(1, 1)).half_open(1)
    };
    let then = |row: Row, flags: u8| row.send(AT_C3, &c3(flags, 101).bytes(), out(&c3(flags, 101)));
    vec![
        then(opened("DSR: the client's ACK establishes"), ACK)
            .half_open(0)
            .connections(&[("established", 1)]),
        then(opened("DSR: another SYN does not"), SYN).half_open(1).connections(&[("syn", 1)]),
        then(opened("DSR: a SYN with ACK does not"), SYN | ACK).half_open(1).connections(&[("syn", 1)]),
        then(opened("DSR: a RST with ACK closes"), RST | ACK).half_open(1).connections(&[("closed", 1)]),
        then(opened("DSR: a FIN with ACK establishes, and closes"), FIN | ACK)
            .half_open(0)
            .connections(&[("closing", 1)]),
        then(then(opened("DSR: the client's FIN alone does not finish"), ACK), FIN | ACK)
            .send(AT_C3, &c3(SYN, 5000).bytes(), out(&c3(SYN, 5000)))
            .connections(&[("closing", 1)]),
    ]
}

/// A client port whose flow to the VIP's port 80 the consistent hash gives to backend 1.
fn port_of_b1() -> u16 {
    use testbed::oracle::hash;
    (4000..5000)
        .find(|port| hash::maglev_slot(hash::flow(C3.1, *port, 80, 6)).is_multiple_of(2))
        .expect("one of a thousand ports")
}

fn unverified() -> Vec<Row> {
    let port = port_of_b1();
    let data = |seq: u32| c3_tcp(port, ACK, seq, b"x");
    let begun = |name: &str| {
        row(name, lab())
            .send(AT_C3, &data(100).bytes(), to_b1(&data(100)).opening(1, 1))
            .connections(&[("unverified", 1)])
            .half_open(1)
    };
    let answer = b_tcp(B1, port, ACK, 900, b"");
    vec![
        begun("an ACK opens an unverified connection"),
        begun("unverified: kept until its timeout").advance(TIMEOUTS.unverified).send(
            AT_C3,
            &data(101).bytes(),
            to_b1(&data(101)),
        ),
        begun("unverified: not beyond it").advance(TIMEOUTS.unverified + 1).send(
            AT_B1,
            &answer.bytes(),
            passed("no_connection"),
        ),
        begun("unverified: the backend's answer and another ACK establish")
            .send(AT_B1, &answer.bytes(), to_c3_alive(1, &answer))
            .connections(&[("unverified", 1)])
            .send(AT_C3, &data(101).bytes(), to_b1(&data(101)))
            .half_open(0)
            .connections(&[("established", 1)]),
        begun("unverified: the backend's reset closes")
            .send(AT_B1, &b_tcp(B1, port, RST, 0, b"").bytes(), to_c3(1, &b_tcp(B1, port, RST, 0, b"")))
            .connections(&[("closed", 1)]),
        row("a SYN with ACK opens an unverified one", lab())
            .send(AT_C3, &c3_tcp(port, SYN | ACK, 1, b"").bytes(), {
                to_b1(&c3_tcp(port, SYN | ACK, 1, b"")).opening(1, 1)
            })
            .connections(&[("unverified", 1)]),
    ]
}

fn udp() -> Vec<Row> {
    let query = Packet::udp(at(C3, 4000), vip(53), b"?");
    let answer = Packet::udp(at(B1, 53), at(C3, 4000), b"!");
    let asked =
        |name: &str| row(name, lab()).send(AT_C3, &query.bytes(), to_b1(&query).opening(1, 1)).half_open(1);
    vec![
        asked("UDP: an answer alone does not establish")
            .send(AT_B1, &answer.bytes(), to_c3_alive(1, &answer))
            .half_open(1),
        asked("UDP: the second datagram establishes")
            .send(AT_C3, &query.bytes(), to_b1(&query))
            .half_open(0)
            .connections(&[("udp", 1)]),
        asked("UDP: a late second datagram opens anew")
            .advance(TIMEOUTS.udp + 1)
            .send(AT_C3, &query.bytes(), to_b2(&query).opening(1, 2))
            .half_open(1)
            .loads(&[(1, 1), (2, 1)]),
    ]
}

fn down() -> Vec<Row> {
    let reset = || lab_with(|s| s.vip(1).on_down = OnDown::Reset);
    let down = |s: &mut Scenario| s.backend(1).state = State::Down;
    let cause = c3(ACK, 101);
    // The segment's acknowledgement number is where the reset stands.
    let rst = |cause: &Packet| {
        let mut rst = Packet::tcp((VIP_MAC, cause.dst, 80), at(C3, 4000), RST, 0x0102_0304, b"");
        set_window(&mut rst, 0);
        told("reset_answered", rst.bytes())
    };
    let without_ack = |next: u32| -> Expect {
        let mut rst = Packet::tcp((VIP_MAC, cause.dst, 80), at(C3, 4000), RST | ACK, 0, b"");
        set_window(&mut rst, 0);
        if let testbed::frame::L4::Tcp { ack, .. } = &mut rst.l4 {
            *ack = next;
        }
        told("reset_answered", rst.bytes())
    };
    let psh = c3_tcp(4000, 8, 101, b"data");
    vec![
        established("reset: a packet of a connection whose backend is down", reset())
            .change(down)
            .send(AT_C3, &cause.bytes(), rst(&cause))
            .connections(&[("closed", 1)])
            .loads(&[]),
        established("reset: again, while the closed one is remembered", reset())
            .change(down)
            .send(AT_C3, &cause.bytes(), rst(&cause))
            .send(AT_C3, &cause.bytes(), rst(&cause))
            .loads(&[]),
        established("reset: a segment without ACK is acknowledged", reset()).change(down).send(
            AT_C3,
            &psh.bytes(),
            without_ack(105),
        ),
        established("reset: the client's RST gets none, and goes elsewhere", reset())
            .change(|s| {
                s.backend(1).state = State::Down;
                s.vip(1).ring = vec![2];
            })
            .send(AT_C3, &c3(RST, 101).bytes(), to_b2(&c3(RST, 101))),
        established("reset: a new SYN goes elsewhere", reset()).change(down).send(
            AT_C3,
            &c3(SYN, 5000).bytes(),
            to_b2(&c3(SYN, 5000)).opening(1, 2),
        ),
        established("reset: draining is not down", reset())
            .change(|s| s.backend(1).state = State::Draining)
            .client(ACK, 101),
        established(
            "reset: the last known stay",
            lab_with(|s| {
                s.vip(1).on_down = OnDown::Reset;
                s.vip(1).last_known = true;
            }),
        )
        .change(down)
        .client(ACK, 101),
        established("reset: the connection of a reused record begins anew", reset())
            .change(|s| {
                s.backend(1).generation = 2;
                s.vip(1).ring = vec![2];
            })
            .send(AT_C3, &cause.bytes(), to_b2(&cause).opening(1, 2)),
        opened("reset: behind VLAN tags", reset()).change(down).send(
            AT_C3,
            &cause.clone().tag(0x8100, 5).tag(0x88a8, 7).padding(3).bytes(),
            {
                let mut rst = Packet::tcp((VIP_MAC, cause.dst, 80), at(C3, 4000), RST, 0x0102_0304, b"");
                set_window(&mut rst, 0);
                told("reset_answered", rst.tag(0x8100, 5).tag(0x88a8, 7).bytes())
            },
        ),
        opened("reset: IP options, identification and class come back", reset()).change(down).send(
            AT_C3,
            &cause.clone().ip_options(&[1; 8]).class(0x20).id(77).ttl(3).bytes(),
            {
                let mut rst = Packet::tcp((VIP_MAC, cause.dst, 80), at(C3, 4000), RST, 0x0102_0304, b"");
                set_window(&mut rst, 0);
                told("reset_answered", rst.ip_options(&[1; 8]).class(0x20).id(77).bytes())
            },
        ),
    ]
}

/// A segment's window.
pub fn set_window(packet: &mut Packet, to: u16) {
    if let testbed::frame::L4::Tcp { window, .. } = &mut packet.l4 {
        *window = to;
    }
}
