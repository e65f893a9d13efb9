"""The steps of the two seed experiments."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional

from mininet.cli import CLI
from mininet.log import setLogLevel

from classic_net import (
    NOX_HOSTS,
    POX_SERVERS,
    SHARED,
    ClassicNetwork,
    NoxNetwork,
    PoxNetwork,
    backends_up,
    nox_config,
    pox_config,
    start_balancer,
)
from demo_lb import Balancer
from demo_net import CLIENTS, VIP, DemoError, free_tag
from demo_run import ignore_signals, quietly, sweep
from lb_mininet import SetupError

WORK_PREFIX = "lb-classic-"
STATUS_MISSED = 1
STATUS_CANNOT_RUN = 2
UP_TIMEOUT_S = 20.0
DOWN_TIMEOUT_S = 20.0
AFTER = 4
"""Requests after one of the two hosts went away."""

LOG_TAIL_LINES = 12

Result = dict[str, Any]


def say(text: str) -> None:
    """Tell how it goes, on standard error: standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def run_experiment(args: argparse.Namespace, pin_root: Path) -> int:
    """Run the experiment once with each balancer; print what came of it."""
    setLogLevel("output")
    results: dict[str, Result] = {}
    misses: list[str] = []
    sweep(Path(tempfile.gettempdir()), pin_root, WORK_PREFIX)
    for balancer in args.balancer:
        tag = free_tag()
        if tag is None:
            say("experiment: the names s1, s1a ... s1z are all taken: end another Mininet")
            return STATUS_CANNOT_RUN
        result, missed = run_once(args, balancer, tag, pin_root)
        results[balancer] = result
        misses += [f"{balancer}: {miss}" for miss in missed]
    for miss in misses:
        say(f"miss: {miss}")
    if args.json:
        print(json.dumps({**results, "misses": misses}), flush=True)
    return STATUS_MISSED if misses else 0


def run_once(
    args: argparse.Namespace, balancer: str, tag: str, pin_root: Path
) -> tuple[Result, list[str]]:
    """Build the network, take the steps, and clean up; what came of it, and what is wrong."""
    with contextlib.ExitStack() as stack:
        work_dir = Path(tempfile.mkdtemp(prefix=f"{WORK_PREFIX}{os.getpid()}-"))
        stack.callback(shutil.rmtree, work_dir, ignore_errors=True)
        run = (PoxRun if args.experiment == "pox" else NoxRun)(args, balancer, work_dir, tag)
        stack.callback(quietly, run.network.stop)
        run.lb = Balancer(args.lb, work_dir, pin_root / work_dir.name)
        stack.callback(quietly, run.lb.clean_up)
        stack.callback(ignore_signals)
        try:
            run.steps()
            if args.keep:
                keep(run.network)
        except (DemoError, SetupError, subprocess.SubprocessError, OSError) as error:
            run.misses.append(f"broke off: {error}")
        if run.misses:
            run.print_logs()
        return run.result, run.misses


def keep(network: ClassicNetwork) -> None:
    """Open Mininet's prompt."""
    say("everything still runs; 'exit' goes on")
    with contextlib.redirect_stdout(sys.stderr):
        CLI(network.mininet, stdout=sys.stderr)


class Run:
    """One experiment with one balancer."""

    network: ClassicNetwork
    lb: Balancer

    def __init__(self, args: argparse.Namespace, balancer: str) -> None:
        self.args = args
        self.balancer = balancer
        self.result: Result = {}
        self.misses: list[str] = []

    @property
    def is_xdp(self) -> bool:
        """Whether XDP balances, and not the controller."""
        return self.balancer == "xdp"

    def want(self, holds: bool, otherwise: str) -> None:
        """Note what did not come as it should."""
        if not holds:
            self.misses.append(otherwise)

    def print_logs(self) -> None:
        """Show the ends of the logs, for the search for the cause."""
        log = self.network.ofshim_log
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        for name, tail in (("ofshim", lines[-LOG_TAIL_LINES:]), ("lb", self.lb.log.tail(LOG_TAIL_LINES))):
            for line in tail:
                say(f"{name}: {line}")

    def steps(self) -> None:
        """The experiment."""
        raise NotImplementedError


