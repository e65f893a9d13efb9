//! Addresses and ports as people write them: parsing with an answer that says what to change.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::seed;

/// An Ethernet address, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address, `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The virtual MAC that a VIP has unless the configuration names another: `02:6c` and the four octets of an IPv4
    /// address, so 10.0.1.1 is `02:6c:0a:00:01:01`; `02:6d` and four octets of a hash of an IPv6 address.
    ///
    /// The first octet has the locally administered bit set and the group bit clear (IEEE 802, clause 8), so no
    /// vendor's address can equal it. Two VIPs with different IPv4 addresses never share one; two with IPv6 addresses
    /// do with a probability of 2^-32.
    #[must_use]
    pub const fn of_vip(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                Self([0x02, 0x6c, a, b, c, d])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = seed::address_v6(address).to_be_bytes();
                Self([0x02, 0x6d, a, b, c, d])
            }
        }
    }

    /// Whether the address names one station: the group bit is clear and it is not all zeros.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        let [first, b, c, d, e, f] = self.0;
        first & 1 == 0 && (first | b | c | d | e | f) != 0
    }

    /// Whether the locally administered bit is set, as it should be for an address that no vendor assigned.
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Text that is not an address or port, with what was expected instead. One line, without the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddrError(String);

impl AddrError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl FromStr for MacAddr {
    type Err = AddrError;

    /// Six octets of one or two hexadecimal digits, divided by `:` or by `-`.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let wrong = || {
            AddrError::new(format!(
                "{text:?} is not a MAC address; write six octets as in \"02:6c:0a:00:01:01\""
            ))
        };
        let divider = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(divider);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(wrong)?;
            // `from_str_radix` would also take a sign.
            let digits = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_hexdigit());
            *octet = u8::from_str_radix(part, 16).ok().filter(|_| digits).ok_or_else(wrong)?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(octets)) }
    }
}

/// Parses a TCP or UDP port, 1 to 65535.
///
/// For command lines, which should take the port as text so that this message is the one that people see.
///
/// # Errors
/// The text is not a number, or the number is not a port: `port 70000 is outside 1..=65535`.
pub fn parse_port(text: &str) -> Result<u16, AddrError> {
    let number = text
        .trim()
        .parse::<i64>()
        .map_err(|_| AddrError::new(format!("{text:?} is not a port; write a number from 1 to 65535")))?;
    port_of(number)
}

/// A port from a number of any size.
pub(crate) fn port_of(number: i64) -> Result<u16, AddrError> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(AddrError::new(format!("port {number} is outside 1..=65535"))),
    }
}

/// Parses the address of a VIP or backend and refuses addresses that no host can have.
///
/// `role` is the word for the message: `VIP`, `backend`.
///
/// # Errors
/// Not an address, or one that is unspecified, loopback, link-local, multicast, broadcast or reserved.
pub fn parse_host(text: &str, role: &str) -> Result<IpAddr, AddrError> {
    let address = text.trim().parse::<IpAddr>().map_err(|_| AddrError::new(not_an_address(text, role)))?;
    match kind_of(address) {
        None => Ok(address),
        Some(kind) => {
            Err(AddrError::new(format!("{role} {address} is {kind}; give the address of one host")))
        }
    }
}

/// What an address is that cannot be a host's (RFC 6890; RFC 4291), in words.
fn kind_of(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => match address.octets()[0] {
            _ if address.is_unspecified() => Some("the unspecified address"),
            _ if address.is_broadcast() => Some("the broadcast address"),
            0 => Some("an address of \"this network\" (0.0.0.0/8)"),
            127 => Some("a loopback address"),
            224..=239 => Some("a multicast address"),
            240.. => Some("a reserved address (240.0.0.0/4)"),
            _ => None,
        },
        IpAddr::V6(address) => {
            if address.is_unspecified() {
                Some("the unspecified address")
            } else if address.is_loopback() {
                Some("a loopback address")
            } else if address.is_multicast() {
                Some("a multicast address")
            } else if address.is_unicast_link_local() {
                Some("a link-local address (fe80::/10)")
            } else if address.to_ipv4_mapped().is_some() {
                Some("an IPv4 address in IPv6 form")
            } else {
                None
            }
        }
    }
}

/// The message for text that is no address at all, with the mend for the two usual slips.
fn not_an_address(text: &str, role: &str) -> String {
    let bare = text.trim();
    if bare.parse::<core::net::SocketAddr>().is_ok() {
        return format!("{role} address {text:?} carries a port; write the port apart, as in port = 80");
    }
    if bare.split_once('/').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok()) {
        return format!("{role} address {text:?} carries a prefix length; give one address without it");
    }
    format!("{role} address {text:?} is not an IP address; write it as in \"10.0.1.1\" or \"2001:db8::1\"")
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The first of them.
    pub address: IpAddr,
    /// The bits in common: up to 32 for IPv4, up to 128 for IPv6.
    pub length: u8,
}

