//! The daemon's answers to orders, for people.

use super::{Administered, Drain, Moved, Ordered, Reloaded, Upgraded};

/// One line for each backend.
pub fn ordered(ordered: &Ordered) -> String {
    ordered.backends.iter().map(|backend| format!("{}\n", administered(backend))).collect()
}

/// What changed, and whether it holds.
pub fn reloaded(reloaded: &Reloaded) -> String {
    let Reloaded { file, applied, changes } = reloaded;
    let mut text: String = changes.iter().map(|line| format!("{line}\n")).collect();
    text.push_str(&match (changes.is_empty(), applied) {
        (true, _) => format!("{file}: nothing changed\n"),
        (false, true) => format!("{file}: applied\n"),
        (false, false) => format!("{file}: would be taken; not applied, since --check was given\n"),
    });
    text
}

/// Who balances now.
pub fn moved(moved: &Moved) -> String {
    let Moved { balancer, connections, took_ms, changed } = moved;
    if *changed {
        format!("balanced by {balancer} now: {connections} connections moved in {took_ms} ms\n")
    } else {
        format!("balanced by {balancer}, as before\n")
    }
}

/// What an upgrade did, row by row.
pub fn upgraded(upgraded: &Upgraded) -> String {
    let Upgraded { verified, rolled_back, links, swap_us, flows, packets, losses } = upgraded;
    let devices = &losses.devices;
    let outcome = match (rolled_back, verified) {
        (Some(why), _) => format!("taken back: {why}"),
        (None, true) => "in place, books verified".to_owned(),
        (None, false) => "in place, books not verified".to_owned(),
    };
    let rows = [
        ("programs", outcome),
        ("links", format!("{links} swapped in {swap_us} us")),
        (
            "flows",
            format!(
                "{} established before, {} kept, {} moved, {} ended, {} established after",
                flows.before, flows.kept, flows.moved, flows.ended, flows.after
            ),
        ),
        (
            "packets",
            format!(
                "{} received, {} forwarded, {} answered, {} passed, {} dropped, {} lost",
                packets.received,
                packets.forwarded,
                packets.answered,
                packets.passed,
                packets.dropped,
                packets.lost
            ),
        ),
        (
            "losses",
            format!(
                "{} after the verdict: ports {} sending, {} receiving; their peers {} sending, {} receiving; {} errors; \
                 {} redirected and taken by no device",
                losses.total(),
                devices.transmit_dropped,
                devices.receive_dropped,
                devices.peer_transmit_dropped,
                devices.peer_receive_dropped,
                devices.errors,
                losses.redirect_dropped
            ),
        ),
    ];
    rows.iter().map(|(name, text)| format!("{name:<9} {text}\n")).collect()
}

/// `10.0.0.1 of VIP web: draining, weight 1, 12 connections left, disabled in 43 s`.
pub fn administered(backend: &Administered) -> String {
    let Administered { vip, name, weight, state, admin, drain, .. } = backend;
    let mut line = format!("{name} of VIP {vip}: {state}");
    if admin == "leaving" {
        line.push_str(", removed");
    } else {
        line.push_str(&format!(", weight {weight}"));
    }
    if let Some(drain) = drain {
        line.push_str(&format!(", {}", progress(drain)));
    }
    line
}

/// `12 connections left, disabled in 43 s`.
pub fn progress(drain: &Drain) -> String {
    let left = match drain.remaining {
        None => "connections not counted yet".to_owned(),
        Some(1) => "1 connection left".to_owned(),
        Some(number) => format!("{number} connections left"),
    };
    match drain {
        Drain { done: true, .. } => "drained: no connection left".to_owned(),
        Drain { expired: true, .. } => format!("deadline over with {left}"),
        Drain { deadline_ms: Some(ms), .. } => format!("{left}, disabled in {} s", ms.div_ceil(1000)),
        _ => left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_left_and_when_it_ends() {
        let drain = Drain { remaining: Some(12), deadline_ms: Some(42_300), ..Drain::default() };
        let backend = Administered {
            vip: "web".into(),
            name: "h1".into(),
            address: [10, 0, 0, 1].into(),
            port: None,
            weight: 2,
            state: "draining".into(),
            admin: "draining".into(),
            drain: Some(drain),
        };
        let line = "h1 of VIP web: draining, weight 2, 12 connections left, disabled in 43 s\n";
        assert_eq!(ordered(&Ordered { backends: vec![backend] }), line);
        assert_eq!(progress(&Drain { done: true, ..drain }), "drained: no connection left");
        let over = Drain { expired: true, deadline_ms: None, remaining: Some(1), done: false };
        assert_eq!(progress(&over), "deadline over with 1 connection left");
        assert_eq!(progress(&Drain::default()), "connections not counted yet");
    }
}
