//! Namespaces and veth pairs for the tests of the rim; all names start with `iox`, and all end with the test.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use lb_user::io::link::Link;
use lb_user::io::netlink::Netlink;
use lb_user::io::netns::NetNs;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Whether the tests here can run. As a normal user they cannot, and say so; as root they must.
pub fn as_root(test: &str) -> bool {
    let root = lb_user::io::sys::is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

/// Runs a program and returns its output; the test fails if it does.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `ip` with the words of `line`.
pub fn ip(line: &str) -> String {
    run("ip", &line.split_whitespace().collect::<Vec<_>>())
}

/// A named namespace with its loopback up.
pub struct Namespace {
    pub name: String,
    pub ns: NetNs,
}

impl Namespace {
    pub fn new() -> Self {
        let name = format!("iox{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        let ns = NetNs::by_name(&name).expect("the namespace just made");
        Self { name, ns }
    }

    /// `ip` inside it.
    pub fn ip(&self, line: &str) -> String {
        ip(&format!("-n {} {line}", self.name))
    }

    /// Any program inside it.
    pub fn run(&self, line: &str) -> String {
        ip(&format!("netns exec {} {line}", self.name))
    }

    /// One of its links.
    pub async fn link(&self, name: &str) -> Link {
        let netlink = Netlink::open(&self.ns).expect("netlink");
        netlink.link_by_name(name).await.expect("links").unwrap_or_else(|| panic!("no link {name}"))
    }

    /// A process in it whose last argument is `word`, alive until it is dropped.
    pub fn process(&self, word: &str) -> Process {
        Process::start(&["ip", "netns", "exec", &self.name, "bash", "-c", "read x", word])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A child process that ends with the test.
pub struct Process(pub Child);

impl Process {
    pub fn start(words: &[&str]) -> Self {
        let child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).spawn();
        Self(child.unwrap_or_else(|e| panic!("{words:?}: {e}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A switch's namespace with a port `sw1`, and a host's with `h-eth0` at 10.77.0.1/24 behind it.
pub struct Bed {
    pub switch: Namespace,
    pub host: Namespace,
}

impl Bed {
    pub fn new() -> Self {
        let bed = Self { switch: Namespace::new(), host: Namespace::new() };
        let host = &bed.host.name;
        bed.switch.ip(&format!("link add sw1 type veth peer name h-eth0 netns {host}"));
        bed.switch.ip("link set sw1 up");
        bed.host.ip("addr add 10.77.0.1/24 dev h-eth0");
        bed.host.ip("link set h-eth0 up");
        bed
    }
}

/// A runtime like the daemon's.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

/// Attaches the smallest XDP program (pass everything) to an interface, natively, by bpf(2) alone. It is
/// detached when the descriptors are dropped.
pub fn attach_pass(ns: &NetNs, ifindex: u32) -> [std::os::fd::OwnedFd; 2] {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_LINK_CREATE: libc::c_long = 28;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const BPF_XDP: u32 = 37;
    const XDP_FLAGS_DRV_MODE: u32 = 4;
    fn bpf(command: libc::c_long, words: &[u32]) -> OwnedFd {
        // SAFETY: the kernel reads the attributes from a live slice of the given length; addresses inside are those
        // of data that the caller keeps alive. The descriptor returned is new.
        unsafe {
            let fd = libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words));
            assert!(fd >= 0, "bpf command {command}: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd as i32)
        }
    }
    let halves = |address: u64| {
        let [a, b, c, d, e, f, g, h] = address.to_ne_bytes();
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
    };
    // r0 = XDP_PASS; exit
    let code: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let [code_low, code_high] = halves(code.as_ptr() as u64);
    let [license_low, license_high] = halves(c"GPL".as_ptr() as u64);
    let program = bpf(BPF_PROG_LOAD, &[BPF_PROG_TYPE_XDP, 2, code_low, code_high, license_low, license_high]);
    let attributes = [program.as_raw_fd() as u32, ifindex, BPF_XDP, XDP_FLAGS_DRV_MODE];
    let link = lb_user::io::netns::run_in(ns, || bpf(BPF_LINK_CREATE, &attributes)).expect("namespace");
    [program, link]
}
