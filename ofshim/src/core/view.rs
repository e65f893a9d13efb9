//! What the read commands show: plain values, the same in the API's JSON and in the command line.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The addresses it listens on for switches.
    pub listen: Vec<String>,
    /// Whether switches connect by TLS there.
    pub tls: bool,
    /// The OpenFlow versions it speaks: `1.0`, `1.3`.
    pub openflow: Vec<String>,
    /// `routed`, `learning`, `hub` or `none`.
    pub forwarding: String,
    /// What entries of routes match: `five-tuple`, `addresses`, `port-addresses` or `macs`.
    pub granularity: String,
    /// What routes are judged by: `hops`, `latency`, `speed` or `utilisation`.
    pub metric: String,
    /// Whether the ways to hosts are installed ahead of traffic.
    pub proactive: bool,
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
    /// How many directed links there are.
    pub links: usize,
    /// How many clusters of connected switches there are.
    pub clusters: usize,
    /// Discovery; `null` if it is switched off.
    pub discovery: Option<Discovery>,
    /// Why packet-ins were stopped on their way through the stages, and how often.
    pub stopped: BTreeMap<String, u64>,
    /// What is known of the balancer.
    pub balancer: Balancer,
    /// The seed balancer that runs here; `null` if there is none.
    pub classic: Option<Classic>,
    /// What is balanced here by flow entries; `null` if nothing is.
    pub balancing: Option<Balancing>,
}

/// Balancing by flow entries in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Balancing {
    /// How entries are made: `reactive`.
    pub entries: String,
    /// How many connections are remembered.
    pub connections: usize,
    /// How many of them have flow entries.
    pub pinned: usize,
    /// How many are remembered at most.
    pub capacity: usize,
    /// How many flow entries they have.
    pub flow_entries: usize,
    /// What became of the packets that came to the controller, by reason.
    pub packets: BTreeMap<String, u64>,
    /// The VIPs.
    pub vips: Vec<BalancedVip>,
}

/// A VIP in [`Balancing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BalancedVip {
    /// Its name.
    pub name: String,
    /// What tells it from all others: `10.0.1.1:80/tcp`.
    pub key: String,
    /// Its address.
    pub address: IpAddr,
    /// `80`, `8000-8010` or `all`.
    pub ports: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its virtual MAC.
    pub mac: String,
    /// `nat` or `dsr`.
    pub mode: String,
    /// How a backend is chosen.
    pub selection: String,
    /// Connections opened.
    pub opened: u64,
    /// Packets dropped by a reason.
    pub dropped: u64,
    /// Its backends.
    pub backends: Vec<BalancedBackend>,
}

/// A backend in [`BalancedVip`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BalancedBackend {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The port that the VIP's is translated to; `null` if it is not.
    pub port: Option<u16>,
    /// `probing`, `up`, `down`, `draining` or `disabled`.
    pub state: String,
    /// What the administrator says: `enabled`, `draining`, `leaving` (removed, and keeping its connections until they
    /// end) or `disabled`.
    pub admin: String,
    /// When its drain is over and it is disabled, in milliseconds since 1970; `null` without a deadline.
    pub drains_until_ms: Option<u64>,
    /// Its weight.
    pub weight: u16,
    /// The MAC that it last answered from.
    pub mac: Option<String>,
    /// The port that it last answered at.
    pub place: Option<String>,
    /// How many connections are remembered.
    pub connections: usize,
    /// How many of them have not ended; `null` with standing entries, where the switches alone know.
    pub open: Option<usize>,
    /// Connections opened.
    pub opened: u64,
}

/// A seed balancer in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Classic {
    /// `pox`, `nox` or `nox-packets`.
    pub mode: String,
    /// The switch that it balances on; `null` before the first connects, and for `nox-packets`.
    pub switch: Option<String>,
    /// The address that `pox` balances.
    pub vip: Option<Ipv4Addr>,
    /// The servers of `pox`.
    pub servers: Vec<Server>,
    /// How many connections it remembers.
    pub connections: usize,
}

