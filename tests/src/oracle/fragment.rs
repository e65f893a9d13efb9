//! The later parts of fragmented packets.

use super::answer::too_big;
use super::change::{Change, fits};
use super::reply::Half;
use super::{Arrival, End, Oracle};
use crate::frame::Ip;
use crate::scenario::{Backend, Handing, Vip};

/// What the parts of one packet have in common: source, destination, identification, protocol.
pub(super) type Whole = (Ip, Ip, u32, u8);

/// Where the parts go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    vip: u16,
    backend: u16,
    generation: u16,
    first_seen: u32,
    /// To the client: the slot of its port, and for full NAT who it is.
    back: Option<(u16, Option<Half>)>,
}

impl Oracle {
    /// A first part leaves behind where the others go; a whole packet leaves nothing.
    pub(super) fn leave_parts(
        &mut self,
        arrival: &Arrival<'_>,
        vip: &Vip,
        backend: &Backend,
        back: Option<(u16, Option<Half>)>,
    ) {
        let packet = arrival.packet;
        let Some(part) = packet.part else { return };
        let parts = Parts {
            vip: vip.id,
            backend: backend.id,
            generation: backend.generation,
            first_seen: self.now,
            back,
        };
        self.parts.insert((packet.src, packet.dst, part.id, part.protocol), parts);
    }

    pub(super) fn later_to_vip(&mut self, arrival: &Arrival<'_>, owner: &Vip) -> End {
        match self.follow(arrival) {
            Some(end) => end,
            None if self.scenario.handing != Handing::No => End::pass("handed_over"),
            None => self.dropped("fragment_unknown", owner.id),
        }
    }

    pub(super) fn later_of_backend(&mut self, arrival: &Arrival<'_>) -> Option<End> {
        self.follow(arrival)
    }

    fn follow(&mut self, arrival: &Arrival<'_>) -> Option<End> {
        let packet = arrival.packet;
        let part = packet.part?;
        let parts = *self.parts.get(&(packet.src, packet.dst, part.id, part.protocol))?;
        if self.now.wrapping_sub(parts.first_seen) > self.scenario.timeouts.fragment {
            return None;
        }
        let vip = self.vip(parts.vip)?.clone();
        let backend = self
            .backend(parts.backend)
            .filter(|b| b.generation == parts.generation && b.vip == vip.id)?
            .clone();
        let Some((client_slot, half)) = parts.back else {
            if !fits(packet, &vip, backend.address) {
                return Some(too_big(arrival, None, &vip, backend.address));
            }
            self.traffic(arrival, vip.id, backend.id, "in");
            let action = self.way(&vip, arrival.slot, backend.slot);
            let bytes = self.toward(arrival, None, &vip, &backend, 0);
            return Some(End::sent(action, "fragment_to_backend", bytes));
        };
        self.traffic(arrival, vip.id, backend.id, "out");
        let change = Change {
            dst_mac: half.map(|h| h.mac),
            src_mac: Some(vip.mac),
            src: Some(vip.address),
            dst: half.map(|h| h.client),
            ..Change::default()
        };
        let action = self.way(&vip, arrival.slot, client_slot);
        Some(End::sent(action, "fragment_to_client", change.apply(arrival, None)))
    }
}
