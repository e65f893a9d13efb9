//! Configuration files and arguments: what is accepted, and the one line that refuses the rest.
#![cfg(feature = "std")]

use std::fmt::Write as _;
use std::net::IpAddr;

use lb_core::host::addr::MacAddr;
use lb_core::host::config::{
    Arguments, Config, ConnectionsConfig, HealthConfig, HealthPreset, Mode, NoBackend, OnDown, Origin,
    PlacementKind, Ports, Protocol, Selection,
};

/// A good VIP to put other lines before or after.
const VIP: &str = "[[vip]]\naddress = \"10.0.1.1\"\n[[vip.backend]]\naddress = \"10.0.0.1\"\n";

fn refused(text: &str) -> String {
    match Config::from_toml(text, "lb.toml") {
        Ok(config) => panic!("accepted:\n{text}\n{config:?}"),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n'), "more than one line: {line}");
            line
        }
    }
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let config = Config::from_toml(VIP, "lb.toml").unwrap();
    assert_eq!(config.placement.kind, PlacementKind::Inline);
    assert_eq!((config.placement.host.as_deref(), config.placement.attach.len()), (None, 0));
    assert_eq!(config.health, HealthConfig::preset(HealthPreset::Default));
    assert_eq!(config.connections, ConnectionsConfig::default());
    let [vip] = config.vips.as_slice() else { panic!("{config:?}") };
    assert_eq!((vip.name.as_str(), vip.ports, vip.protocol), ("10.0.1.1/tcp", Ports::ALL, Protocol::Tcp));
    assert_eq!((vip.selection, vip.mode), (Selection::Random, Mode::Nat));
    assert_eq!((vip.on_down, vip.no_backend), (OnDown::Keep, NoBackend::Drop));
    assert_eq!(vip.mac, MacAddr([0x02, 0x6c, 10, 0, 1, 1]));
    let [backend] = vip.backends.as_slice() else { panic!("{vip:?}") };
    assert_eq!((backend.name.as_str(), backend.weight, backend.port), ("10.0.0.1", 1, None));
    assert_eq!(vip.service_port(backend), 0);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [placement]
        kind = "inline"
        attach = ["s1-eth1", "s1-eth2"]
        [health]
        preset = "pox"
        interval_ms = 6000
        timeout_ms = 2000
        rise = 4
        fall = 5
        jitter_pct = 6
        [connections]
        table_size = 1024
        syn_s = 1
        established_s = 2
        closing_s = 3
        udp_s = 4
        unverified_s = 5
        fragment_s = 6
        half_open_size = 256
        snat_size = 512
        affinity_size = 2048
        source_size = 4096
        fragment_size = 8192
        max_new_per_s = 7
        [[vip]]
        name = "web"
        address = "10.0.1.1"
        port = 80
        protocol = "udp"
        selection = "round-robin"
        mode = "nat"
        mac = "02:00:00:00:00:09"
        on_down = "repick"
        no_backend = "last-known"
        [[vip.backend]]
        name = "a"
        address = "10.0.0.1"
        port = 8080
        weight = 256
        [[vip.backend]]
        address = "10.0.0.1"
        port = 8081
        weight = 0
        [[vip]]
        address = "10.0.1.1"
        port = 53
        selection = "maglev"
        backend = [{ address = "10.0.0.1" }]
    "#;
    let config = Config::from_toml(text, "lb.toml").unwrap();
    assert_eq!(config.placement.attach, ["s1-eth1", "s1-eth2"]);
    let health = HealthConfig {
        preset: HealthPreset::Pox,
        interval_ms: 6000,
        timeout_ms: 2000,
        rise: 4,
        fall: 5,
        jitter_pct: 6,
        ..HealthConfig::preset(HealthPreset::Pox)
    };
    assert_eq!(config.health, health);
    let connections = ConnectionsConfig {
        table_size: 1024,
        half_open_size: 256,
        snat_size: 512,
        affinity_size: 2048,
        source_size: 4096,
        fragment_size: 8192,
        max_new_per_s: Some(7),
        syn_s: 1,
        established_s: 2,
        closing_s: 3,
        udp_s: 4,
        unverified_s: 5,
        fragment_s: 6,
    };
    assert_eq!(config.connections, connections);
    let [web, dns] = config.vips.as_slice() else { panic!("{config:?}") };
    assert_eq!((web.name.as_str(), web.ports, web.protocol), ("web", Ports::one(80), Protocol::Udp));
    assert_eq!(
        (web.selection, web.on_down, web.no_backend),
        (Selection::RoundRobin, OnDown::Repick, NoBackend::LastKnown)
    );
    let names: Vec<&str> = web.backends.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["a", "10.0.0.1:8081"]);
    assert_eq!((web.backends[0].weight, web.backends[1].weight), (256, 0));
    assert_eq!(web.service_port(&web.backends[0]), 8080);
    assert_eq!((dns.selection, dns.service_port(&dns.backends[0])), (Selection::Maglev, 53));
    // The MAC that one VIP of an address names holds for all of them.
    assert_eq!((web.mac, dns.mac), (MacAddr([2, 0, 0, 0, 0, 9]), MacAddr([2, 0, 0, 0, 0, 9])));
    assert_eq!(config.backend_addresses(), [IpAddr::from([10, 0, 0, 1])]);
}

