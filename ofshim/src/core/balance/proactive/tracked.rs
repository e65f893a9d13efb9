//! The form that the switch's connection tracker pins: a connection carries its backend's mark.

use lb_core::host::config::Protocol;
use lb_core::host::plan::VipPlan;
use openflow::{
    Action, CT_COMMIT, ConnTrack, CtZone, FieldId, MacAddr, Match, MatchField, NAT_DST, Nat, NxAction,
    NxmField, ct_state,
};

use super::entry::{CONNECTIONS, VIP, ethertype, ip_dst, ip_src, port_dst, registers, resubmit, to_mac};
use super::entry::{Desired, Entry};
use super::{ANSWER, Fate, KNOWN, PICK, Scene, Served, add_picks, number, translates};

/// Adds the entries.
pub(super) fn add(scene: &Scene<'_>, desired: &mut Desired) {
    for vip in scene.vips() {
        if translates(vip) {
            desired.add(answer(scene, vip));
        }
        for served in scene.backends(vip) {
            add_known(scene, vip, &served, desired);
        }
        let mut is_new = state(ct_state::TRK, ct_state::INV | ct_state::RPL)
            .with(NxmField::reg(VIP, number(scene.plan, vip)).into())
            .eth_type(ethertype(vip.key.address));
        if translates(vip) {
            is_new = is_new.with(NxmField::CtMark { value: 0, mask: None }.into());
        }
        add_picks(scene, vip, &is_new, &|served| assign(scene, vip, served), desired);
    }
    // What is of no VIP and of no connection goes on as it came.
    desired.add(Entry {
        table: CONNECTIONS,
        priority: PICK / 2,
        match_: registers(&[(VIP, 0)]),
        actions: vec![resubmit(scene.forwarding())],
        idle_s: 0,
    });
}

/// Packets in this state of tracking: these bits set, those not.
fn state(set: u32, clear: u32) -> Match {
    Match::new().with(NxmField::CtState { value: set, mask: Some(set | clear) }.into())
}

/// An answer that was translated back gets the VIP's MAC.
fn answer(scene: &Scene<'_>, vip: &VipPlan) -> Entry {
    let mac = MatchField::EthSrc { value: MacAddr(vip.mac.0), mask: None };
    let match_ = state(ct_state::TRK | ct_state::RPL, ct_state::INV)
        .eth_type(ethertype(vip.key.address))
        .with(ip_src(vip.key.address, u8::MAX));
    let actions = vec![Action::SetField(mac), resubmit(scene.forwarding())];
    Entry { table: CONNECTIONS, priority: ANSWER, match_, actions, idle_s: 0 }
}

/// Packets of connections that a backend has.
fn add_known(scene: &Scene<'_>, vip: &VipPlan, served: &Served<'_>, desired: &mut Desired) {
    let send = || vec![to_mac(served.mac), resubmit(scene.forwarding())];
    let of_backend = |set: u32, clear: u32| {
        state(ct_state::TRK | set, ct_state::RPL | clear)
            .with(NxmField::CtMark { value: served.mark, mask: None }.into())
    };
    let mut add = |match_: Match, actions: Vec<Action>, idle_s: u16| {
        desired.add(Entry { table: CONNECTIONS, priority: KNOWN, match_, actions, idle_s });
    };
    match served.fate {
        Fate::Stay => add(of_backend(0, 0), send(), 0),
        Fate::Leave => add(of_backend(0, 0), send(), scene.limits.gone_idle_s),
        Fate::StayEstablished => {
            add(of_backend(ct_state::EST, 0), send(), 0);
            add_half_open(vip, of_backend(0, ct_state::EST), &mut add);
        }
        Fate::Reset => {
            add(of_vip(of_backend(ct_state::EST, 0), vip), restored(vip), 0);
            add_half_open(vip, of_backend(0, ct_state::EST), &mut add);
        }
        Fate::Repick => {}
    }
}

/// A connection that is translated cannot be given another backend: the controller has it forgotten. Others can.
fn add_half_open(vip: &VipPlan, half_open: Match, add: &mut dyn FnMut(Match, Vec<Action>, u16)) {
    if translates(vip) && vip.key.protocol == Protocol::Tcp {
        add(of_vip(half_open, vip), restored(vip), 0);
    }
}

/// Of this protocol, so that its fields can be written.
fn of_vip(match_: Match, vip: &VipPlan) -> Match {
    match_.eth_type(ethertype(vip.key.address)).ip_proto(vip.key.protocol.number())
}

/// To the controller, as it came.
fn restored(vip: &VipPlan) -> Vec<Action> {
    let mut actions = Vec::new();
    if translates(vip) {
        actions.push(Action::SetField(ip_dst(vip.key.address)));
        let port = vip.key.ports.single().map(|port| port_dst(vip.key.protocol.number(), port));
        actions.extend(port.map(Action::SetField));
    }
    actions.push(Action::to_controller());
    actions
}

/// Gives a connection to a backend, and goes on with the packet as it is then.
fn assign(scene: &Scene<'_>, vip: &VipPlan, served: &Served<'_>) -> Vec<Action> {
    let mark = NxAction::RegLoad { dst: FieldId::CT_MARK.whole(), value: u64::from(served.mark) };
    let mut remembered = vec![mark.into()];
    if translates(vip) {
        remembered.insert(0, NxAction::Nat(Box::new(translation(served))).into());
    }
    let commit = ConnTrack {
        flags: CT_COMMIT,
        zone: CtZone::Immediate(scene.zone),
        recirc_table: scene.forwarding(),
        alg: 0,
        actions: remembered,
    };
    vec![to_mac(served.mac), NxAction::Ct(Box::new(commit)).into()]
}

fn translation(served: &Served<'_>) -> Nat {
    let key = served.backend.key;
    let mut nat = Nat { flags: NAT_DST, ..Nat::default() };
    match key.address {
        std::net::IpAddr::V4(address) => nat.ipv4_min = Some(address),
        std::net::IpAddr::V6(address) => nat.ipv6_min = Some(address),
    }
    if key.port != 0 {
        nat.port_min = Some(key.port);
    }
    nat
}
