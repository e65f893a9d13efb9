//! The prober, driven by a simulated network and clock.
#![cfg(feature = "std")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_core::host::addr::MacAddr;
use lb_core::host::config::{HealthConfig, HealthPreset};
use lb_core::host::health::{
    Command, Destination, Event, Neighbour, Prober, Reason, Settings, State, Station,
};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
/// An arbitrary start of the clock.
const START: u64 = 7_000_000_000_000;

fn address(n: u8) -> Station {
    IpAddr::from([10, 0, 0, n]).into()
}

/// The `n` of [`address`].
fn number(station: Station) -> u8 {
    match station.address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => panic!("{station}"),
    }
}

fn neighbour(n: u8) -> Neighbour {
    Neighbour { mac: MacAddr([0, 0, 0, 0, 0, n]), interface: u32::from(n) }
}

fn settings(preset: HealthPreset) -> Settings {
    Settings::new(&HealthConfig::preset(preset), 42)
}

/// A state change as the tests look at it: when, whose, from, to, and the words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    at: u64,
    backend: Station,
    from: State,
    to: State,
    text: String,
}

/// A driver with a network behind it. Closures say what the network does.
struct Sim {
    prober: Prober,
    now: u64,
    wake: u64,
    /// Replies on their way: time of receipt -> from whom.
    arriving: Vec<(u64, Station, Neighbour)>,
    changes: Vec<Change>,
    probes: Vec<(u64, Station, Destination)>,
}

impl Sim {
    fn new(settings: Settings, backends: u8) -> Self {
        let mut prober = Prober::new(settings);
        let all: Vec<Station> = (1..=backends).map(address).collect();
        let commands = prober.configure(settings, &all, START);
        let mut sim =
            Self { prober, now: START, wake: START, arriving: vec![], changes: vec![], probes: vec![] };
        sim.obey(&commands, &mut |_, _| None);
        sim
    }

    fn event(&mut self, event: Event) {
        let commands = self.prober.handle(event, self.now);
        self.obey(&commands, &mut |_, _| None);
    }

    /// `answer(backend, sent)` is the delay until its reply is received, or none.
    fn obey(&mut self, commands: &[Command], answer: &mut dyn FnMut(Station, u64) -> Option<u64>) {
        for command in commands {
            match *command {
                Command::SendProbe { backend, to } => {
                    self.probes.push((self.now, backend, to));
                    let confirmed = self.prober.handle(Event::ProbeSent { backend, at: self.now }, self.now);
                    self.obey(&confirmed, &mut |_, _| None);
                    if let Some(delay) = answer(backend, self.now) {
                        let from = neighbour(number(backend));
                        self.arriving.push((self.now + delay, backend, from));
                    }
                }
                Command::StateChange { backend, from, to, reason, .. } => {
                    self.changes.push(Change { at: self.now, backend, from, to, text: reason.to_string() });
                }
                Command::NextWakeAt(at) => {
                    assert!(at > self.now || self.now == START, "a wake-up in the past");
                    self.wake = at;
                }
            }
        }
    }

    /// Runs until `end`, waking `late()` after the ordered time.
    fn run(
        &mut self,
        end: u64,
        late: &mut dyn FnMut() -> u64,
        answer: &mut dyn FnMut(Station, u64) -> Option<u64>,
    ) {
        while self.wake < end {
            self.now = self.now.max(self.wake + late());
            let now = self.now;
            let (read, rest): (Vec<_>, Vec<_>) = self.arriving.drain(..).partition(|(at, ..)| *at <= now);
            self.arriving = rest;
            for (received_at, backend, neighbour) in read {
                let commands = self
                    .prober
                    .handle(Event::Reply { backend: backend.address, received_at, neighbour }, now);
                self.obey(&commands, answer);
            }
            let commands = self.prober.handle(Event::Wake { drained_up_to: now }, now);
            self.obey(&commands, answer);
        }
        self.now = end.max(self.now);
    }

    /// Runs until a probe that nobody will answer has just left.
    fn until_probe(&mut self) {
        let before = self.probes.len();
        while self.probes.len() == before {
            self.run(self.wake + 1, &mut || 0, &mut |_, _| None);
        }
    }

    fn up(settings: Settings, backends: u8) -> Self {
        let mut sim = Self::new(settings, backends);
        sim.run(START + 60_000 * MS, &mut || 0, &mut |_, _| Some(MS));
        for n in 1..=backends {
            assert_eq!(sim.prober.state(address(n)), Some(State::Up));
        }
        sim.changes.clear();
        sim.probes.clear();
        sim
    }
}

