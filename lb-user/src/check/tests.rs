//! Checks against services made of packets.

use std::net::{IpAddr, SocketAddr};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use lb_core::host::config::CheckKind;
use lb_core::host::health::Failure;

use super::*;

const NOW: u64 = 1_000_000_000_000;
const HOST: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);
const PROBER: Mac = Mac([0x06, 0x6c, 0x62, 0x70, 0x72, 0x62]);

fn order(kind: CheckKind, v6: bool) -> Order {
    let (source, target) = if v6 { ("fd00::250", "fd00::1") } else { ("10.0.0.250", "10.0.0.1") };
    Order {
        kind,
        target: target.parse().expect("an address"),
        port: 80,
        source: source.parse().expect("an address"),
        way: Way { slot: 3, from: PROBER, to: HOST },
    }
}

fn udp(expect: Option<&str>) -> CheckKind {
    CheckKind::Udp { send: "ping".to_owned(), expect: expect.map(str::to_owned) }
}

fn http() -> CheckKind {
    CheckKind::Http { path: "/".to_owned(), host: None, status: (200, 399), expect: None }
}

/// What a service sees of a frame: where it is from, and what it carries.
struct Seen {
    from: SocketAddr,
    to: SocketAddr,
    tcp: Option<etherparse::TcpHeader>,
    payload: Vec<u8>,
}

fn see(frame: &[u8]) -> Seen {
    assert_eq!((&frame[..6], &frame[6..12]), (&HOST.0[..], &PROBER.0[..]));
    let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
    let (from, to) = match packet.net.expect("IP") {
        etherparse::NetSlice::Ipv4(ip) => {
            assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
            (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr()))
        }
        etherparse::NetSlice::Ipv6(ip) => {
            (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr()))
        }
        other => panic!("{other:?}"),
    };
    let (source, destination, tcp, payload) = match packet.transport.expect("a transport header") {
        TransportSlice::Tcp(tcp) => {
            (tcp.source_port(), tcp.destination_port(), Some(tcp.to_header()), tcp.payload().to_vec())
        }
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port(), None, udp.payload().to_vec()),
        other => panic!("{other:?}"),
    };
    Seen { from: SocketAddr::new(from, source), to: SocketAddr::new(to, destination), tcp, payload }
}

fn bytes(address: &str) -> [u8; 16] {
    address.parse::<std::net::Ipv6Addr>().expect("an address").octets()
}

fn ip_builder(seen: &Seen) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(HOST.0, PROBER.0);
    match (seen.to.ip(), seen.from.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("two families"),
    }
}

fn answer_udp(seen: &Seen, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    ip_builder(seen).udp(seen.to.port(), seen.from.port()).write(&mut frame, payload).expect("written");
    frame
}

/// A service's segment after `seen`: its own sequence number, flags and data.
fn segment(seen: &Seen, sequence: u32, flags: &str, payload: &[u8]) -> Vec<u8> {
    let tcp = seen.tcp.as_ref().expect("TCP");
    let length = seen.payload.len() as u32 + u32::from(tcp.syn) + u32::from(tcp.fin);
    let mut step = ip_builder(seen).tcp(seen.to.port(), seen.from.port(), sequence, 8192);
    step = step.ack(tcp.sequence_number.wrapping_add(length));
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            'F' => step.fin(),
            'R' => step.rst(),
            other => panic!("{other}"),
        };
    }
    let mut frame = Vec::new();
    step.write(&mut frame, payload).expect("written");
    frame
}

/// A run that was started, with what its service saw first.
fn start(kind: CheckKind, v6: bool) -> (Checker, Seen) {
    let mut checker = Checker::default();
    let out = checker.start(7, order(kind, v6), NOW).expect("a port");
    assert_eq!((out.len(), out[0].0), (1, 3), "one frame, by the backend's port");
    let seen = see(&out[0].1);
    (checker, seen)
}

fn done(result: Result<(), Failure>) -> Option<(u32, News)> {
    Some((7, News::Done(result)))
}

#[test]
fn an_echo_reply_passes_and_another_ones_does_not() {
    for v6 in [false, true] {
        let mut checker = Checker::default();
        let out = checker.start(7, order(CheckKind::Icmp, v6), NOW).expect("a port");
        let l4 = if v6 { 54 } else { 34 };
        let half = |at: usize| u16::from_be_bytes([out[0].1[l4 + at], out[0].1[l4 + at + 1]]);
        let reply = |identifier| {
            let (mut frame, ethernet) = (Vec::new(), PacketBuilder::ethernet2(HOST.0, PROBER.0));
            let data = &out[0].1[l4 + 8..];
            if v6 {
                let ip = ethernet.ipv6(bytes("fd00::1"), bytes("fd00::250"), 64);
                ip.icmpv6_echo_reply(identifier, half(6)).write(&mut frame, data).expect("written");
            } else {
                let ip = ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 250], 64);
                ip.icmpv4_echo_reply(identifier, half(6)).write(&mut frame, data).expect("written");
            }
            frame
        };
        let (other, reply) = (reply(half(4) ^ 1), reply(half(4)));
        let mut corrupt = reply.clone();
        *corrupt.last_mut().expect("data") ^= 1;
        assert_eq!(checker.receive(&corrupt, NOW).0, None, "a wrong checksum");
        assert_eq!(checker.receive(&other, NOW).0, None, "another identifier");
        assert_eq!(checker.receive(&reply, NOW).0, done(Ok(())), "v6 {v6}");
        assert!(checker.is_idle());
    }
}

