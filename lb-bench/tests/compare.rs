//! The comparison runs, says what it measured and what not, and leaves nothing behind, also when it is broken off.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

fn compare(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(workspace("mininet/compare.py"));
    command.arg("--lb").arg(given("LB_BIN", "target/debug/lb"));
    command.arg("--ofshim").arg(given("OFSHIM_BIN", "target/debug/ofshim"));
    command.arg("--traffic").arg(env!("CARGO_BIN_EXE_bench-traffic"));
    command.arg("--load").arg(env!("CARGO_BIN_EXE_bench-load"));
    command.args(arguments);
    command
}

/// Folders, pins and processes of the comparison that `pid` was.
fn left_behind(pid: u32) -> Vec<String> {
    let mark = format!("lb-compare-{pid}-");
    let mut found = Vec::new();
    for folder in [std::env::temp_dir(), PathBuf::from("/sys/fs/bpf")] {
        let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(names.map(|path| path.display().to_string()).filter(|path| path.contains(&mark)));
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&mark) {
            found.push(line);
        }
    }
    let bridges = Command::new("ovs-vsctl").args(["--columns=name,external_ids", "list", "bridge"]).output();
    let bridges = String::from_utf8_lossy(&bridges.unwrap().stdout).into_owned();
    found.extend(bridges.contains(&format!("\"{pid}\"")).then(|| format!("a bridge: {bridges}")));
    found
}

#[test]
fn ways_to_balance_are_compared() {
    if !testbed::root_or_say_so("the comparison in Mininet") {
        return;
    }
    let child = compare(&[
        "--modes",
        "direct,ovs-nat,inline,onearm-dsr",
        "--rounds",
        "1",
        "--seconds",
        "0.3",
        "--most",
        "200",
        "--flows",
        "60",
        "--churn-seconds",
        "6",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}", output.status);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let modes = result["modes"].as_array().unwrap();
    let names: Vec<&str> = modes.iter().map(|mode| mode["mode"].as_str().unwrap()).collect();
    assert_eq!(names, ["direct", "ovs-nat", "inline", "onearm-dsr"]);
    for mode in modes {
        let metrics = mode["metrics"].as_object().unwrap();
        for (name, metric) in metrics {
            assert!(!metric["unit"].as_str().unwrap().is_empty(), "{name}");
            let has_reason = metric["reason"].as_str().is_some_and(|reason| !reason.is_empty());
            assert_eq!(metric["median"].is_null(), has_reason, "{name} of {mode}");
        }
        for name in
            ["latency_p50", "bulk", "udp", "load_completed", "load_100_p99", "load_800_p99", "memory_switch"]
        {
            assert!(metrics[name]["median"].as_f64().unwrap() > 0.0, "{name} of {mode}");
        }
        assert!(!mode["commands"].as_array().unwrap().is_empty());
        assert_eq!(metrics["entries_after"]["median"], metrics["entries_before"]["median"], "{mode}");
    }
    let figure = |mode: usize, name: &str| &modes[mode]["metrics"][name];
    assert_eq!(figure(0, "dead_backend")["reason"], "no balancer, so no pool");
    assert_eq!(figure(1, "cpu_controller")["reason"], "no controller");
    // Four slots of ports for three backends: the fourth backend takes one of them over, with what was open there.
    assert!(figure(1, "broken_scale_out")["median"].as_f64().unwrap() > 0.0);
    for mode in [2, 3] {
        for name in ["broken_before", "broken_scale_out", "broken_scale_in"] {
            assert_eq!(figure(mode, name)["median"], 0, "{name} of {}", modes[mode]);
        }
        assert_eq!(figure(mode, "churn_flows")["median"], 60);
        assert!(figure(mode, "dead_backend")["median"].as_f64().unwrap() < 30.0);
    }
    assert_eq!(left_behind(pid), Vec::<String>::new());
}

#[test]
fn what_is_broken_off_is_cleaned_up() {
    if !testbed::root_or_say_so("breaking the comparison off") {
        return;
    }
    let mut child = compare(&["--modes", "inline", "--rounds", "1", "--seconds", "5", "--flows", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("TCP bulk")), "it ended before");
    assert!(!left_behind(pid).is_empty(), "there is something to clean up");
    let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(sent.success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert_eq!(rest.last().map(String::as_str), Some("compare: ended by SIGINT, cleaned up"));
    assert_eq!(left_behind(pid), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_no_pox_is_refused() {
    if !testbed::root_or_say_so("refusing a folder") {
        return;
    }
    let output = compare(&["--pox", "/nowhere"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(told, "compare: --pox /nowhere: there is no pox.py in it; name a checkout of POX\n");
}
