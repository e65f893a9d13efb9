//! What goes to a balancer that replays packets, and what comes back: how flow entries and the XDP program are held
//! against each other with the same tables, clock, random numbers, tickets and loads.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::addr::MacAddr;
use super::config::Config;
use super::ids::BackendKey;
use super::plan::{Plan, Seen};
use crate::table::Ticks;

/// A host at a port of the only switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Station {
    /// The port that it is at, from 1.
    pub port: u32,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its addresses, for which it answers ARP requests and neighbour solicitations.
    pub addresses: Vec<IpAddr>,
}

/// What happens to the backends at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// They stop answering.
    Down,
    /// They answer again.
    Up,
    /// They take no new connections.
    Drain,
    /// They are taken out of service.
    Disable,
    /// They are in service again.
    Enable,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Down, Self::Up, Self::Drain, Self::Disable, Self::Enable];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::Drain => "drain",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }
}

/// One line to the replay; each is answered by one [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The network, as the first of all: answered when the backends that are there are up.
    Hosts(Vec<Station>),
    /// A frame comes in.
    Frame {
        /// Nanoseconds since the first one; earlier than the one before is taken for the same time.
        at_ns: u64,
        /// By this port.
        port: u32,
        /// Its bytes as hexadecimal digits.
        frame: String,
    },
    /// Something happens to a backend: answered when the rotation says so.
    Change {
        /// Its address.
        backend: IpAddr,
        /// What happens.
        change: Change,
    },
}

/// An answer of the replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// What the tables are made of now.
    Tables(Box<Sources>),
    /// What became of the frame.
    Frame(Replayed),
    /// Why the request cannot be answered, in one line.
    Refused(String),
}

/// What a balancer's tables are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The configuration in force, orders included.
    pub config: Config,
    /// The health of the backends.
    pub health: Vec<(BackendKey, Seen)>,
    /// The plan that it made of them, as [`plan_text`] writes it.
    pub plan: String,
}

/// What flow entries made of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Whether the controller was asked.
    pub asked: bool,
    /// What came out: the port, and the bytes as hexadecimal digits.
    pub out: Vec<(u32, String)>,
    /// What the decision depended on beside the tables.
    pub inputs: Inputs,
}

/// What a decision depends on beside the tables and the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The clock.
    pub now: Ticks,
    /// The random number.
    pub random: u32,
    /// The next round-robin ticket of each VIP, by the VIP's id, before the packet.
    pub tickets: Vec<(u16, u32)>,
    /// Live connections by backend, before the packet.
    pub loads: Vec<(u16, i64)>,
}

/// A plan as text that is equal for equal plans.
#[must_use]
pub fn plan_text(plan: &Plan) -> String {
    format!("{plan:?}")
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes of hexadecimal digits; `None` if these are none, or half a byte.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_as_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(to_hex(&[0x0f, 0xa0]), "0fa0");
        for wrong in ["0", "0g", "0f0", "é"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
