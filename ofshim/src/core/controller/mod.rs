//! All sessions together.

mod orders;
mod outs;
mod shown;

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::host::handover::Handover;
use openflow::{DatapathId, FlowRemovedReason, PacketInRef, READ_CHUNK_BYTES};

use super::balance;
use super::balance::proactive::FoundStanding;
use super::classic::{Classic, Member, Next};
use super::cookie::Purpose;
use super::counters::Totals;
use super::event::{Command, ConnId, Event, Forwarding, Level, Settings, Source};
use super::limit::Limiter;
use super::link::Context;
use super::net::handover::Taken;
use super::net::{Admitted, FoundRoute, Network, NewMember, Out};
use super::outbox::Outbox;
use super::report::LogKey;
use super::session::{Raised, Session};
use super::switch::{Shown, Switch};
use super::topo::Place;
use super::vip::{Placement, VipKnowledge};

/// The controller.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    known: VipKnowledge,
    source: Source,
    sessions: BTreeMap<ConnId, Session>,
    /// The ready connection of each switch.
    by_dpid: BTreeMap<DatapathId, ConnId>,
    /// Connections that say they are a switch that is connected already, and until when the old one may prove it.
    contests: BTreeMap<ConnId, (ConnId, Duration)>,
    network: Network,
    /// The seed balancer that was chosen.
    classic: Option<Classic>,
    limiter: Limiter<LogKey>,
    totals: Totals,
    ticked: Duration,
    /// How many events there were.
    events: u64,
}

/// How long a connected switch may take to answer when another one comes with its datapath id.
const CONTEST: Duration = Duration::from_secs(1);
/// Time between two ticks that says that this controller itself was late.
const LATE: Duration = Duration::from_secs(2);

