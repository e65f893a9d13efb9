"""The parts of the Mininet classes that need neither root nor a switch."""

import contextlib
import io
import os
import socket
import tempfile
import unittest
from pathlib import Path
from typing import Optional
from unittest import mock

import lb_mininet
import udp_echo


class VersionTest(unittest.TestCase):
    """OpenFlow versions and datapaths, as mn hands them over."""

    def test_mn_gives_numbers(self) -> None:
        self.assertEqual("1.0", lb_mininet.openflow_version(1.0))
        self.assertEqual("1.3", lb_mininet.openflow_version("1.3"))

    def test_what_is_unknown_ends_with_status_2(self) -> None:
        for function, wrong in (
            (lb_mininet.openflow_version, "1.1"),
            (lb_mininet.choose_datapath, "x"),
        ):
            with self.assertRaises(lb_mininet.SetupError) as caught, silence():
                function(wrong)
            self.assertEqual(2, caught.exception.code)

    def test_the_datapath_follows_the_kernel(self) -> None:
        for present, wanted in ((True, "kernel"), (False, "user")):
            with mock.patch.object(lb_mininet, "kernel_datapath_present", return_value=present):
                self.assertEqual(wanted, lb_mininet.choose_datapath())
                self.assertEqual("user", lb_mininet.choose_datapath("user"))


class ReadingTest(unittest.TestCase):
    """Output of ethtool and the kernel's socket table."""

    def test_offload_state(self) -> None:
        head = "Features for h1-eth0:\nrx-checksumming: on\n"
        self.assertTrue(lb_mininet.tx_checksum_is_on(head + "tx-checksumming: on\n"))
        self.assertFalse(lb_mininet.tx_checksum_is_on(head + "tx-checksumming: off\n"))
        self.assertFalse(lb_mininet.tx_checksum_is_on("netlink error: No such device\n"))

    def test_only_listening_ports_count(self) -> None:
        table = (
            "  sl  local_address rem_address   st tx_queue\n"
            "   0: 0100007F:19FD 00000000:0000 0A 00000000:00000000\n"
            "   1: 0100007F:1A0B 0100007F:19FD 01 00000000:00000000\n"
        )
        self.assertEqual({6653}, lb_mininet.listening_ports(table))

    def test_a_port_is_in_use_while_somebody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.assertTrue(lb_mininet.port_in_use(port))
        self.assertFalse(lb_mininet.port_in_use(port))


class BridgeTest(unittest.TestCase):
    """A bridge that has the name already."""

    def commands(self, owner: Optional[str]) -> list[list[str]]:
        """What is run for a bridge of ``owner``."""
        ran = mock.Mock()
        owned = mock.patch.object(lb_mininet, "bridge_owner", return_value=owner)
        with owned, mock.patch.object(lb_mininet.subprocess, "run", ran), silence():
            lb_mininet.refuse_foreign_bridge("s1")
        return [call.args[0] for call in ran.call_args_list]

    def test_a_leftover_goes_in_a_call_of_its_own(self) -> None:
        never_a_process = "4194305"
        [command] = self.commands(never_a_process)
        self.assertEqual(["--if-exists", "del-br", "s1"], command[-3:])

    def test_nothing_else_is_removed(self) -> None:
        self.assertEqual([], self.commands(None))
        for owner in ("", str(os.getpid())):
            with self.assertRaises(lb_mininet.SetupError):
                self.commands(owner)


class FindTest(unittest.TestCase):
    """Where the ofshim binary is looked for."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def program(self, path: str) -> str:
        """Make a program below the folder."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
        return str(file)

    def find(self, command: str = "", **env: str) -> str:
        """Look with an environment, this file's folder being ``mininet/``."""
        environment = mock.patch.dict(os.environ, {"PATH": "", "OFSHIM": "", **env})
        folder = mock.patch.object(lb_mininet, "this_folder", return_value=self.root / "mininet")
        with environment, folder, silence():
            return lb_mininet.find_ofshim(command or None)

    def test_order(self) -> None:
        with self.assertRaises(lb_mininet.SetupError):
            self.find()
        debug = self.program("target/debug/ofshim")
        self.assertEqual(debug, self.find())
        release = self.program("target/release/ofshim")
        self.assertEqual(release, self.find())
        on_path = self.program("bin/ofshim")
        self.assertEqual(on_path, self.find(PATH=str(self.root / "bin")))
        named = self.program("other/shim")
        self.assertEqual(named, self.find(OFSHIM=named, PATH=str(self.root / "bin")))
        self.assertEqual(debug, self.find(debug, OFSHIM=named))

    def test_a_name_that_is_wrong_is_not_replaced(self) -> None:
        self.program("target/release/ofshim")
        with self.assertRaises(lb_mininet.SetupError):
            self.find(OFSHIM=str(self.root / "nothing"))


