use super::entries::parse;
use super::*;

fn bridge() -> Bridge {
    Bridge {
        name: "br0".to_owned(),
        dpid: "0000000000000001".to_owned(),
        protocols: vec!["OpenFlow13".to_owned()],
        fail_mode: Some("secure".to_owned()),
        out_of_band: true,
        spanning_tree: false,
        controllers: vec![Target {
            address: "tcp:127.0.0.1:6653".to_owned(),
            connected: true,
            role: Some("other".to_owned()),
            error: None,
        }],
        interfaces: vec![Interface { name: "p1".to_owned(), enabled: true, up: true, error: None }],
        entries: Ok(parse(" cookie=0x6f66736801000000, table=0, priority=0 actions=goto_table:1\n")),
    }
}

fn facts(bridges: Vec<Bridge>) -> Facts {
    let running = Running {
        listen: vec!["127.0.0.1:6653".to_owned()],
        tls: false,
        switches: vec!["0000000000000001".to_owned()],
    };
    let ovs = Ovs { version: "3.1.0".to_owned(), bridges, ..Ovs::default() };
    Facts { controller: Ok(running), ovs: Ok(ovs) }
}

/// What is not well with a bridge: name, level and mend of each finding.
fn findings(change: impl FnOnce(&mut Bridge)) -> Vec<(String, Level, String)> {
    let mut changed = bridge();
    change(&mut changed);
    let checks = checks(&facts(vec![changed])).into_iter();
    let bad = checks.filter(|check| check.status > Level::Ok);
    bad.map(|check| (check.name, check.status, check.mend.unwrap_or_default())).collect()
}

fn finding(name: &str, level: Level, mend: &str) -> Vec<(String, Level, String)> {
    vec![(name.to_owned(), level, mend.to_owned())]
}

#[test]
fn a_bridge_that_is_as_it_should_be() {
    assert_eq!(findings(|_| {}), []);
    let report = Report::of(&facts(vec![bridge()]));
    assert_eq!(report.status, Level::Ok);
    let shown = text(&report);
    assert!(shown.contains("tcp:127.0.0.1:6653 is connected, role other"), "{shown}");
    assert!(shown.contains("of ofshim: 1 table-miss"), "{shown}");
}

#[test]
fn each_fault_is_named_with_its_mend() {
    use Level::{Fail, Warn};
    let set = "ovs-vsctl set-controller br0 tcp:127.0.0.1:6653";
    assert_eq!(
        findings(|bridge| bridge.fail_mode = None),
        finding("fail-mode", Warn, "ovs-vsctl set-fail-mode br0 secure")
    );
    assert_eq!(
        findings(|bridge| bridge.out_of_band = false),
        finding("in-band", Warn, "ovs-vsctl set bridge br0 other-config:disable-in-band=true")
    );
    assert_eq!(
        findings(|bridge| bridge.protocols = vec!["OpenFlow14".to_owned()]),
        finding("openflow", Fail, "ovs-vsctl set bridge br0 protocols=OpenFlow13")
    );
    assert_eq!(findings(|bridge| bridge.protocols = vec![]), []);
    assert_eq!(findings(|bridge| bridge.controllers.clear()), finding("controllers", Fail, set));
    assert_eq!(
        findings(|bridge| bridge.spanning_tree = true),
        finding("spanning-tree", Warn, "ovs-vsctl set bridge br0 stp_enable=false rstp_enable=false")
    );
    assert_eq!(
        findings(|bridge| bridge.interfaces[0].enabled = false),
        finding("port", Warn, "ip link set p1 up")
    );
    let error = "could not open network device p1 (No such device)".to_owned();
    let found = findings(|bridge| bridge.interfaces[0].error = Some(error));
    assert_eq!(found, finding("port", Fail, "ovs-vsctl del-port br0 p1, or bring the device back"));
    // The bridge's own port need not be used.
    assert_eq!(
        findings(|bridge| bridge.interfaces.push(Interface {
            name: "br0".to_owned(),
            enabled: false,
            up: false,
            error: None
        })),
        []
    );
}

