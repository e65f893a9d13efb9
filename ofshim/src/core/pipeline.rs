//! The tables of a switch, and the flow-mods that fill them.
//!
//! ```text
//!   1.3, three tables:   0 guard --miss--> 1 balancing --miss--> 2 forwarding --miss--> controller
//!   1.0, or fewer:       0 everything --no entry--> controller
//! ```
//!
//! The guard holds what must not travel; balancing has the entries of balanced connections, those of the seed balancers
//! too, and is empty while XDP balances;
//! forwarding has the learned entries. A table declares what its entries may match and do, and [`Layout::add`] checks.

use openflow::{
    Action, Cookie, FlowMod, FlowModCommand, FlowModFlags, Instruction, Match, MatchField, NxAction, PortNo,
    TableId, VLAN_PRESENT, Version,
};

use super::cookie::{Purpose, Sequence, cookie};
use super::entries::{Entry, Key};
use super::frame::ETHERTYPE_ARP;
use super::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT, SCTP, TCP, UDP};

/// Priority of a table-miss entry (1.3, 5.4).
const PRIORITY_MISS: u16 = 0;
/// Priority of entries that forward.
const PRIORITY_FORWARD: u16 = 100;
/// Priority of routes' entries that match more than one flow: what has an entry of its own takes that.
const PRIORITY_COARSE: u16 = 99;
/// Priority of entries that lead to a host from wherever: traffic with an entry of its own takes that.
const PRIORITY_AHEAD: u16 = 90;
/// Priority of entries that show the controller who answers for which address, before those ways carry the answers.
const PRIORITY_SHOW: u16 = 95;
/// Priority of entries that lead answers to the balancer: above the ways to hosts, below the routes, since a connection
/// straight to a backend has entries of its own.
const PRIORITY_STEER: u16 = 97;
/// Priority of a seed balancer's entries for connections: what POX gives its own.
const PRIORITY_PINNED: u16 = 0x8000;
/// Priority of entries that show a seed balancer what it has to see: above all forwarding.
const PRIORITY_SHOWN: u16 = 0x4000;
/// Priority of entries of balanced connections: in 1.0 they share their table with the routes, and go before them.
const PRIORITY_BALANCE: u16 = 150;
/// Priority of entries that drop; above forwarding, since they share its table in 1.0.
const PRIORITY_HOLD: u16 = 200;

/// The fields that entries which drop match.
const STATION_FIELDS: &[&str] = &["IN_PORT", "ETH_DST", "ETH_SRC", "VLAN_VID"];

/// The fields that entries which forward match.
const FLOW_FIELDS: &[&str] = &[
    "IN_PORT",
    "ETH_DST",
    "ETH_SRC",
    "ETH_TYPE",
    "VLAN_VID",
    "VLAN_PCP",
    "IP_DSCP",
    "IP_PROTO",
    "IPV4_SRC",
    "IPV4_DST",
    "IPV6_SRC",
    "IPV6_DST",
    "ICMPV6_TYPE",
    "TCP_SRC",
    "TCP_DST",
    "UDP_SRC",
    "UDP_DST",
    "SCTP_SRC",
    "SCTP_DST",
];

/// The fields that entries for connections match.
const CONNECTION_FIELDS: &[&str] = &[
    "IN_PORT", "ETH_DST", "ETH_SRC", "ETH_TYPE", "VLAN_VID", "VLAN_PCP", "IP_DSCP", "IP_PROTO", "IPV4_SRC",
    "IPV4_DST", "IPV6_SRC", "IPV6_DST", "TCP_SRC", "TCP_DST", "UDP_SRC", "UDP_DST",
];

/// The fields that entries of balanced connections write.
const TRANSLATED_FIELDS: &[&str] = &[
    "ETH_DST", "ETH_SRC", "IPV4_SRC", "IPV4_DST", "IPV6_SRC", "IPV6_DST", "TCP_SRC", "TCP_DST", "UDP_SRC",
    "UDP_DST",
];

/// The tables of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One table for everything.
    Single(Version),
    /// Guard, balancing, forwarding (1.3).
    Three,
}

