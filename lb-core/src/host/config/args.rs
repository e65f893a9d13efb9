//! One VIP from the command line.

use super::check::{self, BackendPlace, Places, VipPlace};
use super::error::{ConfigError, Origin, Problems};
use super::parse::{MODES, PLACEMENTS, PRESETS, PROTOCOLS, SELECTIONS};
use super::read::pick;
use super::vip::{LENT, default_mode};
use super::{
    Admin, BackendConfig, Config, ConnectionsConfig, HealthConfig, HealthPreset, Mode, NoBackend, OnDown,
    OverCap, Placement, PlacementKind, Ports, Protocol, Selection, SnatConfig, VipConfig, VipKey,
};
use crate::host::addr::{self, MacAddr};

/// The arguments as people typed them, so that every refusal is worded in one place. `None` is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arguments<'a> {
    /// `--ip`: the VIP's address.
    pub ip: &'a str,
    /// `--servers`: backend addresses, divided by commas, each with an optional port (`10.0.0.1:8080`).
    pub servers: &'a str,
    /// `--port`: the VIP's port; `None` is every port.
    pub port: Option<&'a str>,
    /// `--protocol`: `tcp` or `udp`.
    pub protocol: Option<&'a str>,
    /// `--selection`: `random`, `round-robin`, `source-hash`, `flow-hash`, `maglev` or `least-connections`.
    pub selection: Option<&'a str>,
    /// `--mode`: `nat`, `fullnat`, `dsr`; what `ipip` needs is only in a file.
    pub mode: Option<&'a str>,
    /// `--placement`: `inline` or `onearm`.
    pub placement: Option<&'a str>,
    /// `--host`: the host that balances, with `onearm`.
    pub host: Option<&'a str>,
    /// `--attach`, as often as given: interface names.
    pub attach: &'a [String],
    /// `--health`: `default` or `pox`.
    pub health: Option<&'a str>,
}

/// Builds and checks the configuration of `arguments`.
pub(super) fn config(arguments: &Arguments<'_>) -> Result<Config, ConfigError> {
    let refuse = |message: &str| ConfigError::new(Origin::Arguments, message);
    let address = addr::parse_host(arguments.ip, "VIP").map_err(|e| refuse(&format!("--ip: {e}")))?;
    let mut backends = Vec::new();
    for text in arguments.servers.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        backends.push(server(text).map_err(|e| refuse(&format!("--servers: {e}")))?);
    }
    if backends.is_empty() {
        return Err(refuse(
            "--servers: no backend; give addresses divided by commas, as in 10.0.0.1,10.0.0.2",
        ));
    }
    let port =
        arguments.port.map(addr::parse_port).transpose().map_err(|e| refuse(&format!("--port: {e}")))?;
    let protocol = choose("--protocol", arguments.protocol, PROTOCOLS, Protocol::default())?;
    let selection = choose("--selection", arguments.selection, SELECTIONS, Selection::default())?;
    let kind = choose("--placement", arguments.placement, PLACEMENTS, PlacementKind::default())?;
    let preset = choose("--health", arguments.health, PRESETS, HealthPreset::default())?;
    let mode = choose("--mode", arguments.mode, MODES, default_mode(kind))?;
    if mode == Mode::IpIp {
        return Err(refuse(
            "--mode ipip needs tunnel_source, which only a file has; write one, see --config",
        ));
    }
    let ports = Ports::one(port.unwrap_or(0));
    // The order of the arguments stands in for the order of a file.
    let places = Places {
        placement: 3,
        attach: vec![4; arguments.attach.len()],
        probe: [0; 2],
        vips: vec![VipPlace {
            backends: backends
                .iter()
                .map(|_| BackendPlace { head: 1, name: 1, address: 1, port: 1, apart: 1 })
                .collect(),
            ..VipPlace::default()
        }],
    };
    let mut config = Config {
        placement: Placement {
            kind,
            host: arguments.host.map(str::to_owned),
            attach: arguments.attach.to_vec(),
        },
        health: HealthConfig::preset(preset),
        connections: ConnectionsConfig::default(),
        vips: vec![VipConfig {
            name: VipKey::new(address, port.unwrap_or(0), protocol).to_string(),
            address,
            prefix_len: None,
            ports,
            protocol,
            selection,
            mode,
            mac: MacAddr::of_vip(address),
            affinity_s: 0,
            snat: (mode == Mode::FullNat).then_some(SnatConfig { address, ports: LENT }),
            tunnel: None,
            echo: true,
            allow: Vec::new(),
            deny: Vec::new(),
            max_new_per_source_s: 0,
            over_cap: OverCap::default(),
            on_down: OnDown::default(),
            no_backend: NoBackend::default(),
            check: None,
            slow_start_s: 0,
            backends,
        }],
    };
    let mut problems = Problems::default();
    check::config(&mut config, &places, &mut problems);
    problems.into_first().map_or(Ok(config), |(_, message)| Err(refuse(&message)))
}

fn choose<T: Copy>(
    option: &str,
    word: Option<&str>,
    choices: &[(&str, T)],
    default: T,
) -> Result<T, ConfigError> {
    word.map_or(Ok(default), |word| {
        pick(option, word, choices).map_err(|message| ConfigError::new(Origin::Arguments, &message))
    })
}

/// `10.0.0.1`, `10.0.0.1:8080`, `2001:db8::1` or `[2001:db8::1]:8080`.
pub(in crate::host) fn server(text: &str) -> Result<BackendConfig, addr::AddrError> {
    let (address, port) = match (text.strip_prefix('['), text.split_once(':')) {
        (Some(rest), _) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, Some(addr::parse_port(port.trim_start_matches(':'))?)),
            None => (text, None),
        },
        (None, Some((address, port))) if !port.contains(':') => (address, Some(addr::parse_port(port)?)),
        _ => (text, None),
    };
    let address = addr::parse_host(address, "backend")?;
    let name = BackendConfig::default_name(address, port, None);
    Ok(BackendConfig { name, address, mac: None, host: None, port, weight: 1, admin: Admin::Enabled })
}
