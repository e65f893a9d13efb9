//! Balancing by flow entries, without XDP: VIPs, backends, health and policies from the balancer's own configuration,
//! decided by the core that the XDP program is made of.
//!
//! ```text
//!              tick, answers to probes                    packet-in (stage "balancing")
//!                        |                                        |
//!                        v                                        v
//!   Watch: prober, members --changes--> Plan --records--> Model (tables, pinned connections)
//!     |  asks                            |                        |  lb_core::process_all: rewritten bytes, or an answer
//!     v                                  v                        v
//!   packet-outs               what the plan says has      Leg: what is matched, what is written, where it leaves
//!                             changed: Replanned          (Pins; one for each direction of a connection)
//! ```
//!
//! The [`Balancer`] knows no switches and makes no messages. It says what is to be asked, what has changed, and what
//! becomes of a packet; `net::balancing` asks, installs entries along ways, and follows the topology. Probing, ARP and
//! neighbour discovery for VIPs, echo and refusals are the same however entries are made: only what follows from a
//! [`Replanned`] and from a packet of a flow is up to [`EntriesKind`].

pub mod check;
pub mod edit;
pub mod handover;
mod health;
mod orders;
pub mod pins;
mod places;
pub mod proactive;
pub mod probe;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::conn::{self, Side};
use lb_core::decide::stays;
use lb_core::host::config::Config;
use lb_core::host::health::{Destination, Neighbour, Station as Watched};
use lb_core::host::ids::Ids;
use lb_core::host::leaving::Leaving;
use lb_core::host::overlay::{Overlay, Target};
use lb_core::host::plan::{HealthView, Plan, health_view};
use lb_core::host::records;
use lb_core::model::Model;
use lb_core::packet::HostPacket;
use lb_core::table::{
    Address, ConnKey, ConnValue, Settings as Limits, Tables, TestInputs, Ticks, ticks_from_ns,
};
use lb_core::{Outcome, Reason, process_all, serving_vip};
use openflow::MacAddr;

use self::handover::Following;
use self::health::Watch;
pub use self::orders::{BackendOrder, Ordered};
pub use self::pins::{Leg, LegKey, Pins};
use self::places::Places;
use super::event::Level;
use super::frame::Frame;
use super::net::FlowKey;
use super::topo::Place;
use super::vip::{Placement, VipKnowledge};

/// How decisions become entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntriesKind {
    /// Two for each connection, made when its first packet comes to the controller.
    #[default]
    Reactive,
    /// None for each connection, in the better form that the switch knows: [`Self::Group`] or [`Self::Learn`].
    Proactive,
    /// None for each connection: select groups and connection tracking.
    Group,
    /// Two for each connection, which the switch learns by itself.
    Learn,
}

impl EntriesKind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reactive => "reactive",
            Self::Proactive => "proactive",
            Self::Group => "group",
            Self::Learn => "learn",
        }
    }

    /// Whether entries stand before there are connections.
    #[must_use]
    pub const fn stands(self) -> bool {
        !matches!(self, Self::Reactive)
    }
}

/// What a balancer is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// VIPs, backends, health, timeouts; [`check::config`] takes it.
    pub config: Config,
    /// How decisions become entries.
    pub entries: EntriesKind,
    /// Of random choices and of the probes' jitter: another one for each run.
    pub seed: u64,
}

/// From one sweep of the connections to the next.
const SWEEP: Duration = Duration::from_secs(5);
/// When there is no room, one connection in so many is let go of at once, so that it is not looked for each time.
const MAKE_ROOM: usize = 16;

/// The balancer.
#[derive(Debug)]
pub struct Balancer {
    entries: EntriesKind,
    /// As it was read.
    file: Config,
    /// What an administrator changed of it.
    overlay: Overlay,
    /// Backends that were removed and keep their connections, and until when they are all kept.
    leaving: Leaving,
    leaves_from: Duration,
    /// Draining backends of which it was said that no connection is left.
    drained: BTreeSet<Target>,
    /// In force.
    config: Config,
    ids: Ids,
    watch: Watch,
    /// What the daemon says, in whose place this balances: then nobody is watched here.
    following: Option<Following>,
    plan: Plan,
    model: Model,
    places: Places,
    random: u64,
    swept: Duration,
    /// The virtual MACs.
    macs: BTreeMap<MacAddr, IpAddr>,
    /// Addresses of VIPs and of backends.
    vip_addresses: BTreeSet<IpAddr>,
    backend_addresses: BTreeSet<IpAddr>,
    /// The entries of connections.
    pub pins: Pins,
}

