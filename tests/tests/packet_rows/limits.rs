//! Lists, limits, the cap on new connections, and what is said when nobody is up.

use testbed::frame::{ACK, Ip, L4, Packet, RST, SYN, v4, v6};
use testbed::oracle::hash;
use testbed::scenario::{Listed, Mode, Protocol, Scenario, State};
use testbed::side::Action;

use crate::half_open::set_window;
use crate::lab::{
    AT_B1, AT_C3, AT_C4, B1, B2, C3, C3_6, C4, Host, VIP_MAC, VIP6, VIP6_MAC, at, b_tcp, c3_tcp, lab,
    lab_with, lab6_with, to_b1, to_b2, to_c3_alive, vip, vip6,
};
use crate::row::{Expect, Row, dropped, forwarded, passed, replied, row, told};

pub fn rows() -> Vec<Row> {
    [lists(), sources(), cap(), stateless(), rejected()].into_iter().flatten().collect()
}

fn syn(port: u16) -> Packet {
    c3_tcp(port, SYN, 1, b"")
}

fn of_c4(port: u16) -> Packet {
    Packet::tcp(at(C4, port), vip(80), SYN, 1, b"")
}

fn listed(list: &[(Ip, u8, bool)], deny_others: bool) -> Scenario {
    lab_with(|s| {
        s.vip(1).deny_others = deny_others;
        s.vip(1).listed = list
            .iter()
            .map(|(address, length, allowed)| Listed {
                address: *address,
                length: *length,
                allowed: *allowed,
            })
            .collect();
    })
}

fn lists() -> Vec<Row> {
    let let_in = |name: &str, scenario: Scenario| {
        row(format!("lists: {name}"), scenario).send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
    };
    let refused = |name: &str, scenario: Scenario| {
        row(format!("lists: {name}"), scenario)
            .send(AT_C3, &syn(1).bytes(), dropped("denied", 1))
            .connections(&[])
    };
    let c3_6 = Packet::tcp(at(C3_6, 1), vip6(80), SYN, 1, b"");
    vec![
        refused("a client that is denied", listed(&[(C3.1, 32, false)], false)),
        let_in("a client that is not the one that is denied", listed(&[(C4.1, 32, false)], false)),
        refused("a network that is denied", listed(&[(v4(10, 0, 0, 0), 24, false)], false)),
        let_in(
            "a client of a denied network",
            listed(&[(v4(10, 0, 0, 0), 24, false), (C3.1, 32, true)], false),
        ),
        refused(
            "a denied client of an allowed network",
            listed(&[(v4(10, 0, 0, 0), 8, true), (C3.1, 32, false)], false),
        ),
        refused("nobody else than who is listed", listed(&[(C4.1, 32, true)], true)),
        let_in("who is listed, and nobody else", listed(&[(C3.1, 32, true)], true)),
        refused("everybody", listed(&[(v4(0, 0, 0, 0), 0, false)], false)),
        refused("nobody at all is listed", listed(&[], true)),
        row("lists: a connection that is there goes on", lab())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .change(|s| s.vip(1).deny_others = true)
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)))
            .send(
                AT_B1,
                &b_tcp(B1, 1, SYN | ACK, 9, b"").bytes(),
                to_c3_alive(1, &b_tcp(B1, 1, SYN | ACK, 9, b"")),
            )
            .send(AT_C3, &syn(2).bytes(), dropped("denied", 1)),
        row("lists: a reset of no connection, too", listed(&[(C3.1, 32, false)], false)).send(
            AT_C3,
            &c3_tcp(1, RST, 1, b"").bytes(),
            dropped("denied", 1),
        ),
        row("lists: who is denied counts for no limit", {
            let mut scenario = listed(&[(C3.1, 32, false)], false);
            scenario.max_new = 1;
            scenario
        })
        .send(AT_C3, &syn(1).bytes(), dropped("denied", 1))
        .send(AT_C4, &of_c4(1).bytes(), to_b1(&of_c4(1)).opening(1, 1)),
        row(
            "lists: an IPv6 network",
            lab6_with(|s| s.vip(1).listed = vec![Listed { address: v6(0, 0), length: 112, allowed: false }]),
        )
        .send(AT_C3, &c3_6.bytes(), dropped("denied", 1)),
        row(
            "lists: an IPv4 network says nothing of IPv6 clients",
            lab6_with(|s| {
                s.vip(1).listed = vec![Listed { address: v4(0, 0, 0, 0), length: 0, allowed: false }];
            }),
        )
        .send(
            AT_C3,
            &c3_6.bytes(),
            forwarded(Action::Redirect(1), 1, 1, c3_6.clone().to(at(crate::lab::B1_6, 80)).bytes())
                .opening(1, 1),
        ),
    ]
}

