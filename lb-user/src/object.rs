//! The XDP object that this binary carries.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// The object without packet logging; empty where the binary was built before the object.
static PLAIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lb.bpf.o"));
/// The object with packet logging.
static LOGGING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lb-log.bpf.o"));

/// The object to load: `file` where one is named, else the one carried.
pub fn bytes(file: Option<&Path>, log_packets: bool) -> Result<Vec<u8>> {
    if let Some(file) = file {
        return std::fs::read(file).with_context(|| format!("cannot read the XDP object {}", file.display()));
    }
    let carried = if log_packets { LOGGING } else { PLAIN };
    if carried.is_empty() {
        bail!(
            "this lb was built without its XDP object: run `cargo xtask build-ebpf`, then build lb again, or name an \
             object with --object"
        );
    }
    Ok(carried.to_vec())
}
