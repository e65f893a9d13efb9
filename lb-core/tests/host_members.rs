//! Who is in rotation: hosts, checks of services, flap damping and slow start together, in made-up time.
#![cfg(feature = "std")]

use std::net::IpAddr;

use lb_core::host::config::{Admin, Config};
use lb_core::host::health::{Action, Failure, Members, Reason, State, Waiting};
use lb_core::host::ids::{BackendKey, Ids};
use lb_core::host::plan::{HealthView, Plan, Seen};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

/// What a service does with a check that reaches it after `delay_ms`.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Passes { delay_ms: u64 },
    Fails { delay_ms: u64, failure: Failure },
    Hangs,
    Silent,
}

/// Members whose services behave in a manner, in a time that only tests move.
struct Sim {
    config: Config,
    members: Members,
    now: u64,
    wake_at: Option<u64>,
    manner: Manner,
    /// Results on their way: when, which run, what.
    under_way: Vec<(u64, u32, Result<(), Failure>)>,
    changes: Vec<(u64, State, State, String)>,
    starts: Vec<u64>,
    shares: usize,
}

impl Sim {
    fn new(vip: &str) -> Self {
        let text = format!(
            "[health]\nprobe_address = \"10.0.0.250\"\n[[vip]]\naddress = \"10.0.1.1\"\nport = 80\n{vip}\n\
             backend = [{{ address = \"10.0.0.1\" }}, {{ address = \"10.0.0.2\" }}]\n"
        );
        let config = Config::from_toml(&text, "test").unwrap();
        let mut sim = Self {
            members: Members::new(7),
            now: 1_000 * S,
            wake_at: None,
            manner: Manner::Passes { delay_ms: 1 },
            under_way: Vec::new(),
            changes: Vec::new(),
            starts: Vec::new(),
            shares: 0,
            config,
        };
        let actions = sim.members.configure(&sim.config, |_| None, sim.now);
        sim.obey(actions);
        sim
    }

    fn key(&self, number: usize) -> BackendKey {
        let vip = &self.config.vips[0];
        BackendKey::of(vip, &vip.backends[number - 1])
    }

    fn state(&self, number: usize) -> State {
        self.members.status(&self.key(number)).unwrap().state
    }

    fn share(&self, number: usize) -> u16 {
        self.members.status(&self.key(number)).unwrap().share
    }

    fn host(&mut self, number: usize, to: State) {
        let reason = if to == State::Up { Reason::Answered { probes: 2 } } else { Reason::LinkDown };
        let address = self.key(number).station();
        let actions = self.members.host_changed(address, to, reason, self.now);
        self.obey(actions);
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { run, .. } => {
                    self.starts.push(self.now);
                    match self.manner {
                        Manner::Passes { delay_ms } => {
                            self.under_way.push((self.now + delay_ms * MS, run, Ok(())));
                        }
                        Manner::Fails { delay_ms, failure } => {
                            self.under_way.push((self.now + delay_ms * MS, run, Err(failure)));
                        }
                        Manner::Hangs | Manner::Silent => {}
                    }
                    let sent = self.members.sent(run, self.now, self.now);
                    self.obey(sent);
                    if matches!(self.manner, Manner::Hangs) {
                        let connected = self.members.connected(run, self.now);
                        self.obey(connected);
                    }
                }
                Action::Stop { run } => self.under_way.retain(|(_, other, _)| *other != run),
                Action::Change { from, to, cause, .. } => {
                    self.changes.push((self.now, from, to, cause.to_string()));
                }
                Action::Share => self.shares += 1,
                Action::NextWakeAt(at) => self.wake_at = Some(at),
            }
        }
    }

    /// Lets time pass, doing everything when it is due.
    fn pass(&mut self, duration: u64) {
        let end = self.now + duration;
        loop {
            let arrival = self.under_way.iter().map(|(at, ..)| *at).min();
            let next = [arrival, self.wake_at].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if let Some(place) = self.under_way.iter().position(|(at, ..)| *at <= self.now) {
                let (at, run, result) = self.under_way.remove(place);
                let actions = self.members.done(run, result, at, self.now);
                self.obey(actions);
            } else {
                self.wake_at = None;
                let actions = self.members.wake(self.now, self.now);
                self.obey(actions);
            }
        }
        self.now = end;
    }

    fn last(&self) -> &str {
        self.changes.last().map_or("", |(.., text)| text)
    }
}

