//! The rim: sockets, clock, signals, files. Nothing here decides anything about the network.

pub mod accept;
pub mod api;
pub mod backend;
pub mod client;
pub mod daemon;
pub mod endpoints;
pub mod http;
pub mod openapi;
pub mod orders;
pub mod ovs;
pub mod run;
pub mod socket;
pub mod switch;
pub mod tls;