#[test]
fn up_after_rise_and_down_after_fall_with_reasons() {
    let mut sim = Sim::new(settings(HealthPreset::Default), 1);
    assert_eq!(sim.prober.state(address(1)), Some(State::Probing));
    sim.run(START + 1000 * MS, &mut || 0, &mut |_, _| Some(MS));
    let died = sim.now;
    sim.run(died + 1000 * MS, &mut || 0, &mut |_, _| None);
    sim.run(died + 2000 * MS, &mut || 0, &mut |_, _| Some(MS));
    let told: Vec<_> = sim.changes.iter().map(|c| (c.from, c.to)).collect();
    assert_eq!(told, [(State::Probing, State::Up), (State::Up, State::Down), (State::Down, State::Up)]);
    assert_eq!(sim.changes[0].text, "answered 2 probes");
    assert!(sim.changes[1].text.starts_with("no ARP reply to 3 probes in "), "{}", sim.changes[1].text);
    let in_ms: u64 = sim.changes[1].text.split(' ').nth_back(1).unwrap().parse().unwrap();
    assert!((600..=640).contains(&in_ms), "two intervals and a timeout: {in_ms}");
    let (_, status) = sim.prober.status().next().unwrap();
    assert_eq!((status.counters.flaps, status.counters.missed >= 3), (1, true));
}

#[test]
fn one_miss_is_not_enough_and_answers_in_between_reset_the_count() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 1);
    let mut n = 0;
    // Two misses, one answer, for a long time.
    sim.run(sim.now + 60_000 * MS, &mut || 0, &mut |_, _| {
        n += 1;
        (n % 3 == 0).then_some(MS)
    });
    assert_eq!(sim.changes, []);
    // After a miss everybody is asked, after an answer only the neighbour.
    assert!(sim.probes.iter().any(|(_, _, to)| *to == Destination::Broadcast));
    assert!(sim.probes.iter().any(|(_, _, to)| *to == Destination::Unicast(neighbour(1))));
}

#[test]
fn an_answer_after_the_timeout_does_not_count() {
    let mut sim = Sim::new(settings(HealthPreset::Default), 1);
    // 205 ms: beyond the timeout of 200, and beyond the slack around the next probe only by chance of jitter.
    sim.run(START + 150 * MS, &mut || 0, &mut |_, _| None);
    let late = Event::Reply {
        backend: address(1).address,
        received_at: START + 201 * MS + MS / 2,
        neighbour: neighbour(1),
    };
    sim.now = START + 202 * MS;
    sim.event(late);
    assert_eq!(sim.prober.status().next().unwrap().1.counters.unsolicited, 1);
}

#[test]
fn a_reply_received_in_time_counts_however_late_it_is_read() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 1);
    let mut n = 0;
    // Every wake-up a full second late; the kernel had the replies after 1 ms.
    sim.run(
        sim.now + 60_000 * MS,
        &mut || {
            n += 1;
            (n % 2) * 1000 * MS
        },
        &mut |_, _| Some(MS),
    );
    assert_eq!(sim.changes, []);
}

#[test]
fn a_timeout_is_not_judged_before_the_socket_was_drained() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 1);
    sim.until_probe();
    let asked = sim.now;
    // Ten wake-ups that admit not to have drained.
    for step in 0..10 {
        sim.now = asked + 210 * MS + step * MS;
        sim.event(Event::Wake { drained_up_to: asked });
        assert_eq!(sim.wake, sim.now + MS, "comes back soon");
    }
    assert_eq!(sim.prober.status().next().unwrap().1.counters.missed, 0);
    sim.event(Event::Wake { drained_up_to: sim.now });
    assert_eq!(sim.prober.status().next().unwrap().1.counters.missed, 1);
}

#[test]
fn failed_and_unconfirmed_sends_count_for_nothing() {
    let mut prober = Prober::new(settings(HealthPreset::Default));
    let backend = address(1);
    let _ = prober.configure(settings(HealthPreset::Default), &[backend], START);
    prober.assume_up(backend, neighbour(1), START);
    assert_eq!(prober.state(backend), Some(State::Up));
    for step in 0..1000 {
        let now = START + step * 10 * MS;
        for command in prober.handle(Event::Wake { drained_up_to: now }, now) {
            if matches!(command, Command::SendProbe { .. }) && step % 2 == 0 {
                let _ = prober.handle(Event::SendFailed { backend }, now);
            }
        }
    }
    assert_eq!(prober.state(backend), Some(State::Up));
    let counters = prober.status().next().unwrap().1.counters;
    assert!(
        counters.sent >= 40 && counters.missed == 0 && counters.void >= counters.sent - 2,
        "{counters:?}"
    );
}

