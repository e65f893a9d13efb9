//! `cargo xtask demo`: builds the release and hands over to the demonstration in Mininet.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use super::build_ebpf;
use super::setup::{self, Scope};
use crate::process;
use crate::project::Project;

/// Arguments of the command, handed on to the demonstration as they are.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print the result as one JSON object on standard output; progress goes to standard error
    #[arg(long)]
    json: bool,
    /// Leave Mininet's prompt open at the end
    #[arg(long)]
    keep: bool,
    /// Version that the controller and the switch speak
    #[arg(long, value_name = "VERSION", value_parser = ["1.0", "1.3"], default_value = "1.3")]
    openflow: String,
    /// Where the balancer runs: on the switch's ports, or on the NIC of a host of its own
    #[arg(long, value_parser = ["inline", "onearm"], default_value = "inline")]
    placement: String,
    /// How many requests the clients send
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    requests: u32,
}

/// Builds, then becomes the demonstration: signals and exit status are its own.
pub fn run(args: &Args) -> Result<u8> {
    setup::ensure(Scope::All, false)?;
    let project = Project::locate()?;
    for line in build_ebpf::build(&project, true)? {
        eprintln!("{line}");
    }
    let mut build = project.cargo();
    build
        .args(["build", "--release", "-p", "lb-user", "-p", "ofshim"])
        .env("LB_EBPF_OBJECT", project.object());
    process::run(&mut build)?;
    let mut command = command(args, &project, process::is_root());
    let failure = command.exec();
    Err(failure).with_context(|| format!("cannot start `{}`", process::shown(&command)))
}

fn command(args: &Args, project: &Project, root: bool) -> Command {
    let mut command = Command::new(if root { "/usr/bin/python3" } else { "sudo" });
    if !root {
        command.args(["-E", "/usr/bin/python3"]);
    }
    let release = project.target.join("release");
    command.arg("-B").arg(project.root.join("mininet").join("demo.py"));
    command.arg("--lb").arg(release.join("lb")).arg("--ofshim").arg(release.join("ofshim"));
    command.args(["--openflow", &args.openflow, "--placement", &args.placement]);
    command.args(["--requests", &args.requests.to_string()]);
    command.args(args.json.then_some("--json")).args(args.keep.then_some("--keep"));
    // Cargo points this at the compiler's own libraries.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_handed_on_and_a_user_goes_through_sudo() {
        let project = Project { root: "/p".into(), target: "/t".into() };
        let args = Args {
            json: true,
            keep: false,
            openflow: "1.0".into(),
            placement: "onearm".into(),
            requests: 40,
        };
        let words = "/usr/bin/python3 -B /p/mininet/demo.py --lb /t/release/lb --ofshim /t/release/ofshim \
                     --openflow 1.0 --placement onearm --requests 40 --json";
        assert_eq!(process::shown(&command(&args, &project, true)), words);
        assert_eq!(process::shown(&command(&args, &project, false)), format!("sudo -E {words}"));
    }
}
