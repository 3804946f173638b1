"""The conformance kit for adapters: tests of a framework's conversations that live in a storage of this library."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from session_manager.manager.manager import SessionManager
from session_manager.stores.memory import MemoryStore
from session_manager.testing.faults import FaultyStore

__all__ = ["ODD_IDS", "REFUSED_IDS", "Adapted", "AdapterContract"]

T = TypeVar("T")

#: How many seconds a test may wait for another process, or for itself.
_DEADLINE = 60.0
#: How many turns a process may run before it is killed.
_TURNS = 1000
#: How many turns are finished at most, before a process is killed.
_FEW = 4
#: What the user says after a kill.
_GREETING = "are you there?"

#: Ids that every adapter takes, and keeps apart.
ODD_IDS: tuple[str, ...] = (
    "a",
    "A",
    "a:b",
    "a%3Ab",
    "a:",
    "a/b",
    "../../etc/passwd",
    "-rf *",
    " ",
    "a ",
    "line\nbreak",
    "'; DROP TABLE sessions; --",
    "sub%_title",
    "äöü",
    "a\u0308o\u0308u\u0308",
    "💬" * 20,
    "x" * 200,
    ":memory:",
    "CON",
)
#: Ids that an adapter may refuse with an error. One that it takes is kept apart, too.
REFUSED_IDS: tuple[str, ...] = ("", ".", "..", "nul\0", "lone \ud800", "x" * 2000)


class Adapted(ABC):
    """A framework's conversations in a storage: what `AdapterContract` calls, once for each adapter.

    Another process opens it by its name. So define your subclass at the top of a module that imports no pytest.
    Its methods run in an event loop of asyncio. Call a framework that is synchronous by `asyncio.to_thread`.

    :param storage: a URL, of which several of these may be open at once; or a manager, for the adapter to use.
    """

    @abstractmethod
    def __init__(self, storage: str | SessionManager) -> None: ...

    @abstractmethod
    async def run(self, conversation: str, text: str) -> tuple[int, int]:
        """Run one turn by the framework's own runner, with a scripted model that calls one tool and then answers.

        :param conversation: the id of the conversation.
        :param text: what the user says.
        :returns: how many messages of the user, and how many results of the tool, the model was given in its last call.
        """

    @abstractmethod
    async def add(self, conversation: str, text: str) -> None:
        """Add a message of the user by the call with which the framework adds one, durably.

        A framework that refuses writers of older states has them load the conversation and try again. Do that here.
        """

    @abstractmethod
    async def texts(self, conversation: str) -> list[str]:
        """Return what the user said in a conversation, in order; ``[]`` if there is no such conversation."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the storage, unless it was a manager."""


