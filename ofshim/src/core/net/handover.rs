//! Balancing in the place of a daemon's XDP programs: asked to by the daemon, or because packets for its VIPs reach the
//! switches.
//!
//! ```text
//!              take (lb mode openflow)
//!   stands by -----------------------------> follows: balances with the daemon's configuration, ids and health
//!       ^  \                                    |   ^
//!       |   packet for a VIP: it waits, the     |   |  told every second what has changed
//!       |   daemon is asked ------------------->+---'
//!       '-------- release (lb mode xdp, or the daemon's programs are back) ------'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::conn::{Side, state};
use lb_core::host::handover::{Handover, Standing, Told};
use lb_core::host::health::State;
use lb_core::host::ids::BackendKey;
use lb_core::host::records;
use lb_core::table::ConnKey;
use openflow::{DatapathId, MacAddr, PacketInRef, Version};

use super::balancing::Planned;
use super::proxy::ASKER;
use super::stages::{Context, Next};
use super::{Network, Out};
use crate::core::balance::probe::PROBER;
use crate::core::balance::{Balancer, LegKey, check, is_finished};
use crate::core::event::Level;
use crate::core::forward::{DropReason, Fate};
use crate::core::frame::{Frame, arp_probe};
use crate::core::ip::{Neighbour, solicitation};
use crate::core::learn::Station;
use crate::core::topo::Place;
use crate::core::vip::{Placement, VipKnowledge};

/// How long the hosts of connections that are taken over have to say where they are.
const HOSTS_PATIENCE: Duration = Duration::from_millis(500);
/// How long switches have to confirm the entries of connections that are taken over.
const SWITCHES_PATIENCE: Duration = Duration::from_secs(5);
/// The most hosts that are asked where they are; the first packets of others tell.
const MAX_ASKED: usize = 1024;
/// Packets that wait for the daemon's answer at most, and their bytes.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 4 << 20;
/// After an answer that nothing is to be done, the daemon is not asked because of a packet for so long.
const QUIET: Duration = Duration::from_millis(250);
/// After a refusal to stand in.
const QUIET_REFUSED: Duration = Duration::from_secs(5);
/// After a release packets may still come that were on their way.
const LATE: Duration = Duration::from_millis(500);
/// So many answers in a row that XDP balances end a balancing that the daemon has forgotten.
const STALE_ANSWERS: u32 = 3;
/// Tokens of barriers behind entries of connections that are taken over have this bit.
const TAKE_TOKEN: u64 = 1 << 62;

/// Whether this controller may stand in for a daemon's balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandBy {
    /// Never; why, for whoever asks it to.
    Never(&'static str),
    /// Whenever it has to.
    Ready {
        /// Of random choices: another one for each run.
        seed: u64,
    },
}

impl Default for StandBy {
    fn default() -> Self {
        Self::Never("it leaves balancing to others: start it with --lb auto")
    }
}

/// Why this controller balances for a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The daemon asked for it.
    Asked,
    /// The daemon's programs are off their interfaces, or cannot be put on.
    Detached,
    /// The daemon leaves balancing to flow entries, and these had no controller.
    Mode,
    /// Packets for VIPs reach the switches, and the daemon does not answer.
    Silent,
}

impl Why {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Asked => "the balancer's daemon handed over",
            Self::Detached => "XDP is not attached, says the balancer's daemon",
            Self::Mode => "the balancer's daemon is in mode openflow",
            Self::Silent => "packets for VIPs reach the switches, and the balancer's daemon does not answer",
        }
    }
}

/// What became of the connections of a hand-over.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Taken {
    /// Those that have their entries in the switches.
    pub installed: u64,
    /// Those that are known, and get their entries with their next packets if they have any: half-open ones, ended ones, and
    /// those of hosts that are not known yet.
    pub remembered: u64,
    /// Those that found no room, here or on a switch, or whose backends are not known.
    pub refused: u64,
}

/// Connections that are being taken over.
#[derive(Debug)]
struct Taking {
    since: Duration,
    connections: Vec<ConnKey>,
    /// Who has not said yet where it is.
    missing: BTreeSet<(IpAddr, Option<MacAddr>)>,
    taken: Taken,
    /// Barriers that are not through; none before the entries were sent.
    tokens: Option<BTreeMap<u64, DatapathId>>,
}

