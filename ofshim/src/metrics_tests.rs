use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::core::view::{
    Balancer, Discovery, MessageCounter, Status, Switch, SwitchCounters, TreeCounters, Vip,
};

/// Reads the format as strictly as a scraper: every sample belongs to the family announced last, names and labels are
/// well formed, nothing is there twice, counters are called so.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut helped) = (String::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty(), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, helped, "help and type are of one family");
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name.to_owned()), "{name} is there twice");
            family = name.to_owned();
        } else {
            let (id, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = match id.split_once('{') {
                None => (id, ""),
                Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closing brace")),
            };
            assert!(is_name(name) && name == family, "{line} after {family}");
            let mut seen = BTreeSet::new();
            let mut rest = labels;
            while !rest.is_empty() {
                let (label, tail) = rest.split_once("=\"").expect("a label");
                assert!(is_name(label) && seen.insert(label), "{line}");
                let mut escaped = false;
                let end = tail.find(|c| {
                    let quote = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    quote
                });
                rest = &tail[end.expect("a closing quote") + 1..];
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            let old = samples.insert(id.to_owned(), value.parse::<f64>().expect("a number"));
            assert!(old.is_none(), "{id} is there twice");
        }
    }
    samples
}

fn a_status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        uptime_s: 7,
        listen: vec![],
        tls: false,
        openflow: vec!["1.0".to_owned(), "1.3".to_owned()],
        forwarding: "routed".to_owned(),
        granularity: "five-tuple".to_owned(),
        metric: "hops".to_owned(),
        proactive: false,
        idle_timeout_s: 10,
        hard_timeout_s: 120,
        switches: vec![Switch {
            dpid: "0000000000000001".to_owned(),
            openflow: "1.3".to_owned(),
            peer: "127.0.0.1:5".to_owned(),
            role: "equal".to_owned(),
            connected_s: 6,
            ports_up: 2,
            packet_ins: 3,
            packet_outs: 4,
            flow_mods: 5,
        }],
        hosts: 9,
        flows: 10,
        links: 1,
        clusters: 1,
        discovery: Some(Discovery { period_ms: 1500, sent: 1, heard: 2, forged: 3, replayed: 4, relayed: 5 }),
        stopped: BTreeMap::from([("a \"reason\"\\".to_owned(), 6)]),
        classic: None,
        balancing: None,
        balancer: Balancer {
            source: "daemon".to_owned(),
            placement: "onearm".to_owned(),
            vips: vec![Vip { address: [10, 0, 1, 1].into(), mac: "02:6c:0a:00:01:01".to_owned() }],
            backends: vec![[10, 0, 0, 1].into()],
            ..Balancer::default()
        },
    }
}

fn counters() -> Counters {
    let message = |direction, kind: &str, count| MessageCounter {
        openflow: "1.3".into(),
        direction,
        kind: kind.into(),
        count,
    };
    Counters {
        connections: 2,
        opened: 4,
        messages: vec![message("in", "packet_in", 3), message("out", "flow_mod", 5)],
        switches: vec![SwitchCounters {
            conn: 1,
            dpid: "0000000000000001".to_owned(),
            round_trip: Duration::from_micros(250),
            ports: 3,
            waiting_bytes: 17,
        }],
        entries: BTreeMap::from([("route", 8), ("steer", 2)]),
        trees: TreeCounters { kept: 1, limit: 1000, asked: 20, made: 2, distances: 30 },
        services: 2,
        waiting_inputs: 1,
        status: a_status(),
        links: vec![Link {
            from: "0000000000000001".to_owned(),
            from_port: 2,
            to: "0000000000000002".to_owned(),
            to_port: 1,
            kind: "direct".to_owned(),
            cost: 1,
            latency_us: 300,
            load_bps: Some(2_000_000),
            utilisation_permille: Some(20),
            both_ways: true,
            on_tree: true,
        }],
    }
}

#[test]
fn a_scraper_reads_everything() {
    let samples = parse(&text(&counters()));
    let expected = [
        ("ofshim_connections_opened_total", 4.0),
        ("ofshim_sessions", 1.0),
        ("ofshim_waiting_inputs", 1.0),
        ("ofshim_messages_total{direction=\"in\",type=\"packet_in\",openflow=\"1.3\"}", 3.0),
        ("ofshim_messages_total{direction=\"out\",type=\"flow_mod\",openflow=\"1.3\"}", 5.0),
        ("ofshim_switch_packet_ins_total{switch=\"0000000000000001\"}", 3.0),
        ("ofshim_switch_round_trip_seconds{switch=\"0000000000000001\"}", 0.000_25),
        ("ofshim_switch_waiting_bytes{switch=\"0000000000000001\"}", 17.0),
        ("ofshim_switch_ports{switch=\"0000000000000001\"}", 3.0),
        ("ofshim_switch_ports_up{switch=\"0000000000000001\"}", 2.0),
        ("ofshim_flow_entries{purpose=\"steer\"}", 2.0),
        ("ofshim_hosts", 9.0),
        ("ofshim_links", 1.0),
        ("ofshim_stopped_packets_total{reason=\"a \\\"reason\\\"\\\\\"}", 6.0),
        ("ofshim_route_look_ups_total", 20.0),
        ("ofshim_route_misses_total", 2.0),
        ("ofshim_discovery_period_seconds", 1.5),
        ("ofshim_discovery_frames_total{what=\"forged\"}", 3.0),
        (
            "ofshim_link_latency_seconds{from=\"0000000000000001:2\",to=\"0000000000000002:1\",kind=\"direct\"}",
            0.0003,
        ),
        ("ofshim_link_utilisation_ratio{from=\"0000000000000001:2\",to=\"0000000000000002:1\"}", 0.02),
    ];
    for (id, value) in expected {
        assert_eq!(samples.get(id), Some(&value), "{id}");
    }
}

#[test]
fn without_discovery_its_families_are_left_out() {
    let mut counters = counters();
    counters.status.discovery = None;
    assert!(!parse(&text(&counters)).keys().any(|id| id.starts_with("ofshim_discovery")));
}

#[test]
fn every_family_is_in_the_documentation() {
    let documented = include_str!("../../docs/ofshim.md");
    for family in text(&counters()).lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().unwrap();
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/ofshim.md");
    }
}
