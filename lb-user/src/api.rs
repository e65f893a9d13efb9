//! What the daemon tells over its socket. The command line prints it, `ofshim` reads it; field names and
//! meanings are a contract.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/stats` | [`Stats`] |
//! | `GET /v1/connections` with the fields of [`crate::conns::Fields`] | [`Connections`] |
//! | `GET /metrics` | the same as Prometheus reads it, [`crate::metrics`] |
//! | `POST /v1/backend/...` | see [`crate::control`] |
//! | `POST /v1/detach` | [`Detached`]; the daemon ends after it |
//!
//! A request that cannot be met is answered with a status code of 400 or above and an [`ErrorBody`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_core::ledger::Ledger;
use serde::{Deserialize, Serialize};

use crate::control::{Balancer, Drain};

/// The daemon's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Since when it runs, in milliseconds.
    pub uptime_ms: u64,
    /// It found the data plane of an earlier daemon and took it over.
    pub adopted: bool,
    /// Who balances: the XDP programs, or flow entries of the controller.
    #[serde(default)]
    pub balancer: Balancer,
    /// Where the balancer stands.
    pub placement: Placement,
    /// `native`, or `generic` when any interface is.
    pub attach_mode: String,
    /// MACs that probes are sent from; replies to them are of nobody else's interest.
    pub prober_macs: Vec<String>,
    /// The interfaces the balancer is attached to.
    pub interfaces: Vec<Interface>,
    /// The VIPs.
    pub vips: Vec<Vip>,
    /// The connection table.
    pub connections: TableStatus,
    /// The pins of programs, links and maps, for those who want to look at them or measure them.
    pub pins: PinnedObjects,
    /// What the user should know: a shaped port, an unfinished checksum, a backend nobody found.
    pub warnings: Vec<String>,
}

/// Where the balancer stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// `inline` or `onearm`.
    pub kind: String,
    /// The host whose NIC is used, for `onearm`.
    pub host: Option<String>,
    /// The MAC of that NIC.
    pub mac: Option<String>,
}

/// An interface with the balancer's program on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// The Mininet host whose namespace it is in; `None` for the root namespace.
    pub netns: Option<String>,
    /// The switch it is a port of.
    pub switch: Option<String>,
    /// The host behind it, where known.
    pub host: Option<String>,
    /// `native` or `generic`.
    pub xdp: String,
    /// How balanced packets leave towards it: `redirect`, `pass` (through the switch) or `tx`.
    pub forward: String,
    /// Why it is not `redirect`.
    pub forward_reason: Option<String>,
    /// The veth peer that got the pass program.
    pub peer: Option<String>,
}

/// A VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// Its id in the data plane.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The length of the prefix whose first address that is; `None` for one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_len: Option<u8>,
    /// Its port; `None` for several.
    pub port: Option<u16>,
    /// Its ports: `80`, `8000-8010`, or `all` of the protocol.
    pub ports: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its virtual MAC.
    pub mac: String,
    /// `nat`, `fullnat`, `dsr` or `ipip`.
    pub mode: String,
    /// How a new flow finds its backend, as in the configuration.
    pub selection: String,
    /// Open connections, as the last sweep counted them; `None` before the first.
    pub connections: Option<u64>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// A backend of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its id in the data plane.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port where it differs from the VIP's.
    pub port: Option<u16>,
    /// Its weight.
    pub weight: u16,
    /// `probing`, `up`, `down`, `draining` or `disabled`.
    pub state: String,
    /// What the administrator says: `enabled`, `draining`, `leaving` or `disabled`.
    pub admin: String,
    /// How far its connections have run dry, if it is to.
    pub drain: Option<Drain>,
    /// Why it is in this state.
    pub reason: String,
    /// Since when it is in this state, in milliseconds.
    pub since_ms: u64,
    /// How often it went down since the daemon started.
    pub downs: u64,
    /// Why its last check failed; `None` if that passed, or there is no check.
    pub last_failure: Option<String>,
    /// How much of its weight it takes, in per cent: less than 100 during a slow start.
    pub share_pct: u16,
    /// Its MAC, once a probe was answered.
    pub mac: Option<String>,
    /// Whether others have the same address, so that only the MAC tells it.
    #[serde(default)]
    pub told_by_mac: bool,
    /// The interface that leads to it.
    pub interface: Option<String>,
    /// Open connections, as the last sweep counted them: live, and not ended by both sides or by a reset. `None`
    /// before the first sweep.
    pub connections: Option<u64>,
}

/// The connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Entries it holds at most.
    pub capacity: u32,
    /// Kernel memory of the whole table, allocated when it was made.
    pub memory_bytes: u64,
    /// That memory divided by the capacity.
    pub bytes_per_entry: u32,
    /// The last sweep; `None` before the first has ended.
    pub sweep: Option<SweepStatus>,
}

/// What the last sweep of the connection table found, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepStatus {
    /// Since when it is over, in milliseconds.
    pub age_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Processor time it took, in microseconds.
    pub cpu_us: u64,
    /// Entries that it read.
    pub entries: u64,
    /// Entries that had timed out, and were removed.
    pub removed: u64,
    /// Live entries.
    pub live: u64,
    /// Live entries by state.
    pub states: StateCounts,
}

/// Connections by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCounts {
    /// TCP, not yet established.
    pub syn: u64,
    /// TCP, first seen in its middle, and not yet shown by both sides to be there.
    #[serde(default)]
    pub unverified: u64,
    /// TCP, both sides have spoken.
    pub established: u64,
    /// TCP, a side has sent its FIN.
    pub closing: u64,
    /// TCP, reset.
    pub closed: u64,
    /// UDP.
    pub udp: u64,
}

