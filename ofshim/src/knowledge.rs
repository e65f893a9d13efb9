//! Knowledge of the balancer from its configuration file, and from what its daemon answers to `GET /v1/status`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use lb_core::host::config::{Config, Mode, PlacementKind, Protocol};
use openflow::MacAddr;
use serde::Deserialize;

use crate::core::{Placement, Service, VipKnowledge};

/// What the file says. Where a one-armed balancer's host is, only the daemon knows.
#[must_use]
pub fn of_config(config: &Config) -> VipKnowledge {
    let placement = match config.placement.kind {
        PlacementKind::Inline => Placement::Inline,
        PlacementKind::OneArm => Placement::OneArm { host_mac: None },
    };
    // ARP, and with it everything that is done here, is IPv4's.
    let vips = config.vips.iter().filter_map(|vip| Some((ipv4(vip.address)?, MacAddr(vip.mac.0))));
    let backends = config.backend_addresses().into_iter().filter_map(ipv4);
    let translating = config.vips.iter().filter(|vip| vip.mode == Mode::Nat);
    let services = translating.flat_map(|vip| {
        vip.backends.iter().flat_map(|backend| {
            let bounds = backend.port.map_or(vip.ports.bounds(), |port| (port, port));
            services(backend.address, vip.protocol.number(), bounds)
        })
    });
    VipKnowledge::new(vips, backends, [], placement).with_services(services)
}

/// What the daemon says; keys that are not named here do not matter.
///
/// # Errors
/// The text is not JSON, or lacks what is needed.
pub fn of_status(json: &[u8]) -> Result<VipKnowledge, String> {
    let status: Status = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut backends = BTreeSet::new();
    let mut vips = Vec::new();
    let mut answered = Vec::new();
    for vip in status.vips {
        if vip.mode == "nat" {
            for backend in &vip.backends {
                let bounds = backend.port.map_or_else(|| bounds(&vip.ports), |port| Ok((port, port)))?;
                answered.extend(services(backend.address, protocol(&vip.protocol)?, bounds));
            }
        }
        backends.extend(vip.backends.iter().filter_map(|backend| ipv4(backend.address)));
        // ARP, and with it everything that is done here, is IPv4's.
        vips.extend(ipv4(vip.address).zip(Some(mac(&vip.mac)?)));
    }
    let probers: Vec<MacAddr> = status.prober_macs.iter().map(|text| mac(text)).collect::<Result<_, _>>()?;
    let placement = match status.placement.kind.as_str() {
        "inline" => Placement::Inline,
        "onearm" => Placement::OneArm { host_mac: status.placement.mac.as_deref().map(mac).transpose()? },
        other => return Err(format!("placement {other:?} is not known")),
    };
    Ok(VipKnowledge::new(vips, backends, probers, placement).with_services(answered))
}

/// The most ports of a range that are told apart; beyond it a service is the whole protocol of its backend.
pub const MAX_PORTS_OF_A_SERVICE: usize = 64;
/// What ports later fragments have in a switch's match (OpenFlow 1.0, 3.4): none, which is written as zero.
const NO_PORT: u16 = 0;

/// The services of a backend for the ports from the first to the last; 0 is the first of all.
fn services(address: IpAddr, protocol: u8, (first, last): (u16, u16)) -> Vec<Service> {
    let service = |port| Service { address, protocol, port };
    if first == 0 || usize::from(last.saturating_sub(first)) >= MAX_PORTS_OF_A_SERVICE {
        return vec![service(None)];
    }
    (first..=last).chain([NO_PORT]).map(|port| service(Some(port))).collect()
}

/// The first and the last of `80`, `8000-8010` or `all`.
fn bounds(ports: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("ports {ports:?} are not understood"));
    match (ports, ports.split_once('-')) {
        ("all", _) => Ok((0, u16::MAX)),
        (_, Some((first, last))) => Ok((number(first)?, number(last)?)),
        (one, None) => Ok((number(one)?, number(one)?)),
    }
}

fn protocol(word: &str) -> Result<u8, String> {
    match word {
        "tcp" => Ok(Protocol::Tcp.number()),
        "udp" => Ok(Protocol::Udp.number()),
        other => Err(format!("protocol {other:?} is not known")),
    }
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|error: openflow::MacAddrParseError| error.to_string())
}

