//! ARP: requests for a VIP are answered, all else passes.

use testbed::frame::{Arp, BROADCAST, raw, v4};

use crate::lab::{AT_B1, AT_C3, B1, C3, C4, NOT_ATTACHED, VIP, VIP_MAC, lab};
use crate::row::{Row, answered, passed, row};

pub fn rows() -> Vec<Row> {
    [requests(), others(), malformed()].into_iter().flatten().collect()
}

fn answer(name: &'static str, request: &Arp) -> Row {
    row(name, lab()).send(AT_C3, &request.bytes(), answered(request.answered_by(VIP_MAC).bytes()))
}

fn requests() -> Vec<Row> {
    let request = Arp::request(C3, VIP);
    let probe = Arp::request((C3.0, v4(0, 0, 0, 0)), VIP);
    vec![
        row("a broadcast request, by literal bytes", lab()).send(
            AT_C3,
            &[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 3, 8, 6, // Ethernet
                0, 1, 8, 0, 6, 4, 0, 1, // request
                2, 0, 0, 0, 0, 3, 10, 0, 0, 3, // sender
                0, 0, 0, 0, 0, 0, 10, 0, 1, 1, // target
            ],
            answered(vec![
                2, 0, 0, 0, 0, 3, 2, 0x6c, 10, 0, 1, 1, 8, 6, //
                0, 1, 8, 0, 6, 4, 0, 2, //
                2, 0x6c, 10, 0, 1, 1, 10, 0, 1, 1, //
                2, 0, 0, 0, 0, 3, 10, 0, 0, 3,
            ]),
        ),
        answer("a broadcast request, padded", &request),
        answer("a unicast request to the virtual MAC", &Arp { dst_mac: VIP_MAC, ..request.clone() }),
        answer("a multicast request", &Arp { dst_mac: [1, 0, 0x5e, 0, 0, 1], ..request.clone() }),
        answer("a probe: sender 0.0.0.0", &probe),
        answer("behind a VLAN tag", &request.clone().tag(0x8100, 0x2005)),
        answer("behind two VLAN tags", &request.clone().tag(0x8100, 5).tag(0x88a8, 7)),
        answer("without padding", &Arp { padding: 0, ..request.clone() }),
        answer(
            "the frame's source differs from the sender: the sender is answered",
            &Arp { src_mac: [2, 9, 9, 9, 9, 9], ..request.clone() },
        ),
        answer("the VIP's own announcement as a request", &Arp::request((VIP_MAC, VIP), VIP)),
        answer("a target MAC that is not zero", &Arp { target: ([0xff; 6], VIP), ..request.clone() }),
        row("from a backend", lab()).send(
            AT_B1,
            &Arp::request(B1, VIP).bytes(),
            answered(Arp::request(B1, VIP).answered_by(VIP_MAC).bytes()),
        ),
        row("on an interface that is not attached", lab()).send(
            NOT_ATTACHED,
            &request.bytes(),
            answered(request.answered_by(VIP_MAC).bytes()),
        ),
    ]
}

fn others() -> Vec<Row> {
    let request = Arp::request(C3, VIP);
    let pass = |name, arp: &Arp, reason| row(name, lab()).send(AT_C3, &arp.bytes(), passed(reason));
    vec![
        pass("a request for a client", &Arp::request(C3, C4.1), "arp_other"),
        pass("a request for a backend", &Arp::request(C3, B1.1), "arp_other"),
        pass("a reply of a client", &Arp::request(C4, C3.1).answered_by(C4.0), "arp_other"),
        pass("a gratuitous request of a client", &Arp::request(C3, C3.1), "arp_other"),
        pass("a unicast request to another MAC", &Arp { dst_mac: C4.0, ..request.clone() }, "arp_other"),
        pass("a reply to the VIP", &Arp { operation: 2, ..request.clone() }, "arp_other"),
        pass("operation 3", &Arp { operation: 3, ..request.clone() }, "arp_other"),
        pass("operation 0x0101", &Arp { operation: 0x0101, ..request.clone() }, "arp_other"),
        pass(
            "somebody claims the VIP by a reply",
            &Arp::request(C3, VIP).answered_by(C4.0),
            "arp_vip_claimed",
        ),
        pass(
            "somebody claims the VIP by a gratuitous request",
            &Arp::request((C4.0, VIP), VIP),
            "arp_vip_claimed",
        ),
        pass("somebody asks in the VIP's name", &Arp::request((C4.0, VIP), C3.1), "arp_vip_claimed"),
        pass(
            "the VIP's own announcement as a reply",
            &Arp::request(C3, VIP).answered_by(VIP_MAC),
            "arp_other",
        ),
        pass("the VIP's virtual MAC asks for a client", &Arp::request((VIP_MAC, VIP), C3.1), "arp_other"),
    ]
}

fn malformed() -> Vec<Row> {
    let request = Arp::request(C3, VIP);
    let head = |name, head: [u8; 6]| {
        row(name, lab()).send(AT_C3, &Arp { head, ..request.clone() }.bytes(), passed("arp_other"))
    };
    vec![
        head("hardware type 6", [0, 6, 8, 0, 6, 4]),
        head("protocol type IPv6", [0, 1, 0x86, 0xdd, 6, 4]),
        head("hardware length 8", [0, 1, 8, 0, 8, 4]),
        head("protocol length 16", [0, 1, 8, 0, 6, 16]),
        row("cut one byte short", lab()).send(AT_C3, &request.bytes()[..41], passed("not_ip")),
        row("nothing behind the EtherType", lab()).send(
            AT_C3,
            &raw(BROADCAST, C3.0, &[], 0x0806, &[]),
            passed("not_ip"),
        ),
        row("RARP", lab()).send(
            AT_C3,
            &raw(BROADCAST, C3.0, &[], 0x8035, &request.bytes()[14..]),
            passed("not_ip"),
        ),
    ]
}
