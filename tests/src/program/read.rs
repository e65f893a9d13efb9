//! What the program counted and keeps, and forgetting it.

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_core::Reason;
use lb_core::reason::REASON_SLOTS;
use lb_core::table::{
    AffinityValue, AskerValue, ClientKey, ConnKey, ConnValue, FragmentKey, FragmentValue, GlobalCounter,
    RateValue, SnatValue, TrafficCounter,
};

use super::Program;
use crate::pod::Raw;
use crate::side::Snapshot;
use crate::sys::{count_entries, locked_bytes, read_words, write_words};
use crate::tables::{add_traffic, connection};

impl Program {
    /// The reason whose counter moved since the last call.
    pub(super) fn reason_of_last(&mut self) -> Result<&'static str> {
        let now = self.reason_counts()?;
        let moved = (0..).zip(now.iter().zip(&self.reasons)).filter(|(_, (new, old))| new != old);
        let name = |index: u32| Reason::ALL.iter().find(|r| r.index() == index).map_or("none", |r| r.name());
        let moved: Vec<_> = moved.map(|(index, (new, old))| (name(index), new - old)).collect();
        self.reasons = now;
        match moved.as_slice() {
            [(name, 1)] => Ok(name),
            _ => bail!("one frame moved these reasons by so much: {moved:?}"),
        }
    }

    /// The counters of all slots of reasons, read by one call: this happens after every frame.
    fn reason_counts(&mut self) -> Result<Vec<u64>> {
        let processors = self.processors;
        let mut words = vec![0; REASON_SLOTS as usize * processors];
        read_words(self.data("REASONS")?.fd(), REASON_SLOTS, &mut words).context("REASONS")?;
        Ok(words.chunks(processors).map(|counts| counts.iter().sum()).collect())
    }

    /// How many entries a table holds: all are looked at, by one call for each few thousand.
    ///
    /// # Errors
    /// The kernel refuses a read, or it is no table of connections.
    pub fn entries(&mut self, name: &str) -> Result<usize> {
        let Map::LruHashMap(data) = self.map(name)? else { bail!("{name} is no table of connections") };
        count_entries(data.fd(), size_of::<ConnKey>(), size_of::<ConnValue>())
            .with_context(|| name.to_owned())
    }

    /// Slots of a table, and bytes of kernel memory that it takes.
    ///
    /// # Errors
    /// The kernel says nothing about it.
    pub fn memory(&mut self, name: &str) -> Result<(u32, u64)> {
        let Map::LruHashMap(data) = self.map(name)? else { bail!("{name} is no table that evicts") };
        Ok((data.info()?.max_entries(), locked_bytes(data.fd()).with_context(|| name.to_owned())?))
    }

    /// A map of counters, for calls of the kernel.
    fn data(&mut self, name: &str) -> Result<&MapData> {
        match self.map(name)? {
            Map::PerCpuArray(data) => Ok(data),
            _ => bail!("{name} is no array for each processor"),
        }
    }

    /// Counters and connections.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let mut out = Snapshot::default();
        let globals = self.per_cpu::<GlobalCounter>("GLOBALS")?.get(&0, 0)?;
        for (name, value) in [
            ("received", globals.iter().map(|g| g.0.received).sum::<u64>()),
            ("partial_checksums", globals.iter().map(|g| g.0.partial_checksums).sum()),
        ] {
            if value != 0 {
                out.counters.insert(name.to_owned(), value);
            }
        }
        // All slots, those that belong to no reason too.
        for (index, count) in (0..).zip(self.reason_counts()?) {
            if count != 0 {
                let reason = Reason::ALL.iter().find(|r| r.index() == index);
                let name = reason.map_or_else(|| index.to_string(), |r| r.name().to_owned());
                out.counters.insert(format!("reason:{name}"), count);
            }
        }
        let (vips, backends) = self.written.counted.clone();
        for (name, owner, ids) in [("VIP_TRAFFIC", "vip", vips), ("BACKEND_TRAFFIC", "backend", backends)] {
            let map = self.per_cpu::<TrafficCounter>(name)?;
            for id in ids {
                add_traffic(&mut out.counters, owner, id, &sum_traffic(&map.get(&u32::from(id), 0)?));
            }
        }
        for (name, half_open) in [("CONNS", false), ("HALF_OPEN", true)] {
            let connections = self.hash::<ConnKey, ConnValue>(name)?;
            for entry in connections.iter() {
                let (key, value) = entry?;
                out.connections.push(connection(&key.0, &value.0, half_open));
            }
        }
        out.connections.sort();
        let ids = self.written.counted.1.clone();
        let loads = self.array::<u64>("LOADS")?;
        for id in ids {
            let load = loads.get(&u32::from(id), 0)?.0 as i64;
            if load != 0 {
                out.loads.insert(id, load);
            }
        }
        Ok(out)
    }

    /// Forgets connections, counters, tickets and which addresses were ever ours; the tables stay, so a
    /// [`change`](Self::change) has to follow.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn reset(&mut self) -> Result<()> {
        for name in ["CONNS", "HALF_OPEN"] {
            self.clear::<ConnKey, ConnValue>(name)?;
        }
        for name in ["SNATS", "HALF_SNATS"] {
            self.clear::<ConnKey, SnatValue>(name)?;
        }
        self.clear::<ClientKey, AffinityValue>("AFFINITY")?;
        self.clear::<ClientKey, RateValue>("SOURCES")?;
        self.clear::<FragmentKey, FragmentValue>("FRAGMENTS")?;
        self.clear::<ClientKey, AskerValue>("ASKERS")?;
        zero::<RateValue>(&mut self.per_cpu("OPENED")?, 0)?;
        let (vips, backends) = std::mem::take(&mut self.written.counted);
        for id in vips {
            self.ticket(id, 0)?;
            zero::<TrafficCounter>(&mut self.per_cpu("VIP_TRAFFIC")?, u32::from(id))?;
        }
        for id in backends {
            zero::<TrafficCounter>(&mut self.per_cpu("BACKEND_TRAFFIC")?, u32::from(id))?;
            self.array("LOADS")?.set(u32::from(id), Raw(0u64), 0)?;
        }
        self.written.loads.clear();
        zero::<GlobalCounter>(&mut self.per_cpu("GLOBALS")?, 0)?;
        let zeros = vec![0; REASON_SLOTS as usize * self.processors];
        write_words(self.data("REASONS")?.fd(), REASON_SLOTS, &zeros).context("REASONS")?;
        self.reasons.fill(0);
        for word in std::mem::take(&mut self.written.bitmap).into_keys() {
            self.array("BITMAP")?.set(word, Raw(0u64), 0)?;
        }
        Ok(())
    }

    fn clear<K: Copy + 'static, V: Copy + 'static>(&mut self, name: &str) -> Result<()> {
        let mut map = self.hash::<K, V>(name)?;
        let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
        for key in keys {
            map.remove(&key)?;
        }
        Ok(())
    }
}

fn zero<V: Copy + Default + 'static>(map: &mut PerCpuArray<&mut MapData, Raw<V>>, index: u32) -> Result<()> {
    let cpus = nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
    let zeros: Vec<Raw<V>> = (0..cpus).map(|_| Raw(V::default())).collect();
    Ok(map.set(index, PerCpuValues::try_from(zeros)?, 0)?)
}

fn sum_traffic(values: &PerCpuValues<Raw<TrafficCounter>>) -> TrafficCounter {
    values.iter().fold(TrafficCounter::default(), |mut sum, Raw(c)| {
        sum.packets_in += c.packets_in;
        sum.bytes_in += c.bytes_in;
        sum.packets_out += c.packets_out;
        sum.bytes_out += c.bytes_out;
        sum.opened += c.opened;
        sum.dropped += c.dropped;
        sum.last_alive = sum.last_alive.max(c.last_alive);
        sum
    })
}
