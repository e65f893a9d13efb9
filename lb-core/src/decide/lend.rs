//! The source ports that full NAT lends to connections.

use crate::conn;
use crate::select;
use crate::table::{Address, ConnKey, SnatValue, Tables, Ticks};

/// Ports that are tried before a connection is refused.
const TRIES: u32 = 16;

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
}

/// A free source port towards a backend (network byte order), its way back stored; 0 when there is none. To be called
/// through [`Tables::lend_port`].
#[inline(always)]
pub fn lend_port<T: Tables>(tables: &T, request: &PortRequest) -> u16 {
    let PortRequest { key, backend, mac, backend_port, first, count, now } = request;
    let hash = select::flow_hash(key);
    let value = SnatValue {
        client: key.client,
        mac: *mac,
        client_port: key.client_port(),
        vip_port: key.vip_port(),
        vip: key.vip(),
        reserved: 0,
    };
    for i in 0..TRIES {
        let offset = hash.wrapping_add(i).checked_rem(*count as u32).unwrap_or(0);
        let port = first.wrapping_add(offset as u16).to_be();
        let lent = ConnKey::new(*backend, *backend_port, 0, port, key.protocol());
        if tables.snat_insert(&lent, &value, false) {
            return port;
        }
        if !is_lent(tables, key, &lent, port, *now) {
            tables.snat_insert(&lent, &value, true);
            return port;
        }
    }
    0
}

/// Whether a port is lent to a live connection other than `key`.
#[inline(always)]
fn is_lent<T: Tables>(tables: &T, key: &ConnKey, lent: &ConnKey, port: u16, now: Ticks) -> bool {
    let Some(to) = tables.snat(lent) else { return false };
    let other = ConnKey::new(to.client, to.client_port, to.vip, to.vip_port, key.protocol());
    if other == *key {
        return false;
    }
    let Some(settings) = tables.settings() else { return false };
    let Some(entry) = tables.conn(&other).or_else(|| tables.half_open(&other)) else { return false };
    entry.snat_port.get() == port && conn::is_live(entry, now, settings)
}
