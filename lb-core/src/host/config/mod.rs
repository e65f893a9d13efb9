//! The configuration: its model, and how it is read whole or refused whole.
//!
//! A file ([`Config::from_toml`]) or the arguments of a command line ([`Config::from_args`]) become a [`Config`] in
//! which every rule already holds: whoever has one need not check again. The first mistake in file order is reported
//! as one line with file, line and mend. `docs/configuration.md` describes every key.

mod args;
mod check;
mod error;
mod health;
mod options;
mod parse;
mod read;
mod recheck;
mod rules;
mod service_check;
mod snat;
#[cfg(test)]
mod tests;
mod vip;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use self::args::Arguments;
pub(super) use self::args::server;
pub use self::error::{ConfigError, Origin};
pub use self::options::{OverCap, Ports, SnatConfig, TunnelConfig};
pub use self::service_check::{CheckConfig, CheckKind, MAX_ANSWER_BYTES};
use super::addr::{MacAddr, Prefix};
use super::health::Station;
use crate::table;

/// The most VIPs of a configuration, 256.
pub const MAX_VIPS: usize = table::MAX_VIPS - 1;
/// The most backends of one VIP, 655: with 65,537 Maglev slots each still has a hundred.
pub const MAX_BACKENDS_PER_VIP: usize = table::MAX_MEMBERS;
/// The most backends of all VIPs together, 4096: half of the ids, so that removed ones can rest while entries carry them.
pub const MAX_BACKENDS: usize = table::MAX_BACKENDS / 2;
/// The most VIPs that may claim a reply of one backend service (address, port, protocol), those of every port
/// included, 4: a reply tries that many.
pub const MAX_VIPS_PER_SERVICE: usize = table::SERVICE_VIPS;
/// The heaviest backend.
pub const MAX_WEIGHT: u16 = 256;
/// The most prefixes in the lists of clients of all VIPs together.
pub const MAX_PREFIXES: usize = 8192;
/// The most VIPs with a range of ports at one address and protocol, and the most VIPs of one address prefix.
pub const MAX_RANGES: usize = table::LIST_RANGES;
/// The longest name of a VIP or backend, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// A whole configuration, valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Where the balancer stands.
    pub placement: Placement,
    /// How backends are probed.
    pub health: HealthConfig,
    /// The connection table.
    pub connections: ConnectionsConfig,
    /// The VIPs, in the order given; at least one.
    pub vips: Vec<VipConfig>,
}

impl Config {
    /// Reads and checks the text of a configuration file. `file` is its name for messages.
    ///
    /// # Errors
    /// The first mistake in file order; nothing of the file is taken then.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ConfigError> {
        parse::config(text, file)
    }

    /// One VIP without a file, as with POX's `--ip` and `--servers`.
    ///
    /// # Errors
    /// The first mistake, in the order of the fields of [`Arguments`].
    pub fn from_args(arguments: &Arguments<'_>) -> Result<Self, ConfigError> {
        args::config(arguments)
    }

    /// Checks every rule between values again, after a change at run time.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn recheck(&self) -> Result<(), ConfigError> {
        recheck::config(self)
    }

    /// The first setting in which `new` differs that a running balancer cannot change, if there is one.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Option<&'static str> {
        if self.placement.kind != new.placement.kind {
            Some("kind in [placement]")
        } else if self.placement.host != new.placement.host {
            Some("host in [placement]")
        } else {
            let (old, new) = (self.connections.sizes(), new.connections.sizes());
            old.into_iter().zip(new).find(|(old, new)| old != new).map(|((key, _), _)| key)
        }
    }

    /// Every backend address that one host has, ascending, once.
    #[must_use]
    pub fn single_backend_addresses(&self) -> Vec<IpAddr> {
        let backends = self.vips.iter().flat_map(|vip| &vip.backends).filter(|b| !b.is_told_apart());
        let mut all: Vec<IpAddr> = backends.map(|backend| backend.address).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What the prober has to watch, ascending, each once.
    #[must_use]
    pub fn stations(&self) -> Vec<Station> {
        let backends = self.vips.iter().flat_map(|vip| &vip.backends);
        let mut all: Vec<Station> =
            backends.map(|backend| Station { address: backend.address, mac: backend.mac }).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Every backend address, ascending, once.
    #[must_use]
    pub fn backend_addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.vips.iter().flat_map(|v| &v.backends).map(|b| b.address).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Where the balancer stands.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Inline on the switch's ports, or one-armed on a host of its own.
    pub kind: PlacementKind,
    /// The host that balances; always there when one-armed, never inline.
    pub host: Option<String>,
    /// The interfaces to attach to; empty: they are discovered.
    pub attach: Vec<String>,
}

/// The two placements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementKind {
    /// XDP on the ports of the switch; sees both directions.
    #[default]
    Inline,
    /// XDP on the NIC of a host that only balances.
    OneArm,
}

