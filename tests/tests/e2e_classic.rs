//! The two seed experiments by their one command, with Open vSwitch, Mininet, curl and real connections: as they were,
//! and with XDP.

mod e2e_bed;

use std::path::Path;
use std::process::{Command, Stdio};

use e2e_bed::{binary, ensure_ovs, root};
use serde_json::Value;

/// Runs `mininet/experiment.py` to its end, which has to be a good one; its results.
fn experiment(arguments: &[&str]) -> Value {
    ensure_ovs();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mininet/experiment.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(script).args(arguments).arg("--json");
    command.arg("--lb").arg(binary("lb")).arg("--ofshim").arg(binary("ofshim"));
    let done = command.stdin(Stdio::null()).output().expect("/usr/bin/python3");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {told}");
    let results: Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!(results["misses"], Value::Array(Vec::new()), "{told}");
    results
}

fn names(result: &Value) -> Vec<&str> {
    result.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn the_experiment_of_pox() {
    if !root("the_experiment_of_pox") {
        return;
    }
    // By chance alone all 24 requests go to one server once in eight million runs.
    let with_xdp = ["pox", "--requests", "24"];
    let as_with_mn_mac = ["pox", "--requests", "24", "--balancer", "pox", "--openflow", "1.3", "--mac"];
    for arguments in [&with_xdp[..], &as_with_mn_mac] {
        let results = experiment(arguments);
        let modes = if arguments.len() == with_xdp.len() { &["pox", "xdp"][..] } else { &["pox"] };
        for mode in modes {
            let result = &results[mode];
            assert_eq!(result["pingall_loss_pct"], 0.0, "{mode}: {result:#}");
            let answers = names(&result["requests"]);
            assert!(answers.contains(&"h1") && answers.contains(&"h2"), "{mode}: {answers:?}");
            assert_eq!(names(&result["requests_after"]), ["h2"; 4], "{mode}");
        }
        // The patience alone is 3 s, of which a probe may have used up to one tick before.
        let detected = results["pox"]["detect_s"].as_f64().unwrap();
        assert!(detected > 2.0, "{detected}: sooner than POX could");
        let packet_ins = results["pox"]["packet_ins"].as_u64().unwrap();
        assert!(packet_ins >= 2 * 24, "two for each connection: {packet_ins}");
    }
}

#[test]
fn the_experiment_of_nox() {
    if !root("the_experiment_of_nox") {
        return;
    }
    for (openflow, balancers) in
        [("1.0", &["nox-packets", "nox", "xdp"][..]), ("1.3", &["nox-packets", "nox"])]
    {
        let mut arguments = vec!["nox", "--openflow", openflow];
        arguments.extend(balancers.iter().flat_map(|balancer| ["--balancer", balancer]));
        let results = experiment(&arguments);
        for balancer in balancers {
            let result = &results[balancer];
            let turns = names(&result["names"]);
            assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{balancer}: {turns:?}");
            assert_eq!(names(&result["names_after"]), ["h2"; 4], "{balancer}");
        }
        // As it was: every packet through the controller, and a dead host keeps its turn, so that a connection waits for
        // its second SYN, which another one gets.
        let packets = &results["nox-packets"];
        let count = |mode: &str| results[mode]["packet_ins"].as_u64().unwrap();
        assert!(count("nox-packets") >= 8 * 7 && count("nox") >= 8, "{results:#}");
        assert!(count("nox") < count("nox-packets"), "{results:#}");
        let waited = packets["seconds_after"].as_array().unwrap();
        assert!(waited.iter().any(|seconds| seconds.as_f64().unwrap() > 0.9), "{packets:#}");
    }
}
