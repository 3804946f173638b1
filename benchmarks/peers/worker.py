"""A contender's process, and the calls that it answers."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from itertools import islice

from benchmarks.harness import timed
from benchmarks.material import texts
from benchmarks.peers import others, ours
from benchmarks.peers.contender import Contender
from benchmarks.process import Process, answer

__all__ = ["CONTENDERS", "Worker", "main"]

#: By the name that they have in the table.
CONTENDERS: Mapping[str, type[Contender]] = {
    "write and sync": ours.Floor,
    "session_manager log": ours.Log,
    "session_manager sqlite": ours.SQLite,
    "session_manager snapshot": ours.Snapshot,
    "OpenAI Agents SQLiteSession": others.OpenAI,
    "LangChain SQLChatMessageHistory": others.LangChainSQL,
    "LangChain FileChatMessageHistory": others.LangChainFile,
    "LangChain FileChatMessageHistory + fsync": others.LangChainFileSynced,
    "Strands FileSessionManager": others.Strands,
    "Strands FileSessionManager + fsync": others.StrandsSynced,
    "LangGraph SqliteSaver": others.LangGraph,
    "nanobot SessionManager": others.Nanobot,
    "nanobot SessionManager, fsync=True": others.NanobotSynced,
}


class Worker(Process):
    """A contender in a process of its own.

    :param name: one of `CONTENDERS`.
    :param directory: where its conversations are.
    :param environment: of the process.
    :param before: a command that runs it, such as strace.
    """

    def __init__(self, name: str, directory: str, environment: Mapping[str, str], before: tuple[str, ...] = ()) -> None:
        super().__init__(name, ["benchmarks.peers.worker", name, directory], environment, before=before)


class _Calls:
    """What a worker can be asked for; each returns a number."""

    def __init__(self, contender: type[Contender], directory: str) -> None:
        self._of = contender
        self._directory = directory
        self._path = directory
        self._contender: Contender | None = None
        self._texts = texts()

    def prepare(self, count: int) -> float:
        """Begin a conversation of so many messages, in a place of its own."""
        self.close()
        self._path = os.path.join(self._directory, f"of-{count}")
        os.mkdir(self._path)
        self._contender = self._of(self._path, islice(self._texts, count))
        gc.collect()
        return 0

    def add(self) -> float:
        """Return how many seconds adding a message takes, after another one that is not timed."""
        contender = self._ready()
        contender.add(next(self._texts))
        text = next(self._texts)
        return timed(lambda: contender.add(text))

    def read(self) -> float:
        """Return how many seconds opening the storage anew and reading all takes."""
        return timed(self._ready().read)

    def count(self) -> float:
        """Return how many messages there are when all are read."""
        return self._ready().read()

    def size(self) -> float:
        """Return how many bytes of disk a message takes, after the storage was closed."""
        count = self._ready().read()
        self.close()
        found = (os.path.join(where, name) for where, _, names in os.walk(self._path) for name in names)
        return sum(os.stat(name).st_size for name in found) / count

    def close(self) -> float:
        """Close the conversation, if there is one."""
        if self._contender is not None:
            self._contender.close()
        self._contender = None
        return 0

    def _ready(self) -> Contender:
        if self._contender is None:
            raise RuntimeError("nothing was prepared")
        return self._contender


def main(name: str, directory: str) -> None:
    """Answer calls until there are no more."""
    calls = _Calls(CONTENDERS[name], directory)
    answer(calls)
    calls.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