#[test]
fn a_member_is_up_when_its_host_and_its_service_are() {
    let mut sim = Sim::new("check = { type = \"tcp\" }");
    sim.pass(S);
    assert_eq!(
        (sim.state(1), sim.starts.len()),
        (State::Probing, 0),
        "nothing is asked of a host that is not there"
    );
    sim.host(1, State::Up);
    assert_eq!(sim.state(1), State::Probing, "its service is not known yet");
    sim.pass(S);
    assert_eq!((sim.state(1), sim.state(2)), (State::Up, State::Probing));
    assert_eq!(sim.last(), "tcp check passed 2 times");

    sim.manner = Manner::Fails { delay_ms: 1, failure: Failure::Refused };
    sim.pass(S);
    assert_eq!(sim.state(1), State::Down);
    assert!(sim.last().starts_with("tcp check failed 3 times in "), "{}", sim.last());
    assert!(sim.last().ends_with(": refused"), "{}", sim.last());
}

#[test]
fn without_a_check_the_host_alone_decides() {
    let mut sim = Sim::new("");
    sim.host(1, State::Up);
    assert_eq!((sim.state(1), sim.last()), (State::Up, "answered 2 probes"));
    sim.host(1, State::Down);
    assert_eq!((sim.state(1), sim.last()), (State::Down, "link down"));
    assert!(sim.starts.is_empty());
}

#[test]
fn fewer_failures_than_fall_change_nothing() {
    let mut sim = Sim::new("check = { type = \"http\", interval_ms = 1000, jitter_pct = 0 }");
    sim.host(1, State::Up);
    sim.pass(3 * S);
    for _ in 0..20 {
        sim.manner = Manner::Fails { delay_ms: 1, failure: Failure::Status(503) };
        sim.pass(2 * S);
        assert_eq!(sim.members.status(&sim.key(1)).unwrap().last_failure, Some(Failure::Status(503)));
        sim.manner = Manner::Passes { delay_ms: 1 };
        sim.pass(S);
        assert_eq!(sim.state(1), State::Up);
    }
    assert_eq!(sim.changes.len(), 1);
}

#[test]
fn what_was_waited_for_is_in_the_reason() {
    for (manner, end) in [(Manner::Silent, "no answer"), (Manner::Hangs, "connected, but no response")] {
        let mut sim = Sim::new("check = { type = \"http\", timeout_ms = 300 }");
        sim.host(1, State::Up);
        sim.pass(3 * S);
        sim.manner = manner;
        sim.pass(3 * S);
        assert!(sim.state(1) == State::Down && sim.last().ends_with(end), "{}", sim.last());
    }
    assert_eq!(Failure::Timeout(Waiting::Answer).to_string(), "no answer");
}

#[test]
fn a_udp_service_may_be_silent_but_not_refuse() {
    let mut sim = Sim::new("check = { type = \"udp\" }\nprotocol = \"udp\"");
    sim.manner = Manner::Silent;
    sim.host(1, State::Up);
    sim.pass(S);
    assert_eq!(sim.state(1), State::Up);
    sim.manner = Manner::Fails { delay_ms: 1, failure: Failure::Refused };
    sim.pass(S);
    assert_eq!(sim.state(1), State::Down);

    // The kernel of a host does not send an error for every datagram.
    for _ in 0..20 {
        sim.manner = Manner::Silent;
        sim.pass(S);
        sim.manner = Manner::Fails { delay_ms: 1, failure: Failure::Refused };
        sim.pass(220 * MS);
        assert_eq!(sim.state(1), State::Down, "{:?}", sim.changes);
    }
    sim.manner = Manner::Silent;
    sim.pass(12 * S);
    assert_eq!(sim.state(1), State::Up, "no error for long");
    sim.manner = Manner::Fails { delay_ms: 1, failure: Failure::Refused };
    sim.pass(S);
    sim.manner = Manner::Passes { delay_ms: 1 };
    sim.pass(S);
    assert_eq!(sim.state(1), State::Up, "an answer is better than silence");

    let mut sim = Sim::new("check = { type = \"udp\", expect = \"pong\" }\nprotocol = \"udp\"");
    sim.manner = Manner::Silent;
    sim.host(1, State::Up);
    sim.pass(S);
    assert_eq!(sim.state(1), State::Down, "an answer is expected");
}

