//! The two balancers that this project descends from, as applications of the controller, for comparison and teaching:
//! POX's `ip_loadbalancer`, and the one of the NOX article, as it was and repaired.
//!
//! One of them is chosen for the whole run, in the place of the balancing that the other parts know. A packet-in that
//! has passed link discovery and the topology comes here first, and what is not taken goes on:
//!
//! ```text
//!   packet-in --> link discovery --> topology --> this --> forwarding by hub, by learning, or by nobody
//! ```

mod entry;
mod memory;
mod nox;
mod nox_packets;
pub mod pox;
mod random;
mod segment;
mod stations;

use std::collections::BTreeMap;
use std::time::Duration;

use openflow::{DatapathId, FlowRemoved, PacketInRef, PortNo};

pub use self::entry::Member;
use self::nox::Nox;
use self::nox_packets::NoxPackets;
use self::pox::Pox;
pub use self::segment::TCP;
use super::cookie::Sequence;
use super::event::Level;
use super::frame::Frame;
use super::net::Out;
use super::view;

/// Which balancer, and what a person chooses about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// POX's, as it was.
    Pox {
        /// Its own settings.
        pox: pox::Settings,
        /// The switch to balance on; `None` for the first that connects.
        dpid: Option<DatapathId>,
    },
    /// That of the NOX article, every packet through the controller.
    NoxPackets,
    /// The same repaired, with entries.
    Nox {
        /// Its own settings.
        nox: nox::Settings,
        /// The switch to balance on; `None` for the first that connects.
        dpid: Option<DatapathId>,
    },
}

pub use self::nox::Settings as NoxSettings;

impl Settings {
    /// The same; random choices begin here.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        if let Self::Pox { pox, .. } = &mut self {
            pox.seed = seed;
        }
        self
    }

    /// The word for it, as on the command line.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pox { .. } => "pox",
            Self::NoxPackets => "nox-packets",
            Self::Nox { .. } => "nox",
        }
    }
}

/// What is left to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it has been dealt with.
    Taken,
    /// It is not the balancer's: whoever forwards may have it.
    Leave,
    /// The same; if nobody forwards it is dropped, and the switch's memory freed.
    Drop,
    /// It leaves by all ports.
    Flood,
}

#[derive(Debug)]
enum Kind {
    Pox(Pox),
    NoxPackets(NoxPackets),
    Nox(Nox),
}

/// The balancer that was chosen.
#[derive(Debug)]
pub struct Classic {
    settings: Settings,
    kind: Kind,
    members: BTreeMap<DatapathId, Member>,
    /// The switch to balance on, once it is known.
    at: Option<DatapathId>,
    out: Vec<Out>,
}

