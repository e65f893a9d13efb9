//! The OpenFlow controller of the network around the balancer.
//!
//! ```text
//!   switches <--TCP--> io::switch --bytes--> core::Controller --bytes--> io::switch
//!                                                  ^    |
//!   lb daemon --status--> io::daemon --knowledge---'    '--views--> io::api <--HTTP over a unix socket-- ofshim status
//! ```
//!
//! [`core`] decides everything and does nothing: `handle(event, now) -> commands`. [`io`] has the sockets, the clock
//! and the tasks, and decides nothing.
#![forbid(unsafe_code)]

pub mod choose;
pub mod cli;
pub mod core;
pub mod doctor;
pub mod io;
pub mod knowledge;
pub mod metrics;
pub mod print;
pub mod replay;
