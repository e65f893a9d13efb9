//! The standing entries of balancing among the switches: who gets them, and what comes to the controller all the same.
//!
//! Packets of connections do not come here. What does is what no entry can do: a half-open connection whose backend is
//! gone, a reset, a refusal while nobody is up.

use std::time::Duration;

use lb_core::host::config::{OnDown, Protocol};
use lb_core::host::health::State;
use lb_core::host::plan::VipPlan;
use lb_core::table::{ConnKey, ConnValue};
use lb_core::{Egress, Outcome, conn};
use openflow::{DatapathId, FlowRemovedReason, GroupId, Message};

use super::stages::{Context, Next};
use super::{Network, Out};
use crate::core::balance::proactive::{FoundStanding, Limits, Standing, Step};
use crate::core::balance::{self, Connection};
use crate::core::cookie::Sequence;

/// Learned entries of TCP go after so long without a packet, in seconds: those of half-open connections are among them.
const TCP_IDLE_S: u16 = 300;
/// Bits of TCP flags (RFC 9293, 3.1).
const SYN: u8 = 1 << 1;

/// The standing entries that settings ask for.
pub(super) fn of_settings(settings: &balance::Settings) -> Option<Standing> {
    let connections = &settings.config.connections;
    let seconds = |s: u32| u16::try_from(s).unwrap_or(u16::MAX);
    let limits = Limits {
        tcp_idle_s: seconds(connections.established_s).min(TCP_IDLE_S),
        udp_idle_s: seconds(connections.udp_s),
        gone_idle_s: seconds(connections.established_s),
        learned: connections.table_size,
    };
    settings.entries.stands().then(|| Standing::new(settings.entries, limits))
}

impl Network {
    /// The standing entries, if this controller balances by such.
    #[must_use]
    pub const fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// A switch is ready. Standing entries that nobody wants any more are deleted.
    pub(super) fn standing_ready(&mut self, dpid: DatapathId, found: FoundStanding) {
        let Some(member) = self.members.get(&dpid) else { return };
        let (version, nicira) = (member.version, member.nicira);
        let steps = match (&mut self.standing, &self.balancer) {
            (Some(standing), Some(balancer)) => {
                standing.ready(dpid, version, nicira, found, balancer.plan(), self.now)
            }
            _ => found.delete(version).into_iter().map(|message| Step::Send(dpid, message)).collect(),
        };
        self.take_steps(steps);
    }

    pub(super) fn standing_lost(&mut self, dpid: DatapathId) {
        if let Some(standing) = &mut self.standing {
            standing.lost(dpid);
        }
    }

    /// A switch listed all its groups.
    pub fn groups_listed(&mut self, dpid: DatapathId, groups: &[GroupId]) {
        let steps = self.standing.as_mut().map(|standing| standing.groups(dpid, groups));
        self.take_steps(steps.unwrap_or_default());
    }

    /// A switch cannot do what the tracked form needs.
    pub fn cannot_track(&mut self, dpid: DatapathId) {
        let steps = self.standing.as_mut().map(|standing| standing.cannot_track(dpid));
        self.take_steps(steps.unwrap_or_default());
    }

    /// A switch removed a standing entry.
    pub fn standing_removed(&mut self, dpid: DatapathId, reason: FlowRemovedReason, sequence: Sequence) {
        let was_idle = reason == FlowRemovedReason::IdleTimeout;
        let steps = self.standing.as_mut().map(|standing| standing.removed(dpid, sequence, was_idle));
        self.take_steps(steps.unwrap_or_default());
    }

    pub(super) fn standing_replanned(&mut self) {
        let (Some(standing), Some(balancer)) = (&mut self.standing, &self.balancer) else { return };
        let steps = standing.replanned(balancer.plan(), self.now);
        self.take_steps(steps);
    }

    pub(super) fn standing_tick(&mut self) {
        let now: Duration = self.now;
        let steps = self.standing.as_mut().map(|standing| standing.tick(now));
        self.take_steps(steps.unwrap_or_default());
    }

