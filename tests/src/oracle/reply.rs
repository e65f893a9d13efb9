//! A packet of a backend: a reply when a connection says so.

use super::change::Change;
use super::conn::Key;
use super::parse::Flow;
use super::{Arrival, End, Oracle, by_way};
use crate::frame::{Ip, Mac};
use crate::scenario::{Backend, Mode, Vip};
use crate::side::Action;

/// What full NAT finds a connection by: backend, its port, the port that was lent, protocol.
pub(super) type HalfKey = (Ip, u16, u16, u8);

/// The other half of a connection of full NAT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    pub client: Ip,
    /// As it was at the opening.
    pub mac: Mac,
    pub client_port: u16,
    pub vip: u16,
    pub vip_port: u16,
}

impl Half {
    /// The key of the connection that it belongs to.
    pub const fn connection(&self, protocol: u8) -> Key {
        (self.client, self.client_port, self.vip, self.vip_port, protocol)
    }
}

impl Oracle {
    /// The VIPs of a backend's service, with their ports.
    pub(super) fn service(&self, address: Ip, port: u16, protocol: u8) -> Vec<(u16, u16)> {
        let list = |port: u16| {
            let of = |((a, p, proto), _): &&crate::scenario::Service| {
                (*a, *p, proto.number()) == (address, port, protocol)
            };
            self.services.iter().find(of).map(|(_, vips)| vips.clone())
        };
        let vips = list(port).or_else(|| list(0)).unwrap_or_default();
        vips.into_iter().map(|(vip, own)| (vip, if own == 0 { port } else { own })).collect()
    }

    /// The connection in nat mode of a backend's service with a client.
    pub(super) fn replying(
        &self,
        backend: (Ip, u16),
        client: (Ip, u16),
        protocol: u8,
    ) -> Option<(Vip, Key, Backend)> {
        self.service(backend.0, backend.1, protocol).into_iter().find_map(|(id, vip_port)| {
            let key = (client.0, client.1, id, vip_port, protocol);
            let entry = self.entry(&key).filter(|e| e.live(self.now, &self.scenario.timeouts))?;
            let theirs = self.backend(entry.backend).filter(|b| {
                b.address == backend.0
                    && b.generation == entry.generation
                    && (b.port == 0 || b.port == backend.1)
            })?;
            Some((self.vip(id)?.clone(), key, theirs.clone()))
        })
    }

    /// The connection of full NAT that lent a port.
    pub(super) fn lent(
        &self,
        backend: (Ip, u16),
        lent: (Ip, u16),
        protocol: u8,
    ) -> Option<(Vip, Half, Backend)> {
        let half = *self.halves.get(&(backend.0, backend.1, lent.1, protocol))?;
        let vip = self.vip(half.vip).filter(|v| v.mode == Mode::FullNat)?;
        let (entry, theirs) = self.live(&half.connection(protocol))?;
        let same = entry.lent == lent.1
            && theirs.address == backend.0
            && vip.source.unwrap_or(vip.address) == lent.0;
        same.then(|| (vip.clone(), half, theirs))
    }

    pub(super) fn reply(&mut self, arrival: &Arrival<'_>, flow: &Flow) -> Option<End> {
        let packet = arrival.packet;
        let found = self.replying((packet.src, flow.sport), (packet.dst, flow.dport), flow.protocol);
        if let Some((vip, key, backend)) = found {
            let client_slot = self.heard(flow, &key, backend.id);
            self.leave_parts(
                arrival,
                &vip,
                &backend,
                Some((self.redirected(arrival, &vip, client_slot), None)),
            );
            let change = Change {
                src_mac: Some(vip.mac),
                src: Some(vip.address),
                sport: (key.3 != flow.sport).then_some(key.3),
                ..Change::default()
            };
            return Some(self.back(arrival, flow, &vip, backend.id, client_slot, &change));
        }
        self.stateless_reply(arrival, flow)
    }

    /// A reply to a packet that went beyond the cap.
    fn stateless_reply(&mut self, arrival: &Arrival<'_>, flow: &Flow) -> Option<End> {
        let packet = arrival.packet;
        let [(id, port)] = self.service(packet.src, flow.sport, flow.protocol)[..] else { return None };
        let vip = self.vip(id).filter(|v| v.stateless && v.mode == Mode::Nat)?.clone();
        let change = Change {
            src_mac: Some(vip.mac),
            src: Some(vip.address),
            sport: (port != flow.sport).then_some(port),
            ..Change::default()
        };
        Some(self.back(arrival, flow, &vip, 0, 0, &change))
    }

    /// A packet to the address and port that full NAT lent.
    pub(super) fn lent_reply(&mut self, arrival: &Arrival<'_>, flow: &Flow) -> Option<End> {
        let packet = arrival.packet;
        let (vip, half, backend) =
            self.lent((packet.src, flow.sport), (packet.dst, flow.dport), flow.protocol)?;
        let client_slot = self.heard(flow, &half.connection(flow.protocol), backend.id);
        self.leave_parts(
            arrival,
            &vip,
            &backend,
            Some((self.redirected(arrival, &vip, client_slot), Some(half))),
        );
        let change = Change {
            dst_mac: Some(half.mac),
            src_mac: Some(vip.mac),
            src: Some(vip.address),
            dst: Some(half.client),
            sport: Some(half.vip_port),
            dport: Some(half.client_port),
        };
        Some(self.back(arrival, flow, &vip, backend.id, client_slot, &change))
    }

    /// The slot of the client's port if a packet is redirected there, else 0: its parts go the same way.
    fn redirected(&self, arrival: &Arrival<'_>, vip: &Vip, client_slot: u16) -> u16 {
        match self.way(vip, arrival.slot, client_slot) {
            Action::Redirect(slot) => slot,
            _ => 0,
        }
    }

    /// Notes a reply in its connection; the slot of the client's port.
    fn heard(&mut self, flow: &Flow, key: &Key, backend: u16) -> u16 {
        let now = self.now;
        if flow.segment.is_none_or(|s| !s.rst) {
            for owner in [format!("vip:{}", key.2), format!("backend:{backend}")] {
                self.counters.insert(format!("{owner}:last_alive"), u64::from(now.max(1)));
            }
        }
        self.closing(key, |entry| {
            entry.last_seen = now;
            if let Some(segment) = flow.segment {
                entry.note(segment, false, false);
            }
            entry.client_slot
        })
    }

    fn back(
        &mut self,
        arrival: &Arrival<'_>,
        flow: &Flow,
        vip: &Vip,
        backend: u16,
        client_slot: u16,
        change: &Change,
    ) -> End {
        self.note_checksum(arrival, flow);
        self.traffic(arrival, vip.id, backend, "out");
        let action = self.way(vip, arrival.slot, client_slot);
        let reasons = ["to_client_redirect", "to_client_transmit", "to_client_switch"];
        End::sent(action, by_way(action, reasons), change.apply(arrival, Some(flow)))
    }
}
