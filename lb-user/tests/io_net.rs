//! The rim against a real kernel: namespaces, Mininet's processes, links and their events, bpffs.

mod io_bed;

use std::time::Duration;

use io_bed::{Bed, Namespace, Process, as_root, attach_pass, block_on, ip, run};
use lb_user::io::link::{LinkEvent, XdpMode};
use lb_user::io::netlink::{Netlink, Watch};
use lb_user::io::netns::{NetNs, NsRef, reachable, run_in};
use lb_user::io::{mininet, sys};

#[test]
fn code_runs_inside_and_the_caller_stays_outside() {
    if !as_root("code_runs_inside_and_the_caller_stays_outside") {
        return;
    }
    let bed = Namespace::new();
    let outside = NetNs::current().expect("own").id();
    assert_ne!(bed.ns.id(), outside);
    let inside = run_in(&bed.ns, || NetNs::current().expect("inside").id()).expect("run");
    assert_eq!(inside, bed.ns.id());
    assert_eq!(NetNs::current().expect("own").id(), outside);

    let process = bed.process("iox");
    let id = run_in(&bed.ns, || NetNs::current().expect("inside").id()).expect("run");
    wait_for("the process to be inside", || NetNs::by_pid(process.0.id()).is_ok_and(|ns| ns.id() == id));
    let found = reachable();
    let reference = found.get(&bed.ns.id()).expect("reachable");
    assert_eq!(reference.path.to_str(), Some(format!("/run/netns/{}", bed.name).as_str()));
    assert_eq!(NetNs::open(reference).expect("open").id(), bed.ns.id());
    let text = run_in(&bed.ns, || panic!("on purpose")).expect_err("a panic is an error").to_string();
    assert!(text.contains("ended abnormally"), "{text}");
}

#[test]
fn a_left_over_file_is_no_namespace() {
    if !as_root("a_left_over_file_is_no_namespace") {
        return;
    }
    // What remains of a named namespace when it was unmounted and not deleted.
    let bed = Namespace::new();
    run("umount", &["-l", &format!("/run/netns/{}", bed.name)]);
    let text = NetNs::by_name(&bed.name).expect_err("no namespace").to_string();
    assert!(text.contains("is not a network namespace"), "{text}");
}

#[test]
fn mininet_hosts_and_switches() {
    if !as_root("mininet_hosts_and_switches") {
        return;
    }
    let bed = Namespace::new();
    let host = bed.process("mininet:ioxh1");
    let switch = Process::start(&["bash", "-c", "read x", "mininet:ioxs1"]);
    let _other = Process::start(&["bash", "-c", "read x", "mininet:ioxs1", "not-last"]);
    let pid = host.0.id();
    wait_for("the host to be inside", || NetNs::by_pid(pid).is_ok_and(|ns| ns.id() == bed.ns.id()));
    wait_for("both to be found", || {
        let nodes = mininet::find().expect("find");
        let mut hosts = nodes.hosts_named("ioxh1");
        let expected = NsRef { id: bed.ns.id(), path: format!("/proc/{pid}/ns/net").into() };
        let one = hosts.next().is_some_and(|node| node.pid == pid && node.ns == expected);
        let local: Vec<_> = nodes.local.iter().filter(|node| node.name == "ioxs1").collect();
        one && hosts.next().is_none() && matches!(local[..], [node] if node.pid == switch.0.id())
    });
}

