//! One loop-free broadcast tree for each cluster of connected switches.
//!
//! Links have a fixed total order; the forest is the minimum spanning forest by that order. It is unique, so it depends
//! on the links that there are and not on how they came, and a change touches one link of it: a new link takes the
//! place of the worst one on the cycle that it closes, the best link between the halves replaces one that went.

use std::collections::{BTreeMap, BTreeSet};

use openflow::DatapathId;

use super::place::Place;

/// A link in both directions, its lesser end first, in the order in which links are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Links with a lower rank are preferred.
    pub rank: u8,
    /// The lesser end.
    pub a: Place,
    /// The greater end.
    pub b: Place,
}

impl Pair {
    /// The link between two places, in whichever order.
    #[must_use]
    pub fn new(rank: u8, one: Place, other: Place) -> Self {
        Self { rank, a: one.min(other), b: one.max(other) }
    }
}

/// The clusters and their trees.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    pairs: BTreeSet<Pair>,
    tree: BTreeSet<Pair>,
    /// The tree's links at each switch.
    at: BTreeMap<DatapathId, BTreeSet<Pair>>,
    /// The cluster of each switch, named by its lowest datapath id.
    cluster: BTreeMap<DatapathId, DatapathId>,
}

impl Forest {
    /// Adds a switch.
    pub fn add_switch(&mut self, dpid: DatapathId) {
        self.cluster.entry(dpid).or_insert(dpid);
    }

    /// Takes out a switch without links.
    pub fn remove_switch(&mut self, dpid: DatapathId) {
        self.cluster.remove(&dpid);
        self.at.remove(&dpid);
    }

    /// The cluster of a switch, named by its lowest datapath id.
    #[must_use]
    pub fn cluster(&self, dpid: DatapathId) -> Option<DatapathId> {
        self.cluster.get(&dpid).copied()
    }

    /// The clusters: name and members.
    #[must_use]
    pub fn clusters(&self) -> BTreeMap<DatapathId, Vec<DatapathId>> {
        let mut clusters: BTreeMap<DatapathId, Vec<DatapathId>> = BTreeMap::new();
        for (dpid, cluster) in &self.cluster {
            clusters.entry(*cluster).or_default().push(*dpid);
        }
        clusters
    }

    /// The links of all trees.
    pub fn tree(&self) -> impl Iterator<Item = &Pair> {
        self.tree.iter()
    }

    /// The ports of a switch on the tree.
    pub fn ports(&self, dpid: DatapathId) -> impl Iterator<Item = Place> {
        let pairs = self.at.get(&dpid).into_iter().flatten();
        pairs.map(move |pair| if pair.a.dpid == dpid { pair.a } else { pair.b })
    }

    /// Whether a port is on the tree.
    #[must_use]
    pub fn is_on_tree(&self, place: Place) -> bool {
        self.ports(place.dpid).any(|port| port == place)
    }

    /// Adds a link; whether the tree changed.
    pub fn add(&mut self, pair: Pair) -> bool {
        self.add_switch(pair.a.dpid);
        self.add_switch(pair.b.dpid);
        if pair.a.dpid == pair.b.dpid || !self.pairs.insert(pair) {
            return false;
        }
        let (one, other) = (self.cluster(pair.a.dpid), self.cluster(pair.b.dpid));
        if one != other {
            self.hang(pair);
            let name = one.min(other);
            for cluster in self.cluster.values_mut() {
                if Some(*cluster) == one || Some(*cluster) == other {
                    *cluster = name.unwrap_or(*cluster);
                }
            }
            return true;
        }
        let worst = self.way(pair.a.dpid, pair.b.dpid).into_iter().max();
        match worst.filter(|worst| *worst > pair) {
            Some(worst) => {
                self.cut(worst);
                self.hang(pair);
                true
            }
            None => false,
        }
    }

    /// Takes out a link; whether the tree changed.
    pub fn remove(&mut self, pair: Pair) -> bool {
        self.pairs.remove(&pair);
        if !self.tree.contains(&pair) {
            return false;
        }
        self.cut(pair);
        let half = self.reach(pair.a.dpid);
        let crosses = |pair: &&Pair| half.contains(&pair.a.dpid) != half.contains(&pair.b.dpid);
        if let Some(best) = self.pairs.iter().find(crosses).copied() {
            self.hang(best);
            return true;
        }
        for part in [half, self.reach(pair.b.dpid)] {
            let name = part.first().copied().unwrap_or_default();
            for dpid in part {
                self.cluster.insert(dpid, name);
            }
        }
        true
    }

    fn hang(&mut self, pair: Pair) {
        self.tree.insert(pair);
        self.at.entry(pair.a.dpid).or_default().insert(pair);
        self.at.entry(pair.b.dpid).or_default().insert(pair);
    }

    fn cut(&mut self, pair: Pair) {
        self.tree.remove(&pair);
        for dpid in [pair.a.dpid, pair.b.dpid] {
            if let Some(pairs) = self.at.get_mut(&dpid) {
                pairs.remove(&pair);
            }
        }
    }

    /// The tree's neighbours of a switch.
    fn neighbours(&self, dpid: DatapathId) -> impl Iterator<Item = (DatapathId, Pair)> {
        let pairs = self.at.get(&dpid).into_iter().flatten();
        pairs.map(move |pair| (if pair.a.dpid == dpid { pair.b.dpid } else { pair.a.dpid }, *pair))
    }

    /// The switches that the tree connects with one.
    fn reach(&self, from: DatapathId) -> BTreeSet<DatapathId> {
        let mut reached = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(here) = open.pop() {
            for (next, _) in self.neighbours(here) {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }

    /// The tree's links from one switch to another.
    fn way(&self, from: DatapathId, to: DatapathId) -> Vec<Pair> {
        let mut came: BTreeMap<DatapathId, (DatapathId, Pair)> = BTreeMap::new();
        let mut open = vec![from];
        while let Some(here) = open.pop() {
            if here == to {
                break;
            }
            for (next, pair) in self.neighbours(here) {
                if next != from && !came.contains_key(&next) {
                    came.insert(next, (here, pair));
                    open.push(next);
                }
            }
        }
        let mut way = Vec::new();
        let mut here = to;
        while let Some((before, pair)) = came.get(&here) {
            way.push(*pair);
            here = *before;
        }
        way
    }
}
