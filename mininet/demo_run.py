"""One run of the demonstration, from the network to the cleaning up."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable

from mininet.cli import CLI
from mininet.log import setLogLevel

from demo_lb import Balancer
from demo_net import VIP, DemoError, Network, free_tag
from demo_report import Report, misses, summary
from demo_steps import Demo, say
from lb_mininet import SetupError, process_alive

WORK_PREFIX = "lb-demo-"
"""Begins the names of a run's folders, the process id comes next."""

LOG_TAIL_LINES = 15
STATUS_MISSED = 1
STATUS_CANNOT_RUN = 2


def run_demo(args: argparse.Namespace, pin_root: Path) -> int:
    """Build the network, run the steps, clean up, print the results."""
    tag = free_tag()
    if tag is None:
        say("demo: the names s1, s1a ... s1z are all taken: end another Mininet")
        return STATUS_CANNOT_RUN
    if tag:
        say(f"another network has the plain names: h1 is h1{tag} here, s1 is s1{tag}")
    setLogLevel("output")
    report = Report(openflow=args.openflow, placement=args.placement, requests=args.requests)
    with contextlib.ExitStack() as stack:
        sweep(Path(tempfile.gettempdir()), pin_root)
        work_dir = Path(tempfile.mkdtemp(prefix=f"{WORK_PREFIX}{os.getpid()}-"))
        stack.callback(shutil.rmtree, work_dir, ignore_errors=True)
        network = Network(work_dir, args.openflow, args.placement, tag)
        stack.callback(quietly, network.stop)
        balancer = Balancer(args.lb, work_dir, pin_root / work_dir.name)
        stack.callback(quietly, balancer.clean_up)
        demo = Demo(network, balancer, report)
        stack.callback(demo.close)
        stack.callback(ignore_signals)
        problems = run_steps(args, network, balancer, demo)
    print_results(args, report, problems)
    return STATUS_MISSED if problems else 0


def run_steps(
    args: argparse.Namespace, network: Network, balancer: Balancer, demo: Demo
) -> list[str]:
    """Everything between building and cleaning up; return what was missed."""
    broke_off = []
    try:
        say("building the network")
        network.start(args.ofshim, balancer.socket)
        demo.report.datapath = network.switch.datapath_name
        demo.run(lambda: prompt(network, balancer) if args.keep else None)
    except (DemoError, SetupError, subprocess.SubprocessError, OSError) as error:
        broke_off.append(f"broke off {demo.place()}: {error}")
    problems = broke_off + misses(demo.report, complete=not broke_off)
    if problems:
        print_logs(balancer.log.tail(LOG_TAIL_LINES), network.ofshim_log)
    return problems


def sweep(temp_dir: Path, pin_root: Path, prefix: str = WORK_PREFIX) -> None:
    """Remove the folders and pins of runs that were killed before they could."""
    for root in (pin_root, temp_dir):
        for folder in root.glob(f"{prefix}*-*"):
            pid = folder.name.removeprefix(prefix).partition("-")[0]
            if pid.isdigit() and not process_alive(pid):
                shutil.rmtree(folder, ignore_errors=True)


def ignore_signals() -> None:
    """Let nothing interrupt the cleaning up."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def quietly(action: Callable[[], None]) -> None:
    """Run a part of the cleaning up; its failure does not stop the rest."""
    try:
        action()
    except Exception as error:
        say(f"while cleaning up: {error!r}")


def prompt(network: Network, balancer: Balancer) -> None:
    """Open Mininet's prompt; there, Ctrl-C ends a command and nothing else."""
    client = network.node("h3").name
    status = balancer.command("status")
    say(f"everything still runs; try '{client} curl {VIP}' or 'sh {status}'")
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            CLI(network.mininet, stdout=sys.stderr)
    finally:
        signal.signal(signal.SIGINT, handler)


def print_logs(balancer_tail: list[str], ofshim_log: Path) -> None:
    """Show the ends of the logs, for the search for the cause."""
    ofshim_tail: list[str] = []
    if ofshim_log.exists():
        ofshim_tail = ofshim_log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    for name, lines in (("lb", balancer_tail), ("ofshim", ofshim_tail)):
        for line in lines:
            say(f"{name}: {line}")


def print_results(args: argparse.Namespace, report: Report, problems: list[str]) -> None:
    """The summary on standard error, the JSON object on standard output."""
    say("\n".join(["", *summary(report), ""]))
    for problem in problems:
        say(f"miss: {problem}")
    say("every condition holds" if not problems else f"missed: {len(problems)}")
    if args.json:
        print(json.dumps({**report.as_dict(), "misses": problems}), flush=True)
