//! Which VIP serves a port: exact ports, ranges, every port, prefixes.

use testbed::frame::{Ip, Packet, SYN, v6};
use testbed::scenario::{Mode, Protocol, Scenario};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_C3, B1, B1_6, B2, B2_6, C3, C3_6, VIP, VIP_MAC, VIP6, a_backend, a_vip, at, lab, lab_with,
    lab6_with, vip,
};
use crate::row::{Row, START, dropped, forwarded, passed, replied, row};

pub fn rows() -> Vec<Row> {
    [ranges(), prefixes()].into_iter().flatten().collect()
}

/// VIP 1 serves TCP 100 to 200, VIP 2 TCP 150 to 300 and TCP 120, VIP 3 every TCP port; one backend each.
fn in_ranges() -> Scenario {
    use Protocol::{Tcp, Udp};
    lab_with(|s| {
        s.vips = vec![
            a_vip(1, VIP, &[], &[1]),
            a_vip(2, VIP, &[(Tcp, 120)], &[2]),
            a_vip(3, VIP, &[(Tcp, 0)], &[3]),
        ];
        s.vip(1).ranges = vec![(Tcp, 100, 200), (Udp, 7, 7)];
        s.vip(2).ranges = vec![(Tcp, 150, 300)];
        s.backends = vec![a_backend(1, 1, B1, 1), a_backend(2, 2, B2, 2), a_backend(3, 3, B2, 2)];
    })
}

fn ranges() -> Vec<Row> {
    let served = |name: &str, port: u16, by: u16| {
        let (slot, host) = if by == 1 { (1, B1) } else { (2, B2) };
        let syn = Packet::tcp(at(C3, 4000), vip(port), SYN, 1, b"");
        let out = syn.clone().to(at(host, port)).bytes();
        row(name, in_ranges()).send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Redirect(slot), by, by, out).opening(by, by),
        )
    };
    let only = || {
        let mut scenario = in_ranges();
        scenario.vips.truncate(1);
        scenario.backends.truncate(1);
        scenario
    };
    let refused = |name: &str, packet: &Packet| {
        row(name, only()).send(AT_C3, &packet.bytes(), dropped("vip_no_service", 1))
    };
    let tcp = |port| Packet::tcp(at(C3, 4000), vip(port), SYN, 1, b"");
    let reply = Packet::tcp(at(B1, 130), at(C3, 4000), 0x12, 1, b"");
    vec![
        served("the first port of a range", 100, 1),
        served("the last port of a range", 200, 1),
        served("the first of two ranges that hold a port", 150, 1),
        served("behind the first range comes the second", 201, 2),
        served("the last port of the second range", 300, 2),
        served("a VIP of exactly this port goes before a range", 120, 2),
        served("every port is left to the last", 301, 3),
        served("every port below the ranges", 99, 3),
        served("port 0 is every port's", 0, 3),
        refused("a port below the only range", &tcp(99)),
        refused("a port above the only range", &tcp(201)),
        refused("a TCP range is none of UDP", &Packet::udp(at(C3, 4000), vip(150), b"")),
        row("a range of one UDP port", only()).send(
            AT_C3,
            &Packet::udp(at(C3, 4000), vip(7), b"").bytes(),
            {
                let out = Packet::udp(at(C3, 4000), at(B1, 7), b"").bytes();
                forwarded(Action::Redirect(1), 1, 1, out).opening(1, 1)
            },
        ),
        row("a reply of a range keeps its port", only())
            .send(
                AT_C3,
                &tcp(130).bytes(),
                forwarded(Action::Redirect(1), 1, 1, tcp(130).to(at(B1, 130)).bytes()).opening(1, 1),
            )
            .send(
                AT_B1,
                &reply.bytes(),
                replied(Action::Redirect(3), 1, 1, reply.clone().from(vip(130)).bytes()).alive(1, 1, START),
            ),
        row("a range that a change removes", only()).change(|s| s.vip(1).ranges.clear()).send(
            AT_C3,
            &tcp(130).bytes(),
            dropped("vip_no_service", 1),
        ),
    ]
}

/// VIP 1 is 2001:db8::1:0/112, every UDP port and TCP 80; VIP 2 is 2001:db8::1:8000/114 within, TCP 1 to 1000.
fn in_prefixes() -> Scenario {
    use Protocol::{Tcp, Udp};
    lab6_with(|s| {
        s.vips = vec![a_vip(1, v6(1, 0), &[(Tcp, 80), (Udp, 0)], &[1]), a_vip(2, v6(1, 0x8000), &[], &[2])];
        s.vip(2).ranges = vec![(Tcp, 1, 1000)];
        for (vip, length) in s.vips.iter_mut().zip([112, 114]) {
            vip.mode = Mode::Dsr;
            vip.prefix = Some(length);
        }
        s.backends = vec![a_backend(1, 1, B1_6, 1), a_backend(2, 2, B2_6, 2)];
    })
}

