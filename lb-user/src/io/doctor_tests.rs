//! Every finding, from facts written by hand.

use super::*;

fn ns(number: u64) -> NsRef {
    NsRef { id: NsId { dev: 4, ino: number }, path: PathBuf::from(format!("/proc/{number}/ns/net")) }
}

fn side(host: &str, ifname: &str, number: u64, xdp: Option<u32>) -> Side {
    Side {
        ns: ns(number),
        host: host.to_owned(),
        ifname: ifname.to_owned(),
        ifindex: 2,
        mtu: 1500,
        xdp: xdp.map(|prog_id| XdpAttachment { prog_id, mode: XdpMode::Native }),
    }
}

/// A machine on which the daemon runs and all is well.
fn healthy() -> Findings {
    let (port, nic) = (side("", "s1-eth1", 1, Some(40)), side("h1", "h1-eth0", 101, Some(41)));
    let offloads = OffloadsOn { side: nic.clone(), wanted_off: Offloads::PEER, active: Ok(Vec::new()) };
    let attached = BTreeMap::from([((ns(1).id, 2), Via::Link), ((ns(101).id, 2), Via::Link)]);
    Findings {
        kernel: Some(KernelVersion { major: 6, minor: 18 }),
        btf: true,
        bpffs_path: PathBuf::from("/sys/fs/bpf/lb"),
        bpffs: Ok(true),
        missing_capabilities: Vec::new(),
        ovs: Ok(1),
        network: Ok(Network {
            pairs: vec![Pair { balancer: port, partner: Some(nic), shaping: None }],
            offloads: vec![offloads],
            skipped: vec![("s1-eth9".to_owned(), "a link between switches, to s2-eth1".to_owned())],
        }),
        attached: Some(attached),
    }
}

/// The findings with one thing changed, and the only check that is not well then.
fn one_finding(change: impl FnOnce(&mut Findings)) -> Check {
    let mut findings = healthy();
    change(&mut findings);
    let all = checks(&findings);
    let mut bad: Vec<_> = all.into_iter().filter(|check| check.status != Status::Ok).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    bad.remove(0)
}

fn network(findings: &mut Findings) -> &mut Network {
    findings.network.as_mut().expect("a network")
}

fn pair(findings: &mut Findings) -> &mut Pair {
    &mut network(findings).pairs[0]
}

fn partner(findings: &mut Findings) -> &mut Side {
    pair(findings).partner.as_mut().expect("a partner")
}

#[test]
fn a_healthy_machine_passes_every_check() {
    let all = checks(&healthy());
    assert_eq!(worst(&all), Status::Ok, "{all:?}");
    let names: Vec<_> = all.iter().map(|check| check.name.as_str()).collect();
    let machine = ["kernel", "btf", "bpffs", "privileges", "openvswitch", "ports"];
    assert_eq!(names[..6], machine);
    assert_eq!(names[6..], ["program", "peer-program", "tx-checksum", "tx-vlan", "mtu"]);
    assert!(all.iter().all(|check| check.mend.is_none()));
    assert!(all[5].what.contains("not s1-eth9: a link between switches"), "{}", all[5].what);
}

#[test]
fn whatever_is_not_well_names_a_mend() {
    let mut findings = healthy();
    findings.kernel = None;
    findings.btf = false;
    findings.bpffs = Err("denied".to_owned());
    findings.missing_capabilities = vec!["CAP_BPF".to_owned()];
    findings.ovs = Err(OvsError::Failed("x".to_owned()));
    findings.network = Err("no host-facing switch port found".to_owned());
    let all = checks(&findings);
    assert!(all.iter().all(|check| check.status != Status::Ok && check.mend.is_some()), "{all:?}");
    assert_eq!(worst(&all), Status::Fail);
}

#[test]
fn kernels() {
    let version = |minor| Some(KernelVersion { major: 5, minor });
    assert_eq!(one_finding(|f| f.kernel = version(10)).status, Status::Fail);
    assert_eq!(one_finding(|f| f.kernel = version(19)).status, Status::Warn);
}

#[test]
fn bpffs_not_mounted() {
    let found = one_finding(|f| f.bpffs = Ok(false));
    assert_eq!((found.name.as_str(), found.status), ("bpffs", Status::Fail));
    assert_eq!(found.mend.as_deref(), Some("mount -t bpf bpf /sys/fs/bpf"));
    let found = one_finding(|f| {
        f.bpffs = Ok(false);
        f.bpffs_path = PathBuf::from("/run/lb/bpf");
    });
    assert_eq!(found.mend.as_deref(), Some("mount -t bpf bpf /run/lb/bpf"));
}

#[test]
fn no_privileges() {
    let found =
        one_finding(|f| f.missing_capabilities = vec!["CAP_NET_ADMIN".to_owned(), "CAP_BPF".to_owned()]);
    assert_eq!((found.status, found.what.as_str()), (Status::Fail, "missing CAP_NET_ADMIN, CAP_BPF"));
}

