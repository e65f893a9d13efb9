//! Settings of a VIP that only some VIPs have.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::host::addr::{AddrError, parse_port};

/// The ports that a VIP serves, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Every port of the protocol.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// One port; 0 is every port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        if port == 0 { Self::ALL } else { Self { first: port, last: port } }
    }

    /// The ports from `first` to `last`; none if that is empty or begins with 0.
    #[must_use]
    pub const fn range(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    /// The port, if it is one.
    #[must_use]
    pub const fn single(self) -> Option<u16> {
        if self.first == self.last { Some(self.first) } else { None }
    }

    /// Whether these are all ports.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.first == 0
    }

    /// Whether these are several ports, but not all.
    #[must_use]
    pub const fn is_range(self) -> bool {
        self.first != 0 && self.first != self.last
    }

    /// The first and the last of them; 0 is the first of all.
    #[must_use]
    pub const fn bounds(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// Whether `port` is among them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether some port is in both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    /// `80`, `8000-8010`, or `all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            _ if self.is_all() => f.write_str("all"),
            Some(port) => write!(f, "{port}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for Ports {
    type Err = AddrError;

    /// As they are displayed.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        if text == "all" {
            return Ok(Self::ALL);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::range(parse_port(first)?, parse_port(last)?)
            .ok_or_else(|| AddrError::new(format!("ports {text:?} end before they begin")))
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What full NAT puts in the place of the clients' addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnatConfig {
    /// The address that backends see.
    pub address: IpAddr,
    /// The ports that are lent, one for each connection to a backend service.
    pub ports: Ports,
}

/// The outer packets of mode `ipip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TunnelConfig {
    /// Their source; of the backends' family.
    pub source: IpAddr,
    /// Bytes of the largest outer IP packet; what does not fit is answered with "packet too big".
    pub mtu: u16,
}

/// What happens to new NAT flows beyond the cap on new connections. The other modes go on without an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverCap {
    /// They are dropped; TCP clients try again.
    #[default]
    Drop,
    /// They are balanced by consistent hash, without an entry.
    Stateless,
}
