//! `cargo xtask build-ebpf`: the XDP object, plain and with per-packet logging, and the programs that measure it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::setup::{self, Scope};
use crate::elf;
use crate::process;
use crate::project::Project;
use crate::toolchain::{self, BpfCompiler, Linker};

/// Arguments of the command.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// Build without debug assertions, as it ships
    #[arg(long)]
    pub release: bool,
}

/// One of the objects.
struct Variant {
    file: &'static str,
    binary: &'static str,
    features: &'static [&'static str],
}

const BALANCER: &str = "lb-ebpf";

const VARIANTS: [Variant; 3] = [
    Variant { file: "lb.bpf.o", binary: BALANCER, features: &[] },
    // Separate, because bpftool and libbpf cannot load an object that carries the logging maps.
    Variant { file: "lb-log.bpf.o", binary: BALANCER, features: &["log"] },
    // The programs that measure the balancer: no part of it.
    Variant { file: "bench.bpf.o", binary: "bench", features: &[] },
];

const TARGET: &str = "bpfel-unknown-none";

/// Runs the command by itself: one line for each object.
pub fn run(args: &Args) -> Result<u8> {
    setup::ensure(Scope::Build, false)?;
    let project = Project::locate()?;
    for line in build(&project, args.release)? {
        eprintln!("{line}");
    }
    Ok(0)
}

/// Builds the objects whose inputs changed, and says in a line each what there is now.
pub fn build(project: &Project, release: bool) -> Result<Vec<String>> {
    let (compiler, linker) = tools()?;
    let flags = rustflags(&linker);
    if !linker.misaligned_access {
        eprintln!(
            "warning: {} does not know +allows-misaligned-mem-access: unaligned header reads become byte loads and \
             the programs slower; `cargo xtask setup` installs bpf-linker {}",
            linker.path.display(),
            toolchain::LINKER_VERSION
        );
    }
    let sources = inputs(project)?;
    VARIANTS
        .iter()
        .map(|variant| build_variant(project, variant, release, &compiler, &flags, &sources))
        .collect()
}

fn build_variant(
    project: &Project,
    variant: &Variant,
    release: bool,
    compiler: &BpfCompiler,
    flags: &[String],
    sources: &[PathBuf],
) -> Result<String> {
    let object = project.ebpf_objects().join(variant.file);
    let stamp = project.ebpf_objects().join(format!("{}.inputs", variant.file));
    let identity = format!("{}|{flags:?}|{:?}|{release}", compiler.info.identity, variant.features);
    let fingerprint = fingerprint(&project.root, sources, &identity)?;
    if object.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == fingerprint) {
        return Ok(format!("{} is up to date", object.display()));
    }
    let built = compile(project, variant, release, compiler, flags)?;
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let programs = check(&bytes, variant.file)?;
    let changed = install(&object, &bytes)?;
    fs::write(&stamp, fingerprint).with_context(|| format!("cannot write {}", stamp.display()))?;
    let verb = if changed { "built" } else { "unchanged" };
    Ok(format!("{} {verb}: {} bytes, programs {}", object.display(), bytes.len(), programs.join(" ")))
}

/// The compiler and the linker that fit together, or one line that names what is missing.
pub fn tools() -> Result<(BpfCompiler, Linker)> {
    let Some(linker) = toolchain::linker() else {
        return Err(process::unusable("bpf-linker is missing: run `cargo xtask setup`"));
    };
    let compilers = toolchain::compilers();
    let Some(compiler) = toolchain::fitting(&compilers, &linker) else {
        let reason = if compilers.is_empty() {
            "no compiler with rust-src for BPF".to_owned()
        } else {
            format!("no compiler with rust-src and an LLVM of at most {}, bpf-linker's", linker.llvm_major)
        };
        return Err(process::unusable(format!("{reason}: run `cargo xtask setup`")));
    };
    Ok((compiler.clone(), linker))
}

/// Instruction set v3 (Linux 5.1) throughout; the compiler hands CPU and features on to the linker.
pub fn rustflags(linker: &Linker) -> Vec<String> {
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.path.display()),
        "-Ctarget-cpu=v3".to_owned(),
    ];
    if linker.misaligned_access {
        flags.push("-Ctarget-feature=+allows-misaligned-mem-access".to_owned());
    }
    flags
}

