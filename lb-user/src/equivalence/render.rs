//! A comparison for people.

use std::fmt::Write as _;

use super::Report;

/// The whole report.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    for difference in &report.differences {
        let made_up = if difference.made_up { "made-up answer to frame" } else { "frame" };
        let _ = writeln!(out, "{made_up} {}: {}", difference.frame, difference.packet);
        let _ = writeln!(out, "  XDP           {} ({})", difference.xdp, difference.reason);
        let _ = writeln!(out, "  flow entries  {}", difference.entries);
        if let Some(byte) = difference.first_byte {
            let _ = writeln!(out, "  the first byte that differs is number {byte}, from 0");
        }
    }
    let told = report.differences.len() as u64;
    if report.different > told {
        let _ = writeln!(out, "and {} more frames that differ", report.different - told);
    }
    if report.different > 0 {
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "{} of {} flows: same backend and same bytes by XDP and by flow entries",
        report.equal_flows, report.flows
    );
    let _ = writeln!(
        out,
        "{} frames compared, {} of them balanced, {} different; {} packet-ins",
        report.frames, report.balanced, report.different, report.packet_ins
    );
    if report.different > 0 && report.flows == report.equal_flows {
        out.push_str("what differs has no ports, and belongs to no flow\n");
    }
    for (backend, frames) in &report.backends {
        let _ = writeln!(out, "  {frames} to {backend}");
    }
    if report.readdressed > 0 {
        let _ = writeln!(out, "{} frames to a VIP were given the VIP's MAC", report.readdressed);
    }
    for (why, frames) in &report.skipped {
        let _ = writeln!(out, "{frames} frames not compared: {why}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Difference;
    use super::super::judge::Kind;
    use super::*;

    #[test]
    fn differences_come_first_and_the_sum_last() {
        let difference = Difference {
            frame: 7,
            made_up: false,
            kind: Kind::Bytes,
            packet: "a packet".to_owned(),
            reason: "to_backend_switch",
            xdp: "leaves by port 1".to_owned(),
            entries: "ends".to_owned(),
            first_byte: Some(30),
        };
        let told = report(&Report {
            flows: 3,
            equal_flows: 2,
            different: 5,
            differences: vec![difference],
            skipped: std::collections::BTreeMap::from([("not IP", 4)]),
            ..Report::default()
        });
        assert!(
            told.starts_with("frame 7: a packet\n  XDP           leaves by port 1 (to_backend_switch)\n"),
            "{told}"
        );
        for line in [
            "  flow entries  ends\n",
            "number 30, from 0\n",
            "and 4 more frames that differ\n",
            "\n2 of 3 flows: same backend",
            "4 frames not compared: not IP\n",
        ] {
            assert!(told.contains(line), "{line:?} is not in {told}");
        }
        let told = report(&Report { different: 1, ..Report::default() });
        assert!(told.contains("belongs to no flow"), "{told}");
    }
}
