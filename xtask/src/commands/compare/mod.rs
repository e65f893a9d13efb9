//! `cargo xtask compare`: builds, lets `mininet/compare.py` measure every way to balance, and makes a report of it.

mod curves;
mod figures;
mod html;
mod table;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::build_ebpf;
use super::results::{array, text, write};
use super::setup::{self, Scope};
use crate::process;
use crate::project::Project;

/// Arguments of the command.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How often each mode is set up and measured, all modes in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, value_name = "S", default_value = "2")]
    seconds: String,
    /// Only these modes, separated by commas: direct, ovs-nat, pox, nox-packets, nox, reactive, group, learn, inline,
    /// onearm-nat, onearm-dsr, pox-original
    #[arg(long, value_name = "MODE,...")]
    modes: Option<String>,
    /// Only pox, reactive, inline and onearm-dsr, one round of one second each, without changes of the pool: at most five
    /// minutes
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// A checkout of POX: measures the original too, as pox-original
    #[arg(long, value_name = "DIR")]
    pox: Option<PathBuf>,
    /// Where the result goes as JSON [default: compare/compare.json in the target folder]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report goes [default: compare/compare.html in the target folder]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the command by itself. Status 1 if something could not be measured.
pub fn run(args: &Args) -> Result<u8> {
    if let Some(folder) = args.pox.as_ref().filter(|folder| !folder.join("pox.py").is_file()) {
        let folder = folder.display();
        let error = format!("--pox {folder}: there is no pox.py in it; name a checkout of POX");
        return Err(process::unusable(error));
    }
    setup::ensure(Scope::All, false)?;
    let project = Project::locate()?;
    for line in build_ebpf::build(&project, true)? {
        eprintln!("{line}");
    }
    let mut build = project.cargo();
    build.args(["build", "--release", "-p", "lb-user", "-p", "ofshim", "-p", "lb-bench"]);
    build.args(["--bin", "lb", "--bin", "ofshim", "--bin", "bench-traffic", "--bin", "bench-load"]);
    process::run(build.env("LB_EBPF_OBJECT", project.object()))?;

    let mut command = command(args, &project, process::is_root());
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    let status = output.status.code().and_then(|code| u8::try_from(code).ok());
    let Ok(mut measured) = serde_json::from_slice::<Value>(&output.stdout) else {
        let Some(status) = status.filter(|status| *status != 0) else {
            bail!("`{}` printed no result", process::shown(&command));
        };
        // It has said why.
        return Ok(status);
    };
    measured["machine"]["command"] = json!(typed(args));
    print!("{}", table::terminal(&measured));
    let folder = project.target.join("compare");
    let json = args.json.clone().unwrap_or_else(|| folder.join("compare.json"));
    let html = args.html.clone().unwrap_or_else(|| folder.join("compare.html"));
    write(&json, &format!("{:#}\n", result(&measured)))?;
    write(&html, &html::page(&measured))?;
    println!("\nresult in {}, report in {}", json.display(), html.display());
    Ok(status.unwrap_or(1))
}

fn command(args: &Args, project: &Project, root: bool) -> Command {
    let release = project.target.join("release");
    let python = "/usr/bin/python3";
    let mut command = match process::find_program("setpriv").filter(|_| root) {
        // What it has set up is taken down, whatever ends this program.
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", python]);
            command
        }
        None if root => Command::new(python),
        None => {
            let mut command = Command::new("sudo");
            command.args(["-E", python]);
            command
        }
    };
    command.arg("-B").arg(project.root.join("mininet").join("compare.py"));
    for (option, program) in
        [("--lb", "lb"), ("--ofshim", "ofshim"), ("--traffic", "bench-traffic"), ("--load", "bench-load")]
    {
        command.arg(option).arg(release.join(program));
    }
    if let Some(folder) = &args.pox {
        command.arg("--pox").arg(folder);
    }
    if args.quick {
        command.arg("--quick");
    } else {
        command.args(["--rounds", &args.rounds.to_string(), "--seconds", &args.seconds]);
    }
    if let Some(modes) = &args.modes {
        command.args(["--modes", modes]);
    }
    // Cargo points this at the compiler's own libraries.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// What a person types for the same measurement.
fn typed(args: &Args) -> String {
    let mut words = vec!["cargo xtask compare".to_owned()];
    if args.quick {
        words.push("--quick".to_owned());
    } else {
        words.push(format!("--rounds {} --seconds {}", args.rounds, args.seconds));
    }
    if let Some(modes) = &args.modes {
        words.push(format!("--modes {modes}"));
    }
    if args.pox.is_some() {
        words.push("--pox DIR".to_owned());
    }
    words.join(" ")
}

/// The result as a file has it: machine, rounds, and for each mode its figures. A figure that a mode does not have is null,
/// with the reason.
fn result(measured: &Value) -> Value {
    let mut machine = measured["machine"].clone();
    machine["seconds"] = measured["seconds"].clone();
    machine["left_out"] = measured["left_out"].clone();
    let modes = array(&measured["modes"]);
    let commands = modes.iter().map(|mode| (text(&mode["mode"]).to_owned(), mode["commands"].clone()));
    machine["commands"] = Value::Object(commands.collect());
    let modes: Vec<Value> = modes
        .iter()
        .map(|mode| json!({ "mode": mode["mode"], "metrics": metrics(&mode["metrics"]) }))
        .collect();
    json!({ "machine": machine, "rounds": measured["rounds"], "modes": modes })
}

fn metrics(metrics: &Value) -> Value {
    let known = metrics.as_object().into_iter().flatten();
    let metrics: Map<String, Value> = known
        .map(|(name, metric)| {
            let mut kept = json!({ "unit": metric["unit"], "min": metric["min"], "median": metric["median"],
                                   "max": metric["max"] });
            if metric["median"].is_null() {
                kept["reason"] = metric["reason"].clone();
            }
            (name.clone(), kept)
        })
        .collect();
    Value::Object(metrics)
}

#[cfg(test)]
mod tests;