#[test]
fn one_armed_is_dsr() {
    let text = format!("[placement]\nkind = \"onearm\"\nhost = \"lb1\"\n{VIP}");
    let config = Config::from_toml(&text, "lb.toml").unwrap();
    assert_eq!((config.placement.host.as_deref(), config.vips[0].mode), (Some("lb1"), Mode::Dsr));
}

#[test]
fn a_shorter_interval_shortens_the_default_timeout() {
    let config = Config::from_toml(&format!("[health]\ninterval_ms = 100\n{VIP}"), "f").unwrap();
    assert_eq!((config.health.interval_ms, config.health.timeout_ms), (100, 100));
}

#[test]
fn the_examples_of_the_manual_are_accepted() {
    let manual = include_str!("../../docs/configuration.md");
    let examples: Vec<&str> =
        manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        if let Err(error) = Config::from_toml(example, "docs/configuration.md") {
            panic!("{error}\n{example}");
        }
    }
    // The one with every key in it shows the defaults where it says so.
    let defaults = Config::from_toml(VIP, "f").unwrap();
    let full = manual.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let mut full = Config::from_toml(full, "f").unwrap();
    assert!(full.health.probe_address.v4.is_some(), "there is no default for it");
    full.health.probe_address = defaults.health.probe_address;
    assert_eq!((full.health, full.connections), (defaults.health, defaults.connections));
}

