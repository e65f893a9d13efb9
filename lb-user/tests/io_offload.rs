//! Offloads: what is turned off is off, and what is restored is exactly what was there, as ethtool(8) sees it.

mod io_bed;

use io_bed::{Bed, as_root, attach_pass, block_on};
use lb_user::io::ethtool::{self, EthtoolError, OffloadChange, Offloads, Restored};
use lb_user::io::netns::NetNs;

/// Plans and makes a change; the plan alone must leave all as it was.
fn apply(ns: &NetNs, ifname: &str, what: Offloads) -> Result<OffloadChange, EthtoolError> {
    let change = ethtool::plan(ns, ifname, what)?;
    assert_eq!(ethtool::plan(ns, ifname, what)?, change, "planning changes nothing");
    ethtool::make(ns, &change)?;
    Ok(change)
}

fn listing(bed: &Bed) -> String {
    bed.host.run("ethtool -k h-eth0")
}

fn assert_off(text: &str, feature: &str) {
    let wanted = format!("{feature}: off");
    assert!(text.lines().any(|line| line.trim().starts_with(&wanted)), "{feature} is not off in\n{text}");
}

#[test]
fn restoring_is_exact_and_both_ways_are_idempotent() {
    if !as_root("restoring_is_exact_and_both_ways_are_idempotent") {
        return;
    }
    let bed = Bed::new();
    let ns = &bed.host.ns;
    assert_eq!(ethtool::driver(ns, "h-eth0").expect("driver"), "veth");
    let before = listing(&bed);
    assert!(before.contains("tcp-segmentation-offload: on"), "{before}");

    let change = apply(ns, "h-eth0", Offloads::PEER).expect("apply");
    let off = listing(&bed);
    for feature in ["tx-checksumming", "tx-checksum-ip-generic", "tx-vlan-offload", "tx-tcp-segmentation"] {
        assert_off(&off, feature);
    }
    assert!(off.contains("rx-vlan-offload: on"), "not asked for\n{off}");
    assert_eq!(ethtool::active(ns, "h-eth0", Offloads::PEER).expect("active"), Vec::<String>::new());

    let again = apply(ns, "h-eth0", Offloads::PEER).expect("apply");
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(again.after(&change), change, "a later daemon restores what the first one found");

    assert_eq!(ethtool::restore(&change).expect("restore"), Restored::Done);
    assert_eq!(listing(&bed), before);
    assert_eq!(ethtool::restore(&change).expect("restore"), Restored::Done);
    assert_eq!(listing(&bed), before);
}

#[test]
fn what_was_off_before_stays_off() {
    if !as_root("what_was_off_before_stays_off") {
        return;
    }
    let bed = Bed::new();
    bed.host.run("ethtool -K h-eth0 tx-vlan-offload off tso off tx-checksum-sctp off");
    let before = listing(&bed);
    let change = apply(&bed.host.ns, "h-eth0", Offloads::PEER).expect("apply");
    let names: Vec<&str> = change.features.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["tx-checksum-ip-generic", "tx-vlan-stag-hw-insert"]);
    ethtool::restore(&change).expect("restore");
    assert_eq!(listing(&bed), before);
}

#[test]
fn a_program_on_the_other_end_does_not_disturb_it() {
    if !as_root("a_program_on_the_other_end_does_not_disturb_it") {
        return;
    }
    let bed = Bed::new();
    let before = listing(&bed);
    let ifindex = block_on(bed.switch.link("sw1")).ifindex;
    let program = attach_pass(&bed.switch.ns, ifindex);
    let change = apply(&bed.host.ns, "h-eth0", Offloads::PEER).expect("apply");
    ethtool::restore(&change).expect("restore while the program is there");
    drop(program);
    assert_eq!(listing(&bed), before, "restored first, detached then");

    let change = apply(&bed.host.ns, "h-eth0", Offloads::PEER).expect("apply");
    let program = attach_pass(&bed.switch.ns, ifindex);
    drop(program);
    ethtool::restore(&change).expect("restore");
    assert_eq!(listing(&bed), before, "detached first, restored then");
}

#[test]
fn receive_offload_goes_on_and_back_whatever_is_attached_meanwhile() {
    if !as_root("receive_offload_goes_on_and_back_whatever_is_attached_meanwhile") {
        return;
    }
    let bed = Bed::new();
    let before = listing(&bed);
    assert_off(&before, "generic-receive-offload");
    let change = apply(&bed.host.ns, "h-eth0", Offloads::REDIRECTED).expect("apply");
    let ifindex = block_on(bed.switch.link("sw1")).ifindex;
    let program = attach_pass(&bed.switch.ns, ifindex);
    let on = listing(&bed);
    assert!(on.contains("generic-receive-offload: on"), "{on}");
    assert_off(&on, "tx-checksumming");
    drop(program);
    ethtool::restore(&change).expect("restore");
    assert_eq!(listing(&bed), before);

    bed.host.run("ethtool -K h-eth0 gro on");
    let before = listing(&bed);
    let change = apply(&bed.host.ns, "h-eth0", Offloads::REDIRECTED).expect("apply");
    assert!(change.features.iter().all(|f| !f.turned_on), "it was on: {change:?}");
    ethtool::restore(&change).expect("restore");
    assert_eq!(listing(&bed), before, "the user's own request stays");
}

#[test]
fn receive_stripping_is_its_own_choice() {
    if !as_root("receive_stripping_is_its_own_choice") {
        return;
    }
    let bed = Bed::new();
    let before = listing(&bed);
    let change = apply(&bed.host.ns, "h-eth0", Offloads::NIC).expect("apply");
    let off = listing(&bed);
    assert_off(&off, "rx-vlan-offload");
    assert!(off.contains("tx-checksumming: on") && off.contains("tx-vlan-offload: on"), "{off}");
    ethtool::restore(&change).expect("restore");
    assert_eq!(listing(&bed), before);
}

#[test]
fn another_interface_of_the_same_name_is_left_alone() {
    if !as_root("another_interface_of_the_same_name_is_left_alone") {
        return;
    }
    let bed = Bed::new();
    let change = apply(&bed.host.ns, "h-eth0", Offloads::PEER).expect("apply");
    bed.host.ip("link del h-eth0");
    assert_eq!(ethtool::restore(&change).expect("no interface"), Restored::Gone);
    bed.host.ip("link add placeholder type veth peer name h-eth0");
    bed.host.run("ethtool -K h-eth0 tx off");
    let made_by_hand = listing(&bed);
    assert_eq!(ethtool::restore(&change).expect("another interface"), Restored::Gone);
    assert_eq!(listing(&bed), made_by_hand);
    drop(bed);
    assert_eq!(ethtool::restore(&change).expect("no namespace"), Restored::Gone);
}

#[test]
fn errors_name_the_interface() {
    if !as_root("errors_name_the_interface") {
        return;
    }
    let bed = Bed::new();
    for name in ["nosuch", "", "a-name-that-is-too-long", "a\0b"] {
        let error = apply(&bed.host.ns, name, Offloads::PEER).expect_err("no interface");
        assert!(matches!(&error, EthtoolError::Missing { ifname, .. } if ifname == name), "{error}");
    }
    let error = apply(&bed.host.ns, "lo", Offloads::PEER).expect_err("loopback cannot");
    assert!(matches!(error, EthtoolError::Fixed { .. }), "{error}");
}
