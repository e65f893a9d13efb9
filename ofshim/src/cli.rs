//! The command line.

pub mod backend;
pub mod balance;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::backend::BackendArgs;
use self::balance::BalanceArgs;
use crate::core;
use crate::core::net::explain::End;

/// Status of the process when a check of `doctor` fails, or a drain that was waited for left connections behind.
pub const EXIT_FAILED: u8 = 1;
/// Status of the process for input that is refused.
pub const EXIT_REFUSED: u8 = 2;

/// OpenFlow controller: forwards everything that the balancer does not.
#[derive(Debug, Parser)]
#[command(name = "ofshim", version, arg_required_else_help = true)]
pub struct Cli {
    /// Folder of the controller's socket
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/ofshim")]
    pub run_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller in the foreground
    Run(Box<RunArgs>),
    /// Show the controller, its switches, and what it knows of the balancer
    Status(ReadArgs),
    /// Show the switches and their ports
    Topology(ReadArgs),
    /// Show the hosts that are learned
    Hosts(ReadArgs),
    /// Show the controller's own flow entries
    Flows(ReadArgs),
    /// Show the shortest ways from one host or port to another
    Route(RouteArgs),
    /// Say where a flow would go, and why
    Explain(ExplainArgs),
    /// Show the backends that are balanced by flow entries; drain, disable, enable, weigh, add and remove them
    Backend(BackendArgs),
    /// Show the counters as Prometheus reads them
    Metrics,
    /// Look for what keeps Open vSwitch's bridges from being served, and name what mends it
    Doctor(DoctorArgs),
    /// Print the OpenAPI document of the HTTP interface; no controller has to run
    Openapi,
    /// Balance packets without a network, for 'lb compare equivalence': JSON lines in, JSON lines out
    Replay(ReplayArgs),
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The balancer's configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `route`.
#[derive(Debug, Args)]
pub struct RouteArgs {
    /// Where it starts: a MAC, an IP address, or a port as 0000000000000001:3
    pub from: End,
    /// Where it ends, written the same
    pub to: End,
    /// How many ways, cheapest first
    #[arg(short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub k: u8,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The host that sends: a MAC or an IP address
    pub from: End,
    /// The host or VIP that it sends to
    pub to: End,
    /// The protocol
    #[arg(default_value = "icmp")]
    pub protocol: Protocol,
    /// Source port of TCP and UDP
    #[arg(long, value_name = "PORT", default_value_t = 40_000)]
    pub src_port: u16,
    /// Destination port of TCP and UDP
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub dst_port: u16,
    /// VLAN id [default: the sender's]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(0..=4095))]
    pub vlan: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Protocols that `explain` knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Echo and errors; in IPv6 its own ICMP.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The number in IPv4.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Addresses to listen on for switches
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:6653,127.0.0.1:6633",
        value_parser = listen_address
    )]
    pub listen: Vec<SocketAddr>,
    /// The only OpenFlow version to speak [default: the higher one that the switch has too]
    #[arg(long, value_name = "VERSION")]
    pub openflow: Option<OpenFlow>,
    /// The balancer's configuration file, for VIPs, virtual MACs and backends
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the orders about backends, which outlive the controller, with --lb openflow [default: the run folder]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The balancer's socket; what the daemon says replaces the file's knowledge
    #[arg(long, value_name = "SOCKET", default_value = "/run/lb/lb.sock")]
    pub lb_socket: PathBuf,
    /// The role to ask for on every switch; one that is refused ends the connection
    #[arg(long, value_name = "ROLE")]
    pub role: Option<Role>,
    /// The generation id of the role; only grows [default: milliseconds since 1970]
    #[arg(long, value_name = "N", requires = "role")]
    pub generation: Option<u64>,
    /// How packets are forwarded [default: routed; with --lb pox, nox and nox-packets hub]
    #[arg(long, value_name = "HOW")]
    pub forwarding: Option<Forwarding>,
    /// Which balancer runs in the controller; auto: none as long as XDP balances
    #[arg(long, value_name = "BALANCER", default_value = "auto")]
    pub lb: Balancer,
    /// How flow entries are made and the VIP of the command line, with --lb openflow.
    #[command(flatten)]
    pub balance: BalanceArgs,
    /// Address of the VIP, with --lb openflow and pox
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Addresses of the backends, divided by commas, with --lb openflow and pox
    #[arg(long, value_name = "ADDRESSES")]
    pub servers: Option<String>,
    /// Datapath id of the switch to balance on, with --lb pox and nox [default: the first that connects]
    #[arg(long, value_name = "ID")]
    pub dpid: Option<String>,
    /// Seconds of silence after which hosts and connections are forgotten, with --lb nox [default: 90]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(3..=86_400))]
    pub age: Option<u64>,
    /// What the entries of routes match
    #[arg(long = "match", value_name = "WHAT", default_value = "five-tuple")]
    pub granularity: Granularity,
    /// What routes are judged by
    #[arg(long, value_name = "METRIC", default_value = "hops")]
    pub metric: Metric,
    /// Milliseconds from one reading of the ports' counters to the next [default: 2000 with --metric utilisation, else never]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(500..=600_000))]
    pub port_statistics: Option<u64>,
    /// Speed of all ports in Mbit/s, instead of what they say
    #[arg(long, value_name = "MBIT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub port_speed: Option<u32>,
    /// Take the first of several equal paths for all flows, instead of spreading them
    #[arg(long)]
    pub single_path: bool,
    /// Install the ways to hosts on all switches ahead of their traffic
    #[arg(long)]
    pub proactive: bool,
    /// Leave ARP and neighbour discovery to the hosts, instead of answering from knowledge
    #[arg(long)]
    pub no_proxy: bool,
    /// Look for no links between switches; only for networks without any
    #[arg(long)]
    pub no_discovery: bool,
    /// Milliseconds from one discovery frame of a port to the next, in networks of up to 500 ports
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub discovery_period: u64,
    /// Seconds without a packet after which a forwarding entry goes; 0 never
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub idle_timeout: u16,
    /// Seconds after which a forwarding entry goes in any case; 0 never
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub hard_timeout: u16,
    /// Serve the counters to Prometheus on this TCP address too, at /metrics and nothing else
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub metrics: Option<SocketAddr>,
    /// Key of this controller's certificate, PEM; with the next two, switches connect by TLS and show certificates
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_ca"])]
    pub tls_key: Option<PathBuf>,
    /// This controller's certificate, PEM, followed by those in between to its CA, if there are any
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    pub tls_cert: Option<PathBuf>,
    /// Certificates of the CAs that vouch for switches, PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_cert"])]
    pub tls_ca: Option<PathBuf>,
    /// How much is logged; the environment variable OFSHIM_LOG goes before it
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Bridges to look at [default: all]
    #[arg(value_name = "BRIDGE")]
    pub bridges: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the read commands.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The OpenFlow versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OpenFlow {
    /// 1.0, wire version 1.
    #[value(name = "1.0")]
    V1_0,
    /// 1.3, wire version 4.
    #[value(name = "1.3")]
    V1_3,
}

