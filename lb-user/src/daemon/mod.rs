//! The daemon: sets the data plane up, probes the backends, keeps the tables true, answers questions.
//!
//! One thread, one task that owns all state (`Daemon`); what happens reaches it as events, and what it decides
//! comes from the pure parts of `lb-core` (health, plan).

mod admin;
mod checks;
mod conns;
mod difference;
mod hand;
mod handed;
pub mod hosts;
mod lookout;
mod losses;
mod network;
mod orders;
mod place;
mod probe;
mod record;
mod reload;
mod shim;
mod sweeper;
pub mod tables;
mod upgrade;
mod view;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_core::host::config::{Admin, Config, PlacementKind};
use lb_core::host::health::{Command, Event, Prober, Reason, State};
use lb_core::host::ids::Ids;
use lb_core::host::overlay::Whom;
use lb_core::host::plan::{Plan, health_view};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::api::Detached;
use crate::control::Ask;
use crate::dataplane::{self, DataPlane, Pins, Sweep};
use crate::io::facts;
use crate::io::netlink::Watch;
use crate::io::netns::NetNs;
use crate::io::sys::{self, LockFile};
use crate::object;
use crate::server::{self, Denied, Query};

use self::admin::Administration;
use self::checks::{Checks, Effect};
use self::hand::{Hand, Handing};
use self::lookout::Lookout;
use self::losses::SharedLosses;
use self::network::Host;
use self::place::Placed;
use self::probe::Probes;
use self::record::Record;
use self::reload::Reload;
use self::sweeper::Sweeper;
use self::upgrade::Upgrade;

/// The lock in the run directory: one daemon at a time.
const LOCK: &str = "lb.lock";
/// From one look at whether the programs are on their interfaces to the next; and as a multiple of what a look takes.
const WATCH_LINKS: Duration = Duration::from_millis(100);
const WATCH_LINKS_FACTOR: u32 = 20;
/// Questions that wait for an answer at most.
const QUERIES: usize = 16;
/// How long the server may take to finish the answers that are under way when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// The file that it was read from, if it was.
    pub config_file: Option<PathBuf>,
    /// Another XDP object than the one this binary carries.
    pub object: Option<PathBuf>,
    /// Log a line for each packet.
    pub log_packets: bool,
    /// Where the counters are served to scrapers over TCP.
    pub metrics: Option<SocketAddr>,
    /// The controller's run folder.
    pub ofshim_dir: PathBuf,
    /// Where run-time changes are kept; the run directory if not said.
    pub state_dir: Option<PathBuf>,
    /// Where socket, lock and record are.
    pub run_dir: PathBuf,
    /// Where maps and links are pinned.
    pub pin_dir: PathBuf,
}

/// All state of a running daemon.
struct Daemon {
    /// In force: the file's, with the administrator's changes.
    config: Config,
    admin: Administration,
    /// The run directory keeps the changes, so they go with everything else.
    forgets: bool,
    run_dir: PathBuf,
    started: Instant,
    dataplane: DataPlane,
    pins: Pins,
    placed: Placed,
    record: Record,
    probes: Probes,
    lookout: Lookout<Reload>,
    upgrade: Option<Upgrade>,
    /// A change of the balancer under way.
    hand: Option<Hand>,
    /// Until when no change is begun by itself, since one failed.
    rests_until: Option<Instant>,
    /// Which packets are another balancer's meanwhile.
    handing: Handing,
    /// Where the controller answers.
    shim_socket: PathBuf,
    /// Where a one-armed balancer is.
    host: Option<Host>,
    config_file: Option<PathBuf>,
    prober: Prober,
    checks: Checks,
    ids: Ids,
    plan: Plan,
    /// When the plan was last put into force, on the monotonic clock.
    planned_ns: u64,
    sweeper: Sweeper,
    losses: SharedLosses,
}

/// A daemon that is set up, with the lock it holds.
pub struct Ready {
    daemon: Daemon,
    listener: tokio::net::UnixListener,
    metrics: Option<tokio::net::TcpListener>,
    watch: Watch,
    _lock: LockFile,
}

