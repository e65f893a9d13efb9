//! Trees, clusters and paths against petgraph, over random networks that change link by link.

use std::collections::{BTreeMap, BTreeSet};

use ofshim::core::topo::{LinkKind, Place, PortRole, Topology};
use openflow::{DatapathId, PortNo};
use petgraph::algo::{connected_components, dijkstra, min_spanning_tree};
use petgraph::graph::{NodeIndex, UnGraph};
use petgraph::prelude::DiGraph;
use proptest::prelude::*;

const SWITCHES: u64 = 9;

/// A link in both directions: two switches and a cost; the port of each is the link's number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wire {
    a: u64,
    b: u64,
    cost: u32,
}

fn ends(number: usize, wire: Wire) -> (Place, Place) {
    let port = PortNo(number as u32 + 1);
    (Place::new(DatapathId(wire.a), port), Place::new(DatapathId(wire.b), port))
}

fn connect(topology: &mut Topology, number: usize, wire: Wire) {
    let (a, b) = ends(number, wire);
    topology.set_link(a, b, LinkKind::Direct, wire.cost);
    topology.set_link(b, a, LinkKind::Direct, wire.cost);
}

fn directed(wires: &BTreeMap<usize, Wire>) -> (DiGraph<u64, u32>, Vec<NodeIndex>) {
    let mut graph = DiGraph::new();
    let nodes: Vec<_> = (0..SWITCHES).map(|dpid| graph.add_node(dpid)).collect();
    for wire in wires.values() {
        graph.add_edge(nodes[wire.a as usize], nodes[wire.b as usize], wire.cost);
        graph.add_edge(nodes[wire.b as usize], nodes[wire.a as usize], wire.cost);
    }
    (graph, nodes)
}

/// All distances, and that each path goes where it says at the price that it says.
fn assert_paths(topology: &mut Topology, wires: &BTreeMap<usize, Wire>) -> Result<(), TestCaseError> {
    let (graph, nodes) = directed(wires);
    for from in 0..SWITCHES {
        let expected = dijkstra(&graph, nodes[from as usize], None, |edge| u64::from(*edge.weight()));
        for to in 0..SWITCHES {
            let path = topology.path(DatapathId(from), DatapathId(to), &|_| 0);
            let cost = path.as_ref().map(|links| {
                let mut here = from;
                let mut cost = 0;
                for (start, end) in links {
                    let wire = wires[&(start.port.0 as usize - 1)];
                    assert_eq!((start.dpid.0, start.port), (here, end.port));
                    here = end.dpid.0;
                    cost += u64::from(wire.cost);
                }
                assert_eq!(here, to);
                cost
            });
            prop_assert_eq!(cost, expected.get(&nodes[to as usize]).copied(), "{} -> {}", from, to);
        }
    }
    Ok(())
}

/// As many trees as components; each tree spans its cluster; and the total rank is least.
fn assert_forest(topology: &Topology, wires: &BTreeMap<usize, Wire>) -> Result<(), TestCaseError> {
    let mut graph: UnGraph<u64, u32> = UnGraph::default();
    let nodes: Vec<_> = (0..SWITCHES).map(|dpid| graph.add_node(dpid)).collect();
    for wire in wires.values() {
        graph.add_edge(nodes[wire.a as usize], nodes[wire.b as usize], 1);
    }
    prop_assert_eq!(topology.forest().clusters().len(), connected_components(&graph));
    let spanning = min_spanning_tree(&graph)
        .filter(|element| matches!(element, petgraph::data::Element::Edge { .. }))
        .count();
    prop_assert_eq!(topology.forest().tree().count(), spanning);
    let mut tree: UnGraph<u64, ()> = UnGraph::default();
    let nodes: Vec<_> = (0..SWITCHES).map(|dpid| tree.add_node(dpid)).collect();
    for pair in topology.forest().tree() {
        tree.add_edge(nodes[pair.a.dpid.0 as usize], nodes[pair.b.dpid.0 as usize], ());
        prop_assert_eq!(topology.role(pair.a), PortRole::Tree);
        prop_assert_eq!(topology.role(pair.b), PortRole::Tree);
    }
    prop_assert_eq!(
        connected_components(&tree),
        connected_components(&graph),
        "as many edges and as many parts: no loop"
    );
    for a in 0..SWITCHES {
        for b in 0..SWITCHES {
            let together =
                petgraph::algo::has_path_connecting(&tree, nodes[a as usize], nodes[b as usize], None);
            let (a, b) = (topology.cluster(DatapathId(a)), topology.cluster(DatapathId(b)));
            prop_assert_eq!(a == b, together);
        }
    }
    Ok(())
}

