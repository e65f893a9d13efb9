//! What a data plane is set to, in words of its own: each of the three sides is filled from this.

use crate::frame::{Ip, Mac};

/// How packets reach a VIP's backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Addresses are translated.
    Nat,
    /// Only the MAC changes.
    Dsr,
}

/// How a VIP chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// At random.
    Random,
    /// In turn.
    RoundRobin,
    /// By consistent hash.
    Maglev,
}

/// State of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In rotation.
    Up,
    /// It does not answer.
    Down,
    /// Old connections only.
    Draining,
    /// Taken out by hand.
    Disabled,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// A VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Its id, from 1.
    pub id: u16,
    /// Its address.
    pub address: Ip,
    /// Its virtual MAC.
    pub mac: Mac,
    /// How packets reach its backends.
    pub mode: Mode,
    /// How it chooses.
    pub selection: Selection,
    /// Connections of a dead backend move.
    pub repick: bool,
    /// One-armed placement.
    pub transmit: bool,
    /// With nobody up, the last ones are taken.
    pub last_known: bool,
    /// What it serves; port 0 is every port.
    pub services: Vec<(Protocol, u16)>,
    /// Ids in turn; every member stands in it.
    pub ring: Vec<u16>,
}

/// A backend of one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its id, from 1.
    pub id: u16,
    /// The VIP it belongs to.
    pub vip: u16,
    /// Its address.
    pub address: Ip,
    /// Its MAC.
    pub mac: Mac,
    /// Its state.
    pub state: State,
    /// Its port; 0: the VIP's.
    pub port: u16,
    /// The slot of the port that leads to it; 0: unknown.
    pub slot: u16,
    /// Counts the uses of this id.
    pub generation: u16,
    /// Other VIPs use the same service on it.
    pub shared: bool,
}

/// A switch port that the balancer is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its slot, from 1.
    pub slot: u16,
    /// Its interface.
    pub ifindex: u32,
    /// Its switch.
    pub switch: u16,
    /// Whether frames may be redirected to it.
    pub redirect: bool,
}

/// Idle times in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until established.
    pub syn: u32,
    /// Established.
    pub established: u32,
    /// After a FIN.
    pub closing: u32,
    /// After an RST.
    pub closed: u32,
    /// UDP.
    pub udp: u32,
    /// After an RST outside the window.
    pub suspect: u32,
}

/// A whole data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// VIPs.
    pub vips: Vec<Vip>,
    /// Backends.
    pub backends: Vec<Backend>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Idle times.
    pub timeouts: Timeouts,
    /// Room for connections.
    pub connections: u32,
    /// Addresses that nobody has, whose bits are set in both "is it ours?" bitmaps all the same, as if they
    /// shared them with an address of ours.
    pub stray_bits: Vec<Ip>,
}

/// The service of a backend, and the VIPs that it answers for.
pub type Service = ((Ip, u16, Protocol), Vec<(u16, u16)>);

impl Scenario {
    /// The members of a ring, each once, in the order in which they first stand there.
    #[must_use]
    pub fn members(ring: &[u16]) -> Vec<u16> {
        let mut members = Vec::new();
        for id in ring {
            if !members.contains(id) {
                members.push(*id);
            }
        }
        members
    }

    /// The backend in a slot of a VIP's consistent hash table; 0 for nobody. Neighbouring slots hold different
    /// backends, so that a slot that is off by one shows.
    #[must_use]
    pub fn maglev(members: &[u16], slot: usize) -> u16 {
        if members.is_empty() { 0 } else { members[slot % members.len()] }
    }

    /// Every backend service with its (VIP id, VIP port or 0 where it is the backend's own), in the order of the
    /// VIPs. The list of a port also holds the VIPs that serve every port.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        let mut services: Vec<Service> = Vec::new();
        let mut every_port = Vec::new();
        for vip in self.vips.iter().filter(|vip| vip.mode == Mode::Nat) {
            for backend in self.backends.iter().filter(|b| b.vip == vip.id) {
                for (protocol, port) in &vip.services {
                    let (at, vip_port) = match backend.port {
                        0 => (*port, 0),
                        translated => (translated, *port),
                    };
                    if at == 0 {
                        every_port.push((backend.address, *protocol, vip.id));
                    }
                    let key = (backend.address, at, *protocol);
                    match services.iter_mut().find(|(k, _)| *k == key) {
                        Some((_, list)) => list.push((vip.id, vip_port)),
                        None => services.push((key, vec![(vip.id, vip_port)])),
                    }
                }
            }
        }
        for ((address, port, protocol), list) in &mut services {
            for (other, other_protocol, vip) in &every_port {
                if *port != 0 && (other, other_protocol) == (&*address, &*protocol) {
                    list.push((*vip, 0));
                }
            }
        }
        services
    }

    /// The VIP with an id.
    ///
    /// # Panics
    /// There is none.
    pub fn vip(&mut self, id: u16) -> &mut Vip {
        self.vips.iter_mut().find(|v| v.id == id).expect("a VIP of the scenario")
    }

    /// The backend with an id.
    ///
    /// # Panics
    /// There is none.
    pub fn backend(&mut self, id: u16) -> &mut Backend {
        self.backends.iter_mut().find(|b| b.id == id).expect("a backend of the scenario")
    }
}
