//! From configuration and health to tables, ids that stay, and differences.
#![cfg(feature = "std")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_core::host::addr::MacAddr;
use lb_core::host::config::{Config, Protocol, VipKey};
use lb_core::host::health::{FULL_SHARE, Neighbour, State};
use lb_core::host::ids::{BackendKey, Id, Ids};
use lb_core::host::plan::{Diff, HealthView, Plan, Seen, Service, ServiceVip};
use lb_core::host::{maglev, seed};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `10.0.1.1:80 nat [drop] 10.0.0.1 10.0.0.2:8080*3` on each line.
fn config(lines: &str) -> Config {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let vip = words.next().unwrap();
        let (address, port) = vip.split_once(':').map_or((vip, None), |(a, p)| (a, Some(p)));
        text += &format!("[[vip]]\naddress = \"{address}\"\n");
        text += &port.map_or(String::new(), |port| format!("port = {port}\n"));
        for word in words {
            if let Some(policy) = word.strip_prefix('=') {
                text += &format!("no_backend = \"{policy}\"\n");
                continue;
            }
            let (service, weight) = word.split_once('*').unwrap_or((word, "1"));
            let (address, port) = service.split_once(':').map_or((service, None), |(a, p)| (a, Some(p)));
            text += &format!("[[vip.backend]]\naddress = \"{address}\"\nweight = {weight}\n");
            text += &port.map_or(String::new(), |port| format!("port = {port}\n"));
        }
    }
    Config::from_toml(&text, "test").unwrap()
}

