//! What an administrator changed at run time, on top of the file: states, weights, backends added and removed.
//!
//! ```text
//!   file ──> configuration ──┐
//!                            ├─ apply ─> configuration in force ─> plan
//!   orders ──> overlay ──────┘
//! ```
//! A change belongs to one backend of one VIP, so the same address in two VIPs can differ. It outlives restarts and
//! reloads until it is taken back, the file says the same, or the file itself says something new about that value:
//! whoever spoke last is obeyed ([`Overlay::settle`]).

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::addr::MacAddr;
use super::config::{self, Admin, BackendConfig, Config, MAX_WEIGHT, VipConfig};
use super::plan::BackendPlan;

/// A backend of a VIP by what makes it that: it survives changes of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The VIP as its key is written: `10.0.1.1:80/tcp`.
    pub vip: String,
    /// The backend's address.
    pub address: IpAddr,
    /// The port that it serves on in host byte order, 0 for several.
    pub port: u16,
    /// Its MAC, if that tells it from others of its address.
    pub mac: Option<MacAddr>,
}

impl Target {
    /// The target that `backend` of `vip` is.
    #[must_use]
    pub fn new(vip: &VipConfig, backend: &BackendConfig) -> Self {
        Self {
            vip: vip.key().to_string(),
            address: backend.address,
            port: vip.service_port(backend),
            mac: backend.mac,
        }
    }

    /// The target that a backend of a plan is.
    #[must_use]
    pub fn of_plan(backend: &BackendPlan) -> Self {
        let key = backend.key;
        Self { vip: key.vip.to_string(), address: key.address, port: key.port, mac: key.mac }
    }
}

impl fmt::Display for Target {
    /// `10.0.0.1 of VIP 10.0.1.1:80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(mac) = self.mac {
            write!(f, " ({mac})")?;
        }
        write!(f, " of VIP {}", self.vip)
    }
}

/// What was changed about one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// It is taken out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Another weight than the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// It was added or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
}

impl fmt::Display for Change {
    /// `added by hand, draining`, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = self.member.as_ref().map(|member| match member {
            Member::Added { .. } => "added by hand".to_owned(),
            Member::Removed => "removed by hand".to_owned(),
        });
        let service = self.service.map(|service| match service {
            Service::Draining { .. } => "draining".to_owned(),
            Service::Disabled { .. } => "disabled".to_owned(),
        });
        let weight =
            self.weight.map(|weight| format!("with weight {} instead of {}", weight.set, weight.configured));
        let words: Vec<String> = [member, service, weight].into_iter().flatten().collect();
        f.write_str(&words.join(", "))
    }
}

/// A backend taken out of service. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase", deny_unknown_fields)]
pub enum Service {
    /// It keeps its flows and gets no new ones.
    Draining {
        /// Since when.
        since_ms: u64,
        /// When it is to be disabled, flows or not.
        deadline_ms: Option<u64>,
    },
    /// Out.
    Disabled {
        /// Since when.
        since_ms: u64,
    },
}

/// A weight given at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// What the file said at that time.
    pub configured: u16,
    /// What holds.
    pub set: u16,
}

/// A backend that came or went at run time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Member {
    /// It is not in the file.
    Added {
        /// Its name.
        name: String,
        /// The port it was given, where it translates.
        port: Option<u16>,
        /// Its weight.
        weight: u16,
    },
    /// It is in the file and does not serve.
    Removed,
}

/// What an administrator can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Keep the flows, take no new ones; after so many milliseconds disable.
    Drain {
        /// From now.
        deadline_ms: Option<u64>,
    },
    /// Take it out of service.
    Disable,
    /// Put it into service.
    Enable,
    /// Give it this weight.
    Weight(u16),
    /// Add it to a VIP.
    Add {
        /// Its name; its address if there is none.
        name: Option<String>,
        /// Its weight.
        weight: u16,
    },
    /// Take it from the VIP; its flows stay until they end.
    Remove,
}

