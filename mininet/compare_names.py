"""The modes by name, and which of them can be measured here. Needs no Mininet."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from demo import CannotRun

OFSHIM_MODES: Mapping[str, Sequence[str]] = {
    "pox": ("--lb", "pox"),
    "nox-packets": ("--lb", "nox-packets"),
    "nox": ("--lb", "nox"),
    "reactive": ("--lb", "openflow", "--lb-entries", "reactive"),
    "group": ("--lb", "openflow", "--lb-entries", "group"),
    "learn": ("--lb", "openflow", "--lb-entries", "learn"),
}
"""What ofshim has to take for a mode in which the controller balances."""

MODES = (
    "direct",
    "ovs-nat",
    *OFSHIM_MODES,
    "inline",
    "onearm-nat",
    "onearm-dsr",
    "pox-original",
)
"""The modes, in the order in which a round has them."""

QUICK_MODES = ("pox", "reactive", "inline", "onearm-dsr")


@dataclass(frozen=True)
class Settings:
    """How much is measured. Without flows the pool is not changed."""

    rounds: int
    seconds: float
    most: int
    """The largest rate that is offered, connections a second."""
    flows: int
    churn_seconds: float


def left_out(modes: Sequence[str], ofshim: str, pox: Optional[str]) -> dict[str, str]:
    """Which of ``modes`` cannot be measured, and why."""
    if pox is not None and not os.path.isfile(os.path.join(pox, "pox.py")):
        raise CannotRun(f"--pox {pox}: there is no pox.py in it; name a checkout of POX")
    missing = {}
    for mode in modes:
        if mode in OFSHIM_MODES and not takes(ofshim, OFSHIM_MODES[mode]):
            missing[mode] = f"this ofshim has no {' '.join(OFSHIM_MODES[mode])}"
    if pox is None and "pox-original" in modes:
        missing["pox-original"] = "it needs --pox DIR, a checkout of POX"
    return missing


def refuse_left_out(modes: Sequence[str], missing: Mapping[str, str]) -> None:
    """Fail if a mode that was asked for is among the missing."""
    for mode in modes:
        if mode in missing:
            raise CannotRun(f"mode {mode}: {missing[mode]}")


def takes(ofshim: str, options: Sequence[str]) -> bool:
    """Whether ``ofshim run`` knows ``options``: values are judged before ``--help``."""
    command = [ofshim, "run", *options, "--help"]
    return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
