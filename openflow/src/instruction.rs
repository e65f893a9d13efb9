//! Instructions of a flow entry (1.3: 7.2.4).

use crate::wire::{Put, Reader};
use crate::{Action, DecodeError, EncodeError, ErrorKind, MeterId, TableId, Version, action};

/// What a flow entry does with a packet that it matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Instruction {
    /// Go on in a later table.
    GotoTable(TableId),
    /// Write bits of the metadata.
    WriteMetadata {
        /// The bits.
        metadata: u64,
        /// Which of them are written.
        mask: u64,
    },
    /// Add to the action set.
    WriteActions(Vec<Action>),
    /// Do at once. The only instruction that 1.0 has: its action list.
    ApplyActions(Vec<Action>),
    /// Empty the action set.
    ClearActions,
    /// Pass through a meter.
    Meter(MeterId),
    /// An instruction of an experimenter, kept as it came.
    Experimenter {
        /// Whose it is.
        experimenter: u32,
        /// What follows.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
    /// An instruction that the specification does not define, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows the 4-byte header.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;
const EXPERIMENTER: u16 = 0xffff;

/// Type and length.
const HEADER_BYTES: usize = 4;

/// Reads what a flow entry does, up to the end of the reader: instructions in 1.3, actions in 1.0.
pub(crate) fn decode_list(mut list: Reader<'_>) -> Result<Vec<Instruction>, DecodeError> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    if list.version() == Version::V1_0 {
        return Ok(vec![Instruction::ApplyActions(action::decode_list(list)?)]);
    }
    list = list.blaming(ErrorKind::BadInstructionBadLen);
    let mut instructions = Vec::new();
    while !list.is_empty() {
        let kind = list.u16("instruction.type")?;
        let length = usize::from(list.u16("instruction.len")?);
        if length < 8 || !length.is_multiple_of(8) {
            return Err(list.bad_length("instruction.len", 2, length));
        }
        let mut body = list.sub(length - HEADER_BYTES, "instruction")?;
        instructions.push(decode_body(kind, &mut body)?);
        body.finish()?;
    }
    Ok(instructions)
}

/// Writes what a flow entry does.
pub(crate) fn encode_list(
    instructions: &[Instruction],
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if version == Version::V1_0 {
        return match instructions {
            [] => Ok(()),
            [Instruction::ApplyActions(actions)] => action::encode_list(actions, version, out),
            _ => Err(EncodeError::not_in(version, "instructions other than one apply_actions")),
        };
    }
    for instruction in instructions {
        let start = out.len();
        out.zeros(HEADER_BYTES);
        let kind = encode_body(instruction, version, out)?;
        if !(out.len() - start).is_multiple_of(8) || out.len() - start < 8 {
            return Err(EncodeError::invalid("instruction", "its bytes are not a multiple of 8"));
        }
        out.patch_u16(start, kind);
        out.patch_len(start + 2, start, "instruction")?;
    }
    Ok(())
}

fn decode_body(kind: u16, body: &mut Reader<'_>) -> Result<Instruction, DecodeError> {
    Ok(match kind {
        GOTO_TABLE => {
            let table = TableId(body.u8("goto_table.table_id")?);
            body.pad(3)?;
            Instruction::GotoTable(table)
        }
        WRITE_METADATA => {
            body.pad(4)?;
            let metadata = body.u64("write_metadata.metadata")?;
            Instruction::WriteMetadata { metadata, mask: body.u64("write_metadata.metadata_mask")? }
        }
        WRITE_ACTIONS => Instruction::WriteActions(decode_actions(body)?),
        APPLY_ACTIONS => Instruction::ApplyActions(decode_actions(body)?),
        CLEAR_ACTIONS => {
            body.pad(4)?;
            Instruction::ClearActions
        }
        METER => Instruction::Meter(MeterId(body.u32("meter.meter_id")?)),
        EXPERIMENTER => {
            Instruction::Experimenter { experimenter: body.u32("experimenter")?, body: body.rest().to_vec() }
        }
        kind => Instruction::Other { kind, body: body.rest().to_vec() },
    })
}

fn decode_actions(body: &mut Reader<'_>) -> Result<Vec<Action>, DecodeError> {
    body.pad(4)?;
    action::decode_list(body.sub(body.remaining(), "actions")?)
}

fn encode_body(instruction: &Instruction, version: Version, out: &mut Vec<u8>) -> Result<u16, EncodeError> {
    Ok(match instruction {
        Instruction::GotoTable(table) => {
            out.put_u8(table.0);
            out.zeros(3);
            GOTO_TABLE
        }
        Instruction::WriteMetadata { metadata, mask } => {
            out.zeros(4);
            out.put_u64(*metadata);
            out.put_u64(*mask);
            WRITE_METADATA
        }
        Instruction::WriteActions(actions) => {
            out.zeros(4);
            action::encode_list(actions, version, out)?;
            WRITE_ACTIONS
        }
        Instruction::ApplyActions(actions) => {
            out.zeros(4);
            action::encode_list(actions, version, out)?;
            APPLY_ACTIONS
        }
        Instruction::ClearActions => {
            out.zeros(4);
            CLEAR_ACTIONS
        }
        Instruction::Meter(meter) => {
            out.put_u32(meter.0);
            METER
        }
        Instruction::Experimenter { experimenter, body } => {
            out.put_u32(*experimenter);
            out.extend_from_slice(body);
            EXPERIMENTER
        }
        Instruction::Other { kind, body } => {
            out.extend_from_slice(body);
            *kind
        }
    })
}
