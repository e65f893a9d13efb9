//! The header of an OXM or NXM field without its value: the name of a field, and a range of its bits.
//!
//! ```text
//!  class (16) | field (7) | has_mask (1) | length (8) | experimenter (32), if class is 0xffff
//! ```

use std::fmt;

use super::{MatchField, NxmField, oxm};
use crate::wire::{Put, Reader, Wire};
use crate::{DecodeError, EncodeError, Version};

/// A match field by number (OXM header; 1.3: 7.2.3.2), as table features and Nicira's actions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId {
    /// OXM class; 0 and 1 are Nicira's (NXM), 0x8000 is OpenFlow's basic class.
    pub class: u16,
    /// Field number in the class, 7 bits.
    pub field: u8,
    /// Whether a mask follows the value, or may.
    pub has_mask: bool,
    /// Bytes of value and mask; in class 0xffff with the 4 of the experimenter's id.
    pub length_bytes: u8,
    /// Whose field it is: class 0xffff only.
    pub experimenter: Option<u32>,
}

/// OXM class of experimenters.
pub(crate) const CLASS_EXPERIMENTER: u16 = 0xffff;
/// OXM class of the packet registers (`OFPXMC_PACKET_REGS` of 1.5, known to Open vSwitch in 1.3).
pub(crate) const CLASS_PACKET_REGS: u16 = 0x8001;
/// NXM class of the fields that 1.0 has.
pub(crate) const CLASS_NXM_OF: u16 = 0;
/// NXM class of the fields that Nicira added.
pub(crate) const CLASS_NXM_NX: u16 = 1;

impl FieldId {
    /// A field without a mask.
    pub const fn new(class: u16, field: u8, length_bytes: u8) -> Self {
        Self { class, field, has_mask: false, length_bytes, experimenter: None }
    }

    /// `NXM_OF_IN_PORT`, 16 bits.
    pub const IN_PORT: Self = Self::new(CLASS_NXM_OF, 0, 2);
    /// `NXM_OF_ETH_DST`, 48 bits.
    pub const ETH_DST: Self = Self::new(CLASS_NXM_OF, 1, 6);
    /// `NXM_OF_ETH_SRC`, 48 bits.
    pub const ETH_SRC: Self = Self::new(CLASS_NXM_OF, 2, 6);
    /// `NXM_OF_ETH_TYPE`, 16 bits.
    pub const ETH_TYPE: Self = Self::new(CLASS_NXM_OF, 3, 2);
    /// `NXM_OF_VLAN_TCI`, 16 bits.
    pub const VLAN_TCI: Self = Self::new(CLASS_NXM_OF, 4, 2);
    /// `NXM_OF_IP_PROTO`, 8 bits.
    pub const IP_PROTO: Self = Self::new(CLASS_NXM_OF, 6, 1);
    /// `NXM_OF_IP_SRC`, 32 bits.
    pub const IP_SRC: Self = Self::new(CLASS_NXM_OF, 7, 4);
    /// `NXM_OF_IP_DST`, 32 bits.
    pub const IP_DST: Self = Self::new(CLASS_NXM_OF, 8, 4);
    /// `NXM_OF_TCP_SRC`, 16 bits.
    pub const TCP_SRC: Self = Self::new(CLASS_NXM_OF, 9, 2);
    /// `NXM_OF_TCP_DST`, 16 bits.
    pub const TCP_DST: Self = Self::new(CLASS_NXM_OF, 10, 2);
    /// `NXM_NX_CT_MARK`, 32 bits.
    pub const CT_MARK: Self = Self::new(CLASS_NXM_NX, 107, 4);
    /// `NXM_NX_CT_LABEL`, 128 bits.
    pub const CT_LABEL: Self = Self::new(CLASS_NXM_NX, 108, 16);

    /// Register `NXM_NX_REG<index>`, 32 bits; Open vSwitch has 16.
    pub const fn reg(index: u8) -> Self {
        Self::new(CLASS_NXM_NX, index, 4)
    }

    /// Packet register `OXM_OF_PKT_REG<index>`, 64 bits: two of the registers; Open vSwitch has 8.
    pub const fn packet_reg(index: u8) -> Self {
        Self::new(CLASS_PACKET_REGS, index, 8)
    }

    /// All bits of the field.
    pub const fn whole(self) -> Subfield {
        let id_bytes = if self.experimenter.is_some() { 4 } else { 0 };
        let value_bytes =
            (self.length_bytes as u16).saturating_sub(id_bytes) / if self.has_mask { 2 } else { 1 };
        Subfield { field: self, offset_bits: 0, n_bits: value_bytes * 8 }
    }

    /// `n_bits` bits of the field, from bit `offset_bits` on.
    pub const fn bits(self, offset_bits: u16, n_bits: u16) -> Subfield {
        Subfield { field: self, offset_bits, n_bits }
    }

