//! What an administrator wants of the backends while the balancer runs.

use std::time::Duration;

use lb_core::host::overlay::{Order, Whom};

use super::{Balancer, nanoseconds};
use crate::core::event::Level;

/// An order about backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendOrder {
    /// Name, address, or address and port.
    pub backend: String,
    /// Name or key of the VIP; without it every VIP that has such a backend.
    pub vip: Option<String>,
    /// What is to be done.
    pub order: Order,
}

impl Balancer {
    /// Carries out an order; the lines for the log. What changes is told by [`Balancer::follow`].
    ///
    /// # Errors
    /// One line that names the thing and the mend; nothing is changed then.
    pub fn order(&mut self, order: &BackendOrder, now: Duration) -> Result<Vec<(Level, String)>, String> {
        let whom = Whom { backend: &order.backend, vip: order.vip.as_deref() };
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let (overlay, targets) = self.overlay.ordered(&self.file, whom, &order.order, now_ms)?;
        let config = overlay.apply(&self.file);
        self.ids.clone().assign(&config).map_err(|error| error.to_string())?;
        self.overlay = overlay;
        self.config = config;
        self.watch.reconfigure(&self.config, nanoseconds(now));
        let word = match order.order {
            Order::Drain { .. } => "draining".to_owned(),
            Order::Disable => "disabled".to_owned(),
            Order::Enable => "enabled".to_owned(),
            Order::Weight(weight) => format!("weight {weight}"),
            Order::Add { .. } => "added".to_owned(),
            Order::Remove => "removed".to_owned(),
        };
        let line = |target| (Level::Info, format!("backend {target}: {word} by order"));
        Ok(targets.iter().map(line).collect())
    }
}
