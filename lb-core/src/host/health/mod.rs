//! Which backends live: a prober without sockets or clock, one for all backends.
//!
//! Events go in with the time, commands come out ([`Prober::handle`]). All times are nanoseconds of one monotonic
//! clock, receive times are the kernel's.
//!
//! ```text
//!                      fall misses in a row, or its link went down
//!            +----------------------------------------------------------+
//!            |                                                          v
//!       +---------+  rise answers in a row   +----+  the same        +------+
//!  ---> | probing | -----------------------> | up | ---------------> | down |
//!       +---------+                          +----+ <--------------- +------+
//!            ^                               |    ^   rise answers in a row
//!            |                         drain |    | enable
//!            |                               v    |
//!            |  enable   +----------+     +----------+
//!            +---------- | disabled |     | draining |   (draining falls to down as up does, and comes back to
//!                        +----------+     +----------+    draining; a drain of a backend that is not up shows later)
//!                             ^  disable, from every state
//! ```
//!
//! Only `up` is in rotation. A disabled backend is not probed.
//!
//! # What counts
//! A probe is answered if a reply was *received* between its sending and its timeout, however late it is read. It is
//! missed if there was none. It counts for nothing
//!
//! * if it was sent, or its timeout looked at, later than the tolerance allows: the prober's own lateness never takes
//!   a backend down;
//! * if it could not be sent, or its sending was never confirmed;
//! * if the data plane saw a frame of an up backend after it was sent ([`Event::FrameSeen`]), which also cancels the
//!   misses before that.
//!
//! A reply that no probe asked for does nothing. A reply from another MAC or interface than before makes an up backend
//! "up again", so that records are written anew.
//!
//! # What the driver does
//! At the time of [`Command::NextWakeAt`], and whenever else it likes:
//!
//! 1. read the clock: `t`;
//! 2. read the socket until it is empty, handing in every [`Event::Reply`];
//! 3. for every backend in [`Prober::due`], hand in [`Event::FrameSeen`] with the time of its last frame;
//! 4. hand in [`Event::Wake`] with `drained_up_to: t`; carry out the commands, answering each
//!    [`Command::SendProbe`] with [`Event::ProbeSent`] or [`Event::SendFailed`].
//!
//! A timeout is judged only when everything up to it was drained, so a full socket never looks like a dead backend.

mod cause;
mod damping;
mod members;
mod service;
mod target;
mod types;

use core::net::IpAddr;
use std::collections::BTreeMap;

pub use self::cause::{Cause, Failure, ServiceCause, Waiting};
pub use self::members::{Action, FULL_SHARE, MemberStatus, Members};
use self::target::Target;
pub use self::types::{
    Command, Counters, Destination, Discovery, Event, Neighbour, Reason, State, Station, Status,
};
use super::config::{HealthConfig, HealthPreset};

const NS_PER_MS: u64 = 1_000_000;
/// How soon to come back when the socket was not drained far enough.
const RETRY_NS: u64 = NS_PER_MS;
/// POX probes no faster than four backends a second.
const SHORTEST_TICK_NS: u64 = 250 * NS_PER_MS;

/// How to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Every backend at its own pace, or one a tick.
    pub preset: HealthPreset,
    /// From one probe of a backend to the next, before jitter.
    pub interval_ns: u64,
    /// In which an answer counts.
    pub timeout_ns: u64,
    /// Answers in a row that make a backend up; at least 1.
    pub rise: u32,
    /// Misses in a row that make it down; at least 1.
    pub fall: u32,
    /// Per cent of the interval added at random, at most.
    pub jitter_pct: u32,
    /// How late the prober may be for a probe to count; less than the interval.
    pub tolerance_ns: u64,
    /// Of the jitter.
    pub seed: u64,
}

impl Settings {
    /// The settings of a configuration, with a tolerance of 50 ms, or half of an interval below 100 ms: a prober that
    /// is late by whole intervals sends fewer probes and could not keep the bound.
    #[must_use]
    pub fn new(config: &HealthConfig, seed: u64) -> Self {
        let interval_ns = u64::from(config.interval_ms) * NS_PER_MS;
        Self {
            preset: config.preset,
            interval_ns,
            timeout_ns: u64::from(config.timeout_ms) * NS_PER_MS,
            rise: config.rise.max(1),
            fall: config.fall.max(1),
            jitter_pct: config.jitter_pct,
            tolerance_ns: tolerance_ns(interval_ns),
            seed,
        }
    }

