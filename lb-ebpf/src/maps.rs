//! The tables as BPF maps. Names, types and sizes are a contract with the daemon: see
//! [`lb_core::table::SCHEMA_VERSION`].

use core::arch::asm;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::btf_map;
use lb_core::Reason;
use lb_core::reason::REASON_SLOTS;
use lb_core::table::{
    BITMAP_WORDS, BackendRecord, BackendSlot, ConnEntry, ConnKey, ConnValue, GlobalCounter, MAX_BACKENDS,
    MAX_PORT_LISTS, MAX_PORTS, MAX_VIPS, PortList, PortRecord, SERVICE_SLOTS, SelectTable, ServiceKey,
    ServiceRecord, Settings, Tables, TestInputs, Ticks, TrafficCounter, VipRecord, VipSlot, VipTarget,
    ticks_from_ns,
};

use crate::watch;

/// Where the program's switches between real and fixed inputs are; set by tests before loading.
#[unsafe(no_mangle)]
static FIXED_INPUTS: u32 = 0;

/// Connections when the daemon does not say otherwise.
const CONNECTIONS: usize = 1 << 16;
/// Prefixes in the lists of clients.
const MAX_PREFIXES: usize = 8192;
/// VIP services and backend services.
const SERVICES: usize = 8192;

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static TEST_INPUTS: Array<TestInputs, 1> = Array::new();
#[btf_map]
static BITMAP: Array<u64, BITMAP_WORDS> = Array::new();
#[btf_map]
static VIP_IDS: HashMap<ServiceKey, VipTarget, SERVICES> = HashMap::new();
#[btf_map]
static VIP_SLOTS: Array<VipSlot, SERVICE_SLOTS> = Array::new();
#[btf_map]
static VIPS: Array<VipRecord, MAX_VIPS> = Array::new();
/// Ranges of ports, by number.
#[btf_map]
static PORT_LISTS: Array<PortList, MAX_PORT_LISTS> = Array::new();
/// VIP prefixes, each with the number of its list.
#[btf_map]
static PREFIXES: LpmTrie<[u8; 16], u32, MAX_VIPS> = LpmTrie::new();
/// The lists of clients: the VIP's id in front of the address, and a constant of [`lb_core::table::verdict`].
#[btf_map]
static ACL: LpmTrie<[u8; 20], u32, MAX_PREFIXES> = LpmTrie::new();
#[btf_map]
static SERVICES_OF: HashMap<ServiceKey, ServiceRecord, SERVICES> = HashMap::new();
#[btf_map]
static BACKEND_SLOTS: Array<BackendSlot, SERVICE_SLOTS> = Array::new();
#[btf_map]
static BACKENDS: Array<BackendRecord, MAX_BACKENDS> = Array::new();
#[btf_map]
static SELECTION: ArrayOfMaps<Array<SelectTable, 1>, MAX_VIPS> = ArrayOfMaps::new();
#[btf_map]
static TICKETS: Array<u64, MAX_VIPS> = Array::new();
/// Open connections of each backend: counted by the daemon, kept by the programs meanwhile.
#[btf_map]
static LOADS: Array<u64, MAX_BACKENDS> = Array::new();
#[btf_map]
static CONNS: LruHashMap<ConnKey, ConnValue, CONNECTIONS> = LruHashMap::new();
#[btf_map]
static PORTS: Array<PortRecord, MAX_PORTS> = Array::new();
#[btf_map]
static PORT_SLOTS: HashMap<u32, u32, MAX_PORTS> = HashMap::new();
/// Where to redirect to, by port slot.
#[btf_map]
pub static DEVICES: DevMap<MAX_PORTS> = DevMap::new();
#[btf_map]
static GLOBALS: PerCpuArray<GlobalCounter, 1> = PerCpuArray::new();
#[btf_map]
static REASONS: PerCpuArray<u64, { REASON_SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static VIP_TRAFFIC: PerCpuArray<TrafficCounter, MAX_VIPS> = PerCpuArray::new();
#[btf_map]
static BACKEND_TRAFFIC: PerCpuArray<TrafficCounter, MAX_BACKENDS> = PerCpuArray::new();

/// The maps of this object.
pub struct BpfTables;

impl BpfTables {
    /// Clock and random number of a test; `None` in service, where the verifier removes the look-up: the
    /// constant is read-only when the program is checked.
    #[inline(always)]
    fn fixed(&self) -> Option<&'static TestInputs> {
        // SAFETY: a static of this program; volatile, since the loader may have changed it.
        if unsafe { (&raw const FIXED_INPUTS).read_volatile() } == 0 { None } else { TEST_INPUTS.get(0) }
    }
}

impl Tables for BpfTables {
    #[inline(always)]
    fn now(&self) -> Ticks {
        match self.fixed() {
            Some(inputs) => inputs.now,
            // SAFETY: a helper without arguments.
            None => ticks_from_ns(unsafe { bpf_ktime_get_coarse_ns() }),
        }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        match self.fixed() {
            Some(inputs) => inputs.random,
            // SAFETY: a helper without arguments.
            None => unsafe { bpf_get_prandom_u32() },
        }
    }