/// The plan is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replanned {
    /// The ids of the backends that are new, gone, or not what they were: state, place, address.
    pub backends: BTreeSet<u16>,
    /// The ids of the VIPs whose record or rotation changed, new ones and those that are gone among them.
    pub vips: BTreeSet<u16>,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What happens to it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
}

/// A connection that outlives its balancer, or comes from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's address and port, the VIP's id, the port on the VIP's side, the protocol.
    pub key: ConnKey,
    /// The backend's id and generation, the state.
    pub value: ConnValue,
}

impl Balancer {
    /// A balancer whose backends are all to be probed. There are ids for every configuration that can be read.
    #[must_use]
    pub fn new(settings: Settings, now: Duration) -> Self {
        let mut settings = settings;
        settings.config = handover::without_checks(&settings.config);
        let watch = Watch::new(&settings.config, settings.seed, nanoseconds(now));
        let mut balancer = Self::bare(settings, watch, now);
        balancer.replan();
        balancer
    }

    /// A balancer without a plan.
    fn bare(settings: Settings, watch: Watch, now: Duration) -> Self {
        let Settings { config, entries, seed } = settings;
        let size = usize::try_from(config.connections.table_size).unwrap_or(usize::MAX);
        let mut balancer = Self {
            entries,
            ids: Ids::default(),
            watch,
            following: None,
            plan: Plan::default(),
            model: Model::new(Limits::default(), size),
            places: Places::default(),
            random: seed | 1,
            swept: now,
            macs: BTreeMap::new(),
            vip_addresses: BTreeSet::new(),
            backend_addresses: BTreeSet::new(),
            pins: Pins::default(),
            file: config.clone(),
            overlay: Overlay::default(),
            leaving: Leaving::default(),
            leaves_from: now,
            drained: BTreeSet::new(),
            config: config.clone(),
        };
        balancer.configure(config);
        balancer
    }

    /// Takes a configuration, without a plan of it.
    fn configure(&mut self, config: Config) {
        self.macs = config.vips.iter().map(|vip| (MacAddr(vip.mac.0), vip.address)).collect();
        self.vip_addresses = config.vips.iter().map(|vip| vip.address).collect();
        self.backend_addresses = config.backend_addresses().into_iter().collect();
        self.config = config;
    }

    /// How decisions become entries.
    #[must_use]
    pub const fn entries(&self) -> EntriesKind {
        self.entries
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Who serves what, and who is in rotation.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The tables.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Whether this is a virtual MAC.
    #[must_use]
    pub fn is_virtual(&self, mac: MacAddr) -> bool {
        self.macs.contains_key(&mac)
    }

    /// Whether this is the address of a VIP.
    #[must_use]
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.vip_addresses.contains(&address)
    }

    /// Whether this is the address of a backend.
    #[must_use]
    pub fn is_backend(&self, address: IpAddr) -> bool {
        self.backend_addresses.contains(&address)
    }

