"""A proxy in front of PostgreSQL that cuts a connection after COMMIT was done, before its reply.

The client cannot know whether its transaction happened: it did. Called by the tests of this folder.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

_COMMIT = b"COMMIT\0"  # the text of the simple query that psycopg sends


class CommitCutter:
    """Listens on a loopback port and speaks to the server's socket. Every `every`th COMMIT that
    passes is cut off; num_commits, num_cut: how many passed, how many were cut off."""

    def __init__(self, server_socket: Path, *, every: int) -> None:
        self.every = every
        self.num_commits = 0
        self.num_cut = 0
        self._server_socket = str(server_socket)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Until close is called."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            try:
                server.connect(self._server_socket)
            except OSError:
                return
            cut = threading.Event()
            back = threading.Thread(target=_pump, args=(server, client, cut), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(1 << 16):
                    if data.endswith(_COMMIT) and self._draws_a_cut():
                        cut.set()  # the reply, whatever it is, reaches nobody
                    server.sendall(data)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            back.join()

    def _draws_a_cut(self) -> bool:
        with self._lock:
            self.num_commits += 1
            is_cut = self.num_commits % self.every == 0
            self.num_cut += is_cut
            return is_cut


def _pump(server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
    """The server's replies, until one is to be cut off."""
    with contextlib.suppress(OSError):
        while data := server.recv(1 << 16):
            if cut.is_set():
                break
            client.sendall(data)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cutting_commits(server_socket: Path, *, every: int) -> Iterator[CommitCutter]:
    cutter = CommitCutter(server_socket, every=every)
    thread = threading.Thread(target=cutter.serve)
    thread.start()
    try:
        yield cutter
    finally:
        cutter.close()
        thread.join()
