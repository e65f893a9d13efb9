//! One network, two balancers: moved between XDP and flow entries under load, and taken over when XDP is not there.

mod e2e_bed;

use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use e2e_bed::many::{Counts, Echo, allow_descriptors, connect, keep_connecting, say};
use e2e_bed::{Folder, Lb, Mode, Net, Ofshim, StopAtEnd, enter, must, root, run, wait};

/// The hosts that serve; the last two are clients.
const BACKENDS: [u32; 4] = [1, 2, 3, 4];
const VIP: &str = "10.0.1.1:7";

/// How much: a few in a run of all tests, the whole with `LB_LONG=1`.
fn amount() -> (usize, usize) {
    let long = std::env::var_os("LB_LONG").is_some_and(|long| long == "1");
    if long { (1_000, 20) } else { (200, 3) }
}

fn file() -> String {
    let backends: Vec<String> =
        BACKENDS.iter().map(|number| format!("{{ address = \"10.0.0.{number}\" }}")).collect();
    format!("[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nbackend = [{}]\n", backends.join(", "))
}

/// Both balancers, and servers.
struct Bed {
    lb: Lb,
    ofshim: Option<Ofshim>,
    _servers: Vec<Echo>,
    net: Net,
}

impl Bed {
    fn new(hosts: &[u32]) -> Self {
        let net = Net::with(Mode::Secure, hosts);
        let servers = BACKENDS.iter().map(|number| Echo::start(&net, *number, 7)).collect();
        let mut lb = Lb::new();
        lb.configure(&net.ports(), &file());
        let folder = Folder::new();
        lb.start_with(&["--ofshim-dir", &folder.0.display().to_string()]);
        let mut ofshim = Ofshim::start_in(folder, &net, &lb, hosts.len(), &[]);
        lb.wait_up(&BACKENDS);
        ofshim.wait_for_log("from the daemon");
        for client in [5, 6] {
            let settings = ["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1"];
            net.on(client, &format!("sysctl -q -w {}", settings[1]));
            let mut sysctl = std::process::Command::new("ip");
            sysctl.args(["netns", "exec", &net.ns(client), "sysctl", "-q", "-w", settings[0]]);
            assert!(sysctl.status().unwrap().success());
        }
        Self { lb, ofshim: Some(ofshim), _servers: servers, net }
    }

    fn ofshim(&self) -> &Ofshim {
        self.ofshim.as_ref().expect("a controller")
    }

    fn mode(&self, to: &str) {
        let began = Instant::now();
        let done = self.lb.ask(&["mode", to]);
        assert!(
            done.status.success(),
            "lb mode {to}: {} {:#?} {:#?}",
            String::from_utf8_lossy(&done.stderr),
            self.lb.log(),
            self.ofshim().log()
        );
        println!("lb mode {to}: {} in {:?}", String::from_utf8_lossy(&done.stdout).trim(), began.elapsed());
    }

    /// Opens connections from a host.
    fn open(&self, host: u32, count: usize) -> Vec<(TcpStream, String)> {
        let ns = self.net.ns(host);
        std::thread::scope(|scope| {
            let open = || {
                enter(&ns);
                (0..count).map(|_| connect(VIP.parse().unwrap()).expect("a connection")).collect()
            };
            scope.spawn(open).join().unwrap()
        })
    }

    /// Flow entries of balanced connections on the first bridge.
    fn entries(&self) -> usize {
        let bridge = self.net.bridge(1);
        let flows = must(&format!(
            "ovs-ofctl -O OpenFlow13 dump-flows {bridge} cookie=0x6f66736808000000/0xffffffffff000000"
        ));
        flows.lines().filter(|line| line.contains("cookie=")).count()
    }

    fn programs(&self) -> usize {
        self.net
            .ports()
            .iter()
            .filter(|port| must(&format!("ip -d link show dev {port}")).contains("prog/xdp"))
            .count()
    }
}

