//! The side of the core on the host.

use std::collections::BTreeSet;

use lb_core::model::Model;
use lb_core::packet::HostPacket;
use lb_core::table::{Address, BackendRecord, ServiceKey, Settings, TestInputs, VipTarget};
use lb_core::{Egress, Outcome, Reason, process_all};

use crate::scenario::Scenario;
use crate::side::{Action, Snapshot, Verdict};
use crate::tables::{Records, add_traffic, connection};

/// The core with its tables as plain maps.
#[derive(Debug)]
pub struct HostModel {
    model: Model,
    served: Vec<ServiceKey>,
    /// VIPs and backends that may have been counted.
    counted: (BTreeSet<u16>, BTreeSet<u16>),
}

impl HostModel {
    /// A data plane of this scenario without connections.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let model = Model::new(Settings::default(), scenario.connections as usize);
        let mut side = Self { model, served: Vec::new(), counted: Default::default() };
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
        self.counted.0.extend(records.vips.keys());
        self.counted.1.extend(records.backends.keys());
        self.model.settings = records.settings;
        self.model.vips = records.vips;
        self.model.services = records.services;
        self.model.backends.clear();
        for (id, record) in records.backends {
            self.model.put_backend(id, record);
        }
        self.model.selections = records.selections;
        self.model.ports = records.ports;
        for stray in &scenario.stray_bits {
            let address = Address::from_v4(*stray);
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
        out.connections = self.model.connections().iter().map(|(k, v)| connection(k, v)).collect();
        out.connections.sort();
        out
    }
}
