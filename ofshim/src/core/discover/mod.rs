//! Link discovery: a frame out of every port, and what comes in where.
//!
//! ```text
//!   port up --> probe at once, then every period --> packet-in elsewhere: from -> here is a link
//!                                                     '-- other direction unknown: probe out of here at once
//!   port down --> its links go at once        nothing heard for 2 3/4 periods --> the link goes (silent loss)
//! ```
//!
//! The period grows with the number of ports, and so the load stays the same. Time in which this controller itself was
//! late counts for no link's silence. A new link wants a fresh frame; a frame counts once for each place where it is
//! heard; LLDP between two ports that both have hosts behind them is a host's doing, and makes no link.

pub mod probe;
pub mod tag;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::{DatapathId, MacAddr};

pub use self::probe::{Probe, ProbeKind, Read, is_discovery};
pub use self::tag::Secret;
use super::topo::Place;

/// How discovery is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From one probe of a port to the next, in a network of up to 500 ports.
    pub period: Duration,
    /// How long a port that came up takes no part in forwarding, so that a link behind it is found first.
    pub settle: Duration,
    /// The secret of the check values.
    pub secret: Secret,
}

impl Default for Settings {
    fn default() -> Self {
        Self { period: Duration::from_secs(1), settle: Duration::from_millis(500), secret: Secret::default() }
    }
}

/// With more ports than this the period grows.
const PORTS_IN_A_PERIOD: u32 = 500;
/// Ports without a link are probed for links across bridges once in so many periods.
const BDDP_EVERY: u64 = 5;
/// The most probes sent in one step of time.
const MAX_BURST: usize = 256;
/// A step of time longer than this was late.
const LATE: Duration = Duration::from_millis(500);
/// How old the frame that makes a new link may be.
const FRESH: Duration = Duration::from_millis(400);
/// How often a port is probed again while it settles.
const SETTLING_PROBES: u32 = 3;

/// A frame that was sent.
#[derive(Clone, Debug)]
struct Sent {
    nonce: u64,
    at: Duration,
    heard: BTreeSet<Place>,
}

#[derive(Clone, Debug)]
struct PortState {
    mac: MacAddr,
    due: Duration,
    settled_at: Duration,
    probes: u64,
    /// The last two of each kind.
    sent: [Vec<Sent>; 2],
}

/// What is known of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When LLDP last came over it.
    pub lldp: Option<Duration>,
    /// When BDDP last came over it.
    pub bddp: Option<Duration>,
    /// How long a frame takes, smoothed.
    pub latency: Duration,
    /// When it was found.
    pub since: Duration,
}

impl Heard {
    /// Whether LLDP passes it.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.lldp.is_some()
    }

    fn last(&self) -> Duration {
        self.lldp.max(self.bddp).unwrap_or_default()
    }
}

/// What discovery found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A link is there, or is of another kind than before.
    Up {
        /// Where it starts.
        from: Place,
        /// Where it ends.
        to: Place,
    },
    /// A link was not heard for too long.
    Silent {
        /// Where it started.
        from: Place,
        /// Where it ended.
        to: Place,
    },
    /// A link is gone, since another kind of link or a dead port is in its place.
    Gone {
        /// Where it started.
        from: Place,
        /// Where it ended.
        to: Place,
    },
}

/// What became of a discovery frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It confirmed or made a link.
    Counted,
    /// It is somebody else's.
    Foreign,
    /// Its check value is wrong.
    Forged,
    /// It is old, or was heard here before.
    Replayed,
    /// Hosts are behind both ports: one of them passes frames on.
    Relayed,
}

/// How many frames there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sent.
    pub sent: u64,
    /// Heard, and counted for a link.
    pub heard: u64,
    /// With a wrong check value.
    pub forged: u64,
    /// Old ones, and ones heard before.
    pub replayed: u64,
    /// Passed on by hosts.
    pub relayed: u64,
}

/// A frame to send out of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// The port.
    pub out: Place,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Link discovery.
