use std::collections::BTreeMap;

use lb_core::ledger::Ledger;

use super::*;
use crate::api::*;

pub(crate) fn a_status() -> Status {
    let backend = |id, last, state: &str, reason: &str| Backend {
        id,
        name: format!("h{last}"),
        address: [10, 0, 0, last].into(),
        port: None,
        weight: 1,
        state: state.into(),
        admin: "enabled".into(),
        drain: None,
        reason: reason.into(),
        since_ms: 61_000,
        downs: 0,
        last_failure: None,
        share_pct: 100,
        mac: None,
        told_by_mac: false,
        interface: Some("s1-eth1".into()),
        connections: Some(40 + u64::from(id)),
    };
    Status {
        version: "0.1.0".into(),
        pid: 42,
        uptime_ms: 3_725_000,
        adopted: true,
        balancer: crate::control::Balancer::Xdp,
        placement: Placement { kind: "inline".into(), host: None, mac: None },
        attach_mode: "native".into(),
        prober_macs: vec!["02:00:00:00:00:01".into()],
        interfaces: vec![Interface {
            name: "s1-eth1".into(),
            ifindex: 7,
            netns: None,
            switch: Some("s1".into()),
            host: Some("h1".into()),
            xdp: "native".into(),
            forward: "pass".into(),
            forward_reason: Some("shaped by htb".into()),
            peer: Some("h1-eth0".into()),
        }],
        vips: vec![Vip {
            id: 1,
            name: "web".into(),
            address: [10, 0, 1, 1].into(),
            prefix_len: None,
            port: None,
            ports: "all".into(),
            protocol: "tcp".into(),
            mac: "0a:00:0a:00:01:01".into(),
            mode: "nat".into(),
            selection: "random".into(),
            connections: Some(83),
            backends: vec![backend(1, 1, "up", "probe answered"), backend(2, 2, "down", "3 probes lost")],
        }],
        connections: TableStatus {
            capacity: 65_536,
            memory_bytes: 8 << 20,
            bytes_per_entry: 128,
            sweep: Some(SweepStatus {
                age_ms: 300,
                took_ms: 1000,
                cpu_us: 6_543,
                entries: 100,
                removed: 10,
                live: 90,
                states: StateCounts { syn: 3, unverified: 0, established: 80, closing: 4, closed: 2, udp: 1 },
            }),
        },
        pins: PinnedObjects::default(),
        warnings: vec!["s1-eth1 is shaped".into()],
    }
}

#[test]
fn a_status_as_people_see_it() {
    let expected = "\
lb 0.1.0, process 42, up 1 h 02 min, native mode, adopted from an earlier daemon
placement: inline
connection table: 90 of 65536 entries of 128 bytes, 8 MiB
connections: 80 established, 3 opening, 0 unverified, 4 closing, 2 reset, 1 udp; 10 timed out and removed
sweep: 300 ms ago, took 1 s and 0.65 % of a core
probes from: 02:00:00:00:00:01

INTERFACE  NAMESPACE  SWITCH  HOST  XDP     PEER     FORWARD  WHY
s1-eth1    -          s1      h1    native  h1-eth0  pass     shaped by htb

VIP  ADDRESS   PORT  PROTOCOL  MAC                MODE  SELECTION  BACKENDS UP
web  10.0.1.1  all   tcp       0a:00:0a:00:01:01  nat   random     1 of 2

VIP  BACKEND   STATE  SINCE       WEIGHT  CONNECTIONS  DOWNS  MAC  INTERFACE  REASON
web  10.0.0.1  up     1 min 01 s       1           41      0  -    s1-eth1    probe answered
web  10.0.0.2  down   1 min 01 s       1           42      0  -    s1-eth1    3 probes lost

warning: s1-eth1 is shaped
";
    assert_eq!(status(&a_status()), expected);
}

#[test]
fn connections_with_what_was_left_out() {
    let connection = Connection {
        client: [10, 0, 0, 3].into(),
        client_port: 40_000,
        vip: "web".into(),
        vip_port: 80,
        protocol: "tcp".into(),
        backend: [10, 0, 0, 1].into(),
        backend_port: 8080,
        state: "established".into(),
        idle_ms: 1_005,
    };
    let expected = "\
CLIENT          VIP  VIP PORT  PROTOCOL  BACKEND        STATE        IDLE (s)
10.0.0.3:40000  web        80  tcp       10.0.0.1:8080  established     1.005
1 of 3 connections; more with --after '10.0.0.3:40000>10.0.1.1:80/tcp'
";
    let next = Some("10.0.0.3:40000>10.0.1.1:80/tcp".into());
    assert_eq!(connections(&Connections { total: 3, connections: vec![connection], next }), expected);
}

