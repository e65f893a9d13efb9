//! What the newer keys mean, and the line that refuses the rest.

use super::*;

fn read(text: &str) -> Config {
    Config::from_toml(text, "lb.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refused(text: &str) -> String {
    match Config::from_toml(text, "lb.toml") {
        Ok(config) => panic!("accepted:\n{text}\n{config:?}"),
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "more than one line: {error}");
            error.to_string()
        }
    }
}

/// A VIP from line 1 (its address on line 2), with these lines from line 3, and one backend behind them.
fn vip(address: &str, lines: &str, backend: &str) -> String {
    format!("[[vip]]\naddress = \"{address}\"\n{lines}\n[[vip.backend]]\naddress = \"{backend}\"\n")
}

#[test]
fn every_key_of_a_vip_is_read() {
    let text = r#"
        [[vip]]
        address = "10.0.1.1"
        port = "8000-8010"
        mode = "fullnat"
        selection = "least-connections"
        affinity_s = 60
        snat = "10.0.1.9"
        snat_ports = "2000-3000"
        echo = false
        allow = ["10.0.0.0/8", "192.168.0.1"]
        deny = ["10.66.0.0/16"]
        max_new_per_source_s = 100
        on_down = "reset"
        no_backend = "reject"
        backend = [{ address = "10.0.0.1" }]
        [[vip]]
        address = "2001:db8::1"
        port = 443
        mode = "ipip"
        tunnel_source = "10.0.0.254"
        tunnel_mtu = 1400
        backend = [{ address = "10.0.0.1" }]
        [[vip]]
        address = "10.0.1.2"
        port = 53
        over_cap = "stateless"
        selection = "flow-hash"
        backend = [{ address = "10.0.0.1" }]
        [[vip]]
        address = "2001:db8:1::/64"
        port = 0
        mode = "dsr"
        selection = "source-hash"
        backend = [{ address = "2001:db8::9" }]
    "#;
    let config = read(text);
    let [web, v6, dns, prefix] = config.vips.as_slice() else { panic!("{config:?}") };
    assert_eq!((web.name.as_str(), web.ports), ("10.0.1.1:8000-8010/tcp", Ports::range(8000, 8010).unwrap()));
    assert_eq!((web.mode, web.selection, web.affinity_s), (Mode::FullNat, Selection::LeastConnections, 60));
    let snat = SnatConfig { address: "10.0.1.9".parse().unwrap(), ports: Ports::range(2000, 3000).unwrap() };
    assert_eq!((web.snat, web.echo, web.max_new_per_source_s), (Some(snat), false, 100));
    assert_eq!(web.allow, ["10.0.0.0/8".parse().unwrap(), "192.168.0.1/32".parse().unwrap()]);
    assert_eq!(web.deny, ["10.66.0.0/16".parse().unwrap()]);
    assert_eq!(
        (web.on_down, web.no_backend, web.over_cap),
        (OnDown::Reset, NoBackend::Reject, OverCap::Drop)
    );
    let tunnel = TunnelConfig { source: "10.0.0.254".parse().unwrap(), mtu: 1400 };
    assert_eq!((v6.name.as_str(), v6.tunnel, v6.snat), ("[2001:db8::1]:443/tcp", Some(tunnel), None));
    assert_eq!((dns.over_cap, dns.selection, dns.echo), (OverCap::Stateless, Selection::FlowHash, true));
    assert_eq!((prefix.name.as_str(), prefix.prefix_len), ("[2001:db8:1::/64]/tcp", Some(64)));
    assert_eq!((prefix.ports, prefix.mac), (Ports::ALL, MacAddr::of_vip(prefix.address)));
    assert_eq!(prefix.key().prefix(), Some("2001:db8:1::/64".parse().unwrap()));
}

#[test]
fn a_full_length_prefix_is_an_address() {
    let config = read(&vip("2001:db8::1/128", "port = 80", "2001:db8::9"));
    assert_eq!((config.vips[0].prefix_len, config.vips[0].name.as_str()), (None, "[2001:db8::1]:80/tcp"));
}

