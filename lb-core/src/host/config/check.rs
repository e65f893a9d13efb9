//! The rules between values, the same for a file and for arguments.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::error::Problems;
use super::health;
use super::{
    Config, MAX_BACKENDS, MAX_BACKENDS_PER_VIP, MAX_NAME_BYTES, MAX_PREFIXES, MAX_RANGES, MAX_VIPS,
    MAX_VIPS_PER_SERVICE, Placement, PlacementKind, Protocol, VipConfig, VipKey, rules, snat,
};
use crate::host::addr::{MacAddr, Prefix};

/// Byte offsets of a configuration's values, in the same order as the values.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The placement's host, else its table.
    pub placement: usize,
    /// Each interface name.
    pub attach: Vec<usize>,
    /// The probe addresses, IPv4 and IPv6.
    pub probe: [usize; 2],
    /// Each VIP.
    pub vips: Vec<VipPlace>,
}

/// Byte offsets in one VIP; a value that is not there has the offset of its table.
#[derive(Debug, Default)]
pub(super) struct VipPlace {
    pub head: usize,
    pub name: usize,
    pub address: usize,
    pub port: usize,
    pub mode: usize,
    pub check: usize,
    /// These only if the VIP names them.
    pub mac: Option<usize>,
    pub snat: Option<usize>,
    pub snat_ports: Option<usize>,
    pub tunnel_source: Option<usize>,
    pub tunnel_mtu: Option<usize>,
    pub echo: Option<usize>,
    /// Each prefix.
    pub allow: Vec<usize>,
    pub deny: Vec<usize>,
    pub over_cap: usize,
    pub backends: Vec<BackendPlace>,
}

/// Byte offsets in one backend.
#[derive(Debug, Default)]
pub(super) struct BackendPlace {
    pub head: usize,
    pub name: usize,
    pub address: usize,
    pub port: usize,
    /// Its MAC or host.
    pub apart: usize,
}

/// The addresses of all VIPs.
pub(super) struct VipAddresses {
    single: BTreeSet<IpAddr>,
    prefixes: BTreeSet<Prefix>,
}

impl VipAddresses {
    fn of(vips: &[VipConfig]) -> Self {
        let (several, single): (Vec<_>, Vec<_>) = vips.iter().partition(|vip| vip.prefix_len.is_some());
        Self {
            single: single.iter().map(|vip| vip.address).collect(),
            prefixes: several.iter().filter_map(|vip| vip.key().prefix()).collect(),
        }
    }

    /// Whether it is a VIP's own address.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.single.contains(&address)
    }

    /// The VIP prefix that it is in.
    pub(super) fn prefix_of(&self, address: IpAddr) -> Option<Prefix> {
        self.prefixes.iter().copied().find(|prefix| prefix.contains(address))
    }
}

