//! ICMP: echo, and errors that find their side by the packet in them.

use testbed::frame::{ACK, Checksum, Ip, Packet, SYN};
use testbed::oracle::hash;
use testbed::scenario::{Mode, Protocol, Scenario};
use testbed::side::Action;

use crate::lab::{
    AT_B1, AT_C3, AT_C4, B1, B1_6, B2, C3, C3_6, C4, C4_6, Host, TIMEOUTS, VIP, VIP_MAC, VIP6, VIP6_MAC, at,
    b_tcp, c3_tcp, lab, lab_with, lab6, lab6_with, to_b1, vip, vip6,
};
use crate::row::{Row, dropped, forwarded, passed, rare_in, rare_out, row, told, tunnelled};

pub fn rows() -> Vec<Row> {
    [echo(), to_vip(), of_backend(), modes(), six()].into_iter().flatten().collect()
}

const VIP4: Host = (VIP_MAC, VIP);
const VIP_6: Host = (VIP6_MAC, VIP6);

fn ping(from: Host, to: Host, kind: u8, payload: &[u8]) -> Packet {
    Packet::icmp(from, to, (kind, 0), [0x12, 0x34, 0, 1], payload)
}

fn echo() -> Vec<Row> {
    let open = || lab_with(|s| s.vip(1).echo = true);
    let open6 = || lab6_with(|s| s.vip(1).echo = true);
    let asked = |name: &str, packet: Packet| {
        let answer = packet.clone().to((C3.0, C3.1, 0)).from((VIP_MAC, VIP, 0)).ttl(64);
        let answer = Packet { l4: ping(C3, VIP4, 0, b"").l4, ..answer };
        row(format!("echo: {name}"), open()).send(
            AT_C3,
            &packet.bytes(),
            told("echo_answered", answer.bytes()),
        )
    };
    let request = ping(C3, VIP4, 8, b"abcdefgh");
    let refused = |name: &str, scenario: Scenario, packet: &Packet| {
        row(format!("echo: {name}"), scenario).send(AT_C3, &packet.bytes(), dropped("vip_no_service", 1))
    };
    vec![
        asked("a request", request.clone()),
        asked("without payload", ping(C3, VIP4, 8, b"")),
        asked("an odd payload, padded", ping(C3, VIP4, 8, b"odd").padding(15)),
        asked("the longest", ping(C3, VIP4, 8, &[7; 1472])),
        asked("behind VLAN tags", request.clone().tag(0x8100, 5).tag(0x88a8, 7)),
        asked("IP options stay", request.clone().ip_options(&[1; 8])),
        asked("the TTL begins anew", request.clone().ttl(1)),
        row("echo: a wrong checksum stays wrong", open()).send(
            AT_C3,
            &request.clone().checksum(Checksum::Value(0x1234)).bytes(),
            told("echo_answered", {
                let mut answer = ping(VIP4, C3, 0, b"abcdefgh").checksum(Checksum::Value(0x1a34));
                answer.dst_mac = C3.0;
                answer.bytes()
            }),
        ),
        refused("not where the VIP does not want it", lab(), &request),
        refused("a reply to the VIP", open(), &ping(C3, VIP4, 0, b"")),
        refused("a request with a code", open(), &Packet::icmp(C3, VIP4, (8, 1), [0; 4], b"")),
        refused("a timestamp request", open(), &ping(C3, VIP4, 13, &[0; 12])),
        refused(
            "a redirect",
            open(),
            &Packet::icmp(C3, VIP4, (5, 1), [10, 0, 0, 9], &c3_tcp(1, SYN, 1, b"").quoted()),
        ),
        row("echo: to another MAC", open()).send(
            AT_C3,
            &request.clone().to_mac(B1.0).bytes(),
            passed("already_balanced"),
        ),
        row("echo: ICMP of seven bytes", open()).send(
            AT_C3,
            &Packet::other(1, C3, VIP4, &[8, 0, 0xf7, 0xff, 0, 0, 0]).bytes(),
            dropped("vip_malformed", 1),
        ),
        row("echo: over IPv6", open6()).send(
            AT_C3,
            &ping(C3_6, VIP_6, 128, b"abcdefgh").ttl(3).bytes(),
            told("echo_answered", ping(VIP_6, C3_6, 129, b"abcdefgh").bytes()),
        ),
        row("echo: over IPv6, behind a tag, flow label and class stay", open6()).send(
            AT_C3,
            &Packet { flow: 0x54321, ..ping(C3_6, VIP_6, 128, b"odd").class(0x2e).tag(0x8100, 5) }.bytes(),
            told("echo_answered", {
                Packet { flow: 0x54321, ..ping(VIP_6, C3_6, 129, b"odd").class(0x2e).tag(0x8100, 5) }.bytes()
            }),
        ),
        row("echo: over IPv6, not where the VIP does not want it", lab6()).send(
            AT_C3,
            &ping(C3_6, VIP_6, 128, b"").bytes(),
            dropped("vip_no_service", 1),
        ),
        row("echo: of a backend for somebody else", open()).send(
            AT_B1,
            &ping(B1, C3, 8, b"").bytes(),
            passed("no_connection"),
        ),
    ]
}

