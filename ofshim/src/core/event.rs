//! What goes into the controller and what comes out.

use std::fmt;
use std::time::Duration;

use lb_core::host::handover::Told;
use openflow::{Role, Version};

use super::balance;
use super::classic;
use super::discover;
use super::net::{self, Granularity, Metric};
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
    /// The balancer's daemon said what it balances, or does not answer.
    Told {
        /// What it said, with its connections if it was asked because of a packet and its programs do not balance; or why
        /// there is no answer.
        told: Box<Result<Told, String>>,
        /// Whether [`Command::AskDaemon`] is answered.
        asked: bool,
    },
}

/// From one [`Event::Tick`] to the next, at most.
pub const TICK: Duration = Duration::from_millis(100);

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
    /// Send these bytes: whole messages, all that one event has for this connection.
    Send {
        /// To whom.
        conn: ConnId,
        /// The messages, one behind the other.
        bytes: Vec<u8>,
    },
    /// Send what is queued, then close. No event of this connection is wanted any more.
    Close {
        /// Which connection.
        conn: ConnId,
    },
    /// Ask the balancer's daemon who balances, with its connections where its programs do not; the answer is
    /// [`Event::Told`].
    AskDaemon,
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

/// How packets are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// Along shortest paths through the network, with entries on all switches of the way.
    #[default]
    Routed,
    /// Switch by switch, as bridges do it: a MAC is behind the port where it was heard.
    Learning,
    /// To every port of the broadcast tree, frame by frame.
    Hub,
    /// By nobody: a seed balancer is alone.
    None,
}

impl Forwarding {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Learning => "learning",
            Self::Hub => "hub",
            Self::None => "none",
        }
    }
}

/// A role that is asked for on every switch. Without one a controller is equal to all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedRole {
    /// [`Role::Master`] (primary) or [`Role::Equal`].
    pub role: Role,
    /// Counts who was primary before; only grows (1.3, 6.3.6).
    pub generation_id: u64,
}

/// What a person chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The OpenFlow versions to offer; at least one.
    pub versions: Vec<Version>,
    /// The role to ask for; `None` asks for none.
    pub role: Option<AskedRole>,
    /// How packets are forwarded.
    pub forwarding: Forwarding,
    /// How links are found; `None` if there are none to find.
    pub discovery: Option<discover::Settings>,
    /// What the entries of routes match.
    pub granularity: Granularity,
    /// What routes are judged by.
    pub metric: Metric,
    /// From one reading of the ports' counters to the next; `None` if they are not read.
    pub port_statistics: Option<Duration>,
    /// The speed of all ports in kbit/s, instead of what they say.
    pub port_speed_kbps: Option<u32>,
    /// Whether flows are spread over equal paths.
    pub ecmp: bool,
    /// Whether the ways to hosts are installed ahead of traffic.
    pub proactive: bool,
    /// Whether ARP and neighbour discovery are answered from knowledge.
    pub proxy: bool,
    /// Seconds without a packet after which a forwarding entry goes; 0 never.
    pub idle_timeout_s: u16,
    /// Seconds after which a forwarding entry goes in any case; 0 never.
    pub hard_timeout_s: u16,
    /// The seed balancer that runs in the place of all other balancing; `None` for none.
    pub classic: Option<classic::Settings>,
    /// What is balanced by flow entries; `None` leaves balancing to others. Needs [`Forwarding::Routed`].
    pub balancing: Option<balance::Settings>,
    /// Whether a daemon's balancer may be stood in for. Needs [`Forwarding::Routed`], and entries for each flow.
    pub stand_by: net::handover::StandBy,
    /// How long a fragment of a balanced packet waits for the first one: switches may send them in another order than they
    /// came.
    pub part_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            versions: vec![Version::V1_0, Version::V1_3],
            role: None,
            forwarding: Forwarding::Routed,
            discovery: Some(discover::Settings::default()),
            granularity: Granularity::FiveTuple,
            metric: Metric::Hops,
            port_statistics: None,
            port_speed_kbps: None,
            ecmp: true,
            proactive: false,
            proxy: true,
            idle_timeout_s: 10,
            hard_timeout_s: 120,
            classic: None,
            balancing: None,
            stand_by: net::handover::StandBy::default(),
            part_patience: net::PART_PATIENCE,
        }
    }
}

impl Settings {
    /// Whether entries of balancing stand before there are connections.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.balancing.as_ref().is_some_and(|balancing| balancing.entries.stands())
    }

    /// Whether ways to hosts are installed ahead of their traffic: a person's wish, or standing entries need them.
    #[must_use]
    pub fn leads_ahead(&self) -> bool {
        self.proactive || self.stands()
    }

    /// Switches that learn, one by one, without links between them.
    #[must_use]
    pub fn learning() -> Self {
        Self { forwarding: Forwarding::Learning, discovery: None, ..Self::default() }
    }

    /// The part that the network obeys.
    #[must_use]
    pub fn network(&self) -> net::Settings {
        net::Settings {
            routed: self.forwarding == Forwarding::Routed,
            discovery: self.discovery,
            granularity: self.granularity,
            metric: self.metric,
            port_statistics: self.port_statistics,
            port_speed_kbps: self.port_speed_kbps,
            ecmp: self.ecmp,
            proactive: self.leads_ahead() && self.forwarding == Forwarding::Routed,
            proxy: self.proxy,
            idle_timeout_s: self.idle_timeout_s,
            hard_timeout_s: self.hard_timeout_s,
            balancing: self.balancing.clone().filter(|_| self.forwarding == Forwarding::Routed),
            stand_by: self.stand_by.clone(),
            part_patience: self.part_patience,
        }
    }
}
