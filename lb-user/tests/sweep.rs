//! The sweep of a real connection table: what it counts, what it removes, what it costs.

mod io_bed;

use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use io_bed::as_root;
use lb_core::conn::state;
use lb_core::host::config::ConnectionsConfig;
use lb_core::table::{Address, ConnKey, ConnValue, Settings, Ticks, ticks_from_ms};
use lb_user::dataplane::{ConnTable, DataPlane, Pins, Sweep};
use lb_user::io::clock;

/// Tables of the test's own; gone with it.
struct Tables {
    pins: Pins,
    dataplane: Option<DataPlane>,
}

impl Tables {
    fn new(name: &str, size: u32) -> Self {
        let pins = Pins::new(&PathBuf::from(format!("/sys/fs/bpf/sweep-{}-{name}", std::process::id())));
        let object = lb_user::object::bytes(None, false).expect("the XDP object");
        let connections = ConnectionsConfig { table_size: size, ..ConnectionsConfig::default() };
        let mut dataplane = DataPlane::load(&object, pins.clone(), &connections).expect("the tables");
        let s = |seconds: u64| ticks_from_ms(seconds * 1000);
        let timeouts = [0, s(60), s(7440), s(240), s(240), s(300), 0, 0];
        let settings = Settings { schema: 1, suspect_timeout: s(240), timeouts, ..Settings::default() };
        dataplane.write_settings(&settings).expect("settings");
        Self { pins, dataplane: Some(dataplane) }
    }

    /// The load of a backend in the programs' table.
    fn load(&self, id: u16) -> u64 {
        let map = Map::Array(MapData::from_pin(self.pins.map("LOADS")).expect("the loads"));
        let loads: Array<&MapData, u64> = (&map).try_into().expect("an array");
        loads.get(&u32::from(id), 0).expect("a load")
    }

    fn conns(&self) -> ConnTable {
        ConnTable::open(&self.pins).expect("the table")
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        drop(self.dataplane.take());
        lb_user::dataplane::remove_all(self.pins.root()).ok();
    }
}

fn key(number: u32, vip: u16) -> ConnKey {
    let address = Address::from_v4((0x0a00_0000 + number / 50_000).to_be_bytes());
    ConnKey::new(address, (number % 50_000) as u16, vip, 80u16.to_be(), 6)
}

fn value(backend: u16, state: u8, last_seen: Ticks) -> ConnValue {
    ConnValue { backend, state, last_seen, ..ConnValue::default() }
}

/// Writes `count` entries, of `number` as said.
fn fill(conns: &ConnTable, count: u32, entry: impl Fn(u32) -> (ConnKey, ConnValue)) {
    for first in (0..count).step_by(10_000) {
        let entries = (first..count.min(first + 10_000)).map(&entry);
        let (keys, values): (Vec<_>, Vec<_>) = entries.unzip();
        conns.write(&keys, &values).expect("written");
    }
}

#[test]
fn a_sweep_counts_the_living_and_removes_the_dead_for_less_than_a_hundredth_of_a_core() {
    if !as_root("a_sweep_counts_the_living_and_removes_the_dead_for_less_than_a_hundredth_of_a_core") {
        return;
    }
    const ENTRIES: u32 = 1_000_000;
    let tables = Tables::new("million", 1 << 20);
    let mut conns = tables.conns();
    let now = clock::ticks();
    let old = now.wrapping_sub(ticks_from_ms(3_600_000));
    // Of four: one established with each of two backends, one opening, one UDP that has long timed out.
    fill(&conns, ENTRIES, |number| match number % 4 {
        0 => (key(number, 1), value(1, state::ESTABLISHED, now)),
        1 => (key(number, 1), value(2, state::ESTABLISHED, old)),
        2 => (key(number, 2), value(3, state::SYN, now)),
        _ => (key(number, 2), value(3, state::UDP, old)),
    });
    let mut held = 0u64;
    conns.for_each(|_, _| held += 1).expect("read");
    assert!(held > u64::from(ENTRIES) * 99 / 100, "a table of 2^20 holds a million: {held}");

    let mut sweep = Sweep::open(&tables.pins).expect("the sweep");
    for (name, dead) in [("with a quarter to remove", true), ("with nothing to remove", false)] {
        let mut pauses = Duration::ZERO;
        let mut longest = Duration::ZERO;
        let pass = sweep
            .pass(|pause| {
                pauses += pause;
                longest = longest.max(pause);
                true
            })
            .expect("a pass")
            .expect("to its end");
        let cpu = Duration::from_nanos(pass.cpu_ns);
        let share = cpu.as_secs_f64() / (cpu + pauses).as_secs_f64();
        println!(
            "a sweep of {} entries {name}: {cpu:.1?} of processor time over {:.1} s, {:.2} % of a core; \
             steps of at most {:.2?}",
            pass.entries,
            (cpu + pauses).as_secs_f64(),
            share * 100.0,
            longest / 140,
        );
        assert!(share < 0.01, "{share}");
        let each = |id: u16| pass.open_by_backend.get(&id).copied().unwrap_or(0);
        // A few may have been evicted when the table was filled: each kind alike.
        let near = |count: u64| (247_500..=250_000).contains(&count);
        assert!((1..=3).all(|id| near(each(id))), "{:?}", pass.open_by_backend);
        assert!(near(pass.removed) == dead && (dead || pass.removed == 0), "{}", pass.removed);
        assert_eq!(pass.entries, pass.live() + pass.removed);
        assert_eq!(pass.open_by_vip[&1], each(1) + each(2));
        for id in [1u16, 2, 3, 4] {
            assert_eq!(tables.load(id), each(id), "what the programs compare, of backend {id}");
        }
    }
    let mut left = 0u64;
    conns.for_each(|_, value| left += u64::from(value.state == state::UDP)).expect("read");
    assert_eq!(left, 0, "what timed out is gone");
}

