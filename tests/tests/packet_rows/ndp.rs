//! Neighbour discovery: solicitations for a VIP are answered.

use std::net::Ipv6Addr;

use testbed::frame::{BROADCAST, Ip, Ndp, Packet, v6};
use testbed::scenario::{Mode, Protocol, Scenario};

use crate::lab::{AT_B1, AT_C3, B1_6, C3_6, C4_6, VIP6, VIP6_MAC, a_vip, lab6, lab6_with};
use crate::row::{Row, dropped, passed, row, told};

pub fn rows() -> Vec<Row> {
    [answered(), not_answered(), claims()].into_iter().flatten().collect()
}

fn answer(name: &str, scenario: Scenario, ndp: &Ndp) -> Row {
    row(name, scenario).send(AT_C3, &ndp.bytes(), told("ndp_answered", ndp.answered_by(VIP6_MAC).bytes()))
}

fn answered() -> Vec<Row> {
    let ask = Ndp::solicit(C3_6, VIP6);
    let nonce = [&ask.options[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat();
    let padded = Ndp { padding: 5, ..ask.clone() };
    let mut behind = ask.answered_by(VIP6_MAC).bytes();
    behind.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    vec![
        row("a solicitation, by literal bytes", lab6()).send(
            AT_C3,
            &[
                &[0x33, 0x33, 0xff, 1, 0, 1, 2, 0, 0, 0, 0, 3, 0x86, 0xdd][..],
                &[0x60, 0, 0, 0, 0, 32, 58, 255],
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
                &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 1, 0, 1],
                &[135, 0, 0xbe, 0xef, 0, 0, 0, 0],
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1],
                &[1, 1, 2, 0, 0, 0, 0, 3],
            ]
            .concat(),
            told(
                "ndp_answered",
                [
                    &[2, 0, 0, 0, 0, 3, 2, 0x6c, 6, 0, 0, 1, 0x86, 0xdd][..],
                    &[0x60, 0, 0, 0, 0, 32, 58, 255],
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1],
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
                    // 2dbb + 2dbc + 005a + e800 + 2dbb + 0a6e: 7bfb.
                    &[136, 0, 0x84, 0x04, 0x60, 0, 0, 0],
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1],
                    &[2, 1, 2, 0x6c, 6, 0, 0, 1],
                ]
                .concat(),
            ),
        ),
        answer("a solicitation to the group", lab6(), &ask),
        answer(
            "a unicast solicitation to the virtual MAC",
            lab6(),
            &Ndp { dst_mac: VIP6_MAC, dst: VIP6, ..ask.clone() },
        ),
        answer("a broadcast solicitation", lab6(), &Ndp { dst_mac: BROADCAST, ..ask.clone() }),
        answer("without an option", lab6(), &Ndp { options: Vec::new(), ..ask.clone() }),
        answer("duplicate address detection: all nodes are told", lab6(), &Ndp::probe(C3_6.0, VIP6)),
        answer("a wrong checksum in the solicitation", lab6(), &Ndp { checksum: Some(1), ..ask.clone() }),
        answer("a solicitation behind a VLAN tag", lab6(), &ask.clone().tag(0x8100, 0x2005)),
        answer(
            "a probe behind two VLAN tags",
            lab6(),
            &Ndp::probe(C3_6.0, VIP6).tag(0x8100, 5).tag(0x88a8, 7),
        ),
        answer(
            "an unfinished option is none",
            lab6(),
            &Ndp { options: vec![1, 1, 2, 0, 0, 0, 0], ..Ndp::probe(C3_6.0, VIP6) },
        ),
        row("what is longer than the answer stays behind it", lab6()).send(
            AT_C3,
            &Ndp { options: nonce, ..ask.clone() }.bytes(),
            told("ndp_answered", behind),
        ),
        row("padding stays", lab6()).send(
            AT_C3,
            &padded.bytes(),
            told("ndp_answered", Ndp { padding: 5, ..ask.answered_by(VIP6_MAC) }.bytes()),
        ),
        row("from a backend", lab6()).send(
            AT_B1,
            &Ndp::solicit(B1_6, VIP6).bytes(),
            told("ndp_answered", Ndp::solicit(B1_6, VIP6).answered_by(VIP6_MAC).bytes()),
        ),
        answer(
            "for an address of a VIP prefix",
            lab6_with(|s| {
                s.vip(1).address = v6(1, 0);
                s.vip(1).prefix = Some(112);
                s.vip(1).mode = Mode::Dsr;
            }),
            &Ndp::solicit(C3_6, v6(1, 0xbeef)),
        ),
    ]
}

