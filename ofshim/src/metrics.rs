//! State and counters as Prometheus reads them (text exposition format, version 0.0.4).

use std::fmt::Write as _;

use crate::core::view::{Balancing, Counters, Link};

/// The format's content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
#[must_use]
pub fn text(counters: &Counters) -> String {
    let mut out = Text::default();
    controller(&mut out, counters);
    messages(&mut out, counters);
    switches(&mut out, counters);
    network(&mut out, counters);
    links(&mut out, counters);
    out.0
}

/// The text as it grows; samples follow their family.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
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

fn controller(out: &mut Text, counters: &Counters) {
    let status = &counters.status;
    out.family("ofshim_info", "gauge", "The controller's version and way of forwarding.");
    let labels = [
        ("version", status.version.as_str()),
        ("forwarding", &status.forwarding),
        ("match", &status.granularity),
        ("metric", &status.metric),
    ];
    out.sample("ofshim_info", &labels, 1);
    out.single("ofshim_uptime_seconds", "gauge", "Since when the controller runs.", status.uptime_s);
    let help = "Connections of switches, whether their handshake is done or not.";
    out.single("ofshim_connections", "gauge", help, counters.connections);
    let help = "Connections that switches opened.";
    out.single("ofshim_connections_opened_total", "counter", help, counters.opened);
    out.single("ofshim_sessions", "gauge", "Switches that are ready.", status.switches.len());
    let help = "Events that wait for the controller.";
    out.single("ofshim_waiting_inputs", "gauge", help, counters.waiting_inputs);
    let balancer = &status.balancer;
    out.family("ofshim_balancer_info", "gauge", "Where what is known of the balancer comes from.");
    let labels = [("source", balancer.source.as_str()), ("placement", &balancer.placement)];
    out.sample("ofshim_balancer_info", &labels, 1);
    out.single("ofshim_balancer_vips", "gauge", "VIPs that are known.", balancer.vips.len());
    out.single("ofshim_balancer_backends", "gauge", "Backends that are known.", balancer.backends.len());
    let help = "Services whose answers are led to the one-armed balancer.";
    out.single("ofshim_balancer_steered_services", "gauge", help, counters.services);
    if let Some(balancing) = &status.balancing {
        self::balancing(out, balancing);
    }
}

fn balancing(out: &mut Text, balancing: &Balancing) {
    let help = "Connections that are remembered.";
    out.single("ofshim_balancing_connections", "gauge", help, balancing.connections);
    let help = "Connections that are remembered at most.";
    out.single("ofshim_balancing_connections_capacity", "gauge", help, balancing.capacity);
    let help = "Connections with flow entries.";
    out.single("ofshim_balancing_pinned_connections", "gauge", help, balancing.pinned);
    let help = "Packets that came to the controller, by what the balancer made of them.";
    out.family("ofshim_balancing_packets_total", "counter", help);
    for (reason, count) in &balancing.packets {
        out.sample("ofshim_balancing_packets_total", &[("reason", reason)], *count);
    }
    let of_backends =
        || balancing.vips.iter().flat_map(|vip| vip.backends.iter().map(move |backend| (vip, backend)));
    let help = "Whether a backend is in the state that the label names; always 1.";
    out.family("ofshim_balancing_backend_info", "gauge", help);
    for (vip, backend) in of_backends() {
        let labels = [("vip", vip.name.as_str()), ("backend", &backend.name), ("state", &backend.state)];
        out.sample("ofshim_balancing_backend_info", &labels, 1);
    }
    out.family("ofshim_balancing_opened_total", "counter", "Connections opened to a backend.");
    for (vip, backend) in of_backends() {
        let labels = [("vip", vip.name.as_str()), ("backend", &backend.name)];
        out.sample("ofshim_balancing_opened_total", &labels, backend.opened);
    }
    out.family(
        "ofshim_balancing_backend_connections",
        "gauge",
        "Connections of a backend that are remembered.",
    );
    for (vip, backend) in of_backends() {
        let labels = [("vip", vip.name.as_str()), ("backend", &backend.name)];
        out.sample("ofshim_balancing_backend_connections", &labels, backend.connections);
    }
}

fn messages(out: &mut Text, counters: &Counters) {
    out.family("ofshim_messages_total", "counter", "Messages from switches (in) and to them (out).");
    for row in &counters.messages {
        let labels = [("direction", row.direction), ("type", &row.kind), ("openflow", &row.openflow)];
        out.sample("ofshim_messages_total", &labels, row.count);
    }
}

