"""What is measured in a mode, one thing after the other."""

from __future__ import annotations

import json
import select
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import compare_meter as meter
from bench_net import CONTROL_PORT, UDP_SENDING
from compare_modes import CHURN_FIGURES
from compare_names import Settings
from compare_results import Results
from compare_scene import BACKENDS, POOL, SPARE, Scene
from demo_net import DemoError
from demo_lb import parse_object

LATENCY_RATE = 100
"""Requests a second while the latency of one is measured: nobody waits for another."""

STEADY_RATE = 400
"""Connections a second while processor time is measured, the same for all."""

ASKED_RATE = 800
"""A rate at which every mode is measured, whether it bears it or not."""

FIRST_RATE = 100
OVS_COUNTS_S = 1.5
"""The switch counts what its datapath did within this time."""

SETTLE_S = 1.0
"""Until what the set-up makes is in the switch."""

DEAD_RATE = 100
DEAD_SEGMENT_S = 3.0
ENTRIES_LIMIT_S = 45.0
VICTIM = "h2"
OVS_PID = Path("/var/run/openvswitch/ovs-vswitchd.pid")

Progress = Callable[[str], None]


def measure_mode(
    scene: Scene, wanted: Settings, results: Results, progress: Progress
) -> list[str]:
    """Everything; return what could not be measured, beside what the mode has not."""
    measure = Measure(scene, wanted, results)
    time.sleep(SETTLE_S)
    measure.entries_before = measure.entries()
    scene.wait_answering("the backends answer to the VIP", set(POOL))
    failed = []
    for what, metrics, step in measure.steps():
        if all(metric in scene.mode.without for metric in metrics):
            continue
        progress(what)
        try:
            step()
        except (DemoError, subprocess.SubprocessError, OSError) as error:
            failed.append(f"{what}: {error}")
            progress(failed[-1])
            for metric in metrics:
                results.keep(scene.mode.name, metric, None, str(error))
    for metric, reason in scene.mode.without.items():
        results.keep(scene.mode.name, metric, None, reason)
    results.did(scene.mode.name, scene.commands)
    return failed