#[test]
fn a_service_does_not_come_back_with_its_host_alone() {
    let mut sim = Sim::new("check = { type = \"tcp\" }");
    sim.host(1, State::Up);
    sim.pass(S);
    sim.host(1, State::Down);
    assert_eq!(sim.state(1), State::Down);
    sim.manner = Manner::Fails { delay_ms: 1, failure: Failure::Refused };
    sim.host(1, State::Up);
    sim.pass(5 * S);
    assert_eq!(sim.state(1), State::Down, "the host is back, its service is not");
    sim.manner = Manner::Passes { delay_ms: 1 };
    sim.pass(S);
    assert_eq!(sim.state(1), State::Up);
}

#[test]
fn interval_and_jitter_are_kept() {
    let mut sim = Sim::new("check = { type = \"tcp\", interval_ms = 400, jitter_pct = 20 }");
    sim.host(1, State::Up);
    sim.pass(100 * S);
    let gaps: Vec<u64> = sim.starts.windows(2).map(|pair| (pair[1] - pair[0]) / MS).collect();
    assert!(gaps.iter().all(|gap| (400..=480).contains(gap)), "{gaps:?}");
    let mean = gaps.iter().sum::<u64>() / gaps.len() as u64;
    assert!((430..=450).contains(&mean), "{mean}");
}

#[test]
fn the_checkers_own_lateness_takes_nobody_down() {
    let mut sim = Sim::new("check = { type = \"tcp\" }");
    sim.host(1, State::Up);
    sim.pass(S);
    sim.manner = Manner::Silent;
    for _ in 0..50 {
        // Woken 150 ms after it wanted, each time.
        sim.now = sim.wake_at.unwrap() + 150 * MS;
        sim.wake_at = None;
        let actions = sim.members.wake(sim.now, sim.now);
        sim.obey(actions);
    }
    assert_eq!(sim.state(1), State::Up);
}

#[test]
fn a_socket_that_was_not_drained_is_not_judged() {
    let mut sim = Sim::new("check = { type = \"tcp\", jitter_pct = 0 }");
    sim.host(1, State::Up);
    sim.pass(S);
    sim.manner = Manner::Silent;
    let drained = sim.now;
    for _ in 0..5_000 {
        sim.now = sim.wake_at.unwrap();
        let actions = sim.members.wake(drained, sim.now);
        sim.obey(actions);
    }
    assert_eq!(sim.state(1), State::Up);
}

#[test]
fn a_dead_service_is_out_within_the_bound() {
    let mut sim = Sim::new("check = { type = \"tcp\" }");
    sim.host(1, State::Up);
    sim.pass(10 * S);
    for offset in 0..40 {
        sim.manner = Manner::Passes { delay_ms: 1 };
        sim.pass(400 * S + offset * 7 * MS);
        assert_eq!(sim.state(1), State::Up);
        let died = sim.now;
        sim.manner = Manner::Silent;
        sim.pass(5 * S);
        let (at, _, to, _) = sim.changes.last().unwrap();
        assert_eq!(*to, State::Down);
        assert!(at - died <= 860 * MS, "{} ms", (at - died) / MS);
    }
}

