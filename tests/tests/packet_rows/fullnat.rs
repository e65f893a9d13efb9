//! Full NAT: both addresses are translated, with ports that are lent.

use testbed::frame::{ACK, Arp, FIN, Ip, Mac, Packet, RST, SYN, v4};
use testbed::oracle::hash;
use testbed::scenario::{Mode, Protocol, Scenario};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_B2, AT_C3, AT_C4, B1, B1_6, B2, C3, C3_6, C4, TIMEOUTS, VIP, VIP_MAC, VIP6, VIP6_MAC, at,
    lab_with, lab6_with, vip, vip6,
};
use crate::row::{Expect, Row, START, answered, dropped, forwarded, passed, replied, row};

pub fn rows() -> Vec<Row> {
    [exchange(), ports(), addresses(), variants()].into_iter().flatten().collect()
}

/// How long a closed connection keeps a port that others want, with [`slow`].
const SETTLED: u32 = 10;

/// Closed connections are kept for long.
fn slow(mut scenario: Scenario) -> Scenario {
    scenario.timeouts.closed = SETTLED * 128;
    scenario
}

const FIRST: u16 = 20000;
const COUNT: u16 = 100;
/// An address of its own to lend ports of.
const LENT: Ip = v4(10, 0, 2, 1);

fn with(change: impl FnOnce(&mut Scenario)) -> Scenario {
    lab_with(|s| {
        s.vip(1).mode = Mode::FullNat;
        s.vip(1).lent = (FIRST, COUNT);
        s.vip(1).ring = vec![1];
        change(s);
    })
}

/// The port that is tried first for a client's flow to the VIP's port 80.
fn first_port(client: Ip, port: u16, count: u16) -> u16 {
    FIRST + (hash::flow(client, port, 80, 6) % u32::from(count)) as u16
}

fn c3(flags: u8, seq: u32) -> Packet {
    Packet::tcp(at(C3, 4000), vip(80), flags, seq, b"")
}

fn lent() -> u16 {
    first_port(C3.1, 4000, COUNT)
}

/// The packet as backend 1 sees it, from this address and port.
fn seen(packet: &Packet, from: (Mac, Ip, u16)) -> Vec<u8> {
    packet.clone().to(at(B1, packet.dport)).from(from).bytes()
}

fn to_b1(packet: &Packet) -> Expect {
    forwarded(Action::Redirect(1), 1, 1, seen(packet, (VIP_MAC, VIP, lent())))
}

/// Backend 1's segment to the lent port.
fn b1(flags: u8, seq: u32) -> Packet {
    Packet::tcp(at(B1, 80), vip(lent()), flags, seq, b"")
}

fn to_c3(packet: &Packet) -> Expect {
    replied(Action::Redirect(3), 1, 1, packet.clone().to(at(C3, 4000)).from(vip(80)).bytes())
}

fn opened(name: &str, scenario: Scenario) -> Row {
    row(name, scenario).send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1))
}

