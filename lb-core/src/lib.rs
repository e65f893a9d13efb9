//! The decision core of the load balancer: what happens to a packet, written once.
//!
//! [`decide()`] looks at a packet through the [`Packet`] trait and at the balancer's state through the
//! [`Tables`] trait and says what becomes of it; [`apply`] carries a [`Rewrite`] out. The XDP program, the
//! model on the host (tests, fuzzing), and the OpenFlow mode all call these two, so they cannot disagree.
//!
//! ```text
//!   frame --> classify --> ours? --no--------------------------------> Pass(reason), untouched
//!                           |
//!                           +-- ARP request for a VIP ---------------> Forward(ArpReply)   TX
//!                           |
//!                           +-- to a VIP --> connection? --live------> Forward(ToBackend)
//!                           |                    | none, closed
//!                           |                    +--> select --------> Forward(ToBackend), entry made
//!                           |                              | nobody
//!                           |                              +---------> Drop(reason)
//!                           +-- from a backend --> connection? ------> Forward(ToClient)
//!                                                      | none
//!                                                      +-------------> Pass(reason), untouched
//! ```
//!
//! The crate is `no_std`; feature `std` adds [`host`] (configuration, table building, health checking) and
//! [`model`] (the tables as plain maps). It has no clock, no map, no socket of its own, and no code path
//! that panics: it is compiled into the XDP program, where a panic cannot be expressed.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod checksum;
pub mod classify;
pub mod conn;
pub mod decide;
pub mod ledger;
pub mod packet;
pub mod reason;
pub mod rewrite;
pub mod select;
pub mod table;
pub mod watch;

#[cfg(feature = "std")]
pub mod host;
#[cfg(feature = "std")]
pub mod model;

#[cfg(feature = "std")]
pub use decide::serving_vip;

pub use decide::{Decision, Outcome, Stage, Verdict, decide, process, process_all, process_stage};
pub use packet::Packet;
pub use reason::{Class, Reason};
pub use rewrite::{Egress, Rewrite, apply};
pub use table::Tables;
