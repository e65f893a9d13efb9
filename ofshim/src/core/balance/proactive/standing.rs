//! What each switch has of the standing entries, and what it is sent when that changes.
//!
//! ```text
//!  ready --1.3, group asked for--> Asked --lists its groups--> Tracked
//!    |                               `--knows no ct_flush, or no groups--> Learned (proactive), Refused (group)
//!    |--1.0, or learn asked for, and Nicira's extensions--> Learned
//!    `--otherwise--> Refused
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::host::health::State;
use lb_core::host::plan::{BackendPlan, Plan};
use openflow::{
    CtFlush, CtTuple, DatapathId, GroupId, Message, MultipartRequest, NiciraMsg, RequestBody, Version,
};

use super::changes::{changes, delete};
use super::entry::Desired;
use super::found::{FoundStanding, is_ours};
use super::{Fate, Form, Limits, Scene, desired, fate, mark, translates, zone};
use crate::core::balance::EntriesKind;
use crate::core::cookie::Sequence;
use crate::core::event::Level;

/// How long a switch may take to carry a change of entries into its caches.
const SETTLED: Duration = Duration::from_secs(1);
/// How long entries of an earlier life stay as they are at most: until their backends are known again.
const FOUND_STAYS: Duration = Duration::from_secs(15);
/// IP protocol number of UDP.
const UDP: u8 = 17;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send a message.
    Send(DatapathId, Message),
    /// Write a line.
    Log(Level, String),
}

/// The standing entries of all switches.
#[derive(Debug)]
pub struct Standing {
    kind: EntriesKind,
    limits: Limits,
    switches: BTreeMap<DatapathId, Own>,
    /// Backends that are not configured any more, by mark, and the switches that still have entries of them.
    gone: BTreeMap<u32, BackendPlan>,
    /// What was planned last.
    plan: Plan,
    /// What is sent once more, and when.
    again: Vec<(Duration, DatapathId, Message)>,
}

/// One switch.
#[derive(Debug)]
struct Own {
    version: Version,
    nicira: bool,
    stage: Stage,
    has: Desired,
    /// Entries of an earlier life, until they have been replaced.
    found: FoundStanding,
    /// Until when what was found stays as it is: its backends have not been asked yet.
    waits: Option<Duration>,
    /// Entries of backends that are not configured any more, which nobody used.
    expired: BTreeSet<Sequence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is asked for its groups.
    Asked,
    Serving(Form),
    Refused,
}

impl Standing {
    /// Nothing on no switch.
    #[must_use]
    pub fn new(kind: EntriesKind, limits: Limits) -> Self {
        Self {
            kind,
            limits,
            switches: BTreeMap::new(),
            gone: BTreeMap::new(),
            plan: Plan::default(),
            again: Vec::new(),
        }
    }

    /// A switch is ready; `found` are the standing entries that it has.
    pub fn ready(
        &mut self,
        dpid: DatapathId,
        version: Version,
        nicira: bool,
        found: FoundStanding,
        plan: &Plan,
        now: Duration,
    ) -> Vec<Step> {
        self.follow_gone(plan);
        let waits = (!found.entries.is_empty() && !is_settled(plan)).then_some(now + FOUND_STAYS);
        let own = Own {
            version,
            nicira,
            stage: Stage::Asked,
            has: Desired::default(),
            found,
            waits,
            expired: BTreeSet::new(),
        };
        self.switches.insert(dpid, own);
        let asks = version == Version::V1_3 && nicira && self.kind != EntriesKind::Learn;
        if asks {
            // Nothing has these addresses; a switch that does not know the message says so before it lists its groups.
            let nobody =
                CtTuple { src: Some(IpAddr::from([255; 4])), src_port: Some(1), ..CtTuple::default() };
            let flush = CtFlush::new(zone(dpid), UDP, &nobody, &CtTuple::default());
            let groups = MultipartRequest::from(RequestBody::GroupDesc);
            return vec![
                Step::Send(dpid, Message::Nicira(NiciraMsg::CtFlush(flush))),
                Step::Send(dpid, Message::MultipartRequest(groups)),
            ];
        }
        self.fall_back(
            dpid,
            "connection tracking with groups needs OpenFlow 1.3 of Open vSwitch 3.1 or later",
        )
    }

    /// A switch's connection ended.
    pub fn lost(&mut self, dpid: DatapathId) {
        self.switches.remove(&dpid);
    }

    /// A switch listed all its groups.
    pub fn groups(&mut self, dpid: DatapathId, groups: &[GroupId]) -> Vec<Step> {
        let Some(own) = self.switches.get_mut(&dpid).filter(|own| own.stage == Stage::Asked) else {
            return Vec::new();
        };
        own.found.groups = groups.iter().map(|group| group.0).filter(|number| is_ours(*number)).collect();
        own.stage = Stage::Serving(Form::Tracked);
        let mut steps = vec![Step::Log(Level::Info, format!("switch {dpid}: VIPs by group"))];
        steps.extend(self.bring_up(dpid));
        steps
    }

