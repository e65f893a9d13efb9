//! Packets to a VIP and back: which headers change, and how.

use testbed::frame::{ACK, Checksum, FIN, Ip, PSH, Packet, SYN};
use testbed::oracle::sum;
use testbed::scenario::{Mode, Protocol};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_B2, AT_C3, B1, B2, C3, VIP, VIP_MAC, at, b_tcp, c3_tcp, lab, lab_every_port, lab_translated,
    lab_with, to_b1, to_b2, to_c3, to_c3_alive, vip,
};
use crate::row::{Row, START, forwarded, passed, replied, row};

pub fn rows() -> Vec<Row> {
    [tcp(), translated(), udp(), partial(), headers(), dsr()].into_iter().flatten().collect()
}

fn tcp() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 100, b"");
    let syn_ack = b_tcp(B1, 4000, SYN | ACK, 900, b"");
    let request = c3_tcp(4000, ACK | PSH, 101, b"GET / HTTP/1.0\r\n\r\n");
    let response = b_tcp(B1, 4000, ACK | PSH, 901, b"HTTP/1.0 200 OK\r\n\r\nodd");
    vec![
        row("a SYN, by literal bytes", lab()).send(
            AT_C3,
            &[
                2, 0x6c, 10, 0, 1, 1, 2, 0, 0, 0, 0, 3, 8, 0, // Ethernet
                0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x25, 0xcc, 10, 0, 0, 3, 10, 0, 1, 1, // IPv4
                0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0x6a, 0xee, 0, 0, // TCP
            ],
            forwarded(
                Action::Redirect(1),
                1,
                1,
                vec![
                    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 8, 0, //
                    0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x26, 0xcc, 10, 0, 0, 3, 10, 0, 0, 1, //
                    0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0x6b, 0xee, 0, 0,
                ],
            )
            .opening(1, 1),
        ),
        row("a whole exchange", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .connections(&[("syn", 1)])
            .send(AT_B1, &syn_ack.bytes(), to_c3_alive(1, &syn_ack))
            .connections(&[("syn", 1)])
            .send(AT_C3, &request.bytes(), to_b1(&request))
            .connections(&[("established", 1)])
            .send(AT_B1, &response.bytes(), to_c3(1, &response)),
        row("the other backend's reply to a connection that it does not have", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(AT_B2, &b_tcp(B2, 4000, SYN | ACK, 900, b"").bytes(), passed("no_connection")),
        row("a reply from another port of the backend", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(
                AT_B1,
                &Packet::tcp(at(B1, 81), at(C3, 4000), ACK, 1, b"").bytes(),
                passed("no_connection"),
            ),
        row("a reply to another port of the client", lab())
            .send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
            .send(AT_B1, &b_tcp(B1, 4001, ACK, 1, b"").bytes(), passed("no_connection")),
        row("TCP options and an odd payload", lab()).send(
            AT_C3,
            &syn.clone().tcp_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7]).bytes(),
            to_b1(&syn.clone().tcp_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7])).opening(1, 1),
        ),
        row("a SYN with ECN bits", lab()).send(
            AT_C3,
            &c3_tcp(4000, SYN | 0xc0, 1, b"").bytes(),
            to_b1(&c3_tcp(4000, SYN | 0xc0, 1, b"")).opening(1, 1),
        ),
        row("a full-sized segment", lab()).send(
            AT_C3,
            &c3_tcp(4000, SYN, 1, &[0xa5; 1460]).bytes(),
            to_b1(&c3_tcp(4000, SYN, 1, &[0xa5; 1460])).opening(1, 1),
        ),
        row("a wrong checksum stays wrong by the same amount", lab()).send(
            AT_C3,
            &syn.clone().checksum(Checksum::Value(0x1234)).bytes(),
            to_b1(&syn.clone().checksum(Checksum::Value(sum::updated(
                0x1234,
                &sum::words(VIP),
                &sum::words(B1.1),
            ))))
            .opening(1, 1),
        ),
    ]
}

