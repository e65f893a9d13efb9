//! What a switch has of ours after a reconnect, and what of it stays.
//!
//! Entries of an earlier life tell where stations are, so forwarding goes on without a gap: nothing is wiped. What
//! contradicts itself, the ports, the timeouts asked for or what is known of the balancer is deleted, one by one.
//! Entries of other owners are only looked at to see whether they are a table-miss entry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::{Cookie, FlowMod, FlowStats, Instruction, MacAddr, Match, Port, PortNo};

use super::balance::edit;
use super::balance::proactive::FoundStanding;
use super::cookie::{self, Purpose};
use super::entries::{Entries, Entry, Key, MAX_ENTRIES};
use super::forward::{Seats, balancer_port};
use super::learn::{MacTable, Station};
use super::net::{AnswersKey, FlowKey, FoundKey, FoundRoute};
use super::pipeline::{Layout, TableSpec, Timeouts, key_of, out_of};
use super::vip::{Placement, VipKnowledge};

/// A key for timeouts that do not depend on it.
const ANY: Key = Key { in_port: PortNo::ANY, vlan: None, src: MacAddr([0; 6]), dst: MacAddr([0; 6]) };

/// What a switch listed.
#[derive(Debug, Default)]
pub struct Found {
    usable: Vec<Usable>,
    routes: Vec<(FoundRoute, Timeouts, Cookie)>,
    delete: Vec<(Cookie, FlowMod)>,
    misses: BTreeMap<u8, FoundMiss>,
    standing: FoundStanding,
    removed: usize,
}

/// An entry that has the form of ours.
#[derive(Debug)]
struct Usable {
    key: Key,
    entry: Entry,
    timeouts: Timeouts,
    cookie: Cookie,
    delete: FlowMod,
}

/// The table-miss entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundMiss {
    /// There is none.
    None,
    /// It is ours, and does what it should.
    Ours,
    /// It is another owner's.
    Foreign(Cookie),
}

/// What stays, and what has to be deleted.
#[derive(Debug, Default)]
pub struct Kept {
    /// The stations that the entries tell of.
    pub table: MacTable,
    /// The entries that stay.
    pub entries: Entries,
    /// The port of a one-armed balancer, if entries tell it.
    pub hint: Option<PortNo>,
    /// The entries of routes that may stay, if the network agrees.
    pub routes: Vec<FoundRoute>,
    /// The standing entries of balancing, about which the network decides.
    pub standing: FoundStanding,
    /// The deletions.
    pub delete: Vec<FlowMod>,
}

impl Found {
    /// Takes entries that the switch listed.
    pub fn add(&mut self, flows: Vec<FlowStats>, layout: Layout) {
        for flow in flows {
            if flow.priority == 0 && flow.match_.fields.is_empty() {
                self.add_miss(&flow, layout);
            } else if cookie::is_ours(flow.cookie) {
                self.add_ours(&flow, layout);
            }
        }
    }

    fn add_miss(&mut self, flow: &FlowStats, layout: Layout) {
        let table = layout.tables().iter().find(|table| table.id == flow.table_id);
        let right = table.is_some_and(|table| table.miss.instructions() == flow.instructions);
        // One of ours that does something else is replaced by adding the right one.
        let found = match cookie::is_ours(flow.cookie) {
            false => FoundMiss::Foreign(flow.cookie),
            true if right => FoundMiss::Ours,
            true => FoundMiss::None,
        };
        self.misses.insert(flow.table_id.0, found);
    }