/// What standing in for a daemon needs.
#[derive(Debug, Default)]
pub struct Stand {
    why: Option<Why>,
    since: Duration,
    /// What the daemon said last, without connections, and what it knows of the ports.
    last: Option<Handover>,
    standing: Option<Standing>,
    silent: bool,
    inline: VipKnowledge,
    waiting: Vec<(Place, Vec<u8>)>,
    waiting_bytes: usize,
    asked: bool,
    quiet_until: Duration,
    late_until: Duration,
    stale: u32,
    taking: Option<Taking>,
    done: Option<Result<Taken, String>>,
    last_token: u64,
}

impl Stand {
    /// Why this controller balances for a daemon, if it does.
    #[must_use]
    pub const fn why(&self) -> Option<Why> {
        self.why
    }

    /// Since when.
    #[must_use]
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// What the daemon said of itself; `None` before it has said anything, or while it does not answer.
    #[must_use]
    pub const fn standing(&self) -> Option<Standing> {
        if self.silent { None } else { self.standing }
    }
}

impl Network {
    /// Whether and why this controller stands in for a daemon.
    #[must_use]
    pub const fn stand(&self) -> &Stand {
        &self.stand
    }

    /// What is known of the balancer.
    #[must_use]
    pub const fn known(&self) -> &VipKnowledge {
        &self.known
    }

