//! Keys and values of the balancer's tables, and the trait through which the core reads them.
//!
//! These types lie in BPF maps: `repr(C)`, whole integers and byte arrays, explicit padding, sizes asserted,
//! no `bool`, `Option` or enum inside. Ports and addresses are in network byte order, as in the packet.
//! An array slot that was never written reads as zeros, so index 0 never means a VIP, a backend or a port,
//! and state 0 means absent.

use core::cell::Cell;

use crate::reason::Reason;

/// Version of everything in this module. Maps of another version are never adopted.
pub const SCHEMA_VERSION: u32 = 2;

/// VIPs a data plane holds at most; ids run from 1.
pub const MAX_VIPS: usize = 257;
/// Backend records a data plane holds at most, over all VIPs; ids run from 1.
pub const MAX_BACKENDS: usize = 8192;
/// Switch ports a data plane is attached to at most; slots run from 1.
pub const MAX_PORTS: usize = 1024;
/// Address bits of one of the two "is it ours?" bitmaps.
pub const BITMAP_BITS: u32 = 1 << 16;
/// Words of both bitmaps: VIP addresses first, backend addresses behind them.
pub const BITMAP_WORDS: usize = 2 * BITMAP_BITS as usize / 64;
/// VIPs that may share one backend service.
pub const SERVICE_VIPS: usize = 4;
/// Slots of the direct-mapped tables in front of the VIP services and of the backend services; a power of two.
pub const SERVICE_SLOTS: usize = 4096;
/// Lists of port ranges a data plane holds at most; numbers run from 1.
pub const MAX_PORT_LISTS: usize = 256;
/// Ranges of one list.
pub const LIST_RANGES: usize = 8;
/// Slots of the round-robin ring.
pub const RING_SLOTS: usize = 4096;
/// Slots of the Maglev table; a prime (Eisenbud et al., NSDI 2016, section 3.4).
pub const MAGLEV_SLOTS: usize = 65537;
/// Room for them: the next power of two, so that an index is bounded by its bits. Linux 6.1 does not follow the
/// bounds of a product, and a compiler that knows the factor removes a mask.
pub const MAGLEV_CAPACITY: usize = 1 << 17;
/// Backends of one VIP at most.
pub const MAX_MEMBERS: usize = 655;
/// Slots of the list of members: the next power of two, so that an index is bounded by a mask.
pub const MEMBER_SLOTS: usize = 1024;

/// An IPv6 address, or an IPv4 address mapped into it (RFC 4291, section 2.5.5.2), as two words in memory
/// order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Address(pub [u64; 2]);

impl Address {
    /// The unspecified IPv6 address, in records: none.
    pub const ZERO: Self = Self([0, 0]);

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let prefix = if cfg!(target_endian = "little") { self.0[1] as u32 } else { (self.0[1] >> 32) as u32 };
        self.0[0] == 0 && prefix == 0x0000_ffffu32.to_be()
    }

    /// The mapped form of an IPv4 address as it is read from the packet.
    #[inline(always)]
    pub const fn from_v4_wire(address: u32) -> Self {
        if cfg!(target_endian = "little") {
            Self([0, 0xffff_0000 | (address as u64) << 32])
        } else {
            Self([0, 0x0000_ffff_0000_0000 | address as u64])
        }
    }

    /// The mapped form of an IPv4 address given by its octets.
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self::from_v4_wire(u32::from_ne_bytes(octets))
    }

    /// An IPv6 address given by its octets.
    pub const fn from_v6(o: [u8; 16]) -> Self {
        Self([
            u64::from_ne_bytes([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]),
            u64::from_ne_bytes([o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The IPv4 part of a mapped address, as it is written into the packet.
    #[inline(always)]
    pub const fn v4_wire(self) -> u32 {
        if cfg!(target_endian = "little") { (self.0[1] >> 32) as u32 } else { self.0[1] as u32 }
    }

    /// The octets, in network order.
    pub const fn octets(self) -> [u8; 16] {
        let (a, b) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]
    }

    /// Position of this address in an "is it ours?" bitmap.
    #[inline(always)]
    pub const fn bitmap_bit(self) -> u32 {
        let folded = self.0[0] ^ self.0[1];
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32
    }
}

/// A VIP's or a backend's service: address, port, protocol. Port 0 stands for every port of the protocol,
/// port 0 with protocol 0 for the address itself.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The address.
    pub address: Address,
    /// Port (network byte order) and protocol, see [`ServiceKey::new`].
    pub service: u64,
}

impl ServiceKey {
    /// The key of a port (network byte order) and IP protocol number at an address.
    #[inline(always)]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        Self { address, service: port as u64 | (protocol as u64) << 16 }
    }

    /// The key that stands for the address as such.
    #[inline(always)]
    pub const fn of_address(address: Address) -> Self {
        Self::new(address, 0, 0)
    }

    /// The slot of this key in a direct-mapped table of [`SERVICE_SLOTS`].
    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        let folded = self.address.0[0] ^ self.address.0[1] ^ self.service.rotate_left(13);
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u32
    }
}

