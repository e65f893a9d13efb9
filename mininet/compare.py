"""Every way to balance, one beside the other in Mininet: XDP, OpenFlow, the old ones.

``cargo xtask compare`` builds what this needs and makes a report of the result::

    /usr/bin/python3 mininet/compare.py --lb target/release/lb \\
        --ofshim target/release/ofshim --traffic target/release/bench-traffic \\
        --load target/release/bench-load --rounds 3

Needs root and Open vSwitch running. In every round each mode gets a network of
its own, is measured, and is taken down again. Progress goes to standard error,
the samples as one JSON object to standard output. Exit status: 0, 1 if
something could not be measured, 2 if nothing can be measured here. Everything
is cleaned up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
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
from compare_names import MODES, QUICK_MODES, Settings, left_out, refuse_left_out
from demo import PIN_ROOT, CannotRun, check_machine, executable

WORK_PREFIX = "lb-compare-"


def flow_count(text: str) -> int:
    """Parse ``--flows`` and ``--most``."""
    if not (text.isdecimal() and 1 <= int(text) <= 60_000):
        raise argparse.ArgumentTypeError(f"{text}: use a number from 1 to 60000")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="compare", description=__doc__.splitlines()[0])
    for name, what in (
        ("--lb", "the balancer's binary"),
        ("--ofshim", "the controller's binary"),
        ("--traffic", "the binary bench-traffic"),
        ("--load", "the binary bench-load"),
    ):
        result.add_argument(name, required=True, metavar="PATH", help=what)
    result.add_argument("--pox", metavar="DIR", help="a checkout of POX, for pox-original")
    result.add_argument(
        "--rounds", type=round_count, default=3, metavar="N", help="rounds (%(default)s)"
    )
    result.add_argument(
        "--seconds",
        type=duration,
        default=2.0,
        metavar="S",
        help="seconds of each measurement (%(default)s)",
    )
    result.add_argument(
        "--modes", type=mode_list(MODES), metavar="LIST", help=f"of {','.join(MODES)}"
    )
    result.add_argument(
        "--most",
        type=flow_count,
        default=51_200,
        metavar="N",
        help="the largest rate to offer, connections/s (%(default)s)",
    )
    result.add_argument(
        "--flows",
        type=flow_count,
        default=3000,
        metavar="N",
        help="connections that are open while the pool changes (%(default)s)",
    )
    result.add_argument(
        "--churn-seconds",
        type=duration,
        default=60.0,
        metavar="S",
        help="for how long they are held (%(default)s)",
    )
    result.add_argument(
        "--quick",
        action="store_true",
        help=f"only {','.join(QUICK_MODES)}, one round, short, without changes of the pool",
    )
    return result


def settings(args: argparse.Namespace) -> Settings:
    """What is measured, and how long."""
    if args.quick:
        return Settings(rounds=1, seconds=1.0, most=args.most, flows=0, churn_seconds=0.0)
    return Settings(args.rounds, args.seconds, args.most, args.flows, args.churn_seconds)


def modes_of(args: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """The modes to measure, and those that cannot be, with the reason."""
    missing = left_out(MODES, args.ofshim, args.pox)
    if args.modes is not None:
        refuse_left_out(args.modes, missing)
        return args.modes, {}
    wanted = QUICK_MODES if args.quick else MODES
    if args.pox is not None and "pox-original" not in wanted:
        wanted = (*wanted, "pox-original")
    chosen = [mode for mode in wanted if mode not in missing]
    if not chosen:
        raise CannotRun(f"none of {', '.join(wanted)} can be measured: {missing[wanted[0]]}")
    return chosen, {mode: missing[mode] for mode in wanted if mode in missing}


def run_compare(args: argparse.Namespace) -> int:
    """Measure everything, clean up, print."""
    modes, missing = modes_of(args)
    for mode, reason in missing.items():
        say(f"left out: {mode}: {reason}")
    # Only here: these modules need Mininet, which was looked for before.
    from mininet.log import setLogLevel

    from bench_net import machine
    from compare_results import Results
    from compare_scene import Programs
    from demo_run import ignore_signals, sweep

    setLogLevel("output")
    wanted = settings(args)
    programs = Programs(args.lb, args.ofshim, args.traffic, args.load, args.pox)
    facts = machine()
    results = Results()
    with contextlib.ExitStack() as stack:
        sweep(Path(tempfile.gettempdir()), PIN_ROOT, WORK_PREFIX)
        work_dir = Path(tempfile.mkdtemp(prefix=f"{WORK_PREFIX}{os.getpid()}-"))
        stack.callback(shutil.rmtree, work_dir, ignore_errors=True)
        stack.callback(ignore_signals)
        failures = measure(modes, wanted, programs, work_dir, results, facts)
    output = {
        "machine": facts,
        "rounds": wanted.rounds,
        "seconds": wanted.seconds,
        "left_out": missing,
        "modes": results.modes(modes),
    }
    print(json.dumps(output))
    for failure in failures:
        say(f"compare: {failure}")
    return STATUS_INCOMPLETE if failures else 0


def measure(
    modes: Sequence[str],
    wanted: Settings,
    programs: Any,
    work_dir: Path,
    results: Any,
    facts: dict[str, Any],
) -> list[str]:
    """All rounds; return what went wrong. One failure does not end the rest."""
    from compare_measure import measure_mode
    from compare_modes import BY_NAME
    from compare_scene import Scene
    from demo_net import DemoError, free_tag
    from lb_mininet import SetupError

    failures = []
    began = time.monotonic()
    for number in range(1, wanted.rounds + 1):
        for turn, name in enumerate(modes, 1):
            place = f"round {number} of {wanted.rounds}, {name} ({turn} of {len(modes)})"

            def progress(what: str, place: str = place) -> None:
                say(f"[{time.monotonic() - began:5.0f} s] {place}: {what}")

            tag = free_tag()
            if tag is None:
                raise CannotRun("the names s1, s1a ... s1z are all taken: end another Mininet")
            try:
                folder = work_dir / f"{number}-{name}"
                pins = PIN_ROOT / f"{work_dir.name}-{number}-{turn}"
                with Scene(BY_NAME[name], programs, folder, pins, tag) as scene:
                    progress("building the network")
                    scene.start()
                    facts["datapath"] = scene.network.switch.datapath_name
                    failed = measure_mode(scene, wanted, results, progress)
                    failures += [f"{place}: {failure}" for failure in failed]
            except (DemoError, SetupError, subprocess.SubprocessError, OSError) as error:
                failures.append(f"{place}: {error}")
                results.could_not(name, str(error))
                say(failures[-1])
    return failures


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Check the arguments and the machine, then run."""
    args = parser().parse_args(argv)

    def run() -> int:
        for name in ("lb", "ofshim", "traffic", "load"):
            setattr(args, name, executable(getattr(args, name)))
        check_machine()
        return run_compare(args)

    return run_main("compare", run)


if __name__ == "__main__":
    sys.exit(main())
