//! What is asked of a backend's service, besides whether its host is there.

use serde::{Deserialize, Serialize};

/// The checks of a VIP's backends.
///
/// The bound of [`super::HealthConfig`] holds here too: a service that stops answering right after it answered is down
/// after at most `fall` x `interval` x (1 + `jitter`) + `timeout`, and one that refuses, without the timeout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckConfig {
    /// What is asked.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// The port that is asked in host byte order; `None` is the one that the backend serves on. Always there for
    /// other kinds than ICMP where the VIP is for every port.
    pub port: Option<u16>,
    /// Milliseconds from one check of a backend to the next, before jitter.
    pub interval_ms: u32,
    /// Milliseconds in which an answer counts; at most `interval_ms`, so that one check runs at a time.
    pub timeout_ms: u32,
    /// Passed checks in a row that make a service up.
    pub rise: u32,
    /// Failed checks in a row that make it down.
    pub fall: u32,
    /// Per cent of the interval that are added at random, at most.
    pub jitter_pct: u32,
}

/// What a check asks, and what answer it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum CheckKind {
    /// ICMP echo: an echo reply.
    Icmp,
    /// A TCP connection; one that is made, or what is said through it.
    Tcp {
        /// What is sent once connected; only with `expect`.
        send: Option<String>,
        /// What has to be in the answer's first [`MAX_ANSWER_BYTES`]; without it being connected is enough.
        expect: Option<String>,
    },
    /// A UDP datagram.
    Udp {
        /// What it carries; empty is a datagram without data.
        send: String,
        /// What has to be in the answer. Without it any answer will do, and silence too: only an ICMP error fails.
        expect: Option<String>,
    },
    /// An HTTP GET.
    Http {
        /// What is asked for, from `/` on.
        path: String,
        /// The Host field; the target's address if none is given.
        host: Option<String>,
        /// The lowest and the highest status code that is good.
        status: (u16, u16),
        /// What has to be in the answer's first [`MAX_ANSWER_BYTES`], headers included, as it is sent.
        expect: Option<String>,
    },
}

/// How much of an answer is read to find what is expected: 64 KiB.
pub const MAX_ANSWER_BYTES: usize = 65_536;

impl CheckKind {
    /// The word for it, as in the file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Http { .. } => "http",
        }
    }

    /// Whether silence until the timeout is as good as an answer.
    #[must_use]
    pub const fn takes_silence(&self) -> bool {
        matches!(self, Self::Udp { expect: None, .. })
    }
}

impl CheckConfig {
    /// A check with the timing that its kind has unless told otherwise: the backends' ARP schedule, and half a second
    /// for HTTP, where an application has to work for its answer.
    #[must_use]
    pub const fn with_default_timing(kind: CheckKind) -> Self {
        let pace_ms = match kind {
            CheckKind::Http { .. } => 500,
            CheckKind::Icmp | CheckKind::Tcp { .. } | CheckKind::Udp { .. } => 200,
        };
        Self { kind, port: None, interval_ms: pace_ms, timeout_ms: pace_ms, rise: 2, fall: 3, jitter_pct: 10 }
    }
}