#[test]
fn who_keeps_falling_stays_out_longer() {
    let mut sim = Sim::new("");
    let mut outs = Vec::new();
    for _ in 0..6 {
        sim.host(1, State::Up);
        let asked = sim.now;
        while sim.state(1) != State::Up {
            sim.pass(100 * MS);
        }
        outs.push((sim.now - asked) / S);
        sim.pass(100 * MS);
        sim.host(1, State::Down);
    }
    assert_eq!(outs, [0, 0, 0, 1, 2, 4]);
    let held: Vec<&String> =
        sim.changes.iter().filter(|(_, from, to, _)| from == to).map(|(.., text)| text).collect();
    assert_eq!(held.len(), 3, "{:?}", sim.changes);
    assert_eq!(held[0], "healthy again, held down until steady for 1000 ms: it fell 3 times lately");
    // Five minutes later it is forgiven.
    sim.pass(301 * S);
    sim.host(1, State::Up);
    assert_eq!(sim.state(1), State::Up);
}

#[test]
fn a_hold_begins_anew_when_the_health_breaks() {
    let mut sim = Sim::new("");
    for _ in 0..4 {
        sim.host(1, State::Up);
        sim.pass(20 * S);
        sim.host(1, State::Down);
    }
    for _ in 0..10 {
        // Two seconds are asked for.
        sim.host(1, State::Up);
        sim.pass(1_900 * MS);
        assert_eq!(sim.state(1), State::Down);
        sim.host(1, State::Down);
    }
    sim.host(1, State::Up);
    sim.pass(2_100 * MS);
    assert_eq!(sim.state(1), State::Up);
}

#[test]
fn who_comes_back_gets_its_weight_in_ten_steps() {
    let mut sim = Sim::new("slow_start_s = 10");
    sim.host(1, State::Up);
    sim.host(2, State::Up);
    assert_eq!((sim.share(1), sim.share(2), sim.shares), (10, 10, 0), "nobody grows at the start");
    sim.pass(S);
    sim.host(1, State::Down);
    sim.pass(S);
    sim.host(1, State::Up);
    let mut seen = vec![sim.share(1)];
    for _ in 0..24 {
        sim.pass(500 * MS);
        seen.push(sim.share(1));
    }
    assert!(seen.is_sorted() && seen[0] == 1 && seen[24] == 10, "{seen:?}");
    assert_eq!(seen[10], 5, "half of the time, half of the weight: {seen:?}");
    assert!(sim.shares <= 10, "{} rebuilds", sim.shares);
    assert_eq!(sim.wake_at, None, "nothing is left to do");
}

#[test]
fn who_is_put_back_into_service_or_added_grows_too() {
    let mut sim = Sim::new("slow_start_s = 10");
    sim.host(1, State::Up);
    let mut config = sim.config.clone();
    for (admin, share) in [(Admin::Disabled, 10), (Admin::Enabled, 1)] {
        config.vips[0].backends[0].admin = admin;
        let actions = sim.members.configure(&config, |_| Some(State::Up), sim.now);
        sim.obey(actions);
        assert_eq!(sim.share(1), share, "{admin:?}");
    }
    let removed = config.vips[0].backends.remove(0);
    let actions = sim.members.configure(&config, |_| Some(State::Up), sim.now);
    sim.obey(actions);
    config.vips[0].backends.insert(0, removed);
    let actions = sim.members.configure(&config, |_| Some(State::Up), sim.now);
    sim.obey(actions);
    assert_eq!((sim.state(1), sim.share(1)), (State::Up, 1), "added");
}

#[test]
fn those_who_grow_together_are_rebuilt_together() {
    let mut sim = Sim::new("slow_start_s = 10");
    for number in [1, 2] {
        sim.host(number, State::Up);
        sim.host(number, State::Down);
    }
    sim.host(1, State::Up);
    sim.pass(333 * MS);
    sim.host(2, State::Up);
    let mut times = Vec::new();
    for _ in 0..12_000 {
        let before = sim.shares;
        sim.pass(MS);
        if sim.shares > before {
            times.push(sim.now / MS);
        }
    }
    assert!(times.len() <= 11, "{times:?}");
}

