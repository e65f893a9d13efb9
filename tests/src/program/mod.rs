//! The side of the loaded program: the object in the kernel, run by `BPF_PROG_TEST_RUN`.

mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::Xdp;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, TestRun, TestRunOptions};
use lb_core::Stage;
use lb_core::reason::REASON_SLOTS;
use lb_core::table::{AclKey, PrefixKey, SelectTable, ServiceKey, TestInputs};

use crate::pod::Raw;
use crate::scenario::Scenario;
use crate::side::{Action, Verdict};
use crate::sys::delete_slot;

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
pub struct Program {
    ebpf: Ebpf,
    written: Written,
    scenario: Scenario,
    /// The counters of all slots of reasons, as they were last read.
    reasons: Vec<u64>,
    /// The selection tables of VIPs.
    selections: BTreeMap<u16, Array<MapData, Raw<SelectTable>>>,
    /// Processors that this machine may have: as many values has a slot of a map that is for each of them.
    processors: usize,
    /// The only slot that the device map holds now.
    device: Option<u16>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("scenario", &self.scenario).finish_non_exhaustive()
    }
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
            reasons: vec![0; REASON_SLOTS as usize],
            selections: BTreeMap::new(),
            processors: nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?,
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
