//! Every mode, inline and with real HTTP, for IPv4 and IPv6: what the backend sees, and that the answer comes back.

mod e2e_bed;

use std::collections::BTreeSet;
use std::time::Duration;

use e2e_bed::{Decapsulator, Lb, Net, Server, Wire, curl, must, root, wait};

/// A balancer on all ports with backends of these addresses up.
fn balancer(net: &Net, vips: &str, backends: usize) -> Lb {
    let mut lb = Lb::new();
    lb.configure(&net.ports(), vips);
    lb.start();
    let up = || {
        let status = lb.status();
        let vips = status["vips"].as_array().unwrap().clone();
        let all = vips.iter().flat_map(|vip| vip["backends"].as_array().unwrap());
        all.filter(|backend| backend["state"] == "up").count() == backends
    };
    wait("backends up", 10, up, || format!("{:#}", lb.status()["vips"]));
    lb
}

/// Asks eight times from host 3; which backends answered, and whom they saw.
fn ask(net: &Net, url: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    (0..8)
        .map(|_| {
            let answer = curl(net, 3, url).unwrap();
            let (host, seen) = answer.split_once(' ').unwrap();
            (host.to_owned(), seen.to_owned())
        })
        .unzip()
}

fn both() -> BTreeSet<String> {
    BTreeSet::from(["h1".to_owned(), "h2".to_owned()])
}

fn one(text: &str) -> BTreeSet<String> {
    BTreeSet::from([text.to_owned()])
}

const BACKENDS: &str =
    "selection = \"round-robin\"\nbackend = [{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\" }]\n";
const BACKENDS6: &str =
    "selection = \"round-robin\"\nbackend = [{ address = \"2001:db8::1\" }, { address = \"2001:db8::2\" }]\n";

#[test]
fn full_nat_shows_the_vip_to_the_backend() {
    if !root("full_nat_shows_the_vip_to_the_backend") {
        return;
    }
    let net = Net::new(3);
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let own = format!("[[vip]]\naddress = \"10.0.1.1\"\nport = 80\nmode = \"fullnat\"\n{BACKENDS}");
    let other =
        format!("[[vip]]\naddress = \"10.0.1.2\"\nmode = \"fullnat\"\nsnat = \"10.0.1.9\"\n{BACKENDS}");
    let lb = balancer(&net, &format!("{own}{other}"), 4);
    assert_eq!(ask(&net, "http://10.0.1.1/"), (both(), one("10.0.1.1")));
    assert_eq!(ask(&net, "http://10.0.1.2/"), (both(), one("10.0.1.9")));
    lb.assert_ledger();
}

#[test]
fn dsr_inline_changes_nothing_but_the_mac() {
    if !root("dsr_inline_changes_nothing_but_the_mac") {
        return;
    }
    let net = Net::new(3);
    for number in [1, 2] {
        net.own(number, "10.0.1.1/32");
    }
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let lb = balancer(&net, &format!("[[vip]]\naddress = \"10.0.1.1\"\nmode = \"dsr\"\n{BACKENDS}"), 2);
    assert_eq!(ask(&net, "http://10.0.1.1/"), (both(), one("10.0.0.3")));
    lb.assert_ledger();
}

#[test]
fn ipv6_in_every_mode_with_an_answer() {
    if !root("ipv6_in_every_mode_with_an_answer") {
        return;
    }
    let net = Net::new(3);
    net.hosts().for_each(|number| net.add_ipv6(number, "eth0"));
    for number in [1, 2] {
        net.own(number, "2001:db8:1::3/128");
        must(&format!("ip -n {} -6 route add local 2001:db8:2::/64 dev lo", net.ns(number)));
    }
    let _servers = [1, 2].map(|number| Server::http_at(&net, number, "[::]:80"));
    let vip = |address: &str, mode: &str| {
        format!("[[vip]]\naddress = \"{address}\"\nport = 80\nmode = \"{mode}\"\n{BACKENDS6}")
    };
    let vips = vip("2001:db8:1::1", "nat")
        + &vip("2001:db8:1::2", "fullnat")
        + &vip("2001:db8:1::3", "dsr")
        + &vip("2001:db8:2::/64", "dsr");
    let lb = balancer(&net, &vips, 8);
    assert_eq!(ask(&net, "http://[2001:db8:1::1]/"), (both(), one("2001:db8::3")));
    assert_eq!(ask(&net, "http://[2001:db8:1::2]/"), (both(), one("2001:db8:1::2")));
    assert_eq!(ask(&net, "http://[2001:db8:1::3]/"), (both(), one("2001:db8::3")));
    for last in ["1", "ffff"] {
        assert_eq!(ask(&net, &format!("http://[2001:db8:2::{last}]/")), (both(), one("2001:db8::3")));
    }
    lb.assert_ledger();
}

