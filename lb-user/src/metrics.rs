//! The daemon's state and counters as Prometheus reads them (text exposition format, version 0.0.4).

use std::fmt::Write as _;
use std::net::IpAddr;

use lb_core::reason::{Class, Reason};

use crate::api::{Backend, InterfaceLosses, Stats, Status, Traffic, Vip};

/// The format's content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The states of a backend that have a row each.
const BACKEND_STATES: [&str; 5] = ["probing", "up", "down", "draining", "disabled"];

/// All metrics.
pub fn text(status: &Status, stats: &Stats) -> String {
    let mut out = Text::default();
    daemon(&mut out, status);
    packets(&mut out, stats);
    losses(&mut out, stats);
    vips(&mut out, status, stats);
    backends(&mut out, status, stats);
    table(&mut out, status);
    out.0
}

/// The text as it grows; samples follow their family.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn daemon(out: &mut Text, status: &Status) {
    out.family("lb_info", "gauge", "The balancer's version, placement and attachment.");
    let labels = [
        ("version", status.version.as_str()),
        ("placement", &status.placement.kind),
        ("mode", &status.attach_mode),
    ];
    out.sample("lb_info", &labels, 1);
    let uptime = seconds(status.uptime_ms);
    out.single("lb_uptime_seconds", "gauge", "Since when the daemon runs.", uptime);
    out.single("lb_warnings", "gauge", "Warnings that lb status shows.", status.warnings.len());
    out.family("lb_interface_info", "gauge", "An interface with the balancer's program.");
    for i in &status.interfaces {
        let namespace = i.netns.as_deref().unwrap_or_default();
        let switch = i.switch.as_deref().unwrap_or_default();
        let labels = [
            ("interface", i.name.as_str()),
            ("namespace", namespace),
            ("switch", switch),
            ("xdp", &i.xdp),
            ("forward", &i.forward),
        ];
        out.sample("lb_interface_info", &labels, 1);
    }
}

fn packets(out: &mut Text, stats: &Stats) {
    let received = stats.ledger.received;
    out.single("lb_received_packets_total", "counter", "Packets that came in.", received);
    out.family("lb_packets_total", "counter", "Packets by how they ended.");
    for &reason in Reason::ALL {
        let class = match reason.class() {
            Class::Forwarded => "forwarded",
            Class::Answered => "answered",
            Class::Passed => "passed",
            Class::Dropped => "dropped",
        };
        let count = stats.reasons.get(reason.name()).copied().unwrap_or(0);
        out.sample("lb_packets_total", &[("reason", reason.name()), ("class", class)], count);
    }
    let help = "Packets that came in and have not ended, or ended twice; lastingly not zero only by a bug.";
    out.single("lb_ledger_difference_packets", "gauge", help, stats.ledger_difference);
    let help = "Balanced packets whose checksum the sender left to its device.";
    out.single("lb_partial_checksums_total", "counter", help, stats.partial_checksums);
}

/// What was lost after the verdict.
fn losses(out: &mut Text, stats: &Stats) {
    let name = "lb_device_dropped_packets_total";
    out.family(name, "counter", "Frames that a port or the other end of its veth dropped.");
    let labels = |i: &'_ InterfaceLosses| (i.name.clone(), i.netns.clone().unwrap_or_default());
    for i in &stats.interfaces {
        let (interface, namespace) = labels(i);
        let d = &i.devices;
        for (end, direction, count) in [
            ("port", "transmit", d.transmit_dropped),
            ("port", "receive", d.receive_dropped),
            ("peer", "transmit", d.peer_transmit_dropped),
            ("peer", "receive", d.peer_receive_dropped),
        ] {
            let labels = [
                ("interface", interface.as_str()),
                ("namespace", &namespace),
                ("end", end),
                ("direction", direction),
            ];
            out.sample(name, &labels, count);
        }
    }
    let name = "lb_device_errors_total";
    out.family(name, "counter", "Damaged frames at a port and at the other end of its veth.");
    for i in &stats.interfaces {
        let (interface, namespace) = labels(i);
        out.sample(name, &[("interface", &interface), ("namespace", &namespace)], i.devices.errors);
    }
    let help = "Frames that were redirected and that no device took.";
    out.single("lb_redirect_dropped_packets_total", "counter", help, stats.losses.redirect_dropped);
    let help = "Frames lost after the verdict in all, at ports that are gone too.";
    out.single("lb_lost_packets_total", "counter", help, stats.losses.total());
}

