//! The command line: what can be asked for, and how it is refused.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use lb_core::host::config::{Arguments, Config};

use crate::conns::{Clients, Fields, MAX_LIMIT, PROTOCOLS, Place, STATES};
use crate::control::cli::{BackendArgs, ModeArgs, ReloadArgs, UpgradeArgs};
use crate::daemon::Options;
use crate::equivalence::command::CompareArgs;
use crate::failure::Failure;

/// Where the daemon's socket, lock and record are unless told otherwise.
pub const RUN_DIR: &str = "/run/lb";
/// Where maps and links are pinned unless told otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/lb";

/// An XDP load balancer for Open vSwitch and Mininet.
#[derive(Debug, Parser)]
#[command(name = "lb", version, disable_help_subcommand = true, arg_required_else_help = false)]
#[command(subcommand_required = true)]
#[command(after_help = "Example:\n  lb run --ip 10.0.1.1 --servers 10.0.0.1,10.0.0.2\n  lb status")]
pub struct Cli {
    /// Folder of the daemon's socket, lock and record
    #[arg(long, global = true, value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// Folder on a bpffs in which maps and links are pinned
    #[arg(long, global = true, value_name = "DIR", default_value = PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Print one JSON document instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Balance: attach the programs, probe the backends, answer the other commands
    #[command(after_help = "Examples:\n  \
        lb run --ip 10.0.1.1 --servers 10.0.0.1,10.0.0.2\n  \
        lb run --ip 10.0.1.1 --servers 10.0.0.1,10.0.0.2 --placement onearm --host lb1\n  \
        lb run --config lb.toml\n\n\
        Ends on SIGTERM or Ctrl-C; forwarding goes on until 'lb detach'.")]
    Run(Box<RunArgs>),
    /// Show placement, interfaces, VIPs and backends
    #[command(after_help = "Example:\n  lb status --json")]
    Status,
    /// Show the backends and why each is up or down; drain, disable, enable, weigh, add, remove them
    #[command(
        alias = "backends",
        after_help = "Examples:\n  lb backend\n  lb backend drain h1 --deadline 60s --wait\n  \
            lb backend add 10.0.0.4 --vip web\n\n\
            Changes outlive restarts of the daemon, until they are taken back."
    )]
    Backend(BackendArgs),
    /// Say who balances, or let flow entries of the controller balance, or XDP again
    #[command(after_help = "Examples:\n  lb mode\n  lb mode openflow\n  lb mode xdp\n\n\
            Open connections go along and stay with their backends. 'openflow' needs a running ofshim.")]
    Mode(ModeArgs),
    /// Read the configuration file again and apply what changed
    #[command(after_help = "Examples:\n  lb reload --check\n  lb reload\n\n\
            SIGHUP does the same as 'lb reload'. Tracked connections stay; a file with a mistake changes nothing.")]
    Reload(ReloadArgs),
    /// Replace the running XDP programs under load, without losing a packet or a connection
    #[command(
        after_help = "Examples:\n  lb upgrade --verify\n  lb upgrade --verify --window 10s --object lb.bpf.o\n\n\
            Exit status 1 says that the new programs were taken back, 2 that they were refused."
    )]
    Upgrade(UpgradeArgs),
    /// List tracked connections
    #[command(
        alias = "connections",
        after_help = "Examples:\n  \
            lb conn --limit 20 --vip 10.0.1.1/tcp --backend 10.0.0.1\n  \
            lb conn --client 10.0.0.0/24 --state established --page 2"
    )]
    Conn(ConnArgs),
    /// Show the counters: where every packet ended, traffic by VIP and backend
    #[command(after_help = "Example:\n  lb stats --reasons-all")]
    Stats(StatsArgs),
    /// Show packets, bits and connections a second as they go, by VIP, backend and reason
    #[command(after_help = "Example:\n  lb top --interval 2\n\nEnds on q or Ctrl-C.")]
    Top(TopArgs),
    /// Say what would happen to a packet, and why
    #[command(after_help = "Examples:\n  \
        lb explain 10.0.0.3:40000 10.0.1.1:80 tcp\n  \
        lb explain 10.0.0.3:40000 10.0.1.1:80 --with other.toml\n  \
        lb explain --pcap seen.pcap --in s1-eth3\n\n\
        Nothing is sent, and nothing is changed.")]
    Explain(ExplainArgs),
    /// Hold the modes against each other
    Compare(CompareArgs),
    /// Print connections as they are opened
    #[command(
        after_help = "Examples:\n  lb events --vip web\n  lb events --count 10 --json\n\nEnds on Ctrl-C."
    )]
    Events(EventsArgs),
    /// Write what the balancer sees, with its verdicts, to a pcapng file
    #[command(after_help = "Examples:\n  \
        lb capture seen.pcapng --vip web --seconds 10\n  \
        lb capture - --reason vip_no_service | wireshark -k -i -\n\n\
        Ends on Ctrl-C. The first 128 bytes of each packet are kept.")]
    Capture(CaptureArgs),
    /// Check the machine and name what mends it; needs no daemon
    #[command(
        after_help = "Examples:\n  lb doctor\n  lb doctor --host lb1\n\nExit status 1 if a check fails."
    )]
    Doctor(DoctorArgs),
    /// Undo everything: end the daemon, remove the programs, restore the offloads
    #[command(after_help = "Example:\n  lb detach")]
    Detach,
}

