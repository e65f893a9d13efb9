//! The benchmarks run, and what they measure is what they say: their own checks compare every packet with the core.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A file of the workspace.
fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// What `name` names, else a file of the workspace.
fn given(name: &str, path: &str) -> PathBuf {
    let file = std::env::var_os(name).map_or_else(|| workspace(path), PathBuf::from);
    assert!(
        file.exists(),
        "{} is not there: `cargo xtask test` builds it, or name it in {name}",
        file.display()
    );
    file
}

/// The JSON that a command prints.
fn result_of(command: &mut Command) -> Value {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{command:?}: {error}\n{told}"))
}

fn datapath(rows: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-datapath"));
    command.arg("--object").arg(given("LB_EBPF_OBJECT", "target/ebpf/lb.bpf.o"));
    command.arg("--bench-object").arg(workspace("target/ebpf/bench.bpf.o"));
    command.args(["--rounds", "1", "--rows", rows]);
    command
}

#[test]
fn packets_of_every_kind_are_measured() {
    if !testbed::root_or_say_so("what a packet costs") {
        return;
    }
    let rows = "floor_lru_1,tcp4_established_1,tcp4_new,syn_flood,udp6,not_ours,arp,malformed,fullnat_reply,ipip_established_1";
    let result = result_of(&mut datapath(rows));
    let names: Vec<&str> =
        result["rows"].as_array().unwrap().iter().map(|row| row["row"].as_str().unwrap()).collect();
    let expected = [
        "floor_lru_1",
        "floor_new",
        "tcp4_established_1",
        "tcp4_new",
        "tcp4_new_full",
        "syn_flood_beyond_cap",
        "not_ours",
        "arp_other",
        "arp_answered",
        "malformed",
        "udp6_established_1",
        "fullnat_reply_1",
        "ipip_established_1",
    ];
    assert_eq!(names, expected);
    for row in result["rows"].as_array().unwrap() {
        assert!(row["ns_min_with_wrapper"].as_f64().unwrap() > 0.0, "{row}");
    }
    let programs: Vec<&str> = result["programs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|program| program["name"].as_str().unwrap())
        .collect();
    assert!(programs.starts_with(&["lb_balance", "lb_pass", "lb_open"]), "{programs:?}");
    let connections = &result["tables"][0];
    assert_eq!(connections["name"], "CONNS");
    assert!(connections["bytes_an_entry"].as_f64().unwrap() <= 120.0, "{connections}");
}

#[test]
fn rows_that_do_not_exist_are_refused() {
    if !testbed::root_or_say_so("rows of what a packet costs") {
        return;
    }
    let output = datapath("no such row").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("no row is named like no such row"), "{told}");
}

#[test]
fn hosts_reach_backends_in_every_mode() {
    if !testbed::root_or_say_so("traffic between Mininet hosts") {
        return;
    }
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(workspace("mininet/bench.py"));
    command.arg("--lb").arg(given("LB_BIN", "target/debug/lb"));
    command.arg("--traffic").arg(env!("CARGO_BIN_EXE_bench-traffic"));
    command.args(["--rounds", "1", "--seconds", "0.2"]);
    let result = result_of(&mut command);
    let modes = result["modes"].as_array().unwrap();
    let names: Vec<&str> = modes.iter().map(|mode| mode["mode"].as_str().unwrap()).collect();
    assert_eq!(names, ["direct", "ovs-nat", "inline-redirect", "inline-pass", "onearm-nat", "onearm-dsr"]);
    for mode in modes {
        for figure in ["bulk", "connections", "udp", "latency_p50", "latency_p99"] {
            assert!(mode["metrics"][figure]["median"].as_f64().unwrap() > 0.0, "{figure}: {mode}");
        }
    }
}
