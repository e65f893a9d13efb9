//! Why a service or a member of a VIP has the state that it has, in words for the log.

use core::fmt;

use serde::Serialize;

use super::Reason;

/// What a run of a check was still waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Waiting {
    /// Any answer.
    Answer,
    /// The service's own answer, after the connection was made.
    Response,
}

/// Why one run of a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nothing came in time.
    Timeout(Waiting),
    /// A reset, or ICMP port unreachable.
    Refused,
    /// Another ICMP error.
    Unreachable,
    /// The connection was closed before the answer was complete.
    Closed,
    /// An HTTP status that is not wanted.
    Status(u16),
    /// An answer that is not HTTP.
    NotHttp,
    /// An answer without the expected text.
    NotExpected,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(Waiting::Answer) => f.write_str("no answer"),
            Self::Timeout(Waiting::Response) => f.write_str("connected, but no response"),
            Self::Refused => f.write_str("refused"),
            Self::Unreachable => f.write_str("ICMP unreachable"),
            Self::Closed => f.write_str("closed without a complete response"),
            Self::Status(code) => write!(f, "HTTP status {code}"),
            Self::NotHttp => f.write_str("the response is not HTTP"),
            Self::NotExpected => f.write_str("the response lacks the expected text"),
        }
    }
}

/// What the checks of a service said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceCause {
    /// That many passed in a row.
    Passed {
        /// Checks.
        checks: u32,
    },
    /// That many failed in a row.
    Failed {
        /// Checks.
        checks: u32,
        /// Milliseconds since the first of them began.
        in_ms: u64,
        /// Why the last one failed.
        last: Failure,
    },
}

/// Why a member changed its state. Its text is for the log: `http check failed 3 times in 1033 ms: HTTP status 503`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its host came, went or moved, or the administrator said so.
    Host(Reason),
    /// Its service was checked.
    Service {
        /// The kind of check, as in the file.
        check: &'static str,
        /// What came out.
        cause: ServiceCause,
    },
    /// It is healthy again, but fell too often to be trusted at once.
    Held {
        /// Falls within the window.
        falls: usize,
        /// How long it has to be healthy, in milliseconds.
        hold_ms: u64,
    },
    /// It was healthy for as long as it had to be.
    Steady {
        /// How long, in milliseconds.
        hold_ms: u64,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = |n: u32| if n == 1 { "once".to_owned() } else { format!("{n} times") };
        match self {
            Self::Host(reason) => reason.fmt(f),
            Self::Service { check, cause: ServiceCause::Passed { checks } } => {
                write!(f, "{check} check passed {}", times(*checks))
            }
            Self::Service { check, cause: ServiceCause::Failed { checks, in_ms, last } } => {
                write!(f, "{check} check failed {} in {in_ms} ms: {last}", times(*checks))
            }
            Self::Held { falls, hold_ms } => {
                write!(
                    f,
                    "healthy again, held down until steady for {hold_ms} ms: it fell {falls} times lately"
                )
            }
            Self::Steady { hold_ms } => write!(f, "steady for {hold_ms} ms"),
        }
    }
}