/// Whom an order is for, as people write it.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'a> {
    /// Name, address, or address and port.
    pub backend: &'a str,
    /// Name or key of the VIP; without it every VIP that has such a backend.
    pub vip: Option<&'a str>,
}

/// All changes, by whom they are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    changes: BTreeMap<Target, Change>,
}

impl Overlay {
    /// The changes that were kept.
    #[must_use]
    pub fn new(changes: BTreeMap<Target, Change>) -> Self {
        Self { changes }
    }

    /// Every change.
    #[must_use]
    pub fn changes(&self) -> &BTreeMap<Target, Change> {
        &self.changes
    }

    /// The change of one backend.
    #[must_use]
    pub fn change(&self, target: &Target) -> Option<&Change> {
        self.changes.get(target)
    }

    /// The configuration in force: `file` with the changes in it.
    #[must_use]
    pub fn apply(&self, file: &Config) -> Config {
        let mut config = file.clone();
        for vip in &mut config.vips {
            let shape = vip.clone();
            let change = |backend: &BackendConfig| self.changes.get(&Target::new(&shape, backend));
            vip.backends.retain(|b| change(b).is_none_or(|c| c.member != Some(Member::Removed)));
            for backend in &mut vip.backends {
                if let Some(weight) = change(backend).and_then(|c| c.weight) {
                    backend.weight = weight.set;
                }
            }
            let key = vip.key().to_string();
            for (target, change) in self.changes.iter().filter(|(target, _)| target.vip == key) {
                if let Some(Member::Added { name, port, weight }) = &change.member {
                    let (name, address, port, weight) = (name.clone(), target.address, *port, *weight);
                    vip.backends.push(BackendConfig {
                        name,
                        address,
                        mac: target.mac,
                        host: None,
                        port,
                        weight,
                        admin: Admin::Enabled,
                    });
                }
            }
            for backend in &mut vip.backends {
                let service = self.changes.get(&Target::new(&shape, backend)).and_then(|c| c.service);
                backend.admin = match service {
                    None => Admin::Enabled,
                    Some(Service::Draining { .. }) => Admin::Draining,
                    Some(Service::Disabled { .. }) => Admin::Disabled,
                };
            }
        }
        config
    }

    /// Drops every change that `file` overtook: it says the same now, something new about the same value, or nothing
    /// about the VIP or the backend any more. Returns one line for each.
    pub fn settle(&mut self, file: &Config) -> Vec<String> {
        let mut lines = Vec::new();
        for (target, change) in &mut self.changes {
            let vip = file.vips.iter().find(|vip| vip.key().to_string() == target.vip);
            let Some(vip) = vip else {
                *change = Change::default();
                lines.push(format!("{target}: its changes are forgotten, the VIP is gone"));
                continue;
            };
            let listed = vip.backends.iter().find(|backend| Target::new(vip, backend) == *target);
            match (&change.member, listed) {
                (Some(Member::Added { .. }), Some(_)) => {
                    change.member = None;
                    lines.push(format!("{target}: was added by hand, and is in the file now"));
                }
                (Some(Member::Removed), None) => {
                    *change = Change::default();
                    lines.push(format!("{target}: was removed by hand, and is out of the file now"));
                }
                (None, None) => {
                    *change = Change::default();
                    lines.push(format!("{target}: its changes are forgotten, it is not in the file"));
                }
                _ => {}
            }
            if let (Some(weight), Some(backend)) = (change.weight, listed)
                && (weight.configured != backend.weight || weight.set == backend.weight)
            {
                change.weight = None;
                lines.push(format!(
                    "{target}: weight {} given by hand gives way to the file's {}",
                    weight.set, backend.weight
                ));
            }
        }
        self.changes.retain(|_, change| *change != Change::default());
        lines
    }

