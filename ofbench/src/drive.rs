//! All switches in one thread: handshake, announcements, and the rounds that are measured.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cpu;
use crate::switch::{Counts, Shape, Switch};

/// How long the handshakes may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long announcements and the last packets may stay unanswered.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The controller.
    pub connect: SocketAddr,
    /// How many switches.
    pub switches: u16,
    /// What they are like.
    pub shape: Shape,
    /// From the handshakes to the announcements: a controller looks for links first.
    pub settle: Duration,
    /// How long packets flow before the measurement.
    pub warm_up: Duration,
    /// How long is measured.
    pub measure: Duration,
    /// The controller's process.
    pub pid: Option<u32>,
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub struct Outcome {
    /// Packet-ins answered, each counted once.
    pub replies: u64,
    /// Flow-mods that came besides.
    pub flow_mods: u64,
    /// Answers to nothing, or second ones.
    pub strays: u64,
    /// Packets without an answer at the end.
    pub unanswered: u64,
    /// Seconds measured.
    pub seconds: f64,
    /// `replies / seconds`.
    pub replies_per_s: f64,
    /// Processor time of the controller, user and system.
    pub controller_cpu_s: Option<f64>,
    /// `replies / controller_cpu_s`: what one core of the controller answers in a second.
    pub replies_per_cpu_s: Option<f64>,
    /// Processor time of the generator.
    pub generator_cpu_s: f64,
    /// From a packet to its answer, where only one waits at each switch.
    pub latency: Option<Latency>,
}

/// Times in nanoseconds.
#[derive(Debug, serde::Serialize)]
pub struct Latency {
    /// The shortest.
    pub min_ns: u32,
    /// Half are shorter.
    pub p50_ns: u32,
    /// 99 of 100 are shorter.
    pub p99_ns: u32,
    /// The longest.
    pub max_ns: u32,
}

/// Runs the plan.
///
/// # Errors
/// No controller there, a connection broke, or packets went unanswered from the start.
pub fn run(plan: &Plan) -> Result<Outcome> {
    let mut fleet = Fleet::connect(plan)?;
    fleet.handshake()?;
    fleet.turn_for(plan.settle, |_| {})?;
    fleet.announce(plan.shape.hosts)?;
    fleet.turn_for(plan.warm_up, Switch::fill)?;
    let (start, cpu, own) = (Instant::now(), cpu_of(plan.pid)?, cpu::of_self()?);
    let before = fleet.counts();
    fleet.switches.iter_mut().for_each(|switch| switch.latencies_ns.clear());
    fleet.turn_for(plan.measure, Switch::fill)?;
    let after = fleet.counts();
    let seconds = start.elapsed().as_secs_f64();
    let controller_cpu_s = cpu_of(plan.pid)?.zip(cpu).map(|(after, before)| after - before);
    let generator_cpu_s = cpu::of_self()? - own;
    let latency = fleet.latency();
    let unanswered = fleet.drain()?;
    let replies = after.replies - before.replies;
    Ok(Outcome {
        replies,
        flow_mods: after.flow_mods - before.flow_mods,
        strays: fleet.counts().strays,
        unanswered,
        seconds,
        replies_per_s: replies as f64 / seconds,
        controller_cpu_s,
        replies_per_cpu_s: controller_cpu_s.filter(|time| *time > 0.0).map(|time| replies as f64 / time),
        generator_cpu_s,
        latency,
    })
}

fn cpu_of(pid: Option<u32>) -> Result<Option<f64>> {
    pid.map(cpu::of_process).transpose()
}

struct Fleet {
    switches: Vec<Switch>,
}

impl Fleet {
    fn connect(plan: &Plan) -> Result<Self> {
        let connect = |number| {
            let stream = TcpStream::connect(plan.connect)
                .with_context(|| format!("no controller listens on {}", plan.connect))?;
            Switch::new(stream, number, plan.shape)
        };
        Ok(Self { switches: (0..plan.switches).map(connect).collect::<Result<_>>()? })
    }

    fn counts(&self) -> Counts {
        self.switches.iter().fold(Counts::default(), |sum, switch| Counts {
            replies: sum.replies + switch.counts.replies,
            flow_mods: sum.flow_mods + switch.counts.flow_mods,
            strays: sum.strays + switch.counts.strays,
        })
    }

    /// Waits for something to read or room to write, 10 ms at most, and does it.
    fn turn(&mut self) -> Result<()> {
        let mut waits: Vec<libc::pollfd> = self
            .switches
            .iter()
            .map(|switch| libc::pollfd {
                fd: switch.stream().as_raw_fd(),
                events: libc::POLLIN | if switch.is_unsent() { libc::POLLOUT } else { 0 },
                revents: 0,
            })
            .collect();
        let count = libc::nfds_t::try_from(waits.len()).unwrap_or_default();
        // SAFETY: the pointer and the count are those of one vector, which lives until the call returns.
        let ready = unsafe { libc::poll(waits.as_mut_ptr(), count, 10) };
        if ready < 0 {
            let error = std::io::Error::last_os_error();
            ensure!(error.kind() == std::io::ErrorKind::Interrupted, "cannot wait: {error}");
            return Ok(());
        }
        for (switch, wait) in self.switches.iter_mut().zip(&waits) {
            if wait.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0 {
                switch.read()?;
            }
        }
        Ok(())
    }

    /// Goes round for a while; `make` makes packets before each turn.
    fn turn_for(&mut self, time: Duration, make: impl Fn(&mut Switch)) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for switch in &mut self.switches {
                make(switch);
                switch.write()?;
            }
            self.turn()?;
        }
        Ok(())
    }

    fn handshake(&mut self) -> Result<()> {
        let end = Instant::now() + HANDSHAKE_LIMIT;
        while !self.switches.iter().all(|switch| switch.known) {
            ensure!(Instant::now() < end, "the controller did not ask all switches who they are");
            self.turn_for(Duration::from_millis(1), |_| {})?;
        }
        Ok(())
    }

    /// Each host announces itself once.
    fn announce(&mut self, hosts: u32) -> Result<()> {
        let mut next = vec![0; self.switches.len()];
        let end = Instant::now() + ANSWER_LIMIT;
        while next.iter().any(|number| *number < hosts)
            || self.switches.iter().any(|switch| switch.open() > 0)
        {
            if Instant::now() > end {
                let (of, open) = (u64::from(hosts) * next.len() as u64, self.counts().replies);
                bail!(
                    "the controller answered {open} of {of} announcements of hosts; is a longer --settle needed?"
                );
            }
            for (switch, next) in self.switches.iter_mut().zip(&mut next) {
                *next = switch.announce(*next);
                switch.write()?;
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Waits for the answers that are still missing; how many never came.
    fn drain(&mut self) -> Result<u64> {
        let end = Instant::now() + ANSWER_LIMIT;
        while self.switches.iter().any(|switch| switch.open() > 0) && Instant::now() < end {
            self.turn_for(Duration::from_millis(5), |_| {})?;
        }
        Ok(self.switches.iter_mut().map(Switch::give_up).sum())
    }

    fn latency(&self) -> Option<Latency> {
        let mut all: Vec<u32> =
            self.switches.iter().flat_map(|switch| switch.latencies_ns.iter().copied()).collect();
        all.sort_unstable();
        let at = |share: usize| all.get(all.len().saturating_sub(1) * share / 100).copied();
        Some(Latency { min_ns: at(0)?, p50_ns: at(50)?, p99_ns: at(99)?, max_ns: at(100)? })
    }
}