/// The columns of [`Traffic`]: end of the name, whether it has a direction, help, value.
type Column = (&'static str, Option<&'static str>, &'static str, fn(&Traffic) -> u64);

const COLUMNS: [Column; 6] = [
    ("packets_total", Some("in"), "Packets to the backends (in) and back to the clients (out).", |t| {
        t.packets_in
    }),
    ("packets_total", Some("out"), "", |t| t.packets_out),
    (
        "bytes_total",
        Some("in"),
        "Bytes to the backends (in) and back (out), Ethernet header included.",
        |t| t.bytes_in,
    ),
    ("bytes_total", Some("out"), "", |t| t.bytes_out),
    ("opened_connections_total", None, "Connections opened.", |t| t.opened),
    ("dropped_packets_total", None, "Packets dropped by a named reason.", |t| t.dropped),
];

/// The counters of VIPs or backends: family by family, as the format wants it.
fn traffic<'a>(out: &mut Text, prefix: &str, rows: &[(Vec<(&'a str, &'a str)>, &Traffic)]) {
    for (index, (end, direction, help, value)) in COLUMNS.iter().enumerate() {
        if *direction == Some("out") {
            continue;
        }
        let name = format!("{prefix}_{end}");
        out.family(&name, "counter", help);
        for (labels, traffic) in rows {
            let mut labels = labels.clone();
            let Some(direction) = direction else {
                out.sample(&name, &labels, value(traffic));
                continue;
            };
            labels.push(("direction", direction));
            out.sample(&name, &labels, value(traffic));
            if let (Some((_, Some(other), _, back)), Some(last)) = (COLUMNS.get(index + 1), labels.last_mut())
            {
                *last = ("direction", other);
                out.sample(&name, &labels, back(traffic));
            }
        }
    }
}

fn vips(out: &mut Text, status: &Status, stats: &Stats) {
    let rows: Vec<_> =
        stats.vips.iter().map(|vip| (vec![("vip", vip.name.as_str())], &vip.traffic)).collect();
    traffic(out, "lb_vip", &rows);
    out.family("lb_vip_connections", "gauge", "Open connections, as the last sweep counted them.");
    for vip in &status.vips {
        if let Some(count) = vip.connections {
            out.sample("lb_vip_connections", &[("vip", &vip.name)], count);
        }
    }
}

/// `10.0.0.1`, or with the port where it is not the VIP's.
fn name_of(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

/// Name, kind, help and value of what a backend has one of.
type Gauge = (&'static str, &'static str, &'static str, fn(&Backend) -> Option<u64>);

fn backends(out: &mut Text, status: &Status, stats: &Stats) {
    let all: Vec<(&Vip, &Backend, String)> = status
        .vips
        .iter()
        .flat_map(|vip| vip.backends.iter().map(move |b| (vip, b, name_of(b.address, b.port))))
        .collect();
    let rows: Vec<_> = stats
        .backends
        .iter()
        .filter_map(|row| {
            let (vip, _, name) = all.iter().find(|(_, backend, _)| backend.id == row.id)?;
            Some((vec![("vip", vip.name.as_str()), ("backend", name.as_str())], &row.traffic))
        })
        .collect();
    traffic(out, "lb_backend", &rows);
    let gauges: [Gauge; 4] = [
        ("lb_backend_connections", "gauge", "Open connections, as the last sweep counted them.", |b| {
            b.connections
        }),
        ("lb_backend_weight", "gauge", "Its weight.", |b| Some(b.weight.into())),
        ("lb_backend_downs_total", "counter", "How often it went down since the daemon started.", |b| {
            Some(b.downs)
        }),
        ("lb_backend_up", "gauge", "1 while it is up.", |b| Some(u64::from(b.state == "up"))),
    ];
    for (name, kind, help, value) in gauges {
        out.family(name, kind, help);
        for (vip, backend, backend_name) in &all {
            if let Some(value) = value(backend) {
                out.sample(name, &[("vip", &vip.name), ("backend", backend_name)], value);
            }
        }
    }
    out.family("lb_backend_state", "gauge", "1 for the state that it is in, 0 for the others.");
    for (vip, backend, backend_name) in &all {
        for state in BACKEND_STATES {
            let labels = [("vip", vip.name.as_str()), ("backend", backend_name), ("state", state)];
            out.sample("lb_backend_state", &labels, u8::from(backend.state == state));
        }
    }
}

fn table(out: &mut Text, status: &Status) {
    let table = &status.connections;
    let help = "Entries that the connection table holds at most.";
    out.single("lb_connection_table_capacity", "gauge", help, table.capacity);
    let help = "Kernel memory of the connection table.";
    out.single("lb_connection_table_bytes", "gauge", help, table.memory_bytes);
    let Some(sweep) = &table.sweep else { return };
    out.family("lb_connections", "gauge", "Live entries by state, as the last sweep counted them.");
    let s = sweep.states;
    let states = [s.syn, s.established, s.closing, s.closed, s.udp, s.unverified];
    for (state, count) in crate::conns::STATES.iter().zip(states) {
        out.sample("lb_connections", &[("state", state)], count);
    }
    out.single("lb_sweep_age_seconds", "gauge", "Since when the last sweep is over.", seconds(sweep.age_ms));
    let took = seconds(sweep.took_ms);
    out.single("lb_sweep_duration_seconds", "gauge", "How long the last sweep took.", took);
    let cpu = sweep.cpu_us as f64 / 1e6;
    out.single("lb_sweep_cpu_seconds", "gauge", "Processor time of the last sweep.", cpu);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