/// What a VIP service key stands for, as it lies in a table.
///
/// ```text
///  63            32 31          16 15           0
///  +---------------+--------------+--------------+
///  |       0       |  port list   |    VIP id    |
///  +---------------+--------------+--------------+
/// ```
/// The key of an address and protocol with port 0 may carry the number of a list of port ranges beside the VIP of
/// every port; the list is tried first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct VipTarget(pub u64);

impl VipTarget {
    /// A VIP's id (0: none) and the number of a list of port ranges (0: none).
    pub const fn new(vip: u16, list: u16) -> Self {
        Self(vip as u64 | (list as u64) << 16)
    }

    /// The VIP's id; 0 when there is none.
    #[inline(always)]
    pub const fn vip(self) -> u16 {
        self.0 as u16
    }

    /// The number of the list of port ranges; 0 when there is none.
    #[inline(always)]
    pub const fn list(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// A slot of the direct-mapped table in front of the VIP services: most look-ups end here, without a hash table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VipSlot {
    /// The key that owns the slot.
    pub key: ServiceKey,
    /// What it stands for.
    pub target: VipTarget,
    /// 1 when other keys of this slot are in the hash table; 0 when there is no other.
    pub more: u64,
}

/// A slot of the direct-mapped table in front of the backend services.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendSlot {
    /// The key that owns the slot.
    pub key: ServiceKey,
    /// The VIPs that it answers for.
    pub record: ServiceRecord,
    /// 1 when other keys of this slot are in the hash table; 0 when there is no other.
    pub more: u64,
}

/// A range of ports of one protocol, and the VIP that serves it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortRange {
    /// The first port, host byte order.
    pub first: u16,
    /// The last port, host byte order; below `first` in an unused place.
    pub last: u16,
    /// The VIP's id; 0 ends the list.
    pub vip: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

/// The ranges of an address or of an address prefix, tried in order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortList {
    /// Filled from the front.
    pub ranges: [PortRange; LIST_RANGES],
}

/// Key of the VIP prefixes, as the kernel's longest prefix match wants it. The value is a list's number.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct PrefixKey {
    /// Bits of the address that count; an IPv4 prefix counts 96 more.
    pub length: u32,
    /// The address, as octets in network order.
    pub address: [u8; 16],
}

/// Key of the allow and deny lists, as the kernel's longest prefix match wants it. The value is a constant of
/// [`verdict`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct AclKey {
    /// 32 for the VIP, and the bits of the address that count; an IPv4 prefix counts 96 more.
    pub length: u32,
    /// The VIP's id in network byte order: it is compared first.
    pub vip: u32,
    /// The client's address.
    pub address: Address,
}

/// What a list says of a client.
pub mod verdict {
    /// It may open connections.
    pub const ALLOW: u32 = 1;
    /// It may not.
    pub const DENY: u32 = 2;
}

/// A client of a VIP: key of affinity and of the limits by source.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct ClientKey {
    /// The client's address.
    pub client: Address,
    /// The VIP's id.
    pub vip: u64,
}

