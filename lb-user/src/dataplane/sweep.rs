//! The sweep of the connection table: removes what has timed out, and counts what lives.
//!
//! The data plane decides timeouts when it looks an entry up, and the kernel evicts without telling, so nobody knows
//! how many connections a backend has until somebody counts. A pass walks the table bucket by bucket, in small steps
//! with long pauses, so that it costs a fixed share of one processor whatever the size of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use lb_core::conn::{is_finished, is_live};
use lb_core::table::{BackendRecord, ConnEntry, ConnKey, ConnValue, MAX_BACKENDS, MAX_VIPS, Settings, Ticks};

use super::pod::Raw;
use super::{ConnTable, Pins, Place};
use crate::io::bpf::{self, Position};
use crate::io::{clock, sys};

/// Pause after each step, as a multiple of the processor time that the step took: 0.7 % of a core.
const PAUSE: u64 = 140;
/// A pass takes this long at least.
const SHORTEST_PASS_NS: u64 = 1_000_000_000;

/// What one pass over the table found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// When it began, on the monotonic clock.
    pub started_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// Processor time it took.
    pub cpu_ns: u64,
    /// Entries read.
    pub entries: u64,
    /// Entries that had timed out and were removed.
    pub removed: u64,
    /// Live entries by [`lb_core::conn::state`].
    pub states: [u64; 8],
    /// Open connections by backend id: live, and not ended by both sides or by a reset. What least connections
    /// compares.
    pub open_by_backend: BTreeMap<u16, u64>,
    /// Open connections by VIP id.
    pub open_by_vip: BTreeMap<u16, u64>,
    /// VIP ids that live entries carry.
    pub vips: BTreeSet<u16>,
    /// Backend ids that live entries carry.
    pub backends: BTreeSet<u16>,
}

impl Pass {
    /// Live entries.
    pub fn live(&self) -> u64 {
        self.states.iter().sum()
    }
}

/// What a pass counts as it goes.
struct Tally {
    now: Ticks,
    settings: Settings,
    /// Generation of each backend's record at the beginning of the pass.
    generations: Vec<u16>,
    states: [u64; 8],
    backends: Vec<Count>,
    vips: Vec<Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    open: u32,
    carried: bool,
}

impl Tally {
    fn new(settings: Settings, generations: Vec<u16>) -> Self {
        Self {
            now: 0,
            settings,
            generations,
            states: [0; 8],
            backends: vec![Count::default(); MAX_BACKENDS],
            vips: vec![Count::default(); MAX_VIPS],
        }
    }

    fn is_dead(&self, value: &ConnValue) -> bool {
        let entry = ConnEntry::default();
        entry.set(value);
        !is_live(&entry, self.now, &self.settings)
    }

    /// Counts an entry; false if it has timed out.
    fn take(&mut self, key: &ConnKey, value: &ConnValue) -> bool {
        let entry = ConnEntry::default();
        entry.set(value);
        if !is_live(&entry, self.now, &self.settings) {
            return false;
        }
        if let Some(count) = self.states.get_mut(usize::from(value.state)) {
            *count += 1;
        }
        let backend = usize::from(value.backend);
        // One of an earlier owner of the backend's number binds nobody.
        let bound = self.generations.get(backend) == Some(&value.generation);
        let open = u32::from(bound && !is_finished(&entry));
        if let Some(count) = self.vips.get_mut(usize::from(key.vip())) {
            count.open += open;
            count.carried = true;
        }
        if let Some(count) = self.backends.get_mut(backend) {
            count.open += open;
            count.carried = true;
        }
        true
    }

    fn finish(self, pass: &mut Pass) {
        pass.states = self.states;
        (pass.open_by_backend, pass.backends) = by_id(&self.backends);
        (pass.open_by_vip, pass.vips) = by_id(&self.vips);
    }
}

/// A backend's load after a pass that counted so many connections, while the load that the programs keep went from
/// `before` to `now`. The count is as old as the middle of the pass, so the second half of the change is not in it.
fn corrected(counted: i64, before: i64, now: i64) -> i64 {
    let since = now.saturating_sub(before) / 2;
    counted.saturating_add(since).max(0)
}

