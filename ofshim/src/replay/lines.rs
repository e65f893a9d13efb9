//! `ofshim replay`: requests as lines of JSON on standard input, answers on standard output, one for each.

use std::io::{BufRead, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use lb_core::host::config::Config;
use lb_core::host::replay::{Change, Replayed, Reply, Request, Station, from_hex, to_hex};
use openflow::PortNo;

use super::Replay;

/// A frame shorter than an Ethernet header is none.
const SHORTEST: usize = 14;

/// Answers requests.
#[derive(Debug)]
pub struct Session {
    config: Config,
    /// Once there are hosts: the replay, and what time it is there when the first frame comes.
    begun: Option<(Replay, Duration)>,
}

impl Session {
    /// A session without a network yet.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, begun: None }
    }

    /// The replay, once there are hosts.
    #[must_use]
    pub fn replay(&self) -> Option<&Replay> {
        self.begun.as_ref().map(|(replay, _)| replay)
    }

    /// Answers a request.
    pub fn ask(&mut self, request: &Request) -> Reply {
        let answer = match request {
            Request::Hosts(hosts) => self.begin(hosts),
            Request::Frame { at_ns, port, frame } => self.frame(*at_ns, *port, frame),
            Request::Change { backend, change } => self.change(*backend, *change),
        };
        answer.unwrap_or_else(Reply::Refused)
    }

    fn begin(&mut self, hosts: &[Station]) -> Result<Reply, String> {
        let replay = Replay::new(&self.config, hosts.to_vec())?;
        let sources = replay.sources()?;
        let now = replay.now();
        self.begun = Some((replay, now));
        Ok(Reply::Tables(Box::new(sources)))
    }

    fn begun(&mut self) -> Result<&mut (Replay, Duration), String> {
        self.begun.as_mut().ok_or_else(|| "there is no network yet: name the hosts first".to_owned())
    }

    fn frame(&mut self, at_ns: u64, port: u32, frame: &str) -> Result<Reply, String> {
        let (replay, begin) = self.begun()?;
        let frame = from_hex(frame).filter(|frame| frame.len() >= SHORTEST);
        let frame = frame.ok_or("the frame is not the hexadecimal digits of 14 bytes or more")?;
        replay.pass(*begin + Duration::from_nanos(at_ns))?;
        let super::Outcome { asked, out, inputs } = replay.frame(PortNo(port), &frame)?;
        let out = out.into_iter().map(|(port, bytes)| (port.0, to_hex(&bytes))).collect();
        Ok(Reply::Frame(Replayed { asked, out, inputs }))
    }

    /// The time that this takes is no time of the frames'.
    fn change(&mut self, backend: IpAddr, change: Change) -> Result<Reply, String> {
        let (replay, begin) = self.begun()?;
        let before = replay.now();
        replay.change(backend, change)?;
        *begin += replay.now().saturating_sub(before);
        Ok(Reply::Tables(Box::new(replay.sources()?)))
    }
}

/// Answers the lines of `input` until its end.
///
/// # Errors
/// The file cannot be read or is refused, or an end of the conversation is closed.
pub fn run(config: &Path, input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(config)
        .with_context(|| format!("--config {}: cannot be read", config.display()))?;
    let mut session = Session::new(Config::from_toml(&text, &config.display().to_string())?);
    for line in input.lines() {
        let line = line.context("standard input cannot be read")?;
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(request) => session.ask(&request),
            Err(error) => Reply::Refused(format!("not a request: {error}")),
        };
        let mut text = serde_json::to_string(&reply).context("an answer cannot be written as JSON")?;
        text.push('\n');
        output
            .write_all(text.as_bytes())
            .and_then(|()| output.flush())
            .context("standard output is closed")?;
    }
    Ok(())
}
