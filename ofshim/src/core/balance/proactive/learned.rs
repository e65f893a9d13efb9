//! The form that learned entries pin: one for each connection, which loads its backend's mark, and one for its answers.

use std::net::IpAddr;

use lb_core::host::config::Protocol;
use lb_core::host::plan::VipPlan;
use openflow::{
    Action, FieldId, Learn, Learn2, LearnField, LearnSource, LearnSpec, LearnTarget, NxAction, NxmField,
    TableId,
};

use super::entry::{ANSWERS, BACKEND, CONNECTIONS, Desired, Entry, PINNED, TCP, VIP};
use super::entry::{ethertype, ip_dst, load, port_dst, registers, resubmit, to_mac};
use super::{Fate, KNOWN, Scene, Served, add_picks, number, translates};
use crate::core::cookie::{Purpose, Sequence, cookie};

/// Priority of learned entries.
const LEARNED: u16 = 100;
/// Seconds that they live on without a packet after a FIN or RST.
const FIN_IDLE_S: u16 = 5;
/// Bit of the TCP flags (RFC 9293, 3.1).
const SYN: u16 = 1 << 1;

/// Adds the entries.
pub(super) fn add(scene: &Scene<'_>, desired: &mut Desired) {
    for vip in scene.vips() {
        for served in scene.backends(vip) {
            add_known(scene, vip, &served, desired);
        }
        // Whatever has no backend, or one that is not there any more.
        let is_new = registers(&[(VIP, number(scene.plan, vip))])
            .eth_type(ethertype(vip.key.address))
            .ip_proto(vip.key.protocol.number());
        add_picks(scene, vip, &is_new, &|served| assign(scene, vip, served), desired);
    }
}

/// Packets of connections that a backend has.
fn add_known(scene: &Scene<'_>, vip: &VipPlan, served: &Served<'_>, desired: &mut Desired) {
    let key = vip.key;
    let mut of_backend = registers(&[(BACKEND, served.mark), (VIP, number(scene.plan, vip))])
        .eth_type(ethertype(key.address))
        .ip_proto(key.protocol.number());
    // One that begins anew gets another backend, as nothing could answer it here.
    let goes_on = NxmField::TcpFlags { value: 0, mask: Some(SYN) };
    let (actions, idle_s) = match served.fate {
        Fate::Stay => (send(scene, vip, served), 0),
        Fate::Leave => (send(scene, vip, served), scene.limits.gone_idle_s),
        Fate::StayEstablished => {
            of_backend = of_backend.with(goes_on.into());
            (send(scene, vip, served), 0)
        }
        Fate::Reset => {
            of_backend = of_backend.with(goes_on.into());
            (vec![Action::to_controller()], 0)
        }
        Fate::Repick => return,
    };
    desired.add(Entry { table: CONNECTIONS, priority: KNOWN, match_: of_backend, actions, idle_s });
}

/// Rewrites a packet to the backend, and sees to the entry for its answers.
fn send(scene: &Scene<'_>, vip: &VipPlan, served: &Served<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    if translates(vip) {
        actions.push(learn_answers(scene, vip, served));
        actions.push(Action::SetField(ip_dst(served.backend.key.address)));
        let port = served.backend.translate_port.map(|port| port_dst(vip.key.protocol.number(), port));
        actions.extend(port.map(Action::SetField));
    }
    actions.extend([to_mac(served.mac), resubmit(scene.forwarding())]);
    actions
}

/// Gives a connection to a backend.
fn assign(scene: &Scene<'_>, vip: &VipPlan, served: &Served<'_>) -> Vec<Action> {
    let fields = Fields::of(vip);
    let backend = LearnField { field: FieldId::reg(BACKEND), offset_bits: 0 };
    let mut specs = fields.protocol();
    for field in [fields.ip_src, fields.ip_dst, fields.port_src, fields.port_dst] {
        specs.push(copied(field, field, LearnTarget::Match));
    }
    specs.push(written(served.mark.to_be_bytes().to_vec(), 32, LearnTarget::Load(backend)));
    vec![load(BACKEND, served.mark), learn(scene, vip, served, PINNED, specs), resubmit(CONNECTIONS)]
}

