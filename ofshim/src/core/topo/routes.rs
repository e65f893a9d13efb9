//! Shortest-path trees, one for each destination that is asked for, kept up to date link by link.
//!
//! A tree is the distance of every switch to the destination. The next hops follow from it: a link u -> v is on a
//! shortest path if and only if `distance(u) == cost + distance(v)`, so all equal-cost paths are there at no price, in
//! the graph's fixed order. When a link gets worse, only switches whose every shortest path used it are computed anew;
//! when one gets better, only those that gain (Ramalingam and Reps, 1996).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::graph::{Cost, Edge, Graph, Node};

/// The distance of a switch that does not reach the destination.
pub const UNREACHED: u64 = u64::MAX;

/// The distances of all switches to one destination.
#[derive(Clone, Debug)]
struct Tree {
    distances: Vec<u64>,
    used: u64,
}

/// The trees that were asked for lately.
#[derive(Clone, Debug)]
pub struct Routes {
    trees: BTreeMap<Node, Tree>,
    /// Which tree was used when, the least recently used first.
    uses: BTreeSet<(u64, Node)>,
    clock: u64,
    limit: usize,
    made: u64,
    recomputed: u64,
}

/// What happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Where it starts.
    pub from: Node,
    /// Where it ends.
    pub to: Node,
    /// Its cost before; `None` if it was not there.
    pub before: Option<Cost>,
    /// Its cost now; `None` if it is gone.
    pub after: Option<Cost>,
}

impl Routes {
    /// No tree, and room for `limit` of them.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { trees: BTreeMap::new(), uses: BTreeSet::new(), clock: 0, limit, made: 0, recomputed: 0 }
    }

    /// How many trees there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trees.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// Whether there is a tree for a destination.
    #[must_use]
    pub fn has(&self, destination: Node) -> bool {
        self.trees.contains_key(&destination)
    }

    /// How many trees are kept at most.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// How often a tree was asked for, and how often it had to be made.
    #[must_use]
    pub const fn look_ups(&self) -> (u64, u64) {
        (self.clock, self.made)
    }

    /// How many distances were computed so far.
    #[must_use]
    pub const fn recomputed(&self) -> u64 {
        self.recomputed
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.trees.clear();
        self.uses.clear();
    }

    /// Forgets the tree of a destination.
    pub fn forget(&mut self, destination: Node) {
        if let Some(tree) = self.trees.remove(&destination) {
            self.uses.remove(&(tree.used, destination));
        }
    }

    /// The distance from one switch to another; [`UNREACHED`] if there is no path.
    pub fn distance(&mut self, graph: &Graph, from: Node, to: Node) -> u64 {
        at(self.tree(graph, to), from)
    }

    /// The links by which a switch reaches the destination on shortest paths, in the graph's order.
    pub fn next_hops(&mut self, graph: &Graph, from: Node, to: Node) -> Vec<Edge> {
        let distances = self.tree(graph, to);
        let here = at(distances, from);
        if from == to || here == UNREACHED {
            return Vec::new();
        }
        graph.out(from).iter().filter(|edge| tight(distances, here, edge)).copied().collect()
    }

    /// A shortest path, as the links that it takes; empty from a switch to itself, `None` if there is none. `choose`
    /// picks among so many equal next hops.
    pub fn path(
        &mut self,
        graph: &Graph,
        from: Node,
        to: Node,
        choose: &dyn Fn(usize) -> usize,
    ) -> Option<Vec<(Node, Edge)>> {
        let mut path = Vec::new();
        let mut here = from;
        while here != to {
            let hops = self.next_hops(graph, here, to);
            let edge = *hops.get(choose(hops.len()).min(hops.len().saturating_sub(1)))?;
            path.push((here, edge));
            here = edge.node;
        }
        Some(path)
    }

    fn tree(&mut self, graph: &Graph, destination: Node) -> &[u64] {
        self.clock += 1;
        let now = self.clock;
        if !self.trees.contains_key(&destination) {
            if self.trees.len() >= self.limit
                && let Some((_, oldest)) = self.uses.pop_first()
            {
                self.trees.remove(&oldest);
            }
            let distances = from_scratch(graph, destination);
            self.made += 1;
            self.recomputed += distances.len() as u64;
            self.trees.insert(destination, Tree { distances, used: now });
        }
        let Some(tree) = self.trees.get_mut(&destination) else { return &[] };
        self.uses.remove(&(tree.used, destination));
        tree.used = now;
        self.uses.insert((now, destination));
        &tree.distances
    }

    /// Brings the trees up to date with a link of `graph` that has just changed; the destinations of those in which
    /// any distance is another now.
    pub fn link_changed(&mut self, graph: &Graph, change: LinkChange) -> Vec<Node> {
        let mut touched = Vec::new();
        for (destination, tree) in &mut self.trees {
            let distances = &mut tree.distances;
            distances.resize(graph.capacity().max(distances.len()), UNREACHED);
            let count = match (change.before, change.after) {
                (Some(before), after) if after.is_none_or(|after| after > before) => {
                    got_worse(graph, distances, change, before)
                }
                (_, Some(after)) => got_better(graph, distances, change, after),
                (_, None) => 0,
            };
            if count > 0 {
                self.recomputed += count;
                touched.push(*destination);
            }
        }
        touched
    }
}