fn sources() -> Vec<Row> {
    let two = || lab_with(|s| s.vip(1).per_source = 2);
    vec![
        row("source limit: the third connection in a window", two())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .send(AT_C3, &syn(2).bytes(), to_b2(&syn(2)).opening(1, 2))
            .send(AT_C3, &syn(3).bytes(), dropped("source_limit", 1)),
        row("source limit: another client has its own", two())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .send(AT_C3, &syn(2).bytes(), to_b2(&syn(2)).opening(1, 2))
            .send(AT_C4, &of_c4(1).bytes(), to_b1(&of_c4(1)).opening(1, 1)),
        // The row begins at 1,000,000: 192 ticks before the next window.
        row("source limit: the next window is another", two())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .send(AT_C3, &syn(2).bytes(), to_b2(&syn(2)).opening(1, 2))
            .advance(191)
            .send(AT_C3, &syn(3).bytes(), dropped("source_limit", 1))
            .advance(1)
            .send(AT_C3, &syn(3).bytes(), to_b1(&syn(3)).opening(1, 1)),
        row("source limit: what is there goes on", two())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)))
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)))
            .send(AT_C3, &syn(2).bytes(), to_b2(&syn(2)).opening(1, 2)),
        row(
            "source limit: a try that finds nobody counts",
            lab_with(|s| {
                s.vip(1).per_source = 1;
                s.vip(1).ring.clear();
            }),
        )
        .send(AT_C3, &syn(1).bytes(), dropped("no_backend", 1))
        .send(AT_C3, &syn(1).bytes(), dropped("source_limit", 1)),
    ]
}

fn capped(change: impl FnOnce(&mut Scenario)) -> Scenario {
    lab_with(|s| {
        s.max_new = 1;
        change(s);
    })
}

fn cap() -> Vec<Row> {
    let first = |name: &str, scenario: Scenario| {
        row(format!("cap: {name}"), scenario).send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
    };
    let query = Packet::udp(at(C3, 9), vip(53), b"?");
    vec![
        first("the second new connection in a window", capped(|_| ()))
            .send(AT_C3, &syn(2).bytes(), dropped("new_flow_cap", 1))
            .connections(&[("syn", 1)]),
        first("another client's, too", capped(|_| ())).send(
            AT_C4,
            &of_c4(1).bytes(),
            dropped("new_flow_cap", 1),
        ),
        first("UDP, too", capped(|_| ())).send(AT_C3, &query.bytes(), dropped("new_flow_cap", 1)),
        first("a packet in the middle of a flow, too", capped(|_| ())).send(
            AT_C3,
            &c3_tcp(2, ACK, 1, b"").bytes(),
            dropped("new_flow_cap", 1),
        ),
        first("a SYN that is repeated is not looked up", capped(|_| ())).send(
            AT_C3,
            &syn(1).bytes(),
            dropped("new_flow_cap", 1),
        ),
        first("what is there goes on", capped(|_| ()))
            .send(
                AT_B1,
                &b_tcp(B1, 1, SYN | ACK, 9, b"").bytes(),
                to_c3_alive(1, &b_tcp(B1, 1, SYN | ACK, 9, b"")),
            )
            .send(AT_C3, &c3_tcp(1, ACK, 2, b"").bytes(), to_b1(&c3_tcp(1, ACK, 2, b"")))
            .half_open(0),
        first("the next window is another", capped(|_| ())).advance(192).send(
            AT_C3,
            &syn(2).bytes(),
            to_b2(&syn(2)).opening(1, 2),
        ),
        row("cap: what makes no entry does not count", capped(|s| s.vip(1).ring = vec![1]))
            .send(AT_C3, &c3_tcp(7, RST, 1, b"").bytes(), to_b1(&c3_tcp(7, RST, 1, b"")))
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1)),
        row("cap: VIPs share it", {
            let mut scenario = capped(|_| ());
            scenario.vips.push(crate::lab::a_vip(2, v4(10, 0, 1, 2), &[(Protocol::Tcp, 80)], &[3]));
            scenario.backends.push(crate::lab::a_backend(3, 2, B2, 2));
            scenario
        })
        .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
        .send(
            AT_C3,
            &Packet::tcp(at(C3, 1), ([2, 0x6c, 10, 0, 1, 2], v4(10, 0, 1, 2), 80), SYN, 1, b"").bytes(),
            dropped("new_flow_cap", 2),
        ),
    ]
}

/// The member that the consistent hash gives C3's port.
fn member(port: u16) -> (u16, Host) {
    if hash::maglev_slot(hash::flow(C3.1, port, 80, 6)).is_multiple_of(2) { (1, B1) } else { (2, B2) }
}

