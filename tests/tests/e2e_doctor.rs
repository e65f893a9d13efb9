//! The doctor on a machine that something is wrong with: each finding names its mend, and the mend mends it.

mod e2e_bed;

use std::process::{Command, Stdio};

use e2e_bed::{Lb, Net, Server, binary, curl, root, run};
use serde_json::Value;

const WEB: &str = r#"
[[vip]]
address = "10.0.1.1"
port = 80
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// What the doctor reports, after checking that its exit status fits.
fn report(lb: &Lb, arguments: &[&str]) -> Value {
    let words: Vec<&str> = ["doctor", "--json"].iter().chain(arguments).copied().collect();
    let output = lb.ask(&words);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = if report["status"] == "fail" { 1 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{report:#}");
    report
}

/// The one check of this name and place.
fn check<'a>(report: &'a Value, name: &str, subject: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let mut fitting = checks.iter().filter(|check| check["name"] == name && check["subject"] == subject);
    let found = fitting.next().unwrap_or_else(|| panic!("no check {name} of {subject}: {report:#}"));
    assert!(fitting.next().is_none(), "{name} of {subject} twice: {report:#}");
    found
}

/// Names and places of all checks that are not well.
fn findings(report: &Value) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["status"] != "ok");
    checks.map(|check| (check["name"].to_string(), check["subject"].to_string())).collect()
}

/// Takes a program off by removing its link's pin.
fn remove_link(lb: &Lb, name: &str) {
    let status = lb.status();
    let pins: Vec<_> =
        status["pins"]["links"].as_array().unwrap().iter().map(|l| l["pin"].as_str().unwrap()).collect();
    let pin = pins.iter().find(|pin| pin.contains(name)).unwrap_or_else(|| panic!("{name}: {pins:?}"));
    std::fs::remove_file(pin).unwrap();
}

#[test]
fn what_is_switched_on_or_taken_off_is_found_and_mended() {
    if !root("what_is_switched_on_or_taken_off_is_found_and_mended") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let well = report(&lb, &[]);
    assert_eq!((&well["status"], findings(&well)), (&"ok".into(), vec![]), "{well:#}");

    for (switch, name) in [("tx", "tx-checksum"), ("txvlan", "tx-vlan")] {
        net.on(2, &format!("ethtool -K eth0 {switch} on"));
        let ill = report(&lb, &[]);
        let subject = format!("eth0 in {}", net.ns(2));
        assert_eq!(findings(&ill), [(format!("{name:?}"), format!("{subject:?}"))], "{ill:#}");
        let finding = check(&ill, name, &subject);
        assert_eq!(finding["status"], "fail", "{finding:#}");
        let mend = finding["mend"].as_str().unwrap();
        assert!(
            mend.contains(&net.ns(2)) && mend.contains(&format!("ethtool -K eth0 {switch} off")),
            "{mend}"
        );
        assert!(run(mend).status.success(), "{mend}");
        assert_eq!(report(&lb, &[])["status"], "ok", "{mend} mends it");
    }

    // The pass program of host 3's end is taken off.
    let inode = net.on(3, "stat -L -c %i /proc/self/ns/net").trim().to_owned();
    remove_link(&lb, &format!("pass-{inode}-"));
    assert!(curl(&net, 3, "http://10.0.1.1/").is_err(), "frames that XDP sends to host 3 are lost");
    let ill = report(&lb, &[]);
    let subject = format!("eth0 in {}", net.ns(3));
    let expected = [
        ("\"peer-program\"".to_owned(), format!("{subject:?}")),
        ("\"tx\"".to_owned(), format!("{:?}", net.port(3))),
    ];
    assert_eq!(findings(&ill), expected, "{ill:#}");
    let mend = check(&ill, "peer-program", &subject)["mend"].as_str().unwrap().to_owned();
    assert_eq!(mend, "lb detach && lb run --config lb.toml");
    lb.detach();
    lb.start();
    lb.wait_up(&[1, 2]);
    assert_eq!(report(&lb, &[])["status"], "ok", "{mend} mends it");
    assert!(curl(&net, 3, "http://10.0.1.1/").is_ok());
}

