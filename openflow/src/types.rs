//! Small values that every message family shares.

use std::fmt;
use std::str::FromStr;

/// Experimenter (vendor) id of Nicira, whose extensions Open vSwitch has.
pub const NICIRA: u32 = 0x2320;
/// Experimenter id of the Open Networking Foundation.
pub const ONF: u32 = 0x4f4e_4600;

/// A protocol version that this codec speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// OpenFlow 1.0, wire version 1.
    V1_0 = 1,
    /// OpenFlow 1.3, wire version 4.
    V1_3 = 4,
}

impl Version {
    /// The version of a wire byte, if this codec speaks it.
    pub const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::V1_0),
            4 => Some(Self::V1_3),
            _ => None,
        }
    }

    /// The byte in the message header.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_0 => "1.0",
            Self::V1_3 => "1.3",
        })
    }
}

/// Transaction id: a reply carries the xid of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Xid(pub u32);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Datapath id of a switch; shown as 16 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatapathId(pub u64);

impl fmt::Display for DatapathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Port number, 32 bits whatever the version; reserved values are those of 1.3 (7.2.1).
///
/// The 16-bit numbers of 1.0 map one to one: `0xff00..=0xffff` become `0xffffff00..=0xffffffff`,
/// so that `OFPP_NONE` of 1.0 is [`PortNo::ANY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortNo(pub u32);

impl PortNo {
    /// Highest number of a real port (`OFPP_MAX`).
    pub const MAX: Self = Self(0xffff_ff00);
    /// Send out of the ingress port.
    pub const IN_PORT: Self = Self(0xffff_fff8);
    /// Submit a packet-out to the first table (`OFPP_TABLE`).
    pub const TABLE: Self = Self(0xffff_fff9);
    /// The switch's own layer-2 forwarding.
    pub const NORMAL: Self = Self(0xffff_fffa);
    /// All ports but the ingress port and those that do not flood.
    pub const FLOOD: Self = Self(0xffff_fffb);
    /// All ports but the ingress port.
    pub const ALL: Self = Self(0xffff_fffc);
    /// The controller.
    pub const CONTROLLER: Self = Self(0xffff_fffd);
    /// The switch's local port.
    pub const LOCAL: Self = Self(0xffff_fffe);
    /// No port: wildcard in requests and deletions (`OFPP_NONE` in 1.0).
    pub const ANY: Self = Self(0xffff_ffff);

    /// True for the reserved numbers above [`PortNo::MAX`].
    pub const fn is_reserved(self) -> bool {
        self.0 > Self::MAX.0
    }

    /// The version-free number of a 1.0 port number.
    pub const fn from_v1_0(port: u16) -> Self {
        if port >= 0xff00 { Self(0xffff_0000 | port as u32) } else { Self(port as u32) }
    }

    /// The 1.0 port number, or `None` when 16 bits cannot name this port.
    pub const fn to_v1_0(self) -> Option<u16> {
        if self.0 < 0xff00 || self.0 >= Self::MAX.0 { Some((self.0 & 0xffff) as u16) } else { None }
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IN_PORT => f.write_str("in_port"),
            Self::TABLE => f.write_str("table"),
            Self::NORMAL => f.write_str("normal"),
            Self::FLOOD => f.write_str("flood"),
            Self::ALL => f.write_str("all"),
            Self::CONTROLLER => f.write_str("controller"),
            Self::LOCAL => f.write_str("local"),
            Self::ANY => f.write_str("any"),
            Self(n) => write!(f, "{n}"),
        }
    }
}

/// Ethernet address in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for group addresses, broadcast among them.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// True for the broadcast address.
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no MAC address: six pairs of hex digits with colons are needed, as 02:00:00:00:00:01")]
pub struct MacAddrParseError(pub String);

impl FromStr for MacAddr {
    type Err = MacAddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || MacAddrParseError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(bytes)) }
    }
}

/// Opaque mark of a flow entry, chosen by the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Number of a packet that the switch keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BufferId(pub u32);

impl BufferId {
    /// The packet is not kept; the message carries it whole.
    pub const NO_BUFFER: Self = Self(0xffff_ffff);
}

/// Number of a flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TableId(pub u8);

impl TableId {
    /// All tables, in requests and deletions.
    pub const ALL: Self = Self(0xff);
}

/// Number of a group (1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupId(pub u32);

impl GroupId {
    /// No group: wildcard in requests and deletions.
    pub const ANY: Self = Self(0xffff_ffff);
    /// All groups, in deletions.
    pub const ALL: Self = Self(0xffff_fffc);
}

/// Number of a meter (1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MeterId(pub u32);

impl MeterId {
    /// Highest number of a real meter (`OFPM_MAX`).
    pub const MAX: Self = Self(0xffff_0000);
    /// What the switch's slow path handles.
    pub const SLOWPATH: Self = Self(0xffff_fffd);
    /// What goes to the controller.
    pub const CONTROLLER: Self = Self(0xffff_fffe);
    /// All meters, in requests and deletions.
    pub const ALL: Self = Self(0xffff_ffff);
}

/// Text of a fixed-size field: the bytes before the first NUL, in no promised encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FixedText(pub Vec<u8>);

impl From<&str> for FixedText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for FixedText {
    /// What is not UTF-8 shows as replacement characters, control characters as escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in String::from_utf8_lossy(&self.0).chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}
