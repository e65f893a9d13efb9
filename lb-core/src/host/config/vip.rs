//! From a `[[vip]]` of a file to the model.

use core::net::IpAddr;

use super::check::{BackendPlace, VipPlace};
use super::error::Problems;
use super::health;
use super::parse::{MAX_TIMEOUT_S, MODES, PROTOCOLS, SELECTIONS};
use super::read::{At, Section};
use super::{
    Admin, BackendConfig, MAX_WEIGHT, Mode, NoBackend, OnDown, OverCap, PlacementKind, Ports, Protocol,
    Selection, SnatConfig, TunnelConfig, VipConfig, VipKey,
};
use crate::host::addr::{self, AddrError, MacAddr, Prefix};

pub(super) const KEYS: &[&str] = &[
    "name",
    "address",
    "port",
    "protocol",
    "selection",
    "mode",
    "mac",
    "affinity_s",
    "snat",
    "snat_ports",
    "tunnel_source",
    "tunnel_mtu",
    "echo",
    "allow",
    "deny",
    "max_new_per_source_s",
    "over_cap",
    "on_down",
    "no_backend",
    "check",
    "slow_start_s",
    "backend",
];
const BACKEND_KEYS: &[&str] = &["name", "address", "port", "weight", "mac", "host"];

const ON_DOWN: &[(&str, OnDown)] =
    &[("keep", OnDown::Keep), ("repick", OnDown::Repick), ("reset", OnDown::Reset)];
const NO_BACKEND: &[(&str, NoBackend)] =
    &[("drop", NoBackend::Drop), ("reject", NoBackend::Reject), ("last-known", NoBackend::LastKnown)];
const OVER_CAP: &[(&str, OverCap)] = &[("drop", OverCap::Drop), ("stateless", OverCap::Stateless)];

/// Beyond this a limit by client limits nobody.
const MAX_NEW_PER_SOURCE_S: u32 = 1_000_000;
/// The ports that full NAT lends unless told otherwise: all but the well-known ones (RFC 6335, section 6).
pub(super) const LENT: Ports = match Ports::range(1024, 65535) {
    Some(ports) => ports,
    None => Ports::ALL,
};

/// The mode of a VIP that names none.
pub(super) const fn default_mode(placement: PlacementKind) -> Mode {
    match placement {
        PlacementKind::Inline => Mode::Nat,
        PlacementKind::OneArm => Mode::Dsr,
    }
}

/// A value that text was parsed into, or the mistake noted.
fn parsed<T>(
    text: Option<At<&str>>,
    parse: impl FnOnce(&str) -> Result<T, AddrError>,
    problems: &mut Problems,
) -> Option<At<T>> {
    let At { value, offset } = text?;
    match parse(value) {
        Ok(value) => Some(At { value, offset }),
        Err(error) => {
            problems.add(offset, error.to_string());
            None
        }
    }
}

/// An address, or a prefix of several: the first address and the length.
fn address_or_prefix(text: &str) -> Result<(IpAddr, Option<u8>), AddrError> {
    if !text.contains('/') {
        return Ok((addr::parse_host(text, "VIP")?, None));
    }
    let prefix: Prefix = text.parse()?;
    if prefix.length == Prefix::longest(prefix.address) {
        return Ok((addr::parse_host(&prefix.address.to_string(), "VIP")?, None));
    }
    Ok((prefix.address, Some(prefix.length)))
}

/// `8000-8010`.
fn range(key: &str, text: &str) -> Result<Ports, AddrError> {
    let or = if key == "port" { ", or one port without quotes" } else { "" };
    let wrong = || {
        AddrError::new(format!("{key} {text:?} is not a range of ports; write it as in \"8000-8010\"{or}"))
    };
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last) = (addr::parse_port(first)?, addr::parse_port(last)?);
    Ports::range(first, last).ok_or_else(|| {
        AddrError::new(format!("{key} {text:?} ends before it begins; write \"{last}-{first}\""))
    })
}

