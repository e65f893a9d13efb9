//! Link discovery over wires in memory: what is found, how fast it goes, and what cannot be forged.

use std::collections::BTreeMap;
use std::time::Duration;

use ofshim::core::discover::{Discovery, Emission, Fate, Finding, Probe, ProbeKind, Secret, Settings};
use ofshim::core::topo::Place;
use openflow::{DatapathId, MacAddr, PortNo};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn place(dpid: u64, port: u32) -> Place {
    Place::new(DatapathId(dpid), PortNo(port))
}

/// Ports, the wires between them, and a bridge that floods what it may.
struct Lab {
    discovery: Discovery,
    wires: BTreeMap<Place, Place>,
    bridged: Vec<Place>,
    delay: Duration,
    now: Duration,
    findings: Vec<(Duration, Finding)>,
    last: BTreeMap<(Place, u16), Vec<u8>>,
    hosts: Vec<Place>,
}

impl Lab {
    fn new() -> Self {
        Self {
            discovery: Discovery::new(Settings { secret: Secret([3; 16]), ..Settings::default() }),
            wires: BTreeMap::new(),
            bridged: Vec::new(),
            delay: Duration::ZERO,
            now: MS(1000),
            findings: Vec::new(),
            last: BTreeMap::new(),
            hosts: Vec::new(),
        }
    }

    fn wire(&mut self, a: Place, b: Place) {
        self.wires.insert(a, b);
        self.wires.insert(b, a);
    }

    fn up(&mut self, place: Place) {
        self.discovery.port_up(place, MacAddr([2, 0, 0, 0, 0, 1]), self.now);
        self.settle();
    }

    fn hear(&mut self, frame: &[u8], at: Place) -> Fate {
        let hosts = self.hosts.clone();
        self.discovery.heard(
            frame,
            at,
            &|_| Duration::ZERO,
            &|place| hosts.contains(&place),
            self.now + self.delay,
        )
    }

    /// Delivers frames until none is on its way.
    fn settle(&mut self) {
        loop {
            let emissions = self.discovery.take_emissions();
            if emissions.is_empty() {
                break;
            }
            for Emission { out, frame } in emissions {
                let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
                self.last.insert((out, ethertype), frame.clone());
                if let Some(to) = self.wires.get(&out).copied() {
                    self.hear(&frame, to);
                }
                if self.bridged.contains(&out) && ethertype == 0x8942 {
                    let others: Vec<_> = self.bridged.iter().copied().filter(|to| *to != out).collect();
                    others.into_iter().for_each(|to| {
                        self.hear(&frame, to);
                    });
                }
            }
        }
        let now = self.now;
        self.findings.extend(self.discovery.take_findings().into_iter().map(|finding| (now, finding)));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS(100);
            self.discovery.step(self.now);
            self.settle();
        }
    }

    fn links(&self) -> Vec<(Place, Place)> {
        let mut links = Vec::new();
        for (_, finding) in &self.findings {
            match *finding {
                Finding::Up { from, to } if !links.contains(&(from, to)) => links.push((from, to)),
                Finding::Up { .. } => {}
                Finding::Silent { from, to } | Finding::Gone { from, to } => {
                    links.retain(|ends| *ends != (from, to));
                }
            }
        }
        links.sort();
        links
    }
}

#[test]
fn a_wire_is_found_at_once_in_both_directions() {
    let (a, b) = (place(1, 2), place(2, 1));
    let mut lab = Lab::new();
    lab.wire(a, b);
    lab.up(a);
    assert_eq!(lab.links(), [], "the other switch is not there yet");
    lab.pass(MS(3000));
    lab.up(b);
    assert_eq!(lab.links(), [(a, b), (b, a)], "no waiting for a period: the first frame is answered by one");
    assert!(lab.discovery.link(a, b).unwrap().is_direct());
    lab.pass(MS(60_000));
    assert_eq!(lab.findings.len(), 2, "{:?}", lab.findings);
}

#[test]
fn a_port_that_goes_down_takes_its_links_at_once_and_silence_within_three_periods() {
    let (a, b) = (place(1, 2), place(2, 1));
    let mut lab = Lab::new();
    lab.wire(a, b);
    lab.up(a);
    lab.up(b);
    lab.pass(MS(2050));
    lab.discovery.port_down(a);
    lab.settle();
    assert_eq!(lab.links(), []);
    lab.up(a);
    assert_eq!(lab.links(), [(a, b), (b, a)]);
    for phase in [0, 300, 700, 900] {
        lab.pass(MS(3000 + phase));
        let since = lab.now;
        lab.wires.clear();
        lab.pass(MS(3000));
        assert_eq!(lab.links(), [], "frames are eaten since {since:?}");
        let noticed = lab.findings.iter().rev().find(|(_, f)| matches!(f, Finding::Silent { .. })).unwrap().0;
        assert!(noticed - since <= MS(3000) && noticed - since >= MS(1700), "{:?}", noticed - since);
        assert!(!lab.discovery.is_settled(a, lab.now), "the wire may still carry what is flooded");
        lab.wire(a, b);
        lab.pass(MS(1100));
        assert_eq!(lab.links(), [(a, b), (b, a)], "and it comes back");
    }
}

