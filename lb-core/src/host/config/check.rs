//! The rules between values, the same for a file and for arguments.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::error::Problems;
use super::{
    BackendConfig, Config, MAX_BACKENDS, MAX_BACKENDS_PER_VIP, MAX_NAME_BYTES, MAX_VIPS,
    MAX_VIPS_PER_SERVICE, Mode, Placement, PlacementKind, VipConfig,
};
use crate::host::addr::MacAddr;

/// Byte offsets of a configuration's values, in the same order as the values.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The placement's host, else its table.
    pub placement: usize,
    /// Each interface name.
    pub attach: Vec<usize>,
    /// Each VIP.
    pub vips: Vec<VipPlace>,
}

/// Byte offsets in one VIP; a value that is not there has the offset of its table.
#[derive(Debug, Default)]
pub(super) struct VipPlace {
    pub head: usize,
    pub name: usize,
    pub address: usize,
    pub mode: usize,
    /// Only if the VIP names a MAC.
    pub mac: Option<usize>,
    pub backends: Vec<BackendPlace>,
}

/// Byte offsets in one backend.
#[derive(Debug, Default)]
pub(super) struct BackendPlace {
    pub head: usize,
    pub name: usize,
    pub address: usize,
    pub port: usize,
}

/// Notes every broken rule, and gives all VIPs of an address the MAC that one of them names.
pub(super) fn config(config: &mut Config, places: &Places, problems: &mut Problems) {
    placement(&config.placement, places, problems);
    limits(config, places, problems);
    macs(&mut config.vips, places, problems);
    let addresses: BTreeSet<IpAddr> = config.vips.iter().map(|vip| vip.address).collect();
    let (mut keys, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (vip, place) in config.vips.iter().zip(&places.vips) {
        let key = vip.key();
        if !keys.insert(key) {
            problems
                .add(place.address, format!("VIP {key} is there twice; remove one, or give it another port"));
        } else if let Err(message) = name_is_good(&vip.name, "VIP") {
            problems.add(place.name, message);
        } else if !names.insert(vip.name.as_str()) {
            problems.add(place.name, format!("two VIPs have the name {:?}; rename one", vip.name));
        }
        mode(config.placement.kind, vip, place, problems);
        backends(vip, place, &addresses, problems);
    }
    services(&config.vips, places, problems);
}

fn placement(placement: &Placement, places: &Places, problems: &mut Problems) {
    match (placement.kind, placement.host.as_deref()) {
        (PlacementKind::OneArm, None) => {
            problems.add(
                places.placement,
                "placement onearm needs the host that balances; name it, as in host = \"lb1\"",
            );
        }
        (PlacementKind::OneArm, Some(host)) => {
            if let Err(message) = name_is_good(host, "host") {
                problems.add(places.placement, message);
            }
        }
        (PlacementKind::Inline, Some(host)) => problems.add(
            places.placement,
            format!("host {host:?} is only for placement onearm; remove it or choose that placement"),
        ),
        (PlacementKind::Inline, None) => {}
    }
    let mut seen = BTreeSet::new();
    for (name, &offset) in placement.attach.iter().zip(&places.attach) {
        // The kernel's rule (dev_valid_name): shorter than IFNAMSIZ, no slash, no colon, no space, not a dot folder.
        let bad = name.is_empty()
            || name.len() > 15
            || name == "."
            || name == ".."
            || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        if bad {
            problems
                .add(offset, format!("attach {name:?} is not an interface name; write it as in \"s1-eth1\""));
        } else if !seen.insert(name.as_str()) {
            problems.add(offset, format!("attach names {name:?} twice; remove one"));
        }
    }
}

fn limits(config: &Config, places: &Places, problems: &mut Problems) {
    if let Some(place) = places.vips.get(MAX_VIPS) {
        problems.add(place.head, format!("more than {MAX_VIPS} VIPs; this is one too many"));
    }
    let mut total = 0;
    for (vip, place) in config.vips.iter().zip(&places.vips) {
        if let Some(backend) = place.backends.get(MAX_BACKENDS_PER_VIP) {
            let key = vip.key();
            problems.add(
                backend.head,
                format!("VIP {key} has more than {MAX_BACKENDS_PER_VIP} backends; this is one too many"),
            );
        }
        for backend in &place.backends {
            total += 1;
            if total == MAX_BACKENDS + 1 {
                problems.add(
                    backend.head,
                    format!("more than {MAX_BACKENDS} backends in all VIPs together; this is one too many"),
                );
            }
        }
    }
}

/// One MAC for an address: the one that is named, the same wherever it is named.
fn macs(vips: &mut [VipConfig], places: &Places, problems: &mut Problems) {
    let mut named: BTreeMap<IpAddr, MacAddr> = BTreeMap::new();
    for (vip, place) in vips.iter().zip(&places.vips) {
        let Some(offset) = place.mac else { continue };
        let mac = vip.mac;
        if !mac.is_unicast() {
            problems.add(
                offset,
                format!(
                    "mac {mac} is not the address of one station; choose a unicast one, as in {}",
                    MacAddr::of_vip(vip.address)
                ),
            );
            continue;
        }
        let first = *named.entry(vip.address).or_insert(mac);
        if first != mac {
            let address = vip.address;
            problems.add(
                offset,
                format!("VIP address {address} has mac {first} above and {mac} here; name one of them"),
            );
        }
    }
    for vip in vips {
        if let Some(mac) = named.get(&vip.address) {
            vip.mac = *mac;
        }
    }
}

fn mode(placement: PlacementKind, vip: &VipConfig, place: &VipPlace, problems: &mut Problems) {
    match (placement, vip.mode) {
        (PlacementKind::Inline, Mode::Dsr) => {
            problems.add(place.mode, "mode \"dsr\" is not available with placement inline yet; use mode \"nat\", or placement onearm");
        }
        (PlacementKind::OneArm, Mode::Nat) => {
            problems.add(place.mode, "mode \"nat\" is not available with placement onearm yet; use mode \"dsr\", or placement inline");
        }
        (PlacementKind::Inline, Mode::Nat) | (PlacementKind::OneArm, Mode::Dsr) => {}
    }
}

fn backends(vip: &VipConfig, place: &VipPlace, vips: &BTreeSet<IpAddr>, problems: &mut Problems) {
    let (mut services, mut names) = (BTreeSet::new(), BTreeSet::new());
    let key = vip.key();
    for (backend, place) in vip.backends.iter().zip(&place.backends) {
        let BackendConfig { name, address, port, .. } = backend;
        if vips.contains(address) {
            problems.add(
                place.address,
                format!("backend {address} is also a VIP; give the VIP an address that no host has"),
            );
        }
        if let Some(port) = port {
            if vip.port.is_none() {
                problems.add(
                    place.port,
                    format!("backend {address} translates to port {port}, but VIP {key} is for every port; give the VIP a port, or remove this one"),
                );
            } else if vip.mode == Mode::Dsr && vip.port != Some(*port) {
                problems.add(
                    place.port,
                    format!("backend {address} translates to port {port}, which mode \"dsr\" cannot; remove the port"),
                );
            }
        }
        if !services.insert((*address, vip.service_port(backend))) {
            problems.add(
                place.address,
                format!("backend {address} is twice in VIP {key}; remove one and set its weight"),
            );
        } else if let Err(message) = name_is_good(name, "backend") {
            problems.add(place.name, message);
        } else if !names.insert(name.as_str()) {
            problems.add(place.name, format!("two backends of VIP {key} have the name {name:?}; rename one"));
        }
    }
}

/// A reply must find its VIP among a few: those of its port, and those of every port.
fn services(vips: &[VipConfig], places: &Places, problems: &mut Problems) {
    // Address and protocol -> port, 0 for every port -> where each claim stands.
    let mut claims: BTreeMap<_, BTreeMap<u16, Vec<usize>>> = BTreeMap::new();
    for (vip, place) in vips.iter().zip(&places.vips) {
        for (backend, place) in vip.backends.iter().zip(&place.backends) {
            let ports = claims.entry((backend.address, vip.protocol)).or_default();
            ports.entry(vip.service_port(backend)).or_default().push(place.address);
        }
    }
    for ((address, protocol), ports) in &claims {
        let every = ports.get(&0).map_or(&[][..], Vec::as_slice);
        for (port, claims) in ports {
            let mut all = claims.clone();
            if *port != 0 {
                all.extend(every);
            }
            all.sort_unstable();
            if let Some(offset) = all.get(MAX_VIPS_PER_SERVICE) {
                let port = if *port == 0 { "every port".to_owned() } else { format!("port {port}") };
                problems.add(
                    *offset,
                    format!("backend {address} serves {port} of {protocol} for more than {MAX_VIPS_PER_SERVICE} VIPs; give it another port or address for this one"),
                );
            }
        }
    }
}

/// Names stand in commands, logs and paths of the API, so they are plain.
fn name_is_good(name: &str, what: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(plain) {
        return Err(format!(
            "{what} name {name:?} is not usable; write 1 to {MAX_NAME_BYTES} letters, digits, or any of . _ - : /"
        ));
    }
    Ok(())
}
