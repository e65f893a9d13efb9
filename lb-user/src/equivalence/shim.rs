//! Flow entries by another process: `ofshim replay`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use lb_core::host::replay::{Reply, Request};

use super::FlowEntries;
use crate::failure::Failure;

/// Its name.
const NAME: &str = "ofshim";

/// The process, which ends with this.
#[derive(Debug)]
pub struct Shim {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shim {
    /// Starts `program`, or the `ofshim` beside this program, or the one that is found in PATH.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: Option<&Path>, config: &Path) -> Result<Self> {
        let program = program.map_or_else(found, Path::to_path_buf);
        let mut command = Command::new(&program);
        command.arg("replay").arg("--config").arg(config);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Failure::wrong(format!(
                "{} cannot be started, and makes the flow entries: {error}; name it with --ofshim",
                program.display()
            ))
        })?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("ofshim has no standard output")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Why it ended, in its own words.
    fn last_words(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // Words that cannot be read are missing in a message about something else.
            stderr.read_to_string(&mut text).ok();
        }
        let line = text.lines().last().unwrap_or("without a word");
        line.trim_start_matches("error: ").to_owned()
    }
}

/// The binary beside this one, if there is one.
fn found() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.join(NAME)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| NAME.into())
}

impl FlowEntries for Shim {
    fn ask(&mut self, request: &Request) -> Result<Reply> {
        let mut line = serde_json::to_string(request).context("a request cannot be written as JSON")?;
        line.push('\n');
        let sent = match &mut self.input {
            Some(input) => input.write_all(line.as_bytes()).and_then(|()| input.flush()),
            None => Ok(()),
        };
        let mut answer = String::new();
        let read = sent.and_then(|()| self.output.read_line(&mut answer));
        if !matches!(read, Ok(length) if length > 0) {
            bail!(Failure::wrong(format!("ofshim replay ended: {}", self.last_words())));
        }
        serde_json::from_str(&answer)
            .context("ofshim answered something else: are lb and ofshim of the same version?")
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // It ends at the end of its input; one that does not is ended.
        self.input = None;
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
