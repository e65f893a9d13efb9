//! Messages whose content is another message's bytes or an experimenter's: ERROR (1.0: 5.4.4, 1.3: 7.4.4) and
//! EXPERIMENTER (1.0: 5.5.4, 1.3: 7.5.4).

use crate::error_kind::{EXPERIMENTER, NX_VENDOR};
use crate::wire::{Put, Reader};
use crate::{DecodeError, EncodeError, ErrorKind, Version};

/// ERROR: what went wrong, with the bytes that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ErrorMsg {
    /// What.
    pub kind: ErrorKind,
    /// Usually the beginning of the refused message, 64 bytes at least; text for a failed hello.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
    pub data: Vec<u8>,
}

/// EXPERIMENTER, VENDOR in 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Experimenter {
    /// Whose message it is.
    pub experimenter: u32,
    /// What follows; in 1.3 it begins with the 4-byte `exp_type`.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
    pub body: Vec<u8>,
}

impl ErrorMsg {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, code) = (body.u16("type")?, body.u16("code")?);
        let kind = match (body.version(), kind, code) {
            (Version::V1_3, EXPERIMENTER, exp_type) => {
                ErrorKind::Experimenter { exp_type, experimenter: body.u32("experimenter")? }
            }
            (Version::V1_0, kind, code) if (kind, code) == NX_VENDOR => ErrorKind::Vendor {
                vendor: body.u32("vendor")?,
                kind: body.u16("type")?,
                code: body.u16("code")?,
            },
            (version, kind, code) => ErrorKind::from_wire(version, kind, code),
        };
        Ok(Self { kind, data: body.rest().to_vec() })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let wire = self.kind.to_wire(version);
        let (kind, code) =
            wire.ok_or_else(|| EncodeError::not_in(version, format!("error {}", self.kind)))?;
        out.put_u16(kind);
        out.put_u16(code);
        match self.kind {
            ErrorKind::Experimenter { experimenter, .. } => out.put_u32(experimenter),
            ErrorKind::Vendor { vendor, kind, code } => {
                out.put_u32(vendor);
                out.put_u16(kind);
                out.put_u16(code);
            }
            _ => {}
        }
        out.extend_from_slice(&self.data);
        Ok(())
    }
}

impl Experimenter {
    /// Bytes of `exp_type`, which 1.3 has in every such message.
    const EXP_TYPE_BYTES: usize = 4;

    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let experimenter = body.u32("experimenter")?;
        if body.version() == Version::V1_3 {
            body.clone().take(Self::EXP_TYPE_BYTES, "exp_type")?;
        }
        Ok(Self { experimenter, body: body.rest().to_vec() })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version == Version::V1_3 && self.body.len() < Self::EXP_TYPE_BYTES {
            return Err(EncodeError::invalid("experimenter message", "1.3 needs 4 bytes of exp_type first"));
        }
        out.put_u32(self.experimenter);
        out.extend_from_slice(&self.body);
        Ok(())
    }
}
