//! ICMP and ICMPv6.

use super::change::{Change, address_at, fits, put, update};
use super::parse::{Icmp, address6, word};
use super::{Arrival, End, Oracle, sum};
use crate::frame::{Ip, octets};
use crate::scenario::{Handing, Mode, Vip};

/// The packet that an error complains of.
#[derive(Clone, Copy, Debug)]
struct Inner {
    /// Where it begins.
    at: usize,
    /// Where its transport header begins.
    l4: usize,
    protocol: u8,
    src: (Ip, u16),
    dst: (Ip, u16),
}

/// New values of an error's fields; `None`: as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Both {
    outer: Change,
    src: Option<(Ip, u16)>,
    dst: Option<(Ip, u16)>,
}

impl Oracle {
    pub(super) fn icmp_to_vip(&mut self, arrival: &Arrival<'_>, icmp: &Icmp, owner: &Vip) -> End {
        let v4 = arrival.packet.src.is_ipv4();
        if (icmp.kind, icmp.code) == (if v4 { 8 } else { 128 }, 0) {
            return if owner.echo {
                self.echo(arrival, icmp, owner)
            } else {
                self.dropped("vip_no_service", owner.id)
            };
        }
        if !is_error(icmp, v4) {
            return self.dropped("vip_no_service", owner.id);
        }
        let found = inner(arrival, icmp).filter(|i| i.src.0 == arrival.packet.dst);
        let end = found.and_then(|inner| match self.serving(inner.src.0, inner.protocol, inner.src.1) {
            Some(vip) => {
                let vip = vip.clone();
                self.error_to_backend(arrival, icmp, &inner, &vip)
            }
            None => self.error_of_lent(arrival, icmp, &inner),
        });
        match end {
            Some(end) => end,
            None if self.scenario.handing != Handing::No => End::pass("handed_over"),
            None => self.dropped("icmp_no_connection", owner.id),
        }
    }

    /// About a packet that the VIP sent to a client.
    fn error_to_backend(
        &mut self,
        arrival: &Arrival<'_>,
        icmp: &Icmp,
        inner: &Inner,
        vip: &Vip,
    ) -> Option<End> {
        let (entry, backend) = self.live(&(inner.dst.0, inner.dst.1, vip.id, inner.src.1, inner.protocol))?;
        let action = self.way(vip, arrival.slot, backend.slot);
        let bytes = if matches!(vip.mode, Mode::Dsr | Mode::Ipip) {
            if !fits(arrival.packet, vip, backend.address) {
                // No error about an error (RFC 1122, section 3.2.2).
                return Some(self.dropped("rewrite_failed", vip.id));
            }
            self.toward(arrival, None, vip, &backend, 0)
        } else {
            let full = vip.mode == Mode::FullNat;
            let port = if backend.port == 0 { inner.src.1 } else { backend.port };
            let both = Both {
                outer: Change {
                    dst_mac: (backend.mac != [0; 6]).then_some(backend.mac),
                    src_mac: (vip.transmit || full).then_some(vip.mac),
                    dst: Some(backend.address),
                    ..Change::default()
                },
                src: Some((backend.address, port)),
                dst: full.then_some((vip.source.unwrap_or(vip.address), entry.lent)),
            };
            both.apply(arrival, icmp, inner)
        };
        self.traffic(arrival, vip.id, backend.id, "in");
        Some(End::sent(action, "icmp_to_backend", bytes))
    }

    /// About a packet that full NAT sent to a backend.
    fn error_of_lent(&mut self, arrival: &Arrival<'_>, icmp: &Icmp, inner: &Inner) -> Option<End> {
        let (vip, half, backend) = self.lent(inner.dst, inner.src, inner.protocol)?;
        let (entry, _) = self.live(&half.connection(inner.protocol))?;
        let both = Both {
            outer: Change {
                dst_mac: Some(half.mac),
                src_mac: Some(vip.mac),
                src: (arrival.packet.src == backend.address).then_some(vip.address),
                dst: Some(half.client),
                ..Change::default()
            },
            src: Some((half.client, half.client_port)),
            dst: Some((vip.address, half.vip_port)),
        };
        self.traffic(arrival, vip.id, backend.id, "out");
        let action = self.way(&vip, arrival.slot, entry.client_slot);
        Some(End::sent(action, "icmp_to_client", both.apply(arrival, icmp, inner)))
    }

