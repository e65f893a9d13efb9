//! The balancer's tables as plain maps, so that the core runs on the host: tests, fuzzing, `explain`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::ledger::Ledger;
use crate::reason::Reason;
use crate::table::{
    Address, BITMAP_BITS, BITMAP_WORDS, BackendRecord, ConnEntry, ConnKey, ConnValue, GlobalCounter,
    PortRecord, SelectTable, ServiceKey, ServiceRecord, Settings, Tables, TestInputs, Ticks, TrafficCounter,
    VipRecord, VipTarget,
};

/// What the core asked its tables, and was told: the way to a decision, for those who want to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A random number.
    Random,
    /// The next round-robin ticket of a VIP, and which it was.
    Ticket(u16, u32),
    /// What a VIP service key stands for.
    Target(ServiceKey, VipTarget),
    /// The VIPs that a backend service answers for, and whether there are any.
    Service(ServiceKey, bool),
    /// A backend's record, by id.
    Backend(u16),
    /// A connection, as it was then.
    Conn(ConnKey, Option<ConnValue>),
    /// To make a connection, and whether it was made.
    Insert(ConnKey, ConnValue, bool),
    /// A VIP's selection table.
    Selection(u16),
    /// To count for a VIP.
    CountVip(u16),
    /// To count for a backend.
    CountBackend(u16),
}

/// All tables of one data plane.
#[derive(Debug, Default)]
pub struct Model {
    /// Clock and random number.
    pub inputs: Cell<TestInputs>,
    /// Settings.
    pub settings: Settings,
    /// VIPs by id.
    pub vips: BTreeMap<u16, VipRecord>,
    /// VIPs by backend service.
    pub services: BTreeMap<ServiceKey, ServiceRecord>,
    /// Backends by id.
    pub backends: BTreeMap<u16, BackendRecord>,
    /// Selection tables by VIP.
    pub selections: BTreeMap<u16, Box<SelectTable>>,
    /// Ports by slot.
    pub ports: BTreeMap<u16, PortRecord>,
    vip_targets: BTreeMap<ServiceKey, VipTarget>,
    bitmap: Vec<u64>,
    tickets: RefCell<BTreeMap<u16, u32>>,
    conn_index: RefCell<BTreeMap<ConnKey, usize>>,
    conn_entries: Vec<ConnEntry>,
    counters: Counters,
    /// What was asked, where somebody wants to know.
    asked: Option<RefCell<Vec<Asked>>>,
}

/// All counters of a data plane, summed over its processors.
#[derive(Debug, Default)]
struct Counters {
    global: Cell<GlobalCounter>,
    reasons: RefCell<BTreeMap<Reason, u64>>,
    vips: RefCell<BTreeMap<u16, TrafficCounter>>,
    backends: RefCell<BTreeMap<u16, TrafficCounter>>,
}

impl Model {
    /// Empty tables with room for so many connections; further ones are refused.
    pub fn new(settings: Settings, connections: usize) -> Self {
        let mut conn_entries = Vec::new();
        conn_entries.resize_with(connections, ConnEntry::default);
        Self { settings, bitmap: vec![0; BITMAP_WORDS], conn_entries, ..Self::default() }
    }

    /// Lets a VIP, or a list of port ranges, serve a key, and marks its address as ours.
    pub fn serve(&mut self, key: ServiceKey, target: VipTarget) {
        self.vip_targets.insert(key, target);
        self.mark(0, key.address);
    }

    /// Stores a backend, and marks its address as ours.
    pub fn put_backend(&mut self, id: u16, record: BackendRecord) {
        self.backends.insert(id, record);
        self.mark(BITMAP_BITS as usize / 64, record.address);
    }

