"""A network in one mode, with whatever runs in it; gone at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Sequence

from bench_modes import config_text
from bench_net import CLIENT, LOAD_PORT, LOAD_SERVICES, BenchNetwork
from demo_lb import Balancer
from demo_net import BALANCER, CONNECT_TIMEOUT_S, VIP, DemoError, free_port, run
from demo_run import quietly
from lb_mininet import OfshimController, own_vip

if TYPE_CHECKING:
    from compare_modes import Mode

POOL = ("h1", "h2", "h4")
"""The backends, until the pool grows by a third."""

SPARE = "h5"
"""The backend that joins, and leaves again."""

BACKENDS = {role: f"10.0.0.{role[1:]}" for role in (*POOL, SPARE)}
REQUEST_PORT = 9100
"""Where bench-load's servers are; bench-traffic's are on LOAD_PORT."""

SERVICES = (*LOAD_SERVICES, ("tcp", REQUEST_PORT))
PORTS = (LOAD_PORT, REQUEST_PORT)
UP_LIMIT_S = 30.0
ARP_SILENT = 8
"""The value of arp_ignore with which a host answers no request."""


@dataclass(frozen=True)
class Programs:
    """Where the programs are."""

    lb: str
    ofshim: str
    traffic: str
    load: str
    pox: Optional[str]


class PoxController(OfshimController):
    """The original: POX, from a checkout."""

    program = "POX"

    def arguments(self) -> list[str]:
        """The command line; setpriv lets it end when Mininet is killed."""
        setpriv = shutil.which("setpriv")
        args = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        args += [self.command, *self.options[:1], "openflow.of_01"]
        args += [f"--address={self.ip}", f"--port={self.port}"]
        return args + self.options[1:]


UDP_TIMEOUT = "udp_s = 30\n"
"""Flows of datagrams are forgotten as soon as Linux' own connection tracker
forgets such, not after the five minutes of the default: the switch's table is
to be seen going back to its size."""


class Scene:
    """The network of a mode: built by ``start``, gone when the block ends."""

    def __init__(
        self, mode: "Mode", programs: Programs, folder: Path, pins: Path, tag: str
    ) -> None:
        folder.mkdir()
        self.mode = mode
        self.programs = programs
        self.folder = folder
        self.network = BenchNetwork(folder, tag, BACKENDS, mode.openflow)
        self.balancer = Balancer(programs.lb, folder, pins)
        self.controller: Optional[OfshimController] = None
        self.commands: list[str] = []

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *_exception: object) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(quietly, self.network.stop)
            stack.callback(quietly, self.balancer.clean_up)

    def start(self) -> None:
        """Build everything, and wait until all backends of the pool answer."""
        self.mode.control(self)
        network = self.network
        network.mininet.build()
        network.mininet.start()
        if self.controller is not None and not network.mininet.waitConnected(CONNECT_TIMEOUT_S):
            raise DemoError(f"{network.switch.name} did not connect to {self.controller.program}")
        for role in BACKENDS:
            network.start_traffic_server(role, self.programs.traffic)
            serve = [self.programs.load, "serve", "--name", role, "--port", str(REQUEST_PORT)]
            network.start_server(role, serve)
        self.mode.prepare(self)

    # Who controls and who balances

    def control_by_ofshim(self, *options: str) -> None:
        """The switch is controlled by ofshim."""
        self._add(
            OfshimController(
                f"c0{self.network.tag}",
                command=self.programs.ofshim,
                port=free_port(),
                openflow=self.mode.openflow,
                lb_socket=str(self.balancer.socket),
                run_dir=str(self.ofshim_dir),
                log_file=str(self.network.ofshim_log),
                options=options,
            )
        )

    def control_by_pox(self, *options: str) -> None:
        """The switch is controlled by POX."""
        self._add(
            PoxController(
                f"c0{self.network.tag}",
                command="python3",
                port=free_port(),
                openflow=self.mode.openflow,
                log_file=str(self.folder / "pox.log"),
                options=[os.path.join(self.programs.pox or "", "pox.py"), *options],
            )
        )

    def _add(self, controller: OfshimController) -> None:
        self.controller = controller
        self.network.mininet.addController(controller)
        self.did(controller.arguments())

    @property
    def ofshim_dir(self) -> Path:
        """Where ofshim's socket is."""
        return self.folder / "ofshim"

    def ask_ofshim(self, *arguments: str) -> str:
        """What a read command of ofshim prints."""
        return run([self.programs.ofshim, "--run-dir", str(self.ofshim_dir), *arguments])

    def write_config(self, placement: str, mode: str, roles: Sequence[str]) -> Path:
        """The file of the balancer and of ofshim, with ``roles`` as backends."""
        attach, host = [], ""
        if placement == "inline":
            attach = [self.network.port_name(role) for role in (*BACKENDS, CLIENT)]
        elif placement == "onearm":
            host = self.network.node(BALANCER).name
        addresses = [BACKENDS[role] for role in roles]
        # The text ends in the section of connections.
        text = config_text(placement, mode, attach, host, addresses, SERVICES) + UDP_TIMEOUT
        self.balancer.config.write_text(text)
        return self.balancer.config

    def balance(self, placement: str, mode: str) -> None:
        """Let ``lb`` balance over the pool."""
        config = self.write_config(placement, mode, POOL)
        if mode == "dsr":
            for role in BACKENDS:
                own_vip(self.network.node(role), VIP)
        self.balancer.start()
        self.did([self.balancer.command("run", "--config", str(config))])
        self.balancer.wait_up([BACKENDS[role] for role in POOL], UP_LIMIT_S)

    def reload(self, placement: str, mode: str, roles: Sequence[str]) -> None:
        """Let ``lb`` balance over other backends."""
        self.write_config(placement, mode, roles)
        self.balancer.reload()

    # Load

    def did(self, command: Sequence[str]) -> None:
        """Remember a command, for the report."""
        self.commands.append(" ".join(command).replace(str(self.folder), "DIR"))

    @property
    def services(self) -> list[str]:
        """Where requests go."""
        return [f"{address}:{REQUEST_PORT}" for address in self.targets]

    @property
    def targets(self) -> list[str]:
        """The VIP, or without a balancer the backends."""
        return [BACKENDS[role] for role in POOL] if self.mode.name == "direct" else [VIP]

    def offer(self, kind: str, *options: str) -> dict[str, Any]:
        """Run ``bench-load`` on the client to its end."""
        process = self.start_offer(kind, *options)
        return self.finish_offer(process)

    def start_offer(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        """Start ``bench-load`` on the client."""
        command = [self.programs.load, kind, "--to", ",".join(self.services), *options]
        self.did([CLIENT, *command])
        process = self.network.spawn(
            CLIENT, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.network.processes[f"load-{process.pid}"] = process
        return process

    def finish_offer(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Wait for such a process; return what it printed last."""
        out, err = process.communicate()
        self.network.processes.pop(f"load-{process.pid}", None)
        if process.returncode != 0:
            reason = err.decode(errors="replace").strip() or f"status {process.returncode}"
            raise DemoError(f"bench-load: {reason}")
        value = json.loads(out.decode().splitlines()[-1])
        assert isinstance(value, dict)
        return value

    def traffic(self, kind: str, seconds: float, *options: str) -> dict[str, Any]:
        """Run ``bench-traffic`` on the client."""
        to = f"{self.targets[0]}:{LOAD_PORT}"
        command = [self.programs.traffic, kind, "--to", to, "--seconds", str(seconds), *options]
        self.did([CLIENT, *command])
        value = json.loads(self.network.run(CLIENT, command))
        assert isinstance(value, dict)
        return value

    def answering(self) -> set[str]:
        """The backends that answer new connections now; empty if any fails."""
        result = self.offer("open", "--rate", "100", "--seconds", "0.5", "--patience-ms", "900")
        self.commands.pop()
        return set(result["backends"]) if result["failed"] == 0 else set()

    def wait_answering(self, what: str, roles: set[str], limit_s: float = UP_LIMIT_S) -> None:
        """Return when exactly ``roles`` answer new connections."""
        deadline = time.monotonic() + limit_s
        while (found := self.answering()) != roles:
            if time.monotonic() > deadline:
                names = ", ".join(sorted(found)) or "not everybody"
                raise DemoError(f"{what}: not within {limit_s:.0f} s, {names} answered")

    # The switch

    def entry_dump(self, command: str) -> str:
        """What ``ovs-ofctl`` says about the switch's entries."""
        return run(["ovs-ofctl", "-O", self.network.protocol, command, self.network.switch.name])

    # Backends

    def silence(self, role: str, silent: bool) -> None:
        """Let a backend answer no ARP, or answer it again."""
        self.network.set_arp_ignore(role, ARP_SILENT if silent else 0)

    def mute(self, role: str) -> int:
        """Let a backend hang: nothing that it sends leaves it, neither ARP nor
        IP, while its link stays up. Returns when it was so."""
        device = self.network.interface(role).name
        silent = ["tc", "qdisc", "add", "dev", device, "root", "pfifo", "limit", "0"]
        self.network.run(role, silent)
        return time.monotonic_ns()

    def heal(self, role: str) -> None:
        """Undo ``mute``."""
        device = self.network.interface(role).name
        self.network.run(role, ["tc", "qdisc", "del", "dev", device, "root"])
