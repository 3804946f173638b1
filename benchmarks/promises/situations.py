"""The situations.

Each step is a process of its own, and a kill is a SIGKILL. The model is offline, and the same for all; the rest is the real thing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.promises.bots import Bot, Ours, OursShared
from session_manager import Message
from session_manager.history import problems

__all__ = ["SITUATIONS", "examine"]

DEADLINE = 60

Situation = Callable[["type[Bot]", str], str]
Messages = list[dict[str, Any]]

_PROCESSES = multiprocessing.get_context("spawn")


# Models and tools, which processes are given by name.


def answer(messages: Messages) -> str:
    """Answer."""
    return f"answer {sum(one.get('role') == 'user' for one in messages)}"


def call_tool(messages: Messages) -> str | None:
    """Have the tool called."""
    return None


def answer_if_valid(messages: Messages) -> str:
    """Answer whether a provider would take these messages."""
    return "refused" if problems([Message.of(one) for one in messages]) else "valid"


def look() -> str:
    """Do what the tool does."""
    return "nothing"


def die(*_: object) -> str:
    """Be killed after a second, as while a model or a tool is at work: some write in the background."""
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Meeting:
    """A model that answers when two workers have asked.

    :param barrier: where they meet.
    """

    def __init__(self, barrier: Any) -> None:
        self._barrier = barrier

    def __call__(self, messages: Messages) -> str:
        self._barrier.wait(DEADLINE)
        return answer(messages)


# Each step is a process of its own, as after a restart.


def _deliver(kind: type[Bot], path: str, number: int, text: str, model: Any = answer, tool: Any = look) -> None:
    bot = kind(path, model, tool)
    bot.deliver(number, text)
    bot.close()


def _stored(kind: type[Bot], path: str, pipe: Any) -> None:
    bot = kind(path, answer, look)
    try:
        pipe.send(bot.stored())
    except Exception as error:  # noqa: BLE001 - any error tells that something is noticed
        pipe.send(type(error).__name__)
    bot.close()


def _start(work: Callable[..., None], *arguments: object) -> Any:
    process = _PROCESSES.Process(target=work, args=arguments)
    process.start()
    return process


def deliver(*arguments: object) -> None:
    """Deliver a message to a bot, which may be killed by it."""
    _start(_deliver, *arguments).join(DEADLINE)


def stored(kind: type[Bot], path: str) -> Any:
    """Return the chat, or the name of the error that reading it raises."""
    ours, theirs = _PROCESSES.Pipe()
    process = _start(_stored, kind, path, theirs)
    found = ours.recv() if ours.poll(DEADLINE) else "nothing"
    process.join(DEADLINE)
    return found


# The situations; the first line of each is its row.


def killed_turn(kind: type[Bot], path: str) -> str:
    """The process is killed while the model thinks, and the platform delivers again."""
    deliver(kind, path, 1, "first")
    deliver(kind, path, 2, "second", die)
    deliver(kind, path, 2, "second")
    asked = [text for role, text in stored(kind, path) if role == "user"].count("second")
    return "the turn is stored once" if asked == 1 else f"the question is stored {asked} times"


def delivered_twice(kind: type[Bot], path: str) -> str:
    """A delivery comes again after it was answered."""
    for _ in range(2):
        deliver(kind, path, 1, "first")
    count = len(stored(kind, path))
    return "answered once" if count == 2 else f"answered again: {count} messages"


def two_writers(kind: type[Bot], path: str) -> str:
    """Two workers answer one chat at the same moment."""
    kind = OursShared if kind is Ours else kind
    deliver(kind, path, 1, "first")
    model = Meeting(_PROCESSES.Barrier(2))  # both have read the chat, and none has answered yet
    workers = [_start(_deliver, kind, path, 2 + number, f"of {number}", model) for number in range(2)]
    for worker in workers:
        worker.join(DEADLINE)
    said = stored(kind, path)[2:]
    if len(said) < 4:
        return f"{4 - len(said)} of 4 messages are lost"
    return "both turns are whole" if [role for role, _ in said] == ["user", "assistant"] * 2 else "the turns are mixed"


def broken_call(kind: type[Bot], path: str) -> str:
    """The process is killed in a tool, and the user writes again."""
    deliver(kind, path, 1, "look!", call_tool, die)
    deliver(kind, path, 2, "well?", answer_if_valid)
    said = stored(kind, path)
    return {"valid": "the request is valid", "refused": "the provider refuses the request"}.get(
        said[-1][1], "no answer"
    )


def damage(kind: type[Bot], path: str) -> str:
    """One bit of a stored text turns."""
    deliver(kind, path, 1, "the code is 7777")
    for file in Path(path).rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes().replace(b"7777", b"7767"))
    said = stored(kind, path)
    if isinstance(said, str):
        return f"noticed: {said}"
    return "not noticed" if any("7767" in text for _, text in said) else f"the text is gone: {said}"


def readable(kind: type[Bot], path: str) -> str:
    """`grep` finds a message, in a line of JSON."""
    deliver(kind, path, 1, "the code is 7777")
    for file in Path(path).rglob("*"):
        if file.is_file() and not file.read_bytes().startswith(b"SQLite format"):
            lines = file.read_bytes().splitlines()
            if any(b"7777" in line and line.lstrip().startswith(b"{") for line in lines):
                return "yes"
    return "no, a database"


SITUATIONS: list[Situation] = [killed_turn, delivered_twice, two_writers, broken_call, damage, readable]


def examine(kind: type[Bot]) -> list[str]:
    """Return how a memory does in each situation."""
    found = []
    for situation in SITUATIONS:
        with tempfile.TemporaryDirectory() as path:
            found.append(situation(kind, path))
    return found
