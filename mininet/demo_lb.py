"""Drives the balancer's daemon ``lb``: start, ask, kill, detach."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

from demo_net import (
    BACKENDS,
    HTTP_PORT,
    ROUND_ROBIN_VIP,
    UDP_PORT,
    VIP,
    DemoError,
)

READY_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02

ANSI_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def config_text(placement: str, attach: Sequence[str], host: str) -> str:
    """The daemon's configuration: HTTP twice (random and in turn), and UDP.

    The ports to attach to are named, since the daemon would otherwise take
    the ports of every Mininet on the machine.
    """
    mode = "dsr" if placement == "onearm" else "nat"
    vips = (
        ("http", VIP, HTTP_PORT, "tcp", "random"),
        ("echo", VIP, UDP_PORT, "udp", "random"),
        ("http-in-turn", ROUND_ROBIN_VIP, HTTP_PORT, "tcp", "round-robin"),
    )
    blocks = [vip_text(*vip, mode) for vip in vips]
    return "\n".join([*blocks, placement_text(placement, attach, host)])


def vip_text(name: str, address: str, port: int, protocol: str, selection: str, mode: str) -> str:
    """One ``[[vip]]`` with all backends."""
    lines = [
        "[[vip]]",
        f'name = "{name}"',
        f'address = "{address}"',
        f"port = {port}",
        f'protocol = "{protocol}"',
        f'selection = "{selection}"',
        f'mode = "{mode}"',
    ]
    for backend in BACKENDS.values():
        lines += ["[[vip.backend]]", f'address = "{backend}"']
    return "\n".join(lines) + "\n"


def placement_text(placement: str, attach: Sequence[str], host: str) -> str:
    """The ``[placement]`` table."""
    lines = ["[placement]", f'kind = "{placement}"']
    if placement == "onearm":
        lines.append(f'host = "{host}"')
    else:
        ports = ", ".join(f'"{port}"' for port in attach)
        lines.append(f"attach = [{ports}]")
    return "\n".join(lines) + "\n"


class LogFollower:
    """Collects the daemon's log lines, each with the time of its arrival."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, str]] = []
        self._changed = threading.Condition()

    def follow(self, process: subprocess.Popen[bytes]) -> threading.Thread:
        """Read a process's standard error to its end, in the thread returned."""
        thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        thread.start()
        return thread

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for raw in stream:
                now = time.monotonic()
                line = ANSI_SEQUENCE.sub("", raw.decode(errors="replace")).rstrip()
                with self._changed:
                    self._lines.append((now, line))
                    self._changed.notify_all()

    def mark(self) -> int:
        """A position: lines that come later are behind it."""
        with self._changed:
            return len(self._lines)

    def find(self, pattern: str, since: int = 0) -> Optional[float]:
        """When the first line after ``since`` that matches came, or None."""
        with self._changed:
            lines = self._lines[since:]
        return next((at for at, line in lines if re.search(pattern, line)), None)

    def tail(self, count: int) -> list[str]:
        """The last ``count`` lines."""
        with self._changed:
            return [line for _at, line in self._lines[-count:]]


