//! From a plan to the records of the tables: what the daemon writes into its maps, and what a balancer without XDP
//! holds itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::addr::Prefix;
use super::config::{
    ConnectionsConfig, MAX_NEW_PER_S_AND_PROCESSOR, Mode, NoBackend, OnDown, OverCap, Selection, VipKey,
};
use super::health::State;
use super::lists::Owner;
use super::plan::{BackendPlan, Plan, Rotation, VipPlan};
use crate::model::Model;
use crate::table::{
    AclKey, Address, BITMAP_BITS, BITMAP_WORDS, BackendRecord, MAGLEV_SLOTS, MAX_BACKENDS, MAX_VIPS,
    PortList, PortRange, PortRecord, PrefixKey, RATE_WINDOW_BITS, SCHEMA_VERSION, SelectTable, ServiceKey,
    ServiceRecord, ServiceVip, Settings, Ticks, VipRecord, VipTarget, backend_flag, backend_state, mode,
    port_flag, selection, settings_flag, ticks_from_ms, verdict, vip_flag,
};

/// The tables of a plan that are written whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Services {
    /// What the VIPs serve.
    pub vips: BTreeMap<ServiceKey, VipTarget>,
    /// Whose replies backends send.
    pub backends: BTreeMap<ServiceKey, ServiceRecord>,
    /// Ranges of ports.
    pub lists: BTreeMap<u16, PortList>,
    /// The lists of VIP prefixes.
    pub prefixes: BTreeMap<PrefixKey, u32>,
    /// The lists of clients.
    pub clients: BTreeMap<AclKey, u32>,
}

impl Services {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        Self {
            vips: vip_targets(plan),
            backends: services(plan),
            lists: port_lists(plan),
            prefixes: prefixes(plan),
            clients: clients(plan),
        }
    }
}

/// Whole seconds as ticks.
fn seconds(s: u32) -> Ticks {
    ticks_from_ms(u64::from(s) * 1000)
}

/// A number a second as a number in a window, rounded up; 0 stays 0.
fn in_window(per_s: u64) -> u32 {
    let window_ns = 1u128 << (20 + RATE_WINDOW_BITS);
    u32::try_from((u128::from(per_s) * window_ns).div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
}

/// The settings of a configuration, on a machine with so many processors, for a plan.
pub fn settings(config: &ConnectionsConfig, processors: u32, plan: &Plan) -> Settings {
    let closing = seconds(config.closing_s);
    let processors = u64::from(processors.max(1));
    // A cap below one connection for a processor and window would let nobody in.
    let max_new = match config.max_new_per_s {
        None => in_window(u64::from(MAX_NEW_PER_S_AND_PROCESSOR)),
        Some(per_s) => in_window(u64::from(per_s).div_ceil(processors)),
    };
    let has_prefixes = plan.vips.values().any(|vip| vip.key.prefix().is_some());
    Settings {
        schema: SCHEMA_VERSION,
        suspect_timeout: closing,
        // By state: none, syn, established, closing, closed, udp, unverified.
        timeouts: [
            0,
            seconds(config.syn_s),
            seconds(config.established_s),
            closing,
            closing,
            seconds(config.udp_s),
            seconds(config.unverified_s),
            0,
        ],
        flags: if has_prefixes { settings_flag::PREFIXES } else { 0 },
        max_new,
        fragment_timeout: seconds(config.fragment_s),
        reserved: 0,
    }
}

/// An address as the tables have it.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::from_v4(ip.octets()),
        IpAddr::V6(ip) => Address::from_v6(ip.octets()),
    }
}

/// An address of the tables.
pub fn ip(address: Address) -> IpAddr {
    Ipv6Addr::from(address.octets()).to_canonical()
}

