//! Nicira's learn: an action that adds a flow entry made from the packet (ovs-actions(7), "learn").
//!
//! ```text
//!  spec: 0 (2) | source (1) | target (2) | 0 (1) | n_bits (10), then the source, then the target
//!   source 0: field (32) | offset (16)        source 1: n_bits in whole 16-bit words
//!   target 0 match, 1 load: field (32) | offset (16)        target 2 output: nothing
//! ```

use super::nicira::bad_argument;
use crate::wire::{Put, Reader, Wire, layout};
use crate::{Cookie, DecodeError, EncodeError, FieldId, TableId, Version};

/// Adds a flow entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Learn {
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds.
    pub hard_timeout: u16,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: Cookie,
    /// `NX_LEARN_F_*` bits: 0 the entry sends a flow-removed, 1 it goes with the entry that learned it, 2 whether it
    /// could be added is written into a bit ([`Learn2`] only).
    pub flags: u16,
    /// The table it goes to.
    pub table_id: TableId,
    /// Its idle timeout after a FIN or RST; 0 leaves it.
    pub fin_idle_timeout: u16,
    /// Its hard timeout after a FIN or RST; 0 leaves it.
    pub fin_hard_timeout: u16,
    /// Its match and its actions.
    pub specs: Vec<LearnSpec>,
}

/// Adds a flow entry, unless there are too many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Learn2 {
    /// What to add.
    pub learn: Learn,
    /// At most so many entries; 0 for no limit.
    pub limit: u32,
    /// The bit that says whether the entry was added; needs bit 2 of [`Learn::flags`].
    pub result: Option<LearnField>,
}

/// One part of the match or of the actions of a learned entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LearnSpec {
    /// How many bits, 1 to 1023.
    pub n_bits: u16,
    /// Where they come from.
    pub source: LearnSource,
    /// What becomes of them.
    pub target: LearnTarget,
}

/// Where the bits of a [`LearnSpec`] come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum LearnSource {
    /// A field of the packet.
    Field(LearnField),
    /// These bytes, right-justified in whole 16-bit words.
    Immediate(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))] Vec<u8>),
}

/// What becomes of the bits of a [`LearnSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum LearnTarget {
    /// The entry matches them in this field.
    Match(LearnField),
    /// The entry writes them into this field.
    Load(LearnField),
    /// The entry outputs to them as a port.
    Output,
}

/// A bit of a field, and those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LearnField {
    /// The field.
    pub field: FieldId,
    /// The lowest bit.
    pub offset_bits: u16,
}

const N_BITS: u16 = 0x3ff;
const IMMEDIATE: u16 = 1 << 13;
const TARGET: u16 = 3 << 11;
const LOAD: u16 = 1 << 11;
const OUTPUT: u16 = 2 << 11;
const WRITE_RESULT: u16 = 1 << 2;

/// What [`Learn`] and [`Learn2`] begin with.
struct Head {
    idle_timeout: u16,
    hard_timeout: u16,
    priority: u16,
    cookie: Cookie,
    flags: u16,
    table_id: TableId,
    fin_idle_timeout: u16,
    fin_hard_timeout: u16,
}

layout! { Head: idle_timeout, hard_timeout, priority, cookie, flags, table_id + 1, fin_idle_timeout, fin_hard_timeout }

impl Head {
    fn with(self, specs: Vec<LearnSpec>) -> Learn {
        let Self { idle_timeout, hard_timeout, priority, cookie, flags, table_id, .. } = self;
        let Self { fin_idle_timeout, fin_hard_timeout, .. } = self;
        Learn {
            idle_timeout,
            hard_timeout,
            priority,
            cookie,
            flags,
            table_id,
            fin_idle_timeout,
            fin_hard_timeout,
            specs,
        }
    }
}

impl Learn {
    fn put_head(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Self { idle_timeout, hard_timeout, priority, cookie, flags, table_id, .. } = *self;
        let Self { fin_idle_timeout, fin_hard_timeout, .. } = *self;
        let head = Head {
            idle_timeout,
            hard_timeout,
            priority,
            cookie,
            flags,
            table_id,
            fin_idle_timeout,
            fin_hard_timeout,
        };
        head.put(version, out)
    }

