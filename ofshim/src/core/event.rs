//! What goes into the controller and what comes out.

use std::fmt;
use std::time::Duration;

use openflow::Version;

use super::vip::VipKnowledge;

/// A switch's connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A switch connected.
    Connected {
        /// Its connection.
        conn: ConnId,
        /// Where it came from, for messages.
        peer: String,
    },
    /// Bytes came from a switch.
    Bytes {
        /// Its connection.
        conn: ConnId,
        /// What came, cut anywhere.
        bytes: Vec<u8>,
    },
    /// A connection ended.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, for the log.
        reason: String,
    },
    /// Time passed; wanted at least every [`TICK`].
    Tick,
    /// What is known of the balancer changed.
    Knowledge {
        /// What is known now.
        known: VipKnowledge,
        /// Where it comes from.
        source: Source,
    },
}

/// From one [`Event::Tick`] to the next, at most.
pub const TICK: Duration = Duration::from_millis(250);

/// Where the knowledge of the balancer comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// There is none.
    #[default]
    None,
    /// The configuration file.
    File,
    /// The daemon.
    Daemon,
}

impl Source {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::File => "file",
            Self::Daemon => "daemon",
        }
    }
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send these bytes, one whole message.
    Send {
        /// To whom.
        conn: ConnId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send what is queued, then close. No event of this connection is wanted any more.
    Close {
        /// Which connection.
        conn: ConnId,
    },
    /// Write a line to the log.
    Log {
        /// How important it is.
        level: Level,
        /// The line.
        text: String,
    },
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is wrong, and a person should look.
    Warn,
    /// A state changed.
    Info,
    /// Details.
    Debug,
}

/// What a person chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The OpenFlow versions to offer; at least one.
    pub versions: Vec<Version>,
    /// Seconds without a packet after which a forwarding entry goes; 0 never.
    pub idle_timeout_s: u16,
    /// Seconds after which a forwarding entry goes in any case; 0 never.
    pub hard_timeout_s: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { versions: vec![Version::V1_0, Version::V1_3], idle_timeout_s: 10, hard_timeout_s: 120 }
    }
}
