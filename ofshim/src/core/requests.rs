//! Requests that wait for their answer, by transaction id.

use std::collections::BTreeMap;
use std::time::Duration;

use openflow::{FlowMod, Xid};

/// The most barriers of the network that wait; beyond it none is sent, and what would wait for it goes on by itself.
const MAX_BARRIERS: usize = 4096;

/// What was asked of the switch.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// To take a role.
    Role,
    /// To say who made it.
    Maker,
    /// To describe its ports.
    Ports,
    /// To list its entries.
    Flows,
    /// To open a bundle for what it should have and has not; the changes.
    Open(Vec<FlowMod>),
    /// To do the changes of the handshake, in a bundle; they are kept for a switch that refuses it.
    Commit(Vec<FlowMod>),
    /// To say when all of the handshake is done.
    Settled,
    /// To do later changes in a bundle.
    Later(Vec<FlowMod>),
    /// To tell the counters of its ports.
    Counters,
    /// To say when all before is done; what the network calls it.
    Barrier(u64),
}

impl Asked {
    /// How long an answer may take.
    const fn patience(&self) -> Duration {
        match self {
            // A switch that knows no bundles should say so, but may say nothing.
            Self::Open(_) => Duration::from_secs(2),
            _ => Duration::from_secs(10),
        }
    }

    /// The request in words, to go on after "it does not answer" or "it refuses".
    #[must_use]
    pub const fn words(&self) -> &'static str {
        match self {
            Self::Role => "the role that was asked for",
            Self::Maker => "the request for its description",
            Self::Ports => "the request for its ports",
            Self::Flows => "the request for its entries",
            Self::Open(_) => "the opening of a bundle",
            Self::Commit(_) | Self::Later(_) => "the commit of a bundle",
            Self::Counters => "the request for its ports' counters",
            Self::Settled | Self::Barrier(_) => "a barrier request",
        }
    }
}

/// The requests that are not answered yet.
#[derive(Debug, Default)]
pub struct Requests {
    open: BTreeMap<Xid, (Asked, Duration)>,
    barriers: usize,
}

impl Requests {
    /// Whether another barrier may be sent.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.barriers < MAX_BARRIERS
    }

    /// Whether a role was asked for and not granted yet.
    #[must_use]
    pub fn waits_for_role(&self) -> bool {
        self.open.values().any(|(asked, _)| *asked == Asked::Role)
    }

    /// Whether counters were asked for and did not come yet.
    #[must_use]
    pub fn wait_for_counters(&self) -> bool {
        self.open.values().any(|(asked, _)| *asked == Asked::Counters)
    }

    /// Notes a request.
    pub fn add(&mut self, xid: Xid, asked: Asked, now: Duration) {
        self.barriers += usize::from(matches!(asked, Asked::Barrier(_)));
        self.open.insert(xid, (asked, now));
    }

    /// What was asked under a transaction id, if no answer has come.
    #[must_use]
    pub fn asked(&self, xid: Xid) -> Option<&Asked> {
        self.open.get(&xid).map(|(asked, _)| asked)
    }

    /// An answer came, or a refusal.
    pub fn take(&mut self, xid: Xid) -> Option<Asked> {
        let (asked, _) = self.open.remove(&xid)?;
        self.barriers -= usize::from(matches!(asked, Asked::Barrier(_)));
        Some(asked)
    }

    /// Takes out what was not answered in time.
    pub fn late(&mut self, now: Duration) -> Vec<Asked> {
        let is_late = |(asked, since): &(Asked, Duration)| now.saturating_sub(*since) >= asked.patience();
        let late: Vec<Xid> =
            self.open.iter().filter(|(_, request)| is_late(request)).map(|(xid, _)| *xid).collect();
        late.into_iter().filter_map(|xid| self.take(xid)).collect()
    }

    /// This controller itself was late by so much.
    pub fn excuse(&mut self, late: Duration) {
        self.open.values_mut().for_each(|(_, since)| *since += late);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn answers_find_their_request_and_late_ones_do_not() {
        let mut requests = Requests::default();
        requests.add(Xid(1), Asked::Open(Vec::new()), at(0));
        requests.add(Xid(2), Asked::Flows, at(0));
        requests.add(Xid(3), Asked::Barrier(7), at(5));
        assert_eq!(requests.asked(Xid(2)), Some(&Asked::Flows));
        assert_eq!(requests.late(at(2)), [Asked::Open(Vec::new())]);
        assert_eq!((requests.take(Xid(1)), requests.take(Xid(2))), (None, Some(Asked::Flows)));
        requests.excuse(at(1));
        assert_eq!(requests.late(at(15)), []);
        assert_eq!(requests.late(at(16)), [Asked::Barrier(7)]);
        assert_eq!(requests.take(Xid(3)), None);
    }

    #[test]
    fn barriers_are_bounded() {
        let mut requests = Requests::default();
        let mut sent = 0_u32;
        while requests.has_room() {
            requests.add(Xid(sent), Asked::Barrier(sent.into()), at(0));
            sent += 1;
        }
        assert_eq!(sent as usize, MAX_BARRIERS);
        assert_eq!(requests.take(Xid(9)), Some(Asked::Barrier(9)));
        assert!(requests.has_room());
        assert_eq!(requests.late(at(60)).len(), MAX_BARRIERS - 1);
    }
}
