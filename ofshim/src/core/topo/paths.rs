//! The k shortest loop-free paths (Yen, 1971).

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::graph::{Edge, Graph, Node};

/// A path: its cost, and the links that it takes, each with the switch that it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The sum of its links' costs.
    pub cost: u64,
    /// The links in order.
    pub links: Vec<(Node, Edge)>,
}

/// What a detour may not use.
#[derive(Default)]
struct Barred {
    nodes: BTreeSet<Node>,
    links: BTreeSet<(Node, u32, u32)>,
}

/// Up to `k` shortest paths without a loop, cheapest first; those of equal cost in the graph's order.
#[must_use]
pub fn shortest_paths(graph: &Graph, from: Node, to: Node, k: usize) -> Vec<Path> {
    let mut found: Vec<Path> = Vec::new();
    let Some(first) = shortest(graph, from, to, &Barred::default()) else { return found };
    let mut candidates = BTreeSet::from([key(graph, first)]);
    let mut seen = candidates.clone();
    while found.len() < k
        && let Some((cost, _, path)) = candidates.pop_first()
    {
        let path = Path { cost, links: path.0 };
        for at in 0..path.links.len() {
            if let Some(detour) = detour(graph, &path, at, to, &found) {
                let detour = key(graph, detour);
                if seen.insert(detour.clone()) {
                    candidates.insert(detour);
                }
            }
        }
        found.push(path);
    }
    found
}

/// Links in an order of their own, so that candidates can be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Links(Vec<(Node, Edge)>);

impl PartialOrd for Links {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Links {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = |links: &Self| -> Vec<_> {
            links.0.iter().map(|(node, edge)| (*node, edge.port, edge.node, edge.peer)).collect()
        };
        order(self).cmp(&order(other))
    }
}

/// Cheapest first, then by datapath ids and ports, whatever the switches' numbers are.
type Key = (u64, Vec<(u64, u32)>, Links);

fn key(graph: &Graph, path: Path) -> Key {
    let names = path.links.iter().map(|(_, edge)| (graph.dpid(edge.node).0, edge.port.0)).collect();
    (path.cost, names, Links(path.links))
}

/// The shortest path that follows `path` for `at` links and leaves it there, other than the paths found.
fn detour(graph: &Graph, path: &Path, at: usize, to: Node, found: &[Path]) -> Option<Path> {
    let (root, rest) = path.links.split_at_checked(at)?;
    let spur = rest.first()?.0;
    let mut barred = Barred::default();
    for other in found.iter().chain([path]) {
        if let Some((shared, [(node, edge), ..])) = other.links.split_at_checked(at)
            && shared == root
        {
            barred.links.insert((*node, edge.port.0, edge.peer.0));
        }
    }
    barred.nodes.extend(root.iter().map(|(node, _)| *node));
    let tail = shortest(graph, spur, to, &barred)?;
    let cost = root.iter().map(|(_, edge)| u64::from(edge.cost)).sum::<u64>() + tail.cost;
    Some(Path { cost, links: [root, &tail.links].concat() })
}

/// How far a switch is, and the link by which it is reached; none for the source.
type Reached = (u64, Option<(Node, Edge)>);

/// Dijkstra from the source, for one path.
fn shortest(graph: &Graph, from: Node, to: Node, barred: &Barred) -> Option<Path> {
    let mut best: Vec<Option<Reached>> = vec![None; graph.capacity()];
    if let Some(start) = best.get_mut(from as usize) {
        *start = Some((0, None));
    }
    let mut heap = BinaryHeap::from([(Reverse(0_u64), Reverse(graph.dpid(from)), from)]);
    while let Some((Reverse(distance), _, node)) = heap.pop() {
        if node == to {
            break;
        }
        let known = best.get(node as usize).copied().flatten();
        if known.is_none_or(|(nearest, _)| distance > nearest) {
            continue;
        }
        for edge in graph.out(node) {
            let is_barred =
                barred.nodes.contains(&edge.node) || barred.links.contains(&(node, edge.port.0, edge.peer.0));
            let further = distance + u64::from(edge.cost);
            let Some(other) = best.get_mut(edge.node as usize) else { continue };
            if !is_barred && other.is_none_or(|(nearest, _)| further < nearest) {
                *other = Some((further, Some((node, *edge))));
                heap.push((Reverse(further), Reverse(graph.dpid(edge.node)), edge.node));
            }
        }
    }
    let (cost, _) = best.get(to as usize).copied().flatten()?;
    let mut links = Vec::new();
    let mut here = to;
    while here != from {
        let (_, step) = best.get(here as usize).copied().flatten()?;
        let (node, edge) = step?;
        links.push((node, edge));
        here = node;
    }
    links.reverse();
    Some(Path { cost, links })
}
