//! One backend under watch.

use core::net::IpAddr;
use std::collections::VecDeque;

use super::{
    Counters, Destination, Discovery, NS_PER_MS, Neighbour, Reason, Settings, State, Station, Status,
};
use crate::host::seed::{address_v6, apart, mix};

/// Clocks of the kernel's stamps and of the driver may disagree by a little.
const CLOCK_SLACK_NS: u64 = NS_PER_MS;
/// Probes under way at most; more only pile up when the driver does not drain its socket.
const MAX_UNDER_WAY: usize = 8;

/// What the probes say, apart from what the administrator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Probing,
    Up,
    Down,
}

/// What the administrator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admin {
    Enabled,
    Draining,
    Disabled,
}

/// A probe under way.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// When it was ordered; the earliest time of a reply.
    asked: u64,
    /// When it left, once that is confirmed.
    sent: Option<u64>,
    /// Its silence counts for nothing.
    void: bool,
}

impl Probe {
    fn deadline(&self, settings: &Settings) -> u64 {
        self.sent.unwrap_or(self.asked).saturating_add(settings.timeout_ns)
    }

    fn covers(&self, settings: &Settings, received_at: u64) -> bool {
        received_at.saturating_add(CLOCK_SLACK_NS) >= self.asked && received_at <= self.deadline(settings)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Target {
    found_by: Discovery,
    health: Health,
    admin: Admin,
    under_way: VecDeque<Probe>,
    /// Misses in a row, oldest first.
    misses: VecDeque<Probe>,
    /// Answers in a row.
    answers: u32,
    next_probe: u64,
    neighbour: Option<Neighbour>,
    /// Signs of life from before this are void: the link went down since.
    not_before: u64,
    since: u64,
    reason: Option<Reason>,
    last_reply: Option<u64>,
    counters: Counters,
}

impl Target {
    pub(super) fn new(found_by: Discovery, now: u64, first_probe: u64) -> Self {
        Self {
            found_by,
            health: Health::Probing,
            admin: Admin::Enabled,
            under_way: VecDeque::new(),
            misses: VecDeque::new(),
            answers: 0,
            next_probe: first_probe,
            neighbour: None,
            not_before: 0,
            since: now,
            reason: None,
            last_reply: None,
            counters: Counters::default(),
        }
    }

    pub(super) fn assume_up(&mut self, neighbour: Neighbour, now: u64) {
        self.health = Health::Up;
        self.neighbour = Some(neighbour);
        self.since = now;
    }

    pub(super) fn state(&self) -> State {
        match (self.admin, self.health) {
            (Admin::Disabled, _) => State::Disabled,
            (_, Health::Probing) => State::Probing,
            (_, Health::Down) => State::Down,
            (Admin::Draining, Health::Up) => State::Draining,
            (Admin::Enabled, Health::Up) => State::Up,
        }
    }

    pub(super) fn neighbour(&self) -> Option<Neighbour> {
        self.neighbour
    }

    pub(super) fn status(&self) -> Status {
        Status {
            state: self.state(),
            since_ns: self.since,
            neighbour: self.neighbour,
            reason: self.reason,
            last_reply_ns: self.last_reply,
            counters: self.counters,
        }
    }

    /// Notes a change of state for the status.
    pub(super) fn changed(&mut self, from: State, reason: Reason, now: u64) {
        if self.state() == State::Down && matches!(from, State::Up | State::Draining) {
            self.counters.flaps += 1;
        }
        self.since = now;
        self.reason = Some(reason);
    }

    pub(super) fn is_probed(&self) -> bool {
        self.admin != Admin::Disabled
    }

    /// Whether the data plane has a say in what the next wake-up judges.
    pub(super) fn is_due(&self, settings: &Settings, now: u64) -> bool {
        self.health == Health::Up && self.under_way.iter().any(|probe| probe.deadline(settings) <= now)
    }

    pub(super) fn wants_probe(&self, now: u64) -> bool {
        self.is_probed() && now >= self.next_probe && self.under_way.len() < MAX_UNDER_WAY
    }

    pub(super) fn next_wake(&self, settings: &Settings, own_pace: bool) -> Option<u64> {
        let deadline = self.under_way.iter().map(|probe| probe.deadline(settings)).min();
        let full = self.under_way.len() >= MAX_UNDER_WAY;
        let probe = (own_pace && !full).then_some(self.next_probe);
        [deadline, probe].into_iter().flatten().min()
    }

    /// The next jitter of this backend: the same for the same seed, backend and number of probes.
    pub(super) fn jitter(&self, settings: &Settings, backend: Station) -> u64 {
        let own = match backend.address {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => address_v6(address),
        };
        let own = backend.mac.map_or(own, |mac| apart(own, mac));
        let random = mix(settings.seed ^ own ^ mix(self.counters.sent));
        random % settings.longest_jitter_ns().saturating_add(1)
    }

    /// Orders a probe and schedules the one after it from when this one was due, so that lateness does not add up.
    pub(super) fn probe(&mut self, settings: &Settings, jitter: u64, now: u64) -> Destination {
        let scheduled = self.next_probe;
        let gap = settings.interval_ns.saturating_add(jitter);
        self.next_probe = scheduled.saturating_add(gap);
        if self.next_probe <= now {
            self.next_probe = now.saturating_add(gap);
        }
        self.probe_as_of(settings, scheduled, now);
        match self.neighbour {
            // After a miss everybody is asked: it may have moved.
            Some(neighbour) if self.health == Health::Up && self.misses.is_empty() => {
                Destination::Unicast(neighbour)
            }
            _ => Destination::Broadcast,
        }
    }

    /// Notes a probe that was due at `scheduled` and is ordered now.
    pub(super) fn probe_as_of(&mut self, settings: &Settings, scheduled: u64, now: u64) {
        self.counters.sent += 1;
        let void = now > scheduled.saturating_add(settings.tolerance_ns);
        self.under_way.push_back(Probe { asked: now, sent: None, void });
    }

    pub(super) fn sent(&mut self, settings: &Settings, at: u64) {
        if let Some(probe) = self.under_way.iter_mut().find(|probe| probe.sent.is_none()) {
            probe.void |= at > probe.asked.saturating_add(settings.tolerance_ns);
            probe.sent = Some(at.max(probe.asked));
        }
    }

    pub(super) fn send_failed(&mut self) {
        if let Some(place) = self.under_way.iter().position(|probe| probe.sent.is_none()) {
            self.under_way.remove(place);
            self.counters.void += 1;
        }
    }

    pub(super) fn frame_seen(&mut self, at: u64) {
        if self.health != Health::Up || at < self.not_before {
            return;
        }
        self.misses.retain(|miss| miss.sent.unwrap_or(miss.asked) > at);
        for probe in self.under_way.iter_mut().filter(|probe| probe.sent.unwrap_or(probe.asked) <= at) {
            probe.void = true;
        }
    }

    pub(super) fn reply(
        &mut self,
        settings: &Settings,
        received_at: u64,
        neighbour: Neighbour,
    ) -> Option<Reason> {
        let under_way = self.under_way.len();
        let missed = self.misses.len();
        if self.is_probed() && received_at >= self.not_before {
            self.under_way.retain(|probe| !probe.covers(settings, received_at));
            // Read after it was judged, against the driver's promise; it still came in time.
            if let Some(last) = self.misses.iter().rposition(|miss| miss.covers(settings, received_at)) {
                self.misses.drain(..=last);
            }
        }
        let answered = under_way - self.under_way.len();
        if answered == 0 && missed == self.misses.len() {
            self.counters.unsolicited += 1;
            return None;
        }
        if answered > 0 {
            self.misses.clear();
        }
        self.counters.answered += answered as u64;
        self.answers = self.answers.saturating_add(1);
        self.last_reply = Some(self.last_reply.map_or(received_at, |last| last.max(received_at)));
        let before = self.neighbour.replace(neighbour);
        if self.health == Health::Up {
            return before
                .filter(|before| *before != neighbour)
                .map(|from| Reason::Moved { from, to: neighbour });
        }
        (self.answers >= settings.rise).then(|| {
            self.health = Health::Up;
            Reason::Answered { probes: self.answers }
        })
    }

    /// Judges the probes whose time is over and up to which the socket was drained.
    pub(super) fn judge(&mut self, settings: &Settings, drained_up_to: u64, now: u64) -> Option<Reason> {
        let mut reason = None;
        while let Some(probe) = self.under_way.front().copied() {
            let deadline = probe.deadline(settings);
            if drained_up_to < deadline {
                break;
            }
            self.under_way.pop_front();
            let late = now > deadline.saturating_add(settings.tolerance_ns);
            if probe.void || late || probe.sent.is_none() {
                self.counters.void += 1;
                continue;
            }
            self.counters.missed += 1;
            self.answers = 0;
            self.misses.push_back(probe);
            reason = reason.or(self.fall(settings, now));
            while self.misses.len() > settings.fall as usize {
                self.misses.pop_front();
            }
        }
        reason
    }

    /// Down, if there were enough misses and it is not down already.
    fn fall(&mut self, settings: &Settings, now: u64) -> Option<Reason> {
        if self.health == Health::Down || self.misses.len() < settings.fall as usize {
            return None;
        }
        self.health = Health::Down;
        let first = self.misses.front().and_then(|miss| miss.sent).unwrap_or(now);
        Some(Reason::NoReply {
            by: self.found_by,
            probes: settings.fall,
            in_ms: now.saturating_sub(first) / NS_PER_MS,
        })
    }

    pub(super) fn link_down(&mut self, interface: u32, now: u64) -> Option<Reason> {
        if self.neighbour.is_none_or(|neighbour| neighbour.interface != interface) {
            return None;
        }
        self.not_before = now;
        self.start_over();
        let was = core::mem::replace(&mut self.health, Health::Down);
        (was != Health::Down).then_some(Reason::LinkDown)
    }

    /// Asks at once, where the backend was last seen by way of this link.
    pub(super) fn link_up(&mut self, interface: u32, now: u64) {
        if self.health != Health::Up
            && self.neighbour.is_some_and(|neighbour| neighbour.interface == interface)
        {
            self.next_probe = self.next_probe.min(now);
        }
    }

    pub(super) fn enable(&mut self, now: u64) -> Option<Reason> {
        if self.admin == Admin::Disabled {
            self.health = Health::Probing;
            self.start_over();
            self.next_probe = now;
        }
        self.admin = Admin::Enabled;
        Some(Reason::Enabled)
    }

    pub(super) fn drain(&mut self, now: u64) -> Option<Reason> {
        self.enable(now);
        self.admin = Admin::Draining;
        Some(Reason::Drained)
    }

    pub(super) fn disable(&mut self) -> Option<Reason> {
        self.admin = Admin::Disabled;
        self.start_over();
        Some(Reason::Disabled)
    }

    /// Forgets what is under way and what was counted.
    fn start_over(&mut self) {
        self.counters.void += self.under_way.len() as u64;
        self.under_way.clear();
        self.misses.clear();
        self.answers = 0;
    }
}
