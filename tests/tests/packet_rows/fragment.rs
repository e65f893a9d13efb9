//! Fragments, and extension headers of IPv6.

use testbed::frame::{ACK, Extension, MORE_FRAGMENTS, Mac, Packet, SYN, v4};
use testbed::oracle::hash;
use testbed::scenario::{Mode, Scenario, State};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_C3, AT_C4, B1, B1_6, B2, C3, C3_6, C4, Host, TIMEOUTS, VIP, VIP_MAC, VIP6, VIP6_MAC, at, b_tcp,
    c3_tcp, lab, lab_with, lab6, to_b1, to_b2, to_c3_alive, vip, vip6,
};
use crate::row::{
    Expect, Row, START, dropped, forwarded, passed, rare_in, rare_out, replied, row, told, tunnelled,
};

pub fn rows() -> Vec<Row> {
    [to_backend(), to_client(), modes(), refused(), six(), extensions()].into_iter().flatten().collect()
}

/// C3's question, of 8 and 40 bytes of UDP.
fn question() -> Packet {
    Packet::udp(at(C3, 4000), vip(53), &[7; 40]).fragment(0)
}

/// The question as it arrives at backend 1.
fn arrived() -> Packet {
    question().to(at(B1, 53))
}

fn first(name: &str, scenario: Scenario) -> Row {
    row(name, scenario).send(
        AT_C3,
        &question().part(0, 24).bytes(),
        forwarded(Action::Redirect(1), 1, 1, arrived().part(0, 24).bytes()).opening(1, 1),
    )
}

/// A later part on its way to backend 1.
fn later(part: (usize, usize)) -> Expect {
    let bytes = arrived().part(part.0, part.1).bytes();
    let length = bytes.len();
    rare_in(Action::Redirect(1), "fragment_to_backend", 1, 1, bytes, length)
}

fn to_backend() -> Vec<Row> {
    let part = |from, to| question().part(from, to).bytes();
    vec![
        first("the later parts follow the first", lab())
            .send(AT_C3, &part(24, 40), later((24, 40)))
            .send(AT_C3, &part(40, 48), later((40, 48)))
            .connections(&[("udp", 1)])
            .half_open(1),
        first("in whatever order, and more than once", lab())
            .send(AT_C3, &part(40, 48), later((40, 48)))
            .send(AT_C3, &part(24, 40), later((24, 40)))
            .send(AT_C3, &part(40, 48), later((40, 48))),
        first("until the fragment timeout", lab()).advance(TIMEOUTS.fragment).send(
            AT_C3,
            &part(24, 48),
            later((24, 48)),
        ),
        first("not beyond the fragment timeout", lab()).advance(TIMEOUTS.fragment + 1).send(
            AT_C3,
            &part(24, 48),
            dropped("fragment_unknown", 1),
        ),
        first("another identification is another packet", lab()).send(
            AT_C3,
            &question().id(9).part(24, 48).bytes(),
            dropped("fragment_unknown", 1),
        ),
        first("another client's part with the same identification", lab()).send(
            AT_C4,
            &Packet::udp(at(C4, 4000), vip(53), &[7; 40]).fragment(0).part(24, 48).bytes(),
            dropped("fragment_unknown", 1),
        ),
        first("a part of another protocol with the same identification", lab()).send(
            AT_C3,
            &Packet { l4: testbed::frame::L4::Other(6), ..question().part(24, 48) }.bytes(),
            dropped("fragment_unknown", 1),
        ),
        first("a part to another MAC has been balanced already", lab()).send(
            AT_C3,
            &question().part(24, 48).to_mac(B1.0).bytes(),
            passed("already_balanced"),
        ),
        first("a down backend still gets the rest", lab()).change(|s| s.backend(1).state = State::Down).send(
            AT_C3,
            &part(24, 48),
            later((24, 48)),
        ),
        first("a reused record does not", lab()).change(|s| s.backend(1).generation = 2).send(
            AT_C3,
            &part(24, 48),
            dropped("fragment_unknown", 1),
        ),
        first("a part behind VLAN tags and with options", lab()).send(
            AT_C3,
            &question().ip_options(&[1; 8]).tag(0x8100, 5).part(24, 48).bytes(),
            {
                let bytes = arrived().ip_options(&[1; 8]).tag(0x8100, 5).part(24, 48).bytes();
                let length = bytes.len();
                rare_in(Action::Redirect(1), "fragment_to_backend", 1, 1, bytes, length)
            },
        ),
        first("the next packet of the flow takes the same way", lab())
            .send(
                AT_C3,
                &question().id(2).part(0, 24).bytes(),
                forwarded(Action::Redirect(1), 1, 1, arrived().id(2).part(0, 24).bytes()),
            )
            .send(AT_C3, &part(24, 48), later((24, 48))),
        row("a first part of a TCP segment", lab())
            .send(AT_C3, &c3_tcp(1, SYN, 1, &[1; 20]).fragment(0).part(0, 24).bytes(), {
                let out = c3_tcp(1, SYN, 1, &[1; 20]).fragment(0).to(at(B1, 80)).part(0, 24).bytes();
                forwarded(Action::Redirect(1), 1, 1, out).opening(1, 1)
            })
            .connections(&[("syn", 1)]),
        row("a whole packet leaves nothing behind", lab())
            .send(AT_C3, &question().bytes(), to_b1(&question()).opening(1, 1))
            .send(AT_C3, &part(24, 48), dropped("fragment_unknown", 1)),
    ]
}

