//! Configurations as they lie in the tables. What the file cannot say yet is said to the model.

use crate::host::addr::MacAddr;
use crate::host::config::{Config, Ports, Protocol, SnatConfig, TunnelConfig};
use crate::host::health::Neighbour;
use crate::host::ids::Ids;
use crate::host::plan::HealthView;

use super::*;

/// VIP 1 is 10.0.1.1:80/tcp with 10.0.0.1:8080; changed by `change` before it is planned.
fn plan(change: impl FnOnce(&mut Config)) -> Plan {
    let text =
        "[[vip]]\naddress = \"10.0.1.1\"\nport = 80\n[[vip.backend]]\naddress = \"10.0.0.1\"\nport = 8080\n";
    let mut config = Config::from_toml(text, "test").expect("good");
    change(&mut config);
    Plan::from_config(&config, &mut Ids::default(), &HealthView::new(), None).expect("ids")
}

fn record(change: impl FnOnce(&mut Config)) -> VipRecord {
    vip_record(&plan(change).vips[&1], false)
}

fn at(text: &str) -> Address {
    address(text.parse().expect("an address"))
}

#[test]
fn a_plain_vip() {
    let found = record(|_| {});
    let expected = VipRecord {
        address: at("10.0.1.1"),
        mac: [2, 0x6c, 10, 0, 1, 1],
        mode: mode::NAT,
        selection: selection::RANDOM,
        flags: vip_flag::ECHO,
        port: 80u16.to_be(),
        protocol: 6,
        ..VipRecord::default()
    };
    assert_eq!(found, expected);
    assert_eq!(vip_record(&plan(|_| {}).vips[&1], true).flags, vip_flag::ECHO | vip_flag::TRANSMIT);
}

#[test]
fn every_mode_and_selection_has_its_number() {
    for (word, number) in [
        (Mode::Nat, mode::NAT),
        (Mode::Dsr, mode::DSR),
        (Mode::FullNat, mode::FULLNAT),
        (Mode::IpIp, mode::IPIP),
    ] {
        assert_eq!(record(|config| config.vips[0].mode = word).mode, number);
    }
    for (word, number) in [
        (Selection::Random, selection::RANDOM),
        (Selection::RoundRobin, selection::ROUND_ROBIN),
        (Selection::SourceHash, selection::SOURCE_HASH),
        (Selection::FlowHash, selection::FLOW_HASH),
        (Selection::Maglev, selection::MAGLEV),
        (Selection::LeastConnections, selection::LEAST_CONNECTIONS),
    ] {
        assert_eq!(record(|config| config.vips[0].selection = word).selection, number);
    }
}

#[test]
fn policies_are_flags() {
    let flags = |change: fn(&mut crate::host::config::VipConfig)| record(|c| change(&mut c.vips[0])).flags;
    let echo = vip_flag::ECHO;
    assert_eq!(flags(|vip| vip.echo = false), 0);
    assert_eq!(flags(|vip| vip.on_down = OnDown::Repick), echo | vip_flag::REPICK);
    assert_eq!(flags(|vip| vip.on_down = OnDown::Reset), echo | vip_flag::RESET);
    assert_eq!(flags(|vip| vip.no_backend = NoBackend::Reject), echo | vip_flag::REJECT);
    assert_eq!(flags(|vip| vip.no_backend = NoBackend::LastKnown), echo, "nobody was known yet");
    assert_eq!(flags(|vip| vip.over_cap = OverCap::Stateless), echo | vip_flag::OVER_CAP_STATELESS);
    assert_eq!(flags(|vip| vip.deny = vec!["10.0.0.0/8".parse().unwrap()]), echo | vip_flag::ACL);
    assert_eq!(
        flags(|vip| vip.allow = vec!["10.0.0.0/8".parse().unwrap()]),
        echo | vip_flag::ACL | vip_flag::DENY_OTHERS
    );
}

#[test]
fn numbers_that_some_vips_have() {
    let found = record(|config| {
        let vip = &mut config.vips[0];
        let ports = Ports::range(1024, 65535).unwrap();
        vip.snat = Some(SnatConfig { address: "10.0.1.9".parse().unwrap(), ports });
        vip.affinity_s = 60;
        vip.max_new_per_source_s = 1;
    });
    assert_eq!(found.source, at("10.0.1.9"));
    assert_eq!((found.snat_first, found.snat_count), (1024, 64_512));
    assert_eq!((found.affinity, found.max_new_per_source), (57_221, 1), "60 s, and never less than one");
    let source = "2001:db8::254".parse().unwrap();
    let found = record(|config| config.vips[0].tunnel = Some(TunnelConfig { source, mtu: 1400 }));
    assert_eq!((found.source, found.tunnel_mtu, found.snat_count), (at("2001:db8::254"), 1400, 0));
}

#[test]
fn settings_divide_the_cap_among_processors() {
    let plan = plan(|_| {});
    let base = ConnectionsConfig::default();
    let cap = |max_new_per_s, processors| {
        settings(&ConnectionsConfig { max_new_per_s, ..base }, processors, &plan).max_new
    };
    // A window is 0.268 s.
    assert_eq!(cap(None, 1), 33_555);
    assert_eq!(cap(None, 64), 33_555);
    assert_eq!(cap(Some(0), 2), 0, "any number");
    assert_eq!(cap(Some(1_000), 2), 135);
    assert_eq!(cap(Some(1), 64), 1);
    let found = settings(&base, 2, &plan);
    assert_eq!(found.schema, SCHEMA_VERSION);
    assert_eq!(found.timeouts[6], ticks_from_ms(60_000), "unverified");
    assert_eq!((found.fragment_timeout, found.flags), (ticks_from_ms(30_000), 0));
}