#[test]
fn full_nat_lends_what_no_vip_serves() {
    let ports = |text: &str| read(text).vips[0].snat.map(|snat| (snat.address, snat.ports.bounds()));
    let own = IpAddr::from([10, 0, 1, 1]);
    let text = vip("10.0.1.1", "port = 80\nmode = \"fullnat\"", "10.0.0.1");
    assert_eq!(ports(&text), Some((own, (1024, 65535))));
    let text = vip("10.0.1.1", "port = 8080\nmode = \"fullnat\"", "10.0.0.1");
    assert_eq!(ports(&text), Some((own, (8081, 65535))));
    // Another VIP of the address serves ports too; one of the other protocol does not count.
    let more = vip("10.0.1.1", "port = 40000", "10.0.0.1");
    assert_eq!(ports(&format!("{text}{more}")), Some((own, (8081, 39999))));
    let other = vip("10.0.1.1", "port = 40000\nprotocol = \"udp\"", "10.0.0.1");
    assert_eq!(ports(&format!("{text}{other}")), Some((own, (8081, 65535))));
    assert_eq!(
        refused(&format!("{text}{}", vip("10.0.1.1", "", "10.0.0.1"))),
        "lb.toml:4: a VIP serves every port of snat 10.0.1.1; give another address"
    );
}

#[test]
fn echo_of_an_address_is_named_once() {
    let text = |a: &str, b: &str| {
        vip("10.0.1.1", &format!("port = 1\n{a}"), "10.0.0.1")
            + &vip("10.0.1.1", &format!("port = 2\n{b}"), "10.0.0.1")
    };
    let config = read(&text("", "echo = false"));
    assert!(!config.vips[0].echo && !config.vips[1].echo);
    assert_eq!(
        refused(&text("echo = true", "echo = false")),
        "lb.toml:10: VIP address 10.0.1.1 has echo = true above and false here; name one of them"
    );
}

#[test]
fn backends_of_one_address_are_told_apart() {
    let text = |mode: &str, first: &str, second: &str| {
        format!(
            "[[vip]]\naddress = \"192.168.2.2\"\nmode = \"{mode}\"\n\
             [[vip.backend]]\naddress = \"192.168.2.2\"\n{first}\n\
             [[vip.backend]]\naddress = \"192.168.2.2\"\n{second}\n"
        )
    };
    let config = read(&text("dsr", "mac = \"00:00:00:00:00:02\"", "host = \"h3\""));
    let [a, b] = config.vips[0].backends.as_slice() else { panic!("{config:?}") };
    let mac = Some(MacAddr([0, 0, 0, 0, 0, 2]));
    assert_eq!((a.name.as_str(), a.mac), ("192.168.2.2-00:00:00:00:00:02", mac));
    assert_eq!((b.name.as_str(), b.host.as_deref(), b.mac), ("192.168.2.2-h3", Some("h3"), None));
    let not_dsr = text("nat", "host = \"h2\"", "host = \"h3\"");
    let cases = [
        (
            text("dsr", "mac = \"00:00:00:00:00:02\"", ""),
            "lb.toml:8: backend 192.168.2.2 is also a VIP; give the VIP an address that no host has",
        ),
        (
            text("dsr", "host = \"h2\"", "host = \"h2\""),
            "lb.toml:8: backend 192.168.2.2 is twice in VIP 192.168.2.2/tcp; remove one and set its weight, or tell them apart by mac or host",
        ),
        (
            text("dsr", "host = \"h2\"\nmac = \"00:00:00:00:00:02\"", "host = \"h3\""),
            "lb.toml:7: backend 192.168.2.2 has a mac and a host; give one of them",
        ),
        (
            text("dsr", "mac = \"01:00:00:00:00:02\"", "host = \"h3\""),
            "lb.toml:6: backend 192.168.2.2: 01:00:00:00:00:02 is not the address of one station; give the MAC of its interface",
        ),
        (
            not_dsr.clone(),
            "lb.toml:5: backend 192.168.2.2 is also a VIP; give the VIP an address that no host has",
        ),
        (
            not_dsr.replace("[[vip]]\naddress = \"192.168.2.2\"", "[[vip]]\naddress = \"192.168.2.9\""),
            "lb.toml:6: backend 192.168.2.2 is told by its mac or host, which is only for mode \"dsr\"; remove that",
        ),
        (
            vip("192.168.2.9", "mode = \"dsr\"", "192.168.2.2\"\nhost = \"h2")
                + &vip("192.168.2.8", "mode = \"dsr\"", "192.168.2.2"),
            "lb.toml:11: several backends have the address 192.168.2.2; name the mac or the host of this one too",
        ),
    ];
    for (text, line) in cases {
        assert_eq!(refused(&text), line, "{text}");
    }
}