/// Name, kind and help of what a switch has one of, and the values by datapath id.
type Column<'a> = (&'static str, &'static str, &'static str, Vec<(&'a str, String)>);

fn switches(out: &mut Text, counters: &Counters) {
    let told = || counters.status.switches.iter();
    let rows = || counters.switches.iter();
    let columns: [Column<'_>; 7] = [
        (
            "ofshim_switch_connected_seconds",
            "gauge",
            "Since when the switch is connected.",
            told().map(|s| (s.dpid.as_str(), s.connected_s.to_string())).collect(),
        ),
        (
            "ofshim_switch_packet_ins_total",
            "counter",
            "Packet-ins of the switch in this connection.",
            told().map(|s| (s.dpid.as_str(), s.packet_ins.to_string())).collect(),
        ),
        (
            "ofshim_switch_packet_outs_total",
            "counter",
            "Packet-outs to the switch in this connection.",
            told().map(|s| (s.dpid.as_str(), s.packet_outs.to_string())).collect(),
        ),
        (
            "ofshim_switch_flow_mods_total",
            "counter",
            "Flow-mods to the switch in this connection.",
            told().map(|s| (s.dpid.as_str(), s.flow_mods.to_string())).collect(),
        ),
        (
            "ofshim_switch_round_trip_seconds",
            "gauge",
            "How long the last echo took.",
            rows().map(|s| (s.dpid.as_str(), s.round_trip.as_secs_f64().to_string())).collect(),
        ),
        (
            "ofshim_switch_waiting_bytes",
            "gauge",
            "Bytes that wait to be sent to the switch.",
            rows().map(|s| (s.dpid.as_str(), s.waiting_bytes.to_string())).collect(),
        ),
        (
            "ofshim_switch_ports",
            "gauge",
            "Ports of the switch.",
            rows().map(|s| (s.dpid.as_str(), s.ports.to_string())).collect(),
        ),
    ];
    for (name, kind, help, samples) in columns {
        out.family(name, kind, help);
        for (dpid, value) in samples {
            out.sample(name, &[("switch", dpid)], value);
        }
    }
    out.family("ofshim_switch_ports_up", "gauge", "Ports of the switch that are up.");
    for switch in told() {
        out.sample("ofshim_switch_ports_up", &[("switch", &switch.dpid)], switch.ports_up);
    }
}

fn network(out: &mut Text, counters: &Counters) {
    let status = &counters.status;
    out.single("ofshim_hosts", "gauge", "Hosts that are known.", status.hosts);
    out.single("ofshim_clusters", "gauge", "Clusters of connected switches.", status.clusters);
    out.family("ofshim_flow_entries", "gauge", "The controller's own flow entries, by purpose.");
    for (purpose, count) in &counters.entries {
        out.sample("ofshim_flow_entries", &[("purpose", purpose)], count);
    }
    out.family("ofshim_stopped_packets_total", "counter", "Packet-ins that went nowhere, by reason.");
    for (reason, count) in &status.stopped {
        out.sample("ofshim_stopped_packets_total", &[("reason", reason)], count);
    }
    let trees = counters.trees;
    let help = "Shortest-path trees that are kept.";
    out.single("ofshim_route_trees", "gauge", help, trees.kept);
    out.single("ofshim_route_trees_capacity", "gauge", "Trees that are kept at most.", trees.limit);
    let help = "How often a tree was asked for.";
    out.single("ofshim_route_look_ups_total", "counter", help, trees.asked);
    let help = "How often a tree was not there and had to be made.";
    out.single("ofshim_route_misses_total", "counter", help, trees.made);
    let help = "Distances that were computed, for new trees and for changes.";
    out.single("ofshim_route_distances_total", "counter", help, trees.distances);
    let Some(discovery) = &status.discovery else { return };
    let period = discovery.period_ms as f64 / 1e3;
    let help = "From one discovery frame of a port to the next.";
    out.single("ofshim_discovery_period_seconds", "gauge", help, period);
    out.family("ofshim_discovery_frames_total", "counter", "Discovery frames, by what became of them.");
    let rows = [
        ("sent", discovery.sent),
        ("heard", discovery.heard),
        ("forged", discovery.forged),
        ("replayed", discovery.replayed),
        ("relayed", discovery.relayed),
    ];
    for (what, count) in rows {
        out.sample("ofshim_discovery_frames_total", &[("what", what)], count);
    }
}

fn links(out: &mut Text, counters: &Counters) {
    out.single("ofshim_links", "gauge", "Directed links.", counters.links.len());
    let ends: Vec<(String, String, &Link)> = counters
        .links
        .iter()
        .map(|link| {
            (format!("{}:{}", link.from, link.from_port), format!("{}:{}", link.to, link.to_port), link)
        })
        .collect();
    let help = "How long a frame takes over the link.";
    out.family("ofshim_link_latency_seconds", "gauge", help);
    for (from, to, link) in &ends {
        let labels = [("from", from.as_str()), ("to", to), ("kind", &link.kind)];
        out.sample("ofshim_link_latency_seconds", &labels, link.latency_us as f64 / 1e6);
    }
    out.family("ofshim_link_cost", "gauge", "What the link costs by the metric in force.");
    for (from, to, link) in &ends {
        out.sample("ofshim_link_cost", &[("from", from), ("to", to), ("kind", &link.kind)], link.cost);
    }
    loads(out, &ends);
}

fn loads(out: &mut Text, ends: &[(String, String, &Link)]) {
    if !ends.iter().any(|(_, _, link)| link.load_bps.is_some()) {
        return;
    }
    let help = "Bits that go over the link in a second, smoothed.";
    out.family("ofshim_link_load_bits_per_second", "gauge", help);
    for (from, to, link) in ends {
        if let Some(load) = link.load_bps {
            out.sample("ofshim_link_load_bits_per_second", &[("from", from), ("to", to)], load);
        }
    }
    out.family("ofshim_link_utilisation_ratio", "gauge", "The part of its port's speed that is used.");
    for (from, to, link) in ends {
        if let Some(permille) = link.utilisation_permille {
            let ratio = permille as f64 / 1e3;
            out.sample("ofshim_link_utilisation_ratio", &[("from", from), ("to", to)], ratio);
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
