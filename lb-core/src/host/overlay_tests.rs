use super::*;

fn file(text: &str) -> Config {
    Config::from_toml(text, "f").unwrap()
}

const TWO: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
backend = [{ name = "h1", address = "10.0.0.1", weight = 3 }, { name = "h2", address = "10.0.0.2" }]
[[vip]]
name = "dns"
address = "10.0.1.1"
port = 53
protocol = "udp"
backend = [{ name = "h1", address = "10.0.0.1" }, { name = "h3", address = "10.0.0.3" }]
"#;

/// Gives an order at time 1000.
fn order(overlay: &Overlay, backend: &str, vip: Option<&str>, order: &Order) -> Result<Overlay, String> {
    overlay.ordered(&file(TWO), Whom { backend, vip }, order, 1000).map(|(next, _)| next)
}

/// `name weight admin` of every backend in force.
fn force(overlay: &Overlay, file: &Config) -> Vec<String> {
    let vips = overlay.apply(file).vips;
    let words = |b: &BackendConfig| format!("{} {} {:?}", b.name, b.weight, b.admin);
    vips.iter().map(|vip| vip.backends.iter().map(words).collect::<Vec<_>>().join(", ")).collect()
}

#[test]
fn the_same_address_in_two_vips_can_differ() {
    let drain = Order::Drain { deadline_ms: Some(500) };
    let one = order(&Overlay::default(), "h1", Some("web"), &drain).unwrap();
    assert_eq!(force(&one, &file(TWO)), ["h1 3 Draining, h2 1 Enabled", "h1 1 Enabled, h3 1 Enabled"]);
    let both = order(&one, "10.0.0.1", None, &Order::Disable).unwrap();
    assert_eq!(force(&both, &file(TWO)), ["h1 3 Disabled, h2 1 Enabled", "h1 1 Disabled, h3 1 Enabled"]);
    let back = order(&both, "h1", Some("10.0.1.1:53/udp"), &Order::Enable).unwrap();
    assert_eq!(force(&back, &file(TWO)), ["h1 3 Disabled, h2 1 Enabled", "h1 1 Enabled, h3 1 Enabled"]);
}

#[test]
fn a_drain_ends_at_its_deadline_and_keeps_its_beginning() {
    let first = order(&Overlay::default(), "h2", None, &Order::Drain { deadline_ms: None }).unwrap();
    assert_eq!(first.next_deadline_ms(), None);
    let whom = Whom { backend: "h2", vip: None };
    let later = Order::Drain { deadline_ms: Some(60) };
    let (mut again, targets) = first.ordered(&file(TWO), whom, &later, 2000).unwrap();
    let since = Some(Service::Draining { since_ms: 1000, deadline_ms: Some(2060) });
    assert_eq!(again.change(&targets[0]).unwrap().service, since);
    assert_eq!((again.next_deadline_ms(), again.expire(2059).len()), (Some(2060), 0));
    assert_eq!(again.expire(2060), targets);
    assert_eq!(force(&again, &file(TWO))[0], "h1 3 Enabled, h2 1 Disabled");
    assert_eq!((again.next_deadline_ms(), again.expire(9999).len()), (None, 0));
}

#[test]
fn backends_come_and_go_and_weights_change() {
    let add = Order::Add { name: Some("h9".into()), weight: 2 };
    let one = order(&Overlay::default(), "10.0.0.9:8080", Some("web"), &add).unwrap();
    assert_eq!(force(&one, &file(TWO))[0], "h1 3 Enabled, h2 1 Enabled, h9 2 Enabled");
    let heavy = order(&one, "h9", None, &Order::Weight(7)).unwrap();
    let heavy = order(&heavy, "h1", Some("web"), &Order::Weight(0)).unwrap();
    assert_eq!(force(&heavy, &file(TWO))[0], "h1 0 Enabled, h2 1 Enabled, h9 7 Enabled");
    let less = order(&heavy, "h1", Some("web"), &Order::Remove).unwrap();
    assert_eq!(force(&less, &file(TWO))[0], "h2 1 Enabled, h9 7 Enabled");
    let gone = order(&less, "10.0.0.9:8080", None, &Order::Remove).unwrap();
    let back = order(&gone, "10.0.0.1", Some("web"), &Order::Add { name: None, weight: 3 }).unwrap();
    assert_eq!(back, Overlay::default(), "as in the file: nothing is left to remember");
}

