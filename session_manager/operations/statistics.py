"""Figures of a storage: how many sessions and messages, how many bytes, how old."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

import attrs

from session_manager.arguments import Progress, check_progress, check_type
from session_manager.as_dict import AsDict
from session_manager.errors import StorageError
from session_manager.stores.contract import SessionInfo, Store
from session_manager.stores.opening import Storage, opened
from session_manager.stores.order import recency

__all__ = ["Group", "Stats", "stats"]


@attrs.frozen(kw_only=True)
class Group(AsDict):
    """Figures of the sessions whose keys have the same first part."""

    #: How many sessions.
    sessions: int = 0
    #: How many messages they have; those of damaged sessions are not counted.
    messages: int = 0
    #: How many bytes they take; `None` if the storage cannot tell.
    bytes: int | None = None


@attrs.frozen(kw_only=True)
class Stats(AsDict):
    """Figures of a storage."""

    #: The storage, such as ``<LogStore '/srv/chats'>``.
    storage: str
    #: How many sessions there are, damaged ones too.
    sessions: int
    #: How many of them cannot be read.
    damaged: int
    #: How many messages the others have, without archived ones.
    messages: int
    #: How many have a summary.
    summaries: int
    #: How many expire by themselves (`SessionManager.set_expiry`).
    expiring: int
    #: How many bytes the sessions take with their archives; `None` if the storage cannot tell.
    bytes: int | None
    #: How many bytes the storage takes, with all that is in it beside these sessions; `None` if it cannot tell.
    total_bytes: int | None
    #: When the oldest session was created: aware, UTC; `None` if there is none.
    oldest: datetime | None
    #: When the last message was written, or the last change made: aware, UTC; `None` if there is none.
    latest: datetime | None
    #: Figures by the first part of the keys, such as ``telegram`` of ``telegram:42``; ``""``: keys of one part.
    groups: dict[str, Group]


def stats(storage: Storage, *, prefix: str = "", progress: Progress | None = None) -> Stats:
    """Count sessions, messages and bytes of a storage. Histories are not loaded.

    It opens a URL or path read-only, beside the program that writes to it.

    :param prefix: only sessions whose keys start with this text; ``"telegram:1"`` also means ``"telegram:10"``, `key_prefix`
        whole parts.
    :param progress: called after each session, with how many are done, how many there are, and the session's key. A storage that
        describes all sessions at once calls it once.
    :raises TypeError: if an argument is of another type.
    :raises StoreInUseError: if a manager has the `Store`, and it is not `shared`.
    :raises InvalidStorageError, StorageError: if the storage cannot be opened or read.
    """
    check_type(prefix, (str,), "prefix must be a str")
    check_progress(progress)
    with opened(storage, read_only=True) as store:
        return _stats(store, _infos(store, prefix, progress), store.sizes(prefix))


def _stats(store: Store, infos: list[SessionInfo], sizes: dict[str, int]) -> Stats:
    readable = [info for info in infos if info.error is None]
    return Stats(
        storage=repr(store),
        sessions=len(infos),
        damaged=len(infos) - len(readable),
        messages=sum(info.count for info in readable),
        summaries=sum(info.has_summary for info in readable),
        expiring=sum(info.expires_after is not None for info in readable),
        bytes=sum(sizes.values()) if sizes or not infos else None,
        total_bytes=store.total_bytes(),
        oldest=min((info.created for info in readable if info.created is not None), default=None),
        latest=max((time for info in readable if (time := recency(info)) is not None), default=None),
        groups=_groups(infos, sizes),
    )


def _infos(store: Store, prefix: str, progress: Progress | None) -> list[SessionInfo]:
    if store.ordered:
        infos = store.infos(prefix, order="key")
        if progress is not None and infos:
            progress(len(infos), len(infos), infos[-1].key)
        return infos
    keys = sorted(store.keys(prefix))
    found = []
    for number, key in enumerate(keys, 1):
        info = _described(store, key)
        if info is not None:
            found.append(info)
        if progress is not None:
            progress(number, len(keys), key)
    return found


def _described(store: Store, key: str) -> SessionInfo | None:
    try:
        return store.describe(key)
    except StorageError as error:
        return SessionInfo(key=key, error=error)


def _groups(infos: Iterable[SessionInfo], sizes: dict[str, int]) -> dict[str, Group]:
    found: dict[str, list[SessionInfo]] = defaultdict(list)
    for info in infos:
        first, separator, _ = info.key.partition(":")
        found[first if separator else ""].append(info)
    return {
        first: Group(
            sessions=len(these),
            messages=sum(info.count for info in these),
            bytes=sum(sizes.get(info.key, 0) for info in these) if sizes else None,
        )
        for first, these in sorted(found.items())
    }
