//! Keys and values of the tables beside the connections.

use super::{Address, Ticks};

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

/// The other half of a full NAT connection, found by the backend's reply. Its key is a [`super::ConnKey`] whose client is the
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

/// What a program leaves for the program that goes on with its packet, see [`super::Tables::leave`]: what it found out.
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
