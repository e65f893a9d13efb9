//! Nicira's choice of one port among several by a hash: bundle and bundle_load (ovs-actions(7)).

use super::nicira::bad_argument;
use crate::wire::{Put, Reader, Wire};
use crate::{DecodeError, EncodeError, FieldId, PortNo, Subfield, Version};

/// Sends the packet out of one of several ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Bundle {
    /// How a member is chosen (`NX_BD_ALG_*`): 0 the first one that is up, 1 highest random weight.
    pub algorithm: u16,
    /// Which fields are hashed, as in [`crate::NxAction::Multipath`].
    pub fields: u16,
    /// Base value of the hash.
    pub basis: u16,
    /// What the members are; Open vSwitch knows ports ([`FieldId::IN_PORT`]) alone.
    pub member_type: FieldId,
    /// The ports.
    pub members: Vec<PortNo>,
}

/// Writes one of several ports into a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BundleLoad {
    /// The choice.
    pub bundle: Bundle,
    /// Where the port's number goes.
    pub dst: Subfield,
}

impl Bundle {
    /// Reads all but the members, whose number it gives.
    fn read_head(body: &mut Reader<'_>) -> Result<(Self, usize), DecodeError> {
        let bundle = Self {
            algorithm: body.u16("bundle.algorithm")?,
            fields: body.u16("bundle.fields")?,
            basis: body.u16("bundle.basis")?,
            member_type: FieldId::read_short(body, "bundle.member_type")?,
            members: Vec::new(),
        };
        Ok((bundle, usize::from(body.u16("bundle.n_members")?)))
    }

    fn read_members(mut self, count: usize, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        body.pad(4)?;
        let mut list = body.sub(count * 2, "bundle.members")?;
        self.members =
            crate::wire::read_all(&mut list, |list| list.u16("bundle.member").map(PortNo::from_v1_0))?;
        Ok(self)
    }

    fn put_with(
        &self,
        dst: Option<&Subfield>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.put_u16(self.algorithm);
        out.put_u16(self.fields);
        out.put_u16(self.basis);
        self.member_type.put_short(out)?;
        let too_many = |_| EncodeError::invalid("action bundle", "65535 members are the most");
        out.put_u16(u16::try_from(self.members.len()).map_err(too_many)?);
        match dst {
            Some(dst) => dst.put_packed(out)?,
            None => out.zeros(6),
        }
        out.zeros(4);
        self.members.iter().try_for_each(|port| crate::wire::port16::put(port, version, out))
    }
}

impl Wire for Bundle {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let (bundle, count) = Self::read_head(body)?;
        let (packed, dst) = (body.u16("bundle.ofs_nbits")?, body.u32("bundle.dst")?);
        if packed != 0 || dst != 0 {
            return Err(bad_argument(body, "bundle.dst", 4, u64::from(dst)));
        }
        bundle.read_members(count, body)
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.put_with(None, version, out)
    }
}

impl Wire for BundleLoad {
    fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let (bundle, count) = Bundle::read_head(body)?;
        let dst = Subfield::read_packed(body, "bundle.dst")?;
        Ok(Self { bundle: bundle.read_members(count, body)?, dst })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.bundle.put_with(Some(&self.dst), version, out)
    }
}
