//! The network as one: what is connected to what, who is where, and which flow takes which way.
//!
//! ```text
//!   packet-in --> link discovery --> topology --> devices --> (firewall) --> balancing --> forwarding
//!                    LLDP ends here    ports that     hosts are                VIPs, ARP     routes, or the
//!                                      may not stop   learned                  from knowledge broadcast tree
//! ```
//!
//! Events in, [`Out`]s out; no switch's bytes are seen here. Every stage may stop a packet, and leaves in its context
//! what later ones obey.

mod ahead;
mod balancing;
pub mod explain;
pub mod flows;
mod fragments;
pub mod handover;
pub mod hosts;
pub mod key;
mod load;
mod members;
mod orders;
mod pending;
mod proxy;
mod routing;
mod stages;
mod standing;
pub mod steer;
pub mod view;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::{DatapathId, FlowMod, Message, PacketOut, PortNo};

use self::ahead::Ahead;
use self::balancing::Balancing;
use self::flows::Flows;
pub use self::fragments::PART_PATIENCE;
use self::fragments::Parts;
use self::handover::{Stand, StandBy};
use self::hosts::Hosts;
pub use self::key::{FlowKey, Granularity};
use self::load::Loads;
pub use self::members::{FoundKey, FoundRoute, Member, NewMember};
use self::pending::Pending;
pub(crate) use self::proxy::ASKER;
pub use self::stages::{Admitted, Next, STAGES};
pub use self::steer::AnswersKey;
use self::steer::Steering;
use self::watch::Watching;
use super::balance::proactive::Standing;
use super::balance::{self, Balancer};
use super::discover::{self, Discovery};
use super::entries::Key;
use super::event::Level;
use super::forward::DropReason;
use super::learn::Station;
use super::topo::{Place, Topology};
use super::vip::VipKnowledge;

/// What a route's links are judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Each link is one; a link across foreign switches two.
    #[default]
    Hops,
    /// Microseconds, as measured by discovery.
    Latency,
    /// Slow links cost more: 100 Gbit/s is one.
    Speed,
    /// Busy links cost more: a full one as much as ten without load.
    Utilisation,
}

impl Metric {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hops => "hops",
            Self::Latency => "latency",
            Self::Speed => "speed",
            Self::Utilisation => "utilisation",
        }
    }

    /// Whether costs change by themselves, as traffic does.
    #[must_use]
    pub const fn is_measured(self) -> bool {
        matches!(self, Self::Latency | Self::Utilisation)
    }
}

/// What a person chooses about the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether packets are routed here; else only links and trees are kept.
    pub routed: bool,
    /// How links are found; `None` if there are none to find.
    pub discovery: Option<discover::Settings>,
    /// What entries match.
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
    /// Seconds without a packet after which a route's entry goes; 0 never.
    pub idle_timeout_s: u16,
    /// Seconds after which it goes in any case; 0 never.
    pub hard_timeout_s: u16,
    /// What is balanced by flow entries; `None` leaves balancing to others.
    pub balancing: Option<balance::Settings>,
    /// Whether a daemon's balancer may be stood in for.
    pub stand_by: StandBy,
    /// How long a fragment of a balanced packet waits for the first one.
    pub part_patience: Duration,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// Send a flow-mod.
    FlowMod {
        /// To this switch.
        dpid: DatapathId,
        /// The message.
        flow_mod: Box<FlowMod>,
    },
    /// Send any message.
    Message {
        /// To this switch.
        dpid: DatapathId,
        /// The message.
        message: Box<Message>,
    },
    /// Send a packet-out.
    PacketOut {
        /// To this switch.
        dpid: DatapathId,
        /// The message.
        packet: PacketOut,
    },
    /// Ask for the counters of a switch's ports.
    PortStats {
        /// Which switch.
        dpid: DatapathId,
    },
    /// Ask the switch to say when all before is done.
    Barrier {
        /// Which switch.
        dpid: DatapathId,
        /// What [`Network::barrier_done`] is told then.
        token: u64,
    },
    /// Drop what comes next like this frame, for a while.
    Hold {
        /// At this switch.
        dpid: DatapathId,
        /// What is dropped.
        key: Key,
    },
    /// A frame goes nowhere for a reason that a person should know.
    Dropped {
        /// Where it came in.
        at: Place,
        /// Why.
        reason: DropReason,
    },
    /// A host was heard somewhere else than before.
    Moved {
        /// The host.
        station: Station,
        /// Where it was.
        from: Place,
        /// Where it is.
        to: Place,
    },
    /// What a switch learned is not true any more.
    Flush {
        /// The switch.
        dpid: DatapathId,
    },
    /// Ask the balancer's daemon who balances, and for all that is to be known where nobody does.
    AskDaemon,
    /// Write a line to the log.
    Log {
        /// How important it is.
        level: Level,
        /// The line.
        text: String,
    },
}

/// The network.
#[derive(Debug)]
pub struct Network {
    settings: Settings,
    known: VipKnowledge,
    members: BTreeMap<DatapathId, Member>,
    /// Whether all switches match IPv6 addresses.
    v6: bool,
    /// Switches whose connection ended, and when.
    lost: BTreeMap<DatapathId, Duration>,
    discovery: Option<Discovery>,
    topology: Topology,
    hosts: Hosts,
    flows: Flows,
    ahead: Ahead,
    steering: Steering,
    loads: Loads,
    pending: Pending,
    /// Who balances, if this controller does.
    balancer: Option<Balancer>,
    balancing: Balancing,
    /// What is seen of connections besides their packets to the controller.
    watching: Watching,
    /// Fragments that came before the first of their packet.
    parts: Parts,
    /// Entries that stand before there are connections, if it balances by such.
    standing: Option<Standing>,
    /// In whose place, and what that needs.
    stand: Stand,
    /// Where the virtual MAC of a one-armed balancer was last heard as a source.
    hint: Option<Place>,
    /// Why packets were stopped, and how often.
    stops: BTreeMap<&'static str, u64>,
    swept: Duration,
    now: Duration,
    out: Vec<Out>,
}

