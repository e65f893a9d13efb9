//! The rules within one VIP.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::check::{BackendPlace, VipAddresses, VipPlace, name_is_good};
use super::error::Problems;
use super::{BackendConfig, Mode, OverCap, PlacementKind, VipConfig};
use crate::host::addr::Prefix;

/// The shortest VIP prefix: a site has no more than this (RFC 6177 speaks of /48 and shorter).
const SHORTEST_PREFIX: u8 = 16;
/// The smallest MTU of IPv6 (RFC 8200, section 5).
const IPV6_MTU: u16 = 1_280;

pub(super) fn vip(
    placement: PlacementKind,
    vip: &VipConfig,
    place: &VipPlace,
    vips: &VipAddresses,
    problems: &mut Problems,
) {
    prefix(vip, place, problems);
    only_in_their_modes(vip, place, problems);
    tunnel(vip, place, vips, problems);
    clients(vip, place, problems);
    families(vip, place, problems);
    backends(placement, vip, place, vips, problems);
}

fn prefix(vip: &VipConfig, place: &VipPlace, problems: &mut Problems) {
    let Some(prefix) = vip.key().prefix() else { return };
    if prefix.address.is_ipv4() {
        problems.add(
            place.address,
            format!("VIP {prefix} is an IPv4 prefix, which is not supported; give one address for each VIP"),
        );
    } else if !vip.mode.keeps_destination() {
        problems.add(
            place.address,
            format!(
                "VIP {prefix} is a prefix, which mode {:?} cannot serve; use mode \"dsr\" or \"ipip\", or give one address",
                vip.mode.word()
            ),
        );
    } else if prefix.length < SHORTEST_PREFIX {
        problems.add(
            place.address,
            format!("VIP {prefix} has too many addresses; give a prefix of {SHORTEST_PREFIX} bits or more"),
        );
    }
}

/// Keys that mean nothing in this mode are mistakes, not decoration.
fn only_in_their_modes(vip: &VipConfig, place: &VipPlace, problems: &mut Problems) {
    let mut only = |key: &str, offset: Option<usize>, mode: Mode| {
        if let Some(offset) = offset.filter(|_| vip.mode != mode) {
            problems.add(
                offset,
                format!("{key} is only for mode {:?}; remove it or choose that mode", mode.word()),
            );
        }
    };
    only("snat", place.snat, Mode::FullNat);
    only("snat_ports", place.snat_ports, Mode::FullNat);
    only("tunnel_source", place.tunnel_source, Mode::IpIp);
    only("tunnel_mtu", place.tunnel_mtu, Mode::IpIp);
    only(
        "over_cap = \"stateless\"",
        (vip.over_cap == OverCap::Stateless).then_some(place.over_cap),
        Mode::Nat,
    );
}

fn tunnel(vip: &VipConfig, place: &VipPlace, vips: &VipAddresses, problems: &mut Problems) {
    if vip.mode != Mode::IpIp {
        return;
    }
    let Some(tunnel) = vip.tunnel else {
        if place.tunnel_source.is_none() {
            problems.add(
                place.mode,
                format!(
                    "VIP {} with mode \"ipip\" needs the source of the outer packets; give tunnel_source an address that neither a VIP nor a backend has",
                    vip.key()
                ),
            );
        }
        return;
    };
    let offset = place.tunnel_source.unwrap_or(place.mode);
    let source = tunnel.source;
    // A receiver drops what comes from an address of its own (RFC 1812, section 5.3.7).
    if vips.contains(source) || vips.prefix_of(source).is_some() {
        problems.add(offset, format!("tunnel_source {source} is also a VIP, which the backends have as their own address and refuse; give another"));
    } else if vip.backends.iter().any(|backend| backend.address == source) {
        problems.add(
            offset,
            format!("tunnel_source {source} is also a backend of VIP {}; give another", vip.key()),
        );
    }
    if source.is_ipv6() && tunnel.mtu < IPV6_MTU {
        problems.add(
            place.tunnel_mtu.unwrap_or(offset),
            format!("tunnel_mtu = {} is less than IPv6 allows; give {IPV6_MTU} or more", tunnel.mtu),
        );
    }
}

fn clients(vip: &VipConfig, place: &VipPlace, problems: &mut Problems) {
    let mut seen: BTreeMap<Prefix, &str> = BTreeMap::new();
    let allow = vip.allow.iter().zip(&place.allow).map(|entry| ("allow", entry));
    let deny = vip.deny.iter().zip(&place.deny).map(|entry| ("deny", entry));
    for (list, (prefix, &offset)) in allow.chain(deny) {
        if prefix.address.is_ipv4() != vip.address.is_ipv4() {
            let family = if vip.address.is_ipv4() { "IPv4" } else { "IPv6" };
            problems.add(
                offset,
                format!(
                    "{list} {prefix}: the clients of VIP {} are {family} ones; give a prefix of that family",
                    vip.key()
                ),
            );
        } else if let Some(other) = seen.insert(*prefix, list) {
            let message = if other == list {
                format!("{list} names {prefix} twice; remove one")
            } else {
                format!("{prefix} is in allow and in deny; remove one")
            };
            problems.add(offset, message);
        }
    }
}

