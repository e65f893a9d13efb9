"""What the demonstration measured, and whether that is good enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Optional

DETECT_LIMIT_MS = 1500.0
BACKENDS = 2
UNMEASURED = " was not measured"


@dataclass
class Report:
    """The results, named as in the JSON object. None means not measured."""

    openflow: str = "1.3"
    placement: str = "inline"
    datapath: Optional[str] = None
    attach_mode: Optional[str] = None
    pingall_loss_pct: Optional[float] = None
    requests: int = 40
    responses_ok: Optional[int] = None
    per_backend: Optional[dict[str, int]] = None
    round_robin_order: Optional[list[str]] = None
    udp_requests: Optional[int] = None
    udp_ok: Optional[int] = None
    udp_per_backend: Optional[dict[str, int]] = None
    ovs_vip_packets: Optional[int] = None
    ovs_vip_flow_packets: Optional[int] = None
    ovs_vip_arp: Optional[int] = None
    ovs_other_packets: Optional[int] = None
    xdp_vip_packets: Optional[int] = None
    detect_ms: Optional[float] = None
    detect_link_down_ms: Optional[float] = None
    back_up_ms: Optional[float] = None
    back_up_link_ms: Optional[float] = None
    requests_after_detect: int = 0
    failed_after_detect: Optional[int] = None
    daemon_kill_expected_bytes: Optional[int] = None
    daemon_kill_bytes_at_kill: Optional[int] = None
    daemon_kill_bytes_at_restart: Optional[int] = None
    daemon_kill_lost_bytes: Optional[int] = None
    daemon_kill_content_equal: Optional[bool] = None
    requests_without_daemon_ok: Optional[bool] = None
    daemon_adopted: Optional[bool] = None
    leftovers: Optional[list[str]] = None

    def as_dict(self) -> dict[str, Any]:
        """The content of the JSON object."""
        return asdict(self)


def misses(report: Report, complete: bool = True) -> list[str]:
    """One line for each condition that does not hold; empty if all do.

    What a run that broke off did not come to measure is no miss of its own:
    ``complete`` says whether all steps were done.
    """
    lines = [
        *traffic_misses(report),
        *path_misses(report),
        *failure_misses(report),
        *kill_misses(report),
        *leftover_misses(report),
    ]
    return [line for line in lines if complete or not line.endswith(UNMEASURED)]


def traffic_misses(report: Report) -> list[str]:
    """Conditions on pingall, HTTP and UDP."""
    return [
        *expect_equal("pingall_loss_pct", report.pingall_loss_pct, 0),
        *expect_equal("responses_ok", report.responses_ok, report.requests),
        *expect_all_used("per_backend", report.per_backend),
        *expect_alternation("round_robin_order", report.round_robin_order),
        *expect_equal("udp_ok", report.udp_ok, report.udp_requests),
        *expect_all_used("udp_per_backend", report.udp_per_backend),
    ]


def path_misses(report: Report) -> list[str]:
    """Conditions on who carried the packets."""
    lines = expect_equal("attach_mode", report.attach_mode, "native")
    wanted = 0 if report.placement == "inline" else report.ovs_vip_packets
    lines += expect_equal("ovs_vip_packets", report.ovs_vip_packets, wanted)
    if report.ovs_other_packets is not None and report.ovs_other_packets <= 0:
        lines.append("the counter on the switch ports saw no packet at all")
    if report.xdp_vip_packets is None:
        lines.append("xdp_vip_packets" + UNMEASURED)
    elif report.xdp_vip_packets < max(1, report.responses_ok or 0):
        lines.append(f"xdp_vip_packets is {report.xdp_vip_packets}, fewer than the responses")
    return lines


def failure_misses(report: Report) -> list[str]:
    """Conditions on dead backends."""
    lines = []
    for name in ("detect_ms", "detect_link_down_ms"):
        value = getattr(report, name)
        if value is None:
            lines.append(name + UNMEASURED)
        elif value > DETECT_LIMIT_MS:
            lines.append(f"{name} is {value:g}, more than {DETECT_LIMIT_MS:g}")
    for name in ("back_up_ms", "back_up_link_ms"):
        if getattr(report, name) is None:
            lines.append(name + UNMEASURED)
    lines += expect_equal("failed_after_detect", report.failed_after_detect, 0)
    return lines


def kill_misses(report: Report) -> list[str]:
    """Conditions on the download during which the daemon was killed."""
    if report.daemon_kill_lost_bytes is None:
        return ["daemon_kill_lost_bytes" + UNMEASURED]
    lines = expect_equal("daemon_kill_lost_bytes", report.daemon_kill_lost_bytes, 0)
    lines += expect_equal("daemon_kill_content_equal", report.daemon_kill_content_equal, True)
    lines += expect_equal("requests_without_daemon_ok", report.requests_without_daemon_ok, True)
    lines += expect_equal("daemon_adopted", report.daemon_adopted, True)
    expected = report.daemon_kill_expected_bytes or 0
    at_kill = report.daemon_kill_bytes_at_kill or 0
    at_restart = report.daemon_kill_bytes_at_restart or 0
    if not 0 < at_kill < at_restart < expected:
        lines.append(
            "the daemon was not away in the middle of the download: "
            f"{at_kill} bytes at the kill, {at_restart} at the restart, of {expected}"
        )
    return lines


def leftover_misses(report: Report) -> list[str]:
    """Conditions on what detaching left behind."""
    if report.leftovers is None:
        return ["leftovers" + UNMEASURED]
    return [f"after detaching: {thing}" for thing in report.leftovers]


# Conditions


def expect_equal(name: str, value: object, wanted: object) -> list[str]:
    """``value`` was measured and is ``wanted``."""
    if value is None:
        return [name + UNMEASURED]
    return [] if value == wanted else [f"{name} is {value}, not {wanted}"]


def expect_all_used(name: str, per_backend: Optional[dict[str, int]]) -> list[str]:
    """Every backend answered at least once."""
    if per_backend is None:
        return [name + UNMEASURED]
    if len(per_backend) == BACKENDS and all(count > 0 for count in per_backend.values()):
        return []
    return [f"{name} is {shares(per_backend)}: not every backend was used"]


def expect_alternation(name: str, order: Optional[list[str]]) -> list[str]:
    """Each answer came from the other backend than the one before."""
    if order is None:
        return [name + UNMEASURED]
    changes = all(a != b for a, b in zip(order, order[1:]))
    if changes and len(set(order)) == BACKENDS:
        return []
    return [f"{name} is {shown_order(order)}: it does not alternate"]


# For people


def shown(value: object, unit: str = "") -> str:
    """A value with its unit; ``?`` if it was not measured."""
    if value is None:
        return "?"
    number = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
    return f"{number} {unit}".rstrip()


def shares(per_backend: Optional[dict[str, int]]) -> str:
    """``h1 21, h2 19``."""
    if per_backend is None:
        return "?"
    return ", ".join(f"{name} {count}" for name, count in sorted(per_backend.items())) or "nobody"


def shown_order(order: Optional[list[str]]) -> str:
    """``h1 h2 h1 h2``."""
    return "?" if order is None else " ".join(order) or "nobody"


def answered(ok: Optional[int], asked: Optional[int], per_backend: Optional[dict[str, int]]) -> str:
    """``40 of 40 answered: h1 21, h2 19``."""
    return f"{shown(ok)} of {shown(asked)} answered: {shares(per_backend)}"


def summary(report: Report) -> list[str]:
    """The results as lines for people."""
    r = report
    rows = {
        "set-up": f"OpenFlow {r.openflow}, {r.placement}, {shown(r.datapath)} datapath, "
        f"{shown(r.attach_mode)} XDP",
        "pingall": f"{shown(r.pingall_loss_pct)} % lost",
        "requests": answered(r.responses_ok, r.requests, r.per_backend),
        "round robin": shown_order(r.round_robin_order),
        "UDP": answered(r.udp_ok, r.udp_requests, r.udp_per_backend),
        "VIP packets": f"Open vSwitch {shown(r.ovs_vip_packets)}, XDP {shown(r.xdp_vip_packets)}",
        "silent backend": f"out of rotation after {shown(r.detect_ms, 'ms')}, "
        f"back after {shown(r.back_up_ms, 'ms')}",
        "link down": f"out of rotation after {shown(r.detect_link_down_ms, 'ms')}, "
        f"back after {shown(r.back_up_link_ms, 'ms')}",
        "failed after that": f"{shown(r.failed_after_detect)} of {r.requests_after_detect}",
        "daemon killed": f"{shown(r.daemon_kill_lost_bytes)} bytes lost "
        f"of {shown(r.daemon_kill_expected_bytes)}",
    }
    width = max(len(name) for name in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows.items()]