class Balancer:
    """One balancer with its own run folder and pins, apart from all others."""

    def __init__(
        self, binary: str, work_dir: Path, pin_dir: Path, options: Sequence[str] = ()
    ) -> None:
        self.options = list(options)
        self.run_dir = work_dir / "lb"
        self.pin_dir = pin_dir
        self.config = work_dir / "lb.toml"
        self.log = LogFollower()
        self._base = [binary, "--run-dir", str(self.run_dir), "--pin-dir", str(pin_dir)]
        self._process: Optional[subprocess.Popen[bytes]] = None

    @property
    def socket(self) -> Path:
        """The daemon's socket."""
        return self.run_dir / "lb.sock"

    @property
    def pid(self) -> Optional[int]:
        """The daemon's process, while there is one."""
        return None if self._process is None else self._process.pid

    def mode(self, to: str) -> str:
        """Let XDP or flow entries balance; what was done, in one line."""
        return self._ask("mode", to).strip()

    def reload(self) -> None:
        """Let the daemon read its file again."""
        self._ask("reload")

    def command(self, *arguments: str) -> str:
        """What a person would type to ask this balancer."""
        return " ".join([*self._base, *arguments])

    # The daemon's life

    def start(self) -> float:
        """Run the daemon and wait until it is ready; return the seconds."""
        began = time.monotonic()
        mark = self.log.mark()
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        self._process = subprocess.Popen(
            [*prefix, *self._base, "run", "--config", str(self.config), *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
            start_new_session=True,
        )
        self.log.follow(self._process)
        self._wait_ready(mark)
        return time.monotonic() - began

    def _wait_ready(self, mark: int) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self.log.find(r"\bready\b", mark) is None:
            status = self._process.poll()
            if status is not None:
                time.sleep(0.1)  # lets the last lines of the log arrive
                last = (self.log.tail(1) or ["(it logged nothing)"])[0]
                raise DemoError(f"lb run ended with status {status}: {last}")
            if time.monotonic() > deadline:
                raise DemoError(f"lb run was not ready within {READY_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """Kill the daemon with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> int:
        """Stop the daemon with SIGTERM; return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise DemoError(f"lb did not stop within {STOP_TIMEOUT_S:.0f} s of SIGTERM") from None

    def detach(self) -> None:
        """Undo everything that the daemon attached."""
        self._ask("detach")

    def clean_up(self) -> None:
        """Leave nothing behind, whatever happened before."""
        self.kill()
        if not self.pin_dir.exists():
            return
        try:
            subprocess.run([*self._base, "detach"], capture_output=True, timeout=COMMAND_TIMEOUT_S)
        finally:
            shutil.rmtree(self.pin_dir, ignore_errors=True)

    # Questions

    def _ask(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._base, *arguments], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
        )
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip().replace("\n", "; ")
            raise DemoError(f"lb {' '.join(arguments)}: {reason}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """``lb status --json``."""
        return parse_object(self._ask("status", "--json"), "lb status")

    def stats(self) -> dict[str, Any]:
        """``lb stats --json``."""
        return parse_object(self._ask("stats", "--json"), "lb stats")

    def wait_until(
        self, what: str, condition: Callable[[dict[str, Any]], bool], limit_s: float
    ) -> float:
        """Poll the status until ``condition`` holds; return when it did.

        Times are those of ``time.monotonic``.
        """
        deadline = time.monotonic() + limit_s
        while True:
            met = condition(self.status())
            now = time.monotonic()
            if met:
                return now
            if now > deadline:
                raise DemoError(f"{what}: not within {limit_s:.0f} s")
            time.sleep(POLL_S)

    def wait_up(self, addresses: Sequence[str], limit_s: float) -> float:
        """Wait until backends are in rotation; return when they were."""
        return self.wait_until(
            f"{', '.join(addresses)} up",
            lambda status: all(in_rotation(status, address) is True for address in addresses),
            limit_s,
        )

    def wait_out(self, address: str, mark: int, limit_s: float) -> float:
        """Wait until a backend is out of rotation; return when it was.

        The daemon logs a backend's death after it swapped the tables, so the
        arrival of that line and the first status that says so are both upper
        bounds; the earlier one is returned, and there must be such a status.
        """
        seen = self.wait_until(
            f"{address} out of rotation",
            lambda status: in_rotation(status, address) is False,
            limit_s,
        )
        logged = self.log.find(rf"backend {re.escape(address)} down", mark)
        return seen if logged is None else min(seen, logged)


# Reading answers


def parse_object(text: str, source: str) -> dict[str, Any]:
    """Parse a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DemoError(f"{source} printed no JSON: {error}") from None
    if not isinstance(value, dict):
        raise DemoError(f"{source} printed no JSON object")
    return value


def backend_states(status: dict[str, Any], address: str) -> list[str]:
    """The states of a backend in each of its VIPs."""
    return [
        str(backend.get("state"))
        for vip in status.get("vips", [])
        for backend in vip.get("backends", [])
        if backend.get("address") == address
    ]


def in_rotation(status: dict[str, Any], address: str) -> Optional[bool]:
    """True if a backend is up in all its VIPs, False if in none, else None.

    A status that does not name the backend says nothing about it.
    """
    states = backend_states(status, address)
    if not states:
        return None
    up = sum(state == "up" for state in states)
    if up == 0:
        return False
    return True if up == len(states) else None


def forwarded_packets(stats: dict[str, Any]) -> int:
    """Packets that XDP forwarded for all VIPs."""
    return sum(int(vip.get("forwarded", 0)) for vip in stats.get("vips", []))
