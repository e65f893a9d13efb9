//! Programs that measure the balancer, apart from its object: the wrapper that lays a fresh frame before it, and the floors
//! that its costs are compared with.
//!
//! BPF_PROG_TEST_RUN repeats a program on what the last run left of the frame. So it runs `bench_wrapper`, which lays the
//! frame of the next flow there and tail-calls the program under test. The same with `bench_empty` is what this costs.
#![no_std]
#![no_main]

mod layout;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{Array, DevMap, HashMap, LruHashMap, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

use self::layout::{BODY_HALVES, ETHERNET_BYTES, FRAME_BYTES, TARGET, Template};

/// Words of 8 bytes behind the Ethernet header.
const BODY_WORDS: usize = (FRAME_BYTES - ETHERNET_BYTES) / 8;
/// Entries of the tables whose look-ups are the floors: as many as the connection table has.
const FLOOR_ENTRIES: usize = 1 << 17;

/// Counters of a VIP or backend: as many words as the balancer's.
const COUNTER_WORDS: usize = 7;
/// Entries of the table whose insertions are a floor.
const NEW_ENTRIES: usize = 1 << 14;

/// An outer IPv4 header.
const GROWTH_BYTES: i32 = 20;

#[btf_map]
static TEMPLATE: Array<Template, 1> = Array::new();
/// The program under test.
#[btf_map]
static TARGETS: ProgramArray<1> = ProgramArray::new();
/// Keys and values are as large as those of the connection table.
#[btf_map]
static FLOOR_HASH: HashMap<[u64; 3], [u64; 3], FLOOR_ENTRIES> = HashMap::new();
#[btf_map]
static FLOOR_LRU: LruHashMap<[u64; 3], [u64; 3], FLOOR_ENTRIES> = LruHashMap::new();
/// As many as there are slots for half-open connections.
#[btf_map]
static FLOOR_NEW: LruHashMap<[u64; 3], [u64; 3], NEW_ENTRIES> = LruHashMap::new();
/// Where the floor of redirecting sends to.
#[btf_map]
static FLOOR_DEVICES: DevMap<2> = DevMap::new();
/// Counters like those of packets received and of reasons.
#[btf_map]
static FLOOR_COUNTS: PerCpuArray<u64, 64> = PerCpuArray::new();
/// Counters like those of VIPs and backends.
#[btf_map]
static FLOOR_TRAFFIC: PerCpuArray<[u64; COUNTER_WORDS], 8192> = PerCpuArray::new();

/// Lays the next frame before the program under test.
#[xdp(frags)]
pub fn bench_wrapper(ctx: XdpContext) -> u32 {
    let Some(template) = TEMPLATE.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: a slot of an array map: aligned, and nobody else's while a measurement runs.
    let template = unsafe { &mut *template };
    let length = (ctx.data_end() - ctx.data()) as i32;
    if length != FRAME_BYTES as i32 {
        // What the last run put in front, or took off.
        // SAFETY: the context is the one the kernel called the program with; the bounds are read anew.
        unsafe { bpf_xdp_adjust_head(ctx.ctx, length - FRAME_BYTES as i32) };
    }
    if lay(&ctx, template).is_none() {
        return XDP_ABORTED;
    }
    prepare(template);
    // SAFETY: nothing here needs to be dropped.
    unsafe { TARGETS.tail_call(&ctx, TARGET) };
    XDP_ABORTED
}

#[inline(always)]
fn lay(ctx: &XdpContext, template: &Template) -> Option<()> {
    let start = ctx.data();
    if start + FRAME_BYTES > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds were just checked; the stores need no alignment.
    unsafe {
        (start as *mut u64).write_unaligned(template.head);
        ((start + 8) as *mut u32).write_unaligned(template.head_rest as u32);
        ((start + 12) as *mut u16).write_unaligned((template.head_rest >> 32) as u16);
        let words = template.body.as_ptr().cast::<u64>();
        for i in 0..BODY_WORDS {
            ((start + ETHERNET_BYTES + 8 * i) as *mut u64).write_unaligned(*words.add(i));
        }
    }
    Some(())
}

/// Makes the frame of the next flow: now, since what is stored in halves and loaded as words at once is slow.
#[inline(always)]
fn prepare(template: &mut Template) {
    template.flow = template.after(template.flow);
    let patch = template.patch(template.flow);
    put(template, template.address_at, patch.address);
    put(template, template.port_at, patch.port);
    put(template, template.ip_sum_at, patch.ip_sum);
    put(template, template.l4_sum_at, patch.l4_sum);
}

#[inline(always)]
fn put(template: &mut Template, at: u32, value: u16) {
    template.body[at as usize & (BODY_HALVES - 1)] = value.to_be();
}

/// Nothing: the cost of the wrapper and of the kernel's loop.
#[xdp(frags)]
pub fn bench_empty(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Puts so much in front of the frame as IPIP does, and nothing else: the wrapper has to take it off again.
#[xdp(frags)]
pub fn bench_grow(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the one the kernel called the program with, and nothing is read afterwards.
    match unsafe { bpf_xdp_adjust_head(ctx.ctx, -GROWTH_BYTES) } {
        0 => XDP_PASS,
        _ => XDP_ABORTED,
    }
}

/// One look-up of an IPv4 packet's flow in a hash table, nothing checked.
#[xdp(frags)]
pub fn bench_hash(ctx: XdpContext) -> u32 {
    let Some(key) = key(&ctx) else { return XDP_ABORTED };
    // SAFETY: plain integers.
    verdict(unsafe { FLOOR_HASH.get(key) })
}

/// One look-up of an IPv4 packet's flow in an LRU hash table, nothing checked.
#[xdp(frags)]
pub fn bench_lru(ctx: XdpContext) -> u32 {
    let Some(key) = key(&ctx) else { return XDP_ABORTED };
    // SAFETY: plain integers.
    verdict(unsafe { FLOOR_LRU.get(key) })
}

/// What a new flow costs at least in two LRU tables: a look-up in each that finds nothing, and an insertion, which takes the
/// place of another entry.
#[xdp(frags)]
pub fn bench_new(ctx: XdpContext) -> u32 {
    let Some(key) = key(&ctx) else { return XDP_ABORTED };
    // No flow of the full table has this.
    let other = [key[0], key[1], key[2] | 1 << 63];
    // SAFETY: plain integers.
    let known = unsafe { FLOOR_LRU.get(other).is_some() || FLOOR_NEW.get(key).is_some() };
    if known || FLOOR_NEW.insert(key, [1, 0, 0], 0).is_err() { XDP_DROP } else { XDP_PASS }
}

/// One redirect to a device, which the kernel's loop does not carry out.
#[xdp(frags)]
pub fn bench_redirect(ctx: XdpContext) -> u32 {
    let Some(key) = key(&ctx) else { return XDP_ABORTED };
    // The slot is not known when the program is compiled, as with the balancer.
    let slot = 1 | (key[0] as u32);
    match FLOOR_DEVICES.redirect(slot, 0) {
        Ok(_) => XDP_PASS,
        Err(_) => XDP_DROP,
    }
}

/// The counters of a forwarded packet: received, its reason, packets and bytes of its VIP and of its backend.
#[xdp(frags)]
pub fn bench_counters(ctx: XdpContext) -> u32 {
    let Some(key) = key(&ctx) else { return XDP_ABORTED };
    let bytes = (ctx.data_end() - ctx.data()) as u64;
    // Which ones is not known when the program is compiled.
    let (reason, vip, backend) = ((key[2] as u32 & 1) + 1, (key[2] as u32 & 3) + 1, (key[2] as u32 & 7) + 8);
    let count = |index| {
        let Some(count) = FLOOR_COUNTS.get_ptr_mut(index) else { return false };
        // SAFETY: a slot of this processor's; the programs of this hook do not interrupt each other.
        unsafe { *count += 1 };
        true
    };
    let traffic = |index| {
        let Some(words) = FLOOR_TRAFFIC.get_ptr_mut(index) else { return false };
        // SAFETY: likewise.
        unsafe {
            (*words)[0] += 1;
            (*words)[1] += bytes;
        }
        true
    };
    if count(0) && count(reason) && traffic(vip) && traffic(backend) { XDP_PASS } else { XDP_DROP }
}

#[inline(always)]
fn verdict(value: Option<&[u64; 3]>) -> u32 {
    if value.is_some_and(|value| value[0] != 0) { XDP_PASS } else { XDP_DROP }
}

/// Source address and ports, as the balancer's keys hold them.
#[inline(always)]
fn key(ctx: &XdpContext) -> Option<[u64; 3]> {
    const SOURCE_AT: usize = 26;
    const PORTS_AT: usize = 34;
    let start = ctx.data();
    if start + PORTS_AT + 4 > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds were just checked; the loads need no alignment.
    let (source, ports) = unsafe {
        (
            ((start + SOURCE_AT) as *const u32).read_unaligned(),
            ((start + PORTS_AT) as *const u32).read_unaligned(),
        )
    };
    Some([0, 0xffff_0000 | (source as u64) << 32, ports as u64])
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