fn exchange() -> Vec<Row> {
    let (syn_ack, data) = (b1(SYN | ACK, 900), b1(ACK, 901));
    vec![
        opened("full NAT: a whole exchange", with(|_| ()))
            .half_open(1)
            .send(AT_B1, &syn_ack.bytes(), to_c3(&syn_ack).alive(1, 1, START))
            .send(AT_C3, &c3(ACK, 101).bytes(), to_b1(&c3(ACK, 101)))
            .half_open(0)
            .connections(&[("established", 1)])
            .send(AT_B1, &data.bytes(), to_c3(&data))
            .send(AT_C3, &c3(FIN | ACK, 101).bytes(), to_b1(&c3(FIN | ACK, 101)))
            .send(AT_B1, &b1(FIN | ACK, 901).bytes(), to_c3(&b1(FIN | ACK, 901)))
            .connections(&[("closing", 1)])
            .loads(&[]),
        opened("full NAT: the client's MAC of the opening is used", with(|_| ()))
            .send(AT_C3, &c3(ACK, 101).from_mac(C4.0).bytes(), to_b1(&c3(ACK, 101)))
            .send(AT_B1, &syn_ack.bytes(), to_c3(&syn_ack).alive(1, 1, START)),
        opened("full NAT: the backend's reset", with(|_| ()))
            .send(AT_B1, &b1(RST | ACK, 0).bytes(), to_c3(&b1(RST | ACK, 0)))
            .connections(&[("closed", 1)]),
        opened("full NAT: another port of the backend is not the connection's", with(|_| ())).send(
            AT_B1,
            &Packet { sport: 81, ..syn_ack.clone() }.bytes(),
            dropped("vip_no_service", 1),
        ),
        opened("full NAT: a port that was not lent", with(|_| ())).send(
            AT_B1,
            &Packet { dport: lent() + 1, ..syn_ack.clone() }.bytes(),
            dropped("vip_no_service", 1),
        ),
        opened("full NAT: another backend to the lent port", with(|_| ())).send(
            AT_B2,
            &Packet::tcp(at(B2, 80), vip(lent()), SYN | ACK, 1, b"").bytes(),
            dropped("vip_no_service", 1),
        ),
        opened("full NAT: a reply that is too late", with(|_| ())).advance(TIMEOUTS.syn + 1).send(
            AT_B1,
            &syn_ack.bytes(),
            dropped("vip_no_service", 1),
        ),
        opened("full NAT: a reply to another MAC has been balanced already", with(|_| ())).send(
            AT_B1,
            &syn_ack.clone().to_mac(C3.0).bytes(),
            passed("already_balanced"),
        ),
        opened("full NAT: a reused record's packet is no reply", with(|_| ()))
            .change(|s| s.backend(1).generation = 2)
            .send(AT_B1, &syn_ack.bytes(), dropped("vip_no_service", 1)),
        row("full NAT: a reset of no connection has no port to come from", with(|_| ()))
            .send(AT_C3, &c3(RST, 1).bytes(), dropped("snat_exhausted", 1))
            .connections(&[]),
    ]
}

fn ports() -> Vec<Row> {
    // Two client ports whose flows are tried at one and the same lent port first.
    let same = |count: u16| -> (u16, u16) {
        let of = |port| first_port(C3.1, port, count);
        let other = (4001..9000).find(|port| of(*port) == of(4000)).expect("one of five thousand ports");
        (4000, other)
    };
    let (_, other) = same(COUNT);
    let next = FIRST + (hash::flow(C3.1, other, 80, 6).wrapping_add(1) % u32::from(COUNT)) as u16;
    let second = Packet::tcp(at(C3, other), vip(80), SYN, 1, b"");
    let second_out =
        |port: u16| forwarded(Action::Redirect(1), 1, 1, seen(&second, (VIP_MAC, VIP, port))).opening(1, 1);
    let only = with(|s| s.vip(1).lent = (FIRST, 1));
    let from_only =
        |packet: &Packet| forwarded(Action::Redirect(1), 1, 1, seen(packet, (VIP_MAC, VIP, FIRST)));
    let c4 = Packet::tcp(at(C4, 4000), vip(80), SYN, 1, b"");
    vec![
        opened("full NAT: a port that is taken is skipped", with(|_| ())).send(
            AT_C3,
            &second.bytes(),
            second_out(next),
        ),
        opened("full NAT: a port whose connection is long gone is taken", with(|_| ()))
            .advance(TIMEOUTS.syn + 1)
            .send(AT_C3, &second.bytes(), second_out(lent())),
        row("full NAT: no port left", only.clone())
            .send(AT_C3, &c3(SYN, 1).bytes(), from_only(&c3(SYN, 1)).opening(1, 1))
            .send(AT_C4, &c4.bytes(), dropped("snat_exhausted", 1))
            .connections(&[("syn", 1)]),
        row("full NAT: ports are lent for each backend", {
            let mut scenario = only.clone();
            scenario.vip(1).ring = vec![1, 2];
            scenario
        })
        .send(AT_C3, &c3(SYN, 1).bytes(), from_only(&c3(SYN, 1)).opening(1, 1))
        .send(
            AT_C4,
            &c4.bytes(),
            forwarded(
                Action::Redirect(2),
                1,
                2,
                c4.clone().to(at(B2, 80)).from((VIP_MAC, VIP, FIRST)).bytes(),
            )
            .opening(1, 2),
        ),
        row("full NAT: a flow that begins anew keeps its only port", only.clone())
            .send(AT_C3, &c3(SYN, 1).bytes(), from_only(&c3(SYN, 1)).opening(1, 1))
            .send(AT_C3, &c3(RST, 2).bytes(), from_only(&c3(RST, 2)))
            .send(AT_C3, &c3(SYN, 5000).bytes(), from_only(&c3(SYN, 5000)).opening(1, 1)),
        row("full NAT: the closed connection of another keeps the only port for a while", slow(only.clone()))
            .send(AT_C3, &c3(SYN, 1).bytes(), from_only(&c3(SYN, 1)).opening(1, 1))
            .send(AT_C3, &c3(RST, 2).bytes(), from_only(&c3(RST, 2)))
            .advance(SETTLED)
            .send(AT_C4, &c4.bytes(), dropped("snat_exhausted", 1))
            .advance(1)
            .send(AT_C4, &c4.bytes(), from_only(&c4).opening(1, 1))
            .connections(&[("gone", 1), ("syn", 1)]),
        row("full NAT: whose port was taken back sends by it no more", slow(only.clone()))
            .send(AT_C3, &c3(SYN, 1).bytes(), from_only(&c3(SYN, 1)).opening(1, 1))
            .send(AT_C3, &c3(RST, 2).bytes(), from_only(&c3(RST, 2)))
            .advance(SETTLED + 1)
            .send(AT_C4, &c4.bytes(), from_only(&c4).opening(1, 1))
            .send(AT_C3, &c3(ACK, 2).bytes(), dropped("snat_exhausted", 1)),
        row("full NAT: an open connection keeps the only port", slow(only))
            .send(AT_C3, &c3(SYN, 1).bytes(), from_only(&c3(SYN, 1)).opening(1, 1))
            .advance(SETTLED + 1)
            .send(AT_C4, &c4.bytes(), dropped("snat_exhausted", 1)),
        opened("full NAT: a free port goes before that of a finished connection", slow(with(|_| ())))
            .send(AT_C3, &c3(RST, 101).bytes(), to_b1(&c3(RST, 101)))
            .advance(SETTLED + 1)
            .send(AT_C3, &second.bytes(), second_out(next)),
    ]
}

