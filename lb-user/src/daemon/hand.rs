//! From XDP to flow entries and back, with all connections.
//!
//! ```text
//!  to OpenFlow:  connections --> ofshim (entries) ; what is unknown passes ; connections again --> ofshim ; detach
//!  to XDP:       attach, what is unknown passes ; connections <-- ofshim ; SYNs are ours ; connections again <-- ; all is ours
//! ```
//! Both balancers know every connection while both are at work, so whichever a packet meets, it goes to its backend. What
//! one of them knows of a connection that has ended must not meet the packets of the next one from the same port: what
//! the controller knows better is forgotten before programs go onto their interfaces, and an entry whose packet passes to
//! the other balancer is gone (`lb_core::conn`). The sequence is a task of its own, that asks the daemon's task for one
//! step at a time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use lb_core::host::handover::{Connection, Handover, Standing, Told};
use lb_core::host::plan::health_view;
use lb_core::table::{Settings, settings_flag};
use tokio::sync::{mpsc, oneshot};

use crate::control::{Balancer, Moved};
use crate::dataplane::Pins;
use crate::server::{Denied, Reply};

use super::handed::{GivesWay, Inserted, clear, insert, is_older, live, make_way, never};
use super::{Daemon, shim, tables};

/// While SYNs are ours again: packets that the switch has in its queues reach its controller. As long as there are such
/// that open connections there, but not for ever.
const SETTLE: Duration = Duration::from_millis(100);
const MAX_SETTLES: u32 = 20;

/// How long the controller may take to stand in while the programs are off their interfaces.
const STAND_IN_PATIENCE: Duration = Duration::from_secs(2);

/// After a change of the balancer that failed, nothing is tried by itself for so long.
const REST: Duration = Duration::from_secs(2);

/// Which packets for a VIP without a connection here are another balancer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handing {
    /// None.
    #[default]
    No,
    /// All.
    Over,
    /// All but SYNs.
    Back,
}

impl Handing {
    /// The flags of the settings.
    pub const fn flags(self) -> u32 {
        match self {
            Self::No => 0,
            Self::Over => settings_flag::HANDING_OVER,
            Self::Back => settings_flag::HANDING_OVER | settings_flag::HANDING_BACK,
        }
    }
}

/// A step that the daemon's task does for the sequence.
pub enum Step {
    /// Say what is to be known, without connections.
    Tell(oneshot::Sender<Known>),
    /// Let packets without a connection pass, or not.
    Hand(Handing, oneshot::Sender<Result<()>>),
    /// Take the programs off, or put them on.
    Attach(bool, oneshot::Sender<Result<()>>),
    /// Take off those that could be put on, since others could not; who balanced before does again.
    Withdraw(oneshot::Sender<Result<()>>),
}

/// What the sequence has to know.
pub struct Known {
    handover: Handover,
    settings: Settings,
    pins: Pins,
    /// Whether a program is on its interface.
    attached: bool,
}

/// A change of the balancer on its way.
pub struct Hand {
    /// Who was to balance before.
    from: Balancer,
    steps: mpsc::Receiver<Step>,
    end: tokio::task::JoinHandle<Result<Moved>>,
    reply: Option<Reply<Moved>>,
}

/// What became due.
pub enum Due {
    /// The sequence wants a step.
    Step(Step),
    /// It is over.
    Ended(Result<Moved>),
}

impl Hand {
    /// Waits for what is due next; for ever without a change. Safe to drop and call again.
    pub async fn next(hand: &mut Option<Self>) -> Due {
        let Some(hand) = hand else { return std::future::pending().await };
        if let Some(step) = hand.steps.recv().await {
            return Due::Step(step);
        }
        Due::Ended((&mut hand.end).await.unwrap_or_else(|error| Err(error.into())))
    }
}

impl Daemon {
    /// Whether the programs stand on the interfaces.
    pub(super) fn attaches(&self) -> bool {
        self.record.balancer == Balancer::Xdp
    }

