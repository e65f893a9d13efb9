//! Traffic that is not the balancer's: untouched, byte for byte.

use testbed::frame::{ACK, BROADCAST, Checksum, MORE_FRAGMENTS, PSH, Packet, SYN, octets, raw, v4};

use crate::lab::{AT_B1, AT_C3, B1, B2, C3, C4, C5, NOT_ATTACHED, VIP, VIP_MAC, at, lab, lab_with, vip};
use crate::row::{Row, passed, row};

pub fn rows() -> Vec<Row> {
    [plain(), other_ethertypes(), unusual_ipv4(), of_backends(), already_balanced()]
        .into_iter()
        .flatten()
        .collect()
}

fn plain() -> Vec<Row> {
    let tcp = Packet::tcp(at(C3, 4000), at(C4, 80), SYN, 1, b"");
    let udp = Packet::udp(at(C3, 4000), at(C4, 53), b"question");
    let ping = Packet::other(1, C3, C4, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    vec![
        row("TCP between two clients", lab()).send(AT_C3, &tcp.bytes(), passed("not_ours")),
        row("UDP between two clients", lab()).send(AT_C3, &udp.bytes(), passed("not_ours")),
        row("ping between two clients", lab()).send(AT_C3, &ping.bytes(), passed("not_ours")),
        row("a client to a backend directly", lab()).send(
            AT_C3,
            &Packet::tcp(at(C3, 4000), at(B1, 80), SYN, 1, b"").bytes(),
            passed("not_ours"),
        ),
        row("a wrong checksum is not mended", lab()).send(
            AT_C3,
            &tcp.clone().checksum(Checksum::Value(0xbad0)).bytes(),
            passed("not_ours"),
        ),
        row("a partial checksum of a stranger is not counted", lab()).send(
            AT_C3,
            &tcp.clone().checksum(Checksum::Partial).bytes(),
            passed("not_ours"),
        ),
        row("on an interface that is not attached", lab()).send(
            NOT_ATTACHED,
            &tcp.bytes(),
            passed("not_ours"),
        ),
        row("one VLAN tag", lab()).send(AT_C3, &tcp.clone().tag(0x8100, 5).bytes(), passed("not_ours")),
        row("two VLAN tags", lab()).send(
            AT_C3,
            &tcp.clone().tag(0x8100, 5).tag(0x88a8, 7).bytes(),
            passed("not_ours"),
        ),
        row("a bit shared with an address of ours: to nobody", lab_with(|s| s.stray_bits = vec![C4.1])).send(
            AT_C3,
            &tcp.bytes(),
            passed("not_ours"),
        ),
        row("a bit shared with an address of ours: from nobody", lab_with(|s| s.stray_bits = vec![C3.1]))
            .send(AT_C3, &tcp.bytes(), passed("no_connection")),
        row(
            "no VIP at all",
            lab_with(|s| {
                s.vips.clear();
                s.backends.clear();
            }),
        )
        .send(AT_C3, &Packet::tcp(at(C3, 4000), vip(80), SYN, 1, b"").bytes(), passed("not_ours")),
    ]
}

fn other_ethertypes() -> Vec<Row> {
    let vip_last =
        [&[0x60, 0, 0, 0, 0, 8, 17, 64][..], &[0xfd; 16], &[0; 12], &octets(VIP), &[0; 8]].concat();
    let ipv4_behind_three = Packet::tcp(at(C3, 4000), vip(80), SYN, 1, b"").tag(0x8100, 1);
    let ipv4_behind_three = ipv4_behind_three.tag(0x8100, 2).tag(0x88a8, 3).bytes();
    let to_vip = Packet::udp(at(C3, 4000), vip(53), b"").bytes();
    vec![
        row("IPv6 with a VIP's bytes in its address", lab()).send(
            AT_C3,
            &raw(VIP_MAC, C3.0, &[], 0x86dd, &vip_last),
            passed("not_ours"),
        ),
        row("IPv6 behind a VLAN tag", lab()).send(
            AT_C3,
            &raw(VIP_MAC, C3.0, &[(0x8100, 9)], 0x86dd, &vip_last),
            passed("not_ours"),
        ),
        row("LLDP", lab()).send(
            AT_C3,
            &raw([1, 0x80, 0xc2, 0, 0, 0x0e], C3.0, &[], 0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 3, 0, 0]),
            passed("not_ip"),
        ),
        row("spanning tree, a length instead of an EtherType", lab()).send(
            AT_C3,
            &raw([1, 0x80, 0xc2, 0, 0, 0], C3.0, &[], 38, &[0x42; 38]),
            passed("not_ip"),
        ),
        row("MPLS", lab()).send(AT_C3, &raw(VIP_MAC, C3.0, &[], 0x8847, &[0; 40]), passed("not_ip")),
        row("an Ethernet header and nothing else", lab()).send(
            AT_C3,
            &raw(VIP_MAC, C3.0, &[], 0x0800, &[]),
            passed("not_ip"),
        ),
        row("an IPv4 header cut short", lab()).send(AT_C3, &to_vip[..33], passed("not_ip")),
        row("a VLAN tag cut short", lab()).send(
            AT_C3,
            &raw(VIP_MAC, C3.0, &[], 0x8100, &[0, 5, 8]),
            passed("not_ip"),
        ),
        row("a second VLAN tag cut short", lab()).send(
            AT_C3,
            &raw(VIP_MAC, C3.0, &[(0x88a8, 5)], 0x8100, &[0]),
            passed("not_ip"),
        ),
        row("three VLAN tags are not looked behind", lab()).send(AT_C3, &ipv4_behind_three, passed("not_ip")),
        row("a frame of five bytes", lab()).without_program().send(AT_C3, &to_vip[..5], passed("not_ip")),
        row("a frame of no bytes", lab()).without_program().send(AT_C3, &[], passed("not_ip")),
    ]
}

