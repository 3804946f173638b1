"""Changes: a session is the fold of its changes.

A change says what one call did. Each is a small immutable value that carries the time of its call
(``at``), and `apply` is the specification of what each one does. Stores write changes, the manager
keeps the pending ones, and `session_manager.model.rebase` reconciles those of two writers.

``spare`` is a range of positions (first, one past the last) that stay although the change would drop them. Rebasing
spares messages of another writer that the call did not see. A `Truncate` that cuts a turn spares its question.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final

import attrs

from session_manager.frozen import Part, drafts_of
from session_manager.model.fence import Fence
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject, copy_value, json_object, same
from session_manager.model.message import Message
from session_manager.model.session import MAX_REFS, Session
from session_manager.model.view import View
from session_manager.threads import giving_way
from session_manager.values import Value

__all__ = [
    "UNCHANGED",
    "Append",
    "Change",
    "Clear",
    "Edit",
    "Remove",
    "Replace",
    "SetSummary",
    "Spare",
    "Summarize",
    "Truncate",
    "Unchanged",
    "UpdateMetadata",
    "Witness",
    "apply",
    "digest",
    "fold",
    "settled",
]

Spare = tuple[int, int]


def _characters(text: str | None) -> str:
    return "None" if text is None else f"<{len(text)} characters>"


def _count(items: Any) -> str:
    return f"<{len(items)}>"


class Witness(Part):
    """Sees whether a change becomes durable: by any thread's save, and after any number of rebases."""

    #: The session that the first commit with the change made durable; `None` until then.
    saved: Session | None = None
    #: The fence of the lease that the change must be written under; `None`: under none.
    fence: Fence | None = None
    #: Whether the change was given up, because another turn had taken the lease.
    is_fenced_off: bool = False


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Change(Value):
    """The effect of one call on a session, and its time.

    :param at: the time of the call, aware, UTC. ``updated`` never goes back behind it.
    :param witness: sees it durable, for the call that waits; never written.
    """

    at: datetime
    witness: Witness | None = attrs.field(default=None, eq=False, repr=False)

    def _apply(self, session: Session) -> Session:
        raise NotImplementedError

    def _changed(self, session: Session, **fields: Any) -> Session:
        updated = max(session.updated, self.at)
        return session._with(updated=updated, **fields)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Append(Change):
    """New messages at the end, at the next positions (`add_message`, `add`, `turn`).

    With `turn` they bear that ref, and it joins the session's `refs` (without messages, too). No effect if
    the ref is in `refs` already, or if `guard` is set and is not the session's generation.

    Messages whose refs are in `absent` are left out if a message of the history has that ref (``if_absent=True``). That is
    decided before a change is written: stores see changes without it (`settled`).
    """

    messages: tuple[Message, ...] = attrs.field(default=(), repr=_count)
    turn: str | None = attrs.field(default=None, repr=_characters)
    guard: str | None = None
    absent: frozenset[str] = attrs.field(default=frozenset(), eq=False, repr=False)
    #: A picture in which no message has one of these refs, if it is at hand.
    seen: Session | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def made(
        cls,
        at: datetime,
        messages: tuple[Message, ...],
        turn: str | None = None,
        guard: str | None = None,
        absent: frozenset[str] = frozenset(),
        witness: Witness | None = None,
    ) -> Append:
        """Return the change, as the constructor does, in half the time."""
        append = _new_append()
        append.at = at
        append.witness = witness
        append.messages = messages
        append.turn = turn
        append.guard = guard
        append.absent = absent
        append.seen = None
        append.__class__ = cls
        return append  # type: ignore[no-any-return]

    def _apply(self, session: Session) -> Session:
        if self.turn is not None and self.turn in session.refs:
            return session
        if self.guard is not None and self.guard != session.generation:
            return session
        new = self.missing(session) if self.absent else self.messages
        if self.turn is None and not new:
            return session
        refs = session.refs if self.turn is None else (*session.refs, self.turn)[-MAX_REFS:]
        messages = session.messages.appended(_placed(session, new, self.turn))
        return session._longer(messages, session.end + len(new), refs, max(session.updated, self.at))

    def missing(self, session: Session) -> tuple[Message, ...]:
        """Return the messages that a session lacks: all but those whose refs are in `absent` and in its history."""
        if self.seen is not None and self.seen.messages is session.messages:
            return self.messages
        there = {one.ref for one in giving_way(session.messages) if one.ref in self.absent}
        return tuple(one for one in self.messages if one.ref not in there) if there else self.messages

    def without(self, refs: Collection[str]) -> Append:
        """Return this change without the messages of some of its absent refs."""
        gone = self.absent.intersection(refs)
        return attrs.evolve(self, messages=tuple(one for one in self.messages if one.ref not in gone)) if gone else self


