"""Mininet classes for the balancer: switch, controller, host and topologies.

From Mininet's command line::

    mn --custom mininet/lb_mininet.py --topo single,6 \\
       --switch ovsu --controller ofshim
    mn --custom mininet/lb_mininet.py --topo onearm,6 \\
       --switch ovsu,openflow=1.0 --controller ofshim,openflow=1.0

and from scripts::

    from lb_mininet import LbSwitch, OfshimController, OneArmTopo

What the classes add to Mininet's own:

* ``LbSwitch`` (``--switch ovsu``) takes the kernel datapath of Open vSwitch
  where there is one and the userspace datapath elsewhere, and never replaces
  a bridge that another running program made.
* On the userspace datapath a host's packets leave with half a checksum, and
  no TCP connection comes about until TX checksum offload is off on every host
  interface. ``LbSwitch`` turns it off on the hosts behind it, ``LbHost`` on
  its own interfaces.
* ``OfshimController`` (``--controller ofshim``) runs the ofshim binary, waits
  until it listens, and ends that one process only.

``mn --custom`` executes this file without ``__file__`` and copies every name
into its own: nothing here may hide a name that ``mn`` uses.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, NoReturn, Optional, Sequence, Union

from mininet.link import Intf
from mininet.log import error, info
from mininet.node import Controller, Host, Node, OVSSwitch
from mininet.topo import Topo

OpenFlowVersion = Union[str, float]

OPENFLOW_PROTOCOLS = {"1.0": "OpenFlow10", "1.3": "OpenFlow13"}
"""OpenFlow versions and the name that Open vSwitch has for each."""

DEFAULT_OPENFLOW = "1.3"
LISTEN_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
OWNER_KEY = "lb-mininet-pid"
"""Key in a bridge's external-ids that says which process made the bridge."""


class SetupError(SystemExit):
    """The network cannot be built; the reason is printed as one line.

    A ``SystemExit`` with status 2, since ``mn`` answers every other exception
    with its global clean-up, which would destroy networks of other programs.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(2)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def fail(reason: str) -> NoReturn:
    """Print ``reason`` on one line and raise ``SetupError``."""
    error(f"*** {reason}\n")
    raise SetupError(reason)


def openflow_version(value: OpenFlowVersion) -> str:
    """Return ``"1.0"`` or ``"1.3"``; mn hands ``openflow=1.0`` over as a float."""
    version = str(value)
    if version not in OPENFLOW_PROTOCOLS:
        known = " or ".join(OPENFLOW_PROTOCOLS)
        fail(f"openflow={version}: unknown OpenFlow version, use {known}")
    return version


# Which datapath


def kernel_datapath_present() -> bool:
    """Say whether this kernel has the datapath of Open vSwitch.

    Asks generic netlink for the family ``ovs_datapath``, which also loads the
    module where there is one to load.
    """
    get_family, family_name_attr, ctrl_id, nlmsg_error = 3, 2, 16, 2
    name = b"ovs_datapath\0"
    attr = struct.pack("=HH", 4 + len(name), family_name_attr) + name
    attr += bytes(-len(attr) % 4)
    body = struct.pack("=BBH", get_family, 1, 0) + attr
    request = struct.pack("=IHHII", 16 + len(body), ctrl_id, 1, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as link:
            link.settimeout(2.0)
            link.sendto(request, (0, 0))
            reply = link.recv(8192)
    except OSError:
        return False
    return len(reply) >= 16 and struct.unpack_from("=H", reply, 4)[0] != nlmsg_error


def choose_datapath(wanted: str = "auto") -> str:
    """Return Mininet's word for the datapath to use: ``kernel`` or ``user``."""
    if wanted == "auto":
        return "kernel" if kernel_datapath_present() else "user"
    if wanted not in ("kernel", "user"):
        fail(f"datapath={wanted}: unknown datapath, use auto, kernel or user")
    return wanted


# Checksum offload of host interfaces


