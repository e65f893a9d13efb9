//! The modes, and what each of them cannot have.

use std::fmt;

/// What a mode has, unless it says why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    RoundRobin,
    Random,
    SourceHash,
    FlowHash,
    Maglev,
    LeastConnections,
    Weights,
    Affinity,
    /// Round robin exactly in turn, weights to the connection, the count of connections: not only on average.
    Exact,
    /// Echo requests to the VIP are answered.
    Ping,
    Udp,
    /// The backend serves on another port than the VIP.
    Translation,
    Ipv6,
    Drain,
    /// No new connection goes to a backend from the moment that it is said to be out.
    AtOnce,
    /// A backend that falls silent gets no new connections, and gets them again when it is back.
    Dead,
    /// A dead backend's connections stay with it (`on_down = "keep"`).
    Kept,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round robin",
            Self::Random => "random",
            Self::SourceHash => "source hash",
            Self::FlowHash => "flow hash",
            Self::Maglev => "Maglev",
            Self::LeastConnections => "least connections",
            Self::Weights => "weights",
            Self::Affinity => "affinity",
            Self::Exact => "exact turns and counts",
            Self::Ping => "ping of the VIP",
            Self::Udp => "UDP",
            Self::Translation => "port translation",
            Self::Ipv6 => "IPv6",
            Self::Drain => "drain",
            Self::AtOnce => "changes at once",
            Self::Dead => "a dead backend",
            Self::Kept => "connections of a dead backend",
        })
    }
}

/// Who balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// `ofshim run --lb pox`.
    Pox,
    /// `ofshim run --lb nox` or `nox-packets`.
    Nox(&'static str),
    /// `ofshim run --lb openflow --lb-entries` and this word.
    Entries(&'static str),
    /// `lb` on the switch's ports.
    Inline,
    /// `lb` on the NIC of a host of its own.
    OneArmed,
}

/// How packets reach the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    Nat,
    FullNat,
    Dsr,
    Ipip,
}

impl Rewrite {
    /// The word for it in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "fullnat",
            Self::Dsr => "dsr",
            Self::Ipip => "ipip",
        }
    }

    /// Whether the backend receives what was sent to the VIP, and answers as the VIP.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Dsr | Self::Ipip)
    }
}

/// Whose MAC the client's answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The VIP's own.
    Vip,
    /// The backend's.
    Backend,
    /// The one that the client's neighbour table has for the VIP.
    Asked,
}

/// A way to balance.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub name: &'static str,
    pub balancer: Balancer,
    pub rewrite: Rewrite,
    /// What the switch and the controller speak.
    pub openflow: &'static str,
    /// What it cannot have, and why.
    pub without: &'static [&'static [(What, &'static str)]],
}

type Lacks = &'static [(What, &'static str)];

const HASHED: &str =
    "a switch has only its hash: round-robin, maglev and least-connections go by a hash of the flow";
const CACHED: &str = "a switch takes a change of its entries into its caches a moment later";
const BY_HASH: Lacks = &[(What::Exact, HASHED), (What::AtOnce, CACHED)];
const SAME_PORT: Lacks =
    &[(What::Translation, "the backend gets the packet as it was sent, with the VIP's port")];
const NO_IPV6: Lacks = &[(What::Ipv6, "OpenFlow 1.0 has no fields of IPv6")];

const POX: Lacks = &[
    (What::RoundRobin, "POX draws servers at random"),
    (What::SourceHash, "POX draws servers at random"),
    (What::FlowHash, "POX draws servers at random"),
    (What::Maglev, "POX draws servers at random"),
    (What::LeastConnections, "POX draws servers at random"),
    (What::Weights, "all servers of POX are alike"),
    (What::Affinity, "POX remembers connections, not clients"),
    (What::Exact, "POX draws servers at random"),
    (What::Ping, "POX answers ARP for the VIP, and balances TCP"),
    (What::Udp, "POX balances TCP"),
    (What::Translation, "POX balances every port as it is"),
    (What::Ipv6, "POX balances IPv4"),
    (What::Drain, "POX takes its servers at the start, and no orders"),
];

