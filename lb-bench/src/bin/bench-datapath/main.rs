//! What a packet costs in the balancer: `cargo xtask bench datapath` runs this and shows what it writes.
//!
//! The release object is loaded with the daemon's tables of a configuration in which everything is in use. For each row a
//! wrapper program lays the next flow's packet there and tail-calls the balancer (BPF_PROG_TEST_RUN, processor time of
//! this thread); what the wrapper costs by itself is taken off.

mod bed;
mod facts;
mod frames;
mod harness;
#[path = "../../../../lb-ebpf/src/bin/bench/layout.rs"]
mod layout;
mod rows;
mod scene;

use std::path::PathBuf;
use std::thread;

use anyhow::{Result, ensure};
use clap::Parser;
use lb_user::io::sys;
use serde_json::{Value, json};
use testbed::namespace::with_ports;

use crate::bed::{Bed, Ready};
use crate::harness::Harness;
use crate::rows::{ROWS, Row};
use crate::scene::Scene;

#[derive(Parser)]
#[command(about = "Measures the balancer's cost for a packet; writes one JSON object to standard output")]
struct Args {
    /// The balancer's object
    #[arg(long, value_name = "FILE")]
    object: PathBuf,
    /// The object of the measuring programs
    #[arg(long, value_name = "FILE")]
    bench_object: PathBuf,
    /// How often each row is measured, all rows in turn
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only rows whose name contains one of these words
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    rows: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(sys::is_root(), "bench-datapath needs root, to load XDP programs");
    let result = with_ports(|| on_large_stack(|| measure(&args)))?;
    println!("{result:#}");
    Ok(())
}

/// Runs `f` on a thread that has room for selection tables as values; it is in the caller's namespaces, and on its
/// processor.
fn on_large_stack<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    const STACK_BYTES: usize = 32 << 20;
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, f)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The rows that are asked for, and the floors that they are compared with.
fn chosen(words: &[String]) -> Result<Vec<&'static Row>> {
    let named = |row: &Row| words.is_empty() || words.iter().any(|word| row.name.contains(word.as_str()));
    let wanted: Vec<&Row> = ROWS.iter().filter(|row| named(row)).collect();
    let all: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    ensure!(!wanted.is_empty(), "no row is named like {}; rows: {}", words.join(", "), all.join(" "));
    let is_floor_of = |row: &&Row| wanted.iter().any(|other| other.floor == Some(row.name));
    Ok(ROWS.iter().filter(|row| named(row) || is_floor_of(row)).collect())
}

/// Lets this thread go before all others, so that they take less of the caches from it. Where that is not allowed, the
/// measurement is only less calm.
fn hurry() {
    // SAFETY: changes the priority of the calling thread alone.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

fn measure(args: &Args) -> Result<Value> {
    let rows = chosen(&args.rows)?;
    hurry();
    let before = facts::program_ids();
    let scene = Scene::load(&args.object)?;
    let programs = facts::programs(&before);
    let tables = facts::tables(&scene)?;
    let harness = Harness::load(&args.bench_object, scene.balancer()?)?;
    let mut bed = Bed::new(scene, harness)?;
    let mut ready = Vec::new();
    for (network, row) in (1u8..).zip(rows) {
        eprintln!("preparing {}", row.name);
        let prepared = bed.prepare(row, network)?;
        bed.check(&prepared)?;
        ready.push(prepared);
    }
    let mut samples = vec![Samples::default(); ready.len()];
    let mut loops = Vec::new();
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        for (ready, samples) in ready.iter_mut().zip(&mut samples) {
            loops.push(bed.measure_loop()?);
            let (times, wrapper) = bed.measure(ready)?;
            samples.apart.extend(times.iter().map(|time| time - wrapper));
            samples.whole.extend(times);
            samples.wrapper.push(wrapper);
        }
    }
    let loops = Figures::of(loops);
    let plain = samples.iter().zip(&ready).filter(|(_, ready)| !ready.grows);
    let plain = Figures::of(plain.flat_map(|(samples, _)| samples.wrapper.iter().copied()).collect());
    let grown = samples.iter().zip(&ready).filter(|(_, ready)| ready.grows);
    let grown = Figures::of(grown.flat_map(|(samples, _)| samples.wrapper.iter().copied()).collect());
    let rows: Vec<Value> = ready
        .iter()
        .zip(samples)
        .map(|(ready, samples)| describe(ready, samples, if ready.grows { grown.min } else { plain.min }))
        .collect();
    Ok(json!({
        "conditions": facts::conditions(&programs),
        "object": facts::object(&args.object),
        "programs": programs,
        "tables": tables,
        "rounds": args.rounds,
        "loop_ns_min": rounded(loops.min),
        "loop_ns_median": rounded(loops.median),
        "wrapper_ns_min": rounded(plain.min),
        "wrapper_ns_median": rounded(plain.median),
        "rows": rows,
    }))
}

/// Nanoseconds a packet, in all rounds.
#[derive(Clone, Debug, Default)]
struct Samples {
    /// With the wrapper.
    whole: Vec<f64>,
    /// The wrapper alone.
    wrapper: Vec<f64>,
    /// The difference, of each measurement to the wrapper's right before.
    apart: Vec<f64>,
}

/// The least, middle and largest of some samples.
struct Figures {
    min: f64,
    median: f64,
    max: f64,
}

impl Figures {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or(f64::NAN);
        let middle = samples.len() / 2;
        let median =
            if samples.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 };
        Self { min: at(0), median, max: at(samples.len().wrapping_sub(1)) }
    }
}

/// A row's figures without what the wrapper costs. The least is that of the whole without the least of the wrapper: a
/// quiet moment of the one and a busy one of the other make nothing look cheaper than it is.
fn describe(ready: &Ready, samples: Samples, least_wrapper: f64) -> Value {
    let row = ready.row;
    let (whole, apart) = (Figures::of(samples.whole), Figures::of(samples.apart));
    json!({
        "row": row.name,
        "label": row.label,
        "is_floor": row.is_floor(),
        "flows": row.flows,
        "ns_min": rounded(whole.min - least_wrapper),
        "ns_median": rounded(apart.median),
        "ns_max": rounded(apart.max),
        "ns_min_with_wrapper": rounded(whole.min),
        "goal_ns": row.goal_ns,
        "floor": row.floor,
    })
}

/// Tenths are all that the clock is good for.
fn rounded(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_samples() {
        let figures = Figures::of(vec![5.0, 1.0, 3.0]);
        assert_eq!((figures.min, figures.median, figures.max), (1.0, 3.0, 5.0));
        assert_eq!(Figures::of(vec![4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn a_row_brings_its_floor() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&words).map(|rows| rows.iter().map(|row| row.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["not_ours"]).unwrap(), ["not_ours"]);
        assert_eq!(
            names(&["reply4_4096", "arp_other"]).unwrap(),
            ["floor_lru_4096", "arp_other", "reply4_4096"]
        );
        assert_eq!(names(&[]).unwrap().len(), ROWS.len());
        assert!(names(&["nothing like it"]).is_err());
    }
}