fn last_octet(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

fn health(config: &Config, states: &[(&str, State)]) -> HealthView {
    let backends = config.vips.iter().flat_map(|vip| vip.backends.iter().map(move |backend| (vip, backend)));
    backends
        .filter_map(|(vip, backend)| {
            let (_, state) = states.iter().find(|(address, _)| ip(address) == backend.address)?;
            let mac = MacAddr([0, 0, 0, 0, 0, last_octet(backend.address)]);
            let neighbour = Some(Neighbour { mac, interface: 1 });
            let key = BackendKey::of(vip, backend);
            Some((key, Seen { state: *state, neighbour, share: FULL_SHARE }))
        })
        .collect()
}

fn plan(lines: &str, ids: &mut Ids, states: &[(&str, State)], last: Option<&Plan>) -> Plan {
    let config = config(lines);
    Plan::from_config(&config, ids, &health(&config, states), last).unwrap()
}

fn members(plan: &Plan, vip: u16) -> Vec<u16> {
    plan.vips[&vip].rotation.members.iter().map(|m| m.id).collect()
}

const TWO: &str = "10.0.1.1 10.0.0.1 10.0.0.2";

#[test]
fn only_up_backends_with_a_weight_are_in_rotation() {
    let mut ids = Ids::default();
    let lines = "10.0.1.1:80 10.0.0.1*2 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6*0";
    let states = [
        ("10.0.0.1", State::Up),
        ("10.0.0.2", State::Down),
        ("10.0.0.3", State::Draining),
        ("10.0.0.4", State::Disabled),
        ("10.0.0.6", State::Up),
    ];
    let plan = plan(lines, &mut ids, &states, None);
    assert_eq!(members(&plan, 1), [1]);
    let member = plan.vips[&1].rotation.members[0];
    assert_eq!((member.weight, member.seed), (2, seed::backend(ip("10.0.0.1"), 80)));
    assert_eq!(plan.vips[&1].rotation.ring(), [1]);
    let mut slots = vec![0; maglev::SLOTS];
    plan.vips[&1].rotation.maglev(&mut slots).unwrap();
    assert!(slots.iter().all(|id| *id == 1));
    // All of them have a record, with the state; the unwatched one is probing.
    let states: Vec<State> = plan.backends.values().map(|b| b.state).collect();
    assert_eq!(states, [State::Up, State::Down, State::Draining, State::Disabled, State::Probing, State::Up]);
}

#[test]
fn nobody_up_is_empty_or_the_last_known() {
    let up = [("10.0.0.1", State::Up), ("10.0.0.2", State::Up)];
    let down = [("10.0.0.1", State::Down), ("10.0.0.2", State::Down)];
    let mut ids = Ids::default();
    let first = plan(TWO, &mut ids, &up, None);
    assert_eq!(members(&plan(TWO, &mut ids, &down, Some(&first)), 1), []);

    let keep = "10.0.1.1 =last-known 10.0.0.1 10.0.0.2";
    let first = plan(keep, &mut ids, &[("10.0.0.1", State::Down), ("10.0.0.2", State::Up)], Some(&first));
    assert_eq!(members(&first, 1), [2]);
    let second = plan(keep, &mut ids, &down, Some(&first));
    assert_eq!(members(&second, 1), [2]);
    assert!(second.vips[&1].rotation.is_last_known);
    // It stays so, until one is up or the administrator takes it out.
    let third = plan(keep, &mut ids, &down, Some(&second));
    assert_eq!(third, second);
    let gone = [("10.0.0.1", State::Down), ("10.0.0.2", State::Disabled)];
    assert_eq!(members(&plan(keep, &mut ids, &gone, Some(&third)), 1), []);
    let back = [("10.0.0.1", State::Up), ("10.0.0.2", State::Down)];
    let back = plan(keep, &mut ids, &back, Some(&third));
    assert_eq!((members(&back, 1), back.vips[&1].rotation.is_last_known), (vec![1], false));
    // Nothing is known at the start.
    assert_eq!(members(&plan(keep, &mut Ids::default(), &down, None), 1), []);
}

#[test]
fn ids_stay_over_reloads_and_rest_before_reuse() {
    let mut ids = Ids::default();
    let up: Vec<(String, State)> = (1..10).map(|n| (format!("10.0.0.{n}"), State::Up)).collect();
    let up: Vec<(&str, State)> = up.iter().map(|(a, s)| (a.as_str(), *s)).collect();
    let id = |plan: &Plan, address: &str| {
        plan.backends.values().find(|b| b.key.address == ip(address)).map(|b| (b.id.id, b.id.generation))
    };
    let first = plan("10.0.1.1 10.0.0.1 10.0.0.2 10.0.0.3", &mut ids, &up, None);
    assert_eq!(id(&first, "10.0.0.2"), Some((2, 0)));
    // Reordered, one gone, one new, another VIP before it: who stays keeps the id, the one gone rests.
    let lines = "10.0.1.9 10.0.0.9\n10.0.1.1 10.0.0.4 10.0.0.3 10.0.0.1";
    let second = plan(lines, &mut ids, &up, Some(&first));
    assert_eq!((id(&second, "10.0.0.1"), id(&second, "10.0.0.3")), (Some((1, 0)), Some((3, 0))));
    assert_eq!((id(&second, "10.0.0.9"), id(&second, "10.0.0.4")), (Some((4, 0)), Some((5, 0))));
    assert_eq!(
        second.vips.values().map(|v| v.key.address).collect::<Vec<_>>(),
        [ip("10.0.1.1"), ip("10.0.1.9")]
    );
    assert!(ids.any_resting());
    // It comes back while it rests.
    let third = plan("10.0.1.1 10.0.0.2", &mut ids.clone(), &up, None);
    assert_eq!(id(&third, "10.0.0.2"), Some((2, 0)));
    // An entry still carries it: no reuse. Then none does: reuse, with the next generation.
    ids.release_unused(&BTreeSet::new(), &BTreeSet::from([2]));
    let lines = "10.0.1.9 10.0.0.9\n10.0.1.1 10.0.0.4 10.0.0.3 10.0.0.1 10.0.0.6";
    assert_eq!(id(&plan(lines, &mut ids.clone(), &up, None), "10.0.0.6"), Some((6, 0)));
    ids.release_unused(&BTreeSet::new(), &BTreeSet::new());
    assert!(!ids.any_resting());
    assert_eq!(id(&plan(lines, &mut ids, &up, None), "10.0.0.6"), Some((2, 1)));
}

#[test]
fn a_restarted_daemon_adopts_ids() {
    let mut ids = Ids::default();
    let vip = VipKey::new(ip("10.0.1.1"), 0, Protocol::Tcp);
    let backend = |address| BackendKey { vip, address: ip(address), port: 0, mac: None };
    assert!(ids.adopt_vip(vip, Id { id: 7, generation: 0 }));
    assert!(ids.adopt_backend(backend("10.0.0.2"), Id { id: 1, generation: 4 }));
    assert!(!ids.adopt_backend(backend("10.0.0.9"), Id { id: 1, generation: 0 }), "taken");
    assert!(!ids.adopt_backend(backend("10.0.0.2"), Id { id: 2, generation: 0 }), "has another");
    assert!(!ids.adopt_backend(backend("10.0.0.9"), Id { id: 0, generation: 0 }), "0 is none");
    assert!(!ids.adopt_backend(backend("10.0.0.9"), Id { id: 8192, generation: 0 }), "out of range");
    let plan = plan(TWO, &mut ids, &[], None);
    assert_eq!(plan.vips.keys().copied().collect::<Vec<_>>(), [7]);
    let found: Vec<_> = plan.backends.values().map(|b| (b.key.address, b.id.id, b.id.generation)).collect();
    assert_eq!(found, [(ip("10.0.0.2"), 1, 4), (ip("10.0.0.1"), 2, 0)]);
}

#[test]
fn a_number_that_an_earlier_daemon_took_back_goes_on_with_the_next_generation() {
    let mut ids = Ids::default();
    ids.remember_backend(Id { id: 1, generation: 4 });
    ids.remember_backend(Id { id: 1, generation: 9 });
    ids.remember_backend(Id { id: 0, generation: 0 });
    ids.remember_backend(Id { id: 8192, generation: 0 });
    let plan = plan(TWO, &mut ids, &[], None);
    let found: Vec<_> = plan.backends.values().map(|b| (b.id.id, b.id.generation)).collect();
    assert_eq!(found, [(1, 5), (2, 0)], "the first word counts; who was never heard of begins at 0");
}

#[test]
fn ids_run_out_with_a_clear_line_and_without_a_change() {
    let mut ids = Ids::default();
    let vips = |from: usize| -> String {
        (from..from + 200).map(|n| format!("10.1.{}.{} 10.0.{}.1\n", n / 250, n % 250 + 1, n / 4)).collect()
    };
    Plan::from_config(&config(&vips(0)), &mut ids, &HealthView::new(), None).unwrap();
    let before = ids.clone();
    let error = Plan::from_config(&config(&vips(200)), &mut ids, &HealthView::new(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no id is left for VIPs: 56 of 256 are in use and 200 rest until their connections end; try again later, or change fewer at a time"
    );
    assert_eq!(ids, before);
    ids.release_unused(&BTreeSet::new(), &BTreeSet::new());
    assert!(Plan::from_config(&config(&vips(0)), &mut ids, &HealthView::new(), None).is_ok());
}

#[test]
fn services_name_their_vips_and_shared_backends_are_marked() {
    let mut ids = Ids::default();
    let lines = "10.0.1.1:80 10.0.0.1 10.0.0.2:8080
                 10.0.1.2:8080 10.0.0.2
                 10.0.1.3 10.0.0.1 10.0.0.3";
    let plan = plan(lines, &mut ids, &[], None);
    let service = |address, port| Service { address: ip(address), port, protocol: Protocol::Tcp };
    let (one, two, three) =
        (ServiceVip { vip: 1, port: 80 }, ServiceVip { vip: 2, port: 8080 }, ServiceVip { vip: 3, port: 0 });
    assert_eq!(plan.services[&service("10.0.0.1", 80)], [one, three]);
    assert_eq!(plan.services[&service("10.0.0.1", 0)], [three]);
    assert_eq!(plan.services[&service("10.0.0.2", 8080)], [one, two]);
    assert_eq!(plan.services[&service("10.0.0.3", 0)], [three]);
    assert_eq!(plan.services.len(), 4);
    let shared: Vec<_> =
        plan.backends.values().map(|b| (last_octet(b.key.address), b.vip, b.is_shared)).collect();
    assert_eq!(shared, [(1, 1, true), (2, 1, true), (2, 2, true), (1, 3, true), (3, 3, false)]);
    let translated: Vec<_> = plan.backends.values().map(|b| b.translate_port).collect();
    assert_eq!(translated, [None, Some(8080), None, None, None]);
}

#[test]
fn differences_name_exactly_what_changed() {
    let mut ids = Ids::default();
    let up = [("10.0.0.1", State::Up), ("10.0.0.2", State::Up)];
    let first = plan(TWO, &mut ids, &up, None);
    assert!(first.diff(&first).is_empty());
    assert_eq!(first.describe_change(&first), Vec::<String>::new());
    let start = Plan::default().diff(&first);
    assert_eq!((start.backends_set, start.vips_set, start.rotations_set), (vec![1, 2], vec![1], vec![1]));
    assert_eq!(
        Plan::default().describe_change(&first),
        ["VIP 10.0.1.1/tcp: added, rotation 10.0.0.1, 10.0.0.2"]
    );

    // One goes down: its record and the rotation, nothing else.
    let down = [("10.0.0.1", State::Down), ("10.0.0.2", State::Up)];
    let second = plan(TWO, &mut ids, &down, Some(&first));
    let want = Diff { backends_set: vec![1], rotations_set: vec![1], ..Diff::default() };
    assert_eq!(first.diff(&second), want);
    assert_eq!(
        first.describe_change(&second),
        ["VIP 10.0.1.1/tcp: rotation 10.0.0.1, 10.0.0.2 -> rotation 10.0.0.2"]
    );

    // Another policy and weight, and a backend removed.
    let third = plan("10.0.1.1 =last-known 10.0.0.2*3", &mut ids, &up, Some(&second));
    let want = Diff {
        backends_set: vec![2],
        vips_set: vec![1],
        rotations_set: vec![1],
        services_gone: vec![Service { address: ip("10.0.0.1"), port: 0, protocol: Protocol::Tcp }],
        backends_gone: vec![1],
        ..Diff::default()
    };
    assert_eq!(second.diff(&third), want);
    assert_eq!(
        second.describe_change(&third),
        ["VIP 10.0.1.1/tcp: settings changed", "VIP 10.0.1.1/tcp: rotation 10.0.0.2 -> rotation 10.0.0.2 x3"]
    );

    // Another VIP instead of it.
    let fourth = plan("10.0.1.2 10.0.0.2", &mut ids, &[], Some(&third));
    assert_eq!(third.diff(&fourth).vips_gone, [1]);
    assert_eq!(
        third.describe_change(&fourth),
        ["VIP 10.0.1.1/tcp: removed", "VIP 10.0.1.2/tcp: added, nobody in rotation"]
    );
}

#[test]
fn a_running_balancer_knows_what_it_cannot_change() {
    let one = config(TWO);
    let mut two = config("10.0.1.7 10.0.0.9");
    two.placement.attach.push("s1-eth1".to_owned());
    assert_eq!(one.needs_restart(&two), None);
    two.connections.table_size = 1024;
    assert_eq!(one.needs_restart(&two), Some("table_size in [connections]"));
    two.placement.host = Some("lb1".to_owned());
    assert_eq!(one.needs_restart(&two), Some("host in [placement]"));
    two.placement.kind = lb_core::host::config::PlacementKind::OneArm;
    assert_eq!(one.needs_restart(&two), Some("kind in [placement]"));
}
