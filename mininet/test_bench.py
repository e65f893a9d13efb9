"""The Mininet benchmark's parts that need neither root nor Mininet's network."""

from __future__ import annotations

import io
import unittest
from contextlib import redirect_stderr

import bench


class Arguments(unittest.TestCase):
    """The command line."""

    def parse(self, *words: str) -> object:
        return bench.parser().parse_args(["--lb", "lb", "--traffic", "t", *words])

    def test_modes_come_in_their_order(self) -> None:
        args = self.parse("--modes", "inline-redirect,direct", "--rounds", "2", "--seconds", "0.5")
        self.assertEqual(args.modes, ["direct", "inline-redirect"])
        self.assertEqual((args.rounds, args.seconds), (2, 0.5))
        self.assertEqual(self.parse().modes, list(bench.MODES))

    def test_wrong_values_are_refused_in_one_line(self) -> None:
        for words in (["--modes", "none"], ["--modes", ""], ["--rounds", "0"], ["--seconds", "x"]):
            with self.assertRaises(SystemExit) as ended, redirect_stderr(io.StringIO()) as told:
                self.parse(*words)
            self.assertEqual(ended.exception.code, 2)
            self.assertEqual(len(told.getvalue().splitlines()), 1, told.getvalue())


class Reading(unittest.TestCase):
    """Reading what tools print, and summing up."""

    def setUp(self) -> None:
        try:
            import bench_modes
            import bench_net
        except ImportError as error:
            self.skipTest(f"needs Mininet's Python module: {error}")
        self.modes, self.net = bench_modes, bench_net

    def test_every_mode_has_a_label_and_a_set_up(self) -> None:
        self.assertEqual(tuple(self.modes.LABELS), bench.MODES)
        for mode in bench.MODES:
            self.assertTrue(hasattr(self.modes.Bench, "_" + mode.replace("-", "_")))

    def test_figures_are_summed_up(self) -> None:
        figures = self.modes.metrics({"bulk": [3.0, 1.0, 2.0], "udp": []})
        self.assertEqual(
            figures,
            {
                "bulk": {
                    "unit": "Gbit/s",
                    "min": 1.0,
                    "median": 2.0,
                    "max": 3.0,
                    "samples": [3.0, 1.0, 2.0],
                }
            },
        )

    def test_ways_are_counted_in_both_directions(self) -> None:
        reasons = {"to_backend_redirect": 3, "to_client_redirect": 2, "to_client_switch": 1, "x": 9}
        self.assertEqual(self.modes.ways(reasons), {"redirect": 5, "transmit": 0, "switch": 1})

    def test_the_processor_has_a_name(self) -> None:
        self.assertEqual(self.net.cpu_model("processor\t: 0\nmodel name\t: A CPU\n"), "A CPU")
        self.assertIsNone(self.net.cpu_model(""))


if __name__ == "__main__":
    unittest.main()
