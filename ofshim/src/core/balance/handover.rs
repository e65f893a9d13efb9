//! In the place of a balancer that is told by its daemon what to do: with its configuration, ids and health.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::conn::state;
use lb_core::host::handover::{Connection as Told, Handover};
use lb_core::host::health::Neighbour;
use lb_core::host::plan::HealthView;
use lb_core::table::ConnKey;
use openflow::MacAddr;

use super::health::Watch;
use super::{Balancer, EntriesKind, Replanned, Settings, is_finished, ticks};
use crate::core::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::core::net::FlowKey;
use crate::core::net::key::IpKey;
use crate::core::topo::Place;

/// What a daemon said, and what is known beside it.
#[derive(Debug, Default)]
pub struct Following {
    /// The backends' health.
    view: HealthView,
    /// Where their MACs were heard.
    places: BTreeMap<MacAddr, Place>,
}

impl Following {
    /// The health as a plan is made with; the daemon's interfaces are no ports of switches.
    pub fn view(&self) -> HealthView {
        let mut view = self.view.clone();
        for seen in view.values_mut() {
            seen.neighbour = seen.neighbour.map(|found| Neighbour { interface: 0, ..found });
        }
        view
    }

    /// Where a MAC was heard.
    pub fn place_of(&self, mac: MacAddr) -> Option<Place> {
        self.places.get(&mac).copied()
    }

    /// A MAC was heard.
    pub fn heard(&mut self, mac: MacAddr, at: Place) {
        self.places.insert(mac, at);
    }
}

impl Balancer {
    /// A balancer that begins where another one is: it probes nobody, and is told.
    #[must_use]
    pub fn following(given: &Handover, seed: u64, now: Duration) -> Self {
        let settings = Settings { config: given.config.clone(), entries: EntriesKind::Reactive, seed };
        let watch = Watch::nobody(&given.config, seed, super::nanoseconds(now));
        let mut balancer = Self::bare(settings, watch, now);
        balancer.following = Some(Following::default());
        balancer.follow_daemon(given);
        for (vip, ticket) in &given.tickets {
            balancer.model.set_ticket(*vip, *ticket);
        }
        balancer
    }

    /// Whether a daemon says what is balanced, and who is in rotation.
    #[must_use]
    pub const fn follows(&self) -> bool {
        self.following.is_some()
    }

    /// Takes over what the daemon says now: configuration, ids, health.
    pub fn follow_daemon(&mut self, given: &Handover) -> Replanned {
        let Some(following) = &mut self.following else { return Replanned::default() };
        following.view = given.view();
        self.ids = given.ids();
        self.configure(given.config.clone());
        self.replan()
    }

    /// What the daemon is told when it balances again. What has ended is known here so late that nothing of it is on its way.
    #[must_use]
    pub fn handover(&self, now: Duration) -> Handover {
        let told = |connection: super::Connection| Told::of(&connection.key, &connection.value, ticks(now));
        let mut handover = Handover::of_plan(&self.config, &self.plan);
        if let Some(following) = &self.following {
            handover.health = following.view.iter().map(|(key, seen)| (*key, *seen)).collect();
        }
        handover.tickets = self.plan.vips.keys().map(|id| (*id, self.model.next_ticket(*id))).collect();
        let open = |connection: &super::Connection| !is_finished(&connection.value);
        handover.connections = self.connections().into_iter().filter(open).map(told).collect();
        handover
    }

    /// Takes over a connection of the daemon's; its key, and whether another one from the same port was here, whose entries
    /// lead elsewhere. `None` if there is no room, or no such backend.
    pub fn take(&mut self, told: &Told, now: Duration) -> Option<(ConnKey, bool)> {
        let (key, value) = told.entry(ticks(now));
        let fits = |record: &lb_core::table::BackendRecord| record.vip == key.vip();
        self.model.backends.get(&value.backend).filter(|record| fits(record))?;
        let Some(there) = self.model.connection(&key) else {
            return self.model.put_connection(&key, &value).then_some((key, false));
        };
        // What has ended there says nothing of what has begun here since.
        if is_finished(&value) {
            return Some((key, false));
        }
        let same = (there.backend, there.generation) == (value.backend, value.generation);
        let begun = matches!(there.state, state::SYN | state::UNVERIFIED);
        if !same || begun || is_finished(&there) {
            self.model.change_connection(&key, |there| *there = value);
        }
        Some((key, !same))
    }

    /// What a client's packets of a connection are, and what leaves: from a client with this MAC, in this VLAN. `None` if
    /// the connection or its backend's place is not known.
    #[must_use]
    pub fn directions(
        &self,
        key: &ConnKey,
        client: MacAddr,
        vlan: Option<u16>,
    ) -> Option<(FlowKey, FlowKey)> {
        let value = self.model.connection(key)?;
        let record = self.model.backends.get(&value.backend).filter(|record| record.vip == key.vip())?;
        let vip = self.plan.vips.get(&key.vip())?;
        let (src, dst) = (lb_core::host::records::ip(key.client), vip.key.address);
        let ports = (u16::from_be(key.client_port()), u16::from_be(key.vip_port()));
        let of = |mac, dst, ports| FlowKey {
            src: Some(client),
            dst: mac,
            vlan,
            ethertype: Some(if src.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 }),
            ip: Some(IpKey { src, dst, protocol: Some(key.protocol()), ports: Some(ports) }),
            by_port: true,
        };
        let came = of(MacAddr(vip.mac.0), dst, ports);
        let backend = MacAddr(record.mac);
        if backend == came.dst || record.mac == [0; 6] {
            return None;
        }
        let translates = vip.mode == lb_core::host::config::Mode::Nat;
        let port = if record.port == 0 { ports.1 } else { u16::from_be(record.port) };
        let left = if translates {
            of(backend, lb_core::host::records::ip(record.address), (ports.0, port))
        } else {
            of(backend, dst, ports)
        };
        Some((came, left))
    }
}
