//! Orders about backends, carried out.

use anyhow::Result;
use lb_core::host::config::{Admin, Config};
use lb_core::host::health::Command;
use lb_core::host::overlay::{Order, Target, Whom};

use crate::control::{Administered, Ordered};
use crate::dataplane::Pass;
use crate::io::sys;

use super::Daemon;

impl Daemon {
    /// Carries out an order about backends. The inner error is a refusal, and nothing has changed; the outer one is a
    /// failure at work. Returns also when the prober wants to be woken.
    pub(super) fn order_backend(
        &mut self,
        whom: Whom<'_>,
        order: &Order,
    ) -> Result<Result<(Ordered, Option<u64>), String>> {
        let (overlay, targets) = match self.admin.ordered(whom, order) {
            Ok(ordered) => ordered,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let config = overlay.apply(&self.admin.file);
        if let Err(refusal) = self.may_take(&config) {
            return Ok(Err(refusal));
        }
        self.admin.keep(overlay)?;
        let wake_at = self.take(&config)?;
        let backends: Vec<Administered> =
            targets.iter().filter_map(|target| self.administered(target)).collect();
        for backend in &backends {
            let Administered { name, vip, state, admin, weight, .. } = backend;
            tracing::info!("backend {name} of VIP {vip}: {admin} by order, now {state}, weight {weight}");
        }
        Ok(Ok((Ordered { backends }, wake_at)))
    }

    /// Whether there are ids for a configuration.
    pub(super) fn may_take(&self, config: &Config) -> Result<(), String> {
        self.ids.clone().assign(config).map_err(|error| error.to_string())
    }

    /// Makes a configuration, that of the file with the administrator's changes, the one in force. Backends that are
    /// not in it any more keep their connections.
    pub(super) fn take(&mut self, config: &Config) -> Result<Option<u64>> {
        self.admin.leave(&self.config, config);
        self.config = self.admin.in_force();
        self.in_force()
    }

    /// Brings prober and tables to the configuration in force.
    fn in_force(&mut self) -> Result<Option<u64>> {
        let health = lb_core::host::health::Settings::new(&self.config.health, sys::clock_realtime());
        let commands = self.prober.configure(health, &self.config.stations(), sys::clock_monotonic());
        self.configure_checks()?;
        self.replan()?;
        self.admin.changed_ns = sys::clock_monotonic();
        Ok(commands.iter().find_map(|command| match command {
            Command::NextWakeAt(at) => Some(*at),
            _ => None,
        }))
    }

    /// A drain's deadline is over.
    pub(super) fn deadline_over(&mut self) -> Result<Option<u64>> {
        if !self.admin.expire()? {
            return Ok(None);
        }
        self.config = self.admin.in_force();
        self.in_force()
    }

    /// A pass over the connection table is done: progress of drains, backends that have left, ids that no entry
    /// carries any more and that are free again.
    pub(super) fn swept(&mut self, pass: &Pass) -> Result<Option<u64>> {
        if !self.attaches() || self.hand.is_some() {
            // The connections are somebody else's.
            return Ok(None);
        }
        if pass.started_ns > self.planned_ns && self.ids.any_resting() {
            self.ids.release_unused(&pass.vips, &pass.backends);
        }
        if !self.admin.counted(pass, &self.plan.backends) {
            return Ok(None);
        }
        self.config = self.admin.in_force();
        self.in_force()
    }

    /// A backend as it is now.
    fn administered(&self, target: &Target) -> Option<Administered> {
        let backend = self.plan.backends.values().find(|backend| Target::of_plan(backend) == *target)?;
        let vip = self.plan.vips.get(&backend.vip)?;
        Some(Administered {
            vip: vip.name.clone(),
            name: backend.name.clone(),
            address: target.address,
            port: backend.translate_port,
            weight: backend.weight,
            state: backend.state.to_string(),
            admin: admin_word(backend.admin).to_owned(),
            drain: self.admin.drain(target),
        })
    }
}

/// What the administrator says, as the API spells it.
pub(super) fn admin_word(admin: Admin) -> &'static str {
    match admin {
        Admin::Enabled => "enabled",
        Admin::Draining => "draining",
        Admin::Leaving => "leaving",
        Admin::Disabled => "disabled",
    }
}
