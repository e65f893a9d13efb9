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

mod taking;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::host::handover::{Handover, Standing, Told};
use lb_core::host::health::State;
use lb_core::host::ids::BackendKey;
use lb_core::table::ConnKey;
use openflow::{DatapathId, MacAddr, Version};

use super::{Network, Out};
use crate::core::balance::probe::PROBER;
use crate::core::balance::{Balancer, LegKey, check};
use crate::core::event::Level;
use crate::core::topo::Place;
use crate::core::vip::{Placement, VipKnowledge};

/// After an answer that nothing is to be done, the daemon is not asked because of a packet for so long.
const QUIET: Duration = Duration::from_millis(250);
/// After a refusal to stand in.
const QUIET_REFUSED: Duration = Duration::from_secs(5);
/// After a release packets may still come that were on their way.
const LATE: Duration = Duration::from_millis(500);
/// So many answers in a row that XDP balances end a balancing that the daemon has forgotten.
const STALE_ANSWERS: u32 = 3;
/// A daemon that has been silent for so long is not waited for: its backends are probed from here.
const SILENCE: Duration = Duration::from_secs(3);

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
    /// When the daemon said something last.
    heard: Duration,
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
        (self.stand.heard, self.stand.silent) = (now, false);
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
        self.watch();
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

    /// Probes the backends from here once the daemon has been silent for too long.
    pub(super) fn probe_if_silent(&mut self) {
        let silent = self.stand.silent && self.now.saturating_sub(self.stand.heard) >= SILENCE;
        let Some(balancer) = self.balancer.as_mut().filter(|balancer| silent && balancer.follows()) else {
            return;
        };
        let macs = balancer.plan().backends.values().filter_map(|backend| backend.neighbour);
        let seat = |mac: MacAddr| {
            let stations = self.hosts.with_mac(mac);
            stations.into_iter().find_map(|station| self.hosts.place_of(station, &|_| true))
        };
        let seats: BTreeMap<MacAddr, Place> = macs
            .filter_map(|neighbour| {
                let mac = MacAddr(neighbour.mac.0);
                Some((mac, seat(mac)?))
            })
            .collect();
        if let Some(lines) = balancer.probe_alone(&seats, self.now) {
            for (level, text) in lines {
                self.log(level, text);
            }
            self.balance_follow();
        }
    }

    fn heard_daemon(&mut self, told: Told, asked: bool) {
        self.stand.heard = self.now;
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
                let replanned = balancer.follow_daemon(given, now);
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

    /// Follows what the daemon says now.
    fn follow_daemon(&mut self, now: Handover) {
        let same = |last: &Handover| {
            (&last.config, &last.vips, &last.backends, &last.health)
                == (&now.config, &now.vips, &now.backends, &now.health)
        };
        let alone = self.balancer.as_ref().is_some_and(Balancer::probes_alone);
        if !alone && self.stand.last.as_ref().is_some_and(same) {
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
        let replanned = balancer.follow_daemon(&now, self.now);
        let knows_again = alone && !balancer.probes_alone();
        self.known = self.known_while_following();
        self.replanned(&replanned);
        if knows_again {
            let text = "the balancer's daemon answers again: backends are what it says";
            self.log(Level::Info, text.to_owned());
        }
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
