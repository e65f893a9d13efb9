//! What the daemon knows, as the API tells it.

use anyhow::Result;
use lb_core::conn::state;
use lb_core::host::config::Admin;
use lb_core::host::health::{FULL_SHARE, State, Station};
use lb_core::host::overlay::Target;
use lb_core::host::plan::{BackendPlan, Plan, VipPlan};
use lb_core::ledger::Ledger;
use lb_core::table::{Ticks, TrafficCounter, ticks_since};

use crate::api::{
    Backend, BackendStats, Losses, StateCounts, Stats, Status, SweepStatus, TableStatus, Traffic, Vip,
    VipStats,
};
use crate::control::Drain;
use crate::control::render::progress;
use crate::dataplane::{ConnTable, DataPlane, Pass};
use crate::io::{clock, sys};

use super::Daemon;
use super::orders::admin_word;

impl Daemon {
    /// The state.
    pub fn status(&self) -> Result<Status> {
        let now = sys::clock_monotonic();
        let pass = self.sweeper.latest();
        let native = self.placed.ports.iter().all(|port| port.native);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            adopted: self.dataplane.adopted(),
            balancer: self.record.balancer,
            placement: self.placed.summary.clone(),
            attach_mode: if native { "native" } else { "generic" }.to_owned(),
            prober_macs: self.placed.prober_macs(),
            interfaces: self.placed.ports.iter().map(super::place::Port::describe).collect(),
            vips: self.plan.vips.values().map(|vip| self.describe_vip(vip, pass.as_deref(), now)).collect(),
            connections: self.describe_table(pass.as_deref(), now)?,
            pins: self.dataplane.objects()?,
            warnings: self.warnings()?,
        })
    }

    fn describe_table(&self, pass: Option<&Pass>, now: u64) -> Result<TableStatus> {
        let (memory_bytes, capacity) = ConnTable::open(&self.pins)?.memory()?;
        let bytes_per_entry = memory_bytes.checked_div(u64::from(capacity)).unwrap_or(0) as u32;
        Ok(TableStatus { capacity, memory_bytes, bytes_per_entry, sweep: pass.map(|pass| sweep(pass, now)) })
    }

    fn describe_vip(&self, vip: &VipPlan, pass: Option<&Pass>, now: u64) -> Vip {
        let mine = |backend: &&BackendPlan| backend.vip == vip.id.id;
        Vip {
            id: vip.id.id,
            name: vip.name.clone(),
            address: vip.key.address,
            prefix_len: vip.key.prefix_len,
            port: vip.key.ports.single(),
            ports: vip.key.ports.to_string(),
            protocol: vip.key.protocol.to_string(),
            mac: vip.mac.to_string(),
            mode: word(&vip.mode),
            selection: word(&vip.selection),
            connections: pass.map(|pass| pass.open_by_vip.get(&vip.id.id).copied().unwrap_or(0)),
            backends: self
                .plan
                .backends
                .values()
                .filter(mine)
                .map(|backend| self.describe_backend(backend, pass, now))
                .collect(),
        }
    }

    fn describe_backend(&self, backend: &BackendPlan, pass: Option<&Pass>, now: u64) -> Backend {
        let health = self.checks.members.status(&backend.key);
        let reason =
            health.and_then(|h| h.cause).map_or_else(|| "not probed yet".to_owned(), |c| c.to_string());
        let target = Target::of_plan(backend);
        let drain = self.admin.drain(&target);
        let reason = administered_reason(backend, drain.as_ref()).unwrap_or(reason);
        let slot = backend.neighbour.and_then(|n| u16::try_from(n.interface).ok());
        Backend {
            id: backend.id.id,
            name: backend.name.clone(),
            address: backend.key.address,
            port: backend.translate_port,
            weight: backend.weight,
            state: backend.state.to_string(),
            admin: admin_word(backend.admin).to_owned(),
            drain,
            reason,
            since_ms: health.map_or(0, |h| now.saturating_sub(h.since_ns) / 1_000_000),
            downs: health.map_or(0, |h| h.downs),
            mac: backend.neighbour.map(|n| n.mac).or(backend.key.mac).map(|mac| mac.to_string()),
            told_by_mac: backend.key.mac.is_some(),
            interface: slot.and_then(|slot| self.placed.port(slot)).map(|port| port.name.clone()),
            last_failure: health.and_then(|h| h.last_failure).map(|failure| failure.to_string()),
            share_pct: health.map_or(100, |h| h.share * 100 / FULL_SHARE),
            connections: pass.map(|pass| pass.open_by_backend.get(&backend.id.id).copied().unwrap_or(0)),
        }
    }

    fn warnings(&self) -> Result<Vec<String>> {
        let mut warnings = self.placed.warnings.clone();
        let partial = self.dataplane.counters()?.global.partial_checksums;
        if partial > 0 {
            warnings.push(format!(
                "{partial} packets came with unfinished checksums, and their receivers drop them: a host has TX checksum \
                 offload on, `lb doctor` names it"
            ));
        }
        for place in self.placed.backends.iter().filter(|place| place.port.is_none()) {
            warnings.push(format!("backend {} is on no host", place.ip));
        }
        for table in self.dataplane.adopted_sizes(&self.config.connections)? {
            warnings.push(format!(
                "{} = {} is not in force: the table holds {} entries and was adopted from an earlier daemon, `lb detach` \
                 makes way for a new one",
                table.key, table.configured, table.entries
            ));
        }
        Ok(warnings)
    }

    /// The counters; those of the devices, which take longer, are left out.
    pub fn stats(&self) -> Result<Stats> {
        let counters = self.dataplane.counters()?;
        let count = |reason| counters.reasons.get(&reason).copied().unwrap_or(0);
        let ledger = Ledger::sum(counters.global.received, count);
        let mut vips = Vec::new();
        for (id, vip) in &self.plan.vips {
            let traffic = traffic(&self.dataplane.vip_traffic(*id)?);
            let forwarded = traffic.packets_in + traffic.packets_out;
            vips.push(VipStats { id: *id, name: vip.name.clone(), forwarded, traffic });
        }
        let mut backends = Vec::new();
        for (id, backend) in &self.plan.backends {
            backends.push(BackendStats {
                id: *id,
                vip: self.plan.vips.get(&backend.vip).map(|vip| vip.name.clone()).unwrap_or_default(),
                address: backend.key.address,
                traffic: traffic(&self.dataplane.backend_traffic(*id)?),
            });
        }
        Ok(Stats {
            ledger_difference: ledger.difference(),
            ledger,
            reasons: counters.reasons.iter().map(|(r, n)| (r.name().to_owned(), *n)).collect(),
            partial_checksums: counters.global.partial_checksums,
            losses: Losses::default(),
            interfaces: Vec::new(),
            vips,
            backends,
        })
    }
}

