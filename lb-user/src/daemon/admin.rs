//! What the administrator changes at run time: kept in the store, laid over the file, counted until it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_core::host::config::{BackendConfig, Config};
use lb_core::host::leaving::Leaving;
use lb_core::host::overlay::{Change, Order, Overlay, Service, Target, Whom};
use lb_core::host::plan::BackendPlan;

use crate::control::Drain;
use crate::dataplane::Pass;
use crate::io::sys;
use crate::store::{LocalStore, Store, Write};

/// Begins the keys of changes in the store; VIP, address and port follow, divided by spaces.
const PREFIX: &str = "backend ";

/// How far a drain has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    remaining: Option<u64>,
    done: bool,
    expired: bool,
}

/// The administrator's changes.
pub struct Administration {
    store: Box<dyn Store>,
    /// What the file or the arguments say.
    pub file: Config,
    overlay: Overlay,
    /// Of each change in the store.
    versions: BTreeMap<Target, u64>,
    /// Backends that were removed and keep their connections.
    leaving: Leaving,
    progress: BTreeMap<Target, Progress>,
    /// When the tables last changed: an older count says nothing about them.
    pub changed_ns: u64,
}

impl Administration {
    /// Opens the store in `folder` and takes up what it keeps, less what `file` has overtaken.
    pub fn open(folder: &Path, file: Config) -> Result<Self> {
        let store = LocalStore::open(folder)?;
        let (mut changes, mut versions) = (BTreeMap::new(), BTreeMap::new());
        for (key, entry) in store.list(PREFIX)? {
            let unreadable = || format!("{}: {key:?} is of another version of lb", folder.display());
            let target = target_of(&key).with_context(unreadable)?;
            let change: Change = serde_json::from_slice(&entry.value).with_context(unreadable)?;
            changes.insert(target.clone(), change);
            versions.insert(target, entry.version);
        }
        let mut administration = Self {
            store: Box::new(store),
            file,
            overlay: Overlay::new(changes),
            versions,
            leaving: Leaving::default(),
            progress: BTreeMap::new(),
            changed_ns: 0,
        };
        let mut settled = administration.overlay.clone();
        for line in settled.settle(&administration.file) {
            tracing::info!("backend {line}");
        }
        if let Err(error) = settled.apply(&administration.file).recheck() {
            tracing::warn!(
                "run-time changes do not fit this configuration and are forgotten: {}",
                error.message()
            );
            settled = Overlay::default();
        }
        administration.keep(settled)?;
        for (target, change) in administration.overlay.changes() {
            tracing::info!("backend {target}: still {change}");
        }
        Ok(administration)
    }

    /// The configuration in force.
    pub fn in_force(&self) -> Config {
        self.leaving.apply(self.overlay.apply(&self.file))
    }

    /// What will be in force with another file: its configuration, and the changes that are left. Those that are in
    /// force now and not in it keep their connections.
    pub fn with_file(&self, file: &Config) -> Result<(Config, Overlay, Vec<String>), String> {
        let mut overlay = self.overlay.clone();
        let lines = overlay.settle(file);
        let config = overlay.apply(file);
        config.recheck().map_err(|error| {
            format!("with the changes made at run time: {}; take them back first", error.message())
        })?;
        Ok((config, overlay, lines))
    }

    /// The overlay after an order, and whom it is about.
    pub fn ordered(&self, whom: Whom<'_>, order: &Order) -> Result<(Overlay, Vec<Target>), String> {
        self.overlay.ordered(&self.file, whom, order, now_ms())
    }

    /// Those that leave when `now` gives way to `next`.
    pub fn leave(&mut self, now: &Config, next: &Config) {
        self.leaving.leave(now, next);
    }

    /// Takes up those that an earlier daemon served and that are not configured any more.
    pub fn found(&mut self, found: impl IntoIterator<Item = (String, BackendConfig)>) {
        let config = self.in_force();
        self.leaving.add(found, &config);
    }

    /// Writes an overlay down, and obeys it from now on.
    pub fn keep(&mut self, next: Overlay) -> Result<()> {
        let mut writes = Vec::new();
        let targets: BTreeSet<&Target> = self.overlay.changes().keys().chain(next.changes().keys()).collect();
        for target in targets {
            let (before, after) = (self.overlay.change(target), next.change(target));
            if before != after {
                let value = after.map(serde_json::to_vec).transpose().context("a change as JSON")?;
                writes.push(Write {
                    key: key_of(target),
                    expected: self.versions.get(target).copied(),
                    value,
                });
            }
        }
        if !writes.is_empty() {
            self.store.compare_and_set(&writes)?;
            let list = self.store.list(PREFIX)?;
            self.versions =
                list.iter().filter_map(|(key, entry)| Some((target_of(key)?, entry.version))).collect();
        }
        for (target, change) in next.changes() {
            // A drain that begins is one that has not been counted.
            let before = self.overlay.change(target).and_then(|change| change.service);
            if change.service != before && matches!(change.service, Some(Service::Draining { .. })) {
                self.progress.remove(target);
            }
        }
        self.overlay = next;
        self.progress.retain(|target, _| self.overlay.change(target).is_some_and(|c| c.service.is_some()));
        Ok(())
    }

