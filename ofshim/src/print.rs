//! The answers of the read commands as text.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::core::view::{
    BalancedBackend, Balancing, Classic, Explain, Flows, Hop, Hosts, Link, Route, Status, Topology,
};

/// `ofshim status`
#[must_use]
pub fn status(status: &Status) -> String {
    let mut text = format!(
        "ofshim {}, up {} s, OpenFlow {}, listening on {}\n",
        status.version,
        status.uptime_s,
        status.openflow.join(" and "),
        status.listen.join(" and ")
    );
    if status.tls {
        line(&mut text, "switches connect by TLS, with certificates");
    }
    let timeouts = (seconds(status.idle_timeout_s), seconds(status.hard_timeout_s));
    let ahead = if status.proactive { ", ways to hosts ahead of traffic" } else { "" };
    let how = format!("{}, match {}, metric {}{ahead}", status.forwarding, status.granularity, status.metric);
    line(&mut text, &format!("forwarding: {how}"));
    if let Some(discovery) = &status.discovery {
        let (forged, replayed, relayed) = (discovery.forged, discovery.replayed, discovery.relayed);
        let refused = format!("{forged} forged, {replayed} old, {relayed} passed on by hosts");
        line(
            &mut text,
            &format!(
                "discovery: every {} ms, {} frames sent; refused: {refused}",
                discovery.period_ms, discovery.sent
            ),
        );
    }
    line(&mut text, &format!("entries: idle timeout {}, hard timeout {}", timeouts.0, timeouts.1));
    let switches = status.switches.len();
    let (links, clusters) = (status.links, status.clusters);
    line(
        &mut text,
        &format!(
            "{switches} switches, {links} links, {clusters} clusters, {} hosts, {} flow entries",
            status.hosts, status.flows
        ),
    );
    let rows = status.switches.iter().map(|switch| {
        [
            switch.dpid.clone(),
            switch.openflow.clone(),
            switch.peer.clone(),
            switch.role.clone(),
            format!("{} s", switch.connected_s),
            switch.ports_up.to_string(),
            switch.packet_ins.to_string(),
            switch.packet_outs.to_string(),
            switch.flow_mods.to_string(),
        ]
    });
    let head = [
        "SWITCH",
        "OPENFLOW",
        "FROM",
        "ROLE",
        "CONNECTED",
        "PORTS UP",
        "PACKET-INS",
        "PACKET-OUTS",
        "FLOW-MODS",
    ];
    table(&mut text, head, rows.collect());
    if let Some(balancer) = &status.classic {
        return text + &classic(balancer);
    }
    if let Some(balancing) = &status.balancing {
        line(&mut text, &format!("balanced by {}", status.balancer.balances));
        return text + &self::balancing(balancing);
    }
    let balancer = &status.balancer;
    if balancer.source == "none" {
        line(&mut text, "balancer: nothing known of it, neither from a file nor from its daemon");
        return text;
    }
    line(&mut text, &format!("balanced by {}", balancer.balances));
    let backends: Vec<String> = balancer.backends.iter().map(ToString::to_string).collect();
    let what = format!("balancer: {}, known from the {}", balancer.placement, balancer.source);
    line(&mut text, &format!("{what}, backends {}", backends.join(" ")));
    let vips = balancer.vips.iter().map(|vip| [vip.address.to_string(), vip.mac.clone()]);
    table(&mut text, ["VIP", "VIRTUAL MAC"], vips.collect());
    text
}

/// `ofshim backend`, and the part of `ofshim status` that says what is balanced by flow entries.
#[must_use]
pub fn balancing(balancing: &Balancing) -> String {
    let mut text = String::new();
    let Balancing { entries, connections, pinned, capacity, flow_entries, .. } = balancing;
    line(
        &mut text,
        &format!(
            "balancer: openflow, {entries}; {connections} connections of at most {capacity}, {pinned} of them with \
             {flow_entries} flow entries"
        ),
    );
    let mut rows = Vec::new();
    for vip in &balancing.vips {
        for backend in &vip.backends {
            let port = backend.port.map(|port| format!(":{port}")).unwrap_or_default();
            rows.push([
                format!("{} ({}, {})", vip.name, vip.mode, vip.selection),
                format!("{}{port}", backend.name),
                state(backend),
                backend.weight.to_string(),
                backend.place.clone().unwrap_or_else(|| "-".to_owned()),
                // Those of standing entries are the switches' alone.
                backend.open.map_or_else(|| "-".to_owned(), |_| backend.connections.to_string()),
                backend.opened.to_string(),
            ]);
        }
    }
    table(&mut text, ["VIP", "BACKEND", "STATE", "WEIGHT", "PORT", "CONNECTIONS", "OPENED"], rows);
    text
}

