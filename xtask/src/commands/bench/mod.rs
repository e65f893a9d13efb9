//! `cargo xtask bench`: what the balancer and its controller cost, measured on this machine.

mod controller;
mod datapath;
mod mininet;

use anyhow::Result;

use super::results::{array, text, write};
use super::svg;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Nanoseconds a packet, in the loaded programs alone
    Datapath(datapath::Args),
    /// Traffic between hosts of a Mininet network, beside static entries of the switch
    Mininet(mininet::Args),
    /// Packet-ins that the controller answers in a second, and what its topology costs
    Controller(controller::Args),
}

/// Runs the command by itself.
pub fn run(args: &Args) -> Result<u8> {
    match &args.what {
        What::Datapath(args) => datapath::run(args),
        What::Mininet(args) => mininet::run(args),
        What::Controller(args) => controller::run(args),
    }
}
