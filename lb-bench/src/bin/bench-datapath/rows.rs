//! What is measured, and what each row is to be compared with.

use crate::harness::Target;

/// What a row's packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One of the measuring programs.
    Floor(Target),
    /// Of clients with an established connection to a VIP.
    ToBackend(&'static str),
    /// Of backends, to such clients.
    ToClient(&'static str),
    /// The first of a connection to a VIP, with room for its entry.
    New(&'static str),
    /// Likewise, where the table is full of half-open connections.
    NewFull(&'static str),
    /// Likewise, beyond the cap on new connections.
    BeyondCap(&'static str),
    /// Between two strangers.
    NotOurs,
    /// A question for a stranger's MAC.
    ArpOther,
    /// A question for a VIP's MAC.
    ArpRequest(&'static str),
    /// For a VIP, with a length that goes beyond the frame.
    Malformed(&'static str),
}

/// A row of the result.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in the results.
    pub name: &'static str,
    /// What it is, for people.
    pub label: &'static str,
    /// Flows that take turns; a power of two.
    pub flows: u32,
    /// Its packets.
    pub what: What,
    /// What the project wants, in nanoseconds a packet on the kind of machine that the goals were set on.
    pub goal_ns: Option<f64>,
    /// The floor that it is stated as a multiple of.
    pub floor: Option<&'static str>,
}

const fn floor(name: &'static str, label: &'static str, flows: u32, target: Target) -> Row {
    Row { name, label, flows, what: What::Floor(target), goal_ns: None, floor: None }
}

const fn row(name: &'static str, label: &'static str, flows: u32, what: What) -> Row {
    Row { name, label, flows, what, goal_ns: None, floor: None }
}

impl Row {
    const fn goal(self, ns: f64) -> Self {
        Self { goal_ns: Some(ns), ..self }
    }

    const fn over(self, floor: &'static str) -> Self {
        Self { floor: Some(floor), ..self }
    }

    /// Whether it is a floor.
    pub const fn is_floor(&self) -> bool {
        matches!(self.what, What::Floor(_))
    }
}

const ONE: u32 = 1;
const SOME: u32 = 4096;
const MANY: u32 = 65_536;

/// All rows, in the order in which they are printed. The goals that are a share of Katran's cost are that share of the
/// least that was measured of it.
pub const ROWS: &[Row] = &[
    floor("floor_hash_1", "hash look-up, 1 flow", ONE, Target::Hash),
    floor("floor_hash_4096", "hash look-up, 4096 flows", SOME, Target::Hash),
    floor("floor_hash_65536", "hash look-up, 65536 flows", MANY, Target::Hash),
    floor("floor_lru_1", "LRU hash look-up, 1 flow", ONE, Target::Lru),
    floor("floor_lru_4096", "LRU hash look-up, 4096 flows", SOME, Target::Lru),
    floor("floor_lru_65536", "LRU hash look-up, 65536 flows", MANY, Target::Lru),
    floor("floor_new", "LRU hash look-ups in vain and insertion, a new flow", ONE, Target::New),
    floor("floor_redirect", "a redirect", ONE, Target::Redirect),
    floor("floor_counters", "the counters of a forwarded packet", ONE, Target::Counters),
    row("tcp4_established_1", "nat, TCPv4 established, 1 flow", ONE, What::ToBackend("web"))
        .goal(39.0)
        .over("floor_lru_1"),
    row("tcp4_established_4096", "nat, TCPv4 established, 4096 flows", SOME, What::ToBackend("web"))
        .goal(70.0)
        .over("floor_lru_4096"),
    row("tcp4_established_65536", "nat, TCPv4 established, 65536 flows", MANY, What::ToBackend("web"))
        .goal(173.0)
        .over("floor_lru_65536"),
    row("tcp4_new", "nat, new TCPv4 flow, inserted", ONE, What::New("web")).goal(410.0).over("floor_new"),
    row("tcp4_new_full", "nat, new TCPv4 flow, evicting another", ONE, What::NewFull("web"))
        .over("floor_new"),
    row("syn_flood_beyond_cap", "nat, SYN flood beyond the cap", ONE, What::BeyondCap("web"))
        .goal(60.0)
        .over("floor_lru_1"),
    row("dsr_flood_beyond_cap", "dsr, SYN flood beyond the cap, forwarded", ONE, What::BeyondCap("direct"))
        .over("floor_lru_1"),
    row("udp4_established_1", "nat, UDPv4 established, 1 flow", ONE, What::ToBackend("dns"))
        .goal(50.0)
        .over("floor_lru_1"),
    row("udp4_established_4096", "nat, UDPv4 established, 4096 flows", SOME, What::ToBackend("dns"))
        .over("floor_lru_4096"),
    row("not_ours", "not for a VIP", ONE, What::NotOurs).goal(20.0),
    row("arp_other", "ARP, not for a VIP", ONE, What::ArpOther).goal(7.0),
    row("arp_answered", "ARP request for a VIP, answered", ONE, What::ArpRequest("web")),
    row("malformed", "malformed, for a VIP", ONE, What::Malformed("web")).goal(7.0),
    row("reply4_1", "nat, TCPv4 reply, 1 flow", ONE, What::ToClient("one")).over("floor_lru_1"),
    row("reply4_4096", "nat, TCPv4 reply, 4096 flows", SOME, What::ToClient("one")).over("floor_lru_4096"),
    row("tcp6_established_1", "nat, TCPv6 established, 1 flow", ONE, What::ToBackend("web6"))
        .over("floor_lru_1"),
    row("tcp6_established_4096", "nat, TCPv6 established, 4096 flows", SOME, What::ToBackend("web6"))
        .over("floor_lru_4096"),
    row("tcp6_reply_1", "nat, TCPv6 reply, 1 flow", ONE, What::ToClient("web6")).over("floor_lru_1"),
    row("udp6_established_1", "nat, UDPv6 established, 1 flow", ONE, What::ToBackend("dns6"))
        .over("floor_lru_1"),
    row("fullnat_established_1", "fullnat, TCPv4 established, 1 flow", ONE, What::ToBackend("full"))
        .over("floor_lru_1"),
    row("fullnat_established_4096", "fullnat, TCPv4 established, 4096 flows", SOME, What::ToBackend("full"))
        .over("floor_lru_4096"),
    row("fullnat_reply_1", "fullnat, TCPv4 reply, 1 flow", ONE, What::ToClient("full")).over("floor_lru_1"),
    row("dsr_established_1", "dsr, TCPv4 established, 1 flow", ONE, What::ToBackend("direct"))
        .over("floor_lru_1"),
    row("dsr_established_4096", "dsr, TCPv4 established, 4096 flows", SOME, What::ToBackend("direct"))
        .over("floor_lru_4096"),
    row("ipip_established_1", "ipip, TCPv4 established, 1 flow", ONE, What::ToBackend("tunnel"))
        .over("floor_lru_1"),
    row("ipip_established_4096", "ipip, TCPv4 established, 4096 flows", SOME, What::ToBackend("tunnel"))
        .over("floor_lru_4096"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_floors_are_there() {
        for (i, row) in ROWS.iter().enumerate() {
            assert!(row.flows.is_power_of_two(), "{}", row.name);
            assert!(ROWS[..i].iter().all(|other| other.name != row.name), "{} twice", row.name);
            if let Some(floor) = row.floor {
                assert!(ROWS.iter().any(|other| other.name == floor && other.is_floor()), "{floor}");
            }
        }
    }
}
