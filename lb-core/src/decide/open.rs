//! Flows without a usable entry.

use super::flow::{Flow, part};
use super::lend::PortRequest;
use crate::classify::TransportKind;
use crate::conn::{self, Segment};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::select::{self, Choice, PickRequest, pick_kind};
use crate::table::{
    AclKey, AffinityValue, BackendRecord, ConnEntry, ConnKey, RATE_WINDOW_BITS, Settings, Tables, Ticks,
    VipRecord, mode, settings_flag, verdict, vip_flag,
};

/// A flow's backend, or why there is none.
#[derive(Clone, Copy)]
pub(super) struct Opened<'t> {
    pub choice: Choice<'t>,
    /// The client is told that there is none.
    pub answer: bool,
    /// An entry was made for it.
    pub is_new: bool,
    /// The port that full NAT lent it, network byte order.
    pub snat_port: u16,
}

impl<'t> Opened<'t> {
    const fn no(reason: Reason) -> Self {
        Self { choice: Choice::none(reason), answer: false, is_new: false, snat_port: 0 }
    }

    const fn without_entry(choice: Choice<'t>) -> Self {
        Self { choice, answer: false, is_new: false, snat_port: 0 }
    }
}

#[inline(always)]
fn is_beyond_cap<T: Tables>(tables: &T, settings: &Settings, now: Ticks) -> bool {
    settings.max_new != 0 && tables.opened(now >> RATE_WINDOW_BITS) >= settings.max_new
}

/// Beyond the cap goes on without an entry where that can be.
#[inline(always)]
fn may_be_stateless(vip: &VipRecord) -> bool {
    match vip.mode {
        mode::DSR | mode::IPIP => true,
        mode::NAT => vip.flags & vip_flag::OVER_CAP_STATELESS != 0,
        _ => false,
    }
}

/// A SYN beyond the cap ends before anything is looked up, where it needs an entry.
#[inline(always)]
pub(super) fn is_refused<T: Tables>(tables: &T, settings: &Settings, vip: &VipRecord, now: Ticks) -> bool {
    let both = settings_flag::HANDING_OVER | settings_flag::HANDING_BACK;
    let elsewhere = settings.flags & both == settings_flag::HANDING_OVER;
    !elsewhere && !may_be_stateless(vip) && is_beyond_cap(tables, settings, now)
}

/// Chooses a backend for a flow, and makes or overwrites its entry, which is or will be `half_open`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined: what the caller knows is not found out again")]
pub(super) fn open<'t, P: Packet, T: Tables, const PART: u8>(
    flow: &Flow<'_, P>,
    tables: &'t T,
    vip: &VipRecord,
    key: &ConnKey,
    entry: Option<&ConnEntry>,
    opens: bool,
    segment: Segment,
    now: Ticks,
    half_open: bool,
) -> Opened<'t> {
    if let Some(reason) = refusal(tables, vip, key, now) {
        return Opened::no(reason);
    }
    if is_beyond_cap(tables, flow.settings, now) {
        if !may_be_stateless(vip) {
            return Opened::no(Reason::NewFlowCap);
        }
        let method = select::vip_hash(vip.selection) as u32;
        let request = PickRequest { key: *key, method, kind: pick_kind::STATELESS };
        return Opened::without_entry(select::pick(tables, &request));
    }
    let method = if opens { vip.selection } else { select::vip_hash(vip.selection) };
    let lends = const { PART == part::LEND };
    // Of full NAT, replies are told apart by the lent port.
    let kind = if lends { pick_kind::UNCHECKED } else { pick_kind::CHECKED };
    let choice = select::pick(tables, &PickRequest { key: *key, method: method as u32, kind });
    let Some(record) = choice.record else {
        // Nobody answers a reset, and a fragment is only a part of a question.
        let asks = !segment.resets() && matches!(flow.ports.kind, TransportKind::Ports);
        let rejects = vip.flags & vip_flag::REJECT != 0 && matches!(choice.reason, Reason::NoBackend);
        return Opened { answer: asks && rejects, ..Opened::without_entry(choice) };
    };
    if segment.resets() {
        // Nothing will follow it: no entry. Full NAT has no port for it either.
        if lends {
            return Opened::no(Reason::SnatExhausted);
        }
        return Opened::without_entry(choice);
    }
    let (slot, _) = flow.ingress_slot(tables, 0);
    let mut value = conn::open(choice.id, record.generation, slot, now, flow.is_tcp(), segment);
    if lends {
        value.snat_port = lend_port(flow, tables, vip, key, record, now, half_open);
        if value.snat_port == 0 {
            return Opened::no(Reason::SnatExhausted);
        }
    }
    if let Some(entry) = entry {
        entry.set(&value);
    } else if !tables.half_open_insert(key, &value) {
        // Another processor was first, or there is no room.
        let Some(entry) = tables.half_open(key) else { return Opened::no(Reason::TableFull) };
        let id = entry.backend.get();
        let Some(record) = tables.backend(id) else { return Opened::no(Reason::NoBackend) };
        let snat_port = entry.snat_port.get();
        return Opened { snat_port, ..Opened::without_entry(Choice::of(id, record)) };
    }
    tables.tell_opened(key, &value);
    tables.count_opened(now >> RATE_WINDOW_BITS);
    tables.load_add(choice.id, 1);
    if vip.affinity != 0 {
        let known = AffinityValue { backend: choice.id, generation: record.generation, last_seen: now };
        tables.affinity_set(&select::client_key(key), &known);
    }
    Opened { is_new: true, snat_port: value.snat_port, ..Opened::without_entry(choice) }
}

/// Why the client may not open connections at all, or not so many.
#[inline(always)]
fn refusal<T: Tables>(tables: &T, vip: &VipRecord, key: &ConnKey, now: Ticks) -> Option<Reason> {
    if vip.flags & vip_flag::ACL != 0 {
        /// Bits of the VIP's id and of an address.
        const LENGTH: u32 = 32 + 128;
        let acl = AclKey { length: LENGTH, vip: (key.vip() as u32).to_be(), address: key.client };
        let allowed = match tables.acl(&acl) {
            verdict::DENY => false,
            verdict::ALLOW => true,
            _ => vip.flags & vip_flag::DENY_OTHERS == 0,
        };
        if !allowed {
            return Some(Reason::Denied);
        }
    }
    if vip.max_new_per_source != 0 {
        let opened = tables.source_opened(&select::client_key(key), now >> RATE_WINDOW_BITS);
        if opened > vip.max_new_per_source {
            return Some(Reason::SourceLimit);
        }
    }
    None
}

/// A source port towards this backend (network byte order); 0 when there is none.
#[inline(always)]
fn lend_port<P: Packet, T: Tables>(
    flow: &Flow<'_, P>,
    tables: &T,
    vip: &VipRecord,
    key: &ConnKey,
    record: &BackendRecord,
    now: Ticks,
    half_open: bool,
) -> u16 {
    if vip.snat_count == 0 {
        return 0;
    }
    tables.lend_port(&PortRequest {
        key: *key,
        backend: record.address,
        mac: flow.packet.read(6).unwrap_or([0; 6]),
        backend_port: if record.port != 0 { record.port } else { key.vip_port() },
        first: vip.snat_first,
        count: vip.snat_count,
        now,
        half_open: half_open as u32,
        reserved: 0,
    })
}
