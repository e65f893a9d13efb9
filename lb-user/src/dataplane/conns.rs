//! The pinned connection tables, read in batches: the half-open connections, then the established ones. One that becomes
//! established meanwhile is met twice; in the other order it would be missed.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use aya::maps::MapData;
use lb_core::table::{ConnKey, ConnValue};

use super::Pins;
use crate::io::bpf::{self, BatchRead, Position};

/// Where to go on reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    in_established: bool,
    position: Position,
}

impl Place {
    /// Whether the first entries of a table come next.
    pub fn begins_a_table(self) -> bool {
        self.position == Position::default()
    }

    /// Whether half-open connections come next.
    pub fn is_half_open(self) -> bool {
        !self.in_established
    }
}

/// Entries that are read by one call: about a millisecond's work.
const BATCH: usize = 4096;

/// The connection tables, by their pins: any process that may see the pins can read them.
#[derive(Debug)]
pub struct ConnTable {
    /// The established connections.
    map: MapData,
    /// The half-open ones.
    half_open: MapData,
    keys: Vec<ConnKey>,
    values: Vec<ConnValue>,
}

impl ConnTable {
    /// Opens the table.
    ///
    /// # Errors
    /// There is no such pin, or no right to open it.
    pub fn open(pins: &Pins) -> Result<Self> {
        let map = MapData::from_pin(pins.map("CONNS")).context("cannot open the connection table")?;
        let half_open = MapData::from_pin(pins.map("HALF_OPEN"))
            .context("cannot open the table of half-open connections")?;
        Ok(Self { map, half_open, keys: vec![bpf::zeroed(); BATCH], values: vec![bpf::zeroed(); BATCH] })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// Reads the next entries from `from` on and hands them to `visit`; where to go on, `None` at the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(
        &mut self,
        from: Place,
        mut visit: impl FnMut(&ConnKey, &ConnValue),
    ) -> Result<Option<Place>> {
        let map = if from.in_established { &self.map } else { &self.half_open };
        let BatchRead { count, next } =
            bpf::lookup_batch(map.fd().as_fd(), from.position, &mut self.keys, &mut self.values)
                .context("cannot read the connection table")?;
        for (key, value) in self.keys.iter().zip(&self.values).take(count) {
            visit(key, value);
        }
        Ok(match next {
            Some(position) => Some(Place { position, ..from }),
            None if !from.in_established => {
                Some(Place { in_established: true, position: Position::default() })
            }
            None => None,
        })
    }

    /// Visits every entry. Takes a third of a second for a million: not for the daemon's own thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn for_each(&mut self, mut visit: impl FnMut(&ConnKey, &ConnValue)) -> Result<()> {
        let mut next = Some(Place::default());
        while let Some(place) = next {
            next = self.read(place, &mut visit)?;
        }
        Ok(())
    }

    /// Removes an entry if `is_dead` still says so of what it holds when it goes: one that a packet brought to life
    /// meanwhile is put back. Whether it was removed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_if(&self, key: &ConnKey, is_dead: impl Fn(&ConnValue) -> bool) -> Result<bool> {
        for fd in [self.fd(), self.half_open.fd().as_fd()] {
            let taken: Option<ConnValue> =
                bpf::take(fd, key).context("cannot remove a connection that timed out")?;
            match taken {
                None => {}
                Some(value) if is_dead(&value) => return Ok(true),
                // A packet of the few microseconds between may have made its own: that one stays.
                Some(value) => {
                    bpf::insert_new(fd, key, &value).context("cannot put a connection back")?;
                }
            }
        }
        Ok(false)
    }

    /// Makes an entry where there is none in either table, or one that `gives_way`; whether it was made. One that a packet
    /// makes meanwhile stays.
    ///
    /// # Errors
    /// The kernel's.
    pub fn insert(
        &self,
        key: &ConnKey,
        value: &ConnValue,
        half_open: bool,
        gives_way: impl Fn(&ConnValue) -> bool,
    ) -> Result<bool> {
        for fd in [self.fd(), self.half_open.fd().as_fd()] {
            let there: Option<ConnValue> = bpf::look(fd, key).context("cannot look a connection up")?;
            match there {
                None => {}
                Some(there) if gives_way(&there) && self.remove_if(key, &gives_way)? => {}
                Some(_) => return Ok(false),
            }
        }
        let to = if half_open { self.half_open.fd().as_fd() } else { self.fd() };
        bpf::insert_new(to, key, value).context("cannot make a connection")
    }

    /// Writes entries as they are, for those that fill the table themselves: migration and tests.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, keys: &[ConnKey], values: &[ConnValue]) -> Result<()> {
        bpf::update_batch(self.fd(), keys, values).context("cannot write connections")
    }

    /// Kernel memory of the whole table in bytes, and the entries it has room for.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn memory(&self) -> Result<(u64, u32)> {
        let bytes = bpf::memory(self.fd()).context("cannot read the connection table's memory")?;
        let entries = self.map.info().context("cannot read the connection table's size")?.max_entries();
        Ok((bytes, entries))
    }
}
