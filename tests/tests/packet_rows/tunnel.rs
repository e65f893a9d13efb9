//! IPIP: packets go inside another one.

use testbed::frame::{ACK, Checksum, Ip, Packet, SYN, v4, v6};
use testbed::scenario::{Mode, Scenario};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_C3, B1, B1_6, B2_6, C3, C3_6, Host, VIP, VIP_MAC, VIP6, VIP6_MAC, at, c3_tcp, lab_with,
    lab6_with, vip, vip6,
};
use crate::row::{Expect, Row, dropped, passed, row, told, tunnelled};

pub fn rows() -> Vec<Row> {
    [plain(), families(), too_big()].into_iter().flatten().collect()
}

const SOURCE: Ip = v4(10, 0, 9, 9);
const SOURCE6: Ip = v6(9, 9);

fn with(change: impl FnOnce(&mut Scenario)) -> Scenario {
    lab_with(|s| {
        s.vip(1).mode = Mode::Ipip;
        s.vip(1).source = Some(SOURCE);
        s.vip(1).tunnel_mtu = 1500;
        change(s);
    })
}

fn to_b1(packet: &Packet) -> Expect {
    tunnelled(Action::Redirect(1), 1, 1, &packet.bytes(), packet.inside((VIP_MAC, SOURCE), B1))
}

fn plain() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 1, b"");
    let data = c3_tcp(4000, ACK, 2, b"data");
    let query = Packet::udp(at(C3, 4000), vip(53), b"?");
    let one = |name: &str, packet: Packet| {
        row(format!("IPIP: {name}"), with(|_| ())).send(AT_C3, &packet.bytes(), to_b1(&packet).opening(1, 1))
    };
    vec![
        row("IPIP: a SYN, by literal bytes", with(|_| ())).send(
            AT_C3,
            &[
                2, 0x6c, 10, 0, 1, 1, 2, 0, 0, 0, 0, 3, 8, 0, // Ethernet
                0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x25, 0xcc, 10, 0, 0, 3, 10, 0, 1, 1, // IPv4
                0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0x6a, 0xee, 0, 0, // TCP
            ],
            tunnelled(
                Action::Redirect(1),
                1,
                1,
                &syn.bytes(),
                vec![
                    2, 0, 0, 0, 0, 1, 2, 0x6c, 10, 0, 1, 1, 8, 0, //
                    0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 4, 0x1d, 0xb5, 10, 0, 9, 9, 10, 0, 0, 1, //
                    0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x25, 0xcc, 10, 0, 0, 3, 10, 0, 1, 1, //
                    0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0x6a, 0xee, 0, 0,
                ],
            )
            .opening(1, 1),
        ),
        row("IPIP: the client's ACK establishes", with(|_| ()))
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .half_open(1)
            .send(AT_C3, &data.bytes(), to_b1(&data))
            .half_open(0)
            .connections(&[("established", 1)]),
        one("UDP", query.clone()),
        one("DSCP and ECN are copied", syn.clone().class(0xbb)),
        one("TTL, options and identification stay inside", syn.clone().ttl(3).ip_options(&[1; 4]).id(99)),
        one("one VLAN tag stays outside", syn.clone().tag(0x8100, 0x2005)),
        one("two VLAN tags stay outside", syn.clone().tag(0x8100, 5).tag(0x88a8, 7)),
        one("padding goes along", query.clone().padding(13)),
        row("IPIP: a partial checksum goes along, and is counted", with(|_| ())).send(
            AT_C3,
            &syn.clone().checksum(Checksum::Partial).bytes(),
            to_b1(&syn.clone().checksum(Checksum::Partial)).opening(1, 1).also("partial_checksums", 1),
        ),
        row("IPIP: one-armed", with(|s| s.vip(1).transmit = true)).send(
            AT_C3,
            &syn.bytes(),
            tunnelled(Action::Transmit, 1, 1, &syn.bytes(), syn.inside((VIP_MAC, SOURCE), B1)).opening(1, 1),
        ),
        row("IPIP: handed to the switch", with(|s| s.backend(1).slot = 5)).send(
            AT_C3,
            &syn.bytes(),
            tunnelled(Action::Pass, 1, 1, &syn.bytes(), syn.inside((VIP_MAC, SOURCE), B1)).opening(1, 1),
        ),
        row("IPIP: ports are not translated", with(|s| s.backend(1).port = 8001)).send(
            AT_C3,
            &syn.bytes(),
            to_b1(&syn).opening(1, 1),
        ),
        row("IPIP: a backend whose MAC is not known", with(|s| s.backend(1).mac = [0; 6])).send(
            AT_C3,
            &syn.bytes(),
            tunnelled(
                Action::Redirect(1),
                1,
                1,
                &syn.bytes(),
                syn.inside((VIP_MAC, SOURCE), (VIP_MAC, B1.1)),
            )
            .opening(1, 1),
        ),
        row("IPIP: the tunnelled frame passes when it comes by again", with(|_| ())).send(
            AT_C3,
            &syn.inside((VIP_MAC, SOURCE), B1),
            passed("not_ours"),
        ),
        row("IPIP: the backend's answer in the VIP's name is not ours", with(|_| ()))
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(
                AT_B1,
                &Packet::tcp((B1.0, VIP, 80), at(C3, 4000), SYN | ACK, 9, b"").bytes(),
                passed("not_ours"),
            ),
        row("IPIP: the only backend as client", with(|s| s.vip(1).ring = vec![1])).send(
            AT_B1,
            &Packet::tcp(at(B1, 4000), vip(80), SYN, 1, b"").bytes(),
            dropped("hairpin", 1),
        ),
    ]
}