/// Roles that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Full access, as all others (OpenFlow: equal).
    Equal,
    /// Full access, and all others read only (OpenFlow: master).
    #[value(alias = "master")]
    Primary,
}

/// How packets are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forwarding {
    /// Along shortest paths, with entries on all switches of the way.
    Routed,
    /// Switch by switch, as bridges do it, along the broadcast tree.
    Learning,
    /// To every port of the broadcast tree, frame by frame.
    Hub,
    /// By nobody, with --lb pox: as POX's balancer without another application.
    None,
}

/// Which balancer runs in the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Balancer {
    /// That of the balancer's daemon, by flow entries: when it hands over, or XDP is not there.
    Auto,
    /// None: balancing is XDP's.
    None,
    /// That of the configuration, by flow entries.
    Openflow,
    /// POX's ip_loadbalancer, as it was.
    Pox,
    /// That of the NOX article, repaired: with flow entries.
    Nox,
    /// That of the NOX article, as it was: every packet through the controller.
    NoxPackets,
}

impl Balancer {
    /// The word for it, as on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Openflow => "openflow",
            Self::Pox => "pox",
            Self::Nox => "nox",
            Self::NoxPackets => "nox-packets",
        }
    }
}

/// What the entries of routes match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Granularity {
    /// Port, VLAN, MACs, IP addresses, protocol, TCP and UDP ports.
    FiveTuple,
    /// VLAN, MACs, IP addresses.
    Addresses,
    /// Port, VLAN, MACs, IP addresses.
    PortAddresses,
    /// VLAN and MACs.
    Macs,
}