/// Arguments of `lb run`. Words are checked with the configuration, so that each refusal is worded once.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file; instead of the arguments that describe one VIP
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the VIP
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Addresses of the backends, divided by commas, each with an optional port
    #[arg(long, value_name = "ADDRESSES")]
    pub servers: Option<String>,
    /// Port of the VIP; without it every port of the protocol
    #[arg(long, value_name = "PORT", allow_hyphen_values = true)]
    pub port: Option<String>,
    /// tcp or udp [default: tcp]
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// random, round-robin, source-hash, flow-hash, maglev or least-connections [default: random]
    #[arg(long, value_name = "SELECTION")]
    pub selection: Option<String>,
    /// nat, fullnat or dsr [default: nat, with --placement onearm dsr]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// inline (on the switch's ports) or onearm (on the NIC of a host) [default: inline]
    #[arg(long, value_name = "PLACEMENT")]
    pub placement: Option<String>,
    /// The host that balances, with --placement onearm
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Interfaces to attach to, divided by commas or given again; without it they are found
    #[arg(long, value_name = "INTERFACES", value_delimiter = ',')]
    pub attach: Vec<String>,
    /// How backends are probed: default, or pox (5 s between probes, 3 s patience)
    #[arg(long, value_name = "PRESET", alias = "probe-preset")]
    pub health: Option<String>,
    /// Load this XDP object instead of the one in the binary
    #[arg(long, value_name = "FILE")]
    pub object: Option<PathBuf>,
    /// Serve the counters to Prometheus on this TCP address too, at /metrics
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Folder of the controller's socket, for 'lb mode'
    #[arg(long, value_name = "DIR", default_value = "/run/ofshim")]
    pub ofshim_dir: PathBuf,
    /// Keep run-time changes (states, weights, backends added and removed) in this folder [default: the run folder]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Log a line for each packet; slow
    #[arg(long)]
    pub log_packets: bool,
    /// What to log: error, warn, info, debug, trace; the environment variable LB_LOG goes before it
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::level_filters::LevelFilter,
}

/// Arguments of `lb conn`.
#[derive(Debug, Args)]
pub struct ConnArgs {
    /// List this many at most [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_LIMIT as i64))]
    pub limit: Option<u32>,
    /// Show this page of the list, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "after")]
    pub page: Option<u32>,
    /// Go on behind this connection, as the end of a list names it
    #[arg(long, value_name = "CONNECTION")]
    pub after: Option<Place>,
    /// Only those of the VIP of this name
    #[arg(long, value_name = "NAME")]
    pub vip: Option<String>,
    /// Only those of this backend: its name, its address, or address and port
    #[arg(long, value_name = "BACKEND")]
    pub backend: Option<String>,
    /// Only those of these clients: address, prefix, or address and port
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_parser = STATES)]
    pub state: Option<String>,
    /// Only those of this protocol
    #[arg(long, value_name = "PROTOCOL", value_parser = PROTOCOLS)]
    pub protocol: Option<String>,
}

