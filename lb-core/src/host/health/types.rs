//! The words of the prober: states, reasons, events, commands.

use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::host::addr::MacAddr;

/// The state of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not known yet; not in rotation.
    Probing,
    /// In rotation.
    Up,
    /// Does not answer; not in rotation.
    Down,
    /// Answers, keeps its flows and gets no new ones.
    Draining,
    /// Taken out by the administrator, and not probed.
    Disabled,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probing => "probing",
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        })
    }
}

/// Whom the prober watches: a host by its address or, where several hosts have the same address, by its MAC too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Station {
    /// The address that is probed.
    pub address: IpAddr,
    /// Only answers from this MAC are its own; `None` takes them from any.
    pub mac: Option<MacAddr>,
}

impl From<IpAddr> for Station {
    fn from(address: IpAddr) -> Self {
        Self { address, mac: None }
    }
}

impl fmt::Display for Station {
    /// `10.0.0.1`, or `192.168.2.2 (00:00:00:00:00:02)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.mac.map_or(Ok(()), |mac| write!(f, " ({mac})"))
    }
}

/// Where a backend was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its MAC.
    pub mac: MacAddr,
    /// The interface that its reply came in by; a number of the driver's choice.
    pub interface: u32,
}

/// How a host is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Discovery {
    /// The address resolution protocol, for IPv4 (RFC 826).
    Arp,
    /// Neighbour discovery, for IPv6 (RFC 4861).
    Ndp,
}

impl Discovery {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Arp,
            IpAddr::V6(_) => Self::Ndp,
        }
    }
}

impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arp => "ARP",
            Self::Ndp => "NDP",
        })
    }
}

/// Why a state changed. Its text is for the log: `no ARP reply to 3 probes in 650 ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It answered that many probes in a row.
    Answered {
        /// Probes.
        probes: u32,
    },
    /// It answered none of that many probes in a row.
    NoReply {
        /// How it was asked.
        by: Discovery,
        /// Probes.
        probes: u32,
        /// Milliseconds since the first of them.
        in_ms: u64,
    },
    /// Its link went down.
    LinkDown,
    /// It answered from another MAC or interface.
    Moved {
        /// Where it was.
        from: Neighbour,
        /// Where it is.
        to: Neighbour,
    },
    /// The administrator enabled it.
    Enabled,
    /// The administrator drains it.
    Drained,
    /// The administrator disabled it.
    Disabled,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: u32| if n == 1 { "probe" } else { "probes" };
        match self {
            Self::Answered { probes } => write!(f, "answered {probes} {}", plural(*probes)),
            Self::NoReply { by, probes, in_ms } => {
                write!(f, "no {by} reply to {probes} {} in {in_ms} ms", plural(*probes))
            }
            Self::LinkDown => f.write_str("link down"),
            Self::Moved { from, to } if from.mac != to.mac => {
                write!(f, "MAC changed from {} to {}", from.mac, to.mac)
            }
            Self::Moved { from, to } => {
                write!(f, "moved from interface {} to {}", from.interface, to.interface)
            }
            Self::Enabled => f.write_str("enabled by the administrator"),
            Self::Drained => f.write_str("draining by order of the administrator"),
            Self::Disabled => f.write_str("disabled by the administrator"),
        }
    }
}

/// What happened. Events for a backend that is not watched are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver woke up and drained the socket: every frame received up to this time was handed in.
    Wake {
        /// The clock before the socket was read for the last time.
        drained_up_to: u64,
    },
    /// A probe was sent.
    ProbeSent {
        /// To whom.
        backend: Station,
        /// The clock when it left.
        at: u64,
    },
    /// A probe could not be sent.
    SendFailed {
        /// To whom.
        backend: Station,
    },
    /// An ARP reply or neighbour advertisement of the backend.
    Reply {
        /// From whom.
        backend: IpAddr,
        /// When the kernel took it in.
        received_at: u64,
        /// From where.
        neighbour: Neighbour,
    },
    /// The data plane saw a frame from the backend that shows its service alive (not a mere reset).
    FrameSeen {
        /// From whom.
        backend: Station,
        /// When the last one was seen.
        at: u64,
    },
    /// An interface lost its link.
    LinkDown {
        /// Which.
        interface: u32,
    },
    /// An interface has a link again.
    LinkUp {
        /// Which.
        interface: u32,
    },
    /// The administrator puts a backend into service.
    Enable {
        /// Which.
        backend: Station,
    },
    /// The administrator lets a backend run dry.
    Drain {
        /// Which.
        backend: Station,
    },
    /// The administrator takes a backend out.
    Disable {
        /// Which.
        backend: Station,
    },
}

/// Where a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To everybody, on every interface where the backend may be.
    Broadcast,
    /// To where the backend was found.
    Unicast(Neighbour),
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask for the backend now, by ARP or neighbour solicitation.
    SendProbe {
        /// For whom.
        backend: Station,
        /// To where.
        to: Destination,
    },
    /// Put this into the tables and the log.
    StateChange {
        /// Whose.
        backend: Station,
        /// Before.
        from: State,
        /// After; equal to `from` when a backend is "up again" elsewhere.
        to: State,
        /// Why.
        reason: Reason,
        /// Where it is, as far as known.
        neighbour: Option<Neighbour>,
    },
    /// Hand in [`Event::Wake`] at this time; replaces any earlier time. The last command of every answer, unless
    /// nothing is probed.
    NextWakeAt(u64),
}

/// What is known about one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Since when.
    pub since_ns: u64,
    /// Where it was last found.
    pub neighbour: Option<Neighbour>,
    /// Why it has this state; none before the first change.
    pub reason: Option<Reason>,
    /// When its last counted reply was received.
    pub last_reply_ns: Option<u64>,
    /// What became of its probes.
    pub counters: Counters,
}

/// What became of the probes of one backend. `sent = answered + missed + void +` those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Probes ordered.
    pub sent: u64,
    /// Answered in time.
    pub answered: u64,
    /// Not answered in time.
    pub missed: u64,
    /// Counted for nothing: the prober was late, could not send, or the data plane saw the backend.
    pub void: u64,
    /// Replies that no probe asked for, or that were too late.
    pub unsolicited: u64,
    /// How often it fell from up or draining to down.
    pub flaps: u64,
}