fn translated() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 100, b"");
    let reply = Packet::tcp(at(B1, 8001), at(C3, 4000), SYN | ACK, 900, b"");
    let to_8001 = forwarded(Action::Redirect(1), 1, 1, syn.clone().to(at(B1, 8001)).bytes());
    let back = replied(Action::Redirect(3), 1, 1, reply.clone().from(vip(80)).bytes()).alive(1, 1, START);
    let ssh = Packet::tcp(at(C3, 4000), vip(22), SYN, 1, b"");
    let ssh_reply = Packet::tcp(at(B1, 22), at(C3, 4000), SYN | ACK, 1, b"");
    vec![
        row("port translation both ways", lab_translated())
            .send(AT_C3, &syn.bytes(), to_8001.clone().opening(1, 1))
            .send(AT_B1, &reply.bytes(), back.clone()),
        row("the backend's untranslated port is its own", lab_translated())
            .send(AT_C3, &syn.bytes(), to_8001.opening(1, 1))
            .send(AT_B1, &b_tcp(B1, 4000, SYN | ACK, 1, b"").bytes(), passed("no_connection")),
        row("a VIP of every port", lab_every_port())
            .send(AT_C3, &ssh.bytes(), to_b1(&ssh).opening(1, 1))
            .send(AT_B1, &ssh_reply.bytes(), to_c3_alive(1, &ssh_reply)),
        row("a VIP of every port: the ports of one client are connections of their own", lab_every_port())
            .send(AT_C3, &ssh.bytes(), to_b1(&ssh).opening(1, 1))
            .send(AT_C3, &syn.bytes(), to_b2(&syn).opening(1, 2))
            .connections(&[("syn", 1), ("syn", 2)]),
        row("port 0 of a VIP of every port", lab_every_port()).send(
            AT_C3,
            &Packet::tcp(at(C3, 4000), vip(0), SYN, 1, b"").bytes(),
            to_b1(&Packet::tcp(at(C3, 4000), vip(0), SYN, 1, b"")).opening(1, 1),
        ),
        row(
            "a VIP of one port goes before the VIP of every port at the same address",
            lab_with(|s| {
                s.vip(1).services = vec![(Protocol::Tcp, 0)];
                s.vip(1).ring = vec![1];
                s.vips.push(crate::lab::a_vip(2, VIP, &[(Protocol::Tcp, 80)], &[2]));
                s.backend(2).vip = 2;
            }),
        )
        .send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Redirect(2), 2, 2, syn.clone().to(at(B2, 80)).bytes()).opening(2, 2),
        )
        .send(AT_C3, &ssh.bytes(), to_b1(&ssh).opening(1, 1)),
    ]
}

/// C3's datagram with this payload.
fn question(payload: &[u8]) -> Packet {
    Packet::udp(at(C3, 4000), vip(53), payload)
}

fn udp() -> Vec<Row> {
    let query = question(b"who?");
    let answer = Packet::udp(at(B1, 53), at(C3, 4000), b"me");
    // The payload that makes the checksum after the rewrite 0xffff, which a sum of zero is written as.
    let to_zero = |dst: Ip| {
        let with = |word: [u8; 2]| Packet::udp(at(C3, 4000), (B1.0, dst, 53), &word);
        let bytes = with([0, 0]).bytes();
        let field = [bytes[40], bytes[41]];
        question(&field)
    };
    vec![
        row("UDP both ways", lab())
            .send(AT_C3, &query.bytes(), to_b1(&query).opening(1, 1))
            .connections(&[("udp", 1)])
            .send(AT_B1, &answer.bytes(), to_c3_alive(1, &answer)),
        row("UDP without payload", lab()).send(
            AT_C3,
            &question(b"").bytes(),
            to_b1(&question(b"")).opening(1, 1),
        ),
        row("UDP without a checksum gets none, both ways", lab())
            .send(
                AT_C3,
                &query.clone().checksum(Checksum::Value(0)).bytes(),
                to_b1(&query.clone().checksum(Checksum::Value(0))).opening(1, 1),
            )
            .send(
                AT_B1,
                &answer.clone().checksum(Checksum::Value(0)).bytes(),
                to_c3_alive(1, &answer.clone().checksum(Checksum::Value(0))),
            ),
        row("UDP whose checksum becomes zero is sent with all ones", lab()).send(
            AT_C3,
            &to_zero(B1.1).bytes(),
            to_b1(&to_zero(B1.1).checksum(Checksum::Value(0xffff))).opening(1, 1),
        ),
        row("UDP whose checksum was all ones", lab()).send(
            AT_C3,
            &to_zero(VIP).bytes(),
            to_b1(&to_zero(VIP)).opening(1, 1),
        ),
        row("UDP padded to the shortest Ethernet frame", lab()).send(
            AT_C3,
            &query.clone().padding(14).bytes(),
            to_b1(&query.clone().padding(14)).opening(1, 1),
        ),
    ]
}

