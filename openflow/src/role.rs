//! ROLE_REQUEST and ROLE_REPLY (1.3: 7.3.9).

use crate::wire::{Put, Reader};
use crate::{DecodeError, ErrorKind};

/// A controller's role towards a switch, asked for or granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RoleMsg {
    /// The role.
    pub role: Role,
    /// Counts elections; only grows.
    pub generation_id: u64,
}

/// Roles of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Role {
    /// Ask only.
    NoChange,
    /// Full access, shared.
    Equal,
    /// Full access, one at most.
    Master,
    /// Reading only.
    Slave,
}

impl Role {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match body.u32("role")? {
            0 => Ok(Self::NoChange),
            1 => Ok(Self::Equal),
            2 => Ok(Self::Master),
            3 => Ok(Self::Slave),
            other => Err(body.bad_value("role", 4, other, ErrorKind::RoleRequestBadRole)),
        }
    }

    pub(crate) fn to_wire(self) -> u32 {
        match self {
            Self::NoChange => 0,
            Self::Equal => 1,
            Self::Master => 2,
            Self::Slave => 3,
        }
    }
}

impl RoleMsg {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let role = Role::decode(body)?;
        body.pad(4)?;
        Ok(Self { role, generation_id: body.u64("generation_id")? })
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.put_u32(self.role.to_wire());
        out.zeros(4);
        out.put_u64(self.generation_id);
    }
}
