//! From a plan to the maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use lb_core::host::addr::MacAddr;
use lb_core::host::config::{Admin, BackendConfig, Config, ConnectionsConfig, Ports, Protocol, VipKey};
use lb_core::host::health::{Neighbour, Station};
use lb_core::host::ids::{BackendKey, Id, Ids};
use lb_core::host::plan::Plan;
use lb_core::host::records::{self, Services, ip};
use lb_core::table::{
    BackendRecord, MAX_BACKENDS, PortRange, PortRecord, Settings, VipRecord, backend_state, settings_flag,
};

use crate::dataplane::DataPlane;
use crate::io::sys;

/// What an earlier daemon left in the maps.
#[derive(Debug, Default)]
pub struct Found {
    /// Its ids.
    pub ids: Ids,
    /// Backends that answered it, with the MAC and the port slot it knew.
    pub up: BTreeMap<Station, Neighbour>,
    /// The backends of each VIP that were in rotation.
    pub in_rotation: Vec<BackendKey>,
    /// Its backends, each with the key of its VIP.
    pub configured: Vec<(String, BackendConfig)>,
    /// All VIP ids in use.
    vips: BTreeSet<u16>,
    /// All backend ids in use.
    backends: BTreeSet<u16>,
}

/// Reads what an earlier daemon left. Backends that `config` tells by their MAC are told so here.
pub fn find(dataplane: &DataPlane, config: &Config) -> Result<Found> {
    let mut found = Found::default();
    let keys = vip_keys(dataplane)?;
    for (&id, &key) in &keys {
        found.ids.adopt_vip(key, Id { id, generation: 0 });
        found.vips.insert(id);
    }
    let told: BTreeSet<(VipKey, IpAddr, MacAddr)> = config
        .vips
        .iter()
        .flat_map(|vip| vip.backends.iter().map(|backend| (vip.key(), backend)))
        .filter_map(|(vip, backend)| Some((vip, backend.address, backend.mac?)))
        .collect();
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
        let (address, mac) = (ip(record.address), MacAddr(record.mac));
        let port = if record.port != 0 { u16::from_be(record.port) } else { vip.port() };
        let key = BackendKey {
            vip,
            address,
            port,
            mac: Some(mac).filter(|mac| told.contains(&(vip, address, *mac))),
        };
        found.ids.adopt_backend(key, Id { id, generation: record.generation });
        let translate = Some(u16::from_be(record.port)).filter(|port| *port != 0);
        let apart = key.mac.map(|mac| mac.to_string());
        found.configured.push((
            vip.to_string(),
            BackendConfig {
                name: BackendConfig::default_name(address, translate, apart.as_deref()),
                address,
                mac: key.mac,
                host: None,
                port: translate,
                weight: 0,
                admin: Admin::Leaving,
            },
        ));
        if matches!(record.state, backend_state::UP | backend_state::DRAINING) {
            found.up.insert(key.station(), Neighbour { mac, interface: u32::from(record.slot) });
            found.in_rotation.push(key);
        }
    }
    Ok(found)
}

/// The VIPs in the tables, by id.
fn vip_keys(dataplane: &DataPlane) -> Result<BTreeMap<u16, VipKey>> {
    let mut keys = BTreeMap::new();
    let add_list = |keys: &mut BTreeMap<u16, VipKey>, address, prefix_len, list| -> Result<()> {
        let list = dataplane.read_port_list(list)?;
        for range in list.ranges.iter().take_while(|range| range.vip != 0) {
            if let Some((ports, protocol)) = ports_of(range) {
                keys.insert(range.vip, VipKey { address, prefix_len, ports, protocol });
            }
        }
        Ok(())
    };
    for (key, target) in dataplane.read_vip_ids()? {
        let Some(protocol) = protocol_of((key.service >> 16) as u8) else { continue };
        if target.vip() != 0 {
            let port = u16::from_be(key.service as u16);
            keys.insert(target.vip(), VipKey::new(ip(key.address), port, protocol));
        }
        if target.list() != 0 {
            add_list(&mut keys, ip(key.address), None, target.list())?;
        }
    }
    for (key, list) in dataplane.read_prefixes()? {
        let length = u8::try_from(key.length).ok();
        add_list(&mut keys, IpAddr::from(key.address), length, list as u16)?;
    }
    Ok(keys)
}

