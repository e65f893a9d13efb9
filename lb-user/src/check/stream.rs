//! A TCP connection of a check: smoltcp underneath, one question and its answer on top.

use std::collections::VecDeque;
use std::net::SocketAddr;

use lb_core::host::config::{CheckKind, MAX_ANSWER_BYTES};
use lb_core::host::health::Failure;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::News;
use super::http::{self, Answer};

/// What fits every network that carries IPv6 (RFC 8200, 5): the answers' segments are no longer.
const MTU: usize = 1280;
const SEND_BYTES: usize = 4096;
/// Also the window, so no burst of the service is longer.
const RECEIVE_BYTES: usize = 4096;

/// What is said in a connection.
pub struct Talk {
    request: Vec<u8>,
    reader: Reader,
}

/// What makes an answer good.
enum Reader {
    /// Being connected.
    Connected,
    /// This text somewhere in it.
    Text { expect: Vec<u8>, seen: Vec<u8> },
    /// An HTTP answer.
    Http(Answer),
}

impl Talk {
    /// The talk of a kind of check with `target`; those without a stream only connect.
    pub fn new(kind: &CheckKind, target: SocketAddr) -> Self {
        match kind {
            CheckKind::Tcp { send, expect: Some(expect) } => Self {
                request: send.clone().unwrap_or_default().into_bytes(),
                reader: Reader::Text { expect: expect.clone().into_bytes(), seen: Vec::new() },
            },
            CheckKind::Http { path, host, status, expect } => Self {
                request: http::request(path, host.as_deref(), target),
                reader: Reader::Http(Answer::new(*status, expect.as_deref())),
            },
            CheckKind::Icmp | CheckKind::Tcp { .. } | CheckKind::Udp { .. } => {
                Self { request: Vec::new(), reader: Reader::Connected }
            }
        }
    }
}

impl Reader {
    /// Takes in what was received; `Some` when that decides.
    fn read(&mut self, bytes: &[u8]) -> Option<Result<(), Failure>> {
        match self {
            Self::Connected => Some(Ok(())),
            Self::Text { expect, seen } => {
                seen.extend(bytes);
                if super::contains(seen, expect) {
                    return Some(Ok(()));
                }
                (seen.len() > MAX_ANSWER_BYTES).then_some(Err(Failure::NotExpected))
            }
            Self::Http(answer) => answer.read(bytes),
        }
    }

    /// The other end has nothing more to say.
    fn end(&self) -> Result<(), Failure> {
        match self {
            Self::Connected => Ok(()),
            Self::Text { seen, .. } if seen.is_empty() => Err(Failure::Closed),
            Self::Text { .. } => Err(Failure::NotExpected),
            Self::Http(answer) => answer.end(),
        }
    }
}

/// One connection.
pub struct Stream {
    queue: Queue,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    talk: Talk,
    sent: usize,
    connected: bool,
    decided: bool,
}

impl Stream {
    /// Begins to connect; `None` if the addresses are not of one family. `seed` makes its sequence numbers its own.
    pub fn open(from: SocketAddr, to: SocketAddr, talk: Talk, seed: u64, now: u64) -> Option<Self> {
        if from.is_ipv4() != to.is_ipv4() {
            return None;
        }
        let mut queue = Queue::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = lb_core::host::seed::mix(seed ^ now);
        let mut interface = Interface::new(config, &mut queue, instant(now));
        interface.update_ip_addrs(|addresses| {
            // Everything is on this link: the frame's MAC says to whom.
            addresses.push(IpCidr::new(IpAddress::from(from.ip()), 0)).ok();
        });
        let mut socket =
            Socket::new(SocketBuffer::new(vec![0; RECEIVE_BYTES]), SocketBuffer::new(vec![0; SEND_BYTES]));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.connect(interface.context(), to, from).ok()?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Some(Self { queue, interface, sockets, handle, talk, sent: 0, connected: false, decided: false })
    }

    /// Hands in a received IP packet; [`Self::poll`] works on it.
    pub fn take(&mut self, packet: Vec<u8>) {
        self.queue.received.push_back(packet);
    }

    /// IP packets to send.
    pub fn outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.queue.sent)
    }

    /// Works on what was received and what is due; says each thing once.
    pub fn poll(&mut self, now: u64) -> Option<News> {
        self.interface.poll(instant(now), &mut self.queue, &mut self.sockets);
        let news = self.talk();
        // What was just written, or the end.
        self.interface.poll(instant(now), &mut self.queue, &mut self.sockets);
        news
    }

    /// When it has to be polled next, in ns.
    pub fn next_poll(&mut self, now: u64) -> Option<u64> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1_000))
    }

    /// Resets it.
    pub fn abort(&mut self, now: u64) {
        self.decided = true;
        self.socket().abort();
        self.interface.poll(instant(now), &mut self.queue, &mut self.sockets);
    }

    /// Whether nothing more will be sent.
    pub fn is_closed(&self) -> bool {
        let state = self.sockets.get::<Socket<'_>>(self.handle).state();
        matches!(state, State::Closed | State::TimeWait) && self.queue.sent.is_empty()
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn talk(&mut self) -> Option<News> {
        if self.decided {
            self.drain();
            return None;
        }
        let just_connected = !self.connected && self.socket().may_send();
        self.connected |= just_connected;
        if let Some(result) = self.result() {
            self.decided = true;
            match result {
                // An orderly end: the service has done nothing wrong.
                Ok(()) => self.socket().close(),
                Err(_) => self.socket().abort(),
            }
            return Some(News::Done(result));
        }
        just_connected.then_some(News::Connected)
    }

    /// What the connection's state and what was received come to, if they decide.
    fn result(&mut self) -> Option<Result<(), Failure>> {
        if !self.connected {
            return (self.socket().state() == State::Closed).then_some(Err(Failure::Refused));
        }
        if let Reader::Connected = self.talk.reader {
            return Some(Ok(()));
        }
        if self.sent < self.talk.request.len() {
            let rest = self.talk.request.get(self.sent..).unwrap_or_default().to_vec();
            self.sent += self.socket().send_slice(&rest).unwrap_or(0);
        }
        let mut bytes = [0; RECEIVE_BYTES];
        while let Some(got) = self.socket().recv_slice(&mut bytes).ok().filter(|got| *got > 0) {
            if let Some(result) = self.talk.reader.read(bytes.get(..got).unwrap_or_default()) {
                return Some(result);
            }
        }
        (!self.socket().may_recv()).then(|| self.talk.reader.end())
    }

    /// Throws away what comes after the decision, so that the window stays open until the other end closes.
    fn drain(&mut self) {
        let mut bytes = [0; RECEIVE_BYTES];
        while self.socket().recv_slice(&mut bytes).is_ok_and(|got| got > 0) {}
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1_000).unwrap_or(i64::MAX))
}

/// The device under an interface: IP packets in and out.
#[derive(Default)]
struct Queue {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);

struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Queue {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        Some((Received(self.received.pop_front()?), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // On a veth the sender may have left its checksum to a device that is not there.
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}
