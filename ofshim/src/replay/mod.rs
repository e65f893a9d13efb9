//! Packets through the reactive balancer without a network: the controller's core on one side, a switch in memory that
//! obeys it on the other, and hosts that answer its probes. What comes out was written by flow entries and packet-outs.
//!
//! ```text
//!   frame --> Switch (entries) --packet-in--> core::Controller (balance, reactive)
//!               |      ^                          |
//!     bytes <---'      '---flow-mod, packet-out---'
//! ```
//!
//! Nothing waits: time is what the caller says. It is what `lb compare equivalence` and the test of the same name hold
//! against the XDP program.

pub mod lines;
pub mod packet;
mod station;
pub mod switch;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::host::config::{Config, Selection};
use lb_core::host::health::State;
use lb_core::host::overlay::Order;
use lb_core::host::replay::{Change, Inputs, Sources, Station, plan_text};
use lb_core::table::ticks_from_ns;
use openflow::{PortNo, Version};

use crate::core::balance::{self, BackendOrder, Balancer, EntriesKind, check};
use crate::core::{Command, ConnId, Controller, Event, Level, Settings, TICK};

use self::packet::Fields;
use self::switch::Switch;

/// The connection of the only switch.
const CONN: ConnId = ConnId(1);
/// Backends that do not follow an order within this time will not.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most ports of the switch.
const MAX_PORTS: u32 = 4096;
/// Of the random numbers: always the same.
const SEED: u64 = 7;
/// Ethertypes of link discovery, which is not traffic.
const DISCOVERY: [u16; 2] = [0x88cc, 0x8942];
const ARP: u16 = 0x0806;

/// The controller, its switch, and the hosts.
#[derive(Debug)]
pub struct Replay {
    controller: Controller,
    switch: Switch,
    stations: BTreeMap<PortNo, Vec<Station>>,
    /// Addresses that do not answer.
    silent: BTreeSet<IpAddr>,
    now: Duration,
    log: Vec<(Level, String)>,
    closed: bool,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What came out, and by which ports.
    pub out: Vec<(PortNo, Vec<u8>)>,
    /// Whether the controller was asked.
    pub asked: bool,
    /// What the decision depended on beside the tables.
    pub inputs: Inputs,
}

impl Replay {
    /// A network of one switch with these hosts; `config`'s backends have been probed, and those that answer are up.
    ///
    /// # Errors
    /// One line: flow entries cannot do what `config` asks for, or there are too many ports.
    pub fn new(config: &Config, stations: Vec<Station>) -> Result<Self, String> {
        check::config(config, &[Version::V1_3])?;
        let ports = stations.iter().map(|station| station.port).max().unwrap_or(1);
        if ports > MAX_PORTS || stations.iter().any(|station| station.port == 0) {
            return Err(format!("ports of hosts are numbers from 1 to {MAX_PORTS}"));
        }
        let balancing =
            balance::Settings { config: config.clone(), entries: EntriesKind::Reactive, seed: SEED };
        // No links are looked for: there is one switch.
        // This switch keeps the order of fragments, so that none waits for another, as in XDP.
        let part_patience = Duration::ZERO;
        let settings =
            Settings { balancing: Some(balancing), discovery: None, part_patience, ..Settings::default() };
        let mut by_port: BTreeMap<PortNo, Vec<Station>> = BTreeMap::new();
        for station in stations {
            by_port.entry(PortNo(station.port)).or_default().push(station);
        }
        let mut replay = Self {
            controller: Controller::new(settings),
            switch: Switch::new(ports),
            stations: by_port,
            silent: BTreeSet::new(),
            now: Duration::from_secs(1),
            log: Vec::new(),
            closed: false,
        };
        replay.switch.connect();
        replay.handle(Event::Connected { conn: CONN, peer: "memory".to_owned() });
        replay.settle(&config.backend_addresses(), true)?;
        Ok(replay)
    }

    /// What time it is.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// What the controller logged, in order.
    #[must_use]
    pub fn log(&self) -> &[(Level, String)] {
        &self.log
    }

    /// The switch.
    #[must_use]
    pub const fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The balancer.
    ///
    /// # Errors
    /// The controller does not balance.
    pub fn balancer(&self) -> Result<&Balancer, String> {
        self.controller.network().balancer().ok_or_else(|| "the controller does not balance".to_owned())
    }

    /// What the tables are made of now.
    ///
    /// # Errors
    /// The controller does not balance.
    pub fn sources(&self) -> Result<Sources, String> {
        let balancer = self.balancer()?;
        let health = balancer.health().into_iter().collect();
        Ok(Sources { config: balancer.config().clone(), health, plan: plan_text(balancer.plan()) })
    }

    /// The next tickets of VIPs that choose in turn, and the loads of backends of those that choose by load.
    fn tickets_and_loads(&self) -> Result<Inputs, String> {
        let balancer = self.balancer()?;
        let (plan, model) = (balancer.plan(), balancer.model());
        let chooses = |id: u16, selection| plan.vips.get(&id).is_some_and(|vip| vip.selection == selection);
        let in_turn = plan.vips.keys().filter(|id| chooses(**id, Selection::RoundRobin));
        let tickets = in_turn.map(|id| (*id, model.next_ticket(*id))).collect();
        let by_load = plan.backends.iter().filter(|(_, b)| chooses(b.vip, Selection::LeastConnections));
        let loads = model.loads.borrow();
        let load = |id: u16| (id, loads.get(&id).copied().unwrap_or_default());
        Ok(Inputs { tickets, loads: by_load.map(|(id, _)| load(*id)).collect(), ..Inputs::default() })
    }

