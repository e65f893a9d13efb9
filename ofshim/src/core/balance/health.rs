//! The prober and the members, driven: what they want asked, and what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_core::host::config::Config;
use lb_core::host::health::{
    Action, Cause, Command, Destination, Event, Members, Neighbour, Prober, Reason, Settings, State,
    Station as Watched,
};
use lb_core::host::ids::BackendKey;
use lb_core::host::plan::Plan;

use super::places::Places;
use crate::core::event::Level;

/// How long an answer may come after its question, in the prober's timeouts.
const ANSWER_TIMEOUTS: u64 = 2;
/// While it is being found out what was received, nothing else is looked at sooner.
const BREATH_NS: u64 = 5_000_000;

/// A change of a member, for the log.
#[derive(Clone, Debug)]
pub struct Change {
    backend: BackendKey,
    from: State,
    to: State,
    cause: Cause,
}

impl Change {
    /// Whether the plan says so too.
    pub fn holds(&self, plan: &Plan) -> bool {
        plan.backends.values().any(|backend| backend.key == self.backend && backend.state == self.to)
    }
}

/// Who is there, and who is in rotation.
#[derive(Debug)]
pub struct Watch {
    /// Whether hosts are there.
    pub prober: Prober,
    /// Whether members are in rotation.
    pub members: Members,
    settings: Settings,
    prober_wake: Option<u64>,
    members_wake: Option<u64>,
    questions: Vec<(Watched, Destination)>,
    /// When each address was last asked for.
    asked: BTreeMap<IpAddr, u64>,
    changes: Vec<Change>,
    changed: bool,
}

impl Watch {
    /// Watches the backends of a configuration; nobody has answered yet.
    pub fn new(config: &Config, seed: u64, now: u64) -> Self {
        let settings = Settings::new(&config.health, seed);
        let mut watch = Self {
            prober: Prober::new(settings),
            members: Members::new(seed),
            settings,
            prober_wake: None,
            members_wake: None,
            questions: Vec::new(),
            asked: BTreeMap::new(),
            changes: Vec::new(),
            changed: false,
        };
        watch.reconfigure(config, now);
        watch.changed = false;
        watch
    }

    /// Takes another configuration; backends that stay keep their state.
    pub fn reconfigure(&mut self, config: &Config, now: u64) {
        let commands = self.prober.configure(self.settings, &config.stations(), now);
        self.obey(commands, now);
        let prober = &self.prober;
        let actions = self.members.configure(config, |station| prober.state(station), now);
        self.obey_members(actions);
        self.changed = true;
    }

    /// Watches the backends of a configuration; these are there, and stay so until their probes say otherwise.
    pub fn resumed(config: &Config, there: &BTreeMap<Watched, Neighbour>, seed: u64, now: u64) -> Self {
        let mut watch = Self::new(config, seed, now);
        for (station, neighbour) in there {
            watch.prober.assume_up(*station, *neighbour, now);
            watch.members.assume_up(*station, &[], now);
        }
        watch
    }

    /// What is known counts in another way now.
    pub fn mark(&mut self) {
        self.changed = true;
    }

    /// Watches nobody.
    pub fn nobody(config: &Config, seed: u64, now: u64) -> Self {
        let config = Config { vips: Vec::new(), ..config.clone() };
        let mut watch = Self::new(&config, seed, now);
        (watch.prober_wake, watch.members_wake) = (None, None);
        watch
    }

    /// When [`Self::wake`] has something to do.
    pub fn next_wake(&self) -> Option<u64> {
        self.prober_wake.into_iter().chain(self.members_wake).min()
    }

    /// Whether a probe's time is over without an answer.
    pub fn is_about_to_judge(&self, now: u64) -> bool {
        !self.prober.due(now).is_empty()
    }

    /// Does what is due, after everything received up to `drained` was handed in.
    pub fn wake(&mut self, drained: u64, now: u64) {
        let commands = self.prober.handle(Event::Wake { drained_up_to: drained }, now);
        self.obey(commands, now);
        if drained < now {
            self.prober_wake = self.prober_wake.map(|at| at.max(now.saturating_add(BREATH_NS)));
        }
        if self.members_wake.is_some_and(|at| at <= now) {
            self.members_wake = None;
            let actions = self.members.wake(drained, now);
            self.obey_members(actions);
        }
    }

    /// The questions to be asked.
    pub fn take_questions(&mut self) -> Vec<(Watched, Destination)> {
        std::mem::take(&mut self.questions)
    }

