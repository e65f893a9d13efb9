//! `cargo xtask bench datapath`: builds, measures, and shows what a packet costs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::svg::{self, Bar};
use super::{array, text, write};
use crate::commands::build_ebpf;
use crate::commands::setup::{self, Scope};
use crate::process;
use crate::project::Project;

/// What an empty program in the kernel's loop takes on the machine that the goals were set on.
const LOOP_NS: u32 = 15;

/// Arguments of the command.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How often each row is measured, all rows in turn
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only rows whose name contains one of these words, separated by commas
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    rows: Vec<String>,
    /// Where the rows go as JSON; FILE.facts.json beside it says what they were measured on [default: bench/datapath.json in the target folder]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the picture goes [default: bench/datapath.svg in the target folder]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs the command by itself. Whether the goals are met changes nothing in its exit status.
pub fn run(args: &Args) -> Result<u8> {
    setup::ensure(Scope::Build, false)?;
    let project = Project::locate()?;
    for line in build_ebpf::build(&project, true)? {
        eprintln!("{line}");
    }
    process::run(project.cargo().args(["build", "--quiet", "-p", "lb-bench", "--bin", "bench-datapath"]))?;
    let output = process::capture_result(&mut command(args, &project, process::is_root()))?;
    let result: Value = serde_json::from_str(&output).context("bench-datapath wrote no JSON")?;
    print!("{}", report(&result));

    let folder = project.target.join("bench");
    let json = args.json.clone().unwrap_or_else(|| folder.join("datapath.json"));
    let picture = args.svg.clone().unwrap_or_else(|| folder.join("datapath.svg"));
    let facts = json.with_extension("facts.json");
    let (rows, rest) = split(result);
    write(&json, &format!("{rows:#}\n"))?;
    write(&facts, &format!("{rest:#}\n"))?;
    write(&picture, &draw(&rows, &rest))?;
    println!(
        "\nrows in {}, conditions in {}, picture in {}",
        json.display(),
        facts.display(),
        picture.display()
    );
    Ok(0)
}

