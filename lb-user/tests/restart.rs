//! What a daemon finds of an earlier one: real maps and pins, in namespaces of the test's own.

mod io_bed;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use io_bed::{Bed, as_root, block_on};
use lb_core::host::config::ConnectionsConfig;
use lb_core::table::{PortRecord, port_flag};
use lb_user::dataplane::{DataPlane, Pins};

/// A balancer in the namespace of a bed's switch, with folders of its own; taken off at the end.
struct Lb<'a> {
    bed: &'a Bed,
    run_dir: PathBuf,
    pin_dir: PathBuf,
}

impl<'a> Lb<'a> {
    fn new(bed: &'a Bed) -> Self {
        let name = &bed.switch.name;
        Self {
            bed,
            run_dir: std::env::temp_dir().join(name),
            pin_dir: PathBuf::from("/sys/fs/bpf").join(name),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.bed.switch.name))
            .arg(env!("CARGO_BIN_EXE_lb"))
            .args(["--run-dir".as_ref(), self.run_dir.as_os_str()])
            .args(["--pin-dir".as_ref(), self.pin_dir.as_os_str()])
            .env_remove("LB_LOG");
        command
    }

    /// Runs a daemon until `line` is in its log, and kills it; 10 s at most.
    fn run_until(&self, servers: &str, attach: &str, line: &str) {
        let arguments = ["run", "--ip", "10.77.1.1", "--servers", servers, "--attach", attach];
        let child = self.command().args(arguments).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("nsenter starts");
        let errors = child.stderr.take().expect("a pipe");
        let (lines, log) = mpsc::channel();
        let reader = thread::spawn(move || {
            BufReader::new(errors).lines().map_while(Result::ok).try_for_each(|text| lines.send(text))
        });
        let end = Instant::now() + Duration::from_secs(10);
        let mut read = Vec::new();
        while let Ok(text) = log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            read.push(text);
            if read.last().is_some_and(|text| text.contains(line)) {
                break;
            }
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        drop(log);
        reader.join().expect("read").ok();
        assert!(read.iter().any(|text| text.contains(line)), "no {line:?} in {read:#?}");
    }

    /// The maps that the last daemon left.
    fn maps(&self) -> DataPlane {
        load(&self.pin_dir)
    }
}

impl Drop for Lb<'_> {
    fn drop(&mut self) {
        let _ = self.command().arg("detach").stdout(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

fn load(pin_dir: &std::path::Path) -> DataPlane {
    let object = lb_user::object::bytes(None, false).expect("the XDP object");
    let connections = ConnectionsConfig { table_size: 1024, ..ConnectionsConfig::default() };
    DataPlane::load(&object, Pins::new(pin_dir), &connections).expect("the maps")
}

#[test]
fn a_backends_number_has_another_generation_for_another_owner() {
    if !as_root("a_backends_number_has_another_generation_for_another_owner") {
        return;
    }
    let bed = Bed::new();
    let lb = Lb::new(&bed);
    // The second one goes, and its number is free when the next one but one comes.
    for servers in ["10.77.0.1,10.77.0.2", "10.77.0.1", "10.77.0.1,10.77.0.3"] {
        lb.run_until(servers, "sw1", " ready: ");
    }
    let maps = lb.maps();
    let record = |id| maps.read_backend(id).expect("a record");
    assert_eq!(record(1).generation, 0, "never changed hands");
    assert_eq!((record(2).address.0[1] >> 32, record(2).generation), (address(3), 1), "{:?}", record(2));
}

/// 10.77.0.`host` as it stands in the last word of a table's address.
fn address(host: u8) -> u64 {
    u64::from(u32::from_ne_bytes([10, 77, 0, host]))
}

#[test]
fn a_slot_forgets_the_interface_that_it_had() {
    if !as_root("a_slot_forgets_the_interface_that_it_had") {
        return;
    }
    let bed = Bed::new();
    let lb = Lb::new(&bed);
    lb.run_until("10.77.0.1", "sw1", "10.77.0.1 up");
    bed.switch.ip("link del sw1");
    bed.switch.ip(&format!("link add sw1 type veth peer name h-eth0 netns {}", bed.host.name));
    bed.switch.ip("link set sw1 up");
    bed.host.ip("addr add 10.77.0.1/24 dev h-eth0");
    bed.host.ip("link set h-eth0 up");
    // Found anew: what is behind the new interface is not known before it answered.
    lb.run_until("10.77.0.1", "sw1", "10.77.0.1 up");
    let ifindex = block_on(async { bed.switch.link("sw1").await.ifindex });
    let slots = lb.maps().read_port_slots().expect("slots");
    assert_eq!(slots.into_iter().collect::<Vec<_>>(), [(ifindex, 1)]);
}

#[test]
fn a_backend_whose_port_is_no_longer_attached_is_not_taken_for_up() {
    if !as_root("a_backend_whose_port_is_no_longer_attached_is_not_taken_for_up") {
        return;
    }
    let bed = Bed::new();
    bed.switch.ip(&format!("link add sw2 type veth peer name h-eth1 netns {}", bed.host.name));
    bed.switch.ip("link set sw2 up");
    bed.host.ip("addr add 10.77.0.9/24 dev h-eth1");
    bed.host.ip("link set h-eth1 up");
    let lb = Lb::new(&bed);
    lb.run_until("10.77.0.1", "sw1,sw2", "10.77.0.1 up");
    bed.host.ip("addr del 10.77.0.1/24 dev h-eth0");
    lb.run_until("10.77.0.1", "sw2", "10.77.0.1 down");
}

#[test]
fn a_port_in_another_namespace_needs_no_namesake_in_ours() {
    if !as_root("a_port_in_another_namespace_needs_no_namesake_in_ours") {
        return;
    }
    let bed = Bed::new();
    let pin_dir = PathBuf::from("/sys/fs/bpf").join(&bed.switch.name);
    let mut maps = load(&pin_dir);
    let nowhere = PortRecord { ifindex: 2_000_000_000, switch: 1, flags: 0 };
    let written = maps.write_port(1, &nowhere);
    let refused = maps.write_port(2, &PortRecord { flags: port_flag::REDIRECT, ..nowhere });
    drop(maps);
    lb_user::dataplane::remove_all(&pin_dir).expect("removed");
    written.expect("nothing is redirected there");
    assert!(refused.is_err(), "no interface to redirect to");
}
