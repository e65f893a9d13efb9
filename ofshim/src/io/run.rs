//! `ofshim run`: everything that is bound, and the main task that owns the controller.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};
use lb_core::host::config::Config;
use lb_core::host::handover::Handover;
use openflow::Version;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::accept::{self, Stream};
use super::api::{self, Asked};
use super::daemon;
use super::endpoints::Question;
use super::openapi;
use super::orders::Orders;
use super::socket::ApiSocket;
use super::switch::Connection;
use super::tls::{self, Files};
use crate::choose::{self, Chosen};
use crate::cli::{self, OpenFlow, RunArgs, balance};
use crate::core::balance::{BackendOrder, check};
use crate::core::discover::{self, Secret};
use crate::core::view;
use crate::core::{
    AskedRole, Command, ConnId, Controller, Event, Level, Settings, Source, TICK, VipKnowledge,
};
use crate::knowledge;
use crate::metrics;

/// From one reading of the ports' counters to the next, where routes depend on them.
const DEFAULT_STATISTICS_MS: u64 = 2000;
/// Later than this controller runs.
const FAR: Duration = Duration::from_secs(1 << 32);
/// The most switches at a time.
const MAX_SWITCHES: usize = 1024;
/// How many inputs may wait for the main task; whoever has more waits, and with it the switch that it reads from.
const MAX_WAITING_INPUTS: usize = 64;

/// What the main task is told.
#[derive(Debug)]
pub enum Input {
    /// Something for the controller.
    Event(Event),
    /// Bytes came from a switch.
    Bytes {
        /// Its connection.
        conn: ConnId,
        /// What came.
        bytes: Vec<u8>,
        /// Goes once they are handled; then more is read from that switch.
        turn: OwnedSemaphorePermit,
    },
    /// A switch connected.
    Accepted {
        /// Its connection.
        stream: Stream,
        /// Where it came from.
        peer: SocketAddr,
    },
    /// A read command asks.
    Asked(Asked),
}

/// Runs the controller until SIGTERM or SIGINT.
///
/// # Errors
/// What was asked for cannot be had: an address in use, a bad file, another controller with the same run folder.
pub async fn run(args: &RunArgs, run_dir: &Path) -> anyhow::Result<()> {
    let chosen = choose::balancer(args).map_err(|refused| anyhow!("{refused}"))?;
    let config = balance::read(args)?;
    let settings = settings_of(args, chosen, config.as_ref())?;
    let alone = settings.classic.is_some() || settings.balancing.is_some();
    let left_undone = settings.balancing.as_ref().map(|b| check::left_undone(&b.config, b.entries));
    let known = config.as_ref().filter(|_| !alone).map(knowledge::of_config);
    let tls = match (&args.tls_key, &args.tls_cert, &args.tls_ca) {
        (Some(key), Some(cert), Some(ca)) => Some(tls::acceptor(Files { key, cert, ca })?),
        _ => None,
    };
    let mut listeners = Vec::new();
    for address in &args.listen {
        listeners.push(bind(*address).await?);
    }
    let metrics_listener = match args.metrics {
        Some(address) => Some(bind_metrics(address).await?),
        None => None,
    };
    let (_socket, api_listener) = ApiSocket::bind(run_dir)?;
    let state_dir = args.state_dir.as_deref().unwrap_or(run_dir);
    let orders = match &settings.balancing {
        Some(balancing) => Some(Orders::open(state_dir, &balancing.config, &settings.versions)?),
        None => None,
    };
    let stop = Stop::new()?;

    let (inputs, waiting) = mpsc::channel(MAX_WAITING_INPUTS);
    if let Some(ca) = &args.tls_ca {
        tracing::info!("switches connect by TLS, with a certificate that {} vouches for", ca.display());
    }
    let ask_daemon = Arc::new(Notify::new());
    let mut listen = Vec::new();
    for listener in listeners {
        let address = listener.local_addr().context("the address of a listener is not known")?;
        tracing::info!("listening on {address}");
        listen.push(address.to_string());
        tokio::spawn(accept::accept(listener, tls.clone(), inputs.clone()));
    }
    tokio::spawn(api::run(api_listener, inputs.clone()));
    if let Some(listener) = metrics_listener {
        tokio::spawn(api::run_metrics(listener, inputs.clone()));
    }
    left_undone.into_iter().flatten().for_each(|line| tracing::warn!("{line}"));
    // Two that balance one VIP would fight.
    if !alone {
        tokio::spawn(daemon::poll(args.lb_socket.clone(), inputs.clone(), Arc::clone(&ask_daemon)));
    }
    let mut controller = Controller::new(settings);
    let orders = orders.map(|(orders, overlay)| {
        controller.recall(overlay, Duration::ZERO);
        orders
    });
    let main = Main {
        controller,
        orders,
        connections: BTreeMap::new(),
        next: 0,
        start: Instant::now(),
        listen,
        tls: args.tls_ca.is_some(),
        inputs,
        ask_daemon,
        taking: None,
    };
    main.run(waiting, known, stop).await;
    tracing::info!("stopped; flow entries stay on the switches until they time out");
    Ok(())
}