#[test]
fn open_vswitch_stopped_or_absent() {
    let found = one_finding(|f| f.ovs = Err(OvsError::NotRunning));
    assert_eq!(found.status, Status::Fail);
    assert_eq!(found.mend.as_deref(), Some("/usr/share/openvswitch/scripts/ovs-ctl start"));
    assert_eq!(one_finding(|f| f.ovs = Err(OvsError::NotInstalled)).status, Status::Warn);
}

#[test]
fn a_peer_without_a_program() {
    let found = one_finding(|f| partner(f).xdp = None);
    assert_eq!((found.name.as_str(), found.subject.as_str()), ("peer-program", "h1-eth0 in h1"));
    assert_eq!(found.status, Status::Fail);
    assert!(found.mend.is_some_and(|mend| mend.contains("lb run")));
}

#[test]
fn transmit_checksum_offload_is_on() {
    let on = vec!["tx-checksum-ip-generic".to_owned(), "tx-checksum-sctp".to_owned()];
    let found = one_finding(|f| network(f).offloads[0].active = Ok(on));
    assert_eq!((found.name.as_str(), found.status), ("tx-checksum", Status::Fail));
    assert_eq!(found.mend.as_deref(), Some("nsenter --net=/proc/101/ns/net ethtool -K h1-eth0 tx off"));
}

#[test]
fn transmit_vlan_insertion_is_on() {
    let on = vec!["tx-vlan-hw-insert".to_owned(), "tx-vlan-stag-hw-insert".to_owned()];
    let found = one_finding(|f| network(f).offloads[0].active = Ok(on));
    assert_eq!(found.name, "tx-vlan");
    let mend = "nsenter --net=/proc/101/ns/net ethtool -K h1-eth0 txvlan off tx-vlan-stag-hw-insert off";
    assert_eq!(found.mend.as_deref(), Some(mend));
}

#[test]
fn receive_vlan_stripping_on_hardware() {
    let found = one_finding(|f| {
        pair(f).partner = None;
        let port = pair(f).balancer.clone();
        let active = Ok(vec!["rx-vlan-hw-parse".to_owned()]);
        network(f).offloads = vec![OffloadsOn { side: port, wanted_off: Offloads::NIC, active }];
        pair(f).balancer.xdp = Some(XdpAttachment { prog_id: 40, mode: XdpMode::Native });
    });
    assert_eq!(found.name, "rx-vlan");
    assert_eq!(found.mend.as_deref(), Some("ethtool -K s1-eth1 rxvlan off"));
}

#[test]
fn unreadable_offloads() {
    let found = one_finding(|f| network(f).offloads[0].active = Err("gone".to_owned()));
    assert_eq!((found.name.as_str(), found.status), ("offloads", Status::Warn));
}

#[test]
fn generic_mode_netlink_and_strangers() {
    let generic = XdpAttachment { prog_id: 40, mode: XdpMode::Generic };
    let found = one_finding(|f| pair(f).balancer.xdp = Some(generic));
    assert_eq!((found.name.as_str(), found.status), ("program", Status::Warn));
    assert!(found.what.contains("generic"), "{}", found.what);

    let found = one_finding(|f| {
        f.attached = Some(BTreeMap::from([((ns(1).id, 2), Via::Netlink)]));
    });
    assert!(found.what.contains("netlink"), "{}", found.what);

    let found = one_finding(|f| f.attached = Some(BTreeMap::new()));
    assert_eq!(found.status, Status::Fail);
    assert!(found.what.contains("not ours"), "{}", found.what);
    assert_eq!(found.mend.as_deref(), Some("ip link set dev s1-eth1 xdp off"));
}

#[test]
fn shaping_and_mtu() {
    let found = one_finding(|f| pair(f).shaping = Some("htb".to_owned()));
    assert_eq!((found.name.as_str(), found.status), ("shaping", Status::Warn));
    assert_eq!(found.mend.as_deref(), Some("tc qdisc del dev s1-eth1 root"));

    let found = one_finding(|f| partner(f).mtu = 9000);
    assert_eq!((found.name.as_str(), found.status), ("mtu", Status::Warn));
    let mend = "nsenter --net=/proc/101/ns/net ip link set dev h1-eth0 mtu 1500";
    assert_eq!(found.mend.as_deref(), Some(mend));
}

#[test]
fn before_the_first_run_nothing_fails() {
    let mut findings = healthy();
    findings.attached = None;
    pair(&mut findings).balancer.xdp = None;
    partner(&mut findings).xdp = None;
    network(&mut findings).offloads[0].active = Ok(vec!["tx-checksum-ip-generic".to_owned()]);
    let all = checks(&findings);
    assert_eq!(worst(&all), Status::Warn, "{all:?}");
    let bad: Vec<_> = all.iter().filter(|c| c.status == Status::Warn).map(|c| c.name.as_str()).collect();
    assert_eq!(bad, ["program", "peer-program", "tx-checksum"]);
    assert!(all.iter().filter(|check| check.mend.is_some()).all(|check| check.what.contains("lb run")));
}

#[test]
fn the_folder_above_counts_until_the_pins_are_there() {
    let seen = existing_ancestor(Path::new("/proc/no/such/folder"), |path| Ok(path.to_owned()));
    assert_eq!(seen, Ok(PathBuf::from("/proc")));
}