fn to_client() -> Vec<Row> {
    let answer = |host: Host| Packet::udp(at(B1, 53), at(host, 4000), &[9; 40]).fragment(0);
    let delivered = |host: Host| answer(host).from(vip(53));
    let asked = |name: &str, at_client: u32, host: Host| {
        let query = Packet::udp(at(host, 4000), vip(53), b"?");
        row(name, lab()).send(at_client, &query.bytes(), to_b1(&query).opening(1, 1))
    };
    let later = |action: Action, host: Host| {
        rare_out(action, "fragment_to_client", 1, 1, delivered(host).part(24, 48).bytes())
    };
    let reply = b_tcp(B1, 4000, SYN | ACK, 1, &[1; 30]).fragment(0);
    vec![
        asked("a reply in parts", AT_C3, C3)
            .send(
                AT_B1,
                &answer(C3).part(0, 24).bytes(),
                replied(Action::Redirect(3), 1, 1, delivered(C3).part(0, 24).bytes()).alive(1, 1, START),
            )
            .send(AT_B1, &answer(C3).part(24, 48).bytes(), later(Action::Redirect(3), C3)),
        asked("a reply in parts to a client behind a shaped port", AT_C4, C4)
            .send(
                AT_B1,
                &answer(C4).part(0, 24).bytes(),
                replied(Action::Pass, 1, 1, delivered(C4).part(0, 24).bytes()).alive(1, 1, START),
            )
            .send(AT_B1, &answer(C4).part(24, 48).bytes(), later(Action::Pass, C4)),
        asked("a later part of a backend whose first was not seen passes", AT_C3, C3).send(
            AT_B1,
            &answer(C3).part(24, 48).bytes(),
            passed("no_connection"),
        ),
        row("a first part of direct traffic passes", lab())
            .send(AT_B1, &answer(C3).part(0, 24).bytes(), passed("no_connection"))
            .send(AT_B1, &answer(C3).part(24, 48).bytes(), passed("no_connection")),
        row("a TCP reply in parts", lab())
            .send(AT_C3, &c3_tcp(4000, SYN, 1, b"").bytes(), to_b1(&c3_tcp(4000, SYN, 1, b"")).opening(1, 1))
            .send(AT_B1, &reply.part(0, 32).bytes(), {
                let out = reply.clone().from(vip(80)).part(0, 32).bytes();
                replied(Action::Redirect(3), 1, 1, out).alive(1, 1, START)
            }),
        row("the same reply whole", lab())
            .send(AT_C3, &c3_tcp(4000, SYN, 1, b"").bytes(), to_b1(&c3_tcp(4000, SYN, 1, b"")).opening(1, 1))
            .send(AT_B1, &reply.bytes(), to_c3_alive(1, &reply)),
    ]
}