/// How backends are probed.
///
/// With the default preset a backend is probed every `interval` plus a jitter of 0 to `jitter_pct` per cent, and is
/// down after `fall` probes in a row without an answer within `timeout`. A backend that dies right after it answered
/// is therefore noticed after at most
///
/// ```text
///   fall x interval x (1 + jitter)  +  timeout          = 3 x 200 ms x 1.1 + 200 ms = 860 ms
///   + one late sending and one late expiry, each at most the prober's tolerance of 50 ms  = 960 ms
/// ```
///
/// so within one second in every case in which the prober itself is not starved. Preset `pox` probes one backend a
/// tick, tick = max(250 ms, interval / number of backends), so each of them every 5 s while there are at most 20, and
/// one missed answer within 3 s is down: at most 8 s and the tolerance (POX itself looks only at ticks, and needs up
/// to 10 s).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthConfig {
    /// The schedule, and where the values below came from unless given.
    pub preset: HealthPreset,
    /// Milliseconds from one probe of a backend to the next, before jitter.
    pub interval_ms: u32,
    /// Milliseconds in which an answer counts; at most `interval_ms`, so that one probe is outstanding at a time.
    pub timeout_ms: u32,
    /// Answers in a row that make a backend up.
    pub rise: u32,
    /// Missed answers in a row that make it down.
    pub fall: u32,
    /// Per cent of the interval that are added at random, at most.
    pub jitter_pct: u32,
    /// How long a backend that keeps falling stays out.
    #[serde(flatten)]
    pub damping: DampingConfig,
    /// Who asks, in the packets of checks.
    #[serde(flatten)]
    pub probe_address: ProbeAddress,
}

/// The addresses that checks are sent from, and that `lb` answers ARP and neighbour solicitations for: nobody else's,
/// and in a network that the backends reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAddress {
    /// For backends with an IPv4 address.
    #[serde(rename = "probe_address")]
    pub v4: Option<Ipv4Addr>,
    /// For backends with an IPv6 address.
    #[serde(rename = "probe_address6")]
    pub v6: Option<Ipv6Addr>,
}

impl ProbeAddress {
    /// The one to ask `target` from.
    #[must_use]
    pub fn towards(&self, target: IpAddr) -> Option<IpAddr> {
        match target {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }

    /// Those that there are.
    #[must_use]
    pub fn all(&self) -> Vec<IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6)).collect()
    }
}

/// Flap damping: after more than `free_falls` falls within `window_s`, a backend that is healthy again has to be so for
/// `hold_ms` before it is up, twice as long after the next fall, and so on up to `longest_hold_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DampingConfig {
    /// Falls that cost nothing.
    #[serde(rename = "flap_free")]
    pub free_falls: u32,
    /// Milliseconds that the first fall beyond them costs; 0 is no damping.
    #[serde(rename = "flap_hold_ms")]
    pub hold_ms: u32,
    /// Milliseconds that a fall costs at most.
    #[serde(rename = "flap_longest_ms")]
    pub longest_hold_ms: u32,
    /// Seconds that a fall is remembered.
    #[serde(rename = "flap_window_s")]
    pub window_s: u32,
}

