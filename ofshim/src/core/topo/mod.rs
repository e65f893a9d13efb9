//! What is connected to what: directed links, clusters, broadcast trees, shortest paths.
//!
//! ```text
//!   discovery --link--> Topology --both directions there?--> Graph --> Routes  (a tree for each destination)
//!                          |                                   '-----> Forest  (a broadcast tree for each cluster)
//!                          '--role of a port--> edge | tree | blocked | one-way | loop
//! ```
//!
//! A link carries traffic only once it is known in both directions. Every change is an event that touches what it
//! concerns: trees that do not use the link are left alone.

pub mod forest;
pub mod graph;
pub mod paths;
mod place;
pub mod routes;

use std::collections::{BTreeMap, BTreeSet};

use openflow::{DatapathId, PortNo};

pub use self::forest::{Forest, Pair};
pub use self::graph::{Cost, Graph};
pub use self::paths::{Path, shortest_paths};
pub use self::place::{Place, PlaceParseError};
pub use self::routes::{LinkChange, Routes};

/// The most shortest-path trees that are kept.
pub const MAX_TREES: usize = 1000;

/// How two ports are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// By a wire.
    Direct,
    /// By a tunnel, as the port's name says.
    Tunnel,
    /// Through switches that do not talk to this controller.
    MultiHop,
}

impl LinkKind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tunnel => "tunnel",
            Self::MultiHop => "multi-hop",
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Direct => 0,
            Self::Tunnel => 1,
            Self::MultiHop => 2,
        }
    }
}

/// What a port is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRole {
    /// No link is known: hosts may be behind it.
    Edge,
    /// A link that is on the broadcast tree.
    Tree,
    /// A link that is not: it carries traffic along routes, but no broadcast.
    Blocked,
    /// A link that is known in one direction only: nothing may use it.
    OneWay,
    /// Leads back to the same switch: nothing may use it.
    Loop,
}

impl PortRole {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Tree => "tree",
            Self::Blocked => "blocked",
            Self::OneWay => "one-way",
            Self::Loop => "loop",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Info {
    kind: LinkKind,
    cost: Cost,
}

/// What a change of the topology changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Links that carry traffic no more, by the port that they leave.
    pub lost: Vec<(Place, Place)>,
    /// Links that carry traffic now.
    pub gained: Vec<(Place, Place)>,
    /// Whether a broadcast tree changed.
    pub tree: bool,
    /// Destinations whose shortest-path tree changed.
    pub touched: BTreeSet<DatapathId>,
}

impl Change {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Both changes.
    pub fn extend(&mut self, other: Self) {
        self.lost.extend(other.lost);
        self.gained.extend(other.gained);
        self.tree |= other.tree;
        self.touched.extend(other.touched);
    }
}

/// The switches and their links.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Directed links by where they start and end.
    links: BTreeMap<(Place, Place), Info>,
    /// The same, by where they end and start.
    back: BTreeSet<(Place, Place)>,
    graph: Graph,
    forest: Forest,
    routes: Routes,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            links: BTreeMap::new(),
            back: BTreeSet::new(),
            graph: Graph::default(),
            forest: Forest::default(),
            routes: Routes::new(MAX_TREES),
        }
    }
}

/// All places, as the bounds of a range.
const FIRST: Place = Place::new(DatapathId(0), PortNo(0));
const LAST: Place = Place::new(DatapathId(u64::MAX), PortNo(u32::MAX));

impl Topology {
    /// Adds a switch.
    pub fn add_switch(&mut self, dpid: DatapathId) {
        self.graph.add_switch(dpid);
        self.forest.add_switch(dpid);
    }

    /// Takes out a switch with its links.
    pub fn remove_switch(&mut self, dpid: DatapathId) -> Change {
        let mut change = Change::default();
        let (first, last) = (Place::new(dpid, PortNo(0)), Place::new(dpid, PortNo(u32::MAX)));
        let from: Vec<_> = self.links.range((first, FIRST)..=(last, LAST)).map(|(ends, _)| *ends).collect();
        let to: Vec<_> =
            self.back.range((first, FIRST)..=(last, LAST)).map(|(to, from)| (*from, *to)).collect();
        for (from, to) in from.into_iter().chain(to) {
            change.extend(self.remove_link(from, to));
        }
        if let Some(node) = self.graph.remove_switch(dpid) {
            // The number may be another switch's next.
            self.routes.forget(node);
        }
        self.forest.remove_switch(dpid);
        change
    }

