//! The binaries under test, as processes with folders of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::net::{Net, address};
use super::shell::{Folder, run, unique, wait};

/// A built binary: the one that the variable names, else the workspace's.
pub fn binary(name: &str) -> PathBuf {
    let variable = format!("{}_BIN", name.to_uppercase());
    if let Some(path) = std::env::var_os(&variable) {
        return path.into();
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let built = ["debug", "release"].map(|profile| target.join(profile).join(name));
    let found = built.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("{name} is not built: `cargo xtask test` builds it, or name it in {variable}")
    })
}

/// A process whose log is read along.
struct Logged {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Logged {
    fn start(command: &mut Command) -> Self {
        let command =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).env("NO_COLOR", "1");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { name: command.get_program().display().to_string(), child, log }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn wait_for_log(&mut self, part: &str) {
        let (log, child) = (Arc::clone(&self.log), &mut self.child);
        let holds = || {
            let there = log.lock().unwrap().iter().any(|line| line.contains(part));
            assert!(there || child.try_wait().unwrap().is_none(), "it ended: {:#?}", log.lock().unwrap());
            there
        };
        // The verifier alone takes seconds, and a busy machine makes many of them.
        wait(&format!("log line {part:?}"), 60, holds, || format!("log: {:#?}", log.lock().unwrap()));
    }

    /// Sends a signal and waits for the end; the status, if it was not the signal that ended it.
    fn end(mut self, signal: &str) -> Option<i32> {
        run(&format!("kill -s {signal} {}", self.child.id()));
        self.child.wait().unwrap().code()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}'s log: {:#?}", self.name, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `lb` with its own run and pin folders. Detached, and the folders gone, with this.
pub struct Lb {
    pub folder: Folder,
    pub pin_dir: PathBuf,
    daemon: Option<Logged>,
}

impl Lb {
    /// Not started yet.
    pub fn new() -> Self {
        let pin_dir = format!("/sys/fs/bpf/e2e-{}-{}", std::process::id(), unique());
        Self { folder: Folder::new(), pin_dir: pin_dir.into(), daemon: None }
    }

    /// Started on all ports of `net` with these VIPs in TOML, and all `backends` up.
    pub fn with(net: &Net, vips: &str, backends: &[u32]) -> Self {
        let mut lb = Self::new();
        lb.configure(&net.ports(), vips);
        lb.start();
        lb.wait_up(backends);
        lb
    }

    /// Writes the configuration.
    pub fn configure(&self, ports: &[String], rest: &str) {
        self.folder.file("lb.toml", &format!("[placement]\nattach = {ports:?}\n\n{rest}"));
    }

    pub fn run_dir(&self) -> PathBuf {
        self.folder.0.join("run")
    }

    /// A command with these folders.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("lb"));
        command.arg("--run-dir").arg(self.run_dir()).arg("--pin-dir").arg(&self.pin_dir).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the daemon on the configuration and waits until it is ready.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// As [`Self::start`], with more arguments.
    pub fn start_with(&mut self, arguments: &[&str]) {
        let file = self.folder.0.join("lb.toml").display().to_string();
        let mut command = self.command(&["run", "--config", &file]);
        let mut daemon = Logged::start(command.args(arguments));
        daemon.wait_for_log(" ready: ");
        self.daemon = Some(daemon);
    }

    /// Whether a daemon was started and not ended by us.
    pub fn log(&self) -> Vec<String> {
        self.daemon.as_ref().map(Logged::log).unwrap_or_default()
    }

    /// Waits for a line of the log.
    pub fn wait_for_log(&mut self, part: &str) {
        self.daemon.as_mut().expect("a daemon").wait_for_log(part);
    }

    /// Ends the daemon by a signal.
    pub fn end(&mut self, signal: &str) -> Option<i32> {
        self.daemon.take().expect("a daemon").end(signal)
    }

    /// What a read command says with `--json`.
    pub fn read(&self, command: &str) -> Value {
        let done = self.ask(&[command, "--json"]);
        assert!(
            done.status.success(),
            "lb {command}: {}\n{:#?}",
            String::from_utf8_lossy(&done.stderr),
            self.log()
        );
        serde_json::from_slice(&done.stdout).unwrap()
    }

    pub fn status(&self) -> Value {
        self.read("status")
    }

    /// The counter of a reason.
    pub fn reason(&self, name: &str) -> u64 {
        let stats = self.read("stats");
        stats["reasons"][name].as_u64().unwrap_or_else(|| panic!("no reason {name}: {stats:#}"))
    }

