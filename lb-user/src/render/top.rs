//! The screen of `lb top`: what changed between two looks, for each second.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::table::{Align, Table};
use super::{connection_table, duration, with_port};
use crate::api::{Backend, Stats, Status, Traffic, Vip};

/// What the daemon said at a moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// When, in milliseconds of any clock that does not jump.
    pub at_ms: u64,
    /// Its state.
    pub status: Status,
    /// Its counters.
    pub stats: Stats,
}

/// Counters of a second.
#[derive(Clone, Copy)]
struct Rate<'a> {
    ms: u64,
    before: &'a Traffic,
    now: &'a Traffic,
}

/// A counter that starts anew counts from zero.
fn per_second(before: u64, now: u64, ms: u64) -> u64 {
    let change = now.checked_sub(before).unwrap_or(now);
    change.saturating_mul(1000).checked_div(ms).unwrap_or(0)
}

impl Rate<'_> {
    fn of(&self, field: fn(&Traffic) -> u64) -> u64 {
        per_second(field(self.before), field(self.now), self.ms)
    }

    /// Thousandths of a megabit with one decimal place more than people need.
    fn megabits(&self, field: fn(&Traffic) -> u64) -> String {
        let tenths = self.of(field).saturating_mul(8) / 100_000;
        format!("{}.{}", tenths / 10, tenths % 10)
    }

    fn cells(&self) -> [String; 6] {
        [
            self.of(|t| t.packets_in).to_string(),
            self.megabits(|t| t.bytes_in),
            self.of(|t| t.packets_out).to_string(),
            self.megabits(|t| t.bytes_out),
            self.of(|t| t.opened).to_string(),
            self.of(|t| t.dropped).to_string(),
        ]
    }
}