    /// A switch refused what it was asked before it gets entries of the tracked form.
    pub fn cannot_track(&mut self, dpid: DatapathId) -> Vec<Step> {
        if self.switches.get(&dpid).is_none_or(|own| own.stage != Stage::Asked) {
            return Vec::new();
        }
        self.fall_back(
            dpid,
            "the switch has no groups, or cannot forget connections (Open vSwitch before 3.1)",
        )
    }

    /// The learned form, if it may take the tracked one's place.
    fn fall_back(&mut self, dpid: DatapathId, why: &str) -> Vec<Step> {
        let Some(own) = self.switches.get_mut(&dpid) else { return Vec::new() };
        if self.kind == EntriesKind::Group || !own.nicira {
            own.stage = Stage::Refused;
            let why = if own.nicira { why } else { "the switch does not know Nicira's extensions" };
            let mend = if own.nicira { "--lb-entries learn or reactive" } else { "--lb-entries reactive" };
            let word = self.kind.word();
            let text =
                format!("switch {dpid}: no VIP is served there with --lb-entries {word}: {why}; take {mend}");
            let found = std::mem::take(&mut own.found).delete(own.version);
            let log = Step::Log(Level::Warn, text);
            return std::iter::once(log)
                .chain(found.into_iter().map(|message| Step::Send(dpid, message)))
                .collect();
        }
        own.stage = Stage::Serving(Form::Learned);
        let mut steps = vec![Step::Log(Level::Info, format!("switch {dpid}: VIPs by learn"))];
        if own.version == Version::V1_0 {
            steps.push(Step::Send(dpid, Message::Nicira(NiciraMsg::FlowModTableId(true))));
        }
        steps.extend(self.bring_up(dpid));
        steps
    }

    /// Sends all that a switch should have, then deletes what it had before and should not.
    fn bring_up(&mut self, dpid: DatapathId) -> Vec<Step> {
        let Some(to) = self.desired(dpid) else { return Vec::new() };
        let Some(own) = self.switches.get_mut(&dpid).filter(|own| own.waits.is_none()) else {
            return Vec::new();
        };
        // A group of an earlier life is changed in place, whatever it was.
        let groups = own.found.groups.iter().map(|number| (*number, Vec::new())).collect();
        let from = Desired { groups, ..Desired::default() };
        let mut messages = changes(&from, &to, own.version);
        let version = own.version;
        let stale = own.found.entries.iter().filter(|(_, sequence)| !to.entries.contains_key(sequence));
        // Before the groups that they may use.
        let groups = messages.iter().rposition(|message| !matches!(message, Message::GroupMod(_)));
        let at = groups.map_or(messages.len(), |last| last + 1);
        messages.splice(at..at, stale.map(|(table, sequence)| delete(*table, *sequence, version)));
        own.found = FoundStanding::default();
        own.has = to;
        messages.into_iter().map(|message| Step::Send(dpid, message)).collect()
    }

    /// The plan is another one.
    pub fn replanned(&mut self, plan: &Plan, now: Duration) -> Vec<Step> {
        let before = self.follow_gone(plan);
        let dpids: Vec<DatapathId> = self.switches.keys().copied().collect();
        let mut steps = Vec::new();
        for dpid in dpids {
            let Some(to) = self.desired(dpid) else { continue };
            let Some(own) = self.switches.get_mut(&dpid) else { continue };
            if own.waits.is_some() {
                if is_settled(plan) {
                    own.waits = None;
                    steps.extend(self.bring_up(dpid));
                }
                continue;
            }
            let messages = changes(&own.has, &to, own.version);
            own.has = to;
            let tracked = own.stage == Stage::Serving(Form::Tracked);
            steps.extend(messages.into_iter().map(|message| Step::Send(dpid, message)));
            if tracked {
                for message in flushes(&before, plan, zone(dpid)) {
                    self.again.push((now + SETTLED, dpid, message.clone()));
                    steps.push(Step::Send(dpid, message));
                }
            }
        }
        steps
    }

    /// An entry went. One of a backend that is not configured any more goes when nobody uses it; another one that
    /// somebody deleted is put back.
    pub fn removed(&mut self, dpid: DatapathId, sequence: Sequence, was_idle: bool) -> Vec<Step> {
        let Some(own) = self.switches.get_mut(&dpid) else { return Vec::new() };
        let Some(entry) = own.has.entries.get(&sequence) else { return Vec::new() };
        if !was_idle {
            let (mut from, to) = (own.has.clone(), &own.has);
            from.entries.remove(&sequence);
            let again = changes(&from, to, own.version);
            return again.into_iter().map(|message| Step::Send(dpid, message)).collect();
        }
        if entry.idle_s > 0 {
            own.has.entries.remove(&sequence);
            own.expired.insert(sequence);
        }
        let leaves = |own: &Own| own.has.entries.values().any(|entry| entry.idle_s > 0);
        if !self.switches.values().any(leaves) {
            self.gone.clear();
            self.switches.values_mut().for_each(|own| own.expired.clear());
        }
        Vec::new()
    }