#[test]
fn time_that_the_controller_itself_lost_ends_no_link() {
    let (a, b) = (place(1, 2), place(2, 1));
    let mut lab = Lab::new();
    lab.wire(a, b);
    lab.up(a);
    lab.up(b);
    lab.pass(MS(2000));
    for _ in 0..5 {
        lab.now += MS(10_000);
        lab.discovery.step(lab.now);
        lab.settle();
        lab.pass(MS(500));
    }
    assert_eq!(lab.findings.len(), 2, "{:?}", lab.findings);
}

#[test]
fn bridges_in_between_are_found_and_replace_a_direct_link() {
    let (a, b, c) = (place(1, 2), place(2, 1), place(3, 1));
    let mut lab = Lab::new();
    lab.bridged = vec![a, b];
    lab.up(a);
    lab.up(b);
    assert_eq!(lab.links(), [(a, b), (b, a)]);
    assert!(!lab.discovery.link(a, b).unwrap().is_direct());
    lab.pass(MS(30_000));
    assert_eq!(lab.findings.len(), 2, "{:?}", lab.findings);
    lab.bridged.push(c);
    lab.up(c);
    assert_eq!(lab.links().len(), 6, "three switches on one segment");
    lab.bridged.clear();
    lab.pass(MS(3000));
    assert_eq!(lab.links(), [], "silence ends these too");

    let mut lab = Lab::new();
    lab.wire(a, b);
    lab.up(a);
    lab.up(b);
    assert!(lab.discovery.link(a, b).unwrap().is_direct());
    // Somebody puts a bridge into the wire, and a third switch on the bridge.
    lab.wires.clear();
    lab.bridged = vec![a, b, c];
    lab.up(c);
    lab.pass(MS(6000));
    assert_eq!(lab.links().len(), 6, "{:?}", lab.findings);
    assert!(!lab.discovery.link(a, b).unwrap().is_direct());
}

#[test]
fn a_wire_that_is_put_elsewhere_moves_its_link() {
    let (a, b, c) = (place(1, 2), place(2, 1), place(3, 1));
    let mut lab = Lab::new();
    lab.wire(a, b);
    [a, b, c].into_iter().for_each(|port| lab.up(port));
    lab.pass(MS(1000));
    lab.wires.clear();
    lab.wire(a, c);
    lab.pass(MS(1100));
    assert_eq!(lab.links(), [(a, c), (c, a)], "{:?}", lab.findings);
}

#[test]
fn forged_and_replayed_frames_make_no_link() {
    let (a, b, c) = (place(1, 2), place(2, 1), place(3, 9));
    let mut lab = Lab::new();
    lab.wire(a, b);
    [a, b, c].into_iter().for_each(|port| lab.up(port));
    let before = lab.links();
    for kind in [ProbeKind::Lldp, ProbeKind::Bddp] {
        for nonce in [0, 1, 2, u64::MAX] {
            let forged = Probe { kind, from: a, nonce }.frame(MacAddr([2; 6]), Secret([4; 16]));
            assert_eq!(lab.hear(&forged, c), Fate::Forged);
        }
    }
    // What passed a wire a moment ago, heard by somebody on it, from another port; and again on the same one.
    let current = lab.last[&(a, 0x88cc)].clone();
    assert_eq!(lab.hear(&current, c), Fate::Replayed);
    assert_eq!(lab.hear(&current, b), Fate::Replayed);
    // What left an edge port, kept for a second, from another port.
    let kept = lab.last[&(c, 0x88cc)].clone();
    lab.now += MS(1000);
    assert_eq!(lab.hear(&kept, place(1, 7)), Fate::Replayed);
    let across = lab.last[&(c, 0x8942)].clone();
    assert_eq!(lab.hear(&across, place(1, 7)), Fate::Replayed);
    assert_eq!(lab.hear(&lab.last[&(c, 0x88cc)].clone(), c), Fate::Replayed, "back from where it was sent");
    // Two hosts that pass on at once what they hear.
    lab.hosts = vec![c, place(1, 7)];
    lab.up(place(1, 7));
    let fresh = lab.last[&(place(1, 7), 0x88cc)].clone();
    assert_eq!(lab.hear(&fresh, c), Fate::Relayed);
    lab.settle();
    assert_eq!(lab.links(), before);
    let counters = lab.discovery.counters();
    assert_eq!((counters.forged, counters.replayed, counters.relayed), (8, 5, 1));
}

#[test]
fn the_period_grows_with_the_ports_and_the_load_does_not() {
    let mut lab = Lab::new();
    for number in 0..10_000 {
        lab.up(place(1 + number / 100, number as u32 % 100));
    }
    assert_eq!(lab.discovery.period(), Duration::from_secs(20));
    lab.pass(Duration::from_secs(60));
    let before = lab.discovery.counters().sent;
    lab.pass(Duration::from_secs(60));
    let sent = lab.discovery.counters().sent - before;
    assert!((30_000..42_000).contains(&sent), "{sent} in a minute: 500 a second, and a fifth for bridges");
}

#[test]
fn the_latency_of_a_link_is_measured() {
    let (a, b) = (place(1, 2), place(2, 1));
    let mut lab = Lab::new();
    lab.wire(a, b);
    lab.delay = MS(7);
    lab.up(a);
    lab.up(b);
    lab.pass(MS(20_000));
    let latency = lab.discovery.link(a, b).unwrap().latency;
    assert!(latency > MS(6) && latency <= MS(7), "{latency:?}");
}
