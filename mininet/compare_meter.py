"""Reads what a measurement is about beside the traffic: processor time, memory,
flow entries, packet-ins."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Callable, Optional

from demo_net import DemoError

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.25


def process_seconds(stat: str) -> float:
    """Read ``/proc/PID/stat``: processor time of the process, user and system."""
    # The name, in parentheses, may hold blanks and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def machine_seconds(stat: str) -> float:
    """Read ``/proc/stat``: the time that processors were not idle."""
    fields = stat.splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def resident_mib(status: str) -> float:
    """Read ``/proc/PID/status``: memory that the process has now."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise DemoError("a process does not say how much memory it has")
    return int(found[1]) / 1024


def entry_count(aggregate: str) -> int:
    """Read ``ovs-ofctl dump-aggregate``: flow entries of all tables."""
    found = re.search(r"\bflow_count=(\d+)", aggregate)
    if found is None:
        raise DemoError(f"the switch does not count its entries: {aggregate.strip()}")
    return int(found[1])


def metric_sum(metrics: str, family: str) -> int:
    """Read Prometheus' text format: the sum of a family."""
    values = re.findall(rf"^{re.escape(family)}(?:{{[^}}]*}})? ([0-9.e+]+)$", metrics, re.MULTILINE)
    if not values:
        raise DemoError(f"the controller does not tell {family}")
    return int(sum(map(float, values)))


def missed_packets(tables: str) -> int:
    """Read ``ovs-ofctl dump-tables`` of a 1.0 switch: packets that no entry
    matched, each of which went to the controller."""
    found = re.findall(r"lookup=(\d+), matched=(\d+)", tables)
    if not found:
        raise DemoError("the switch does not count its look-ups")
    lookups, matched = found[0]
    return int(lookups) - int(matched)


def read_process(pid: int, name: str) -> str:
    """A file of a process in ``/proc``."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise DemoError(f"process {pid} has ended: {error.strerror}") from None


class Most:
    """The largest of samples that a thread takes while something else runs."""

    def __init__(self, sample: Callable[[], int]) -> None:
        self.value: Optional[int] = None
        self._sample = sample
        self._ended = threading.Event()
        self._error: Optional[Exception] = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Most":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.value = max(self._sample(), self.value or 0)
            except Exception as error:
                self._error = error
                return
            if self._ended.wait(SAMPLE_S):
                return

    def most(self) -> int:
        """What it was; fails as the sampling did."""
        if self._error is not None:
            raise DemoError(f"sampling broke off: {self._error}")
        assert self.value is not None
        return self.value
