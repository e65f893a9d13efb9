//! Standing entries as values: tables, priorities, what they match and do, and how a cookie tells which is which.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use lb_core::host::config::Ports;
use openflow::{Action, Bucket, FieldId, MacAddr, Match, MatchField, NxAction, NxmField, PortNo, TableId};

use crate::core::cookie::Sequence;
use crate::core::ip::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Whose connection a packet is of: after tracking, or after the look for a learned entry.
pub const CONNECTIONS: TableId = TableId(10);
/// The backend of each slot of a VIP's hash.
pub const CHOICE: TableId = TableId(11);
/// Learned: the backend of each connection.
pub const PINNED: TableId = TableId(12);
/// Learned: what becomes of the answers of each connection.
pub const ANSWERS: TableId = TableId(13);

/// Register: the backend's mark, 0 for none yet.
pub const BACKEND: u8 = 0;
/// Register: the VIP's id of a packet to a VIP, else 0.
pub const VIP: u8 = 1;
/// Register: the slot that a hash chose.
pub const SLOT: u8 = 2;
/// Register: 1 behind balancing, so that no packet goes round.
pub const DONE: u8 = 3;
/// Register: which table of slots counts.
pub const BANK: u8 = 4;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;

/// An entry that stands as long as its reason does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its table.
    pub table: TableId,
    /// The higher one wins.
    pub priority: u16,
    /// What it matches.
    pub match_: Match,
    /// What it does.
    pub actions: Vec<Action>,
    /// Seconds without a packet after which it goes; 0 never.
    pub idle_s: u16,
}

/// What a switch should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Groups by number.
    pub groups: BTreeMap<u32, Vec<Bucket>>,
    /// Entries by the number in their cookie, which follows from table, priority and match.
    pub entries: BTreeMap<Sequence, Entry>,
}

impl Desired {
    /// Adds an entry; one with the same table, priority and match is replaced.
    pub fn add(&mut self, entry: Entry) {
        let mut hasher = Fnv::default();
        (entry.table.0, entry.priority, &entry.match_).hash(&mut hasher);
        let mut sequence = Sequence::of(hasher.folded());
        let same = |other: &Entry| {
            (other.table, other.priority, &other.match_) == (entry.table, entry.priority, &entry.match_)
        };
        while self.entries.get(&sequence).is_some_and(|other| !same(other)) {
            sequence = sequence.next();
        }
        self.entries.insert(sequence, entry);
    }
}

/// The Fowler-Noll-Vo hash (FNV-1a): the same in every run, as cookies have to be.
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Fnv {
    /// All bits in 32.
    pub fn folded(&self) -> u32 {
        ((self.0 >> 32) ^ (self.0 & 0xffff_ffff)) as u32
    }
}

/// Writes a register.
pub fn load(register: u8, value: u32) -> Action {
    NxAction::RegLoad { dst: FieldId::reg(register).whole(), value: u64::from(value) }.into()
}

/// Looks the packet up in a table.
pub fn resubmit(table: TableId) -> Action {
    NxAction::ResubmitTable { in_port: PortNo::IN_PORT, table }.into()
}

/// A match on registers.
pub fn registers(values: &[(u8, u32)]) -> Match {
    values
        .iter()
        .fold(Match::new(), |match_, (index, value)| match_.with(NxmField::reg(*index, *value).into()))
}

/// The Ethernet type of an address.
pub const fn ethertype(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => ETHERTYPE_IPV4,
        IpAddr::V6(_) => ETHERTYPE_IPV6,
    }
}

/// The field of an IP source; `prefix_len` bits of it count.
pub fn ip_src(address: IpAddr, prefix_len: u8) -> MatchField {
    match address {
        IpAddr::V4(value) if prefix_len >= 32 => MatchField::Ipv4Src { value, mask: None },
        IpAddr::V4(value) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
            MatchField::Ipv4Src { value, mask: Some(bits.into()) }
        }
        IpAddr::V6(value) if prefix_len >= 128 => MatchField::Ipv6Src { value, mask: None },
        IpAddr::V6(value) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
            MatchField::Ipv6Src { value, mask: Some(bits.into()) }
        }
    }
}

