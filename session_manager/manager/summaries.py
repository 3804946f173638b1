"""Summaries: old messages are replaced by a text, unless anything about them changed meanwhile.

The summarizer is a model call of a minute or two, and is called without any lock. Its input is bound by a digest
(`session_manager.model.changes.digest`) into one change, `Summarize`. The change has no effect if the session's generation,
its summary or one of the summarized messages was changed meanwhile, in this process or in another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from session_manager.arguments import check_callable, check_int
from session_manager.as_dict import AsDict
from session_manager.errors import InvalidMessageError
from session_manager.frozen import Frozen, Part
from session_manager.history.cuts import Cut, cut
from session_manager.history.roles import head
from session_manager.history.tokens import counted, estimate_tokens
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.fair_lock import Claim, Claims
from session_manager.manager.cache.residents import Residents
from session_manager.manager.saving import Saving
from session_manager.manager.validation import Incoming
from session_manager.manager.write_through import WriteThrough
from session_manager.model.changes import Summarize, digest
from session_manager.model.json_value import checked_text
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.values import Value

__all__ = ["Picked", "Summaries", "Summarized", "Summarizer", "SummaryPolicy"]

_ATTEMPTS = 10

#: Given the previous summary (``""`` if there is none) and the messages that are to go, returns the new summary.
Summarizer = Callable[[str, list[Message]], str]


@attrs.frozen(eq=False, repr=False)
class Summarized(Value, AsDict):
    """The outcome of a summary."""

    #: Whether it is in the session, durably, in the place of the messages.
    applied: bool
    #: The new summary; ``""`` if the summarizer gave none.
    summary: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    #: How many messages it stands for.
    count: int
    #: Why it was not applied; ``""`` if it was.
    reason: str = ""
    #: Whether they were a part of one turn: no turn ended, so that its question and its newest messages stay.
    cut_turn: bool = False


def _threshold(_: object, attribute: Any, value: object) -> None:
    if value is not None:
        check_int(value, attribute.name, least=1)


def _counter(_: object, attribute: Any, value: object) -> None:
    check_callable(value, attribute.name)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SummaryPolicy(Value):
    """When a history is long enough to be summarized: whichever of the two is reached.

    :param messages: from so many messages on.
    :param tokens: from so many tokens on, by `count`.
    :param count: how many tokens a message is; an estimate by default.
    :raises TypeError: if `messages` or `tokens` is no int, or `count` is not callable.
    :raises ValueError: if there is neither, or one is less than 1.
    """

    messages: int | None = attrs.field(default=None, validator=_threshold)
    tokens: int | None = attrs.field(default=None, validator=_threshold)
    count: Callable[[Message], int] = attrs.field(default=estimate_tokens, validator=_counter)

    def __attrs_post_init__(self) -> None:
        if self.messages is None and self.tokens is None:
            raise ValueError("give messages, tokens, or both")

    def is_reached(self, messages: list[Message]) -> bool:
        """Say whether a history is long enough."""
        if self.messages is not None and len(messages) >= self.messages:
            return True
        return self.tokens is not None and sum(counted(self.count, one) for one in messages) >= self.tokens


class Picked(Frozen, frozen=True):
    """The durable messages that a summary will replace, and the session that it is bound to."""

    seen: Session
    messages: list[Message]
    start: int
    stop: int
    digest: str
    #: Whether they are a part of one turn.
    in_turn: bool


class Summaries(Resource, Part):
    """Summarizes sessions, one summary at a time for each. Every method may be called from any thread."""

    _residents: Residents
    _saving: Saving
    _write_through: WriteThrough
    _incoming: Incoming
    #: The summaries of the manager that are being made.
    _running: Claims

    def summarize(
        self, key: str, summarizer: Summarizer, *, keep_last: int, when: SummaryPolicy | None
    ) -> Summarized | None:
        """Summarize a session; see `SessionManager.summarize`."""
        with self.claimed(key) as is_first:
            picked = self.pick(key, keep_last, when) if is_first else None
            if picked is None:
                return None
            return self.apply(key, picked, summarizer(picked.seen.summary, list(picked.messages)))

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Keep other threads and tasks from summarizing a session; say whether none does already."""
        claim = Claim()
        try:
            yield self._running.queue(key, claim) is None
        finally:
            claim.give_back()

    def pick(self, key: str, keep_last: int, when: SummaryPolicy | None) -> Picked | None:
        """Save the session, and pick the messages before a safe cut; `None` if there is nothing to summarize.

        So it is, too, if others change these messages over and over.
        """
        for _ in range(_ATTEMPTS):
            self._saving.save(key)
            entry = self._residents.touch(key)
            if entry is None:
                return None
            session, first = entry.session, head(entry.session.messages)
            made = cut(session.messages, keep_last)
            if made is None or (when is not None and not when.is_reached(session.messages[first:].to_list())):
                return None
            if _is_durable(entry, made.start, made.stop):
                return _picked(session, made)
        return None

    def apply(self, key: str, picked: Picked, summary: object) -> Summarized:
        """Put a summary in the place of the picked messages, unless something changed, and save it."""
        count = len(picked.messages)
        try:
            text = checked_text(summary, "summary", empty=False)
        except InvalidMessageError as error:
            reason = f"the summarizer returned no summary: {error.reason}"
            return Summarized(False, "", count, reason, picked.in_turn)
        at, start, stop = self._incoming.now(), picked.start, picked.stop
        entry = self._residents.touch(key)
        seen = picked.seen
        if entry is not None and digest(entry.session, start, stop) == picked.digest:
            seen = entry.session  # read again meanwhile, perhaps: compared here, without the lock
        change = Summarize(at=at, summary=text, start=start, stop=stop, digest=picked.digest, seen=seen)
        outcome = self._write_through.carry_out(key, change)
        if outcome is not None and outcome.saved is not None:
            self._residents.reports.note("Summarized", key=key, messages=count)
            self._residents.reports.deliver()
            return Summarized(True, text, count, cut_turn=picked.in_turn)
        return Summarized(False, text, count, "the session was changed meanwhile", picked.in_turn)


def _is_durable(entry: Entry, first: int, stop: int) -> bool:
    """Say whether some messages of what is shown, and the summary, are stored just so."""
    shown, durable = entry.session, entry.durable
    if (shown.generation, shown.summary) != (durable.generation, durable.summary) or not durable.revision:
        return False
    return all(durable.at(message.position or 0) is message for message in shown.messages[first:stop])


def _picked(session: Session, made: Cut) -> Picked:
    messages = session.messages[made.start : made.stop]
    start = messages[0].position
    end = session.messages[made.stop].position if made.stop < len(session.messages) else session.end
    assert start is not None
    assert end is not None
    return Picked(session, messages.to_list(), start, end, digest(session, start, end), made.in_turn)
