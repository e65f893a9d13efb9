//! The binary's refusals: one line on standard error, nothing on standard output, exit status 2.

use std::path::PathBuf;
use std::process::{Command, Output};

fn lb(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lb")).args(arguments).env_remove("LB_LOG").output().expect("lb starts")
}

fn refusal(arguments: &[&str]) -> String {
    let output = lb(arguments);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    assert!(text.starts_with("error: "), "{arguments:?}: {text}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    text
}

#[test]
fn wrong_arguments_are_one_line() {
    let one = ["run", "--ip", "10.0.1.1", "--servers", "10.0.0.1,10.0.0.2"];
    let cases: &[(&[&str], &str)] = &[
        (&["--port", "70000"], "70000"),
        (&["--port", "-1"], "-1"),
        (&["--protocol", "sctp"], "sctp"),
        (&["--selection", "fastest"], "fastest"),
        (&["--placement", "sideways"], "sideways"),
        (&["--placement", "onearm"], "host"),
        (&["--health", "nervous"], "nervous"),
        (&["--log-level", "loud"], "loud"),
        (&["--config", "lb.toml"], "--config"),
    ];
    for (more, named) in cases {
        let text = refusal(&[&one, *more].concat());
        assert!(text.contains(named), "{text}");
    }
    assert!(refusal(&["run", "--ip", "10.0.1.1"]).contains("--servers"));
    assert!(refusal(&["run", "--ip", "10.0.0.1", "--servers", "10.0.0.1"]).contains("10.0.0.1"));
    assert!(refusal(&["run", "--ip", "web", "--servers", "10.0.0.1"]).contains("web"));
    assert!(refusal(&["conn", "--client", "h1"]).contains("h1"));
    assert!(refusal(&["stauts"]).contains("stauts"));
    refusal(&[]);
}

#[test]
fn a_wrong_file_is_named_with_its_line() {
    let path: PathBuf = std::env::temp_dir().join(format!("lb-cli-{}.toml", std::process::id()));
    let text = "[[vip]]\naddress = \"10.0.1.1\"\nprot = 80\n[[vip.backend]]\naddress = \"10.0.0.1\"\n";
    std::fs::write(&path, text).expect("written");
    let name = path.to_str().expect("UTF-8");
    let text = refusal(&["run", "--config", name]);
    std::fs::remove_file(&path).expect("removed");
    assert!(text.contains(&format!("{name}:3: ")) && text.contains("prot"), "{text}");
    let text = refusal(&["run", "--config", name]);
    assert!(text.contains(name) && text.contains("cannot be read"), "{text}");
}

#[test]
fn without_a_daemon_each_question_says_so() {
    let run_dir = std::env::temp_dir().join(format!("lb-cli-none-{}", std::process::id()));
    let name = run_dir.to_str().expect("UTF-8");
    for command in ["status", "backend", "backends", "conn", "stats"] {
        let expected = format!(
            "error: no daemon answers on {name}/lb.sock: start one with 'lb run' (or name its directory with --run-dir)\n"
        );
        assert_eq!(refusal(&[command, "--run-dir", name]), expected);
        assert_eq!(refusal(&["--json", "--run-dir", name, command]), expected);
    }
}

#[test]
fn help_and_version_are_answers() {
    let output = lb(&["--help"]);
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && output.stderr.is_empty());
    for name in ["run", "status", "backend", "conn", "stats", "doctor", "detach"] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{name} "))),
            "{name}: {help}"
        );
        let output = lb(&[name, "--help"]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("Example"), "{name}");
    }
    let output = lb(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("lb {}\n", env!("CARGO_PKG_VERSION")));
}
