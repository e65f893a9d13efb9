//! Calling other programs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Wrong surroundings or arguments: ends the program with status 2 where any other error gives 1.
#[derive(Debug)]
pub struct Unusable(pub String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// An error that ends the program with status 2.
pub fn unusable(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Unusable(message.into()))
}

/// The exit status that `error` asks for.
pub fn exit_status_of(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Unusable>()) { 2 } else { 1 }
}

/// The command as a person would type it, for messages.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Runs with inherited standard input and error; an error names the command when it cannot start or fails. What the
/// program prints goes to standard error, since standard output belongs to this program's own result.
pub fn run(command: &mut Command) -> Result<()> {
    command.stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs with no standard input and returns standard output; an error carries standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`capture`], for programs that tell their progress on standard error: that goes on to this program's.
pub fn capture_result(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`run`], with no input, and kills the program after `limit`.
pub fn run_bounded(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("`{}` failed ({status})", shown(command));
            }
            return Ok(());
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            bail!("`{}` was stopped after {} s", shown(command), limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The absolute path of a program in `PATH`, in Cargo's `bin` folder or in the system's administration folders (which
/// a normal user's `PATH` may lack).
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fallbacks = [cargo_bin(), Some("/usr/sbin".into()), Some("/sbin".into()), Some("/usr/bin".into())];
    std::env::split_paths(&path)
        .chain(fallbacks.into_iter().flatten())
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

/// Where `cargo install` puts programs.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .map(|home| home.join("bin"))
}

/// Whether this process may do everything, by its effective user.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1))
        == Some("0")
}

/// Whether `file` exists and may be executed by somebody.
pub fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_program_is_stopped() {
        let start = Instant::now();
        let error = run_bounded(Command::new("sleep").arg("30"), Duration::from_millis(100)).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().contains("`sleep 30` was stopped"), "{error}");
    }

    #[test]
    fn statuses_follow_the_kind_of_error() {
        assert_eq!(exit_status_of(&anyhow::anyhow!("plain")), 1);
        assert_eq!(exit_status_of(&unusable("no compiler").context("build")), 2);
    }

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("apt-get");
        command.args(["install", "-y", "a b", ""]);
        assert_eq!(shown(&command), "apt-get install -y 'a b' ''");
    }
}