    fn add_ours(&mut self, flow: &FlowStats, layout: Layout) {
        match cookie::read(flow.cookie) {
            Some((Purpose::Standing, sequence)) => return self.standing.add(flow, sequence),
            // They end by themselves, with the connections that they are of.
            Some((Purpose::Learned, _)) => return,
            _ => {}
        }
        let delete = layout.delete_as(flow.table_id, flow.priority, flow.match_.clone(), flow.cookie);
        let timeouts = Timeouts { idle_s: flow.idle_timeout, hard_s: flow.hard_timeout };
        if let Some(route) = route_of(flow, layout, &delete)
            && self.routes.len() < MAX_ENTRIES
        {
            self.routes.push((route, timeouts, flow.cookie));
            return;
        }
        let usable = cookie::read(flow.cookie).and_then(|(purpose, sequence)| {
            let (key, out) = (key_of(&flow.match_)?, out_of(&flow.instructions).ok()?);
            let placed = layout.place_of(purpose, &flow.match_) == (flow.table_id, flow.priority);
            let sane = placed && purpose != Purpose::TableMiss && out.is_none() == (purpose == Purpose::Hold);
            sane.then_some((key, Entry { purpose, out, sequence, since: Duration::ZERO }))
        });
        match usable.filter(|_| self.usable.len() < MAX_ENTRIES) {
            Some((key, entry)) => {
                self.usable.push(Usable { key, entry, timeouts, cookie: flow.cookie, delete });
            }
            // Beyond any sane number the rest is left to its timeouts.
            None if self.delete.len() >= MAX_ENTRIES => {}
            None => self.delete.push((flow.cookie, delete)),
        }
    }

    /// An entry went between its listing and now.
    pub fn removed_meanwhile(&mut self, cookie: Cookie, match_: &Match) {
        self.usable.retain(|usable| usable.cookie != cookie || usable.delete.match_ != *match_);
        self.routes.retain(|(route, _, listed)| *listed != cookie || route.delete.match_ != *match_);
        self.delete.retain(|(listed, delete)| *listed != cookie || delete.match_ != *match_);
    }

    /// The table-miss entry of a table.
    #[must_use]
    pub fn miss(&self, table: &TableSpec) -> FoundMiss {
        self.misses.get(&table.id.0).copied().unwrap_or(FoundMiss::None)
    }

    /// How many entries were removed by the last [`Self::reconcile`].
    #[must_use]
    pub const fn removed(&self) -> usize {
        self.removed
    }

    /// Forgets the listing.
    pub fn forget(&mut self) {
        *self = Self { removed: self.removed, ..Self::default() };
    }

    /// Decides which of the listed entries stay; `routed` if packets are routed, else switches learn one by one.
    pub fn reconcile(
        &mut self,
        routed: bool,
        ports: &BTreeMap<PortNo, Port>,
        known: &VipKnowledge,
        timeouts: &dyn Fn(Purpose, &Key) -> Timeouts,
        now: Duration,
    ) -> Kept {
        let mut kept = Kept::default();
        kept.delete.extend(self.delete.drain(..).map(|(_, delete)| delete));
        let up = |port: PortNo| ports.get(&port).is_some_and(Port::is_up);
        let mut candidates = Vec::new();
        for usable in self.usable.drain(..) {
            let way = matches!(usable.entry.purpose, Purpose::Forward | Purpose::Transit);
            let fits = !(routed && way)
                && up(usable.key.in_port)
                && usable.entry.out.is_none_or(up)
                && usable.timeouts == timeouts(usable.entry.purpose, &usable.key);
            if fits { candidates.push(usable) } else { kept.delete.push(usable.delete) }
        }
        for (route, listed, _) in self.routes.drain(..) {
            let in_port = route.in_port == PortNo::ANY || up(route.in_port);
            let wanted = match route.key {
                FoundKey::Leg { .. } => Timeouts { idle_s: listed.idle_s.max(1), hard_s: 0 },
                _ => timeouts(route.purpose, &ANY),
            };
            let out = up(route.out) || route.out == PortNo::IN_PORT;
            if routed && in_port && out && listed == wanted {
                kept.routes.push(FoundRoute { idle_s: listed.idle_s, ..route });
            } else {
                kept.delete.push(route.delete);
            }
        }
        kept.table = stations(&candidates, known, now);
        kept.hint = hint(&candidates, known);
        for Usable { key, entry, delete, .. } in candidates {
            let entry = Entry { since: now, ..entry };
            let stays = stands(&key, &entry, &kept.table, known, kept.hint) && kept.entries.adopt(key, entry);
            if !stays {
                kept.delete.push(delete);
            }
        }
        kept.standing = std::mem::take(&mut self.standing);
        self.removed = kept.delete.len();
        kept
    }
}

