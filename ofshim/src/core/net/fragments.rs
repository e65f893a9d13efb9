//! Fragments of balanced packets. In a switch's match they have no ports, the first one neither (OpenFlow 1.0, 3.4, and
//! Open vSwitch in all versions), so that no entry of a connection takes them: each comes to the controller, which sends
//! it on, rewritten, to where its destination is. That holds as long as no other entry takes them before.
//!
//! ```text
//!   client  --- fragment ---> controller --- to a backend ---> backend       no entry is for a virtual MAC
//!   client <--- to a client --- controller <--- fragment --- backend         an entry for fragments would hide this
//! ```

use lb_core::host::config::Mode;

use super::key::IpKey;
use super::{FlowKey, Network};
use crate::core::ip::FRAGMENT;

/// What ports a fragment has in a match.
const NO_PORTS: (u16, u16) = (0, 0);

impl Network {
    /// Whether an entry of a route for this flow would take fragments that are a backend's answers to clients of a VIP.
    pub(super) fn hides_answers(&self, key: &FlowKey) -> bool {
        let Some(IpKey { src, protocol: Some(protocol), ports, .. }) = key.ip else { return false };
        // Of later fragments of IPv6 a match has no protocol but that of the fragment header.
        let any_protocol = src.is_ipv6() && protocol == FRAGMENT;
        if !any_protocol && ports != Some(NO_PORTS) {
            return false;
        }
        let Some(balancer) = self.balancer.as_ref().filter(|balancer| !balancer.entries().stands()) else {
            return false;
        };
        balancer.config().vips.iter().any(|vip| {
            let same = any_protocol || vip.protocol.number() == protocol;
            same && vip.mode == Mode::Nat && vip.backends.iter().any(|backend| backend.address == src)
        })
    }

    /// Deletes the routes that hide answers of backends, which these were not before.
    pub(super) fn end_hiding_routes(&mut self) {
        let hiding: Vec<FlowKey> =
            self.flows.iter().map(|(key, _)| *key).filter(|key| self.hides_answers(key)).collect();
        for key in hiding {
            self.delete_flow(&key);
        }
    }
}
