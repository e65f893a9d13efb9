//! The read commands: they ask the running controller.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use super::http::{self, HttpError};
use super::openapi;
use super::ovs;
use super::socket::SOCKET_NAME;
use crate::cli::{Command, DoctorArgs, ExplainArgs, Protocol};
use crate::core::view::Status;
use crate::doctor::{self, Facts, Level, Report, Running, Trouble};
use crate::print;

/// How long the controller may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Runs a read command and gives back what to print.
///
/// # Errors
/// No controller runs with this run folder, or it does not answer. One line.
pub async fn read(command: &Command, run_dir: &Path) -> anyhow::Result<String> {
    match command {
        Command::Status(args) => ask(run_dir, "/v1/status", args.json, print::status).await,
        Command::Topology(args) => ask(run_dir, "/v1/topology", args.json, print::topology).await,
        Command::Hosts(args) => ask(run_dir, "/v1/hosts", args.json, print::hosts).await,
        Command::Flows(args) => ask(run_dir, "/v1/flows", args.json, print::flows).await,
        Command::Route(args) => {
            let target = format!("/v1/route?from={}&to={}&k={}", args.from, args.to, args.k);
            ask(run_dir, &target, args.json, print::route).await
        }
        Command::Explain(args) => ask(run_dir, &explain_target(args), args.json, print::explain).await,
        Command::Metrics => {
            let body = fetch(run_dir, "/metrics").await?;
            String::from_utf8(body).context("the answer is not text")
        }
        Command::Openapi => Ok(format!("{:#}\n", openapi::document())),
        Command::Run(_) | Command::Backend(_) | Command::Doctor(_) | Command::Replay(_) => {
            bail!("this is no read command")
        }
    }
}

/// Runs `ofshim doctor`: what to print, and the worst finding.
///
/// # Errors
/// A bridge that was named is not there. One line.
pub async fn doctor(args: &DoctorArgs, run_dir: &Path) -> anyhow::Result<(String, Level)> {
    let socket = run_dir.join(SOCKET_NAME);
    let controller = match http::get(&socket, "/v1/status", LIMIT).await {
        Ok(body) => running(&body).map_err(|what| Trouble { what, mend: None }),
        Err(error) => Err(Trouble {
            what: explain(&error, run_dir),
            mend: Some("ofshim run --listen 127.0.0.1:6653".to_owned()),
        }),
    };
    let facts = Facts { controller, ovs: ovs::collect(&args.bridges) };
    if let Ok(found) = &facts.ovs
        && let Some(missing) =
            args.bridges.iter().find(|name| found.bridges.iter().all(|one| one.name != **name))
    {
        bail!("there is no bridge {missing}; 'ovs-vsctl list-br' lists them");
    }
    let report = Report::of(&facts);
    let text =
        if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { doctor::text(&report) };
    Ok((text, report.status))
}

fn running(body: &[u8]) -> Result<Running, String> {
    let status: Status = serde_json::from_slice(body)
        .map_err(|_| "the controller is of another version than this command".to_owned())?;
    let switches = status.switches.into_iter().map(|switch| switch.dpid).collect();
    Ok(Running { listen: status.listen, tls: status.tls, switches })
}

async fn ask<T: DeserializeOwned>(
    run_dir: &Path,
    target: &str,
    json: bool,
    text: fn(&T) -> String,
) -> anyhow::Result<String> {
    show(run_dir, &fetch(run_dir, target).await?, json, text)
}

/// What the controller answered, as text or as it came.
pub(super) fn show<T: DeserializeOwned>(
    run_dir: &Path,
    body: &[u8],
    json: bool,
    text: fn(&T) -> String,
) -> anyhow::Result<String> {
    let socket = run_dir.join(SOCKET_NAME);
    let value: serde_json::Value = serde_json::from_slice(body)
        .with_context(|| format!("{}: the answer is not JSON", socket.display()))?;
    if json {
        return Ok(format!("{value}\n"));
    }
    let value = serde_json::from_value(value).with_context(|| {
        format!("{}: the controller is of another version than this command", socket.display())
    })?;
    Ok(text(&value))
}

/// What the controller answers.
pub(super) async fn fetch(run_dir: &Path, target: &str) -> anyhow::Result<Vec<u8>> {
    answered(http::get(&run_dir.join(SOCKET_NAME), target, LIMIT).await, run_dir)
}

/// The answer, or the line for a controller that cannot be asked.
pub(super) fn answered(answer: Result<Vec<u8>, HttpError>, run_dir: &Path) -> anyhow::Result<Vec<u8>> {
    answer.map_err(|error| anyhow::anyhow!("{}", explain(&error, run_dir)))
}

fn explain_target(args: &ExplainArgs) -> String {
    let protocol = args.protocol.number();
    let mut target = format!("/v1/explain?from={}&to={}&protocol={protocol}", args.from, args.to);
    if args.protocol != Protocol::Icmp {
        target += &format!("&src_port={}&dst_port={}", args.src_port, args.dst_port);
    }
    if let Some(vlan) = args.vlan {
        target += &format!("&vlan={vlan}");
    }
    target
}

/// The line for a controller that cannot be asked.
fn explain(error: &HttpError, run_dir: &Path) -> String {
    if let HttpError::Connect { path, source } = error {
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                return format!(
                    "no controller runs with the run folder {} (nothing listens on {}); start one with 'ofshim run' or \
                     name its folder with --run-dir",
                    run_dir.display(),
                    path.display()
                );
            }
            ErrorKind::PermissionDenied => {
                return format!(
                    "{}: permission denied; run this as the user who runs the controller",
                    path.display()
                );
            }
            _ => {}
        }
    }
    error.to_string()
}
