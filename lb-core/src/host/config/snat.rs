//! The ports that full NAT lends: none that a VIP serves at the same address, or a reply would look like a request.

use super::check::Places;
use super::error::Problems;
use super::vip::LENT;
use super::{Ports, VipConfig};

/// Checks what is named, and chooses what is not.
pub(super) fn config(vips: &mut [VipConfig], places: &Places, problems: &mut Problems) {
    for n in 0..vips.len() {
        let (Some(vip), Some(place)) = (vips.get(n), places.vips.get(n)) else { return };
        let Some(mut snat) = vip.snat else { continue };
        let key = vip.key();
        let offset = place.snat.unwrap_or(place.mode);
        if snat.address.is_ipv4() != vip.address.is_ipv4() {
            problems.add(
                offset,
                format!("snat {} is not of the family of VIP {key}; give an address that is", snat.address),
            );
            continue;
        }
        if vip.ports.single().is_none() && snat.address == vip.address {
            problems.add(
                offset,
                format!(
                    "VIP {key} with mode \"fullnat\" serves several ports and cannot lend them too; give snat another address"
                ),
            );
            continue;
        }
        let backend = vips.iter().flat_map(|vip| &vip.backends).find(|b| b.address == snat.address);
        if backend.is_some() {
            problems.add(offset, format!("snat {} is also a backend; give another address", snat.address));
            continue;
        }
        let served = served_at(vips, vip);
        if place.snat_ports.is_none() {
            match longest_free(LENT, &served) {
                Some(free) => snat.ports = free,
                None => problems.add(
                    offset,
                    format!("a VIP serves every port of snat {}; give another address", snat.address),
                ),
            }
        } else if let Some(clash) = served.iter().find(|ports| ports.overlaps(snat.ports)) {
            problems.add(
                place.snat_ports.unwrap_or(offset),
                format!(
                    "snat_ports {} of VIP {key} overlap the ports {clash} that a VIP serves at {}; choose others",
                    snat.ports, snat.address
                ),
            );
        }
        if let Some(vip) = vips.get_mut(n) {
            vip.snat = Some(snat);
        }
    }
}

/// The ports that VIPs of the same protocol serve at the address that `vip` lends ports of.
fn served_at(vips: &[VipConfig], vip: &VipConfig) -> Vec<Ports> {
    let Some(snat) = vip.snat else { return Vec::new() };
    let here = |other: &&VipConfig| {
        other.protocol == vip.protocol
            && match other.key().prefix() {
                Some(prefix) => prefix.contains(snat.address),
                None => other.address == snat.address,
            }
    };
    let mut served: Vec<Ports> = vips.iter().filter(here).map(|vip| vip.ports).collect();
    served.sort_unstable();
    served
}

/// The longest run of ports of `all` that are in none of `taken`, which is in ascending order; of several the first.
fn longest_free(all: Ports, taken: &[Ports]) -> Option<Ports> {
    let (first, last) = all.bounds();
    let (mut next, end) = (u32::from(first), u32::from(last));
    let mut best: Option<(u32, u32)> = None;
    let mut take = |low: u32, high: u32| {
        if high > low && best.is_none_or(|(a, b)| high - low > b - a) {
            best = Some((low, high));
        }
    };
    for ports in taken {
        let (low, high) = ports.bounds();
        take(next, u32::from(low).min(end + 1));
        next = next.max(u32::from(high) + 1);
    }
    take(next, end + 1);
    let (low, high) = best?;
    Ports::range(u16::try_from(low).ok()?, u16::try_from(high - 1).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_part_without_a_served_port_is_lent() {
        let free = |taken: &[Ports]| longest_free(LENT, taken).map(Ports::bounds);
        assert_eq!(free(&[]), Some((1024, 65535)));
        assert_eq!(free(&[Ports::one(80), Ports::one(443)]), Some((1024, 65535)));
        assert_eq!(free(&[Ports::one(8080)]), Some((8081, 65535)));
        assert_eq!(free(&[Ports::one(1024), Ports::one(60000)]), Some((1025, 59999)));
        assert_eq!(free(&[Ports::one(65535)]), Some((1024, 65534)));
        assert_eq!(free(&[Ports::range(2000, 3000).unwrap(), Ports::one(2500)]), Some((3001, 65535)));
        assert_eq!(free(&[Ports::ALL]), None);
    }
}