/// The field of an IP destination.
pub const fn ip_dst(address: IpAddr) -> MatchField {
    match address {
        IpAddr::V4(value) => MatchField::Ipv4Dst { value, mask: None },
        IpAddr::V6(value) => MatchField::Ipv6Dst { value, mask: None },
    }
}

/// The field of a whole destination port.
pub const fn port_dst(protocol: u8, port: u16) -> MatchField {
    if protocol == TCP { MatchField::TcpDst(port) } else { MatchField::UdpDst(port) }
}

/// Writes the Ethernet destination.
pub const fn to_mac(mac: MacAddr) -> Action {
    Action::SetField(MatchField::EthDst { value: mac, mask: None })
}

/// The matches of a set of ports, one for each aligned block; a match without ports for all of them.
pub fn ports_dst(base: &Match, protocol: u8, ports: Ports) -> Vec<Match> {
    blocks(ports).into_iter().map(|block| with_block(base, protocol, block, true)).collect()
}

/// As [`ports_dst`] for source ports.
pub fn ports_src(base: &Match, protocol: u8, ports: Ports) -> Vec<Match> {
    blocks(ports).into_iter().map(|block| with_block(base, protocol, block, false)).collect()
}

/// Aligned blocks of ports, each as its first port and the mask; all ports are none.
type Block = Option<(u16, u16)>;

fn blocks(ports: Ports) -> Vec<Block> {
    if ports.is_all() {
        return vec![None];
    }
    let (first, last) = ports.bounds();
    let (mut at, end) = (u32::from(first), u32::from(last));
    let mut blocks = Vec::new();
    while at <= end {
        let aligned = at.trailing_zeros().min(16);
        let fits = (end - at + 1).ilog2();
        let bits = aligned.min(fits);
        blocks.push(Some((at as u16, (0xffff_u32 << bits) as u16)));
        at += 1 << bits;
    }
    blocks
}

fn with_block(base: &Match, protocol: u8, block: Block, is_destination: bool) -> Match {
    let Some((value, mask)) = block else { return base.clone() };
    let mask = (mask != u16::MAX).then_some(mask);
    let field = match (is_destination, protocol == TCP) {
        (true, true) => NxmField::TcpDst { value, mask },
        (true, false) => NxmField::UdpDst { value, mask },
        (false, true) => NxmField::TcpSrc { value, mask },
        (false, false) => NxmField::UdpSrc { value, mask },
    };
    base.clone().with(field.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_ports_are_those_ports_and_no_others() {
        for (first, last) in [(1, 65535), (80, 80), (8000, 8010), (1, 1), (65535, 65535), (1023, 1025)] {
            let ports = Ports::range(first, last).unwrap();
            let blocks = blocks(ports);
            for port in 0..=u16::MAX {
                let hits = blocks.iter().flatten().filter(|(value, mask)| port & mask == *value).count();
                assert_eq!(hits, usize::from(ports.contains(port)), "{port} of {first}-{last}: {blocks:?}");
            }
        }
        assert_eq!(blocks(Ports::ALL), [None]);
    }

    #[test]
    fn the_same_entry_has_the_same_number_in_every_run() {
        let entry = |vip| Entry {
            table: CONNECTIONS,
            priority: 7,
            match_: registers(&[(VIP, vip)]),
            actions: Vec::new(),
            idle_s: 0,
        };
        let mut desired = Desired::default();
        desired.add(entry(1));
        desired.add(Entry { idle_s: 9, ..entry(1) });
        desired.add(entry(2));
        assert_eq!(desired.entries.len(), 2);
        let mut again = Desired::default();
        again.add(entry(2));
        assert!(desired.entries.contains_key(again.entries.keys().next().unwrap()));
    }
}
