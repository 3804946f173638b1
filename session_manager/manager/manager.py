"""`SessionManager`: chat sessions in RAM, each made durable by a save."""

from __future__ import annotations

import inspect
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from session_manager.arguments import check_bool, check_callable, check_int, check_path, check_type, several
from session_manager.as_dict import AsDict
from session_manager.history.context import OPTIONS, ContextOptions, context
from session_manager.history.rules import BY_SHAPE, Rules
from session_manager.history.search import SearchHit
from session_manager.keywords import Unpack, keyword_defaults, showing, unexpected
from session_manager.manager.absentees import Absentees, check_refs, in_order
from session_manager.manager.autosave import Autosave, Autosaver
from session_manager.manager.cache.eviction import Budget
from session_manager.manager.cache.fair_lock import Claims
from session_manager.manager.cache.residents import STORAGE, Residents
from session_manager.manager.deletion import Removal
from session_manager.manager.draft import Last
from session_manager.manager.edits import (
    clearing,
    editing,
    last_position,
    packed,
    packed_state,
    removing,
    truncating,
    updating,
)
from session_manager.manager.ending import Ending
from session_manager.manager.leases import Lease, Leases
from session_manager.manager.lookups import Lookups
from session_manager.manager.on_event import OnEvent
from session_manager.manager.options import (
    MAX_MESSAGE_BYTES,
    OPTIONS_OF_MANAGER,
    ManagerOptions,
    check_leases,
    check_options,
    is_ram_only,
    warn_if_unset,
)
from session_manager.manager.queries import Overview
from session_manager.manager.reports import Reports
from session_manager.manager.saving import Saving
from session_manager.manager.turn import Turn, TurnOptions
from session_manager.manager.turn_locks import TurnLocks
from session_manager.manager.validation import Incoming
from session_manager.manager.write_through import WriteThrough
from session_manager.model.changes import Append, Change, Replace, SetSummary, UpdateMetadata
from session_manager.model.ids import checked as checked_ids
from session_manager.model.ids import cleared, random_id
from session_manager.model.json_value import EMPTY_OBJECT, checked_text, json_object
from session_manager.model.key import check_key
from session_manager.model.message import PARTS, Message, MessageParts
from session_manager.model.packed import unpack_bytes
from session_manager.model.roles import KNOWN_ROLES
from session_manager.model.session import ANY, Anything, Session, Version
from session_manager.model.times import Clock, utc_now
from session_manager.resource import Resource
from session_manager.stores.contract import Finding, SessionInfo, Store
from session_manager.stores.order import Order
from session_manager.values import Value

if TYPE_CHECKING:
    from session_manager.manager.forking import Forking
    from session_manager.manager.renaming import Renaming
    from session_manager.manager.retention import Retention
    from session_manager.manager.sharing import Share
    from session_manager.manager.summaries import Summaries, Summarized, Summarizer, SummaryPolicy
    from session_manager.manager.together import Plan, Together, Write

__all__ = ["Health", "SessionManager"]


_log = logging.getLogger("session_manager")

M = TypeVar("M", bound="SessionManager")

#: What calls need, and the class does not: the first manager imports it. So no call of an open one waits for an import, fails for want of
#: a descriptor, or gets a part of another version, if one was installed meanwhile.
_LATE = (
    "hashlib",
    "json",
    "session_manager.history.composing",
    "session_manager.history.last_turns",
    "session_manager.manager.events",
    "session_manager.manager.forking",
    "session_manager.manager.renaming",
    "session_manager.manager.retention",
    "session_manager.manager.sharing",
    "session_manager.manager.summaries",
    "session_manager.manager.together",
)

#: How many seconds a manager that is collected waits for a save of its thread, before it leaves the rest to that.
_PATIENCE = 1.0