impl Bed {
    /// Takes the balancer's programs off all interfaces, as somebody else would; off the clients' first. With those of the
    /// backends gone and the clients' there, answers to connections of XDP reach the clients with the backends' addresses.
    fn detach(&self) {
        let status = self.lb.status();
        let links = status["pins"]["links"].as_array().unwrap().iter();
        let pins = links.map(|link| link["pin"].as_str().unwrap()).filter(|pin| pin.contains("/balance"));
        // The name ends with the interface's number, and the clients' were made last.
        let number = |pin: &&str| pin.rsplit('-').next().unwrap().parse::<u32>().unwrap();
        let mut pins: Vec<&str> = pins.collect();
        pins.sort_unstable_by_key(|pin| std::cmp::Reverse(number(pin)));
        let all: String = pins.iter().map(|pin| format!("link detach pinned {pin}\n")).collect();
        let folder = Folder::new();
        let batch = folder.0.join("detach");
        std::fs::write(&batch, all).unwrap();
        must(&format!("bpftool batch file {}", batch.display()));
    }

    /// Puts another program in the place of the balancer's.
    fn occupy(&self, port: &str) {
        let status = self.lb.status();
        let programs = status["pins"]["programs"].as_array().unwrap();
        let mut pins = programs.iter().map(|program| program["pin"].as_str().unwrap());
        let pass = pins.find(|pin| pin.ends_with("lb_pass")).unwrap();
        // The daemon may be quicker.
        let occupied = || {
            self.detach();
            run(&format!("bpftool net attach xdpdrv pinned {pass} dev {port}")).status.success()
        };
        wait("the hook is another program's", 10, occupied, || format!("{:#?}", self.lb.log()));
    }

    fn wait_for_xdp(&self) {
        let all = self.net.ports().len();
        wait("the programs are back", 20, || self.programs() == all, || format!("{:#?}", self.lb.log()));
        let settled = || self.ofshim().read("status").contains("XDP, says the balancer's daemon");
        wait("XDP balances", 20, settled, || self.ofshim().read("status"));
    }
}

/// Each connection answers, from the host where it began; what is broken.
fn talk(open: &mut [(TcpStream, String)]) -> Vec<String> {
    let mut broken = Vec::new();
    for (stream, at) in open {
        match say(stream, "again") {
            Ok(answer) if answer == format!("{at} again") => {}
            other => broken.push(format!("{other:?} of {at}")),
        }
    }
    broken
}

#[test]
fn open_and_new_connections_survive_moves_between_the_modes() {
    if !root("open_and_new_connections_survive_moves_between_the_modes") {
        return;
    }
    let (connections, moves) = amount();
    allow_descriptors(connections as u64 + 4096);
    let bed = Bed::new(&[6]);
    let mut open = bed.open(5, connections);
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let began = Instant::now();
    let mut broken = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| keep_connecting(&bed.net, 6, VIP.parse().unwrap(), &stop, &counts));
        }
        let _end = StopAtEnd(&stop);
        for number in 0..moves {
            let to = if number % 2 == 0 { "openflow" } else { "xdp" };
            bed.mode(to);
            broken.extend(talk(&mut open));
            let expected = if to == "xdp" { bed.net.ports().len() } else { 0 };
            assert_eq!(bed.programs(), expected, "{to}");
            let right = || (bed.entries() > 0) == (to == "openflow");
            wait("entries come and go", 10, right, || format!("{to}: {} entries", bed.entries()));
        }
    });
    let [served, reset, failed] = counts.numbers();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{connections} open connections, {moves} moves, {} broken; {served} new ones served ({:.0} a second), {reset} \
         reset, {failed} failed in {seconds:.0} s; the longest took {:?}",
        broken.len(),
        served as f64 / seconds,
        counts.longest()
    );
    assert_eq!(broken, Vec::<String>::new());
    assert_eq!((reset, failed), (0, 0), "of {served} new connections");
    assert!(served > 100, "{served}");
}