fn stateless() -> Vec<Row> {
    let over = || {
        capped(|s| {
            s.vip(1).services = vec![(Protocol::Tcp, 80)];
            s.vip(1).stateless = true;
        })
    };
    let by_hash = |packet: &Packet| -> Expect {
        let (slot, host) = member(packet.sport);
        forwarded(Action::Redirect(slot), 1, slot, packet.clone().to(at(host, 80)).bytes())
    };
    let out = |packet: &Packet| {
        // Without an entry it is not known where the client is, nor which record the backend is.
        let bytes = packet.clone().from(vip(80)).bytes();
        let length = bytes.len() as i128;
        Expect::to_switch("to_client_switch", bytes)
            .also("vip:1:packets_out", 1)
            .also("vip:1:bytes_out", length)
    };
    let reply = b_tcp(B1, 9, SYN | ACK, 1, b"");
    let dsr = capped(|s| s.vip(1).mode = Mode::Dsr);
    let dsr_out = |packet: &Packet| {
        let (slot, host) = member(packet.sport);
        forwarded(Action::Redirect(slot), 1, slot, packet.clone().to_mac(host.0).bytes())
    };
    vec![
        row("over_cap = stateless: by the consistent hash, without an entry", over())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .send(AT_C3, &syn(2).bytes(), by_hash(&syn(2)))
            .send(AT_C3, &syn(3).bytes(), by_hash(&syn(3)))
            .send(AT_C3, &c3_tcp(3, ACK, 2, b"").bytes(), by_hash(&c3_tcp(3, ACK, 2, b"")))
            .connections(&[("syn", 1)]),
        row("over_cap = stateless: a reply without an entry is the VIP's", over())
            .send(AT_B1, &reply.bytes(), out(&reply))
            .connections(&[]),
        row("over_cap = stateless: a reply of another port is not", over()).send(
            AT_B1,
            &Packet { sport: 81, ..reply.clone() }.bytes(),
            passed("no_connection"),
        ),
        row("over_cap = stateless: not where the service has two VIPs", {
            let mut scenario = over();
            let mut second = crate::lab::a_vip(2, v4(10, 0, 1, 2), &[(Protocol::Tcp, 80)], &[3]);
            second.stateless = true;
            scenario.vips.push(second);
            scenario.backends.push(crate::lab::a_backend(3, 2, B1, 1));
            scenario
        })
        .send(AT_B1, &reply.bytes(), passed("no_connection")),
        row("over_cap = stateless: one-armed, a reply leaves where it came in", {
            let mut scenario = over();
            scenario.vip(1).transmit = true;
            scenario
        })
        .send(AT_B1, &reply.bytes(), {
            let bytes = reply.clone().from(vip(80)).bytes();
            let length = bytes.len() as i128;
            told("to_client_transmit", bytes).also("vip:1:packets_out", 1).also("vip:1:bytes_out", length)
        }),
        row("over_cap = stateless: port translation both ways", {
            let mut scenario = over();
            scenario.backend(1).port = 8001;
            scenario
        })
        .send(AT_B1, &Packet { sport: 8001, ..reply.clone() }.bytes(), out(&reply)),
        row("over_cap = stateless: nobody up", {
            let mut scenario = over();
            scenario.vip(1).reject = true;
            scenario
        })
        .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
        .change(|s| s.vip(1).ring.clear())
        .send(AT_C3, &syn(2).bytes(), dropped("no_backend", 1)),
        row("DSR beyond the cap goes on by the consistent hash", dsr)
            .send(
                AT_C3,
                &syn(1).bytes(),
                forwarded(Action::Redirect(1), 1, 1, syn(1).to_mac(B1.0).bytes()).opening(1, 1),
            )
            .send(AT_C3, &syn(2).bytes(), dsr_out(&syn(2)))
            .send(AT_C3, &syn(3).bytes(), dsr_out(&syn(3)))
            .connections(&[("syn", 1)]),
        row("without the option a reply without an entry passes", lab()).send(
            AT_B1,
            &reply.bytes(),
            passed("no_connection"),
        ),
    ]
}

