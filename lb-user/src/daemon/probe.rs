//! Probes on the wire: one packet socket for each port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_core::host::addr::MacAddr;
use lb_core::host::health::{Destination, Event, Neighbour, Station};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::io::mac::Mac;
use crate::io::netns::{NetNs, NsId};
use crate::io::packet::{PacketError, PacketSocket, Received};
use crate::io::sys;
use crate::io::{arp, filter, ndp};

use super::place::{Placed, Port};

/// How long to wait before reading a socket again that said an error.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A frame that came in by a port.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The slot of the port.
    pub slot: u16,
    /// The frame.
    pub received: Received,
}

impl Arrival {
    /// What it means to the prober: the sender is there.
    pub fn event(&self) -> Option<Event> {
        let frame = &self.received.frame;
        let (backend, mac) = match (arp::parse(frame), ndp::parse(frame)) {
            (Some(arp), _) if !arp.sender_ip.is_unspecified() && arp.says_where() => {
                (IpAddr::V4(arp.sender_ip), arp.sender_mac)
            }
            (_, Some(ndp)) if ndp.kind == ndp::Kind::Advertisement => {
                (IpAddr::V6(ndp.target), ndp.mac.unwrap_or(ndp.frame_source))
            }
            _ => return None,
        };
        let neighbour = Neighbour { mac: MacAddr(mac.0), interface: u32::from(self.slot) };
        Some(Event::Reply { backend, received_at: self.received.at_ns, neighbour })
    }
}

/// The sockets, and what their readers hand in.
#[derive(Default)]
pub struct Probes {
    sockets: Vec<(u16, Arc<PacketSocket>)>,
    arrivals: Option<mpsc::UnboundedReceiver<Arrival>>,
    sender: Option<mpsc::UnboundedSender<Arrival>>,
    /// What the sockets let through.
    filter: Vec<libc::sock_filter>,
    readers: BTreeMap<u16, Reader>,
}

/// The task that reads a port's socket; it ends with this.
struct Reader {
    /// Index and namespace of the interface.
    of: (u32, NsId),
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Opens a socket on every port, which also hears what is for the probe addresses.
    pub fn open(placed: &Placed, probe_addresses: &[IpAddr]) -> Result<Self> {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let filter = filter::program(probe_addresses);
        let mut probes = Self { arrivals: Some(arrivals), sender: Some(sender), filter, ..Self::default() };
        for port in &placed.ports {
            probes.add(port)?;
        }
        Ok(probes)
    }

    /// Opens a socket on a port, unless there is one; one on an interface that had its slot before is closed.
    pub fn add(&mut self, port: &Port) -> Result<()> {
        let of = (port.ifindex, port.ns.id);
        if self.readers.get(&port.slot).is_some_and(|reader| reader.of == of) {
            return Ok(());
        }
        self.remove(port.slot);
        let Some(sender) = self.sender.clone() else { return Ok(()) };
        let socket = PacketSocket::open(&NetNs::open(&port.ns)?, port.ifindex, &self.filter)
            .with_context(|| format!("cannot probe through {}", port.name))?;
        let socket = Arc::new(socket);
        let task = tokio::spawn(read(port.slot, Arc::clone(&socket), sender));
        self.readers.insert(port.slot, Reader { of, task });
        self.sockets.push((port.slot, socket));
        Ok(())
    }

    /// Closes the socket of a slot, if there is one.
    pub fn remove(&mut self, slot: u16) {
        self.readers.remove(&slot);
        self.sockets.retain(|(other, _)| *other != slot);
    }

    /// Hears what is for these probe addresses from now on.
    pub fn listen_for(&mut self, probe_addresses: &[IpAddr]) -> Result<()> {
        self.filter = filter::program(probe_addresses);
        for (_, socket) in &self.sockets {
            socket.set_filter(&self.filter).context("cannot change the filter of a packet socket")?;
        }
        Ok(())
    }