fn by_id(counts: &[Count]) -> (BTreeMap<u16, u64>, BTreeSet<u16>) {
    let carried = || (0u16..).zip(counts).filter(|(_, count)| count.carried);
    let open = carried().map(|(id, count)| (id, u64::from(count.open))).collect();
    (open, carried().map(|(id, _)| id).collect())
}

/// A sweeper over the pinned tables of one data plane.
#[derive(Debug)]
pub struct Sweep {
    conns: ConnTable,
    settings: Map,
    backends: MapData,
    loads: MapData,
}

impl Sweep {
    /// Opens the tables.
    ///
    /// # Errors
    /// A pin is not there or may not be opened.
    pub fn open(pins: &Pins) -> Result<Self> {
        let pinned = |name: &str| {
            MapData::from_pin(pins.map(name)).with_context(|| format!("cannot open the map {name}"))
        };
        Ok(Self {
            conns: ConnTable::open(pins)?,
            settings: Map::Array(pinned("SETTINGS")?),
            backends: pinned("BACKENDS")?,
            loads: pinned("LOADS")?,
        })
    }

    /// Walks the whole table once. `pause` is called between the steps and says whether to go on; `None` if it did
    /// not.
    ///
    /// # Errors
    /// The kernel refuses to read or to remove.
    pub fn pass(&mut self, mut pause: impl FnMut(Duration) -> bool) -> Result<Option<Pass>> {
        let mut pass = Pass { started_ns: sys::clock_monotonic(), ..Pass::default() };
        let mut step_began = sys::clock_thread();
        let mut tally = Tally::new(self.settings()?, Vec::new());
        let loads = self.loads()?;
        let mut timed_out = Vec::new();
        let mut next = Some(Place::default());
        while let Some(position) = next {
            // Pauses are long against a step: what was read before one may not be true of entries that are made in it.
            tally.settings = self.settings()?;
            if position.begins_a_table() {
                tally.generations = self.generations()?;
            }
            tally.now = clock::ticks();
            next = self.conns.read(position, |key, value| {
                pass.entries += 1;
                if !tally.take(key, value) {
                    timed_out.push(*key);
                }
            })?;
            for key in timed_out.drain(..) {
                pass.removed += u64::from(self.conns.remove_if(&key, |value| tally.is_dead(value))?);
            }
            let step = sys::clock_thread().saturating_sub(step_began);
            pass.cpu_ns += step;
            if !pause(Duration::from_nanos(step * PAUSE)) {
                return Ok(None);
            }
            step_began = sys::clock_thread();
        }
        tally.finish(&mut pass);
        self.correct_loads(&pass, &loads)?;
        let step = sys::clock_thread().saturating_sub(step_began);
        pass.cpu_ns += step;
        let took = sys::clock_monotonic().saturating_sub(pass.started_ns);
        let left = SHORTEST_PASS_NS.saturating_sub(took).max(step * PAUSE);
        let goes_on = pause(Duration::from_nanos(left));
        pass.ended_ns = sys::clock_monotonic();
        Ok(goes_on.then_some(pass))
    }

    /// The loads of all backends, as the programs keep them.
    fn loads(&self) -> Result<Vec<i64>> {
        let (mut keys, mut loads) = (vec![0u32; MAX_BACKENDS], vec![0u64; MAX_BACKENDS]);
        bpf::lookup_batch(self.loads.fd().as_fd(), Position::default(), &mut keys, &mut loads)
            .context("cannot read the backends' loads")?;
        Ok(loads.into_iter().map(|load| load as i64).collect())
    }

