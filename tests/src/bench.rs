//! The three sides next to each other.

use anyhow::{Result, bail, ensure};

use crate::counters::{Counters, delta};
use crate::model::HostModel;
use crate::oracle::{Oracle, sum};
use crate::program::{Program, SHORTEST_FRAME};
use crate::scenario::Scenario;
use crate::side::{Snapshot, Verdict, hex};

/// Program (with root), host model and oracle in one state.
#[derive(Debug)]
pub struct Bench {
    scenario: Scenario,
    program: Option<Program>,
    model: HostModel,
    oracle: Oracle,
    now: u32,
    random: u32,
}

impl Bench {
    /// All sides in this scenario, without connections and counters; without `program` only the two that need
    /// no root.
    ///
    /// # Errors
    /// The kernel refuses the program's tables.
    pub fn new(scenario: &Scenario, mut program: Option<Program>) -> Result<Self> {
        if let Some(program) = &mut program {
            program.reset()?;
            program.change(scenario)?;
        }
        let mut bench = Self {
            scenario: scenario.clone(),
            program,
            model: HostModel::new(scenario),
            oracle: Oracle::new(scenario),
            now: 0,
            random: 0,
        };
        bench.inputs(1_000_000, 0)?;
        Ok(bench)
    }

    /// The program, for the next bench: loading one takes half a second.
    #[must_use]
    pub fn into_program(self) -> Option<Program> {
        self.program
    }

    /// The scenario as it is now.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The clock as it is now.
    #[must_use]
    pub const fn now(&self) -> u32 {
        self.now
    }

    /// Changes the scenario on all sides.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn change(&mut self, change: impl FnOnce(&mut Scenario)) -> Result<()> {
        change(&mut self.scenario);
        if let Some(program) = &mut self.program {
            program.change(&self.scenario)?;
        }
        self.model.change(&self.scenario);
        self.oracle.change(&self.scenario);
        Ok(())
    }

    /// Sets clock and random number on all sides.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn inputs(&mut self, now: u32, random: u32) -> Result<()> {
        (self.now, self.random) = (now, random);
        if let Some(program) = &mut self.program {
            program.inputs(now, random)?;
        }
        self.model.inputs(now, random);
        self.oracle.inputs(now, random);
        Ok(())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn advance(&mut self, ticks: u32) -> Result<()> {
        self.inputs(self.now.wrapping_add(ticks), self.random)
    }

    /// Processes a frame on all sides and returns the verdict that they agree on.
    ///
    /// # Errors
    /// They disagree, or a checksum that was right is wrong afterwards.
    pub fn run(&mut self, frame: &[u8], ifindex: u32) -> Result<Verdict> {
        let oracle = self.oracle.run(frame, ifindex);
        let model = self.model.run(frame, ifindex);
        ensure!(
            model == oracle,
            "host core and oracle disagree\nframe  {}\ncore   {model:?}\noracle {oracle:?}",
            hex(frame)
        );
        if let Some(program) = &mut self.program {
            ensure!(
                frame.len() >= SHORTEST_FRAME,
                "the kernel takes no test frame of {} bytes; leave the program out of this scenario",
                frame.len()
            );
            let program = program.run(frame, ifindex, oracle.action)?;
            ensure!(
                program == oracle,
                "program and oracle disagree\nframe   {}\nprogram {program:?}\noracle  {oracle:?}",
                hex(frame)
            );
        }
        if sum::valid(frame) == Some(true) && sum::valid(&oracle.bytes) == Some(false) {
            bail!("a checksum is wrong afterwards\nframe {}\n{oracle:?}", hex(frame));
        }
        Ok(oracle)
    }

    /// Counters and connections that all sides agree on.
    ///
    /// # Errors
    /// They disagree, or the ledger does not balance.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let oracle = self.oracle.snapshot();
        same("host core", &self.model.snapshot(), &oracle)?;
        if let Some(program) = &mut self.program {
            same("program", &program.snapshot()?, &oracle)?;
        }
        ensure!(self.model.ledger_difference() == 0, "the ledger does not balance: {:?}", oracle.counters);
        let ended: u64 =
            oracle.counters.iter().filter(|(name, _)| name.starts_with("reason:")).map(|(_, n)| n).sum();
        let received = oracle.counters.get("received").copied().unwrap_or(0);
        ensure!(ended == received, "{received} frames came in, {ended} ended");
        Ok(oracle)
    }
}

fn same(name: &str, side: &Snapshot, oracle: &Snapshot) -> Result<()> {
    if side.counters != oracle.counters {
        let differing = delta(&oracle.counters, &side.counters);
        bail!(
            "counters of {name} differ from the oracle's by {differing:?}\nall of the oracle's: {:?}",
            oracle.counters
        );
    }
    ensure!(side.loads == oracle.loads, "loads of {name} {:?}, the oracle's {:?}", side.loads, oracle.loads);
    if side.connections != oracle.connections {
        let only = |a: &Snapshot, b: &Snapshot| -> Vec<_> {
            a.connections.iter().filter(|c| !b.connections.contains(c)).cloned().collect()
        };
        bail!(
            "connections only of {name}: {:#?}\nonly of the oracle: {:#?}",
            only(side, oracle),
            only(oracle, side)
        );
    }
    Ok(())
}

/// Counters as a sorted list of differences, for reports.
#[must_use]
pub fn moved(before: &Counters, after: &Counters) -> Vec<(String, i128)> {
    delta(before, after).into_iter().collect()
}
