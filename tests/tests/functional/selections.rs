//! Who gets what, and what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::bed::{
    AFFINITY, Answer, BACKENDS, Bed, CLIENT, FLOW_HASH, LEAST, MAGLEV, MORE_SOURCES, OTHER_CLIENT, RANDOM,
    ROUND_ROBIN, SIX, SOURCE_HASH, Service, UDP, VIP, VIP6, WEIGHTS, backend_port,
};
use super::mode::{Rewrite, Sender, What};
use crate::e2e_bed::{Wire, address, echo_udp, echo_udp_flow};

/// So many that by chance alone each of three backends gets one, but once in ten million times.
const MANY: usize = 42;
/// Ports of the client that the system gives to nobody.
const PORTS: std::ops::Range<u16> = 20_001..20_013;

/// Every selection that the mode has.
pub fn all(bed: &Bed) {
    let has = |service: &Service| bed.mode.has(service.what);
    if has(&ROUND_ROBIN) {
        let exact = bed.mode.has(What::Exact);
        let hosts = bed.ask(&ROUND_ROBIN, if exact { 9 } else { MANY });
        assert_in_turn(bed, &hosts);
    }
    if has(&RANDOM) {
        assert_everybody(bed, &bed.ask(&RANDOM, MANY));
    }
    if has(&WEIGHTS) {
        weights(bed);
    }
    for service in [FLOW_HASH, MAGLEV].iter().filter(|service| has(service)) {
        same_port_same_backend(bed, service);
    }
    if has(&SOURCE_HASH) {
        let hosts = same_source_same_backend(bed, &SOURCE_HASH);
        assert!(hosts.len() > 1, "{}: eight clients at one backend", bed.mode);
    }
    if has(&AFFINITY) {
        same_source_same_backend(bed, &AFFINITY);
    }
    if has(&LEAST) {
        least_connections(bed);
    }
    sources(bed);
}

fn counts(hosts: &[u32]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    hosts.iter().for_each(|host| *counts.entry(*host).or_default() += 1);
    counts
}

fn assert_everybody(bed: &Bed, hosts: &[u32]) {
    let seen: BTreeSet<u32> = hosts.iter().copied().collect();
    assert_eq!(seen, BTreeSet::from(BACKENDS), "{}: {hosts:?}", bed.mode);
}

/// One after the other, or where the mode has only a hash, all of them.
fn assert_in_turn(bed: &Bed, hosts: &[u32]) {
    assert_everybody(bed, hosts);
    if bed.mode.has(What::Exact) {
        let in_turn = hosts.windows(BACKENDS.len()).all(|turn| counts(turn).len() == BACKENDS.len());
        assert!(in_turn, "{}: {hosts:?}", bed.mode);
    }
}

/// Twice as many for the third backend.
fn weights(bed: &Bed) {
    if bed.mode.has(What::Exact) {
        let hosts = bed.ask(&WEIGHTS, 8);
        assert_eq!(counts(&hosts), BTreeMap::from([(1, 2), (2, 2), (3, 4)]), "{}: {hosts:?}", bed.mode);
        return;
    }
    let hosts = bed.ask(&WEIGHTS, MANY);
    let counts = counts(&hosts);
    // 21 on average, and less than 9 once in ten thousand times.
    assert!(counts.len() == 3 && counts[&3] >= 9, "{}: {counts:?}", bed.mode);
}

/// A client that uses its port again comes to the same backend, and ports are spread.
fn same_port_same_backend(bed: &Bed, service: &Service) {
    let from = |port: u16| bed.ask_with(CLIENT, service, &["--local-port", &port.to_string()]).host;
    let first: Vec<u32> = PORTS.map(from).collect();
    let again: Vec<u32> = PORTS.map(from).collect();
    assert_eq!(first, again, "{}: {}", bed.mode, service.what);
    assert!(counts(&first).len() > 1, "{}: {}: {first:?}", bed.mode, service.what);
}

/// Every client stays at its backend; all who were at work.
fn same_source_same_backend(bed: &Bed, service: &Service) -> BTreeSet<u32> {
    let mut hosts = BTreeSet::new();
    for source in MORE_SOURCES.iter().copied().chain([address(CLIENT).as_str()]) {
        let answers: BTreeSet<u32> =
            (0..3).map(|_| bed.ask_with(CLIENT, service, &["--interface", source]).host).collect();
        assert_eq!(answers.len(), 1, "{}: {} of {source}: {answers:?}", bed.mode, service.what);
        hosts.extend(answers);
    }
    hosts
}

/// Connections that stay open are spread evenly, as are requests.
fn least_connections(bed: &Bed) {
    let open: Vec<_> = (0..16).map(|_| bed.open(&LEAST)).collect();
    let hosts: Vec<u32> = open.iter().map(|(_, host)| *host).collect();
    let counts = counts(&hosts);
    if bed.mode.has(What::Exact) {
        // By chance alone once in twenty times; by the least of two once in a thousand.
        assert!(counts.len() == 3 && counts.values().all(|count| *count >= 2), "{}: {hosts:?}", bed.mode);
    }
    assert!(counts.len() > 1, "{}: {hosts:?}", bed.mode);
    bed.ask(&LEAST, 3);
}

