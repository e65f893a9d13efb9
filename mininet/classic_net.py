"""The networks of the two seed experiments, and what runs in them."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

from mininet.net import Mininet
from mininet.topo import Topo

from demo_lb import Balancer
from demo_net import COMMAND_TIMEOUT_S, HTTP_PORT, VIP, DemoError, Network, listeners, run
from lb_mininet import LbSwitch, SeedTopo

SHARED = "192.168.2.2"
"""The address that h2 and h3 share in the experiment of the NOX article."""

NAME_PORT = 22
SERVER_TIMEOUT_S = 30.0
POLL_S = 0.05

POX_SERVERS = {"h1": "10.0.0.1", "h2": "10.0.0.2"}
NOX_HOSTS = ("h2", "h3")


class SharedTopo(Topo):
    """One switch, a client h1, and h2 and h3 with one and the same address."""

    def build(self, tag: str = "", **_params: Any) -> None:
        """Add the switch and the hosts."""
        switch = self.addSwitch(f"s1{tag}")
        for number, address in enumerate(("192.168.2.1", SHARED, SHARED), 1):
            self.addLink(self.addHost(f"h{number}{tag}", ip=f"{address}/24"), switch)


class ClassicNetwork(Network):
    """A network of one switch whose controller runs with ``options``."""

    def __init__(self, work_dir: Path, openflow: str, topo: Topo, tag: str, macs: bool) -> None:
        self.work_dir = work_dir
        self.openflow = openflow
        self.tag = tag
        switch = partial(LbSwitch, openflow=openflow)
        self.mininet = Mininet(
            topo=topo, switch=switch, controller=None, autoSetMacs=macs, build=False
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ofshim = ""

    def start(self, ofshim: str, lb_socket: Path, options: Sequence[str] = ()) -> None:
        """Build everything and wait until the switch has its controller."""
        self.ofshim = ofshim
        super().start(ofshim, lb_socket, options)
        for host in self.mininet.hosts:
            # Neighbour discovery would be packet-ins that nobody asked for.
            host.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
        self.wait_for("the switch is ready", lambda: bool(self.controller()["switches"]), 15.0)

    def controller(self) -> dict[str, Any]:
        """``ofshim status --json``."""
        folder = str(self.work_dir / "ofshim")
        status = json.loads(run([self.ofshim, "--run-dir", folder, "status", "--json"]))
        assert isinstance(status, dict)
        return status

    def wait_for(self, what: str, holds: Callable[[], bool], limit_s: float) -> float:
        """Wait until something holds; return the seconds that it took."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > limit_s:
                raise DemoError(f"{what}: not within {limit_s:.0f} s")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def serve(self, role: str, port: int, command: Sequence[str], folder: Path) -> None:
        """Start a server on a host and wait until it listens."""
        with open(self.work_dir / f"{role}.log", "ab") as log:
            process = self.spawn(role, command, cwd=folder, stdout=log, stderr=log)
        self.processes[role] = process
        look = ["ss", "--no-header", "--listening", "--numeric", "--tcp", "--udp"]

        def listens() -> bool:
            if process.poll() is not None:
                raise DemoError(f"{role}: the server ended at once")
            return ("tcp", port) in listeners(self.run(role, look))

        self.wait_for(f"{role}: a server on port {port}", listens, SERVER_TIMEOUT_S)


class PoxNetwork(ClassicNetwork):
    """``single,6``: h1 and h2 serve HTTP, h3 to h6 are clients."""

    def __init__(self, work_dir: Path, openflow: str, tag: str, macs: bool) -> None:
        super().__init__(work_dir, openflow, SeedTopo(k=6, tag=tag), tag, macs)

    def start_web_servers(self) -> None:
        """Start what h1 and h2 serve: pages that name them."""
        for role in POX_SERVERS:
            root = self.web_root(role)
            root.mkdir()
            (root / "index.html").write_text(f"{role}\n")
            self.serve(role, HTTP_PORT, ["python3", "-m", "http.server", str(HTTP_PORT)], root)

    def live_servers(self) -> list[str]:
        """The servers that POX's balancer takes for alive."""
        servers = self.controller()["classic"]["servers"]
        return [server["address"] for server in servers if server["up"]]


class NoxNetwork(ClassicNetwork):
    """The client h1, and h2 and h3 with the address 192.168.2.2."""

    def __init__(self, work_dir: Path, openflow: str, tag: str) -> None:
        super().__init__(work_dir, openflow, SharedTopo(tag=tag), tag, macs=True)

    def start_name_servers(self) -> None:
        """Let h2 and h3 say their names."""
        script = str(Path(__file__).resolve().with_name("name_server.py"))
        for role in NOX_HOSTS:
            port = ["--port", str(NAME_PORT)]
            command = ["python3", script, "serve", "--name", role, *port]
            self.serve(role, NAME_PORT, command, self.work_dir)

    def introduce(self) -> None:
        """Ping the shared address: the client asks for it, and both hosts answer."""
        if self.try_run("h1", ["ping", "-c", "2", "-i", "0.3", "-W", "2", SHARED]).returncode != 0:
            raise DemoError(f"h1 does not reach {SHARED}")

    def ask(self) -> tuple[Optional[str], float]:
        """One connection of the client: who answered, and after how many seconds."""
        script = str(Path(__file__).resolve().with_name("name_server.py"))
        where = ["--address", SHARED, "--port", str(NAME_PORT), "--timeout", "8"]
        name, _, seconds = self.try_run("h1", ["python3", script, "ask", *where]).stdout.partition(" ")
        if not seconds:
            raise DemoError("h1: the client said nothing")
        return (None if name == "-" else name), float(seconds)


# The balancer's configuration


def pox_config(ports: Sequence[str]) -> str:
    """What ``lb run --ip 10.0.1.1 --servers 10.0.0.1,10.0.0.2`` means, on these ports."""
    lines = ["[[vip]]", f'address = "{VIP}"', 'selection = "random"']
    for address in POX_SERVERS.values():
        lines += ["[[vip.backend]]", f'address = "{address}"']
    return "\n".join([*lines, *attach_lines(ports)])


def nox_config(ports: Sequence[str], macs: Sequence[str]) -> str:
    """Hosts with one address in turn, by their MACs alone."""
    lines = ["[[vip]]", f'address = "{SHARED}"', 'mode = "dsr"', 'selection = "round-robin"']
    for mac in macs:
        lines += ["[[vip.backend]]", f'address = "{SHARED}"', f'mac = "{mac}"']
    return "\n".join([*lines, *attach_lines(ports)])


def attach_lines(ports: Sequence[str]) -> list[str]:
    """The ``[placement]`` table: these ports and no others of the machine."""
    return ["[placement]", f"attach = [{', '.join(json.dumps(port) for port in ports)}]", ""]


def backends_up(status: dict[str, Any]) -> int:
    """Read ``lb status --json``: how many backends of the first VIP are up."""
    backends = status["vips"][0]["backends"]
    return sum(backend["state"] == "up" for backend in backends)


def start_balancer(balancer: Balancer, config: str, backends: int) -> None:
    """Run ``lb`` with a configuration until so many backends are up."""
    balancer.config.write_text(config)
    balancer.start()
    balancer.wait_until(
        "the backends are up", lambda status: backends_up(status) == backends, COMMAND_TIMEOUT_S
    )