fn modes() -> Vec<Row> {
    let part = |from, to| question().part(from, to);
    let dsr = lab_with(|s| s.vip(1).mode = Mode::Dsr);
    let source = v4(10, 0, 9, 9);
    let ipip = |mtu: u16| {
        lab_with(|s| {
            s.vip(1).mode = Mode::Ipip;
            s.vip(1).source = Some(source);
            s.vip(1).tunnel_mtu = mtu;
        })
    };
    let inside = |packet: &Packet| packet.inside((VIP_MAC, source), B1);
    let needed = Packet::icmp((VIP_MAC, VIP), C3, (3, 4), [0, 0, 0, 50], &part(24, 56).quoted()).id(0);
    let full = lab_with(|s| {
        s.vip(1).mode = Mode::FullNat;
        s.vip(1).lent = (20000, 100);
        s.vip(1).ring = vec![1];
    });
    let lent = 20000 + (hash::flow(C3.1, 4000, 53, 17) % 100) as u16;
    let lent_at: (Mac, _, u16) = (VIP_MAC, VIP, lent);
    let full_out = |from, to| question().to(at(B1, 53)).from(lent_at).part(from, to).bytes();
    let answer = Packet::udp(at(B1, 53), lent_at, &[9; 40]).fragment(0);
    let answered = answer.clone().to(at(C3, 4000)).from(vip(53));
    let one_armed = lab_with(|s| s.vip(1).transmit = true);
    vec![
        row("DSR: parts keep their addresses", dsr)
            .send(
                AT_C3,
                &part(0, 24).bytes(),
                forwarded(Action::Redirect(1), 1, 1, part(0, 24).to_mac(B1.0).bytes()).opening(1, 1),
            )
            .send(AT_C3, &part(24, 48).bytes(), {
                let bytes = part(24, 48).to_mac(B1.0).bytes();
                let length = bytes.len();
                rare_in(Action::Redirect(1), "fragment_to_backend", 1, 1, bytes, length)
            }),
        row("IPIP: each part in a packet of its own", ipip(1500))
            .send(
                AT_C3,
                &part(0, 24).bytes(),
                tunnelled(Action::Redirect(1), 1, 1, &part(0, 24).bytes(), inside(&part(0, 24)))
                    .opening(1, 1),
            )
            .send(AT_C3, &part(24, 48).bytes(), {
                let length = part(24, 48).bytes().len();
                rare_in(Action::Redirect(1), "fragment_to_backend", 1, 1, inside(&part(24, 48)), length)
            }),
        row("IPIP: a later part that does not fit", ipip(70))
            .send(
                AT_C3,
                &part(0, 24).bytes(),
                tunnelled(Action::Redirect(1), 1, 1, &part(0, 24).bytes(), inside(&part(0, 24)))
                    .opening(1, 1),
            )
            .send(
                AT_C3,
                &Packet::udp(at(C3, 4000), vip(53), &[7; 60]).fragment(0).part(24, 64).bytes(),
                told("too_big_answered", {
                    let cause = Packet::udp(at(C3, 4000), vip(53), &[7; 60]).fragment(0).part(24, 64);
                    let quoted = cause.quoted();
                    Packet { payload: quoted, ..needed.clone() }.bytes()
                }),
            ),
        row("full NAT: parts both ways", full)
            .send(
                AT_C3,
                &part(0, 24).bytes(),
                forwarded(Action::Redirect(1), 1, 1, full_out(0, 24)).opening(1, 1),
            )
            .send(AT_C3, &part(24, 48).bytes(), {
                let length = full_out(24, 48).len();
                rare_in(Action::Redirect(1), "fragment_to_backend", 1, 1, full_out(24, 48), length)
            })
            .send(
                AT_B1,
                &answer.part(0, 24).bytes(),
                replied(Action::Redirect(3), 1, 1, answered.part(0, 24).bytes()).alive(1, 1, START),
            )
            .send(
                AT_B1,
                &answer.part(24, 48).bytes(),
                rare_out(Action::Redirect(3), "fragment_to_client", 1, 1, answered.part(24, 48).bytes()),
            ),
        row("one-armed: parts leave where they came in", one_armed)
            .send(
                AT_C3,
                &part(0, 24).bytes(),
                forwarded(Action::Transmit, 1, 1, arrived().from_mac(VIP_MAC).part(0, 24).bytes())
                    .opening(1, 1),
            )
            .send(AT_C3, &part(24, 48).bytes(), {
                let bytes = arrived().from_mac(VIP_MAC).part(24, 48).bytes();
                let length = bytes.len();
                rare_in(Action::Transmit, "fragment_to_backend", 1, 1, bytes, length)
            }),
    ]
}

