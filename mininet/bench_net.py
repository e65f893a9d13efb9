"""The network of the Mininet benchmark: a switch without a controller."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Iterable, Mapping, Optional, Sequence

from demo_net import BACKENDS, BALANCER, VIP, DemoError, Network, run
from lb_mininet import OPENFLOW_PROTOCOLS

CLIENT = "h3"
LOAD_PORT = 9000
CONTROL_PORT = 9001
LOAD_SERVICES = (("tcp", LOAD_PORT), ("udp", LOAD_PORT))
UDP_SENDING: tuple[tuple[str, ...], ...] = ((), ("--segmented",))
"""How datagrams are sent: each mode counts with what suits it better. A sender
that hands them to the kernel one by one cannot fill a path that takes no
process's time; one that can takes the time from a switch that needs it."""
VIP_MAC = "02:6c:0a:00:01:01"
"""The VIP's MAC: the one that the balancer gives it by default."""


class BenchNetwork(Network):
    """The demonstration's network with a host that only balances, and no
    controller: what the switch does is in entries that never change.

    ``backends`` has the address of each backend by its role.
    """

    def __init__(
        self,
        work_dir: Path,
        tag: str,
        backends: Mapping[str, str] = BACKENDS,
        openflow: str = "1.3",
    ) -> None:
        super().__init__(work_dir, openflow, "onearm", tag)
        self.backends = dict(backends)

    def start_plain(self, traffic: str) -> None:
        """Build everything, forward by learned MACs, start the servers."""
        self.mininet.build()
        self.mininet.start()
        self.set_flows([])
        for role in self.backends:
            self.start_traffic_server(role, traffic)
        for role in self.backends:
            if not self.ping(CLIENT, role):
                raise DemoError(f"{CLIENT} does not reach {role}")

    def start_traffic_server(self, role: str, traffic: str) -> None:
        """Start bench-traffic's server on a backend."""
        # The side that closes waits out old segments, and would refuse
        # new connections of the same ports when it has too many to wait for.
        self.run(role, ["sysctl", "-q", "-w", "net.ipv4.tcp_max_tw_buckets=0"])
        ports = ["--port", str(LOAD_PORT), "--control", str(CONTROL_PORT)]
        self.start_server(role, [traffic, "serve", *ports])

    def start_server(self, role: str, command: Sequence[str]) -> None:
        """Start a server on a host; it prints ``ready`` when it listens."""
        name = Path(command[0]).name
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as output:
            try:
                process = self.spawn(role, command, stdout=write_end)
            finally:
                os.close(write_end)
            self.processes[f"{name}-{role}"] = process
            if output.readline().strip() != "ready":
                raise DemoError(f"{role}: {name} does not listen")

    @property
    def protocol(self) -> str:
        """What Open vSwitch's tools call the version that the switch speaks."""
        return OPENFLOW_PROTOCOLS[self.openflow]

    def port_number(self, role: str) -> int:
        """The OpenFlow number of the switch's port to a host."""
        name = self.port_name(role)
        return int(run(["ovs-vsctl", "-t", "5", "get", "Interface", name, "ofport"]))

    def port_name(self, role: str) -> str:
        """The switch's end of a host's link."""
        link = self.interface(role).link
        return next(i.name for i in (link.intf1, link.intf2) if i.node is self.switch)

    def mac(self, role: str) -> str:
        """The MAC of a host."""
        return str(self.interface(role).MAC())

    def set_flows(self, entries: Iterable[str]) -> None:
        """Forward by learned MACs, apart from ``entries``; forget the MACs."""
        name = self.switch.name
        run(["ovs-ofctl", "-O", self.protocol, "del-flows", name])
        for entry in ["priority=0,actions=NORMAL", *entries]:
            self.add_flow(entry)
        run(["ovs-appctl", "-T", "5", "fdb/flush", name])

    def add_flow(self, entry: str) -> None:
        """Add an entry to those that are there."""
        run(["ovs-ofctl", "-O", self.protocol, "add-flow", self.switch.name, entry])

    def replace_flows(self, entries: Iterable[str]) -> None:
        """Go over to other ``entries`` in one step: no packet meets neither."""
        wanted = self.work_dir / "entries.txt"
        wanted.write_text("\n".join(["priority=0,actions=NORMAL", *entries]) + "\n")
        command = ["ovs-ofctl", "-O", self.protocol, "--bundle", "replace-flows"]
        run([*command, self.switch.name, str(wanted)])

    def nat_entries(
        self, roles: Sequence[str] = (), services: Sequence[tuple[str, int]] = LOAD_SERVICES
    ) -> list[str]:
        """Entries that balance by themselves: a client's ports in turn.

        To ``roles`` (default: all backends), each of ``services``.
        """
        roles = list(roles or self.backends)
        client = self.port_number(CLIENT)
        turns = turns_of(roles)
        entries = []
        for protocol, service in services:
            for turn, role in enumerate(turns):
                entries.append(
                    f"priority=100,{protocol},in_port={client},nw_dst={VIP},tp_dst={service},"
                    f"tp_src={turn}/{len(turns) - 1:#x},actions=set_field:{self.mac(role)}->eth_dst,"
                    f"set_field:{self.backends[role]}->ip_dst,output:{self.port_number(role)}"
                )
            for role in roles:
                entries.append(
                    f"priority=100,{protocol},in_port={self.port_number(role)},"
                    f"nw_src={self.backends[role]},nw_dst={self.node(CLIENT).IP()},"
                    f"tp_src={service},actions=set_field:{VIP_MAC}->eth_src,"
                    f"set_field:{VIP}->ip_src,output:{client}"
                )
        return entries

    def steering_entries(
        self, services: Sequence[tuple[str, int]] = LOAD_SERVICES, priority: int = 100
    ) -> list[str]:
        """Entries that lead the backends' answers to the balancer's host."""
        balancer = self.port_number(BALANCER)
        return [
            f"priority={priority},{protocol},in_port={self.port_number(role)},nw_src={backend},"
            f"tp_src={service},actions=output:{balancer}"
            for role, backend in self.backends.items()
            for protocol, service in services
        ]

    def know_vip(self, known: bool) -> None:
        """Tell the client the VIP's MAC, where nobody answers for the VIP."""
        device = ["dev", self.interface(CLIENT).name]
        if known:
            how = ["lladdr", VIP_MAC, *device, "nud", "permanent"]
            self.run(CLIENT, ["ip", "neigh", "replace", VIP, *how])
        else:
            self.run(CLIENT, ["ip", "neigh", "flush", "to", VIP, *device, "nud", "all"])

    def disown_vip(self, role: str) -> None:
        """Undo ``own_vip``."""
        self.run(role, ["ip", "address", "del", f"{VIP}/32", "dev", "lo"])
        for key in ("arp_ignore", "arp_announce"):
            self.run(role, ["sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/all/{key}"])

    def shape(self, on: bool) -> None:
        """Put a queue that shapes on the switch's ports, too fast to be felt."""
        for role in (*self.backends, CLIENT):
            device = ["dev", self.port_name(role), "root"]
            if on:
                rate = ["rate", "100gbit", "burst", "16mb", "latency", "50ms"]
                run(["tc", "qdisc", "replace", *device, "tbf", *rate])
            else:
                run(["tc", "qdisc", "del", *device])


def turns_of(roles: Sequence[str]) -> list[str]:
    """The roles in turn, repeated to a power of two: which port goes where."""
    count = 1
    while count < len(roles):
        count *= 2
    return [roles[turn % len(roles)] for turn in range(count)]


def cpu_model(cpuinfo: str) -> Optional[str]:
    """Read ``/proc/cpuinfo``: the processor's name."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    version = run(["ovs-vswitchd", "--version"]).splitlines()[0]
    return {
        "kernel": platform.release(),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "switch": version,
    }
