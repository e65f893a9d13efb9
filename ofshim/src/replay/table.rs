//! The flow entries of a switch in memory.

use std::time::Duration;

use openflow::{
    Action, Cookie, FlowMod, FlowModFlags, FlowRemovedReason, Instruction, Match, MatchField, NxAction,
    PortNo,
};

use super::packet::{Fields, flow_of};

/// One flow entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The table that it is in.
    pub table: u8,
    /// The higher goes first.
    pub priority: u16,
    /// What it matches.
    pub match_: Match,
    /// Its owner's mark.
    pub cookie: Cookie,
    /// Seconds without a packet after which it goes; 0 never.
    pub idle_s: u16,
    /// Seconds after which it goes in any case; 0 never.
    pub hard_s: u16,
    /// What its owner wants to be told.
    pub flags: FlowModFlags,
    /// What it does.
    pub instructions: Vec<Instruction>,
    /// Since when it is there.
    pub added: Duration,
    /// When a packet last matched.
    pub used: Duration,
    /// How many packets matched.
    pub packets: u64,
    /// The flow that it is for, where it is for one.
    flow: Option<u64>,
}

impl Entry {
    /// The entry that a flow-mod adds.
    #[must_use]
    pub fn of(flow_mod: FlowMod, now: Duration) -> Self {
        Self {
            table: flow_mod.table_id.0,
            priority: flow_mod.priority,
            flow: flow_of(&flow_mod.match_),
            match_: flow_mod.match_,
            cookie: flow_mod.cookie,
            idle_s: flow_mod.idle_timeout,
            hard_s: flow_mod.hard_timeout,
            flags: flow_mod.flags,
            instructions: flow_mod.instructions,
            added: now,
            used: now,
            packets: 0,
        }
    }

    fn is_over(&self, now: Duration) -> Option<FlowRemovedReason> {
        let over = |since: Duration, limit_s: u16| {
            limit_s != 0 && now.saturating_sub(since) >= Duration::from_secs(limit_s.into())
        };
        if over(self.used, self.idle_s) {
            return Some(FlowRemovedReason::IdleTimeout);
        }
        over(self.added, self.hard_s).then_some(FlowRemovedReason::HardTimeout)
    }

    /// FIN and RST shorten the life of an entry that looks for them (Nicira's `fin_timeout`).
    fn hit(&mut self, fields: &Fields, now: Duration) {
        self.used = now;
        self.packets += 1;
        if !fields.ends() {
            return;
        }
        for instruction in &self.instructions {
            let Instruction::ApplyActions(actions) = instruction else { continue };
            for action in actions {
                if let Action::Nicira(NxAction::FinTimeout { fin_idle_timeout, .. }) = action {
                    self.idle_s =
                        if self.idle_s == 0 { *fin_idle_timeout } else { self.idle_s.min(*fin_idle_timeout) };
                }
            }
        }
    }
}

/// All entries.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    list: Vec<Entry>,
}

impl Entries {
    /// Adds an entry, in the place of one with the same table, priority and match.
    ///
    /// # Errors
    /// The first field of its match that this switch does not look at; nothing is added then.
    pub fn add(&mut self, entry: Entry) -> Result<(), MatchField> {
        let nothing = Fields::of(&[0; 64]);
        let is_unknown =
            |field: &&MatchField| nothing.and_then(|fields| fields.matches(PortNo(0), field)).is_none();
        if let Some(unknown) = entry.match_.fields.iter().find(is_unknown) {
            return Err(unknown.clone());
        }
        self.list.retain(|there| !same(there, entry.table, entry.priority, &entry.match_));
        self.list.push(entry);
        Ok(())
    }

    /// Takes out what a strict deletion names.
    pub fn delete_strict(&mut self, flow_mod: &FlowMod) -> Vec<Entry> {
        let mask = flow_mod.cookie_mask;
        let gone = |entry: &mut Entry| {
            same(entry, flow_mod.table_id.0, flow_mod.priority, &flow_mod.match_)
                && entry.cookie.0 & mask == flow_mod.cookie.0 & mask
        };
        self.list.extract_if(.., gone).collect()
    }

    /// Takes out those whose time is over, and says why.
    pub fn expire(&mut self, now: Duration) -> Vec<(Entry, FlowRemovedReason)> {
        let over: Vec<Entry> = self.list.extract_if(.., |entry| entry.is_over(now).is_some()).collect();
        over.into_iter()
            .filter_map(|entry| Some((entry.is_over(now)?, entry)))
            .map(|(why, e)| (e, why))
            .collect()
    }

    /// The entry of a table that a packet meets, which is counted.
    pub fn lookup(&mut self, table: u8, in_port: PortNo, fields: &Fields, now: Duration) -> Option<&Entry> {
        let flow = fields.flow();
        let meets = |entry: &Entry| {
            entry.table == table
                && (entry.flow.is_none() || entry.flow == flow)
                && entry.match_.fields.iter().all(|field| fields.matches(in_port, field) == Some(true))
        };
        let found = self.list.iter_mut().filter(|entry| meets(entry)).max_by_key(|entry| entry.priority)?;
        found.hit(fields, now);
        Some(found)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.list.iter()
    }
}

fn same(entry: &Entry, table: u8, priority: u16, match_: &Match) -> bool {
    entry.priority == priority && entry.table == table && entry.match_ == *match_
}
