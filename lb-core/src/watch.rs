//! What the data plane tells those who watch it: connections as they are opened, and packets with their ends.
//!
//! The records lie in BPF ring buffers. Each kind is written only while somebody wants it, which is a lease: the slot
//! [`slot::EVENTS`] or [`slot::CAPTURE`] of the map WATCH holds the time, in nanoseconds of `CLOCK_MONOTONIC`, until
//! which it is wanted. So a watcher that died costs nothing for long.

use crate::table::{ConnKey, ConnValue};

/// Slots of the map WATCH.
pub mod slot {
    /// Until when [`super::EventRecord`]s are wanted.
    pub const EVENTS: u32 = 0;
    /// Until when [`super::CaptureRecord`]s are wanted.
    pub const CAPTURE: u32 = 1;
    /// How many slots there are.
    pub const COUNT: usize = 2;
}

/// Bytes of the ring buffer of events, a power of two: 3,600 events.
pub const EVENT_RING_BYTES: usize = 1 << 18;
/// Bytes of the ring buffer of packets, a power of two: 3,500 packets.
pub const CAPTURE_RING_BYTES: usize = 1 << 20;
/// Bytes of a packet that are kept, from its Ethernet header on.
pub const SNAP_BYTES: usize = 128;

/// The first bytes of a packet, in memory order; undefined behind its end. Words, so that they are copied as such.
pub type Snap = [u64; SNAP_BYTES / 8];

/// A connection that was opened.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRecord {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The connection.
    pub key: ConnKey,
    /// Its entry as it was made.
    pub value: ConnValue,
    /// Zero.
    pub reserved: u64,
}

/// A packet that ended.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CaptureRecord {
    /// When it came in, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The interface that it came in on.
    pub ifindex: u32,
    /// Its bytes then.
    pub before_bytes: u32,
    /// Its bytes when it left; 0 unless it was rewritten.
    pub after_bytes: u32,
    /// Index of the reason that it ended with.
    pub reason: u32,
    /// Its first bytes when it came in, in memory order.
    pub before: Snap,
    /// Its first bytes when it left; undefined unless it was rewritten.
    pub after: Snap,
}

/// What a processor remembers between the beginning and the end of a packet, and what it could not tell. Slot 0 of the
/// map WATCH_STATE.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchState {
    /// Events that found no room.
    pub lost_events: u64,
    /// Packets that found no room.
    pub lost_packets: u64,
    /// When the packet came in.
    pub time_ns: u64,
    /// Its bytes then; 0 where there is none.
    pub before_bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// Its first bytes.
    pub before: Snap,
}

const _: () = {
    assert!(size_of::<EventRecord>() == 64);
    assert!(size_of::<CaptureRecord>() == 24 + 2 * SNAP_BYTES);
    assert!(size_of::<WatchState>() == 32 + SNAP_BYTES);
};
