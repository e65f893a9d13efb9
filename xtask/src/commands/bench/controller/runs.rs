//! One measurement: somebody who answers, and the generator.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::rows::{Answerer, Row};
use crate::process;

/// The programs.
#[derive(Debug)]
pub struct Programs {
    /// `ofshim`.
    pub controller: PathBuf,
    /// `ofbench`.
    pub generator: PathBuf,
    /// The example that measures the topology.
    pub topology: PathBuf,
    /// Where controllers have their sockets.
    pub folder: PathBuf,
}

/// Whoever answers; it ends with this.
struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which the generator has noticed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Programs {
    /// Measures a row for so many milliseconds.
    pub fn measure(&self, row: &Row, switches: u16, measure_ms: u64) -> Result<Value> {
        let running = self.start(row.answerer)?;
        let mut command = Command::new(&self.generator);
        command.args(["switches", "--connect", &running.address, "--pid", &running.child.id().to_string()]);
        command.args(["--switches", &switches.to_string(), "--measure", &measure_ms.to_string()]);
        command.args(row.load);
        if row.answerer == Answerer::Nobody {
            command.args(["--settle", "100"]);
        }
        let output = process::capture(&mut command).with_context(|| format!("row {}", row.name))?;
        serde_json::from_str(&output).context("ofbench wrote no JSON")
    }

    /// Measures the topology: an object for each network.
    pub fn topology(&self) -> Result<Vec<Value>> {
        let output = process::capture(Command::new(&self.topology).arg("--json"))?;
        output.lines().map(|line| serde_json::from_str(line).context("the topology wrote no JSON")).collect()
    }

    fn start(&self, answerer: Answerer) -> Result<Running> {
        match answerer {
            Answerer::Nobody => {
                let mut command = Command::new(&self.generator);
                started(command.arg("null").stdout(Stdio::piped()), |child| child.stdout.take())
            }
            Answerer::Controller(options) => {
                fs::create_dir_all(&self.folder)
                    .with_context(|| format!("cannot create {}", self.folder.display()))?;
                let mut command = Command::new(&self.controller);
                command.arg("--run-dir").arg(&self.folder).args(["run", "--listen", "127.0.0.1:0"]);
                command.arg("--lb-socket").arg(self.folder.join("no-balancer.sock")).args(options);
                started(command.stderr(Stdio::piped()), |child| child.stderr.take())
            }
        }
    }
}

/// Starts a program that says `listening on ADDR:PORT`, and reads on what it says for as long as it lives.
fn started<R: Read + Send + 'static>(
    command: &mut Command,
    output: impl FnOnce(&mut Child) -> Option<R>,
) -> Result<Running> {
    let shown = process::shown(command);
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let output = output(&mut child);
    let mut running = Running { child, address: String::new() };
    let mut lines = BufReader::new(output.context("its output is not there")?).lines();
    let mut said = Vec::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if let Some((_, address)) = line.split_once("listening on ") {
            address.trim().clone_into(&mut running.address);
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(running);
        }
        said.push(line);
    }
    bail!("`{shown}` does not listen: {}", said.join("; "))
}

/// What the figures were measured on.
pub fn conditions() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let loads = read("/proc/loadavg");
    serde_json::json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "cpu": cpu.map_or("unknown", |(_, name)| name.trim()),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "load_average": loads.split(' ').next().and_then(|load| load.parse::<f64>().ok()),
        "transport": "TCP over loopback, generator and controller on the same machine",
    })
}

/// Removes what a controller left in its folder.
pub fn clean(folder: &Path) {
    // It is only a socket and a lock, in the build folder.
    let _ = fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]).stdout(Stdio::piped());
        command
    }

    #[test]
    fn the_address_is_read_and_a_program_that_ends_is_an_error() {
        let mut good = shell("echo hello; echo INFO listening on 127.0.0.1:7; exec sleep 60");
        let running = started(&mut good, |child| child.stdout.take()).unwrap();
        assert_eq!(running.address, "127.0.0.1:7");
        let mut bad = shell("echo in use");
        let error = started(&mut bad, |child| child.stdout.take()).err().unwrap();
        assert!(error.to_string().ends_with("does not listen: in use"), "{error}");
    }

    #[test]
    fn conditions_name_the_machine() {
        let conditions = conditions();
        assert!(!conditions["kernel"].as_str().unwrap().is_empty());
        assert!(conditions["cpus"].as_u64().unwrap() > 0);
    }
}