/// What a table is for, and what its entries may match and do.
#[derive(Debug)]
pub struct TableSpec {
    /// Its number.
    pub id: TableId,
    /// Its name, for messages.
    pub name: &'static str,
    /// Names of the fields that its entries may match.
    pub may_match: &'static [&'static str],
    /// Names of the fields that its entries may set.
    pub may_set: &'static [&'static str],
    /// Whether its entries may send packets out of ports.
    pub may_output: bool,
    /// What happens when nothing matches.
    pub miss: Miss,
}

/// What a table-miss entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Goes on in a later table.
    Goto(TableId),
    /// Sends the packet, whole, to the controller.
    Controller,
}

const GUARD: TableSpec = TableSpec {
    id: TableId(0),
    name: "guard",
    may_match: STATION_FIELDS,
    may_set: &[],
    may_output: false,
    miss: Miss::Goto(TableId(1)),
};
const BALANCING: TableSpec = TableSpec {
    id: TableId(1),
    name: "balancing",
    may_match: CONNECTION_FIELDS,
    may_set: TRANSLATED_FIELDS,
    may_output: true,
    miss: Miss::Goto(TableId(2)),
};
const FORWARDING: TableSpec = TableSpec {
    id: TableId(2),
    name: "forwarding",
    may_match: FLOW_FIELDS,
    may_set: &[],
    may_output: true,
    miss: Miss::Controller,
};
const EVERYTHING: TableSpec =
    TableSpec { id: TableId(0), name: "everything", may_set: TRANSLATED_FIELDS, ..FORWARDING };

/// An entry that its table does not admit: a mistake in this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table} ({name}) does not admit {what}")]
pub struct NotAdmitted {
    /// The table's number.
    pub table: u8,
    /// The table's name.
    pub name: &'static str,
    /// What it does not admit.
    pub what: String,
}

/// Timeouts of an entry, in seconds; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Without a packet.
    pub idle_s: u16,
    /// In any case.
    pub hard_s: u16,
}

impl Layout {
    /// The layout for a switch of `version` with so many tables.
    #[must_use]
    pub const fn of(version: Version, tables: u8) -> Self {
        match version {
            Version::V1_3 if tables >= 3 => Self::Three,
            version => Self::Single(version),
        }
    }