    fn take_steps(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(dpid, message) => self.send(dpid, message),
                Step::Log(level, text) => self.log(level, text),
            }
        }
    }

    fn send(&mut self, dpid: DatapathId, message: Message) {
        self.out.push(Out::Message { dpid, message: Box::new(message) });
    }

    /// A packet to a VIP for which an entry asks the controller; `None` for all others. Nothing is balanced here: what
    /// an entry could have done is dropped, and comes again.
    pub(super) fn standing_packet(&mut self, context: &Context<'_>) -> Option<Next> {
        self.standing.as_ref()?;
        let balancer = self.balancer.as_ref()?;
        let ip = context.frame.ip?;
        let (src_port, dst_port) = ip.ports?;
        let serves = |vip: &&VipPlan| {
            let key = vip.key;
            let same = key.address == ip.dst && key.protocol.number() == ip.protocol;
            same && key.ports.contains(dst_port) && vip.mac.0 == context.frame.dst.0
        };
        let narrowest = |vip: &&VipPlan| (vip.key.ports.is_all(), vip.key.ports.is_range());
        let vip = balancer.plan().vips.values().filter(serves).min_by_key(narrowest)?;
        let is_open = vip.key.protocol == Protocol::Tcp
            && tcp_flags(context.packet.data).is_some_and(|flags| flags & SYN == 0);
        if is_open && vip.on_down == OnDown::Reset {
            let dead = balancer.plan().backends.values().find(|backend| {
                backend.vip == vip.id.id && matches!(backend.state, State::Down | State::Disabled)
            });
            let key = ConnKey::new(
                lb_core::host::records::address(ip.src),
                src_port.to_be(),
                vip.id.id,
                dst_port.to_be(),
                ip.protocol,
            );
            let connection = dead.map(|backend| Connection {
                key,
                value: ConnValue {
                    backend: backend.id.id,
                    generation: backend.id.generation,
                    state: conn::state::ESTABLISHED,
                    flags: conn::flag::ANSWERED,
                    ..ConnValue::default()
                },
            });
            return Some(self.answer_for_vip(context, connection));
        }
        if vip.rotation.members.is_empty() {
            return Some(self.answer_for_vip(context, None));
        }
        let forget = self.standing.as_ref().and_then(|standing| {
            standing.forget(context.at.dpid, ip.protocol, (ip.src, src_port), (ip.dst, dst_port))
        });
        self.take_steps(forget.into_iter().collect());
        Some(Next::Stop("of a half-open connection whose backend is gone"))
    }

    /// Answers a packet as the core decides, with this connection known to it: a reset, or that nobody is there.
    fn answer_for_vip(&mut self, context: &Context<'_>, connection: Option<Connection>) -> Next {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return Next::Stop("") };
        if let Some(connection) = &connection {
            balancer.adopt(connection, now);
        }
        let mut bytes = context.packet.data.to_vec();
        let decided = balancer.decide(&mut bytes, now);
        if let Some(connection) = &connection {
            balancer.forget(&connection.key);
        }
        match decided.outcome {
            Outcome::Forward(Egress::Transmit) => {
                self.deliver(context.at, bytes);
                Next::Stop("")
            }
            _ => Next::Stop(decided.reason.name()),
        }
    }
}

/// The flags of a TCP segment in an Ethernet frame, with or without a VLAN tag; without extension headers.
fn tcp_flags(frame: &[u8]) -> Option<u8> {
    /// EtherType of an 802.1Q tag.
    const TAGGED: [u8; 2] = [0x81, 0];
    let ip_at = if frame.get(12..14)? == TAGGED { 18 } else { 14 };
    let first = *frame.get(ip_at)?;
    let header_bytes = if first >> 4 == 4 { usize::from(first & 0xf) * 4 } else { 40 };
    frame.get(ip_at + header_bytes + 13).copied()
}