fn refused() -> Vec<Row> {
    let query = Packet::udp(at(C3, 4000), vip(53), b"a question in two parts.");
    let refused = |name, packet: Packet, reason| {
        row(name, lab()).send(AT_C3, &packet.bytes(), dropped(reason, 1)).connections(&[])
    };
    vec![
        refused("a middle part of nothing", query.clone().fragment(MORE_FRAGMENTS | 185), "fragment_unknown"),
        refused("a last part of nothing", query.clone().fragment(185), "fragment_unknown"),
        refused("the smallest offset", query.clone().fragment(1), "fragment_unknown"),
        refused("the largest offset", query.clone().fragment(0x1fff), "fragment_unknown"),
        refused(
            "with options, behind a tag",
            query.clone().fragment(1).ip_options(&[1; 4]).tag(0x8100, 5),
            "fragment_unknown",
        ),
        refused(
            "a first part of a protocol that nobody serves",
            Packet::other(132, C3, (VIP_MAC, VIP), &[0; 16]).fragment(MORE_FRAGMENTS),
            "vip_no_service",
        ),
        refused(
            "a first part of an echo request",
            Packet::icmp(C3, (VIP_MAC, VIP), (8, 0), [0; 4], &[0; 8]).fragment(MORE_FRAGMENTS),
            "vip_no_service",
        ),
        refused(
            "a first part to a port that nobody serves",
            Packet { dport: 54, ..question() }.part(0, 24),
            "vip_no_service",
        ),
        refused(
            "a first part that cuts the TCP header",
            c3_tcp(1, SYN, 1, b"").fragment(0).part(0, 16),
            "vip_fragment",
        ),
        refused(
            "a first part that cuts the UDP header",
            Packet { payload: vec![0x0f, 0xa0, 0, 53], ..question().part(0, 8) }.fragment(MORE_FRAGMENTS),
            "vip_fragment",
        ),
        refused(
            "a part with a total length beyond the frame",
            query.fragment(1).total_length(99),
            "vip_malformed",
        ),
        row("a refused first part leaves nothing behind", lab_with(|s| s.vip(1).ring.clear()))
            .send(AT_C3, &question().part(0, 24).bytes(), dropped("no_backend", 1))
            .send(AT_C3, &question().part(24, 48).bytes(), dropped("fragment_unknown", 1)),
        row("a part between clients", lab()).send(
            AT_C3,
            &Packet::udp(at(C3, 1), at(C4, 2), &[0; 40]).fragment(0).part(24, 48).bytes(),
            passed("not_ours"),
        ),
    ]
}

/// C3's question over IPv6.
fn question6() -> Packet {
    Packet::udp(at(C3_6, 4000), vip6(53), &[7; 40])
}