fn at(distances: &[u64], node: Node) -> u64 {
    distances.get(node as usize).copied().unwrap_or(UNREACHED)
}

fn set(distances: &mut [u64], node: Node, distance: u64) {
    if let Some(place) = distances.get_mut(node as usize) {
        *place = distance;
    }
}

/// Whether a link from a switch at distance `here` is on a shortest path.
fn tight(distances: &[u64], here: u64, edge: &Edge) -> bool {
    let there = at(distances, edge.node);
    there != UNREACHED && there.saturating_add(edge.cost.into()) == here
}

/// All distances to `destination`.
#[must_use]
pub fn from_scratch(graph: &Graph, destination: Node) -> Vec<u64> {
    let mut distances = vec![UNREACHED; graph.capacity()];
    set(&mut distances, destination, 0);
    let mut heap = BinaryHeap::from([(Reverse(0_u64), destination)]);
    settle(graph, &mut distances, &mut heap);
    distances
}

/// Dijkstra from what is in the heap, against the direction of the links; how many distances changed.
fn settle(graph: &Graph, distances: &mut [u64], heap: &mut BinaryHeap<(Reverse<u64>, Node)>) -> u64 {
    let mut changed = 0;
    while let Some((Reverse(distance), node)) = heap.pop() {
        if distance > at(distances, node) {
            continue;
        }
        for edge in graph.incoming(node) {
            let further = distance.saturating_add(edge.cost.into());
            if further < at(distances, edge.node) {
                set(distances, edge.node, further);
                changed += 1;
                heap.push((Reverse(further), edge.node));
            }
        }
    }
    changed
}

fn got_better(graph: &Graph, distances: &mut [u64], change: LinkChange, cost: Cost) -> u64 {
    let there = at(distances, change.to);
    let distance = there.saturating_add(cost.into());
    if there == UNREACHED || distance >= at(distances, change.from) {
        return 0;
    }
    set(distances, change.from, distance);
    let mut heap = BinaryHeap::from([(Reverse(distance), change.from)]);
    1 + settle(graph, distances, &mut heap)
}

fn got_worse(graph: &Graph, distances: &mut [u64], change: LinkChange, before: Cost) -> u64 {
    let (here, there) = (at(distances, change.from), at(distances, change.to));
    if there == UNREACHED || there.saturating_add(before.into()) != here {
        return 0;
    }
    // Nearest first: what a switch relies on has been decided before it.
    let mut affected = BTreeSet::new();
    let mut candidates = BTreeSet::from([(here, change.from)]);
    while let Some((distance, node)) = candidates.pop_first() {
        let holds = |edge: &&Edge| !affected.contains(&edge.node) && tight(distances, distance, edge);
        if graph.out(node).iter().any(|edge| holds(&edge)) {
            continue;
        }
        affected.insert(node);
        for edge in graph.incoming(node) {
            let further = at(distances, edge.node);
            if distance.saturating_add(edge.cost.into()) == further {
                candidates.insert((further, edge.node));
            }
        }
    }
    let mut heap = BinaryHeap::new();
    for node in &affected {
        let kept = |edge: &&Edge| !affected.contains(&edge.node);
        let best = graph.out(*node).iter().filter(kept);
        let best = best.map(|edge| at(distances, edge.node).saturating_add(edge.cost.into())).min();
        let best = best.unwrap_or(UNREACHED);
        if best != UNREACHED {
            heap.push((Reverse(best), *node));
        }
    }
    for node in &affected {
        set(distances, *node, UNREACHED);
    }
    for (Reverse(best), node) in &heap {
        set(distances, *node, *best);
    }
    settle(graph, distances, &mut heap);
    affected.len() as u64
}
