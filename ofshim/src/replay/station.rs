//! Hosts in memory: they answer ARP requests and neighbour solicitations, and nothing else.

use std::net::{IpAddr, Ipv6Addr};

use lb_core::host::replay::Station;
use openflow::MacAddr;

use crate::core::frame::{self, Frame};

/// A station's MAC.
#[must_use]
pub const fn mac(station: &Station) -> MacAddr {
    MacAddr(station.mac.0)
}

/// Its answer to a frame, if it has one: not for addresses that are silent.
#[must_use]
pub fn answer(station: &Station, bytes: &[u8], is_silent: impl Fn(IpAddr) -> bool) -> Option<Vec<u8>> {
    let (frame, mac) = (Frame::parse(bytes)?, mac(station));
    if frame.src == mac || !(frame::is_group(frame.dst) || frame.dst == mac) {
        return None;
    }
    let has = |address: IpAddr| station.addresses.contains(&address) && !is_silent(address);
    match frame.arp {
        Some(arp) => {
            let asks = arp.is_request() && has(IpAddr::V4(arp.target));
            asks.then(|| frame::arp_reply((frame.src, arp.sender), (mac, arp.target), frame.vlan))
        }
        None => answer_solicitation(mac, bytes, has),
    }
}

/// The advertisement that answers a solicitation (RFC 4861, 7.2.4).
fn answer_solicitation(mac: MacAddr, bytes: &[u8], has: impl Fn(IpAddr) -> bool) -> Option<Vec<u8>> {
    let v6 = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
    if bytes.get(12..14)? != [0x86, 0xdd] || *bytes.get(20)? != 58 || *bytes.get(54)? != 135 {
        return None;
    }
    let (asker, target) = (v6(22)?, v6(62)?);
    if !has(IpAddr::V6(target)) {
        return None;
    }
    // Who asks from `::` is answered at all nodes.
    let (towards, to, flags) = if asker.is_unspecified() {
        ([0x33, 0x33, 0, 0, 0, 1], Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0x20)
    } else {
        (bytes.get(6..12)?.try_into().ok()?, asker, 0x60)
    };
    let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    let pseudo = [&target.octets()[..], &to.octets(), &[0, 0, 0, 32, 0, 0, 0, 58], &message].concat();
    let checksum = !sum(&pseudo);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut reply = frame::head(MacAddr(towards), mac, None, 0x86dd);
    reply.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
    reply.extend(target.octets());
    reply.extend(to.octets());
    reply.extend(message);
    Some(reply)
}

/// The sum of RFC 1071, without the complement.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
