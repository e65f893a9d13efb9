"""What the measuring programs' command lines share: arguments, progress, ends."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType
from typing import Callable, NoReturn, Optional, Sequence

from demo import CannotRun, Interrupted

STATUS_INCOMPLETE = 1
STATUS_CANNOT_RUN = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Parser(argparse.ArgumentParser):
    """Answers wrong arguments with one line."""

    def error(self, message: str) -> NoReturn:
        """Print the reason and end with status 2."""
        self.exit(STATUS_CANNOT_RUN, f"{self.prog}: {message}; see --help\n")


def mode_list(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of ``--modes``: names with commas between them, in the usual order."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'}: use some of {', '.join(known)}"
            )
        return [mode for mode in known if mode in names]

    return parse


def round_count(text: str) -> int:
    """Parse ``--rounds``."""
    if not (text.isdecimal() and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text}: use a number from 1 to 1000")
    return int(text)


def duration(text: str) -> float:
    """Parse ``--seconds``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text}: use a number from 0.1 to 600")
    return seconds


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def on_signal(signum: int, _frame: Optional[FrameType]) -> NoReturn:
    """Turn the first signal into an exception of the main thread; the cleaning
    up that follows is not interrupted by another."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signum)


def run_main(prog: str, run: Callable[[], int]) -> int:
    """Run a program to its exit status, whatever happens."""
    for signum in SIGNALS:
        signal.signal(signum, on_signal)
    try:
        return run()
    except CannotRun as error:
        say(f"{prog}: {error}")
        return STATUS_CANNOT_RUN
    except Interrupted as error:
        say(f"{prog}: ended by {signal.Signals(error.signum).name}, cleaned up")
        return 128 + error.signum