    /// The tables, in the order that packets pass them.
    #[must_use]
    pub const fn tables(self) -> &'static [TableSpec] {
        match self {
            Self::Single(_) => &[EVERYTHING],
            Self::Three => &[GUARD, BALANCING, FORWARDING],
        }
    }

    /// The table and priority of entries for `purpose`; table-miss entries are in every table.
    #[must_use]
    pub const fn place(self, purpose: Purpose) -> (TableId, u16) {
        match (self, purpose) {
            (Self::Three, Purpose::Hold) => (GUARD.id, PRIORITY_HOLD),
            (Self::Three, Purpose::Balance) => (BALANCING.id, PRIORITY_BALANCE),
            (Self::Single(_), Purpose::Balance) => (EVERYTHING.id, PRIORITY_BALANCE),
            (Self::Three, Purpose::Ahead) => (FORWARDING.id, PRIORITY_AHEAD),
            (Self::Single(_), Purpose::Ahead) => (EVERYTHING.id, PRIORITY_AHEAD),
            (Self::Three, Purpose::Steer) => (FORWARDING.id, PRIORITY_STEER),
            (Self::Single(_), Purpose::Steer) => (EVERYTHING.id, PRIORITY_STEER),
            (Self::Three, Purpose::Pinned) => (BALANCING.id, PRIORITY_PINNED),
            (Self::Single(_), Purpose::Pinned) => (EVERYTHING.id, PRIORITY_PINNED),
            (Self::Three, Purpose::Shown) => (BALANCING.id, PRIORITY_SHOWN),
            (Self::Single(_), Purpose::Shown) => (EVERYTHING.id, PRIORITY_SHOWN),
            (Self::Three, _) => (FORWARDING.id, PRIORITY_FORWARD),
            (Self::Single(_), Purpose::Hold) => (EVERYTHING.id, PRIORITY_HOLD),
            (Self::Single(_), _) => (EVERYTHING.id, PRIORITY_FORWARD),
        }
    }

    /// The table and priority of an entry for `purpose` with this match: routes' entries that match more than one flow
    /// stand below those that match one.
    #[must_use]
    pub fn place_of(self, purpose: Purpose, match_: &Match) -> (TableId, u16) {
        match self.place(purpose) {
            (table, _) if purpose == Purpose::Route && is_coarse(match_) => (table, PRIORITY_COARSE),
            place => place,
        }
    }

    /// The flow-mod for the table-miss entry of `table`; `None` where the version has none.
    #[must_use]
    pub fn miss(self, table: &TableSpec) -> Option<FlowMod> {
        if self == Self::Single(Version::V1_0) {
            return None;
        }
        Some(FlowMod {
            cookie: cookie(Purpose::TableMiss, Sequence::default()),
            table_id: table.id,
            priority: PRIORITY_MISS,
            flags: FlowModFlags::SEND_FLOW_REM,
            instructions: table.miss.instructions(),
            ..FlowMod::default()
        })
    }

    /// The flow-mod that adds an entry, in place of one with the same match and purpose.
    ///
    /// # Errors
    /// The entry's table does not admit it.
    pub fn add(self, key: &Key, entry: &Entry, timeouts: Timeouts) -> Result<FlowMod, NotAdmitted> {
        let (table_id, priority) = self.place(entry.purpose);
        let flow_mod = FlowMod {
            cookie: cookie(entry.purpose, entry.sequence),
            table_id,
            idle_timeout: timeouts.idle_s,
            hard_timeout: timeouts.hard_s,
            priority,
            flags: FlowModFlags::SEND_FLOW_REM,
            match_: match_of(key),
            instructions: instructions_of(entry),
            ..FlowMod::default()
        };
        self.admit(&flow_mod)?;
        Ok(flow_mod)
    }

    /// The flow-mod that adds one switch's part of a route, of the way to a host, or of the way of answers to the
    /// balancer: what `match_` names leaves by `out`.
    ///
    /// # Errors
    /// The entry's table does not admit it.
    pub fn add_route(
        self,
        purpose: Purpose,
        match_: Match,
        out: PortNo,
        sequence: Sequence,
        timeouts: Timeouts,
    ) -> Result<FlowMod, NotAdmitted> {
        self.add_with(purpose, match_, vec![Action::output(out)], sequence, timeouts)
    }

    /// The flow-mod that adds an entry which does more than to send packets on.
    ///
    /// # Errors
    /// The entry's table does not admit it.
    pub fn add_with(
        self,
        purpose: Purpose,
        match_: Match,
        actions: Vec<Action>,
        sequence: Sequence,
        timeouts: Timeouts,
    ) -> Result<FlowMod, NotAdmitted> {
        let (table_id, priority) = self.place_of(purpose, &match_);
        let flow_mod = FlowMod {
            cookie: cookie(purpose, sequence),
            table_id,
            idle_timeout: timeouts.idle_s,
            hard_timeout: timeouts.hard_s,
            priority,
            flags: FlowModFlags::SEND_FLOW_REM,
            match_,
            instructions: vec![Instruction::ApplyActions(actions)],
            ..FlowMod::default()
        };
        self.admit(&flow_mod)?;
        Ok(flow_mod)
    }

    /// The flow-mod that adds a seed balancer's entry for a connection: `actions` with what `match_` names.
    ///
    /// # Errors
    /// The entry's table does not admit it.
    pub fn add_pinned(
        self,
        match_: Match,
        actions: Vec<Action>,
        sequence: Sequence,
        timeouts: Timeouts,
        flags: FlowModFlags,
    ) -> Result<FlowMod, NotAdmitted> {
        let (table_id, priority) = self.place(Purpose::Pinned);
        let flow_mod = FlowMod {
            cookie: cookie(Purpose::Pinned, sequence),
            table_id,
            idle_timeout: timeouts.idle_s,
            hard_timeout: timeouts.hard_s,
            priority,
            flags,
            match_,
            instructions: vec![Instruction::ApplyActions(actions)],
            ..FlowMod::default()
        };
        self.admit(&flow_mod)?;
        Ok(flow_mod)
    }

    /// The flow-mod that brings what `match_` names to the controller, whatever entries for forwarding there are.
    #[must_use]
    pub fn show(self, match_: Match) -> FlowMod {
        let (table_id, priority) = self.place(Purpose::Shown);
        FlowMod {
            cookie: cookie(Purpose::Shown, Sequence::default()),
            table_id,
            priority,
            match_,
            instructions: vec![Instruction::ApplyActions(vec![Action::to_controller()])],
            ..FlowMod::default()
        }
    }

    /// The flow-mods that bring every ARP packet, and where IPv6 is matched every neighbour advertisement, to the
    /// controller: entries that lead to hosts from wherever would hide who sent them.
    #[must_use]
    pub fn show_answers(self) -> Vec<FlowMod> {
        let (table_id, _) = self.place(Purpose::Ahead);
        let mut matches = vec![Match::new().eth_type(ETHERTYPE_ARP)];
        if self == Self::Three {
            let advertisement = Match::new().eth_type(ETHERTYPE_IPV6).ip_proto(ICMPV6);
            matches.push(advertisement.with(MatchField::Icmpv6Type(NEIGHBOUR_ADVERTISEMENT)));
        }
        let show = |match_| FlowMod {
            cookie: cookie(Purpose::Ahead, Sequence::default()),
            table_id,
            priority: PRIORITY_SHOW,
            match_,
            instructions: vec![Instruction::ApplyActions(vec![Action::to_controller()])],
            ..FlowMod::default()
        };
        matches.into_iter().map(show).collect()
    }

    /// The flow-mod that deletes what [`Self::add_route`] added.
    #[must_use]
    pub fn delete_route(self, purpose: Purpose, match_: Match) -> FlowMod {
        let (table_id, priority) = self.place_of(purpose, &match_);
        self.delete_as(table_id, priority, match_, cookie(purpose, Sequence::default()))
    }

    /// The flow-mod that deletes exactly this entry. 1.0 finds it by match and priority alone, 1.3 also by our cookie.
    #[must_use]
    pub fn delete(self, key: &Key, purpose: Purpose) -> FlowMod {
        let (table_id, priority) = self.place(purpose);
        self.delete_as(table_id, priority, match_of(key), cookie(purpose, Sequence::default()))
    }

    /// The flow-mod that deletes the one entry of ours with this table, priority and match.
    #[must_use]
    pub fn delete_as(self, table_id: TableId, priority: u16, match_: Match, cookie: Cookie) -> FlowMod {
        let (cookie, cookie_mask) = match self {
            Self::Single(Version::V1_0) => (Cookie(0), 0),
            _ => (cookie, super::cookie::OWNER_MASK),
        };
        FlowMod {
            cookie,
            cookie_mask,
            table_id,
            command: FlowModCommand::DeleteStrict,
            priority,
            match_,
            ..FlowMod::default()
        }
    }

    fn admit(self, flow_mod: &FlowMod) -> Result<(), NotAdmitted> {
        let spec = self.tables().iter().find(|spec| spec.id == flow_mod.table_id);
        let Some(spec) = spec else {
            let what = "entries: there is no such table".to_owned();
            return Err(NotAdmitted { table: flow_mod.table_id.0, name: "unknown", what });
        };
        match spec.refusal(flow_mod) {
            Some(what) => Err(NotAdmitted { table: spec.id.0, name: spec.name, what }),
            None => Ok(()),
        }
    }
}

