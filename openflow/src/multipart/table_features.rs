//! What tables can do, and what they are told to do (1.3: 7.3.5.5).
//!
//! ```text
//!  length (16) | table_id (8) | pad (40) | name (32 bytes) | metadata_match (64) | metadata_write (64)
//!  config (32) | max_entries (32) | property ...
//! ```

use crate::property::{Property, put_property};
use crate::wire::{Put, Reader, Wire, read_all};
use crate::{DecodeError, EncodeError, ErrorKind, FieldId, FixedText, TableId, Version};

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TableFeatures {
    /// Which table.
    pub table_id: TableId,
    /// Its name, at most 32 bytes.
    pub name: FixedText,
    /// Bits of the metadata that it can match.
    pub metadata_match: u64,
    /// Bits of the metadata that it can write.
    pub metadata_write: u64,
    /// `OFPTC_*` bits; 1.3 defines none.
    pub config: u32,
    /// The most flow entries.
    pub max_entries: u32,
    /// What it can do, in the order of the wire.
    pub properties: Vec<TableFeature>,
}

/// A property of a table; `miss` is for the table-miss entry, and where it is missing the same as for others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum TableFeature {
    /// Instructions.
    Instructions {
        /// For the table-miss entry.
        miss: bool,
        /// Which.
        ids: Vec<TypeId>,
    },
    /// Tables that goto_table may name.
    NextTables {
        /// For the table-miss entry.
        miss: bool,
        /// Which.
        tables: Vec<TableId>,
    },
    /// Actions of write_actions.
    WriteActions {
        /// For the table-miss entry.
        miss: bool,
        /// Which.
        ids: Vec<TypeId>,
    },
    /// Actions of apply_actions.
    ApplyActions {
        /// For the table-miss entry.
        miss: bool,
        /// Which.
        ids: Vec<TypeId>,
    },
    /// Fields that can be matched; with `has_mask` under a mask.
    Match(Vec<FieldId>),
    /// Fields that a match can leave out.
    Wildcards(Vec<FieldId>),
    /// Fields that set_field of write_actions can write.
    WriteSetField {
        /// For the table-miss entry.
        miss: bool,
        /// Which.
        fields: Vec<FieldId>,
    },
    /// Fields that set_field of apply_actions can write.
    ApplySetField {
        /// For the table-miss entry.
        miss: bool,
        /// Which.
        fields: Vec<FieldId>,
    },
    /// A property of an experimenter, kept as it came.
    Experimenter {
        /// For the table-miss entry.
        miss: bool,
        /// Whose it is.
        experimenter: u32,
        /// Which of theirs.
        exp_type: u32,
        /// What follows.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
    /// A property that the specification does not define, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows type and length, padding not included.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

/// An instruction or an action by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TypeId {
    /// Wire type; 0xffff for those of experimenters.
    pub kind: u16,
    /// Whose it is, with type 0xffff; some switches fill others up with four zero bytes, which show here.
    pub experimenter: Option<u32>,
}

const TABLE_NAME_BYTES: usize = 32;
const LENGTH_BYTES: usize = 2;
const EXPERIMENTER: u16 = 0xfffe;
const EXPERIMENTER_MISS: u16 = 0xffff;

impl Wire for TableFeatures {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut body = reader.rest_of(LENGTH_BYTES, "table.length")?;
        let table_id = TableId(body.u8("table.table_id")?);
        body.pad(5)?;
        Ok(Self {
            table_id,
            name: body.text(TABLE_NAME_BYTES, "table.name")?,
            metadata_match: body.u64("table.metadata_match")?,
            metadata_write: body.u64("table.metadata_write")?,
            config: body.u32("table.config")?,
            max_entries: body.u32("table.max_entries")?,
            properties: read_all(&mut body, |body| TableFeature::read(body, "property"))?,
        })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.zeros(2);
        out.put_u8(self.table_id.0);
        out.zeros(5);
        out.put_text(&self.name, TABLE_NAME_BYTES, "table name")?;
        out.put_u64(self.metadata_match);
        out.put_u64(self.metadata_write);
        out.put_u32(self.config);
        out.put_u32(self.max_entries);
        self.properties.iter().try_for_each(|property| property.put(version, out))?;
        out.patch_len(start, start, "table features")
    }
}

