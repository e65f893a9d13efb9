//! The frames that ask whether a backend is there, and what tells where one is.

use std::net::{IpAddr, Ipv4Addr};

use lb_core::host::health::{Destination, Station as Watched};
use openflow::MacAddr;

use crate::core::frame::{Frame, arp_probe};
use crate::core::ip::{Neighbour, solicitation};

/// The address that backends are asked from; locally administered, "ofsh".
pub const PROBER: MacAddr = MacAddr([0x02, 0x6f, 0x66, 0x73, 0x68, 0x01]);

/// The frame that asks for a backend: by ARP from 0.0.0.0 (RFC 5227, 2.1.1), or by a solicitation from `::` (RFC 4862,
/// 5.4.2), so that nobody changes a neighbour entry because of it.
#[must_use]
pub fn question(backend: Watched, to: Destination) -> Vec<u8> {
    let to = match to {
        Destination::Unicast(neighbour) => Some(MacAddr(neighbour.mac.0)),
        Destination::Broadcast => None,
    };
    match backend.address {
        IpAddr::V4(address) => {
            arp_probe(to.unwrap_or(MacAddr::BROADCAST), PROBER, Ipv4Addr::UNSPECIFIED, address, None)
        }
        IpAddr::V6(address) => solicitation(to, PROBER, address, None),
    }
}

/// The address whose host says by this frame where it is, and its MAC: ARP replies and announcements, neighbour
/// advertisements.
#[must_use]
pub fn says_where(frame: &Frame) -> Option<(IpAddr, MacAddr)> {
    if let Some(arp) = frame.arp {
        let tells = arp.operation == 2 || arp.sender == arp.target;
        return (tells && !arp.sender.is_unspecified()).then_some((IpAddr::V4(arp.sender), frame.src));
    }
    match frame.ip?.neighbour? {
        Neighbour::Advertisement { target, mac } => Some((IpAddr::V6(target), mac.unwrap_or(frame.src))),
        Neighbour::Solicitation { .. } => None,
    }
}