    #[inline(always)]
    fn ticket(&self, vip: u16) -> u32 {
        match TICKETS.get_ptr_mut(vip as u32) {
            // SAFETY: a slot of an array map is aligned to 8 bytes, lives as long as the program, and is only
            // touched atomically.
            Some(p) => (unsafe { fetch_add(p, 1) }) as u32,
            None => 0,
        }
    }

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        SETTINGS.get(0)
    }

    #[inline(always)]
    fn bitmap(&self, word: u32) -> u64 {
        BITMAP.get(word).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn vip_target(&self, key: &ServiceKey) -> VipTarget {
        match VIP_SLOTS.get(key.slot()) {
            Some(slot) if slot.key == *key => slot.target,
            // SAFETY: one word, read once; an entry that is reused meanwhile gives another VIP's id, whose MAC
            // and service are checked by the core.
            Some(slot) if slot.more != 0 => unsafe { VIP_IDS.get(key) }.copied().unwrap_or_default(),
            _ => VipTarget::default(),
        }
    }

    #[inline(always)]
    fn vip(&self, id: u16) -> Option<&VipRecord> {
        VIPS.get(id as u32)
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord> {
        match BACKEND_SLOTS.get(key.slot()) {
            Some(slot) if slot.key == *key => Some(&slot.record),
            // SAFETY: plain integers; the core confirms each by the connection it leads to.
            Some(slot) if slot.more != 0 => unsafe { SERVICES_OF.get(key) },
            _ => None,
        }
    }

    #[inline(always)]
    fn backend(&self, id: u16) -> Option<&BackendRecord> {
        BACKENDS.get(id as u32)
    }

    #[inline(always)]
    fn conn(&self, key: &ConnKey) -> Option<&ConnEntry> {
        // SAFETY: ConnEntry has the layout of ConnValue (sizes asserted in lb-core) and only cells inside.
        // Slots of a preallocated LRU map stay mapped for the program's life; when one is reused under us,
        // the fields are still plain integers, and the backend's generation is checked.
        CONNS.get_ptr_mut(key).map(|p| unsafe { &*p.cast::<ConnEntry>() })
    }

    #[inline(always)]
    fn conn_insert(&self, key: &ConnKey, value: &ConnValue) -> bool {
        CONNS.insert(key, value, BPF_NOEXIST as u64).is_ok()
    }

    #[inline(always)]
    fn tell_opened(&self, key: &ConnKey, value: &ConnValue) {
        watch::opened(key, value);
    }

    #[inline(always)]
    fn selection(&self, vip: u16) -> Option<&SelectTable> {
        // On the stack: as a constant it would be merged with FIXED_INPUTS, and be changed by tests with it.
        let first = 0;
        SELECTION.get_value(vip as u32, &first)
    }

    #[inline(always)]
    fn port(&self, slot: u16) -> Option<&PortRecord> {
        PORTS.get(slot as u32)
    }

    #[inline(always)]
    fn slot_of(&self, ifindex: u32) -> u16 {
        // SAFETY: one word, read once.
        unsafe { PORT_SLOTS.get(ifindex) }.map_or(0, |slot| *slot as u16)
    }

    #[inline(always)]
    fn count_received(&self) {
        count(GLOBALS.get_ptr_mut(0), |c| c.received += 1);
    }

    #[inline(always)]
    fn count_reason(&self, reason: Reason) {
        count(REASONS.get_ptr_mut(reason.index()), |c| *c += 1);
    }

    #[inline(always)]
    fn count_partial_checksum(&self) {
        count(GLOBALS.get_ptr_mut(0), |c| c.partial_checksums += 1);
    }

    #[inline(always)]
    fn count_vip(&self, vip: u16, change: impl FnOnce(&mut TrafficCounter)) {
        count(VIP_TRAFFIC.get_ptr_mut(vip as u32), change);
    }

    #[inline(always)]
    fn count_backend(&self, backend: u16, change: impl FnOnce(&mut TrafficCounter)) {
        count(BACKEND_TRAFFIC.get_ptr_mut(backend as u32), change);
    }
}

/// Adds to a word that all processors share, and returns what it was.
///
/// `core::sync::atomic` offers no read-modify-write for this target, the instruction set (v3) does.
///
/// # Safety
/// `word` must be valid and aligned, and touched by atomic instructions only.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, mut value: u64) -> u64 {
    // SAFETY: one instruction on a valid word, by the contract above.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    }
    value
}

/// Changes this processor's slot of a counter map.
#[inline(always)]
fn count<T>(slot: Option<*mut T>, change: impl FnOnce(&mut T)) {
    if let Some(p) = slot {
        // SAFETY: a slot of a per-CPU array belongs to this processor while the program runs on it.
        change(unsafe { &mut *p });
    }
}
