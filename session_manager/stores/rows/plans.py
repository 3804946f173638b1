"""Which rows a commit changes. A plan is made outside of the transaction, from the picture before the commit and the one after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from session_manager.codec.lines import encode_message
from session_manager.frozen import Frozen
from session_manager.model.changes import Append, Change, Clear, Edit, Remove, SetSummary, Truncate, UpdateMetadata
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.commits import Commit
from session_manager.stores.rows.encoding import Line, encode_lines

__all__ = ["Plan", "Range"]

#: A range of positions that goes: its start, its stop, and how many messages are in it.
Range = tuple[int, int, int]

#: Changes that leave every message as it is.
_ADDING = frozenset((Append, SetSummary, UpdateMetadata))


class Plan(Frozen, frozen=True):
    """The rows of messages that a commit writes. Each kind of database has a row of its own for the session."""

    commit: Commit
    #: The ranges that go first. Old rows of edited messages are in them, which become new rows.
    dropped: Sequence[Range]
    #: The ranges that then go to the archive, also out of `lines`.
    archived: Sequence[Range]
    #: The new rows.
    lines: Sequence[Line]
    #: Whether the text of dropped messages must be erased.
    clears: bool = False

    @classmethod
    def of(cls, commit: Commit) -> Plan | None:
        """Return the plan of a commit; `None` if its base must be loaded first (`over`)."""
        if commit.base is None:
            session = commit.session
            old = [message for _, message in commit.archived]
            lines = encode_lines(session.key, [*session.messages, *old])
            return cls(commit, (), _ranges(old), lines, _clears(commit))
        before, base = commit.before, commit.base
        if before is None or before.revision != base.revision or before.generation != base.generation:
            return None
        return cls.over(commit, before)

    @classmethod
    def over(cls, commit: Commit, before: Session) -> Plan:
        """Return the plan of a commit, given the picture that it is based on."""
        session = commit.session
        if _ADDING.issuperset(map(type, commit.changes)) and not commit.archived:
            new = session.messages.last(session.end - before.end)
            return cls(commit, (), (), encode_lines(session.key, new))
        if not commit.archived and all(_is_local(change) for change in commit.changes):
            dropped, new = _touched(before, session, commit.changes)
        else:
            dropped, new = _difference(before, session, dict(commit.archived))
        archived = _ranges(message for _, message in commit.archived)
        return cls(commit, dropped, archived, encode_lines(session.key, new), _clears(commit))


def _clears(commit: Commit) -> bool:
    return Clear in map(type, commit.changes)


def _is_local(change: Change) -> bool:
    """Say whether a change names the messages that it touches, so that no others have to be looked at."""
    if isinstance(change, Truncate):
        return change.spare is None
    return isinstance(change, Append | SetSummary | UpdateMetadata | Edit | Remove)


def _touched(before: Session, session: Session, changes: Sequence[Change]) -> tuple[list[Range], list[Message]]:
    """Return what `_difference` returns, of local changes. It costs what they are, however long the history is."""
    count = before.index(session.start)
    dropped = [(before.start, session.start, count)] if count else []
    named = {one.position for one in changes if isinstance(one, Edit | Remove) and one.position >= session.start}
    old = [message for position in sorted(named) if (message := before.at(position)) is not None]
    gone = [one for one in old if not _is_same(one, session.at(one.position or 0))]
    changed = [message for one in gone if (message := session.at(one.position or 0)) is not None]
    new = session.messages[session.index(before.end) :]
    return [*dropped, *_ranges(gone)], [*changed, *new] if changed else list(new)


def _difference(before: Session, session: Session, archived: dict[int, Message]) -> tuple[list[Range], list[Message]]:
    """Return the positions that go, in few ranges, and the new or changed messages, in the session or in the archive."""
    there = {message.position: message for message in chain(session.messages, archived.values())}
    dropped: list[Range] = []
    kept: set[int] = set()
    running = False
    for old in before.messages:
        assert old.position is not None
        if _is_same(old, there.get(old.position)):
            kept.add(old.position)
        elif running:
            first, _, count = dropped[-1]
            dropped[-1] = (first, old.position + 1, count + 1)
        else:
            dropped.append((old.position, old.position + 1, 1))
        running = old.position not in kept
    return dropped, [message for message in there.values() if message.position not in kept]


def _ranges(messages: Iterable[Message]) -> list[Range]:
    """Return increasing positions of messages, in as few ranges as possible."""
    found: list[Range] = []
    for message in messages:
        assert message.position is not None
        first, stop, count = found[-1] if found else (0, -1, 0)
        if message.position == stop:
            found[-1] = (first, stop + 1, count + 1)
        else:
            found.append((message.position, message.position + 1, 1))
    return found


def _is_same(old: Message, new: Message | None) -> bool:
    return old is new or (new is not None and encode_message(old) == encode_message(new))