    /// Of a backend, about a client's packet.
    pub(super) fn icmp_of_backend(&mut self, arrival: &Arrival<'_>, icmp: &Icmp) -> Option<End> {
        let packet = arrival.packet;
        if !is_error(icmp, packet.src.is_ipv4()) {
            return None;
        }
        let inner = inner(arrival, icmp).filter(|i| i.dst.0 == packet.src && i.src.0 == packet.dst)?;
        let (vip, key, backend) = self.replying(inner.dst, inner.src, inner.protocol)?;
        let (entry, _) = self.live(&key)?;
        let both = Both {
            outer: Change { src_mac: Some(vip.mac), src: Some(vip.address), ..Change::default() },
            src: None,
            dst: Some((vip.address, key.3)),
        };
        self.traffic(arrival, vip.id, backend.id, "out");
        let action = self.way(&vip, arrival.slot, entry.client_slot);
        Some(End::sent(action, "icmp_to_client", both.apply(arrival, icmp, &inner)))
    }
}

/// Unreachable, time exceeded, parameter problem, packet too big.
fn is_error(icmp: &Icmp, v4: bool) -> bool {
    if v4 { [3, 11, 12].contains(&icmp.kind) } else { (1..=4).contains(&icmp.kind) }
}

/// The quoted packet: no later part, no extension headers, eight bytes of TCP or UDP at least.
fn inner(arrival: &Arrival<'_>, icmp: &Icmp) -> Option<Inner> {
    let at = icmp.at + 8;
    let bytes = arrival.frame.get(..arrival.packet.end)?;
    let ip = &bytes[at..];
    let (header, protocol, src, dst) = if arrival.packet.src.is_ipv4() {
        let fixed = ip.get(..20)?;
        let header = usize::from(fixed[0] & 15) * 4;
        if fixed[0] >> 4 != 4 || header < 20 || word(fixed, 6) & 0x1fff != 0 {
            return None;
        }
        let address = |i: usize| Ip::from([fixed[i], fixed[i + 1], fixed[i + 2], fixed[i + 3]]);
        (header, fixed[9], address(12), address(16))
    } else {
        let fixed = ip.get(..40)?;
        if fixed[0] >> 4 != 6 {
            return None;
        }
        (40, fixed[6], address6(&fixed[8..]), address6(&fixed[24..]))
    };
    let ports = ip.get(header..header + 8).filter(|_| [6, 17].contains(&protocol))?;
    Some(Inner { at, l4: at + header, protocol, src: (src, word(ports, 0)), dst: (dst, word(ports, 2)) })
}

impl Both {
    /// The frame with all of this changed: outer header, ICMP checksum, quoted header, quoted ports.
    fn apply(&self, arrival: &Arrival<'_>, icmp: &Icmp, inner: &Inner) -> Vec<u8> {
        let packet = arrival.packet;
        let v4 = packet.src.is_ipv4();
        let mut bytes = self.outer.apply(arrival, None);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (is, becomes, first) in [(inner.src, self.src, true), (inner.dst, self.dst, false)] {
            let Some((address, _)) = becomes else { continue };
            let at = address_at(packet, first) - packet.at + inner.at;
            put(&mut bytes, at, &octets(address));
            old.extend(sum::words(is.0));
            new.extend(sum::words(address));
        }
        if v4 {
            let before = word(&bytes, inner.at + 10);
            update(&mut bytes, inner.at + 10, &old, &new, false);
            old.push(before);
            new.push(word(&bytes, inner.at + 10));
        } else {
            // The pseudo header is under the checksum of ICMPv6 as well.
            for (is, becomes) in [(packet.src, self.outer.src), (packet.dst, self.outer.dst)] {
                if let Some(address) = becomes {
                    old.extend(sum::words(is));
                    new.extend(sum::words(address));
                }
            }
        }
        for (is, becomes, at) in [(inner.src.1, self.src, inner.l4), (inner.dst.1, self.dst, inner.l4 + 2)] {
            let Some((_, port)) = becomes else { continue };
            put(&mut bytes, at, &port.to_be_bytes());
            old.push(is);
            new.push(port);
        }
        update(&mut bytes, icmp.at + 2, &old, &new, false);
        bytes
    }
}