def tx_checksum_is_on(ethtool_output: str) -> bool:
    """Read the output of ``ethtool -k``: is TX checksum offload on?"""
    for line in ethtool_output.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "tx-checksumming":
            return value.split()[:1] == ["on"]
    return False


def disable_tx_checksum(intf: Intf) -> bool:
    """Turn TX checksum offload off on ``intf``; return whether it was on.

    What was changed is remembered on the interface for
    ``restore_tx_checksum``. Doing it twice changes nothing.
    """
    if getattr(intf, "lb_tx_was_on", False):
        return False
    node = intf.node
    if not tx_checksum_is_on(node.cmd("ethtool", "-k", intf.name)):
        return False
    node.cmd("ethtool", "-K", intf.name, "tx", "off")
    if tx_checksum_is_on(node.cmd("ethtool", "-k", intf.name)):
        fail(
            f"{intf.name}: TX checksum offload stays on; "
            f"'ethtool -K {intf.name} tx off' in {node.name} has to work"
        )
    intf.lb_tx_was_on = True
    return True


def restore_tx_checksum(intf: Intf) -> None:
    """Undo ``disable_tx_checksum`` if it was that which changed ``intf``."""
    if getattr(intf, "lb_tx_was_on", False):
        intf.node.cmd("ethtool", "-K", intf.name, "tx", "on")
        intf.lb_tx_was_on = False


def peer_of(intf: Intf) -> Optional[Intf]:
    """Return the interface at the other end of ``intf``'s link."""
    link = intf.link
    if link is None:
        return None
    return link.intf2 if link.intf1 is intf else link.intf1


class LbHost(Host):
    """A host whose own interfaces have TX checksum offload off."""

    def config(self, **params: Any) -> dict[str, Any]:
        """Configure as ``Host`` does, then turn the offload off."""
        result = super().config(**params)
        for intf in self.intfList():
            disable_tx_checksum(intf)
        return result

    def terminate(self) -> None:
        """Give interfaces that outlive the host their offload back."""
        if self.shell:
            for intf in self.intfList():
                restore_tx_checksum(intf)
        super().terminate()


# Addresses of a backend behind layer-2 DSR


def own_vip(node: Node, vip: str) -> None:
    """Let ``node`` serve ``vip`` behind layer-2 DSR.

    The address goes to the loopback interface; ``arp_ignore`` and
    ``arp_announce`` keep the host from answering ARP requests for it and from
    naming it as the sender of its own.
    """
    for key, value in (("arp_ignore", 1), ("arp_announce", 2)):
        node.cmd(f"echo {value} > /proc/sys/net/ipv4/conf/all/{key}")
    node.cmd("ip", "address", "replace", f"{vip}/32", "dev", "lo")


# Switch


