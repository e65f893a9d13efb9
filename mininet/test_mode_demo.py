"""Tests of ``mode_demo``'s command line; they need neither root nor Mininet."""

from __future__ import annotations

import contextlib
import io
import unittest

import mode_demo


class CommandLine(unittest.TestCase):
    """What the demonstration of both modes takes and refuses."""

    def test_defaults(self) -> None:
        """Four moves, over OpenFlow 1.3."""
        args = mode_demo.parser().parse_args([])
        self.assertEqual((args.moves, args.openflow), (4, "1.3"))

    def test_bad_counts_are_refused_in_one_line(self) -> None:
        """A number of moves that makes no sense ends with status 2."""
        for text in ("0", "101", "many", "-1"):
            error = io.StringIO()
            with self.assertRaises(SystemExit) as ended, contextlib.redirect_stderr(error):
                mode_demo.parser().parse_args([f"--moves={text}"])
            self.assertEqual(ended.exception.code, mode_demo.STATUS_CANNOT_RUN)
            self.assertIn("use a number from 1 to 100", error.getvalue())
            self.assertEqual(error.getvalue().count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
