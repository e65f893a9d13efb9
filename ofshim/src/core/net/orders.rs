//! Orders about the backends of this controller's own balancer.

use std::time::Duration;

use lb_core::host::overlay::Overlay;
use openflow::Version;

use super::Network;
use crate::core::balance::{self, BackendOrder, Ordered};

impl Network {
    /// What carrying out an order means, at a time in milliseconds since 1970; nothing is changed.
    ///
    /// # Errors
    /// This controller does not balance by a configuration of its own, or the order is refused. One line.
    pub fn ordered(
        &self,
        order: &BackendOrder,
        versions: &[Version],
        unix_ms: u64,
    ) -> Result<Ordered, String> {
        let Some(balancer) = &self.balancer else {
            return Err("this controller does not balance: orders are for one that runs with --lb openflow, or for lb"
                .to_owned());
        };
        if balancer.follows() {
            return Err(
                "this controller balances for lb: give the order to lb, as in 'lb backend drain'".to_owned()
            );
        }
        balancer.ordered(order, versions, unix_ms)
    }

    /// The end of the drains that are over at a time in milliseconds since 1970, if there are any.
    #[must_use]
    pub fn overdue(&self, unix_ms: u64) -> Option<Ordered> {
        self.balancer.as_ref()?.overdue(unix_ms)
    }

    /// Carries out an order.
    pub fn obey_order(&mut self, ordered: Ordered, now: Duration) {
        self.now = now;
        let lines = self.balancer.as_mut().map(|balancer| balancer.obey(ordered, now));
        for (level, text) in lines.into_iter().flatten() {
            self.log(level, text);
        }
        self.balance_follow();
    }

    /// Takes up the orders that an earlier controller was given.
    pub fn recall(&mut self, overlay: Overlay, now: Duration) {
        self.now = now;
        if let Some(balancer) = &mut self.balancer {
            balancer.recall(overlay, now);
        }
        self.balance_follow();
    }

    /// The other stages know the backends that there are now. VIPs stay what they were.
    pub(super) fn know_backends(&mut self) {
        if let Some(balancer) = self.balancer.as_ref().filter(|balancer| !balancer.follows()) {
            self.known = balance::knowledge(balancer.config());
        }
    }
}
