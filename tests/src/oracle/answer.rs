//! What the balancer says in its own name: resets and ICMP errors.

use super::change::{ipv4_header, ipv6_header, outer_length, put, update};
use super::parse::{Flow, Icmp, Packet, word};
use super::{Arrival, End, Oracle, sum};
use crate::frame::{Ip, octets};
use crate::scenario::Vip;
use crate::side::Action;

/// Bytes of a packet that an error quotes at most.
const QUOTE: usize = 128;

/// The Ethernet header with its tags, back to the sender.
fn link_back(arrival: &Arrival<'_>, vip: &Vip) -> Vec<u8> {
    let mut bytes = arrival.frame[..arrival.packet.at].to_vec();
    put(&mut bytes, 0, &arrival.packet.from);
    put(&mut bytes, 6, &vip.mac);
    bytes
}

impl Oracle {
    /// RFC 9293, section 3.10.7.1.
    pub(super) fn reset(&self, arrival: &Arrival<'_>, flow: &Flow, vip: &Vip, reason: &'static str) -> End {
        let packet = arrival.packet;
        let Some(segment) = flow.segment else { return End::pass(reason) };
        let mut bytes = link_back(arrival, vip);
        let mut header = arrival.frame[packet.at..flow.at].to_vec();
        if packet.src.is_ipv4() {
            let total = (header.len() as u16 + 20).to_be_bytes();
            put(&mut header, 2, &total);
            header[8] = 64;
            put(&mut header, 12, &octets(packet.dst));
            put(&mut header, 16, &octets(packet.src));
            let is = &arrival.frame[packet.at..];
            let old = [word(is, 2), word(is, 8)];
            let new = [word(&header, 2), word(&header, 8)];
            update(&mut header, 10, &old, &new, false);
        } else {
            let payload = (header.len() as u16 - 40 + 20).to_be_bytes();
            put(&mut header, 4, &payload);
            header[7] = 64;
            put(&mut header, 8, &octets(packet.dst));
            put(&mut header, 24, &octets(packet.src));
        }
        bytes.extend(header);
        let (seq, ack, flags) =
            if segment.ack { (segment.acknowledged, 0, 4) } else { (0, segment.next, 0x14) };
        let mut tcp = [flow.dport.to_be_bytes(), flow.sport.to_be_bytes()].concat();
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        let checksum = sum::complete(sum::pseudo(packet.dst, packet.src, 6, 20), &tcp);
        put(&mut tcp, 16, &checksum.to_be_bytes());
        bytes.extend(tcp);
        End::sent(Action::Transmit, reason, bytes)
    }

    /// Nobody is up, and the client is told so.
    pub(super) fn reject(&self, arrival: &Arrival<'_>, flow: &Flow, vip: &Vip) -> End {
        if flow.segment.is_some() {
            return self.reset(arrival, flow, vip, "rejected");
        }
        let kind = if arrival.packet.src.is_ipv4() { [3, 3] } else { [1, 4] };
        let bytes = error(arrival, Some(flow), vip, kind, 0);
        End::sent(Action::Transmit, "rejected", bytes)
    }

    /// An echo request comes back as its reply.
    pub(super) fn echo(&self, arrival: &Arrival<'_>, icmp: &Icmp, vip: &Vip) -> End {
        let packet = arrival.packet;
        let mut bytes = link_back(arrival, vip);
        bytes.extend(&arrival.frame[packet.at..]);
        let at = packet.at;
        if packet.src.is_ipv4() {
            let old = [word(&bytes, at + 8)];
            bytes[at + 8] = 64;
            put(&mut bytes, at + 12, &octets(packet.dst));
            put(&mut bytes, at + 16, &octets(packet.src));
            let new = [word(&bytes, at + 8)];
            update(&mut bytes, at + 10, &old, &new, false);
        } else {
            bytes[at + 7] = 64;
            put(&mut bytes, at + 8, &octets(packet.dst));
            put(&mut bytes, at + 24, &octets(packet.src));
        }
        let old = [word(&bytes, icmp.at)];
        bytes[icmp.at] = if packet.src.is_ipv4() { 0 } else { 129 };
        let new = [word(&bytes, icmp.at)];
        update(&mut bytes, icmp.at + 2, &old, &new, false);
        End::sent(Action::Transmit, "echo_answered", bytes)
    }
}

/// Too long for the tunnel: RFC 1191, section 4, and RFC 4443, section 3.2.
pub(super) fn too_big(arrival: &Arrival<'_>, flow: Option<&Flow>, vip: &Vip, backend: Ip) -> End {
    let kind = if arrival.packet.src.is_ipv4() { [3, 4] } else { [2, 0] };
    let mtu = u32::from(vip.tunnel_mtu) - outer_length(backend) as u32;
    End::sent(Action::Transmit, "too_big_answered", error(arrival, flow, vip, kind, mtu))
}

/// An ICMP error about a packet: from the address that it was sent to.
fn error(arrival: &Arrival<'_>, flow: Option<&Flow>, vip: &Vip, kind: [u8; 2], rest: u32) -> Vec<u8> {
    let packet = arrival.packet;
    let until = flow.map_or(packet.at + header_length(arrival.frame, packet), |f| f.at) + 8;
    let quoted = &arrival.frame[packet.at..until.min(packet.end).min(packet.at + QUOTE)];
    let mut icmp = vec![kind[0], kind[1], 0, 0];
    icmp.extend(rest.to_be_bytes());
    icmp.extend(quoted);
    let (from, to) = (packet.dst, packet.src);
    let v4 = packet.src.is_ipv4();
    let pseudo = if v4 { 0 } else { sum::pseudo(from, to, 58, icmp.len()) };
    let checksum = sum::complete(pseudo, &icmp);
    put(&mut icmp, 2, &checksum.to_be_bytes());
    let mut bytes = link_back(arrival, vip);
    bytes.extend(if v4 {
        ipv4_header(0, 20 + icmp.len(), 1, from, to)
    } else {
        ipv6_header(0, icmp.len(), 58, 64, from, to)
    });
    bytes.extend(icmp);
    bytes
}

/// Bytes of the IP header, with options, without extension headers.
fn header_length(frame: &[u8], packet: &Packet) -> usize {
    if packet.src.is_ipv4() { usize::from(frame[packet.at] & 15) * 4 } else { 40 }
}