fn families() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 1, b"x");
    let syn6 = Packet::tcp(at(C3_6, 4000), vip6(80), SYN, 1, b"x");
    let four_in_six = with(|s| {
        s.vip(1).source = Some(SOURCE6);
        s.backend(1).address = B1_6.1;
        s.backend(2).address = B2_6.1;
    });
    let six = |source: Ip, backend: Host| {
        lab6_with(|s| {
            s.vip(1).mode = Mode::Ipip;
            s.vip(1).source = Some(source);
            s.vip(1).tunnel_mtu = 1500;
            s.backend(1).address = backend.1;
        })
    };
    let out = |packet: &Packet, from: (testbed::frame::Mac, Ip), to: Host| {
        tunnelled(Action::Redirect(1), 1, 1, &packet.bytes(), packet.inside(from, to)).opening(1, 1)
    };
    vec![
        row("IPIP: IPv4 inside IPv6", four_in_six.clone()).send(
            AT_C3,
            &syn.bytes(),
            out(&syn, (VIP_MAC, SOURCE6), B1_6),
        ),
        row("IPIP: IPv4 inside IPv6, tags and class", four_in_six).send(
            AT_C3,
            &syn.clone().class(0x2e).tag(0x8100, 5).tag(0x88a8, 7).bytes(),
            out(&syn.clone().class(0x2e).tag(0x8100, 5).tag(0x88a8, 7), (VIP_MAC, SOURCE6), B1_6),
        ),
        row("IPIP: IPv6 inside IPv6", six(SOURCE6, B1_6)).send(
            AT_C3,
            &syn6.bytes(),
            out(&syn6, (VIP6_MAC, SOURCE6), B1_6),
        ),
        row("IPIP: IPv6 inside IPv6: the flow label stays inside", six(SOURCE6, B1_6)).send(
            AT_C3,
            &Packet { flow: 0x12345, ..syn6.clone().class(0x2e) }.bytes(),
            out(&Packet { flow: 0x12345, ..syn6.clone().class(0x2e) }, (VIP6_MAC, SOURCE6), B1_6),
        ),
        row("IPIP: IPv6 inside IPv4", six(SOURCE, B1)).send(
            AT_C3,
            &syn6.bytes(),
            out(&syn6, (VIP6_MAC, SOURCE), B1),
        ),
        row("IPIP: IPv6 inside IPv4, class and a tag", six(SOURCE, B1)).send(
            AT_C3,
            &syn6.clone().class(0x2e).tag(0x8100, 5).bytes(),
            out(&syn6.clone().class(0x2e).tag(0x8100, 5), (VIP6_MAC, SOURCE), B1),
        ),
    ]
}

