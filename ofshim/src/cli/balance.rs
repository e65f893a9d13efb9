//! The options of `run` that say what is balanced, and how.

use std::path::Path;

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};
use lb_core::host::config::{Arguments, Config};
use openflow::Version;

use super::{Balancer, Granularity, RunArgs};
use crate::core;
use crate::core::balance::{self, EntriesKind};
use crate::core::net::handover::StandBy;

/// How flow entries are made, and what a VIP of the command line is besides its address and backends.
#[derive(Debug, Args)]
pub struct BalanceArgs {
    /// How flow entries are made, with --lb openflow [default: reactive]
    #[arg(long, value_name = "HOW")]
    pub lb_entries: Option<LbEntries>,
    /// Port of the VIP, with --lb openflow [default: every port of the protocol]
    #[arg(long, value_name = "PORT", allow_hyphen_values = true)]
    pub port: Option<String>,
    /// tcp or udp, with --lb openflow [default: tcp]
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// random, round-robin, source-hash, flow-hash, maglev or least-connections, with --lb openflow [default: random]
    #[arg(long, value_name = "SELECTION")]
    pub selection: Option<String>,
    /// nat or dsr, with --lb openflow [default: nat]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
}

/// How flow entries are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LbEntries {
    /// Two for each connection, when its first packet comes.
    Reactive,
    /// None for each connection: group or learn, whichever a switch knows.
    Proactive,
    /// Select groups and connection tracking: OpenFlow 1.3, Open vSwitch 3.1 or later.
    Group,
    /// Entries that the switch learns by itself: Open vSwitch, both versions.
    Learn,
}

impl From<LbEntries> for EntriesKind {
    fn from(asked: LbEntries) -> Self {
        match asked {
            LbEntries::Reactive => Self::Reactive,
            LbEntries::Proactive => Self::Proactive,
            LbEntries::Group => Self::Group,
            LbEntries::Learn => Self::Learn,
        }
    }
}

/// The balancer's configuration, of the file, or with `--lb openflow` of the options; `None` if there is neither.
///
/// # Errors
/// One line: the file cannot be read, or what it or the options say is refused.
pub fn read(args: &RunArgs) -> anyhow::Result<Option<Config>> {
    let more = &args.balance;
    let (ip, servers) = match (&args.config, &args.ip, &args.servers) {
        (Some(path), None, None) => return read_file(path).map(Some),
        (None, Some(ip), Some(servers)) if args.lb == Balancer::Openflow => (ip, servers),
        _ if args.lb != Balancer::Openflow => return Ok(None),
        (None, None, None) => bail!(
            "--lb openflow has nothing to balance: add --config FILE, or --ip ADDRESS and --servers ADDRESSES"
        ),
        (Some(_), ..) => bail!("--config and --ip with --servers both say what is balanced: leave one out"),
        (None, ..) => bail!("--ip and --servers go together: give both, or --config FILE"),
    };
    let arguments = Arguments {
        ip,
        servers,
        port: more.port.as_deref(),
        protocol: more.protocol.as_deref(),
        selection: more.selection.as_deref(),
        mode: more.mode.as_deref(),
        ..Arguments::default()
    };
    Config::from_args(&arguments).map(Some).map_err(|error| anyhow!("{error}"))
}

/// What this controller balances by flow entries, of the configuration that was read.
///
/// # Errors
/// One line: options that do not go together, or what flow entries cannot do.
pub fn settings(
    args: &RunArgs,
    config: Option<&Config>,
    versions: &[Version],
    seed: u64,
) -> anyhow::Result<Option<balance::Settings>> {
    let Some(config) = config.filter(|_| args.lb == Balancer::Openflow) else { return Ok(None) };
    if args.granularity != Granularity::FiveTuple {
        bail!(
            "--lb openflow needs entries for each flow, or answers of backends would take those of others: leave \
             --match out"
        );
    }
    let entries = args.balance.lb_entries.map(EntriesKind::from).unwrap_or_default();
    if args.proactive && !entries.stands() {
        bail!(
            "--lb openflow does not go with --proactive: entries that lead to a host whatever comes would take answers \
             of backends along; leave --proactive out"
        );
    }
    balance::check::config(config, versions).map_err(|line| anyhow!("{line}"))?;
    Ok(Some(balance::Settings { config: config.clone(), entries, seed }))
}

/// Whether a daemon's balancer may be stood in for.
#[must_use]
pub fn stand_by(args: &RunArgs, forwarding: core::Forwarding, seed: u64) -> StandBy {
    match args.lb {
        Balancer::None => StandBy::Never("it was started with --lb none"),
        Balancer::Pox | Balancer::Nox | Balancer::NoxPackets => {
            StandBy::Never("it balances by itself, as an earlier controller did")
        }
        Balancer::Openflow => {
            StandBy::Never("it was started with --lb openflow, and balances by its own configuration")
        }
        Balancer::Auto if forwarding != core::Forwarding::Routed => {
            StandBy::Never("that needs routes: leave its --forwarding out")
        }
        Balancer::Auto if args.granularity != Granularity::FiveTuple => {
            StandBy::Never("that needs entries for each flow: leave its --match out")
        }
        Balancer::Auto if args.proactive => StandBy::Never(
            "entries that lead to a host whatever comes would take answers along: leave its --proactive out",
        ),
        Balancer::Auto => StandBy::Ready { seed },
    }
}

fn read_file(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow!("configuration file {} cannot be read: {error}", path.display()))?;
    Config::from_toml(&text, &path.display().to_string()).map_err(|error| anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
    const VIP: [&str; 4] = ["--ip", "10.0.1.1", "--servers", "10.0.0.1,10.0.0.2"];

    fn asked(arguments: &[&str]) -> anyhow::Result<Option<balance::Settings>> {
        let cli = Cli::try_parse_from([&["ofshim", "run", "--lb", "openflow"], arguments].concat()).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        let config = read(&args)?;
        settings(&args, config.as_ref(), &BOTH, 1)
    }

    #[test]
    fn a_vip_of_the_command_line() {
        let more = ["--port", "80", "--mode", "dsr", "--selection", "maglev"];
        let settings = asked(&[&VIP[..], &more].concat()).unwrap().unwrap();
        let vip = &settings.config.vips[0];
        assert_eq!((vip.key().to_string().as_str(), vip.backends.len()), ("10.0.1.1:80/tcp", 2));
        assert_eq!(settings.entries, EntriesKind::Reactive);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let refused = |arguments: &[&str], part: &str| {
            let line = asked(arguments).unwrap_err().to_string();
            assert!(line.contains(part) && !line.contains('\n'), "{arguments:?}: {line}");
        };
        refused(&[], "--lb openflow has nothing to balance");
        refused(&["--ip", "10.0.1.1"], "go together");
        refused(&[&VIP[..], &["--config", "lb.toml"]].concat(), "leave one out");
        refused(&["--config", "/nowhere/lb.toml"], "cannot be read");
        refused(&[&VIP[..], &["--port", "80", "--mode", "fullnat"]].concat(), "mode fullnat");
        refused(&[&VIP[..], &["--match", "macs"]].concat(), "leave --match out");
        refused(&[&VIP[..], &["--proactive"]].concat(), "leave --proactive out");
    }
}