    /// Lets time pass up to `end`, in the controller and in the switch.
    ///
    /// # Errors
    /// Something went on that the switch in memory does not know.
    pub fn pass(&mut self, end: Duration) -> Result<(), String> {
        while self.now < end {
            let soonest = self.now + Duration::from_millis(1);
            let wake = self.controller.next_wake().map_or(self.now + TICK, |wake| wake.max(soonest));
            self.now = wake.min(self.now + TICK).min(end);
            self.switch.set_time(self.now);
            self.exchange();
            self.handle(Event::Tick);
            self.run();
        }
        self.health()
    }

    /// A frame comes in by a port; what comes out because of it.
    ///
    /// # Errors
    /// Something went on that the switch in memory does not know.
    pub fn frame(&mut self, port: PortNo, frame: &[u8]) -> Result<Outcome, String> {
        self.run();
        let before = self.switch.packet_ins();
        let before_it = self.tickets_and_loads()?;
        self.switch.frame_in(port, frame);
        let out = self.run();
        let asked = self.switch.packet_ins() != before;
        self.health()?;
        let is_question = |bytes: &[u8]| {
            Fields::of(bytes).is_none_or(|fields| fields.ethertype == ARP || fields.is_neighbour_discovery())
        };
        // What the controller asks hosts on the way is not what became of the frame.
        let wanted = |bytes: &[u8]| is_question(frame) || !is_question(bytes);
        let now = ticks_from_ns(u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX));
        let random = self.balancer()?.model().inputs.get().random;
        let inputs = Inputs { now, random, ..before_it };
        Ok(Outcome { out: out.into_iter().filter(|(_, bytes)| wanted(bytes)).collect(), asked, inputs })
    }

    /// Something happens to the backends at an address, and this waits until the rotation says so.
    ///
    /// # Errors
    /// One line: there is no such backend, or it does not follow.
    pub fn change(&mut self, address: IpAddr, change: Change) -> Result<(), String> {
        let order = match change {
            Change::Down => {
                self.silent.insert(address);
                return self.settle(&[address], false);
            }
            Change::Up => {
                self.silent.remove(&address);
                return self.settle(&[address], true);
            }
            Change::Drain => Order::Drain { deadline_ms: None },
            Change::Enable => Order::Enable,
            Change::Disable => Order::Disable,
        };
        let order = BackendOrder { backend: address.to_string(), vip: None, order };
        // No order here has a deadline.
        let ordered = self.controller.ordered(&order, 0)?;
        let (commands, _) = self.controller.obey_order(ordered, self.now);
        self.obey(commands);
        self.run();
        self.health()
    }

    /// Waits until the backends at these addresses are up or down.
    fn settle(&mut self, addresses: &[IpAddr], up: bool) -> Result<(), String> {
        let end = self.now + PATIENCE;
        let answers: BTreeSet<IpAddr> =
            self.stations.values().flatten().flat_map(|station| station.addresses.iter().copied()).collect();
        loop {
            let plan = self.balancer()?.plan();
            let settled = |backend: &lb_core::host::plan::BackendPlan| {
                let address = backend.key.address;
                let concerned = addresses.contains(&address) && answers.contains(&address);
                let pending = if up { [State::Probing, State::Down] } else { [State::Up, State::Draining] };
                !(concerned && pending.contains(&backend.state))
            };
            if plan.backends.values().all(settled) {
                return Ok(());
            }
            if self.now >= end {
                return Err(format!(
                    "backends at {addresses:?} did not come {} in {} s: {:?}",
                    if up { "up" } else { "down" },
                    PATIENCE.as_secs(),
                    self.log.last()
                ));
            }
            self.pass(self.now + TICK)?;
        }
    }

    /// Lets frames and messages go on until all is still; what came out by ports, except for what is not traffic.
    fn run(&mut self) -> Vec<(PortNo, Vec<u8>)> {
        let mut out = Vec::new();
        loop {
            self.exchange();
            let emitted = self.switch.take_emitted();
            if emitted.is_empty() {
                return out;
            }
            for (port, frame) in emitted {
                for answer in self.answers(port, &frame) {
                    self.switch.frame_in(port, &answer);
                }
                if Fields::of(&frame).is_some_and(|fields| !DISCOVERY.contains(&fields.ethertype)) {
                    out.push((port, frame));
                }
            }
        }
    }

    fn answers(&self, port: PortNo, frame: &[u8]) -> Vec<Vec<u8>> {
        let stations = self.stations.get(&port).into_iter().flatten();
        let is_silent = |address: IpAddr| self.silent.contains(&address);
        stations.filter_map(|station| station::answer(station, frame, is_silent)).collect()
    }

    /// What the switch has for the controller goes there, and what follows from it comes back.
    fn exchange(&mut self) {
        loop {
            let bytes = self.switch.take_outbox();
            if bytes.is_empty() {
                return;
            }
            self.handle(Event::Bytes { conn: CONN, bytes });
        }
    }

    fn handle(&mut self, event: Event) {
        let commands = self.controller.handle(event, self.now);
        self.obey(commands);
    }

    fn obey(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Send { bytes, .. } => self.switch.receive(&bytes),
                Command::Close { .. } => self.closed = true,
                Command::AskDaemon => {}
                Command::Log { level, text } => self.log.push((level, text)),
            }
        }
    }

    fn health(&mut self) -> Result<(), String> {
        if let Some(unknown) = self.switch.take_unknown() {
            return Err(format!("the switch in memory does not know {unknown}"));
        }
        if self.closed {
            return Err(format!("the controller closed the connection: {:?}", self.log.last()));
        }
        Ok(())
    }
}