/// C3's connection with backend 1 from port 4000.
fn opened(name: &str, scenario: Scenario) -> Row {
    let syn = c3_tcp(4000, SYN, 100, b"");
    row(name, scenario).send(AT_C3, &syn.bytes(), to_b1(&syn).opening(1, 1))
}

/// What the VIP sent to C3, and what backend 1 sent.
fn from_vip() -> Packet {
    Packet::tcp(vip(80), at(C3, 4000), ACK, 901, &[1; 20])
}

fn from_b1() -> Packet {
    b_tcp(B1, 4000, ACK, 901, &[1; 20]).from_mac(VIP_MAC)
}

/// An error to the VIP about something, with these four bytes in the middle.
fn error(from: Host, about: &[u8]) -> Packet {
    Packet::icmp(from, VIP4, (3, 4), [0, 0, 5, 0x14], about)
}

/// The same about its checksum left as it was in the packet complained of.
fn translated(quoted: &[u8], from: &Packet) -> Vec<u8> {
    // The transport checksum in the quote is that of the packet as the VIP sent it.
    let mut new = from.ip_bytes();
    new.truncate(quoted.len());
    if quoted.len() >= 38 {
        new[36..38].copy_from_slice(&quoted[36..38]);
    }
    new
}

fn to_vip() -> Vec<Row> {
    let quote = |length: usize| {
        let mut bytes = from_vip().ip_bytes();
        bytes.truncate(length);
        bytes
    };
    let reaches = |name: &str, from: Host, at_port: u32, quoted: Vec<u8>| {
        let packet = error(from, &quoted);
        let mut out = error(from, &translated(&quoted, &from_b1()));
        (out.dst_mac, out.dst) = B1;
        let length = packet.bytes().len();
        opened(&format!("ICMP error: {name}"), lab()).send(
            at_port,
            &packet.bytes(),
            rare_in(Action::Redirect(1), "icmp_to_backend", 1, 1, out.bytes(), length),
        )
    };
    let refused = |name: &str, packet: Packet| {
        opened(&format!("ICMP error: {name}"), lab()).send(
            AT_C3,
            &packet.bytes(),
            dropped("icmp_no_connection", 1),
        )
    };
    let mut later = from_vip();
    later.fragment = 1;
    let other_vip = Packet::tcp((VIP_MAC, C4.1, 80), at(C3, 4000), ACK, 1, b"");
    let unserved = Packet { sport: 81, ..from_vip() };
    let sctp = Packet::other(132, VIP4, C3, &[0; 16]);
    vec![
        reaches("of the client: to its backend", C3, AT_C3, quote(60)),
        reaches("of a router on the way", C4, AT_C4, quote(60)),
        reaches("with the eight bytes that there have to be", C3, AT_C3, quote(28)),
        refused("with seven bytes", error(C3, &quote(27))),
        refused("with a header cut short", error(C3, &quote(19))),
        refused("without any packet", error(C3, &[])),
        refused("about another client port", error(C3, &Packet { dport: 4001, ..from_vip() }.quoted())),
        refused("about another port of the VIP", error(C3, &unserved.quoted())),
        refused("about a packet of somebody else", error(C3, &other_vip.quoted())),
        refused("about a later fragment", error(C3, &later.quoted())),
        refused("about another protocol", error(C3, &sctp.quoted())),
        refused("about a packet of version 6", error(C3, &from_vip().version_ihl(0x65).quoted())),
        opened("ICMP error: of a connection that is long gone", lab()).advance(TIMEOUTS.syn + 1).send(
            AT_C3,
            &error(C3, &quote(28)).bytes(),
            dropped("icmp_no_connection", 1),
        ),
        opened("ICMP error: of a reused record", lab()).change(|s| s.backend(1).generation = 2).send(
            AT_C3,
            &error(C3, &quote(28)).bytes(),
            dropped("icmp_no_connection", 1),
        ),
        opened("ICMP error: it refreshes nothing", lab())
            .advance(TIMEOUTS.syn)
            .send(AT_C3, &error(C3, &quote(28)).bytes(), {
                let mut out = error(C3, &translated(&quote(28), &from_b1()));
                (out.dst_mac, out.dst) = B1;
                let length = out.bytes().len();
                rare_in(Action::Redirect(1), "icmp_to_backend", 1, 1, out.bytes(), length)
            })
            .advance(1)
            .send(AT_C3, &error(C3, &quote(28)).bytes(), dropped("icmp_no_connection", 1)),
        opened("ICMP error: to another MAC", lab()).send(
            AT_C3,
            &error(C3, &quote(28)).to_mac(B1.0).bytes(),
            passed("already_balanced"),
        ),
    ]
}

