//! A Mininet of several switches with ofshim, in a process of its own that obeys commands.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{Lb, binary};
use super::net::{Net, ensure_ovs};
use super::shell::{Folder, unique};

/// A running network; torn down with this.
pub struct Fabric {
    /// Where its files are; the controller's log is `ofshim.log`.
    pub folder: Folder,
    /// Mininet's names of the hosts.
    pub hosts: Vec<String>,
    /// The switches' ports that they are at.
    pub ports: Vec<String>,
    /// The hosts by number, to run things on.
    pub net: Net,
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Fabric {
    /// `topology` as `topology.py` has it, `openflow` is `1.0` or `1.3`.
    pub fn start(topology: &str, openflow: &str, options: &[&str]) -> Self {
        Self::start_with(topology, openflow, options, None)
    }

    /// The same; the controller asks this balancer's daemon.
    pub fn start_with(topology: &str, openflow: &str, options: &[&str], lb: Option<&Lb>) -> Self {
        ensure_ovs();
        let folder = Folder::new();
        let tag = format!("z{}", std::process::id() * 8 % 10_000 + u32::try_from(unique() % 8).unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e_bed/topology.py");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut child = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(script)
            .args([topology, openflow, &tag, &port])
            .arg(&folder.0)
            .args(options)
            .env("OFSHIM", binary("ofshim"))
            .envs(lb.map(|lb| ("LB_SOCKET", lb.run_dir().join("lb.sock"))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3");
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        if answers.read_line(&mut line).is_err() || line.is_empty() {
            let mut told = String::new();
            let _ = child.stderr.as_mut().unwrap().read_to_string(&mut told);
            let _ = child.wait();
            panic!("Mininet did not start; `cargo xtask setup` installs it: {told}");
        }
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let list = |key: &str| told[key].as_array().unwrap().clone();
        let texts = |key| list(key).iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let pids: Vec<u32> =
            list("pids").iter().map(|pid| u32::try_from(pid.as_u64().unwrap()).unwrap()).collect();
        let net = Net::of_processes(&pids);
        Self { folder, hosts: texts("hosts"), ports: texts("ports"), net, child, answers }
    }

    /// Runs a command of `topology.py`; its answer.
    pub fn tell(&mut self, command: &str) -> Value {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| {
            let mut told = String::new();
            let _ = self.child.stderr.as_mut().unwrap().read_to_string(&mut told);
            panic!("{command}: {error}: {line}{told}")
        })
    }

    /// The controller's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("ofshim.log")).unwrap_or_default()
    }

    /// What a read command of the controller says with `--json`.
    pub fn read(&self, arguments: &[&str]) -> Value {
        let run_dir: PathBuf = self.folder.0.join("ofshim");
        let done = Command::new(binary("ofshim"))
            .args(arguments)
            .arg("--json")
            .arg("--run-dir")
            .arg(run_dir)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Name of a host's interface, in its namespace.
    pub fn interface(&self, number: u32) -> String {
        format!("{}-eth0", self.hosts[number as usize - 1])
    }

    /// The controller's entries of this purpose on a switch: the byte behind `ofsh` in their cookies.
    pub fn entries_of(&mut self, switch: &str, purpose: u8) -> Vec<String> {
        let dump = self.tell(&format!("ofctl dump-flows {switch}"));
        // What entries learn has a cookie too, further on in the line.
        let cookie = format!("cookie=0x6f667368{purpose:02x}");
        let lines = dump.as_str().unwrap().lines().map(str::trim_start);
        lines.filter(|line| line.starts_with(&cookie)).map(str::to_owned).collect()
    }

    /// Waits until the controller knows so many directed links, and all ports are settled.
    pub fn wait_links(&mut self, links: u64) {
        self.wait_links_alone(links);
        std::thread::sleep(Duration::from_millis(700));
    }

    /// Waits until the controller knows so many directed links.
    pub fn wait_links_alone(&self, links: u64) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.read(&["status"])["links"] != links {
            assert!(Instant::now() < end, "{links} links did not come about: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Pings between hosts, each to every `step`-th of the others: none is lost.
    pub fn assert_pingall(&mut self, step: u32) {
        self.assert_pings(step, 4);
    }

    /// The same in IPv6, between hosts that [`Net::add_ipv6`] gave addresses.
    pub fn assert_pingall_ipv6(&mut self, step: u32) {
        self.assert_pings(step, 6);
    }

    fn assert_pings(&mut self, step: u32, family: u32) {
        let result = self.tell(&format!("pingall {step} {family}"));
        assert_eq!(result["lost"], Value::Array(Vec::new()), "{result}: {}", self.log());
    }

    /// One broadcast of the first host: one copy for every other.
    pub fn assert_one_copy_each(&mut self) {
        let copies = self.tell("copies h1");
        let copies = copies.as_object().unwrap();
        assert_eq!(copies.len(), self.hosts.len() - 1);
        assert!(copies.values().all(|count| *count == 1), "{copies:?}");
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let end = Instant::now() + Duration::from_secs(60);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
