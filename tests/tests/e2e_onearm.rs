//! One-armed in Mininet: the balancer on the NIC of a host of its own, in every mode, with real HTTP. The
//! controller leads the answers of nat back to it.

mod e2e_bed;

use std::collections::BTreeMap;

use e2e_bed::{Decapsulator, Lb, Mininet, Server, curl, root, wait};

/// A mode, its VIPs of both families, and whom the backends see.
struct Case {
    mode: &'static str,
    more: &'static str,
    vips: [&'static str; 2],
    seen: [&'static str; 2],
}

const CASES: [Case; 4] = [
    Case {
        mode: "nat",
        more: "",
        vips: ["10.0.2.1", "2001:db8:2::1"],
        seen: ["::ffff:10.0.0.3", "2001:db8::3"],
    },
    Case {
        mode: "fullnat",
        more: "",
        vips: ["10.0.2.2", "2001:db8:2::2"],
        seen: ["::ffff:10.0.2.2", "2001:db8:2::2"],
    },
    Case {
        mode: "dsr",
        more: "",
        vips: ["10.0.2.3", "2001:db8:2::3"],
        seen: ["::ffff:10.0.0.3", "2001:db8::3"],
    },
    Case {
        mode: "ipip",
        more: "tunnel_source = ",
        vips: ["10.0.2.4", "2001:db8:2::4"],
        seen: ["::ffff:10.0.0.3", "2001:db8::3"],
    },
];

const BACKENDS: [&str; 2] = [
    "[{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\" }]",
    "[{ address = \"2001:db8::1\" }, { address = \"2001:db8::2\" }]",
];
const SOURCES: [&str; 2] = ["\"10.0.0.254\"\n", "\"2001:db8::254\"\n"];

fn configuration(host: &str) -> String {
    let mut text = format!("[placement]\nkind = \"onearm\"\nhost = \"{host}\"\n\n");
    for case in &CASES {
        for family in 0..2 {
            let more = if case.more.is_empty() {
                String::new()
            } else {
                format!("{}{}", case.more, SOURCES[family])
            };
            text += &format!(
                "[[vip]]\nname = \"{0}-{family}\"\naddress = \"{1}\"\nport = 80\nmode = \"{0}\"\n{more}\
                 selection = \"round-robin\"\nbackend = {2}\n\n",
                case.mode, case.vips[family], BACKENDS[family]
            );
        }
    }
    text
}

#[test]
fn every_mode_in_both_families_with_real_http() {
    if !root("every_mode_in_both_families_with_real_http") {
        return;
    }
    let mut lb = Lb::new();
    let mininet = Mininet::start("onearm", &lb);
    let net = &mininet.net;
    let nic = |number: u32| format!("{}-eth0", mininet.hosts[number as usize - 1]);
    for number in 1..=4 {
        net.add_ipv6(number, &nic(number));
    }
    for number in [1, 2] {
        for case in CASES.iter().filter(|case| matches!(case.mode, "dsr" | "ipip")) {
            net.own(number, &format!("{}/32", case.vips[0]));
            net.own(number, &format!("{}/128", case.vips[1]));
        }
    }
    let _ends = [1, 2].map(|number| Decapsulator::new(net, number, &nic(number)));
    let _servers = [1, 2].map(|number| Server::http_at(net, number, "[::]:80"));
    lb.folder.file("lb.toml", &configuration(mininet.hosts.last().unwrap()));
    lb.start();
    let states = || {
        let vips = lb.status()["vips"].as_array().unwrap().clone();
        let backends = vips.iter().flat_map(|vip| vip["backends"].as_array().unwrap().clone());
        backends.filter(|backend| backend["state"] == "up").count()
    };
    wait("all backends up", 15, || states() == 16, || format!("{:#}", lb.status()["vips"]));

    for case in &CASES {
        for (family, vip) in case.vips.iter().enumerate() {
            let url = if family == 0 { format!("http://{vip}/") } else { format!("http://[{vip}]/") };
            let mut answers = BTreeMap::<String, u32>::new();
            for _ in 0..8 {
                let answer =
                    curl(net, 3, &url).unwrap_or_else(|error| panic!("{} {url}: {error}", case.mode));
                *answers.entry(answer).or_default() += 1;
            }
            let expected = ["h1", "h2"].map(|host| (format!("{host} {}", case.seen[family]), 4));
            assert_eq!(answers, BTreeMap::from(expected), "{} {url}", case.mode);
        }
    }
    let stats = lb.read("stats");
    for vip in stats["vips"].as_array().unwrap() {
        assert_eq!(vip["opened"], 8, "{stats:#}");
    }
    for reason in ["to_backend_redirect", "to_backend_switch", "to_client_redirect", "to_client_switch"] {
        assert_eq!(stats["reasons"][reason], 0, "one-armed frames leave where they came in: {stats:#}");
    }
    lb.assert_ledger();
}
