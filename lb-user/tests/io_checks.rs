//! Checks over packet sockets against real hosts, in both families, from the switch's side of a veth under XDP.

mod io_bed;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use io_bed::{Bed, Process, as_root, attach_pass, block_on};
use lb_core::host::config::CheckKind;
use lb_core::host::health::Failure;
use lb_user::check::{Checker, News, Order, Way};
use lb_user::io::mac::Mac;
use lb_user::io::packet::PacketSocket;
use lb_user::io::sys::clock_monotonic;
use lb_user::io::{arp, filter, ndp};

const PROBER: Mac = Mac([0x06, 0x6c, 0x62, 0x70, 0x72, 0x62]);

/// Answers who asks for a probe address, as the daemon does.
fn answer(socket: &PacketSocket, frame: &[u8]) {
    let answer = arp::parse(frame).and_then(|packet| arp::build_answer(&packet, PROBER)).map(|a| a.to_vec());
    let answer = answer.or_else(|| ndp::build_answer(&ndp::parse(frame)?, PROBER));
    if let Some(answer) = answer {
        socket.send(&answer).expect("sent");
    }
}

/// Runs one check to its end, or for half a second.
async fn check(socket: &PacketSocket, to: Mac, kind: CheckKind, v6: bool) -> Option<Result<(), Failure>> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (source, target) = if v6 { ("fd77::250", "fd77::1") } else { ("10.77.0.250", "10.77.0.1") };
    let order = Order {
        kind,
        target: address(target),
        port: 80,
        source: address(source),
        way: Way { slot: 1, from: PROBER, to },
    };
    let mut checker = Checker::default();
    let mut result = None;
    let mut out = checker.start(1, order, clock_monotonic()).expect("a run");
    let end = Instant::now() + Duration::from_millis(500);
    while !checker.is_idle() && Instant::now() < end {
        for (_, frame) in out.drain(..) {
            socket.send(&frame).expect("sent");
        }
        let Ok(received) = tokio::time::timeout_at(end.into(), socket.recv()).await else { break };
        let frame = received.expect("a frame").frame;
        answer(socket, &frame);
        let (news, answers) = checker.receive(&frame, clock_monotonic());
        out = answers;
        if let Some((1, News::Done(done))) = news {
            result = Some(done);
        }
    }
    for (_, frame) in out.into_iter().chain(checker.stop(1, clock_monotonic())) {
        socket.send(&frame).expect("sent");
    }
    result
}

fn http() -> CheckKind {
    CheckKind::Http { path: "/".to_owned(), host: None, status: (200, 399), expect: None }
}

#[test]
fn every_kind_works_in_both_families() {
    if !as_root("every_kind_works_in_both_families") {
        return;
    }
    let bed = Bed::new();
    bed.host.ip("addr add fd77::1/64 dev h-eth0 nodad");
    let udp = || CheckKind::Udp { send: "ping".to_owned(), expect: None };
    let tcp = || CheckKind::Tcp { send: None, expect: None };
    block_on(async {
        let (port, host) = (bed.switch.link("sw1").await, bed.host.link("h-eth0").await);
        let mac = host.mac.expect("a MAC");
        let _program = attach_pass(&bed.switch.ns, port.ifindex);
        let probe: Vec<IpAddr> = ["10.77.0.250", "fd77::250"].map(|a| a.parse().expect("an address")).into();
        let socket =
            PacketSocket::open(&bed.switch.ns, port.ifindex, &filter::program(&probe)).expect("a socket");
        for v6 in [false, true] {
            assert_eq!(check(&socket, mac, CheckKind::Icmp, v6).await, Some(Ok(())), "v6 {v6}");
            for kind in [tcp(), udp(), http()] {
                let refused = Some(Err(Failure::Refused));
                assert_eq!(check(&socket, mac, kind.clone(), v6).await, refused, "{kind:?}, v6 {v6}");
            }
        }
        let _server = Process::start(&[
            "ip",
            "netns",
            "exec",
            &bed.host.name,
            "/usr/bin/python3",
            "-m",
            "http.server",
            "--bind",
            "::",
            "80",
        ]);
        let end = Instant::now() + Duration::from_secs(15);
        while !bed.host.run("ss -Htln sport = :80").contains(":80") {
            assert!(Instant::now() < end, "python listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        for v6 in [false, true] {
            for kind in [tcp(), http()] {
                assert_eq!(check(&socket, mac, kind.clone(), v6).await, Some(Ok(())), "{kind:?}, v6 {v6}");
            }
        }
    });
}
