//! The balancer's tables as plain maps, so that the core runs on the host: tests, fuzzing, `explain`.

mod upkeep;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::ledger::Ledger;
use crate::reason::Reason;
use crate::table::{
    AclKey, Address, AffinityValue, AskerValue, BITMAP_BITS, BITMAP_WORDS, BackendRecord, ClientKey,
    ConnEntry, ConnKey, ConnValue, FragmentKey, FragmentValue, GlobalCounter, Leftover, PortList, PortRecord,
    PrefixKey, RateValue, SelectTable, ServiceKey, ServiceRecord, Settings, SnatValue, Tables, TestInputs,
    Ticks, TrafficCounter, VipRecord, VipTarget,
};

/// Fragmented packets that are remembered at most.
const MOST_FRAGMENTS: usize = 65_536;

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
    /// Lists of port ranges by number.
    pub port_lists: BTreeMap<u16, PortList>,
    /// VIP prefixes: the number of their list.
    pub prefixes: BTreeMap<PrefixKey, u16>,
    /// Allow and deny lists.
    pub acl: BTreeMap<AclKey, u32>,
    /// Live connections by backend.
    pub loads: RefCell<BTreeMap<u16, i64>>,
    established: Connections,
    half_open: Connections,
    snat_index: RefCell<BTreeMap<ConnKey, usize>>,
    snat_entries: Vec<Cell<SnatValue>>,
    affinity: RefCell<BTreeMap<ClientKey, AffinityValue>>,
    sources: RefCell<BTreeMap<ClientKey, RateValue>>,
    opened: Cell<RateValue>,
    fragments: RefCell<BTreeMap<FragmentKey, FragmentValue>>,
    askers: RefCell<BTreeMap<ClientKey, AskerValue>>,
    leftover: Cell<Leftover>,
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
    /// Empty tables with room for so many connections of either kind; further ones are refused.
    pub fn new(settings: Settings, connections: usize) -> Self {
        Self {
            settings,
            bitmap: vec![0; BITMAP_WORDS],
            established: Connections::new(connections),
            half_open: Connections::new(connections),
            snat_entries: vec![Cell::default(); connections],
            ..Self::default()
        }
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

    /// The next round-robin ticket of a VIP.
    #[must_use]
    pub fn next_ticket(&self, vip: u16) -> u32 {
        self.tickets.borrow().get(&vip).copied().unwrap_or_default()
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

    /// All established connections, in the order of their keys.
    pub fn connections(&self) -> Vec<(ConnKey, ConnValue)> {
        self.established.all()
    }

    /// All half-open connections, in the order of their keys.
    pub fn half_open_connections(&self) -> Vec<(ConnKey, ConnValue)> {
        self.half_open.all()
    }

    /// All lent ports, in the order of their keys.
    pub fn snats(&self) -> Vec<(ConnKey, SnatValue)> {
        let index = self.snat_index.borrow();
        index.iter().filter_map(|(key, at)| Some((*key, self.snat_entries.get(*at)?.get()))).collect()
    }

    /// Makes an established connection, as it was found in another data plane.
    pub fn put_connection(&self, key: &ConnKey, value: &ConnValue) -> bool {
        self.established.insert(key, value)
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

/// Whether two addresses agree in their first `bits`.
fn same_prefix(a: &[u8; 16], b: &[u8; 16], bits: u32) -> bool {
    let (a, b) = (u128::from_be_bytes(*a), u128::from_be_bytes(*b));
    (a ^ b).checked_shr(128 - bits.min(128)).unwrap_or(0) == 0
}

/// A connection table of a fixed size, whose entries stay where they are.
#[derive(Debug, Default)]
struct Connections {
    index: RefCell<BTreeMap<ConnKey, usize>>,
    free: RefCell<Vec<usize>>,
    entries: Vec<ConnEntry>,
}

impl Connections {
    fn new(size: usize) -> Self {
        let mut entries = Vec::new();
        entries.resize_with(size, ConnEntry::default);
        Self { index: RefCell::default(), free: RefCell::new((0..size).rev().collect()), entries }
    }

    fn all(&self) -> Vec<(ConnKey, ConnValue)> {
        let index = self.index.borrow();
        index.iter().filter_map(|(key, at)| Some((*key, self.entries.get(*at)?.get()))).collect()
    }

    fn get(&self, key: &ConnKey) -> Option<&ConnEntry> {
        let at = *self.index.borrow().get(key)?;
        self.entries.get(at)
    }

    fn insert(&self, key: &ConnKey, value: &ConnValue) -> bool {
        let mut index = self.index.borrow_mut();
        if index.contains_key(key) {
            return false;
        }
        let Some(at) = self.free.borrow_mut().pop() else { return false };
        if let Some(entry) = self.entries.get(at) {
            entry.set(value);
        }
        index.insert(*key, at);
        true
    }

    fn remove(&self, key: &ConnKey) {
        if let Some(at) = self.index.borrow_mut().remove(key) {
            self.free.borrow_mut().push(at);
        }
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
        let entry = self.established.get(key);
        self.note(Asked::Conn(*key, entry.map(ConnEntry::get)));
        entry
    }

    fn conn_insert(&self, key: &ConnKey, value: &ConnValue) -> bool {
        self.established.insert(key, value)
    }

    fn half_open(&self, key: &ConnKey) -> Option<&ConnEntry> {
        let entry = self.half_open.get(key);
        self.note(Asked::Conn(*key, entry.map(ConnEntry::get)));
        entry
    }

    fn half_open_insert(&self, key: &ConnKey, value: &ConnValue) -> bool {
        let made = self.half_open.insert(key, value);
        self.note(Asked::Insert(*key, *value, made));
        made
    }

    fn half_open_remove(&self, key: &ConnKey) {
        self.half_open.remove(key);
    }

    fn snat(&self, key: &ConnKey) -> Option<SnatValue> {
        let at = *self.snat_index.borrow().get(key)?;
        self.snat_entries.get(at).map(Cell::get)
    }

    /// Nothing is evicted here: one table holds those of half-open and of established connections.
    fn snat_insert(&self, key: &ConnKey, value: &SnatValue, _half_open: bool, replace: bool) -> bool {
        let mut index = self.snat_index.borrow_mut();
        let at = index.get(key).copied();
        if at.is_some() && !replace {
            return false;
        }
        let at = at.unwrap_or(index.len());
        let Some(entry) = self.snat_entries.get(at) else { return false };
        entry.set(*value);
        index.insert(*key, at);
        true
    }

    /// What is forgotten in one table is stored in the other.
    fn snat_remove(&self, _key: &ConnKey, _half_open: bool) {}

    fn affinity(&self, key: &ClientKey) -> Option<AffinityValue> {
        self.affinity.borrow().get(key).copied()
    }

    fn affinity_set(&self, key: &ClientKey, value: &AffinityValue) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn acl(&self, key: &AclKey) -> u32 {
        let matching = self.acl.iter().filter(|(prefix, _)| {
            let bits = prefix.length.saturating_sub(32);
            prefix.vip == key.vip && same_prefix(&prefix.address.octets(), &key.address.octets(), bits)
        });
        matching.max_by_key(|(prefix, _)| prefix.length).map_or(0, |(_, verdict)| *verdict)
    }

    fn source_opened(&self, key: &ClientKey, window: u32) -> u32 {
        let mut sources = self.sources.borrow_mut();
        let rate = sources.entry(*key).or_default();
        if rate.window != window {
            *rate = RateValue { window, opened: 0 };
        }
        rate.opened += 1;
        rate.opened
    }

    fn opened(&self, window: u32) -> u32 {
        let rate = self.opened.get();
        if rate.window == window { rate.opened } else { 0 }
    }

    fn count_opened(&self, window: u32) {
        let opened = self.opened(window) + 1;
        self.opened.set(RateValue { window, opened });
    }

    fn load(&self, backend: u16) -> u32 {
        let load = self.loads.borrow().get(&backend).copied().unwrap_or(0);
        u32::try_from(load.max(0)).unwrap_or(u32::MAX)
    }

    fn load_add(&self, backend: u16, change: i64) {
        *self.loads.borrow_mut().entry(backend).or_default() += change;
    }

    fn prefix(&self, address: Address) -> u16 {
        let matching =
            self.prefixes.iter().filter(|(p, _)| same_prefix(&p.address, &address.octets(), p.length));
        matching.max_by_key(|(prefix, _)| prefix.length).map_or(0, |(_, list)| *list)
    }

    fn port_list(&self, number: u16) -> Option<&PortList> {
        self.port_lists.get(&number)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        self.fragments.borrow().get(key).copied()
    }

    fn fragment_set(&self, key: &FragmentKey, value: &FragmentValue) {
        let mut fragments = self.fragments.borrow_mut();
        // Between two sweeps there may be a flood.
        if fragments.len() >= MOST_FRAGMENTS && !fragments.contains_key(key) {
            fragments.clear();
        }
        fragments.insert(*key, *value);
    }

    fn asker(&self, key: &ClientKey) -> Option<AskerValue> {
        self.askers.borrow().get(key).copied()
    }

    fn asker_set(&self, key: &ClientKey, value: &AskerValue) {
        self.askers.borrow_mut().insert(*key, *value);
    }

    fn leave(&self, leftover: Leftover) {
        self.leftover.set(leftover);
    }

    fn left(&self) -> Leftover {
        self.leftover.get()
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
