//! From a plan to the maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use lb_core::host::config::{
    Admin, BackendConfig, ConnectionsConfig, Mode, NoBackend, OnDown, Protocol, Selection, VipKey,
};
use lb_core::host::health::{Neighbour, State};
use lb_core::host::ids::{BackendKey, Id, Ids};
use lb_core::host::plan::{BackendPlan, Plan, Rotation, VipPlan};
use lb_core::model::Model;
use lb_core::table::{
    Address, BITMAP_BITS, BITMAP_WORDS, BackendRecord, MAX_BACKENDS, MAX_VIPS, PortRecord, SCHEMA_VERSION,
    SelectTable, ServiceKey, ServiceRecord, ServiceVip, Settings, VipRecord, VipTarget, backend_flag,
    backend_state, mode, port_flag, selection, ticks_from_ms, vip_flag,
};

use crate::dataplane::DataPlane;

/// The settings of a configuration.
pub fn settings(config: &ConnectionsConfig) -> Settings {
    let seconds = |s: u32| ticks_from_ms(u64::from(s) * 1000);
    let closing = seconds(config.closing_s);
    Settings {
        schema: SCHEMA_VERSION,
        suspect_timeout: closing,
        // By state: none, syn, established, closing, closed, udp.
        timeouts: [
            0,
            seconds(config.syn_s),
            seconds(config.established_s),
            closing,
            closing,
            seconds(config.udp_s),
            0,
            0,
        ],
        ..Settings::default()
    }
}

/// What an earlier daemon left in the maps.
#[derive(Debug, Default)]
pub struct Found {
    /// Its ids.
    pub ids: Ids,
    /// Backends that answered it, with the MAC and the port slot it knew.
    pub up: BTreeMap<IpAddr, Neighbour>,
    /// Its backends, each with the key of its VIP.
    pub configured: Vec<(String, BackendConfig)>,
    /// All VIP ids in use.
    vips: BTreeSet<u16>,
    /// All backend ids in use.
    backends: BTreeSet<u16>,
}

/// Reads what an earlier daemon left.
pub fn find(dataplane: &DataPlane) -> Result<Found> {
    let mut found = Found::default();
    let mut keys: BTreeMap<u16, VipKey> = BTreeMap::new();
    for (key, target) in dataplane.read_vip_ids()? {
        let id = target.vip();
        let protocol = match (key.service >> 16) as u8 {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => continue,
        };
        let port = u16::from_be(key.service as u16);
        keys.insert(id, VipKey { address: ip(key.address), port, protocol });
    }
    for (&id, &key) in &keys {
        found.ids.adopt_vip(key, Id { id, generation: 0 });
        found.vips.insert(id);
    }
    for id in 1..u16::try_from(MAX_BACKENDS).unwrap_or(u16::MAX) {
        let record = dataplane.read_backend(id)?;
        if record.vip != 0 {
            found.ids.remember_backend(Id { id, generation: record.generation });
        }
        if record.state == backend_state::ABSENT {
            continue;
        }
        found.backends.insert(id);
        let Some(vip) = keys.get(&record.vip).copied() else { continue };
        let address = ip(record.address);
        let port = if record.port != 0 { u16::from_be(record.port) } else { vip.port };
        found.ids.adopt_backend(BackendKey { vip, address, port }, Id { id, generation: record.generation });
        let translate = Some(u16::from_be(record.port)).filter(|port| *port != 0);
        found.configured.push((
            vip.to_string(),
            BackendConfig {
                name: translate.map_or_else(|| address.to_string(), |port| format!("{address}:{port}")),
                address,
                port: translate,
                weight: 0,
                admin: Admin::Leaving,
            },
        ));
        if matches!(record.state, backend_state::UP | backend_state::DRAINING) {
            let neighbour = Neighbour {
                mac: lb_core::host::addr::MacAddr(record.mac),
                interface: u32::from(record.slot),
            };
            found.up.insert(address, neighbour);
        }
    }
    Ok(found)
}

/// Clears what an earlier daemon left and `plan` has no use for.
pub fn clear_leftovers(dataplane: &mut DataPlane, found: &Found, plan: &Plan) -> Result<()> {
    for id in found.vips.iter().filter(|id| !plan.vips.contains_key(id)) {
        dataplane.write_vip(*id, &VipRecord::default())?;
    }
    for id in found.backends.iter().filter(|id| !plan.backends.contains_key(id)) {
        clear_backend(dataplane, *id)?;
    }
    Ok(())
}

/// An absent backend keeps its generation, so that its next owner can be told from it, and its VIP, which tells it from
/// a record that nobody ever had.
fn clear_backend(dataplane: &mut DataPlane, id: u16) -> Result<()> {
    let BackendRecord { generation, vip, .. } = dataplane.read_backend(id)?;
    dataplane.write_backend(id, &BackendRecord { generation, vip, ..BackendRecord::default() })
}

