//! A capture as a network: who is at which port, and what comes in there when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_core::host::addr::MacAddr;
use lb_core::host::config::Config;
use lb_core::host::replay::Station;

use crate::explain::frame::{self, Layout};
use crate::pcap;

/// The most hosts, each at a port of its own.
const MAX_HOSTS: usize = 4000;
/// The most addresses that a host answers for: as many as the controller remembers.
const MAX_ADDRESSES: usize = 16;
/// Frames that the kernel takes for a run of a program, with room for what the program needs: a page, without its ends.
const LONGEST: usize = 3400;
/// The shortest: an Ethernet header.
const SHORTEST: usize = 14;

/// A frame that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its number in the file, from 1.
    pub number: u64,
    /// Nanoseconds since the first frame of the file; never less than the one before.
    pub at_ns: u64,
    /// The port that it comes in by.
    pub port: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a capture comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Backends first, then clients.
    pub hosts: Vec<Station>,
    /// The frames to be compared.
    pub frames: Vec<Incoming>,
    /// The others, by why.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Frames to a VIP that had another destination MAC than the VIP's, and were given that.
    pub readdressed: u64,
}

impl Network {
    /// The client at a port has this address, too; a router's clients are not all remembered.
    fn answers_for(&mut self, port: u32, address: IpAddr) {
        let index = usize::try_from(port).unwrap_or(0).saturating_sub(1);
        let Some(host) = self.hosts.get_mut(index) else { return };
        if host.addresses.len() < MAX_ADDRESSES && !host.addresses.contains(&address) {
            host.addresses.push(address);
        }
    }
}

/// The network of a capture under a configuration. Backends that did not send anything in it have MACs that are made up.
///
/// # Errors
/// One line: there are too many hosts.
pub fn network(config: &Config, frames: &[pcap::Frame]) -> Result<Network, String> {
    let virtual_macs: BTreeSet<[u8; 6]> = config.vips.iter().map(|vip| vip.mac.0).collect();
    let vips: BTreeMap<IpAddr, [u8; 6]> = config.vips.iter().map(|vip| (vip.address, vip.mac.0)).collect();
    let layouts: Vec<Option<Layout>> = frames.iter().map(|frame| frame::layout(&frame.bytes)).collect();
    let mut network = Network { hosts: backends(config, &layouts, &virtual_macs), ..Network::default() };
    let backends: BTreeSet<[u8; 6]> = network.hosts.iter().map(|host| host.mac.0).collect();
    let mut ports: BTreeMap<[u8; 6], u32> =
        network.hosts.iter().map(|host| (host.mac.0, host.port)).collect();
    let (first, mut last) = (frames.first().map_or(0, |frame| frame.at_ns), 0);
    for ((number, frame), layout) in (1..).zip(frames).zip(&layouts) {
        last = frame.at_ns.saturating_sub(first).max(last);
        let mut bytes = frame.bytes.clone();
        let layout = match sort(frame, layout.as_ref(), &virtual_macs) {
            Ok(layout) => layout,
            Err(why) => {
                *network.skipped.entry(why).or_default() += 1;
                continue;
            }
        };
        let of_backend = backends.contains(&layout.macs.0);
        let to_vip = layout.ip.and_then(|ip| vips.get(&ip.addresses.1));
        match to_vip {
            Some(mac) if layout.macs.1 != *mac && !of_backend => {
                if backends.contains(&layout.macs.1) {
                    *network
                        .skipped
                        .entry("balanced already: from a VIP's client to a backend")
                        .or_default() += 1;
                    continue;
                }
                bytes[..6].copy_from_slice(mac);
                network.readdressed += 1;
            }
            None if !of_backend && !virtual_macs.contains(&layout.macs.1) => {
                *network.skipped.entry("neither to a VIP nor of a backend").or_default() += 1;
                continue;
            }
            _ => {}
        }
        let next = u32::try_from(ports.len() + 1).unwrap_or(u32::MAX);
        let port = *ports.entry(layout.macs.0).or_insert(next);
        if port == next {
            if network.hosts.len() >= MAX_HOSTS {
                return Err(format!("has more than {MAX_HOSTS} hosts: cut it, for instance with editcap -r"));
            }
            network.hosts.push(Station { port, mac: MacAddr(layout.macs.0), addresses: Vec::new() });
        }
        if let Some(ip) = layout.ip.filter(|_| !of_backend) {
            network.answers_for(port, ip.addresses.0);
        }
        network.frames.push(Incoming { number, at_ns: last, port, bytes });
    }
    Ok(network)
}

/// Why a frame is not compared, or what is in it.
fn sort<'l>(
    frame: &pcap::Frame,
    layout: Option<&'l Layout>,
    virtual_macs: &BTreeSet<[u8; 6]>,
) -> Result<&'l Layout, &'static str> {
    let cut = u64::from(frame.length) > frame.bytes.len() as u64;
    let layout = layout.filter(|_| frame.bytes.len() >= SHORTEST).ok_or("no Ethernet header")?;
    if layout.ip.is_none() {
        return Err("not IP");
    }
    if virtual_macs.contains(&layout.macs.0) {
        return Err("balanced already: from a VIP to its client");
    }
    if layout.macs.0[0] & 1 != 0 || layout.macs.0 == [0; 6] {
        return Err("no host sent it");
    }
    if cut {
        return Err("cut short when it was captured");
    }
    if frame.bytes.len() > LONGEST {
        return Err("longer than 3400 bytes");
    }
    Ok(layout)
}