fn of_backend() -> Vec<Row> {
    // Backend 1 got C3's packet, and complains.
    let got = c3_tcp(4000, ACK, 101, b"data").to(at(B1, 80));
    let sent = c3_tcp(4000, ACK, 101, b"data");
    let unreachable = |from: Host, to: Host, about: &[u8]| Packet::icmp(from, to, (3, 3), [0; 4], about);
    let packet = unreachable(B1, C3, &got.quoted());
    let mut out = unreachable(B1, C3, &sent.quoted());
    (out.src_mac, out.src) = VIP4;
    let pass = |name: &str, packet: &Packet| {
        opened(&format!("ICMP error of a backend: {name}"), lab()).send(
            AT_B1,
            &packet.bytes(),
            passed("no_connection"),
        )
    };
    vec![
        opened("ICMP error of a backend: to the client, as if the VIP's", lab()).send(
            AT_B1,
            &packet.bytes(),
            rare_out(Action::Redirect(3), "icmp_to_client", 1, 1, out.bytes()),
        ),
        opened("ICMP error of a backend: behind a tag", lab()).send(
            AT_B1,
            &packet.clone().tag(0x8100, 5).bytes(),
            rare_out(Action::Redirect(3), "icmp_to_client", 1, 1, out.clone().tag(0x8100, 5).bytes()),
        ),
        pass("of another connection", &unreachable(B1, C3, &Packet { sport: 1, ..got.clone() }.quoted())),
        pass("about a packet of another host", &unreachable(B1, C4, &got.quoted())),
        pass("of the other backend", &unreachable(B2, C3, &got.clone().to(at(B2, 80)).quoted())),
        pass("about a packet to another host", &unreachable(B1, C3, &got.clone().to(at(B2, 80)).quoted())),
        pass("echo reply", &ping(B1, C3, 0, b"")),
        pass("redirect", &Packet::icmp(B1, C3, (5, 0), [0; 4], &got.quoted())),
        pass("cut short", &unreachable(B1, C3, &got.quoted()[..27])),
    ]
}

