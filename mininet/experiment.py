"""The experiments that this project descends from, as they were and with XDP.

Needs root, Open vSwitch running, and the binaries ``lb`` and ``ofshim``::

    /usr/bin/python3 mininet/experiment.py pox
    /usr/bin/python3 mininet/experiment.py nox

``pox`` is POX's load balancer on ``single,6``: first ``ofshim --lb pox``, then
the same network with XDP. ``nox`` is the one of the NOX article, two hosts with
the address 192.168.2.2 that name themselves in turn: every packet through the
controller as it was, with entries, and in XDP as layer-2 DSR.

Exit status: 0 if everything came as it should, 1 if not (each miss is named),
2 if the experiment cannot be run here. Everything is cleaned up in every case.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn, Optional, Sequence

from demo import PIN_ROOT, CannotRun, Interrupted, check_machine, executable, on_signal

STATUS_CANNOT_RUN = 2
BALANCERS = {"pox": ("pox", "xdp"), "nox": ("nox-packets", "nox", "xdp")}


class Parser(argparse.ArgumentParser):
    """Answers wrong arguments with one line."""

    def error(self, message: str) -> NoReturn:
        """Print the reason and end with status 2."""
        self.exit(STATUS_CANNOT_RUN, f"experiment: {message}; see --help\n")


def request_count(text: str) -> int:
    """Parse ``--requests``: enough that both hosts can answer."""
    if not (text.isdecimal() and 2 <= int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text}: use a number from 2 to 10000")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="experiment", description=__doc__.splitlines()[0])
    experiments = result.add_subparsers(dest="experiment", required=True, metavar="pox|nox")
    words = {"pox": "POX's load balancer on single,6", "nox": "two hosts with one address"}
    for name, balancers in BALANCERS.items():
        one = experiments.add_parser(name, help=words[name])
        one.add_argument(
            "--balancer",
            choices=balancers,
            action="append",
            help=f"with this balancer; may be given again (default: {', '.join(balancers)})",
        )
        one.add_argument("--lb", metavar="PATH", help="the binary lb (default: in target/)")
        one.add_argument("--ofshim", metavar="PATH", help="the binary ofshim (default: in target/)")
        one.add_argument(
            "--openflow", choices=("1.0", "1.3"), default="1.0", help="OpenFlow version (%(default)s)"
        )
        one.add_argument(
            "--requests", type=request_count, default=8, metavar="N", help="requests (%(default)s)"
        )
        one.add_argument("--json", action="store_true", help="print the results as one object")
        one.add_argument("--keep", action="store_true", help="open Mininet's prompt at the end of each")
    experiments.choices["pox"].add_argument(
        "--mac", action="store_true", help="hosts have the MACs 1, 2, ...: h1 has the VIP's, as with mn --mac"
    )
    return result


def built(name: str, given: Optional[str]) -> str:
    """Find a binary: as given, or in the workspace's target folder."""
    if given:
        return executable(given)
    target = Path(__file__).resolve().parent.parent / "target"
    for place in (target / "release" / name, target / "debug" / name):
        if os.access(place, os.X_OK):
            return str(place)
    raise CannotRun(
        f"{name} is not built: run 'cargo xtask build-ebpf --release' and "
        f"'cargo build --release -p lb-user -p ofshim', or name it with --{name}"
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Check the arguments and the machine, then run."""
    args = parser().parse_args(argv)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, on_signal)
    try:
        args.lb, args.ofshim = built("lb", args.lb), built("ofshim", args.ofshim)
        args.balancer = args.balancer or list(BALANCERS[args.experiment])
        check_machine()
        # Only here: these modules need Mininet, which was just looked for.
        from classic_run import run_experiment

        return run_experiment(args, PIN_ROOT)
    except CannotRun as error:
        print(f"experiment: {error}", file=sys.stderr)
        return STATUS_CANNOT_RUN
    except Interrupted as error:
        name = signal.Signals(error.signum).name
        print(f"experiment: ended by {name}, cleaned up", file=sys.stderr)
        return 128 + error.signum


if __name__ == "__main__":
    sys.exit(main())
