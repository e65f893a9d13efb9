//! What the read commands show of the balancer.

use std::collections::BTreeMap;

use lb_core::Reason;
use lb_core::host::config::Admin;
use lb_core::host::overlay::Target;
use lb_core::select::{PickRequest, pick, pick_kind};
use lb_core::table::{ConnKey, selection};
use serde::Serialize;

use super::{Balancer, address};
use crate::core::net::FlowKey;
use crate::core::view;
use lb_core::serving_vip;

/// A flow to a VIP, as `explain` tells it.
pub struct Explained {
    /// Lines that say what happens to it, and why.
    pub why: Vec<String>,
    /// The backend's MAC, if it is known which one.
    pub backend: Option<openflow::MacAddr>,
}

impl Balancer {
    /// Who serves what, who is in rotation, and how many connections there are.
    #[must_use]
    pub fn view(&self) -> view::Balancing {
        let mut of_backend: BTreeMap<u16, usize> = BTreeMap::new();
        for connection in self.connections() {
            *of_backend.entry(connection.value.backend).or_default() += 1;
        }
        let open = self.open_connections();
        let vip = |(id, vip): (&u16, &lb_core::host::plan::VipPlan)| {
            let theirs = self.plan().backends.iter().filter(|(_, backend)| backend.vip == *id);
            let traffic = self.model().vip_traffic(*id);
            view::BalancedVip {
                name: vip.name.clone(),
                key: vip.key.to_string(),
                address: vip.key.address,
                ports: vip.key.ports.to_string(),
                protocol: vip.key.protocol.to_string(),
                mac: vip.mac.to_string(),
                mode: vip.mode.word().to_owned(),
                selection: word(&vip.selection),
                opened: traffic.opened,
                dropped: traffic.dropped,
                backends: theirs
                    .map(|(id, backend)| view::BalancedBackend {
                        name: backend.name.clone(),
                        address: backend.key.address,
                        port: backend.translate_port,
                        state: backend.state.to_string(),
                        admin: admin_word(backend.admin).to_owned(),
                        drains_until_ms: self.drains_until_ms(&Target::of_plan(backend)),
                        weight: backend.weight,
                        mac: backend.neighbour.map(|neighbour| neighbour.mac.to_string()),
                        place: backend
                            .neighbour
                            .and_then(|neighbour| self.place(neighbour.interface))
                            .map(|place| place.to_string()),
                        connections: of_backend.get(id).copied().unwrap_or_default(),
                        open: open.as_ref().map(|open| open.get(id).copied().unwrap_or_default()),
                        opened: self.model().backend_traffic(*id).opened,
                    })
                    .collect(),
            }
        };
        let counted = |reason: &&Reason| self.model().reason(**reason) > 0;
        let reasons = Reason::ALL.iter().filter(counted);
        view::Balancing {
            entries: self.entries().word().to_owned(),
            connections: self.model().connection_count(),
            pinned: self.pins.connections(),
            capacity: usize::try_from(self.config().connections.table_size).unwrap_or(usize::MAX),
            flow_entries: self.pins.len(),
            packets: reasons.map(|reason| (reason.name().to_owned(), self.model().reason(*reason))).collect(),
            vips: self.plan().vips.iter().map(vip).collect(),
        }
    }

    /// What would become of a flow to a VIP; nothing is changed. `None` if no VIP serves it.
    #[must_use]
    pub fn explain(&self, flow: &FlowKey) -> Option<Explained> {
        let ip = flow.ip?;
        let ((client_port, port), protocol) = (ip.ports?, ip.protocol?);
        let id = serving_vip(self.model(), address(ip.dst), port.to_be(), protocol);
        let vip = self.plan().vips.get(&id)?;
        let key = ConnKey::new(address(ip.src), client_port.to_be(), id, port.to_be(), protocol);
        let mut why = Vec::new();
        let chosen = if let Some(value) = self.model().connection(&key) {
            let entries = match self.pins.of(&key).len() {
                0 => "its entries have ended, and come back with its next packet".to_owned(),
                count => format!("{count} flow entries"),
            };
            why.push(format!("balancing: for VIP {}; the connection is known: {entries}", vip.name));
            Some(value.backend)
        } else {
            let how = word(&vip.selection);
            let names: Vec<&str> = vip
                .rotation
                .members
                .iter()
                .filter_map(|member| self.plan().backends.get(&member.id))
                .map(|backend| backend.name.as_str())
                .collect();
            why.push(format!(
                "balancing: for VIP {}; a new connection, chosen by {how} among {}",
                vip.name,
                if names.is_empty() { "nobody: none is in rotation".to_owned() } else { names.join(", ") }
            ));
            self.foreseen(&key)
        };
        let backend = chosen.and_then(|id| self.plan().backends.get(&id));
        if let Some(backend) = backend {
            let port = backend.translate_port.map(|port| format!(", port {port}")).unwrap_or_default();
            why.push(format!("balancing: to backend {} ({}{port})", backend.name, backend.state));
        }
        let mac = backend.and_then(|backend| backend.neighbour);
        Some(Explained { why, backend: mac.map(|neighbour| openflow::MacAddr(neighbour.mac.0)) })
    }

    /// The backend of a new connection, where neither chance nor turn decides.
    fn foreseen(&self, key: &ConnKey) -> Option<u16> {
        let record = self.model().vips.get(&key.vip())?;
        let by_hash = [selection::MAGLEV, selection::SOURCE_HASH, selection::FLOW_HASH];
        if !by_hash.contains(&record.selection) || record.affinity != 0 {
            return None;
        }
        let (method, kind) = (u32::from(record.selection), pick_kind::CHECKED);
        let choice = pick(self.model(), &PickRequest { key: *key, method, kind });
        (choice.id != 0).then_some(choice.id)
    }
}

/// What the administrator says, as the interface spells it.
const fn admin_word(admin: Admin) -> &'static str {
    match admin {
        Admin::Enabled => "enabled",
        Admin::Draining => "draining",
        Admin::Leaving => "leaving",
        Admin::Disabled => "disabled",
    }
}

/// The word for a value, as in the file.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
