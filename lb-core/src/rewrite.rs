//! What is changed in a packet, and the changing.

use core::mem::offset_of;

use network_types::arp::ArpHdr;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::checksum::{Diff, fold};
use crate::classify::{IPV6_HEADER, UDP};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::table::{Address, Ticks};

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

/// An [`Egress`] in one number, for the reason given at [`Rewrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way(u32);

impl Way {
    /// On to the switch.
    pub const SWITCH: Self = Self(0);
    /// Out of the interface it came in on.
    pub const TRANSMIT: Self = Self(1 << 16);

    /// To the switch port with this slot, from 1.
    #[inline(always)]
    pub const fn redirect(slot: u16) -> Self {
        Self(slot as u32)
    }

    /// The slot of the port it is redirected to; 0 when it is not.
    #[inline(always)]
    pub const fn slot(self) -> u16 {
        self.0 as u16
    }

    /// Of three values, the one for a redirect, for a transmit, for the switch.
    #[inline(always)]
    pub const fn choose(self, redirect: Reason, transmit: Reason, switch: Reason) -> Reason {
        match self {
            Self::SWITCH => switch,
            Self::TRANSMIT => transmit,
            _ => redirect,
        }
    }

    /// In words.
    #[inline(always)]
    pub const fn egress(self) -> Egress {
        match self {
            Self::SWITCH => Egress::Switch,
            Self::TRANSMIT => Egress::Transmit,
            Self(slot) => Egress::Redirect(slot as u16),
        }
    }
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
    pub way: Way,
    /// How it ends.
    pub reason: Reason,
    /// Offset of the IP header, or of the ARP header.
    pub l3: usize,
    /// IPv6.
    pub is_v6: bool,
    /// Offset of the transport header; 0 where there is none to change.
    pub l4: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// The source address before and after.
    pub source: (Address, Address),
    /// The destination address before and after. With [`Change::Encapsulate`] the outer addresses are the second of
    /// each.
    pub destination: (Address, Address),
    /// The source port before and after, network byte order.
    pub source_port: (u16, u16),
    /// The destination port before and after, likewise.
    pub destination_port: (u16, u16),
    /// The destination MAC afterwards; all zeros: as it is.
    pub destination_mac: [u8; 6],
    /// The source MAC afterwards; all zeros: as it is.
    pub source_mac: [u8; 6],
    /// What the counters are told.
    pub note: FlowNote,
}

impl Rewrite {
    /// Nothing.
    pub const NONE: Self = Self::arp_reply(0, [0; 6]);

