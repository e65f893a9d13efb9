//! Everything changes at once, under load, and no connection notices: programs, daemons, files, backends in and out.

mod e2e_bed;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use e2e_bed::many::{Counts, Echo, allow_descriptors, connect, keep_connecting, say};
use e2e_bed::{Lb, Net, StopAtEnd, enter, root};

/// How much: a few in a run of all tests, the whole with `LB_LONG=1`.
struct Amount {
    open: usize,
    upgrades: usize,
    kills: usize,
    reloads: usize,
    clients: usize,
}

impl Amount {
    fn of_run() -> Self {
        if std::env::var_os("LB_LONG").is_some_and(|long| long == "1") {
            Self { open: 10_000, upgrades: 20, kills: 20, reloads: 100, clients: 4 }
        } else {
            Self { open: 1_000, upgrades: 2, kills: 2, reloads: 10, clients: 2 }
        }
    }
}

fn file(backends: &[u32], udp_s: usize) -> String {
    let backends: Vec<String> =
        backends.iter().map(|number| format!("{{ address = \"10.0.0.{number}\" }}")).collect();
    format!(
        "[connections]\ntable_size = 262144\nclosing_s = 20\nudp_s = {udp_s}\n\n[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\n\
         backend = [{}]\n",
        backends.join(", ")
    )
}

#[test]
fn open_and_new_connections_survive_upgrades_kills_reloads_and_drains() {
    if !root("open_and_new_connections_survive_upgrades_kills_reloads_and_drains") {
        return;
    }
    const ALL: [u32; 4] = [1, 2, 3, 4];
    let amount = Amount::of_run();
    allow_descriptors(amount.open as u64 + 4096);
    let net = Net::new(6);
    let _servers = ALL.map(|number| Echo::start(&net, number, 7));
    for client in [5, 6] {
        let settings = ["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1"];
        let mut sysctl = std::process::Command::new("ip");
        sysctl.args(["netns", "exec", &net.ns(client), "sysctl", "-q", "-w"]).args(settings);
        assert!(sysctl.status().unwrap().success());
    }
    let mut lb = Lb::with(&net, &file(&ALL, 300), &ALL);
    let vip = "10.0.1.1:7".parse().unwrap();
    let mut open: Vec<_> = std::thread::scope(|scope| {
        let connect_all = || {
            enter(&net.ns(5));
            (0..amount.open).map(|_| connect(vip).expect("a connection")).collect()
        };
        scope.spawn(connect_all).join().unwrap()
    });

    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..amount.clients {
            scope.spawn(|| keep_connecting(&net, 6, vip, &stop, &counts));
        }
        let _end = StopAtEnd(&stop);
        change(&mut lb, &net, &amount);
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut broken = Vec::new();
    for (stream, at) in &mut open {
        match say(stream, "again") {
            Ok(answer) if answer == format!("{at} again") => {}
            other => broken.push(format!("{other:?} of {at}")),
        }
    }
    let [served, reset, failed] = counts.numbers();
    println!(
        "{} open connections, {} broken; {served} new ones served ({:.0} a second), {reset} reset, {failed} failed; \
         {} upgrades, {} kills, {} reloads, {} drains of half the backends in {seconds:.0} s",
        amount.open,
        broken.len(),
        served as f64 / seconds,
        amount.upgrades,
        amount.kills,
        amount.reloads,
        amount.kills,
    );
    assert_eq!(broken, Vec::<String>::new());
    assert_eq!((reset, failed), (0, 0), "of {served} new connections");
    assert!(served > 100, "{served}");
    lb.assert_ledger();
}

/// Upgrades, kills, reloads and drains, spread evenly.
fn change(lb: &mut Lb, net: &Net, amount: &Amount) {
    let order = |lb: &Lb, words: &[&str]| {
        let done = lb.ask(words);
        assert!(
            done.status.success(),
            "{words:?}: {} {:#?}",
            String::from_utf8_lossy(&done.stderr),
            lb.log()
        );
    };
    let due =
        |round: usize, times: usize| (round + 1) * times / amount.reloads > round * times / amount.reloads;
    for round in 0..amount.reloads {
        // One backend in turn is out, and comes back with the next.
        let backends: Vec<u32> =
            (1..=4).filter(|number| round % 2 == 1 || *number as usize != 1 + round / 2 % 4).collect();
        lb.configure(&net.ports(), &file(&backends, 300 + round % 7));
        order(lb, &["reload"]);
        if due(round, amount.upgrades) {
            order(lb, &["upgrade", "--verify", "--window", "200ms"]);
        }
        if due(round, amount.kills) {
            // Half of them take no new connections while the daemon is killed and comes back.
            let half = [0, 1].map(|next| format!("10.0.0.{}", backends[(round + next) % backends.len()]));
            for whom in &half {
                order(lb, &["backend", "drain", whom]);
            }
            assert_eq!(lb.end("KILL"), None);
            lb.start();
            for whom in &half {
                order(lb, &["backend", "enable", whom]);
            }
        }
    }
}