impl ConnArgs {
    /// As the daemon is asked.
    ///
    /// # Errors
    /// `--client` is none.
    pub fn fields(self) -> Result<Fields, Failure> {
        let Self { limit, page, after, vip, backend, client, state, protocol } = self;
        if let Some(client) = &client {
            client
                .parse::<Clients>()
                .map_err(|why| Failure::wrong(format!("--client {client}: {why}; see 'lb conn --help'")))?;
        }
        Ok(Fields {
            limit: limit.map(|limit| limit.to_string()),
            page: page.map(|page| page.to_string()),
            after: after.map(|place| place.to_string()),
            vip,
            backend,
            client,
            state,
            protocol,
        })
    }
}

/// Arguments of `lb top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two screens
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// End after this many screens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Arguments of `lb stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show also the reasons that no packet ended with
    #[arg(long)]
    pub reasons_all: bool,
}

/// Arguments of `lb explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The client's address and port
    #[arg(value_name = "CLIENT:PORT", required_unless_present = "pcap", requires = "vip")]
    client: Option<SocketAddr>,
    /// The address and port that it sends to
    #[arg(value_name = "VIP:PORT", conflicts_with = "pcap")]
    vip: Option<SocketAddr>,
    /// tcp (a SYN) or udp
    #[arg(value_name = "PROTOCOL", value_parser = PROTOCOLS, default_value = "tcp")]
    protocol: String,
    /// Explain the frames of this file: pcap or pcapng, Ethernet
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// With the tables that this configuration would make, and the health and connections of the running balancer
    #[arg(long, value_name = "FILE")]
    pub with: Option<PathBuf>,
    /// The interface that the packet comes in on; without it that of the host with its source address
    #[arg(long = "in", value_name = "INTERFACE")]
    pub interface: Option<String>,
}

impl ExplainArgs {
    /// The client and where it sends to; `None` with a file.
    pub fn pair(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.client.zip(self.vip)
    }

    /// TCP, else UDP.
    pub fn is_tcp(&self) -> bool {
        self.protocol == "tcp"
    }
}

/// Arguments of `lb events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Only those of the VIP of this name
    #[arg(long, value_name = "NAME")]
    pub vip: Option<String>,
    /// End after this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
}

/// Arguments of `lb capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// The file; - is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only packets from or to the address of the VIP of this name
    #[arg(long, value_name = "NAME")]
    pub vip: Option<String>,
    /// Only packets that end with this reason
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Write rewritten packets also as they leave
    #[arg(long)]
    pub rewritten: bool,
    /// End after this many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
}

/// Arguments of `lb doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at these interfaces only, divided by commas or given again
    #[arg(long, value_name = "INTERFACES", value_delimiter = ',')]
    pub attach: Vec<String>,
    /// Look at the one-armed placement on the NIC of this host
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
}

/// What the arguments came to.
#[derive(Debug)]
pub enum Parsed {
    /// A command to carry out.
    Command(Box<Cli>),
    /// A text that was asked for: help or version.
    Text(String),
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// The first mistake as one line.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Parsed, Failure> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => Ok(Parsed::Command(Box::new(cli))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Parsed::Text(error.to_string()))
        }
        Err(error) => Err(Failure::wrong(condense(&error.to_string(), help_of(&arguments)))),
    }
}