#[test]
fn frames_in_the_data_plane_keep_a_backend_up_but_do_not_raise_it() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 1);
    let end = sim.now + 5000 * MS;
    while sim.now < end {
        sim.run(sim.wake + 1, &mut || 0, &mut |_, _| None);
        assert!(sim.prober.due(sim.now).len() <= 1);
        sim.event(Event::FrameSeen { backend: address(1), at: sim.now });
    }
    assert_eq!(sim.changes, []);
    // The frames end: it is down within the bound. A frame does not bring it back.
    let bound = settings(HealthPreset::Default).longest_detection_ns(1);
    sim.run(end + bound + MS, &mut || 0, &mut |_, _| None);
    assert_eq!(sim.prober.state(address(1)), Some(State::Down));
    sim.event(Event::FrameSeen { backend: address(1), at: sim.now });
    assert_eq!(sim.prober.state(address(1)), Some(State::Down));
}

#[test]
fn a_lost_link_is_down_at_once_and_old_replies_do_not_undo_it() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 2);
    sim.until_probe();
    let before = sim.now;
    sim.now += 5 * MS;
    sim.event(Event::LinkDown { interface: 2 });
    assert_eq!(
        sim.changes,
        [Change {
            at: sim.now,
            backend: address(2),
            from: State::Up,
            to: State::Down,
            text: "link down".into()
        }]
    );
    assert_eq!(sim.prober.state(address(1)), Some(State::Up));
    for _ in 0..5 {
        sim.event(Event::Reply { backend: address(2).address, received_at: before, neighbour: neighbour(2) });
    }
    assert_eq!(sim.prober.state(address(2)), Some(State::Down));
    sim.now += 1000 * MS;
    sim.event(Event::LinkUp { interface: 2 });
    assert!(sim.wake <= sim.now + MS, "asked at once");
    sim.run(sim.now + 500 * MS, &mut || 0, &mut |_, _| Some(MS));
    assert_eq!(sim.prober.state(address(2)), Some(State::Up));
}

#[test]
fn a_changed_mac_is_up_again() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 1);
    sim.until_probe();
    let moved = Neighbour { mac: MacAddr([0, 0, 0, 0, 0, 9]), interface: 1 };
    let commands = sim.prober.handle(
        Event::Reply { backend: address(1).address, received_at: sim.now, neighbour: moved },
        sim.now + MS,
    );
    let reason = Reason::Moved { from: neighbour(1), to: moved };
    let change = Command::StateChange {
        backend: address(1),
        from: State::Up,
        to: State::Up,
        reason,
        neighbour: Some(moved),
    };
    assert_eq!(commands[0], change);
    assert_eq!(reason.to_string(), "MAC changed from 00:00:00:00:00:01 to 00:00:00:00:00:09");
    // Without a probe under way nobody may move it.
    let commands = sim.prober.handle(
        Event::Reply { backend: address(1).address, received_at: sim.now, neighbour: neighbour(1) },
        sim.now + MS,
    );
    assert!(matches!(commands.as_slice(), [Command::NextWakeAt(_)]), "{commands:?}");
}

#[test]
fn the_administrator_has_the_last_word() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 2);
    let one = address(1);
    sim.event(Event::Drain { backend: one });
    assert_eq!(sim.prober.state(one), Some(State::Draining));
    // Draining and dead is down, and draining again when it answers.
    sim.run(sim.now + 1500 * MS, &mut || 0, &mut |b, _| (b != one).then_some(MS));
    assert_eq!(sim.prober.state(one), Some(State::Down));
    sim.run(sim.now + 1500 * MS, &mut || 0, &mut |_, _| Some(MS));
    assert_eq!(sim.prober.state(one), Some(State::Draining));
    sim.event(Event::Enable { backend: one });
    assert_eq!(sim.prober.state(one), Some(State::Up));
    sim.event(Event::Disable { backend: one });
    sim.probes.clear();
    sim.run(sim.now + 1500 * MS, &mut || 0, &mut |_, _| Some(MS));
    assert_eq!(sim.prober.state(one), Some(State::Disabled));
    assert!(sim.probes.iter().all(|(_, backend, _)| *backend != one), "a disabled backend is not probed");
    sim.event(Event::Enable { backend: one });
    assert_eq!(sim.prober.state(one), Some(State::Probing));
    sim.run(sim.now + 1500 * MS, &mut || 0, &mut |_, _| Some(MS));
    assert_eq!(sim.prober.state(one), Some(State::Up));
    let told: Vec<_> = sim.changes.iter().map(|c| c.text.as_str()).collect();
    assert_eq!(told[0], "draining by order of the administrator");
    assert_eq!(told[told.len() - 2], "enabled by the administrator");
    // Events for strangers are ignored.
    sim.event(Event::Disable { backend: address(99) });
    assert_eq!(sim.prober.state(address(99)), None);
}

