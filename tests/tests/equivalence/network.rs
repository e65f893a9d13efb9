//! The network and the configuration of the trace: every selection, mode and family, TCP and UDP.

use std::net::IpAddr;

use lb_core::host::addr::MacAddr;
use lb_core::host::replay::Station;
use testbed::frame::{Ip, Mac, v4, v6};
use testbed::scenario::Protocol;

/// Hosts that serve, at the ports of their numbers.
pub const BACKENDS: u8 = 6;
/// Hosts that ask, at the ports behind.
pub const CLIENTS: u8 = 40;
/// Addresses of each family that a client has; the controller remembers 16 in all.
pub const ADDRESSES: u8 = 6;

/// A VIP of the trace.
#[derive(Clone, Copy, Debug)]
pub struct Vip {
    pub protocol: Protocol,
    pub mode: &'static str,
    pub selection: &'static str,
    /// Backends listen on another port.
    pub translates: bool,
    /// More settings in TOML.
    pub more: &'static str,
}

const fn tcp(mode: &'static str, selection: &'static str, translates: bool, more: &'static str) -> Vip {
    Vip { protocol: Protocol::Tcp, mode, selection, translates, more }
}

const fn udp(mode: &'static str, selection: &'static str, translates: bool, more: &'static str) -> Vip {
    Vip { protocol: Protocol::Udp, ..tcp(mode, selection, translates, more) }
}

/// The VIPs of each family.
pub const VIPS: [Vip; 16] = [
    tcp("nat", "source-hash", false, ""),
    tcp("nat", "flow-hash", true, ""),
    tcp("nat", "maglev", false, "on_down = \"repick\""),
    tcp("nat", "maglev", true, "on_down = \"reset\""),
    tcp("nat", "round-robin", true, ""),
    tcp("nat", "maglev", false, "affinity_s = 30"),
    tcp("nat", "random", true, "affinity_s = 60"),
    tcp("nat", "random", false, ""),
    tcp("nat", "least-connections", true, ""),
    tcp("dsr", "source-hash", false, ""),
    tcp("dsr", "round-robin", false, "on_down = \"repick\""),
    udp("nat", "flow-hash", true, ""),
    udp("nat", "maglev", false, ""),
    udp("nat", "round-robin", true, "affinity_s = 30"),
    udp("dsr", "flow-hash", false, ""),
    udp("dsr", "least-connections", false, ""),
];

/// MAC and addresses of a host that serves.
pub fn backend(number: u8) -> (Mac, [Ip; 2]) {
    ([2, 0, 0, 0, 0, number], [v4(10, 0, 0, number), v6(0, number.into())])
}

/// MAC and port of a host that asks.
pub fn client(number: u8) -> (Mac, u32) {
    ([2, 0, 0, 0, 1, number], u32::from(BACKENDS) + u32::from(number))
}

/// An address of a host that asks.
pub fn client_address(number: u8, which: u8, sixth: bool) -> Ip {
    if sixth { v6(0x100 + u16::from(number), which.into()) } else { v4(10, 1, number, which) }
}

/// Address and port of a VIP.
pub fn service(index: usize, sixth: bool) -> (Ip, u16) {
    let number = index as u8 + 1;
    (if sixth { v6(1, number.into()) } else { v4(10, 0, 1, number) }, 8000 + u16::from(number))
}

/// All hosts.
pub fn hosts() -> Vec<Station> {
    let backends = (1..=BACKENDS).map(|number| {
        let (mac, addresses) = backend(number);
        Station { port: number.into(), mac: MacAddr(mac), addresses: addresses.to_vec() }
    });
    let clients = (1..=CLIENTS).map(|number| {
        let (mac, port) = client(number);
        let both =
            (1..=ADDRESSES).flat_map(|which| [false, true].map(|sixth| client_address(number, which, sixth)));
        Station { port, mac: MacAddr(mac), addresses: both.collect() }
    });
    backends.chain(clients).collect()
}

/// The configuration of both modes: each VIP has four of the backends, of different weights.
pub fn config() -> String {
    let mut toml = "[connections]\ntable_size = 65536\nhalf_open_size = 65536\n".to_owned();
    for sixth in [false, true] {
        for (index, vip) in VIPS.iter().enumerate() {
            let (address, port) = service(index, sixth);
            let Vip { protocol, mode, selection, translates, more } = vip;
            let protocol = if *protocol == Protocol::Tcp { "tcp" } else { "udp" };
            toml += &format!(
                "[[vip]]\nname = \"v{}-{index}\"\naddress = \"{address}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
                 mode = \"{mode}\"\nselection = \"{selection}\"\n{more}\n",
                if sixth { 6 } else { 4 }
            );
            for place in 0..4 {
                let number = (index as u8 + place) % BACKENDS + 1;
                let address: IpAddr = backend(number).1[usize::from(sixth)];
                let translated =
                    if *translates { format!("port = {}\n", port + 1000) } else { String::new() };
                toml += &format!(
                    "[[vip.backend]]\naddress = \"{address}\"\nweight = {}\n{translated}",
                    1 + number % 3
                );
            }
        }
    }
    toml
}
