//! A scenario into the program's tables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use aya::maps::lpm_trie::{Key as PrefixOf, LpmTrie};
use aya::maps::of_maps::ArrayOfMaps;
use aya::maps::{Array, MapData};
use lb_core::host::slots;
use lb_core::table::{
    AclKey, BackendRecord, BackendSlot, PortRecord, PrefixKey, SelectTable, ServiceRecord, Settings,
    VipRecord, VipSlot, VipTarget,
};

use super::Program;
use crate::pod::Raw;
use crate::scenario::Scenario;
use crate::tables::{Records, select_table};

impl Program {
    /// Makes the tables those of another scenario; connections and counters stay.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn change(&mut self, scenario: &Scenario) -> Result<()> {
        let records = Records::of(scenario);
        self.array::<Settings>("SETTINGS")?.set(0, Raw(records.settings), 0)?;
        self.write_bitmap(&records)?;
        self.write_hashes(&records)?;

        let mut vips = self.array::<VipRecord>("VIPS")?;
        for (id, record) in &records.vips {
            vips.set(u32::from(*id), Raw(*record), 0)?;
        }
        for id in std::mem::take(&mut self.written.vips) {
            if !records.vips.contains_key(&id) {
                self.array("VIPS")?.set(u32::from(id), Raw(VipRecord::default()), 0)?;
            }
        }
        let mut backends = self.array::<BackendRecord>("BACKENDS")?;
        for (id, record) in &records.backends {
            backends.set(u32::from(*id), Raw(*record), 0)?;
        }
        for id in std::mem::take(&mut self.written.backends) {
            if !records.backends.contains_key(&id) {
                self.array("BACKENDS")?.set(u32::from(id), Raw(BackendRecord::default()), 0)?;
            }
        }
        for (vip, ring) in &records.rings {
            self.write_ring(*vip, ring)?;
        }
        self.write_ports(&records)?;
        self.write_lists(&records)?;
        self.written.vips = records.vips.keys().copied().collect();
        self.written.backends = records.backends.keys().copied().collect();
        self.written.counted.0.extend(records.vips.keys().chain([&0]));
        self.written.counted.1.extend(records.backends.keys().chain([&0]));
        self.scenario = scenario.clone();
        Ok(())
    }

    /// Writes a VIP's selection table where it is new: into the table that it has, since a swap of tables waits for all
    /// processors, and nobody reads here meanwhile.
    fn write_ring(&mut self, vip: u16, ring: &[u16]) -> Result<()> {
        if self.written.rings.get(&vip).is_some_and(|written| written == ring) {
            return Ok(());
        }
        self.written.rings.insert(vip, ring.to_vec());
        let table = Raw(*select_table(ring));
        if let Some(inner) = self.selections.get_mut(&vip) {
            return Ok(inner.set(0, table, 0)?);
        }
        let mut inner = Array::create(1, 0)?;
        inner.set(0, table, 0)?;
        let mut outer: ArrayOfMaps<_, Array<MapData, Raw<SelectTable>>> =
            ArrayOfMaps::try_from(self.map("SELECTION")?)?;
        outer.set(u32::from(vip), &inner, 0)?;
        self.selections.insert(vip, inner);
        Ok(())
    }

    /// Bits are only ever added, as by the daemon between two rebuilds.
    fn write_bitmap(&mut self, records: &Records) -> Result<()> {
        for (word, bits) in &records.bitmap {
            let all = self.written.bitmap.entry(*word).or_default();
            *all |= bits;
            let all = *all;
            self.array::<u64>("BITMAP")?.set(*word, Raw(all), 0)?;
        }
        Ok(())
    }

    fn write_hashes(&mut self, records: &Records) -> Result<()> {
        for key in std::mem::take(&mut self.written.vip_ids) {
            self.hash::<_, VipTarget>("VIP_IDS")?.remove(&Raw(key))?;
        }
        for key in std::mem::take(&mut self.written.services) {
            self.hash::<_, ServiceRecord>("SERVICES_OF")?.remove(&Raw(key))?;
        }
        for (key, target) in &records.vip_ids {
            self.hash("VIP_IDS")?.insert(Raw(*key), Raw(*target), 0)?;
            self.written.vip_ids.push(*key);
        }
        for (key, record) in &records.services {
            self.hash("SERVICES_OF")?.insert(Raw(*key), Raw(*record), 0)?;
            self.written.services.push(*key);
        }
        let vips: BTreeMap<u32, VipSlot> = slots::build(&records.vip_ids);
        let backends: BTreeMap<u32, BackendSlot> = slots::build(&records.services);
        let mut map = self.array("VIP_SLOTS")?;
        for (index, slot) in &vips {
            map.set(*index, Raw(*slot), 0)?;
        }
        let mut map = self.array("BACKEND_SLOTS")?;
        for (index, slot) in &backends {
            map.set(*index, Raw(*slot), 0)?;
        }
        let (vips, backends): (BTreeSet<u32>, BTreeSet<u32>) =
            (vips.into_keys().collect(), backends.into_keys().collect());
        for index in self.written.vip_slots.difference(&vips).copied().collect::<Vec<_>>() {
            self.array("VIP_SLOTS")?.set(index, Raw(VipSlot::default()), 0)?;
        }
        for index in self.written.backend_slots.difference(&backends).copied().collect::<Vec<_>>() {
            self.array("BACKEND_SLOTS")?.set(index, Raw(BackendSlot::default()), 0)?;
        }
        (self.written.vip_slots, self.written.backend_slots) = (vips, backends);
        Ok(())
    }

    fn write_lists(&mut self, records: &Records) -> Result<()> {
        for (number, list) in &records.port_lists {
            self.array("PORT_LISTS")?.set(u32::from(*number), Raw(*list), 0)?;
        }
        let of_prefix = |key: &PrefixKey| PrefixOf::new(key.length, key.address);
        let of_acl = |key: &AclKey| {
            let mut data = [0; 20];
            data[..4].copy_from_slice(&key.vip.to_ne_bytes());
            data[4..].copy_from_slice(&key.address.octets());
            PrefixOf::new(key.length, data)
        };
        for key in std::mem::take(&mut self.written.prefixes) {
            self.trie::<16>("PREFIXES")?.remove(&of_prefix(&key))?;
        }
        for key in std::mem::take(&mut self.written.acl) {
            self.trie::<20>("ACL")?.remove(&of_acl(&key))?;
        }
        for (key, list) in &records.prefixes {
            self.trie::<16>("PREFIXES")?.insert(&of_prefix(key), u32::from(*list), 0)?;
            self.written.prefixes.push(*key);
        }
        for (key, verdict) in &records.acl {
            self.trie::<20>("ACL")?.insert(&of_acl(key), verdict, 0)?;
            self.written.acl.push(*key);
        }
        // A count replaces what the program kept since the last one.
        for (id, load) in &records.loads {
            if self.written.loads.get(id) != Some(load) {
                self.array("LOADS")?.set(u32::from(*id), Raw(u64::from(*load)), 0)?;
            }
        }
        self.written.loads.clone_from(&records.loads);
        Ok(())
    }

    fn trie<const N: usize>(&mut self, name: &str) -> Result<LpmTrie<&mut MapData, [u8; N], u32>>
    where
        [u8; N]: aya::Pod,
    {
        Ok(LpmTrie::try_from(self.map(name)?)?)
    }

    fn write_ports(&mut self, records: &Records) -> Result<()> {
        for (slot, ifindex) in std::mem::take(&mut self.written.ports) {
            self.array("PORTS")?.set(u32::from(slot), Raw(PortRecord::default()), 0)?;
            self.hash::<u32, u32>("PORT_SLOTS")?.remove(&Raw(ifindex))?;
        }
        for (slot, record) in &records.ports {
            self.array("PORTS")?.set(u32::from(*slot), Raw(*record), 0)?;
            self.hash("PORT_SLOTS")?.insert(Raw(record.ifindex), Raw(u32::from(*slot)), 0)?;
            self.written.ports.push((*slot, record.ifindex));
        }
        Ok(())
    }
}
