"""The verdict on a run."""

import json
import unittest
from typing import Any

from demo_report import Report, misses, summary


def good(**changes: Any) -> Report:
    """A report in which every condition holds, but for ``changes``."""
    values: dict[str, Any] = {
        "datapath": "userspace",
        "attach_mode": "native",
        "pingall_loss_pct": 0.0,
        "responses_ok": 40,
        "per_backend": {"h1": 21, "h2": 19},
        "round_robin_order": ["h1", "h2", "h1", "h2"],
        "udp_requests": 40,
        "udp_ok": 40,
        "udp_per_backend": {"h1": 18, "h2": 22},
        "ovs_vip_packets": 0,
        "ovs_vip_flow_packets": 0,
        "ovs_vip_arp": 0,
        "ovs_other_packets": 300,
        "xdp_vip_packets": 50_000,
        "detect_ms": 700.0,
        "detect_link_down_ms": 12.0,
        "back_up_ms": 200.0,
        "back_up_link_ms": 200.0,
        "requests_after_detect": 24,
        "failed_after_detect": 0,
        "daemon_kill_expected_bytes": 1000,
        "daemon_kill_bytes_at_kill": 250,
        "daemon_kill_bytes_at_restart": 600,
        "daemon_kill_lost_bytes": 0,
        "daemon_kill_content_equal": True,
        "requests_without_daemon_ok": True,
        "daemon_adopted": True,
        "leftovers": [],
    }
    return Report(**{**values, **changes})


class VerdictTest(unittest.TestCase):
    """Each condition is missed on its own line, and only then."""

    def expect(self, wanted: list[str], **changes: Any) -> None:
        """The misses of a good report with ``changes``."""
        self.assertEqual(wanted, misses(good(**changes)))

    def test_a_good_run_misses_nothing(self) -> None:
        self.expect([])

    def test_each_condition_has_its_line(self) -> None:
        self.expect(["pingall_loss_pct is 3.5, not 0"], pingall_loss_pct=3.5)
        self.expect(["responses_ok is 39, not 40"], responses_ok=39)
        self.expect(["responses_ok is 40, not 100"], requests=100)
        self.expect(["udp_ok is 0, not 40"], udp_ok=0)
        self.expect(["attach_mode is generic, not native"], attach_mode="generic")
        self.expect(["ovs_vip_packets is 1, not 0"], ovs_vip_packets=1)
        self.expect(["failed_after_detect is 2, not 0"], failed_after_detect=2)
        self.expect(["daemon_kill_lost_bytes is 7, not 0"], daemon_kill_lost_bytes=7)
        self.expect(["daemon_kill_lost_bytes is -7, not 0"], daemon_kill_lost_bytes=-7)
        self.expect(
            ["daemon_kill_content_equal is False, not True"], daemon_kill_content_equal=False
        )
        self.expect(
            ["requests_without_daemon_ok is False, not True"], requests_without_daemon_ok=False
        )
        self.expect(["daemon_adopted is False, not True"], daemon_adopted=False)
        self.expect(["after detaching: pins under /p"], leftovers=["pins under /p"])

    def test_both_backends_must_be_used(self) -> None:
        for share in ({"h1": 40}, {"h1": 40, "h2": 0}):
            self.assertEqual(1, len(misses(good(per_backend=share))), share)
            self.assertEqual(1, len(misses(good(udp_per_backend=share))), share)

    def test_round_robin_must_alternate(self) -> None:
        for order in (["h1", "h1", "h2"], ["h1"], [], ["h1", "nobody", "h2", "h1"]):
            self.assertEqual(1, len(misses(good(round_robin_order=order))), order)
        self.expect([], round_robin_order=["h2", "h1", "h2"])

    def test_detection_has_until_the_limit(self) -> None:
        for name in ("detect_ms", "detect_link_down_ms"):
            self.expect([], **{name: 1500.0})
            self.expect([f"{name} is 1500.1, more than 1500"], **{name: 1500.1})

    def test_open_vswitch_carries_the_packets_when_one_armed(self) -> None:
        self.expect([], placement="onearm", ovs_vip_packets=90_000)
        self.expect(["ovs_vip_packets was not measured"], placement="onearm", ovs_vip_packets=None)

    def test_a_counter_that_saw_nothing_proves_nothing(self) -> None:
        self.assertEqual(1, len(misses(good(ovs_other_packets=0))))

    def test_xdp_must_have_forwarded_at_least_the_responses(self) -> None:
        self.assertEqual(1, len(misses(good(xdp_vip_packets=39))))
        self.assertEqual(1, len(misses(good(xdp_vip_packets=0))))

    def test_the_kill_must_be_in_the_middle(self) -> None:
        for at_kill, at_restart in ((0, 600), (250, 250), (250, 1000), (1000, 1000)):
            report = good(daemon_kill_bytes_at_kill=at_kill)
            report.daemon_kill_bytes_at_restart = at_restart
            self.assertEqual(1, len(misses(report)), (at_kill, at_restart))

    def test_what_was_not_measured_is_missed_unless_the_run_broke_off(self) -> None:
        lines = misses(Report())
        self.assertTrue(all(line.endswith(" was not measured") for line in lines), lines)
        self.assertIn("detect_ms was not measured", lines)
        self.assertIn("leftovers was not measured", lines)
        self.assertEqual([], misses(Report(), complete=False))
        broken = Report(responses_ok=3)
        self.assertEqual(["responses_ok is 3, not 40"], misses(broken, complete=False))


class OutputTest(unittest.TestCase):
    """The forms in which the report is printed."""

    def test_the_object_has_the_promised_names(self) -> None:
        promised = {
            "pingall_loss_pct",
            "requests",
            "responses_ok",
            "per_backend",
            "ovs_vip_packets",
            "xdp_vip_packets",
            "detect_ms",
            "detect_link_down_ms",
            "failed_after_detect",
            "daemon_kill_lost_bytes",
            "attach_mode",
            "openflow",
            "placement",
            "datapath",
        }
        parsed = json.loads(json.dumps(good().as_dict()))
        self.assertEqual(set(), promised - set(parsed))
        self.assertEqual({"h1": 21, "h2": 19}, parsed["per_backend"])

    def test_the_summary_is_readable_with_and_without_values(self) -> None:
        text = "\n".join(summary(good()))
        self.assertIn("40 of 40 answered: h1 21, h2 19", text)
        self.assertIn("Open vSwitch 0, XDP 50000", text)
        self.assertIn("out of rotation after 700 ms", text)
        self.assertIn("out of rotation after ?", "\n".join(summary(Report())))


if __name__ == "__main__":
    unittest.main()