#[derive(Deserialize)]
struct Status {
    vips: Vec<Vip>,
    #[serde(default)]
    prober_macs: Vec<String>,
    placement: Place,
}

#[derive(Deserialize)]
struct Vip {
    address: IpAddr,
    mac: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    ports: String,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    backends: Vec<Backend>,
}

#[derive(Deserialize)]
struct Backend {
    address: IpAddr,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Deserialize)]
struct Place {
    kind: String,
    #[serde(default)]
    mac: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    const VIRTUAL: MacAddr = MacAddr([2, 0x6c, 10, 0, 1, 1]);

    #[test]
    fn the_daemon_s_answer() {
        let json = br#"{"version":"x","vips":[{"address":"10.0.1.1","mac":"02:6c:0a:00:01:01","port":80,
            "ports":"80","protocol":"tcp","mode":"nat","backends":[{"address":"10.0.0.1","state":"up","mac":null}]}],
            "prober_macs":["02:00:00:00:00:09"],"placement":{"kind":"inline","host":null,"mac":null}}"#;
        let known = of_status(json).unwrap();
        assert_eq!(known.vips().collect::<Vec<_>>(), [(VIP, VIRTUAL)]);
        assert!(known.is_backend(Ipv4Addr::new(10, 0, 0, 1)) && known.is_prober(MacAddr([2, 0, 0, 0, 0, 9])));
        assert_eq!(known.placement(), Placement::Inline);

        let json = br#"{"vips":[],"placement":{"kind":"onearm","host":"lb1","mac":"02:00:00:00:00:07"}}"#;
        let host_mac = Some(MacAddr([2, 0, 0, 0, 0, 7]));
        assert_eq!(of_status(json).unwrap().placement(), Placement::OneArm { host_mac });
    }

    #[test]
    fn answers_that_say_nothing_are_refused() {
        for json in [
            &b"{}"[..],
            b"nonsense",
            br#"{"vips":[],"placement":{"kind":"sideways"}}"#,
            br#"{"vips":[{"address":"10.0.1.1","mac":"zz"}],"placement":{"kind":"inline"}}"#,
        ] {
            assert!(of_status(json).is_err(), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn the_file() {
        let text = "[[vip]]\naddress = \"10.0.1.1\"\nport = 80\n\n[[vip.backend]]\naddress = \"10.0.0.1\"\n";
        let known = of_config(&Config::from_toml(text, "lb.toml").unwrap());
        assert_eq!(known.vips().collect::<Vec<_>>(), [(VIP, VIRTUAL)]);
        assert_eq!(known.backends().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 1)]);
    }

    #[test]
    fn services_whose_answers_are_steered() {
        let of = |ports: &str, mode: &str| {
            let json = format!(
                r#"{{"vips":[{{"address":"10.0.1.1","mac":"02:6c:0a:00:01:01","ports":"{ports}","protocol":"udp",
                    "mode":"{mode}","backends":[{{"address":"10.0.0.1","port":null}}]}}],
                    "placement":{{"kind":"onearm","host":"lb1","mac":null}}}}"#
            );
            of_status(json.as_bytes())
                .map(|known| known.services().map(|service| service.port).collect::<Vec<_>>())
        };
        assert_eq!(of("53", "nat").unwrap(), [Some(0), Some(53)], "0 is what later fragments have");
        assert_eq!(of("8000-8002", "nat").unwrap(), [Some(0), Some(8000), Some(8001), Some(8002)]);
        assert_eq!(of("all", "nat").unwrap(), [None]);
        assert_eq!(of("1-1000", "nat").unwrap(), [None], "too many to tell apart");
        for mode in ["dsr", "ipip", "fullnat"] {
            assert_eq!(of("53", mode).unwrap(), [], "{mode}: answers find their way");
        }
        assert!(of("many", "nat").unwrap_err().contains("\"many\""));

        let text = "[placement]\nkind = \"onearm\"\nhost = \"lb1\"\n\n[[vip]]\naddress = \"10.0.1.1\"\nport = 80\n\
                    mode = \"nat\"\n\n[[vip.backend]]\naddress = \"10.0.0.1\"\nport = 8080\n";
        let known = of_config(&Config::from_toml(text, "lb.toml").unwrap());
        let services: Vec<_> = known.services().map(|service| (service.protocol, service.port)).collect();
        assert_eq!(services, [(6, Some(0)), (6, Some(8080))]);
    }
}