fn compile(
    project: &Project,
    variant: &Variant,
    release: bool,
    compiler: &BpfCompiler,
    flags: &[String],
) -> Result<PathBuf> {
    let folder = project.ebpf_objects().join("build");
    let mut command = compiler.cargo();
    command
        .current_dir(project.ebpf_crate())
        .args(["build", "--quiet", "--bin", variant.binary, "--target", TARGET, "-Zbuild-std=core"])
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if release {
        command.arg("--release");
    }
    if !variant.features.is_empty() {
        command.args(["--features", &variant.features.join(",")]);
    }
    eprintln!("building {} (the first time takes about a minute)", variant.file);
    let output =
        command.stderr(Stdio::piped()).output().context("cannot start the compiler of the XDP object")?;
    eprint!("{}", without_known_warning(&String::from_utf8_lossy(&output.stderr)));
    if !output.status.success() {
        bail!("the XDP object cannot be built: `{}` failed ({})", process::shown(&command), output.status);
    }
    Ok(folder.join(TARGET).join(if release { "release" } else { "debug" }).join(variant.binary))
}

/// Drops what rustc says of each BPF feature that is not stable, which is every one.
fn without_known_warning(stderr: &str) -> String {
    let known = |paragraph: &&str| paragraph.contains("unstable feature specified for");
    let kept: Vec<&str> = stderr.split_inclusive("\n\n").filter(|paragraph| !known(paragraph)).collect();
    kept.concat()
}

/// The names of the object's programs, if the object is complete.
fn check(object: &[u8], name: &str) -> Result<Vec<String>> {
    let Some(summary) = elf::summarize(object) else {
        bail!("{name}: the linker's output is not a BPF object")
    };
    if !summary.has_btf {
        bail!("{name}: the object has no .BTF section; bpf-linker ignored --btf");
    }
    if summary.programs.is_empty() {
        bail!("{name}: the object has no XDP program");
    }
    Ok(summary.programs)
}

/// Puts the object in place in one step, and only if it differs, so that what embeds it is not built again for
/// nothing. Says whether it did.
fn install(object: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(object).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let fresh = object.with_extension("new");
    fs::write(&fresh, bytes)
        .and_then(|()| fs::rename(&fresh, object))
        .with_context(|| format!("cannot write {}", object.display()))?;
    Ok(true)
}

/// Every file that the objects are made from, sorted.
fn inputs(project: &Project) -> Result<Vec<PathBuf>> {
    let mut files = vec![project.root.join("Cargo.toml")];
    for name in ["lb-ebpf", "lb-core"] {
        let folder = project.root.join(name);
        files.extend([folder.join("Cargo.toml"), folder.join("Cargo.lock"), folder.join("build.rs")]);
        collect(&folder.join("src"), &mut files)?;
    }
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// A short text that changes with the names or contents of `files` or with `identity`.
fn fingerprint(root: &Path, files: &[PathBuf], identity: &str) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    for file in files {
        file.strip_prefix(root).unwrap_or(file).hash(&mut hasher);
        fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_fingerprint_follows_contents_names_and_identity() {
        let folder = scratch("fingerprint");
        let (a, b) = (folder.join("a.rs"), folder.join("b.rs"));
        fs::write(&a, "one").unwrap();
        fs::write(&b, "one").unwrap();
        let of = |files: &[&PathBuf], identity: &str| {
            fingerprint(&folder, &files.iter().map(|f| (*f).clone()).collect::<Vec<_>>(), identity).unwrap()
        };
        let first = of(&[&a], "x");
        assert_eq!(first, of(&[&a], "x"));
        assert_ne!(first, of(&[&b], "x"));
        assert_ne!(first, of(&[&a], "y"));
        fs::write(&a, "two").unwrap();
        assert_ne!(first, of(&[&a], "x"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_equal_object_is_left_alone() {
        let folder = scratch("install");
        let object = folder.join("lb.bpf.o");
        assert!(install(&object, b"abc").unwrap());
        let before = fs::metadata(&object).unwrap().modified().unwrap();
        assert!(!install(&object, b"abc").unwrap());
        assert_eq!(fs::metadata(&object).unwrap().modified().unwrap(), before);
        assert!(install(&object, b"abd").unwrap());
        assert_eq!(fs::read(&object).unwrap(), b"abd");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no left-over beside the object");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn other_warnings_are_kept() {
        let known =
            "warning: unstable feature specified for `-Ctarget-feature`: `alu32`\n  |\n  = note: x\n\n";
        assert_eq!(
            without_known_warning(&format!("{known}warning: unused\n  |\n\n{known}error: no\n")),
            "warning: unused\n  |\n\nerror: no\n"
        );
        assert_eq!(without_known_warning(""), "");
    }

    #[test]
    fn what_the_linker_gives_is_checked() {
        let error = check(b"text", "lb.bpf.o").unwrap_err();
        assert_eq!(error.to_string(), "lb.bpf.o: the linker's output is not a BPF object");
    }
}
