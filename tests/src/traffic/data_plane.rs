//! A data plane in which everything happens, and how it changes.

use crate::frame::{Ip, Mac, v4, v6};
use crate::namespace::PORTS;
use crate::random::Random;
use crate::scenario::{
    Backend, Handing, Listed, Mode, OnDown, Port, Protocol, Scenario, Selection, State, Timeouts, Vip,
};

/// Hosts that are backends, from number 1.
pub const BACKEND_HOSTS: u8 = 3;
/// Hosts, from number 1.
pub const HOSTS: u8 = 8;
/// VIPs, from id 1.
pub const VIPS: u8 = 12;
/// The VIP that is a prefix.
const PREFIX: u16 = 7;

/// MAC and IPv4 address of a host.
#[must_use]
pub const fn host(number: u8) -> (Mac, Ip) {
    ([2, 0, 0, 0, 0, number], v4(10, 0, 0, number))
}

/// MAC and IPv6 address of a host.
#[must_use]
pub const fn host6(number: u8) -> (Mac, Ip) {
    ([2, 0, 0, 0, 0, number], v6(0, number as u16))
}

/// MAC and address of the VIP with this id.
#[must_use]
pub const fn vip(id: u8) -> (Mac, Ip) {
    let address = match id {
        6 | 10 | 11 => v6(1, id as u16),
        7 => v6(7, 0),
        _ => v4(10, 0, 1, id),
    };
    ([2, 0x6c, 10, 0, 1, id], address)
}

/// The address that full NAT lends ports of, where it is not the VIP's own.
const LENT: Ip = v4(10, 0, 2, 8);

fn vips(random: &mut Random) -> Vec<Vip> {
    use Protocol::{Tcp, Udp};
    let (all, none): (&[_], &[_]) = (&[(Tcp, 80), (Udp, 53)], &[]);
    let new = |id: u16, mode: Mode, services: &[(Protocol, u16)], ranges: &[(Protocol, u16, u16)]| {
        let (mac, address) = vip(id as u8);
        Vip { mode, services: services.to_vec(), ranges: ranges.to_vec(), ..Vip::new(id, address, mac) }
    };
    let mut vips = vec![
        new(1, Mode::Nat, all, none),
        new(2, Mode::Nat, &[(Tcp, 443)], none),
        new(3, Mode::Nat, &[(Tcp, 0)], none),
        new(4, Mode::Dsr, all, none),
        new(5, Mode::Nat, &[(Udp, 0)], none),
        new(6, Mode::Nat, all, none),
        Vip { prefix: Some(112), ..new(PREFIX, Mode::Dsr, &[(Udp, 0)], &[(Tcp, 1, 1000)]) },
        Vip {
            lent: (20000, 12),
            source: random.one_in(2).then_some(LENT),
            ..new(8, Mode::FullNat, all, none)
        },
        new(9, Mode::Ipip, &[(Tcp, 80), (Udp, 0)], none),
        Vip { lent: (30000, 9), ..new(10, Mode::FullNat, all, none) },
        new(11, Mode::Ipip, all, none),
        new(12, Mode::Nat, &[(Tcp, 80)], &[(Tcp, 400, 500), (Udp, 50, 60)]),
    ];
    for vip in &mut vips {
        vip.selection = random.pick(&[
            Selection::Random,
            Selection::RoundRobin,
            Selection::Maglev,
            Selection::SourceHash,
            Selection::FlowHash,
            Selection::LeastConnections,
        ]);
        vip.on_down = random.pick(&[OnDown::Keep, OnDown::Repick, OnDown::Reset]);
        vip.last_known = random.one_in(6);
        vip.echo = random.one_in(2);
        vip.stateless = random.one_in(4);
        vip.affinity = if random.one_in(4) { 40 } else { 0 };
        vip.per_source = if random.one_in(8) { 6 } else { 0 };
        // The answer is of the VIP's protocol: only where there is one.
        let tcp = |v: &Vip| v.services.iter().any(|(p, _)| *p == Tcp) || v.ranges.iter().any(|r| r.0 == Tcp);
        let udp = |v: &Vip| v.services.iter().any(|(p, _)| *p == Udp) || v.ranges.iter().any(|r| r.0 == Udp);
        vip.reject = random.one_in(2) && tcp(vip) != udp(vip);
        vip.transmit = random.one_in(3);
        if vip.mode == Mode::Ipip {
            vip.source = Some(if random.one_in(2) { vip.address } else { host(9).1 });
            vip.tunnel_mtu = random.pick(&[1500, 120]);
        }
        if random.one_in(6) {
            vip.deny_others = random.one_in(3);
            let address = if vip.address.is_ipv4() { host(4).1 } else { host6(4).1 };
            let whole = if vip.address.is_ipv4() { 32 } else { 128 };
            vip.listed = vec![
                Listed { address, length: whole - 2, allowed: random.one_in(2) },
                Listed { address, length: whole, allowed: random.one_in(2) },
            ];
        }
    }
    vips
}

