//! A scenario as the records of the tables, for the two sides that share them: the program and the host model.

use std::collections::BTreeMap;

use lb_core::conn;
use lb_core::table::{
    Address, BITMAP_BITS, BackendRecord, ConnKey, ConnValue, MAGLEV_SLOTS, PortRecord, SCHEMA_VERSION,
    SERVICE_VIPS, SelectTable, ServiceKey, ServiceRecord, ServiceVip, Settings, TrafficCounter, VipRecord,
    VipTarget, backend_flag, backend_state, mode, port_flag, selection, vip_flag,
};

use crate::counters::{Connection, Counters, Flags};
use crate::scenario::{Mode, Scenario, Selection, State, Vip};

/// All tables of a scenario.
#[derive(Debug)]
pub struct Records {
    /// The settings.
    pub settings: Settings,
    /// VIP ids by what they serve.
    pub vip_ids: BTreeMap<ServiceKey, VipTarget>,
    /// VIPs by id.
    pub vips: BTreeMap<u16, VipRecord>,
    /// Backend services.
    pub services: BTreeMap<ServiceKey, ServiceRecord>,
    /// Backends by id.
    pub backends: BTreeMap<u16, BackendRecord>,
    /// Selection tables by VIP.
    pub selections: BTreeMap<u16, Box<SelectTable>>,
    /// Ports by slot.
    pub ports: BTreeMap<u16, PortRecord>,
    /// Words of the bitmaps that are not zero.
    pub bitmap: BTreeMap<u32, u64>,
}

impl Records {
    /// The records of a scenario.
    ///
    /// # Panics
    /// More VIPs share a service than a record holds.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        let mut records = Self {
            settings: settings(scenario),
            vip_ids: BTreeMap::new(),
            vips: BTreeMap::new(),
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            selections: BTreeMap::new(),
            ports: BTreeMap::new(),
            bitmap: BTreeMap::new(),
        };
        for vip in &scenario.vips {
            records.add_vip(vip);
        }
        for ((address, port, protocol), list) in scenario.services() {
            assert!(list.len() <= SERVICE_VIPS, "{address:?}:{port} answers for too many VIPs");
            let mut record = ServiceRecord::default();
            for (place, (vip, vip_port)) in record.vips.iter_mut().zip(&list) {
                *place = ServiceVip { vip: *vip, port: vip_port.to_be() };
            }
            let key = ServiceKey::new(Address::from_v4(address), port.to_be(), protocol.number());
            records.services.insert(key, record);
        }
        for b in &scenario.backends {
            let port = scenario.ports.iter().find(|p| p.slot == b.slot);
            let redirect = port.is_some_and(|p| p.redirect);
            let record = BackendRecord {
                address: Address::from_v4(b.address),
                mac: b.mac,
                state: state_number(b.state),
                flags: if b.shared { backend_flag::SHARED } else { 0 }
                    | if redirect { backend_flag::REDIRECT } else { 0 },
                port: b.port.to_be(),
                slot: b.slot,
                generation: b.generation,
                vip: b.vip,
                ifindex: port.map_or(0, |p| p.ifindex),
                switch: port.map_or(0, |p| p.switch),
                weight: 1,
            };
            records.mark(BITMAP_BITS / 64, record.address);
            records.backends.insert(b.id, record);
        }
        for p in &scenario.ports {
            let flags = if p.redirect { port_flag::REDIRECT } else { 0 };
            records.ports.insert(p.slot, PortRecord { ifindex: p.ifindex, switch: p.switch, flags });
        }
        for stray in &scenario.stray_bits {
            records.mark(0, Address::from_v4(*stray));
            records.mark(BITMAP_BITS / 64, Address::from_v4(*stray));
        }
        records
    }

    fn add_vip(&mut self, vip: &Vip) {
        let address = Address::from_v4(vip.address);
        self.mark(0, address);
        // The first VIP of an address stands for the address as such.
        self.vip_ids.entry(ServiceKey::of_address(address)).or_insert(VipTarget::new(vip.id, 0));
        for (protocol, port) in &vip.services {
            self.vip_ids
                .insert(ServiceKey::new(address, port.to_be(), protocol.number()), VipTarget::new(vip.id, 0));
        }
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let record = VipRecord {
            address,
            mac: vip.mac,
            mode: match vip.mode {
                Mode::Nat => mode::NAT,
                Mode::Dsr => mode::DSR,
            },
            selection: match vip.selection {
                Selection::Random => selection::RANDOM,
                Selection::RoundRobin => selection::ROUND_ROBIN,
                Selection::Maglev => selection::MAGLEV,
            },
            flags: flag(vip.repick, vip_flag::REPICK)
                | flag(vip.transmit, vip_flag::TRANSMIT)
                | flag(vip.last_known, vip_flag::LAST_KNOWN),
            ..VipRecord::default()
        };
        self.vips.insert(vip.id, record);
        self.selections.insert(vip.id, select_table(&vip.ring));
    }

    fn mark(&mut self, first_word: u32, address: Address) {
        let bit = address.bitmap_bit();
        *self.bitmap.entry(first_word + bit / 64).or_default() |= 1 << (bit % 64);
    }
}

