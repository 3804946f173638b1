"""`AsyncSessionManager`: the session manager of asyncio and trio programs."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Generator, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel

from session_manager.aio.calls import in_a_thread_of_its_own, to_the_end
from session_manager.aio.crews import Crew
from session_manager.aio.offloading import are_heavy, is_long
from session_manager.aio.turn import AsyncTurn, held
from session_manager.aio.workers import THREADS, Workers
from session_manager.arguments import check_bool, check_int, check_path, check_type, several
from session_manager.errors import ClosedError
from session_manager.history.context import OPTIONS as CONTEXT_OPTIONS
from session_manager.history.context import ContextOptions, context
from session_manager.history.rules import BY_SHAPE, Rules
from session_manager.history.search import SearchHit
from session_manager.history.tokens import estimate_tokens
from session_manager.keywords import Unpack, keyword_defaults, showing, unexpected
from session_manager.manager.autosave import Autosave
from session_manager.manager.draft import Last
from session_manager.manager.leases import Lease
from session_manager.manager.manager import Health, SessionManager
from session_manager.manager.on_event import OnEvent
from session_manager.manager.options import MAX_MESSAGE_BYTES, ManagerOptions, check_options, warn_if_unset
from session_manager.manager.summaries import Summarized, Summarizer, SummaryPolicy
from session_manager.manager.together import Write
from session_manager.manager.turn import Turn
from session_manager.model.changes import Change
from session_manager.model.ids import random_id
from session_manager.model.message import PARTS, Message, MessageParts
from session_manager.model.session import ANY, Anything, Session, Version
from session_manager.model.times import Clock, utc_now
from session_manager.resource import Resource
from session_manager.stores.contract import Finding, SessionInfo, Store
from session_manager.stores.order import Order
from session_manager.stores.urls import anchored, place_of

__all__ = ["OPTIONS", "AsyncManagerOptions", "AsyncSessionManager", "AsyncSummarizer", "Listing"]

M = TypeVar("M", bound="AsyncSessionManager")
T = TypeVar("T")

#: As `session_manager.manager.summaries.Summarizer`, in the event loop.
AsyncSummarizer = Callable[[str, list[Message]], Awaitable[str]]

#: How many items are described in less than a millisecond.
_LONG = 100


class AsyncManagerOptions(ManagerOptions, total=False):
    """The keyword arguments of `AsyncSessionManager`, which says what each means.

    A call of your own takes the same by ``**options: Unpack[AsyncManagerOptions]``.
    """

    threads: int


#: Their names.
OPTIONS = AsyncManagerOptions.__optional_keys__


class Listing(Generic[T]):
    """The result of a call that lists: ``await`` it for a list, or iterate over it with ``async for``."""

    def __init__(self, fetch: Callable[[], Awaitable[list[T]]]) -> None:
        self._fetch = fetch

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._fetch().__await__()

    def __aiter__(self) -> AsyncIterator[T]:
        return _InPieces(self._fetch)


class _InPieces(AsyncIterator[T]):
    """Iterates over fetched items, and lets other tasks in now and then. A loop that ends early need not close it."""

    def __init__(self, fetch: Callable[[], Awaitable[list[T]]]) -> None:
        self._fetch = fetch
        self._rest: Iterator[T] | None = None
        self._count = 0

    async def __anext__(self) -> T:
        if self._rest is None:
            self._rest = iter(await self._fetch())
        if self._count and self._count % _LONG == 0:
            await anyio.lowlevel.checkpoint()
        for item in self._rest:
            self._count += 1
            return item
        raise StopAsyncIteration


class AsyncSessionManager(Resource):
    """`SessionManager` for asyncio and trio: the same calls, awaited, with the same results and errors.

    A call that touches only RAM runs at once, in the event loop. Once in a hundred calls, other tasks get a turn first.
    A call that may wait for the disk, or that takes long, runs in one of the manager's few threads. So the loop never stops
    for it. The writes of one session that run in threads keep the order of their calls, and calls that only touch RAM wait for
    none of them. So calls of several tasks may overtake each other: a message that is added while another task deletes the
    session goes with it. Turns keep their order.

    **Cancellation**: a call that has begun is finished before the cancellation is raised. So a cancelled save is durable or has
    failed, like any other. A call that is cancelled while it waits for its turn has not happened. Only `close` happens in
    any case.

    The storage is opened by ``async with``, or by the first call. A relative path starts at the working directory in which you make
    the manager.
    Tasks of several event loops may use it at once, and so may
    threads, by the `SessionManager` that it wraps.

    :param storage: like all other arguments but `threads`, as for `SessionManager`. Arguments are checked at once. Errors of the
        storage are raised when it is opened.
    :param threads: how many calls that write wait for the storage at once, from 1; half as many read. More help with a server that
        is far away; each may use one of its connections.

    >>> async def main() -> list[str]:
    ...     async with AsyncSessionManager() as m:
    ...         async with m.turn("telegram:42", "tg:1") as turn:
    ...             turn.add_message("user", "Hello!")
    ...             turn.add_message("assistant", "Hi.")
    ...         return [message.content for message in await m.get_history("telegram:42")]
    >>> import asyncio
    >>> asyncio.run(main())
    ['Hello!', 'Hi.']
    """

    def __init__(
        self,
        storage: str | os.PathLike[str] | Store | None = "memory:",
        *,
        clock: Clock = utc_now,
        random_id: Callable[[], str] = random_id,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_resident_bytes: int | None = None,
        autosave: Autosave | None = None,
        expire_every: timedelta | None = None,
        read_only: bool = False,
        archive: bool = False,
        roles: Collection[str] = (),
        rules: Rules = BY_SHAPE,
        lease: Lease | None = None,
        on_event: OnEvent | None = None,
        slow_save: float | None = 1.0,
        threads: int = THREADS,
    ) -> None:
        warn_if_unset(storage, stacklevel=2)
        check_int(threads, "threads", least=1)
        options: ManagerOptions = {
            "clock": clock,
            "random_id": random_id,
            "max_message_bytes": max_message_bytes,
            "max_resident_bytes": max_resident_bytes,
            "autosave": autosave,
            "expire_every": expire_every,
            "read_only": read_only,
            "archive": archive,
            "roles": roles,
            "rules": rules,
            "lease": lease,
            "on_event": on_event,
            "slow_save": slow_save,
        }
        check_options(storage, **options)
        self._open: Callable[[], SessionManager] = partial(SessionManager, _anchored(storage), **options)
        self._wrapped: SessionManager | None = None
        self._crew: Crew | None = None
        self._owns_manager = True
        self._is_closed = False
        #: Held by the thread that opens or closes it: tasks of several loops may do so at once.
        self._changing = threading.Lock()
        self._workers = Workers(threads)

    @classmethod
    @showing(__init__)
    def shared(cls: type[M], storage: str | os.PathLike[str], **options: Unpack[AsyncManagerOptions]) -> M:
        """Return an async manager on the manager that all callers in this process share: `SessionManager.shared`.

        Each call returns a user of its own. All users of a storage, sync and async, have the same sessions in RAM. The async ones also share
        their threads. The storage is opened by ``async with``, or by the first call, if no other user has opened it.

        Tasks of several event loops, each in its thread or one loop after the other, may use one user or several: no user belongs to a
        loop. A call waits in the loop that made it, and turns of all loops take their turn in one queue. The last user to be closed waits
        for running calls.

        :param storage: a URL or path, as for `SessionManager.shared`.
        :param options: likewise, and `threads`. Other options than those of the first user are an error: of the storage when it is
            opened, of `threads` at once.
        :raises TypeError: if the storage is no URL or path, or an option of another type.
        :raises ValueError: if an option is out of range; on opening, if it is not that of the first user.
        :raises InvalidStorageError: if the URL or path cannot be what it says.
        """
        if not OPTIONS.issuperset(options):
            raise unexpected("AsyncSessionManager.shared", options, OPTIONS)
        check_path(storage, "storage", "must be a path, or a URL such as snapshot:PATH")
        threads = options.get("threads")
        check_int(options.get("threads", THREADS), "threads", least=1)
        given = cast("ManagerOptions", {name: value for name, value in options.items() if name != "threads"})
        check_options(storage, **{**keyword_defaults(SessionManager.shared), **given})
        self = cls()
        self._open = partial(SessionManager.shared, anchored(storage), **given)
        self._crew = Crew.joined(place_of(storage).name, self, threads)
        self._workers = self._crew.workers
        return self

    @classmethod
    def wrap(cls: type[M], manager: SessionManager, *, threads: int = THREADS) -> M:
        """Return an async manager beside synchronous code, on the same manager.

        Its `close` waits for its running calls, and leaves the wrapped manager open.

        :param threads: how many calls that write wait for the storage at once, from 1; half as many read.
        :raises TypeError: if it is no `SessionManager`, or no int.
        :raises ValueError: if it is less.
        """
        self = cls(threads=threads)
        check_type(manager, (SessionManager,), "manager must be a SessionManager")
        self._wrapped, self._owns_manager = manager, False
        return self

    async def _manager(self) -> SessionManager:
        """Return the manager, opened if it is not.

        :raises ClosedError: if it was closed before.
        """
        if self._is_closed:
            raise ClosedError
        if self._wrapped is None:
            if self._crew is not None:
                self._crew.check_process()
            await self._workers.writing.run(self._opened, "")
            assert self._wrapped is not None
        self._wrapped._residents.lock.check_process()
        return self._wrapped

    def _opened(self) -> None:
        with self._changing:
            if self._is_closed:
                raise ClosedError
            if self._wrapped is None:
                self._wrapped = self._open()

    @property
    def sync(self) -> SessionManager:
        """The manager for synchronous code, on the same sessions in RAM and the same storage: always the same object.

        It opens the storage if it is not open, and then waits for the disk: inside of an event loop, enter ``async with`` first.
        Its calls may wait, as those of every `SessionManager` do. To close it ends this manager's calls, too; `close` closes both,
        unless `wrap` was given the manager. Any thread may ask for it.

        :raises ClosedError: if this manager is closed.
        :raises ForkedError: in a child process.
        :raises StorageError: if the storage cannot be opened, as for `SessionManager`.
        """
        if self._is_closed:
            raise ClosedError
        if self._wrapped is None:
            self._opened()
        assert self._wrapped is not None
        self._wrapped._residents.lock.check_process()
        return self._wrapped

    # Reading

    async def get(self, key: str) -> Session | None:
        """Return a picture of a session: `SessionManager.get`."""
        manager = await self._manager()
        return await self._workers.reading.soon(key, partial(manager.get, key))

    async def get_or_create(self, key: str) -> Session:
        """Return a picture of a session, which is created if there is none: `SessionManager.get_or_create`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.get_or_create, key))

    async def get_history(
        self,
        key: str,
        *,
        limit: int | None = None,
        before: int | str | None = None,
        after: int | str | None = None,
    ) -> list[Message]:
        """Return the messages, or a page of them, as a new list: `SessionManager.get_history`."""
        manager = await self._manager()
        get = partial(manager.get_history, key, limit=limit, before=before, after=after)
        return await self._workers.reading.soon(key, get)

    async def get_message(self, key: str, where: int | str) -> Message | None:
        """Return one message of the history: `SessionManager.get_message`."""
        manager = await self._manager()
        return await self._workers.reading.soon(key, partial(manager.get_message, key, where))

    async def contains_ref(self, key: str, ref: str) -> bool:
        """Say whether a delivery was answered, or a message is there: `SessionManager.contains_ref`."""
        manager = await self._manager()
        return await self._workers.reading.soon(key, partial(manager.contains_ref, key, ref))

    @showing(context)
    async def get_context(self, key: str, **options: Unpack[ContextOptions]) -> list[Any]:
        """Return the messages to send to a model: `SessionManager.get_context`.

        :param system, max_messages, max_tokens, rules, summary_role: as there.
        :param count: likewise; called in another thread.
        """
        if not CONTEXT_OPTIONS.issuperset(options):
            raise unexpected("AsyncSessionManager.get_context", options, CONTEXT_OPTIONS)
        if options.get("rules") is None:
            options["rules"] = (await self._manager())._rules
        session = await self.get(key)
        build = partial(context, session, **options)
        in_a_thread = is_long(session, (), options.get("count", estimate_tokens))
        return await self._workers.computing.run(build) if in_a_thread else build()

    def get_archive(self, key: str) -> Listing[Message]:
        """List the archived messages of a session, oldest first: `SessionManager.get_archive`."""

        async def fetch() -> list[Message]:
            manager = await self._manager()
            return list(await self._workers.reading.soon(key, partial(manager.get_archive, key)))

        return Listing(fetch)

    async def get_summary(self, key: str) -> str:
        """Return the summary: `SessionManager.get_summary`."""
        manager = await self._manager()
        return await self._workers.reading.soon(key, partial(manager.get_summary, key))

    async def contains(self, key: str) -> bool:
        """Say whether there is such a session: ``key in manager``."""
        manager = await self._manager()
        return await self._workers.reading.soon(key, partial(manager.__contains__, key))

    async def count(self) -> int:
        """Return how many sessions there are: ``len(manager)``."""
        manager = await self._manager()
        return await self._workers.reading.run(manager.__len__)

    def __aiter__(self) -> AsyncIterator[str]:
        """Iterate over the keys that there are now, sorted; damaged sessions' too."""

        async def fetch() -> list[str]:
            manager = await self._manager()
            return await self._workers.reading.run(lambda: list(manager))

        return _InPieces(fetch)

    def list_sessions(
        self,
        prefix: str = "",
        *,
        where: Mapping[str, Any] | None = None,
        order: Order = "recent",
        limit: int | None = None,
        after: SessionInfo | str | None = None,
    ) -> Listing[SessionInfo]:
        """Describe the sessions whose keys start with `prefix`, or a page of them: `SessionManager.list_sessions`.

        ``"telegram:1"`` also means ``"telegram:10"``; `key_prefix` means whole parts.
        """

        async def fetch() -> list[SessionInfo]:
            manager = await self._manager()
            listed = partial(manager.list_sessions, prefix, where=where, order=order, limit=limit, after=after)
            return await self._workers.reading.run(listed)

        return Listing(fetch)

    async def search(self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20) -> list[SearchHit]:
        """Return the messages that contain a text, best first: `SessionManager.search`.

        **Pass** `key` **whenever the user of a chat types the query**: without it they read everybody's chats. The `prefix`
        ``"telegram:1"`` also means ``"telegram:10"``; `key_prefix` means whole parts.
        """
        manager = await self._manager()
        return await self._workers.reading.run(partial(manager.search, text, key=key, prefix=prefix, limit=limit))

    # Writing

    @showing(Message)
    async def add_message(
        self, key: str, role: str, content: Any = "", *, if_absent: bool = False, **parts: Unpack[MessageParts]
    ) -> Message:
        """Append a message, built of these parts: `SessionManager.add_message`.

        :param name, tool_calls, tool_call_id, extra, created_at, metadata, ref, if_absent: as there.
        """
        if not PARTS.issuperset(parts):
            raise unexpected("AsyncSessionManager.add_message", parts, PARTS)
        manager = await self._manager()
        add = partial(manager.add_message, key, role, content, if_absent=if_absent, **parts)
        return await self._change(key, add, is_heavy=are_heavy([content, *parts.values()]))

    async def add(self, key: str, *messages: object, if_absent: bool = False) -> list[Message]:
        """Append messages, all or none: `SessionManager.add`."""
        manager = await self._manager()
        add = partial(manager.add, key, *messages, if_absent=if_absent)
        return await self._change(key, add, is_heavy=are_heavy(messages))

    def turn(
        self,
        key: str,
        ref: str | None = None,
        timeout: float | None = None,
        *,
        max_waiting: int | None = None,
        expected: Version | Anything | None = ANY,
        keep: bool = True,
        replacing: str | Last | None = None,
    ) -> AsyncTurn:
        """Write a turn at once or not at all: `SessionManager.turn`, in ``async with``.

        Tasks get it in the order in which they came. One that is cancelled, while it waits or in the block, leaves the session
        as it was, and lets the next one in.

        :raises RuntimeError: entering the block: this task has a turn of the session already.
        """

        async def make() -> Turn:
            manager = await self._manager()
            return manager.turn(
                key, ref, timeout, max_waiting=max_waiting, expected=expected, keep=keep, replacing=replacing
            )

        return AsyncTurn(key, ref, make, self._workers)

    async def undo(
        self,
        key: str,
        turns: int = 1,
        *,
        ref: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as `turn` has it
    ) -> list[Message]:
        """Remove the last whole turns, durably: `SessionManager.undo`.

        :raises RuntimeError: this task has a turn of the session.
        """

        async def make() -> Turn:
            manager = await self._manager()
            return manager._turn(manager._undoing(key, turns, ref, timeout))

        async with AsyncTurn(key, ref, make, self._workers) as turn:
            pass
        return turn.undone

    async def set_summary(self, key: str, text: str) -> bool:
        """Set the summary: `SessionManager.set_summary`."""
        manager = await self._manager()
        return await self._change(key, partial(manager.set_summary, key, text), is_heavy=are_heavy([text]))

    async def set_history(
        self, key: str, messages: Iterable[object], *, expected: Version | Anything | None = ANY
    ) -> bool:
        """Replace all messages: `SessionManager.set_history`."""
        manager = await self._manager()
        given = several(messages, "messages", "messages")
        replace = partial(manager.set_history, key, given, expected=expected)
        if expected is ANY:
            return await self._change(key, replace, is_heavy=are_heavy(given))
        return await self._workers.writing.run(replace, key)

    def _change(self, key: str, change: Callable[[], T], *, is_heavy: bool) -> Awaitable[T]:
        """Change a session. A heavy change is not made in the event loop."""
        return self._heavily(key, change) if is_heavy else self._workers.writing.soon(key, change)

    async def _heavily(self, key: str, change: Callable[[], T]) -> T:
        await self.get(key)
        return await self._workers.computing.run(change, key)

    async def truncate_history(self, key: str, keep_last: int, *, whole_turns: bool = False) -> int:
        """Drop all but the last `keep_last` messages: `SessionManager.truncate_history`."""
        manager = await self._manager()
        truncate = partial(manager.truncate_history, key, keep_last, whole_turns=whole_turns)
        return await self._change(key, truncate, is_heavy=whole_turns)

    async def summarize(
        self, key: str, summarizer: Summarizer | AsyncSummarizer, *, keep_last: int, when: SummaryPolicy | None = None
    ) -> Summarized | None:
        """Replace old messages by a summary, unless anything about them changes meanwhile: `SessionManager.summarize`.

        :param summarizer: awaited in the event loop if it is async, else called in a thread of its own. If the task is
            cancelled meanwhile, nothing has changed; a thread is left to itself.
        """
        manager = await self._manager()
        manager._check_summary(key, summarizer, keep_last, when)
        with manager._summaries.claimed(key) as is_first:
            if not is_first:
                return None
            picked = await self._workers.writing.run(partial(manager._summaries.pick, key, keep_last, when), key)
            if picked is None:
                return None
            call = partial(summarizer, picked.seen.summary, list(picked.messages))
            summary: object = call() if _is_async(summarizer) else await in_a_thread_of_its_own(call)
            if inspect.isawaitable(summary):
                summary = await summary
            return await self._workers.writing.run(partial(manager._summaries.apply, key, picked, summary), key)

    async def remove_last(self, key: str) -> Message | None:
        """Remove the last message, and return it: `SessionManager.remove_last`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.remove_last, key))

    async def remove_message(self, key: str, where: int | str) -> Message | None:
        """Remove a message, and return it: `SessionManager.remove_message`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.remove_message, key, where))

    async def update_last(self, key: str, message: object) -> bool:
        """Replace the last message: `SessionManager.update_last`."""
        manager = await self._manager()
        return await self._change(key, partial(manager.update_last, key, message), is_heavy=are_heavy([message]))

    async def update_message(self, key: str, where: int | str, message: object) -> bool:
        """Replace a message: `SessionManager.update_message`."""
        manager = await self._manager()
        return await self._change(
            key, partial(manager.update_message, key, where, message), is_heavy=are_heavy([message])
        )

    async def update_metadata(self, key: str, items: Mapping[str, Any], removed: Iterable[str] = ()) -> bool:
        """Set keys of the session's metadata, and remove others: `SessionManager.update_metadata`."""
        manager = await self._manager()
        names = several(removed, "removed", "keys")
        return await self._change(key, partial(manager.update_metadata, key, items, names), is_heavy=are_heavy([items]))

    async def get_state(self, key: str) -> dict[str, Any]:
        """Return the metadata of a session, as a new dict: `SessionManager.get_state`."""
        manager = await self._manager()
        return await self._workers.reading.soon(key, partial(manager.get_state, key))

    async def put_state(self, key: str, items: Mapping[str, Any], removed: Iterable[str] = ()) -> None:
        """Set keys of a session's metadata, and remove others, durably: `SessionManager.put_state`."""
        manager = await self._manager()
        names, checked = several(removed, "removed", "keys"), manager._writable(key)
        await self._workers.writing.run(partial(manager.put_state, checked, items, names), checked)

    async def clear(self, key: str, *, ref: str | None = None) -> int:
        """Drop all messages, the summary and the archive: `SessionManager.clear`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.clear, key, ref=ref))

    async def commit_together(self, writes: Iterable[Write]) -> list[Session]:
        """Change several sessions in one commit, all or none: `SessionManager.commit_together`."""
        manager = await self._manager()
        given = several(writes, "writes", "Writes")
        keys = sorted({one.key for one in given if isinstance(one, Write) and isinstance(one.key, str)})
        return await self._workers.writing.run_for(keys, partial(manager.commit_together, given))

    # Saving

    async def save(self, key: str) -> bool:
        """Make a session durable: `SessionManager.save`. A cancellation is raised when it is, or has failed."""
        manager = await self._manager()
        save = partial(manager.save, key)
        if manager._saving.is_dirty(manager._writable(key)):  # so it waits for the storage
            return await self._workers.writing.run(save, key)
        return await self._workers.writing.soon(key, save)

    async def save_all(self) -> int:
        """Save every session that has something to save: `SessionManager.save_all`."""
        manager = await self._manager()
        return await self._workers.writing.run(manager.save_all)

    async def reload(self, key: str) -> list[Change]:
        """Give up a session's unsaved changes, and read it from the store again: `SessionManager.reload`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.reload, key))

    async def delete(self, key: str, *, expected: Version | Anything | None = ANY) -> bool:
        """Delete a session and its archive, durably: `SessionManager.delete`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.delete, key, expected=expected))

    async def delete_prefix(self, prefix: str, *, dry_run: bool = False) -> list[str]:
        """Delete all sessions whose keys start with `prefix`, durably: `SessionManager.delete_prefix`.

        ``"telegram:1"`` also means ``"telegram:10"``; `key_prefix` means whole parts.
        """
        manager = await self._manager()
        return await self._workers.writing.run(partial(manager.delete_prefix, prefix, dry_run=dry_run))

    async def set_expiry(self, key: str, after: timedelta | None) -> bool:
        """Set how long after its last message a session may be deleted: `SessionManager.set_expiry`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.set_expiry, key, after))

    async def expire(
        self,
        older_than: timedelta | datetime | None = None,
        *,
        key: str | None = None,
        prefix: str = "",
        where: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Delete the sessions whose last message is too old, or whose own expiry has passed: `SessionManager.expire`.

        The `prefix` ``"telegram:1"`` also means ``"telegram:10"``; `key_prefix` means whole parts.
        """
        manager = await self._manager()
        expire = partial(manager.expire, older_than, key=key, prefix=prefix, where=where, dry_run=dry_run)
        return await self._workers.writing.run(expire)

    async def fork(self, key: str, new_key: str) -> Session:
        """Copy a session to a new key, durably: `SessionManager.fork`."""
        manager = await self._manager()
        return await self._workers.writing.soon(key, partial(manager.fork, key, new_key))

    async def rename(self, key: str, new_key: str, *, timeout: float | None = None) -> Session:  # noqa: ASYNC109 - as a turn has it
        """Give a session and its archive another key, durably: `SessionManager.rename`.

        :raises RuntimeError: if this task has a turn of one of the two; nothing has changed.
        """
        manager = await self._manager()
        checked, new = manager._check_rename(key, new_key, timeout)
        async with held(manager._turn_locks, (checked, new), timeout, self._workers):
            return await self._workers.writing.soon(checked, partial(manager._renaming.rename, checked, new))

    # The storage

    async def compact(self, key: str) -> None:
        """Reclaim the space that a session wastes in its storage: `SessionManager.compact`."""
        manager = await self._manager()
        await self._workers.writing.soon(key, partial(manager.compact, key))

    async def verify(self, key: str | None = None) -> list[Finding]:
        """Check the stored sessions, and return the flaws: `SessionManager.verify`."""
        manager = await self._manager()
        return await self._workers.reading.run(partial(manager.verify, key))

    async def health(self) -> Health:
        """Say how the manager is doing, from RAM: `SessionManager.health`."""
        manager = await self._manager()
        return await self._workers.computing.run(manager.health)

    async def close(self, *, save: bool = True) -> None:
        """Wait for the calls that run, save dirty sessions, and let go of the storage: `SessionManager.close`; idempotent.

        Any task may call it, such as that of a signal handler. Open turns then write nothing, and raise `ClosedError`.
        A task that is cancelled, before or meanwhile, closes it all the same, and gets its cancellation then.

        :param save: `False` gives up unsaved changes.
        :raises SaveFailedError: something could not be saved, and the manager stays open.
        """
        check_bool(save, "save")
        if self._wrapped is not None:
            self._wrapped._residents.lock.check_process()
        await to_the_end(partial(self._shut, save=save))

    def _kill(self) -> SessionManager | None:
        """Close the manager without saving, and the one that it wraps; return that: see `session_manager.testing.crash`."""
        self._shut(save=False)
        if self._wrapped is not None:
            self._wrapped._kill()
        return self._wrapped

    def _shut(self, *, save: bool) -> None:
        with self._changing:
            if not self._is_closed and self._wrapped is not None and self._owns_manager:
                self._wrapped.close(save=save)
            self._is_closed = True
        if self._crew is None:
            self._workers.stop(wait=True)
        else:
            self._crew.leave(self)

    async def __aenter__(self: M) -> M:
        try:
            await self._manager()
        except BaseException:
            if self._wrapped is not None:  # a task that was cancelled meanwhile never gets to the end of the block
                await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        workers: Workers | None = getattr(self, "_workers", None)
        if workers is None or self._is_closed or self._crew is not None or _is_finalizing():
            return
        workers.stop(wait=False)
        if self._wrapped is not None and self._owns_manager:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1, source=self)

    def __repr__(self) -> str:
        what = "not opened yet" if self._wrapped is None else repr(self._wrapped)
        return f"<AsyncSessionManager {what}>"


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _anchored(storage: str | os.PathLike[str] | Store | None) -> str | os.PathLike[str] | Store:
    """Return what to open later: a relative path is meant from where the program is now."""
    if storage is None or storage == "":
        return "memory:"
    return storage if isinstance(storage, Store) else anchored(storage)
