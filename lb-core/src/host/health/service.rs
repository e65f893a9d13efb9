//! The check of one backend's service: when it runs, and what its results mean.
//!
//! ```text
//!                rise passes in a row              fall failures in a row
//!  ---> probing ----------------------> up <---------------------------------> down
//!          |                            rise passes in a row                     ^
//!          +---------------------------------------------------------------------+
//!                          fall failures in a row
//! ```
//!
//! One run at a time. A run that was started, or whose timeout was looked at, later than the tolerance allows counts for
//! nothing unless it passed: the checker's own lateness never takes a service down.

use super::{Failure, NS_PER_MS, ServiceCause, Waiting};
use crate::host::config::CheckConfig;
use crate::host::seed::mix;

/// How long silence is no good sign after an ICMP error, where it is otherwise: a host sends such errors less often than
/// it is asked (RFC 1812, 4.3.2.8; RFC 4443, 2.4 f; Linux: one a second to each peer).
const SUSPICION_NS: u64 = 10_000 * NS_PER_MS;

/// When a service is checked, and how often in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    interval_ns: u64,
    timeout_ns: u64,
    rise: u32,
    fall: u32,
    jitter_pct: u64,
    tolerance_ns: u64,
    takes_silence: bool,
}

impl Timing {
    pub(super) fn new(config: &CheckConfig) -> Self {
        let interval_ns = u64::from(config.interval_ms) * NS_PER_MS;
        Self {
            interval_ns,
            timeout_ns: u64::from(config.timeout_ms) * NS_PER_MS,
            rise: config.rise.max(1),
            fall: config.fall.max(1),
            jitter_pct: u64::from(config.jitter_pct),
            tolerance_ns: super::tolerance_ns(interval_ns),
            takes_silence: config.kind.takes_silence(),
        }
    }

    fn gap(&self, random: u64) -> u64 {
        let most = self.interval_ns.saturating_mul(self.jitter_pct) / 100;
        self.interval_ns.saturating_add(random % most.saturating_add(1))
    }
}

/// What the checks say of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// Nothing yet.
    Unknown,
    /// It answers as it should.
    Good,
    /// It does not.
    Bad,
}

/// A check under way.
#[derive(Clone, Copy, Debug)]
struct Run {
    number: u32,
    started: u64,
    /// A failure of it counts for nothing.
    void: bool,
    waiting: Waiting,
}

/// What has to be done about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Start(u32),
    Stop(u32),
}

/// One service under watch.
#[derive(Clone, Debug)]
pub(super) struct Service {
    timing: Timing,
    opinion: Opinion,
    run: Option<Run>,
    passes: u32,
    failures: u32,
    first_failure: u64,
    last_failure: Option<Failure>,
    /// The last ICMP error or reset.
    refused: Option<(u64, Failure)>,
    next: u64,
    seed: u64,
    runs: u64,
}

impl Service {
    pub(super) fn new(timing: Timing, seed: u64, first: u64) -> Self {
        Self {
            timing,
            opinion: Opinion::Unknown,
            run: None,
            passes: 0,
            failures: 0,
            first_failure: 0,
            last_failure: None,
            refused: None,
            next: first,
            seed,
            runs: 0,
        }
    }

    pub(super) fn opinion(&self) -> Opinion {
        self.opinion
    }

    /// Why the last check failed, if it did.
    pub(super) fn last_failure(&self) -> Option<Failure> {
        self.last_failure
    }

    /// Begins as good: an earlier daemon had found it so.
    pub(super) fn assume_good(&mut self) {
        self.opinion = Opinion::Good;
    }

    /// Another timing for the same question.
    pub(super) fn set_timing(&mut self, timing: Timing, now: u64) {
        self.timing = timing;
        self.next = self.next.min(now.saturating_add(timing.interval_ns));
    }

    /// Forgets everything: its host is gone, and whether the service comes back with it has to be seen.
    pub(super) fn start_over(&mut self, now: u64) -> Option<Step> {
        self.opinion = Opinion::Unknown;
        (self.passes, self.failures) = (0, 0);
        (self.last_failure, self.refused) = (None, None);
        self.next = now;
        self.run.take().map(|run| Step::Stop(run.number))
    }