    /// States of host `number` as a backend, one for each VIP.
    pub fn states(&self, number: u32) -> Vec<String> {
        let status = self.status();
        let vips = status["vips"].as_array().unwrap().iter();
        let backends = vips.flat_map(|vip| vip["backends"].as_array().unwrap());
        let here = backends.filter(|backend| backend["address"] == address(number).as_str());
        here.map(|backend| backend["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a backend is in this state in all its VIPs.
    pub fn wait_state(&self, number: u32, state: &str) {
        let holds = || {
            let states = self.states(number);
            !states.is_empty() && states.iter().all(|one| one == state)
        };
        wait(&format!("{} {state}", address(number)), 10, holds, || {
            format!("{:#}\n{:#?}", self.status()["vips"], self.log())
        });
    }

    pub fn wait_up(&self, backends: &[u32]) {
        for number in backends {
            self.wait_state(*number, "up");
        }
    }

    /// Asserts that every packet that came in ended in one way. Packets come in while the counters are read, probes'
    /// answers at least: a fault is a difference that lasts.
    pub fn assert_ledger(&self) {
        let even = || self.read("stats")["ledger_difference"] == 0;
        wait("the ledger is even", 5, even, || format!("{:#}", self.read("stats")));
        let stats = self.read("stats");
        assert!(stats["ledger"]["received"].as_u64().unwrap() > 0, "{stats:#}");
    }

    /// `lb detach`, which has to succeed.
    pub fn detach(&mut self) -> Value {
        let done = self.ask(&["detach", "--json"]);
        assert!(done.status.success(), "lb detach: {}", String::from_utf8_lossy(&done.stderr));
        if let Some(mut daemon) = self.daemon.take() {
            wait("the daemon ends", 5, || daemon.child.try_wait().unwrap().is_some(), String::new);
        }
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Asserts that nothing of it is left: no program, no pin, no socket.
    pub fn assert_gone(&self, net: &Net) {
        assert_eq!(net.programs(), Vec::<String>::new());
        assert!(!self.pin_dir.exists(), "{} is still there", self.pin_dir.display());
        assert!(!self.run_dir().join("lb.sock").exists(), "the socket is still there");
        assert!(!self.run_dir().join("changes.json").exists(), "the record is still there");
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        drop(self.daemon.take());
        if self.pin_dir.exists() || self.run_dir().exists() {
            let _ = self.ask(&["detach"]);
            let _ = std::fs::remove_dir_all(&self.pin_dir);
        }
    }
}

/// The one line with which a command is refused, after checking that it is one, with exit status 2.
pub fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("error: "), "{text}");
    text.trim_end().to_owned()
}

/// A controller with its own run folder, told of the balancer by its daemon.
pub struct Ofshim {
    folder: Folder,
    process: Logged,
}

impl Ofshim {
    /// Listens on a free port; the bridges of `net` are connected, and ready.
    pub fn start(net: &Net, lb: &Lb, bridges: usize) -> Self {
        Self::start_in(Folder::new(), net, lb, bridges, &[])
    }

    /// The same in a folder that is known before, with more arguments.
    pub fn start_in(folder: Folder, net: &Net, lb: &Lb, bridges: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary("ofshim"));
        command.arg("--run-dir").arg(&folder.0).args(["run", "--listen", "127.0.0.1:0", "--lb-socket"]);
        command.arg(lb.run_dir().join("lb.sock")).args(arguments);
        let mut process = Logged::start(&mut command);
        process.wait_for_log("listening on");
        let log = process.log();
        let line = log.iter().find(|line| line.contains("listening on")).unwrap();
        net.connect(line.rsplit(' ').next().unwrap());
        let ready =
            || process.log().iter().filter(|line| line.contains("is ready: OpenFlow")).count() >= bridges;
        wait("the switches are ready", 15, ready, || format!("{:#?}", process.log()));
        Self { folder, process }
    }

    /// Its run folder.
    pub fn dir(&self) -> String {
        self.folder.0.display().to_string()
    }

    /// What a read command prints.
    pub fn read(&self, command: &str) -> String {
        let mut asked = Command::new(binary("ofshim"));
        let done = asked.arg("--run-dir").arg(&self.folder.0).arg(command).output().unwrap();
        assert!(done.status.success(), "ofshim {command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Waits for a line of the log.
    pub fn wait_for_log(&mut self, part: &str) {
        self.process.wait_for_log(part);
    }

    /// Ends it by a signal; its folder, for the next one.
    pub fn end(self, signal: &str) -> Folder {
        let Self { folder, process } = self;
        process.end(signal);
        folder
    }

    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }
}
