//! What the balancer says in its own name: TCP resets (RFC 9293, section 3.10.7.1) and ICMP errors.

use network_types::ip::Ipv4Hdr;

use super::End;
use crate::checksum::{Diff, fold, pseudo_header};
use crate::classify::{ICMP, ICMPV6, IPV6_HEADER, Ip, TCP};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::rewrite::{Way, ipv4_header_sum, move_link_header, outer_header};
use crate::table::{Tables, VipRecord, answer};

const ACK: u8 = 16;
const RST: u8 = 4;
/// Bytes of the packet that an error quotes at most: an IPv6 header, extension headers, and 8 bytes behind them.
const QUOTE: u32 = 128;

/// Turns the packet into the answer that was left for it.
#[inline(always)]
pub(super) fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T, ip: &Ip) -> End {
    let left = tables.left();
    let l4 = (left.l4 & 0xff) as usize;
    let Some(vip) = tables.vip(left.vip) else { return End::drop(Reason::RewriteFailed) };
    let reason = match left.answer {
        answer::TOO_BIG => Reason::TooBigAnswered,
        answer::RESET => Reason::ResetAnswered,
        _ => Reason::Rejected,
    };
    let done = if left.answer == answer::RESET || left.answer == answer::REJECT && vip.protocol == TCP {
        reset(packet, ip, vip, l4)
    } else {
        let too_big = left.answer == answer::TOO_BIG;
        let code = match (ip.is_v6, too_big) {
            (true, true) => [2, 0],
            (true, false) => [1, 4],
            (false, true) => [3, 4],
            (false, false) => [3, 3],
        };
        // What the packet may measure at most (RFC 1191; RFC 4443, section 3.2).
        let mtu = vip.tunnel_mtu.wrapping_sub(outer_header(vip.source) as u16);
        error(packet, ip, vip, l4, code, if too_big { mtu as u32 } else { 0 })
    };
    if done.is_none() {
        tables.count_vip(left.vip, |c| c.dropped += 1);
        return End::drop(Reason::RewriteFailed);
    }
    End::forward(Way::TRANSMIT, reason)
}

/// A segment becomes the reset that answers it: no options, no data.
#[inline(always)]
fn reset<P: Packet>(packet: &mut P, ip: &Ip, vip: &VipRecord, l4: usize) -> Option<()> {
    const HEADER: u32 = 20;
    let [source_port, destination_port] = packet.read::<[u16; 2]>(l4)?;
    let seq: u32 = packet.read(l4 + 4)?;
    let ack: u32 = packet.read(l4 + 8)?;
    let [offset, flags] = packet.read::<[u8; 2]>(l4 + 12)?;
    let length = (ip.l3 as u32 + ip.total).wrapping_sub(l4 as u32) as u16;
    let next = crate::conn::Segment::new(seq, [offset, flags], length).next;
    let (new_seq, new_ack, new_flags) =
        if flags & ACK != 0 { (ack, 0, RST) } else { (0, next.to_be(), RST | ACK) };

    let from: [u8; 6] = packet.read(6)?;
    packet.write(0, from)?;
    packet.write(6, vip.mac)?;
    let header = l4.wrapping_sub(ip.l3) as u32;
    if ip.is_v6 {
        let [high, low] = ((header + HEADER - IPV6_HEADER as u32) as u16).to_be_bytes();
        packet.write(ip.l3 + 4, [high, low])?;
        let [next, _] = packet.read::<[u8; 2]>(ip.l3 + 6)?;
        packet.write(ip.l3 + 6, [next, 64])?;
        packet.write(ip.l3 + 8, ip.destination.0)?;
        packet.write(ip.l3 + 24, ip.source.0)?;
    } else {
        let old: Ipv4Hdr = packet.read(ip.l3)?;
        let tot_len = ((header + HEADER) as u16).to_be_bytes();
        let word = u16::from_ne_bytes;
        let diff = Diff::of16(word(old.tot_len), word(tot_len))
            .and(Diff::of16(word([old.ttl, old.proto]), word([64, old.proto])));
        let check = diff.apply(word(old.check)).to_ne_bytes();
        let new = Ipv4Hdr { tot_len, ttl: 64, check, src_addr: old.dst_addr, dst_addr: old.src_addr, ..old };
        packet.write(ip.l3, new)?;
    }
    packet.write(l4, [destination_port, source_port])?;
    packet.write(l4 + 4, new_seq)?;
    packet.write(l4 + 8, new_ack)?;
    packet.write(l4 + 12, [0x50, new_flags, 0, 0, 0, 0, 0, 0])?;
    let sum = pseudo_header(ip.destination, ip.source, TCP, HEADER, ip.is_v6)
        + source_port as u64
        + destination_port as u64
        + new_seq as u64
        + new_ack as u64
        + u16::from_ne_bytes([0x50, new_flags]) as u64;
    packet.write(l4 + 16, !fold(sum))?;
    packet.set_length(l4 as u32 + HEADER)
}