/// What routes are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// The number of links.
    Hops,
    /// The latency measured by discovery.
    Latency,
    /// The ports' speed.
    Speed,
    /// How much of their speed is used.
    Utilisation,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What ends the program.
    Error,
    /// What a person should look at.
    Warn,
    /// Changes of state.
    Info,
    /// Details of the protocol.
    Debug,
    /// Everything.
    Trace,
}

impl From<Forwarding> for core::Forwarding {
    fn from(asked: Forwarding) -> Self {
        match asked {
            Forwarding::Routed => Self::Routed,
            Forwarding::Learning => Self::Learning,
            Forwarding::Hub => Self::Hub,
            Forwarding::None => Self::None,
        }
    }
}

impl From<Granularity> for core::net::Granularity {
    fn from(asked: Granularity) -> Self {
        match asked {
            Granularity::FiveTuple => Self::FiveTuple,
            Granularity::Addresses => Self::Addresses,
            Granularity::PortAddresses => Self::PortAddresses,
            Granularity::Macs => Self::Macs,
        }
    }
}

impl From<Metric> for core::net::Metric {
    fn from(asked: Metric) -> Self {
        match asked {
            Metric::Hops => Self::Hops,
            Metric::Latency => Self::Latency,
            Metric::Speed => Self::Speed,
            Metric::Utilisation => Self::Utilisation,
        }
    }
}

impl LogLevel {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.trim()
        .parse()
        .map_err(|_| "write an IP address and a port from 0 to 65535, as in 127.0.0.1:6653".to_owned())
}

/// The one line for a command line that is refused; `None` for a request for help or the version.
#[must_use]
pub fn refusal(error: &clap::Error) -> Option<String> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) {
        return None;
    }
    let text = error.render().to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more information").next().unwrap_or_default();
    let lines: Vec<&str> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Some(lines.join(" ").trim_start_matches("error: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn refusals_are_one_line() {
        let refused = |arguments: &[&str]| refusal(&Cli::try_parse_from(arguments).unwrap_err());
        let bad = refused(&["ofshim", "run", "--listen", "127.0.0.1:70000"]).unwrap();
        assert_eq!(
            bad,
            "invalid value '127.0.0.1:70000' for '--listen <ADDR:PORT>': write an IP address and a port from 0 to \
             65535, as in 127.0.0.1:6653"
        );
        let unknown = refused(&["ofshim", "run", "--nonsense"]).unwrap();
        assert!(unknown.contains("--nonsense") && !unknown.contains('\n'), "{unknown}");
        assert_eq!(refused(&["ofshim", "--help"]), None);
    }

    #[test]
    fn defaults() {
        let cli = Cli::try_parse_from(["ofshim", "run"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        let ports: Vec<u16> = run.listen.iter().map(SocketAddr::port).collect();
        assert_eq!((ports, run.openflow), (vec![6653, 6633], None));
        assert_eq!((run.idle_timeout, run.hard_timeout), (10, 120));
    }
}
