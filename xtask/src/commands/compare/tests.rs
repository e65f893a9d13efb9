use super::*;

fn metric(unit: &str, [min, median, max]: [f64; 3]) -> Value {
    json!({ "unit": unit, "min": min, "median": median, "max": max, "samples": [min, median, max] })
}

/// What `mininet/compare.py` prints.
fn measured() -> Value {
    let none = |reason: &str| json!({ "unit": "packets/s", "min": null, "median": null, "max": null, "reason": reason });
    let at = |value: f64| metric("connections", [value; 3]);
    json!({
        "machine": { "kernel": "6.18", "cpu": "A <CPU> & more", "cpus": 2, "load_average": 0.5,
                     "switch": "ovs-vswitchd (Open vSwitch) 3.1.0", "datapath": "userspace",
                     "command": "cargo xtask compare --quick" },
        "rounds": 3, "seconds": 2.0,
        "left_out": { "nox": "this ofshim has no --lb nox" },
        "modes": [
            { "mode": "pox", "label": "ofshim --lb pox", "commands": ["ofshim run --lb pox", "h3 bench-load open <1>"],
              "metrics": {
                  "load_last_good": metric("1/s", [700.0, 800.0, 900.0]), "udp": none("balances TCP only"),
                  "load_800_offered": at(800.0), "load_800_completed": at(640.0), "load_800_failed": at(160.0),
                  "load_800_p50": metric("ms", [5.0; 3]), "load_800_p99": metric("ms", [90.0, 335.0, 400.0]) } },
            { "mode": "inline", "label": "XDP inline, nat", "commands": [],
              "metrics": {
                  "load_last_good": metric("1/s", [9e3, 1e4, 2e4]), "udp": metric("packets/s", [1.0, 2.0, 3.0]),
                  "load_800_offered": at(800.0), "load_800_completed": at(800.0), "load_800_failed": at(0.0),
                  "load_800_p50": metric("ms", [0.2; 3]), "load_800_p99": metric("ms", [0.5; 3]) } },
        ],
    })
}

fn args() -> Args {
    Args { rounds: 3, seconds: "2".into(), modes: None, quick: false, pox: None, json: None, html: None }
}

#[test]
fn the_file_has_the_figures_and_reasons_and_nothing_else() {
    let result = result(&measured());
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&result), ["machine", "modes", "rounds"]);
    assert_eq!(keys(&result["modes"][0]), ["metrics", "mode"]);
    assert_eq!(
        result["modes"][0]["metrics"]["load_last_good"],
        json!({ "unit": "1/s", "min": 700.0, "median": 800.0, "max": 900.0 })
    );
    let udp = &result["modes"][0]["metrics"]["udp"];
    assert_eq!((&udp["median"], &udp["reason"]), (&Value::Null, &json!("balances TCP only")));
    assert_eq!(result["machine"]["commands"]["pox"][0], "ofshim run --lb pox");
}

#[test]
fn the_page_is_well_formed_and_holds_everything() {
    let page = html::page(&measured());
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&page, options).unwrap();
    let count = |name: &str| {
        document
            .descendants()
            .filter(|node| node.has_tag_name(("http://www.w3.org/1999/xhtml", name)))
            .count()
    };
    assert_eq!(document.root_element().tag_name().name(), "html");
    assert_eq!((count("script"), count("img"), count("link")), (0, 0, 0), "nothing is loaded or run");
    let pictures = document.descendants().filter(|node| node.tag_name().name() == "svg").count();
    assert_eq!(pictures, 1 + figures::GROUPS.len());
    assert_eq!(count("pre"), 2, "the commands of each mode");
    let text: String = document.descendants().filter_map(|node| node.text()).collect();
    for said in [
        "A <CPU> & more",
        "h3 bench-load open <1>",
        "balances TCP only",
        "this ofshim has no --lb nox",
        "335, 80 % *",
    ] {
        assert!(text.contains(said), "{said}");
    }
}

#[test]
fn a_page_of_nothing_is_a_page() {
    let page = html::page(&json!({}));
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    assert!(roxmltree::Document::parse_with_options(&page, options).is_ok());
}

#[test]
fn offered_rates_are_found_and_judged() {
    let measured = measured();
    let of = |mode: usize| figures::at_rates(&figures::modes(&measured)[mode]);
    assert_eq!(
        of(0),
        [figures::AtRate { rate: 800, completed: 0.8, p50_ms: Some(5.0), p99_ms: Some(335.0) }]
    );
    assert!(!of(0)[0].is_good() && of(1)[0].is_good());
}

#[test]
fn the_terminal_shows_medians_and_reasons() {
    let shown = table::terminal(&measured());
    let line = |label: &str| shown.lines().find(|line| line.starts_with(label)).unwrap().to_owned();
    let words = |label: &str| line(label).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("ofshim --lb pox")[3..8], ["800", "335", "–", "–", "–"], "{shown}");
    assert_eq!(words("XDP inline, nat")[3..8], ["10k", "0.5", "–", "–", "2"], "{shown}");
    assert!(shown.contains("\nXDP inline, nat              800: 0.5\n"), "{shown}");
    assert!(shown.contains("\nofshim --lb pox              800: 335*\n"), "{shown}");
    assert!(shown.contains("\nleft out: nox: this ofshim has no --lb nox\n"), "{shown}");
}

#[test]
fn what_is_run_and_what_is_told_are_the_same() {
    let project = Project { root: "/p".into(), target: "/t".into() };
    let mut args = args();
    args.modes = Some("pox,inline".into());
    args.pox = Some("/x".into());
    let shown = process::shown(&command(&args, &project, true));
    let programs = "--lb /t/release/lb --ofshim /t/release/ofshim --traffic /t/release/bench-traffic --load /t/release/bench-load";
    assert!(
        shown.ends_with(&format!(
            "/usr/bin/python3 -B /p/mininet/compare.py {programs} --pox /x --rounds 3 --seconds 2 --modes pox,inline"
        )),
        "{shown}"
    );
    assert_eq!(typed(&args), "cargo xtask compare --rounds 3 --seconds 2 --modes pox,inline --pox DIR");
    args.quick = true;
    let shown = process::shown(&command(&args, &project, false));
    assert!(
        shown.starts_with("sudo -E ") && shown.ends_with("--pox /x --quick --modes pox,inline"),
        "{shown}"
    );
}

#[test]
fn a_folder_that_is_no_pox_is_refused_before_anything_is_built() {
    let mut args = args();
    args.pox = Some("/nowhere".into());
    let error = run(&args).unwrap_err();
    assert_eq!(process::exit_status_of(&error), 2);
    assert_eq!(error.to_string(), "--pox /nowhere: there is no pox.py in it; name a checkout of POX");
}