@attrs.frozen(eq=False, repr=False)
class Health(Value, AsDict):
    """How a manager is doing."""

    #: Where the sessions live, such as ``<SnapshotStore '/srv/chats'>``; ``"memory:"`` for RAM only.
    store: str
    #: How many sessions are in RAM.
    resident: int
    #: The keys of those that have something to save.
    dirty: tuple[str, ...]
    #: Of those, each whose last save failed, and why.
    failures: Mapping[str, Exception]
    #: Work that a crash had left unfinished, such as a torn record, and that was mended since the storage was opened; and the
    #: archives whose sessions were missing then.
    repairs: tuple[Finding, ...] = ()
    #: How many damaged files, or sessions of a database, are in quarantine (`session_manager.operations.quarantine`): those of
    #: the time when the storage was opened, and those that this process has moved there since.
    quarantined: int = 0
    #: The keys of sessions of which the storage has shown an older state than it had acknowledged, since it was opened. What was in RAM
    #: of them was, or is to be, written again, unless the save is a `ConflictError`; sessions that were not in RAM are not known.
    went_back: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no save has failed since it last worked."""
        return not self.failures


class SessionManager(Resource):
    """Keeps chat sessions in RAM behind one lock, and makes each of them durable by `save`.

    Any thread may call any method. Calls on a session in RAM take microseconds, whatever the disk does. A session that is
    not in RAM is read at its first call. After `fork` the child must open a manager of its own. A call for a
    damaged session raises `CorruptSessionError`; it never shows an empty history, and never overwrites.

    :param storage: where sessions live: a URL or path for `open_store`, such as ``"log:chats"``, or a `Store`; nothing or
        ``"memory:"`` keeps them in RAM only. `None` and ``""`` do so too, with a warning: a variable may be unset.
    :param clock: gives the time, an aware datetime; the system's by default. A call for which it gives anything else raises
        `InvalidMessageError`, and changes nothing.
    :param random_id: gives the random ids of generations and writes: another one each time, of 1 to 128 printable ASCII
        characters without space, ``"`` and backslash. A call for which it gives anything else raises `InvalidMessageError`,
        and changes nothing.
    :param max_message_bytes: the largest message: the UTF-8 bytes of its encoded object and metadata; from 1.
    :param max_resident_bytes: how much RAM sessions may take, by estimate. Beyond that, saved sessions leave RAM until their next
        use, those used least recently first. Unsaved ones stay. `None`: no limit.
    :param autosave: also save in the background, by this rule. Its docstring says what a crash may lose.
    :param expire_every: delete sessions whose own expiry has passed (`set_expiry`) in the background: at once, and then each
        time so long after the last time. It goes by `clock`. A failure is logged, and tried again the next time.
    :param read_only: only read, beside the writer, and see its saves. Writing raises `ReadOnlyError`.
    :param archive: keep the messages that `truncate_history` and `summarize` drop, for `get_archive` and `search`. Without it they
        are gone, and an archive that is there stays as it is. `clear` and `delete` remove it in any case.
    :param roles: roles that `add_message` takes besides those that providers and frameworks know, such as ``["narrator"]``.
        Mappings and `Message.from_dict` take any.
    :param rules: what your model's provider accepts: the default of `get_context`. See `session_manager.history.rules`.
    :param lease: one turn at a time for a session in all processes and machines that give a lease, in PostgreSQL and SQLite; see `Lease`.
        `None`: in this manager alone.
    :param on_event: called with each event of a session, a value of `session_manager.manager.events`. The thread that made a
        call calls it before the call returns, outside of all locks; it may call the manager. An exception in it is logged, and
        harms no call. With `AsyncSessionManager` it is called in the event loop's thread or in a worker thread. Keep it short.
    :param slow_save: a save that takes more seconds is a ``WARNING`` in the log; `None`: none is.
    :raises TypeError: if an argument is of another type than it says; like every error, before anything is opened or locked.
    :raises ValueError: if a limit is less than 1, or there is no storage that sessions could leave RAM for; if `read_only` is
        given with `autosave`, `expire_every` or `lease`; if the `Store` keeps no archive, and `archive` asks for one; or if the storage keeps no
        leases, and there is a `lease`.
    :raises InvalidStorageError: if the URL or path cannot be what it says.
    :raises StorageLockedError: if another process, or another manager, has the storage open.
    :raises StoreInUseError: if another manager has the `Store` that was given, which is not `shared`.
    :raises ForkedError: if a manager of the parent process has that `Store`.
    :raises StorageError: if it cannot be opened.

    >>> with SessionManager() as m:
    ...     m.add_message("telegram:42", "user", "hi").position
    0
    """

    #: What this is a user of, if several share one manager.
    _share = None  # type: Share[Any] | None

    def __init__(
        self,
        storage: str | os.PathLike[str] | Store | None = "memory:",
        *,
        clock: Clock = utc_now,
        random_id: Callable[[], str] = random_id,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_resident_bytes: int | None = None,
        autosave: Autosave | None = None,
        expire_every: timedelta | None = None,
        read_only: bool = False,
        archive: bool = False,
        roles: Collection[str] = (),
        rules: Rules = BY_SHAPE,
        lease: Lease | None = None,
        on_event: OnEvent | None = None,
        slow_save: float | None = 1.0,
    ) -> None:
        warn_if_unset(storage, stacklevel=2)
        check_options(
            storage,
            clock=clock,
            random_id=random_id,
            max_message_bytes=max_message_bytes,
            max_resident_bytes=max_resident_bytes,
            autosave=autosave,
            expire_every=expire_every,
            read_only=read_only,
            archive=archive,
            roles=roles,
            rules=rules,
            lease=lease,
            on_event=on_event,
            slow_save=slow_save,
        )
        for module in _LATE:
            import_module(module)
        self._rules = rules
        self._incoming = Incoming(clock, max_message_bytes, KNOWN_ROLES.union(roles))
        began = perf_counter()
        budget = None if max_resident_bytes is None else Budget(max_resident_bytes)
        self._residents = Residents(
            _store(storage, read_only=read_only, is_leased=lease is not None),
            checked_ids(random_id),
            owns_store=not isinstance(storage, Store),
            read_only=read_only,
            archive=archive,
            budget=budget,
            reports=Reports(on_event, slow_save),
        )
        self._autosaver: Autosaver | None = None
        done = False
        try:
            self._residents.attach()
            self._assemble(lease)
            rule = autosave if self._residents.is_stored else None
            if rule is not None or expire_every is not None:
                saving, expire = self._saving, self._retention.expire_in_the_background
                self._autosaver = Autosaver(rule, saving.save_some, saving.is_dirty, every=expire_every, expire=expire)
            if rule is not None and self._autosaver is not None:
                self._residents.watch = self._autosaver.watch
            self._ending = Ending(self._residents, self._saving, self._autosaver)
            self._ending.watch()
            done = True
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("opened %s in %.2f ms", repr(self), (perf_counter() - began) * 1000)
        finally:
            if not done:
                self._residents.let_go()

    def _assemble(self, lease: Lease | None = None) -> None:
        """Make the parts of the manager, which work on its sessions in RAM."""
        self._saving = Saving(self._residents)
        self._residents.settle = self._saving.settle
        self._write_through = WriteThrough(self._residents, self._saving)
        turns = Claims(self._residents.lock)
        self._removal = Removal(self._residents, turns)
        self._leases = None if lease is None else self._leasing(lease)
        self._turn_locks = TurnLocks(turns, self._leases)
        self._summarizing = Claims(self._residents.lock)
        self._overview = Overview(self._residents)
        self._lookups = Lookups(self._residents)
        self._absentees = Absentees(self._residents, self._lookups, self._overview)

    # Parts of `_LATE`.

    @property
    def _summaries(self) -> Summaries:
        from session_manager.manager.summaries import Summaries

        return Summaries(self._residents, self._saving, self._write_through, self._incoming, self._summarizing)

    @property
    def _together(self) -> Together:
        from session_manager.manager.together import Together

        return Together(self._residents, self._saving, self._absentees)

    @property
    def _forking(self) -> Forking:
        from session_manager.manager.forking import Forking

        return Forking(self._residents)

    @property
    def _renaming(self) -> Renaming:
        from session_manager.manager.renaming import Renaming

        return Renaming(self._residents, self._saving)

    @property
    def _retention(self) -> Retention:
        from session_manager.manager.retention import Retention

        return Retention(self._overview, self._removal, self._incoming, self._residents.store)

    @classmethod
    @showing(__init__)
    def shared(cls: type[M], storage: str | os.PathLike[str], **options: Unpack[ManagerOptions]) -> M:
        """Return the manager that all callers in this process share for a storage; the first call opens it.

        Each call returns a user of its own. `close` ends that one; the last user's `close` closes the storage. A user that is
        collected counts no more. So a program may call this wherever it needs the storage, with the same URL or path. The path may be
        spelled in several ways: relative, by a symbolic link, with or without its scheme. Two spellings of a server's URL are two
        managers. All users of ``"memory:"`` share one RAM, which is gone with the last of them.

        `close` of a user that is not the last saves all dirty sessions, or none with ``save=False``, and leaves what is not saved to the
        others. Closing twice is harmless. After `fork` the child gets a manager of its own. Any thread may call this.

        :param storage: a URL or path, as for the constructor.
        :param options: as for the constructor. Later callers may leave options out; a given one must be that of the first call.
        :raises TypeError: if the storage is no URL or path: a `Store` is shared by handing it on; or if a manager of another class
            has it.
        :raises ValueError: if an option is not that of the first call; the error names it.
        :raises InvalidStorageError: if the URL names another kind of store than is open there.
        :raises StorageError: if it cannot be opened, as for the constructor. Then nothing is counted.

        >>> one, other = SessionManager.shared("memory:"), SessionManager.shared("memory:")
        >>> one.add_message("telegram:42", "user", "hi").position, len(other.get_history("telegram:42"))
        (0, 1)
        >>> one.close(), len(other), other.close()
        (None, 1, None)
        """
        from session_manager.manager.sharing import joined

        if not OPTIONS_OF_MANAGER.issuperset(options):
            raise unexpected("SessionManager.shared", options, OPTIONS_OF_MANAGER)
        check_path(storage, "storage", "must be a path, or a URL such as snapshot:PATH")
        check_options(storage, **{**keyword_defaults(cls.shared), **options})
        return joined(storage, options, keyword_defaults(cls.shared), partial(cls, storage, **options), cls._user_of)

    @classmethod
    def _user_of(cls: type[M], share: Share[M]) -> M:
        """Return a manager that works on the sessions of a shared one, and leaves the share when it is closed."""
        shared = share.manager
        if type(shared) is not cls:
            raise TypeError(f"{shared!r} is shared by a {type(shared).__name__}: ask that class for it")
        user = object.__new__(cls)
        vars(user).update(vars(shared), _share=share)
        share.join(user)
        return user

    def _leave(self, share: Share[Any], *, save: bool) -> None:
        """End this user of a shared manager. Its calls then raise `ClosedError`; other users go on."""
        self._residents.lock.check_process()
        share.leave(self, save=save)
        there = self._residents
        self._residents = Residents(there.store if there.is_stored else None, there.new_id, owns_store=False)
        self._residents.abandon()
        self._assemble()
        self._autosaver, self._ending = None, Ending(self._residents, self._saving, None)
        self._share = None

    def _kill(self) -> SessionManager:
        """Close the manager without saving, for all of its users: see `session_manager.testing.crash`."""
        if self._leases is not None:
            self._leases.abandon()
        if self._share is not None:
            self._residents.lock.check_process()
            self._share.kill()
        self.close(save=False)
        return self

    def _leasing(self, lease: Lease) -> Leases:
        """Return what takes leases for turns, in a store that keeps them."""
        store = self._residents.store
        check_leases(store, keeps=store.leases)
        leases = Leases(store, random_id(), lease)  # not the caller's ids: two processes may have been given the same
        self._residents.is_leased, self._residents.last = True, leases.close
        return leases

    # Reading

    def get(self, key: str) -> Session | None:
        """Return a picture of a session; `None` if there is none.

        :raises CorruptSessionError: if it is damaged.
        """
        entry = self._residents.touch(self._checked(key))
        return None if entry is None else entry.session

    def get_or_create(self, key: str) -> Session:
        """Return a picture of a session, which is created, unsaved, if there is none."""
        return self._residents.create(self._checked(key), self._incoming.now()).session

    def get_history(
        self,
        key: str,
        *,
        limit: int | None = None,
        before: int | str | None = None,
        after: int | str | None = None,
    ) -> list[Message]:
        """Return the messages, or a page of them, as a new list, oldest first; ``[]`` if there is no such session.

        The last page is ``get_history(key, limit=50)``. The page before it is
        ``get_history(key, limit=50, before=page[0].position)``. A page costs the same however long the history is. SQLite
        reads the page of a session that is not in RAM without loading the session. Other stores load it, and so does a ref.
        Archived messages are in `get_archive`.

        :param limit: how many messages at most, from 0: the newest ones; with `after` the first ones behind that.
        :param before: only messages before this one: its position, which need not be there any more, or its ref (of several
            messages that have it, the last).
        :param after: only messages behind this one, likewise.
        :raises TypeError: if an argument is of another type.
        :raises ValueError: if `limit` is negative.
        :raises MessageNotFoundError: if no message of the session has that ref.
        :raises CorruptSessionError: if the session is damaged; if it is not loaded, only the part that is read counts.
        """
        if limit is not None or before is not None or after is not None:
            return self._lookups.page(self._checked(key), limit, before, after)
        session = self.get(key)
        return [] if session is None else session.messages.to_list()

    def get_message(self, key: str, where: int | str) -> Message | None:
        """Return one message of the history; `None` if it is not there, or there is no such session.

        It costs the same however long the history is, as a page of `get_history` does.

        :param where: its position (an int), or its ref (a string; the last message that has it).
        :raises TypeError: if `where` is neither.
        :raises InvalidMessageError: if it is a text that no message can have as its ref.
        """
        return self._lookups.message(self._checked(key), where)

    def contains_ref(self, key: str, ref: str) -> bool:
        """Say whether a ref is known in a session: a delivery was answered, or a message is there.

        `True` if ``turn(key, ref)`` would be `Turn.done`, or if a message of the history has this `Message.ref`. `True` also
        if a turn of that ref added a message of the history, even when the session has answered 256 others since. Unsaved
        messages count. Archived and removed messages do not count, but the last 256 answered deliveries do, whatever became
        of their messages.

        :raises InvalidMessageError: if it is no text, or empty.
        """
        return self._lookups.contains(self._checked(key), ref)

    @showing(context)
    def get_context(self, key: str, **options: Unpack[ContextOptions]) -> list[Any]:
        """Return the messages to send to a model, as fresh dicts: a history that its provider accepts.

        First one system message: `system`, the system and developer messages that lead the stored history, which are never
        cut, and the summary, if there is one, behind `SUMMARY_PREFACE`. Then the longest end of the history that is within the
        bounds, cut where a turn starts, and mended (see `session_manager.history.repair`). If the last turn alone is
        over a bound, its question stays, and as much of its end as fits. The stored session is not touched. If there is no such
        session, `system` is all.

        Under rules by which the prompt goes apart (`ANTHROPIC`, `GEMINI`, `BEDROCK`), system messages are left out, and so
        is `system`: give your prompt to the SDK. The summary is a user message then.

        :param system: a system prompt: its text, or the message. Keep prompts out of sessions: give them here.
        :param max_messages: how many messages the end of the history may have; `None`, the default: all.
        :param max_tokens: how many tokens, by `count`; `None`, the default: all.
        :param count: how many tokens a message is; an estimate by default (see `session_manager.history.tokens`).
        :param rules: what the provider accepts; `None`, the default: the manager's `rules`.
        :param summary_role: the role of a message of its own that brings the summary; `None`, the default: as the rules say.
        :raises TypeError: if a bound is no int, `count` is not callable, or `rules` are none.
        :raises ValueError: if a bound is negative.
        :raises InvalidMessageError: if `summary_role` is no role that a provider knows, or `count` returns anything but an int of 0 or more.
        :raises ContextTooSmallError: if a bound is too small for the last question, and the last messages that belong together.
        """
        if not OPTIONS.issuperset(options):
            raise unexpected("SessionManager.get_context", options, OPTIONS)
        if options.get("rules") is None:
            options["rules"] = self._rules
        return context(self.get(key), **options)

    def get_archive(self, key: str) -> Iterator[Message]:
        """Iterate over the archived messages of a session, oldest first: none if there is no archive, or no such session.

        They are the messages that `truncate_history` and `summarize` dropped while ``archive=True``, each as it was then, at the
        position that it had; also those that are not saved yet. Positions increase. Messages that `remove_last` and
        `set_history` took away are not among them, and `clear` empties the archive.

        :raises CorruptSessionError: if the archive is damaged; the session may be readable all the same.
        """
        return iter(self._overview.archive(self._checked(key)))

    def get_summary(self, key: str) -> str:
        """Return the summary; ``""`` if there is none, or no such session."""
        session = self.get(key)
        return "" if session is None else session.summary

    def __contains__(self, key: object) -> bool:
        """Say whether there is such a session; a damaged one is there."""
        return self._overview.has(self._checked(key))

    def __len__(self) -> int:
        return len(self._overview.keys(""))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that there are now, sorted; damaged sessions' too."""
        return iter(self._overview.keys(""))

    def list_sessions(
        self,
        prefix: str = "",
        *,
        where: Mapping[str, Any] | None = None,
        order: Order = "recent",
        limit: int | None = None,
        after: SessionInfo | str | None = None,
    ) -> list[SessionInfo]:
        """Describe the sessions whose keys start with `prefix`, the one with the most recent message first, unsaved ones too.

        Histories are not loaded. A session without messages counts from its last change, as for `expire`. A damaged one has its
        `SessionInfo.error`; it comes last, or where it was, if the store can tell.

        With `limit` you get a page. Databases read no more than that; in a directory every session that is not in RAM is described
        for the most recent ones. Give the last `SessionInfo` of a page as `after` for the next one::

            page = manager.list_sessions(limit=50)
            while page:
                page = manager.list_sessions(limit=50, after=page[-1])

        If nothing changes meanwhile, the pages have every session once. A session that gets a message meanwhile moves to the
        front. So it is not listed a second time. If it had not been listed yet, it is not listed at all. If the session
        `after` changes or is deleted, the next page still begins where it was.

        :param prefix: what the keys start with; ``"telegram:1"`` also means ``"telegram:10"``, `key_prefix` whole parts.
        :param where: values that the session's metadata must have, by key, such as ``{"language": "de"}``; ``1``, ``1.0`` and
            ``True`` are three. Bytes may be in them, as for `update_metadata`. A damaged session has none.
        :param order: ``"recent"``, or ``"key"``: by key.
        :param limit: how many at most; from 1.
        :param after: the last session of the page before, of which the key, `last_message_at` and `updated` count; with
            ``order="key"`` a key will do.
        :raises TypeError: if an argument is of another type; if `after` is a key, but the order is not ``"key"``.
        :raises ValueError: if `order` is another one, or `limit` less than 1.
        :raises InvalidMessageError: with the place of what is not JSON in `where`.
        """
        check_type(prefix, (str,), "prefix must be a str")
        check_type(order, (str,), 'order must be "recent" or "key"')
        if order not in ("recent", "key"):
            raise ValueError(f'order must be "recent" or "key", not {order[:40]!a}')
        if limit is not None:
            check_int(limit, "limit", least=1)
        if after is not None:
            types = (SessionInfo, str) if order == "key" else (SessionInfo,)
            check_type(after, types, f"after must be a SessionInfo{' or a key' if order == 'key' else ''}")
        start = SessionInfo(key=after) if isinstance(after, str) else after
        wanted = EMPTY_OBJECT if where is None else json_object(packed(where, "where"), "where")
        return self._overview.infos(prefix, where=wanted, order=order, limit=limit, after=start)

    def search(self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20) -> list[SearchHit]:
        """Return the messages that contain a text, best first, also unsaved and archived ones.

        A hit whose position is not in the session (``get(key).at(position)`` is `None`) is in its archive.

        The text stands for itself, whatever is in it, and matches anywhere, also inside of words; letters are compared
        without case. Many occurrences in a short message come first; of equals the newest. A damaged session, or
        archive, is left out, and named in the log.

        **Pass** `key` **whenever the user of a chat types the query**: without it they read everybody's chats.

        :param text: what to look for: one character or more.
        :param key: look only in this session.
        :param prefix: look only in sessions whose keys start with this text; ``"telegram:1"`` also means ``"telegram:10"``,
            `key_prefix` whole parts.
        :param limit: how many hits at most; from 1.
        :raises ValueError: if `text` is empty, or `limit` is less than 1.
        :raises CorruptSessionError: if the session `key`, or its archive, is damaged.
        """
        checked = None if key is None else self._checked(key)
        needle = checked_text(text, "text")
        if not needle:
            raise ValueError("text must not be empty")
        check_int(limit, "limit", least=1)
        check_type(prefix, (str,), "prefix must be a str")
        return self._overview.search(needle, checked, prefix, limit)

    # Writing

    @showing(Message)
    def add_message(
        self, key: str, role: str, content: Any = "", *, if_absent: bool = False, **parts: Unpack[MessageParts]
    ) -> Message:
        """Append a message, built of these parts (see `Message`); the session is created if it is missing.

        :param name, tool_calls, tool_call_id: put into the object unless `None`.
        :param extra: further fields of the object.
        :param created_at: when it was written, aware; the clock's time if it is missing.
        :param metadata: your own data about the message, a JSON object; never sent to a model.
        :param ref: the channel's own id of the message, such as Telegram's.
        :param if_absent: as for `add`.
        :returns: the message, with its position.
        :raises InvalidMessageError: with the place of what is not JSON; or if no provider knows the role, nor `SessionManager` by
            ``roles=``; or if it has no `ref`, with `if_absent`. Nothing has changed.
        """
        if not PARTS.issuperset(parts):
            raise unexpected("SessionManager.add_message", parts, PARTS)
        checked, at = self._writable(key), self._incoming.now()
        message = self._incoming.message(at, role, content, parts)
        return self._append(checked, (message,), at, if_absent=if_absent)[-1]

    def add(self, key: str, *messages: object, if_absent: bool = False) -> list[Message]:
        """Append messages, all or none; the session is created if it is missing.

        :param messages: each a `Message`, an `Item`, a mapping, or an SDK's object (see `Message.of`).
        :param if_absent: leave a message out if one with its ref is there: in the history, or in the archive. Messages that were
            removed do not count. It is decided now, and again when the session is saved over another writer's state. So of two
            processes that add a message of one ref, one stores it. If messages are archived, each call reads the archive.
        :returns: them, with their positions; for a message that was there already, that one.
        :raises InvalidMessageError: with the place of what is not JSON; or if a message has no ref, with `if_absent`. Nothing has
            changed.
        :raises CorruptSessionError: with `if_absent`, if the session or its archive is damaged.
        """
        checked, at = self._writable(key), self._incoming.now()
        return self._append(checked, self._incoming.messages(messages, at), at, if_absent=if_absent)

    def _append(self, key: str, messages: tuple[Message, ...], at: datetime, *, if_absent: bool) -> list[Message]:
        check_bool(if_absent, "if_absent")
        if if_absent:
            check_refs(messages)
            refs = frozenset(one.ref for one in messages if one.ref is not None)
            return self._append_absent(key, Append(at=at, messages=messages, absent=refs))
        change = Append.made(at, messages)
        while (changed := self._residents.change(key, change, blind=True)) is None:
            self._residents.created(key, self._residents.blank(key, at), looked=True)
        return changed[1].messages.last(len(messages))

    def _append_absent(self, key: str, append: Append) -> list[Message]:
        while True:
            resolving = self._absentees.resolving(key, append)
            changed = self._residents.change(key, resolving)
            if changed is None:
                self._residents.created(key, self._residents.blank(key, append.at), looked=True)
            elif not resolving.is_stale:
                before, after = changed
                stored = after.messages.last(after.end - before.end)
                return in_order(append.messages, stored, resolving.there)

    def turn(
        self,
        key: str,
        ref: str | None = None,
        timeout: float | None = None,
        *,
        max_waiting: int | None = None,
        expected: Version | Anything | None = ANY,
        keep: bool = True,
        replacing: str | Last | None = None,
    ) -> Turn:
        """Write a turn, the user's message and all that answers it, at once or not at all: the recommended way to write.

        A context manager. While its block runs, no other turn of the session is open; other calls go on. The changes that the
        block makes by the calls of `Turn` wait. Leaving the block makes them durable in one piece: neither a crash nor
        another process leaves half a turn. An exception that leaves the block writes nothing. Nor is anything written if the
        session was cleared or deleted meanwhile, also if it was created only then; then `Turn.applied` is `False`.

        :param key: the session; created by the turn if it is missing.
        :param ref: names the delivery that is answered, such as ``"tg:8123"``; not empty. If the session has answered it
            before (it remembers its last 256), `Turn.done` is `True`, `Turn.messages` has the messages of the answer
            that are still there, and nothing is written.
        :param timeout: how many seconds to wait for another turn to end, 0 or less: not at all; `None`: as long as it takes.
        :param max_waiting: how many may be waiting already, from 0: a flood for one session is refused. `None`: any number.
        :param expected: the version that the session must have, as `Session.version` says; `None`: there must be no such
            session. Changes of other calls that are not saved yet are saved first, and make it another version. It is looked
            at when the block is entered, and again when it is left.
        :param keep: what happens to a turn whose save fails. `True`: it stays in RAM, unsaved; the next save stores it, or
            a turn with the same `ref`. `False`: it is taken back, as if the block had not been; others may have read it
            meanwhile. A turn with `expected` or `replacing` is taken back in any case. While it is not known whether a save
            went through, the turn stays.
        :param replacing: the turn that this one takes the place of, with all behind it: `LAST`, or a ref, of the turn or
            of a message in it. `Turn.replaced` has its messages. They go when the block is left, not to the archive, and the
            new ones come at new positions. A block that adds and changes nothing replaces nothing.
        :raises ValueError: if `replacing` is `ref`: a delivery cannot take the place of itself.
        :raises SessionBusyError: entering the block: more are waiting.
        :raises TimeoutError: entering the block: it did not end in time.
        :raises TurnNotFoundError: entering the block: the turn to replace is not there.
        :raises RuntimeError: entering it: this thread has a turn of the session already, or would have to wait for
            another one inside of a running event loop.
        :raises LeaseLostError: leaving it, with a `Lease`: it ran out, and another turn took it. Nothing of this turn is written or in RAM.
        :raises StorageError: entering it: the session cannot be read, or its lease cannot be asked for.
        :raises ConflictError: entering or leaving it: the session has another version than `expected`, which nothing
            changes; or leaving it: a message that the turn edits or removes was edited meanwhile, or one that it replaces
            was removed.
        :raises SaveError: leaving it: it could not be saved; see `keep`.
        """
        options = TurnOptions(
            key=self._writable(key),
            ref=None if ref is None else checked_text(ref, "ref", empty=False),
            timeout=None if timeout is None else _checked_timeout(timeout),
            max_waiting=max_waiting,
            expected=expected if expected is ANY else _checked_version(expected),
            keep=keep and expected is ANY and replacing is None,
            replacing=replacing,
        )
        check_bool(keep, "keep")
        if max_waiting is not None:
            check_int(max_waiting, "max_waiting", least=0)
        if replacing is not None and not isinstance(replacing, Last):
            checked_text(replacing, "replacing", empty=False)
            if replacing == ref:
                raise ValueError(
                    f"replacing must not be the turn's own ref {replacing[:80]!a}: an edit has a ref of its own"
                )
        return self._turn(options)

    def _turn(self, options: TurnOptions) -> Turn:
        return Turn(
            options,
            locks=self._turn_locks,
            residents=self._residents,
            saving=self._saving,
            write_through=self._write_through,
            absentees=self._absentees,
            incoming=self._incoming,
            rules=self._rules,
        )

    def undo(self, key: str, turns: int = 1, *, ref: str | None = None, timeout: float | None = None) -> list[Message]:
        """Remove the last whole turns, durably: the user's message, and all that answers it.

        It waits for a turn that is open, and so removes the answer that is under way. The messages do not go to the archive.
        A summary stays, and so do messages before the first turn. A turn with the ref of a removed one is `Turn.done`, without
        messages: its delivery is not answered again.

        :param turns: how many, from 1; all if there are fewer.
        :param ref: names the delivery of this call: if it comes again, nothing more is removed. A session that is missing is
            created to remember it.
        :param timeout: as for `turn`.
        :returns: the messages that were removed, in order; ``[]`` if there was nothing to remove, or if the session was
            cleared or deleted meanwhile.
        :raises TimeoutError: another turn did not end in time.
        :raises RuntimeError: this thread has a turn of the session, or would have to wait inside of an event loop.
        :raises ConflictError: a message was edited meanwhile; nothing is removed.
        :raises SaveError: it could not be saved, and nothing is removed (see `turn`, ``keep=False``).
        """
        with self._turn(self._undoing(key, turns, ref, timeout)) as turn:
            pass
        return turn.undone

    def _undoing(self, key: str, turns: int, ref: str | None, timeout: float | None) -> TurnOptions:
        checked = self._writable(key)
        check_int(turns, "turns", least=1)
        answered = None if ref is None else checked_text(ref, "ref", empty=False)
        return TurnOptions(key=checked, ref=answered, timeout=_checked_timeout(timeout), keep=False, undoing=turns)

    def set_summary(self, key: str, text: str) -> bool:
        """Set the summary; `False` and no effect if there is no such session.

        :raises InvalidMessageError: if it is not a string that JSON can hold.
        """
        checked, at = self._writable(key), self._incoming.now()
        summary = checked_text(text, "summary")
        return self._residents.change(checked, SetSummary(at=at, text=summary)) is not None

    def set_history(self, key: str, messages: Iterable[object], *, expected: Version | Anything | None = ANY) -> bool:
        """Replace all messages; the summary stays. `False` and no effect if there is no such session.

        :param messages: as for `add`.
        :param expected: the version that the session must have, as for `turn`; `None`: there must be none, and it is
            created, unless the new history is empty. Then the new history is durable when this returns.
        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises ConflictError: if the session has another version than `expected`; nothing has changed.
        :raises SaveError: with `expected`: it could not be saved; nothing has changed (see `turn`, ``keep=False``).
        """
        checked, at = self._writable(key), self._incoming.now()
        new = self._incoming.messages(several(messages, "messages", "messages"), at)
        version, change = _checked_version(expected), Replace(at=at, messages=new)
        if isinstance(version, Anything):
            return self._residents.change(checked, change) is not None
        self._write_through.carry_out_expected(checked, version, change)
        return True

    def truncate_history(self, key: str, keep_last: int, *, whole_turns: bool = False) -> int:
        """Drop all but the last `keep_last` messages, to the archive if there is one.

        :param whole_turns: keep whole turns, as few as have so many messages: no turn is parted, and no tool call from
            its result. Without it exactly so many messages stay. If no whole turn can go, because the last one is longer
            than that, its first tool calls go with their results: its question stays, and its newest calls.
        :returns: how many were dropped; 0 if the session is missing or not longer than that, and then
            ``updated`` stays. With `keep_last` of 0, all are.
        :raises ValueError: if `keep_last` is negative; nothing has changed.
        """
        checked, at = self._writable(key), self._incoming.now()
        check_int(keep_last, "keep_last", least=0)
        check_bool(whole_turns, "whole_turns")

        truncate, entry = truncating(at, keep_last, whole_turns=whole_turns), self._residents.peek(checked)
        if entry is not None:
            truncate(entry.session)  # without the lock: finding the turns takes long
        return _dropped(self._residents.change(checked, truncate))

    def summarize(
        self, key: str, summarizer: Summarizer, *, keep_last: int, when: SummaryPolicy | None = None
    ) -> Summarized | None:
        """Replace old messages by a summary, unless anything about them changes meanwhile.

        The session is saved, and a cut is chosen as by ``truncate_history(…, whole_turns=True)``. The summarizer is called
        without any lock. Its summary takes the place of the messages before the cut, and is saved, as one revision. Messages
        that arrive meanwhile stay, behind it. Nothing is changed if the session was cleared, replaced, deleted or summarized
        meanwhile, or one of these messages edited or dropped, in this process or another.

        The messages go to the archive, if there is one. Leading system and developer messages stay. The summarizer also gets
        messages with tool calls and results, and items. If no turn ends before the cut, a long turn is cut inside: its question
        stays, and its newest tool calls with their results. `Summarized.cut_turn` says so.

        :param summarizer: called with the previous summary (``""`` if there is none) and the messages; returns the new
            summary. If it raises, that comes out, and nothing has changed.
        :param keep_last: how many messages are to stay, at least; from 0.
        :param when: only if the history is long enough.
        :returns: the outcome; `None`, without calling the summarizer, if there is no such session, nothing to
            summarize, another summary of it under way, or the history is not long enough.
        :raises TypeError: if the summarizer is an ``async def``: give that to `AsyncSessionManager.summarize`.
        :raises ValueError: if `keep_last` is negative.
        :raises SaveError: the session could not be saved; a summary that was made is in RAM, unsaved.
        """
        self._check_summary(key, summarizer, keep_last, when)
        if inspect.iscoroutinefunction(summarizer) or inspect.iscoroutinefunction(type(summarizer).__call__):
            raise TypeError("summarizer must not be an async def here: await AsyncSessionManager.summarize instead")
        return self._summaries.summarize(key, summarizer, keep_last=keep_last, when=when)

    def _check_summary(self, key: str, summarizer: object, keep_last: int, when: SummaryPolicy | None) -> None:
        self._writable(key)
        check_callable(summarizer, "summarizer")
        check_int(keep_last, "keep_last", least=0)
        if when is not None:
            from session_manager.manager.summaries import SummaryPolicy

            check_type(when, (SummaryPolicy,), "when must be a SummaryPolicy")

    def remove_last(self, key: str) -> Message | None:
        """Remove the last message, and return it; `None` if there is none."""
        return self._remove(self._writable(key), last_position)

    def remove_message(self, key: str, where: int | str) -> Message | None:
        """Remove a message, and return it; `None` if it is not there. It does not go to the archive.

        :param where: its position (an int), or its ref (a string; the last message that has it).
        :raises TypeError: if `where` is neither.
        """
        checked = self._writable(key)
        return self._remove(checked, self._lookups.finding(checked, where))

    def _remove(self, key: str, find: Callable[[Session], int | None]) -> Message | None:
        removed: list[Message] = []
        self._residents.change(key, removing(self._incoming.now(), find, removed))
        return removed[0] if removed else None

    def update_last(self, key: str, message: object) -> bool:
        """Replace the last message, such as a reply that grows while it streams; `False` if there is none.

        It keeps its position and its turn. It keeps its time, its metadata and its ref, too, unless the new one is a `Message`
        that was given its own: ``Message("assistant", "…", metadata={})`` takes the metadata away.

        :raises InvalidMessageError: as `add` does; nothing has changed.
        """
        return self._edit(key, message, last_position)

    def update_message(self, key: str, where: int | str, message: object) -> bool:
        """Replace a message, such as one that was edited in the chat; `False` if it is not there.

        Its position, turn, time, metadata and ref stay as `update_last` says.

        :param where: its position (an int), or its ref (a string; the last message that has it).
        :raises TypeError: if `where` is neither.
        :raises InvalidMessageError: as `add` does; nothing has changed.
        """
        return self._edit(key, message, self._lookups.finding(self._writable(key), where))

    def _edit(self, key: str, message: object, find: Callable[[Session], int | None]) -> bool:
        checked, at = self._writable(key), self._incoming.now()
        target: int | None = None

        def found(session: Session) -> int | None:
            nonlocal target
            target = find(session)
            return target

        (new,) = self._incoming.messages((message,), at)
        edit = editing(at, found, new, self._incoming.check_size, keep_time=not isinstance(message, Message))
        return self._residents.change(checked, edit) is not None and target is not None

    def update_metadata(self, key: str, items: Mapping[str, Any], removed: Iterable[str] = ()) -> bool:
        """Set keys of the session's metadata, and remove others; `False` if there is no such session.

        :param items: JSON values by their keys, as `Session.metadata` shows them. Bytes may be in them, which `get_state` gives back;
            an object of the form that stands for bytes does so here as well.
        :param removed: the keys to remove, such as ``["model"]``.
        :raises TypeError: if `removed` is a string: each of its letters would be a key.
        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        """
        checked, at = self._writable(key), self._incoming.now()
        change = updating(at, items, removed)
        return self._residents.change(checked, change) is not None

    def get_state(self, key: str) -> dict[str, Any]:
        """Return the metadata of a session, as a new dict; ``{}`` if there is no such session.

        It is `Session.metadata`, with bytes in place of the objects that stand for them (`session_manager.model.packed`).

        :raises CorruptSessionError: if the session is damaged.
        """
        session = self.get(key)
        return {} if session is None else {name: unpack_bytes(value) for name, value in session._metadata.items()}

    def put_state(self, key: str, items: Mapping[str, Any], removed: Iterable[str] = ()) -> None:
        """Set keys of a session's metadata, and remove others, durably; the session is created if it is missing.

        For programs that keep state without messages: it is `get_or_create`, `update_metadata` and `save` in one call. Changes
        that other calls have left unsaved are saved with it. Other keys stay, also those that another process sets at the same time.

        :param items: JSON values by their keys; bytes may be in them, which `get_state` gives back.
        :param removed: the keys to remove, such as ``["model"]``.
        :raises TypeError: if `removed` is a string: each of its letters would be a key.
        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises ConflictError: if an unsaved change of another call is in conflict with another writer; the state is as it was.
        :raises SaveError: it could not be saved, and is as it was. While the outcome is unknown, it stays in RAM.
        """
        checked, at = self._writable(key), self._incoming.now()
        self._write_through.carry_out_created(checked, updating(at, packed_state(items), removed))

    def clear(self, key: str, *, ref: str | None = None) -> int:
        """Drop all messages, the summary and the archive; metadata and creation time stay.

        :param ref: names the delivery of this call: if it comes again, nothing more is dropped. A session that is missing is
            created to remember it. Save the session before you acknowledge the delivery.
        :returns: how many messages there were.
        """
        checked, at = self._writable(key), self._incoming.now()
        generation = cleared(self._residents.new_id())
        answered = None if ref is None else checked_text(ref, "ref", empty=False)
        changed = self._residents.change(checked, clearing(at, generation, answered))
        if changed is None and answered is not None:
            remember = Append(at=at, turn=answered)
            while self._residents.change(checked, remember, blind=True) is None:
                self._residents.create(checked, at)
        return _dropped(changed)

    def commit_together(self, writes: Iterable[Write]) -> list[Session]:
        """Append messages to several sessions, and set their metadata, in one commit: all of it is durable, or none.

        SQLite, PostgreSQL and RAM can; a directory of files cannot, nor can several shards: that raises, and there is no
        order in which the sessions would be written one by one. One session works in every storage. Changes that other calls
        have left unsaved in these sessions are saved with it. A conflict with another writer is resolved as for `save`, and all is tried again.
        Readers in this process may see the changes while they are written. It does not wait for turns.

        :param writes: a `Write` for each session, each of another key; at most 2,000.
        :returns: the sessions as they were saved, in this order.
        :raises TypeError, ValueError: if they are something else, too many, or two have one key.
        :raises InvalidMessageError: with the place of what is not JSON. Nothing has changed, as after every error but the last.
        :raises CannotCommitTogetherError: if the storage cannot do it.
        :raises ConflictError: if a session has another version than is expected, or an unsaved change of another call is in conflict.
        :raises CorruptSessionError: if one of the sessions is damaged.
        :raises SaveFailedError: it could not be saved.
        :raises SaveOutcomeUnknownError: it is in RAM, and may be durable. The next save of each of these sessions settles that; if it
            did not happen, it is taken back in all of them.
        """
        from session_manager.manager.together import MOST

        self._residents.check_writable()
        given = several(writes, "writes", "Writes")
        if len(given) > MOST:
            raise ValueError(f"writes must be {MOST:,} at most, not {len(given):,}")
        plans = [self._planned(one) for one in given]
        if len({plan.key for plan in plans}) < len(plans):
            raise ValueError("writes must be of different sessions: two have one key")
        return self._together.commit(plans) if plans else []

    def _planned(self, write: object) -> Plan:
        from session_manager.manager.together import Plan, Write

        check_type(write, (Write,), "writes must be Write values")
        assert isinstance(write, Write)
        key, at = self._writable(write.key), self._incoming.now()
        check_bool(write.if_absent, "if_absent")
        items = packed_state(write.items)
        messages = self._incoming.messages(several(write.messages, "messages", "messages"), at)
        if write.if_absent:
            check_refs(messages)
        absent = frozenset(one.ref for one in messages if one.ref is not None) if write.if_absent else frozenset()
        append = Append(at=at, messages=messages, absent=absent) if messages else None
        return Plan(key, at, append, updating(at, items, write.removed), _checked_version(write.expected))

    # Saving

    def save(self, key: str) -> bool:
        """Make a session durable.

        When this returns, the session as it was when this was called survives a crash and a power cut. Changes
        that are made meanwhile stay dirty, for the next save.

        :returns: whether something was written; `False` if there was nothing new, no such session in
            RAM, or no storage.
        :raises SaveFailedError: the stored bytes are the old ones, and the session is still dirty.
        :raises SaveOutcomeUnknownError: the new bytes are there, but may not survive a power cut.
        :raises CorruptSessionError: its file was damaged meanwhile, and is not overwritten.
        :raises ConflictError: another writer changed the same message (see `reload`).
        """
        return self._saving.save(self._writable(key))

    def save_all(self) -> int:
        """Save every session that has something to save; try all, then raise.

        :returns: how many were written.
        :raises SaveFailedError: with ``failures``, the keys that were not saved, and why.
        """
        self._residents.check_writable()
        return self._saving.save_all()

    def reload(self, key: str) -> list[Change]:
        """Give up a session's unsaved changes, and read it from the store again.

        :returns: the changes given up, oldest first, but for edits that later ones superseded.
        :raises StorageError: if it cannot be read; nothing has changed.
        """
        return self._saving.reload(self._checked(key))

    def delete(self, key: str, *, expected: Version | Anything | None = ANY) -> bool:
        """Delete a session and its archive, durably. A damaged session is moved to quarantine.

        :param expected: the version that it must have, as `Session.version` says; `None`: there must be none.
        :returns: whether there was one.
        :raises ConflictError: if it has another version than `expected`, or changes that are not saved; it is still there.
        :raises SaveFailedError: it could not be deleted, and is still there.
        :raises SaveOutcomeUnknownError: it is gone, but may come back after a power cut: delete it again.
        """
        return self._removal.delete(self._writable(key), _checked_version(expected))

    def delete_prefix(self, prefix: str, *, dry_run: bool = False) -> list[str]:
        """Delete, durably, all sessions whose keys start with `prefix`, and their archives; each as `delete` does.

        A session that is created meanwhile may stay.

        :param prefix: not empty; ``"telegram:1"`` also means ``"telegram:10"``, `key_prefix` whole parts. The session that
            the parts themselves name is not among them: `delete` it by its key.
        :param dry_run: delete nothing, and return what would be deleted.
        :returns: the keys of deleted sessions (of those that would be, with `dry_run`), sorted.
        :raises ValueError: if the prefix is empty, which would mean every session.
        :raises SaveError: one could not be deleted, as `delete` says; the others before it were.
        """
        self._check_may_delete(dry_run=dry_run)
        check_type(prefix, (str,), "prefix must be a str")
        check_bool(dry_run, "dry_run")
        if not prefix:
            raise ValueError("prefix must not be empty: that would mean every session")
        keys = self._overview.keys(prefix)
        return keys if dry_run else [key for key in keys if self._removal.delete(key)]

    def set_expiry(self, key: str, after: timedelta | None) -> bool:
        """Set how long after its last message a session may be deleted; `False` if there is no such session.

        `expire` without an age deletes such sessions, and so does ``expire_every=``. Without messages, the last change counts.
        The expiry survives `clear`, and a fork has it too. Like any change it is durable when the session is saved.
        A program with an older version of this library ignores it, and takes it away when it saves the session.

        :param after: more than 0, such as ``timedelta(days=30)``; `None`: the session does not expire by itself.
        :raises TypeError: if it is neither.
        :raises ValueError: if it is not positive.
        """
        from session_manager.manager.retention import checked_expiry

        checked, at = self._writable(key), self._incoming.now()
        change = UpdateMetadata(at=at, expires_after=checked_expiry(after))
        return self._residents.change(checked, change) is not None

    def expire(
        self,
        older_than: timedelta | datetime | None = None,
        *,
        key: str | None = None,
        prefix: str = "",
        where: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> list[str]:
        """Delete the sessions whose last message is too old, durably.

        With `older_than`, sessions that are older go, whatever expiry they have. Without it, each session goes by its own
        expiry (`set_expiry`); one that has none stays.

        Of a session without messages its last change counts. One that becomes active meanwhile stays, and so does one with an
        open turn; damaged ones stay. A
        session must be old both as it is in RAM and as it is stored: so one stays whose newest message was removed, or whose
        expiry was set, if that is not saved yet.

        :param older_than: an age, not negative, such as ``timedelta(days=90)``, by the clock of the server if the storage has one, else by
            this machine's (or by the manager's ``clock``, if it was given one); or a moment, aware.
        :param key: only this session.
        :param prefix: only sessions whose keys start with this text; ``"telegram:1"`` also means ``"telegram:10"``,
            `key_prefix` whole parts.
        :param where: only sessions whose metadata has these values, as for `list_sessions`.
        :param dry_run: delete nothing, and return what would be deleted. It reads what is stored of these sessions.
        :returns: the keys of those that were deleted (would be, with `dry_run`), sorted.
        :raises ValueError: if the age is negative, or the moment naive.
        :raises InvalidMessageError: with the place of what is not JSON in `where`.
        :raises SaveError: one could not be deleted, as `delete` says; the others before it were.
        """
        self._check_may_delete(dry_run=dry_run)
        checked = None if key is None else check_key(key)
        check_type(prefix, (str,), "prefix must be a str")
        check_bool(dry_run, "dry_run")
        wanted = EMPTY_OBJECT if where is None else json_object(packed(where, "where"), "where")
        return self._retention.expire(older_than, key=checked, prefix=prefix, where=wanted, dry_run=dry_run)

    def fork(self, key: str, new_key: str) -> Session:
        """Copy a session, as it is now, to a new key; the copy is durable when this returns. The archive is not copied.

        :returns: the copy, of a generation of its own, created now.
        :raises SessionNotFoundError: if there is no session `key`.
        :raises SessionExistsError: if there is a session `new_key`.
        :raises SaveError: if it could not be saved.
        """
        return self._forking.fork(self._writable(key), check_key(new_key), self._incoming.now())

    def rename(self, key: str, new_key: str, *, timeout: float | None = None) -> Session:
        """Give a session and its archive another key, durably, such as when a chat moves (Telegram's ``migrate_to_chat_id``).

        All else stays: messages, positions, refs, metadata, times, generation. Unsaved changes are saved first, and go
        with it. A turn of the session that is open is waited for, and so is one of `new_key`; calls for the session wait until
        it has moved. Call it outside of the session's turns. Other processes that have the session open find it gone, and there
        under `new_key`.

        After a crash the session is there under one of the keys, or under both. Then the next opening for writing leaves only
        the new one, if that was complete, else the old one. SQLite does it in one transaction.

        :param timeout: how many seconds to wait for turns, 0 or less: not at all; `None`: as long as it takes.
        :returns: the session under its new key.
        :raises SessionNotFoundError: if there is no session `key`.
        :raises SessionExistsError: if there is a session `new_key`; nothing has changed.
        :raises TimeoutError: if a turn did not end in time; nothing has changed.
        :raises RuntimeError: if this thread has a turn of one of the two, or would have to wait for one inside of a running
            event loop; nothing has changed.
        :raises SaveFailedError: nothing has changed, but unsaved changes may be saved.
        :raises SaveOutcomeUnknownError: it may be there under both keys: rename it again, or open the storage again.
        """
        checked, new = self._check_rename(key, new_key, timeout)
        with self._turn_locks.held((checked, new), timeout):
            return self._renaming.rename(checked, new)

    def _check_rename(self, key: str, new_key: str, timeout: float | None) -> tuple[str, str]:
        checked, new = self._writable(key), check_key(new_key)
        _checked_timeout(timeout)
        return checked, new

    # The storage

    def compact(self, key: str) -> None:
        """Reclaim the space that a session wastes in its storage on dropped and replaced text.

        :raises SaveError: if it could not be rewritten; the session is as it was.
        """
        checked = self._writable(key)
        with self._residents.lock_of(checked):
            self._residents.check_not_closed()
            self._residents.store.compact(checked)

    def verify(self, key: str | None = None) -> list[Finding]:
        """Read the stored sessions, check them as far as possible, and return the flaws. Damage does not raise.

        :param key: only this session; else all of them, and what lies beside them.
        """
        store = self._residents.store
        self._residents.check_open()
        if key is not None:
            checked = self._checked(key)
            return self._verified(store, checked)
        findings = [finding for one in self._overview.keys("") for finding in self._verified(store, one)]
        with self._residents.lock_of(STORAGE):
            self._residents.check_not_closed()
            findings += store.strays()
        return list(dict.fromkeys(findings))

    def _verified(self, store: Store, key: str) -> list[Finding]:
        with self._residents.lock_of(key):
            self._residents.check_not_closed()
            return store.verify(key)

    def health(self) -> Health:
        """Say how the manager is doing, from RAM."""
        self._residents.check_open()
        store = self._residents.store
        entries = self._residents.entries()
        dirty = sorted(key for key, entry in entries.items() if entry.dirty)
        failures, repairs = self._residents.failures(), tuple(store.repairs())
        behind = tuple(sorted(self._residents.reports.behind))
        return Health(repr(store), len(entries), tuple(dirty), failures, repairs, store.count_quarantined(), behind)

    def close(self, *, save: bool = True) -> None:
        """Save all dirty sessions, and release the storage; idempotent. Later calls raise `ClosedError`.

        Calls that are running are waited for. A `Store` that was given is not closed.

        :param save: `False` gives up unsaved changes. For a manager of `shared`, its docstring says what this means.
        :raises SaveFailedError: something could not be saved, and the manager stays open.
        """
        check_bool(save, "save")
        if self._share is not None:
            self._leave(self._share, save=save)
            return
        began = perf_counter()
        try:
            self._residents.close(self._saving.flush if save else lambda: None)
        finally:
            self._residents.reports.deliver()
        self._ending.forget()
        if self._autosaver is not None:
            self._autosaver.stop()
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("closed %s in %.2f ms", repr(self), (perf_counter() - began) * 1000)

    def __enter__(self: M) -> M:
        self._residents.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if (
            self._share is not None or _is_finalizing()
        ):  # the modules are being emptied, and `Ending` has done it; a share ends with its last user
            return
        ending: Ending | None = getattr(self, "_ending", None)
        residents: Residents | None = getattr(self, "_residents", None)
        unsaved = 0
        if ending is not None:
            unsaved = ending.collected(_PATIENCE)
        elif residents is not None:
            residents.let_go()
        if unsaved:
            warnings.warn(
                f"{unsaved} unsaved sessions in an unclosed {self!r}", ResourceWarning, stacklevel=1, source=self
            )

    def __repr__(self) -> str:
        return f"<SessionManager {self._residents.store!r}>"

    # Checks

    def _checked(self, key: object) -> str:
        self._residents.check_not_closed()
        return check_key(key)

    def _check_may_delete(self, *, dry_run: bool) -> None:
        """Raise if sessions may not be deleted. A dry run may be made also beside the writer."""
        check_bool(dry_run, "dry_run")
        if dry_run:
            self._residents.check_open()
        else:
            self._residents.check_writable()

    def _writable(self, key: object) -> str:
        self._residents.check_writable()
        return check_key(key)


def _store(storage: str | os.PathLike[str] | Store | None, *, read_only: bool, is_leased: bool) -> Store | None:
    if isinstance(storage, Store):
        return storage
    if storage is None or is_ram_only(storage):
        return None
    from session_manager.stores.urls import keeps_leases, open_store  # RAM and a store that is given need no files

    if is_leased:  # before a refusal would leave a directory behind
        check_leases(storage, keeps=keeps_leases(storage))
    return open_store(storage, read_only=read_only)


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is not None:
        check_type(timeout, (int, float), "timeout must be a number of seconds")
        if math.isnan(timeout):
            raise ValueError("timeout must be a number of seconds, not nan")
    return timeout


def _checked_version(expected: Version | Anything | None) -> Version | Anything | None:
    if expected is not None:
        check_type(
            expected, (Version, Anything), "expected must be a Version (session.version), or None for no session"
        )
    return expected


def _dropped(changed: tuple[Session, Session] | None) -> int:
    return 0 if changed is None else len(changed[0].messages) - len(changed[1].messages)
