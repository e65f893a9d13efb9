//! Discovery from a real kernel's facts: a switch's namespace with hosts behind veths.

mod io_bed;

use io_bed::{Bed, Namespace, Process, as_root, attach_pass, block_on};
use lb_user::io::discovery::{self, DiscoveryError};
use lb_user::io::facts::{Facts, gather};
use lb_user::io::link::XdpMode;
use lb_user::io::netns::{NetNs, run_in};
use lb_user::io::ovs::{Bridge, Port};

/// Gathers as a daemon inside the switch's namespace would, with an Open vSwitch that has one bridge.
fn gather_in(bed: &Bed, ports: &[&str]) -> Facts {
    let mut facts = run_in(&bed.switch.ns, || block_on(gather())).expect("namespace").expect("facts");
    let ports = ports.iter().map(|name| Port { name: (*name).to_owned(), kind: String::new() }).collect();
    facts.bridges = Ok(vec![Bridge { name: "sw".to_owned(), datapath_type: "netdev".to_owned(), ports }]);
    facts
}

fn host_process(host: &Namespace, name: &str) -> Process {
    let process = host.process(name);
    for _ in 0..250 {
        if NetNs::by_pid(process.0.id()).is_ok_and(|ns| ns.id() == host.ns.id()) {
            return process;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{name} did not enter its namespace within 5 s");
}

#[test]
fn ports_hosts_and_backends_of_a_real_network() {
    if !as_root("ports_hosts_and_backends_of_a_real_network") {
        return;
    }
    let bed = Bed::new();
    let second = Namespace::new();
    bed.switch.ip(&format!("link add sw2 type veth peer name eth0 netns {}", second.name));
    second.ip("addr add 10.77.0.2/24 dev eth0");
    bed.switch.ip("link add sw3 type veth peer name sw4");
    bed.switch.run("tc qdisc add dev sw2 root tbf rate 1mbit burst 10k latency 50ms");
    let process = host_process(&bed.host, "mininet:ioxh1");
    let _program = attach_pass(&bed.switch.ns, block_on(bed.switch.link("sw1")).ifindex);

    let facts = gather_in(&bed, &["sw1", "sw2", "sw3", "sw4"]);
    assert_eq!(facts.spaces.len(), 2, "{:?}", facts.spaces);
    let backend = [10, 77, 0, 1].into();
    let found = discovery::inline(&facts, &[], &[backend]).expect("found");
    let [first, shaped] = &found.ports[..] else { panic!("two ports: {:?}", found.ports) };
    assert_eq!((first.ifname.as_str(), &first.backends), ("sw1", &vec![backend]));
    assert_eq!(first.xdp.map(|xdp| xdp.mode), Some(XdpMode::Native));
    let peer = first.peer.as_ref().expect("peer");
    let nic = block_on(bed.host.link("h-eth0"));
    assert_eq!((peer.ifindex, Some(peer.mac)), (nic.ifindex, nic.mac));
    assert_eq!((peer.host.as_deref(), peer.ns.id), (Some("ioxh1"), bed.host.ns.id()));
    assert_eq!(NetNs::open(&peer.ns).expect("open").id(), bed.host.ns.id());
    assert!(peer.ns.path.to_str().is_some_and(|path| path.contains(&process.0.id().to_string())));
    assert_eq!((shaped.ifname.as_str(), shaped.shaping.as_deref()), ("sw2", Some("tbf")));
    assert_eq!(shaped.peer.as_ref().map(|peer| peer.label.clone()), Some(second.name.clone()));
    let skipped: Vec<_> = found.skipped.iter().map(|s| s.ifname.as_str()).collect();
    assert_eq!(skipped, ["sw3", "sw4"], "links between switches");

    let arm = discovery::onearm(&facts, "ioxh1", &[[10, 77, 0, 2].into()]).expect("found");
    assert_eq!((arm.nic.ifname.as_str(), arm.port.ifname.as_str()), ("h-eth0", "sw1"));
    assert_eq!(arm.backends[0].mac, block_on(second.link("eth0")).mac);
    let error = discovery::onearm(&facts, "iox-nobody", &[]).expect_err("no such host");
    assert!(
        matches!(error, DiscoveryError::HostMissing { found, .. } if found.contains(&"ioxh1".to_owned()))
    );
}