/// Sets everything up. An error leaves nothing attached that was not attached before.
pub async fn start(mut options: Options) -> Result<Ready> {
    if !sys::is_root() {
        bail!("lb run needs root, to load XDP programs and to enter the hosts' namespaces: run it with sudo");
    }
    server::make_run_dir(&options.run_dir)?;
    let lock = LockFile::acquire(&options.run_dir.join(LOCK))?;
    let pins = Pins::new(&options.pin_dir);
    ensure_bpffs(&options.pin_dir)?;
    let object = object::bytes(options.object.as_deref(), options.log_packets)?;
    let facts = facts::gather().await?;
    hosts::resolve(&mut options.config, &facts).map_err(anyhow::Error::msg)?;
    let placed = Placed::find(&options.config, &facts)?;
    let root = NetNs::open(&facts.root)?;
    let watch = Watch::open(&root)?;
    let record = Record::read(&options.run_dir)?;
    let metrics = match options.metrics {
        Some(address) => Some(server::bind_metrics(address).await?),
        None => None,
    };
    let state_dir = options.state_dir.as_deref().unwrap_or(&options.run_dir);
    let admin = Administration::open(state_dir, options.config)?;
    let config = admin.in_force();
    let listener = server::bind(&options.run_dir)?;

    let dataplane = DataPlane::load(&object, pins.clone(), &config.connections)
        .inspect_err(|_| server::remove_socket(&options.run_dir))?;
    let adopted = dataplane.adopted();
    let sweeper = Sweeper::start(&pins).inspect_err(|_| {
        server::remove_socket(&options.run_dir);
        if !adopted {
            dataplane::remove_all(pins.root()).ok();
        }
    })?;
    let seed = sys::clock_realtime();
    let health = lb_core::host::health::Settings::new(&config.health, seed);
    let mut daemon = Daemon {
        run_dir: options.run_dir,
        started: Instant::now(),
        dataplane,
        pins: pins.clone(),
        probes: Probes::default(),
        lookout: Lookout::default(),
        upgrade: None,
        hand: None,
        rests_until: None,
        handing: Handing::No,
        shim_socket: hand::shim_socket(&options.ofshim_dir),
        host: None,
        config_file: options.config_file,
        prober: Prober::new(health),
        checks: Checks::new(seed),
        placed,
        record,
        ids: Ids::default(),
        plan: Plan::default(),
        planned_ns: 0,
        sweeper,
        config,
        admin,
        forgets: options.state_dir.is_none(),
        losses: SharedLosses::default(),
    };
    let links_before = daemon.pins.link_paths();
    let mut set_up = daemon.set_up(health);
    if options.log_packets && set_up.is_ok() {
        set_up = daemon.follow_packet_log();
    }
    if let Err(error) = set_up {
        if !adopted {
            daemon.undo_everything();
        } else if let Ok(before) = links_before {
            dataplane::retain_links(&daemon.pins, &before).ok();
        }
        server::remove_socket(&daemon.run_dir);
        return Err(error);
    }
    Ok(Ready { daemon, listener, metrics, watch, _lock: lock })
}

/// A bpffs to pin in: mounted by us where the usual place has none.
fn ensure_bpffs(pin_dir: &Path) -> Result<()> {
    let usual = Path::new("/sys/fs/bpf");
    let existing = pin_dir.ancestors().find(|path| path.exists()).unwrap_or(usual);
    if sys::is_bpffs(existing)? {
        return Ok(());
    }
    if pin_dir.starts_with(usual) {
        return sys::mount_bpffs(usual)
            .context("bpffs is not mounted and cannot be: `mount -t bpf bpf /sys/fs/bpf` says why");
    }
    bail!("--pin-dir {}: not on a bpffs; `mount -t bpf bpf DIR` makes one", pin_dir.display());
}

