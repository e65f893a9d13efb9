//! In the place of a balancer that is told by its daemon what to do: with its configuration, ids and health. While the
//! daemon is silent, backends are probed from here, beginning with what it said last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_core::conn::state;
use lb_core::host::config::{Config, VipKey};
use lb_core::host::handover::{Connection as Told, Handover};
use lb_core::host::health::{Neighbour, State, Station as Watched};
use lb_core::host::ids::BackendKey;
use lb_core::host::plan::{HealthView, Seen};
use lb_core::table::ConnKey;
use openflow::MacAddr;

use super::health::Watch;
use super::places::Places;
use super::{Balancer, EntriesKind, Replanned, Settings, is_finished, nanoseconds, ticks};
use crate::core::event::Level;
use crate::core::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::core::net::FlowKey;
use crate::core::net::key::IpKey;
use crate::core::topo::Place;

/// What a daemon said, and what is known beside it.
#[derive(Debug, Default)]
pub struct Following {
    /// The backends' health.
    view: HealthView,
    /// Where their MACs were heard.
    places: BTreeMap<MacAddr, Place>,
    /// Backends are probed from here.
    alone: Option<Alone>,
}

/// How what a silent daemon said last, and what is found out without it, go together.
#[derive(Debug)]
struct Alone {
    /// It answers again, and does not know all backends yet.
    answers: bool,
    /// The VIPs whose services it alone asks.
    checked: BTreeSet<VipKey>,
}

impl Alone {
    fn new(config: &Config) -> Self {
        let checked = config.vips.iter().filter(|vip| vip.check.is_some());
        Self { answers: false, checked: checked.map(lb_core::host::config::VipConfig::key).collect() }
    }

    /// Puts what was found out here in the place of what the daemon said, where it counts: a backend of which nothing
    /// was found out stays as it was, and so does one that is down where services are asked too.
    fn amend(&self, key: &BackendKey, seen: &mut Seen, watch: &Watch) {
        let Some(own) = watch.members.status(key) else { return };
        let counts = own.state != State::Probing && (seen.state == State::Probing || !self.answers);
        let unasked = seen.state == State::Down && self.checked.contains(&key.vip);
        if counts && !unasked {
            (seen.state, seen.share) = (own.state, own.share);
            seen.neighbour = watch.prober.neighbour(key.station()).or(seen.neighbour);
        }
    }
}

impl Following {
    /// The health as a plan is made with.
    pub fn view(&self, watch: &Watch) -> HealthView {
        let mut view = self.view.clone();
        for (key, seen) in &mut view {
            // The daemon's interfaces are no ports of switches.
            seen.neighbour = seen.neighbour.map(|found| Neighbour { interface: 0, ..found });
            if let Some(alone) = &self.alone {
                alone.amend(key, seen, watch);
            }
        }
        view
    }

    /// Whether backends are probed from here.
    pub const fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// The hosts that are there by what the daemon said, at the ports where they were heard.
    fn there(&self, places: &mut Places) -> BTreeMap<Watched, Neighbour> {
        let there = self.view.iter().filter(|(_, seen)| matches!(seen.state, State::Up | State::Draining));
        there
            .filter_map(|(key, seen)| {
                let mac = seen.neighbour?.mac;
                let place = self.places.get(&MacAddr(mac.0));
                let interface = place.map_or(0, |place| places.number(*place));
                Some((key.station(), Neighbour { mac, interface }))
            })
            .collect()
    }

    /// Where a MAC was heard.
    pub fn place_of(&self, mac: MacAddr) -> Option<Place> {
        self.places.get(&mac).copied()
    }

    /// A MAC was heard.
    pub fn heard(&mut self, mac: MacAddr, at: Place) {
        self.places.insert(mac, at);
    }
}

impl Balancer {
    /// A balancer that begins where another one is: it probes nobody, and is told.
    #[must_use]
    pub fn following(given: &Handover, seed: u64, now: Duration) -> Self {
        let settings = Settings { config: given.config.clone(), entries: EntriesKind::Reactive, seed };
        let watch = Watch::nobody(&given.config, seed, nanoseconds(now));
        let mut balancer = Self::bare(settings, watch, now);
        balancer.following = Some(Following::default());
        balancer.follow_daemon(given, now);
        for (vip, ticket) in &given.tickets {
            balancer.model.set_ticket(*vip, *ticket);
        }
        balancer
    }

    /// Whether a daemon says what is balanced, and who is in rotation.
    #[must_use]
    pub const fn follows(&self) -> bool {
        self.following.is_some()
    }

    /// Whether backends are probed from here, since the daemon is silent.
    #[must_use]
    pub fn probes_alone(&self) -> bool {
        self.following.as_ref().is_some_and(Following::is_alone)
    }

    /// Takes over what the daemon says now: configuration, ids, health. What was found out in its silence is over once it
    /// knows all backends.
    pub fn follow_daemon(&mut self, given: &Handover, now: Duration) -> Replanned {
        let Some(following) = &mut self.following else { return Replanned::default() };
        following.view = given.view();
        let knows_all = given.health.iter().all(|(_, seen)| seen.state != State::Probing);
        if let Some(alone) = &mut following.alone {
            *alone = Alone { answers: true, ..Alone::new(&given.config) };
            if knows_all {
                following.alone = None;
                self.watch = Watch::nobody(&given.config, self.random, nanoseconds(now));
            } else {
                self.watch.reconfigure(&without_checks(&given.config), nanoseconds(now));
            }
        }
        self.ids = given.ids();
        self.configure(given.config.clone());
        self.replan()
    }

