//! The tables as BPF maps. Names, types and sizes are a contract with the daemon: see
//! [`lb_core::table::SCHEMA_VERSION`].

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray,
};
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_map_lookup_elem,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::maps::lpm_trie::Key;
use lb_core::Reason;
use lb_core::decide::STAGE_SLOTS;
use lb_core::decide::lend::PortRequest;
use lb_core::reason::REASON_SLOTS;
use lb_core::select::PickRequest;
use lb_core::table::{
    AclKey, Address, AffinityValue, AskerValue, BITMAP_WORDS, BackendRecord, BackendSlot, ClientKey,
    ConnEntry, ConnKey, ConnValue, FragmentKey, FragmentValue, GlobalCounter, Leftover, MAX_BACKENDS,
    MAX_PORT_LISTS, MAX_PORTS, MAX_VIPS, PortList, PortRecord, RateValue, SERVICE_SLOTS, SelectTable,
    ServiceKey, ServiceRecord, Settings, SnatValue, Tables, TestInputs, Ticks, TrafficCounter, VipRecord,
    VipSlot, VipTarget, ticks_from_jiffies, ticks_from_ns,
};

use crate::watch;

/// Where the program's switches between real and fixed inputs are; set by tests before loading.
#[unsafe(no_mangle)]
static FIXED_INPUTS: u32 = 0;

/// The length of a jiffy in the units of [`ticks_from_jiffies`]; set by the loader. While it is 0, the time is asked for by a
/// call.
#[unsafe(no_mangle)]
static TICKS_PER_JIFFY: u32 = 0;

/// Connections when the daemon does not say otherwise.
const CONNECTIONS: usize = 1 << 16;
/// Entries of the tables beside the connections when the daemon does not say otherwise.
const SMALL: usize = 1 << 14;
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
static HALF_OPEN: LruHashMap<ConnKey, ConnValue, SMALL> = LruHashMap::new();
#[btf_map]
static SNATS: LruHashMap<ConnKey, SnatValue, SMALL> = LruHashMap::new();
/// The other halves of half-open connections.
#[btf_map]
static HALF_SNATS: LruHashMap<ConnKey, SnatValue, SMALL> = LruHashMap::new();
#[btf_map]
static AFFINITY: LruHashMap<ClientKey, AffinityValue, SMALL> = LruHashMap::new();
#[btf_map]
static SOURCES: LruHashMap<ClientKey, RateValue, SMALL> = LruHashMap::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue, SMALL> = LruHashMap::new();
#[btf_map]
static ASKERS: LruHashMap<ClientKey, AskerValue, 1024> = LruHashMap::new();
#[btf_map]
static ACL: LpmTrie<AclData, u32, SERVICES> = LpmTrie::new();
#[btf_map]
static PREFIXES: LpmTrie<[u64; 2], u32, MAX_VIPS> = LpmTrie::new();
#[btf_map]
static PORT_LISTS: Array<PortList, MAX_PORT_LISTS> = Array::new();
#[btf_map]
static OPENED: PerCpuArray<RateValue, 1> = PerCpuArray::new();
#[btf_map]
static SCRATCH: PerCpuArray<[u64; 32], 1> = PerCpuArray::new();
#[btf_map]
static LEFTOVER: PerCpuArray<Leftover, 1> = PerCpuArray::new();
/// The programs of the stages, of this version of the object.
#[btf_map]
pub static STAGES: ProgramArray<{ STAGE_SLOTS as usize }> = ProgramArray::new();
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

/// What the prefixes of the allow and deny lists are compared with; see [`AclKey`].
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct AclData {
    vip: u32,
    address: [u64; 2],
}

/// A key of the prefixes on the stack: packed, but with its address where the verifier wants it.
#[repr(C, align(8))]
struct AlignedKey {
    pad: u32,
    key: Key<[u64; 2]>,
}

/// The maps of this object. With `LENT`, keys lie in scratch memory while they are looked up, not on the stack: for programs
/// that need many of them.
pub struct BpfTables<const LENT: bool>;

