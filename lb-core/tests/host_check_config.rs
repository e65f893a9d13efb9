//! `[vip.check]`, flap damping, slow start and probe addresses in a file: what is read, and what is refused and how.
#![cfg(feature = "std")]

use lb_core::host::config::{CheckConfig, CheckKind, Config, DampingConfig};

const PROBE: &str = "[health]\nprobe_address = \"10.0.0.250\"\n";

/// A file whose VIP is for `port` and has these lines in `[vip.check]`, which begins at line 7.
fn file(health: &str, port: &str, check: &str) -> String {
    format!(
        "{health}[[vip]]\naddress = \"10.0.1.1\"\n{port}\nbackend = [{{ address = \"10.0.0.1\" }}]\n[vip.check]\n{check}\n"
    )
}

fn check(text: &str) -> CheckConfig {
    let config = Config::from_toml(&file(PROBE, "port = 80", text), "f").unwrap();
    config.vips[0].check.clone().unwrap()
}

#[test]
fn every_kind_has_its_defaults() {
    for (text, kind, pace_ms) in [
        ("type = \"icmp\"", CheckKind::Icmp, 200),
        ("type = \"tcp\"", CheckKind::Tcp { send: None, expect: None }, 200),
        ("type = \"udp\"", CheckKind::Udp { send: String::new(), expect: None }, 200),
        (
            "type = \"http\"",
            CheckKind::Http { path: "/".to_owned(), host: None, status: (200, 399), expect: None },
            500,
        ),
    ] {
        let want = CheckConfig {
            kind,
            port: None,
            interval_ms: pace_ms,
            timeout_ms: pace_ms,
            rise: 2,
            fall: 3,
            jitter_pct: 10,
        };
        assert_eq!(check(text), want);
    }
}

#[test]
fn every_key_is_read() {
    let http = check(
        "type = \"http\"\nport = 8080\ninterval_ms = 3000\ntimeout_ms = 700\nrise = 4\nfall = 5\njitter_pct = 6\n\
         path = \"/health?full=1\"\nhost = \"www.example.org\"\nstatus = \"204\"\nexpect = \"fine\"",
    );
    let want = CheckConfig {
        kind: CheckKind::Http {
            path: "/health?full=1".to_owned(),
            host: Some("www.example.org".to_owned()),
            status: (204, 204),
            expect: Some("fine".to_owned()),
        },
        port: Some(8080),
        interval_ms: 3000,
        timeout_ms: 700,
        rise: 4,
        fall: 5,
        jitter_pct: 6,
    };
    assert_eq!(http, want);
    let tcp = check("type = \"tcp\"\nsend = \"PING\\r\\n\"\nexpect = \"+PONG\"").kind;
    assert_eq!(tcp, CheckKind::Tcp { send: Some("PING\r\n".into()), expect: Some("+PONG".into()) });
    let udp = check("type = \"udp\"\nsend = \"\\u0000x\"\nexpect = \"y\"").kind;
    assert_eq!(udp, CheckKind::Udp { send: "\0x".into(), expect: Some("y".into()) });
    assert_eq!(check("type = \"tcp\"\ninterval_ms = 50").timeout_ms, 50);

    let health = format!(
        "{PROBE}probe_address6 = \"fd00::250\"\nflap_free = 0\nflap_hold_ms = 5\nflap_longest_ms = 6\nflap_window_s = 7\n"
    );
    let config =
        Config::from_toml(&file(&health, "slow_start_s = 30\nport = 80", "type = \"icmp\""), "f").unwrap();
    let damping = DampingConfig { free_falls: 0, hold_ms: 5, longest_hold_ms: 6, window_s: 7 };
    assert_eq!((config.health.damping, config.vips[0].slow_start_s), (damping, 30));
    assert_eq!(config.health.probe_address.all().len(), 2);
}

#[test]
fn pox_neither_damps_nor_changes_the_pace_of_checks() {
    let health = format!("{PROBE}preset = \"pox\"\n");
    let config = Config::from_toml(&file(&health, "port = 80", "type = \"tcp\""), "f").unwrap();
    assert_eq!(config.health.damping.hold_ms, 0);
    assert_eq!(config.vips[0].check.as_ref().unwrap().interval_ms, 200);
}

