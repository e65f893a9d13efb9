//! The host side of the decision core: everything that needs an allocator and never touches a packet.
//!
//! ```text
//!  TOML file ─┐                                    ┌─> ring    (round robin, random)
//!             ├─> config ──┐                       │
//!  arguments ─┘            ├─> plan (desired) ─────┼─> maglev  (consistent hash)
//!  ARP replies ─> health ──┘        │              │
//!                                   └─> diff ──────┴─> what the daemon writes into its maps
//! ```
//!
//! All of it is pure: no socket, no clock, no random number. Time comes in as nanoseconds of a monotonic clock,
//! and the same input always gives the same output.

pub mod addr;
pub mod config;
pub mod handover;
pub mod health;
pub mod ids;
pub mod leaving;
pub mod lists;
pub mod maglev;
pub mod overlay;
pub mod plan;
pub mod records;
pub mod replay;
pub mod ring;
pub mod seed;
pub mod slots;
