//! The prober's sockets against real hosts: on the switch's side of a veth, and inside a host's namespace.

mod io_bed;

use std::net::Ipv4Addr;
use std::time::Duration;

use io_bed::{Bed, as_root, attach_pass, block_on};
use lb_user::io::arp::{self, ArpOp, ArpPacket};
use lb_user::io::mac::Mac;
use lb_user::io::netlink::Netlink;
use lb_user::io::netns::NetNs;
use lb_user::io::packet::{PacketError, PacketSocket, Received};
use lb_user::io::sys::clock_monotonic;
use lb_user::io::{filter, ndp};

const PROBER: Mac = Mac([2, 0, 0x0a, 77, 0, 0xfe]);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A socket as the prober opens it.
fn open(ns: &NetNs, ifindex: u32) -> Result<PacketSocket, PacketError> {
    PacketSocket::open(ns, ifindex, &filter::program(&[]))
}

fn probe(
    socket: &PacketSocket,
    source: Mac,
    target: Ipv4Addr,
    destination: Option<Mac>,
) -> Result<(), PacketError> {
    socket.send(&arp::build_probe(source, target, destination.unwrap_or(Mac::BROADCAST)))
}

async fn frame(socket: &PacketSocket) -> Received {
    tokio::time::timeout(Duration::from_secs(2), socket.recv())
        .await
        .expect("a reply within 2 s")
        .expect("reply")
}

async fn reply(socket: &PacketSocket) -> ArpPacket {
    arp::parse(&frame(socket).await.frame).expect("ARP")
}

async fn silence(socket: &PacketSocket) {
    let heard = tokio::time::timeout(Duration::from_millis(200), socket.recv()).await;
    assert!(heard.is_err(), "heard {heard:?}");
}

#[test]
fn a_host_answers_on_the_switchs_side_of_its_veth() {
    if !as_root("a_host_answers_on_the_switchs_side_of_its_veth") {
        return;
    }
    let bed = Bed::new();
    block_on(async {
        let (port, host) = (bed.switch.link("sw1").await, bed.host.link("h-eth0").await);
        let mac = host.mac.expect("a MAC");
        let _program = attach_pass(&bed.switch.ns, port.ifindex);
        let socket = open(&bed.switch.ns, port.ifindex).expect("socket");
        assert_eq!(socket.ifindex(), port.ifindex);
        // To everybody first, then to the host alone.
        for destination in [None, Some(mac)] {
            let sent_ns = clock_monotonic();
            probe(&socket, PROBER, HOST, destination).expect("send");
            let received = frame(&socket).await;
            let now_ns = clock_monotonic();
            let want = ArpPacket {
                op: ArpOp::Reply,
                sender_mac: mac,
                sender_ip: HOST,
                target_mac: PROBER,
                target_ip: Ipv4Addr::UNSPECIFIED,
            };
            assert_eq!((arp::parse(&received.frame), &received.frame[6..12]), (Some(want), &mac.0[..]));
            assert!((sent_ns..=now_ns).contains(&received.at_ns), "{sent_ns} {received:?} {now_ns}");
        }
        probe(&socket, PROBER, Ipv4Addr::new(10, 77, 0, 99), None).expect("send");
        silence(&socket).await;
        // RFC 5227: a probe leaves no trace with those who hear it.
        let table = Netlink::open(&bed.host.ns).expect("netlink").neighbours().await.expect("neighbours");
        assert!(table.iter().all(|entry| entry.mac != Some(PROBER)), "{table:?}");
    });
}

/// The kernel's bridge takes a port's frames as Open vSwitch's kernel datapath does: before any protocol sees them.
#[test]
fn a_host_answers_behind_a_port_that_a_switch_in_the_kernel_holds() {
    if !as_root("a_host_answers_behind_a_port_that_a_switch_in_the_kernel_holds") {
        return;
    }
    let bed = Bed::new();
    bed.switch.ip("link add br0 type bridge");
    bed.switch.ip("link set br0 up");
    bed.switch.ip("link set sw1 master br0");
    block_on(async {
        let socket = open(&bed.switch.ns, bed.switch.link("sw1").await.ifindex).expect("socket");
        probe(&socket, PROBER, HOST, None).expect("send");
        assert_eq!(reply(&socket).await.sender_ip, HOST);
        assert_eq!(socket.next_queued(), None, "once");
    });
}

#[test]
fn it_works_from_inside_a_hosts_namespace() {
    if !as_root("it_works_from_inside_a_hosts_namespace") {
        return;
    }
    let bed = Bed::new();
    bed.switch.ip("addr add 10.77.0.2/24 dev sw1");
    block_on(async {
        let nic = bed.host.link("h-eth0").await;
        let socket = open(&bed.host.ns, nic.ifindex).expect("socket");
        probe(&socket, nic.mac.expect("a MAC"), Ipv4Addr::new(10, 77, 0, 2), None).expect("send");
        let received = reply(&socket).await;
        assert_eq!(Some(received.sender_mac), bed.switch.link("sw1").await.mac);
    });
}

