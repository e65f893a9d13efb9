//! The ring buffers of those who watch.

use std::marker::PhantomData;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use lb_core::watch::{CaptureRecord, EventRecord, WatchState, slot};
use tokio::io::unix::AsyncFd;

use super::Pins;
use super::pod::Raw;
use crate::io::bpf::Plain;
use crate::io::sys;

/// How long records are wanted after the last [`Ring::renew`].
const LEASE_NS: u64 = 3_000_000_000;

/// A kind of record, and where it lies.
pub trait Record: Plain {
    /// The ring buffer's map.
    const MAP: &'static str;
    /// The slot that says until when such records are wanted.
    const SLOT: u32;

    /// Records that found no room, of one processor.
    fn lost(state: &WatchState) -> u64;
}

impl Record for EventRecord {
    const MAP: &'static str = "EVENTS";
    const SLOT: u32 = slot::EVENTS;

    fn lost(state: &WatchState) -> u64 {
        state.lost_events
    }
}

impl Record for CaptureRecord {
    const MAP: &'static str = "CAPTURE";
    const SLOT: u32 = slot::CAPTURE;

    fn lost(state: &WatchState) -> u64 {
        state.lost_packets
    }
}

/// Reads records while they are wanted, which they are no more when this is dropped. One at a time: two readers would
/// take each other's records.
pub struct Ring<T: Record> {
    ring: AsyncFd<RingBuf<MapData>>,
    watch: Map,
    state: Map,
    lost_before: u64,
    kind: PhantomData<T>,
}

impl<T: Record> Ring<T> {
    /// Opens the ring under `pins` and throws away what an earlier reader left in it. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// A map is not there or may not be opened.
    pub fn open(pins: &Pins) -> Result<Self> {
        let pinned = |name: &str| {
            MapData::from_pin(pins.map(name)).with_context(|| format!("cannot open the map {name}"))
        };
        let ring =
            RingBuf::try_from(Map::RingBuf(pinned(T::MAP)?)).with_context(|| format!("map {}", T::MAP))?;
        // SAFETY: the ring buffer owns its descriptor, which stays open and the same as long as it lives.
        let ring = unsafe { AsyncFd::register(ring) }
            .map_err(|error| error.into_parts().1)
            .with_context(|| format!("cannot wait for the map {}", T::MAP))?;
        let (watch, state) = (Map::Array(pinned("WATCH")?), Map::PerCpuArray(pinned("WATCH_STATE")?));
        let mut this = Self { ring, watch, state, lost_before: 0, kind: PhantomData };
        while this.ring.get_mut().next().is_some() {}
        this.lost_before = this.lost_ever()?;
        Ok(this)
    }

    /// Wants records for the next seconds: to be called each second.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn renew(&mut self) -> Result<()> {
        self.want_until(sys::clock_coarse() + LEASE_NS)
    }

    fn want_until(&mut self, time_ns: u64) -> Result<()> {
        let mut watch: Array<&mut MapData, u64> = (&mut self.watch).try_into().context("map WATCH")?;
        watch.set(T::SLOT, time_ns, 0).context("cannot say that records are wanted")
    }

    /// The next record that is there already.
    pub fn take(&mut self) -> Option<T> {
        loop {
            let item = self.ring.get_mut().next()?;
            if item.len() >= size_of::<T>() {
                // SAFETY: as many bytes are there as T has; the read needs no alignment, and any bytes are a valid T.
                return Some(unsafe { item.as_ptr().cast::<T>().read_unaligned() });
            }
        }
    }

    /// Waits until there may be records. Cancelling loses nothing.
    ///
    /// # Errors
    /// The descriptor cannot be waited for.
    pub async fn ready(&mut self) -> std::io::Result<()> {
        let mut ready = self.ring.readable().await?;
        // The caller takes all there are; what comes later wakes up again.
        ready.clear_ready();
        Ok(())
    }

    /// Records that found no room since the ring was opened.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn lost(&self) -> Result<u64> {
        Ok(self.lost_ever()?.saturating_sub(self.lost_before))
    }

    fn lost_ever(&self) -> Result<u64> {
        let state: PerCpuArray<&MapData, Raw<WatchState>> =
            (&self.state).try_into().context("map WATCH_STATE")?;
        let all = state.get(&0, 0).context("cannot read what was lost")?;
        Ok(all.iter().map(|one| T::lost(&one.0)).sum())
    }
}

impl<T: Record> Drop for Ring<T> {
    fn drop(&mut self) {
        // Should it fail, the lease ends by itself.
        self.want_until(0).ok();
    }
}

impl<T: Record> std::fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("map", &T::MAP).field("fd", &self.ring.get_ref().as_raw_fd()).finish()
    }
}
