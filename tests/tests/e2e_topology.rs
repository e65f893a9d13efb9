//! Mininet networks of several switches, with loops and without, in both versions: everybody reaches everybody, no
//! broadcast is heard twice, and links, switches and the controller may fail.

mod e2e_bed;

use std::time::{Duration, Instant};

use e2e_bed::{Fabric, Lb, Server, curl, echo_udp, root, wait};
use serde_json::Value;

const BOTH: [&str; 2] = ["1.0", "1.3"];

/// Twenty pings a second; while they run, something happens. How many were lost.
fn disturbed(fabric: &mut Fabric, ends: (&str, &str), disturb: impl FnOnce(&mut Fabric)) -> u64 {
    fabric.tell(&format!("ping {} {} 3", ends.0, ends.1));
    fabric.tell(&format!("flow {} {} 160", ends.0, ends.1));
    fabric.tell("wait 1.5");
    disturb(fabric);
    let gaps = fabric.tell("gaps");
    gaps["sent"].as_u64().unwrap() - gaps["received"].as_u64().unwrap()
}

/// The number of a switch by its datapath id.
fn number(dpid: &Value) -> u64 {
    u64::from_str_radix(dpid.as_str().unwrap(), 16).unwrap()
}

/// A way as `7:2 7:3 5:2 5:3`: each switch with the port that it comes in at, and the one that it goes out of.
fn way(hops: &Value) -> String {
    let ends = hops.as_array().unwrap().iter().flat_map(|hop| {
        ["in_port", "out_port"].map(|port| format!("{}:{}", number(&hop["dpid"]), hop[port]))
    });
    ends.collect::<Vec<_>>().join(" ")
}

/// The same, of one direction of a ping, from the entries that the switches themselves have; the switches as they are
/// passed.
fn way_by_entries(fabric: &mut Fabric, switches: &[u64], from: &str, to: &str) -> String {
    let mut ends = Vec::new();
    for switch in switches {
        let entries = fabric.tell(&format!("entries s{switch}"));
        let of_ping = format!("nw_src={from},nw_dst={to}");
        let entries = entries.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap());
        for entry in entries.filter(|entry| entry.contains("icmp,") && entry.contains(&of_ping)) {
            for key in ["in_port=", "actions=output:"] {
                let port = entry.split(key).nth(1).unwrap_or_else(|| panic!("{key}: {entry}"));
                ends.push(format!("{switch}:{}", port.split([',', ' ']).next().unwrap()));
            }
        }
    }
    ends.join(" ")
}

/// After a ping between two hosts, `ofshim route` and `ofshim explain` name this way, and the switches' entries lead
/// along it, there and back.
fn assert_way(fabric: &mut Fabric, (from, to): (u8, u8), expected: &str) {
    let address = |host: u8| format!("10.0.0.{host}");
    let ends: Vec<&str> = expected.split(' ').collect();
    let switches: Vec<u64> =
        ends.iter().step_by(2).map(|end| end.split(':').next().unwrap().parse().unwrap()).collect();
    let ends: Vec<&str> = ends.into_iter().rev().collect();
    let back = ends.join(" ");
    let switches_back: Vec<u64> = switches.iter().rev().copied().collect();
    for (from, to, switches, expected) in
        [(from, to, switches, expected), (to, from, switches_back, back.as_str())]
    {
        let (from, to) = (address(from), address(to));
        let route = fabric.read(&["route", &from, &to]);
        assert_eq!(way(&route["paths"][0]["hops"]), expected, "{route:#}");
        let why = fabric.read(&["explain", &from, &to]);
        assert_eq!(
            (way(&why["hops"]).as_str(), &why["installed"]),
            (expected, &Value::Bool(true)),
            "{why:#}"
        );
        assert_eq!(way_by_entries(fabric, &switches, &from, &to), expected, "{}", fabric.log());
    }
}

#[test]
fn the_worked_example_of_three_switches_in_a_row() {
    if !root("the_worked_example_of_three_switches_in_a_row") {
        return;
    }
    for openflow in BOTH {
        // h1-s1-s2-s3-h2
        let mut fabric = Fabric::start("ends,3", openflow, &[]);
        fabric.wait_links(4);
        assert_eq!(fabric.tell("ping h1 h2 3"), 3, "{openflow}: {}", fabric.log());
        assert_way(&mut fabric, (1, 2), "1:1 1:2 2:1 2:2 3:1 3:2");
    }
}