/// The backend that a client keeps.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AffinityValue {
    /// The backend's id.
    pub backend: u16,
    /// Its record's generation.
    pub generation: u16,
    /// When the client last opened a connection.
    pub last_seen: Ticks,
}

/// New connections of a client, or of a processor, in the running window.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateValue {
    /// The window's number: [`Ticks`] without the last [`RATE_WINDOW_BITS`].
    pub window: u32,
    /// Connections opened in it.
    pub opened: u32,
}

/// Rates are counted in windows of 2^8 ticks (0.268 s).
pub const RATE_WINDOW_BITS: u32 = 8;

/// Key of the fragments: what the parts of one packet have in common (RFC 791, section 3.2; RFC 8200, section 4.5).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// The identification as it stands in the packet, and the protocol number above its 32 bits.
    pub id: u64,
}

/// Where the later parts of a fragmented packet go: as its first part did.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FragmentValue {
    /// The VIP's id.
    pub vip: u16,
    /// The backend's id.
    pub backend: u16,
    /// The backend record's generation.
    pub generation: u16,
    /// The port slot of the client; of packets to the client only.
    pub client_slot: u16,
    /// When the first part was seen.
    pub first_seen: Ticks,
    /// The client's MAC; zeros: as it is in the packet.
    pub mac: [u8; 6],
    /// 1 to the backend, 2 to the client.
    pub direction: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// The client's address; of packets to the client only.
    pub client: Address,
}

/// The other half of a full NAT connection, found by the backend's reply. Its key is a [`ConnKey`] whose client is the
/// backend (address and port), whose VIP is 0 and whose VIP port is the port that was lent.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnatValue {
    /// The client's address.
    pub client: Address,
    /// The client's MAC, as its first packet carried it.
    pub mac: [u8; 6],
    /// The client's port, network byte order.
    pub client_port: u16,
    /// The port on the VIP's side, network byte order.
    pub vip_port: u16,
    /// The VIP's id.
    pub vip: u16,
    /// Zero.
    pub reserved: u32,
}

/// A backend that asked for a client's MAC in a VIP's name. Its key is a [`ClientKey`]: whom it asked for, and the VIP.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AskerValue {
    /// Its MAC.
    pub mac: [u8; 6],
    /// The slot of the port that it asked from.
    pub slot: u16,
}

/// What a program leaves for the program that goes on with its packet, see [`Tables::leave`]: what it found out.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leftover {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Bytes of the IP packet.
    pub total: u32,
    /// What the fragments of the packet share, as it stands in it.
    pub id: u32,
    /// Offset of the IP header.
    pub l3: u16,
    /// Bytes of the IP header.
    pub header: u16,
    /// Offset of the transport header, 0 where there is none.
    pub l4: u16,
    /// Bytes of transport header and data.
    pub length: u16,
    /// Source port, network byte order.
    pub source_port: u16,
    /// Destination port, network byte order.
    pub destination_port: u16,
    /// The VIP's id; 0 for a packet of a backend.
    pub vip: u16,
    /// A constant of [`answer`].
    pub answer: u16,
    /// 1 for IPv6.
    pub is_v6: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// 1 for the first fragment of a packet.
    pub is_first_fragment: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Answers of the balancer itself; the number in [`Leftover::answer`].
pub mod answer {
    /// Nobody is up: RST, or ICMP port unreachable.
    pub const REJECT: u16 = 1;
    /// The connection's backend is down: RST.
    pub const RESET: u16 = 2;
    /// Too long for the tunnel: ICMP fragmentation needed or packet too big.
    pub const TOO_BIG: u16 = 3;
}

/// Key of the connection table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnKey {
    /// The client's address.
    pub client: Address,
    /// The rest of the flow, see [`ConnKey::new`].
    pub flow: u64,
}

impl ConnKey {
    /// The flow of a client (port in network byte order) to a VIP (its id, and the port of the VIP's side in
    /// network byte order).
    #[inline(always)]
    pub const fn new(client: Address, client_port: u16, vip: u16, vip_port: u16, protocol: u8) -> Self {
        let flow =
            client_port as u64 | (vip_port as u64) << 16 | (vip as u64) << 32 | (protocol as u64) << 48;
        Self { client, flow }
    }

