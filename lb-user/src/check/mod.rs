//! The checks of backends' services, as frames: without sockets or clock.
//!
//! The balancer has no address in the hosts' network, and the kernel under it must not see the answers. So a check is a
//! small client of its own ([`Checker`]) with an address that only checks have (`probe_address`): its frames leave by
//! the port where the prober found the backend, addressed to the backend's MAC, and what comes back passes XDP, which
//! knows neither a VIP nor a connection of that address, to the prober's packet socket.
//!
//! ```text
//!  lb: Checker --frames--> packet socket on the backend's port --------------------> backend
//!         ^                                                                            |
//!         +---- packet socket <---- XDP: not ours, pass <---- port <-- answer to the --+
//!                                                                      probe address
//! ```
//!
//! Where nothing translates the VIP's address on the way (DSR), the packet is addressed to the VIP and the frame to the
//! backend's MAC: what is asked is what clients will ask.
//!
//! TCP is smoltcp's (`stream`); echo and datagrams are a packet each (`wire`). Every run has a source port (or echo
//! identifier) of its own, by which answers find it.

mod http;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_core::host::config::CheckKind;
use lb_core::host::health::Failure;

use self::stream::{Stream, Talk};
use self::wire::{Heard, What};
use crate::io::mac::Mac;

/// The source ports of checks, the dynamic ones (RFC 6335, 6).
const FIRST_PORT: u16 = 49_152;
const PORTS: usize = 16_384;
/// How long a stream that has passed may take to close, so that the service sees an orderly end.
const CLOSING_NS: u64 = 2_000_000_000;
/// How soon a stream is looked at again at the earliest.
const SOONEST_NS: u64 = 1_000_000;

/// What one run asks, and where.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is asked.
    pub kind: CheckKind,
    /// The address that is asked.
    pub target: IpAddr,
    /// The port that is asked; of no meaning to ICMP.
    pub port: u16,
    /// The probe address.
    pub source: IpAddr,
    /// By which port of the switch.
    pub way: Way,
}

/// Where frames of a run go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The slot of the port that they leave by.
    pub slot: u16,
    /// The MAC that they are from.
    pub from: Mac,
    /// The backend's MAC.
    pub to: Mac,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is connected, and waits for the service's own answer.
    Connected,
    /// It is over.
    Done(Result<(), Failure>),
}

/// A frame that is to be sent by the port of a slot.
pub type Outgoing = (u16, Vec<u8>);

/// All runs under way.
#[derive(Default)]
pub struct Checker {
    runs: BTreeMap<u16, Run>,
    /// The source port of each run that has no result yet.
    ports: BTreeMap<u32, u16>,
    last_port: u16,
    /// When which run, by its source port, has something to do by itself.
    agenda: BTreeSet<(u64, u16)>,
}

struct Run {
    number: u32,
    order: Order,
    talk: Ways,
    /// It has its result, and only closes.
    closing_until: Option<u64>,
    /// Its place in the agenda.
    agenda: Option<u64>,
}

/// The ways to ask.
enum Ways {
    Echo,
    Datagram,
    Stream(Box<Stream>),
}

impl Checker {
    /// Begins a run, named `number`, at time `now` (ns). The frames that begin it; `None` when all source ports are in
    /// use.
    pub fn start(&mut self, number: u32, order: Order, now: u64) -> Option<Vec<Outgoing>> {
        let port = self.free_port()?;
        let (source, target) = (order.source, order.target);
        let (talk, packets) = match &order.kind {
            CheckKind::Icmp => (Ways::Echo, vec![wire::echo_request(source, target, port, number as u16)?]),
            CheckKind::Udp { send, .. } => {
                let (from, to) = (SocketAddr::new(source, port), SocketAddr::new(target, order.port));
                (Ways::Datagram, vec![wire::datagram(from, to, send.as_bytes())?])
            }
            CheckKind::Tcp { .. } | CheckKind::Http { .. } => {
                let (from, to) = (SocketAddr::new(source, port), SocketAddr::new(target, order.port));
                let mut stream = Stream::open(from, to, Talk::new(&order.kind, to), u64::from(number), now)?;
                stream.poll(now);
                let packets = stream.outgoing();
                (Ways::Stream(Box::new(stream)), packets)
            }
        };
        let frames = frames(&order.way, packets);
        self.runs.insert(port, Run { number, order, talk, closing_until: None, agenda: None });
        self.ports.insert(number, port);
        self.note(port, now);
        Some(frames)
    }

    /// Gives a run up; the frames that tell its other end.
    pub fn stop(&mut self, number: u32, now: u64) -> Vec<Outgoing> {
        let Some(mut run) = self.ports.remove(&number).and_then(|port| self.forget(port)) else {
            return Vec::new();
        };
        match &mut run.talk {
            Ways::Echo | Ways::Datagram => Vec::new(),
            Ways::Stream(stream) => {
                stream.abort(now);
                frames(&run.order.way, stream.outgoing())
            }
        }
    }

