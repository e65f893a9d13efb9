//! The controller without sockets: events in, commands out, and nothing else moves it.
//!
//! ```text
//!   Controller --- Session, one for each connection: hello, handshake, echo, refusals
//!                    '-- Switch: ports, learned stations (learn), our entries (entries)
//!                          packet-in --> frame --> forward::judge --> flow-mod, packet-out
//!                          pipeline: which table, which match;  cookie: whose entry
//!                          reconcile: what a switch has after a reconnect, and what it should have
//! ```
//!
//! A seed balancer (classic), if one was chosen, sees a packet-in behind the stages that all ways of forwarding share.
//!
//! Time is a duration since any origin that does not change. No input makes this panic, and what a switch can make
//! it remember is bounded.

pub mod balance;
pub mod classic;
mod controller;
pub mod cookie;
mod counters;
pub mod discover;
pub mod entries;
pub mod event;
pub mod forward;
pub mod frame;
mod hash;
pub mod ip;
pub mod learn;
pub(crate) mod limit;
mod link;
pub mod net;
mod outbox;
pub mod pipeline;
mod reconcile;
mod report;
mod requests;
mod session;
mod stencil;
mod switch;
pub mod topo;
pub mod view;
pub mod vip;

pub use controller::Controller;
pub use event::{AskedRole, Command, ConnId, Event, Forwarding, Level, Settings, Source, TICK};
pub use vip::{Placement, Service, VipKnowledge};
