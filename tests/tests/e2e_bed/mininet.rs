//! A Mininet with the project's classes, in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{Lb, binary};
use super::net::{Net, ensure_ovs};
use super::shell::{run, unique};

/// Hosts 1 to 3 at 10.0.0.n, one-armed also the balancer's host; torn down with this.
pub struct Mininet {
    /// Names for the hosts, numbered as in their addresses.
    pub net: Net,
    /// Name of the switch.
    pub switch: String,
    /// Mininet's names of the hosts, the balancer's last.
    pub hosts: Vec<String>,
    /// Ends every name.
    pub tag: String,
    child: Child,
}

impl Mininet {
    /// `placement` is `inline` or `onearm`; the controller is told of the balancer by `lb`'s daemon.
    pub fn start(placement: &str, lb: &Lb) -> Self {
        // Interface names have 15 characters at most, and Mininet makes them longer.
        let tag = format!("{}", std::process::id() * 4 % 1_000_000 + u32::try_from(unique() % 4).unwrap());
        Self::start_as(placement, lb, &tag)
    }

    /// The same with the names of an earlier one, which has ended.
    pub fn start_as(placement: &str, lb: &Lb, tag: &str) -> Self {
        ensure_ovs();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e_bed/network.py");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut child = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(script)
            .args([placement, tag])
            .arg(lb.run_dir().join("lb.sock"))
            .arg(&lb.folder.0)
            .arg(port)
            .env("OFSHIM", binary("ofshim"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3");
        let mut line = String::new();
        let read = BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line);
        if read.is_err() || line.is_empty() {
            let mut told = String::new();
            let _ = child.stderr.as_mut().unwrap().read_to_string(&mut told);
            let _ = child.wait();
            panic!("Mininet did not start; `cargo xtask setup` installs it: {told}");
        }
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let hosts = told["hosts"].as_object().unwrap();
        let sorted = [format!("h1{tag}"), format!("h2{tag}"), format!("h3{tag}"), format!("lb1{tag}")];
        let names: Vec<String> = sorted.into_iter().filter(|name| hosts.contains_key(name)).collect();
        let pids: Vec<u32> =
            names.iter().map(|name| u32::try_from(hosts[name].as_u64().unwrap()).unwrap()).collect();
        let switch = told["switch"].as_str().unwrap().to_owned();
        Self { net: Net::of_processes(&pids), switch, hosts: names, tag: tag.to_owned(), child }
    }

    /// Kills Mininet and its hosts' shells: nobody cleans up. The switch is left, as after a crash.
    pub fn kill(mut self) {
        // The names of the namespaces would keep them.
        self.net.forget();
        let shells = self.hosts.iter().flat_map(|host| {
            let found = run(&format!("pgrep -f mininet:{host}$"));
            String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
        });
        let shells: Vec<String> = shells.collect();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for shell in shells {
            run(&format!("kill -s KILL {shell}"));
        }
    }
}

impl Drop for Mininet {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let end = Instant::now() + Duration::from_secs(15);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