fn command(args: &Args, project: &Project, root: bool) -> Command {
    let program = project.target.join("debug").join("bench-datapath");
    let mut command = if root {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    };
    command.arg("--object").arg(project.object()).arg("--bench-object").arg(project.bench_object());
    command.args(["--rounds", &args.rounds.to_string()]);
    if !args.rows.is_empty() {
        command.args(["--rows", &args.rows.join(",")]);
    }
    // Cargo points this at the compiler's own libraries.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// The rows, and everything else.
fn split(mut result: Value) -> (Value, Value) {
    let rows = result.as_object_mut().and_then(|all| all.remove("rows")).unwrap_or_default();
    (rows, result)
}

/// What a person reads.
fn report(result: &Value) -> String {
    let mut out = conditions(&result["conditions"]);
    out += &format!(
        "rounds: {}; an empty program in the kernel's loop: {} ns (where the goals were set: {LOOP_NS} ns); with the \
         wrapper, taken off: {} ns\n\n",
        result["rounds"],
        number(&result["loop_ns_min"]),
        number(&result["wrapper_ns_min"])
    );
    out += &format!(
        "{:<42}{:>8}{:>8}{:>8}   {:<12}{}\n",
        "ns a packet", "min", "median", "max", "floor", "goal"
    );
    for row in array(&result["rows"]) {
        out += &line(row, array(&result["rows"]));
    }
    out.push('\n');
    for program in array(&result["programs"]) {
        out += &format!(
            "{:<12} {:>8} verified instructions, {:>7} bytes translated, {:>7} bytes JIT code\n",
            text(&program["name"]),
            whole(&program["verified_instructions"]),
            whole(&program["translated_bytes"]),
            whole(&program["jited_bytes"])
        );
    }
    for table in array(&result["tables"]) {
        out += &format!(
            "{:<12} {:>8} entries, {:.1} bytes an entry\n",
            text(&table["name"]),
            whole(&table["entries"]),
            table["bytes_an_entry"].as_f64().unwrap_or(f64::NAN)
        );
    }
    out
}

/// Kernel, processor and load, in two lines.
fn conditions(conditions: &Value) -> String {
    let mitigations: Vec<&str> = array(&conditions["mitigations"]).iter().map(text).collect();
    let mitigations = if mitigations.is_empty() { "none".to_owned() } else { mitigations.join("; ") };
    format!(
        "Linux {}, {} ({} processors), JIT {}, load average {}\nmitigations: {mitigations}\n",
        text(&conditions["kernel"]),
        text(&conditions["cpu"]),
        conditions["cpus"],
        if conditions["jit"] == true { "on" } else { "off" },
        conditions["load_average"]
    )
}

fn line(row: &Value, rows: &[Value]) -> String {
    let floor = rows.iter().find(|other| !row["floor"].is_null() && other["row"] == row["floor"]);
    let ratio = floor.and_then(|floor| Some(row["ns_min"].as_f64()? / floor["ns_min"].as_f64()?));
    format!(
        "{:<42}{:>8}{:>8}{:>8}   {:<12}{}\n",
        text(&row["label"]),
        number(&row["ns_min"]),
        number(&row["ns_median"]),
        number(&row["ns_max"]),
        ratio.map_or(String::new(), |ratio| format!("{ratio:.1}x")),
        goal(row)
    )
    .trim_end()
    .to_owned()
        + "\n"
}

/// `<= 40: met`, of rows with a goal.
fn goal(row: &Value) -> String {
    let (Some(goal), Some(ns)) = (row["goal_ns"].as_f64(), row["ns_min"].as_f64()) else {
        return String::new();
    };
    format!("<= {goal}: {}", if ns <= goal { "met" } else { "not met" })
}

fn draw(rows: &Value, facts: &Value) -> String {
    let bars: Vec<Bar> = array(rows)
        .iter()
        .filter_map(|row| {
            Some(Bar {
                label: text(&row["label"]).to_owned(),
                value: row["ns_median"].as_f64()?.max(0.0),
                low: row["ns_min"].as_f64()?.max(0.0),
                high: row["ns_max"].as_f64()?.max(0.0),
                mark: row["goal_ns"].as_f64(),
                hollow: row["is_floor"] == true,
            })
        })
        .collect();
    let conditions = &facts["conditions"];
    let note = format!(
        "Linux {}, {}, {} rounds. Bar: median; whisker: least to most; triangle: goal; hollow: floor.",
        text(&conditions["kernel"]),
        text(&conditions["cpu"]),
        facts["rounds"]
    );
    svg::bars("What a packet costs in the balancer", "nanoseconds a packet, the program alone", &note, &bars)
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

fn whole(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        json!({
            "conditions": {
                "kernel": "6.18.5", "cpu": "A CPU", "cpus": 2, "jit": true, "load_average": 0.5,
                "mitigations": ["spectre_v2: Retpolines"],
            },
            "rounds": 7,
            "loop_ns_min": 16.0,
            "wrapper_ns_min": 21.0,
            "programs": [{ "name": "lb_balance", "verified_instructions": 5, "translated_bytes": 6, "jited_bytes": 7 }],
            "tables": [{ "name": "CONNS", "entries": 1024, "bytes_an_entry": 112.0 }],
            "rows": [
                { "row": "floor", "label": "a look-up", "is_floor": true, "ns_min": 20.0, "ns_median": 21.0,
                  "ns_max": 22.5, "goal_ns": null, "floor": null },
                { "row": "a", "label": "established", "is_floor": false, "ns_min": 50.0, "ns_median": 51.0,
                  "ns_max": 60.0, "goal_ns": 40.0, "floor": "floor" },
                { "row": "b", "label": "not ours", "is_floor": false, "ns_min": 9.96, "ns_median": 10.0,
                  "ns_max": 11.0, "goal_ns": 20.0, "floor": null },
            ],
        })
    }

    #[test]
    fn the_report_says_what_was_measured_on_what() {
        let expected = "\
Linux 6.18.5, A CPU (2 processors), JIT on, load average 0.5
mitigations: spectre_v2: Retpolines
rounds: 7; an empty program in the kernel's loop: 16.0 ns (where the goals were set: 15 ns); with the wrapper, taken off: 21.0 ns

ns a packet                                    min  median     max   floor       goal
a look-up                                     20.0    21.0    22.5
established                                   50.0    51.0    60.0   2.5x        <= 40: not met
not ours                                      10.0    10.0    11.0               <= 20: met

lb_balance          5 verified instructions,       6 bytes translated,       7 bytes JIT code
CONNS            1024 entries, 112.0 bytes an entry
";
        assert_eq!(report(&result()), expected);
    }

    #[test]
    fn rows_and_the_rest_are_two_files() {
        let (rows, rest) = split(result());
        assert_eq!(rows.as_array().unwrap().len(), 3);
        assert!(rest.get("rows").is_none() && rest["rounds"] == 7);
    }

    #[test]
    fn the_picture_names_every_row() {
        let (rows, rest) = split(result());
        let picture = draw(&rows, &rest);
        for label in ["a look-up", "established", "not ours", "A CPU"] {
            assert!(picture.contains(label), "{label}");
        }
    }

    #[test]
    fn arguments_are_handed_on() {
        let project = Project { root: "/p".into(), target: "/t".into() };
        let args = Args { rounds: 3, rows: vec!["tcp4".into(), "arp".into()], json: None, svg: None };
        let words = "/t/debug/bench-datapath --object /p/target/ebpf/lb.bpf.o --bench-object /p/target/ebpf/bench.bpf.o --rounds 3 --rows tcp4,arp";
        assert_eq!(process::shown(&command(&args, &project, true)), words);
        assert_eq!(process::shown(&command(&args, &project, false)), format!("sudo {words}"));
    }
}
