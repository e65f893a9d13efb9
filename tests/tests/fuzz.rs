//! Random traffic through the loaded program, the host core and the oracle, which must agree on every frame.
//!
//! 200,000 frames in an ordinary run, ten million with `LB_LONG=1`, and as many as in an ordinary run through the two that
//! need no root. A failure names its seed; `LB_SEED=<seed> cargo test -p tests --test fuzz` repeats it alone, and the seed then belongs into [`RECORDED`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use testbed::bench::Bench;
use testbed::namespace::with_ports;
use testbed::program::Program;
use testbed::random::Random;
use testbed::root_or_say_so;
use testbed::traffic::{Traffic, change, jump, scenario};

/// Frames of an ordinary run.
const ORDINARY: usize = 200_000;
/// Frames of one sequence, which begins with empty tables.
const FRAMES: usize = 500;
/// Seeds that once failed; every run begins with them.
const RECORDED: &[u64] = &[20320];

/// How often frames ended for each reason.
type Tally = BTreeMap<&'static str, u64>;

fn sequence(seed: u64, program: &mut Option<Program>, tally: &mut Tally) -> Result<()> {
    let mut random = Random::new(seed);
    let mut bench = Bench::new(&scenario(&mut random), program.take())?;
    let mut traffic = Traffic::new(Random::new(random.bits()));
    let result = (0..FRAMES).try_for_each(|number| {
        one_frame(&mut bench, &mut random, &mut traffic, tally)
            .with_context(|| format!("seed {seed}, frame {number}"))
    });
    let end =
        result.and_then(|()| bench.snapshot().map(drop).with_context(|| format!("seed {seed}, at its end")));
    *program = bench.into_program();
    end
}

fn one_frame(bench: &mut Bench, random: &mut Random, traffic: &mut Traffic, tally: &mut Tally) -> Result<()> {
    if random.one_in(40) {
        let ticks = jump(random);
        bench.advance(ticks)?;
    }
    if random.one_in(4) {
        bench.inputs(bench.now(), random.bits() as u32)?;
    }
    if random.one_in(60) {
        bench.change(|scenario| change(random, scenario))?;
    }
    let (frame, ifindex) = traffic.next_frame();
    let verdict = bench.run(&frame, ifindex)?;
    if ["not_ours", "not_ip", "arp_other", "arp_vip_claimed", "already_balanced", "no_connection"]
        .contains(&verdict.reason)
    {
        ensure!(verdict.bytes == frame, "a frame that is not ours was changed: {verdict:?}");
    }
    *tally.entry(verdict.reason).or_default() += 1;
    traffic.heard(&verdict);
    if random.one_in(100) {
        bench.snapshot()?;
    }
    Ok(())
}

fn run(seeds: impl Iterator<Item = u64> + Send, through_program: bool) -> Tally {
    let all = |mut program: Option<Program>| {
        let mut tally = Tally::new();
        for seed in seeds {
            sequence(seed, &mut program, &mut tally)?;
        }
        Ok(tally)
    };
    let first = scenario(&mut Random::new(0));
    let result = if through_program && root_or_say_so("the loaded program's part of the random traffic") {
        with_ports(|| all(Some(Program::load(&first)?)))
    } else {
        all(None)
    };
    result.unwrap_or_else(|failure: anyhow::Error| panic!("{failure:#}"))
}

/// The seeds of so many frames: all, with `LB_FIRST=<seed>` from another one on.
fn seeds(frames: usize) -> std::ops::Range<u64> {
    let first = std::env::var("LB_FIRST").map_or(0, |n| n.parse().expect("LB_FIRST is a number"));
    println!("seeds from {first} on");
    first..first + frames.div_ceil(FRAMES) as u64
}

#[test]
fn random_traffic_on_the_host() {
    run(seeds(ORDINARY), false);
}

#[test]
fn random_traffic() {
    if let Ok(seed) = std::env::var("LB_SEED") {
        let seed = seed.parse().expect("LB_SEED is a number");
        println!("{:?}", run(std::iter::once(seed), true));
        return;
    }
    let long = std::env::var_os("LB_LONG").is_some_and(|v| v == "1");
    let frames: usize = if long { 10_000_000 } else { ORDINARY };
    let tally = run(RECORDED.iter().copied().chain(seeds(frames)), true);
    println!("{tally:?}");
    // Traffic that does not reach a verdict tests nothing about it.
    for reason in [
        "to_backend_redirect",
        "to_backend_transmit",
        "to_backend_switch",
        "to_client_redirect",
        "to_client_transmit",
        "to_client_switch",
        "arp_answered",
        "not_ours",
        "not_ip",
        "arp_other",
        "arp_vip_claimed",
        "already_balanced",
        "no_connection",
        "vip_no_service",
        "ndp_answered",
        "ndp_vip_claimed",
        "echo_answered",
        "too_big_answered",
        "icmp_to_backend",
        "icmp_to_client",
        "icmp_no_connection",
        "fragment_to_backend",
        "fragment_unknown",
        "neighbour_corrected",
        "neighbour_to_backend",
        "vip_extension",
        "denied",
        "new_flow_cap",
        "vip_malformed",
        "no_backend",
        "hairpin",
        "reply_ambiguous",
    ] {
        assert!(tally.get(reason).is_some_and(|n| *n >= 5), "{reason} was hardly reached: {tally:?}");
    }
}
