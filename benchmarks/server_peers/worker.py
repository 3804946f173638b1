"""A contender's process, and the calls that it answers."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from itertools import islice

from benchmarks.harness import timed
from benchmarks.material import texts
from benchmarks.process import Process, answer
from benchmarks.server_peers import others, ours
from benchmarks.server_peers.conversation import Conversation

__all__ = ["CONTENDERS", "Worker", "main"]

#: By the name that they have in the table.
CONTENDERS: Mapping[str, type[Conversation]] = {
    "INSERT and COMMIT": ours.Floor,
    "session_manager shared": ours.Shared,
    "session_manager shared, last 20": ours.SharedRecent,
    "session_manager exclusive": ours.Exclusive,
    "session_manager exclusive, last 20": ours.ExclusiveRecent,
    "OpenAI Agents SQLAlchemySession": others.OpenAI,
    "OpenAI Agents SQLAlchemySession, last 20": others.OpenAIRecent,
    "LangChain PostgresChatMessageHistory": others.LangChain,
    "LangGraph PostgresSaver": others.LangGraph,
    "Google ADK DatabaseSessionService": others.ADK,
}


class Worker(Process):
    """A contender in a process of its own.

    :param name: one of `CONTENDERS`.
    :param url: a database that is its own.
    :param environment: of the process.
    """

    def __init__(self, name: str, url: str, environment: Mapping[str, str]) -> None:
        super().__init__(name, ["benchmarks.server_peers.worker", name, url], environment)


class _Calls:
    """What a worker can be asked for; each returns a number."""

    def __init__(self, contender: type[Conversation], url: str) -> None:
        self._of, self._url = contender, url
        self._key = ""
        self._conversation: Conversation | None = None
        self._texts = texts()

    def prepare(self, count: int) -> float:
        """Begin a conversation of so many messages."""
        self.close()
        self._key = f"conversation-{count}"
        self._conversation = self._of(self._url, self._key)
        self._conversation.begin(list(islice(self._texts, count)))
        gc.collect()
        return 0

    def turn(self) -> float:
        """Return how many seconds a turn takes, after another one that is not timed."""
        conversation = self._ready()
        conversation.turn(next(self._texts), next(self._texts))
        question, answered = next(self._texts), next(self._texts)
        return timed(lambda: conversation.turn(question, answered))

    def count(self) -> float:
        """Return how many messages a turn of another process would read."""
        again = self._of(self._url, self._key)
        try:
            return len(again.read())
        finally:
            again.close()

    def close(self) -> float:
        """Close the conversation, if there is one."""
        if self._conversation is not None:
            self._conversation.close()
        self._conversation = None
        return 0

    def _ready(self) -> Conversation:
        if self._conversation is None:
            raise RuntimeError("nothing was prepared")
        return self._conversation


def main(name: str, url: str) -> None:
    """Answer calls until there are no more."""
    calls = _Calls(CONTENDERS[name], url)
    answer(calls)
    calls.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