fn out6(packet: &Packet) -> Expect {
    forwarded(Action::Redirect(1), 1, 1, packet.clone().to(at(B1_6, packet.dport)).bytes())
}

fn six() -> Vec<Row> {
    let out = |packet: &Packet, from, to| packet.clone().to(at(B1_6, 53)).part(from, to).bytes();
    let first = |name: &str, packet: &Packet| {
        row(name, lab6()).send(
            AT_C3,
            &packet.part(0, 24).bytes(),
            forwarded(Action::Redirect(1), 1, 1, out(packet, 0, 24)).opening(1, 1),
        )
    };
    let later = |packet: &Packet, from, to| {
        let bytes = out(packet, from, to);
        let length = bytes.len();
        rare_in(Action::Redirect(1), "fragment_to_backend", 1, 1, bytes, length)
    };
    let plain = question6();
    let optioned = question6().extension(Extension::options(60, 1));
    let atomic = question6().extension(Extension::fragment(0, false, 5));
    let answer = Packet::udp(at(B1_6, 53), at(C3_6, 4000), &[9; 40]);
    let answered = answer.clone().from(vip6(53));
    let query = Packet::udp(at(C3_6, 4000), vip6(53), b"?");
    vec![
        first("IPv6: the later parts follow the first", &plain)
            .send(AT_C3, &plain.part(24, 40).bytes(), later(&plain, 24, 40))
            .send(AT_C3, &plain.part(40, 48).bytes(), later(&plain, 40, 48)),
        first("IPv6: another identification is another packet", &plain).send(
            AT_C3,
            &plain.clone().id(1 << 20).part(24, 48).bytes(),
            dropped("fragment_unknown", 1),
        ),
        first("IPv6: parts behind options", &optioned).send(
            AT_C3,
            &optioned.part(24, 48).bytes(),
            later(&optioned, 24, 48),
        ),
        row("IPv6: a reply in parts", lab6())
            .send(AT_C3, &query.bytes(), out6(&query).opening(1, 1))
            .send(
                AT_B1,
                &answer.part(0, 24).bytes(),
                replied(Action::Redirect(3), 1, 1, answered.part(0, 24).bytes()).alive(1, 1, START),
            )
            .send(
                AT_B1,
                &answer.part(24, 48).bytes(),
                rare_out(Action::Redirect(3), "fragment_to_client", 1, 1, answered.part(24, 48).bytes()),
            ),
        row("IPv6: a whole packet behind a fragment header", lab6())
            .send(AT_C3, &atomic.bytes(), out6(&atomic).opening(1, 1))
            .send(AT_C3, &plain.id(5).part(24, 48).bytes(), dropped("fragment_unknown", 1)),
        row("IPv6: a first part that cuts the UDP header", lab6()).send(
            AT_C3,
            &Packet::other(17, C3_6, (VIP6_MAC, VIP6), &[0x0f, 0xa0, 0, 53])
                .extension(Extension::fragment(0, true, 1))
                .bytes(),
            dropped("vip_fragment", 1),
        ),
    ]
}

