"""A proxy of the tests' own between a client and a server: it drops, delays, and delivers late what the client sends next."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import attrs

DEADLINE = 30


def requests(client):
    """Yield what a client sends, each time up to where it waits for an answer.

    That is behind a Sync or a simple Query (https://www.postgresql.org/docs/current/protocol-message-formats.html). The first
    messages of a connection have no type.
    """
    buffer, start = b"", 0
    while data := client.recv(1 << 20):
        buffer += data
        while len(buffer) - start >= 5:
            untyped = buffer[start] == 0
            size = int.from_bytes(buffer[start + 1 - untyped : start + 5 - untyped], "big") + 1 - untyped
            if len(buffer) - start < size:
                break
            ends = untyped or buffer[start : start + 1] in (b"S", b"Q", b"X")
            start += size
            if ends:
                yield buffer[:start]
                buffer, start = buffer[start:], 0


def is_free(data):
    """Say whether a request belongs to the beginning or the end of a connection."""
    return data[:1] in (b"\0", b"X")


@attrs.define(eq=False)
class Proxy:
    """Forwards connections on a port of its own.

    What is `armed` happens once, to the next request of a client: ``drop request`` (they never arrive), ``drop answer`` (they arrive, and
    the answer is lost), ``late`` (the client's connection ends, and they arrive when `deliver` is called). `passes` says how many
    requests go through before.

    :param port: the server's.
    """

    target: int
    armed: str = ""
    passes: int = 0
    #: How many times something has happened.
    count: int = 0
    port: int = attrs.field(init=False)
    _listener: socket.socket = attrs.field(init=False)
    _accepting: threading.Thread = attrs.field(init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _open: list = attrs.field(factory=list)
    #: Connections to the server with the bytes that are still to come.
    _held: list = attrs.field(factory=list)
    _unanswered: set = attrs.field(factory=set)

    def __attrs_post_init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def arm(self, what, *, passes=0):
        with self._lock:
            self.armed, self.passes = what, passes

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, server), daemon=True).start()

    def _due(self):
        with self._lock:
            if not self.armed:
                return ""
            if self.passes:
                self.passes -= 1
                return ""
            self.count += 1
            due, self.armed = self.armed, ""
            return due

    def _requests(self, client, server):
        with suppress(OSError):
            for data in requests(client):
                due = "" if is_free(data) else self._due()
                if due == "drop answer":
                    self._unanswered.add(server)
                if due == "late":
                    self._held.append((server, data))
                    self._lose(client)
                    return
                if due == "drop request":
                    break
                server.sendall(data)
        self._lose(client)
        self._lose(server)

    def _answers(self, client, server):
        with suppress(OSError):
            while (data := server.recv(1 << 20)) and server not in self._unanswered:
                client.sendall(data)
        self._lose(client)
        if server in self._unanswered:
            self._lose(server)

    def _lose(self, one):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()

    def deliver(self):
        """Let what is held arrive, and wait until the server has dealt with it."""
        while self._held:
            server, data = self._held.pop()
            server.settimeout(DEADLINE)
            with suppress(OSError):
                server.sendall(data)
                server.shutdown(socket.SHUT_WR)
                # Its reader is at the end: nobody else takes the answer.
                while server.recv(1 << 16):
                    pass
            server.close()

    def close(self):
        # First the thread has to end: one that still accepted would take over the descriptor's next socket, such as after a SIGCONT.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE)
        self._listener.close()
        for one in self._open:
            self._lose(one)
