//! ROLE_REQUEST and ROLE_REPLY (1.3: 7.3.9).

use crate::wire::{Put, Reader};
use crate::{DecodeError, ErrorKind, Problem};

/// A controller's role towards a switch, asked for or granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleMsg {
    /// The role.
    pub role: Role,
    /// Counts elections; only grows.
    pub generation_id: u64,
}

/// Roles of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl RoleMsg {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = body.offset();
        let role = match body.u32("role")? {
            0 => Role::NoChange,
            1 => Role::Equal,
            2 => Role::Master,
            3 => Role::Slave,
            other => {
                let problem = Problem::BadValue(u64::from(other));
                return Err(body.error("role", at, problem, ErrorKind::RoleRequestBadRole));
            }
        };
        body.pad(4)?;
        Ok(Self { role, generation_id: body.u64("generation_id")? })
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.put_u32(match self.role {
            Role::NoChange => 0,
            Role::Equal => 1,
            Role::Master => 2,
            Role::Slave => 3,
        });
        out.zeros(4);
        out.put_u64(self.generation_id);
    }
}
