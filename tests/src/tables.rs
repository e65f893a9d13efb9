//! A scenario as the records of the tables, for the two sides that share them: the program and the host model.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_core::conn;
use lb_core::table::{
    AclKey, Address, BITMAP_BITS, BackendRecord, ConnKey, ConnValue, LIST_RANGES, MAGLEV_SLOTS, PortList,
    PortRange, PortRecord, PrefixKey, SCHEMA_VERSION, SERVICE_VIPS, SelectTable, ServiceKey, ServiceRecord,
    ServiceVip, Settings, TrafficCounter, VipRecord, VipTarget, backend_flag, backend_state, mode, port_flag,
    selection, settings_flag, verdict, vip_flag,
};

use crate::counters::{Connection, Counters, Flags};
use crate::frame::Ip;
use crate::scenario::{Handing, Mode, OnDown, Protocol, Scenario, Selection, State, Vip};

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
    /// Rings by VIP: a [`select_table`] is built only where one is new.
    pub rings: BTreeMap<u16, Vec<u16>>,
    /// Ports by slot.
    pub ports: BTreeMap<u16, PortRecord>,
    /// Words of the bitmaps that are not zero.
    pub bitmap: BTreeMap<u32, u64>,
    /// Lists of port ranges by number.
    pub port_lists: BTreeMap<u16, PortList>,
    /// The list of each VIP prefix.
    pub prefixes: BTreeMap<PrefixKey, u16>,
    /// Allow and deny lists.
    pub acl: BTreeMap<AclKey, u32>,
    /// Live connections by backend.
    pub loads: BTreeMap<u16, u32>,
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
            rings: BTreeMap::new(),
            ports: BTreeMap::new(),
            bitmap: BTreeMap::new(),
            port_lists: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            acl: BTreeMap::new(),
            loads: scenario.backends.iter().map(|b| (b.id, b.load)).collect(),
        };
        for vip in &scenario.vips {
            records.add_vip(vip);
            records.add_lists(scenario, vip);
        }
        for vip in scenario.vips.iter().filter(|v| v.mode == Mode::FullNat) {
            let lent = address(vip.source.unwrap_or(vip.address));
            records.mark(0, lent);
            records.vip_ids.entry(ServiceKey::of_address(lent)).or_insert(VipTarget::new(vip.id, 0));
        }
        for ((service, port, protocol), list) in scenario.services() {
            assert!(list.len() <= SERVICE_VIPS, "{service}:{port} answers for too many VIPs");
            let mut record = ServiceRecord::default();
            for (place, (vip, vip_port)) in record.vips.iter_mut().zip(&list) {
                *place = ServiceVip { vip: *vip, port: vip_port.to_be() };
            }
            let key = ServiceKey::new(address(service), port.to_be(), protocol.number());
            records.services.insert(key, record);
        }
        for b in &scenario.backends {
            let port = scenario.ports.iter().find(|p| p.slot == b.slot);
            let redirect = port.is_some_and(|p| p.redirect);
            let record = BackendRecord {
                address: address(b.address),
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
                weight: b.weight,
            };
            records.mark(BITMAP_BITS / 64, record.address);
            records.backends.insert(b.id, record);
        }
        for p in &scenario.ports {
            let flags = if p.redirect { port_flag::REDIRECT } else { 0 };
            records.ports.insert(p.slot, PortRecord { ifindex: p.ifindex, switch: p.switch, flags });
        }
        for stray in &scenario.stray_bits {
            records.mark(0, address(*stray));
            records.mark(BITMAP_BITS / 64, address(*stray));
        }
        records
    }

    fn add_vip(&mut self, vip: &Vip) {
        let address = address(vip.address);
        if vip.prefix.is_none() {
            self.mark(0, address);
            // The first VIP of an address stands for the address as such.
            self.vip_ids.entry(ServiceKey::of_address(address)).or_insert(VipTarget::new(vip.id, 0));
            for (protocol, port) in &vip.services {
                let key = ServiceKey::new(address, port.to_be(), protocol.number());
                let list = self.vip_ids.get(&key).map_or(0, |target| target.list());
                self.vip_ids.insert(key, VipTarget::new(vip.id, list));
            }
        }
        for listed in &vip.listed {
            let (bits, octets) = prefix(listed.address, listed.length);
            let key = AclKey {
                length: 32 + bits,
                vip: u32::from(vip.id).to_be(),
                address: Address::from_v6(octets),
            };
            self.acl.insert(key, if listed.allowed { verdict::ALLOW } else { verdict::DENY });
        }
        self.vips.insert(vip.id, vip_record(vip));
        self.rings.insert(vip.id, vip.ring.clone());
    }

    /// The port ranges of a VIP, behind those of the VIPs in front of it at the same address or prefix.
    fn add_lists(&mut self, scenario: &Scenario, vip: &Vip) {
        let same = |v: &&Vip| (v.address, v.prefix) == (vip.address, vip.prefix);
        if scenario.vips.iter().find(same) != Some(vip) {
            return;
        }
        let ranges: Vec<PortRange> = scenario.vips.iter().filter(same).flat_map(port_ranges).collect();
        if ranges.is_empty() {
            return;
        }
        assert!(ranges.len() <= LIST_RANGES, "{} has too many ranges", vip.address);
        let mut list = PortList::default();
        list.ranges[..ranges.len()].copy_from_slice(&ranges);
        let number = 1 + self.port_lists.len() as u16;
        self.port_lists.insert(number, list);
        let Some(length) = vip.prefix else {
            for range in &ranges {
                let key = ServiceKey::new(address(vip.address), 0, range.protocol);
                let every = self.vip_ids.get(&key).map_or(0, |target| target.vip());
                self.vip_ids.insert(key, VipTarget::new(every, number));
            }
            return;
        };
        let (bits, octets) = prefix(vip.address, length);
        self.prefixes.insert(PrefixKey { length: bits, address: octets }, number);
    }

    fn mark(&mut self, first_word: u32, address: Address) {
        let bit = address.bitmap_bit();
        *self.bitmap.entry(first_word + bit / 64).or_default() |= 1 << (bit % 64);
    }
}

