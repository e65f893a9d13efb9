//! From the text of a file to the model.

use toml::de::DeTable;

use super::check::{self, BackendPlace, Places, VipPlace};
use super::error::{ConfigError, Origin, Problems, line_of};
use super::read::{At, Section};
use super::{
    Admin, BackendConfig, Config, ConnectionsConfig, HealthConfig, HealthPreset, MAX_WEIGHT, Mode, NoBackend,
    OnDown, Placement, PlacementKind, Protocol, Selection, VipConfig, VipKey,
};
use crate::host::addr::{self, MacAddr};

const TOP_KEYS: &[&str] = &["placement", "health", "connections", "vip"];
const PLACEMENT_KEYS: &[&str] = &["kind", "host", "attach"];
const HEALTH_KEYS: &[&str] = &["preset", "interval_ms", "timeout_ms", "rise", "fall", "jitter_pct"];
const CONNECTIONS_KEYS: &[&str] = &["table_size", "syn_s", "established_s", "closing_s", "udp_s"];
const VIP_KEYS: &[&str] =
    &["name", "address", "port", "protocol", "selection", "mode", "mac", "on_down", "no_backend", "backend"];
const BACKEND_KEYS: &[&str] = &["name", "address", "port", "weight"];

pub(super) const PLACEMENTS: &[(&str, PlacementKind)] =
    &[("inline", PlacementKind::Inline), ("onearm", PlacementKind::OneArm)];
pub(super) const PRESETS: &[(&str, HealthPreset)] =
    &[("default", HealthPreset::Default), ("pox", HealthPreset::Pox)];
pub(super) const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
pub(super) const SELECTIONS: &[(&str, Selection)] =
    &[("random", Selection::Random), ("round-robin", Selection::RoundRobin), ("maglev", Selection::Maglev)];
const MODES: &[(&str, Mode)] = &[("nat", Mode::Nat), ("dsr", Mode::Dsr)];
const ON_DOWN: &[(&str, OnDown)] = &[("keep", OnDown::Keep), ("repick", OnDown::Repick)];
const NO_BACKEND: &[(&str, NoBackend)] = &[("drop", NoBackend::Drop), ("last-known", NoBackend::LastKnown)];

