//! What the tables should hold, from the configuration and the health of the backends, and what changes between two
//! such plans.
//!
//! A plan is plain values; the daemon maps it to its maps, and the OpenFlow mode to entries. Apply a [`Diff`] in this
//! order, and no packet meets a half-made state: backends and services that are new or changed, VIPs that are new or
//! changed, rotations, then what is gone: VIPs, services, backends.

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::addr::{MacAddr, Prefix};
use super::config::{
    Admin, Config, Mode, NoBackend, OnDown, OverCap, Protocol, Selection, SnatConfig, TunnelConfig,
    VipConfig, VipKey,
};
use super::health::{FULL_SHARE, Members, Neighbour, Prober, State};
use super::ids::{BackendKey, Id, Ids, NoIdLeft};
use super::lists::Lists;
use super::{maglev, ring};

/// What is known about the backends' health. A backend that is not there counts as probing.
pub type HealthView = BTreeMap<BackendKey, Seen>;

/// The health of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its state.
    pub state: State,
    /// Where it was last found.
    pub neighbour: Option<Neighbour>,
    /// How much of its weight it may take, in tenths, 1 to [`FULL_SHARE`].
    pub share: u16,
}

/// The health of all `members`, whose hosts `prober` watches.
#[must_use]
pub fn health_view(members: &Members, prober: &Prober) -> HealthView {
    members
        .iter()
        .map(|(key, status)| {
            let neighbour = prober.neighbour(key.station());
            (*key, Seen { state: status.state, neighbour, share: status.share })
        })
        .collect()
}

/// The desired tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// VIPs by id.
    pub vips: BTreeMap<u16, VipPlan>,
    /// Backends by id.
    pub backends: BTreeMap<u16, BackendPlan>,
    /// Which VIPs a reply may belong to, by the service that sends it. Only VIPs in NAT mode.
    #[serde(skip)]
    pub services: BTreeMap<Service, Vec<ServiceVip>>,
    /// The ranges of ports and the address prefixes of VIPs.
    #[serde(skip)]
    pub lists: Lists,
}

/// One VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VipPlan {
    /// Its id and generation.
    pub id: Id,
    /// Its place in the packets.
    pub key: VipKey,
    /// Its name.
    pub name: String,
    /// Its virtual MAC.
    pub mac: MacAddr,
    /// What is rewritten.
    pub mode: Mode,
    /// How a new flow finds its backend.
    pub selection: Selection,
    /// For how many seconds a client keeps its backend; 0 is not at all.
    pub affinity_s: u32,
    /// Source address and ports of full NAT.
    pub snat: Option<SnatConfig>,
    /// The outer packets of IPIP.
    pub tunnel: Option<TunnelConfig>,
    /// ICMP echo requests are answered.
    pub echo: bool,
    /// Clients that may open connections; if there are any, no others may.
    pub allow: Vec<Prefix>,
    /// Clients that may not.
    pub deny: Vec<Prefix>,
    /// New connections a second that one client may open; 0 is any number.
    pub max_new_per_source_s: u32,
    /// What happens beyond the cap on new connections.
    pub over_cap: OverCap,
    /// What happens to flows of a backend that went down.
    pub on_down: OnDown,
    /// What happens while nobody is up.
    pub no_backend: NoBackend,
    /// Who takes new flows, in the order of the configuration.
    pub rotation: Rotation,
}

/// The members that take new flows, and the tables that follow from them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// Id, weight (never 0) and seed, in the order of the configuration.
    pub members: Vec<Member>,
    /// Nobody is up, and these are the ones that were last.
    pub is_last_known: bool,
}

/// One member of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The backend's id.
    pub id: u16,
    /// Its weight relative to the others, never 0; tenths of the configured ones while one of the VIP's grows.
    pub weight: u16,
    /// Its stable name in hash space.
    pub seed: u64,
}

impl Rotation {
    /// The ring of round robin and random, at most [`ring::MAX_ENTRIES`] ids; empty if there is no member.
    #[must_use]
    pub fn ring(&self) -> Vec<u16> {
        let members: Vec<ring::Member> =
            self.members.iter().map(|m| ring::Member { id: m.id, weight: m.weight }).collect();
        ring::build(&members)
    }

    /// Fills a consistent hash table; with zeros if there is no member.
    ///
    /// # Errors
    /// The number of slots is not usable, see [`maglev::build`]; [`maglev::SLOTS`] is.
    pub fn maglev(&self, slots: &mut [u16]) -> Result<(), maglev::BadSize> {
        let members: Vec<maglev::Member> = self
            .members
            .iter()
            .map(|m| maglev::Member { id: m.id, weight: m.weight, seed: m.seed })
            .collect();
        maglev::build(&members, slots)
    }
}

/// One backend of one VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendPlan {
    /// Its id and generation.
    pub id: Id,
    /// The id of its VIP.
    pub vip: u16,
    /// Its VIP, address and service port.
    pub key: BackendKey,
    /// Its name.
    pub name: String,
    /// The port that the VIP's port is translated to, in host byte order, if it is another.
    pub translate_port: Option<u16>,
    /// Its configured weight.
    pub weight: u16,
    /// What the administrator says.
    pub admin: Admin,
    /// Its state: what its probes and the administrator come to.
    pub state: State,
    /// Where it was last found.
    pub neighbour: Option<Neighbour>,
    /// A reply of its service could belong to another VIP too.
    pub is_shared: bool,
}