#[test]
fn the_receive_time_is_the_kernels() {
    if !as_root("the_receive_time_is_the_kernels") {
        return;
    }
    let bed = Bed::new();
    block_on(async {
        let port = bed.switch.link("sw1").await;
        let socket = open(&bed.switch.ns, port.ifindex).expect("socket");
        // The queue is seen empty, then this thread is late by 300 ms, as a busy daemon would be.
        silence(&socket).await;
        let sent_ns = clock_monotonic();
        probe(&socket, PROBER, HOST, None).expect("send");
        std::thread::sleep(Duration::from_millis(300));
        let received = frame(&socket).await;
        let rtt_ms = received.at_ns.saturating_sub(sent_ns) / 1_000_000;
        assert!(received.at_ns >= sent_ns && rtt_ms < 150, "{rtt_ms} ms");
    });
}

#[test]
fn what_is_queued_is_found_before_the_runtime_notices() {
    if !as_root("what_is_queued_is_found_before_the_runtime_notices") {
        return;
    }
    let bed = Bed::new();
    block_on(async {
        let port = bed.switch.link("sw1").await;
        let socket = open(&bed.switch.ns, port.ifindex).expect("socket");
        assert_eq!(socket.next_queued(), None);
        for _ in 0..2 {
            probe(&socket, PROBER, HOST, None).expect("send");
        }
        // The runtime does not run meanwhile.
        std::thread::sleep(Duration::from_millis(100));
        let ips = std::array::from_fn(|_| {
            socket.next_queued().and_then(|got| arp::parse(&got.frame)).map(|got| got.sender_ip)
        });
        assert_eq!(ips, [Some(HOST), Some(HOST), None]);
    });
}

#[test]
fn announcements_are_heard_and_requests_are_not() {
    if !as_root("announcements_are_heard_and_requests_are_not") {
        return;
    }
    let bed = Bed::new();
    block_on(async {
        let (port, host) = (bed.switch.link("sw1").await, bed.host.link("h-eth0").await);
        let socket = open(&bed.switch.ns, port.ifindex).expect("socket");
        let speaker = open(&bed.host.ns, host.ifindex).expect("socket");
        let mac = host.mac.expect("a MAC");
        probe(&speaker, mac, Ipv4Addr::new(10, 77, 0, 5), None).expect("send");
        silence(&socket).await;
        let announcement = ArpPacket {
            op: ArpOp::Request,
            sender_mac: mac,
            sender_ip: HOST,
            target_mac: Mac::default(),
            target_ip: HOST,
        };
        speaker.send(&arp::build(Mac::BROADCAST, mac, &announcement)).expect("send");
        assert_eq!(reply(&socket).await, announcement);
    });
}

#[test]
fn a_link_that_is_down_or_gone_is_told_apart() {
    if !as_root("a_link_that_is_down_or_gone_is_told_apart") {
        return;
    }
    let bed = Bed::new();
    block_on(async {
        let port = bed.switch.link("sw1").await;
        let socket = open(&bed.switch.ns, port.ifindex).expect("socket");
        bed.switch.ip("link set sw1 down");
        let error = tokio::time::timeout(Duration::from_secs(2), socket.recv()).await.expect("an error");
        assert!(matches!(error, Err(PacketError::LinkDown(index)) if index == port.ifindex), "{error:?}");
        let error = probe(&socket, PROBER, HOST, None);
        assert!(matches!(error, Err(PacketError::LinkDown(_))), "{error:?}");

        bed.switch.ip("link set sw1 up");
        wait_for_carrier(&bed).await;
        probe(&socket, PROBER, HOST, None).expect("up again");
        assert_eq!(reply(&socket).await.sender_ip, HOST, "the same socket works again");

        bed.switch.ip("link del sw1");
        let error = tokio::time::timeout(Duration::from_secs(2), socket.recv()).await.expect("an error");
        assert!(matches!(error, Err(PacketError::LinkDown(_))), "{error:?}");
        let error = probe(&socket, PROBER, HOST, None);
        assert!(matches!(error, Err(PacketError::LinkGone(index)) if index == port.ifindex), "{error:?}");
        let error = open(&bed.switch.ns, port.ifindex).expect_err("no interface");
        assert!(matches!(error, PacketError::LinkGone(_)), "{error}");
    });
}

#[test]
fn a_host_advertises_its_ipv6_address_to_a_probe() {
    if !as_root("a_host_advertises_its_ipv6_address_to_a_probe") {
        return;
    }
    let bed = Bed::new();
    bed.host.ip("addr add fd77::1/64 dev h-eth0 nodad");
    let target = "fd77::1".parse().expect("an address");
    block_on(async {
        let (port, host) = (bed.switch.link("sw1").await, bed.host.link("h-eth0").await);
        let _program = attach_pass(&bed.switch.ns, port.ifindex);
        let socket = open(&bed.switch.ns, port.ifindex).expect("socket");
        // To its group first, then to the host alone.
        for destination in [None, host.mac] {
            socket.send(&ndp::build_probe(PROBER, target, destination)).expect("send");
            // The host's own address detection may be heard besides.
            let answer = loop {
                let heard = ndp::parse(&frame(&socket).await.frame).expect("a valid message");
                if heard.target == target {
                    break heard;
                }
            };
            assert_eq!((answer.kind, answer.mac), (ndp::Kind::Advertisement, host.mac));
        }
        // RFC 4862: a probe leaves no trace with those who hear it.
        let table = Netlink::open(&bed.host.ns).expect("netlink").neighbours().await.expect("neighbours");
        assert!(table.iter().all(|entry| entry.mac != Some(PROBER)), "{table:?}");
    });
}

async fn wait_for_carrier(bed: &Bed) {
    for _ in 0..100 {
        if bed.switch.link("sw1").await.carrier {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no carrier within 2 s");
}
