"""One network, two balancers: moved between XDP and flow entries while a download runs.

Needs root, Open vSwitch running, and the binaries ``lb`` and ``ofshim``::

    /usr/bin/python3 mininet/mode_demo.py
    /usr/bin/python3 mininet/mode_demo.py --moves 6 --openflow 1.0

h1 and h2 serve a page and a big file, h3 downloads the file slowly through the
VIP, and h4 to h6 ask for the page after each ``lb mode openflow`` and ``lb mode
xdp``. At the end the file has to be whole.

Exit status: 0 if everything came as it should, 1 if not (each miss is named),
2 if it cannot be run here. Everything is cleaned up in every case.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Sequence

from demo import PIN_ROOT, CannotRun, Interrupted, check_machine, on_signal
from experiment import STATUS_CANNOT_RUN, Parser, built

if TYPE_CHECKING:
    from demo_lb import Balancer
    from demo_net import Network

STATUS_MISSED = 1
WORK_PREFIX = "lb-mode-"
FILE_BYTES = 4 << 20
RATE = "512k"
"""Bytes a second of the download: eight seconds for the file."""

UP_TIMEOUT_S = 20.0
KNOWN_TIMEOUT_S = 20.0
DOWNLOAD_TIMEOUT_S = 60.0
REQUESTS = 6
MODES = ("openflow", "xdp")


def move_count(text: str) -> int:
    """Parse ``--moves``."""
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text}: use a number from 1 to 100")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="mode_demo", description=__doc__.splitlines()[0])
    result.add_argument("--lb", metavar="PATH", help="the binary lb (default: in target/)")
    result.add_argument("--ofshim", metavar="PATH", help="the binary ofshim (default: in target/)")
    result.add_argument(
        "--openflow", choices=("1.0", "1.3"), default="1.3", help="OpenFlow version (%(default)s)"
    )
    result.add_argument(
        "--moves", type=move_count, default=4, metavar="N", help="moves (%(default)s)"
    )
    return result


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Check the arguments and the machine, then run."""
    args = parser().parse_args(argv)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, on_signal)
    try:
        args.lb, args.ofshim = built("lb", args.lb), built("ofshim", args.ofshim)
        check_machine()
        return run_demo(args)
    except CannotRun as error:
        print(f"mode_demo: {error}", file=sys.stderr)
        return STATUS_CANNOT_RUN
    except Interrupted as error:
        name = signal.Signals(error.signum).name
        print(f"mode_demo: ended by {name}, cleaned up", file=sys.stderr)
        return 128 + error.signum


def run_demo(args: argparse.Namespace) -> int:
    """Build the network, move it to and fro, and clean up."""
    # Only here: these modules need Mininet, which was just looked for.
    from mininet.log import setLogLevel

    from demo_lb import Balancer
    from demo_net import DemoError, Network, free_tag
    from demo_run import ignore_signals, quietly, sweep
    from lb_mininet import SetupError

    setLogLevel("output")
    sweep(Path(tempfile.gettempdir()), PIN_ROOT, WORK_PREFIX)
    tag = free_tag()
    if tag is None:
        raise CannotRun("the names s1, s1a ... s1z are all taken: end another Mininet")
    with contextlib.ExitStack() as stack:
        work_dir = Path(tempfile.mkdtemp(prefix=f"{WORK_PREFIX}{os.getpid()}-"))
        stack.callback(shutil.rmtree, work_dir, ignore_errors=True)
        network = Network(work_dir, args.openflow, "inline", tag)
        stack.callback(quietly, network.stop)
        options = ["--ofshim-dir", str(work_dir / "ofshim")]
        balancer = Balancer(args.lb, work_dir, PIN_ROOT / work_dir.name, options)
        stack.callback(quietly, balancer.clean_up)
        stack.callback(ignore_signals)
        try:
            misses = steps(args, network, balancer)
        except (DemoError, SetupError, subprocess.SubprocessError, OSError) as error:
            misses = [f"broke off: {error}"]
        for miss in misses:
            print(f"miss: {miss}", file=sys.stderr)
        return STATUS_MISSED if misses else 0


def steps(args: argparse.Namespace, network: Network, balancer: Balancer) -> list[str]:
    """The demonstration; what did not come as it should."""
    from demo_lb import config_text
    from demo_net import BACKENDS, VIP, DemoError

    network.start(args.ofshim, balancer.socket)
    content = network.write_content(FILE_BYTES)
    for role in BACKENDS:
        network.start_servers(role)
    balancer.config.write_text(config_text("inline", network.switch_ports(), ""))
    balancer.start()
    balancer.wait_up(list(BACKENDS.values()), UP_TIMEOUT_S)
    deadline = time.monotonic() + KNOWN_TIMEOUT_S
    while "says the balancer's daemon" not in who(args, network):
        if time.monotonic() > deadline:
            raise DemoError("ofshim does not know the balancer")
        time.sleep(0.1)
    target = network.work_dir / "download"
    began = time.monotonic()
    download = network.start_download("h3", target, RATE)
    misses = []
    for number in range(args.moves):
        to = MODES[number % len(MODES)]
        print(f"$ lb mode {to}\n{balancer.mode(to)}", flush=True)
        print(f"ofshim: {who(args, network)}")
        answers = network.get_many(REQUESTS, VIP)
        print(f"{REQUESTS} requests answered by {' '.join(answer or '-' for answer in answers)}")
        size = target.stat().st_size if target.exists() else 0
        print(f"download: {size * 100 // FILE_BYTES} %", flush=True)
        if None in answers:
            misses.append(f"a request was not answered in mode {to}")
        time.sleep(1.0)
    status = download.wait(timeout=DOWNLOAD_TIMEOUT_S)
    whole = status == 0 and target.read_bytes() == content
    print(f"download: {'whole' if whole else 'broken'} after {time.monotonic() - began:.1f} s")
    if not whole:
        misses.append(f"the download is broken: curl ended with {status}")
    return misses


def who(args: argparse.Namespace, network: Network) -> str:
    """What ``ofshim status`` says of who balances."""
    from demo_net import run

    folder = str(network.work_dir / "ofshim")
    lines = run([args.ofshim, "--run-dir", folder, "status"]).splitlines()
    return next((line.strip() for line in lines if "balanced by" in line), "balanced by nobody known")


if __name__ == "__main__":
    sys.exit(main())
