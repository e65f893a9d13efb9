//! The balancer's daemon and command line as a library: what the binary `lb` is put together from.

pub mod api;
pub mod check;
pub mod cli;
pub mod client;
pub mod conns;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod diagnose;
pub mod equivalence;
pub mod explain;
pub mod failure;
pub mod io;
pub mod logging;
pub mod metrics;
pub mod object;
pub mod pcap;
pub mod prove;
pub mod render;
pub mod server;
pub mod store;
pub mod top;
pub mod watch;
