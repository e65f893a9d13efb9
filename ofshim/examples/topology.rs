//! What the topology costs: all shortest-path trees from scratch, one link that goes and comes, one look-up.
//!
//! `cargo run --release -p ofshim --example topology` prints a table, with `-- --json` an object a line, in nanoseconds.
//! `cargo xtask bench controller` runs it several times.

use std::time::{Duration, Instant};

use ofshim::core::topo::{LinkKind, Place, Topology};
use openflow::{DatapathId, PortNo};

/// How often each link change is measured; the median counts.
const ROUNDS: usize = 21;
/// How often everything is computed anew; the median counts.
const FULL_ROUNDS: usize = 3;
/// How many routes are looked up.
const LOOK_UPS: u32 = 10_000;

/// Switches in pairs: which are wired together.
type Wires = Vec<(u64, u64)>;

fn ring(size: u64) -> Wires {
    (0..size).map(|a| (a, (a + 1) % size)).collect()
}

/// The fat tree with the fewest pods that has so many switches, cut to them (Al-Fares et al., 2008).
fn fat_tree(size: u64) -> Wires {
    let k = (2..).step_by(2).find(|k| k * k * 5 / 4 >= size).unwrap_or(2);
    let (half, core) = (k / 2, k * k / 4);
    let mut wires = Vec::new();
    for pod in 0..k {
        let first = core + pod * k;
        for upper in 0..half {
            wires.extend((0..half).map(|root| (first + upper, upper * half + root)));
            wires.extend((0..half).map(|lower| (first + upper, first + half + lower)));
        }
    }
    wires.retain(|(a, b)| *a < size && *b < size);
    wires
}

/// A ring with twice as many links across it, always the same.
fn random(size: u64) -> Wires {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % size
    };
    let mut wires = ring(size);
    wires.extend((0..size * 2).map(|_| (next(), next())).filter(|(a, b)| a != b));
    wires
}

fn ends(number: usize, (a, b): (u64, u64)) -> (Place, Place) {
    let port = PortNo(u32::try_from(number).unwrap_or_default() + 1);
    (Place::new(DatapathId(a), port), Place::new(DatapathId(b), port))
}

fn connect(topology: &mut Topology, number: usize, wire: (u64, u64)) {
    let (a, b) = ends(number, wire);
    topology.set_link(a, b, LinkKind::Direct, 1);
    topology.set_link(b, a, LinkKind::Direct, 1);
}

/// All trees that are kept, asked for one by one.
fn trees_of(topology: &mut Topology, size: u64) -> Duration {
    let start = Instant::now();
    for to in 0..size.min(1000) {
        let _ = topology.path(DatapathId((to + 1) % size), DatapathId(to), &|_| 0);
    }
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What was measured of one network; medians.
struct Row {
    network: &'static str,
    switches: u64,
    wires: usize,
    /// Everything is computed anew.
    all_trees: Duration,
    /// A link goes, and everything is brought up to date.
    link_gone: Duration,
    /// It comes back.
    link_back: Duration,
    /// A route between two switches.
    look_up: Duration,
}

fn measure(network: &'static str, size: u64, wires: &Wires) -> Row {
    let mut topology = Topology::default();
    (0..size).for_each(|dpid| topology.add_switch(DatapathId(dpid)));
    for (number, wire) in wires.iter().enumerate() {
        connect(&mut topology, number, *wire);
    }
    let all_trees = (0..FULL_ROUNDS).map(|_| trees_of(&mut topology.clone(), size)).collect();
    trees_of(&mut topology, size);
    let (mut gone, mut back) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let number = wires.len() * round / ROUNDS;
        let Some(wire) = wires.get(number).copied() else { continue };
        let (a, b) = ends(number, wire);
        let start = Instant::now();
        let change = topology.remove_link(a, b);
        gone.push(start.elapsed());
        assert_eq!(change.lost.len(), 2, "the link was there");
        topology.remove_link(b, a);
        let start = Instant::now();
        connect(&mut topology, number, wire);
        back.push(start.elapsed());
    }
    let start = Instant::now();
    for number in 0..LOOK_UPS {
        let (from, to) =
            (DatapathId(u64::from(number) * 7 % size), DatapathId(u64::from(number) * 13 % size.min(1000)));
        assert!(topology.path(from, to, &|_| 0).is_some() || network == "fat tree");
    }
    let look_up = start.elapsed() / LOOK_UPS;
    Row {
        network,
        switches: size,
        wires: wires.len(),
        all_trees: median(all_trees),
        link_gone: median(gone),
        link_back: median(back),
        look_up,
    }
}

impl Row {
    fn json(&self) -> serde_json::Value {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        serde_json::json!({
            "network": self.network,
            "switches": self.switches,
            "wires": self.wires,
            "all_trees_ns": ns(self.all_trees),
            "link_gone_ns": ns(self.link_gone),
            "link_back_ns": ns(self.link_back),
            "look_up_ns": ns(self.look_up),
        })
    }

    fn line(&self) -> String {
        format!(
            "{:<9} {:>5} switches {:>6} wires: all trees {:>10.1?}, link gone {:>10.1?} ({:.1} x faster), link back \
             {:>10.1?}, look-up {:?}",
            self.network,
            self.switches,
            self.wires,
            self.all_trees,
            self.link_gone,
            self.all_trees.as_secs_f64() / self.link_gone.as_secs_f64().max(1e-9),
            self.link_back,
            self.look_up,
        )
    }
}

fn main() {
    let json = std::env::args().any(|word| word == "--json");
    for size in [100, 1000, 5000] {
        for (network, wires) in [("ring", ring(size)), ("fat tree", fat_tree(size)), ("random", random(size))]
        {
            let row = measure(network, size, &wires);
            if json {
                println!("{}", row.json());
            } else {
                println!("{}", row.line());
            }
        }
    }
}
