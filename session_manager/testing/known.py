"""The model of a session, and the keys of the sessions that a machine uses."""

from __future__ import annotations

import attrs
from hypothesis import strategies as st

from session_manager.model.changes import Change, Clear, Truncate, fold
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.testing.comparison import difference

__all__ = ["NEARLY_EQUAL_KEYS", "Known", "known_key", "some_key"]

#: Keys that a naive store takes for one another.
NEARLY_EQUAL_KEYS = (
    "telegram:42",
    "telegram_42",
    "Telegram:42",
    "caf\u00e9",
    "cafe\u0301",
    "CON",
    "a\0b\u2028c\u0085",
    "../\u202eup\U0001f600",
    "long" * 200,
    "long" * 200 + "x",
)


def some_key() -> st.SearchStrategy[str]:
    """Draw one of the machine's `SessionMachine.session_keys`, in one of its rules."""
    return st.runner().flatmap(lambda machine: st.sampled_from(tuple(machine.session_keys)))


def known_key() -> st.SearchStrategy[str]:
    """Draw the key of a session that is there, in most cases, in one of the machine's rules."""
    return st.runner().flatmap(lambda machine: st.sampled_from((*machine.session_keys, *[*machine.known] * 4)))


@attrs.define(eq=False)
class Known:
    """The model of one session: the session as it is stored, and the changes since then."""

    #: The stored session; of revision 0 if there is none.
    durable: Session
    #: The changes since then, in order.
    pending: list[Change] = attrs.field(factory=list)
    #: The archive by position, as it is stored, and as a manager must show it. Empty without archives.
    durable_archive: dict[int, Message] = attrs.field(factory=dict)
    archive: dict[int, Message] = attrs.field(factory=dict)

    @property
    def session(self) -> Session:
        """The session that a manager must show."""
        return fold(self.durable, self.pending)

    @property
    def messages(self) -> list[Message]:
        """The history that a manager must show."""
        return self.session.messages.to_list()

    @property
    def dirty(self) -> bool:
        """Whether there is something to save."""
        return bool(self.pending) or self.durable.revision == 0

    def did(self, change: Change, *, archive: bool = False) -> None:
        """Note a call; one without effect makes no change.

        :param archive: whether truncated messages are archived.
        """
        before, after = self.session, fold(self.session, [change])
        if not difference(after, before):
            return
        self.pending.append(change)
        if isinstance(change, Clear):
            self.archive = {}
        elif archive and isinstance(change, Truncate):
            gone = before.messages[: len(before.messages) - len(after.messages)]
            self.archive = {**self.archive, **{one.position: one for one in gone if one.position is not None}}

    def saved(self) -> None:
        """Note that everything is durable now."""
        if self.dirty:
            self.durable = attrs.evolve(self.session, revision=self.durable.revision + 1)
            self.pending = []
            self.durable_archive = self.archive

    def gave_up(self) -> None:
        """Note that all unsaved changes are lost."""
        self.pending = []
        self.archive = self.durable_archive