impl Default for DampingConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl DampingConfig {
    /// Two restarts in five minutes cost nothing, the third costs a second, and so on up to a minute.
    pub const DEFAULT: Self = Self { free_falls: 2, hold_ms: 1_000, longest_hold_ms: 60_000, window_s: 300 };
    /// None at all, as with POX.
    pub const OFF: Self = Self { hold_ms: 0, ..Self::DEFAULT };
}

/// The two ways to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthPreset {
    /// Every backend at its own pace.
    #[default]
    Default,
    /// One backend a tick in turn, as POX does.
    Pox,
}

impl HealthConfig {
    /// The values of a preset.
    #[must_use]
    pub const fn preset(preset: HealthPreset) -> Self {
        let probe_address = ProbeAddress { v4: None, v6: None };
        match preset {
            HealthPreset::Default => Self {
                preset,
                interval_ms: 200,
                timeout_ms: 200,
                rise: 2,
                fall: 3,
                jitter_pct: 10,
                damping: DampingConfig::DEFAULT,
                probe_address,
            },
            HealthPreset::Pox => Self {
                preset,
                interval_ms: 5_000,
                timeout_ms: 3_000,
                rise: 1,
                fall: 1,
                jitter_pct: 0,
                damping: DampingConfig::OFF,
                probe_address,
            },
        }
    }
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self::preset(HealthPreset::Default)
    }
}

/// The tables of connections: their sizes, when an idle entry ends, and how fast entries may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsConfig {
    /// Entries of the connection table; a power of two. Twice the expected number of connections keeps look-ups fast.
    pub table_size: u32,
    /// Entries for TCP connections that are not established yet; a power of two.
    pub half_open_size: u32,
    /// Ports that full NAT has lent at a time; a power of two.
    pub snat_size: u32,
    /// Clients whose backend is remembered; a power of two.
    pub affinity_size: u32,
    /// Clients whose new connections are counted; a power of two.
    pub source_size: u32,
    /// Fragmented packets under way; a power of two.
    pub fragment_size: u32,
    /// New connections a second, divided evenly among the processors; 0 is any number, and `None` 125,000 for each
    /// processor.
    pub max_new_per_s: Option<u32>,
    /// Seconds until an idle half-open TCP entry ends. 60: Linux repeats a SYN after at most 32 s.
    pub syn_s: u32,
    /// Seconds until an idle established TCP entry ends. 7440: RFC 5382, REQ-5, asks for 2 h 4 min at least, so that
    /// TCP keepalive (2 h) holds an entry; the table forgets the least recently used ones when it is full.
    pub established_s: u32,
    /// Seconds until an idle TCP entry ends after a FIN or reset. 240: RFC 5382, REQ-5, for transitory connections.
    pub closing_s: u32,
    /// Seconds until an idle UDP entry ends. 300: recommended by RFC 4787, REQ-5, and what POX remembers.
    pub udp_s: u32,
    /// Seconds until an idle entry ends that a packet in the middle of a flow made: nobody has shown that the connection
    /// is there.
    pub unverified_s: u32,
    /// Seconds in which the later parts of a fragmented packet follow the first. 30: what Linux waits for them.
    pub fragment_s: u32,
}

/// New connections a second of one processor unless told otherwise.
pub const MAX_NEW_PER_S_AND_PROCESSOR: u32 = 125_000;

impl ConnectionsConfig {
    /// Every size that a running balancer cannot change, by its key.
    #[must_use]
    pub const fn sizes(&self) -> [(&'static str, u32); 6] {
        [
            ("table_size in [connections]", self.table_size),
            ("half_open_size in [connections]", self.half_open_size),
            ("snat_size in [connections]", self.snat_size),
            ("affinity_size in [connections]", self.affinity_size),
            ("source_size in [connections]", self.source_size),
            ("fragment_size in [connections]", self.fragment_size),
        ]
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            table_size: 65_536,
            half_open_size: 16_384,
            snat_size: 65_536,
            affinity_size: 16_384,
            source_size: 16_384,
            fragment_size: 4_096,
            max_new_per_s: None,
            syn_s: 60,
            established_s: 7_440,
            closing_s: 240,
            udp_s: 300,
            unverified_s: 60,
            fragment_s: 30,
        }
    }
}

