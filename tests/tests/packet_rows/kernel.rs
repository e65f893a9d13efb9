//! What only the kernel's side can show.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use testbed::frame::{Packet, SYN, v4};
use testbed::namespace::with_ports;
use testbed::program::Program;
use testbed::root_or_say_so;
use testbed::side::Action;

use crate::lab::{AT_C3, B1, B2, C3, at, c3_tcp, lab, vip};

/// In one test: the kernel takes seconds to check the program.
#[test]
fn what_only_the_kernel_shows() {
    type Check = fn(&mut Program) -> Result<()>;
    let checks: &[(&str, Check)] = &[
        (
            "a port that is not in the device map is reached through the switch",
            a_port_that_is_not_in_the_device_map_is_reached_through_the_switch,
        ),
        ("the round robin ticket wraps around", the_round_robin_ticket_wraps_around),
        ("a full connection table makes room", a_full_connection_table_makes_room),
        ("a jumbo frame in several buffers", a_jumbo_frame_in_several_buffers),
    ];
    if !root_or_say_so("what only the loaded program shows") {
        return;
    }
    let result = with_ports(|| {
        let mut program = Program::load(&lab())?;
        for (name, check) in checks {
            program.reset()?;
            program.change(&lab())?;
            check(&mut program).context(*name)?;
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure:#}"));
}

#[test]
fn a_missing_object_names_the_command_that_builds_it() {
    let failure = Program::load_object(Path::new("/nonexistent/lb.bpf.o"), &lab()).map(drop);
    let message = failure.expect_err("there is no such file").to_string();
    assert!(message.contains("/nonexistent/lb.bpf.o"), "{message}");
    assert!(message.contains("cargo xtask build-ebpf --release"), "{message}");
}

fn a_port_that_is_not_in_the_device_map_is_reached_through_the_switch(program: &mut Program) -> Result<()> {
    let syn = c3_tcp(4000, SYN, 1, b"");
    // Expecting no redirect leaves the device map empty.
    let verdict = program.run(&syn.bytes(), AT_C3, Action::Pass)?;
    ensure!(verdict.action == Action::Pass && verdict.bytes == syn.to(at(B1, 80)).bytes(), "{verdict:?}");
    Ok(())
}

fn the_round_robin_ticket_wraps_around(program: &mut Program) -> Result<()> {
    program.ticket(1, u64::from(u32::MAX))?;
    for (port, backend) in [(1, B2), (2, B1), (3, B2)] {
        let syn = c3_tcp(port, SYN, 1, b"");
        let verdict = program.run(&syn.bytes(), AT_C3, Action::Pass)?;
        ensure!(verdict.bytes == syn.to(at(backend, 80)).bytes(), "port {port}: {verdict:?}");
    }
    Ok(())
}

fn a_full_connection_table_makes_room(program: &mut Program) -> Result<()> {
    for number in 0..5000u16 {
        let client = (C3.0, v4(10, 2, (number >> 8) as u8, number as u8), 4000);
        let verdict = program.run(&Packet::tcp(client, vip(80), SYN, 1, b"").bytes(), AT_C3, Action::Pass)?;
        ensure!(verdict.reason == "to_backend_redirect", "flow {number}: {verdict:?}");
    }
    let snapshot = program.snapshot()?;
    ensure!(snapshot.counters.get("vip:1:opened") == Some(&5000), "{:?}", snapshot.counters);
    let kept = snapshot.connections.len();
    ensure!((512..=1024).contains(&kept), "{kept} of 1024 entries are in use");
    Ok(())
}

fn a_jumbo_frame_in_several_buffers(program: &mut Program) -> Result<()> {
    let payload: Vec<u8> = (0..8900u32).map(|n| n as u8).collect();
    let syn = c3_tcp(4000, SYN, 1, &payload);
    let verdict = program.run(&syn.bytes(), AT_C3, Action::Pass)?;
    ensure!(verdict.bytes == syn.clone().to(at(B1, 80)).bytes(), "{}", verdict.reason);
    let counters = program.snapshot()?.counters;
    ensure!(counters.get("vip:1:bytes_in") == Some(&(syn.bytes().len() as u64)), "{counters:?}");
    Ok(())
}