#[test]
fn links_with_peers_addresses_and_qdiscs() {
    if !as_root("links_with_peers_addresses_and_qdiscs") {
        return;
    }
    let bed = Bed::new();
    bed.switch.ip("link add swa type veth peer name swb");
    bed.switch.ip("link add br0 type bridge");
    bed.switch.ip("link set swa master br0");
    bed.host.ip("link set h-eth0 mtu 9000");
    block_on(async {
        let root = Netlink::open(&bed.switch.ns).expect("netlink");
        let nsid =
            root.nsid_of(&bed.host.ns).await.expect("nsid").expect("the host's namespace has a number");
        let (port, host) = (bed.switch.link("sw1").await, bed.host.link("h-eth0").await);
        assert!(port.is_veth() && port.up && port.carrier, "{port:?}");
        assert_eq!((port.peer_ifindex, port.peer_nsid), (Some(host.ifindex), Some(nsid)));
        assert_eq!(host.peer_ifindex, Some(port.ifindex));
        assert_eq!((port.mtu, host.mtu), (1500, 9000));
        assert_eq!(host.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.77.0.1/24"]);
        assert!(host.mac.is_some_and(|mac| bed.host.ip("link show h-eth0").contains(&mac.to_string())));
        assert_eq!((port.qdisc.as_deref(), port.shaping.as_deref()), (Some("noqueue"), None));
        assert_eq!(port.xdp, None);

        let (a, b, br) =
            (bed.switch.link("swa").await, bed.switch.link("swb").await, bed.switch.link("br0").await);
        assert_eq!((a.peer_ifindex, a.peer_nsid, a.master), (Some(b.ifindex), None, Some(br.ifindex)));
        assert_eq!((br.kind.as_deref(), br.peer_ifindex), (Some("bridge"), None));
        assert!(!a.up && !a.carrier, "{a:?}");

        let stranger = Namespace::new();
        assert_eq!(root.nsid_of(&stranger.ns).await.expect("nsid"), None);
        assert_eq!(root.link_by_name("nosuch").await.expect("links"), None);
    });
}

#[test]
fn shaping_is_seen_at_the_root_and_below() {
    if !as_root("shaping_is_seen_at_the_root_and_below") {
        return;
    }
    let bed = Bed::new();
    block_on(async {
        let root = Netlink::open(&bed.switch.ns).expect("netlink");
        let ifindex = bed.switch.link("sw1").await.ifindex;
        assert_eq!(root.shaping_qdisc(ifindex).await.expect("qdiscs"), Vec::<String>::new());

        // As TCLink with bw=1 does it.
        bed.switch.run("tc qdisc add dev sw1 root handle 5:0 htb default 1");
        bed.switch.run("tc class add dev sw1 parent 5:0 classid 5:1 htb rate 1mbit burst 15k");
        assert_eq!(root.shaping_qdisc(ifindex).await.expect("qdiscs"), ["htb"]);
        assert_eq!(bed.switch.link("sw1").await.shaping.as_deref(), Some("htb"));

        // Harmless at the root, shaping below it.
        bed.switch.ip("link add sw2 numtxqueues 2 type veth peer name sw3");
        bed.switch.run("tc qdisc add dev sw2 root handle 1: mq");
        bed.switch.run("tc qdisc add dev sw2 parent 1:1 tbf rate 1mbit burst 10k latency 50ms");
        let link = bed.switch.link("sw2").await;
        assert_eq!((link.qdisc.as_deref(), link.shaping.as_deref()), (Some("mq"), Some("tbf")));
        let qdiscs = root.qdiscs(link.ifindex).await.expect("qdiscs");
        assert_eq!((qdiscs[0].kind.as_str(), qdiscs[0].root), ("mq", true), "{qdiscs:?}");
    });
}

#[test]
fn an_attached_program_is_reported() {
    if !as_root("an_attached_program_is_reported") {
        return;
    }
    let bed = Bed::new();
    block_on(async {
        let attached = attach_pass(&bed.switch.ns, bed.switch.link("sw1").await.ifindex);
        let xdp = bed.switch.link("sw1").await.xdp.expect("a program");
        assert_eq!(xdp.mode, XdpMode::Native);
        assert!(bed.switch.ip("link show sw1").contains(&format!("prog/xdp id {} ", xdp.prog_id)));
        drop(attached);
        assert_eq!(bed.switch.link("sw1").await.xdp, None);
    });
}

#[test]
fn neighbours_by_address() {
    if !as_root("neighbours_by_address") {
        return;
    }
    let bed = Bed::new();
    bed.host.ip("neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev h-eth0 nud permanent");
    bed.host.ip("neigh add 10.77.0.8 dev h-eth0 nud failed");
    block_on(async {
        let netlink = Netlink::open(&bed.host.ns).expect("netlink");
        let ifindex = bed.host.link("h-eth0").await.ifindex;
        let mac = |last: u8| {
            let netlink = &netlink;
            async move { netlink.neighbour_mac(ifindex, [10, 77, 0, last].into()).await.expect("neighbours") }
        };
        assert_eq!(mac(9).await.map(|mac| mac.to_string()).as_deref(), Some("02:00:00:00:00:09"));
        assert_eq!(mac(8).await, None, "failed");
        assert_eq!(mac(7).await, None, "unknown");
    });
}

#[test]
fn link_events_tell_deletion_from_leaving_a_bridge() {
    if !as_root("link_events_tell_deletion_from_leaving_a_bridge") {
        return;
    }
    let bed = Bed::new();
    bed.switch.ip("link add br0 type bridge");
    block_on(async {
        let mut watch = Watch::open(&bed.switch.ns).expect("watch");
        let mut elsewhere = Watch::open(&bed.host.ns).expect("watch");
        let port = bed.switch.link("sw1").await;
        bed.switch.ip("link set sw1 master br0");
        bed.switch.ip("link set sw1 nomaster");
        bed.switch.ip("link add late type veth peer name latepeer");
        let mut deleted = Vec::new();
        let late = loop {
            match next(&mut watch).await {
                LinkEvent::Changed(link) if link.name == "late" => break *link,
                LinkEvent::Deleted { name, .. } => deleted.push(name),
                _ => {}
            }
        };
        assert_eq!(deleted, Vec::<String>::new(), "leaving a bridge is not deletion");
        assert!(late.is_veth());

        bed.switch.ip("link del sw1");
        let gone = loop {
            if let LinkEvent::Deleted { name, ifindex } = next(&mut watch).await {
                break (name, ifindex);
            }
        };
        assert_eq!(gone, ("sw1".to_owned(), port.ifindex));
        let gone = loop {
            if let LinkEvent::Deleted { name, .. } = next(&mut elsewhere).await {
                break name;
            }
        };
        assert_eq!(gone, "h-eth0", "the other end, in its own namespace");
    });
}

#[test]
fn bpffs_is_recognised_and_mounted() {
    if !as_root("bpffs_is_recognised_and_mounted") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("iox-bpf-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("folder");
    let before = sys::is_bpffs(&folder);
    let mounted = sys::mount_bpffs(&folder);
    let after = sys::is_bpffs(&folder);
    if mounted.is_ok() {
        run("umount", &[folder.to_str().expect("path")]);
    }
    std::fs::remove_dir(&folder).expect("remove");
    mounted.expect("mount");
    assert!(!before.expect("look") && after.expect("look"));
}

#[test]
fn root_has_what_is_needed() {
    if !as_root("root_has_what_is_needed") {
        return;
    }
    assert_eq!(sys::missing_capabilities(), Vec::<&str>::new());
    assert!(sys::has_btf());
    assert!(ip("-V").contains("iproute2"));
}

async fn next(watch: &mut Watch) -> LinkEvent {
    let event = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
    event.expect("an event within 5 s").expect("the watch goes on")
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..250 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited 5 s for {what}");
}
