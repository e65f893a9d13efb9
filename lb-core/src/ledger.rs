//! The ledger: every packet that came in has ended in exactly one way.

use crate::reason::{Class, Reason};

/// Sums of the reason counters by class, and what came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Ledger {
    /// Packets that entered the program.
    pub received: u64,
    /// Packets rewritten and sent on.
    pub forwarded: u64,
    /// Packets answered by the balancer.
    pub answered: u64,
    /// Packets left untouched.
    pub passed: u64,
    /// Packets dropped.
    pub dropped: u64,
}

impl Ledger {
    /// Adds up the counters: `count` gives the packets that ended with a reason.
    pub fn sum(received: u64, mut count: impl FnMut(Reason) -> u64) -> Self {
        let mut ledger = Self { received, ..Self::default() };
        for &reason in Reason::ALL {
            let row = match reason.class() {
                Class::Forwarded => &mut ledger.forwarded,
                Class::Answered => &mut ledger.answered,
                Class::Passed => &mut ledger.passed,
                Class::Dropped => &mut ledger.dropped,
            };
            *row += count(reason);
        }
        ledger
    }

    /// Packets that came in and have not ended, or ended twice. Zero while no packet is being worked on; a
    /// lasting difference is a bug.
    pub const fn difference(&self) -> i64 {
        self.received.wrapping_sub(self.forwarded + self.answered + self.passed + self.dropped) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_exactly_one_row() {
        let total = Reason::ALL.len() as u64;
        let ledger = Ledger::sum(total, |_| 1);
        assert_eq!(ledger.difference(), 0);
        assert!(ledger.forwarded > 0 && ledger.answered > 0 && ledger.passed > 0 && ledger.dropped > 0);
        assert_eq!(Ledger::sum(total + 2, |_| 1).difference(), 2);
    }
}