    /// Takes in a frame received at `now`: what it says about which run, and the frames that answer it.
    pub fn receive(&mut self, frame: &[u8], now: u64) -> (Option<(u32, News)>, Vec<Outgoing>) {
        let nothing = (None, Vec::new());
        let Some(heard) = wire::parse(frame) else { return nothing };
        let Some(run) = self.runs.get_mut(&heard.port) else { return nothing };
        if heard.destination != run.order.source {
            return nothing;
        }
        let news = run.take(&heard, now);
        let answer = match &mut run.talk {
            Ways::Stream(stream) => frames(&run.order.way, stream.outgoing()),
            Ways::Echo | Ways::Datagram => Vec::new(),
        };
        let told = news.filter(|_| run.closing_until.is_none()).map(|news| (run.number, news));
        self.settle(heard.port, told, now);
        (told, answer)
    }

    /// Repeats what was lost, and forgets streams that do not close: the frames to send.
    pub fn poll(&mut self, now: u64) -> Vec<Outgoing> {
        let mut out = Vec::new();
        while let Some((_, port)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            let Some(run) = self.runs.get_mut(&port) else {
                self.agenda.pop_first();
                continue;
            };
            if run.closing_until.is_some_and(|until| until <= now) {
                self.forget(port);
                continue;
            }
            if let Ways::Stream(stream) = &mut run.talk {
                stream.poll(now);
                out.extend(frames(&run.order.way, stream.outgoing()));
            }
            self.note(port, now);
        }
        out
    }

    /// When [`Self::poll`] has something to do.
    pub fn next_poll(&self) -> Option<u64> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Puts a run's next time into the agenda; always ahead of `now`.
    fn note(&mut self, port: u16, now: u64) {
        let Some(run) = self.runs.get_mut(&port) else { return };
        if let Some(at) = run.agenda.take() {
            self.agenda.remove(&(at, port));
        }
        let stream = match &mut run.talk {
            Ways::Stream(stream) => stream.next_poll(now),
            Ways::Echo | Ways::Datagram => None,
        };
        if let Some(at) = stream.into_iter().chain(run.closing_until).min() {
            let at = at.max(now.saturating_add(SOONEST_NS));
            run.agenda = Some(at);
            self.agenda.insert((at, port));
        }
    }

    /// Takes a run out, and its place in the agenda.
    fn forget(&mut self, port: u16) -> Option<Run> {
        let run = self.runs.remove(&port)?;
        if let Some(at) = run.agenda {
            self.agenda.remove(&(at, port));
        }
        Some(run)
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// Ends a run that has its result, at once or after its stream is closed.
    fn settle(&mut self, port: u16, told: Option<(u32, News)>, now: u64) {
        let Some(run) = self.runs.get_mut(&port) else { return };
        if let Some((number, News::Done(_))) = told {
            self.ports.remove(&number);
            run.closing_until = Some(now.saturating_add(CLOSING_NS));
        }
        let closed = match &run.talk {
            Ways::Echo | Ways::Datagram => true,
            Ways::Stream(stream) => stream.is_closed(),
        };
        if run.closing_until.is_some() && closed {
            self.forget(port);
        } else {
            self.note(port, now);
        }
    }

    fn free_port(&mut self) -> Option<u16> {
        if self.runs.len() >= PORTS {
            return None;
        }
        loop {
            self.last_port = if self.last_port < FIRST_PORT || self.last_port == u16::MAX {
                FIRST_PORT
            } else {
                self.last_port + 1
            };
            if !self.runs.contains_key(&self.last_port) {
                return Some(self.last_port);
            }
        }
    }
}

impl Run {
    /// What a packet means to this run.
    fn take(&mut self, heard: &Heard<'_>, now: u64) -> Option<News> {
        let from_target = heard.source == self.order.target;
        match (&mut self.talk, &heard.what) {
            (Ways::Echo, What::EchoReply { sequence }) if from_target => {
                (*sequence == self.number as u16).then_some(News::Done(Ok(())))
            }
            (Ways::Datagram, What::Datagram { port, payload }) if from_target && *port == self.order.port => {
                let CheckKind::Udp { expect, .. } = &self.order.kind else { return None };
                let good = expect.as_ref().is_none_or(|text| contains(payload, text.as_bytes()));
                Some(News::Done(if good { Ok(()) } else { Err(Failure::NotExpected) }))
            }
            (Ways::Stream(stream), What::Segment { packet }) if from_target => {
                stream.take(packet.to_vec());
                stream.poll(now)
            }
            // From a router, or the host itself: what is quoted is ours.
            (talk, What::Unreachable { protocol, target, failure }) => {
                let asked = match talk {
                    Ways::Echo => wire::Protocol::Icmp,
                    Ways::Datagram => wire::Protocol::Udp,
                    Ways::Stream(_) => wire::Protocol::Tcp,
                };
                (asked == *protocol && *target == self.order.target).then_some(News::Done(Err(*failure)))
            }
            _ => None,
        }
    }
}

/// Whether `text` is somewhere in `bytes`; the empty text is.
fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}

fn frames(way: &Way, packets: Vec<Vec<u8>>) -> Vec<Outgoing> {
    packets.into_iter().map(|packet| (way.slot, wire::frame(way.to, way.from, &packet))).collect()
}
