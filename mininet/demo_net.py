"""The network of the demonstration: hosts, servers, clients, and their faults."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Iterable, Optional, Sequence

from mininet.link import Intf
from mininet.net import Mininet
from mininet.node import Node

import lb_mininet
from lb_mininet import LbSwitch, OfshimController, OneArmTopo, SeedTopo

HOSTS = 6
VIP = "10.0.1.1"
ROUND_ROBIN_VIP = "10.0.1.2"
HTTP_PORT = 80
UDP_PORT = 9999
BACKENDS = {"h1": "10.0.0.1", "h2": "10.0.0.2"}
CLIENTS = ("h3", "h4", "h5", "h6")
BALANCER = "lb1"
BIG_FILE = "big.bin"

COMMAND_TIMEOUT_S = 30.0
SERVER_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 15.0
CURL = ("curl", "--silent", "--show-error", "--fail", "--noproxy", "*")


class DemoError(Exception):
    """A step of the demonstration could not be done; says why on one line."""


# Names that are free


def mininet_names(command_lines: Iterable[bytes]) -> set[str]:
    """Names of Mininet nodes, from the contents of ``/proc/*/cmdline``."""
    last_arguments = (line.rstrip(b"\0").rpartition(b"\0")[2] for line in command_lines)
    mark = b"mininet:"
    return {arg[len(mark) :].decode() for arg in last_arguments if arg.startswith(mark)}


def read_command_lines() -> list[bytes]:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return lines


def node_names(tag: str) -> list[str]:
    """Names of all hosts, with ``tag``."""
    return [f"h{number}{tag}" for number in range(1, HOSTS + 1)] + [BALANCER + tag]


def tag_is_free(tag: str, nodes: set[str], interfaces: set[str], bridges: set[str]) -> bool:
    """Say whether no name that ends in ``tag`` is taken."""
    switch = f"s1{tag}"
    taken = nodes & {switch, *node_names(tag)}
    ports = [name for name in interfaces if name == switch or name.startswith(f"{switch}-eth")]
    return not taken and not ports and switch not in bridges


def free_tag() -> Optional[str]:
    """Return ``""``, or the first letter that makes all names free.

    The bridge of a run that was killed does not count: ``LbSwitch`` replaces it.
    """
    nodes = mininet_names(read_command_lines())
    bridges = set(run(["ovs-vsctl", "-t", "5", "list-br"]).split())
    stale = {name for name in bridges if lb_mininet.bridge_is_stale(name)}
    interfaces = set(os.listdir("/sys/class/net")) - stale
    bridges -= stale
    for tag in ("", *"abcdefghijklmnopqrstuvwxyz"):
        if tag_is_free(tag, nodes, interfaces, bridges):
            return tag
    return None


def free_port() -> int:
    """A TCP port of the loopback address on which nobody listens."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# The network


class Network:
    """The seed experiment's network, with the roles h1, h2, ... as names.

    ``tag`` is what the real names end in, when another network has the plain
    ones. Everything that runs in it is ended by ``stop``.
    """

    def __init__(self, work_dir: Path, openflow: str, placement: str, tag: str) -> None:
        self.work_dir = work_dir
        self.openflow = openflow
        self.tag = tag
        onearm = placement == "onearm"
        topo = (OneArmTopo if onearm else SeedTopo)(k=HOSTS, tag=tag)
        # Inline, lb sees to the hosts' offloads itself, and detaching has to restore them.
        # One-armed, answers of the backends meet only the datapath, whose class has to do it.
        switch = partial(LbSwitch, openflow=openflow, fix_offloads=onearm)
        self.mininet = Mininet(
            topo=topo, switch=switch, controller=None, autoSetMacs=True, build=False
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, ofshim: str, lb_socket: Path, options: Sequence[str] = ()) -> None:
        """Build everything and wait until the switch has its controller."""
        controller = OfshimController(
            f"c0{self.tag}",
            command=ofshim,
            port=free_port(),
            openflow=self.openflow,
            lb_socket=str(lb_socket),
            run_dir=str(self.work_dir / "ofshim"),
            log_file=str(self.ofshim_log),
            options=options,
        )
        self.mininet.addController(controller)
        self.mininet.build()
        self.mininet.start()
        if not self.mininet.waitConnected(timeout=CONNECT_TIMEOUT_S):
            raise DemoError(f"{self.switch.name} did not connect to ofshim")
        listed = run(["ovs-vsctl", "-t", "5", "list-ports", self.switch.name])
        missing = set(self.switch_ports()) - set(listed.split())
        if missing:
            raise DemoError(f"{self.switch.name} has no port {', '.join(sorted(missing))}")

    @property
    def ofshim_log(self) -> Path:
        """Where ofshim's log is."""
        return self.work_dir / "ofshim.log"

    @property
    def switch(self) -> LbSwitch:
        """The one switch."""
        return self.mininet.switches[0]

    def node(self, role: str) -> Node:
        """The host with the role ``h1``, ``h2``, ..., ``lb1``."""
        return self.mininet.nameToNode[role + self.tag]

    def interface(self, role: str) -> Intf:
        """The one interface of a host."""
        return self.node(role).defaultIntf()

    def switch_ports(self) -> list[str]:
        """The switch's ends of the links to hosts."""
        return [intf.name for intf in self.switch.intfList() if intf.link]

    def pingall(self) -> float:
        """Every host pings every other; return the loss in percent."""
        return float(self.mininet.pingAll(timeout="2"))

    def ping(self, source: str, target: str) -> bool:
        """Send three echo requests; say whether all were answered."""
        address = self.node(target).IP()
        command = ["ping", "-c", "3", "-i", "0.2", "-W", "2", address]
        return self.try_run(source, command).returncode == 0

    # Commands inside hosts

    def spawn(self, role: str, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start ``command`` in a host; it ends when this program is killed."""
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        options.setdefault("stdin", subprocess.DEVNULL)
        return self.node(role).popen([*prefix, *command], **options)

    def try_run(self, role: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run ``command`` in a host to its end."""
        process = self.spawn(role, command)
        try:
            out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        finally:
            end(process)
        text = (out.decode(errors="replace"), err.decode(errors="replace"))
        return subprocess.CompletedProcess(command, process.returncode, *text)

    def run(self, role: str, command: Sequence[str]) -> str:
        """``try_run`` that must succeed; return what it printed."""
        done = self.try_run(role, command)
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip().replace("\n", "; ")
            raise DemoError(f"{role}: {' '.join(command)}: {reason}")
        return done.stdout

    # Servers

    def web_root(self, role: str) -> Path:
        """The folder that a backend's HTTP server serves."""
        return self.work_dir / f"www-{role}"

    def write_content(self, big_file_bytes: int) -> bytes:
        """Write what the backends serve; return the big file's content."""
        content = os.urandom(big_file_bytes)
        shared = self.work_dir / BIG_FILE
        shared.write_bytes(content)
        for role in BACKENDS:
            root = self.web_root(role)
            root.mkdir()
            (root / "index.html").write_text(f"{role}\n")
            os.link(shared, root / BIG_FILE)
        return content

    def start_servers(self, role: str) -> None:
        """Start a backend's HTTP and UDP servers and wait until they listen."""
        echo = str(Path(__file__).resolve().with_name("udp_echo.py"))
        commands = {
            "http": ["python3", "-m", "http.server", str(HTTP_PORT)],
            "udp": ["python3", echo, "serve", "--name", role, "--port", str(UDP_PORT)],
        }
        for kind, command in commands.items():
            with open(self.work_dir / f"{kind}-{role}.log", "ab") as log:
                self.processes[f"{kind}-{role}"] = self.spawn(
                    role, command, cwd=self.web_root(role), stdout=log, stderr=log
                )
        self.wait_for_servers(role)

    def wait_for_servers(self, role: str) -> None:
        """Return when both servers of a backend listen."""
        deadline = time.monotonic() + SERVER_TIMEOUT_S
        command = ["ss", "--no-header", "--listening", "--numeric", "--tcp", "--udp"]
        wanted = {("tcp", HTTP_PORT), ("udp", UDP_PORT)}
        while not wanted <= listeners(self.run(role, command)):
            for kind in ("http", "udp"):
                if self.processes[f"{kind}-{role}"].poll() is not None:
                    raise DemoError(f"{role}: the {kind} server ended at once")
            if time.monotonic() > deadline:
                raise DemoError(f"{role}: the servers do not listen on {HTTP_PORT} and {UDP_PORT}")
            time.sleep(0.05)

    def stop_servers(self, role: str) -> None:
        """End a backend's servers."""
        for kind in ("http", "udp"):
            end(self.processes.pop(f"{kind}-{role}", None))

    # Faults

    def set_arp_ignore(self, role: str, value: int) -> None:
        """Set ``arp_ignore`` of a host's interface; 8 answers no ARP request."""
        key = f"/proc/sys/net/ipv4/conf/{self.interface(role).name}/arp_ignore"
        self.run(role, ["sh", "-c", f"echo {value} > {key}"])

    def set_link(self, role: str, state: str) -> None:
        """Set a host's interface ``up`` or ``down``."""
        self.run(role, ["ip", "link", "set", self.interface(role).name, state])

    # Clients

    def get(self, client: str, address: str) -> Optional[str]:
        """Fetch the page with curl; return which backend it names, or None."""
        url = f"http://{address}:{HTTP_PORT}/"
        limits = ["--connect-timeout", "3", "--max-time", "5"]
        done = self.try_run(client, [*CURL, *limits, url])
        answer = done.stdout.strip()
        return answer if done.returncode == 0 and answer in BACKENDS else None

    def get_many(self, count: int, address: str) -> list[Optional[str]]:
        """``count`` requests, one after the other, from the clients in turn."""
        return [self.get(CLIENTS[number % len(CLIENTS)], address) for number in range(count)]

    def ask_udp(self, client: str, count: int) -> Counter[str]:
        """Send ``count`` datagrams to the VIP; return who answered how often."""
        echo = str(Path(__file__).resolve().with_name("udp_echo.py"))
        where = ["--address", VIP, "--port", str(UDP_PORT), "--count", str(count)]
        return Counter(json.loads(self.run(client, ["python3", echo, "ask", *where])))

    def start_download(self, client: str, target: Path, rate: str) -> subprocess.Popen[bytes]:
        """Begin to fetch the big file into ``target`` at ``rate`` a second."""
        url = f"http://{VIP}:{HTTP_PORT}/{BIG_FILE}"
        options = ["--max-time", "120", "--limit-rate", rate, "--output", str(target)]
        process = self.spawn(client, [*CURL, *options, url])
        self.processes["download"] = process
        return process

    # What is attached

    def attached_programs(self) -> list[str]:
        """Interfaces that carry an XDP program."""
        found = [name for name in self.switch_ports() if has_xdp(run(show_link(name)))]
        for host in self.mininet.hosts:
            role = host.name.removesuffix(self.tag)
            name = self.interface(role).name
            if has_xdp(self.run(role, show_link(name))):
                found.append(name)
        return found

    def offloads(self) -> dict[str, dict[str, str]]:
        """Every offload feature of every interface of the network."""
        features = {}
        for name in self.switch_ports():
            features[name] = parse_features(run(["ethtool", "-k", name]))
        for host in self.mininet.hosts:
            role = host.name.removesuffix(self.tag)
            name = self.interface(role).name
            features[name] = parse_features(self.run(role, ["ethtool", "-k", name]))
        return features

    def flow_packets(self, addresses: Iterable[str]) -> int:
        """Packets of the switch's flow entries that name one of ``addresses``."""
        protocol = lb_mininet.OPENFLOW_PROTOCOLS[self.openflow]
        dump = run(["ovs-ofctl", "-O", protocol, "dump-flows", self.switch.name])
        return count_flow_packets(dump, addresses)

    def stop(self) -> None:
        """End every process and remove the network."""
        for name in list(self.processes):
            end(self.processes.pop(name))
        for node in self.mininet.values():
            if node.waiting:
                node.sendInt()
                node.waitOutput()
        self.mininet.stop()


# Reading the output of tools


def run(command: Sequence[str]) -> str:
    """Run a command in the root namespace; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().replace("\n", "; ")
        raise DemoError(f"{' '.join(command)}: {reason}")
    return done.stdout


def show_link(name: str) -> list[str]:
    """The command that ``has_xdp`` reads."""
    return ["ip", "-json", "link", "show", "dev", name]


def has_xdp(ip_link_json: str) -> bool:
    """Read ``ip -json link show dev X``: is an XDP program attached?"""
    return any("xdp" in link for link in json.loads(ip_link_json))


def parse_features(ethtool_output: str) -> dict[str, str]:
    """Read ``ethtool -k``: ``on`` or ``off`` by feature."""
    features = {}
    for line in ethtool_output.splitlines()[1:]:
        name, _, value = line.partition(":")
        if value.split():
            features[name.strip()] = value.split()[0]
    return features


def listeners(ss_output: str) -> set[tuple[str, int]]:
    """Read ``ss --no-header -lntu``: the (protocol, port) pairs served."""
    found = set()
    for line in ss_output.splitlines():
        fields = line.split()
        port = fields[4].rpartition(":")[2] if len(fields) > 4 else ""
        if port.isdigit():
            found.add((fields[0], int(port)))
    return found


def count_flow_packets(dump: str, addresses: Iterable[str]) -> int:
    """Read ``ovs-ofctl dump-flows``: packets of entries naming an address."""
    wanted = set(addresses)
    total = 0
    for line in dump.splitlines():
        fields = line.replace(",", " ").replace("=", " ").replace(":", " ").split()
        if wanted & set(fields) and "n_packets" in fields:
            total += int(fields[fields.index("n_packets") + 1])
    return total


def end(process: Optional[subprocess.Popen[bytes]]) -> None:
    """Kill a process that we started, and reap it."""
    if process is None:
        return
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