#[test]
fn a_datagram_is_answered_as_expected_or_not() {
    for v6 in [false, true] {
        let (mut checker, seen) = start(udp(Some("pong")), v6);
        assert_eq!(seen.payload, b"ping");
        let right = answer_udp(&seen, b"-> pong");
        assert_eq!(checker.receive(&right, NOW).0, done(Ok(())));
        assert_eq!(checker.receive(&right, NOW).0, None, "it is over");

        let (mut checker, seen) = start(udp(Some("pong")), v6);
        assert_eq!(checker.receive(&answer_udp(&seen, b"what?"), NOW).0, done(Err(Failure::NotExpected)));

        let (mut checker, mut seen) = start(udp(None), v6);
        let honest = seen.to;
        seen.to.set_port(81);
        assert_eq!(checker.receive(&answer_udp(&seen, b""), NOW).0, None, "from another port");
        seen.to = honest;
        assert_eq!(checker.receive(&answer_udp(&seen, b""), NOW).0, done(Ok(())));
    }
}

#[test]
fn an_icmp_error_fails_what_it_quotes() {
    for (code, failure) in [(3, Failure::Refused), (1, Failure::Unreachable), (13, Failure::Unreachable)] {
        for kind in [udp(None), http()] {
            let mut checker = Checker::default();
            let out = checker.start(7, order(kind, false), NOW).expect("a port");
            let sent = &out[0].1;
            let mut error = Vec::new();
            PacketBuilder::ethernet2(HOST.0, PROBER.0)
                .ipv4([10, 0, 0, 1], [10, 0, 0, 250], 64)
                .icmpv4_raw(3, code, [0; 4])
                .write(&mut error, &sent[14..42])
                .expect("written");
            for len in 0..error.len() {
                assert_eq!(checker.receive(&error[..len], NOW).0, None, "truncated at {len}");
            }
            assert_eq!(checker.receive(&error, NOW).0, done(Err(failure)));
        }
    }
}

#[test]
fn a_connection_that_is_made_is_closed_in_order() {
    for v6 in [false, true] {
        let (mut checker, syn) = start(CheckKind::Tcp { send: None, expect: None }, v6);
        assert!(syn.tcp.as_ref().is_some_and(|tcp| tcp.syn && !tcp.ack), "a SYN");
        let (news, out) = checker.receive(&segment(&syn, 1000, "S", b""), NOW);
        assert_eq!(news, done(Ok(())));
        let last = see(&out.last().expect("an answer").1);
        let tcp = last.tcp.as_ref().expect("TCP");
        assert!(tcp.fin && tcp.ack && !tcp.rst, "{tcp:?}");
        assert!(!checker.is_idle(), "it waits for the other end");
        let (news, out) = checker.receive(&segment(&last, 1001, "F", b""), NOW);
        assert_eq!((news, out.len()), (None, 1), "its end is acknowledged");
        assert!(checker.is_idle());
    }
}

#[test]
fn a_service_that_never_closes_is_forgotten() {
    let (mut checker, syn) = start(CheckKind::Tcp { send: None, expect: None }, false);
    checker.receive(&segment(&syn, 1000, "S", b""), NOW);
    let mut now = NOW;
    while !checker.is_idle() {
        now = checker.next_poll().expect("something to do");
        checker.poll(now);
    }
    assert!(now - NOW <= CLOSING_NS, "{now}");
}

#[test]
fn a_reset_is_a_refusal() {
    let (mut checker, syn) = start(http(), false);
    assert_eq!(checker.receive(&segment(&syn, 0, "R", b""), NOW).0, done(Err(Failure::Refused)));
    assert!(checker.is_idle());
}

#[test]
fn an_http_answer_decides_by_its_status() {
    for (answer, result) in [
        ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
        ("HTTP/1.0 503 Service Unavailable\r\n\r\n", Err(Failure::Status(503))),
        ("220 mail.example.org ESMTP\r\n", Err(Failure::NotHttp)),
    ] {
        let (mut checker, syn) = start(http(), false);
        let (news, out) = checker.receive(&segment(&syn, 1000, "S", b""), NOW);
        assert_eq!(news, Some((7, News::Connected)));
        let request = see(&out.last().expect("a request").1);
        assert!(request.payload.starts_with(b"GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n"));
        let (news, out) = checker.receive(&segment(&request, 1001, "", answer.as_bytes()), NOW);
        assert_eq!(news, done(result), "{answer}");
        let end = see(&out.last().expect("an end").1).tcp.expect("TCP");
        assert_eq!((end.fin, end.rst), (result.is_ok(), result.is_err()));
    }
}

#[test]
fn a_connection_that_is_closed_without_an_answer_fails() {
    let (mut checker, syn) = start(http(), false);
    let (_, out) = checker.receive(&segment(&syn, 1000, "S", b""), NOW);
    let request = see(&out.last().expect("a request").1);
    let (news, _) = checker.receive(&segment(&request, 1001, "F", b""), NOW);
    assert_eq!(news, done(Err(Failure::Closed)));
}

#[test]
fn a_run_that_is_given_up_resets_its_connection() {
    let (mut checker, syn) = start(http(), false);
    checker.receive(&segment(&syn, 1000, "S", b""), NOW);
    let out = checker.stop(7, NOW);
    assert!(see(&out.last().expect("a reset").1).tcp.is_some_and(|tcp| tcp.rst));
    assert!(checker.is_idle());
    assert_eq!(checker.stop(7, NOW), [], "it is over");
}

#[test]
fn runs_do_not_hear_each_other() {
    let mut checker = Checker::default();
    let mut seen = Vec::new();
    for number in 0..50 {
        let out = checker.start(number, order(udp(None), false), NOW).expect("a port");
        seen.push(see(&out[0].1));
    }
    for (number, seen) in (0..50).zip(&seen).rev() {
        assert_eq!(checker.receive(&answer_udp(seen, b""), NOW).0, Some((number, News::Done(Ok(())))));
    }
}