#[test]
fn a_growing_share_is_in_the_plan() {
    let sim = Sim::new("slow_start_s = 10");
    let view: HealthView = [(1, 3), (2, 10)]
        .map(|(number, share)| (sim.key(number), Seen { state: State::Up, neighbour: None, share }))
        .into();
    let plan = Plan::from_config(&sim.config, &mut Ids::default(), &view, None).unwrap();
    let rotation = &plan.vips.values().next().unwrap().rotation;
    let weights: Vec<u16> = rotation.members.iter().map(|member| member.weight).collect();
    assert_eq!(weights, [3, 10]);
    let ring = rotation.ring();
    let count = |id| ring.iter().filter(|entry| **entry == id).count();
    assert_eq!((count(rotation.members[0].id), count(rotation.members[1].id)), (3, 10));
}

#[test]
fn another_check_keeps_the_state_until_it_has_an_opinion() {
    let mut sim = Sim::new("check = { type = \"tcp\" }");
    sim.host(1, State::Up);
    sim.pass(S);
    let old = sim.config.clone();
    for check in ["{ type = \"http\" }", "{ type = \"tcp\", fall = 1 }", "{ type = \"icmp\" }"] {
        let next = Sim::new(&format!("check = {check}")).config;
        let actions = sim.members.configure(&next, |_| Some(State::Up), sim.now);
        sim.config = next;
        sim.obey(actions);
        assert_eq!(sim.state(1), State::Up, "{check}");
    }
    sim.manner = Manner::Silent;
    sim.pass(2 * S);
    assert_eq!(sim.state(1), State::Down);
    let actions = sim.members.configure(&old, |_| Some(State::Up), sim.now);
    sim.obey(actions);
    assert_eq!(sim.state(1), State::Down, "nor does it bring up who is down");
}

#[test]
fn an_adopted_member_goes_down_only_by_failures() {
    let mut sim = Sim::new("check = { type = \"tcp\" }");
    let key = sim.key(1);
    sim.members.assume_up(key.station(), &[key], sim.now);
    let actions = sim.members.host_changed(key.station(), State::Up, Reason::Answered { probes: 1 }, sim.now);
    sim.obey(actions);
    assert_eq!((sim.state(1), sim.changes.len()), (State::Up, 0));
    sim.pass(S);
    assert_eq!(sim.state(1), State::Up);
    sim.manner = Manner::Silent;
    sim.pass(S);
    assert_eq!(sim.state(1), State::Down);
}

proptest! {
    /// Whatever happens, in whatever order: states follow, and the next time is always ahead.
    #[test]
    fn any_order_of_events(events in proptest::collection::vec((0u8..8, 1u32..40, 0u64..500), 1..300)) {
        let mut sim = Sim::new("check = { type = \"udp\" }\nslow_start_s = 3");
        for (what, run, wait) in events {
            sim.now += wait * MS;
            let (now, at) = (sim.now, sim.now.saturating_sub(run.into()));
            let address: IpAddr = if run % 2 == 0 { "10.0.0.1" } else { "10.0.0.2" }.parse().unwrap();
            let address = address.into();
            let actions = match what {
                0 => sim.members.host_changed(address, State::Up, Reason::Answered { probes: 1 }, now),
                1 => sim.members.host_changed(address, State::Down, Reason::LinkDown, now),
                2 => sim.members.sent(run, at, now),
                3 => sim.members.not_sent(run, now),
                4 => sim.members.connected(run, now),
                5 => sim.members.done(run, Ok(()), at, now),
                6 => sim.members.done(run, Err(Failure::Closed), at, now),
                _ => sim.members.wake(at, now),
            };
            for action in &actions {
                match action {
                    Action::NextWakeAt(next) => prop_assert!(what != 7 || *next > now),
                    Action::Change { backend, to, .. } => {
                        prop_assert_eq!(sim.members.status(backend).unwrap().state, *to);
                    }
                    _ => {}
                }
            }
            for number in [1, 2] {
                prop_assert!((1..=10).contains(&sim.share(number)));
            }
        }
    }
}