/// A backend's state, and what becomes of it by an order: `draining, disabled in 43 s`.
fn state(backend: &BalancedBackend) -> String {
    let mut state = backend.state.clone();
    if backend.admin == "leaving" {
        state.push_str(", removed");
    }
    if let Some(deadline) = backend.drains_until_ms {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_millis(deadline).saturating_sub(now);
        let _ = write!(state, ", disabled in {} s", left.as_secs());
    }
    state
}

/// What a seed balancer is doing.
fn classic(balancer: &Classic) -> String {
    let mut text = String::new();
    let at = match &balancer.switch {
        Some(switch) => format!(" on switch {switch}"),
        None if balancer.mode == "nox-packets" => " on every switch".to_owned(),
        None => ", no switch yet".to_owned(),
    };
    let vip = balancer.vip.map(|vip| format!(", VIP {vip}")).unwrap_or_default();
    line(&mut text, &format!("balancer: {}{at}{vip}, {} connections", balancer.mode, balancer.connections));
    if !balancer.servers.is_empty() {
        let rows = balancer.servers.iter().map(|server| {
            [
                server.address.to_string(),
                if server.up { "up" } else { "down" }.to_owned(),
                server.mac.clone().unwrap_or_else(|| "-".to_owned()),
                server.port.map_or_else(|| "-".to_owned(), port_name),
            ]
        });
        table(&mut text, ["SERVER", "STATE", "MAC", "PORT"], rows.collect());
    }
    text
}

/// `ofshim topology`
#[must_use]
pub fn topology(topology: &Topology) -> String {
    let mut text = String::new();
    let rows = topology.switches.iter().flat_map(|switch| {
        switch.ports.iter().map(|port| {
            [
                switch.dpid.clone(),
                port_name(port.number),
                port.name.clone(),
                port.mac.clone(),
                if port.up { "up" } else { "down" }.to_owned(),
                port.role.clone(),
                port.hosts.to_string(),
            ]
        })
    });
    table(&mut text, ["SWITCH", "PORT", "NAME", "MAC", "STATE", "ROLE", "HOSTS"], rows.collect());
    let rows = topology.links.iter().map(|link| {
        [
            format!("{}:{}", link.from, port_name(link.from_port)),
            format!("{}:{}", link.to, port_name(link.to_port)),
            link.kind.clone(),
            link.cost.to_string(),
            format!("{} us", link.latency_us),
            load(link),
            if link.both_ways { "both ways" } else { "one way" }.to_owned(),
            if link.on_tree { "tree" } else { "-" }.to_owned(),
        ]
    });
    table(&mut text, ["FROM", "TO", "KIND", "COST", "LATENCY", "LOAD", "KNOWN", "BROADCAST"], rows.collect());
    for cluster in &topology.clusters {
        line(&mut text, &format!("cluster {}: {}", cluster.name, cluster.switches.join(" ")));
    }
    or(text, "no switch is connected\n")
}

/// `ofshim hosts`
#[must_use]
pub fn hosts(hosts: &Hosts) -> String {
    let mut text = String::new();
    let rows = hosts.hosts.iter().map(|host| {
        [
            host.mac.clone(),
            addresses(&host.addresses),
            vlan(host.vlan),
            host.dpid.clone(),
            port_name(host.port),
            format!("{} s ago", host.age_ms / 1000),
        ]
    });
    table(&mut text, ["MAC", "ADDRESS", "VLAN", "SWITCH", "PORT", "HEARD"], rows.collect());
    or(text, "no host is learned\n")
}

/// `ofshim flows`
#[must_use]
pub fn flows(flows: &Flows) -> String {
    let mut text = String::new();
    let rows = flows.flows.iter().map(|flow| {
        [
            flow.dpid.clone(),
            flow.table.to_string(),
            flow.in_port.map_or_else(|| "any".to_owned(), port_name),
            vlan(flow.vlan),
            end(flow.src.as_deref().unwrap_or("any"), flow.ip_src, flow.src_port),
            end(flow.dst.as_deref().unwrap_or("any"), flow.ip_dst, flow.dst_port),
            flow.protocol.map_or_else(|| flow.ethertype.map_or_else(|| "-".to_owned(), kind), protocol),
            flow.out_port.map_or_else(|| "drop".to_owned(), port_name),
            flow.purpose.clone(),
            format!("{} s", flow.age_ms / 1000),
            flow.cookie.clone(),
        ]
    });
    let head =
        ["SWITCH", "TABLE", "IN", "VLAN", "SOURCE", "DESTINATION", "WHAT", "OUT", "PURPOSE", "AGE", "COOKIE"];
    table(&mut text, head, rows.collect());
    or(text, "there is no flow entry\n")
}

