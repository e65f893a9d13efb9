//! What a data plane is set to, in words of its own: each of the three sides is filled from this.

use crate::frame::{Ip, Mac};

/// How packets reach a VIP's backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Addresses are translated.
    Nat,
    /// Both addresses are translated, with ports that are lent.
    FullNat,
    /// Only the MAC changes.
    Dsr,
    /// Packets go inside another one.
    Ipip,
}

/// How a VIP chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// At random.
    Random,
    /// In turn.
    RoundRobin,
    /// By consistent hash of the flow.
    Maglev,
    /// By consistent hash of the client.
    SourceHash,
    /// By hash of the flow over the ring.
    FlowHash,
    /// The one of two with fewer connections for its weight.
    LeastConnections,
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

/// Whether another balancer has what is of no connection here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handing {
    /// It is ours.
    #[default]
    No,
    /// It is the other's.
    Over,
    /// It is the other's, but for SYNs.
    Back,
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

/// What becomes of connections whose backend is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They stay.
    Keep,
    /// They move.
    Repick,
    /// They are reset.
    Reset,
}

/// What a list says of the clients in a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// An address of the prefix.
    pub address: Ip,
    /// Bits of it that count.
    pub length: u8,
    /// Whether they may open connections.
    pub allowed: bool,
}

/// A VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Its id, from 1.
    pub id: u16,
    /// Its address; the first of a prefix.
    pub address: Ip,
    /// Bits of a prefix (IPv6 only).
    pub prefix: Option<u8>,
    /// Its virtual MAC.
    pub mac: Mac,
    /// How packets reach its backends.
    pub mode: Mode,
    /// How it chooses.
    pub selection: Selection,
    /// What becomes of connections whose backend is down.
    pub on_down: OnDown,
    /// One-armed placement.
    pub transmit: bool,
    /// With nobody up, the last ones are taken.
    pub last_known: bool,
    /// With nobody up, the client is told so.
    pub reject: bool,
    /// Echo requests are answered.
    pub echo: bool,
    /// Beyond the cap, nat goes on without an entry.
    pub stateless: bool,
    /// Clients that are on a list.
    pub listed: Vec<Listed>,
    /// Clients that are on none are refused.
    pub deny_others: bool,
    /// New connections of a client in a window; 0 for any number.
    pub per_source: u32,
    /// For how long a client keeps its backend; 0: not.
    pub affinity: u32,
    /// Source of outer packets, or the address that full NAT lends ports of.
    pub source: Option<Ip>,
    /// The first port that is lent, and how many there are.
    pub lent: (u16, u16),
    /// Bytes of the longest outer packet.
    pub tunnel_mtu: u16,
    /// What it serves; port 0 is every port.
    pub services: Vec<(Protocol, u16)>,
    /// Ranges of ports that it serves: first and last.
    pub ranges: Vec<(Protocol, u16, u16)>,
    /// Ids in turn; every member stands in it.
    pub ring: Vec<u16>,
}

impl Vip {
    /// A VIP in nat mode, round robin, without services and backends.
    #[must_use]
    pub const fn new(id: u16, address: Ip, mac: Mac) -> Self {
        Self {
            id,
            address,
            prefix: None,
            mac,
            mode: Mode::Nat,
            selection: Selection::RoundRobin,
            on_down: OnDown::Keep,
            transmit: false,
            last_known: false,
            reject: false,
            echo: false,
            stateless: false,
            listed: Vec::new(),
            deny_others: false,
            per_source: 0,
            affinity: 0,
            source: None,
            lent: (0, 0),
            tunnel_mtu: 0,
            services: Vec::new(),
            ranges: Vec::new(),
            ring: Vec::new(),
        }
    }
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
    /// Its weight.
    pub weight: u16,
    /// Its live connections, as they were counted last.
    pub load: u32,
}

impl Backend {
    /// A backend that is up, of weight 1, behind the port with this slot.
    #[must_use]
    pub const fn new(id: u16, vip: u16, host: (Mac, Ip), slot: u16) -> Self {
        Self {
            id,
            vip,
            address: host.1,
            mac: host.0,
            state: State::Up,
            port: 0,
            slot,
            generation: 1,
            shared: false,
            weight: 1,
            load: 0,
        }
    }
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
    /// Until established, when no SYN opened it.
    pub unverified: u32,
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
    /// Of the parts of a packet.
    pub fragment: u32,
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
    /// New connections in a window; 0 for any number.
    pub max_new: u32,
    /// Whose packets without a connection here are.
    pub handing: Handing,
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
            // Ranges never translate ports: to a backend they are every port.
            let mut served = vip.services.clone();
            for (protocol, ..) in &vip.ranges {
                if !served.contains(&(*protocol, 0)) {
                    served.push((*protocol, 0));
                }
            }
            for backend in self.backends.iter().filter(|b| b.vip == vip.id) {
                for (protocol, port) in &served {
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
