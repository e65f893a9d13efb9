"""A Mininet of several switches with ofshim, obeying commands on its input.

Arguments: a topology (single,N linear,N ends,N tree,DEPTH ring,N mesh,N fattree,K foreign),
the OpenFlow version, a tag for all names, a port, a folder, then options for
ofshim. Prints one line of JSON when it stands, and one for each command.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from functools import partial

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "mininet"))

from lb_mininet import OPENFLOW_PROTOCOLS, LbSwitch, OfshimController, own_vip  # noqa: E402
from mininet.net import Mininet  # noqa: E402
from mininet.topo import Topo  # noqa: E402

SNIFF = """
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
s.settimeout(0.2)
end = time.monotonic() + float(sys.argv[1])
print("ready", flush=True)
count = 0
while time.monotonic() < end:
    try:
        frame, address = s.recvfrom(2000)
        count += address[2] != socket.PACKET_OUTGOING
    except TimeoutError:
        pass
print(count, flush=True)
"""
SHOUT = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
mac = open(f"/sys/class/net/{sys.argv[1]}/address").read().strip()
s.send(b"\\xff" * 6 + bytes.fromhex(mac.replace(":", "")) + b"\\x88\\xb5" + b"copy" * 12)
"""
# The first argument is the shell's own name: 4 or 6.
PING_EACH = """
for address; do ping -$0 -n -q -c 1 -W 2 "$address" >/dev/null || echo "$address"; done
"""
PINGING_AT_ONCE = 4


class Fabric(Topo):
    """Switches s1, s2, ... and hosts h1, h2, ... by a short description."""

    def build(self, what: str, openflow: str, tag: str) -> None:
        """Add what the description says."""
        self.tag, self.openflow, self.hosts_made = tag, openflow, 0
        kind, _, size = what.partition(",")
        getattr(self, kind)(int(size or 0))

    def switch(self, number: int, **params: object) -> str:
        """Add a switch; its number is its datapath id."""
        name = f"s{number}{self.tag}"
        return self.addSwitch(name, dpid=f"{number:016x}", openflow=self.openflow, batch=False, **params)

    def host(self, switch: str) -> None:
        """Add the next host on the next port of a switch."""
        self.hosts_made += 1
        number = self.hosts_made
        mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        host = self.addHost(f"h{number}{self.tag}", ip=f"10.0.{number >> 8}.{number & 255}/16", mac=mac)
        self.addLink(host, switch)

    def single(self, size: int) -> None:
        """All hosts on one switch."""
        switch = self.switch(1)
        for _ in range(size):
            self.host(switch)

    def linear(self, size: int) -> None:
        """Switches in a row, a host on each."""
        row = [self.switch(number) for number in range(1, size + 1)]
        for switch in row:
            self.host(switch)
        for left, right in zip(row, row[1:]):
            self.addLink(left, right)

    def ends(self, size: int) -> None:
        """Switches in a row, a host at either end."""
        row = [self.switch(number) for number in range(1, size + 1)]
        self.host(row[0])
        for left, right in zip(row, row[1:]):
            self.addLink(left, right)
        self.host(row[-1])

    def ring(self, size: int) -> None:
        """A row whose ends are joined."""
        self.linear(size)
        self.addLink(f"s{size}{self.tag}", f"s1{self.tag}")

    def mesh(self, size: int) -> None:
        """Every switch to every other."""
        all_of_them = [self.switch(number) for number in range(1, size + 1)]
        for at, switch in enumerate(all_of_them):
            self.host(switch)
            for other in all_of_them[:at]:
                self.addLink(other, switch)

    def tree(self, depth: int) -> None:
        """Mininet's tree with two branches: hosts at the leaves."""
        self.made = 0
        self.branch(depth)

    def branch(self, depth: int) -> str:
        """Add a switch with all below it."""
        self.made += 1
        switch = self.switch(self.made)
        for _ in range(2):
            if depth > 1:
                self.addLink(switch, self.branch(depth - 1))
            else:
                self.host(switch)
        return switch

    def fattree(self, k: int) -> None:
        """A fat tree of k pods (Al-Fares et al., 2008), k / 2 hosts at each edge switch."""
        half = k // 2
        core = [self.switch(number) for number in range(1, half * half + 1)]
        number = len(core)
        for _pod in range(k):
            upper = [self.switch(number + at + 1) for at in range(half)]
            lower = [self.switch(number + half + at + 1) for at in range(half)]
            number += k
            for at, switch in enumerate(upper):
                for root in core[at * half : (at + 1) * half]:
                    self.addLink(switch, root)
                for edge in lower:
                    self.addLink(switch, edge)
            for edge in lower:
                for _ in range(half):
                    self.host(edge)

    def foreign(self, _size: int) -> None:
        """s1 - a learning switch without a controller - s2; a host on each."""
        first, second = self.switch(1), self.switch(2)
        between = self.addSwitch(
            f"s3{self.tag}", dpid=f"{3:016x}", openflow=self.openflow, failMode="standalone", batch=False
        )
        for switch in (first, second, between):
            self.host(switch)
        self.addLink(first, between)
        self.addLink(between, second)


