//! What is said about frames that go nowhere, and what repeated lines are about.

use openflow::{DatapathId, ErrorKind, PortNo};

use super::event::{ConnId, Level};
use super::forward::DropReason;
use super::learn::Station;
use super::limit::more;
use super::link::Context;

/// What log lines that repeat are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogKey {
    /// An error that a switch reports.
    SwitchError(ConnId, ErrorKind),
    /// Frames that go nowhere.
    Dropped(DatapathId, DropReason),
    /// A station that changes its port.
    Moved(DatapathId, Station),
    /// A table that is full.
    Full(DatapathId),
    /// Ports that come and go.
    Ports(DatapathId),
    /// Requests that are not answered.
    Unanswered(ConnId),
    /// A packet that came cut short and is not kept.
    CutShort(DatapathId),
}

/// Says that frames go nowhere, where a person should know.
pub fn dropped(dpid: DatapathId, reason: DropReason, in_port: PortNo, ctx: &mut Context<'_>) {
    let text = match reason {
        DropReason::Unbalanced(vip) => format!(
            "packets for VIP {vip} reach the switch at port {in_port} and are dropped: no XDP program of the balancer is \
             attached there; 'lb doctor' says why"
        ),
        DropReason::VipArp(vip) => format!(
            "an ARP request for VIP {vip} reached the switch at port {in_port} and is dropped: no XDP program of the \
             balancer is attached there; 'lb doctor' says why"
        ),
        DropReason::BalancerUnknown(vip) => format!(
            "packets for VIP {vip} are dropped: the port of the one-armed balancer is not known yet; it is learned from \
             the first frame of the balancer's host"
        ),
        DropReason::BadSource
        | DropReason::LinkLocal
        | DropReason::SamePort
        | DropReason::ProbeReply
        | DropReason::StrayProbeReply => return,
    };
    if let Some(left_out) = ctx.limiter.allow(LogKey::Dropped(dpid, reason), ctx.now) {
        ctx.log(Level::Warn, format!("switch {dpid}: {text}{}", more(left_out)));
    }
}