/// Notes every broken rule, and completes what follows from several VIPs: the MAC and the echo of an address, the ports
/// that full NAT lends.
pub(super) fn config(config: &mut Config, places: &Places, problems: &mut Problems) {
    placement(&config.placement, places, problems);
    limits(config, places, problems);
    macs(&mut config.vips, places, problems);
    echoes(&mut config.vips, places, problems);
    snat::config(&mut config.vips, places, problems);
    let addresses = VipAddresses::of(&config.vips);
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
        rules::vip(config.placement.kind, vip, place, &addresses, problems);
    }
    services(&config.vips, places, problems);
    ranges(&config.vips, places, problems);
    apart(&config.vips, places, problems);
    health::rules(config, places, problems);
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
    let prefixes = places.vips.iter().flat_map(|place| place.allow.iter().chain(&place.deny));
    if let Some(offset) = prefixes.skip(MAX_PREFIXES).min() {
        problems.add(
            *offset,
            format!("more than {MAX_PREFIXES} prefixes in allow and deny of all VIPs together; this is one too many"),
        );
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

/// One answer for an address: the one that is named, the same wherever it is named.
fn echoes(vips: &mut [VipConfig], places: &Places, problems: &mut Problems) {
    let mut named: BTreeMap<IpAddr, bool> = BTreeMap::new();
    for (vip, place) in vips.iter().zip(&places.vips) {
        let Some(offset) = place.echo else { continue };
        if *named.entry(vip.address).or_insert(vip.echo) != vip.echo {
            let address = vip.address;
            problems.add(
                offset,
                format!(
                    "VIP address {address} has echo = {} above and {} here; name one of them",
                    !vip.echo, vip.echo
                ),
            );
        }
    }
    for vip in vips {
        if let Some(echo) = named.get(&vip.address) {
            vip.echo = *echo;
        }
    }
}

/// A reply must find its VIP among a few: those of its port, and those of every port.
fn services(vips: &[VipConfig], places: &Places, problems: &mut Problems) {
    // Address and protocol -> port, 0 for every port -> where each claim stands.
    let mut claims: BTreeMap<_, BTreeMap<u16, Vec<usize>>> = BTreeMap::new();
    for (vip, place) in vips.iter().zip(&places.vips).filter(|(vip, _)| !vip.mode.keeps_destination()) {
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

/// The ranges of ports at one address, and the VIPs of one prefix, are one short list each.
fn ranges(vips: &[VipConfig], places: &Places, problems: &mut Problems) {
    let mut lists: BTreeMap<(IpAddr, Option<u8>, Option<Protocol>), Vec<VipKey>> = BTreeMap::new();
    for (vip, place) in vips.iter().zip(&places.vips) {
        let key = vip.key();
        // A prefix has one list for both protocols, and its VIPs of one port and of all ports are in it too.
        let list = match (key.prefix(), key.ports.is_range()) {
            (Some(_), _) => lists.entry((key.address, key.prefix_len, None)).or_default(),
            (None, true) => lists.entry((key.address, None, Some(key.protocol))).or_default(),
            (None, false) => continue,
        };
        let clash = |other: &&VipKey| {
            other.protocol == key.protocol
                && other.ports != key.ports
                && (other.ports.is_range() && key.ports.is_range())
                && other.ports.overlaps(key.ports)
        };
        if let Some(other) = list.iter().find(clash) {
            problems.add(
                place.port,
                format!(
                    "ports {} of VIP {} overlap ports {} of VIP {other}; divide them",
                    key.ports, key, other.ports
                ),
            );
        }
        list.push(key);
        if list.len() == MAX_RANGES + 1 {
            let what = match key.prefix() {
                Some(prefix) => format!("VIPs of the prefix {prefix}"),
                None => format!("VIPs with a range of ports at {} ({})", key.address, key.protocol),
            };
            problems.add(place.head, format!("more than {MAX_RANGES} {what}; this is one too many"));
        }
    }
}

/// An address whose backends are told apart in one place is told apart in all, or nobody knows who answered.
fn apart(vips: &[VipConfig], places: &Places, problems: &mut Problems) {
    let all = || {
        let vips = vips.iter().zip(&places.vips);
        vips.flat_map(|(vip, place)| vip.backends.iter().zip(&place.backends))
    };
    let told: BTreeSet<IpAddr> =
        all().filter(|(backend, _)| backend.is_told_apart()).map(|(backend, _)| backend.address).collect();
    for (backend, place) in all() {
        if told.contains(&backend.address) && !backend.is_told_apart() {
            problems.add(
                place.address,
                format!(
                    "several backends have the address {}; name the mac or the host of this one too",
                    backend.address
                ),
            );
        }
    }
}

/// Names stand in commands, logs and paths of the API, so they are plain.
pub(super) fn name_is_good(name: &str, what: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/[]".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(plain) {
        return Err(format!(
            "{what} name {name:?} is not usable; write 1 to {MAX_NAME_BYTES} letters, digits, or any of . _ - : / [ ]"
        ));
    }
    Ok(())
}