    /// Forgets a connection of a client, so that its next packet gets another backend: it is half-open, and its backend
    /// is gone.
    #[must_use]
    pub fn forget(
        &self,
        dpid: DatapathId,
        protocol: u8,
        client: (IpAddr, u16),
        vip: (IpAddr, u16),
    ) -> Option<Step> {
        let tracked = |own: &&Own| own.stage == Stage::Serving(Form::Tracked);
        self.switches.get(&dpid).filter(tracked)?;
        let from = CtTuple {
            src: Some(client.0),
            dst: Some(vip.0),
            src_port: Some(client.1),
            dst_port: Some(vip.1),
        };
        let flush = CtFlush::new(zone(dpid), protocol, &from, &CtTuple::default());
        Some(Step::Send(dpid, Message::Nicira(NiciraMsg::CtFlush(flush))))
    }

    /// Forgets once more what was forgotten a moment ago: until the switch has carried a change of entries into its
    /// caches, packets make connections by the old ones.
    pub fn tick(&mut self, now: Duration) -> Vec<Step> {
        let due = self.again.extract_if(.., |(at, _, _)| *at <= now);
        let mut steps: Vec<Step> = due.map(|(_, dpid, message)| Step::Send(dpid, message)).collect();
        let waited = |own: &&mut Own| own.waits.is_some_and(|until| until <= now);
        let over: Vec<DatapathId> = self
            .switches
            .iter_mut()
            .filter(|(_, own)| waited(own))
            .map(|(dpid, own)| {
                own.waits = None;
                *dpid
            })
            .collect();
        steps.extend(over.into_iter().flat_map(|dpid| self.bring_up(dpid)).collect::<Vec<_>>());
        steps
    }

    /// How a switch's connections are pinned, if VIPs are served there.
    #[must_use]
    pub fn form(&self, dpid: DatapathId) -> Option<Form> {
        match self.switches.get(&dpid)?.stage {
            Stage::Serving(form) => Some(form),
            Stage::Asked | Stage::Refused => None,
        }
    }

    /// How many entries all switches have.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.switches.values().map(|own| own.has.entries.len()).sum()
    }

    /// What a switch should have now.
    fn desired(&self, dpid: DatapathId) -> Option<Desired> {
        let own = self.switches.get(&dpid)?;
        let Stage::Serving(form) = own.stage else { return None };
        let (plan, gone, limits, version) = (&self.plan, &self.gone, self.limits, own.version);
        let mut to = desired(&Scene { plan, gone, form, version, zone: zone(dpid), limits });
        to.entries.retain(|sequence, entry| entry.idle_s == 0 || !own.expired.contains(sequence));
        Some(to)
    }

    /// Takes over a plan, and notes whose connections go on without a configuration; the plan before.
    fn follow_gone(&mut self, plan: &Plan) -> Plan {
        let before = std::mem::replace(&mut self.plan, plan.clone());
        let marks: BTreeSet<u32> = plan.backends.values().map(mark).collect();
        for backend in before.backends.values() {
            if !marks.contains(&mark(backend)) && backend.neighbour.is_some() {
                self.gone.insert(mark(backend), backend.clone());
            }
        }
        self.gone.retain(|mark, backend| !marks.contains(mark) && plan.vips.contains_key(&backend.vip));
        before
    }
}

/// Has a switch forget the connections that are to get another backend: those of backends that were well, and are not.
fn flushes(before: &Plan, plan: &Plan, zone: u16) -> Vec<Message> {
    let is_repicked = |plan: &Plan, backend: &BackendPlan| {
        let vip = plan.vips.get(&backend.vip).filter(|vip| translates(vip))?;
        let fate = fate(vip.on_down, vip.rotation.is_last_known, backend);
        Some((fate == Fate::Repick, vip.key))
    };
    let mut messages = Vec::new();
    for (id, backend) in &plan.backends {
        let was = before.backends.get(id).filter(|was| mark(was) == mark(backend) && was.neighbour.is_some());
        let was_repicked = was.and_then(|was| is_repicked(before, was)).map(|(repicked, _)| repicked);
        let (Some((true, vip)), Some(false)) = (is_repicked(plan, backend), was_repicked) else { continue };
        let port = |port: u16| Some(port).filter(|port| *port != 0);
        let there = CtTuple { dst: Some(vip.address), dst_port: port(vip.port()), ..CtTuple::default() };
        let back = CtTuple {
            src: Some(backend.key.address),
            src_port: port(backend.key.port),
            ..CtTuple::default()
        };
        let flush = CtFlush::new(zone, vip.protocol.number(), &there, &back);
        messages.push(Message::Nicira(NiciraMsg::CtFlush(flush)));
    }
    messages
}

/// Whether every backend has been asked, so that it is known who is there.
fn is_settled(plan: &Plan) -> bool {
    plan.backends.values().all(|backend| backend.state != State::Probing)
}