impl Ready {
    /// Works until told to stop. Forwarding goes on when it ends.
    pub async fn run(self) -> Result<()> {
        let Self { mut daemon, listener, metrics, mut watch, _lock } = self;
        let (queries_in, mut queries) = mpsc::channel(QUERIES);
        let (stop, stopped) = oneshot::channel::<()>();
        if let Some(listener) = metrics {
            tokio::spawn(server::serve_metrics(listener, queries_in.clone()));
        }
        let server = tokio::spawn(server::serve(listener, queries_in, async {
            stopped.await.ok();
        }));
        tracing::info!(
            "ready: {} interfaces, {} VIPs, {}{}",
            daemon.placed.ports.len(),
            daemon.config.vips.len(),
            daemon.placed.summary.kind,
            if daemon.dataplane.adopted() {
                ", tables and connections of the earlier daemon adopted"
            } else {
                ""
            }
        );
        let ended = daemon.work(&mut watch, &mut queries).await;
        // Whoever asked for the last answer gets it whole.
        stop.send(()).ok();
        tokio::time::timeout(LAST_ANSWERS, server).await.ok();
        server::remove_socket(&daemon.run_dir);
        match ended? {
            End::Detached => tracing::info!("detached: programs removed, offloads restored"),
            End::Stopped => tracing::info!("stopped: forwarding goes on, `lb detach` ends it"),
        }
        Ok(())
    }
}

/// Why the daemon's work ended.
enum End {
    /// By a signal.
    Stopped,
    /// By a request that undid everything.
    Detached,
}

