//! The report: one HTML file with everything in it, which is well-formed XML and needs neither scripts nor colours. Pure.

use serde_json::Value;

use super::curves;
use super::figures::{AtRate, Figure, GROUPS, Group, at_rates, label, modes, values};
use super::table::{cell, reasons};
use crate::commands::results::{array, text};
use crate::commands::svg::{self, Bar, Panel, escaped, short};

const STYLE: &str = "body{font-family:sans-serif;max-width:64em;margin:2em auto;padding:0 1em;line-height:1.4}\
table{border-collapse:collapse;font-size:.85em;margin:1em 0}th,td{border:1px solid #999;padding:.2em .5em}\
td{text-align:right}th{text-align:left;font-weight:normal}thead th{font-weight:bold;vertical-align:bottom}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f4f4;padding:.6em;font-size:.8em}\
svg{width:100%;height:auto}.bad{font-weight:bold}";

/// What the figures mean, and what not.
const LIMITS: [&str; 5] = [
    "Clients, backends, switch, balancer and controller share the processors of one machine, and so does the load \
     generator: compare modes of this report with each other, not with figures of other machines.",
    "The load is an open loop: connections are due at times that do not depend on the answers, and a time counts from when \
     its connection was due. What a mode cannot keep up with shows as waiting, not as a lower rate.",
    "On Open vSwitch's userspace datapath the switch gets frames through AF_PACKET sockets, which costs more than a kernel \
     datapath would. That weighs on every mode in which packets cross the switch, the more the oftener they do.",
    "Packets that XDP redirects (inline) never come to the switch: its counters, its entries and its processor time do not \
     know of them. The processor time of XDP itself is the kernel's, and appears only in that of the whole machine.",
    "The modes of ofshim that stand for POX and NOX decide as those do, but share this controller's speed. Only the mode \
     pox-original is the old program itself.",
];

/// The whole page.
pub fn page(measured: &Value) -> String {
    let mut body = vec![
        "<h1>Ways to balance, side by side</h1>".to_owned(),
        conditions(measured),
        "<h2>Rising load</h2>".to_owned(),
        paragraph(
            "Time of a new connection at rising offered load. Solid line with full dots: 99th percentile; dashed line with \
             hollow dots: median; a cross: fewer than 99 % completed, or beyond the dashed limit of 100 ms.",
        ),
        curves::draw(&rising(measured)),
        rates_table(measured),
    ];
    for group in &GROUPS {
        body.push(format!("<h2>{}</h2>", escaped(group.title)));
        body.push(paragraph(group.note));
        body.push(picture(group, measured));
        body.push(figures_table(group, measured));
    }
    body.push(missing(measured));
    body.push("<h2>What this means, and what not</h2>".to_owned());
    body.push(list(LIMITS.into_iter()));
    body.push(commands(measured));
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <title>Ways to balance, side by side</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{}\n</body>\n</html>\n",
        body.join("\n")
    )
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escaped(text))
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.map(|item| format!("<li>{}</li>", escaped(item))).collect();
    // A list without items is not allowed.
    if items.is_empty() { String::new() } else { format!("<ul>\n{}\n</ul>", items.join("\n")) }
}

fn conditions(measured: &Value) -> String {
    let machine = &measured["machine"];
    let rows = [
        ("command", text(&machine["command"]).to_owned()),
        ("rounds", measured["rounds"].to_string()),
        ("time of a measurement", format!("{} s", measured["seconds"])),
        ("kernel", format!("Linux {}", text(&machine["kernel"]))),
        ("processor", format!("{}, {} of them", text(&machine["cpu"]), machine["cpus"])),
        ("load average before", machine["load_average"].to_string()),
        (
            "switch",
            format!(
                "{}, {} datapath",
                text(&machine["switch"]),
                machine["datapath"].as_str().unwrap_or("no")
            ),
        ),
    ];
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<tr><th>{name}</th><th>{}</th></tr>\n", escaped(value)))
        .collect();
    format!("<table><tbody>\n{rows}</tbody></table>")
}

fn rising(measured: &Value) -> Vec<(String, Vec<AtRate>)> {
    modes(measured).iter().map(|mode| (label(mode).to_owned(), at_rates(mode))).collect()
}

