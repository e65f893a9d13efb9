"""The steps of the demonstration, in their order."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Optional

from demo_lb import Balancer, config_text, forwarded_packets
from demo_net import (
    BACKENDS,
    BALANCER,
    CLIENTS,
    HTTP_PORT,
    ROUND_ROBIN_VIP,
    UDP_PORT,
    VIP,
    DemoError,
    Network,
)
from demo_report import Report, shares, shown
from demo_sniff import PortCounter, Watch
from lb_mininet import own_vip

STEPS = 12
VICTIM = "h1"
ROUND_ROBIN_REQUESTS = 8
UDP_QUESTIONS_PER_CLIENT = 10
REQUESTS_AFTER_DETECT = 12
REQUESTS_AFTER_RETURN = 20
REQUESTS_WITHOUT_DAEMON = 4

FIRST_UP_LIMIT_S = 15.0
DETECT_LIMIT_S = 15.0
RETURN_LIMIT_S = 15.0

BIG_FILE_BYTES = 64 << 20
DOWNLOAD_RATE = "8M"
KILL_AT = 0.25
AWAY_S = 1.5
DOWNLOAD_LIMIT_S = 90.0

ARP_ANSWERS_ALL = 0
ARP_ANSWERS_NOTHING = 8


class Demo:
    """One run: fills in ``report`` and says on standard error what it does."""

    def __init__(self, network: Network, balancer: Balancer, report: Report) -> None:
        self.network = network
        self.balancer = balancer
        self.report = report
        self.counter: Optional[PortCounter] = None
        self._step = 0
        self._title = ""
        self._offloads: dict[str, dict[str, str]] = {}
        self._content = b""

    def run(self, before_detach: Callable[[], None]) -> None:
        """All steps; ``before_detach`` runs while everything still works."""
        self.pingall()
        self.start_servers()
        self.attach()
        self.other_traffic()
        self.requests()
        self.round_robin()
        self.udp()
        self.silent_backend()
        self.link_down()
        self.kill_daemon()
        self.who_carried_what()
        before_detach()
        self.detach()

    def step(self, title: str) -> None:
        """Announce the next step."""
        self._step += 1
        self._title = title
        say(f"[{self._step:2}/{STEPS}] {title}")

    def place(self) -> str:
        """Where the run is, for messages."""
        if self._step == 0:
            return "while building the network"
        return f"in step {self._step} ({self._title})"

    def close(self) -> None:
        """Stop counting."""
        if self.counter is not None:
            self.counter.close()

    # Before the balancer

    def pingall(self) -> None:
        """Every host reaches every other through OpenFlow alone."""
        report = self.report
        self.step(f"pingall, forwarded by ofshim with OpenFlow {report.openflow}")
        report.pingall_loss_pct = self.network.pingall()
        note(f"{report.pingall_loss_pct:g} % lost")

    def start_servers(self) -> None:
        """HTTP and UDP servers on both backends."""
        self.step(f"HTTP servers on port {HTTP_PORT}, UDP echo on {UDP_PORT}: h1 and h2")
        self._content = self.network.write_content(BIG_FILE_BYTES)
        for role in BACKENDS:
            if self.report.placement == "onearm":
                for vip in (VIP, ROUND_ROBIN_VIP):
                    own_vip(self.network.node(role), vip)
            self.network.start_servers(role)

    def attach(self) -> None:
        """Start the daemon; from here on the switch ports are watched."""
        report, network = self.report, self.network
        self.step(f"balancer for VIP {VIP}, placement {report.placement}")
        ports = network.switch_ports()
        self._offloads = network.offloads()
        services = (("tcp", HTTP_PORT), ("udp", UDP_PORT))
        watch = Watch.of((VIP, ROUND_ROBIN_VIP), BACKENDS.values(), services)
        self.counter = PortCounter(ports, watch)
        host = BALANCER + network.tag
        self.balancer.config.write_text(config_text(report.placement, ports, host))
        seconds = self.balancer.start()
        began = time.monotonic()
        up_at = self.balancer.wait_up(list(BACKENDS.values()), FIRST_UP_LIMIT_S)
        status = self.balancer.status()
        report.attach_mode = status.get("attach_mode")
        note(f"ready after {seconds:.2f} s, both backends up {up_at - began:.2f} s later")
        changed = changed_features(self._offloads, network.offloads())
        note(f"interfaces whose offloads it changed: {len(changed)}")
        for interface in status.get("interfaces", []):
            note(interface_line(interface))
        for warning in status.get("warnings", []):
            note(f"warning: {warning}")

    # Traffic

    def other_traffic(self) -> None:
        """What is not the balancer's still goes through Open vSwitch."""
        self.step("ping h3 -> h1 with the balancer attached, through Open vSwitch")
        if not self.network.ping("h3", "h1"):
            raise DemoError("h3 does not reach h1 any more with the balancer attached")
        note("3 of 3 answered")

    def requests(self) -> None:
        """HTTP requests from the clients, answered by a backend picked at random."""
        report = self.report
        self.step(f"{report.requests} requests with curl from {', '.join(CLIENTS)}")
        answers = self.network.get_many(report.requests, VIP)
        landed = Counter(answer for answer in answers if answer)
        report.responses_ok = landed.total()
        report.per_backend = {role: landed[role] for role in BACKENDS}
        note(f"{report.responses_ok} answered: {shares(report.per_backend)}")

    def round_robin(self) -> None:
        """Requests one after the other to a VIP that takes backends in turn."""
        self.step(f"{ROUND_ROBIN_REQUESTS} requests in turn (round robin, VIP {ROUND_ROBIN_VIP})")
        answers = self.network.get_many(ROUND_ROBIN_REQUESTS, ROUND_ROBIN_VIP)
        order = [answer or "nobody" for answer in answers]
        self.report.round_robin_order = order
        note(" ".join(order))

    def udp(self) -> None:
        """Questions to the UDP service on the same VIP."""
        report = self.report
        report.udp_requests = UDP_QUESTIONS_PER_CLIENT * len(CLIENTS)
        self.step(f"{report.udp_requests} datagrams to {VIP}:{UDP_PORT}, each its own flow")
        landed: Counter[str] = Counter()
        for client in CLIENTS:
            landed += self.network.ask_udp(client, UDP_QUESTIONS_PER_CLIENT)
        report.udp_per_backend = {role: landed[role] for role in BACKENDS}
        report.udp_ok = sum(report.udp_per_backend.values())
        note(f"{report.udp_ok} answered: {shares(report.udp_per_backend)}")

    # Dead backends

    def silent_backend(self) -> None:
        """A backend that says nothing any more, with its link up."""
        network = self.network
        self.step(f"{VICTIM} falls silent: servers stopped, ARP ignored, link up")
        mark, began = self.balancer.log.mark(), time.monotonic()
        network.stop_servers(VICTIM)
        network.set_arp_ignore(VICTIM, ARP_ANSWERS_NOTHING)
        self.report.detect_ms = self.until_out(mark, began)
        self.requests_to_the_rest()
        began = time.monotonic()
        network.set_arp_ignore(VICTIM, ARP_ANSWERS_ALL)
        network.start_servers(VICTIM)
        self.report.back_up_ms = self.until_back(began)

    def link_down(self) -> None:
        """A backend whose link goes down."""
        network = self.network
        self.step(f"{VICTIM} loses its link")
        mark, began = self.balancer.log.mark(), time.monotonic()
        network.set_link(VICTIM, "down")
        self.report.detect_link_down_ms = self.until_out(mark, began)
        self.requests_to_the_rest()
        began = time.monotonic()
        network.set_link(VICTIM, "up")
        self.report.back_up_link_ms = self.until_back(began)

    def until_out(self, mark: int, began: float) -> float:
        """Milliseconds from ``began`` until the victim is out of rotation."""
        out_at = self.balancer.wait_out(BACKENDS[VICTIM], mark, DETECT_LIMIT_S)
        passed_ms = (out_at - began) * 1000.0
        note(f"out of rotation after {shown(passed_ms, 'ms')}")
        return round(passed_ms, 1)

    def requests_to_the_rest(self) -> None:
        """Requests while the victim is out: all must succeed."""
        report = self.report
        answers = self.network.get_many(REQUESTS_AFTER_DETECT, VIP)
        failed = sum(answer is None or answer == VICTIM for answer in answers)
        report.requests_after_detect += len(answers)
        report.failed_after_detect = (report.failed_after_detect or 0) + failed
        landed = Counter(answer or "nobody" for answer in answers)
        note(f"{len(answers)} requests after that, {failed} failed: {shares(landed)}")

    def until_back(self, began: float) -> float:
        """Milliseconds from ``began`` until the victim is up; it must get work."""
        back_at = self.balancer.wait_up([BACKENDS[VICTIM]], RETURN_LIMIT_S)
        answers = self.network.get_many(REQUESTS_AFTER_RETURN, VIP)
        landed = Counter(answer or "nobody" for answer in answers)
        passed_ms = (back_at - began) * 1000.0
        note(f"back after {shown(passed_ms, 'ms')}; {len(answers)} requests: {shares(landed)}")
        if not landed[VICTIM]:
            raise DemoError(f"{VICTIM} is up again but no request of {len(answers)} went there")
        return round(passed_ms, 1)

    # A dead daemon

    def kill_daemon(self) -> None:
        """Kill the daemon in the middle of a download, and start it again."""
        report = self.report
        size = len(self._content)
        self.step(f"daemon killed (-9) in the middle of a download of {size} bytes")
        target = self.network.work_dir / "download.bin"
        download = self.network.start_download("h3", target, DOWNLOAD_RATE)
        deadline = time.monotonic() + DOWNLOAD_LIMIT_S
        while file_bytes(target) < size * KILL_AT:
            if download.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"the download stopped at {file_bytes(target)} of {size} bytes")
            time.sleep(0.02)
        forwarded = forwarded_packets(self.balancer.stats())
        self.balancer.kill()
        report.daemon_kill_bytes_at_kill = file_bytes(target)
        note(f"killed at {file_bytes(target)} bytes")
        self.without_daemon()
        report.daemon_kill_bytes_at_restart = file_bytes(target)
        seconds = self.balancer.start()
        report.daemon_adopted = bool(self.balancer.status().get("adopted"))
        adopted = "adopted" if report.daemon_adopted else "did NOT adopt"
        meanwhile = forwarded_packets(self.balancer.stats()) - forwarded
        note(
            f"started again at {report.daemon_kill_bytes_at_restart} bytes, ready after "
            f"{seconds:.2f} s; it {adopted} what was there; "
            f"XDP forwarded {meanwhile} packets meanwhile"
        )
        wait_for_end(download, deadline)
        self.compare_download(target)

    def without_daemon(self) -> None:
        """New connections work while there is no daemon."""
        began = time.monotonic()
        answers = self.network.get_many(REQUESTS_WITHOUT_DAEMON, VIP)
        self.report.requests_without_daemon_ok = all(answers)
        landed = Counter(answer or "nobody" for answer in answers)
        note(f"{len(answers)} new requests without a daemon: {shares(landed)}")
        time.sleep(max(0.0, AWAY_S - (time.monotonic() - began)))

    def compare_download(self, target: Path) -> None:
        """Compare what arrived with what was served."""
        report = self.report
        received = target.read_bytes() if target.exists() else b""
        report.daemon_kill_expected_bytes = len(self._content)
        report.daemon_kill_lost_bytes = len(self._content) - len(received)
        digests = [hashlib.sha256(content).hexdigest() for content in (self._content, received)]
        report.daemon_kill_content_equal = digests[0] == digests[1]
        equal = "equal" if report.daemon_kill_content_equal else "DIFFERENT"
        lost = report.daemon_kill_lost_bytes
        note(f"{len(received)} bytes received, {lost} lost, sha256 {equal}")

    # The end

    def who_carried_what(self) -> None:
        """Packets of balanced connections: Open vSwitch's and XDP's."""
        report = self.report
        assert self.counter is not None
        self.step("who carried the VIP's packets")
        counts = self.counter.counts()
        report.ovs_vip_packets = counts.balanced + counts.lost
        report.ovs_vip_arp = counts.vip_arp
        report.ovs_other_packets = counts.frames - counts.balanced
        report.ovs_vip_flow_packets = self.network.flow_packets((VIP, ROUND_ROBIN_VIP))
        report.xdp_vip_packets = forwarded_packets(self.balancer.stats())
        note(
            f"Open vSwitch got {counts.vip} of the VIPs, {counts.rewritten} rewritten ones "
            f"and {report.ovs_other_packets} others; its flow entries for the VIPs counted "
            f"{report.ovs_vip_flow_packets}"
        )
        if counts.lost:
            note(f"{counts.lost} frames were not seen by the counter and are taken as the VIP's")
        note(f"XDP forwarded {report.xdp_vip_packets}")

    def detach(self) -> None:
        """SIGTERM keeps forwarding; detaching leaves nothing."""
        self.step("SIGTERM, one more request, detach")
        found = []
        status = self.balancer.terminate()
        if status != 0:
            found.append(f"exit status {status} of the daemon after SIGTERM")
        answer = self.network.get("h4", VIP)
        note(f"after SIGTERM: answered by {answer or 'nobody'}")
        if answer is None:
            found.append("no forwarding after SIGTERM")
        self.balancer.detach()
        found += self.leftovers()
        self.report.leftovers = found
        note("nothing left behind" if not found else "; ".join(found))

    def leftovers(self) -> list[str]:
        """What is not as it was before the daemon ran."""
        found = [f"an XDP program on {name}" for name in self.network.attached_programs()]
        found += changed_features(self._offloads, self.network.offloads())
        pins = self.balancer.pin_dir
        if pins.exists() and any(pins.rglob("*")):
            found.append(f"pins under {pins}")
        return found


def say(line: str) -> None:
    """A line of progress on standard error."""
    print(line, file=sys.stderr, flush=True)


def note(line: str) -> None:
    """A result below a step."""
    say(f"        {line}")


def interface_line(interface: dict[str, object]) -> str:
    """One attached interface for people: ``s1-eth1 (h1): native, redirect``."""
    host = f" ({interface['host']})" if interface.get("host") else ""
    reason = f" because {interface['forward_reason']}" if interface.get("forward_reason") else ""
    modes = f"{interface.get('xdp')}, {interface.get('forward')}"
    return f"{interface.get('name')}{host}: {modes}{reason}"


def changed_features(
    before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]
) -> list[str]:
    """A line for each interface that differs: ``offloads of h1-eth0: gso off, tso off``."""
    lines = []
    for name, features in after.items():
        changed = sorted(features.items() - before.get(name, {}).items())
        if changed:
            listed = ", ".join(f"{feature} {value}" for feature, value in changed)
            lines.append(f"offloads of {name}: {listed}")
    return lines


def file_bytes(path: Path) -> int:
    """The size of a file, 0 if there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def wait_for_end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for a process until ``deadline`` (``time.monotonic``)."""
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
