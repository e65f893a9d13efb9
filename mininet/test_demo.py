"""Arguments, and reading what tools and the daemon print."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = None  # type: ignore[assignment]

import demo
import demo_lb
import demo_net
import demo_run
import demo_steps


def parse_failing(*arguments: str) -> tuple[object, str]:
    """Parse arguments that are wrong; return the status and what was said."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            demo.parser().parse_args(arguments)
    except SystemExit as end:
        return end.code, said.getvalue()
    return None, said.getvalue()


class ArgumentsTest(unittest.TestCase):
    """The command line."""

    def test_defaults(self) -> None:
        args = demo.parser().parse_args(["--lb", "a", "--ofshim", "b"])
        self.assertEqual(("1.3", "inline", 40), (args.openflow, args.placement, args.requests))
        self.assertEqual((False, False), (args.json, args.keep))

    def test_wrong_arguments_get_one_line_and_status_2(self) -> None:
        needed = ("--lb", "a", "--ofshim", "b")
        for wrong, named in (
            ((), "--lb"),
            ((*needed, "--openflow", "1.1"), "--openflow"),
            ((*needed, "--placement", "middle"), "--placement"),
            ((*needed, "--requests", "1"), "--requests"),
            ((*needed, "--requests", "many"), "--requests"),
            ((*needed, "--request-all"), "--request-all"),
        ):
            status, said = parse_failing(*wrong)
            self.assertEqual(2, status, wrong)
            self.assertIn(named, said)
            self.assertEqual(1, said.count("\n"), said)

    def test_a_missing_binary_is_named(self) -> None:
        script = Path(demo.__file__)
        command = [sys.executable, "-B", str(script), "--lb", "/nowhere/lb", "--ofshim", "b"]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(2, done.returncode, done.stderr)
        self.assertIn("/nowhere/lb is not a program", done.stderr)
        self.assertEqual(1, done.stderr.count("\n"), done.stderr)
        self.assertEqual("", done.stdout)

    def test_a_bpf_file_system_is_recognised(self) -> None:
        folder = Path("/sys/fs/bpf")
        self.assertTrue(demo.is_bpffs("x / ext4 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n", folder))
        self.assertFalse(demo.is_bpffs("bpf /sys/fs/bpf2 bpf rw 0 0\n", folder))
        self.assertFalse(demo.is_bpffs("bpf /sys/fs/bpf tmpfs rw 0 0\n", folder))


class NamesTest(unittest.TestCase):
    """Networks of others are seen and left alone."""

    def test_mininet_nodes_are_known_by_their_last_argument(self) -> None:
        lines = [
            b"bash\0--norc\0--noediting\0-is\0mininet:h1\0",
            b"bash\0-is\0mininet:s1\0",
            b"grep\0mininet:h2\0/proc\0",
            b"",
        ]
        self.assertEqual({"h1", "s1"}, demo_net.mininet_names(lines))

    def test_a_tag_is_free_only_if_no_name_is_taken(self) -> None:
        free = demo_net.tag_is_free
        nobody: set[str] = set()
        self.assertTrue(free("", nobody, nobody, nobody))
        self.assertFalse(free("", {"h3"}, nobody, nobody))
        self.assertFalse(free("", {"lb1"}, nobody, nobody))
        self.assertFalse(free("", nobody, {"s1-eth9"}, nobody))
        self.assertFalse(free("", nobody, {"s1"}, nobody))
        self.assertFalse(free("", nobody, nobody, {"s1"}))
        self.assertTrue(free("", {"h3a", "s2"}, {"s1a-eth1", "s10-eth1"}, {"s1a"}))
        self.assertTrue(free("a", {"h3"}, {"s1-eth1"}, {"s1"}))


class ToolsTest(unittest.TestCase):
    """Output of ip, ethtool, ss and ovs-ofctl."""

    def test_xdp_is_seen_in_every_mode(self) -> None:
        self.assertFalse(demo_net.has_xdp('[{"ifname":"s1-eth1","mtu":1500}]'))
        self.assertTrue(demo_net.has_xdp('[{"ifname":"s1-eth1","xdp":{"mode":1,"prog":{"id":7}}}]'))

    def test_features_are_read_without_remarks(self) -> None:
        text = (
            "Features for h1-eth0:\nrx-checksumming: on\ntx-checksumming: off\n"
            "\ttx-checksum-ipv4: off [fixed]\n\ttx-checksum-ip-generic: off\n"
        )
        wanted = {
            "rx-checksumming": "on",
            "tx-checksumming": "off",
            "tx-checksum-ipv4": "off",
            "tx-checksum-ip-generic": "off",
        }
        self.assertEqual(wanted, demo_net.parse_features(text))

    def test_listeners_are_read_for_both_families(self) -> None:
        text = (
            "udp UNCONN 0 0      0.0.0.0:9999 0.0.0.0:*\n"
            "tcp LISTEN 0 5      *:80         *:*\n"
            "tcp LISTEN 0 5      [::]:8080    [::]:*\n"
        )
        wanted = {("udp", 9999), ("tcp", 80), ("tcp", 8080)}
        self.assertEqual(wanted, demo_net.listeners(text))

    def test_flow_packets_are_summed_for_entries_that_name_an_address(self) -> None:
        dump = (
            "NXST_FLOW reply (xid=0x4):\n"
            " cookie=0x0, table=0, n_packets=5, n_bytes=1, ip,nw_dst=10.0.1.1 actions=drop\n"
            " cookie=0x0, table=0, n_packets=2, n_bytes=1, arp,arp_tpa=10.0.1.2 actions=drop\n"
            " cookie=0x0, table=0, n_packets=90, n_bytes=1, ip,nw_dst=10.0.1.11 actions=drop\n"
            " cookie=0x0, table=0, n_packets=70, n_bytes=1, priority=0 actions=CONTROLLER:128\n"
        )
        self.assertEqual(7, demo_net.count_flow_packets(dump, ("10.0.1.1", "10.0.1.2")))
        self.assertEqual(0, demo_net.count_flow_packets(dump, ("10.0.1.3",)))