impl Prefix {
    /// The bits of an address of this family.
    #[must_use]
    pub const fn longest(address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// The prefix of this length in which `address` is; longer than an address is an address.
    #[must_use]
    pub fn of(address: IpAddr, length: u8) -> Self {
        let length = length.min(Self::longest(address));
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::from((u32::from(address) & mask).to_be_bytes())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::from((u128::from(address) & mask).to_be_bytes())
            }
        };
        Self { address, length }
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::of(address, self.length) == *self
    }
}

impl FromStr for Prefix {
    type Err = AddrError;

    /// `10.0.0.0/8`, `2001:db8::/32`, or one address.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let wrong = || {
            AddrError::new(format!(
                "{text:?} is not an address prefix; write it as in \"10.0.0.0/8\" or \"2001:db8::/32\""
            ))
        };
        let (address, length) = match text.trim().split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text.trim(), None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?;
        let length = match length {
            // `parse` would also take a sign.
            Some(length) if !length.starts_with('+') => length.parse::<u8>().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
            None => Self::longest(address),
        };
        if length > Self::longest(address) {
            let longest = Self::longest(address);
            return Err(AddrError::new(format!(
                "{text:?} is longer than an address; write at most /{longest}"
            )));
        }
        let prefix = Self::of(address, length);
        if prefix.address != address {
            return Err(AddrError::new(format!("{text:?} has bits beyond its length; write \"{prefix}\"")));
        }
        Ok(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_round_trips_and_refuses() {
        let mac: MacAddr = "02:6c:0a:00:01:01".parse().unwrap();
        assert_eq!(mac, MacAddr::of_vip(IpAddr::from([10, 0, 1, 1])));
        assert_eq!(mac.to_string(), "02:6c:0a:00:01:01");
        assert_eq!("2-6C-a-0-1-1".parse(), Ok(mac));
        for bad in
            ["", "02:6c:0a:00:01", "02:6c:0a:00:01:01:02", "02:6c:0a:00:01:+1", "02:6c:0a:00:01:011", "x"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
        assert!(mac.is_unicast() && mac.is_local());
        assert!(!MacAddr::BROADCAST.is_unicast() && !MacAddr([0; 6]).is_unicast());
        assert!(!MacAddr([0, 1, 2, 3, 4, 5]).is_local());
    }

    #[test]
    fn ports() {
        assert_eq!(parse_port("80"), Ok(80));
        assert_eq!(parse_port("65535"), Ok(65535));
        for (bad, message) in [
            ("70000", "port 70000 is outside 1..=65535"),
            ("0", "port 0 is outside 1..=65535"),
            ("-1", "port -1 is outside 1..=65535"),
            ("http", "\"http\" is not a port; write a number from 1 to 65535"),
        ] {
            assert_eq!(parse_port(bad).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn prefixes() {
        let parsed = |text: &str| text.parse::<Prefix>().map_err(|error| error.to_string());
        for text in ["10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::/32", "::/0", "2001:db8::1/128"] {
            assert_eq!(parsed(text).unwrap().to_string(), text);
        }
        assert_eq!(parsed("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        let wrong = "is not an address prefix; write it as in \"10.0.0.0/8\" or \"2001:db8::/32\"";
        for text in ["", "/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "x/8", "10.0.0.0/8/8"] {
            assert_eq!(parsed(text).unwrap_err(), format!("{text:?} {wrong}"));
        }
        for (text, message) in [
            ("10.0.0.0/33", "\"10.0.0.0/33\" is longer than an address; write at most /32"),
            ("2001:db8::/129", "\"2001:db8::/129\" is longer than an address; write at most /128"),
            ("10.0.0.1/8", "\"10.0.0.1/8\" has bits beyond its length; write \"10.0.0.0/8\""),
            ("2001:db8::1/64", "\"2001:db8::1/64\" has bits beyond its length; write \"2001:db8::/64\""),
        ] {
            assert_eq!(parsed(text).unwrap_err(), message);
        }
        let net = parsed("10.0.0.0/8").unwrap();
        assert!(net.contains(IpAddr::from([10, 9, 8, 7])) && !net.contains(IpAddr::from([11, 0, 0, 0])));
        assert!(parsed("::/0").unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!(!parsed("::/0").unwrap().contains(IpAddr::from([10, 0, 0, 1])), "another family");
    }

    #[test]
    fn hosts() {
        assert_eq!(parse_host("10.0.1.1", "VIP"), Ok(IpAddr::from([10, 0, 1, 1])));
        for (bad, part) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "this network"),
            ("127.0.0.1", "loopback"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("250.0.0.1", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("ff02::1", "multicast"),
            ("fe80::1", "link-local"),
            ("::ffff:10.0.0.1", "IPv4 address in IPv6 form"),
            ("[fd00::1]:80", "carries a port"),
            ("10.0.1.1:80", "carries a port"),
            ("10.0.1.1/24", "prefix length"),
            ("10.0.1", "not an IP address"),
        ] {
            let message = parse_host(bad, "VIP").unwrap_err().to_string();
            assert!(message.contains(part), "{bad}: {message}");
        }
    }
}
