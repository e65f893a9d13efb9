//! Nicira's sampling for IPFIX with ids from fields, of Open vSwitch 3.4 (ovs-actions(7), "sample").
//!
//! ```text
//!  probability (16) | collector_set_id (32) | domain id | point id | sampling_port (16) | direction (8)
//!  id: 0 (32) | number (32)    or    field (32) | offset and size (16) | pad (16)
//! ```

use crate::wire::{Put, Reader, Wire, port16};
use crate::{DecodeError, EncodeError, FieldId, PortNo, Subfield, Version};

/// Samples packets for IPFIX.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Sample4 {
    /// How many, of 65535.
    pub probability: u16,
    /// The set of collectors.
    pub collector_set_id: u32,
    /// Observation domain.
    pub obs_domain: SampleId,
    /// Observation point.
    pub obs_point: SampleId,
    /// The port that they are counted for.
    pub sampling_port: PortNo,
    /// 0 as the switch likes, 1 ingress, 2 egress.
    pub direction: u8,
}

/// A number of a [`Sample4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum SampleId {
    /// This one.
    Immediate(u32),
    /// The one that a field holds, 32 bits at most.
    Field(Subfield),
}

impl Wire for Sample4 {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        Ok(Self {
            probability: body.u16("sample.probability")?,
            collector_set_id: body.u32("sample.collector_set_id")?,
            obs_domain: SampleId::read(body, "sample.obs_domain")?,
            obs_point: SampleId::read(body, "sample.obs_point")?,
            sampling_port: port16::read(body, "sample.sampling_port")?,
            direction: body.u8("sample.direction")?,
        })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(self.probability);
        out.put_u32(self.collector_set_id);
        self.obs_domain.put(version, out)?;
        self.obs_point.put(version, out)?;
        port16::put(&self.sampling_port, version, out)?;
        out.put_u8(self.direction);
        Ok(())
    }
}

impl Wire for SampleId {
    fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Self, DecodeError> {
        if body.clone().u32(name)? == 0 {
            body.pad(4)?;
            return body.u32(name).map(Self::Immediate);
        }
        let field = FieldId::read_short(body, name)?;
        let packed = body.u16(name)?;
        body.pad(2)?;
        Ok(Self::Field(Subfield::unpacked(field, packed)))
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Immediate(number) => {
                out.put_u32(0);
                out.put_u32(*number);
            }
            Self::Field(bits) => {
                bits.field.put_short(out)?;
                out.put_u16(bits.packed()?);
                out.zeros(2);
            }
        }
        Ok(())
    }
}