    /// Starts a run if it is time; `number` names it.
    pub(super) fn start(&mut self, number: u32, now: u64) -> Option<Step> {
        if self.run.is_some() || now < self.next {
            return None;
        }
        let scheduled = self.next;
        let gap = self.timing.gap(mix(self.seed ^ mix(self.runs)));
        self.runs += 1;
        // From when this one was due, so that lateness does not add up.
        self.next = scheduled.saturating_add(gap);
        if self.next <= now {
            self.next = now.saturating_add(gap);
        }
        let void = now > scheduled.saturating_add(self.timing.tolerance_ns);
        self.run = Some(Run { number, started: now, void, waiting: Waiting::Answer });
        Some(Step::Start(number))
    }

    pub(super) fn is_running(&self, number: u32) -> bool {
        self.run.is_some_and(|run| run.number == number)
    }

    /// The run's first packet left.
    pub(super) fn sent(&mut self, at: u64) {
        if let Some(run) = &mut self.run {
            run.void |= at > run.started.saturating_add(self.timing.tolerance_ns);
            run.started = run.started.max(at);
        }
    }

    /// The run could not begin: it says nothing about the service.
    pub(super) fn not_sent(&mut self) {
        self.run = None;
    }

    /// The run got as far as this.
    pub(super) fn progress(&mut self, waiting: Waiting) {
        if let Some(run) = &mut self.run {
            run.waiting = waiting;
        }
    }

    /// The run's result, received at `at`. One that came after the timeout is judged as the timeout.
    pub(super) fn done(
        &mut self,
        result: Result<(), Failure>,
        at: u64,
        now: u64,
    ) -> Option<(Opinion, ServiceCause)> {
        let run = self.run.take()?;
        match result {
            _ if at > run.started.saturating_add(self.timing.timeout_ns) => {
                self.failed(&run, Failure::Timeout(run.waiting), now)
            }
            Ok(()) => {
                self.refused = None;
                self.passed()
            }
            Err(failure) => {
                if matches!(failure, Failure::Refused | Failure::Unreachable) {
                    self.refused = Some((at, failure));
                }
                self.failed(&run, failure, now)
            }
        }
    }

    /// Judges a run whose time is over and up to which every frame was handed in.
    pub(super) fn judge(
        &mut self,
        drained_up_to: u64,
        now: u64,
    ) -> Option<(Step, Option<(Opinion, ServiceCause)>)> {
        let run = self.run?;
        let deadline = run.started.saturating_add(self.timing.timeout_ns);
        if drained_up_to < deadline {
            return None;
        }
        self.run = None;
        let step = Step::Stop(run.number);
        let refused = self.refused.filter(|(at, _)| at.saturating_add(SUSPICION_NS) > now);
        if self.timing.takes_silence && refused.is_none() {
            return Some((step, self.passed()));
        }
        if now > deadline.saturating_add(self.timing.tolerance_ns) {
            return Some((step, None));
        }
        let silence = Failure::Timeout(run.waiting);
        let failure =
            if self.timing.takes_silence { refused.map_or(silence, |(_, failure)| failure) } else { silence };
        Some((step, self.failed(&run, failure, now)))
    }

    /// When something is due.
    pub(super) fn next_wake(&self) -> u64 {
        self.run.map_or(self.next, |run| run.started.saturating_add(self.timing.timeout_ns))
    }

    fn passed(&mut self) -> Option<(Opinion, ServiceCause)> {
        self.failures = 0;
        self.last_failure = None;
        self.passes = self.passes.saturating_add(1);
        if self.opinion == Opinion::Good || self.passes < self.timing.rise {
            return None;
        }
        self.opinion = Opinion::Good;
        Some((Opinion::Good, ServiceCause::Passed { checks: self.passes }))
    }

    fn failed(&mut self, run: &Run, failure: Failure, now: u64) -> Option<(Opinion, ServiceCause)> {
        if run.void {
            return None;
        }
        self.passes = 0;
        self.last_failure = Some(failure);
        if self.failures == 0 {
            self.first_failure = run.started;
        }
        self.failures = self.failures.saturating_add(1);
        if self.opinion == Opinion::Bad || self.failures < self.timing.fall {
            return None;
        }
        self.opinion = Opinion::Bad;
        let in_ms = now.saturating_sub(self.first_failure) / NS_PER_MS;
        Some((Opinion::Bad, ServiceCause::Failed { checks: self.failures, in_ms, last: failure }))
    }
}
