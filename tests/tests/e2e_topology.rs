//! Mininet networks of several switches, with loops and without, in both versions: everybody reaches everybody, no
//! broadcast is heard twice, and links, switches and the controller may fail.

mod e2e_bed;

use e2e_bed::{Fabric, Lb, Server, curl, echo_udp, root, wait};
use serde_json::Value;

const BOTH: [&str; 2] = ["1.0", "1.3"];

/// Twenty pings a second; while they run, something happens. How many were lost, and the longest time without one.
fn disturbed(fabric: &mut Fabric, ends: (&str, &str), disturb: impl FnOnce(&mut Fabric)) -> (u64, f64) {
    fabric.tell(&format!("ping {} {} 3", ends.0, ends.1));
    fabric.tell(&format!("flow {} {} 160", ends.0, ends.1));
    fabric.tell("wait 1.5");
    disturb(fabric);
    let gaps = fabric.tell("gaps");
    let lost = gaps["sent"].as_u64().unwrap() - gaps["received"].as_u64().unwrap();
    (lost, gaps["longest_s"].as_f64().unwrap())
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
        let (lost, longest_s) = disturbed(&mut fabric, ("h1", "h2"), |fabric| {
            fabric.tell("link s1 s2 down");
            fabric.tell("wait 2");
            fabric.tell("link s1 s2 up");
        });
        // 500 ms is the aim; a loaded machine may be late by itself.
        assert!(lost <= 20 && longest_s < 2.0, "{openflow}: {lost} lost, {longest_s} s: {}", fabric.log());
        fabric.wait_links(8);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

#[test]
fn a_full_mesh_survives_its_controller_and_a_restarted_switch() {
    if !root("a_full_mesh_survives_its_controller_and_a_restarted_switch") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("mesh,4", openflow, &["--idle-timeout", "60"]);
        fabric.wait_links(12);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
        let (lost, _) = disturbed(&mut fabric, ("h1", "h3"), |fabric| {
            fabric.tell("controller kill");
            fabric.tell("wait 1");
            fabric.tell("controller start");
            fabric.wait_links(12);
        });
        assert_eq!(lost, 0, "{openflow}: entries forward while the controller is away, and it keeps them");
        fabric.tell("restart s1");
        let (lost, _) = disturbed(&mut fabric, ("h1", "h3"), |fabric| {
            fabric.tell("wait 1");
        });
        assert_eq!(lost, 0, "{openflow}");
        fabric.wait_links(12);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

#[test]
fn the_tree_of_the_worked_example() {
    if !root("the_tree_of_the_worked_example") {
        return;
    }
    for openflow in BOTH {
        let mut fabric = Fabric::start("tree,3", openflow, &[]);
        fabric.wait_links(12);
        fabric.assert_pingall(1);
        fabric.assert_one_copy_each();
    }
}

#[test]
fn rows_and_fat_trees() {
    if !root("rows_and_fat_trees") {
        return;
    }
    let long = std::env::var_os("LB_LONG").is_some();
    let mut fabric = Fabric::start("linear,50", "1.3", &[]);
    fabric.wait_links(98);
    // Each host to three others, or to all.
    fabric.assert_pingall(if long { 1 } else { 17 });
    fabric.assert_one_copy_each();
    drop(fabric);
    let mut fabric = Fabric::start("fattree,4", "1.3", &[]);
    fabric.wait_links(64);
    fabric.assert_pingall(if long { 1 } else { 3 });
    fabric.assert_one_copy_each();
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
    for (topology, links) in [("tree,3", 12), ("ring,4", 8), ("linear,5", 8)] {
        let mut lb = Lb::new();
        let mut fabric = Fabric::start_with(topology, "1.3", &[], Some(&lb));
        fabric.wait_links(links);
        lb.configure(&fabric.ports, VIP);
        lb.start();
        lb.wait_up(&[1, 2]);
        assert_balanced(&fabric);
        let fabric_took = lb.reason("to_backend_switch") + lb.reason("to_client_switch");
        assert!(fabric_took > 0, "{topology}: from switch to switch the fabric carries what was rewritten");
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
    for (topology, links) in [("tree,3", 12), ("ring,4", 8), ("linear,5", 8)] {
        let mut lb = Lb::new();
        let mut fabric = Fabric::start_with(topology, "1.3", &[], Some(&lb));
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
    for (topology, links, openflow) in
        [("linear,4", 6, "1.0"), ("tree,3", 12, "1.3"), ("ring,4", 8, "1.3"), ("linear,5", 8, "1.3")]
    {
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
        assert_eq!(echoes, ["1 x", "1 x", "2 x", "2 x"], "{topology}");
        let long = "y".repeat(1800);
        let echoed = echo_udp(&fabric.net, 3, "10.0.1.1:7", &long).unwrap();
        assert_eq!(echoed[1..].trim_start(), long, "{topology}: in fragments, there and back");
        // Whoever asks a backend itself is answered by that.
        let _web = Server::http(&fabric.net, 1, 80);
        assert_eq!(curl(&fabric.net, 3, "http://10.0.0.1/").unwrap(), "h1 10.0.0.3", "{topology}");
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