/// What a person chose on the command line; the secret of discovery is a new one for each run.
fn settings_of(args: &RunArgs, chosen: Chosen, config: Option<&Config>) -> anyhow::Result<Settings> {
    let discovery = discover::Settings {
        period: Duration::from_millis(args.discovery_period),
        secret: Secret(random_bytes()?),
        ..discover::Settings::default()
    };
    let versions = match args.openflow {
        None => vec![Version::V1_0, Version::V1_3],
        Some(OpenFlow::V1_0) => vec![Version::V1_0],
        Some(OpenFlow::V1_3) => vec![Version::V1_3],
    };
    let seed = u64::from_ne_bytes(random_bytes()?);
    Ok(Settings {
        balancing: balance::settings(args, config, &versions, seed)?,
        stand_by: balance::stand_by(args, chosen.forwarding, seed),
        part_patience: crate::core::net::PART_PATIENCE,
        versions,
        role: args.role.map(|role| AskedRole {
            role: match role {
                cli::Role::Equal => openflow::Role::Equal,
                cli::Role::Primary => openflow::Role::Master,
            },
            generation_id: args.generation.unwrap_or_else(now_ms),
        }),
        forwarding: chosen.forwarding,
        classic: chosen.classic.map(|classic| classic.seeded(seed)),
        discovery: (!args.no_discovery).then_some(discovery),
        granularity: args.granularity.into(),
        metric: args.metric.into(),
        port_statistics: args
            .port_statistics
            .or((args.metric == cli::Metric::Utilisation).then_some(DEFAULT_STATISTICS_MS))
            .map(Duration::from_millis),
        port_speed_kbps: args.port_speed.map(|mbit| mbit * 1000),
        ecmp: !args.single_path,
        proactive: args.proactive,
        proxy: !args.no_proxy,
        idle_timeout_s: args.idle_timeout,
        hard_timeout_s: args.hard_timeout,
    })
}

/// Milliseconds since 1970: later runs have greater generations, whichever machine they are on, and deadlines outlive them.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn random_bytes<const COUNT: usize>() -> anyhow::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let mut source = std::fs::File::open("/dev/urandom").context("/dev/urandom cannot be opened")?;
    source.read_exact(&mut bytes).context("/dev/urandom cannot be read")?;
    Ok(bytes)
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "{address} is in use: end the other controller ('ss -ltnp sport = :{}' names it) or choose another address \
             with --listen",
            address.port()
        ),
        Err(error) => bail!("cannot listen on {address}: {error}; choose another address with --listen"),
    }
}

async fn bind_metrics(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| anyhow!("--metrics {address}: cannot listen there: {error}; name another address"))
}

