"""This library's stores, and the floor: what takes part beside the others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from benchmarks.floors import BareLog
from benchmarks.peers.contender import Contender, role
from session_manager import SessionManager

__all__ = ["Floor", "Log", "SQLite", "Snapshot"]

_KEY = "session"


class _Store(Contender):
    scheme: ClassVar[str]

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        self._url = f"{self.scheme}:{os.path.join(path, 'chats')}"
        self._manager = SessionManager(self._url)
        self._count = 0
        for text in texts:
            self._append(text)
        self._manager.save(_KEY)

    def add(self, text: str) -> None:
        self._append(text)
        self._manager.save(_KEY)

    def read(self) -> int:
        self._manager.close()
        self._manager = SessionManager(self._url)
        return len(self._manager.get_history(_KEY))

    def close(self) -> None:
        self._manager.close()

    def _append(self, text: str) -> None:
        self._manager.add_message(_KEY, role(self._count), text)
        self._count += 1


class Snapshot(_Store):
    """`SessionManager` on a directory of snapshots."""

    scheme = "snapshot"
    whole_file = True
    writes = "a new file, synced, renamed over the old one, and the directory synced"


class Log(_Store):
    """`SessionManager` on a directory of logs."""

    scheme = "log"
    writes = "the message at the end of a file, synced"


class SQLite(_Store):
    """`SessionManager` on a SQLite database."""

    scheme = "sqlite"
    writes = "a row in SQLite; WAL, synchronous=FULL"


class Floor(Contender):
    """The bare system calls: a write and a sync of the message's JSON; reading and decoding it to dicts."""

    writes = "the message at the end of a file, synced"

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        self._path = os.path.join(path, "floor.jsonl")
        self._log = BareLog(self._path)
        self._count = 0
        with open(self._path, "wb") as file:
            file.writelines(map(self._record, texts))
        self.sync(self._path)

    def add(self, text: str) -> None:
        self._log.append(self._record(text))

    def read(self) -> int:
        decode = msgspec.json.Decoder().decode
        with open(self._path, "rb") as file:
            return len([decode(line) for line in file.read().splitlines()])

    def close(self) -> None:
        self._log.close()

    def _record(self, text: str) -> bytes:
        self._count += 1
        return msgspec.json.encode({"role": role(self._count - 1), "content": text}) + b"\n"
