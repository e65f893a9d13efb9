//! Balancing by flow entries in Mininet networks of several switches, in both versions, with real HTTP and UDP, and no `lb`.

mod e2e_bed;

use e2e_bed::{Fabric, Folder, Server, curl, echo_udp, root, wait};
use serde_json::Value;

const VIPS: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]

[[vip]]
name = "echo"
address = "10.0.1.1"
port = 7
protocol = "udp"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// How many of the backends are up.
fn up(fabric: &Fabric) -> usize {
    let status = fabric.read(&["status"]);
    let vips = status["balancing"]["vips"].as_array().cloned().unwrap_or_default();
    vips.iter()
        .flat_map(|vip| vip["backends"].as_array().cloned().unwrap_or_default())
        .filter(|backend| backend["state"] == "up")
        .count()
}

fn balanced(fabric: &Fabric) -> Vec<Value> {
    let flows = fabric.read(&["flows"]);
    let flows = flows["flows"].as_array().unwrap().iter();
    flows.filter(|flow| flow["purpose"] == "balance").cloned().collect()
}

#[test]
fn vips_are_balanced_by_entries_over_several_switches() {
    if !root("vips_are_balanced_by_entries_over_several_switches") {
        return;
    }
    for (topology, links, openflow) in
        [("tree,3", 12, "1.3"), ("tree,3", 12, "1.0"), ("ring,4", 8, "1.3"), ("linear,4", 6, "1.0")]
    {
        let folder = Folder::new();
        folder.file("lb.toml", VIPS);
        let file = folder.0.join("lb.toml").display().to_string();
        let mut fabric = Fabric::start(topology, openflow, &["--lb", "openflow", "--config", &file]);
        fabric.wait_links(links);
        wait("all backends are up", 20, || up(&fabric) == 4, || fabric.log());
        let _servers: Vec<_> = [1, 2].map(|number| Server::http(&fabric.net, number, 80)).into();
        let mut told: Vec<_> = (0..8)
            .map(|_| {
                curl(&fabric.net, 3, "http://10.0.1.1/").unwrap_or_else(|e| panic!("{e}: {}", fabric.log()))
            })
            .collect();
        told.sort();
        assert_eq!(told, [vec!["h1 10.0.0.3"; 4], vec!["h2 10.0.0.3"; 4]].concat(), "{topology}");
        let _echoes: Vec<_> = [1, 2].map(|number| Server::udp(&fabric.net, number, 7)).into();
        let mut echoes: Vec<_> =
            (0..4).map(|_| echo_udp(&fabric.net, 3, "10.0.1.1:7", "x").unwrap()).collect();
        echoes.sort();
        assert_eq!(echoes, ["1 x", "1 x", "2 x", "2 x"], "{topology}");
        // Whoever asks a backend itself is answered by that.
        assert_eq!(curl(&fabric.net, 3, "http://10.0.0.1/").unwrap(), "h1 10.0.0.3", "{topology}");
        fabric.assert_pingall(3);
        wait(
            "no entries are left",
            30,
            || balanced(&fabric).is_empty(),
            || format!("{:#?}", balanced(&fabric)),
        );
    }
}
