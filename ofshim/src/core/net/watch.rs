//! Beginnings and ends of balanced TCP connections, as Open vSwitch shows them to the controller.
//!
//! ```text
//!  0 guard        an answer's or a client's FIN  --copy--> controller,  and on to 1
//!  1 balancing    a SYN to a VIP                 --> 2, past the entries of connections
//!  2 forwarding   TCP with URG                   --> controller, as without this entry
//! ```
//!
//! Open vSwitch keeps paths of its own for what it has looked up, and looks all of them up anew after every change of its
//! tables. The three kinds of entries keep them few, and right from the first packet on:
//!
//! * Without the first a connection's first packet makes a path to the controller that the packets after it take too,
//!   until the switch has found out that there are entries: several packet-ins instead of one. As it does not ask for the
//!   entries of connections, one path serves all SYNs. What a SYN may be is decided by the core, as in XDP: a connection
//!   that begins anew, or one that is there.
//! * With the copies the core sees what it sees in XDP, and the entries of a connection go as soon as both sides have
//!   ended it, and not seconds later.
//! * The third asks for a bit that the entries of connections do not ask for. It does nothing else; but by it the switch
//!   knows that the paths of a connection whose entries are gone are not what it would make now, and forgets them at once,
//!   and not after ten seconds.
//!
//! What is not Open vSwitch, or speaks 1.0, goes without: there it takes longer, and nothing else is different.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::host::config::{Mode, Protocol};
use lb_core::table::ConnKey;
use openflow::{
    Action, Cookie, DatapathId, FlowMod, FlowModFlags, Instruction, Match, MatchField, NxmField, PacketInRef,
    PortNo,
};

use super::{FlowKey, Granularity, Network, Out};
use crate::core::balance::{Balancer, LegKey};
use crate::core::cookie::{self, Purpose, Sequence, cookie};
use crate::core::frame::Frame;
use crate::core::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, TCP};
use crate::core::pipeline::Layout;
use crate::core::topo::Place;

/// Bits of TCP flags (RFC 9293, 3.1).
const FIN: u16 = 1;
const SYN: u16 = 1 << 1;
const ACK: u16 = 1 << 4;
const URG: u16 = 1 << 5;
/// Above the entries of connections.
const PRIORITY: u16 = 160;
/// Just above the table-miss entry.
const PRIORITY_LAST: u16 = 1;
/// Bytes of a copy: all headers.
const COPIED_BYTES: u16 = 128;
/// How long the entries of a connection that has ended stay: for its last acknowledgement.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// The most connections that wait for their end: what is beyond ends by the switch's own timeouts.
const MAX_ENDING: usize = 1 << 16;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sight {
    /// New connections to an address.
    Begins(IpAddr),
    /// The end of what comes to an address.
    Ends(IpAddr),
    /// The end of what a backend's service answers; port 0 stands for all.
    Answered(IpAddr, u16),
    /// What nobody wants, over IPv4 or IPv6.
    Rest {
        /// Over IPv6.
        v6: bool,
    },
}

/// What is watched, and what ends soon.
#[derive(Debug, Default)]
pub struct Watching {
    /// The entries that each switch has.
    has: BTreeMap<DatapathId, BTreeSet<Sight>>,
    /// Connections that both sides have ended, and since when.
    ending: VecDeque<(Duration, ConnKey)>,
}

impl Watching {
    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.has.values().map(BTreeSet::len).sum()
    }

    /// When the entries of a connection are to go.
    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.ending.front().map(|(since, _)| *since + LAST_WORDS)
    }

    /// A switch has none of the entries: it is new, gone, or somebody deleted one.
    pub(super) fn forget(&mut self, dpid: DatapathId) {
        self.has.remove(&dpid);
    }
}

impl Sight {
    /// What tells the entry in its cookie.
    const fn number(self) -> u32 {
        match self {
            Self::Begins(_) => 1,
            Self::Ends(_) => 2,
            Self::Answered(..) => 3,
            Self::Rest { .. } => 4,
        }
    }

