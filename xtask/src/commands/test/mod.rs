//! `cargo xtask test`: every test of the project, counted.

mod counts;
mod doctests;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

pub use counts::Counts;

use super::build_ebpf;
use super::setup::{self, Scope};
use crate::process;
use crate::project::Project;

/// Arguments of the command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Also what takes many minutes (a million random frames instead of twenty thousand)
    #[arg(long)]
    long: bool,
    /// Handed on to nextest, such as `-E 'test(maglev)'`; then nothing but the chosen tests runs
    #[arg(last = true, value_name = "NEXTEST ARGUMENTS")]
    nextest: Vec<String>,
}

/// Tells tests that they may take long.
const LONG_VARIABLE: &str = "LB_LONG";

/// Runs the command by itself; the last line counts.
pub fn run(args: &Args) -> Result<u8> {
    let counts = run_all(args)?;
    report(&counts);
    Ok(u8::from(counts.failed > 0))
}

/// The reasons of what was skipped on standard error, the summary alone on the last line of standard output.
pub fn report(counts: &Counts) {
    for reason in &counts.reasons {
        eprintln!("skipped: {reason}");
    }
    println!("{counts}");
}

/// Sets up, builds, runs everything.
pub fn run_all(args: &Args) -> Result<Counts> {
    setup::ensure(Scope::All, false)?;
    let run = Run::prepare(args)?;
    let mut counts = if process::find_program("cargo-nextest").is_some() {
        run.nextest_all()?
    } else {
        eprintln!("cargo-nextest is missing: the tests run one after the other through cargo test");
        run.libtest(
            &["--workspace", "--lib", "--bins", "--tests"],
            &["--test-threads=1", "--show-output", "--include-ignored"],
        )?
    };
    if args.nextest.is_empty() {
        if doctests::exist(&run.project.root)? {
            counts.add(run.libtest(&["--workspace", "--doc"], &[])?);
        }
        if let Some(python) = run.python()? {
            counts.add(python);
        }
    }
    anyhow::ensure!(counts != Counts::default(), "no test ran: the filter chooses none");
    Ok(counts)
}

struct Run {
    project: Project,
    nextest: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    long: bool,
}

impl Run {
    /// Builds what the tests call, as whoever runs this.
    fn prepare(args: &Args) -> Result<Self> {
        let project = Project::locate()?;
        for line in build_ebpf::build(&project, true)? {
            eprintln!("{line}");
        }
        let object = project.object();
        process::run(
            project.cargo().args(["build", "--workspace", "--bins"]).env("LB_EBPF_OBJECT", &object),
        )?;
        let binary = |name: &str| project.target.join("debug").join(name);
        let environment =
            vec![("LB_EBPF_OBJECT", object), ("LB_BIN", binary("lb")), ("OFSHIM_BIN", binary("ofshim"))];
        Ok(Self { nextest: args.nextest.clone(), environment, long: args.long, project })
    }

    fn cargo(&self) -> Command {
        let mut command = self.project.cargo();
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        if self.long {
            command.env(LONG_VARIABLE, "1");
        }
        command
    }

    /// Root runs everything at once. A normal user runs what needs no root, and the rest through sudo.
    fn nextest_all(&self) -> Result<Counts> {
        if process::is_root() {
            return self.nextest("default", &[]);
        }
        let mut counts = self.nextest("unprivileged", &[])?;
        if process::find_program("sudo").is_some() {
            let arch = std::env::consts::ARCH.to_uppercase();
            let runner = format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER");
            let kept = "--preserve-env=LB_EBPF_OBJECT,LB_BIN,OFSHIM_BIN,LB_LONG,LB_SEED,OPENFLOW_VECTORS,CARGO_MANIFEST_DIR";
            counts.add(self.nextest("privileged", &[(runner, format!("sudo {kept}"))])?);
        } else {
            let skipped = self.count_privileged()?;
            counts.skipped += skipped;
            counts.reasons.push(format!(
                "{skipped} tests that need root: no sudo here, run `cargo xtask test` as root"
            ));
        }
        Ok(counts)
    }