#[test]
fn counters_with_and_without_zeros() {
    let traffic =
        Traffic { packets_in: 5, bytes_in: 500, packets_out: 4, bytes_out: 4000, opened: 1, dropped: 0 };
    let mut answer = Stats {
        ledger: Ledger { received: 12, forwarded: 9, answered: 1, passed: 2, dropped: 0 },
        ledger_difference: 0,
        reasons: BTreeMap::from([("arp-answered".to_owned(), 1), ("malformed".to_owned(), 0)]),
        partial_checksums: 0,
        losses: Losses::default(),
        interfaces: vec![InterfaceLosses {
            name: "s1-eth1".into(),
            netns: None,
            peer: Some("h1-eth0".into()),
            devices: DeviceLosses::default(),
        }],
        vips: vec![VipStats { id: 1, name: "web".into(), forwarded: 9, traffic }],
        backends: vec![BackendStats { id: 1, vip: "web".into(), address: [10, 0, 0, 1].into(), traffic }],
    };
    let expected = "\
LEDGER                  PACKETS
received                     12
forwarded                     9
answered                      1
passed                        2
dropped                       0
difference                    0
lost after the verdict        0
partial checksums             0

REASON        PACKETS
arp-answered        1

VIP  FORWARDED (packets)  IN (packets)  IN (bytes)  OUT (packets)  OUT (bytes)  OPENED (connections)  DROPPED (packets)
web                    9             5         500              4         4000                     1                  0

VIP  BACKEND   IN (packets)  IN (bytes)  OUT (packets)  OUT (bytes)  OPENED (connections)  DROPPED (packets)
web  10.0.0.1             5         500              4         4000                     1                  0
";
    assert_eq!(stats(&answer, false), expected);
    assert!(stats(&answer, true).contains("\nmalformed           0\n"));

    let devices = DeviceLosses { receive_dropped: 100, peer_transmit_dropped: 7, ..DeviceLosses::default() };
    answer.interfaces[0].devices = devices;
    answer.losses = Losses { devices, redirect_dropped: 3 };
    let lost = "
lost after the verdict      110
partial checksums             0

LOST AT  PEER     SENDING  RECEIVING  PEER SENDING  PEER RECEIVING  ERRORS
s1-eth1  h1-eth0        0        100             7               0       0
redirected, and taken by no device: 3

REASON ";
    assert!(stats(&answer, false).contains(lost), "{}", stats(&answer, false));
}

#[test]
fn what_detach_did_and_did_not() {
    let done = Detached {
        programs: vec!["s1-eth1 (root)".into()],
        offloads: vec!["h1-eth0: tx-checksum".into()],
        failures: vec!["h2-eth0: gone".into()],
    };
    let expected =
        "removed program s1-eth1 (root)\nrestored offload h1-eth0: tx-checksum\nnot undone: h2-eth0: gone\n";
    assert_eq!(detached(&done), expected);
    assert_eq!(detached(&Detached::default()), "nothing was attached\n");
}

#[test]
fn findings_with_their_mends() {
    let check = |status, name: &str, mend: Option<&str>| doctor::Check {
        name: name.into(),
        subject: String::new(),
        status,
        what: "found".into(),
        mend: mend.map(str::to_owned),
    };
    let findings = Report {
        status: doctor::Status::Fail,
        checks: vec![
            check(doctor::Status::Ok, "kernel", None),
            check(doctor::Status::Fail, "bpffs", Some("mount -t bpf bpf /sys/fs/bpf")),
        ],
        daemon: None,
    };
    let expected = "\
STATUS  CHECK   WHERE  FOUND
ok      kernel  -      found
FAIL    bpffs   -      found
                       mend: mount -t bpf bpf /sys/fs/bpf
";
    assert_eq!(report(&findings), expected);
}

#[test]
fn durations() {
    for (ms, text) in [(0, "0 ms"), (999, "999 ms"), (59_999, "59 s"), (60_000, "1 min 00 s")] {
        assert_eq!(duration(ms), text);
    }
    assert_eq!((duration(86_399_000), duration(97_200_000)), ("23 h 59 min".into(), "1 d 03 h".into()));
}