class AdapterContract:
    """The tests of an adapter between a framework and a manager, for pytest: each on logs and on SQLite.

    Inherit from it in a class whose name starts with ``Test``, and name your `Adapted` in `adapted`. ::

        class TestMyAdapter(AdapterContract):
            adapted = MyAdapted

    What a framework cannot have is said by a flag; the tests of it are then skipped, and name the flag.
    """

    #: How the framework's conversations are opened and driven.
    adapted: ClassVar[type[Adapted]]
    #: Whether the framework adds to conversations. One that writes whole states over older ones says `False`: of two writers, one wins.
    appends: ClassVar[bool] = True
    #: How many times a process is killed in the test of kills.
    kills: ClassVar[int] = 1

    @pytest.fixture(params=["log", "sqlite"])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        """Return the URL of a new storage. Override it for other stores."""
        return f"{request.param}:{tmp_path / 'chats'}"

    def test_a_runner_goes_on_after_a_restart(self, url: str) -> None:
        """The framework's runner is given what it said and what the tool returned before."""

        async def run() -> None:
            async with self._open(url) as chats:
                given = [await chats.run("chat", text) for text in ("one", "two")]
                assert await chats.run("another chat", "one") == (1, 1)
            async with self._open(url) as chats:
                given.append(await chats.run("chat", "three"))
                assert given == [(1, 1), (2, 2), (3, 3)]
                assert await chats.texts("chat") == ["one", "two", "three"]

        _finish(run())

    def test_a_runner_goes_on_after_a_kill(self, url: str) -> None:
        """A process is killed amid its turns (``kill -9``): finished turns are there, and the runner goes on."""
        before = 0
        for kill in range(self.kills):
            done = _killed_after(1 + kill % _FEW, self.adapted, url)

            async def goes_on(least: int = before + done) -> int:
                async with self._open(url) as chats:
                    texts = await chats.texts("chat")
                    asked = _asked(texts)
                    assert asked == [_question(number) for number in range(len(asked))]
                    assert len(asked) >= least, "a finished turn is lost"
                    given, _ = await chats.run("chat", _GREETING)
                    assert given == len(texts) + 1
                    assert await chats.texts("chat") == [*texts, _GREETING]
                    return len(asked)

            before = _finish(goes_on())

    def test_two_writers_are_both_in_a_conversation(self, url: str) -> None:
        """Two that are open at once see what the other one adds, and add to it."""
        self._check_appends()

        async def run() -> None:
            async with self._open(url) as other:
                async with self._open(url) as one:
                    await one.add("chat", "one 0")
                    assert await other.texts("chat") == ["one 0"]
                    await other.add("chat", "other 0")
                    assert await one.texts("chat") == ["one 0", "other 0"]
                    await asyncio.gather(_adding(one, "one", range(1, 6)), _adding(other, "other", range(1, 6)))
                    _check_merged(await one.texts("chat"), {"one": 6, "other": 6})
                _check_merged(await other.texts("chat"), {"one": 6, "other": 6})
            async with self._open(url) as later:
                _check_merged(await later.texts("chat"), {"one": 6, "other": 6})

        _finish(run())

    def test_two_processes_are_both_in_a_conversation(self, url: str) -> None:
        """So do two processes, where the storage lets several write."""
        self._check_appends()
        if not url.startswith(("sqlite:", "postgresql:")):
            pytest.skip("one process at a time writes to this storage")

        async def run() -> None:
            async with self._open(url) as one:
                await one.add("chat", "one 0")
                process = _started(_add_some, self.adapted, url, "other", 6)
                await _adding(one, "one", range(1, 6))
                await asyncio.to_thread(process.join, _DEADLINE)
                assert process.exitcode == 0
                _check_merged(await one.texts("chat"), {"one": 6, "other": 6})

        _finish(run())

    def test_odd_ids_are_kept_apart(self, url: str) -> None:
        """An id is taken as it is, and never mistaken for another one; one that cannot be a key is refused."""

        async def run() -> None:
            taken = []
            async with self._open(url) as chats:
                for number, odd in enumerate((*ODD_IDS, *REFUSED_IDS)):
                    try:
                        await chats.add(odd, f"in {number}")
                    except Exception:
                        if odd in ODD_IDS:
                            raise
                        continue
                    taken.append((odd, f"in {number}"))
            async with self._open(url) as chats:
                assert [(odd, *await chats.texts(odd)) for odd, _ in taken] == taken
                assert await chats.texts("a%") == []

        _finish(run())

    def test_a_failed_call_has_done_nothing(self) -> None:
        """After a full disk nothing of the call is there, in RAM or stored; the same call again works, once."""
        disk = FaultyStore(MemoryStore())

        async def run() -> None:
            with SessionManager(disk) as manager:
                async with self._open(manager) as chats:
                    await chats.add("chat", "one")
                    for conversation in ("chat", "another chat"):
                        before = await chats.texts(conversation)
                        disk.fail_next(OSError(28, "No space left on device"))
                        with pytest.raises(Exception):  # noqa: B017, PT011 - a framework may wrap it
                            await chats.add(conversation, "two")
                        assert await chats.texts(conversation) == before
                        assert manager.health().dirty == ()
                        await chats.add(conversation, "two")
                        assert await chats.texts(conversation) == [*before, "two"]
            with SessionManager(disk) as manager:
                async with self._open(manager) as chats:
                    assert await chats.texts("chat") == ["one", "two"]

        _finish(run())

    def test_a_lost_acknowledgement_doubles_nothing(self) -> None:
        """A write that happened, and of which nobody heard, is found out: the message is there once."""
        disk = FaultyStore(MemoryStore())

        async def run() -> None:
            with SessionManager(disk) as manager:
                async with self._open(manager) as chats:
                    await chats.add("chat", "one")
                    disk.lose_ack_next()
                    await chats.add("chat", "two")
                    assert await chats.texts("chat") == ["one", "two"]

        _finish(run())

    def test_concurrent_additions_are_all_there(self, url: str) -> None:
        """Many tasks add to one conversation, and to others: nothing is lost, doubled, or in another one."""
        self._check_appends()

        async def run() -> None:
            said = [(f"chat {number % 3}", f"text {number}") for number in range(24)]
            async with self._open(url) as chats:
                await asyncio.gather(*(chats.add(conversation, text) for conversation, text in said))
            async with self._open(url) as chats:
                for conversation in ("chat 0", "chat 1", "chat 2"):
                    wanted = [text for where, text in said if where == conversation]
                    assert sorted(await chats.texts(conversation)) == sorted(wanted)

        _finish(run())

    @asynccontextmanager
    async def _open(self, storage: str | SessionManager) -> AsyncIterator[Adapted]:
        chats = self.adapted(storage)
        try:
            yield chats
        finally:
            await chats.close()

    def _check_appends(self) -> None:
        if not self.appends:
            pytest.skip("appends = False")


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own, until the deadline."""

    async def in_time() -> T:
        return await asyncio.wait_for(work, _DEADLINE)

    return asyncio.run(in_time())


async def _adding(chats: Adapted, who: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        await chats.add("chat", f"{who} {number}")


def _check_merged(texts: Sequence[str], writers: dict[str, int]) -> None:
    """Check that each writer's texts are there once, in the order in which it added them."""
    for who, count in writers.items():
        assert [text for text in texts if text.startswith(f"{who} ")] == [f"{who} {number}" for number in range(count)]
    assert len(texts) == sum(writers.values())


def _question(number: int) -> str:
    return f"question {number}"


def _asked(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text != _GREETING]


# What other processes do.


def _started(work: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def _killed_after(turns: int, adapted: type[Adapted], url: str) -> int:
    """Run turns in a process, and kill it when so many are finished, amid the next one; return how many it told of."""
    told, telling = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = _started(_run_turns, adapted, url, telling)
    telling.close()
    done = 0
    try:
        while done < turns:
            assert told.poll(_DEADLINE), "the process runs no turns"
            told.recv()  # EOFError: it has raised, and said why
            done += 1
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(_DEADLINE)
        while told.poll():
            try:
                told.recv()
            except EOFError:
                break
            done += 1
        told.close()
    return done


def _run_turns(adapted: type[Adapted], url: str, telling: Connection) -> None:
    async def run() -> None:
        chats = adapted(url)
        first = len(_asked(await chats.texts("chat")))
        for number in range(first, first + _TURNS):
            await chats.run("chat", _question(number))
            telling.send(number)

    asyncio.run(run())


def _add_some(adapted: type[Adapted], url: str, who: str, count: int) -> None:
    async def run() -> None:
        chats = adapted(url)
        await _adding(chats, who, range(count))
        await chats.close()

    asyncio.run(run())