    /// Begins to move to another balancer; `reply` hears of the end.
    pub(super) fn move_to(&mut self, to: Balancer, reply: Option<Reply<Moved>>) {
        let refusal = if self.hand.is_some() {
            Some("a change of the balancer is under way; wait for its end".to_owned())
        } else if reply.is_some() && to == self.record.balancer {
            let moved = Moved { balancer: to, connections: 0, took_ms: 0, changed: false };
            reply.map(|reply| reply.send(Ok(moved)).ok());
            return;
        } else {
            self.cannot_move(to)
        };
        if let Some(refusal) = refusal {
            match reply {
                Some(reply) => drop(reply.send(Err(Denied::Wrong(refusal)))),
                None => tracing::warn!("{refusal}"),
            }
            return;
        }
        let (steps_in, steps) = mpsc::channel(1);
        let asker = Asker { steps: steps_in, shim: self.shim_socket.clone() };
        let from = self.record.balancer;
        let end = tokio::spawn(async move {
            match (from, to) {
                (_, Balancer::OpenFlow) => asker.to_openflow().await,
                (Balancer::OpenFlow, Balancer::Xdp) => asker.to_xdp(false).await,
                (Balancer::Xdp, Balancer::Xdp) => asker.to_xdp(true).await,
            }
        });
        self.hand = Some(Hand { from: self.record.balancer, steps, end, reply });
    }

    /// Puts the programs back on where somebody took them off. Whoever balanced meanwhile gives its connections back.
    pub(super) fn watch_links(&mut self) {
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        if !self.attaches() || self.hand.is_some() || rests {
            return;
        }
        let loose = match self.loose_ports() {
            Ok(loose) if loose.is_empty() => return,
            Ok(loose) => loose,
            Err(error) => {
                // Somebody removes pins while they are looked at; forwarding is none the worse for it.
                tracing::warn!("whether the programs are on their interfaces cannot be told: {error:#}");
                self.rests_until = Some(Instant::now() + REST);
                return;
            }
        };
        tracing::warn!("{} of {} programs are off their interfaces", loose.len(), self.placed.ports.len());
        self.move_to(Balancer::Xdp, None);
    }

    /// What another balancer has to know to choose as this one does; without connections.
    fn handover(&self) -> Result<Handover> {
        Ok(Handover {
            health: health_view(&self.checks.members, &self.prober).into_iter().collect(),
            tickets: self.dataplane.read_tickets(self.plan.vips.keys().copied())?,
            ..Handover::of_plan(&self.config, &self.plan)
        })
    }

    /// Who balances, as things are now.
    fn standing(&self) -> Result<Standing> {
        if self.hand.is_some() {
            return Ok(Standing::Moving);
        }
        if !self.attaches() {
            return Ok(Standing::OpenFlow);
        }
        Ok(if self.loose_ports()?.is_empty() { Standing::Xdp } else { Standing::Detached })
    }

    /// Tells whoever may have to balance in our place.
    pub(super) fn tell(&self, connections: bool, reply: Reply<Told>) {
        let told = self.standing().and_then(|standing| Ok(Told { standing, state: self.handover()? }));
        let mut told = match told {
            Ok(told) if connections => told,
            other => return drop(reply.send(other.map_err(Denied::from))),
        };
        let (pins, settings) = (self.pins.clone(), tables::settings(&self.config.connections, &self.plan));
        tokio::task::spawn_blocking(move || {
            let told = live(&pins, &settings).map(|connections| {
                told.state.connections = connections;
                told
            });
            reply.send(told.map_err(Denied::from)).ok();
        });
    }

    /// The interfaces that have no program, and should have one.
    fn loose_ports(&self) -> Result<Vec<&str>> {
        let (loose, links) = (self.dataplane.loose_links()?, self.pins.link_paths()?);
        let is_loose = |pin: &str| {
            loose.iter().any(|path| path.ends_with(pin)) || !links.iter().any(|path| path.ends_with(pin))
        };
        let ports = self.placed.ports.iter().filter(|port| is_loose(&port.pin_name()));
        Ok(ports.map(|port| port.name.as_str()).collect())
    }