/// A VIP's address, lines from line 3 on, the backend, and the refusal.
#[test]
fn refusals_of_addresses_and_families() {
    let dsr = "mode = \"dsr\"";
    let cases = [
        (
            ("10.0.1.0/24", "", "10.0.0.1"),
            "2: VIP 10.0.1.0/24 is an IPv4 prefix, which is not supported; give one address for each VIP",
        ),
        (
            ("2001:db8::1/64", "", "2001:db8::9"),
            "2: \"2001:db8::1/64\" has bits beyond its length; write \"2001:db8::/64\"",
        ),
        (
            ("2001:db8::/32", "", "2001:db9::9"),
            "2: VIP 2001:db8::/32 is a prefix, which mode \"nat\" cannot serve; use mode \"dsr\" or \"ipip\", or give one address",
        ),
        (
            ("2000::/8", dsr, "fd00::9"),
            "2: VIP 2000::/8 has too many addresses; give a prefix of 16 bits or more",
        ),
        (
            ("2001:db8::/32", dsr, "2001:db8::9"),
            "5: backend 2001:db8::9 is in the VIP prefix 2001:db8::/32; give it another address",
        ),
        (
            ("fe80::1", "", "2001:db8::9"),
            "2: VIP fe80::1 is a link-local address (fe80::/10); give the address of one host",
        ),
        (
            ("10.0.1.1", "", "2001:db8::9"),
            "5: backend 2001:db8::9 is IPv6, but VIP 10.0.1.1/tcp is IPv4; give a backend of the same family, or use mode \"ipip\"",
        ),
        (
            ("2001:db8::1", dsr, "10.0.0.1"),
            "5: backend 10.0.0.1 is IPv4, but VIP 2001:db8::1/tcp is IPv6; give a backend of the same family, or use mode \"ipip\"",
        ),
        (
            ("10.0.1.1", "port = \"8000-8010\"", "10.0.0.1\"\nport = 80\nname = \"a"),
            "6: backend 10.0.0.1 translates to port 80, but VIP 10.0.1.1:8000-8010/tcp is for ports 8000-8010; give the VIP one port, or remove this one",
        ),
    ];
    for ((address, lines, backend), line) in cases {
        assert_eq!(refused(&vip(address, lines, backend)), format!("lb.toml:{line}"));
    }
}

