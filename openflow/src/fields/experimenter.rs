//! Match fields of experimenters (OXM class 0xffff; 1.3: 7.2.3.2): the experimenter's id comes first in the body.

use super::id::CLASS_EXPERIMENTER;
use super::oxm::{self, OxmValue};
use crate::wire::{Put, Reader};
use crate::{DecodeError, EncodeError, ONF, PortNo};

/// A field of an experimenter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum ExperimenterField {
    /// ONF EXT-109: TCP flags, 12 bits, maskable.
    TcpFlags {
        /// The flags, as in the TCP header.
        value: u16,
        /// The bits of the value that count.
        mask: Option<u16>,
    },
    /// ONF EXT-233: the output port in the action set.
    ActsetOutput(PortNo),
    /// ONF EXT-256: the use-customer-address bit of a PBB tag.
    PbbUca(u8),
    /// Any other one, kept as it came.
    Other {
        /// Whose it is.
        experimenter: u32,
        /// Field number, 7 bits.
        field: u8,
        /// Whether the second half of the body is a mask.
        has_mask: bool,
        /// What follows the experimenter's id.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

const TCP_FLAGS: u8 = 42;
const ACTSET_OUTPUT: u8 = 43;
/// ONF fields with number 0 tell themselves apart by a type of 16 bits in front of the value.
const TYPED: u8 = 0;
const TYPE_PBB_UCA: u16 = 2560;
const ID_BYTES: u8 = 4;

impl ExperimenterField {
    /// Name of the field.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TcpFlags { .. } => "ONF_TCP_FLAGS",
            Self::ActsetOutput(_) => "ONF_ACTSET_OUTPUT",
            Self::PbbUca(_) => "ONF_PBB_UCA",
            Self::Other { .. } => "EXPERIMENTER",
        }
    }

    /// Whether the field is given with a mask.
    pub fn has_mask(&self) -> bool {
        match self {
            Self::TcpFlags { mask, .. } => mask.is_some(),
            Self::ActsetOutput(_) | Self::PbbUca(_) => false,
            Self::Other { has_mask, .. } => *has_mask,
        }
    }

    /// Reads the body of a field; `None` when there is not even an id in it.
    pub(crate) fn read(
        field: u8,
        has_mask: bool,
        body: &mut Reader<'_>,
    ) -> Result<Option<Self>, DecodeError> {
        if body.remaining() < usize::from(ID_BYTES) {
            return Ok(None);
        }
        let experimenter = body.u32("experimenter")?;
        let length = body.remaining();
        Ok(Some(match (experimenter, field) {
            (ONF, TCP_FLAGS) => {
                let (value, mask) = oxm::read_masked(has_mask, body, "ONF_TCP_FLAGS")?;
                Self::TcpFlags { value, mask }
            }
            (ONF, ACTSET_OUTPUT) if !has_mask => {
                Self::ActsetOutput(oxm::read_plain(has_mask, body, "ONF_ACTSET_OUTPUT")?)
            }
            (ONF, TYPED) if length == 3 && !has_mask && body.clone().u16("exp_type")? == TYPE_PBB_UCA => {
                body.u16("exp_type")?;
                Self::PbbUca(body.u8("ONF_PBB_UCA")?)
            }
            _ => Self::Other { experimenter, field, has_mask, body: body.rest().to_vec() },
        }))
    }

    /// Writes the field whole.
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut body = Vec::new();
        let (experimenter, field) = match self {
            Self::TcpFlags { value, mask } => {
                value.put(&mut body);
                mask.iter().for_each(|mask| mask.put(&mut body));
                (ONF, TCP_FLAGS)
            }
            Self::ActsetOutput(port) => {
                port.put(&mut body);
                (ONF, ACTSET_OUTPUT)
            }
            Self::PbbUca(value) => {
                body.put_u16(TYPE_PBB_UCA);
                body.put_u8(*value);
                (ONF, TYPED)
            }
            Self::Other { experimenter, field, body: raw, .. } => {
                body.extend_from_slice(raw);
                (*experimenter, *field)
            }
        };
        let mut whole = experimenter.to_be_bytes().to_vec();
        whole.append(&mut body);
        oxm::put_raw(out, CLASS_EXPERIMENTER, field, self.has_mask(), &whole)
    }
}