impl TableSpec {
    /// What of the flow-mod this table does not admit.
    fn refusal(&self, flow_mod: &FlowMod) -> Option<String> {
        let field = flow_mod.match_.fields.iter().find(|field| !self.may_match.contains(&field.name()));
        if let Some(field) = field {
            return Some(format!("a match on {}", field.name()));
        }
        flow_mod.instructions.iter().find_map(|instruction| match instruction {
            Instruction::GotoTable(next) if *next > self.id => None,
            Instruction::ApplyActions(actions) => actions.iter().find_map(|action| self.refusal_of(action)),
            other => Some(format!("the instruction {other:?}")),
        })
    }

    fn refusal_of(&self, action: &Action) -> Option<String> {
        match action {
            Action::Output { .. } if self.may_output => None,
            Action::SetField(field) if self.may_set.contains(&field.name()) => None,
            // It watches for the end of the connections that are written to.
            Action::Nicira(NxAction::FinTimeout { .. }) if !self.may_set.is_empty() => None,
            other => Some(format!("the action {other:?}")),
        }
    }
}

impl Miss {
    /// What the entry does.
    #[must_use]
    pub fn instructions(self) -> Vec<Instruction> {
        match self {
            Self::Goto(table) => vec![Instruction::GotoTable(table)],
            Self::Controller => vec![Instruction::ApplyActions(vec![Action::to_controller()])],
        }
    }
}