/// A backend's service, as a reply shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// The source address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The source port in host byte order, 0 for every port that has no service of its own.
    pub port: u16,
}

impl Service {
    /// The end of all services of this address and protocol.
    fn last_port(self) -> Self {
        Self { port: u16::MAX, ..self }
    }
}

/// A VIP that a service answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceVip {
    /// The VIP's id.
    pub vip: u16,
    /// The VIP's port in host byte order, 0 for every port.
    pub port: u16,
}

impl Plan {
    /// The tables for `config`, with ids from `ids`, which are assigned first.
    ///
    /// In rotation is who is up and has a weight. With nobody up, a VIP that keeps the last known takes those of its
    /// rotation in `last` that are still configured and that no administrator has taken out.
    ///
    /// # Errors
    /// [`NoIdLeft`]; `ids` is unchanged then.
    pub fn from_config(
        config: &Config,
        ids: &mut Ids,
        health: &HealthView,
        last: Option<&Plan>,
    ) -> Result<Self, NoIdLeft> {
        ids.assign(config)?;
        let mut plan = Self::default();
        for vip in &config.vips {
            plan.add_vip(vip, ids, health, last);
        }
        plan.add_services();
        let vips = plan.vips.values().map(|vip| (vip.key, vip.id.id));
        plan.lists = Lists::new(vips, last.map(|last| &last.lists));
        Ok(plan)
    }

    fn add_vip(&mut self, vip: &VipConfig, ids: &Ids, health: &HealthView, last: Option<&Plan>) {
        let key = vip.key();
        let Some(id) = ids.vip(&key) else { return };
        let (mut up, mut fallback) = (Vec::new(), Vec::new());
        let growing = vip.backends.iter().any(|backend| {
            let key = BackendKey::of(vip, backend);
            health.get(&key).is_some_and(|seen| seen.state == State::Up && seen.share < FULL_SHARE)
        });
        let known = last.and_then(|last| last.vips.get(&id.id)).map(|vip| vip.rotation.members.as_slice());
        for backend in &vip.backends {
            let port = vip.service_port(backend);
            let backend_key = BackendKey { vip: key, address: backend.address, port, mac: backend.mac };
            let Some(backend_id) = ids.backend(&backend_key) else { continue };
            let seen = health.get(&backend_key).copied();
            let unknown = Seen { state: State::Probing, neighbour: None, share: FULL_SHARE };
            let Seen { state, neighbour, share } = seen.unwrap_or(unknown);
            let state = administered(backend.admin, state);
            let weight = backend.weight * if growing { share } else { 1 };
            let member = Member { id: backend_id.id, weight, seed: backend_key.seed() };
            if member.weight > 0 {
                match state {
                    State::Up => up.push(member),
                    State::Down | State::Probing if backend.admin == Admin::Enabled => {
                        let was_known = known.is_some_and(|known| known.iter().any(|m| m.id == member.id));
                        fallback.extend(was_known.then_some(member));
                    }
                    _ => {}
                }
            }
            let plan = BackendPlan {
                id: backend_id,
                vip: id.id,
                key: backend_key,
                name: backend.name.clone(),
                translate_port: backend.port.filter(|port| Some(*port) != vip.ports.single()),
                weight: backend.weight,
                admin: backend.admin,
                state,
                neighbour,
                is_shared: false,
            };
            self.backends.insert(backend_id.id, plan);
        }
        let is_last_known = up.is_empty() && vip.no_backend == NoBackend::LastKnown && !fallback.is_empty();
        let rotation = Rotation { members: if is_last_known { fallback } else { up }, is_last_known };
        let plan = VipPlan {
            id,
            key,
            name: vip.name.clone(),
            mac: vip.mac,
            mode: vip.mode,
            selection: vip.selection,
            affinity_s: vip.affinity_s,
            snat: vip.snat,
            tunnel: vip.tunnel,
            echo: vip.echo,
            allow: vip.allow.clone(),
            deny: vip.deny.clone(),
            max_new_per_source_s: vip.max_new_per_source_s,
            over_cap: vip.over_cap,
            on_down: vip.on_down,
            no_backend: vip.no_backend,
            rotation,
        };
        self.vips.insert(id.id, plan);
    }

