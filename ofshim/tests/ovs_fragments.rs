//! Fragments through Open vSwitch: datagrams longer than the links carry, to VIPs and straight to backends, while their
//! flows have entries.

mod support;

use std::process::{Child, Command, Stdio};

use support::ovs::{Bridge, root, run};
use support::{Controller, Folder};

/// Cookies of balanced connections.
const BALANCE: &str = "0x6f66736808";
const VIP: &str = "10.77.0.100";
const VIP6: &str = "2001:db8:77::100";

/// Sends back what it gets, its name ahead, at port 8080 in both families.
const SERVER: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', 8080))
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(sys.argv[1].encode() + data, peer)
";

/// Sends datagrams from one socket, short and long ones, and prints who sent them back; each comes back as it was.
const CLIENT: &str = "
import os, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((address, port))
names = set()
for size in [100, 3000, 3000, 100, 9000, 3000, 100]:
    data = os.urandom(size)
    s.send(data)
    answer = s.recv(65535)
    assert answer[2:] == data, (size, len(answer))
    names.add(answer[:2].decode())
# Together: the switch may let parts of one overtake another's.
together = [os.urandom(3000) for _ in range(10)]
for data in together:
    s.send(data)
assert {s.recv(65535)[2:] for _ in together} == set(together)
print(' '.join(names))
";

/// Backends h1 and h2 with servers, client h3.
struct Bed {
    servers: Vec<Child>,
    controller: Controller,
    bridge: Bridge,
    _folder: Folder,
}

fn config(v6: bool) -> String {
    let vip = |address: &str, backends: &str| {
        let backend = |number| format!("[[vip.backend]]\naddress = \"{backends}{number}\"\nport = 8080\n");
        format!(
            "[[vip]]\naddress = \"{address}\"\nport = 80\nprotocol = \"udp\"\nselection = \"round-robin\"\n{}{}",
            backend(1),
            backend(2)
        )
    };
    vip(VIP, "10.77.0.") + &if v6 { vip(VIP6, "2001:db8:77::") } else { String::new() }
}

impl Bed {
    fn new(openflow: &str) -> Self {
        let bridge = Bridge::new(openflow, 3);
        let v6 = openflow == "1.3";
        let mut servers = Vec::new();
        for host in 1..=3 {
            // Without checksums from the device: the switch's datapath in user space would send them unfinished.
            bridge.on(host, "ethtool -K eth0 tx off");
            if v6 {
                bridge.on(host, "sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=0");
                bridge.on(host, &format!("ip address add 2001:db8:77::{host}/64 dev eth0 nodad"));
            }
        }
        for host in [1, 2] {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &bridge.namespace(host), "python3", "-c", SERVER]);
            servers.push(command.arg(format!("h{host}")).stderr(Stdio::null()).spawn().unwrap());
        }
        let folder = Folder::new();
        let file = folder.file("lb.toml", &config(v6));
        let controller = Controller::start(&["--lb", "openflow", "--config", &file]);
        let bed = Self { servers, controller, bridge, _folder: folder };
        bed.bridge.connect(&bed.controller.address());
        for host in [1, 2] {
            bed.controller.wait_for_log(&format!("backend 10.77.0.{host} up"));
            if v6 {
                bed.controller.wait_for_log(&format!("backend 2001:db8:77::{host} up"));
            }
            let serves = format!("ip netns exec {} ss -Hlun sport = 8080", bed.bridge.namespace(host));
            bed.controller.wait("a server", || !run(&serves).stdout.is_empty());
        }
        bed
    }

    /// Who sends datagrams back.
    fn ask(&self, address: &str, port: u16) -> String {
        let ns = self.bridge.namespace(3);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &ns, "python3", "-c", CLIENT, address, &port.to_string()]);
        let done = command.output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{address}: {told}; log: {:#?}", self.controller.log());
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

#[test]
fn long_datagrams_pass_both_ways_beside_the_entries_of_their_flow() {
    if !root("long_datagrams_pass_both_ways_beside_the_entries_of_their_flow") {
        return;
    }
    for openflow in ["1.0", "1.3"] {
        let bed = Bed::new(openflow);
        let families: &[_] = if openflow == "1.3" {
            &[(VIP, "10.77.0."), (VIP6, "2001:db8:77::")]
        } else {
            &[(VIP, "10.77.0.")]
        };
        for (vip, backends) in families {
            let before = bed.bridge.flows(BALANCE).len();
            let first = bed.ask(vip, 80);
            assert!(
                ["h1", "h2"].contains(&first.as_str()),
                "{openflow}: one backend for one flow: {first:?}"
            );
            assert_eq!(bed.bridge.flows(BALANCE).len(), before + 2, "whole datagrams have entries");
            // What is not balanced passes too, and hides nothing.
            for host in [1, 2] {
                assert_eq!(bed.ask(&format!("{backends}{host}"), 8080), format!("h{host}"));
            }
            let (second, third) = (bed.ask(vip, 80), bed.ask(vip, 80));
            assert_ne!(second, third, "in turn");
        }
    }
}
