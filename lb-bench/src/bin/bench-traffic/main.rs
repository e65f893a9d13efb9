//! Traffic between hosts: a server that counts, and clients that offer load and print what came of it as one JSON object.
//! `cargo xtask bench mininet` runs both in the namespaces of hosts.
//!
//! A connection begins with a byte that says what it is for: see [`lb_bench::protocol::Task`].

mod load;
mod serve;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use load::Sending;

#[derive(Parser)]
#[command(about = "Serves and offers traffic between hosts, and counts it")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer requests, swallow bulk data and datagrams; prints `ready` when it listens
    Serve {
        /// Port for load, TCP and UDP, at every address
        #[arg(long, value_name = "PORT")]
        port: u16,
        /// TCP port for questions about the counters
        #[arg(long, value_name = "PORT")]
        control: u16,
        /// The address to serve at
        #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
        address: IpAddr,
    },
    /// Send as much as goes through one connection
    Bulk {
        #[command(flatten)]
        offer: Offer,
    },
    /// Open connections one after the other: a request and an answer on each, which the server closes
    Connect {
        #[command(flatten)]
        offer: Offer,
        /// Clients that do so at the same time
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
        workers: u32,
    },
    /// The same at a fixed rate, however long an answer takes: how long each took from when it was due
    Latency {
        #[command(flatten)]
        offer: Offer,
        /// Requests a second
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        rate: u32,
        /// Clients that share them
        #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
        workers: u32,
    },
    /// Send small datagrams as fast as they go out, and ask the servers how many came
    Udp {
        #[command(flatten)]
        offer: Offer,
        /// The servers' ports for questions, separated by commas
        #[arg(long, value_name = "ADDRESS:PORT", value_delimiter = ',', required = true)]
        control: Vec<SocketAddr>,
        /// Bytes of a datagram's data
        #[arg(long, value_name = "N", default_value_t = 18, value_parser = clap::value_parser!(u32).range(1..=1400))]
        bytes: u32,
        /// Threads that send, each a flow of its own
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
        senders: u32,
        /// Hand the kernel 64 datagrams in one piece, which it cuts up (UDP_SEGMENT), instead of one by one
        #[arg(long)]
        segmented: bool,
    },
}

/// To whom, and for how long.
#[derive(clap::Args)]
struct Offer {
    /// Where to: of several, separated by commas, each in turn
    #[arg(long, value_name = "ADDRESS:PORT", value_delimiter = ',', required = true)]
    to: Vec<SocketAddr>,
    /// For so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("from 0.01 to 3600".to_owned()) }
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
    let time = |offer: &Offer| Duration::from_secs_f64(offer.seconds);
    let result = match command {
        Command::Serve { port, control, address } => return serve::run(address, port, control),
        Command::Bulk { offer } => load::bulk(offer.to[0], time(&offer))?,
        Command::Connect { offer, workers } => load::connect(&offer.to, time(&offer), workers)?,
        Command::Latency { offer, rate, workers } => load::latency(&offer.to, time(&offer), rate, workers)?,
        Command::Udp { offer, control, bytes, senders, segmented } => {
            let sending = if segmented { Sending::Segmented } else { Sending::Single };
            load::udp(offer.to[0], &control, time(&offer), bytes as usize, senders, sending)?
        }
    };
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}
