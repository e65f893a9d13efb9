//! `ofshim doctor` on bridges of a running Open vSwitch, which get one fault after the other.

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::ovs::{Bridge, must, root, run};
use support::{Controller, Folder, ofshim, refusal};

struct Doctor<'a> {
    bridge: &'a Bridge,
    run_dir: String,
}

impl Doctor<'_> {
    fn run(&self) -> Output {
        ofshim(&["doctor", "--json", "--run-dir", &self.run_dir, &self.bridge.name])
    }

    /// What is not well, as "name: what => mend"; and the exit status fits.
    fn bad(&self) -> Vec<String> {
        let done = self.run();
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        let failed = checks.iter().any(|check| check["status"] == "fail");
        assert_eq!(done.status.code(), Some(i32::from(failed)), "{report:#}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let bad = checks.iter().filter(|check| check["status"] != "ok");
        bad.map(|check| {
            format!("{}: {} => {}", text(&check["name"]), text(&check["what"]), text(&check["mend"]))
        })
        .collect()
    }

    /// Makes a fault, waits until it is found, heals it by `heal`, and waits until all is well.
    fn finds(&self, controller: &Controller, fault: &str, parts: &[&str], heal: &str) {
        must(fault);
        let found = || self.bad().iter().any(|line| parts.iter().all(|part| line.contains(part)));
        controller.wait(&format!("{fault}: {parts:?}, not {:#?}", self.bad()), found);
        must(heal);
        controller.wait(&format!("well after {heal}, not {:#?}", self.bad()), || self.bad().is_empty());
    }
}

#[test]
fn every_fault_of_a_bridge_is_named_and_its_mend_helps() {
    if !root("every_fault_of_a_bridge_is_named_and_its_mend_helps") {
        return;
    }
    let bridge = Bridge::new("1.3", 2);
    let controller = Controller::learning(&[]);
    let address = controller.address();
    bridge.connect(&address);
    controller.wait_for_log("is ready: OpenFlow 1.3");
    assert!(bridge.ping(1, "10.77.0.2", 1));
    let (name, port) = (&bridge.name, bridge.port(2));
    let doctor = Doctor { bridge: &bridge, run_dir: controller.run_dir() };
    controller.wait(&format!("all well, not {:#?}", doctor.bad()), || doctor.bad().is_empty());
    let text = String::from_utf8(ofshim(&["doctor", "--run-dir", &doctor.run_dir, name]).stdout).unwrap();
    assert!(text.contains("of ofshim: 3 table-miss, 2 forward"), "{text}");

    let finds = |fault: &str, parts: &[&str], heal: &str| doctor.finds(&controller, fault, parts, heal);
    finds(
        &format!("ovs-vsctl -t 10 del-fail-mode {name}"),
        &["fail-mode: standalone", &format!("=> ovs-vsctl set-fail-mode {name} secure")],
        &format!("ovs-vsctl -t 10 set-fail-mode {name} secure"),
    );
    let out_of_band = format!("ovs-vsctl set bridge {name} other-config:disable-in-band=true");
    finds(
        &format!("ovs-vsctl -t 10 remove bridge {name} other-config disable-in-band"),
        &["in-band: control over", &format!("=> {out_of_band}")],
        &out_of_band,
    );
    finds(
        &format!("ovs-vsctl -t 10 set bridge {name} protocols=OpenFlow14"),
        &["openflow: enabled: OpenFlow14; ofshim speaks OpenFlow10 and OpenFlow13", "protocols=OpenFlow13"],
        &format!("ovs-vsctl -t 10 set bridge {name} protocols=OpenFlow13"),
    );
    finds(
        &format!("ovs-vsctl -t 10 set-controller {name} tcp:127.0.0.1:1"),
        &["controllers: tcp:127.0.0.1:1 is not connected", &format!("set-controller {name} tcp:{address}")],
        &format!("ovs-vsctl -t 10 set-controller {name} tcp:{address}"),
    );
    finds(
        &format!("ovs-vsctl -t 10 del-controller {name}"),
        &["controllers: none is set", &format!("=> ovs-vsctl set-controller {name} tcp:{address}")],
        &format!("ovs-vsctl -t 10 set-controller {name} tcp:{address}"),
    );
    finds(
        &format!("ip link set {port} down"),
        &[&format!("port: of {name}: it is switched off => ip link set {port} up")],
        &format!("ip link set {port} up"),
    );
    // Open vSwitch takes the port, and complains; ovs-vsctl ends with a warning.
    run(&format!("ovs-vsctl -t 10 add-port {name} nosuch{}", std::process::id()));
    finds(
        "true",
        &["port: does not work: ", "No such device", &format!("=> ovs-vsctl del-port {name} nosuch")],
        &format!("ovs-vsctl -t 10 del-port {name} nosuch{}", std::process::id()),
    );
    bridge.ofctl("add-flow", "cookie=0x1234,priority=5,udp,tp_dst=9,actions=drop");
    assert_eq!(doctor.bad(), [""; 0], "entries of others are no fault");
    let text = String::from_utf8(doctor.run().stdout).unwrap();
    assert!(text.contains("of others: 1 with cookie 0x1234"), "{text}");
}

#[test]
fn left_over_entries_are_found_and_the_mend_removes_them_alone() {
    if !root("left_over_entries_are_found_and_the_mend_removes_them_alone") {
        return;
    }
    for openflow in ["1.0", "1.3"] {
        let bridge = Bridge::new(openflow, 2);
        let mut controller = Controller::learning(&["--idle-timeout", "0", "--hard-timeout", "0"]);
        bridge.connect(&controller.address());
        controller.wait_for_log("is ready: OpenFlow");
        assert!(bridge.ping(1, "10.77.0.2", 1));
        bridge.ofctl("add-flow", "cookie=0x1234,priority=5,udp,tp_dst=9,actions=drop");
        controller.end("TERM");
        let doctor = Doctor { bridge: &bridge, run_dir: controller.run_dir() };
        // The database is told within seconds.
        let lost = || doctor.bad().iter().any(|line| line.contains("is not connected"));
        controller.wait("the lost connection is found", lost);
        let bad = doctor.bad();
        assert!(bad.iter().any(|line| line.starts_with("controller: no controller runs")), "{bad:#?}");
        let left =
            bad.iter().find(|line| line.starts_with("entries: of an ofshim that does not serve")).unwrap();
        must(left.split(", or: ").nth(1).unwrap());
        assert!(!doctor.bad().iter().any(|line| line.starts_with("entries:")), "{openflow}");
        assert_eq!((bridge.flows("0x6f667368").len(), bridge.flows("0x1234").len()), (0, 1), "{openflow}");
    }
}

#[test]
fn without_open_vswitch_or_the_bridge_it_says_so() {
    if !root("without_open_vswitch_or_the_bridge_it_says_so") {
        return;
    }
    let _bridge = Bridge::new("1.3", 1);
    let folder = Folder::new();
    let run_dir = folder.0.display().to_string();
    let line = refusal(&["doctor", "--run-dir", &run_dir, "nosuchbridge"]);
    assert!(line.contains("there is no bridge nosuchbridge; 'ovs-vsctl list-br' lists them"), "{line}");
    let done = Command::new(env!("CARGO_BIN_EXE_ofshim"))
        .args(["doctor", "--run-dir", &run_dir])
        .env("OVS_RUNDIR", &run_dir)
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.starts_with("fail  open-vswitch"), "{text}");
    assert!(text.contains("mend: systemctl start openvswitch-switch"), "{text}");
}
