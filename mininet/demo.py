"""The seed experiment with XDP: one command shows what the balancer does.

Needs root, Open vSwitch running, and the binaries ``lb`` and ``ofshim``::

    /usr/bin/python3 mininet/demo.py --lb target/release/lb \\
        --ofshim target/release/ofshim

Progress goes to standard error. Exit status: 0 if every condition holds, 1 if
one does not (each is named on its own line), 2 if the demonstration cannot be
run here. Everything is cleaned up in every case.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn, Optional, Sequence

PIN_ROOT = Path("/sys/fs/bpf")
TOOLS = ("ovs-vsctl", "ovs-ofctl", "mnexec", "ip", "ss", "ethtool", "ping", "curl")
STATUS_CANNOT_RUN = 2


class CannotRun(Exception):
    """The demonstration cannot be run here; says why and the mend."""


class Interrupted(BaseException):
    """A signal asked the demonstration to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Parser(argparse.ArgumentParser):
    """Answers wrong arguments with one line."""

    def error(self, message: str) -> NoReturn:
        """Print the reason and end with status 2."""
        self.exit(STATUS_CANNOT_RUN, f"demo: {message}; see --help\n")


def request_count(text: str) -> int:
    """Parse ``--requests``: enough that both backends can be used."""
    if not (text.isdecimal() and 2 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError(f"{text}: use a number from 2 to 100000")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="demo", description=__doc__.splitlines()[0])
    result.add_argument("--lb", required=True, metavar="PATH", help="the balancer's binary")
    result.add_argument("--ofshim", required=True, metavar="PATH", help="the controller's binary")
    result.add_argument(
        "--json", action="store_true", help="print the results as one object on standard output"
    )
    result.add_argument("--keep", action="store_true", help="open Mininet's prompt at the end")
    result.add_argument(
        "--openflow", choices=("1.0", "1.3"), default="1.3", help="OpenFlow version (%(default)s)"
    )
    result.add_argument(
        "--placement",
        choices=("inline", "onearm"),
        default="inline",
        help="balance on the switch's ports, or on the NIC of a seventh host by layer-2 DSR",
    )
    result.add_argument(
        "--requests",
        type=request_count,
        default=40,
        metavar="N",
        help="HTTP requests to the VIP (%(default)s)",
    )
    return result


# Is everything there?


def executable(path: str) -> str:
    """Return ``path`` as an absolute path to a program."""
    absolute = os.path.abspath(path)
    if not (os.path.isfile(absolute) and os.access(absolute, os.X_OK)):
        raise CannotRun(
            f"{path} is not a program: build it with 'cargo build --release -p lb-user -p ofshim'"
        )
    return absolute


def check_machine() -> None:
    """Fail with one line if something is missing here."""
    if os.geteuid() != 0:
        raise CannotRun("root is needed to make namespaces: run it with sudo")
    if find_spec("mininet") is None or find_spec("mininet.net") is None:
        raise CannotRun(f"{sys.executable} has no Mininet; 'cargo xtask setup' installs it")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise CannotRun(f"{', '.join(missing)} not found; 'cargo xtask setup' installs it")
    if not is_bpffs(Path("/proc/mounts").read_text(), PIN_ROOT):
        raise CannotRun(f"no BPF file system: run 'mount -t bpf bpf {PIN_ROOT}'")
    shown = subprocess.run(["ovs-vsctl", "-t", "5", "show"], capture_output=True)
    if shown.returncode != 0:
        raise CannotRun(
            "Open vSwitch is not running: run '/usr/share/openvswitch/scripts/ovs-ctl start'"
        )


def is_bpffs(mounts: str, folder: Path) -> bool:
    """Read ``/proc/mounts``: is a BPF file system mounted on ``folder``?"""
    fields = (line.split() for line in mounts.splitlines())
    return any(field[1:3] == [str(folder), "bpf"] for field in fields)


def on_signal(signum: int, _frame: Optional[FrameType]) -> NoReturn:
    """Turn a signal into an exception of the main thread."""
    raise Interrupted(signum)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Check the arguments and the machine, then run."""
    args = parser().parse_args(argv)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, on_signal)
    try:
        args.lb, args.ofshim = executable(args.lb), executable(args.ofshim)
        check_machine()
        # Only here: these modules need Mininet, which was just looked for.
        from demo_run import run_demo

        return run_demo(args, PIN_ROOT)
    except CannotRun as error:
        print(f"demo: {error}", file=sys.stderr)
        return STATUS_CANNOT_RUN
    except Interrupted as error:
        name = signal.Signals(error.signum).name
        print(f"demo: ended by {name}, cleaned up", file=sys.stderr)
        return 128 + error.signum


if __name__ == "__main__":
    sys.exit(main())
