//! The daemon's log: one line an event on standard error, the message as it is.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// The environment variable that goes before `--log-level`.
const VARIABLE: &str = "LB_LOG";

/// Starts logging, once in a process.
///
/// # Errors
/// `LB_LOG` is not a filter.
pub fn start(level: LevelFilter) -> Result<(), Failure> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            Failure::wrong(format!("{VARIABLE}={text}: {error}; give a level, as in {VARIABLE}=debug"))
        })?,
        _ => EnvFilter::default().add_directive(level.into()),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .compact()
        .try_init()
        .map_err(|error| Failure::at_work(format!("cannot log: {error}")))?;
    // The program's packet log and some libraries log through `log`.
    log::set_logger(&Bridge).map_err(|error| Failure::at_work(format!("cannot log: {error}")))?;
    log::set_max_level(log::LevelFilter::Debug);
    Ok(())
}

/// Hands what is logged through `log` to `tracing`.
struct Bridge;

impl log::Log for Bridge {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        match record.level() {
            log::Level::Error => tracing::error!("{}", record.args()),
            log::Level::Warn => tracing::warn!("{}", record.args()),
            log::Level::Info => tracing::info!("{}", record.args()),
            log::Level::Debug => tracing::debug!("{}", record.args()),
            log::Level::Trace => tracing::trace!("{}", record.args()),
        }
    }

    fn flush(&self) {}
}