class PoxRun(Run):
    """Requests to the VIP from four clients, and the death of a server."""

    network: PoxNetwork

    def __init__(self, args: argparse.Namespace, balancer: str, work_dir: Path, tag: str) -> None:
        super().__init__(args, balancer)
        self.network = PoxNetwork(work_dir, args.openflow, tag, args.mac)

    def steps(self) -> None:
        """The experiment, then h1's link goes down and comes back."""
        self.start()
        loss = self.network.pingall()
        self.result["pingall_loss_pct"] = loss
        say(f"  pingall: {loss:.0f} % lost")
        self.want(loss == 0, f"pingall lost {loss} %")
        answers = self.requests(self.args.requests, "requests")
        self.want(None not in answers, "requests without an answer")
        packet_ins = sum(switch["packet_ins"] for switch in self.network.controller()["switches"])
        self.result["packet_ins"] = packet_ins
        self.network.set_link("h1", "down")
        took = self.wait_servers(["10.0.0.2"], DOWN_TIMEOUT_S)
        self.result["detect_s"] = round(took, 2)
        say(f"  h1's link is down: noticed after {took:.1f} s")
        answers = self.requests(AFTER, "requests_after")
        self.want(answers == ["h2"] * AFTER, f"after h1's death: {answers}")
        self.network.set_link("h1", "up")
        self.wait_servers(list(POX_SERVERS.values()), UP_TIMEOUT_S)
        say("  h1's link is up again, and h1 is back")

    def start(self) -> None:
        """Build, start what balances, and wait until both servers are up."""
        options: list[str] = []
        servers = ",".join(POX_SERVERS.values())
        if self.is_xdp:
            say(f"XDP: lb run --ip {VIP} --servers {servers}, and ofshim run")
        else:
            options = ["--lb", "pox", "--ip", VIP, "--servers", servers]
            say(f"POX's balancer: ofshim run {' '.join(options)}")
        self.network.start(self.args.ofshim, self.lb.socket, options)
        self.network.start_web_servers()
        if self.is_xdp:
            start_balancer(self.lb, pox_config(self.network.switch_ports()), len(POX_SERVERS))
        self.wait_servers(list(POX_SERVERS.values()), UP_TIMEOUT_S)

    def wait_servers(self, addresses: list[str], limit_s: float) -> float:
        """Wait until exactly these servers are up; return the seconds."""

        def live() -> list[str]:
            if not self.is_xdp:
                return self.network.live_servers()
            backends = self.lb.status()["vips"][0]["backends"]
            return [backend["address"] for backend in backends if backend["state"] == "up"]

        what = f"{' and '.join(addresses)} up, and no other"
        return self.network.wait_for(what, lambda: live() == addresses, limit_s)

    def requests(self, count: int, key: str) -> list[Optional[str]]:
        """Requests of the clients in turn; who answered."""
        answers = []
        for number in range(count):
            client = CLIENTS[number % len(CLIENTS)]
            answers.append(self.network.get(client, VIP))
            say(f"  {client} curl {VIP}: {answers[-1] or 'no answer'}")
        self.result[key] = answers
        return answers


class NoxRun(Run):
    """Connections to an address that two hosts share, and the death of one."""

    network: NoxNetwork

    def __init__(self, args: argparse.Namespace, balancer: str, work_dir: Path, tag: str) -> None:
        super().__init__(args, balancer)
        self.network = NoxNetwork(work_dir, args.openflow, tag)

    def steps(self) -> None:
        """The experiment, then h3's link goes down."""
        self.start()
        before = self.packet_ins()
        names, _ = self.ask(self.args.requests, "names")
        self.result["packet_ins"] = self.packet_ins() - before
        say(f"  {self.result['packet_ins']} packet-ins meanwhile, ARP among them")
        self.want(set(names) == set(NOX_HOSTS), f"not both hosts answered: {names}")
        turns = all(left != right for left, right in zip(names, names[1:]))
        self.want(turns, f"the hosts did not answer in turn: {names}")
        self.network.set_link("h3", "down")
        if self.is_xdp:
            self.lb.wait_until("h3 is out", lambda status: backends_up(status) == 1, DOWN_TIMEOUT_S)
        say("  h3's link is down")
        names, seconds = self.ask(AFTER, "names_after")
        self.result["seconds_after"] = seconds
        self.want(names == ["h2"] * AFTER, f"after h3's death: {names}")

    def start(self) -> None:
        """Build, start what balances, and let everybody be known."""
        options: list[str] = []
        if self.is_xdp:
            say(f"XDP: layer-2 DSR, {SHARED} in turn, and ofshim run")
        else:
            options = ["--lb", self.balancer]
            say(f"NOX's balancer: ofshim run {' '.join(options)}")
        self.network.start(self.args.ofshim, self.lb.socket, options)
        self.network.start_name_servers()
        if self.is_xdp:
            macs = [str(self.network.interface(role).MAC()) for role in NOX_HOSTS]
            start_balancer(self.lb, nox_config(self.network.switch_ports(), macs), len(NOX_HOSTS))
        else:
            self.network.introduce()

    def packet_ins(self) -> int:
        """Packet-ins of the switch so far."""
        return sum(switch["packet_ins"] for switch in self.network.controller()["switches"])

    def ask(self, count: int, key: str) -> tuple[list[Optional[str]], list[float]]:
        """Connections, one after the other: who answered, and after how long."""
        names, times = [], []
        for _ in range(count):
            name, seconds = self.network.ask()
            say(f"  h1 asks {SHARED} for its name: {name or 'no answer'} ({seconds:.2f} s)")
            names.append(name)
            times.append(seconds)
        self.result[key] = names
        return names, times
