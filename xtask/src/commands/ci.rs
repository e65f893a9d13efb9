//! `cargo xtask ci`: all that a change must pass. Every step runs, whatever became of the one before.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::setup::{self, Scope};
use super::test;
use crate::lint;
use crate::process;
use crate::project::Project;

struct Step {
    name: &'static str,
    took: Duration,
    good: bool,
}

/// Runs the command by itself; ends with the time of each step and the summary of the tests.
pub fn run() -> Result<u8> {
    let mut steps = Vec::new();
    let mut counts = None;
    step(&mut steps, "setup", || setup::ensure(Scope::All, false).map(|_| ()));
    let project = Project::locate()?;
    step(&mut steps, "fmt", || fmt(&project));
    step(&mut steps, "dependencies", || lint::check(&project));
    step(&mut steps, "clippy", || clippy(&project));
    step(&mut steps, "doc", || doc(&project));
    step(&mut steps, "test", || {
        let result = test::run_all(&test::Args::default())?;
        let failed = result.failed;
        counts = Some(result);
        anyhow::ensure!(failed == 0, "{failed} failed");
        Ok(())
    });
    for step in &steps {
        let verdict = if step.good { "ok" } else { "FAILED" };
        eprintln!("{:<14}{:>7.1} s  {verdict}", step.name, step.took.as_secs_f64());
    }
    if let Some(counts) = &counts {
        test::report(counts);
    }
    Ok(u8::from(steps.iter().any(|step| !step.good)))
}

fn step(steps: &mut Vec<Step>, name: &'static str, work: impl FnOnce() -> Result<()>) {
    eprintln!("== {name}");
    let start = Instant::now();
    let outcome = work();
    if let Err(error) = &outcome {
        eprintln!("{name}: {error:#}");
    }
    steps.push(Step { name, took: start.elapsed(), good: outcome.is_ok() });
}

fn fmt(project: &Project) -> Result<()> {
    process::run(project.cargo().args(["fmt", "--all", "--check"]))?;
    // Crates that are workspaces of their own.
    for alone in ["lb-ebpf", "openflow/fuzz", "tests/fuzz"] {
        process::run(project.cargo().args(["fmt", "--check"]).current_dir(project.root.join(alone)))?;
    }
    Ok(())
}

/// The XDP programs are linted for the host: the workspace's own clippy suffices for that, wherever their compiler
/// comes from.
fn clippy(project: &Project) -> Result<()> {
    let deny = ["--", "-D", "warnings"];
    process::run(project.cargo().args(["clippy", "--workspace", "--all-targets", "--locked"]).args(deny))?;
    for features in ["", "log"] {
        let mut command = project.cargo();
        command.args(["clippy", "--locked", "--features", features]).args(deny);
        command
            .current_dir(project.ebpf_crate())
            .env("CARGO_TARGET_DIR", project.ebpf_objects().join("clippy"));
        process::run(&mut command)?;
    }
    Ok(())
}

fn doc(project: &Project) -> Result<()> {
    let mut command = project.cargo();
    command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut command)
}
