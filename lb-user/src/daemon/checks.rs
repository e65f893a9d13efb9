//! Checks of services in the daemon: what the members of the VIPs want done, done, and what came back, handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use lb_core::host::config::{Config, VipConfig};
use lb_core::host::health::{Action, Members, State};
use lb_core::host::ids::BackendKey;

use crate::check::{Checker, News, Order, Outgoing, Way};
use crate::io::mac::Mac;
use crate::io::{arp, ndp, sys};

use super::Daemon;
use super::probe::Arrival;

/// The members of all VIPs, and the checks of their services that are under way.
pub struct Checks {
    /// Who is in rotation.
    pub members: Members,
    checker: Checker,
    /// When the members want to be woken.
    wake_at: Option<u64>,
    /// Changes that are not in force yet.
    late: Vec<Change>,
    /// When they are to be, if there are any.
    late_at: Option<u64>,
    /// The earliest time to build the tables again for those who come up.
    rested_at: u64,
    /// MACs that were seen to use a probe address.
    rivals: BTreeSet<(IpAddr, Mac)>,
}

/// When what has changed has to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing has changed.
    None,
    /// Soon: who comes up or grows is not missed, and many of them share one building of the tables.
    Soon,
    /// Now: somebody gets packets that he should not.
    AtOnce,
}

/// The least time between two buildings of the tables for those who come up.
const BREATH_NS: u64 = 20_000_000;
/// That time as a multiple of what the last building took.
const BREATHS: u64 = 4;

/// A change of a member, for the log.
struct Change {
    backend: BackendKey,
    from: State,
    to: State,
    cause: String,
}

/// What is alike in the changes of one host's members.
type Key<'a> = (IpAddr, State, State, &'a str);

impl Change {
    fn key(&self) -> Key<'_> {
        (self.backend.address, self.from, self.to, &self.cause)
    }
}

impl Checks {
    /// Nothing is checked yet. `seed` is of the jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            members: Members::new(seed),
            checker: Checker::default(),
            wake_at: None,
            late: Vec::new(),
            late_at: None,
            rested_at: 0,
            rivals: BTreeSet::new(),
        }
    }

    /// When [`Daemon::wake_checks`] has something to do.
    pub fn next_wake(&self) -> Option<u64> {
        self.wake_at.into_iter().chain(self.checker.next_poll()).chain(self.late_at).min()
    }

    /// The tables were built, from `began_ns` to `ended_ns`, of what is known now.
    pub fn planned(&mut self, began_ns: u64, ended_ns: u64) {
        let rest_ns = ended_ns.saturating_sub(began_ns).saturating_mul(BREATHS).max(BREATH_NS);
        self.rested_at = ended_ns.saturating_add(rest_ns);
    }
}

impl Daemon {
    /// Brings the members to the configuration in force.
    pub(super) fn configure_checks(&mut self) -> Result<()> {
        let now = sys::clock_monotonic();
        self.probes.listen_for(&probe_addresses(&self.config))?;
        let Self { checks, prober, config, .. } = self;
        let actions = checks.members.configure(config, |address| prober.state(address), now);
        self.obey_members(actions, Effect::None)
    }

    /// Asks whether anybody else has a probe address (RFC 5227, 2.1; RFC 4862, 5.4): the answer is logged.
    pub(super) fn claim_probe_addresses(&self) {
        for address in probe_addresses(&self.config) {
            self.probes.ask_everybody(address, self.placed.prober_mac);
        }
    }

    /// Does what is due, after everything received up to `drained_up_to` was handed in.
    pub(super) fn wake_checks(&mut self, drained_up_to: u64) -> Result<()> {
        let now = sys::clock_monotonic();
        let frames = self.checks.checker.poll(now);
        self.send(&frames);
        if self.checks.wake_at.is_some_and(|at| at <= now) {
            self.checks.wake_at = None;
            let actions = self.checks.members.wake(drained_up_to, now);
            self.obey_members(actions, Effect::None)?;
        }
        if self.checks.late_at.is_some_and(|at| at <= now) { self.put_into_force() } else { Ok(()) }
    }

    /// Takes in a frame that came in by a port: an answer to a check, a question after a probe address, or its use by
    /// somebody else.
    pub(super) fn take_frame(&mut self, arrival: &Arrival) -> Result<()> {
        let (frame, now) = (&arrival.received.frame, sys::clock_monotonic());
        if self.answer_neighbour(arrival) {
            return Ok(());
        }
        if self.checks.checker.is_idle() {
            return Ok(());
        }
        let (news, frames) = self.checks.checker.receive(frame, now);
        self.send(&frames);
        let members = &mut self.checks.members;
        let actions = match news {
            Some((run, News::Connected)) => members.connected(run, now),
            Some((run, News::Done(result))) => members.done(run, result, arrival.received.at_ns, now),
            None => return Ok(()),
        };
        self.obey_members(actions, Effect::None)
    }