    /// A question was asked, or could not be.
    pub fn asked(&mut self, backend: Watched, sent: bool, now: u64) {
        if sent {
            self.asked.insert(backend.address, now);
        }
        let event = if sent { Event::ProbeSent { backend, at: now } } else { Event::SendFailed { backend } };
        let commands = self.prober.handle(event, now);
        self.obey(commands, now);
    }

    /// A backend said where it is; whether it was asked just before.
    pub fn heard(&mut self, backend: IpAddr, neighbour: Neighbour, now: u64) -> bool {
        let commands = self.prober.handle(Event::Reply { backend, received_at: now, neighbour }, now);
        self.obey(commands, now);
        let limit = self.settings.timeout_ns.saturating_mul(ANSWER_TIMEOUTS);
        self.asked.get(&backend).is_some_and(|at| now.saturating_sub(*at) <= limit)
    }

    /// A port went down, or is up again.
    pub fn port_changed(&mut self, interface: u32, up: bool, now: u64) {
        let event = if up { Event::LinkUp { interface } } else { Event::LinkDown { interface } };
        let commands = self.prober.handle(event, now);
        self.obey(commands, now);
    }

    /// What has changed since this was last asked; `None` if nothing has that the tables depend on.
    pub fn take_changes(&mut self) -> Option<Vec<Change>> {
        std::mem::take(&mut self.changed).then(|| std::mem::take(&mut self.changes))
    }

    fn obey(&mut self, commands: Vec<Command>, now: u64) {
        for command in commands {
            match command {
                Command::SendProbe { backend, to } => self.questions.push((backend, to)),
                Command::StateChange { backend, to, reason, .. } => {
                    self.changed = true;
                    let actions = self.members.host_changed(backend, to, reason, now);
                    self.obey_members(actions);
                }
                Command::NextWakeAt(at) => self.prober_wake = Some(at),
            }
        }
    }

    fn obey_members(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Change { backend, from, to, cause } => {
                    self.changed = true;
                    self.changes.push(Change { backend, from, to, cause });
                }
                Action::Share => self.changed = true,
                Action::NextWakeAt(at) => self.members_wake = Some(at),
                // No VIP has a check here.
                Action::Start { .. } | Action::Stop { .. } => {}
            }
        }
    }
}

/// What is alike in the changes of one host's members.
type Alike = (IpAddr, State, State, String);

/// The lines for the log, in the order of the changes: one for a backend whose members all changed alike, else one for
/// each.
pub fn lines(changes: &[Change], plan: &Plan, places: &Places) -> Vec<(Level, String)> {
    let alike = |change: &Change| -> Alike {
        (change.backend.address, change.from, change.to, words(&change.cause, places))
    };
    let mut lines = Vec::new();
    let mut told: BTreeSet<Alike> = BTreeSet::new();
    for change in changes {
        let what = alike(change);
        if !told.insert(what.clone()) {
            continue;
        }
        let address = change.backend.address;
        let all = plan.backends.values().filter(|backend| backend.key.address == address).count();
        let those: Vec<&Change> = changes.iter().filter(|other| alike(other) == what).collect();
        if those.len() == all {
            lines.push(line(&format!("backend {address}"), change, &what.3));
            continue;
        }
        for change in those {
            let key = change.backend.vip;
            let vip = plan.vips.values().find(|vip| vip.key == key).map_or("?", |vip| vip.name.as_str());
            lines.push(line(&format!("backend {address} of VIP {vip}"), change, &what.3));
        }
    }
    lines
}

/// A cause in words, with ports of switches for the numbers of interfaces.
fn words(cause: &Cause, places: &Places) -> String {
    let place = |neighbour: Neighbour| {
        let place = places.place(neighbour.interface);
        place.map_or_else(|| "an unknown port".to_owned(), |place| place.to_string())
    };
    match cause {
        Cause::Host(Reason::Moved { from, to }) if from.mac == to.mac => {
            format!("moved from {} to {}", place(*from), place(*to))
        }
        cause => cause.to_string(),
    }
}

fn line(who: &str, change: &Change, cause: &str) -> (Level, String) {
    let Change { from, to, .. } = change;
    match to {
        State::Down if from != to => (Level::Warn, format!("{who} {to} ({cause})")),
        State::Down => (Level::Info, format!("{who} still {to} ({cause})")),
        _ if from == to => (Level::Info, format!("{who} {to} again ({cause})")),
        _ => (Level::Info, format!("{who} {to} ({cause})")),
    }
}
