//! The arguments of orders about backends: the words of `lb backend`.

use std::time::Duration;

use clap::{Args, Subcommand};
use lb_core::host::overlay::{parse_time, parse_weight};

/// Arguments of `backend`.
#[derive(Debug, Args)]
pub struct BackendArgs {
    /// What to do; without it the backends are listed.
    #[command(subcommand)]
    pub order: Option<BackendCommand>,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
}

/// Orders about backends.
#[derive(Debug, Subcommand)]
pub enum BackendCommand {
    /// Let it run dry: its connections stay, new ones go elsewhere
    #[command(after_help = "Examples:\n  ofshim backend drain h1\n  \
        ofshim backend drain 10.0.0.1 --vip web --deadline 60s --wait\n\n\
        At the deadline it is disabled. With --wait, exit status 1 says that connections were left then.")]
    Drain {
        /// Whom.
        #[command(flatten)]
        whom: WhomArgs,
        /// Disable it after this time, connections or not: 60s, 5m, 1h
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        deadline: Option<Duration>,
        /// Wait until no connection is left or the deadline is over; not with standing entries, whose connections the
        /// switches alone know
        #[arg(long)]
        wait: bool,
    },
    /// Take it out of service; its connections are treated as those of a dead one
    #[command(after_help = "Example:\n  ofshim backend disable h1 --vip web")]
    Disable(WhomArgs),
    /// Put it into service again
    #[command(after_help = "Example:\n  ofshim backend enable h1")]
    Enable(WhomArgs),
    /// Give it another share of new connections, 0 to 256
    #[command(after_help = "Example:\n  ofshim backend weight h1 3 --vip web")]
    Weight {
        /// Whom.
        #[command(flatten)]
        whom: WhomArgs,
        /// The weight
        #[arg(value_name = "N", value_parser = parse_weight)]
        weight: u16,
    },
    /// Add one to a VIP
    #[command(after_help = "Example:\n  ofshim backend add 10.0.0.4 --vip web --name h4 --weight 2")]
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
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_weight)]
        weight: u16,
    },
    /// Take it from its VIP; its connections stay until they end
    #[command(after_help = "Example:\n  ofshim backend remove h4 --vip web")]
    Remove(WhomArgs),
}

/// Whom an order is for.
#[derive(Clone, Debug, Args)]
pub struct WhomArgs {
    /// Name, address, or address:port of the backend
    #[arg(value_name = "BACKEND")]
    pub backend: String,
    /// Only in this VIP: its name or address:port/protocol
    #[arg(long, value_name = "VIP")]
    pub vip: Option<String>,
}

impl BackendCommand {
    /// Path and fields of the request.
    #[must_use]
    pub fn target(&self) -> String {
        let (word, backend, vip) = match self {
            Self::Drain { whom, .. } => ("drain", &whom.backend, &whom.vip),
            Self::Disable(whom) => ("disable", &whom.backend, &whom.vip),
            Self::Enable(whom) => ("enable", &whom.backend, &whom.vip),
            Self::Weight { whom, .. } => ("weight", &whom.backend, &whom.vip),
            Self::Add { address, vip, .. } => ("add", address, vip),
            Self::Remove(whom) => ("remove", &whom.backend, &whom.vip),
        };
        let mut target = format!("/v1/backend?order={word}&backend={}", encoded(backend));
        let mut add = |name: &str, value: Option<String>| {
            target.extend(value.map(|value| format!("&{name}={}", encoded(&value))));
        };
        add("vip", vip.clone());
        match self {
            Self::Drain { deadline, .. } => {
                add("deadline_ms", deadline.map(|time| time.as_millis().to_string()));
            }
            Self::Weight { weight, .. } => add("weight", Some(weight.to_string())),
            Self::Add { name, weight, .. } => {
                add("name", name.clone());
                add("weight", Some(weight.to_string()));
            }
            Self::Disable(_) | Self::Enable(_) | Self::Remove(_) => {}
        }
        target
    }

    /// Whose drain is to be waited for, if it is.
    #[must_use]
    pub const fn waits_for(&self) -> Option<&WhomArgs> {
        match self {
            Self::Drain { whom, wait: true, .. } => Some(whom),
            _ => None,
        }
    }
}

/// A value as it stands in a request (RFC 3986, 2.1).
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn target(words: &str) -> String {
        let words = words.split_whitespace();
        let cli = Cli::try_parse_from(["ofshim", "backend"].into_iter().chain(words)).unwrap();
        let Command::Backend(args) = cli.command else { panic!("not backend") };
        args.order.unwrap().target()
    }

    #[test]
    fn orders_are_requests() {
        for (words, fields) in [
            ("drain h1", "drain&backend=h1"),
            ("drain h1 --vip web --deadline 2m", "drain&backend=h1&vip=web&deadline_ms=120000"),
            ("weight h1 3", "weight&backend=h1&weight=3"),
            ("add 10.0.0.4:8080", "add&backend=10.0.0.4%3A8080&weight=1"),
            (
                "add fd00::4 --vip web --name h4 --weight 2",
                "add&backend=fd00%3A%3A4&vip=web&name=h4&weight=2",
            ),
            ("remove h4 --vip 10.0.1.1:80/tcp", "remove&backend=h4&vip=10.0.1.1%3A80%2Ftcp"),
        ] {
            assert_eq!(target(words), format!("/v1/backend?order={fields}"));
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        for words in ["drain h1 --deadline soon", "weight h1 257", "add", "remove", "reset h1"] {
            let words = words.split_whitespace();
            assert!(Cli::try_parse_from(["ofshim", "backend"].into_iter().chain(words)).is_err());
        }
    }
}
