//! Shortest-path trees, one for each destination that is asked for, kept up to date link by link.
//!
//! A tree is the distance of every switch to the destination. The next hops follow from it: a link u -> v is on a
//! shortest path if and only if `distance(u) == cost + distance(v)`, so all equal-cost paths are there at no price, in
//! the graph's fixed order. When a link gets worse, only switches whose every shortest path used it are computed anew;
//! when one gets better, only those that gain (Ramalingam and Reps, 1996). Where most of a tree relied on a link, as in a
//! ring, it is computed anew instead.

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
    work: Work,
}

/// Repairing a tree costs more for each switch than computing it anew: it is given up when more than one in so many
/// switches are affected.
const WORTH_REPAIRING: usize = 4;

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
    pub fn new(limit: usize) -> Self {
        Self {
            trees: BTreeMap::new(),
            uses: BTreeSet::new(),
            clock: 0,
            limit,
            made: 0,
            recomputed: 0,
            work: Work::default(),
        }
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
                    self.work.got_worse(graph, distances, change, before, *destination)
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

/// What [`Work::got_worse`] needs while it looks at one tree after the other.
#[derive(Clone, Debug, Default)]
struct Work {
    /// In which round a switch was last found to be affected, or to be looked at.
    affected_in: Vec<u64>,
    queued_in: Vec<u64>,
    round: u64,
    affected: Vec<Node>,
    candidates: BinaryHeap<(Reverse<u64>, Node)>,
    heap: BinaryHeap<(Reverse<u64>, Node)>,
}

impl Work {
    /// A link got worse or went; how many distances were computed anew. Where so many switches relied on it that
    /// computing all is cheaper, all are.
    fn got_worse(
        &mut self,
        graph: &Graph,
        distances: &mut [u64],
        change: LinkChange,
        before: Cost,
        destination: Node,
    ) -> u64 {
        let (here, there) = (at(distances, change.from), at(distances, change.to));
        if there == UNREACHED || there.saturating_add(before.into()) != here {
            return 0;
        }
        if !self.find_affected(graph, distances, change.from, distances.len() / WORTH_REPAIRING) {
            return compute_all(graph, distances, destination);
        }
        self.heap.clear();
        for node in &self.affected {
            let kept = |edge: &&Edge| !is_in(&self.affected_in, edge.node, self.round);
            let best = graph.out(*node).iter().filter(kept);
            let best = best.map(|edge| at(distances, edge.node).saturating_add(edge.cost.into())).min();
            let best = best.unwrap_or(UNREACHED);
            if best != UNREACHED {
                self.heap.push((Reverse(best), *node));
            }
        }
        for node in &self.affected {
            set(distances, *node, UNREACHED);
        }
        for (Reverse(best), node) in &self.heap {
            set(distances, *node, *best);
        }
        settle(graph, distances, &mut self.heap);
        self.affected.len() as u64
    }

    /// Finds the switches whose every shortest path used a link that leaves `start`; false if they are more than
    /// `limit`.
    fn find_affected(&mut self, graph: &Graph, distances: &[u64], start: Node, limit: usize) -> bool {
        self.round += 1;
        self.affected_in.resize(distances.len(), 0);
        self.queued_in.resize(distances.len(), 0);
        self.affected.clear();
        self.candidates.clear();
        self.candidates.push((Reverse(at(distances, start)), start));
        // Nearest first: what a switch relies on has been decided before it.
        while let Some((Reverse(distance), node)) = self.candidates.pop() {
            let holds = |edge: &Edge| {
                !is_in(&self.affected_in, edge.node, self.round) && tight(distances, distance, edge)
            };
            if graph.out(node).iter().any(holds) {
                continue;
            }
            if self.affected.len() >= limit.max(1) {
                return false;
            }
            mark(&mut self.affected_in, node, self.round);
            self.affected.push(node);
            for edge in graph.incoming(node) {
                let further = at(distances, edge.node);
                if distance.saturating_add(edge.cost.into()) == further
                    && !is_in(&self.queued_in, edge.node, self.round)
                {
                    mark(&mut self.queued_in, edge.node, self.round);
                    self.candidates.push((Reverse(further), edge.node));
                }
            }
        }
        true
    }
}

/// Computes all distances anew; how many are others now.
fn compute_all(graph: &Graph, distances: &mut [u64], destination: Node) -> u64 {
    let fresh = from_scratch(graph, destination);
    let changed = fresh.iter().zip(&*distances).filter(|(new, old)| new != old).count();
    distances.iter_mut().zip(fresh).for_each(|(old, new)| *old = new);
    changed as u64
}

fn is_in(rounds: &[u64], node: Node, round: u64) -> bool {
    rounds.get(node as usize) == Some(&round)
}

fn mark(rounds: &mut [u64], node: Node, round: u64) {
    if let Some(place) = rounds.get_mut(node as usize) {
        *place = round;
    }
}