/// Lines before a good VIP, and the refusal.
#[test]
fn refusals_of_the_common_tables() {
    let cases = [
        (
            "x = 1",
            "lb.toml:1: unknown key \"x\" in the file; known keys: placement, health, connections, vip",
        ),
        (
            "\n[helth]",
            "lb.toml:2: unknown key \"helth\" in the file; known keys: placement, health, connections, vip; did you mean \"health\"?",
        ),
        ("[health", "lb.toml:1: not valid TOML: unclosed table, expected `]`"),
        ("health = 3", "lb.toml:1: health in the file must be a table [health], not a number"),
        (
            "[health]\nrise = \"2\"",
            "lb.toml:2: rise in [health] must be a whole number without quotes, not a string",
        ),
        ("[health]\nrise = 0", "lb.toml:2: rise = 0 in [health] is outside 1..=100"),
        (
            "[health]\nfall = 99999999999999999999",
            "lb.toml:2: fall = 9223372036854775807 in [health] is outside 1..=100",
        ),
        (
            "[health]\ntimeout_ms = 300",
            "lb.toml:2: timeout_ms = 300 in [health] is longer than interval_ms = 200; lower it or raise interval_ms",
        ),
        (
            "[health]\npreset = \"box\"",
            "lb.toml:2: preset \"box\" is not known; choose \"default\" or \"pox\"; did you mean \"pox\"?",
        ),
        (
            "[connections]\ntable_size = 3000",
            "lb.toml:2: table_size = 3000 is not a power of two; choose 2048 or 4096",
        ),
        (
            "[connections]\ntable_size = 512",
            "lb.toml:2: table_size = 512 in [connections] is outside 1024..=8388608",
        ),
        (
            "[placement]\nkind = \"onearm\"",
            "lb.toml:1: placement onearm needs the host that balances; name it, as in host = \"lb1\"",
        ),
        (
            "[placement]\nhost = \"lb1\"",
            "lb.toml:2: host \"lb1\" is only for placement onearm; remove it or choose that placement",
        ),
        (
            "[placement]\nattach = [\"s1-eth1\",\n\"s1/eth2\"]",
            "lb.toml:3: attach \"s1/eth2\" is not an interface name; write it as in \"s1-eth1\"",
        ),
        ("[placement]\nattach = [\"a\", \"a\"]", "lb.toml:2: attach names \"a\" twice; remove one"),
        (
            "[placement]\nattach = \"a\"",
            "lb.toml:2: attach in [placement] must be a list of strings, not a string",
        ),
        (
            "[placement]\nattach = [1]",
            "lb.toml:2: attach in [placement] must be a list of strings, not a number",
        ),
    ];
    for (before, line) in cases {
        assert_eq!(refused(&format!("{before}\n{VIP}")), line);
    }
    assert_eq!(
        refused("# nothing\n"),
        "lb.toml:2: no VIP; add a [[vip]] with an address and at least one [[vip.backend]]"
    );
    assert_eq!(
        refused("[vip]\naddress = \"10.0.1.1\"\n"),
        "lb.toml:1: vip in the file must be a list of tables, each begun by [[vip]] with double brackets, not a table"
    );
}