    /// Whether this controller balances in the place of a daemon.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.balancer.as_ref().is_some_and(Balancer::follows)
    }

    /// What is known of the balancer while it balances by XDP.
    pub fn knowledge_for_later(&mut self, known: &VipKnowledge) {
        self.stand.inline = known.clone();
        if self.follows() {
            self.known = self.known_while_following();
        }
    }

    /// Begins to balance what the daemon gives, or goes on with more of it; [`Self::take_done`] tells the end.
    ///
    /// # Errors
    /// One line: another hand-over is under way, or flow entries cannot do what is asked for; then nothing has changed.
    pub fn take(&mut self, given: &Handover, now: Duration) -> Result<(), String> {
        self.now = now;
        if self.stand.taking.is_some() || self.stand.done.is_some() {
            return Err("another hand-over is under way; wait for its end".to_owned());
        }
        self.begin(given, Why::Asked)?;
        self.go_on_taking();
        Ok(())
    }

    /// What became of the hand-over that was asked for, once.
    pub fn take_done(&mut self) -> Option<Result<Taken, String>> {
        self.stand.done.take()
    }

    /// All that the daemon has to know to balance again.
    ///
    /// # Errors
    /// This controller does not balance for a daemon. One line.
    pub fn handover(&self, now: Duration) -> Result<Handover, String> {
        let balancer = self.balancer.as_ref().filter(|balancer| balancer.follows());
        balancer.map(|balancer| balancer.handover(now)).ok_or_else(|| NOT_FOLLOWING.to_owned())
    }

    /// Stops balancing for a daemon: the entries of connections go.
    ///
    /// # Errors
    /// This controller does not balance for a daemon. One line.
    pub fn release(&mut self, now: Duration) -> Result<usize, String> {
        self.now = now;
        let Some(balancer) = self.balancer.as_ref().filter(|balancer| balancer.follows()) else {
            return Err(NOT_FOLLOWING.to_owned());
        };
        let connections = balancer.pins.connections();
        let legs: Vec<LegKey> = balancer.pins.iter().map(|(key, _)| *key).collect();
        for key in legs {
            self.end_leg(&key);
        }
        self.drop_orphans();
        self.balancer = None;
        let inline = self.stand.inline.clone();
        self.knowledge_changed(&inline);
        let last = self.stand.last.take();
        let was_taking = self.stand.taking.is_some() && self.stand.why == Some(Why::Asked);
        let done = was_taking.then(|| Err("balancing was ended meanwhile".to_owned()));
        let last_token = self.stand.last_token;
        // Whoever releases balances by itself.
        let (standing, late_until) = (Some(Standing::Xdp), now + LATE);
        self.stand = Stand { last, standing, inline, done, late_until, last_token, ..Stand::default() };
        self.log(
            Level::Info,
            format!("balancing for the balancer's daemon ended; {connections} connections had entries"),
        );
        Ok(connections)
    }

    /// The daemon said what it balances, or does not answer; `asked` if it was asked because of a packet, and then it said
    /// it with its connections if its programs do not balance.
    pub fn told(&mut self, told: Result<Told, String>, asked: bool, now: Duration) {
        self.now = now;
        self.stand.asked &= !asked;
        self.stand.silent = told.is_err();
        match told {
            Ok(told) => self.heard_daemon(told, asked),
            Err(why) if asked && !self.follows() => match self.stand.last.clone() {
                Some(last) => self.stand_in(&last, Why::Silent),
                None => self.drop_waiting(&format!("the balancer's daemon does not answer: {why}")),
            },
            Err(_) => {}
        }
    }

    fn heard_daemon(&mut self, told: Told, asked: bool) {
        let Told { standing, state } = told;
        self.stand.standing = Some(standing);
        let without = Handover { connections: Vec::new(), ..state };
        if self.follows() {
            self.stand.stale = if standing == Standing::Xdp { self.stand.stale + 1 } else { 0 };
            self.follow_daemon(without);
            if self.stand.stale >= STALE_ANSWERS {
                let text =
                    "the balancer's daemon balances by XDP, and has not asked for what is balanced here";
                self.log(Level::Warn, text.to_owned());
                // It follows, so it can be released.
                let _ = self.release(self.now);
            }
            return;
        }
        let given = Handover { connections: state.connections, ..without.clone() };
        self.stand.last = Some(without);
        match (standing, asked) {
            (Standing::Detached, true) => self.stand_in(&given, Why::Detached),
            (Standing::OpenFlow, true) => self.stand_in(&given, Why::Mode),
            (Standing::OpenFlow, false) => self.ask_daemon(),
            (_, true) => {
                self.drop_waiting("");
                self.stand.quiet_until = self.now + QUIET;
            }
            (_, false) => {}
        }
    }

    fn ask_daemon(&mut self) {
        let ready = matches!(self.settings.stand_by, StandBy::Ready { .. });
        if ready && !std::mem::replace(&mut self.stand.asked, true) {
            self.out.push(Out::AskDaemon);
        }
    }

    /// Takes over by itself, and sends the packets on that waited for it.
    fn stand_in(&mut self, given: &Handover, why: Why) {
        if let Err(refused) = self.begin(given, why) {
            self.log(Level::Warn, format!("VIPs cannot be balanced by flow entries here: {refused}"));
            self.stand.quiet_until = self.now + QUIET_REFUSED;
            return self.drop_waiting("");
        }
        self.go_on_taking();
    }

    /// Decides about the packets that waited.
    fn send_waiting(&mut self) {
        self.stand.waiting_bytes = 0;
        for (at, bytes) in std::mem::take(&mut self.stand.waiting) {
            if let Some(frame) = Frame::parse(&bytes) {
                let packet = PacketInRef::whole(at.port, &bytes);
                self.packet_in(at.dpid, &packet, &frame, self.now);
            }
        }
    }

    /// A packet for a VIP while hosts are asked where they are: it waits, or it would be flooded.
    pub(super) fn wait_for_hosts(&mut self, context: &Context<'_>) -> Option<Next> {
        let asks = self.stand.taking.as_ref().is_some_and(|taking| taking.tokens.is_none());
        let is_virtual = |balancer: &Balancer| balancer.is_virtual(context.frame.dst);
        (asks && self.balancer.as_ref().is_some_and(is_virtual)).then(|| self.let_wait(context))
    }

    fn drop_waiting(&mut self, why: &str) {
        let count = std::mem::take(&mut self.stand.waiting).len();
        self.stand.waiting_bytes = 0;
        if count > 0 {
            *self.stops.entry("for a VIP, and XDP is not attached").or_default() += count as u64;
        }
        if !why.is_empty() {
            self.log(Level::Debug, why.to_owned());
        }
    }

    /// A packet for a VIP that XDP should have had: it waits until the daemon has said who balances. `None` if it is none,
    /// or nobody stands by.
    pub(super) fn watch_for_vips(&mut self, context: &Context<'_>) -> Option<Next> {
        let stands_by = matches!(self.settings.stand_by, StandBy::Ready { .. }) && self.balancer.is_none();
        if !stands_by || self.known.placement() != Placement::Inline || !self.is_for_vip(context) {
            return None;
        }
        if self.now < self.stand.late_until {
            return Some(Next::Stop("for a VIP, and late: XDP balances again"));
        }
        if self.now < self.stand.quiet_until {
            let reason = match context.decision {
                Some(Fate::Drop(reason @ (DropReason::Unbalanced(_) | DropReason::VipArp(_)))) => reason,
                _ => return Some(Next::Stop("for a VIP, and XDP is not attached")),
            };
            // No entry: it would hide from us that XDP has gone.
            self.out.push(Out::Dropped { at: context.at, reason });
            return Some(Next::Stop("for a VIP, and XDP is not attached"));
        }
        self.ask_daemon();
        Some(self.let_wait(context))
    }

    fn let_wait(&mut self, context: &Context<'_>) -> Next {
        let (stand, packet) = (&mut self.stand, &context.packet);
        let whole = packet.data.len() >= usize::from(packet.total_len);
        let room =
            stand.waiting.len() < MAX_WAITING && stand.waiting_bytes + packet.data.len() <= MAX_WAITING_BYTES;
        if !whole || !room {
            return Next::Stop("for a VIP, and too many wait until it is balanced");
        }
        stand.waiting_bytes += packet.data.len();
        stand.waiting.push((context.at, packet.data.to_vec()));
        Next::Stop("")
    }

    fn is_for_vip(&self, context: &Context<'_>) -> bool {
        let Some(last) = &self.stand.last else { return false };
        if let Some(Fate::Drop(DropReason::Unbalanced(_) | DropReason::VipArp(_))) = context.decision {
            return true;
        }
        let target = match context.frame.ip.and_then(|ip| ip.neighbour) {
            Some(Neighbour::Solicitation { target }) => Some(IpAddr::V6(target)),
            _ => None,
        };
        let dst = context.frame.dst;
        last.config.vips.iter().any(|vip| vip.mac.0 == dst.0 || Some(vip.address) == target)
    }

    fn begin(&mut self, given: &Handover, why: Why) -> Result<(), String> {
        let seed = match self.settings.stand_by {
            StandBy::Ready { seed } => seed,
            StandBy::Never(why) => {
                return Err(format!("this controller does not balance for a daemon: {why}"));
            }
        };
        self.check_given(given)?;
        let now = self.now;
        match &mut self.balancer {
            Some(balancer) if balancer.follows() => {
                let replanned = balancer.follow_daemon(given);
                self.replanned(&replanned);
            }
            Some(_) => return Err("this controller balances by a configuration of its own".to_owned()),
            None => {
                self.balancer = Some(Balancer::following(given, seed, now));
                self.stand.since = now;
                self.stand.stale = 0;
                let known = self.known_while_following();
                self.knowledge_changed(&known);
                let text = format!("balancing by flow entries: {}", why.words());
                self.log(if why == Why::Asked { Level::Info } else { Level::Warn }, text);
            }
        }
        self.stand.why = Some(why);
        self.stand.last = Some(Handover { connections: Vec::new(), ..given.clone() });
        self.adopt_given(given);
        Ok(())
    }

    fn check_given(&self, given: &Handover) -> Result<(), String> {
        let mut config = given.config.clone();
        for backend in config.vips.iter_mut().flat_map(|vip| &mut vip.backends) {
            // The daemon has looked it up.
            backend.host = None;
        }
        let new = self.members.is_empty() || self.members.values().any(|one| one.version == Version::V1_3);
        let versions: &[Version] = if new { &[Version::V1_0, Version::V1_3] } else { &[Version::V1_0] };
        check::config(&config, versions)
    }

    fn known_while_following(&self) -> VipKnowledge {
        let Some(balancer) = &self.balancer else { return self.stand.inline.clone() };
        let known = crate::core::balance::knowledge(balancer.config());
        let probers = self.stand.inline.probers().chain([PROBER]);
        VipKnowledge::new(known.vips(), known.backends(), probers, Placement::Flows)
    }

    /// Takes over the connections, and asks those where they are that are not known.
    fn adopt_given(&mut self, given: &Handover) {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return };
        let mut taken = Taken::default();
        let mut connections = Vec::with_capacity(given.connections.len());
        let mut stale = Vec::new();
        for told in &given.connections {
            match balancer.take(told, now) {
                Some((key, other)) => {
                    if other {
                        stale.extend(balancer.pins.of(&key));
                    }
                    connections.push(key);
                }
                None => taken.refused += 1,
            }
        }
        let clients: BTreeSet<IpAddr> = connections.iter().map(|key| records::ip(key.client)).collect();
        let backends = balancer.plan().backends.values();
        let backends: BTreeSet<(IpAddr, Option<MacAddr>)> = backends
            .filter_map(|backend| Some((backend.key.address, Some(MacAddr(backend.neighbour?.mac.0)))))
            .collect();
        for key in stale {
            self.end_leg(&key);
        }
        self.adopt_orphans();
        let missing = clients.into_iter().map(|client| (client, None)).chain(backends);
        let missing: BTreeSet<_> = missing.filter(|host| !self.is_found(host)).take(MAX_ASKED).collect();
        for (address, mac) in &missing {
            let frame = match address {
                IpAddr::V4(address) => {
                    let to = mac.unwrap_or(MacAddr::BROADCAST);
                    arp_probe(to, ASKER, std::net::Ipv4Addr::UNSPECIFIED, *address, None)
                }
                IpAddr::V6(address) => solicitation(*mac, ASKER, *address, None),
            };
            self.ask_everywhere(&frame);
        }
        self.stand.taking = Some(Taking { since: now, connections, missing, taken, tokens: None });
    }

    /// Whether it is known where a host is.
    fn is_found(&self, (address, mac): &(IpAddr, Option<MacAddr>)) -> bool {
        match mac {
            Some(mac) => {
                let probed = self.balancer.as_ref().and_then(|balancer| balancer.place_of(*mac));
                probed.is_some() || !self.hosts.with_mac(*mac).is_empty()
            }
            None => self.hosts.with_address(*address).next().is_some(),
        }
    }

    /// Installs the entries once all hosts are known, or the time for that is over; ends the hand-over once the switches
    /// have confirmed.
    pub(super) fn go_on_taking(&mut self) {
        let Some(mut taking) = self.stand.taking.take() else { return };
        let passed = self.now.saturating_sub(taking.since);
        if taking.tokens.is_none() {
            taking.missing.retain(|host| !self.is_found(host));
            if taking.missing.is_empty() || passed >= HOSTS_PATIENCE {
                let tokens = self.install_taken(&mut taking);
                taking.tokens = Some(tokens);
                self.send_waiting();
            }
        }
        let through = taking.tokens.as_ref().is_some_and(BTreeMap::is_empty);
        if !through && passed < SWITCHES_PATIENCE {
            self.stand.taking = Some(taking);
            return;
        }
        let Taken { installed, remembered, refused } = taking.taken;
        let text = format!(
            "{installed} connections of the balancer's daemon have entries, {remembered} get them with their next packets, \
             {refused} found no place"
        );
        self.log(Level::Info, text);
        if self.stand.why == Some(Why::Asked) {
            let silent = "the switches have not confirmed the entries in time";
            self.stand.done = Some(if through { Ok(taking.taken) } else { Err(silent.to_owned()) });
        }
    }

    /// Sends the entries of connections, and a barrier behind them to each switch.
    fn install_taken(&mut self, taking: &mut Taking) -> BTreeMap<u64, DatapathId> {
        let mut switches = BTreeSet::new();
        for key in std::mem::take(&mut taking.connections) {
            match self.install_connection(&key, &mut switches) {
                Some(true) => taking.taken.installed += 1,
                Some(false) => taking.taken.refused += 1,
                None => taking.taken.remembered += 1,
            }
        }
        let mut tokens = BTreeMap::new();
        for dpid in switches.into_iter().filter(|dpid| self.members.contains_key(dpid)) {
            self.stand.last_token += 1;
            let token = TAKE_TOKEN | self.stand.last_token;
            tokens.insert(token, dpid);
            self.out.push(Out::Barrier { dpid, token });
        }
        tokens
    }

    /// Installs both directions of a connection; false if a switch has no room, `None` if it has to wait for a packet.
    fn install_connection(&mut self, conn: &ConnKey, switches: &mut BTreeSet<DatapathId>) -> Option<bool> {
        let balancer = self.balancer.as_ref()?;
        if balancer.pins.is_busy(conn) {
            return Some(true);
        }
        let value = balancer.model().connection(conn)?;
        let goes_on = matches!(value.state, state::ESTABLISHED | state::CLOSING | state::UDP);
        if !goes_on || is_finished(&value) {
            return None;
        }
        let client = self.hosts.with_address(records::ip(conn.client)).next()?;
        let (came, left) = balancer.directions(conn, client.mac, client.vlan)?;
        let at = self.hosts.place_of(client, &|_| true)?;
        let to = self.seat_of(Station { mac: left.dst, vlan: left.vlan }, at.dpid)?;
        let way = self.way_of(at, to, &left)?;
        let key = LegKey { at, came };
        if !self.may_install(&key) {
            return Some(false);
        }
        switches.extend(way.iter().map(|(at, _)| at.dpid));
        let planned = Planned { key, conn: *conn, side: Side::Client, left, way };
        switches.extend(self.install_way_back(&planned));
        self.install_leg(planned);
        if let Some(balancer) = &mut self.balancer {
            balancer.pinned(conn);
        }
        Some(true)
    }

    /// A switch confirmed; whether that was about connections that are taken over.
    pub(super) fn took(&mut self, token: u64, now: Duration) -> bool {
        if token & TAKE_TOKEN == 0 {
            return false;
        }
        self.now = now;
        if let Some(tokens) = self.stand.taking.as_mut().and_then(|taking| taking.tokens.as_mut()) {
            tokens.remove(&token);
        }
        self.go_on_taking();
        true
    }

    /// A switch's connection ended: nobody waits for it.
    pub(super) fn take_without(&mut self, dpid: DatapathId) {
        if let Some(tokens) = self.stand.taking.as_mut().and_then(|taking| taking.tokens.as_mut()) {
            tokens.retain(|_, of| *of != dpid);
        }
    }

    /// Follows what the daemon says now.
    fn follow_daemon(&mut self, now: Handover) {
        let same = |last: &Handover| {
            (&last.config, &last.vips, &last.backends, &last.health)
                == (&now.config, &now.vips, &now.backends, &now.health)
        };
        if self.stand.last.as_ref().is_some_and(same) {
            return;
        }
        if let Err(refused) = self.check_given(&now) {
            let text = format!("what the balancer's daemon balances now cannot be done here: {refused}");
            if self.stand.quiet_until <= self.now {
                self.stand.quiet_until = self.now + QUIET_REFUSED;
                self.log(Level::Warn, text);
            }
            return;
        }
        let before = self.stand.last.take();
        let Some(balancer) = &mut self.balancer else { return };
        let replanned = balancer.follow_daemon(&now);
        self.known = self.known_while_following();
        self.replanned(&replanned);
        let states = |given: &Handover| -> BTreeMap<BackendKey, State> {
            given.health.iter().map(|(key, seen)| (*key, seen.state)).collect()
        };
        let old = before.as_ref().map(states).unwrap_or_default();
        for (key, to) in states(&now) {
            if old.get(&key) != Some(&to) {
                let level = if to == State::Down { Level::Warn } else { Level::Info };
                self.log(level, format!("backend {} {to}, says the balancer's daemon", key.address));
            }
        }
        self.stand.last = Some(now);
    }
}

/// To whoever wants something back that is not here.
const NOT_FOLLOWING: &str = "this controller does not balance for a daemon";
