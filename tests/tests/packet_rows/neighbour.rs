//! ARP and neighbour discovery of backends that have the VIP's address, too.

use testbed::frame::{Arp, BROADCAST, Ndp};
use testbed::scenario::{Mode, Scenario};

use crate::lab::{
    AT_B1, AT_C3, B1, B2, C3, C3_6, C4, C4_6, VIP, VIP_MAC, VIP6, VIP6_MAC, lab_with, lab6_with,
};
use crate::row::{Row, answered, corrected, passed, row, told};

pub fn rows() -> Vec<Row> {
    [arp(), ndp()].into_iter().flatten().collect()
}

fn shared() -> Scenario {
    lab_with(|s| s.vip(1).mode = Mode::Dsr)
}

fn shared6() -> Scenario {
    lab6_with(|s| s.vip(1).mode = Mode::Dsr)
}

/// The frame with the VIP's MAC as its sender.
fn as_vip(arp: &Arp) -> Vec<u8> {
    Arp { src_mac: VIP_MAC, sender: (VIP_MAC, arp.sender.1), ..arp.clone() }.bytes()
}

fn arp() -> Vec<Row> {
    let asks = Arp::request((B1.0, VIP), C3.1);
    let answer = Arp { dst_mac: VIP_MAC, ..asks.answered_by(C3.0) };
    let answer = Arp { target: (VIP_MAC, VIP), ..answer };
    let delivered = Arp { dst_mac: B1.0, target: (B1.0, VIP), ..answer.clone() };
    let asked = |name: &str, scenario: Scenario, arp: &Arp| {
        row(name, scenario).send(AT_B1, &arp.bytes(), corrected("neighbour_corrected", as_vip(arp)))
    };
    vec![
        asked("a backend asks for a client in the VIP's name", shared(), &asks),
        asked("behind a VLAN tag", shared(), &asks.clone().tag(0x8100, 5)),
        asked("of an IPIP VIP", lab_with(|s| s.vip(1).mode = Mode::Ipip), &asks),
        asked("a backend announces the VIP", shared(), &Arp::request((B1.0, VIP), VIP)),
        asked("a backend answers for the VIP", shared(), &Arp::request(C3, VIP).answered_by(B1.0)),
        asked("the answer goes to who asked", shared(), &asks).send(
            AT_C3,
            &answer.bytes(),
            corrected("neighbour_to_backend", delivered.bytes()),
        ),
        asked("the answer goes to who asked, however often", shared(), &asks)
            .send(AT_C3, &answer.bytes(), corrected("neighbour_to_backend", delivered.bytes()))
            .send(AT_C3, &answer.bytes(), corrected("neighbour_to_backend", delivered.bytes())),
        asked("the last one that asked gets it", shared(), &asks)
            .send(
                12,
                &Arp::request((B2.0, VIP), C3.1).bytes(),
                corrected("neighbour_corrected", as_vip(&Arp::request((B2.0, VIP), C3.1))),
            )
            .send(
                AT_C3,
                &answer.bytes(),
                corrected(
                    "neighbour_to_backend",
                    Arp { dst_mac: B2.0, target: (B2.0, VIP), ..answer.clone() }.bytes(),
                ),
            ),
        asked("an answer of somebody else, for whom nobody asked", shared(), &asks).send(
            AT_C3,
            &Arp { sender: C4, ..answer.clone() }.bytes(),
            passed("arp_other"),
        ),
        asked("an announcement asks for nobody", shared(), &Arp::request((B1.0, VIP), VIP)).send(
            AT_C3,
            &Arp { sender: (VIP_MAC, VIP), ..answer.clone() }.bytes(),
            passed("arp_other"),
        ),
        row("an answer to the VIP that nobody asked for", shared()).send(
            AT_C3,
            &answer.bytes(),
            passed("arp_other"),
        ),
        asked("an answer that goes to another MAC", shared(), &asks).send(
            AT_C3,
            &Arp { dst_mac: BROADCAST, ..answer.clone() }.bytes(),
            passed("arp_other"),
        ),
        row(
            "one-armed it is only named",
            lab_with(|s| {
                s.vip(1).mode = Mode::Dsr;
                s.vip(1).transmit = true;
            }),
        )
        .send(AT_B1, &asks.bytes(), passed("arp_vip_claimed"))
        .send(AT_C3, &answer.bytes(), passed("arp_other")),
        row("of a NAT VIP it is only named", crate::lab::lab()).send(
            AT_B1,
            &asks.bytes(),
            passed("arp_vip_claimed"),
        ),
        row("a client's request for the VIP is answered all the same", shared()).send(
            AT_C3,
            &Arp::request(C3, VIP).bytes(),
            answered(Arp::request(C3, VIP).answered_by(VIP_MAC).bytes()),
        ),
    ]
}

