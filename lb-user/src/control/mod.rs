//! Orders to a running daemon: what the command line, the socket and the daemon say to each other about them.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/backend/drain?backend=B&vip=V&deadline_ms=N` | [`Ordered`] |
//! | `POST /v1/backend/disable?backend=B&vip=V`, `.../enable` | [`Ordered`] |
//! | `POST /v1/backend/weight?backend=B&vip=V&weight=N` | [`Ordered`] |
//! | `POST /v1/backend/add?backend=ADDRESS[:PORT]&vip=V&name=N&weight=N` | [`Ordered`] |
//! | `POST /v1/backend/remove?backend=B&vip=V` | [`Ordered`] |
//! | `POST /v1/upgrade`, `POST /v1/upgrade?verify_ms=N`, the XDP object as body | [`Upgraded`] |
//! | `POST /v1/mode?to=xdp`, `?to=openflow` | [`Moved`] |
//! | `POST /v1/reload`, `POST /v1/reload?check=true` | [`Reloaded`] |
//!
//! `vip` may be left out: then every VIP that has such a backend is meant, or the only one there is. A refused order is
//! answered with status 400 and changes nothing.

pub mod cli;
pub mod client;
pub mod render;
pub mod server;

use std::net::IpAddr;
use std::time::Duration;

use clap::ValueEnum;
use lb_core::host::overlay;
use serde::{Deserialize, Serialize};

use crate::api::Losses;
use crate::server::Reply;

/// An order on its way to the daemon.
#[derive(Debug)]
pub enum Ask {
    /// About backends.
    Backend {
        /// Name, address, or address and port.
        backend: String,
        /// Name or key of the VIP.
        vip: Option<String>,
        /// What is to be done.
        order: overlay::Order,
        /// Where the answer goes.
        reply: Reply<Ordered>,
    },
    /// To run other programs.
    Upgrade {
        /// The XDP object.
        object: Vec<u8>,
        /// How long to compare the books before it stays.
        verify: Option<Duration>,
        /// Where the answer goes.
        reply: Reply<Upgraded>,
    },
    /// To let somebody else balance, or to balance again.
    Move {
        /// Who is to balance.
        to: Balancer,
        /// Where the answer goes.
        reply: Reply<Moved>,
    },
    /// To read the file again.
    Reload {
        /// Only say what would change.
        check: bool,
        /// Where the answer goes.
        reply: Reply<Reloaded>,
    },
}

/// Who balances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Balancer {
    /// The XDP programs.
    #[default]
    Xdp,
    /// Flow entries of the controller; the programs are off the ports.
    OpenFlow,
}

impl Balancer {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::OpenFlow => "openflow",
        }
    }
}

impl std::fmt::Display for Balancer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// What a change of the balancer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Who balances now.
    pub balancer: Balancer,
    /// Connections that went along.
    pub connections: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// False if it was so before.
    pub changed: bool,
}

/// What an order did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// The backends that it was about, as they are now.
    pub backends: Vec<Administered>,
}

/// What a reload did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file.
    pub file: String,
    /// It is in force; false if it was only checked.
    pub applied: bool,
    /// What changed, one line each; nothing if the file says what is in force.
    pub changes: Vec<String>,
}

/// What an upgrade did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The books were compared.
    pub verified: bool,
    /// Why the old programs are back; none if the new ones stay.
    pub rolled_back: Option<String>,
    /// Links whose program was replaced.
    pub links: u32,
    /// Microseconds from before the first link to after the last; each of them changed in one step.
    pub swap_us: u64,
    /// Established TCP flows.
    pub flows: Flows,
    /// Packets from before the swap to the end.
    pub packets: Packets,
    /// What the ports and their other ends lost in that time, after the program's verdict.
    pub losses: Losses,
}

/// Established TCP flows before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Before.
    pub before: u64,
    /// After, new ones included.
    pub after: u64,
    /// Of those before, the ones that are at the same backend.
    pub kept: u64,
    /// Of those before, the ones that are at another backend: none, or the upgrade is taken back.
    pub moved: u64,
    /// Of those before, the ones that are no longer established.
    pub ended: u64,
}

/// Packets by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Came in.
    pub received: u64,
    /// Were rewritten and sent on.
    pub forwarded: u64,
    /// Were answered by the balancer.
    pub answered: u64,
    /// Went on untouched.
    pub passed: u64,
    /// Were dropped for a named reason.
    pub dropped: u64,
    /// Came in and did not end. Packets that a processor is working on count until they end.
    pub lost: u64,
}

/// A backend as an order left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Administered {
    /// Its VIP's name.
    pub vip: String,
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
    /// What the administrator says: `enabled`, `draining`, `leaving` (removed, and keeping its connections until they
    /// end) or `disabled`.
    pub admin: String,
    /// How far its connections have run dry, if it is to.
    pub drain: Option<Drain>,
}

/// How far the connections of a backend have run dry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Its open connections when they were last counted; `None` before the first count.
    pub remaining: Option<u64>,
    /// Milliseconds until it is disabled; `None` without a deadline, or when that is over.
    pub deadline_ms: Option<u64>,
    /// There is no connection left.
    pub done: bool,
    /// The deadline came before that, and it was disabled.
    pub expired: bool,
}
