//! The same as for IPv4, over IPv6.

use testbed::frame::{ACK, BROADCAST, Checksum, FIN, Ip, PSH, Packet, RST, SYN, octets};
use testbed::oracle::sum;
use testbed::scenario::{Mode, Protocol};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_B2, AT_C3, AT_C4, B1_6, B2_6, C3_6, C4_6, Host, NOT_ATTACHED, VIP6, VIP6_MAC, at, lab6,
    lab6_with, vip6,
};
use crate::row::{Expect, Row, START, dropped, forwarded, passed, replied, row};

pub fn rows() -> Vec<Row> {
    [tcp(), udp(), headers(), not_ours(), refused(), modes()].into_iter().flatten().collect()
}

fn c3(flags: u8, seq: u32, payload: &[u8]) -> Packet {
    Packet::tcp(at(C3_6, 4000), vip6(80), flags, seq, payload)
}

fn b1(flags: u8, seq: u32, payload: &[u8]) -> Packet {
    Packet::tcp(at(B1_6, 80), at(C3_6, 4000), flags, seq, payload)
}

fn query(payload: &[u8]) -> Packet {
    Packet::udp(at(C3_6, 4000), vip6(53), payload)
}

fn to(backend: u16, host: Host, packet: &Packet) -> Expect {
    forwarded(Action::Redirect(backend), 1, backend, packet.clone().to(at(host, packet.dport)).bytes())
}

fn to_b1(packet: &Packet) -> Expect {
    to(1, B1_6, packet)
}

fn to_c3(backend: u16, packet: &Packet) -> Expect {
    replied(Action::Redirect(3), 1, backend, packet.clone().from(vip6(packet.sport)).bytes())
}

fn tcp() -> Vec<Row> {
    let (syn, syn_ack) = (c3(SYN, 100, b""), b1(SYN | ACK, 900, b""));
    let (request, response) = (c3(ACK | PSH, 101, b"GET /"), b1(ACK | PSH, 901, b"odd"));
    let (fin, fin_back) = (c3(FIN | ACK, 106, b""), b1(FIN | ACK, 904, b""));
    vec![
        row("IPv6: a SYN, by literal bytes", lab6()).send(
            AT_C3,
            &[
                &[2, 0x6c, 6, 0, 0, 1, 2, 0, 0, 0, 0, 3, 0x86, 0xdd][..],
                &[0x60, 0, 0, 0, 0, 20, 6, 64],
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1],
                &[0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0x24, 0x5a, 0, 0],
            ]
            .concat(),
            forwarded(
                Action::Redirect(1),
                1,
                1,
                [
                    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 0x86, 0xdd][..],
                    &[0x60, 0, 0, 0, 0, 20, 6, 64],
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                    &[0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0x24, 0x5b, 0, 0],
                ]
                .concat(),
            )
            .opening(1, 1),
        ),
        row("IPv6: a whole exchange", lab6())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .connections(&[("syn", 1)])
            .send(AT_B1, &syn_ack.bytes(), to_c3(1, &syn_ack).alive(1, 1, START))
            .send(AT_C3, &request.bytes(), to_b1(&request))
            .connections(&[("established", 1)])
            .send(AT_B1, &response.bytes(), to_c3(1, &response))
            .send(AT_C3, &fin.bytes(), to_b1(&fin))
            .send(AT_B1, &fin_back.bytes(), to_c3(1, &fin_back))
            .connections(&[("closing", 1)]),
        row("IPv6: round robin alternates", lab6())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(AT_C3, &query(b"?").bytes(), to(2, B2_6, &query(b"?")).opening(1, 2)),
        row("IPv6: port translation both ways", {
            lab6_with(|s| {
                s.vip(1).services = vec![(Protocol::Tcp, 80)];
                s.backend(1).port = 8001;
            })
        })
        .send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Redirect(1), 1, 1, syn.clone().to(at(B1_6, 8001)).bytes()).opening(1, 1),
        )
        .send(AT_B1, &Packet { sport: 8001, ..syn_ack.clone() }.bytes(), {
            to_c3(1, &syn_ack).alive(1, 1, START)
        }),
        row("IPv6: a reset closes", lab6())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(AT_C3, &c3(RST, 101, b"").bytes(), to_b1(&c3(RST, 101, b"")))
            .connections(&[("closed", 1)])
            .loads(&[]),
        row("IPv6: the other backend's reply to a connection that it does not have", lab6())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(
                AT_B2,
                &Packet::tcp(at(B2_6, 80), at(C3_6, 4000), SYN | ACK, 1, b"").bytes(),
                passed("no_connection"),
            ),
        row("IPv6: a wrong checksum stays wrong by the same amount", lab6()).send(
            AT_C3,
            &syn.clone().checksum(Checksum::Value(0x1234)).bytes(),
            to_b1(&syn.clone().checksum(Checksum::Value(sum::updated(
                0x1234,
                &sum::words(VIP6),
                &sum::words(B1_6.1),
            ))))
            .opening(1, 1),
        ),
        row("IPv6: a full-sized segment", lab6()).send(
            AT_C3,
            &c3(SYN, 1, &[0xa5; 1440]).bytes(),
            to_b1(&c3(SYN, 1, &[0xa5; 1440])).opening(1, 1),
        ),
    ]
}

