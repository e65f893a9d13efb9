//! The flow table of a fake switch: it looks nothing up, but has only so much room, and tells the controller what goes.

use std::collections::VecDeque;

use openflow::Version;

/// FLOW_REMOVED in both versions, and the reason for an entry that was idle.
const TYPE_FLOW_REMOVED: u8 = 11;
const IDLE_TIMEOUT: u8 = 0;

/// Entries in the order in which they came, as the FLOW_REMOVED that will tell their end.
#[derive(Debug)]
pub struct Table {
    version: Version,
    room: usize,
    entries: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Table {
    /// A table for so many entries; with none it keeps nothing and tells nothing.
    #[must_use]
    pub const fn new(version: Version, room: usize) -> Self {
        Self { version, room, entries: VecDeque::new(), spare: Vec::new() }
    }

    /// Takes a whole FLOW_MOD message that adds an entry; what goes for it is told in `out`.
    pub fn add(&mut self, flow_mod: &[u8], out: &mut Vec<u8>) {
        if self.room == 0 {
            return;
        }
        let mut told = self.spare.pop().unwrap_or_default();
        told.clear();
        if removed(self.version, flow_mod, &mut told).is_none() {
            return;
        }
        self.entries.push_back(told);
        if self.entries.len() > self.room
            && let Some(oldest) = self.entries.pop_front()
        {
            out.extend_from_slice(&oldest);
            self.spare.push(oldest);
        }
    }
}

/// Appends the FLOW_REMOVED (1.0: 5.4.2, 1.3: 7.4.2) for the entry that a FLOW_MOD adds; `None` if it adds none, or
/// one at priority 0, which stays.
fn removed(version: Version, flow_mod: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (cookie, command, priority, timeouts) = match version {
        // header 8, match 40, cookie 8, command 2, idle 2, hard 2, priority 2
        Version::V1_0 => (48..56, 56..58, 62..64, 58..60),
        // header 8, cookie 8, mask 8, table 1, command 1, idle 2, hard 2, priority 2
        Version::V1_3 => (8..16, 25..26, 30..32, 26..30),
    };
    let part = |range: std::ops::Range<usize>| flow_mod.get(range);
    if part(command)?.iter().any(|byte| *byte != 0) || part(priority.clone())? == [0, 0] {
        return None;
    }
    out.extend([version.to_wire(), TYPE_FLOW_REMOVED, 0, 0, 0, 0, 0, 0]);
    match version {
        Version::V1_0 => {
            out.extend_from_slice(part(8..48)?);
            out.extend_from_slice(part(cookie)?);
            out.extend_from_slice(part(priority)?);
            out.extend([IDLE_TIMEOUT, 0]);
            out.extend([0; 8]);
            out.extend_from_slice(part(timeouts)?);
            out.extend([0; 2 + 16]);
        }
        Version::V1_3 => {
            let match_at = 48;
            let length = u16::from_be_bytes(*part(match_at + 2..match_at + 4)?.first_chunk()?);
            let padded = usize::from(length).next_multiple_of(8);
            out.extend_from_slice(part(cookie)?);
            out.extend_from_slice(part(priority)?);
            out.extend([IDLE_TIMEOUT, *flow_mod.get(24)?]);
            out.extend([0; 8]);
            out.extend_from_slice(part(timeouts)?);
            out.extend([0; 16]);
            out.extend_from_slice(part(match_at..match_at + padded)?);
        }
    }
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    out.get_mut(2..4)?.copy_from_slice(&length);
    Some(())
}

#[cfg(test)]
mod tests {
    use openflow::{
        Action, Cookie, FlowMod, FlowRemovedReason, Instruction, MacAddr, Match, Message, PortNo, TableId,
        Xid,
    };

    use super::*;

    fn add(version: Version, cookie: u64) -> Vec<u8> {
        let flow_mod = FlowMod {
            cookie: Cookie(cookie),
            table_id: TableId(if version == Version::V1_3 { 2 } else { 0 }),
            priority: 100,
            idle_timeout: 10,
            match_: Match::new().in_port(PortNo(1)).eth_dst(MacAddr([2; 6])).no_vlan(),
            instructions: vec![Instruction::ApplyActions(vec![Action::output(PortNo(2))])],
            ..FlowMod::default()
        };
        let mut bytes = Vec::new();
        Message::FlowMod(flow_mod).encode(version, Xid(9), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_oldest_entry_goes_and_is_told() {
        for version in [Version::V1_0, Version::V1_3] {
            let mut table = Table::new(version, 2);
            let mut told = Vec::new();
            for cookie in 1..=3 {
                table.add(&add(version, cookie), &mut told);
            }
            let (_, _, Message::FlowRemoved(removed)) = Message::decode(&told).unwrap() else { panic!() };
            assert_eq!((removed.cookie, removed.priority), (Cookie(1), 100));
            assert_eq!((removed.reason, removed.idle_timeout), (FlowRemovedReason::IdleTimeout, 10));
            let (_, _, Message::FlowMod(sent)) = Message::decode(&add(version, 1)).unwrap() else { panic!() };
            assert_eq!(removed.match_, sent.match_);
        }
    }

    #[test]
    fn without_room_nothing_is_told() {
        let mut told = Vec::new();
        let mut table = Table::new(Version::V1_3, 0);
        table.add(&add(Version::V1_3, 1), &mut told);
        assert!(told.is_empty());
    }
}