/// One port, a range, or 0 for every port; that as well if the key is not there. `None`: a mistake is noted.
fn ports(section: &Section<'_>, problems: &mut Problems) -> Option<At<Ports>> {
    let Some(offset) = section.has("port") else {
        return Some(At { value: Ports::ALL, offset: section.offset });
    };
    let value = if section.is_text("port") {
        let text = section.text("port", problems);
        return parsed(text, |text| range("port", text), problems);
    } else {
        section.integer("port", problems)?.value
    };
    match u16::try_from(value) {
        Ok(port) => Some(At { value: Ports::one(port), offset }),
        Err(_) => {
            problems.add(offset, format!("port {value} is outside 0..=65535"));
            None
        }
    }
}

/// The prefixes of a list, with the place of each.
fn prefixes(section: &Section<'_>, key: &str, problems: &mut Problems) -> (Vec<Prefix>, Vec<usize>) {
    let texts = section.texts(key, problems);
    texts
        .into_iter()
        .filter_map(|text| parsed(Some(text), str::parse::<Prefix>, problems))
        .map(|At { value, offset }| (value, offset))
        .unzip()
}

/// A VIP, unless a mistake in it leaves nothing to compare with others. Every mistake is noted.
pub(super) fn vip(
    section: &Section<'_>,
    placement: PlacementKind,
    problems: &mut Problems,
) -> Option<(VipConfig, VipPlace)> {
    let name = section.text("name", problems);
    let text = section.required("address", "\"10.0.1.1\"", problems);
    let address = parsed(text, address_or_prefix, problems);
    let ports = ports(section, problems);
    let protocol = section.choice("protocol", PROTOCOLS, Protocol::default(), problems).value;
    let mode = section.choice("mode", MODES, default_mode(placement), problems);
    let mac = parsed(section.text("mac", problems), str::parse::<MacAddr>, problems);
    let snat = parsed(section.text("snat", problems), |text| addr::parse_host(text, "snat"), problems);
    let snat_ports = parsed(section.text("snat_ports", problems), |text| range("snat_ports", text), problems);
    let source = section.text("tunnel_source", problems);
    let source = parsed(source, |text| addr::parse_host(text, "tunnel_source"), problems);
    let mtu = section.number("tunnel_mtu", 576..=9_000, 1_500, problems);
    let echo = section.boolean("echo", problems);
    let ((allow, allow_places), (deny, deny_places)) =
        (prefixes(section, "allow", problems), prefixes(section, "deny", problems));
    let over_cap = section.choice("over_cap", OVER_CAP, OverCap::default(), problems);
    let selection = section.choice("selection", SELECTIONS, Selection::default(), problems).value;
    let affinity_s = section.number("affinity_s", 0..=MAX_TIMEOUT_S, 0, problems);
    let max_new_per_source_s = section.number("max_new_per_source_s", 0..=MAX_NEW_PER_SOURCE_S, 0, problems);
    let on_down = section.choice("on_down", ON_DOWN, OnDown::default(), problems).value;
    let no_backend = section.choice("no_backend", NO_BACKEND, NoBackend::default(), problems).value;
    let check = health::check(section, problems);
    let slow_start_s = section.number("slow_start_s", 0..=3_600, 0, problems);
    let backends = backends(section, problems);
    let At { value: (first, prefix_len), offset: address } = address?;
    if backends.as_ref().is_some_and(Vec::is_empty) {
        problems.add(section.offset, format!("VIP {first} has no backend; add a [[vip.backend]]"));
    }
    let (backends, backend_places) = backends.unwrap_or_default().into_iter().unzip();
    let At { value: ports, offset: port } = ports?;
    let key = VipKey { address: first, prefix_len, ports, protocol };
    let place = VipPlace {
        head: section.offset,
        name: name.map_or(section.offset, |name| name.offset),
        address,
        port,
        mode: mode.offset,
        check: check.as_ref().map_or(section.offset, |check| check.offset),
        mac: mac.map(|mac| mac.offset),
        snat: snat.map(|snat| snat.offset).or(section.has("snat")),
        snat_ports: snat_ports.map(|ports| ports.offset).or(section.has("snat_ports")),
        tunnel_source: section.has("tunnel_source"),
        tunnel_mtu: section.has("tunnel_mtu"),
        echo: echo.map(|echo| echo.offset),
        allow: allow_places,
        deny: deny_places,
        over_cap: over_cap.offset,
        backends: backend_places,
    };
    let tunnel = source.map(|source| TunnelConfig { source: source.value, mtu: mtu as u16 });
    let snat = SnatConfig {
        address: snat.map_or(first, |snat| snat.value),
        ports: snat_ports.map_or(LENT, |ports| ports.value),
    };
    let vip = VipConfig {
        name: name.map_or_else(|| key.to_string(), |name| name.value.to_owned()),
        address: first,
        prefix_len,
        ports,
        protocol,
        selection,
        mode: mode.value,
        mac: mac.map_or(MacAddr::of_vip(first), |mac| mac.value),
        affinity_s,
        snat: (mode.value == Mode::FullNat).then_some(snat),
        tunnel: tunnel.filter(|_| mode.value == Mode::IpIp),
        echo: echo.is_none_or(|echo| echo.value),
        allow,
        deny,
        max_new_per_source_s,
        over_cap: over_cap.value,
        on_down,
        no_backend,
        check: check.map(|check| check.value),
        slow_start_s,
        backends,
    };
    Some((vip, place))
}

