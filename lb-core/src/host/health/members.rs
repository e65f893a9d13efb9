//! Who is in rotation: the members of every VIP, from where their hosts are and what their services answer.
//!
//! A member is up when its host is (the [`super::Prober`]'s word) and its service is (if its VIP has a check). Both
//! together are its raw health; flap damping ([`super::damping`]) decides when it counts.
//!
//! ```text
//!  host ---+                                                   +-> state, cause      (tables, log)
//!          +-> raw health --> flap damping --> member's state -+
//!  service +                                                   +-> share, slow start (selection table)
//! ```
//!
//! A service whose host went is asked anew when the host is back: it need not have come back with it.
//!
//! # What the driver does
//! It hands in what the prober said ([`Members::host_changed`]), what became of the runs it was told to start, and at the
//! time of [`Action::NextWakeAt`] a [`Members::wake`] after everything received up to `drained_up_to`.
//!
//! # Slow start
//! A member that comes back, or that was added to a running VIP, begins with a tenth of its weight and gets another tenth
//! each tenth of `slow_start`. The steps of all members of a VIP fall together, so a VIP's selection table is built at
//! most ten times in one `slow_start`, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::damping::{Falls, Rule};
use super::service::{Opinion, Service, Step, Timing};
use super::{Cause, Failure, NS_PER_MS, RETRY_NS, Reason, ServiceCause, State, Station, Waiting};
use crate::host::config::{Admin, CheckConfig, Config, DampingConfig};
use crate::host::ids::BackendKey;

/// A whole share: a member's full weight, in tenths.
pub const FULL_SHARE: u16 = 10;

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the member's check, and name it `run` in what is said about it.
    Start {
        /// A number that no other run has.
        run: u32,
        /// Whose.
        backend: BackendKey,
    },
    /// Give the run up.
    Stop {
        /// Which.
        run: u32,
    },
    /// Put this into the tables and the log.
    Change {
        /// Whose.
        backend: BackendKey,
        /// Before.
        from: State,
        /// After; equal to `from` when it moved, or is held down.
        to: State,
        /// Why.
        cause: Cause,
    },
    /// A member's share of its weight changed: put that into the tables.
    Share,
    /// Call [`Members::wake`] at this time; replaces any earlier time. The last one, unless nothing is waited for.
    NextWakeAt(u64),
}

/// What is known about one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Its state.
    pub state: State,
    /// Since when.
    pub since_ns: u64,
    /// Why it has this state; none before the first change.
    pub cause: Option<Cause>,
    /// Why its last check failed; none if it passed.
    pub last_failure: Option<Failure>,
    /// How often it fell from up or draining to down.
    pub downs: u64,
    /// Tenths of its weight, 1 to [`FULL_SHARE`].
    pub share: u16,
}

/// A weight on its way up.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    from: u64,
    step_ns: u64,
}

impl Ramp {
    /// Begins at the next of the times that are multiples of a step: those of all members of a VIP are the same.
    fn new(slow_start_ns: u64, now: u64) -> Option<Self> {
        let step_ns = slow_start_ns / u64::from(FULL_SHARE);
        (step_ns > 0).then(|| Self { from: now.div_ceil(step_ns).saturating_mul(step_ns), step_ns })
    }

    fn share(&self, now: u64) -> u16 {
        let steps = now.saturating_sub(self.from) / self.step_ns;
        u16::try_from(steps).unwrap_or(FULL_SHARE).clamp(1, FULL_SHARE)
    }

    /// When the share changes next after `now`.
    fn next(&self, now: u64) -> u64 {
        let steps = (now.saturating_sub(self.from) / self.step_ns + 1).max(2);
        self.from.saturating_add(self.step_ns.saturating_mul(steps))
    }
}

#[derive(Clone, Debug)]
struct Member {
    host: State,
    /// The administrator took it out of service.
    is_disabled: bool,
    check: Option<CheckConfig>,
    service: Option<Service>,
    slow_start_ns: u64,
    /// Since when host and service are well without a break.
    healthy_since: Option<u64>,
    /// It waits for the end of a hold that was announced.
    is_held: bool,
    falls: Falls,
    state: State,
    since: u64,
    cause: Option<Cause>,
    downs: u64,
    /// It was there from the start: coming up for the first time is not coming back.
    is_first: bool,
    ramp: Option<Ramp>,
    share: u16,
    agenda: Option<u64>,
}

/// The members of all VIPs.
#[derive(Clone, Debug)]
pub struct Members {
    rule: Rule,
    seed: u64,
    members: BTreeMap<BackendKey, Member>,
    by_station: BTreeMap<Station, Vec<BackendKey>>,
    runs: BTreeMap<u32, BackendKey>,
    last_run: u32,
    agenda: BTreeSet<(u64, BackendKey)>,
    is_configured: bool,
}

