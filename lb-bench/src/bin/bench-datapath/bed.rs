//! Making the rows' packets, checking what becomes of them, and measuring.

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use lb_core::host::config::{Mode, Protocol};
use lb_core::packet::HostPacket;
use lb_core::table::{ConnKey, ConnValue, TestInputs};
use lb_core::{Egress, Outcome, Reason, process_all};
use lb_user::dataplane::read_model;
use lb_user::io::clock;
use testbed::frame::v4;
use testbed::pod::Raw;
use testbed::side::hex;

use crate::frames::{self, Host, Rotates, at_flow, client, next_frame, template};
use crate::harness::{Harness, Ran, Target};
use crate::layout::Template;
use crate::rows::{Row, What};
use crate::scene::{BACKEND_SLOT, CLIENT_SLOT, Scene, ifindex};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
/// The network of the clients in the floors' tables.
const FLOOR_NETWORK: u8 = 0;
/// Flows of the rows that open new ones: enough for many minutes, and none comes twice.
const NEW_FLOWS: u32 = 1 << 26;
/// New flows of one measurement: half of what the table of half-open connections holds.
const NEW_RUNS: u32 = 8192;
/// Runs of any other measurement: four times all flows.
const RUNS: u32 = 1 << 18;
/// Measurements of a row in a round: short ones, of which some fall into quiet moments.
const SLICES: usize = 4;
/// Runs before those that count.
const WARM_RUNS: u32 = 256;
/// Packets that the cap lets through while a measurement runs: one in each window of 0.27 s.
const WITHIN_CAP: u64 = 16;

/// What goes before each measurement of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// The half-open connections are forgotten.
    Forget,
    /// New connections are capped, at one in a window.
    Cap,
}

/// A row that is ready to be measured.
pub struct Ready {
    /// The row.
    pub row: &'static Row,
    template: Template,
    target: Target,
    ifindex: u32,
    before: Before,
    /// How its packets end; of the balancer's only.
    reason: Option<Reason>,
    /// Whether each of them leaves longer than it came.
    pub grows: bool,
}

/// The balancer and the programs that measure it.
pub struct Bed {
    scene: Scene,
    harness: Harness,
}

impl Bed {
    /// With the floors' tables filled.
    pub fn new(scene: Scene, mut harness: Harness) -> Result<Self> {
        harness.fill_floors(FLOOR_NETWORK, 80, 1 << 16)?;
        Ok(Self { scene, harness })
    }

    /// Opens the connections of a row; `network` is its clients'.
    pub fn prepare(&mut self, row: &'static Row, network: u8) -> Result<Ready> {
        let mut ready = Ready {
            row,
            template: template(&self.stranger(), Rotates::Source, 1)?,
            target: Target::Balancer,
            ifindex: ifindex(CLIENT_SLOT),
            before: Before::Nothing,
            reason: None,
            grows: false,
        };
        let first = client(network, false, 0);
        match row.what {
            What::Floor(target) => {
                let to = (frames::CLIENT_MAC, v4(10, 0, 2, 1), 80);
                let frame = frames::data(client(FLOOR_NETWORK, false, 0), to);
                ready.target = target;
                let flows = if target == Target::New { NEW_FLOWS } else { row.flows };
                ready.template = template(&frame, Rotates::Source, flows)?;
            }
            What::ToBackend(vip) => self.to_backend(&mut ready, vip, network)?,
            What::ToClient(vip) => self.to_client(&mut ready, vip, network)?,
            What::New(vip) | What::NewFull(vip) | What::BeyondCap(vip) => {
                let frame = frames::syn(first, self.scene.service(vip)?);
                ready.template = template(&frame, Rotates::Source, NEW_FLOWS)?;
                ready.reason = Some(Reason::ToBackendRedirect);
                ready.before = match row.what {
                    What::New(_) => Before::Forget,
                    What::NewFull(_) => Before::Nothing,
                    _ => Before::Cap,
                };
                if ready.before == Before::Cap && self.scene.vip(vip)?.mode == Mode::Nat {
                    ready.reason = Some(Reason::NewFlowCap);
                }
            }
            What::NotOurs => ready.reason = Some(Reason::NotOurs),
            What::ArpOther => ready.fixed(&frames::arp(first, v4(10, 0, 2, 1)), Reason::ArpOther)?,
            What::ArpRequest(vip) => {
                let asked = self.scene.service(vip)?.1;
                ready.fixed(&frames::arp(first, asked), Reason::ArpAnswered)?;
            }
            What::Malformed(vip) => {
                ready.fixed(&frames::malformed(first, self.scene.service(vip)?), Reason::VipMalformed)?;
            }
        }
        Ok(ready)
    }

    /// A packet that is none of the balancer's business.
    fn stranger(&self) -> Vec<u8> {
        let to = ([2, 0, 0, 0, 0xd, 1], v4(10, 0, 2, 1), 80);
        frames::data(client(FLOOR_NETWORK, false, 0), to)
    }

