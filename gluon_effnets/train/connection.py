"""TCP connections that carry JSON objects, one a line, between those who know the same token."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from typing import List, Optional, Tuple

__all__ = ["CONNECT_S", "Address", "Connection", "connect"]

CONNECT_S = 10.0


@dataclasses.dataclass
class Address:
    """Where the coordinator listens: `hosts` are names to try, the first that knows the token is right."""

    hosts: List[str]
    port: int
    token: str


class Connection:
    """A socket that carries JSON objects in both directions."""

    def __init__(self, sock: socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._lines, self._lock = sock, sock.makefile("rb"), threading.Lock()

    def send(self, message: dict) -> None:
        """Send a message, if the other one is still there."""
        try:
            with self._lock:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # who reads from it sees the end

    def receive(self) -> Optional[dict]:
        """The next message, or None at the end of the connection."""
        try:
            line = self._lines.readline()
            return json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """End the connection, also for who reads from it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._lines.close()
        self._socket.close()


def connect(rank: int, address: Address) -> Tuple[Connection, str]:
    """Connect a worker with the coordinator, and return the name of its host, too.

    Raises:
        OSError: It cannot be reached.
    """
    for host in address.hosts:
        try:
            sock = socket.create_connection((host, address.port), timeout=CONNECT_S)
        except OSError:
            continue
        connection = Connection(sock)
        connection.send({"token": address.token, "rank": rank, "host": socket.gethostname()})
        welcome = connection.receive()
        if welcome:
            sock.settimeout(None)
            return connection, welcome["welcome"]
        connection.close()
    raise OSError(
        f"worker {rank} on {socket.gethostname()} cannot reach worker 0: tried port {address.port} of "
        f"{', '.join(address.hosts)}.\nThe hosts must let each other's TCP connections through, on all high ports."
    )