fn not_answered() -> Vec<Row> {
    let ask = Ndp::solicit(C3_6, VIP6);
    let pass = |name: &str, ndp: &Ndp| row(name, lab6()).send(AT_C3, &ndp.bytes(), passed("not_ours"));
    let unicast = Ndp { dst_mac: VIP6_MAC, dst: VIP6, ..ask.clone() };
    vec![
        pass("a solicitation for a client", &Ndp::solicit(C3_6, C4_6.1)),
        pass("a solicitation for a backend", &Ndp::solicit(C3_6, B1_6.1)),
        pass("a solicitation from another network: hop limit 254", &Ndp { hop_limit: 254, ..ask.clone() }),
        pass("a solicitation with a code", &Ndp { code: 1, ..ask.clone() }),
        pass("a solicitation to another MAC", &Ndp { dst_mac: C4_6.0, ..ask.clone() }),
        pass("an advertisement of a client", &Ndp::advertise(C4_6)),
        row("a backend's solicitation for a client", lab6()).send(
            AT_B1,
            &Ndp::solicit(B1_6, C3_6.1).bytes(),
            passed("no_connection"),
        ),
        row("an invalid solicitation to the VIP itself", lab6()).send(
            AT_C3,
            &Ndp { hop_limit: 64, ..unicast.clone() }.bytes(),
            dropped("vip_no_service", 1),
        ),
        row("a router advertisement to the VIP itself", lab6()).send(
            AT_C3,
            &Ndp { kind: 134, ..unicast.clone() }.bytes(),
            dropped("vip_no_service", 1),
        ),
        row("too short for a target", lab6()).send(
            AT_C3,
            &Packet::icmp(C3_6, (VIP6_MAC, VIP6), (135, 0), [0; 4], &[0; 15]).ttl(255).bytes(),
            dropped("vip_no_service", 1),
        ),
        row("a solicitation for the VIP's mapped namesake", crate::lab::lab()).send(
            AT_C3,
            &Ndp::solicit(C3_6, Ip::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0101))).bytes(),
            passed("not_ours"),
        ),
    ]
}

fn claims() -> Vec<Row> {
    let by_b1 = Ndp::advertise((B1_6.0, VIP6));
    let asking = Ndp::solicit((B1_6.0, VIP6), C3_6.1);
    let claimed =
        |name: &str, ndp: &Ndp| row(name, lab6()).send(AT_B1, &ndp.bytes(), passed("ndp_vip_claimed"));
    vec![
        claimed("somebody advertises the VIP", &by_b1),
        claimed(
            "somebody advertises the VIP without an option",
            &Ndp { options: Vec::new(), ..by_b1.clone() },
        ),
        claimed("somebody asks in the VIP's name", &asking),
        claimed("somebody asks for the VIP in its name", &Ndp::solicit((B1_6.0, VIP6), VIP6)),
        row("the VIP's own advertisement", lab6()).send(
            AT_C3,
            &Ndp::advertise((VIP6_MAC, VIP6)).bytes(),
            passed("not_ours"),
        ),
        row("who asks in the VIP's name without a MAC claims nothing", lab6()).send(
            AT_B1,
            &Ndp { options: Vec::new(), ..asking }.bytes(),
            passed("not_ours"),
        ),
        row("an answer to the VIP that nobody asked for", lab6()).send(
            AT_C3,
            &Ndp { dst_mac: VIP6_MAC, dst: VIP6, flags: 0x60, ..Ndp::advertise(C3_6) }.bytes(),
            passed("not_ours"),
        ),
        row(
            "the second VIP of an address is claimed like the first",
            lab6_with(|s| {
                s.vips.push(a_vip(2, VIP6, &[(Protocol::Tcp, 443)], &[]));
                s.vips[1].mac = VIP6_MAC;
            }),
        )
        .send(AT_B1, &by_b1.bytes(), passed("ndp_vip_claimed")),
    ]
}