#[test]
fn traffic_goes_on_when_the_programs_are_taken_off_and_comes_back_to_xdp() {
    if !root("traffic_goes_on_when_the_programs_are_taken_off_and_comes_back_to_xdp") {
        return;
    }
    let bed = Bed::new(&[6]);
    let mut open = bed.open(5, 50);
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    std::thread::scope(|scope| {
        // Two: a packet may be lost with the program that has it, and TCP repeats a SYN after a second.
        for _ in 0..2 {
            scope.spawn(|| keep_connecting(&bed.net, 6, VIP.parse().unwrap(), &stop, &counts));
        }
        let _end = StopAtEnd(&stop);
        wait("new connections", 10, || counts.numbers()[0] > 20, String::new);
        let began = Instant::now();
        bed.detach();
        let detached = began.elapsed();
        let before = counts.numbers()[0];
        wait("new connections go on", 10, || counts.numbers()[0] > before + 5, || format!("{counts:?}"));
        let served = began.elapsed();
        assert_eq!(talk(&mut open), Vec::<String>::new());
        println!(
            "detached within {detached:?}; new connections again after {served:?}, all old ones after {:?}",
            began.elapsed()
        );
        bed.wait_for_xdp();
        assert_eq!(talk(&mut open), Vec::<String>::new());
    });
    let [served, reset, failed] = counts.numbers();
    println!("{served} new connections; the longest took {:?}", counts.longest());
    assert_eq!((reset, failed), (0, 0), "of {served} new connections");
    bed.lb.assert_ledger();
}

#[test]
fn flow_entries_stand_in_while_another_program_has_the_hook() {
    if !root("flow_entries_stand_in_while_another_program_has_the_hook") {
        return;
    }
    let mut bed = Bed::new(&[6]);
    let mut open = bed.open(5, 50);
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let began = std::thread::scope(|scope| {
        scope.spawn(|| keep_connecting(&bed.net, 6, VIP.parse().unwrap(), &stop, &counts));
        let _end = StopAtEnd(&stop);
        wait("new connections", 10, || counts.numbers()[0] > 20, String::new);
        let occupied = bed.net.port(1);
        bed.occupy(&occupied);
        let began = Instant::now();
        wait("flow entries balance", 10, || bed.entries() > 0, || format!("{:#?}", bed.ofshim().log()));
        println!("entries after {:?}", began.elapsed());
        assert_eq!(talk(&mut open), Vec::<String>::new());
        let status = bed.ofshim().read("status");
        assert!(status.contains("this controller, by flow entries"), "{status}");
        must(&format!("bpftool net detach xdpdrv dev {occupied}"));
        bed.wait_for_xdp();
        assert_eq!(talk(&mut open), Vec::<String>::new());
        began
    });
    println!("back at XDP after {:?}", began.elapsed());
    let [served, reset, failed] = counts.numbers();
    assert_eq!((reset, failed), (0, 0), "of {served} new connections");
    bed.ofshim.as_mut().unwrap().wait_for_log("balancing for the balancer's daemon ended");
    wait("entries go", 10, || bed.entries() == 0, String::new);
}

#[test]
fn restarts_in_mode_openflow_keep_it_and_its_connections() {
    if !root("restarts_in_mode_openflow_keep_it_and_its_connections") {
        return;
    }
    let mut bed = Bed::new(&[3, 3]);
    bed.mode("openflow");
    let mut open = bed.open(5, 50);
    // The daemon.
    bed.lb.end("KILL");
    let folder = bed.ofshim().dir();
    bed.lb.start_with(&["--ofshim-dir", &folder]);
    bed.lb.wait_up(&BACKENDS);
    assert_eq!((bed.lb.status()["balancer"].as_str(), bed.programs()), (Some("openflow"), 0));
    assert_eq!(talk(&mut open), Vec::<String>::new());
    // The controller: the switches go on, and the next one takes over what they have.
    let folder = bed.ofshim.take().unwrap().end("KILL");
    assert_eq!(talk(&mut open), Vec::<String>::new(), "without a controller");
    let mut ofshim = Ofshim::start_in(folder, &bed.net, &bed.lb, 2, &[]);
    ofshim.wait_for_log("the balancer's daemon is in mode openflow");
    bed.ofshim = Some(ofshim);
    assert_eq!(talk(&mut open), Vec::<String>::new());
    assert_eq!(talk(&mut bed.open(6, 20)), Vec::<String>::new());
    bed.mode("xdp");
    assert_eq!(talk(&mut open), Vec::<String>::new());
    assert_eq!(bed.programs(), 6);
    wait("entries go", 10, || bed.entries() == 0, String::new);
}

