//! `cargo xtask bench mininet`: builds, lets `mininet/bench.py` measure, and shows what came of it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::svg::{self, Bar, Panel, short};
use super::{array, text, write};
use crate::commands::build_ebpf;
use crate::commands::setup::{self, Scope};
use crate::process;
use crate::project::Project;

/// What all others are compared with.
const BASELINE: &str = "ovs-nat";

/// A figure of every mode.
struct Figure {
    /// Its name in the results.
    name: &'static str,
    heading: &'static str,
    /// What is wanted of one mode, as a multiple of the baseline's.
    goal: Option<(&'static str, f64)>,
}

const FIGURES: [Figure; 5] = [
    Figure { name: "bulk", heading: "TCP bulk, Gbit/s", goal: Some(("inline-redirect", 3.5)) },
    Figure { name: "connections", heading: "new connections/s", goal: Some(("inline-redirect", 1.2)) },
    Figure { name: "udp", heading: "UDP packets/s", goal: Some(("inline-redirect", 2.2)) },
    Figure { name: "latency_p50", heading: "a request, median, us", goal: None },
    Figure { name: "latency_p99", heading: "a request, 99th percentile, us", goal: None },
];

/// Arguments of the command.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How often each mode is set up and measured, all modes in turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, value_name = "S", default_value = "3")]
    seconds: String,
    /// Only these modes, separated by commas: direct, ovs-nat, inline-redirect, inline-pass, onearm-nat, onearm-dsr
    #[arg(long, value_name = "MODE,...")]
    modes: Option<String>,
    /// One round of one second each, without inline PASS: whether it works, no figures to quote
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "modes"])]
    quick: bool,
    /// Where the result goes as JSON [default: bench/mininet.json in the target folder]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the picture goes [default: bench/mininet.svg in the target folder]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs the command by itself. Status 1 if something could not be measured; whether the goals are met changes nothing.
pub fn run(args: &Args) -> Result<u8> {
    setup::ensure(Scope::All, false)?;
    let project = Project::locate()?;
    for line in build_ebpf::build(&project, true)? {
        eprintln!("{line}");
    }
    let mut build = project.cargo();
    build.args([
        "build",
        "--release",
        "-p",
        "lb-user",
        "-p",
        "lb-bench",
        "--bin",
        "lb",
        "--bin",
        "bench-traffic",
    ]);
    process::run(build.env("LB_EBPF_OBJECT", project.object()))?;

    let mut command = command(args, &project, process::is_root());
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    let status = output.status.code().and_then(|code| u8::try_from(code).ok());
    let Ok(result) = serde_json::from_slice::<Value>(&output.stdout) else {
        let Some(status) = status.filter(|status| *status != 0) else {
            bail!("`{}` printed no result", process::shown(&command));
        };
        // It has said why.
        return Ok(status);
    };
    print!("{}", report(&result));
    let folder = project.target.join("bench");
    let json = args.json.clone().unwrap_or_else(|| folder.join("mininet.json"));
    let picture = args.svg.clone().unwrap_or_else(|| folder.join("mininet.svg"));
    write(&json, &format!("{result:#}\n"))?;
    write(&picture, &draw(&result))?;
    println!("\nresult in {}, picture in {}", json.display(), picture.display());
    Ok(status.unwrap_or(1))
}

