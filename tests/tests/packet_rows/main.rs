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

/// Runs rows on these sides; says which went wrong.
fn run(name: &str, rows: &[Row], program: &mut Option<Program>) -> usize {
    let failures: Vec<_> = rows.iter().filter_map(|row| row.run(program).err()).collect();
    for failure in &failures {
        eprintln!("{failure:#}\n");
    }
    if !failures.is_empty() {
        eprintln!("{name}: {} of {} rows failed\n", failures.len(), rows.len());
    }
    failures.len()
}

macro_rules! tables {
    ($($module:ident: $test:ident),+ $(,)?) => {
        /// All tables by name.
        fn tables() -> Vec<(&'static str, Vec<Row>)> {
            vec![$((stringify!($module), $module::rows())),+]
        }

        /// Each table through the host's sides alone: no root, and done in a moment.
        mod on_the_host {
            $(#[test]
            fn $test() {
                assert_eq!(super::run(stringify!($module), &super::$module::rows(), &mut None), 0);
            })+
        }
    };
}

tables! {
    pass: not_ours_passes_untouched,
    arp: arp_for_a_vip,
    forward: forward_and_reply,
    refuse: refused_by_name,
    choose: backend_and_way,
    state: connection_states,
    family: ipv6,
    ndp: neighbour_discovery,
    serve: ranges_and_prefixes,
    select: selections,
    half_open: half_open_connections,
    limits: lists_limits_and_answers,
    fullnat: full_nat,
    tunnel: tunnels,
    neighbour: neighbours_of_shared_vips,
    fragment: fragments_and_extension_headers,
    icmp: icmp_both_ways,
}

/// All of them through the loaded program, too. In one test: the kernel takes seconds to check the program.
#[test]
fn through_the_program() {
    if !root_or_say_so("the loaded program's part of the packet table") {
        return;
    }
    let all = |program: Program| -> usize {
        let mut program = Some(program);
        tables().iter().map(|(name, rows)| run(name, rows, &mut program)).sum()
    };
    let failed = with_ports(|| Ok(all(Program::load(&lab::lab())?))).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(failed, 0, "rows failed");
}

#[test]
fn the_table_is_long_enough() {
    let mut seen = BTreeSet::new();
    for (table, rows) in tables() {
        for row in rows {
            assert!(seen.insert((table, row.name.clone())), "two rows of {table} are called {:?}", row.name);
        }
    }
    println!("{} rows", seen.len());
    assert!(seen.len() >= 600, "{} rows", seen.len());
}