fn rejected() -> Vec<Row> {
    let nobody = |protocol: Protocol, port: u16| {
        lab_with(|s| {
            s.vip(1).services = vec![(protocol, port)];
            s.vip(1).reject = true;
            s.backend(1).state = State::Down;
            s.backend(2).state = State::Down;
        })
    };
    let tcp = || nobody(Protocol::Tcp, 80);
    let udp = || nobody(Protocol::Udp, 53);
    let tcp6 = || {
        lab6_with(|s| {
            s.vip(1).services = vec![(Protocol::Tcp, 80)];
            s.vip(1).reject = true;
            s.vip(1).ring.clear();
        })
    };
    let udp6 = || {
        lab6_with(|s| {
            s.vip(1).services = vec![(Protocol::Udp, 53)];
            s.vip(1).reject = true;
            s.vip(1).ring.clear();
        })
    };
    let rst = |from: (testbed::frame::Mac, Ip), to: Host, flags: u8, seq: u32, number: u32| {
        let mut rst = Packet::tcp((from.0, from.1, 80), at(to, 4000), flags, seq, b"");
        set_window(&mut rst, 0);
        if let L4::Tcp { ack, .. } = &mut rst.l4 {
            *ack = number;
        }
        rst
    };
    let vip4 = (VIP_MAC, crate::lab::VIP);
    let c3 = |flags, payload: &[u8]| c3_tcp(4000, flags, 100, payload);
    let query = Packet::udp(at(C3, 4000), vip(53), b"a question of some length");
    let query6 = Packet::udp(at(C3_6, 4000), vip6(53), b"a question of some length");
    let unreachable = |query: &Packet| Packet::icmp(vip4, C3, (3, 3), [0; 4], &query.quoted()).id(0);
    let syn6 = Packet::tcp(at(C3_6, 4000), vip6(80), SYN, 100, b"");
    vec![
        row("reject: a SYN gets a reset that acknowledges it", tcp())
            .send(AT_C3, &c3(SYN, b"").bytes(), told("rejected", rst(vip4, C3, RST | ACK, 0, 101).bytes()))
            .connections(&[]),
        row("reject: a SYN with data", tcp()).send(
            AT_C3,
            &c3(SYN, b"early").bytes(),
            told("rejected", rst(vip4, C3, RST | ACK, 0, 106).bytes()),
        ),
        row("reject: an ACK gets a reset at its place", tcp()).send(
            AT_C3,
            &c3(ACK, b"data").bytes(),
            told("rejected", rst(vip4, C3, RST, 0x0102_0304, 0).bytes()),
        ),
        row("reject: a reset gets none", tcp()).send(AT_C3, &c3(RST, b"").bytes(), dropped("no_backend", 1)),
        row("reject: a SYN over IPv6", tcp6()).send(
            AT_C3,
            &syn6.bytes(),
            told("rejected", rst((VIP6_MAC, VIP6), C3_6, RST | ACK, 0, 101).bytes()),
        ),
        row("reject: the flow label stays, the hop limit begins anew", tcp6()).send(
            AT_C3,
            &Packet { flow: 0x12345, ..syn6.clone().ttl(1) }.bytes(),
            told(
                "rejected",
                Packet { flow: 0x12345, ..rst((VIP6_MAC, VIP6), C3_6, RST | ACK, 0, 101) }.bytes(),
            ),
        ),
        row("reject: a datagram gets port unreachable", udp()).send(
            AT_C3,
            &query.bytes(),
            told("rejected", unreachable(&query).bytes()),
        ),
        row("reject: a datagram with IP options, behind a tag", udp()).send(
            AT_C3,
            &query.clone().ip_options(&[1; 40]).tag(0x8100, 5).bytes(),
            told("rejected", unreachable(&query.clone().ip_options(&[1; 40])).tag(0x8100, 5).bytes()),
        ),
        row("reject: a datagram that is shorter than the answer", udp()).send(
            AT_C3,
            &Packet::udp(at(C3, 4000), vip(53), b"").padding(18).bytes(),
            told("rejected", unreachable(&Packet::udp(at(C3, 4000), vip(53), b"")).bytes()),
        ),
        row("reject: a datagram over IPv6", udp6()).send(
            AT_C3,
            &query6.bytes(),
            told("rejected", Packet::icmp((VIP6_MAC, VIP6), C3_6, (1, 4), [0; 4], &query6.quoted()).bytes()),
        ),
        row(
            "reject: a hairpin is not nobody",
            lab_with(|s| {
                s.vip(1).reject = true;
                s.vip(1).ring = vec![1];
            }),
        )
        .send(AT_B1, &Packet::tcp(at(B1, 4000), vip(80), SYN, 1, b"").bytes(), dropped("hairpin", 1)),
        row("reject: the last known are somebody", {
            let mut scenario = tcp();
            scenario.vip(1).last_known = true;
            scenario
        })
        .send(AT_C3, &c3(SYN, b"").bytes(), to_b1(&c3(SYN, b"")).opening(1, 1)),
        row("reject: a first fragment gets no answer", udp()).send(
            AT_C3,
            &query.part(0, 16).bytes(),
            dropped("no_backend", 1),
        ),
        row("reject: with a way back that is not there no answer is given", lab())
            .send(AT_C3, &syn(1).bytes(), to_b1(&syn(1)).opening(1, 1))
            .send(AT_B1, &b_tcp(B1, 1, SYN | ACK, 9, b"").bytes(), {
                let reply = b_tcp(B1, 1, SYN | ACK, 9, b"");
                replied(Action::Redirect(3), 1, 1, reply.from(vip(80)).bytes()).alive(1, 1, crate::row::START)
            }),
    ]
}