impl<const LENT: bool> BpfTables<LENT> {
    /// The key where a look-up may find it.
    #[inline(always)]
    fn key<'k, K: Copy + 'static>(&self, key: &'k K) -> Option<&'k K> {
        if LENT { lend(16, *key) } else { Some(key) }
    }

    /// Clock and random number of a test; `None` in service, where the verifier removes the look-up: the
    /// constant is read-only when the program is checked.
    #[inline(always)]
    fn fixed(&self) -> Option<&'static TestInputs> {
        // SAFETY: a static of this program; volatile, since the loader may have changed it.
        if unsafe { (&raw const FIXED_INPUTS).read_volatile() } == 0 { None } else { TEST_INPUTS.get(0) }
    }
}

impl<const LENT: bool> Tables for BpfTables<LENT> {
    #[inline(always)]
    fn now(&self) -> Ticks {
        match self.fixed() {
            Some(inputs) => inputs.now,
            None => clock(),
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
        // SAFETY: the map's values are of this type.
        unsafe { first(&raw const SETTINGS).cast::<Settings>().as_ref() }
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
            Some(slot) if slot.more != 0 => {
                self.key(key).and_then(|key| unsafe { VIP_IDS.get(key) }).copied().unwrap_or_default()
            }
            _ => VipTarget::default(),
        }
    }