/// Whether a match is of more than one flow: of every EtherType, of every protocol of IP, or of every port.
fn is_coarse(match_: &Match) -> bool {
    let (mut ethertype, mut protocol, mut ports) = (None, None, false);
    for field in &match_.fields {
        match *field {
            MatchField::EthType(value) => ethertype = Some(value),
            MatchField::IpProto(value) => protocol = Some(value),
            MatchField::TcpSrc(_) | MatchField::UdpSrc(_) | MatchField::SctpSrc(_) => ports = true,
            _ => {}
        }
    }
    match (ethertype, protocol) {
        (None, _) | (Some(ETHERTYPE_IPV4 | ETHERTYPE_IPV6), None) => true,
        (_, Some(TCP | UDP | SCTP)) => !ports,
        _ => false,
    }
}

/// The match of an entry.
fn match_of(key: &Key) -> Match {
    let match_ = Match::new().in_port(key.in_port).eth_dst(key.dst).eth_src(key.src);
    match key.vlan {
        Some(vid) => match_.vlan_vid(vid),
        None => match_.no_vlan(),
    }
}

/// What an entry does, as instructions; none drops.
fn instructions_of(entry: &Entry) -> Vec<Instruction> {
    entry.out.map(|port| Instruction::ApplyActions(vec![Action::output(port)])).into_iter().collect()
}

/// Reads back the match of an entry of ours, the fields in any order; `None` for any other match.
///
/// Some 1.0 switches list the priority of a tag that must not be there as a field of its own; it says nothing.
#[must_use]
pub fn key_of(match_: &Match) -> Option<Key> {
    let (mut in_port, mut src, mut dst, mut vlan) = (None, None, None, None);
    let untagged = match_.fields.contains(&MatchField::VlanVid { value: 0, mask: None });
    for field in &match_.fields {
        match *field {
            MatchField::InPort(port) => in_port = Some(port),
            MatchField::EthSrc { value, mask: None } => src = Some(value),
            MatchField::EthDst { value, mask: None } => dst = Some(value),
            MatchField::VlanVid { value: 0, mask: None } => vlan = Some(None),
            MatchField::VlanVid { value, mask: None } if value & VLAN_PRESENT != 0 => {
                vlan = Some(Some(value & !VLAN_PRESENT));
            }
            MatchField::VlanPcp(_) if untagged => {}
            _ => return None,
        }
    }
    Some(Key { in_port: in_port?, vlan: vlan?, src: src?, dst: dst? })
}

/// Instructions that no entry of ours has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are not the instructions of an entry of ours")]
pub struct OtherForm;

