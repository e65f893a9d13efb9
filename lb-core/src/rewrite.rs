//! What is changed in a packet, and the changing.

use core::mem::offset_of;

use network_types::arp::ArpHdr;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::checksum::Diff;
use crate::classify::UDP;
use crate::packet::Packet;
use crate::reason::Reason;
use crate::table::Ticks;

/// Where a rewritten packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// To the switch port with this slot, past the switch.
    Redirect(u16),
    /// Out of the interface it came in on.
    Transmit,
    /// On to the switch, which carries it.
    Switch,
}

/// Which way a packet goes through the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client to a backend.
    ToBackend,
    /// From a backend to a client.
    ToClient,
}

/// A packet's way out, and the headers that change on it.
///
/// One flat record, not an enum with fields: compilers may compute with the fields of the variant that is
/// not there before they look which it is, and the BPF verifier refuses arithmetic on what then lies in the
/// register. Fields that a [`Change`] does not use are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The headers that change.
    pub change: Change,
    /// Which way the packet goes.
    pub direction: Direction,
    /// Where it goes.
    pub egress: Egress,
    /// How it ends.
    pub reason: Reason,
    /// Offset of the IPv4 header, or of the ARP header.
    pub l3: usize,
    /// Offset of the transport header.
    pub l4: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// The address before and after, as it stands in the packet: the destination towards the backend, the
    /// source towards the client.
    pub address: (u32, u32),
    /// The port before and after, likewise.
    pub port: (u16, u16),
    /// The destination MAC afterwards; all zeros: as it is.
    pub destination_mac: [u8; 6],
    /// The source MAC afterwards; all zeros: as it is.
    pub source_mac: [u8; 6],
    /// What the counters are told.
    pub note: FlowNote,
}

impl Rewrite {
    /// An answer to the ARP request at `offset`, with this virtual MAC.
    #[inline(always)]
    pub const fn arp_reply(offset: usize, mac: [u8; 6]) -> Self {
        Self {
            change: Change::ArpReply,
            direction: Direction::ToClient,
            egress: Egress::Transmit,
            reason: Reason::ArpAnswered,
            l3: offset,
            l4: 0,
            protocol: 0,
            address: (0, 0),
            port: (0, 0),
            destination_mac: [0; 6],
            source_mac: mac,
            note: FlowNote { vip: 0, backend: 0, opened: false, alive: 0 },
        }
    }
}

/// What the counters are told about a balanced packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowNote {
    /// The VIP's id; 0 for an answer of the balancer itself.
    pub vip: u16,
    /// The backend's id.
    pub backend: u16,
    /// It opened a connection.
    pub opened: bool,
    /// When a backend showed by it that it is alive; 0 when it did not.
    pub alive: Ticks,
}

/// The headers that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// MAC addresses, one address and one port, and the checksums over them.
    Nat,
    /// The MAC addresses only.
    Macs,
    /// The frame becomes the answer to the ARP request that it was.
    ArpReply,
}

/// Carries a rewrite out. `None` when the packet is shorter than the decision assumed; it may then have been
/// changed in part and must not travel on.
#[inline(always)]
pub fn apply<P: Packet>(rewrite: &Rewrite, packet: &mut P) -> Option<()> {
    match rewrite.change {
        Change::Nat => {
            apply_macs(rewrite, packet)?;
            apply_nat(rewrite, packet)
        }
        Change::Macs => apply_macs(rewrite, packet),
        Change::ArpReply => apply_arp_reply(rewrite.l3, rewrite.source_mac, packet),
    }
}

#[inline(always)]
fn apply_macs<P: Packet>(rewrite: &Rewrite, packet: &mut P) -> Option<()> {
    if rewrite.destination_mac != [0; 6] {
        packet.write(0, rewrite.destination_mac)?;
    }
    if rewrite.source_mac != [0; 6] {
        packet.write(6, rewrite.source_mac)?;
    }
    Some(())
}

#[inline(always)]
fn apply_nat<P: Packet>(nat: &Rewrite, packet: &mut P) -> Option<()> {
    let (address_at, port_at) = match nat.direction {
        Direction::ToBackend => (offset_of!(Ipv4Hdr, dst_addr), offset_of!(TcpHdr, dest)),
        Direction::ToClient => (offset_of!(Ipv4Hdr, src_addr), offset_of!(TcpHdr, source)),
    };
    let addresses = Diff::of32(nat.address.0, nat.address.1);
    let ports = Diff::of16(nat.port.0, nat.port.1);

    let header_checksum_at = nat.l3 + offset_of!(Ipv4Hdr, check);
    let header_checksum: u16 = packet.read(header_checksum_at)?;
    packet.write(header_checksum_at, addresses.apply(header_checksum))?;
    packet.write(nat.l3 + address_at, nat.address.1)?;
    if nat.port.0 != nat.port.1 {
        packet.write(nat.l4 + port_at, nat.port.1)?;
    }
    if nat.protocol == UDP {
        packet.fix_l4_checksum(nat.l4 + offset_of!(UdpHdr, check), addresses, ports, true)
    } else {
        packet.fix_l4_checksum(nat.l4 + offset_of!(TcpHdr, check), addresses, ports, false)
    }
}

/// RFC 826: the request comes back with the fields of sender and target exchanged.
#[inline(always)]
fn apply_arp_reply<P: Packet>(offset: usize, mac: [u8; 6], packet: &mut P) -> Option<()> {
    let request: ArpHdr = packet.read(offset)?;
    let reply =
        ArpHdr { oper: [0, 2], sha: mac, spa: request.tpa, tha: request.sha, tpa: request.spa, ..request };
    packet.write(offset, reply)?;
    packet.write(0, request.sha)?;
    packet.write(6, mac)
}
