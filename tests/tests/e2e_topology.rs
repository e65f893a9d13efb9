//! Mininet networks of several switches, with loops and without, in both versions: everybody reaches everybody, no
//! broadcast is heard twice, and links, switches and the controller may fail.

mod e2e_bed;

use e2e_bed::{Fabric, Lb, Server, curl, root};
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
    let (row, links, step) = if long { ("linear,50", 98, 1) } else { ("linear,12", 22, 4) };
    let mut fabric = Fabric::start(row, "1.3", &[]);
    fabric.wait_links(links);
    fabric.assert_pingall(step);
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
