"""`LangGraphStore`: the memories of LangGraph's agents in a storage of this library, without vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from langgraph.store.base import (
    BaseStore,
    GetOp,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    validate_op_namespace,
)

from session_manager.adapters.langgraph.managers import Managers, UsesManagers
from session_manager.adapters.langgraph.memories import (
    found,
    item_of,
    key_of,
    namespace_of,
    namespaces,
    stored,
)
from session_manager.adapters.opening import Storage
from session_manager.errors import CannotCommitTogetherError
from session_manager.manager.together import Write
from session_manager.model.key import join_key
from session_manager.model.session import Session
from session_manager.model.times import utc_now
from session_manager.stores.contract import SessionInfo

__all__ = ["LangGraphStore"]

#: What sessions hold, by their keys: the metadata of each.
_Held: TypeAlias = Mapping[str, Mapping[str, Any]]


class LangGraphStore(UsesManagers, BaseStore):
    """Keeps LangGraph's memories, one session for each namespace, and in it one entry of the metadata for each memory.

    When a call returns, what it wrote survives a crash and a power cut. Two processes may write to one namespace: of two that
    write one memory the last wins. There are no vectors: a search with a ``query`` is one without. Values are JSON, and bytes
    may be in them. Any thread and any event loop may call any method.

    :param storage: a URL or path, as for `SessionManager.shared`, or a manager.
    :param prefix: what the keys of the namespaces' sessions start with; without a colon.
    :raises InvalidKeyError: if the prefix is empty, or has a colon.
    :param clock: gives the time, an aware datetime; the system's by default.
    :raises StorageError: if the storage cannot be opened.

    >>> with LangGraphStore("memory:") as store:
    ...     store.put(("users", "42"), "food", {"likes": "pizza"})
    ...     store.get(("users", "42"), "food").value
    {'likes': 'pizza'}
    """

    def __init__(
        self, storage: Storage, *, prefix: str = "langgraph-store", clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._managers = Managers(storage)
        self._prefix, self._clock = join_key(prefix), clock

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations: all that read first, then all that write.

        What is written is durable in one commit on SQLite and PostgreSQL, and in RAM; in a directory of files each namespace is a
        commit of its own.

        :raises InvalidNamespaceError: for a label that LangGraph does not take.
        :raises InvalidMessageError: with the place of a value that is not JSON. In a directory the namespaces before it are written.
        :raises SaveError: if it could not be saved. In a directory the namespaces before it are.
        """
        manager, checked = self._managers.sync, _checked(ops)
        named = {key: manager.get(key) for key in self._named(checked)}
        held = self._held(named, manager.list_sessions(f"{self._prefix}:", order="key") if _lists(checked) else ())
        results = [self._result(op, held) for op in checked]
        writes = self._writes(checked, held)
        try:
            manager.commit_together(writes)
        except CannotCommitTogetherError:
            for write in writes:
                manager.commit_together([write])
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do what `batch` does."""
        manager, checked = self._managers.asynchronous, _checked(ops)
        named = {key: await manager.get(key) for key in self._named(checked)}
        held = self._held(
            named, await manager.list_sessions(f"{self._prefix}:", order="key") if _lists(checked) else ()
        )
        results = [self._result(op, held) for op in checked]
        writes = self._writes(checked, held)
        try:
            await manager.commit_together(writes)
        except CannotCommitTogetherError:
            for write in writes:
                await manager.commit_together([write])
        return results

    def _named(self, ops: Iterable[Op]) -> list[str]:
        """Return the keys of the namespaces that operations name, each once."""
        return list({key_of(self._prefix, op.namespace): None for op in ops if isinstance(op, GetOp | PutOp)})

    def _held(self, named: Mapping[str, Session | None], infos: Iterable[SessionInfo]) -> _Held:
        """Return what namespaces hold, by their keys.

        :raises CorruptSessionError: if one is damaged.
        """
        held: dict[str, Mapping[str, Any]] = {}
        for info in infos:
            if info.error is not None:
                raise info.error
            held[info.key] = info.metadata
        held.update({key: session.metadata for key, session in named.items() if session is not None})
        return held

    def _result(self, op: Op, held: _Held) -> Result:
        if isinstance(op, GetOp):
            return item_of(op.namespace, op.key, held.get(key_of(self._prefix, op.namespace), {}))
        if isinstance(op, PutOp):
            return None
        there = {namespace_of(key): metadata for key, metadata in held.items()}
        if isinstance(op, ListNamespacesOp):
            return namespaces([namespace for namespace, metadata in there.items() if metadata], op)
        start = tuple(op.namespace_prefix)
        inside = [namespace for namespace in sorted(there) if namespace[: len(start)] == start]
        items = [item for namespace in inside for item in found(namespace, there[namespace], op)]
        return items[op.offset : op.offset + op.limit]

    def _writes(self, ops: Sequence[Op], held: _Held) -> list[Write]:
        """Return what is written to each namespace. Of two operations on one memory the last counts."""
        now = self._clock().isoformat()
        puts = {(op.namespace, op.key): op.value for op in ops if isinstance(op, PutOp)}
        changes: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for (namespace, key), value in puts.items():
            place = key_of(self._prefix, namespace)
            before = held.get(place, {}).get(key)
            items, removed = changes.setdefault(place, ({}, []))
            if value is not None:
                items[key] = stored(value, now if before is None else before["created_at"], now)
            elif before is not None:
                removed.append(key)
        return [
            Write(key, items=items, removed=removed) for key, (items, removed) in changes.items() if items or removed
        ]


def _checked(ops: Iterable[Op]) -> list[Op]:
    """Return the operations, after a check that each can be carried out.

    :raises TypeError: if one is of a kind that is not known.
    """
    checked = list(ops)
    for op in checked:
        if not isinstance(op, GetOp | PutOp | SearchOp | ListNamespacesOp):
            raise TypeError(f"unknown operation: {type(op).__name__}")
        validate_op_namespace(op)
    return checked


def _lists(ops: Iterable[Op]) -> bool:
    """Say whether operations look at more than the namespaces that they name."""
    return any(isinstance(op, SearchOp | ListNamespacesOp) for op in ops)
