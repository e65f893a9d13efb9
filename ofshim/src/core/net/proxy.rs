//! ARP and neighbour discovery, answered from what is known, so that broadcasts stay rare.

use std::net::{IpAddr, Ipv4Addr};

use openflow::MacAddr;

use super::Network;
use super::stages::Context;
use crate::core::frame::{arp_probe, arp_reply, is_group};
use crate::core::ip::{Neighbour, advertisement, solicitation};
use crate::core::learn::Station;
use crate::core::topo::PortRole;

/// The address that hosts are asked from; locally administered, "ofsh".
pub const ASKER: MacAddr = MacAddr([0x02, 0x6f, 0x66, 0x73, 0x68, 0x00]);

impl Network {
    /// Answers a request for an address that a known host has; whether it did. Probes for a free address and for life
    /// (sender 0.0.0.0, RFC 5227; sender ::, RFC 4862) are never answered: they want the host itself. They go straight
    /// to it if it is known.
    pub(super) fn answer(&mut self, context: &Context<'_>) -> bool {
        // Foreign switches would learn the owner's address on the way of an answer that did not come from it.
        context.role == PortRole::Edge && (self.answer_arp(context) || self.answer_neighbour(context))
    }

    /// Asks a host that was not heard for long whether it is there, at its port. Its answer comes here, and is heard.
    pub(super) fn ask(&mut self, station: Station) {
        let Some(host) = self.hosts.get(station) else { return };
        // The one that it named last; older ones it may have given up.
        let last = |v4: bool| {
            let of_family = host.addresses.iter().filter(move |(address, _)| address.is_ipv4() == v4);
            of_family.max_by_key(|(_, named)| **named).map(|(address, _)| *address)
        };
        let Station { mac, vlan } = station;
        let probe = match last(true).or_else(|| last(false)) {
            Some(IpAddr::V4(address)) => arp_probe(mac, ASKER, Ipv4Addr::UNSPECIFIED, address, vlan),
            Some(IpAddr::V6(address)) => solicitation(Some(mac), ASKER, address, vlan),
            None => return,
        };
        let places: Vec<_> = host.points.iter().map(|point| point.place).collect();
        for place in places {
            self.deliver(place, probe.clone());
        }
    }

    fn answer_arp(&mut self, context: &Context<'_>) -> bool {
        let frame = context.frame;
        let Some(arp) = frame.arp.filter(|arp| arp.is_request() && is_group(frame.dst)) else { return false };
        let gratuitous = arp.sender == arp.target;
        if gratuitous || self.known.is_vip(arp.target) || self.known.is_vip(arp.sender) {
            return false;
        }
        let Some((owner, _)) = self.hosts.owner(IpAddr::from(arp.target), frame.vlan) else { return false };
        let Some(place) = self.seat(owner, context.at.dpid) else { return false };
        if owner.mac == frame.src || place == context.at {
            return false;
        }
        if arp.sender.is_unspecified() && self.topology.is_segment(place) {
            return false;
        }
        let freed = self.sent_on(&context.packet, context.at.dpid, &[]);
        self.out.extend(freed);
        if arp.sender.is_unspecified() {
            self.deliver(place, context.packet.data.to_vec());
        } else {
            let reply = arp_reply((frame.src, arp.sender), (owner.mac, arp.target), frame.vlan);
            self.deliver(context.at, reply);
        }
        true
    }

    fn answer_neighbour(&mut self, context: &Context<'_>) -> bool {
        let frame = context.frame;
        let Some(ip) = frame.ip.filter(|_| is_group(frame.dst)) else { return false };
        let (Some(Neighbour::Solicitation { target }), IpAddr::V6(asker)) = (ip.neighbour, ip.src) else {
            return false;
        };
        if asker.is_unspecified() {
            return false;
        }
        let Some((owner, _)) = self.hosts.owner(IpAddr::from(target), frame.vlan) else { return false };
        let Some(place) = self.seat(owner, context.at.dpid) else { return false };
        if owner.mac == frame.src || place == context.at {
            return false;
        }
        let freed = self.sent_on(&context.packet, context.at.dpid, &[]);
        self.out.extend(freed);
        self.deliver(context.at, advertisement((frame.src, asker), (owner.mac, target), frame.vlan));
        true
    }
}