    fn put_specs(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.specs.iter().try_for_each(|spec| spec.put(version, out))
    }
}

impl Wire for Learn {
    fn read(body: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let head = Head::read(body, field)?;
        Ok(head.with(read_specs(body)?))
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.put_head(version, out)?;
        self.put_specs(version, out)
    }
}

impl Wire for Learn2 {
    fn read(body: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let head = Head::read(body, field)?;
        let limit = body.u32("learn.limit")?;
        let offset_bits = body.u16("learn.result_dst_ofs")?;
        body.pad(2)?;
        let result = if head.flags & WRITE_RESULT != 0 {
            Some(LearnField { field: FieldId::read_long(body, "learn.result_dst")?, offset_bits })
        } else if offset_bits != 0 {
            return Err(bad_argument(body, "learn.result_dst_ofs", 4, u64::from(offset_bits)));
        } else {
            None
        };
        Ok(Self { learn: head.with(read_specs(body)?), limit, result })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.result.is_some() != (self.learn.flags & WRITE_RESULT != 0) {
            return Err(EncodeError::invalid(
                "action learn",
                "bit 2 of its flags and a result need each other",
            ));
        }
        self.learn.put_head(version, out)?;
        out.put_u32(self.limit);
        out.put_u16(self.result.map_or(0, |result| result.offset_bits));
        out.zeros(2);
        self.result.iter().try_for_each(|result| result.field.put_long(out))?;
        self.learn.put_specs(version, out)
    }
}

/// Reads specs up to the padding or to the end.
fn read_specs(body: &mut Reader<'_>) -> Result<Vec<LearnSpec>, DecodeError> {
    let mut specs = Vec::new();
    while body.remaining() >= 2 && body.clone().u16("learn.spec")? != 0 {
        specs.push(LearnSpec::read(body, "learn.spec")?);
    }
    Ok(specs)
}

impl Wire for LearnSpec {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let header = body.u16("learn.spec")?;
        let n_bits = header & N_BITS;
        let target = header & TARGET;
        if header & !(N_BITS | IMMEDIATE | TARGET) != 0 || target == TARGET {
            return Err(bad_argument(body, "learn.spec", 2, u64::from(header)));
        }
        let source = if header & IMMEDIATE != 0 {
            LearnSource::Immediate(body.take(immediate_bytes(n_bits), "learn.immediate")?.to_vec())
        } else {
            LearnSource::Field(LearnField::read(body, "learn.source")?)
        };
        let target = match target {
            OUTPUT => LearnTarget::Output,
            LOAD => LearnTarget::Load(LearnField::read(body, "learn.target")?),
            _ => LearnTarget::Match(LearnField::read(body, "learn.target")?),
        };
        Ok(Self { n_bits, source, target })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let source = match &self.source {
            LearnSource::Field(_) => 0,
            LearnSource::Immediate(_) => IMMEDIATE,
        };
        let target = match &self.target {
            LearnTarget::Match(_) => 0,
            LearnTarget::Load(_) => LOAD,
            LearnTarget::Output => OUTPUT,
        };
        let header = self.n_bits | source | target;
        if self.n_bits > N_BITS || header == 0 {
            return Err(EncodeError::invalid("action learn", "a spec has 1 to 1023 bits"));
        }
        out.put_u16(header);
        match &self.source {
            LearnSource::Field(field) => field.put(version, out)?,
            LearnSource::Immediate(bytes) if bytes.len() == immediate_bytes(self.n_bits) => {
                out.extend_from_slice(bytes);
            }
            LearnSource::Immediate(_) => {
                let why = "a value takes as many whole 16-bit words as its bits need";
                return Err(EncodeError::invalid("action learn", why));
            }
        }
        match &self.target {
            LearnTarget::Match(field) | LearnTarget::Load(field) => field.put(version, out),
            LearnTarget::Output => Ok(()),
        }
    }
}

impl Wire for LearnField {
    fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Self, DecodeError> {
        Ok(Self { field: FieldId::read_short(body, name)?, offset_bits: body.u16(name)? })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.field.put_short(out)?;
        out.put_u16(self.offset_bits);
        Ok(())
    }
}

fn immediate_bytes(n_bits: u16) -> usize {
    usize::from(n_bits).div_ceil(16) * 2
}
