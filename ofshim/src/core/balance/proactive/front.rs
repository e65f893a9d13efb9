//! What begins balancing: packets to VIPs, and the answers of backends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_core::host::config::{Ports, Protocol};
use lb_core::host::plan::VipPlan;
use openflow::{Action, ConnTrack, CtZone, MacAddr, Match, NxAction, NxmField, Version};

use super::entry::{
    ANSWERS, CONNECTIONS, DONE, PINNED, VIP, ethertype, ip_dst, ip_src, load, ports_dst, ports_src,
};
use super::entry::{Desired, Entry, resubmit};
use super::{Fate, Form, Scene, number, translates};

/// Priorities in the table of balancing, which is the only one in 1.0: above all that forwards.
const TO_VIP: u16 = 1000;
const ANSWER: u16 = 900;
/// Below all that forwards: what nobody knows the way of.
const UNKNOWN: u16 = 1;

/// Adds the entries.
pub(super) fn add(scene: &Scene<'_>, desired: &mut Desired) {
    for vip in scene.vips() {
        add_vip(scene, vip, desired);
        if !translates(vip) && scene.form == Form::Tracked {
            add_direct_answers(scene, vip, desired);
        }
    }
    add_answers(scene, desired);
    if scene.version == Version::V1_0 {
        // A look-up from another entry that finds nothing tells nobody.
        let done = Match::new().with(NxmField::reg(DONE, 1).into());
        let actions = vec![Action::to_controller()];
        desired.add(Entry { table: scene.forwarding(), priority: UNKNOWN, match_: done, actions, idle_s: 0 });
    }
}

/// One port goes before a range, and a range before every port.
fn precedence(ports: Ports) -> u16 {
    if ports.single().is_some() { 2 } else { u16::from(ports.is_range()) }
}

/// What has not been balanced yet, of this address and protocol.
fn fresh(address: IpAddr, protocol: Protocol) -> Match {
    Match::new().with(NxmField::reg(DONE, 0).into()).eth_type(ethertype(address)).ip_proto(protocol.number())
}

fn add_vip(scene: &Scene<'_>, vip: &VipPlan, desired: &mut Desired) {
    let key = vip.key;
    let base = fresh(key.address, key.protocol).eth_dst(MacAddr(vip.mac.0)).with(ip_dst(key.address));
    let mut actions = vec![load(DONE, 1), load(VIP, number(scene.plan, vip))];
    match scene.form {
        Form::Tracked => actions.push(track(scene, translates(vip))),
        Form::Learned => actions.extend([resubmit(PINNED), resubmit(CONNECTIONS)]),
    }
    for match_ in ports_dst(&base, key.protocol.number(), key.ports) {
        let priority = TO_VIP + precedence(key.ports);
        desired.add(Entry { table: scene.front(), priority, match_, actions: actions.clone(), idle_s: 0 });
    }
}

/// Answers that carry the VIP's address already: the tracker has to see both directions.
fn add_direct_answers(scene: &Scene<'_>, vip: &VipPlan, desired: &mut Desired) {
    let key = vip.key;
    let base = fresh(key.address, key.protocol).with(ip_src(key.address, u8::MAX));
    for match_ in ports_src(&base, key.protocol.number(), key.ports) {
        let priority = ANSWER + precedence(key.ports);
        let actions = vec![load(DONE, 1), track(scene, false)];
        desired.add(Entry { table: scene.front(), priority, match_, actions, idle_s: 0 });
    }
}

/// Answers that have to be rewritten, by the service that sends them: only those of connections are.
fn add_answers(scene: &Scene<'_>, desired: &mut Desired) {
    let mut services: BTreeMap<(IpAddr, Protocol, u16), bool> = BTreeMap::new();
    for vip in scene.vips().filter(|vip| translates(vip)) {
        for served in scene.backends(vip) {
            let key = served.backend.key;
            let leaves = services.entry((key.address, vip.key.protocol, key.port)).or_insert(true);
            *leaves &= served.fate == Fate::Leave;
        }
    }
    for ((address, protocol, port), leaves) in services {
        let ports = Ports::one(port);
        let base = fresh(address, protocol).with(ip_src(address, u8::MAX));
        let mut actions = vec![load(DONE, 1)];
        match scene.form {
            Form::Tracked => actions.push(track(scene, true)),
            Form::Learned => actions.extend([resubmit(ANSWERS), resubmit(scene.forwarding())]),
        }
        for match_ in ports_src(&base, protocol.number(), ports) {
            let idle_s = if leaves { scene.limits.gone_idle_s } else { 0 };
            let priority = ANSWER + precedence(ports);
            desired.add(Entry { table: scene.front(), priority, match_, actions: actions.clone(), idle_s });
        }
    }
}

/// Finds out whose connection a packet is of, and translates it if it is of one.
fn track(scene: &Scene<'_>, translates: bool) -> Action {
    let nat = NxAction::Nat(Box::default());
    let track = ConnTrack {
        flags: 0,
        zone: CtZone::Immediate(scene.zone),
        recirc_table: CONNECTIONS,
        alg: 0,
        actions: if translates { vec![nat.into()] } else { Vec::new() },
    };
    NxAction::Ct(Box::new(track)).into()
}