    /// Notes a link, or that it is of another kind or cost.
    pub fn set_link(&mut self, from: Place, to: Place, kind: LinkKind, cost: Cost) -> Change {
        self.add_switch(from.dpid);
        self.add_switch(to.dpid);
        let info = Info { kind, cost: cost.max(1) };
        let before = self.links.insert((from, to), info);
        self.back.insert((to, from));
        let mut change = Change::default();
        let Some(reverse) = self.links.get(&(to, from)).copied().filter(|_| from.dpid != to.dpid) else {
            return change;
        };
        match before {
            Some(before) if before == info => {}
            Some(before) => {
                self.set_edge(from, to, info.cost, &mut change);
                if before.kind != kind {
                    change.tree |= self.forest.remove(Pair::new(rank(before, reverse), from, to));
                    change.tree |= self.forest.add(Pair::new(rank(info, reverse), from, to));
                }
            }
            None => {
                self.set_edge(from, to, info.cost, &mut change);
                self.set_edge(to, from, reverse.cost, &mut change);
                change.gained.extend([(from, to), (to, from)]);
                change.tree |= self.forest.add(Pair::new(rank(info, reverse), from, to));
            }
        }
        change
    }

    /// Takes out a link.
    pub fn remove_link(&mut self, from: Place, to: Place) -> Change {
        let mut change = Change::default();
        let Some(info) = self.links.remove(&(from, to)) else { return change };
        self.back.remove(&(to, from));
        let Some(reverse) = self.links.get(&(to, from)).copied().filter(|_| from.dpid != to.dpid) else {
            return change;
        };
        change.lost.extend([(from, to), (to, from)]);
        for (from, to) in [(from, to), (to, from)] {
            if let (Some(before), Some(u), Some(v)) =
                (self.graph.remove_link(from, to), self.graph.node(from.dpid), self.graph.node(to.dpid))
            {
                self.reroute(LinkChange { from: u, to: v, before: Some(before), after: None }, &mut change);
            }
        }
        change.tree |= self.forest.remove(Pair::new(rank(info, reverse), from, to));
        change
    }

    fn set_edge(&mut self, from: Place, to: Place, cost: Cost, change: &mut Change) {
        let before = self.graph.set_link(from, to, cost);
        if let (Some(u), Some(v)) = (self.graph.node(from.dpid), self.graph.node(to.dpid)) {
            self.reroute(LinkChange { from: u, to: v, before, after: Some(cost) }, change);
        }
    }

    fn reroute(&mut self, link: LinkChange, change: &mut Change) {
        let touched = self.routes.link_changed(&self.graph, link);
        change.touched.extend(touched.into_iter().map(|node| self.graph.dpid(node)));
    }

    /// The directed links: start, end, kind, cost.
    pub fn links(&self) -> impl Iterator<Item = (Place, Place, LinkKind, Cost)> {
        self.links.iter().map(|((from, to), info)| (*from, *to, info.kind, info.cost))
    }

    /// How many directed links there are.
    #[must_use]
    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Where links from a port lead.
    pub fn links_from(&self, place: Place) -> impl Iterator<Item = (Place, LinkKind)> {
        self.links.range((place, FIRST)..=(place, LAST)).map(|((_, to), info)| (*to, info.kind))
    }

    /// Where links to a port come from.
    pub fn links_to(&self, place: Place) -> impl Iterator<Item = Place> {
        self.back.range((place, FIRST)..=(place, LAST)).map(|(_, from)| *from)
    }

    /// Whether any link leaves a switch or reaches it.
    #[must_use]
    pub fn has_links(&self, dpid: DatapathId) -> bool {
        let (first, last) = (Place::new(dpid, PortNo(0)), Place::new(dpid, PortNo(u32::MAX)));
        let from = self.links.range((first, FIRST)..=(last, LAST)).next();
        from.is_some() || self.back.range((first, FIRST)..=(last, LAST)).next().is_some()
    }

