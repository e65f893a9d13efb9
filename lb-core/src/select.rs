//! Which backend a new flow gets.

use crate::conn;
use crate::reason::Reason;
use crate::table::{
    Address, BackendRecord, ConnKey, MAGLEV_CAPACITY, MEMBER_SLOTS, RING_SLOTS, SERVICE_VIPS, SelectTable,
    ServiceKey, ServiceVip, Tables, VipRecord, backend_flag, backend_state, selection, vip_flag,
};

/// Backends looked at: the first choice, and others in turn when it may not be taken, it itself perhaps once more
/// among them. Each costs the verifier tens of thousands of instructions.
const CANDIDATES: u32 = 3;

/// The flow hash of all consistent choices: client address, client port, VIP-side port, protocol.
///
/// The VIP's id is left out, so that it does not matter in which order VIPs were configured. Two rounds of a
/// multiply-xorshift mixer (constants of Stafford's variant 13, as in SplitMix64).
#[inline(always)]
pub const fn flow_hash(key: &ConnKey) -> u32 {
    let flow = key.flow & !(0xffff << 32);
    let h = mix(key.client.0[0].wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ key.client.0[1]);
    (mix(h ^ flow) >> 32) as u32
}

#[inline(always)]
const fn mix(h: u64) -> u64 {
    let h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

/// Maps 32 random bits onto `0..n` without a division.
#[inline(always)]
const fn scale(bits: u32, n: u32) -> usize {
    ((bits as u64 * n as u64) >> 32) as usize
}

/// A backend that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its id.
    pub id: u16,
    /// Its record.
    pub record: BackendRecord,
}

/// Chooses a backend for the flow `key` by `method`, a constant of [`selection`]. A packet in the middle of a
/// flow that has no entry is always placed by [`selection::MAGLEV`], whatever the VIP's selection.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, vip: &VipRecord, key: &ConnKey, method: u8) -> Result<Choice, Reason> {
    let table = tables.selection(key.vip()).ok_or(Reason::NoBackend)?;
    if table.ring_len == 0 || table.member_count == 0 {
        return Err(Reason::NoBackend);
    }
    let (first, start) = first_choice(tables, table, key, method);
    let mut scan = Scan { table, id: first, at: start % table.member_count };
    let choice = scan.next(tables, vip, key, 0)?;
    if !is_ambiguous(tables, key, &choice.record) {
        return Ok(choice);
    }
    // Its reply could belong to another VIP: somebody else. A client that uses one port towards three VIPs of
    // one pool at a time may be refused although a third one would do.
    match scan.next(tables, vip, key, choice.id) {
        Ok(other) if !is_ambiguous(tables, key, &other.record) => Ok(other),
        _ => Err(Reason::ReplyAmbiguous),
    }
}

/// The backends that are looked at: the first choice, then the members in turn.
struct Scan<'a> {
    table: &'a SelectTable,
    id: u16,
    at: u32,
}

impl Scan<'_> {
    /// The next one that may take the flow, other than `except`.
    #[inline(always)]
    fn next<T: Tables>(
        &mut self,
        tables: &T,
        vip: &VipRecord,
        key: &ConnKey,
        except: u16,
    ) -> Result<Choice, Reason> {
        let mut reason = Reason::NoBackend;
        for _ in 0..CANDIDATES {
            let id = self.id;
            self.id = self.table.members[self.at as usize & (MEMBER_SLOTS - 1)];
            self.at += 1;
            if self.at >= self.table.member_count {
                self.at = 0;
            }
            if id == 0 || id == except {
                continue;
            }
            let Some(&record) = tables.backend(id) else { continue };
            // The record is younger than the table: a backend that went down is refused before the table says so.
            let may_take = record.state == backend_state::UP
                || (vip.flags & vip_flag::LAST_KNOWN != 0 && record.state != backend_state::ABSENT);
            if !may_take {
                continue;
            }
            if record.address == key.client {
                reason = Reason::Hairpin;
                continue;
            }
            return Ok(Choice { id, record });
        }
        Err(reason)
    }
}