class Measure:
    """The measurements of a scene."""

    def __init__(self, scene: Scene, wanted: Settings, results: Results) -> None:
        self.scene = scene
        self.wanted = wanted
        self.results = results
        self.entries_before = 0
        self._most_entries = 0

    def steps(self) -> Iterator[tuple[str, tuple[str, ...], Callable[[], None]]]:
        """Name, figures and action of each measurement, in order."""
        entries = ("entries_before", "entries_max", "entries_after", "entries_back")
        cpu = ("packet_ins", "cpu_controller", "cpu_switch", "cpu_balancer", "cpu_machine")
        memory = ("memory_controller", "memory_switch", "memory_balancer", "memory_kernel")
        climb = ("load_last_good", "load_breaks_at", "load_completed", "load_delay")
        yield "latency of a request", ("latency_p50", "latency_p99"), self.latency
        yield "TCP bulk", ("bulk",), self.bulk
        yield "UDP", ("udp",), self.udp
        yield "steady load", cpu, self.steady
        yield "rising load", climb, self.climb
        yield "memory", memory, self.memory
        yield "flow entries", entries, self.entries_return
        yield "a backend dies", ("dead_backend",), self.dead_backend
        if self.wanted.flows:
            yield "the pool grows and shrinks", CHURN_FIGURES, self.churn
        else:
            for metric in CHURN_FIGURES:
                self.keep(metric, None, "not asked for")

    def keep(self, metric: str, value: Optional[float], reason: str = "") -> None:
        """A sample, unless the mode cannot have it."""
        if metric not in self.scene.mode.without:
            self.results.keep(self.scene.mode.name, metric, value, reason)

    def seconds(self, factor: float = 1.0) -> tuple[str, str]:
        """The option for the time of a measurement."""
        return ("--seconds", str(self.wanted.seconds * factor))

    # Traffic

    def latency(self) -> None:
        """How long one request takes when there is hardly another."""
        rate = ("--rate", str(LATENCY_RATE), "--spacing", "fixed")
        result = self.scene.offer("open", *rate, *self.seconds())
        if not result["completed"]:
            raise DemoError(f"no request was answered: {json.dumps(result['failures'])}")
        self.keep("latency_p50", result["p50_us"])
        self.keep("latency_p99", result["p99_us"])

    def bulk(self) -> None:
        """Bytes of one connection that arrived."""
        result = self.scene.traffic("bulk", self.wanted.seconds)
        self.keep("bulk", result["bytes"] * 8 / result["seconds"] / 1e9)

    def udp(self) -> None:
        """Datagrams of one flow that arrived."""
        control = ",".join(f"{address}:{CONTROL_PORT}" for address in BACKENDS.values())
        rates = []
        for sending in UDP_SENDING:
            result = self.scene.traffic("udp", self.wanted.seconds / 2, "--control", control, *sending)
            rates.append(result["received"] / result["seconds"])
        self.keep("udp", max(rates))

    # Connections at a rate

    def steady(self) -> None:
        """The same load for all: what it costs whom."""
        scene = self.scene
        pids = self.pids()
        packet_ins = self.packet_ins()
        before = {name: self.spent(pid) for name, pid in pids.items()}
        began = time.monotonic()
        with self.watched_entries():
            load = ("--rate", str(STEADY_RATE), *self.seconds(2))
            result = scene.offer("open", *load)
        took = time.monotonic() - began
        spent = {name: self.spent(pid) - before[name] for name, pid in pids.items()}
        for name, seconds in spent.items():
            self.keep(f"cpu_{name}", 100 * seconds / took)
        for name in ("controller", "balancer"):
            if name not in pids:
                self.keep(f"cpu_{name}", None, "no such process")
        if not result["completed"]:
            raise DemoError(f"no connection was answered: {json.dumps(result['failures'])}")
        if packet_ins is not None:
            more = (self.packet_ins() or 0) - packet_ins
            self.keep("packet_ins", more / result["completed"])

    def pids(self) -> dict[str, Optional[int]]:
        """Processes by their part; None is the whole machine."""
        found: dict[str, Optional[int]] = {"switch": switch_pid(), "machine": None}
        controller = self.scene.controller
        if controller is not None and controller.process is not None:
            found["controller"] = controller.process.pid
        if self.scene.balancer.pid is not None:
            found["balancer"] = self.scene.balancer.pid
        return found

    @staticmethod
    def spent(pid: Optional[int]) -> float:
        """Seconds of processor time that a process, or the machine, has used."""
        if pid is None:
            return meter.machine_seconds(Path("/proc/stat").read_text())
        return meter.process_seconds(meter.read_process(pid, "stat"))

    def packet_ins(self) -> Optional[int]:
        """Packets that the switch has sent to its controller."""
        if self.scene.controller is None:
            return None
        if self.scene.controller.program == "POX":
            time.sleep(OVS_COUNTS_S)
            return meter.missed_packets(self.scene.entry_dump("dump-tables"))
        metrics = self.scene.ask_ofshim("metrics")
        return meter.metric_sum(metrics, "ofshim_switch_packet_ins_total")

    def climb(self) -> None:
        """Rising load until it breaks."""
        with self.watched_entries():
            rates = ("--first", str(FIRST_RATE), "--most", str(self.wanted.most))
            result = self.scene.offer("step", *rates, *self.seconds())
            steps = {round(step["rate"]): step for step in result["steps"]}
            if ASKED_RATE not in steps:
                load = ("--rate", str(ASKED_RATE), *self.seconds())
                steps[ASKED_RATE] = self.scene.offer("open", *load)
        for rate, step in steps.items():
            if is_doubled(rate):
                self.keep_rate(rate, step)
        good, broken = result["last_good"], result["breaking"]
        self.keep("load_last_good", good and good["rate"], "the first rate broke already")
        self.keep("load_breaks_at", broken and broken["rate"], "no rate that was offered broke")
        most = max((step["completed_per_s"] or 0.0) for step in steps.values())
        self.keep("load_completed", most)
        delay_us = steps[ASKED_RATE]["start_delay_p99_us"]
        self.keep("load_delay", delay_us and delay_us / 1e3, "nothing was offered")

    def keep_rate(self, rate: int, step: dict[str, Any]) -> None:
        """What came of one offered rate."""
        for figure in ("offered", "completed", "failed"):
            self.keep(f"load_{rate}_{figure}", step[figure])
        for figure in ("p50", "p99"):
            time_us = step[f"{figure}_us"]
            value = None if time_us is None else time_us / 1e3
            self.keep(f"load_{rate}_{figure}", value, "nothing was completed")

    # Memory and entries

    def memory(self) -> None:
        """Memory after the load."""
        for name, pid in self.pids().items():
            if pid is not None:
                status = meter.read_process(pid, "status")
                self.keep(f"memory_{name}", meter.resident_mib(status))
        if self.scene.balancer.pid is not None:
            pins = self.scene.balancer.status()["pins"]
            total = sum(int(item["memory_bytes"]) for kind in ("programs", "maps") for item in pins[kind])
            self.keep("memory_kernel", total / 2**20)

    def entries(self) -> int:
        """Flow entries in the switch now."""
        return meter.entry_count(self.scene.entry_dump("dump-aggregate"))

    @contextmanager
    def watched_entries(self) -> Iterator[None]:
        """Look how many entries there are, meanwhile."""
        with meter.Most(self.entries) as most:
            yield
        self._most_entries = max(self._most_entries, most.most())

    def entries_return(self) -> None:
        """How long after the load the switch has as many entries as before."""
        began = time.monotonic()
        while (now := self.entries()) > self.entries_before:
            if time.monotonic() - began > ENTRIES_LIMIT_S:
                break
            time.sleep(meter.SAMPLE_S)
        took = time.monotonic() - began
        back = took if now <= self.entries_before else None
        self.keep("entries_before", self.entries_before)
        self.keep("entries_max", self._most_entries)
        self.keep("entries_after", now)
        self.keep("entries_back", back, f"not within {ENTRIES_LIMIT_S:.0f} s")

    # Backends that go and come

    def dead_backend(self) -> None:
        """A backend hangs: how long does it get new connections?"""
        scene = self.scene
        limit_s = scene.mode.dead_limit_s
        options = ("--rate", str(DEAD_RATE), "--seconds", str(DEAD_SEGMENT_S))
        segment = scene.start_offer("alive", *options)
        time.sleep(0.5)
        dead_ns = scene.mute(VICTIM)
        last_ns = dead_ns
        try:
            while True:
                result = scene.finish_offer(segment)
                if result["last_failed_ns"] is None and result["begin_ns"] > dead_ns:
                    break
                last_ns = max(last_ns, result["last_failed_ns"] or 0)
                if time.monotonic_ns() - dead_ns > limit_s * 1e9:
                    self.keep("dead_backend", None, f"not within {limit_s:.0f} s")
                    return
                segment = scene.start_offer("alive", *options)
            self.keep("dead_backend", (last_ns - dead_ns) / 1e9)
        finally:
            scene.heal(VICTIM)
            scene.mode.revive(scene, VICTIM)

    def churn(self) -> None:
        """Open connections while the pool grows by a third, and shrinks again."""
        scene, wanted = self.scene, self.wanted
        scene.wait_answering("the backend that had died answers again", set(POOL))
        hold = ("--flows", str(wanted.flows), "--seconds", str(wanted.churn_seconds))
        process = scene.start_offer("churn", *hold)
        opened = first_line(process, limit_s=60 + wanted.flows / 100)
        began = time.monotonic()
        grown_ns = self.change(began, 1 / 6, scene.mode.grow, {*POOL, SPARE}, "the pool grows")
        shrunk_ns: Optional[int] = None
        if "broken_scale_in" not in scene.mode.without:
            shrunk_ns = self.change(began, 7 / 12, scene.mode.shrink, set(POOL), "the pool shrinks")
        result = scene.finish_offer(process)
        times = [at for at, _reason in result["broken_at"]]
        end_ns = shrunk_ns or time.monotonic_ns()
        self.keep("churn_flows", opened["opened"])
        self.keep("broken_before", sum(at < grown_ns for at in times))
        self.keep("broken_scale_out", sum(grown_ns <= at < end_ns for at in times))
        self.keep("broken_scale_in", sum(end_ns <= at for at in times))

    def change(
        self, began: float, share: float, act: Callable[[Scene], None], roles: set[str], what: str
    ) -> int:
        """Change the pool at a time, wait for its effect; return when it began."""
        time.sleep(max(0.0, began + share * self.wanted.churn_seconds - time.monotonic()))
        at_ns = time.monotonic_ns()
        act(self.scene)
        self.scene.wait_answering(what, roles)
        return at_ns


def is_doubled(rate: int) -> bool:
    """Whether a rate is one of those that every mode is offered."""
    while rate > FIRST_RATE and rate % 2 == 0:
        rate //= 2
    return rate == FIRST_RATE


def switch_pid() -> int:
    """The process of Open vSwitch that forwards."""
    try:
        return int(OVS_PID.read_text())
    except (OSError, ValueError):
        raise DemoError(f"{OVS_PID} does not name the switch's process") from None


def first_line(process: subprocess.Popen[bytes], limit_s: float) -> dict[str, Any]:
    """The first line that a process prints, as an object."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], limit_s)
    if not ready:
        raise DemoError(f"bench-load: its connections were not open within {limit_s:.0f} s")
    return parse_object(process.stdout.readline().decode(), "bench-load")
