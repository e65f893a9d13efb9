//! The binary against Open vSwitch, with hosts in namespaces, in both versions.

mod support;

use std::time::Duration;

use support::ovs::{Bridge, root};
use support::{Controller, Folder};

const BOTH: [&str; 2] = ["1.0", "1.3"];
/// The upper half of the controller's cookies, and the purposes.
const OURS: &str = "0x6f667368";
const FORWARD: &str = "0x6f66736802";
const TRANSIT: &str = "0x6f66736803";
const HOLD: &str = "0x6f66736804";

/// A controller and a bridge that is ready.
fn network(openflow: &str, hosts: u32, options: &[&str]) -> (Controller, Bridge) {
    let bridge = Bridge::new(openflow, hosts);
    let controller = Controller::learning(options);
    bridge.connect(&controller.address());
    controller.wait_for_log(&format!("is ready: OpenFlow {openflow}"));
    (controller, bridge)
}

fn packet_ins(controller: &Controller) -> u64 {
    controller.read("status")["switches"][0]["packet_ins"].as_u64().unwrap()
}

#[test]
fn hosts_reach_each_other_and_entries_do_the_work() {
    if !root("hosts_reach_each_other_and_entries_do_the_work") {
        return;
    }
    for openflow in BOTH {
        // Neither side is told the version: the bridge has the one, the controller offers both.
        let (controller, bridge) = network(openflow, 3, &[]);
        for (from, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            assert!(bridge.ping(from, &format!("10.77.0.{to}"), 2), "{openflow}: {from} -> {to}");
        }
        assert_eq!(bridge.flows(FORWARD).len(), 6, "{:#?}", bridge.flows(""));
        let before = packet_ins(&controller);
        assert!(bridge.ping(1, "10.77.0.2", 20));
        assert_eq!(packet_ins(&controller), before, "{openflow}: entries carry what is known");

        let hosts = controller.read("hosts");
        let hosts = hosts["hosts"].as_array().unwrap();
        assert_eq!(hosts.len(), 3, "{hosts:?}");
        assert_eq!((&hosts[1]["address"], &hosts[1]["port"]), (&"10.77.0.2".into(), &2.into()));
        let flows = controller.read("flows");
        assert_eq!(flows["flows"].as_array().unwrap().len(), 6);
        assert_eq!(controller.logged("WARN"), 0, "{:#?}", controller.log());
    }
}

#[test]
fn a_reconnect_keeps_what_is_there() {
    if !root("a_reconnect_keeps_what_is_there") {
        return;
    }
    for openflow in BOTH {
        let (mut controller, bridge) = network(openflow, 2, &["--idle-timeout", "60"]);
        let foreign = "cookie=0x1234,priority=5,udp,tp_dst=9,actions=drop";
        bridge.ofctl("add-flow", foreign);
        assert!(bridge.ping(1, "10.77.0.2", 3));
        assert_eq!(bridge.flows(FORWARD).len(), 2);
        let ours = bridge.flows(OURS).len();
        let address = controller.address();

        assert_eq!(controller.end("KILL"), None);
        assert!(bridge.ping(1, "10.77.0.2", 3), "{openflow}: forwarding goes on without a controller");
        let later = Controller::learning(&["--listen", &address, "--idle-timeout", "60"]);
        later.wait_for_log("2 entries of ours kept, 0 removed");
        assert_eq!(bridge.flows(OURS).len(), ours, "{openflow}: nothing wiped, nothing doubled");
        assert_eq!(bridge.flows("0x1234").len(), 1);
        assert!(bridge.ping(2, "10.77.0.1", 10));
        assert_eq!(packet_ins(&later), 0, "{openflow}: the entries still carry it");
        drop(later);

        // A controller that wants other timeouts replaces its own entries, and those alone.
        let other = Controller::learning(&["--listen", &address, "--idle-timeout", "30"]);
        other.wait_for_log("0 entries of ours kept, 2 removed");
        other.wait("the old entries are gone", || bridge.flows(FORWARD).is_empty());
        let bundled = usize::from(openflow == "1.3");
        assert_eq!(other.logged("is ready: OpenFlow 1.3, bundles"), bundled, "Open vSwitch knows them");
        assert_eq!(bridge.flows("0x1234").len(), 1);
        assert!(bridge.ping(1, "10.77.0.2", 3));
        assert_eq!(other.logged("WARN"), 0, "{:#?}", other.log());
    }
}

#[test]
fn entries_that_time_out_are_noticed() {
    if !root("entries_that_time_out_are_noticed") {
        return;
    }
    for openflow in BOTH {
        let (controller, bridge) = network(openflow, 2, &["--idle-timeout", "1"]);
        assert!(bridge.ping(1, "10.77.0.2", 2));
        let known = || controller.read("flows")["flows"].as_array().unwrap().len();
        assert_eq!((known(), bridge.flows(FORWARD).len()), (2, 2));
        controller.wait("the controller knows of no entry any more", || known() == 0);
        assert_eq!(bridge.flows(FORWARD).len(), 0);
        assert_eq!(controller.read("hosts")["hosts"].as_array().unwrap().len(), 2, "hosts stay known");
    }
}