/// Backends are of the VIP's family; those of a tunnel are of the family of its source.
fn families(vip: &VipConfig, place: &VipPlace, problems: &mut Problems) {
    let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if vip.mode == Mode::IpIp {
        let Some(tunnel) = vip.tunnel else { return };
        for (backend, place) in vip.backends.iter().zip(&place.backends) {
            if family(backend.address) != family(tunnel.source) {
                problems.add(
                    place.address,
                    format!(
                        "backend {} is {}, but tunnel_source {} is {}; give a backend of the same family",
                        backend.address,
                        family(backend.address),
                        tunnel.source,
                        family(tunnel.source)
                    ),
                );
            }
        }
        return;
    }
    for (backend, place) in vip.backends.iter().zip(&place.backends) {
        if family(backend.address) != family(vip.address) {
            problems.add(
                place.address,
                format!(
                    "backend {} is {}, but VIP {} is {}; give a backend of the same family, or use mode \"ipip\"",
                    backend.address,
                    family(backend.address),
                    vip.key(),
                    family(vip.address)
                ),
            );
        }
    }
}

fn backends(
    placement: PlacementKind,
    vip: &VipConfig,
    place: &VipPlace,
    vips: &VipAddresses,
    problems: &mut Problems,
) {
    let (mut services, mut names) = (BTreeSet::new(), BTreeSet::new());
    let key = vip.key();
    for (backend, place) in vip.backends.iter().zip(&place.backends) {
        let BackendConfig { name, address, mac, host, .. } = backend;
        // Hosts that share an address are a VIP of layer-2 DSR by themselves, where the balancer can answer for it
        // before they do.
        let is_shared_address = placement == PlacementKind::Inline
            && vip.mode == Mode::Dsr
            && address.is_ipv4()
            && *address == vip.address
            && backend.is_told_apart();
        if let Some(prefix) = vips.prefix_of(*address) {
            problems.add(
                place.address,
                format!("backend {address} is in the VIP prefix {prefix}; give it another address"),
            );
        } else if vips.contains(*address) && !is_shared_address {
            problems.add(
                place.address,
                format!("backend {address} is also a VIP; give the VIP an address that no host has"),
            );
        }
        port(vip, backend, place, problems);
        told_apart(vip, backend, place, problems);
        if !services.insert((*address, vip.service_port(backend), *mac, host.as_deref())) {
            let mend = if vip.mode == Mode::Dsr {
                "remove one and set its weight, or tell them apart by mac or host"
            } else {
                "remove one and set its weight"
            };
            problems.add(place.address, format!("backend {address} is twice in VIP {key}; {mend}"));
        } else if let Err(message) = name_is_good(name, "backend") {
            problems.add(place.name, message);
        } else if !names.insert(name.as_str()) {
            problems.add(place.name, format!("two backends of VIP {key} have the name {name:?}; rename one"));
        }
    }
}

fn port(vip: &VipConfig, backend: &BackendConfig, place: &BackendPlace, problems: &mut Problems) {
    let Some(port) = backend.port else { return };
    let (address, key) = (backend.address, vip.key());
    if vip.ports.single().is_none() {
        let what = if vip.ports.is_all() { "every port".to_owned() } else { format!("ports {}", vip.ports) };
        problems.add(
            place.port,
            format!("backend {address} translates to port {port}, but VIP {key} is for {what}; give the VIP one port, or remove this one"),
        );
    } else if vip.mode.keeps_destination() && vip.ports.single() != Some(port) {
        problems.add(
            place.port,
            format!(
                "backend {address} translates to port {port}, which mode {:?} cannot; remove the port",
                vip.mode.word()
            ),
        );
    }
}

fn told_apart(vip: &VipConfig, backend: &BackendConfig, place: &BackendPlace, problems: &mut Problems) {
    let address = backend.address;
    if !backend.is_told_apart() {
        return;
    }
    if vip.mode != Mode::Dsr {
        problems.add(
            place.apart,
            format!(
                "backend {address} is told by its mac or host, which is only for mode \"dsr\"; remove that"
            ),
        );
    } else if backend.mac.is_some() && backend.host.is_some() {
        problems.add(place.apart, format!("backend {address} has a mac and a host; give one of them"));
    } else if let Some(mac) = backend.mac.filter(|mac| !mac.is_unicast()) {
        problems.add(
            place.apart,
            format!(
                "backend {address}: {mac} is not the address of one station; give the MAC of its interface"
            ),
        );
    } else if let Some(host) = &backend.host
        && let Err(message) = name_is_good(host, "host")
    {
        problems.add(place.apart, message);
    }
}
