//! What the controller knows of the balancer: VIPs, virtual MACs, backends, and where the balancer stands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use openflow::MacAddr;

/// What is known of the balancer. Empty when there is none: every frame is then ordinary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipKnowledge {
    vips: BTreeMap<Ipv4Addr, MacAddr>,
    virtual_macs: BTreeMap<MacAddr, Ipv4Addr>,
    backends: BTreeSet<Ipv4Addr>,
    prober_macs: BTreeSet<MacAddr>,
    services: BTreeSet<Service>,
    placement: Placement,
}

/// What a backend serves: packets from there may be answers that a one-armed balancer has to see, since it translated
/// the address that their clients asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The backend.
    pub address: IpAddr,
    /// IP protocol: TCP (6) or UDP (17).
    pub protocol: u8,
    /// Its port; `None` for all of the protocol.
    pub port: Option<u16>,
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
    /// In the switches: this controller balances by flow entries.
    Flows,
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

    /// The same with the services whose answers a one-armed balancer has to see. Inline there are none: the balancer is
    /// on every way.
    #[must_use]
    pub fn with_services(mut self, services: impl IntoIterator<Item = Service>) -> Self {
        if self.placement.is_onearm() {
            self.services = services.into_iter().collect();
        }
        self
    }

    /// The services whose answers a one-armed balancer has to see, ascending.
    pub fn services(&self) -> impl Iterator<Item = Service> {
        self.services.iter().copied()
    }

    /// Whether there is such a service at `address`.
    #[must_use]
    pub fn has_service(&self, address: IpAddr) -> bool {
        let first = Service { address, protocol: 0, port: None };
        self.services.range(first..).next().is_some_and(|service| service.address == address)
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

    /// The MACs that probes are sent from, ascending.
    pub fn probers(&self) -> impl Iterator<Item = MacAddr> {
        self.prober_macs.iter().copied()
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

    /// The word for it, as in the configuration and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::OneArm { .. } => "onearm",
            Self::Flows => "openflow",
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
    #[test]
    fn services_are_a_one_armed_balancer_s() {
        let address = Ipv4Addr::new(10, 0, 0, 1).into();
        let service = Service { address, protocol: 6, port: Some(80) };
        let know = |placement| VipKnowledge::new([], [], [], placement).with_services([service]);
        assert!(!know(Placement::Inline).has_service(address), "inline it is on every way");
        let known = know(Placement::OneArm { host_mac: None });
        assert!(known.has_service(address) && !known.has_service(Ipv4Addr::new(10, 0, 0, 0).into()));
        assert!(!known.has_service(Ipv4Addr::new(10, 0, 0, 2).into()));
        assert_eq!(known.services().collect::<Vec<_>>(), [service]);
    }
}