fn command(args: &Args, project: &Project, root: bool) -> Command {
    let mut command = Command::new(if root { "/usr/bin/python3" } else { "sudo" });
    if !root {
        command.args(["-E", "/usr/bin/python3"]);
    }
    let release = project.target.join("release");
    command.arg("-B").arg(project.root.join("mininet").join("bench.py"));
    command.arg("--lb").arg(release.join("lb")).arg("--traffic").arg(release.join("bench-traffic"));
    if args.quick {
        let modes = "direct,ovs-nat,inline-redirect,onearm-nat,onearm-dsr";
        command.args(["--rounds", "1", "--seconds", "1", "--modes", modes]);
    } else {
        command.args(["--rounds", &args.rounds.to_string(), "--seconds", &args.seconds]);
        if let Some(modes) = &args.modes {
            command.args(["--modes", modes]);
        }
    }
    // Cargo points this at the compiler's own libraries.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// What a person reads.
fn report(result: &Value) -> String {
    let machine = &result["machine"];
    let mut out = format!(
        "Linux {}, {} ({} processors), load average {}\n{}, {} datapath; {} rounds of {} s each\n",
        text(&machine["kernel"]),
        text(&machine["cpu"]),
        machine["cpus"],
        machine["load_average"],
        text(&machine["switch"]),
        text(&machine["datapath"]),
        result["rounds"],
        result["seconds"]
    );
    for figure in &FIGURES {
        out += &format!(
            "\n{:<46}{:>9}{:>9}{:>9}   {}\n",
            figure.heading, "min", "median", "max", "times the static entries"
        );
        for mode in array(&result["modes"]) {
            out += &line(figure, mode, result);
        }
    }
    out
}

fn line(figure: &Figure, mode: &Value, result: &Value) -> String {
    let metric = &mode["metrics"][figure.name];
    let number = |key: &str| metric[key].as_f64().map_or_else(|| "-".to_owned(), short);
    let ratio = ratio(figure, mode, result);
    let mut end = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
    if let (Some((_, goal)), Some(ratio)) = (goal_of(figure, mode), ratio) {
        end += &format!("   goal {goal}x: {}", if ratio >= goal { "met" } else { "not met" });
    }
    let line = format!(
        "{:<46}{:>9}{:>9}{:>9}   {end}",
        text(&mode["label"]),
        number("min"),
        number("median"),
        number("max")
    );
    format!("{}\n", line.trim_end())
}

/// The median as a multiple of the baseline's.
fn ratio(figure: &Figure, mode: &Value, result: &Value) -> Option<f64> {
    let baseline = array(&result["modes"]).iter().find(|mode| mode["mode"] == BASELINE)?;
    let median = |mode: &Value| mode["metrics"][figure.name]["median"].as_f64();
    Some(median(mode)? / median(baseline)?)
}

fn goal_of(figure: &Figure, mode: &Value) -> Option<(&'static str, f64)> {
    figure.goal.filter(|(name, _)| mode["mode"] == *name)
}

fn draw(result: &Value) -> String {
    let panels: Vec<Panel> = FIGURES
        .iter()
        .map(|figure| Panel { heading: figure.heading.to_owned(), bars: bars(figure, result) })
        .collect();
    let machine = &result["machine"];
    let note = format!(
        "Linux {}, {}, {} rounds. Bar: median; whisker: least to most; triangle: goal; hollow: static entries.",
        text(&machine["kernel"]),
        text(&machine["cpu"]),
        result["rounds"]
    );
    svg::chart("Traffic through Mininet", &note, &panels)
}

fn bars(figure: &Figure, result: &Value) -> Vec<Bar> {
    let modes = array(&result["modes"]);
    let baseline = modes.iter().find(|mode| mode["mode"] == BASELINE);
    let baseline = baseline.and_then(|mode| mode["metrics"][figure.name]["median"].as_f64());
    let bar = |mode: &Value| {
        let metric = &mode["metrics"][figure.name];
        Some(Bar {
            label: text(&mode["label"]).to_owned(),
            value: metric["median"].as_f64()?,
            low: metric["min"].as_f64()?,
            high: metric["max"].as_f64()?,
            mark: goal_of(figure, mode).and_then(|(_, goal)| Some(goal * baseline?)),
            hollow: mode["mode"] == BASELINE,
        })
    };
    modes.iter().filter_map(bar).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        let mode = |name: &str, label: &str, bulk: [f64; 3]| {
            let [min, median, max] = bulk;
            json!({ "mode": name, "label": label,
                    "metrics": { "bulk": { "unit": "Gbit/s", "min": min, "median": median, "max": max } } })
        };
        json!({
            "machine": { "kernel": "6.18", "cpu": "A CPU", "cpus": 2, "load_average": 0.5,
                         "switch": "ovs-vswitchd (Open vSwitch) 3.1.0", "datapath": "userspace" },
            "rounds": 5, "seconds": 3.0,
            "modes": [
                mode("ovs-nat", "static NAT entries of the switch", [0.9, 1.0, 1.1]),
                mode("inline-redirect", "lb inline, REDIRECT", [3.0, 4.0, 4.5]),
            ],
        })
    }

    #[test]
    fn the_report_compares_with_the_static_entries() {
        let report = report(&result());
        let expected = "\
Linux 6.18, A CPU (2 processors), load average 0.5
ovs-vswitchd (Open vSwitch) 3.1.0, userspace datapath; 5 rounds of 3.0 s each

TCP bulk, Gbit/s                                    min   median      max   times the static entries
static NAT entries of the switch                    0.9        1      1.1   1.00x
lb inline, REDIRECT                                   3        4      4.5   4.00x   goal 3.5x: met
";
        assert!(report.starts_with(expected), "{report}");
        assert!(
            report.contains("\nlb inline, REDIRECT                                   -        -        -\n")
        );
    }

    #[test]
    fn the_picture_marks_the_goal() {
        let picture = draw(&result());
        assert_eq!(picture.matches("l-4 -6h8z").count(), 1);
        assert!(picture.contains("lb inline, REDIRECT") && picture.contains("TCP bulk"));
    }

    #[test]
    fn quick_is_one_round() {
        let project = Project { root: "/p".into(), target: "/t".into() };
        let mut args =
            Args { rounds: 5, seconds: "3".into(), modes: None, quick: false, json: None, svg: None };
        let words =
            "/usr/bin/python3 -B /p/mininet/bench.py --lb /t/release/lb --traffic /t/release/bench-traffic";
        assert_eq!(
            process::shown(&command(&args, &project, true)),
            format!("{words} --rounds 5 --seconds 3")
        );
        args.quick = true;
        assert_eq!(
            process::shown(&command(&args, &project, false)),
            format!(
                "sudo -E {words} --rounds 1 --seconds 1 --modes direct,ovs-nat,inline-redirect,onearm-nat,onearm-dsr"
            )
        );
    }
}