/// Brings the maps from one plan to the next, in the order in which no packet meets a half-made state.
pub fn apply(
    dataplane: &mut DataPlane,
    onearm: bool,
    ports: &BTreeMap<u16, PortRecord>,
    old: &Plan,
    new: &Plan,
) -> Result<()> {
    let diff = old.diff(new);
    let addresses_changed = !diff.vips_set.is_empty()
        || !diff.vips_gone.is_empty()
        || !diff.backends_gone.is_empty()
        || diff.backends_set.iter().any(|id| !old.backends.contains_key(id));
    if addresses_changed {
        let both: Vec<u64> = bitmap(old).into_iter().zip(bitmap(new)).map(|(a, b)| a | b).collect();
        dataplane.write_bitmap(&both)?;
    }
    // All of them, since a port may have changed under a backend that did not.
    for (id, backend) in &new.backends {
        let record = backend_record(backend, ports);
        if dataplane.read_backend(*id)? != record {
            dataplane.write_backend(*id, &record)?;
        }
    }
    dataplane.write_services(&services(new))?;
    let touched: BTreeSet<u16> = diff.vips_set.iter().chain(&diff.rotations_set).copied().collect();
    for id in touched {
        let Some(vip) = new.vips.get(&id) else { continue };
        // The table before the record that admits its members, and before the services that lead to it.
        if diff.rotations_set.contains(&id) {
            dataplane.write_selection(id, &select_table(&vip.rotation))?;
        }
        dataplane.write_vip(id, &vip_record(vip, onearm))?;
    }
    if addresses_changed {
        dataplane.write_vip_ids(&vip_ids(new))?;
    }
    for id in &diff.vips_gone {
        dataplane.write_vip(*id, &VipRecord::default())?;
    }
    for id in &diff.backends_gone {
        clear_backend(dataplane, *id)?;
    }
    if addresses_changed {
        dataplane.write_bitmap(&bitmap(new))?;
    }
    Ok(())
}

/// The tables of a plan on the host, with room for so many connections: what [`apply`] makes of empty maps.
pub fn model(
    settings: Settings,
    onearm: bool,
    ports: &BTreeMap<u16, PortRecord>,
    plan: &Plan,
    connections: usize,
) -> Model {
    let mut model = Model::new(settings, connections);
    for (key, target) in vip_ids(plan) {
        model.serve(key, target);
    }
    for (id, vip) in &plan.vips {
        model.vips.insert(*id, vip_record(vip, onearm));
        model.selections.insert(*id, select_table(&vip.rotation));
    }
    for (id, backend) in &plan.backends {
        model.put_backend(*id, backend_record(backend, ports));
    }
    model.services = services(plan);
    model.ports = ports.clone();
    model.set_bitmap(bitmap(plan));
    model
}

/// An address for the tables.
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

fn bitmap(plan: &Plan) -> Vec<u64> {
    let mut words = vec![0u64; BITMAP_WORDS];
    let mut mark = |first: usize, ip: IpAddr| {
        let bit = address(ip).bitmap_bit() as usize;
        if let Some(word) = words.get_mut(first + bit / 64) {
            *word |= 1 << (bit % 64);
        }
    };
    for vip in plan.vips.values() {
        mark(0, vip.key.address);
    }
    for backend in plan.backends.values() {
        mark(BITMAP_BITS as usize / 64, backend.key.address);
    }
    words
}

fn vip_ids(plan: &Plan) -> BTreeMap<ServiceKey, VipTarget> {
    let mut ids = BTreeMap::new();
    for (id, vip) in &plan.vips {
        let address = address(vip.key.address);
        let target = VipTarget::new(*id, 0);
        ids.insert(ServiceKey::new(address, vip.key.port.to_be(), vip.key.protocol.number()), target);
        // Any VIP of an address will do: they share the MAC.
        ids.entry(ServiceKey::of_address(address)).or_insert(target);
    }
    ids
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

fn vip_record(vip: &VipPlan, onearm: bool) -> VipRecord {
    let mut flags = 0;
    if vip.on_down == OnDown::Repick {
        flags |= vip_flag::REPICK;
    }
    if onearm {
        flags |= vip_flag::TRANSMIT;
    }
    if vip.rotation.is_last_known && vip.no_backend == NoBackend::LastKnown {
        flags |= vip_flag::LAST_KNOWN;
    }
    VipRecord {
        address: address(vip.key.address),
        mac: vip.mac.0,
        mode: match vip.mode {
            Mode::Nat => mode::NAT,
            Mode::Dsr => mode::DSR,
        },
        selection: match vip.selection {
            Selection::Random => selection::RANDOM,
            Selection::RoundRobin => selection::ROUND_ROBIN,
            Selection::Maglev => selection::MAGLEV,
        },
        flags,
        ..VipRecord::default()
    }
}

fn backend_record(backend: &BackendPlan, ports: &BTreeMap<u16, PortRecord>) -> BackendRecord {
    let (mac, slot) = match backend.neighbour {
        Some(neighbour) => (neighbour.mac.0, u16::try_from(neighbour.interface).unwrap_or(0)),
        None => ([0; 6], 0),
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

fn select_table(rotation: &Rotation) -> Box<SelectTable> {
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
    table.maglev_len = if rotation.members.is_empty() { 0 } else { lb_core::table::MAGLEV_SLOTS as u32 };
    if let Some(slots) = table.maglev.get_mut(..lb_core::table::MAGLEV_SLOTS)
        && let Err(error) = rotation.maglev(slots)
    {
        tracing::error!("no consistent hash table: {error}");
    }
    table
}

/// The ids fit the tables.
const _: () = {
    assert!(lb_core::host::config::MAX_VIPS < MAX_VIPS);
    assert!((lb_core::host::ids::MAX_BACKEND_ID as usize) < MAX_BACKENDS);
};