/// Lines from line 3 on of a VIP 10.0.1.1, and the refusal.
#[test]
fn refusals_of_modes_and_lists() {
    let full = "port = 80\nmode = \"fullnat\"";
    let ipip = "mode = \"ipip\"";
    let elsewhere = |key: &str, mode: &str| {
        format!("3: {key} is only for mode \"{mode}\"; remove it or choose that mode")
    };
    let cases = [
        ("snat = \"10.0.1.9\"".to_owned(), elsewhere("snat", "fullnat")),
        ("snat_ports = \"1024-2048\"".to_owned(), elsewhere("snat_ports", "fullnat")),
        ("tunnel_source = \"10.0.1.9\"".to_owned(), elsewhere("tunnel_source", "ipip")),
        ("tunnel_mtu = 1400".to_owned(), elsewhere("tunnel_mtu", "ipip")),
        ("over_cap = \"stateless\"\nmode = \"dsr\"".to_owned(), elsewhere("over_cap = \"stateless\"", "nat")),
        (
            ipip.to_owned(),
            "3: VIP 10.0.1.1/tcp with mode \"ipip\" needs the source of the outer packets; give tunnel_source an address that neither a VIP nor a backend has".to_owned(),
        ),
        (
            format!("{ipip}\ntunnel_source = \"10.0.1.1\""),
            "4: tunnel_source 10.0.1.1 is also a VIP, which the backends have as their own address and refuse; give another".to_owned(),
        ),
        (
            format!("{ipip}\ntunnel_source = \"10.0.0.1\""),
            "4: tunnel_source 10.0.0.1 is also a backend of VIP 10.0.1.1/tcp; give another".to_owned(),
        ),
        (
            format!("{ipip}\ntunnel_source = \"x\""),
            "4: tunnel_source address \"x\" is not an IP address; write it as in \"10.0.1.1\" or \"2001:db8::1\"".to_owned(),
        ),
        (
            format!("{ipip}\ntunnel_source = \"2001:db8::1\""),
            "6: backend 10.0.0.1 is IPv4, but tunnel_source 2001:db8::1 is IPv6; give a backend of the same family".to_owned(),
        ),
        (
            format!("{ipip}\ntunnel_source = \"2001:db8::1\"\ntunnel_mtu = 1000"),
            "5: tunnel_mtu = 1000 is less than IPv6 allows; give 1280 or more".to_owned(),
        ),
        (
            format!("{ipip}\ntunnel_source = \"10.0.0.9\"\ntunnel_mtu = 500"),
            "5: tunnel_mtu = 500 in [[vip]] is outside 576..=9000".to_owned(),
        ),
        (
            "mode = \"fullnat\"".to_owned(),
            "3: VIP 10.0.1.1/tcp with mode \"fullnat\" serves several ports and cannot lend them too; give snat another address".to_owned(),
        ),
        (
            format!("{full}\nsnat = \"2001:db8::1\""),
            "5: snat 2001:db8::1 is not of the family of VIP 10.0.1.1:80/tcp; give an address that is".to_owned(),
        ),
        (
            format!("{full}\nsnat = \"10.0.0.1\""),
            "5: snat 10.0.0.1 is also a backend; give another address".to_owned(),
        ),
        (
            format!("{full}\nsnat_ports = \"79-81\""),
            "5: snat_ports 79-81 of VIP 10.0.1.1:80/tcp overlap the ports 80 that a VIP serves at 10.0.1.1; choose others".to_owned(),
        ),
        (
            format!("{full}\nsnat_ports = \"1024\""),
            "5: snat_ports \"1024\" is not a range of ports; write it as in \"8000-8010\"".to_owned(),
        ),
        (
            "echo = \"no\"".to_owned(),
            "3: echo in [[vip]] must be true or false without quotes, not a string".to_owned(),
        ),
        (
            "deny = [\"ten\"]".to_owned(),
            "3: \"ten\" is not an address prefix; write it as in \"10.0.0.0/8\" or \"2001:db8::/32\"".to_owned(),
        ),
        (
            "deny = [\"2001:db8::/32\"]".to_owned(),
            "3: deny 2001:db8::/32: the clients of VIP 10.0.1.1/tcp are IPv4 ones; give a prefix of that family".to_owned(),
        ),
        (
            "allow = [\"10.0.0.0/8\",\n\"10.0.0.0/8\"]".to_owned(),
            "4: allow names 10.0.0.0/8 twice; remove one".to_owned(),
        ),
        (
            "allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]".to_owned(),
            "4: 10.0.0.0/8 is in allow and in deny; remove one".to_owned(),
        ),
        ("affinity_s = 604801".to_owned(), "3: affinity_s = 604801 in [[vip]] is outside 0..=604800".to_owned()),
        (
            "over_cap = \"pass\"".to_owned(),
            "3: over_cap \"pass\" is not known; choose \"drop\" or \"stateless\"".to_owned(),
        ),
    ];
    for (lines, line) in cases {
        assert_eq!(refused(&vip("10.0.1.1", &lines, "10.0.0.1")), format!("lb.toml:{line}"), "{lines}");
    }
}

