//! First packets that wait until the rest of their way is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::DatapathId;

use super::{FlowKey, Out};

/// The most flows that wait; beyond it a packet is sent at once, and may miss an entry on its way.
const MAX_WAITING: usize = 4096;
/// The most packets of one flow that wait.
const MAX_PACKETS: usize = 32;
/// How long a switch may take to confirm.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
struct Waiting {
    tokens: BTreeSet<u64>,
    then: Vec<Out>,
    until: Duration,
}

/// Flows whose entries are being confirmed.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    waiting: BTreeMap<FlowKey, Waiting>,
    tokens: BTreeMap<u64, (DatapathId, FlowKey)>,
    last: u64,
}

impl Pending {
    /// Lets `then` wait for these switches. The barriers to send; none if too many wait already, and then `then` is
    /// given back.
    pub fn wait(
        &mut self,
        key: FlowKey,
        switches: impl Iterator<Item = DatapathId>,
        then: Vec<Out>,
        now: Duration,
    ) -> Vec<Out> {
        if self.waiting.len() >= MAX_WAITING {
            return then;
        }
        let mut waiting = Waiting { tokens: BTreeSet::new(), then, until: now + PATIENCE };
        let mut barriers = Vec::new();
        for dpid in switches {
            self.last += 1;
            self.tokens.insert(self.last, (dpid, key));
            waiting.tokens.insert(self.last);
            barriers.push(Out::Barrier { dpid, token: self.last });
        }
        if let Some(before) = self.waiting.insert(key, waiting) {
            for token in before.tokens {
                self.tokens.remove(&token);
            }
            barriers.extend(before.then);
        }
        barriers
    }

    /// Lets another packet of a flow wait; gives it back if the flow does not.
    pub fn join(&mut self, key: &FlowKey, packet: Out) -> Option<Out> {
        match self.waiting.get_mut(key) {
            Some(waiting) if waiting.then.len() < MAX_PACKETS => {
                waiting.then.push(packet);
                None
            }
            Some(_) => None,
            None => Some(packet),
        }
    }

    /// A switch confirmed; what may be done now.
    pub fn done(&mut self, token: u64) -> Vec<Out> {
        let Some((_, key)) = self.tokens.remove(&token) else { return Vec::new() };
        let Some(waiting) = self.waiting.get_mut(&key) else { return Vec::new() };
        waiting.tokens.remove(&token);
        if !waiting.tokens.is_empty() {
            return Vec::new();
        }
        self.waiting.remove(&key).map(|waiting| waiting.then).unwrap_or_default()
    }

    /// A switch will not confirm any more.
    pub fn switch_lost(&mut self, dpid: DatapathId) -> Vec<Out> {
        let tokens: Vec<u64> =
            self.tokens.iter().filter(|(_, (of, _))| *of == dpid).map(|(token, _)| *token).collect();
        tokens.into_iter().flat_map(|token| self.done(token)).collect()
    }

    /// What has waited for too long and is done all the same.
    pub fn late(&mut self, now: Duration) -> Vec<Out> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let late: Vec<FlowKey> =
            self.waiting.iter().filter(|(_, waiting)| now >= waiting.until).map(|(key, _)| *key).collect();
        let mut then = Vec::new();
        for key in late {
            if let Some(waiting) = self.waiting.remove(&key) {
                for token in waiting.tokens {
                    self.tokens.remove(&token);
                }
                then.extend(waiting.then);
            }
        }
        then
    }
}
