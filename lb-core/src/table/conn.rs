//! Connections, and time.

use core::cell::Cell;

use super::Address;

/// Key of the connection table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnKey {
    /// The client's address.
    pub client: Address,
    /// The rest of the flow, see [`ConnKey::new`].
    pub flow: u64,
}

impl ConnKey {
    /// The flow of a client (port in network byte order) to a VIP (its id, and the port of the VIP's side in
    /// network byte order).
    #[inline(always)]
    pub const fn new(client: Address, client_port: u16, vip: u16, vip_port: u16, protocol: u8) -> Self {
        let flow =
            client_port as u64 | (vip_port as u64) << 16 | (vip as u64) << 32 | (protocol as u64) << 48;
        Self { client, flow }
    }

    /// The client's port, network byte order.
    pub const fn client_port(&self) -> u16 {
        self.flow as u16
    }

    /// The port on the VIP's side, network byte order.
    pub const fn vip_port(&self) -> u16 {
        (self.flow >> 16) as u16
    }

    /// The VIP's id.
    pub const fn vip(&self) -> u16 {
        (self.flow >> 32) as u16
    }

    /// The IP protocol number.
    pub const fn protocol(&self) -> u8 {
        (self.flow >> 48) as u8
    }
}

/// Value of the connection table.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnValue {
    /// The backend's id.
    pub backend: u16,
    /// The backend record's generation when this entry was made: a reused record never gets an old flow.
    pub generation: u16,
    /// A constant of [`crate::conn::state`].
    pub state: u8,
    /// [`crate::conn`] flags.
    pub flags: u8,
    /// The port slot that the client's last packet came in on; 0 when unknown.
    pub client_slot: u16,
    /// When the last packet of either side was seen.
    pub last_seen: Ticks,
    /// The sequence number that the client's next byte will carry.
    pub client_next: u32,
    /// The sequence number that the backend's next byte will carry.
    pub backend_next: u32,
    /// The source port that full NAT lent to this connection, network byte order; else 0.
    pub snat_port: u16,
    /// Zero.
    pub reserved: u16,
}

/// An entry of the connection table where it lies: fields are changed in place, by the packets of both
/// directions, on several processors. Torn combinations are harmless: every field is valid by itself.
#[repr(C, align(8))]
#[derive(Debug, Default)]
pub struct ConnEntry {
    /// See [`ConnValue::backend`].
    pub backend: Cell<u16>,
    /// See [`ConnValue::generation`].
    pub generation: Cell<u16>,
    /// See [`ConnValue::state`].
    pub state: Cell<u8>,
    /// See [`ConnValue::flags`].
    pub flags: Cell<u8>,
    /// See [`ConnValue::client_slot`].
    pub client_slot: Cell<u16>,
    /// See [`ConnValue::last_seen`].
    pub last_seen: Cell<Ticks>,
    /// See [`ConnValue::client_next`].
    pub client_next: Cell<u32>,
    /// See [`ConnValue::backend_next`].
    pub backend_next: Cell<u32>,
    /// See [`ConnValue::snat_port`].
    pub snat_port: Cell<u16>,
    /// See [`ConnValue::reserved`].
    pub reserved: Cell<u16>,
}

impl ConnEntry {
    /// Overwrites the whole entry.
    #[inline(always)]
    pub fn set(&self, v: &ConnValue) {
        self.backend.set(v.backend);
        self.generation.set(v.generation);
        self.state.set(v.state);
        self.flags.set(v.flags);
        self.client_slot.set(v.client_slot);
        self.last_seen.set(v.last_seen);
        self.client_next.set(v.client_next);
        self.backend_next.set(v.backend_next);
        self.snat_port.set(v.snat_port);
        self.reserved.set(v.reserved);
    }

    /// A copy of the whole entry.
    pub fn get(&self) -> ConnValue {
        ConnValue {
            backend: self.backend.get(),
            generation: self.generation.get(),
            state: self.state.get(),
            flags: self.flags.get(),
            client_slot: self.client_slot.get(),
            last_seen: self.last_seen.get(),
            client_next: self.client_next.get(),
            backend_next: self.backend_next.get(),
            snat_port: self.snat_port.get(),
            reserved: self.reserved.get(),
        }
    }
}

/// Coarse monotonic time in units of 2^20 ns (1.048576 ms), from any zero. Wraps after 52 days; compare by
/// [`ticks_since`].
pub type Ticks = u32;

/// Nanoseconds of `CLOCK_MONOTONIC` as [`Ticks`].
#[inline(always)]
pub const fn ticks_from_ns(ns: u64) -> Ticks {
    (ns >> 20) as u32
}

/// How much finer than a tick the length of a jiffy is given, in bits.
pub const JIFFY_SHIFT: u32 = 16;

/// The kernel's jiffies as [`Ticks`]; `ticks_per_jiffy` in units of 2^-[`JIFFY_SHIFT`]. They count like `CLOCK_MONOTONIC`, from
/// another zero, and a clock that is corrected goes otherwise: never compare them with [`ticks_from_ns`].
#[inline(always)]
pub const fn ticks_from_jiffies(jiffies: u64, ticks_per_jiffy: u32) -> Ticks {
    (jiffies.wrapping_mul(ticks_per_jiffy as u64) >> JIFFY_SHIFT) as u32
}

/// Milliseconds as [`Ticks`], rounded up.
pub const fn ticks_from_ms(ms: u64) -> Ticks {
    (ms * 1_000_000).div_ceil(1 << 20) as u32
}

/// [`Ticks`] as milliseconds, rounded down.
pub const fn ms_from_ticks(ticks: Ticks) -> u64 {
    ((ticks as u64) << 20) / 1_000_000
}

/// How long ago `then` was; 0 where another processor's clock is ahead.
#[inline(always)]
pub const fn ticks_since(now: Ticks, then: Ticks) -> Ticks {
    let age = now.wrapping_sub(then);
    if age > u32::MAX - 1024 { 0 } else { age }
}
