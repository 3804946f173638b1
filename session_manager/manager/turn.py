"""The turn: a user's message and all that answers it, written at once or not at all.

A turn holds its session's *turn lock*: one turn at a time for a session, while other calls go on. Its calls wait in a
`session_manager.manager.draft.Draft`. When the block is left, they become one change, an `Append` if the block only added,
else a `Batch`, and the change is saved.

The change is bound to the generation that the session had when the turn began, or when it appeared. So a session that was
cleared or deleted meanwhile stays as it is. The change is also bound to the ref of the delivery that it answers. So a delivery
that came twice is answered once, also if two processes got it.

A turn that does more than add is a second writer. Its changes are made over the durable session that it has seen, and
`session_manager.model.rebase` says what they mean over the newest state of the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from session_manager.arguments import check_bool, check_int, several
from session_manager.errors import ConflictError, TurnNotFoundError
from session_manager.history.context import OPTIONS, ContextOptions, context
from session_manager.history.rules import Rules
from session_manager.keywords import Unpack, showing, unexpected
from session_manager.manager.absentees import Absentees, Resolving, check_refs
from session_manager.manager.cache.bonds import Bond
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.fair_lock import Claim
from session_manager.manager.cache.residents import Make, Residents
from session_manager.manager.draft import Draft, Last
from session_manager.manager.edits import updating
from session_manager.manager.lookups import check_where
from session_manager.manager.saving import Saving
from session_manager.manager.turn_locks import TurnLocks
from session_manager.manager.validation import Incoming
from session_manager.manager.write_through import WriteThrough
from session_manager.model.batch import Batch, removes
from session_manager.model.changes import Append, Change, SetSummary, Witness
from session_manager.model.json_value import checked_text
from session_manager.model.message import PARTS, Message, MessageParts
from session_manager.model.rebase import rebase
from session_manager.model.session import ANY, Anything, Session, Version
from session_manager.resource import Resource

__all__ = ["Turn", "TurnOptions", "shown", "stage"]

T = TypeVar("T", bound="Turn")


class TurnOptions(NamedTuple):
    """How one turn goes: the arguments of `SessionManager.turn`, checked, and of `SessionManager.undo`."""

    key: str
    ref: str | None = None
    timeout: float | None = None
    max_waiting: int | None = None
    expected: Version | Anything | None = ANY
    #: Whether it stays in RAM, unsaved, if its save fails.
    keep: bool = True
    #: The turn that it replaces, with all behind it.
    replacing: str | Last | None = None
    #: How many of the last turns it takes away, and no more.
    undoing: int = 0


def stage(turn: Turn) -> str:
    """Say in one word how far a turn is."""
    if turn._claim is None:
        return "not entered"
    if turn.done:
        return "done"
    if turn._is_open:
        return "open"
    return "applied" if turn.applied else "not applied"


def shown(kind: str, turn: Any, stage: str) -> str:
    """Return the repr of a turn, without the text of a message."""
    ref = "" if turn.ref is None else " with a ref"
    return f"<{kind} of {turn.key[:80]!a}{ref}: {stage}, {len(turn.messages)} messages>"


class Turn(Resource):
    """One turn of a session: a context manager, for one block in one thread. See `SessionManager.turn`.

    Other threads and processes see no effect of its calls while the block runs. Leaving the block writes and saves all of
    them at once. An exception that leaves the block writes nothing.

    `add` and `add_message` touch only RAM. `edit`, `remove`, `replace_history`, `set_metadata`, `set_summary` and `truncate`
    work on the session as it is durable. The first such call saves the changes that other calls have left unsaved. So it may
    wait for the disk, and raises the errors of `SessionManager.save`. Messages that other writers add after that stay,
    whatever the turn removes. It is a conflict if the turn edits or removes a message that another writer has edited since.
    """

    def __init__(
        self,
        options: TurnOptions,
        *,
        locks: TurnLocks,
        residents: Residents,
        saving: Saving,
        write_through: WriteThrough,
        absentees: Absentees,
        incoming: Incoming,
        rules: Rules,
    ) -> None:
        #: The session's key.
        self.key: str = options.key
        #: The delivery that the turn answers, or `None`.
        self.ref: str | None = options.ref
        #: Whether the delivery was answered before, durably: then there is nothing to do but to send `messages` again.
        self.done: bool = False
        #: Whether leaving the block has written the turn, durably. `False` if the session was cleared or deleted
        #: since the turn began, if the delivery was answered meanwhile, or if there was nothing to write.
        self.applied: bool = False
        #: The version that leaving the block gave to the session; `None` if nothing was written.
        self.version: Version | None = None
        #: The messages that the turn takes away because of ``replacing=``, from when the block is entered.
        self.replaced: list[Message] = []
        self._options, self._rules = options, rules
        self._locks, self._residents, self._incoming = locks, residents, incoming
        self._saving, self._write_through, self._absentees = saving, write_through, absentees
        self._claim: Claim | None = None
        self._bond = Bond()
        self._answer: list[Message] = []
        self._draft = Draft()
        self._is_open = False

    @property
    def messages(self) -> list[Message]:
        """The messages of this turn; if it is `done`, those of the stored answer that are still there."""
        return list(self._answer if self.done else self._draft.added)

    def __repr__(self) -> str:
        return shown("Turn", self, stage(self))

    @property
    def undone(self) -> list[Message]:
        """The messages that the turn has taken away, durably."""
        return list(self.replaced) if self.applied else []

    def __enter__(self: T) -> T:
        self._check_is_new()
        options = self._options
        claim = self._locks.acquire(self.key, options.timeout, options.max_waiting)
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
        reports = self._residents.reports
        before = reports.is_used and reports.hold()
        try:
            if apply and not self.done:
                self._apply()
        finally:
            self._claim.give_back()
            if reports.is_used:
                reports.release(before)

    def add(self, *messages: object, if_absent: bool = False) -> list[Message]:
        """Buffer messages, all or none, for the end of the turn.

        :param messages: each a `Message`, an `Item`, a mapping, or an SDK's object (see `Message.of`).
        :param if_absent: leave a message out if one with its ref is there when the turn ends (see `SessionManager.add`), or if this
            turn adds one. `messages` has it in the first case.
        :returns: them, without positions.
        :raises InvalidMessageError: with the place of what is not JSON; or if a message has no ref, with `if_absent`; or if it
            has the ref of one that was added so. Nothing has changed.
        :raises RuntimeError: outside of the block.
        """
        self._check_open()
        check_bool(if_absent, "if_absent")
        new = self._incoming.messages(messages, self._incoming.now())
        if if_absent:
            check_refs(new)
        self._draft.add(new, if_absent=if_absent)
        return list(new)

    @showing(Message)
    def add_message(
        self, role: str, content: Any = "", *, if_absent: bool = False, **parts: Unpack[MessageParts]
    ) -> Message:
        """Buffer a message, built of these parts (see `Message`), for the end of the turn.

        :param name, tool_calls, tool_call_id, extra, created_at, metadata, ref: as for `SessionManager.add_message`.
        :param if_absent: as for `add`.
        :returns: it, without a position.
        :raises InvalidMessageError: with the place of what is not JSON; or if no provider knows the role, nor `SessionManager` by
            ``roles=``. Nothing has changed.
        :raises RuntimeError: outside of the block.
        """
        if not PARTS.issuperset(parts):
            raise unexpected("Turn.add_message", parts, PARTS)
        self._check_open()
        check_bool(if_absent, "if_absent")
        message = self._incoming.message(self._incoming.now(), role, content, parts)
        if if_absent:
            check_refs((message,))
        self._draft.add((message,), if_absent=if_absent)
        return message

    def remove(self, where: int | str) -> Message | None:
        """Remove a message. It does not go to the archive.

        :param where: its position (an int), or its ref (a string; the last message that has it).
        :returns: the message; `None` if it is not there.
        :raises RuntimeError: outside of the block.
        :raises SaveError: if other calls have left the session unsaved, and it could not be saved.
        """
        check_where(where)
        return self._drafted().remove(where, self._incoming.now())

    def edit(self, where: int | str, message: object) -> bool:
        """Replace a message; see `SessionManager.update_message`. `False` if it is not there.

        :param where: as for `remove`.
        :raises InvalidMessageError: as `add` does.
        :raises RuntimeError: outside of the block.
        :raises SaveError: as `remove` does.
        """
        check_where(where)
        at = self._incoming.now()
        (new,) = self._incoming.messages((message,), at)
        keep_time = not isinstance(message, Message)
        return self._drafted().edit(where, new, self._incoming.check_size, at, keep_time=keep_time)

    def truncate(self, keep_last: int) -> int:
        """Drop all but the last messages, to the archive if there is one. Messages that the turn added count, and go unarchived.

        :param keep_last: how many stay, from 0.
        :returns: how many are dropped.
        :raises RuntimeError: outside of the block.
        :raises SaveError: as `remove` does.
        """
        check_int(keep_last, "keep_last", least=0)
        return self._drafted().truncate(keep_last, self._incoming.now())

    def replace_history(self, messages: Iterable[object]) -> list[Message]:
        """Put messages in the place of all that the turn sees, its own included; the summary stays.

        :param messages: as for `add`.
        :returns: them, without positions.
        :raises InvalidMessageError: as `add` does.
        :raises RuntimeError: outside of the block.
        :raises SaveError: as `remove` does.
        """
        at = self._incoming.now()
        new = self._incoming.messages(several(messages, "messages", "messages"), at)
        self._drafted().replace(new, at)
        return list(new)

    def set_summary(self, text: str) -> None:
        """Set the summary.

        :raises InvalidMessageError: if it is not a string that JSON can hold.
        :raises RuntimeError: outside of the block.
        :raises SaveError: as `remove` does.
        """
        summary = checked_text(text, "summary")
        self._drafted().change(SetSummary(at=self._incoming.now(), text=summary))

    def set_metadata(self, items: Mapping[str, Any], removed: Iterable[str] = ()) -> None:
        """Set keys of the session's metadata, and remove others; see `SessionManager.update_metadata`.

        :param items: JSON values by their keys; bytes may be in them, which `SessionManager.get_state` gives back.
        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises TypeError: if `removed` is a string.
        :raises RuntimeError: outside of the block.
        :raises SaveError: as `remove` does.
        """
        change = updating(self._incoming.now(), items, removed)
        self._drafted().change(change)

    @showing(context)
    def get_context(self, **options: Unpack[ContextOptions]) -> list[Any]:
        """Return the messages to send to a model: as `SessionManager.get_context`, with the changes of this turn.

        :param system, max_messages, max_tokens, count, rules, summary_role: as there.
        :raises RuntimeError: outside of the block.
        """
        if not OPTIONS.issuperset(options):
            raise unexpected("Turn.get_context", options, OPTIONS)
        if options.get("rules") is None:
            options["rules"] = self._rules
        return context(self._shown(), self._added(), **options)

    def _shown(self) -> Session | None:
        """Return the session as the turn sees it, without what it adds."""
        self._check_open()
        if self._draft.session is not None:
            return self._draft.session
        entry = self._now()
        return None if entry is None else entry.session

    def _now(self) -> Entry | None:
        """Return the session's entry as it is now.

        A session that was missing when the turn began is looked for in RAM alone. If another process creates it meanwhile, the
        turn's save is a conflict, and the turn is rebased.
        """
        if self._bond.generation is None and not self._bond.is_broken:
            return self._residents.peek(self.key)
        return self._residents.touch(self.key)

    def _added(self) -> list[Message]:
        """Return what the block has added to it."""
        return [] if self.done else list(self._draft.added)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RuntimeError("this turn is not open: use it inside of its with block")

    def _drafted(self) -> Draft:
        """Return the draft, for a change that is more than adding."""
        self._check_open()
        self._look()
        return self._draft

    def _look(self) -> None:
        """Take the session as it is durable, unless that was done: the changes are made over it."""
        if self._draft.base is not None:
            return
        self._saving.save(self.key)
        entry = self._now()
        if entry is None:
            self._draft.start(self._residents.blank(self.key, self._incoming.now())._with(revision=0))
        else:
            self._draft.start(entry.durable)

    def _begin(self) -> None:
        """Look at the session as it is when the block is entered.

        :raises ConflictError: if it is not in the version that is expected.
        :raises TurnNotFoundError: if the turn that is replaced is not there.
        """
        self._settle()
        options = self._options
        if self.done:
            return
        if options.expected is not ANY:
            self._saving.save(self.key)
            self._residents.touch(self.key)
            with self._residents.lock.checked:
                self._write_through.check_expected(self.key, options.expected)
        if options.undoing or options.replacing is not None:
            self._look()
            self._take_away(options)

    def _take_away(self, options: TurnOptions) -> None:
        """Remove the turns that this one replaces, or undoes."""
        which = Last.LAST if options.replacing is None else options.replacing
        start = self._draft.start_of(which, options.undoing or 1)
        if start is not None:
            self.replaced = self._draft.remove_end(start, self._incoming.now())
        elif options.replacing is not None:
            raise TurnNotFoundError(self.key, None if isinstance(which, Last) else which)

    def _settle(self) -> None:
        """Bind to the session, or find out that its delivery is answered.

        An answer that is only in RAM is made durable first. Beside a write that is under way, a read does not ask the store; so a turn
        that has a lease settles it, for it must see what the turn before has written.
        """
        while True:
            entry = self._residents.touch(self.key)
            if self._locks.leases is not None and entry is not None and entry.unknown is not None:
                self._saving.save(self.key)
                continue
            answered = entry is not None and self.ref is not None and self.ref in entry.session.refs
            if entry is None:
                self._bind(None)
            elif answered and not (entry.durable.revision and self.ref in entry.durable.refs):
                self._saving.save(self.key)
                continue
            elif answered:
                self.done = True
                self._answer = [message for message in entry.session.messages if message.turn == self.ref]
            elif entry.durable.revision:
                self._bond = Bond(entry.session.generation)
            else:
                self._bind(entry.session)
            return

    def _bind(self, session: Session | None) -> None:
        """Bind to a session that may get another generation: that is missing, or was never saved."""
        self._bond = self._residents.bind(self.key, session)

    def _apply(self) -> None:
        """Write what the turn does, and save it."""
        options, draft = self._options, self._draft
        if self.ref is None and not draft.added and not draft.changes:
            return
        if options.replacing is not None and not draft.added and len(draft.changes) == len(self.replaced):
            return
        at, blank = self._incoming.now(), None
        if self._bond.generation is None and not self._bond.is_broken:
            blank = self._appear(at)
            if blank is None and self._bond.generation is None:
                return
        applied: bool | None = None
        try:
            if self._bond.is_broken and options.expected is not ANY:
                raise ConflictError(self.key, options.expected, None, "it was cleared or deleted meanwhile")
            applied = False if self._bond.is_broken else self._carry_out(at, blank)
            if applied is None and options.expected is not ANY:
                raise ConflictError(self.key, options.expected, None, "it was deleted meanwhile")
        finally:
            if blank is not None and not applied:
                self._residents.uncreate(self.key, blank)
        self.applied = bool(applied)
        if applied and self._claim is not None and self._claim.fence is not None:
            self._locks.landed(self.key, self._claim)
        if applied is False and self.ref is not None:
            self._settle()

    def _appear(self, at: datetime) -> Session | None:
        """Bind to the session, which was missing when the turn began; return it if it is created here.

        A turn that only takes away creates one to remember its delivery.
        """
        entry = self._now()
        blank = None
        if entry is None and (self.ref is not None or not self._options.undoing):
            blank = self._residents.blank(self.key, at)
            entry = self._residents.created(self.key, blank, looked=True)
        if entry is not None:
            self._bond.meet(entry.session.generation)
        return blank if entry is not None and entry.session is blank else None

    def _carry_out(self, at: datetime, blank: Session | None) -> bool | None:
        """Make the change, and save it; say whether it is durable, `None` if there is no session any more."""
        fence = None if self._claim is None else self._claim.fence
        only_adds = self._draft.base is None and self._options.expected is ANY
        guard = self._bond.generation if only_adds else None
        witness = Witness(fence=fence) if only_adds else None
        append = Append.made(at, self._draft.added, self.ref, guard, self._draft.absent, witness)
        resolving = self._absentees.resolving(self.key, append) if append.absent else None
        change = resolving or append if only_adds else self._batching(at, append, resolving, blank)
        blind = blank is not None or (only_adds and resolving is None)
        outcome = self._write_through.carry_out(self.key, change, blind=blind, keep=self._options.keep, fence=fence)
        if resolving is not None and resolving.is_stale:
            return self._carry_out(at, blank)
        if outcome is None:
            return None
        is_refused = outcome.saved is None and outcome.after is not outcome.before
        if is_refused and self._options.expected is not ANY:
            raise ConflictError(self.key, self._options.expected, None, "another writer saved it meanwhile")
        self.version = None if outcome.saved is None else outcome.saved.version
        return outcome.saved is not None

    def _batching(self, at: datetime, append: Append, resolving: Resolving | None, blank: Session | None) -> Make:
        """Return what makes the batch, over the session as it has become. It is called by a thread that holds the lock."""
        base, expected, replaces = self._draft.base, self._options.expected, self._options.replacing is not None

        def make(session: Session) -> Change | None:
            generation = self._bond.generation  # another one may have come to stand for it
            checked = expected
            if not isinstance(expected, Anything):
                checked = self._write_through.check_expected(self.key, expected, blank)
            if session.generation != generation or (self.ref is not None and self.ref in session.refs):
                return None
            added = append if resolving is None else resolving.look(session)
            if resolving is not None and resolving.is_stale:
                return None
            adds = added is not None and (added.messages or self.ref is not None)
            changes = (*self._draft.changes, added) if added is not None and adds else self._draft.changes
            seen = session if base is None else base if base.revision else base._with(generation=generation)
            left = rebase(seen, session, changes).pending
            if replaces and removes(left) < removes(changes):
                raise ConflictError(
                    self.key, seen.version, session.version, "the turn to replace was removed meanwhile"
                )
            how = Batch(at=at, changes=left, ref=self.ref, generation=generation, expected=checked, replaces=replaces)
            return how if left else None

        return make
