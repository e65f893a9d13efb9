//! Telling those who watch. While nobody does, to find that out costs a load from an array map and a branch, once in
//! each program.

use core::arch::asm;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_core::table::{ConnKey, ConnValue};
use lb_core::watch::{
    CAPTURE_RING_BYTES, CaptureRecord, EVENT_RING_BYTES, EventRecord, SNAP_BYTES, WatchState, slot,
};
use lb_core::{Class, Reason};

/// Until when somebody watches.
#[btf_map]
static WATCH: Array<u64, { slot::COUNT }> = Array::new();
#[btf_map]
static WATCH_STATE: PerCpuArray<WatchState, 1> = PerCpuArray::new();
// Without their types: libbpf wants ring buffers to have values of no size.
#[btf_map]
static EVENTS: RingBuf<(), EVENT_RING_BYTES> = RingBuf::new();
#[btf_map]
static CAPTURE: RingBuf<(), CAPTURE_RING_BYTES> = RingBuf::new();

/// Until when a slot's watchers want to be told. Read where it is asked, and nowhere remembered: the verifier would look at
/// the program twice, with and without them.
pub struct Lease(&'static u64);

impl Lease {
    /// Of packets. There is one always; the verifier wants it asked.
    #[inline(always)]
    pub fn of_packets() -> Option<Self> {
        WATCH.get(slot::CAPTURE).map(Self)
    }

    /// Whether somebody wants to be told.
    #[inline(always)]
    pub fn is_wanted(&self) -> bool {
        // SAFETY: a word of a map, which outlives the program; and a helper without arguments.
        unsafe {
            let until = (&raw const *self.0).read_volatile();
            until != 0 && bpf_ktime_get_coarse_ns() < until
        }
    }
}

/// Copies the first bytes of a frame to `to`; its length, 0 if it cannot be read.
///
/// # Safety
/// `to` must be valid for [`SNAP_BYTES`].
#[inline(always)]
unsafe fn copy(ctx: &XdpContext, to: *mut u8) -> u32 {
    // SAFETY: the context is the one the kernel called the program with; the helper writes at most SNAP_BYTES.
    unsafe {
        let length = bpf_xdp_get_buff_len(ctx.ctx) as u32;
        if length == 0 {
            return 0;
        }
        let last = if length > SNAP_BYTES as u32 { SNAP_BYTES as u32 - 1 } else { length - 1 };
        // The mask changes nothing: it is the bound that every verifier can follow.
        let count = (unknown(last as u64) & (SNAP_BYTES as u64 - 1)) + 1;
        if bpf_xdp_load_bytes(ctx.ctx, 0, to.cast(), count as u32) == 0 { length } else { 0 }
    }
}

/// The same number, of which the compiler knows nothing: so it leaves a mask where it is.
#[inline(always)]
fn unknown(mut number: u64) -> u64 {
    // SAFETY: an instruction that changes nothing.
    unsafe { asm!("{number} = {number}", number = inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// A frame came in, and is wanted: remembers it as it is now.
#[inline(always)]
pub fn came_in(ctx: &XdpContext) {
    if let Some(state) = WATCH_STATE.get_ptr_mut(0) {
        // SAFETY: a slot of a per-CPU array belongs to this processor while its packet is worked on, tail calls included.
        unsafe {
            (*state).before = [0; SNAP_BYTES / 8];
            (*state).time_ns = bpf_ktime_get_ns();
            (*state).before_bytes = copy(ctx, (&raw mut (*state).before).cast());
        }
    }
}

/// A frame has ended, and is wanted.
#[inline(always)]
pub fn ended(ctx: &XdpContext, reason: Reason) {
    let rewritten = matches!(reason.class(), Class::Forwarded | Class::Answered);
    tell(ctx.ctx, reason.index(), rewritten);
}

/// Apart: it is rarely called, and from many places.
#[inline(never)]
fn tell(ctx: *mut xdp_md, reason: u32, rewritten: bool) {
    let ctx = XdpContext::new(ctx);
    let Some(state) = WATCH_STATE.get_ptr_mut(0) else { return };
    // SAFETY: as in `came_in`; the record is reserved memory of its own, written field by field and never read here.
    unsafe {
        if (*state).before_bytes == 0 {
            return;
        }
        let Some(mut entry) = CAPTURE.reserve_untyped::<CaptureRecord>(0) else {
            (*state).lost_packets += 1;
            (*state).before_bytes = 0;
            return;
        };
        let record: *mut CaptureRecord = entry.as_mut_ptr();
        (*record).time_ns = (*state).time_ns;
        (*record).ifindex = ctx.ingress_ifindex() as u32;
        (*record).before_bytes = (*state).before_bytes;
        (*record).reason = reason;
        (*record).before = (*state).before;
        (*record).after_bytes = if rewritten { copy(&ctx, (&raw mut (*record).after).cast()) } else { 0 };
        (*state).before_bytes = 0;
        entry.submit(0);
    }
}

/// A connection was opened.
#[inline(always)]
pub fn opened(key: &ConnKey, value: &ConnValue) {
    let Some(lease) = WATCH.get(slot::EVENTS).map(Lease) else { return };
    if !lease.is_wanted() {
        return;
    }
    let Some(mut entry) = EVENTS.reserve_untyped::<EventRecord>(0) else {
        if let Some(state) = WATCH_STATE.get_ptr_mut(0) {
            // SAFETY: as in `came_in`.
            unsafe { (*state).lost_events += 1 };
        }
        return;
    };
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    entry.write(EventRecord { time_ns, key: *key, value: *value, reserved: 0 });
    entry.submit(0);
}
