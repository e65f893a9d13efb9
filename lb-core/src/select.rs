//! Which backend a new flow gets.

use crate::conn;
use crate::reason::Reason;
use crate::table::{
    Address, BackendRecord, ClientKey, ConnKey, MAGLEV_CAPACITY, MEMBER_SLOTS, RING_SLOTS, SERVICE_VIPS,
    SelectTable, ServiceKey, ServiceRecord, ServiceVip, Tables, VipRecord, backend_flag, backend_state, mode,
    selection, ticks_since, vip_flag,
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

/// The hash of [`selection::SOURCE_HASH`]: the flow hash of the client's address and the protocol, with both ports 0.
#[inline(always)]
pub const fn source_hash(key: &ConnKey) -> u32 {
    flow_hash(&ConnKey { client: key.client, flow: key.flow & !0xffff_ffff })
}

/// Maps 32 random bits onto `0..n` without a division.
#[inline(always)]
const fn scale(bits: u32, n: u32) -> usize {
    ((bits as u64 * n as u64) >> 32) as usize
}

/// The remainder, 0 for a length of 0: another processor may swap the table between two looks at its length.
#[inline(always)]
fn remainder(number: u32, length: u32) -> u32 {
    number.checked_rem(length).unwrap_or(0)
}

/// A backend that was chosen, or why none was. Flat for the reason given at [`crate::Rewrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'t> {
    /// Its id; 0 when there is none.
    pub id: u16,
    /// Its record, where it lies: a copy would cost the XDP program its stack.
    pub record: Option<&'t BackendRecord>,
    /// Why there is none.
    pub reason: Reason,
}

impl<'t> Choice<'t> {
    /// This backend.
    #[inline(always)]
    pub const fn of(id: u16, record: &'t BackendRecord) -> Self {
        Self { id, record: Some(record), reason: Reason::NoBackend }
    }

    /// None, and why.
    #[inline(always)]
    pub const fn none(reason: Reason) -> Self {
        Self { id: 0, record: None, reason }
    }
}

/// What a backend is wanted for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PickRequest {
    /// The flow.
    pub key: ConnKey,
    /// How to choose: a constant of [`selection`]. A packet in the middle of a flow that has no entry is always placed by
    /// [`vip_hash`], whatever the VIP's selection.
    pub method: u32,
    /// A constant of [`pick_kind`].
    pub kind: u32,
}

/// The kinds of [`PickRequest`].
pub mod pick_kind {
    /// For a flow whose replies are told apart by the client's address and port: nobody is chosen towards whom they could
    /// belong to another VIP.
    pub const CHECKED: u32 = 0;
    /// For a flow whose replies are told apart otherwise.
    pub const UNCHECKED: u32 = 1;
    /// For a packet that goes without an entry: where the consistent hash places it.
    pub const STATELESS: u32 = 2;
}

/// Chooses a backend, by a call that the XDP program's verifier looks at once: see [`Tables::pick`].
#[inline(always)]
pub fn pick<'t, T: Tables>(tables: &'t T, request: &PickRequest) -> Choice<'t> {
    let code = tables.pick(request);
    let id = code as u16;
    if let Some(record) = tables.backend(id)
        && id != 0
    {
        return Choice::of(id, record);
    }
    Choice::none(match code >> 16 {
        1 => Reason::Hairpin,
        2 => Reason::ReplyAmbiguous,
        _ => Reason::NoBackend,
    })
}

/// [`pick`] as one number: the backend's id, or else, from bit 16 on, why there is none.
#[inline(always)]
pub fn pick_code<T: Tables>(tables: &T, request: &PickRequest) -> u32 {
    let Some(vip) = tables.vip(request.key.vip()) else { return 0 };
    let choice = choose(tables, vip, request);
    match choice.reason {
        _ if choice.id != 0 => choice.id as u32,
        Reason::Hairpin => 1 << 16,
        Reason::ReplyAmbiguous => 2 << 16,
        _ => 0,
    }
}

#[inline(always)]
fn choose<'t, T: Tables>(tables: &'t T, vip: &VipRecord, request: &PickRequest) -> Choice<'t> {
    let PickRequest { key, method, kind } = request;
    let Some(table) = tables.selection(key.vip()) else { return Choice::none(Reason::NoBackend) };
    let stateless = *kind == pick_kind::STATELESS;
    let placed = if stateless { table.maglev_len } else { table.ring_len };
    if placed == 0 || table.member_count == 0 {
        return Choice::none(Reason::NoBackend);
    }
    let kept = if stateless { 0 } else { affine(tables, vip, key) };
    let (first, start) = if kept != 0 { (kept, 0) } else { first_choice(tables, table, key, *method as u8) };
    let mut scan = Scan { table, id: first, at: remainder(start, table.member_count) };
    let choice = scan.next(tables, vip, key, 0);
    let Some(record) = choice.record else { return choice };
    if *kind != pick_kind::CHECKED || !is_ambiguous(tables, key, record) {
        return choice;
    }
    // Its reply could belong to another VIP: somebody else. A client that uses one port towards three VIPs of
    // one pool at a time may be refused although a third one would do.
    let other = scan.next(tables, vip, key, choice.id);
    match other.record {
        Some(record) if !is_ambiguous(tables, key, record) => other,
        _ => Choice::none(Reason::ReplyAmbiguous),
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
    fn next<'t, T: Tables>(
        &mut self,
        tables: &'t T,
        vip: &VipRecord,
        key: &ConnKey,
        except: u16,
    ) -> Choice<'t> {
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
            let Some(record) = tables.backend(id) else { continue };
            // The record is younger than the table: a backend that went down is refused before the table says so.
            if !may_take(vip, record) {
                continue;
            }
            if is_hairpin(vip, key, record) {
                reason = Reason::Hairpin;
                continue;
            }
            return Choice::of(id, record);
        }
        Choice::none(reason)
    }
}