fn extensions() -> Vec<Row> {
    let query = question6();
    let through = |name: &str, extensions: &[Extension]| {
        let mut packet = query.clone();
        packet.extensions = extensions.to_vec();
        row(format!("extension headers: {name}"), lab6()).send(
            AT_C3,
            &packet.bytes(),
            out6(&packet).opening(1, 1),
        )
    };
    let refused = |name: &str, extensions: &[Extension], reason| {
        let mut packet = query.clone();
        packet.extensions = extensions.to_vec();
        row(format!("extension headers: {name}"), lab6())
            .send(AT_C3, &packet.bytes(), dropped(reason, 1))
            .connections(&[])
    };
    let (hop, dest) = (Extension::options(0, 1), Extension::options(60, 1));
    let other = |kind: u8| Extension { kind, bytes: vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] };
    let answer = Packet::udp(at(B1_6, 53), at(C3_6, 4000), b"!").extension(dest.clone());
    let mut cut = query.clone().extension(dest.clone());
    cut.total_length = Some(7);
    let mut beyond = query.clone();
    beyond.extensions = vec![Extension::options(60, 8)];
    beyond.total_length = Some(40);
    vec![
        through("hop-by-hop options", std::slice::from_ref(&hop)),
        through("destination options", std::slice::from_ref(&dest)),
        through("a routing header without segments left", &[Extension::routing(0)]),
        through("a fragment header of a whole packet", &[Extension::fragment(0, false, 1)]),
        through("four in a row", &[hop.clone(), dest.clone(), Extension::routing(0), dest.clone()]),
        through("the transport begins at the last place that is looked at", &[Extension::options(60, 24)]),
        refused("the transport begins behind it", &[Extension::options(60, 25)], "vip_extension"),
        refused(
            "five in a row",
            &[hop.clone(), dest.clone(), dest.clone(), dest.clone(), dest.clone()],
            "vip_extension",
        ),
        refused("a routing header with a segment left", &[Extension::routing(1)], "vip_extension"),
        refused("an authentication header is another protocol", &[other(51)], "vip_no_service"),
        refused("encryption is another protocol", &[other(50)], "vip_no_service"),
        refused("a mobility header is another protocol", &[dest.clone(), other(135)], "vip_no_service"),
        row("extension headers: one that the packet cuts", lab6()).send(
            AT_C3,
            &cut.bytes(),
            dropped("vip_extension", 1),
        ),
        row("extension headers: one that reaches beyond the packet", lab6()).send(
            AT_C3,
            &beyond.bytes(),
            dropped("vip_extension", 1),
        ),
        row("extension headers: TCP behind them", lab6())
            .send(AT_C3, &Packet::tcp(at(C3_6, 1), vip6(80), SYN, 1, b"").extension(hop.clone()).bytes(), {
                out6(&Packet::tcp(at(C3_6, 1), vip6(80), SYN, 1, b"").extension(hop.clone())).opening(1, 1)
            })
            .connections(&[("syn", 1)]),
        row("extension headers: a reply behind them", lab6())
            .send(AT_C3, &query.bytes(), out6(&query).opening(1, 1))
            .send(
                AT_B1,
                &answer.bytes(),
                replied(Action::Redirect(3), 1, 1, answer.clone().from(vip6(53)).bytes()).alive(1, 1, START),
            ),
        row("extension headers: an echo request behind them is not answered", {
            let mut scenario = lab6();
            scenario.vip(1).echo = true;
            scenario
        })
        .send(
            AT_C3,
            &Packet::icmp(C3_6, (VIP6_MAC, VIP6), (128, 0), [0; 4], b"").extension(dest).bytes(),
            dropped("vip_no_service", 1),
        ),
        row("two backends, and parts of two packets", lab())
            .send(AT_C3, &question().part(0, 24).bytes(), {
                forwarded(Action::Redirect(1), 1, 1, arrived().part(0, 24).bytes()).opening(1, 1)
            })
            .send(AT_C3, &Packet { sport: 4001, ..question() }.id(2).part(0, 24).bytes(), {
                let out = Packet { sport: 4001, ..question() }.id(2).to(at(B2, 53)).part(0, 24).bytes();
                forwarded(Action::Redirect(2), 1, 2, out).opening(1, 2)
            })
            .send(AT_C3, &question().part(24, 48).bytes(), later((24, 48)))
            .send(AT_C3, &Packet::udp(at(C3, 9), vip(53), b"?").bytes(), {
                to_b1(&Packet::udp(at(C3, 9), vip(53), b"?")).opening(1, 1)
            })
            .send(AT_C3, &Packet::udp(at(C3, 10), vip(53), b"?").bytes(), {
                to_b2(&Packet::udp(at(C3, 10), vip(53), b"?")).opening(1, 2)
            }),
    ]
}
