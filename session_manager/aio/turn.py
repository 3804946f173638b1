"""The turn of a task: `session_manager.manager.turn.Turn`, entered and left without stopping the event loop."""

from __future__ import annotations

import math
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import anyio

from session_manager.aio.calls import signal
from session_manager.aio.offloading import is_long
from session_manager.aio.workers import Workers
from session_manager.arguments import several
from session_manager.history.context import OPTIONS, ContextOptions, context
from session_manager.history.tokens import estimate_tokens
from session_manager.keywords import Unpack, showing, unexpected
from session_manager.manager.cache.fair_lock import PATIENCE, Claim
from session_manager.manager.pauses import between_polls
from session_manager.manager.turn import Turn, shown, stage
from session_manager.manager.turn_locks import TurnLocks, late
from session_manager.model.message import PARTS, Message, MessageParts
from session_manager.model.session import Version
from session_manager.resource import Resource

__all__ = ["AsyncTurn", "held"]

R = TypeVar("R")
T = TypeVar("T", bound="AsyncTurn")


class AsyncTurn(Resource):
    """One turn of a session: an async context manager, for one block in one task. See `AsyncSessionManager.turn`.

    Inside of the block `add` and `add_message` buffer messages, and are not awaited; no other caller sees them. Leaving it writes and saves
    the buffer at once; an exception that leaves it, a cancellation too, writes nothing. A cancellation that comes while it is
    being written is raised when that is done, and `applied` says whether it is there.
    """

    def __init__(self, key: str, ref: str | None, make: Callable[[], Awaitable[Turn]], workers: Workers) -> None:
        #: The session's key.
        self.key: str = key
        #: The delivery that the turn answers, or `None`.
        self.ref: str | None = ref
        self._make, self._workers = make, workers
        self._is_entered = False
        self._made: Turn | None = None

    @property
    def done(self) -> bool:
        """Whether the delivery was answered before, durably: then there is nothing to do but to send `messages` again."""
        return self._made is not None and self._made.done

    @property
    def applied(self) -> bool:
        """Whether leaving the block has written the messages, durably; see `Turn.applied`."""
        return self._made is not None and self._made.applied

    @property
    def version(self) -> Version | None:
        """The version that leaving the block gave to the session; `None` if nothing was written."""
        return None if self._made is None else self._made.version

    @property
    def replaced(self) -> list[Message]:
        """The messages that the turn takes away because of ``replacing=``, from when the block is entered."""
        return [] if self._made is None else self._made.replaced

    @property
    def undone(self) -> list[Message]:
        """The messages that the turn has taken away, durably."""
        return [] if self._made is None else self._made.undone

    @property
    def messages(self) -> list[Message]:
        """The messages of this turn; if it is `done`, those of the stored answer that are still there."""
        return [] if self._made is None else self._made.messages

    def __repr__(self) -> str:
        return shown("AsyncTurn", self, "not entered" if self._made is None else stage(self._made))

    @property
    def _turn(self) -> Turn:
        if self._made is None:
            raise RuntimeError("this turn is not open: use it inside of its async with block")
        return self._made

    async def __aenter__(self: T) -> T:
        if self._is_entered:
            raise RuntimeError("a turn is for one block")
        self._is_entered = True
        try:
            self._made = await self._entered()
        except BaseException:
            self._is_entered = False
            raise
        return self

    async def _entered(self) -> Turn:
        turn = await self._make()
        claim = await _acquired(turn, self._workers)
        try:
            await self._workers.writing.soon(turn.key, turn._begin)
        except BaseException:
            claim.give_back()
            raise
        turn._open(claim)
        return turn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        turn = self._turn
        try:
            if kind is None and not turn.done:
                await self._workers.writing.run(partial(turn._leave, apply=True), turn.key)
        finally:
            turn._leave(apply=False)

    def add(self, *messages: object, if_absent: bool = False) -> list[Message]:
        """Buffer messages, all or none, for the end of the turn: `Turn.add`. Not to be awaited: it only touches RAM.

        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises RuntimeError: outside of the block.
        """
        return self._turn.add(*messages, if_absent=if_absent)

    @showing(Message)
    def add_message(
        self, role: str, content: Any = "", *, if_absent: bool = False, **parts: Unpack[MessageParts]
    ) -> Message:
        """Buffer a message, built of these parts (see `Message`): `Turn.add_message`. Not to be awaited.

        :param name, tool_calls, tool_call_id, extra, created_at, metadata, ref, if_absent: as for `SessionManager.add_message`.
        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises RuntimeError: outside of the block.
        """
        if not PARTS.issuperset(parts):
            raise unexpected("AsyncTurn.add_message", parts, PARTS)
        return self._turn.add_message(role, content, if_absent=if_absent, **parts)

    async def remove(self, where: int | str) -> Message | None:
        """Remove a message: `Turn.remove`."""
        return await self._change(partial(self._turn.remove, where))

    async def edit(self, where: int | str, message: object) -> bool:
        """Replace a message: `Turn.edit`."""
        return await self._change(partial(self._turn.edit, where, message))

    async def truncate(self, keep_last: int) -> int:
        """Drop all but the last messages: `Turn.truncate`."""
        return await self._change(partial(self._turn.truncate, keep_last))

    async def replace_history(self, messages: Iterable[object]) -> list[Message]:
        """Put messages in the place of all that the turn sees: `Turn.replace_history`."""
        return await self._change(partial(self._turn.replace_history, several(messages, "messages", "messages")))

    async def set_summary(self, text: str) -> None:
        """Set the summary: `Turn.set_summary`."""
        await self._change(partial(self._turn.set_summary, text))

    async def set_metadata(self, items: Mapping[str, Any], removed: Iterable[str] = ()) -> None:
        """Set keys of the session's metadata, and remove others: `Turn.set_metadata`."""
        names = several(removed, "removed", "keys")
        await self._change(partial(self._turn.set_metadata, items, names))

    async def _change(self, change: Callable[[], R]) -> R:
        """Change more than to add: the first of these calls saves the session."""
        return await self._workers.writing.run(change, self.key)

    @showing(context)
    async def get_context(self, **options: Unpack[ContextOptions]) -> list[Any]:
        """Return the messages to send to a model: `AsyncSessionManager.get_context`, with the messages of this turn behind the others.

        :param system, max_messages, max_tokens, count, rules, summary_role: as there.
        :raises RuntimeError: outside of the block.
        """
        if not OPTIONS.issuperset(options):
            raise unexpected("AsyncTurn.get_context", options, OPTIONS)
        turn = self._turn
        if options.get("rules") is None:
            options["rules"] = turn._rules
        session = await self._workers.reading.soon(turn.key, turn._shown)
        added = turn._added()
        build = partial(context, session, added, **options)
        in_a_thread = is_long(session, added, options.get("count", estimate_tokens))
        return await self._workers.computing.run(build) if in_a_thread else build()


