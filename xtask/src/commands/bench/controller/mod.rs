//! `cargo xtask bench controller`: how many packet-ins the controller answers, how fast, and what its topology costs.

mod rows;
mod runs;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use self::rows::{ROWS, Row, Spread, summary};
use self::runs::Programs;
use super::svg::{self, Bar};
use super::{text, write};
use crate::process;
use crate::project::Project;

/// Arguments of the command.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How often each row is measured, all rows in turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Fake switches
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    switches: u16,
    /// Milliseconds that each row is measured for in a round
    #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    measure: u64,
    /// Only rows whose name contains one of these words, separated by commas; `topology` for the topology
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    rows: Vec<String>,
    /// Where the rows go as JSON; FILE.facts.json beside it says what they were measured on [default:
    /// target/bench/controller.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the picture of the replies goes; that of the topology is beside it [default: target/bench/controller.svg]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The word for all rows of the topology.
const TOPOLOGY: &str = "topology";

impl Args {
    /// Whether a row was asked for.
    fn wants(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|word| name.contains(word.as_str()))
    }
}

/// Runs the command by itself. Whether the goal is met changes nothing in its exit status.
pub fn run(args: &Args) -> Result<u8> {
    let project = Project::locate()?;
    process::run(project.cargo().args(["build", "--quiet", "--release", "-p", "ofshim", "-p", "ofbench"]))?;
    if args.wants(TOPOLOGY) {
        let example = ["build", "--quiet", "--release", "-p", "ofshim", "--example", "topology"];
        process::run(project.cargo().args(example))?;
    }
    let release = project.target.join("release");
    let programs = Programs {
        controller: release.join("ofshim"),
        generator: release.join("ofbench"),
        topology: release.join("examples").join("topology"),
        folder: project.target.join("bench").join(format!("controller-{}", std::process::id())),
    };
    let facts = json!({ "conditions": runs::conditions(), "rounds": args.rounds, "switches": args.switches,
                        "hosts_per_switch": 1000, "measured_ms": args.measure });
    let measured = measure(args, &programs);
    runs::clean(&programs.folder);
    let rows = measured?;
    print!("{}", report(&facts, &rows));

    let folder = project.target.join("bench");
    let json = args.json.clone().unwrap_or_else(|| folder.join("controller.json"));
    let picture = args.svg.clone().unwrap_or_else(|| folder.join("controller.svg"));
    let of_topology = picture.with_extension("topology.svg");
    write(&json, &format!("{:#}\n", Value::Array(rows.clone())))?;
    write(&json.with_extension("facts.json"), &format!("{facts:#}\n"))?;
    write(&picture, &draw_replies(&facts, &rows))?;
    if args.wants(TOPOLOGY) {
        write(&of_topology, &draw_topology(&facts, &rows))?;
    }
    println!("\nrows in {}, picture in {}", json.display(), picture.display());
    Ok(0)
}

/// All rows in turn, as often as asked for.
fn measure(args: &Args, programs: &Programs) -> Result<Vec<Value>> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| args.wants(row.name)).collect();
    let mut samples = vec![Vec::new(); rows.len()];
    let mut networks: Vec<Vec<Value>> = Vec::new();
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        for (row, samples) in rows.iter().zip(&mut samples) {
            samples.push(programs.measure(row, args.switches, args.measure)?);
        }
        if args.wants(TOPOLOGY) {
            for (at, network) in programs.topology()?.into_iter().enumerate() {
                match networks.get_mut(at) {
                    Some(samples) => samples.push(network),
                    None => networks.push(vec![network]),
                }
            }
        }
    }
    let replies = rows.iter().zip(&samples).map(|(row, samples)| {
        let mut summed = summary(row.name, row.label, samples);
        summed.insert("goal_replies_per_cpu_s".to_owned(), json!(row.goal));
        Value::Object(summed)
    });
    let topology = networks.iter().filter_map(|samples| Some(network_row(samples.first()?, samples)));
    Ok(replies.chain(topology).collect())
}

