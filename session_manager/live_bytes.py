"""How much of a log is alive: what its session would be in one line, kept true at the cost of what each commit changes.

New messages are counted when somebody asks (`Live.counted`), for until then a lower bound is as good: what was only appended
makes a log grow, and what is alive in it too.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from session_manager.changes import Append, SetSummary, Truncate, UpdateMetadata
from session_manager.codec import encode_json, encode_message
from session_manager.event_loops import giving_way
from session_manager.log_format import Sizes
from session_manager.model import Message, Session
from session_manager.store import Commit

__all__ = ["Live"]

_ADDING = frozenset((Append, SetSummary, UpdateMetadata))


@attrs.frozen(repr=False)
class Live:
    """The sizes of a session's parts."""

    sizes: Sizes
    #: The position from which on messages are not counted yet.
    end: int

    @classmethod
    def of(cls, session: Session) -> Live:
        """Count a session, which takes encoding all of it."""
        notes = len(encode_json(dict(session._metadata)))
        return cls(Sizes(_size(session.messages), _refs(session), _summary(session), notes), session.end)

    def after(self, commit: Commit, notes: int) -> Live | None:
        """Return the sizes after a commit; `None` without `Commit.before`.

        Only what it changed and dropped is encoded.

        :param notes: how many bytes the session's metadata is, encoded.
        """
        before, after = commit.before, commit.session
        if before is None or before.version != commit.base:
            return None
        sizes = self.sizes
        messages = sizes.messages
        if not _ADDING.issuperset(map(type, commit.changes)):
            gone, new = self._difference(commit, before, after)
            messages += _size(new) - _size(gone)
        elif after.refs is before.refs and after.summary is before.summary and notes == sizes.metadata:
            return self
        refs = sizes.refs if after.refs is before.refs else _refs(after)
        summary = sizes.summary if after.summary is before.summary else _summary(after)
        return Live(Sizes(messages, refs, summary, notes), self.end)

    def _difference(
        self, commit: Commit, before: Session, after: Session
    ) -> tuple[Iterable[Message], Iterable[Message]]:
        """Return, of the counted messages, those that are not there any more, and those that were put in their place."""
        if all(type(change) in _ADDING or _is_plain_truncate(change) for change in commit.changes):
            return before.messages[: before.index(min(after.start, self.end))], ()
        old = {message.position: message for message in before.messages[: before.index(self.end)]}
        new = []
        for message in after.messages[: after.index(self.end)]:
            if old.get(message.position) is message:
                del old[message.position]
            else:
                new.append(message)
        return old.values(), new

    def counted(self, session: Session) -> Live:
        """Return the sizes with the messages that were not counted yet."""
        if self.end == session.end:
            return self
        sizes = self.sizes
        messages = sizes.messages + _size(session.messages[session.index(self.end) :])
        return Live(Sizes(messages, sizes.refs, sizes.summary, sizes.metadata), session.end)


def _is_plain_truncate(change: object) -> bool:
    return isinstance(change, Truncate) and change.spare is None


def _size(messages: Iterable[Message]) -> int:
    return sum([len(encode_message(message)) for message in giving_way(messages)])


def _refs(session: Session) -> int:
    return len(encode_json(session.refs))


def _summary(session: Session) -> int:
    return len(encode_json(session.summary))