const NOX: Lacks = &[
    (What::Random, "NOX's hosts take turns"),
    (What::SourceHash, "NOX's hosts take turns"),
    (What::FlowHash, "NOX's hosts take turns"),
    (What::Maglev, "NOX's hosts take turns"),
    (What::LeastConnections, "NOX's hosts take turns"),
    (What::Weights, "all hosts of NOX are alike"),
    (What::Affinity, "NOX remembers connections, not clients"),
    (What::Udp, "NOX balances at a SYN"),
    (What::Ipv6, "NOX learns addresses of IPv4"),
    (What::Drain, "NOX takes whoever has the address, and no orders"),
];
const NOX_FORGETS: Lacks = &[(What::Kept, "a host that is forgotten takes its connections along")];
const NOX_NEVER_FORGETS: Lacks = &[
    (What::Dead, "a fault that is kept: hosts never age, and a dead one keeps its turn"),
    (What::Kept, "nobody is ever dead"),
];

impl Mode {
    pub const fn pox() -> Self {
        let (balancer, rewrite) = (Balancer::Pox, Rewrite::Nat);
        Self { name: "pox", balancer, rewrite, openflow: "1.0", without: &[POX] }
    }

    pub const fn nox() -> Self {
        let (balancer, rewrite) = (Balancer::Nox("nox"), Rewrite::Dsr);
        Self { name: "nox", balancer, rewrite, openflow: "1.0", without: &[NOX, NOX_FORGETS, SAME_PORT] }
    }

    pub const fn nox_packets() -> Self {
        let without = &[NOX, NOX_NEVER_FORGETS, SAME_PORT];
        let (balancer, rewrite) = (Balancer::Nox("nox-packets"), Rewrite::Dsr);
        Self { name: "nox-packets", balancer, rewrite, openflow: "1.0", without }
    }

    pub const fn reactive(rewrite: Rewrite, openflow: &'static str) -> Self {
        let without: &[Lacks] = match (rewrite.is_direct(), openflow.as_bytes()) {
            (false, b"1.3") => &[],
            (true, b"1.3") => &[SAME_PORT],
            (false, _) => &[NO_IPV6],
            (true, _) => &[SAME_PORT, NO_IPV6],
        };
        Self { name: "reactive", balancer: Balancer::Entries("reactive"), rewrite, openflow, without }
    }

    /// Standing entries: `group` or `learn`.
    pub const fn standing(form: &'static str, rewrite: Rewrite, openflow: &'static str) -> Self {
        let without: &[Lacks] = match (rewrite.is_direct(), openflow.as_bytes()) {
            (false, b"1.3") => &[BY_HASH],
            (true, b"1.3") => &[BY_HASH, SAME_PORT],
            (false, _) => &[BY_HASH, NO_IPV6],
            (true, _) => &[BY_HASH, SAME_PORT, NO_IPV6],
        };
        Self { name: form, balancer: Balancer::Entries(form), rewrite, openflow, without }
    }

    pub const fn inline(rewrite: Rewrite) -> Self {
        let without: &[Lacks] = if rewrite.is_direct() { &[SAME_PORT] } else { &[] };
        Self { name: "inline", balancer: Balancer::Inline, rewrite, openflow: "1.3", without }
    }

    pub const fn one_armed(rewrite: Rewrite) -> Self {
        Self { name: "one-armed", balancer: Balancer::OneArmed, ..Self::inline(rewrite) }
    }

    /// Why the mode does not have it.
    pub fn lacks(&self, what: What) -> Option<&'static str> {
        let mut all = self.without.iter().copied().flatten();
        all.find(|(lacking, _)| *lacking == what).map(|(_, reason)| *reason)
    }

    pub fn has(&self, what: What) -> bool {
        self.lacks(what).is_none()
    }

    /// Whether XDP balances, and not the controller.
    pub fn is_xdp(&self) -> bool {
        matches!(self.balancer, Balancer::Inline | Balancer::OneArmed)
    }

    /// Whether the backends' own address is the VIP.
    pub fn shares_address(&self) -> bool {
        matches!(self.balancer, Balancer::Nox(_))
    }

    /// Whose MAC answers come from.
    pub fn sender(&self) -> Sender {
        match (self.balancer, self.rewrite.is_direct()) {
            (Balancer::Pox | Balancer::Nox(_), _) => Sender::Asked,
            (_, true) => Sender::Backend,
            (_, false) => Sender::Vip,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (OpenFlow {})", self.name, self.rewrite.word(), self.openflow)
    }
}
