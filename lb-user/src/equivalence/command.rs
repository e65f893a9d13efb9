//! `lb compare equivalence`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use lb_core::host::config::Config;
use lb_core::host::replay::Change;

use super::capture::{self, Incoming, Network};
use super::shim::Shim;
use super::{Comparison, Report};
use crate::failure::{Failure, WRONG_INPUT};
use crate::io::sys;
use crate::{object, pcap};

/// Larger captures are refused.
const LARGEST_FILE: u64 = 1 << 30;

/// Arguments of `lb compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What is compared.
    #[command(subcommand)]
    pub what: CompareCommand,
}

/// What can be compared.
#[derive(Debug, Subcommand)]
pub enum CompareCommand {
    /// Replay a capture through XDP and through flow entries: same backends, same bytes?
    #[command(after_help = "Examples:\n  \
        lb compare equivalence seen.pcap --config lb.toml\n  \
        lb compare equivalence seen.pcapng --config lb.toml --change 500:down:10.0.0.1 --change 900:up:10.0.0.1\n\n\
        Needs root and no daemon; nothing is sent, attached or pinned. Exit status 1 says that there are differences.")]
    Equivalence(EquivalenceArgs),
}

/// Arguments of `lb compare equivalence`.
#[derive(Debug, Args)]
pub struct EquivalenceArgs {
    /// The capture: pcap or pcapng, Ethernet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The configuration that both balance by
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Before this frame of the capture, a backend goes down, comes up, or is drained, disabled or enabled
    #[arg(long = "change", value_name = "FRAME:WHAT:BACKEND", value_parser = barrier)]
    pub changes: Vec<Barrier>,
    /// Do not make up an answer to the first packet of each flow that comes to a backend
    #[arg(long)]
    pub no_answers: bool,
    /// The controller's program [default: the one beside lb, else that in PATH]
    #[arg(long, value_name = "FILE")]
    pub ofshim: Option<PathBuf>,
    /// Load this XDP object instead of the one in the binary
    #[arg(long, value_name = "FILE")]
    pub object: Option<PathBuf>,
}

/// Something that happens to a backend before a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The frame's number in the file, from 1.
    pub frame: u64,
    /// What happens.
    pub change: Change,
    /// The backend's address.
    pub backend: IpAddr,
}

fn barrier(text: &str) -> Result<Barrier, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(frame), Some(word), Some(backend)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("write FRAME:WHAT:BACKEND, as in 500:down:10.0.0.1".to_owned());
    };
    let frame = frame.parse().map_err(|_| format!("{frame:?} is no frame's number"))?;
    let change = Change::ALL.into_iter().find(|change| change.word() == word);
    let change = change.ok_or_else(|| {
        format!("{word:?} is nothing that happens to a backend: down, up, drain, disable or enable")
    })?;
    let backend = backend.parse().map_err(|_| format!("{backend:?} is no IP address"))?;
    Ok(Barrier { frame, change, backend })
}

/// Compares.
///
/// # Errors
/// A file cannot be read or holds what it should not, this is not root, or a side gives up.
pub fn run(arguments: &EquivalenceArgs) -> Result<Report, Failure> {
    let config = read_config(&arguments.config)?;
    let file = &arguments.file;
    let network = read_capture(file, &config)?;
    for barrier in &arguments.changes {
        if !config.backend_addresses().contains(&barrier.backend) {
            return Err(Failure::wrong(format!(
                "--change {}:{}:{}: {} has no backend with this address",
                barrier.frame,
                barrier.change.word(),
                barrier.backend,
                arguments.config.display()
            )));
        }
    }
    let object = object::bytes(arguments.object.as_deref(), false)
        .map_err(|error| Failure::from(error).with_status(WRONG_INPUT))?;
    if !sys::is_root() {
        return Err(Failure::wrong(
            "lb compare equivalence needs root, to load the XDP program: run it with sudo",
        ));
    }
    let shim = Shim::start(arguments.ofshim.as_deref(), &arguments.config)?;
    let mut comparison = Comparison::new(&object, &config.connections, &network.hosts, shim)
        .map_err(|error| Failure::from(error).with_status(WRONG_INPUT))?;
    replay(&mut comparison, &network.frames, arguments)?;
    let Network { skipped, readdressed, .. } = network;
    Ok(Report { skipped, readdressed, ..comparison.finish() })
}

fn replay(
    comparison: &mut Comparison<Shim>,
    frames: &[Incoming],
    arguments: &EquivalenceArgs,
) -> Result<(), Failure> {
    let mut barriers: BTreeMap<u64, Vec<Barrier>> = BTreeMap::new();
    for barrier in &arguments.changes {
        barriers.entry(barrier.frame).or_default().push(*barrier);
    }
    let mut answered = BTreeSet::new();
    for frame in frames {
        while let Some(first) = barriers.first_entry().filter(|entry| *entry.key() <= frame.number) {
            for Barrier { backend, change, .. } in first.remove() {
                comparison.change(backend, change)?;
            }
        }
        let Incoming { number, at_ns, port, bytes } = frame;
        let outcome = comparison.frame(*number, *at_ns, *port, bytes)?;
        let Some(arrived) = outcome.left.filter(|_| super::judge::is_to_backend(outcome.reason)) else {
            continue;
        };
        let flow = crate::explain::frame::layout(bytes).as_ref().and_then(super::flow_of);
        if let Some((flow, _)) = flow.filter(|_| !arguments.no_answers)
            && answered.insert(flow)
        {
            comparison.answer(*number, *at_ns, &arrived)?;
        }
    }
    Ok(())
}

fn read_config(file: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::wrong(format!("--config {}: cannot be read: {error}", file.display())))?;
    Config::from_toml(&text, &file.display().to_string()).map_err(|error| Failure::wrong(error.to_string()))
}

fn read_capture(file: &Path, config: &Config) -> Result<Network, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("{}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| wrong(&format!("cannot be read: {error}")))?.len();
    if size > LARGEST_FILE {
        return Err(wrong(&format!("is larger than {} MiB; cut it with editcap -c", LARGEST_FILE >> 20)));
    }
    let bytes =
        std::fs::read(file).context("cannot be read").map_err(|error| wrong(&format!("{error:#}")))?;
    let frames = pcap::read(&bytes).map_err(|why| wrong(&why))?;
    let network = capture::network(config, &frames).map_err(|why| wrong(&why))?;
    if network.frames.is_empty() {
        return Err(wrong(&format!(
            "none of its {} frames is to a VIP or of a backend of the configuration",
            frames.len()
        )));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_are_read_or_refused_by_their_fault() {
        let read = barrier("500:down:2001:db8::1").expect("a barrier");
        let backend = "2001:db8::1".parse().expect("an address");
        assert_eq!(read, Barrier { frame: 500, change: Change::Down, backend });
        for (text, part) in [
            ("500:down", "FRAME:WHAT:BACKEND"),
            ("x:down:10.0.0.1", "frame's number"),
            ("5:gone:10.0.0.1", "down, up, drain"),
            ("5:up:h1", "no IP address"),
        ] {
            let refused = barrier(text).expect_err(text);
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
}
