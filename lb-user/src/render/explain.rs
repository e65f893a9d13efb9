//! `lb explain` for people.

use std::fmt::Write as _;

use crate::explain::{Explained, Explanation};

/// The whole explanation; the bytes only where there are few packets.
pub fn explanation(explanation: &Explanation) -> String {
    let mut out = String::new();
    if explanation.tables != "live" {
        let _ = writeln!(out, "with the tables of {}", explanation.tables);
    }
    for note in &explanation.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let with_bytes = explanation.packets.len() <= 2;
    for packet in &explanation.packets {
        if !out.is_empty() {
            out.push('\n');
        }
        one(&mut out, packet, with_bytes);
    }
    out
}

fn one(out: &mut String, packet: &Explained, with_bytes: bool) {
    let _ = writeln!(out, "{} in on {}", packet.what, packet.interface);
    let _ = writeln!(out, "  {}", packet.before);
    for (number, step) in (1..).zip(&packet.steps) {
        let _ = writeln!(out, "  {number:>2}. {step}");
    }
    let mut verdict = format!("{} ({})", packet.verdict, packet.reason);
    if let Some(vip) = &packet.vip {
        verdict.push_str(&format!(", VIP {vip}"));
    }
    if let Some(backend) = &packet.backend {
        verdict.push_str(&format!(", backend {backend}"));
    }
    let _ = writeln!(out, "  => {verdict}; {}", packet.leaves);
    if let Some(why) = &packet.why {
        let _ = writeln!(out, "     why: {why}");
    }
    if !packet.determined {
        let list: Vec<String> =
            packet.candidates.iter().map(|c| format!("{} ({:.0} %)", c.backend, c.percent)).collect();
        let _ = writeln!(out, "     not determined: another packet like it may go to {}", list.join(", "));
    }
    if let Some(after) = &packet.after {
        let _ = writeln!(out, "  {after}");
    }
    if let Some(bytes) = packet.bytes.as_ref().filter(|_| with_bytes) {
        for (row, line) in bytes.as_bytes().chunks(32).enumerate() {
            let pairs: Vec<&str> =
                line.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or("??")).collect();
            let _ = writeln!(out, "     {:04x}  {}", row * 16, pairs.join(" "));
        }
    }
}