    /// The entry, without a command.
    fn entry(self, layout: Layout) -> Option<FlowMod> {
        let [guard, balancing, forwarding] = layout.tables() else { return None };
        let flags = |value| NxmField::TcpFlags { value, mask: Some(value) }.into();
        let copy = Action::Output { port: PortNo::CONTROLLER, max_len: COPIED_BYTES };
        let (table, priority, match_) = match self {
            Self::Begins(to) => {
                let begins = NxmField::TcpFlags { value: SYN, mask: Some(SYN | ACK) };
                (balancing, PRIORITY, tcp_to(to).with(begins.into()))
            }
            Self::Ends(to) => (guard, PRIORITY, tcp_to(to).with(flags(FIN))),
            Self::Answered(from, 0) => (guard, PRIORITY, tcp_from(from).with(flags(FIN))),
            Self::Answered(from, port) => (guard, PRIORITY, tcp_from(from).tcp_src(port).with(flags(FIN))),
            Self::Rest { v6 } => (forwarding, PRIORITY_LAST, tcp(v6).with(flags(URG))),
        };
        let instructions = match self {
            Self::Begins(_) => vec![Instruction::GotoTable(forwarding.id)],
            Self::Ends(_) | Self::Answered(..) => {
                vec![Instruction::ApplyActions(vec![copy]), Instruction::GotoTable(balancing.id)]
            }
            Self::Rest { .. } => vec![Instruction::ApplyActions(vec![Action::to_controller()])],
        };
        Some(FlowMod {
            cookie: cookie(Purpose::Watch, Sequence::of(self.number())),
            table_id: table.id,
            priority,
            flags: FlowModFlags::SEND_FLOW_REM,
            match_,
            instructions,
            ..FlowMod::default()
        })
    }
}

/// Whether a packet-in is a copy: the packet itself goes its way.
fn is_copy(cookie: Option<Cookie>) -> bool {
    let number = |of: Sight| Sequence::of(of.number());
    let any = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let copies = [number(Sight::Ends(any)), number(Sight::Answered(any, 0))];
    cookie
        .and_then(cookie::read)
        .is_some_and(|(purpose, which)| purpose == Purpose::Watch && copies.contains(&which))
}

fn tcp(v6: bool) -> Match {
    Match::new().eth_type(if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }).ip_proto(TCP)
}

fn tcp_to(address: IpAddr) -> Match {
    match address {
        IpAddr::V4(address) => tcp(false).ipv4_dst(address),
        IpAddr::V6(address) => tcp(true).with(MatchField::Ipv6Dst { value: address, mask: None }),
    }
}

fn tcp_from(address: IpAddr) -> Match {
    match address {
        IpAddr::V4(address) => tcp(false).ipv4_src(address),
        IpAddr::V6(address) => tcp(true).with(MatchField::Ipv6Src { value: address, mask: None }),
    }
}

/// What has to be seen of the connections that `balancer` has.
fn sights(balancer: &Balancer) -> BTreeSet<Sight> {
    let plan = balancer.plan();
    let mut sights = BTreeSet::new();
    let served = plan.vips.values().filter(|vip| vip.key.protocol == Protocol::Tcp);
    for vip in served {
        let address = vip.key.address;
        sights.extend([Sight::Begins(address), Sight::Ends(address), Sight::Rest { v6: address.is_ipv6() }]);
        let answers = plan.backends.values().filter(|backend| backend.vip == vip.id.id);
        // With dsr answers pass by.
        let answers = answers.filter(|_| vip.mode == Mode::Nat);
        sights.extend(answers.map(|backend| Sight::Answered(backend.key.address, backend.key.port)));
    }
    sights
}

