"""What the tests write: a session as a manager holds it, whose changes become commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial

import attrs
from hypothesis import strategies as st

from session_manager.manager.cache.entry import Entry
from session_manager.model.changes import (
    Append,
    Change,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
    digest,
)
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.contract import Commit, Store
from session_manager.testing.strategies import json_objects, messages, nasty_text, refs

__all__ = ["EPOCH", "KEY", "Chat", "Step", "said", "steps"]

KEY = "telegram:42"
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


def said(text: str, *, seconds: float = 0, ref: str | None = None) -> Message:
    """Return a user's message, some seconds after the epoch."""
    return Message("user", text, created_at=EPOCH + timedelta(seconds=seconds), ref=ref)


@attrs.define(eq=False)
class Chat:
    """A session, and its way to a store as a manager goes it: by `Entry`.

    :param key: its key.
    :param generation: its generation, the first one.
    """

    key: str = KEY
    generation: str = "generation"
    entry: Entry = attrs.field(init=False)
    _seconds: int = attrs.field(default=0, alias="_seconds")

    def __attrs_post_init__(self) -> None:
        self.entry = Entry.of(Session(key=self.key, generation=self.generation, created=EPOCH, updated=EPOCH))

    @property
    def session(self) -> Session:
        """The session, with what is not written yet."""
        return self.entry.session

    def tick(self) -> datetime:
        """Return the time of the next call, a second later each time."""
        self._seconds += 1
        return EPOCH + timedelta(seconds=self._seconds, microseconds=self._seconds)

    def did(self, *changes: Change) -> Chat:
        """Note calls."""
        for change in changes:
            self.entry = self.entry.changed(change, keep=True)
        return self

    def add(self, *texts: str) -> Chat:
        """Note a call that appends messages."""
        at = self.tick()
        return self.did(Append(at=at, messages=tuple(Message("user", text, created_at=at) for text in texts)))

    def step(self, *steps: Step) -> Chat:
        """Note calls that depend on what is there."""
        for step in steps:
            change = step(self.session, self.tick())
            if change is not None:
                self.did(change)
        return self

    def commit(self, token: str = "") -> Commit:
        """Return the commit of what is not written yet."""
        return self.entry.commit(token or f"{self.generation}-{self.entry.durable.revision + 1}")

    def written(self, commit: Commit) -> Session:
        """Note that a commit is durable; return the session that a store must hold now."""
        self.entry = self.entry.writing(commit).landed(commit)
        return commit.session

    def write(self, store: Store) -> Session:
        """Write what is not written yet; return the session that the store must hold now."""
        commit = self.commit()
        store.write(commit)
        return self.written(commit)


#: Gives the change of one call; `None` if there is nothing to change.
Step = Callable[[Session, datetime], Change | None]


def _append(new: Sequence[Message], turn: str | None, guard: str | None, session: Session, at: datetime) -> Change:
    return Append(at=at, messages=tuple(new), turn=turn, guard=session.generation if guard == "" else guard)


def _truncate(back: int, session: Session, at: datetime, *, spare: bool) -> Change:
    start = max(0, session.end - back)
    return Truncate(at=at, start=start, spare=_spare(session) if spare else None)


def _remove(number: int, session: Session, at: datetime) -> Change | None:
    position = _position(session, number)
    return None if position is None else Remove(at=at, position=position)


def _edit(number: int, message: Message, session: Session, at: datetime) -> Change | None:
    position = _position(session, number)
    return None if position is None else Edit(at=at, position=position, message=message)


def _replace(new: Sequence[Message], session: Session, at: datetime, *, spare: bool) -> Change:
    return Replace(at=at, messages=tuple(new), spare=_spare(session) if spare else None)


def _clear(session: Session, at: datetime, *, spare: bool) -> Change:
    generation = f"after-{at:%M%S}-{session.generation[:16]}"
    return Clear(at=at, generation=generation, spare=_spare(session) if spare else None)


def _fold(summary: str, first: int, count: int, session: Session, at: datetime) -> Change:
    start = session.start + first
    return Summarize(
        at=at, summary=summary, start=start, stop=start + count, digest=digest(session, start, start + count)
    )


def _summarize(text: str, _: Session, at: datetime) -> Change:
    return SetSummary(at=at, text=text)


def _note(items: dict[str, object], removed: list[str], _: Session, at: datetime) -> Change:
    return UpdateMetadata(at=at, items=items, removed=tuple(removed))


def _expire(after: timedelta | None, _: Session, at: datetime) -> Change:
    return UpdateMetadata(at=at, expires_after=after)


def _position(session: Session, number: int) -> int | None:
    return session.messages[number % len(session.messages)].position if session.messages else None


def _spare(session: Session) -> tuple[int, int]:
    """Return the positions of the last half: as if another writer had added them."""
    return (session.start + session.end) // 2, session.end


def steps() -> st.SearchStrategy[Step]:
    """Draw a call of any kind, as a manager makes it or `rebase` leaves it."""
    some, number, spare = st.lists(messages(), max_size=3), st.integers(0, 9), st.booleans()
    names = st.lists(st.sampled_from(["a", "type", "text", ""]), max_size=2)
    appended = st.builds(partial, st.just(_append), some, st.none() | refs(), st.sampled_from([None, "", "another"]))
    return st.one_of(
        appended,
        st.builds(partial, st.just(_append), some, st.none(), st.none()),
        st.builds(partial, st.just(_truncate), number, spare=spare),
        st.builds(partial, st.just(_remove), number),
        st.builds(partial, st.just(_edit), number, messages()),
        st.builds(partial, st.just(_replace), some, spare=spare),
        st.builds(partial, st.just(_clear), spare=spare),
        st.builds(partial, st.just(_fold), nasty_text(), st.integers(0, 2), st.integers(0, 4)),
        st.builds(partial, st.just(_summarize), nasty_text()),
        st.builds(partial, st.just(_note), json_objects(), names),
        st.builds(partial, st.just(_expire), st.none() | st.timedeltas(timedelta(microseconds=1))),
    )
