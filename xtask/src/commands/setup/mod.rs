//! `cargo xtask setup`: finds or installs what the project needs on Debian and Ubuntu.

mod found;
mod install;
mod plan;

use std::io::{IsTerminal, Write};

use anyhow::Result;

pub use found::Scope;

use crate::process;
use found::{Found, Need};
use plan::{Machine, Plan};

/// Arguments of the command.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// Change the machine without asking (as with the environment variable CI=true)
    #[arg(long)]
    yes: bool,
    /// Only say what is missing; status 1 if anything is
    #[arg(long, conflicts_with = "yes")]
    check: bool,
}

/// Runs the command by itself.
pub fn run(args: &Args) -> Result<u8> {
    if args.check {
        return Ok(report_only());
    }
    if ensure(Scope::All, args.yes)? {
        eprintln!("setup: done");
    } else {
        eprintln!("setup: everything is there");
    }
    Ok(0)
}

/// Makes sure that everything of `scope` is there. Silent and quick when it is; else says what it will do, asks, and
/// does it. Says whether anything was done. An error means that something required is still missing.
pub fn ensure(scope: Scope, yes: bool) -> Result<bool> {
    let needs = Found::probe().missing(scope);
    if needs.is_empty() {
        return Ok(false);
    }
    let machine = Machine::look(needs.contains(&Need::Linker));
    let plan = plan::plan(&needs, &machine);
    tell(&plan, &machine);
    if !plan.changes_nothing() {
        match ask(yes) {
            Ok(()) => install::carry_out(&plan, &machine),
            Err(refusal) if needs.iter().any(|need| need.is_required()) => return Err(refusal),
            Err(_) => {}
        }
    }
    let left = Found::probe().missing(scope);
    for need in left.iter().filter(|need| !need.is_required()) {
        eprintln!("setup: going on without {}: to get it, {}", need.name(), need.mend(&machine));
    }
    let required: Vec<&Need> = left.iter().filter(|need| need.is_required()).collect();
    if required.is_empty() {
        return Ok(true);
    }
    let lines =
        required.iter().map(|need| format!("missing: {}: to get it, {}", need.name(), need.mend(&machine)));
    Err(process::unusable(lines.collect::<Vec<_>>().join("\n       ")))
}

fn report_only() -> u8 {
    let needs = Found::probe().missing(Scope::All);
    let machine = Machine::look(false);
    for need in &needs {
        println!("missing: {}: to get it, {}", need.name(), need.mend(&machine));
    }
    if needs.is_empty() {
        println!("everything is there");
    }
    u8::from(!needs.is_empty())
}

fn tell(plan: &Plan, machine: &Machine) {
    for line in plan.lines() {
        eprintln!("setup will {line}");
    }
    for need in &plan.beyond {
        eprintln!("setup cannot install {}: {}", need.name(), need.mend(machine));
    }
}

/// A person's consent to changing their machine.
fn ask(yes: bool) -> Result<()> {
    if yes || is_unattended() {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(process::unusable(
            "setup has to change this machine and nobody can be asked: run `cargo xtask setup --yes`",
        ));
    }
    eprint!("Go ahead? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(process::unusable("nothing was changed"))
}

/// Whether this is a machine that exists to test, by the environment variable `CI`.
fn is_unattended() -> bool {
    says_yes(std::env::var("CI").ok().as_deref())
}

/// Whether the value of `CI` marks an unattended run.
fn says_yes(ci: Option<&str>) -> bool {
    ci.is_some_and(|value| !["", "0", "false"].contains(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unattended_runs_are_recognized() {
        assert!(says_yes(Some("true")) && says_yes(Some("1")));
        assert!(!says_yes(Some("false")) && !says_yes(Some("")) && !says_yes(None));
    }
}
