//! The answers of the read commands as text.

use std::fmt::Write;

use crate::core::view::{Flows, Hosts, Status, Topology};

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
    let timeouts = (seconds(status.idle_timeout_s), seconds(status.hard_timeout_s));
    line(&mut text, &format!("entries: idle timeout {}, hard timeout {}", timeouts.0, timeouts.1));
    let switches = status.switches.len();
    line(&mut text, &format!("{switches} switches, {} hosts, {} flow entries", status.hosts, status.flows));
    let rows = status.switches.iter().map(|switch| {
        [
            switch.dpid.clone(),
            switch.openflow.clone(),
            switch.peer.clone(),
            format!("{} s", switch.connected_s),
            switch.ports_up.to_string(),
            switch.packet_ins.to_string(),
            switch.packet_outs.to_string(),
            switch.flow_mods.to_string(),
        ]
    });
    let head =
        ["SWITCH", "OPENFLOW", "FROM", "CONNECTED", "PORTS UP", "PACKET-INS", "PACKET-OUTS", "FLOW-MODS"];
    table(&mut text, head, rows.collect());
    let balancer = &status.balancer;
    if balancer.source == "none" {
        line(&mut text, "balancer: nothing known of it, neither from a file nor from its daemon");
        return text;
    }
    let backends: Vec<String> = balancer.backends.iter().map(ToString::to_string).collect();
    let what = format!("balancer: {}, known from the {}", balancer.placement, balancer.source);
    line(&mut text, &format!("{what}, backends {}", backends.join(" ")));
    let vips = balancer.vips.iter().map(|vip| [vip.address.to_string(), vip.mac.clone()]);
    table(&mut text, ["VIP", "VIRTUAL MAC"], vips.collect());
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
                port.hosts.to_string(),
            ]
        })
    });
    table(&mut text, ["SWITCH", "PORT", "NAME", "MAC", "LINK", "HOSTS"], rows.collect());
    or(text, "no switch is connected\n")
}

/// `ofshim hosts`
#[must_use]
pub fn hosts(hosts: &Hosts) -> String {
    let mut text = String::new();
    let rows = hosts.hosts.iter().map(|host| {
        [
            host.mac.clone(),
            host.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
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
            port_name(flow.in_port),
            vlan(flow.vlan),
            flow.src.clone(),
            flow.dst.clone(),
            flow.out_port.map_or_else(|| "drop".to_owned(), port_name),
            flow.purpose.clone(),
            format!("{} s", flow.age_ms / 1000),
            flow.cookie.clone(),
        ]
    });
    let head = ["SWITCH", "TABLE", "IN", "VLAN", "SOURCE", "DESTINATION", "OUT", "PURPOSE", "AGE", "COOKIE"];
    table(&mut text, head, rows.collect());
    or(text, "there is no flow entry\n")
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
