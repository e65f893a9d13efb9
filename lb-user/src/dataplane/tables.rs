//! Reading and writing the maps.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData, MapError, PerCpuArray};
use lb_core::host::slots;
use lb_core::reason::Reason;
use lb_core::table::{
    AclKey, BackendRecord, BackendSlot, GlobalCounter, PortList, PortRecord, PrefixKey, SERVICE_SLOTS,
    SelectTable, ServiceKey, ServiceRecord, Settings, TrafficCounter, VipRecord, VipSlot, VipTarget,
    port_flag,
};

use super::DataPlane;
use super::pod::Raw;

/// The counters that are not of one VIP or backend, summed over all processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What came in, and more.
    pub global: GlobalCounter,
    /// Packets by how they ended.
    pub reasons: BTreeMap<Reason, u64>,
}

macro_rules! map {
    ($self:ident, $kind:ident, $name:literal) => {
        $kind::try_from($self.ebpf.map($name).with_context(|| missing($name))?)
            .with_context(|| concat!("map ", $name))?
    };
    ($self:ident, mut $kind:ident<$value:ty>, $name:literal) => {
        $kind::<_, $value>::try_from($self.ebpf.map_mut($name).with_context(|| missing($name))?)
            .with_context(|| concat!("map ", $name))?
    };
    ($self:ident, mut $kind:ident<$key:ty, $value:ty>, $name:literal) => {
        $kind::<_, $key, $value>::try_from($self.ebpf.map_mut($name).with_context(|| missing($name))?)
            .with_context(|| concat!("map ", $name))?
    };
}

fn missing(name: &str) -> String {
    format!("the XDP object has no map {name}: build it with `cargo xtask build-ebpf`")
}

impl DataPlane {
    /// Writes the settings, if they differ from what is there.
    pub fn write_settings(&mut self, settings: &Settings) -> Result<()> {
        set(map!(self, mut Array<Raw<Settings>>, "SETTINGS"), 0u32, settings)
            .context("cannot write the settings")
    }

    /// Writes the words of the "is it ours?" bitmaps that differ from what is there.
    pub fn write_bitmap(&mut self, words: &[u64]) -> Result<()> {
        let mut map = map!(self, mut Array<u64>, "BITMAP");
        for (index, word) in (0u32..).zip(words) {
            if map.get(&index, 0)? != *word {
                map.set(index, *word, 0).context("cannot write the address bitmap")?;
            }
        }
        Ok(())
    }

    /// Writes a VIP's record, if it differs from what is there.
    pub fn write_vip(&mut self, id: u16, record: &VipRecord) -> Result<()> {
        set(map!(self, mut Array<Raw<VipRecord>>, "VIPS"), id, record)
            .with_context(|| format!("cannot write VIP {id}"))
    }

    /// The next round-robin tickets of these VIPs.
    pub fn read_tickets(&self, vips: impl Iterator<Item = u16>) -> Result<Vec<(u16, u32)>> {
        let map: Array<_, u64> = map!(self, Array, "TICKETS");
        vips.map(|vip| Ok((vip, map.get(&u32::from(vip), 0)? as u32))).collect()
    }

    /// A VIP's record.
    pub fn read_vip(&self, id: u16) -> Result<VipRecord> {
        let map: Array<_, Raw<VipRecord>> = map!(self, Array, "VIPS");
        Ok(map.get(&u32::from(id), 0)?.0)
    }

    /// Makes the VIPs' services exactly these; what serves already is not interrupted.
    pub fn write_vip_ids(&mut self, wanted: &BTreeMap<ServiceKey, VipTarget>) -> Result<()> {
        let map = map!(self, mut HashMap<Raw<ServiceKey>, Raw<VipTarget>>, "VIP_IDS");
        sync(map, wanted, |a, b| a.0 == *b, Raw, |v| Raw(*v), |k| k.0)
            .context("cannot write the VIPs' services")?;
        let slots: BTreeMap<u32, VipSlot> = slots::build(wanted);
        sync_slots(map!(self, mut Array<Raw<VipSlot>>, "VIP_SLOTS"), &slots).context("cannot write VIP_SLOTS")
    }

    /// The VIPs' services.
    pub fn read_vip_ids(&self) -> Result<BTreeMap<ServiceKey, VipTarget>> {
        let map: HashMap<_, Raw<ServiceKey>, Raw<VipTarget>> = map!(self, HashMap, "VIP_IDS");
        map.iter().map(|e| e.map(|(k, v)| (k.0, v.0)).map_err(Into::into)).collect()
    }