    /// The client's port, network byte order.
    pub const fn client_port(&self) -> u16 {
        self.flow as u16
    }

    /// The port on the VIP's side, network byte order.
    pub const fn vip_port(&self) -> u16 {
        (self.flow >> 16) as u16
    }

    /// The VIP's id.
    pub const fn vip(&self) -> u16 {
        (self.flow >> 32) as u16
    }

    /// The IP protocol number.
    pub const fn protocol(&self) -> u8 {
        (self.flow >> 48) as u8
    }
}

/// Value of the connection table.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnValue {
    /// The backend's id.
    pub backend: u16,
    /// The backend record's generation when this entry was made: a reused record never gets an old flow.
    pub generation: u16,
    /// A constant of [`crate::conn::state`].
    pub state: u8,
    /// [`crate::conn`] flags.
    pub flags: u8,
    /// The port slot that the client's last packet came in on; 0 when unknown.
    pub client_slot: u16,
    /// When the last packet of either side was seen.
    pub last_seen: Ticks,
    /// The sequence number that the client's next byte will carry.
    pub client_next: u32,
    /// The sequence number that the backend's next byte will carry.
    pub backend_next: u32,
    /// The source port that full NAT lent to this connection, network byte order; else 0.
    pub snat_port: u16,
    /// Zero.
    pub reserved: u16,
}

/// An entry of the connection table where it lies: fields are changed in place, by the packets of both
/// directions, on several processors. Torn combinations are harmless: every field is valid by itself.
#[repr(C, align(8))]
#[derive(Debug, Default)]
pub struct ConnEntry {
    /// See [`ConnValue::backend`].
    pub backend: Cell<u16>,
    /// See [`ConnValue::generation`].
    pub generation: Cell<u16>,
    /// See [`ConnValue::state`].
    pub state: Cell<u8>,
    /// See [`ConnValue::flags`].
    pub flags: Cell<u8>,
    /// See [`ConnValue::client_slot`].
    pub client_slot: Cell<u16>,
    /// See [`ConnValue::last_seen`].
    pub last_seen: Cell<Ticks>,
    /// See [`ConnValue::client_next`].
    pub client_next: Cell<u32>,
    /// See [`ConnValue::backend_next`].
    pub backend_next: Cell<u32>,
    /// See [`ConnValue::snat_port`].
    pub snat_port: Cell<u16>,
    /// See [`ConnValue::reserved`].
    pub reserved: Cell<u16>,
}

impl ConnEntry {
    /// Overwrites the whole entry.
    #[inline(always)]
    pub fn set(&self, v: &ConnValue) {
        self.backend.set(v.backend);
        self.generation.set(v.generation);
        self.state.set(v.state);
        self.flags.set(v.flags);
        self.client_slot.set(v.client_slot);
        self.last_seen.set(v.last_seen);
        self.client_next.set(v.client_next);
        self.backend_next.set(v.backend_next);
        self.snat_port.set(v.snat_port);
        self.reserved.set(v.reserved);
    }

    /// A copy of the whole entry.
    pub fn get(&self) -> ConnValue {
        ConnValue {
            backend: self.backend.get(),
            generation: self.generation.get(),
            state: self.state.get(),
            flags: self.flags.get(),
            client_slot: self.client_slot.get(),
            last_seen: self.last_seen.get(),
            client_next: self.client_next.get(),
            backend_next: self.backend_next.get(),
            snat_port: self.snat_port.get(),
            reserved: self.reserved.get(),
        }
    }
}

/// Coarse monotonic time in units of 2^20 ns (1.048576 ms). Wraps after 52 days; compare by
/// [`ticks_since`].
pub type Ticks = u32;

/// Nanoseconds of `CLOCK_MONOTONIC` as [`Ticks`].
#[inline(always)]
pub const fn ticks_from_ns(ns: u64) -> Ticks {
    (ns >> 20) as u32
}