/// An address as it stands in tables.
#[must_use]
pub const fn address(ip: Ip) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::from_v4(v4.octets()),
        IpAddr::V6(v6) => Address::from_v6(v6.octets()),
    }
}

/// A prefix as it stands in tables: its bits, and its octets with the others cleared.
fn prefix(ip: Ip, length: u8) -> (u32, [u8; 16]) {
    let bits = u32::from(length) + if ip.is_ipv4() { 96 } else { 0 };
    let whole = u128::from_be_bytes(address(ip).octets());
    let rest = if bits == 0 { u128::MAX } else { (1u128 << (128 - bits)).wrapping_sub(1) };
    (bits, (whole & !rest).to_be_bytes())
}

/// The ranges that stand in a list: those of a prefix are all that it serves.
fn port_ranges(vip: &Vip) -> Vec<PortRange> {
    let range = |(protocol, first, last): (Protocol, u16, u16)| PortRange {
        first,
        last,
        vip: vip.id,
        protocol: protocol.number(),
        reserved: 0,
    };
    let exact = vip.services.iter().filter(|(_, port)| *port != 0).map(|(p, port)| (*p, *port, *port));
    let every = vip.services.iter().filter(|(_, port)| *port == 0).map(|(p, _)| (*p, 0, u16::MAX));
    let ranges = vip.ranges.iter().copied();
    if vip.prefix.is_some() {
        exact.chain(ranges).chain(every).map(range).collect()
    } else {
        ranges.map(range).collect()
    }
}

