//! When connections are due. Pure: what a measurement offers is fixed before it begins, and waits for nobody.

use std::time::Duration;

/// How the connections of a rate lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spacing {
    /// Independent of each other, as those of many clients are: exponential distances.
    Poisson,
    /// The same distance between all.
    Fixed,
}

/// The times at which connections are due, from the beginning on, in nanoseconds; ends with its duration.
#[derive(Clone, Debug)]
pub struct Schedule {
    spacing: Spacing,
    mean_ns: f64,
    next_ns: f64,
    end_ns: f64,
    random: u64,
}

impl Schedule {
    /// `rate` connections a second for `time`; `seed` determines the distances.
    pub fn new(spacing: Spacing, rate: f64, time: Duration, seed: u64) -> Self {
        let mean_ns = 1e9 / rate;
        let mut schedule =
            Self { spacing, mean_ns, next_ns: 0.0, end_ns: time.as_secs_f64() * 1e9, random: seed };
        if spacing == Spacing::Poisson {
            schedule.next_ns = schedule.distance_ns();
        }
        schedule
    }

    /// Shares of the interval that are equally likely, from 0 (left out) to 1: splitmix64.
    fn share(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn distance_ns(&mut self) -> f64 {
        match self.spacing {
            Spacing::Fixed => self.mean_ns,
            Spacing::Poisson => -self.share().ln() * self.mean_ns,
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.next_ns >= self.end_ns {
            return None;
        }
        let due = self.next_ns as u64;
        self.next_ns += self.distance_ns();
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn fixed_distances_are_the_same() {
        let due: Vec<u64> = Schedule::new(Spacing::Fixed, 4.0, SECOND, 1).collect();
        assert_eq!(due, [0, 250_000_000, 500_000_000, 750_000_000]);
    }

    #[test]
    fn poisson_has_the_rate_and_the_spread_of_independent_clients() {
        let due: Vec<u64> = Schedule::new(Spacing::Poisson, 10_000.0, 10 * SECOND, 42).collect();
        // Standard deviation of the number: its root, here 316.
        assert!((98_500..101_500).contains(&due.len()), "{}", due.len());
        assert!(due.is_sorted() && *due.last().unwrap() < 10_000_000_000);
        let distances: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / distances.len() as f64;
        assert!((0.95..1.05).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt() / mean);
    }

    #[test]
    fn a_seed_determines_the_times() {
        let times = |seed| Schedule::new(Spacing::Poisson, 100.0, SECOND, seed).collect::<Vec<u64>>();
        assert_eq!(times(5), times(5));
        assert_ne!(times(5), times(6));
    }
}
