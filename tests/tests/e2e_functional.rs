//! Every way to balance passes one and the same functional test, with Open vSwitch, Mininet, curl and datagrams: each
//! selection, the way back, UDP, port translation, IPv6, a drain, a dead backend, and what is left at the end. What a mode
//! cannot have is in its table (`functional/mode.rs`) with the reason, and printed.

mod e2e_bed;
mod functional;

use e2e_bed::root;
use functional::{Mode, Rewrite};

fn passes(test: &str, mode: Mode) {
    if root(test) {
        functional::run(mode);
    }
}

#[test]
fn pox() {
    passes("pox", Mode::pox());
}

#[test]
fn nox_with_entries() {
    passes("nox_with_entries", Mode::nox());
}

#[test]
fn nox_with_every_packet() {
    passes("nox_with_every_packet", Mode::nox_packets());
}

#[test]
fn reactive_nat() {
    passes("reactive_nat", Mode::reactive(Rewrite::Nat, "1.3"));
}

#[test]
fn group_nat() {
    passes("group_nat", Mode::standing("group", Rewrite::Nat, "1.3"));
}

#[test]
fn learn_nat() {
    passes("learn_nat", Mode::standing("learn", Rewrite::Nat, "1.3"));
}

#[test]
fn reactive_nat_in_openflow_1_0() {
    passes("reactive_nat_in_openflow_1_0", Mode::reactive(Rewrite::Nat, "1.0"));
}

#[test]
fn learn_nat_in_openflow_1_0() {
    passes("learn_nat_in_openflow_1_0", Mode::standing("learn", Rewrite::Nat, "1.0"));
}

#[test]
fn reactive_dsr() {
    passes("reactive_dsr", Mode::reactive(Rewrite::Dsr, "1.3"));
}

#[test]
fn group_dsr() {
    passes("group_dsr", Mode::standing("group", Rewrite::Dsr, "1.3"));
}

#[test]
fn learn_dsr() {
    passes("learn_dsr", Mode::standing("learn", Rewrite::Dsr, "1.3"));
}

#[test]
fn reactive_dsr_in_openflow_1_0() {
    passes("reactive_dsr_in_openflow_1_0", Mode::reactive(Rewrite::Dsr, "1.0"));
}

#[test]
fn learn_dsr_in_openflow_1_0() {
    passes("learn_dsr_in_openflow_1_0", Mode::standing("learn", Rewrite::Dsr, "1.0"));
}

#[test]
fn inline_nat() {
    passes("inline_nat", Mode::inline(Rewrite::Nat));
}

#[test]
fn inline_fullnat() {
    passes("inline_fullnat", Mode::inline(Rewrite::FullNat));
}

#[test]
fn inline_dsr() {
    passes("inline_dsr", Mode::inline(Rewrite::Dsr));
}

#[test]
fn inline_ipip() {
    passes("inline_ipip", Mode::inline(Rewrite::Ipip));
}

#[test]
fn one_armed_nat() {
    passes("one_armed_nat", Mode::one_armed(Rewrite::Nat));
}

#[test]
fn one_armed_fullnat() {
    passes("one_armed_fullnat", Mode::one_armed(Rewrite::FullNat));
}

#[test]
fn one_armed_dsr() {
    passes("one_armed_dsr", Mode::one_armed(Rewrite::Dsr));
}

#[test]
fn one_armed_ipip() {
    passes("one_armed_ipip", Mode::one_armed(Rewrite::Ipip));
}