    /// Why it cannot be moved, if so.
    fn cannot_move(&self, to: Balancer) -> Option<String> {
        use lb_core::host::config::Mode;
        if to == Balancer::Xdp {
            return None;
        }
        if self.onearm() {
            return Some(
                "a one-armed balancer cannot hand over to flow entries: its VIPs' packets would still be led to its host; \
                 use the inline placement"
                    .to_owned(),
            );
        }
        let other = self.config.vips.iter().find(|vip| !matches!(vip.mode, Mode::Nat | Mode::Dsr))?;
        Some(format!(
            "VIP {} is in a mode that flow entries do not have: only nat and dsr can be handed over; change its mode",
            other.name
        ))
    }

    /// Goes on with the change of the balancer.
    pub(super) fn hand_goes_on(&mut self, due: Due) -> Result<()> {
        match due {
            Due::Step(Step::Tell(reply)) => {
                let handover = self.handover()?;
                let settings = tables::settings(&self.config.connections, &self.plan);
                let attached = self.loose_ports().map_or(true, |loose| loose.len() < self.placed.ports.len());
                reply.send(Known { handover, settings, pins: self.pins.clone(), attached }).ok();
            }
            Due::Step(Step::Hand(handing, reply)) => {
                self.handing = handing;
                reply.send(self.write_settings()).ok();
            }
            Due::Step(Step::Attach(on, reply)) => {
                reply.send(self.attach_or_detach(on)).ok();
            }
            Due::Step(Step::Withdraw(reply)) => {
                let from = self.hand.as_ref().map_or(self.record.balancer, |hand| hand.from);
                let withdrawn = self.attach_or_detach(false).and_then(|()| {
                    self.record.balancer = from;
                    self.record.write(&self.run_dir)
                });
                reply.send(withdrawn).ok();
            }
            Due::Ended(end) => {
                let reply = self.hand.take().and_then(|hand| hand.reply);
                // Whatever went wrong, what is attached balances.
                if self.handing != Handing::No {
                    self.handing = Handing::No;
                    self.write_settings()?;
                }
                match &end {
                    Ok(moved) => tracing::info!(
                        "balanced by {} now: {} connections moved in {} ms",
                        moved.balancer,
                        moved.connections,
                        moved.took_ms
                    ),
                    Err(error) => {
                        tracing::error!("the balancer was not changed: {error:#}");
                        self.rests_until = Some(Instant::now() + REST);
                    }
                }
                if let Some(reply) = reply {
                    reply.send(end.map_err(Denied::from)).ok();
                }
            }
        }
        Ok(())
    }

    /// The settings as configuration, plan, and a change of the balancer want them.
    pub(super) fn write_settings(&mut self) -> Result<()> {
        let settings = tables::settings(&self.config.connections, &self.plan);
        self.dataplane.write_settings(&Settings { flags: settings.flags | self.handing.flags(), ..settings })
    }

    fn attach_or_detach(&mut self, on: bool) -> Result<()> {
        self.record.balancer = if on { Balancer::Xdp } else { Balancer::OpenFlow };
        if on {
            self.placed.attach(&mut self.dataplane, &self.run_dir, &mut self.record)?;
        } else {
            for pin in self.dataplane.detach_balancer()? {
                self.record.take_program(&pin);
            }
        }
        self.record.write(&self.run_dir)
    }
}

/// The sequence's side.
struct Asker {
    steps: mpsc::Sender<Step>,
    shim: PathBuf,
}