/// Milliseconds as [`Ticks`], rounded up.
pub const fn ticks_from_ms(ms: u64) -> Ticks {
    (ms * 1_000_000).div_ceil(1 << 20) as u32
}

/// [`Ticks`] as milliseconds, rounded down.
pub const fn ms_from_ticks(ticks: Ticks) -> u64 {
    ((ticks as u64) << 20) / 1_000_000
}

/// How long ago `then` was; 0 where another processor's clock is ahead.
#[inline(always)]
pub const fn ticks_since(now: Ticks, then: Ticks) -> Ticks {
    let age = now.wrapping_sub(then);
    if age > u32::MAX - 1024 { 0 } else { age }
}

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
    /// New connections that one client may open in a window ([`RATE_WINDOW_BITS`]); 0 for any number.
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
    /// Counts the uses of this record; see [`ConnValue::generation`].
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
    /// [`SCHEMA_VERSION`] of the daemon that wrote the tables.
    pub schema: u32,
    /// Idle time after which a suspected connection is forgotten, see [`crate::conn::flag::SUSPECT`].
    pub suspect_timeout: Ticks,
    /// Idle time after which a connection is forgotten, by its [`crate::conn::state`].
    pub timeouts: [Ticks; 8],
    /// Flags of [`settings_flag`].
    pub flags: u32,
    /// New connections that one processor may open in a window ([`RATE_WINDOW_BITS`]); 0 for any number.
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
}

/// Clock and random number of a test, see [`Tables::now`].
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
    /// Used slots of `maglev`: [`MAGLEV_SLOTS`], or 0 when nobody is in rotation.
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

const _: () = {
    assert!(size_of::<ServiceKey>() == 24 && size_of::<ConnKey>() == 24);
    assert!(size_of::<ConnValue>() == 24 && size_of::<ConnEntry>() == 24);
    assert!(size_of::<VipSlot>() == 40 && size_of::<BackendSlot>() == 48);
    assert!(size_of::<PortList>() == 64 && size_of::<PrefixKey>() == 20 && size_of::<AclKey>() == 24);
    assert!(size_of::<ClientKey>() == 24 && size_of::<AffinityValue>() == 8 && size_of::<RateValue>() == 8);
    assert!(
        size_of::<FragmentKey>() == 40 && size_of::<FragmentValue>() == 40 && size_of::<SnatValue>() == 32
    );
    assert!(size_of::<AskerValue>() == 8 && size_of::<Leftover>() == 64);
    assert!(size_of::<VipRecord>() == 64 && size_of::<BackendRecord>() == 40);
    assert!(size_of::<ServiceRecord>() == 16 && size_of::<PortRecord>() == 8);
    assert!(size_of::<Settings>() == 56 && size_of::<TestInputs>() == 8);
    assert!(size_of::<SelectTable>() == 16 + 2 * (MEMBER_SLOTS + RING_SLOTS + MAGLEV_CAPACITY));
    assert!(size_of::<TrafficCounter>() == 56 && size_of::<GlobalCounter>() == 16);
};