fn addresses() -> Vec<Row> {
    let own = || with(|s| s.vip(1).source = Some(LENT));
    let lent_mac = (VIP_MAC, LENT, lent());
    let out = forwarded(Action::Redirect(1), 1, 1, seen(&c3(SYN, 100), lent_mac)).opening(1, 1);
    let reply = Packet::tcp(at(B1, 80), lent_mac, SYN | ACK, 900, b"");
    vec![
        row("full NAT: from an address of its own", own()).send(AT_C3, &c3(SYN, 100).bytes(), out).send(
            AT_B1,
            &reply.bytes(),
            to_c3(&reply).alive(1, 1, START),
        ),
        row("full NAT: the lent address is asked for", own()).send(
            AT_B1,
            &Arp::request(B1, LENT).bytes(),
            answered(Arp::request(B1, LENT).answered_by(VIP_MAC).bytes()),
        ),
        row("full NAT: the lent address serves nothing", own()).send(
            AT_C3,
            &Packet::tcp(at(C3, 4000), (VIP_MAC, LENT, 80), SYN, 1, b"").bytes(),
            dropped("vip_no_service", 1),
        ),
        row("full NAT: the lent address, to another MAC", own()).send(
            AT_C3,
            &Packet::tcp(at(C3, 4000), (B1.0, LENT, 80), SYN, 1, b"").bytes(),
            passed("already_balanced"),
        ),
    ]
}