fn modes() -> Vec<Row> {
    let about_vip = from_vip().quoted();
    let packet = error(C3, &about_vip);
    let length = packet.bytes().len();
    let syn = c3_tcp(4000, SYN, 100, b"");
    let dsr = || lab_with(|s| s.vip(1).mode = Mode::Dsr);
    let source = testbed::frame::v4(10, 0, 9, 9);
    let ipip = |mtu: u16| {
        lab_with(|s| {
            s.vip(1).mode = Mode::Ipip;
            s.vip(1).source = Some(source);
            s.vip(1).tunnel_mtu = mtu;
        })
    };
    let inside = |packet: &Packet| packet.inside((VIP_MAC, source), B1);
    let full = || {
        lab_with(|s| {
            s.vip(1).mode = Mode::FullNat;
            s.vip(1).services = vec![(Protocol::Tcp, 80)];
            s.vip(1).lent = (20000, 100);
            s.vip(1).ring = vec![1];
        })
    };
    let lent = 20000 + (hash::flow(C3.1, 4000, 80, 6) % 100) as u16;
    let in_full = |name: &str| {
        row(name, full()).send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Redirect(1), 1, 1, syn.clone().to(at(B1, 80)).from(vip(lent)).bytes())
                .opening(1, 1),
        )
    };
    // The backend's answer went out as the VIP's; the quote holds sequence numbers behind the ports, no checksum.
    let b1_to_lent = Packet::tcp(at(B1, 80), vip(lent), ACK, 901, &[1; 20]);
    let mut to_backend = Packet::icmp(C3, B1, (3, 4), [0, 0, 5, 0x14], &b1_to_lent.quoted());
    to_backend.src_mac = VIP_MAC;
    let lent_to_b1 = c3_tcp(4000, ACK, 101, b"").to(at(B1, 80)).from(vip(lent));
    let complaint = |from: Host| Packet::icmp(from, VIP4, (3, 3), [0; 4], &lent_to_b1.quoted());
    let to_client = |from: Ip| {
        let about = c3_tcp(4000, ACK, 101, b"");
        Packet::icmp((VIP_MAC, from), C3, (3, 3), [0; 4], &about.quoted())
    };
    let translated_port = lab_with(|s| {
        s.vip(1).services = vec![(Protocol::Tcp, 80)];
        s.backend(1).port = 8001;
    });
    vec![
        row("ICMP error, DSR: only the MAC changes", dsr())
            .send(
                AT_C3,
                &syn.bytes(),
                forwarded(Action::Redirect(1), 1, 1, syn.clone().to_mac(B1.0).bytes()).opening(1, 1),
            )
            .send(
                AT_C3,
                &packet.bytes(),
                rare_in(
                    Action::Redirect(1),
                    "icmp_to_backend",
                    1,
                    1,
                    packet.clone().to_mac(B1.0).bytes(),
                    length,
                ),
            ),
        row("ICMP error, IPIP: through the tunnel", ipip(1500))
            .send(
                AT_C3,
                &syn.bytes(),
                tunnelled(Action::Redirect(1), 1, 1, &syn.bytes(), inside(&syn)).opening(1, 1),
            )
            .send(
                AT_C3,
                &packet.bytes(),
                rare_in(Action::Redirect(1), "icmp_to_backend", 1, 1, inside(&packet), length),
            ),
        row("ICMP error, IPIP: too long, and no error about an error", ipip(70))
            .send(
                AT_C3,
                &syn.bytes(),
                tunnelled(Action::Redirect(1), 1, 1, &syn.bytes(), inside(&syn)).opening(1, 1),
            )
            .send(AT_C3, &packet.bytes(), dropped("rewrite_failed", 1)),
        in_full("ICMP error, full NAT: of the client, to the backend").send(
            AT_C3,
            &packet.bytes(),
            rare_in(Action::Redirect(1), "icmp_to_backend", 1, 1, to_backend.bytes(), length),
        ),
        in_full("ICMP error, full NAT: of the backend, to the client").send(
            AT_B1,
            &complaint(B1).bytes(),
            rare_out(Action::Redirect(3), "icmp_to_client", 1, 1, to_client(VIP).bytes()),
        ),
        in_full("ICMP error, full NAT: of a router, to the client").send(
            AT_C4,
            &complaint(C4).bytes(),
            rare_out(Action::Redirect(3), "icmp_to_client", 1, 1, to_client(C4.1).bytes()),
        ),
        in_full("ICMP error, full NAT: about a port that was not lent").send(
            AT_B1,
            &Packet::icmp(
                B1,
                VIP4,
                (3, 3),
                [0; 4],
                &Packet { sport: lent + 1, ..lent_to_b1.clone() }.quoted(),
            )
            .bytes(),
            dropped("icmp_no_connection", 1),
        ),
        row("ICMP error: the port is translated in the quote, too", translated_port)
            .send(
                AT_C3,
                &syn.bytes(),
                forwarded(Action::Redirect(1), 1, 1, syn.clone().to(at(B1, 8001)).bytes()).opening(1, 1),
            )
            .send(AT_C3, &packet.bytes(), {
                let about = Packet::tcp(at(B1, 8001), at(C3, 4000), ACK, 901, &[1; 20]);
                let mut out = error(C3, &about.quoted());
                (out.dst_mac, out.dst) = B1;
                rare_in(Action::Redirect(1), "icmp_to_backend", 1, 1, out.bytes(), length)
            }),
        row("ICMP error: one-armed it leaves where it came in", lab_with(|s| s.vip(1).transmit = true))
            .send(
                AT_C3,
                &syn.bytes(),
                forwarded(Action::Transmit, 1, 1, syn.clone().to(at(B1, 80)).from_mac(VIP_MAC).bytes())
                    .opening(1, 1),
            )
            .send(AT_C3, &packet.bytes(), {
                let mut out = error(C3, &from_b1().quoted());
                (out.dst_mac, out.dst) = B1;
                out.src_mac = VIP_MAC;
                rare_in(Action::Transmit, "icmp_to_backend", 1, 1, out.bytes(), length)
            }),
    ]
}