fn udp() -> Vec<Row> {
    let answer = Packet::udp(at(B1_6, 53), at(C3_6, 4000), b"me");
    // The payload that makes the checksum after the rewrite 0xffff, which a sum of zero is written as.
    let to_zero = |dst: Ip| {
        let bytes = Packet::udp(at(C3_6, 4000), (B1_6.0, dst, 53), &[0, 0]).bytes();
        query(&[bytes[60], bytes[61]])
    };
    let none = query(b"who?").checksum(Checksum::Value(0));
    vec![
        row("IPv6: UDP both ways", lab6())
            .send(AT_C3, &query(b"who?").bytes(), to_b1(&query(b"who?")).opening(1, 1))
            .connections(&[("udp", 1)])
            .half_open(1)
            .send(AT_B1, &answer.bytes(), to_c3(1, &answer).alive(1, 1, START))
            .half_open(1)
            .send(AT_C3, &query(b"and?").bytes(), to_b1(&query(b"and?")))
            .half_open(0),
        row("IPv6: UDP without a checksum, which no sender may send, gets none", lab6()).send(
            AT_C3,
            &none.bytes(),
            to_b1(&none).opening(1, 1),
        ),
        row("IPv6: UDP whose checksum becomes zero is sent with all ones", lab6()).send(
            AT_C3,
            &to_zero(B1_6.1).bytes(),
            to_b1(&to_zero(B1_6.1).checksum(Checksum::Value(0xffff))).opening(1, 1),
        ),
        row("IPv6: UDP without payload", lab6()).send(
            AT_C3,
            &query(b"").bytes(),
            to_b1(&query(b"")).opening(1, 1),
        ),
        row("IPv6: a partial UDP checksum is counted", lab6()).send(
            AT_C3,
            &query(b"x").checksum(Checksum::Partial).bytes(),
            to_b1(&query(b"x").checksum(changed_partial(&query(b"x"))))
                .opening(1, 1)
                .also("partial_checksums", 1),
        ),
    ]
}

fn changed_partial(packet: &Packet) -> Checksum {
    let length = packet.bytes().len() - 54;
    let field = sum::pseudo(packet.src, packet.dst, packet.protocol(), length);
    Checksum::Value(sum::updated(field, &sum::words(VIP6), &sum::words(B1_6.1)))
}

