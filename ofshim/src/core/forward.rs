//! Where a frame goes: one pure function over the frame, the learned stations, and what is known of the balancer.
//!
//! ```text
//!   source no station, link-local group ------------------------------> Drop
//!   answer to a probe of the balancer ---- inline --------------------> Drop, not learned
//!   to a virtual MAC --------------------- inline --------------------> Drop, short entry   (XDP is not attached)
//!                    '-------------------- one-armed -----------------> the balancer's port, never flooded
//!   ARP request for a VIP ---------------- inline --------------------> Drop
//!                         '--------------- one-armed -----------------> the balancer's port, else Flood
//!   group, or destination not learned --------------------------------> Flood
//!   destination learned ----------------------------------------------> its port, with an entry
//! ```

use std::net::Ipv4Addr;

use openflow::{MacAddr, PortNo};

use super::frame::{Frame, is_group, is_station};
use super::learn::Station;
use super::vip::{Placement, VipKnowledge};

/// Where stations are: behind the ports of one switch, or of a network of them.
pub trait Seats {
    /// What tells where a station is.
    type Port: Copy + Eq;

    /// Where `station` is.
    fn port_of(&self, station: Station) -> Option<Self::Port>;

    /// Where `mac` is, in whichever VLAN it was heard last.
    fn port_in_any_vlan(&self, mac: MacAddr) -> Option<Self::Port>;
}

/// What becomes of a frame, and whether its source is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<P = PortNo> {
    /// The source address is behind the port that the frame came in on.
    pub learn: bool,
    /// Where the frame goes.
    pub fate: Fate<P>,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<P = PortNo> {
    /// Nowhere.
    Drop(DropReason),
    /// To every port but the one it came in on.
    Flood,
    /// To one port, this frame only.
    Send(P),
    /// To one port, and an entry does the same with those that follow.
    Install(P),
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// Its source is a group address or all zeros.
    BadSource,
    /// It is for the neighbouring bridge only: spanning tree, LACP, LLDP.
    LinkLocal,
    /// It came from the port that it would go to.
    SamePort,
    /// It answers a probe of the balancer, which has seen it already.
    ProbeReply,
    /// It answers a probe of somebody who is not known here, probably of the balancer.
    StrayProbeReply,
    /// It is for a VIP and reached the switch, so no XDP program took it on its port.
    Unbalanced(Ipv4Addr),
    /// It asks for a VIP's MAC and reached the switch, so no XDP program answered on its port.
    VipArp(Ipv4Addr),
    /// It is for a VIP, and the port of the one-armed balancer is not known yet.
    BalancerUnknown(Ipv4Addr),
}

impl DropReason {
    /// Whether an entry should drop the frames that follow.
    #[must_use]
    pub const fn wants_entry(self) -> bool {
        matches!(self, Self::ProbeReply | Self::Unbalanced(_))
    }
}

/// Decides about a frame from `in_port`. `hint` is the port on which the virtual MAC of a one-armed balancer was last
/// heard as a source; it counts while the host's own MAC is not learned.
#[must_use]
pub fn judge<S: Seats>(
    frame: &Frame,
    in_port: S::Port,
    table: &S,
    known: &VipKnowledge,
    hint: Option<S::Port>,
) -> Verdict<S::Port> {
    if !is_station(frame.src) {
        return Verdict { learn: false, fate: Fate::Drop(DropReason::BadSource) };
    }
    if frame.is_link_local() {
        return Verdict { learn: false, fate: Fate::Drop(DropReason::LinkLocal) };
    }
    if let Some(reason) = probe_reply(frame, table, known) {
        return Verdict { learn: false, fate: Fate::Drop(reason) };
    }
    let fate = balanced(frame, table, known, hint).unwrap_or_else(|| ordinary(frame, table));
    let fate = match fate {
        Fate::Send(port) | Fate::Install(port) if port == in_port => Fate::Drop(DropReason::SamePort),
        fate => fate,
    };
    Verdict { learn: known.vip_of(frame.src).is_none(), fate }
}

/// Why the frame goes nowhere, if it answers a probe and nobody behind this switch waits for it.
///
/// Inline the prober looks at the port itself and has seen the answer, which may also be addressed to a virtual MAC.
/// One-armed it is a host like any other; only an answer to an address that is not learned is kept from being
/// flooded. Probers that are not named are known by what they cause: a backend that answers 0.0.0.0 (RFC 5227).
fn probe_reply<S: Seats>(frame: &Frame, table: &S, known: &VipKnowledge) -> Option<DropReason> {
    let arp = frame.arp.filter(|arp| !arp.is_request())?;
    let learned = table.port_of(Station { vlan: frame.vlan, mac: frame.dst }).is_some();
    let inline = known.placement() == Placement::Inline;
    if inline && (known.is_prober(frame.dst) || known.vip_of(frame.dst).is_some()) {
        return Some(DropReason::ProbeReply);
    }
    let of_backend = arp.answers_a_probe() && known.is_backend(arp.sender) && !is_group(frame.dst);
    let stray = !learned && (of_backend || known.is_prober(frame.dst));
    stray.then_some(DropReason::StrayProbeReply)
}

/// The fate of a frame that is for the balancer.
fn balanced<S: Seats>(
    frame: &Frame,
    table: &S,
    known: &VipKnowledge,
    hint: Option<S::Port>,
) -> Option<Fate<S::Port>> {
    let asked = frame.arp.filter(|arp| arp.is_request()).map(|arp| arp.target);
    // The balancing stage has dealt with them.
    if known.placement() == Placement::Flows {
        return None;
    }
    let (vip, asked) = match (known.vip_of(frame.dst), asked.filter(|target| known.is_vip(*target))) {
        (Some(vip), _) => (vip, false),
        (None, Some(vip)) if is_group(frame.dst) => (vip, true),
        _ => return None,
    };
    Some(match (known.placement(), asked) {
        (Placement::Inline, true) => Fate::Drop(DropReason::VipArp(vip)),
        (Placement::Inline, false) => Fate::Drop(DropReason::Unbalanced(vip)),
        (Placement::OneArm { .. } | Placement::Flows, asked) => {
            match (balancer_port(table, known, hint), asked) {
                (Some(port), true) => Fate::Send(port),
                (Some(port), false) => Fate::Install(port),
                (None, true) => Fate::Flood,
                (None, false) => Fate::Drop(DropReason::BalancerUnknown(vip)),
            }
        }
    })
}

/// The port of a one-armed balancer: where its host's own MAC is, else where a virtual MAC was heard.
#[must_use]
pub fn balancer_port<S: Seats>(table: &S, known: &VipKnowledge, hint: Option<S::Port>) -> Option<S::Port> {
    match known.placement() {
        Placement::Inline | Placement::Flows => None,
        Placement::OneArm { host_mac } => host_mac.and_then(|mac| table.port_in_any_vlan(mac)).or(hint),
    }
}

/// The fate of a frame that the balancer has nothing to do with.
fn ordinary<S: Seats>(frame: &Frame, table: &S) -> Fate<S::Port> {
    if is_group(frame.dst) {
        return Fate::Flood;
    }
    table.port_of(Station { vlan: frame.vlan, mac: frame.dst }).map_or(Fate::Flood, Fate::Install)
}