class Lab:
    """The running network, and what can be done with it."""

    def __init__(self, net: Mininet, tag: str, openflow: str) -> None:
        self.net, self.tag, self.openflow = net, tag, openflow

    def node(self, name: str):
        """A node by its name without the tag."""
        return self.net[f"{name}{self.tag}"]

    def ping(self, source: str, target: str, count: str = "1", interval: str = "0.2") -> int:
        """How many of ``count`` pings were answered."""
        out = self.node(source).cmd(f"ping -c {count} -i {interval} -W 2 {self.node(target).IP()}")
        return int(out.split(" received")[0].split()[-1]) if " received" in out else 0

    def pingall(self, step: str = "1", family: str = "4") -> dict:
        """Each host to each ``step``-th of the others: pairs, and which were lost.

        Some hosts ping at a time, each its targets one after the other.
        """
        hosts = self.net.hosts
        pairs, lost, at_work, waiting = 0, [], [], list(enumerate(hosts))
        while waiting or at_work:
            while waiting and len(at_work) < PINGING_AT_ONCE:
                at, source = waiting.pop(0)
                others = range(at + 1, at + len(hosts), int(step))
                targets = [hosts[other % len(hosts)] for other in others]
                pairs += len(targets)
                addresses = [self.address(target, family) for target in targets]
                pinging = source.popen(["sh", "-c", PING_EACH, family, *addresses], text=True)
                at_work.append((source, dict(zip(addresses, targets)), pinging))
            source, targets, pinging = at_work.pop(0)
            unanswered = pinging.communicate()[0].split()
            if pinging.returncode != 0:
                raise RuntimeError(f"{source.name}: pinging failed: {unanswered}")
            lost += [f"{source.name}-{targets[address].name}".replace(self.tag, "") for address in unanswered]
        return {"pairs": pairs, "lost": lost}

    def address(self, host, family: str) -> str:
        """A host's address in IPv4 or, once ``Net::add_ipv6`` gave it one, in IPv6."""
        number = host.name.removesuffix(self.tag).removeprefix("h")
        return host.IP() if family == "4" else f"2001:db8::{number}"

    def copies(self, source: str) -> dict:
        """How many copies of one broadcast each host gets."""
        hosts = [host for host in self.net.hosts if host is not self.node(source)]
        sniffers = {host.name: host.popen(["python3", "-c", SNIFF, "3"], text=True) for host in hosts}
        for sniffer in sniffers.values():
            sniffer.stdout.readline()
        sender = self.node(source)
        sender.popen(["python3", "-c", SHOUT, f"{sender.name}-eth0"]).wait()
        return {name.removesuffix(self.tag): int(s.communicate()[0]) for name, s in sniffers.items()}

    def link(self, one: str, other: str, state: str) -> float:
        """Take a link between two switches down or up; the time right before."""
        before = time.time()
        self.net.configLinkStatus(f"{one}{self.tag}", f"{other}{self.tag}", state)
        return before

    def eat(self, one: str, other: str) -> float:
        """Lose all frames between two switches, whose ports stay up; the time right before."""
        [(left, right)] = self.node(one).connectionsTo(self.node(other))
        before = time.time()
        for port in (left, right):
            # One instruction of classic BPF: return TC_ACT_SHOT.
            for what in ("qdisc add dev {} clsact", "filter add dev {} egress protocol all bpf da bytecode 1,6_0_0_2,"):
                words = [word.replace("_", " ") for word in what.format(port.name).split()]
                subprocess.run(["tc", *words], check=True)
        return before

    def flow(self, source: str, target: str, count: str, interval: str = "0.05") -> None:
        """Ping in the background, twenty times a second if nothing else is said."""
        command = f"ping -D -i {interval} -c {count} -W 2 {self.node(target).IP()}"
        self.pinging = self.node(source).popen(command.split(), text=True)

    def gaps(self) -> dict:
        """What became of it: sent, received, and which answers came when."""
        out = self.pinging.communicate()[0]
        found = re.findall(r"^\[(\S+)\] \d+ bytes .*icmp_seq=(\d+) ", out, re.MULTILINE)
        answers = [(int(number), float(at)) for at, number in found]
        summary = next(line for line in out.splitlines() if "transmitted" in line).split()
        return {"sent": int(summary[0]), "received": int(summary[3]), "answers": answers}

    def ofctl(self, command: str, name: str) -> str:
        """What ``ovs-ofctl`` does and says about a switch, in its version."""
        bridge = self.node(name).name
        version = OPENFLOW_PROTOCOLS[self.openflow]
        words = ["ovs-ofctl", "-O", version, "--no-stats", "--no-names", command, bridge]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def entries(self, name: str) -> list:
        """A switch's entries without cookies and what they counted, sorted."""
        lines = self.ofctl("dump-flows", name).splitlines()
        return sorted(re.sub(r"^ *cookie=\w+, ", "", line) for line in lines if "actions=" in line)

    def restart(self, name: str) -> list:
        """Wipe a switch's tables and let it connect again, as after a crash; what it had right before it connected."""
        switch = self.node(name)
        target = switch.cmd(f"ovs-vsctl get-controller {switch.name}").strip()
        switch.cmd(f"ovs-vsctl del-controller {switch.name}")
        self.ofctl("del-flows", name)
        wiped = self.entries(name)
        switch.cmd(f"ovs-vsctl set-controller {switch.name} {target}")
        return wiped

    def now(self) -> float:
        """The time, by the clock that the other commands name times of."""
        return time.time()

    def own(self, name: str, vip: str) -> None:
        """Give a host a VIP, as backends have it in DSR."""
        own_vip(self.node(name), vip)

    def wait(self, seconds: str) -> None:
        """Let time pass between two commands."""
        time.sleep(float(seconds))

    def cmd(self, name: str, *command: str) -> str:
        """The output of a command on a node."""
        return self.node(name).cmd(" ".join(command))

    def controller(self, what: str) -> None:
        """Kill the controller, or start it again."""
        controller = self.net.controllers[0]
        if what == "kill":
            controller.process.kill()
            controller.process.wait()
        else:
            controller.start()