/// The bitmaps. A prefix has no bits: where there are prefixes, they are asked for every packet.
pub fn bitmap(plan: &Plan) -> Vec<u64> {
    let mut words = vec![0u64; BITMAP_WORDS];
    let mut mark = |first: usize, ip: IpAddr| {
        let bit = address(ip).bitmap_bit() as usize;
        if let Some(word) = words.get_mut(first + bit / 64) {
            *word |= 1 << (bit % 64);
        }
    };
    for vip in plan.vips.values() {
        if vip.key.prefix().is_none() {
            mark(0, vip.key.address);
        }
        if let Some(snat) = vip.snat {
            mark(0, snat.address);
        }
    }
    for backend in plan.backends.values() {
        mark(BITMAP_BITS as usize / 64, backend.key.address);
    }
    words
}

fn vip_targets(plan: &Plan) -> BTreeMap<ServiceKey, VipTarget> {
    let mut targets = BTreeMap::new();
    let every_port =
        |VipKey { address: ip, protocol, .. }: VipKey| ServiceKey::new(address(ip), 0, protocol.number());
    for (id, vip) in plan.vips.iter().filter(|(_, vip)| vip.key.prefix().is_none()) {
        let key =
            ServiceKey::new(address(vip.key.address), vip.key.port().to_be(), vip.key.protocol.number());
        if !vip.key.ports.is_range() {
            targets.insert(key, VipTarget::new(*id, 0));
        }
        // Any VIP of an address will do: they share MAC and echo.
        targets.entry(ServiceKey::of_address(address(vip.key.address))).or_insert(VipTarget::new(*id, 0));
    }
    for vip in plan.vips.values().filter(|vip| vip.key.ports.is_range()) {
        let list = plan.lists.number(Owner::Address(vip.key.address, vip.key.protocol));
        if let Some(list) = list.filter(|_| vip.key.prefix().is_none()) {
            let target = targets.entry(every_port(vip.key)).or_default();
            *target = VipTarget::new(target.vip(), list);
        }
    }
    // An address that only lends ports belongs to the first VIP that lends them.
    for (id, vip) in &plan.vips {
        if let Some(snat) = vip.snat {
            let key = ServiceKey::of_address(address(snat.address));
            targets.entry(key).or_insert(VipTarget::new(*id, 0));
        }
    }
    targets
}

fn services(plan: &Plan) -> BTreeMap<ServiceKey, ServiceRecord> {
    plan.services
        .iter()
        .map(|(service, vips)| {
            let key =
                ServiceKey::new(address(service.address), service.port.to_be(), service.protocol.number());
            let mut record = ServiceRecord::default();
            for (slot, vip) in record.vips.iter_mut().zip(vips) {
                *slot = ServiceVip { vip: vip.vip, port: vip.port.to_be() };
            }
            (key, record)
        })
        .collect()
}

fn port_lists(plan: &Plan) -> BTreeMap<u16, PortList> {
    plan.lists
        .iter()
        .map(|(number, _, ranges)| {
            let mut list = PortList::default();
            for (slot, range) in list.ranges.iter_mut().zip(ranges) {
                let (first, last) = range.ports.bounds();
                *slot =
                    PortRange { first, last, vip: range.vip, protocol: range.protocol.number(), reserved: 0 };
            }
            (number, list)
        })
        .collect()
}

/// The bits of a prefix in a table, where IPv4 addresses are mapped into IPv6.
fn bits(prefix: Prefix) -> u32 {
    u32::from(prefix.length) + if prefix.address.is_ipv4() { 96 } else { 0 }
}

fn prefixes(plan: &Plan) -> BTreeMap<PrefixKey, u32> {
    let of_prefix = |(number, owner, _)| match owner {
        Owner::Prefix(prefix) => {
            let key = PrefixKey { length: bits(prefix), address: address(prefix.address).octets() };
            Some((key, u32::from(number)))
        }
        Owner::Address(..) => None,
    };
    plan.lists.iter().filter_map(of_prefix).collect()
}