#[test]
fn ranges_stand_beside_the_vip_of_every_port() {
    let plan = plan(|config| {
        let vip = config.vips[0].clone();
        let all = crate::host::config::VipConfig { ports: Ports::ALL, ..vip.clone() };
        let range = crate::host::config::VipConfig { ports: Ports::range(8000, 8010).unwrap(), ..vip };
        config.vips.extend([all, range]);
        for vip in &mut config.vips[1..] {
            vip.backends[0].port = None;
        }
    });
    let tables = Services::of(&plan);
    let key = |port: u16| ServiceKey::new(at("10.0.1.1"), port.to_be(), 6);
    let list = tables.vips[&key(0)].list();
    assert_eq!(tables.vips[&key(80)], VipTarget::new(1, 0));
    assert_eq!(tables.vips[&key(0)], VipTarget::new(2, list));
    assert_eq!(tables.vips[&ServiceKey::of_address(at("10.0.1.1"))], VipTarget::new(1, 0));
    assert_eq!(tables.vips.len(), 3);
    let range = PortRange { first: 8000, last: 8010, vip: 3, protocol: 6, reserved: 0 };
    assert_eq!(tables.lists[&list].ranges[0], range);
    assert_eq!(tables.lists[&list].ranges[1], PortRange::default());
}

#[test]
fn prefixes_are_asked_by_a_flag_and_have_no_bits() {
    let change = |config: &mut Config| {
        let vip = &mut config.vips[0];
        (vip.address, vip.prefix_len) = ("2001:db8:1::".parse().unwrap(), Some(64));
        (vip.mode, vip.ports) = (Mode::Dsr, Ports::one(443));
        vip.backends[0].port = None;
    };
    let found = plan(change);
    let tables = Services::of(&found);
    assert!(tables.vips.is_empty() && tables.backends.is_empty());
    let key = PrefixKey { length: 64, address: at("2001:db8:1::").octets() };
    let list = tables.prefixes[&key] as u16;
    let range = PortRange { first: 443, last: 443, vip: 1, protocol: 6, reserved: 0 };
    assert_eq!(tables.lists[&list].ranges[0], range);
    assert!(bitmap(&found)[..BITMAP_BITS as usize / 64].iter().all(|word| *word == 0));
    assert_eq!(settings(&ConnectionsConfig::default(), 1, &found).flags, settings_flag::PREFIXES);
}

#[test]
fn clients_are_listed_by_vip_and_prefix() {
    let tables = Services::of(&plan(|config| {
        config.vips[0].allow = vec!["10.0.0.0/8".parse().unwrap()];
        config.vips[0].deny = vec!["10.66.0.0/16".parse().unwrap()];
    }));
    let key = |bits: u32, text: &str| AclKey { length: 32 + 96 + bits, vip: 1u32.to_be(), address: at(text) };
    let expected = [(key(8, "10.0.0.0"), verdict::ALLOW), (key(16, "10.66.0.0"), verdict::DENY)];
    assert_eq!(tables.clients, BTreeMap::from(expected));
}

#[test]
fn an_address_that_lends_ports_is_its_vips() {
    let found = plan(|config| {
        let vip = &mut config.vips[0];
        vip.mode = Mode::FullNat;
        let ports = Ports::range(1024, 65535).unwrap();
        vip.snat = Some(SnatConfig { address: "10.0.1.9".parse().unwrap(), ports });
    });
    let tables = Services::of(&found);
    assert_eq!(tables.vips[&ServiceKey::of_address(at("10.0.1.9"))], VipTarget::new(1, 0));
    assert!(tables.backends.is_empty(), "answers are found by the port that was lent");
    let bit = at("10.0.1.9").bitmap_bit() as usize;
    assert_ne!(bitmap(&found)[bit / 64] & 1 << (bit % 64), 0);
}

#[test]
fn a_backend_that_is_told_by_its_mac_has_it_before_it_answers() {
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let found = plan(|config| config.vips[0].backends[0].mac = Some(mac));
    let mut backend = found.backends[&1].clone();
    let record = backend_record(&backend, &BTreeMap::new());
    assert_eq!((record.mac, record.slot, record.port), (mac.0, 0, 8080u16.to_be()));
    assert_eq!((record.vip, record.weight, record.state), (1, 1, backend_state::DOWN));
    backend.neighbour = Some(Neighbour { mac, interface: 3 });
    let port = PortRecord { ifindex: 30, switch: 5, flags: port_flag::REDIRECT };
    let record = backend_record(&backend, &BTreeMap::from([(3, port)]));
    assert_eq!((record.ifindex, record.switch, record.flags), (30, 5, backend_flag::REDIRECT));
    assert_eq!(found.vips[&1].key.protocol, Protocol::Tcp);
}

#[test]
fn a_model_that_follows_its_plans_is_the_one_made_of_the_last() {
    let two = |config: &mut Config| {
        let mut vip = config.vips[0].clone();
        vip.address = "10.0.1.2".parse().unwrap();
        vip.deny = vec!["10.9.0.0/16".parse().unwrap()];
        config.vips.push(vip);
    };
    let (first, second) = (plan(|_| {}), plan(two));
    let set = |plan: &Plan| settings(&ConnectionsConfig::default(), 1, plan);
    for (from, to) in [(&first, &second), (&second, &first), (&Plan::default(), &second)] {
        let mut followed = model(set(from), false, &BTreeMap::new(), from, 4);
        update(&mut followed, set(to), false, from, to);
        followed.backends.retain(|_, record| record.state != backend_state::ABSENT);
        let made = model(set(to), false, &BTreeMap::new(), to, 4);
        assert_eq!(format!("{followed:?}"), format!("{made:?}"));
    }
}
