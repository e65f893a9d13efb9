//! Orders about the backends of this controller's own balancer: found to be possible, then carried out.

use std::time::Duration;

use lb_core::host::overlay::Overlay;

use super::Controller;
use crate::core::balance::{BackendOrder, Balancer, Ordered};
use crate::core::event::Command;
use crate::core::view;

impl Controller {
    /// What carrying out an order means, at a time in milliseconds since 1970; nothing is changed.
    ///
    /// # Errors
    /// The order is refused. One line.
    pub fn ordered(&self, order: &BackendOrder, unix_ms: u64) -> Result<Ordered, String> {
        self.network.ordered(order, &self.settings.versions, unix_ms)
    }

    /// The end of the drains that are over at a time in milliseconds since 1970, to be carried out as an order; `None` if
    /// there are none.
    #[must_use]
    pub fn overdue(&self, unix_ms: u64) -> Option<Ordered> {
        self.network.overdue(unix_ms)
    }

    /// Carries out an order: what there is to do then, and what is balanced now.
    pub fn obey_order(&mut self, ordered: Ordered, now: Duration) -> (Vec<Command>, view::Balancing) {
        self.network.obey_order(ordered, now);
        let commands = self.after_order(now);
        (commands, self.network.balancer().map(Balancer::view).unwrap_or_default())
    }

    /// Takes up the orders that an earlier controller was given, before switches connect.
    pub fn recall(&mut self, overlay: Overlay, now: Duration) {
        self.network.recall(overlay, now);
        self.known = self.network.known().clone();
    }
}
