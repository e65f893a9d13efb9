"""Traffic through the balancer in Mininet, beside static entries of the switch.

``cargo xtask bench mininet`` builds what this needs and shows the result::

    /usr/bin/python3 mininet/bench.py --lb target/release/lb \\
        --traffic target/release/bench-traffic --rounds 5

Needs root and Open vSwitch running. In every round each mode is set up,
measured and taken down again. Progress goes to standard error, the samples as
one JSON object to standard output. Exit status: 0, 1 if something could not
be measured, 2 if nothing can be measured here. Everything is cleaned up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional, Sequence

from bench_cli import (
    STATUS_INCOMPLETE,
    Parser,
    duration,
    mode_list,
    round_count,
    run_main,
    say,
)
from demo import PIN_ROOT, CannotRun, check_machine, executable

MODES = ("direct", "ovs-nat", "inline-redirect", "inline-pass", "onearm-nat", "onearm-dsr")
"""The modes, in the order in which a round has them."""

METRICS = ("bulk", "connections", "udp", "latency")
"""The measurements of a mode."""

WORK_PREFIX = "lb-bench-"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="bench", description=__doc__.splitlines()[0])
    result.add_argument("--lb", required=True, metavar="PATH", help="the balancer's binary")
    result.add_argument("--traffic", required=True, metavar="PATH", help="the binary bench-traffic")
    result.add_argument(
        "--rounds", type=round_count, default=5, metavar="N", help="rounds (%(default)s)"
    )
    result.add_argument(
        "--seconds",
        type=duration,
        default=3.0,
        metavar="S",
        help="seconds of each measurement (%(default)s)",
    )
    result.add_argument(
        "--modes",
        type=mode_list(MODES),
        default=list(MODES),
        metavar="LIST",
        help=f"of {','.join(MODES)}",
    )
    return result


def run_bench(args: argparse.Namespace) -> int:
    """Build the network, measure, clean up, print."""
    # Only here: these modules need Mininet, which was looked for before.
    from mininet.log import setLogLevel

    from bench_net import BenchNetwork, machine
    from bench_modes import Bench
    from demo_net import free_tag
    from demo_run import ignore_signals, quietly, sweep

    tag = free_tag()
    if tag is None:
        raise CannotRun("the names s1, s1a ... s1z are all taken: end another Mininet")
    setLogLevel("output")
    before = machine()
    with contextlib.ExitStack() as stack:
        sweep(Path(tempfile.gettempdir()), PIN_ROOT, WORK_PREFIX)
        work_dir = Path(tempfile.mkdtemp(prefix=f"{WORK_PREFIX}{os.getpid()}-"))
        stack.callback(shutil.rmtree, work_dir, ignore_errors=True)
        network = BenchNetwork(work_dir, tag)
        stack.callback(quietly, network.stop)
        bench = Bench(network, args.lb, args.traffic, work_dir, PIN_ROOT / work_dir.name)
        stack.callback(quietly, bench.clean_up)
        stack.callback(ignore_signals)
        say("building the network")
        network.start_plain(args.traffic)
        before["datapath"] = network.switch.datapath_name
        failures = measure(args, bench)
        result = bench.results(args.modes)
    print(json.dumps({"machine": before, "rounds": args.rounds, "seconds": args.seconds, **result}))
    for failure in failures:
        say(f"bench: {failure}")
    return STATUS_INCOMPLETE if failures else 0


def measure(args: argparse.Namespace, bench: Any) -> list[str]:
    """All rounds; return what went wrong. One failure does not end the rest."""
    from demo_net import DemoError

    failures = []
    for number in range(1, args.rounds + 1):
        for mode in args.modes:
            say(f"round {number} of {args.rounds}: {mode}")
            try:
                with bench.mode(mode):
                    for metric in METRICS:
                        bench.measure(mode, metric, args.seconds)
            except DemoError as error:
                failures.append(f"round {number}, {mode}: {error}")
                say(failures[-1])
    return failures


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Check the arguments and the machine, then run."""
    args = parser().parse_args(argv)

    def run() -> int:
        args.lb, args.traffic = executable(args.lb), executable(args.traffic)
        check_machine()
        return run_bench(args)

    return run_main("bench", run)


if __name__ == "__main__":
    sys.exit(main())
