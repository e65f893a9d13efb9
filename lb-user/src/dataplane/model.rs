//! The pinned tables as the core's model on the host.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use lb_core::model::Model;
use lb_core::table::{
    AclKey, Address, AffinityValue, BackendRecord, ClientKey, ConnKey, PortList, PortRecord, PrefixKey,
    SelectTable, ServiceKey, ServiceRecord, Settings, SnatValue, Tables, VipRecord, VipTarget, backend_state,
};

use super::pod::Raw;
use super::{ConnTable, Pins, Place};
use crate::io::bpf::{self, Plain, Position};

/// Connections that a model takes up beside those that are in the table.
const NEW_CONNECTIONS: usize = 4096;

/// Reads the tables under `pins`, of the connections those that are `wanted`.
///
/// # Errors
/// A table is not there or cannot be read.
pub fn read_model(pins: &Pins, wanted: impl Fn(&ConnKey) -> bool) -> Result<Model> {
    let (mut connections, mut half_open) = (Vec::new(), Vec::new());
    let mut next = Some(Place::default());
    let mut conns = ConnTable::open(pins)?;
    while let Some(place) = next {
        let list = if place.is_half_open() { &mut half_open } else { &mut connections };
        next = conns.read(place, |key, value| {
            if wanted(key) {
                list.push((*key, *value));
            }
        })?;
    }
    let settings: Settings =
        all::<u32, Settings>(pins, "SETTINGS")?.pop().context("the map SETTINGS is empty")?.1;
    let mut model = Model::new(settings, connections.len().max(half_open.len()) + NEW_CONNECTIONS);
    for (key, target) in all::<ServiceKey, VipTarget>(pins, "VIP_IDS")? {
        model.serve(key, target);
    }
    for (id, vip) in by_id::<VipRecord>(pins, "VIPS")?.filter(|(_, vip)| vip.mode != 0) {
        model.vips.insert(id, vip);
    }
    model.services.extend(all::<ServiceKey, ServiceRecord>(pins, "SERVICES_OF")?);
    for (id, record) in by_id::<BackendRecord>(pins, "BACKENDS")? {
        if record.state != backend_state::ABSENT {
            model.put_backend(id, record);
        }
    }
    for (slot, port) in by_id::<PortRecord>(pins, "PORTS")?.filter(|(slot, p)| *slot != 0 && p.ifindex != 0) {
        model.ports.insert(slot, port);
    }
    for (vip, ticket) in by_id::<u64>(pins, "TICKETS")?.filter(|(_, ticket)| *ticket != 0) {
        model.set_ticket(vip, ticket as u32);
    }
    model.set_bitmap(by_id::<u64>(pins, "BITMAP")?.map(|(_, word)| word).collect());
    let selections = Map::ArrayOfMaps(open(pins, "SELECTION")?);
    let selections: ArrayOfMaps<&MapData, Array<MapData, Raw<SelectTable>>> =
        (&selections).try_into().context("map SELECTION")?;
    for vip in model.vips.keys() {
        // A VIP that was never given a table has nobody in rotation.
        let Ok(inner) = selections.get(&u32::from(*vip), 0) else { continue };
        let table =
            inner.get(&0, 0).with_context(|| format!("cannot read the selection table of VIP {vip}"))?;
        model.selections.insert(*vip, Box::new(table.0));
    }
    for (key, value) in connections {
        model.conn_insert(&key, &value);
    }
    for (key, value) in half_open {
        model.half_open_insert(&key, &value);
    }
    read_surroundings(pins, &mut model)?;
    Ok(model)
}

/// What decides beside VIPs, backends and connections: lists, loads, lent ports, affinity.
fn read_surroundings(pins: &Pins, model: &mut Model) -> Result<()> {
    model.port_lists.extend(by_id::<PortList>(pins, "PORT_LISTS")?);
    model.loads.borrow_mut().extend(by_id::<u64>(pins, "LOADS")?.map(|(id, load)| (id, load as i64)));
    for table in ["HALF_SNATS", "SNATS"] {
        for (key, value) in all::<ConnKey, SnatValue>(pins, table)? {
            model.snat_insert(&key, &value, false, true);
        }
    }
    for (key, value) in all::<ClientKey, AffinityValue>(pins, "AFFINITY")? {
        model.affinity_set(&key, &value);
    }
    let map = Map::LpmTrie(open(pins, "PREFIXES")?);
    let prefixes: LpmTrie<&MapData, [u8; 16], u32> = (&map).try_into().context("map PREFIXES")?;
    for entry in prefixes.iter() {
        let (key, list) = entry.context("cannot read the VIP prefixes")?;
        let key = PrefixKey { length: key.prefix_len(), address: key.data() };
        model.prefixes.insert(key, list as u16);
    }
    let map = Map::LpmTrie(open(pins, "ACL")?);
    let acl: LpmTrie<&MapData, [u8; 20], u32> = (&map).try_into().context("map ACL")?;
    for entry in acl.iter() {
        let (key, verdict) = entry.context("cannot read the lists of clients")?;
        let [a, b, c, d, address @ ..] = key.data();
        let vip = u32::from_ne_bytes([a, b, c, d]);
        model
            .acl
            .insert(AclKey { length: key.prefix_len(), vip, address: Address::from_v6(address) }, verdict);
    }
    Ok(())
}

fn open(pins: &Pins, name: &str) -> Result<MapData> {
    MapData::from_pin(pins.map(name)).with_context(|| format!("cannot open the map {name}"))
}

/// All entries of a map.
fn all<K: Plain, V: Plain>(pins: &Pins, name: &str) -> Result<Vec<(K, V)>> {
    let map = open(pins, name)?;
    let room = map.info().with_context(|| format!("map {name}"))?.max_entries() as usize;
    let (mut keys, mut values) = (vec![bpf::zeroed(); room], vec![bpf::zeroed(); room]);
    let mut entries = Vec::new();
    let mut next = Some(Position::default());
    while let Some(from) = next {
        let read = bpf::lookup_batch(map.fd().as_fd(), from, &mut keys, &mut values)
            .with_context(|| format!("cannot read the map {name}"))?;
        entries.extend(keys.iter().copied().zip(values.iter().copied()).take(read.count));
        next = read.next;
    }
    Ok(entries)
}

/// All slots of an array.
fn by_id<V: Plain>(pins: &Pins, name: &str) -> Result<impl Iterator<Item = (u16, V)>> {
    Ok(all::<u32, V>(pins, name)?.into_iter().map(|(index, value)| (index as u16, value)))
}
