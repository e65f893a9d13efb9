//! Where things are in the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The paths that the commands work with, all absolute.
#[derive(Debug, Clone)]
pub struct Project {
    /// The workspace's folder.
    pub root: PathBuf,
    /// The workspace's target folder, which `CARGO_TARGET_DIR` may have moved.
    pub target: PathBuf,
}

impl Project {
    /// Asks Cargo; the working folder may be anywhere below the root.
    pub fn locate() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask has no parent folder")?
            .to_path_buf();
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--offline", "--format-version=1"]).current_dir(&root);
        let metadata: serde_json::Value = serde_json::from_str(&process::capture(&mut command)?)?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
        Ok(Self { root, target: PathBuf::from(target) })
    }

    /// The Cargo that runs this program, in the workspace.
    pub fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// The folder of the XDP programs' crate.
    pub fn ebpf_crate(&self) -> PathBuf {
        self.root.join("lb-ebpf")
    }

    /// Where the finished objects stand: always below the root, since the balancer's build script and the tests look
    /// there.
    pub fn ebpf_objects(&self) -> PathBuf {
        self.root.join("target").join("ebpf")
    }

    /// The object without logging, which `lb` embeds and the tests load.
    pub fn object(&self) -> PathBuf {
        self.ebpf_objects().join("lb.bpf.o")
    }

    /// The object of the programs that measure the balancer.
    pub fn bench_object(&self) -> PathBuf {
        self.ebpf_objects().join("bench.bpf.o")
    }
}

/// The Cargo that runs this program.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