/// Lines in a VIP that begins on line 1 and has its address on line 2, and the refusal.
#[test]
fn refusals_in_a_vip() {
    let backend = "[[vip.backend]]\naddress = \"10.0.0.1\"";
    let cases = [
        (
            format!("prot = 80\n{backend}"),
            "lb.toml:3: unknown key \"prot\" in [[vip]]; known keys: name, address, port, protocol, selection, mode, mac, affinity_s, snat, snat_ports, tunnel_source, tunnel_mtu, echo, allow, deny, max_new_per_source_s, over_cap, on_down, no_backend, check, slow_start_s, backend; did you mean \"port\"?",
        ),
        (format!("port = 70000\n{backend}"), "lb.toml:3: port 70000 is outside 0..=65535"),
        (format!("port = -1\n{backend}"), "lb.toml:3: port -1 is outside 0..=65535"),
        (
            format!("port = \"80\"\n{backend}"),
            "lb.toml:3: port \"80\" is not a range of ports; write it as in \"8000-8010\", or one port without quotes",
        ),
        (
            format!("port = \"8010-8000\"\n{backend}"),
            "lb.toml:3: port \"8010-8000\" ends before it begins; write \"8000-8010\"",
        ),
        (format!("port = \"0-80\"\n{backend}"), "lb.toml:3: port 0 is outside 1..=65535"),
        (
            format!("port = 80.5\n{backend}"),
            "lb.toml:3: port in [[vip]] must be a whole number without quotes, not a number with a fraction",
        ),
        (
            format!("protocol = \"sctp\"\n{backend}"),
            "lb.toml:3: protocol \"sctp\" is not known; choose \"tcp\" or \"udp\"",
        ),
        (
            format!("selection = \"roundrobin\"\n{backend}"),
            "lb.toml:3: selection \"roundrobin\" is not known; choose \"random\" or \"round-robin\" or \"source-hash\" or \"flow-hash\" or \"maglev\" or \"least-connections\"; did you mean \"round-robin\"?",
        ),
        (
            format!("mac = \"01:00:5e:00:00:01\"\n{backend}"),
            "lb.toml:3: mac 01:00:5e:00:00:01 is not the address of one station; choose a unicast one, as in 02:6c:0a:00:01:01",
        ),
        (
            format!("mac = \"x\"\n{backend}"),
            "lb.toml:3: \"x\" is not a MAC address; write six octets as in \"02:6c:0a:00:01:01\"",
        ),
        (
            format!("name = \"my web\"\n{backend}"),
            "lb.toml:3: VIP name \"my web\" is not usable; write 1 to 63 letters, digits, or any of . _ - : / [ ]",
        ),
        (String::new(), "lb.toml:1: VIP 10.0.1.1 has no backend; add a [[vip.backend]]"),
        ("backend = []".to_owned(), "lb.toml:1: VIP 10.0.1.1 has no backend; add a [[vip.backend]]"),
        (
            "backend = 3".to_owned(),
            "lb.toml:3: backend in [[vip]] must be a list of tables, each begun by [[vip.backend]] with double brackets, not a number",
        ),
        (
            "[[vip.backend]]\nweight = 1".to_owned(),
            "lb.toml:3: [[vip.backend]] has no address; add address = \"10.0.0.1\"",
        ),
        (format!("{backend}\nweight = 257"), "lb.toml:5: weight = 257 in [[vip.backend]] is outside 0..=256"),
        (
            format!("{backend}\nport = 8080"),
            "lb.toml:5: backend 10.0.0.1 translates to port 8080, but VIP 10.0.1.1/tcp is for every port; give the VIP one port, or remove this one",
        ),
        (
            format!("{backend}\n{backend}"),
            "lb.toml:6: backend 10.0.0.1 is twice in VIP 10.0.1.1/tcp; remove one and set its weight",
        ),
        (
            format!("{backend}\nname = \"a\"\n[[vip.backend]]\nname = \"a\"\naddress = \"10.0.0.2\""),
            "lb.toml:7: two backends of VIP 10.0.1.1/tcp have the name \"a\"; rename one",
        ),
        (
            "[[vip.backend]]\naddress = \"10.0.1.1\"".to_owned(),
            "lb.toml:4: backend 10.0.1.1 is also a VIP; give the VIP an address that no host has",
        ),
        (
            "[[vip.backend]]\naddress = \"127.0.0.1\"".to_owned(),
            "lb.toml:4: backend 127.0.0.1 is a loopback address; give the address of one host",
        ),
        (
            format!("{backend}\n[[vip]]\naddress = \"10.0.1.1\"\n{backend}"),
            "lb.toml:6: VIP 10.0.1.1/tcp is there twice; remove one, or give it another port",
        ),
        (
            format!("name = \"w\"\n{backend}\n[[vip]]\nname = \"w\"\naddress = \"10.0.1.2\"\n{backend}"),
            "lb.toml:7: two VIPs have the name \"w\"; rename one",
        ),
        (
            format!(
                "mac = \"02:00:00:00:00:01\"\n{backend}\n[[vip]]\naddress = \"10.0.1.1\"\nport = 1\nmac = \"02:00:00:00:00:02\"\n{backend}"
            ),
            "lb.toml:9: VIP address 10.0.1.1 has mac 02:00:00:00:00:01 above and 02:00:00:00:00:02 here; name one of them",
        ),
    ];
    for (after, line) in cases {
        assert_eq!(refused(&format!("[[vip]]\naddress = \"10.0.1.1\"\n{after}\n")), line);
    }
    assert_eq!(
        refused("[[vip]]\naddress = \"fd00::1\"\n"),
        "lb.toml:1: VIP fd00::1 has no backend; add a [[vip.backend]]"
    );
    assert_eq!(
        refused("[[vip]]\nport = 80\n"),
        "lb.toml:1: [[vip]] has no address; add address = \"10.0.1.1\""
    );
}

#[test]
fn one_armed_has_every_mode_and_dsr_no_port_translation() {
    let head = "[placement]\nkind = \"onearm\"\nhost = \"lb1\"\n[[vip]]\naddress = \"10.0.1.1\"\nport = 80\n";
    for mode in ["nat", "fullnat", "dsr"] {
        let text = format!("{head}mode = \"{mode}\"\n[[vip.backend]]\naddress = \"10.0.0.1\"\n");
        assert_eq!(Config::from_toml(&text, "lb.toml").unwrap().placement.kind, PlacementKind::OneArm);
    }
    assert_eq!(
        refused(&format!("{head}[[vip.backend]]\naddress = \"10.0.0.1\"\nport = 8080\n")),
        "lb.toml:9: backend 10.0.0.1 translates to port 8080, which mode \"dsr\" cannot; remove the port"
    );
    // The VIP's own port is no translation.
    let same = format!("{head}[[vip.backend]]\naddress = \"10.0.0.1\"\nport = 80\n");
    assert!(Config::from_toml(&same, "lb.toml").is_ok());
}

