//! ARP and neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use super::change::{put, update};
use super::parse::{Arp, Ndp, word};
use super::{Arrival, End, Oracle, sum};
use crate::frame::{Mac, octets};
use crate::scenario::{Mode, Vip};
use crate::side::Action;

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Backends have the VIP's address, too, and what they send comes by here.
const fn shared(vip: &Vip) -> bool {
    matches!(vip.mode, Mode::Dsr | Mode::Ipip) && !vip.transmit
}

impl Oracle {
    /// RFC 826, for the addresses of VIPs.
    pub(super) fn arp(&mut self, arp: &Arp, frame: &[u8]) -> End {
        if !arp.ethernet_ipv4 {
            return End::pass("arp_other");
        }
        let mut bytes = frame.to_vec();
        if let Some(vip) = self.owner(arp.sender.1).filter(|v| v.mac != arp.sender.0).cloned() {
            // An answer to a probe, which has no sender's address, is left as it is.
            if !shared(&vip) || (arp.operation == REPLY && octets(arp.target.1) == [0; 4]) {
                return End::pass("arp_vip_claimed");
            }
            // An announcement asks for nobody.
            if arp.operation == REQUEST && arp.sender.1 != arp.target.1 {
                self.askers.insert((arp.target.1, vip.id), arp.sender.0);
            }
            put(&mut bytes, 6, &vip.mac);
            put(&mut bytes, arp.at + 8, &vip.mac);
            return End::sent(Action::Pass, "neighbour_corrected", bytes);
        }
        let Some(vip) = self.owner(arp.target.1) else { return End::pass("arp_other") };
        if arp.operation == REPLY && arp.to == vip.mac && shared(vip) {
            let Some(mac) = self.askers.get(&(arp.sender.1, vip.id)) else { return End::pass("arp_other") };
            put(&mut bytes, 0, mac);
            put(&mut bytes, arp.at + 18, mac);
            return End::sent(Action::Pass, "neighbour_to_backend", bytes);
        }
        if arp.operation != REQUEST || !(group(arp.to) || arp.to == vip.mac) {
            return End::pass("arp_other");
        }
        put(&mut bytes, 0, &arp.sender.0);
        put(&mut bytes, 6, &vip.mac);
        let body = [&[0, 2][..], &vip.mac, &octets(arp.target.1), &arp.sender.0, &octets(arp.sender.1)];
        put(&mut bytes, arp.at + 6, &body.concat());
        End::sent(Action::Transmit, "arp_answered", bytes)
    }

    /// RFC 4861, for the addresses of VIPs; `None` where it has nothing to do with them.
    pub(super) fn ndp(&mut self, arrival: &Arrival<'_>, ndp: &Ndp) -> Option<End> {
        if ndp.advertises { self.advertised(arrival, ndp) } else { self.solicited(arrival, ndp) }
    }

    fn solicited(&mut self, arrival: &Arrival<'_>, ndp: &Ndp) -> Option<End> {
        let packet = arrival.packet;
        let claim = ndp.mac.and_then(|mac| Some((mac, self.owner(packet.src)?.clone())));
        if let Some((mac, vip)) = claim.filter(|(mac, vip)| vip.mac != *mac) {
            if !shared(&vip) {
                return Some(End::pass("ndp_vip_claimed"));
            }
            self.askers.insert((ndp.target, vip.id), mac);
            return Some(End::sent(
                Action::Pass,
                "neighbour_corrected",
                corrected(arrival, ndp, mac, vip.mac),
            ));
        }
        let vip = self.owner(ndp.target)?;
        if !(group(packet.to) || packet.to == vip.mac) {
            return None;
        }
        Some(End::sent(Action::Transmit, "ndp_answered", advertise(arrival, ndp, vip.mac)))
    }

    fn advertised(&self, arrival: &Arrival<'_>, ndp: &Ndp) -> Option<End> {
        let packet = arrival.packet;
        if let Some(vip) = self.owner(ndp.target).filter(|v| v.mac != ndp.mac.unwrap_or(packet.from)) {
            if !shared(vip) {
                return Some(End::pass("ndp_vip_claimed"));
            }
            let bytes = match ndp.mac {
                Some(mac) => corrected(arrival, ndp, mac, vip.mac),
                None => {
                    let mut bytes = arrival.frame.to_vec();
                    put(&mut bytes, 6, &vip.mac);
                    bytes
                }
            };
            return Some(End::sent(Action::Pass, "neighbour_corrected", bytes));
        }
        let vip = self.owner(packet.dst).filter(|v| v.mac == packet.to)?;
        let asker = self.askers.get(&(ndp.target, vip.id)).filter(|_| shared(vip));
        Some(match asker {
            Some(mac) => {
                let mut bytes = arrival.frame.to_vec();
                put(&mut bytes, 0, mac);
                End::sent(Action::Pass, "neighbour_to_backend", bytes)
            }
            None => End::pass("not_ours"),
        })
    }
}

const fn group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

/// The VIP's MAC in place of another one: in the frame, in the option, and in the checksum.
fn corrected(arrival: &Arrival<'_>, ndp: &Ndp, old: Mac, new: Mac) -> Vec<u8> {
    let mut bytes = arrival.frame.to_vec();
    let words = |mac: Mac| [word(&mac, 0), word(&mac, 2), word(&mac, 4)];
    update(&mut bytes, ndp.at + 2, &words(old), &words(new), false);
    put(&mut bytes, ndp.at + 26, &new);
    put(&mut bytes, 6, &new);
    bytes
}

/// The solicitation as its own answer; what was longer stays behind it as padding.
fn advertise(arrival: &Arrival<'_>, ndp: &Ndp, mac: Mac) -> Vec<u8> {
    let packet = arrival.packet;
    let nobody = packet.src == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let (to, to_mac, flags) = if nobody {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        (IpAddr::V6(all_nodes), [0x33, 0x33, 0, 0, 0, 1], 0x20)
    } else {
        (packet.src, packet.from, 0x60)
    };
    let mut bytes = arrival.frame.to_vec();
    bytes.resize(bytes.len().max(ndp.at + 32), 0);
    put(&mut bytes, 0, &to_mac);
    put(&mut bytes, 6, &mac);
    put(&mut bytes, packet.at + 4, &[0, 32, 58, 255]);
    put(&mut bytes, packet.at + 8, &octets(ndp.target));
    put(&mut bytes, packet.at + 24, &octets(to));
    let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
    message.extend(octets(ndp.target));
    message.extend([2, 1]);
    message.extend(mac);
    let checksum = sum::complete(sum::pseudo(ndp.target, to, 58, 32), &message);
    put(&mut message, 2, &checksum.to_be_bytes());
    put(&mut bytes, ndp.at, &message);
    bytes
}