impl Daemon {
    async fn work(&mut self, watch: &mut Watch, queries: &mut mpsc::Receiver<Query>) -> Result<End> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let mut wake_at = self.wake()?;
        let mut watch_at = tokio::time::Instant::now() + WATCH_LINKS;
        loop {
            let next = wake_at.into_iter().chain(self.checks.next_wake()).min();
            let pause = Duration::from_nanos(next.unwrap_or(u64::MAX).saturating_sub(sys::clock_monotonic()));
            let next = tokio::select! {
                _ = terminate.recv() => return Ok(End::Stopped),
                _ = interrupt.recv() => return Ok(End::Stopped),
                () = tokio::time::sleep(pause) => {
                    wake_at = self.wake()?;
                    continue;
                }
                Some(pass) = self.sweeper.next() => self.swept(&pass)?,
                Some(arrival) = self.probes.next() => self.take_reply(&arrival)?,
                () = self.admin.deadline() => self.deadline_over()?,
                (facts, reloads) = self.lookout.next() => {
                    let wake_at = self.reload_with(&facts, reloads)?;
                    self.network_seen(&facts)?.or(wake_at)
                }
                due = Upgrade::next(&mut self.upgrade) => {
                    self.upgrade_goes_on(due)?;
                    None
                }
                due = Hand::next(&mut self.hand) => {
                    self.hand_goes_on(due)?;
                    None
                }
                () = tokio::time::sleep_until(watch_at) => {
                    let began = tokio::time::Instant::now();
                    self.watch_links();
                    watch_at = began + WATCH_LINKS.max(began.elapsed() * WATCH_LINKS_FACTOR);
                    None
                }
                event = Host::next(&mut self.host) => self.host_changed(event)?,
                _ = hangup.recv() => {
                    self.reload(false, None);
                    None
                }
                event = watch.next() => self.link_changed(&event.context("the kernel's link events ended")?)?,
                query = queries.recv() => match query.context("the socket's server ended")? {
                    Query::Detach(reply) => {
                        reply.send(Ok(self.undo_everything())).ok();
                        return Ok(End::Detached);
                    }
                    Query::Order(ask) => self.obey(ask)?,
                    query => {
                        self.answer(query);
                        None
                    }
                },
            };
            wake_at = next.or(wake_at);
        }
    }

    fn onearm(&self) -> bool {
        self.config.placement.kind == PlacementKind::OneArm
    }

    /// Tables, offloads, programs, sockets: in the order in which nothing is seen half done.
    fn set_up(&mut self, health: lb_core::host::health::Settings) -> Result<()> {
        let found = if self.dataplane.adopted() {
            tables::find(&self.dataplane, &self.config)?
        } else {
            tables::Found::default()
        };
        let existing_ports = self.dataplane.read_ports()?;
        self.placed.assign_slots(&existing_ports)?;
        self.admin.found(found.configured.iter().cloned());
        self.config = self.admin.in_force();
        let now = sys::clock_monotonic();
        // The first commands only say when to wake; the daemon's work begins with a wake.
        drop(self.prober.configure(health, &self.config.stations(), now));
        let records = self.placed.records();
        self.configure_checks()?;
        for (address, neighbour) in &found.up {
            if place::is_same_port(&existing_ports, &records, neighbour.interface) {
                self.prober.assume_up(*address, *neighbour, now);
                self.checks.members.assume_up(*address, &found.in_rotation, now);
            }
        }
        self.ids = found.ids.clone();
        for (slot, record) in &records {
            self.dataplane.write_port(*slot, record)?;
        }
        for slot in existing_ports.keys().filter(|slot| !records.contains_key(slot)) {
            self.dataplane.clear_port(*slot)?;
        }
        self.replan()?;
        tables::clear_leftovers(&mut self.dataplane, &found, &self.plan)?;
        if self.config.vips.iter().flat_map(|vip| &vip.backends).any(|b| b.admin == Admin::Leaving) {
            // Those that nothing carries need not be kept.
            if let Some(pass) = Sweep::open(&self.pins)?.pass(|_| true)? {
                self.swept(&pass)?;
            }
        }
        self.placed.fix_offloads(&self.run_dir, &mut self.record)?;
        self.placed.attach(&mut self.dataplane, &self.run_dir, &mut self.record)?;
        self.dataplane.pin_programs()?;
        self.dataplane.forget_other_stages()?;
        self.probes = Probes::open(&self.placed, &checks::probe_addresses(&self.config))?;
        self.claim_probe_addresses();
        self.host = Host::of(&self.placed)?;
        self.losses_reader()();
        for warning in &self.placed.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// Makes the tables what configuration and health say they should be.
    fn replan(&mut self) -> Result<()> {
        let began_ns = sys::clock_monotonic();
        let view = health_view(&self.checks.members, &self.prober);
        let plan = Plan::from_config(&self.config, &mut self.ids, &view, Some(&self.plan))?;
        let ports = self.placed.records();
        let around = tables::Around {
            onearm: self.onearm(),
            ports: &ports,
            connections: &self.config.connections,
            handing: self.handing.flags(),
        };
        tables::apply(&mut self.dataplane, around, &self.plan, &plan)?;
        self.plan = plan;
        self.planned_ns = sys::clock_monotonic();
        self.checks.planned(began_ns, self.planned_ns);
        Ok(())
    }

    /// The prober's time has come. Everything that was received goes in first, so that its own lateness is
    /// nobody's death.
    fn wake(&mut self) -> Result<Option<u64>> {
        let drained_up_to = sys::clock_monotonic();
        for arrival in self.probes.drain() {
            self.take_reply(&arrival)?;
        }
        for backend in self.prober.due(drained_up_to) {
            if let Some(at) = view::last_alive(&self.dataplane, &self.plan, backend)? {
                self.event(Event::FrameSeen { backend, at })?;
            }
        }
        let wake_at = self.event(Event::Wake { drained_up_to })?;
        self.wake_checks(drained_up_to)?;
        Ok(wake_at)
    }

    fn take_reply(&mut self, arrival: &probe::Arrival) -> Result<Option<u64>> {
        self.take_frame(arrival)?;
        match arrival.event() {
            Some(event) => self.event(event),
            None => Ok(None),
        }
    }

    /// Hands an event to the prober and does what it says; returns when it wants to be woken.
    fn event(&mut self, event: Event) -> Result<Option<u64>> {
        let mut wake_at = None;
        let (mut effect, mut actions) = (None, Vec::new());
        let mut commands = self.prober.handle(event, sys::clock_monotonic());
        while !commands.is_empty() {
            let mut more = Vec::new();
            for command in commands {
                match command {
                    Command::SendProbe { backend, to } => {
                        for event in self.probes.send(backend, to, self.placed.prober_mac) {
                            more.extend(self.prober.handle(event, sys::clock_monotonic()));
                        }
                    }
                    Command::StateChange { backend, to, reason, .. } => {
                        // Nobody waits for one that has come; the others are in the tables.
                        let came = to == State::Up && !matches!(reason, Reason::Moved { .. });
                        effect = effect.max(Some(if came { Effect::Soon } else { Effect::AtOnce }));
                        let now = sys::clock_monotonic();
                        actions.extend(self.checks.members.host_changed(backend, to, reason, now));
                    }
                    Command::NextWakeAt(at) => wake_at = Some(at),
                }
            }
            commands = more;
        }
        if let Some(effect) = effect {
            self.obey_members(actions, effect)?;
        }
        Ok(wake_at)
    }

    fn follow_packet_log(&mut self) -> Result<()> {
        // SAFETY: the log owns its ring buffer, whose descriptor stays open and the same as long as the log lives.
        let mut log = unsafe { tokio::io::unix::AsyncFd::register(self.dataplane.packet_log()?) }
            .map_err(|e| e.into_parts().1)
            .context("cannot wait for the packet log")?;
        tokio::spawn(async move {
            while let Ok(mut ready) = log.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        });
        Ok(())
    }

    fn answer(&self, query: Query) {
        match query {
            Query::Status(reply) => drop(reply.send(self.status().map_err(Denied::from))),
            Query::Stats(reply) => self.answer_stats(reply),
            Query::Handover(connections, reply) => self.tell(connections, reply),
            Query::Connections(wanted, reply) => {
                let names = Arc::new(self.plan.clone());
                let pins = self.pins.clone();
                let settings = tables::settings(&self.config.connections, &self.plan);
                tokio::task::spawn_blocking(move || {
                    reply.send(conns::list(&pins, &names, &settings, &wanted)).ok();
                });
            }
            Query::Order(_) | Query::Detach(_) => {}
        }
    }

    /// Carries out an order and answers it.
    fn obey(&mut self, ask: Ask) -> Result<Option<u64>> {
        match ask {
            Ask::Backend { backend, vip, order, reply } => {
                let whom = Whom { backend: &backend, vip: vip.as_deref() };
                let (answer, wake_at) = match self.order_backend(whom, &order)? {
                    Ok((ordered, wake_at)) => (Ok(ordered), wake_at),
                    Err(refusal) => (Err(Denied::Wrong(refusal)), None),
                };
                reply.send(answer).ok();
                Ok(wake_at)
            }
            Ask::Upgrade { object, verify, reply } => {
                self.upgrade(object, verify, reply);
                Ok(None)
            }
            Ask::Move { to, reply } => {
                self.move_to(to, Some(reply));
                Ok(None)
            }
            Ask::Reload { check, reply } => {
                self.reload(check, Some(reply));
                Ok(None)
            }
        }
    }

    /// Takes everything off the machine that this daemon, or one before it, put there.
    fn undo_everything(&mut self) -> Detached {
        undo(&self.pins, &mut self.record, &self.run_dir, self.forgets)
    }
}