    #[inline(always)]
    fn vip_at_once(&self, key: &ServiceKey) -> u16 {
        match VIP_SLOTS.get(key.slot()) {
            Some(slot) if slot.key == *key => slot.target.vip(),
            _ => 0,
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
            Some(slot) if slot.more != 0 => self.key(key).and_then(|key| unsafe { SERVICES_OF.get(key) }),
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
        self.key(key).and_then(|key| CONNS.get_ptr_mut(key)).map(|p| unsafe { &*p.cast::<ConnEntry>() })
    }

    #[inline(always)]
    fn conn_insert(&self, key: &ConnKey, value: &ConnValue) -> bool {
        let (Some(key), Some(value)) = (self.key(key), lend(8, *value)) else { return false };
        CONNS.insert(key, value, BPF_NOEXIST as u64).is_ok()
    }

    #[inline(always)]
    fn tell_opened(&self, key: &ConnKey, value: &ConnValue) {
        watch::opened(key, value);
    }

    #[inline(always)]
    fn half_open(&self, key: &ConnKey) -> Option<&ConnEntry> {
        // SAFETY: as for `conn`.
        self.key(key).and_then(|key| HALF_OPEN.get_ptr_mut(key)).map(|p| unsafe { &*p.cast::<ConnEntry>() })
    }

    #[inline(always)]
    fn half_open_insert(&self, key: &ConnKey, value: &ConnValue) -> bool {
        let (Some(key), Some(value)) = (self.key(key), lend(8, *value)) else { return false };
        HALF_OPEN.insert(key, value, BPF_NOEXIST as u64).is_ok()
    }

    #[inline(always)]
    fn half_open_remove(&self, key: &ConnKey) {
        // Gone already: nothing to do.
        if let Some(key) = self.key(key) {
            let _ = HALF_OPEN.remove(key);
        }
    }

    #[inline(always)]
    fn snat(&self, key: &ConnKey) -> Option<SnatValue> {
        let key = lend(0, *key)?;
        // SAFETY: plain integers, copied at once; the core confirms them by the connection they lead to.
        unsafe { SNATS.get(key).or_else(|| HALF_SNATS.get(key)) }.copied()
    }

    #[inline(always)]
    fn snat_insert(&self, key: &ConnKey, value: &SnatValue, half_open: bool, replace: bool) -> bool {
        let flags = if replace { BPF_ANY } else { BPF_NOEXIST };
        let (Some(key), Some(value)) = (lend(0, *key), lend(8, *value)) else { return false };
        let table = if half_open { &HALF_SNATS } else { &SNATS };
        table.insert(key, value, flags as u64).is_ok()
    }

    #[inline(always)]
    fn snat_remove(&self, key: &ConnKey, half_open: bool) {
        let table = if half_open { &HALF_SNATS } else { &SNATS };
        // Not there: nothing to do.
        if let Some(key) = lend(0, *key) {
            let _ = table.remove(key);
        }
    }

    #[inline(always)]
    fn affinity(&self, key: &ClientKey) -> Option<AffinityValue> {
        // SAFETY: plain integers, copied at once; the core checks the backend's generation.
        lend(0, *key).and_then(|key| unsafe { AFFINITY.get(key) }).copied()
    }

    #[inline(always)]
    fn affinity_set(&self, key: &ClientKey, value: &AffinityValue) {
        // A full table evicts; an error leaves the client without affinity.
        if let (Some(key), Some(value)) = (lend(0, *key), lend(8, *value)) {
            let _ = AFFINITY.insert(key, value, BPF_ANY as u64);
        }
    }

    #[inline(always)]
    fn acl(&self, key: &AclKey) -> u32 {
        // SAFETY: the same fields in the same order, and no padding in either.
        let key = lend(0, *key).map(|key| unsafe { &*(&raw const *key).cast::<Key<AclData>>() });
        key.and_then(|key| ACL.get(key)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn source_opened(&self, key: &ClientKey, window: u32) -> u32 {
        let Some(key) = lend(0, *key) else { return 1 };
        if let Some(p) = SOURCES.get_ptr_mut(key) {
            // SAFETY: plain integers in a preallocated slot; two processors that count at once may lose one, which a
            // limit can bear.
            let rate = unsafe { &mut *p };
            if rate.window != window {
                *rate = RateValue { window, opened: 0 };
            }
            rate.opened += 1;
            return rate.opened;
        }
        // A full table evicts.
        if let Some(value) = lend(8, RateValue { window, opened: 1 }) {
            let _ = SOURCES.insert(key, value, BPF_ANY as u64);
        }
        1
    }

    #[inline(always)]
    fn opened(&self, window: u32) -> u32 {
        OPENED.get(0).map_or(0, |rate| if rate.window == window { rate.opened } else { 0 })
    }

    #[inline(always)]
    fn count_opened(&self, window: u32) {
        count(OPENED.get_ptr_mut(0), |rate| {
            if rate.window != window {
                *rate = RateValue { window, opened: 0 };
            }
            rate.opened += 1;
        });
    }

    #[inline(always)]
    fn load(&self, backend: u16) -> u32 {
        // A count that went below zero between two counts of the daemon is none.
        LOADS.get(backend as u32).map_or(0, |load| (*load as i64).clamp(0, u32::MAX as i64) as u32)
    }

    #[inline(always)]
    fn load_add(&self, backend: u16, change: i64) {
        if let Some(p) = LOADS.get_ptr_mut(backend as u32) {
            // SAFETY: a slot of an array map is aligned to 8 bytes, lives as long as the program, and is only
            // touched atomically.
            unsafe { fetch_add(p, change as u64) };
        }
    }

    #[inline(always)]
    fn prefix(&self, address: Address) -> u16 {
        let key = AlignedKey { pad: 0, key: Key::new(128, address.0) };
        PREFIXES.get(&key.key).map_or(0, |list| *list as u16)
    }

    #[inline(always)]
    fn port_list(&self, number: u16) -> Option<&PortList> {
        PORT_LISTS.get(number as u32)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        // SAFETY: plain integers, copied at once; the core checks the backend's generation.
        lend(0, *key).and_then(|key| unsafe { FRAGMENTS.get(key) }).copied()
    }

    #[inline(always)]
    fn fragment_set(&self, key: &FragmentKey, value: &FragmentValue) {
        // A full table evicts; an error loses the later parts, which are counted.
        if let (Some(key), Some(value)) = (lend(0, *key), lend(8, *value)) {
            let _ = FRAGMENTS.insert(key, value, BPF_ANY as u64);
        }
    }

    #[inline(always)]
    fn asker(&self, key: &ClientKey) -> Option<AskerValue> {
        // SAFETY: plain integers, copied at once.
        lend(0, *key).and_then(|key| unsafe { ASKERS.get(key) }).copied()
    }

    #[inline(always)]
    fn asker_set(&self, key: &ClientKey, value: &AskerValue) {
        // A full table evicts; the question is asked again.
        if let (Some(key), Some(value)) = (lend(0, *key), lend(8, *value)) {
            let _ = ASKERS.insert(key, value, BPF_ANY as u64);
        }
    }

    #[inline(always)]
    fn leave(&self, leftover: Leftover) {
        count(LEFTOVER.get_ptr_mut(0), |left| *left = leftover);
    }

    #[inline(always)]
    fn left(&self) -> Leftover {
        LEFTOVER.get(0).copied().unwrap_or_default()
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
    fn lend_port(&self, request: &PortRequest) -> u16 {
        if lend(24, *request).is_some() { lb_lend_port() as u16 } else { 0 }
    }

    #[inline(always)]
    fn pick(&self, request: &PickRequest) -> u32 {
        if lend(24, *request).is_some() { lb_pick() } else { 0 }
    }

    #[inline(always)]
    fn count_received(&self) {
        count(globals(), |c| c.received += 1);
    }

    #[inline(always)]
    fn count_reason(&self, reason: Reason) {
        count(REASONS.get_ptr_mut(reason.index()), |c| *c += 1);
    }

    #[inline(always)]
    fn count_partial_checksum(&self) {
        count(globals(), |c| c.partial_checksums += 1);
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

/// [`lb_core::decide::lend::lend_port`] of what was lent. A global function: the verifier looks at it once, not at every call
/// (Linux 5.6), which saves it most of its work.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_lend_port() -> u32 {
    let Some(p) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the only caller has just put a request there, which is plain integers; nobody else uses these words.
    let request = unsafe { &*p.cast::<u64>().add(24).cast::<PortRequest>() };
    lb_core::decide::lend::lend_port(&BpfTables::<true>, request) as u32
}

/// [`lb_core::select::pick_code`] of what was lent; a global function likewise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_pick() -> u32 {
    let Some(p) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the only caller has just put a request there, which is plain integers; nobody else uses these words.
    let request = unsafe { &*p.cast::<u64>().add(24).cast::<PickRequest>() };
    lb_core::select::pick_code(&BpfTables::<true>, request)
}

/// Puts a key or a value into this processor's scratch memory, from the word `at` on: the stack has no room for all of
/// them.
#[inline(always)]
fn lend<T: Copy>(at: usize, value: T) -> Option<&'static T> {
    const { assert!(size_of::<T>() <= 64 && align_of::<T>() <= 8) };
    let p = SCRATCH.get_ptr_mut(0)?.cast::<u64>();
    // SAFETY: `at` is 0, 8, 16 or 24 and a value has 8 words at most: the parts of the slot. It belongs to this processor while
    // the program runs on it, and nobody holds what was lent before.
    unsafe {
        let p = p.add(at).cast::<T>();
        p.write(value);
        Some(&*p)
    }
}

/// The time. Of jiffies, since they are a load from memory, which the verifier puts in place of the helper's call.
#[inline(always)]
fn clock() -> Ticks {
    // SAFETY: a static of this program; volatile, since the loader may have changed it; and helpers without arguments.
    unsafe {
        match (&raw const TICKS_PER_JIFFY).read_volatile() {
            0 => ticks_from_ns(bpf_ktime_get_coarse_ns()),
            ticks_per_jiffy => ticks_from_jiffies(bpf_jiffies64(), ticks_per_jiffy),
        }
    }
}

/// The index of the slot of maps that have one: in memory that never changes, so
/// that a look-up need not wait for the stack.
#[unsafe(no_mangle)]
static FIRST_SLOT: u32 = 0;

/// The slot of a map that has one; null where the verifier wants it asked.
#[inline(always)]
fn first<M>(map: *const M) -> *mut c_void {
    // SAFETY: a map of this object, and a key that lives as long as it.
    unsafe { bpf_map_lookup_elem(map.cast_mut().cast(), (&raw const FIRST_SLOT).cast()) }
}

/// This processor's counters beside the reasons.
#[inline(always)]
fn globals() -> Option<*mut GlobalCounter> {
    let p = first(&raw const GLOBALS).cast::<GlobalCounter>();
    if p.is_null() { None } else { Some(p) }
}

/// Changes this processor's slot of a counter map.
#[inline(always)]
fn count<T>(slot: Option<*mut T>, change: impl FnOnce(&mut T)) {
    if let Some(p) = slot {
        // SAFETY: a slot of a per-CPU array belongs to this processor while the program runs on it.
        change(unsafe { &mut *p });
    }
}