impl Members {
    /// Without members; [`Self::configure`] gives it some. `seed` is of the jitter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rule: Rule::new(&DampingConfig::default()),
            seed,
            members: BTreeMap::new(),
            by_station: BTreeMap::new(),
            runs: BTreeMap::new(),
            last_run: 0,
            agenda: BTreeSet::new(),
            is_configured: false,
        }
    }

    /// Takes a configuration. Members that stay keep their state; one whose check is another now keeps it until that
    /// check has an opinion. `host` tells the state of a backend's host.
    #[must_use]
    pub fn configure(
        &mut self,
        config: &Config,
        host: impl Fn(Station) -> Option<State>,
        now: u64,
    ) -> Vec<Action> {
        self.rule = Rule::new(&config.health.damping);
        let mut actions = Vec::new();
        let mut old = core::mem::take(&mut self.members);
        self.by_station.clear();
        self.agenda.clear();
        for vip in &config.vips {
            let slow_start_ns = u64::from(vip.slow_start_s) * 1_000 * NS_PER_MS;
            for backend in &vip.backends {
                let key = BackendKey::of(vip, backend);
                let state = host(key.station()).unwrap_or(State::Probing);
                let is_first = !self.is_configured;
                let mut member =
                    old.remove(&key).unwrap_or_else(|| Member::new(State::Probing, is_first, now));
                member.slow_start_ns = slow_start_ns;
                member.agenda = None;
                let seed = self.seed ^ key.seed();
                actions.extend(member.set_check(vip.check.as_ref(), seed, now).map(Action::from));
                member.host = state;
                member.set_disabled(backend.admin == Admin::Disabled, now);
                self.by_station.entry(key.station()).or_default().push(key);
                self.members.insert(key, member);
            }
        }
        actions.extend(old.into_values().filter_map(|m| m.service?.start_over(now)).map(Action::from));
        self.runs.retain(|_, key| self.members.contains_key(key));
        self.is_configured = true;
        for key in self.members.keys().copied().collect::<Vec<_>>() {
            self.settle(&key, None, now, &mut actions);
        }
        self.finish(now, actions)
    }

    /// Begins with a host as up, where an earlier daemon had found it so. Its members that were in rotation stay there,
    /// and go down only by what is observed; the services of the others have to be asked first.
    pub fn assume_up(&mut self, station: Station, in_rotation: &[BackendKey], now: u64) {
        for key in self.by_station.get(&station).cloned().unwrap_or_default() {
            let Some(member) = self.members.get_mut(&key) else { continue };
            member.host = State::Up;
            if member.service.is_none() || in_rotation.contains(&key) {
                member.state = State::Up;
                member.since = now;
                member.healthy_since = Some(now);
                member.is_first = false;
                if let Some(service) = &mut member.service {
                    service.assume_good();
                }
            }
            self.note(&key, now);
        }
    }

    /// The prober changed its mind about a host.
    #[must_use]
    pub fn host_changed(&mut self, station: Station, to: State, reason: Reason, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        for key in self.by_station.get(&station).cloned().unwrap_or_default() {
            let Some(member) = self.members.get_mut(&key) else { continue };
            let was_there = is_there(member.host);
            member.host = to;
            if was_there != is_there(to)
                && let Some(service) = &mut member.service
            {
                actions.extend(service.start_over(now).map(Action::from));
            }
            let state = member.state;
            if matches!(reason, Reason::Moved { .. }) && is_there(state) {
                actions.push(Action::Change {
                    backend: key,
                    from: state,
                    to: state,
                    cause: Cause::Host(reason),
                });
            }
            self.settle(&key, Some(Cause::Host(reason)), now, &mut actions);
        }
        self.finish(now, actions)
    }

    /// A run's first packet left at `at`.
    #[must_use]
    pub fn sent(&mut self, run: u32, at: u64, now: u64) -> Vec<Action> {
        self.about(run, now, |service| {
            service.sent(at);
            None
        })
    }

    /// A run could not begin.
    #[must_use]
    pub fn not_sent(&mut self, run: u32, now: u64) -> Vec<Action> {
        self.about(run, now, |service| {
            service.not_sent();
            None
        })
    }

    /// A run is connected, and waits for the service's answer.
    #[must_use]
    pub fn connected(&mut self, run: u32, now: u64) -> Vec<Action> {
        self.about(run, now, |service| {
            service.progress(Waiting::Response);
            None
        })
    }

    /// A run has its result, received at `at`.
    #[must_use]
    pub fn done(&mut self, run: u32, result: Result<(), Failure>, at: u64, now: u64) -> Vec<Action> {
        self.about(run, now, |service| service.done(result, at, now))
    }

    /// Does what is due. Everything received up to `drained_up_to` was handed in.
    #[must_use]
    pub fn wake(&mut self, drained_up_to: u64, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((_, key)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.pop_first();
            let Some(member) = self.members.get_mut(&key) else { continue };
            member.agenda = None;
            let mut cause = None;
            let check = member.check.as_ref().map_or("", |check| check.kind.word());
            if let Some(service) = &mut member.service
                && let Some((step, verdict)) = service.judge(drained_up_to, now)
            {
                actions.push(step.into());
                cause = verdict.map(|(_, cause)| Cause::Service { check, cause });
            }
            let run = self.last_run.wrapping_add(1);
            if is_there(member.host)
                && let Some(step) = member.service.as_mut().and_then(|service| service.start(run, now))
            {
                self.last_run = run;
                self.runs.insert(run, key);
                actions.extend(step.start(key));
            }
            self.settle(&key, cause, now, &mut actions);
        }
        self.finish(now, actions)
    }

    /// What is known about a member.
    #[must_use]
    pub fn status(&self, backend: &BackendKey) -> Option<MemberStatus> {
        self.members.get(backend).map(Member::status)
    }

    /// All members with what is known about them.
    pub fn iter(&self) -> impl Iterator<Item = (&BackendKey, MemberStatus)> + '_ {
        self.members.iter().map(|(key, member)| (key, member.status()))
    }

    fn about(
        &mut self,
        run: u32,
        now: u64,
        act: impl FnOnce(&mut Service) -> Option<(Opinion, ServiceCause)>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(key) = self.runs.get(&run).copied() else { return self.finish(now, actions) };
        let Some(member) = self.members.get_mut(&key) else { return self.finish(now, actions) };
        let check = member.check.as_ref().map_or("", |check| check.kind.word());
        let Some(service) = member.service.as_mut().filter(|service| service.is_running(run)) else {
            self.runs.remove(&run);
            return self.finish(now, actions);
        };
        let verdict = act(service);
        if !service.is_running(run) {
            self.runs.remove(&run);
        }
        let cause = verdict.map(|(_, cause)| Cause::Service { check, cause });
        self.settle(&key, cause, now, &mut actions);
        self.finish(now, actions)
    }

    /// Brings a member's state to what its health and its past say, because of `cause`.
    fn settle(&mut self, key: &BackendKey, cause: Option<Cause>, now: u64, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(key) else { return };
        let rule = self.rule;
        if let Some((from, to, cause)) = member.settle(&rule, cause, now) {
            actions.push(Action::Change { backend: *key, from, to, cause });
        }
        if member.update_share(now) {
            actions.push(Action::Share);
        }
        self.note(key, now);
    }

    /// Puts the member's next time into the agenda.
    fn note(&mut self, key: &BackendKey, now: u64) {
        let rule = self.rule;
        let Some(member) = self.members.get_mut(key) else { return };
        if let Some(at) = member.agenda.take() {
            self.agenda.remove(&(at, *key));
        }
        if let Some(at) = member.next_wake(&rule, now) {
            // In the past: it waits for a socket that was not drained far enough.
            let at = if at <= now { now.saturating_add(RETRY_NS) } else { at };
            member.agenda = Some(at);
            self.agenda.insert((at, *key));
        }
    }

    fn finish(&self, _now: u64, mut actions: Vec<Action>) -> Vec<Action> {
        actions.extend(self.agenda.first().map(|(at, _)| Action::NextWakeAt(*at)));
        actions
    }
}