fn rates_table(measured: &Value) -> String {
    let rising = rising(measured);
    let mut rates: Vec<u32> = rising.iter().flat_map(|(_, rates)| rates.iter().map(|at| at.rate)).collect();
    rates.sort_unstable();
    rates.dedup();
    let heads: Vec<String> = rates.iter().map(|rate| format!("{rate}/s")).collect();
    let rows = rising.iter().map(|(name, of_mode)| {
        let cells = rates.iter().map(|rate| {
            let Some(at) = of_mode.iter().find(|at| at.rate == *rate) else {
                return "<td></td>".to_owned();
            };
            rate_cell(at)
        });
        (name.as_str(), cells.collect())
    });
    table("99th percentile in ms, completed share if it is below 99 %; * not borne", &heads, rows)
}

fn rate_cell(at: &AtRate) -> String {
    let mut said = at.p99_ms.map_or_else(|| "–".to_owned(), short);
    if at.completed < 0.99 {
        said += &format!(", {:.0} %", at.completed * 100.0);
    }
    if at.is_good() { format!("<td>{said}</td>") } else { format!("<td class=\"bad\">{said} *</td>") }
}

fn table<'a>(caption: &str, heads: &[String], rows: impl Iterator<Item = (&'a str, Vec<String>)>) -> String {
    let heads: String = heads.iter().map(|head| format!("<th>{}</th>", escaped(head))).collect();
    let rows: String = rows
        .map(|(name, cells)| format!("<tr><th>{}</th>{}</tr>\n", escaped(name), cells.concat()))
        .collect();
    format!(
        "<table><caption>{}</caption>\n<thead><tr><th></th>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table>",
        escaped(caption)
    )
}

fn figures_table(group: &Group, measured: &Value) -> String {
    let heads: Vec<String> = group.figures.iter().map(|figure| figure.heading.to_owned()).collect();
    let rows = modes(measured).iter().map(|mode| {
        let cell = |figure: &Figure| format!("<td>{}</td>", escaped(&cell(mode, figure.name)));
        (label(mode), group.figures.iter().map(cell).collect())
    });
    table("median (least–largest of all rounds); – not measured, see below", &heads, rows)
}

/// A bar for each mode that has the figure; those that have not are missing in the picture.
fn picture(group: &Group, measured: &Value) -> String {
    let panels: Vec<Panel> = group
        .figures
        .iter()
        .map(|figure| Panel { heading: figure.heading.to_owned(), bars: bars(figure, measured) })
        .filter(|panel| !panel.bars.is_empty())
        .collect();
    svg::chart(
        group.title,
        "Bar: median; whisker: least to most; hollow: no balancer, or the switch alone.",
        &panels,
    )
}

fn bars(figure: &Figure, measured: &Value) -> Vec<Bar> {
    let bar = |mode: &Value| {
        let [low, value, high] = values(mode, figure.name)?;
        let hollow = matches!(text(&mode["mode"]), "direct" | "ovs-nat");
        Some(Bar { label: label(mode).to_owned(), value, low, high, mark: None, hollow })
    };
    modes(measured).iter().filter_map(bar).collect()
}

fn missing(measured: &Value) -> String {
    let reasons = reasons(measured);
    if reasons.is_empty() {
        return String::new();
    }
    let rows: String = reasons
        .iter()
        .map(|(reason, what)| {
            format!("<tr><th>{}</th><th>{}</th></tr>\n", escaped(reason), escaped(&what.join("; ")))
        })
        .collect();
    format!("<h2>What was not measured, and why</h2>\n<table><tbody>\n{rows}</tbody></table>")
}

fn commands(measured: &Value) -> String {
    let mut out = "<h2>Commands</h2>\n".to_owned();
    out += &paragraph(
        "Of the first round of each mode, in order; DIR is a folder of that mode's own, h3 the client's host.",
    );
    for mode in modes(measured) {
        let lines: Vec<&str> = array(&mode["commands"]).iter().map(text).collect();
        out += &format!("\n<h3>{}</h3>\n<pre>{}</pre>", escaped(label(mode)), escaped(&lines.join("\n")));
    }
    out
}