#[test]
fn refusals_in_a_check() {
    for (text, message) in [
        ("port = 1", "lb.toml:7: [vip.check] has no type; add type = \"tcp\""),
        (
            "type = \"htpp\"",
            "lb.toml:8: type \"htpp\" is not known; choose \"icmp\" or \"tcp\" or \"udp\" or \"http\"; did you mean \"http\"?",
        ),
        (
            "type = \"tcp\"\npaht = \"/\"",
            "lb.toml:9: unknown key \"paht\" in [vip.check]; known keys: type, port, interval_ms, timeout_ms, rise, fall, jitter_pct, send, expect, path, host, status; did you mean \"path\"?",
        ),
        (
            "type = \"tcp\"\npath = \"/\"",
            "lb.toml:9: path in [vip.check] is only for type \"http\"; remove it",
        ),
        (
            "type = \"http\"\nsend = \"x\"",
            "lb.toml:9: send in [vip.check] is only for type \"tcp\" or \"udp\"; remove it",
        ),
        (
            "type = \"icmp\"\nport = 80",
            "lb.toml:9: port in [vip.check] is only for type \"tcp\" or \"udp\" or \"http\"; remove it",
        ),
        (
            "type = \"tcp\"\nsend = \"x\"",
            "lb.toml:9: send in [vip.check] of type \"tcp\" needs to know a good answer; add expect, or remove it",
        ),
        (
            "type = \"udp\"\nexpect = \"\"",
            "lb.toml:9: expect in [vip.check] is empty, which every answer contains; remove it",
        ),
        (
            "type = \"http\"\npath = \"health\"",
            "lb.toml:9: path \"health\" in [vip.check] is not one that can be asked for; write it from the slash on, without spaces, as in \"/health\"",
        ),
        (
            "type = \"http\"\nhost = \"a b\"",
            "lb.toml:9: host \"a b\" in [vip.check] is not a host name; write it as in \"www.example.org\"",
        ),
        (
            "type = \"http\"\nstatus = \"399-200\"",
            "lb.toml:9: status \"399-200\" in [vip.check] is not a code or a range of codes; write it as in \"200\" or \"200-299\"",
        ),
        (
            "type = \"http\"\nstatus = 200",
            "lb.toml:9: status in [vip.check] must be a string in quotes, not a number",
        ),
        (
            "type = \"tcp\"\ninterval_ms = 100\ntimeout_ms = 101",
            "lb.toml:10: timeout_ms = 101 in [vip.check] is longer than interval_ms = 100; lower it or raise interval_ms",
        ),
        ("type = \"tcp\"\nfall = 0", "lb.toml:9: fall = 0 in [vip.check] is outside 1..=100"),
    ] {
        let error = Config::from_toml(&file(PROBE, "port = 80", text), "lb.toml").unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let long = format!("type = \"udp\"\nsend = \"{}\"", "x".repeat(1025));
    let error = Config::from_toml(&file(PROBE, "port = 80", &long), "lb.toml").unwrap_err();
    assert_eq!(error.to_string(), "lb.toml:9: send in [vip.check] is longer than 1024 bytes; shorten it");
}

#[test]
fn refusals_between_checks_and_the_rest() {
    let tcp = "type = \"tcp\"";
    for (health, port, message) in [
        (
            "[health]\nrise = 2\n",
            "port = 80",
            "lb.toml:7: check tcp of VIP 10.0.1.1:80/tcp needs an address to ask 10.0.0.1 from; add probe_address to [health], one that nobody has and the backends reach, as in \"10.0.0.250\"",
        ),
        (
            PROBE,
            "",
            "lb.toml:7: check tcp needs a port, since VIP 10.0.1.1/tcp is for several; add port = 80 to [vip.check]",
        ),
        (
            "[health]\nprobe_address = \"10.0.0.1\"\n",
            "port = 80",
            "lb.toml:2: probe address 10.0.0.1 is that of a VIP or backend; give one that nobody has",
        ),
        (
            "[health]\nprobe_address = \"10.0.1.1\"\n",
            "port = 80",
            "lb.toml:2: probe address 10.0.1.1 is that of a VIP or backend; give one that nobody has",
        ),
        (
            "[health]\nprobe_address = \"fd00::1\"\n",
            "port = 80",
            "lb.toml:2: probe_address is an IPv6 address; name that one probe_address6",
        ),
        (
            "[health]\nprobe_address6 = \"10.0.0.250\"\n",
            "port = 80",
            "lb.toml:2: probe_address6 is an IPv4 address; name that one probe_address",
        ),
        (
            "[health]\nprobe_address6 = \"ff02::1\"\n",
            "port = 80",
            "lb.toml:2: probe_address6 ff02::1 is not the address of one host",
        ),
        (
            "[health]\nflap_hold_ms = 2000\nflap_longest_ms = 1000\n",
            "port = 80",
            "lb.toml:3: flap_longest_ms = 1000 in [health] is shorter than flap_hold_ms = 2000; raise it or lower flap_hold_ms",
        ),
    ] {
        let error = Config::from_toml(&file(health, port, tcp), "lb.toml").unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