fn clients(plan: &Plan) -> BTreeMap<AclKey, u32> {
    let mut entries = BTreeMap::new();
    for (id, vip) in &plan.vips {
        let lists = [(&vip.allow, verdict::ALLOW), (&vip.deny, verdict::DENY)];
        for (prefix, verdict) in lists.iter().flat_map(|(list, v)| list.iter().map(move |p| (*p, *v))) {
            let key = AclKey {
                length: 32 + bits(prefix),
                vip: u32::from(*id).to_be(),
                address: address(prefix.address),
            };
            entries.insert(key, verdict);
        }
    }
    entries
}

fn vip_flags(vip: &VipPlan, onearm: bool) -> u16 {
    let reject = vip.no_backend == NoBackend::Reject;
    let last_known = vip.rotation.is_last_known && vip.no_backend == NoBackend::LastKnown;
    let flags = [
        (vip.on_down == OnDown::Repick, vip_flag::REPICK),
        (vip.on_down == OnDown::Reset, vip_flag::RESET),
        (onearm, vip_flag::TRANSMIT),
        (last_known, vip_flag::LAST_KNOWN),
        (reject, vip_flag::REJECT),
        (vip.echo, vip_flag::ECHO),
        (!vip.allow.is_empty() || !vip.deny.is_empty(), vip_flag::ACL),
        (!vip.allow.is_empty(), vip_flag::DENY_OTHERS),
        (vip.over_cap == OverCap::Stateless, vip_flag::OVER_CAP_STATELESS),
    ];
    flags.into_iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag)
}

/// A VIP's record.
pub fn vip_record(vip: &VipPlan, onearm: bool) -> VipRecord {
    let source = vip.snat.map(|snat| snat.address).or(vip.tunnel.map(|tunnel| tunnel.source));
    let (snat_first, snat_count) = vip.snat.map_or((0, 0), |snat| {
        let (first, last) = snat.ports.bounds();
        (first, (last - first).saturating_add(1))
    });
    VipRecord {
        address: address(vip.key.address),
        source: source.map(address).unwrap_or_default(),
        mac: vip.mac.0,
        mode: match vip.mode {
            Mode::Nat => mode::NAT,
            Mode::Dsr => mode::DSR,
            Mode::FullNat => mode::FULLNAT,
            Mode::IpIp => mode::IPIP,
        },
        selection: match vip.selection {
            Selection::Random => selection::RANDOM,
            Selection::RoundRobin => selection::ROUND_ROBIN,
            Selection::Maglev => selection::MAGLEV,
            Selection::SourceHash => selection::SOURCE_HASH,
            Selection::FlowHash => selection::FLOW_HASH,
            Selection::LeastConnections => selection::LEAST_CONNECTIONS,
        },
        flags: vip_flags(vip, onearm),
        port: vip.key.port().to_be(),
        snat_first,
        snat_count,
        affinity: seconds(vip.affinity_s),
        max_new_per_source: in_window(u64::from(vip.max_new_per_source_s)),
        tunnel_mtu: vip.tunnel.map_or(0, |tunnel| tunnel.mtu),
        protocol: vip.key.protocol.number(),
        reserved: [0; 5],
    }
}

/// A backend's record; `ports` are the switch ports by slot.
pub fn backend_record(backend: &BackendPlan, ports: &BTreeMap<u16, PortRecord>) -> BackendRecord {
    let (mac, slot) = match backend.neighbour {
        Some(neighbour) => (neighbour.mac.0, u16::try_from(neighbour.interface).unwrap_or(0)),
        // What tells it from others is known before it has answered, and tells its record from theirs.
        None => (backend.key.mac.map_or([0; 6], |mac| mac.0), 0),
    };
    let port = ports.get(&slot).copied().unwrap_or_default();
    let mut flags = 0;
    if backend.is_shared {
        flags |= backend_flag::SHARED;
    }
    if port.flags & port_flag::REDIRECT != 0 {
        flags |= backend_flag::REDIRECT;
    }
    BackendRecord {
        address: address(backend.key.address),
        mac,
        state: match backend.state {
            State::Up => backend_state::UP,
            State::Down | State::Probing => backend_state::DOWN,
            State::Draining => backend_state::DRAINING,
            State::Disabled => backend_state::DISABLED,
        },
        flags,
        port: backend.translate_port.map_or(0, u16::to_be),
        slot,
        generation: backend.id.generation,
        vip: backend.vip,
        ifindex: port.ifindex,
        switch: port.switch,
        weight: backend.weight,
    }
}

