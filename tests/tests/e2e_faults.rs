//! What goes wrong half-way, and what changes under a running balancer.

mod e2e_bed;

use std::time::Duration;

use e2e_bed::{Lb, Net, Server, body, curl, curl_command, must, refusal, root, wait};

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

/// Who answered eight requests of host 3: sorted, each once.
fn answering(net: &Net) -> Vec<String> {
    let mut hosts: Vec<_> = (0..8).map(|_| curl(net, 3, "http://10.0.1.1/").unwrap()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[test]
fn a_daemon_killed_at_any_moment_of_its_start_leaves_nothing_that_cannot_be_undone() {
    if !root("a_daemon_killed_at_any_moment_of_its_start_leaves_nothing_that_cannot_be_undone") {
        return;
    }
    let net = Net::new(3);
    let before = net.offloads();
    let mut lb = Lb::new();
    lb.configure(&net.ports(), WEB);
    let file = lb.folder.0.join("lb.toml").display().to_string();
    for pause in [20, 60, 120, 200, 300, 450, 700] {
        let mut child = lb.command(&["run", "--config", &file, "--log-level", "error"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        if pause > 100 {
            lb.detach();
            lb.assert_gone(&net);
            assert_eq!(net.offloads(), before, "killed after {pause} ms");
        }
    }
    // And once without cleaning up between: the next daemon takes up what there is.
    lb.start();
    lb.wait_up(&[]);
    lb.detach();
    lb.assert_gone(&net);
    assert_eq!(net.offloads(), before);
}

#[test]
fn a_start_that_fails_half_way_takes_back_its_own_and_nothing_else() {
    if !root("a_start_that_fails_half_way_takes_back_its_own_and_nothing_else") {
        return;
    }
    let net = Net::new(3);
    let before = net.offloads();
    let mut first = Lb::new();
    first.configure(&[net.port(3)], &WEB.replace(", { address = \"10.0.0.2\" }", ""));
    first.start();
    let (programs, offloads) = (net.programs(), net.offloads());
    assert_eq!(programs.len(), 2, "{programs:#?}");

    let second = Lb::new();
    second.configure(&net.ports(), WEB);
    let file = second.folder.0.join("lb.toml").display().to_string();
    let line = refusal(&second.ask(&["run", "--config", &file]));
    assert!(line.contains(&format!("the other end of {}", net.port(3))), "{line}");
    assert_eq!(
        net.programs(),
        programs,
        "what was attached to the other ports is off, the first one's is on"
    );
    assert_eq!(net.offloads(), offloads);
    assert!(!second.pin_dir.exists());
    first.detach();
    first.assert_gone(&net);
    assert_eq!(net.offloads(), before);
}

#[test]
fn a_backend_that_moves_to_another_port_is_found_there() {
    if !root("a_backend_that_moves_to_another_port_is_found_there") {
        return;
    }
    let net = Net::new(4);
    let _servers = [1, 2, 4].map(|number| Server::http(&net, number, 80));
    let lb = Lb::with(&net, WEB, &[1, 2]);
    assert_eq!(answering(&net), ["h1 10.0.0.3", "h2 10.0.0.3"]);
    must(&format!("ip -n {} address del 10.0.0.1/8 dev eth0", net.ns(1)));
    must(&format!("ip -n {} address add 10.0.0.1/8 dev eth0", net.ns(4)));
    let place = || lb.status()["vips"][0]["backends"][0]["interface"].clone();
    wait("found at its new port", 5, || place() == net.port(4).as_str(), || place().to_string());
    assert_eq!(answering(&net), ["h2 10.0.0.3", "h4 10.0.0.3"]);
    lb.assert_ledger();
}

#[test]
fn long_frames_are_balanced_like_others() {
    if !root("long_frames_are_balanced_like_others") {
        return;
    }
    const LENGTH: usize = 1 << 20;
    let net = Net::new(3);
    for number in net.hosts() {
        must(&format!("ip link set {} mtu 9000", net.port(number)));
        must(&format!("ip -n {} link set eth0 mtu 9000", net.ns(number)));
    }
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let lb = Lb::with(&net, WEB, &[1, 2]);
    assert_eq!(lb.status()["attach_mode"], "native");
    let url = format!("http://10.0.1.1/paced/{LENGTH}");
    let done = curl_command(&net, 3, &url, &[]).output().unwrap();
    assert!(done.stdout == body(LENGTH), "{}", String::from_utf8_lossy(&done.stderr));
    let stats = lb.read("stats");
    let traffic = &stats["vips"][0];
    let mean = traffic["bytes_out"].as_u64().unwrap() / traffic["packets_out"].as_u64().unwrap();
    assert!(mean > 4000, "frames longer than a page's half were among them: {stats:#}");
    lb.assert_ledger();
}