/// Whether a host answers.
fn is_there(state: State) -> bool {
    matches!(state, State::Up | State::Draining)
}

impl From<Step> for Action {
    /// What a service says without being asked to start is to stop.
    fn from(step: Step) -> Self {
        let (Step::Start(run) | Step::Stop(run)) = step;
        Self::Stop { run }
    }
}

impl Step {
    fn start(self, backend: BackendKey) -> Option<Action> {
        match self {
            Self::Start(run) => Some(Action::Start { run, backend }),
            Self::Stop(_) => None,
        }
    }
}

impl Member {
    fn new(host: State, is_first: bool, now: u64) -> Self {
        Self {
            host,
            is_disabled: false,
            check: None,
            service: None,
            slow_start_ns: 0,
            healthy_since: None,
            is_held: false,
            falls: Falls::default(),
            state: State::Probing,
            since: now,
            cause: None,
            downs: 0,
            is_first,
            ramp: None,
            share: FULL_SHARE,
            agenda: None,
        }
    }

    fn status(&self) -> MemberStatus {
        MemberStatus {
            state: self.state,
            since_ns: self.since,
            cause: self.cause,
            last_failure: self.service.as_ref().and_then(Service::last_failure),
            downs: self.downs,
            share: self.share,
        }
    }

    /// Takes the check of a configuration; the run of another one is given up.
    fn set_check(&mut self, check: Option<&CheckConfig>, seed: u64, now: u64) -> Option<Step> {
        let same = |a: &CheckConfig, b: &CheckConfig| a.kind == b.kind && a.port == b.port;
        let stopped = match (&mut self.service, &self.check, check) {
            (Some(service), Some(old), Some(new)) if same(old, new) => {
                if old != new {
                    service.set_timing(Timing::new(new), now);
                }
                None
            }
            (service, _, new) => {
                let stopped = service.as_mut().and_then(|service| service.start_over(now));
                *service = new.map(|new| Service::new(Timing::new(new), seed, now));
                if let Some(service) = service
                    && is_there(self.state)
                {
                    service.assume_good();
                }
                stopped
            }
        };
        self.check = check.cloned();
        stopped
    }