def main() -> None:
    """Build, obey, tear down."""
    what, openflow, tag, port, folder, *options = sys.argv[1:]
    controller = partial(
        OfshimController,
        port=int(port),
        openflow=openflow,
        lb_socket=os.environ.get("LB_SOCKET", f"{folder}/none.sock"),
        run_dir=f"{folder}/ofshim",
        log_file=f"{folder}/ofshim.log",
        options=options,
    )
    net = Mininet(topo=Fabric(what, openflow, tag), switch=LbSwitch, controller=None, waitConnected=False)
    net.addController(f"c{tag}", controller)
    try:
        for one in net.controllers:
            one.start()
        foreign = f"s3{tag}" if what.startswith("foreign") else ""
        for switch in net.switches:
            switch.start([] if switch.name == foreign else net.controllers)
        for host in net.hosts:
            # Their own multicasts are not what is counted here.
            host.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
        lab = Lab(net, tag, openflow)
        told = {
            "hosts": [host.name for host in net.hosts],
            "pids": [host.pid for host in net.hosts],
            "ports": [host.defaultIntf().link.intf2.name for host in net.hosts],
        }
        print(json.dumps(told), flush=True)
        for line in sys.stdin:
            command, *arguments = line.split()
            print(json.dumps(getattr(lab, command)(*arguments)), flush=True)
    finally:
        net.stop()
        time.sleep(0.1)


main()