/// A VIP's selection table.
pub fn select_table(rotation: &Rotation) -> Box<SelectTable> {
    let mut table = Box::new(SelectTable::EMPTY);
    let ring = rotation.ring();
    for (slot, id) in table.ring.iter_mut().zip(&ring) {
        *slot = *id;
    }
    for (slot, member) in table.members.iter_mut().zip(&rotation.members) {
        *slot = member.id;
    }
    table.ring_len = ring.len().min(table.ring.len()) as u32;
    table.member_count = rotation.members.len().min(table.members.len()) as u32;
    let is_filled = table.maglev.get_mut(..MAGLEV_SLOTS).is_some_and(|slots| rotation.maglev(slots).is_ok());
    if is_filled && !rotation.members.is_empty() {
        table.maglev_len = MAGLEV_SLOTS as u32;
    }
    table
}

/// The tables of a plan on the host, with room for so many connections: what the daemon makes of empty maps.
pub fn model(
    settings: Settings,
    onearm: bool,
    ports: &BTreeMap<u16, PortRecord>,
    plan: &Plan,
    connections: usize,
) -> Model {
    let mut model = Model::new(settings, connections);
    let tables = Services::of(plan);
    for (key, target) in tables.vips {
        model.serve(key, target);
    }
    for (id, vip) in &plan.vips {
        model.vips.insert(*id, vip_record(vip, onearm));
        model.selections.insert(*id, select_table(&vip.rotation));
    }
    for (id, backend) in &plan.backends {
        model.put_backend(*id, backend_record(backend, ports));
    }
    model.services = tables.backends;
    model.port_lists = tables.lists;
    model.prefixes = tables.prefixes.into_iter().map(|(prefix, list)| (prefix, list as u16)).collect();
    model.acl = tables.clients;
    model.ports = ports.clone();
    model.set_bitmap(bitmap(plan));
    model
}

/// Brings the tables on the host from one plan to the next; connections and what is known of clients stay.
pub fn update(model: &mut Model, settings: Settings, onearm: bool, old: &Plan, new: &Plan) {
    let diff = old.diff(new);
    let tables = Services::of(new);
    let ports = model.ports.clone();
    model.settings = settings;
    for (id, backend) in &new.backends {
        model.put_backend(*id, backend_record(backend, &ports));
    }
    model.services = tables.backends;
    model.port_lists = tables.lists;
    model.prefixes = tables.prefixes.into_iter().map(|(prefix, list)| (prefix, list as u16)).collect();
    model.acl = tables.clients;
    for id in &diff.rotations_set {
        if let Some(vip) = new.vips.get(id) {
            model.selections.insert(*id, select_table(&vip.rotation));
        }
    }
    for (id, vip) in &new.vips {
        model.vips.insert(*id, vip_record(vip, onearm));
    }
    model.set_targets(tables.vips);
    for id in &diff.vips_gone {
        model.vips.remove(id);
        model.selections.remove(id);
    }
    // An absent backend keeps its generation and its VIP, as in the data plane.
    for id in &diff.backends_gone {
        if let Some(record) = model.backends.get_mut(id) {
            let BackendRecord { generation, vip, .. } = *record;
            *record = BackendRecord { generation, vip, ..BackendRecord::default() };
        }
    }
    model.set_bitmap(bitmap(new));
}

/// The ids fit the tables.
const _: () = {
    assert!(super::config::MAX_VIPS < MAX_VIPS);
    assert!((super::ids::MAX_BACKEND_ID as usize) < MAX_BACKENDS);
};

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