    /// The longest time from the death of one of `backends` backends to its state change, while the driver is never
    /// later than the tolerance: `fall` intervals with full jitter, the timeout, and the tolerance once for the last
    /// sending and once for its timeout.
    #[must_use]
    pub fn longest_detection_ns(&self, backends: usize) -> u64 {
        let round = match self.preset {
            HealthPreset::Default => self.interval_ns + self.longest_jitter_ns(),
            HealthPreset::Pox => self.tick_ns(backends).saturating_mul(backends.max(1) as u64),
        };
        round
            .saturating_mul(u64::from(self.fall))
            .saturating_add(self.timeout_ns)
            .saturating_add(2 * self.tolerance_ns)
    }

    fn longest_jitter_ns(&self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.jitter_pct)) / 100
    }

    fn tick_ns(&self, backends: usize) -> u64 {
        (self.interval_ns / backends.max(1) as u64).max(SHORTEST_TICK_NS)
    }
}

/// How late a prober may be for a probe to count: 50 ms, or half of an interval below 100 ms.
const fn tolerance_ns(interval_ns: u64) -> u64 {
    let half = interval_ns / 2;
    if half < 50 * NS_PER_MS { half } else { 50 * NS_PER_MS }
}

/// The prober of all backends.
#[derive(Clone, Debug)]
pub struct Prober {
    settings: Settings,
    targets: BTreeMap<Station, Target>,
    /// Preset pox: when the next tick is, and who was probed last.
    tick: u64,
    cursor: Option<Station>,
}