#[test]
fn of_many_mistakes_the_first_in_the_file_is_told() {
    let text = "[[vip]]\naddress = \"10.0.1.1\"\nport = 70000\nzzz = 1\n[[vip.backend]]\naddress = \"x\"\n[health]\nrise = 0\n";
    assert_eq!(refused(text), "lb.toml:3: port 70000 is outside 0..=65535");
    let text = "[[vip]]\nzzz = 1\naddress = \"10.0.1.1\"\nport = 70000\n";
    assert!(refused(text).starts_with("lb.toml:1: VIP 10.0.1.1 has no backend"), "{}", refused(text));
    let error = Config::from_toml(text, "dir/a.toml").unwrap_err();
    assert_eq!(error.origin(), &Origin::File { name: "dir/a.toml".to_owned(), line: 1 });
}

fn many(vips: usize, backends: usize, port: impl Fn(usize) -> usize) -> String {
    let mut text = String::new();
    for vip in 0..vips {
        writeln!(text, "[[vip]]\naddress = \"10.1.{}.{}\"\nport = {}", vip / 256, vip % 256, port(vip))
            .unwrap();
        for backend in 0..backends {
            let (a, b) = (backend / 200, backend % 200 + 1);
            writeln!(text, "[[vip.backend]]\naddress = \"10.{}.{a}.{b}\"", vip % 100 + 2).unwrap();
        }
    }
    text
}

#[test]
fn limits_are_exact() {
    assert_eq!(Config::from_toml(&many(256, 1, |_| 80), "f").unwrap().vips.len(), 256);
    assert_eq!(refused(&many(257, 1, |_| 80)), "lb.toml:1281: more than 256 VIPs; this is one too many");
    assert_eq!(Config::from_toml(&many(1, 655, |_| 80), "f").unwrap().vips[0].backends.len(), 655);
    let line = refused(&many(1, 656, |_| 80));
    assert_eq!(line, "lb.toml:1314: VIP 10.1.0.0:80/tcp has more than 655 backends; this is one too many");
    assert!(Config::from_toml(&many(8, 512, |_| 80), "f").is_ok());
    let line = refused(&many(9, 512, |_| 80));
    assert!(line.ends_with("more than 4096 backends in all VIPs together; this is one too many"), "{line}");
}

#[test]
fn a_backend_serves_at_most_four_vips_on_one_port() {
    let vip = |n: usize, port: usize| {
        format!("[[vip]]\naddress = \"10.0.1.{n}\"\nport = {port}\n[[vip.backend]]\naddress = \"10.0.0.1\"\n")
    };
    let four: String = (1..=4).map(|n| vip(n, 80)).collect();
    assert!(Config::from_toml(&format!("{four}{}", vip(5, 81)), "f").is_ok());
    // A VIP of every port claims replies of each port too.
    let every = "[[vip]]\naddress = \"10.0.1.6\"\n[[vip.backend]]\naddress = \"10.0.0.1\"\n";
    assert!(
        refused(&format!("{four}{every}")).starts_with("lb.toml:24: backend 10.0.0.1 serves port 80 of tcp")
    );
    assert_eq!(
        refused(&format!("{four}{}", vip(5, 80))),
        "lb.toml:25: backend 10.0.0.1 serves port 80 of tcp for more than 4 VIPs; give it another port or address for this one"
    );
}