/// What a partial checksum becomes: it is not inverted, so the change goes the wrong way. The receiver drops the
/// packet, which is why such packets are counted.
fn changed_partial(packet: &Packet, old: Ip, new: Ip) -> Checksum {
    let bytes = packet.bytes();
    let at = if packet.protocol() == 6 { 50 } else { 40 };
    let field = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    Checksum::Value(sum::updated(field, &sum::words(old), &sum::words(new)))
}

fn partial() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 1, b"").checksum(Checksum::Partial);
    let query = question(b"who?").checksum(Checksum::Partial);
    let reply = b_tcp(B1, 4000, SYN | ACK, 1, b"").checksum(Checksum::Partial);
    let good = c3_tcp(4000, SYN, 1, b"");
    vec![
        row("a partial TCP checksum is counted", lab()).send(
            AT_C3,
            &syn.bytes(),
            to_b1(&syn.clone().checksum(changed_partial(&syn, VIP, B1.1)))
                .opening(1, 1)
                .also("partial_checksums", 1),
        ),
        row("a partial UDP checksum is counted", lab()).send(
            AT_C3,
            &query.bytes(),
            to_b1(&query.clone().checksum(changed_partial(&query, VIP, B1.1)))
                .opening(1, 1)
                .also("partial_checksums", 1),
        ),
        row("a partial checksum of a reply is counted", lab())
            .send(AT_C3, &good.bytes(), to_b1(&good).opening(1, 1))
            .send(
                AT_B1,
                &reply.bytes(),
                to_c3_alive(1, &reply.clone().checksum(changed_partial(&reply, B1.1, VIP)))
                    .also("partial_checksums", 1),
            ),
    ]
}

fn headers() -> Vec<Row> {
    let syn = c3_tcp(4000, SYN, 1, b"");
    let both = |name, packet: Packet, reply: Packet| {
        row(name, lab()).send(AT_C3, &packet.bytes(), to_b1(&packet).opening(1, 1)).send(
            AT_B1,
            &reply.bytes(),
            to_c3_alive(1, &reply),
        )
    };
    let reply = b_tcp(B1, 4000, SYN | ACK, 1, b"");
    vec![
        both("one VLAN tag", syn.clone().tag(0x8100, 0x2005), reply.clone().tag(0x8100, 0x2005)),
        both("an 802.1ad tag alone", syn.clone().tag(0x88a8, 5), reply.clone().tag(0x88a8, 5)),
        both(
            "two VLAN tags",
            syn.clone().tag(0x8100, 5).tag(0x88a8, 7),
            reply.clone().tag(0x8100, 5).tag(0x8100, 7),
        ),
        both("IPv4 options", syn.clone().ip_options(&[0x94, 4, 0, 0]), reply.clone().ip_options(&[1; 8])),
        both(
            "forty bytes of options behind two VLAN tags",
            syn.clone().ip_options(&[1; 40]).tag(0x8100, 5).tag(0x88a8, 7),
            reply.clone().ip_options(&[1; 40]).tcp_options(&[1; 40]),
        ),
        both("the reserved fragment bit", syn.clone().fragment(0x8000), reply.clone().fragment(0)),
        row("a TCP header longer than the segment is carried as it is", lab()).send(
            AT_C3,
            &with_offset(syn.clone(), 15).bytes(),
            to_b1(&with_offset(syn.clone(), 15)).opening(1, 1),
        ),
        row("a UDP length field that contradicts is carried as it is", lab()).send(
            AT_C3,
            &with_udp_length(question(b"who?"), 4).bytes(),
            to_b1(&with_udp_length(question(b"who?"), 4)).opening(1, 1),
        ),
    ]
}