    /// Services from the backends; those of one port name the VIPs of every port of that address too, so that one
    /// look-up is enough.
    fn add_services(&mut self) {
        let mut services: BTreeMap<Service, Vec<ServiceVip>> = BTreeMap::new();
        let in_nat = |b: &&BackendPlan| self.vips.get(&b.vip).is_some_and(|vip| vip.mode == Mode::Nat);
        for backend in self.backends.values().filter(in_nat) {
            services
                .entry(service_of(backend))
                .or_default()
                .push(ServiceVip { vip: backend.vip, port: backend.key.vip.port() });
        }
        let of_every_port: Vec<(Service, Vec<ServiceVip>)> =
            services.iter().filter(|(s, _)| s.port == 0).map(|(s, vips)| (*s, vips.clone())).collect();
        for (service, vips) in of_every_port {
            for (_, list) in services.range_mut(service..=service.last_port()).skip(1) {
                list.extend(&vips);
            }
        }
        for vips in services.values_mut() {
            // A port of its own before every port, then by id.
            vips.sort_unstable_by_key(|vip| (vip.port == 0, vip.vip));
        }
        // A backend of every port shares with any VIP that has one of its ports.
        for backend in self.backends.values_mut() {
            let own = service_of(backend);
            let last = if own.port == 0 { own.last_port() } else { own };
            backend.is_shared = services
                .range(own..=last)
                .any(|(_, vips)| vips.len() > 1 && vips.iter().any(|vip| vip.vip == backend.vip));
        }
        self.services = services;
    }

    /// What has to change to come from this plan to `new`.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Diff {
        let record = |vip: &VipPlan| VipPlan { rotation: Rotation::default(), ..vip.clone() };
        let rotations = new.vips.iter().filter(|(id, vip)| {
            let old = self.vips.get(id).filter(|old| old.key == vip.key);
            old.is_none_or(|old| old.rotation != vip.rotation)
        });
        Diff {
            backends_set: set(&self.backends, &new.backends, |a, b| a == b),
            services_set: set(&self.services, &new.services, |a, b| a == b),
            vips_set: set(&self.vips, &new.vips, |a, b| record(a) == record(b)),
            rotations_set: rotations.map(|(id, _)| *id).collect(),
            vips_gone: gone(&self.vips, &new.vips),
            services_gone: gone(&self.services, &new.services),
            backends_gone: gone(&self.backends, &new.backends),
        }
    }

    /// The way from this plan to `new` in words, one line a change: what a person wants to see before a reload.
    #[must_use]
    pub fn describe_change(&self, new: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, vip) in &self.vips {
            if new.vips.get(id).is_none_or(|other| other.key != vip.key) {
                lines.push(format!("VIP {}: removed", vip.key));
            }
        }
        for (id, vip) in &new.vips {
            let old = self.vips.get(id).filter(|old| old.key == vip.key);
            let Some(old) = old else {
                lines.push(format!("VIP {}: added, {}", vip.key, new.words(&vip.rotation)));
                continue;
            };
            let (mut was, mut is) = (old.clone(), vip.clone());
            let (before, after) = (core::mem::take(&mut was.rotation), core::mem::take(&mut is.rotation));
            if was != is {
                lines.push(format!("VIP {}: settings changed", vip.key));
            }
            if before != after {
                lines.push(format!("VIP {}: {} -> {}", vip.key, self.words(&before), new.words(&after)));
            }
        }
        lines
    }

    /// `rotation 10.0.0.1, 10.0.0.2 x3`.
    fn words(&self, rotation: &Rotation) -> String {
        let member = |m: &Member| {
            let name = self.backends.get(&m.id).map_or("?", |backend| backend.name.as_str());
            if m.weight == 1 { name.to_owned() } else { format!("{name} x{}", m.weight) }
        };
        let list: Vec<String> = rotation.members.iter().map(member).collect();
        let kind = if rotation.is_last_known { "last known" } else { "rotation" };
        if list.is_empty() { "nobody in rotation".to_owned() } else { format!("{kind} {}", list.join(", ")) }
    }
}

/// The state of a backend with this health and this word of the administrator.
fn administered(admin: Admin, health: State) -> State {
    match (admin, health) {
        (Admin::Disabled, _) => State::Disabled,
        (Admin::Draining | Admin::Leaving, State::Up) => State::Draining,
        (_, health) => health,
    }
}

fn service_of(backend: &BackendPlan) -> Service {
    let BackendKey { vip, address, port, .. } = backend.key;
    Service { address, port, protocol: vip.protocol }
}

/// Keys of what is new or different.
fn set<K: Copy + Ord, V>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Vec<K> {
    new.iter()
        .filter(|(key, value)| old.get(key).is_none_or(|old| !same(old, value)))
        .map(|(key, _)| *key)
        .collect()
}

/// Keys of what is no longer there.
fn gone<K: Copy + Ord, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    old.keys().filter(|key| !new.contains_key(key)).copied().collect()
}

/// The difference of two plans; ids and keys into the new one (`_set`) or the old one (`_gone`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Backends that are new or changed.
    pub backends_set: Vec<u16>,
    /// Services that are new or changed.
    pub services_set: Vec<Service>,
    /// VIPs that are new or changed, apart from their rotation.
    pub vips_set: Vec<u16>,
    /// VIPs whose ring and Maglev table have to be built and swapped in; new VIPs are among them.
    pub rotations_set: Vec<u16>,
    /// VIPs that are no longer there.
    pub vips_gone: Vec<u16>,
    /// Services that are no longer there.
    pub services_gone: Vec<Service>,
    /// Backends that are no longer there.
    pub backends_gone: Vec<u16>,
}

impl Diff {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