    fn nextest(&self, profile: &str, environment: &[(String, String)]) -> Result<Counts> {
        // Below the root whatever the target folder is.
        let report = self.project.root.join("target/nextest").join(profile).join("junit.xml");
        fs::remove_file(&report).ok();
        let mut command = self.cargo();
        command.args(["nextest", "run", "--workspace", "--run-ignored", "all", "--profile", profile]);
        command.arg("--no-tests=pass").args(&self.nextest);
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        let outcome = process::run(&mut command);
        let counts = fs::read_to_string(&report).map(|text| Counts::from_junit(&text));
        match (counts, outcome) {
            (Ok(counts), Err(error)) if counts.failed == 0 => Err(error),
            (Ok(counts), _) => Ok(counts),
            (Err(_), Err(error)) => Err(error),
            (Err(error), Ok(())) => {
                Err(error).with_context(|| format!("nextest wrote no {}", report.display()))
            }
        }
    }

    fn count_privileged(&self) -> Result<usize> {
        let mut command = self.cargo();
        command.args([
            "nextest",
            "list",
            "--workspace",
            "--profile",
            "privileged",
            "--message-format",
            "json",
        ]);
        let list: serde_json::Value = serde_json::from_str(&process::capture(&mut command)?)?;
        Ok(matching(&list))
    }

    fn libtest(&self, cargo: &[&str], tests: &[&str]) -> Result<Counts> {
        let mut command = self.cargo();
        command.args(["test", "--no-fail-fast"]).args(cargo).arg("--").args(tests).stderr(Stdio::inherit());
        let output = command.output().context("cannot start cargo test")?;
        let text = String::from_utf8_lossy(&output.stdout);
        eprint!("{text}");
        let counts = Counts::from_libtest(&text);
        if !output.status.success() && counts.failed == 0 {
            bail!("`{}` failed ({})", process::shown(&command), output.status);
        }
        Ok(counts)
    }

    /// The tests beside the Python classes, under the interpreter that has Mininet.
    fn python(&self) -> Result<Option<Counts>> {
        let folder = self.project.root.join("mininet");
        let is_test = |name: &str| name.starts_with("test_") && name.ends_with(".py");
        let names = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        if !names.into_iter().any(|name| is_test(&name.to_string_lossy())) {
            return Ok(None);
        }
        let sudo = !process::is_root() && process::find_program("sudo").is_some();
        let mut command = Command::new(if sudo { "sudo" } else { "/usr/bin/python3" });
        if sudo {
            command.args(["-E", "/usr/bin/python3"]);
        }
        command.args(["-B", "-m", "unittest", "discover", "-v", "-t", ".", "-s", ".", "-p", "test_*.py"]);
        command.current_dir(&folder).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        let output = command.output().context("cannot start /usr/bin/python3")?;
        let text = String::from_utf8_lossy(&output.stderr);
        eprint!("{text}");
        let counts = Counts::from_unittest(&text);
        counts.with_context(|| format!("`{}` did not run to its end", process::shown(&command))).map(Some)
    }
}

/// The tests that a `nextest list` answer says would run.
fn matching(list: &serde_json::Value) -> usize {
    let suites = list["rust-suites"].as_object().into_iter().flat_map(serde_json::Map::values);
    let cases = suites.filter_map(|suite| suite["testcases"].as_object()).flat_map(serde_json::Map::values);
    cases.filter(|case| case["filter-match"]["status"] == "matches").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_profile_selects_is_counted() {
        let list = serde_json::json!({ "rust-suites": {
            "tests": { "testcases": {
                "a": { "filter-match": { "status": "matches" } },
                "b": { "filter-match": { "status": "mismatch", "reason": "default-filter" } } } },
            "lb": { "testcases": { "c": { "filter-match": { "status": "matches" } } } } } });
        assert_eq!(matching(&list), 2);
    }
}
