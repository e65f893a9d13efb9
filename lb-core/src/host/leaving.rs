//! Backends that were taken from their VIPs, and stay in the tables until their connections have ended.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::config::{Admin, BackendConfig, Config};
use super::overlay::Target;
use super::plan::BackendPlan;

/// Those that are leaving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Each with its VIP as the VIP's key is written.
    backends: Vec<(String, BackendConfig)>,
}

impl Leaving {
    /// Whether nobody is leaving.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// `config` with those that are leaving, where it has their VIPs and does not have them.
    #[must_use]
    pub fn apply(&self, mut config: Config) -> Config {
        let addresses: BTreeSet<IpAddr> = config.vips.iter().map(|vip| vip.address).collect();
        for (key, backend) in &self.backends {
            let Some(vip) = config.vips.iter_mut().find(|vip| vip.key().to_string() == *key) else {
                continue;
            };
            let target = Target::new(vip, backend);
            let there = vip.backends.iter().any(|other| Target::new(vip, other) == target);
            if !there && !addresses.contains(&backend.address) {
                vip.backends.push(BackendConfig { admin: Admin::Leaving, ..backend.clone() });
            }
        }
        config
    }

    /// Adds those that leave when `now` gives way to `next`.
    pub fn leave(&mut self, now: &Config, next: &Config) {
        for vip in &now.vips {
            let key = vip.key();
            let Some(after) = next.vips.iter().find(|other| other.key() == key) else { continue };
            for backend in &vip.backends {
                let target = Target::new(vip, backend);
                let known =
                    self.backends.iter().any(|(k, b)| *k == target.vip && Target::new(vip, b) == target);
                if !known && !after.backends.iter().any(|other| Target::new(after, other) == target) {
                    self.backends.push((target.vip, backend.clone()));
                }
            }
        }
        self.settle(next);
    }

    /// Adds those that an earlier process served, and that `config`, in force with those that are leaving, may not have
    /// any more; each with its VIP as the VIP's key is written.
    pub fn add(&mut self, found: impl IntoIterator<Item = (String, BackendConfig)>, config: &Config) {
        self.backends.extend(found);
        self.settle(config);
    }

    /// Forgets those that came back, or whose VIP went.
    fn settle(&mut self, config: &Config) {
        self.backends.retain(|(key, backend)| {
            let vip = config.vips.iter().find(|vip| vip.key().to_string() == *key);
            vip.is_some_and(|vip| {
                let target = Target::new(vip, backend);
                let mut others = vip.backends.iter().filter(|other| other.admin != Admin::Leaving);
                !others.any(|other| Target::new(vip, other) == target)
            })
        });
    }

    /// Lets go of those that no connection carries: `carried` are the ids of the backends that connections name. A line for
    /// each that has left.
    pub fn let_go(&mut self, plan: &BTreeMap<u16, BackendPlan>, carried: &BTreeSet<u16>) -> Vec<String> {
        let mut lines = Vec::new();
        self.backends.retain(|(vip, gone)| {
            let same = |b: &&BackendPlan| {
                let target = Target::of_plan(b);
                target.vip == *vip
                    && b.admin == Admin::Leaving
                    && (target.address, target.mac) == (gone.address, gone.mac)
                    && gone.port.is_none_or(|port| port == target.port)
            };
            let id = plan.values().find(same).map(|backend| backend.id.id);
            let stays = id.is_some_and(|id| carried.contains(&id));
            if !stays {
                lines.push(format!("backend {} of VIP {vip} has left: no connection carries it", gone.name));
            }
            stays
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ids::Ids;
    use crate::host::overlay::{Order, Overlay, Whom};
    use crate::host::plan::{HealthView, Plan};

    const TWO: &str = "[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\nbackend = [{ address = \"10.0.0.1\" }, \
                       { address = \"10.0.0.2\" }]\n";

    fn in_force(overlay: &Overlay, leaving: &Leaving, file: &Config) -> Vec<(IpAddr, Admin)> {
        let config = leaving.apply(overlay.apply(file));
        config.vips[0].backends.iter().map(|backend| (backend.address, backend.admin)).collect()
    }

    #[test]
    fn a_removed_backend_stays_while_connections_carry_it_and_can_come_back() {
        let file = Config::from_toml(TWO, "f").unwrap();
        let whom = Whom { backend: "10.0.0.1", vip: None };
        let before = Overlay::default();
        let (removed, _) = before.ordered(&file, whom, &Order::Remove, 1).unwrap();
        let mut leaving = Leaving::default();
        leaving.leave(&before.apply(&file), &removed.apply(&file));
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(in_force(&removed, &leaving, &file), [(two, Admin::Enabled), (one, Admin::Leaving)]);

        // It comes back by another order: it does not leave any more.
        let add = Order::Add { name: None, weight: 1 };
        let (back, _) = removed.ordered(&file, whom, &add, 2).unwrap();
        let mut returned = leaving.clone();
        returned.leave(&leaving.apply(removed.apply(&file)), &back.apply(&file));
        assert!(returned.is_empty());

        let config = leaving.apply(removed.apply(&file));
        let plan = Plan::from_config(&config, &mut Ids::default(), &HealthView::new(), None).unwrap();
        let id = plan.backends.values().find(|backend| backend.key.address == one).unwrap().id.id;
        assert_eq!(leaving.let_go(&plan.backends, &BTreeSet::from([id])), Vec::<String>::new());
        let lines = leaving.let_go(&plan.backends, &BTreeSet::new());
        assert_eq!(lines, ["backend 10.0.0.1 of VIP 10.0.1.1:80/tcp has left: no connection carries it"]);
        assert_eq!(in_force(&removed, &leaving, &file), [(two, Admin::Enabled)]);
    }
}