class CustomFileTest(unittest.TestCase):
    """mn executes the file without ``__file__`` and takes over its names."""

    def test_it_executes_as_mn_does(self) -> None:
        path = Path(lb_mininet.__file__)
        customs: dict[str, object] = {}
        exec(compile(path.read_text(), str(path), "exec"), customs, customs)
        self.assertEqual({"ovsu"}, set(customs["switches"]))  # type: ignore[call-overload]
        self.assertEqual({"ofshim"}, set(customs["controllers"]))  # type: ignore[call-overload]
        self.assertEqual({"seed", "onearm"}, set(customs["topos"]))  # type: ignore[call-overload]
        self.assertEqual(path.resolve().parent, customs["this_folder"]())  # type: ignore[operator]

    def test_it_hides_no_name_of_mn(self) -> None:
        mine = set(vars(lb_mininet))
        names_of_mn = {"CLI", "TOPOS", "SWITCHES", "HOSTS", "CONTROLLERS", "LINKS", "TESTS"}
        names_of_mn |= {"cleanup", "output", "debug", "warn", "exit", "version", "partial"}
        self.assertEqual(set(), mine & names_of_mn)


class TopologyTest(unittest.TestCase):
    """Names and addresses of the topologies."""

    def test_seed(self) -> None:
        topo = lb_mininet.SeedTopo(k=6)
        self.assertEqual([f"h{n}" for n in range(1, 7)], topo.hosts())
        self.assertEqual(["s1"], topo.switches())
        self.assertEqual("10.0.0.6/8", topo.nodeInfo("h6")["ip"])
        self.assertEqual(3, topo.port("s1", "h3")[0])

    def test_one_arm_puts_the_balancer_on_the_last_port(self) -> None:
        topo = lb_mininet.OneArmTopo(k=6, tag="b")
        self.assertEqual("10.0.0.7/8", topo.nodeInfo("lb1b")["ip"])
        self.assertEqual(7, topo.port("s1b", "lb1b")[0])
        self.assertEqual(7, len(topo.hosts()))


class UdpEchoTest(unittest.TestCase):
    """The UDP service's answers."""

    def test_an_answer_names_the_server_and_repeats_the_question(self) -> None:
        question = b"question 1 \0\xff"
        self.assertEqual("h1", udp_echo.who_answered(question, udp_echo.answer_to("h1", question)))
        self.assertEqual("", udp_echo.who_answered(question, b"h1 question 2"))
        self.assertEqual("", udp_echo.who_answered(question, b""))

    def test_the_answer_leaves_from_the_address_asked(self) -> None:
        asked = bytes([2, 0, 0, 0, 10, 0, 0, 1, 10, 0, 1, 1])
        wanted = bytes([0, 0, 0, 0, 10, 0, 1, 1, 0, 0, 0, 0])
        kind = (socket.IPPROTO_IP, udp_echo.IP_PKTINFO)
        self.assertEqual([(*kind, wanted)], udp_echo.reply_control([(*kind, asked)]))
        self.assertEqual([], udp_echo.reply_control([(*kind, asked[:8])]))

    def test_nobody_answers_on_a_closed_port(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.assertEqual({"": 2}, dict(udp_echo.ask("127.0.0.1", port, 2, 0.5)))


@contextlib.contextmanager
def silence():  # type: ignore[no-untyped-def]
    """Keep what Mininet's logger says out of the test's output."""
    with mock.patch.object(lb_mininet, "error"), contextlib.redirect_stderr(io.StringIO()):
        yield


if __name__ == "__main__":
    unittest.main()