    /// Removes the store's file.
    pub fn forget(folder: &Path) -> Result<()> {
        LocalStore::remove(folder).with_context(|| format!("cannot remove the state in {}", folder.display()))
    }

    /// How far a backend has run dry, if it is to.
    pub fn drain(&self, target: &Target) -> Option<Drain> {
        let service = self.overlay.change(target)?.service?;
        let progress = self.progress.get(target).copied().unwrap_or_default();
        let Progress { remaining, done, expired } = progress;
        match service {
            Service::Draining { deadline_ms, .. } => {
                let deadline_ms = deadline_ms.map(|at| at.saturating_sub(now_ms()));
                Some(Drain { remaining, deadline_ms, done, expired })
            }
            Service::Disabled { .. } => {
                expired.then_some(Drain { remaining, deadline_ms: None, done, expired })
            }
        }
    }

    /// Waits until a drain's deadline is over. Safe to drop and call again.
    pub async fn deadline(&self) {
        // The clock may be set while this sleeps, so it looks again now and then.
        const LOOK_AGAIN_MS: u64 = 60_000;
        let Some(deadline) = self.overlay.next_deadline_ms() else { return std::future::pending().await };
        let left = || deadline.saturating_sub(now_ms());
        while left() > 0 {
            tokio::time::sleep(Duration::from_millis(left().min(LOOK_AGAIN_MS))).await;
        }
    }

    /// Ends the drains whose time is over; returns whether there were any.
    pub fn expire(&mut self) -> Result<bool> {
        let mut next = self.overlay.clone();
        let expired = next.expire(now_ms());
        if expired.is_empty() {
            return Ok(false);
        }
        self.keep(next)?;
        for target in &expired {
            let progress = self.progress.entry(target.clone()).or_default();
            progress.expired = true;
            match progress.remaining {
                Some(0) => tracing::info!(
                    "backend {target} disabled: the drain's deadline is over, no connection was left"
                ),
                Some(left) => tracing::warn!(
                    "backend {target} disabled: the drain's deadline is over with {left} connections left"
                ),
                None => tracing::warn!("backend {target} disabled: the drain's deadline is over"),
            }
        }
        Ok(true)
    }

    /// Takes in a count of what `plan`'s backends have; returns whether somebody has left.
    pub fn counted(&mut self, pass: &Pass, plan: &BTreeMap<u16, BackendPlan>) -> bool {
        if pass.started_ns < self.changed_ns {
            return false;
        }
        for backend in plan.values() {
            let target = Target::of_plan(backend);
            let draining = self.overlay.change(&target).and_then(|change| change.service);
            if matches!(draining, Some(Service::Draining { .. })) {
                let left = pass.open_by_backend.get(&backend.id.id).copied().unwrap_or(0);
                let progress = self.progress.entry(target.clone()).or_default();
                progress.remaining = Some(left);
                if left == 0 && !progress.done {
                    tracing::info!("backend {target} drained: no connection left");
                }
                progress.done = left == 0;
            }
        }
        let lines = self.leaving.let_go(plan, &pass.backends);
        for line in &lines {
            tracing::info!("{line}");
        }
        !lines.is_empty()
    }
}

fn key_of(target: &Target) -> String {
    let Target { vip, address, port, mac } = target;
    let mac = mac.map_or_else(String::new, |mac| format!("-{mac}"));
    format!("{PREFIX}{vip} {address}{mac} {port}")
}

fn target_of(key: &str) -> Option<Target> {
    let mut parts = key.strip_prefix(PREFIX)?.rsplitn(3, ' ');
    let port = parts.next()?.parse().ok()?;
    let address = parts.next()?;
    let (address, mac) = match address.split_once('-') {
        Some((address, mac)) => (address, Some(mac.parse().ok()?)),
        None => (address, None),
    };
    Some(Target { vip: parts.next()?.to_owned(), address: address.parse().ok()?, port, mac })
}

/// Milliseconds since 1970: deadlines outlive the daemon, and the machine's other clocks do not.
fn now_ms() -> u64 {
    sys::clock_realtime() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::host::addr::MacAddr;

    #[test]
    fn keys_of_the_store_name_the_backend() {
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        for (address, mac) in [("10.0.0.1", None), ("10.0.0.1", mac), ("fd00::1", None), ("fd00::1", mac)] {
            let (vip, address) = ("[fd00::1:0/64]:80/tcp".to_owned(), address.parse().unwrap());
            let target = Target { vip, address, port: 8080, mac };
            assert_eq!(target_of(&key_of(&target)), Some(target));
        }
        assert_eq!(target_of("backend 10.0.1.1/tcp 10.0.0.1"), None);
        assert_eq!(target_of("lease 10.0.1.1/tcp 10.0.0.1 0"), None);
    }
}
