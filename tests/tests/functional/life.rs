//! Backends that are drained, die and come back, and what is left at the end.

use std::time::{Duration, Instant};

use super::bed::{BACKENDS, Bed};
use super::mode::{Balancer, What};
use super::selections::datagram;
use crate::e2e_bed::{Talk, wait};

/// The backend that is drained, and dies.
const VICTIM: u32 = BACKENDS[0];
/// Requests to each service while it is away.
const EACH: usize = 4;

/// Purposes in cookies: see `ofshim/src/core/cookie.rs`.
mod purpose {
    pub const BALANCE: u8 = 8;
    pub const PINNED: u8 = 9;
    pub const STANDING: u8 = 11;
    pub const LEARNED: u8 = 12;
}

/// How many entries the switch has as long as there are VIPs.
pub fn standing_entries(bed: &mut Bed) -> usize {
    bed.fabric.entries_of("s1", purpose::STANDING).len()
}

/// Open connections, at least one of them at the victim.
pub fn connections(bed: &Bed) -> Vec<(Talk, u32)> {
    let service = bed.main_service();
    let mut talks: Vec<(Talk, u32)> = (0..3).map(|_| bed.open(&service)).collect();
    while talks.iter().all(|(_, host)| *host != VICTIM) {
        assert!(talks.len() < 60, "{}: none of 60 connections is at host {VICTIM}", bed.mode);
        talks.push(bed.open(&service));
    }
    talks
}

fn assert_they_go_on(bed: &Bed, talks: &mut [(Talk, u32)], when: &str) {
    for (talk, host) in talks {
        let answer = talk.say(when).unwrap_or_else(|error| panic!("{host} {when}: {error}; {}", bed.state()));
        assert_eq!(answer, format!("{host} {when}"), "{}", bed.mode);
    }
}

/// Every service answers, and never the victim; where changes take a moment, after that.
fn assert_victim_is_left_out(bed: &Bed, when: &str) {
    if !bed.mode.has(What::AtOnce) {
        wait_victim_is_left_out(bed, when);
    }
    for service in bed.web() {
        let hosts = bed.ask(&service, EACH);
        assert!(!hosts.contains(&VICTIM), "{} {when}: {}: {hosts:?}", bed.mode, service.what);
    }
    if bed.mode.has(What::Udp) {
        let hosts: Vec<u32> = (0..EACH).map(|_| datagram(bed)).collect();
        assert!(!hosts.contains(&VICTIM), "{} {when}: datagrams: {hosts:?}", bed.mode);
    }
}

/// A moment later no new connection goes to the victim.
fn wait_victim_is_left_out(bed: &Bed, when: &str) {
    // By chance alone so many in a row leave one of three out once in a hundred times.
    const ENOUGH: usize = 12;
    let (service, began) = (bed.main_service(), Instant::now());
    let mut last = Duration::ZERO;
    let mut others = 0;
    while others < ENOUGH {
        let begins = began.elapsed();
        assert!(begins < Duration::from_secs(10), "{} {when}: new connections; {}", bed.mode, bed.state());
        let is_victim = bed.ask(&service, 1) == [VICTIM];
        last = if is_victim { begins } else { last };
        others = if is_victim { 0 } else { others + 1 };
    }
    println!("{}: {when}: the last new connection began {} ms after it was said", bed.mode, last.as_millis());
}

/// The victim gets new connections again, soon.
fn wait_victim_is_back(bed: &Bed) {
    let service = bed.main_service();
    let end = Instant::now() + Duration::from_secs(20);
    while !bed.ask(&service, BACKENDS.len()).contains(&VICTIM) {
        assert!(Instant::now() < end, "host {VICTIM} gets no new connections; {}", bed.state());
    }
}

/// A drained backend keeps what it has, and gets nothing new until it is enabled.
pub fn drain(bed: &Bed, talks: &mut [(Talk, u32)]) {
    bed.order("drain", VICTIM);
    bed.wait_state(VICTIM, "draining");
    assert_victim_is_left_out(bed, "drained");
    assert_they_go_on(bed, talks, "drained");
    bed.order("enable", VICTIM);
    bed.wait_state(VICTIM, "up");
    wait_victim_is_back(bed);
}

/// A backend that falls silent gets nothing new from the verdict on, until it is back.
pub fn death(bed: &Bed, talks: &mut [(Talk, u32)]) {
    bed.silence(VICTIM, true);
    let nox = matches!(bed.mode.balancer, Balancer::Nox(_));
    if nox {
        let forgotten = format!("host 02:00:00:00:00:{VICTIM:02x} of {} was silent", super::bed::VIP);
        wait("the verdict", 30, || bed.fabric.log().contains(&forgotten), || bed.state());
    } else {
        bed.wait_state(VICTIM, "down");
    }
    assert_victim_is_left_out(bed, "dead");
    if bed.mode.has(What::Kept) {
        assert_they_go_on(bed, talks, "dead");
    }
    bed.silence(VICTIM, false);
    if nox {
        bed.introduce(VICTIM);
    } else {
        bed.wait_state(VICTIM, "up");
    }
    wait_victim_is_back(bed);
}

/// What was made for connections goes with them, and `lb` leaves nothing behind.
pub fn nothing_is_left(mut bed: Bed, standing: usize) {
    if bed.mode.is_xdp() {
        bed.lb.assert_ledger();
        let run_dir = bed.lb.run_dir();
        bed.lb.detach();
        assert_eq!(bed.programs(), Vec::<String>::new(), "{}", bed.mode);
        assert!(!bed.lb.pin_dir.exists(), "{} is still there", bed.lb.pin_dir.display());
        for name in ["lb.sock", "changes.json"] {
            assert!(!run_dir.join(name).exists(), "{name} is still there");
        }
    }
    for what in [purpose::BALANCE, purpose::PINNED, purpose::LEARNED] {
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            let left = bed.fabric.entries_of("s1", what);
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "left: {left:#?}; {}", bed.state());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert_eq!(standing_entries(&mut bed), standing, "{}: entries of VIPs", bed.mode);
    let log = bed.fabric.log();
    assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{}: {log}", bed.mode);
}