impl Classic {
    /// A balancer without switches.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (kind, at) = match settings {
            Settings::Pox { pox, dpid } => (Kind::Pox(Pox::new(pox)), *dpid),
            Settings::NoxPackets => (Kind::NoxPackets(NoxPackets::default()), None),
            Settings::Nox { nox, dpid } => (Kind::Nox(Nox::new(*nox)), *dpid),
        };
        Self { settings: settings.clone(), kind, members: BTreeMap::new(), at, out: Vec::new() }
    }

    /// What has to be done since this was last asked, in order.
    pub fn take_outs(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// A switch is ready; `shared` says whether another application forwards by entries on it.
    pub fn switch_ready(&mut self, member: Member, shared: bool, now: Duration) {
        let dpid = member.dpid;
        self.members.insert(dpid, member);
        let word = self.settings.word();
        if matches!(self.kind, Kind::NoxPackets(_)) {
            return;
        }
        let at = *self.at.get_or_insert(dpid);
        if at != dpid {
            return self
                .log(Level::Warn, format!("Ignoring switch {dpid}: {word} balances on switch {at} alone"));
        }
        self.log(Level::Info, format!("{word} balances on switch {dpid}"));
        match &mut self.kind {
            Kind::Pox(pox) => {
                if shared {
                    self.out.extend(pox.show(&member));
                }
                pox.switch_ready(now);
                pox.tick(Some(&member), now, &mut self.out);
            }
            Kind::Nox(nox) => nox.switch_ready(now),
            Kind::NoxPackets(_) => {}
        }
    }

    /// A switch's connection ended.
    pub fn switch_lost(&mut self, dpid: DatapathId) {
        self.members.remove(&dpid);
    }

    /// A port came, changed or went.
    pub fn port_changed(&mut self, dpid: DatapathId, port: PortNo, up: bool) {
        if self.at == Some(dpid)
            && !up
            && let Kind::Nox(nox) = &mut self.kind
        {
            nox.port_down(self.members.get(&dpid), port, &mut self.out);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Duration) {
        let switch = self.at.and_then(|at| self.members.get(&at));
        match &mut self.kind {
            Kind::Pox(pox) => pox.tick(switch, now, &mut self.out),
            Kind::NoxPackets(nox) => nox.tick(now),
            Kind::Nox(nox) => nox.tick(switch, now, &mut self.out),
        }
    }

    /// Deals with a packet-in; what is left to do.
    pub fn packet_in(
        &mut self,
        dpid: DatapathId,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        now: Duration,
    ) -> Next {
        let here = self.at == Some(dpid);
        let Some(switch) = self.members.get(&dpid) else { return Next::Leave };
        match &mut self.kind {
            Kind::Pox(pox) if here => pox.packet_in(switch, packet, frame, now, &mut self.out),
            Kind::Pox(_) => Next::Leave,
            Kind::NoxPackets(nox) => nox.packet_in(switch, packet, frame, now, &mut self.out),
            Kind::Nox(nox) if here => nox.packet_in(switch, packet, frame, now, &mut self.out),
            Kind::Nox(_) => Next::Flood,
        }
    }

    /// Sends a packet out of these ports.
    pub fn flood(&mut self, dpid: DatapathId, packet: &PacketInRef<'_>, ports: &[PortNo]) {
        let Some(switch) = self.members.get(&dpid) else { return };
        if ports.is_empty() {
            return self.out.extend(switch.send_on(packet, Vec::new()));
        }
        for ports in ports.chunks(MAX_OUTPUTS) {
            let actions = ports.iter().map(|port| openflow::Action::output(*port)).collect();
            self.out.extend(switch.send_on(packet, actions));
        }
    }

    /// An entry of ours went.
    pub fn flow_removed(
        &mut self,
        dpid: DatapathId,
        removed: &FlowRemoved,
        sequence: Sequence,
        now: Duration,
    ) {
        if self.at == Some(dpid)
            && let Kind::Nox(nox) = &mut self.kind
        {
            nox.flow_removed(removed, sequence, now);
        }
    }

    /// The switch refused an entry of ours.
    pub fn flow_refused(&mut self, dpid: DatapathId, sequence: Sequence) {
        if self.at == Some(dpid)
            && let Kind::Nox(nox) = &mut self.kind
        {
            nox.flow_refused(sequence);
        }
    }

    /// What the read commands show of it.
    #[must_use]
    pub fn view(&self) -> view::Classic {
        let switch = self.at.map(|at| at.to_string());
        let blank = view::Classic { mode: self.settings.word().to_owned(), switch, ..Default::default() };
        match &self.kind {
            Kind::Pox(pox) => view::Classic {
                vip: Some(pox.vip()),
                servers: pox
                    .servers()
                    .map(|(address, seat)| view::Server {
                        address,
                        up: seat.is_some(),
                        mac: seat.map(|seat| seat.mac.to_string()),
                        port: seat.map(|seat| seat.port.0),
                    })
                    .collect(),
                connections: pox.flows(),
                ..blank
            },
            Kind::NoxPackets(nox) => view::Classic { connections: nox.connections(), ..blank },
            Kind::Nox(nox) => view::Classic { connections: nox.connections(), ..blank },
        }
    }

    /// The hosts that it learned: each with its address, or without one if only its MAC is known.
    #[must_use]
    pub fn hosts(&self, now: Duration) -> Vec<view::Host> {
        let here = self.at.map(|at| at.to_string()).unwrap_or_default();
        let row = |mac: openflow::MacAddr, address, dpid, port: PortNo, seen| view::Host {
            mac: mac.to_string(),
            address,
            addresses: address.map(Into::into).into_iter().collect(),
            vlan: None,
            dpid,
            port: port.0,
            age_ms: u64::try_from(now.saturating_sub(seen).as_millis()).unwrap_or(u64::MAX),
        };
        match &self.kind {
            Kind::Pox(_) => Vec::new(),
            Kind::NoxPackets(nox) => {
                let macs = nox.stations().iter();
                let macs =
                    macs.map(|((dpid, mac), seat)| row(*mac, None, dpid.to_string(), seat.port, seat.since));
                // Which switch a host's port belongs to is not noted: the fault of this one.
                let hosts = nox.hosts().map(|(address, host)| {
                    row(host.mac, Some(address), "-".to_owned(), host.port, host.seen)
                });
                macs.chain(hosts).collect()
            }
            Kind::Nox(nox) => nox
                .hosts()
                .map(|(address, host)| row(host.mac, Some(address), here.clone(), host.port, host.seen))
                .collect(),
        }
    }

    /// How many entries it knows to be on its switch: POX never asked what became of its own.
    #[must_use]
    pub fn entries(&self) -> usize {
        match &self.kind {
            Kind::Nox(nox) => nox.entries(),
            Kind::Pox(_) | Kind::NoxPackets(_) => 0,
        }
    }

    /// The entries that it knows to be on its switch.
    #[must_use]
    pub fn flows(&self, now: Duration) -> Vec<view::Flow> {
        let switch = self.at.and_then(|at| self.members.get(&at));
        match (&self.kind, switch) {
            (Kind::Nox(nox), Some(switch)) => nox.flows(switch, now),
            _ => Vec::new(),
        }
    }

    fn log(&mut self, level: Level, text: String) {
        self.out.push(Out::Log { level, text });
    }
}

/// The most outputs in one message; its length is 16 bits.
const MAX_OUTPUTS: usize = 2000;
