"""An independent model of a session: what each call does, and what a crash may leave.

A worker keeps a `Chat` for each of its sessions. It writes to a pipe which state it is about to make, which it is about to
save, and which is saved. A `Ledger` of these lines knows what may be in the storage afterwards, and what must be.

* ``m CHAT NUMBER DIGEST CALL``: this state is about to be made in RAM, by this call;
* ``b CHAT NUMBER``: a save of it is about to begin;
* ``d CHAT NUMBER``: it is durable;
* ``l``: from now on other processes may save at any moment;
* ``o``: a storage was opened;
* ``e TEXT``: something that should not have happened.

Numbers count from 1; state 0 is what the worker began with.
"""

from __future__ import annotations

import hashlib

import attrs

REFS = 256
GONE = "-"


@attrs.define
class Chat:
    """A session: what the public calls show of it."""

    #: Each with its position, role, content, turn, and ref.
    messages: list[tuple[int, str, str, str | None, str | None]] = attrs.Factory(list)
    summary: str = ""
    metadata: dict[str, int] = attrs.Factory(dict)
    refs: list[str] = attrs.Factory(list)
    end: int = 0
    #: As `messages`.
    archive: list[tuple[int, str, str, str | None, str | None]] = attrs.Factory(list)

    def copied(self):
        """Return a copy, without the archive: a fork."""
        return Chat(list(self.messages), self.summary, dict(self.metadata), list(self.refs), self.end)

    def append(self, said, turn=None):
        """Append pairs of role and content."""
        for role, content, ref in said:
            self.messages.append((self.end, role, content, turn, ref))
            self.end += 1
        if turn is not None:
            self.refs = [*self.refs, turn][-REFS:]

    def edit(self, index, content):
        position, role, _, turn, ref = self.messages[index]
        self.messages[index] = (position, role, content, turn, ref)

    def drop(self, count, *, archived):
        """Drop the oldest messages."""
        if archived:
            self.archive += self.messages[:count]
        del self.messages[:count]

    def clear(self):
        self.messages, self.summary, self.archive = [], "", []

    @property
    def digest(self):
        state = repr((self.messages, self.summary, sorted(self.metadata.items()), self.refs, self.end, self.archive))
        return hashlib.blake2b(state.encode(), digest_size=8).hexdigest()


def digest(chat: Chat | None) -> str:
    return GONE if chat is None else chat.digest


def shown(m, key) -> Chat | None:
    """Return what a manager shows of a session."""
    session = m.get(key)
    if session is None:
        return None
    messages, archive = (
        [(one.position, one.role, one.content, one.turn, one.ref) for one in some]
        for some in (session.messages, m.get_archive(key))
    )
    return Chat(messages, session.summary, dict(session.metadata), list(session.refs), session.end, archive)


class Ledger:
    """What a worker said of one session."""

    def __init__(self, chat: Chat | None) -> None:
        self.digests = [digest(chat)]
        #: The calls that made them.
        self.calls = ["found"]
        self.durable = 0
        self.begun: set[int] = set()

    def allowed(self, *, loose: bool) -> set[str]:
        """Return the digests of the states that may be there now.

        :param loose: others save, too, at any moment.
        """
        later = range(self.durable, len(self.digests)) if loose else {self.durable, *self.begun}
        return {self.digests[number] for number in later if number >= self.durable}


class Ledgers:
    """What a worker said of all of its sessions.

    :param chats: what it began with.
    """

    def __init__(self, chats: list[Chat | None]) -> None:
        self.of = [Ledger(chat) for chat in chats]
        self.loose = False
        self.acknowledged = 0
        self.opened = 0
        #: How many sessions were found in a state that was begun, and not acknowledged.
        self.ahead = 0
        self.calls: dict[str, int] = {}
        self.errors: list[str] = []

    def take(self, lines: list[str], *, acknowledgements: bool = True) -> None:
        """Take what it said.

        :param acknowledgements: whether those count: after a power cut they are worth nothing.
        """
        for line in lines:
            kind, *words = line.split(" ")
            if kind == "m":
                chat, number, state, call = words
                digests = self.of[int(chat)].digests
                assert len(digests) == int(number), "what a worker says comes in order"
                digests.append(state)
                self.of[int(chat)].calls.append(call)
                self.calls[call] = self.calls.get(call, 0) + 1
            elif kind == "b":
                self.of[int(words[0])].begun.add(int(words[1]))
            elif kind == "d" and acknowledgements:
                ledger = self.of[int(words[0])]
                ledger.durable = max(ledger.durable, int(words[1]))
                self.acknowledged += 1
            elif kind == "l":
                self.loose = True
            elif kind == "o":
                self.opened += 1
            elif kind == "e":
                self.errors.append(" ".join(words))

    def contradicted(self, number: int, found: Chat | None) -> str:
        """Say what is wrong about a session that was found; ``""`` if it may be so."""
        ledger = self.of[number]
        state = digest(found)
        if state in ledger.allowed(loose=self.loose):
            self.ahead += state != ledger.digests[ledger.durable]
            return ""
        known = [at for at, one in enumerate(ledger.digests) if one == state]
        what = f"state {known}" if known else f"no state that ever was: {summary(found)}"
        calls = f"{sorted(ledger.begun)} begun, of {len(ledger.digests)}, the last by {ledger.calls[-4:]}"
        return f"session {number} is {what}; {ledger.durable} was durable, {calls}"


def summary(chat: Chat | None) -> str:
    if chat is None:
        return "none"
    positions = [message[0] for message in chat.messages]
    archived = [message[0] for message in chat.archive]
    return f"{positions} of {chat.end}, archive {archived}, {len(chat.refs)} refs"