/// An ICMP error of the VIP's about this packet.
#[inline(always)]
fn error<P: Packet>(
    packet: &mut P,
    ip: &Ip,
    vip: &VipRecord,
    l4: usize,
    kind: [u8; 2],
    mtu: u32,
) -> Option<()> {
    const MESSAGE: usize = 8;
    let header = if ip.is_v6 { IPV6_HEADER } else { size_of::<Ipv4Hdr>() };
    let front = header + MESSAGE;
    // Up to eight bytes behind the transport header's start, where it is known.
    let until = if l4 != 0 { l4 - ip.l3 } else { ip.header };
    let quote = (until as u32 + 8).min(ip.total).min(QUOTE) & !1;
    let from: [u8; 6] = packet.read(6)?;
    packet.grow_front(front)?;
    move_link_header(packet, ip.l3, front)?;
    packet.write(0, from)?;
    packet.write(6, vip.mac)?;
    let icmp = ip.l3 + header;
    let length = MESSAGE as u32 + quote;
    packet.set_length(icmp as u32 + length)?;
    packet.write(icmp, [kind[0], kind[1], 0, 0])?;
    packet.write(icmp + 4, mtu.to_be())?;
    let mut sum =
        sum_words(packet, icmp + MESSAGE, quote)? + u16::from_ne_bytes(kind) as u64 + mtu.to_be() as u64;
    if ip.is_v6 {
        let [high, low] = (length as u16).to_be_bytes();
        packet.write(ip.l3, [0x60, 0, 0, 0, high, low, ICMPV6, 64])?;
        packet.write(ip.l3 + 8, ip.destination.0)?;
        packet.write(ip.l3 + 24, ip.source.0)?;
        sum += pseudo_header(ip.destination, ip.source, ICMPV6, length, true);
    } else {
        let mut ipv4 = Ipv4Hdr {
            vihl: 0x45,
            tos: 0,
            tot_len: (size_of::<Ipv4Hdr>() as u16 + length as u16).to_be_bytes(),
            id: [0; 2],
            frags: [0x40, 0],
            ttl: 64,
            proto: ICMP,
            check: [0; 2],
            src_addr: ip.destination.v4_wire().to_ne_bytes(),
            dst_addr: ip.source.v4_wire().to_ne_bytes(),
        };
        ipv4.check = ipv4_header_sum(&ipv4).to_ne_bytes();
        packet.write(ip.l3, ipv4)?;
    }
    packet.write(icmp + 2, !fold(sum))
}

/// The sum of so many bytes, an even number and at most [`QUOTE`], as 16-bit words.
#[inline(always)]
fn sum_words<P: Packet>(packet: &P, at: usize, bytes: u32) -> Option<u64> {
    let mut sum = 0u64;
    for i in 0..QUOTE / 2 {
        if i * 2 + 1 >= bytes {
            break;
        }
        sum += packet.read::<u16>(at + i as usize * 2)? as u64;
    }
    Some(sum)
}
