//! What is known about a network interface, and what its qdiscs mean for redirected packets.

use std::net::IpAddr;

use lb_core::host::addr::Prefix;
use serde::{Deserialize, Serialize};

use super::mac::Mac;

/// How an XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack, after a socket buffer was made: slower.
    Generic,
    /// In the network card.
    Offload,
    /// Several at once.
    Multi,
}

impl std::fmt::Display for XdpMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offload => "offload",
            Self::Multi => "multi",
        })
    }
}

/// The XDP program of an interface, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct XdpAttachment {
    /// Id of the program; 0 if several are attached in different modes.
    pub prog_id: u32,
    /// In which mode.
    pub mode: XdpMode,
}

/// An address of an interface, with its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IfAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix, 0 to 32 or to 128.
    pub prefix_len: u8,
}

impl IfAddress {
    /// Its network.
    pub fn network(&self) -> Prefix {
        Prefix::of(self.address, self.prefix_len)
    }

    /// Whether `other` is in the same network.
    pub fn contains(&self, other: IpAddr) -> bool {
        self.network().contains(other)
    }
}

impl std::fmt::Display for IfAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// A network interface of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index, unique within its namespace only.
    pub ifindex: u32,
    /// Its hardware address, if it has an Ethernet one.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The other side is there, too.
    pub carrier: bool,
    /// Kind of a virtual interface, such as `veth`; `None` for hardware.
    pub kind: Option<String>,
    /// Index of a veth's other end, in the namespace that `peer_nsid` says.
    pub peer_ifindex: Option<u32>,
    /// This namespace's number for the one with the other end; `None` if that is this namespace itself.
    pub peer_nsid: Option<i32>,
    /// Index of the bridge or bond that it is enslaved to.
    pub master: Option<u32>,
    /// Kind of its root qdisc.
    pub qdisc: Option<String>,
    /// The first of its egress qdiscs that limits, delays or drops: a redirected packet would escape it.
    /// Filled by [`Netlink::links`](super::netlink::Netlink::links) only, not in events.
    pub shaping: Option<String>,
    /// Its addresses, IPv6 link-local ones left out. Filled by [`Netlink::links`](super::netlink::Netlink::links) only.
    pub addresses: Vec<IfAddress>,
    /// Its XDP program.
    pub xdp: Option<XdpAttachment>,
}

impl Link {
    /// Whether it is one end of a veth pair.
    pub fn is_veth(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }

    /// Whether the address is one of its own.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|prefix| prefix.address == address)
    }
}

/// A qdisc of an interface (tc(8)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qdisc {
    /// The interface.
    pub ifindex: u32,
    /// Its kind, such as `htb`.
    pub kind: String,
    /// It is the root, not a child.
    pub root: bool,
}

impl Qdisc {
    /// Whether packets that bypass it escape a limit, a delay or a loss that somebody asked for.
    pub fn is_shaping(&self) -> bool {
        is_shaping(&self.kind)
    }
}

/// Whether a qdisc of this kind limits, delays or drops on purpose. The kinds that only order packets or keep
/// queues short are known; every other counts as shaping, which costs speed and never a limit.
pub fn is_shaping(kind: &str) -> bool {
    const HARMLESS: [&str; 21] = [
        "noqueue",
        "noop",
        "pfifo_fast",
        "pfifo",
        "bfifo",
        "pfifo_head_drop",
        "fq_codel",
        "fq",
        "fq_pie",
        "codel",
        "pie",
        "sfq",
        "mq",
        "multiq",
        "prio",
        "skbprio",
        "drr",
        "qfq",
        "hhf",
        "ingress",
        "clsact",
    ];
    !HARMLESS.contains(&kind)
}

/// State of a neighbour entry, as `ip neigh` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighbourState {
    /// Being resolved for the first time.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// In use, about to be confirmed.
    Delay,
    /// Being confirmed.
    Probe,
    /// Did not answer.
    Failed,
    /// Needs no resolving.
    Noarp,
    /// Set by hand.
    Permanent,
    /// Something else.
    Other,
}

impl NeighbourState {
    /// Whether the entry's address may be used.
    pub fn is_valid(self) -> bool {
        !matches!(self, Self::Incomplete | Self::Failed | Self::Other)
    }
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The interface it is behind.
    pub ifindex: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address, if known.
    pub mac: Option<Mac>,
    /// How much that is worth.
    pub state: NeighbourState,
}

/// What happened to a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LinkEvent {
    /// It is new, or something about it changed.
    Changed(Box<Link>),
    /// It was deleted or moved to another namespace.
    Deleted {
        /// Its last name.
        name: String,
        /// Its last index.
        ifindex: u32,
    },
    /// What shapes it may have changed.
    Qdisc {
        /// Its index.
        ifindex: u32,
    },
    /// Events were lost: list the links again.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mininets_limits_are_shaping_and_defaults_are_not() {
        for kind in ["htb", "tbf", "netem", "hfsc", "red", "cbq", "cake", "etf", "a-new-one"] {
            assert!(is_shaping(kind), "{kind}");
        }
        for kind in ["noqueue", "fq_codel", "pfifo_fast", "mq", "fq", "ingress", "clsact"] {
            assert!(!is_shaping(kind), "{kind}");
        }
    }

    #[test]
    fn prefixes_contain_their_network() {
        let prefix =
            |text: &str, prefix_len| IfAddress { address: text.parse().expect("address"), prefix_len };
        let other = IpAddr::from([10, 0, 1, 9]);
        assert!(prefix("10.0.0.1", 8).contains(other));
        assert!(!prefix("10.0.0.1", 24).contains(other));
        assert!(prefix("10.0.1.9", 32).contains(other));
        assert!(!prefix("10.0.1.8", 32).contains(other));
        assert!(prefix("192.168.0.1", 0).contains(other));
        assert!(!prefix("2001:db8::1", 0).contains(other), "another family");
        assert!(prefix("2001:db8::1", 64).contains("2001:db8::2".parse().expect("address")));
    }
}
