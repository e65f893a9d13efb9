//! The bed of the end-to-end tests: real bridges, hosts in namespaces, the built binaries. Every test makes its own
//! and leaves nothing behind, also when it fails.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod daemon;
mod fabric;
mod host;
pub mod many;
mod maps;
mod mininet;
mod net;
pub mod object;
mod raw;
mod shell;
mod tc;

pub use daemon::{Lb, Ofshim, binary, refusal};
pub use fabric::Fabric;
pub use host::{Server, Talk, body, curl, curl_command, echo_udp, echo_udp_flow, one_line, talk};
pub use maps::contents;
pub use mininet::Mininet;
pub use net::{Mode, Net, address, ensure_ovs};
pub use raw::{Capture, Frame, Wire, enter};
pub use shell::{Folder, Process, StopAtEnd, must, root, run, wait};
pub use tc::{Decapsulator, Tagger};
