//! How much load a service bears: rates that rise until one breaks, then rates in between.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::outcome::Outcome;

/// What a step has to reach, and how far the steps go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The first rate, connections a second.
    pub first: f64,
    /// The largest rate that is offered.
    pub most: f64,
    /// Each rate is so many times the one before.
    pub growth: f64,
    /// Rates tried between the last good one and the breaking one.
    pub refine: u32,
    /// Share of the offered connections that has to be completed.
    pub completed_share: f64,
    /// The 99th percentile must not be longer, in microseconds.
    pub p99_us: f64,
    /// A rate breaks if so many attempts do.
    pub attempts: u32,
    /// Rest between two steps.
    pub pause: Duration,
}

/// One attempt at a rate.
struct Step {
    rate: f64,
    outcome: Outcome,
    good: bool,
}

impl Step {
    fn json(&self) -> Value {
        let mut value = self.outcome.json();
        value["rate"] = json!(self.rate);
        value["good"] = json!(self.good);
        value
    }
}

impl Limits {
    /// Whether load of this kind is borne.
    fn holds(&self, outcome: &Outcome) -> bool {
        let fast = outcome.times.quantile_us(0.99).is_none_or(|p99| p99 <= self.p99_us);
        outcome.completed_share() >= self.completed_share && fast
    }
}

/// Offers rising load by `offer`, which takes a rate, and says where it broke.
pub fn climb(limits: &Limits, mut offer: impl FnMut(f64) -> Result<Outcome>) -> Result<Value> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut good, mut broken): (Option<usize>, Option<usize>) = (None, None);
    let mut between = 0;
    let mut rate = limits.first;
    loop {
        let at = attempt(limits, rate, &mut steps, &mut offer)?;
        if steps[at].good {
            good = Some(at);
        } else {
            broken = Some(at);
        }
        rate = match (good, broken) {
            (Some(_), None) if rate >= limits.most => break,
            (Some(_), None) => (rate * limits.growth).min(limits.most),
            (Some(good), Some(broken)) if between < limits.refine => {
                between += 1;
                (steps[good].rate * steps[broken].rate).sqrt()
            }
            _ => break,
        };
    }
    let of = |at: Option<usize>| at.map_or(Value::Null, |at| steps[at].json());
    Ok(json!({
        "last_good": of(good),
        "breaking": of(broken),
        "steps": steps.iter().map(Step::json).collect::<Vec<_>>(),
    }))
}

/// One rate, again if it breaks; returns the attempt that counts.
fn attempt(
    limits: &Limits,
    rate: f64,
    steps: &mut Vec<Step>,
    offer: &mut impl FnMut(f64) -> Result<Outcome>,
) -> Result<usize> {
    for _ in 0..limits.attempts.max(1) {
        if !steps.is_empty() {
            thread::sleep(limits.pause);
        }
        let outcome = offer(rate)?;
        let good = limits.holds(&outcome);
        eprintln!("{}", line(rate, &outcome, good));
        steps.push(Step { rate, outcome, good });
        if good {
            break;
        }
    }
    Ok(steps.len() - 1)
}

fn line(rate: f64, outcome: &Outcome, good: bool) -> String {
    let ms = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), |us| format!("{:.1}", us / 1e3));
    format!(
        "{rate:.0}/s: {} of {} completed, p50 {} ms, p99 {} ms: {}",
        outcome.completed,
        outcome.offered,
        ms(outcome.times.quantile_us(0.5)),
        ms(outcome.times.quantile_us(0.99)),
        if good { "good" } else { "broken" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;

    const LIMITS: Limits = Limits {
        first: 100.0,
        most: 1600.0,
        growth: 2.0,
        refine: 2,
        completed_share: 0.99,
        p99_us: 100_000.0,
        attempts: 2,
        pause: Duration::ZERO,
    };

    /// A service that answers `most` a second and no more, each after `time_us`.
    fn service(rate: f64, most: f64, time_us: u64) -> Outcome {
        let mut outcome = Outcome::new();
        outcome.offered = rate as u64;
        outcome.completed = rate.min(most) as u64;
        if outcome.offered > outcome.completed {
            outcome.failures.insert(Failure::Timeout, outcome.offered - outcome.completed);
        }
        for _ in 0..outcome.completed {
            outcome.times.add(time_us * 1000);
        }
        outcome
    }

    fn rates(value: &Value) -> Vec<u64> {
        value["steps"].as_array().unwrap().iter().map(|step| step["rate"].as_f64().unwrap() as u64).collect()
    }

    #[test]
    fn it_climbs_until_it_breaks_and_looks_in_between() {
        let result = climb(&LIMITS, |rate| Ok(service(rate, 600.0, 10))).unwrap();
        // 800 breaks twice; 565 is good; 672 breaks twice.
        assert_eq!(rates(&result), [100, 200, 400, 800, 800, 565, 672, 672]);
        assert_eq!(result["last_good"]["rate"].as_f64().unwrap() as u64, 565);
        assert_eq!(result["breaking"]["rate"].as_f64().unwrap() as u64, 672);
    }

    #[test]
    fn slow_answers_break_it_too() {
        let result =
            climb(&LIMITS, |rate| Ok(service(rate, 1e9, if rate > 100.0 { 200_000 } else { 50_000 })))
                .unwrap();
        assert_eq!(result["last_good"]["rate"], 100.0);
        assert!(result["breaking"]["p99_us"].as_f64().unwrap() > 100_000.0);
    }

    #[test]
    fn one_bad_attempt_is_no_break_and_the_top_is_no_break() {
        let mut calls = 0;
        let result = climb(&LIMITS, |rate| {
            calls += 1;
            Ok(service(rate, if calls == 2 { 1.0 } else { 1e9 }, 10))
        })
        .unwrap();
        assert_eq!(rates(&result), [100, 200, 200, 400, 800, 1600]);
        assert_eq!((&result["last_good"]["rate"], &result["breaking"]), (&json!(1600.0), &Value::Null));
    }

    #[test]
    fn what_never_held_has_no_last_good() {
        let result = climb(&LIMITS, |rate| Ok(service(rate, 0.0, 10))).unwrap();
        assert_eq!(rates(&result), [100, 100]);
        assert_eq!((&result["last_good"], &result["breaking"]["rate"]), (&Value::Null, &json!(100.0)));
    }
}