    /// When [`Self::wake`] has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.watch.next_wake().map(Duration::from_nanos)
    }

    /// Whether somebody is about to be taken for dead: then all that the switches sent until now has to be read before
    /// [`Self::wake`], and it has to be told up to when that is so.
    #[must_use]
    pub fn is_about_to_judge(&self, now: Duration) -> bool {
        self.watch.is_about_to_judge(nanoseconds(now))
    }

    /// Does what is due. Everything that was received up to `drained` was handed in.
    pub fn wake(&mut self, drained: Duration, now: Duration) {
        self.watch.wake(nanoseconds(drained), nanoseconds(now));
    }

    /// The questions to be asked now; each is answered by [`Self::asked`]. Who was found at no port that is known is
    /// asked for everywhere.
    pub fn take_questions(&mut self) -> Vec<(Watched, Destination)> {
        let mut questions = self.watch.take_questions();
        for (_, to) in &mut questions {
            if let Destination::Unicast(neighbour) = to
                && self.places.place(neighbour.interface).is_none()
            {
                *to = Destination::Broadcast;
            }
        }
        questions
    }

    /// A question was asked, or could not be.
    pub fn asked(&mut self, backend: Watched, sent: bool, now: Duration) {
        self.watch.asked(backend, sent, nanoseconds(now));
    }

    /// A host said by ARP or neighbour discovery where it is; whether it may have been asked just now.
    pub fn heard(&mut self, address: IpAddr, mac: MacAddr, at: Place, now: Duration) -> bool {
        if !self.is_backend(address) {
            return false;
        }
        if let Some(following) = &mut self.following {
            following.heard(mac, at);
            if !following.is_alone() {
                return false;
            }
        }
        let interface = self.places.number(at);
        let neighbour = Neighbour { mac: lb_core::host::addr::MacAddr(mac.0), interface };
        self.watch.heard(address, neighbour, nanoseconds(now))
    }

    /// A port went down, or is up again.
    pub fn port_changed(&mut self, at: Place, up: bool, now: Duration) {
        if let Some(interface) = self.places.known(at) {
            self.watch.port_changed(interface, up, nanoseconds(now));
        }
    }

    /// The port with an interface number of [`Neighbour`].
    #[must_use]
    pub fn place(&self, interface: u32) -> Option<Place> {
        self.places.place(interface)
    }

    /// Where a backend with this MAC last answered a probe.
    #[must_use]
    pub fn place_of(&self, mac: MacAddr) -> Option<Place> {
        if let Some(following) = &self.following {
            return following.place_of(mac);
        }
        let neighbours = self.plan.backends.values().filter_map(|backend| backend.neighbour);
        let found = neighbours.into_iter().find(|neighbour| neighbour.mac.0 == mac.0)?;
        self.places.place(found.interface)
    }

    /// Brings the tables to what is known now, if something has changed; what, and the lines for the log.
    pub fn follow(&mut self) -> (Option<Replanned>, Vec<(Level, String)>) {
        let Some(mut changes) = self.watch.take_changes() else { return (None, Vec::new()) };
        let replanned = self.replan();
        if self.following.is_some() {
            changes.retain(|change| change.holds(&self.plan));
        }
        let lines = health::lines(&changes, &self.plan, &self.places);
        (Some(replanned), lines)
    }

    /// The health of the backends, as it is known now.
    #[must_use]
    pub fn health(&self) -> HealthView {
        match &self.following {
            Some(following) => following.view(&self.watch),
            None => health_view(&self.watch.members, &self.watch.prober),
        }
    }

    fn replan(&mut self) -> Replanned {
        let view = self.health();
        // Ids run out only where more is configured than can be read.
        let Ok(plan) = Plan::from_config(&self.config, &mut self.ids, &view, Some(&self.plan)) else {
            return Replanned::default();
        };
        let limits = records::settings(&self.config.connections, 1, &plan);
        let diff = self.plan.diff(&plan);
        records::update(&mut self.model, limits, false, &self.plan, &plan);
        self.plan = plan;
        Replanned {
            backends: diff.backends_set.into_iter().chain(diff.backends_gone).collect(),
            vips: [diff.vips_set, diff.rotations_set, diff.vips_gone].concat().into_iter().collect(),
        }
    }

    /// Decides about a packet, and rewrites it where that is the decision.
    pub fn decide(&mut self, bytes: &mut Vec<u8>, now: Duration) -> Decided {
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut random = self.random;
        random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.model.inputs.set(TestInputs { now: ticks(now), random: (random >> 32) as u32 });
        let (outcome, reason) = process_all(&mut HostPacket::new(bytes, 0), &self.model);
        Decided { outcome, reason }
    }

    /// The connection of a packet that was decided about: of a client's as it came, of a backend's as it left.
    #[must_use]
    pub fn connection_of(&self, side: Side, came: &FlowKey, left: &FlowKey) -> Option<ConnKey> {
        let ip = match side {
            Side::Client => came.ip?,
            Side::Backend => left.ip?,
        };
        let protocol = ip.protocol?;
        let ((client, client_port), (vip, vip_port)) = match (side, ip.ports?) {
            (Side::Client, (src, dst)) => ((ip.src, src), (ip.dst, dst)),
            (Side::Backend, (src, dst)) => ((ip.dst, dst), (ip.src, src)),
        };
        let id = serving_vip(&self.model, address(vip), vip_port.to_be(), protocol);
        let key = ConnKey::new(address(client), client_port.to_be(), id, vip_port.to_be(), protocol);
        let value = self.model.connection(&key)?;
        let ended = matches!(value.state, conn::state::CLOSED) || is_finished(&value);
        (!ended).then_some(key)
    }

    /// Both directions of a connection are in the switches' hands: it counts as established.
    pub fn pinned(&mut self, key: &ConnKey) {
        self.model.promote(key);
    }

    /// Whether a connection has ended on both sides, or was reset.
    #[must_use]
    pub fn is_over(&self, key: &ConnKey) -> bool {
        self.model.connection(key).is_some_and(|value| is_finished(&value))
    }

    /// Whether there is room for one more connection; if not, those to let go of.
    #[must_use]
    pub fn overflow(&self, now: Duration) -> Vec<ConnKey> {
        if self.model.has_room() {
            return Vec::new();
        }
        let count = self.model.connection_count() / MAKE_ROOM + 1;
        self.model.oldest(count, ticks(now), |key| self.pins.is_busy(key))
    }

    /// Forgets a connection; its legs are the caller's to end first.
    pub fn forget(&mut self, key: &ConnKey) {
        self.model.forget(key);
    }

    /// A side of a connection has sent its FIN or RST.
    pub fn side_ended(&mut self, key: &ConnKey, side: Side) {
        let (mut load, mut backend) = (0, 0);
        self.model.change_connection(key, |value| {
            let before = is_finished(value);
            value.flags |= match side {
                Side::Client => conn::flag::CLIENT_FIN,
                Side::Backend => conn::flag::BACKEND_FIN,
            };
            value.state = conn::state::CLOSING;
            backend = value.backend;
            load = i64::from(before) - i64::from(is_finished(value));
        });
        if load != 0 {
            self.model.load_add(backend, load);
        }
    }

    /// A connection was idle for so long, up to now.
    pub fn was_idle(&mut self, key: &ConnKey, idle: Duration, now: Duration) {
        let then = ticks(now.saturating_sub(idle));
        self.model.change_connection(key, |value| value.last_seen = then);
    }

    /// The backend of a connection.
    #[must_use]
    pub fn backend_of(&self, key: &ConnKey) -> Option<u16> {
        self.model.connection(key).map(|value| value.backend)
    }

    /// Whether the entries of a connection may stay: its backend is there, or its VIP keeps connections of backends that
    /// are not, and it is still at the MAC that they name.
    #[must_use]
    pub fn may_stay(&self, key: &ConnKey, backend_mac: MacAddr) -> bool {
        let record = |value: ConnValue| {
            let record = self.model.backends.get(&value.backend)?;
            let its = record.generation == value.generation && record.vip == key.vip();
            its.then_some(record)
        };
        let vip = self.model.vips.get(&key.vip());
        let (Some(vip), Some(record)) = (vip, self.model.connection(key).and_then(record)) else {
            return false;
        };
        /// IP protocol number of TCP.
        const TCP: u8 = 6;
        record.mac == backend_mac.0 && stays(vip, record, key.protocol() != TCP)
    }

    /// Lets go of what has ended or timed out, and of the ids that nothing carries any more; the lines for the log.
    pub fn sweep(&mut self, now: Duration) -> Vec<(Level, String)> {
        if now.saturating_sub(self.swept) < SWEEP {
            return Vec::new();
        }
        self.swept = now;
        let pins = &self.pins;
        self.model.sweep(ticks(now), |key| pins.is_busy(key));
        let clients = &self.config.connections;
        let most = clients.affinity_size.max(clients.source_size);
        self.model.forget_clients(ticks(now), usize::try_from(most).unwrap_or(usize::MAX));
        // Those of a daemon are its own to give.
        if self.following.is_none() && self.ids.any_resting() {
            let (backends, vips) = self.model.in_use();
            self.ids.release_unused(&vips, &backends);
        }
        self.follow_orders(now)
    }

    /// The connections, in the order of their keys.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let both = self.model.connections().into_iter().chain(self.model.half_open_connections());
        both.map(|(key, value)| Connection { key, value }).collect()
    }

    /// Takes over a connection of another balancer with the same ids, or of an entry that was found; whether it could.
    /// Its entries are made when its next packet comes.
    pub fn adopt(&mut self, connection: &Connection, now: Duration) -> bool {
        let Connection { key, mut value } = *connection;
        let fits = self.model.backends.get(&value.backend).is_some_and(|record| record.vip == key.vip());
        value.last_seen = ticks(now);
        fits && (self.model.connection(&key).is_some_and(|there| there.backend == value.backend)
            || self.model.put_connection(&key, &value))
    }

    /// The connection that an entry of an earlier controller tells of, by what it matches and what it makes of it.
    #[must_use]
    pub fn found(&self, side: Side, came: &FlowKey, left: &FlowKey) -> Option<Connection> {
        let (from, to) = match side {
            Side::Client => (*came, *left),
            Side::Backend => (left.reversed()?, came.reversed()?),
        };
        let (ip, behind) = (from.ip?, to.ip?);
        let ((client_port, vip_port), protocol) = (ip.ports?, ip.protocol?);
        let (_, port) = behind.ports?;
        let id = serving_vip(&self.model, address(ip.dst), vip_port.to_be(), protocol);
        let its = |record: &lb_core::table::BackendRecord| {
            let serves = record.port == 0 || record.port == port.to_be();
            // With `dsr` addresses stay, and the MAC alone tells.
            let same = record.address == address(behind.dst) || ip.dst == behind.dst;
            record.vip == id && same && serves && record.mac == to.dst.0
        };
        let (backend, record) = self.model.backends.iter().find(|(_, record)| its(record))?;
        let key = ConnKey::new(address(ip.src), client_port.to_be(), id, vip_port.to_be(), protocol);
        /// IP protocol number of TCP.
        const TCP: u8 = 6;
        let state = if protocol == TCP { conn::state::ESTABLISHED } else { conn::state::UDP };
        let value = ConnValue {
            backend: *backend,
            generation: record.generation,
            state,
            flags: conn::flag::ANSWERED,
            ..ConnValue::default()
        };
        Some(Connection { key, value })
    }

    /// Of whom an entry tells: a client's packets are for a virtual MAC.
    #[must_use]
    pub fn side_of(&self, came: &FlowKey) -> Side {
        if self.is_virtual(came.dst) { Side::Client } else { Side::Backend }
    }
}