#[test]
fn without_a_controller_nothing_is_handed_over() {
    if !root("without_a_controller_nothing_is_handed_over") {
        return;
    }
    let mut bed = Bed::new(&[6]);
    let mut open = bed.open(5, 5);
    bed.ofshim.take().unwrap().end("TERM");
    let done = bed.lb.ask(&["mode", "openflow"]);
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && text.lines().count() == 1, "{text}");
    assert!(text.contains("no controller answers on"), "{text}");
    assert_eq!((bed.lb.status()["balancer"].as_str(), bed.programs()), (Some("xdp"), 6));
    assert_eq!(talk(&mut open), Vec::<String>::new());
    // Nor to one that leaves balancing to others.
    let folder = Folder::new();
    bed.lb.end("TERM");
    bed.lb.start_with(&["--ofshim-dir", &folder.0.display().to_string()]);
    let _ofshim = Ofshim::start_in(folder, &bed.net, &bed.lb, 1, &["--lb", "none"]);
    let done = bed.lb.ask(&["mode", "openflow"]);
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && text.contains("it was started with --lb none"), "{text}");
    assert_eq!((bed.lb.status()["balancer"].as_str(), bed.programs()), (Some("xdp"), 6));
    assert_eq!(talk(&mut open), Vec::<String>::new());
    bed.lb.assert_ledger();
}

#[test]
fn backends_are_probed_by_the_controller_while_the_daemon_is_silent() {
    if !root("backends_are_probed_by_the_controller_while_the_daemon_is_silent") {
        return;
    }
    let mut bed = Bed::new(&[6]);
    bed.mode("openflow");
    let mut open = bed.open(5, 40);
    bed.lb.end("KILL");
    let ofshim = bed.ofshim.as_mut().expect("a controller");
    ofshim.wait_for_log("the balancer's daemon is silent: its backends are probed from here");
    assert_eq!(talk(&mut open), Vec::<String>::new());
    // One dies without a sign: nobody has its address any more.
    let began = Instant::now();
    bed.net.on(1, "ip address del 10.0.0.1/8 dev eth0");
    bed.ofshim.as_mut().expect("a controller").wait_for_log("backend 10.0.0.1 down");
    println!("known to be down after {:?}", began.elapsed());
    let new = bed.open(6, 40);
    assert!(new.iter().all(|(_, at)| at != "1"), "{:?}", new.iter().map(|(_, at)| at).collect::<Vec<_>>());
    // The others were taken for dead at no time.
    let log = bed.ofshim().log();
    let others = |line: &String| line.contains("backend 10.0.0") && !line.contains("backend 10.0.0.1 ");
    assert_eq!(log.iter().filter(|line| others(line)).count(), 0, "{log:#?}");
    bed.net.on(1, "ip address add 10.0.0.1/8 dev eth0");
    bed.ofshim.as_mut().expect("a controller").wait_for_log("backend 10.0.0.1 up");
    // The daemon is there again, and its word holds.
    let folder = bed.ofshim().dir();
    bed.lb.start_with(&["--ofshim-dir", &folder]);
    bed.lb.wait_up(&BACKENDS);
    bed.ofshim.as_mut().expect("a controller").wait_for_log("the balancer's daemon answers again");
    let status = bed.ofshim().read("status");
    assert!(!status.contains("probed from here"), "{status}");
    assert_eq!(talk(&mut open), Vec::<String>::new());
    bed.mode("xdp");
    assert_eq!(talk(&mut open), Vec::<String>::new());
    assert_eq!(bed.programs(), 6);
}