/// What is pinned on bpffs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedObjects {
    /// The programs that the links run.
    pub programs: Vec<PinnedProgram>,
    /// The links, one for each interface and program.
    pub links: Vec<PinnedLink>,
    /// The maps.
    pub maps: Vec<PinnedMap>,
}

/// A pinned program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedProgram {
    /// Its name in the object.
    pub name: String,
    /// The pin's path.
    pub pin: String,
    /// The kernel's id of it.
    pub id: u32,
    /// The kernel's hash of its instructions, 16 hex digits.
    pub tag: String,
    /// Instructions that the verifier looked at; `None` before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// Size of its machine code.
    pub jited_bytes: u32,
    /// Kernel memory of it.
    pub memory_bytes: u64,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedLink {
    /// The pin's path; its name ends with the namespace's inode and the interface's index.
    pub pin: String,
}

/// A pinned map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedMap {
    /// Its name.
    pub name: String,
    /// The pin's path.
    pub pin: String,
    /// The kernel's id of it.
    pub id: u32,
    /// Entries it holds at most.
    pub max_entries: u32,
    /// Kernel memory of it.
    pub memory_bytes: u64,
}

/// Counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// What came in, and how it ended.
    pub ledger: Ledger,
    /// `received` minus all ends; lastingly different from zero only by a bug.
    pub ledger_difference: i64,
    /// Packets by reason; every reason is there.
    pub reasons: BTreeMap<String, u64>,
    /// Balanced packets whose checksum the sender left to its device.
    pub partial_checksums: u64,
    /// What was lost after the verdict, since this daemon started.
    #[serde(default)]
    pub losses: Losses,
    /// The same by interface.
    #[serde(default)]
    pub interfaces: Vec<InterfaceLosses>,
    /// Traffic by VIP.
    pub vips: Vec<VipStats>,
    /// Traffic by backend.
    pub backends: Vec<BackendStats>,
}

/// What the two ends of a port lost, balanced or not, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLosses {
    /// The port did not send: the ring of its other end was full, or that end was down. Frames that XDP redirects to
    /// it are among them.
    pub transmit_dropped: u64,
    /// The port's driver dropped on receipt; a redirect that failed at once is among them: its target was down, or
    /// the frame longer than the target's MTU. What the program drops by a named reason is not.
    pub receive_dropped: u64,
    /// The other end of its veth did not send.
    pub peer_transmit_dropped: u64,
    /// The driver of the other end dropped on receipt.
    pub peer_receive_dropped: u64,
    /// Damaged, at either end.
    pub errors: u64,
}

impl DeviceLosses {
    /// Frames lost in all.
    pub fn total(&self) -> u64 {
        let Self { transmit_dropped, receive_dropped, peer_transmit_dropped, peer_receive_dropped, errors } =
            self;
        transmit_dropped + receive_dropped + peer_transmit_dropped + peer_receive_dropped + errors
    }
}

/// What was lost after the program's verdict, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// What the devices of all ports say.
    #[serde(flatten)]
    pub devices: DeviceLosses,
    /// Redirected, and taken by no device: the other end of the target was down, or had neither an XDP program nor
    /// GRO. No device counts these; it is the difference between what the ports' drivers gave to redirection and what
    /// the ports' drivers got from it.
    pub redirect_dropped: u64,
}

impl Losses {
    /// Frames lost in all.
    pub fn total(&self) -> u64 {
        self.devices.total() + self.redirect_dropped
    }
}

/// What a port lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceLosses {
    /// Its name.
    pub name: String,
    /// The Mininet host whose namespace it is in; `None` for the root namespace.
    pub netns: Option<String>,
    /// The other end of its veth.
    pub peer: Option<String>,
    /// What it lost.
    #[serde(flatten)]
    pub devices: DeviceLosses,
}

/// Traffic counters of a VIP or a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets to the backends.
    pub packets_in: u64,
    /// Bytes to the backends, Ethernet header included.
    pub bytes_in: u64,
    /// Packets back to the clients.
    pub packets_out: u64,
    /// Bytes back to the clients.
    pub bytes_out: u64,
    /// Connections opened.
    pub opened: u64,
    /// Packets dropped by a named reason.
    pub dropped: u64,
}

/// Traffic of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipStats {
    /// Its id.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// `packets_in + packets_out`: all packets forwarded for it.
    pub forwarded: u64,
    /// The counters.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Traffic of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStats {
    /// Its id.
    pub id: u16,
    /// Its VIP's name.
    pub vip: String,
    /// Its address.
    pub address: IpAddr,
    /// The counters.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Connections, a part of them, sorted by client address and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Live entries that match the filter, whether listed or not.
    pub total: u64,
    /// The listed ones.
    pub connections: Vec<Connection>,
    /// The last one listed, if there are more behind it: what `after` takes to go on.
    pub next: Option<String>,
}

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The VIP's name.
    pub vip: String,
    /// The port on the VIP's side.
    pub vip_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The backend's address.
    pub backend: IpAddr,
    /// The backend's port.
    pub backend_port: u16,
    /// One of [`crate::conns::STATES`].
    pub state: String,
    /// Since the last packet, in milliseconds.
    pub idle_ms: u64,
}

/// What `detach` undid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Programs taken off, as `interface (namespace)`.
    pub programs: Vec<String>,
    /// Offloads set back, as `interface: feature`.
    pub offloads: Vec<String>,
    /// What could not be undone, and why.
    pub failures: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One line that names the thing, the place and the mend.
    pub error: String,
}
