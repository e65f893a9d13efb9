//! What only the kernel's side can show.

use std::path::Path;

use anyhow::{Result, ensure};
use testbed::frame::{Packet, SYN, v4};
use testbed::namespace::with_ports;
use testbed::program::Program;
use testbed::root_or_say_so;
use testbed::side::Action;

use crate::lab::{AT_C3, B1, B2, C3, at, c3_tcp, lab, vip};

fn with_program(test: &str, f: impl FnOnce(&mut Program) -> Result<()> + Send) {
    if root_or_say_so(test) {
        with_ports(|| f(&mut Program::load(&lab())?)).unwrap_or_else(|failure| panic!("{failure:#}"));
    }
}

#[test]
fn a_missing_object_names_the_command_that_builds_it() {
    let failure = Program::load_object(Path::new("/nonexistent/lb.bpf.o"), &lab(), true).map(drop);
    let message = failure.expect_err("there is no such file").to_string();
    assert!(message.contains("/nonexistent/lb.bpf.o"), "{message}");
    assert!(message.contains("cargo xtask build-ebpf --release"), "{message}");
}

#[test]
fn a_port_that_is_not_in_the_device_map_is_reached_through_the_switch() {
    with_program("a gap in the device map", |program| {
        let syn = c3_tcp(4000, SYN, 1, b"");
        // Expecting no redirect leaves the device map empty.
        let verdict = program.run(&syn.bytes(), AT_C3, Action::Pass)?;
        ensure!(verdict.action == Action::Pass && verdict.bytes == syn.to(at(B1, 80)).bytes(), "{verdict:?}");
        Ok(())
    });
}

#[test]
fn the_round_robin_ticket_wraps_around() {
    with_program("a wrapping ticket", |program| {
        program.ticket(1, u64::from(u32::MAX))?;
        for (port, backend) in [(1, B2), (2, B1), (3, B2)] {
            let syn = c3_tcp(port, SYN, 1, b"");
            let verdict = program.run(&syn.bytes(), AT_C3, Action::Pass)?;
            ensure!(verdict.bytes == syn.to(at(backend, 80)).bytes(), "port {port}: {verdict:?}");
        }
        Ok(())
    });
}

#[test]
fn a_full_connection_table_makes_room() {
    with_program("a full table", |program| {
        for number in 0..5000u16 {
            let client = (C3.0, v4(10, 2, (number >> 8) as u8, number as u8), 4000);
            let verdict =
                program.run(&Packet::tcp(client, vip(80), SYN, 1, b"").bytes(), AT_C3, Action::Pass)?;
            ensure!(verdict.reason == "to_backend_redirect", "flow {number}: {verdict:?}");
        }
        let snapshot = program.snapshot()?;
        ensure!(snapshot.counters.get("vip:1:opened") == Some(&5000), "{:?}", snapshot.counters);
        let kept = snapshot.connections.len();
        ensure!((512..=1024).contains(&kept), "{kept} of 1024 entries are in use");
        Ok(())
    });
}

#[test]
fn a_jumbo_frame_in_several_buffers() {
    with_program("a jumbo frame", |program| {
        let payload: Vec<u8> = (0..8900u32).map(|n| n as u8).collect();
        let syn = c3_tcp(4000, SYN, 1, &payload);
        let verdict = program.run(&syn.bytes(), AT_C3, Action::Pass)?;
        ensure!(verdict.bytes == syn.clone().to(at(B1, 80)).bytes(), "{}", verdict.reason);
        let counters = program.snapshot()?.counters;
        ensure!(counters.get("vip:1:bytes_in") == Some(&(syn.bytes().len() as u64)), "{counters:?}");
        Ok(())
    });
}
