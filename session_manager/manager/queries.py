"""Queries over all sessions, in RAM and in the store: their keys, descriptions, archives, and a search of their text."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from session_manager.errors import CorruptSessionError, StorageError, UnsupportedFormatError
from session_manager.frozen import Part
from session_manager.history.search import SearchHit, best, merged
from session_manager.manager.cache.entry import Entry, dirty_of
from session_manager.manager.cache.residents import STORAGE, Residents
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject, same
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.stores.contract import SessionInfo, Store
from session_manager.stores.order import Order, in_order, page

__all__ = ["Overview", "matches"]

_log = logging.getLogger("session_manager")

#: So many sessions are described at once to find those that are wanted.
_AT_ONCE = 500


class Overview(Resource, Part):
    """Looks at all sessions. Every method may be called from any thread."""

    _residents: Residents

    def has(self, key: str) -> bool:
        """Say whether there is a session; a damaged one is there."""
        store, entry = self._residents.store, self._residents.peek(key)
        if not self._residents.is_stored or (entry is not None and not store.shared):
            return entry is not None
        try:
            if entry is not None and self._residents.touch(key) is not None:
                return True
            with self._residents.lock_of(key):
                self._residents.check_not_closed()
                return store.version(key) is not None
        except (CorruptSessionError, UnsupportedFormatError):
            return True

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that there are now, sorted."""
        self._residents.check_open()
        return sorted(self._keys(prefix, self._own(prefix)))

    def _keys(self, prefix: str, own: dict[str, Entry]) -> Collection[str]:
        """Return the keys that there are now: those in RAM, and those in the store."""
        if not self._residents.is_stored:
            return own.keys()
        with self._residents.lock_of(STORAGE):
            self._residents.check_not_closed()
            return own.keys() | self._residents.store.keys(prefix)

    def infos(
        self,
        prefix: str = "",
        *,
        where: JsonObject = EMPTY_OBJECT,
        order: Order = "key",
        limit: int | None = None,
        after: SessionInfo | None = None,
    ) -> list[SessionInfo]:
        """Describe sessions, a page of them in order: as they are in RAM, or else in the store.

        :param where: metadata that a session must have.
        """
        self._residents.check_open()
        store = self._residents.store
        if store.ordered:
            return self._merged(store, prefix, where, order, limit, after)

        own = self._own(prefix)
        told = {} if store.shared else own

        def listed(key: str) -> Session | SessionInfo | None:
            entry = told.get(key)
            one = self.describe(key) if entry is None else entry.session
            return one if one is not None and (not where or matches(one, where)) else None

        found: list[Session | SessionInfo] = page(self._keys(prefix, own), listed, order, after, limit)
        return [SessionInfo.of(one) if isinstance(one, Session) else one for one in found]

    def _merged(
        self,
        store: Store,
        prefix: str,
        where: JsonObject,
        order: Order,
        limit: int | None,
        after: SessionInfo | None,
    ) -> list[SessionInfo]:
        """Describe sessions of a store that gives pages: dirty ones as they are in RAM, at the places that they have there."""
        mine = {key: SessionInfo.of(entry.session) for key, entry in self._dirty(store, prefix).items()}
        found: list[SessionInfo] = []
        start, count = after, limit
        while True:
            with self._residents.lock_of(STORAGE):
                self._residents.check_not_closed()
                stored = store.infos(prefix, after=start, limit=count, order=order)
            found += [one for one in stored if one.key not in mine and matches(one, where)] if mine or where else stored
            if limit is None or count is None or len(stored) < count or len(found) >= limit:
                break
            start, count = stored[-1], max(limit, _AT_ONCE)
        own = [info for info in mine.values() if matches(info, where)]
        return in_order([*own, *found], order, after, limit) if own else found[:limit]

    def _dirty(self, store: Store, prefix: str) -> dict[str, Entry]:
        """Return the sessions that a store does not have as they are."""
        dirty = {key: one for key, one in dirty_of(self._residents.entries()).items() if key.startswith(prefix)}
        if not store.shared:
            return dirty
        current = {key: self._current(key, entry) for key, entry in dirty.items()}
        return {key: entry for key, entry in current.items() if entry is not None}

    def _own(self, prefix: str) -> dict[str, Entry]:
        """Return what is in RAM and need not be asked of the store: of a shared one, what is unsaved."""
        store = self._residents.store
        if store.shared:
            return self._dirty(store, prefix)
        entries = self._residents.entries()
        return {key: entry for key, entry in entries.items() if key.startswith(prefix)} if prefix else entries

    def _current(self, key: str, entry: Entry) -> Entry | None:
        """Return a dirty session's entry as it is now: over what others have saved, if that can be read."""
        try:
            return self._residents.touch(key)
        except (CorruptSessionError, UnsupportedFormatError):
            return entry

    def describe(self, key: str) -> SessionInfo | None:
        """Describe a session, without loading it; a damaged one with its error."""
        store, entry = self._residents.store, self._residents.peek(key)
        try:
            if self._residents.is_stored and not _tells(store, entry):
                with self._residents.lock_of(key):
                    self._residents.check_not_closed()
                    return self._describe(store, key)
            if store.shared:
                entry = self._residents.touch(key)
        except StorageError as error:
            return SessionInfo(key=key, error=error)
        return None if entry is None else SessionInfo.of(entry.session)

    def _describe(self, store: Store, key: str) -> SessionInfo | None:
        """Describe a session, which another thread may have put into RAM meanwhile. Requires its keyed lock."""
        entry = self._residents.peek(key)
        return SessionInfo.of(entry.session) if entry is not None and _tells(store, entry) else store.describe(key)

    def archive(self, key: str) -> list[Message]:
        """Return what was archived of a session, by position, as it is with what is not saved yet."""
        self._residents.check_open()
        store = self._residents.store
        with self._residents.lock_of(key):
            self._residents.check_not_closed()
            return self._archive(store, key)

    def _archive(self, store: Store, key: str) -> list[Message]:
        """Return the archive of a session, over what other writers have saved. Requires its keyed lock."""
        entry = self._residents.peek(key)
        if entry is not None and entry.dirty and store.shared:
            entry = self._residents.fetch(key)
        stored = store.archive(key)
        return list(stored) if entry is None else entry.archived(stored, archive=self._residents.archive)

    def search(self, text: str, key: str | None, prefix: str, limit: int) -> list[SearchHit]:
        """Return the messages that contain a text, best first, also unsaved and archived ones."""
        self._residents.check_open()
        store = self._residents.store
        if key is not None and not key.startswith(prefix):
            return []
        mine = self._own(prefix) if key is None else self._one_in_ram(store, key)
        hits = best(text, self._messages(mine, strict=key is not None), limit)
        if store.indexed:
            with self._residents.lock_of(STORAGE):
                self._residents.check_not_closed()
                found = store.search(text, key=key, prefix=prefix, limit=limit, skip=mine)
            return merged([*hits, *found], limit)
        for one in [key] if key is not None else self.keys(prefix):
            if one not in mine:
                least = hits[-1].score if len(hits) == limit else 0.0
                found = self._search_one(store, text, one, limit, least, strict=key is not None)
                hits = merged([*hits, *found], limit) if found else hits
        return hits

    def _one_in_ram(self, store: Store, key: str) -> dict[str, Entry]:
        entry = self._residents.peek(key)
        if entry is not None and store.shared:
            entry = self._current(key, entry) if entry.dirty else None
        return {} if entry is None else {key: entry}

    def _search_one(
        self, store: Store, text: str, key: str, limit: int, least: float, *, strict: bool
    ) -> list[SearchHit]:
        try:
            with self._residents.lock_of(key):
                self._residents.check_not_closed()
                return self._search(store, text, key, limit, least)
        except (CorruptSessionError, UnsupportedFormatError) as error:
            if strict:
                raise
            _log.warning("left out of a search: %s", error)
            return []

    def _search(self, store: Store, text: str, key: str, limit: int, least: float) -> list[SearchHit]:
        """Search a session, which another thread may have put into RAM meanwhile. Requires its keyed lock.

        :param least: hits of a lower score may be left out.
        :raises CorruptSessionError: if it, or its archive, is damaged.
        """
        entry = self._residents.peek(key)
        if entry is not None and _tells(store, entry):
            found = self._with_archive(store, key, entry, strict=True)
            return best(text, ((key, message) for message in found), limit)
        if least and not store.may_score(key, text, least):
            return []
        return store.search(text, key=key, limit=limit)

    def _messages(self, entries: dict[str, Entry], *, strict: bool) -> Iterator[tuple[str, Message]]:
        """Return the messages of sessions in RAM, and their archives.

        :param strict: raise if an archive is damaged; else it is left out, and named in the log.
        """
        store = self._residents.store
        for key, entry in entries.items():
            if not store.has_archive(key):
                found = self._with_archive(None, key, entry, strict=strict)
            else:
                with self._residents.lock_of(key):
                    self._residents.check_not_closed()
                    found = self._with_archive(store, key, entry, strict=strict)
            for message in found:
                yield key, message

    def _with_archive(self, store: Store | None, key: str, entry: Entry, *, strict: bool) -> Iterable[Message]:
        """Return the messages of a session and of its archive. Requires its keyed lock, if there is a store.

        :param entry: the session as it was; by now it may be another, or have been evicted.
        """
        entry = self._residents.peek(key) or entry
        session, archive = entry.session, self._residents.archive
        old: list[Message] = []
        try:
            old = entry.archived(() if store is None else store.archive(key), archive=archive)
        except (CorruptSessionError, UnsupportedFormatError) as error:
            if strict:
                raise
            _log.warning("left out of a search: %s", error)
        # What another process has archived since is still shown here.
        return chain(session.messages, (one for one in old if session.at(one.position or 0) is None))


def matches(info: Session | SessionInfo, where: JsonObject) -> bool:
    """Say whether a session has these values in its metadata; a damaged one has none that could be read."""
    metadata = info._metadata
    return all(key in metadata and same(value, metadata[key]) for key, value in where.items())


def _tells(store: Store, entry: Entry | None) -> bool:
    """Say whether what is in RAM of a session tells as much as the store does, or more."""
    return entry is not None and (entry.dirty or not store.shared)
