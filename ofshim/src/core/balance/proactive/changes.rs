//! From what a switch has to what it should have: messages in an order in which no packet meets a half-made state.

use openflow::{
    Bucket, Cookie, FlowMod, FlowModCommand, FlowModFlags, GroupId, GroupMod, GroupModCommand, GroupType,
    Instruction, Match, MatchField, Message, NiciraMsg, TableId, Version,
};

use super::entry::{Desired, Entry};
use crate::core::cookie::{Purpose, Sequence, cookie};

/// The messages that make `to` of `from`: what is new or changed before what is gone, and what is looked up last comes
/// first: groups, then tables from the highest to the one in which packets begin.
#[must_use]
pub fn changes(from: &Desired, to: &Desired, version: Version) -> Vec<Message> {
    let mut messages = Vec::new();
    for (number, buckets) in &to.groups {
        match from.groups.get(number) {
            Some(before) if before == buckets => {}
            Some(_) => messages.push(group_mod(GroupModCommand::Modify, *number, buckets.clone())),
            None => messages.push(group_mod(GroupModCommand::Add, *number, buckets.clone())),
        }
    }
    let is_other = |(sequence, entry): &(&Sequence, &Entry)| from.entries.get(sequence) != Some(entry);
    let mut added: Vec<_> = to.entries.iter().filter(is_other).collect();
    added.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.table));
    messages.extend(added.into_iter().map(|(sequence, entry)| add(*sequence, entry, version)));
    let mut gone: Vec<_> =
        from.entries.iter().filter(|(sequence, _)| !to.entries.contains_key(sequence)).collect();
    gone.sort_by_key(|(_, entry)| entry.table);
    messages.extend(gone.into_iter().map(|(sequence, entry)| delete(entry.table, *sequence, version)));
    let gone = from.groups.keys().filter(|number| !to.groups.contains_key(number));
    messages.extend(gone.map(|number| group_mod(GroupModCommand::Delete, *number, Vec::new())));
    messages
}

/// Whether a message adds, changes or deletes flow entries.
#[must_use]
pub const fn is_flow_mod(message: &Message) -> bool {
    matches!(message, Message::FlowMod(_) | Message::Nicira(NiciraMsg::FlowMod(_)))
}

fn group_mod(command: GroupModCommand, number: u32, buckets: Vec<Bucket>) -> Message {
    let group_type = GroupType::Select;
    Message::GroupMod(GroupMod { command, group_type, group_id: GroupId(number), buckets })
}

fn add(sequence: Sequence, entry: &Entry, version: Version) -> Message {
    let instructions = match entry.actions.as_slice() {
        [] => Vec::new(),
        actions => vec![Instruction::ApplyActions(actions.to_vec())],
    };
    of_version(
        version,
        FlowMod {
            cookie: cookie(Purpose::Standing, sequence),
            table_id: entry.table,
            idle_timeout: entry.idle_s,
            priority: entry.priority,
            flags: FlowModFlags::SEND_FLOW_REM,
            match_: entry.match_.clone(),
            instructions,
            ..FlowMod::default()
        },
    )
}

/// Deletes by cookie: what a switch lists of a match is not always what it was told.
pub(super) fn delete(table: TableId, sequence: Sequence, version: Version) -> Message {
    let cookie = cookie(Purpose::Standing, sequence);
    let flow_mod = FlowMod { table_id: table, command: FlowModCommand::Delete, ..FlowMod::default() };
    match version {
        Version::V1_3 => Message::FlowMod(FlowMod { cookie, cookie_mask: u64::MAX, ..flow_mod }),
        Version::V1_0 => of_version(version, FlowMod { match_: with_cookie(cookie), ..flow_mod }),
    }
}

/// `NXM_NX_COOKIE`, which in a Nicira flow-mod stands for the cookie of the entries that are meant.
fn with_cookie(cookie: Cookie) -> Match {
    const NXM_NX: u16 = 1;
    const COOKIE: u8 = 30;
    let body = cookie.0.to_be_bytes().to_vec();
    Match::new().with(MatchField::Raw { class: NXM_NX, field: COOKIE, has_mask: false, body })
}

/// 1.0 cannot say registers, tables and flags of TCP: Nicira's flow-mod can.
fn of_version(version: Version, flow_mod: FlowMod) -> Message {
    match version {
        Version::V1_3 => Message::FlowMod(flow_mod),
        Version::V1_0 => Message::Nicira(NiciraMsg::FlowMod(flow_mod)),
    }
}