/// The command whose help explains a refusal of `arguments`.
fn help_of(arguments: &[OsString]) -> &'static str {
    const COMMANDS: &[(&str, &str)] = &[
        ("run", "lb run"),
        ("status", "lb status"),
        ("backend", "lb backend"),
        ("backends", "lb backend"),
        ("reload", "lb reload"),
        ("upgrade", "lb upgrade"),
        ("conn", "lb conn"),
        ("connections", "lb conn"),
        ("stats", "lb stats"),
        ("top", "lb top"),
        ("explain", "lb explain"),
        ("compare", "lb compare"),
        ("events", "lb events"),
        ("capture", "lb capture"),
        ("doctor", "lb doctor"),
        ("detach", "lb detach"),
    ];
    let named =
        |argument: &OsString| COMMANDS.iter().find(|(name, _)| argument == name).map(|(_, command)| *command);
    arguments.iter().skip(1).find_map(named).unwrap_or("lb")
}

/// Several lines of clap's as one.
fn condense(text: &str, help: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            break;
        }
        if !line.is_empty() {
            line.push_str(if line.ends_with(':') { " " } else { "; " });
        }
        line.push_str(part.strip_prefix("tip: ").unwrap_or(part));
    }
    format!("{line}; see '{help} --help'")
}

impl RunArgs {
    /// What the daemon is started with.
    ///
    /// # Errors
    /// A mistake in the arguments or the configuration file, as one line.
    pub fn options(&self, run_dir: PathBuf, pin_dir: PathBuf) -> Result<Options, Failure> {
        let config = self.configuration()?;
        Ok(Options {
            config,
            config_file: self
                .config
                .as_deref()
                .map(|file| std::path::absolute(file).unwrap_or(file.to_owned())),
            object: self.object.clone(),
            log_packets: self.log_packets,
            metrics: self.metrics,
            ofshim_dir: self.ofshim_dir.clone(),
            state_dir: self.state_dir.clone(),
            run_dir,
            pin_dir,
        })
    }

    fn configuration(&self) -> Result<Config, Failure> {
        match (&self.config, &self.ip, &self.servers) {
            (Some(file), ..) => {
                if let Some(option) = self.describing_option() {
                    return Err(usage(format!(
                        "{option} cannot be used with --config: set it in {} instead",
                        file.display()
                    )));
                }
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Failure::wrong(format!("--config {}: cannot be read: {error}", file.display()))
                })?;
                Config::from_toml(&text, &file.display().to_string())
                    .map_err(|error| Failure::wrong(error.to_string()))
            }
            (None, Some(ip), Some(servers)) => self.one_vip(ip, servers),
            (None, Some(_), None) => Err(usage(
                "--ip needs --servers with the backends' addresses, as in --servers 10.0.0.1,10.0.0.2",
            )),
            (None, None, Some(_)) => {
                Err(usage("--servers needs --ip with the VIP's address, as in --ip 10.0.1.1"))
            }
            (None, None, None) => {
                Err(usage("nothing to balance: give --config FILE, or --ip ADDRESS with --servers ADDRESSES"))
            }
        }
    }

    fn one_vip(&self, ip: &str, servers: &str) -> Result<Config, Failure> {
        let arguments = Arguments {
            ip,
            servers,
            port: self.port.as_deref(),
            protocol: self.protocol.as_deref(),
            mode: self.mode.as_deref(),
            selection: self.selection.as_deref(),
            placement: self.placement.as_deref(),
            host: self.host.as_deref(),
            attach: &self.attach,
            health: self.health.as_deref(),
        };
        Config::from_args(&arguments).map_err(|error| usage(error.message()))
    }

    /// The first option given that the configuration file has its own key for.
    fn describing_option(&self) -> Option<&'static str> {
        let given = [
            ("--ip", self.ip.is_some()),
            ("--servers", self.servers.is_some()),
            ("--port", self.port.is_some()),
            ("--protocol", self.protocol.is_some()),
            ("--selection", self.selection.is_some()),
            ("--placement", self.placement.is_some()),
            ("--host", self.host.is_some()),
            ("--attach", !self.attach.is_empty()),
            ("--health", self.health.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }
}

