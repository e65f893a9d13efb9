//! Balancing without a packet-in for each connection: entries that stand while VIPs and backends do.
//!
//! Two forms, both on the switch at which a packet comes in from a client:
//!
//! ```text
//!  tracked (1.3: `group`)
//!    balancing: to a VIP   --> ct(nat) --> connections: known --> the backend's MAC      --> forwarding
//!                                            |  new --> select group --> ct(commit, nat) --> forwarding
//!    balancing: an answer  --> ct(nat) --> connections: of a connection --> the VIP's MAC --> forwarding
//!
//!  learned (1.0 and 1.3: `learn`)
//!    balancing: to a VIP   --> pinned --> connections: known --> rewritten, its answers' entry learned --> forwarding
//!                                           |  new --> hash --> choice: the connection's entry learned --> connections
//!    balancing: an answer  --> answers: rewritten --> forwarding
//! ```
//!
//! A client's switch has both directions: the answers come back to it by themselves, since the client is there, and it
//! knows the connection. Every switch has the same entries, but connections are tracked in a zone of each switch, so that
//! several bridges of one machine, which share a tracker, keep them apart.
//!
//! What a switch should have is a pure function of the [`Scene`]. Changes add before they delete, and a VIP's slots are
//! laid out anew beside the old ones, so at no moment a VIP is without entries or with half of them.

mod changes;
mod entry;
mod found;
mod front;
mod learned;
mod standing;
mod tracked;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;

use lb_core::host::addr::Prefix;
use lb_core::host::config::{Config, Mode, NoBackend, OnDown, Protocol, Selection};
use lb_core::host::health::State;
use lb_core::host::plan::{BackendPlan, Plan, VipPlan};
use lb_core::host::ring;
use openflow::{
    Action, DatapathId, FieldId, GroupId, MacAddr, Match, MatchField, NxAction, TableId, Version,
};

pub use self::changes::{changes, is_flow_mod};
use self::entry::{BANK, CHOICE, CONNECTIONS, Fnv, SLOT, VIP, ip_src, load, registers, resubmit};
pub use self::entry::{Desired, Entry};
pub use self::found::{FoundStanding, is_refused_question};
pub use self::standing::{Standing, Step};

/// How entries pin connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// By the switch's connection tracker.
    Tracked,
    /// By learned entries.
    Learned,
}

impl Form {
    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tracked => "group",
            Self::Learned => "learn",
        }
    }
}

/// How long what nobody uses stays, in seconds, and how much of it there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A learned entry of a TCP connection.
    pub tcp_idle_s: u16,
    /// A learned entry of UDP.
    pub udp_idle_s: u16,
    /// The entries of a backend that is not configured any more.
    pub gone_idle_s: u16,
    /// Learned entries of one backend in each direction.
    pub learned: u32,
}

/// What entries are made of, for one switch.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// VIPs and backends.
    pub plan: &'a Plan,
    /// Backends that are not configured any more, whose connections go on; by mark.
    pub gone: &'a BTreeMap<u32, BackendPlan>,
    /// How connections are pinned.
    pub form: Form,
    /// The version that the switch speaks.
    pub version: Version,
    /// The zone of its connections.
    pub zone: u16,
    /// Timeouts and bounds.
    pub limits: Limits,
}

/// What becomes of the connections that a backend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They stay.
    Stay,
    /// They stay until they are idle: the backend is not configured any more.
    Leave,
    /// Established TCP connections stay, all else gets another backend.
    StayEstablished,
    /// They get another backend.
    Repick,
    /// Established TCP connections are reset, all else gets another backend.
    Reset,
}

/// The groups' numbers: this and 24 bits of their own.
pub const FIRST_GROUP: u32 = 0x6f00_0000;
/// The bits of a group's own.
const GROUPS: u32 = 0x00ff_ffff;
/// The most members of a select group: more buckets do not fit into a message.
const MAX_BUCKETS: usize = 256;

