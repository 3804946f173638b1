"""Messages that are added only if their refs are not there yet: in the history, or in the archive.

What is added is decided where the change is made, and again where it is rebased over another writer's state
(`session_manager.model.rebase`). So of two processes that add a message of one ref, one stores it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from session_manager.errors import InvalidMessageError
from session_manager.frozen import Part
from session_manager.manager.cache.residents import Residents
from session_manager.manager.lookups import Lookups
from session_manager.manager.queries import Overview
from session_manager.model.changes import Append
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.resource import Resource

__all__ = ["Absentees", "Resolving", "check_refs", "in_order"]


class Resolving(Part):
    """What becomes of an `Append` whose messages may be there. Called by a thread that holds the lock.

    It is called once. If a message has left the history since the archive was looked at, it makes no change, and is `stale`.
    """

    _residents: Residents
    _key: str
    _append: Append
    #: The generation for which the archive was looked at, and how many messages had left the history. `None`: none is there.
    _seen: tuple[str, int] | None
    #: The messages that are there, by their refs: of the archive, and, once this was called, of the history.
    there: dict[str, Message]
    is_stale: bool = False

    def look(self, session: Session) -> Append | None:
        """Return the change without archived messages; `None` if this is stale. The history is not looked at: `rebase` does so."""
        self.is_stale = _left(session) != self._seen and not (self._seen is None and _left(session)[1] == 0)
        return None if self.is_stale else self._append.without(self.there)

    def __call__(self, session: Session) -> Append | None:
        """Return the change that the session means; `None` if it means none, or if this is stale."""
        if self.look(session) is None:
            return None
        left: dict[str | None, Message] = {}
        others: list[Message] = []
        for message in self._append.messages:
            ref = message.ref
            if ref not in self._append.absent or ref is None:
                others.append(message)
                continue
            found = self._residents.ref_maps.find(self._key, session, ref)
            if found is not None:
                self.there[ref] = found
            elif ref not in self.there and ref not in left:
                left[ref] = message
                others.append(message)
        absent = self._append.absent.intersection(left)
        made = attrs.evolve(self._append, messages=tuple(others), absent=absent, seen=session)
        return made if made.messages or made.turn is not None else None


def _left(session: Session) -> tuple[str, int]:
    """Return the generation of a session, and how many messages have left its history. That never decreases in one generation."""
    return session.generation, session.end - len(session.messages)


class Absentees(Resource, Part):
    """Finds out which messages are there already. Every method may be called from any thread."""

    _residents: Residents
    _lookups: Lookups
    _overview: Overview

    def resolving(self, key: str, append: Append) -> Resolving:
        """Return what resolves a change of a session, which need not be there.

        The archive is read whole if there is one, and a ref is not in the history.

        :raises CorruptSessionError: if the session or its archive is damaged.
        """
        refs = sorted(append.absent)
        found = self._lookups.find(key, refs)
        if found is None:
            return Resolving(self._residents, key, append, None, {})
        seen = _left(found[0])
        missing = {ref for ref, message in zip(refs, found[1], strict=True) if message is None}
        there = self._archived(key, missing) if missing and seen[1] else {}
        return Resolving(self._residents, key, append, seen, there)

    def _archived(self, key: str, refs: set[str]) -> dict[str, Message]:
        residents = self._residents
        if not (residents.archive or residents.store.has_archive(key)):
            return {}
        return {one.ref: one for one in self._overview.archive(key) if one.ref is not None and one.ref in refs}


def check_refs(messages: Sequence[Message]) -> None:
    """Raise `InvalidMessageError` if a message that is added only if it is not there has no ref."""
    for number, message in enumerate(messages):
        if message.ref is None:
            place = "ref" if len(messages) == 1 else f"messages[{number}].ref"
            raise InvalidMessageError(place, "is missing: with if_absent=True a message is known by its ref")


def in_order(messages: Sequence[Message], stored: Sequence[Message], there: dict[str, Message]) -> list[Message]:
    """Return what stands in the session for each given message: the stored one, or the one that was there.

    :param messages: the given ones.
    :param stored: those of them that were added, in order.
    """
    added = iter(stored)
    found = dict(there)
    result = []
    for message in messages:
        if message.ref is None or message.ref not in found:
            one = next(added)
            result.append(one)
            if message.ref is not None:
                found[message.ref] = one
        else:
            result.append(found[message.ref])
    return result
