//! The figures of a mode: names in the results, words for people, in groups. Pure.

use serde_json::Value;

use crate::commands::results::{array, text};

/// A figure of every mode.
pub struct Figure {
    /// Its name in the results.
    pub name: &'static str,
    /// What it is, with its unit.
    pub heading: &'static str,
}

/// Figures that belong together: a picture and a table.
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// What a reader has to know of how they were measured.
    pub note: &'static str,
    /// The figures, in order.
    pub figures: &'static [Figure],
}

const fn figure(name: &'static str, heading: &'static str) -> Figure {
    Figure { name, heading }
}

/// All figures but those of each offered rate.
pub const GROUPS: [Group; 5] = [
    Group {
        title: "New connections",
        note: "Offered load that rises until it breaks: fewer than 99 % completed, or a 99th percentile above 100 ms, \
               twice. A rate in between is tried twice more.",
        figures: &[
            figure("load_last_good", "highest rate that was borne, connections/s"),
            figure("load_breaks_at", "rate that broke it, connections/s"),
            figure("load_completed", "most connections completed in a second"),
            figure("load_delay", "how late the load generator itself was at 800/s, 99th percentile, ms"),
        ],
    },
    Group {
        title: "A request, bulk, datagrams",
        note: "A request: 100 a second, from when it was due until the answer was there.",
        figures: &[
            figure("latency_p50", "a request, median, us"),
            figure("latency_p99", "a request, 99th percentile, us"),
            figure("bulk", "TCP bulk, Gbit/s"),
            figure("udp", "UDP packets/s"),
        ],
    },
    Group {
        title: "What it costs",
        note: "At 400 new connections a second, the same for all. Processor time in percent of one processor; the machine's \
               is that of clients and servers too, and of the kernel, where XDP runs.",
        figures: &[
            figure("cpu_controller", "processor, controller, %"),
            figure("cpu_switch", "processor, switch, %"),
            figure("cpu_balancer", "processor, balancer's daemon, %"),
            figure("cpu_machine", "processor, whole machine, %"),
            figure("packet_ins", "packet-ins for each connection"),
            figure("memory_controller", "memory, controller, MiB"),
            figure("memory_switch", "memory, switch, MiB"),
            figure("memory_balancer", "memory, balancer's daemon, MiB"),
            figure("memory_kernel", "memory, XDP programs and tables, MiB"),
        ],
    },
    Group {
        title: "Flow entries in the switch",
        note: "Before any load, at most while it rose, after it, and how long the switch took to have as many as before.",
        figures: &[
            figure("entries_before", "entries before"),
            figure("entries_max", "entries at most"),
            figure("entries_after", "entries after"),
            figure("entries_back", "back after, s"),
        ],
    },
    Group {
        title: "Backends that go and come",
        note: "A backend hangs: nothing that it sends leaves it. And open connections while the pool of three grows by a third, \
               and shrinks again.",
        figures: &[
            figure("dead_backend", "until a dead backend gets no new connection, s"),
            figure("churn_flows", "connections held open"),
            figure("broken_before", "broken before the pool changed"),
            figure("broken_scale_out", "broken when it grew"),
            figure("broken_scale_in", "broken when it shrank"),
        ],
    },
];

/// The modes of a result.
pub fn modes(measured: &Value) -> &[Value] {
    array(&measured["modes"])
}

/// What a mode is called.
pub fn label(mode: &Value) -> &str {
    text(&mode["label"])
}

/// Least, middle and largest of a figure; none if the mode does not have it.
pub fn values(mode: &Value, figure: &str) -> Option<[f64; 3]> {
    let metric = &mode["metrics"][figure];
    Some([metric["min"].as_f64()?, metric["median"].as_f64()?, metric["max"].as_f64()?])
}

/// What came of an offered rate: medians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AtRate {
    /// Connections offered a second.
    pub rate: u32,
    /// Share of them that was completed.
    pub completed: f64,
    /// Median time in ms; none if nothing was completed.
    pub p50_ms: Option<f64>,
    /// 99th percentile in ms; none if nothing was completed.
    pub p99_ms: Option<f64>,
}

/// The 99th percentile that a rate must not exceed, in ms.
pub const LIMIT_MS: f64 = 100.0;

impl AtRate {
    /// Whether the load was borne.
    pub fn is_good(&self) -> bool {
        self.completed >= 0.99 && self.p99_ms.is_some_and(|p99| p99 <= LIMIT_MS)
    }
}

/// The offered rates of a mode, rising.
pub fn at_rates(mode: &Value) -> Vec<AtRate> {
    let names = mode["metrics"].as_object().into_iter().flat_map(|metrics| metrics.keys());
    let mut rates: Vec<u32> =
        names.filter_map(|name| name.strip_prefix("load_")?.strip_suffix("_offered")?.parse().ok()).collect();
    rates.sort_unstable();
    let median = |name: String| values(mode, &name).map(|[_, median, _]| median);
    rates
        .into_iter()
        .filter_map(|rate| {
            let offered = median(format!("load_{rate}_offered"))?;
            let completed = median(format!("load_{rate}_completed"))?;
            Some(AtRate {
                rate,
                completed: if offered > 0.0 { completed / offered } else { 1.0 },
                p50_ms: median(format!("load_{rate}_p50")),
                p99_ms: median(format!("load_{rate}_p99")),
            })
        })
        .collect()
}
