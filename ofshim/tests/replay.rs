//! The replay: what its switch does to bytes, and what it answers.

mod model;

use std::net::{IpAddr, SocketAddr};

use lb_core::host::addr::MacAddr as Mac;
use lb_core::host::config::Config;
use lb_core::host::replay::{Change, Reply, Request, Station, from_hex, to_hex};
use model::segment::{ACK, SYN, TCP, UDP};
use model::{Segment, host, parts, whole};
use ofshim::replay::lines::{Session, run};
use ofshim::replay::packet::set;
use openflow::{MacAddr, MatchField};

const TOML: &str = "[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\nselection = \"round-robin\"\n\
    [[vip.backend]]\naddress = \"10.0.0.1\"\nport = 8080\n[[vip.backend]]\naddress = \"10.0.0.2\"\nport = 8080\n";

fn segment(sixth: bool, protocol: u8) -> Segment {
    let (src, dst) =
        if sixth { ("[2001:db8::9]:40000", "[2001:db8:1::1]:80") } else { ("10.0.0.9:40000", "10.0.1.1:80") };
    Segment {
        src_mac: host(9),
        dst_mac: MacAddr([2, 0x6c, 10, 0, 1, 1]),
        vlan: None,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        protocol,
        flags: if protocol == TCP { SYN } else { 0 },
        payload: b"odd".to_vec(),
    }
}

#[test]
fn written_fields_are_as_if_the_packet_had_been_sent_so() {
    for (sixth, protocol) in [(false, TCP), (false, UDP), (true, TCP), (true, UDP)] {
        for vlan in [None, Some(7)] {
            let before = Segment { vlan, ..segment(sixth, protocol) };
            let new: SocketAddr =
                if sixth { "[2001:db8::77]:8080" } else { "10.9.8.7:8080" }.parse().unwrap();
            let address = |destination: bool| match (new.ip(), destination) {
                (IpAddr::V4(value), false) => MatchField::Ipv4Src { value, mask: None },
                (IpAddr::V4(value), true) => MatchField::Ipv4Dst { value, mask: None },
                (IpAddr::V6(value), false) => MatchField::Ipv6Src { value, mask: None },
                (IpAddr::V6(value), true) => MatchField::Ipv6Dst { value, mask: None },
            };
            let port = |destination: bool| match (protocol, destination) {
                (TCP, false) => MatchField::TcpSrc(8080),
                (TCP, true) => MatchField::TcpDst(8080),
                (_, false) => MatchField::UdpSrc(8080),
                (_, true) => MatchField::UdpDst(8080),
            };
            let mut bytes = before.bytes();
            assert!(set(&mut bytes, &address(true)) && set(&mut bytes, &port(true)));
            assert_eq!(bytes, Segment { dst: new, ..before.clone() }.bytes());
            let mut bytes = before.bytes();
            assert!(set(&mut bytes, &address(false)) && set(&mut bytes, &port(false)));
            assert_eq!(bytes, Segment { src: new, ..before.clone() }.bytes());
            assert!(set(&mut bytes, &MatchField::EthDst { value: host(3), mask: None }));
            assert_eq!(bytes[..6], host(3).0);
        }
    }
}

#[test]
fn a_wrong_checksum_stays_as_wrong_and_none_stays_none() {
    let new = MatchField::Ipv4Dst { value: [10, 9, 8, 7].into(), mask: None };
    let mut right = segment(false, TCP).bytes();
    let mut wrong = right.clone();
    wrong[50] ^= 0x40;
    assert!(set(&mut right, &new) && set(&mut wrong, &new));
    let sum = |frame: &[u8]| u32::from(u16::from_be_bytes([frame[50], frame[51]]));
    let apart = (sum(&wrong) + 0xffff - sum(&right)) % 0xffff;
    assert!(apart == 0x4000 || apart == 0xffff - 0x4000, "{apart:x}");
    let mut none = segment(false, UDP).bytes();
    none[40..42].copy_from_slice(&[0, 0]);
    assert!(set(&mut none, &new) && set(&mut none, &MatchField::UdpDst(9)));
    assert_eq!(none[40..42], [0, 0]);
    // What is not there cannot be written.
    assert!(!set(&mut none, &MatchField::Ipv6Dst { value: [0; 16].into(), mask: None }));
    assert!(!set(&mut [0; 10], &new));
}

fn station(number: u8) -> Station {
    Station { port: number.into(), mac: Mac(host(number).0), addresses: vec![[10, 0, 0, number].into()] }
}

fn frame(port: u32, at_ns: u64, segment: &Segment) -> Request {
    Request::Frame { at_ns, port, frame: to_hex(&segment.bytes()) }
}

/// The only frame that comes out, and whether the controller was asked.
fn out(reply: Reply) -> (u32, Segment, bool) {
    let Reply::Frame(replayed) = reply else { panic!("{reply:?}") };
    let [(port, digits)] = replayed.out.as_slice() else { panic!("{replayed:?}") };
    (*port, Segment::read(&from_hex(digits).unwrap()).unwrap(), replayed.asked)
}

