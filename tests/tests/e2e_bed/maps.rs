//! The contents of pinned maps, to be compared before and after something that must not change them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::shell::must;

/// What packets, not people, write.
const COUNTED: [&str; 14] = [
    "CONNS",
    "HALF_OPEN",
    "SNAT",
    "AFFINITY",
    "SOURCES",
    "FRAGMENTS",
    "GLOBALS",
    "REASONS",
    "VIP_TRAFFIC",
    "BACKEND_TRAFFIC",
    "TICKETS",
    "CAPS",
    "EVENTS",
    "CAPTURE",
];

/// Every pinned map that is written by the daemon, by name: keys and values in order. A map in a map shows the ids of
/// the inner ones, so that an exchange for an equal one shows, too.
pub fn contents(pin_dir: &Path) -> BTreeMap<String, Vec<String>> {
    let mut maps = BTreeMap::new();
    for version in std::fs::read_dir(pin_dir).unwrap().flatten() {
        for pin in std::fs::read_dir(version.path().join("maps")).unwrap().flatten() {
            let name = pin.file_name().into_string().unwrap();
            if COUNTED.contains(&name.as_str()) {
                continue;
            }
            let dump = must(&format!("bpftool -j map dump pinned {}", pin.path().display()));
            let entries: Vec<Value> =
                serde_json::from_str(&dump).unwrap_or_else(|e| panic!("{name}: {e}: {dump}"));
            let mut lines: Vec<String> =
                entries.iter().map(|entry| format!("{} {}", entry["key"], entry["value"])).collect();
            lines.sort();
            maps.insert(name, lines);
        }
    }
    assert!(maps.contains_key("SELECTION") && maps.contains_key("BACKENDS"), "{:?}", maps.keys());
    maps
}