    /// Makes the backends' services exactly these.
    pub fn write_services(&mut self, wanted: &BTreeMap<ServiceKey, ServiceRecord>) -> Result<()> {
        let map = map!(self, mut HashMap<Raw<ServiceKey>, Raw<ServiceRecord>>, "SERVICES_OF");
        sync(map, wanted, |a, b| a.0 == *b, Raw, |v| Raw(*v), |k| k.0)
            .context("cannot write the backends' services")?;
        let slots: BTreeMap<u32, BackendSlot> = slots::build(wanted);
        let map = map!(self, mut Array<Raw<BackendSlot>>, "BACKEND_SLOTS");
        sync_slots(map, &slots).context("cannot write BACKEND_SLOTS")
    }

    /// Writes a backend's record, if it differs from what is there.
    pub fn write_backend(&mut self, id: u16, record: &BackendRecord) -> Result<()> {
        set(map!(self, mut Array<Raw<BackendRecord>>, "BACKENDS"), id, record)
            .with_context(|| format!("cannot write backend {id}"))
    }

    /// A backend's record.
    pub fn read_backend(&self, id: u16) -> Result<BackendRecord> {
        let map: Array<_, Raw<BackendRecord>> = map!(self, Array, "BACKENDS");
        Ok(map.get(&u32::from(id), 0)?.0)
    }

    /// Writes a list of port ranges, if it differs from what is there.
    pub fn write_port_list(&mut self, number: u16, list: &PortList) -> Result<()> {
        set(map!(self, mut Array<Raw<PortList>>, "PORT_LISTS"), number, list)
            .with_context(|| format!("cannot write list {number} of port ranges"))
    }

    /// A list of port ranges.
    pub fn read_port_list(&self, number: u16) -> Result<PortList> {
        let map: Array<_, Raw<PortList>> = map!(self, Array, "PORT_LISTS");
        Ok(map.get(&u32::from(number), 0)?.0)
    }

    /// Makes the VIP prefixes exactly these, each with the number of its list.
    pub fn write_prefixes(&mut self, wanted: &BTreeMap<PrefixKey, u32>) -> Result<()> {
        let mut map = map!(self, mut LpmTrie<[u8; 16], u32>, "PREFIXES");
        let wanted: Vec<_> =
            wanted.iter().map(|(key, list)| (Key::new(key.length, key.address), *list)).collect();
        add_prefixes(&mut map, &wanted).context("cannot write the VIP prefixes")?;
        keep_prefixes(&mut map, &wanted).context("cannot remove VIP prefixes")
    }

    /// The VIP prefixes, each with the number of its list.
    pub fn read_prefixes(&self) -> Result<BTreeMap<PrefixKey, u32>> {
        let map: LpmTrie<_, [u8; 16], u32> = map!(self, LpmTrie, "PREFIXES");
        map.iter()
            .map(|entry| {
                let (key, list) = entry?;
                Ok((PrefixKey { length: key.prefix_len(), address: key.data() }, list))
            })
            .collect()
    }

    /// Adds these entries to the lists of clients, and changes those that differ.
    pub fn add_clients(&mut self, wanted: &BTreeMap<AclKey, u32>) -> Result<()> {
        let mut map = map!(self, mut LpmTrie<[u8; 20], u32>, "ACL");
        add_prefixes(&mut map, &client_keys(wanted)).context("cannot write the lists of clients")
    }

    /// Removes all entries but these from the lists of clients.
    pub fn keep_clients(&mut self, wanted: &BTreeMap<AclKey, u32>) -> Result<()> {
        let mut map = map!(self, mut LpmTrie<[u8; 20], u32>, "ACL");
        keep_prefixes(&mut map, &client_keys(wanted)).context("cannot remove from the lists of clients")
    }

    /// Swaps a VIP's selection table: a packet sees the old one or the new one, whole.
    pub fn write_selection(&mut self, vip: u16, table: &SelectTable) -> Result<()> {
        let mut inner =
            Array::<MapData, Raw<SelectTable>>::create(1, 0).context("cannot create a selection table")?;
        inner.set(0, Raw(*table), 0).context("cannot fill a selection table")?;
        let map = self.ebpf.map_mut("SELECTION").with_context(|| missing("SELECTION"))?;
        let mut outer: ArrayOfMaps<&mut MapData, Array<MapData, Raw<SelectTable>>> =
            map.try_into().context("map SELECTION")?;
        outer
            .set(u32::from(vip), &inner, 0)
            .with_context(|| format!("cannot swap the selection table of VIP {vip}"))
    }