/// Priorities in the table of connections.
const PICK: u16 = 100;
const HAIRPIN: u16 = 240;
const KNOWN: u16 = 300;
const ANSWER: u16 = 400;

impl Scene<'_> {
    /// The table in which balancing begins.
    const fn front(&self) -> TableId {
        match self.version {
            Version::V1_0 => TableId(0),
            Version::V1_3 => TableId(1),
        }
    }

    /// The table that forwards what has been balanced.
    const fn forwarding(&self) -> TableId {
        match self.version {
            Version::V1_0 => TableId(0),
            Version::V1_3 => TableId(2),
        }
    }

    /// Whether the switch can match and write the VIP's addresses.
    fn serves(&self, vip: &VipPlan) -> bool {
        self.version == Version::V1_3 || vip.key.address.is_ipv4()
    }

    /// The VIPs that it serves.
    fn vips(&self) -> impl Iterator<Item = &VipPlan> {
        self.plan.vips.values().filter(|vip| self.serves(vip))
    }

    /// The backends of a VIP whose MAC is known, those that are not configured any more among them.
    fn backends(&self, vip: &VipPlan) -> impl Iterator<Item = Served<'_>> {
        let vip_id = vip.id.id;
        let serving = self.plan.backends.values().map(|backend| (backend, false));
        let gone = self.gone.values().map(|backend| (backend, true));
        let (on_down, is_last_known) = (vip.on_down, vip.rotation.is_last_known);
        serving.chain(gone).filter(move |(backend, _)| backend.vip == vip_id).filter_map(
            move |(backend, gone)| {
                let mac = MacAddr(backend.neighbour?.mac.0);
                let fate = match gone {
                    true => Fate::Leave,
                    false => fate(on_down, is_last_known, backend),
                };
                Some(Served { backend, mac, mark: mark(backend), fate })
            },
        )
    }

    /// Those in rotation, with their weights.
    fn members(&self, vip: &VipPlan) -> Vec<(Served<'_>, u16)> {
        let weight = |id| vip.rotation.members.iter().find(|m| m.id == id).map(|m| m.weight);
        self.backends(vip)
            .filter(|served| served.fate != Fate::Leave)
            .filter_map(|served| Some((served, weight(served.backend.id.id)?)))
            .collect()
    }
}

/// A backend as entries need it.
#[derive(Clone, Copy, Debug)]
struct Served<'a> {
    backend: &'a BackendPlan,
    mac: MacAddr,
    mark: u32,
    fate: Fate,
}

/// What tells a backend in registers and connections, whoever is in control: a hash of its VIP, address and port, and of
/// its MAC if that is a part of what it is. Never 0.
#[must_use]
pub fn mark(backend: &BackendPlan) -> u32 {
    hash_of(&backend.key).max(1)
}

fn hash_of(value: &impl Hash) -> u32 {
    let mut hasher = Fnv::default();
    value.hash(&mut hasher);
    hasher.folded()
}

/// What tells a VIP in registers, and its group's number; the same for every controller of these VIPs.
fn number(plan: &Plan, vip: &VipPlan) -> u32 {
    let own = hash_of(&vip.key) & GROUPS;
    let others =
        plan.vips.range(..vip.id.id).filter(|(_, other)| hash_of(&other.key) & GROUPS == own).count();
    FIRST_GROUP | own.wrapping_add(u32::try_from(others).unwrap_or(0)) & GROUPS
}

/// The zone of a switch's connections; never 0, which is everybody's.
#[must_use]
pub fn zone(dpid: DatapathId) -> u16 {
    let [a, b, c, d] = [dpid.0 >> 48, dpid.0 >> 32, dpid.0 >> 16, dpid.0].map(|part| (part & 0xffff) as u16);
    (a ^ b ^ c ^ d).max(1)
}