/// One VIP: an address or a prefix, a protocol, one port or several, and who serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipConfig {
    /// Unique among VIPs.
    pub name: String,
    /// The address that clients use; of a prefix the first.
    pub address: IpAddr,
    /// The length of the prefix whose addresses all are this VIP; `None` is one address. Only IPv6, and only where
    /// backends keep the packets' addresses.
    pub prefix_len: Option<u8>,
    /// The ports. Of two VIPs that match, one port goes before a range, and a range before every port.
    pub ports: Ports,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// How a new flow finds its backend.
    pub selection: Selection,
    /// What is rewritten.
    pub mode: Mode,
    /// The virtual MAC, the same for all VIPs of one address.
    pub mac: MacAddr,
    /// Seconds for which a client that opened a connection keeps its backend; 0 is no affinity.
    pub affinity_s: u32,
    /// Always there with full NAT, and only then.
    pub snat: Option<SnatConfig>,
    /// Always there with IPIP, and only then.
    pub tunnel: Option<TunnelConfig>,
    /// ICMP echo requests to the address are answered, the same for all VIPs of one address.
    pub echo: bool,
    /// Clients that may open connections; if there are any, no others may. The longest prefix of both lists decides.
    pub allow: Vec<Prefix>,
    /// Clients that may not.
    pub deny: Vec<Prefix>,
    /// New connections a second that one client may open; 0 is any number.
    pub max_new_per_source_s: u32,
    /// What happens beyond the cap on new connections.
    pub over_cap: OverCap,
    /// What happens to established TCP flows of a backend that went down.
    pub on_down: OnDown,
    /// What happens to new flows while no backend is up.
    pub no_backend: NoBackend,
    /// What is asked of the backends' services, besides whether their hosts are there.
    pub check: Option<CheckConfig>,
    /// Seconds in which the weight of a backend that came back grows to its full value; 0 is at once.
    pub slow_start_s: u32,
    /// At least one, in the order given.
    pub backends: Vec<BackendConfig>,
}

impl VipConfig {
    /// What makes a VIP this VIP: its place in the packets. Survives changes of everything else.
    #[must_use]
    pub fn key(&self) -> VipKey {
        VipKey {
            address: self.address,
            prefix_len: self.prefix_len,
            ports: self.ports,
            protocol: self.protocol,
        }
    }

    /// The port on which `backend` serves this VIP, 0 if the VIP is for several ports.
    #[must_use]
    pub fn service_port(&self, backend: &BackendConfig) -> u16 {
        backend.port.or(self.ports.single()).unwrap_or(0)
    }

    /// The address that a check of `backend` asks: where nothing translates the VIP's address on the way, the backend
    /// has to answer at that, and is told from others by its MAC.
    #[must_use]
    pub fn check_target(&self, backend: &BackendConfig) -> IpAddr {
        if self.mode == Mode::Dsr { self.address } else { backend.address }
    }
}

/// The identity of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipKey {
    /// Its address; of a prefix the first.
    pub address: IpAddr,
    /// The length of the prefix; `None` is one address.
    pub prefix_len: Option<u8>,
    /// Its ports.
    pub ports: Ports,
    /// Its protocol.
    pub protocol: Protocol,
}

impl VipKey {
    /// The VIP of one address, with one port in host byte order, or with every port for 0.
    #[must_use]
    pub const fn new(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self { address, prefix_len: None, ports: Ports::one(port), protocol }
    }

    /// The port in host byte order, if it is one; 0 for several.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self.ports.single() {
            Some(port) => port,
            None => 0,
        }
    }

    /// The addresses, if they are several.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        self.prefix_len.map(|length| Prefix { address: self.address, length })
    }
}

