//! Fragments of balanced packets. In a switch's match they have no ports, the first one neither (OpenFlow 1.0, 3.4, and
//! Open vSwitch in all versions), so that no entry of a connection takes them: each comes to the controller, which sends
//! it on, rewritten, to where its destination is. That holds as long as no other entry takes them before.
//!
//! ```text
//!   client  --- fragment ---> controller --- to a backend ---> backend       no entry is for a virtual MAC
//!   client <--- to a client --- controller <--- fragment --- backend         an entry for fragments would hide this
//! ```
//!
//! A switch may send them in another order than they came: those before the first one of their packet wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::host::config::Mode;
use openflow::PacketInRef;

use super::key::IpKey;
use super::stages::Context;
use super::{FlowKey, Network};
use crate::core::frame::Frame;
use crate::core::ip::{FRAGMENT, Part, part};
use crate::core::topo::Place;

/// How long a fragment waits for the first one of its packet, unless told otherwise. Open vSwitch's datapath in user space
/// handles packets that arrive together by their flow entries, and then first fragments and others are two flows.
pub const PART_PATIENCE: Duration = Duration::from_millis(100);
/// Fragments that wait at most, and their bytes.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Packets whose first fragment is known to have come, in each of two generations.
const MAX_KNOWN: usize = 32_768;
/// From one generation to the next.
const GENERATION: Duration = Duration::from_secs(15);
/// What ports a fragment has in a match.
const NO_PORTS: (u16, u16) = (0, 0);

/// The packet that a fragment is of (RFC 791, 3.2; RFC 8200, 4.5).
type PacketKey = (IpAddr, IpAddr, u8, u32);

/// Fragments that came before the first one of their packet, and the packets of which that one has come.
#[derive(Debug, Default)]
pub struct Parts {
    waiting: BTreeMap<PacketKey, (Duration, Vec<Whole>)>,
    count: usize,
    bytes: usize,
    /// Those that have waited long enough.
    ready: Vec<Whole>,
    known: BTreeSet<PacketKey>,
    known_before: BTreeSet<PacketKey>,
    /// When the generation began.
    since: Duration,
}

/// A frame, and where it came in.
type Whole = (Place, Vec<u8>);

impl Parts {
    fn knows(&self, key: &PacketKey) -> bool {
        self.known.contains(key) || self.known_before.contains(key)
    }

    /// The first one has come, or nobody waits for it any more: those that wait go on.
    fn know(&mut self, key: PacketKey, now: Duration) {
        if self.known.len() >= MAX_KNOWN || now.saturating_sub(self.since) >= GENERATION {
            self.known_before = std::mem::take(&mut self.known);
            self.since = now;
        }
        self.known.insert(key);
        let Some((_, parts)) = self.waiting.remove(&key) else { return };
        self.count -= parts.len();
        self.bytes -= parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        self.ready.extend(parts);
    }

    /// Lets one wait; false if there is no room.
    fn hold(&mut self, key: PacketKey, at: Place, bytes: &[u8], now: Duration) -> bool {
        if self.count >= MAX_WAITING || self.bytes + bytes.len() > MAX_WAITING_BYTES {
            return false;
        }
        self.count += 1;
        self.bytes += bytes.len();
        self.waiting.entry(key).or_insert((now, Vec::new())).1.push((at, bytes.to_vec()));
        true
    }
}

impl Network {
    /// Whether a fragment of a packet that may be balanced waits for the first one of it.
    pub(super) fn waits_for_first(&mut self, context: &Context<'_>) -> bool {
        let patience = self.settings.part_patience;
        let Some(ip) = context.frame.ip.filter(|ip| ip.fragment && !patience.is_zero()) else { return false };
        let Some(balancer) = self.balancer.as_ref().filter(|balancer| !balancer.entries().stands()) else {
            return false;
        };
        if !balancer.is_virtual(context.frame.dst) && !balancer.is_backend(ip.src) {
            return false;
        }
        let packet = context.packet;
        let ip_at = packet.data.get(if context.frame.vlan.is_some() { 18 } else { 14 }..);
        let Some(Part { id, protocol, is_first }) = ip_at.and_then(part) else { return false };
        let key = (ip.src, ip.dst, protocol, id);
        if is_first {
            self.parts.know(key, self.now);
            return false;
        }
        let is_whole = packet.data.len() >= usize::from(packet.total_len);
        is_whole && !self.parts.knows(&key) && self.parts.hold(key, context.at, packet.data, self.now)
    }

    /// Fragments whose first one does not come are decided about without it.
    pub(super) fn parts_tick(&mut self) {
        let (now, patience) = (self.now, self.settings.part_patience);
        let over = |since: Duration| now.saturating_sub(since) >= patience;
        let late = self.parts.waiting.iter().filter(|(_, (since, _))| over(*since));
        let late: Vec<PacketKey> = late.map(|(key, _)| *key).collect();
        for key in late {
            self.parts.know(key, now);
        }
        self.go_on_with_parts();
    }

    /// Takes those that have waited long enough through the stages.
    pub(super) fn go_on_with_parts(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.parts.ready) {
            if let Some(frame) = Frame::parse(&bytes) {
                self.pass_stages(at.dpid, &PacketInRef::whole(at.port, &bytes), &frame);
            }
        }
    }

    /// Whether an entry of a route for this flow would take fragments that are a backend's answers to clients of a VIP.
    pub(super) fn hides_answers(&self, key: &FlowKey) -> bool {
        let Some(IpKey { src, protocol: Some(protocol), ports, .. }) = key.ip else { return false };
        // Of later fragments of IPv6 a match has no protocol but that of the fragment header.
        let any_protocol = src.is_ipv6() && protocol == FRAGMENT;
        if !any_protocol && ports != Some(NO_PORTS) {
            return false;
        }
        let Some(balancer) = self.balancer.as_ref().filter(|balancer| !balancer.entries().stands()) else {
            return false;
        };
        balancer.config().vips.iter().any(|vip| {
            let same = any_protocol || vip.protocol.number() == protocol;
            same && vip.mode == Mode::Nat && vip.backends.iter().any(|backend| backend.address == src)
        })
    }

    /// Deletes the routes that hide answers of backends, which these were not before.
    pub(super) fn end_hiding_routes(&mut self) {
        let hiding: Vec<FlowKey> =
            self.flows.iter().map(|(key, _)| *key).filter(|key| self.hides_answers(key)).collect();
        for key in hiding {
            self.delete_flow(&key);
        }
    }
}
