"""The seed experiments' parts that need neither root nor a switch."""

from __future__ import annotations

import io
import socket
import threading
import unittest
from contextlib import redirect_stderr

import classic_net
import experiment
import name_server


class Arguments(unittest.TestCase):
    """The command line."""

    def test_both_experiments_have_their_balancers(self) -> None:
        args = experiment.parser().parse_args(["nox", "--balancer", "nox", "--balancer", "xdp"])
        self.assertEqual((args.experiment, args.balancer), ("nox", ["nox", "xdp"]))
        self.assertEqual(experiment.parser().parse_args(["pox"]).openflow, "1.0")

    def test_wrong_values_are_refused_in_one_line(self) -> None:
        for words in ([], ["x"], ["pox", "--balancer", "nox"], ["pox", "--requests", "1"], ["nox", "--mac"]):
            with self.assertRaises(SystemExit) as ended, redirect_stderr(io.StringIO()) as told:
                experiment.parser().parse_args(words)
            self.assertEqual(ended.exception.code, 2)
            self.assertEqual(len(told.getvalue().splitlines()), 1, told.getvalue())

    def test_a_binary_that_is_not_there_is_named(self) -> None:
        with self.assertRaises(experiment.CannotRun):
            experiment.built("lb", "/nowhere/lb")


class Names(unittest.TestCase):
    """The service that stands for ``ssh HOST uname -n``."""

    def test_a_server_says_its_name(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        thread = threading.Thread(target=name_server.serve, args=("h2", port), daemon=True)
        thread.start()
        for _ in range(100):
            name = name_server.ask("127.0.0.1", port, 1.0)
            if name:
                break
        self.assertEqual(name, "h2")

    def test_nobody_is_none(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.assertIsNone(name_server.ask("127.0.0.1", port, 1.0))


class Configuration(unittest.TestCase):
    """What ``lb`` is told."""

    def test_hosts_of_one_address_are_told_by_their_macs(self) -> None:
        text = classic_net.nox_config(["s1-eth1"], ["00:00:00:00:00:02", "00:00:00:00:00:03"])
        self.assertEqual(text.count('address = "192.168.2.2"'), 3)
        self.assertIn('mac = "00:00:00:00:00:03"', text)
        self.assertIn('attach = ["s1-eth1"]', text)

    def test_backends_that_are_up_are_counted(self) -> None:
        backends = [{"state": "up"}, {"state": "down"}]
        self.assertEqual(classic_net.backends_up({"vips": [{"backends": backends}]}), 1)


if __name__ == "__main__":
    unittest.main()