fn settings(scenario: &Scenario) -> Settings {
    let t = scenario.timeouts;
    let mut timeouts = [0; 8];
    for (state, ticks) in [
        (conn::state::SYN, t.syn),
        (conn::state::ESTABLISHED, t.established),
        (conn::state::CLOSING, t.closing),
        (conn::state::CLOSED, t.closed),
        (conn::state::UDP, t.udp),
    ] {
        timeouts[usize::from(state)] = ticks;
    }
    Settings { schema: SCHEMA_VERSION, suspect_timeout: t.suspect, timeouts, ..Settings::default() }
}

const fn state_number(state: State) -> u8 {
    match state {
        State::Up => backend_state::UP,
        State::Down => backend_state::DOWN,
        State::Draining => backend_state::DRAINING,
        State::Disabled => backend_state::DISABLED,
    }
}

fn select_table(ring: &[u16]) -> Box<SelectTable> {
    let mut table = Box::new(SelectTable::EMPTY);
    let members = Scenario::members(ring);
    table.ring_len = ring.len() as u32;
    table.ring[..ring.len()].copy_from_slice(ring);
    table.member_count = members.len() as u32;
    table.members[..members.len()].copy_from_slice(&members);
    table.maglev_len = if members.is_empty() { 0 } else { MAGLEV_SLOTS as u32 };
    // As Scenario::maglev has it.
    for run in table.maglev[..MAGLEV_SLOTS].chunks_mut(members.len().max(1)) {
        let length = run.len().min(members.len());
        run[..length].copy_from_slice(&members[..length]);
    }
    table
}

/// An entry of the connection table in words.
#[must_use]
pub fn connection(key: &ConnKey, value: &ConnValue) -> Connection {
    let [.., a, b, c, d] = key.client.octets();
    let has = |bit: u8| value.flags & bit != 0;
    Connection {
        client: [a, b, c, d],
        client_port: u16::from_be(key.client_port()),
        vip: key.vip(),
        vip_port: u16::from_be(key.vip_port()),
        protocol: key.protocol(),
        backend: value.backend,
        generation: value.generation,
        state: conn::state_name(value.state),
        flags: Flags {
            answered: has(conn::flag::ANSWERED),
            client_fin: has(conn::flag::CLIENT_FIN),
            backend_fin: has(conn::flag::BACKEND_FIN),
            suspect: has(conn::flag::SUSPECT),
            client_seq: has(conn::flag::CLIENT_SEQ),
            backend_seq: has(conn::flag::BACKEND_SEQ),
        },
        client_slot: value.client_slot,
        last_seen: value.last_seen,
        client_next: value.client_next,
        backend_next: value.backend_next,
    }
}

/// Adds a traffic counter's fields that are not zero.
pub fn add_traffic(out: &mut Counters, owner: &str, id: u16, c: &TrafficCounter) {
    for (name, value) in [
        ("packets_in", c.packets_in),
        ("bytes_in", c.bytes_in),
        ("packets_out", c.packets_out),
        ("bytes_out", c.bytes_out),
        ("opened", c.opened),
        ("dropped", c.dropped),
        ("last_alive", c.last_alive),
    ] {
        if value != 0 {
            out.insert(format!("{owner}:{id}:{name}"), value);
        }
    }
}