/// A data plane in which everything happens: VIPs of all modes that share three hosts.
#[must_use]
pub fn scenario(random: &mut Random) -> Scenario {
    let mut vips = vips(random);
    let mut backends = Vec::new();
    for vip in &mut vips {
        for number in 1..=1 + random.below(usize::from(BACKEND_HOSTS)) as u8 {
            let id = vip.id * 10 + u16::from(number);
            // A tunnel may be of another family than what goes through it.
            let sixth = match (vip.mode, vip.source) {
                (Mode::Ipip, Some(source)) => source.is_ipv6(),
                _ => vip.address.is_ipv6(),
            };
            let (mac, address) = if sixth { host6(number) } else { host(number) };
            backends.push(Backend {
                port: if vip.id == 2 || vip.id == 10 { 8443 } else { 0 },
                shared: vip.mode == Mode::Nat,
                weight: 1 + random.below(3) as u16,
                load: random.below(4) as u32,
                mac: if random.one_in(30) { [0; 6] } else { mac },
                ..Backend::new(id, vip.id, (mac, address), number.into())
            });
            vip.ring.extend(vec![id; 1 + random.below(2)]);
        }
    }
    let port = |(place, ifindex): (usize, &u32)| Port {
        slot: 1 + place as u16,
        ifindex: *ifindex,
        switch: if place == 4 { 2 } else { 1 },
        redirect: place != 3,
    };
    Scenario {
        vips,
        backends,
        // The last interface is not attached.
        ports: PORTS[..5].iter().enumerate().map(port).collect(),
        timeouts: Timeouts {
            syn: 60,
            unverified: 25,
            established: 600,
            closing: 20,
            closed: 10,
            udp: 30,
            suspect: 15,
            fragment: 40,
        },
        max_new: if random.one_in(4) { 8 } else { 0 },
        handing: if random.one_in(16) { handing(random) } else { Handing::No },
        connections: 4096,
        stray_bits: Vec::new(),
    }
}

fn handing(random: &mut Random) -> Handing {
    random.pick(&[Handing::No, Handing::No, Handing::Over, Handing::Back])
}

/// Changes something in the tables, as the daemon would.
pub fn change(random: &mut Random, scenario: &mut Scenario) {
    let place = random.below(scenario.backends.len());
    let backend = &mut scenario.backends[place];
    match random.below(13) {
        0..4 => {
            backend.state =
                random.pick(&[State::Up, State::Up, State::Down, State::Draining, State::Disabled]);
        }
        4 => backend.generation = backend.generation.wrapping_add(1),
        5 => backend.slot = random.below(7) as u16,
        6 => {
            let place = random.below(scenario.ports.len());
            scenario.ports[place].redirect = random.one_in(2);
        }
        7 => {
            let place = random.below(scenario.vips.len());
            let only = random.below(2);
            scenario.vips[place].ring.truncate(only);
        }
        8 => backend.load += 1 + random.below(3) as u32,
        9 => scenario.max_new = random.pick(&[0, 0, 8]),
        10 => scenario.handing = handing(random),
        _ => {
            // The tables catch up with the states.
            for vip in &mut scenario.vips {
                let mut ring = Vec::new();
                for b in scenario.backends.iter().filter(|b| b.vip == vip.id && b.state == State::Up) {
                    ring.extend(vec![b.id; 1 + random.below(2)]);
                }
                vip.ring = ring;
            }
        }
    }
}

/// How far a jump of the clock goes.
pub fn jump(random: &mut Random) -> u32 {
    random.pick(&[1, 5, 10, 11, 15, 16, 20, 21, 25, 26, 30, 31, 40, 41, 60, 61, 256, 600, 601, 5000])
}
