//! A row of the packet table: a scenario, frames in, and exactly what comes of each.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use testbed::bench::Bench;
use testbed::counters::delta;
use testbed::program::Program;
use testbed::scenario::Scenario;
use testbed::side::{Action, hex};

/// The clock at the beginning of each row.
pub const START: u32 = 1_000_000;

/// What comes of one frame: the verdict, its bytes afterwards, and every counter that moves.
#[derive(Clone)]
pub struct Expect {
    action: Action,
    reason: &'static str,
    /// `None`: untouched.
    bytes: Option<Vec<u8>>,
    moved: BTreeMap<String, i128>,
}

impl Expect {
    fn new(action: Action, reason: &'static str, bytes: Option<Vec<u8>>) -> Self {
        let moved = BTreeMap::from([("received".to_owned(), 1), (format!("reason:{reason}"), 1)]);
        Self { action, reason, bytes, moved }
    }

    /// Handed to the switch, changed; what counts beside the reason is added.
    pub fn to_switch(reason: &'static str, bytes: Vec<u8>) -> Self {
        Self::new(Action::Pass, reason, Some(bytes))
    }

    /// This counter moves as well.
    pub fn also(mut self, counter: &str, by: i128) -> Self {
        self.moved.insert(counter.to_owned(), by);
        self
    }

    /// A backend shows at this time that it is alive.
    pub fn alive(self, vip: u16, backend: u16, at: u32) -> Self {
        self.also(&format!("vip:{vip}:last_alive"), at.into())
            .also(&format!("backend:{backend}:last_alive"), at.into())
    }

    /// The frame opens a connection.
    pub fn opening(self, vip: u16, backend: u16) -> Self {
        self.also(&format!("vip:{vip}:opened"), 1).also(&format!("backend:{backend}:opened"), 1)
    }

    fn traffic(self, vip: u16, backend: u16, way: &str) -> Self {
        let length = self.bytes.as_deref().map_or(0, without_padding);
        self.counted(vip, backend, way, length)
    }

    fn counted(mut self, vip: u16, backend: u16, way: &str, length: usize) -> Self {
        let length = length as i128;
        for owner in [format!("vip:{vip}"), format!("backend:{backend}")] {
            self.moved.insert(format!("{owner}:packets_{way}"), 1);
            self.moved.insert(format!("{owner}:bytes_{way}"), length);
        }
        self
    }
}

/// Bytes of a frame up to the end of its IP packet: what the counters count.
fn without_padding(frame: &[u8]) -> usize {
    let tags =
        frame[12..].chunks(4).take_while(|tag| matches!(tag[..2], [0x81, 0x00] | [0x88, 0xa8])).count();
    let ip = 14 + 4 * tags;
    let (at, header) = if frame[ip - 2..ip] == [0x86, 0xdd] { (ip + 4, 40) } else { (ip + 2, 0) };
    ip + header + usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]))
}

/// It goes on untouched.
pub fn passed(reason: &'static str) -> Expect {
    Expect::new(Action::Pass, reason, None)
}

/// It ends, and the VIP counts it.
pub fn dropped(reason: &'static str, vip: u16) -> Expect {
    Expect::new(Action::Drop, reason, None).also(&format!("vip:{vip}:dropped"), 1)
}

/// An ARP request becomes this answer.
pub fn answered(bytes: Vec<u8>) -> Expect {
    told("arp_answered", bytes)
}

/// The balancer's own answer, which counts at no VIP.
pub fn told(reason: &'static str, bytes: Vec<u8>) -> Expect {
    Expect::new(Action::Transmit, reason, Some(bytes))
}

/// It goes on to the switch, changed, and counts at no VIP.
pub fn corrected(reason: &'static str, bytes: Vec<u8>) -> Expect {
    Expect::to_switch(reason, bytes)
}

/// On its way to a backend by another reason than a packet's; `length` bytes count.
pub fn rare_in(
    action: Action,
    reason: &'static str,
    vip: u16,
    backend: u16,
    bytes: Vec<u8>,
    length: usize,
) -> Expect {
    Expect::new(action, reason, Some(bytes)).counted(vip, backend, "in", length)
}

/// On its way to the client by another reason than a reply's.
pub fn rare_out(action: Action, reason: &'static str, vip: u16, backend: u16, bytes: Vec<u8>) -> Expect {
    let length = without_padding(&bytes);
    Expect::new(action, reason, Some(bytes)).counted(vip, backend, "out", length)
}

/// Into a tunnel to a backend: what counts is the packet inside.
pub fn tunnelled(action: Action, vip: u16, backend: u16, inner: &[u8], bytes: Vec<u8>) -> Expect {
    let expect = forwarded(action, vip, backend, inner.to_vec());
    Expect { bytes: Some(bytes), ..expect }
}

/// On its way to a backend, and how.
pub fn forwarded(action: Action, vip: u16, backend: u16, bytes: Vec<u8>) -> Expect {
    let reason = match action {
        Action::Redirect(_) => "to_backend_redirect",
        Action::Transmit => "to_backend_transmit",
        Action::Pass | Action::Drop => "to_backend_switch",
    };
    Expect::new(action, reason, Some(bytes)).traffic(vip, backend, "in")
}