/// A server of a seed balancer in [`Classic`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it is alive.
    pub up: bool,
    /// The MAC that its answer named, while it is alive.
    pub mac: Option<String>,
    /// The port that its answer came in on, while it is alive.
    pub port: Option<u32>,
}

/// Link discovery in [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Discovery {
    /// Milliseconds from one frame of a port to the next.
    pub period_ms: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames that confirmed or made a link.
    pub heard: u64,
    /// Frames with a wrong check value.
    pub forged: u64,
    /// Old frames, and frames heard before.
    pub replayed: u64,
    /// Frames that hosts passed on.
    pub relayed: u64,
}

/// A switch in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switch {
    /// Datapath id, 16 hex digits.
    pub dpid: String,
    /// The version negotiated: `1.0` or `1.3`.
    pub openflow: String,
    /// The address that it connected from.
    pub peer: String,
    /// This controller's role there: `primary` (master), `equal` or `secondary` (slave).
    pub role: String,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Balancer {
    /// Where the knowledge comes from: `daemon`, `file` or `none`.
    pub source: String,
    /// `inline`, `onearm`, or `openflow` while this controller balances.
    pub placement: String,
    /// Who balances, and why: one line.
    pub balances: String,
    /// Connections that have entries of this controller.
    pub connections: usize,
    /// The VIPs.
    pub vips: Vec<Vip>,
    /// The backends' addresses.
    pub backends: Vec<Ipv4Addr>,
}

/// `POST /v1/balancer/release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// Connections that had entries.
    pub connections: usize,
}

/// A VIP in [`Balancer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vip {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its virtual MAC.
    pub mac: String,
}

/// `GET /v1/topology`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topology {
    /// The switches with their ports.
    pub switches: Vec<SwitchPorts>,
    /// The directed links.
    pub links: Vec<Link>,
    /// The clusters of connected switches.
    pub clusters: Vec<Cluster>,
}

/// A directed link in [`Topology`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// The switch that it leaves.
    pub from: String,
    /// The port that it leaves by.
    pub from_port: u32,
    /// The switch that it reaches.
    pub to: String,
    /// The port that it reaches.
    pub to_port: u32,
    /// `direct`, `tunnel` or `multi-hop`.
    pub kind: String,
    /// What it costs by the metric in force.
    pub cost: u32,
    /// How long a frame takes, as measured, in microseconds.
    pub latency_us: u64,
    /// Bits that go over it in a second, smoothed; `null` while the ports' counters are not read.
    pub load_bps: Option<u64>,
    /// How much of its port's speed that is, in thousandths, at most 1000.
    pub utilisation_permille: Option<u64>,
    /// Whether it is known in the other direction too: only then it carries traffic.
    pub both_ways: bool,
    /// Whether it is on the broadcast tree.
    pub on_tree: bool,
}

/// A cluster of connected switches in [`Topology`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// Its name: its lowest datapath id.
    pub name: String,
    /// Its switches.
    pub switches: Vec<String>,
}

/// A switch in [`Topology`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchPorts {
    /// Datapath id, 16 hex digits.
    pub dpid: String,
    /// Its ports, by number.
    pub ports: Vec<Port>,
}

/// A port in [`SwitchPorts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// `edge`, `tree`, `blocked` (a link off the broadcast tree), `one-way` or `loop`.
    pub role: String,
}

/// `GET /v1/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hosts {
    /// The learned hosts, by switch, MAC and VLAN.
    pub hosts: Vec<Host>,
}

/// A host in [`Hosts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its MAC.
    pub mac: String,
    /// The IPv4 address that it last named as sender of an ARP packet.
    pub address: Option<Ipv4Addr>,
    /// All addresses that it named in ARP and neighbour discovery.
    pub addresses: Vec<IpAddr>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flows {
    /// The flow entries of ours, by switch and match.
    pub flows: Vec<Flow>,
}

