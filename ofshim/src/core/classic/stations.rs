//! The MAC table of the NOX program: kept and told, and used for nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use openflow::{DatapathId, MacAddr, PortNo};

use crate::core::frame::is_group;
use crate::core::topo::Place;

/// The most addresses kept, over all switches.
pub const MAX_STATIONS: usize = 65_536;

/// A MAC at a switch.
pub type Station = (DatapathId, MacAddr);

/// Where a MAC is, and since when that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The port.
    pub port: PortNo,
    /// When it was learned or moved; where entries are refreshed, when it was last heard.
    pub since: Duration,
}

/// What learning changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was new, or not to be learned.
    Nothing,
    /// It was at another port.
    Moved {
        /// The port that it left.
        from: PortNo,
    },
}

/// The MAC table of all switches.
#[derive(Debug)]
pub struct Stations {
    seats: BTreeMap<Station, Seat>,
    age: Duration,
    refreshed: bool,
}

impl Stations {
    /// A table whose entries go after `age`, counted from when a MAC was learned or moved, or if they are `refreshed`
    /// from when it was last heard.
    #[must_use]
    pub const fn new(age: Duration, refreshed: bool) -> Self {
        Self { seats: BTreeMap::new(), age, refreshed }
    }

    /// Notes where a frame's source is. Group addresses are no sources.
    pub fn learn(&mut self, mac: MacAddr, at: Place, now: Duration) -> Learned {
        if is_group(mac) {
            return Learned::Nothing;
        }
        let full = self.seats.len() >= MAX_STATIONS;
        match self.seats.get_mut(&(at.dpid, mac)) {
            Some(seat) if seat.port != at.port => {
                let from = seat.port;
                *seat = Seat { port: at.port, since: now };
                return Learned::Moved { from };
            }
            Some(seat) if self.refreshed => seat.since = now,
            Some(_) => {}
            None if full => {}
            None => {
                self.seats.insert((at.dpid, mac), Seat { port: at.port, since: now });
            }
        }
        Learned::Nothing
    }

    /// Forgets what is too old.
    pub fn sweep(&mut self, now: Duration) {
        self.seats.retain(|_, seat| now.saturating_sub(seat.since) < self.age);
    }

    /// All MACs, by switch and address.
    pub fn iter(&self) -> impl Iterator<Item = (&Station, &Seat)> {
        self.seats.iter()
    }
}