fn prefixes() -> Vec<Row> {
    let mac = |by: u16| [2, 0x6c, 6, 0, 0, by as u8];
    let served = |name: &str, address: Ip, port: u16, by: u16| {
        let syn = Packet::tcp(at(C3_6, 4000), (mac(by), address, port), SYN, 1, b"");
        let (slot, host) = if by == 1 { (1, B1_6) } else { (2, B2_6) };
        let out = syn.clone().to_mac(host.0).bytes();
        row(name, in_prefixes()).send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Redirect(slot), by, by, out).opening(by, by),
        )
    };
    let to =
        |address: Ip, port: u16, by: u16| Packet::tcp(at(C3_6, 4000), (mac(by), address, port), SYN, 1, b"");
    let udp = Packet::udp(at(C3_6, 4000), (mac(1), v6(1, 9), 9), b"");
    vec![
        served("the first address of a prefix", v6(1, 0), 80, 1),
        served("the last address in front of the longer prefix", v6(1, 0x7fff), 80, 1),
        served("the longer prefix goes first", v6(1, 0x8000), 80, 2),
        served("the last address of the longer prefix", v6(1, 0xbfff), 1000, 2),
        served("behind the longer prefix", v6(1, 0xc000), 80, 1),
        row("a port that the longer prefix does not serve", in_prefixes()).send(
            AT_C3,
            &to(v6(1, 0x8000), 1001, 2).bytes(),
            dropped("vip_no_service", 2),
        ),
        row("a port that the prefix does not serve", in_prefixes()).send(
            AT_C3,
            &to(v6(1, 1), 81, 1).bytes(),
            dropped("vip_no_service", 1),
        ),
        row("every UDP port of a prefix", in_prefixes()).send(
            AT_C3,
            &udp.bytes(),
            forwarded(Action::Redirect(1), 1, 1, udp.clone().to_mac(B1_6.0).bytes()).opening(1, 1),
        ),
        row("an address beside the prefix", in_prefixes()).send(
            AT_C3,
            &to(v6(2, 0), 80, 1).bytes(),
            passed("not_ours"),
        ),
        row("an address of a prefix, to another MAC", in_prefixes()).send(
            AT_C3,
            &to(v6(1, 1), 80, 2).bytes(),
            passed("already_balanced"),
        ),
        row("two addresses of a prefix are one VIP: the flow is the same", in_prefixes())
            .send(
                AT_C3,
                &to(v6(1, 1), 80, 1).bytes(),
                forwarded(Action::Redirect(1), 1, 1, to(v6(1, 1), 80, 1).to_mac(B1_6.0).bytes())
                    .opening(1, 1),
            )
            .send(
                AT_C3,
                &to(v6(1, 2), 80, 1).bytes(),
                forwarded(Action::Redirect(1), 1, 1, to(v6(1, 2), 80, 1).to_mac(B1_6.0).bytes()),
            )
            .connections(&[("syn", 1)]),
        row("an address of its own in a prefix: what it does not serve is the prefix's", {
            let mut scenario = in_prefixes();
            scenario.vips.push(a_vip(3, VIP6, &[(Protocol::Tcp, 22)], &[1]));
            scenario.vips[2].mac = mac(1);
            scenario
        })
        .send(
            AT_C3,
            &to(VIP6, 80, 1).bytes(),
            forwarded(Action::Redirect(1), 1, 1, to(VIP6, 80, 1).to_mac(B1_6.0).bytes()).opening(1, 1),
        )
        .send(AT_C3, &to(VIP6, 81, 1).bytes(), dropped("vip_no_service", 3)),
        row("a prefix is none of IPv4's", lab())
            .change(|s| {
                let mut prefix = a_vip(2, v6(0, 0), &[(Protocol::Tcp, 80)], &[1]);
                prefix.prefix = Some(0);
                prefix.mode = Mode::Dsr;
                s.vips.push(prefix);
            })
            .send(
                AT_C3,
                &Packet::tcp(at(C3, 4000), (VIP_MAC, crate::lab::C4.1, 80), SYN, 1, b"").bytes(),
                passed("not_ours"),
            ),
    ]
}
