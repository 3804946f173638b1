"""`LangGraphSaver`: LangGraph's checkpoints in a storage of this library."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
)

from session_manager.adapters.attempts import ATTEMPTS, retried
from session_manager.adapters.langgraph.checkpoints import config_of, metadata_of, step, task_writes, to_tuple
from session_manager.adapters.langgraph.managers import Managers, UsesManagers
from session_manager.adapters.langgraph.pruning import beyond, of_runs, unneeded
from session_manager.adapters.langgraph.thread import Name, Thread, Threads
from session_manager.adapters.langgraph.versions import next_version
from session_manager.adapters.opening import Storage
from session_manager.arguments import check_int
from session_manager.errors import SessionNotFoundError
from session_manager.model.key import key_prefix
from session_manager.model.message import Item, Message
from session_manager.model.session import Session

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["LangGraphSaver"]


#: Makes the items to add to a thread, as it is then.
_Make: TypeAlias = Callable[[Thread], Sequence[Item]]
#: Finds the positions of items to remove from a thread, as it is then.
_Find: TypeAlias = Callable[[Thread], Sequence[int]]


class LangGraphSaver(UsesManagers, BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph's threads, one session for each thread.

    When a call returns, what it wrote survives a crash and a power cut. A call that raises has written nothing, or says that
    it does not know. Each call has its async twin, which waits in a thread. Any thread and any event loop may call any method.

    :param storage: a URL or path, as for `SessionManager.shared`, or a manager.
    :param serde: writes values as bytes; LangGraph's own by default. With a serializer that encrypts, each version of a list
        is stored whole.
    :param keep: how many checkpoints of each namespace stay. When there are twice as many, the older ones go. `None`: all stay.
    :param prefix: what the keys of the threads' sessions start with, before a colon and the thread's id; without a colon.
    :raises InvalidKeyError: if the prefix is empty, or has a colon.
    :raises StorageError: if the storage cannot be opened.

    >>> with LangGraphSaver("memory:") as saver:
    ...     saver.get_tuple({"configurable": {"thread_id": "42"}})
    """

    def __init__(
        self,
        storage: Storage,
        *,
        serde: SerializerProtocol | None = None,
        keep: int | None = None,
        prefix: str = "langgraph",
    ) -> None:
        super().__init__(serde=serde)
        if keep is not None:
            check_int(keep, "keep", least=1)
        self._keep = keep
        self._prefix = key_prefix(prefix)
        self._managers = Managers(storage)
        self._sync = self._managers.sync
        self._threads = Threads()

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a config names, or the newest of its thread and namespace; `None` if there is none."""
        return self._tuple(config, self._sync.get(self._key(config)))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return what `get_tuple` returns."""
        return self._tuple(config, await self._managers.asynchronous.get(self._key(config)))

    def _tuple(self, config: RunnableConfig, session: Session | None) -> CheckpointTuple | None:
        thread, ns, wanted = self._threads.of(session), _ns(config), get_checkpoint_id(config)
        name = Name(ns, wanted) if wanted else thread.latest(ns)
        return None if name is None else to_tuple(thread, _thread_id(config), name, self.serde)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Iterate over checkpoints, the newest first.

        :param config: names a thread, perhaps a namespace and a checkpoint of it; `None`: all threads.
        :param filter: values that the metadata must have.
        :param before: only checkpoints before the one that this config names.
        :param limit: how many at most.
        """
        keys = self._keys() if config is None else [self._key(config)]
        names = [(name, key) for key in keys for name in self._names(config, before, self._sync.get(key))]
        for name, key in sorted(names, key=_newest_first, reverse=True):
            found = self._matching(key, name, filter, self._sync.get(key)) if limit is None or limit > 0 else None
            if found is not None:
                limit = None if limit is None else limit - 1
                yield found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Iterate over what `list` iterates over."""
        keys = await self._akeys() if config is None else [self._key(config)]
        names = [
            (name, key)
            for key in keys
            for name in self._names(config, before, await self._managers.asynchronous.get(key))
        ]
        for name, key in sorted(names, key=_newest_first, reverse=True):
            found = (
                self._matching(key, name, filter, await self._managers.asynchronous.get(key))
                if limit is None or limit > 0
                else None
            )
            if found is not None:
                limit = None if limit is None else limit - 1
                yield found

    def _names(
        self, config: RunnableConfig | None, before: RunnableConfig | None, session: Session | None
    ) -> Sequence[Name]:
        """Return the names of a thread's checkpoints, as two configs narrow them down."""
        ns = None if config is None else config["configurable"].get("checkpoint_ns")
        wanted = None if config is None else get_checkpoint_id(config)
        end = None if before is None else get_checkpoint_id(before)
        return [
            name
            for name in self._threads.of(session).names(ns)
            if (not wanted or name.id == wanted) and (not end or name.id < end)
        ]

    def _matching(
        self, key: str, name: Name, filter: dict[str, Any] | None, session: Session | None
    ) -> CheckpointTuple | None:
        """Return a checkpoint, unless it is gone, or its metadata is other than asked for."""
        thread = self._threads.of(session)
        item = thread.checkpoint(name)
        if item is None:
            return None
        metadata: Any = metadata_of(item, self.serde) if filter else {}
        if filter and any(metadata.get(field) != value for field, value in filter.items()):
            return None
        return to_tuple(thread, key.removeprefix(self._prefix), name, self.serde)

    def _keys(self) -> Sequence[str]:
        return [info.key for info in self._sync.list_sessions(self._prefix, order="key")]

    async def _akeys(self) -> Sequence[str]:
        return [info.key async for info in self._managers.asynchronous.list_sessions(self._prefix, order="key")]

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and the values that it brings, in one commit.

        :param config: names the thread and the namespace, and by its ``checkpoint_id`` the checkpoint before this one.
        :param new_versions: the channels whose values are new.
        :returns: the config that names the checkpoint.
        :raises SaveError: if it could not be saved; nothing has changed.
        :raises InvalidMessageError: if the thread's id is no text that a key can hold, or a value is larger than a message may be.
        """
        key, name = self._key(config), Name(_ns(config), checkpoint["id"])
        self._add(key, self._step(config, checkpoint, metadata, new_versions))
        if self._is_full(self._sync.get(key), name.ns):
            self._remove(key, self._outdated(self._keep or 1))
        return config_of(_thread_id(config), name)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do what `put` does."""
        key, name = self._key(config), Name(_ns(config), checkpoint["id"])
        await self._aadd(key, self._step(config, checkpoint, metadata, new_versions))
        if self._is_full(await self._managers.asynchronous.get(key), name.ns):
            await self._aremove(key, self._outdated(self._keep or 1))
        return config_of(_thread_id(config), name)

    def _step(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> _Make:
        return lambda thread: step(thread, _ns(config), config, checkpoint, metadata, new_versions, self.serde)

    def _is_full(self, session: Session | None, ns: str) -> bool:
        """Say whether a namespace has twice as many checkpoints as are to stay."""
        return self._keep is not None and len(self._threads.of(session).names(ns)) > 2 * self._keep

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written after a checkpoint. The writes that are there already stay as they are.

        :param config: names the checkpoint.
        :param writes: channels and values.
        :raises SaveError: if it could not be saved; nothing has changed.
        """
        self._add(self._key(config), self._task(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Do what `put_writes` does."""
        await self._aadd(self._key(config), self._task(config, writes, task_id, task_path))

    def _task(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str) -> _Make:
        name = Name(_ns(config), config["configurable"]["checkpoint_id"])
        return lambda thread: task_writes(thread, name, writes, task_id, task_path, self.serde)

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002 - as LangGraph has it
        """Return a version of a channel after another one."""
        return next_version(current)

    # Threads

    def delete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints and writes of a thread.

        :raises SaveError: as `SessionManager.delete` does.
        """
        self._sync.delete(self._prefix + str(thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """Do what `delete_thread` does."""
        await self._managers.asynchronous.delete(self._prefix + str(thread_id))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, whole, to one that is not there yet. Without the source nothing happens.

        :raises SessionExistsError: if the target is there; nothing has changed.
        :raises SaveError: if it could not be saved.
        """
        with contextlib.suppress(SessionNotFoundError):
            self._sync.fork(self._prefix + str(source_thread_id), self._prefix + str(target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what `copy_thread` does."""
        with contextlib.suppress(SessionNotFoundError):
            await self._managers.asynchronous.fork(
                self._prefix + str(source_thread_id), self._prefix + str(target_thread_id)
            )

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that some runs have made, and their writes. Every thread is looked through.

        The values that other checkpoints need stay. A channel of LangGraph's ``DeltaChannel`` that was to be rebuilt from a
        checkpoint of such a run loses what it had from there.

        :raises SaveError: if a thread could not be saved; the threads before it were.
        """
        if run_ids:
            for key in self._keys():
                self._remove(key, self._without_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what `delete_for_runs` does."""
        if run_ids:
            for key in await self._akeys():
                await self._aremove(key, self._without_runs(run_ids))

    def _without_runs(self, run_ids: Sequence[str]) -> _Find:
        return lambda thread: unneeded(thread, of_runs(thread, run_ids), self.serde)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep: int = 1) -> None:
        """Delete old checkpoints of some threads, and what only they need. A checkpoint that a newer one is rebuilt from stays.

        :param strategy: ``"keep_latest"``, or ``"delete"``: the threads go.
        :param keep: how many checkpoints of each namespace stay, from 1.
        :raises ValueError: if the strategy is another one, or `keep` less than 1.
        :raises SaveError: if a thread could not be saved; the threads before it were.
        """
        _check_strategy(strategy, keep)
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
            else:
                self._remove(self._prefix + str(thread_id), self._outdated(keep))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep: int = 1) -> None:
        """Do what `prune` does."""
        _check_strategy(strategy, keep)
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
            else:
                await self._aremove(self._prefix + str(thread_id), self._outdated(keep))

    def _outdated(self, keep: int) -> _Find:
        return lambda thread: unneeded(thread, beyond(thread, keep, self.serde), self.serde)

    # Commits

    def _add(self, key: str, make: _Make) -> None:
        """Add items to a thread, in one commit. A thread that is deleted meanwhile begins anew."""
        while True:
            with self._sync.turn(key, keep=False) as turn:
                turn.add(*make(self._threads.of(self._sync.get(key))))
            if not turn.messages or (turn.applied and self._stands(turn.messages, self._sync.get(key))):
                return

    async def _aadd(self, key: str, make: _Make) -> None:
        """Do what `_add` does."""
        while True:
            async with self._managers.asynchronous.turn(key, keep=False) as turn:
                turn.add(*make(self._threads.of(await self._managers.asynchronous.get(key))))
            if not turn.messages or (
                turn.applied and self._stands(turn.messages, await self._managers.asynchronous.get(key))
            ):
                return

    def _stands(self, items: Iterable[Message], session: Session | None) -> bool:
        """Say whether what items are based on is still there: another process may have removed it meanwhile."""
        thread = self._threads.of(session)
        return session is None or all(thread.has(item.metadata.get("base")) for item in items)

    def _remove(self, key: str, find: _Find) -> None:
        """Remove items of a thread, in one commit, from the version in which they are not needed."""
        for attempt in range(ATTEMPTS):
            session = self._sync.get(key)
            positions = find(self._threads.of(session))
            if session is None or not positions:
                return
            with retried(attempt):
                with self._sync.turn(key, expected=session.version) as turn:
                    for position in positions:
                        turn.remove(position)
                return

    async def _aremove(self, key: str, find: _Find) -> None:
        """Do what `_remove` does."""
        for attempt in range(ATTEMPTS):
            session = await self._managers.asynchronous.get(key)
            positions = find(self._threads.of(session))
            if session is None or not positions:
                return
            with retried(attempt):
                async with self._managers.asynchronous.turn(key, expected=session.version) as turn:
                    for position in positions:
                        await turn.remove(position)
                return

    # What a config says

    def _key(self, config: RunnableConfig) -> str:
        return self._prefix + _thread_id(config)


def _thread_id(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def _ns(config: RunnableConfig) -> str:
    ns: str = config["configurable"].get("checkpoint_ns", "")
    return ns


def _newest_first(named: tuple[Name, str]) -> tuple[str, str, str]:
    name, key = named
    return name.id, key, name.ns


def _check_strategy(strategy: str, keep: int) -> None:
    if strategy not in ("keep_latest", "delete"):
        raise ValueError(f'strategy must be "keep_latest" or "delete", not {strategy[:40]!a}')
    check_int(keep, "keep", least=1)