impl Wire for TableFeature {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut blaming = reader.clone().blaming(ErrorKind::TableFeaturesBadLen);
        let (kind, mut body) = Property::open(&mut blaming)?;
        *reader = blaming;
        let ids = |body: &mut Reader<'_>| read_all(body, |body| TypeId::read(body, "type"));
        let fields = |body: &mut Reader<'_>| read_all(body, |body| FieldId::read_long(body, "oxm_id"));
        let miss = kind & 1 == 1;
        Ok(match kind {
            0 | 1 => Self::Instructions { miss, ids: ids(&mut body)? },
            2 | 3 => {
                let tables = body.rest().iter().map(|table| TableId(*table)).collect();
                Self::NextTables { miss, tables }
            }
            4 | 5 => Self::WriteActions { miss, ids: ids(&mut body)? },
            6 | 7 => Self::ApplyActions { miss, ids: ids(&mut body)? },
            8 => Self::Match(fields(&mut body)?),
            10 => Self::Wildcards(fields(&mut body)?),
            12 | 13 => Self::WriteSetField { miss, fields: fields(&mut body)? },
            14 | 15 => Self::ApplySetField { miss, fields: fields(&mut body)? },
            EXPERIMENTER | EXPERIMENTER_MISS => {
                let (experimenter, exp_type) = (body.u32("experimenter")?, body.u32("exp_type")?);
                Self::Experimenter { miss, experimenter, exp_type, body: body.rest().to_vec() }
            }
            kind => Self::Other { kind, body: body.rest().to_vec() },
        })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_property(self.kind(), out, |out| match self {
            Self::Instructions { ids, .. }
            | Self::WriteActions { ids, .. }
            | Self::ApplyActions { ids, .. } => ids.iter().try_for_each(|id| id.put(version, out)),
            Self::NextTables { tables, .. } => {
                out.extend(tables.iter().map(|table| table.0));
                Ok(())
            }
            Self::Match(fields)
            | Self::Wildcards(fields)
            | Self::WriteSetField { fields, .. }
            | Self::ApplySetField { fields, .. } => fields.iter().try_for_each(|field| field.put_long(out)),
            Self::Experimenter { experimenter, exp_type, body, .. } => {
                out.put_u32(*experimenter);
                out.put_u32(*exp_type);
                out.extend_from_slice(body);
                Ok(())
            }
            Self::Other { body, .. } => {
                out.extend_from_slice(body);
                Ok(())
            }
        })
    }
}

impl TableFeature {
    fn kind(&self) -> u16 {
        match self {
            Self::Instructions { miss, .. } => u16::from(*miss),
            Self::NextTables { miss, .. } => 2 | u16::from(*miss),
            Self::WriteActions { miss, .. } => 4 | u16::from(*miss),
            Self::ApplyActions { miss, .. } => 6 | u16::from(*miss),
            Self::Match(_) => 8,
            Self::Wildcards(_) => 10,
            Self::WriteSetField { miss, .. } => 12 | u16::from(*miss),
            Self::ApplySetField { miss, .. } => 14 | u16::from(*miss),
            Self::Experimenter { miss: false, .. } => EXPERIMENTER,
            Self::Experimenter { miss: true, .. } => EXPERIMENTER_MISS,
            Self::Other { kind, .. } => *kind,
        }
    }
}

impl Wire for TypeId {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let kind = reader.u16(field)?;
        let mut body = reader.rest_of(4, field)?;
        let experimenter = if body.is_empty() { None } else { Some(body.u32(field)?) };
        body.finish()?;
        Ok(Self { kind, experimenter })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(self.kind);
        out.put_u16(if self.experimenter.is_some() { 8 } else { 4 });
        self.experimenter.iter().for_each(|experimenter| out.put_u32(*experimenter));
        Ok(())
    }
}
