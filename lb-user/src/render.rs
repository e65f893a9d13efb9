//! The daemon's answers for people: plain text, aligned columns, units in the headings.

pub mod explain;
mod table;
#[cfg(test)]
pub(crate) mod tests;
pub mod top;

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::api::{Backend, Connections, Detached, StateCounts, Stats, Status, TableStatus, Traffic};
use crate::control::Balancer;
use crate::diagnose::Report;
use crate::io::doctor;
use crate::watch::capture::Captured;

use self::table::{Align, Table};

/// What stands in a cell without a value.
const NONE: &str = "-";

fn or_none<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| NONE.to_owned(), ToString::to_string)
}

fn with_port(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
    }
}

/// `850 ms`, `12 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`.
fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {:02} h", s / 86_400, s / 3600 % 24),
    }
}

/// `lb status`.
pub fn status(status: &Status) -> String {
    let mut out = format!(
        "lb {}, process {}, up {}, {} mode{}\n",
        status.version,
        status.pid,
        duration(status.uptime_ms),
        status.attach_mode,
        if status.adopted { ", adopted from an earlier daemon" } else { "" },
    );
    if status.balancer == Balancer::OpenFlow {
        out.push_str(
            "balanced by flow entries of the controller; `lb mode xdp` puts the programs back on the ports\n",
        );
    }
    let placement = &status.placement;
    out.push_str(&format!("placement: {}", placement.kind));
    if let Some(host) = &placement.host {
        out.push_str(&format!(" on {host}"));
    }
    if let Some(mac) = &placement.mac {
        out.push_str(&format!(" ({mac})"));
    }
    let _ = writeln!(out, "\n{}", connection_table(&status.connections));
    let _ = writeln!(out, "probes from: {}", status.prober_macs.join(", "));

    let columns = ["INTERFACE", "NAMESPACE", "SWITCH", "HOST", "XDP", "PEER", "FORWARD", "WHY"];
    let mut interfaces = Table::new(&columns.map(|name| (name, Align::Left)));
    for i in &status.interfaces {
        interfaces.row([
            i.name.clone(),
            or_none(i.netns.as_ref()),
            or_none(i.switch.as_ref()),
            or_none(i.host.as_ref()),
            i.xdp.clone(),
            or_none(i.peer.as_ref()),
            i.forward.clone(),
            i.forward_reason.clone().unwrap_or_default(),
        ]);
    }
    let _ = write!(out, "\n{interfaces}");

    let columns = ["VIP", "ADDRESS", "PORT", "PROTOCOL", "MAC", "MODE", "SELECTION", "BACKENDS UP"];
    let mut vips = Table::new(&columns.map(|name| (name, Align::Left)));
    for vip in &status.vips {
        let up = vip.backends.iter().filter(|backend| backend.state == "up").count();
        vips.row([
            vip.name.clone(),
            vip.prefix_len
                .map_or_else(|| vip.address.to_string(), |length| format!("{}/{length}", vip.address)),
            vip.ports.clone(),
            vip.protocol.clone(),
            vip.mac.clone(),
            vip.mode.clone(),
            vip.selection.clone(),
            format!("{up} of {}", vip.backends.len()),
        ]);
    }
    let _ = write!(out, "\n{vips}\n{}", backends(status));
    if !status.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &status.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// How full the connection table is, what it takes, and what the last sweep cost.
fn connection_table(table: &TableStatus) -> String {
    let mib = table.memory_bytes / (1 << 20);
    let room = format!("{} entries of {} bytes, {mib} MiB", table.capacity, table.bytes_per_entry);
    let Some(sweep) = &table.sweep else { return format!("connection table: {room}; not swept yet") };
    let StateCounts { syn, unverified, established, closing, closed, udp } = sweep.states;
    // Parts of ten thousand of one processor.
    let share = sweep.cpu_us.saturating_mul(10).checked_div(sweep.took_ms).unwrap_or(0);
    format!(
        "connection table: {} of {room}\n\
         connections: {established} established, {syn} opening, {unverified} unverified, {closing} closing, {closed} reset, {udp} udp; \
         {} timed out and removed\n\
         sweep: {} ago, took {} and {}.{:02} % of a core",
        sweep.live,
        sweep.removed,
        duration(sweep.age_ms),
        duration(sweep.took_ms),
        share / 100,
        share % 100,
    )
}

/// `lb backend`.
pub fn backends(status: &Status) -> String {
    let mut table = Table::new(&[
        ("VIP", Align::Left),
        ("BACKEND", Align::Left),
        ("STATE", Align::Left),
        ("SINCE", Align::Left),
        ("WEIGHT", Align::Right),
        ("CONNECTIONS", Align::Right),
        ("DOWNS", Align::Right),
        ("MAC", Align::Left),
        ("INTERFACE", Align::Left),
        ("REASON", Align::Left),
    ]);
    for vip in &status.vips {
        for backend in &vip.backends {
            let Backend {
                address,
                port,
                weight,
                state,
                reason,
                since_ms,
                downs,
                mac,
                interface,
                connections,
                ..
            } = backend;
            table.row([
                vip.name.clone(),
                with_port(*address, *port),
                state.clone(),
                duration(*since_ms),
                weight.to_string(),
                or_none(connections.as_ref()),
                downs.to_string(),
                or_none(mac.as_ref()),
                or_none(interface.as_ref()),
                reason.clone(),
            ]);
        }
    }
    table.to_string()
}

/// `lb conn`.
pub fn connections(answer: &Connections) -> String {
    let mut table = Table::new(&[
        ("CLIENT", Align::Left),
        ("VIP", Align::Left),
        ("VIP PORT", Align::Right),
        ("PROTOCOL", Align::Left),
        ("BACKEND", Align::Left),
        ("STATE", Align::Left),
        ("IDLE (s)", Align::Right),
    ]);
    for c in &answer.connections {
        table.row([
            with_port(c.client, Some(c.client_port)),
            c.vip.clone(),
            c.vip_port.to_string(),
            c.protocol.clone(),
            with_port(c.backend, Some(c.backend_port)),
            c.state.clone(),
            format!("{}.{:03}", c.idle_ms / 1000, c.idle_ms % 1000),
        ]);
    }
    let listed = answer.connections.len();
    let more = match &answer.next {
        Some(next) => format!("; more with --after '{next}'"),
        None => String::new(),
    };
    format!("{table}{listed} of {} connections{more}\n", answer.total)
}

/// `lb stats`; reasons that no packet ended with only if `all_reasons`.
pub fn stats(stats: &Stats, all_reasons: bool) -> String {
    let mut ledger = Table::new(&[("LEDGER", Align::Left), ("PACKETS", Align::Right)]);
    let l = &stats.ledger;
    for (name, count) in [
        ("received", l.received),
        ("forwarded", l.forwarded),
        ("answered", l.answered),
        ("passed", l.passed),
        ("dropped", l.dropped),
    ] {
        ledger.row([name.to_owned(), count.to_string()]);
    }
    ledger.row(["difference".to_owned(), stats.ledger_difference.to_string()]);
    ledger.row(["lost after the verdict".to_owned(), stats.losses.total().to_string()]);
    ledger.row(["partial checksums".to_owned(), stats.partial_checksums.to_string()]);

    let mut reasons = Table::new(&[("REASON", Align::Left), ("PACKETS", Align::Right)]);
    for (name, count) in stats.reasons.iter().filter(|(_, count)| all_reasons || **count > 0) {
        reasons.row([name.clone(), count.to_string()]);
    }

    let mut vips = Table::new(&traffic_columns("VIP", "FORWARDED (packets)"));
    for vip in &stats.vips {
        vips.row(traffic_row(vip.name.clone(), (vip.forwarded.to_string(), &vip.traffic)));
    }
    let mut columns = traffic_columns("VIP", "BACKEND");
    columns[1].1 = Align::Left;
    let mut backends = Table::new(&columns);
    for backend in &stats.backends {
        backends.row(traffic_row(backend.vip.clone(), (backend.address.to_string(), &backend.traffic)));
    }
    let losses = losses(stats, all_reasons);
    format!("{ledger}{losses}\n{reasons}\n{vips}\n{backends}")
}

/// What was lost after the verdict, by interface; nothing if nothing was, unless `all`.
fn losses(stats: &Stats, all: bool) -> String {
    if !all && stats.losses.total() == 0 {
        return String::new();
    }
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("LOST AT", Align::Left),
        ("PEER", Align::Left),
        right("SENDING"),
        right("RECEIVING"),
        right("PEER SENDING"),
        right("PEER RECEIVING"),
        right("ERRORS"),
    ]);
    for i in stats.interfaces.iter().filter(|i| all || i.devices.total() > 0) {
        let d = &i.devices;
        let [a, b, c, d, e] = [
            d.transmit_dropped,
            d.receive_dropped,
            d.peer_transmit_dropped,
            d.peer_receive_dropped,
            d.errors,
        ]
        .map(|count| count.to_string());
        let name = match &i.netns {
            Some(netns) => format!("{} in {netns}", i.name),
            None => i.name.clone(),
        };
        table.row([name, or_none(i.peer.as_ref()), a, b, c, d, e]);
    }
    let redirect = stats.losses.redirect_dropped;
    format!("\n{table}redirected, and taken by no device: {redirect}\n")
}

