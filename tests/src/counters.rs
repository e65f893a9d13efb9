//! Counters and connections in the form in which the three sides are compared.

use std::collections::BTreeMap;

use crate::frame::Ip;

/// Every counter by its name, zeros left out: `received`, `partial_checksums`, `reason:not_ours`,
/// `vip:1:packets_in`, `backend:2:bytes_out`.
pub type Counters = BTreeMap<String, u64>;

/// What moved between two readings. `last_alive` is a time and not a sum: its new value, where it changed.
#[must_use]
pub fn delta(before: &Counters, after: &Counters) -> BTreeMap<String, i128> {
    let mut moved = BTreeMap::new();
    for name in before.keys().chain(after.keys()) {
        let (old, new) = (before.get(name).copied().unwrap_or(0), after.get(name).copied().unwrap_or(0));
        if old != new {
            let change = if name.ends_with(":last_alive") {
                i128::from(new)
            } else {
                i128::from(new) - i128::from(old)
            };
            moved.insert(name.clone(), change);
        }
    }
    moved
}

/// A connection, in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Client's address.
    pub client: Ip,
    /// Client's port.
    pub client_port: u16,
    /// VIP id.
    pub vip: u16,
    /// Port on the VIP's side.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Backend id.
    pub backend: u16,
    /// Generation of the backend's record.
    pub generation: u16,
    /// Not yet among the established.
    pub half_open: bool,
    /// `syn`, `unverified`, `established`, `closing`, `closed`, `udp`, `gone`.
    pub state: &'static str,
    /// Answered, client's FIN, backend's FIN, suspect, and which sequence numbers are known.
    pub flags: Flags,
    /// Slot of the client's port.
    pub client_slot: u16,
    /// When it was seen last.
    pub last_seen: u32,
    /// Client's next sequence number; meaningless unless the flag says that it is known.
    pub client_next: u32,
    /// Backend's next sequence number; likewise.
    pub backend_next: u32,
    /// The port that full NAT lent it; 0: none.
    pub lent: u16,
}

/// Marks of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flags {
    /// The backend has answered.
    pub answered: bool,
    /// The client sent FIN.
    pub client_fin: bool,
    /// The backend sent FIN.
    pub backend_fin: bool,
    /// An RST outside the window was seen.
    pub suspect: bool,
    /// The client's sequence number is known.
    pub client_seq: bool,
    /// The backend's sequence number is known.
    pub backend_seq: bool,
}
