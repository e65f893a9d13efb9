//! A million connections in a table of 2^20 slots, opened by packets through the loaded program: none is evicted, and
//! each goes on at its backend. What the tables weigh.

use anyhow::{Result, ensure};
use testbed::frame::{ACK, Ip, Mac, PSH, Packet, SYN, v4};
use testbed::namespace::with_ports;
use testbed::program::{Program, object_path};
use testbed::root_or_say_so;
use testbed::scenario::{Backend, Handing, Mode, Port, Protocol, Scenario, Selection, Timeouts, Vip};
use testbed::side::Action;

const CONNECTIONS: u32 = 1_000_000;
const TABLE: u32 = 1 << 20;
const BACKENDS: u16 = 4;
const VIP: (Mac, Ip, u16) = ([2, 0x6c, 10, 0, 1, 1], v4(10, 0, 1, 1), 80);
const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 99];
const PORT: u32 = 11;
/// The largest a slot of the table of connections may be, in bytes of kernel memory.
const LARGEST_SLOT_BYTES: f64 = 120.0;

fn scenario() -> Scenario {
    const LONG: u32 = 1 << 30;
    let vip = Vip {
        mode: Mode::Dsr,
        selection: Selection::RoundRobin,
        transmit: true,
        services: vec![(Protocol::Tcp, 80)],
        ring: (1..=BACKENDS).collect(),
        ..Vip::new(1, VIP.1, VIP.0)
    };
    let host = |number: u16| ([2, 0, 0, 0, 0, number as u8], v4(10, 0, 0, number as u8));
    Scenario {
        vips: vec![vip],
        backends: (1..=BACKENDS).map(|number| Backend::new(number, 1, host(number), 1)).collect(),
        ports: vec![Port { slot: 1, ifindex: PORT, switch: 1, redirect: true }],
        timeouts: Timeouts {
            syn: LONG,
            unverified: LONG,
            established: LONG,
            closing: LONG,
            closed: LONG,
            udp: LONG,
            suspect: LONG,
            fragment: LONG,
        },
        max_new: 0,
        handing: Handing::No,
        connections: TABLE,
        stray_bits: Vec::new(),
    }
}

/// Sends a client's segment; the last byte of the MAC of the backend that gets it.
fn send(program: &mut Program, number: u32, flags: u8) -> Result<u8> {
    let client = (v4(172, 16 + (number >> 16) as u8, (number >> 8) as u8, number as u8), 40_000);
    let frame = Packet::tcp((CLIENT_MAC, client.0, client.1), VIP, flags, 1, b"").bytes();
    let (action, bytes) = program.send(&frame, PORT)?;
    ensure!(action == Action::Transmit, "connection {number}: {action:?}");
    Ok(bytes[5])
}

fn fill(program: &mut Program) -> Result<()> {
    for number in 0..CONNECTIONS {
        // Round robin: who it is, is known.
        let expected = 1 + (number % u32::from(BACKENDS)) as u8;
        let (first, second) = (send(program, number, SYN)?, send(program, number, ACK)?);
        ensure!((first, second) == (expected, expected), "connection {number} is at {first}, then {second}");
    }
    Ok(())
}

fn hold() -> Result<()> {
    let mut program = Program::load_sized(&object_path(), &scenario(), &[("CONNS", TABLE)])?;
    fill(&mut program)?;
    let held = program.entries("CONNS")?;
    ensure!(held == CONNECTIONS as usize, "{held} of {CONNECTIONS} connections are in the table");
    // A connection that is gone would be opened again: half-open, and perhaps elsewhere.
    for number in (0..CONNECTIONS).step_by(7) {
        let at = send(&mut program, number, ACK | PSH)?;
        ensure!(at == 1 + (number % u32::from(BACKENDS)) as u8, "connection {number} went to {at}");
    }
    ensure!(
        program.entries("CONNS")? == held && program.entries("HALF_OPEN")? == 0,
        "some were opened again"
    );

    println!("{held} connections held in {TABLE} slots");
    for (name, what) in [
        ("CONNS", "established connections"),
        ("HALF_OPEN", "half-open connections"),
        ("SNATS", "ports lent by full NAT"),
        ("HALF_SNATS", "ports lent to half-open connections"),
        ("AFFINITY", "clients and their backends"),
        ("SOURCES", "clients whose openings are counted"),
        ("FRAGMENTS", "fragmented packets"),
    ] {
        let (slots, bytes) = program.memory(name)?;
        let a_slot = bytes as f64 / f64::from(slots);
        println!(
            "{name}: {slots} slots of {a_slot:.0} bytes, {:.1} MiB; {what}",
            bytes as f64 / f64::from(1 << 20)
        );
        ensure!(name != "CONNS" || a_slot <= LARGEST_SLOT_BYTES, "a slot of {name} takes {a_slot} bytes");
    }
    Ok(())
}

#[test]
fn a_million_connections_are_held() {
    if root_or_say_so("a million connections through the loaded program") {
        with_ports(hold).unwrap_or_else(|failure: anyhow::Error| panic!("{failure:#}"));
    }
}
