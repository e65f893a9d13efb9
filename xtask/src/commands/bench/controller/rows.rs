//! What is measured of the controller, and what the samples of a row come to.

use serde_json::{Map, Value, json};

/// Who answers the packet-ins of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answerer {
    /// `ofbench null`, which decides nothing: the most that can be measured.
    Nobody,
    /// `ofshim run` with these options.
    Controller(&'static [&'static str]),
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name in the results.
    pub name: &'static str,
    /// What a person reads.
    pub label: &'static str,
    /// Who answers.
    pub answerer: Answerer,
    /// Options of `ofbench switches`.
    pub load: &'static [&'static str],
    /// Replies for a second of the controller's processor time that are aimed at.
    pub goal: Option<f64>,
}

const LEARNING: Answerer = Answerer::Controller(&["--forwarding", "learning"]);
const ROUTED: Answerer = Answerer::Controller(&["--forwarding", "routed"]);
/// More pairs of hosts than come in a round, and switches that have room for so many entries: all packets are of new
/// flows, and what had to go is told to the controller.
const NEW_FLOWS: &[&str] = &["--openflow", "1.3", "--flows", "800000", "--table", "20000"];
/// A balancer by flow entries, and connections to its VIP: each packet is the first of a new one, and its answer means
/// that both entries were sent.
const BALANCED: Answerer = Answerer::Controller(&[
    "--lb",
    "openflow",
    "--ip",
    "10.0.1.1",
    "--servers",
    "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4",
    "--port",
    "80",
]);
const GOAL: f64 = 2_000_000.0;

/// All rows, in order.
pub const ROWS: [Row; 12] = [
    Row {
        name: "null-1.0",
        label: "nothing decided, OpenFlow 1.0",
        answerer: Answerer::Nobody,
        load: &["--openflow", "1.0"],
        goal: None,
    },
    Row {
        name: "null-1.3",
        label: "nothing decided, OpenFlow 1.3",
        answerer: Answerer::Nobody,
        load: &["--openflow", "1.3"],
        goal: None,
    },
    Row {
        name: "learning-1.0",
        label: "learning, OpenFlow 1.0",
        answerer: LEARNING,
        load: &["--openflow", "1.0"],
        goal: Some(GOAL),
    },
    Row {
        name: "learning-1.3",
        label: "learning, OpenFlow 1.3",
        answerer: LEARNING,
        load: &["--openflow", "1.3"],
        goal: Some(GOAL),
    },
    Row {
        name: "learning-new-flows",
        label: "learning, every packet a new flow",
        answerer: LEARNING,
        load: NEW_FLOWS,
        goal: None,
    },
    Row {
        name: "routed-1.3",
        label: "routed, OpenFlow 1.3",
        answerer: ROUTED,
        load: &["--openflow", "1.3"],
        goal: None,
    },
    Row {
        name: "routed-new-flows",
        label: "routed, every packet a new flow",
        answerer: ROUTED,
        load: NEW_FLOWS,
        goal: None,
    },
    Row {
        name: "balanced-new-flows",
        label: "balanced, every packet a new connection",
        answerer: BALANCED,
        load: &["--openflow", "1.3", "--table", "20000", "--vip", "10.0.1.1:80"],
        goal: None,
    },
    Row {
        name: "null-latency",
        label: "nothing decided, one packet at a time",
        answerer: Answerer::Nobody,
        load: &["--window", "1"],
        goal: None,
    },
    Row {
        name: "learning-latency",
        label: "learning, one packet at a time",
        answerer: LEARNING,
        load: &["--window", "1"],
        goal: None,
    },
    Row {
        name: "routed-latency",
        label: "routed, one packet at a time",
        answerer: ROUTED,
        load: &["--window", "1"],
        goal: None,
    },
    Row {
        name: "balanced-latency",
        label: "balanced, one connection at a time",
        answerer: BALANCED,
        load: &["--window", "1", "--table", "20000", "--vip", "10.0.1.1:80"],
        goal: None,
    },
];

/// Least, middle and largest of some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle; of two, the greater.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of samples in any order; `None` of none.
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        Some(Self { min: *samples.first()?, median: *samples.get(samples.len() / 2)?, max: *samples.last()? })
    }
}

/// The numbers that are taken from each sample, by the path of their names.
const FIGURES: [(&str, &[&str]); 7] = [
    ("replies_per_cpu_s", &["replies_per_cpu_s"]),
    ("replies_per_s", &["replies_per_s"]),
    ("latency_p50_ns", &["latency", "p50_ns"]),
    ("latency_p99_ns", &["latency", "p99_ns"]),
    ("all_trees_ns", &["all_trees_ns"]),
    ("link_gone_ns", &["link_gone_ns"]),
    ("link_back_ns", &["link_back_ns"]),
];

/// The samples of a row as one object: each figure that they have as `_min`, `_median` and `_max`.
pub fn summary(name: &str, label: &str, samples: &[Value]) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("row".to_owned(), json!(name));
    row.insert("label".to_owned(), json!(label));
    row.insert("rounds".to_owned(), json!(samples.len()));
    for (figure, path) in FIGURES {
        let all =
            samples.iter().filter_map(|sample| path.iter().fold(sample, |value, key| &value[*key]).as_f64());
        if let Some(spread) = Spread::of(all.collect()) {
            for (end, value) in [("min", spread.min), ("median", spread.median), ("max", spread.max)] {
                row.insert(format!("{figure}_{end}"), json!(value));
            }
        }
    }
    let sum = |key: &str| samples.iter().filter_map(|sample| sample[key].as_u64()).sum::<u64>();
    if sum("replies") > 0 {
        row.insert("flow_mods_per_reply".to_owned(), json!(sum("flow_mods") as f64 / sum("replies") as f64));
        row.insert("unanswered".to_owned(), json!(sum("unanswered")));
        row.insert("strays".to_owned(), json!(sum("strays")));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_figures() {
        let sample = |replies: u64, cpu: f64| {
            json!({ "replies": replies, "flow_mods": 5, "unanswered": 0, "strays": 1, "replies_per_cpu_s": cpu,
                    "latency": { "p50_ns": 7 } })
        };
        let row = Value::Object(summary("a", "b", &[sample(10, 3.0), sample(20, 1.0), sample(20, 2.0)]));
        assert_eq!((&row["row"], &row["label"], &row["rounds"]), (&json!("a"), &json!("b"), &json!(3)));
        assert_eq!(row["replies_per_cpu_s_min"], 1.0);
        assert_eq!(
            (&row["replies_per_cpu_s_median"], &row["replies_per_cpu_s_max"]),
            (&json!(2.0), &json!(3.0))
        );
        assert_eq!((&row["latency_p50_ns_median"], &row["strays"]), (&json!(7.0), &json!(3)));
        assert_eq!(row["flow_mods_per_reply"], 0.3);
        assert!(row.get("link_gone_ns_min").is_none());
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }
}