fn headers() -> Vec<Row> {
    let both =
        |name: &str, change: fn(Packet) -> Packet| {
            let (there, back) = (change(c3(SYN, 1, b"x")), change(b1(SYN | ACK, 1, b"y")));
            row(format!("IPv6: {name}"), lab6())
                .send(AT_C3, &there.bytes(), to_b1(&there).opening(1, 1))
                .send(AT_B1, &back.bytes(), to_c3(1, &back).alive(1, 1, START))
        };
    vec![
        both("one VLAN tag", |p| p.tag(0x8100, 0x2005)),
        both("two VLAN tags", |p| p.tag(0x8100, 5).tag(0x88a8, 7)),
        both("padding behind the packet", |p| p.padding(7)),
        both("traffic class, flow label and hop limit stay", |p| Packet {
            flow: 0xabcde,
            ..p.class(0xb9).ttl(3)
        }),
    ]
}

fn not_ours() -> Vec<Row> {
    let between = Packet::tcp(at(C3_6, 4000), at(C4_6, 80), SYN, 1, b"");
    let mapped = |address: Ip| match address {
        Ip::V4(v4) => Ip::V6(v4.to_ipv6_mapped()),
        other => other,
    };
    let mapped_vip = (crate::lab::VIP_MAC, mapped(crate::lab::VIP), 80);
    vec![
        row("IPv6: between two clients", lab6()).send(AT_C3, &between.bytes(), passed("not_ours")),
        row("IPv6: a backend's own connection", lab6()).send(
            AT_B1,
            &Packet::tcp(at(B1_6, 50000), at(C4_6, 443), SYN, 1, b"").bytes(),
            passed("no_connection"),
        ),
        row("IPv6: a backend's service, reached directly", lab6()).send(
            AT_B1,
            &b1(ACK, 1, b"direct").bytes(),
            passed("no_connection"),
        ),
        row("IPv6: to the VIP, but to a backend's MAC", lab6()).send(
            AT_C3,
            &c3(SYN, 1, b"").to_mac(B1_6.0).bytes(),
            passed("already_balanced"),
        ),
        row("IPv6: to the VIP, but broadcast", lab6()).send(
            AT_C3,
            &c3(SYN, 1, b"").to_mac(BROADCAST).bytes(),
            passed("already_balanced"),
        ),
        row("IPv6: a header cut short", lab6()).send(AT_C3, &c3(SYN, 1, b"").bytes()[..53], passed("not_ip")),
        row("IPv6: an IPv4 VIP's mapped address in an IPv6 header", crate::lab::lab()).send(
            AT_C3,
            &Packet::tcp(at(C3_6, 4000), mapped_vip, SYN, 1, b"").bytes(),
            passed("not_ours"),
        ),
        row("IPv6: from an IPv4 backend's mapped address", crate::lab::lab()).send(
            AT_B1,
            &Packet::tcp((B1_6.0, mapped(crate::lab::B1.1), 80), at(C3_6, 4000), ACK, 1, b"").bytes(),
            passed("not_ours"),
        ),
        row("IPv6: the VIP's last four bytes are an IPv4 stranger's address", lab6()).send(
            AT_C3,
            &{
                let o = octets(VIP6);
                let other = Ip::from([o[12], o[13], o[14], o[15]]);
                Packet::tcp(at(crate::lab::C3, 4000), (VIP6_MAC, other, 80), SYN, 1, b"").bytes()
            },
            passed("not_ours"),
        ),
    ]
}

