//! The side of the core on the host.

use std::collections::{BTreeMap, BTreeSet};

use lb_core::model::Model;
use lb_core::packet::HostPacket;
use lb_core::table::{BackendRecord, ServiceKey, Settings, TestInputs, VipTarget};
use lb_core::{Egress, Outcome, Reason, process_all};

use crate::scenario::Scenario;
use crate::side::{Action, Snapshot, Verdict};
use crate::tables::{Records, add_traffic, address, connection, select_table};

/// The core with its tables as plain maps.
#[derive(Debug)]
pub struct HostModel {
    model: Model,
    served: Vec<ServiceKey>,
    /// VIPs and backends that may have been counted.
    counted: (BTreeSet<u16>, BTreeSet<u16>),
    loads: BTreeMap<u16, u32>,
    rings: BTreeMap<u16, Vec<u16>>,
}

impl HostModel {
    /// A data plane of this scenario without connections.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let model = Model::new(Settings::default(), scenario.connections as usize);
        let mut side = Self {
            model,
            served: Vec::new(),
            counted: Default::default(),
            loads: BTreeMap::new(),
            rings: BTreeMap::new(),
        };
        side.change(scenario);
        side
    }

    /// Makes the tables those of another scenario; connections and counters stay.
    pub fn change(&mut self, scenario: &Scenario) {
        let records = Records::of(scenario);
        for key in self.served.drain(..) {
            self.model.serve(key, VipTarget::default());
        }
        for (key, vip) in &records.vip_ids {
            self.model.serve(*key, *vip);
            self.served.push(*key);
        }
        // Id 0 stands for nobody, and must stay at zero.
        self.counted.0.extend(records.vips.keys().chain([&0]));
        self.counted.1.extend(records.backends.keys().chain([&0]));
        self.model.settings = records.settings;
        self.model.vips = records.vips;
        self.model.services = records.services;
        self.model.backends.clear();
        for (id, record) in records.backends {
            self.model.put_backend(id, record);
        }
        for (id, ring) in &records.rings {
            if self.rings.get(id) != Some(ring) {
                self.model.selections.insert(*id, select_table(ring));
            }
        }
        self.model.selections.retain(|id, _| records.rings.contains_key(id));
        self.rings = records.rings;
        self.model.ports = records.ports;
        self.model.port_lists = records.port_lists;
        self.model.prefixes = records.prefixes;
        self.model.acl = records.acl;
        for (id, load) in &records.loads {
            if self.loads.get(id) != Some(load) {
                self.model.loads.borrow_mut().insert(*id, i64::from(*load));
            }
        }
        self.loads = records.loads;
        for stray in &scenario.stray_bits {
            let address = address(*stray);
            self.model.serve(ServiceKey::of_address(address), VipTarget::default());
            self.model.put_backend(0, BackendRecord { address, ..BackendRecord::default() });
        }
        self.model.backends.remove(&0);
    }

    /// Sets the clock and the random number.
    pub fn inputs(&self, now: u32, random: u32) {
        self.model.inputs.set(TestInputs { now, random });
    }

    /// Processes a frame.
    #[must_use]
    pub fn run(&self, frame: &[u8], ifindex: u32) -> Verdict {
        let mut bytes = frame.to_vec();
        let (outcome, reason) = process_all(&mut HostPacket::new(&mut bytes, ifindex), &self.model);
        let action = match outcome {
            Outcome::Pass | Outcome::Forward(Egress::Switch) => Action::Pass,
            Outcome::Drop | Outcome::Next(_) => Action::Drop,
            Outcome::Forward(Egress::Transmit) => Action::Transmit,
            Outcome::Forward(Egress::Redirect(slot)) => Action::Redirect(slot),
        };
        Verdict { action, reason: reason.name(), bytes }
    }

    /// Received minus ended: zero, or the ledger is wrong.
    #[must_use]
    pub fn ledger_difference(&self) -> i64 {
        self.model.ledger().difference()
    }

    /// Counters and connections.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut out = Snapshot::default();
        let global = self.model.global();
        for (name, value) in [("received", global.received), ("partial_checksums", global.partial_checksums)]
        {
            if value != 0 {
                out.counters.insert(name.to_owned(), value);
            }
        }
        for reason in Reason::ALL {
            let count = self.model.reason(*reason);
            if count != 0 {
                out.counters.insert(format!("reason:{}", reason.name()), count);
            }
        }
        for id in &self.counted.0 {
            add_traffic(&mut out.counters, "vip", *id, &self.model.vip_traffic(*id));
        }
        for id in &self.counted.1 {
            add_traffic(&mut out.counters, "backend", *id, &self.model.backend_traffic(*id));
        }
        let established = self.model.connections();
        let half_open = self.model.half_open_connections();
        out.connections = established
            .iter()
            .map(|(k, v)| connection(k, v, false))
            .chain(half_open.iter().map(|(k, v)| connection(k, v, true)))
            .collect();
        out.loads =
            self.model.loads.borrow().iter().filter(|(_, n)| **n != 0).map(|(id, n)| (*id, *n)).collect();
        out.connections.sort();
        out
    }
}
