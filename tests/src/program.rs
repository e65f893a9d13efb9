//! The side of the loaded program: the object in the kernel, run by `BPF_PROG_TEST_RUN`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::lpm_trie::{Key as PrefixOf, LpmTrie};
use aya::maps::of_maps::ArrayOfMaps;
use aya::maps::xdp::DevMap;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues, ProgramArray};
use aya::programs::Xdp;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, TestRun, TestRunOptions};
use lb_core::host::slots;
use lb_core::reason::REASON_SLOTS;
use lb_core::table::{
    AclKey, AffinityValue, AskerValue, BackendRecord, BackendSlot, ClientKey, ConnKey, ConnValue,
    FragmentKey, FragmentValue, GlobalCounter, PortRecord, PrefixKey, RateValue, SelectTable, ServiceKey,
    ServiceRecord, Settings, SnatValue, TestInputs, TrafficCounter, VipRecord, VipSlot, VipTarget,
};
use lb_core::{Reason, Stage};

use crate::pod::Raw;
use crate::scenario::Scenario;
use crate::side::{Action, Snapshot, Verdict};
use crate::sys::delete_slot;
use crate::tables::{Records, add_traffic, connection, select_table};

/// Name of the balancer.
pub const BALANCER: &str = "lb_balance";
/// Name of the program that does nothing.
pub const PASS: &str = "lb_pass";
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
/// Shorter input is refused by the kernel.
pub const SHORTEST_FRAME: usize = 14;

/// Where the object is: `LB_EBPF_OBJECT`, else what `cargo xtask build-ebpf --release` writes.
#[must_use]
pub fn object_path() -> PathBuf {
    std::env::var_os("LB_EBPF_OBJECT").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf/lb.bpf.o")),
        PathBuf::from,
    )
}

/// The balancer in the kernel, with maps of its own.
#[derive(Debug)]
pub struct Program {
    ebpf: Ebpf,
    written: Written,
    scenario: Scenario,
    reasons: Vec<u64>,
    /// The only slot that the device map holds now.
    device: Option<u16>,
}

/// Keys that a change of scenario has to delete.
#[derive(Debug, Default)]
struct Written {
    vip_ids: Vec<ServiceKey>,
    services: Vec<ServiceKey>,
    vip_slots: BTreeSet<u32>,
    backend_slots: BTreeSet<u32>,
    vips: Vec<u16>,
    backends: Vec<u16>,
    rings: BTreeMap<u16, Vec<u16>>,
    prefixes: Vec<PrefixKey>,
    acl: Vec<AclKey>,
    loads: BTreeMap<u16, u32>,
    ports: Vec<(u16, u32)>,
    bitmap: BTreeMap<u32, u64>,
    /// VIPs and backends that may have been counted. Id 0 stands for nobody, and must stay at zero.
    counted: (BTreeSet<u16>, BTreeSet<u16>),
}

impl Program {
    /// Loads the object and fills its tables. Interfaces are those of the calling thread's network namespace.
    ///
    /// # Errors
    /// The object is missing (the message names the command that builds it), or the kernel refuses it.
    pub fn load(scenario: &Scenario) -> Result<Self> {
        Self::load_object(&object_path(), scenario)
    }