impl core::fmt::Display for VipKey {
    /// `10.0.1.1:80/tcp`, `[2001:db8::1]:8000-8010/tcp`, `[2001:db8:1::/64]:443/udp`, or `10.0.1.1/tcp` for every port.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { address, prefix_len, ports, protocol } = self;
        let braces = prefix_len.is_some() || (address.is_ipv6() && !ports.is_all());
        if braces {
            f.write_str("[")?;
        }
        write!(f, "{address}")?;
        if let Some(length) = prefix_len {
            write!(f, "/{length}")?;
        }
        if braces {
            f.write_str("]")?;
        }
        if !ports.is_all() {
            write!(f, ":{ports}")?;
        }
        write!(f, "/{protocol}")
    }
}

/// One backend of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendConfig {
    /// Unique in its VIP.
    pub name: String,
    /// The backend's own address.
    pub address: IpAddr,
    /// Its MAC, where the address alone does not tell it from other backends; found by the balancer if `host` is named.
    pub mac: Option<MacAddr>,
    /// The host that it is, where the address alone does not tell it.
    pub host: Option<String>,
    /// The port that the VIP's port is translated to, if it is.
    pub port: Option<u16>,
    /// Its share of new flows, 0 to 256; 0 takes none.
    pub weight: u16,
    /// What the administrator says about it at run time; a file says nothing.
    pub admin: Admin,
}

/// What the administrator says about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// Its health alone decides.
    #[default]
    Enabled,
    /// It keeps its flows and gets no new ones.
    Draining,
    /// It was removed, and keeps its flows until they end.
    Leaving,
    /// It is out of service; its flows are treated as those of a dead one.
    Disabled,
}

impl BackendConfig {
    /// Whether it is known by more than its address, so that others may have the same.
    #[must_use]
    pub fn is_told_apart(&self) -> bool {
        self.mac.is_some() || self.host.is_some()
    }

    /// The name of a backend that is given none: its address, with the port if it has one of its own, and with what
    /// tells it from others of this address: `10.0.0.1:8080`, `10.0.0.1-h2`.
    #[must_use]
    pub fn default_name(address: IpAddr, port: Option<u16>, apart: Option<&str>) -> String {
        let name =
            port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string());
        apart.map_or_else(|| name.clone(), |apart| format!("{name}-{apart}"))
    }
}

/// The transport protocols that are balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The number in the IPv4 header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl core::fmt::Display for Protocol {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// How a new flow finds its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// At random, by weight; as POX.
    #[default]
    Random,
    /// In turn, by weight.
    RoundRobin,
    /// By a hash of the client's address alone, consistent.
    SourceHash,
    /// By a hash of the flow over the ring of all; not consistent when the ring changes.
    FlowHash,
    /// By a consistent hash of the flow.
    Maglev,
    /// The one of two, taken at random, that has fewer live connections for its weight.
    LeastConnections,
}

/// What the balancer rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Destination address (and port) on the way there, source on the way back.
    #[default]
    Nat,
    /// The destination MAC only; the backend answers the client directly from the VIP.
    Dsr,
    /// Source and destination: the backend answers the balancer, and needs no way back to the client.
    #[serde(rename = "fullnat")]
    FullNat,
    /// Nothing: the packet goes inside another one to the backend, which answers the client directly from the VIP.
    #[serde(rename = "ipip")]
    IpIp,
}

impl Mode {
    /// Whether the backend receives packets for the VIP's own address and port.
    #[must_use]
    pub const fn keeps_destination(self) -> bool {
        matches!(self, Self::Dsr | Self::IpIp)
    }

    /// The word for it, as in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "fullnat",
            Self::Dsr => "dsr",
            Self::IpIp => "ipip",
        }
    }
}

/// What happens to established TCP flows of a backend that went down. UDP and half-open TCP flows always move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They stay, in case the backend comes back.
    #[default]
    Keep,
    /// They are given another backend, which will reset them.
    Repick,
    /// They are reset by the balancer.
    Reset,
}

/// What happens to new flows while no backend of the VIP is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoBackend {
    /// They are dropped.
    #[default]
    Drop,
    /// The client is told: a TCP reset, or ICMP "port unreachable".
    Reject,
    /// They go to the backends that were last in rotation.
    LastKnown,
}