/// One port, if it is there and right.
pub(super) fn port(section: &Section<'_>, problems: &mut Problems) -> Option<At<u16>> {
    let At { value, offset } = section.integer("port", problems)?;
    addr::port_of(value)
        .map(|value| At { value, offset })
        .map_err(|error| problems.add(offset, error.to_string()))
        .ok()
}

/// The backends without a mistake; `None` if the key holds something else, which is noted.
fn backends(section: &Section<'_>, problems: &mut Problems) -> Option<Vec<(BackendConfig, BackendPlace)>> {
    let sections = section.tables("backend", "[[vip.backend]]", BACKEND_KEYS, problems)?;
    if sections.is_empty() {
        return Some(Vec::new());
    }
    let good: Vec<_> = sections.iter().filter_map(|section| backend(section, problems)).collect();
    // None of several is a mistake of each, not the lack of one.
    (!good.is_empty()).then_some(good)
}

fn backend(section: &Section<'_>, problems: &mut Problems) -> Option<(BackendConfig, BackendPlace)> {
    let name = section.text("name", problems);
    let text = section.required("address", "\"10.0.0.1\"", problems);
    let address = parsed(text, |text| addr::parse_host(text, "backend"), problems);
    let port = port(section, problems);
    let weight = section.number("weight", 0..=u32::from(MAX_WEIGHT), 1, problems);
    let mac = parsed(section.text("mac", problems), str::parse::<MacAddr>, problems);
    let host = section.text("host", problems);
    let At { value: address, offset } = address?;
    let place = BackendPlace {
        head: section.offset,
        name: name.map_or(section.offset, |name| name.offset),
        address: offset,
        port: port.map_or(section.offset, |port| port.offset),
        apart: mac.map(|mac| mac.offset).or(host.map(|host| host.offset)).unwrap_or(section.offset),
    };
    let (port, mac) = (port.map(|port| port.value), mac.map(|mac| mac.value));
    let host = host.map(|host| host.value.to_owned());
    let apart = host.clone().or(mac.map(|mac| mac.to_string()));
    let backend = BackendConfig {
        name: name.map_or_else(
            || BackendConfig::default_name(address, port, apart.as_deref()),
            |name| name.value.to_owned(),
        ),
        address,
        mac,
        host,
        port,
        weight: u16::try_from(weight).unwrap_or(MAX_WEIGHT),
        admin: Admin::Enabled,
    };
    Some((backend, place))
}