    /// Carries out what the members want done, and puts changes into force. `effect` is of what else has changed.
    pub(super) fn obey_members(&mut self, mut actions: Vec<Action>, mut effect: Effect) -> Result<()> {
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions {
                match action {
                    Action::Start { run, backend } => more.extend(self.start_check(run, &backend)),
                    Action::Stop { run } => {
                        let frames = self.checks.checker.stop(run, sys::clock_monotonic());
                        self.send(&frames);
                    }
                    Action::Change { backend, from, to, cause } => {
                        let comes = to == State::Up && from != State::Up;
                        effect = effect.max(if comes { Effect::Soon } else { Effect::AtOnce });
                        self.checks.late.push(Change { backend, from, to, cause: cause.to_string() });
                    }
                    Action::Share => effect = effect.max(Effect::Soon),
                    Action::NextWakeAt(at) => self.checks.wake_at = Some(at),
                }
            }
            actions = more;
        }
        let rested_at = self.checks.rested_at;
        match effect {
            Effect::None => Ok(()),
            Effect::Soon if rested_at > sys::clock_monotonic() => {
                self.checks.late_at.get_or_insert(rested_at);
                Ok(())
            }
            Effect::Soon | Effect::AtOnce => self.put_into_force(),
        }
    }

    /// Builds the tables of what is known, and says what has changed.
    fn put_into_force(&mut self) -> Result<()> {
        self.replan()?;
        self.checks.late_at = None;
        // The line says what is so, not what will be.
        let changes = std::mem::take(&mut self.checks.late);
        self.log_changes(&changes);
        Ok(())
    }

    fn start_check(&mut self, run: u32, backend: &BackendKey) -> Vec<Action> {
        let now = sys::clock_monotonic();
        let frames = self.order(backend).and_then(|order| self.checks.checker.start(run, order, now));
        let sent = frames.is_some_and(|frames| self.send(&frames));
        if sent {
            return self.checks.members.sent(run, now, sys::clock_monotonic());
        }
        // Nobody asked, so nobody's silence counts.
        drop(self.checks.checker.stop(run, now));
        self.checks.members.not_sent(run, now)
    }

    /// What a run of a member's check asks, and where.
    fn order(&self, key: &BackendKey) -> Option<Order> {
        let vip: &VipConfig = self.config.vips.iter().find(|vip| vip.key() == key.vip)?;
        let check = vip.check.as_ref()?;
        let backend = vip.backends.iter().find(|backend| BackendKey::of(vip, backend) == *key)?;
        let neighbour = self.prober.neighbour(key.station())?;
        let target = vip.check_target(backend);
        Some(Order {
            kind: check.kind.clone(),
            target,
            port: check.port.unwrap_or(key.port),
            source: self.config.health.probe_address.towards(target)?,
            way: Way {
                slot: u16::try_from(neighbour.interface).ok()?,
                from: self.placed.prober_mac,
                to: Mac(neighbour.mac.0),
            },
        })
    }

    /// Whether all frames left.
    fn send(&self, frames: &[Outgoing]) -> bool {
        let left = |(slot, frame): &Outgoing| {
            let result = self.probes.send_frame(*slot, frame);
            result.inspect_err(|error| tracing::debug!("check not sent: {error:#}")).is_ok()
        };
        frames.iter().filter(|frame| left(frame)).count() == frames.len()
    }

    /// Answers a question after a probe address, and tells who else uses one; whether it was either.
    fn answer_neighbour(&mut self, arrival: &Arrival) -> bool {
        let (frame, mac) = (&arrival.received.frame, self.placed.prober_mac);
        let probe = self.config.health.probe_address;
        if let Some(packet) = arp::parse(frame) {
            if probe.v4 == Some(packet.sender_ip) {
                self.note_rival(packet.sender_ip.into(), packet.sender_mac);
            } else if probe.v4 == Some(packet.target_ip)
                && let Some(mut answer) = arp::build_answer(&packet, mac)
            {
                if self.is_vip_mac(packet.sender_mac) {
                    // A backend that asks in the VIP's name: the MAC in the packet is not its own.
                    answer[..6].copy_from_slice(&Mac::BROADCAST.0);
                }
                self.send(&[(arrival.slot, answer.to_vec())]);
            }
            return true;
        }
        let Some(message) = ndp::parse(frame) else { return false };
        if probe.v6 == Some(message.target) {
            if let Some(answer) = ndp::build_answer(&message, mac) {
                self.send(&[(arrival.slot, answer)]);
            } else {
                self.note_rival(message.target.into(), message.mac.unwrap_or(message.frame_source));
            }
        }
        true
    }

    fn is_vip_mac(&self, mac: Mac) -> bool {
        self.config.vips.iter().any(|vip| vip.mac.0 == mac.0)
    }

    fn note_rival(&mut self, address: IpAddr, mac: Mac) {
        if mac != self.placed.prober_mac && self.checks.rivals.insert((address, mac)) {
            let warning = format!(
                "probe address {address} is in use by {mac}: checks may get no answers; choose a free one in [health]"
            );
            tracing::warn!("{warning}");
            self.placed.warnings.push(warning);
        }
    }

    /// One line for a backend whose members all changed alike, else one for each; in the order of the changes.
    fn log_changes(&self, changes: &[Change]) {
        let mut alike: BTreeMap<Key<'_>, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            alike.entry(change.key()).or_default().push(change);
        }
        for change in changes {
            let Some(changes) = alike.remove(&change.key()) else { continue };
            let Change { backend, from, to, cause } = change;
            let address = backend.address;
            let all = self.plan.backends.values().filter(|b| b.key.address == address).count();
            if changes.len() == all {
                log_change(&format!("backend {address}"), *from, *to, cause);
                continue;
            }
            for change in changes {
                let key = change.backend.vip;
                let vip = self.plan.vips.values().find(|vip| vip.key == key).map_or("?", |v| v.name.as_str());
                log_change(&format!("backend {address} of VIP {vip}"), *from, *to, cause);
            }
        }
    }
}

/// The addresses that checks ask from.
pub fn probe_addresses(config: &Config) -> Vec<IpAddr> {
    config.health.probe_address.all()
}

fn log_change(who: &str, from: State, to: State, cause: &str) {
    match to {
        State::Down if from != to => tracing::warn!("{who} {to} ({cause})"),
        State::Down => tracing::info!("{who} still {to} ({cause})"),
        _ if from == to => tracing::info!("{who} {to} again ({cause})"),
        _ => tracing::info!("{who} {to} ({cause})"),
    }
}
