"""A UDP echo service that says who answered, and a client that counts.

::

    udp_echo.py serve --name h1 --port 9999
    udp_echo.py ask --address 10.0.1.1 --port 9999 --count 10

The server answers every datagram with its name, a blank and the datagram, from
the very address that it was sent to: behind layer-2 DSR that is the VIP on the
loopback interface, not the address of the outgoing interface. The client sends
each question from a new socket, hence as a new flow, and prints one JSON
object with the number of answers by name; ``""`` counts the unanswered.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections import Counter
from typing import Optional, Sequence

IP_PKTINFO = 8
"""Socket option of Linux (ip(7)); Python 3.11 does not name it."""

PKTINFO_BYTES = 12
MAX_DATAGRAM_BYTES = 65535
NOBODY = ""


def answer_to(name: str, question: bytes) -> bytes:
    """The answer of the server ``name`` to ``question``."""
    return name.encode() + b" " + question


def who_answered(question: bytes, answer: bytes) -> str:
    """Return the name in ``answer``, or ``""`` if it is no answer to ``question``."""
    name, _, echoed = answer.partition(b" ")
    return name.decode(errors="replace") if echoed == question else NOBODY


def serve(name: str, port: int) -> None:
    """Answer datagrams on ``port`` until the process is ended."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("", port))
        while True:
            question, control, _flags, client = sock.recvmsg(
                MAX_DATAGRAM_BYTES, socket.CMSG_SPACE(PKTINFO_BYTES)
            )
            sock.sendmsg([answer_to(name, question)], reply_control(control), 0, client)


def reply_control(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control messages that let a reply leave from the address asked.

    ``struct in_pktinfo`` is interface index, local address, destination
    address (ip(7)): the destination of the question becomes the local address
    of the reply; index 0 leaves the choice of interface to the routes.
    """
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(data) >= PKTINFO_BYTES:
            return [(level, kind, bytes(4) + data[8:12] + bytes(4))]
    return []


def ask_once(address: str, port: int, question: bytes, timeout_s: float) -> str:
    """Send one question from a new socket; return who answered it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect((address, port))
            sock.send(question)
            return who_answered(question, sock.recv(MAX_DATAGRAM_BYTES))
        except OSError:
            return NOBODY


def ask(address: str, port: int, count: int, timeout_s: float) -> Counter[str]:
    """Ask ``count`` times; return how often each name answered."""
    questions = (f"question {number}".encode() for number in range(count))
    return Counter(ask_once(address, port, q, timeout_s) for q in questions)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = result.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="answer until ended")
    server.add_argument("--name", required=True)
    server.add_argument("--port", type=int, required=True)
    client = commands.add_parser("ask", help="ask and count the answers")
    client.add_argument("--address", required=True)
    client.add_argument("--port", type=int, required=True)
    client.add_argument("--count", type=int, default=1)
    client.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS")
    return result


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one of the two commands."""
    args = parser().parse_args(argv)
    if args.command == "serve":
        serve(args.name, args.port)
    else:
        print(json.dumps(ask(args.address, args.port, args.count, args.timeout)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
