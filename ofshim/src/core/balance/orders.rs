//! What an administrator wants of the backends while the balancer runs: on top of the file, until it is taken back.
//!
//! An order is found to be possible first ([`Balancer::ordered`]), then whoever has a disk writes it down, then it is
//! carried out ([`Balancer::obey`]). Times of orders are milliseconds since 1970: deadlines outlive the controller.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::host::config::Config;
use lb_core::host::overlay::{Order, Overlay, Service, Target, Whom};
use openflow::Version;

use super::{Balancer, check, is_finished, nanoseconds};
use crate::core::event::Level;

/// How long connections may come to light of a backend that an earlier controller was told to remove.
const FOUND_STAYS: Duration = Duration::from_secs(20);

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

/// An order that can be carried out, or drains that are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    overlay: Overlay,
    lines: Vec<(Level, String)>,
}

impl Ordered {
    /// All orders that hold then.
    #[must_use]
    pub const fn overlay(&self) -> &Overlay {
        &self.overlay
    }
}

impl Balancer {
    /// What carrying out an order means, at a time in milliseconds since 1970, with switches of these versions.
    ///
    /// # Errors
    /// One line that names the thing and the mend.
    pub fn ordered(
        &self,
        order: &BackendOrder,
        versions: &[Version],
        unix_ms: u64,
    ) -> Result<Ordered, String> {
        let whom = Whom { backend: &order.backend, vip: order.vip.as_deref() };
        let (overlay, targets) = self.overlay.ordered(&self.file, whom, &order.order, unix_ms)?;
        let config = overlay.apply(&self.file);
        check::config(&config, versions)?;
        let mut leaving = self.leaving.clone();
        leaving.leave(&self.config, &config);
        self.ids.clone().assign(&leaving.apply(config)).map_err(|error| error.to_string())?;
        let word = match &order.order {
            Order::Drain { deadline_ms: None } => "draining".to_owned(),
            Order::Drain { deadline_ms: Some(ms) } => format!("draining for {} s at most", ms.div_ceil(1000)),
            Order::Disable => "disabled".to_owned(),
            Order::Enable => "enabled".to_owned(),
            Order::Weight(weight) => format!("weight {weight}"),
            Order::Add { .. } => "added".to_owned(),
            Order::Remove => "removed; its connections stay until they end".to_owned(),
        };
        let line = |target| (Level::Info, format!("backend {target}: {word} by order"));
        Ok(Ordered { overlay, lines: targets.iter().map(line).collect() })
    }

    /// The end of the drains whose deadline is over at a time in milliseconds since 1970, if there are any.
    #[must_use]
    pub fn overdue(&self, unix_ms: u64) -> Option<Ordered> {
        self.overlay.next_deadline_ms().filter(|deadline| *deadline <= unix_ms)?;
        let mut overlay = self.overlay.clone();
        let targets = overlay.expire(unix_ms);
        let left = self.open_connections();
        let line = |target: &Target| {
            let count = left.as_ref().map(|left| self.open_of(target, left));
            let over = format!("backend {target} disabled: the drain's deadline is over");
            match count {
                Some(0) => (Level::Info, format!("{over}, no connection was left")),
                Some(count) => (Level::Warn, format!("{over} with {count} connections left")),
                None => (Level::Info, over),
            }
        };
        Some(Ordered { lines: targets.iter().map(line).collect(), overlay })
    }

    /// Carries an order out; the lines for the log. What changes is told by [`Balancer::follow`].
    pub fn obey(&mut self, ordered: Ordered, now: Duration) -> Vec<(Level, String)> {
        let config = ordered.overlay.apply(&self.file);
        self.leaving.leave(&self.config, &config);
        self.overlay = ordered.overlay;
        let Self { overlay, drained, .. } = self;
        drained.retain(|target| is_draining(overlay, target));
        self.put_in_force(now);
        ordered.lines
    }

    /// Takes up the orders that an earlier controller was given. The connections of backends that are removed by them may be
    /// in the switches: they stay.
    pub fn recall(&mut self, overlay: Overlay, now: Duration) {
        self.leaves_from = now + FOUND_STAYS;
        self.leaving.leave(&self.file, &overlay.apply(&self.file));
        self.overlay = overlay;
        self.put_in_force(now);
    }

    /// Brings everything to the file with the orders.
    fn put_in_force(&mut self, now: Duration) {
        let config: Config = self.leaving.apply(self.overlay.apply(&self.file));
        self.configure(config);
        self.watch.reconfigure(&self.config, nanoseconds(now));
    }

    /// Says who has run dry, and lets go of removed backends that no connection carries; the lines for the log. With
    /// standing entries connections are the switches' alone, which keep those of a removed backend by themselves.
    pub(super) fn follow_orders(&mut self, now: Duration) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        if !self.leaving.is_empty() && now >= self.leaves_from {
            let (carried, _) = self.model.in_use();
            let gone = self.leaving.let_go(&self.plan.backends, &carried);
            if !gone.is_empty() {
                self.put_in_force(now);
            }
            let told = gone.into_iter().filter(|_| !self.entries.stands());
            lines.extend(told.map(|line| (Level::Info, line)));
        }
        let draining = self.overlay.changes().keys().filter(|target| is_draining(&self.overlay, target));
        let draining: Vec<Target> = draining.cloned().collect();
        if let Some(left) = (!draining.is_empty()).then(|| self.open_connections()).flatten() {
            for target in draining {
                if self.open_of(&target, &left) > 0 {
                    self.drained.remove(&target);
                } else if self.drained.insert(target.clone()) {
                    lines.push((Level::Info, format!("backend {target} drained: no connection left")));
                }
            }
        }
        lines
    }

    /// How many connections of each backend have not ended, by its id; `None` where the switches alone know.
    #[must_use]
    pub fn open_connections(&self) -> Option<BTreeMap<u16, usize>> {
        if self.entries.stands() {
            return None;
        }
        let mut open = BTreeMap::new();
        for connection in self.connections().iter().filter(|connection| !is_finished(&connection.value)) {
            *open.entry(connection.value.backend).or_default() += 1;
        }
        Some(open)
    }

    fn open_of(&self, target: &Target, open: &BTreeMap<u16, usize>) -> usize {
        let backend = self.plan.backends.values().find(|backend| Target::of_plan(backend) == *target);
        backend.and_then(|backend| open.get(&backend.id.id)).copied().unwrap_or_default()
    }

    /// When a backend's drain is over, in milliseconds since 1970, if it has a deadline.
    #[must_use]
    pub(super) fn drains_until_ms(&self, target: &Target) -> Option<u64> {
        match self.overlay.change(target)?.service? {
            Service::Draining { deadline_ms, .. } => deadline_ms,
            Service::Disabled { .. } => None,
        }
    }
}

fn is_draining(overlay: &Overlay, target: &Target) -> bool {
    let service = overlay.change(target).and_then(|change| change.service);
    matches!(service, Some(Service::Draining { .. }))
}