#[test]
fn a_connection_that_comes_to_life_is_not_swept_away() {
    if !as_root("a_connection_that_comes_to_life_is_not_swept_away") {
        return;
    }
    let tables = Tables::new("life", 1024);
    let mut conns = tables.conns();
    let entry = value(1, state::ESTABLISHED, 77);
    conns.write(&[key(1, 1), key(2, 1)], &[entry, entry]).expect("written");
    assert!(!conns.remove_if(&key(1, 1), |value| *value != entry).expect("looked at"), "alive");
    assert!(conns.remove_if(&key(2, 1), |value| *value == entry).expect("removed"), "dead");
    assert!(!conns.remove_if(&key(3, 1), |_| true).expect("looked at"), "not there");
    let mut left = Vec::new();
    conns.for_each(|key, value| left.push((*key, *value))).expect("read");
    assert_eq!(left, [(key(1, 1), entry)]);
}

#[test]
fn a_connection_is_made_where_there_is_none_or_one_that_gives_way() {
    if !as_root("a_connection_is_made_where_there_is_none_or_one_that_gives_way") {
        return;
    }
    let tables = Tables::new("insert", 1 << 10);
    let mut conns = tables.conns();
    let now = clock::ticks();
    let (open, syn) = (|backend| value(backend, state::ESTABLISHED, now), value(7, state::SYN, now));
    let first = |there: &ConnValue| there.backend == 1;
    assert!(conns.insert(&key(1, 1), &open(1), false, first).unwrap(), "there is none");
    assert!(conns.insert(&key(2, 1), &syn, true, first).unwrap());
    assert!(conns.insert(&key(1, 1), &open(2), false, first).unwrap(), "the first gives way");
    assert!(!conns.insert(&key(1, 1), &open(3), false, first).unwrap(), "the second does not");
    assert!(!conns.insert(&key(2, 1), &open(3), false, first).unwrap(), "nor a half-open one");
    assert!(conns.insert(&key(2, 1), &open(3), false, |there| there.backend == 7).unwrap());
    let mut found = Vec::new();
    conns.for_each(|key, value| found.push((key.client_port(), value.backend))).expect("read");
    found.sort_unstable();
    assert_eq!(found, [(1, 2), (2, 3)]);
}

#[test]
fn a_tables_memory_is_the_kernels_word() {
    if !as_root("a_tables_memory_is_the_kernels_word") {
        return;
    }
    let small = Tables::new("small", 1 << 16).conns().memory().expect("memory");
    let large = Tables::new("large", 1 << 20).conns().memory().expect("memory");
    assert_eq!((small.1, large.1), (1 << 16, 1 << 20));
    let each = (large.0 - small.0) / u64::from(large.1 - small.1);
    println!(
        "a connection takes {each} bytes; tables of 2^16 and 2^20 entries {} and {} bytes",
        small.0, large.0
    );
    assert!((48..=120).contains(&each), "{each} bytes a connection");
}