/// The whole screen, without regard to its size.
pub fn top(before: &Look, now: &Look) -> String {
    let ms = now.at_ms.saturating_sub(before.at_ms);
    let status = &now.status;
    let mut out =
        format!("lb {}, up {}, {}\n", status.version, duration(status.uptime_ms), status.attach_mode);
    let (a, b) = (&before.stats.ledger, &now.stats.ledger);
    let _ = writeln!(
        out,
        "packets/s: {} received, {} forwarded, {} answered, {} passed, {} dropped; {} lost after the verdict",
        per_second(a.received, b.received, ms),
        per_second(a.forwarded, b.forwarded, ms),
        per_second(a.answered, b.answered, ms),
        per_second(a.passed, b.passed, ms),
        per_second(a.dropped, b.dropped, ms),
        per_second(before.stats.losses.total(), now.stats.losses.total(), ms),
    );
    let _ = writeln!(out, "{}", connection_table(&status.connections));
    if now.stats.ledger_difference != 0 {
        let _ = writeln!(out, "in no row of the ledger: {} packets", now.stats.ledger_difference);
    }
    let _ = write!(
        out,
        "\n{}\n{}\n{}",
        vips(before, now, ms),
        backends(before, now, ms),
        reasons(before, now, ms)
    );
    for warning in &status.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

const HEADINGS: [&str; 6] =
    ["IN (p/s)", "IN (Mbit/s)", "OUT (p/s)", "OUT (Mbit/s)", "NEW (/s)", "DROPPED (/s)"];

fn count(connections: Option<u64>) -> String {
    connections.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn vips(before: &Look, now: &Look, ms: u64) -> String {
    let [a, b, c, d, e, f] = HEADINGS.map(|name| (name, Align::Right));
    let mut table = Table::new(&[("VIP", Align::Left), a, b, c, d, e, f, ("CONNECTIONS", Align::Right)]);
    let none = Traffic::default();
    for row in &now.stats.vips {
        let earlier = before.stats.vips.iter().find(|other| other.id == row.id);
        let rate = Rate { ms, before: earlier.map_or(&none, |other| &other.traffic), now: &row.traffic };
        let [a, b, c, d, e, f] = rate.cells();
        let vip = now.status.vips.iter().find(|vip| vip.id == row.id);
        table.row([row.name.clone(), a, b, c, d, e, f, count(vip.and_then(|vip| vip.connections))]);
    }
    table.to_string()
}

fn backends(before: &Look, now: &Look, ms: u64) -> String {
    let [a, b, c, d, e, f] = HEADINGS.map(|name| (name, Align::Right));
    let left = |name| (name, Align::Left);
    let right = ("CONNECTIONS", Align::Right);
    let mut table = Table::new(&[left("VIP"), left("BACKEND"), left("STATE"), a, b, c, d, e, f, right]);
    let known: BTreeMap<u16, (&Vip, &Backend)> = now
        .status
        .vips
        .iter()
        .flat_map(|vip| vip.backends.iter().map(move |backend| (backend.id, (vip, backend))))
        .collect();
    let none = Traffic::default();
    for row in &now.stats.backends {
        let Some((vip, backend)) = known.get(&row.id) else { continue };
        let earlier = before.stats.backends.iter().find(|other| other.id == row.id);
        let rate = Rate { ms, before: earlier.map_or(&none, |other| &other.traffic), now: &row.traffic };
        let [a, b, c, d, e, f] = rate.cells();
        let name = with_port(backend.address, backend.port);
        let connections = count(backend.connections);
        table.row([vip.name.clone(), name, backend.state.clone(), a, b, c, d, e, f, connections]);
    }
    table.to_string()
}

/// The reasons that any packet ended with, the busiest first.
fn reasons(before: &Look, now: &Look, ms: u64) -> String {
    let mut rows: Vec<(u64, u64, &str)> = now
        .stats
        .reasons
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| {
            let earlier = before.stats.reasons.get(name).copied().unwrap_or(0);
            (per_second(earlier, *count, ms), *count, name.as_str())
        })
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(b.2)));
    let mut table =
        Table::new(&[("REASON", Align::Left), ("PACKETS/s", Align::Right), ("PACKETS", Align::Right)]);
    for (rate, count, name) in rows {
        table.row([name.to_owned(), rate.to_string(), count.to_string()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use lb_core::ledger::Ledger;

    use super::super::tests::a_status;
    use super::*;
    use crate::api::{BackendStats, Losses, VipStats};

    fn look(at_ms: u64, n: u64) -> Look {
        let traffic = Traffic {
            packets_in: 2000 * n,
            bytes_in: 250_000 * n,
            packets_out: 1000 * n,
            bytes_out: 1_500_000 * n,
            opened: 10 * n,
            dropped: n,
        };
        let backend = |id: u16, traffic| BackendStats {
            id,
            vip: "web".into(),
            address: [10, 0, 0, id as u8].into(),
            traffic,
        };
        let stats = Stats {
            ledger: Ledger {
                received: 4000 * n,
                forwarded: 3000 * n,
                answered: 0,
                passed: 999 * n,
                dropped: n,
            },
            ledger_difference: 0,
            reasons: BTreeMap::from([
                ("no_backend".to_owned(), n),
                ("not_ours".to_owned(), 999 * n),
                ("table_full".to_owned(), 0),
                ("to_backend_redirect".to_owned(), 5000),
            ]),
            partial_checksums: 0,
            losses: Losses { redirect_dropped: 50 * n, ..Losses::default() },
            interfaces: Vec::new(),
            vips: vec![VipStats { id: 1, name: "web".into(), forwarded: 3000 * n, traffic }],
            backends: vec![backend(1, traffic), backend(2, Traffic::default())],
        };
        Look { at_ms, status: a_status(), stats }
    }

    #[test]
    fn a_screen_shows_what_a_second_brought() {
        let expected = "\
lb 0.1.0, up 1 h 02 min, native
packets/s: 2000 received, 1500 forwarded, 0 answered, 499 passed, 0 dropped; 25 lost after the verdict
connection table: 90 of 65536 entries of 128 bytes, 8 MiB
connections: 80 established, 3 opening, 0 unverified, 4 closing, 2 reset, 1 udp; 10 timed out and removed
sweep: 300 ms ago, took 1 s and 0.65 % of a core

VIP  IN (p/s)  IN (Mbit/s)  OUT (p/s)  OUT (Mbit/s)  NEW (/s)  DROPPED (/s)  CONNECTIONS
web      1000          1.0        500           6.0         5             0           83

VIP  BACKEND   STATE  IN (p/s)  IN (Mbit/s)  OUT (p/s)  OUT (Mbit/s)  NEW (/s)  DROPPED (/s)  CONNECTIONS
web  10.0.0.1  up         1000          1.0        500           6.0         5             0           41
web  10.0.0.2  down          0          0.0          0           0.0         0             0           42

REASON               PACKETS/s  PACKETS
not_ours                   499     1998
to_backend_redirect          0     5000
no_backend                   0        2
warning: s1-eth1 is shaped
";
        assert_eq!(top(&look(1000, 1), &look(3000, 2)), expected);
    }

    #[test]
    fn counters_that_start_anew_count_from_zero() {
        assert_eq!(per_second(100, 7, 1000), 7);
        assert_eq!(per_second(100, 200, 0), 0);
        assert_eq!(per_second(0, u64::MAX, 1), u64::MAX);
    }
}
