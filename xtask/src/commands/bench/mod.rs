//! `cargo xtask bench`: what the balancer costs, measured on this machine.

mod datapath;
mod svg;

use anyhow::Result;

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
}

/// Runs the command by itself.
pub fn run(args: &Args) -> Result<u8> {
    match &args.what {
        What::Datapath(args) => datapath::run(args),
    }
}