fn refused() -> Vec<Row> {
    let refused = |name: &str, frame: &[u8], reason| {
        row(format!("IPv6: {name}"), lab6()).send(AT_C3, frame, dropped(reason, 1)).connections(&[])
    };
    let mut cut = query(b"data").bytes();
    cut.pop();
    let wrong_version = c3(SYN, 1, b"").version_ihl(0x45).bytes();
    vec![
        refused(
            "a port that nobody serves",
            &Packet { dport: 81, ..c3(SYN, 1, b"") }.bytes(),
            "vip_no_service",
        ),
        refused(
            "SCTP to a VIP",
            &Packet::other(132, C3_6, (VIP6_MAC, VIP6), &[0; 16]).bytes(),
            "vip_no_service",
        ),
        refused("no next header", &Packet::other(59, C3_6, (VIP6_MAC, VIP6), &[]).bytes(), "vip_no_service"),
        refused(
            "ICMP of IPv4 in an IPv6 packet",
            &Packet::other(1, C3_6, (VIP6_MAC, VIP6), &[8, 0, 0, 0, 0, 0, 0, 0]).bytes(),
            "vip_no_service",
        ),
        refused(
            "a payload length beyond the frame",
            &c3(SYN, 1, b"").total_length(21).bytes(),
            "vip_malformed",
        ),
        refused("the longest payload length", &c3(SYN, 1, b"").total_length(65535).bytes(), "vip_malformed"),
        refused("a payload length of zero", &c3(SYN, 1, b"").total_length(0).bytes(), "vip_malformed"),
        refused("no room for a TCP header", &c3(SYN, 1, b"").total_length(19).bytes(), "vip_malformed"),
        refused("no room for a UDP header", &query(b"").total_length(7).bytes(), "vip_malformed"),
        refused("version 4 in an IPv6 frame", &wrong_version, "vip_malformed"),
        refused("a frame cut by one byte", &cut, "vip_malformed"),
        row("IPv6: an empty ring", lab6_with(|s| s.vip(1).ring.clear())).send(
            AT_C3,
            &c3(SYN, 1, b"").bytes(),
            dropped("no_backend", 1),
        ),
        row("IPv6: the only backend as client", lab6_with(|s| s.vip(1).ring = vec![1])).send(
            AT_B1,
            &Packet::tcp(at(B1_6, 4000), vip6(80), SYN, 1, b"").bytes(),
            dropped("hairpin", 1),
        ),
    ]
}

fn modes() -> Vec<Row> {
    let syn = c3(SYN, 1, b"");
    let dsr = |transmit: bool| {
        lab6_with(|s| {
            s.vip(1).mode = Mode::Dsr;
            s.vip(1).transmit = transmit;
        })
    };
    let by_switch = forwarded(Action::Pass, 1, 1, syn.clone().to(at(B1_6, 80)).bytes()).opening(1, 1);
    let from_c4 = Packet::tcp(at(C4_6, 4000), vip6(80), SYN, 1, b"");
    let back_to_c4 = Packet::tcp(at(B1_6, 80), at(C4_6, 4000), SYN | ACK, 1, b"");
    vec![
        row("IPv6: DSR inline: redirected, only the destination MAC changes", dsr(false)).send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Redirect(1), 1, 1, syn.clone().to_mac(B1_6.0).bytes()).opening(1, 1),
        ),
        row("IPv6: one-armed DSR", dsr(true))
            .send(
                AT_C3,
                &syn.bytes(),
                forwarded(Action::Transmit, 1, 1, syn.clone().to_mac(B1_6.0).from_mac(VIP6_MAC).bytes())
                    .opening(1, 1),
            )
            .send(AT_C3, &syn.clone().to_mac(B1_6.0).bytes(), passed("already_balanced")),
        row("IPv6: one-armed NAT, both ways", lab6_with(|s| s.vip(1).transmit = true))
            .send(
                AT_C3,
                &syn.bytes(),
                forwarded(Action::Transmit, 1, 1, syn.clone().to(at(B1_6, 80)).from_mac(VIP6_MAC).bytes())
                    .opening(1, 1),
            )
            .send(
                AT_B1,
                &b1(SYN | ACK, 1, b"").bytes(),
                replied(Action::Transmit, 1, 1, b1(SYN | ACK, 1, b"").from(vip6(80)).bytes())
                    .alive(1, 1, START),
            ),
        row("IPv6: an interface that is not attached", lab6()).send(NOT_ATTACHED, &syn.bytes(), by_switch),
        row("IPv6: the client behind a shaped port", lab6())
            .send(AT_C4, &from_c4.bytes(), to_b1(&from_c4).opening(1, 1))
            .send(
                AT_B1,
                &back_to_c4.bytes(),
                replied(Action::Pass, 1, 1, back_to_c4.clone().from(vip6(80)).bytes()).alive(1, 1, START),
            ),
    ]
}
