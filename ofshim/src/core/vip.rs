//! What the controller knows of the balancer: VIPs, virtual MACs, backends, and where the balancer stands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use openflow::MacAddr;

/// What is known of the balancer. Empty when there is none: every frame is then ordinary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipKnowledge {
    vips: BTreeMap<Ipv4Addr, MacAddr>,
    virtual_macs: BTreeMap<MacAddr, Ipv4Addr>,
    backends: BTreeSet<Ipv4Addr>,
    prober_macs: BTreeSet<MacAddr>,
    placement: Placement,
}

/// Where the balancer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On the switch's own ports: packets to a VIP never reach the switch.
    #[default]
    Inline,
    /// On the NIC of a host that only balances: the switch carries packets to a VIP there.
    OneArm {
        /// That host's own MAC, once the daemon told it.
        host_mac: Option<MacAddr>,
    },
}

impl VipKnowledge {
    /// Knowledge from its parts: VIPs as (address, virtual MAC), backends' addresses, the MACs that probes are sent
    /// from. Of two MACs for one address the first counts.
    pub fn new(
        vips: impl IntoIterator<Item = (Ipv4Addr, MacAddr)>,
        backends: impl IntoIterator<Item = Ipv4Addr>,
        prober_macs: impl IntoIterator<Item = MacAddr>,
        placement: Placement,
    ) -> Self {
        let mut known = Self {
            backends: backends.into_iter().collect(),
            prober_macs: prober_macs.into_iter().collect(),
            placement,
            ..Self::default()
        };
        for (address, mac) in vips {
            let mac = *known.vips.entry(address).or_insert(mac);
            known.virtual_macs.entry(mac).or_insert(address);
        }
        known
    }

    /// The VIPs and their virtual MACs, in order of address.
    pub fn vips(&self) -> impl Iterator<Item = (Ipv4Addr, MacAddr)> {
        self.vips.iter().map(|(address, mac)| (*address, *mac))
    }

    /// The backends' addresses, ascending.
    pub fn backends(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.backends.iter().copied()
    }

    /// Where the balancer stands.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        self.placement
    }

    /// Whether `address` is a VIP.
    #[must_use]
    pub fn is_vip(&self, address: Ipv4Addr) -> bool {
        self.vips.contains_key(&address)
    }

    /// The VIP whose virtual MAC this is.
    #[must_use]
    pub fn vip_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.virtual_macs.get(&mac).copied()
    }

    /// Whether `address` is a backend's.
    #[must_use]
    pub fn is_backend(&self, address: Ipv4Addr) -> bool {
        self.backends.contains(&address)
    }

    /// Whether probes are sent from `mac`.
    #[must_use]
    pub fn is_prober(&self, mac: MacAddr) -> bool {
        self.prober_macs.contains(&mac)
    }
}

impl Placement {
    /// Whether the balancer is one-armed.
    #[must_use]
    pub const fn is_onearm(self) -> bool {
        matches!(self, Self::OneArm { .. })
    }

    /// The word for it, as in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::OneArm { .. } => "onearm",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ports_of_one_address_share_its_mac() {
        let address = Ipv4Addr::new(10, 0, 1, 1);
        let (first, second) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let known = VipKnowledge::new([(address, first), (address, second)], [], [], Placement::Inline);
        assert_eq!(known.vips().collect::<Vec<_>>(), [(address, first)]);
        assert_eq!((known.vip_of(first), known.vip_of(second)), (Some(address), None));
    }
}
