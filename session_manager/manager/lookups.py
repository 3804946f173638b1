"""Lookups: one message, a page of a history, a ref. Each costs the same however long the history is.

A session in RAM is asked by position, and by its map of refs (`session_manager.manager.cache.refs`). Of one that is not, a
store that is `Store.windowed` reads the page and nothing else, and the session stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from session_manager.arguments import check_int, check_type
from session_manager.errors import MessageNotFoundError
from session_manager.frozen import Part
from session_manager.manager.cache import refs as cache
from session_manager.manager.cache.refs import RefMap, last_with, mapped
from session_manager.manager.cache.residents import Residents
from session_manager.model.json_value import checked_text
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.window import window
from session_manager.resource import Resource
from session_manager.threads import check_may_wait, giving_way

__all__ = ["Lookups", "check_where"]

T = TypeVar("T")


def check_where(where: object, name: str = "where") -> None:
    """Raise unless a value is a position (an int) or a ref (a text, not empty).

    :raises TypeError: if it is neither.
    :raises InvalidMessageError: if it is a text that no message can have as its ref.
    """
    check_type(where, (int, str), f"{name} must be a position (int) or a ref (str)")
    if isinstance(where, str):
        checked_text(where, name, empty=False)


class Lookups(Resource, Part):
    """Looks into sessions. Every method may be called from any thread."""

    _residents: Residents

    def page(self, key: str, limit: int | None, before: int | str | None, after: int | str | None) -> list[Message]:
        """Return a part of a history; see `SessionManager.get_history`."""
        if limit is not None:
            check_int(limit, "limit", least=0)
        bounds = {name: where for name, where in (("before", before), ("after", after)) if where is not None}
        for name, where in bounds.items():
            check_where(where, name)
        if not isinstance(before, str) and not isinstance(after, str):
            cold = self._cold(key, limit, before, after)
            if cold is not None:
                return cold
        names = [name for name, where in bounds.items() if isinstance(where, str)]
        found = self.find(key, [str(bounds[name]) for name in names])
        if found is None:
            return []
        session, messages = found
        positions = {name: where for name, where in bounds.items() if isinstance(where, int)}
        for name, message in zip(names, messages, strict=True):
            if message is None or message.position is None:
                raise MessageNotFoundError(key, name)
            positions[name] = message.position
        return window(session, limit=limit, **positions)

    def message(self, key: str, where: int | str) -> Message | None:
        """Return a message; `None` if it is not there. See `SessionManager.get_message`."""
        check_where(where)
        if isinstance(where, int):
            cold = self._cold(key, 1, where + 1, where - 1)
            if cold is not None:
                return cold[0] if cold else None
            entry = self._residents.touch(key)
            return None if entry is None else entry.session.at(where)
        found = self.find(key, [where])
        return None if found is None else found[1][0]

    def contains(self, key: str, ref: str) -> bool:
        """Say whether a delivery was answered, or a message is there; see `SessionManager.contains_ref`."""
        checked_text(ref, "ref", empty=False)

        def is_known(session: Session, refs: RefMap | None) -> bool | None:
            if ref in session.refs or any(ref in (one.ref, one.turn) for one in session.messages.last(cache.FEW)):
                return True
            if len(session.messages) <= cache.FEW:
                return False
            return None if refs is None else any(_at(session, where.get(ref)) for where in (refs.refs, refs.turns))

        return bool(self._ask(key, is_known))

    def finding(self, key: str, where: int | str) -> Callable[[Session], int | None]:
        """Return what finds a message of a session in RAM, for a thread that holds the lock. It makes the map first."""
        check_where(where)
        if isinstance(where, int):
            return lambda session: None if session.at(where) is None else where
        if self._residents.peek(key) is None:
            self._residents.touch(key)
        self._ask_in_ram(key, lambda session, refs: _found(session, refs, [where]))

        def find(session: Session) -> int | None:
            message = self._residents.ref_maps.find(key, session, where)
            return None if message is None else message.position

        return find

    def _cold(self, key: str, limit: int | None, before: int | None, after: int | None) -> list[Message] | None:
        """Return a part of the history of a session that is not in RAM; `None` if it is, or has to be read whole."""
        residents, store = self._residents, self._residents.store
        if not store.windowed or residents.peek(key) is not None:
            return None
        with residents.lock_of(key):
            residents.check_not_closed()
            if residents.peek(key) is not None:
                return None
            return store.window(key, limit=limit, before=before, after=after) or []

    def find(self, key: str, refs: Sequence[str]) -> tuple[Session, list[Message | None]] | None:
        """Return a session as it is now, and of each ref the last message that has it; `None` if there is no such session."""
        return self._ask(key, lambda session, known: _found(session, known, refs))

    def _ask(self, key: str, look: Callable[[Session, RefMap | None], T | None]) -> T | None:
        """Ask a session as it is now: `_ask_in_ram`. `None` if there is no such session."""
        while self._residents.touch(key) is not None:
            answer = self._ask_in_ram(key, look)
            if answer is not None:
                return answer
        return None

    def _ask_in_ram(self, key: str, look: Callable[[Session, RefMap | None], T | None]) -> T | None:
        """Ask what is in RAM of a session; `None` if nothing is.

        :param look: called with the lock, and without a map first; if it cannot tell then, it returns `None`.
        """
        residents, maps = self._residents, self._residents.ref_maps
        while True:
            with residents.lock.checked:
                entry = residents.by_key.get(key)
                if entry is None:
                    return None
                session = entry.session
                answer = look(session, None)
                if answer is not None:
                    return answer
                refs = maps.of(key)
                newer, known = session.messages[session.index(refs.end) :], refs.end
                if len(newer) <= cache.SHORT:
                    maps.grow(key, refs, mapped(newer, session.end))
                    return look(session, refs)
            check_may_wait()  # in an event loop: it takes long
            made = mapped(list(giving_way(newer)), session.end)
            with residents.lock.checked:
                if refs.end == known and maps.by_key.get(key) is refs:
                    maps.grow(key, refs, made)
                    residents.evict(key)
                elif known == 0:
                    return look(session, made)


def _at(session: Session, position: int | None) -> Message | None:
    return None if position is None else session.at(position)


def _found(session: Session, refs: RefMap | None, wanted: Sequence[str]) -> tuple[Session, list[Message | None]] | None:
    """Return a session, and of each ref the last message that has it; `None` if that takes a map."""
    recent = session.messages.last(cache.FEW)
    found = [last_with(recent, ref) for ref in wanted]
    if None in found and len(session.messages) > cache.FEW:
        if refs is None:
            return None
        found = [one or _at(session, refs.refs.get(ref)) for one, ref in zip(found, wanted, strict=True)]
    return session, found
