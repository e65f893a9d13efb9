"""The samples of the comparison, and why a mode has none. Pure."""

from __future__ import annotations

import re
from typing import Any, Optional, Sequence

from bench_modes import summed_up
from compare_modes import BY_NAME

UNITS = {
    "load_last_good": "1/s",
    "load_breaks_at": "1/s",
    "load_completed": "1/s",
    "load_delay": "ms",
    "latency_p50": "us",
    "latency_p99": "us",
    "bulk": "Gbit/s",
    "udp": "packets/s",
    "packet_ins": "1/connection",
    "entries_before": "entries",
    "entries_max": "entries",
    "entries_after": "entries",
    "entries_back": "s",
    "cpu_controller": "% of a processor",
    "cpu_switch": "% of a processor",
    "cpu_balancer": "% of a processor",
    "cpu_machine": "% of a processor",
    "memory_controller": "MiB",
    "memory_switch": "MiB",
    "memory_balancer": "MiB",
    "memory_kernel": "MiB",
    "dead_backend": "s",
    "churn_flows": "connections",
    "broken_before": "connections",
    "broken_scale_out": "connections",
    "broken_scale_in": "connections",
}
"""The figures of a mode with their units, beside those of each offered rate."""

RATE_UNITS = {"offered": "connections", "completed": "connections", "failed": "connections"}
RATE_UNITS |= {"p50": "ms", "p99": "ms"}
"""What is told of each offered rate, as ``load_800_p99``."""


def unit(metric: str) -> str:
    """The unit of a figure."""
    at_rate = re.fullmatch(r"load_\d+_([a-z0-9]+)", metric)
    return RATE_UNITS[at_rate[1]] if at_rate else UNITS[metric]


class Results:
    """Samples by mode and figure; for what could not be had, the reason."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[str, list[float]]] = {}
        self._reasons: dict[str, dict[str, str]] = {}
        self._commands: dict[str, list[str]] = {}

    def keep(self, mode: str, metric: str, value: Optional[float], reason: str = "") -> None:
        """A sample, or that there is none and why."""
        if value is None:
            self._reasons.setdefault(mode, {})[metric] = reason
        else:
            self._samples.setdefault(mode, {}).setdefault(metric, []).append(value)

    def could_not(self, mode: str, reason: str) -> None:
        """Nothing could be measured in a round."""
        for metric in UNITS:
            self._reasons.setdefault(mode, {}).setdefault(metric, reason)

    def did(self, mode: str, commands: Sequence[str]) -> None:
        """The commands of a mode; those of its first round are kept."""
        self._commands.setdefault(mode, list(commands))

    def modes(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Everything, summed up."""
        return [
            {
                "mode": name,
                "label": BY_NAME[name].label,
                "commands": self._commands.get(name, []),
                "metrics": self._metrics(name),
            }
            for name in names
        ]

    def _metrics(self, mode: str) -> dict[str, Any]:
        samples = self._samples.get(mode, {})
        reasons = self._reasons.get(mode, {})
        at_rates = [metric for metric in samples if metric not in UNITS]
        found = {}
        for metric in (*UNITS, *at_rates):
            if samples.get(metric):
                found[metric] = summed_up(unit(metric), samples[metric])
            else:
                empty = {"unit": unit(metric), "min": None, "median": None, "max": None}
                found[metric] = {**empty, "reason": reasons.get(metric, "not measured")}
        return found