#[test]
fn controllers_that_are_not_this_one_or_twice_this_one() {
    let set = "ovs-vsctl set-controller br0 tcp:127.0.0.1:6653";
    let target = |address: &str| Target { address: address.to_owned(), connected: true, ..Target::default() };
    let twice = findings(|bridge| {
        bridge.controllers.push(target("ssl:127.0.0.1:6653"));
    });
    assert_eq!(twice, finding("controllers", Level::Fail, set));
    let elsewhere = findings(|bridge| bridge.controllers = vec![target("tcp:10.9.9.9:6653")]);
    assert_eq!(elsewhere, finding("controllers", Level::Warn, set));
    let secondary = findings(|bridge| bridge.controllers[0].role = Some("slave".to_owned()));
    assert_eq!(secondary[0].1, Level::Warn);
    let refused = findings(|bridge| {
        bridge.dpid = "0000000000000009".to_owned();
        bridge.entries = Ok(Vec::new());
        bridge.controllers[0].connected = false;
        bridge.controllers[0].error = Some("Connection refused".to_owned());
    });
    assert_eq!(
        refused,
        finding("controllers", Level::Fail, "the log of ofshim says why it refuses the switch")
    );
    let mut tls = facts(vec![bridge()]);
    tls.controller.as_mut().unwrap().tls = true;
    tls.controller.as_mut().unwrap().switches.clear();
    tls.ovs.as_mut().unwrap().bridges[0].controllers[0].connected = false;
    let checks = checks(&tls);
    let wrong = checks.iter().find(|check| check.status == Level::Fail).unwrap();
    assert!(wrong.what.contains("takes ssl: connections"), "{wrong:?}");
    assert_eq!(wrong.mend.as_deref(), Some("ovs-vsctl set-controller br0 ssl:127.0.0.1:6653"));
    let without_keys = findings(|bridge| {
        bridge.dpid = "0000000000000009".to_owned();
        bridge.entries = Ok(Vec::new());
        bridge.controllers[0].address = "ssl:127.0.0.1:6653".to_owned();
        bridge.controllers[0].connected = false;
    });
    let mend = "ovs-vsctl set-ssl KEY.pem CERTIFICATE.pem CA.pem";
    assert_eq!(without_keys, finding("controllers", Level::Fail, mend));
}

#[test]
fn entries_that_are_left_over_and_those_of_others() {
    let mut facts = facts(vec![bridge()]);
    let what = "none runs".to_owned();
    facts.controller = Err(Trouble { what, mend: Some("ofshim run".to_owned()) });
    let checks = checks(&facts);
    let left = checks.iter().find(|check| check.name == "entries").unwrap();
    assert_eq!(left.status, Level::Warn);
    assert!(
        left.mend
            .as_ref()
            .unwrap()
            .ends_with("ovs-ofctl -O OpenFlow13 del-flows br0 cookie=0x6f66736800000000/0xffffffff00000000")
    );
    let some = " cookie=0x1234, table=0, priority=5,udp actions=drop\n";
    assert_eq!(findings(|bridge| bridge.entries = Ok(parse(some))), []);
    let normal = " cookie=0x0, table=0, priority=0 actions=NORMAL\n";
    let found = findings(|bridge| bridge.entries = Ok(parse(normal)));
    assert_eq!((found.len(), found[0].1), (1, Level::Warn));
    assert!(found[0].2.starts_with("ovs-ofctl -O OpenFlow13 --strict del-flows br0 priority=0"));
}

#[test]
fn the_machine_s_faults() {
    let trouble = Trouble { what: "database connection failed".to_owned(), mend: Some(START_OVS.to_owned()) };
    let report = Report::of(&Facts { ovs: Err(trouble), ..Facts::default() });
    assert_eq!(report.status, Level::Fail);
    assert!(text(&report).contains("mend: systemctl start openvswitch-switch"));
    let other = Bridge { name: "br1".to_owned(), ..bridge() };
    let twins = checks(&facts(vec![bridge(), other]));
    assert!(twins.iter().any(|check| check.name == "datapath-id" && check.subject == "br1"));
    assert_eq!(
        checks(&facts(vec![])).iter().find(|check| check.name == "bridges").unwrap().status,
        Level::Warn
    );
}