/// The samples of one network as a row.
fn network_row(first: &Value, samples: &[Value]) -> Value {
    let (network, switches) = (text(&first["network"]), &first["switches"]);
    let name = format!("topology-{}-{switches}", network.replace(' ', "-"));
    let mut row = summary(&name, &format!("{network}, {switches} switches"), samples);
    let look_ups = samples.iter().filter_map(|sample| sample["look_up_ns"].as_f64()).collect();
    row.insert("look_up_ns_median".to_owned(), json!(Spread::of(look_ups).map(|spread| spread.median)));
    let ratio = |sample: &Value| Some(sample["all_trees_ns"].as_f64()? / sample["link_gone_ns"].as_f64()?);
    if let Some(ratio) = Spread::of(samples.iter().filter_map(ratio).collect()) {
        row.insert("times_faster_min".to_owned(), json!(ratio.min));
        row.insert("times_faster_median".to_owned(), json!(ratio.median));
        row.insert("times_faster_max".to_owned(), json!(ratio.max));
    }
    Value::Object(row)
}

/// What a person reads.
fn report(facts: &Value, rows: &[Value]) -> String {
    let conditions = &facts["conditions"];
    let mut out = format!(
        "Linux {}, {} ({} processors), load average {}, {} switches, {} rounds of {} ms\n\n",
        text(&conditions["kernel"]),
        text(&conditions["cpu"]),
        conditions["cpus"],
        conditions["load_average"],
        facts["switches"],
        facts["rounds"],
        facts["measured_ms"]
    );
    let (topology, replies): (Vec<&Value>, Vec<&Value>) =
        rows.iter().partition(|row| text(&row["row"]).starts_with("topology"));
    out += &format!(
        "{:<40}{:>8}{:>8}{:>8}{:>10}{:>11}{:>10}{:>10}  goal\n",
        "replies for a CPU second, in thousands",
        "min",
        "median",
        "max",
        "per s",
        "flow-mods",
        "p50 us",
        "p99 us"
    );
    for row in replies {
        out += &reply_line(row);
    }
    if topology.is_empty() {
        return out;
    }
    out += &format!(
        "\n{:<40}{:>12}{:>12}{:>12}{:>12}  {}\n",
        "topology, medians", "all trees", "link gone", "link back", "look-up", "times faster"
    );
    for row in topology {
        let time = |key: &str| row[key].as_f64().map_or_else(|| "-".to_owned(), duration);
        out += &format!(
            "{:<40}{:>12}{:>12}{:>12}{:>12}  {:.1}\n",
            text(&row["label"]),
            time("all_trees_ns_median"),
            time("link_gone_ns_median"),
            time("link_back_ns_median"),
            time("look_up_ns_median"),
            row["times_faster_median"].as_f64().unwrap_or(f64::NAN)
        );
    }
    out
}

fn reply_line(row: &Value) -> String {
    let number = |key: &str, unit: f64| {
        row[key].as_f64().map_or_else(|| "-".to_owned(), |n| format!("{:.0}", n / unit))
    };
    let goal = row["goal_replies_per_cpu_s"].as_f64().zip(row["replies_per_cpu_s_median"].as_f64());
    let goal = goal.map_or(String::new(), |(goal, is)| {
        format!("  >= {:.0}: {}", goal / 1e3, if is >= goal { "met" } else { "not met" })
    });
    format!(
        "{:<40}{:>8}{:>8}{:>8}{:>10}{:>11.2}{:>10}{:>10}{goal}\n",
        text(&row["label"]),
        number("replies_per_cpu_s_min", 1e3),
        number("replies_per_cpu_s_median", 1e3),
        number("replies_per_cpu_s_max", 1e3),
        number("replies_per_s_median", 1e3),
        row["flow_mods_per_reply"].as_f64().unwrap_or(f64::NAN),
        number("latency_p50_ns_median", 1e3),
        number("latency_p99_ns_median", 1e3),
    )
}