    /// The daemon has been silent for too long: backends are probed from here, at first where these MACs are. The lines for
    /// the log; `None` if it was so before. What changes is told by [`Balancer::follow`].
    pub fn probe_alone(
        &mut self,
        seats: &BTreeMap<MacAddr, Place>,
        now: Duration,
    ) -> Option<Vec<(Level, String)>> {
        let following = self.following.as_mut()?;
        if let Some(alone) = &mut following.alone {
            let answered = std::mem::take(&mut alone.answers);
            if answered {
                self.watch.mark();
            }
            return answered.then(Vec::new);
        }
        for (mac, place) in seats {
            following.places.entry(*mac).or_insert(*place);
        }
        let there = following.there(&mut self.places);
        following.alone = Some(Alone::new(&self.config));
        self.watch = Watch::resumed(&without_checks(&self.config), &there, self.random, nanoseconds(now));
        self.watch.mark();
        let mut lines = vec![(
            Level::Warn,
            "the balancer's daemon is silent: its backends are probed from here until it answers".to_owned(),
        )];
        for vip in &self.config.vips {
            if let Some(check) = &vip.check {
                let text = format!(
                    "VIP {}: its {} check is not done meanwhile: backends that are down stay so, others are judged by ARP \
                     and neighbour discovery alone",
                    vip.name,
                    check.kind.word()
                );
                lines.push((Level::Warn, text));
            }
        }
        Some(lines)
    }

    /// What the daemon is told when it balances again. What has ended is known here so late that nothing of it is on its way.
    #[must_use]
    pub fn handover(&self, now: Duration) -> Handover {
        let told = |connection: super::Connection| Told::of(&connection.key, &connection.value, ticks(now));
        let mut handover = Handover::of_plan(&self.config, &self.plan);
        if let Some(following) = &self.following {
            handover.health = following.view.iter().map(|(key, seen)| (*key, *seen)).collect();
        }
        handover.tickets = self.plan.vips.keys().map(|id| (*id, self.model.next_ticket(*id))).collect();
        let open = |connection: &super::Connection| !is_finished(&connection.value);
        handover.connections = self.connections().into_iter().filter(open).map(told).collect();
        handover
    }

    /// Takes over a connection of the daemon's; its key, and whether another one from the same port was here, whose entries
    /// lead elsewhere. `None` if there is no room, or no such backend.
    pub fn take(&mut self, told: &Told, now: Duration) -> Option<(ConnKey, bool)> {
        let (key, value) = told.entry(ticks(now));
        let fits = |record: &lb_core::table::BackendRecord| record.vip == key.vip();
        self.model.backends.get(&value.backend).filter(|record| fits(record))?;
        let Some(there) = self.model.connection(&key) else {
            return self.model.put_connection(&key, &value).then_some((key, false));
        };
        // What has ended there says nothing of what has begun here since.
        if is_finished(&value) {
            return Some((key, false));
        }
        let same = (there.backend, there.generation) == (value.backend, value.generation);
        let begun = matches!(there.state, state::SYN | state::UNVERIFIED);
        if !same || begun || is_finished(&there) {
            self.model.change_connection(&key, |there| *there = value);
        }
        Some((key, !same))
    }

    /// What a client's packets of a connection are, and what leaves: from a client with this MAC, in this VLAN. `None` if
    /// the connection or its backend's place is not known.
    #[must_use]
    pub fn directions(
        &self,
        key: &ConnKey,
        client: MacAddr,
        vlan: Option<u16>,
    ) -> Option<(FlowKey, FlowKey)> {
        let value = self.model.connection(key)?;
        let record = self.model.backends.get(&value.backend).filter(|record| record.vip == key.vip())?;
        let vip = self.plan.vips.get(&key.vip())?;
        let (src, dst) = (lb_core::host::records::ip(key.client), vip.key.address);
        let ports = (u16::from_be(key.client_port()), u16::from_be(key.vip_port()));
        let of = |mac, dst, ports| FlowKey {
            src: Some(client),
            dst: mac,
            vlan,
            ethertype: Some(if src.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 }),
            ip: Some(IpKey { src, dst, protocol: Some(key.protocol()), ports: Some(ports) }),
            by_port: true,
        };
        let came = of(MacAddr(vip.mac.0), dst, ports);
        let backend = MacAddr(record.mac);
        if backend == came.dst || record.mac == [0; 6] {
            return None;
        }
        let translates = vip.mode == lb_core::host::config::Mode::Nat;
        let port = if record.port == 0 { ports.1 } else { u16::from_be(record.port) };
        let left = if translates {
            of(backend, lb_core::host::records::ip(record.address), (ports.0, port))
        } else {
            of(backend, dst, ports)
        };
        Some((came, left))
    }
}

/// A configuration without the checks of services, which are the daemon's alone.
pub(super) fn without_checks(config: &Config) -> Config {
    let mut config = config.clone();
    for vip in &mut config.vips {
        vip.check = None;
    }
    config
}