fn traffic_columns(first: &'static str, second: &'static str) -> [(&'static str, Align); 8] {
    [
        (first, Align::Left),
        (second, Align::Right),
        ("IN (packets)", Align::Right),
        ("IN (bytes)", Align::Right),
        ("OUT (packets)", Align::Right),
        ("OUT (bytes)", Align::Right),
        ("OPENED (connections)", Align::Right),
        ("DROPPED (packets)", Align::Right),
    ]
}

fn traffic_row(first: String, (second, t): (String, &Traffic)) -> [String; 8] {
    let [a, b, c, d, e, f] = [t.packets_in, t.bytes_in, t.packets_out, t.bytes_out, t.opened, t.dropped];
    let text = |number: u64| number.to_string();
    [first, second, text(a), text(b), text(c), text(d), text(e), text(f)]
}

/// `lb capture`.
pub fn captured(captured: &Captured) -> String {
    let lost = match captured.lost {
        0 => String::new(),
        lost => format!("; {lost} found no room and are not in it"),
    };
    format!("{} packets in {}{lost}", captured.packets, captured.file)
}

/// `lb detach`.
pub fn detached(detached: &Detached) -> String {
    let mut out = String::new();
    for program in &detached.programs {
        let _ = writeln!(out, "removed program {program}");
    }
    for offload in &detached.offloads {
        let _ = writeln!(out, "restored offload {offload}");
    }
    for failure in &detached.failures {
        let _ = writeln!(out, "not undone: {failure}");
    }
    if out.is_empty() {
        out.push_str("nothing was attached\n");
    }
    out
}

/// `lb doctor`.
pub fn report(report: &Report) -> String {
    let mut table = Table::new(&["STATUS", "CHECK", "WHERE", "FOUND"].map(|name| (name, Align::Left)));
    let word = |status| match status {
        doctor::Status::Ok => "ok",
        doctor::Status::Warn => "warn",
        doctor::Status::Fail => "FAIL",
    };
    for check in &report.checks {
        let subject = if check.subject.is_empty() { NONE.to_owned() } else { check.subject.clone() };
        table.row([word(check.status).to_owned(), check.name.clone(), subject, check.what.clone()]);
        if let Some(mend) = &check.mend {
            table.row([String::new(), String::new(), String::new(), format!("mend: {mend}")]);
        }
    }
    let mut out = table.to_string();
    if let Some(daemon) = &report.daemon {
        let _ = write!(out, "\n{}", status(daemon));
    }
    out
}
