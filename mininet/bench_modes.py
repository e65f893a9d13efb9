"""The modes of the Mininet benchmark, and what is measured in each."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

from bench_net import (
    CLIENT,
    CONTROL_PORT,
    LOAD_PORT,
    LOAD_SERVICES,
    UDP_SENDING,
    BenchNetwork,
)
from demo_lb import Balancer, placement_text
from demo_net import BACKENDS, BALANCER, VIP, DemoError
from lb_mininet import own_vip

LABELS = {
    "direct": "direct, no balancer",
    "ovs-nat": "static NAT entries of the switch",
    "inline-redirect": "lb inline, REDIRECT",
    "inline-pass": "lb inline, PASS (ports with a shaping queue)",
    "onearm-nat": "lb one-armed, nat",
    "onearm-dsr": "lb one-armed, dsr",
}

UNITS = {
    "bulk": "Gbit/s",
    "connections": "1/s",
    "udp": "packets/s",
    "latency_p50": "us",
    "latency_p99": "us",
}
"""The figures of a mode: those of latency are the better the less."""

UP_LIMIT_S = 15.0
LATENCY_RATE = 200
"""Requests a second while latency is measured: far from what any mode bears."""


def config_text(
    placement: str,
    mode: str,
    attach: Sequence[str],
    host: str,
    backends: Iterable[str] = tuple(BACKENDS.values()),
    services: Sequence[tuple[str, int]] = LOAD_SERVICES,
) -> str:
    """The balancer's configuration: a VIP for each of ``services``.

    With a placement of ``""`` it says nothing about one.
    """
    lines = []
    addresses = list(backends)
    for protocol, port in services:
        name = f"{protocol}-{port}"
        lines += ["[[vip]]", f'name = "{name}"', f'address = "{VIP}"', f"port = {port}"]
        lines += [f'protocol = "{protocol}"', f'mode = "{mode}"']
        for backend in addresses:
            lines += ["[[vip.backend]]", f'address = "{backend}"']
    if placement:
        lines.append(placement_text(placement, attach, host))
    # The measurement opens connections as fast as it can.
    lines += ["[connections]", "max_new_per_s = 0"]
    return "\n".join(lines) + "\n"


CALM_HEALTH = "[health]\ninterval_ms = 1000\ntimeout_ms = 1000\n"
"""A machine that is busy with the measurement is no reason to take a backend out."""


class Bench:
    """Sets modes up, measures, and collects the samples."""

    def __init__(
        self, network: BenchNetwork, lb: str, traffic: str, work_dir: Path, pin_dir: Path
    ) -> None:
        self.network = network
        self.traffic = traffic
        self.balancer = Balancer(lb, work_dir, pin_dir)
        self.samples: dict[str, dict[str, list[float]]] = {}

    # Modes

    @contextlib.contextmanager
    def mode(self, name: str) -> Iterator[None]:
        """The network in a mode, and as it was before afterwards."""
        with contextlib.ExitStack() as undo:
            getattr(self, "_" + name.replace("-", "_"))(undo)
            yield

    def _direct(self, undo: contextlib.ExitStack) -> None:
        self._flows(undo, [])

    def _ovs_nat(self, undo: contextlib.ExitStack) -> None:
        self._flows(undo, self.network.nat_entries())
        undo.callback(self.network.know_vip, False)
        self.network.know_vip(True)

    def _inline_redirect(self, undo: contextlib.ExitStack) -> None:
        self._inline(undo, "redirect")

    def _inline_pass(self, undo: contextlib.ExitStack) -> None:
        undo.callback(self.network.shape, False)
        self.network.shape(True)
        self._inline(undo, "pass")

    def _inline(self, undo: contextlib.ExitStack, way: str) -> None:
        ports = [self.network.port_name(role) for role in (*BACKENDS, CLIENT)]
        self._flows(undo, [])
        self._balance(undo, config_text("inline", "nat", ports, ""))
        self._check_way(way)

    def _onearm_nat(self, undo: contextlib.ExitStack) -> None:
        self._flows(undo, self.network.steering_entries())
        self._balance(undo, self._onearm_config("nat"))

    def _onearm_dsr(self, undo: contextlib.ExitStack) -> None:
        self._flows(undo, [])
        for role in BACKENDS:
            undo.callback(self.network.disown_vip, role)
            own_vip(self.network.node(role), VIP)
        self._balance(undo, self._onearm_config("dsr"))

    def _onearm_config(self, mode: str) -> str:
        return config_text("onearm", mode, [], self.network.node(BALANCER).name)

    def _flows(self, undo: contextlib.ExitStack, entries: Sequence[str]) -> None:
        undo.callback(self.network.set_flows, [])
        self.network.set_flows(entries)

    def _balance(self, undo: contextlib.ExitStack, config: str) -> None:
        self.balancer.config.write_text(config + CALM_HEALTH)
        undo.callback(self._stop_balancer)
        undo.callback(self.network.know_vip, False)
        self.balancer.start()
        self.balancer.wait_up(list(BACKENDS.values()), UP_LIMIT_S)

    def _stop_balancer(self) -> None:
        self.balancer.clean_up()
        shutil.rmtree(self.balancer.run_dir, ignore_errors=True)

    def _check_way(self, way: str) -> None:
        """One request, and it must have left as the mode says."""
        self._traffic("connect", [self._to_vip()], 0.1, "--workers", "1")
        reasons = self.balancer.stats().get("reasons", {})
        count = ways(reasons).get("switch" if way == "pass" else way, 0)
        if not count:
            raise DemoError(f"no packet left by {way}: {json.dumps(reasons)}")

    # Measurements

    @staticmethod
    def _to_vip() -> str:
        return f"{VIP}:{LOAD_PORT}"

    def measure(self, mode: str, metric: str, seconds: float) -> None:
        """One measurement; its figures join the samples of the mode."""
        servers = [f"{address}:{LOAD_PORT}" for address in BACKENDS.values()]
        to = servers if mode == "direct" else [self._to_vip()]
        if metric == "bulk":
            result = self._traffic("bulk", to[:1], seconds)
            self._keep(mode, "bulk", result["bytes"] * 8 / result["seconds"] / 1e9)
        elif metric == "connections":
            result = self._traffic("connect", to, seconds)
            self._no_failures(result)
            self._keep(mode, "connections", result["completed"] / result["seconds"])
        elif metric == "udp":
            control = [f"{address}:{CONTROL_PORT}" for address in BACKENDS.values()]
            rates = []
            for sending in UDP_SENDING:
                result = self._traffic("udp", to[:1], seconds / 2, "--control", ",".join(control), *sending)
                rates.append(result["received"] / result["seconds"])
            self._keep(mode, "udp", max(rates))
        else:
            result = self._traffic("latency", to, seconds, "--rate", str(LATENCY_RATE))
            self._no_failures(result)
            self._keep(mode, "latency_p50", result["p50_us"])
            self._keep(mode, "latency_p99", result["p99_us"])

    @staticmethod
    def _no_failures(result: dict[str, Any]) -> None:
        if result["failed"]:
            raise DemoError(f"{result['failed']} connections failed, {result['completed']} did not")

    def _traffic(
        self, kind: str, to: Sequence[str], seconds: float, *options: str
    ) -> dict[str, Any]:
        """Offer load from the client's host; return what came of it."""
        command = [self.traffic, kind, "--to", ",".join(to), "--seconds", str(seconds), *options]
        value = json.loads(self.network.run(CLIENT, command))
        assert isinstance(value, dict)
        return value

    def _keep(self, mode: str, figure: str, value: float) -> None:
        self.samples.setdefault(mode, {}).setdefault(figure, []).append(value)

    def results(self, modes: Sequence[str]) -> dict[str, Any]:
        """The samples of all modes, and their extremes and middles."""
        return {
            "modes": [
                {"mode": mode, "label": LABELS[mode], "metrics": metrics(self.samples.get(mode, {}))}
                for mode in modes
            ]
        }

    def clean_up(self) -> None:
        """Leave nothing of the balancer behind."""
        self.balancer.clean_up()


def metrics(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Unit, least, middle and largest of each figure that was measured."""
    return {
        figure: summed_up(UNITS[figure], values) for figure, values in samples.items() if values
    }


def summed_up(unit: str, values: Sequence[float]) -> dict[str, Any]:
    """Least, middle and largest of samples."""
    return {
        "unit": unit,
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "samples": list(values),
    }


def ways(reasons: dict[str, Any]) -> dict[str, int]:
    """How many packets left by each way, from the balancer's counters."""
    found = {"redirect": 0, "transmit": 0, "switch": 0}
    for reason, count in reasons.items():
        way = reason.rpartition("_")[2]
        if reason.startswith(("to_backend_", "to_client_")) and way in found:
            found[way] += int(count)
    return found
