//! The role of this controller at a switch: asked for, granted, and lost again.

use openflow::{ErrorKind, ErrorMsg, Role, RoleStatus, Version, Xid};

use super::{Refusal, Session};
use crate::core::link::Context;
use crate::core::requests::Asked;

/// A role in the words of the command line; the specifications' are master, equal and slave.
const fn word(role: Role) -> &'static str {
    match role {
        Role::Master => "primary",
        Role::Slave => "secondary",
        Role::Equal | Role::NoChange => "equal",
    }
}

/// The role that is asked for; who asks for none is equal to all others (1.3, 6.3.6).
fn wanted(ctx: &Context<'_>) -> Role {
    ctx.settings.role.map_or(Role::Equal, |asked| asked.role)
}

impl Session {
    /// The role of this controller at the switch: `primary`, `equal` or `secondary`.
    #[must_use]
    pub const fn role(&self) -> &'static str {
        word(self.role)
    }

    /// The switch says which role is in force. Another one than asked for is a fault.
    pub(super) fn granted(&mut self, xid: Xid, granted: Role, ctx: &mut Context<'_>) -> Result<(), Refusal> {
        if self.requests.asked(xid) != Some(&Asked::Role) {
            return Ok(());
        }
        self.requests.take(xid);
        if wanted(ctx) != granted {
            return Err(Refusal::silent(format!("it gave the role {granted:?}, which was not asked for")));
        }
        self.role = granted;
        self.ask_for_ports(ctx);
        Ok(())
    }

    /// The switch says that the role changed (ONF EXT-191; 1.4, 7.4.4). Where a role was asked for any other is a fault,
    /// and where none was, one that may change nothing.
    pub(super) fn role_changed(&mut self, status: &RoleStatus, ctx: &Context<'_>) -> Result<(), Refusal> {
        let asks = self.requests.waits_for_role();
        let is_fault = match ctx.settings.role {
            Some(asked) => asked.role != status.role,
            None => status.role == Role::Slave,
        };
        // What was in force before the answer to the question for another says nothing.
        if is_fault && !asks {
            let why = match status.reason {
                0 => "another controller became primary",
                1 => "its configuration changed",
                _ => "an experimenter changed it",
            };
            let (is, was) = (word(status.role), word(wanted(ctx)));
            let reason = format!("its role for this controller is {is} now, not {was}: {why}");
            return Err(Refusal::silent(reason));
        }
        self.role = status.role;
        Ok(())
    }

    /// An error that only a secondary controller gets: the role is lost, or never was. 1.0 knows no such error, and Open
    /// vSwitch says there that it is not permitted.
    pub(super) fn check_role(&self, error: &ErrorMsg, ctx: &Context<'_>) -> Result<(), Refusal> {
        let is_secondary = match error.kind {
            ErrorKind::BadRequestIsSlave => true,
            ErrorKind::BadRequestEperm => {
                self.link.version == Version::V1_0 && ctx.settings.role.is_some() && self.switch.is_some()
            }
            _ => false,
        };
        if !is_secondary {
            return Ok(());
        }
        let (kind, was) = (error.kind, word(wanted(ctx)));
        let reason =
            format!("it refuses changes ({kind}): its role for this controller is not {was} any more");
        Err(Refusal::silent(reason))
    }
}
