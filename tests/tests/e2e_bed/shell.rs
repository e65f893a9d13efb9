//! Commands, folders, processes, patience.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Whether the test can run. Without root it is skipped, and says so past the harness's capture.
pub fn root(test: &str) -> bool {
    let root = testbed::is_root();
    if !root {
        let line = format!(
            "\nSKIPPED {test}: it needs root, for namespaces, Open vSwitch and XDP; run it with sudo\n"
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    root
}

/// A number for names, different for each call in this process.
pub fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs a command, words divided by spaces.
pub fn run(command: &str) -> Output {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output();
    output.unwrap_or_else(|error| {
        panic!("{program}: {error}; `cargo xtask setup` installs what the tests call")
    })
}

/// Runs a command that has to succeed; what it printed.
pub fn must(command: &str) -> String {
    let done = run(command);
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Waits until something holds, for `seconds` at most, and says what else was to be known if it does not.
pub fn wait(what: &str, seconds: u64, mut holds: impl FnMut() -> bool, state: impl Fn() -> String) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {seconds} s; {}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder that goes when this does.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("e2e-{}-{}", std::process::id(), unique()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file; its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child that ends with this.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sets a flag when it goes, also when a test fails: threads that run until then end, and the failure is seen.
pub struct StopAtEnd<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