/// The entry as one of a route, if it is one.
fn route_of(flow: &FlowStats, layout: Layout, delete: &FlowMod) -> Option<FoundRoute> {
    let (purpose, sequence) = cookie::read(flow.cookie)?;
    let placed = layout.place_of(purpose, &flow.match_) == (flow.table_id, flow.priority);
    let (key, in_port) = match purpose {
        Purpose::Route | Purpose::Ahead => {
            let (key, in_port) = FlowKey::of_match(&flow.match_)?;
            let fits = key.src.is_none() == (purpose == Purpose::Ahead);
            fits.then_some((FoundKey::Flow(key), in_port))?
        }
        Purpose::Steer => {
            let (key, in_port) = AnswersKey::of_match(&flow.match_)?;
            (FoundKey::Answers(key), in_port)
        }
        Purpose::Balance => {
            let (came, in_port) = FlowKey::of_match(&flow.match_)?;
            let [Instruction::ApplyActions(actions)] = flow.instructions.as_slice() else { return None };
            let (left, out, watches) = edit::read(&came, actions)?;
            let key = FoundKey::Leg { came, left, watches };
            let delete = delete.clone();
            return placed.then_some(FoundRoute { purpose, key, in_port, out, sequence, idle_s: 0, delete });
        }
        _ => return None,
    };
    let out = out_of(&flow.instructions).ok()??;
    placed.then(|| FoundRoute { purpose, key, in_port, out, sequence, idle_s: 0, delete: delete.clone() })
}

/// The stations that entries tell of; where two contradict each other the station is left out.
fn stations(entries: &[Usable], known: &VipKnowledge, now: Duration) -> MacTable {
    let mut seats: BTreeMap<Station, BTreeSet<PortNo>> = BTreeMap::new();
    for Usable { key, entry, .. } in entries {
        if entry.purpose == Purpose::Forward {
            seats.entry(key.source()).or_default().insert(key.in_port);
        }
        if let Some(out) = entry.out {
            seats.entry(key.destination()).or_default().insert(out);
        }
    }
    let mut table = MacTable::default();
    for (station, ports) in seats {
        let single = ports.first().filter(|_| ports.len() == 1);
        if let Some(port) = single.filter(|_| known.vip_of(station.mac).is_none()) {
            table.learn(station, *port, now);
        }
    }
    table
}

/// The port of a one-armed balancer, if all entries from and to virtual MACs agree on it.
fn hint(entries: &[Usable], known: &VipKnowledge) -> Option<PortNo> {
    let mut ports = BTreeSet::new();
    for Usable { key, entry, .. } in entries.iter().filter(|_| known.placement().is_onearm()) {
        ports.extend(known.vip_of(key.src).map(|_| key.in_port));
        ports.extend(known.vip_of(key.dst).and(entry.out));
    }
    ports.first().copied().filter(|_| ports.len() == 1)
}

/// Whether an entry does what would be decided about its frames now.
#[must_use]
pub fn stands(
    key: &Key,
    entry: &Entry,
    table: &MacTable,
    known: &VipKnowledge,
    hint: Option<PortNo>,
) -> bool {
    let inline = known.placement() == Placement::Inline;
    let (from_vip, to_vip) = (known.vip_of(key.src).is_some(), known.vip_of(key.dst).is_some());
    let held = inline && (to_vip || known.is_prober(key.dst));
    match entry.purpose {
        Purpose::TableMiss
        | Purpose::Route
        | Purpose::Ahead
        | Purpose::Steer
        | Purpose::Pinned
        | Purpose::Shown
        | Purpose::Balance
        | Purpose::Standing
        | Purpose::Learned
        | Purpose::Watch => false,
        Purpose::Hold => held,
        Purpose::Forward | Purpose::Transit if held => false,
        Purpose::Forward if from_vip || to_vip => false,
        Purpose::Forward => {
            table.port_of(key.source()) == Some(key.in_port) && table.port_of(key.destination()) == entry.out
        }
        Purpose::Transit if to_vip => balancer_port(table, known, hint) == entry.out,
        Purpose::Transit => from_vip && table.port_of(key.destination()) == entry.out,
    }
}