    fn to_backend(&self, ready: &mut Ready, vip: &str, network: u8) -> Result<()> {
        let plan = self.scene.vip(vip)?;
        let (is_v6, is_udp) = (plan.key.address.is_ipv6(), plan.key.protocol == Protocol::Udp);
        ready.grows = plan.mode == Mode::IpIp;
        for flow in 0..ready.row.flows {
            self.open(vip, client(network, is_v6, flow))?;
        }
        let (from, to) = (client(network, is_v6, 0), self.scene.service(vip)?);
        let frame = if is_udp { frames::udp(from, to) } else { frames::data(from, to) };
        ready.template = template(&frame, Rotates::Source, ready.row.flows)?;
        ready.reason = Some(Reason::ToBackendRedirect);
        Ok(())
    }

    fn to_client(&self, ready: &mut Ready, vip: &str, network: u8) -> Result<()> {
        let plan = self.scene.vip(vip)?;
        let (is_v6, is_fullnat) = (plan.key.address.is_ipv6(), plan.mode == Mode::FullNat);
        let mut ends = Vec::new();
        for flow in 0..ready.row.flows {
            ends.push(self.open(vip, client(network, is_v6, flow))?);
        }
        let Some(&(backend, to)) = ends.first() else { bail!("{} has no flow", ready.row.name) };
        ensure!(ends.iter().all(|(other, _)| *other == backend), "{vip} has several backends");
        let rotates = if is_fullnat { Rotates::Nothing } else { Rotates::Destination };
        ready.template = template(&frames::data(backend, to), rotates, ready.row.flows)?;
        ready.ifindex = ifindex(BACKEND_SLOT);
        ready.reason = Some(Reason::ToClientRedirect);
        Ok(())
    }

    /// Opens a connection as its two sides do; the backend, and whom it answers.
    fn open(&self, vip: &str, from: Host) -> Result<(Host, Host)> {
        let plan = self.scene.vip(vip)?;
        let to = self.scene.service(vip)?;
        let forward = |frame: &[u8], slot: usize| {
            let ran = self.harness.balance(frame, ifindex(slot))?;
            ensure!(ran.action == XDP_REDIRECT, "a packet of {vip} was not redirected: {}", hex(frame));
            Ok(ran.bytes)
        };
        if plan.key.protocol == Protocol::Udp {
            forward(&frames::udp(from, to), CLIENT_SLOT)?;
            let seen = forward(&frames::udp(from, to), CLIENT_SLOT)?;
            return Ok((frames::end(&seen, true), frames::end(&seen, false)));
        }
        let seen = forward(&frames::syn(from, to), CLIENT_SLOT)?;
        let (backend, asker) = (frames::end(&seen, true), frames::end(&seen, false));
        if matches!(plan.mode, Mode::Nat | Mode::FullNat) {
            forward(&frames::syn_ack(backend, asker), BACKEND_SLOT)?;
        }
        forward(&frames::data(from, to), CLIENT_SLOT)?;
        Ok((backend, asker))
    }

    /// Lets the wrapper send a row's first packet, and compares with the core on the host, which has the same tables.
    pub fn check(&mut self, ready: &Ready) -> Result<()> {
        let frame = next_frame(&ready.template);
        let Some(reason) = ready.reason else { return self.check_floor(ready) };
        self.set(ready)?;
        let network = frames::end(&frame, ready.ifindex == ifindex(BACKEND_SLOT)).1;
        let is_lent = matches!(ready.row.what, What::ToClient(_)) && ready.row.flows == 1;
        let address = testbed::tables::address(network);
        let model = read_model(&self.scene.pins, |key| is_lent || key.client == address)?;
        let now = clock::ticks();
        model.inputs.set(TestInputs { now, random: 0 });
        if ready.before == Before::Cap {
            // The one that this window has room for.
            let other = next_frame(&at_flow(ready.template, NEW_FLOWS - 1));
            self.harness.balance(&other, ready.ifindex)?;
            process_all(&mut HostPacket::new(&mut other.clone(), ready.ifindex), &model);
        }
        let mut bytes = frame.clone();
        let end = {
            let mut packet = HostPacket::new(&mut bytes, ready.ifindex);
            process_all(&mut packet, &model)
        };
        let action = match end.0 {
            Outcome::Pass | Outcome::Forward(Egress::Switch) => XDP_PASS,
            Outcome::Drop | Outcome::Next(_) => XDP_DROP,
            Outcome::Forward(Egress::Transmit) => XDP_TX,
            Outcome::Forward(Egress::Redirect(_)) => XDP_REDIRECT,
        };
        ensure!(end.1 == reason, "{}: the core says {}, not {}", ready.row.name, end.1.name(), reason.name());
        let before = self.count(reason)?;
        let ran = self.harness.run(ready.ifindex, 1)?;
        ensure!(
            ran == Ran { action, bytes: bytes.clone() } && self.count(reason)? == before + 1,
            "{}: the program differs from the core\nframe   {}\nprogram {} {}\ncore    {action} {}",
            ready.row.name,
            hex(&frame),
            ran.action,
            hex(&ran.bytes),
            hex(&bytes)
        );
        self.unset(ready)
    }

