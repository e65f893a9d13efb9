//! The doctor's mends are commands: each is run as it stands, and the finding is gone then.

mod io_bed;

use std::path::{Path, PathBuf};

use io_bed::{Bed, as_root, attach_pass, block_on, run};
use lb_user::io::doctor::{Check, Question, Status, checks, collect};
use lb_user::io::netns::run_in;

fn examine(bed: &Bed, bpffs: &Path) -> Vec<Check> {
    let question = Question {
        bpffs: bpffs.to_owned(),
        attach: vec!["sw1".to_owned()],
        onearm_host: None,
        attached: None,
    };
    checks(&run_in(&bed.switch.ns, || block_on(collect(question))).expect("namespace"))
}

fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name} in {checks:#?}"))
}

/// Runs a mend where the doctor ran.
fn mend(bed: &Bed, check: &Check) {
    let command = check.mend.as_deref().expect("a mend");
    run("ip", &["netns", "exec", &bed.switch.name, "sh", "-c", command]);
}

#[test]
fn every_mend_mends() {
    if !as_root("every_mend_mends") {
        return;
    }
    let bed = Bed::new();
    bed.host.ip("link set h-eth0 mtu 2000");
    let port = block_on(bed.switch.link("sw1"));
    let program = attach_pass(&bed.switch.ns, port.ifindex);
    let before = examine(&bed, Path::new("/sys/fs/bpf"));
    for name in ["kernel", "btf", "privileges", "ports", "program"] {
        assert_eq!(find(&before, name).status, Status::Ok, "{:#?}", find(&before, name));
    }
    let peer = find(&before, "peer-program");
    assert_eq!(
        (peer.status, peer.subject.as_str()),
        (Status::Fail, &*format!("h-eth0 in {}", bed.host.name))
    );
    for (name, status) in [("tx-checksum", Status::Fail), ("tx-vlan", Status::Fail), ("mtu", Status::Warn)] {
        let found = find(&before, name);
        assert_eq!(found.status, status, "{found:#?}");
        mend(&bed, found);
    }
    let nic = block_on(bed.host.link("h-eth0"));
    let _pass = attach_pass(&bed.host.ns, nic.ifindex);
    let after = examine(&bed, Path::new("/sys/fs/bpf"));
    for name in ["tx-checksum", "tx-vlan", "mtu", "peer-program"] {
        assert_eq!(find(&after, name).status, Status::Ok, "{:#?}", find(&after, name));
    }
    drop(program);
    assert_eq!(find(&examine(&bed, Path::new("/sys/fs/bpf")), "program").status, Status::Warn);
}

#[test]
fn an_unmounted_bpffs_is_mounted_by_its_mend() {
    if !as_root("an_unmounted_bpffs_is_mounted_by_its_mend") {
        return;
    }
    let bed = Bed::new();
    let folder: PathBuf = std::env::temp_dir().join(format!("iox-doctor-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("folder");
    let before = find(&examine(&bed, &folder), "bpffs").clone();
    // Not inside `ip netns exec`, which has mounts of its own.
    let mended = before.mend.clone().map(|command| run("sh", &["-c", &command]));
    let after = find(&examine(&bed, &folder), "bpffs").clone();
    if mended.is_some() {
        run("umount", &[folder.to_str().expect("path")]);
    }
    std::fs::remove_dir(&folder).expect("remove");
    assert_eq!(before.status, Status::Fail, "{before:#?}");
    assert_eq!(after.status, Status::Ok, "{after:#?}");
}

#[test]
fn a_missing_interface_is_named() {
    if !as_root("a_missing_interface_is_named") {
        return;
    }
    let bed = Bed::new();
    bed.switch.ip("link del sw1");
    let all = examine(&bed, Path::new("/sys/fs/bpf"));
    let ports = find(&all, "ports");
    assert_eq!(ports.status, Status::Fail);
    assert!(ports.what.starts_with("attach sw1: there is no such interface here"), "{}", ports.what);
}