#[inline(always)]
fn may_take(vip: &VipRecord, record: &BackendRecord) -> bool {
    record.state == backend_state::UP
        || (vip.flags & vip_flag::LAST_KNOWN != 0 && record.state != backend_state::ABSENT)
}

/// The client is the backend itself: only full NAT brings its answers back here.
#[inline(always)]
fn is_hairpin(vip: &VipRecord, key: &ConnKey, record: &BackendRecord) -> bool {
    record.address == key.client && vip.mode != mode::FULLNAT
}

/// The key under which a client's affinity and its rate are kept.
#[inline(always)]
pub fn client_key(key: &ConnKey) -> ClientKey {
    ClientKey { client: key.client, vip: key.vip() as u64 }
}

/// The id of the backend of the client's last opening, where the VIP keeps clients and it may take the flow; else 0.
#[inline(always)]
fn affine<T: Tables>(tables: &T, vip: &VipRecord, key: &ConnKey) -> u16 {
    if vip.affinity == 0 {
        return 0;
    }
    let Some(known) = tables.affinity(&client_key(key)) else { return 0 };
    let Some(record) = tables.backend(known.backend) else { return 0 };
    let same = record.generation == known.generation && record.vip == key.vip();
    let recent = ticks_since(tables.now(), known.last_seen) <= vip.affinity;
    let takes = may_take(vip, record) && !is_hairpin(vip, key, record);
    if same && recent && takes { known.backend } else { 0 }
}

/// How packets are placed that begin no flow.
#[inline(always)]
pub const fn vip_hash(method: u8) -> u8 {
    if method == selection::SOURCE_HASH { selection::SOURCE_HASH } else { selection::MAGLEV }
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
            (remainder(ticket, table.ring_len) as usize, ticket)
        }
        selection::FLOW_HASH => {
            let hash = flow_hash(key);
            (scale(hash, table.ring_len), hash)
        }
        selection::LEAST_CONNECTIONS => {
            let random = tables.random();
            return (less_loaded(tables, table, random), random);
        }
        _ => {
            let hash = if method == selection::SOURCE_HASH { source_hash(key) } else { flow_hash(key) };
            return (table.maglev[scale(hash, table.maglev_len) & (MAGLEV_CAPACITY - 1)], hash);
        }
    };
    // The masks change nothing: they are bounds that every verifier can follow.
    (table.ring[slot & (RING_SLOTS - 1)], start)
}

/// Of two members, taken at random, the one with fewer live connections for its weight.
#[inline(always)]
fn less_loaded<T: Tables>(tables: &T, table: &SelectTable, random: u32) -> u16 {
    let member = |bits: u32| {
        let at = ((bits as u64 * table.member_count as u64) >> 16) as usize;
        table.members[at & (MEMBER_SLOTS - 1)]
    };
    let (a, b) = (member(random & 0xffff), member(random >> 16));
    let weight = |id: u16| tables.backend(id).map_or(1, |record| record.weight) as u64;
    if tables.load(b) as u64 * weight(a) < tables.load(a) as u64 * weight(b) { b } else { a }
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
    let services = services(tables, record.address, backend_port, key.protocol());
    // Not by an early return: the verifier looks at every way through the loop that ends differently.
    let mut found = false;
    for i in 0..SERVICE_VIPS {
        let service = service_at(services, i);
        if service.vip == 0 || service.vip == key.vip() {
            continue;
        }
        let vip_port = if service.port != 0 { service.port } else { backend_port };
        let other = ConnKey::new(key.client, key.client_port(), service.vip, vip_port, key.protocol());
        if let Some(entry) = tables.conn(&other).or_else(|| tables.half_open(&other)) {
            let live = conn::is_live(entry, now, settings);
            let same = tables.backend(entry.backend.get()).is_some_and(|b| b.address == record.address);
            found |= live & same;
        }
    }
    found
}

/// The VIPs that a backend's port may answer for: those of the port, else those of every port. The record of
/// a port names the VIPs of every port as well, so one look-up is enough where it exists.
#[inline(always)]
pub fn services<T: Tables>(tables: &T, address: Address, port: u16, protocol: u8) -> Option<&ServiceRecord> {
    match tables.service(&ServiceKey::new(address, port, protocol)) {
        None => tables.service(&ServiceKey::new(address, 0, protocol)),
        found => found,
    }
}

/// One of the VIPs of a service; no VIP where there is none.
#[inline(always)]
pub fn service_at(services: Option<&ServiceRecord>, index: usize) -> ServiceVip {
    services.map_or(ServiceVip { vip: 0, port: 0 }, |record| record.vips[index & (SERVICE_VIPS - 1)])
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
