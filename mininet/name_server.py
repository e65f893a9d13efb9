"""A TCP service that says which host answered: for ``ssh HOST uname -n``.

::

    name_server.py serve --name h2 --port 22
    name_server.py ask --address 192.168.2.2 --port 22

The server sends its name on every connection and closes it. The client makes
one connection, and prints the name and the seconds that it took; it ends with
status 1 if nobody answered in time.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from typing import Optional, Sequence

NAME_BYTES = 256
DEFAULT_TIMEOUT_S = 5.0


def serve(name: str, port: int) -> None:
    """Answer connections to ``port`` until the process is ended."""
    with socket.create_server(("", port), backlog=128) as server:
        while True:
            connection, _client = server.accept()
            with connection:
                try:
                    connection.sendall(name.encode() + b"\n")
                except OSError:
                    continue


def ask(address: str, port: int, timeout_s: float) -> Optional[str]:
    """Return the name of the host that answers, or None."""
    try:
        with socket.create_connection((address, port), timeout_s) as connection:
            with connection.makefile("rb") as stream:
                return stream.readline(NAME_BYTES).decode(errors="replace").strip() or None
    except OSError:
        return None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="name_server", description=__doc__.splitlines()[0])
    commands = result.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="answer connections with a name")
    server.add_argument("--name", required=True)
    client = commands.add_parser("ask", help="print who answers")
    client.add_argument("--address", required=True)
    client.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S")
    for command in (server, client):
        command.add_argument("--port", type=int, required=True)
    return result


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Serve, or ask once."""
    args = parser().parse_args(argv)
    if args.command == "serve":
        serve(args.name, args.port)
    began = time.monotonic()
    name = ask(args.address, args.port, args.timeout)
    print(f"{name or '-'} {time.monotonic() - began:.3f}")
    return 0 if name else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