fn with_offset(mut packet: Packet, words: u8) -> Packet {
    if let testbed::frame::L4::Tcp { offset, .. } = &mut packet.l4 {
        *offset = Some(words);
    }
    packet
}

fn with_udp_length(mut packet: Packet, bytes: u16) -> Packet {
    packet.l4 = testbed::frame::L4::Udp { length: Some(bytes) };
    packet
}

fn dsr() -> Vec<Row> {
    let dsr = |transmit: bool| {
        lab_with(|s| {
            s.vip(1).mode = Mode::Dsr;
            s.vip(1).transmit = transmit;
        })
    };
    let syn = c3_tcp(4000, SYN, 1, b"");
    let data = c3_tcp(4000, ACK, 2, b"x");
    let fin = c3_tcp(4000, ACK | FIN, 3, b"");
    let answer = Packet::tcp((B1.0, VIP, 80), at(C3, 4000), SYN | ACK, 9, b"");
    let one_armed = |packet: &Packet| {
        forwarded(Action::Transmit, 1, 1, packet.clone().to_mac(B1.0).from_mac(VIP_MAC).bytes())
    };
    let inline = |packet: &Packet| forwarded(Action::Redirect(1), 1, 1, packet.clone().to_mac(B1.0).bytes());
    vec![
        row("one-armed DSR: only the MACs change, the client's ACK establishes", dsr(true))
            .send(AT_C3, &syn.bytes(), one_armed(&syn).opening(1, 1))
            .connections(&[("syn", 1)])
            .send(AT_C3, &data.bytes(), one_armed(&data))
            .connections(&[("established", 1)])
            .send(AT_C3, &fin.bytes(), one_armed(&fin))
            .connections(&[("closing", 1)]),
        row("DSR inline: redirected, the client's MAC stays", dsr(false)).send(
            AT_C3,
            &syn.bytes(),
            inline(&syn).opening(1, 1),
        ),
        row("DSR: the frame on its way is not balanced again", dsr(true))
            .send(AT_C3, &syn.bytes(), one_armed(&syn).opening(1, 1))
            .send(AT_C3, &syn.clone().to_mac(B1.0).from_mac(VIP_MAC).bytes(), passed("already_balanced")),
        row("DSR: the backend's answer in the VIP's name is not ours", dsr(true))
            .send(AT_C3, &syn.bytes(), one_armed(&syn).opening(1, 1))
            .send(AT_B1, &answer.bytes(), passed("not_ours")),
        row("DSR does not touch a partial checksum, but counts it", dsr(true)).send(
            AT_C3,
            &syn.clone().checksum(Checksum::Partial).bytes(),
            one_armed(&syn.clone().checksum(Checksum::Partial)).opening(1, 1).also("partial_checksums", 1),
        ),
        row(
            "NAT one-armed: leaves by the port it came in on, from the VIP's MAC",
            lab_with(|s| s.vip(1).transmit = true),
        )
        .send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Transmit, 1, 1, syn.clone().to(at(B1, 80)).from_mac(VIP_MAC).bytes())
                .opening(1, 1),
        )
        .send(
            AT_B1,
            &b_tcp(B1, 4000, SYN | ACK, 1, b"").bytes(),
            replied(
                Action::Transmit,
                1,
                1,
                b_tcp(B1, 4000, SYN | ACK, 1, b"").from((VIP_MAC, VIP, 80)).bytes(),
            )
            .alive(1, 1, START),
        ),
    ]
}