#[test]
fn ranges_of_an_address_do_not_overlap_and_are_few() {
    let range = |first: u16, last: u16| vip("10.0.1.1", &format!("port = \"{first}-{last}\""), "10.0.0.1");
    let port = |port: u16| vip("10.0.1.1", &format!("port = {port}"), "10.0.0.1");
    // One port within a range, and every port around it, are served by their own VIPs.
    read(&(range(1, 10) + &port(5) + &port(0)));
    assert_eq!(
        refused(&(range(1, 10) + &range(10, 20))),
        "lb.toml:8: ports 10-20 of VIP 10.0.1.1:10-20/tcp overlap ports 1-10 of VIP 10.0.1.1:1-10/tcp; divide them"
    );
    let many = |n: u16| -> String {
        let one = |n: u16| {
            vip("10.0.1.1", &format!("port = \"{}-{}\"", n * 10, n * 10 + 5), &format!("10.0.0.{n}"))
        };
        (1..=n).map(one).collect()
    };
    read(&many(8));
    assert_eq!(
        refused(&many(9)),
        "lb.toml:41: more than 8 VIPs with a range of ports at 10.0.1.1 (tcp); this is one too many"
    );
    let prefix = |n: u16| -> String {
        (1..=n).map(|n| vip("2001:db8::/64", &format!("mode = \"dsr\"\nport = {n}"), "fd00::1")).collect()
    };
    read(&prefix(8));
    assert_eq!(
        refused(&prefix(9)),
        "lb.toml:49: more than 8 VIPs of the prefix 2001:db8::/64; this is one too many"
    );
}

#[test]
fn sizes_and_limits_of_connections() {
    let vip = vip("10.0.1.1", "", "10.0.0.1");
    let config = read(&format!("[connections]\nmax_new_per_s = 0\n{vip}"));
    assert_eq!(config.connections.max_new_per_s, Some(0));
    assert_eq!(read(&vip).connections.max_new_per_s, None);
    for (line, message) in [
        ("half_open_size = 300", "half_open_size = 300 is not a power of two; choose 256 or 512"),
        ("fragment_size = 128", "fragment_size = 128 in [connections] is outside 256..=8388608"),
        ("fragment_s = 300", "fragment_s = 300 in [connections] is outside 1..=255"),
        ("max_new_per_s = -1", "max_new_per_s = -1 in [connections] is outside 0..=100000000"),
    ] {
        assert_eq!(refused(&format!("[connections]\n{line}\n{vip}")), format!("lb.toml:2: {message}"));
    }
}

#[test]
fn arguments_take_ipv6_and_a_mode() {
    let arguments = Arguments {
        ip: "2001:db8::1",
        servers: "2001:db8::9,[2001:db8::a]:8080,[2001:db8::b]",
        port: Some("80"),
        ..Arguments::default()
    };
    let config = Config::from_args(&arguments).unwrap();
    let names: Vec<&str> = config.vips[0].backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["2001:db8::9", "[2001:db8::a]:8080", "2001:db8::b"]);
    let full = Arguments { ip: "10.0.1.1", servers: "10.0.0.1", port: Some("80"), ..Arguments::default() };
    let full = Arguments { mode: Some("fullnat"), ..full };
    assert_eq!(Config::from_args(&full).unwrap().vips[0].mode, Mode::FullNat);
    for (mode, message) in [
        ("tunnel", "--mode \"tunnel\" is not known; choose \"nat\" or \"fullnat\" or \"dsr\" or \"ipip\""),
        ("ipip", "--mode ipip needs tunnel_source, which only a file has; write one, see --config"),
    ] {
        let error = Config::from_args(&Arguments { mode: Some(mode), ..full }).unwrap_err();
        assert_eq!(error.to_string(), format!("arguments: {message}"));
    }
}
