"""Counts what XDP leaves for the switch.

A packet socket on a switch port gets each arriving frame after XDP: a frame
that XDP redirected or sent back never reaches it, and what does reach it is
just what Open vSwitch gets. So the frames of balanced connections seen here
are the ones that Open vSwitch carried.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Iterable, Optional

ETH_P_ALL = 0x0003
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPES_VLAN = (0x8100, 0x88A8)
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

# From linux/if_packet.h and linux/socket.h; Python does not name these.
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23

SNAP_BYTES = 256
RECEIVE_BUFFER_BYTES = 16 << 20

VIP = "vip"
REWRITTEN = "rewritten"
VIP_ARP = "vip_arp"


@dataclass(frozen=True)
class Watch:
    """What belongs to the balancer: VIPs, backends, and backend services.

    Addresses are 4 bytes in network order, a service is (IP protocol, port).
    """

    vips: frozenset[bytes]
    backends: frozenset[bytes]
    services: frozenset[tuple[int, int]]

    @classmethod
    def of(
        cls,
        vips: Iterable[str],
        backends: Iterable[str],
        services: Iterable[tuple[str, int]],
    ) -> Watch:
        """Build from text: ``("10.0.1.1",)``, ..., ``(("tcp", 80),)``."""
        return cls(
            frozenset(IPv4Address(vip).packed for vip in vips),
            frozenset(IPv4Address(backend).packed for backend in backends),
            frozenset((PROTOCOLS[name], port) for name, port in services),
        )


def classify(frame: bytes, watch: Watch) -> Optional[str]:
    """Say what ``frame`` has to do with the balancer.

    ``vip``: an IPv4 packet from or to a VIP. ``rewritten``: one between a
    backend's service and anybody, as balanced packets look after the rewrite.
    ``vip_arp``: ARP that names a VIP. None: everything else.
    """
    offset, ethertype = ethernet_payload(frame)
    if ethertype == ETHERTYPE_IPV4:
        return classify_ipv4(frame[offset:], watch)
    if ethertype == ETHERTYPE_ARP:
        return classify_arp(frame[offset:], watch)
    return None


def ethernet_payload(frame: bytes) -> tuple[int, Optional[int]]:
    """Return where the payload begins behind any VLAN tags, and its type."""
    offset = 12
    while len(frame) >= offset + 2:
        ethertype = struct.unpack_from("!H", frame, offset)[0]
        if ethertype not in ETHERTYPES_VLAN:
            return offset + 2, ethertype
        offset += 4
    return len(frame), None


def classify_ipv4(packet: bytes, watch: Watch) -> Optional[str]:
    """``classify`` for what follows an IPv4 ethertype."""
    if len(packet) < 20:
        return None
    source, target = packet[12:16], packet[16:20]
    if source in watch.vips or target in watch.vips:
        return VIP
    header_bytes = (packet[0] & 0x0F) * 4
    is_first = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF == 0
    if not is_first or len(packet) < header_bytes + 4:
        return None
    source_port, target_port = struct.unpack_from("!HH", packet, header_bytes)
    to_backend = target in watch.backends and (packet[9], target_port) in watch.services
    of_backend = source in watch.backends and (packet[9], source_port) in watch.services
    return REWRITTEN if to_backend or of_backend else None


def classify_arp(packet: bytes, watch: Watch) -> Optional[str]:
    """``classify`` for what follows an ARP ethertype (RFC 826, IPv4 only)."""
    if len(packet) < 28:
        return None
    return VIP_ARP if packet[14:18] in watch.vips or packet[24:28] in watch.vips else None


@dataclass(frozen=True)
class Counts:
    """Frames seen so far; ``lost`` ones the socket had no room for."""

    frames: int
    vip: int
    rewritten: int
    vip_arp: int
    lost: int

    @property
    def balanced(self) -> int:
        """Frames of balanced connections, before or after the rewrite."""
        return self.vip + self.rewritten


def open_port(interface: str) -> socket.socket:
    """A packet socket for what arrives on ``interface``, not what leaves."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setblocking(False)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.bind((interface, ETH_P_ALL))
    return sock


class PortCounter:
    """Classifies everything that arrives on a set of interfaces."""

    def __init__(self, interfaces: Iterable[str], watch: Watch) -> None:
        self._watch = watch
        self._sockets = [open_port(interface) for interface in interfaces]
        self._selector = selectors.DefaultSelector()
        for sock in self._sockets:
            self._selector.register(sock, selectors.EVENT_READ)
        self._kinds = {VIP: 0, REWRITTEN: 0, VIP_ARP: 0}
        self._frames = 0
        self._lost = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="port-counter", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        """Read until ``close``."""
        while not self._stop.is_set():
            for key, _events in self._selector.select(timeout=0.1):
                self._drain(key.fileobj)  # type: ignore[arg-type]

    def _drain(self, sock: socket.socket) -> None:
        """Read what one socket has; a port that went down reports it once."""
        while True:
            try:
                frame, address = sock.recvfrom(SNAP_BYTES)
            except OSError:
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            self._frames += 1
            kind = classify(frame, self._watch)
            if kind is not None:
                self._kinds[kind] += 1

    def counts(self) -> Counts:
        """What was seen so far."""
        for sock in self._sockets:
            statistics = sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            self._lost += struct.unpack("=II", statistics)[1]
        kinds = self._kinds
        return Counts(self._frames, kinds[VIP], kinds[REWRITTEN], kinds[VIP_ARP], self._lost)

    def close(self) -> None:
        """Stop counting. Doing it twice is harmless."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        for sock in self._sockets:
            sock.close()
        self._sockets = []