    /// Writes a port: where its frames are redirected to, its record, its slot, in this order. Redirect targets are
    /// interfaces of this namespace; a port without the flag may be in another one, where its index means another.
    pub fn write_port(&mut self, slot: u16, record: &PortRecord) -> Result<()> {
        let index = u32::from(slot);
        if record.flags & port_flag::REDIRECT != 0 {
            let map = self.ebpf.map_mut("DEVICES").with_context(|| missing("DEVICES"))?;
            let mut devices = DevMap::try_from(map).context("map DEVICES")?;
            devices
                .set(index, record.ifindex, None, 0)
                .with_context(|| format!("cannot make interface {} a redirect target", record.ifindex))?;
        }
        let old = {
            let mut ports = map!(self, mut Array<Raw<PortRecord>>, "PORTS");
            let old = ports.get(&index, 0)?.0;
            ports.set(index, Raw(*record), 0).context("cannot write a port")?;
            old
        };
        if old.ifindex != record.ifindex {
            self.forget_slot(old.ifindex, index)?;
        }
        let mut slots = map!(self, mut HashMap<u32, u32>, "PORT_SLOTS");
        slots.insert(record.ifindex, index, 0).context("cannot write a port's slot")
    }

    /// Forgets that an interface has this slot, where it has.
    fn forget_slot(&mut self, ifindex: u32, slot: u32) -> Result<()> {
        let mut slots = map!(self, mut HashMap<u32, u32>, "PORT_SLOTS");
        if slots.get(&ifindex, 0).is_ok_and(|had| had == slot) {
            slots.remove(&ifindex).context("cannot clear a port's slot")?;
        }
        Ok(())
    }

    /// Forgets a port. The kernel itself clears the redirect target of an interface that has gone.
    pub fn clear_port(&mut self, slot: u16) -> Result<()> {
        let old = {
            let mut ports = map!(self, mut Array<Raw<PortRecord>>, "PORTS");
            let old = ports.get(&u32::from(slot), 0)?.0;
            ports.set(u32::from(slot), Raw(PortRecord::default()), 0).context("cannot clear a port")?;
            old
        };
        self.forget_slot(old.ifindex, u32::from(slot))
    }

    /// The slot of every interface that has one.
    pub fn read_port_slots(&self) -> Result<BTreeMap<u32, u32>> {
        let map: HashMap<_, u32, u32> = map!(self, HashMap, "PORT_SLOTS");
        map.iter().map(|e| e.map_err(Into::into)).collect()
    }

    /// The ports by slot.
    pub fn read_ports(&self) -> Result<BTreeMap<u16, PortRecord>> {
        let map: Array<_, Raw<PortRecord>> = map!(self, Array, "PORTS");
        let mut ports = BTreeMap::new();
        for (slot, record) in (0u16..).zip(map.iter()) {
            let record = record?.0;
            if slot != 0 && record.ifindex != 0 {
                ports.insert(slot, record);
            }
        }
        Ok(ports)
    }

    /// The counters that are not of one VIP or backend.
    pub fn counters(&self) -> Result<Counters> {
        // Reasons before what came in: a packet counted between both reads is one that has not ended yet.
        let map: PerCpuArray<_, u64> = map!(self, PerCpuArray, "REASONS");
        let mut reasons = BTreeMap::new();
        for &reason in Reason::ALL {
            reasons.insert(reason, map.get(&reason.index(), 0)?.iter().sum());
        }
        let map: PerCpuArray<_, Raw<GlobalCounter>> = map!(self, PerCpuArray, "GLOBALS");
        let mut global = GlobalCounter::default();
        for cpu in map.get(&0, 0)?.iter() {
            global.received += cpu.0.received;
            global.partial_checksums += cpu.0.partial_checksums;
        }
        Ok(Counters { global, reasons })
    }

    /// A VIP's traffic.
    pub fn vip_traffic(&self, id: u16) -> Result<TrafficCounter> {
        sum_traffic(&map!(self, PerCpuArray, "VIP_TRAFFIC"), id)
    }

    /// A backend's traffic.
    pub fn backend_traffic(&self, id: u16) -> Result<TrafficCounter> {
        sum_traffic(&map!(self, PerCpuArray, "BACKEND_TRAFFIC"), id)
    }
}

