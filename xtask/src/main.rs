//! Build, demonstration and test commands of the project: `cargo xtask <command>`.
//!
//! One file per command under `commands/`; what they share (processes, paths, compiler discovery, the ELF check)
//! stands beside them. Exit status: 0 success, 1 a check or a test failed, 2 the surroundings or the arguments are
//! wrong and one line on standard error says what to do.

mod commands;
mod elf;
mod lint;
mod process;
mod project;
mod toolchain;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Build, demonstration and test commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install all that the project needs
    Setup(commands::setup::Args),
    /// Build the XDP object, plain and with per-packet logging, and the programs that measure it
    BuildEbpf(commands::build_ebpf::Args),
    /// Run every test of the project, and count them in the last line
    Test(commands::test::Args),
    /// Check format, lints, documentation and dependencies, then run the tests
    Ci,
    /// Load the XDP object on Debian's 6.1 kernel in an emulated machine
    TestKernel,
    /// Show the balancer at work in Mininet
    Demo(commands::demo::Args),
    /// Measure what the balancer and its controller cost
    Bench(commands::bench::Args),
    /// Compare every way to balance in Mininet: XDP, OpenFlow, POX's and NOX's
    Compare(commands::compare::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Setup(args) => commands::setup::run(&args),
        Command::BuildEbpf(args) => commands::build_ebpf::run(&args),
        Command::Test(args) => commands::test::run(&args),
        Command::Ci => commands::ci::run(),
        Command::TestKernel => commands::test_kernel::run(),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(process::exit_status_of(&error))
        }
    }
}
