//! Puts the XDP objects of `cargo xtask build-ebpf` where `object.rs` includes them from; empty files where
//! they have not been built, so that checking and testing the workspace needs no BPF toolchain.

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    for name in ["lb.bpf.o", "lb-log.bpf.o"] {
        let object = root.join("../target/ebpf").join(name);
        println!("cargo::rerun-if-changed={}", object.display());
        let bytes = fs::read(&object).unwrap_or_default();
        fs::write(out.join(name), bytes).expect("cargo's OUT_DIR is writable");
    }
}