    /// An answer to the ARP request at `offset`, with this virtual MAC.
    #[inline(always)]
    pub const fn arp_reply(offset: usize, mac: [u8; 6]) -> Self {
        Self {
            change: Change::ArpReply,
            direction: Direction::ToClient,
            way: Way::TRANSMIT,
            reason: Reason::ArpAnswered,
            l3: offset,
            is_v6: false,
            l4: 0,
            protocol: 0,
            source: (Address::ZERO, Address::ZERO),
            destination: (Address::ZERO, Address::ZERO),
            source_port: (0, 0),
            destination_port: (0, 0),
            destination_mac: [0; 6],
            source_mac: mac,
            note: FlowNote { vip: 0, backend: 0, bytes: 0, opened: false, alive: 0 },
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
    /// Bytes of the frame as it came, up to the last of the IP packet.
    pub bytes: u32,
    /// It opened a connection.
    pub opened: bool,
    /// When a backend showed by it that it is alive; 0 when it did not.
    pub alive: Ticks,
}

/// The headers that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// MAC addresses, addresses and ports, and the checksums over them.
    Translate,
    /// The MAC addresses only.
    Macs,
    /// The packet goes inside another one (RFC 2003, RFC 2473).
    Encapsulate,
    /// The frame becomes the answer to the ARP request that it was.
    ArpReply,
}

/// Carries a rewrite out. `None` when the packet is shorter than the decision assumed; it may then have been
/// changed in part and must not travel on.
#[inline(always)]
pub fn apply<P: Packet>(rewrite: &Rewrite, packet: &mut P) -> Option<()> {
    match rewrite.change {
        Change::Translate => {
            apply_macs(rewrite, packet)?;
            translate(rewrite, packet)
        }
        Change::Macs => apply_macs(rewrite, packet),
        Change::Encapsulate => {
            apply_macs(rewrite, packet)?;
            encapsulate(rewrite, packet)
        }
        Change::ArpReply => apply_arp_reply(rewrite.l3, rewrite.source_mac, packet),
    }
}

/// Likewise, of what changes no place in the packet: [`Change::Translate`] and [`Change::Macs`].
#[inline(always)]
pub fn apply_in_place<P: Packet>(rewrite: &Rewrite, packet: &mut P) -> Option<()> {
    apply_macs(rewrite, packet)?;
    if matches!(rewrite.change, Change::Translate) {
        return translate(rewrite, packet);
    }
    Some(())
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

/// Addresses, ports, and both checksums by the difference. The L4 checksum comes last, see
/// [`Packet::fix_l4_checksum`].
#[inline(always)]
fn translate<P: Packet>(r: &Rewrite, packet: &mut P) -> Option<()> {
    let addresses = Diff::of_address(r.source.0, r.source.1, r.is_v6).and(Diff::of_address(
        r.destination.0,
        r.destination.1,
        r.is_v6,
    ));
    if r.is_v6 {
        packet.write(r.l3 + 8, r.source.1.0)?;
        packet.write(r.l3 + 24, r.destination.1.0)?;
    } else {
        let at = r.l3 + offset_of!(Ipv4Hdr, check);
        let sum: u16 = packet.read(at)?;
        packet.write(at, addresses.apply(sum))?;
        packet.write(r.l3 + 12, r.source.1.v4_wire())?;
        packet.write(r.l3 + 16, r.destination.1.v4_wire())?;
    }
    if r.l4 == 0 {
        return Some(());
    }
    packet.write(r.l4, [r.source_port.1, r.destination_port.1])?;
    let ports = Diff::of16(r.source_port.0, r.source_port.1)
        .and(Diff::of16(r.destination_port.0, r.destination_port.1));
    if r.protocol == UDP {
        // Over IPv6 zero is no valid checksum, but nobody is helped by a wrong one in its place.
        packet.fix_l4_checksum(r.l4 + offset_of!(UdpHdr, check), addresses, ports, true)
    } else {
        packet.fix_l4_checksum(r.l4 + offset_of!(TcpHdr, check), addresses, ports, false)
    }
}

/// Bytes of the outer header towards this backend.
#[inline(always)]
pub const fn outer_header(backend: Address) -> usize {
    if backend.is_v4() { size_of::<Ipv4Hdr>() } else { IPV6_HEADER }
}

/// Puts an outer IP header between the Ethernet header with its tags and the packet.
#[inline(always)]
fn encapsulate<P: Packet>(r: &Rewrite, packet: &mut P) -> Option<()> {
    /// IP in IP (RFC 2003, section 3.1) and IPv6 in IP (RFC 2473, section 3).
    const IPV4_INSIDE: u8 = 4;
    const IPV6_INSIDE: u8 = 41;
    let (source, destination) = (r.source.1, r.destination.1);
    let inner = if r.is_v6 { IPV6_INSIDE } else { IPV4_INSIDE };
    let length = r.note.bytes.wrapping_sub(r.l3 as u32) as u16;
    let class = if r.is_v6 {
        let first: [u8; 2] = packet.read(r.l3)?;
        (first[0] << 4) | (first[1] >> 4)
    } else {
        packet.read::<[u8; 2]>(r.l3)?[1]
    };
    let outer = outer_header(destination);
    let to_v4 = destination.is_v4();
    packet.grow_front(outer)?;
    move_link_header(packet, r.l3, outer)?;
    let ethertype: u16 = if to_v4 { 0x0800u16.to_be() } else { 0x86ddu16.to_be() };
    // A constant place for each number of tags: the verifier follows no subtraction.
    let at = if r.l3 > 18 {
        20
    } else if r.l3 > 14 {
        16
    } else {
        12
    };
    packet.write(at, ethertype)?;
    if to_v4 {
        let header = Ipv4Hdr {
            vihl: 0x45,
            tos: class,
            tot_len: (length + size_of::<Ipv4Hdr>() as u16).to_be_bytes(),
            id: [0; 2],
            // Do not fragment.
            frags: [0x40, 0],
            ttl: 64,
            proto: inner,
            check: [0; 2],
            src_addr: source.v4_wire().to_ne_bytes(),
            dst_addr: destination.v4_wire().to_ne_bytes(),
        };
        packet.write(r.l3, header)?;
        let sum = ipv4_header_sum(&header);
        packet.write(r.l3 + offset_of!(Ipv4Hdr, check), sum)
    } else {
        packet.write(r.l3, [0x60 | class >> 4, class << 4, 0, 0])?;
        let [high, low] = length.to_be_bytes();
        packet.write(r.l3 + 4, [high, low, inner, 64])?;
        packet.write(r.l3 + 8, source.0)?;
        packet.write(r.l3 + 24, destination.0)
    }
}

/// After `by` bytes were put in front of the frame: its Ethernet header with tags, `length` bytes long, comes to the front
/// again.
#[inline(always)]
pub fn move_link_header<P: Packet>(packet: &mut P, length: usize, by: usize) -> Option<()> {
    let macs: [u32; 3] = packet.read(by)?;
    packet.write(0, macs)?;
    let ethertype: u16 = packet.read(by + 12)?;
    packet.write(12, ethertype)?;
    if length > 14 {
        let tag: [u8; 4] = packet.read(by + 14)?;
        packet.write(14, tag)?;
    }
    if length > 18 {
        let tag: [u8; 4] = packet.read(by + 18)?;
        packet.write(18, tag)?;
    }
    Some(())
}

/// The checksum of an IPv4 header without options whose checksum field is zero.
#[inline(always)]
pub fn ipv4_header_sum(header: &Ipv4Hdr) -> u16 {
    let word = |a: [u8; 2]| u16::from_ne_bytes(a) as u64;
    let sum = word([header.vihl, header.tos])
        + word(header.tot_len)
        + word(header.id)
        + word(header.frags)
        + word([header.ttl, header.proto])
        + u32::from_ne_bytes(header.src_addr) as u64
        + u32::from_ne_bytes(header.dst_addr) as u64;
    !fold(sum)
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