/// A time in the unit that suits it.
fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 1e4 => format!("{ns:.0} ns"),
        ns if ns < 1e7 => format!("{:.0} us", ns / 1e3),
        ns => format!("{:.0} ms", ns / 1e6),
    }
}

fn draw_replies(facts: &Value, rows: &[Value]) -> String {
    let bars = rows.iter().filter_map(|row| {
        Some(Bar {
            label: text(&row["label"]).to_owned(),
            value: row["replies_per_cpu_s_median"].as_f64()? / 1e6,
            low: row["replies_per_cpu_s_min"].as_f64()? / 1e6,
            high: row["replies_per_cpu_s_max"].as_f64()? / 1e6,
            mark: row["goal_replies_per_cpu_s"].as_f64().map(|goal| goal / 1e6),
            hollow: text(&row["row"]).starts_with("null"),
        })
    });
    // The generator's own ceiling is an order beyond, and would leave nothing of the others to see.
    let bars: Vec<Bar> = bars.filter(|bar| !bar.hollow).collect();
    let unit = "million packet-ins answered for a second of the controller's processor time";
    svg::bars("What the controller answers", unit, &note(facts, "triangle: goal"), &bars)
}

fn draw_topology(facts: &Value, rows: &[Value]) -> String {
    let bars = rows.iter().filter_map(|row| {
        Some(Bar {
            label: text(&row["label"]).to_owned(),
            value: row["times_faster_median"].as_f64()?,
            low: row["times_faster_min"].as_f64()?,
            high: row["times_faster_max"].as_f64()?,
            mark: None,
            hollow: false,
        })
    });
    let unit = "times faster than computing all trees anew";
    svg::bars("A link goes", unit, &note(facts, "at most 1000 trees are kept"), &bars.collect::<Vec<_>>())
}

fn note(facts: &Value, more: &str) -> String {
    let conditions = &facts["conditions"];
    format!(
        "Linux {}, {}, {} rounds. Bar: median; whisker: least to most; {more}.",
        text(&conditions["kernel"]),
        text(&conditions["cpu"]),
        facts["rounds"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Value, Vec<Value>) {
        let facts = json!({ "conditions": { "kernel": "6.18", "cpu": "A CPU", "cpus": 2, "load_average": 0.5 },
                            "rounds": 2, "switches": 16, "measured_ms": 3000 });
        let sample = json!({ "replies": 100, "flow_mods": 50, "unanswered": 0, "strays": 0,
                             "replies_per_s": 900_000.0, "replies_per_cpu_s": 2_100_000.0 });
        let mut row = summary("learning-1.3", "learning", &[sample.clone(), sample]);
        row.insert("goal_replies_per_cpu_s".to_owned(), json!(2e6));
        let network = json!({ "network": "fat tree", "switches": 100, "all_trees_ns": 5_000_000,
                              "link_gone_ns": 10_000, "link_back_ns": 20_000_000, "look_up_ns": 900 });
        (facts, vec![Value::Object(row), network_row(&network, std::slice::from_ref(&network))])
    }

    #[test]
    fn the_report_says_what_was_measured_on_what() {
        let (facts, rows) = example();
        let expected = "\
Linux 6.18, A CPU (2 processors), load average 0.5, 16 switches, 2 rounds of 3000 ms

replies for a CPU second, in thousands       min  median     max     per s  flow-mods    p50 us    p99 us  goal
learning                                    2100    2100    2100       900       0.50         -         -  >= 2000: met

topology, medians                          all trees   link gone   link back     look-up  times faster
fat tree, 100 switches                       5000 us       10 us       20 ms      900 ns  500.0
";
        assert_eq!(report(&facts, &rows), expected);
    }

    #[test]
    fn the_pictures_name_their_rows() {
        let (facts, rows) = example();
        let (replies, topology) = (draw_replies(&facts, &rows), draw_topology(&facts, &rows));
        assert!(replies.contains("learning") && replies.contains("A CPU") && !replies.contains("fat tree"));
        assert!(topology.contains("fat tree, 100 switches") && !topology.contains("learning"));
    }
}