fn vip_record(vip: &Vip) -> VipRecord {
    let flags = [
        (vip.on_down == OnDown::Repick, vip_flag::REPICK),
        (vip.on_down == OnDown::Reset, vip_flag::RESET),
        (vip.transmit, vip_flag::TRANSMIT),
        (vip.last_known, vip_flag::LAST_KNOWN),
        (vip.echo, vip_flag::ECHO),
        (vip.reject, vip_flag::REJECT),
        (vip.stateless, vip_flag::OVER_CAP_STATELESS),
        (vip.deny_others || !vip.listed.is_empty(), vip_flag::ACL),
        (vip.deny_others, vip_flag::DENY_OTHERS),
    ];
    let only = match vip.services[..] {
        [(_, port)] if vip.ranges.is_empty() => port,
        _ => 0,
    };
    let protocol = vip.services.iter().map(|(p, _)| *p).chain(vip.ranges.iter().map(|(p, ..)| *p)).next();
    VipRecord {
        address: address(vip.address),
        source: address(vip.source.unwrap_or(vip.address)),
        mac: vip.mac,
        mode: match vip.mode {
            Mode::Nat => mode::NAT,
            Mode::FullNat => mode::FULLNAT,
            Mode::Dsr => mode::DSR,
            Mode::Ipip => mode::IPIP,
        },
        selection: match vip.selection {
            Selection::Random => selection::RANDOM,
            Selection::RoundRobin => selection::ROUND_ROBIN,
            Selection::Maglev => selection::MAGLEV,
            Selection::SourceHash => selection::SOURCE_HASH,
            Selection::FlowHash => selection::FLOW_HASH,
            Selection::LeastConnections => selection::LEAST_CONNECTIONS,
        },
        flags: flags.iter().filter(|(set, _)| *set).map(|(_, bit)| *bit).sum(),
        port: only.to_be(),
        snat_first: vip.lent.0,
        snat_count: vip.lent.1,
        affinity: vip.affinity,
        max_new_per_source: vip.per_source,
        tunnel_mtu: vip.tunnel_mtu,
        protocol: protocol.map_or(0, Protocol::number),
        reserved: [0; 5],
    }
}

fn settings(scenario: &Scenario) -> Settings {
    let t = scenario.timeouts;
    let mut timeouts = [0; 8];
    for (state, ticks) in [
        (conn::state::SYN, t.syn),
        (conn::state::UNVERIFIED, t.unverified),
        (conn::state::ESTABLISHED, t.established),
        (conn::state::CLOSING, t.closing),
        (conn::state::CLOSED, t.closed),
        (conn::state::UDP, t.udp),
    ] {
        timeouts[usize::from(state)] = ticks;
    }
    let prefixes = scenario.vips.iter().any(|v| v.prefix.is_some());
    Settings {
        schema: SCHEMA_VERSION,
        suspect_timeout: t.suspect,
        timeouts,
        flags: if prefixes { settings_flag::PREFIXES } else { 0 }
            | match scenario.handing {
                Handing::No => 0,
                Handing::Over => settings_flag::HANDING_OVER,
                Handing::Back => settings_flag::HANDING_OVER | settings_flag::HANDING_BACK,
            },
        max_new: scenario.max_new,
        fragment_timeout: t.fragment,
        reserved: 0,
    }
}

const fn state_number(state: State) -> u8 {
    match state {
        State::Up => backend_state::UP,
        State::Down => backend_state::DOWN,
        State::Draining => backend_state::DRAINING,
        State::Disabled => backend_state::DISABLED,
    }
}

/// The selection table of a ring.
#[must_use]
pub fn select_table(ring: &[u16]) -> Box<SelectTable> {
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
pub fn connection(key: &ConnKey, value: &ConnValue, half_open: bool) -> Connection {
    let has = |bit: u8| value.flags & bit != 0;
    Connection {
        client: IpAddr::from(key.client.octets()).to_canonical(),
        client_port: u16::from_be(key.client_port()),
        vip: key.vip(),
        vip_port: u16::from_be(key.vip_port()),
        protocol: key.protocol(),
        backend: value.backend,
        generation: value.generation,
        half_open,
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
        lent: u16::from_be(value.snat_port),
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