    /// Ends the drains whose deadline is over: they are disabled. Returns whose.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Target> {
        let mut expired = Vec::new();
        for (target, change) in &mut self.changes {
            if let Some(Service::Draining { deadline_ms: Some(deadline), .. }) = change.service
                && deadline <= now_ms
            {
                change.service = Some(Service::Disabled { since_ms: now_ms });
                expired.push(target.clone());
            }
        }
        expired
    }

    /// The next time at which [`Self::expire`] has something to do.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadline = |change: &Change| match change.service {
            Some(Service::Draining { deadline_ms, .. }) => deadline_ms,
            _ => None,
        };
        self.changes.values().filter_map(deadline).min()
    }

    /// The overlay after an order, and whom it was about. `file` is the configuration without changes.
    ///
    /// # Errors
    /// One line that names the thing and the mend; nothing is changed then.
    pub fn ordered(
        &self,
        file: &Config,
        whom: Whom<'_>,
        order: &Order,
        now_ms: u64,
    ) -> Result<(Self, Vec<Target>), String> {
        let mut next = self.clone();
        let force = self.apply(file);
        let targets = if let Order::Add { name, weight } = order {
            vec![next.add(file, &force, whom, name.as_deref(), *weight)?]
        } else {
            let found = find(&force, whom)?;
            for (vip, backend) in &found {
                next.change_one(file, vip, backend, order, now_ms)?;
            }
            found.iter().map(|(vip, backend)| Target::new(vip, backend)).collect()
        };
        next.changes.retain(|_, change| *change != Change::default());
        next.apply(file).recheck().map_err(|error| error.message().to_owned())?;
        Ok((next, targets))
    }

    fn change_one(
        &mut self,
        file: &Config,
        vip: &VipConfig,
        backend: &BackendConfig,
        order: &Order,
        now_ms: u64,
    ) -> Result<(), String> {
        let target = Target::new(vip, backend);
        let configured = listed(file, &target).map(|backend| backend.weight);
        let is_last = vip.backends.len() == 1;
        let change = self.changes.entry(target).or_default();
        match order {
            Order::Drain { deadline_ms } => {
                let since_ms = match change.service {
                    Some(Service::Draining { since_ms, .. }) => since_ms,
                    _ => now_ms,
                };
                let deadline_ms = deadline_ms.map(|after| now_ms.saturating_add(after));
                change.service = Some(Service::Draining { since_ms, deadline_ms });
            }
            Order::Disable => {
                if !matches!(change.service, Some(Service::Disabled { .. })) {
                    change.service = Some(Service::Disabled { since_ms: now_ms });
                }
            }
            Order::Enable => change.service = None,
            Order::Weight(set) => match (&mut change.member, configured) {
                (Some(Member::Added { weight, .. }), _) => *weight = *set,
                (_, Some(configured)) if configured == *set => change.weight = None,
                (_, Some(configured)) => change.weight = Some(Weight { configured, set: *set }),
                (_, None) => {}
            },
            Order::Remove if is_last => {
                return Err(format!(
                    "{} is the only backend of VIP {}; drain or disable it, or add another one first",
                    backend.name, vip.name
                ));
            }
            Order::Remove => {
                *change = Change { member: configured.map(|_| Member::Removed), ..Change::default() };
            }
            Order::Add { .. } => {}
        }
        Ok(())
    }

    fn add(
        &mut self,
        file: &Config,
        force: &Config,
        whom: Whom<'_>,
        name: Option<&str>,
        weight: u16,
    ) -> Result<Target, String> {
        let vip = match (whom.vip, force.vips.as_slice()) {
            (Some(name), vips) => {
                vips.iter().find(|vip| is_vip(vip, name)).ok_or_else(|| no_vip(force, name))?
            }
            (None, [vip]) => vip,
            (None, vips) => {
                return Err(format!("which VIP? name one with --vip: {}", names(vips.iter())));
            }
        };
        let backend = config::server(whom.backend).map_err(|error| error.to_string())?;
        let name = name.map_or(backend.name, str::to_owned);
        let (backend, port) = (BackendConfig { name, weight, ..backend }, backend.port);
        let target = Target::new(vip, &backend);
        if vip.backends.iter().any(|other| Target::new(vip, other) == target) {
            return Err(format!("backend {} is in VIP {} already", backend.name, vip.name));
        }
        let change = match listed(file, &target) {
            Some(BackendConfig { weight: configured, .. }) if *configured == weight => Change::default(),
            Some(BackendConfig { weight: configured, .. }) => {
                Change { weight: Some(Weight { configured: *configured, set: weight }), ..Change::default() }
            }
            None => Change {
                member: Some(Member::Added { name: backend.name, port, weight }),
                ..Change::default()
            },
        };
        self.changes.insert(target.clone(), change);
        Ok(target)
    }
}