impl Network {
    /// Gives every switch that can have them the entries that it should have now, and takes others away.
    pub(super) fn watch(&mut self) {
        let balancer = self.balancer.as_ref().filter(|_| self.standing.is_none());
        let wanted = balancer.map(sights).unwrap_or_default();
        for (dpid, member) in &self.members {
            if !member.nicira || member.layout != Layout::Three {
                continue;
            }
            let has = self.watching.has.entry(*dpid).or_default();
            if *has == wanted {
                continue;
            }
            let new = wanted.difference(has).filter_map(|sight| sight.entry(member.layout));
            let over = has.difference(&wanted).filter_map(|sight| sight.entry(member.layout));
            let over =
                over.map(|old| member.layout.delete_as(old.table_id, old.priority, old.match_, old.cookie));
            let flow_mods = new.chain(over).map(Box::new);
            self.out.extend(flow_mods.map(|flow_mod| Out::FlowMod { dpid: *dpid, flow_mod }));
            *has = wanted.clone();
        }
    }

    /// A switch removed one of the entries; all that it should have are given to it again.
    pub fn watch_removed(&mut self, dpid: DatapathId) {
        self.watching.forget(dpid);
    }

    /// Takes the copy of a packet that goes its way; whether it is one.
    pub(super) fn watched(&mut self, at: Place, packet: &PacketInRef<'_>, frame: &Frame) -> bool {
        if !is_copy(packet.cookie) {
            return false;
        }
        let now = self.now;
        let freed = self.sent_on(packet, at.dpid, &[]);
        self.out.extend(freed);
        self.end_connections();
        let Some(balancer) = &mut self.balancer else { return true };
        let key = LegKey { at, came: FlowKey::of(frame, Granularity::FiveTuple, true) };
        let Some(conn) = balancer.pins.get(&key).map(|leg| leg.conn) else { return true };
        let mut bytes = packet.data.to_vec();
        bytes.resize(bytes.len().max(usize::from(packet.total_len)), 0);
        balancer.decide(&mut bytes, now);
        if balancer.is_over(&conn) && self.watching.ending.len() < MAX_ENDING {
            self.watching.ending.push_back((now, conn));
        }
        true
    }

    /// Ends the entries of connections that were over a while ago.
    pub(super) fn end_connections(&mut self) {
        let now = self.now;
        while let Some((since, conn)) = self.watching.ending.front().copied()
            && since + LAST_WORDS <= now
        {
            self.watching.ending.pop_front();
            let Some(balancer) = &self.balancer else { continue };
            // It may have begun anew.
            let legs = if balancer.is_over(&conn) { balancer.pins.of(&conn) } else { Vec::new() };
            for key in legs {
                self.end_leg(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use openflow::{TableId, Version};

    use super::*;

    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));

    #[test]
    fn copies_go_on_and_only_they_are_taken_for_copies() {
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let all = [
            (Sight::Begins(VIP), 1, false),
            (Sight::Ends(v6), 0, true),
            (Sight::Answered(VIP, 80), 0, true),
            (Sight::Answered(VIP, 0), 0, true),
            (Sight::Rest { v6: true }, 2, false),
        ];
        for (sight, table, copied) in all {
            let entry = sight.entry(Layout::Three).unwrap();
            assert_eq!(entry.table_id, TableId(table), "{sight:?}");
            assert_eq!(is_copy(Some(entry.cookie)), copied, "{sight:?}");
            let goes_on = matches!(entry.instructions.last(), Some(Instruction::GotoTable(_)));
            assert_eq!(goes_on, !matches!(sight, Sight::Rest { .. }), "{sight:?}");
            let asks_for_flags = entry.match_.fields.iter().any(|field| field.name() == "NXM_NX_TCP_FLAGS");
            assert!(asks_for_flags, "{sight:?}");
            assert_eq!(sight.entry(Layout::Single(Version::V1_0)), None);
        }
        assert!(!is_copy(None) && !is_copy(Some(Cookie(0))));
        assert!(!is_copy(Some(cookie(Purpose::Balance, Sequence::of(2)))), "a connection's");
    }

    #[test]
    fn one_entry_stands_for_all_ports_of_a_backend() {
        let ports = |port| {
            let entry = Sight::Answered(VIP, port).entry(Layout::Three).unwrap();
            entry.match_.fields.iter().any(|field| field.name() == "TCP_SRC")
        };
        assert!(ports(80) && !ports(0));
    }
}