    /// Sets the loads right by what was counted. What the programs changed in the few microseconds between reading and
    /// writing is lost until the next pass.
    fn correct_loads(&self, pass: &Pass, before: &[i64]) -> Result<()> {
        let now = self.loads()?;
        let (mut ids, mut loads) = (Vec::new(), Vec::new());
        for (id, (before, now)) in (0u16..).zip(before.iter().zip(&now)) {
            let counted = pass.open_by_backend.get(&id).copied().unwrap_or(0) as i64;
            let right = corrected(counted, *before, *now);
            if right != *now {
                ids.push(u32::from(id));
                loads.push(right as u64);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        bpf::update_batch(self.loads.fd().as_fd(), &ids, &loads).context("cannot write the backends' loads")
    }

    fn settings(&self) -> Result<Settings> {
        let map: Array<&MapData, Raw<Settings>> = (&self.settings).try_into().context("map SETTINGS")?;
        Ok(map.get(&0, 0).context("cannot read the settings")?.0)
    }

    fn generations(&self) -> Result<Vec<u16>> {
        let mut keys = vec![0u32; MAX_BACKENDS];
        let mut records: Vec<BackendRecord> = vec![BackendRecord::default(); MAX_BACKENDS];
        bpf::lookup_batch(self.backends.fd().as_fd(), Position::default(), &mut keys, &mut records)
            .context("cannot read the backends")?;
        Ok(records.iter().map(|record| record.generation).collect())
    }
}

#[cfg(test)]
mod tests {
    use lb_core::conn::{flag, state};
    use lb_core::table::Address;

    use super::*;

    fn key(vip: u16, port: u16) -> ConnKey {
        ConnKey::new(Address::from_v4([10, 0, 0, 9]), port, vip, 80, 6)
    }

    fn value(backend: u16, state: u8, last_seen: Ticks) -> ConnValue {
        ConnValue { backend, state, last_seen, ..ConnValue::default() }
    }

    #[test]
    fn what_is_live_is_counted_and_what_is_open_counts_for_its_backend() {
        let settings = Settings {
            schema: 1,
            suspect_timeout: 10,
            timeouts: [0, 60, 600, 10, 10, 30, 0, 0],
            ..Settings::default()
        };
        let mut generations = vec![0; MAX_BACKENDS];
        generations[3] = 1;
        let mut tally = Tally::new(settings, generations);
        tally.now = 1000;
        let closing = value(1, state::CLOSING, 995);
        let both = ConnValue { flags: flag::CLIENT_FIN | flag::BACKEND_FIN, ..closing };
        let rows = [
            (key(1, 1), value(1, state::ESTABLISHED, 400), true),
            (key(1, 2), value(1, state::ESTABLISHED, 399), false),
            (key(1, 3), value(2, state::SYN, 999), true),
            (key(2, 4), closing, true),
            (key(2, 5), both, true),
            (key(2, 6), value(1, state::CLOSED, 1000), true),
            // Of an earlier owner of number 3; of a number that does not exist.
            (key(2, 7), value(3, state::UDP, 1000), true),
            (key(2, 8), value(9000, state::UDP, 1000), true),
            (key(2, 9), value(1, 0, 1000), false),
        ];
        for (key, value, live) in rows {
            assert_eq!(tally.take(&key, &value), live, "{key:?} {value:?}");
            assert_eq!(tally.is_dead(&value), !live);
        }
        let mut pass = Pass::default();
        tally.finish(&mut pass);
        assert_eq!(pass.live(), 7);
        assert_eq!(pass.states, [0, 1, 1, 2, 1, 2, 0, 0]);
        assert_eq!(pass.open_by_backend, BTreeMap::from([(1, 2), (2, 1), (3, 0)]));
        assert_eq!(pass.open_by_vip, BTreeMap::from([(1, 2), (2, 1)]));
        assert_eq!((pass.vips.len(), pass.backends.len()), (2, 3));
    }

    #[test]
    fn a_load_is_what_was_counted_and_what_came_since() {
        assert_eq!(corrected(70, 50, 50), 70, "nothing changed meanwhile");
        assert_eq!(corrected(70, 50, 60), 75, "half of what came is not counted yet");
        assert_eq!(corrected(70, 60, 50), 65);
        assert_eq!(corrected(2, 60, 50), 0, "never below nothing");
        assert_eq!(corrected(5, -3, -3), 5, "the programs' own count had drifted");
    }
}
