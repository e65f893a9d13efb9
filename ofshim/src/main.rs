//! The binary `ofshim`; see the library.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use ofshim::cli::{Cli, Command, EXIT_FAILED, EXIT_REFUSED, LogLevel, refusal};
use ofshim::doctor::Level;
use ofshim::io::{backend, client, run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    if let Command::Replay(args) = &cli.command {
        let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
        return match ofshim::replay::lines::run(&args.config, input, output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&format!("{error:#}")),
        };
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("the runtime cannot be started: {error}")),
    };
    let done = runtime.block_on(async {
        match &cli.command {
            Command::Run(args) => {
                start_log(args.log_level);
                run::run(args, &cli.run_dir).await.map(|()| (String::new(), ExitCode::SUCCESS))
            }
            Command::Doctor(args) => client::doctor(args, &cli.run_dir).await.map(|(text, level)| {
                let failed = level == Level::Fail;
                (text, if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
            }),
            Command::Backend(args) => backend::run(args, &cli.run_dir).await.map(|(text, none_left)| {
                (text, if none_left { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
            }),
            read => client::read(read, &cli.run_dir).await.map(|text| (text, ExitCode::SUCCESS)),
        }
    });
    // A connection that is being closed must not hold the end up.
    runtime.shutdown_background();
    match done {
        // Nobody is left to be told when the output is closed.
        Ok((text, code)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            code
        }
        Err(error) => refuse(&format!("{error:#}")),
    }
}

/// The name of the environment variable that goes before `--log-level`.
const LOG_VARIABLE: &str = "OFSHIM_LOG";

fn start_log(level: LogLevel) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level.word()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn refuse_arguments(error: &clap::Error) -> ExitCode {
    match refusal(error) {
        Some(line) => refuse(&line),
        None => {
            // Nobody is left to be told when the output is closed.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_REFUSED))
        }
    }
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("error: {line}");
    ExitCode::from(EXIT_REFUSED)
}
