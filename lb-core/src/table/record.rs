//! Records of VIPs, backends and ports, the selection tables, settings and counters.

use super::{Address, MAGLEV_CAPACITY, MEMBER_SLOTS, RING_SLOTS, SERVICE_VIPS, Ticks};

/// How packets reach a backend; the number in [`VipRecord::mode`].
pub mod mode {
    /// Destination address and port are rewritten, and the reply's source.
    pub const NAT: u8 = 1;
    /// Only the destination MAC is rewritten; the backend has the VIP's address itself.
    pub const DSR: u8 = 2;
    /// Source and destination are rewritten: the backend sees the balancer, and needs no way back to the client.
    pub const FULLNAT: u8 = 3;
    /// The packet is sent inside another one (RFC 2003, RFC 2473); the backend has the VIP's address itself.
    pub const IPIP: u8 = 4;
}

/// How a backend is chosen; the number in [`VipRecord::selection`].
pub mod selection {
    /// Uniformly at random, by weight.
    pub const RANDOM: u8 = 1;
    /// In turn, by weight.
    pub const ROUND_ROBIN: u8 = 2;
    /// By consistent hash of the flow.
    pub const MAGLEV: u8 = 3;
    /// By consistent hash of the client's address alone.
    pub const SOURCE_HASH: u8 = 4;
    /// By a hash of the flow over the ring, by weight; not consistent when the ring changes.
    pub const FLOW_HASH: u8 = 5;
    /// The one of two, taken at random, that has fewer live connections for its weight (Mitzenmacher, 2001).
    pub const LEAST_CONNECTIONS: u8 = 6;
}

/// Flags of [`VipRecord`].
pub mod vip_flag {
    /// TCP connections whose backend went down get another one; otherwise they stay.
    pub const REPICK: u16 = 1;
    /// Packets leave through the interface they came in on (one-armed placement).
    pub const TRANSMIT: u16 = 2;
    /// When nobody is up, the selection table names those that were last, and they are taken.
    pub const LAST_KNOWN: u16 = 4;
    /// ICMP echo requests to the address are answered.
    pub const ECHO: u16 = 8;
    /// The lists of clients are looked at.
    pub const ACL: u16 = 16;
    /// A client that no list names is refused.
    pub const DENY_OTHERS: u16 = 32;
    /// Beyond the cap on new connections, NAT goes on without an entry.
    pub const OVER_CAP_STATELESS: u16 = 64;
    /// When nobody is up, the client is told so (RST, ICMP unreachable).
    pub const REJECT: u16 = 128;
    /// TCP connections whose backend went down are reset.
    pub const RESET: u16 = 256;
}

/// A VIP, by id.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VipRecord {
    /// Its address; the first of a prefix.
    pub address: Address,
    /// The source of what is sent to the backends: of the outer packet ([`mode::IPIP`]), or the address that full
    /// NAT lends ports of ([`mode::FULLNAT`]).
    pub source: Address,
    /// Its virtual MAC.
    pub mac: [u8; 6],
    /// A constant of [`mode`]; 0 means that there is no such VIP.
    pub mode: u8,
    /// A constant of [`selection`].
    pub selection: u8,
    /// Flags of [`vip_flag`].
    pub flags: u16,
    /// Its port, network byte order; 0 where it serves several.
    pub port: u16,
    /// First port that full NAT may lend, host byte order.
    pub snat_first: u16,
    /// How many ports it may lend from there; 0 without full NAT.
    pub snat_count: u16,
    /// For how long a client that opened a connection keeps its backend; 0 without affinity.
    pub affinity: Ticks,
    /// New connections that one client may open in a window ([`super::RATE_WINDOW_BITS`]); 0 for any number.
    pub max_new_per_source: u32,
    /// Bytes of the largest outer IP packet of [`mode::IPIP`]; 0 without that mode.
    pub tunnel_mtu: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Backend states; the number in [`BackendRecord::state`].
pub mod backend_state {
    /// No such backend.
    pub const ABSENT: u8 = 0;
    /// In rotation.
    pub const UP: u8 = 1;
    /// Out of rotation: it does not answer.
    pub const DOWN: u8 = 2;
    /// Out of rotation, its connections stay.
    pub const DRAINING: u8 = 3;
    /// Out of rotation by hand, its connections are treated as those of a dead one.
    pub const DISABLED: u8 = 4;
}

/// Flags of [`BackendRecord`].
pub mod backend_flag {
    /// Other VIPs use the same service on this backend, so their replies could be confused.
    pub const SHARED: u8 = 1;
    /// Frames may be redirected to its port: attached, and without a shaping qdisc.
    pub const REDIRECT: u8 = 2;
}