#[derive(Clone, Debug)]
pub struct Discovery {
    settings: Settings,
    ports: BTreeMap<Place, PortState>,
    due: BTreeSet<(Duration, Place)>,
    /// When the last port of each switch is settled.
    settled: BTreeMap<DatapathId, Duration>,
    links: BTreeMap<(Place, Place), Heard>,
    /// The links that are not direct, as (from, to) and as (to, from).
    across: BTreeSet<(Place, Place)>,
    across_back: BTreeSet<(Place, Place)>,
    next_nonce: u64,
    /// Time that passed while this controller was late; the clock here stood still meanwhile.
    late: Duration,
    stepped: Duration,
    counters: Counters,
    findings: Vec<Finding>,
    emissions: Vec<Emission>,
}

impl Discovery {
    /// Nothing is known.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            ports: BTreeMap::new(),
            due: BTreeSet::new(),
            settled: BTreeMap::new(),
            links: BTreeMap::new(),
            across: BTreeSet::new(),
            across_back: BTreeSet::new(),
            next_nonce: 0,
            late: Duration::ZERO,
            stepped: Duration::ZERO,
            counters: Counters { sent: 0, heard: 0, forged: 0, replayed: 0, relayed: 0 },
            findings: Vec::new(),
            emissions: Vec::new(),
        }
    }

    /// What was found out since this was last asked.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// What has to be sent since this was last asked.
    pub fn take_emissions(&mut self) -> Vec<Emission> {
        std::mem::take(&mut self.emissions)
    }

    /// How many frames there were.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// From one probe of a port to the next, now.
    #[must_use]
    pub fn period(&self) -> Duration {
        let ports = u32::try_from(self.ports.len()).unwrap_or(u32::MAX);
        self.settings.period * ports.div_ceil(PORTS_IN_A_PERIOD).max(1)
    }

    /// The time without that in which this controller was late.
    fn clock(&self, now: Duration) -> Duration {
        now.saturating_sub(self.late)
    }

    /// Silence after which a link is gone.
    fn patience(&self) -> Duration {
        self.period() * 11 / 4
    }

    /// What is known of a link.
    #[must_use]
    pub fn link(&self, from: Place, to: Place) -> Option<&Heard> {
        self.links.get(&(from, to))
    }

    /// Whether a port has been up for long enough that a link behind it would be known.
    #[must_use]
    pub fn is_settled(&self, place: Place, now: Duration) -> bool {
        self.ports.get(&place).is_none_or(|port| now >= port.settled_at)
    }

    /// Whether all ports of a switch are settled.
    #[must_use]
    pub fn is_all_settled(&self, dpid: DatapathId, now: Duration) -> bool {
        self.settled.get(&dpid).is_none_or(|settled| now >= *settled)
    }

    fn unsettle(&mut self, place: Place, until: Duration) {
        if let Some(port) = self.ports.get_mut(&place) {
            port.settled_at = until;
        }
        let last = self.settled.entry(place.dpid).or_default();
        *last = until.max(*last);
    }

    /// A port is up: probes it at once, and again while it settles.
    pub fn port_up(&mut self, place: Place, mac: MacAddr, now: Duration) {
        if let Some(port) = self.ports.get_mut(&place) {
            port.mac = mac;
            return;
        }
        let settled_at = now + self.settings.settle;
        let state = PortState { mac, due: now, settled_at, probes: 0, sent: [Vec::new(), Vec::new()] };
        self.ports.insert(place, state);
        self.unsettle(place, settled_at);
        self.due.insert((now, place));
        self.probe(place, now);
    }

    /// A port is down or away: its links are gone.
    pub fn port_down(&mut self, place: Place) {
        self.forget_port(place);
        let gone: Vec<_> =
            self.links.keys().filter(|(from, to)| *from == place || *to == place).copied().collect();
        for (from, to) in gone {
            self.drop_link((from, to));
            self.findings.push(Finding::Gone { from, to });
        }
    }

    /// A switch's connection ended: its ports are probed no more, and its links go when they are silent.
    pub fn switch_gone(&mut self, dpid: DatapathId) {
        let ports: Vec<Place> = self.ports.keys().filter(|place| place.dpid == dpid).copied().collect();
        for place in ports {
            self.forget_port(place);
        }
        self.settled.remove(&dpid);
    }

    fn forget_port(&mut self, place: Place) {
        if let Some(port) = self.ports.remove(&place) {
            self.due.remove(&(port.due, place));
        }
    }

    /// Time passed: sends what is due, and ends what was silent for too long.
    pub fn step(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.stepped);
        if passed > LATE && self.stepped != Duration::ZERO {
            self.late += passed;
        }
        self.stepped = now;
        for _ in 0..MAX_BURST {
            match self.due.first() {
                Some((due, place)) if *due <= now => self.probe(*place, now),
                _ => break,
            }
        }
        let (patience, clock) = (self.patience(), self.clock(now));
        let silent: Vec<_> = self
            .links
            .iter()
            .filter(|(_, heard)| clock.saturating_sub(heard.last()) >= patience)
            .map(|(ends, _)| *ends)
            .collect();
        for (from, to) in silent {
            self.drop_link((from, to));
            self.findings.push(Finding::Silent { from, to });
            // Both ports are up, so the wire may still be there: they are quiet again until that is clear.
            let settled_at = now + self.period() * 2;
            self.unsettle(from, settled_at);
            self.unsettle(to, settled_at);
        }
    }

    /// Sends the frames of a port, and says when the next are due.
    fn probe(&mut self, place: Place, now: Duration) {
        let (period, settle) = (self.period(), self.settings.settle);
        let across = self.has_link_across(place);
        let linked = self.links.range((place, FIRST)..).next().is_some_and(|((from, _), _)| *from == place);
        let Some(port) = self.ports.get_mut(&place) else { return };
        self.due.remove(&(port.due, place));
        let settling = now + settle / SETTLING_PROBES < port.settled_at;
        port.due = now + if settling { (settle / SETTLING_PROBES).min(period) } else { period };
        self.due.insert((port.due, place));
        let probes = port.probes;
        port.probes += 1;
        self.emit(place, ProbeKind::Lldp, now);
        if across || settling || (!linked && probes.is_multiple_of(BDDP_EVERY)) {
            self.emit(place, ProbeKind::Bddp, now);
        }
    }

    fn has_link_across(&self, place: Place) -> bool {
        self.across.range((place, FIRST)..).next().is_some_and(|(from, _)| *from == place)
    }

    fn emit(&mut self, out: Place, kind: ProbeKind, now: Duration) {
        let clock = self.clock(now);
        let Some(port) = self.ports.get_mut(&out) else { return };
        self.next_nonce += 1;
        // In each run of the controller the secret is another one, so a counter is never used twice.
        let nonce = self.next_nonce;
        let sent = sent_of(port, kind);
        if sent.len() >= 2 {
            sent.remove(0);
        }
        sent.push(Sent { nonce, at: clock, heard: BTreeSet::new() });
        self.counters.sent += 1;
        let frame = Probe { kind, from: out, nonce }.frame(port.mac, self.settings.secret);
        self.emissions.push(Emission { out, frame });
    }

    /// A discovery frame came in at `at`. `control` is how long the messages from and to the two switches take, and
    /// `has_hosts` says whether hosts are known behind a port.
    pub fn heard(
        &mut self,
        frame: &[u8],
        at: Place,
        control: &dyn Fn(DatapathId) -> Duration,
        has_hosts: &dyn Fn(Place) -> bool,
        now: Duration,
    ) -> Fate {
        let probe = match Probe::read(frame, self.settings.secret) {
            Read::Ours(probe) => probe,
            Read::Other => return Fate::Foreign,
            Read::Forged => {
                self.counters.forged += 1;
                return Fate::Forged;
            }
        };
        let known = self.links.contains_key(&(probe.from, at));
        let Some(took) = self.consume(probe, at, known, now) else {
            self.counters.replayed += 1;
            return Fate::Replayed;
        };
        if !self.ports.contains_key(&at) {
            return Fate::Foreign;
        }
        if !known && probe.kind == ProbeKind::Lldp && has_hosts(at) && has_hosts(probe.from) {
            self.counters.relayed += 1;
            return Fate::Relayed;
        }
        self.counters.heard += 1;
        let latency = took.saturating_sub(control(probe.from.dpid) + control(at.dpid));
        let clock = self.clock(now);
        self.note(probe, at, latency, clock);
        if !self.links.contains_key(&(at, probe.from)) && !known {
            self.emit(at, probe.kind, now);
        }
        Fate::Counted
    }

    /// How long a frame took, if it is one of the last of its port and was not heard here before.
    fn consume(&mut self, probe: Probe, at: Place, known: bool, now: Duration) -> Option<Duration> {
        let limit = if known { self.patience() } else { FRESH };
        let clock = self.clock(now);
        let port = self.ports.get_mut(&probe.from)?;
        let sent = sent_of(port, probe.kind).iter_mut().find(|sent| sent.nonce == probe.nonce)?;
        let took = clock.saturating_sub(sent.at);
        // LLDP passes one wire; a second place that hears it is fed by somebody.
        let elsewhere = probe.kind == ProbeKind::Lldp && !sent.heard.is_empty();
        let first = !elsewhere && sent.heard.insert(at);
        (probe.from != at && took <= limit && first).then_some(took)
    }

    fn note(&mut self, probe: Probe, at: Place, latency: Duration, clock: Duration) {
        let ends = (probe.from, at);
        let before = self.links.get(&ends).copied();
        let mut heard = before.unwrap_or(Heard { lldp: None, bddp: None, latency, since: clock });
        match probe.kind {
            ProbeKind::Lldp if !self.is_shared(ends) => heard.lldp = Some(clock),
            ProbeKind::Lldp | ProbeKind::Bddp => heard.bddp = Some(clock),
        }
        // A direct link over which only BDDP comes any more has got a bridge in between.
        let patience = self.patience();
        heard.lldp = heard.lldp.filter(|lldp| clock.saturating_sub(*lldp) < patience);
        heard.latency = (heard.latency * 7 + latency) / 8;
        self.keep(ends, heard);
        if before.is_none_or(|before| before.is_direct() != heard.is_direct()) {
            self.findings.push(Finding::Up { from: ends.0, to: ends.1 });
            self.make_room(ends);
        }
    }

    /// Whether a link across bridges shares a port with this one, so that this is none by wire either.
    fn is_shared(&self, (from, to): (Place, Place)) -> bool {
        let other = |ends: &BTreeSet<(Place, Place)>, at: Place, not: Place| {
            let mut of = ends.range((at, FIRST)..).take_while(|(place, _)| *place == at);
            of.any(|(_, end)| *end != not)
        };
        other(&self.across, from, to) || other(&self.across_back, to, from)
    }

    /// Keeps what is known of a link.
    fn keep(&mut self, (from, to): (Place, Place), heard: Heard) {
        self.links.insert((from, to), heard);
        if heard.is_direct() {
            self.across.remove(&(from, to));
            self.across_back.remove(&(to, from));
        } else {
            self.across.insert((from, to));
            self.across_back.insert((to, from));
        }
    }

    fn drop_link(&mut self, (from, to): (Place, Place)) {
        self.links.remove(&(from, to));
        self.across.remove(&(from, to));
        self.across_back.remove(&(to, from));
    }

    /// A link across bridges replaces a direct one on its ports, and a direct one another direct one: one wire has two
    /// ends.
    fn make_room(&mut self, (from, to): (Place, Place)) {
        let clashes = |(other_from, other_to): &(Place, Place), heard: &Heard| {
            let shares = *other_from == from || *other_to == to;
            shares && (*other_from, *other_to) != (from, to) && heard.is_direct()
        };
        let gone: Vec<_> =
            self.links.iter().filter(|(ends, heard)| clashes(ends, heard)).map(|(ends, _)| *ends).collect();
        for (from, to) in gone {
            self.drop_link((from, to));
            self.findings.push(Finding::Gone { from, to });
        }
    }
}

const FIRST: Place = Place::new(DatapathId(0), openflow::PortNo(0));

fn sent_of(port: &mut PortState, kind: ProbeKind) -> &mut Vec<Sent> {
    let [lldp, bddp] = &mut port.sent;
    match kind {
        ProbeKind::Lldp => lldp,
        ProbeKind::Bddp => bddp,
    }
}