fn ndp() -> Vec<Row> {
    let asks = Ndp::solicit((B1.0, VIP6), C3_6.1);
    let corrected_ask = Ndp { src_mac: VIP6_MAC, options: [&[1, 1][..], &VIP6_MAC].concat(), ..asks.clone() };
    let asked = |name: &str| {
        row(name, shared6()).send(
            AT_B1,
            &asks.bytes(),
            corrected("neighbour_corrected", corrected_ask.bytes()),
        )
    };
    let answer = corrected_ask.answered_by(C3_6.0);
    let announced = Ndp::advertise((B1.0, VIP6));
    let without = Ndp { options: Vec::new(), ..announced.clone() };
    vec![
        asked("NDP: a backend asks for a client in the VIP's name"),
        asked("NDP: the answer goes to who asked").send(
            AT_C3,
            &answer.bytes(),
            corrected("neighbour_to_backend", Ndp { dst_mac: B1.0, ..answer.clone() }.bytes()),
        ),
        asked("NDP: an answer of somebody else, for whom nobody asked").send(
            AT_C3,
            &Ndp { target: C4_6.1, ..answer.clone() }.bytes(),
            passed("not_ours"),
        ),
        asked("NDP: an answer to another MAC has been corrected already").send(
            AT_C3,
            &Ndp { dst_mac: B1.0, ..answer.clone() }.bytes(),
            passed("already_balanced"),
        ),
        row("NDP: a backend advertises the VIP", shared6()).send(
            AT_B1,
            &announced.bytes(),
            corrected(
                "neighbour_corrected",
                Ndp { src_mac: VIP6_MAC, options: [&[2, 1][..], &VIP6_MAC].concat(), ..announced.clone() }
                    .bytes(),
            ),
        ),
        row("NDP: a backend advertises the VIP without an option", shared6()).send(
            AT_B1,
            &without.bytes(),
            corrected("neighbour_corrected", Ndp { src_mac: VIP6_MAC, ..without.clone() }.bytes()),
        ),
        row("NDP: behind VLAN tags", shared6()).send(
            AT_B1,
            &asks.clone().tag(0x8100, 5).tag(0x88a8, 7).bytes(),
            corrected("neighbour_corrected", corrected_ask.clone().tag(0x8100, 5).tag(0x88a8, 7).bytes()),
        ),
        row("NDP: a wrong checksum stays wrong", shared6()).send(
            AT_B1,
            &Ndp { checksum: Some(0x1234), ..asks.clone() }.bytes(),
            corrected("neighbour_corrected", {
                use testbed::oracle::sum;
                let words = |mac: [u8; 6]| [0, 2, 4].map(|at| u16::from_be_bytes([mac[at], mac[at + 1]]));
                let checksum = Some(sum::updated(0x1234, &words(B1.0), &words(VIP6_MAC)));
                Ndp { checksum, ..corrected_ask.clone() }.bytes()
            }),
        ),
        row(
            "NDP: one-armed it is only named",
            lab6_with(|s| {
                s.vip(1).mode = Mode::Dsr;
                s.vip(1).transmit = true;
            }),
        )
        .send(AT_B1, &asks.bytes(), passed("ndp_vip_claimed")),
        row("NDP: a client's solicitation for the VIP is answered all the same", shared6()).send(
            AT_C3,
            &Ndp::solicit(C3_6, VIP6).bytes(),
            told("ndp_answered", Ndp::solicit(C3_6, VIP6).answered_by(VIP6_MAC).bytes()),
        ),
    ]
}
