//! The measuring programs in the kernel, and the clock.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, HashMap, ProgramArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, TestRun, TestRunOptions};
use lb_user::io::sys;
use testbed::frame::Ip;
use testbed::pod::Raw;

use crate::frames::client;
use crate::layout::{FRAME_BYTES, TARGET, Template};

/// Index of the loopback interface, in every namespace.
const LOOPBACK: u32 = 1;
const WRAPPER: &str = "bench_wrapper";
/// Verdict of a wrapper that could not do its work.
const XDP_ABORTED: u32 = 0;

/// What the wrapper calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Empty,
    /// Nothing but a larger frame.
    Grow,
    /// A look-up in a hash table.
    Hash,
    /// A look-up in an LRU hash table.
    Lru,
    /// Look-ups in two LRU hash tables that find nothing, and an insertion.
    New,
    /// A redirect.
    Redirect,
    /// Counters of a forwarded packet.
    Counters,
    /// The balancer.
    Balancer,
}

impl Target {
    const OF_THE_OBJECT: [(Self, &'static str); 7] = [
        (Self::Empty, "bench_empty"),
        (Self::Grow, "bench_grow"),
        (Self::Hash, "bench_hash"),
        (Self::Lru, "bench_lru"),
        (Self::New, "bench_new"),
        (Self::Redirect, "bench_redirect"),
        (Self::Counters, "bench_counters"),
    ];
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The XDP action.
    pub action: u32,
    /// The frame's bytes afterwards.
    pub bytes: Vec<u8>,
}

/// The loaded programs.
pub struct Harness {
    ebpf: Ebpf,
    balancer: Xdp,
    target: Option<Target>,
}

impl Harness {
    /// Loads the object of the measuring programs.
    pub fn load(object: &Path, balancer: Xdp) -> Result<Self> {
        let bytes = std::fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let mut ebpf =
            EbpfLoader::new().load(&bytes).with_context(|| format!("cannot load {}", object.display()))?;
        for name in Target::OF_THE_OBJECT.iter().map(|(_, name)| *name).chain([WRAPPER]) {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        let devices = ebpf.map_mut("FLOOR_DEVICES").context("no map FLOOR_DEVICES")?;
        let mut devices = DevMap::try_from(devices)?;
        devices.set(1, LOOPBACK, None, 0).context("loopback is no redirect target")?;
        Ok(Self { ebpf, balancer, target: None })
    }

    /// Fills the tables of the floors with so many flows of a network of clients.
    pub fn fill_floors(&mut self, network: u8, port: u16, flows: u32) -> Result<()> {
        for name in ["FLOOR_HASH", "FLOOR_LRU"] {
            let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
            let mut map: HashMap<_, Raw<[u64; 3]>, Raw<[u64; 3]>> = HashMap::try_from(map)?;
            for flow in 0..flows {
                let (_, address, source) = client(network, false, flow);
                let Ip::V4(address) = address else { continue };
                let address = u64::from(u32::from_ne_bytes(address.octets()));
                let ports = u64::from(source.to_be()) | u64::from(port.to_be()) << 16;
                map.insert(Raw([0, 0xffff_0000 | address << 32, ports]), Raw([1, 0, 0]), 0)?;
            }
        }
        Ok(())
    }

    /// Says which program the wrapper calls.
    pub fn aim(&mut self, target: Target) -> Result<()> {
        if self.target == Some(target) {
            return Ok(());
        }
        let of_the_object = Target::OF_THE_OBJECT.iter().find(|(t, _)| *t == target);
        let fd = match of_the_object {
            Some((_, name)) => xdp(&mut self.ebpf, name)?.fd()?.try_clone()?,
            None => self.balancer.fd()?.try_clone()?,
        };
        let map = self.ebpf.map_mut("TARGETS").context("no map TARGETS")?;
        ProgramArray::try_from(map)?.set(TARGET, &fd, 0).context("the wrapper cannot call it")?;
        self.target = Some(target);
        Ok(())
    }

    /// Lays a template down.
    pub fn lay(&mut self, template: &Template) -> Result<()> {
        let map = self.ebpf.map_mut("TEMPLATE").context("no map TEMPLATE")?;
        Ok(Array::<_, Raw<Template>>::try_from(map)?.set(0, Raw(*template), 0)?)
    }

    /// The flow whose turn it is.
    pub fn flow(&self) -> Result<u32> {
        let map = self.ebpf.map("TEMPLATE").context("no map TEMPLATE")?;
        Ok(Array::<_, Raw<Template>>::try_from(map)?.get(&0, 0)?.0.flow)
    }

    /// Runs the wrapper so many times; the last frame.
    pub fn run(&mut self, ifindex: u32, repeat: u32) -> Result<Ran> {
        let ran = run(xdp(&mut self.ebpf, WRAPPER)?, &[0; FRAME_BYTES], ifindex, repeat)?;
        ensure!(ran.action != XDP_ABORTED, "the wrapper could not call {:?}", self.target);
        Ok(ran)
    }

    /// Runs the balancer on a frame, without the wrapper.
    pub fn balance(&self, frame: &[u8], ifindex: u32) -> Result<Ran> {
        run(&self.balancer, frame, ifindex, 1)
    }

    /// Nanoseconds of processor time that a run of the wrapper takes.
    pub fn time(&mut self, ifindex: u32, repeat: u32) -> Result<f64> {
        let begin = sys::clock_thread();
        self.run(ifindex, repeat)?;
        Ok((sys::clock_thread() - begin) as f64 / f64::from(repeat))
    }

    /// The same of the program that does nothing, without the wrapper: of the kernel's loop.
    pub fn time_loop(&mut self, ifindex: u32, repeat: u32) -> Result<f64> {
        let begin = sys::clock_thread();
        run(xdp(&mut self.ebpf, "bench_empty")?, &[0; FRAME_BYTES], ifindex, repeat)?;
        Ok((sys::clock_thread() - begin) as f64 / f64::from(repeat))
    }
}

fn run(program: &Xdp, frame: &[u8], ifindex: u32, repeat: u32) -> Result<Ran> {
    let mut context = [0; 24];
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    let mut bytes = vec![0; frame.len() + 256];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut bytes),
        ctx_in: Some(&context),
        repeat,
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
    bytes.truncate(result.data_size_out as usize);
    Ok(Ran { action: result.return_value, bytes })
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}