#[test]
fn connections_are_balanced_by_entries_and_follow_their_backends() {
    let mut session = Session::new(Config::from_toml(TOML, "lb.toml").unwrap());
    let hosts = vec![station(1), station(2), station(9)];
    let Reply::Tables(sources) = session.ask(&Request::Hosts(hosts)) else { panic!("no tables") };
    assert_eq!(sources.health.len(), 2);
    let first = segment(false, TCP);
    let (backend, came, asked) = out(session.ask(&frame(9, 0, &first)));
    assert!(asked && [1, 2].contains(&backend), "{backend}");
    let there: SocketAddr = format!("10.0.0.{backend}:8080").parse().unwrap();
    assert_eq!(came, Segment { dst: there, dst_mac: host(backend as u8), ..first.clone() });
    let (port, answer, asked) = out(session.ask(&frame(backend, 1_000_000, &came.answer(SYN | ACK))));
    assert_eq!((port, answer, asked), (9, first.answer(SYN | ACK), false), "by an entry");
    // The other one, once this one is down.
    let dead = there.ip();
    let Reply::Tables(_) = session.ask(&Request::Change { backend: dead, change: Change::Down }) else {
        panic!("no tables")
    };
    let next = Segment { src: "10.0.0.9:40001".parse().unwrap(), ..first };
    for at_ns in [2_000_000, 3_000_000] {
        assert_eq!(out(session.ask(&frame(9, at_ns, &next))).0, 3 - backend);
    }
}

#[test]
fn fragments_come_to_the_controller_beside_the_entries_of_their_flow() {
    for sixth in [false, true] {
        let (vip, backend) = if sixth { ("2001:db8:1::1", "2001:db8::1") } else { ("10.0.1.1", "10.0.0.1") };
        let toml = format!(
            "[[vip]]\naddress = \"{vip}\"\nport = 80\nprotocol = \"udp\"\n\
             [[vip.backend]]\naddress = \"{backend}\"\nport = 8080\n"
        );
        let config = Config::from_toml(&toml, "lb.toml").unwrap();
        let packet =
            Segment { dst_mac: MacAddr(config.vips[0].mac.0), payload: vec![7; 100], ..segment(sixth, UDP) };
        let mut session = Session::new(config);
        let addresses = |number: u8| vec![[10, 0, 0, number].into(), v6(number)];
        let hosts = [1, 9].map(|number| Station { addresses: addresses(number), ..station(number) });
        let Reply::Tables(_) = session.ask(&Request::Hosts(hosts.to_vec())) else { panic!("no tables") };
        let (_, came, _) = out(session.ask(&frame(9, 0, &packet)));
        assert!(!out(session.ask(&frame(9, 1_000_000, &packet))).2, "it has entries");
        let answer = came.answer(0);
        for (port, sent, arrives) in [(9, &packet, &came), (1, &answer, &packet.answer(0))] {
            let mut arrived = Vec::new();
            for part in parts(&sent.bytes(), 9, &[8, 16]) {
                let request = Request::Frame { at_ns: 2_000_000, port, frame: to_hex(&part) };
                let Reply::Frame(replayed) = session.ask(&request) else { panic!("no frame") };
                let [(to, digits)] = replayed.out.as_slice() else { panic!("{replayed:?}") };
                assert_eq!((*to, replayed.asked), (10 - port, true));
                arrived.push(from_hex(digits).unwrap());
            }
            assert_eq!(whole(&arrived), *arrives);
        }
    }
}

fn v6(number: u8) -> IpAddr {
    format!("2001:db8::{number}").parse().unwrap()
}

#[test]
fn lines_that_are_no_requests_are_refused_one_by_one() {
    let folder = std::env::temp_dir().join(format!("ofshim-replay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("lb.toml");
    std::fs::write(&config, TOML).unwrap();
    let hosts = serde_json::to_string(&Request::Hosts(vec![station(1), station(9)])).unwrap();
    let far = serde_json::to_string(&Request::Hosts(vec![Station { port: 70_000, ..station(1) }])).unwrap();
    let frame = "{\"frame\":{\"at_ns\":0,\"port\":1,\"frame\":\"xyz\"}}";
    let lines = [
        "rubbish",
        frame,
        &far,
        &hosts,
        frame,
        "{\"change\":{\"backend\":\"10.0.0.9\",\"change\":\"drain\"}}",
    ];
    let mut output = Vec::new();
    run(&config, lines.join("\n").as_bytes(), &mut output).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let replies: Vec<Reply> =
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused = |reply: &Reply, part: &str| matches!(reply, Reply::Refused(why) if why.contains(part));
    let expected = ["not a request", "name the hosts first", "from 1 to 4096", "", "14 bytes", "10.0.0.9"];
    for (reply, part) in replies.iter().zip(expected) {
        let fits = if part.is_empty() { matches!(reply, Reply::Tables(_)) } else { refused(reply, part) };
        assert!(fits, "{part}: {reply:?}");
    }
    assert_eq!(replies.len(), lines.len());
}
