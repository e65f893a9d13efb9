//! Connections at a rate that is offered and not adapted, and what becomes of them: an open-loop load generator, and the
//! server that it asks. `cargo xtask compare` runs both in the namespaces of hosts; each prints one JSON object.
//!
//! All latencies count from when a connection was *due*, not from when it began: a service that stalls is charged with
//! everything that waited for it ("coordinated omission" does not happen).

mod hold;
mod load;
mod outcome;
mod schedule;
mod serve;
mod sources;
mod step;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lb_bench::poll::{go_before_others, monotonic_ns, prepare_process};
use lb_bench::protocol;
use serde_json::json;

use crate::load::Load;
use crate::outcome::Outcome;
use crate::schedule::{Schedule, Spacing};
use crate::sources::Sources;

#[derive(Parser)]
#[command(about = "Offers connections at a rate of their own, and counts what becomes of them")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer requests and connections that stay, with a name; prints `ready` when it listens
    Serve {
        /// The name in every answer, 1 to 16 bytes
        #[arg(long, value_parser = protocol::name)]
        name: protocol::Name,
        /// TCP port
        #[arg(long, value_name = "PORT")]
        port: u16,
        /// The address to serve at
        #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
        address: IpAddr,
    },
    /// Offer new connections at one rate: a request and an answer on each, which the server closes
    Open {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        offer: Offer,
        /// Connections a second
        #[arg(long, value_name = "N", default_value_t = 200.0, value_parser = rate)]
        rate: f64,
    },
    /// Offer rising rates until one breaks, then some between the last good one and that
    Step {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        offer: Offer,
        #[command(flatten)]
        climb: Climb,
    },
    /// Hold connections that ask again and again, and check that the same backend answers. Prints one object when all are
    /// open, and another at the end
    Churn {
        #[command(flatten)]
        to: To,
        /// Connections to hold
        #[arg(long, value_name = "N", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
        flows: u32,
        /// Connections opened in a second
        #[arg(long, value_name = "N", default_value_t = 500.0, value_parser = rate)]
        open_rate: f64,
        /// Milliseconds from one question of a connection to its next
        #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
        interval_ms: u64,
        /// Milliseconds after which a question without an answer breaks its connection
        #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
        patience_ms: u64,
        /// Seconds to hold them once all are open
        #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
        seconds: f64,
    },
    /// Offer connections while a backend dies: `last_failed_ns` is when the last one was due that it still got, by
    /// CLOCK_MONOTONIC
    Alive {
        #[command(flatten)]
        to: To,
        /// Connections a second
        #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
        rate: f64,
        /// For so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 15.0, value_parser = seconds)]
        seconds: f64,
        /// Milliseconds after which a connection has gone to the dead backend: less than TCP takes to try again
        #[arg(long, value_name = "MS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
        patience_ms: u64,
    },
}

/// To whom, and from where.
#[derive(clap::Args)]
struct To {
    /// Where to: of several, separated by commas, each in turn
    #[arg(long, value_name = "ADDRESS:PORT", value_delimiter = ',', required = true)]
    to: Vec<SocketAddr>,
    /// Source addresses, separated by commas, each in turn [default: the system's choice]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    from: Vec<IpAddr>,
    /// The first source port; those after it follow, and each comes back after all others [default: any]
    #[arg(long, value_name = "PORT")]
    first_port: Option<u16>,
}

impl To {
    fn sources(&self) -> Sources {
        // Not where the process before began: what that left in a switch or balancer would serve these.
        let port = self.first_port.unwrap_or((monotonic_ns() / 1_000_000 % 60_000) as u16 + 2000);
        Sources::new(self.from.clone(), port)
    }
}

/// What is offered in each step.
#[derive(clap::Args)]
struct Offer {
    /// For so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// How the connections lie in time
    #[arg(long, value_enum, default_value_t = Spacing::Poisson)]
    spacing: Spacing,
    /// What determines the distances of `poisson`
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Milliseconds after which a connection without an answer has failed
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    patience_ms: u64,
}

/// How far the steps go.
#[derive(clap::Args)]
struct Climb {
    /// The first rate, connections a second
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
    first: f64,
    /// The largest rate
    #[arg(long, value_name = "N", default_value_t = 51_200.0, value_parser = rate)]
    most: f64,
    /// Each rate is so many times the one before
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = growth)]
    growth: f64,
    /// Rates to try between the last good one and the breaking one
    #[arg(long, value_name = "N", default_value_t = 2)]
    refine: u32,
    /// Share of the offered connections that a good rate completes
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = share)]
    completed: f64,
    /// Milliseconds that the 99th percentile of a good rate does not exceed
    #[arg(long, value_name = "MS", default_value_t = 100.0, value_parser = positive)]
    limit_ms: f64,
    /// A rate is broken if so many attempts are
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    attempts: u32,
    /// Milliseconds of rest between two steps
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pause_ms: u64,
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("from {least} to {most}")) }
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.01, 3600.0)
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.1, 1e6)
}

fn growth(text: &str) -> Result<f64, String> {
    number(text, 1.01, 100.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0)
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, 0.001, 1e9)
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let files = prepare_process().context("cannot raise the limit of open files")?;
    if !matches!(command, Command::Serve { .. }) {
        go_before_others();
    }
    // Some descriptors are the program's own.
    let most_open = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(64);
    let result = match command {
        Command::Serve { name, port, address } => {
            let listener = serve::listen(SocketAddr::new(address, port))?;
            tell("ready")?;
            return serve::run(&listener, &name);
        }
        Command::Open { to, offer, rate } => {
            offer_at(&to, &offer, rate, most_open, &mut to.sources())?.json()
        }
        Command::Step { to, offer, climb } => {
            let mut sources = to.sources();
            step::climb(&climb.limits(), |rate| offer_at(&to, &offer, rate, most_open, &mut sources))?
        }
        Command::Churn { to, flows, open_rate, interval_ms, patience_ms, seconds } => {
            let hold = hold::Hold {
                to: &to.to,
                flows,
                open_rate,
                interval: Duration::from_millis(interval_ms),
                patience: Duration::from_millis(patience_ms),
                time: Duration::from_secs_f64(seconds),
            };
            hold::run(&hold, &mut to.sources(), |opened| tell(opened))?
        }
        Command::Alive { to, rate, seconds, patience_ms } => {
            let offer = Offer { seconds, spacing: Spacing::Fixed, seed: 0, patience_ms };
            let begin_ns = monotonic_ns();
            let mut value = offer_at(&to, &offer, rate, most_open, &mut to.sources())?.json();
            value["begin_ns"] = json!(begin_ns);
            value["end_ns"] = json!(begin_ns + (seconds * 1e9) as u64);
            value
        }
    };
    tell(&result)
}

fn offer_at(to: &To, offer: &Offer, rate: f64, most_open: usize, sources: &mut Sources) -> Result<Outcome> {
    let time = Duration::from_secs_f64(offer.seconds);
    let load = Load { to: &to.to, patience: Duration::from_millis(offer.patience_ms), most_open };
    // Other distances at each rate, and the same ones in every run.
    let schedule = Schedule::new(offer.spacing, rate, time, offer.seed ^ rate.to_bits());
    load::offer(&load, schedule, sources)
}

impl Climb {
    fn limits(&self) -> step::Limits {
        step::Limits {
            first: self.first,
            most: self.most,
            growth: self.growth,
            refine: self.refine,
            completed_share: self.completed,
            p99_us: self.limit_ms * 1e3,
            attempts: self.attempts,
            pause: Duration::from_millis(self.pause_ms),
        }
    }
}

/// A line on standard output, at once.
fn tell(line: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