/// What goes over a link: `12.3 Mbit/s, 1.2 %`.
fn load(link: &Link) -> String {
    let Some((bps, permille)) = link.load_bps.zip(link.utilisation_permille) else { return "-".to_owned() };
    format!("{}.{} Mbit/s, {}.{} %", bps / 1_000_000, bps / 100_000 % 10, permille / 10, permille % 10)
}

fn addresses(addresses: &[IpAddr]) -> String {
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

/// `ofshim route`
#[must_use]
pub fn route(route: &Route) -> String {
    let mut text = format!("from {} to {} by {}\n", route.from, route.to, route.metric);
    if route.paths.is_empty() {
        line(&mut text, "there is no way");
    }
    for (number, path) in route.paths.iter().enumerate() {
        line(&mut text, &format!("{}. cost {}: {}", number + 1, path.cost, way(&path.hops)));
    }
    text
}

/// `ofshim explain`
#[must_use]
pub fn explain(explained: &Explain) -> String {
    let mut text = String::new();
    for why in &explained.why {
        line(&mut text, why);
    }
    let end = if explained.hops.is_empty() { String::new() } else { format!(": {}", way(&explained.hops)) };
    line(&mut text, &format!("=> {}{end}", explained.outcome));
    text
}

/// The ports that a way passes, two for each switch.
fn way(hops: &[Hop]) -> String {
    let ports = hops.iter().map(|hop| {
        let name = hop.dpid.trim_start_matches('0');
        format!("{name}:{}, {name}:{}", port_name(hop.in_port), port_name(hop.out_port))
    });
    ports.collect::<Vec<_>>().join(", ")
}

/// One end of a flow: its MAC, and what else is matched of it.
fn end(mac: &str, address: Option<IpAddr>, port: Option<u16>) -> String {
    let mut text = mac.to_owned();
    // Writing to a string cannot fail.
    let _ = address.map(|address| write!(text, " {address}"));
    let _ = port.map(|port| write!(text, ":{port}"));
    text
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => format!("protocol {other}"),
    }
}

fn kind(ethertype: u16) -> String {
    match ethertype {
        0x0800 => "ipv4".to_owned(),
        0x0806 => "arp".to_owned(),
        0x86dd => "ipv6".to_owned(),
        other => format!("{other:#06x}"),
    }
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn seconds(timeout_s: u16) -> String {
    if timeout_s == 0 { "none".to_owned() } else { format!("{timeout_s} s") }
}

fn port_name(number: u32) -> String {
    openflow::PortNo(number).to_string()
}

fn vlan(vlan: Option<u16>) -> String {
    vlan.map_or_else(|| "-".to_owned(), |vid| vid.to_string())
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Columns as wide as their widest cell; nothing when there are no rows.
fn table<const N: usize>(text: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in std::iter::once(head.map(str::to_owned)).chain(rows) {
        let mut out = String::new();
        for (width, cell) in widths.iter().zip(&row) {
            // Writing to a string cannot fail.
            let _ = write!(out, "{cell:<width$}  ");
        }
        line(text, out.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::view::Host;

    #[test]
    fn columns_line_up() {
        let host = |mac: &str, vlan| Host {
            mac: mac.to_owned(),
            address: None,
            addresses: Vec::new(),
            vlan,
            dpid: "0000000000000001".to_owned(),
            port: 0xffff_fffe,
            age_ms: 1500,
        };
        let hosts_seen =
            Hosts { hosts: vec![host("02:00:00:00:00:01", None), host("02:00:00:00:00:02", Some(5))] };
        assert_eq!(
            hosts(&hosts_seen),
            "MAC                ADDRESS  VLAN  SWITCH            PORT   HEARD\n\
             02:00:00:00:00:01  -        -     0000000000000001  local  1 s ago\n\
             02:00:00:00:00:02  -        5     0000000000000001  local  1 s ago\n"
        );
        assert_eq!(hosts(&Hosts { hosts: Vec::new() }), "no host is learned\n");
    }
}
