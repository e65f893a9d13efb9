//! From the text of a file to the model.

use toml::de::DeTable;

use super::check::{self, Places};
use super::error::{ConfigError, Origin, Problems, line_of};
use super::health;
use super::read::{At, Section};
use super::vip;
use super::{Config, ConnectionsConfig, HealthPreset, Mode, Placement, PlacementKind, Protocol, Selection};

const TOP_KEYS: &[&str] = &["placement", "health", "connections", "vip"];
const PLACEMENT_KEYS: &[&str] = &["kind", "host", "attach"];
const CONNECTIONS_KEYS: &[&str] = &[
    "table_size",
    "half_open_size",
    "snat_size",
    "affinity_size",
    "source_size",
    "fragment_size",
    "max_new_per_s",
    "syn_s",
    "established_s",
    "closing_s",
    "udp_s",
    "unverified_s",
    "fragment_s",
];
pub(super) const PLACEMENTS: &[(&str, PlacementKind)] =
    &[("inline", PlacementKind::Inline), ("onearm", PlacementKind::OneArm)];
pub(super) const PRESETS: &[(&str, HealthPreset)] =
    &[("default", HealthPreset::Default), ("pox", HealthPreset::Pox)];
pub(super) const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
pub(super) const SELECTIONS: &[(&str, Selection)] = &[
    ("random", Selection::Random),
    ("round-robin", Selection::RoundRobin),
    ("source-hash", Selection::SourceHash),
    ("flow-hash", Selection::FlowHash),
    ("maglev", Selection::Maglev),
    ("least-connections", Selection::LeastConnections),
];
pub(super) const MODES: &[(&str, Mode)] =
    &[("nat", Mode::Nat), ("fullnat", Mode::FullNat), ("dsr", Mode::Dsr), ("ipip", Mode::IpIp)];

/// The longest idle timeout: a week.
pub(super) const MAX_TIMEOUT_S: u32 = 604_800;
/// Fragments live this long at most (RFC 791 lets none live longer).
const MAX_FRAGMENT_S: u32 = 255;
/// The largest table.
const MAX_TABLE_SIZE: u32 = 8_388_608;
/// More new connections a second than any machine makes.
const MAX_NEW_PER_S: u32 = 100_000_000;
/// The slowest probing: an hour.
pub(super) const MAX_INTERVAL_MS: u32 = 3_600_000;

/// Reads and checks a whole file.
pub(super) fn config(text: &str, file: &str) -> Result<Config, ConfigError> {
    let refuse = |(offset, message): (usize, String)| {
        ConfigError::new(Origin::File { name: file.to_owned(), line: line_of(text, offset) }, &message)
    };
    let document = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        refuse((offset, format!("not valid TOML: {}", error.message())))
    })?;
    let mut problems = Problems::default();
    let problem = &mut problems;
    let top = Section::new("the file", document.get_ref(), 0, TOP_KEYS, problem);
    let (placement, attach) = placement(&top, problem);
    let (health, probe) = health::read(&top, problem);
    let connections = connections(&top, problem);
    let mut vips = Vec::new();
    let mut places = Places { placement: placement.offset, attach, probe, vips: Vec::new() };
    let sections = top.tables("vip", "[[vip]]", vip::KEYS, problem);
    if sections.as_ref().is_some_and(Vec::is_empty) {
        // Every other mistake comes before the end of the file.
        problem.add(text.len(), "no VIP; add a [[vip]] with an address and at least one [[vip.backend]]");
    }
    for section in sections.unwrap_or_default() {
        // A VIP with a mistake in it is left out of the rules between VIPs; its mistake is already noted.
        if let Some((vip, place)) = vip::vip(&section, placement.value.kind, problem) {
            vips.push(vip);
            places.vips.push(place);
        }
    }
    let mut config = Config { placement: placement.value, health, connections, vips };
    check::config(&mut config, &places, &mut problems);
    problems.into_first().map_or(Ok(config), |first| Err(refuse(first)))
}

fn placement(top: &Section<'_>, problems: &mut Problems) -> (At<Placement>, Vec<usize>) {
    let Some(section) = top.table("placement", "[placement]", PLACEMENT_KEYS, problems) else {
        return (At { value: Placement::default(), offset: 0 }, Vec::new());
    };
    let kind = section.choice("kind", PLACEMENTS, PlacementKind::default(), problems).value;
    let host = section.text("host", problems);
    let offset = host.map_or(section.offset, |host| host.offset);
    let attach = section.texts("attach", problems);
    let offsets = attach.iter().map(|name| name.offset).collect();
    let value = Placement {
        kind,
        host: host.map(|host| host.value.to_owned()),
        attach: attach.iter().map(|name| name.value.to_owned()).collect(),
    };
    (At { value, offset }, offsets)
}

fn connections(top: &Section<'_>, problems: &mut Problems) -> ConnectionsConfig {
    let base = ConnectionsConfig::default();
    let Some(section) = top.table("connections", "[connections]", CONNECTIONS_KEYS, problems) else {
        return base;
    };
    let mut size = |key: &str, low: u32, default: u32| {
        let size = section.number(key, low..=MAX_TABLE_SIZE, default, problems);
        if !size.is_power_of_two() {
            let (low, high) = (size.next_power_of_two() / 2, size.next_power_of_two());
            let offset = section.has(key).unwrap_or(section.offset);
            problems.add(offset, format!("{key} = {size} is not a power of two; choose {low} or {high}"));
        }
        size
    };
    let (table_size, half_open_size) =
        (size("table_size", 1_024, base.table_size), size("half_open_size", 256, base.half_open_size));
    let (snat_size, affinity_size) =
        (size("snat_size", 256, base.snat_size), size("affinity_size", 256, base.affinity_size));
    let (source_size, fragment_size) =
        (size("source_size", 256, base.source_size), size("fragment_size", 256, base.fragment_size));
    let max_new_per_s =
        section.has("max_new_per_s").map(|_| section.number("max_new_per_s", 0..=MAX_NEW_PER_S, 0, problems));
    let mut seconds = |key: &str, default: u32| section.number(key, 1..=MAX_TIMEOUT_S, default, problems);
    ConnectionsConfig {
        table_size,
        half_open_size,
        snat_size,
        affinity_size,
        source_size,
        fragment_size,
        max_new_per_s,
        syn_s: seconds("syn_s", base.syn_s),
        established_s: seconds("established_s", base.established_s),
        closing_s: seconds("closing_s", base.closing_s),
        udp_s: seconds("udp_s", base.udp_s),
        unverified_s: seconds("unverified_s", base.unverified_s),
        fragment_s: section.number("fragment_s", 1..=MAX_FRAGMENT_S, base.fragment_s, problems),
    }
}