#[test]
fn wrong_orders_are_refused_with_the_mend_and_change_nothing() {
    let add = |name: Option<&str>| Order::Add { name: name.map(str::to_owned), weight: 1 };
    let cases = [
        ("h8", None, Order::Disable, "no backend h8; there are h1, h2, h3"),
        ("h3", Some("web"), Order::Disable, "no backend h3 in VIP web; there are h1, h2"),
        ("h1", Some("ftp"), Order::Enable, "no VIP ftp; there are web, dns"),
        ("10.0.0.4", None, add(None), "which VIP? name one with --vip: web, dns"),
        ("10.0.0.4", Some("ftp"), add(None), "no VIP ftp; there are web, dns"),
        ("10.0.0.1", Some("web"), add(None), "backend 10.0.0.1 is in VIP web already"),
        ("10.0.0.1:80", Some("web"), add(None), "backend 10.0.0.1:80 is in VIP web already"),
        ("h4", Some("web"), add(None), "\"h4\""),
        ("10.0.0.4", Some("web"), add(Some("h1")), "two backends of VIP 10.0.1.1:80/tcp have the name"),
        ("10.0.1.1", Some("web"), add(None), "backend 10.0.1.1 is also a VIP"),
    ];
    for (backend, vip, wrong, part) in cases {
        let line = order(&Overlay::default(), backend, vip, &wrong).unwrap_err();
        assert!(line.contains(part) && line.lines().count() == 1, "{backend} {vip:?} {wrong:?}: {line}");
    }
    let one = order(&Overlay::default(), "h1", Some("web"), &Order::Remove).unwrap();
    let line = order(&one, "h2", None, &Order::Remove).unwrap_err();
    assert!(line.starts_with("h2 is the only backend of VIP web; drain or disable it"), "{line}");
}

#[test]
fn whoever_spoke_last_is_obeyed() {
    let mut overlay = order(&Overlay::default(), "h1", Some("web"), &Order::Weight(5)).unwrap();
    overlay = order(&overlay, "h2", None, &Order::Disable).unwrap();
    overlay = order(&overlay, "10.0.0.4", Some("web"), &Order::Add { name: None, weight: 1 }).unwrap();
    overlay = order(&overlay, "h3", None, &Order::Remove).unwrap();
    let before = overlay.clone();
    assert_eq!(overlay.settle(&file(TWO)), Vec::<String>::new());
    assert_eq!(overlay, before, "the same file takes nothing back");

    let other = TWO
        .replace("weight = 3 }", "weight = 4 }, { address = \"10.0.0.4\" }")
        .replace(", { name = \"h3\", address = \"10.0.0.3\" }", "");
    let lines = overlay.settle(&file(&other));
    assert_eq!(
        lines,
        [
            "10.0.0.3 of VIP 10.0.1.1:53/udp: was removed by hand, and is out of the file now",
            "10.0.0.1 of VIP 10.0.1.1:80/tcp: weight 5 given by hand gives way to the file's 4",
            "10.0.0.4 of VIP 10.0.1.1:80/tcp: was added by hand, and is in the file now",
        ]
    );
    assert_eq!(
        force(&overlay, &file(&other)),
        ["h1 4 Enabled, 10.0.0.4 1 Enabled, h2 1 Disabled", "h1 1 Enabled"]
    );

    let (dns, _) = other.split_once("[[vip]]\nname = \"dns\"").unwrap();
    let without = dns.replace(", { name = \"h2\", address = \"10.0.0.2\" }", "");
    let lines = overlay.settle(&file(&without));
    assert_eq!(lines, ["10.0.0.2 of VIP 10.0.1.1:80/tcp: its changes are forgotten, it is not in the file"]);
    assert_eq!(overlay, Overlay::default());
}

#[test]
fn weights_have_a_range() {
    assert_eq!((parse_weight("0"), parse_weight("256")), (Ok(0), Ok(256)));
    for text in ["257", "-1", "", "x"] {
        assert!(parse_weight(text).unwrap_err().contains("0 to 256"), "{text}");
    }
}

#[test]
fn times_have_units() {
    for (text, ms) in [("500ms", 500), ("60s", 60_000), ("60", 60_000), ("5m", 300_000), ("1h", 3_600_000)] {
        assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "s", "-1s", "1.5s", "10 s", "1d", "99999999999999999999s", "721h"] {
        assert!(parse_time(text).is_err(), "{text}");
    }
}