fn sum_traffic(map: &PerCpuArray<&MapData, Raw<TrafficCounter>>, id: u16) -> Result<TrafficCounter> {
    let mut sum = TrafficCounter::default();
    for Raw(cpu) in map.get(&u32::from(id), 0)?.iter() {
        sum.packets_in += cpu.packets_in;
        sum.bytes_in += cpu.bytes_in;
        sum.packets_out += cpu.packets_out;
        sum.bytes_out += cpu.bytes_out;
        sum.opened += cpu.opened;
        sum.dropped += cpu.dropped;
        sum.last_alive = sum.last_alive.max(cpu.last_alive);
    }
    Ok(sum)
}

/// Writes a slot of an array, if it differs from what is there.
fn set<T: Copy + PartialEq>(
    mut map: Array<&mut MapData, Raw<T>>,
    index: impl Into<u32>,
    value: &T,
) -> Result<(), MapError>
where
    Raw<T>: Pod,
{
    let index = index.into();
    if map.get(&index, 0)?.0 == *value { Ok(()) } else { map.set(index, Raw(*value), 0) }
}

/// The keys of the lists of clients as the kernel's longest prefix match has them: VIP and address in one.
fn client_keys(wanted: &BTreeMap<AclKey, u32>) -> Vec<(Key<[u8; 20]>, u32)> {
    let key = |key: &AclKey| {
        let mut data = [0; 20];
        data[..4].copy_from_slice(&key.vip.to_ne_bytes());
        data[4..].copy_from_slice(&key.address.octets());
        Key::new(key.length, data)
    };
    wanted.iter().map(|(acl, verdict)| (key(acl), *verdict)).collect()
}

/// Inserts what is not there and changes what differs. A look-up would find the longest prefix, not the entry: the
/// entries are listed.
fn add_prefixes<K: Pod + Ord>(
    map: &mut LpmTrie<&mut MapData, K, u32>,
    wanted: &[(Key<K>, u32)],
) -> Result<(), MapError> {
    let there = entries(map)?;
    for (key, value) in wanted {
        if there.get(&(key.prefix_len(), key.data())) != Some(value) {
            map.insert(key, *value, 0)?;
        }
    }
    Ok(())
}

/// Removes what is not wanted.
fn keep_prefixes<K: Pod + Ord>(
    map: &mut LpmTrie<&mut MapData, K, u32>,
    wanted: &[(Key<K>, u32)],
) -> Result<(), MapError> {
    let wanted: BTreeSet<(u32, K)> = wanted.iter().map(|(key, _)| (key.prefix_len(), key.data())).collect();
    for (length, data) in entries(map)?.into_keys().filter(|key| !wanted.contains(key)) {
        map.remove(&Key::new(length, data))?;
    }
    Ok(())
}

fn entries<K: Pod + Ord>(map: &LpmTrie<&mut MapData, K, u32>) -> Result<BTreeMap<(u32, K), u32>, MapError> {
    map.iter().map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value))).collect()
}

/// Makes a hash map hold exactly `wanted`: new and changed entries first, then those that went.
fn sync<K: Pod, V: Pod, CK: Ord + Copy, CV>(
    mut map: HashMap<&mut MapData, K, V>,
    wanted: &BTreeMap<CK, CV>,
    same: impl Fn(&V, &CV) -> bool,
    raw_key: impl Fn(CK) -> K,
    raw_value: impl Fn(&CV) -> V,
    core_key: impl Fn(&K) -> CK,
) -> Result<()> {
    for (key, value) in wanted {
        let raw = raw_key(*key);
        if !map.get(&raw, 0).is_ok_and(|old| same(&old, value)) {
            map.insert(raw, raw_value(value), 0)?;
        }
    }
    let stale: Vec<K> = map.keys().collect::<Result<_, _>>()?;
    for key in stale.iter().filter(|key| !wanted.contains_key(&core_key(key))) {
        map.remove(key)?;
    }
    Ok(())
}

/// Makes a direct-mapped table hold exactly `wanted`; slots that do not change are not touched.
fn sync_slots<S: slots::Slot + Default>(
    mut map: Array<&mut MapData, Raw<S>>,
    wanted: &BTreeMap<u32, S>,
) -> Result<(), MapError>
where
    Raw<S>: Pod,
{
    for index in 0..SERVICE_SLOTS as u32 {
        let new = wanted.get(&index).copied().unwrap_or_default();
        if map.get(&index, 0)?.0 != new {
            map.set(index, Raw(new), 0)?;
        }
    }
    Ok(())
}
