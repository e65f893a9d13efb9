//! The arguments of orders.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use lb_core::host::overlay::{self, Order};

use super::Balancer;

/// Arguments of `lb backend`.
#[derive(Debug, Args)]
pub struct BackendArgs {
    /// What to do; without it the backends are listed.
    #[command(subcommand)]
    pub order: Option<BackendOrder>,
}

/// Orders about backends.
#[derive(Debug, Subcommand)]
pub enum BackendOrder {
    /// Let it run dry: its connections stay, new ones go elsewhere
    #[command(after_help = "Examples:\n  lb backend drain h1\n  \
        lb backend drain 10.0.0.1 --vip web --deadline 60s --wait\n\n\
        At the deadline it is disabled. With --wait, exit status 1 says that connections were left then.")]
    Drain {
        /// Whom.
        #[command(flatten)]
        whom: WhomArgs,
        /// Disable it after this time, connections or not: 60s, 5m, 1h
        #[arg(long, value_name = "TIME", value_parser = overlay::parse_time)]
        deadline: Option<Duration>,
        /// Wait until no connection is left or the deadline is over
        #[arg(long)]
        wait: bool,
    },
    /// Take it out of service; its connections are treated as those of a dead one
    #[command(after_help = "Example:\n  lb backend disable h1 --vip web")]
    Disable(WhomArgs),
    /// Put it into service again
    #[command(after_help = "Example:\n  lb backend enable h1")]
    Enable(WhomArgs),
    /// Give it another share of new connections, 0 to 256
    #[command(after_help = "Example:\n  lb backend weight h1 3 --vip web")]
    Weight {
        /// Whom.
        #[command(flatten)]
        whom: WhomArgs,
        /// The weight
        #[arg(value_name = "N", value_parser = overlay::parse_weight)]
        weight: u16,
    },
    /// Add one to a VIP
    #[command(after_help = "Example:\n  lb backend add 10.0.0.4 --vip web --name h4 --weight 2")]
    Add {
        /// Its address, with a port of its own if it translates
        #[arg(value_name = "ADDRESS[:PORT]")]
        address: String,
        /// Name or address:port/protocol of the VIP; needed if there are several
        #[arg(long, value_name = "VIP")]
        vip: Option<String>,
        /// Its name; its address if not given
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Its weight
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = overlay::parse_weight)]
        weight: u16,
    },
    /// Take it from its VIP; its connections stay until they end
    #[command(after_help = "Example:\n  lb backend remove h4 --vip web")]
    Remove(WhomArgs),
}

/// Arguments of `lb mode`.
#[derive(Debug, Args)]
pub struct ModeArgs {
    /// Who is to balance: xdp, or flow entries of the controller (openflow)
    #[arg(value_name = "BALANCER")]
    pub to: Option<Balancer>,
}

/// Arguments of `lb reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Only check the file and show what would change
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `lb upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// The XDP object to run; without it the one in this binary
    #[arg(long, value_name = "FILE")]
    pub object: Option<PathBuf>,
    /// Compare the books before and after, and take the programs back if they are wrong
    #[arg(long)]
    pub verify: bool,
    /// How long to compare them: 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = overlay::parse_time, requires = "verify")]
    pub window: Duration,
}

/// Whom an order is for.
#[derive(Debug, Args)]
pub struct WhomArgs {
    /// Name, address, or address:port of the backend
    #[arg(value_name = "BACKEND")]
    pub backend: String,
    /// Only in this VIP: its name or address:port/protocol
    #[arg(long, value_name = "VIP")]
    pub vip: Option<String>,
}

impl BackendOrder {
    /// Backend, VIP, and what is to be done.
    pub fn parts(&self) -> (&str, Option<&str>, Order) {
        match self {
            Self::Drain { whom, deadline, .. } => {
                let deadline_ms = deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                (&whom.backend, whom.vip.as_deref(), Order::Drain { deadline_ms })
            }
            Self::Disable(whom) => (&whom.backend, whom.vip.as_deref(), Order::Disable),
            Self::Enable(whom) => (&whom.backend, whom.vip.as_deref(), Order::Enable),
            Self::Weight { whom, weight } => (&whom.backend, whom.vip.as_deref(), Order::Weight(*weight)),
            Self::Add { address, vip, name, weight } => {
                (address, vip.as_deref(), Order::Add { name: name.clone(), weight: *weight })
            }
            Self::Remove(whom) => (&whom.backend, whom.vip.as_deref(), Order::Remove),
        }
    }

    /// Whether to wait for the end.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Drain { wait: true, .. })
    }
}