    /// Name of the field, as `NXM_NX_REG` or `OXM_OF_ETH_DST`; `None` for one that this crate does not know.
    pub fn name(&self) -> Option<&'static str> {
        match self.class {
            oxm::CLASS_BASIC => MatchField::basic_name(self.field),
            CLASS_PACKET_REGS => Some("OXM_OF_PKT_REG"),
            class => NxmField::name_of(class, self.field),
        }
    }

    /// Reads a header of 4 bytes, or of 8 in the class of experimenters.
    pub(crate) fn read_long(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let mut id = Self::read_short(reader, field)?;
        if id.class == CLASS_EXPERIMENTER {
            id.experimenter = Some(reader.u32(field)?);
        }
        Ok(id)
    }

    /// Reads a header of 4 bytes whatever its class, for places with room for no more.
    pub(crate) fn read_short(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let [high, low, byte, length_bytes] = reader.array(field)?;
        let class = u16::from_be_bytes([high, low]);
        let (field, has_mask) = (byte >> 1, byte & 1 == 1);
        Ok(Self { class, field, has_mask, length_bytes, experimenter: None })
    }

    pub(crate) fn put_long(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.experimenter.is_some() != (self.class == CLASS_EXPERIMENTER) {
            let why = "fields of class 0xffff have an experimenter, and no others do";
            return Err(EncodeError::invalid("match field id", why));
        }
        self.put_header(out)?;
        self.experimenter.iter().for_each(|id| out.put_u32(*id));
        Ok(())
    }

    pub(crate) fn put_short(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.experimenter.is_some() {
            let why = "an experimenter's field has no room in this action; another action has it";
            return Err(EncodeError::invalid("match field id", why));
        }
        self.put_header(out)
    }

    fn put_header(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.field > 0x7f {
            return Err(EncodeError::invalid("match field id", "the number has 7 bits"));
        }
        out.put_u16(self.class);
        out.put_u8(self.field << 1 | u8::from(self.has_mask));
        out.put_u8(self.length_bytes);
        Ok(())
    }

    /// Bytes that [`FieldId::put_long`] writes.
    pub(crate) const fn long_bytes(&self) -> usize {
        if self.experimenter.is_some() { 8 } else { 4 }
    }
}

impl fmt::Display for FieldId {
    /// The name, as `NXM_NX_REG5`, or class and number of a field that this crate does not know; `_W` behind it says
    /// that there is a mask.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.experimenter) {
            (Some(name), _) => {
                f.write_str(name)?;
                if let Some(index) = self.index() {
                    write!(f, "{index}")?;
                }
            }
            (None, Some(experimenter)) => write!(f, "{experimenter:#x}:{}", self.field)?,
            (None, None) => write!(f, "{:#06x}:{}", self.class, self.field)?,
        }
        f.write_str(if self.has_mask { "_W" } else { "" })
    }
}

impl FieldId {
    /// Which one it is, of the fields of which there are many.
    fn index(&self) -> Option<u8> {
        match (self.class, self.field) {
            (CLASS_NXM_NX, index @ 0..=15) | (CLASS_PACKET_REGS, index) => Some(index),
            (CLASS_NXM_NX, code @ 40..=103) => Some(code - 40),
            (CLASS_NXM_NX, code @ 111..=114) => Some(code - 111),
            _ => None,
        }
    }
}

impl Wire for FieldId {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        Self::read_long(reader, field)
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.put_long(out)
    }
}

impl MatchField {
    /// The number of this field, as actions and table features name it; `None` for the two fields that 1.0 alone has.
    pub fn id(&self) -> Option<FieldId> {
        let mut bytes = Vec::new();
        oxm::encode_field(self, &mut bytes).ok()?;
        FieldId::read_long(&mut Reader::new(&bytes, Version::V1_3, "match field"), "id").ok()
    }
}

/// A range of bits of a field, as `NXM_NX_REG0[16..31]` of ovs-fields(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Subfield {
    /// The field.
    pub field: FieldId,
    /// The lowest bit; 0 is the least significant one.
    pub offset_bits: u16,
    /// How many bits.
    pub n_bits: u16,
}

impl Subfield {
    /// Offset and size in 16 bits: offset (10) | size - 1 (6).
    pub(crate) fn packed(&self) -> Result<u16, EncodeError> {
        if !(1..=64).contains(&self.n_bits) || self.offset_bits > 0x3ff {
            return Err(EncodeError::invalid(
                "range of bits",
                "1 to 64 bits from bit 0 to 1023 are possible",
            ));
        }
        Ok(self.offset_bits << 6 | (self.n_bits - 1))
    }

    /// The range that [`Subfield::packed`] gave.
    pub(crate) const fn unpacked(field: FieldId, packed: u16) -> Self {
        Self { field, offset_bits: packed >> 6, n_bits: (packed & 0x3f) + 1 }
    }

    /// Reads a range packed into 16 bits, and the field behind it.
    pub(crate) fn read_packed(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let packed = reader.u16(field)?;
        Ok(Self::unpacked(FieldId::read_short(reader, field)?, packed))
    }

    pub(crate) fn put_packed(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(self.packed()?);
        self.field.put_short(out)
    }
}