fn six() -> Vec<Row> {
    let syn = Packet::tcp(at(C3_6, 4000), vip6(80), SYN, 100, b"");
    let opened = |name: &str| {
        row(format!("ICMPv6 error: {name}"), lab6()).send(
            AT_C3,
            &syn.bytes(),
            forwarded(Action::Redirect(1), 1, 1, syn.clone().to(at(B1_6, 80)).bytes()).opening(1, 1),
        )
    };
    let vip_sent = Packet::tcp(vip6(80), at(C3_6, 4000), ACK, 901, &[1; 20]);
    let b1_sent = Packet::tcp(at(B1_6, 80), at(C3_6, 4000), ACK, 901, &[1; 20]);
    let too_big = |from: Host, to: Host, about: &[u8]| Packet::icmp(from, to, (2, 0), [0, 0, 5, 0], about);
    let got = Packet::tcp(at(C3_6, 4000), at(B1_6, 80), ACK, 101, b"");
    let sent = Packet::tcp(at(C3_6, 4000), vip6(80), ACK, 101, b"");
    let reaches = |name: &str, from: Host, at_port: u32| {
        let packet = too_big(from, VIP_6, &vip_sent.quoted());
        let length = packet.bytes().len();
        let out = too_big(from, B1_6, &b1_sent.quoted());
        opened(name).send(
            at_port,
            &packet.bytes(),
            rare_in(Action::Redirect(1), "icmp_to_backend", 1, 1, out.bytes(), length),
        )
    };
    let extended = vip_sent.clone().extension(testbed::frame::Extension::options(60, 1));
    vec![
        reaches("packet too big, of the client", C3_6, AT_C3),
        reaches("packet too big, of a router", C4_6, AT_C4),
        opened("port unreachable, of the backend").send(
            AT_B1,
            &Packet::icmp(B1_6, C3_6, (1, 4), [0; 4], &got.quoted()).bytes(),
            rare_out(Action::Redirect(3), "icmp_to_client", 1, 1, {
                Packet::icmp(VIP_6, C3_6, (1, 4), [0; 4], &sent.quoted()).bytes()
            }),
        ),
        opened("about a packet with extension headers").send(
            AT_C3,
            &too_big(C3_6, VIP_6, &extended.quoted()).bytes(),
            dropped("icmp_no_connection", 1),
        ),
        opened("about nobody's packet").send(
            AT_C3,
            &too_big(C3_6, VIP_6, &Packet { dport: 1, ..vip_sent.clone() }.quoted()).bytes(),
            dropped("icmp_no_connection", 1),
        ),
        opened("cut short").send(
            AT_C3,
            &too_big(C3_6, VIP_6, &vip_sent.quoted()[..47]).bytes(),
            dropped("icmp_no_connection", 1),
        ),
        opened("an unknown type is none").send(
            AT_C3,
            &Packet::icmp(C3_6, VIP_6, (100, 0), [0; 4], &vip_sent.quoted()).bytes(),
            dropped("vip_no_service", 1),
        ),
    ]
}
