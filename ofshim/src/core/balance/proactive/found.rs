//! What a switch says of standing entries: those that it has, and what it does not know.

use std::collections::BTreeSet;

use openflow::{
    Action, FlowStats, GroupId, GroupMod, GroupModCommand, GroupType, Instruction, Message, TableId, Version,
};

use super::changes::delete;
use super::{FIRST_GROUP, GROUPS};
use crate::core::cookie::Sequence;

/// The standing entries that a switch listed, of this controller or of an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundStanding {
    /// By table and number.
    pub entries: BTreeSet<(TableId, Sequence)>,
    /// The groups that they use.
    pub groups: BTreeSet<u32>,
}

impl FoundStanding {
    /// Takes an entry of [`crate::core::cookie::Purpose::Standing`].
    pub fn add(&mut self, flow: &FlowStats, sequence: Sequence) {
        self.entries.insert((flow.table_id, sequence));
        for instruction in &flow.instructions {
            let Instruction::ApplyActions(actions) = instruction else { continue };
            let groups = actions.iter().filter_map(|action| match action {
                Action::Group(GroupId(number)) if is_ours(*number) => Some(*number),
                _ => None,
            });
            self.groups.extend(groups);
        }
    }

    /// What deletes all of it, the entries in which packets begin first.
    #[must_use]
    pub fn delete(&self, version: Version) -> Vec<Message> {
        let entries = self.entries.iter().map(|(table, sequence)| delete(*table, *sequence, version));
        let groups = self.groups.iter().map(|number| {
            Message::GroupMod(GroupMod {
                command: GroupModCommand::Delete,
                group_type: GroupType::Select,
                group_id: GroupId(*number),
                buckets: Vec::new(),
            })
        });
        let names_tables = version == Version::V1_0 && !self.entries.is_empty();
        let tables = names_tables.then_some(Message::Nicira(openflow::NiciraMsg::FlowModTableId(true)));
        tables.into_iter().chain(entries).chain(groups).collect()
    }
}

/// Whether a group's number is of our range.
pub(super) const fn is_ours(group: u32) -> bool {
    group & !GROUPS == FIRST_GROUP
}

/// Whether an error quotes one of the two questions that tell whether a switch can have the tracked form: Nicira's
/// CT_FLUSH, and the request for descriptions of groups. 1.3 alone is asked.
#[must_use]
pub fn is_refused_question(quoted: &[u8]) -> bool {
    const EXPERIMENTER: u8 = 4;
    const MULTIPART_REQUEST: u8 = 18;
    const CT_FLUSH: [u8; 8] = [0, 0, 0x23, 0x20, 0, 0, 0, 32];
    const GROUP_DESC: [u8; 2] = [0, 7];
    match quoted.get(1) {
        Some(&EXPERIMENTER) => quoted.get(8..16) == Some(&CT_FLUSH),
        Some(&MULTIPART_REQUEST) => quoted.get(8..10) == Some(&GROUP_DESC),
        _ => false,
    }
}