/// A flow entry in [`Flows`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// The switch.
    pub dpid: String,
    /// The table of the switch.
    pub table: u8,
    /// The port that frames come in on; `null` if any will do.
    pub in_port: Option<u32>,
    /// VLAN id, `null` without a tag.
    pub vlan: Option<u16>,
    /// Source MAC; `null` if any will do.
    pub src: Option<String>,
    /// Destination MAC; `null` if any will do.
    pub dst: Option<String>,
    /// EtherType, if it is matched.
    pub ethertype: Option<u16>,
    /// Source IP address, if it is matched.
    pub ip_src: Option<IpAddr>,
    /// Destination IP address, if it is matched.
    pub ip_dst: Option<IpAddr>,
    /// IP protocol, if it is matched.
    pub protocol: Option<u8>,
    /// Source port, if it is matched.
    pub src_port: Option<u16>,
    /// Destination port, if it is matched.
    pub dst_port: Option<u16>,
    /// The port that frames leave by; `null` drops them.
    pub out_port: Option<u32>,
    /// `route`, `ahead` (of traffic), `steer` (answers to the one-armed balancer), `forward` (learned), `transit` (from or
    /// to a virtual MAC), `hold` (dropped), `balance` (a direction of a connection), or `pinned` (a
    /// connection of the seed balancer).
    pub purpose: String,
    /// The cookie, `0x` and 16 hex digits.
    pub cookie: String,
    /// Milliseconds since it was installed, or found on the switch.
    pub age_ms: u64,
}

/// `GET /v1/route`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The port where it starts.
    pub from: String,
    /// The port where it ends.
    pub to: String,
    /// What it is judged by.
    pub metric: String,
    /// The ways, cheapest first.
    pub paths: Vec<Path>,
}

/// A way in [`Route`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Path {
    /// The sum of its links' costs.
    pub cost: u64,
    /// The switches that it passes.
    pub hops: Vec<Hop>,
}

/// A switch on a way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    /// The switch.
    pub dpid: String,
    /// The port that frames come in on.
    pub in_port: u32,
    /// The port that they leave by.
    pub out_port: u32,
}

/// `GET /v1/explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explain {
    /// The port where the flow comes in.
    pub from: String,
    /// The port where its destination is; `null` if that is not known.
    pub to: Option<String>,
    /// `route`, `flood`, `drop`, or `balance` where only its first packet tells its backend.
    pub outcome: String,
    /// What each stage says.
    pub why: Vec<String>,
    /// The switches that a routed flow passes.
    pub hops: Vec<Hop>,
    /// Whether its entries are installed.
    pub installed: bool,
}

/// What `GET /metrics` tells, before it is text.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Connections that are open, whether ready or not.
    pub connections: usize,
    /// Connections that were opened.
    pub opened: u64,
    /// Messages.
    pub messages: Vec<MessageCounter>,
    /// The switches that are ready, by datapath id.
    pub switches: Vec<SwitchCounters>,
    /// Flow entries of ours by purpose.
    pub entries: BTreeMap<&'static str, usize>,
    /// The cache of shortest-path trees.
    pub trees: TreeCounters,
    /// Services whose answers are led to the balancer.
    pub services: usize,
    /// Inputs that wait for the main task.
    pub waiting_inputs: usize,
    /// As `GET /v1/status` tells it.
    pub status: Status,
    /// The directed links.
    pub links: Vec<Link>,
}

/// Messages of one type in [`Counters`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageCounter {
    /// The version: `1.0` or `1.3`.
    pub openflow: String,
    /// `in` is from switches, `out` is to them.
    pub direction: &'static str,
    /// The type's name in small letters: `packet_in`.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// A switch in [`Counters`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchCounters {
    /// The number of its connection.
    pub conn: u64,
    /// Datapath id, 16 hex digits.
    pub dpid: String,
    /// How long an echo took last.
    pub round_trip: Duration,
    /// How many ports it has.
    pub ports: usize,
    /// Bytes that wait to be sent to it.
    pub waiting_bytes: usize,
}

/// The cache of shortest-path trees in [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeCounters {
    /// Trees that are kept.
    pub kept: usize,
    /// Trees that are kept at most.
    pub limit: usize,
    /// How often one was asked for.
    pub asked: u64,
    /// How often one had to be made.
    pub made: u64,
    /// How many distances were computed.
    pub distances: u64,
}