_new_append = drafts_of(Append)


def settled(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return changes as stores get them, each of whose absent messages is to be added: without `Append.absent`."""
    plain = frozenset[str]()
    return tuple(attrs.evolve(one, absent=plain, seen=None) if isinstance(one, Append) else one for one in changes)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Truncate(Change):
    """The messages before position `start` go, to the archive if there is one (`truncate_history`)."""

    start: int
    spare: Spare | None = None

    def _apply(self, session: Session) -> Session:
        kept = session.messages[session.index(self.start) :]
        spared = _spared(session, self.spare, before=self.start)
        if len(kept) + len(spared) == len(session.messages):
            return session
        return self._changed(session, messages=spared.appended(kept) if spared else kept)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Remove(Change):
    """The message at `position` goes (`remove_last`)."""

    position: int

    def _apply(self, session: Session) -> Session:
        if session.at(self.position) is None:
            return session
        index = session.index(self.position)
        before, after = session.messages[:index], session.messages[index + 1 :]
        return self._changed(session, messages=before.appended(after) if after else before)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Edit(Change):
    """The message at `position` becomes `message` (`update_last`, `update_message`).

    It keeps its position and turn, and its ref unless `message` has one.
    """

    position: int
    message: Message

    def _apply(self, session: Session) -> Session:
        old = session.at(self.position)
        if old is None:
            return session
        new = self.edited(old)
        if new is old:
            return session
        messages = session.messages.to_list()
        messages[session.index(self.position)] = new
        return self._changed(session, messages=View(messages))

    def edited(self, old: Message) -> Message:
        """Return the message after an edit: the very same one if nothing changes."""
        new = self.message._placed(self.position, old.turn, ref=old.ref)
        return old if old._is_as(new) else new


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Replace(Change):
    """All messages go, not to the archive, and these are appended; the summary stays (`set_history`)."""

    messages: tuple[Message, ...] = attrs.field(default=(), repr=_count)
    spare: Spare | None = None

    def _apply(self, session: Session) -> Session:
        spared = _spared(session, self.spare)
        if len(spared) == len(session.messages) and not self.messages:
            return session
        messages, end = spared.appended(_placed(session, self.messages)), session.end + len(self.messages)
        return self._changed(session, messages=messages, end=end)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Clear(Change):
    """All messages, the summary and the archive go; the session gets this new generation (`clear`).

    Metadata, ``created``, ``refs``, ``end`` and the count of revisions stay. Always an effect.
    """

    generation: str
    spare: Spare | None = None

    def _apply(self, session: Session) -> Session:
        spared = _spared(session, self.spare)
        return self._changed(session, messages=spared, summary="", generation=self.generation, _archived=0)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Summarize(Change):
    """The messages from `start` to before `stop` go, to the archive, and become `summary` (`summarize`).

    No effect unless `digest` is still that of the session's generation, summary and these messages.
    """

    summary: str = attrs.field(repr=_characters)
    start: int
    stop: int
    digest: str
    #: The picture that the digest was made of, if it is at hand: where the messages are the very same, so is the digest.
    seen: Session | None = attrs.field(default=None, eq=False, repr=False)

    def _apply(self, session: Session) -> Session:
        if self.stop < self.start or not self._matches(session):
            return session
        before = session.messages[: session.index(self.start)]
        after = session.messages[session.index(self.stop) :]
        messages = before.appended(after) if before else after
        if len(messages) == len(session.messages) and self.summary == session.summary:
            return session
        return self._changed(session, messages=messages, summary=self.summary)

    def _matches(self, session: Session) -> bool:
        seen = self.seen
        if seen is not None and (seen.generation, seen.summary) == (session.generation, session.summary):
            one, other = (it.messages[it.index(self.start) : it.index(self.stop)] for it in (seen, session))
            if len(one) == len(other) and all(map(operator.is_, one, other)):
                return True
        return digest(session, self.start, self.stop) == self.digest


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SetSummary(Change):
    """The summary becomes `text` (`set_summary`)."""

    text: str = attrs.field(repr=_characters)

    def _apply(self, session: Session) -> Session:
        return session if self.text == session.summary else self._changed(session, summary=self.text)


class Unchanged(enum.Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


#: Stands for the value that is there, where `None` is a value.
UNCHANGED: Final = Unchanged.UNCHANGED


@attrs.frozen(kw_only=True, eq=False, repr=False)
class UpdateMetadata(Change):
    """Keys of the session's metadata are set (`items`) and removed (`update_metadata`), or its expiry is set (`set_expiry`)."""

    _items: JsonObject = attrs.field(default=EMPTY_OBJECT, repr=_count, converter=json_object)
    removed: tuple[str, ...] = attrs.field(default=(), repr=_count)
    expires_after: timedelta | Unchanged | None = UNCHANGED

    @property
    def items(self) -> dict[str, Any]:
        """What was set, a fresh copy."""
        return {key: copy_value(value) for key, value in self._items.items()}

    def _apply(self, session: Session) -> Session:
        old, expires_after = session._metadata, self.expiry(session.expires_after)
        if not self.changes(old):
            is_same = expires_after == session.expires_after
            return session if is_same else self._changed(session, expires_after=expires_after)
        merged = JsonObject(old)
        self.make_in(merged)
        return self._changed(session, _metadata=merged, expires_after=expires_after)

    def expiry(self, old: timedelta | None) -> timedelta | None:
        """Return what becomes of a session's expiry."""
        return old if self.expires_after is UNCHANGED else self.expires_after

    def make_in(self, metadata: dict[str, Any]) -> None:
        """Make the change in an object that belongs to the caller."""
        for key in self.removed:
            metadata.pop(key, None)
        metadata.update(self._items)

    def changes(self, old: Mapping[str, Any]) -> bool:
        """Say whether there is anything to change in a session's metadata; costs what the change is, not what is there."""
        if any(key in old and key not in self._items for key in self.removed):
            return True
        return any(key not in old or not same(value, old[key]) for key, value in self._items.items())


def apply(session: Session, change: Change) -> Session:
    """Return the session after a change: the very same object if the change has no effect.

    A pure function. ``updated`` becomes the later of it and the change's ``at``; ``revision`` stays, it
    counts durable states.
    """
    return change._apply(session)


def fold(session: Session, changes: Iterable[Change]) -> Session:
    """Return the session after all of the changes, in order."""
    return reduce(apply, changes, session)


def digest(session: Session, start: int, stop: int) -> str:
    """Return what a `Summarize` of the positions from `start` to before `stop` is bound to, in hex.

    The SHA-256 of the standard `json`, ASCII, keys sorted, without spaces, of
    ``[generation, summary, [[position, object], …]]``.
    """
    import hashlib  # it loads OpenSSL, for summaries alone
    import json

    text = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
    before = f"[{text(session.generation)},{text(session.summary)},["
    digested = hashlib.sha256(before.encode("ascii"))
    comma = b""
    for message in giving_way(session.messages[session.index(start) : session.index(stop)]):
        digested.update(comma + text([message.position, message._object]).encode("ascii"))
        comma = b","
    digested.update(b"]]")
    return digested.hexdigest()


def _placed(session: Session, messages: Sequence[Message], turn: str | None = None) -> list[Message]:
    """Return messages at the next positions of a session."""
    if len(messages) == 1:
        return [messages[0]._placed(session.end, turn)]
    return [message._placed(session.end + number, turn) for number, message in enumerate(giving_way(messages))]


def _spared(session: Session, spare: Spare | None, before: int | None = None) -> View[Message]:
    """Return the messages that `spare` keeps, of those before a position."""
    if spare is None:
        return View()
    first, last = spare if before is None else (spare[0], min(spare[1], before))
    return session.messages[session.index(first) : session.index(last)]