impl Asker {
    async fn ask<T>(&self, step: impl FnOnce(oneshot::Sender<T>) -> Step) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.steps.send(step(reply)).await.ok().context("the daemon is ending")?;
        answer.await.context("the daemon is ending")
    }

    async fn to_openflow(&self) -> Result<Moved> {
        let began = Instant::now();
        let given = self.give().await;
        let moved = match given {
            Ok(connections) => {
                self.ask(|reply| Step::Hand(Handing::Over, reply)).await??;
                // Those that were opened since; from now on there are no new ones here.
                match self.give().await {
                    Ok(all) => {
                        self.ask(|reply| Step::Attach(false, reply)).await??;
                        Ok(all.max(connections))
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        let connections = match moved {
            Ok(connections) => connections,
            Err(error) => {
                shim::release(&self.shim).await.ok();
                return Err(error);
            }
        };
        let Known { pins, .. } = self.ask(Step::Tell).await?;
        run_blocking(move || clear(&pins)).await?;
        Ok(moved_to(Balancer::OpenFlow, connections, began))
    }

    /// Gives everything to the controller, and waits until its entries are in the switches.
    async fn give(&self) -> Result<u64> {
        let Known { mut handover, settings, pins, .. } = self.ask(Step::Tell).await?;
        handover.connections = run_blocking(move || live(&pins, &settings)).await?;
        let connections = handover.connections.len() as u64;
        shim::take(&self.shim, &handover).await?;
        Ok(connections)
    }

    /// `again`: the programs should be on their interfaces, and are not.
    async fn to_xdp(&self, again: bool) -> Result<Moved> {
        let began = Instant::now();
        let connections = match self.theirs(again).await {
            Ok(theirs) => self.take_over(theirs).await?,
            Err(error) => {
                tracing::info!("nothing comes back from the controller: {error:#}");
                self.ask(|reply| Step::Hand(Handing::No, reply)).await??;
                self.attach().await?;
                0
            }
        };
        Ok(moved_to(Balancer::Xdp, connections, began))
    }

    /// The controller's connections. Where programs have gone that should be there it may not balance yet: then it is
    /// given everything first, so that what waits there goes on.
    async fn theirs(&self, again: bool) -> Result<Vec<Connection>> {
        let there = shim::connections(&self.shim).await;
        if there.is_ok() || !again || !shim::is_there(&self.shim).await {
            return Ok(there?.connections);
        }
        // Programs that still are on their interfaces open nothing from now on that would not be given.
        self.ask(|reply| Step::Hand(Handing::Over, reply)).await??;
        match tokio::time::timeout(STAND_IN_PATIENCE, self.give()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!("the controller did not take everything over: {error:#}"),
            Err(_) => tracing::info!("the controller has not taken everything over yet"),
        }
        Ok(shim::connections(&self.shim).await?.connections)
    }

    async fn attach(&self) -> Result<()> {
        let Err(error) = self.ask(|reply| Step::Attach(true, reply)).await? else { return Ok(()) };
        // Half of the ports here and half there would not know each other's connections.
        if shim::is_there(&self.shim).await {
            self.ask(Step::Withdraw).await??;
        }
        Err(error)
    }

    /// Takes over from the controller, which has these connections; how many came.
    async fn take_over(&self, theirs: Vec<Connection>) -> Result<u64> {
        self.ask(|reply| Step::Hand(Handing::Over, reply)).await??;
        let Known { pins, settings, attached, .. } = self.ask(Step::Tell).await?;
        let mut connections = run_blocking(move || {
            if attached {
                insert(&pins, &settings, &theirs, is_older).map(|inserted| inserted.made)
            } else {
                make_way(&pins, &settings, &theirs).map(|()| 0)
            }
        })
        .await?;
        self.attach().await?;
        connections += self.take_back(is_older).await?.made;
        self.ask(|reply| Step::Hand(Handing::Back, reply)).await??;
        for _ in 0..MAX_SETTLES {
            tokio::time::sleep(SETTLE).await;
            let Inserted { made, made_tcp } = self.take_back(never).await?;
            connections += made;
            if made_tcp == 0 {
                break;
            }
        }
        self.ask(|reply| Step::Hand(Handing::No, reply)).await??;
        // UDP flows that began meanwhile.
        connections += self.take_back(never).await?.made;
        shim::release(&self.shim).await?;
        Ok(connections)
    }

    /// Writes the controller's connections into the tables, where they are not there, or [`GivesWay`].
    async fn take_back(&self, gives_way: GivesWay) -> Result<Inserted> {
        let Known { pins, settings, .. } = self.ask(Step::Tell).await?;
        let Handover { connections, .. } = shim::connections(&self.shim).await?;
        run_blocking(move || insert(&pins, &settings, &connections, gives_way)).await
    }
}

fn moved_to(balancer: Balancer, connections: u64, began: Instant) -> Moved {
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Moved { balancer, connections, took_ms, changed: true }
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| anyhow!(error))?
}

/// The controller's socket in its run folder.
pub fn shim_socket(dir: &Path) -> PathBuf {
    dir.join("ofshim.sock")
}