/// On its way back to the client, and how.
pub fn replied(action: Action, vip: u16, backend: u16, bytes: Vec<u8>) -> Expect {
    let reason = match action {
        Action::Redirect(_) => "to_client_redirect",
        Action::Transmit => "to_client_transmit",
        Action::Pass | Action::Drop => "to_client_switch",
    };
    Expect::new(action, reason, Some(bytes)).traffic(vip, backend, "out")
}

type Change = Box<dyn Fn(&mut Scenario) + Send + Sync>;

enum Step {
    Frame { ifindex: u32, frame: Vec<u8>, expect: Expect },
    Advance(u32),
    Random(u32),
    Change(Change),
    Connections(Vec<(&'static str, u16)>),
    HalfOpen(usize),
    Loads(Vec<(u16, i64)>),
}

/// A row.
pub struct Row {
    pub name: String,
    scenario: Scenario,
    steps: Vec<Step>,
    program: bool,
}

/// Begins a row.
pub fn row(name: impl Into<String>, scenario: Scenario) -> Row {
    Row { name: name.into(), scenario, steps: Vec::new(), program: true }
}

impl Row {
    /// A frame comes in.
    pub fn send(mut self, ifindex: u32, frame: &[u8], expect: Expect) -> Self {
        self.steps.push(Step::Frame { ifindex, frame: frame.to_vec(), expect });
        self
    }

    /// Time passes.
    pub fn advance(mut self, ticks: u32) -> Self {
        self.steps.push(Step::Advance(ticks));
        self
    }

    /// The next random number.
    pub fn random(mut self, random: u32) -> Self {
        self.steps.push(Step::Random(random));
        self
    }

    /// The tables change.
    pub fn change(mut self, change: impl Fn(&mut Scenario) + Send + Sync + 'static) -> Self {
        self.steps.push(Step::Change(Box::new(change)));
        self
    }

    /// The connections are these now: state and backend, in the order of their keys.
    pub fn connections(mut self, expected: &[(&'static str, u16)]) -> Self {
        self.steps.push(Step::Connections(expected.to_vec()));
        self
    }

    /// So many of the connections are half-open now.
    pub fn half_open(mut self, expected: usize) -> Self {
        self.steps.push(Step::HalfOpen(expected));
        self
    }

    /// The backends have so many connections now; those without any are left out.
    pub fn loads(mut self, expected: &[(u16, i64)]) -> Self {
        self.steps.push(Step::Loads(expected.to_vec()));
        self
    }

    /// What this row shows, the kernel's test run or its maps cannot do.
    pub fn without_program(mut self) -> Self {
        self.program = false;
        self
    }

    /// Runs the row, on this program where it can; the first thing that is not as expected.
    pub fn run(&self, program: &mut Option<Program>) -> Result<()> {
        let mut bench = Bench::new(&self.scenario, if self.program { program.take() } else { None })?;
        let steps = self.steps.iter().enumerate();
        let result = steps.map(|(number, step)| {
            run_step(&mut bench, step)
                .with_context(|| format!("row {:?}, step {number} of {}", self.name, self.steps.len()))
        });
        let result = result.collect();
        if self.program {
            *program = bench.into_program();
        }
        result
    }
}

fn run_step(bench: &mut Bench, step: &Step) -> Result<()> {
    match step {
        Step::Advance(ticks) => bench.advance(*ticks),
        Step::Random(random) => bench.inputs(bench.now(), *random),
        Step::Change(change) => bench.change(change),
        Step::Connections(expected) => {
            let found = bench.snapshot()?.connections;
            let short: Vec<_> = found.iter().map(|c| (c.state, c.backend)).collect();
            ensure!(short == *expected, "expected connections {expected:?}, found {found:#?}");
            Ok(())
        }
        Step::HalfOpen(expected) => {
            let connections = bench.snapshot()?.connections;
            let found = connections.iter().filter(|c| c.half_open).count();
            ensure!(found == *expected, "expected {expected} half-open connections of {connections:#?}");
            Ok(())
        }
        Step::Loads(expected) => {
            let found: Vec<_> = bench.snapshot()?.loads.into_iter().collect();
            ensure!(found == *expected, "expected loads {expected:?}, found {found:?}");
            Ok(())
        }
        Step::Frame { ifindex, frame, expect } => {
            let before = bench.snapshot()?;
            let verdict = bench.run(frame, *ifindex)?;
            let after = bench.snapshot()?;
            ensure!(
                (verdict.action, verdict.reason) == (expect.action, expect.reason),
                "expected {:?} {}, all sides say {verdict:?}\nconnections before: {:#?}",
                expect.action,
                expect.reason,
                before.connections
            );
            let bytes = expect.bytes.as_ref().unwrap_or(frame);
            ensure!(verdict.bytes == *bytes, "expected {}\nfound    {}", hex(bytes), hex(&verdict.bytes));
            let moved = delta(&before.counters, &after.counters);
            ensure!(
                moved == expect.moved,
                "expected {:?} to move, found {moved:?}\nall: {:?}",
                expect.moved,
                after.counters
            );
            Ok(())
        }
    }
}
