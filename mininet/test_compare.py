"""The comparison's parts that need neither root nor Mininet's network."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import unittest
from contextlib import redirect_stderr
from pathlib import Path

import compare
import compare_names
from demo import CannotRun


def parse(*words: str) -> object:
    """Arguments with the programs that every call names."""
    programs = ["--lb", "lb", "--ofshim", "ofshim", "--traffic", "t", "--load", "l"]
    return compare.parser().parse_args([*programs, *words])


def fake_ofshim(folder: str, known: str) -> str:
    """A program that takes the value ``known`` of ``--lb`` and nothing else."""
    path = Path(folder, "ofshim")
    path.write_text(f'#!/bin/sh\n[ "$1 $2 $3 $#" = "run --lb {known} 4" ]\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


class Arguments(unittest.TestCase):
    """The command line, and which modes can be measured."""

    def test_modes_come_in_their_order(self) -> None:
        self.assertEqual(parse("--modes", "inline,direct").modes, ["direct", "inline"])
        self.assertIsNone(parse().modes)

    def test_wrong_values_are_refused_in_one_line(self) -> None:
        for words in (["--modes", "none"], ["--rounds", "0"], ["--flows", "0"], ["--most", "x"]):
            with self.assertRaises(SystemExit) as ended, redirect_stderr(io.StringIO()) as told:
                parse(*words)
            self.assertEqual(ended.exception.code, 2)
            self.assertEqual(len(told.getvalue().splitlines()), 1, told.getvalue())

    def test_quick_is_one_round_without_changes_of_the_pool(self) -> None:
        wanted = compare.settings(parse("--quick"))
        self.assertEqual((wanted.rounds, wanted.seconds, wanted.flows), (1, 1.0, 0))
        self.assertEqual(compare.settings(parse("--rounds", "5", "--flows", "9")).flows, 9)

    def test_what_ofshim_does_not_take_is_left_out_or_refused_by_name(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            args = parse()
            args.ofshim = fake_ofshim(folder, "pox")
            modes, missing = compare.modes_of(args)
            self.assertIn("pox", modes)
            self.assertEqual(missing["nox"], "this ofshim has no --lb nox")
            self.assertEqual(missing["pox-original"], "it needs --pox DIR, a checkout of POX")
            args.modes = ["inline", "group"]
            with self.assertRaises(CannotRun) as refused:
                compare.modes_of(args)
            reason = "mode group: this ofshim has no --lb openflow --lb-entries group"
            self.assertEqual(str(refused.exception), reason)

    def test_a_folder_without_pox_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            args = parse("--pox", folder)
            args.ofshim = fake_ofshim(folder, "pox")
            with self.assertRaisesRegex(CannotRun, "there is no pox.py in it"):
                compare.modes_of(args)
            Path(folder, "pox.py").touch()
            self.assertIn("pox-original", compare.modes_of(args)[0])
            args.quick = True
            self.assertIn("pox-original", compare.modes_of(args)[0], "asked for, so measured")


class Reading(unittest.TestCase):
    """Reading what the machine and its tools say."""

    def setUp(self) -> None:
        try:
            import compare_meter
        except ImportError as error:
            self.skipTest(f"needs Mininet's Python module: {error}")
        self.meter = compare_meter

    def test_processor_time_is_read_behind_the_name(self) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        stat_line = f"12 (a) b (c) S 1 1 1 0 -1 4 0 0 0 0 {ticks} {2 * ticks} 0 0 20 0 1 0 5 6 7"
        self.assertEqual(self.meter.process_seconds(stat_line), 3.0)
        self.assertGreater(self.meter.process_seconds(Path("/proc/1/stat").read_text()), 0.0)

    def test_idle_and_waiting_is_not_processor_time(self) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        line = f"cpu  {ticks} 0 {ticks} 99999 99999 0 {ticks} 0 0 0\ncpu0 1 1 1 1\n"
        self.assertEqual(self.meter.machine_seconds(line), 3.0)

    def test_memory_entries_and_packets_are_read(self) -> None:
        self.assertEqual(self.meter.resident_mib("Name:\tx\nVmRSS:\t    2048 kB\n"), 2.0)
        aggregate = "OFPST_AGGREGATE reply (OF1.3): packet_count=7 byte_count=9 flow_count=41\n"
        self.assertEqual(self.meter.entry_count(aggregate), 41)
        tables = '  table 0 ("classifier"):\n    active=3, lookup=100, matched=60\n  table 1:\n'
        self.assertEqual(self.meter.missed_packets(tables), 40)
        metrics = '# HELP a b\na_total{switch="1"} 3\na_total{switch="2"} 4\nab_total 9\n'
        self.assertEqual(self.meter.metric_sum(metrics, "a_total"), 7)

    def test_answers_of_another_kind_are_refused(self) -> None:
        from demo_net import DemoError

        for read, text in (
            (self.meter.resident_mib, ""),
            (self.meter.entry_count, "none"),
            (self.meter.missed_packets, "none"),
            (lambda text: self.meter.metric_sum(text, "a"), "ab 1\n"),
        ):
            self.assertRaises(DemoError, read, text)

    def test_the_most_of_samples_is_kept_and_their_failure_told(self) -> None:
        from demo_net import DemoError

        samples = iter([3, 9, 4])
        with self.meter.Most(lambda: next(samples)) as most:
            pass
        self.assertEqual(most.most(), 3, "at least one, however short it was")

        def fails() -> int:
            raise DemoError("no switch")

        with self.meter.Most(fails) as most:
            pass
        self.assertRaisesRegex(DemoError, "no switch", most.most)


class Modes(unittest.TestCase):
    """The table of modes, and what becomes of samples."""

    def setUp(self) -> None:
        try:
            import compare_modes
            import compare_results
            import compare_scene
        except ImportError as error:
            self.skipTest(f"needs Mininet's Python module: {error}")
        self.modes, self.results, self.scene = compare_modes, compare_results, compare_scene

    def test_the_table_has_every_name_in_its_order(self) -> None:
        self.assertEqual(tuple(mode.name for mode in self.modes.ALL), compare_names.MODES)
        self.assertLess(set(compare_names.QUICK_MODES), set(compare_names.MODES))
        for mode in self.modes.ALL:
            self.assertLessEqual(set(mode.without), set(self.results.UNITS), mode.name)

    def test_modules_know_every_name_that_they_use(self) -> None:
        import builtins
        import dis
        import types

        def code_of(code: types.CodeType) -> list[types.CodeType]:
            inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
            return [code, *(each for one in inner for each in code_of(one))]

        import compare_measure

        for module in (self.modes, self.results, self.scene, compare_measure, compare):
            known = vars(module).keys() | vars(builtins).keys()
            code = compile(Path(module.__file__).read_text(), module.__file__, "exec")
            used = {
                step.argval
                for each in code_of(code)
                for step in dis.get_instructions(each)
                if step.opname == "LOAD_GLOBAL"
            }
            self.assertEqual(used - known, set(), module.__name__)

    def test_the_pool_grows_by_a_third(self) -> None:
        self.assertEqual(len(self.scene.BACKENDS) / len(self.scene.POOL), 4 / 3)

    def test_samples_are_summed_up_and_gaps_have_a_reason(self) -> None:
        results = self.results.Results()
        for value in (3.0, 1.0, 2.0):
            results.keep("pox", "bulk", value)
        results.keep("pox", "load_800_p99", 12.0)
        results.keep("pox", "udp", None, "balances TCP only")
        (mode,) = results.modes(["pox"])
        metrics = mode["metrics"]
        bulk = (metrics["bulk"]["min"], metrics["bulk"]["median"], metrics["bulk"]["max"])
        self.assertEqual(bulk, (1.0, 2.0, 3.0))
        self.assertEqual(metrics["load_800_p99"]["unit"], "ms")
        self.assertEqual(metrics["udp"]["median"], None)
        self.assertEqual(metrics["udp"]["reason"], "balances TCP only")
        self.assertEqual(metrics["dead_backend"]["reason"], "not measured")

    def test_rates_that_all_modes_have_are_told_from_those_in_between(self) -> None:
        from compare_measure import is_doubled

        self.assertTrue(all(map(is_doubled, (100, 200, 400, 800, 51_200))))
        self.assertFalse(any(map(is_doubled, (0, 50, 141, 300, 566))))

    def test_static_entries_deal_out_ports_in_powers_of_two(self) -> None:
        from bench_net import turns_of

        self.assertEqual(turns_of(["a", "b"]), ["a", "b"])
        self.assertEqual(turns_of(["a", "b", "c"]), ["a", "b", "c", "a"])
        self.assertEqual(turns_of(["a", "b", "c", "d"]), ["a", "b", "c", "d"])


if __name__ == "__main__":
    unittest.main()
