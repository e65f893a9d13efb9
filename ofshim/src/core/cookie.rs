//! Cookies: whose an entry is, what it is for, and which of several with the same match.
//!
//! ```text
//!   63                              32 31      24 23                0
//!   |  owner "ofsh" (0x6f667368)      |  purpose |  sequence number  |
//! ```

use openflow::{Cookie, Version};

/// The upper half of every cookie of this controller.
const OWNER: u32 = 0x6f66_7368;
/// Sequence numbers go round at 24 bits.
const SEQUENCE_MASK: u32 = 0x00ff_ffff;

/// The bits of a cookie that name its owner.
pub const OWNER_MASK: u64 = 0xffff_ffff_0000_0000;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// What happens in a table when nothing else matches.
    TableMiss,
    /// Forwarding to a learned station, from a station that is learned too.
    Forward,
    /// Forwarding from a virtual MAC, which is never learned, or to one.
    Transit,
    /// Dropping what is for the balancer and must not travel on.
    Hold,
    /// One switch's part of a route from one host to another.
    Route,
    /// The way to a host, installed ahead of its traffic.
    Ahead,
    /// The way of a backend's answers to the one-armed balancer that has to see them.
    Steer,
    /// A connection's way with its rewrite, of a seed balancer.
    Pinned,
    /// What a seed balancer has to see, whatever other entries do with it.
    Shown,
    /// One direction of a balanced connection, at the switch that rewrites its packets.
    Balance,
    /// What balances without a packet-in for each connection, and stands while its VIPs and backends do.
    Standing,
    /// What shows beginnings and ends of balanced connections.
    Watch,
    /// What a switch learned by a standing entry: one direction of a connection.
    Learned,
}

impl Purpose {
    const fn number(self) -> u8 {
        match self {
            Self::TableMiss => 1,
            Self::Forward => 2,
            Self::Transit => 3,
            Self::Hold => 4,
            Self::Route => 5,
            Self::Ahead => 6,
            Self::Steer => 7,
            Self::Pinned => 9,
            Self::Shown => 10,
            Self::Balance => 8,
            Self::Standing => 11,
            Self::Learned => 12,
            Self::Watch => 13,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TableMiss => "table-miss",
            Self::Forward => "forward",
            Self::Transit => "transit",
            Self::Hold => "hold",
            Self::Route => "route",
            Self::Ahead => "ahead",
            Self::Steer => "steer",
            Self::Pinned => "pinned",
            Self::Shown => "shown",
            Self::Balance => "balance",
            Self::Standing => "standing",
            Self::Learned => "learned",
            Self::Watch => "watch",
        }
    }

    const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::TableMiss),
            2 => Some(Self::Forward),
            3 => Some(Self::Transit),
            4 => Some(Self::Hold),
            5 => Some(Self::Route),
            6 => Some(Self::Ahead),
            7 => Some(Self::Steer),
            9 => Some(Self::Pinned),
            10 => Some(Self::Shown),
            8 => Some(Self::Balance),
            11 => Some(Self::Standing),
            12 => Some(Self::Learned),
            13 => Some(Self::Watch),
            _ => None,
        }
    }
}

/// A sequence number of entries; 24 bits, goes round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(u32);

impl Sequence {
    /// The number with these lower 24 bits.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        Self(number & SEQUENCE_MASK)
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self((self.0 + 1) & SEQUENCE_MASK)
    }
}

/// The cookie of an entry.
#[must_use]
pub fn cookie(purpose: Purpose, sequence: Sequence) -> Cookie {
    Cookie((u64::from(OWNER) << 32) | (u64::from(purpose.number()) << 24) | u64::from(sequence.0))
}

/// Whether an entry with this cookie was made by this controller, in this life or an earlier one.
#[must_use]
pub const fn is_ours(cookie: Cookie) -> bool {
    cookie.0 >> 32 == OWNER as u64
}

/// What a cookie of ours says; `None` for another owner's, and for a purpose that this version does not know.
#[must_use]
pub fn read(cookie: Cookie) -> Option<(Purpose, Sequence)> {
    let [_, _, _, _, purpose, a, b, c] = cookie.0.to_be_bytes();
    let sequence = Sequence(u32::from_be_bytes([0, a, b, c]));
    Some((Purpose::of_number(purpose).filter(|_| is_ours(cookie))?, sequence))
}

/// Wire type of FLOW_MOD, the same in both versions.
const TYPE_FLOW_MOD: u8 = 14;

/// The cookie of the entry that was to be added by the message that an error quotes, of which the first 64 bytes
/// suffice; `None` for any other message.
#[must_use]
pub fn of_refused_add(version: Version, quoted: &[u8]) -> Option<Cookie> {
    // 1.0: header 8, match 40, cookie 8, command 2. 1.3: header 8, cookie 8, mask 8, table 1, command 1.
    let (cookie_at, command) = match version {
        Version::V1_0 => (48, quoted.get(56..58)?),
        Version::V1_3 => (8, quoted.get(25..26)?),
    };
    let is_add = quoted.get(1) == Some(&TYPE_FLOW_MOD) && command.iter().all(|byte| *byte == 0);
    let cookie = quoted.get(cookie_at..)?.first_chunk().filter(|_| is_add)?;
    Some(Cookie(u64::from_be_bytes(*cookie)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_read_back_and_foreign_ones_do_not() {
        let last = Sequence(SEQUENCE_MASK);
        use Purpose::{
            Ahead, Balance, Forward, Hold, Learned, Pinned, Route, Shown, Standing, Steer, TableMiss, Transit,
        };
        let forwards = [TableMiss, Forward, Transit, Hold, Route, Ahead, Steer];
        for purpose in forwards.into_iter().chain([Balance, Pinned, Shown, Standing, Learned]) {
            for sequence in [Sequence(0), Sequence(7), last] {
                assert_eq!(read(cookie(purpose, sequence)), Some((purpose, sequence)));
            }
        }
        assert_eq!(last.next(), Sequence(0));
        assert_eq!(cookie(Purpose::Forward, Sequence(1)).0, 0x6f66_7368_0200_0001);
        assert_eq!((read(Cookie(0)), read(Cookie(0x6f66_7368_ff00_0000))), (None, None));
        assert!(is_ours(Cookie(0x6f66_7368_ff00_0000)) && !is_ours(Cookie(0x0200_0001)));
    }
}