/// What an established ping between hosts 1 and 2 of a ring noticed of the loss of the link that it was using: when it
/// was back, in milliseconds from right before the port went down, and how many of fifty pings a second were lost.
fn link_lost(fabric: &mut Fabric) -> (u64, u64) {
    assert_eq!(fabric.tell("ping h1 h2 3"), 3, "{}", fabric.log());
    fabric.tell("flow h1 h2 120 0.02");
    fabric.tell("wait 0.5");
    let next = next_switch(fabric);
    let down_at_s = fabric.tell(&format!("link s1 s{next} down")).as_f64().unwrap();
    let gaps = fabric.tell("gaps");
    fabric.tell(&format!("link s1 s{next} up"));
    fabric.wait_links(8);
    let (sent, received) = (gaps["sent"].as_u64().unwrap(), gaps["received"].as_u64().unwrap());
    let answers = gaps["answers"].as_array().unwrap().iter();
    let answers: Vec<(u64, f64)> =
        answers.map(|answer| (answer[0].as_u64().unwrap(), answer[1].as_f64().unwrap())).collect();
    assert!(
        answers.first().is_some_and(|(_, at)| *at < down_at_s),
        "not established: {answers:?} {}",
        fabric.log()
    );
    // Back when the pause around that moment ended, and nothing was lost any more.
    let around = |two: &&[(u64, f64)]| two[0].1 < down_at_s + 0.1 && two[1].1 > down_at_s;
    let pauses = answers.windows(2).filter(around).map(|two| (two[1].1 - two[0].1, two[1].1));
    let pause_end = pauses.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, end)| end);
    let last_lost = (1..=sent).rfind(|number| answers.iter().all(|answer| answer.0 != *number)).unwrap_or(0);
    let after_lost = answers.iter().find(|(number, _)| *number > last_lost).map(|(_, at)| *at);
    let (Some(pause_end), Some(after_lost)) = (pause_end, after_lost) else {
        panic!("not back: {answers:?} {}", fabric.log())
    };
    let back_ms = (pause_end.max(after_lost) - down_at_s) * 1000.0;
    (back_ms.round() as u64, sent - received)
}

/// The switch after s1 on the way of the ping from host 1 to host 2.
fn next_switch(fabric: &Fabric) -> u64 {
    let flows = fabric.read(&["flows"]);
    let mut of_ping = flows["flows"].as_array().unwrap().iter().filter(|flow| {
        number(&flow["dpid"]) == 1
            && (&flow["ip_src"], &flow["ip_dst"]) == (&"10.0.0.1".into(), &"10.0.0.2".into())
    });
    let port = &of_ping.next().unwrap_or_else(|| panic!("{flows:#}"))["out_port"];
    let topology = fabric.read(&["topology"]);
    let mut links = topology["links"].as_array().unwrap().iter();
    let link = links.find(|link| number(&link["from"]) == 1 && link["from_port"] == *port);
    number(&link.unwrap_or_else(|| panic!("port {port}: {topology:#}"))["to"])
}