fn sweep(pass: &Pass, now: u64) -> SweepStatus {
    let ms = |from: u64, to: u64| to.saturating_sub(from) / 1_000_000;
    let count = |state: u8| pass.states.get(usize::from(state)).copied().unwrap_or(0);
    SweepStatus {
        age_ms: ms(pass.ended_ns, now),
        took_ms: ms(pass.started_ns, pass.ended_ns),
        cpu_us: pass.cpu_ns / 1000,
        entries: pass.entries,
        removed: pass.removed,
        live: pass.live(),
        states: StateCounts {
            syn: count(state::SYN),
            unverified: count(state::UNVERIFIED),
            established: count(state::ESTABLISHED),
            closing: count(state::CLOSING),
            closed: count(state::CLOSED),
            udp: count(state::UDP),
        },
    }
}

/// Why a backend is in the state that the administrator gave it; `None` if its health gave it.
fn administered_reason(backend: &BackendPlan, drain: Option<&Drain>) -> Option<String> {
    let what = match (backend.admin, backend.state) {
        (Admin::Disabled, _) => "disabled by the administrator",
        (Admin::Draining, State::Draining) => "draining by order of the administrator",
        (Admin::Leaving, _) => "removed, keeps its connections until they end",
        _ => return None,
    };
    Some(match drain {
        Some(drain) => format!("{what}: {}", progress(drain)),
        None => what.to_owned(),
    })
}

/// A configuration word as the file spells it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "?".to_owned(),
    }
}

fn traffic(counter: &TrafficCounter) -> Traffic {
    Traffic {
        packets_in: counter.packets_in,
        bytes_in: counter.bytes_in,
        packets_out: counter.packets_out,
        bytes_out: counter.bytes_out,
        opened: counter.opened,
        dropped: counter.dropped,
    }
}

/// When the data plane last saw a frame of a backend that shows it alive, in ns of the monotonic clock.
pub fn last_alive(dataplane: &DataPlane, plan: &Plan, backend: Station) -> Result<Option<u64>> {
    let mut latest: Option<u64> = None;
    let now = sys::clock_monotonic();
    for (id, _) in plan.backends.iter().filter(|(_, b)| b.key.station() == backend) {
        let seen = dataplane.backend_traffic(*id)?.last_alive;
        if seen != 0 {
            let age = ticks_since(clock::ticks(), seen as Ticks);
            let at = now.saturating_sub(u64::from(age) << 20);
            latest = Some(latest.map_or(at, |other| other.max(at)));
        }
    }
    Ok(latest)
}
