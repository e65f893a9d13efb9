//! What the read commands show: plain values, the same in the API's JSON and in the command line.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The addresses it listens on for switches.
    pub listen: Vec<String>,
    /// The OpenFlow versions it speaks: `1.0`, `1.3`.
    pub openflow: Vec<String>,
    /// Seconds without a packet after which a forwarding entry goes; 0 never.
    pub idle_timeout_s: u16,
    /// Seconds after which a forwarding entry goes in any case; 0 never.
    pub hard_timeout_s: u16,
    /// The switches that are connected.
    pub switches: Vec<Switch>,
    /// How many hosts are learned, over all switches.
    pub hosts: usize,
    /// How many flow entries of ours there are, over all switches.
    pub flows: usize,
    /// What is known of the balancer.
    pub balancer: Balancer,
}

/// A switch in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Datapath id, 16 hex digits.
    pub dpid: String,
    /// The version negotiated: `1.0` or `1.3`.
    pub openflow: String,
    /// The address that it connected from.
    pub peer: String,
    /// Seconds since it connected.
    pub connected_s: u64,
    /// How many of its ports are up.
    pub ports_up: usize,
    /// Messages that came as packet-in.
    pub packet_ins: u64,
    /// Messages that went as packet-out.
    pub packet_outs: u64,
    /// Messages that went as flow-mod.
    pub flow_mods: u64,
}

/// What is known of the balancer, in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balancer {
    /// Where the knowledge comes from: `daemon`, `file` or `none`.
    pub source: String,
    /// `inline` or `onearm`.
    pub placement: String,
    /// The VIPs.
    pub vips: Vec<Vip>,
    /// The backends' addresses.
    pub backends: Vec<Ipv4Addr>,
}

/// A VIP in [`Balancer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its virtual MAC.
    pub mac: String,
}

/// `GET /v1/topology`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The switches with their ports.
    pub switches: Vec<SwitchPorts>,
}

/// A switch in [`Topology`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchPorts {
    /// Datapath id, 16 hex digits.
    pub dpid: String,
    /// Its ports, by number.
    pub ports: Vec<Port>,
}

/// A port in [`SwitchPorts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number, as in OpenFlow 1.3.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: String,
    /// Whether it is enabled and its link is up.
    pub up: bool,
    /// How many hosts are learned behind it.
    pub hosts: usize,
}

/// `GET /v1/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosts {
    /// The learned hosts, by switch, MAC and VLAN.
    pub hosts: Vec<Host>,
}

/// A host in [`Hosts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its MAC.
    pub mac: String,
    /// The address that it last named as sender of an ARP packet.
    pub address: Option<Ipv4Addr>,
    /// Its VLAN id, `null` without a tag.
    pub vlan: Option<u16>,
    /// The switch.
    pub dpid: String,
    /// The port of that switch.
    pub port: u32,
    /// Milliseconds since a frame of it last came to the controller.
    pub age_ms: u64,
}

/// `GET /v1/flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// The flow entries of ours, by switch and match.
    pub flows: Vec<Flow>,
}

/// A flow entry in [`Flows`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The switch.
    pub dpid: String,
    /// The table of the switch.
    pub table: u8,
    /// The port that frames come in on.
    pub in_port: u32,
    /// VLAN id, `null` without a tag.
    pub vlan: Option<u16>,
    /// Source MAC.
    pub src: String,
    /// Destination MAC.
    pub dst: String,
    /// The port that frames leave by; `null` drops them.
    pub out_port: Option<u32>,
    /// `forward`, `transit` (from or to a virtual MAC), or `hold` (dropped).
    pub purpose: String,
    /// The cookie, `0x` and 16 hex digits.
    pub cookie: String,
    /// Milliseconds since it was installed, or found on the switch.
    pub age_ms: u64,
}