impl Controller {
    /// A controller without switches.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let known = settings.balancing.as_ref().map(|balancing| balance::knowledge(&balancing.config));
        Self {
            network: Network::new(settings.network()),
            classic: settings.classic.as_ref().map(Classic::new),
            source: if known.is_some() { Source::File } else { Source::None },
            known: known.unwrap_or_default(),
            settings,
            sessions: BTreeMap::new(),
            by_dpid: BTreeMap::new(),
            contests: BTreeMap::new(),
            limiter: Limiter::default(),
            totals: Totals::default(),
            ticked: Duration::ZERO,
            events: 0,
        }
    }

    /// Handles an event; `now` is the time since an origin that does not change. Gives what has to be done, in order.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Command> {
        self.events += 1;
        let expected_bytes = if let Event::Bytes { bytes, .. } = &event { bytes.len() * 2 } else { 0 };
        let mut commands = Outbox::new(self.events, expected_bytes);
        match event {
            Event::Connected { conn, peer } => {
                self.totals.opened += 1;
                let session = Session::new(conn, peer, &mut self.context(&mut commands, now).1);
                self.sessions.insert(conn, session);
            }
            Event::Bytes { conn, bytes } => {
                for chunk in bytes.chunks(READ_CHUNK_BYTES) {
                    self.bytes(conn, chunk, &mut commands, now);
                }
            }
            Event::Closed { conn, reason } => {
                if let Some(session) = self.sessions.get_mut(&conn) {
                    let text = format!("{} disconnected: {reason}", session.name());
                    commands.push(Command::Log { level: Level::Info, text });
                    session.forget();
                }
            }
            Event::Tick => self.tick(&mut commands, now),
            // What this controller itself balances, nobody else tells.
            Event::Knowledge { .. } if self.settings.balancing.is_some() => {}
            Event::Knowledge { known, source } => {
                self.source = source;
                self.network.knowledge_for_later(&known);
                if self.known != known && !self.network.follows() {
                    self.network.knowledge_changed(&known);
                    self.follow_network(&mut commands, now);
                    let text = format!("the balancer: {}", self.describe_knowledge());
                    commands.push(Command::Log { level: Level::Info, text });
                }
            }
            Event::Told { told, asked } => self.network.told(*told, asked, now),
        }
        self.follow_network(&mut commands, now);
        self.bury(&mut commands, now);
        self.obey_network(&mut commands, now);
        commands.into_commands()
    }

    /// What the network knows of the balancer is what all sessions know.
    fn follow_network(&mut self, commands: &mut Outbox, now: Duration) {
        if self.known != *self.network.known() {
            self.known = self.network.known().clone();
            self.each(commands, now, Session::knowledge_changed);
        }
    }

    /// Begins to balance in the place of a daemon; [`Self::take_done`] tells the end.
    ///
    /// # Errors
    /// Another hand-over is under way, or flow entries cannot do what is asked for; then nothing has changed. One line.
    pub fn take(&mut self, given: &Handover, now: Duration) -> Result<Vec<Command>, String> {
        self.network.take(given, now)?;
        Ok(self.after_order(now))
    }

    /// What became of the hand-over that was asked for, once.
    pub fn take_done(&mut self) -> Option<Result<Taken, String>> {
        self.network.take_done()
    }

    /// All that a daemon has to know to balance again.
    ///
    /// # Errors
    /// This controller does not balance for a daemon. One line.
    pub fn handover(&self, now: Duration) -> Result<Handover, String> {
        self.network.handover(now)
    }

    /// Stops balancing for a daemon; how many connections had entries.
    ///
    /// # Errors
    /// This controller does not balance for a daemon. One line.
    pub fn release(&mut self, now: Duration) -> Result<(usize, Vec<Command>), String> {
        let connections = self.network.release(now)?;
        Ok((connections, self.after_order(now)))
    }

    fn after_order(&mut self, now: Duration) -> Vec<Command> {
        self.events += 1;
        let mut commands = Outbox::new(self.events, 0);
        self.follow_network(&mut commands, now);
        self.obey_network(&mut commands, now);
        commands.into_commands()
    }

    /// When there is something to do that should not wait for the next regular tick.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.network.next_wake()
    }

    fn bytes(&mut self, conn: ConnId, bytes: &[u8], commands: &mut Outbox, now: Duration) {
        let (sessions, mut ctx) = self.context(commands, now);
        let Some(session) = sessions.get_mut(&conn) else { return };
        let mut framer = session.feed(bytes, &mut ctx);
        while let Some(frame) = framer.next_frame_ref() {
            let Self { settings, known, limiter, sessions, network, classic, .. } = self;
            let mut ctx = Context { settings, known, limiter, commands, now };
            let Some(session) = sessions.get_mut(&conn) else { break };
            match session.handle(frame, &mut ctx) {
                None => continue,
                Some(Raised::PacketIn(packet)) => {
                    packet_in(session, network, classic.as_mut(), &packet, &mut ctx);
                }
                Some(raised) => self.raised(conn, raised, commands, now),
            }
            self.obey_network(commands, now);
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.give_back(framer);
        }
    }

    fn tick(&mut self, commands: &mut Outbox, now: Duration) {
        let passed = now.saturating_sub(self.ticked);
        if passed >= LATE && self.ticked != Duration::ZERO {
            self.sessions.values_mut().for_each(|session| session.excuse(passed));
        }
        self.ticked = now;
        self.each(commands, now, Session::tick);
        let over: Vec<_> = self
            .contests
            .iter()
            .filter(|(_, (_, until))| now >= *until)
            .map(|(new, (old, _))| (*new, *old))
            .collect();
        for (_, old) in over {
            let (sessions, mut ctx) = self.context(commands, now);
            if let Some(old) = sessions.get_mut(&old) {
                old.close_because("the same switch connected again, and this connection is silent", &mut ctx);
            }
        }
        self.bury(commands, now);
        self.network.tick(now);
        if let Some(classic) = &mut self.classic {
            classic.tick(now);
        }
    }

    fn each(&mut self, commands: &mut Outbox, now: Duration, what: fn(&mut Session, &mut Context<'_>)) {
        let (sessions, mut ctx) = self.context(commands, now);
        for session in sessions.values_mut() {
            what(session, &mut ctx);
        }
    }

    fn context<'a>(
        &'a mut self,
        commands: &'a mut Outbox,
        now: Duration,
    ) -> (&'a mut BTreeMap<ConnId, Session>, Context<'a>) {
        let ctx = Context {
            settings: &self.settings,
            known: &self.known,
            limiter: &mut self.limiter,
            commands,
            now,
        };
        (&mut self.sessions, ctx)
    }

    /// Handles what a session says about more than itself.
    fn raised(&mut self, conn: ConnId, raised: Raised<'_>, commands: &mut Outbox, now: Duration) {
        let dpid = self.sessions.get(&conn).and_then(Session::switch).map(Switch::dpid);
        let Some(dpid) = dpid else { return };
        match raised {
            Raised::Named => self.named(conn, dpid, commands, now),
            Raised::Ready(found, standing) => self.ready_switch(conn, found, standing, commands, now),
            Raised::Groups(groups) => self.network.groups_listed(dpid, &groups),
            Raised::CannotTrack => self.network.cannot_track(dpid),
            // Dealt with where it came from.
            Raised::PacketIn(_) => {}
            Raised::Port(number, port) => {
                self.network.port_changed(dpid, number, port.as_ref(), now);
                if let Some(classic) = &mut self.classic {
                    classic.port_changed(dpid, number, port.is_some_and(|port| port.is_up()));
                }
            }
            Raised::Removed(Purpose::Ahead, removed, _) => {
                if removed.reason == FlowRemovedReason::Delete {
                    self.network.ahead_removed(dpid, &removed.match_);
                }
            }
            Raised::Removed(Purpose::Steer, removed, sequence) => {
                self.network.steer_removed(dpid, &removed.match_, sequence);
            }
            Raised::Removed(Purpose::Pinned, removed, sequence) => {
                if let Some(classic) = &mut self.classic {
                    classic.flow_removed(dpid, &removed, sequence, now);
                }
            }
            Raised::Removed(Purpose::Balance, removed, sequence) => {
                self.network.leg_removed(dpid, &removed, sequence, now);
            }
            Raised::Removed(Purpose::Standing, removed, sequence) => {
                self.network.standing_removed(dpid, removed.reason, sequence);
            }
            Raised::Removed(Purpose::Watch, ..) => self.network.watch_removed(dpid),
            Raised::Removed(_, removed, sequence) => {
                self.network.flow_removed(dpid, &removed.match_, sequence);
            }
            Raised::Refused(Purpose::Steer, sequence) => self.network.steer_refused(dpid, sequence),
            Raised::Refused(Purpose::Pinned, sequence) => {
                if let Some(classic) = &mut self.classic {
                    classic.flow_refused(dpid, sequence);
                }
            }
            Raised::Refused(Purpose::Balance, sequence) => self.network.leg_refused(dpid, sequence, now),
            // Without them it goes on as with other switches.
            Raised::Refused(Purpose::Watch, _) => {}
            Raised::Refused(_, sequence) => self.network.flow_refused(dpid, sequence),
            Raised::Confirmed(token) => self.network.barrier_done(token, now),
            Raised::PortStats(ports) => self.network.port_stats(dpid, &ports, now),
            Raised::RoundTrip(time) => {
                self.network.control_latency(dpid, time / 2);
                self.old_one_lives(conn, commands, now);
            }
        }
    }

    /// A connection says which switch it is. One that is connected already is asked whether it lives.
    fn named(&mut self, conn: ConnId, dpid: DatapathId, commands: &mut Outbox, now: Duration) {
        let same = |(other, session): (&ConnId, &Session)| {
            let named = session.switch().is_some_and(|switch| switch.dpid() == dpid);
            (named && *other != conn && !session.is_closed()).then_some(*other)
        };
        let old = self.sessions.iter().find_map(same);
        let (sessions, mut ctx) = self.context(commands, now);
        match old.and_then(|old| Some((old, sessions.get_mut(&old)?))) {
            Some((old, session)) => {
                session.ask(&mut ctx);
                self.contests.insert(conn, (old, now + CONTEST));
            }
            None => {
                if let Some(session) = sessions.get_mut(&conn) {
                    session.go_on(&mut ctx);
                }
            }
        }
    }

    /// A connection whose datapath id another one claims has answered: the other one is refused.
    fn old_one_lives(&mut self, old: ConnId, commands: &mut Outbox, now: Duration) {
        let claims: Vec<ConnId> =
            self.contests.iter().filter(|(_, (of, _))| *of == old).map(|(new, _)| *new).collect();
        for new in claims {
            self.contests.remove(&new);
            let (sessions, mut ctx) = self.context(commands, now);
            if let Some(session) = sessions.get_mut(&new) {
                let reason = "a switch with this datapath id is connected already and answers (give a switch one \
                              address of this controller only, and each switch its own datapath id)";
                session.close_because(reason, &mut ctx);
            }
        }
    }

    /// A switch's handshake is done. What the network wants changed on it goes there together.
    fn ready_switch(
        &mut self,
        conn: ConnId,
        found: Vec<FoundRoute>,
        standing: FoundStanding,
        commands: &mut Outbox,
        now: Duration,
    ) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let Some(switch) = session.switch() else { return };
        self.by_dpid.insert(switch.dpid(), conn);
        let new = NewMember {
            dpid: switch.dpid(),
            layout: switch.layout(),
            version: session.link().version,
            ports: switch.ports().values().cloned().collect(),
            nicira: switch.knows_nicira(),
            found,
            standing,
        };
        let to = new.dpid;
        let member = Member { dpid: to, layout: new.layout, version: new.version };
        self.network.switch_ready(new, now);
        if let Some(classic) = &mut self.classic {
            classic.switch_ready(member, self.settings.forwarding == Forwarding::Learning, now);
        }
        let (mut changes, mut others) = (Vec::new(), Vec::new());
        for out in self.network.take_outs() {
            match out {
                Out::FlowMod { dpid, flow_mod } if dpid == to => changes.push(*flow_mod),
                other => others.push(other),
            }
        }
        let (sessions, mut ctx) = self.context(commands, now);
        if let Some(session) = sessions.get_mut(&conn) {
            session.change(changes, &mut ctx);
        }
        self.obey(others, commands, now);
    }

    /// Takes out connections that are over, and lets those go on that waited for their end.
    fn bury(&mut self, commands: &mut Outbox, now: Duration) {
        let over: Vec<ConnId> =
            self.sessions.iter().filter(|(_, session)| session.is_closed()).map(|(conn, _)| *conn).collect();
        for conn in over {
            self.contests.remove(&conn);
            let session = self.sessions.remove(&conn);
            if let Some(session) = &session {
                self.totals.ended(session.link());
            }
            let dpid = session.and_then(|session| Some(session.switch()?.dpid()));
            if let Some(dpid) = dpid
                && self.by_dpid.get(&dpid) == Some(&conn)
            {
                self.by_dpid.remove(&dpid);
                self.network.switch_lost(dpid, now);
                if let Some(classic) = &mut self.classic {
                    classic.switch_lost(dpid);
                }
            }
            let waited: Vec<ConnId> =
                self.contests.iter().filter(|(_, (old, _))| *old == conn).map(|(new, _)| *new).collect();
            for new in waited {
                self.contests.remove(&new);
                let (sessions, mut ctx) = self.context(commands, now);
                if let Some(session) = sessions.get_mut(&new) {
                    session.go_on(&mut ctx);
                }
            }
        }
    }

    fn describe_knowledge(&self) -> String {
        let vips: Vec<String> =
            self.known.vips().map(|(address, mac)| format!("{address} ({mac})")).collect();
        let host = match self.known.placement() {
            Placement::OneArm { host_mac: Some(mac) } => format!(" at {mac}"),
            _ => String::new(),
        };
        format!(
            "{}{host}, {} backends, VIPs {}, from the {}",
            self.known.placement().word(),
            self.known.backends().count(),
            if vips.is_empty() { "none".to_owned() } else { vips.join(", ") },
            self.source.word()
        )
    }

    /// What is known of the balancer, and where it comes from.
    #[must_use]
    pub const fn knowledge(&self) -> (&VipKnowledge, Source) {
        (&self.known, self.source)
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }
}