fn wire() -> impl Strategy<Value = Wire> {
    (0..SWITCHES, 0..SWITCHES, 1..5_u32)
        .prop_filter("two switches", |(a, b, _)| a != b)
        .prop_map(|(a, b, cost)| Wire { a, b, cost })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Links come, go and change their cost; after each step everything is as if computed from scratch.
    #[test]
    fn every_change_gives_what_a_full_computation_gives(
        start in proptest::collection::vec(wire(), 0..16),
        steps in proptest::collection::vec((0..16_usize, proptest::option::of(wire())), 1..24),
    ) {
        let mut topology = Topology::default();
        (0..SWITCHES).for_each(|dpid| topology.add_switch(DatapathId(dpid)));
        let mut wires: BTreeMap<usize, Wire> = start.into_iter().enumerate().collect();
        for (number, wire) in &wires {
            connect(&mut topology, *number, *wire);
        }
        assert_paths(&mut topology, &wires)?;
        for (number, wire) in steps {
            if let Some(old) = wires.get(&number).copied() {
                let same_ends = wire.is_some_and(|wire| (wire.a, wire.b) == (old.a, old.b));
                if !same_ends {
                    let (a, b) = ends(number, old);
                    topology.remove_link(a, b);
                    topology.remove_link(b, a);
                    wires.remove(&number);
                }
            }
            if let Some(wire) = wire {
                connect(&mut topology, number, wire);
                wires.insert(number, wire);
            }
            assert_paths(&mut topology, &wires)?;
            assert_forest(&topology, &wires)?;
        }
        let mut fresh = Topology::default();
        (0..SWITCHES).for_each(|dpid| fresh.add_switch(DatapathId(dpid)));
        for (number, wire) in wires.iter().rev() {
            connect(&mut fresh, *number, *wire);
        }
        prop_assert!(fresh.forest().tree().eq(topology.forest().tree()), "the tree depends on the links alone");
        for (from, to) in (0..SWITCHES).flat_map(|from| (0..SWITCHES).map(move |to| (from, to))) {
            let (from, to) = (DatapathId(from), DatapathId(to));
            prop_assert_eq!(fresh.path(from, to, &|_| 0), topology.path(from, to, &|_| 0), "so do the paths");
        }
    }

    /// The k shortest paths are the k cheapest of all simple paths.
    #[test]
    fn k_shortest_paths_are_the_cheapest_simple_paths(
        start in proptest::collection::vec(wire(), 4..14), k in 1..6_usize,
    ) {
        let mut topology = Topology::default();
        (0..SWITCHES).for_each(|dpid| topology.add_switch(DatapathId(dpid)));
        let wires: BTreeMap<usize, Wire> = start.into_iter().enumerate().collect();
        for (number, wire) in &wires {
            connect(&mut topology, *number, *wire);
        }
        let mut all = Vec::new();
        simple_paths(&wires, 8, &mut vec![0], &mut Vec::new(), &mut all);
        let mut expected: Vec<u64> = all.iter().map(|path| path.iter().map(|link| u64::from(wires[link].cost)).sum()).collect();
        expected.sort_unstable();
        expected.truncate(k);
        let found = topology.paths(DatapathId(0), DatapathId(8), k);
        let costs: Vec<u64> = found.iter().map(|(cost, _)| *cost).collect();
        prop_assert_eq!(costs, expected);
        let different: BTreeSet<_> = found.iter().map(|(_, links)| links.clone()).collect();
        prop_assert_eq!(different.len(), found.len());
    }
}

