//! `cargo xtask bench`: what the balancer and its controller cost, measured on this machine.

mod controller;
mod datapath;
mod mininet;
mod svg;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

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

/// Writes a file, and the folders that it is in.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