async def _acquired(turn: Turn, workers: Workers) -> Claim:
    """Wait for the lock of a turn, as `TurnLocks.acquire` does, while other tasks go on."""
    return await _claimed(turn._locks, turn.key, turn._options.timeout, turn._options.max_waiting, workers)


@asynccontextmanager
async def held(locks: TurnLocks, keys: Iterable[str], seconds: float | None, workers: Workers) -> AsyncIterator[None]:
    """Hold the locks of several sessions' turns: wait for them as `TurnLocks.held` does, while other tasks go on."""
    end = None if seconds is None else anyio.current_time() + seconds
    claims: list[Claim] = []
    try:
        for key in sorted(set(keys)):
            left = None if end is None else max(end - anyio.current_time(), 0)
            claims.append(await _claimed(locks, key, left, None, workers))
        yield
    finally:
        for claim in claims:
            claim.give_back()


async def _claimed(
    locks: TurnLocks, key: str, seconds: float | None, max_waiting: int | None, workers: Workers
) -> Claim:
    claim = Claim(("task", anyio.get_current_task().id))
    began = 0.0 if locks.leases is None else anyio.current_time()
    try:
        if locks.claims.queue(key, claim, max_waiting) is not None:
            with anyio.move_on_after(seconds) as waiting:
                await _until_first(locks, key, claim)
            if waiting.cancelled_caught:
                raise late(key, seconds)
        take = None if locks.leases is None else partial(locks.leases.take, key, claim)
        while take is not None and not await workers.writing.run(take, key):
            left = math.inf if seconds is None else began + seconds - anyio.current_time()
            locks.check_may_poll(key, claim, seconds, left, max_waiting)
            await anyio.sleep(min(between_polls(), left))
    except BaseException:
        claim.give_back()
        raise
    claim.is_polling = False
    return claim


async def _until_first(locks: TurnLocks, key: str, claim: Claim) -> None:
    """Wait until a claim that is in the queue is the first one."""
    locks.check_has_none(key, claim, "task")
    watched: weakref.ref[Claim] | None = None
    while (before := locks.claims.queue(key, claim)) is not None:
        if watched is None or watched() is not before:
            freed, watched = signal(), weakref.ref(before)
            before.watch(freed.set)
        del before  # a reference here would keep a dropped turn alive
        with anyio.move_on_after(PATIENCE):
            await freed.wait()