/// A host that is not heard for so long is forgotten, unless an entry of its traffic lives.
const HOST_AGE: Duration = Duration::from_secs(300);
/// A switch that does not come back is forgotten after so long.
const SWITCH_AGE: Duration = Duration::from_secs(60);
/// A host that is not heard for so long is asked whether it is there.
const ASK_AGE: Duration = Duration::from_secs(270);
/// From one sweep of the hosts to the next.
const SWEEP: Duration = Duration::from_secs(5);

impl Network {
    /// A network without switches.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            discovery: settings.discovery.map(Discovery::new),
            known: settings
                .balancing
                .as_ref()
                .map(|balancing| balance::knowledge(&balancing.config))
                .unwrap_or_default(),
            balancer: settings.balancing.clone().map(|balancing| Balancer::new(balancing, Duration::ZERO)),
            balancing: Balancing::default(),
            watching: Watching::default(),
            parts: Parts::default(),
            standing: settings.balancing.as_ref().and_then(standing::of_settings),
            stand: Stand::default(),
            settings,
            members: BTreeMap::new(),
            v6: true,
            lost: BTreeMap::new(),
            topology: Topology::default(),
            hosts: Hosts::default(),
            flows: Flows::default(),
            ahead: Ahead::default(),
            steering: Steering::default(),
            loads: Loads::default(),
            pending: Pending::default(),
            hint: None,
            stops: BTreeMap::new(),
            swept: Duration::ZERO,
            now: Duration::ZERO,
            out: Vec::new(),
        }
    }

    /// What has to be done since this was last asked, in order.
    pub fn take_outs(&mut self) -> Vec<Out> {
        self.refresh_steering();
        self.refresh_legs();
        self.go_on_taking();
        std::mem::take(&mut self.out)
    }

    /// What a person chose.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Time passed.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        if let Some(discovery) = &mut self.discovery {
            discovery.step(now);
        }
        self.after_discovery();
        self.ask_loads();
        let late = self.pending.late(now);
        self.out.extend(late);
        self.probe_if_silent();
        self.balance_tick();
        self.go_on_taking();
        if now.saturating_sub(self.swept) >= SWEEP {
            self.swept = now;
            self.age_hosts();
            self.follow_costs();
            self.forget_lost();
            self.steering.mark();
        }
    }

    /// Asks hosts that were not heard for long, and forgets those that do not answer.
    fn age_hosts(&mut self) {
        let Some(then) = self.now.checked_sub(ASK_AGE) else { return };
        let forget = self.now.checked_sub(HOST_AGE);
        for station in self.hosts.silent_since(then) {
            let seen = self.hosts.get(station).map(hosts::Host::seen).unwrap_or_default();
            if self.flows.is_busy(station) {
                continue;
            }
            if forget.is_some_and(|forget| seen <= forget) {
                self.hosts.forget(station);
                self.refresh_ahead(station);
            } else {
                self.ask(station);
            }
        }
        if let Some(forget) = forget {
            self.age_ahead(forget);
        }
    }

    /// The switch did all that it was sent before this token.
    pub fn barrier_done(&mut self, token: u64, now: Duration) {
        if self.proved(token, now) || self.took(token, now) {
            return;
        }
        let then = self.pending.done(token);
        self.out.extend(then);
    }

    /// What is known of the balancer changed.
    pub fn knowledge_changed(&mut self, known: &VipKnowledge) {
        let virtual_macs = |known: &VipKnowledge| known.vips().map(|(_, mac)| mac).collect::<Vec<_>>();
        let concerned: BTreeSet<_> =
            virtual_macs(&self.known).into_iter().chain(virtual_macs(known)).collect();
        self.known = known.clone();
        self.steering.mark();
        self.make_way_for_answers();
        if !self.known.placement().is_onearm() {
            self.hint = None;
        }
        for mac in concerned {
            for station in self.hosts.with_mac(mac) {
                self.hosts.forget(station);
                self.refresh_ahead(station);
            }
        }
        let fallen = |key: &FlowKey| {
            let inline = !self.known.placement().is_onearm();
            let from_vip = key.src.is_some_and(|src| self.known.vip_of(src).is_some());
            let to_vip = self.known.vip_of(key.dst).is_some();
            to_vip || from_vip || (inline && self.known.is_prober(key.dst)) || self.hides_answers(key)
        };
        let gone: Vec<FlowKey> = self.flows.iter().map(|(key, _)| *key).filter(fallen).collect();
        for key in gone {
            self.delete_flow(&key);
        }
    }

    /// The ports of a switch that a flooded frame leaves by: its hosts, and the broadcast tree. A switch without links
    /// floods by itself.
    #[must_use]
    pub fn flood_ports(&self, at: Place) -> Vec<PortNo> {
        if !self.has_links(at.dpid) {
            return vec![PortNo::FLOOD];
        }
        let Some(member) = self.members.get(&at.dpid) else { return Vec::new() };
        let may = |port: &PortNo| {
            let place = Place::new(at.dpid, *port);
            *port != at.port && self.may_flood(place)
        };
        member.ports.iter().filter(|(_, port)| port.up).map(|(port, _)| *port).filter(may).collect()
    }

    fn log(&mut self, level: Level, text: String) {
        self.out.push(Out::Log { level, text });
    }
}
