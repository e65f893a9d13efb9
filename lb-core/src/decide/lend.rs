//! The source ports that full NAT lends to connections.

use crate::conn::{self, state};
use crate::select;
use crate::table::{Address, BackendRecord, ConnKey, SnatValue, Tables, Ticks, ticks_since};

/// Ports that are tried before a connection is refused: first for one that is free, then for one of a finished connection.
const TRIES: u32 = 16;
/// The share of the timeout of closed connections, as a power of two, after which their ports are lent again where none is
/// free: 1.9 s of 240. What is late of them has come by then, and no pool lasts for all that ended within the timeout.
const SETTLED_SHIFT: u32 = 7;

/// What a port is wanted for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRequest {
    /// The connection, as the client sees it.
    pub key: ConnKey,
    /// The address of its backend.
    pub backend: Address,
    /// The client's MAC address.
    pub mac: [u8; 6],
    /// The port of its backend, network byte order.
    pub backend_port: u16,
    /// The first port of the VIP's pool.
    pub first: u16,
    /// Ports in the pool.
    pub count: u16,
    /// The time.
    pub now: Ticks,
    /// 1 for a connection whose entry is among the half-open ones, 0 for one among the established.
    pub half_open: u32,
    /// Zero.
    pub reserved: u32,
}

/// A free source port towards a backend (network byte order), its way back stored; 0 when there is none. To be called
/// through [`Tables::lend_port`].
#[inline(always)]
pub fn lend_port<T: Tables>(tables: &T, request: &PortRequest) -> u16 {
    let PortRequest { key, backend, mac, backend_port, first, count, now, half_open, .. } = request;
    let half_open = *half_open != 0;
    let hash = select::flow_hash(key);
    let value = SnatValue {
        client: key.client,
        mac: *mac,
        client_port: key.client_port(),
        vip_port: key.vip_port(),
        vip: key.vip(),
        reserved: 0,
    };
    let port_at = |i: u32| {
        let offset = hash.wrapping_add(i).checked_rem(*count as u32).unwrap_or(0);
        first.wrapping_add(offset as u16).to_be()
    };
    for i in 0..TRIES {
        let port = port_at(i);
        let lent = ConnKey::new(*backend, *backend_port, 0, port, key.protocol());
        let Some(to) = tables.snat(&lent) else {
            if tables.snat_insert(&lent, &value, half_open, false) {
                return port;
            }
            // Another processor lent it meanwhile.
            continue;
        };
        if !is_lent(tables, key, &to, port, *now) {
            tables.snat_remove(&lent, !half_open);
            tables.snat_insert(&lent, &value, half_open, true);
            return port;
        }
    }
    for i in 0..TRIES {
        let port = port_at(i);
        let lent = ConnKey::new(*backend, *backend_port, 0, port, key.protocol());
        let Some(to) = tables.snat(&lent) else { continue };
        if take_back(tables, key, &to, port, *now) {
            tables.snat_remove(&lent, !half_open);
            tables.snat_insert(&lent, &value, half_open, true);
            return port;
        }
    }
    0
}

/// Ends what is left of a finished connection that has the port, so that it never sends by it again; whether it was
/// finished, and for long enough.
#[inline(always)]
fn take_back<T: Tables>(tables: &T, key: &ConnKey, to: &SnatValue, port: u16, now: Ticks) -> bool {
    let other = ConnKey::new(to.client, to.client_port, to.vip, to.vip_port, key.protocol());
    let Some(settings) = tables.settings() else { return false };
    let Some(entry) = tables.conn(&other).or_else(|| tables.half_open(&other)) else { return false };
    let settled =
        ticks_since(now, entry.last_seen.get()) > settings.timeouts[state::CLOSED as usize] >> SETTLED_SHIFT;
    if entry.snat_port.get() != port || !conn::is_finished(entry) || !settled {
        return false;
    }
    entry.state.set(state::GONE);
    true
}

/// Carries the other half of a connection that has become established over to its like, where no flood of half-open ones
/// evicts it.
#[inline(always)]
pub(super) fn settle<T: Tables>(tables: &T, backend: &BackendRecord, key: &ConnKey, port: u16) {
    let backend_port = if backend.port != 0 { backend.port } else { key.vip_port() };
    let lent = ConnKey::new(backend.address, backend_port, 0, port, key.protocol());
    let Some(to) = tables.snat(&lent) else { return };
    let is_its = to.client == key.client && to.client_port == key.client_port() && to.vip == key.vip();
    if is_its && tables.snat_insert(&lent, &to, false, true) {
        tables.snat_remove(&lent, true);
    }
}

/// Whether a port is lent to a live connection other than `key`.
#[inline(always)]
fn is_lent<T: Tables>(tables: &T, key: &ConnKey, to: &SnatValue, port: u16, now: Ticks) -> bool {
    let other = ConnKey::new(to.client, to.client_port, to.vip, to.vip_port, key.protocol());
    if other == *key {
        return false;
    }
    let Some(settings) = tables.settings() else { return false };
    let Some(entry) = tables.conn(&other).or_else(|| tables.half_open(&other)) else { return false };
    entry.snat_port.get() == port && conn::is_live(entry, now, settings)
}
