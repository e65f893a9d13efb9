//! The programs apart from every interface and every pin: packets are handed to them one by one
//! (`BPF_PROG_TEST_RUN`), at a time and with random numbers that the caller chooses.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use aya::{EbpfLoader, Pod, TestRun, TestRunOptions};
use lb_core::host::config::ConnectionsConfig;
use lb_core::reason::REASON_SLOTS;
use lb_core::table::{SelectTable, TestInputs};

use super::pod::Raw;
use super::{DataPlane, Pins, Role, program, sizes, stages, upgrade};
use crate::io::bpf;

/// Room for what the program puts in front of or behind a packet.
const GROWS_BYTES: usize = 256;
/// A folder that does not exist: nothing is pinned.
const NOWHERE: &str = "/nonexistent";

/// What the program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It ends.
    Drop,
    /// It goes on to the switch.
    Pass,
    /// It goes back by the port that it came in by.
    Transmit,
    /// It goes out by another port.
    Redirect,
}

impl DataPlane {
    /// Loads the object with maps that nobody else sees. Nothing is pinned, and all is gone with this value.
    ///
    /// # Errors
    /// The object is not of this version, or the kernel refuses it.
    pub fn load_apart(object: &[u8], connections: &ConnectionsConfig) -> Result<Self> {
        let pins = Pins::new(Path::new(NOWHERE));
        upgrade::check(object, &pins)?;
        let mut loader = EbpfLoader::new();
        loader.override_global("FIXED_INPUTS", &1u32, true);
        for (name, _, entries) in sizes(connections) {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf = loader.load(object).context("the kernel refuses the XDP object's maps")?;
        let balancer = program(&mut ebpf, Role::Balance)?;
        balancer.load().context("the kernel refuses the program lb_balance")?;
        stages::fill(&mut ebpf)?;
        Ok(Self { ebpf, pins, adopted: false, _lock: None })
    }

    fn slots<V: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("the XDP object has no map {name}"))?;
        Array::try_from(map).with_context(|| format!("map {name}"))
    }

    /// Sets the clock and the random number, which only a program that was loaded apart looks at.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_inputs(&mut self, inputs: TestInputs) -> Result<()> {
        self.slots("TEST_INPUTS")?.set(0, Raw(inputs), 0).context("cannot set the clock")
    }

    /// Sets the next round-robin ticket of a VIP.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_ticket(&mut self, vip: u16, ticket: u32) -> Result<()> {
        self.slots("TICKETS")?.set(u32::from(vip), u64::from(ticket), 0).context("cannot set a ticket")
    }

    /// Sets how many live connections a backend has.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_load(&mut self, backend: u16, load: i64) -> Result<()> {
        self.slots("LOADS")?.set(u32::from(backend), load.cast_unsigned(), 0).context("cannot set a load")
    }

    /// The selection table of a VIP.
    ///
    /// # Errors
    /// The VIP never had one, or the kernel's.
    pub fn read_selection(&self, vip: u16) -> Result<Box<SelectTable>> {
        let map = self.ebpf.map("SELECTION").context("the XDP object has no map SELECTION")?;
        let outer: ArrayOfMaps<&MapData, Array<MapData, Raw<SelectTable>>> =
            map.try_into().context("map SELECTION")?;
        let inner =
            outer.get(&u32::from(vip), 0).with_context(|| format!("VIP {vip} has no selection table"))?;
        Ok(Box::new(inner.get(&0, 0).context("cannot read a selection table")?.0))
    }

    /// How often packets ended for each reason, by the reason's index, read by one call.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reason_counts(&self, processors: usize) -> Result<Vec<u64>> {
        let Some(Map::PerCpuArray(data)) = self.ebpf.map("REASONS") else {
            bail!("the XDP object has no map REASONS for each processor");
        };
        bpf::sum_words(data.fd().as_fd(), REASON_SLOTS, processors).context("cannot read the map REASONS")
    }

    /// Hands a packet to the balancer, as if it came in by an interface without a slot; what it did, and the bytes after
    /// it.
    ///
    /// # Errors
    /// The kernel refuses the run: the packet has fewer than 14 bytes, or more than the kernel takes here.
    pub fn test_run(&mut self, frame: &[u8]) -> Result<(Action, Vec<u8>)> {
        let mut out = vec![0; frame.len() + GROWS_BYTES];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let program = program(&mut self.ebpf, Role::Balance)?;
        let result = program.test_run(options).context("the kernel does not run the program on a packet")?;
        let length = result.data_size_out as usize;
        out.truncate(length);
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Transmit,
            4 => Action::Redirect,
            other => bail!("the program returned {other}, which is no verdict of XDP"),
        };
        Ok((action, out))
    }
}