impl Prober {
    /// A prober without backends; [`Self::configure`] gives it some.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, targets: BTreeMap::new(), tick: 0, cursor: None }
    }

    /// Takes new settings and the whole set of backends to watch. Those that were watched keep their state, new ones
    /// begin as [`State::Probing`] with their first probes spread over one interval, the others are forgotten.
    #[must_use]
    pub fn configure(&mut self, settings: Settings, backends: &[Station], now: u64) -> Vec<Command> {
        self.settings = settings;
        self.targets.retain(|station, _| backends.contains(station));
        let new: Vec<Station> =
            backends.iter().copied().filter(|station| !self.targets.contains_key(station)).collect();
        let gap = settings.interval_ns / new.len().max(1) as u64;
        for (place, station) in (0_u64..).zip(new) {
            self.targets.insert(
                station,
                Target::new(
                    Discovery::of(station.address),
                    now,
                    now.saturating_add(gap.saturating_mul(place)),
                ),
            );
        }
        self.tick = self.tick.clamp(now, now.saturating_add(self.tick_ns()));
        self.next_wake(now).into_iter().collect()
    }

    /// Begins with a backend as up, where it was found by an earlier daemon whose tables are adopted: it stays in
    /// rotation, and goes down only by missed probes.
    pub fn assume_up(&mut self, backend: Station, neighbour: Neighbour, now: u64) {
        if let Some(target) = self.targets.get_mut(&backend) {
            target.assume_up(neighbour, now);
        }
    }

    /// Backends that [`Event::Wake`] is about to judge: the driver first asks the data plane for their last frame.
    #[must_use]
    pub fn due(&self, now: u64) -> Vec<Station> {
        self.targets
            .iter()
            .filter(|(_, t)| t.is_due(&self.settings, now))
            .map(|(address, _)| *address)
            .collect()
    }

    /// Every backend with what is known about it.
    pub fn status(&self) -> impl Iterator<Item = (Station, Status)> + '_ {
        self.targets.iter().map(|(address, target)| (*address, target.status()))
    }

    /// The state of one backend, if it is watched.
    #[must_use]
    pub fn state(&self, backend: Station) -> Option<State> {
        self.targets.get(&backend).map(Target::state)
    }

    /// Where a backend was last found.
    #[must_use]
    pub fn neighbour(&self, backend: Station) -> Option<Neighbour> {
        self.targets.get(&backend).and_then(Target::neighbour)
    }

    /// Takes in one event at time `now`.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: u64) -> Vec<Command> {
        let settings = self.settings;
        let mut commands = Vec::new();
        match event {
            Event::Wake { drained_up_to } => self.wake(drained_up_to, now, &mut commands),
            Event::ProbeSent { backend, at } => self.with(backend, |t| t.sent(&settings, at)),
            Event::SendFailed { backend } => self.with(backend, Target::send_failed),
            Event::FrameSeen { backend, at } => self.with(backend, |t| t.frame_seen(at)),
            Event::Reply { backend, received_at, neighbour } => {
                let backend = self.station(backend, neighbour);
                self.change(backend, now, &mut commands, |t| t.reply(&settings, received_at, neighbour));
            }
            Event::LinkDown { interface } => self.link_down(interface, now, &mut commands),
            Event::LinkUp { interface } => {
                for target in self.targets.values_mut() {
                    target.link_up(interface, now);
                }
            }
            Event::Enable { backend } => self.change(backend, now, &mut commands, |t| t.enable(now)),
            Event::Drain { backend } => self.change(backend, now, &mut commands, |t| t.drain(now)),
            Event::Disable { backend } => self.change(backend, now, &mut commands, Target::disable),
        }
        commands.extend(self.next_wake(now));
        commands
    }

    fn wake(&mut self, drained_up_to: u64, now: u64, commands: &mut Vec<Command>) {
        let settings = self.settings;
        for (&backend, target) in &mut self.targets {
            let from = target.state();
            let reason = target.judge(&settings, drained_up_to, now);
            announce(backend, target, from, reason, now, commands);
        }
        match settings.preset {
            HealthPreset::Default => {
                for (&backend, target) in &mut self.targets {
                    if target.wants_probe(now) {
                        let jitter = target.jitter(&settings, backend);
                        commands
                            .push(Command::SendProbe { backend, to: target.probe(&settings, jitter, now) });
                    }
                }
            }
            HealthPreset::Pox => self.pox_tick(now, commands),
        }
    }

    /// One backend a tick, in the order of their addresses, round and round.
    fn pox_tick(&mut self, now: u64, commands: &mut Vec<Command>) {
        if now < self.tick {
            return;
        }
        let scheduled = self.tick;
        let tick = self.tick_ns();
        self.tick = if scheduled.saturating_add(tick) > now {
            scheduled.saturating_add(tick)
        } else {
            now.saturating_add(tick)
        };
        let probed = |(address, target): (&Station, &Target)| target.is_probed().then_some(*address);
        let after = self.cursor.and_then(|cursor| {
            let beyond = (core::ops::Bound::Excluded(cursor), core::ops::Bound::Unbounded);
            self.targets.range(beyond).find_map(probed)
        });
        let Some(backend) = after.or_else(|| self.targets.iter().find_map(probed)) else { return };
        self.cursor = Some(backend);
        if let Some(target) = self.targets.get_mut(&backend) {
            target.probe_as_of(&self.settings, scheduled, now);
            commands.push(Command::SendProbe { backend, to: Destination::Broadcast });
        }
    }

    fn link_down(&mut self, interface: u32, now: u64, commands: &mut Vec<Command>) {
        for (&backend, target) in &mut self.targets {
            let from = target.state();
            let reason = target.link_down(interface, now);
            announce(backend, target, from, reason, now, commands);
        }
    }

    /// Who answers from there: the one that is told by this MAC, else the one that has the address alone.
    fn station(&self, address: IpAddr, from: Neighbour) -> Station {
        let told = Station { address, mac: Some(from.mac) };
        if self.targets.contains_key(&told) { told } else { Station::from(address) }
    }

    fn with(&mut self, backend: Station, act: impl FnOnce(&mut Target)) {
        if let Some(target) = self.targets.get_mut(&backend) {
            act(target);
        }
    }

    fn change(
        &mut self,
        backend: Station,
        now: u64,
        commands: &mut Vec<Command>,
        act: impl FnOnce(&mut Target) -> Option<Reason>,
    ) {
        if let Some(target) = self.targets.get_mut(&backend) {
            let from = target.state();
            let reason = act(target);
            announce(backend, target, from, reason, now, commands);
        }
    }

    fn tick_ns(&self) -> u64 {
        self.settings.tick_ns(self.targets.values().filter(|target| target.is_probed()).count())
    }

    /// When something is due next.
    fn next_wake(&self, now: u64) -> Option<Command> {
        let own_pace = self.settings.preset == HealthPreset::Default;
        let targets = self.targets.values().filter(|target| target.is_probed());
        let mut next = targets.clone().filter_map(|t| t.next_wake(&self.settings, own_pace)).min();
        if !own_pace && targets.count() > 0 {
            next = Some(next.map_or(self.tick, |next| next.min(self.tick)));
        }
        // In the past: it is waiting for a socket that was not drained far enough, or for its first Wake.
        next.map(|next| Command::NextWakeAt(if next <= now { now.saturating_add(RETRY_NS) } else { next }))
    }
}

/// Reports a change of state, and a move of a backend that stays up.
fn announce(
    backend: Station,
    target: &mut Target,
    from: State,
    reason: Option<Reason>,
    now: u64,
    commands: &mut Vec<Command>,
) {
    let to = target.state();
    let Some(reason) = reason else { return };
    if from != to {
        target.changed(from, reason, now);
    }
    if from != to || matches!(reason, Reason::Moved { .. }) {
        commands.push(Command::StateChange { backend, from, to, reason, neighbour: target.neighbour() });
    }
}