fn protocol_of(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.number() == number)
}

fn ports_of(range: &PortRange) -> Option<(Ports, Protocol)> {
    let ports = match (range.first, range.last) {
        (0, _) => Ports::ALL,
        (first, last) => Ports::range(first, last)?,
    };
    Some((ports, protocol_of(range.protocol)?))
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

/// What the records depend on besides the plan.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The balancer is one-armed.
    pub onearm: bool,
    /// The switch ports by slot.
    pub ports: &'a BTreeMap<u16, PortRecord>,
    /// Timeouts and limits.
    pub connections: &'a ConnectionsConfig,
    /// Flags that a change of the balancer sets.
    pub handing: u32,
}

/// The settings for a plan.
pub fn settings(connections: &ConnectionsConfig, plan: &Plan) -> Settings {
    records::settings(connections, sys::processors(), plan)
}

/// Brings the maps from one plan to the next, in the order in which no packet meets a half-made state. Writes only what
/// differs; from the empty plan, which says nothing about what is in the maps, everything is compared with them.
pub fn apply(dataplane: &mut DataPlane, around: Around<'_>, old: &Plan, new: &Plan) -> Result<()> {
    let diff = old.diff(new);
    let everything = old.vips.is_empty();
    let (before, after) = (Services::of(old), Services::of(new));
    let (bits_before, bits_after) = (records::bitmap(old), records::bitmap(new));
    let bits_changed = everything || bits_before != bits_after;
    let wanted = settings(around.connections, new);
    let wanted = Settings { flags: wanted.flags | around.handing, ..wanted };
    let had = settings(around.connections, old);
    dataplane.write_settings(&Settings {
        flags: wanted.flags | (had.flags & settings_flag::PREFIXES),
        ..wanted
    })?;
    if bits_changed {
        let both: Vec<u64> = bits_before.iter().zip(&bits_after).map(|(a, b)| a | b).collect();
        dataplane.write_bitmap(&both)?;
    }
    // All of them, since a port may have changed under a backend that did not.
    for (id, backend) in &new.backends {
        dataplane.write_backend(*id, &records::backend_record(backend, around.ports))?;
    }
    if everything || before.backends != after.backends {
        dataplane.write_services(&after.backends)?;
    }
    if everything || before.clients != after.clients {
        dataplane.add_clients(&after.clients)?;
    }
    let touched: BTreeSet<u16> = diff.vips_set.iter().chain(&diff.rotations_set).copied().collect();
    for id in touched {
        let Some(vip) = new.vips.get(&id) else { continue };
        // The table before the record that admits its members, and before the services that lead to it.
        if diff.rotations_set.contains(&id) {
            dataplane.write_selection(id, &records::select_table(&vip.rotation))?;
        }
        dataplane.write_vip(id, &records::vip_record(vip, around.onearm))?;
    }
    // A list before what leads to it; one that nothing leads to any more may still be read, and stays.
    for (number, list) in &after.lists {
        dataplane.write_port_list(*number, list)?;
    }
    if everything || before.vips != after.vips {
        dataplane.write_vip_ids(&after.vips)?;
    }
    if everything || before.prefixes != after.prefixes {
        dataplane.write_prefixes(&after.prefixes)?;
    }
    for id in &diff.vips_gone {
        dataplane.write_vip(*id, &VipRecord::default())?;
    }
    for id in &diff.backends_gone {
        clear_backend(dataplane, *id)?;
    }
    if everything || before.clients != after.clients {
        dataplane.keep_clients(&after.clients)?;
    }
    if bits_changed {
        dataplane.write_bitmap(&bits_after)?;
    }
    dataplane.write_settings(&wanted)
}
