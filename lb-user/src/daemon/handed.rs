//! The connection tables while another balancer takes over, or gives back. All of it may take a second for a million
//! connections: not for the daemon's own thread.

use std::collections::BTreeSet;

use anyhow::Result;
use lb_core::conn::{is_finished, is_live, state};
use lb_core::host::handover::Connection;
use lb_core::table::{ConnEntry, ConnKey, ConnValue, Settings, ticks_from_ms, ticks_since};

use crate::dataplane::{ConnTable, Pins};
use crate::io::clock;

/// For so long a connection that both sides have ended is told of: a last segment may have to be repeated.
const LINGER_MS: u64 = 1_000;

/// The live connections, without those that ended a while ago.
///
/// # Errors
/// The kernel's, as of all here.
pub fn live(pins: &Pins, settings: &Settings) -> Result<Vec<Connection>> {
    let now = clock::ticks();
    let (entry, mut connections) = (ConnEntry::default(), Vec::new());
    ConnTable::open(pins)?.for_each(|key, value| {
        entry.set(value);
        let over = is_finished(&entry) && ticks_since(now, value.last_seen) > ticks_from_ms(LINGER_MS);
        if is_live(&entry, now, settings) && !over {
            connections.push(Connection::of(key, value, now));
        }
    })?;
    Ok(connections)
}

/// How many connections were made.
pub struct Inserted {
    /// Of all protocols.
    pub made: u64,
    /// Of TCP.
    pub made_tcp: u64,
}

/// Whether a live entry, the first, gives way to what the controller told.
pub type GivesWay = fn(&ConnValue, &ConnValue) -> bool;

/// Where XDP opens connections, too.
pub const fn never(_: &ConnValue, _: &ConnValue) -> bool {
    false
}

/// Of two connections from one port the one that was heard later.
pub fn is_older(there: &ConnValue, told: &ConnValue) -> bool {
    let same = (there.backend, there.generation) == (told.backend, told.generation);
    !same && told.last_seen.wrapping_sub(there.last_seen).cast_signed() > 0
}

/// Makes the connections that are not there; in the place of entries that have timed out or are gone, too.
pub fn insert(
    pins: &Pins,
    settings: &Settings,
    connections: &[Connection],
    gives_way: GivesWay,
) -> Result<Inserted> {
    /// IP protocol number.
    const TCP: u8 = 6;
    let (table, now, entry) = (ConnTable::open(pins)?, clock::ticks(), ConnEntry::default());
    let mut inserted = Inserted { made: 0, made_tcp: 0 };
    for connection in connections {
        let (key, value) = connection.entry(now);
        let half_open = matches!(value.state, state::SYN | state::UNVERIFIED);
        let may_go = |there: &ConnValue| {
            entry.set(there);
            !is_live(&entry, now, settings) || gives_way(there, &value)
        };
        if table.insert(&key, &value, half_open, may_go)? {
            inserted.made += 1;
            inserted.made_tcp += u64::from(connection.protocol == TCP);
        }
    }
    Ok(inserted)
}

/// Forgets what the controller knows better, and what is over: it might meet packets of connections that are not in the
/// table yet. While no program is on its interface.
pub fn make_way(pins: &Pins, settings: &Settings, theirs: &[Connection]) -> Result<()> {
    let now = clock::ticks();
    let told: BTreeSet<ConnKey> = theirs.iter().map(|connection| connection.entry(now).0).collect();
    let entry = ConnEntry::default();
    forget(pins, |key, value| {
        entry.set(value);
        !is_live(&entry, now, settings) || is_finished(&entry) || told.contains(key)
    })
}

/// Forgets all connections: while somebody else balances they would become untrue.
pub fn clear(pins: &Pins) -> Result<()> {
    forget(pins, |_, _| true)
}

fn forget(pins: &Pins, goes: impl Fn(&ConnKey, &ConnValue) -> bool) -> Result<()> {
    let mut table = ConnTable::open(pins)?;
    let mut keys = Vec::new();
    table.for_each(|key, value| {
        if goes(key, value) {
            keys.push(*key);
        }
    })?;
    for key in keys {
        table.remove_if(&key, |_| true)?;
    }
    Ok(())
}