#[test]
fn hosts_with_one_address_take_turns() {
    if !root("hosts_with_one_address_take_turns") {
        return;
    }
    let net = Net::new(3);
    for number in [1, 2] {
        net.on(number, "ip address flush dev eth0");
        net.on(number, "ip address add 192.168.2.2/24 dev eth0");
    }
    net.on(3, "ip address add 192.168.2.1/24 dev eth0");
    let _servers = [1, 2].map(|number| Server::http(&net, number, 80));
    let vip = format!(
        "[[vip]]\naddress = \"192.168.2.2\"\nmode = \"dsr\"\nselection = \"round-robin\"\n\
         [[vip.backend]]\naddress = \"192.168.2.2\"\nhost = \"{}\"\n\
         [[vip.backend]]\naddress = \"192.168.2.2\"\nmac = \"02:00:00:00:00:02\"\n",
        net.ns(1)
    );
    let lb = balancer(&net, &vip, 2);
    assert_eq!(ask(&net, "http://192.168.2.2/"), (both(), one("192.168.2.1")));
    // One of them dies, and the other one has all.
    must(&format!("ip -n {} link set eth0 down", net.ns(1)));
    let down = || lb.status()["vips"][0]["backends"].as_array().unwrap().iter().any(|b| b["state"] == "down");
    wait("one is down", 10, down, || format!("{:#}", lb.status()["vips"]));
    assert_eq!(ask(&net, "http://192.168.2.2/"), (one("h2"), one("192.168.2.1")));
    lb.assert_ledger();
}

#[test]
fn dsr_checks_ask_the_vip_on_the_backend_in_both_families() {
    if !root("dsr_checks_ask_the_vip_on_the_backend_in_both_families") {
        return;
    }
    let net = Net::new(3);
    net.hosts().for_each(|number| net.add_ipv6(number, "eth0"));
    let vips = ["10.0.1.1", "2001:db8:1::1"];
    for number in [1, 2] {
        net.own(number, "10.0.1.1/32");
        net.own(number, "2001:db8:1::1/128");
    }
    // They listen at the VIPs only.
    let _servers: Vec<_> = [1, 2]
        .into_iter()
        .flat_map(|n| ["10.0.1.1:80", "[2001:db8:1::1]:80"].map(|at| Server::http_at(&net, n, at)))
        .collect();
    let vip = |address: &str, backends: &str| {
        format!(
            "[[vip]]\naddress = \"{address}\"\nport = 80\nmode = \"dsr\"\n\
             check = {{ type = \"http\", interval_ms = 100 }}\n{backends}"
        )
    };
    let probe = "[health]\nprobe_address = \"10.0.0.250\"\nprobe_address6 = \"2001:db8::250\"\n\n";
    let lb = balancer(&net, &format!("{probe}{}{}", vip(vips[0], BACKENDS), vip(vips[1], BACKENDS6)), 4);
    assert_eq!(ask(&net, "http://10.0.1.1/"), (both(), one("10.0.0.3")));
    assert_eq!(ask(&net, "http://[2001:db8:1::1]/"), (both(), one("2001:db8::3")));

    // Hosts that are well, but have lost a VIP each.
    net.on(1, "ip address del 10.0.1.1/32 dev lo");
    net.on(2, "ip address del 2001:db8:1::1/128 dev lo");
    let states = || {
        let status = lb.status();
        let vips = status["vips"].as_array().unwrap().clone();
        let of_vip = |vip: &serde_json::Value| -> Vec<String> {
            let backends = vip["backends"].as_array().unwrap().iter();
            backends.map(|backend| backend["state"].as_str().unwrap().to_owned()).collect()
        };
        vips.iter().map(of_vip).collect::<Vec<_>>()
    };
    wait(
        "one down in each",
        15,
        || states() == [["down", "up"], ["up", "down"]],
        || format!("{:?}", states()),
    );
    assert_eq!(ask(&net, "http://10.0.1.1/"), (one("h2"), one("10.0.0.3")));
    assert_eq!(ask(&net, "http://[2001:db8:1::1]/"), (one("h1"), one("2001:db8::3")));
    lb.assert_ledger();
}

