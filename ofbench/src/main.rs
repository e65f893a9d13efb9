//! `ofbench`: how fast does an OpenFlow controller answer packet-ins?
//!
//! `ofbench switches` is many switches that are none: each connects, says how its hosts announce themselves, and then
//! sends packet-ins of those hosts' traffic, as cbench does. Every packet carries a number that the packet-out which
//! answers it brings back, so that each packet-in is counted once, whatever else the controller sends for it.
//! `ofbench null` is the controller that decides nothing, to know the most that the generator can measure.

mod cpu;
mod drive;
mod null;
mod packet;
mod switch;
mod table;

use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use openflow::Version;

#[derive(Parser)]
#[command(name = "ofbench", about = "Measures how fast an OpenFlow controller answers packet-ins")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Connect many fake switches to a controller, and print a line of JSON
    Switches(Switches),
    /// Be a controller that answers every packet-in alike
    Null {
        /// Where to listen; the address is printed
        #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR:PORT")]
        listen: SocketAddr,
    },
}

#[derive(clap::Args)]
struct Switches {
    /// The controller
    #[arg(long, value_name = "ADDR:PORT")]
    connect: SocketAddr,
    /// The controller's process id, for its processor time
    #[arg(long)]
    pid: Option<u32>,
    /// How many switches
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    switches: u16,
    /// 1.0 or 1.3
    #[arg(long, default_value = "1.3", value_parser = version)]
    openflow: Version,
    /// Hosts behind each switch
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=65536))]
    hosts: u32,
    /// Ports that the hosts of a switch are spread over
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=1024))]
    ports: u16,
    /// Pairs of hosts of a switch that send, one after the other [default: as many as hosts]
    #[arg(long)]
    flows: Option<u32>,
    /// Entries that a switch has room for: the oldest goes for a new one, and the controller is told; 0 keeps all
    #[arg(long, default_value_t = 0)]
    table: usize,
    /// Packets of a switch that may wait for an answer; 1 measures latency
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65536))]
    window: u32,
    /// Open connections to this VIP from the hosts of the first switch, each another one, in place of other packets; the
    /// hosts answer probes, so that the controller's backends may be among them (10.0.0.1 and so on)
    #[arg(long, value_name = "ADDRESS:PORT")]
    vip: Option<SocketAddrV4>,
    /// Milliseconds from the handshakes to the first packets
    #[arg(long, default_value_t = 2500)]
    settle: u64,
    /// Milliseconds of packets before the measurement
    #[arg(long, default_value_t = 1000)]
    warm_up: u64,
    /// Milliseconds that are measured
    #[arg(long, default_value_t = 5000)]
    measure: u64,
}

fn version(word: &str) -> Result<Version, String> {
    match word {
        "1.0" => Ok(Version::V1_0),
        "1.3" => Ok(Version::V1_3),
        _ => Err("1.0 or 1.3".to_owned()),
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Switches(args) => switches(&args),
        Command::Null { listen } => null(listen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn switches(args: &Switches) -> Result<()> {
    let (hosts, ports) = (args.hosts, u32::from(args.ports));
    ensure!(hosts.is_multiple_of(ports), "--hosts {hosts}: they have to spread evenly over {ports} ports");
    let pairs = u64::from(hosts) * u64::from(hosts - hosts / ports);
    let flows = args.flows.unwrap_or(hosts);
    ensure!(
        flows > 0 && u64::from(flows) <= pairs,
        "--flows {flows}: there are {pairs} pairs of hosts at different ports"
    );
    let plan = drive::Plan {
        connect: args.connect,
        switches: args.switches,
        shape: switch::Shape {
            version: args.openflow,
            hosts: args.hosts,
            ports: args.ports,
            flows,
            table: args.table,
            window: args.window as usize,
            vip: args.vip,
        },
        settle: Duration::from_millis(args.settle),
        warm_up: Duration::from_millis(args.warm_up),
        measure: Duration::from_millis(args.measure),
        pid: args.pid,
    };
    println!("{}", serde_json::to_string(&drive::run(&plan)?)?);
    Ok(())
}

fn null(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    println!("listening on {}", listener.local_addr()?);
    null::serve(&listener)
}