@unittest.skipIf(tomllib is None, "reading TOML back needs Python 3.11")
class ConfigurationTest(unittest.TestCase):
    """What is told to the daemon."""

    def test_the_configuration_is_toml_and_names_the_ports(self) -> None:
        parsed = tomllib.loads(demo_lb.config_text("inline", ["s1-eth1", "s1-eth2"], "lb1"))
        self.assertEqual({"kind": "inline", "attach": ["s1-eth1", "s1-eth2"]}, parsed["placement"])
        services = [(v["address"], v["port"], v["protocol"], v["selection"]) for v in parsed["vip"]]
        self.assertIn(("10.0.1.1", 80, "tcp", "random"), services)
        self.assertIn(("10.0.1.1", 9999, "udp", "random"), services)
        self.assertIn(("10.0.1.2", 80, "tcp", "round-robin"), services)
        for vip in parsed["vip"]:
            self.assertEqual("nat", vip["mode"])
            addresses = [backend["address"] for backend in vip["backend"]]
            self.assertEqual(["10.0.0.1", "10.0.0.2"], addresses)

    def test_one_armed_balances_by_dsr_on_a_host(self) -> None:
        parsed = tomllib.loads(demo_lb.config_text("onearm", ["s1-eth1"], "lb1a"))
        self.assertEqual({"kind": "onearm", "host": "lb1a"}, parsed["placement"])
        self.assertEqual({"dsr"}, {vip["mode"] for vip in parsed["vip"]})


class AnswersTest(unittest.TestCase):
    """What the daemon tells."""

    def test_rotation_needs_all_vips_to_agree(self) -> None:
        def status(*states: str) -> dict[str, object]:
            other = {"address": "10.0.0.2", "state": "up"}
            backends = ({"address": "10.0.0.1", "state": state} for state in states)
            return {"vips": [{"backends": [backend, other]} for backend in backends]}

        self.assertIs(True, demo_lb.in_rotation(status("up", "up"), "10.0.0.1"))
        self.assertIs(None, demo_lb.in_rotation(status("up", "down"), "10.0.0.1"))
        self.assertIs(False, demo_lb.in_rotation(status("down", "unknown"), "10.0.0.1"))
        self.assertIs(None, demo_lb.in_rotation({}, "10.0.0.1"))

    def test_forwarded_packets_are_summed(self) -> None:
        stats = json.loads('{"ledger":{"forwarded":9},"vips":[{"forwarded":5},{"forwarded":3},{}]}')
        self.assertEqual(8, demo_lb.forwarded_packets(stats))

    def test_an_answer_that_is_no_object_is_refused(self) -> None:
        for text in ("", "[]", "{"):
            with self.assertRaises(demo_net.DemoError):
                demo_lb.parse_object(text, "lb status")


class SweepTest(unittest.TestCase):
    """What a killed run leaves."""

    def test_only_what_dead_runs_made_goes(self) -> None:
        ended = subprocess.Popen(["true"])
        ended.wait()
        dead, alive = f"lb-demo-{ended.pid}-x1", f"lb-demo-{os.getpid()}-x2"
        others = ["lb-demo-x3", "lb-demo-x3-1", f"other-{ended.pid}-x4"]
        with tempfile.TemporaryDirectory() as temp, tempfile.TemporaryDirectory() as pins:
            for root in (Path(temp), Path(pins)):
                for name in (dead, alive, *others):
                    (root / name / "inner").mkdir(parents=True)
            demo_run.sweep(Path(temp), Path(pins))
            for root in (temp, pins):
                self.assertEqual(sorted([alive, *others]), sorted(os.listdir(root)))


class OffloadsTest(unittest.TestCase):
    """Offloads before and after."""

    def test_each_interface_that_differs_has_one_line(self) -> None:
        before = {"a": {"tso": "on", "gso": "on"}, "b": {"tso": "on"}}
        after = {"a": {"tso": "off", "gso": "off"}, "b": {"tso": "on"}}
        self.assertEqual([], demo_steps.changed_features(before, before))
        lines = demo_steps.changed_features(before, after)
        self.assertEqual(["offloads of a: gso off, tso off"], lines)


class LogTest(unittest.TestCase):
    """The daemon's log, as it arrives."""

    def test_lines_are_found_behind_a_mark_without_colours(self) -> None:
        script = (
            "import sys; print('\\033[32m INFO\\033[0m \\033[1mready\\033[0m: attached', "
            "'backend 10.0.0.1 down (no answer)', sep='\\n', file=sys.stderr)"
        )
        process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
        log = demo_lb.LogFollower()
        reader = log.follow(process)
        process.wait()
        reader.join(10)
        self.assertEqual(["INFO ready: attached"], [line.strip() for line in log.tail(2)][:1])
        self.assertIsNotNone(log.find(r"\bready\b"))
        self.assertIsNotNone(log.find(r"backend 10\.0\.0\.1 down", 1))
        self.assertIsNone(log.find(r"\bready\b", log.mark()))


if __name__ == "__main__":
    unittest.main()