    /// Notes whether the administrator has it out of service: put back in, it starts slowly.
    fn set_disabled(&mut self, is_disabled: bool, now: u64) {
        if core::mem::replace(&mut self.is_disabled, is_disabled) && !is_disabled && self.state == State::Up {
            self.ramp = Ramp::new(self.slow_start_ns, now);
        }
    }

    /// What host and service say together, the past apart.
    fn raw(&self) -> State {
        match (self.host, self.service.as_ref().map(Service::opinion)) {
            (State::Up | State::Draining, Some(Opinion::Unknown)) => State::Probing,
            (State::Up | State::Draining, Some(Opinion::Bad)) => State::Down,
            (host, _) => host,
        }
    }

    fn hold_ns(&self, rule: &Rule, now: u64) -> u64 {
        self.falls.hold_ns(rule, now)
    }

    fn settle(&mut self, rule: &Rule, cause: Option<Cause>, now: u64) -> Option<(State, State, Cause)> {
        let raw = self.raw();
        if is_there(raw) {
            self.healthy_since.get_or_insert(now);
        } else {
            self.healthy_since = None;
            self.is_held = false;
        }
        let from = self.state;
        let mut cause = cause.or(self.cause);
        let to = match raw {
            // A service that has no opinion of its own yet.
            State::Probing if from == State::Down => State::Down,
            State::Up | State::Draining if !is_there(from) => {
                let hold_ns = self.hold_ns(rule, now);
                let well_ns = self.healthy_since.map_or(0, |since| now.saturating_sub(since));
                if well_ns < hold_ns {
                    if core::mem::replace(&mut self.is_held, true) {
                        return None;
                    }
                    let held =
                        Cause::Held { falls: self.falls.recent(rule, now), hold_ms: hold_ns / NS_PER_MS };
                    return Some((from, self.enter(State::Down, held, now), held));
                }
                if core::mem::take(&mut self.is_held) {
                    cause = Some(Cause::Steady { hold_ms: well_ns / NS_PER_MS });
                }
                raw
            }
            other => other,
        };
        if from == to {
            return None;
        }
        if is_there(from) && to == State::Down {
            self.falls.add(rule, now);
            self.downs += 1;
        }
        // Only an order of the administrator or an adopted state changes without anything having been observed.
        let cause = cause.unwrap_or(Cause::Host(Reason::Enabled));
        self.enter(to, cause, now);
        self.ramp = match (from, to) {
            (State::Down, State::Up) => Ramp::new(self.slow_start_ns, now),
            (State::Probing, State::Up) if !self.is_first => Ramp::new(self.slow_start_ns, now),
            (_, State::Up) => self.ramp,
            _ => None,
        };
        self.is_first &= to != State::Up;
        Some((from, to, cause))
    }

    fn enter(&mut self, state: State, cause: Cause, now: u64) -> State {
        if self.state != state {
            self.since = now;
        }
        self.state = state;
        self.cause = Some(cause);
        state
    }

    /// Brings the share up to date; whether it changed while that matters.
    fn update_share(&mut self, now: u64) -> bool {
        let share = self.ramp.as_ref().map_or(FULL_SHARE, |ramp| ramp.share(now));
        if share == FULL_SHARE {
            self.ramp = None;
        }
        core::mem::replace(&mut self.share, share) != share && self.state == State::Up
    }

    fn next_wake(&self, rule: &Rule, now: u64) -> Option<u64> {
        let service = self.service.as_ref().filter(|_| is_there(self.host)).map(Service::next_wake);
        let hold = self
            .healthy_since
            .filter(|_| self.is_held)
            .map(|since| since.saturating_add(self.hold_ns(rule, now)));
        let ramp = self.ramp.as_ref().map(|ramp| ramp.next(now));
        [service, hold, ramp].into_iter().flatten().min()
    }
}