#[test]
fn frames_are_proven_to_come_through() {
    if !root("frames_are_proven_to_come_through") {
        return;
    }
    let net = Net::new(4);
    let lb = Lb::with(&net, WEB, &[1, 2]);
    let well = report(&lb, &[]);
    for number in net.hosts() {
        let tx = check(&well, "tx", &net.port(number));
        assert!(tx["status"] == "ok" && tx["what"].as_str().unwrap().contains("10.0.1.1"), "{tx:#}");
    }
    for number in [1, 2] {
        let redirect = check(&well, "redirect", &net.port(number));
        assert!(
            redirect["status"] == "ok" && redirect["what"].as_str().unwrap().contains("came out"),
            "{redirect:#}"
        );
    }
    assert_eq!(lb.read("conn")["total"], 0, "the proof opens no connection");

    // Frames that are redirected into a veth with neither a program nor receive offload at the other end vanish, and nobody
    // counts them. Those that XDP sends back vanish without the program.
    net.on(2, "ethtool -K eth0 gro off");
    let inode = net.on(2, "stat -L -c %i /proc/self/ns/net").trim().to_owned();
    remove_link(&lb, &format!("pass-{inode}-"));
    let ill = report(&lb, &[]);
    let of_port = |name: &str, number| check(&ill, name, &net.port(number))["status"].clone();
    assert_eq!(["tx", "redirect"].map(|name| of_port(name, 2)), ["fail", "fail"], "{ill:#}");
    assert_eq!(["tx", "redirect"].map(|name| of_port(name, 1)), ["ok", "ok"], "{ill:#}");
}

/// VIPs that refuse the proof's frames, and one for a range of ports that does not, whose one backend is host 1.
const PARTLY_PROVABLE: &str = r#"
[[vip]]
name = "full"
address = "10.0.1.1"
port = 80
mode = "fullnat"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]

[[vip]]
name = "listed"
address = "10.0.1.2"
port = 80
deny = ["192.0.2.0/24"]
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]

[[vip]]
name = "range"
address = "10.0.1.3"
port = "8000-8010"
backend = [{ address = "10.0.0.1" }]
"#;

#[test]
fn what_refuses_the_frames_of_the_proof_is_no_fault() {
    if !root("what_refuses_the_frames_of_the_proof_is_no_fault") {
        return;
    }
    let net = Net::new(3);
    let lb = Lb::with(&net, PARTLY_PROVABLE, &[1, 2]);
    let report = report(&lb, &[]);
    assert_eq!(report["status"], "ok", "{report:#}");
    let what = |number| check(&report, "redirect", &net.port(number))["what"].as_str().unwrap().to_owned();
    assert!(what(1).contains("VIP range") && what(1).contains("came out"), "{}", what(1));
    assert!(what(2).starts_with("not tried: "), "{}", what(2));
}

#[test]
fn a_machine_without_a_daemon_is_looked_at_too() {
    if !root("a_machine_without_a_daemon_is_looked_at_too") {
        return;
    }
    let net = Net::new(2);
    let lb = Lb::new();
    let ports = net.ports().join(",");
    let report_before = report(&lb, &["--attach", &ports]);
    assert_eq!(report_before["status"], "warn", "{report_before:#}");
    assert_eq!(check(&report_before, "program", &net.port(1))["mend"], "lb run --config lb.toml");
    let checksum = check(&report_before, "tx-checksum", &format!("eth0 in {}", net.ns(1)));
    assert!(checksum["what"].as_str().unwrap().contains("lb run turns it off"), "{checksum:#}");
    assert_eq!(report_before["daemon"], Value::Null);
    lb.assert_gone(&net);

    let missing = report(&lb, &["--attach", "e2e-missing"]);
    assert_eq!(missing["status"], "fail");
    assert!(check(&missing, "ports", "")["what"].as_str().unwrap().contains("e2e-missing"), "{missing:#}");
}

#[test]
fn a_missing_bpffs_is_found_and_mended() {
    if !root("a_missing_bpffs_is_found_and_mended") {
        return;
    }
    let net = Net::new(2);
    let lb = Lb::new();
    // In mounts of its own, so that nobody else misses it. The second look is after the mend.
    let doctor = format!(
        "{} --run-dir {} --pin-dir {} doctor --json --attach {}",
        binary("lb").display(),
        lb.run_dir().display(),
        lb.pin_dir.display(),
        net.port(1)
    );
    let script = format!("umount /sys/fs/bpf; {doctor}; echo SECOND; mount -t bpf bpf /sys/fs/bpf; {doctor}");
    let output =
        Command::new("unshare").args(["-m", "sh", "-c", &script]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (first, second) = text.split_once("SECOND").unwrap_or_else(|| {
        panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    });
    let subject = lb.pin_dir.display().to_string();
    let first: Value = serde_json::from_str(first).unwrap();
    let finding = check(&first, "bpffs", &subject);
    assert_eq!(
        (&finding["status"], &finding["mend"]),
        (&"fail".into(), &"mount -t bpf bpf /sys/fs/bpf".into())
    );
    assert_eq!(first["status"], "fail");
    let second: Value = serde_json::from_str(second).unwrap();
    assert_eq!(check(&second, "bpffs", &subject)["status"], "ok", "the mend mends it");
}