    fn mark(&mut self, first_word: usize, address: Address) {
        let bit = address.bitmap_bit() as usize;
        if let Some(word) = self.bitmap.get_mut(first_word + bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    /// Takes both "is it ours?" bitmaps as they are in a data plane, in the place of the marks made here.
    pub fn set_bitmap(&mut self, words: Vec<u64>) {
        self.bitmap = words;
    }

    /// Sets the next round-robin ticket of a VIP.
    pub fn set_ticket(&mut self, vip: u16, ticket: u32) {
        self.tickets.borrow_mut().insert(vip, ticket);
    }

    /// Remembers from now on what the core asks.
    pub fn remember_questions(&mut self) {
        self.asked = Some(RefCell::default());
    }

    /// What the core asked since the last call, in order.
    pub fn take_questions(&self) -> Vec<Asked> {
        self.asked.as_ref().map(RefCell::take).unwrap_or_default()
    }

    fn note(&self, asked: Asked) {
        if let Some(list) = &self.asked {
            list.borrow_mut().push(asked);
        }
    }

    /// All connections, in the order of their keys.
    pub fn connections(&self) -> Vec<(ConnKey, ConnValue)> {
        let index = self.conn_index.borrow();
        index.iter().filter_map(|(key, at)| Some((*key, self.conn_entries.get(*at)?.get()))).collect()
    }

    /// How often packets ended for a reason.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.counters.reasons.borrow().get(&reason).copied().unwrap_or(0)
    }

    /// The ledger.
    pub fn ledger(&self) -> Ledger {
        Ledger::sum(self.counters.global.get().received, |reason| self.reason(reason))
    }

    /// Counters beside the reasons.
    pub fn global(&self) -> GlobalCounter {
        self.counters.global.get()
    }

    /// A VIP's traffic.
    pub fn vip_traffic(&self, vip: u16) -> TrafficCounter {
        self.counters.vips.borrow().get(&vip).copied().unwrap_or_default()
    }

    /// A backend's traffic.
    pub fn backend_traffic(&self, backend: u16) -> TrafficCounter {
        self.counters.backends.borrow().get(&backend).copied().unwrap_or_default()
    }
}

impl Tables for Model {
    fn now(&self) -> Ticks {
        self.inputs.get().now
    }

    fn random(&self) -> u32 {
        self.note(Asked::Random);
        self.inputs.get().random
    }

    fn ticket(&self, vip: u16) -> u32 {
        let mut tickets = self.tickets.borrow_mut();
        let ticket = tickets.entry(vip).or_default();
        let now = *ticket;
        *ticket = now.wrapping_add(1);
        self.note(Asked::Ticket(vip, now));
        now
    }

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn bitmap(&self, word: u32) -> u64 {
        self.bitmap.get(word as usize).copied().unwrap_or(0)
    }

    fn vip_target(&self, key: &ServiceKey) -> VipTarget {
        let target = self.vip_targets.get(key).copied().unwrap_or_default();
        self.note(Asked::Target(*key, target));
        target
    }

    fn vip(&self, id: u16) -> Option<&VipRecord> {
        self.vips.get(&id)
    }

    fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord> {
        self.note(Asked::Service(*key, self.services.contains_key(key)));
        self.services.get(key)
    }

    fn backend(&self, id: u16) -> Option<&BackendRecord> {
        self.note(Asked::Backend(id));
        self.backends.get(&id)
    }

    fn conn(&self, key: &ConnKey) -> Option<&ConnEntry> {
        let at = self.conn_index.borrow().get(key).copied();
        let entry = at.and_then(|at| self.conn_entries.get(at));
        self.note(Asked::Conn(*key, entry.map(ConnEntry::get)));
        entry
    }

    fn conn_insert(&self, key: &ConnKey, value: &ConnValue) -> bool {
        let mut index = self.conn_index.borrow_mut();
        let at = index.len();
        let made = match self.conn_entries.get(at) {
            Some(entry) if !index.contains_key(key) => {
                entry.set(value);
                index.insert(*key, at);
                true
            }
            _ => false,
        };
        self.note(Asked::Insert(*key, *value, made));
        made
    }

    fn selection(&self, vip: u16) -> Option<&SelectTable> {
        self.note(Asked::Selection(vip));
        self.selections.get(&vip).map(|table| &**table)
    }

    fn port(&self, slot: u16) -> Option<&PortRecord> {
        self.ports.get(&slot)
    }

    fn slot_of(&self, ifindex: u32) -> u16 {
        self.ports.iter().find(|(_, port)| port.ifindex == ifindex).map_or(0, |(slot, _)| *slot)
    }

    fn count_received(&self) {
        let mut global = self.counters.global.get();
        global.received += 1;
        self.counters.global.set(global);
    }

    fn count_reason(&self, reason: Reason) {
        *self.counters.reasons.borrow_mut().entry(reason).or_default() += 1;
    }

    fn count_partial_checksum(&self) {
        let mut global = self.counters.global.get();
        global.partial_checksums += 1;
        self.counters.global.set(global);
    }

    fn count_vip(&self, vip: u16, change: impl FnOnce(&mut TrafficCounter)) {
        self.note(Asked::CountVip(vip));
        change(self.counters.vips.borrow_mut().entry(vip).or_default());
    }

    fn count_backend(&self, backend: u16, change: impl FnOnce(&mut TrafficCounter)) {
        self.note(Asked::CountBackend(backend));
        change(self.counters.backends.borrow_mut().entry(backend).or_default());
    }
}