fn unusual_ipv4() -> Vec<Row> {
    let tcp = Packet::tcp(at(C3, 4000), at(C4, 80), ACK | PSH, 1, b"data");
    vec![
        row("IPv4 options", lab()).send(
            AT_C3,
            &tcp.clone().ip_options(&[0x94, 4, 0, 0]).bytes(),
            passed("not_ours"),
        ),
        row("a first fragment", lab()).send(
            AT_C3,
            &tcp.clone().fragment(MORE_FRAGMENTS).bytes(),
            passed("not_ours"),
        ),
        row("a last fragment", lab()).send(AT_C3, &tcp.clone().fragment(185).bytes(), passed("not_ours")),
        row("a total length beyond the frame", lab()).send(
            AT_C3,
            &tcp.clone().total_length(4000).bytes(),
            passed("not_ours"),
        ),
        row("a header length of sixteen bytes", lab()).send(
            AT_C3,
            &tcp.clone().version_ihl(0x44).bytes(),
            passed("not_ours"),
        ),
        row("multicast", lab()).send(
            AT_C3,
            &Packet::udp(at(C3, 5353), ([1, 0, 0x5e, 0, 0, 0xfb], v4(224, 0, 0, 251), 5353), b"mdns").bytes(),
            passed("not_ours"),
        ),
        row("broadcast from a client without an address", lab()).send(
            AT_C3,
            &Packet::udp(
                ([2, 0, 0, 0, 0, 9], v4(0, 0, 0, 0), 68),
                (BROADCAST, v4(255, 255, 255, 255), 67),
                b"dhcp",
            )
            .bytes(),
            passed("not_ours"),
        ),
    ]
}

fn of_backends() -> Vec<Row> {
    let reply = Packet::tcp(at(B1, 80), at(C3, 4000), ACK, 1, b"direct");
    vec![
        row("a backend's own connection", lab()).send(
            AT_B1,
            &Packet::tcp(at(B1, 50000), at(C5, 443), SYN, 1, b"").bytes(),
            passed("no_connection"),
        ),
        row("a backend's service, reached directly", lab()).send(
            AT_B1,
            &reply.bytes(),
            passed("no_connection"),
        ),
        row("a backend to another", lab()).send(
            AT_B1,
            &Packet::udp(at(B1, 53), at(B2, 53), b"").bytes(),
            passed("no_connection"),
        ),
        row("a backend's ping", lab()).send(
            AT_B1,
            &Packet::other(1, B1, C3, &[0; 8]).bytes(),
            passed("no_connection"),
        ),
        row("a backend's fragment", lab()).send(
            AT_B1,
            &reply.clone().fragment(MORE_FRAGMENTS).bytes(),
            passed("no_connection"),
        ),
        row("a backend's packet with contradicting lengths", lab()).send(
            AT_B1,
            &reply.clone().total_length(30).bytes(),
            passed("no_connection"),
        ),
    ]
}

fn already_balanced() -> Vec<Row> {
    let other_mac = |packet: Packet| packet.to_mac(B1.0).bytes();
    vec![
        row("to the VIP, but to a backend's MAC", lab()).send(
            AT_C3,
            &other_mac(Packet::tcp(at(C3, 4000), vip(80), SYN, 1, b"")),
            passed("already_balanced"),
        ),
        row("to the VIP, but broadcast", lab()).send(
            AT_C3,
            &Packet::udp(at(C3, 4000), vip(53), b"").to_mac(BROADCAST).bytes(),
            passed("already_balanced"),
        ),
        row("a fragment to the VIP at a backend's MAC", lab()).send(
            AT_C3,
            &other_mac(Packet::udp(at(C3, 4000), vip(53), b"").fragment(MORE_FRAGMENTS)),
            passed("already_balanced"),
        ),
        row("ping to the VIP at a backend's MAC", lab()).send(
            AT_C3,
            &other_mac(Packet::other(1, C3, (VIP_MAC, VIP), &[8, 0, 0, 0])),
            passed("already_balanced"),
        ),
        row("to a port that nobody serves, at a backend's MAC", lab()).send(
            AT_C3,
            &other_mac(Packet::tcp(at(C3, 4000), vip(81), SYN, 1, b"")),
            passed("already_balanced"),
        ),
    ]
}
