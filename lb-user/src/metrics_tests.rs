use std::collections::{BTreeMap, BTreeSet};

use lb_core::ledger::Ledger;

use super::*;
use crate::api::{BackendStats, DeviceLosses, Losses, VipStats};
use crate::render::tests::a_status;

/// Reads the format as strictly as a scraper: every sample belongs to the family announced last, names and labels are
/// well formed, nothing is there twice, counters are called so.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
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

#[test]
fn a_scraper_reads_everything() {
    let traffic =
        |n| Traffic { packets_in: n, bytes_in: 100 * n, packets_out: 2, bytes_out: 3, opened: 4, dropped: 5 };
    let mut status = a_status();
    status.vips[0].name = "a \"web\"\\\nVIP".into();
    status.vips[0].backends[1].port = Some(8080);
    let devices = DeviceLosses { receive_dropped: 100, peer_transmit_dropped: 7, ..DeviceLosses::default() };
    status.connections.sweep.as_mut().unwrap().states.unverified = 6;
    let stats = Stats {
        ledger: Ledger { received: 12, forwarded: 9, answered: 1, passed: 2, dropped: 0 },
        ledger_difference: 0,
        reasons: BTreeMap::from([("not_ours".to_owned(), 2), ("arp_answered".to_owned(), 1)]),
        partial_checksums: 7,
        losses: Losses { devices, redirect_dropped: 3 },
        interfaces: vec![InterfaceLosses {
            name: "s1-eth1".into(),
            netns: None,
            peer: Some("h1-eth0".into()),
            devices,
        }],
        vips: vec![VipStats { id: 1, name: status.vips[0].name.clone(), forwarded: 9, traffic: traffic(9) }],
        backends: vec![1, 2]
            .into_iter()
            .map(|id| BackendStats {
                id,
                vip: status.vips[0].name.clone(),
                address: [10, 0, 0, id as u8].into(),
                traffic: traffic(u64::from(id)),
            })
            .collect(),
    };
    let samples = parse(&text(&status, &stats));
    let vip = r#"vip="a \"web\"\\\nVIP""#;
    let lost = |end, direction| {
        let labels = r#"interface="s1-eth1",namespace="""#;
        format!(r#"lb_device_dropped_packets_total{{{labels},end="{end}",direction="{direction}"}}"#)
    };
    let expected = [
        ("lb_received_packets_total".to_owned(), 12.0),
        (r#"lb_packets_total{reason="not_ours",class="passed"}"#.to_owned(), 2.0),
        (r#"lb_packets_total{reason="no_backend",class="dropped"}"#.to_owned(), 0.0),
        ("lb_ledger_difference_packets".to_owned(), 0.0),
        (format!(r#"lb_vip_packets_total{{{vip},direction="in"}}"#), 9.0),
        (format!(r#"lb_vip_packets_total{{{vip},direction="out"}}"#), 2.0),
        (format!(r#"lb_backend_bytes_total{{{vip},backend="10.0.0.1",direction="in"}}"#), 100.0),
        (format!(r#"lb_backend_bytes_total{{{vip},backend="10.0.0.2:8080",direction="out"}}"#), 3.0),
        (format!(r#"lb_backend_connections{{{vip},backend="10.0.0.1"}}"#), 41.0),
        (format!(r#"lb_backend_up{{{vip},backend="10.0.0.2:8080"}}"#), 0.0),
        (format!(r#"lb_backend_state{{{vip},backend="10.0.0.2:8080",state="down"}}"#), 1.0),
        (r#"lb_connections{state="established"}"#.to_owned(), 80.0),
        (r#"lb_connections{state="unverified"}"#.to_owned(), 6.0),
        (r#"lb_connections{state="udp"}"#.to_owned(), 1.0),
        (lost("port", "receive"), 100.0),
        (lost("port", "transmit"), 0.0),
        (lost("peer", "transmit"), 7.0),
        ("lb_redirect_dropped_packets_total".to_owned(), 3.0),
        ("lb_lost_packets_total".to_owned(), 110.0),
        ("lb_connection_table_capacity".to_owned(), 65_536.0),
        ("lb_sweep_cpu_seconds".to_owned(), 0.006_543),
    ];
    for (id, value) in expected {
        assert_eq!(samples.get(&id), Some(&value), "{id} in {samples:#?}");
    }
    let reasons = samples.keys().filter(|id| id.starts_with("lb_packets_total{")).count();
    assert_eq!(reasons, Reason::ALL.len());
}