def bridge_owner(name: str) -> Optional[str]:
    """Return who made the bridge ``name``: None if there is no such bridge,
    ``""`` if it does not say, else the process id as text."""
    if subprocess.run(["ovs-vsctl", "-t", "2", "br-exists", name]).returncode != 0:
        return None
    command = ["ovs-vsctl", "-t", "2", "br-get-external-id", name, OWNER_KEY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def process_alive(pid: str) -> bool:
    """Say whether a process with the id ``pid`` runs."""
    return pid.isdigit() and Path("/proc", pid).exists()


def bridge_is_stale(name: str) -> bool:
    """Say whether ``LbSwitch`` made the bridge in a process that has ended."""
    owner = bridge_owner(name)
    return owner is not None and owner != "" and not process_alive(owner)


def refuse_foreign_bridge(name: str) -> None:
    """Fail if the bridge ``name`` exists and is not a leftover of ours.

    Mininet itself would delete the bridge, whoever made it. A leftover goes
    here and now: deleted and made again in one call, as Mininet does it, a
    bridge keeps its ports open on interfaces that are gone, and the new ones
    of the same names get no packet through.
    """
    owner = bridge_owner(name)
    if owner is None:
        return
    if bridge_is_stale(name):
        subprocess.run(["ovs-vsctl", "-t", "10", "--if-exists", "del-br", name])
        return
    maker = f"by process {owner}" if owner else "by another program"
    fail(
        f"bridge {name} exists already, made {maker}: "
        f"end that, or remove it with 'ovs-vsctl del-br {name}'"
    )


class LbSwitch(OVSSwitch):
    """Open vSwitch on the best datapath that this machine has.

    ``datapath`` is ``auto`` (default), ``kernel`` or ``user``; what was chosen
    is in the attribute of the same name and, in words, in
    ``datapath_name``. ``openflow`` is ``1.0`` or ``1.3``, ``fix_offloads``
    says whether the hosts behind a userspace datapath get their TX checksum
    offload turned off. Fail mode is secure and in-band control is off.
    """

    def __init__(
        self,
        name: str,
        datapath: str = "auto",
        openflow: OpenFlowVersion = DEFAULT_OPENFLOW,
        fix_offloads: bool = True,
        **params: Any,
    ) -> None:
        refuse_foreign_bridge(name)
        params.setdefault("protocols", OPENFLOW_PROTOCOLS[openflow_version(openflow)])
        params.setdefault("failMode", "secure")
        params.setdefault("inband", False)
        super().__init__(name, datapath=choose_datapath(datapath), **params)
        self.fix_offloads = fix_offloads

    @property
    def datapath_name(self) -> str:
        """``kernel`` or ``userspace``."""
        return "userspace" if self.datapath == "user" else "kernel"

    def bridgeOpts(self) -> str:
        """Options of the bridge: Mininet's, and who made it."""
        return f"{super().bridgeOpts()} external-ids:{OWNER_KEY}={os.getpid()}"

    def start(self, controllers: Sequence[Controller]) -> None:
        """Start the bridge and make its hosts fit for the datapath."""
        super().start(controllers)
        info(f"({self.datapath_name} datapath) ")
        if self.fix_offloads and self.datapath == "user":
            self.disable_host_offloads()

    def disable_host_offloads(self) -> int:
        """Turn TX checksum offload off on the hosts; return on how many."""
        peers = (peer_of(intf) for intf in self.intfList())
        hosts = [peer for peer in peers if peer and isinstance(peer.node, Host)]
        return sum(disable_tx_checksum(intf) for intf in hosts)


# Controller


def this_folder() -> Path:
    """The folder of this file, also when ``mn --custom`` executes it."""
    return Path(this_folder.__code__.co_filename).resolve().parent


def find_ofshim(command: Optional[str] = None) -> str:
    """Find the ofshim binary: ``command``, ``$OFSHIM``, PATH, ``target/``."""
    named = command or os.environ.get("OFSHIM")
    if named:
        found = shutil.which(named)
        return found or fail(f"ofshim: {named} is not a program that can be run")
    target = this_folder().parent / "target"
    places = [shutil.which("ofshim"), target / "release/ofshim", target / "debug/ofshim"]
    for place in places:
        if place and os.access(place, os.X_OK):
            return str(place)
    fail("ofshim not found: build it with 'cargo build --release -p ofshim', or set OFSHIM")


def listening_ports(proc_net_tcp: str) -> set[int]:
    """Read ``/proc/net/tcp``: the ports on which something listens."""
    ports = set()
    for line in proc_net_tcp.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == "0A":
            ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def port_in_use(port: int) -> bool:
    """Say whether something on this machine listens on TCP ``port``."""
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    return any(port in listening_ports(t.read_text()) for t in tables if t.exists())


def last_line(path: str) -> str:
    """Return the last line of a log file that is not empty."""
    lines = [line for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "(the log is empty)"


class OfshimController(Controller):
    """The project's OpenFlow controller as a Mininet controller.

    ``command`` names the binary (else it is looked for, see ``find_ofshim``),
    ``openflow`` the version, ``lb_socket`` the balancer's socket, ``run_dir``
    ofshim's own run folder, ``log_file`` where its log goes (default
    ``/tmp/ofshim-NAME.log``), ``options`` further arguments.
    """

    program = "ofshim"

    def __init__(
        self,
        name: str,
        port: int = 6653,
        openflow: OpenFlowVersion = DEFAULT_OPENFLOW,
        command: Optional[str] = None,
        lb_socket: Optional[str] = None,
        run_dir: Optional[str] = None,
        log_file: Optional[str] = None,
        options: Sequence[str] = (),
        **params: Any,
    ) -> None:
        self.openflow = openflow_version(openflow)
        self.lb_socket = lb_socket
        self.run_dir = run_dir
        self.log_file = log_file or f"/tmp/ofshim-{name}.log"
        self.options = list(options)
        self.process: Optional[subprocess.Popen[bytes]] = None
        super().__init__(name, command=find_ofshim(command), port=int(port), **params)

    @classmethod
    def isAvailable(cls) -> bool:
        """Say whether there is an ofshim binary."""
        try:
            return bool(find_ofshim())
        except SetupError:
            return False

    def checkListening(self) -> None:
        """Fail if another program has the port."""
        if port_in_use(self.port):
            fail(
                f"port {self.port} is taken, so ofshim cannot listen on it: "
                f"end the other controller ('ss -ltnp sport = :{self.port}') "
                "or choose another with port=N"
            )

    def arguments(self) -> list[str]:
        """The command line; setpriv lets ofshim end when Mininet is killed."""
        setpriv = shutil.which("setpriv")
        args = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        args += [self.command, "run", "--listen", f"{self.ip}:{self.port}"]
        args += ["--openflow", self.openflow]
        if self.lb_socket:
            args += ["--lb-socket", self.lb_socket]
        if self.run_dir:
            args += ["--run-dir", self.run_dir]
        return args + self.options

    def start(self) -> None:
        """Start ofshim and wait until it listens."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        log = os.open(self.log_file, flags, 0o644)
        try:
            self.process = subprocess.Popen(
                self.arguments(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.wait_until_listening()
        self.execed = False

    def wait_until_listening(self) -> None:
        """Return when the port is open; fail when ofshim ends or is late."""
        assert self.process is not None
        deadline = time.monotonic() + LISTEN_TIMEOUT_S
        while not port_in_use(self.port):
            status = self.process.poll()
            if status is not None:
                fail(f"{self.program} ended with status {status}: {last_line(self.log_file)}")
            if time.monotonic() > deadline:
                self.end_process()
                fail(f"{self.program} does not listen on port {self.port}; see {self.log_file}")
            time.sleep(0.02)

    def end_process(self) -> None:
        """End the process that ``start`` began, and no other."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self, *args: Any, **kwargs: Any) -> None:
        """Stop ofshim and the node."""
        self.end_process()
        Node.stop(self, *args, **kwargs)


# Topologies


class SeedTopo(Topo):
    """One switch with ``k`` hosts h1, h2, ... at 10.0.0.1, 10.0.0.2, ...

    The same as Mininet's ``single,k``. ``tag`` is appended to every name, so
    that the network can stand beside another one.
    """

    def build(self, k: int = 6, tag: str = "", **_params: Any) -> None:
        """Add the switch and the hosts."""
        self.switch = self.addSwitch(f"s1{tag}")
        for number in range(1, int(k) + 1):
            self.add_host_at(f"h{number}{tag}", number)

    def add_host_at(self, name: str, number: int) -> None:
        """Add a host with the address 10.0.0.``number`` on the next port."""
        host = self.addHost(name, ip=f"10.0.0.{number}/8")
        self.addLink(host, self.switch)


class OneArmTopo(SeedTopo):
    """``SeedTopo`` with one host more, ``lb1``, that only balances."""

    def build(self, k: int = 6, tag: str = "", **_params: Any) -> None:
        """Add the switch, the hosts, and the balancer's host after them."""
        super().build(k=k, tag=tag)
        self.add_host_at(f"lb1{tag}", int(k) + 1)


# What ``mn --custom`` looks for

switches = {"ovsu": LbSwitch}
controllers = {"ofshim": OfshimController}
hosts = {"lbhost": LbHost}
topos = {"seed": SeedTopo, "onearm": OneArmTopo}