    /// Loads another object.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_object(path: &Path, scenario: &Scenario) -> Result<Self> {
        // A reset walks through all of a table: as small as may be.
        let entries = scenario.connections.next_power_of_two().max(1 << 10);
        let sizes = ["CONNS", "HALF_OPEN", "SNATS", "HALF_SNATS", "AFFINITY", "SOURCES", "FRAGMENTS"];
        Self::load_sized(path, scenario, &sizes.map(|name| (name, entries)))
    }

    /// The same with tables of these sizes, by their names; the others are as the object has them.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_sized(path: &Path, scenario: &Scenario, sizes: &[(&str, u32)]) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| {
            format!("no XDP object at {}: build it with `cargo xtask build-ebpf --release`", path.display())
        })?;
        let mut loader = EbpfLoader::new();
        loader.override_global("FIXED_INPUTS", &1u32, true);
        for (name, entries) in sizes {
            loader.map_max_entries(name, *entries);
        }
        let mut ebpf = loader.load(&bytes).with_context(|| format!("loading {}", path.display()))?;
        for name in [BALANCER, PASS] {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("the verifier refused {name}"))?;
        }
        let mut programs = Vec::new();
        for stage in Stage::ALL {
            let program = xdp(&mut ebpf, stage.program())?;
            program.load().with_context(|| format!("the verifier refused {}", stage.program()))?;
            programs.push((stage as u32, program.fd()?.try_clone()?));
        }
        let mut stages = ProgramArray::try_from(ebpf.map_mut("STAGES").context("no map STAGES")?)?;
        for (index, program) in &programs {
            stages.set(*index, program, 0)?;
        }
        let mut program = Self {
            ebpf,
            written: Written::default(),
            scenario: scenario.clone(),
            reasons: vec![0; Reason::ALL.len()],
            device: None,
        };
        program.change(scenario)?;
        Ok(program)
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).ok_or_else(|| anyhow!("the object has no map {name}"))
    }

    fn array<V: Copy + 'static>(&mut self, name: &str) -> Result<Array<&mut MapData, Raw<V>>> {
        Ok(Array::try_from(self.map(name)?)?)
    }

    fn hash<K: Copy + 'static, V: Copy + 'static>(
        &mut self,
        name: &str,
    ) -> Result<HashMap<&mut MapData, Raw<K>, Raw<V>>> {
        Ok(HashMap::try_from(self.map(name)?)?)
    }

    fn per_cpu<V: Copy + 'static>(&mut self, name: &str) -> Result<PerCpuArray<&mut MapData, Raw<V>>> {
        Ok(PerCpuArray::try_from(self.map(name)?)?)
    }

    /// Makes the tables those of another scenario; connections and counters stay.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn change(&mut self, scenario: &Scenario) -> Result<()> {
        let records = Records::of(scenario);
        self.array::<Settings>("SETTINGS")?.set(0, Raw(records.settings), 0)?;
        self.write_bitmap(&records)?;
        self.write_hashes(&records)?;

        let mut vips = self.array::<VipRecord>("VIPS")?;
        for (id, record) in &records.vips {
            vips.set(u32::from(*id), Raw(*record), 0)?;
        }
        for id in std::mem::take(&mut self.written.vips) {
            if !records.vips.contains_key(&id) {
                self.array("VIPS")?.set(u32::from(id), Raw(VipRecord::default()), 0)?;
            }
        }
        let mut backends = self.array::<BackendRecord>("BACKENDS")?;
        for (id, record) in &records.backends {
            backends.set(u32::from(*id), Raw(*record), 0)?;
        }
        for id in std::mem::take(&mut self.written.backends) {
            if !records.backends.contains_key(&id) {
                self.array("BACKENDS")?.set(u32::from(id), Raw(BackendRecord::default()), 0)?;
            }
        }
        for (vip, ring) in &records.rings {
            // A swap waits for all running programs: only where there is something new.
            if self.written.rings.get(vip) == Some(ring) {
                continue;
            }
            self.written.rings.insert(*vip, ring.clone());
            let mut inner = Array::<MapData, Raw<SelectTable>>::create(1, 0)?;
            inner.set(0, Raw(*select_table(ring)), 0)?;
            let mut outer: ArrayOfMaps<_, Array<MapData, Raw<SelectTable>>> =
                ArrayOfMaps::try_from(self.map("SELECTION")?)?;
            outer.set(u32::from(*vip), &inner, 0)?;
        }
        self.write_ports(&records)?;
        self.write_lists(&records)?;
        self.written.vips = records.vips.keys().copied().collect();
        self.written.backends = records.backends.keys().copied().collect();
        self.written.counted.0.extend(records.vips.keys().chain([&0]));
        self.written.counted.1.extend(records.backends.keys().chain([&0]));
        self.scenario = scenario.clone();
        Ok(())
    }

    /// Bits are only ever added, as by the daemon between two rebuilds.
    fn write_bitmap(&mut self, records: &Records) -> Result<()> {
        for (word, bits) in &records.bitmap {
            let all = self.written.bitmap.entry(*word).or_default();
            *all |= bits;
            let all = *all;
            self.array::<u64>("BITMAP")?.set(*word, Raw(all), 0)?;
        }
        Ok(())
    }

    fn write_hashes(&mut self, records: &Records) -> Result<()> {
        for key in std::mem::take(&mut self.written.vip_ids) {
            self.hash::<_, VipTarget>("VIP_IDS")?.remove(&Raw(key))?;
        }
        for key in std::mem::take(&mut self.written.services) {
            self.hash::<_, ServiceRecord>("SERVICES_OF")?.remove(&Raw(key))?;
        }
        for (key, target) in &records.vip_ids {
            self.hash("VIP_IDS")?.insert(Raw(*key), Raw(*target), 0)?;
            self.written.vip_ids.push(*key);
        }
        for (key, record) in &records.services {
            self.hash("SERVICES_OF")?.insert(Raw(*key), Raw(*record), 0)?;
            self.written.services.push(*key);
        }
        let vips: BTreeMap<u32, VipSlot> = slots::build(&records.vip_ids);
        let backends: BTreeMap<u32, BackendSlot> = slots::build(&records.services);
        let mut map = self.array("VIP_SLOTS")?;
        for (index, slot) in &vips {
            map.set(*index, Raw(*slot), 0)?;
        }
        let mut map = self.array("BACKEND_SLOTS")?;
        for (index, slot) in &backends {
            map.set(*index, Raw(*slot), 0)?;
        }
        let (vips, backends): (BTreeSet<u32>, BTreeSet<u32>) =
            (vips.into_keys().collect(), backends.into_keys().collect());
        for index in self.written.vip_slots.difference(&vips).copied().collect::<Vec<_>>() {
            self.array("VIP_SLOTS")?.set(index, Raw(VipSlot::default()), 0)?;
        }
        for index in self.written.backend_slots.difference(&backends).copied().collect::<Vec<_>>() {
            self.array("BACKEND_SLOTS")?.set(index, Raw(BackendSlot::default()), 0)?;
        }
        (self.written.vip_slots, self.written.backend_slots) = (vips, backends);
        Ok(())
    }

    fn write_lists(&mut self, records: &Records) -> Result<()> {
        for (number, list) in &records.port_lists {
            self.array("PORT_LISTS")?.set(u32::from(*number), Raw(*list), 0)?;
        }
        let of_prefix = |key: &PrefixKey| PrefixOf::new(key.length, key.address);
        let of_acl = |key: &AclKey| {
            let mut data = [0; 20];
            data[..4].copy_from_slice(&key.vip.to_ne_bytes());
            data[4..].copy_from_slice(&key.address.octets());
            PrefixOf::new(key.length, data)
        };
        for key in std::mem::take(&mut self.written.prefixes) {
            self.trie::<16>("PREFIXES")?.remove(&of_prefix(&key))?;
        }
        for key in std::mem::take(&mut self.written.acl) {
            self.trie::<20>("ACL")?.remove(&of_acl(&key))?;
        }
        for (key, list) in &records.prefixes {
            self.trie::<16>("PREFIXES")?.insert(&of_prefix(key), u32::from(*list), 0)?;
            self.written.prefixes.push(*key);
        }
        for (key, verdict) in &records.acl {
            self.trie::<20>("ACL")?.insert(&of_acl(key), verdict, 0)?;
            self.written.acl.push(*key);
        }
        // A count replaces what the program kept since the last one.
        for (id, load) in &records.loads {
            if self.written.loads.get(id) != Some(load) {
                self.array("LOADS")?.set(u32::from(*id), Raw(u64::from(*load)), 0)?;
            }
        }
        self.written.loads.clone_from(&records.loads);
        Ok(())
    }

    fn trie<const N: usize>(&mut self, name: &str) -> Result<LpmTrie<&mut MapData, [u8; N], u32>>
    where
        [u8; N]: aya::Pod,
    {
        Ok(LpmTrie::try_from(self.map(name)?)?)
    }

    fn write_ports(&mut self, records: &Records) -> Result<()> {
        for (slot, ifindex) in std::mem::take(&mut self.written.ports) {
            self.array("PORTS")?.set(u32::from(slot), Raw(PortRecord::default()), 0)?;
            self.hash::<u32, u32>("PORT_SLOTS")?.remove(&Raw(ifindex))?;
        }
        for (slot, record) in &records.ports {
            self.array("PORTS")?.set(u32::from(*slot), Raw(*record), 0)?;
            self.hash("PORT_SLOTS")?.insert(Raw(record.ifindex), Raw(u32::from(*slot)), 0)?;
            self.written.ports.push((*slot, record.ifindex));
        }
        Ok(())
    }

    /// Sets the clock and the random number.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn inputs(&mut self, now: u32, random: u32) -> Result<()> {
        Ok(self.array("TEST_INPUTS")?.set(0, Raw(TestInputs { now, random }), 0)?)
    }

    /// Sets the round-robin ticket of a VIP.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn ticket(&mut self, vip: u16, ticket: u64) -> Result<()> {
        Ok(self.array("TICKETS")?.set(u32::from(vip), Raw(ticket), 0)?)
    }

    /// Processes a frame.
    ///
    /// The kernel does not say where a frame is redirected to. So the device map holds the `expected` port and
    /// no other: a redirect to another one falls back to pass, which is not what was expected.
    ///
    /// # Errors
    /// The kernel refuses the run, or not exactly one reason was counted.
    pub fn run(&mut self, frame: &[u8], ifindex: u32, expected: Action) -> Result<Verdict> {
        if let Action::Redirect(slot) = expected {
            self.only_device(slot)?;
        }
        let (action, bytes) = self.send(frame, ifindex)?;
        Ok(Verdict { action, reason: self.reason_of_last()?, bytes })
    }

    /// Processes a frame, and leaves the counters unread: what [`run`](Self::run) says afterwards is of all frames since
    /// its last call.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn send(&mut self, frame: &[u8], ifindex: u32) -> Result<(Action, Vec<u8>)> {
        let mut out = vec![0; frame.len() + 256];
        let (action, length) = self.raw_run(frame, ifindex, &mut out)?;
        out.truncate(length);
        let action = match action {
            XDP_DROP => Action::Drop,
            XDP_PASS => Action::Pass,
            XDP_TX => Action::Transmit,
            XDP_REDIRECT => Action::Redirect(self.device.unwrap_or(0)),
            other => bail!("lb_balance returned {other}"),
        };
        Ok((action, out))
    }

    /// Runs the program once; the XDP action, and how many bytes of `out` are the frame.
    fn raw_run(&mut self, frame: &[u8], ifindex: u32, out: &mut [u8]) -> Result<(u32, usize)> {
        let context = context(frame.len(), ifindex);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = xdp(&mut self.ebpf, BALANCER)?.test_run(options).context("BPF_PROG_TEST_RUN")?;
        Ok((result.return_value, result.data_size_out as usize))
    }

    fn only_device(&mut self, slot: u16) -> Result<()> {
        if self.device == Some(slot) {
            return Ok(());
        }
        let ifindex = self.scenario.ports.iter().find(|p| p.slot == slot).map_or(0, |p| p.ifindex);
        let old = self.device.take();
        let map = self.map("DEVICES")?;
        if let (Some(old), Map::DevMap(data)) = (old, &*map) {
            delete_slot(data.fd(), u32::from(old)).context("DEVICES")?;
        }
        DevMap::try_from(map)?.set(u32::from(slot), ifindex, None, 0)?;
        self.device = Some(slot);
        Ok(())
    }

    /// The reason whose counter moved since the last call.
    fn reason_of_last(&mut self) -> Result<&'static str> {
        let now = self.reason_counts()?;
        let moved =
            Reason::ALL.iter().zip(now.iter().zip(&self.reasons)).filter(|(_, (new, old))| new != old);
        let moved: Vec<_> = moved.map(|(reason, (new, old))| (reason.name(), new - old)).collect();
        self.reasons = now;
        match moved.as_slice() {
            [(name, 1)] => Ok(name),
            _ => bail!("one frame moved these reasons by so much: {moved:?}"),
        }
    }

    /// The counters of all reasons, in their order.
    fn reason_counts(&mut self) -> Result<Vec<u64>> {
        let map = self.per_cpu::<u64>("REASONS")?;
        Reason::ALL.iter().map(|r| Ok(map.get(&r.index(), 0)?.iter().map(|v| v.0).sum())).collect()
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
        let map = self.per_cpu::<u64>("REASONS")?;
        for index in 0..REASON_SLOTS {
            let count: u64 = map.get(&index, 0)?.iter().map(|v| v.0).sum();
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
        for index in 0..REASON_SLOTS {
            zero::<u64>(&mut self.per_cpu("REASONS")?, index)?;
        }
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

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// `struct xdp_md` of the kernel: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(length: usize, ifindex: u32) -> [u8; 24] {
    let mut out = [0; 24];
    out[4..8].copy_from_slice(&(length as u32).to_ne_bytes());
    out[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    out
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