/// A backend of one VIP, by id.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendRecord {
    /// Its address.
    pub address: Address,
    /// Its MAC, as the last probe found it.
    pub mac: [u8; 6],
    /// A constant of [`backend_state`].
    pub state: u8,
    /// Flags of [`backend_flag`].
    pub flags: u8,
    /// Its port in network byte order; 0 where ports are not translated.
    pub port: u16,
    /// The slot of the switch port that leads to it; 0 when unknown.
    pub slot: u16,
    /// Counts the uses of this record; see [`super::ConnValue::generation`].
    pub generation: u16,
    /// The VIP it belongs to.
    pub vip: u16,
    /// The interface of `slot`; 0 when unknown.
    pub ifindex: u32,
    /// The number of the switch of `slot`; 0 when unknown.
    pub switch: u16,
    /// Its weight, 1 to 256, for the comparison of loads.
    pub weight: u16,
}

/// A VIP that a backend service answers for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceVip {
    /// The VIP's id; 0 ends the list.
    pub vip: u16,
    /// The VIP's port in network byte order; 0 where it is that of the backend.
    pub port: u16,
}

/// The VIPs that a backend service answers for, tried in order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceRecord {
    /// Filled from the front.
    pub vips: [ServiceVip; SERVICE_VIPS],
}

/// Flags of [`PortRecord`].
pub mod port_flag {
    /// Frames may be redirected to this port: attached, and without a shaping qdisc.
    pub const REDIRECT: u16 = 1;
}

/// A switch port that the balancer is attached to, by slot.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortRecord {
    /// The interface's index; 0 means that there is no such port.
    pub ifindex: u32,
    /// Number of the switch it belongs to; frames are never redirected from one switch to another.
    pub switch: u16,
    /// Flags of [`port_flag`].
    pub flags: u16,
}

/// What the whole data plane is set to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// [`super::SCHEMA_VERSION`] of the daemon that wrote the tables.
    pub schema: u32,
    /// Idle time after which a suspected connection is forgotten, see [`crate::conn::flag::SUSPECT`].
    pub suspect_timeout: Ticks,
    /// Idle time after which a connection is forgotten, by its [`crate::conn::state`].
    pub timeouts: [Ticks; 8],
    /// Flags of [`settings_flag`].
    pub flags: u32,
    /// New connections that one processor may open in a window ([`super::RATE_WINDOW_BITS`]); 0 for any number.
    pub max_new: u32,
    /// For how long the parts of a fragmented packet are waited for.
    pub fragment_timeout: Ticks,
    /// Zero.
    pub reserved: u32,
}

/// Flags of [`Settings`].
pub mod settings_flag {
    /// There are VIP prefixes.
    pub const PREFIXES: u32 = 1;
    /// Packets for a VIP that are of no connection here pass untouched: another balancer, behind this one, has them.
    pub const HANDING_OVER: u32 = 2;
    /// With [`HANDING_OVER`]: SYNs open connections here again; the other balancer gives back.
    pub const HANDING_BACK: u32 = 4;
}

/// Clock and random number of a test, see [`super::Tables::now`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TestInputs {
    /// The time.
    pub now: Ticks,
    /// The random number.
    pub random: u32,
}

/// Which backends of a VIP are in rotation, prepared for each way to select. Swapped as a whole.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SelectTable {
    /// Used slots of `ring`; 0 when nobody is in rotation.
    pub ring_len: u32,
    /// Used slots of `members`.
    pub member_count: u32,
    /// Used slots of `maglev`: [`super::MAGLEV_SLOTS`], or 0 when nobody is in rotation.
    pub maglev_len: u32,
    /// Zero.
    pub reserved: u32,
    /// Every backend in rotation once.
    pub members: [u16; MEMBER_SLOTS],
    /// Backends in turn, each as often as its weight says.
    pub ring: [u16; RING_SLOTS],
    /// Backends by consistent hash.
    pub maglev: [u16; MAGLEV_CAPACITY],
}

impl SelectTable {
    /// Nobody in rotation.
    pub const EMPTY: Self = Self {
        ring_len: 0,
        member_count: 0,
        maglev_len: 0,
        reserved: 0,
        members: [0; MEMBER_SLOTS],
        ring: [0; RING_SLOTS],
        maglev: [0; MAGLEV_CAPACITY],
    };
}

/// Traffic of a VIP or of a backend, one for each processor.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TrafficCounter {
    /// Packets to the backends.
    pub packets_in: u64,
    /// Bytes to the backends, Ethernet header included, padding not.
    pub bytes_in: u64,
    /// Packets back to the clients.
    pub packets_out: u64,
    /// Bytes back to the clients, likewise.
    pub bytes_out: u64,
    /// Connections opened.
    pub opened: u64,
    /// Packets dropped by a reason.
    pub dropped: u64,
    /// When a frame from the backend showed that it is alive; 0 when never.
    pub last_alive: u64,
}

/// Counters that stand beside the reasons, one for each processor.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GlobalCounter {
    /// Packets that entered the program.
    pub received: u64,
    /// Balanced packets whose checksum is only the pseudo header's sum: the sender left it to its device.
    pub partial_checksums: u64,
}