#[test]
fn a_link_that_goes_down_takes_its_entries_along_at_once() {
    if !root("a_link_that_goes_down_takes_its_entries_along_at_once") {
        return;
    }
    for openflow in BOTH {
        let (controller, bridge) = network(openflow, 3, &[]);
        assert!(bridge.ping(1, "10.77.0.2", 2) && bridge.ping(1, "10.77.0.3", 2));
        assert_eq!(bridge.flows(FORWARD).len(), 4);
        bridge.on(2, "ip link set eth0 down");
        controller.wait_for_log("is down");
        controller.wait("only the others' entries are left", || bridge.flows(FORWARD).len() == 2);
        bridge.on(2, "ip link set eth0 up");
        controller.wait_for_log("is up");
        assert!(bridge.ping(1, "10.77.0.2", 3));
    }
}

#[test]
fn a_host_that_moves_is_found() {
    if !root("a_host_that_moves_is_found") {
        return;
    }
    for openflow in BOTH {
        let (controller, bridge) = network(openflow, 3, &[]);
        assert!(bridge.ping(1, "10.77.0.2", 2));
        // Host 3 takes the place of host 2, MAC and address, as a machine that was plugged in elsewhere.
        bridge.on(2, "ip address del 10.77.0.2/24 dev eth0");
        bridge.on(3, "ip link set eth0 address 02:00:00:00:00:02");
        bridge.on(3, "ip address add 10.77.0.2/24 dev eth0");
        assert!(bridge.ping(3, "10.77.0.1", 2), "{openflow}");
        assert!(bridge.ping(1, "10.77.0.2", 2), "{openflow}");
        assert_eq!(controller.logged("host 02:00:00:00:00:02 moved from port 2 to port 3"), 1);
    }
}

#[test]
fn inline_what_is_for_a_vip_is_held_and_never_flooded() {
    if !root("inline_what_is_for_a_vip_is_held_and_never_flooded") {
        return;
    }
    let folder = Folder::new();
    let file = folder.file(
        "lb.toml",
        "[[vip]]\naddress = \"10.77.1.1\"\nport = 80\n\n[[vip.backend]]\naddress = \"10.77.0.1\"\n",
    );
    for openflow in BOTH {
        let (controller, bridge) = network(openflow, 3, &["--config", &file]);
        assert!(bridge.ping(3, "10.77.0.1", 2));
        bridge.on(3, "ip route add 10.77.1.1/32 dev eth0");
        // ARP for the VIP: nobody else hears it.
        let before = (bridge.received(1), bridge.received(2));
        assert!(!bridge.ping(3, "10.77.1.1", 1));
        controller.wait_for_log("an ARP request for VIP 10.77.1.1 reached the switch at port 3");
        // And with the virtual MAC known.
        bridge.on(3, "ip neighbour replace 10.77.1.1 lladdr 02:6c:0a:4d:01:01 dev eth0 nud permanent");
        assert!(!bridge.ping(3, "10.77.1.1", 3));
        controller.wait_for_log("no XDP program of the balancer is attached there");
        assert_eq!(bridge.flows(HOLD).len(), 1, "{openflow}");
        assert_eq!(
            (bridge.received(1), bridge.received(2)),
            before,
            "{openflow}: nobody else heard any of it"
        );
        assert!(bridge.ping(3, "10.77.0.1", 2), "{openflow}: the rest goes on");
        controller.wait("the entry is short-lived", || bridge.flows(HOLD).is_empty());
    }
}

#[test]
fn one_armed_what_is_for_a_vip_goes_to_the_balancer_alone() {
    if !root("one_armed_what_is_for_a_vip_goes_to_the_balancer_alone") {
        return;
    }
    let folder = Folder::new();
    let file = folder.file(
        "lb.toml",
        "[placement]\nkind = \"onearm\"\nhost = \"lb1\"\n\n[[vip]]\naddress = \"10.77.1.1\"\nmode = \"dsr\"\nport = 80\n\n\
         [[vip.backend]]\naddress = \"10.77.0.1\"\n",
    );
    for openflow in BOTH {
        let (controller, bridge) = network(openflow, 4, &["--config", &file]);
        // Host 4 stands in for the balancer: it has the VIP, and speaks with the virtual MAC.
        bridge.on(4, "ip link set eth0 address 02:6c:0a:4d:01:01");
        bridge.on(4, "ip address add 10.77.1.1/32 dev eth0");
        bridge.on(3, "ip route add 10.77.1.1/32 dev eth0");
        assert!(bridge.ping(3, "10.77.1.1", 3), "{openflow}: the first request is answered");
        let before = (bridge.received(1), bridge.received(2));
        bridge.on(3, "ip neighbour flush dev eth0");
        assert!(bridge.ping(3, "10.77.1.1", 3), "{openflow}");
        assert_eq!(
            (bridge.received(1), bridge.received(2)),
            before,
            "{openflow}: nobody else heard any of it"
        );
        assert_eq!(bridge.flows(TRANSIT).len(), 2, "{openflow}");
        let hosts = controller.read("hosts").to_string();
        assert!(!hosts.contains("02:6c:0a:4d:01:01"), "the virtual MAC is not learned: {hosts}");
    }
}

#[test]
fn entries_that_somebody_wipes_come_back() {
    if !root("entries_that_somebody_wipes_come_back") {
        return;
    }
    for openflow in BOTH {
        let (controller, bridge) = network(openflow, 2, &[]);
        assert!(bridge.ping(1, "10.77.0.2", 2));
        bridge.ofctl("del-flows", "");
        if openflow == "1.3" {
            controller.wait_for_log("a table-miss entry was deleted; putting it back");
        }
        std::thread::sleep(Duration::from_millis(200));
        assert!(bridge.ping(1, "10.77.0.2", 3), "{openflow}");
        assert_eq!(bridge.flows(FORWARD).len(), 2);
    }
}
