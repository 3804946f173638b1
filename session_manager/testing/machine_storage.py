"""The rules of the state machine whose calls reach the store: saves, deletions, copies, lists, and openings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import rule

from session_manager.errors import SessionExistsError, SessionManagerError, SessionNotFoundError
from session_manager.history.search import best
from session_manager.model.changes import UpdateMetadata, fold
from session_manager.model.packed import BYTES, pack_bytes
from session_manager.model.session import Session
from session_manager.stores.contract import SessionInfo
from session_manager.stores.order import Order, in_order
from session_manager.testing.comparison import difference, value_difference
from session_manager.testing.known import Known, known_key, some_key
from session_manager.testing.machine_turns import TurnMachine
from session_manager.testing.strategies import json_objects, nasty_text

__all__ = ["StorageMachine"]

_keys = some_key()
_known_keys = known_key()
_prefixes = st.sampled_from(["", "telegram", "caf", "x"])
_queries = st.one_of(st.sampled_from(["a", "x", " ", "\u6f22", "12:00"]), nasty_text(min_size=1, max_size=3))


class StorageMachine(TurnMachine):
    """Saves, deletes, copies, lists, and opens the storage again."""

    @rule(key=_known_keys, look=st.booleans())
    def save(self, key: str, look: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.save`, which finds nothing to save the second time."""
        known = self.expected(key)
        assert self.manager.save(key) == (key in self.known and known.dirty)
        known.saved()
        assert self.manager.save(key) is False
        if look:
            self._check_stored(key)

    @rule(look=st.booleans())
    def save_all(self, look: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.save_all`."""
        assert self.manager.save_all() == sum(known.dirty for known in self.known.values())
        self._all_saved()
        if look:
            self._check_all_stored()

    @rule(key=_keys, items=json_objects(), removed=st.lists(st.sampled_from(["a", "type", "text"]), max_size=2))
    def put_state(self, key: str, items: dict[str, Any], removed: list[str]) -> None:
        """Call `SessionManager.put_state`, and get it back: bytes, and objects that look as if they stood for some."""
        given = {**items, "bytes": key.encode(), "like bytes": {BYTES: items}}
        self.manager.put_state(key, given, removed)
        packed = {name: pack_bytes(value) for name, value in given.items()}
        known = self.expected(key, create=True)
        self.did(key, UpdateMetadata(at=self.clock(), items=packed, removed=tuple(removed)))
        known.saved()
        assert self.manager.save(key) is False
        state = self.manager.get_state(key)
        assert not value_difference("", {name: state[name] for name in items}, items)
        assert (state["bytes"], state["like bytes"]) == (given["bytes"], given["like bytes"])

    @rule(key=_known_keys)
    def reload(self, key: str) -> None:
        """Call `SessionManager.reload`."""
        given_up, known = self.manager.reload(key), self.expected(key)
        assert difference(fold(known.durable, given_up), known.session) == ""  # superseded ones may be missing
        self._gave_up(key)

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        """Call `SessionManager.delete`."""
        self._touched.add(key)
        assert self.manager.delete(key) == (key in self.known)
        self.known.pop(key, None)

    @rule(prefix=_keys, dry_run=st.booleans())
    def delete_prefix(self, prefix: str, dry_run: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.delete_prefix`."""
        gone = sorted(key for key in self.known if key.startswith(prefix))
        assert self.manager.delete_prefix(prefix, dry_run=dry_run) == gone
        self._touched.update(gone)
        if not dry_run:
            for key in gone:
                del self.known[key]

    @rule(key=_known_keys, new_key=_keys)
    def fork(self, key: str, new_key: str) -> None:
        """Call `SessionManager.fork`."""
        self._touched |= {key, new_key}
        if key not in self.known or new_key in self.known:
            refused = SessionNotFoundError if key not in self.known else SessionExistsError
            assert self._refusal(key, new_key) is refused
            return
        shown = self.manager.fork(key, new_key)
        time = self.clock()
        copy = attrs.evolve(
            self.known[key].session,
            key=new_key,
            generation=self._new_generation(shown.generation),
            created=time,
            updated=time,
            revision=1,
        )
        self.known[new_key] = Known(copy)

    @rule(key=_known_keys, new_key=_keys)
    def rename(self, key: str, new_key: str) -> None:
        """Call `SessionManager.rename`: what is unsaved goes with the session."""
        self._touched |= {key, new_key}
        if key not in self.known or new_key in self.known:
            refused = SessionNotFoundError if key not in self.known else SessionExistsError
            assert self._refusal(key, new_key, self.manager.rename) is refused
            return
        shown = self.manager.rename(key, new_key)
        known = self.known.pop(key)
        known.saved()
        known.durable = attrs.evolve(known.durable, key=new_key)
        self.known[new_key] = known
        assert difference(shown, known.session) == ""

    def _refusal(
        self, key: str, new_key: str, call: Callable[[str, str], object] | None = None
    ) -> type[SessionManagerError] | None:
        try:
            (call or self.manager.fork)(key, new_key)
        except SessionManagerError as error:
            return type(error)
        return None

    @rule(
        age=st.none() | st.timedeltas(timedelta(0), timedelta(seconds=20)),
        key=st.none() | _known_keys,
        prefix=st.just("") | _keys,
        moment=st.booleans(),
    )
    def expire(self, age: timedelta | None, key: str | None, prefix: str, moment: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.expire`: a session goes if it is too old both as it is shown and as it is stored."""
        now = self.clock()
        older_than = age if age is None or not moment else now - age
        named = [one for one in self.known if one.startswith(prefix) and key in (None, one)]
        old = {one for one in named if _is_old(self.known[one].session, now, age)}
        gone = {one for one in old if not self._stays_stored(one, now, age)}
        expired = self.manager.expire(older_than, key=key, prefix=prefix, dry_run=True)
        assert expired == sorted(gone)
        assert self.manager.expire(older_than, key=key, prefix=prefix) == sorted(gone)
        for one in gone:
            del self.known[one]
        self._touched |= old

    def _stays_stored(self, key: str, now: datetime, age: timedelta | None) -> bool:
        durable = self.known[key].durable
        return durable.revision > 0 and not _is_old(durable, now, age)

    @rule(text=_queries, key=st.none() | _keys, prefix=_prefixes, limit=st.integers(1, 5))
    def search(self, text: str, key: str | None, prefix: str, limit: int) -> None:
        """Call `SessionManager.search`, in one session and in all."""
        found = self.manager.search(text, key=key, prefix="" if key is not None else prefix, limit=limit)
        keys = [key] if key is not None else [one for one in self.known if one.startswith(prefix)]
        known = [(one, self.known[one]) for one in keys if one in self.known]
        messages = [(one, message) for one, of in known for message in (*of.messages, *of.archive.values())]
        assert found == best(text, messages, limit)

    @rule(key=_known_keys)
    def compact(self, key: str) -> None:
        """Call `SessionManager.compact`, which changes neither what the manager shows nor what is stored."""
        self.manager.compact(key)
        self._touched.add(key)
        self._check_stored(key)

    @rule()
    def verify(self) -> None:
        """Call `SessionManager.verify`, which finds nothing wrong."""
        assert self.manager.verify() == []

    @rule(look=st.booleans())
    def reopen(self, look: bool) -> None:  # noqa: FBT001 - drawn
        """Close the manager, which saves everything, and open the storage again."""
        self.manager.close()
        self._all_saved()
        self._opened_again(look=look)

    @rule(look=st.booleans())
    def crash_and_reopen(self, look: bool) -> None:  # noqa: FBT001 - drawn
        """Lose what is not saved, and open the storage again."""
        for key in list(self.known):
            self._gave_up(key)
        self._opened_again(look=look)

    @rule(prefix=_prefixes, order=st.sampled_from(["recent", "key"]), size=st.integers(1, 5), data=st.data())
    def list_sessions(self, prefix: str, order: Order, size: int, data: st.DataObject) -> None:
        """Call `SessionManager.list_sessions`: as a whole, by pages, and by metadata."""
        described = [SessionInfo.of(known.session) for key, known in self.known.items() if key.startswith(prefix)]
        expected = in_order(described, order)
        assert self.manager.list_sessions(prefix, order=order) == expected
        pages: list[SessionInfo] = []
        after = None
        while page := self.manager.list_sessions(prefix, order=order, limit=size, after=after):
            pages += page
            after = page[-1]
        assert pages == expected
        items = [{key: value} for info in expected for key, value in info.metadata.items()]
        where: dict[str, Any] = data.draw(st.sampled_from([{"a": 1}, *items]), label="where")
        wanted = [info for info in expected if all(key in info.metadata for key in where)]
        wanted = [info for info in wanted if not value_difference("", _part(info.metadata, where), where)]
        assert self.manager.list_sessions(prefix, where=where, order=order, limit=size) == wanted[:size]


def _is_old(session: Session, now: datetime, age: timedelta | None) -> bool:
    """Say whether a session is older than an age, or, without one, than its own expiry."""
    limit = session.expires_after if age is None else age
    return limit is not None and now - (session.last_message_at or session.updated) > limit


def _part(metadata: Mapping[str, object], where: dict[str, Any]) -> dict[str, object]:
    return {key: metadata[key] for key in where}
