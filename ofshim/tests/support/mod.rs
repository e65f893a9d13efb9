//! The controller's binary as a process of its own, with a run folder of its own.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod ovs;
pub mod switch;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A number for names, different for each call in this process.
pub fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A folder that goes when this does.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ofshim-test-{}-{}", std::process::id(), unique()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the binary to its end.
pub fn ofshim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ofshim")).args(arguments).output().unwrap()
}

/// The one line with which the binary refuses `arguments`.
pub fn refusal(arguments: &[&str]) -> String {
    let done = ofshim(arguments);
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

/// A running controller; it ends with this.
pub struct Controller {
    child: Child,
    folder: Folder,
    log: Arc<Mutex<Vec<String>>>,
}

impl Controller {
    /// Starts one, on a free port unless the options say otherwise, without a balancer's daemon.
    pub fn start(options: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_ofshim")), options)
    }

    /// Starts one in a network namespace.
    pub fn start_in(namespace: &str, options: &[&str]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_ofshim")]);
        Self::start_by(command, options)
    }

    fn start_by(mut command: Command, options: &[&str]) -> Self {
        let folder = Folder::new();
        let nowhere = folder.0.join("no-daemon.sock").display().to_string();
        command.args(["--run-dir", &folder.0.display().to_string(), "run"]);
        if !options.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !options.contains(&"--lb-socket") {
            command.args(["--lb-socket", &nowhere]);
        }
        let mut child = command.args(options).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let controller = Self { child, folder, log };
        controller.wait_for_log("listening on");
        controller
    }

    /// Starts one that learns, switch by switch, and looks for no links.
    pub fn learning(options: &[&str]) -> Self {
        Self::start(&[&["--forwarding", "learning", "--no-discovery"], options].concat())
    }

    /// The address that it listens on.
    pub fn address(&self) -> String {
        let log = self.log.lock().unwrap();
        let line = log.iter().find(|line| line.contains("listening on")).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    }

    pub fn run_dir(&self) -> String {
        self.folder.0.display().to_string()
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn logged(&self, part: &str) -> usize {
        self.log().iter().filter(|line| line.contains(part)).count()
    }

    /// Waits until a line with `part` is in the log.
    pub fn wait_for_log(&self, part: &str) {
        self.wait(&format!("log line {part:?}"), || self.logged(part) > 0);
    }

    /// Waits until something holds, for ten seconds at most.
    pub fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < end, "{what} did not come about; log: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The memory that it has in use, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What a read command says with `--json`.
    pub fn read(&self, command: &str) -> Value {
        let done = ofshim(&[command, "--json", "--run-dir", &self.run_dir()]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Sends a signal by name and waits for the end; its status code, if it has one.
    pub fn end(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