#[test]
fn tunnels_of_both_families_carry_both_families() {
    if !root("tunnels_of_both_families_carry_both_families") {
        return;
    }
    let net = Net::new(3);
    net.hosts().for_each(|number| net.add_ipv6(number, "eth0"));
    let tunnels = [
        ("10.0.1.1", BACKENDS, "10.0.0.254"),
        ("10.0.1.2", BACKENDS6, "2001:db8::254"),
        ("2001:db8:1::1", BACKENDS, "10.0.0.254"),
        ("2001:db8:1::2", BACKENDS6, "2001:db8::254"),
    ];
    let vip = |(address, backends, source): &(&str, &str, &str)| {
        format!(
            "[[vip]]\naddress = \"{address}\"\nport = 80\nmode = \"ipip\"\ntunnel_source = \"{source}\"\n{backends}"
        )
    };
    for number in [1, 2] {
        for (address, ..) in &tunnels {
            net.own(number, &format!("{address}/{}", if address.contains(':') { 128 } else { 32 }));
        }
    }
    let _servers = [1, 2].map(|number| Server::http_at(&net, number, "[::]:80"));
    let lb = balancer(&net, &tunnels.iter().map(vip).collect::<String>(), 8);
    assert!(curl(&net, 3, "http://10.0.1.1/").is_err(), "nobody takes the outer header off yet");
    let _ends = [1, 2].map(|number| Decapsulator::new(&net, number, "eth0"));
    for (address, seen) in [("10.0.1.1", "::ffff:10.0.0.3"), ("10.0.1.2", "::ffff:10.0.0.3")] {
        assert_eq!(ask(&net, &format!("http://{address}/")), (both(), one(seen)));
    }
    for address in ["2001:db8:1::1", "2001:db8:1::2"] {
        assert_eq!(ask(&net, &format!("http://[{address}]/")), (both(), one("2001:db8::3")));
    }
    lb.assert_ledger();
}

#[test]
fn ipip_puts_a_header_in_front() {
    if !root("ipip_puts_a_header_in_front") {
        return;
    }
    let net = Net::new(3);
    let vip = "[[vip]]\naddress = \"10.0.1.1\"\nmode = \"ipip\"\ntunnel_source = \"10.0.0.254\"\n\
               backend = [{ address = \"10.0.0.1\" }]\n";
    let lb = balancer(&net, vip, 1);
    let wire = Wire::of_host(&net, 1);
    assert!(curl(&net, 3, "http://10.0.1.1/").is_err(), "nobody takes the outer header off");
    // Ethernet, IPv4 in IPv4 from the tunnel's source to the backend, then the client's packet as it was.
    let is_outer = |frame: &[u8]| {
        frame.len() > 54
            && frame[12..14] == [8, 0]
            && frame[23] == 4
            && frame[26..34] == [10, 0, 0, 254, 10, 0, 0, 1]
            && frame[46..54] == [10, 0, 0, 3, 10, 0, 1, 1]
    };
    assert!(!wire.collect(1, Duration::from_secs(3), is_outer).is_empty());
    lb.assert_ledger();
}