    /// Asks on every port who has an address.
    pub fn ask_everybody(&self, address: IpAddr, from: Mac) {
        let frame = question(from, address, None);
        for (_, socket) in &self.sockets {
            if let Err(error) = socket.send(&frame) {
                tracing::debug!("question after {address} not sent: {error}");
            }
        }
    }

    /// Sends a frame by the port of a slot.
    pub fn send_frame(&self, slot: u16, frame: &[u8]) -> Result<()> {
        let (_, socket) = self.sockets.iter().find(|(s, _)| *s == slot).context("there is no such port")?;
        Ok(socket.send(frame)?)
    }

    /// Waits for the next packet. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Arrival> {
        match &mut self.arrivals {
            Some(arrivals) => arrivals.recv().await,
            None => None,
        }
    }

    /// Everything that was received up to now, whether a reader has noticed it or not.
    pub fn drain(&mut self) -> Vec<Arrival> {
        let mut drained = Vec::new();
        if let Some(arrivals) = &mut self.arrivals {
            while let Ok(arrival) = arrivals.try_recv() {
                drained.push(arrival);
            }
        }
        for (slot, socket) in &self.sockets {
            while let Some(received) = socket.next_queued() {
                drained.push(Arrival { slot: *slot, received });
            }
        }
        drained
    }

    /// Sends a probe, and says how that went: whether it left, and the link that is down if that is why not.
    pub fn send(&self, backend: Station, to: Destination, from: Mac) -> Vec<Event> {
        let at = sys::clock_monotonic();
        let mut events = Vec::new();
        let sent = match to {
            Destination::Unicast(neighbour) => {
                let socket = self.sockets.iter().find(|(slot, _)| u32::from(*slot) == neighbour.interface);
                let frame = question(from, backend.address, Some(Mac(neighbour.mac.0)));
                match socket.map(|(_, socket)| socket.send(&frame)) {
                    Some(Ok(())) => true,
                    // Link events tell it for the root namespace; a one-armed host's own interface tells it here.
                    Some(Err(PacketError::LinkDown(_) | PacketError::LinkGone(_))) => {
                        events.push(Event::LinkDown { interface: neighbour.interface });
                        false
                    }
                    Some(Err(error)) => {
                        tracing::debug!("probe for {backend} not sent: {error}");
                        false
                    }
                    None => false,
                }
            }
            // Everybody is asked, not only until the first one was.
            Destination::Broadcast => {
                let frame = question(from, backend.address, None);
                let left = |(_, socket): &&(u16, Arc<PacketSocket>)| {
                    let result = socket.send(&frame);
                    result
                        .inspect_err(|error| tracing::debug!("probe for {backend} not sent: {error}"))
                        .is_ok()
                };
                self.sockets.iter().filter(left).count() > 0
            }
        };
        let outcome = if sent { Event::ProbeSent { backend, at } } else { Event::SendFailed { backend } };
        events.insert(0, outcome);
        events
    }
}

/// The frame that asks for a backend: by ARP or by neighbour discovery.
fn question(from: Mac, backend: IpAddr, to: Option<Mac>) -> Vec<u8> {
    match backend {
        IpAddr::V4(address) => arp::build_probe(from, address, to.unwrap_or(Mac::BROADCAST)).to_vec(),
        IpAddr::V6(address) => ndp::build_probe(from, address, to),
    }
}

/// Reads a socket until its interface is gone. The hand-over does not wait, so a packet is either in the
/// socket or in the channel whenever the daemon looks.
async fn read(slot: u16, socket: Arc<PacketSocket>, sender: mpsc::UnboundedSender<Arrival>) {
    loop {
        match socket.recv().await {
            Ok(received) => {
                if sender.send(Arrival { slot, received }).is_err() {
                    return;
                }
            }
            Err(PacketError::LinkGone(_)) => return,
            Err(error) => {
                tracing::debug!("reading probes: {error}");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}