#[inline(always)]
fn first_choice<T: Tables>(tables: &T, table: &SelectTable, key: &ConnKey, method: u8) -> (u16, u32) {
    let (slot, start) = match method {
        selection::RANDOM => {
            let random = tables.random();
            (scale(random, table.ring_len), random)
        }
        selection::ROUND_ROBIN => {
            let ticket = tables.ticket(key.vip());
            ((ticket % table.ring_len) as usize, ticket)
        }
        _ => {
            let hash = flow_hash(key);
            return (table.maglev[scale(hash, table.maglev_len) & (MAGLEV_CAPACITY - 1)], hash);
        }
    };
    // The masks change nothing: they are bounds that every verifier can follow.
    (table.ring[slot & (RING_SLOTS - 1)], start)
}

/// Whether the client already talks to this very service of the backend by way of another VIP, so that a
/// reply could belong to either.
#[inline(always)]
fn is_ambiguous<T: Tables>(tables: &T, key: &ConnKey, record: &BackendRecord) -> bool {
    if record.flags & backend_flag::SHARED == 0 {
        return false;
    }
    let backend_port = if record.port != 0 { record.port } else { key.vip_port() };
    let Some(settings) = tables.settings() else { return false };
    let now = tables.now();
    for service in services(tables, record.address, backend_port, key.protocol()) {
        if service.vip == 0 || service.vip == key.vip() {
            continue;
        }
        let vip_port = if service.port != 0 { service.port } else { backend_port };
        let other = ConnKey::new(key.client, key.client_port(), service.vip, vip_port, key.protocol());
        if let Some(entry) = tables.conn(&other)
            && conn::is_live(entry, now, settings)
            && tables.backend(entry.backend.get()).is_some_and(|b| b.address == record.address)
        {
            return true;
        }
    }
    false
}

/// The VIPs that a backend's port may answer for: those of the port, else those of every port. The record of
/// a port names the VIPs of every port as well, so one look-up is enough where it exists.
#[inline(always)]
pub fn services<T: Tables>(
    tables: &T,
    address: Address,
    port: u16,
    protocol: u8,
) -> [ServiceVip; SERVICE_VIPS] {
    match tables.service(&ServiceKey::new(address, port, protocol)) {
        Some(record) => record.vips,
        None => match tables.service(&ServiceKey::new(address, 0, protocol)) {
            Some(record) => record.vips,
            None => [ServiceVip { vip: 0, port: 0 }; SERVICE_VIPS],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_ignores_the_vip_id_and_nothing_else() {
        let client = Address::from_v4([10, 0, 0, 3]);
        let base = flow_hash(&ConnKey::new(client, 1000, 1, 80, 6));
        assert_eq!(base, flow_hash(&ConnKey::new(client, 1000, 2, 80, 6)));
        let others = [
            ConnKey::new(Address::from_v4([10, 0, 0, 4]), 1000, 1, 80, 6),
            ConnKey::new(client, 1001, 1, 80, 6),
            ConnKey::new(client, 1000, 1, 81, 6),
            ConnKey::new(client, 1000, 1, 80, 17),
        ];
        for other in others {
            assert_ne!(base, flow_hash(&other), "{other:?}");
        }
    }

    #[test]
    fn the_hash_is_fixed_for_all_time() {
        // Another value would move flows of running networks to other backends at an upgrade.
        let key = ConnKey::new(Address::from_v4([10, 0, 0, 3]), 40000u16.to_be(), 1, 80u16.to_be(), 6);
        assert_eq!(flow_hash(&key), 0x4c4d_3b79);
    }

    #[test]
    fn scale_reaches_both_ends_and_no_further() {
        assert_eq!(scale(0, 65537), 0);
        assert_eq!(scale(u32::MAX, 65537), 65536);
        assert_eq!(scale(u32::MAX, 1), 0);
    }
}