#[test]
fn pox_probes_one_backend_a_tick_in_turn() {
    for (backends, tick) in [(1, 5000), (2, 2500), (4, 1250), (20, 250), (40, 250)] {
        let mut sim = Sim::up(settings(HealthPreset::Pox), backends);
        sim.run(sim.now + 60_000 * MS, &mut || 0, &mut |_, _| Some(MS));
        for pair in sim.probes.windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, tick * MS, "{backends} backends");
            let next = number(pair[0].1) % backends + 1;
            assert_eq!((pair[1].1, pair[1].2), (address(next), Destination::Broadcast));
        }
        assert!(sim.probes.len() > 10);
    }
}

#[test]
fn reconfiguring_keeps_the_state_of_those_that_stay() {
    let mut sim = Sim::up(settings(HealthPreset::Default), 2);
    let _ = sim.prober.configure(settings(HealthPreset::Default), &[address(2), address(3)], sim.now);
    let states: BTreeMap<_, _> =
        sim.prober.status().map(|(address, status)| (address, status.state)).collect();
    assert_eq!(states, BTreeMap::from([(address(2), State::Up), (address(3), State::Probing)]));
    assert_eq!(sim.prober.configure(settings(HealthPreset::Default), &[], sim.now), []);
}

#[test]
fn the_documented_bounds() {
    let ms = |preset, n| settings(preset).longest_detection_ns(n) / MS;
    assert_eq!(ms(HealthPreset::Default, 655), 3 * 220 + 200 + 2 * 50);
    assert_eq!(ms(HealthPreset::Pox, 2), 5000 + 3000 + 100);
    assert_eq!(ms(HealthPreset::Pox, 40), 10_000 + 3000 + 100);
}