/// What the other stages know of a balancer of this configuration.
#[must_use]
pub fn knowledge(config: &Config) -> VipKnowledge {
    let v4 = |address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let vips = config.vips.iter().filter_map(|vip| Some((v4(vip.address)?, MacAddr(vip.mac.0))));
    let backends = config.backend_addresses().into_iter().filter_map(v4);
    VipKnowledge::new(vips, backends, [probe::PROBER], Placement::Flows)
}

/// Whether a reason says that a packet was balanced, and by which side it was sent.
#[must_use]
pub const fn side_of_reason(reason: Reason) -> Option<Side> {
    match reason {
        Reason::ToBackendRedirect | Reason::ToBackendTransmit | Reason::ToBackendSwitch => Some(Side::Client),
        Reason::ToClientRedirect | Reason::ToClientTransmit | Reason::ToClientSwitch => Some(Side::Backend),
        _ => None,
    }
}

/// Whether the frame is a whole packet with ports: of a part of one the flow does not tell the others'.
#[must_use]
pub fn is_whole(frame: &Frame) -> bool {
    frame.ip.is_some_and(|ip| !ip.fragment && ip.ports.is_some())
}

/// Whether both sides of a connection have ended it, or one has reset it.
#[must_use]
pub const fn is_finished(value: &ConnValue) -> bool {
    const BOTH: u8 = conn::flag::CLIENT_FIN | conn::flag::BACKEND_FIN;
    value.state == conn::state::CLOSED || value.flags & BOTH == BOTH
}

fn address(ip: IpAddr) -> Address {
    records::address(ip)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn ticks(time: Duration) -> Ticks {
    ticks_from_ns(nanoseconds(time))
}
