//! Wrong input: one line that names the mend, exit status 2, and a machine that is as before.

mod e2e_bed;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use e2e_bed::{Folder, Lb, Net, binary, refusal, root, run};

const BACKENDS: &str = "backend = [{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\" }]\n";

/// A balancer's folders, and what the machine was like before.
struct Before<'a> {
    net: &'a Net,
    lb: Lb,
    offloads: Vec<String>,
}

impl<'a> Before<'a> {
    fn of(net: &'a Net) -> Self {
        Self { net, lb: Lb::new(), offloads: net.offloads() }
    }

    /// The line of a refusal; nothing may have been attached, pinned, changed or left running.
    fn refused(&self, output: &Output) -> String {
        let line = refusal(output);
        self.lb.assert_gone(self.net);
        assert_eq!(self.net.offloads(), self.offloads, "{line}");
        line
    }

    /// The line with which a file is refused.
    fn refused_file(&self, ports: &[String], vips: &str) -> String {
        self.lb.configure(ports, vips);
        let file = self.lb.folder.0.join("lb.toml").display().to_string();
        self.refused(&self.lb.ask(&["run", "--config", &file]))
    }

    /// The line with which arguments of `lb run` are refused.
    fn refused_arguments(&self, arguments: &str) -> String {
        let words: Vec<&str> = ["run"].into_iter().chain(arguments.split_whitespace()).collect();
        self.refused(&self.lb.ask(&words))
    }
}

fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    if !root("a_wrong_file_is_refused_with_its_line") {
        return;
    }
    let net = Net::new(3);
    let before = Before::of(&net);
    // The bed puts three lines and the list of ports in front.
    let unknown = format!("[[vip]]\naddress = \"10.0.1.1\"\nprot = 80\n{BACKENDS}");
    let line = before.refused_file(&net.ports(), &unknown);
    assert_says(&line, &["lb.toml:6:", "unknown key \"prot\"", "did you mean \"port\"?"]);

    let own = format!("[[vip]]\naddress = \"10.0.0.2\"\n{BACKENDS}");
    assert_says(&before.refused_file(&net.ports(), &own), &["lb.toml:", "10.0.0.2", "VIP", "backend"]);

    let port = format!("[[vip]]\naddress = \"10.0.1.1\"\nport = 70000\n{BACKENDS}");
    assert_says(&before.refused_file(&net.ports(), &port), &["lb.toml:6:", "70000", "65535"]);

    let far = "[[vip]]\naddress = \"10.0.1.1\"\nbackend = [{ address = \"192.168.7.7\" }]\n";
    assert_says(
        &before.refused_file(&net.ports(), far),
        &["192.168.7.7", "no attached network", "10.0.0.0/8"],
    );

    let good = format!("[[vip]]\naddress = \"10.0.1.1\"\n{BACKENDS}");
    let mut ports = net.ports();
    ports.push("e2e-missing".into());
    let line = before.refused_file(&ports, &good);
    assert_says(&line, &["e2e-missing", "no such interface", &net.port(1)]);

    let line = before.refused(&before.lb.ask(&["run", "--config", "/nonexistent/lb.toml"]));
    assert_says(&line, &["/nonexistent/lb.toml", "No such file"]);
    assert_says(&before.refused_file(&net.ports(), "[[vip]\n"), &["lb.toml:4:"]);
}

#[test]
fn wrong_arguments_are_refused_the_same_way() {
    if !root("wrong_arguments_are_refused_the_same_way") {
        return;
    }
    let net = Net::new(3);
    let before = Before::of(&net);
    let attach = net.ports().join(",");
    let good = format!("--ip 10.0.1.1 --servers 10.0.0.1,10.0.0.2 --attach {attach}");
    assert_says(&before.refused_arguments(&format!("{good} --port 70000")), &["70000", "65535"]);
    let own = format!("--ip 10.0.0.1 --servers 10.0.0.1,10.0.0.2 --attach {attach}");
    assert_says(&before.refused_arguments(&own), &["10.0.0.1", "backend"]);
    let far = format!("--ip 10.0.1.1 --servers 10.0.0.1,172.16.0.9 --attach {attach}");
    assert_says(&before.refused_arguments(&far), &["172.16.0.9", "no attached network"]);
    let missing = "--ip 10.0.1.1 --servers 10.0.0.1 --attach e2e-missing";
    assert_says(&before.refused_arguments(missing), &["attach e2e-missing", "no such interface"]);
    assert_says(&before.refused_arguments(&format!("{good} --colour red")), &["--colour"]);
    let host = "--ip 10.0.1.1 --servers 10.0.0.1 --placement onearm --host e2e-nobody";
    assert_says(&before.refused_arguments(host), &["--host e2e-nobody", "no such Mininet host"]);
    let elsewhere = before.lb.folder.0.display().to_string();
    let mut command = Command::new(binary("lb"));
    command.arg("--run-dir").arg(before.lb.run_dir()).args(["--pin-dir", &elsewhere, "run"]);
    let line = before.refused(&command.args(good.split(' ')).output().unwrap());
    assert_says(&line, &["--pin-dir", "bpffs", "mount -t bpf bpf"]);
}

