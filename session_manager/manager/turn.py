"""The turn: a user's message and all that answers it, written at once or not at all.

A turn holds its session's *turn lock*: one turn at a time for a session, while other calls go on. Its messages wait in a
buffer until the block is left, and then become one `Append`, which is saved. The append is bound to the generation that the
session had when the turn began, or when it appeared, and to the ref of the delivery that it answers. So a session that was
cleared or deleted meanwhile stays as it is, and a delivery that came twice is answered once, by whichever process.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, TypeVar

import attrs

from session_manager.history.context import OPTIONS, ContextOptions, context
from session_manager.keywords import Unpack, showing, unexpected
from session_manager.manager.cache.bonds import Bond
from session_manager.manager.cache.fair_lock import PATIENCE, Claim, Claims
from session_manager.manager.cache.residents import Residents
from session_manager.manager.saving import Saving
from session_manager.manager.validation import Incoming
from session_manager.model.changes import Append
from session_manager.model.message import PARTS, Message, MessageParts
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.threads import in_event_loop

__all__ = ["Turn", "TurnLocks"]

T = TypeVar("T", bound="Turn")


@attrs.define(eq=False, repr=False)
class TurnLocks(Resource):
    """A fair lock for each session that has a turn.

    A turn that is dropped without being left lets go of its lock.
    """

    claims: Claims

    def acquire(self, key: str, timeout: float | None, max_waiting: int | None) -> Claim:
        """Wait for a session's lock, and take it.

        :param timeout: how many seconds to wait; `None`: as long as it takes.
        :param max_waiting: how many may wait already.
        :raises RuntimeError: if this thread has a turn of the session, or would have to wait in an event loop.
        :raises TimeoutError: if it was not free in time.
        :raises SessionBusyError: if too many wait for it.
        """
        claim = Claim()
        try:
            before = self.claims.queue(key, claim, max_waiting)
            if before is not None:
                self._check_may_wait(key, claim, timeout)
            end = None if timeout is None else time.monotonic() + timeout
            while before is not None:
                left = PATIENCE if end is None else end - time.monotonic()
                if left <= 0:
                    raise late(key, timeout)
                over, before = before.over, None  # to hold on to one that is dropped would keep it
                over.wait(min(left, PATIENCE))
                before = self.claims.queue(key, claim)
        except BaseException:
            claim.give_back()
            raise
        return claim

    def check_has_none(self, key: str, claim: Claim, who: str) -> None:
        """Raise if the thread or task of a claim has a turn of the session already, and would wait for itself.

        :param who: what it is called in the error.
        """
        if self.claims.owns(key, claim.owner, claim):
            raise RuntimeError(f"this {who} has a turn of session {key[:80]!a} already")

    def _check_may_wait(self, key: str, claim: Claim, timeout: float | None) -> None:
        if not in_event_loop():
            self.check_has_none(key, claim, "thread")
        elif timeout is None or timeout > 0:
            raise RuntimeError(
                f"another turn of session {key[:80]!a} is open, and waiting for it would stop the event loop: "
                "use AsyncSessionManager there"
            )


def late(key: str, timeout: float | None) -> TimeoutError:
    """Return the error of a turn that was not free in time."""
    return TimeoutError(f"another turn of session {key[:80]!a} was open for {timeout} s")


class Turn(Resource):
    """One turn of a session: a context manager, for one block in one thread. See `SessionManager.turn`.

    Inside of the block `add` and `add_message` buffer; nobody else sees it. Leaving it writes and saves the buffer at once;
    an exception that leaves it writes nothing.
    """

    def __init__(
        self,
        key: str,
        ref: str | None,
        timeout: float | None,
        *,
        max_waiting: int | None,
        locks: TurnLocks,
        residents: Residents,
        saving: Saving,
        incoming: Incoming,
    ) -> None:
        #: The session's key.
        self.key: str = key
        #: The delivery that the turn answers, or `None`.
        self.ref: str | None = ref
        #: Whether the delivery was answered before, durably: then there is nothing to do but to send `messages` again.
        self.done: bool = False
        #: Whether leaving the block has written the messages, durably. `False` if the session was cleared or deleted since
        #: the turn began, if the delivery was answered meanwhile, or if there was nothing to write.
        self.applied: bool = False
        self._timeout, self._max_waiting = timeout, max_waiting
        self._locks, self._residents, self._saving, self._incoming = locks, residents, saving, incoming
        self._claim: Claim | None = None
        self._bond = Bond()
        self._answer: list[Message] = []
        self._buffer: list[Message] = []
        self._is_open = False

    @property
    def messages(self) -> list[Message]:
        """What was added in this turn; of one that is `done`, what is still there of what answered the delivery."""
        return list(self._answer if self.done else self._buffer)

    def __enter__(self: T) -> T:
        self._check_is_new()
        claim = self._locks.acquire(self.key, self._timeout, self._max_waiting)
        try:
            self._begin()
        except BaseException:
            claim.give_back()
            raise
        self._open(claim)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(apply=kind is None)

    def _check_is_new(self) -> None:
        if self._claim is not None:
            raise RuntimeError("a turn is for one block")

    def _open(self, claim: Claim) -> None:
        """Let messages in, with the lock, when the turn has begun."""
        self._claim = claim
        self._is_open = True

    def _leave(self, *, apply: bool) -> None:
        """End, and give the lock back."""
        assert self._claim is not None
        self._is_open = False
        try:
            if apply and not self.done:
                self._apply()
        finally:
            self._claim.give_back()

    def add(self, *messages: object) -> list[Message]:
        """Buffer messages, all or none, for the end of the turn.

        :param messages: each a `Message`, a mapping, or an SDK's object (see `Message.of`).
        :returns: them, without positions.
        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises RuntimeError: outside of the block.
        """
        self._check_open()
        new = list(self._incoming.messages(messages, self._incoming.now()))
        self._buffer = [*self._buffer, *new]
        return new

    @showing(Message)
    def add_message(self, role: str, content: Any = "", **parts: Unpack[MessageParts]) -> Message:
        """Buffer a message, built of these parts (see `Message`), for the end of the turn.

        :param name, tool_calls, tool_call_id, extra, created_at, metadata, ref: as for `SessionManager.add_message`.
        :returns: it, without a position.
        :raises InvalidMessageError: with the place of what is not JSON; or if no provider knows the role, nor `SessionManager` by
            ``roles=``. Nothing has changed.
        :raises RuntimeError: outside of the block.
        """
        if not PARTS.issuperset(parts):
            raise unexpected("Turn.add_message", parts, PARTS)
        self._check_open()
        message = self._incoming.message(self._incoming.now(), role, content, parts)
        self._buffer = [*self._buffer, message]
        return message

    @showing(context)
    def get_context(self, **options: Unpack[ContextOptions]) -> list[dict[str, Any]]:
        """Return what to send to a model: as `SessionManager.get_context`, with the messages of this turn behind the others.

        :param system, max_messages, max_tokens, count, summary_role: as there.
        :raises RuntimeError: outside of the block.
        """
        if not OPTIONS.issuperset(options):
            raise unexpected("Turn.get_context", options, OPTIONS)
        return context(self._shown(), self._added(), **options)

    def _shown(self) -> Session | None:
        """Return the session as others see it."""
        self._check_open()
        entry = self._residents.touch(self.key)
        return None if entry is None else entry.session

    def _added(self) -> list[Message]:
        """Return what the block has added to it."""
        return [] if self.done else self._buffer

    def _check_open(self) -> None:
        if not self._is_open:
            raise RuntimeError("this turn is not open: use it inside of its with block")

    def _begin(self) -> None:
        """Look at the session as it is now.

        An answer that is only in RAM is made durable first; so is a session that others may create meanwhile, and whose
        generation would then be another one.
        """
        store = self._residents.store
        while True:
            entry = self._residents.touch(self.key)
            answered = entry is not None and self.ref is not None and self.ref in entry.session.refs
            if entry is None:
                self._bind(None)
            elif answered and store is not None and not (entry.durable.revision and self.ref in entry.durable.refs):
                self._saving.save(self.key)
                continue
            elif answered:
                self._settle(entry.session)
            elif store is not None and store.shared and not entry.durable.revision:
                self._saving.save(self.key)
                continue
            elif store is None or entry.durable.revision:
                self._bond = Bond(entry.session.generation)
            else:
                self._bind(entry.session)
            return

    def _bind(self, session: Session | None) -> None:
        """Bind to a session that may get another generation: that is missing, or was never saved."""
        self._bond = self._residents.bind(self.key, session)

    def _settle(self, session: Session) -> None:
        self.done = True
        self._answer = [message for message in session.messages if message.turn == self.ref]

    def _apply(self) -> None:
        """Append what is buffered, and save it."""
        if not self._buffer and self.ref is None:
            return
        at = self._incoming.now()
        if self._bond.generation is None and not self._bond.is_broken:
            self._bond.meet(self._residents.create(self.key, at).session.generation)
        applied: bool | None = False
        if not self._bond.is_broken:
            change = Append(at=at, messages=tuple(self._buffer), turn=self.ref, guard=self._bond.generation)
            applied = self._saving.carry_out(self.key, change, blind=True)
        self.applied = bool(applied)
        if applied is False and self.ref is not None:
            self._begin()
