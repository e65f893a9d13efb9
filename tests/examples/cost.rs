//! What the program costs: verified instructions, and nanoseconds for a packet.
//!
//! `cargo run --release -p tests --example cost`, as root. A run that repeats feeds the program what it left of
//! the frame. So the frames that are balanced here have a backend with the VIP's own address and MAC: the
//! rewrite writes what was there, and every run does all of the work. The answer to an ARP request is no request;
//! it is timed run by run, the clock's cost taken off by the same runs of the program that does nothing.

use anyhow::{Context, Result, ensure};
use testbed::frame::{ACK, Arp, Ip, Mac, Packet, SYN, v4};
use testbed::namespace::with_ports;
use testbed::program::{BALANCER, PASS, Program};
use testbed::scenario::{Backend, Port, Protocol, Scenario, Timeouts, Vip};
use testbed::side::Action;

const VIP: (Mac, Ip, u16) = ([2, 0x6c, 10, 0, 1, 1], v4(10, 0, 1, 1), 80);
const CLIENT: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 3], v4(10, 0, 0, 3), 4000);
const STRANGER: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 4], v4(10, 0, 0, 4), 80);
const ROUNDS: usize = 7;
const REPEAT: u32 = 2_000_000;
const SINGLE_RUNS: usize = 20_000;

fn scenario() -> Scenario {
    const LONG: u32 = 1 << 30;
    let port = |slot: u16| Port { slot, ifindex: 10 + u32::from(slot), switch: 1, redirect: true };
    Scenario {
        vips: vec![Vip { services: vec![(Protocol::Tcp, 80)], ring: vec![1], ..Vip::new(1, VIP.1, VIP.0) }],
        backends: vec![Backend::new(1, 1, (VIP.0, VIP.1), 1)],
        ports: vec![port(1), port(3)],
        timeouts: Timeouts {
            syn: LONG,
            established: LONG,
            closing: LONG,
            closed: LONG,
            udp: LONG,
            suspect: LONG,
            unverified: LONG,
            fragment: LONG,
        },
        max_new: 0,
        connections: 1 << 16,
        stray_bits: Vec::new(),
    }
}

fn print(name: &str, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    let at = |share: usize| samples.get((samples.len() - 1) * share / 2).copied().unwrap_or(f64::NAN);
    println!("{name:<34} min {:6.1}  median {:6.1}  max {:6.1} ns", at(0), at(1), at(2));
}

fn main() -> Result<()> {
    with_ports(measure)
}

fn measure() -> Result<()> {
    let mut program = Program::load_in_service(&scenario())?;
    let info = program.info()?;
    println!(
        "lb_balance: {} verified instructions, {} bytes translated, {} bytes jitted",
        info.verified_instruction_count().context("the kernel does not tell verified instructions")?,
        info.size_translated().unwrap_or(0),
        info.size_jitted()
    );
    let syn = Packet::tcp(CLIENT, VIP, SYN, 1, b"").bytes();
    let reply = Packet::tcp(VIP, CLIENT, ACK, 1, &[0; 10]).bytes();
    let segment = Packet::tcp(CLIENT, VIP, ACK, 2, &[0; 10]).bytes();
    let other = Packet::tcp(CLIENT, STRANGER, ACK, 2, &[0; 10]).bytes();
    let request = Arp::request((CLIENT.0, CLIENT.1), VIP.1).bytes();
    program.run(&syn, 13, Action::Redirect(1))?;
    for (frame, at, to) in [(&reply, 11, Action::Redirect(3)), (&segment, 13, Action::Redirect(1))] {
        let verdict = program.run(frame, at, to)?;
        ensure!(verdict.action == to && verdict.bytes == *frame, "not the same frame again: {verdict:?}");
    }
    let rows: [(&str, &str, &[u8], u32); 4] = [
        ("nothing (pass program)", PASS, &other, 13),
        ("not ours", BALANCER, &other, 13),
        ("established TCP to the backend", BALANCER, &segment, 13),
        ("established TCP to the client", BALANCER, &reply, 11),
    ];
    let mut times = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for ((_, name, frame, ifindex), times) in rows.iter().zip(&mut times) {
            times.push(program.time(name, frame, *ifindex, REPEAT)? as f64);
        }
    }
    println!("{ROUNDS} rounds of {REPEAT} runs, whole nanoseconds, the loop included:");
    for ((name, ..), times) in rows.iter().zip(times) {
        print(name, times);
    }
    let single: [(&str, &str, &[u8], u32); 3] = [
        ("nothing (pass program)", PASS, &request, 13),
        ("ARP answered", BALANCER, &request, 13),
        ("established TCP to the backend", BALANCER, &segment, 13),
    ];
    let mut times = vec![Vec::new(); single.len()];
    for _ in 0..SINGLE_RUNS {
        for ((_, name, frame, ifindex), times) in single.iter().zip(&mut times) {
            times.push(program.time(name, frame, *ifindex, 1)? as f64);
        }
    }
    println!("{SINGLE_RUNS} single runs, the clock included (take off the first line):");
    for ((name, ..), times) in single.iter().zip(times) {
        print(name, times);
    }
    Ok(())
}