/// Takes a packet through the stages that all ways of forwarding share, then to the seed balancer if there is one, and
/// lets the switch forward it if it learns by itself.
fn packet_in(
    session: &mut Session,
    network: &mut Network,
    classic: Option<&mut Classic>,
    packet: &PacketInRef<'_>,
    ctx: &mut Context<'_>,
) {
    let Some((switch, link)) = session.parts() else { return };
    let dpid = switch.dpid();
    let forwarding = ctx.settings.forwarding;
    let shown = match &classic {
        Some(_) if forwarding == Forwarding::Learning => Shown::ArpAndTcp,
        None if ctx.settings.stands() => Shown::ArpAndIp,
        None if ctx.settings.proactive => Shown::Arp,
        _ => Shown::Nothing,
    };
    let Some(frame) = switch.admit(packet, shown) else {
        return switch.free_buffer(packet, link, ctx);
    };
    if network.packet_in(dpid, packet, &frame, ctx.now) == Admitted::Done {
        return;
    }
    let flood = || network.flood_ports(Place::new(dpid, packet.in_port));
    let next = match classic {
        Some(classic) => match classic.packet_in(dpid, packet, &frame, ctx.now) {
            Next::Flood => {
                classic.flood(dpid, packet, &flood());
                Next::Taken
            }
            next => next,
        },
        None => Next::Leave,
    };
    match next {
        Next::Taken | Next::Flood => {}
        // What a forwarding application sends on is used up: the balancer's drop frees a packet that nobody wants.
        Next::Leave | Next::Drop if forwarding != Forwarding::None => {
            switch.packet_in(packet, &frame, flood, link, ctx);
        }
        Next::Drop => switch.free_buffer(packet, link, ctx),
        Next::Leave => {}
    }
}