/// The backends as hosts, one for each MAC.
fn backends(config: &Config, layouts: &[Option<Layout>], virtual_macs: &BTreeSet<[u8; 6]>) -> Vec<Station> {
    let mut seen: BTreeMap<IpAddr, [u8; 6]> = BTreeMap::new();
    for layout in layouts.iter().flatten() {
        let Some(ip) = layout.ip else { continue };
        if !virtual_macs.contains(&layout.macs.0) && layout.macs.0[0] & 1 == 0 {
            seen.entry(ip.addresses.0).or_insert(layout.macs.0);
        }
    }
    let mut by_mac: Vec<Station> = Vec::new();
    for (number, station) in (1..).zip(config.stations()) {
        let [high, low] = u16::to_be_bytes(number);
        let made_up = MacAddr([2, 0x6c, 0x62, 0, high, low]);
        let mac =
            station.mac.or_else(|| seen.get(&station.address).map(|mac| MacAddr(*mac))).unwrap_or(made_up);
        match by_mac.iter_mut().find(|host| host.mac == mac) {
            Some(host) => host.addresses.push(station.address),
            None => {
                let port = u32::try_from(by_mac.len() + 1).unwrap_or(u32::MAX);
                by_mac.push(Station { port, mac, addresses: vec![station.address] });
            }
        }
    }
    by_mac
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::explain::frame::{Flow, SYN};

    const TOML: &str = "[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\n\
        [[vip.backend]]\naddress = \"10.0.0.1\"\n[[vip.backend]]\naddress = \"10.0.0.2\"\n";

    fn frame(from: (u8, &str), to: ([u8; 6], &str), at_ns: u64) -> pcap::Frame {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let flow = Flow {
            macs: ([2, 0, 0, 0, 0, from.0], to.0),
            source: address(from.1),
            destination: address(to.1),
            tcp: true,
            flags: SYN,
        };
        let bytes = flow.frame().expect("a frame");
        pcap::Frame { length: bytes.len() as u32, bytes, at_ns }
    }

    #[test]
    fn hosts_and_frames_are_those_of_the_capture() {
        let config = Config::from_toml(TOML, "lb.toml").expect("a configuration");
        let virtual_mac = config.vips[0].mac.0;
        let h1 = [2, 0, 0, 0, 0, 1];
        let frames = [
            frame((9, "10.0.0.9:40000"), (virtual_mac, "10.0.1.1:80"), 5_000),
            frame((1, "10.0.0.1:80"), ([2, 0, 0, 0, 0, 9], "10.0.0.9:40000"), 7_000),
            // By a router, and earlier than the one before.
            frame((9, "10.0.0.9:40001"), ([2, 0, 0, 0, 0, 7], "10.0.1.1:80"), 6_000),
            // On its way to a backend, from a VIP, and of nobody's concern.
            frame((9, "10.0.0.9:40002"), (h1, "10.0.1.1:80"), 8_000),
            pcap::Frame {
                bytes: [&[0, 0, 0, 0, 0, 9][..], &virtual_mac, &[8, 0, 0x45]].concat(),
                length: 15,
                at_ns: 0,
            },
            frame((9, "10.0.0.9:40003"), ([2, 0, 0, 0, 0, 8], "10.0.0.8:80"), 9_000),
        ];
        let network = network(&config, &frames).expect("a network");
        let hosts: Vec<_> =
            network.hosts.iter().map(|host| (host.port, host.mac.0[5], host.addresses.len())).collect();
        assert_eq!(hosts, [(1, 1, 1), (2, 2, 1), (3, 9, 1)]);
        assert_eq!(network.hosts[1].mac, MacAddr([2, 0x6c, 0x62, 0, 0, 2]), "made up");
        let seen: Vec<_> = network.frames.iter().map(|f| (f.number, f.at_ns, f.port)).collect();
        assert_eq!(seen, [(1, 0, 3), (2, 2_000, 1), (3, 2_000, 3)]);
        assert_eq!((network.readdressed, &network.frames[2].bytes[..6]), (1, &virtual_mac[..]));
        assert_eq!(network.skipped.values().sum::<u64>(), 3, "{:?}", network.skipped);
    }

    #[test]
    fn what_is_cut_or_too_long_is_counted() {
        let config = Config::from_toml(TOML, "lb.toml").expect("a configuration");
        let whole = frame((9, "10.0.0.9:40000"), (config.vips[0].mac.0, "10.0.1.1:80"), 0);
        let cut = pcap::Frame { length: 1500, ..whole.clone() };
        let mut long = whole.clone();
        long.bytes.resize(4000, 0);
        let network = network(&config, &[whole, cut, long]).expect("a network");
        let skipped = [("cut short when it was captured", 1), ("longer than 3400 bytes", 1)];
        assert_eq!((network.frames.len(), network.skipped), (1, BTreeMap::from(skipped)));
    }
}