/// The entry for the answers: of this backend's service to this client, to become the VIP's.
fn learn_answers(scene: &Scene<'_>, vip: &VipPlan, served: &Served<'_>) -> Action {
    let fields = Fields::of(vip);
    let key = served.backend.key;
    let mut specs = fields.protocol();
    specs.push(fixed(fields.ip_src, octets(key.address), LearnTarget::Match));
    specs.push(copied(fields.ip_src, fields.ip_dst, LearnTarget::Match));
    specs.push(match key.port {
        0 => copied(fields.port_dst, fields.port_src, LearnTarget::Match),
        port => fixed(fields.port_src, port.to_be_bytes().to_vec(), LearnTarget::Match),
    });
    specs.push(copied(fields.port_src, fields.port_dst, LearnTarget::Match));
    specs.push(copied(fields.ip_dst, fields.ip_src, LearnTarget::Load));
    specs.push(copied(fields.port_dst, fields.port_src, LearnTarget::Load));
    specs.push(fixed(FieldId::ETH_SRC, vip.mac.0.to_vec(), LearnTarget::Load));
    learn(scene, vip, served, ANSWERS, specs)
}

fn learn(
    scene: &Scene<'_>,
    vip: &VipPlan,
    served: &Served<'_>,
    table_id: TableId,
    specs: Vec<LearnSpec>,
) -> Action {
    let is_tcp = vip.key.protocol == Protocol::Tcp;
    let learn = Learn {
        idle_timeout: if is_tcp { scene.limits.tcp_idle_s } else { scene.limits.udp_idle_s },
        hard_timeout: 0,
        priority: LEARNED,
        cookie: cookie(Purpose::Learned, Sequence::of(served.mark)),
        flags: 0,
        table_id,
        fin_idle_timeout: if is_tcp { FIN_IDLE_S } else { 0 },
        fin_hard_timeout: 0,
        specs,
    };
    NxAction::Learn2(Box::new(Learn2 { learn, limit: scene.limits.learned, result: None })).into()
}

/// The fields of a VIP's packets.
struct Fields {
    ethertype: u16,
    protocol: u8,
    ip_src: FieldId,
    ip_dst: FieldId,
    port_src: FieldId,
    port_dst: FieldId,
}

/// `NXM_NX_IPV6_SRC`, `NXM_NX_IPV6_DST`, `NXM_OF_UDP_SRC`, `NXM_OF_UDP_DST`.
const IPV6_SRC: FieldId = FieldId::new(1, 19, 16);
const IPV6_DST: FieldId = FieldId::new(1, 20, 16);
const UDP_SRC: FieldId = FieldId::new(0, 11, 2);
const UDP_DST: FieldId = FieldId::new(0, 12, 2);

impl Fields {
    fn of(vip: &VipPlan) -> Self {
        let (ip_src, ip_dst) = match vip.key.address {
            IpAddr::V4(_) => (FieldId::IP_SRC, FieldId::IP_DST),
            IpAddr::V6(_) => (IPV6_SRC, IPV6_DST),
        };
        let protocol = vip.key.protocol.number();
        let (port_src, port_dst) =
            if protocol == TCP { (FieldId::TCP_SRC, FieldId::TCP_DST) } else { (UDP_SRC, UDP_DST) };
        Self { ethertype: ethertype(vip.key.address), protocol, ip_src, ip_dst, port_src, port_dst }
    }

    /// Ethernet type and IP protocol, which the other fields need.
    fn protocol(&self) -> Vec<LearnSpec> {
        vec![
            fixed(FieldId::ETH_TYPE, self.ethertype.to_be_bytes().to_vec(), LearnTarget::Match),
            fixed(FieldId::IP_PROTO, vec![self.protocol], LearnTarget::Match),
        ]
    }
}

/// What is in one field of the packet, for a field of the entry.
fn copied(from: FieldId, to: FieldId, target: fn(LearnField) -> LearnTarget) -> LearnSpec {
    LearnSpec {
        n_bits: from.whole().n_bits,
        source: LearnSource::Field(LearnField { field: from, offset_bits: 0 }),
        target: target(LearnField { field: to, offset_bits: 0 }),
    }
}

/// These bytes for a field of the entry.
fn fixed(to: FieldId, bytes: Vec<u8>, target: fn(LearnField) -> LearnTarget) -> LearnSpec {
    written(bytes, to.whole().n_bits, target(LearnField { field: to, offset_bits: 0 }))
}

/// Immediate values fill whole 16-bit words, right-justified.
fn written(mut bytes: Vec<u8>, n_bits: u16, target: LearnTarget) -> LearnSpec {
    if bytes.len() % 2 == 1 {
        bytes.insert(0, 0);
    }
    LearnSpec { n_bits, source: LearnSource::Immediate(bytes), target }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