/// All simple paths to a switch, as the links that they take.
fn simple_paths(
    wires: &BTreeMap<usize, Wire>,
    to: u64,
    visited: &mut Vec<u64>,
    links: &mut Vec<usize>,
    all: &mut Vec<Vec<usize>>,
) {
    let here = visited[visited.len() - 1];
    if here == to {
        all.push(links.clone());
        return;
    }
    for (number, wire) in wires {
        let next = if wire.a == here { wire.b } else { wire.a };
        if (wire.a == here || wire.b == here) && !visited.contains(&next) {
            visited.push(next);
            links.push(*number);
            simple_paths(wires, to, visited, links, all);
            visited.pop();
            links.pop();
        }
    }
}

#[test]
fn a_change_touches_only_the_trees_that_use_the_link() {
    // A ring of eight: 0 - 1 - ... - 7 - 0.
    let mut topology = Topology::default();
    let wires: Vec<Wire> = (0..8).map(|a| Wire { a, b: (a + 1) % 8, cost: 1 }).collect();
    for (number, wire) in wires.iter().enumerate() {
        connect(&mut topology, number, *wire);
    }
    for to in 0..8 {
        assert!(topology.path(DatapathId(0), DatapathId(to), &|_| 0).is_some());
    }
    let before = topology.tree_figures().1;
    let (a, b) = ends(3, wires[3]);
    let change = topology.remove_link(a, b);
    assert_eq!(change.lost, [(a, b), (b, a)]);
    assert!(change.tree, "the ring was cut at another link before");
    let touched: Vec<u64> = change.touched.iter().map(|dpid| dpid.0).collect();
    assert_eq!(
        touched,
        [1, 2, 3, 4, 5, 6],
        "0 and 7 are reached from both ends by another way that is as short"
    );
    let work = topology.tree_figures().1 - before;
    assert!(work < 8 * 8, "{work} distances instead of all 64");
    assert_eq!(topology.path(DatapathId(3), DatapathId(4), &|_| 0).unwrap().len(), 7);
    // The link that was not on the tree changes no tree when it goes.
    assert!(topology.remove_link(b, a).is_none());
}

#[test]
fn ports_have_roles() {
    let mut topology = Topology::default();
    let place = |dpid, port| Place::new(DatapathId(dpid), PortNo(port));
    topology.set_link(place(1, 1), place(2, 1), LinkKind::Direct, 1);
    assert_eq!(topology.role(place(1, 1)), PortRole::OneWay);
    assert_eq!(topology.role(place(2, 1)), PortRole::OneWay);
    assert_eq!(
        topology.path(DatapathId(1), DatapathId(2), &|_| 0),
        None,
        "not before both directions are known"
    );
    topology.set_link(place(2, 1), place(1, 1), LinkKind::Direct, 1);
    topology.set_link(place(1, 2), place(2, 2), LinkKind::MultiHop, 1);
    topology.set_link(place(2, 2), place(1, 2), LinkKind::MultiHop, 1);
    assert_eq!((topology.role(place(1, 1)), topology.role(place(1, 2))), (PortRole::Tree, PortRole::Blocked));
    assert_eq!(topology.role(place(1, 3)), PortRole::Edge);
    topology.set_link(place(1, 4), place(1, 5), LinkKind::Direct, 1);
    assert_eq!((topology.role(place(1, 4)), topology.role(place(1, 5))), (PortRole::Loop, PortRole::Loop));
    assert!(topology.is_segment(place(1, 2)) && !topology.is_segment(place(1, 1)));
    let change = topology.remove_switch(DatapathId(2));
    assert_eq!(change.lost.len(), 4);
    assert_eq!(topology.role(place(1, 1)), PortRole::Edge);
    assert_eq!(topology.link_count(), 1, "the loop of switch 1 is left");
}

#[test]
fn the_cache_of_trees_is_bounded() {
    let mut topology = Topology::default();
    let wires: Vec<Wire> = (0..1200).map(|a| Wire { a, b: a + 1, cost: 1 }).collect();
    for (number, wire) in wires.iter().enumerate() {
        connect(&mut topology, number, *wire);
    }
    for to in 0..1200 {
        assert_eq!(topology.path(DatapathId(0), DatapathId(to), &|_| 0).unwrap().len(), to as usize);
    }
    assert_eq!(topology.tree_figures().0.len(), ofshim::core::topo::MAX_TREES);
}