fn too_big() -> Vec<Row> {
    // An outer packet of 120 bytes: 100 for the packet inside, 60 of them behind IPv4 and TCP.
    let small = || with(|s| s.vip(1).tunnel_mtu = 120);
    let fits = c3_tcp(4000, ACK, 2, &[7; 60]);
    let long = c3_tcp(4000, ACK, 2, &[7; 61]);
    let opened = |name: &str, scenario: Scenario| {
        let syn = c3_tcp(4000, SYN, 1, b"");
        row(name, scenario).send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
    };
    let needed = |cause: &Packet, mtu: u8| {
        Packet::icmp((VIP_MAC, VIP), C3, (3, 4), [0, 0, 0, mtu], &cause.quoted()).id(0)
    };
    let six = || {
        lab6_with(|s| {
            s.vip(1).mode = Mode::Ipip;
            s.vip(1).source = Some(SOURCE6);
            s.vip(1).tunnel_mtu = 160;
        })
    };
    let query6 = |length: usize| Packet::udp(at(C3_6, 4000), vip6(53), &vec![7; length]);
    let bigger6 = |cause: &Packet, mtu: u8| {
        Packet::icmp((VIP6_MAC, VIP6), C3_6, (2, 0), [0, 0, 0, mtu], &cause.quoted())
    };
    let in_six = || small_in(SOURCE6, B1_6);
    vec![
        opened("IPIP: the longest packet that fits", small()).send(AT_C3, &fits.bytes(), to_b1(&fits)),
        opened("IPIP: one byte more, and the client is told", small())
            .send(AT_C3, &long.bytes(), told("too_big_answered", needed(&long, 100).bytes()))
            .connections(&[("established", 1)]),
        opened("IPIP: too long with options, behind tags", small()).send(
            AT_C3,
            &long.clone().ip_options(&[1; 40]).tag(0x8100, 5).tag(0x88a8, 7).bytes(),
            told(
                "too_big_answered",
                needed(&long.clone().ip_options(&[1; 40]), 100).tag(0x8100, 5).tag(0x88a8, 7).bytes(),
            ),
        ),
        row("IPIP: padding does not make a packet too long", small()).send(
            AT_C3,
            &c3_tcp(4000, SYN, 1, b"").padding(90).bytes(),
            to_b1(&c3_tcp(4000, SYN, 1, b"").padding(90)).opening(1, 1),
        ),
        row("IPIP: an IPv6 outer header takes forty bytes", in_six()).send(
            AT_C3,
            &c3_tcp(4000, SYN, 1, &[7; 41]).bytes(),
            told("too_big_answered", needed(&c3_tcp(4000, SYN, 1, &[7; 41]), 80).bytes()),
        ),
        row("IPIP: what just fits behind an IPv6 outer header", in_six()).send(
            AT_C3,
            &c3_tcp(4000, SYN, 1, &[7; 40]).bytes(),
            tunnelled(
                Action::Redirect(1),
                1,
                1,
                &c3_tcp(4000, SYN, 1, &[7; 40]).bytes(),
                c3_tcp(4000, SYN, 1, &[7; 40]).inside((VIP_MAC, SOURCE6), B1_6),
            )
            .opening(1, 1),
        ),
        row("IPIP: an IPv6 packet that is too long", six()).send(
            AT_C3,
            &query6(73).bytes(),
            told("too_big_answered", bigger6(&query6(73), 120).bytes()),
        ),
        row("IPIP: an IPv6 packet that just fits", six()).send(
            AT_C3,
            &query6(72).bytes(),
            tunnelled(
                Action::Redirect(1),
                1,
                1,
                &query6(72).bytes(),
                query6(72).inside((VIP6_MAC, SOURCE6), B1_6),
            )
            .opening(1, 1),
        ),
    ]
}

fn small_in(source: Ip, backend: Host) -> Scenario {
    with(|s| {
        s.vip(1).tunnel_mtu = 120;
        s.vip(1).source = Some(source);
        s.backend(1).address = backend.1;
    })
}
