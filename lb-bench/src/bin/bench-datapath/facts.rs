//! What the figures depend on: the machine, and what the kernel says about programs and tables.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya::programs::loaded_programs;
use lb_core::Stage;
use lb_user::io::{bpf, sys};
use serde_json::{Value, json};
use std::os::fd::AsFd;

use crate::scene::Scene;

/// Tables whose entries are connections, or parts of some.
const TABLES: [&str; 6] = ["CONNS", "HALF_OPEN", "SNATS", "AFFINITY", "SOURCES", "FRAGMENTS"];

/// Kernel, processor, and what else is on the machine. Whether there is a JIT compiler shows in the `programs`: its switch
/// is of another network namespace.
pub fn conditions(programs: &[Value]) -> Value {
    let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    json!({
        "kernel": line("/proc/sys/kernel/osrelease"),
        "cpu": model,
        "cpus": sys::processors(),
        "jit": programs.iter().any(|program| program["jited_bytes"].as_u64().is_some_and(|bytes| bytes > 0)),
        "load_average": line("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse::<f64>().ok()),
        "mitigations": mitigations(),
    })
}

/// Every weakness of this processor that something is done about.
fn mitigations() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let text = text.trim();
            let is_calm = text == "Not affected";
            (!is_calm).then(|| format!("{}: {text}", entry.file_name().to_string_lossy()))
        })
        .collect();
    found.sort();
    found
}

/// The ids of all programs in the kernel.
pub fn program_ids() -> BTreeSet<u32> {
    loaded_programs().filter_map(Result::ok).map(|info| info.id()).collect()
}

/// The balancer's programs among those that were not there `before`.
pub fn programs(before: &BTreeSet<u32>) -> Vec<Value> {
    let names: Vec<&str> =
        ["lb_balance", "lb_pass"].into_iter().chain(Stage::ALL.map(Stage::program)).collect();
    let new = loaded_programs().filter_map(Result::ok).filter(|info| !before.contains(&info.id()));
    let mut found: Vec<_> = new.filter_map(|info| Some((info.name_as_str()?.to_owned(), info))).collect();
    found.retain(|(name, _)| names.contains(&name.as_str()));
    let place = |name: &str| names.iter().position(|other| *other == name);
    found.sort_by_key(|(name, _)| place(name));
    found.dedup_by(|a, b| a.0 == b.0);
    found
        .iter()
        .map(|(name, info)| {
            json!({
                "name": name,
                "verified_instructions": info.verified_instruction_count(),
                "translated_bytes": info.size_translated(),
                "jited_bytes": info.size_jitted(),
            })
        })
        .collect()
}

/// Kernel memory of an entry of each table.
pub fn tables(scene: &Scene) -> Result<Vec<Value>> {
    TABLES
        .iter()
        .map(|name| {
            let pin = scene.pins.map(name);
            let map = MapData::from_pin(&pin).with_context(|| format!("cannot open {}", pin.display()))?;
            let (bytes, entries) = (bpf::memory(map.fd().as_fd())?, map.info()?.max_entries());
            Ok(json!({
                "name": name,
                "entries": entries,
                "memory_bytes": bytes,
                "bytes_an_entry": bytes as f64 / f64::from(entries.max(1)),
            }))
        })
        .collect()
}

/// The object's size and where it came from.
pub fn object(path: &Path) -> Value {
    json!({ "path": path, "bytes": fs::metadata(path).map(|meta| meta.len()).ok() })
}
