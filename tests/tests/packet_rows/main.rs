//! The packet table: named rows through the loaded program, the host core and the oracle.
//!
//! Every row says for each frame the verdict, the bytes that leave, and which counters move by how much; any
//! other counter that moves fails the row.

mod arp;
mod choose;
mod family;
mod forward;
mod fragment;
mod fullnat;
mod half_open;
mod icmp;
mod kernel;
mod lab;
mod limits;
mod ndp;
mod neighbour;
mod pass;
mod refuse;
mod row;
mod select;
mod serve;
mod state;
mod tunnel;

use std::collections::BTreeSet;

use row::Row;
use testbed::namespace::with_ports;
use testbed::program::Program;
use testbed::root_or_say_so;

fn run(rows: &[Row]) {
    let all = |mut program: Option<Program>| -> Vec<_> {
        rows.iter().filter_map(|row| row.run(&mut program).err()).collect()
    };
    let failures = if root_or_say_so("the loaded program's part of the packet table") {
        with_ports(|| Ok(all(Some(Program::load(&lab::lab())?)))).expect("the program")
    } else {
        all(None)
    };
    for failure in &failures {
        eprintln!("{failure:#}\n");
    }
    assert!(failures.is_empty(), "{} of {} rows failed", failures.len(), rows.len());
}

#[test]
fn not_ours_passes_untouched() {
    run(&pass::rows());
}

#[test]
fn arp_for_a_vip() {
    run(&arp::rows());
}

#[test]
fn forward_and_reply() {
    run(&forward::rows());
}

#[test]
fn refused_by_name() {
    run(&refuse::rows());
}

#[test]
fn backend_and_way() {
    run(&choose::rows());
}

#[test]
fn connection_states() {
    run(&state::rows());
}

#[test]
fn ipv6() {
    run(&family::rows());
}

#[test]
fn neighbour_discovery() {
    run(&ndp::rows());
}

#[test]
fn ranges_and_prefixes() {
    run(&serve::rows());
}

#[test]
fn selections() {
    run(&select::rows());
}

#[test]
fn half_open_connections() {
    run(&half_open::rows());
}

#[test]
fn lists_limits_and_answers() {
    run(&limits::rows());
}

#[test]
fn full_nat() {
    run(&fullnat::rows());
}

#[test]
fn tunnels() {
    run(&tunnel::rows());
}

#[test]
fn neighbours_of_shared_vips() {
    run(&neighbour::rows());
}

#[test]
fn fragments_and_extension_headers() {
    run(&fragment::rows());
}

#[test]
fn icmp_both_ways() {
    run(&icmp::rows());
}

#[test]
fn the_table_is_long_enough() {
    let tables = [
        pass::rows(),
        arp::rows(),
        forward::rows(),
        refuse::rows(),
        choose::rows(),
        state::rows(),
        family::rows(),
        ndp::rows(),
        serve::rows(),
        select::rows(),
        half_open::rows(),
        limits::rows(),
        fullnat::rows(),
        tunnel::rows(),
        neighbour::rows(),
        fragment::rows(),
        icmp::rows(),
    ];
    let mut seen = BTreeSet::new();
    for (table, rows) in tables.iter().enumerate() {
        for row in rows {
            assert!(
                seen.insert((table, row.name.clone())),
                "two rows of one table are called {:?}",
                row.name
            );
        }
    }
    println!("{} rows", seen.len());
    assert!(seen.len() >= 100, "{} rows", seen.len());
}