/// Settings that a configuration may have.
fn any_settings() -> impl Strategy<Value = Settings> {
    (10_u32..2000, 1_u32..=100, 1_u32..5, 1_u32..5, 0_u32..=50, any::<u64>(), any::<bool>()).prop_map(
        |(interval_ms, timeout_pct, rise, fall, jitter_pct, seed, pox)| {
            let preset = if pox { HealthPreset::Pox } else { HealthPreset::Default };
            let timeout_ms = (interval_ms * timeout_pct / 100).max(1);
            Settings::new(
                &HealthConfig {
                    preset,
                    interval_ms,
                    timeout_ms,
                    rise,
                    fall,
                    jitter_pct,
                    ..HealthConfig::preset(preset)
                },
                seed,
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// All probes answered in time: never down, however late the prober is.
    #[test]
    fn never_down_while_answered(settings in any_settings(), n in 1_u8..6, seed in any::<u64>()) {
        let mut random = seed;
        let mut next = move || { random = lb_core::host::seed::mix(random); random };
        let mut delays = next;
        let mut sim = Sim::new(settings, n);
        sim.run(
            START + 200 * settings.interval_ns,
            &mut || if next() % 4 == 0 { next() % (5 * settings.interval_ns) } else { next() % MS },
            &mut |_, _| Some(delays() % settings.timeout_ns),
        );
        prop_assert!(sim.changes.iter().all(|c| c.to == State::Up), "{:?}", sim.changes);
    }

    /// Nothing answered from some time on: down within the bound, if the prober is within its tolerance.
    #[test]
    fn down_within_the_bound(settings in any_settings(), n in 1_u8..6, seed in any::<u64>()) {
        let mut random = seed;
        let mut next = move || { random = lb_core::host::seed::mix(random); random };
        let mut sim = Sim::new(settings, n);
        let died = START + 40 * settings.longest_detection_ns(usize::from(n)) + next() % settings.interval_ns;
        let bound = settings.longest_detection_ns(usize::from(n));
        sim.run(
            died + bound + settings.tolerance_ns,
            &mut || next() % settings.tolerance_ns,
            &mut |_, sent| (sent < died).then_some(0),
        );
        for backend in (1..=n).map(address) {
            let last = sim.changes.iter().rfind(|c| c.backend == backend);
            prop_assert!(last.is_some_and(|c| c.to == State::Down && c.at <= died + bound), "{last:?}, died {died}, bound {bound}");
            prop_assert_eq!(sim.changes.iter().filter(|c| c.backend == backend && c.to == State::Down).count(), 1);
        }
    }

    /// Every timeout looked at later than the tolerance: nothing that is up goes down, though nothing answers.
    #[test]
    fn lateness_never_takes_down(settings in any_settings(), n in 1_u8..6, seed in any::<u64>()) {
        let mut random = seed;
        let mut next = move || { random = lb_core::host::seed::mix(random); random };
        let mut sim = Sim::new(settings, n);
        for backend in (1..=n).map(address) {
            sim.prober.assume_up(backend, neighbour(1), START);
        }
        sim.run(
            START + 300 * settings.interval_ns,
            &mut || settings.tolerance_ns + settings.timeout_ns + 1 + next() % (3 * settings.interval_ns),
            &mut |_, _| None,
        );
        prop_assert_eq!(&sim.changes, &[]);
    }

    /// Any events in any order: no panic, the wake-up is in the future, and the probes add up.
    #[test]
    fn any_events(settings in any_settings(), events in proptest::collection::vec((0_u8..10, 0_u8..4, 0_u64..3000, 0_u64..3000), 0..300)) {
        let mut prober = Prober::new(settings);
        let all: Vec<_> = (1..=3).map(address).collect();
        let _ = prober.configure(settings, &all, START);
        let mut now = START;
        for (kind, who, forward, back) in events {
            now += forward * MS;
            let (backend, at) = (address(who), now - back * MS);
            let interface = u32::from(who);
            let event = match kind {
                0 | 1 => Event::Wake { drained_up_to: at },
                2 => Event::ProbeSent { backend, at },
                3 => Event::SendFailed { backend },
                4 => Event::Reply { backend: backend.address, received_at: at, neighbour: neighbour(who) },
                5 => Event::FrameSeen { backend, at },
                6 => Event::LinkDown { interface },
                7 => Event::LinkUp { interface },
                8 => Event::Drain { backend },
                _ => if back % 2 == 0 { Event::Enable { backend } } else { Event::Disable { backend } },
            };
            let commands = prober.handle(event, now);
            for command in &commands {
                if let Command::NextWakeAt(wake) = command {
                    prop_assert!(*wake > now);
                }
            }
            let probed = prober.status().any(|(_, s)| s.state != State::Disabled);
            prop_assert_eq!(matches!(commands.last(), Some(Command::NextWakeAt(_))), probed);
        }
        for (_, status) in prober.status() {
            let c = status.counters;
            let done = c.answered + c.missed + c.void;
            prop_assert!(done <= c.sent && c.sent - done <= 8, "{:?}", c);
        }
    }
}

#[test]
fn hosts_of_one_address_are_told_by_their_mac() {
    let shared = IpAddr::from([192, 168, 2, 2]);
    let station = |n: u8| Station { address: shared, mac: Some(neighbour(n).mac) };
    let (mut prober, settings) =
        (Prober::new(settings(HealthPreset::Default)), settings(HealthPreset::Default));
    drop(prober.configure(settings, &[station(2), station(3)], START));
    let asked: Vec<Station> = prober
        .handle(Event::Wake { drained_up_to: START + 200 * MS }, START + 200 * MS)
        .into_iter()
        .filter_map(|command| match command {
            Command::SendProbe { backend, .. } => Some(backend),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [station(2), station(3)]);
    let at = START + 200 * MS;
    for backend in asked {
        drop(prober.handle(Event::ProbeSent { backend, at }, at));
    }
    // Both are asked by each probe; each is answered for by its own MAC alone, and a third host by none.
    for n in [2, 4] {
        drop(prober.handle(
            Event::Reply { backend: shared, received_at: at + MS, neighbour: neighbour(n) },
            at + MS,
        ));
    }
    let answered: Vec<u64> = prober.status().map(|(_, status)| status.counters.answered).collect();
    assert_eq!(answered, [1, 0]);
    assert_eq!(station(2).to_string(), "192.168.2.2 (00:00:00:00:00:02)");
}
