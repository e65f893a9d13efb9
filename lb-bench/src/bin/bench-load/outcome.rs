//! What came of connections: how many, how long they took, why not. Pure.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Nobody listens there (TCP reset in answer to a SYN).
    Refused,
    /// The connection was reset when it was established.
    Reset,
    /// No answer within the client's patience.
    Timeout,
    /// No way there (ICMP, or no neighbour).
    Unreachable,
    /// It ended before the whole answer was there.
    Short,
    /// The answer was not the expected one.
    Wrong,
    /// Another backend answered than before.
    Moved,
    /// No source address and port was free.
    NoPort,
    /// More connections were open than this program may have.
    TooManyOpen,
    /// Anything else that the system says.
    System,
}

impl Failure {
    /// Its name in results.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Short => "short",
            Self::Wrong => "wrong",
            Self::Moved => "moved",
            Self::NoPort => "no_port",
            Self::TooManyOpen => "too_many_open",
            Self::System => "system",
        }
    }

    /// What the system's error means; `established` tells a reset from a refusal.
    pub fn of(error: &std::io::Error, established: bool) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::ECONNRESET | libc::EPIPE) if established => Self::Reset,
            Some(libc::ECONNRESET) => Self::Refused,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Self::Unreachable,
            Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL) => Self::NoPort,
            Some(libc::EMFILE | libc::ENFILE) => Self::TooManyOpen,
            _ => Self::System,
        }
    }
}

/// How often each failure happened.
pub type Failures = BTreeMap<Failure, u64>;

/// The failures as an object, by name.
pub fn failures_json(failures: &Failures) -> Value {
    failures.iter().map(|(failure, count)| (failure.word().to_owned(), json!(count))).collect()
}

/// Times, in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Times {
    /// None yet.
    pub fn new() -> Self {
        // From a microsecond's thousandth to a minute; what is longer counts as a minute.
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Self(histogram.expect("constant bounds that the histogram accepts"))
    }

    /// One more.
    pub fn add(&mut self, time_ns: u64) {
        self.0.saturating_record(time_ns.max(1));
    }

    /// The least time that `share` of all do not exceed, in microseconds; none of none.
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share) as f64 / 1e3)
    }

    /// The longest, in microseconds.
    pub fn max_us(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max() as f64 / 1e3)
    }
}

const LONGEST_NS: u64 = 60_000_000_000;

/// What came of an offered load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Connections that were due.
    pub offered: u64,
    /// Those that were answered.
    pub completed: u64,
    /// Those that were not.
    pub failures: Failures,
    /// From when each was due until its answer was there.
    pub times: Times,
    /// From when each was due until this program began with it: how late the program itself was.
    pub delays: Times,
    /// From the beginning until the last answer, in nanoseconds.
    pub until_last_ns: u64,
    /// Connections that were open at once, at most.
    pub most_open: usize,
    /// Answers by the name of who gave them.
    pub backends: BTreeMap<String, u64>,
    /// When the last one that failed was due, by CLOCK_MONOTONIC.
    pub last_failed_ns: Option<u64>,
}

impl Outcome {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            offered: 0,
            completed: 0,
            failures: Failures::new(),
            times: Times::new(),
            delays: Times::new(),
            until_last_ns: 0,
            most_open: 0,
            backends: BTreeMap::new(),
            last_failed_ns: None,
        }
    }

    /// How many were not answered.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The share of the offered that was answered; 1 of none.
    pub fn completed_share(&self) -> f64 {
        if self.offered == 0 { 1.0 } else { self.completed as f64 / self.offered as f64 }
    }

    /// As an object.
    pub fn json(&self) -> Value {
        json!({
            "offered": self.offered,
            "completed": self.completed,
            "failed": self.failed(),
            "failures": failures_json(&self.failures),
            "completed_per_s": self.completed_per_s(),
            "p50_us": self.times.quantile_us(0.5),
            "p90_us": self.times.quantile_us(0.9),
            "p99_us": self.times.quantile_us(0.99),
            "max_us": self.times.max_us(),
            "start_delay_p99_us": self.delays.quantile_us(0.99),
            "most_open": self.most_open,
            "backends": self.backends,
            "last_failed_ns": self.last_failed_ns,
        })
    }

    /// Answers for each second until the last one; none of none.
    fn completed_per_s(&self) -> Option<f64> {
        (self.until_last_ns > 0).then(|| self.completed as f64 / (self.until_last_ns as f64 / 1e9))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let mut times = Times::new();
        assert_eq!((times.quantile_us(0.5), times.max_us()), (None, None));
        for us in 1..=1000u64 {
            times.add(us * 1000);
        }
        let near = |value: Option<f64>, us: f64| (value.unwrap() / us - 1.0).abs() < 0.002;
        assert!(near(times.quantile_us(0.5), 500.0), "{:?}", times.quantile_us(0.5));
        assert!(near(times.quantile_us(0.99), 990.0) && near(times.max_us(), 1000.0));
        times.add(u64::MAX);
        assert!(near(times.max_us(), 60e6), "what is longer than a minute counts as one");
    }

    #[test]
    fn failures_are_told_apart() {
        let error = |number| Error::from_raw_os_error(number);
        assert_eq!(Failure::of(&error(libc::ECONNREFUSED), false), Failure::Refused);
        assert_eq!(Failure::of(&error(libc::ECONNRESET), true), Failure::Reset);
        assert_eq!(Failure::of(&error(libc::EADDRNOTAVAIL), false), Failure::NoPort);
        assert_eq!(Failure::of(&error(libc::EHOSTUNREACH), false), Failure::Unreachable);
        assert_eq!(Failure::of(&error(libc::EIO), false), Failure::System);
    }

    #[test]
    fn an_outcome_adds_up() {
        let mut outcome = Outcome::new();
        assert_eq!(outcome.completed_share(), 1.0);
        outcome.offered = 4;
        outcome.completed = 3;
        outcome.failures.insert(Failure::Refused, 1);
        outcome.until_last_ns = 500_000_000;
        let json = outcome.json();
        assert_eq!(outcome.completed_share(), 0.75);
        assert_eq!((&json["failed"], &json["failures"]["refused"]), (&json!(1), &json!(1)));
        assert_eq!(json["completed_per_s"], json!(6.0));
        assert_eq!(json["p99_us"], Value::Null);
    }
}
