//! Packets for VIPs that wait until it is known who balances, or where hosts are.

use std::net::IpAddr;

use openflow::PacketInRef;

use super::StandBy;
use crate::core::balance::Balancer;
use crate::core::event::Level;
use crate::core::forward::{DropReason, Fate};
use crate::core::frame::Frame;
use crate::core::ip::Neighbour;
use crate::core::net::stages::{Context, Next};
use crate::core::net::{Network, Out};
use crate::core::vip::Placement;

/// Packets that wait for the daemon's answer at most, and their bytes.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 4 << 20;

impl Network {
    /// Decides about the packets that waited.
    pub(super) fn send_waiting(&mut self) {
        self.stand.waiting_bytes = 0;
        for (at, bytes) in std::mem::take(&mut self.stand.waiting) {
            if let Some(frame) = Frame::parse(&bytes) {
                let packet = PacketInRef::whole(at.port, &bytes);
                self.packet_in(at.dpid, &packet, &frame, self.now);
            }
        }
    }

    /// A packet for a VIP while hosts are asked where they are: it waits, or it would be flooded.
    pub(in crate::core::net) fn wait_for_hosts(&mut self, context: &Context<'_>) -> Option<Next> {
        let asks = self.stand.taking.as_ref().is_some_and(|taking| taking.tokens.is_none());
        let is_virtual = |balancer: &Balancer| balancer.is_virtual(context.frame.dst);
        (asks && self.balancer.as_ref().is_some_and(is_virtual)).then(|| self.let_wait(context))
    }

    pub(super) fn drop_waiting(&mut self, why: &str) {
        let count = std::mem::take(&mut self.stand.waiting).len();
        self.stand.waiting_bytes = 0;
        if count > 0 {
            *self.stops.entry("for a VIP, and XDP is not attached").or_default() += count as u64;
        }
        if !why.is_empty() {
            self.log(Level::Debug, why.to_owned());
        }
    }

    /// A packet for a VIP that XDP should have had: it waits until the daemon has said who balances. `None` if it is none,
    /// or nobody stands by.
    pub(in crate::core::net) fn watch_for_vips(&mut self, context: &Context<'_>) -> Option<Next> {
        let stands_by = matches!(self.settings.stand_by, StandBy::Ready { .. }) && self.balancer.is_none();
        if !stands_by || self.known.placement() != Placement::Inline || !self.is_for_vip(context) {
            return None;
        }
        if self.now < self.stand.late_until {
            return Some(Next::Stop("for a VIP, and late: XDP balances again"));
        }
        if self.now < self.stand.quiet_until {
            let reason = match context.decision {
                Some(Fate::Drop(reason @ (DropReason::Unbalanced(_) | DropReason::VipArp(_)))) => reason,
                _ => return Some(Next::Stop("for a VIP, and XDP is not attached")),
            };
            // No entry: it would hide from us that XDP has gone.
            self.out.push(Out::Dropped { at: context.at, reason });
            return Some(Next::Stop("for a VIP, and XDP is not attached"));
        }
        self.ask_daemon();
        Some(self.let_wait(context))
    }

    fn let_wait(&mut self, context: &Context<'_>) -> Next {
        let (stand, packet) = (&mut self.stand, &context.packet);
        let whole = packet.data.len() >= usize::from(packet.total_len);
        let room =
            stand.waiting.len() < MAX_WAITING && stand.waiting_bytes + packet.data.len() <= MAX_WAITING_BYTES;
        if !whole || !room {
            return Next::Stop("for a VIP, and too many wait until it is balanced");
        }
        stand.waiting_bytes += packet.data.len();
        stand.waiting.push((context.at, packet.data.to_vec()));
        Next::Stop("")
    }

    fn is_for_vip(&self, context: &Context<'_>) -> bool {
        let Some(last) = &self.stand.last else { return false };
        if let Some(Fate::Drop(DropReason::Unbalanced(_) | DropReason::VipArp(_))) = context.decision {
            return true;
        }
        let target = match context.frame.ip.and_then(|ip| ip.neighbour) {
            Some(Neighbour::Solicitation { target }) => Some(IpAddr::V6(target)),
            _ => None,
        };
        let dst = context.frame.dst;
        last.config.vips.iter().any(|vip| vip.mac.0 == dst.0 || Some(vip.address) == target)
    }
}
