//! What changes in a frame, and what it then looks like.

use super::parse::{Flow, Packet, word};
use super::{Arrival, sum};
use crate::frame::{Ip, Mac, octets};
use crate::scenario::{Mode, Vip};

/// New values of a packet's fields; `None`: as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub dst_mac: Option<Mac>,
    pub src_mac: Option<Mac>,
    pub src: Option<Ip>,
    pub dst: Option<Ip>,
    pub sport: Option<u16>,
    pub dport: Option<u16>,
}

impl Change {
    /// The frame with these changes and all checksums corrected by the difference; without `flow` there are no ports.
    pub fn apply(&self, arrival: &Arrival<'_>, flow: Option<&Flow>) -> Vec<u8> {
        let packet = arrival.packet;
        let mut bytes = arrival.frame.to_vec();
        self.macs(&mut bytes);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (is, becomes, first) in [(packet.src, self.src, true), (packet.dst, self.dst, false)] {
            if let Some(address) = becomes {
                put(&mut bytes, address_at(packet, first), &octets(address));
                old.extend(sum::words(is));
                new.extend(sum::words(address));
            }
        }
        if packet.src.is_ipv4() && !old.is_empty() {
            update(&mut bytes, packet.at + 10, &old, &new, false);
        }
        let Some(flow) = flow else { return bytes };
        for (is, becomes, at) in [(flow.sport, self.sport, flow.at), (flow.dport, self.dport, flow.at + 2)] {
            if let Some(port) = becomes {
                put(&mut bytes, at, &port.to_be_bytes());
                old.push(is);
                new.push(port);
            }
        }
        let (at, udp) = if flow.segment.is_some() { (flow.at + 16, false) } else { (flow.at + 6, true) };
        let none = udp && word(&bytes, at) == 0;
        if !old.is_empty() && !none {
            update(&mut bytes, at, &old, &new, udp);
        }
        bytes
    }

    /// Only the MAC addresses.
    pub fn macs(&self, bytes: &mut [u8]) {
        if let Some(mac) = self.dst_mac {
            put(bytes, 0, &mac);
        }
        if let Some(mac) = self.src_mac {
            put(bytes, 6, &mac);
        }
    }
}

/// Where source (`first`) or destination address stand.
pub(super) fn address_at(packet: &Packet, first: bool) -> usize {
    packet.at
        + match (packet.src.is_ipv4(), first) {
            (true, true) => 12,
            (true, false) => 16,
            (false, true) => 8,
            (false, false) => 24,
        }
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Corrects the checksum at an offset by the difference.
pub(super) fn update(bytes: &mut [u8], at: usize, old: &[u16], new: &[u16], udp: bool) {
    let value = match sum::updated(word(bytes, at), old, new) {
        0 if udp => 0xffff,
        value => value,
    };
    put(bytes, at, &value.to_be_bytes());
}

/// The bytes of an outer header between two addresses (RFC 2003, RFC 2473).
pub(super) fn outer_header(packet: &Packet, src: Ip, dst: Ip) -> Vec<u8> {
    let inner = packet.end - packet.at;
    let protocol = if packet.src.is_ipv4() { 4 } else { 41 };
    if dst.is_ipv4() {
        ipv4_header(packet.class, 20 + inner, protocol, src, dst)
    } else {
        ipv6_header(packet.class, inner, protocol, 64, src, dst)
    }
}

/// An IPv4 header without options: id 0, don't fragment, TTL 64.
pub(super) fn ipv4_header(class: u8, total: usize, protocol: u8, src: Ip, dst: Ip) -> Vec<u8> {
    let [high, low] = (total as u16).to_be_bytes();
    let mut header = vec![0x45, class, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header.extend(octets(src));
    header.extend(octets(dst));
    let checksum = sum::complete(0, &header);
    put(&mut header, 10, &checksum.to_be_bytes());
    header
}

/// An IPv6 header with flow label 0.
pub(super) fn ipv6_header(class: u8, payload: usize, next: u8, hops: u8, src: Ip, dst: Ip) -> Vec<u8> {
    let [high, low] = (payload as u16).to_be_bytes();
    let mut header = vec![0x60 | class >> 4, class << 4, 0, 0, high, low, next, hops];
    header.extend(octets(src));
    header.extend(octets(dst));
    header
}

/// Bytes of an outer header to this address.
pub(super) const fn outer_length(dst: Ip) -> usize {
    if dst.is_ipv4() { 20 } else { 40 }
}

/// The whole frame inside another packet to a backend.
pub(super) fn encapsulate(arrival: &Arrival<'_>, vip: &Vip, backend: Ip, macs: &Change) -> Vec<u8> {
    let packet = arrival.packet;
    let mut bytes = arrival.frame[..packet.at].to_vec();
    put(&mut bytes, packet.at - 2, if backend.is_ipv4() { &[0x08, 0x00] } else { &[0x86, 0xdd] });
    bytes.extend(outer_header(packet, vip.source.unwrap_or(vip.address), backend));
    bytes.extend(&arrival.frame[packet.at..]);
    macs.macs(&mut bytes);
    bytes
}

/// Whether the packet fits through the tunnel to this backend.
pub(super) fn fits(packet: &Packet, vip: &Vip, backend: Ip) -> bool {
    vip.mode != Mode::Ipip || outer_length(backend) + packet.end - packet.at <= usize::from(vip.tunnel_mtu)
}