#[test]
fn a_normal_user_is_told_to_use_sudo() {
    if !root("a_normal_user_is_told_to_use_sudo") {
        return;
    }
    let net = Net::new(2);
    let before = Before::of(&net);
    // Where nobody may look, nobody can start it.
    let folder = Folder::new();
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o777)).unwrap();
    let copy = folder.0.join("lb");
    std::fs::copy(binary("lb"), &copy).unwrap();
    let run_dir = folder.0.join("run");
    let words = format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups {} --run-dir {} --pin-dir {} run --ip 10.0.1.1 \
         --servers 10.0.0.1 --attach {}",
        copy.display(),
        run_dir.display(),
        before.lb.pin_dir.display(),
        net.port(1)
    );
    let line = before.refused(&run(&words));
    assert_says(&line, &["root", "sudo"]);
    let detach = words.split(" run --ip").next().unwrap();
    let line = before.refused(&run(&format!("{detach} detach")));
    assert_says(&line, &["root", "sudo"]);
}

#[test]
fn open_vswitch_that_does_not_run_is_named() {
    if !root("open_vswitch_that_does_not_run_is_named") {
        return;
    }
    let net = Net::new(2);
    let before = Before::of(&net);
    let empty = Folder::new();
    let mut command = before.lb.command(&["run", "--ip", "10.0.1.1", "--servers", "10.0.0.1"]);
    command.env("OVS_RUNDIR", &empty.0).env("OVS_DBDIR", &empty.0);
    let line = before.refused(&command.output().unwrap());
    assert_says(&line, &["Open vSwitch is not running", "ovs-ctl start"]);
}

#[test]
fn a_cable_between_switches_is_refused() {
    if !root("a_cable_between_switches_is_refused") {
        return;
    }
    let net = Net::with(e2e_bed::Mode::Standalone, &[1, 1]);
    let before = Before::of(&net);
    let [left, right] = net.cable(1);
    let line = before
        .refused_arguments(&format!("--ip 10.0.1.1 --servers 10.0.0.1 --attach {},{left}", net.port(1)));
    assert_says(&line, &[&left, &right, "link between switches"]);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_does_not_notice() {
    if !root("a_second_daemon_is_refused_and_the_first_does_not_notice") {
        return;
    }
    let net = Net::new(3);
    let good = format!("[[vip]]\naddress = \"10.0.1.1\"\n{BACKENDS}");
    let first = Lb::with(&net, &good, &[]);
    let file = first.folder.0.join("lb.toml").display().to_string();
    let (programs, offloads) = (net.programs(), net.offloads());
    assert_eq!(programs.len(), 6);

    let line = refusal(&first.ask(&["run", "--config", &file]));
    assert_says(&line, &[first.run_dir().to_str().unwrap()]);

    // Another run folder and other pins, and the same ports.
    let second = Lb::new();
    let line = refusal(&second.ask(&["run", "--config", &file]));
    assert_says(&line, &["the other end of", &net.tag, "another XDP program", "lb detach"]);
    assert!(!second.pin_dir.exists(), "pins of the refused daemon are left");
    assert!(!second.run_dir().join("changes.json").exists(), "its record is left");

    // Another run folder, and the first one's pins: it would take the first one's programs over.
    let third = Lb::new();
    let mut command = Command::new(binary("lb"));
    command.arg("--run-dir").arg(third.run_dir()).arg("--pin-dir").arg(&first.pin_dir);
    let line = refusal(&command.args(["run", "--config", &file]).output().unwrap());
    assert_says(&line, &[first.pin_dir.to_str().unwrap()]);

    assert_eq!(net.programs(), programs, "the first one's programs are there still");
    assert_eq!(net.offloads(), offloads, "and its offloads are off");
    first.wait_up(&[1, 2]);
}