/// Reads back what an entry of ours does: the port, or nothing for a drop.
///
/// # Errors
/// They are of another form.
pub fn out_of(instructions: &[Instruction]) -> Result<Option<PortNo>, OtherForm> {
    match instructions {
        [] => Ok(None),
        [Instruction::ApplyActions(actions)] => match actions.as_slice() {
            [] => Ok(None),
            [Action::Output { port, .. }] => Ok(Some(*port)),
            _ => Err(OtherForm),
        },
        _ => Err(OtherForm),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use openflow::MacAddr;

    use super::*;

    const KEY: Key = Key {
        in_port: PortNo(1),
        vlan: None,
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
    };
    const NEVER: Timeouts = Timeouts { idle_s: 0, hard_s: 0 };

    fn entry(purpose: Purpose, out: Option<PortNo>) -> Entry {
        Entry { purpose, out, sequence: Sequence::default(), since: Duration::ZERO }
    }

    #[test]
    fn what_is_added_reads_back() {
        for vlan in [None, Some(0), Some(5)] {
            for (purpose, out) in [(Purpose::Forward, Some(PortNo(7))), (Purpose::Hold, None)] {
                for layout in [Layout::Three, Layout::Single(Version::V1_0), Layout::Single(Version::V1_3)] {
                    let key = Key { vlan, ..KEY };
                    let flow_mod = layout.add(&key, &entry(purpose, out), NEVER).unwrap();
                    assert_eq!(key_of(&flow_mod.match_), Some(key));
                    assert_eq!(out_of(&flow_mod.instructions), Ok(out));
                    assert_eq!((flow_mod.table_id, flow_mod.priority), layout.place(purpose));
                }
            }
        }
    }

    #[test]
    fn entries_of_one_flow_go_before_those_of_many() {
        let ip = Match::new().in_port(PortNo(1)).eth_dst(KEY.dst).eth_src(KEY.src).no_vlan();
        let v4 = ip.clone().eth_type(ETHERTYPE_IPV4);
        for (match_, priority) in [
            (ip.clone(), PRIORITY_COARSE),
            (v4.clone(), PRIORITY_COARSE),
            (v4.clone().ip_proto(SCTP), PRIORITY_COARSE),
            (v4.clone().ip_proto(TCP).tcp_src(1).tcp_dst(2), PRIORITY_FORWARD),
            (v4.clone().ip_proto(47), PRIORITY_FORWARD),
            (ip.eth_type(0x88f7), PRIORITY_FORWARD),
        ] {
            for layout in [Layout::Three, Layout::Single(Version::V1_0)] {
                let sequence = Sequence::default();
                let add =
                    layout.add_route(Purpose::Route, match_.clone(), PortNo(2), sequence, NEVER).unwrap();
                assert_eq!(add.priority, priority, "{match_:?}");
                let delete = layout.delete_route(Purpose::Route, match_.clone());
                assert_eq!((delete.table_id, delete.priority), (add.table_id, priority));
                assert_eq!(layout.place_of(Purpose::Balance, &match_), layout.place(Purpose::Balance));
            }
        }
        const { assert!(PRIORITY_COARSE > PRIORITY_STEER && PRIORITY_COARSE < PRIORITY_FORWARD) };
    }

    #[test]
    fn only_matches_of_our_form_are_read() {
        let match_ = match_of(&KEY);
        assert_eq!(key_of(&match_.clone().with(MatchField::VlanPcp(0))), Some(KEY));
        assert_eq!(key_of(&match_.clone().eth_type(0x0800)), None);
        let tagged = match_of(&Key { vlan: Some(5), ..KEY });
        assert_eq!(key_of(&tagged.with(MatchField::VlanPcp(0))), None);
        assert_eq!(key_of(&Match::new().in_port(PortNo(1)).eth_src(KEY.src).eth_dst(KEY.dst)), None);
        assert_eq!(key_of(&Match::new()), None);
    }

    #[test]
    fn a_table_admits_only_what_it_declares() {
        let refused = Layout::Three.add(&KEY, &entry(Purpose::Hold, Some(PortNo(1))), NEVER).unwrap_err();
        assert!(
            refused.to_string().starts_with("table 0 (guard) does not admit the action Output"),
            "{refused}"
        );
        let flow_mod = FlowMod { table_id: TableId(2), match_: Match::new().arp_op(1), ..FlowMod::default() };
        let refused = Layout::Three.admit(&flow_mod).unwrap_err();
        assert_eq!(refused.to_string(), "table 2 (forwarding) does not admit a match on ARP_OP");
        let flow_mod = FlowMod { table_id: TableId(3), ..FlowMod::default() };
        assert!(Layout::Three.admit(&flow_mod).is_err());
    }

    #[test]
    fn the_version_decides_the_tables_and_the_deletion() {
        assert_eq!(Layout::of(Version::V1_3, 254), Layout::Three);
        assert_eq!(Layout::of(Version::V1_3, 1), Layout::Single(Version::V1_3));
        assert_eq!(Layout::of(Version::V1_0, 254), Layout::Single(Version::V1_0));
        assert_eq!(Layout::Single(Version::V1_0).delete(&KEY, Purpose::Forward).cookie_mask, 0);
        assert_eq!(Layout::Three.delete(&KEY, Purpose::Forward).cookie_mask, 0xffff_ffff_0000_0000);
        assert!(Layout::Single(Version::V1_0).miss(&EVERYTHING).is_none());
        let instructions: Vec<_> = Layout::Three
            .tables()
            .iter()
            .flat_map(|table| Layout::Three.miss(table).unwrap().instructions)
            .collect();
        let to_controller = Instruction::ApplyActions(vec![Action::to_controller()]);
        let goto = |table| Instruction::GotoTable(TableId(table));
        assert_eq!(instructions, [goto(1), goto(2), to_controller]);
    }
}