    /// What a port is to the network.
    #[must_use]
    pub fn role(&self, place: Place) -> PortRole {
        let mut role = PortRole::Edge;
        for (to, _) in self.links_from(place) {
            if to.dpid == place.dpid {
                return PortRole::Loop;
            }
            let both = self.links.contains_key(&(to, place));
            role = if both || role == PortRole::Blocked { PortRole::Blocked } else { PortRole::OneWay };
        }
        if role == PortRole::Edge && self.links_to(place).next().is_some() {
            let own = self.links_to(place).any(|from| from.dpid == place.dpid);
            return if own { PortRole::Loop } else { PortRole::OneWay };
        }
        if role == PortRole::Blocked && self.forest.is_on_tree(place) { PortRole::Tree } else { role }
    }

    /// Whether a port leads into switches that do not talk to this controller, so that hosts may be behind it
    /// although it has a link.
    #[must_use]
    pub fn is_segment(&self, place: Place) -> bool {
        self.links_from(place).any(|(_, kind)| kind == LinkKind::MultiHop)
    }

    /// Whether two ports lead into the same foreign switches.
    #[must_use]
    pub fn share_segment(&self, one: Place, other: Place) -> bool {
        one == other || self.links_from(one).any(|(to, kind)| to == other && kind == LinkKind::MultiHop)
    }

    /// The cluster of a switch, named by its lowest datapath id.
    #[must_use]
    pub fn cluster(&self, dpid: DatapathId) -> Option<DatapathId> {
        self.forest.cluster(dpid)
    }

    /// The broadcast trees.
    #[must_use]
    pub const fn forest(&self) -> &Forest {
        &self.forest
    }

    /// The links that carry traffic.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many shortest-path trees are kept, and how many distances were computed so far.
    #[must_use]
    pub const fn tree_figures(&self) -> (&Routes, u64) {
        (&self.routes, self.routes.recomputed())
    }

    /// A shortest path as the links that it takes, each as (where it starts, where it ends); empty within one switch,
    /// `None` if there is none. `choose` picks among so many equal next hops.
    pub fn path(
        &mut self,
        from: DatapathId,
        to: DatapathId,
        choose: &dyn Fn(usize) -> usize,
    ) -> Option<Vec<(Place, Place)>> {
        let (u, v) = (self.graph.node(from)?, self.graph.node(to)?);
        let path = self.routes.path(&self.graph, u, v, choose)?;
        Some(self.named(&path))
    }

    /// The port by which a switch reaches another; the first of several equal ones.
    pub fn next_hop(&mut self, from: DatapathId, to: DatapathId) -> Option<PortNo> {
        let (u, v) = (self.graph.node(from)?, self.graph.node(to)?);
        self.routes.next_hops(&self.graph, u, v).first().map(|edge| edge.port)
    }

    /// Whether the shortest-path tree of a destination is kept, so that changes to it are told.
    #[must_use]
    pub fn has_tree(&self, dpid: DatapathId) -> bool {
        self.graph.node(dpid).is_some_and(|node| self.routes.has(node))
    }

    /// Up to `k` shortest loop-free paths with their costs.
    #[must_use]
    pub fn paths(&self, from: DatapathId, to: DatapathId, k: usize) -> Vec<(u64, Vec<(Place, Place)>)> {
        let (Some(u), Some(v)) = (self.graph.node(from), self.graph.node(to)) else { return Vec::new() };
        let found = shortest_paths(&self.graph, u, v, k);
        found.into_iter().map(|path| (path.cost, self.named(&path.links))).collect()
    }

    fn named(&self, path: &[(graph::Node, graph::Edge)]) -> Vec<(Place, Place)> {
        let named = |(node, edge): &(graph::Node, graph::Edge)| {
            let from = Place::new(self.graph.dpid(*node), edge.port);
            (from, Place::new(self.graph.dpid(edge.node), edge.peer))
        };
        path.iter().map(named).collect()
    }
}

/// The rank of a link in the broadcast forest: that of its worse direction.
fn rank(one: Info, other: Info) -> u8 {
    one.kind.rank().max(other.kind.rank())
}