fn undo(pins: &Pins, record: &mut Record, run_dir: &Path, forgets: bool) -> Detached {
    let mut detached = Detached::default();
    if forgets && let Err(error) = Administration::forget(run_dir) {
        detached.failures.push(format!("{error:#}"));
    }
    match dataplane::remove_links(pins) {
        Ok(removed) => {
            detached.programs.extend(removed.iter().map(|pin| record.take_program(pin)));
        }
        Err(error) => detached.failures.push(format!("{error:#}")),
    }
    if let Err(error) = dataplane::remove_all(pins.root()) {
        detached.failures.push(format!("{error:#}"));
    }
    if let Err(error) = record.undo(run_dir, &mut detached) {
        detached.failures.push(format!("{error:#}"));
    }
    detached
}

/// Undoes what a daemon that is gone left on the machine. Refused while one runs.
pub fn detach_offline(run_dir: &Path, pin_dir: &Path) -> Result<Detached> {
    if !sys::is_root() {
        bail!("lb detach needs root: run it with sudo");
    }
    let lock_path = run_dir.join(LOCK);
    let _lock = if run_dir.exists() { Some(LockFile::acquire(&lock_path)?) } else { None };
    let pins = Pins::new(pin_dir);
    let _pins_lock = if pin_dir.exists() { Some(pins.lock()?) } else { None };
    let mut record = Record::read(run_dir)?;
    server::remove_socket(run_dir);
    Ok(undo(&pins, &mut record, run_dir, true))
}