    /// The wrapper sends the frames that the host would, and the floor finds every flow.
    fn check_floor(&mut self, ready: &Ready) -> Result<()> {
        self.set(ready)?;
        let mut flow = 0;
        for _ in 0..8 {
            let ran = self.harness.run(ready.ifindex, 1)?;
            let frame = next_frame(&at_flow(ready.template, flow));
            ensure!(ran == Ran { action: XDP_PASS, bytes: frame }, "{}: {ran:?}", ready.row.name);
            flow = ready.template.after(flow);
        }
        Ok(())
    }

    /// Nanoseconds of a packet of this row, wrapper included, and of the wrapper alone right before.
    pub fn measure(&mut self, ready: &mut Ready) -> Result<(Vec<f64>, f64)> {
        let wrapper = self.wrapper(ready.grows)?;
        let samples = (0..SLICES).map(|_| self.slice(ready)).collect::<Result<_>>()?;
        Ok((samples, wrapper))
    }

    /// Nanoseconds of the kernel's loop around a program that does nothing.
    pub fn measure_loop(&mut self) -> Result<f64> {
        self.harness.time_loop(ifindex(CLIENT_SLOT), RUNS)
    }

    fn slice(&mut self, ready: &mut Ready) -> Result<f64> {
        let runs = if ready.before == Before::Forget { NEW_RUNS } else { RUNS };
        self.set(ready)?;
        self.harness.run(ready.ifindex, ready.row.flows.max(WARM_RUNS))?;
        let before = ready.reason.map(|reason| self.count(reason)).transpose()?;
        let time = self.harness.time(ready.ifindex, runs)?;
        if let (Some(reason), Some(before)) = (ready.reason, before) {
            let others = u64::from(runs) - (self.count(reason)? - before);
            let few = if ready.before == Before::Cap { WITHIN_CAP } else { 0 };
            let name = ready.row.name;
            ensure!(others <= few, "{name}: {others} of {runs} packets did not end as {}", reason.name());
        }
        ready.template = at_flow(ready.template, self.harness.flow()?);
        self.unset(ready)?;
        Ok(time)
    }

    /// Nanoseconds that the wrapper and the kernel's loop take by themselves; where the frame `grows`, with taking that
    /// back.
    fn wrapper(&mut self, grows: bool) -> Result<f64> {
        let template = template(&self.stranger(), Rotates::Source, 1)?;
        self.harness.lay(&template)?;
        let mut time = |target| {
            self.harness.aim(target)?;
            self.harness.run(ifindex(CLIENT_SLOT), WARM_RUNS)?;
            self.harness.time(ifindex(CLIENT_SLOT), RUNS)
        };
        let empty = time(Target::Empty)?;
        if !grows {
            return Ok(empty);
        }
        // The program that grows calls the same helper as the wrapper that takes it back.
        Ok(f64::midpoint(empty, time(Target::Grow)?))
    }

    fn set(&mut self, ready: &Ready) -> Result<()> {
        self.harness.aim(ready.target)?;
        self.harness.lay(&ready.template)?;
        match ready.before {
            Before::Nothing => Ok(()),
            Before::Forget => self.forget_half_open(),
            Before::Cap => self.scene.cap(Some(1)),
        }
    }

    fn unset(&mut self, ready: &Ready) -> Result<()> {
        if ready.before == Before::Cap { self.scene.cap(None) } else { Ok(()) }
    }

    fn count(&self, reason: Reason) -> Result<u64> {
        Ok(self.scene.dataplane.counters()?.reasons.get(&reason).copied().unwrap_or(0))
    }

    fn forget_half_open(&self) -> Result<()> {
        let map = Map::LruHashMap(MapData::from_pin(self.scene.pins.map("HALF_OPEN"))?);
        let mut map: HashMap<_, Raw<ConnKey>, Raw<ConnValue>> = HashMap::try_from(map)?;
        let keys: Vec<_> = map.keys().collect::<Result<_, _>>().context("map HALF_OPEN")?;
        for key in keys {
            map.remove(&key).context("map HALF_OPEN")?;
        }
        Ok(())
    }
}

impl Ready {
    /// Always the same frame.
    fn fixed(&mut self, frame: &[u8], reason: Reason) -> Result<()> {
        self.template = template(frame, Rotates::Nothing, 1)?;
        self.reason = Some(reason);
        Ok(())
    }
}