/// The longest idle timeout: a week.
const MAX_TIMEOUT_S: u32 = 604_800;
/// The slowest probing: an hour.
const MAX_INTERVAL_MS: u32 = 3_600_000;

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
    let health = health(&top, problem);
    let connections = connections(&top, problem);
    let mut vips = Vec::new();
    let mut places = Places { placement: placement.offset, attach, vips: Vec::new() };
    let sections = top.tables("vip", "[[vip]]", VIP_KEYS, problem);
    if sections.as_ref().is_some_and(Vec::is_empty) {
        // Every other mistake comes before the end of the file.
        problem.add(text.len(), "no VIP; add a [[vip]] with an address and at least one [[vip.backend]]");
    }
    for section in sections.unwrap_or_default() {
        // A VIP with a mistake in it is left out of the rules between VIPs; its mistake is already noted.
        if let Some((vip, place)) = vip(&section, placement.value.kind, problem) {
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

fn health(top: &Section<'_>, problems: &mut Problems) -> HealthConfig {
    let Some(section) = top.table("health", "[health]", HEALTH_KEYS, problems) else {
        return HealthConfig::default();
    };
    let preset = section.choice("preset", PRESETS, HealthPreset::default(), problems).value;
    let base = HealthConfig::preset(preset);
    let interval_ms = section.number("interval_ms", 10..=MAX_INTERVAL_MS, base.interval_ms, problems);
    let timeout_ms = base.timeout_ms.min(interval_ms);
    let health = HealthConfig {
        preset,
        interval_ms,
        timeout_ms: section.number("timeout_ms", 1..=MAX_INTERVAL_MS, timeout_ms, problems),
        rise: section.number("rise", 1..=100, base.rise, problems),
        fall: section.number("fall", 1..=100, base.fall, problems),
        jitter_pct: section.number("jitter_pct", 0..=50, base.jitter_pct, problems),
    };
    if health.timeout_ms > health.interval_ms {
        let offset = section.has("timeout_ms").unwrap_or(section.offset);
        let (timeout, interval) = (health.timeout_ms, health.interval_ms);
        problems.add(
            offset,
            format!("timeout_ms = {timeout} in [health] is longer than interval_ms = {interval}; lower it or raise interval_ms"),
        );
    }
    health
}

fn connections(top: &Section<'_>, problems: &mut Problems) -> ConnectionsConfig {
    let base = ConnectionsConfig::default();
    let Some(section) = top.table("connections", "[connections]", CONNECTIONS_KEYS, problems) else {
        return base;
    };
    let table_size = section.number("table_size", 1_024..=8_388_608, base.table_size, problems);
    if !table_size.is_power_of_two() {
        let (low, high) = (table_size.next_power_of_two() / 2, table_size.next_power_of_two());
        let offset = section.has("table_size").unwrap_or(section.offset);
        problems
            .add(offset, format!("table_size = {table_size} is not a power of two; choose {low} or {high}"));
    }
    ConnectionsConfig {
        table_size,
        syn_s: section.number("syn_s", 1..=MAX_TIMEOUT_S, base.syn_s, problems),
        established_s: section.number("established_s", 1..=MAX_TIMEOUT_S, base.established_s, problems),
        closing_s: section.number("closing_s", 1..=MAX_TIMEOUT_S, base.closing_s, problems),
        udp_s: section.number("udp_s", 1..=MAX_TIMEOUT_S, base.udp_s, problems),
    }
}

/// A port, if it is there and right.
fn port(section: &Section<'_>, problems: &mut Problems) -> Option<At<u16>> {
    let At { value, offset } = section.integer("port", problems)?;
    match addr::port_of(value) {
        Ok(value) => Some(At { value, offset }),
        Err(error) => {
            problems.add(offset, error.to_string());
            None
        }
    }
}

fn vip(
    section: &Section<'_>,
    placement: PlacementKind,
    problems: &mut Problems,
) -> Option<(VipConfig, VipPlace)> {
    let name = section.text("name", problems);
    let address = section.required("address", "\"10.0.1.1\"", problems);
    let parsed = address.and_then(|text| match addr::parse_host(text.value, "VIP") {
        Ok(value) => Some(At { value, offset: text.offset }),
        Err(error) => {
            problems.add(text.offset, error.to_string());
            None
        }
    });
    let port_given = section.has("port");
    let port = port(section, problems).map(|port| port.value);
    let protocol = section.choice("protocol", PROTOCOLS, Protocol::default(), problems).value;
    let selection = section.choice("selection", SELECTIONS, Selection::default(), problems).value;
    let default_mode = match placement {
        PlacementKind::Inline => Mode::Nat,
        PlacementKind::OneArm => Mode::Dsr,
    };
    let mode = section.choice("mode", MODES, default_mode, problems);
    let mac = section.text("mac", problems);
    let parsed_mac = mac.and_then(|text| match text.value.parse::<MacAddr>() {
        Ok(mac) => Some(mac),
        Err(error) => {
            problems.add(text.offset, error.to_string());
            None
        }
    });
    let on_down = section.choice("on_down", ON_DOWN, OnDown::default(), problems).value;
    let no_backend = section.choice("no_backend", NO_BACKEND, NoBackend::default(), problems).value;
    let (mut backends, mut backend_places) = (Vec::new(), Vec::new());
    let sections = section.tables("backend", "[[vip.backend]]", BACKEND_KEYS, problems);
    let empty = sections.as_ref().is_some_and(Vec::is_empty);
    for section in sections.unwrap_or_default() {
        if let Some((config, place)) = backend(&section, problems) {
            backends.push(config);
            backend_places.push(place);
        }
    }
    let address = parsed?;
    if empty {
        problems.add(section.offset, format!("VIP {} has no backend; add a [[vip.backend]]", address.value));
    }
    if port_given.is_some() && port.is_none() {
        return None;
    }
    let key = VipKey { address: address.value, port: port.unwrap_or(0), protocol };
    let place = VipPlace {
        head: section.offset,
        name: name.map_or(section.offset, |name| name.offset),
        address: address.offset,
        mode: mode.offset,
        mac: mac.map(|mac| mac.offset).filter(|_| parsed_mac.is_some()),
        backends: backend_places,
    };
    let vip = VipConfig {
        name: name.map_or_else(|| key.to_string(), |name| name.value.to_owned()),
        address: address.value,
        port,
        protocol,
        selection,
        mode: mode.value,
        mac: parsed_mac.unwrap_or(MacAddr::of_vip(address.value)),
        on_down,
        no_backend,
        backends,
    };
    Some((vip, place))
}

fn backend(section: &Section<'_>, problems: &mut Problems) -> Option<(BackendConfig, BackendPlace)> {
    let name = section.text("name", problems);
    let address = section.required("address", "\"10.0.0.1\"", problems);
    let port = port(section, problems);
    let weight = section.number("weight", 0..=u32::from(MAX_WEIGHT), 1, problems);
    let text = address?;
    let address = match addr::parse_host(text.value, "backend") {
        Ok(address) => address,
        Err(error) => {
            problems.add(text.offset, error.to_string());
            return None;
        }
    };
    let place = BackendPlace {
        head: section.offset,
        name: name.map_or(section.offset, |name| name.offset),
        address: text.offset,
        port: port.map_or(section.offset, |port| port.offset),
    };
    let port = port.map(|port| port.value);
    let backend = BackendConfig {
        name: name.map_or_else(|| BackendConfig::default_name(address, port), |name| name.value.to_owned()),
        address,
        port,
        weight: u16::try_from(weight).unwrap_or(MAX_WEIGHT),
        admin: Admin::Enabled,
    };
    Some((backend, place))
}
