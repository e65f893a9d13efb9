//! One file per command. Each `run` returns the exit status of the whole program.

pub mod bench;
pub mod build_ebpf;
pub mod ci;
pub mod compare;
pub mod demo;
mod results;
pub mod setup;
mod svg;
pub mod test;
pub mod test_kernel;