/// The backend of the file that `target` is.
fn listed<'a>(file: &'a Config, target: &Target) -> Option<&'a BackendConfig> {
    let vip = file.vips.iter().find(|vip| vip.key().to_string() == target.vip)?;
    vip.backends.iter().find(|backend| Target::new(vip, backend) == *target)
}

fn is_vip(vip: &VipConfig, text: &str) -> bool {
    vip.name == text || vip.key().to_string() == text
}

fn is_backend(vip: &VipConfig, backend: &BackendConfig, text: &str) -> bool {
    backend.name == text
        || backend.address.to_string() == text
        || BackendConfig::default_name(backend.address, Some(vip.service_port(backend)), None) == text
}

fn find<'a>(config: &'a Config, whom: Whom<'_>) -> Result<Vec<(&'a VipConfig, &'a BackendConfig)>, String> {
    let vips: Vec<&VipConfig> =
        config.vips.iter().filter(|vip| whom.vip.is_none_or(|name| is_vip(vip, name))).collect();
    if let (Some(name), []) = (whom.vip, vips.as_slice()) {
        return Err(no_vip(config, name));
    }
    let mut found = Vec::new();
    for vip in &vips {
        let here: Vec<&BackendConfig> =
            vip.backends.iter().filter(|backend| is_backend(vip, backend, whom.backend)).collect();
        if let [_, _, ..] = here[..] {
            let names: Vec<&str> = here.iter().map(|backend| backend.name.as_str()).collect();
            return Err(format!(
                "{} stands for several backends of VIP {}; name one of {}",
                whom.backend,
                vip.name,
                names.join(", ")
            ));
        }
        found.extend(here.into_iter().map(|backend| (*vip, backend)));
    }
    if found.is_empty() {
        let mut names: Vec<&str> =
            vips.iter().flat_map(|vip| &vip.backends).map(|backend| backend.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let place = whom.vip.map_or_else(String::new, |name| format!(" in VIP {name}"));
        return Err(format!("no backend {}{place}; there are {}", whom.backend, some(&names)));
    }
    Ok(found)
}

fn no_vip(config: &Config, name: &str) -> String {
    format!("no VIP {name}; there are {}", names(config.vips.iter()))
}

fn names<'a>(vips: impl Iterator<Item = &'a VipConfig>) -> String {
    some(&vips.map(|vip| vip.name.as_str()).collect::<Vec<_>>())
}

/// The first few of a list that may be long.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Whether a weight can be given.
///
/// # Errors
/// One line that names the range.
pub fn parse_weight(text: &str) -> Result<u16, String> {
    let weight = text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
    weight.ok_or_else(|| format!("weight {text} is not a number from 0 to {MAX_WEIGHT}"))
}

/// A time with its unit: `500ms`, `60s`, `5m`, `1h`; without one it is seconds.
///
/// # Errors
/// One line that says how to write it, or that it is too long.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    const LONGEST_S: u64 = 30 * 24 * 3600;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number with ms, s, m or h, as in 60s".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "write a number with ms, s, m or h, as in 60s".to_owned())?;
    match number.checked_mul(unit_ms) {
        Some(ms) if ms <= LONGEST_S * 1000 => Ok(Duration::from_millis(ms)),
        _ => Err("more than 30 days; give a shorter time".to_owned()),
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
