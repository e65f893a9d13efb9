//! All sessions together, and what the read commands see of them.

use std::collections::BTreeMap;
use std::time::Duration;

use openflow::PortNo;

use super::cookie::cookie;
use super::event::{Command, ConnId, Event, Level, Settings, Source};
use super::limit::Limiter;
use super::link::Context;
use super::report::LogKey;
use super::session::Session;
use super::switch::Switch;
use super::view;
use super::vip::{Placement, VipKnowledge};

/// The controller.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    known: VipKnowledge,
    source: Source,
    sessions: BTreeMap<ConnId, Session>,
    limiter: Limiter<LogKey>,
}

impl Controller {
    /// A controller without switches.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            known: VipKnowledge::default(),
            source: Source::None,
            sessions: BTreeMap::new(),
            limiter: Limiter::default(),
        }
    }

    /// Handles an event; `now` is the time since an origin that does not change. Gives what has to be done, in order.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Connected { conn, peer } => {
                let session = Session::new(conn, peer, &mut self.context(&mut commands, now).1);
                self.sessions.insert(conn, session);
            }
            Event::Bytes { conn, bytes } => self.bytes(conn, &bytes, &mut commands, now),
            Event::Closed { conn, reason } => {
                if let Some(session) = self.sessions.remove(&conn) {
                    let text = format!("{} disconnected: {reason}", session.name());
                    commands.push(Command::Log { level: Level::Info, text });
                }
            }
            Event::Tick => self.each(&mut commands, now, Session::tick),
            Event::Knowledge { known, source } => {
                self.source = source;
                if self.known != known {
                    self.known = known;
                    let text = format!("the balancer: {}", self.describe_knowledge());
                    commands.push(Command::Log { level: Level::Info, text });
                    self.each(&mut commands, now, Session::knowledge_changed);
                }
            }
        }
        self.sessions.retain(|_, session| !session.is_closed());
        commands
    }

    fn bytes(&mut self, conn: ConnId, bytes: &[u8], commands: &mut Vec<Command>, now: Duration) {
        let (sessions, mut ctx) = self.context(commands, now);
        let Some(session) = sessions.get_mut(&conn) else { return };
        let before = session.switch().map(Switch::dpid);
        session.bytes(bytes, &mut ctx);
        let after = session.switch().map(Switch::dpid);
        if before == after {
            return;
        }
        // It told who it is. A switch that lost its old connection may be here again before that one has ended.
        let old = sessions
            .iter_mut()
            .filter(|(other, session)| **other != conn && session.switch().map(Switch::dpid) == after);
        for (_, old) in old {
            let reason = "the same switch connected again (if this repeats: give it one address of this controller only, \
                          and each switch its own datapath id)";
            old.close_because(reason, &mut ctx);
        }
    }

    fn each(&mut self, commands: &mut Vec<Command>, now: Duration, what: fn(&mut Session, &mut Context<'_>)) {
        let (sessions, mut ctx) = self.context(commands, now);
        for session in sessions.values_mut() {
            what(session, &mut ctx);
        }
    }

    fn context<'a>(
        &'a mut self,
        commands: &'a mut Vec<Command>,
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

    fn ready(&self) -> impl Iterator<Item = (&Session, &Switch)> {
        let mut ready: Vec<_> = self
            .sessions
            .values()
            .filter(|session| session.is_ready())
            .filter_map(|session| Some((session, session.switch()?)))
            .collect();
        ready.sort_by_key(|(_, switch)| switch.dpid());
        ready.into_iter()
    }

    /// `GET /v1/status`; `listen` as it was bound, time since the same origin as in [`Self::handle`].
    #[must_use]
    pub fn status(&self, listen: &[String], now: Duration) -> view::Status {
        let switches: Vec<view::Switch> = self
            .ready()
            .map(|(session, switch)| view::Switch {
                dpid: switch.dpid().to_string(),
                openflow: session.link().version.to_string(),
                peer: session.link().peer.clone(),
                connected_s: now.saturating_sub(session.since()).as_secs(),
                ports_up: switch.ports().values().filter(|port| port.is_up()).count(),
                packet_ins: switch.counters().packet_ins,
                packet_outs: switch.counters().packet_outs,
                flow_mods: switch.counters().flow_mods,
            })
            .collect();
        view::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: now.as_secs(),
            listen: listen.to_vec(),
            openflow: self.settings.versions.iter().map(ToString::to_string).collect(),
            idle_timeout_s: self.settings.idle_timeout_s,
            hard_timeout_s: self.settings.hard_timeout_s,
            hosts: self.ready().map(|(_, switch)| switch.stations().len()).sum(),
            flows: self.ready().map(|(_, switch)| switch.entries().len()).sum(),
            switches,
            balancer: view::Balancer {
                source: self.source.word().to_owned(),
                placement: self.known.placement().word().to_owned(),
                vips: self
                    .known
                    .vips()
                    .map(|(address, mac)| view::Vip { address, mac: mac.to_string() })
                    .collect(),
                backends: self.known.backends().collect(),
            },
        }
    }

    /// `GET /v1/topology`.
    #[must_use]
    pub fn topology(&self) -> view::Topology {
        let switches = self.ready().map(|(_, switch)| {
            let mut hosts: BTreeMap<PortNo, usize> = BTreeMap::new();
            for (_, seat) in switch.stations().iter() {
                *hosts.entry(seat.port).or_default() += 1;
            }
            let ports = switch.ports().values().map(|port| view::Port {
                number: port.port_no.0,
                name: port.name.to_string(),
                mac: port.hw_addr.to_string(),
                up: port.is_up(),
                hosts: hosts.get(&port.port_no).copied().unwrap_or_default(),
            });
            view::SwitchPorts { dpid: switch.dpid().to_string(), ports: ports.collect() }
        });
        view::Topology { switches: switches.collect() }
    }

    /// `GET /v1/hosts`.
    #[must_use]
    pub fn hosts(&self, now: Duration) -> view::Hosts {
        let hosts = self.ready().flat_map(|(_, switch)| {
            switch.stations().iter().map(move |(station, seat)| view::Host {
                mac: station.mac.to_string(),
                address: seat.address,
                vlan: station.vlan,
                dpid: switch.dpid().to_string(),
                port: seat.port.0,
                age_ms: milliseconds(now.saturating_sub(seat.seen)),
            })
        });
        view::Hosts { hosts: hosts.collect() }
    }

    /// `GET /v1/flows`.
    #[must_use]
    pub fn flows(&self, now: Duration) -> view::Flows {
        let flows = self.ready().flat_map(|(_, switch)| {
            switch.entries().iter().map(move |(key, entry)| view::Flow {
                dpid: switch.dpid().to_string(),
                table: switch.layout().place(entry.purpose).0.0,
                in_port: key.in_port.0,
                vlan: key.vlan,
                src: key.src.to_string(),
                dst: key.dst.to_string(),
                out_port: entry.out.map(|port| port.0),
                purpose: entry.purpose.word().to_owned(),
                cookie: format!("{:#018x}", cookie(entry.purpose, entry.sequence).0),
                age_ms: milliseconds(now.saturating_sub(entry.since)),
            })
        });
        view::Flows { flows: flows.collect() }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