#[test]
fn arguments_make_one_vip() {
    let config = Config::from_args(&Arguments {
        ip: "10.0.1.1",
        servers: "10.0.0.1,10.0.0.2",
        ..Arguments::default()
    })
    .unwrap();
    let file = "[[vip]]\naddress = \"10.0.1.1\"\n[[vip.backend]]\naddress = \"10.0.0.1\"\n[[vip.backend]]\naddress = \"10.0.0.2\"\n";
    assert_eq!(config, Config::from_toml(file, "f").unwrap());
    let attach = ["s1-eth1".to_owned()];
    let config = Config::from_args(&Arguments {
        ip: "10.0.1.1",
        servers: "10.0.0.1:8080, 10.0.0.2",
        port: Some("80"),
        protocol: Some("udp"),
        selection: Some("round-robin"),
        health: Some("pox"),
        attach: &attach,
        ..Arguments::default()
    })
    .unwrap();
    let vip = &config.vips[0];
    assert_eq!(
        (vip.name.as_str(), vip.ports.single(), vip.selection),
        ("10.0.1.1:80/udp", Some(80), Selection::RoundRobin)
    );
    assert_eq!((vip.backends[0].port, vip.backends[0].name.as_str()), (Some(8080), "10.0.0.1:8080"));
    assert_eq!((config.health.preset, config.placement.attach), (HealthPreset::Pox, attach.to_vec()));
}

#[test]
fn arguments_are_refused_in_one_line() {
    let good = Arguments { ip: "10.0.1.1", servers: "10.0.0.1", ..Arguments::default() };
    let bad_attach = ["a b".to_owned()];
    let cases = [
        (
            Arguments { ip: "10.0.1", ..good },
            "arguments: --ip: VIP address \"10.0.1\" is not an IP address; write it as in \"10.0.1.1\" or \"2001:db8::1\"",
        ),
        (
            Arguments { servers: " , ", ..good },
            "arguments: --servers: no backend; give addresses divided by commas, as in 10.0.0.1,10.0.0.2",
        ),
        (
            Arguments { servers: "10.0.0.1,10.0.0.999", ..good },
            "arguments: --servers: backend address \"10.0.0.999\" is not an IP address; write it as in \"10.0.1.1\" or \"2001:db8::1\"",
        ),
        (
            Arguments { servers: "fd00::1", ..good },
            "arguments: backend fd00::1 is IPv6, but VIP 10.0.1.1/tcp is IPv4; give a backend of the same family, or use mode \"ipip\"",
        ),
        (
            Arguments { servers: "10.0.0.1:99999", ..good },
            "arguments: --servers: port 99999 is outside 1..=65535",
        ),
        (
            Arguments { servers: "10.0.1.1", ..good },
            "arguments: backend 10.0.1.1 is also a VIP; give the VIP an address that no host has",
        ),
        (
            Arguments { servers: "10.0.0.1,10.0.0.1", ..good },
            "arguments: backend 10.0.0.1 is twice in VIP 10.0.1.1/tcp; remove one and set its weight",
        ),
        (Arguments { port: Some("70000"), ..good }, "arguments: --port: port 70000 is outside 1..=65535"),
        (
            Arguments { protocol: Some("icmp"), ..good },
            "arguments: --protocol \"icmp\" is not known; choose \"tcp\" or \"udp\"",
        ),
        (
            Arguments { placement: Some("onearm"), ..good },
            "arguments: placement onearm needs the host that balances; name it, as in host = \"lb1\"",
        ),
        (
            Arguments { attach: &bad_attach, ..good },
            "arguments: attach \"a b\" is not an interface name; write it as in \"s1-eth1\"",
        ),
    ];
    for (arguments, line) in cases {
        assert_eq!(Config::from_args(&arguments).unwrap_err().to_string(), line);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever the text: an answer, and a refusal is one line with a line number within the file.
    #[test]
    fn no_text_breaks_it(text in "(\\[\\[?(vip|health|vip\\.backend)\\]?\\]|[a-z_]{1,9} ?= ?(\"[0-9.:]{0,9}\"|[0-9]{1,7}|\\[\\]|\\{\\})|\\PC{0,6}|\n){0,24}") {
        if let Err(error) = Config::from_toml(&text, "f") {
            proptest::prop_assert!(!error.to_string().contains('\n'));
            let Origin::File { line, .. } = error.origin() else { panic!("{error}") };
            proptest::prop_assert!(*line >= 1 && *line <= 1 + text.matches('\n').count());
        }
    }
}
