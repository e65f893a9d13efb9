//! Ids for VIPs and backends that stay what they are over reloads and are not reused too early.
//!
//! Connection entries carry the id of their VIP and of their backend. So an id stays with its owner while the owner is
//! configured, and rests when the owner goes, until a sweep of the connection table has shown that no entry carries it
//! ([`Ids::release_unused`]). An owner that comes back while its id rests gets it again, and its flows with it. An id
//! that goes to another owner does so with the next generation.

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::addr::MacAddr;
use super::config::{BackendConfig, Config, MAX_VIPS, VipConfig, VipKey};
use super::health::Station;
use super::seed;
use crate::table;

/// The highest id of a VIP, 256; the lowest is 1, 0 means none.
pub const MAX_VIP_ID: u16 = MAX_VIPS as u16;
/// The highest id of a backend, 8191; the lowest is 1, 0 means none.
pub const MAX_BACKEND_ID: u16 = (table::MAX_BACKENDS - 1) as u16;

/// The identity of a backend: it belongs to one VIP, and has one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BackendKey {
    /// The VIP that it serves.
    pub vip: VipKey,
    /// Its address.
    pub address: IpAddr,
    /// The port that it serves on in host byte order, 0 for several.
    pub port: u16,
    /// Its MAC, if that and not the address alone tells it from others.
    pub mac: Option<MacAddr>,
}

impl BackendKey {
    /// The key of `backend` of `vip`.
    #[must_use]
    pub fn of(vip: &VipConfig, backend: &BackendConfig) -> Self {
        Self { vip: vip.key(), address: backend.address, port: vip.service_port(backend), mac: backend.mac }
    }

    /// The host that has to be there for it.
    #[must_use]
    pub const fn station(&self) -> Station {
        Station { address: self.address, mac: self.mac }
    }

    /// Its place in hash space.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let seed = seed::backend(self.address, self.port);
        self.mac.map_or(seed, |mac| seed::apart(seed, mac))
    }
}

/// An id with its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    /// The number, from 1.
    pub id: u16,
    /// How often the number went to another owner, from 0; wraps.
    pub generation: u16,
}

/// No id is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no id is left for {what}: {live} of {limit} are in use and {resting} rest until their connections end; try again later, or change fewer at a time"
)]
pub struct NoIdLeft {
    what: &'static str,
    live: usize,
    limit: u16,
    resting: usize,
}

/// Who has which id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    vips: Pool<VipKey>,
    backends: Pool<BackendKey>,
}

impl Default for Ids {
    fn default() -> Self {
        Self { vips: Pool::new("VIPs", MAX_VIP_ID), backends: Pool::new("backends", MAX_BACKEND_ID) }
    }
}

impl Ids {
    /// Takes over an id that an earlier daemon gave to a VIP. False, and nothing happens, if it is out of range or
    /// taken, or the VIP has another.
    pub fn adopt_vip(&mut self, vip: VipKey, id: Id) -> bool {
        self.vips.adopt(vip, id)
    }

    /// Takes over an id that an earlier daemon gave to a backend; as [`Self::adopt_vip`].
    pub fn adopt_backend(&mut self, backend: BackendKey, id: Id) -> bool {
        self.backends.adopt(backend, id)
    }

    /// Takes over what an earlier daemon knew about a number that nobody has now: the generation of its last owner,
    /// whose connections may still be there. Nothing happens if it is out of range or has been heard of.
    pub fn remember_backend(&mut self, id: Id) {
        self.backends.remember(id);
    }

    /// Gives an id to everybody in `config` who has none, and lets those of everybody else rest.
    ///
    /// # Errors
    /// [`NoIdLeft`]; nothing has changed then.
    pub fn assign(&mut self, config: &Config) -> Result<(), NoIdLeft> {
        let vips = self.vips.assigned(config.vips.iter().map(super::config::VipConfig::key))?;
        let backends = config.vips.iter().flat_map(|vip| {
            vip.backends.iter().map(|b| BackendKey {
                vip: vip.key(),
                address: b.address,
                port: vip.service_port(b),
                mac: b.mac,
            })
        });
        self.backends = self.backends.assigned(backends)?;
        self.vips = vips;
        Ok(())
    }

    /// Frees the resting ids that are not among those that connection entries carry. The entries must have been read
    /// after the tables without the owners were in force.
    pub fn release_unused(&mut self, vips: &BTreeSet<u16>, backends: &BTreeSet<u16>) {
        self.vips.resting.retain(|_, id| vips.contains(&id.id));
        self.backends.resting.retain(|_, id| backends.contains(&id.id));
    }

    /// Whether ids rest, so that a sweep is worth its while.
    #[must_use]
    pub fn any_resting(&self) -> bool {
        !self.vips.resting.is_empty() || !self.backends.resting.is_empty()
    }

    /// The id of a configured VIP.
    #[must_use]
    pub fn vip(&self, vip: &VipKey) -> Option<Id> {
        self.vips.live.get(vip).copied()
    }

    /// The id of a configured backend.
    #[must_use]
    pub fn backend(&self, backend: &BackendKey) -> Option<Id> {
        self.backends.live.get(backend).copied()
    }
}

/// The ids of one kind.
#[derive(Clone, PartialEq, Eq)]
struct Pool<K> {
    what: &'static str,
    limit: u16,
    live: BTreeMap<K, Id>,
    resting: BTreeMap<K, Id>,
    /// The generation that each number had last.
    generations: BTreeMap<u16, u16>,
}

impl<K: fmt::Debug> fmt::Debug for Pool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("live", &self.live)
            .field("resting", &self.resting)
            .finish_non_exhaustive()
    }
}

impl<K: Copy + Ord> Pool<K> {
    fn new(what: &'static str, limit: u16) -> Self {
        Self { what, limit, live: BTreeMap::new(), resting: BTreeMap::new(), generations: BTreeMap::new() }
    }

    fn adopt(&mut self, key: K, id: Id) -> bool {
        let taken = self.live.values().chain(self.resting.values()).any(|other| other.id == id.id);
        let known = self.live.contains_key(&key) || self.resting.contains_key(&key);
        if taken || known || id.id == 0 || id.id > self.limit {
            return false;
        }
        self.generations.insert(id.id, id.generation);
        self.live.insert(key, id);
        true
    }

    fn remember(&mut self, id: Id) {
        if id.id != 0 && id.id <= self.limit {
            self.generations.entry(id.id).or_insert(id.generation);
        }
    }

    /// The pool in which exactly `keys` are live.
    fn assigned(&self, keys: impl Iterator<Item = K>) -> Result<Self, NoIdLeft> {
        let mut old: BTreeMap<K, Id> = self.resting.clone();
        old.extend(&self.live);
        let mut next = Self { live: BTreeMap::new(), resting: BTreeMap::new(), ..self.clone() };
        let mut new = Vec::new();
        for key in keys {
            match old.remove(&key) {
                Some(id) => drop(next.live.insert(key, id)),
                None => new.push(key),
            }
        }
        next.resting = old;
        let taken: BTreeSet<u16> = next.live.values().chain(next.resting.values()).map(|id| id.id).collect();
        let mut free = (1..=self.limit).filter(|id| !taken.contains(id));
        for key in new {
            let Some(id) = free.next() else {
                let (live, resting) = (next.live.len(), next.resting.len());
                return Err(NoIdLeft { what: self.what, live, limit: self.limit, resting });
            };
            let generation = self.generations.get(&id).map_or(0, |last| last.wrapping_add(1));
            next.generations.insert(id, generation);
            next.live.insert(key, Id { id, generation });
        }
        Ok(next)
    }
}
