//! The XDP side: the loaded program with tables of its own, one packet at a time.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use aya::util::nr_cpus;
use lb_core::host::config::ConnectionsConfig;
use lb_core::host::ids::Ids;
use lb_core::host::plan::{HealthView, Plan};
use lb_core::host::records;
use lb_core::host::replay::{Inputs, Sources, plan_text};
use lb_core::reason::Reason;
use lb_core::table::TestInputs;

use crate::daemon::tables::{self, Around};
use crate::dataplane::{Action, DataPlane};

/// What the program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where it goes.
    pub action: Action,
    /// How it ended.
    pub reason: Reason,
    /// Its bytes afterwards.
    pub bytes: Vec<u8>,
}

/// Who may be chosen for a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Ids in turn, as often as their weights say.
    pub ring: Vec<u16>,
    /// Ids and weights.
    pub members: Vec<(u16, u16)>,
}

/// The program and its tables.
pub struct Xdp {
    dataplane: DataPlane,
    ids: Ids,
    plan: Plan,
    /// Packets by the index of their reason, as they were last read.
    counts: Vec<u64>,
    /// Processors that this machine may have.
    processors: usize,
}

impl Xdp {
    /// Loads the object; the tables are empty.
    ///
    /// # Errors
    /// The kernel refuses it, or this is not root.
    pub fn load(object: &[u8], connections: &ConnectionsConfig) -> Result<Self> {
        let dataplane = DataPlane::load_apart(object, connections)?;
        let processors = nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
        let (ids, plan) = (Ids::default(), Plan::default());
        Ok(Self { dataplane, ids, plan, counts: Vec::new(), processors })
    }

    /// Who serves what, and who is in rotation.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who may be chosen for a VIP and with which weights, as the program's tables say: the ring, the members, and the
    /// members' weights.
    ///
    /// # Errors
    /// The kernel's.
    pub fn candidates(&self, vip: u16) -> Result<Candidates> {
        let table = self.dataplane.read_selection(vip)?;
        let members = table.members.iter().take(table.member_count as usize);
        let weight = |id: &u16| Ok((*id, self.dataplane.read_backend(*id)?.weight));
        Ok(Candidates {
            ring: table.ring.iter().take(table.ring_len as usize).copied().collect(),
            members: members.map(weight).collect::<Result<_>>()?,
        })
    }

    /// Brings the tables to what the other side's are made of.
    ///
    /// # Errors
    /// The plan that follows is not the other side's, or the kernel refuses a write.
    pub fn follow(&mut self, sources: &Sources) -> Result<()> {
        let view: HealthView = sources.health.iter().copied().collect();
        let plan = Plan::from_config(&sources.config, &mut self.ids, &view, Some(&self.plan))
            .context("more is configured than there are ids for")?;
        if plan_text(&plan) != sources.plan {
            bail!(
                "both sides made different tables of one configuration: are lb and ofshim of the same version?"
            );
        }
        let connections = &sources.config.connections;
        let around = Around { onearm: false, ports: &BTreeMap::new(), connections, handing: 0 };
        tables::apply(&mut self.dataplane, around, &self.plan, &plan)?;
        // Packets are run on one processor or another: limits are those of one.
        self.dataplane.write_settings(&records::settings(connections, 1, &plan))?;
        self.plan = plan;
        Ok(())
    }

    /// Hands a packet to the program.
    ///
    /// # Errors
    /// The kernel's, or a packet that was not counted once.
    pub fn frame(&mut self, inputs: &Inputs, frame: &[u8]) -> Result<Verdict> {
        for (vip, ticket) in &inputs.tickets {
            self.dataplane.set_ticket(*vip, *ticket)?;
        }
        for (backend, load) in &inputs.loads {
            self.dataplane.set_load(*backend, *load)?;
        }
        self.dataplane.set_inputs(TestInputs { now: inputs.now, random: inputs.random })?;
        let (action, bytes) = self.dataplane.test_run(frame)?;
        let counts = self.dataplane.reason_counts(self.processors)?;
        let count =
            |counts: &[u64], reason: Reason| counts.get(reason.index() as usize).copied().unwrap_or(0);
        let moved: Vec<Reason> = Reason::ALL
            .iter()
            .copied()
            .filter(|reason| count(&counts, *reason) != count(&self.counts, *reason))
            .collect();
        self.counts = counts;
        let [reason] = moved.as_slice() else {
            bail!("one packet was counted for {} reasons: {moved:?}", moved.len());
        };
        Ok(Verdict { action, reason: *reason, bytes })
    }
}