#[test]
fn a_ring_survives_the_loss_of_a_link() {
    if !root("a_ring_survives_the_loss_of_a_link") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("ring,4", openflow, &[]);
        fabric.wait_links(8);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
        let mut losses: Vec<(u64, u64)> = (0..5).map(|_| link_lost(&mut fabric)).collect();
        println!(
            "OpenFlow {openflow}: a link lost: (back after ms, pings lost of fifty a second): {losses:?}"
        );
        losses.sort_unstable();
        // Within 500 ms; the median, since a busy machine may stop everything for that long by itself.
        assert!(losses[2].0 < 500, "{openflow}: {losses:?}: {}", fabric.log());
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

#[test]
fn a_link_that_loses_everything_in_silence_is_noticed() {
    if !root("a_link_that_loses_everything_in_silence_is_noticed") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("ring,4", openflow, &[]);
        fabric.wait_links(8);
        fabric.assert_pingall(1);
        let period_ms = fabric.read(&["status"])["discovery"]["period_ms"].as_f64().unwrap();
        let eaten_at_s = fabric.tell("eat s1 s2").as_f64().unwrap();
        fabric.wait_links_alone(6);
        let noticed_ms = (fabric.tell("now").as_f64().unwrap() - eaten_at_s) * 1000.0;
        println!("OpenFlow {openflow}: noticed after {noticed_ms:.0} ms, of a period of {period_ms} ms");
        // What was heard last may be a period old already; asking takes its time too.
        assert!(noticed_ms < 3.0 * period_ms, "{openflow}: {noticed_ms} ms: {}", fabric.log());
        assert_eq!(fabric.log().matches("is gone: nothing was heard over it").count(), 2, "{}", fabric.log());
        let status = fabric.read(&["status"]);
        let mut switches = status["switches"].as_array().unwrap().iter();
        assert!(switches.all(|switch| switch["ports_up"] == 3), "no port went down: {status:#}");
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

#[test]
fn hosts_of_a_ring_reach_each_other_by_ipv6() {
    if !root("hosts_of_a_ring_reach_each_other_by_ipv6") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("ring,4", openflow, &[]);
        fabric.wait_links(8);
        for number in 1..=4 {
            let interface = format!("{}-eth0", fabric.hosts[number as usize - 1]);
            fabric.net.add_ipv6(number, &interface);
        }
        fabric.assert_pingall_ipv6(1);
        fabric.assert_one_copy_each();
        fabric.assert_pingall(1);
    }
}

#[test]
fn a_full_mesh_survives_its_controller_and_a_restarted_switch() {
    if !root("a_full_mesh_survives_its_controller_and_a_restarted_switch") {
        return;
    }
    for openflow in BOTH {
        let options = ["--idle-timeout", "300", "--hard-timeout", "0"];
        let mut fabric = Fabric::start("mesh,4", openflow, &options);
        fabric.wait_links(12);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
        let lost = disturbed(&mut fabric, ("h1", "h3"), |fabric| {
            fabric.tell("controller kill");
            fabric.tell("wait 1");
            fabric.tell("controller start");
            fabric.wait_links(12);
        });
        assert_eq!(lost, 0, "{openflow}: entries forward while the controller is away, and it keeps them");
        assert_entries_come_back(&mut fabric);
        let lost = disturbed(&mut fabric, ("h1", "h3"), |_| ());
        assert_eq!(lost, 0, "{openflow}");
        fabric.wait_links(12);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

/// A switch that loses its entries gets the same ones again, while no host sends anything.
fn assert_entries_come_back(fabric: &mut Fabric) {
    let before = fabric.tell("entries s1");
    let of_pings =
        before.as_array().unwrap().iter().filter(|entry| entry.as_str().unwrap().contains("icmp,"));
    assert!(of_pings.count() >= 6, "host 1 to each of the others and back: {before:#}");
    assert_eq!(fabric.tell("restart s1"), Value::Array(Vec::new()), "nothing is left");
    let end = Instant::now() + Duration::from_secs(20);
    let mut after = Value::Null;
    while after != before {
        assert!(Instant::now() < end, "{after:#} instead of {before:#}: {}", fabric.log());
        std::thread::sleep(Duration::from_millis(100));
        after = fabric.tell("entries s1");
    }
    let log = fabric.log();
    let told =
        log.lines().rfind(|line| line.contains("switch 0000000000000001: ") && line.contains("put back"));
    assert!(told.is_some_and(|line| !line.contains(" 0 put back")), "{log}");
}

#[test]
fn the_tree_of_the_worked_example() {
    if !root("the_tree_of_the_worked_example") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("tree,3", openflow, &[]);
        fabric.wait_links(12);
        // From port 2 of switch 7, host 8, to port 1 of switch 3, host 1.
        let expected = "7:2 7:3 5:2 5:3 1:2 1:1 2:3 2:1 3:3 3:1";
        let route = fabric.read(&["route", "0000000000000007:2", "0000000000000003:1"]);
        assert_eq!(way(&route["paths"][0]["hops"]), expected, "{route:#}");
        assert_eq!(fabric.tell("ping h8 h1 3"), 3, "{openflow}: {}", fabric.log());
        assert_way(&mut fabric, (8, 1), expected);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

#[test]
fn rows_of_fifty_switches() {
    if !root("rows_of_fifty_switches") {
        return;
    }
    let long = std::env::var_os("LB_LONG").is_some();
    for openflow in BOTH {
        let mut fabric = Fabric::start("linear,50", openflow, &[]);
        fabric.wait_links(98);
        // Each host to three others, or to all.
        fabric.assert_pingall(if long { 1 } else { 17 });
        fabric.assert_one_copy_each();
    }
}

#[test]
fn fat_trees() {
    if !root("fat_trees") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("fattree,4", openflow, &[]);
        fabric.wait_links(64);
        assert_eq!(fabric.hosts.len(), 16);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

#[test]
fn a_foreign_switch_in_the_middle_is_crossed() {
    if !root("a_foreign_switch_in_the_middle_is_crossed") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("foreign", openflow, &[]);
        fabric.wait_links(2);
        let topology = fabric.read(&["topology"]);
        let kinds: Vec<&Value> =
            topology["links"].as_array().unwrap().iter().map(|link| &link["kind"]).collect();
        assert_eq!(kinds, ["multi-hop"; 2]);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
        fabric.assert_pingall(1);
    }
}

#[test]
fn learning_and_hub_survive_loops() {
    if !root("learning_and_hub_survive_loops") {
        return;
    }
    for how in ["learning", "hub"] {
        let mut fabric = Fabric::start("ring,3", "1.3", &["--forwarding", how]);
        fabric.wait_links(6);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
        fabric.tell("link s1 s2 down");
        fabric.tell("wait 1");
        fabric.assert_pingall(1);
    }
}

#[test]
fn proactive_ways_in_a_ring() {
    if !root("proactive_ways_in_a_ring") {
        return;
    }
    let mut fabric = Fabric::start("ring,4", "1.3", &["--proactive"]);
    fabric.wait_links(8);
    fabric.assert_pingall(1);
    fabric.assert_one_copy_each();
    let ahead = fabric.read(&["flows"]);
    let flows = ahead["flows"].as_array().unwrap();
    assert!(flows.iter().filter(|flow| flow["purpose"] == "ahead").count() >= 16, "{ahead:#}");
}

#[test]
fn the_load_of_links_is_read() {
    if !root("the_load_of_links_is_read") {
        return;
    }
    for openflow in BOTH {
        let options = ["--metric", "utilisation", "--port-statistics", "500", "--port-speed", "1"];
        let mut fabric = Fabric::start("linear,2", openflow, &options);
        fabric.wait_links(2);
        let loads = |fabric: &Fabric| -> Vec<(u64, u64)> {
            let topology = fabric.read(&["topology"]);
            let links = topology["links"].as_array().unwrap().iter();
            links
                .map(|link| {
                    (
                        link["load_bps"].as_u64().unwrap_or(0),
                        link["utilisation_permille"].as_u64().unwrap_or(0),
                    )
                })
                .collect()
        };
        fabric.assert_pingall(1);
        // 98 bytes a hundred times a second, there and back: 78 kbit/s.
        let _pinging = fabric.net.flood(1, "10.0.0.2");
        let busy = || loads(&fabric).iter().all(|(bps, permille)| *bps > 30_000 && *permille > 30);
        wait("both directions are busy", 20, busy, || format!("{:?} {}", loads(&fabric), fabric.log()));
        assert_eq!(fabric.read(&["status"])["metric"], "utilisation");
    }
}

const VIP: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// Networks that are balanced in, how many links they have, and the OpenFlow version.
const NETWORKS: [(&str, u64, &str); 6] = [
    ("tree,3", 12, "1.0"),
    ("ring,4", 8, "1.0"),
    ("linear,5", 8, "1.0"),
    ("tree,3", 12, "1.3"),
    ("ring,4", 8, "1.3"),
    ("linear,5", 8, "1.3"),
];

/// Eight requests from host 3, on another switch than the backends: both backends, in turn.
fn assert_balanced(fabric: &Fabric) {
    let _servers: Vec<_> = [1, 2].map(|number| Server::http(&fabric.net, number, 80)).into();
    let mut told: Vec<_> = (0..8)
        .map(|_| curl(&fabric.net, 3, "http://10.0.1.1/").unwrap_or_else(|e| panic!("{e}: {}", fabric.log())))
        .collect();
    told.sort();
    assert_eq!(told, [vec!["h1 10.0.0.3"; 4], vec!["h2 10.0.0.3"; 4]].concat());
}

#[test]
fn vips_are_balanced_inline_over_several_switches() {
    if !root("vips_are_balanced_inline_over_several_switches") {
        return;
    }
    for (topology, links, openflow) in NETWORKS {
        let mut lb = Lb::new();
        let mut fabric = Fabric::start_with(topology, openflow, &[], Some(&lb));
        fabric.wait_links(links);
        lb.configure(&fabric.ports, VIP);
        lb.start();
        lb.wait_up(&[1, 2]);
        assert_balanced(&fabric);
        let fabric_took = lb.reason("to_backend_switch") + lb.reason("to_client_switch");
        assert!(
            fabric_took > 0,
            "{topology} {openflow}: from switch to switch the fabric carries what was rewritten"
        );
        fabric.assert_pingall(3);
        lb.assert_ledger();
        lb.detach();
    }
}

#[test]
fn vips_are_balanced_one_armed_over_several_switches() {
    if !root("vips_are_balanced_one_armed_over_several_switches") {
        return;
    }
    let long = std::env::var_os("LB_LONG").is_some();
    let half = [NETWORKS[0], NETWORKS[2], NETWORKS[4]];
    for &(topology, links, openflow) in if long { &NETWORKS[..] } else { &half } {
        let mut lb = Lb::new();
        let mut fabric = Fabric::start_with(topology, openflow, &[], Some(&lb));
        fabric.wait_links(links);
        for host in ["h1", "h2"] {
            fabric.tell(&format!("own {host} 10.0.1.1"));
        }
        let balancer = &fabric.hosts[3];
        lb.folder.file("lb.toml", &format!("[placement]\nkind = \"onearm\"\nhost = \"{balancer}\"\n{VIP}"));
        lb.start();
        lb.wait_up(&[1, 2]);
        assert_balanced(&fabric);
        lb.assert_ledger();
        lb.detach();
    }
}

/// The VIP for TCP and UDP, the mode that needs to see the answers.
const NAT: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
mode = "nat"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]

[[vip]]
name = "echo"
address = "10.0.1.1"
port = 7
protocol = "udp"
mode = "nat"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// The controller's entries that lead answers to the balancer.
fn steered(fabric: &Fabric) -> Vec<Value> {
    let flows = fabric.read(&["flows"]);
    let flows = flows["flows"].as_array().unwrap().iter();
    flows.filter(|flow| flow["purpose"] == "steer").cloned().collect()
}

#[test]
fn answers_of_one_armed_nat_are_led_back_to_the_balancer() {
    if !root("answers_of_one_armed_nat_are_led_back_to_the_balancer") {
        return;
    }
    for (topology, links, openflow) in NETWORKS {
        let mut lb = Lb::new();
        let mut fabric = Fabric::start_with(topology, openflow, &[], Some(&lb));
        fabric.wait_links(links);
        let balancer = &fabric.hosts[3];
        let with = |vips: &str| format!("[placement]\nkind = \"onearm\"\nhost = \"{balancer}\"\n{vips}");
        lb.folder.file("lb.toml", &with(NAT));
        lb.start();
        lb.wait_up(&[1, 2]);
        let services = |address: &str| {
            steered(&fabric)
                .iter()
                .filter(|flow| flow["ip_src"] == address && flow["src_port"] != 0)
                .map(|flow| flow["protocol"].as_u64().unwrap())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let both = || ["10.0.0.1", "10.0.0.2"].iter().all(|address| services(address).len() == 2);
        wait("entries for the answers", 10, both, || format!("{:#?} {}", steered(&fabric), fabric.log()));
        assert_balanced(&fabric);
        let _echoes: Vec<_> = [1, 2].map(|number| Server::udp(&fabric.net, number, 7)).into();
        let mut echoes: Vec<_> =
            (0..4).map(|_| echo_udp(&fabric.net, 3, "10.0.1.1:7", "x").unwrap()).collect();
        echoes.sort();
        assert_eq!(echoes, ["1 x", "1 x", "2 x", "2 x"], "{topology} {openflow}");
        let long = "y".repeat(1800);
        let echoed = echo_udp(&fabric.net, 3, "10.0.1.1:7", &long).unwrap();
        assert_eq!(echoed[1..].trim_start(), long, "{topology} {openflow}: in fragments, there and back");
        // Whoever asks a backend itself is answered by that.
        let _web = Server::http(&fabric.net, 1, 80);
        assert_eq!(curl(&fabric.net, 3, "http://10.0.0.1/").unwrap(), "h1 10.0.0.3", "{topology} {openflow}");
        assert_eq!(lb.read("stats")["ledger"]["dropped"], 0, "{:#}", lb.read("stats"));
        lb.assert_ledger();

        // Without backends, or in a mode that does without, nothing is left of it.
        lb.folder.file("lb.toml", &with(&VIP.replace("port = 80", "port = 80\nmode = \"dsr\"")));
        let reloaded = lb.ask(&["reload"]);
        assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
        let none = || steered(&fabric).is_empty();
        wait("no entries for answers", 10, none, || format!("{:#?} {}", steered(&fabric), fabric.log()));
        fabric.assert_pingall(3);
        lb.detach();
    }
}