/// A mistake in the arguments of `lb run`.
fn usage(message: impl std::fmt::Display) -> Failure {
    Failure::wrong(format!("{message}; see 'lb run --help'"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refused(arguments: &[&str]) -> Failure {
        match parse(arguments) {
            Ok(Parsed::Command(cli)) => match cli.command {
                Command::Run(run) => run.options(cli.run_dir, cli.pin_dir).unwrap_err(),
                Command::Conn(conn) => conn.fields().unwrap_err(),
                command => panic!("taken: {command:?}"),
            },
            Ok(Parsed::Text(text)) => panic!("a text: {text}"),
            Err(failure) => failure,
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_are_one_line_that_names_the_mend() {
        let cases: &[(&[&str], &str)] = &[
            (
                &["lb", "run"],
                "nothing to balance: give --config FILE, or --ip ADDRESS with --servers ADDRESSES",
            ),
            (&["lb", "run", "--ip", "10.0.1.1"], "--ip needs --servers"),
            (&["lb", "run", "--servers", "10.0.0.1"], "--servers needs --ip"),
            (&["lb", "run", "--ip", "10.0.1.1", "--config", "f"], "--ip cannot be used with --config"),
            (&["lb", "run", "--config", "f", "--attach", "x"], "--attach cannot be used with --config"),
            (&["lb", "run", "--nonsense"], "unexpected argument '--nonsense' found"),
            (&["lb", "conn", "--limit", "many"], "invalid value 'many' for '--limit <N>'"),
            (&["lb", "explain"], "required arguments were not provided"),
            (&["lb", "explain", "10.0.0.3:1"], "required arguments were not provided"),
            (&["lb", "explain", "10.0.0.3", "10.0.1.1:80"], "invalid value '10.0.0.3'"),
            (&["lb", "explain", "10.0.0.3:1", "10.0.1.1:80", "icmp"], "possible values: tcp, udp"),
            (&["lb", "conn", "--state", "open"], "possible values: syn, established"),
            (&["lb", "conn", "--after", "x"], "not the place of a connection"),
            (&["lb", "conn", "--client", "h3"], "--client h3: not an address"),
            (&["lb", "run", "--metrics", "9000"], "invalid value '9000' for '--metrics"),
            (&["lb", "runn"], "unrecognized subcommand 'runn'"),
            (&["lb"], "'lb' requires a subcommand"),
        ];
        for (arguments, expected) in cases {
            let failure = refused(arguments);
            assert!(failure.message.contains(expected), "{arguments:?}: {failure}");
            assert!(failure.message.contains("; see 'lb"), "{arguments:?}: {failure}");
            assert_eq!((failure.message.lines().count(), failure.status), (1, 2), "{arguments:?}: {failure}");
        }
    }

    #[test]
    fn one_vip_one_vip() {
        let line =
            "lb run --ip 10.0.1.1 --servers 10.0.0.1,10.0.0.2 --attach a,b --attach c --run-dir /tmp/r";
        let Ok(Parsed::Command(cli)) = parse(line.split(' ')) else { panic!("refused") };
        assert_eq!(cli.run_dir, PathBuf::from("/tmp/r"));
        assert_eq!(cli.pin_dir, PathBuf::from(PIN_DIR));
        let Command::Run(run) = cli.command else { panic!("not run") };
        let options = run.options(cli.run_dir, cli.pin_dir).unwrap();
        assert_eq!(options.config.placement.attach, ["a", "b", "c"]);
        assert_eq!(options.config.backend_addresses().len(), 2);
    }

    #[test]
    fn help_names_every_subcommand() {
        let Ok(Parsed::Text(help)) = parse(["lb", "--help"]) else { panic!("no help") };
        for name in [
            "run", "status", "backend", "conn", "stats", "top", "explain", "compare", "events", "capture",
            "doctor", "detach",
        ] {
            assert!(help.lines().any(|line| line.trim_start().starts_with(name)), "{name} is not in {help}");
        }
    }
}