/// The signals that end the controller.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("signals cannot be watched");
        Ok(Self { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The main task.
struct Main {
    controller: Controller,
    /// Where orders about backends are kept, if this controller takes some.
    orders: Option<Orders>,
    connections: BTreeMap<ConnId, Connection>,
    next: u64,
    start: Instant,
    listen: Vec<String>,
    tls: bool,
    inputs: mpsc::Sender<Input>,
    /// Wakes whoever asks the balancer's daemon.
    ask_daemon: Arc<Notify>,
    /// Waits for the end of a hand-over.
    taking: Option<oneshot::Sender<Result<Value, String>>>,
}

impl Main {
    async fn run(mut self, mut waiting: mpsc::Receiver<Input>, known: Option<VipKnowledge>, mut stop: Stop) {
        if let Some(known) = known {
            self.event(Event::Knowledge { known, source: Source::File });
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.controller.next_wake().map_or(self.start + FAR, |at| self.start + at);
            tokio::select! {
                biased;
                () = stop.wait() => return,
                _ = ticks.tick() => {
                    self.end_drains();
                    self.event(Event::Tick);
                }
                () = sleep_until(wake) => self.event(Event::Tick),
                input = waiting.recv() => match input {
                    Some(Input::Event(event)) => self.event(event),
                    Some(Input::Bytes { conn, bytes, turn }) => {
                        self.event(Event::Bytes { conn, bytes });
                        drop(turn);
                    }
                    Some(Input::Accepted { stream, peer }) => self.accepted(stream, peer),
                    Some(Input::Asked(asked)) => self.asked(asked),
                    None => return,
                },
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn accepted(&mut self, stream: Stream, peer: SocketAddr) {
        if self.connections.len() >= MAX_SWITCHES {
            tracing::warn!("{peer}: refused, {MAX_SWITCHES} switches are connected already");
            return;
        }
        let conn = ConnId(self.next);
        self.next += 1;
        self.connections.insert(conn, Connection::start(conn, stream, self.inputs.clone()));
        self.event(Event::Connected { conn, peer: peer.to_string() });
    }

    fn event(&mut self, event: Event) {
        if let Event::Closed { conn, .. } = &event {
            self.connections.remove(conn);
        }
        let commands = self.controller.handle(event, self.now());
        self.carry_out(commands);
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        let mut slow = Vec::new();
        for command in commands {
            self.command(command, &mut slow);
        }
        for (conn, reason) in slow {
            for command in self.controller.handle(Event::Closed { conn, reason }, self.now()) {
                self.command(command, &mut Vec::new());
            }
        }
        if let Some(done) = self.controller.take_done()
            && let Some(answer) = self.taking.take()
        {
            // Whoever asked may be gone.
            let _ = answer.send(done.and_then(|taken| json(&taken)));
        }
    }

    fn command(&mut self, command: Command, slow: &mut Vec<(ConnId, String)>) {
        match command {
            Command::Send { conn, bytes } => {
                let Some(connection) = self.connections.get(&conn) else { return };
                if let Err(error) = connection.send(bytes) {
                    self.connections.remove(&conn);
                    slow.push((conn, format!("closed, since {error}")));
                }
            }
            Command::Close { conn } => {
                if let Some(connection) = self.connections.remove(&conn) {
                    connection.close();
                }
            }
            Command::AskDaemon => self.ask_daemon.notify_one(),
            Command::Log { level: Level::Warn, text } => tracing::warn!("{text}"),
            Command::Log { level: Level::Info, text } => tracing::info!("{text}"),
            Command::Log { level: Level::Debug, text } => tracing::debug!("{text}"),
        }
    }

    /// The metrics, with what waits before and behind the controller.
    fn metrics(&self, now: Duration) -> String {
        let mut counters = self.controller.counters(now);
        counters.waiting_inputs = self.inputs.max_capacity() - self.inputs.capacity();
        for switch in &mut counters.switches {
            let connection = self.connections.get(&ConnId(switch.conn));
            switch.waiting_bytes = connection.map_or(0, Connection::waiting_bytes);
        }
        metrics::text(&counters)
    }

    fn asked(&mut self, asked: Asked) {
        let now = self.now();
        let controller = &self.controller;
        let value = match asked.question {
            Question::Status => json(&view::Status { tls: self.tls, ..controller.status(&self.listen, now) }),
            Question::Topology => json(&controller.topology()),
            Question::Hosts => json(&controller.hosts(now)),
            Question::Flows => json(&controller.flows(now)),
            Question::Route { from, to, k } => controller.route(from, to, k).and_then(|route| json(&route)),
            Question::OpenApi => Ok(openapi::document()),
            Question::Handover => controller.handover(now).and_then(|handover| json(&handover)),
            Question::Take(given) => return self.take(&given, asked.answer),
            Question::Release => match self.controller.release(now) {
                Ok((connections, commands)) => {
                    self.carry_out(commands);
                    json(&view::Released { connections })
                }
                Err(refused) => Err(refused),
            },
            Question::Metrics => Ok(Value::String(self.metrics(now))),
            Question::Backend(order) => self.order(&order, now),
            Question::Explain(flow) => self.controller.explain(flow).and_then(|explained| json(&explained)),
        };
        // Whoever asked may be gone.
        let _ = asked.answer.send(value);
    }
}

impl Main {
    /// Carries out an order about backends, once it is written down.
    fn order(&mut self, order: &BackendOrder, now: Duration) -> Result<Value, String> {
        let ordered = self.controller.ordered(order, now_ms())?;
        if let Some(orders) = &self.orders {
            orders.keep(ordered.overlay()).map_err(|error| format!("{error:#}"))?;
        }
        let (commands, balancing) = self.controller.obey_order(ordered, now);
        self.carry_out(commands);
        json(&balancing)
    }

    /// Ends the drains whose deadline is over. What cannot be written down is found over again by the next controller.
    fn end_drains(&mut self) {
        let Some(ordered) = self.controller.overdue(now_ms()) else { return };
        if let Some(orders) = &self.orders
            && let Err(error) = orders.keep(ordered.overlay())
        {
            tracing::warn!("{error:#}");
        }
        let (commands, _) = self.controller.obey_order(ordered, self.now());
        self.carry_out(commands);
    }

    /// Begins a hand-over; it is answered at its end.
    fn take(&mut self, given: &Handover, answer: oneshot::Sender<Result<Value, String>>) {
        match self.controller.take(given, self.now()) {
            Ok(commands) => {
                self.taking = Some(answer);
                self.carry_out(commands);
            }
            // Whoever asked may be gone.
            Err(refused) => drop(answer.send(Err(refused))),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<serde_json::Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}