/// What the core reads and counts: BPF maps in the XDP program, plain maps in [`crate::model`].
///
/// All methods take `&self`: entries change in place, and a look-up must not forbid the next one.
pub trait Tables {
    /// Coarse time. Tests fix it.
    fn now(&self) -> Ticks;
    /// A random number. Tests fix it.
    fn random(&self) -> u32;
    /// The next round-robin ticket of a VIP.
    fn ticket(&self, vip: u16) -> u32;
    /// Settings of the whole data plane.
    fn settings(&self) -> Option<&Settings>;
    /// A word of the two "is it ours?" bitmaps ([`BITMAP_WORDS`]).
    fn bitmap(&self, word: u32) -> u64;
    /// What a VIP service key stands for.
    fn vip_target(&self, key: &ServiceKey) -> VipTarget;
    /// A VIP's record.
    fn vip(&self, id: u16) -> Option<&VipRecord>;
    /// The VIPs that a backend service answers for.
    fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord>;
    /// A backend's record.
    fn backend(&self, id: u16) -> Option<&BackendRecord>;
    /// A connection that was established.
    fn conn(&self, key: &ConnKey) -> Option<&ConnEntry>;
    /// Makes an established connection where there is none under this key; `false` when nothing was inserted.
    fn conn_insert(&self, key: &ConnKey, value: &ConnValue) -> bool;
    /// Tells whoever watches that a connection was opened.
    #[inline(always)]
    fn tell_opened(&self, _key: &ConnKey, _value: &ConnValue) {}
    /// A connection that is not established yet.
    fn half_open(&self, key: &ConnKey) -> Option<&ConnEntry>;
    /// Makes a half-open connection where there is none under this key; `false` when nothing was inserted.
    fn half_open_insert(&self, key: &ConnKey, value: &ConnValue) -> bool;
    /// Forgets a half-open connection.
    fn half_open_remove(&self, key: &ConnKey);
    /// The other half of a full NAT connection.
    fn snat(&self, key: &ConnKey) -> Option<SnatValue>;
    /// Stores the other half of a full NAT connection; `false` when the key is taken, unless `replace`.
    fn snat_insert(&self, key: &ConnKey, value: &SnatValue, replace: bool) -> bool;
    /// The backend that a client keeps.
    fn affinity(&self, key: &ClientKey) -> Option<AffinityValue>;
    /// Remembers the backend of a client.
    fn affinity_set(&self, key: &ClientKey, value: &AffinityValue);
    /// What the lists say of a client of a VIP: a constant of [`verdict`], 0 when nothing.
    fn acl(&self, key: &AclKey) -> u32;
    /// Counts an opening of a client in a window; how many there are now.
    fn source_opened(&self, key: &ClientKey, window: u32) -> u32;
    /// Openings of this processor in a window.
    fn opened(&self, window: u32) -> u32;
    /// Counts an opening of this processor in a window.
    fn count_opened(&self, window: u32);
    /// Live connections of a backend, as last counted and kept since.
    fn load(&self, backend: u16) -> u32;
    /// A backend got a connection (1) or lost one (-1).
    fn load_add(&self, backend: u16, change: i64);
    /// The list of port ranges of the longest VIP prefix that holds an address, 0 when none does.
    fn prefix(&self, address: Address) -> u16;
    /// A list of port ranges.
    fn port_list(&self, number: u16) -> Option<&PortList>;
    /// Where the parts of a packet go.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;
    /// Remembers where the parts of a packet go.
    fn fragment_set(&self, key: &FragmentKey, value: &FragmentValue);
    /// Who asked for an address in a VIP's name.
    fn asker(&self, key: &ClientKey) -> Option<AskerValue>;
    /// Remembers who asked.
    fn asker_set(&self, key: &ClientKey, value: &AskerValue);
    /// Leaves a word for the program that goes on with this packet.
    fn leave(&self, leftover: Leftover);
    /// What was left for this program.
    fn left(&self) -> Leftover;
    /// A VIP's selection table.
    fn selection(&self, vip: u16) -> Option<&SelectTable>;
    /// A port by its slot.
    fn port(&self, slot: u16) -> Option<&PortRecord>;
    /// The slot of an interface, 0 when the balancer is not attached to it.
    fn slot_of(&self, ifindex: u32) -> u16;
    /// [`crate::select::is_ambiguous`]. Where a verifier looks at every call of a function anew, this is the place to call
    /// one that it looks at once.
    fn is_ambiguous(&self, key: &ConnKey, backend: &BackendRecord) -> bool
    where
        Self: Sized,
    {
        crate::select::is_ambiguous(self, key, backend)
    }
    /// Counts a packet that came in.
    fn count_received(&self);
    /// Counts how a packet ended.
    fn count_reason(&self, reason: Reason);
    /// Counts a balanced packet whose checksum its sender left unfinished.
    fn count_partial_checksum(&self);
    /// Changes the counters of a VIP.
    fn count_vip(&self, vip: u16, change: impl FnOnce(&mut TrafficCounter));
    /// Changes the counters of a backend.
    fn count_backend(&self, backend: u16, change: impl FnOnce(&mut TrafficCounter));
}
