//! The figures as text: for the terminal, and for one cell of the report. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::figures::{at_rates, label, modes, values};
use crate::commands::results::text;
use crate::commands::svg::short;

/// What a figure's cell says: the median, with least and largest if they differ; a dash if the mode does not have it.
pub fn cell(mode: &Value, figure: &str) -> String {
    let Some([min, median, max]) = values(mode, figure) else { return "–".to_owned() };
    if min == max {
        return short(median);
    }
    format!("{} ({}–{})", short(median), short(min), short(max))
}

/// The figures that the terminal shows: name, and a heading of two words.
const SHOWN: [(&str, [&str; 2]); 14] = [
    ("load_last_good", ["borne", "1/s"]),
    ("load_800_p99", ["p99 ms", "at 800/s"]),
    ("latency_p50", ["request", "p50 us"]),
    ("bulk", ["bulk", "Gbit/s"]),
    ("udp", ["UDP", "1/s"]),
    ("packet_ins", ["packet-", "ins/conn"]),
    ("entries_max", ["entries", "at most"]),
    ("entries_after", ["entries", "after"]),
    ("cpu_controller", ["CPU %", "control"]),
    ("cpu_switch", ["CPU %", "switch"]),
    ("cpu_machine", ["CPU %", "machine"]),
    ("dead_backend", ["dead", "out, s"]),
    ("broken_scale_out", ["broken", "growing"]),
    ("broken_scale_in", ["broken", "shrinking"]),
];

/// What a person reads on the terminal: medians of what matters most.
pub fn terminal(measured: &Value) -> String {
    let machine = &measured["machine"];
    let mut out = format!(
        "Linux {}, {} ({} processors), load average {}\n{}, {} datapath; {} rounds, {} s for a measurement\n\n",
        text(&machine["kernel"]),
        text(&machine["cpu"]),
        machine["cpus"],
        machine["load_average"],
        text(&machine["switch"]),
        machine["datapath"].as_str().unwrap_or("no"),
        measured["rounds"],
        measured["seconds"]
    );
    for line in 0..2 {
        out += &row("", SHOWN.iter().map(|(_, heading)| heading[line].to_owned()));
    }
    for mode in modes(measured) {
        let median = |name| values(mode, name).map_or_else(|| "–".to_owned(), |[_, median, _]| short(median));
        out += &row(label(mode), SHOWN.iter().map(|(name, _)| median(name)));
    }
    out += "\n99th percentile in ms at each rate offered a second; * where it was not borne\n";
    for mode in modes(measured) {
        let rates: Vec<String> = at_rates(mode)
            .iter()
            .map(|at| {
                let p99 = at.p99_ms.map_or_else(|| "–".to_owned(), short);
                format!("{}: {p99}{}", short(f64::from(at.rate)), if at.is_good() { "" } else { "*" })
            })
            .collect();
        out += &format!("{:<28} {}\n", label(mode), rates.join("  "));
    }
    for (mode, reason) in measured["left_out"].as_object().into_iter().flatten() {
        out += &format!("\nleft out: {mode}: {}\n", text(reason));
    }
    out
}

fn row(label: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: String = cells.map(|cell| format!(" {cell:>9}")).collect();
    format!("{label:<28}{cells}\n")
}

/// Why figures are missing: each reason, with the modes and figures that it holds for.
pub fn reasons(measured: &Value) -> Vec<(String, Vec<String>)> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mode in modes(measured) {
        let mut of_mode: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, metric) in mode["metrics"].as_object().into_iter().flatten() {
            if let Some(reason) = metric["reason"].as_str().filter(|_| metric["median"].is_null()) {
                of_mode.entry(reason).or_default().push(name);
            }
        }
        for (reason, names) in of_mode {
            let what = format!("{}: {}", text(&mode["mode"]), names.join(", "));
            found.entry(reason.to_owned()).or_default().push(what);
        }
    }
    for (mode, reason) in measured["left_out"].as_object().into_iter().flatten() {
        found.entry(text(reason).to_owned()).or_default().push(format!("{mode}: everything"));
    }
    found.into_iter().collect()
}
