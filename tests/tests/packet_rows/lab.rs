//! The scenario that most rows begin with, and who takes part in it.
//!
//! ```text
//!  VIP 1  10.0.1.1  TCP 80, UDP 53, round robin      backend 1 10.0.0.1 slot 1, backend 2 10.0.0.2 slot 2
//!
//!  slot   1      2      3      4            5           -
//!  index  11     12     13     14           15          16
//!  host   b1     b2     c3     c4, shaped   c5          (not attached)
//!  switch 1      1      1      1            2
//! ```

use testbed::frame::{Ip, Mac, Packet, octets, v4, v6};
use testbed::scenario::{Backend, Handing, Port, Protocol, Scenario, Timeouts, Vip};
use testbed::side::Action;

use crate::row::{Expect, START, forwarded, replied};

/// A host's MAC and address.
pub type Host = (Mac, Ip);

pub const VIP: Ip = v4(10, 0, 1, 1);
pub const VIP_MAC: Mac = [2, 0x6c, 10, 0, 1, 1];
pub const B1: Host = ([2, 0, 0, 0, 0, 1], v4(10, 0, 0, 1));
pub const B2: Host = ([2, 0, 0, 0, 0, 2], v4(10, 0, 0, 2));
pub const C3: Host = ([2, 0, 0, 0, 0, 3], v4(10, 0, 0, 3));
pub const C4: Host = ([2, 0, 0, 0, 0, 4], v4(10, 0, 0, 4));
pub const C5: Host = ([2, 0, 0, 0, 0, 5], v4(10, 0, 0, 5));
/// The IPv6 VIP, and the same hosts over IPv6.
pub const VIP6: Ip = v6(1, 1);
pub const VIP6_MAC: Mac = [2, 0x6c, 6, 0, 0, 1];
pub const B1_6: Host = (B1.0, v6(0, 1));
pub const B2_6: Host = (B2.0, v6(0, 2));
pub const C3_6: Host = (C3.0, v6(0, 3));
pub const C4_6: Host = (C4.0, v6(0, 4));
/// Indexes of the interfaces that lead to them.
pub const AT_B1: u32 = 11;
pub const AT_B2: u32 = 12;
pub const AT_C3: u32 = 13;
pub const AT_C4: u32 = 14;
pub const AT_C5: u32 = 15;
/// An interface that the balancer does not know.
pub const NOT_ATTACHED: u32 = 16;

pub const TIMEOUTS: Timeouts = Timeouts {
    syn: 60,
    unverified: 25,
    established: 600,
    closing: 20,
    closed: 10,
    udp: 30,
    suspect: 15,
    fragment: 40,
};

/// A host and a port.
pub const fn at(host: Host, port: u16) -> (Mac, Ip, u16) {
    (host.0, host.1, port)
}

/// The VIP as a destination.
pub const fn vip(port: u16) -> (Mac, Ip, u16) {
    (VIP_MAC, VIP, port)
}

pub fn a_vip(id: u16, address: Ip, services: &[(Protocol, u16)], ring: &[u16]) -> Vip {
    let mac = match octets(address)[..] {
        [a, b, c, d] => [2, 0x6c, a, b, c, d],
        _ => [2, 0x6c, 6, 0, 0, id as u8],
    };
    Vip { services: services.to_vec(), ring: ring.to_vec(), ..Vip::new(id, address, mac) }
}

pub fn a_backend(id: u16, vip: u16, host: Host, slot: u16) -> Backend {
    Backend::new(id, vip, host, slot)
}

pub fn ports() -> Vec<Port> {
    let port = |slot: u16, switch| Port { slot, ifindex: 10 + u32::from(slot), switch, redirect: slot != 4 };
    vec![port(1, 1), port(2, 1), port(3, 1), port(4, 1), port(5, 2)]
}

/// The scenario of the picture above.
pub fn lab() -> Scenario {
    Scenario {
        vips: vec![a_vip(1, VIP, &[(Protocol::Tcp, 80), (Protocol::Udp, 53)], &[1, 2])],
        backends: vec![a_backend(1, 1, B1, 1), a_backend(2, 1, B2, 2)],
        ports: ports(),
        timeouts: TIMEOUTS,
        max_new: 0,
        handing: Handing::No,
        connections: 1024,
        stray_bits: Vec::new(),
    }
}

/// The same, changed.
pub fn lab_with(change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = lab();
    change(&mut scenario);
    scenario
}

/// The same with backends that listen on ports of their own: 8001 and 8002.
pub fn lab_translated() -> Scenario {
    lab_with(|s| {
        s.vip(1).services = vec![(Protocol::Tcp, 80)];
        s.backend(1).port = 8001;
        s.backend(2).port = 8002;
    })
}

/// The same with a VIP of every TCP port.
pub fn lab_every_port() -> Scenario {
    lab_with(|s| s.vip(1).services = vec![(Protocol::Tcp, 0)])
}

/// A segment of C3's connection from this port to the VIP's port 80.
pub fn c3_tcp(port: u16, flags: u8, seq: u32, payload: &[u8]) -> Packet {
    Packet::tcp(at(C3, port), vip(80), flags, seq, payload)
}

/// A segment of a backend to C3.
pub fn b_tcp(backend: Host, port: u16, flags: u8, seq: u32, payload: &[u8]) -> Packet {
    Packet::tcp(at(backend, 80), at(C3, port), flags, seq, payload)
}

/// C3's packet goes to backend 1, redirected to its port.
pub fn to_b1(packet: &Packet) -> Expect {
    let out = packet.clone().to(at(B1, packet.dport)).bytes();
    forwarded(Action::Redirect(1), 1, 1, out)
}

/// C3's packet goes to backend 2, redirected to its port.
pub fn to_b2(packet: &Packet) -> Expect {
    let out = packet.clone().to(at(B2, packet.dport)).bytes();
    forwarded(Action::Redirect(2), 1, 2, out)
}

/// A backend's packet goes to C3, redirected, as if from the VIP.
pub fn to_c3(backend: u16, packet: &Packet) -> Expect {
    replied(Action::Redirect(3), 1, backend, packet.clone().from(vip(packet.sport)).bytes())
}

/// The same, and the backend shows at the row's start that it is alive.
pub fn to_c3_alive(backend: u16, packet: &Packet) -> Expect {
    to_c3(backend, packet).alive(1, backend, START)
}

/// The IPv6 VIP as a destination.
pub const fn vip6(port: u16) -> (Mac, Ip, u16) {
    (VIP6_MAC, VIP6, port)
}

/// The scenario of the picture, all of it over IPv6.
pub fn lab6() -> Scenario {
    Scenario {
        vips: vec![a_vip(1, VIP6, &[(Protocol::Tcp, 80), (Protocol::Udp, 53)], &[1, 2])],
        backends: vec![a_backend(1, 1, B1_6, 1), a_backend(2, 1, B2_6, 2)],
        ..lab()
    }
}

/// The same, changed.
pub fn lab6_with(change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = lab6();
    change(&mut scenario);
    scenario
}
