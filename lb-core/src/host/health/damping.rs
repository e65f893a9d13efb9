//! Flap damping: a backend that keeps falling stays out longer each time.
//!
//! The falls of the last `window` are remembered. A backend that would come up after the `n`th of them is held down
//! until it was healthy without a break for
//!
//! ```text
//!   n <= free           0
//!   n  > free           hold x 2^(n - free - 1), at most `longest`
//! ```
//!
//! The hold begins anew with every fall of the raw health, so it also asks for that much steadiness.

use std::collections::VecDeque;

use super::NS_PER_MS;
use crate::host::config::DampingConfig;

/// Falls that are remembered at most; the hold has long been the longest then.
const MOST: usize = 32;

/// How falls are held against a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    free: usize,
    hold_ns: u64,
    longest_ns: u64,
    window_ns: u64,
}

impl Rule {
    pub(super) fn new(config: &DampingConfig) -> Self {
        let ns = |ms: u32| u64::from(ms) * NS_PER_MS;
        Self {
            free: config.free_falls as usize,
            hold_ns: ns(config.hold_ms),
            longest_ns: ns(config.longest_hold_ms),
            window_ns: u64::from(config.window_s) * 1000 * NS_PER_MS,
        }
    }
}

/// The falls of one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Falls(VecDeque<u64>);

impl Falls {
    /// Notes a fall.
    pub(super) fn add(&mut self, rule: &Rule, now: u64) {
        self.forget(rule, now);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// Falls within the window before `now`.
    pub(super) fn recent(&self, rule: &Rule, now: u64) -> usize {
        self.0.iter().filter(|fall| fall.saturating_add(rule.window_ns) > now).count()
    }

    /// How long a backend has to be healthy before it may come up, in ns.
    pub(super) fn hold_ns(&self, rule: &Rule, now: u64) -> u64 {
        let Some(beyond) = self.recent(rule, now).checked_sub(rule.free + 1) else { return 0 };
        let factor = 1_u64.checked_shl(u32::try_from(beyond).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
        rule.hold_ns.saturating_mul(factor).min(rule.longest_ns)
    }

    fn forget(&mut self, rule: &Rule, now: u64) {
        self.0.retain(|fall| fall.saturating_add(rule.window_ns) > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000 * NS_PER_MS;

    fn rule() -> Rule {
        Rule::new(&DampingConfig { free_falls: 2, hold_ms: 1_000, longest_hold_ms: 60_000, window_s: 300 })
    }

    #[test]
    fn the_hold_doubles_up_to_the_longest() {
        let mut falls = Falls::default();
        let mut holds = Vec::new();
        for n in 0..12 {
            falls.add(&rule(), n * S);
            holds.push(falls.hold_ns(&rule(), n * S) / S);
        }
        assert_eq!(holds, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        for n in 12..200 {
            falls.add(&rule(), n * S);
        }
        assert_eq!((falls.0.len(), falls.hold_ns(&rule(), 199 * S)), (MOST, 60 * S));
    }

    #[test]
    fn falls_are_forgiven_after_the_window() {
        let mut falls = Falls::default();
        for n in 0..4 {
            falls.add(&rule(), n * S);
        }
        assert_eq!(falls.hold_ns(&rule(), 299 * S), 2 * S);
        assert_eq!(falls.hold_ns(&rule(), 301 * S), 0, "two are left");
        assert_eq!(falls.recent(&rule(), 304 * S), 0);
    }

    #[test]
    fn no_hold_at_all_can_be_wanted() {
        let mut falls = Falls::default();
        let rule = Rule { hold_ns: 0, ..rule() };
        for n in 0..10 {
            falls.add(&rule, n * S);
        }
        assert_eq!(falls.hold_ns(&rule, 10 * S), 0);
    }
}
