//! Another version of the programs under load: nothing lost, and back by itself when its books are wrong.

mod e2e_bed;

use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e_bed::object::{of_schema, that_counts_nothing, that_is_refused};
use e2e_bed::{Lb, Net, Server, StopAtEnd, Talk, curl, enter, one_line, refusal, root, talk};
use serde_json::Value;

const WEB: &str = r#"
[[vip]]
name = "web"
address = "10.0.1.1"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }]
"#;

fn servers(net: &Net) -> Vec<Server> {
    [1, 2].into_iter().flat_map(|n| [Server::http(net, n, 80), Server::lines(net, n, 7)]).collect()
}

fn open(net: &Net, count: usize) -> Vec<(Talk, String)> {
    (0..count)
        .map(|_| {
            let mut talk = talk(net, 3, "10.0.1.1:7");
            let at = talk.say("first").unwrap()[..1].to_owned();
            (talk, at)
        })
        .collect()
}

fn assert_kept(talks: &mut [(Talk, String)]) {
    for (talk, at) in talks {
        assert_eq!(talk.say("again").unwrap(), format!("{at} again"));
    }
}

fn upgrade(lb: &Lb, words: &[&str]) -> (Output, Value) {
    let done = lb.ask(&[&["upgrade", "--json"], words].concat());
    let answer = serde_json::from_slice(&done.stdout).unwrap_or_default();
    (done, answer)
}

/// The kernel's ids of the programs that run, by name.
fn programs(lb: &Lb) -> Value {
    lb.status()["pins"]["programs"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect()
}

fn object() -> Vec<u8> {
    std::fs::read(testbed::program::object_path())
        .expect("the XDP object; `cargo xtask build-ebpf --release` builds it")
}

fn file(lb: &Lb, name: &str, bytes: &[u8]) -> String {
    let path = lb.folder.0.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[test]
fn twenty_replacements_under_load_lose_nothing() {
    if !root("twenty_replacements_under_load_lose_nothing") {
        return;
    }
    const OPEN: usize = 200;
    let net = Net::new(3);
    let _servers = servers(&net);
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let mut talks = open(&net, OPEN);
    let (stop, made, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut slowest = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            enter(&net.ns(3));
            while !stop.load(Ordering::Relaxed) {
                made.fetch_add(1, Ordering::Relaxed);
                failed.fetch_add(usize::from(one_line("10.0.1.1:7", "new").is_err()), Ordering::Relaxed);
            }
        });
        let _end = StopAtEnd(&stop);
        let mut before = programs(&lb);
        for round in 0..20 {
            let (done, answer) = upgrade(&lb, &["--verify", "--window", "300ms"]);
            assert!(done.status.success(), "{answer:#} {:#?}", lb.log());
            assert_eq!(answer["links"], 6, "{answer:#}");
            assert!(answer["flows"]["before"].as_u64().unwrap() >= OPEN as u64, "{answer:#}");
            let kept = answer["flows"]["kept"].as_u64().unwrap();
            assert!(kept >= OPEN as u64, "{answer:#} {:#}", lb.status()["connections"]);
            assert_eq!(
                (&answer["flows"]["moved"], &answer["verified"]),
                (&0.into(), &true.into()),
                "{answer:#}"
            );
            assert!(answer["packets"]["forwarded"].as_u64().unwrap() > 0, "{answer:#}");
            slowest = slowest.max(answer["swap_us"].as_u64().unwrap());
            let now = programs(&lb);
            assert!(now != before, "round {round}: {now}");
            before = now;
            // The servers close what is silent for long.
            assert_kept(&mut talks);
        }
    });
    assert_kept(&mut talks);
    let (made, failed) = (made.into_inner(), failed.into_inner());
    println!(
        "{OPEN} open connections, {failed} of {made} new ones failed in 20 upgrades; slowest swap {slowest} us"
    );
    assert_eq!(failed, 0, "of {made} new connections");
    assert!(made > 100, "{made}");
    lb.assert_ledger();

    // The next daemon takes its own programs, and everything is undone as ever.
    assert_eq!(lb.end("KILL"), None);
    assert_kept(&mut talks[..10]);
    lb.start();
    assert_eq!(lb.status()["adopted"], true);
    assert_kept(&mut talks);
    lb.detach();
    lb.assert_gone(&net);
}

#[test]
fn a_version_whose_books_are_wrong_is_taken_back_by_itself() {
    if !root("a_version_whose_books_are_wrong_is_taken_back_by_itself") {
        return;
    }
    let net = Net::new(3);
    let _servers = servers(&net);
    let mut lb = Lb::with(&net, WEB, &[1, 2]);
    let mut talks = open(&net, 10);
    let before = programs(&lb);
    let wrong = file(&lb, "wrong.o", &that_counts_nothing(&object()));
    // With traffic of its own: the hosts' answers to probes would do, a little later.
    let mut pings = net.flood(3, "10.0.0.1");
    let (done, answer) = upgrade(&lb, &["--verify", "--window", "10s", "--object", &wrong]);
    pings.0.kill().unwrap();
    assert_eq!(done.status.code(), Some(1), "{answer:#} {}", String::from_utf8_lossy(&done.stderr));
    let why = answer["rolled_back"].as_str().unwrap();
    assert!(why.contains("the devices received"), "{why}");
    lb.wait_for_log("upgrade taken back: the devices received");
    assert_eq!(programs(&lb), before, "the very programs from before");
    assert_kept(&mut talks);
    assert!(curl(&net, 3, "http://10.0.1.1/").is_ok());
    assert_eq!(net.programs().len(), 6);
    lb.assert_ledger();
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    if !root("what_does_not_fit_is_refused_and_nothing_changes") {
        return;
    }
    let net = Net::new(3);
    let _servers = servers(&net);
    let lb = Lb::with(&net, WEB, &[1, 2]);
    let mut talks = open(&net, 4);
    let before = programs(&lb);
    let good = object();
    let cases: [(Vec<u8>, &str); 4] = [
        (b"not an object".to_vec(), "not an XDP object"),
        (of_schema(&good, 1_000_000), "the object works on tables of schema 1000000"),
        (that_is_refused(&good), "the kernel refuses the program lb_balance"),
        (good[..good.len() / 2].to_vec(), "not an XDP object"),
    ];
    for (bytes, part) in cases {
        let path = file(&lb, "wrong.o", &bytes);
        for more in [&["--object", &path][..], &["--object", &path, "--verify"]] {
            let line = refusal(&lb.ask(&[&["upgrade"], more].concat()));
            assert!(line.contains(part), "{line}");
        }
    }
    assert!(refusal(&lb.ask(&["upgrade", "--object", "/no/such/file"])).contains("/no/such/file"));
    assert_eq!(programs(&lb), before);
    assert_kept(&mut talks);

    // Neither does a daemon start on it.
    let wrong = file(&lb, "wrong.o", &of_schema(&good, 1_000_000));
    let other = Lb::new();
    other.configure(&net.ports(), WEB);
    let config = other.folder.0.join("lb.toml").display().to_string();
    let line = refusal(&other.ask(&["run", "--config", &config, "--object", &wrong]));
    assert!(line.contains("schema 1000000"), "{line}");
    assert!(!other.pin_dir.exists(), "and leaves nothing");
}