fn variants() -> Vec<Row> {
    let query = Packet::udp(at(C3, 4000), vip(53), b"?");
    let port = FIRST + (hash::flow(C3.1, 4000, 53, 17) % u32::from(COUNT)) as u16;
    let answer = Packet::udp(at(B1, 53), vip(port), b"!");
    let hairpin = Packet::tcp(at(B1, 4000), vip(80), SYN, 1, b"");
    let hairpin_port = first_port(B1.1, 4000, COUNT);
    let hairpin_reply = Packet::tcp(at(B1, 80), vip(hairpin_port), SYN | ACK, 1, b"");
    let syn6 = Packet::tcp(at(C3_6, 4000), vip6(80), SYN, 1, b"");
    let port6 = first_port(C3_6.1, 4000, COUNT);
    let reply6 = Packet::tcp(at(B1_6, 80), vip6(port6), SYN | ACK, 1, b"");
    let translated = Packet::tcp(at(B1, 8001), vip(lent()), SYN | ACK, 900, b"");
    vec![
        row("full NAT: UDP both ways", with(|_| ()))
            .send(
                AT_C3,
                &query.bytes(),
                forwarded(Action::Redirect(1), 1, 1, seen(&query, (VIP_MAC, VIP, port))).opening(1, 1),
            )
            .send(
                AT_B1,
                &answer.bytes(),
                replied(Action::Redirect(3), 1, 1, answer.clone().to(at(C3, 4000)).from(vip(53)).bytes())
                    .alive(1, 1, START),
            ),
        row(
            "full NAT: port translation",
            with(|s| {
                s.vip(1).services = vec![(Protocol::Tcp, 80)];
                s.backend(1).port = 8001;
            }),
        )
        .send(
            AT_C3,
            &c3(SYN, 100).bytes(),
            forwarded(
                Action::Redirect(1),
                1,
                1,
                c3(SYN, 100).to(at(B1, 8001)).from((VIP_MAC, VIP, lent())).bytes(),
            )
            .opening(1, 1),
        )
        .send(AT_B1, &translated.bytes(), {
            replied(Action::Redirect(3), 1, 1, translated.clone().to(at(C3, 4000)).from(vip(80)).bytes())
                .alive(1, 1, START)
        }),
        row("full NAT: a backend that is its own client is served", with(|_| ()))
            .send(
                AT_B1,
                &hairpin.bytes(),
                forwarded(Action::Redirect(1), 1, 1, seen(&hairpin, (VIP_MAC, VIP, hairpin_port)))
                    .opening(1, 1),
            )
            .send(
                AT_B1,
                &hairpin_reply.bytes(),
                replied(
                    Action::Redirect(1),
                    1,
                    1,
                    hairpin_reply.clone().to(at(B1, 4000)).from(vip(80)).bytes(),
                )
                .alive(1, 1, START),
            ),
        row("full NAT: one-armed", with(|s| s.vip(1).transmit = true))
            .send(
                AT_C3,
                &c3(SYN, 100).bytes(),
                forwarded(Action::Transmit, 1, 1, seen(&c3(SYN, 100), (VIP_MAC, VIP, lent()))).opening(1, 1),
            )
            .send(AT_B1, &b1(SYN | ACK, 9).bytes(), {
                replied(Action::Transmit, 1, 1, b1(SYN | ACK, 9).to(at(C3, 4000)).from(vip(80)).bytes())
                    .alive(1, 1, START)
            }),
        row(
            "full NAT: over IPv6",
            lab6_with(|s| {
                s.vip(1).mode = Mode::FullNat;
                s.vip(1).lent = (FIRST, COUNT);
                s.vip(1).ring = vec![1];
            }),
        )
        .send(
            AT_C3,
            &syn6.bytes(),
            forwarded(
                Action::Redirect(1),
                1,
                1,
                syn6.clone().to(at(B1_6, 80)).from((VIP6_MAC, VIP6, port6)).bytes(),
            )
            .opening(1, 1),
        )
        .send(
            AT_B1,
            &reply6.bytes(),
            replied(Action::Redirect(3), 1, 1, reply6.clone().to(at(C3_6, 4000)).from(vip6(80)).bytes())
                .alive(1, 1, START),
        ),
        row("full NAT: a SYN beyond the cap is dropped", with(|s| s.max_new = 1))
            .send(AT_C3, &c3(SYN, 100).bytes(), to_b1(&c3(SYN, 100)).opening(1, 1))
            .send(AT_C4, &Packet::tcp(at(C4, 1), vip(80), SYN, 1, b"").bytes(), dropped("new_flow_cap", 1)),
    ]
}