fn fate(on_down: OnDown, is_last_known: bool, backend: &BackendPlan) -> Fate {
    match (backend.state, on_down) {
        (State::Up | State::Draining, _) => Fate::Stay,
        (State::Down | State::Disabled, _) if is_last_known => Fate::Stay,
        (State::Probing, _) => Fate::Repick,
        _ if backend.key.vip.protocol == Protocol::Udp => Fate::Repick,
        (_, OnDown::Keep) => Fate::StayEstablished,
        (_, OnDown::Repick) => Fate::Repick,
        (_, OnDown::Reset) => Fate::Reset,
    }
}

/// What a switch should have.
#[must_use]
pub fn desired(scene: &Scene<'_>) -> Desired {
    let mut desired = Desired::default();
    front::add(scene, &mut desired);
    match scene.form {
        Form::Tracked => tracked::add(scene, &mut desired),
        Form::Learned => learned::add(scene, &mut desired),
    }
    desired
}

/// Adds what gives new connections of a VIP a backend: `is_new` matches their packets, `assign` gives one to a backend.
fn add_picks(
    scene: &Scene<'_>,
    vip: &VipPlan,
    is_new: &Match,
    assign: &dyn Fn(&Served<'_>) -> Vec<Action>,
    desired: &mut Desired,
) {
    let members = scene.members(vip);
    let pick = match (members.is_empty(), vip.no_backend) {
        (false, _) => pick_actions(scene, vip, &members, assign, desired),
        (true, NoBackend::Reject) => vec![Action::to_controller()],
        (true, _) => return,
    };
    let mut add = |priority: u16, source: Option<MatchField>, actions: Vec<Action>| {
        let match_ = source.into_iter().fold(is_new.clone(), Match::with);
        desired.add(Entry { table: CONNECTIONS, priority, match_, actions, idle_s: 0 });
    };
    if vip.allow.is_empty() {
        add(PICK, None, pick.clone());
    }
    // The longest prefix decides, and to deny goes before to allow.
    for prefix in &vip.allow {
        let source = ip_src(prefix.address, prefix.length);
        add(PICK + 1 + u16::from(prefix.length), Some(source), pick.clone());
    }
    for prefix in &vip.deny {
        let source = ip_src(prefix.address, prefix.length);
        add(PICK + 1 + u16::from(prefix.length), Some(source), Vec::new());
    }
    // A backend that is a client of its VIP gets the next one, if there is one.
    for (at, (member, _)) in members.iter().enumerate() {
        let own = member.backend.key.address;
        if !is_permitted(vip, own) {
            continue;
        }
        let others = members.iter().skip(at + 1).chain(&members).map(|(other, _)| other);
        let next = others.into_iter().find(|other| other.backend.key.address != own);
        add(HAIRPIN, Some(ip_src(own, u8::MAX)), next.map(assign).unwrap_or_default());
    }
}

/// Whether a client may open connections.
fn is_permitted(vip: &VipPlan, client: IpAddr) -> bool {
    let longest = |list: &[Prefix]| {
        let within = list.iter().filter(|prefix| Prefix::of(client, prefix.length) == **prefix);
        within.map(|prefix| prefix.length).max()
    };
    match (longest(&vip.allow), longest(&vip.deny)) {
        (allowed, Some(denied)) => allowed.is_some_and(|allowed| allowed > denied),
        (allowed, None) => allowed.is_some() || vip.allow.is_empty(),
    }
}

/// What chooses a backend for a new connection: a select group, or a hash into slots.
fn pick_actions(
    scene: &Scene<'_>,
    vip: &VipPlan,
    members: &[(Served<'_>, u16)],
    assign: &dyn Fn(&Served<'_>) -> Vec<Action>,
    desired: &mut Desired,
) -> Vec<Action> {
    if uses_group(scene.form, vip, members.len()) {
        let number = number(scene.plan, vip);
        let bucket = |(member, weight): &(Served<'_>, u16)| openflow::Bucket {
            weight: *weight,
            ..openflow::Bucket::new(assign(member))
        };
        desired.groups.insert(number, members.iter().map(bucket).collect());
        return vec![Action::Group(GroupId(number))];
    }
    let weights: Vec<ring::Member> =
        members.iter().map(|(m, weight)| ring::Member { id: m.backend.id.id, weight: *weight }).collect();
    let slots = ring::build(&weights);
    let marks: Vec<u32> = slots
        .iter()
        .filter_map(|id| members.iter().find(|(m, _)| m.backend.id.id == *id).map(|(m, _)| m.mark))
        .collect();
    let bank = hash_of(&marks) | 1;
    let of_vip = number(scene.plan, vip);
    for (slot, id) in slots.iter().enumerate() {
        let Some((member, _)) = members.iter().find(|(m, _)| m.backend.id.id == *id) else { continue };
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        desired.add(Entry {
            table: CHOICE,
            priority: PICK,
            match_: registers(&[(VIP, of_vip), (BANK, bank), (SLOT, slot)])
                .eth_type(entry::ethertype(vip.key.address))
                .ip_proto(vip.key.protocol.number()),
            actions: assign(member),
            idle_s: 0,
        });
    }
    let hash = NxAction::Multipath {
        fields: hash_fields(vip),
        basis: 0,
        algorithm: MODULO,
        max_link: u16::try_from(slots.len().saturating_sub(1)).unwrap_or(u16::MAX),
        arg: 0,
        dst: FieldId::reg(SLOT).whole(),
    };
    vec![load(BANK, bank), hash.into(), resubmit(CHOICE)]
}

/// `NX_MP_ALG_MODULO_N`: the hash modulo the number of links.
const MODULO: u16 = 0;
/// `NX_HASH_FIELDS_SYMMETRIC_L3L4_UDP`: addresses, protocol and ports, those of UDP too.
const ADDRESSES_AND_PORTS: u16 = 3;
/// `NX_HASH_FIELDS_NW_SRC`: the source address, of both families.
const SOURCE_ADDRESS: u16 = 4;

/// Whether the source's address alone decides.
fn is_by_source(selection: Selection, affinity_s: u32) -> bool {
    selection == Selection::SourceHash || affinity_s > 0
}

fn hash_fields(vip: &VipPlan) -> u16 {
    if is_by_source(vip.selection, vip.affinity_s) { SOURCE_ADDRESS } else { ADDRESSES_AND_PORTS }
}

/// Select groups of Open vSwitch hash addresses and TCP ports: UDP from one client would go to one backend, and the
/// client's address alone cannot be chosen in 1.3.
fn uses_group(form: Form, vip: &VipPlan, members: usize) -> bool {
    let by_group = vip.key.protocol == Protocol::Tcp
        && !is_by_source(vip.selection, vip.affinity_s)
        && members <= MAX_BUCKETS;
    form == Form::Tracked && by_group
}

/// What the entries do otherwise than the configuration says, a line for each VIP.
#[must_use]
pub fn left_undone(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for vip in &config.vips {
        let mut otherwise = Vec::new();
        match vip.selection {
            // Nobody can tell the hash of a flow from a random choice.
            Selection::Random | Selection::SourceHash | Selection::FlowHash => {}
            Selection::RoundRobin => otherwise.push("selection round-robin"),
            Selection::Maglev => otherwise.push("selection maglev"),
            Selection::LeastConnections => otherwise.push("selection least-connections"),
        }
        if vip.affinity_s > 0 {
            otherwise.push("affinity_s");
        }
        if vip.max_new_per_source_s > 0 {
            otherwise.push("max_new_per_source_s");
        }
        if !otherwise.is_empty() {
            let by = if is_by_source(vip.selection, vip.affinity_s) { "client's address" } else { "flow" };
            lines.push(format!(
                "VIP {}: standing entries cannot do {}: new connections go by a hash of the {by} and the weights",
                vip.name,
                otherwise.join(", ")
            ));
        }
    }
    lines
}

/// Whether the VIP's address is written.
fn translates(vip: &VipPlan) -> bool {
    vip.mode == Mode::Nat
}