/// Whom the backends see, whoever asks.
fn sources(bed: &Bed) {
    let service = bed.main_service();
    for client in [CLIENT, OTHER_CLIENT] {
        let seen = if bed.mode.rewrite == Rewrite::FullNat { VIP.to_owned() } else { address(client) };
        let answer = bed.ask_with(client, &service, &[]);
        assert_eq!(answer, Answer { host: answer.host, seen }, "{}", bed.mode);
    }
}

/// Where the answers come from, as the client's wire has it: the VIP's address, the MAC that the mode promises, and
/// nothing of a backend's own.
pub fn answers_come_from_the_vip(bed: &Bed) {
    let service = bed.main_service();
    let wire = Wire::inside(&bed.fabric.net, CLIENT, &bed.fabric.interface(CLIENT));
    bed.ask(&service, 3);
    let own = [2, 0, 0, 0, 0, CLIENT as u8];
    let is_tcp = |frame: &[u8]| {
        frame.len() >= 54 && frame[..6] == own && frame[12..15] == [8, 0, 0x45] && frame[23] == 6
    };
    let frames = wire.collect(usize::MAX, Duration::from_millis(100), is_tcp);
    let port = |frame: &[u8]| u16::from_be_bytes([frame[34], frame[35]]);
    let from_vip = |frame: &&Vec<u8>| frame[26..30] == [10, 0, 1, 1] && port(frame) == service.port;
    let macs: BTreeSet<String> = frames.iter().filter(from_vip).map(|frame| mac(&frame[6..12])).collect();
    match bed.mode.sender() {
        Sender::Vip => assert_eq!(macs, BTreeSet::from(["02:6c:0a:00:01:01".to_owned()]), "{}", bed.mode),
        Sender::Asked => assert_eq!(macs, BTreeSet::from([bed.vips_neighbour()]), "{}", bed.mode),
        Sender::Backend => {
            let backends: BTreeSet<String> = BACKENDS.map(|n| format!("02:00:00:00:00:{n:02x}")).into();
            assert!(!macs.is_empty() && macs.is_subset(&backends), "{}: {macs:?}", bed.mode);
        }
    }
    let served = [service.port, backend_port(&bed.mode, &service)];
    let leaked: Vec<String> = frames
        .iter()
        .filter(|frame| frame[26..30] != [10, 0, 1, 1] && served.contains(&port(frame)))
        .map(|frame| format!("{:?}", &frame[26..30]))
        .collect();
    assert_eq!(leaked, Vec::<String>::new(), "{}: from others than the VIP", bed.mode);
}

fn mac(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}

/// The host that echoed a datagram from a new port.
pub fn datagram(bed: &Bed) -> u32 {
    let to = format!("{VIP}:{}", UDP.port);
    let echoed = echo_udp(&bed.fabric.net, CLIENT, &to, "x");
    echoed_by(&echoed.unwrap_or_else(|error| panic!("{to}: {error}; {}", bed.state())))
}

fn echoed_by(echoed: &str) -> u32 {
    let (host, text) = echoed.split_once(' ').expect("an echo");
    assert_eq!(text, "x");
    host.parse().expect("a backend")
}

/// Each flow of datagrams has its backend, and stays there.
pub fn datagrams(bed: &Bed) {
    let count = if bed.mode.has(What::Exact) { 9 } else { MANY };
    let hosts: Vec<u32> = (0..count).map(|_| datagram(bed)).collect();
    assert_in_turn(bed, &hosts);
    let to = format!("{VIP}:{}", UDP.port);
    let flow = echo_udp_flow(&bed.fabric.net, CLIENT, &to, "x", 6);
    let flow = flow.unwrap_or_else(|error| panic!("{to}: {error}; {}", bed.state()));
    let hosts: BTreeSet<u32> = flow.iter().map(|echoed| echoed_by(echoed)).collect();
    assert_eq!(hosts.len(), 1, "{}: {flow:?}", bed.mode);
}

/// The same over IPv6.
pub fn six(bed: &Bed) {
    let count = if bed.mode.has(What::Exact) { 6 } else { MANY };
    let answers: Vec<Answer> = (0..count).map(|_| bed.ask_with(CLIENT, &SIX, &[])).collect();
    assert_in_turn(bed, &answers.iter().map(|answer| answer.host).collect::<Vec<_>>());
    let seen =
        if bed.mode.rewrite == Rewrite::FullNat { VIP6.to_owned() } else { format!("2001:db8::{CLIENT}") };
    assert!(answers.iter().all(|answer| answer.seen == seen), "{}: {answers:?}", bed.mode);
    assert!(bed.fabric.net.ping(CLIENT, VIP6, 2), "{}", bed.state());
}
