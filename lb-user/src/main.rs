//! `lb`: the balancer's daemon and the commands that ask it.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use lb_user::api::Detached;
use lb_user::cli::{self, Cli, Command, Parsed, RunArgs};
use lb_user::client::AskError;
use lb_user::control::cli::{BackendArgs, BackendOrder, ModeArgs, ReloadArgs, UpgradeArgs};
use lb_user::control::{self, Administered};
use lb_user::equivalence::command::{CompareArgs, CompareCommand};
use lb_user::failure::{AT_WORK, Failure, WRONG_INPUT};
use lb_user::io::doctor;
use lb_user::{client, daemon, diagnose, equivalence, explain, logging, render, top, watch};
use serde::Serialize;

fn main() -> ExitCode {
    let ended = cli::parse(std::env::args_os()).and_then(|parsed| match parsed {
        Parsed::Text(text) => print(&text).map(|()| ExitCode::SUCCESS),
        Parsed::Command(cli) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("cannot start")?.block_on(carry_out(*cli))
        }
    });
    ended.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::from(failure.status)
    })
}

async fn carry_out(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { run_dir, pin_dir, json, command } = cli;
    match command {
        Command::Run(arguments) => run(&arguments, &run_dir, &pin_dir).await?,
        Command::Status => show(json, &client::status(&run_dir).await?, render::status)?,
        Command::Backend(BackendArgs { order: Some(order) }) => {
            return order_backend(&run_dir, json, &order).await;
        }
        Command::Backend(BackendArgs { order: None }) => {
            let status = client::status(&run_dir).await?;
            show(json, &status.vips, |_| render::backends(&status))?;
        }
        Command::Upgrade(UpgradeArgs { object, verify, window }) => {
            let object = lb_user::object::bytes(object.as_deref(), false)
                .map_err(|error| Failure::from(error).with_status(WRONG_INPUT))?;
            let upgraded = control::client::upgrade(&run_dir, object, verify.then_some(window)).await?;
            show(json, &upgraded, control::render::upgraded)?;
            if upgraded.rolled_back.is_some() {
                return Ok(ExitCode::from(AT_WORK));
            }
        }
        Command::Mode(ModeArgs { to: Some(to) }) => {
            show(json, &control::client::change_mode(&run_dir, to).await?, control::render::moved)?;
        }
        Command::Mode(ModeArgs { to: None }) => {
            let balancer = client::status(&run_dir).await?.balancer;
            show(json, &balancer, |balancer| format!("{balancer}\n"))?;
        }
        Command::Reload(ReloadArgs { check }) => {
            show(json, &control::client::reload(&run_dir, check).await?, control::render::reloaded)?;
        }
        Command::Conn(filter) => {
            let answer = client::connections(&run_dir, &filter.fields()?).await?;
            show(json, &answer, render::connections)?;
        }
        Command::Stats(arguments) => {
            let stats = client::stats(&run_dir).await?;
            show(json, &stats, |stats| render::stats(stats, arguments.reasons_all))?;
        }
        Command::Explain(arguments) => {
            let explanation = explain::run(&run_dir, &pin_dir, &arguments).await?;
            show(json, &explanation, render::explain::explanation)?;
        }
        Command::Compare(CompareArgs { what: CompareCommand::Equivalence(arguments) }) => {
            let report = equivalence::command::run(&arguments)?;
            show(json, &report, equivalence::render::report)?;
            if !report.is_equal() {
                return Ok(ExitCode::from(AT_WORK));
            }
        }
        Command::Events(arguments) => watch::events::run(&run_dir, &pin_dir, &arguments, json).await?,
        Command::Capture(arguments) => {
            let captured = watch::capture::run(&run_dir, &pin_dir, &arguments).await?;
            // Standard output may be the file.
            let text = if json {
                serde_json::to_string(&captured).context("cannot print JSON")?
            } else {
                render::captured(&captured)
            };
            eprintln!("{text}");
        }
        Command::Top(arguments) => top::run(&run_dir, &arguments, json).await?,
        Command::Doctor(arguments) => {
            let report = diagnose::report(&run_dir, &pin_dir, &arguments).await;
            show(json, &report, render::report)?;
            if report.status == doctor::Status::Fail {
                return Ok(ExitCode::from(AT_WORK));
            }
        }
        Command::Detach => {
            let detached = detach(&run_dir, &pin_dir).await?;
            show(json, &detached, render::detached)?;
            if !detached.failures.is_empty() {
                return Ok(ExitCode::from(AT_WORK));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What keeps the daemon from starting is wrong input or the machine's state; what comes later is its own failure.
async fn run(arguments: &RunArgs, run_dir: &Path, pin_dir: &Path) -> Result<(), Failure> {
    let options = arguments.options(run_dir.to_path_buf(), pin_dir.to_path_buf())?;
    logging::start(arguments.log_level)?;
    let ready =
        daemon::start(options).await.map_err(|error| Failure::from(error).with_status(WRONG_INPUT))?;
    Ok(ready.run().await?)
}

/// Gives an order about backends, and waits for its end if asked to.
async fn order_backend(run_dir: &Path, json: bool, order: &BackendOrder) -> Result<ExitCode, Failure> {
    let (backend, vip, what) = order.parts();
    let mut ordered = control::client::backend(run_dir, backend, vip, &what).await?;
    if !order.waits() {
        show(json, &ordered, control::render::ordered)?;
        return Ok(ExitCode::SUCCESS);
    }
    let progress = |backend: &Administered| {
        if json { Ok(()) } else { print(&format!("{}\n", control::render::administered(backend))) }
    };
    let done = control::client::wait_drained(run_dir, &mut ordered.backends, progress).await?;
    if json {
        show(json, &ordered, control::render::ordered)?;
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(AT_WORK) })
}

/// Lets the daemon undo its work, or does it in the place of one that is gone.
async fn detach(run_dir: &Path, pin_dir: &Path) -> Result<Detached, Failure> {
    match client::detach(run_dir).await {
        Ok(detached) => Ok(detached),
        Err(AskError::Failed(failure)) => Err(failure),
        Err(AskError::NoDaemon(_)) => daemon::detach_offline(run_dir, pin_dir)
            .map_err(|error| Failure::from(error).with_status(WRONG_INPUT)),
    }
}

/// Prints `value` as JSON or as text.
fn show<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    if json {
        let document = serde_json::to_string_pretty(value).context("cannot print JSON")?;
        print(&format!("{document}\n"))
    } else {
        print(&text(value))
    }
}

/// Prints to standard output; a reader that has seen enough is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::at_work(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
